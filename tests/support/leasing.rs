//! What the operations about leases mean to one key, beside [`meaning`](super::meaning).

use larder::{Freshness, Invalidation, Lease, Leased, Mode, NewExpiry, OldValue, Terms};

use super::meaning::{Answer, Call, Marks, State, Stored};

/// What the engine told.
pub(crate) fn told(leased: &Leased<'_>) -> Answer {
    let Some(item) = &leased.item else {
        return Answer::Miss;
    };
    Answer::Leased {
        found: Stored {
            value: item.value().to_vec(),
            flags: item.flags(),
            expires_at_ms: item.expires_at_ms(),
            version: Some(item.version()),
            marks: Marks {
                is_placeholder: item.is_placeholder(),
                ..Marks::default()
            },
        },
        lease: leased.lease,
        freshness: leased.freshness,
    }
}

pub(crate) fn get_or_lease(
    live: Option<&Stored>,
    terms: &Terms,
    version: Option<u64>,
    now_ms: u64,
) -> (Answer, State) {
    let Some(live) = live else {
        return miss(terms, version);
    };
    let left_ms = live.expires_at_ms.map(|at_ms| at_ms - now_ms);
    let is_due = match (left_ms, terms.refresh_below_ms) {
        (Some(left_ms), Some(below_ms)) => left_ms < below_ms,
        _ => false,
    };
    let lease = if live.marks.is_leased {
        Lease::Taken
    } else if live.marks.is_stale || is_due {
        Lease::Won
    } else {
        Lease::None
    };
    let mut next = live.clone();
    next.marks.is_leased |= lease == Lease::Won;
    if let NewExpiry::At(expires_at_ms) = terms.expiry {
        next.expires_at_ms = expires_at_ms;
    }
    (leased(&next, lease), Some(next))
}

fn miss(terms: &Terms, version: Option<u64>) -> (Answer, State) {
    let Some(until_ms) = terms.placeholder_until_ms else {
        return (Answer::Miss, None);
    };
    let placeholder = Stored {
        value: Vec::new(),
        flags: 0,
        expires_at_ms: Some(until_ms).filter(|&until_ms| until_ms != u64::MAX),
        version,
        marks: Marks {
            is_placeholder: true,
            is_stale: false,
            is_leased: true,
        },
    };
    let told = leased(&placeholder, Lease::Won);
    (told, Some(placeholder))
}

fn leased(stored: &Stored, lease: Lease) -> Answer {
    let mut found = stored.shown();
    found.marks.is_placeholder = stored.marks.is_placeholder;
    Answer::Leased {
        found,
        lease,
        freshness: match stored.marks.is_stale {
            true => Freshness::Stale,
            false => Freshness::Fresh,
        },
    }
}

pub(crate) fn invalidate(
    live: Option<&Stored>,
    how: &Invalidation,
    version: Option<u64>,
) -> (Answer, State) {
    let Some(live) = live else {
        return (Answer::NotFound, None);
    };
    let is_meant = how.version.is_none() || how.version == live.version;
    match (is_meant, live.marks.is_placeholder) {
        (true, true) => return (Answer::NotFound, None),
        (false, true) => return (Answer::NotFound, Some(live.clone())),
        (false, false) => return (Answer::Exists, Some(live.clone())),
        (true, false) => {}
    }
    let mut next = Stored {
        version,
        marks: Marks {
            is_stale: how.freshness == Freshness::Stale,
            ..Marks::default()
        },
        ..live.clone()
    };
    if let NewExpiry::At(expires_at_ms) = how.expiry {
        next.expires_at_ms = expires_at_ms;
    }
    if how.value == OldValue::Dropped {
        (next.value, next.flags) = (Vec::new(), 0);
    }
    (Answer::Marked { version }, Some(next))
}

pub(crate) fn end_lease(live: Option<&Stored>, version: u64) -> (Answer, State) {
    match live {
        Some(live) if live.marks.is_leased && live.version == Some(version) => {
            let mut next = live.clone();
            next.marks.is_leased = false;
            (
                Answer::LeaseEnded,
                Some(next).filter(|next| !next.marks.is_placeholder),
            )
        }
        other => (Answer::NotFound, other.cloned()),
    }
}

/// Whether a call that knows nothing of leases is about a placeholder all the same.
pub(crate) fn is_meant(call: &Call, placeholder: &Stored) -> bool {
    match call {
        Call::Store {
            mode: Mode::CompareAndSet { version } | Mode::CompareAndSetStale { version },
            ..
        } => placeholder.version == Some(*version),
        _ => false,
    }
}

/// What a call comes to that found nothing where a placeholder is.
pub(crate) fn over_placeholder(
    placeholder: &Stored,
    call: &Call,
    answered: Answer,
    next: State,
) -> (Answer, State) {
    let stays = match call {
        Call::Flush | Call::Delete { version: None } => false,
        Call::Delete { version } => *version != placeholder.version,
        _ => next.is_none(),
    };
    match stays {
        true => (answered, Some(placeholder.clone())),
        false => (answered, next),
    }
}

/// The marks of what a store makes.
pub(crate) fn marks_of_store(live: Option<&Stored>, mode: Mode) -> Marks {
    match (mode, live) {
        (Mode::Append | Mode::Prepend, Some(live)) => marks_of_what_is_made_from(live),
        (Mode::CompareAndSetStale { version }, Some(live)) if live.version != Some(version) => {
            Marks {
                is_stale: true,
                ..live.marks
            }
        }
        _ => Marks::default(),
    }
}

pub(crate) fn marks_of_what_is_made_from(live: &Stored) -> Marks {
    Marks {
        is_stale: live.marks.is_stale,
        ..Marks::default()
    }
}
