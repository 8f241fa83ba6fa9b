//! Values that are too large to be buffered.
//!
//! A store of one is begun when its head is there, and carried out when the last byte of the value
//! is in its place. In between, whoever owns the connection fills the draft. The head is parsed
//! again at the end: what it says, an expiry above all, counts from the moment of the store.
//!
//! A read of one is answered up to the value, which is handed on to follow the answer from where it
//! lies.

use super::quarantine::has;
use super::record::{self, Note, stored_by};
use super::{Follow, delete_after_failed_set, store_outcome};
use crate::blackbox::{Fingerprint, Outcome, Pen};
use crate::dialect::{Circumstances, Dialect, Failure, Head, Reply, Scratch};
use crate::engine::{Guard, Item, LargeDraft, LargeValue, StoreError};

/// What the front of a request comes to whose end is not there.
pub(crate) enum Begun {
    /// Nothing yet: it is looked at again when this much of it is there.
    Incomplete { needed_bytes: usize },
    /// It is a store, and its value goes straight into the draft, which has what was there of it.
    Receiving {
        head_bytes: usize,
        value_bytes: u64,
        draft: LargeDraft,
        /// What must come behind the value.
        trailer: &'static [u8],
    },
    /// It was answered, and the rest of it is to be dropped.
    Refused {
        frame_bytes: u64,
        is_quarantined: bool,
    },
}

/// How the receipt of a value ended.
pub(crate) enum Received {
    Whole(LargeDraft),
    /// What came behind the value is not what must come there.
    Unterminated,
}

/// Begins to receive a large value, if `input` begins with a store of one. `needed_bytes` is what
/// the request needs that is buffered.
pub(crate) fn begin_store<D: Dialect>(
    dialect: &D,
    guard: &mut Guard<'_>,
    (now_ms, quarantine): (u64, &[Fingerprint]),
    input: &[u8],
    needed_bytes: usize,
    out: &mut Vec<u8>,
) -> Begun {
    let scratch = Scratch::default();
    let Head::Store {
        tag,
        key,
        mode,
        value_bytes,
        head_bytes,
        trailer,
        ..
    } = (match dialect.parse_head(input, circumstances(now_ms, &scratch)) {
        Head::Incomplete { needed_bytes } => return Begun::Incomplete { needed_bytes },
        Head::Other => return Begun::Incomplete { needed_bytes },
        head => head,
    })
    else {
        return Begun::Incomplete { needed_bytes };
    };
    let draft = match guard.key(key) {
        Ok(_) if !guard.is_large(value_bytes) => {
            return Begun::Incomplete { needed_bytes };
        }
        Ok(key) if has(quarantine, stored_by(mode), &key) => Err(Failure::Quarantined),
        Ok(key) => {
            let begun = &input[head_bytes..];
            let begun = &begun[..begun.len().min(value_bytes as usize)];
            let draft = begin_draft(guard, value_bytes, begun).map_err(Failure::from);
            if let Err(failure) = draft {
                delete_after_failed_set::<D>(guard, &key, mode, failure);
            }
            draft
        }
        Err(error) => Err(Failure::from(error)),
    };
    match draft {
        Ok(draft) => Begun::Receiving {
            head_bytes,
            value_bytes,
            draft,
            trailer,
        },
        Err(failure) => {
            dialect.reply(tag, now_ms, out).failed(failure);
            let frame_bytes = head_bytes as u64 + value_bytes + trailer.len() as u64;
            Begun::Refused {
                frame_bytes,
                is_quarantined: failure == Failure::Quarantined,
            }
        }
    }
}

fn circumstances(now_ms: u64, scratch: &Scratch) -> Circumstances<'_> {
    Circumstances {
        now_ms,
        answered: 0,
        scratch,
    }
}

/// Carries out a store whose value is whole. `head` is what came before the value.
pub(crate) fn finish_store<D: Dialect>(
    dialect: &D,
    guard: &mut Guard<'_>,
    now_ms: u64,
    head: &[u8],
    received: Received,
    out: &mut Vec<u8>,
    pen: &mut Pen,
) {
    let scratch = Scratch::default();
    // INVARIANT: the head was parsed before as what it is.
    let Head::Store {
        tag,
        key,
        mode,
        entry,
        value_bytes,
        ..
    } = dialect.parse_head(head, circumstances(now_ms, &scratch))
    else {
        return;
    };
    guard.set_placeholders(D::PLACEHOLDERS);
    pen.begin_batch(1);
    let mut reply = dialect.reply(tag, now_ms, out);
    let stored = match (guard.key(key), received) {
        (Ok(key), Received::Whole(draft)) => {
            record::begin(pen, stored_by(mode), &key, value_bytes as usize);
            let stored = guard.store_large(&key, mode, &entry, draft);
            let stored = stored.map_err(Failure::from).and_then(store_outcome);
            if let Err(failure) = stored {
                delete_after_failed_set::<D>(guard, &key, mode, failure);
            }
            stored
        }
        (Ok(key), Received::Unterminated) => {
            record::begin(pen, stored_by(mode), &key, value_bytes as usize);
            Err(Failure::Unterminated)
        }
        (Err(error), _) => Err(error.into()),
    };
    match stored {
        Ok(version) => reply.stored(version),
        Err(failure) => reply.failed(failure),
    }
    let outcome = stored.map_or_else(|failure| Note::of(failure).outcome, |_| Outcome::Stored);
    pen.end(outcome, 0);
}

/// Answers a store whose value found no room on its way.
pub(crate) fn fail_store<D: Dialect>(
    dialect: &D,
    guard: &mut Guard<'_>,
    now_ms: u64,
    head: &[u8],
    error: StoreError,
    out: &mut Vec<u8>,
    pen: &mut Pen,
) {
    let scratch = Scratch::default();
    let parsed = dialect.parse_head(head, circumstances(now_ms, &scratch));
    if let Head::Store {
        tag,
        key,
        mode,
        value_bytes,
        ..
    } = parsed
    {
        pen.begin_batch(1);
        if let Ok(key) = guard.key(key) {
            record::begin(pen, stored_by(mode), &key, value_bytes as usize);
            delete_after_failed_set::<D>(guard, &key, mode, error.into());
        }
        dialect.reply(tag, now_ms, out).failed(error.into());
        pen.end(Note::of(error.into()).outcome, 0);
    }
}

/// Answers with an item; with a large one up to its value, which is to follow.
#[inline]
pub(super) fn reply_with(
    item: &Item<'_>,
    value: Option<LargeValue>,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
) {
    let Some(value) = value else {
        return reply.item(item);
    };
    reply.large_item(item);
    let behind = reply.behind_large();
    *large = Some(Follow { value, behind });
}

/// A draft that has what is there of its value.
fn begin_draft(
    guard: &mut Guard<'_>,
    value_bytes: u64,
    mut begun: &[u8],
) -> Result<LargeDraft, StoreError> {
    let mut draft = guard.begin_large(value_bytes)?;
    while !begun.is_empty() {
        if draft.space().is_empty() {
            guard.extend_large(&mut draft)?;
        }
        let space = draft.space();
        let bytes = space.len().min(begun.len());
        space[..bytes].copy_from_slice(&begun[..bytes]);
        draft.advance(bytes);
        begun = &begun[bytes..];
    }
    Ok(draft)
}
