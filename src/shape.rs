//! The sizes that shape the engine's shared structures.
//!
//! They stand apart because `loom-tests` compiles the engine against a module of the same name with
//! the smallest values that still show every interleaving.

/// Words of a bucket that hold entries; one more, the control word, fills the 64-byte line.
pub(crate) const SLOTS: u64 = 7;

/// Words of an overflow bucket that hold entries; one more is its control word. Half a line: most
/// chains that need one need few slots more.
pub(crate) const OVERFLOW_SLOTS: u64 = 3;

/// LIMIT: overflow buckets that one bucket may chain. With eleven entries a bucket, the most that growth
/// lets those come to that wait for their split, one bucket in 10^9 has more than the 37 that
/// this makes room for.
pub(crate) const OVERFLOW_BUCKETS_MAX: u32 = 10;

/// Versions that a session takes from the shared counter at a time.
pub(crate) const VERSION_BLOCK: u64 = 4096;

/// New entries that a session counts for itself before it reports them and looks whether the index
/// should grow.
pub(crate) const INSERTS_PER_REPORT: u64 = 16;

/// Entries per bucket, on average, at which a round of growth begins.
pub(crate) const ENTRIES_PER_BUCKET: u64 = 8;

/// Entries for which such a round splits one bucket. More keep the index smaller, and the buckets that
/// wait for their split fuller.
pub(crate) const ENTRIES_PER_SPLIT: u64 = 3;

/// LIMIT: buckets that an index starts with.
pub(crate) const BUCKETS_FIRST: u64 = 256;

/// LIMIT: buckets that one thread goes through at a time when a cache is recovered.
pub(crate) const BUCKETS_PER_SHARE: u64 = 1 << 14;

/// LIMIT: tries to get a free segment before a write is refused for lack of space. The last hundred sleep
/// ([`relax`](crate::sync::relax)), some ten milliseconds in all: enough for most threads that lost their core
/// while pinned to get it back.
pub(crate) const ROOM_ATTEMPTS: u32 = 356;

/// LIMIT: the same while all memory is held for longer than that: without a sleep, so that a thread that hangs
/// while pinned does not take those with it that write in vain.
pub(crate) const ROOM_ATTEMPTS_AGAIN: u32 = 256;

/// LIMIT: buckets that a session splits after a report: several times what its own entries need,
/// since a session that finds another one splitting goes on without.
pub(crate) const SPLITS_PER_REPORT_MAX: u64 = 16;

/// The share (1/N) of the segments that the small log keeps.
pub(crate) const SMALL_SHARE: u32 = 10;

/// The share (1/N) of the segments that the large values may take whose items lie in one open segment. Only
/// its owner seals it, and may have nothing to write for long.
pub(crate) const NAMED_SHARE: u32 = 16;

/// Whether new keys of a cache that was never full go to main where small has no room for them.
pub(crate) const MAIN_IS_FILLED_FIRST: bool = true;

/// LIMIT: nothing is cleaned while at least this share (1/N) of the segments is free.
pub(crate) const CLEANED_BELOW_SHARE: u32 = 16;

/// Whether sessions leave notes for whoever looks on from outside: since when they are pinned, when the
/// cache was last in use.
pub(crate) const IS_WATCHED: bool = true;

/// Whether whoever looks at all items of a bucket asks the processor for them first.
pub(crate) const BUCKETS_ARE_FETCHED: bool = true;

/// Entries of a set of ghosts: a cache line of them.
pub(crate) const GHOST_WAYS: u64 = 16;

/// LIMIT: operations that a black box remembers, and batches.
#[cfg(feature = "server")]
pub(crate) const BOX_OPERATIONS: u64 = 4096;

/// LIMIT: what a black box has room for of figures as text.
#[cfg(feature = "server")]
pub(crate) const BOARD_BYTES: u64 = 64 << 10;

/// LIMIT: buckets of a latency histogram; the last begins at about two minutes.
#[cfg(feature = "server")]
pub(crate) const LATENCY_BUCKETS: usize = 144;

/// LIMIT: how often a reader of a black box tries again.
#[cfg(feature = "server")]
pub(crate) const READ_ATTEMPTS: u32 = 64;
