//! Calls, carried out by the engine.

use larder::{
    Calculated, Calculation, Deletion, Entry, Guard, Invalidated, Item, Key, NewExpiry, Outcome,
    StoreError,
};

use super::leasing;
use super::meaning::{Answer, Call, Marks, Stored};

/// What a read found.
pub(crate) fn read(item: Option<&Item<'_>>) -> Answer {
    item.map_or(Answer::Miss, |item| {
        Answer::Hit(Stored {
            value: item.value().to_vec(),
            flags: item.flags(),
            expires_at_ms: item.expires_at_ms(),
            version: Some(item.version()),
            marks: Marks::default(),
        })
    })
}

/// Asks the cache; with half of the keys as a batch does, looking ahead.
pub(crate) fn execute(guard: &mut Guard<'_>, name: &[u8], call: &Call) -> Answer {
    let mut key = guard.key(name).expect("a key within the limits");
    if name.last().is_some_and(|last| last & 1 == 1) {
        guard.prefetch_items(std::iter::once((&mut key, larder::Reach::Value)));
    }
    try_execute(guard, &key, call).unwrap_or_else(|refused| match refused {
        StoreError::NoSpace => Answer::NoSpace,
        StoreError::TooLarge { .. } => panic!("{refused}"),
    })
}

/// Asks the cache, and gives its refusals as they are.
pub(crate) fn try_execute(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    call: &Call,
) -> Result<Answer, StoreError> {
    Ok(match call {
        Call::Flush => {
            guard.flush(None);
            Answer::Flushed
        }
        Call::Get => read(guard.get(key).as_ref()),
        Call::GetAndTouch { expires_at_ms } => {
            read(guard.get_and_touch(key, *expires_at_ms)?.as_ref())
        }
        Call::Touch { expires_at_ms } => match guard.touch(key, *expires_at_ms)? {
            true => Answer::Touched,
            false => Answer::Miss,
        },
        Call::Delete { version } => match guard.delete(key, *version) {
            Deletion::Deleted => Answer::Deleted,
            Deletion::NotFound => Answer::NotFound,
            Deletion::Exists => Answer::Exists,
        },
        Call::GetOrLease { terms } => leasing::told(&guard.get_or_lease(key, terms)?),
        Call::Invalidate { how } => match guard.invalidate(key, how)? {
            Invalidated::Marked { version } => Answer::Marked {
                version: Some(version),
            },
            Invalidated::NotFound => Answer::NotFound,
            Invalidated::Exists => Answer::Exists,
        },
        Call::EndLease { version } => match guard.end_lease(key, *version) {
            true => Answer::LeaseEnded,
            false => Answer::NotFound,
        },
        &Call::Count {
            by,
            initial,
            new_version,
        } => {
            let calculation = Calculation {
                by,
                initial,
                version: None,
                expiry: NewExpiry::Kept,
                new_version,
            };
            match guard.calculate(key, &calculation)? {
                Calculated::Value(counted) => Answer::Counted {
                    value: counted.value,
                    version: Some(counted.version),
                },
                Calculated::NotFound => Answer::NotFound,
                Calculated::NotANumber => Answer::NotANumber,
                Calculated::Exists => Answer::Exists,
            }
        }
        Call::Store {
            mode,
            value,
            flags,
            expires_at_ms,
            new_version,
        } => {
            let entry = Entry {
                value,
                flags: *flags,
                expires_at_ms: *expires_at_ms,
                new_version: *new_version,
            };
            match guard.store(key, *mode, &entry)? {
                Outcome::Stored { version } => Answer::Stored {
                    version: Some(version),
                },
                Outcome::NotStored => Answer::NotStored,
                Outcome::Exists => Answer::Exists,
                Outcome::NotFound => Answer::NotFound,
            }
        }
    })
}
