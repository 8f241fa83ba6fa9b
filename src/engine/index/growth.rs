//! Growth: linear hashing in place, one bucket at a time.
//!
//! With `n` buckets, splitting makes bucket `n` out of its parent, `n` less its highest bit. One
//! session splits at a time; the others go on without it. The splitter locks the parent, copies
//! what belongs to the child into the child, which nobody can find yet and which is born locked,
//! raises the bucket count to `n + 1`, clears what it copied from the parent, and unlocks both. At
//! every instant a key is found by the count that was valid at some instant since: a reader that
//! used the old count reads the parent, and if the key has gone from there, it sees the new count
//! and reads the child.
//!
//! An entry that a reader still finds in the parent after the count was raised was current when
//! that reader loaded the count, hence within its call. And its item is there: whoever looks into
//! the parent, also for another key with the same tag, may follow the entry for as long as it
//! stands, since no writer can remove it from the child, and so nobody retire its segment, before
//! it is cleared from the parent and the child unlocked.
//!
//! Entries that stay never move within the parent.
//!
//! The ranges grow by chunks of a segment's size, each paid for with a free segment.

use crate::engine::config::Geometry;
use crate::engine::header;
use crate::engine::index::bucket::LockedBucket;
use crate::engine::index::word::{Control, Entry, KeyHash};
use crate::engine::index::{CONTROL, Index, OVERFLOW_CONTROL};
use crate::engine::log::Segments;
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::Ordering;

/// Slots of the longest chain.
const CHAIN_SLOTS: usize = CONTROL + OVERFLOW_CONTROL * shape::OVERFLOW_BUCKETS_MAX as usize;

/// What only the session that grows the index touches.
#[derive(Debug)]
pub(crate) struct Growth {
    buckets: Range,
    overflow: Range,
}

/// A reserved range of buckets, used from below.
#[derive(Debug)]
struct Range {
    /// Buckets that are paid for.
    capacity: u64,
    /// Buckets that were handed out.
    used: u64,
    per_chunk: u64,
    /// The most that `capacity` may become.
    limit: u64,
}

impl Range {
    fn new(per_chunk: u64, chunks_max: u64) -> Self {
        Self {
            capacity: per_chunk,
            used: 0,
            per_chunk,
            limit: per_chunk * chunks_max,
        }
    }

    /// Hands out the next bucket, paying for a chunk with a segment where needed.
    fn take(&mut self, segments: &Segments) -> Option<u64> {
        if self.used == self.capacity {
            if self.capacity == self.limit || !segments.withdraw() {
                return None;
            }
            self.capacity += self.per_chunk;
        }
        self.used += 1;
        Some(self.used - 1)
    }
}

impl Growth {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        let per_chunk = geometry.buckets_per_chunk;
        let mut buckets = Range::new(per_chunk, geometry.bucket_chunks_max);
        buckets.used = per_chunk.min(shape::BUCKETS_FIRST);
        Self {
            buckets,
            overflow: Range::new(geometry.overflow_per_chunk, geometry.overflow_chunks_max),
        }
    }

    /// Of an index that is there: with so many buckets in use, and so many overflow buckets that
    /// were handed out.
    pub(super) fn recovered(geometry: &Geometry, buckets: u64, overflow: u64) -> Self {
        let mut growth = Self::new(geometry);
        growth.buckets.used = buckets;
        growth.overflow.used = overflow;
        for range in [&mut growth.buckets, &mut growth.overflow] {
            let chunks = range.used.div_ceil(range.per_chunk).max(1);
            range.capacity = chunks * range.per_chunk;
        }
        growth
    }

    /// Buckets and overflow buckets that are paid for.
    pub(super) fn capacities(&self) -> (u64, u64) {
        (self.buckets.capacity, self.overflow.capacity)
    }

    /// How many buckets the index starts with.
    pub(crate) fn buckets_first(&self) -> u64 {
        self.buckets.used
    }

    /// Overflow buckets that were handed out.
    pub(super) fn overflow_used(&self) -> u64 {
        self.overflow.used
    }

    /// An overflow bucket that was never used.
    pub(super) fn fresh_overflow(&mut self, segments: &Segments) -> Option<u32> {
        self.overflow
            .take(segments)
            .and_then(|id| u32::try_from(id).ok())
    }
}

/// A child bucket while it is being filled: nobody can find it yet.
struct Child {
    /// The bucket that is being filled: the child or the last overflow bucket of its chain.
    at: u64,
    /// Slots of it that are filled, and that it has.
    used: usize,
    slots: usize,
}

impl Index {
    /// Whether a bucket should be split, with this many entries.
    ///
    /// A round doubles the buckets. It starts when they hold `ENTRIES_PER_BUCKET` on average, and
    /// splits one for every `ENTRIES_PER_SPLIT` further entries, so that it is over before the
    /// buckets that wait for their split are much fuller than that: a table that kept its average
    /// constant instead would have buckets twice as full as others, and their keys in overflow
    /// buckets.
    pub(crate) fn wants_split(&self, entries: u64) -> bool {
        let buckets = self.buckets();
        let at_start = 1 << buckets.ilog2();
        let split = buckets - at_start;
        entries > at_start * shape::ENTRIES_PER_BUCKET + split * shape::ENTRIES_PER_SPLIT
    }

    /// Splits one bucket, unless another session is at it or no memory can be had.
    ///
    /// `hash` gives the hash of the key of an entry's item. An entry that finds no room in the
    /// child is given to `displaced`, which accounts for its removal.
    ///
    /// # Safety
    ///
    /// The caller is pinned, by `pin`; its session has this number.
    pub(crate) unsafe fn split_one(
        &self,
        segments: &Segments,
        hash: impl Fn(Entry) -> KeyHash,
        mut displaced: impl FnMut(Entry),
        (session, pin): (u32, &Pin<'_>),
    ) -> bool {
        let Some(mut growth) = self.growth.try_lock() else {
            return false;
        };
        if growth.buckets.take(segments).is_none() {
            return false;
        }
        // ORDERING: Relaxed; the growth lock orders those who write it.
        let child = self.arena.word(header::BUCKETS).load(Ordering::Relaxed);
        let parent = child - (1 << child.ilog2());
        // Before the lock: ask for the lines of what will be hashed, and take the overflow buckets
        // that the child may need.
        let mut entries = 0;
        self.visit(parent, |found| {
            self.arena.prefetch(found.entry.offset());
            entries += 1;
        });
        let mut spares = [None; shape::OVERFLOW_BUCKETS_MAX as usize];
        let over = (entries as usize).saturating_sub(CONTROL);
        for spare in spares.iter_mut().take(over.div_ceil(OVERFLOW_CONTROL)) {
            let returned = self.spares.lock().take();
            *spare = returned.or_else(|| growth.fresh_overflow(segments));
        }

        let mut moved = [None; CHAIN_SLOTS];
        let mut lost = [None; CHAIN_SLOTS];
        let mut filling = Child {
            at: self.bucket_at(child),
            used: 0,
            slots: CONTROL,
        };
        let locked_parent = self.lock_at(self.bucket_at(parent), session);
        let locked_child = self.new_locked(self.bucket_at(child), session);
        let mut at = 0;
        self.visit(parent, |found| {
            if hash(found.entry).bucket(child + 1) == child {
                moved[at] = Some(*found);
                if !self.fill(&mut filling, found.entry, &mut spares) {
                    lost[at] = Some(found.entry);
                }
                at += 1;
            }
        });
        // ORDERING: Release, with the Acquire in `buckets`: the child is filled before it can be
        // found, and can be found before anything is cleared from the parent.
        let count = self.arena.word(header::BUCKETS);
        count.store(child + 1, Ordering::Release);
        let unlinked = moved.map(|found| found.map(|found| locked_parent.clear(&found)));
        drop(locked_parent);
        drop(locked_child);
        drop(growth);
        self.spares.lock().add(spares.into_iter().flatten());
        for unlinked in unlinked.into_iter().flatten() {
            self.return_unlinked(unlinked, pin);
        }
        lost.into_iter().flatten().for_each(&mut displaced);
        true
    }

    /// The lock of the bucket at `at`, which nobody can find yet.
    fn new_locked(&self, at: u64, session: u32) -> LockedBucket<'_> {
        // ORDERING: Relaxed; raising the bucket count publishes it.
        let word = self.arena.word(at + CONTROL as u64 * 8);
        word.store(Control(0).locked_by(session).0, Ordering::Relaxed);
        LockedBucket::new(self, at)
    }

    /// Adds an entry to a bucket that nobody can find yet; false if there is no room.
    fn fill(&self, child: &mut Child, entry: Entry, spares: &mut [Option<u32>]) -> bool {
        if child.used == child.slots {
            let Some(id) = spares.iter_mut().find_map(Option::take) else {
                return false;
            };
            // ORDERING: Relaxed, as below: raising the bucket count publishes all of it.
            let word = self.arena.word(child.at + child.slots as u64 * 8);
            let control = Control(word.load(Ordering::Relaxed)).with_overflow(id);
            word.store(control.0, Ordering::Relaxed);
            // Empty, as every one that nothing links to.
            *child = Child {
                at: self.overflow_at(id),
                used: 0,
                slots: OVERFLOW_CONTROL,
            };
        }
        let slot = self.arena.word(child.at + child.used as u64 * 8);
        slot.store(entry.0, Ordering::Relaxed);
        child.used += 1;
        true
    }
}
