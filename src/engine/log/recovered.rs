//! The segments of a cache that is recovered, from what was proved of each: the table says that and
//! nothing else, and pool, queues and counts follow from it.
//!
//! The queues are in the order in which the segments were opened. (That of their sealing is known to
//! the process that died alone, and so is the place that a cleaned segment was to take.)

use crate::arena::Arena;
use crate::engine::config::Geometry;
use crate::engine::log::segment::{Proven, ProvenItems};
use crate::engine::log::{Lists, Segments};
use crate::sync::{Arc, Mutex};

impl Segments {
    /// Has the segments be what was proved of each.
    pub(crate) fn restore(arena: Arc<Arena>, geometry: Geometry, restored: &Restored) -> Self {
        let mut segments = Self::new(arena, geometry);
        let mut lists = Lists::new(&geometry);
        lists.parts = restored.parts.map(|parts| parts as i64);
        lists.has_evicted = restored.has_evicted;
        // Something may have expired meanwhile.
        lists.due.look_at(0);
        let mut held = Vec::new();
        for (id, proven) in (0..geometry.segments).zip(&restored.proven) {
            segments.segment(id).restore(proven);
            if matches!(proven, Proven::Items(_) | Proven::Extent(_)) {
                lists.taken = id + 1;
            }
            match proven {
                Proven::Free => lists.free.push_front(id),
                Proven::Withdrawn => lists.withdrawn += 1,
                Proven::Extent(used) => {
                    if used.count_ones() < geometry.parts_per_segment() {
                        segments.segment(id).set_place(lists.shared.len() as u64);
                        lists.shared.push(id);
                    }
                }
                Proven::Items(items) => held.push((items.sequence, id, *items)),
            }
        }
        held.sort_unstable_by_key(|&(sequence, id, _)| (sequence, id));
        for (_, id, items) in held {
            lists.sequence += 1;
            let sequence = lists.sequence;
            let items = ProvenItems { sequence, ..items };
            segments.segment(id).restore(&Proven::Items(items));
            lists.queues.push(items.label.log, id);
            lists.held[items.label.log as usize] += 1;
            lists.sealed_bytes += items.committed;
        }
        segments.lists = Mutex::new(lists);
        segments
    }
}

/// What the segments are to be.
#[derive(Debug)]
pub(crate) struct Restored {
    /// Of each segment, what was proved.
    pub(crate) proven: Vec<Proven>,
    /// Parts of the large values whose items are in each log.
    pub(crate) parts: [u64; 2],
    /// Segments with items whose contents are not proved.
    pub(crate) unproven: Vec<u32>,
    /// Whether the cache was ever full.
    pub(crate) has_evicted: bool,
}
