//! Where everything is in a box. Whatever changes here, or in the numbers of `names`, is a new
//! [`VERSION`].

use crate::shape::{BOARD_BYTES, BOX_OPERATIONS, LATENCY_BUCKETS};

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"larderbb");
/// The layout that this program writes and reads.
pub(super) const VERSION: u64 = 1;

pub(super) const MAGIC_AT: u64 = 0;
pub(super) const VERSION_AT: u64 = 8;
pub(super) const KIND_AT: u64 = 16;
pub(super) const NUMBER_AT: u64 = 24;

/// A sequence: its count, then its words.
pub(super) const IDENTITY_AT: u64 = 64;
pub(super) const IDENTITY_WORDS: usize = 6 + BUILD_WORDS;
/// LIMIT: of a build's name, as much is kept.
pub(super) const BUILD_WORDS: usize = 8;

/// What changes with every turn or batch, on one cache line.
pub(super) const NOW_AT: u64 = 256;
pub(super) const TURNS_AT: u64 = 264;
pub(super) const CONNECTIONS_AT: u64 = 272;
pub(super) const WAITING_AT: u64 = 280;
/// Operations and batches that were announced.
pub(super) const OPERATIONS_AT: u64 = 288;
pub(super) const BATCHES_AT: u64 = 296;
/// Connections that were taken over, of those given.
pub(super) const TAKEN_AT: u64 = 304;

/// A sequence.
pub(super) const SERVED_AT: u64 = 320;
pub(super) const SERVED_WORDS: usize = 4;

/// What others than the thread write, on a line of their own.
pub(super) const AVOID_AT: u64 = 384;
pub(super) const DRILL_AT: u64 = 392;
pub(super) const GIVEN_AT: u64 = 400;

pub(super) const COUNTERS_AT: u64 = 512;
/// LIMIT: counters that a box has room for.
pub(crate) const COUNTERS_MAX: usize = 64;

/// The length of a text, and the text: a line for each counter.
pub(super) const NAMES_AT: u64 = COUNTERS_AT + COUNTERS_MAX as u64 * 8;
pub(super) const NAMES_BYTES: u64 = LATENCIES_AT - NAMES_AT - 8;

/// For each operation that has a number, its buckets.
pub(super) const LATENCIES_AT: u64 = 4096;
/// LIMIT: operations that may have a number.
pub(super) const OPERATIONS_MAX: usize = 32;

/// The ring of operations: two words each.
pub(super) const RING_AT: u64 = LATENCIES_AT + OPERATIONS_MAX as u64 * LATENCY_BUCKETS as u64 * 8;
pub(super) const RECORD_BYTES: u64 = 16;
/// The ring of batches: as many as operations, since a batch may be one; four words each.
pub(super) const BATCH_RING_AT: u64 = RING_AT + BOX_OPERATIONS * RECORD_BYTES;
pub(super) const BATCH_BYTES: u64 = 32;

/// A sequence: its count, the time, the length, then the text.
pub(super) const BOARD_AT: u64 = BATCH_RING_AT + BOX_OPERATIONS * BATCH_BYTES;
/// The whole.
pub(super) const BYTES: u64 = BOARD_AT + 24 + BOARD_BYTES;

const _: () = assert!(BOX_OPERATIONS.is_power_of_two() && BOARD_BYTES.is_multiple_of(8));
const _: () = assert!(IDENTITY_AT + 8 + IDENTITY_WORDS as u64 * 8 <= NOW_AT);
const _: () = assert!(SERVED_AT + 8 + SERVED_WORDS as u64 * 8 <= AVOID_AT);
