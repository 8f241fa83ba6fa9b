//! The log: segments that sessions append items to.
//!
//! A session takes a segment from the pool, appends items to it, alone, and seals it when the next
//! item does not fit. Sealed segments queue in the order of their sealing; eviction takes the
//! oldest. A segment that no index word names is retired, and returns to the pool one grace period
//! later. The pool and the queue are touched once per segment, not per item: they sit behind one
//! lock that is held for a few instructions.
//!
//! What is counted where: live bytes fall when, and only when, somebody removes an index word, and
//! whoever removed it counts it down before it unpins.

pub(crate) mod segment;

use crate::arena::Arena;
use crate::engine::config::{Geometry, SEGMENT_LINE_BYTES};
use crate::engine::log::segment::{Emptied, Segment, State};
use crate::reclaim::Pin;
use crate::sync::{Arc, Mutex};

const NONE: u32 = u32::MAX;

/// All segments, with the pool of free ones and the queue of sealed ones.
#[derive(Debug)]
pub(crate) struct Segments {
    arena: Arc<Arena>,
    geometry: Geometry,
    lists: Mutex<Lists>,
}

/// How the segments are used at the moment; counts in segments, sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) free: u64,
    pub(crate) open: u64,
    pub(crate) sealed: u64,
    pub(crate) limbo: u64,
    pub(crate) withdrawn: u64,
    /// Bytes of items that the index names.
    pub(crate) live_bytes: u64,
    /// Bytes of items in open and sealed segments that it does not name any more.
    pub(crate) dead_bytes: u64,
}

#[derive(Debug)]
struct Lists {
    /// INVARIANT: `Free` segments, each once.
    free: Vec<u32>,
    /// How many are being evicted: they go on as their sessions write.
    evicting: u32,
    /// How many are retired: they are free once their readers are gone.
    limbo: u32,
    sequence: u64,
    /// The queue of sealed segments, doubly linked by number. INVARIANT: a segment is linked from
    /// its sealing until it is evicted or retired.
    oldest: u32,
    newest: u32,
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    older: u32,
    newer: u32,
    linked: bool,
}

impl Lists {
    fn push(&mut self, id: u32) {
        let older = self.newest;
        self.links[id as usize] = Link {
            older,
            newer: NONE,
            linked: true,
        };
        match older {
            NONE => self.oldest = id,
            _ => self.links[older as usize].newer = id,
        }
        self.newest = id;
    }

    fn unlink(&mut self, id: u32) {
        let link = self.links[id as usize];
        if !link.linked {
            return;
        }
        self.links[id as usize].linked = false;
        match link.older {
            NONE => self.oldest = link.newer,
            older => self.links[older as usize].newer = link.newer,
        }
        match link.newer {
            NONE => self.newest = link.older,
            newer => self.links[newer as usize].older = link.older,
        }
    }
}

impl Segments {
    pub(crate) fn new(arena: Arc<Arena>, geometry: Geometry) -> Self {
        let unlinked = Link {
            older: NONE,
            newer: NONE,
            linked: false,
        };
        let lists = Lists {
            // Popped from the end: low segments first.
            free: (0..geometry.segments).rev().collect(),
            evicting: 0,
            limbo: 0,
            sequence: 0,
            oldest: NONE,
            newest: NONE,
            links: vec![unlinked; geometry.segments as usize],
        };
        Self {
            arena,
            geometry,
            lists: Mutex::new(lists),
        }
    }

    pub(crate) fn segment(&self, id: u32) -> Segment<'_> {
        let line = self.geometry.segment_table_at + u64::from(id) * SEGMENT_LINE_BYTES;
        Segment::at(&self.arena, line)
    }

    /// The offset of a segment's first byte.
    pub(crate) fn start(&self, id: u32) -> u64 {
        self.geometry.segments_at + u64::from(id) * self.geometry.segment_bytes
    }

    /// The segment that an item offset lies in.
    pub(crate) fn id_at(&self, offset: u64) -> u32 {
        ((offset - self.geometry.segments_at) / self.geometry.segment_bytes) as u32
    }

    /// Takes a segment from the pool and opens it; `None` if none is free.
    pub(crate) fn open(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        let id = lists.free.pop()?;
        lists.sequence += 1;
        self.segment(id).open(lists.sequence);
        Some(id)
    }

    /// Seals a segment that the caller opened: it will append no more.
    pub(crate) fn seal(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        let mut lists = self.lists.lock();
        match self.segment(id).seal() {
            Emptied::No => lists.push(id),
            Emptied::Retired => {
                lists.limbo += 1;
                drop(lists);
                self.reclaim_later(id, pin);
            }
        }
    }

    /// Counts an item whose index word the caller removed; retires the segment if it was the last.
    pub(crate) fn remove_live(self: &Arc<Self>, offset: u64, bytes: u64, pin: &Pin<'_>) {
        let id = self.id_at(offset);
        if self.segment(id).remove_live(bytes) == Emptied::Retired {
            let mut lists = self.lists.lock();
            lists.unlink(id);
            lists.limbo += 1;
            drop(lists);
            self.reclaim_later(id, pin);
        }
    }

    /// Takes the oldest sealed segment for eviction; `None` if none is sealed.
    pub(crate) fn begin_evict(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        while lists.oldest != NONE {
            let id = lists.oldest;
            lists.unlink(id);
            if self.segment(id).begin_evict() {
                lists.evicting += 1;
                return Some(id);
            }
            // Retired in this very moment: whoever did it sees to the rest.
        }
        None
    }

    /// Ends an eviction: the caller removed every index word that named the segment.
    pub(crate) fn finish_evict(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        self.segment(id).finish_evict();
        let mut lists = self.lists.lock();
        lists.evicting -= 1;
        lists.limbo += 1;
        drop(lists);
        self.reclaim_later(id, pin);
    }

    /// Whether so few segments are free, or about to be, that a session should evict one.
    pub(crate) fn is_short(&self) -> bool {
        let lists = self.lists.lock();
        let coming = lists.free.len() as u32 + lists.evicting + lists.limbo;
        coming < self.geometry.segments_reserved
    }

    /// Whether no segment is free, nor will be without an eviction.
    pub(crate) fn is_out(&self) -> bool {
        let lists = self.lists.lock();
        lists.free.is_empty() && lists.limbo == 0
    }

    /// Takes a free segment out of use for good and gives its pages back, to pay for a chunk of
    /// the index; false if none is free.
    #[must_use]
    pub(crate) fn withdraw(&self) -> bool {
        let Some(id) = self.lists.lock().free.pop() else {
            return false;
        };
        // SAFETY: the pool gave the segment to this thread alone, and nobody can see into it.
        let released = unsafe {
            self.arena
                .release(self.start(id), self.geometry.segment_bytes)
        };
        if released.is_err() {
            // Its pages stay: it must stay a segment, or the memory bound would not hold.
            self.lists.lock().free.push(id);
            return false;
        }
        self.segment(id).withdraw();
        true
    }

    /// Counts how the segments are used. Not one instant: others go on meanwhile.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for id in 0..self.geometry.segments {
            let segment = self.segment(id);
            let (state, live_bytes) = segment.state();
            match state {
                State::Free => usage.free += 1,
                State::Open => usage.open += 1,
                State::Sealed | State::Evicting => usage.sealed += 1,
                State::Retired => usage.limbo += 1,
                State::Withdrawn => usage.withdrawn += 1,
            }
            if matches!(state, State::Open | State::Sealed | State::Evicting) {
                usage.live_bytes += live_bytes;
                usage.dead_bytes += segment.committed().saturating_sub(live_bytes);
            }
        }
        usage
    }

    fn reclaim_later(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        let segments = Arc::clone(self);
        pin.defer(move || {
            segments.segment(id).reclaim();
            let mut lists = segments.lists.lock();
            lists.limbo -= 1;
            lists.free.push(id);
        });
    }
}
