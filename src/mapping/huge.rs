//! Huge pages, and pages that are given back.
//!
//! **The memory bound.** Most of the arena's address range is only reserved, and a huge page comes into being
//! as a whole at the first touch of any byte of it. So all of the mapping is told to take none, whatever the
//! system's policy, except the whole, aligned huge pages within the segments, and within what was paid for of
//! the index: every byte there counts as memory already.
//!
//! When a segment is given back, the system splits the huge page that it lies in, and keeps the rest;
//! that huge page is told to take none from then on, or the system might put it together again and
//! fill the hole.
//!
//! **How they come.** Few systems give huge pages to shared memory by themselves, all since Linux 6.1 make them
//! of a range when told to (`MADV_COLLAPSE`, which asks no policy but `deny`). So whoever maintains the memory
//! has them [made](super::Mapping::make_huge_page), one after the other, where memory comes into use.
//!
//! That takes milliseconds, and more while the maker is without its core. Whoever gives pages back meanwhile,
//! to pay for the index's growth, neither waits nor is refused: pages of the huge page that is being made are
//! given back by its maker, afterwards.
//!
//! Pages of hugetlbfs (`vm.nr_hugepages`) are of no use here: they cannot be given back in part,
//! and a segment is smaller than one, so the index could never pay for its growth.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use rustix::io::Errno;
use rustix::mm::Advice;

use super::{Mapping, page_bytes};
use crate::pages::{HUGE_PAGE_BYTES, HugePages, PagePlan, PagesError, whole_huge_pages};
use crate::sync::Ordering;

/// LIMIT: tries to make huge pages, since other use of the pages can be in the way for a moment.
const HUGE_ATTEMPTS: u32 = 8;
/// `MADV_COLLAPSE`, since Linux 6.1; not every C library names it.
const MADV_COLLAPSE: i32 = 25;

/// Where huge pages begin.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// Those that were made, and have no hole since.
    made: BTreeSet<u64>,
    /// Those that are none, since a part was given away.
    broken: BTreeSet<u64>,
    /// The one that is being made.
    making: Option<u64>,
    /// What was given back of it meanwhile. It would come back with the huge page, so its maker gives it back
    /// afterwards.
    owed: Vec<Range<u64>>,
}

impl Mapping {
    /// Whether huge pages may be made where memory comes into use.
    pub(crate) fn takes_huge_pages(&self) -> bool {
        self.takes_huge
    }

    /// Puts the range of a huge page into one, whether or not it is in use; none of its pages has been given
    /// back since the mapping was arranged, and all of it counts as memory.
    ///
    /// # Errors
    ///
    /// The system has no free memory in a row for it ([`OutOfMemory`](io::ErrorKind::OutOfMemory)), does
    /// not make any, or was told to make none of this one; or another one is being made.
    pub(crate) fn make_huge_page(&self, offset: u64) -> io::Result<()> {
        if !self.begin_huge_page(offset)? {
            return Ok(());
        }
        let range = offset..offset + HUGE_PAGE_BYTES;
        let advised = match self.huge.contains(&offset) {
            true => Ok(()),
            false => self.advise(range.clone(), Advice::LinuxHugepage),
        };
        let made = advised.and_then(|()| self.make_huge(&range));
        self.end_huge_page(offset, made)
    }

    /// Notes that a huge page is being made; false if it was made already.
    pub(super) fn begin_huge_page(&self, offset: u64) -> io::Result<bool> {
        let mut whole = self.whole.lock();
        if whole.broken.contains(&offset) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if whole.making.is_some() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let is_new = !whole.made.contains(&offset);
        whole.making = is_new.then_some(offset);
        Ok(is_new)
    }

    /// Notes that it was `made`, or why not, and gives back what it owes.
    pub(super) fn end_huge_page(&self, offset: u64, made: io::Result<()>) -> io::Result<()> {
        let mut whole = self.whole.lock();
        whole.making = None;
        // What the system does not take now is offered again after the next one.
        (whole.owed).retain(|range| self.advise(range.clone(), Advice::LinuxRemove).is_err());
        made?;
        if whole.broken.contains(&offset) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        whole.made.insert(offset);
        self.note_made(&whole);
        Ok(())
    }

    /// Makes the huge pages of a range.
    fn make_huge(&self, range: &Range<u64>) -> io::Result<()> {
        // The system makes none where there is nothing at all.
        for start in starts(range) {
            self.advise(start..start + page_bytes(), Advice::LinuxPopulateWrite)?;
        }
        Ok(self.collapse(range)?)
    }

    /// Gives the pages of a range back to the system; they read as zero afterwards. Where a huge page is being
    /// made around it at this moment, its maker gives them back.
    ///
    /// LIMIT: the system zeroes a part of a huge page, and keeps it until the page is split, if
    /// somebody outside this process holds the page at that moment.
    ///
    /// # Safety
    ///
    /// The range is inside the mapping, and nobody reads or writes it meanwhile; nor ever again, if
    /// huge pages are made meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever the system says; the range is then unchanged.
    pub(crate) unsafe fn release(&self, range: Range<u64>) -> io::Result<()> {
        let mut whole = self.whole.lock();
        if self.takes_huge {
            let Range { start, end } = around(&range);
            let around = start..end.min(self.bytes);
            // The system bounds how often a mapping may be divided; beyond that, all of it goes
            // without.
            self.take_no_huge_pages(around.clone())
                .or_else(|_| self.take_no_huge_pages(0..self.bytes))?;
            let lost: Vec<_> = whole.made.range(around.clone()).copied().collect();
            lost.iter().for_each(|start| {
                whole.made.remove(start);
            });
            self.note_made(&whole);
            whole.broken.extend(starts(&self.huge_around(&range)));
            if let Some(making) = whole.making
                && around.contains(&making)
            {
                whole.broken.insert(making);
                whole.owed.push(range);
                return Ok(());
            }
        }
        self.advise(range, Advice::LinuxRemove)
    }

    /// Lets the segments, and what there is of the index, have huge pages: those that are there already, those
    /// that the system gives by itself, and those that will be made.
    pub(super) fn allow_huge_pages(&mut self, plan: &PagePlan) -> Result<(), PagesError> {
        let insists = plan.huge_pages == HugePages::Always;
        let whole = whole_huge_pages(&plan.segments);
        if whole.is_empty() && insists {
            let huge_page_bytes = HUGE_PAGE_BYTES;
            return Err(PagesError::NoRoomForHuge { huge_page_bytes });
        }
        if whole.is_empty() {
            return Ok(());
        }
        match self.advise(whole.clone(), Advice::LinuxHugepage) {
            Ok(()) => self.huge = whole,
            Err(reason) if insists => return Err(PagesError::NoHuge { reason }),
            Err(_) => return Ok(()),
        }
        self.takes_huge = true;
        for range in plan.index.iter().map(whole_huge_pages) {
            // It may go without.
            let _ = self.advise(range, Advice::LinuxHugepage);
        }
        Ok(())
    }

    /// The huge pages that a range touches, of those that the segments may have.
    fn huge_around(&self, range: &Range<u64>) -> Range<u64> {
        let around = around(range);
        around.start.max(self.huge.start)..around.end.min(self.huge.end)
    }

    /// The huge pages that the segments may have and that touch none of these ranges, which follow each other;
    /// the others are told to be none.
    pub(super) fn huge_without(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let (mut whole, mut start) = (Vec::new(), self.huge.start);
        for around in ranges.iter().map(|range| self.huge_around(range)) {
            if !around.is_empty() {
                self.whole.lock().broken.extend(starts(&around));
                // Whoever gives the range back tells it again, and answers for what the system refuses.
                let _ = self.take_no_huge_pages(around.clone());
                whole.push(start..around.start);
                start = around.end;
            }
        }
        whole.push(start..self.huge.end);
        whole.retain(|range| !range.is_empty());
        whole
    }

    /// Makes all huge pages of these ranges, until one cannot be had.
    pub(super) fn make_huge_pages(&self, ranges: &[Range<u64>]) -> Result<(), PagesError> {
        let made = ranges.iter().try_for_each(|range| {
            self.make_huge(range)?;
            let mut whole = self.whole.lock();
            whole.made.extend(starts(range));
            self.note_made(&whole);
            Ok(())
        });
        made.map_err(|reason: io::Error| match reason.kind() {
            io::ErrorKind::OutOfMemory
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::ResourceBusy => PagesError::NoFreeHuge { reason },
            _ => PagesError::NoHuge { reason },
        })
    }

    fn note_made(&self, whole: &Whole) {
        let bytes = whole.made.len() as u64 * HUGE_PAGE_BYTES;
        // ORDERING: Relaxed; a figure.
        self.huge_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Puts a range into huge pages.
    fn collapse(&self, range: &Range<u64>) -> Result<(), Errno> {
        for attempt in 1.. {
            match self.collapse_once(range) {
                Err(Errno::AGAIN | Errno::BUSY) if attempt < HUGE_ATTEMPTS => {}
                told => return told,
            }
        }
        Ok(())
    }

    fn collapse_once(&self, range: &Range<u64>) -> Result<(), Errno> {
        let (start, bytes) = self.pages_of(range);
        // SAFETY: inside the mapping; it moves pages and keeps their contents.
        let told = unsafe { libc::madvise(start.cast(), bytes, MADV_COLLAPSE) };
        match told {
            0 => Ok(()),
            _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
        }
    }

    pub(super) fn take_no_huge_pages(&self, range: Range<u64>) -> io::Result<()> {
        match self.advise(range, Advice::LinuxNoHugepage) {
            // A system that knows no huge pages gives none.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            advised => advised,
        }
    }
}

/// Where the huge pages of a range begin.
fn starts(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    range.clone().step_by(HUGE_PAGE_BYTES as usize)
}

/// The huge pages that a range of offsets touches.
fn around(range: &Range<u64>) -> Range<u64> {
    range.start - range.start % HUGE_PAGE_BYTES..range.end.next_multiple_of(HUGE_PAGE_BYTES)
}
