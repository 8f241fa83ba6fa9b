//! Extents of large values: whole segments, and parts of segments that values share; and who may free
//! them.
//!
//! A value fills whole segments, and what is left of it takes as many *parts* of a segment as it
//! needs: a part is a small share of a segment, so that little of the last one is wasted. A value
//! shorter than a segment has parts alone. The parts of one segment may belong to many values; they
//! are taken and freed one by one, and the segment returns to the pool with the last of them. Which
//! parts are used stands in the segment's line; a segment with some free is in a list. Both change
//! under the lists' lock.
//!
//! A value's references are counted in one word: where it begins with a whole segment, in that
//! segment's line, or else in the first 8 bytes of its first part.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | references | `hold_first` Relaxed | `hold`, `release` | ordered by the index word of the item that names the value | `a_reader_takes_hold_of_a_large_value_that_is_overwritten` |
//! | references | `hold` Relaxed, `release` AcqRel | `release` | who frees the extents has every reader's release behind it | `a_large_value_is_freed_after_its_last_reader` |
//! | used parts, place in the list | `take_extent`, `free` Relaxed | each other | the lists' lock | `two_values_share_a_segment_that_one_of_them_leaves` |

use crate::engine::config::Geometry;
use crate::engine::log::segment::{Log, State};
use crate::engine::log::{Lists, Segments};
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Bytes before the value in a first part: its references.
pub(crate) const REFERENCES_BYTES: u64 = 8;

const PARTS_SHIFT: u32 = 56;
const OFFSET: u64 = (1 << PARTS_SHIFT) - 1;

/// Where a piece of a large value lies: neighbouring parts of a segment, or all of them.
///
/// ```text
///  | parts 8 | offset of the first 56 |
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Extent(pub(crate) u64);

impl Extent {
    fn new(offset: u64, parts: u32) -> Self {
        Self(u64::from(parts) << PARTS_SHIFT | offset)
    }

    pub(crate) fn offset(self) -> u64 {
        self.0 & OFFSET
    }

    pub(crate) fn parts(self) -> u32 {
        (self.0 >> PARTS_SHIFT) as u32
    }
}

/// The parts of one segment that are used, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Used(u64);

impl Used {
    const NONE: Self = Self(0);

    fn run(first: u32, parts: u32) -> Self {
        Self(((1 << parts) - 1) << first)
    }

    /// The first of the longest runs of free parts among the first `parts`, of up to `wanted`.
    fn free_run(self, parts: u32, wanted: u32) -> (u32, u32) {
        let (mut best, mut at) = ((0, 0), 0);
        while at < parts {
            let free = (self.0 >> at | 1 << (parts - at)).trailing_zeros();
            let run = free.min(wanted);
            if run > best.1 {
                best = (at, run);
            }
            at += free + 1;
        }
        best
    }
}

impl Segments {
    /// Promises as many parts to a value that is about to be received; false if what is being
    /// received would take more than half of the segments then.
    #[must_use]
    pub(crate) fn promise_parts(&self, parts: u32) -> bool {
        let mut lists = self.lists.lock();
        let usable = self.geometry.segments - lists.withdrawn;
        let drafted = lists.drafted + u64::from(parts);
        if drafted > u64::from(usable / 2) * u64::from(self.geometry.parts_per_segment()) {
            return false;
        }
        lists.drafted = drafted;
        lists.awaited += u64::from(parts);
        true
    }

    /// Takes up to `parts` that lie together, or a whole segment where so many are asked for; `None`
    /// if there are none, nor a free segment.
    pub(crate) fn take_extent(&self, parts: u32) -> Option<Extent> {
        let mut lists = self.lists.lock();
        let all = self.geometry.parts_per_segment();
        let shared = lists.shared.last().copied().filter(|_| parts < all);
        let id = match shared {
            Some(id) => id,
            None => {
                let kept = self.geometry.segments_kept + lists.wanted;
                let id = lists.take(kept)?;
                self.segment(id).become_extent();
                id
            }
        };
        let used = self.used(id);
        let (first, taken) = used.free_run(all, parts.min(all));
        let now = Used(used.0 | Used::run(first, taken).0);
        self.set_used(&mut lists, id, used, now);
        lists.awaited -= u64::from(taken);
        let offset = self.start(id) + u64::from(first) * self.geometry.part_bytes;
        Some(Extent::new(offset, taken))
    }

    /// Gives back extents that nobody else has seen, and the promise of `promised` parts.
    pub(crate) fn abandon_extents(&self, extents: &[Extent], promised: u32) {
        let mut lists = self.lists.lock();
        lists.drafted -= u64::from(promised);
        lists.awaited -= u64::from(promised - parts(extents));
        self.free(&mut lists, extents);
    }

    /// Counts a value that was received as the log's.
    pub(crate) fn adopt_parts(&self, log: Log, parts: u32) {
        let mut lists = self.lists.lock();
        lists.drafted -= u64::from(parts);
        lists.parts[log as usize] += i64::from(parts);
    }

    /// Counts parts as one log's instead of another's.
    pub(crate) fn move_parts(&self, from: Log, to: Log, parts: u32) {
        if from != to {
            let mut lists = self.lists.lock();
            lists.parts[from as usize] -= i64::from(parts);
            lists.parts[to as usize] += i64::from(parts);
        }
    }

    /// Counts another item of `log` that names a value of so many parts.
    pub(crate) fn share_parts(&self, log: Log, parts: u32) {
        self.lists.lock().parts[log as usize] += i64::from(parts);
    }

    /// Gives the index's reference to a large value back, once nobody can come to it through the
    /// index any more. The caller removed the item, of `log`, that named its extents.
    pub(crate) fn drop_extents(self: &Arc<Self>, log: Log, extents: Box<[Extent]>, pin: &Pin<'_>) {
        let parts = parts(&extents);
        {
            let mut lists = self.lists.lock();
            lists.parts[log as usize] -= i64::from(parts);
            lists.leaving += u64::from(parts);
        }
        let segments = Arc::clone(self);
        pin.defer(move || {
            segments.lists.lock().leaving -= u64::from(parts);
            segments.release_extents(&extents);
        });
    }

    /// Gives the value that begins in `first`, and that nobody else can see yet, its first
    /// reference.
    pub(crate) fn hold_first(&self, first: Extent) {
        if first.parts() < self.geometry.parts_per_segment() {
            self.arena
                .assert_unshared(first.offset(), REFERENCES_BYTES as usize);
        }
        self.references_at(first).store(1, Ordering::Relaxed);
    }

    /// Counts one more reference to the value that begins in `first`. The caller knows of one that
    /// will not go before this returns: the index's, under a pin.
    pub(crate) fn hold(&self, first: Extent) {
        // ORDERING: Relaxed; it continues from a reference that is there.
        let before = self.references_at(first).fetch_add(1, Ordering::Relaxed);
        debug_assert!(before > 0, "held after it was freed");
    }

    /// References to the value that begins in `first`.
    pub(crate) fn references(&self, first: Extent) -> u64 {
        self.references_at(first).load(Ordering::Relaxed)
    }

    /// Gives one reference to the large value in these extents back; the last frees them.
    pub(crate) fn release_extents(&self, extents: &[Extent]) {
        let Some(&first) = extents.first() else {
            return;
        };
        // ORDERING: AcqRel: whoever gives the last one back has all reading behind it.
        if self.references_at(first).fetch_sub(1, Ordering::AcqRel) == 1 {
            self.free(&mut self.lists.lock(), extents);
        }
    }

    /// The parts of a segment that values use.
    pub(crate) fn used_parts(&self, id: u32) -> u32 {
        self.used(id).0.count_ones()
    }

    /// Checks that the list of shared segments has those, and only those, with free parts.
    pub(super) fn verify_shared(&self, lists: &Lists) -> Result<(), String> {
        let (all, mut shared) = (self.geometry.parts_per_segment(), 0);
        for id in 0..self.geometry.segments {
            let is_extent = self.segment(id).state().0 == State::Extent;
            if is_extent && self.used_parts(id) < all {
                shared += 1;
                let place = self.segment(id).place() as usize;
                if lists.shared.get(place) != Some(&id) {
                    return Err(format!("segment {id} has free parts and is in no list"));
                }
            }
        }
        match lists.shared.len() {
            listed if listed == shared => Ok(()),
            listed => Err(format!(
                "{listed} segments are listed as shared, and {shared} are"
            )),
        }
    }

    fn references_at(&self, first: Extent) -> &AtomicU64 {
        match first.parts() == self.geometry.parts_per_segment() {
            true => self.segment(self.id_at(first.offset())).references(),
            false => self.arena.word(first.offset()),
        }
    }

    fn free(&self, lists: &mut Lists, extents: &[Extent]) {
        for &extent in extents {
            let (id, parts) = self.geometry.place_of(extent);
            let used = self.used(id);
            let now = Used(used.0 & !parts);
            self.set_used(lists, id, used, now);
            if now == Used::NONE {
                self.segment(id).free_extent();
                lists.free.push_back(id);
            }
        }
    }

    fn used(&self, id: u32) -> Used {
        Used(self.segment(id).used_parts())
    }

    /// Notes the use of a segment's parts, and keeps it in the list exactly while some are used and
    /// some free.
    fn set_used(&self, lists: &mut Lists, id: u32, before: Used, now: Used) {
        self.segment(id).set_used_parts(now.0);
        let all = Used::run(0, self.geometry.parts_per_segment());
        let is_shared = |used| used != Used::NONE && used != all;
        match (is_shared(before), is_shared(now)) {
            (false, true) => {
                self.segment(id).set_place(lists.shared.len() as u64);
                lists.shared.push(id);
            }
            (true, false) => {
                let place = self.segment(id).place();
                lists.shared.swap_remove(place as usize);
                if let Some(&moved) = lists.shared.get(place as usize) {
                    self.segment(moved).set_place(place);
                }
            }
            _ => {}
        }
    }
}

impl Geometry {
    /// Parts of a segment that extents are made of.
    pub(crate) fn parts_per_segment(&self) -> u32 {
        (self.segment_bytes / self.part_bytes) as u32
    }

    /// Parts of large values whose items one open segment takes: no more are added beyond.
    pub(crate) fn named_parts_max(&self) -> u32 {
        (self.segments / shape::NAMED_SHARE).max(1) * self.parts_per_segment()
    }

    /// Whether an extent, which nobody vouches for, lies within one segment.
    pub(crate) fn has_extent(&self, extent: Extent) -> bool {
        let (at, parts) = (extent.offset(), u64::from(extent.parts()));
        let within = at.wrapping_sub(self.segments_at) % self.segment_bytes;
        (self.segments_at..self.arena_bytes).contains(&at)
            && parts > 0
            && within.is_multiple_of(self.part_bytes)
            && within + parts * self.part_bytes <= self.segment_bytes
    }

    /// The segment that an extent lies in, and its parts there, a bit each.
    pub(crate) fn place_of(&self, extent: Extent) -> (u32, u64) {
        let from_start = extent.offset() - self.segments_at;
        let first = from_start % self.segment_bytes / self.part_bytes;
        let id = (from_start / self.segment_bytes) as u32;
        (id, Used::run(first as u32, extent.parts()).0)
    }

    /// Parts that a value of so many bytes takes.
    pub(crate) fn parts(&self, value_bytes: u64) -> u32 {
        let all = self.parts_per_segment();
        let whole = value_bytes / self.segment_bytes;
        let references_bytes = match whole {
            0 => REFERENCES_BYTES,
            _ => 0,
        };
        let left_parts = match value_bytes % self.segment_bytes {
            0 => 0,
            left_bytes => (left_bytes + references_bytes).div_ceil(self.part_bytes),
        };
        whole as u32 * all + (left_parts as u32).min(all)
    }
}

/// Parts of all of these extents.
pub(crate) fn parts(extents: &[Extent]) -> u32 {
    extents.iter().map(|extent| extent.parts()).sum()
}

#[cfg(test)]
mod tests {
    use super::Used;

    #[test]
    fn the_longest_run_that_is_wanted_is_found() {
        for (used, wanted, expected) in [
            (0b0000, 4, (0, 4)),
            (0b0000, 2, (0, 2)),
            (0b0001, 4, (1, 3)),
            (0b0110, 2, (0, 1)),
            (0b0010, 2, (2, 2)),
            (0b1011, 3, (2, 1)),
            (0b1111, 1, (0, 0)),
        ] {
            assert_eq!(Used(used).free_run(4, wanted), expected, "{used:b}");
        }
        assert_eq!(Used(0).free_run(16, 16), (0, 16));
        assert_eq!(Used(0x7fff).free_run(16, 3), (15, 1));
    }
}
