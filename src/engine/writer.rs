//! What a session writes with, and its share of the upkeep.
//!
//! A writer owns open segments, a block of versions, and at times a segment that it is evicting.
//! Nobody else touches these, so a write costs no shared counter. Upkeep is paid in small, even
//! steps: for every byte it writes a session walks a few bytes of the segment that it is evicting,
//! or takes the cleaner on, and for every few entries it adds it splits a bucket when the index is
//! due to grow. No write waits for another thread, and none does more than a bounded amount of
//! upkeep.
//!
//! Dropping a session ends what it has begun: its open segments are sealed, its eviction finished.

use crate::engine::appender::Appender;
use crate::engine::cache::Shared;
use crate::engine::index::word::Entry;
use crate::engine::log::segment::{Label, Log};
use crate::engine::log::{Due, Place, Wanted};
use crate::engine::stats::{Counters, Figure};
use crate::engine::tally::Tally;
use crate::engine::upkeep::{Cleaning, Mercy, Progress, Purpose, Step, Walk};
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::relax;

/// LIMIT: bytes that are walked for each byte written. A walk of main frees less than it walks, and
/// what it moves is written too.
const WALKED_BYTES_PER_BYTE: u64 = 4;
/// LIMIT: bytes that are owed before a session goes on walking: a batch of small items.
const STEP_BYTES: u64 = 1024;
/// LIMIT: bytes that one call of maintenance walks.
const MAINTENANCE_BYTES: u64 = 64 << 10;
/// LIMIT: evictions that move what was read, before a session that needs a segment lets go of it.
const MERCIFUL_ATTEMPTS: u32 = 16;

/// What a session writes with.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) appender: Appender,
    /// Where new keys begin that have no ghost.
    pub(crate) first_log: Log,
    eviction: Option<Walk>,
    cleaning: Cleaning,
    /// Bytes that should have been walked by now.
    owed_bytes: u64,
    /// Versions that were taken and not used yet.
    versions: std::ops::Range<u64>,
    /// An overflow bucket for the next chain that needs one.
    pub(crate) overflow: Option<u32>,
    pub(crate) tally: Tally,
}

/// No segment could be had.
#[derive(Debug)]
pub(crate) struct NoSpace;

impl Writer {
    pub(crate) fn new(shared: &Shared, session: u32) -> Self {
        Self {
            appender: Appender::default(),
            first_log: Log::Small,
            eviction: None,
            cleaning: Cleaning::NotWanted,
            owed_bytes: 0,
            versions: 0..0,
            overflow: None,
            tally: Tally::new(Counters::of_session(&shared.geometry, session)),
        }
    }

    pub(crate) fn count(&self, shared: &Shared, figure: Figure) {
        self.tally.count(shared, figure);
    }

    /// Ends what was begun, so that nothing stays behind that nobody owns.
    pub(crate) fn end(&mut self, shared: &Shared, pin: &mut Pin<'_>) {
        while self.eviction.is_some() {
            self.evict_on(shared, pin, 0, u64::MAX, Mercy::KeepWhatWasRead);
        }
        self.appender.seal_all(shared, pin);
        if let Some(id) = self.overflow.take() {
            shared.index.return_overflow(id);
        }
        self.tally.report(shared);
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

    /// Makes room for `bytes` in a segment for `label`. The pin may be renewed: nothing that was
    /// read under it holds any more.
    pub(crate) fn make_room(
        &mut self,
        shared: &Shared,
        pin: &mut Pin<'_>,
        label: Label,
        bytes: u64,
        now_ms: u64,
    ) -> Result<(), NoSpace> {
        for attempt in 0..shape::ROOM_ATTEMPTS {
            if self.appender.open(shared, label, Place::New, now_ms, pin) {
                self.begin_upkeep(shared, pin, now_ms);
                return Ok(());
            }
            self.free_some(shared, pin, now_ms, attempt);
            // What an eviction moved may have opened one.
            if self.appender.has_room(shared, label, bytes) {
                return Ok(());
            }
        }
        Err(NoSpace)
    }

    /// Takes a segment for a large value. As [`Writer::make_room`].
    pub(crate) fn take_extent(
        &mut self,
        shared: &Shared,
        pin: &mut Pin<'_>,
        now_ms: u64,
    ) -> Result<u32, NoSpace> {
        for attempt in 0..shape::ROOM_ATTEMPTS {
            if let Some(id) = shared.segments.take_extent() {
                self.begin_upkeep(shared, pin, now_ms);
                // An extent is written all at once: so is its share of the upkeep paid.
                let bytes = shared.geometry.segment_bytes * WALKED_BYTES_PER_BYTE;
                self.evict_on(shared, pin, now_ms, bytes, Mercy::KeepWhatWasRead);
                return Ok(id);
            }
            self.free_some(shared, pin, now_ms, attempt);
        }
        Err(NoSpace)
    }

    /// After a segment was taken: begins what keeps others free.
    fn begin_upkeep(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64) {
        self.first_log = shared.segments.first_log();
        if shared.segments.has_evicted() {
            let items = Step::main_items(shared);
            shared.ghosts.follow(items, &shared.segments);
        }
        if self.step(shared, pin, now_ms).wants_cleaning() {
            self.cleaning = Cleaning::Wanted;
        }
        let is_short = shared.segments.is_short(shared.geometry.segments_reserved);
        if self.eviction.is_none() && is_short {
            self.begin_eviction(shared, now_ms, self.cleaning);
        }
    }

    /// Where no segment is free: one bounded step that makes one free, or lets time pass.
    fn free_some(&mut self, shared: &Shared, pin: &mut Pin<'_>, now_ms: u64, attempt: u32) {
        if self.eviction.is_none() && shared.segments.is_out() {
            self.begin_eviction(shared, now_ms, Cleaning::NotWanted);
            if self.eviction.is_none() {
                // What this session has open may be all there is.
                self.appender.seal_all(shared, pin);
            }
        }
        let mercy = match attempt < MERCIFUL_ATTEMPTS {
            true => Mercy::KeepWhatWasRead,
            false => Mercy::None,
        };
        // Enough for the whole segment, or for two extents.
        let bytes = shared.geometry.segment_bytes * 2;
        self.evict_on(shared, pin, now_ms, bytes, mercy);
        pin.renew();
        pin.collect();
        relax(attempt);
    }

    /// Claims a segment whose items have all expired, or else, unless cleaning will do, the next
    /// victim.
    fn begin_eviction(&mut self, shared: &Shared, now_ms: u64, cleaning: Cleaning) {
        debug_assert!(self.eviction.is_none());
        let flushed_version = shared.flushed_version();
        let due = (shared.segments).claim_due(Wanted::WholeOnly, now_ms, flushed_version);
        let id = match (due, cleaning) {
            (Some(Due::Whole(id) | Due::Part(id)), _) => Some(id),
            (None, Cleaning::NotWanted) => shared.segments.claim_victim(),
            (None, Cleaning::Wanted) => None,
        };
        self.eviction = id.map(|id| Walk::of(shared, id, Purpose::Evict));
    }

    /// The share of upkeep that comes with writing `bytes`.
    pub(crate) fn pay_for(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64, bytes: u64) {
        if self.eviction.is_none() && self.cleaning == Cleaning::NotWanted {
            return;
        }
        self.owed_bytes += bytes * WALKED_BYTES_PER_BYTE;
        if self.owed_bytes < STEP_BYTES {
            return;
        }
        let owed_bytes = std::mem::take(&mut self.owed_bytes);
        if self.eviction.is_some() {
            self.evict_on(shared, pin, now_ms, owed_bytes, Mercy::KeepWhatWasRead);
        } else {
            self.cleaning = self.step(shared, pin, now_ms).clean(owed_bytes);
        }
    }

    /// Walks on through the segment under eviction, if there is one, for at least `bytes`.
    fn evict_on(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64, bytes: u64, mercy: Mercy) {
        let Some(mut walk) = self.eviction.take() else {
            return;
        };
        let tally = &mut self.tally;
        let mut step = Step {
            shared,
            pin,
            now_ms,
            tally,
        };
        match step.advance(&mut walk, &mut self.appender, bytes, mercy) {
            Progress::More => self.eviction = Some(walk),
            Progress::Enough => step.put_off_evict(&walk),
            Progress::Done | Progress::Stuck => step.finish_evict(&walk),
        }
    }

    /// Some upkeep for its own sake; true if there is more to do.
    pub(crate) fn maintain(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64) -> bool {
        pin.collect();
        if self.eviction.is_none() {
            self.eviction = self.step(shared, pin, now_ms).begin_expire();
        }
        let reserved = shared.geometry.segments_reserved * 2;
        if self.eviction.is_none() && shared.segments.is_short(reserved) {
            let cleaning = match self.step(shared, pin, now_ms).wants_cleaning() {
                true => Cleaning::Wanted,
                false => Cleaning::NotWanted,
            };
            self.begin_eviction(shared, now_ms, cleaning);
        }
        if self.eviction.is_some() {
            let bytes = MAINTENANCE_BYTES;
            self.evict_on(shared, pin, now_ms, bytes, Mercy::KeepWhatWasRead);
            return true;
        }
        self.step(shared, pin, now_ms).clean(MAINTENANCE_BYTES) == Cleaning::Wanted
    }

    fn step<'a>(&'a mut self, shared: &'a Shared, pin: &'a Pin<'a>, now_ms: u64) -> Step<'a> {
        Step {
            shared,
            pin,
            now_ms,
            tally: &mut self.tally,
        }
    }

    /// Counts an entry for a key that the index did not have, and lets the index grow.
    pub(crate) fn count_insertion(&mut self, shared: &Shared, pin: &Pin<'_>) {
        if self.tally.count_insertion(shared) >= shape::INSERTS_PER_REPORT as i64 {
            self.grow(shared, pin);
        }
    }

    fn grow(&mut self, shared: &Shared, pin: &Pin<'_>) {
        let entries = self.tally.report(shared);
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
            if !unsafe { shared.index.split_one(&shared.segments, hash, lost, pin) } {
                return;
            }
            self.count(shared, Figure::BucketsSplit);
            for entry in displaced {
                self.evicted(shared, pin, entry);
            }
        }
    }

    /// Accounts for an entry that this session removed since its bucket was full.
    pub(crate) fn evicted(&mut self, shared: &Shared, pin: &Pin<'_>, entry: Entry) {
        self.tally.removed(shared, pin, entry);
        self.tally.count_removal(shared);
        self.count(shared, Figure::EvictedBucket);
    }
}
