//! Eviction of large values whose items lie in open segments.
//!
//! An eviction walks sealed segments, and only its owner seals an open one. The item of a large value is small;
//! so where few segments name most of the memory, all of these may be open, their owners may have nothing to
//! write, and whoever needs memory has nothing to evict. Then it goes through the open segments, the oldest
//! first, and lets go of the large values that their items describe. The items' own bytes stay, dead, until
//! the segment is sealed.
//!
//! It claims nothing: it reads committed items, and removes index words, as a deletion does. A segment that
//! was open while the lists' lock was held may be sealed meanwhile, and evicted by somebody else as well; it
//! is not used again while the caller is pinned. An item that is committed and not published yet is passed
//! over.
//!
//! # Ordering ledger
//!
//! | what | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | open segments | `open`, holding the lists' lock | `open_from`, holding it | a segment of which a walk begins has the length of this life of it | `a_value_leaves_beside_a_segment_that_is_opened_again` |
//! | committed | its owner | the walk | see [`segment`](crate::engine::log::segment) | `a_value_leaves_beside_an_open_segment_that_is_written` |
//! | passed | whoever holds the caretaker | the next | the caretaker's lock | `two_sessions_need_what_an_open_segment_names` |

use crate::engine::settle::Visited;
use crate::engine::upkeep::{Mercy, Purpose, Step, Walk};

/// LIMIT: items that one step looks at.
const ITEMS_PER_STEP: u32 = 1024;

/// How far open segments were walked: what is before this was let go of, or kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Passed {
    /// The sequence of the segment's opening.
    sequence: u64,
    /// Offset of the next item.
    at: u64,
}

impl Step<'_> {
    /// Lets go of large values until extents of so many `bytes` are, or a step is over; the next one goes on
    /// there, unless somebody else is at it.
    pub(crate) fn evict_open(&mut self, bytes: u64, mercy: Mercy) {
        let shared = self.shared;
        let Some(mut caretaker) = shared.caretaker.try_lock() else {
            return;
        };
        let passed = std::mem::take(&mut caretaker.passed);
        let (mut items, mut freed_bytes) = (0, 0);
        for (sequence, id) in shared.segments.open_from(passed.sequence) {
            let mut walk = Walk::of(shared, id, Purpose::Evict);
            if sequence == passed.sequence {
                walk.at = passed.at;
            }
            while walk.at < walk.end {
                if items == ITEMS_PER_STEP || freed_bytes + walk.freed_bytes >= bytes {
                    let at = walk.at;
                    caretaker.passed = Passed { sequence, at };
                    return;
                }
                let (item, offset) = (self.item(walk.at), walk.at);
                walk.at += item.bytes();
                items += 1;
                if item.extents().is_some() {
                    let hash = shared.hash(item.key());
                    let visited = Visited { hash, offset, item };
                    self.evict_in_place(&mut walk, &visited, mercy);
                }
            }
            freed_bytes += walk.freed_bytes;
        }
    }

    /// Lets go of an item where it is, unless it should be moved.
    fn evict_in_place(&mut self, walk: &mut Walk, visited: &Visited<'_>, mercy: Mercy) {
        if self.remove_if_over(walk, visited) {
            return;
        }
        let entry = self.named(visited);
        if entry.is_some_and(|entry| !self.keeps(walk.label.log, visited, entry, mercy)) {
            self.let_go(walk, visited);
        }
    }
}
