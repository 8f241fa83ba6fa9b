//! What operations mean: a map of keys, without versions of new values, memory, or a crash.

use crate::engine::Lease;
use crate::operation::{Answer, FLAGS, Given, INITIAL, Operation, PLACEHOLDER_MS};
use crate::seen::State;

/// The version of a value that the model does not know yet.
const UNKNOWN: u64 = u64::MAX;

/// What was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Model {
    pub(crate) keys: Vec<Option<State>>,
    flush_due_ms: Option<u64>,
}

impl Model {
    pub(crate) fn of(keys: usize) -> Self {
        Self {
            keys: vec![None; keys],
            flush_due_ms: None,
        }
    }

    /// Lets the time come to `now_ms`.
    pub(crate) fn come_to(&mut self, now_ms: u64) {
        if self.flush_due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.flush_due_ms = None;
            self.keys.fill(None);
        }
        for key in &mut self.keys {
            let is_expired = |state: &mut State| state.expires_at_ms.is_some_and(|at| at <= now_ms);
            key.take_if(is_expired);
        }
    }

    /// Carries an operation out, at the time that the model has come to.
    pub(crate) fn apply(&mut self, operation: Operation, given: &Given) -> Answer {
        match operation {
            Operation::Flush => {
                self.flush_due_ms = None;
                self.keys.fill(None);
                return Answer::Done;
            }
            Operation::FlushIn(in_ms) => {
                self.flush_due_ms = Some(given.now_ms + in_ms);
                return Answer::Done;
            }
            _ => {}
        }
        match operation.key() {
            Some(key) => on_key(&mut self.keys[key], operation, given),
            None => Answer::Done,
        }
    }
}

fn on_key(place: &mut Option<State>, operation: Operation, given: &Given) -> Answer {
    let shown = place.as_ref().filter(|state| !state.is_placeholder);
    match operation {
        Operation::Set(_) => put(place, fresh(given.value())),
        Operation::SetLong(_, bytes) => put(place, fresh(given.long_value(bytes))),
        Operation::SetFor(_, for_ms) => {
            let state = State {
                flags: FLAGS,
                expires_at_ms: Some(given.now_ms + for_ms),
                ..fresh(given.value())
            };
            put(place, state)
        }
        Operation::Add(_) if shown.is_some() => Answer::NotStored,
        Operation::Add(_) => put(place, fresh(given.value())),
        Operation::Append(_) | Operation::Prepend(_) => {
            let Some(old) = shown else {
                return Answer::NotStored;
            };
            let value = match operation {
                Operation::Append(_) => [old.value.clone(), given.value()].concat(),
                _ => [given.value(), old.value.clone()].concat(),
            };
            let state = made_of(old, value);
            put(place, state)
        }
        Operation::CompareAndSet(_) | Operation::CompareAndSetOutdated(_) => {
            let is_current = matches!(operation, Operation::CompareAndSet(_));
            match place {
                Some(old) if is_current && old.version == given.version => {
                    put(place, fresh(given.value()))
                }
                Some(old) if !old.is_placeholder => Answer::Exists,
                _ => Answer::NotFound,
            }
        }
        Operation::Delete(_) => {
            let answer = shown.map_or(Answer::NotFound, |_| Answer::Deleted);
            *place = None;
            answer
        }
        Operation::Count(_) => count(place),
        Operation::Touch(_, for_ms) => {
            let is_shown = shown.is_some();
            if let Some(old) = place.as_mut().filter(|_| is_shown) {
                old.expires_at_ms = Some(given.now_ms + for_ms);
            }
            Answer::Touched(is_shown)
        }
        Operation::Get(_) => Answer::Read(shown.map(|state| state.value.clone())),
        Operation::GetOrLease(_) => get_or_lease(place, given),
        Operation::EndLease(_) => end_lease(place, given),
        Operation::Invalidate(_) => invalidate(place),
        _ => Answer::Done,
    }
}

fn fresh(value: Vec<u8>) -> State {
    State {
        value,
        flags: 0,
        expires_at_ms: None,
        version: UNKNOWN,
        is_stale: false,
        is_leased: false,
        is_placeholder: false,
    }
}

/// A new value that was made of an old one, and is as stale.
fn made_of(old: &State, value: Vec<u8>) -> State {
    State {
        flags: old.flags,
        expires_at_ms: old.expires_at_ms,
        is_stale: old.is_stale,
        ..fresh(value)
    }
}

fn put(place: &mut Option<State>, state: State) -> Answer {
    *place = Some(state);
    Answer::Stored { version: 0 }
}

fn count(place: &mut Option<State>) -> Answer {
    let shown = place.as_ref().filter(|state| !state.is_placeholder);
    let (state, value) = match shown {
        None => (fresh(INITIAL.to_string().into_bytes()), INITIAL),
        Some(old) => {
            let digits = std::str::from_utf8(&old.value).ok();
            let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) else {
                return Answer::NotANumber;
            };
            let number = number.wrapping_add(1);
            (made_of(old, number.to_string().into_bytes()), number)
        }
    };
    *place = Some(state);
    Answer::Number { value, version: 0 }
}

fn get_or_lease(place: &mut Option<State>, given: &Given) -> Answer {
    let lease = match place {
        None => {
            *place = Some(State {
                expires_at_ms: Some(given.now_ms + PLACEHOLDER_MS),
                is_leased: true,
                is_placeholder: true,
                ..fresh(Vec::new())
            });
            Lease::Won
        }
        Some(old) if old.is_leased => Lease::Taken,
        Some(old) if old.is_stale => {
            old.is_leased = true;
            Lease::Won
        }
        Some(_) => Lease::None,
    };
    Answer::Leased(lease)
}

fn end_lease(place: &mut Option<State>, given: &Given) -> Answer {
    let leased = place.as_mut();
    let leased = leased.filter(|state| state.version == given.version && state.is_leased);
    let Some(state) = leased else {
        return Answer::Ended(false);
    };
    match state.is_placeholder {
        true => *place = None,
        false => state.is_leased = false,
    }
    Answer::Ended(true)
}

fn invalidate(place: &mut Option<State>) -> Answer {
    match place {
        None => Answer::NotFound,
        Some(old) if old.is_placeholder => {
            *place = None;
            Answer::NotFound
        }
        Some(old) => {
            let value = old.value.clone();
            let state = State {
                flags: old.flags,
                expires_at_ms: old.expires_at_ms,
                is_stale: true,
                ..fresh(value)
            };
            *place = Some(state);
            Answer::Marked { version: 0 }
        }
    }
}
