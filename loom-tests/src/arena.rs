//! The model checker's flavour of the arena: small, and every access checked.
//!
//! Same names and signatures as the engine's own `arena`. Each 8 bytes (a *granule*) are either one
//! checked atomic word or plain bytes guarded by one checked cell, decided by the first access:
//! touching a granule both ways is reported. Only bytes that their owner has declared to be its own
//! (`assert_unshared`) can be both, at different times: then every access to the word also counts as
//! a read of the cell, so that an access as a word races with a plain write like any other read.
//!
//! loom's objects belong to the execution that made them, and an object made by one thread in the
//! middle of an execution is unknown to the others' clocks. They are therefore made in advance, in
//! [`Arena::new`], and given to granules at their first touch; how many are needed is learned from
//! the executions before.
//!
//! LIMIT: a plain read counts at the time of [`Arena::read`]; later uses of the slice are unseen.

use std::cell::Cell;
use std::io;

use loom::cell::UnsafeCell;

use crate::pages::{PagePlan, Pages, PagesError};
use crate::sync::{AtomicU64, Ordering};

/// LIMIT: spare objects beyond the most that an earlier execution needed.
const SPARE: usize = 16;

thread_local! {
    /// The most words and cells that one arena of the running model has used so far.
    static MOST_USED: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Forgets what earlier models needed.
pub(crate) fn forget_usage() {
    MOST_USED.set(None);
}

/// The objects that stand for a granule.
#[derive(Clone, Copy, Default)]
struct Role {
    word: Option<u16>,
    cell: Option<u16>,
    /// Whether it may have both.
    is_mixed: bool,
}

/// A small arena whose granules are checked by loom.
pub(crate) struct Arena {
    memory: Box<[std::cell::UnsafeCell<[u8; 8]>]>,
    roles: Box<[Cell<Role>]>,
    words: Vec<AtomicU64>,
    cells: Vec<UnsafeCell<()>>,
    words_used: Cell<usize>,
    cells_used: Cell<usize>,
    bytes: u64,
}

// SAFETY: loom runs all threads of a model as coroutines of one system thread and switches between
// them only inside its own objects, never inside the accesses to the cells here.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl std::fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Arena({})", self.bytes)
    }
}

impl Arena {
    pub(crate) fn new(bytes: u64) -> io::Result<Self> {
        let granules = bytes.div_ceil(8) as usize;
        let (words, cells) = MOST_USED
            .get()
            .map_or((granules, granules), |(words, cells)| {
                (granules.min(words + SPARE), granules.min(cells + SPARE))
            });
        Ok(Self {
            memory: (0..granules).map(|_| [0; 8].into()).collect(),
            roles: (0..granules).map(|_| Cell::default()).collect(),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            cells: (0..cells).map(|_| UnsafeCell::new(())).collect(),
            words_used: Cell::new(0),
            cells_used: Cell::new(0),
            bytes,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
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
        assert!(offset & 7 == 0 && offset < self.bytes, "word outside arena");
        let granule = (offset / 8) as usize;
        let mut role = self.roles[granule].get();
        if let Some(cell) = role.cell {
            assert!(
                role.is_mixed,
                "the plain bytes at {offset} are used as an atomic word"
            );
            self.cells[usize::from(cell)].with(|_| ());
        }
        let index = role.word.unwrap_or_else(|| next(&self.words_used));
        role.word = Some(index);
        self.roles[granule].set(role);
        let word = self.words.get(usize::from(index));
        word.expect("no spare words: raise SPARE")
    }

    pub(crate) fn words<const N: usize>(&self, offset: u64) -> Words<'_, N> {
        self.check(offset, N * 8);
        Words(std::array::from_fn(|at| self.word(offset + at as u64 * 8)))
    }

    #[track_caller]
    pub(crate) fn tagged<const N: usize>(&self, offset: u64, like: u64) -> (Words<'_, N>, u32) {
        let words = self.words::<N>(offset);
        let mut bits = 0;
        for at in 0..N - 1 {
            let word = words[at].load(Ordering::Acquire);
            bits |= u32::from((word ^ like) >> 48 == 0) << at;
        }
        (words, bits)
    }

    /// # Safety
    ///
    /// Nobody writes to the bytes while the result lives.
    pub(crate) unsafe fn read(&self, offset: u64, bytes: usize) -> &[u8] {
        self.check(offset, bytes);
        for granule in granules(offset, bytes) {
            self.cell(granule).with(|_| ());
        }
        // SAFETY: inside the memory (checked); the caller answers for writers, and loom for callers.
        unsafe { std::slice::from_raw_parts(self.pointer(offset), bytes) }
    }

    /// # Safety
    ///
    /// Nobody else reads or writes the bytes meanwhile, and `bytes` does not overlap them.
    pub(crate) unsafe fn write(&self, offset: u64, bytes: &[u8]) {
        self.check(offset, bytes.len());
        for granule in granules(offset, bytes.len()) {
            self.cell(granule).with_mut(|_| ());
        }
        let target = self.pointer(offset);
        // SAFETY: inside the memory (checked); the caller answers for everyone else.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    /// # Safety
    ///
    /// Nobody else reads or writes the bytes while the result lives.
    #[allow(clippy::mut_from_ref, reason = "as in the engine's own arena")]
    pub(crate) unsafe fn lend(&self, offset: u64, bytes: usize) -> &mut [u8] {
        self.assert_unshared(offset, bytes);
        // SAFETY: inside the memory (checked); the caller answers for everyone else.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(offset), bytes) }
    }

    pub(crate) fn assert_unshared(&self, offset: u64, bytes: usize) {
        self.check(offset, bytes);
        for granule in granules(offset, bytes) {
            let mut role = self.roles[granule].get();
            role.is_mixed = true;
            self.roles[granule].set(role);
            self.cell(granule).with_mut(|_| ());
        }
    }

    pub(crate) fn prefetch(&self, _offset: u64) {}

    pub(crate) fn prefetch_through(&self, _offset: u64, _line: impl FnOnce(u64) -> Option<u64>) {}

    /// # Safety
    ///
    /// Nobody reads or writes the range meanwhile.
    pub(crate) unsafe fn release(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.check(offset, bytes as usize);
        for granule in granules(offset, bytes as usize) {
            let role = self.roles[granule].get();
            if let Some(index) = role.word {
                self.words[usize::from(index)].reset();
            }
            if let Some(index) = role.cell {
                self.cells[usize::from(index)].with_mut(|_| ());
                // SAFETY: one system thread, and no reference to the granule is made elsewhere
                // that outlives an access.
                unsafe { *self.memory[granule].get() = [0; 8] }
            }
        }
        Ok(())
    }

    fn cell(&self, granule: usize) -> &UnsafeCell<()> {
        let mut role = self.roles[granule].get();
        let at = granule * 8;
        assert!(
            role.word.is_none() || role.is_mixed,
            "the atomic word at {at} is used as plain bytes"
        );
        let index = role.cell.unwrap_or_else(|| next(&self.cells_used));
        role.cell = Some(index);
        self.roles[granule].set(role);
        let cell = self.cells.get(usize::from(index));
        cell.expect("no spare cells: raise SPARE")
    }

    fn check(&self, offset: u64, bytes: usize) {
        let end = offset.checked_add(bytes as u64);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
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

/// Adjacent words; the engine's own arena lends an array of them, and both are indexed alike.
pub(crate) struct Words<'a, const N: usize>([&'a AtomicU64; N]);

impl<const N: usize> std::ops::Index<usize> for Words<'_, N> {
    type Output = AtomicU64;

    fn index(&self, at: usize) -> &AtomicU64 {
        self.0[at]
    }
}

/// The next object that no granule has.
fn next(used: &Cell<usize>) -> u16 {
    let index = used.get();
    used.set(index + 1);
    u16::try_from(index).expect("a model touches few granules")
}

fn granules(offset: u64, bytes: usize) -> std::ops::Range<usize> {
    let start = offset as usize;
    if bytes == 0 {
        return 0..0;
    }
    start / 8..(start + bytes).div_ceil(8)
}

impl Drop for Arena {
    fn drop(&mut self) {
        let (words, cells) = MOST_USED.get().unwrap_or_default();
        MOST_USED.set(Some((
            words.max(self.words_used.get()),
            cells.max(self.cells_used.get()),
        )));
    }
}
