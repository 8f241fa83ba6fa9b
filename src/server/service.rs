//! One turn of one connection: read once, execute in batches, write once.
//!
//! The buffers are the worker's. A connection keeps bytes for itself only where a turn ends inside a
//! frame, or where its socket does not take the replies; both come out of the server-wide budget.
//! What a turn may take is bounded by the size of the input buffer and by the bytes it writes.
//! Values that no buffer holds go their own way, which is told in the module `large`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::ahead::Ahead;
use super::clock::Now;
use super::connection::{Cause, Connection, NEVER_MS, Phase};
use super::inputs::{INPUT_BYTES, Inputs};
use super::large::{Transfer, is_progress};
use super::shared::{Shared, Station};
use super::together::Kept;
use super::tongue::{Spoken, in_tongue};
use super::transfer::Sent;
use crate::blackbox::{self, Pen};
use crate::dialect::{After, Dialect, Ending, Greeting, Scratch};
use crate::engine::Session;
use crate::execute::{Next, Setting, execute_batch};
use crate::sync::Arc;

/// LIMIT: replies are sent when this much of them is there, even in the middle of a turn.
const OUTPUT_BYTES: usize = 64 << 10;

/// LIMIT: what a turn may write, to its client or into the cache, before the next connection has its turn.
pub(super) const SLICE_BYTES: usize = 1 << 20;

/// LIMIT: an output buffer that long replies have blown up is given back above this.
const OUTPUT_BYTES_KEPT: usize = 1 << 20;

/// What a connection needs after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turned {
    /// Nothing before the next event.
    Wait,
    /// Another turn, after the others had theirs.
    Again,
    /// To be closed.
    Close(Cause),
}

impl Turned {
    /// What a connection needs whose replies are on their way.
    fn after(connection: &Connection) -> Self {
        match connection.readable {
            true => Self::Again,
            false => Self::Wait,
        }
    }
}

/// Why serving stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The input ends within a frame, or between two.
    Starved { needed_bytes: usize },
    /// The socket takes no more replies.
    Blocked,
    /// The turn is used up.
    Exhausted,
    /// Nothing more is to be executed.
    Finish,
}

/// What a worker serves its connections with.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) station: Arc<Station>,
    /// The last reading of the clock: at most a turn old.
    pub(crate) now: Now,
    /// Whether the next turn can do with it.
    now_is_fresh: bool,
    pub(crate) pen: Pen,
    pub(super) session: Session,
    pub(super) inputs: Inputs,
    pub(super) output: Vec<u8>,
    pub(super) kept: Kept,
    scratch: Scratch,
    /// Requests of this turn, refused ones included.
    pub(super) requests: u64,
    /// The counter of bytes sent, when the turn's slice began.
    bytes_out_before: u64,
    /// Bytes that were written into the cache since.
    pub(super) copied_bytes: u64,
    /// Requests up to this length have no large value.
    inline_frame_bytes: usize,
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>, station: Arc<Station>, session: Session) -> Self {
        let now = shared.clock.now();
        let output = Vec::with_capacity(OUTPUT_BYTES);
        let inline_frame_bytes = shared.cache.limits().inline_bytes_max as usize;
        let pen = shared.pen(&station.black_box);
        Self {
            shared,
            station,
            now,
            now_is_fresh: false,
            pen,
            session,
            inputs: Inputs::default(),
            output,
            kept: Kept::default(),
            scratch: Scratch::default(),
            requests: 0,
            bytes_out_before: 0,
            copied_bytes: 0,
            inline_frame_bytes,
        }
    }

    /// Says in the black box whose it is; in the worker's own thread.
    pub(crate) fn introduce(&mut self) {
        self.shared.introduce(&mut self.pen, self.session.number());
    }

    /// Reads the clock, for the turn that comes next too.
    pub(crate) fn tick(&mut self) {
        self.now = self.shared.clock.now();
        self.now_is_fresh = true;
        self.pen.tick(self.now.monotonic_ns);
    }

    /// Reads the clock where the black box has a use for it.
    #[inline]
    pub(super) fn tick_if_recorded(&mut self) {
        if self.pen.is_on() {
            self.tick();
        }
    }

    /// Ends the batch that the pen has begun, if it has.
    #[inline]
    pub(super) fn end_batch(&mut self) {
        if self.pen.is_within_batch() {
            self.tick();
            self.pen.end_batch(self.now.monotonic_ns);
        }
    }

    /// Wakes the maintenance thread, if there is something for it to do.
    #[inline]
    pub(crate) fn call_for_upkeep(&mut self) {
        if self.session.wants_maintenance() {
            self.shared.bell.ring();
        }
    }

    /// Lets go of what has expired or was flushed in the worker's own open segments.
    pub(crate) fn rest(&mut self) {
        self.session.rest(self.now.wall_ms);
    }

    /// Whether there is anything in these.
    pub(crate) fn has_contents(&self) -> bool {
        self.session.has_contents()
    }

    /// Serves what the connection has to be served, where something was read ahead that first. A panic ends this
    /// connection and no other.
    pub(crate) fn turn(&mut self, connection: &mut Connection, ahead: Option<Ahead>) -> Turned {
        self.guarded(connection, |service, connection| {
            service.take_turn(connection, ahead)
        })
    }

    pub(super) fn guarded(
        &mut self,
        connection: &mut Connection,
        work: impl FnOnce(&mut Self, &mut Connection) -> Result<Turned, Cause>,
    ) -> Turned {
        if !std::mem::take(&mut self.now_is_fresh) {
            self.tick();
            self.now_is_fresh = false;
        }
        self.pen.begin_turn(connection.number, connection.peer);
        self.begin_slice();
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self, connection)));
        let turned = outcome.unwrap_or_else(|_| Ok(self.after_panic(connection)));
        self.output.clear();
        if self.output.capacity() > OUTPUT_BYTES_KEPT {
            self.output.shrink_to(OUTPUT_BYTES);
        }
        turned.unwrap_or_else(Turned::Close)
    }

    fn after_panic(&mut self, connection: &mut Connection) -> Turned {
        self.tick();
        self.pen.end_by_panic(self.now.monotonic_ns);
        self.station.counters.panics.add(1);
        tracing::error!("a panic while serving a connection; the connection is closed");
        // Replies that are not sent may be torn, and may lack the last one: none of them is sent.
        self.output.clear();
        if connection.waits_for_reader() {
            return Turned::Close(Cause::Panic);
        }
        self.say_ending(connection, Ending::Internal);
        self.finish(connection)
            .unwrap_or(Turned::Close(Cause::Panic))
    }

    fn take_turn(
        &mut self,
        connection: &mut Connection,
        ahead: Option<Ahead>,
    ) -> Result<Turned, Cause> {
        self.requests = 0;
        if connection.waits_for_reader() {
            match self.send_waiting(connection)? {
                Sent::All => {}
                Sent::Some => return Ok(Turned::Wait),
                Sent::UpToSlice => return Ok(Turned::Again),
            }
            connection.active_ms = self.now.uptime_ms;
            if connection.begun_ms != NEVER_MS {
                connection.begun_ms = self.now.uptime_ms;
            }
        }
        self.pen.enter(blackbox::Phase::Reading);
        match connection.phase {
            Phase::Finishing => self.linger(connection),
            Phase::Lingering => self.discard(connection),
            Phase::Greeting | Phase::Open if connection.is_receiving() => {
                self.receive_large(connection)
            }
            Phase::Greeting | Phase::Open => self.receive(connection, ahead),
        }
    }

    /// Finds the bytes to serve: what was read ahead; or else held ones, if they suffice; or else one read.
    fn receive(
        &mut self,
        connection: &mut Connection,
        ahead: Option<Ahead>,
    ) -> Result<Turned, Cause> {
        let is_long = connection.needed_bytes > INPUT_BYTES;
        if !connection.has_work()
            && is_long
            && let Some(turned) = self.gather(connection)?
        {
            return Ok(turned);
        }
        if connection.has_work() {
            return self.serve_held(connection);
        }
        if is_long {
            return self.after_reading(connection);
        }
        if let Some(mut ahead) = ahead {
            self.fetch(&mut ahead);
            let turned = self.serve_read(connection, &ahead.input, ahead.outcome);
            self.inputs.give_back_ahead(ahead.input);
            return turned;
        }
        let mut input = self.inputs.take();
        let turned = self.serve_scratch(connection, &mut input);
        self.inputs.give_back(input);
        turned
    }

    /// The usual case: what is held, if anything, and one read behind it, in the worker's buffer.
    fn serve_scratch(
        &mut self,
        connection: &mut Connection,
        input: &mut [u8],
    ) -> Result<Turned, Cause> {
        let held_bytes = connection.held.len();
        input[..held_bytes].copy_from_slice(connection.held.as_slice());
        let read_bytes = self.read(connection, &mut input[held_bytes..]);
        let in_all = read_bytes.map(|bytes| match bytes {
            0 => 0,
            bytes => held_bytes + bytes,
        });
        self.serve_read(connection, input, in_all)
    }

    /// Serves what a read has brought, and what was held before it: so many bytes of the input in all, none where
    /// it has brought nothing.
    fn serve_read(
        &mut self,
        connection: &mut Connection,
        input: &[u8],
        read: Result<usize, Cause>,
    ) -> Result<Turned, Cause> {
        let read_bytes = read?;
        if read_bytes == 0 {
            return self.after_reading(connection);
        }
        connection.held.release();
        self.tick_if_recorded();
        let mut bytes = &input[..read_bytes];
        loop {
            let (served_bytes, stop) = self.serve(connection, bytes)?;
            bytes = &bytes[served_bytes..];
            let kept = match stop {
                Stop::Finish => Ok(()),
                _ => connection.held.extend(bytes, &self.shared.budget),
            };
            match (kept, stop) {
                (Ok(()), _) => return self.settle(connection, stop),
                // Fairness gives way where there is no room to be fair.
                (Err(_), Stop::Exhausted) => self.begin_slice(),
                (Err(_), Stop::Starved { .. }) => {
                    return self.refuse_overloaded(connection, bytes);
                }
                (Err(_), _) => return Err(Cause::SlowReader),
            }
        }
    }

    /// Long frames, and frames that had to wait, are served where they are held.
    fn serve_held(&mut self, connection: &mut Connection) -> Result<Turned, Cause> {
        let mut held = std::mem::take(&mut connection.held);
        let (served_bytes, stop) = self.serve(connection, held.as_slice())?;
        held.consume(served_bytes);
        connection.held = held;
        self.settle(connection, stop)
    }

    /// Reads on into the held part of a frame that is larger than the worker's buffer. Where there
    /// is no room for it, the turn ends with a refusal.
    fn gather(&mut self, connection: &mut Connection) -> Result<Option<Turned>, Cause> {
        if !connection.readable {
            return Ok(None);
        }
        let missing_bytes = connection.needed_bytes - connection.held.len();
        let mut held = std::mem::take(&mut connection.held);
        let chunk_bytes = missing_bytes.max(connection.tongue.gather_bytes_min());
        let chunk_bytes = chunk_bytes.min(INPUT_BYTES);
        let read = |buffer: &mut [u8]| self.read(connection, buffer);
        match held.fill(chunk_bytes, &self.shared.budget, read) {
            Ok(outcome) => {
                connection.held = held;
                outcome.map(|_| None)
            }
            Err(_) => self
                .refuse_overloaded(connection, held.as_slice())
                .map(Some),
        }
    }

    /// Answers a frame that there is no room for, and skips it. `begun` is what of it is here.
    fn refuse_overloaded(
        &mut self,
        connection: &mut Connection,
        begun: &[u8],
    ) -> Result<Turned, Cause> {
        connection.needed_bytes = 0;
        match self.say_overloaded(connection, begun) {
            After::Close => self.finish(connection),
            After::Skip { bytes } => {
                connection.skip_bytes = bytes.saturating_sub(begun.len() as u64);
                self.settle(connection, Stop::Starved { needed_bytes: 0 })
            }
        }
    }

    pub(super) fn say_overloaded(&mut self, connection: &Connection, begun: &[u8]) -> After {
        self.station.counters.refused_overloaded.add(1);
        self.requests += 1;
        let (shared, out) = (&self.shared, &mut self.output);
        in_tongue!(connection.tongue, D => D::of(shared).refuse_overloaded(begun, out))
    }

    /// Executes what can be executed of `bytes`; says how many it took and why it stopped.
    fn serve(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<(usize, Stop), Cause> {
        let served = self.serve_batches(connection, bytes);
        self.end_batch();
        served
    }

    fn serve_batches(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
    ) -> Result<(usize, Stop), Cause> {
        let mut at = 0;
        if connection.is_sending() {
            match self.send(connection)? {
                Sent::All => {}
                Sent::Some => return Ok((at, Stop::Blocked)),
                Sent::UpToSlice => return Ok((at, Stop::Exhausted)),
            }
        }
        loop {
            at += self.skip(connection, bytes.len() - at);
            let rest = &bytes[at..];
            if rest.is_empty() {
                return Ok((at, Stop::Starved { needed_bytes: 0 }));
            }
            let (took, stop) = match connection.phase {
                Phase::Greeting => self.greet(connection, rest),
                _ => in_tongue!(connection.tongue, D => self.execute::<D>(connection, rest)),
            };
            at += took;
            if let Some(stop) = stop {
                return Ok((at, stop));
            }
            let has_room = self.output.len() < OUTPUT_BYTES && !connection.is_sending();
            // A request that is answered in part although there is room for more has had its share; so have requests
            // that have copied much.
            let had_its_share =
                has_room && connection.answered > 0 || self.copied_bytes >= SLICE_BYTES as u64;
            if has_room && !had_its_share {
                if self.pen.is_batch_full() {
                    self.end_batch();
                }
                continue;
            }
            self.end_batch();
            let sent = self.send(connection)?;
            if sent == Sent::Some {
                return Ok((at, Stop::Blocked));
            }
            let is_over = had_its_share || self.sent_in_turn() >= SLICE_BYTES as u64;
            if sent == Sent::UpToSlice || is_over {
                self.station.counters.slices_exhausted.add(1);
                return Ok((at, Stop::Exhausted));
            }
        }
    }

    fn greet(&mut self, connection: &mut Connection, bytes: &[u8]) -> (usize, Option<Stop>) {
        let (shared, out) = (&self.shared, &mut self.output);
        match in_tongue!(connection.tongue, D => D::of(shared).greet(bytes, out)) {
            Greeting::Done { bytes } => {
                connection.phase = Phase::Open;
                self.requests += 1;
                (bytes, None)
            }
            Greeting::Incomplete { needed_bytes } => (0, Some(Stop::Starved { needed_bytes })),
            Greeting::Refused => {
                self.station.counters.closed_protocol_error.add(1);
                (bytes.len(), Some(Stop::Finish))
            }
        }
    }

    /// One batch, under one pin.
    fn execute<D: Spoken>(
        &mut self,
        connection: &mut Connection,
        bytes: &[u8],
    ) -> (usize, Option<Stop>) {
        #[cfg(test)]
        tests::panic_where_asked(bytes);
        let shared: &Shared = &self.shared;
        let dialect = D::of(shared);
        self.scratch.clear();
        let setting = Setting {
            now_ms: self.now.wall_ms,
            answered: connection.answered,
            scratch: &self.scratch,
            report: shared,
            quarantine: shared.quarantine(self.now),
            out_bytes_max: OUTPUT_BYTES,
            copied_bytes_max: (SLICE_BYTES as u64).saturating_sub(self.copied_bytes),
        };
        self.pen.enter(blackbox::Phase::Parsing);
        let mut guard = self.session.pin(self.now.wall_ms);
        let (out, pen) = (&mut self.output, &mut self.pen);
        let round = execute_batch(dialect, &mut guard, setting, bytes, out, pen);
        drop(guard);
        connection.answered = round.answered;
        self.copied_bytes += round.copied_bytes;
        if round.answered > 0 {
            // What is still to be answered of it is not for the client to bring.
            connection.begun_ms = self.now.uptime_ms;
        }
        if let Some(follow) = round.large {
            connection.transfer = Some(Box::new(Transfer::sending(follow)));
        }
        let counters = &self.station.counters;
        self.requests += round.requests;
        if round.requests > 0 {
            counters.batches.add(1);
            counters.requests.add(round.requests);
        }
        if round.quarantined > 0 {
            counters.refused_quarantined.add(round.quarantined);
            shared.die_of_deadly_key(&self.station.black_box, &mut self.pen, self.now);
        }
        let stop = match round.next {
            Next::More => None,
            Next::Incomplete { needed_bytes } if needed_bytes > self.inline_frame_bytes => {
                let begun = &bytes[round.consumed_bytes..];
                let (took, stop) = self.begin_receiving::<D>(connection, begun, needed_bytes);
                return (round.consumed_bytes + took, stop);
            }
            Next::Incomplete { needed_bytes } => Some(Stop::Starved { needed_bytes }),
            Next::Quit => Some(Stop::Finish),
            Next::Refused { refusal, after } => {
                dialect.refuse(&refusal, &mut self.output);
                self.requests += 1;
                counters.requests.add(1);
                match after {
                    After::Skip { bytes } => {
                        counters.refused_requests.add(1);
                        connection.skip_bytes = bytes;
                        None
                    }
                    After::Close => {
                        counters.closed_protocol_error.add(1);
                        Some(Stop::Finish)
                    }
                }
            }
        };
        (round.consumed_bytes, stop)
    }

    /// Drops what is to be skipped of the next `available` bytes; says how many that were.
    fn skip(&self, connection: &mut Connection, available: usize) -> usize {
        let skipped = connection.skip_bytes.min(available as u64);
        let left = connection.skip_bytes - skipped;
        if is_progress(connection.skip_bytes, left) {
            connection.begun_ms = self.now.uptime_ms;
        }
        connection.skip_bytes = left;
        skipped as usize
    }

    fn begin_slice(&mut self) {
        self.bytes_out_before = self.station.counters.bytes_out.get();
        self.copied_bytes = 0;
    }

    /// What was sent since the turn began.
    pub(super) fn sent_in_turn(&self) -> u64 {
        let bytes_out = self.station.counters.bytes_out.get();
        bytes_out.wrapping_sub(self.bytes_out_before)
    }

    /// Counts a request that was not part of a batch.
    pub(super) fn count_request(&mut self) {
        self.requests += 1;
        self.station.counters.requests.add(1);
    }

    /// Sends the replies of the turn and decides what comes next.
    pub(super) fn settle(
        &mut self,
        connection: &mut Connection,
        stop: Stop,
    ) -> Result<Turned, Cause> {
        connection.needed_bytes = match stop {
            Stop::Starved { needed_bytes } => needed_bytes,
            _ => 0,
        };
        let within_frame =
            !connection.held.is_empty() || connection.skip_bytes > 0 || connection.is_receiving();
        if !within_frame {
            connection.begun_ms = NEVER_MS;
        } else if self.requests > 0 || connection.begun_ms == NEVER_MS {
            connection.begun_ms = self.now.uptime_ms;
        }
        match stop {
            Stop::Finish => self.finish(connection),
            Stop::Blocked => Ok(Turned::Wait),
            Stop::Exhausted => Ok(Turned::Again),
            Stop::Starved { .. } => self.after_reading(connection),
        }
    }

    /// All that was read is served: what is left is to send, and to read on or to finish.
    pub(super) fn after_reading(&mut self, connection: &mut Connection) -> Result<Turned, Cause> {
        if connection.read_to_end {
            return self.finish(connection);
        }
        if self.keep_replies(connection) {
            return Ok(Turned::after(connection));
        }
        match self.send(connection)? {
            Sent::All => Ok(Turned::after(connection)),
            Sent::UpToSlice => Ok(Turned::Again),
            Sent::Some => Ok(Turned::Wait),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
