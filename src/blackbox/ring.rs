//! The rings: the last operations, and the batches that they were executed in.
//!
//! Entry `n` has place `n` modulo the size of its ring. Readers know an entry by its *lap*, which
//! filling of the ring it is of, as it stands in its last word: of an entry that is announced and
//! not written yet they find an older lap. And they look once more at how far entries are announced
//! when they have read one: if its place was to be used again by then, what they read may be mixed,
//! and they leave it out.
//!
//! ```text
//! an operation   key hash                                                     1 word
//!                lap 8 | operation 6 | outcome 4 | key bytes 16 | value bytes 30
//! a batch        start, duration + 1 (0: not ended), first operation          3 words
//!                lap 16 | connection 48
//! ```

use std::fmt;

use super::layout::{BATCH_BYTES, BATCH_RING_AT, BATCHES_AT, OPERATIONS_AT, RECORD_BYTES, RING_AT};
use super::names::{Operation, Outcome};
use crate::arena::{Arena, Words};
use crate::shape::BOX_OPERATIONS;
use crate::sync::Ordering;

const VALUE_BITS: u32 = 30;
const KEY_BITS: u32 = 16;
const OUTCOME_BITS: u32 = 4;
const OPERATION_BITS: u32 = 6;
const KEY_SHIFT: u32 = VALUE_BITS;
const OUTCOME_SHIFT: u32 = KEY_SHIFT + KEY_BITS;
const OPERATION_SHIFT: u32 = OUTCOME_SHIFT + OUTCOME_BITS;
const LAP_SHIFT: u32 = OPERATION_SHIFT + OPERATION_BITS;
/// LIMIT: sizes above these stand for themselves and all larger ones.
const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;
const KEY_MAX: u64 = (1 << KEY_BITS) - 1;

/// LIMIT: operations of one batch; the open one is among the last that were announced.
const ANNOUNCED_MAX: u64 = 64;

/// Words of the ring of operations. It is looked at as a whole, so that a place in it needs no check.
const RING_WORDS: usize = (BOX_OPERATIONS * RECORD_BYTES / 8) as usize;

const CONNECTION_BITS: u32 = 48;
const CONNECTION_MAX: u64 = (1 << CONNECTION_BITS) - 1;

/// Which operation on which key: what two deaths may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// What was asked for.
    pub operation: Operation,
    /// The hash of the key, as the cache has it.
    pub key_hash: u64,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of key {:016x}", self.operation, self.key_hash)
    }
}

impl Fingerprint {
    /// In one word, as [`from_str`](std::str::FromStr) takes it.
    pub fn to_word(self) -> String {
        format!("{}:{:016x}", self.operation, self.key_hash)
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let accepted = || {
            format!(
                "`{text}` is no fingerprint; accepted: OPERATION:HASH, such as get:00c0ffee00c0ffee"
            )
        };
        let (operation, key_hash) = text.split_once(':').ok_or_else(accepted)?;
        Ok(Self {
            operation: operation.parse()?,
            key_hash: u64::from_str_radix(key_hash, 16).map_err(|_| accepted())?,
        })
    }
}

/// An operation, as its entry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Which it is of all that the thread has executed, from 0 on.
    pub number: u64,
    /// What was asked for; `None`: the box is damaged.
    pub operation: Option<Operation>,
    /// What came of it; `None`: the box is damaged.
    pub outcome: Option<Outcome>,
    /// The hash of its key, or of the last that it came to; 0: it has none.
    pub key_hash: u64,
    /// The length of the key, or 65,535 if it is more.
    pub key_bytes: u32,
    /// The length of the value that was given to it, or by it.
    pub value_bytes: u32,
    /// When its batch began, by the monotonic clock, and how long it took, in nanoseconds; 0: it has
    /// not ended. `None`: it is not known any more.
    pub batch: Option<(u64, u64)>,
    /// The number of the connection that asked for it.
    pub connection: Option<u64>,
}

impl Record {
    /// Whether it has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.outcome == Some(Outcome::Begun)
    }

    /// Which operation on which key; `None` where it has no key.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let key_hash = Some(self.key_hash).filter(|hash| *hash != 0)?;
        let operation = self.operation?;
        Some(Fingerprint {
            operation,
            key_hash,
        })
    }
}

/// From 1 on, since memory that was never written to is 0.
#[inline]
fn lap(number: u64) -> u64 {
    (number / BOX_OPERATIONS).wrapping_add(1)
}

/// The last word of an operation's entry, before its outcome is known.
#[inline]
pub(super) fn describe(
    number: u64,
    operation: Operation,
    key_bytes: usize,
    value_bytes: usize,
) -> u64 {
    let key_bytes = (key_bytes as u64).min(KEY_MAX);
    let value_bytes = (value_bytes as u64).min(VALUE_MAX);
    lap(number) << LAP_SHIFT
        | (operation as u64) << OPERATION_SHIFT
        | key_bytes << KEY_SHIFT
        | value_bytes
}

/// The ring of operations.
pub(super) type Ring<'a> = Words<'a, RING_WORDS>;

/// That of a box.
#[inline]
pub(super) fn of(arena: &Arena) -> Ring<'_> {
    arena.words(RING_AT)
}

/// Where the two words of an operation's entry are in the ring.
#[inline]
fn places(number: u64) -> [usize; 2] {
    let first = (number % BOX_OPERATIONS * 2) as usize;
    [first, first + 1]
}

/// Writes down that an operation has begun.
#[inline]
pub(super) fn begin(ring: &Ring<'_>, number: u64, key_hash: u64, description: u64) {
    let [key, last] = places(number);
    // ORDERING: Release, both: they carry the announcement that was made before; and who sees the lap in
    // the second sees the first.
    ring[key].store(key_hash, Ordering::Release);
    ring[last].store(description, Ordering::Release);
}

/// What is written down of the operation of this number, if it has begun and not ended. For who writes.
pub(super) fn open(ring: &Ring<'_>, number: u64) -> Option<u64> {
    let [_, last] = places(number);
    // ORDERING: Relaxed; the caller's own words.
    let word = ring[last].load(Ordering::Relaxed);
    let outcome = word >> OUTCOME_SHIFT & ((1 << OUTCOME_BITS) - 1);
    let is_of_lap = word >> LAP_SHIFT == (lap(number) << LAP_SHIFT) >> LAP_SHIFT;
    (is_of_lap && outcome == Outcome::Begun as u64).then_some(word)
}

/// Writes down which key an operation of many has come to.
#[inline]
pub(super) fn rename(ring: &Ring<'_>, number: u64, key_hash: u64) {
    let [key, _] = places(number);
    // ORDERING: Release, as in `begin`.
    ring[key].store(key_hash, Ordering::Release);
}

/// Writes down that an operation was done, and gave a value of so many bytes; it was given none.
#[inline(always)]
pub(super) fn end_read(
    ring: &Ring<'_>,
    number: u64,
    description: u64,
    outcome: Outcome,
    value_bytes: usize,
) {
    let value_bytes = (value_bytes as u64).min(VALUE_MAX);
    let [_, last] = places(number);
    // ORDERING: Release, as in `begin`.
    ring[last].store(
        description | (outcome as u64) << OUTCOME_SHIFT | value_bytes,
        Ordering::Release,
    );
}

/// Writes down what came of an operation.
#[inline]
pub(super) fn end(
    ring: &Ring<'_>,
    number: u64,
    description: u64,
    outcome: Outcome,
    value_bytes: usize,
) {
    let mut word = description | (outcome as u64) << OUTCOME_SHIFT;
    if value_bytes > 0 {
        word = word & !VALUE_MAX | (value_bytes as u64).min(VALUE_MAX);
    }
    let [_, last] = places(number);
    // ORDERING: Release, as in `begin`.
    ring[last].store(word, Ordering::Release);
}

/// A batch, as the writer knows it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) start_ns: u64,
    /// The number of its first operation.
    pub(super) first: u64,
    pub(super) connection: u64,
}

impl Batch {
    fn at(number: u64) -> u64 {
        BATCH_RING_AT + number % BOX_OPERATIONS * BATCH_BYTES
    }

    #[inline]
    pub(super) fn begin(&self, arena: &Arena) {
        let words = arena.words::<4>(Self::at(self.number));
        let last = lap(self.number) << CONNECTION_BITS | self.connection & CONNECTION_MAX;
        // ORDERING: Release, as those of an operation.
        words[0].store(self.start_ns, Ordering::Release);
        words[1].store(0, Ordering::Release);
        words[2].store(self.first, Ordering::Release);
        words[3].store(last, Ordering::Release);
    }

    #[inline]
    pub(super) fn end(&self, arena: &Arena, duration_ns: u64) {
        let word = arena.word(Self::at(self.number) + 8);
        // ORDERING: Release, as those of an operation.
        word.store(duration_ns.saturating_add(1), Ordering::Release);
    }
}

/// A batch, as a reader finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) start_ns: u64,
    /// 0: it has not ended.
    pub(super) duration_ns: u64,
    /// The number of its first operation.
    pub(super) first: u64,
    pub(super) connection: u64,
}

/// The last entries of a ring that are whole, up to `count`: `read` gives one, or `None` where it is
/// not written yet.
fn last<T>(
    arena: &Arena,
    announced_at: u64,
    count: u64,
    read: impl Fn(u64) -> Option<T>,
) -> Vec<(u64, T)> {
    let announced = arena.word(announced_at);
    // ORDERING: Relaxed, both: each word that is read between them is acquired, so the later one is not
    // older than any of those.
    let end = announced.load(Ordering::Relaxed);
    let read_from = |begin: u64| (begin..end).map(|number| (number, read(number)));
    let mut entries: Vec<_> = read_from(end.saturating_sub(count)).collect();
    let reused = announced
        .load(Ordering::Relaxed)
        .saturating_sub(BOX_OPERATIONS);
    entries.retain(|(number, _)| *number >= reused);
    let written = entries
        .into_iter()
        .filter_map(|(number, entry)| Some((number, entry?)));
    written.collect()
}

/// The last operations, oldest first, each with its batch.
pub(super) fn read(arena: &Arena) -> Vec<Record> {
    read_last(arena, BOX_OPERATIONS)
}

/// The operation that has begun and not ended.
pub(super) fn read_open(arena: &Arena) -> Option<Record> {
    let records = read_last(arena, ANNOUNCED_MAX.min(BOX_OPERATIONS));
    records.into_iter().rev().find(Record::is_open)
}

fn read_last(arena: &Arena, count: u64) -> Vec<Record> {
    let read_one = |number| read_operation(arena, number);
    let operations = last(arena, OPERATIONS_AT, count, read_one);
    // After the operations: a batch is written before its first one.
    let batches = read_batches(arena, count);
    let with_batch = |(number, record): (u64, Record)| {
        let after = batches.partition_point(|(_, batch)| batch.first <= number);
        let batch = after.checked_sub(1).map(|at| batches[at].1);
        Record {
            batch: batch.map(|batch| (batch.start_ns, batch.duration_ns)),
            connection: batch.map(|batch| batch.connection),
            ..record
        }
    };
    operations.into_iter().map(with_batch).collect()
}

/// The last batches, oldest first, each with its number.
pub(super) fn read_batches(arena: &Arena, count: u64) -> Vec<(u64, Found)> {
    last(arena, BATCHES_AT, count, |number| read_batch(arena, number))
}

fn read_batch(arena: &Arena, number: u64) -> Option<Found> {
    let words = arena.words::<4>(Batch::at(number));
    // ORDERING: Acquire, all: each brings the announcement along that it was written after; the first
    // that is read, the words that were written before it.
    let last = words[3].load(Ordering::Acquire);
    if last >> CONNECTION_BITS != lap(number) & (u64::MAX >> CONNECTION_BITS) {
        return None;
    }
    Some(Found {
        start_ns: words[0].load(Ordering::Acquire),
        duration_ns: words[1].load(Ordering::Acquire).saturating_sub(1),
        first: words[2].load(Ordering::Acquire),
        connection: last & CONNECTION_MAX,
    })
}

fn read_operation(arena: &Arena, number: u64) -> Option<Record> {
    let ring = of(arena);
    let [key, last] = places(number);
    // ORDERING: Acquire, both, as those of a batch.
    let word = ring[last].load(Ordering::Acquire);
    if word >> LAP_SHIFT != lap(number) & (u64::MAX >> LAP_SHIFT) {
        return None;
    }
    let part = |shift: u32, bits: u32| word >> shift & ((1 << bits) - 1);
    Some(Record {
        number,
        operation: Operation::of(part(OPERATION_SHIFT, OPERATION_BITS)),
        outcome: Outcome::of(part(OUTCOME_SHIFT, OUTCOME_BITS)),
        key_hash: ring[key].load(Ordering::Acquire),
        key_bytes: part(KEY_SHIFT, KEY_BITS) as u32,
        value_bytes: part(0, VALUE_BITS) as u32,
        batch: None,
        connection: None,
    })
}
