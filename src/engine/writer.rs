//! What a session writes with, and its share of the upkeep.
//!
//! A writer owns open segments and a block of versions. Nobody else touches these, so a write costs
//! no shared counter. Upkeep is paid in small, even steps: for every byte it writes a session has the
//! caretaker walk a few bytes, where something is to be done, and for every few entries it adds it
//! splits a bucket when the index is due to grow. No write does more than a bounded amount of upkeep, and none
//! waits for another thread; but where all memory that could be freed is held by threads that are pinned and
//! have lost their core, it waits some milliseconds for them before it is refused.
//!
//! Dropping a session seals its open segments.

use crate::engine::appender::Appender;
use crate::engine::cache::Shared;
use crate::engine::index::word::{Entry, KeyHash, Marks};
use crate::engine::log::Place;
use crate::engine::log::extents::Extent;
use crate::engine::log::segment::{Label, Log, Owner};
use crate::engine::stats::Figure;
use crate::engine::tally::Tally;
use crate::engine::upkeep::{Demand, Mercy, Step, Upkeep};
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::relax;

/// LIMIT: bytes that are walked for each byte written. A walk of main frees less than it walks, and
/// what it moves is written too.
const WALKED_BYTES_PER_BYTE: u64 = 4;
/// LIMIT: bytes that are owed before a session goes on walking: a batch of small items.
const STEP_BYTES: u64 = 1024;
/// LIMIT: the same while somebody else has the caretaker: a segment is claimed and put off for it.
const STEP_BYTES_ALONE: u64 = 8 << 10;
/// LIMIT: pins after which a session that has done upkeep lets time pass: it takes a microsecond, and
/// two of them free what is in limbo.
const PINS_PER_COLLECTION: u32 = 8;
/// LIMIT: how often it does so, unless there is more upkeep.
const COLLECTIONS: u32 = 3;
/// LIMIT: bytes that one call of maintenance walks.
const MAINTENANCE_BYTES: u64 = 8 << 10;
/// LIMIT: evictions that move what was read, before a session that needs a segment lets go of it.
const MERCIFUL_ATTEMPTS: u32 = 16;

/// What a session writes with.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) appender: Appender,
    /// Where new keys begin that have no ghost.
    pub(crate) first_log: Log,
    /// Whether the caretaker has something to do, as far as this session knows.
    upkeep: Upkeep,
    /// Whether it took a segment since it was last asked whether it wants maintenance.
    has_taken: bool,
    /// Whether it was refused a segment, and has had none since.
    is_refused: bool,
    /// Bytes that should have been walked by now.
    owed_bytes: u64,
    /// Pins since time was last made to pass, and how often it should still be.
    pins: u32,
    collections: u32,
    /// Versions that were taken and not used yet.
    versions: std::ops::Range<u64>,
    /// An overflow bucket for the next chain that needs one.
    pub(crate) overflow: Option<u32>,
    /// The key that something new is made from, whose item must stay until that is stored.
    pub(crate) spared: Option<KeyHash>,
    pub(crate) tally: Tally,
}

/// No segment could be had.
#[derive(Debug)]
pub(crate) struct NoSpace;

impl Writer {
    pub(crate) fn new(shared: &Shared, session: u32) -> Self {
        Self {
            appender: Appender::of(Owner::Session(session)),
            first_log: Log::Small,
            upkeep: Upkeep::Done,
            has_taken: false,
            is_refused: false,
            owed_bytes: 0,
            pins: 0,
            collections: 0,
            versions: 0..0,
            overflow: None,
            spared: None,
            tally: Tally::new(&shared.geometry, session),
        }
    }

    pub(crate) fn count(&self, shared: &Shared, figure: Figure) {
        self.tally.count(shared, figure);
    }

    /// Ends what was begun, so that nothing stays behind that nobody owns.
    pub(crate) fn end(&mut self, shared: &Shared, pin: &Pin<'_>) {
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
        // There would never be room for it.
        assert!(bytes <= shared.geometry.segment_bytes);
        for attempt in 0..self.attempts() {
            if self.appender.open(shared, label, Place::New, now_ms, pin) {
                self.begin_upkeep(shared);
                return Ok(());
            }
            self.free_some(shared, pin, now_ms, attempt);
            // What an eviction moved may have opened one.
            if self.appender.has_room(shared, label, bytes) {
                return Ok(());
            }
        }
        self.is_refused = true;
        Err(NoSpace)
    }

    /// Takes up to `parts` of a segment for a large value. As [`Writer::make_room`].
    pub(crate) fn take_extent(
        &mut self,
        shared: &Shared,
        pin: &mut Pin<'_>,
        now_ms: u64,
        parts: u32,
    ) -> Result<Extent, NoSpace> {
        for attempt in 0..self.attempts() {
            if let Some(extent) = shared.segments.take_extent(parts) {
                self.begin_upkeep(shared);
                return Ok(extent);
            }
            self.free_some(shared, pin, now_ms, attempt);
        }
        self.is_refused = true;
        Err(NoSpace)
    }

    /// How often it tries to get a segment.
    fn attempts(&self) -> u32 {
        match self.is_refused {
            true => shape::ROOM_ATTEMPTS_AGAIN,
            false => shape::ROOM_ATTEMPTS,
        }
    }

    /// After a segment was taken: begins what keeps others free.
    fn begin_upkeep(&mut self, shared: &Shared) {
        self.first_log = shared.segments.first_log();
        self.upkeep = Upkeep::More;
        self.has_taken = true;
        self.is_refused = false;
    }

    /// Where no segment is free: one bounded step that makes one free, or lets time pass.
    fn free_some(&mut self, shared: &Shared, pin: &mut Pin<'_>, now_ms: u64, attempt: u32) {
        let mercy = match attempt < MERCIFUL_ATTEMPTS {
            true => Mercy::KeepWhatWasRead,
            false => Mercy::None,
        };
        if shared.segments.is_out() {
            // Enough for a whole segment, or for two extents.
            let bytes = shared.geometry.segment_bytes * 2;
            match self.tend(shared, pin, now_ms, (Demand::Segment, bytes, mercy)) {
                Upkeep::More => {}
                // What this session has open may be all there is, or what others have.
                Upkeep::Done if self.appender.seal_all(shared, pin) => {}
                Upkeep::Done => {
                    let mut step = Step::new(shared, pin, now_ms, &mut self.tally);
                    step.spared = self.spared;
                    step.evict_open(bytes, mercy);
                    self.collections = COLLECTIONS;
                }
                Upkeep::Busy => self.evict_alone(shared, pin, now_ms, bytes, mercy),
            }
        }
        pin.renew();
        pin.collect();
        relax(attempt);
    }

    fn evict_alone(
        &mut self,
        shared: &Shared,
        pin: &Pin<'_>,
        now_ms: u64,
        bytes: u64,
        mercy: Mercy,
    ) {
        let mut step = Step::new(shared, pin, now_ms, &mut self.tally);
        step.spared = self.spared;
        step.evict_alone(&mut self.appender, bytes, mercy);
        self.collections = COLLECTIONS;
    }

    #[inline]
    pub(crate) fn wants_maintenance(&mut self) -> bool {
        std::mem::take(&mut self.has_taken) || self.owes_upkeep()
    }

    /// Whether what is written comes with upkeep.
    pub(crate) fn owes_upkeep(&self) -> bool {
        self.upkeep != Upkeep::Done
    }

    /// The share of upkeep that comes with writing `bytes`.
    #[inline]
    pub(crate) fn pay_for(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64, bytes: u64) {
        if self.owes_upkeep() {
            self.owed_bytes += bytes * WALKED_BYTES_PER_BYTE;
            self.pay(shared, pin, now_ms);
        }
    }

    /// A step, once enough is owed for one.
    fn pay(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64) {
        let step_bytes = match self.upkeep {
            Upkeep::Busy => STEP_BYTES_ALONE,
            Upkeep::More | Upkeep::Done => STEP_BYTES,
        };
        if self.owed_bytes < step_bytes {
            return;
        }
        let owed_bytes = std::mem::take(&mut self.owed_bytes);
        let mercy = Mercy::KeepWhatWasRead;
        self.upkeep = self.tend(shared, pin, now_ms, (Demand::Usual, owed_bytes, mercy));
        // Who has the caretaker may have lost its core meanwhile.
        if self.upkeep == Upkeep::Busy
            && shared.segments.is_short(shared.geometry.segments_reserved)
        {
            self.evict_alone(shared, pin, now_ms, owed_bytes, mercy);
        }
    }

    /// At the beginning of a batch: after upkeep, lets time pass now and then, so that segments do
    /// not stay in limbo for long.
    #[inline]
    pub(crate) fn note_pin(&mut self, pin: &Pin<'_>) {
        if self.collections > 0 {
            self.pins += 1;
            if self.pins >= PINS_PER_COLLECTION {
                self.pins = 0;
                self.collections -= 1;
                pin.collect();
            }
        }
    }

    /// Some upkeep for its own sake; true if there is more to do.
    pub(crate) fn maintain(&mut self, shared: &Shared, pin: &Pin<'_>, now_ms: u64) -> bool {
        pin.collect();
        let asked = (
            Demand::Maintenance,
            MAINTENANCE_BYTES,
            Mercy::KeepWhatWasRead,
        );
        let is_busy = self.tend(shared, pin, now_ms, asked) == Upkeep::More;
        let is_scrubbing = self.scrub(shared, pin, now_ms, !is_busy);
        is_busy || is_scrubbing
    }

    /// A step of the caretaker's, if it is free.
    pub(crate) fn tend(
        &mut self,
        shared: &Shared,
        pin: &Pin<'_>,
        now_ms: u64,
        (demand, bytes, mercy): (Demand, u64, Mercy),
    ) -> Upkeep {
        let mut step = Step::new(shared, pin, now_ms, &mut self.tally);
        step.spared = self.spared;
        let upkeep = step.tend(&mut self.appender, demand, bytes, mercy);
        if upkeep == Upkeep::More {
            self.collections = COLLECTIONS;
        }
        upkeep
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
            let splitter = (self.tally.session(), pin);
            // SAFETY: pinned, as `pin` shows.
            if !unsafe { (shared.index).split_one(&shared.segments, hash, lost, splitter) } {
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
        if !entry.marks().has(Marks::FETCHED) {
            self.count(shared, Figure::EvictedUnfetched);
        }
    }
}
