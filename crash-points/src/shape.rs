//! The engine's shapes at sizes at which a few operations come to everything: chains, splits, blocks
//! of versions, ghosts.
//!
//! Names and meaning are those of the engine's own `shape` module.

/// LIMIT: two slots let one bucket hold a pair of keys; the third key overflows.
pub(crate) const SLOTS: u64 = 2;

/// LIMIT: one, so that a chain of two overflow buckets takes four keys.
pub(crate) const OVERFLOW_SLOTS: u64 = 1;

/// LIMIT: so that there is a link to an overflow bucket and one from it; the fifth key of a chain
/// takes the place of another.
pub(crate) const OVERFLOW_BUCKETS_MAX: u32 = 2;

/// LIMIT: a session takes another block for every third value.
pub(crate) const VERSION_BLOCK: u64 = 2;

/// LIMIT: every new key is reported, so that the index grows at once.
pub(crate) const INSERTS_PER_REPORT: u64 = 1;

/// LIMIT: growth starts at the second entry of a one-bucket index.
pub(crate) const ENTRIES_PER_BUCKET: u64 = 1;

/// LIMIT: growth goes on with every entry.
pub(crate) const ENTRIES_PER_SPLIT: u64 = 1;

/// LIMIT: one bucket, so that all keys of a program meet until it splits.
pub(crate) const BUCKETS_FIRST: u64 = 1;

/// LIMIT: one, so that the threads of a recovery take turns.
pub(crate) const BUCKETS_PER_SHARE: u64 = 1;

/// LIMIT: more than the evictions that keep what was read, so that a session also lets go of it.
pub(crate) const ROOM_ATTEMPTS: u32 = 20;
/// LIMIT: the same.
pub(crate) const ROOM_ATTEMPTS_AGAIN: u32 = 20;

/// LIMIT: one split after each insert.
pub(crate) const SPLITS_PER_REPORT_MAX: u64 = 1;

/// LIMIT: so that the first segment of small is evicted before that of main.
pub(crate) const SMALL_SHARE: u32 = 10;

/// LIMIT: all of them, so that items of large values share a segment.
pub(crate) const NAMED_SHARE: u32 = 1;

/// LIMIT: programs are so short that small is over its share at once, and should see evictions of it.
pub(crate) const MAIN_IS_FILLED_FIRST: bool = false;

/// LIMIT: caches have so few segments that cleaning must not wait for fewer.
pub(crate) const CLEANED_BELOW_SHARE: u32 = 1;

/// As in production: a process may die while it is pinned, and says so.
pub(crate) const IS_WATCHED: bool = true;

/// As in production.
pub(crate) const BUCKETS_ARE_FETCHED: bool = true;

/// LIMIT: so that a segment of two items has room for three sets.
pub(crate) const GHOST_WAYS: u64 = 4;
