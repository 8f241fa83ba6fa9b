//! The one execution: a request of any dialect, a pinned session, and the reply that tells of it.
//!
//! Requests run in batches, because a cache larger than the processor's own answers most of all with
//! waiting: all keys of a batch are hashed and their buckets asked for, then their items, and only
//! then is each request executed, in the order it came.

mod batch;
mod large;
mod leases;
mod many;
mod quarantine;
mod record;

use crate::blackbox::{Fingerprint, Pen};
use crate::dialect::{After, Dialect, FailedSet, Failure, Reply, Request, Scratch, Touch};
use crate::engine::{
    Calculated, Calculation, Deletion, Entry, Guard, Item, Key, KeyError, LargeValue, Mode,
    NewExpiry, Outcome, Side, StoreError,
};
pub(crate) use batch::{execute_batch, foresee};
use large::reply_with;
pub(crate) use large::{Begun, Received, begin_store, fail_store, finish_store};
use many::{Answered, get_each, multi_delete, multi_get, multi_set, scan, scan_all};

/// LIMIT: enough to hide memory's latency; measured, longer batches bring no more.
const BATCH: usize = 32;

/// Figures for STATS, from whoever runs the dialects.
pub(crate) trait Report {
    /// The names of the groups, as a sentence lists them.
    fn groups(&self) -> &'static str;

    /// The figures of a group, by name; `None` where there is no such group. The guard is that of
    /// the batch that asks.
    fn figures(&self, group: &[u8], guard: &Guard<'_>) -> Option<Vec<(String, String)>>;

    /// Counts of the group `since_reset` begin anew.
    fn reset(&self);
}

/// What a batch came to.
pub(crate) struct Round<D: Dialect> {
    /// Bytes of the input that it took.
    pub(crate) consumed_bytes: usize,
    /// How far the request behind those is answered already, in its own measure.
    pub(crate) answered: u64,
    /// Requests that it executed.
    pub(crate) requests: u64,
    /// Bytes that these have written into the cache, which may be far more than their own: a short append copies
    /// a long value.
    pub(crate) copied_bytes: u64,
    /// Of these, the ones that were refused for what their like has done.
    pub(crate) quarantined: u64,
    /// What comes next in the input.
    pub(crate) next: Next<D>,
    /// A value that must follow the replies before anything else does; then `next` is `More`.
    pub(crate) large: Option<Follow>,
}

/// A large value that follows its reply, and what follows it.
pub(crate) struct Follow {
    pub(crate) value: LargeValue,
    pub(crate) behind: &'static [u8],
}

/// What a batch runs with.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'s> {
    pub(crate) now_ms: u64,
    /// How far the first request is answered already, in its own measure.
    pub(crate) answered: u64,
    pub(crate) scratch: &'s Scratch,
    pub(crate) report: &'s dyn Report,
    /// What is not executed.
    pub(crate) quarantine: &'s [Fingerprint],
    /// Replies of this many bytes or more end the batch.
    pub(crate) out_bytes_max: usize,
    /// So do this many bytes written into the cache.
    pub(crate) copied_bytes_max: u64,
}

/// What comes after a batch.
pub(crate) enum Next<D: Dialect> {
    /// The batch was full; there may be more.
    More,
    /// The beginning of a request.
    Incomplete { needed_bytes: usize },
    /// Bytes that will not be executed, and how to go on after them.
    Refused { refusal: D::Refusal, after: After },
    /// The client said that it is done.
    Quit,
}

/// How far the execution of one request has come.
enum Executed {
    Whole,
    /// Some of its keys are answered, up to this mark of its own measure; the rest follows when the replies are
    /// sent.
    Part {
        answered: u64,
    },
}

fn execute_keyed<D: Dialect>(
    guard: &mut Guard<'_>,
    request: &Request<'_>,
    key: &Key<'_>,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
) {
    match *request {
        Request::Get { .. } => answer_read(guard, guard.get(key), reply, large),
        Request::Peek { .. } => match guard.peek(key) {
            Some(inspected) => reply.inspected(&inspected),
            None => reply.failed(Failure::NotFound),
        },
        Request::Store {
            mode, ref entry, ..
        } => match store(guard, key, mode, entry) {
            Ok(version) => reply.stored(version),
            Err(failure) => {
                delete_after_failed_set::<D>(guard, key, mode, failure);
                reply.failed(failure);
            }
        },
        Request::GetAndTouch { expires_at_ms, .. } => {
            match guard.get_and_touch_held(key, expires_at_ms) {
                Ok(Some((item, value))) => {
                    let value = value.filter(|_| reply.wants_value(&item));
                    reply_with(&item, value, reply, large);
                }
                Ok(None) => reply.failed(Failure::NotFound),
                Err(error) => reply.failed(error.into()),
            }
        }
        Request::Touch { expires_at_ms, .. } => match guard.touch(key, expires_at_ms) {
            Ok(true) => reply.done(),
            Ok(false) => reply.failed(Failure::NotFound),
            Err(error) => reply.failed(error.into()),
        },
        Request::Join {
            side,
            value,
            version,
            new_version,
            vivify,
            ..
        } => {
            let given = Entry {
                new_version,
                ..Entry::of(value)
            };
            match join(guard, key, (side, &given), version, vivify.as_ref()) {
                Ok(joined) => reply.joined(joined.version, joined.value_bytes),
                Err(failure) => reply.failed(failure),
            }
        }
        Request::Count {
            by,
            initial,
            version,
            new_version,
            touch,
            ..
        } => {
            let calculation = Calculation {
                by,
                initial,
                version,
                expiry: match touch {
                    Touch::Keep => NewExpiry::Kept,
                    Touch::To { expires_at_ms } => NewExpiry::At(expires_at_ms),
                },
                new_version,
            };
            count(guard, key, &calculation, reply);
        }
        Request::Delete { version, .. } => match delete(guard, key, version) {
            Ok(()) => reply.done(),
            Err(failure) => reply.failed(failure),
        },
        Request::GetOrLease { ref terms, .. } => {
            leases::get_or_lease(guard, key, terms, reply, large);
        }
        Request::Invalidate { ref how, .. } => leases::invalidate(guard, key, how, reply),
        Request::EndLease { version, .. } => leases::end_lease(guard, key, version, reply),
        // INVARIANT: `Request::key` answers for the requests above and for no other.
        _ => {}
    }
}

/// Answers a read with what it found.
#[inline(always)]
fn answer_read(
    guard: &Guard<'_>,
    found: Option<Item<'_>>,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
) {
    match found {
        Some(item) if item.is_large() && reply.wants_value(&item) => {
            reply_with(&item, guard.hold(&item), reply, large);
        }
        Some(item) => reply.item(&item),
        None => reply.failed(Failure::NotFound),
    }
}

fn execute_other(
    guard: &mut Guard<'_>,
    request: &Request<'_>,
    setting: &Setting<'_>,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
    pen: &mut Pen,
) -> Executed {
    let now_ms = setting.now_ms;
    match *request {
        Request::GetEach { keys, touch } => {
            let out_bytes_max = setting.out_bytes_max;
            let answered = get_each(guard, (keys, touch), out_bytes_max, reply, large, pen);
            if let Answered::UpTo { bytes } = answered {
                return Executed::Part {
                    answered: bytes as u64,
                };
            }
        }
        Request::MultiGet(keys) => multi_get(guard, keys, reply, pen),
        Request::MultiSet(entries) => multi_set(guard, entries, now_ms, reply, pen),
        Request::MultiDelete(keys) => multi_delete(guard, keys, reply, pen),
        Request::Flush { at_ms } => {
            guard.flush(at_ms);
            reply.done();
        }
        Request::Scan { cursor, keys_max } => scan(guard, cursor, keys_max, reply),
        Request::ScanAll { cursor } => {
            if let Some(answered) = scan_all(guard, cursor, setting.out_bytes_max, reply) {
                return Executed::Part { answered };
            }
        }
        Request::Stats { group } => match setting.report.figures(group, guard) {
            Some(figures) => reply.stats(&figures),
            None => reply.failed(Failure::NoSuchStats {
                accepted: setting.report.groups(),
            }),
        },
        Request::ResetStats => {
            setting.report.reset();
            reply.done();
        }
        Request::Ping { echo } => reply.echo(echo),
        Request::Quit => reply.done(),
        // INVARIANT: requests with one key are executed in `execute_keyed`.
        _ => {}
    }
    Executed::Whole
}

/// Lets go of the item that a refused set was to replace, where the dialect wants that.
#[cold]
fn delete_after_failed_set<D: Dialect>(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    mode: Mode,
    failure: Failure,
) {
    let no_memory = matches!(failure, Failure::TooLarge { .. } | Failure::NoSpace);
    if D::FAILED_SET == FailedSet::Deletes && mode == Mode::Set && no_memory {
        // The client has not asked for this: it is no delete of the statistics.
        let _ = guard.delete_uncounted(key, None);
    }
}

fn store(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    mode: Mode,
    entry: &Entry<'_>,
) -> Result<u64, Failure> {
    if matches!(mode, Mode::Append | Mode::Prepend) {
        return extend(guard, key, mode, entry);
    }
    store_outcome(guard.store(key, mode, entry)?)
}

/// Adds to the value that is there.
fn extend(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    mode: Mode,
    entry: &Entry<'_>,
) -> Result<u64, Failure> {
    let stored = guard.store(key, mode, entry);
    store_outcome(stored.map_err(extended_too_large)?)
}

fn extended_too_large(error: StoreError) -> Failure {
    match error {
        StoreError::TooLarge {
            value_bytes,
            value_bytes_max,
        } => Failure::ExtendedTooLarge {
            value_bytes,
            value_bytes_max,
        },
        error => error.into(),
    }
}

/// An item that was added to.
struct Joined {
    version: u64,
    value_bytes: u64,
}

/// Adds to the value that is there, or stores `vivify` where none is.
fn join(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    (side, given): (Side, &Entry<'_>),
    version: Option<u64>,
    vivify: Option<&Entry<'_>>,
) -> Result<Joined, Failure> {
    // Each further round is one more write of others between our two: they came forward.
    loop {
        let joined = guard.join(key, side, given, version);
        let (outcome, value_bytes) = joined.map_err(extended_too_large)?;
        match (outcome, vivify) {
            (Outcome::NotStored, Some(entry)) => match guard.store(key, Mode::Add, entry)? {
                Outcome::NotStored => {}
                outcome => {
                    let value_bytes = entry.value.len() as u64;
                    let joined = |version| Joined {
                        version,
                        value_bytes,
                    };
                    return store_outcome(outcome).map(joined);
                }
            },
            (outcome, _) => {
                let joined = |version| Joined {
                    version,
                    value_bytes,
                };
                return store_outcome(outcome).map(joined);
            }
        }
    }
}

fn count(guard: &mut Guard<'_>, key: &Key<'_>, calculation: &Calculation, reply: &mut impl Reply) {
    match guard.calculate(key, calculation) {
        Ok(Calculated::Value(counted)) => reply.counter(&counted),
        Ok(Calculated::NotFound) => reply.failed(Failure::NotFound),
        Ok(Calculated::NotANumber) => reply.failed(Failure::NotANumber),
        Ok(Calculated::Exists) => reply.failed(Failure::Exists),
        Err(error) => reply.failed(error.into()),
    }
}

fn store_outcome(outcome: Outcome) -> Result<u64, Failure> {
    match outcome {
        Outcome::Stored { version } => Ok(version),
        Outcome::NotStored => Err(Failure::NotStored),
        Outcome::Exists => Err(Failure::Exists),
        Outcome::NotFound => Err(Failure::NotFound),
    }
}

fn delete(guard: &mut Guard<'_>, key: &Key<'_>, version: Option<u64>) -> Result<(), Failure> {
    match guard.delete(key, version) {
        Deletion::Deleted => Ok(()),
        Deletion::NotFound => Err(Failure::NotFound),
        Deletion::Exists => Err(Failure::Exists),
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Empty => Self::KeyEmpty,
            KeyError::TooLong {
                key_bytes,
                key_bytes_max,
            } => Self::KeyTooLong {
                key_bytes,
                key_bytes_max,
            },
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge {
                value_bytes,
                value_bytes_max,
            } => Self::TooLarge {
                value_bytes,
                value_bytes_max,
            },
            StoreError::NoSpace => Self::NoSpace,
        }
    }
}

#[cfg(test)]
mod tests;
