//! Which request a command is, and what its answer needs to know.

use super::command::{
    Answer, Command, Delta, DumpStyle, Expiry, Flags, GetStyle, KeyForm, MetaCommand, MetaVerb,
    StoreHead, StoreStyle, StoreVerb, Versions, decode_key,
};
use super::meta_reply::MetaTag;
use super::stats::Group;
use crate::dialect::{Circumstances, Request, Scratch, SpacedKeys, Touch};
use crate::engine::{
    Arithmetic, Entry, Freshness, Initial, Invalidation, Mode, NewExpiry, OldValue, Reading, Side,
    Terms,
};

/// What the answer to a command needs to know about it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tag<'i> {
    /// The value of one key, and the end of the list.
    Value(Versions),
    /// The values of some keys.
    Values(Versions),
    Stored(Answer),
    Counted(Answer),
    Touched(Answer),
    Deleted(Answer),
    /// OK.
    Ok(Answer),
    /// These bytes, whatever comes of it.
    Said(&'static [u8]),
    Stats(Group),
    Dump(DumpStyle),
    Meta(&'i MetaTag<'i>),
}

#[inline]
pub(super) fn of<'i>(command: Command<'i>, with: Circumstances<'i>) -> (Tag<'i>, Request<'i>) {
    match command {
        Command::Get { key, style } => get(key, style, with),
        Command::Store { head, value } => store(&head, value, with),
        _ => of_any(command, with),
    }
}

#[inline]
fn get<'i>(key: &'i [u8], style: GetStyle, with: Circumstances<'_>) -> (Tag<'i>, Request<'i>) {
    let request = match style.touch {
        None => Request::Get { key },
        Some(expiry) => Request::GetAndTouch {
            key,
            expires_at_ms: expiry.at_ms(with.now_ms),
        },
    };
    (Tag::Value(style.versions), request)
}

fn of_any<'i>(command: Command<'i>, with: Circumstances<'i>) -> (Tag<'i>, Request<'i>) {
    let now_ms = with.now_ms;
    let noop = Request::Ping { echo: b"" };
    match command {
        // INVARIANT: the two that come most often are told before.
        Command::Get { .. } | Command::Store { .. } => (Tag::Said(b""), noop),
        Command::GetMany {
            keys,
            keys_at,
            style,
        } => {
            // INVARIANT: what is answered of a command lies in its keys.
            let answered = (with.answered as usize).saturating_sub(keys_at);
            let keys = SpacedKeys {
                text: &keys[answered..],
                at: keys_at + answered,
            };
            let touch = touch(style.touch, now_ms);
            (
                Tag::Values(style.versions),
                Request::GetEach { keys, touch },
            )
        }
        Command::Count { key, delta, answer } => {
            let request = Request::Count {
                key,
                by: arithmetic(delta),
                initial: None,
                version: None,
                new_version: None,
                touch: Touch::Keep,
            };
            (Tag::Counted(answer), request)
        }
        Command::Touch {
            key,
            expiry,
            answer,
        } => {
            let expires_at_ms = expiry.at_ms(now_ms);
            let request = Request::Touch { key, expires_at_ms };
            (Tag::Touched(answer), request)
        }
        Command::Delete { key, answer } => {
            let version = None;
            (Tag::Deleted(answer), Request::Delete { key, version })
        }
        Command::Flush { delay, answer } => {
            let at_ms = delay.at_ms(now_ms);
            (Tag::Ok(answer), Request::Flush { at_ms })
        }
        Command::Stats { group, rest } => stats(group, rest),
        Command::Dump { style } => {
            let cursor = with.answered;
            (Tag::Dump(style), Request::ScanAll { cursor })
        }
        Command::Verbosity { answer } => (Tag::Ok(answer), noop),
        Command::Version => (Tag::Said(super::stats::VERSION_LINE), noop),
        Command::MetaNoop => (Tag::Said(b"MN\r\n"), noop),
        Command::Quit => (Tag::Said(b""), Request::Quit),
        Command::Meta(meta) => of_meta(&meta, with),
    }
}

fn touch(expiry: Option<Expiry>, now_ms: u64) -> Touch {
    match expiry {
        None => Touch::Keep,
        Some(expiry) => Touch::To {
            expires_at_ms: expiry.at_ms(now_ms),
        },
    }
}

fn arithmetic(delta: Delta) -> Arithmetic {
    match delta {
        Delta::Up(by) => Arithmetic::Increment(by),
        Delta::Down(by) => Arithmetic::Decrement(by),
    }
}

/// A key as it is meant.
#[inline]
pub(super) fn key<'i>(written: &'i [u8], form: KeyForm, scratch: &'i Scratch) -> &'i [u8] {
    match form {
        KeyForm::Plain => written,
        // INVARIANT: what does not decode was refused.
        KeyForm::Base64 => {
            decode_key(written, &mut [0; _]).map_or(written, |decoded| scratch.keep(decoded))
        }
    }
}

/// What a store does, where it is one that needs no value of an item that is there.
#[inline]
pub(super) fn mode(head: &StoreHead<'_>) -> Option<Mode> {
    Some(match (head.verb, head.version) {
        (StoreVerb::Append | StoreVerb::Prepend, _) => return None,
        (StoreVerb::Add, _) => Mode::Add,
        (StoreVerb::Set | StoreVerb::Replace, Some(version)) => match &head.style {
            StoreStyle::Meta(flags) if flags.has(b'I') => Mode::CompareAndSetStale { version },
            _ => Mode::CompareAndSet { version },
        },
        (StoreVerb::Set, None) => Mode::Set,
        (StoreVerb::Replace, None) => Mode::Replace,
    })
}

#[inline]
pub(super) fn store_tag<'i>(head: &StoreHead<'i>, scratch: &'i Scratch) -> Tag<'i> {
    match &head.style {
        StoreStyle::Classic(answer) => Tag::Stored(*answer),
        StoreStyle::Meta(flags) => {
            let mut tag = MetaTag::of(MetaVerb::Set, head.key, flags);
            tag.value_bytes = head.value_bytes;
            Tag::Meta(scratch.keep_one(tag))
        }
    }
}

#[inline]
fn store<'i>(
    head: &StoreHead<'i>,
    value: &'i [u8],
    with: Circumstances<'i>,
) -> (Tag<'i>, Request<'i>) {
    let key = key(head.key, head.key_form(), with.scratch);
    let tag = store_tag(head, with.scratch);
    let entry = |expiry: Expiry| Entry {
        value,
        flags: head.client_flags,
        expires_at_ms: expiry.at_ms(with.now_ms),
        new_version: head.new_version(),
    };
    if let Some(mode) = mode(head) {
        let entry = entry(head.expiry);
        return (tag, Request::Store { key, mode, entry });
    }
    let side = match head.verb {
        StoreVerb::Prepend => Side::Front,
        _ => Side::Back,
    };
    let vivify = match &head.style {
        StoreStyle::Classic(_) => None,
        StoreStyle::Meta(flags) => flags.vivify,
    };
    let request = Request::Join {
        key,
        side,
        value,
        version: wanted(head.version),
        new_version: head.new_version(),
        vivify: vivify.map(entry),
    };
    (tag, request)
}

/// No item has version 0: where that does not make a difference, it is the same as none.
fn wanted(version: Option<u64>) -> Option<u64> {
    version.filter(|&version| version != 0)
}

fn of_meta<'i>(meta: &MetaCommand<'i>, with: Circumstances<'i>) -> (Tag<'i>, Request<'i>) {
    let MetaCommand { verb, key, flags } = meta;
    let tag = Tag::Meta(with.scratch.keep_one(MetaTag::of(*verb, key, flags)));
    let key = self::key(key, flags.key_form, with.scratch);
    let now_ms = with.now_ms;
    let request = match (verb, touch(flags.expiry, now_ms)) {
        (MetaVerb::Debug, _) => Request::Peek { key },
        (MetaVerb::Get, touch) => Request::GetOrLease {
            key,
            terms: terms(flags, touch, now_ms),
        },
        (MetaVerb::Delete, touch) => match (flags.has(b'I'), flags.has(b'x')) {
            (false, false) => Request::Delete {
                key,
                version: flags.version,
            },
            (is_marked, is_dropped) => Request::Invalidate {
                key,
                how: Invalidation {
                    version: flags.version,
                    expiry: new_expiry(touch),
                    value: match is_dropped {
                        true => OldValue::Dropped,
                        false => OldValue::Kept,
                    },
                    freshness: match is_marked {
                        true => Freshness::Stale,
                        false => Freshness::Fresh,
                    },
                    new_version: flags.new_version,
                },
            },
        },
        (MetaVerb::Count { delta }, touch) => {
            let initial = made_expiry(flags).map(|expiry| Initial {
                value: flags.initial,
                expires_at_ms: expiry.at_ms(now_ms),
            });
            Request::Count {
                key,
                by: arithmetic(*delta),
                initial,
                version: wanted(flags.version),
                new_version: flags.new_version,
                touch,
            }
        }
        // INVARIANT: a store has a value, and is another command.
        (MetaVerb::Set, _) => Request::Ping { echo: b"" },
    };
    (tag, request)
}

/// When an item expires that is made because there is none, if one is. Flags take effect in their order: of N and T
/// the last counts.
fn made_expiry(flags: &Flags<'_>) -> Option<Expiry> {
    match flags.is_before(b'N', b'T') {
        true => flags.expiry,
        false => flags.vivify,
    }
}

/// On which terms `mg` reads.
fn terms(flags: &Flags<'_>, touch: Touch, now_ms: u64) -> Terms {
    let placeholder_until_ms =
        made_expiry(flags).map(|expiry| expiry.at_ms(now_ms).unwrap_or(u64::MAX));
    let mut refresh_at_ms = flags.refresh.and_then(|expiry| expiry.at_ms(now_ms));
    // What expires later since T is not due by an R behind it.
    if let Touch::To { expires_at_ms } = touch
        && flags.is_before(b'T', b'R')
    {
        let due = |at_ms: &u64| expires_at_ms.is_some_and(|expires_at_ms| expires_at_ms < *at_ms);
        refresh_at_ms = refresh_at_ms.filter(due).map(|_| u64::MAX);
    }
    Terms {
        placeholder_until_ms,
        refresh_below_ms: refresh_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms)),
        expiry: new_expiry(touch),
        reading: match flags.has(b'u') {
            true => Reading::Passes,
            false => Reading::Counts,
        },
        new_version: flags.new_version,
    }
}

fn new_expiry(touch: Touch) -> NewExpiry {
    match touch {
        Touch::Keep => NewExpiry::Kept,
        Touch::To { expires_at_ms } => NewExpiry::At(expires_at_ms),
    }
}

fn stats<'i>(group: &'i [u8], rest: &'i [u8]) -> (Tag<'i>, Request<'i>) {
    let noop = Request::Ping { echo: b"" };
    match Group::named(group, rest) {
        Ok(Group::Reset) => (Tag::Said(b"RESET\r\n"), Request::ResetStats),
        Ok(group) => {
            let asked = group.asked();
            (Tag::Stats(group), Request::Stats { group: asked })
        }
        Err(answer) => (Tag::Said(answer), noop),
    }
}
