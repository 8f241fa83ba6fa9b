//! What the black box is told of each request: what it asks for, and what came of it.

use crate::blackbox::{Operation, Outcome, Pen};
use crate::dialect::{Failure, Reply, Request, Room};
use crate::engine::{Arithmetic, Counted, Inspected, Item, Key, LargeValue, Leased, Mode, Side};

/// Begins to record an operation on one key.
#[inline]
pub(super) fn begin(pen: &mut Pen, operation: Operation, key: &Key<'_>, value_bytes: usize) {
    pen.begin(operation, key.hash.0, key.bytes.len(), value_bytes);
}

/// What a request asks for, in one word.
pub(super) fn operation_of(request: &Request<'_>) -> Operation {
    match request {
        Request::Get { .. } => Operation::Get,
        Request::Peek { .. } => Operation::Peek,
        Request::GetAndTouch { .. } => Operation::GetAndTouch,
        Request::Touch { .. } => Operation::Touch,
        Request::Store { mode, .. } => stored_by(*mode),
        Request::Join { side, .. } => match side {
            Side::Back => Operation::Append,
            Side::Front => Operation::Prepend,
        },
        Request::Count { by, .. } => match by {
            Arithmetic::Increment(_) => Operation::Increment,
            Arithmetic::Decrement(_) => Operation::Decrement,
        },
        Request::Delete { .. } => Operation::Delete,
        Request::GetOrLease { .. } => Operation::GetOrLease,
        Request::Invalidate { .. } => Operation::Invalidate,
        Request::EndLease { .. } => Operation::EndLease,
        Request::GetEach { .. } => Operation::GetEach,
        Request::MultiGet(_) => Operation::MultiGet,
        Request::MultiSet(_) => Operation::MultiSet,
        Request::MultiDelete(_) => Operation::MultiDelete,
        Request::Flush { .. } => Operation::Flush,
        Request::Scan { .. } | Request::ScanAll { .. } => Operation::Scan,
        Request::Stats { .. } => Operation::Stats,
        Request::ResetStats => Operation::ResetStats,
        Request::Ping { .. } => Operation::Ping,
        Request::Quit => Operation::Quit,
    }
}

/// The store that a mode is.
pub(super) fn stored_by(mode: Mode) -> Operation {
    match mode {
        Mode::Set => Operation::Set,
        Mode::Add => Operation::Add,
        Mode::Replace => Operation::Replace,
        Mode::Append => Operation::Append,
        Mode::Prepend => Operation::Prepend,
        Mode::CompareAndSet { .. } | Mode::CompareAndSetStale { .. } => Operation::CompareAndSet,
    }
}

/// The length of the value that a request brings.
pub(super) fn value_bytes_of(request: &Request<'_>) -> usize {
    match request {
        Request::Store { entry, .. } => entry.value.len(),
        Request::Join { value, .. } => value.len(),
        Request::Ping { echo } => echo.len(),
        _ => 0,
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) outcome: Outcome,
    /// The length of the value that it gave, or of all.
    pub(super) value_bytes: u64,
}

impl Note {
    pub(super) fn of(failure: Failure) -> Self {
        Self {
            outcome: outcome_of(failure),
            value_bytes: 0,
        }
    }
}

fn outcome_of(failure: Failure) -> Outcome {
    match failure {
        Failure::NotFound => Outcome::Miss,
        Failure::NotStored => Outcome::NotStored,
        Failure::Exists => Outcome::Exists,
        Failure::NotANumber => Outcome::NotANumber,
        Failure::TooLarge { .. } | Failure::ExtendedTooLarge { .. } | Failure::ToBeReadAlone => {
            Outcome::TooLarge
        }
        Failure::NoSpace => Outcome::NoSpace,
        Failure::Quarantined => Outcome::Quarantined,
        Failure::KeyEmpty
        | Failure::KeyTooLong { .. }
        | Failure::Unterminated
        | Failure::NoSuchStats { .. } => Outcome::Refused,
    }
}

/// A reply that notes what it says.
pub(super) struct Noted<R> {
    reply: R,
    note: Note,
}

impl<R: Reply> Noted<R> {
    #[inline(always)]
    pub(super) fn new(reply: R) -> Self {
        let note = Note {
            outcome: Outcome::Done,
            value_bytes: 0,
        };
        Self { reply, note }
    }

    #[inline(always)]
    pub(super) fn note(&self) -> Note {
        self.note
    }

    #[inline(always)]
    fn hit(&mut self, item: &Item<'_>) {
        self.note = Note {
            outcome: Outcome::Hit,
            value_bytes: item.value_bytes(),
        };
    }

    /// One of many.
    #[inline]
    fn one(&mut self, found: Result<&Item<'_>, Failure>) {
        if let Ok(item) = found {
            self.note.value_bytes = self.note.value_bytes.saturating_add(item.value_bytes());
        }
    }
}

impl<R: Reply> Reply for Noted<R> {
    #[inline(always)]
    fn item(&mut self, item: &Item<'_>) {
        self.hit(item);
        self.reply.item(item);
    }

    fn large_item(&mut self, item: &Item<'_>) {
        self.hit(item);
        self.reply.large_item(item);
    }

    fn inspected(&mut self, inspected: &Inspected<'_>) {
        self.note.outcome = Outcome::Hit;
        self.reply.inspected(inspected);
    }

    fn leased(&mut self, leased: &Leased<'_>) {
        match &leased.item {
            Some(item) if !item.is_placeholder() => self.hit(item),
            _ => self.note.outcome = Outcome::Miss,
        }
        self.reply.leased(leased);
    }

    #[inline]
    fn stored(&mut self, version: u64) {
        self.note.outcome = Outcome::Stored;
        self.reply.stored(version);
    }

    fn joined(&mut self, version: u64, value_bytes: u64) {
        self.note.outcome = Outcome::Stored;
        self.reply.joined(version, value_bytes);
    }

    fn counter(&mut self, counted: &Counted) {
        self.note.outcome = Outcome::Stored;
        self.reply.counter(counted);
    }

    fn done(&mut self) {
        self.reply.done();
    }

    #[inline]
    fn failed(&mut self, failure: Failure) {
        self.note = Note::of(failure);
        self.reply.failed(failure);
    }

    fn echo(&mut self, bytes: &[u8]) {
        self.reply.echo(bytes);
    }

    fn stats(&mut self, figures: &[(String, String)]) {
        self.reply.stats(figures);
    }

    fn behind_large(&self) -> &'static [u8] {
        self.reply.behind_large()
    }

    #[inline]
    fn wants_value(&self, item: &Item<'_>) -> bool {
        self.reply.wants_value(item)
    }

    #[inline]
    fn each(&mut self, found: Result<&Item<'_>, Failure>, large: Option<&LargeValue>) {
        self.one(found);
        self.reply.each(found, large);
    }

    fn end_each(&mut self) {
        self.reply.end_each();
    }

    #[inline]
    fn written_bytes(&self) -> usize {
        self.reply.written_bytes()
    }

    fn begin_items(&mut self, asked: u32) {
        self.reply.begin_items(asked);
    }

    #[inline]
    fn push_item(&mut self, found: Result<&Item<'_>, Failure>, large: Option<&LargeValue>) -> Room {
        self.one(found);
        self.reply.push_item(found, large)
    }

    fn end_items(&mut self) {
        self.reply.end_items();
    }

    fn begin_outcomes(&mut self) {
        self.reply.begin_outcomes();
    }

    #[inline]
    fn push_outcome(&mut self, outcome: Result<(), Failure>) {
        self.reply.push_outcome(outcome);
    }

    fn end_outcomes(&mut self) {
        self.reply.end_outcomes();
    }

    fn begin_page(&mut self) {
        self.reply.begin_page();
    }

    fn push_key(&mut self, inspected: &Inspected<'_>) -> Room {
        self.reply.push_key(inspected)
    }

    fn end_page(&mut self, next_cursor: Option<u64>) {
        self.reply.end_page(next_cursor);
    }
}
