//! Ghosts: fingerprints of keys that left small before they were read twice.
//!
//! A key that is stored again while its ghost is there has been evicted too early, and begins in
//! main instead (S3-FIFO, Yang et al., SOSP 2023). A table of sets of four entries; an entry is a
//! fingerprint of 16 bits and the time of its eviction in 16 bits, counted in evictions, so that a
//! ghost is believed for as many evictions as main has items. A new one takes the place of the
//! oldest of its set.
//!
//! ```text
//!  set    | word 0: two entries | word 1: two entries |       entry  | fingerprint 16 | age 16 |
//! ```
//!
//! The table comes into being with the first eviction, a chunk at a time, each paid for with a
//! segment, and follows the number of items in main. Sets are addressed as buckets are, by linear
//! hashing; where the table has grown, the ghosts whose set has moved are forgotten.
//!
//! Words are loaded and stored Relaxed, without a lock: two evictions at once may lose a ghost, and
//! then a key begins in small; nothing else can go wrong.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | sets | `follow`, Relaxed, holding `growing` | all | nothing: sets that are not seen yet are not used | `two_evictions_make_one_table_of_ghosts` |
//! | entries | `insert`, `take`, Relaxed | each other | nothing: what one of them loses is a ghost | `a_key_comes_back_while_others_leave` |

use crate::arena::Arena;
use crate::engine::config::{GHOST_SET_BYTES, Geometry};
use crate::engine::header;
use crate::engine::index::word::KeyHash;
use crate::engine::log::Segments;
use crate::sync::{Arc, Mutex, Ordering};

/// Entries of a set.
const WAYS: u64 = 4;
/// LIMIT: so many units of age, or twice as many, pass while every entry is replaced once: fine
/// enough to compare, and far from what 16 bits can tell apart.
const AGES: u64 = 4096;
/// LIMIT: entries for each item of main, in eighths: sets fill unevenly.
const ENTRIES_EIGHTHS: u64 = 9;

/// The table of ghosts.
#[derive(Debug)]
pub(crate) struct Ghosts {
    arena: Arc<Arena>,
    geometry: Geometry,
    /// Held by the one session that extends the table.
    growing: Mutex<()>,
}

impl Ghosts {
    pub(crate) fn new(arena: Arc<Arena>, geometry: Geometry) -> Self {
        Self {
            arena,
            geometry,
            growing: Mutex::new(()),
        }
    }

    /// Remembers a key that was evicted from small.
    pub(crate) fn insert(&self, hash: KeyHash) {
        let sets = self.sets();
        if sets == 0 {
            return;
        }
        let evictions = self.arena.word(header::GHOSTS_INSERTED);
        let now = age(evictions.fetch_add(1, Ordering::Relaxed), sets);
        let fingerprint = fingerprint(hash);
        let words = self.arena.words::<2>(self.set_at(hash, sets));
        let entries = [0, 1].map(|at: usize| words[at].load(Ordering::Relaxed));
        let entry = |way: u64| (entries[(way / 2) as usize] >> (way % 2 * 32)) as u32;
        let worth = |way: &u64| match entry(*way) {
            0 => u32::MAX,
            old if old >> 16 == fingerprint => u32::MAX,
            old => u32::from((now as u16).wrapping_sub(old as u16)),
        };
        let way = (0..WAYS).max_by_key(worth).expect("a set has ways");
        let (at, shift) = ((way / 2) as usize, way % 2 * 32);
        let new = u64::from(fingerprint << 16 | now) << shift;
        words[at].store(
            entries[at] & !(0xffff_ffff << shift) | new,
            Ordering::Relaxed,
        );
    }

    /// Whether the key was evicted from small not long ago: within as many evictions as main has
    /// `items`. Its ghost is gone then.
    pub(crate) fn take(&self, hash: KeyHash, items: u64) -> bool {
        let sets = self.sets();
        if sets == 0 {
            return false;
        }
        let evictions = self.arena.word(header::GHOSTS_INSERTED);
        let now = age(evictions.load(Ordering::Relaxed), sets);
        let window = age_span(items, sets);
        let fingerprint = fingerprint(hash);
        let words = self.arena.words::<2>(self.set_at(hash, sets));
        for way in 0..WAYS {
            let (word, shift) = (&words[(way / 2) as usize], way % 2 * 32);
            let entries = word.load(Ordering::Relaxed);
            let entry = (entries >> shift) as u32;
            if entry >> 16 == fingerprint {
                word.store(entries & !(0xffff_ffff << shift), Ordering::Relaxed);
                return u64::from((now as u16).wrapping_sub(entry as u16)) <= window;
            }
        }
        false
    }

    /// Extends the table by a chunk, if `items` of main want one and memory has one.
    pub(crate) fn follow(&self, items: u64, segments: &Segments) {
        let sets = self.sets();
        let per_chunk = self.geometry.segment_bytes / GHOST_SET_BYTES;
        let wanted = (items * ENTRIES_EIGHTHS / 8 / WAYS).div_ceil(per_chunk.max(1));
        if sets / per_chunk.max(1) >= wanted.min(self.geometry.ghost_chunks_max) {
            return;
        }
        let Some(_held) = self.growing.try_lock() else {
            return;
        };
        if self.sets() == sets && segments.withdraw() {
            // ORDERING: Relaxed; the new sets are zero, and no session trusts what it finds.
            let word = self.arena.word(header::GHOST_SETS);
            word.store(sets + per_chunk, Ordering::Relaxed);
        }
    }

    /// Chunks in use.
    pub(crate) fn chunks(&self) -> u64 {
        self.sets() * GHOST_SET_BYTES / self.geometry.segment_bytes
    }

    fn sets(&self) -> u64 {
        self.arena.word(header::GHOST_SETS).load(Ordering::Relaxed)
    }

    fn set_at(&self, hash: KeyHash, sets: u64) -> u64 {
        self.geometry.ghosts_at + hash.bucket(sets) * GHOST_SET_BYTES
    }
}

/// Bits of the hash that choose neither the set nor the tag; never 0.
fn fingerprint(hash: KeyHash) -> u32 {
    ((hash.0 >> 32) as u32 & 0xffff).max(1)
}

/// A number of evictions in units of age, of a table of so many sets.
fn age_span(evictions: u64, sets: u64) -> u64 {
    evictions / (sets * WAYS / AGES).max(1)
}

fn age(evictions: u64, sets: u64) -> u32 {
    (age_span(evictions, sets) & 0xffff) as u32
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
        let old = (0..20_000 - items - 100).filter(|&n| ghosts.take(hash(n), items));
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
