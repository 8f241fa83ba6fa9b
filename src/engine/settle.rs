//! What a [walk](crate::engine::upkeep) does to the items that it comes to.
//!
//! An item is moved by copying it, and then replacing the index word that names the original by one
//! that names the copy, under the bucket's lock, if it is still there. A reader has the one or the
//! other; a writer that planned on the original plans again.

use crate::engine::appender::{self, Appender, Commitment};
use crate::engine::index::word::{Entry, KeyHash, Marks};
use crate::engine::item::{self, Item};
use crate::engine::log::Place;
use crate::engine::log::segment::{Label, Log};
use crate::engine::stats::Figure;
use crate::engine::upkeep::{Mercy, Purpose, Step, Walk};

/// Reads after which an item of small moves to main.
const PROMOTED_AT: u64 = 2;

/// An item that a walk has come to, as it was then: of a number, this may be an old version.
#[derive(Clone, Copy)]
pub(super) struct Visited<'a> {
    pub(super) hash: KeyHash,
    pub(super) offset: u64,
    pub(super) item: Item<'a>,
}

/// Whether an item of this log was read as often as those that evictions keep.
fn is_read_enough(log: Log, entry: Entry) -> bool {
    let kept_at = match log {
        Log::Small => PROMOTED_AT,
        Log::Main => 1,
    };
    entry.frequency() >= kept_at
}

impl Step<'_> {
    /// Does to one item what the walk is for; false if it should have moved and could not.
    pub(super) fn settle(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        visited: &Visited<'_>,
        mercy: Mercy,
    ) -> bool {
        // SAFETY: as in `item`.
        let is_intact = || unsafe { Item::is_intact(&self.shared.arena, visited.offset) };
        if walk.is_unproven && !is_intact() {
            self.remove(walk, visited, Figure::Damaged);
            return true;
        }
        if self.remove_if_over(walk, visited) {
            return true;
        }
        match walk.purpose {
            Purpose::Expire => walk.left = walk.left.with(visited.item.expires_at_ms()),
            Purpose::Scrub => self.compare_value(walk, visited),
            Purpose::Clean => {
                let keep = |entry: Entry| entry.frequency();
                return self.named(visited).is_none()
                    || self.relocate(walk, target, walk.label, visited, keep);
            }
            Purpose::Evict => return self.evict(walk, target, visited, mercy),
        }
        true
    }

    /// [`Step::settle`] for an eviction.
    fn evict(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        visited: &Visited<'_>,
        mercy: Mercy,
    ) -> bool {
        let Some(entry) = self.named(visited) else {
            return true;
        };
        let log = walk.label.log;
        if self.keeps(log, visited, entry, mercy) {
            let (geometry, expires_at_ms) = (&self.shared.geometry, visited.item.expires_at_ms());
            let main = appender::label(geometry, Log::Main, expires_at_ms, self.now_ms);
            let lowered = |entry: Entry| match log {
                Log::Small => 0,
                Log::Main => entry.frequency().saturating_sub(1),
            };
            if self.relocate(walk, target, main, visited, lowered) {
                return true;
            }
            if self.spares(visited) {
                return false;
            }
        }
        self.let_go(walk, visited);
        true
    }

    /// Whether an eviction moves such an item, and does not remove it.
    pub(super) fn keeps(
        &self,
        log: Log,
        visited: &Visited<'_>,
        entry: Entry,
        mercy: Mercy,
    ) -> bool {
        let was_read = mercy == Mercy::KeepWhatWasRead && is_read_enough(log, entry);
        was_read || self.spares(visited)
    }

    fn spares(&self, visited: &Visited<'_>) -> bool {
        self.spared == Some(visited.hash)
    }

    /// The entry that names an item, if there still is one.
    pub(super) fn named(&self, visited: &Visited<'_>) -> Option<Entry> {
        (self.shared.index).find_exact(visited.hash, visited.offset)
    }

    /// Removes an item, if the index still names it, that has expired or was flushed; false if neither is so.
    pub(super) fn remove_if_over(&mut self, walk: &mut Walk, visited: &Visited<'_>) -> bool {
        let is_expired = (visited.item.expires_at_ms()).is_some_and(|at_ms| at_ms <= self.now_ms);
        let why = match is_expired {
            true => Figure::Expired,
            false if visited.item.own_version() <= self.shared.flushed_version() => {
                Figure::FlushedRemoved
            }
            false => return false,
        };
        // Where it is dead already, no bucket is locked.
        if self.named(visited).is_some() {
            self.remove(walk, visited, why);
        }
        true
    }

    /// Removes an item, if the index still names it, whose large value is not what was written.
    fn compare_value(&mut self, walk: &mut Walk, visited: &Visited<'_>) {
        let Some(extents) = visited.item.extents() else {
            return;
        };
        // Whoever has let go of the item may have let go of its extents, too.
        if self.named(visited).is_none() {
            return;
        }
        walk.compared_bytes += extents.value_bytes();
        if !extents.is_intact() {
            self.remove(walk, visited, Figure::Damaged);
        }
    }

    /// Removes an item that is evicted; what leaves small leaves a ghost.
    pub(super) fn let_go(&mut self, walk: &mut Walk, visited: &Visited<'_>) {
        match walk.label.log {
            Log::Small => {
                self.remove(walk, visited, Figure::EvictedSmall);
                self.shared.ghosts.insert(visited.hash);
            }
            Log::Main => self.remove(walk, visited, Figure::EvictedMain),
        }
    }

    fn remove(&mut self, walk: &mut Walk, visited: &Visited<'_>, why: Figure) {
        let &Visited { hash, offset, item } = visited;
        let index = &self.shared.index;
        let session = self.tally.session();
        let Some(entry) = index.remove_exact(hash, offset, session, self.pin) else {
            return;
        };
        let is_placeholder = item.is_placeholder();
        let parts = item.extents().map_or(0, |extents| extents.parts());
        walk.freed_bytes += u64::from(parts) * self.shared.geometry.part_bytes;
        self.tally
            .removed_item(self.shared, self.pin, &item, offset);
        self.tally.count_removal(self.shared);
        if is_placeholder && matches!(why, Figure::Expired) {
            // There was no item.
            return;
        }
        self.tally.count(self.shared, why);
        if matches!(why, Figure::Expired) && is_read_enough(walk.label.log, entry) {
            // Its key comes back, and begins where it would have if nobody had looked for what has expired.
            self.shared.ghosts.insert(hash);
        }
        let is_evicted = matches!(why, Figure::EvictedSmall | Figure::EvictedMain);
        if is_evicted && parts > 0 {
            self.tally.count(self.shared, Figure::EvictedLarge);
        }
        if !entry.marks().has(Marks::FETCHED) {
            match why {
                Figure::Expired => self.tally.count(self.shared, Figure::ExpiredUnfetched),
                _ if is_evicted => self.tally.count(self.shared, Figure::EvictedUnfetched),
                _ => {}
            }
        }
    }

    /// Moves an item, if the index still names it by then, to a segment for `label`; false if there is
    /// none. `frequency` gives the copy's count.
    fn relocate(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        label: Label,
        visited: &Visited<'_>,
        frequency: impl Fn(Entry) -> u64,
    ) -> bool {
        let (shared, pin) = (self.shared, self.pin);
        let &Visited { hash, offset, item } = visited;
        if walk.is_unproven {
            self.compare_value(walk, visited);
        }
        let bytes = item.bytes();
        if !target.has_room(shared, label, bytes) {
            let place = match walk.purpose {
                Purpose::Clean => Place::Before(walk.id),
                Purpose::Evict | Purpose::Expire | Purpose::Scrub => Place::Newest,
            };
            if !target.open(shared, label, place, self.now_ms, pin) {
                return false;
            }
        }
        // SAFETY: the walk's claim.
        let copy = unsafe { target.append_copy(shared, label, offset, bytes) };
        let session = self.tally.session();
        let moved = shared.index.move_exact(hash, offset, session, |entry| {
            if item.is_in_place() {
                // It may have changed since; from here on it does not, since the bucket is locked.
                item::copy_number(&shared.arena, offset, copy);
            }
            target.commit(shared, label, Commitment::of(&item));
            let copy = Entry::new(hash, copy).spanning(bytes);
            let copy = copy.with_frequency(frequency(entry));
            copy.with(entry.marks())
        });
        if moved {
            self.moved(walk, label, visited);
        }
        true
    }

    /// Accounts for an item that was moved away from where it is.
    fn moved(&mut self, walk: &Walk, label: Label, visited: &Visited<'_>) {
        let &Visited { offset, item, .. } = visited;
        let bytes = item.bytes();
        if let Some(extents) = item.extents() {
            let (from, to) = (walk.label.log, label.log);
            self.shared.segments.move_parts(from, to, extents.parts());
        }
        let (items, moved_bytes) = match (walk.purpose, walk.label.log) {
            (Purpose::Clean, _) => (Figure::Cleaned, Figure::CleanMovedBytes),
            (_, Log::Small) => (Figure::Promoted, Figure::EvictMovedBytes),
            (_, Log::Main) => (Figure::Reinserted, Figure::EvictMovedBytes),
        };
        self.tally.count(self.shared, items);
        self.tally.add(self.shared, moved_bytes, bytes);
        self.tally.add(self.shared, Figure::RemovedBytes, bytes);
        let segments = &self.shared.segments;
        segments.remove_live(offset, bytes, self.pin);
    }
}
