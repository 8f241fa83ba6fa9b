//! The one execution: a request of any dialect, a pinned session, and the reply that tells of it.
//!
//! Requests run in batches, because a cache larger than the processor's own answers most of all with
//! waiting: all keys of a batch are hashed and their buckets asked for, then their items, and only
//! then is each request executed, in the order it came.

mod large;
mod leases;
mod many;
mod quarantine;
mod record;

use arrayvec::ArrayVec;

use crate::blackbox::{self, Fingerprint, Operation, Pen};
use crate::dialect::{
    After, Circumstances, Dialect, FailedSet, Failure, Get, Parsed, Reply, Request, Scratch, Touch,
};
use crate::engine::{
    Calculated, Calculation, Deletion, Entry, Guard, Item, Key, KeyError, LargeValue, Mode,
    NewExpiry, Outcome, Side, StoreError,
};
use large::reply_with;
pub(crate) use large::{Begun, Received, begin_store, fail_store, finish_store};
use many::{Answered, get_each, multi_delete, multi_get, multi_set, scan};
use record::{Noted, operation_of, value_bytes_of};

/// LIMIT: enough to hide memory's latency; measured, longer batches bring no more.
const BATCH: usize = 16;

/// Figures for STATS, from whoever runs the dialects.
pub(crate) trait Report {
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
    /// How much of the request behind those is answered already.
    pub(crate) answered_bytes: usize,
    /// Requests that it executed.
    pub(crate) requests: u64,
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
    /// How much of the first request is answered already.
    pub(crate) answered_bytes: usize,
    pub(crate) scratch: &'s Scratch,
    pub(crate) report: &'s dyn Report,
    /// What is not executed.
    pub(crate) quarantine: &'s [Fingerprint],
    /// Replies of this many bytes or more end the batch.
    pub(crate) out_bytes_max: usize,
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

/// A request whose key, if it has one, is checked and hashed. Small, since a GET needs no more.
struct Prepared<'i, T> {
    tag: T,
    key: Option<Key<'i>>,
    act: Act,
    /// Where the input goes on after it.
    end: usize,
}

/// What is to be done.
#[derive(Clone, Copy)]
enum Act {
    /// A GET and nothing else: most requests.
    Get,
    /// The request that stands beside, at this place, with or without a key.
    Request(u8),
    /// Nothing, since the key cannot be one.
    Refuse(KeyError, Operation),
    /// Nothing, since its like has brought the server down.
    Quarantine(Operation),
}

/// Requests that are executed together.
struct Batch<'i, D: Dialect> {
    prepared: ArrayVec<Prepared<'i, D::Tag<'i>>, BATCH>,
    /// Those that are more than a GET.
    requests: ArrayVec<Request<'i>, BATCH>,
}

/// How far the execution of one request has come.
enum Executed {
    Whole,
    /// Some of its keys are answered; the rest follows when the replies are sent.
    Part {
        answered_bytes: usize,
    },
}

/// Parses and executes up to a batch of requests, and writes their replies. Stops early once the
/// replies are as long as they may be, or a large value must follow them.
pub(crate) fn execute_batch<'i, D: Dialect>(
    dialect: &D,
    guard: &mut Guard<'_>,
    setting: Setting<'i>,
    input: &'i [u8],
    out: &mut Vec<u8>,
    pen: &mut Pen,
) -> Round<D> {
    guard.set_placeholders(D::PLACEHOLDERS);
    let mut batch = Batch::<D> {
        prepared: ArrayVec::new(),
        requests: ArrayVec::new(),
    };
    let (consumed_bytes, next) = parse_batch(dialect, guard, setting, input, &mut batch);
    let quarantined = match setting.quarantine {
        [] => 0,
        quarantine => quarantine::mark(guard, quarantine, &mut batch),
    };
    let Batch { prepared, requests } = &mut batch;
    if prepared.len() > 1 {
        guard.prefetch_items(prepared.iter_mut().filter_map(|one| one.key.as_mut()));
    }
    pen.begin_batch(prepared.len());
    let mut round = Round {
        consumed_bytes: 0,
        answered_bytes: 0,
        requests: 0,
        quarantined,
        next: Next::More,
        large: None,
    };
    for (one, number) in prepared.iter().zip(1..) {
        let (executed, note) = {
            let mut reply = Noted::new(dialect.reply(one.tag, setting.now_ms, out));
            let large = &mut round.large;
            let executed = execute::<D>(guard, one, requests, &setting, &mut reply, large, pen);
            (executed, reply.note())
        };
        let value_bytes = note.value_bytes as usize;
        if let Executed::Part { answered_bytes } = executed {
            pen.end(blackbox::Outcome::Part, value_bytes);
            return Round {
                answered_bytes,
                ..round
            };
        }
        pen.end(note.outcome, value_bytes);
        (round.consumed_bytes, round.requests) = (one.end, number);
        let is_full = out.len() >= setting.out_bytes_max && number < prepared.len() as u64;
        if is_full || round.large.is_some() {
            return round;
        }
    }
    Round {
        consumed_bytes,
        next,
        ..round
    }
}

/// Parses up to a batch of requests, and asks for the buckets of their keys; gives the length of what
/// was parsed, and what comes next.
#[inline(always)]
fn parse_batch<'i, D: Dialect>(
    dialect: &D,
    guard: &Guard<'_>,
    setting: Setting<'i>,
    input: &'i [u8],
    batch: &mut Batch<'i, D>,
) -> (usize, Next<D>) {
    let Batch { prepared, requests } = batch;
    let mut end = 0;
    let mut with = Circumstances {
        now_ms: setting.now_ms,
        answered_bytes: setting.answered_bytes,
        scratch: setting.scratch,
    };
    let next = loop {
        if prepared.is_full() {
            break Next::More;
        }
        let rest = &input[end..];
        if let Some(Get { tag, key, bytes }) = dialect.parse_get(rest) {
            end += bytes;
            let (key, act) = prepare(guard, Some(key), Act::Get, || Operation::Get);
            prepared.push(Prepared { tag, key, act, end });
            with.answered_bytes = 0;
            continue;
        }
        match dialect.parse(rest, with) {
            Parsed::Asked {
                tag,
                request,
                bytes,
            } => {
                end += bytes;
                let quit = matches!(request, Request::Quit);
                let beside = Act::Request(requests.len() as u8);
                let (key, act) = prepare(guard, request.key(), beside, || operation_of(&request));
                prepared.push(Prepared { tag, key, act, end });
                requests.push(request);
                with.answered_bytes = 0;
                if quit {
                    break Next::Quit;
                }
            }
            Parsed::Incomplete { needed_bytes } => break Next::Incomplete { needed_bytes },
            Parsed::Refused { refusal, after } => break Next::Refused { refusal, after },
        }
    };
    (end, next)
}

/// Checks and hashes the key, if there is one, and asks for its bucket.
#[inline(always)]
fn prepare<'i>(
    guard: &Guard<'_>,
    bytes: Option<&'i [u8]>,
    act: Act,
    operation: impl FnOnce() -> Operation,
) -> (Option<Key<'i>>, Act) {
    match bytes.map(|bytes| guard.key(bytes)) {
        Some(Ok(key)) => {
            guard.prefetch_bucket(&key);
            (Some(key), act)
        }
        Some(Err(error)) => (None, Act::Refuse(error, operation())),
        None => (None, act),
    }
}

#[inline(always)]
fn execute<'i, D: Dialect>(
    guard: &mut Guard<'_>,
    prepared: &Prepared<'i, D::Tag<'i>>,
    requests: &[Request<'i>],
    setting: &Setting<'_>,
    reply: &mut impl Reply,
    large: &mut Option<Follow>,
    pen: &mut Pen,
) -> Executed {
    match (prepared.act, &prepared.key) {
        (Act::Get, Some(key)) => {
            record::begin(pen, Operation::Get, key, 0);
            answer_read(guard, guard.get(key), reply, large);
        }
        (Act::Request(at), Some(key)) => {
            let request = &requests[usize::from(at)];
            record::begin(pen, operation_of(request), key, value_bytes_of(request));
            execute_keyed::<D>(guard, request, key, reply, large);
        }
        (Act::Request(at), None) => {
            let request = &requests[usize::from(at)];
            pen.begin(operation_of(request), 0, 0, value_bytes_of(request));
            return execute_other(guard, request, setting, reply, large, pen);
        }
        (Act::Refuse(error, operation), _) => {
            pen.begin(operation, 0, 0, 0);
            reply.failed(Failure::from(error));
        }
        (Act::Quarantine(operation), key) => {
            let key_hash = key.as_ref().map_or(0, |key| key.hash.0);
            pen.begin(operation, key_hash, 0, 0);
            reply.failed(Failure::Quarantined);
        }
        // INVARIANT: a GET has its key.
        (Act::Get, None) => {}
    }
    Executed::Whole
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
        Request::Peek { .. } => answer_read(guard, guard.peek(key), reply, large),
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
            vivify,
            ..
        } => match join(guard, key, (side, value), version, vivify.as_ref()) {
            Ok(joined) => reply.joined(joined.version, joined.value_bytes),
            Err(failure) => reply.failed(failure),
        },
        Request::Count {
            by,
            initial,
            version,
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
                    answered_bytes: bytes,
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
        Request::Stats { group } => match setting.report.figures(group, guard) {
            Some(figures) => reply.stats(&figures),
            None => reply.failed(Failure::NoSuchStats),
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
        let _ = guard.delete(key, None);
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
    (side, value): (Side, &[u8]),
    version: Option<u64>,
    vivify: Option<&Entry<'_>>,
) -> Result<Joined, Failure> {
    // Each further round is one more write of others between our two: they came forward.
    loop {
        let joined = guard.join(key, side, value, version);
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
        Ok(Calculated::Value {
            value,
            version,
            expires_at_ms,
        }) => reply.counter(value, version, expires_at_ms),
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
