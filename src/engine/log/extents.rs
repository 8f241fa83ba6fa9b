//! Segments as extents of large values, and who may free them.

use crate::engine::log::Segments;
use crate::engine::log::segment::Log;
use crate::reclaim::Pin;
use crate::sync::Arc;

impl Segments {
    /// Promises `count` extents to a value that is about to be received; false if what is being
    /// received would take more than half of the segments then.
    #[must_use]
    pub(crate) fn promise_extents(&self, count: u32) -> bool {
        let mut lists = self.lists.lock();
        let usable = self.geometry.segments - lists.withdrawn;
        if lists.drafted + count > usable / 2 {
            return false;
        }
        lists.drafted += count;
        true
    }

    /// Takes a segment from the pool as an extent; `None` if none is free.
    pub(crate) fn take_extent(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        let kept = self.geometry.segments_kept + lists.wanted;
        let id = lists.take(kept)?;
        self.segment(id).become_extent();
        Some(id)
    }

    /// Gives back extents that nobody else has seen, and the promise of `promised` of them.
    pub(crate) fn abandon_extents(&self, ids: &[u32], promised: u32) {
        let mut lists = self.lists.lock();
        lists.drafted -= promised;
        for &id in ids {
            self.segment(id).free_extent();
            lists.free.push(id);
        }
    }

    /// Counts the extents of a value that was received as the log's.
    pub(crate) fn adopt_extents(&self, log: Log, count: u32) {
        let mut lists = self.lists.lock();
        lists.drafted -= count;
        lists.extents[log as usize] += i64::from(count);
    }

    /// Counts extents as one log's instead of another's.
    pub(crate) fn move_extents(&self, from: Log, to: Log, count: u32) {
        if from != to {
            let mut lists = self.lists.lock();
            lists.extents[from as usize] -= i64::from(count);
            lists.extents[to as usize] += i64::from(count);
        }
    }

    /// Counts the extents of another item that names a value of `log`.
    pub(crate) fn share_extents(&self, log: Log, count: u32) {
        self.lists.lock().extents[log as usize] += i64::from(count);
    }

    /// Gives the index's reference to a large value back, once nobody can come to it through the
    /// index any more. The caller removed the item, of `log`, that named its extents.
    pub(crate) fn drop_extents(self: &Arc<Self>, log: Log, extents: Box<[u64]>, pin: &Pin<'_>) {
        {
            let mut lists = self.lists.lock();
            lists.extents[log as usize] -= extents.len() as i64;
            lists.leaving += extents.len() as u32;
        }
        let segments = Arc::clone(self);
        pin.defer(move || {
            segments.lists.lock().leaving -= extents.len() as u32;
            segments.release_extents(&extents);
        });
    }

    /// Gives one reference to the large value in these extents back; the last frees them.
    pub(crate) fn release_extents(&self, extents: &[u64]) {
        let ids = || extents.iter().map(|&offset| self.id_at(offset));
        if ids()
            .next()
            .is_some_and(|first| self.segment(first).release())
        {
            let mut lists = self.lists.lock();
            for id in ids() {
                self.segment(id).free_extent();
                lists.free.push(id);
            }
        }
    }
}
