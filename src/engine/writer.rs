//! What a session writes with, and its share of the upkeep.
//!
//! A writer owns an open segment, a block of versions, and at times a segment that it is evicting.
//! Nobody else touches these, so a write costs no shared counter. Upkeep is paid in small, even
//! steps: for every byte it writes a session walks a few bytes of the segment that it is evicting,
//! and for every few entries it adds it splits a bucket when the index is due to grow. No write
//! waits for another thread, and none does more than a bounded amount of upkeep.
//!
//! Dropping a session ends what it has begun: its open segment is sealed, its eviction finished.

use crate::engine::cache::Shared;
use crate::engine::header;
use crate::engine::index::word::{Entry, KeyHash};
use crate::engine::item::{Draft, Item};
use crate::engine::stats::{Counters, Figure};
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::{Ordering, relax};

/// LIMIT: bytes of a segment under eviction that are walked for each byte written. At 2 a session
/// is done with one segment before it has filled another.
const EVICTED_BYTES_PER_BYTE: u64 = 2;
/// LIMIT: items whose buckets are fetched together while a segment is evicted.
const EVICTION_BATCH: usize = 8;
/// LIMIT: bytes that are owed before a session goes on evicting: a batch of small items.
const EVICTION_STEP_BYTES: u64 = 1024;

/// What a session writes with.
#[derive(Debug)]
pub(crate) struct Writer {
    open: Option<Open>,
    eviction: Option<Eviction>,
    /// Versions that were taken and not used yet.
    versions: std::ops::Range<u64>,
    /// An overflow bucket for the next chain that needs one.
    pub(crate) overflow: Option<u32>,
    /// Entries added less entries removed, since the last report.
    unreported: i64,
    counters: Counters,
}

/// The segment that a session appends to.
#[derive(Debug)]
struct Open {
    id: u32,
    /// Offset of its first byte.
    start: u64,
    /// Bytes that hold items.
    used_bytes: u64,
}

/// A segment whose entries this session is removing from the index.
#[derive(Debug)]
struct Eviction {
    id: u32,
    /// Offset of the next item.
    at: u64,
    /// Offset of the end of the last item.
    end: u64,
    /// Bytes that should have been walked by now, beyond `at`.
    owed_bytes: u64,
}

/// No segment could be had.
#[derive(Debug)]
pub(crate) struct NoSpace;

impl Writer {
    pub(crate) fn new(shared: &Shared, session: u32) -> Self {
        Self {
            open: None,
            eviction: None,
            versions: 0..0,
            overflow: None,
            unreported: 0,
            counters: Counters::of_session(&shared.geometry, session),
        }
    }

    pub(crate) fn count(&self, shared: &Shared, figure: Figure) {
        self.counters.add(&shared.arena, figure, 1);
    }

    /// Ends what was begun, so that nothing stays behind that nobody owns.
    pub(crate) fn end(&mut self, shared: &Shared, pin: &mut Pin<'_>) {
        while self.eviction.is_some() {
            self.step_eviction(shared, pin, u64::MAX);
        }
        if let Some(open) = self.open.take() {
            shared.segments.seal(open.id, pin);
        }
        if let Some(id) = self.overflow.take() {
            shared.index.return_overflow(id);
        }
        self.report(shared);
    }

    /// A version that was never used, above that of every item that has been flushed.
    pub(crate) fn next_version(&mut self, shared: &Shared) -> u64 {
        if self.versions.is_empty() || self.versions.start <= shared.flushed_version() {
            self.versions = shared.take_versions();
        }
        let version = self.versions.start;
        self.versions.start += 1;
        version
    }

    /// Whether the open segment has room for `bytes`.
    pub(crate) fn has_room(&self, shared: &Shared, bytes: u64) -> bool {
        let segment_bytes = shared.geometry.segment_bytes;
        (self.open.as_ref()).is_some_and(|open| open.used_bytes + bytes <= segment_bytes)
    }

    /// Opens a fresh segment. The pin may be renewed: nothing that was read under it holds any
    /// more.
    pub(crate) fn make_room(&mut self, shared: &Shared, pin: &mut Pin<'_>) -> Result<(), NoSpace> {
        if let Some(open) = self.open.take() {
            shared.segments.seal(open.id, pin);
        }
        for attempt in 0..shape::ROOM_ATTEMPTS {
            if let Some(id) = shared.segments.open() {
                let start = shared.segments.start(id);
                self.open = Some(Open {
                    id,
                    start,
                    used_bytes: 0,
                });
                if self.eviction.is_none() && shared.segments.is_short() {
                    self.begin_eviction(shared);
                }
                return Ok(());
            }
            if self.eviction.is_none() && shared.segments.is_out() {
                self.begin_eviction(shared);
            }
            self.step_eviction(shared, pin, u64::MAX);
            pin.renew();
            pin.collect();
            relax(attempt);
        }
        Err(NoSpace)
    }

    /// Writes a draft behind the last item, where there is room for it, and gives its offset.
    /// Nobody can see it, and the next draft overwrites it, unless it is committed.
    pub(crate) fn append(&mut self, shared: &Shared, draft: &Draft<'_>, version: u64) -> u64 {
        let open = self.open.as_ref().expect("room was made");
        let offset = open.start + open.used_bytes;
        debug_assert!(open.used_bytes + draft.bytes() <= shared.geometry.segment_bytes);
        // SAFETY: the segment is open and this session's own; bytes behind the last committed item
        // are reachable for nobody.
        unsafe { draft.write(&shared.arena, offset, version) };
        offset
    }

    /// Makes the item that was just appended part of the segment, before it is published.
    pub(crate) fn commit(&mut self, shared: &Shared, bytes: u64) {
        let open = self.open.as_mut().expect("an item was appended");
        open.used_bytes += bytes;
        let segment = shared.segments.segment(open.id);
        segment.add_live(bytes);
        segment.commit(open.used_bytes);
    }

    /// Accounts for an entry that this session removed from the index or replaced in it.
    pub(crate) fn removed(&self, shared: &Shared, pin: &Pin<'_>, entry: Entry) {
        // SAFETY: the entry was read under this pin.
        let item = unsafe { shared.item(entry) };
        shared.large_removed(pin, &item);
        let bytes = item.bytes();
        shared.segments.remove_live(entry.offset(), bytes, pin);
    }

    /// Counts an entry that left the index with its key.
    pub(crate) fn count_removal(&mut self, shared: &Shared) {
        self.unreported -= 1;
        self.count(shared, Figure::Removed);
    }

    /// Counts an entry for a key that the index did not have, and lets the index grow.
    pub(crate) fn count_insertion(&mut self, shared: &Shared, pin: &Pin<'_>) {
        self.unreported += 1;
        self.count(shared, Figure::Inserted);
        if self.unreported >= shape::INSERTS_PER_REPORT as i64 {
            self.grow(shared, pin);
        }
    }

    fn report(&mut self, shared: &Shared) -> u64 {
        let unreported = std::mem::take(&mut self.unreported);
        let entries = shared.arena.word(header::ENTRIES);
        // ORDERING: Relaxed; a count. Two's complement: adding a negative number lowers it.
        let before = entries.fetch_add(unreported as u64, Ordering::Relaxed);
        // Other sessions' removals may be reported before these insertions.
        before.saturating_add_signed(unreported)
    }

    fn grow(&mut self, shared: &Shared, pin: &Pin<'_>) {
        let entries = self.report(shared);
        let hash = |entry: Entry| {
            // SAFETY: entries of the index, read under this pin.
            let item = unsafe { shared.item(entry) };
            shared.hash(item.key())
        };
        for _ in 0..shape::SPLITS_PER_REPORT_MAX {
            if !shared.index.wants_split(entries) {
                return;
            }
            let mut displaced = Vec::new();
            let lost = |entry| displaced.push(entry);
            // SAFETY: pinned, as `pin` shows.
            if !unsafe { shared.index.split_one(&shared.segments, hash, lost) } {
                return;
            }
            self.count(shared, Figure::BucketsSplit);
            for entry in displaced {
                self.evicted(shared, pin, entry);
            }
        }
    }

    /// Accounts for an entry that this session removed to make space.
    pub(crate) fn evicted(&mut self, shared: &Shared, pin: &Pin<'_>, entry: Entry) {
        self.removed(shared, pin, entry);
        self.count_removal(shared);
        self.count(shared, Figure::Evicted);
    }

    fn begin_eviction(&mut self, shared: &Shared) {
        debug_assert!(self.eviction.is_none());
        self.eviction = shared.segments.begin_evict().map(|id| {
            let at = shared.segments.start(id);
            let end = at + shared.segments.segment(id).committed();
            Eviction {
                id,
                at,
                end,
                owed_bytes: 0,
            }
        });
    }

    /// The share of eviction that comes with writing `bytes`.
    pub(crate) fn pay_for(&mut self, shared: &Shared, pin: &Pin<'_>, bytes: u64) {
        let Some(eviction) = &mut self.eviction else {
            return;
        };
        eviction.owed_bytes += bytes * EVICTED_BYTES_PER_BYTE;
        if eviction.owed_bytes >= EVICTION_STEP_BYTES {
            let owed_bytes = std::mem::take(&mut eviction.owed_bytes);
            self.step_eviction(shared, pin, owed_bytes);
        }
    }

    /// Walks on through the segment under eviction, if there is one, for at least `bytes`.
    fn step_eviction(&mut self, shared: &Shared, pin: &Pin<'_>, bytes: u64) {
        let Some(mut eviction) = self.eviction.take() else {
            return;
        };
        let until = eviction.end.min(eviction.at.saturating_add(bytes));
        while eviction.at < until {
            let mut batch = [(KeyHash(0), 0, 0); EVICTION_BATCH];
            let mut items = 0;
            while items < EVICTION_BATCH && eviction.at < until {
                // SAFETY: below the committed length lie whole items, and a segment under eviction
                // is not reclaimed before the eviction is finished, by this session.
                let item = unsafe { Item::read(&shared.arena, eviction.at) };
                let hash = shared.hash(item.key());
                shared.index.prefetch_bucket(hash);
                batch[items] = (hash, eviction.at, item.bytes());
                items += 1;
                eviction.at += item.bytes();
            }
            for &(hash, offset, bytes) in &batch[..items] {
                if shared.index.remove_exact(hash, offset) {
                    // SAFETY: as above.
                    let item = unsafe { Item::read(&shared.arena, offset) };
                    shared.large_removed(pin, &item);
                    shared.segments.remove_live(offset, bytes, pin);
                    self.count_removal(shared);
                    self.count(shared, Figure::Evicted);
                }
            }
        }
        if eviction.at < eviction.end {
            self.eviction = Some(eviction);
        } else {
            shared.segments.finish_evict(eviction.id, pin);
            self.count(shared, Figure::SegmentsEvicted);
        }
    }
}
