//! One session of an in-process cache, and the requests that it is dealt.

use super::request::{Operation, Request};
use super::tally::{Found, Tally};
use super::upkeep::{Schedule, upkeep};
use crate::engine::{
    Arithmetic, Cache, Counter, Deletion, Entry, Guard, Initial, Mode, Outcome, Session,
    StoreError, TooManySessions,
};

/// LIMIT: attempts at a store that finds no memory. Each pins anew, which lets memory go that only
/// waits for readers.
const ATTEMPTS: u32 = 8;

/// One session with what came of its requests.
#[derive(Debug)]
pub(super) struct Driver {
    session: Session,
    memory_bytes: u64,
    /// The trace's time.
    now_ms: u64,
    values: Values,
    tally: Tally,
}

/// What values are made of. Its bytes do not matter, so all values are the front of one.
#[derive(Debug, Default)]
struct Values {
    longest: Vec<u8>,
}

impl Values {
    fn of(&mut self, bytes: usize) -> &[u8] {
        if bytes > self.longest.len() {
            self.longest = vec![0; bytes.next_power_of_two()];
        }
        &self.longest[..bytes]
    }
}

impl Driver {
    pub(super) fn new(cache: &Cache, memory_bytes: u64) -> Result<Self, TooManySessions> {
        Ok(Self {
            session: cache.session()?,
            memory_bytes,
            now_ms: 0,
            values: Values::default(),
            tally: Tally::default(),
        })
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Does what is due between requests, before the one of this time.
    pub(super) fn keep_up(&mut self, schedule: &mut Schedule, request: &Request) {
        let now_ms = now_ms(request);
        if schedule.is_due(now_ms) {
            upkeep(&mut self.session, now_ms);
        }
    }

    /// Carries a request out.
    pub(super) fn execute(&mut self, request: &Request) {
        self.now_ms = now_ms(request);
        self.tally.begin(request);
        match request.operation {
            Operation::Get => self.read_through(request),
            Operation::Set | Operation::Overwrite => self.store(request, Mode::Set),
            Operation::Add => self.store(request, Mode::Add),
            Operation::Replace => self.store(request, Mode::Replace),
            Operation::Append => self.store(request, Mode::Append),
            Operation::Prepend => self.store(request, Mode::Prepend),
            Operation::Increment => self.count(request, Arithmetic::Increment(1)),
            Operation::Decrement => self.count(request, Arithmetic::Decrement(1)),
            Operation::Touch => self.touch(request),
            Operation::Delete => self.delete(request),
        }
    }

    fn read_through(&mut self, request: &Request) {
        let guard = self.session.pin(self.now_ms);
        let found = match guard.key(request.key.bytes()) {
            Ok(key) if guard.get(&key).is_some() => Found::Hit,
            _ => Found::Miss,
        };
        drop(guard);
        self.tally.read(request, found);
        if found == Found::Miss {
            self.store(request, Mode::Set);
        }
    }

    fn store(&mut self, request: &Request, mode: Mode) {
        let value_bytes = request.value_bytes().unwrap_or(0);
        if value_bytes as u64 > self.memory_bytes {
            self.tally.too_large += 1;
            return;
        }
        let entry = Entry {
            expires_at_ms: request.ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms),
            ..Entry::of(self.values.of(value_bytes))
        };
        let stored = attempt(&mut self.session, self.now_ms, |guard| {
            let Ok(key) = guard.key(request.key.bytes()) else {
                return Ok(Outcome::NotStored);
            };
            guard.store(&key, mode, &entry)
        });
        match stored {
            Ok(Outcome::Stored { .. }) => self.tally.stored(request, value_bytes),
            Ok(_) => self.tally.not_stored += 1,
            Err(error) => self.refused(error),
        }
    }

    fn count(&mut self, request: &Request, by: Arithmetic) {
        let initial = Initial {
            value: 0,
            expires_at_ms: request.ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms),
        };
        let counted = attempt(&mut self.session, self.now_ms, |guard| {
            let Ok(key) = guard.key(request.key.bytes()) else {
                return Ok(Counter::NotFound);
            };
            guard.arithmetic(&key, by, Some(initial))
        });
        match counted {
            Ok(Counter::Value { value, .. }) => self.tally.counted(request, value),
            Ok(_) => self.tally.not_stored += 1,
            Err(error) => self.refused(error),
        }
    }

    fn touch(&mut self, request: &Request) {
        let expires_at_ms = request.ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms);
        let touched = attempt(&mut self.session, self.now_ms, |guard| {
            let Ok(key) = guard.key(request.key.bytes()) else {
                return Ok(false);
            };
            guard.touch(&key, expires_at_ms)
        });
        if let Err(error) = touched {
            self.refused(error);
        }
    }

    fn delete(&mut self, request: &Request) {
        let mut guard = self.session.pin(self.now_ms);
        if let Ok(key) = guard.key(request.key.bytes())
            && guard.delete(&key, None) == Deletion::Deleted
        {
            self.tally.deleted += 1;
        }
    }

    fn refused(&mut self, error: StoreError) {
        match error {
            StoreError::TooLarge { .. } => self.tally.too_large += 1,
            _ => self.tally.no_space += 1,
        }
    }
}

/// The time of a request on the cache's clock, which is never 0.
fn now_ms(request: &Request) -> u64 {
    request.time_ms + 1
}

/// Tries a write until there is memory for it, or it was tried often enough.
fn attempt<T>(
    session: &mut Session,
    now_ms: u64,
    mut write: impl FnMut(&mut Guard<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut attempts = 1;
    loop {
        match write(&mut session.pin(now_ms)) {
            Err(StoreError::NoSpace) if attempts < ATTEMPTS => attempts += 1,
            other => return other,
        }
    }
}
