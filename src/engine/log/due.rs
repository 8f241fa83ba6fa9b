//! Segments of which something has expired, or was flushed: found by a walk of the segment table, no
//! more often than needed, and claimed one by one.
//!
//! Clocks differ a little between sessions, and may be set back: what is not due yet by the clock of
//! whoever looks is looked at again when it is, and a clock that is far behind the last walk has the
//! table walked anew.

use crate::engine::log::Segments;
use crate::engine::log::segment::{Lifetime, NEVER_MS, State};

/// LIMIT: how often the segment table is walked for what has expired; a walk of the largest table
/// takes about a millisecond.
const DUE_EVERY_MS: u64 = 100;

/// LIMIT: a clock that is so far behind the last walk was set back; those of sessions that share the
/// walks differ by less.
const SET_BACK_MS: u64 = 10_000;

/// A segment of which something has expired, claimed by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// All its items have.
    Whole(u32),
    /// Some have.
    Part(u32),
}

/// What of a segment that is due a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    WholeOnly,
    WholeOrPart,
}

/// Sealed segments of which something has expired, as of the last walk of the table.
#[derive(Debug)]
pub(super) struct DueList {
    whole: Vec<u32>,
    part: Vec<u32>,
    /// When something else may have expired.
    next_ms: u64,
    /// When the table may be walked again.
    walk_ms: u64,
    /// The flush that the last walk knew of.
    flushed_version: u64,
}

impl DueList {
    /// Notes that something of a segment may have expired at `at_ms`.
    pub(super) fn look_at(&mut self, at_ms: u64) {
        self.next_ms = self.next_ms.min(at_ms);
    }

    /// The flush that the last walk of the table knew of.
    pub(super) fn flushed_version(&self) -> u64 {
        self.flushed_version
    }

    pub(super) fn new() -> Self {
        Self {
            whole: Vec::new(),
            part: Vec::new(),
            next_ms: NEVER_MS,
            walk_ms: 0,
            flushed_version: 0,
        }
    }
}

impl Segments {
    /// Claims a segment of which something has expired or was flushed.
    pub(crate) fn claim_due(
        &self,
        wanted: Wanted,
        now_ms: u64,
        flushed_version: u64,
    ) -> Option<Due> {
        let mut lists = self.lists.lock();
        let lists = &mut *lists;
        let due = &mut lists.due;
        let is_flush_new = due.flushed_version < flushed_version;
        let was_set_back = due.walk_ms > now_ms.saturating_add(SET_BACK_MS);
        let may_walk = now_ms >= due.next_ms && now_ms >= due.walk_ms;
        if is_flush_new || was_set_back || may_walk {
            self.walk_table(due, now_ms, flushed_version);
        }
        while let Some(id) = due.whole.pop() {
            // What was due may have been evicted, and its segment reused, since the walk.
            if !self.is_whole(id, now_ms, flushed_version) {
                due.look_at(self.segment(id).lifetime().first_ms);
            } else if self.segment(id).claim() {
                lists.queues.unlink(id);
                lists.evicting += 1;
                return Some(Due::Whole(id));
            }
        }
        if wanted == Wanted::WholeOnly {
            return None;
        }
        while let Some(id) = due.part.pop() {
            let segment = self.segment(id);
            let Lifetime { first_ms, .. } = segment.lifetime();
            if first_ms > now_ms {
                due.look_at(first_ms);
            } else if segment.claim() {
                return Some(Due::Part(id));
            }
        }
        None
    }

    fn is_whole(&self, id: u32, now_ms: u64, flushed_version: u64) -> bool {
        let segment = self.segment(id);
        segment.lifetime().last_ms <= now_ms || segment.newest_version() <= flushed_version
    }

    fn walk_table(&self, due: &mut DueList, now_ms: u64, flushed_version: u64) {
        due.whole.clear();
        due.part.clear();
        due.next_ms = NEVER_MS;
        due.walk_ms = now_ms.saturating_add(DUE_EVERY_MS);
        due.flushed_version = flushed_version;
        for id in 0..self.geometry.segments {
            let segment = self.segment(id);
            if segment.state().0 != State::Sealed {
                continue;
            }
            let Lifetime { first_ms, last_ms } = segment.lifetime();
            if self.is_whole(id, now_ms, flushed_version) {
                due.whole.push(id);
            } else if first_ms <= now_ms {
                due.part.push(id);
                due.next_ms = due.next_ms.min(last_ms);
            } else {
                due.next_ms = due.next_ms.min(first_ms);
            }
        }
    }
}
