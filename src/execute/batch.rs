//! A batch: parsed and hashed, asked for from memory, and executed in the order it came.
//!
//! ```text
//! parse, hash, ask for the bucket ──> ask for the item ──> execute, reply
//!        of each request                 of each                of each
//! ```
//!
//! Most requests are reads of one key that find a plain item. They have a way of their own through all
//! three steps, on which nothing is asked that only others need to know.

use arrayvec::ArrayVec;

use super::quarantine;
use super::record::{self, Noted, operation_of, value_bytes_of};
use super::{
    BATCH, Executed, Follow, Next, Round, Setting, answer_read, execute_keyed, execute_other,
};
use crate::blackbox::{Operation, Outcome, Pen};
use crate::dialect::{Circumstances, Dialect, Failure, Get, Parsed, Reply, Request};
use crate::engine::{Foreseen, Guard, Key, Mode, Reach, Session};

/// A request whose key, if it has one, is checked and hashed. Small, since a GET needs no more.
pub(super) struct Prepared<'i, T> {
    tag: T,
    pub(super) act: Act<'i>,
    /// Where the input goes on after it.
    end: usize,
}

/// What is to be done.
pub(super) enum Act<'i> {
    /// A GET of this key and nothing else: most requests.
    Get(Key<'i>),
    /// The request that stands beside, at this place, with or without a key.
    Request(u8, Option<Key<'i>>),
    /// Nothing, since its like has brought the server down.
    Quarantine(Operation, Option<Key<'i>>),
}

impl<'i> Act<'i> {
    /// The key, and how far its item is to be asked for.
    #[inline]
    fn ahead(&mut self) -> Option<(&mut Key<'i>, Reach)> {
        let reach = match self {
            Self::Get(_) => Reach::Value,
            Self::Request(..) | Self::Quarantine(..) => Reach::Key,
        };
        Some((self.key_mut()?, reach))
    }

    #[inline]
    pub(super) fn key_mut(&mut self) -> Option<&mut Key<'i>> {
        match self {
            Self::Get(key) => Some(key),
            Self::Request(_, key) | Self::Quarantine(_, key) => key.as_mut(),
        }
    }
}

/// Requests that are executed together.
pub(super) struct Batch<'i, D: Dialect> {
    pub(super) prepared: ArrayVec<Prepared<'i, D::Tag<'i>>, BATCH>,
    /// Those that are more than a GET.
    pub(super) requests: ArrayVec<Request<'i>, BATCH>,
}

impl<'i, D: Dialect> Batch<'i, D> {
    /// Adds a request that is more than a GET, and asks for the bucket of its key.
    #[inline(always)]
    fn push(
        &mut self,
        guard: &Guard<'_>,
        tag: D::Tag<'i>,
        key: Option<Key<'i>>,
        request: Request<'i>,
        bytes: usize,
    ) {
        if let Some(key) = &key {
            guard.prefetch_bucket(key);
        }
        let begin = self.prepared.last().map_or(0, |one| one.end);
        self.prepared.push(Prepared {
            tag,
            act: Act::Request(self.requests.len() as u8, key),
            end: begin + bytes,
        });
        self.requests.push(request);
    }
}

/// What requests are executed with, one after the other.
struct Bench<'b, 'g, D> {
    dialect: &'b D,
    guard: &'b mut Guard<'g>,
    setting: Setting<'b>,
    out: &'b mut Vec<u8>,
    pen: &'b mut Pen,
    large: Option<Follow>,
}

/// Parses and executes up to a batch of requests, and writes their replies. Stops early once the
/// replies are as long as they may be, or as much was copied as may be, or a large value must follow them.
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
    let (parsed_bytes, next) = parse_batch(dialect, guard, setting, input, &mut batch);
    let quarantined = match setting.quarantine {
        [] => 0,
        quarantine => quarantine::mark(guard, quarantine, &mut batch),
    };
    let Batch { prepared, requests } = &mut batch;
    guard.prefetch_items(prepared.iter_mut().filter_map(|one| one.act.ahead()));
    pen.begin_batch(prepared.len());
    let mut bench = Bench {
        dialect,
        guard,
        setting,
        out,
        pen,
        large: None,
    };
    let (mut done, mut answered) = (0, 0);
    while done < prepared.len() && !bench.is_over(done) {
        if let Act::Get(_) = prepared[done].act {
            let reads = bench.read_plain(&prepared[done..]);
            done += reads;
            if reads > 0 {
                continue;
            }
        }
        if let Executed::Part { answered: part } = bench.execute(&prepared[done], requests) {
            answered = part;
            break;
        }
        done += 1;
    }
    let is_whole = done == prepared.len() && bench.large.is_none();
    Round {
        consumed_bytes: match done {
            _ if is_whole => parsed_bytes,
            0 => 0,
            _ => prepared[done - 1].end,
        },
        answered,
        requests: done as u64,
        copied_bytes: bench.guard.copied_bytes,
        quarantined,
        next: if is_whole { next } else { Next::More },
        large: bench.large,
    }
}

/// Asks for the bucket of the request that the input begins with, some time before it is a batch's, if it is a read
/// or a set of one key, and there whole. Gives what is to be [fetched](Session::fetch) next.
pub(crate) fn foresee<D: Dialect>(
    dialect: &D,
    session: &Session,
    input: &[u8],
    now_ms: u64,
) -> Option<Foreseen> {
    let (key, reach) = match dialect.parse_get(input) {
        Some(get) => (get.key, Reach::Value),
        None => (dialect.parse_set(input, now_ms)?.key, Reach::Key),
    };
    Some(session.foresee(key, reach))
}

/// Parses up to a batch of requests, and asks for the buckets of their keys; gives the length of what
/// was parsed, and what comes next.
#[inline(never)]
fn parse_batch<'i, D: Dialect>(
    dialect: &D,
    guard: &Guard<'_>,
    setting: Setting<'i>,
    input: &'i [u8],
    batch: &mut Batch<'i, D>,
) -> (usize, Next<D>) {
    let mut rest = input;
    for _ in 0..batch.prepared.remaining_capacity() {
        if rest.is_empty() {
            break;
        }
        if let Some(Get { tag, key, bytes }) = dialect.parse_get(rest)
            && let Ok(key) = guard.key(key)
        {
            guard.prefetch_bucket(&key);
            rest = &rest[bytes..];
            batch.prepared.push(Prepared {
                tag,
                act: Act::Get(key),
                end: input.len() - rest.len(),
            });
            continue;
        }
        let answered = match batch.prepared.is_empty() {
            true => setting.answered,
            false => 0,
        };
        let with = Circumstances {
            now_ms: setting.now_ms,
            answered,
            scratch: setting.scratch,
        };
        match parse_request(dialect, guard, with, rest, batch) {
            Ok(bytes) => rest = &rest[bytes..],
            Err(next) => return (input.len() - rest.len(), next),
        }
        if let Some(Request::Quit) = batch.requests.last() {
            return (input.len() - rest.len(), Next::Quit);
        }
    }
    (input.len() - rest.len(), Next::More)
}

/// Parses one request that is not a GET; gives its length, or what is there instead.
#[inline(never)]
fn parse_request<'i, D: Dialect>(
    dialect: &D,
    guard: &Guard<'_>,
    with: Circumstances<'i>,
    rest: &'i [u8],
    batch: &mut Batch<'i, D>,
) -> Result<usize, Next<D>> {
    if let Some(set) = dialect.parse_set(rest, with.now_ms)
        && let Ok(key) = guard.key(set.key)
    {
        let (key_bytes, mode, entry) = (set.key, Mode::Set, set.entry);
        let request = Request::Store {
            key: key_bytes,
            mode,
            entry,
        };
        batch.push(guard, set.tag, Some(key), request, set.bytes);
        return Ok(set.bytes);
    }
    match dialect.parse(rest, with) {
        Parsed::Asked {
            tag,
            request,
            bytes,
        } => {
            let key = request.key().and_then(|key| guard.key(key).ok());
            batch.push(guard, tag, key, request, bytes);
            Ok(bytes)
        }
        Parsed::Incomplete { needed_bytes } => Err(Next::Incomplete { needed_bytes }),
        Parsed::Refused { refusal, after } => Err(Next::Refused { refusal, after }),
    }
}

impl<D: Dialect> Bench<'_, '_, D> {
    /// Whether nothing is to be executed after the `done` that were.
    #[inline]
    fn is_over(&self, done: usize) -> bool {
        let is_full = done > 0
            && (self.out.len() >= self.setting.out_bytes_max
                || self.guard.copied_bytes >= self.setting.copied_bytes_max);
        is_full || self.large.is_some()
    }

    /// Executes the reads at the front that find plain items; says how many those are.
    #[inline(never)]
    fn read_plain<'i>(&mut self, prepared: &[Prepared<'i, D::Tag<'i>>]) -> usize {
        let (dialect, out_bytes_max) = (self.dialect, self.setting.out_bytes_max);
        let (guard, now_ms) = (&*self.guard, self.setting.now_ms);
        let out = &mut *self.out;
        let plain = guard.plain_reads();
        let mut noted = self.pen.reads();
        let mut left = prepared.iter();
        while let Some(one) = left.as_slice().first()
            && let Act::Get(key) = &one.act
        {
            let begun = noted.begin(key.hash.0, key.bytes.len());
            let Some(item) = plain.get(key, key.seen_at) else {
                break;
            };
            dialect.reply(one.tag, now_ms, out).item(&item);
            noted.end(begun, Outcome::Hit, item.value_bytes() as usize);
            left.next();
            if out.len() >= out_bytes_max {
                break;
            }
        }
        let reads = prepared.len() - left.len();
        guard.count_hits(reads as u64);
        reads
    }

    /// Executes one request, writes its reply, and tells the black box of both.
    #[inline(never)]
    fn execute<'i>(
        &mut self,
        one: &Prepared<'i, D::Tag<'i>>,
        requests: &[Request<'i>],
    ) -> Executed {
        let Self {
            dialect,
            guard,
            setting,
            out,
            pen,
            large,
        } = self;
        let mut reply = Noted::new(dialect.reply(one.tag, setting.now_ms, out));
        let mut executed = Executed::Whole;
        match &one.act {
            Act::Get(key) => {
                record::begin(pen, Operation::Get, key, 0);
                answer_read(guard, guard.get_otherwise(key), &mut reply, large);
            }
            Act::Request(at, Some(key)) => {
                let request = &requests[usize::from(*at)];
                record::begin(pen, operation_of(request), key, value_bytes_of(request));
                execute_keyed::<D>(guard, request, key, &mut reply, large);
            }
            Act::Request(at, None) => {
                let request = &requests[usize::from(*at)];
                pen.begin(operation_of(request), 0, 0, value_bytes_of(request));
                match request.key().map(|key| guard.key(key)) {
                    Some(Err(error)) => reply.failed(Failure::from(error)),
                    _ => {
                        executed = execute_other(guard, request, setting, &mut reply, large, pen);
                    }
                }
            }
            Act::Quarantine(operation, key) => {
                let key_hash = key.as_ref().map_or(0, |key| key.hash.0);
                pen.begin(*operation, key_hash, 0, 0);
                reply.failed(Failure::Quarantined);
            }
        }
        let note = reply.note();
        let outcome = match executed {
            Executed::Whole => note.outcome,
            Executed::Part { .. } => Outcome::Part,
        };
        self.pen.end(outcome, note.value_bytes as usize);
        executed
    }
}
