//! The one execution: a request of any dialect, a pinned session, and the reply that tells of it.
//!
//! Requests run in batches, because a cache larger than the processor's own answers most of all with
//! waiting: all keys of a batch are hashed and their buckets asked for, then their items, and only
//! then is each request executed, in the order it came.

mod large;
mod leases;
mod many;

use crate::dialect::{After, Dialect, Failure, Parsed, Reply, Request};
use crate::engine::{
    Counter, Deletion, Entry, Guard, Key, KeyError, LargeValue, Mode, Outcome, StoreError,
};
use large::reply_with;
pub(crate) use large::{Begun, begin_store, fail_store, finish_store};
use many::{multi_delete, multi_get, multi_set, scan};

/// LIMIT: enough to hide memory's latency; measured, longer batches bring no more.
const BATCH: usize = 16;

/// Figures for STATS, from whoever runs the dialects.
pub(crate) trait Report {
    /// The figures of a group, by name; `None` where there is no such group. The guard is that of
    /// the batch that asks.
    fn figures(&self, group: &[u8], guard: &Guard<'_>) -> Option<Vec<(String, String)>>;
}

/// What a batch came to.
pub(crate) struct Round<D: Dialect> {
    /// Bytes of the input that it took.
    pub(crate) consumed_bytes: usize,
    /// Requests that it executed.
    pub(crate) requests: u64,
    /// What comes next in the input.
    pub(crate) next: Next<D>,
    /// A value that must follow the replies before anything else does; then `next` is `More`.
    pub(crate) large: Option<LargeValue>,
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

/// A request whose key, if it has one, is checked and hashed.
struct Prepared<'i, T> {
    tag: T,
    request: Request<'i>,
    key: Option<Result<Key<'i>, KeyError>>,
    /// Where the input goes on after it.
    end: usize,
}

/// Parses and executes up to a batch of requests, and writes their replies. Stops early once the
/// replies have `out_bytes_max` bytes or more, or a large value must follow them.
pub(crate) fn execute_batch<D: Dialect>(
    dialect: &D,
    guard: &mut Guard<'_>,
    now_ms: u64,
    input: &[u8],
    report: &dyn Report,
    out: &mut Vec<u8>,
    out_bytes_max: usize,
) -> Round<D> {
    guard.set_placeholders(D::PLACEHOLDERS);
    let mut batch: [Option<Prepared<'_, D::Tag>>; BATCH] = [const { None }; BATCH];
    let (mut count, mut consumed_bytes) = (0, 0);
    let next = loop {
        if count == BATCH {
            break Next::More;
        }
        match dialect.parse(&input[consumed_bytes..], now_ms) {
            Parsed::Asked {
                tag,
                request,
                bytes,
            } => {
                consumed_bytes += bytes;
                let quit = matches!(request, Request::Quit);
                batch[count] = Some(prepare(guard, tag, request, consumed_bytes));
                count += 1;
                if quit {
                    break Next::Quit;
                }
            }
            Parsed::Incomplete { needed_bytes } => break Next::Incomplete { needed_bytes },
            Parsed::Refused { refusal, after } => break Next::Refused { refusal, after },
        }
    };
    if count > 1 {
        let keys = batch[..count].iter().flatten();
        guard.prefetch_items(keys.filter_map(|prepared| prepared.key.as_ref()?.as_ref().ok()));
    }
    let mut large = None;
    for (index, prepared) in batch[..count].iter().flatten().enumerate() {
        {
            let mut reply = dialect.reply(prepared.tag, now_ms, out);
            execute(guard, prepared, now_ms, report, &mut reply, &mut large);
        }
        let is_full = out.len() >= out_bytes_max && index + 1 < count;
        if is_full || large.is_some() {
            let requests = index as u64 + 1;
            return Round {
                consumed_bytes: prepared.end,
                requests,
                next: Next::More,
                large,
            };
        }
    }
    Round {
        consumed_bytes,
        requests: count as u64,
        next,
        large: None,
    }
}

#[inline]
fn prepare<'i, T>(guard: &Guard<'_>, tag: T, request: Request<'i>, end: usize) -> Prepared<'i, T> {
    let key = request.key().map(|bytes| guard.key(bytes));
    if let Some(Ok(key)) = &key {
        guard.prefetch_bucket(key);
    }
    Prepared {
        tag,
        request,
        key,
        end,
    }
}

#[inline]
fn execute<T>(
    guard: &mut Guard<'_>,
    prepared: &Prepared<'_, T>,
    now_ms: u64,
    report: &dyn Report,
    reply: &mut impl Reply,
    large: &mut Option<LargeValue>,
) {
    match &prepared.key {
        Some(Ok(key)) => execute_keyed(guard, &prepared.request, key, reply, large),
        Some(Err(error)) => reply.failed(Failure::from(*error)),
        None => execute_other(guard, &prepared.request, now_ms, report, reply),
    }
}

#[inline]
fn execute_keyed(
    guard: &mut Guard<'_>,
    request: &Request<'_>,
    key: &Key<'_>,
    reply: &mut impl Reply,
    large: &mut Option<LargeValue>,
) {
    match *request {
        Request::Get { .. } => match guard.get(key) {
            Some(item) if item.is_large() => {
                *large = guard.hold(&item);
                reply_with(&item, large.as_ref(), reply);
            }
            Some(item) => reply.item(&item),
            None => reply.failed(Failure::NotFound),
        },
        Request::Store {
            mode, ref entry, ..
        } => match store(guard, key, mode, entry) {
            Ok(version) => reply.stored(version),
            Err(failure) => reply.failed(failure),
        },
        Request::GetAndTouch { expires_at_ms, .. } => {
            match guard.get_and_touch_held(key, expires_at_ms) {
                Ok(Some((item, value))) => {
                    reply_with(&item, value.as_ref(), reply);
                    *large = value;
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
        Request::Count { by, initial, .. } => match guard.arithmetic(key, by, initial) {
            Ok(Counter::Value { value, version }) => reply.counter(value, version),
            Ok(Counter::NotFound) => reply.failed(Failure::NotFound),
            Ok(Counter::NotANumber) => reply.failed(Failure::NotANumber),
            Err(error) => reply.failed(error.into()),
        },
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

fn execute_other(
    guard: &mut Guard<'_>,
    request: &Request<'_>,
    now_ms: u64,
    report: &dyn Report,
    reply: &mut impl Reply,
) {
    match *request {
        Request::MultiGet(keys) => multi_get(guard, keys, reply),
        Request::MultiSet(entries) => multi_set(guard, entries, now_ms, reply),
        Request::MultiDelete(keys) => multi_delete(guard, keys, reply),
        Request::Flush { at_ms } => {
            guard.flush(at_ms);
            reply.done();
        }
        Request::Scan { cursor, keys_max } => scan(guard, cursor, keys_max, reply),
        Request::Stats { group } => match report.figures(group, guard) {
            Some(figures) => reply.stats(&figures),
            None => reply.failed(Failure::NoSuchStats),
        },
        Request::Ping { echo } => reply.echo(echo),
        Request::Quit => reply.done(),
        // INVARIANT: requests with one key are executed in `execute_keyed`.
        _ => {}
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
    match guard.store(key, mode, entry) {
        Ok(outcome) => store_outcome(outcome),
        Err(StoreError::TooLarge {
            value_bytes,
            value_bytes_max,
        }) => Err(Failure::ExtendedTooLarge {
            value_bytes,
            value_bytes_max,
        }),
        Err(error) => Err(error.into()),
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
