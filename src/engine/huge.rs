//! Huge pages, made where memory comes into use.
//!
//! They save most of the page walks of random reads, and nearly all that a restart pays for pages; and few
//! systems give them to shared memory by themselves. So whoever maintains the cache has one made at a
//! time: of the segments up to the last that was ever taken and a little ahead, which costs less than the faults of
//! its small pages would, since nothing is copied; of the index and the ghosts as far as they are
//! paid for. One that cannot be had is passed over.
//!
//! All of this counts as memory already. (A segment that was withdrawn counts no more, and
//! [`Arena::make_huge_page`] leaves it alone.)
//!
//! [`Arena::make_huge_page`]: crate::arena::Arena::make_huge_page

use std::io::ErrorKind;
use std::ops::{Range, RangeInclusive};

use crate::engine::cache::Shared;
use crate::pages::{HUGE_PAGE_BYTES, whole_huge_pages};

/// LIMIT: how far ahead of the segments in use: this share (1/N) of the memory, within bounds.
const AHEAD_SHARE: u64 = 128;
const AHEAD_BYTES: RangeInclusive<u64> = HUGE_PAGE_BYTES..=8 * HUGE_PAGE_BYTES;

/// LIMIT: where memory in a row was missing so often, no more is looked for: that takes the system long.
const REFUSALS_MAX: u32 = 16;

/// How far huge pages were made.
#[derive(Debug, Default)]
pub(crate) struct HugePageMaker {
    /// Of each range, the offset of the next one.
    next: [u64; 4],
    refusals: u32,
}

impl HugePageMaker {
    /// The next one to be made of these ranges.
    fn take(&mut self, ranges: &[Range<u64>; 4]) -> Option<u64> {
        if self.refusals >= REFUSALS_MAX {
            return None;
        }
        let mut ranges = self.next.iter_mut().zip(ranges);
        ranges.find_map(|(next, range)| {
            let whole = whole_huge_pages(range);
            let at = whole.start.max(*next);
            (at < whole.end).then(|| {
                *next = at + HUGE_PAGE_BYTES;
                at
            })
        })
    }
}

impl Shared {
    /// Makes a huge page, if one is due; false if none is, or somebody else is at it.
    pub(crate) fn make_huge_page(&self) -> bool {
        if !self.arena.takes_huge_pages() {
            return false;
        }
        let (maker, paid) = (self.huge_pages.try_lock(), self.index.paid());
        let (Some(mut maker), Some([buckets, overflow])) = (maker, paid) else {
            return false;
        };
        let mut segments = self.segments.taken();
        if !segments.is_empty() {
            let ahead_bytes = self.geometry.memory_bytes / AHEAD_SHARE;
            let ahead_bytes = ahead_bytes.clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end());
            // To the end of the last huge page.
            let end = (segments.end + ahead_bytes).next_multiple_of(HUGE_PAGE_BYTES);
            segments.end = end.min(self.geometry.arena_bytes);
        }
        let Some(at) = maker.take(&[segments, buckets, overflow, self.ghosts.paid()]) else {
            return false;
        };
        if let Err(error) = self.arena.make_huge_page(at)
            && error.kind() == ErrorKind::OutOfMemory
        {
            maker.refusals += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{HUGE_PAGE_BYTES, HugePageMaker};

    #[test]
    fn each_whole_huge_page_is_made_once_as_its_range_grows() {
        let mut maker = HugePageMaker::default();
        let mut take = |end: u64| {
            let ranges = [1..end * HUGE_PAGE_BYTES + 1, 0..0, 0..1, 0..0];
            maker.take(&ranges).map(|at| at / HUGE_PAGE_BYTES)
        };
        assert_eq!([take(0), take(1)], [None, None]);
        assert_eq!([take(3), take(3), take(3)], [Some(1), Some(2), None]);
        assert_eq!([take(4), take(4)], [Some(3), None]);
    }
}
