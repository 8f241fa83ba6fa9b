//! Ghosts: fingerprints of keys that left small before they were read twice, or that expired though they were read.
//!
//! A key that is stored again while its ghost is there has been evicted too early, and begins in
//! main instead (S3-FIFO, Yang et al., SOSP 2023). A table of sets of 16 entries, a cache line each;
//! an entry is a fingerprint of 16 bits and the time of its eviction in 16 bits, counted in evictions,
//! so that a ghost is believed for as many evictions as main has items. A new one takes the place of
//! the oldest of its set. (With sets of four, one ghost in six is lost too early at 4.5 bytes for
//! each item of main: the sets fill unevenly.)
//!
//! ```text
//!  set    | word 0: two entries | ... | word 7: two entries |     entry  | fingerprint 16 | age 16 |
//! ```
//!
//! The table comes into being with the first eviction, a chunk at a time, each paid for with a
//! segment, and follows the number of items in main. A key's chunk is found by jump consistent
//! hashing (Lamping and Veach, 2014), so that with `n` chunks a further one lets only one ghost in
//! `n + 1` be forgotten.
//!
//! Words are loaded and stored Relaxed, without a lock: two evictions at once may lose a ghost, and
//! then a key begins in small; nothing else can go wrong.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | sets | `follow`, Relaxed, holding `growing` | all | nothing: sets that are not seen yet are not used; the lock orders who extends the table | `two_evictions_make_one_table_of_ghosts`, `an_eviction_beside_the_caretakers_makes_no_second_table_of_ghosts` |
//! | entries | `insert`, `take`, Relaxed | each other | nothing: what one of them loses is a ghost | `a_key_comes_back_while_others_leave` |

use std::ops::Range;

use crate::arena::Arena;
use crate::engine::config::{GHOST_SET_BYTES, Geometry};
use crate::engine::header;
use crate::engine::index::ahead::{Reach, SeenAt};
use crate::engine::index::word::KeyHash;
use crate::engine::log::Segments;
use crate::shape;
use crate::sync::{Arc, Mutex, Ordering};

/// Entries of a set.
const WAYS: u64 = shape::GHOST_WAYS;
const WORDS: usize = WAYS as usize / 2;
/// LIMIT: units of age in which the largest table that memory allows is filled: half of what 16 bits
/// can tell apart.
const AGES: u64 = 1 << 15;
/// LIMIT: entries for each item of main, in eighths: sets fill unevenly.
const ENTRIES_EIGHTHS: u64 = 9;

/// The table of ghosts.
#[derive(Debug)]
pub(crate) struct Ghosts {
    arena: Arc<Arena>,
    geometry: Geometry,
    /// Evictions in a unit of age.
    evictions_per_age: u64,
    sets_per_chunk: u64,
    /// Held by the one session that extends the table.
    growing: Mutex<()>,
}

impl Ghosts {
    pub(crate) fn new(arena: Arc<Arena>, geometry: Geometry) -> Self {
        let sets_per_chunk = geometry.segment_bytes / GHOST_SET_BYTES;
        let entries_max = geometry.ghost_chunks_max * sets_per_chunk * WAYS;
        Self {
            arena,
            geometry,
            evictions_per_age: (entries_max / AGES).max(1),
            sets_per_chunk,
            growing: Mutex::new(()),
        }
    }

    /// Remembers a key that was evicted from small, or expired.
    pub(crate) fn insert(&self, hash: KeyHash) {
        let chunks = self.chunks();
        if chunks == 0 {
            return;
        }
        let evictions = self.arena.word(header::GHOSTS_INSERTED);
        let now = self.age(evictions.fetch_add(1, Ordering::Relaxed));
        let fingerprint = fingerprint(hash);
        let words = self.arena.words::<WORDS>(self.set_at(hash, chunks));
        let entries: [u64; WORDS] = std::array::from_fn(|at| words[at].load(Ordering::Relaxed));
        let worth = |way: u64| {
            let entry = (entries[(way / 2) as usize] >> (way % 2 * 32)) as u32;
            let is_free = entry == 0 || entry >> 16 == u32::from(fingerprint);
            // Older than any.
            let free = u32::from(is_free) << 16;
            free | u32::from(now.wrapping_sub(entry as u16))
        };
        // In one number with what it is worth, which is compared without branches.
        let most = (0..WAYS)
            .map(|way| u64::from(worth(way)) * WAYS + way)
            .max();
        let way = most.expect("a set has ways") % WAYS;
        let (at, shift) = ((way / 2) as usize, way % 2 * 32);
        let new = u64::from(fingerprint) << 16 | u64::from(now);
        let others = entries[at] & !(0xffff_ffff << shift);
        words[at].store(others | new << shift, Ordering::Relaxed);
    }

    /// Whether the key was evicted from small not long ago: within as many evictions as main has
    /// `items`, and some more. Its ghost is gone then.
    pub(crate) fn take(&self, hash: KeyHash, items: u64) -> bool {
        let chunks = self.chunks();
        if chunks == 0 {
            return false;
        }
        let evictions = self.arena.word(header::GHOSTS_INSERTED);
        let now = self.age(evictions.load(Ordering::Relaxed));
        let believed = items * ENTRIES_EIGHTHS / 8 / self.evictions_per_age;
        let words = self.arena.words::<WORDS>(self.set_at(hash, chunks));
        let fingerprint = u32::from(fingerprint(hash));
        let entries: [u64; WORDS] = std::array::from_fn(|at| words[at].load(Ordering::Relaxed));
        for (at, entries) in entries.into_iter().enumerate() {
            for shift in [0, 32] {
                let entry = (entries >> shift) as u32;
                if entry >> 16 == fingerprint {
                    words[at].store(entries & !(0xffff_ffff << shift), Ordering::Relaxed);
                    return u64::from(now.wrapping_sub(entry as u16)) <= believed;
                }
            }
        }
        false
    }

    /// [Asks](Self::prefetch) for the ghost of a key of which this was seen in the index, ahead of a write: one that was
    /// not seen there may be stored as a new one.
    #[inline(always)]
    pub(crate) fn foresee(&self, hash: KeyHash, seen_at: SeenAt, reach: Reach) {
        if seen_at == SeenAt::NOWHERE && reach == Reach::Key {
            self.prefetch(hash);
        }
    }

    /// Asks the processor for where the key's ghost is, or will be.
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        let chunks = self.chunks();
        if chunks > 0 {
            self.arena.prefetch(self.set_at(hash, chunks));
        }
    }

    /// Extends the table by a chunk, if `items` of main want one and memory has one.
    pub(crate) fn follow(&self, items: u64, segments: &Segments) {
        let chunks = self.chunks();
        let sets = items * ENTRIES_EIGHTHS / 8 / WAYS;
        // To the nearest whole chunk.
        let wanted = (sets + self.sets_per_chunk / 2) / self.sets_per_chunk.max(1);
        if items == 0 || chunks >= wanted.max(1).min(self.geometry.ghost_chunks_max) {
            return;
        }
        let Some(_held) = self.growing.try_lock() else {
            return;
        };
        if self.chunks() == chunks && segments.withdraw() {
            // ORDERING: Relaxed; the new sets are zero, and no session trusts what it finds.
            let word = self.arena.word(header::GHOST_CHUNKS);
            word.store(chunks + 1, Ordering::Relaxed);
        }
    }

    /// Chunks in use.
    pub(crate) fn chunks(&self) -> u64 {
        self.arena
            .word(header::GHOST_CHUNKS)
            .load(Ordering::Relaxed)
    }

    /// The range of the table.
    pub(crate) fn paid(&self) -> Range<u64> {
        let at = self.geometry.ghosts_at;
        at..at + self.chunks() * self.geometry.segment_bytes
    }

    fn set_at(&self, hash: KeyHash, chunks: u64) -> u64 {
        // The upper half of a product spreads hashes evenly over any number of sets.
        let bits = hash.0 >> 16 & 0xffff_ffff;
        let set = (bits * self.sets_per_chunk) >> 32;
        let chunk = jump(hash.0, chunks);
        let chunk_at = self.geometry.ghosts_at + chunk * self.geometry.segment_bytes;
        chunk_at + set * GHOST_SET_BYTES
    }

    /// The time after so many evictions.
    fn age(&self, evictions: u64) -> u16 {
        (evictions / self.evictions_per_age) as u16
    }
}

/// The bits of the hash that have least to do with the choice of the set; never 0.
fn fingerprint(hash: KeyHash) -> u16 {
    (hash.0 as u16).max(1)
}

/// Jump consistent hashing: which of `places`, at least one, a key belongs to.
fn jump(mut key: u64, places: u64) -> u64 {
    let (mut place, mut next) = (0, 0);
    while next < places {
        place = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((place + 1) << 31) / ((key >> 33) + 1);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::Ghosts;
    use crate::arena::Arena;
    use crate::engine::config::{Config, Geometry};
    use crate::engine::index::word::KeyHash;
    use crate::engine::log::Segments;
    use crate::sync::Arc;

    fn ghosts(items: u64) -> Ghosts {
        let geometry = Geometry::for_config(&Config::new(4 << 20)).expect("geometry");
        let arena = Arc::new(Arena::new(geometry.arena_bytes).expect("arena"));
        let segments = Segments::new(Arc::clone(&arena), geometry);
        let ghosts = Ghosts::new(arena, geometry);
        for _ in 0..100 {
            ghosts.follow(items, &segments);
        }
        ghosts
    }

    fn hash(number: u64) -> KeyHash {
        KeyHash(xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes()))
    }

    #[test]
    fn a_ghost_is_found_once_and_only_by_its_key() {
        let ghosts = ghosts(10_000);
        ghosts.insert(hash(1));
        assert!(!ghosts.take(hash(2), 10_000));
        assert!(ghosts.take(hash(1), 10_000));
        assert!(!ghosts.take(hash(1), 10_000));
    }

    #[test]
    fn a_ghost_is_believed_for_as_many_evictions_as_main_has_items() {
        let (items, wanted) = (10_000, 9_000);
        let ghosts = ghosts(items);
        (0..20_000).for_each(|number| ghosts.insert(hash(number)));
        let young = (20_000 - wanted..20_000).filter(|&n| ghosts.take(hash(n), items));
        assert!(
            young.count() as u64 > wanted * 8 / 10,
            "most are remembered"
        );
        let old = (0..20_000 - items * 9 / 8 - 100).filter(|&n| ghosts.take(hash(n), items));
        assert!(old.count() < 20, "the old are not believed");
    }

    #[test]
    fn without_a_table_nothing_is_remembered() {
        let ghosts = ghosts(0);
        ghosts.insert(hash(1));
        assert!(!ghosts.take(hash(1), 10_000));
        assert_eq!(ghosts.chunks(), 0);
    }
}
