//! What a writer may do to a bucket while it holds its lock.

use crate::engine::index::word::{Control, Entry, KeyHash};
use crate::engine::index::{CONTROL, Found, Index, OVERFLOW_CONTROL, OVERFLOW_WORDS, WORDS};
use crate::shape;
use crate::sync::Ordering;

/// Proof of a bucket's lock; unlocks when dropped.
#[derive(Debug)]
pub(crate) struct LockedBucket<'i> {
    index: &'i Index,
    /// Offset of the bucket's first word.
    at: u64,
}

/// Overflow buckets that nothing links to any more. Readers that were pinned before may still be in
/// them: [`Index::return_unlinked`] lets them be used again when those are gone.
#[must_use]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unlinked(pub(super) [Option<u32>; shape::OVERFLOW_BUCKETS_MAX as usize]);

/// Where an entry for a new key can go.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Room {
    /// Into this slot, which is empty.
    Slot(Found),
    /// Nowhere without an overflow bucket more, linked to the last bucket of the chain, or in place
    /// of the coldest entry.
    Full {
        coldest: Found,
        /// The chain's last bucket; `None` if the chain is as long as it may be.
        last: Option<u64>,
    },
}

impl<'i> LockedBucket<'i> {
    /// The caller just took the lock bit of the bucket at `at`.
    pub(crate) fn new(index: &'i Index, at: u64) -> Self {
        Self { index, at }
    }

    /// The entry whose item has this key; `seen` is what the caller found before it locked.
    ///
    /// # Safety
    ///
    /// The caller is pinned, since before it found `seen`.
    pub(crate) unsafe fn find(
        &self,
        hash: KeyHash,
        key: &[u8],
        seen: Option<&Found>,
    ) -> Option<Found> {
        if let Some(seen) = seen
            && let Some(found) = self.still_at(seen)
        {
            return Some(found);
        }
        self.index.seek(self.at, hash, |found| {
            let is_seen = seen.is_some_and(|seen| found.entry.names_same(seen.entry));
            // SAFETY: the entry was published by a holder of this lock, and the caller is pinned.
            let has_key = || unsafe { self.index.has_key(found.entry, key) };
            (is_seen || has_key()).then_some(found)
        })
    }

    /// The entry that names the item at `offset`, whose key has this hash.
    pub(super) fn find_exact(&self, hash: KeyHash, offset: u64) -> Option<Found> {
        self.index.find_named(self.at, hash, offset)
    }

    /// What was found before the bucket was locked, if it is still in its place.
    ///
    /// A word that names the same item is then one of this bucket's chain, wherever it lies: there is no
    /// other one. While a split makes a second one, it holds the locks of both buckets; and what lies at
    /// that offset is the same item, since whoever saw it is pinned.
    #[inline]
    fn still_at(&self, seen: &Found) -> Option<Found> {
        // ORDERING: Relaxed; the lock orders its holders.
        let entry = Entry(self.index.arena.word(seen.slot).load(Ordering::Relaxed));
        let found = Found { entry, ..*seen };
        entry.names_same(seen.entry).then_some(found)
    }

    /// Where an entry for a new key can go.
    pub(crate) fn room(&self) -> Room {
        let mut coldest: Option<Found> = None;
        let mut empty = None;
        self.look_through::<WORDS>(self.at, &mut coldest, &mut empty);
        let (mut last, mut links) = (self.at, 0);
        while empty.is_none()
            && let Some(next) = self.overflow_of(last)
        {
            last = self.index.overflow_at(next);
            links += 1;
            self.look_through::<OVERFLOW_WORDS>(last, &mut coldest, &mut empty);
        }
        if let Some(slot) = empty {
            return Room::Slot(slot);
        }
        Room::Full {
            coldest: coldest.expect("a full chain has entries"),
            last: (links < shape::OVERFLOW_BUCKETS_MAX).then_some(last),
        }
    }

    /// Looks for the coldest entry and the first empty slot of one bucket of `N` words.
    fn look_through<const N: usize>(
        &self,
        at: u64,
        coldest: &mut Option<Found>,
        empty: &mut Option<Found>,
    ) {
        let words = self.index.arena.words::<N>(at);
        for (slot, word) in (0..N - 1).map(|slot| (slot as u64, &words[slot])) {
            // ORDERING: Relaxed, here and below: the lock orders its holders.
            let entry = Entry(word.load(Ordering::Relaxed));
            let found = Found {
                slot: at + slot * 8,
                entry,
            };
            if entry.is_empty() {
                *empty = Some(found);
                return;
            }
            if coldest.is_none_or(|c| entry.frequency() < c.entry.frequency()) {
                *coldest = Some(found);
            }
        }
    }

    /// Where the control word of a bucket of the chain is.
    fn control_at(&self, bucket: u64) -> u64 {
        let slots = match bucket == self.at {
            true => CONTROL,
            false => OVERFLOW_CONTROL,
        };
        bucket + slots as u64 * 8
    }

    /// The overflow bucket behind a bucket of the chain.
    fn overflow_of(&self, bucket: u64) -> Option<u32> {
        let control = self.index.arena.word(self.control_at(bucket));
        Control(control.load(Ordering::Relaxed)).overflow()
    }

    /// Publishes an entry in a slot: empty, or holding the entry that it replaces.
    pub(crate) fn put(&self, place: &Found, entry: Entry) {
        // ORDERING: Release, with the Acquire of `seek`: the item's bytes come first.
        self.index
            .arena
            .word(place.slot)
            .store(entry.0, Ordering::Release);
    }

    /// Removes an entry, and unlinks the overflow buckets at the end of the chain that are empty
    /// then.
    pub(crate) fn clear(&self, place: &Found) -> Unlinked {
        // ORDERING: Release, with the Acquire of `seek`: a reader that misses the entry here also
        // sees the bucket count that a split raised before it came to this.
        self.index
            .arena
            .word(place.slot)
            .store(Entry::EMPTY.0, Ordering::Release);
        let first = self.at..self.at + WORDS as u64 * 8;
        match first.contains(&place.slot) {
            true => Unlinked::default(),
            false => self.trim(),
        }
    }

    /// Unlinks the last bucket of the chain while it is an overflow bucket and empty. Only the last:
    /// so the others keep their place in the chain.
    fn trim(&self) -> Unlinked {
        let mut chain = [None; shape::OVERFLOW_BUCKETS_MAX as usize];
        let mut bucket = self.at;
        for place in &mut chain {
            let Some(id) = self.overflow_of(bucket) else {
                break;
            };
            *place = Some((bucket, id));
            bucket = self.index.overflow_at(id);
        }
        let mut unlinked = Unlinked::default();
        let links = chain.iter().zip(&mut unlinked.0).rev();
        for (link, unlinked) in links.filter_map(|(link, u)| Some(((*link)?, u))) {
            let (before, id) = link;
            let words = self
                .index
                .arena
                .words::<OVERFLOW_WORDS>(self.index.overflow_at(id));
            if (0..OVERFLOW_CONTROL).any(|slot| words[slot].load(Ordering::Relaxed) != 0) {
                break;
            }
            let word = self.index.arena.word(self.control_at(before));
            let control = Control(word.load(Ordering::Relaxed)).without_overflow();
            // ORDERING: Release, with the Acquire of `seek`, as in `clear`: a reader that does not
            // follow the link any more also sees the bucket count that a split raised before.
            word.store(control.0, Ordering::Release);
            *unlinked = Some(id);
        }
        unlinked
    }

    /// Publishes an entry in overflow bucket `id`, which is empty and not linked, behind bucket
    /// `last`.
    pub(crate) fn link(&self, last: u64, id: u32, entry: Entry) {
        let overflow = self.index.overflow_at(id);
        // ORDERING: Relaxed; the bucket cannot be found before it is linked.
        self.index
            .arena
            .word(overflow)
            .store(entry.0, Ordering::Relaxed);
        let word = self.index.arena.word(self.control_at(last));
        let control = Control(word.load(Ordering::Relaxed)).with_overflow(id);
        // ORDERING: Release, with the Acquire of `seek`: the bucket's contents, and the item's
        // bytes, come before the link.
        word.store(control.0, Ordering::Release);
    }
}

impl Drop for LockedBucket<'_> {
    fn drop(&mut self) {
        let word = self.index.arena.word(self.at + CONTROL as u64 * 8);
        let control = Control(word.load(Ordering::Relaxed));
        debug_assert!(control.is_locked());
        // ORDERING: Release, with the Acquire of `lock_at`: the next holder sees what this one did.
        word.store(control.unlocked().0, Ordering::Release);
    }
}
