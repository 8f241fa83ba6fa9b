//! What the operations mean to one key of a cache that does one thing at a time.
//!
//! [`answer`] is the whole contract; [`successors`] turns it round and says what the key may hold
//! after a call that was answered in a certain way. What a cache adds to a map is one thing: an item
//! may be evicted at any instant. So every call may find the key empty, but then it is empty from
//! there on, until somebody stores again.

use larder::{Arithmetic, Freshness, Initial, Invalidation, Lease, Mode, Terms};

use super::leasing;

/// What a key holds; `None`: nothing.
pub(crate) type State = Option<Stored>;

/// A stored item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) value: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) expires_at_ms: Option<u64>,
    /// `None` where the call that stored it was never answered, and nobody has read it since.
    pub(crate) version: Option<u64>,
    pub(crate) marks: Marks,
}

/// What is known of an item that a plain read does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Marks {
    pub(crate) is_placeholder: bool,
    pub(crate) is_stale: bool,
    pub(crate) is_leased: bool,
}

/// What is asked of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    GetAndTouch {
        expires_at_ms: Option<u64>,
    },
    Touch {
        expires_at_ms: Option<u64>,
    },
    Store {
        mode: Mode,
        value: Vec<u8>,
        flags: u32,
        expires_at_ms: Option<u64>,
        new_version: Option<u64>,
    },
    Count {
        by: Arithmetic,
        initial: Option<Initial>,
        new_version: Option<u64>,
    },
    Delete {
        version: Option<u64>,
    },
    GetOrLease {
        terms: Terms,
    },
    Invalidate {
        how: Invalidation,
    },
    EndLease {
        version: u64,
    },
    Flush,
}

/// How it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A read found this.
    Hit(Stored),
    /// A read or a touch found nothing.
    Miss,
    Touched,
    Stored {
        version: Option<u64>,
    },
    NotStored,
    Exists,
    NotFound,
    Counted {
        value: u64,
        version: Option<u64>,
    },
    NotANumber,
    Deleted,
    /// A read on terms found this; of its marks it tells whether it is a placeholder.
    Leased {
        found: Stored,
        lease: Lease,
        freshness: Freshness,
    },
    /// Marked as stale.
    Marked {
        version: Option<u64>,
    },
    LeaseEnded,
    Flushed,
    /// There was no memory; nothing was done.
    NoSpace,
}

impl Answer {
    /// The version that it names.
    fn version(&self) -> Option<u64> {
        match self {
            Self::Hit(found) | Self::Leased { found, .. } => found.version,
            Self::Stored { version } | Self::Counted { version, .. } | Self::Marked { version } => {
                *version
            }
            _ => None,
        }
    }

    /// The version of the item that a call with this answer found.
    pub(crate) fn found(&self, call: &Call) -> Option<u64> {
        match (self, call) {
            (Self::Hit(stored), _) => stored.version,
            // The one that is told of an absent item has just made its placeholder.
            (Self::Leased { found, lease, .. }, _) => {
                let is_new = found.marks.is_placeholder && *lease == Lease::Won;
                found.version.filter(|_| !is_new)
            }
            (Self::LeaseEnded, Call::EndLease { version }) => Some(*version),
            (Self::Marked { .. }, Call::Invalidate { how }) => how.version,
            (Self::Deleted, Call::Delete { version }) => *version,
            (
                Self::Stored { .. },
                Call::Store {
                    mode: Mode::CompareAndSet { version },
                    ..
                },
            ) => Some(*version),
            _ => None,
        }
    }

    /// Whether a call that is answered so has changed nothing, whatever was there. (A delete or
    /// an invalidation that finds nothing may have removed a placeholder.)
    pub(crate) fn is_a_look(&self, call: &Call) -> bool {
        use Answer::{Exists, Miss, NoSpace, NotANumber, NotFound, NotStored};
        match (self, call) {
            (NotFound, Call::Delete { .. } | Call::Invalidate { .. }) => false,
            _ => matches!(
                self,
                Miss | NotStored | Exists | NotFound | NotANumber | NoSpace
            ),
        }
    }
}

impl Call {
    /// The version that it gives to what it stores.
    fn new_version(&self) -> Option<u64> {
        match self {
            Self::Store { new_version, .. } | Self::Count { new_version, .. } => *new_version,
            Self::GetOrLease { terms } => terms.new_version,
            Self::Invalidate { how } => how.new_version,
            _ => None,
        }
    }
}

impl Stored {
    pub(crate) fn lives_at(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms)
    }

    /// What a plain read shows of it.
    pub(crate) fn shown(&self) -> Self {
        Self {
            marks: Marks::default(),
            ..self.clone()
        }
    }
}

/// How a key that holds `live` answers at a time, and what it holds afterwards; what is stored anew
/// gets `version`.
pub(crate) fn answer(
    live: Option<&Stored>,
    call: &Call,
    version: Option<u64>,
    now_ms: u64,
) -> (Answer, State) {
    match (call, live) {
        (Call::GetOrLease { terms }, _) => leasing::get_or_lease(live, terms, version, now_ms),
        (Call::Invalidate { how }, _) => leasing::invalidate(live, how, version),
        (Call::EndLease { version }, _) => leasing::end_lease(live, *version),
        (_, Some(live)) if live.marks.is_placeholder => {
            let (answered, next) = match leasing::is_meant(call, live) {
                true => answer_plainly(Some(live), call, version),
                false => answer_plainly(None, call, version),
            };
            leasing::over_placeholder(live, call, answered, next)
        }
        _ => answer_plainly(live, call, version),
    }
}

/// The same, for a call that knows nothing of leases.
fn answer_plainly(live: Option<&Stored>, call: &Call, version: Option<u64>) -> (Answer, State) {
    let unchanged = live.cloned();
    match (call, live) {
        (Call::Flush, _) => (Answer::Flushed, None),
        (Call::Get, Some(live)) => (Answer::Hit(live.shown()), unchanged),
        (Call::GetAndTouch { expires_at_ms }, Some(live)) => {
            let touched = Stored {
                expires_at_ms: *expires_at_ms,
                ..live.clone()
            };
            (Answer::Hit(touched.shown()), Some(touched))
        }
        (Call::Touch { expires_at_ms }, Some(live)) => {
            let touched = Stored {
                expires_at_ms: *expires_at_ms,
                ..live.clone()
            };
            (Answer::Touched, Some(touched))
        }
        (Call::Get | Call::GetAndTouch { .. } | Call::Touch { .. }, None) => (Answer::Miss, None),
        (Call::Delete { .. }, None) => (Answer::NotFound, None),
        (Call::Delete { version }, Some(live)) => match version {
            Some(_) if live.version != *version => (Answer::Exists, unchanged),
            _ => (Answer::Deleted, None),
        },
        (Call::Count { by, initial, .. }, live) => count(live, *by, *initial, version),
        (Call::Store { mode, .. }, _) => match (mode, live) {
            (Mode::Add, Some(_)) => (Answer::NotStored, unchanged),
            (Mode::Replace | Mode::Append | Mode::Prepend, None) => (Answer::NotStored, None),
            (Mode::CompareAndSet { .. }, None) => (Answer::NotFound, None),
            (Mode::CompareAndSet { version }, Some(live)) if live.version != Some(*version) => {
                (Answer::Exists, unchanged)
            }
            // The calls that are made name a version that the key has, or had.
            (Mode::CompareAndSetStale { .. }, None) => (Answer::NotFound, None),
            _ => (Answer::Stored { version }, store(live, call, version)),
        },
        (Call::GetOrLease { .. } | Call::Invalidate { .. } | Call::EndLease { .. }, _) => {
            unreachable!("{call:?} is about leases")
        }
    }
}

fn store(live: Option<&Stored>, call: &Call, version: Option<u64>) -> State {
    let Call::Store {
        mode,
        value,
        flags,
        expires_at_ms,
        ..
    } = call
    else {
        unreachable!("{call:?} stores nothing");
    };
    let (value, flags, expires_at_ms) = match (mode, live) {
        (Mode::Append, Some(live)) => {
            let value = [&live.value[..], value].concat();
            (value, live.flags, live.expires_at_ms)
        }
        (Mode::CompareAndSetStale { version }, Some(live)) if live.version != Some(*version) => {
            (value.clone(), *flags, live.expires_at_ms)
        }
        (Mode::Prepend, Some(live)) => {
            let value = [value, &live.value[..]].concat();
            (value, live.flags, live.expires_at_ms)
        }
        _ => (value.clone(), *flags, *expires_at_ms),
    };
    Some(Stored {
        value,
        flags,
        expires_at_ms,
        version,
        marks: leasing::marks_of_store(live, *mode),
    })
}

fn count(
    live: Option<&Stored>,
    by: Arithmetic,
    initial: Option<Initial>,
    version: Option<u64>,
) -> (Answer, State) {
    let (number, flags, expires_at_ms) = match (live, initial) {
        (None, None) => return (Answer::NotFound, None),
        (None, Some(initial)) => (initial.value, 0, initial.expires_at_ms),
        (Some(live), _) => {
            let Some(number) = number(&live.value) else {
                return (Answer::NotANumber, Some(live.clone()));
            };
            let number = match by {
                Arithmetic::Increment(by) => number.wrapping_add(by),
                Arithmetic::Decrement(by) => number.saturating_sub(by),
            };
            (number, live.flags, live.expires_at_ms)
        }
    };
    let stored = Stored {
        value: number.to_string().into_bytes(),
        flags,
        expires_at_ms,
        version,
        marks: live.map_or(Marks::default(), leasing::marks_of_what_is_made_from),
    };
    let value = number;
    (Answer::Counted { value, version }, Some(stored))
}

/// The number that up to 20 decimal digits, and nothing else, spell.
fn number(value: &[u8]) -> Option<u64> {
    let digits = value.len() <= 20 && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits)?;
    text.parse().ok()
}

/// Whether a key that holds something may be found empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evictions {
    Possible,
    Impossible,
}

/// What the key may hold after the call, if it was answered like this; nothing: it cannot have been
/// answered like this. A call without an answer may have had any.
pub(crate) fn successors(
    state: &State,
    call: &Call,
    observed: Option<&Answer>,
    now_ms: u64,
    evictions: Evictions,
) -> Vec<State> {
    if observed == Some(&Answer::NoSpace) {
        return vec![state.clone()];
    }
    let live = state.as_ref().filter(|stored| stored.lives_at(now_ms));
    let mut from = vec![live.cloned()];
    if let Some(live) = live {
        // An unknown version may turn out to be the one that the call or its answer names.
        let named = match (call, observed) {
            (Call::Delete { version }, _) => *version,
            (
                Call::Store {
                    mode: Mode::CompareAndSet { version },
                    ..
                },
                _,
            ) => Some(*version),
            (_, observed) => observed.and_then(Answer::version),
        };
        if live.version.is_none() && named.is_some() {
            let version = named;
            from.push(Some(Stored {
                version,
                ..live.clone()
            }));
        }
        if evictions == Evictions::Possible {
            from.push(None);
        }
    }
    let version = (call.new_version()).or_else(|| observed.and_then(Answer::version));
    let mut after = Vec::new();
    for live in &from {
        let (expected, next) = answer(live.as_ref(), call, version, now_ms);
        if observed.is_none_or(|observed| *observed == expected) && !after.contains(&next) {
            after.push(next);
        }
    }
    after
}
