//! The sweep's flavour of the arena: on the heap, copied whenever the process dies, and every store to
//! it told to the [`tape`](crate::tape).
//!
//! Same names and signatures as the engine's own `arena`. A plain write is a store for each 8 bytes that
//! it touches, from below: so the process also dies in the middle of an item. Bytes that are lent are
//! looked at when the next store comes. A range that is released becomes zero word by word, since a
//! system call that a signal interrupts has released a part of it.
//!
//! It has no descriptor: [`Cache::recover_in`](crate::engine::Cache::recover_in) is given the arena
//! itself.

use std::cell::UnsafeCell;
use std::io;
pub(crate) use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::fault;
use crate::pages::{PagePlan, Pages, PagesError};
use crate::sync::{AtomicU64, Ordering};
use crate::tape;

/// A fixed-size memory addressed by byte offsets; as with a mapping, there may be others of the same
/// memory.
pub(crate) struct Arena {
    memory: Arc<[UnsafeCell<u64>]>,
}

// SAFETY: the threads of a program take turns, so no two accesses are ever at the same time; turns are
// handed over under a lock, which orders them.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl std::fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Arena({})", self.bytes())
    }
}

impl Arena {
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let words = bytes.div_ceil(8);
        Ok(Self {
            memory: (0..words).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    pub(crate) fn attach(_memory: OwnedFd, _bytes_min: u64) -> io::Result<Self> {
        Err(io::Error::other("an arena of the sweep has no descriptor"))
    }

    pub(crate) fn look_at(_memory: BorrowedFd<'_>, _bytes_min: u64) -> io::Result<Self> {
        Err(io::Error::other("an arena of the sweep has no descriptor"))
    }

    /// Nobody else owns it: whoever did is dead.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the engine's own arena asks the system"
    )]
    pub(crate) fn own(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    #[allow(
        clippy::unnecessary_wraps,
        reason = "the engine's own arena asks the system"
    )]
    pub(crate) fn is_owned(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Another one of the same memory.
    pub(crate) fn again(&self) -> Self {
        Self {
            memory: Arc::clone(&self.memory),
        }
    }

    /// What the memory holds at this moment.
    pub(crate) fn image(&self) -> Vec<u64> {
        // SAFETY: a cell has the layout of what is in it, and nobody writes meanwhile.
        let words = unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().cast::<u64>(), self.memory.len())
        };
        words.to_vec()
    }

    /// An arena with this contents.
    pub(crate) fn holding(image: &[u64]) -> Self {
        Self {
            memory: image.iter().map(|&word| UnsafeCell::new(word)).collect(),
        }
    }

    /// Where it lies.
    pub(crate) fn address(&self) -> usize {
        self.memory.as_ptr().expose_provenance()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.memory.len() as u64 * 8
    }

    pub(crate) fn memory(&self) -> BorrowedFd<'_> {
        panic!("an arena of the sweep has no descriptor");
    }

    pub(crate) fn arrange_pages(&mut self, _plan: &PagePlan) -> Result<(), PagesError> {
        Ok(())
    }

    pub(crate) fn takes_huge_pages(&self) -> bool {
        false
    }

    pub(crate) fn make_huge_page(&self, _offset: u64) -> io::Result<()> {
        unreachable!("there are none")
    }

    pub(crate) fn pages(&self) -> Pages {
        Pages::Base
    }

    pub(crate) fn system_bytes(&self) -> Option<u64> {
        None
    }

    pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(
            offset & 7 == 0 && offset < self.bytes(),
            "word outside arena"
        );
        let pointer = self.pointer(offset).cast::<AtomicU64>();
        // SAFETY: inside the memory and aligned (asserted), and an atomic has the layout of a word.
        unsafe { &*pointer }
    }

    pub(crate) fn words<const N: usize>(&self, offset: u64) -> &[AtomicU64; N] {
        assert!(offset & 7 == 0, "words not aligned");
        self.check(offset, N * 8);
        let pointer = self.pointer(offset).cast::<[AtomicU64; N]>();
        // SAFETY: as in `word`.
        unsafe { &*pointer }
    }

    pub(crate) fn tagged<const N: usize>(&self, offset: u64, like: u64) -> (&[AtomicU64; N], u32) {
        let words = self.words::<N>(offset);
        let has_tag = |word: &AtomicU64| (word.load(Ordering::Acquire) ^ like) >> 48 == 0;
        let bits = words[..N - 1].iter().map(|word| u32::from(has_tag(word)));
        (words, bits.rev().fold(0, |bits, bit| bits << 1 | bit))
    }

    /// # Safety
    ///
    /// Nobody writes to the bytes while the result lives.
    pub(crate) unsafe fn read(&self, offset: u64, bytes: usize) -> &[u8] {
        self.check(offset, bytes);
        // SAFETY: inside the memory (checked); the caller answers for writers.
        unsafe { std::slice::from_raw_parts(self.pointer(offset), bytes) }
    }

    /// # Safety
    ///
    /// Nobody else reads or writes the bytes meanwhile, and `bytes` does not overlap them.
    pub(crate) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
        self.check(offset, bytes.len());
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(8 - (at & 7) as usize));
            let target = self.pointer(at);
            // SAFETY: inside the memory (checked); the caller answers for everyone else.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), target, now.len()) }
            self.tell(at & !7);
            at += now.len() as u64;
            rest = later;
        }
    }

    /// # Safety
    ///
    /// Nobody else reads or writes the bytes while the result lives.
    #[allow(clippy::mut_from_ref, reason = "as in the engine's own arena")]
    pub(crate) unsafe fn lend(&self, offset: u64, bytes: usize) -> &mut [u8] {
        self.check(offset, bytes);
        tape::lent(self.pointer(offset).addr(), bytes);
        // SAFETY: inside the memory (checked); the caller answers for everyone else.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(offset), bytes) }
    }

    pub(crate) fn assert_unshared(&self, offset: u64, bytes: usize) {
        self.check(offset, bytes);
    }

    pub(crate) fn prefetch(&self, _offset: u64) {}

    pub(crate) fn prefetch_through(&self, _offset: u64, _line: impl FnOnce(u64) -> Option<u64>) {}

    /// # Safety
    ///
    /// Nobody reads or writes the range meanwhile.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the engine's own arena asks the system"
    )]
    pub(crate) unsafe fn release(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(offset, bytes as usize);
        if fault::keeps_what_is_released() {
            return Ok(());
        }
        for at in (offset..offset + bytes).step_by(8) {
            let word = self.word(at);
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// What the word at `offset` holds, whatever faults make of it.
    pub(crate) fn peek(&self, offset: u64) -> u64 {
        // SAFETY: nobody writes meanwhile.
        unsafe { *self.memory[(offset / 8) as usize].get() }
    }

    /// Makes a store of the tape.
    pub(crate) fn poke(&self, offset: u64, value: u64) {
        // SAFETY: nobody else uses the memory meanwhile.
        unsafe { *self.memory[(offset / 8) as usize].get() = value }
    }

    /// Tells that the word at `offset` was stored to.
    fn tell(&self, offset: u64) {
        tape::stored(self.address() + offset as usize, self.peek(offset));
    }

    fn check(&self, offset: u64, bytes: usize) {
        let end = offset.checked_add(bytes as u64);
        assert!(
            end.is_some_and(|end| end <= self.bytes()),
            "range outside arena"
        );
    }

    fn pointer(&self, offset: u64) -> *mut u8 {
        let start = self.memory.as_ptr().cast_mut().cast::<u8>();
        // SAFETY: callers have checked that `offset` is inside the memory.
        unsafe { start.add(offset as usize) }
    }
}

/// Prefetches nothing.
pub(crate) fn prefetch<T>(_value: &T) {}

/// Words beside the arena that are zero at first.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<AtomicU64>);

impl Scratch {
    pub(crate) fn zeros(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }
}

impl std::ops::Deref for Scratch {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}
