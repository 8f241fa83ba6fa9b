//! The arena's first page: what the cache is, and the counts that all sessions share.
//!
//! Words that are written by different parties at different times lie on different cache lines.

use crate::arena::Arena;
use crate::engine::config::Geometry;
use crate::sync::Ordering;

/// "LARDER" and two digits, as a little-endian word.
const MAGIC: u64 = u64::from_le_bytes(*b"LARDER01");
/// Raised whenever the meaning of any byte of the arena changes.
const LAYOUT_VERSION: u64 = 2;

const AT_MAGIC: u64 = 0;
const AT_LAYOUT_VERSION: u64 = 8;
const AT_MEMORY_BYTES: u64 = 16;
const AT_SEGMENT_BYTES: u64 = 24;
const AT_HASH_SEED: u64 = 32;
/// How many buckets the index has.
pub(crate) const BUCKETS: u64 = 64;
/// Items whose version is not above this were flushed.
pub(crate) const FLUSHED_VERSION: u64 = 128;
/// When a flush is due, in milliseconds; 0: none is.
pub(crate) const FLUSH_DUE_MS: u64 = 136;
/// The next version that no session has taken.
pub(crate) const NEXT_VERSION: u64 = 192;
/// Entries of the index, as far as sessions have reported them.
pub(crate) const ENTRIES: u64 = 256;
/// How many chunks the table of ghosts has.
pub(crate) const GHOST_CHUNKS: u64 = 320;
/// How many ghosts were inserted.
pub(crate) const GHOSTS_INSERTED: u64 = 384;

/// Writes the header of a new cache.
pub(crate) fn write(arena: &Arena, geometry: &Geometry, hash_seed: u64) {
    let fields = [
        (AT_LAYOUT_VERSION, LAYOUT_VERSION),
        (AT_MEMORY_BYTES, geometry.memory_bytes),
        (AT_SEGMENT_BYTES, geometry.segment_bytes),
        (AT_HASH_SEED, hash_seed),
        // Version 0 is flushed from the start, so no item has it.
        (NEXT_VERSION, 1),
        (AT_MAGIC, MAGIC),
    ];
    for (at, value) in fields {
        // ORDERING: Relaxed; nobody shares the arena yet.
        arena.word(at).store(value, Ordering::Relaxed);
    }
}
