//! The arena's mapping: a sealed memfd of fixed size, mapped shared, and the pages it comes in.
//!
//! The mapping is kept out of core dumps: it is large, and what it holds is other people's.
//!
//! Which of its pages are huge, and what is given back of them: [`huge`].
//!
//! A mapping that its process may write to belongs to that process alone ([`owner`]); others may look
//! at the same memory, and change nothing.

mod huge;
mod owner;
mod scratch;
mod system;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;

pub(crate) use std::os::fd::{BorrowedFd, OwnedFd};

pub(crate) use self::scratch::Scratch;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use self::huge::Whole;
use self::owner::OwnersMark;
use crate::pages::{HUGE_PAGE_BYTES, HugePages, PagePlan, Pages, PagesError, Prefault};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What the system counts the size of files in.
const BLOCK_BYTES: u64 = 512;
/// What keeps the file as large as the mapping.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A live mapping of shared memory, aligned to huge pages.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// INVARIANT: the start of a live mapping of `bytes` bytes, until drop.
    start: NonNull<u8>,
    bytes: u64,
    /// INVARIANT: address space that is this mapping's own, and holds it, until drop.
    _reserved: Reserved,
    /// What is mapped, for whoever is to map it too.
    memory: OwnedFd,
    /// That it is this process's; `None`: it only looks at it.
    mark: Option<OwnersMark>,
    /// Of the segments, the offsets that may come in huge pages: whole ones, or none at all.
    huge: Range<u64>,
    /// Whether there may be any.
    takes_huge: bool,
    /// Held while pages are given back, and to note what is about to be made; never while one is made, which
    /// takes milliseconds, and longer where the maker loses its core.
    whole: Mutex<Whole>,
    /// What those that were made come to, for whoever does not wait.
    huge_bytes: AtomicU64,
}

/// What a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Self::Read => ProtFlags::READ,
            Self::Write => ProtFlags::READ | ProtFlags::WRITE,
        }
    }
}

/// A range of addresses that nobody else uses.
#[derive(Debug)]
struct Reserved {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` bytes, all zero, with no page in use yet, and none to be huge. The name is what the
    /// system shows beside the descriptor.
    ///
    /// # Errors
    ///
    /// Whatever the system says when it refuses the memfd, its size, its seals or the mapping.
    pub(crate) fn new(name: &str, bytes: u64) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&memory, bytes)?;
        rustix::fs::fcntl_add_seals(&memory, SIZE_SEALS)?;
        let mut mapping = Self::map(memory, bytes, Access::Write)?;
        match mapping.own()? {
            true => Ok(mapping),
            false => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }

    /// Maps memory that another mapping made, as it is, whoever had it before. It is this process's
    /// once it is [owned](Self::own).
    ///
    /// # Errors
    ///
    /// If it is not a memfd of a fixed size, which is at least `bytes_min` and a multiple of 8, or
    /// the system refuses the mapping.
    pub(crate) fn attach(memory: OwnedFd, bytes_min: u64) -> io::Result<Self> {
        let bytes = size_of_memory(memory.as_fd(), bytes_min)?;
        Self::map(memory, bytes, Access::Write)
    }

    /// The same to look at, whoever owns it: who writes to the mapping is ended by the system.
    ///
    /// # Errors
    ///
    /// As of [`Mapping::attach`].
    pub(crate) fn look_at(memory: BorrowedFd<'_>, bytes_min: u64) -> io::Result<Self> {
        let bytes = size_of_memory(memory, bytes_min)?;
        Self::map(memory.try_clone_to_owned()?, bytes, Access::Read)
    }

    /// Makes the memory this process's, for as long as the mapping is there; false if it is
    /// somebody's, also if it is another mapping's of this process.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(crate) fn own(&mut self) -> io::Result<bool> {
        self.mark = OwnersMark::make(self.memory.as_fd())?;
        Ok(self.mark.is_some())
    }

    /// Whether the memory is somebody's.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(crate) fn is_owned(&self) -> io::Result<bool> {
        owner::is_owned(self.memory.as_fd())
    }

    fn map(memory: OwnedFd, bytes: u64, access: Access) -> io::Result<Self> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        let reserved = Reserved::new(length)?;
        let start = reserved.aligned();
        // SAFETY: the addresses are inside what was just reserved, and nobody uses them; the seals
        // keep the file from shrinking under the mapping.
        let mapped = unsafe {
            rustix::mm::mmap(
                start.as_ptr().cast(),
                length,
                access.protection(),
                MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED,
                &memory,
                0,
            )?
        };
        debug_assert_eq!(mapped, start.as_ptr().cast());
        let mapping = Self {
            start,
            bytes,
            _reserved: reserved,
            memory,
            mark: None,
            huge: 0..0,
            takes_huge: false,
            whole: Mutex::default(),
            huge_bytes: AtomicU64::new(0),
        };
        mapping.advise(0..bytes, Advice::LinuxDontDump)?;
        mapping.take_no_huge_pages(0..bytes)?;
        Ok(mapping)
    }

    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is mapped.
    pub(crate) fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// The pages that it comes in by now.
    pub(crate) fn pages(&self) -> Pages {
        // ORDERING: Relaxed; a figure.
        match self.huge_bytes.load(Ordering::Relaxed) {
            0 => Pages::Base,
            bytes => Pages::Huge { bytes },
        }
    }

    /// What the system could come to give this process.
    pub(crate) fn system_bytes(&self) -> Option<u64> {
        system::limit_bytes()
    }

    /// Carries out what was asked for, before anybody else uses the mapping.
    ///
    /// # Errors
    ///
    /// If what was insisted on cannot be had.
    pub(crate) fn arrange(&mut self, plan: &PagePlan) -> Result<(), PagesError> {
        if plan.huge_pages != HugePages::Never {
            self.allow_huge_pages(plan)?;
        }
        let whole = self.huge_without(&plan.given_away);
        let ahead = match (plan.prefault, plan.huge_pages) {
            (Prefault::Ahead, _) => &plan.in_use,
            (Prefault::OnFirstUse, HugePages::Always) => &whole,
            (Prefault::OnFirstUse, HugePages::Auto | HugePages::Never) => {
                return self.could_be_had(&plan.in_use);
            }
        };
        self.are_available(ahead)?;
        // Before the others, which would have to be copied.
        let made = self.make_huge_pages(&whole);
        if plan.huge_pages == HugePages::Always {
            made?;
        }
        match plan.prefault {
            Prefault::Ahead => self.touch(&plan.in_use),
            Prefault::OnFirstUse => Ok(()),
        }
    }

    /// Whether there is memory for what these ranges do not have yet.
    ///
    /// The system would end the process, not refuse a page, where memory runs out.
    fn are_available(&self, ranges: &[Range<u64>]) -> Result<(), PagesError> {
        let wanted_bytes = self.missing_bytes(ranges);
        match system::available_bytes() {
            Some(available_bytes) if available_bytes < wanted_bytes => {
                Err(PagesError::NotAvailable {
                    wanted_bytes,
                    available_bytes,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether the system has as much memory as these ranges take, unless they have some already: who goes on in
    /// them is not to be refused what is there.
    ///
    /// Where it has less, it would end the process as they fill.
    fn could_be_had(&self, ranges: &[Range<u64>]) -> Result<(), PagesError> {
        let wanted_bytes = bytes_of(ranges);
        match self.system_bytes() {
            Some(limit_bytes)
                if limit_bytes < wanted_bytes && self.missing_bytes(ranges) == wanted_bytes =>
            {
                Err(PagesError::MoreThanThereIs {
                    wanted_bytes,
                    limit_bytes,
                })
            }
            _ => Ok(()),
        }
    }

    /// What these ranges come to, less all that the memory has already: whoever goes on in it asks for the
    /// rest.
    fn missing_bytes(&self, ranges: &[Range<u64>]) -> u64 {
        let blocks = rustix::fs::fstat(&self.memory).map_or(0, |stat| stat.st_blocks);
        bytes_of(ranges).saturating_sub(blocks.unsigned_abs() * BLOCK_BYTES)
    }

    /// Brings the pages of these ranges into being.
    fn touch(&self, ranges: &[Range<u64>]) -> Result<(), PagesError> {
        for range in ranges {
            match self.advise(range.clone(), Advice::LinuxPopulateWrite) {
                // Before Linux 5.14.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.touch_each_page(range);
                }
                touched => touched.map_err(|reason| PagesError::Touch {
                    wanted_bytes: range.end - range.start,
                    reason,
                })?,
            }
        }
        Ok(())
    }

    fn touch_each_page(&self, range: &Range<u64>) {
        let page_bytes = page_bytes() as usize;
        for offset in (range.start..range.end).step_by(page_bytes) {
            let word = self.address(offset).cast::<AtomicU64>();
            // SAFETY: inside the mapping, which the plan's ranges never leave; aligned, since the
            // ranges begin at a multiple of 8, and so does every page.
            let word = unsafe { &*word };
            // ORDERING: Relaxed; a write that changes nothing.
            word.fetch_or(0, Ordering::Relaxed);
        }
    }

    fn advise(&self, range: Range<u64>, advice: Advice) -> io::Result<()> {
        let (start, bytes) = self.pages_of(&range);
        // SAFETY: inside the mapping, as all callers see to; of the kinds of advice that are given
        // here, only `LinuxRemove` changes contents, and its caller answers for that.
        unsafe { rustix::mm::madvise(start.cast(), bytes, advice)? };
        Ok(())
    }

    /// The address and length of the whole pages that a range touches.
    fn pages_of(&self, range: &Range<u64>) -> (*mut u8, usize) {
        debug_assert!(range.start <= range.end && range.end <= self.bytes);
        let page_bytes = page_bytes();
        let start = range.start - range.start % page_bytes;
        (self.address(start), (range.end - start) as usize)
    }

    fn address(&self, offset: u64) -> *mut u8 {
        // SAFETY: callers keep to the mapping.
        unsafe { self.start.as_ptr().add(offset as usize) }
    }
}

impl Reserved {
    /// Addresses for `length` bytes from an aligned one on; no memory.
    fn new(length: usize) -> io::Result<Self> {
        let bytes = length
            .checked_add(HUGE_PAGE_BYTES as usize)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags)?
        };
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// The first address that a huge page could begin at.
    fn aligned(&self) -> NonNull<u8> {
        let past = self.start.addr().get() % HUGE_PAGE_BYTES as usize;
        let skipped = (HUGE_PAGE_BYTES as usize - past) % HUGE_PAGE_BYTES as usize;
        // SAFETY: less than a huge page further, which was reserved beyond the length.
        unsafe { self.start.add(skipped) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: reserved in `new` with this length; whatever lies in it goes with it, and nothing
        // borrows it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

fn bytes_of(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The size of memory that can be mapped.
fn size_of_memory(memory: BorrowedFd<'_>, bytes_min: u64) -> io::Result<u64> {
    // What is no memfd has no seals.
    let seals = rustix::fs::fcntl_get_seals(memory).unwrap_or(SealFlags::empty());
    if !seals.contains(SIZE_SEALS) {
        return Err(io::Error::other(
            "it is no memfd that is sealed against growing and shrinking",
        ));
    }
    let bytes = u64::try_from(rustix::fs::fstat(memory)?.st_size).unwrap_or(0);
    if bytes < bytes_min || bytes % 8 != 0 {
        return Err(io::Error::other(format!(
            "its size is {bytes} bytes; accepted: {bytes_min} or more, and a multiple of 8"
        )));
    }
    Ok(bytes)
}

/// The size of the system's pages. (Asked of the C library, since `rustix` reads it from where
/// valgrind, which counts our instructions, lets nobody read.)
fn page_bytes() -> u64 {
    // SAFETY: asks for a number.
    let told = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(told).unwrap_or(4096)
}
