//! Upkeep: what keeps segments free. Eviction, cleaning and expiry are all walks of a segment.
//!
//! A walk claims a sealed segment and looks at its items one after the other. What the index no
//! longer names is passed over; what has expired or was flushed is removed. What is alive
//!
//! - **evict**: moves to main, if it was read often enough (twice in small, once in main), and is
//!   removed if not; what leaves small leaves a ghost (S3-FIFO). Then the segment is free.
//! - **clean**: moves to a segment that takes this one's place in its log, with its count. Then the
//!   segment is free.
//! - **expire**: stays; the segment goes on, with its dead bytes counted.
//! - **scrub**: the same ([`scrub`](crate::engine::scrub)).
//!
//! Of a segment whose contents recovery has not proved, what is damaged is removed by all of them.
//!
//! An item is moved by copying it, and then replacing the index word that names the original by one
//! that names the copy, under the bucket's lock, if it is still there. A reader has the one or the
//! other; a writer that planned on the original plans again.
//!
//! The item of a large value is small, and one segment may hold the items of most of the memory. So
//! what a walk costs and frees is counted with the extents of what it removes or compares, and an eviction
//! that has freed enough of them is put off, as is a scrub. What open segments name is evicted where nothing
//! else is left ([`evict_open`](crate::engine::evict_open)).
//!
//! Walks belong to the [`Caretaker`], which all sessions share: whoever finds it free takes a step
//! with it, nobody waits for it. So there is one walk at a time, and one place that items move to,
//! however many sessions there are. A session pays in small steps, a few bytes walked for each byte
//! that it writes, or all at once where it needs a segment and none is free. If another one has the
//! caretaker meanwhile and segments are short, it evicts as much for itself. Whoever calls
//! [`Session::maintain`] in the background keeps sessions from having to.
//!
//! [`Session::maintain`]: crate::Session::maintain

use arrayvec::ArrayVec;

use crate::engine::appender::{self, Appender, Commitment};
use crate::engine::cache::Shared;
use crate::engine::evict_open::Passed;
use crate::engine::index::word::{Entry, KeyHash, Marks};
use crate::engine::item::{self, Item};
use crate::engine::log::segment::{Label, Lifetime, Log};
use crate::engine::log::{Due, Place, Wanted};
use crate::engine::stats::Figure;
use crate::engine::tally::Tally;
use crate::reclaim::Pin;

/// LIMIT: items whose buckets are fetched together during a walk.
const BATCH: usize = 16;
/// Reads after which an item of small moves to main.
const PROMOTED_AT: u64 = 2;
/// LIMIT: after a walk for expired items, the next one comes when this share (1/N) of the time until
/// the last of them expires has passed, so that a segment is walked a few times and not for each.
const EXPIRY_STEPS: u64 = 16;
/// LIMIT: nor does it come before so long.
const EXPIRY_STEP_MS_MIN: u64 = 500;

/// A claimed segment, and how far it was walked.
#[derive(Debug)]
pub(crate) struct Walk {
    id: u32,
    purpose: Purpose,
    pub(super) label: Label,
    /// Offset of the next item.
    pub(super) at: u64,
    /// Offset of the end of the last item.
    pub(super) end: u64,
    /// When what stays in the segment expires.
    left: Lifetime,
    /// Bytes of the extents that were let go of.
    pub(super) freed_bytes: u64,
    /// Bytes of large values that were compared with their CRCs.
    compared_bytes: u64,
    /// Whether nobody has proved the contents of the segment.
    is_unproven: bool,
}

/// Why a segment is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To make it free, letting go of what was not read.
    Evict,
    /// To make it free, letting go of nothing.
    Clean,
    /// To remove what has expired.
    Expire,
    /// To remove what is damaged.
    Scrub,
}

/// Whether an eviction moves what was read, or lets go of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mercy {
    KeepWhatWasRead,
    /// Where space is needed at once and moving items has not brought any.
    None,
}

/// How a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Progress {
    More,
    Done,
    /// There is more, for another time: enough extents were let go of, or compared.
    Enough,
    /// There is no segment to move items to.
    Stuck,
}

/// The walk under way, and where it moves items to.
#[derive(Debug, Default)]
pub(crate) struct Caretaker {
    walk: Option<Walk>,
    /// Where the last eviction of what is open ended.
    pub(super) passed: Passed,
    appender: Appender,
}

/// What a step looks for where no walk is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// What is due, and what makes a segment free if few are.
    Usual,
    /// The same, and what has expired in part; more are kept free.
    Maintenance,
    /// A segment, at once.
    Segment,
}

/// How a step of upkeep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Upkeep {
    /// There is more to do.
    More,
    /// There is nothing to do, or nothing can be done.
    Done,
    /// Somebody else is at it.
    Busy,
}

impl Walk {
    /// Of a segment that the caller has claimed.
    pub(crate) fn of(shared: &Shared, id: u32, purpose: Purpose) -> Self {
        let segment = shared.segments.segment(id);
        let at = shared.segments.start(id);
        Self {
            id,
            purpose,
            label: segment.label(),
            at: at + segment.walked(),
            end: at + segment.committed(),
            left: Lifetime::NONE,
            freed_bytes: 0,
            compared_bytes: 0,
            is_unproven: shared.segments.is_unproven(id),
        }
    }

    /// Begins a step of a scrub, with no large value compared yet; gives the bytes behind it.
    pub(crate) fn begin_step(&mut self, shared: &Shared) -> u64 {
        self.compared_bytes = 0;
        self.walked_bytes(shared)
    }

    /// The segment.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Bytes that were compared with their CRCs: those of the segment, and of its large values in this
    /// step.
    pub(crate) fn scrubbed_bytes(&self, shared: &Shared) -> u64 {
        self.walked_bytes(shared) + self.compared_bytes
    }

    /// Bytes of the segment that are behind it.
    fn walked_bytes(&self, shared: &Shared) -> u64 {
        self.at - shared.segments.start(self.id)
    }
}

/// A step of upkeep: who takes it, and when.
pub(crate) struct Step<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) pin: &'a Pin<'a>,
    pub(crate) now_ms: u64,
    pub(crate) tally: &'a mut Tally,
}

/// Whether an eviction moves such an item, and does not remove it.
pub(super) fn is_kept(log: Log, entry: Entry, mercy: Mercy) -> bool {
    let kept_at = match log {
        Log::Small => PROMOTED_AT,
        Log::Main => 1,
    };
    entry.frequency() >= kept_at && mercy == Mercy::KeepWhatWasRead
}

impl<'a> Step<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        pin: &'a Pin<'a>,
        now_ms: u64,
        tally: &'a mut Tally,
    ) -> Self {
        Self {
            shared,
            pin,
            now_ms,
            tally,
        }
    }

    /// Walks on for at least `bytes`; what moves goes to `target`.
    pub(crate) fn advance(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        bytes: u64,
        mercy: Mercy,
    ) -> Progress {
        let until = walk.end.min(walk.at.saturating_add(bytes));
        while walk.at < until {
            let (index, extent) = (&self.shared.index, self.shared.index.extent());
            let (mut batch, mut next) = (ArrayVec::<_, BATCH>::new(), walk.at);
            while next < until && !batch.is_full() {
                let item = self.item(next);
                let hash = self.shared.hash(item.key());
                let home_at = index.home_at(hash, extent);
                index.prefetch_bucket(home_at);
                batch.push((hash, home_at, next, item.bytes()));
                next += item.bytes();
            }
            for &(_, home_at, ..) in &batch {
                index.prefetch_overflow(home_at);
            }
            for (hash, _, offset, item_bytes) in batch {
                if !self.settle(walk, target, hash, offset, mercy) {
                    return Progress::Stuck;
                }
                walk.at = offset + item_bytes;
                let is_enough = match walk.purpose {
                    Purpose::Evict => walk.freed_bytes >= bytes,
                    Purpose::Scrub => walk.compared_bytes >= bytes,
                    Purpose::Clean | Purpose::Expire => false,
                };
                if is_enough {
                    return Progress::Enough;
                }
            }
        }
        match walk.at < walk.end {
            true => Progress::More,
            false => Progress::Done,
        }
    }

    /// The item at an offset of the claimed segment.
    pub(super) fn item(&self, offset: u64) -> Item<'_> {
        // SAFETY: below the committed length lie whole items, and a claimed segment is not
        // reclaimed before its claim ends, by this party; nor one that was open, under this pin.
        unsafe { Item::read(&self.shared.arena, offset) }
    }

    /// Does to one item what the walk is for; false if it should have moved and could not.
    fn settle(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        hash: KeyHash,
        offset: u64,
        mercy: Mercy,
    ) -> bool {
        // SAFETY: as in `item`.
        if walk.is_unproven && !unsafe { Item::is_intact(&self.shared.arena, offset) } {
            self.remove(walk, hash, offset, Figure::Damaged);
            return true;
        }
        if self.remove_if_over(walk, hash, offset) {
            return true;
        }
        let expires_at_ms = self.item(offset).expires_at_ms();
        match walk.purpose {
            Purpose::Expire => walk.left = walk.left.with(expires_at_ms),
            Purpose::Scrub => self.compare_value(walk, hash, offset),
            Purpose::Clean => {
                let keep = |entry: Entry| entry.frequency();
                return self.relocate(walk, target, walk.label, (hash, offset), keep);
            }
            Purpose::Evict => self.evict(walk, target, (hash, offset), expires_at_ms, mercy),
        }
        true
    }

    /// Removes an item, if the index still names it, that has expired or was flushed; false if neither is so.
    pub(super) fn remove_if_over(&mut self, walk: &mut Walk, hash: KeyHash, offset: u64) -> bool {
        let item = self.item(offset);
        let is_expired = (item.expires_at_ms()).is_some_and(|at_ms| at_ms <= self.now_ms);
        let why = match is_expired {
            true => Figure::Expired,
            false if item.own_version() <= self.shared.flushed_version() => Figure::FlushedRemoved,
            false => return false,
        };
        self.remove(walk, hash, offset, why);
        true
    }

    /// Removes an item, if the index still names it, whose large value is not what was written.
    fn compare_value(&mut self, walk: &mut Walk, hash: KeyHash, offset: u64) {
        let Some(extents) = self.item(offset).extents() else {
            return;
        };
        // Whoever has let go of the item may have let go of its extents, too.
        if self.shared.index.find_exact(hash, offset).is_none() {
            return;
        }
        walk.compared_bytes += extents.value_bytes();
        if !extents.is_intact() {
            self.remove(walk, hash, offset, Figure::Damaged);
        }
    }

    fn evict(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        (hash, offset): (KeyHash, u64),
        expires_at_ms: Option<u64>,
        mercy: Mercy,
    ) {
        let Some(entry) = self.shared.index.find_exact(hash, offset) else {
            return;
        };
        if is_kept(walk.label.log, entry, mercy) {
            let geometry = &self.shared.geometry;
            let main = appender::label(geometry, Log::Main, expires_at_ms, self.now_ms);
            let log = walk.label.log;
            let lowered = |entry: Entry| match log {
                Log::Small => 0,
                Log::Main => entry.frequency().saturating_sub(1),
            };
            if self.relocate(walk, target, main, (hash, offset), lowered) {
                return;
            }
        }
        self.let_go(walk, hash, offset);
    }

    /// Removes an item that is evicted; what leaves small leaves a ghost.
    pub(super) fn let_go(&mut self, walk: &mut Walk, hash: KeyHash, offset: u64) {
        match walk.label.log {
            Log::Small => {
                self.remove(walk, hash, offset, Figure::EvictedSmall);
                self.shared.ghosts.insert(hash);
            }
            Log::Main => self.remove(walk, hash, offset, Figure::EvictedMain),
        }
    }

    fn remove(&mut self, walk: &mut Walk, hash: KeyHash, offset: u64, why: Figure) {
        let index = &self.shared.index;
        let session = self.tally.session();
        let Some(entry) = index.remove_exact(hash, offset, session, self.pin) else {
            return;
        };
        let item = self.item(offset);
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

    /// Moves an item, if the index still names it, to a segment for `label`; false if there is
    /// none. `frequency` gives the copy's count.
    fn relocate(
        &mut self,
        walk: &mut Walk,
        target: &mut Appender,
        label: Label,
        (hash, offset): (KeyHash, u64),
        frequency: impl Fn(Entry) -> u64,
    ) -> bool {
        let (shared, pin) = (self.shared, self.pin);
        if shared.index.find_exact(hash, offset).is_none() {
            return true;
        }
        if walk.is_unproven {
            self.compare_value(walk, hash, offset);
        }
        let item = self.item(offset);
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
            self.moved(walk, label, offset);
        }
        true
    }

    /// Accounts for an item that was moved away from `offset`.
    fn moved(&mut self, walk: &Walk, label: Label, offset: u64) {
        let item = self.item(offset);
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

    /// A step of the caretaker's, for at least `bytes`.
    pub(crate) fn tend(
        &mut self,
        own: &mut Appender,
        demand: Demand,
        bytes: u64,
        mercy: Mercy,
    ) -> Upkeep {
        let Some(mut caretaker) = self.shared.caretaker.try_lock() else {
            return Upkeep::Busy;
        };
        if demand == Demand::Maintenance {
            // Nobody else comes by for these.
            let (shared, now_ms, pin) = (self.shared, self.now_ms, self.pin);
            caretaker.appender.seal_gone(shared, now_ms, pin);
            own.seal_gone(shared, now_ms, pin);
        }
        let Some(mut walk) = caretaker.walk.take().or_else(|| self.next_walk(demand)) else {
            return Upkeep::Done;
        };
        let caretaker = &mut *caretaker;
        let target = match walk.purpose {
            Purpose::Evict => own,
            Purpose::Clean | Purpose::Expire | Purpose::Scrub => &mut caretaker.appender,
        };
        match self.advance(&mut walk, target, bytes, mercy) {
            Progress::More => caretaker.walk = Some(walk),
            Progress::Stuck => {
                self.give_up(&walk);
                return Upkeep::Done;
            }
            ended => self.end(&walk, ended),
        }
        Upkeep::More
    }

    /// Evicts a segment for this session alone, since somebody else has the caretaker.
    pub(crate) fn evict_alone(&mut self, target: &mut Appender, bytes: u64, mercy: Mercy) {
        if let Some(mut walk) = self.next_walk(Demand::Segment) {
            match self.advance(&mut walk, target, bytes, mercy) {
                Progress::More | Progress::Stuck => self.give_up(&walk),
                ended => self.end(&walk, ended),
            }
        }
    }

    /// Claims what is to be walked next, if anything is.
    fn next_walk(&self, demand: Demand) -> Option<Walk> {
        let segments = &self.shared.segments;
        let wanted = match demand {
            Demand::Maintenance => Wanted::WholeOrPart,
            Demand::Usual | Demand::Segment => Wanted::WholeOnly,
        };
        let flushed_version = self.shared.flushed_version();
        let due = segments.claim_due(wanted, self.now_ms, flushed_version);
        if let Some(due) = due {
            let (id, purpose) = match due {
                Due::Whole(id) => (id, Purpose::Evict),
                Due::Part(id) => (id, Purpose::Expire),
            };
            return Some(Walk::of(self.shared, id, purpose));
        }
        let is_cleaning = demand != Demand::Segment && self.wants_cleaning();
        if let Some(id) = is_cleaning.then(|| segments.claim_emptiest()).flatten() {
            return Some(Walk::of(self.shared, id, Purpose::Clean));
        }
        let geometry = &self.shared.geometry;
        let is_wanted = match demand {
            Demand::Usual => segments.is_short(geometry.segments_reserved),
            Demand::Maintenance => segments.is_short(geometry.segments_maintained),
            Demand::Segment => true,
        };
        let id = is_wanted.then(|| segments.claim_victim()).flatten()?;
        let walk = Walk::of(self.shared, id, Purpose::Evict);
        if walk.label.log == Log::Small {
            let items = Self::main_items(self.shared);
            self.shared.ghosts.follow(items, segments);
        }
        Some(walk)
    }

    /// Ends a walk that went as far as it should.
    fn end(&self, walk: &Walk, progress: Progress) {
        let segments = &self.shared.segments;
        match (walk.purpose, progress) {
            (Purpose::Evict, Progress::Enough) => {
                segments.put_off_evict(walk.id, walk.walked_bytes(self.shared), self.pin);
            }
            (Purpose::Evict, _) => {
                segments.finish_evict(walk.id, self.pin);
                self.tally.count(self.shared, Figure::SegmentsEvicted);
            }
            (Purpose::Clean, _) => {
                segments.finish_clean(walk.id, self.pin);
                self.tally.count(self.shared, Figure::SegmentsCleaned);
            }
            (Purpose::Expire, _) => {
                let lifetime = self.next_look(walk.left);
                segments.unclaim(walk.id, Some(lifetime), self.pin);
            }
            // The scrub ends its walks itself.
            (Purpose::Scrub, _) => segments.unclaim(walk.id, None, self.pin),
        }
    }

    /// Ends a walk before its time: what it has not come to stays as it is.
    fn give_up(&self, walk: &Walk) {
        let segments = &self.shared.segments;
        match walk.purpose {
            Purpose::Evict => {
                segments.put_off_evict(walk.id, walk.walked_bytes(self.shared), self.pin);
            }
            Purpose::Clean | Purpose::Expire | Purpose::Scrub => {
                segments.unclaim(walk.id, None, self.pin);
            }
        }
    }

    /// Whether so much is dead, and so little free, that cleaning is due.
    fn wants_cleaning(&self) -> bool {
        let removed_bytes = self.shared.sum(Figure::RemovedBytes);
        self.shared.segments.wants_cleaning(removed_bytes)
    }

    /// When to look for expired items again.
    fn next_look(&self, left: Lifetime) -> Lifetime {
        let span_ms = match left.last_ms {
            u64::MAX => EXPIRY_STEPS * EXPIRY_STEP_MS_MIN,
            last_ms => last_ms.saturating_sub(self.now_ms),
        };
        let step_ms = (span_ms / EXPIRY_STEPS).max(EXPIRY_STEP_MS_MIN);
        Lifetime {
            first_ms: left.first_ms.max(self.now_ms.saturating_add(step_ms)),
            ..left
        }
    }

    /// About how many items main has: small is a tenth.
    pub(crate) fn main_items(shared: &Shared) -> u64 {
        let entries = Tally::entries(shared);
        entries - entries / 10
    }
}
