//! Recoveries that leave a step out: each is a kind of store that recovery does not make, or a word
//! that it does not believe.
//!
//! A recovery protects what was acknowledged by what it stores: it clears locks and words, says which
//! segments are sealed and which are free, counts anew. Left out is a step by having the word keep what
//! it said, so the engine's own files know nothing of it. The sweep must find something wrong with each
//! of them, or the sweep proves little.

use std::cell::{Cell, RefCell};

use crate::arena::Arena;
use crate::engine::config::{BUCKET_BYTES, Geometry, OVERFLOW_BYTES, SEGMENT_LINE_BYTES};
use crate::engine::header;
use crate::engine::index::word::Control;

/// A step that recovery leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Locks of writers that are gone stay locked.
    LocksStay,
    /// Index words that name no proven item of their bucket stay: those that a split had still to
    /// clear from the parent, above all.
    WordsStay,
    /// What a split had filled of a bucket that is not counted yet stays.
    HalfSplitStays,
    /// Overflow buckets stay linked, whatever is in them.
    LinksStay,
    /// Open segments are believed up to their end, and not up to what they had committed.
    CommittedLengthIgnored,
    /// Segments that nobody owns any more stay open or claimed.
    OpenStay,
    /// Segments that nothing names are not free.
    UnnamedStay,
    /// Live bytes of segments are not counted anew.
    LiveBytesStay,
    /// Parts that no value has stay used.
    PartsStay,
    /// References to large values of readers and writers that are gone stay.
    ReferencesStay,
    /// The figures are not made to agree with what was kept.
    FiguresStay,
    /// What is not paid for keeps its pages.
    UnpaidPagesStay,
}

const LOCKED: u64 = 1;
const STATE: u64 = 0xff;
const FREE: u64 = 0;
const OPEN: u64 = 1;
const SEALED: u64 = 2;
const CLAIMED: u64 = 3;
const EXTENT: u64 = 6;

struct Active {
    fault: Fault,
    geometry: Geometry,
    arena: Arena,
    buckets: u64,
}

/// Where a word lies.
enum Region {
    Figures,
    /// A word of a segment's line, and what the first word of the line says.
    Line {
        word: u64,
        state: u64,
    },
    Slot {
        is_counted: bool,
    },
    Control,
    Segment,
    Other,
}

thread_local! {
    static IS_ACTIVE: Cell<bool> = const { Cell::new(false) };
    static ACTIVE: RefCell<Option<Active>> = const { RefCell::new(None) };
}

/// The fault is in force until this is dropped.
pub(crate) struct InForce(());

impl Drop for InForce {
    fn drop(&mut self) {
        IS_ACTIVE.set(false);
        ACTIVE.set(None);
    }
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::LocksStay,
        Self::WordsStay,
        Self::HalfSplitStays,
        Self::LinksStay,
        Self::CommittedLengthIgnored,
        Self::OpenStay,
        Self::UnnamedStay,
        Self::LiveBytesStay,
        Self::PartsStay,
        Self::ReferencesStay,
        Self::FiguresStay,
        Self::UnpaidPagesStay,
    ];

    /// What recovery in this arena stores from here on, on this thread, is subject to the fault.
    pub(crate) fn begin(self, arena: &Arena, geometry: &Geometry) -> InForce {
        ACTIVE.set(Some(Active {
            fault: self,
            geometry: *geometry,
            arena: arena.again(),
            buckets: header::load(arena, header::BUCKETS),
        }));
        IS_ACTIVE.set(true);
        InForce(())
    }
}

impl Active {
    fn region(&self, offset: u64) -> Region {
        let g = &self.geometry;
        let table_end = g.segment_table_at + u64::from(g.segments) * SEGMENT_LINE_BYTES;
        let is_control = |from, bytes| (offset - from) % bytes == bytes - 8;
        if offset == header::ENTRIES || (g.counters_at..g.segment_table_at).contains(&offset) {
            Region::Figures
        } else if (g.segment_table_at..table_end).contains(&offset) {
            let within = (offset - g.segment_table_at) % SEGMENT_LINE_BYTES;
            Region::Line {
                word: within / 8,
                state: self.arena.peek(offset - within) & STATE,
            }
        } else if (g.buckets_at..g.overflow_at).contains(&offset) {
            let is_counted = (offset - g.buckets_at) / BUCKET_BYTES < self.buckets;
            match is_control(g.buckets_at, BUCKET_BYTES) && is_counted {
                true => Region::Control,
                false => Region::Slot { is_counted },
            }
        } else if (g.overflow_at..g.ghosts_at).contains(&offset) {
            match is_control(g.overflow_at, OVERFLOW_BYTES) {
                true => Region::Control,
                false => Region::Slot { is_counted: true },
            }
        } else if offset >= g.segments_at {
            Region::Segment
        } else {
            Region::Other
        }
    }

    fn storing(&self, offset: u64, old: u64, new: u64) -> u64 {
        let (old_state, new_state) = (old & STATE, new & STATE);
        match (self.fault, self.region(offset)) {
            (Fault::LocksStay, Region::Control) => new | old & LOCKED,
            (Fault::LinksStay, Region::Control) if Control(new).overflow().is_none() => {
                Control(old).unlocked().0
            }
            (Fault::WordsStay, Region::Slot { is_counted: true }) if new == 0 => old,
            (Fault::HalfSplitStays, Region::Slot { is_counted: false }) => old,
            (Fault::OpenStay, Region::Line { word: 0, .. })
                if new_state == SEALED && [OPEN, CLAIMED].contains(&old_state) =>
            {
                new & !STATE | old_state
            }
            (Fault::UnnamedStay, Region::Line { word: 0, .. }) if new_state == FREE => old,
            (Fault::LiveBytesStay, Region::Line { word: 0, .. }) if new_state == SEALED => {
                old & !STATE | SEALED
            }
            (
                Fault::PartsStay,
                Region::Line {
                    word: 1,
                    state: EXTENT,
                },
            )
            | (Fault::ReferencesStay, Region::Segment | Region::Line { word: 6, .. })
            | (Fault::FiguresStay, Region::Figures) => old,
            _ => new,
        }
    }

    fn loaded(&self, offset: u64, value: u64) -> u64 {
        match (self.fault, self.region(offset)) {
            (
                Fault::CommittedLengthIgnored,
                Region::Line {
                    word: 1,
                    state: OPEN,
                },
            ) => self.geometry.segment_bytes,
            _ => value,
        }
    }
}

/// The active fault and the offset of an address, if it is in force there.
fn with_active<T>(address: usize, act: impl FnOnce(&Active, u64) -> T) -> Option<T> {
    if !IS_ACTIVE.get() {
        return None;
    }
    ACTIVE.with_borrow(|active| {
        let active = active.as_ref()?;
        let offset = address.wrapping_sub(active.arena.address()) as u64;
        (offset < active.arena.bytes()).then(|| act(active, offset))
    })
}

/// What is stored to a word that held `old`, instead of `new`.
pub(crate) fn storing(address: usize, old: impl FnOnce() -> u64, new: u64) -> u64 {
    with_active(address, |active, offset| active.storing(offset, old(), new)).unwrap_or(new)
}

/// What is taken for the value of a word.
pub(crate) fn loaded(address: usize, value: u64) -> u64 {
    with_active(address, |active, offset| active.loaded(offset, value)).unwrap_or(value)
}

/// Whether nothing is released.
pub(crate) fn keeps_what_is_released() -> bool {
    IS_ACTIVE.get()
        && ACTIVE.with_borrow(|active| {
            let active = active.as_ref();
            active.is_some_and(|active| active.fault == Fault::UnpaidPagesStay)
        })
}
