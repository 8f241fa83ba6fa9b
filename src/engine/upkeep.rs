//! Upkeep: what keeps segments free. Eviction, cleaning and expiry are all walks of a segment.
//!
//! A walk claims a sealed segment, and [settles](crate::engine::settle) its items one after the other. What the index no
//! longer names is passed over; what has expired or was flushed is removed. What is alive
//!
//! - **evict**: moves to main, if it was read often enough (twice in small, once in main), and is
//!   removed if not; what leaves small leaves a ghost (S3-FIFO). Then the segment is free.
//! - **clean**: moves to a segment that takes this one's place in its log, with its count. Then the
//!   segment is free. One of which half is dead is cleaned rather than another one evicted.
//! - **expire**: stays; the segment goes on, with its dead bytes counted.
//! - **scrub**: the same ([`scrub`](crate::engine::scrub)).
//!
//! Of a segment whose contents recovery has not proved, what is damaged is removed by all of them.
//!
//! The item of a large value is small, and one segment may hold the items of most of the memory. So
//! what a walk costs and frees is counted with the extents of what it removes or compares, and an eviction
//! that has freed enough of them is put off, as is a scrub. What open segments name is evicted where nothing
//! else is left ([`evict_open`](crate::engine::evict_open)).
//!
//! Walks belong to the [`Caretaker`], which all sessions share: whoever finds it free takes a step with it, nobody
//! waits for it. So there is one walk at a time, and one place that items move to, however many sessions there are.
//! A session pays in small steps, a few bytes walked for each byte that it writes, or all at once where it needs a
//! segment and none is free. If another one has the caretaker meanwhile and segments are short, it evicts as much
//! for itself. Whoever calls [`Session::maintain`] in the background keeps sessions from having to.
//!
//! [`Session::maintain`]: crate::Session::maintain

use arrayvec::ArrayVec;

use crate::engine::appender::Appender;
use crate::engine::cache::Shared;
use crate::engine::evict_open::Passed;
use crate::engine::index::word::KeyHash;
use crate::engine::item::Item;
use crate::engine::log::segment::{Label, Lifetime, Log};
use crate::engine::log::{Due, Wanted};
use crate::engine::settle::Visited;
use crate::engine::stats::Figure;
use crate::engine::tally::Tally;
use crate::reclaim::Pin;

/// LIMIT: items whose buckets are fetched together during a walk.
const BATCH: usize = 16;
/// LIMIT: after a walk for expired items, the next one comes when this share (1/N) of the time until
/// the last of them expires has passed, so that a segment is walked a few times and not for each.
const EXPIRY_STEPS: u64 = 16;
/// LIMIT: nor does it come before so long.
const EXPIRY_STEP_MS_MIN: u64 = 500;

/// A claimed segment, and how far it was walked.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(super) id: u32,
    pub(super) purpose: Purpose,
    pub(super) label: Label,
    /// Offset of the next item.
    pub(super) at: u64,
    /// Offset of the end of the last item.
    pub(super) end: u64,
    /// When what stays in the segment expires.
    pub(super) left: Lifetime,
    /// Bytes of the extents that were let go of.
    pub(super) freed_bytes: u64,
    /// Bytes of large values that were compared with their CRCs.
    pub(super) compared_bytes: u64,
    /// Whether nobody has proved the contents of the segment.
    pub(super) is_unproven: bool,
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
    /// A key whose item no eviction removes.
    pub(crate) spared: Option<KeyHash>,
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
            spared: None,
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
                batch.push((hash, home_at, next));
                next += item.bytes();
            }
            let leaves_ghosts = walk.purpose == Purpose::Evict && walk.label.log == Log::Small;
            for &(hash, home_at, _) in &batch {
                index.prefetch_overflow(home_at);
                if leaves_ghosts {
                    self.shared.ghosts.prefetch(hash);
                }
            }
            for (hash, _, offset) in batch {
                let item = self.item(offset);
                let visited = Visited { hash, offset, item };
                if !self.settle(walk, target, &visited, mercy) {
                    return Progress::Stuck;
                }
                walk.at = offset + item.bytes();
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
    #[inline]
    pub(super) fn item(&self, offset: u64) -> Item<'a> {
        // SAFETY: below the committed length lie whole items, and a claimed segment is not
        // reclaimed before its claim ends, by this party; nor one that was open, under this pin.
        unsafe { Item::read(&self.shared.arena, offset) }
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
        let geometry = &self.shared.geometry;
        let is_wanted = match demand {
            Demand::Usual => segments.is_short(geometry.segments_reserved),
            Demand::Maintenance => segments.is_short(geometry.segments_maintained),
            Demand::Segment => true,
        };
        if demand != Demand::Segment {
            let cleaned = segments.cleaned(self.shared.sum(Figure::RemovedBytes), is_wanted);
            if let Some(id) = cleaned.and_then(|cleaned| segments.claim_emptiest(cleaned)) {
                return Some(Walk::of(self.shared, id, Purpose::Clean));
            }
        }
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
