//! What one session counts, and how it accounts for index words that it removed.
//!
//! Whoever removes an index word, and nobody else, lowers the live bytes of the segment that it
//! named, and gives back the index's reference to the extents, if the item had any.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | entries | `report`, `count_lone_removal`, Relaxed | each other, `main_items` | nothing: a count, of which nothing is lost | `two_splits_do_not_meet`, `a_read_removes_what_is_damaged_as_a_session_ends` |

use crate::engine::cache::Shared;
use crate::engine::config::Geometry;
use crate::engine::header;
use crate::engine::index::word::Entry;
use crate::engine::item::Item;
use crate::engine::item_header::Header;
use crate::engine::stats::{Counters, Figure};
use crate::reclaim::Pin;
use crate::sync::Ordering;

/// LIMIT: removals that a session counts for itself before it reports them.
const REMOVALS_PER_REPORT: i64 = 16;

/// One session's counts.
#[derive(Debug)]
pub(crate) struct Tally {
    counters: Counters,
    /// The number of the session, from 0 on.
    session: u32,
    /// Entries added less entries removed, since the last report.
    unreported: i64,
}

impl Tally {
    pub(crate) fn new(geometry: &Geometry, session: u32) -> Self {
        Self {
            counters: Counters::of_session(geometry, session),
            session,
            unreported: 0,
        }
    }

    /// The number of the session that counts, from 0 on.
    #[inline]
    pub(crate) fn session(&self) -> u32 {
        self.session
    }

    /// Entries added less entries removed that it has not reported.
    pub(crate) fn unreported(&self) -> i64 {
        self.unreported
    }

    #[inline]
    pub(crate) fn count(&self, shared: &Shared, figure: Figure) {
        self.counters.add(&shared.arena, figure, 1);
    }

    #[inline]
    pub(crate) fn add(&self, shared: &Shared, figure: Figure, count: u64) {
        self.counters.add(&shared.arena, figure, count);
    }

    /// Says what a figure is now, where it is no count.
    #[inline]
    pub(crate) fn set(&self, shared: &Shared, figure: Figure, value: u64) {
        self.counters.set(&shared.arena, figure, value);
    }

    /// Counts an entry for a key that the index did not have; gives how many more than removed ones
    /// are not reported.
    pub(crate) fn count_insertion(&mut self, shared: &Shared) -> i64 {
        self.unreported += 1;
        self.count(shared, Figure::Inserted);
        self.unreported
    }

    /// Counts an entry that left the index with its key.
    pub(crate) fn count_removal(&mut self, shared: &Shared) {
        self.unreported -= 1;
        self.count(shared, Figure::Removed);
        // A session may remove what others add: the index must not grow by what has gone.
        if self.unreported <= -REMOVALS_PER_REPORT {
            self.report(shared);
        }
    }

    /// [`Tally::count_removal`] by a read, which has nothing to keep a count in.
    pub(crate) fn count_lone_removal(&self, shared: &Shared) {
        self.count(shared, Figure::Removed);
        // ORDERING: Relaxed; a count, as in `report`.
        let entries = shared.arena.word(header::ENTRIES);
        entries.fetch_sub(1, Ordering::Relaxed);
    }

    /// Accounts for an entry that this session removed from the index or replaced in it.
    pub(crate) fn removed(&self, shared: &Shared, pin: &Pin<'_>, entry: Entry) {
        let offset = entry.offset();
        // SAFETY: the entry was read under this pin.
        let header = unsafe { Header::read(&shared.arena, offset) };
        if let Some(bytes) = header.plain_bytes() {
            return self.removed_plain(shared, pin, bytes, offset);
        }
        // SAFETY: likewise.
        let item = unsafe { shared.item(entry) };
        self.removed_item(shared, pin, &item, offset);
    }

    /// [`Tally::removed`] of an item that the caller has read.
    pub(crate) fn removed_item(
        &self,
        shared: &Shared,
        pin: &Pin<'_>,
        item: &Item<'_>,
        offset: u64,
    ) {
        if let Some(extents) = item.extents() {
            let log = shared.segments.label_at(offset).log;
            shared.segments.drop_extents(log, extents.all(), pin);
        }
        self.removed_plain(shared, pin, item.bytes(), offset);
    }

    /// The same of one that has nothing apart from its bytes.
    #[inline]
    fn removed_plain(&self, shared: &Shared, pin: &Pin<'_>, bytes: u64, offset: u64) {
        self.add(shared, Figure::RemovedBytes, bytes);
        shared.segments.remove_live(offset, bytes, pin);
    }

    /// Reports to the count of the index's entries; gives that count.
    pub(crate) fn report(&mut self, shared: &Shared) -> u64 {
        let unreported = std::mem::take(&mut self.unreported);
        let entries = shared.arena.word(header::ENTRIES);
        // ORDERING: Relaxed; a count. Two's complement: adding a negative number lowers it.
        let before = entries.fetch_add(unreported as u64, Ordering::Relaxed);
        count_of(before.wrapping_add_signed(unreported))
    }

    /// How many entries the index has, as far as that is reported.
    pub(crate) fn entries(shared: &Shared) -> u64 {
        // ORDERING: Relaxed; a count.
        count_of(shared.arena.word(header::ENTRIES).load(Ordering::Relaxed))
    }
}

/// The count that a word stands for: where other sessions' removals are reported before the insertions, it is below
/// 0 for a while.
fn count_of(word: u64) -> u64 {
    word.cast_signed().max(0).cast_unsigned()
}
