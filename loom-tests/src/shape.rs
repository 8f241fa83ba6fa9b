//! The engine's shapes at the smallest sizes that still show every interleaving.
//!
//! Names and meaning are those of the engine's own `shape` module.

/// LIMIT: two slots let one bucket hold a pair of keys; the third key overflows.
pub(crate) const SLOTS: u64 = 2;

/// LIMIT: as many as a bucket, so that a chain has room for two pairs.
pub(crate) const OVERFLOW_SLOTS: u64 = 2;

/// LIMIT: one link is enough for a reader to meet a chain; the next insert must drop an entry.
pub(crate) const OVERFLOW_BUCKETS_MAX: u32 = 1;

/// LIMIT: small enough for a model to take a second block of versions.
pub(crate) const VERSION_BLOCK: u64 = 4;

/// LIMIT: every insert is reported, so that a model of two inserts can grow the index.
pub(crate) const INSERTS_PER_REPORT: u64 = 1;

/// LIMIT: growth starts at the second entry of a one-bucket index.
pub(crate) const ENTRIES_PER_BUCKET: u64 = 1;

/// LIMIT: growth goes on with every entry.
pub(crate) const ENTRIES_PER_SPLIT: u64 = 1;

/// LIMIT: one bucket, so that all keys of a model meet.
pub(crate) const BUCKETS_FIRST: u64 = 1;

/// LIMIT: as many as the smallest index has; no model recovers one.
pub(crate) const BUCKETS_PER_SHARE: u64 = 1;

/// LIMIT: a session that finds no room tries again this often; each try is a wait for the others.
pub(crate) const ROOM_ATTEMPTS: u32 = 3;
/// LIMIT: the same.
pub(crate) const ROOM_ATTEMPTS_AGAIN: u32 = 3;

/// LIMIT: one split after each insert.
pub(crate) const SPLITS_PER_REPORT_MAX: u64 = 1;

/// LIMIT: so that the first segment of small is evicted before that of main.
pub(crate) const SMALL_SHARE: u32 = 10;

/// LIMIT: all of them, so that items of large values share a segment.
pub(crate) const NAMED_SHARE: u32 = 1;

/// LIMIT: models have so few segments that small is over its share at once.
pub(crate) const MAIN_IS_FILLED_FIRST: bool = false;

/// LIMIT: models have so few segments that cleaning must not wait for fewer.
pub(crate) const CLEANED_BELOW_SHARE: u32 = 1;

/// LIMIT: a note that nothing depends on; each store would be one more step to interleave.
pub(crate) const IS_WATCHED: bool = false;

/// LIMIT: nothing depends on it; each entry would be read once more.
pub(crate) const BUCKETS_ARE_FETCHED: bool = false;

/// LIMIT: so that a segment of two items has room for three sets.
pub(crate) const GHOST_WAYS: u64 = 4;

/// LIMIT: the third operation takes the place of the first.
pub(crate) const BOX_OPERATIONS: u64 = 2;

/// LIMIT: a board of two words.
pub(crate) const BOARD_BYTES: u64 = 16;

/// LIMIT: nothing depends on how many there are.
pub(crate) const LATENCY_BUCKETS: usize = 4;

/// LIMIT: a reader tries once more, and then takes what is there.
pub(crate) const READ_ATTEMPTS: u32 = 2;
