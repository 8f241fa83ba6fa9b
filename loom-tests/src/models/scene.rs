//! What models have in common: tiny caches, and operations in one line.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::arena::Arena;
use crate::engine::config::{AccessTimes, Geometry};
use crate::engine::header;
use crate::engine::index::Index;
use crate::engine::index::ahead::Reach;
use crate::engine::log::Segments;
use crate::engine::log::segment::Log;
use crate::engine::upkeep::{Demand, Mercy, Upkeep};
use crate::engine::{Arithmetic, Cache, Counter, Deletion, Entry, Mode, Outcome, Session};
use crate::sync::Arc;

/// The time of all models, in milliseconds.
pub(crate) const NOW_MS: u64 = 1_000;
const HASH_SEED: u64 = 0;
/// LIMIT: an item with a key of one byte and a value of up to 7 bytes takes 24.
const ITEM_BYTES: u64 = 24;
/// LIMIT: leaves address space for more buckets, overflow buckets and segments than models use.
const CHUNKS: u64 = 20;
const SESSIONS_MAX: u32 = 3;
const KEY_BYTES_MAX: u32 = 8;

/// How a model's cache is laid out.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Items of [`ITEM_BYTES`] that a segment holds.
    pub(crate) items_per_segment: u64,
    pub(crate) segments: u32,
    /// Buckets that the index has room for, and overflow buckets as well; it starts with one.
    pub(crate) buckets_per_chunk: u64,
    /// Chunks of buckets that the index may come to use, each beyond the first paid for.
    pub(crate) bucket_chunks_max: u64,
    /// The share of dead bytes above which sessions clean; above 100 they never do.
    pub(crate) dead_percent_max: u64,
    /// The longest value that has no extents.
    pub(crate) inline_bytes_max: u64,
    /// Parts of a segment that extents are made of.
    pub(crate) parts_per_segment: u64,
    /// Free segments below which sessions evict; below twice as many, [`maintain`] does.
    pub(crate) segments_reserved: u32,
    /// Chunks that the table of ghosts may come to use.
    pub(crate) ghost_chunks_max: u64,
    pub(crate) access_times: AccessTimes,
}

impl Layout {
    /// One bucket, and more memory than the model needs.
    pub(crate) const ONE_BUCKET: Self = Self {
        items_per_segment: 2,
        segments: 6,
        buckets_per_chunk: 1,
        bucket_chunks_max: 1,
        dead_percent_max: 101,
        inline_bytes_max: 1 << 20,
        parts_per_segment: 1,
        segments_reserved: 1,
        ghost_chunks_max: 0,
        access_times: AccessTimes::Off,
    };
    /// Every item has a segment of its own.
    pub(crate) const SINGLE_ITEMS: Self = Self {
        items_per_segment: 1,
        ..Self::ONE_BUCKET
    };
    /// The same, with room for one split.
    pub(crate) const GROWING: Self = Self {
        buckets_per_chunk: 2,
        ..Self::SINGLE_ITEMS
    };
    /// The same, and the split is paid for with a segment.
    pub(crate) const PAYING: Self = Self {
        bucket_chunks_max: 2,
        ..Self::SINGLE_ITEMS
    };

    pub(crate) fn cache(self) -> Cache {
        let geometry = self.geometry();
        let arena = Arena::new(geometry.arena_bytes).expect("an arena");
        Cache::in_arena(arena, geometry, HASH_SEED, 1)
    }

    /// A cache of which nobody has proved anything: all that is ever stored is still to be scrubbed.
    pub(crate) fn unproven_cache(self) -> Cache {
        let geometry = self.geometry();
        let arena = Arc::new(Arena::new(geometry.arena_bytes).expect("an arena"));
        header::write(&arena, &geometry, HASH_SEED, 1);
        let index = Index::new(Arc::clone(&arena), geometry);
        let mut segments = Segments::new(Arc::clone(&arena), geometry);
        let all: Vec<u32> = (0..self.segments).collect();
        let scrub = segments.doubt(&all);
        Cache::of(arena, index, (segments, scrub), HASH_SEED)
    }

    fn geometry(self) -> Geometry {
        let segment_bytes = self.items_per_segment * ITEM_BYTES;
        Geometry {
            segments: self.segments,
            segments_kept: 0,
            segments_reserved: self.segments_reserved,
            segments_maintained: self.segments_reserved * 2,
            buckets_per_chunk: self.buckets_per_chunk,
            overflow_per_chunk: self.buckets_per_chunk,
            bucket_chunks_max: self.bucket_chunks_max,
            overflow_chunks_max: 2,
            ghost_chunks_max: self.ghost_chunks_max,
            classes: 1,
            dead_percent_max: self.dead_percent_max,
            dead_percent_searched: self.dead_percent_max,
            inline_bytes_max: self.inline_bytes_max,
            part_bytes: segment_bytes / self.parts_per_segment,
            access_times: self.access_times,
            ..Geometry::new(segment_bytes, CHUNKS, SESSIONS_MAX, KEY_BYTES_MAX)
        }
    }
}

/// The `nth` single-byte key whose hash has this lowest bit: 0 stays where it is when the first
/// bucket splits, 1 moves to the new one.
pub(crate) fn key(lowest_bit: u64, nth: usize) -> [u8; 1] {
    key_in(lowest_bit, 2, nth)
}

/// The `nth` single-byte key that belongs to this bucket when there are so many, a power of two.
pub(crate) fn key_in(bucket: u64, buckets: u64, nth: usize) -> [u8; 1] {
    let mut keys = (b'a'..=b'z').map(|byte| [byte]);
    let wanted = |key: &[u8; 1]| hash(key) & (buckets - 1) == bucket;
    let key = keys.by_ref().filter(wanted).nth(nth);
    key.expect("26 letters have enough of each")
}

/// Two keys with the same tag: the first moves when the first bucket splits, the second stays.
pub(crate) fn keys_of_one_tag() -> (Vec<u8>, Vec<u8>) {
    static KEYS: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
        let mut of_tag = HashMap::new();
        for number in 0_u32.. {
            let key = number.to_le_bytes()[..3].to_vec();
            let (tag, bit) = (hash(&key) >> 48, hash(&key) & 1);
            match of_tag.insert(tag, (bit, key.clone())) {
                Some((1, moving)) if bit == 0 => return (moving, key),
                Some((0, staying)) if bit == 1 => return (key, staying),
                _ => {}
            }
        }
        unreachable!("65,537 keys have two of one tag")
    });
    KEYS.clone()
}

fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, HASH_SEED)
}

pub(crate) fn session(cache: &Cache) -> Session {
    cache.session().expect("a session")
}

pub(crate) fn store(session: &mut Session, key: &[u8], mode: Mode, value: &[u8]) -> Outcome {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(key).expect("a key");
    let entry = Entry::of(value);
    guard.store(&key, mode, &entry).expect("there is room")
}

/// Sets a key, and returns the version.
pub(crate) fn set(session: &mut Session, key: &[u8], value: &[u8]) -> u64 {
    match store(session, key, Mode::Set, value) {
        Outcome::Stored { version } => version,
        outcome => panic!("a set ended with {outcome:?}"),
    }
}

/// Looks at the bucket and the slot of a key ahead, as a batch does, and sets it. Where the key is there,
/// and the session's open segment has room, that is the way of most sets.
pub(crate) fn set_ahead(session: &mut Session, key: &[u8], value: &[u8]) {
    let mut guard = session.pin(NOW_MS);
    let mut key = guard.key(key).expect("a key");
    guard.prefetch_items(std::iter::once((&mut key, Reach::Key)));
    let stored = guard.store(&key, Mode::Set, &Entry::of(value));
    assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
}

/// Sets a key if there is room; a session that others keep waiting gives up in the end.
pub(crate) fn try_set(session: &mut Session, key: &[u8], value: &[u8]) -> bool {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(key).expect("a key");
    let stored = guard.store(&key, Mode::Set, &Entry::of(value));
    stored.is_ok()
}

/// The value of a key; read twice, since memory that was reused meanwhile holds something else.
pub(crate) fn get(session: &mut Session, key: &[u8]) -> Option<Vec<u8>> {
    let guard = session.pin(NOW_MS);
    let key = guard.key(key).expect("a key");
    let item = guard.get(&key)?;
    assert_eq!(item.key(), key.bytes);
    Some(item.value().to_vec())
}

pub(crate) fn delete(session: &mut Session, key: &[u8]) -> Deletion {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(key).expect("a key");
    guard.delete(&key, None)
}

pub(crate) fn increment(session: &mut Session, key: &[u8]) -> u64 {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(key).expect("a key");
    let counter = guard.arithmetic(&key, Arithmetic::Increment(1), None);
    match counter.expect("there is room") {
        Counter::Value { value, .. } => value,
        counter => panic!("an increment ended with {counter:?}"),
    }
}

/// A whole step of upkeep: it evicts a segment, or cleans one, or removes what has expired.
pub(crate) fn maintain(session: &mut Session) {
    let _ = session.maintain(NOW_MS);
}

/// A step of upkeep that settles one item.
pub(crate) fn tend_one_item(session: &mut Session, now_ms: u64) -> Upkeep {
    let guard = session.pin(now_ms);
    let asked = (Demand::Maintenance, 1, Mercy::KeepWhatWasRead);
    guard.writer.tend(guard.shared, &guard.pin, now_ms, asked)
}

/// Where the item of a key stands, when all is quiet, and how often it was read.
pub(crate) fn standing(session: &mut Session, key: &[u8]) -> (Log, u64) {
    let (shared, _pin) = session.parts();
    let hash = shared.hash(key);
    let mut standing = None;
    let bucket = hash.bucket(shared.index.buckets());
    shared.index.visit(bucket, |found| {
        if found.entry.tag() == hash.tag() {
            let log = shared.segments.label_at(found.entry.offset()).log;
            standing = Some((log, found.entry.frequency()));
        }
    });
    standing.expect("the key is there")
}

/// Checks, when all is quiet, everything that a cache promises about itself.
pub(crate) fn verify(session: &mut Session) {
    if let Err(what) = session.verify() {
        panic!("{what}");
    }
}

/// Checks, when all is quiet, that the key has this value, and that a delete leaves nothing of it:
/// no second entry comes to light.
pub(crate) fn expect_single(session: &mut Session, key: &[u8], values: &[&[u8]]) {
    let value = get(session, key).expect("the key is there");
    assert!(values.contains(&&value[..]), "{value:?} was never stored");
    assert_eq!(delete(session, key), Deletion::Deleted);
    expect_absent(session, key);
}

/// Checks, when all is quiet, that the key is gone.
pub(crate) fn expect_absent(session: &mut Session, key: &[u8]) {
    assert_eq!(get(session, key), None);
    assert_eq!(delete(session, key), Deletion::NotFound);
}

/// Ends the sessions and checks that every segment without a living item is free again.
pub(crate) fn expect_no_segment_lost(cache: &Cache, sessions: Vec<Session>) {
    drop(sessions);
    let mut filler = session(cache);
    verify(&mut filler);
    let stats = cache.stats();
    assert_eq!(stats.segments_open, 0);
    assert_eq!(stats.limbo_bytes, 0);
    if stats.items == 0 {
        assert_eq!(
            stats.segments_sealed, 0,
            "a segment without items is not free"
        );
        assert_eq!(stats.live_bytes, 0);
    }
    // The first chunks of buckets and of overflow buckets come for free.
    let paid = stats.index_bytes / stats.segment_bytes - 2;
    let free = stats.free_bytes / stats.segment_bytes;
    assert_eq!(free + stats.segments_sealed, stats.segments - paid);
    // Each free segment must be in the pool once: take them all, and fill them.
    for at in 0..free {
        let mut guard = filler.pin(NOW_MS);
        let bytes = [b'0' + at as u8; 8];
        let key = guard.key(&bytes).expect("a key");
        let value = vec![0; stats.segment_bytes as usize - 24];
        let stored = guard.store(&key, Mode::Set, &Entry::of(&value));
        assert!(stored.is_ok(), "a free segment cannot be had");
    }
}
