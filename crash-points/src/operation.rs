//! The operations of programs, carried out on a session, and their answers.

use crate::engine::index::ahead::Reach;
use crate::engine::session::Session;
use crate::engine::{
    Arithmetic, Counter, Deletion, Entry, Initial, Invalidated, Invalidation, Lease, Mode, Outcome,
    StoreError, Terms,
};

/// What a counter begins with.
pub(crate) const INITIAL: u64 = 98;
/// How long a placeholder stays, in milliseconds.
pub(crate) const PLACEHOLDER_MS: u64 = 40;
/// The flags of values that have some.
pub(crate) const FLAGS: u32 = 7;

/// One operation. Keys are numbers; times are milliseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Set(usize),
    /// With flags, and an expiry.
    SetFor(usize, u64),
    /// Of so many bytes.
    SetLong(usize, usize),
    Add(usize),
    Append(usize),
    Prepend(usize),
    /// With the version that the key has.
    CompareAndSet(usize),
    /// With one that it does not have.
    CompareAndSetOutdated(usize),
    Delete(usize),
    Count(usize),
    Touch(usize, u64),
    Get(usize),
    GetOrLease(usize),
    EndLease(usize),
    Invalidate(usize),
    Flush,
    FlushIn(u64),
    Wait(u64),
    /// Maintenance, and what a session does that has nothing else to do.
    Maintain,
    Rest,
    /// The session ends, and another one begins.
    Renew,
    /// A reader takes hold of a large value, and keeps it.
    Hold(usize),
    /// All readers let go.
    LetGo,
    /// Half of a value of so many bytes is received.
    BeginLong(usize),
    /// The process dies, and another one goes on.
    Recover,
}

/// What a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Stored { version: u64 },
    NotStored,
    Exists,
    NotFound,
    Deleted,
    Number { value: u64, version: u64 },
    NotANumber,
    Read(Option<Vec<u8>>),
    Touched(bool),
    Leased(Lease),
    Ended(bool),
    Marked { version: u64 },
    Done,
    NoSpace,
}

impl Answer {
    /// The version that it tells.
    pub(crate) fn version(&self) -> Option<u64> {
        match *self {
            Self::Stored { version } | Self::Number { version, .. } | Self::Marked { version } => {
                Some(version)
            }
            _ => None,
        }
    }

    /// The same with another version, if it tells one.
    pub(crate) fn with_version(mut self, told: u64) -> Self {
        match &mut self {
            Self::Stored { version } | Self::Number { version, .. } | Self::Marked { version } => {
                *version = told;
            }
            _ => {}
        }
        self
    }
}

/// What an operation is given beside its key.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) now_ms: u64,
    /// What tells this operation's value from all others.
    pub(crate) number: u64,
    /// The version that the key had when the operation was made.
    pub(crate) version: u64,
}

impl Given {
    /// The value: two digits, so that it can be counted up.
    pub(crate) fn value(&self) -> Vec<u8> {
        (10 + self.number % 90).to_string().into_bytes()
    }

    /// A long value that no part of another one fits into.
    pub(crate) fn long_value(&self, bytes: usize) -> Vec<u8> {
        let of = |at: usize| (self.number as usize * 41 + at * 7 + at / 8) as u8;
        (0..bytes).map(of).collect()
    }
}

impl Operation {
    /// The key that it is about.
    pub(crate) fn key(self) -> Option<usize> {
        match self {
            Self::Set(key)
            | Self::SetFor(key, _)
            | Self::SetLong(key, _)
            | Self::Add(key)
            | Self::Append(key)
            | Self::Prepend(key)
            | Self::CompareAndSet(key)
            | Self::CompareAndSetOutdated(key)
            | Self::Delete(key)
            | Self::Count(key)
            | Self::Touch(key, _)
            | Self::Get(key)
            | Self::GetOrLease(key)
            | Self::EndLease(key)
            | Self::Invalidate(key)
            | Self::Hold(key) => Some(key),
            _ => None,
        }
    }

    /// Carries it out on a session; `answered` is called when its caller is told. (What concerns more
    /// than one session is the scene's.)
    pub(crate) fn carry_out(
        self,
        session: &mut Session,
        key: &[u8],
        given: &Given,
        answered: impl FnOnce(),
    ) -> Answer {
        match self {
            Self::Maintain => _ = session.maintain(given.now_ms),
            Self::Rest => session.rest(given.now_ms),
            _ => return self.on_guard(session, key, given, answered),
        }
        answered();
        Answer::Done
    }

    fn on_guard(
        self,
        session: &mut Session,
        key: &[u8],
        given: &Given,
        answered: impl FnOnce(),
    ) -> Answer {
        let now_ms = given.now_ms;
        let mut guard = session.pin(now_ms);
        let mut key = guard.key(key).expect("a key");
        // As a batch does, so that a set goes the way that most sets go.
        guard.prefetch_items(std::iter::once((&mut key, Reach::Key)));
        let (value, version) = (given.value(), given.version);
        let entry = Entry::of(&value);
        let mode = self.mode(version);
        let answer = match self {
            Self::SetFor(_, for_ms) => {
                let entry = Entry {
                    flags: FLAGS,
                    expires_at_ms: Some(now_ms + for_ms),
                    ..entry
                };
                stored(guard.store(&key, mode, &entry))
            }
            Self::SetLong(_, bytes) => {
                let value = given.long_value(bytes);
                stored(guard.store(&key, mode, &Entry::of(&value)))
            }
            Self::Set(_)
            | Self::Add(_)
            | Self::Append(_)
            | Self::Prepend(_)
            | Self::CompareAndSet(_)
            | Self::CompareAndSetOutdated(_) => stored(guard.store(&key, mode, &entry)),
            Self::Delete(_) => match guard.delete(&key, None) {
                Deletion::Deleted => Answer::Deleted,
                Deletion::NotFound => Answer::NotFound,
                Deletion::Exists => Answer::Exists,
            },
            Self::Count(_) => {
                let initial = Initial {
                    value: INITIAL,
                    expires_at_ms: None,
                };
                counted(guard.arithmetic(&key, Arithmetic::Increment(1), Some(initial)))
            }
            Self::Touch(_, for_ms) => {
                let touched = guard.touch(&key, Some(now_ms + for_ms));
                touched.map_or(Answer::NoSpace, Answer::Touched)
            }
            Self::Get(_) => Answer::Read(guard.get(&key).map(|item| item.value().into_owned())),
            Self::GetOrLease(_) => {
                let terms = Terms {
                    placeholder_until_ms: Some(now_ms + PLACEHOLDER_MS),
                    ..Terms::default()
                };
                let leased = guard.get_or_lease(&key, &terms);
                leased.map_or(Answer::NoSpace, |leased| Answer::Leased(leased.lease))
            }
            Self::EndLease(_) => Answer::Ended(guard.end_lease(&key, version)),
            Self::Invalidate(_) => match guard.invalidate(&key, &Invalidation::default()) {
                Ok(Invalidated::Marked { version }) => Answer::Marked { version },
                Ok(Invalidated::NotFound) => Answer::NotFound,
                Ok(Invalidated::Exists) => Answer::Exists,
                Err(_) => Answer::NoSpace,
            },
            Self::Flush => {
                guard.flush(None);
                Answer::Done
            }
            Self::FlushIn(in_ms) => {
                guard.flush(Some(now_ms + in_ms));
                Answer::Done
            }
            // INVARIANT: these are the scene's, or need no guard.
            Self::Wait(_)
            | Self::Maintain
            | Self::Rest
            | Self::Renew
            | Self::Hold(_)
            | Self::LetGo
            | Self::BeginLong(_)
            | Self::Recover => unreachable!("{self:?} is no operation on a guard"),
        };
        answered();
        answer
    }

    fn mode(self, version: u64) -> Mode {
        match self {
            Self::Add(_) => Mode::Add,
            Self::Append(_) => Mode::Append,
            Self::Prepend(_) => Mode::Prepend,
            Self::CompareAndSet(_) => Mode::CompareAndSet { version },
            Self::CompareAndSetOutdated(_) => Mode::CompareAndSet {
                version: version + 1_000,
            },
            _ => Mode::Set,
        }
    }
}

fn stored(outcome: Result<Outcome, StoreError>) -> Answer {
    match outcome {
        Ok(Outcome::Stored { version }) => Answer::Stored { version },
        Ok(Outcome::NotStored) => Answer::NotStored,
        Ok(Outcome::Exists) => Answer::Exists,
        Ok(Outcome::NotFound) => Answer::NotFound,
        Err(StoreError::NoSpace) => Answer::NoSpace,
        Err(error) => panic!("{error}"),
    }
}

fn counted(counter: Result<Counter, StoreError>) -> Answer {
    match counter {
        Ok(Counter::Value { value, version }) => Answer::Number { value, version },
        Ok(Counter::NotFound) => Answer::NotFound,
        Ok(Counter::NotANumber) => Answer::NotANumber,
        Err(_) => Answer::NoSpace,
    }
}
