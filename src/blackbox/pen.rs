//! The pen: what the thread writes into its box, and the little that it keeps to itself for that.
//!
//! ```text
//! begin_turn ──> enter(Reading) ──> tick ──> enter(Parsing) ──> begin_batch ──┐
//!    ^                                          ^   while there is more      v
//!    └── enter(Writing) <── end_batch(now) <────┴── (begin ──> end) for each operation
//! ```
//!
//! An operation is written down before it is executed, so that a death or a hang in the middle of it
//! has a name, and completed after. That is three stores of a word; whatever can be is written once
//! for a batch.

use std::time::Duration;

use super::board;
use super::content::BlackBox;
use super::latency;
use super::layout::{
    BATCHES_AT, BUILD_WORDS, CONNECTIONS_AT, IDENTITY_AT, NOW_AT, OPERATIONS_AT, OPERATIONS_MAX,
    SERVED_AT, TAKEN_AT, TURNS_AT, WAITING_AT,
};
use super::names::{Operation, Outcome, Phase};
use super::peer::PackedPeer;
use super::ring::{self, Batch, Ring};
use super::sequence::{Sequence, fitting, text_words};
use super::snapshot::PHASE_BITS;
use crate::sync::{Arc, Ordering};

/// LIMIT: a batch of so many operations or more goes on no further, since each has the time of all.
const BATCH_OPERATIONS: u64 = 64;

/// The operations that are counted in one by one; reads are the rest of a batch.
const COUNTED_APART: Operation = Operation::Get;

/// Who holds a pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread<'t> {
    /// Its process.
    pub process: u32,
    /// Itself, as the system knows it.
    pub thread: u32,
    /// The number of its session with the cache; 0: it has none.
    pub session: u32,
    /// When it began, since the Unix epoch.
    pub started: Duration,
    /// What program it runs.
    pub build: &'t str,
}

/// Writes into a box, for the thread whose box it is.
#[derive(Debug)]
pub struct Pen {
    /// `None`: nothing is written.
    black_box: Option<Arc<BlackBox>>,
    /// The last reading of the monotonic clock.
    now_ns: u64,
    turns: u64,
    /// Operations that have ended.
    operations: u64,
    /// Batches that have begun.
    batches: u64,
    /// Whether the last of them has not ended.
    is_within: bool,
    batch: Batch,
    /// What is written down of the operation that has begun and not ended; `None`: there is none.
    open: Option<u64>,
    /// The connection whose number is in the box.
    served: u64,
    /// Operations of this batch, by kind, [`COUNTED_APART`] aside.
    counts: [u16; OPERATIONS_MAX],
    /// Of which kinds there are any, a bit for each.
    counted: u32,
}

/// Writes down one read after the other, [`Operation::Get`] each.
pub struct Reads<'p> {
    /// `None`: nothing is written.
    ring: Option<Ring<'p>>,
    /// As in the pen, which has it back in the end, also when that is a panic.
    number: u64,
    pens: (&'p mut u64, &'p mut Option<u64>),
}

/// What is written down of a read that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Begun(u64);

impl Reads<'_> {
    /// [`Pen::begin`].
    #[inline(always)]
    pub fn begin(&mut self, key_hash: u64, key_bytes: usize) -> Begun {
        let Some(ring) = &self.ring else {
            return Begun(0);
        };
        let description = ring::describe(self.number, COUNTED_APART, key_bytes, 0);
        ring::begin(ring, self.number, key_hash, description);
        Begun(description)
    }

    /// [`Pen::end`] of the read that was begun last.
    #[inline(always)]
    pub fn end(&mut self, begun: Begun, outcome: Outcome, value_bytes: usize) {
        if let Some(ring) = &self.ring {
            ring::end_read(ring, self.number, begun.0, outcome, value_bytes);
            self.number = self.number.wrapping_add(1);
        }
    }
}

impl Drop for Reads<'_> {
    #[inline]
    fn drop(&mut self) {
        let (operations, open) = &mut self.pens;
        **operations = self.number;
        // Whether one is open is not kept while they go on: the ring says it.
        **open = (self.ring.as_ref()).and_then(|ring| ring::open(ring, self.number));
    }
}

impl Pen {
    /// The pen of a box. A box has one, in the thread whose box it is.
    pub fn new(black_box: Arc<BlackBox>) -> Self {
        Self {
            turns: black_box.figure(TURNS_AT),
            operations: black_box.figure(OPERATIONS_AT),
            batches: black_box.figure(BATCHES_AT),
            black_box: Some(black_box),
            ..Self::off()
        }
    }

    /// A pen that writes nothing.
    pub fn off() -> Self {
        Self {
            black_box: None,
            now_ns: 0,
            turns: 0,
            operations: 0,
            batches: 0,
            is_within: false,
            batch: Batch::default(),
            open: None,
            served: 0,
            counts: [0; OPERATIONS_MAX],
            counted: 0,
        }
    }

    /// Whether anything is written.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.black_box.is_some()
    }

    /// Says who writes, as the thread begins.
    pub fn introduce(&mut self, thread: &Thread<'_>) {
        let build = fitting(thread.build, BUILD_WORDS * 8);
        let started_ms = u64::try_from(thread.started.as_millis()).unwrap_or(u64::MAX);
        let words = [
            thread.process.into(),
            thread.thread.into(),
            thread.session.into(),
            self.now_ns,
            started_ms,
            build.len() as u64,
        ];
        let words = words.into_iter().chain(text_words(build.as_bytes()));
        if let Some(black_box) = &self.black_box {
            Sequence { at: IDENTITY_AT }.write(&black_box.arena, words);
        }
    }

    /// Notes what the monotonic clock says. Everything until the next note has this time.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Says what the thread does from the last [`tick`](Self::tick) on.
    #[inline]
    pub fn enter(&mut self, phase: Phase) {
        self.set_figure(NOW_AT, self.now_ns << PHASE_BITS | phase as u64);
    }

    /// Says how much waits for the thread, as far as it knows.
    #[inline]
    pub fn set_waiting(&mut self, waiting: u64) {
        self.set_figure(WAITING_AT, waiting);
    }

    /// Says how many connections the thread has, and how many it has ever taken over.
    pub fn set_connections(&mut self, connections: u64, taken: u64) {
        self.set_figure(CONNECTIONS_AT, connections);
        self.set_figure(TAKEN_AT, taken);
    }

    /// Counts a turn, of whatever kind: progress.
    #[inline]
    pub fn count_turn(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        self.set_figure(TURNS_AT, self.turns);
    }

    /// Begins the turn of a connection. Its number is not 0.
    #[inline]
    pub fn begin_turn(&mut self, connection: u64, peer: PackedPeer) {
        self.count_turn();
        if self.is_on() && self.served != connection {
            self.name_served(connection, peer);
        }
    }

    fn name_served(&mut self, connection: u64, peer: PackedPeer) {
        self.served = connection;
        let [low, high, last] = peer.0;
        let words = [connection, low, high, last];
        if let Some(black_box) = &self.black_box {
            Sequence { at: SERVED_AT }.write(&black_box.arena, words);
        }
    }

    #[inline]
    fn set_figure(&self, at: u64, figure: u64) {
        if let Some(black_box) = &self.black_box {
            black_box.set_figure(at, figure);
        }
    }

    /// Begins a batch of so many operations, at most, of the connection whose turn it is; or goes on with
    /// so many more in the one that has not ended.
    #[inline]
    pub fn begin_batch(&mut self, operations: usize) {
        let Some(black_box) = self.black_box.as_ref().filter(|_| operations > 0) else {
            return;
        };
        let arena = &black_box.arena;
        let announced = self.operations.wrapping_add(operations as u64);
        // ORDERING: Relaxed, here and below; the Release of each word of an entry carries them to who reads it.
        arena
            .word(OPERATIONS_AT)
            .store(announced, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_within, true) {
            self.batch = Batch {
                number: self.batches,
                start_ns: self.now_ns,
                first: self.operations,
                connection: self.served,
            };
            self.batches = self.batches.wrapping_add(1);
            arena
                .word(BATCHES_AT)
                .store(self.batches, Ordering::Relaxed);
            self.batch.begin(arena);
        }
        self.enter(Phase::Executing);
    }

    /// Whether a batch has begun and not ended.
    #[inline]
    pub fn is_within_batch(&self) -> bool {
        self.is_within
    }

    /// Whether the batch that has not ended is to, before another operation begins.
    #[inline]
    pub fn is_batch_full(&self) -> bool {
        self.is_within && self.operations.wrapping_sub(self.batch.first) >= BATCH_OPERATIONS
    }

    /// Begins an operation of the batch. Where it has no key, or many, the hash is 0 for now.
    #[inline]
    pub fn begin(
        &mut self,
        operation: Operation,
        key_hash: u64,
        key_bytes: usize,
        value_bytes: usize,
    ) {
        let Some(black_box) = &self.black_box else {
            return;
        };
        if operation != COUNTED_APART {
            self.counts[operation as usize] += 1;
            self.counted |= 1 << operation as u32;
        }
        let description = ring::describe(self.operations, operation, key_bytes, value_bytes);
        ring::begin(
            &ring::of(&black_box.arena),
            self.operations,
            key_hash,
            description,
        );
        self.open = Some(description);
    }

    /// The operations of the batch from here on, as long as they are all of the kind that is counted
    /// in no other way: what each of them needs is at hand.
    #[inline]
    pub fn reads(&mut self) -> Reads<'_> {
        let black_box = self.black_box.as_ref();
        Reads {
            ring: black_box.map(|black_box| ring::of(&black_box.arena)),
            number: self.operations,
            pens: (&mut self.operations, &mut self.open),
        }
    }

    /// Names the key that an operation of many keys has come to.
    #[inline]
    pub fn at_key(&mut self, key_hash: u64) {
        if let (Some(_), Some(black_box)) = (self.open, &self.black_box) {
            ring::rename(&ring::of(&black_box.arena), self.operations, key_hash);
        }
    }

    /// Ends the operation that was begun last. `value_bytes` are those that it gave, if any.
    #[inline]
    pub fn end(&mut self, outcome: Outcome, value_bytes: usize) {
        if let (Some(description), Some(black_box)) = (self.open.take(), &self.black_box) {
            let ring = ring::of(&black_box.arena);
            ring::end(&ring, self.operations, description, outcome, value_bytes);
            self.operations = self.operations.wrapping_add(1);
        }
    }

    /// Ends the batch, at this time of the monotonic clock, which is noted as
    /// [`tick`](Self::tick) does.
    #[inline]
    pub fn end_batch(&mut self, now_ns: u64) {
        self.tick(now_ns);
        let Some(black_box) = &self.black_box else {
            return;
        };
        if !std::mem::take(&mut self.is_within) {
            return;
        }
        let arena = &black_box.arena;
        let duration_ns = now_ns.saturating_sub(self.batch.start_ns);
        self.batch.end(arena, duration_ns);
        // Not all that were announced may have come to be executed.
        // ORDERING: Relaxed; places that were not used are what they were.
        arena
            .word(OPERATIONS_AT)
            .store(self.operations, Ordering::Relaxed);
        let mut reads = self.operations.wrapping_sub(self.batch.first);
        while self.counted != 0 {
            let kind = self.counted.trailing_zeros() as usize;
            self.counted &= self.counted - 1;
            let count = u64::from(std::mem::take(&mut self.counts[kind]));
            reads = reads.wrapping_sub(count);
            latency::count(arena, Operation::ALL[kind], duration_ns, count);
        }
        if reads > 0 {
            latency::count(arena, COUNTED_APART, duration_ns, reads);
        }
    }

    /// Ends what a panic has left open.
    #[cold]
    pub fn end_by_panic(&mut self, now_ns: u64) {
        self.end(Outcome::Panicked, 0);
        self.end_batch(now_ns);
    }

    /// Rewrites the board: lines of `name=value`, of which as many are kept as there is room for.
    pub fn write_board(&mut self, text: &str) {
        if let Some(black_box) = &self.black_box {
            board::write(&black_box.arena, self.now_ns, text);
        }
    }
}
