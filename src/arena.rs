//! The arena: one shared-memory mapping that holds everything the cache owns.
//!
//! It is a sealed memfd of fixed size ([`Mapping`]), addressed by offsets, never by pointers, so that
//! another process may map it elsewhere. Pages come into being when first touched, or ahead where
//! that was asked for ([`Arena::arrange_pages`]); the caller accounts for them and gives them back
//! with [`Arena::release`].
//!
//! A byte of the arena is either *atomic* (inside an aligned 8-byte word that is only ever reached
//! through [`Arena::word`]) or *plain* (reached through [`Arena::read`], [`Arena::write`] and
//! [`Arena::lend`]). Which one is fixed by the layout; inside a segment it is up to the item that
//! lies there, and changes only while nobody but the segment's owner can see it.

#[cfg(target_arch = "x86_64")]
mod wide;

use std::io;
use std::ptr::NonNull;

use crate::mapping::Mapping;
pub(crate) use crate::mapping::{BorrowedFd, OwnedFd, Scratch};
use crate::pages::{HUGE_PAGE_BYTES, PagePlan, Pages, PagesError};
use crate::sync::{AtomicU64, Ordering};

/// Where the tag of a word begins.
const TAG_SHIFT: u32 = 48;

/// A fixed-size shared-memory mapping addressed by byte offsets.
#[derive(Debug)]
pub(crate) struct Arena {
    /// What the mapping says of itself, at hand. INVARIANT: never changes.
    start: NonNull<u8>,
    bytes: u64,
    mapping: Mapping,
}

// SAFETY: the mapping is shared memory that no thread owns; every access goes through atomics or
// through `read` and `write`, whose callers answer for the absence of races.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Adjacent atomic words.
pub(crate) type Words<'a, const N: usize> = &'a [AtomicU64; N];

impl Arena {
    /// Creates an arena of `bytes` bytes, all zero, with no page in use yet.
    ///
    /// # Errors
    ///
    /// Whatever the system says when it refuses the memfd, its size, its seals or the mapping.
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        Self::named("larder-arena", bytes)
    }

    /// The same by another name, which the system shows beside the descriptor.
    ///
    /// # Errors
    ///
    /// As [`Arena::new`].
    pub(crate) fn named(name: &str, bytes: u64) -> io::Result<Self> {
        Ok(Self::of(Mapping::new(name, bytes)?))
    }

    /// Attaches to an arena that another mapping made, of at least `bytes_min` bytes.
    ///
    /// # Errors
    ///
    /// If the memory is no such arena, or whatever the system says when it refuses the mapping.
    pub(crate) fn attach(memory: OwnedFd, bytes_min: u64) -> io::Result<Self> {
        Ok(Self::of(Mapping::attach(memory, bytes_min)?))
    }

    /// The same to look at, whoever owns it. Nobody may write through it: the system would end the
    /// process.
    ///
    /// # Errors
    ///
    /// As of [`Arena::attach`].
    pub(crate) fn look_at(memory: BorrowedFd<'_>, bytes_min: u64) -> io::Result<Self> {
        Ok(Self::of(Mapping::look_at(memory, bytes_min)?))
    }

    /// Makes an arena that was attached to this process's own; false if it is somebody's.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(crate) fn own(&mut self) -> io::Result<bool> {
        self.mapping.own()
    }

    /// Whether the arena is somebody's.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    pub(crate) fn is_owned(&self) -> io::Result<bool> {
        self.mapping.is_owned()
    }

    fn of(mapping: Mapping) -> Self {
        Self {
            start: mapping.start(),
            bytes: mapping.bytes(),
            mapping,
        }
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The shared memory, for whoever is to attach to it.
    pub(crate) fn memory(&self) -> BorrowedFd<'_> {
        self.mapping.memory()
    }

    /// Sees to the pages that were asked for, before the arena is shared.
    ///
    /// # Errors
    ///
    /// If what was insisted on cannot be had.
    pub(crate) fn arrange_pages(&mut self, plan: &PagePlan) -> Result<(), PagesError> {
        self.mapping.arrange(plan)
    }

    /// Whether huge pages may be made where the arena comes into use.
    pub(crate) fn takes_huge_pages(&self) -> bool {
        self.mapping.takes_huge_pages()
    }

    /// Has the bytes of a huge page lie in one, from a multiple of its size on. They may be in use; what is
    /// being given back meanwhile, or was since the pages were arranged, is left as it is.
    ///
    /// # Errors
    ///
    /// As of [`Mapping::make_huge_page`].
    pub(crate) fn make_huge_page(&self, offset: u64) -> io::Result<()> {
        self.check(offset, HUGE_PAGE_BYTES as usize);
        self.mapping.make_huge_page(offset)
    }

    /// The pages that the arena comes in.
    pub(crate) fn pages(&self) -> Pages {
        self.mapping.pages()
    }

    /// What the system could come to give this process.
    pub(crate) fn system_bytes(&self) -> Option<u64> {
        self.mapping.system_bytes()
    }

    /// The atomic word at `offset`, which must be a multiple of 8 inside the arena.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[inline]
    pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
        // Its number among such words: far above any that is inside, where it is not aligned.
        let number = offset.rotate_right(3);
        assert!(number < self.bytes >> 3, "word outside arena");
        let pointer = self.pointer(offset).cast::<AtomicU64>();
        // SAFETY: aligned and inside the mapping (asserted; its length is a multiple of 8), and the
        // layout reaches this word only as an atomic.
        unsafe { &*pointer }
    }

    /// The `N` atomic words from `offset` on: [`Arena::word`] for a whole structure at once.
    ///
    /// # Panics
    ///
    /// If they are not aligned or leave the arena.
    #[inline]
    pub(crate) fn words<const N: usize>(&self, offset: u64) -> Words<'_, N> {
        assert!(offset & 7 == 0, "words not aligned");
        self.check(offset, N * 8);
        let pointer = self.pointer(offset).cast::<[AtomicU64; N]>();
        // SAFETY: as in `word`.
        unsafe { &*pointer }
    }

    /// The `N` atomic words of a bucket at `offset`, and which of them, the last aside, have the upper
    /// 16 bits of `like`: a bit for each, the first the lowest. Each word is loaded with Acquire.
    ///
    /// # Panics
    ///
    /// If the bucket leaves the arena, or does not lie at a multiple of its own size, a power of two.
    #[inline]
    pub(crate) fn tagged<const N: usize>(&self, offset: u64, like: u64) -> (Words<'_, N>, u32) {
        const { assert!(N.is_power_of_two()) };
        // Its number among such buckets, as in `word`.
        let size_bits = (N * 8).trailing_zeros();
        let number = offset.rotate_right(size_bits);
        assert!(number < self.bytes >> size_bits, "bucket outside arena");
        let pointer = self.pointer(offset).cast::<[AtomicU64; N]>();
        // SAFETY: as in `word`.
        let words = unsafe { &*pointer };
        let all = (1 << (N - 1)) - 1;
        // SAFETY: a bucket lies at a multiple of its size, which is 32 bytes at least where it matters,
        // and the mapping begins with a page.
        #[cfg(target_arch = "x86_64")]
        if let Some(tagged) = unsafe { wide::tagged(words, like) } {
            return (words, tagged & all);
        }
        let has_tag = |word: &AtomicU64| (word.load(Ordering::Acquire) ^ like) >> TAG_SHIFT == 0;
        let bits = words.iter().map(|word| u32::from(has_tag(word)));
        (words, bits.rev().fold(0, |bits, bit| bits << 1 | bit) & all)
    }

    /// The plain bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Nobody writes to them while the result lives.
    ///
    /// # Panics
    ///
    /// If the range leaves the arena.
    #[inline]
    pub(crate) unsafe fn read(&self, offset: u64, bytes: usize) -> &[u8] {
        self.check(offset, bytes);
        // SAFETY: inside the mapping (checked); the caller answers for writers.
        unsafe { std::slice::from_raw_parts(self.pointer(offset), bytes) }
    }

    /// Writes `bytes` to the plain bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes them meanwhile, and `bytes` does not overlap them.
    ///
    /// # Panics
    ///
    /// If the range leaves the arena.
    #[inline]
    pub(crate) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
        self.check(offset, bytes.len());
        let target = self.pointer(offset);
        // SAFETY: inside the mapping (checked); the caller answers for everyone else.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    /// Lends the plain bytes at `offset` to be written.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes them while the result lives.
    ///
    /// # Panics
    ///
    /// If the range leaves the arena.
    #[allow(
        clippy::mut_from_ref,
        reason = "the caller answers for who else has the bytes"
    )]
    pub(crate) unsafe fn lend(&self, offset: u64, bytes: usize) -> &mut [u8] {
        self.check(offset, bytes);
        // SAFETY: inside the mapping (checked); the caller answers for everyone else.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(offset), bytes) }
    }

    /// Says that the caller alone has the bytes at `offset`, plain or not, and what they held does
    /// not matter. The model checker's arena checks it; here it costs nothing.
    #[inline]
    pub(crate) fn assert_unshared(&self, offset: u64, bytes: usize) {
        debug_assert!(offset + bytes as u64 <= self.bytes);
    }

    /// Asks the processor to fetch the cache line at `offset`, if there is one.
    #[inline]
    pub(crate) fn prefetch(&self, offset: u64) {
        prefetch_at(self.start.as_ptr().wrapping_add(offset as usize));
    }

    /// Asks for the cache line that the word at `offset` names, if it does, as it happens to be.
    #[inline]
    pub(crate) fn prefetch_through(&self, offset: u64, line: impl FnOnce(u64) -> Option<u64>) {
        // ORDERING: Relaxed; nothing depends on it.
        if let Some(at) = line(self.word(offset).load(Ordering::Relaxed)) {
            self.prefetch(at);
        }
    }

    /// Gives the pages of a range back to the system; they read as zero afterwards. Where a huge page is being
    /// [made](Self::make_huge_page) around it at this moment, its maker gives them back.
    ///
    /// # Safety
    ///
    /// Nobody reads or writes the range meanwhile; nor ever again, if huge pages are made meanwhile.
    ///
    /// # Errors
    ///
    /// Whatever the system says; the range is then unchanged.
    pub(crate) unsafe fn release(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(offset, usize::try_from(bytes).unwrap_or(usize::MAX));
        // SAFETY: inside the mapping (checked); the caller answers for its contents.
        unsafe { self.mapping.release(offset..offset + bytes) }
    }

    #[inline]
    fn check(&self, offset: u64, bytes: usize) {
        let is_inside = offset <= self.bytes && bytes as u64 <= self.bytes - offset;
        assert!(is_inside, "range outside arena");
    }

    #[inline]
    fn pointer(&self, offset: u64) -> *mut u8 {
        debug_assert!(offset <= self.bytes);
        // SAFETY: callers have checked that `offset` is inside the mapping.
        unsafe { self.start.as_ptr().add(offset as usize) }
    }
}

/// Asks the processor to fetch the cache line that a value begins in.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast());
}

/// Into the second-level cache, where far more lines can be under way at a time than into the first: those of a whole
/// batch of reads. From there they are had at once.
#[inline]
fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program can observe, and faults nowhere; SSE is
        // part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::{Arena, Ordering};

    #[test]
    fn a_released_range_reads_as_zero() {
        let arena = Arena::new(1 << 16).expect("arena");
        // SAFETY: one thread, no overlapping borrows.
        unsafe { arena.write(4096, b"something") };
        // SAFETY: nothing borrows the range.
        unsafe { arena.release(4096, 4096) }.expect("release");
        // SAFETY: nobody writes.
        let bytes = unsafe { arena.read(4096, 9) };
        assert_eq!(bytes, [0; 9]);
    }

    #[test]
    #[should_panic(expected = "outside arena")]
    fn a_word_past_the_end_is_refused() {
        let arena = Arena::new(4096).expect("arena");
        arena.word(4096).load(Ordering::Relaxed);
    }

    #[test]
    #[should_panic(expected = "outside arena")]
    fn a_range_past_the_end_is_refused() {
        let arena = Arena::new(4096).expect("arena");
        // SAFETY: nobody writes.
        let _ = unsafe { arena.read(4090, 7) };
    }
}
