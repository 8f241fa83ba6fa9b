//! The log: segments that sessions append items to.
//!
//! A session takes a segment from the pool, appends items to it, alone, and seals it when the next
//! item does not fit. There are two logs: *small*, where new keys begin, and *main*, where keys go
//! that were read again. Sealed segments queue in the order of their sealing; eviction takes the
//! oldest of one log or the other, so that small keeps about a tenth of the segments. A segment that
//! no index word names is retired, and returns to the pool one grace period later. The pool and the
//! queues are touched once per segment, not per item: they sit behind one lock that is held for a
//! few instructions, and for a walk of the segment table where one is due.
//!
//! What is counted where: live bytes fall when, and only when, somebody removes an index word, and
//! whoever removed it counts it down before it unpins.

mod due;
pub(crate) mod extents;
mod queue;
pub(crate) mod recovered;
pub(crate) mod segment;
mod usage;

use std::collections::VecDeque;
use std::ops::Range;

use crate::arena::Arena;
use crate::engine::config::{Geometry, SEGMENT_LINE_BYTES};
use crate::engine::log::due::DueList;
pub(crate) use crate::engine::log::due::{Due, Wanted};
use crate::engine::log::queue::Queues;
use crate::engine::log::segment::{Emptied, Label, Lifetime, Log, Owner, Segment, State};
pub(crate) use crate::engine::log::usage::Usage;
use crate::engine::scrub::Unproven;
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::{Arc, Mutex};

/// LIMIT: lines of the table that a search for the emptiest segment looks at.
const SEARCHED_MAX: u32 = 4096;

/// LIMIT: a segment of whose items more than this share (N/8) is alive is not worth cleaning.
const CLEANED_EIGHTHS_MAX: u64 = 7;
/// LIMIT: one of whose items no more than this share (N/8) is alive is cleaned before anything alive is evicted:
/// no more moves than becomes free.
const CHEAP_EIGHTHS_MAX: u64 = 4;
/// The unit of that share where segments are compared.
const ALIVE_UNIT: u64 = 1 << 16;

/// LIMIT: segments that are made free ahead for large values that are being received, and of how many one.
const AHEAD_SEGMENTS_MAX: u32 = 16;
const AHEAD_SHARE: u32 = 64;

/// All segments, with the pool of free ones and the queues of sealed ones.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(super) arena: Arc<Arena>,
    geometry: Geometry,
    lists: Mutex<Lists>,
    /// Those with contents that recovery has not proved.
    pub(super) unproven: Unproven,
}

/// What a segment is opened for, and where it will queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// For new items: behind the newest, once it is sealed.
    New,
    /// For items that eviction moves: the same.
    Newest,
    /// For items that cleaning moves: before this one, of the same log, at once.
    Before(u32),
}

/// Which segments are cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleaned {
    /// Those that make more free than they move.
    WhatIsCheap,
    /// All that make a little free: too much is dead.
    WhatLeavesSomething,
}

impl Cleaned {
    /// The largest share (N/8) of its items that is alive in such a segment.
    fn eighths_max(self) -> u64 {
        match self {
            Self::WhatIsCheap => CHEAP_EIGHTHS_MAX,
            Self::WhatLeavesSomething => CLEANED_EIGHTHS_MAX,
        }
    }

    /// Whether the segment is asked for: one whose eviction was put off is dead as far as that came, and is
    /// the next victim.
    fn takes(self, segment: Segment<'_>) -> bool {
        self == Self::WhatLeavesSomething || segment.walked() == 0
    }
}

#[derive(Debug)]
struct Lists {
    /// INVARIANT: `Free` segments, each once. Taken from the end: low ones first, and those that were
    /// used before ones that never were.
    free: VecDeque<u32>,
    /// Segments below this one were taken at some time.
    taken: u32,
    /// INVARIANT: a segment is in a queue from its sealing (or its opening in another one's place)
    /// until it is claimed for eviction, or retired.
    queues: Queues,
    sequence: u64,
    /// How many are being evicted: they go on as their sessions write.
    evicting: u32,
    /// How many are retired: they are free once their readers are gone.
    limbo: u32,
    /// Parts of extents that the index has let go of: the same.
    leaving: u64,
    withdrawn: u32,
    /// 1 if the index or the ghosts wait for one, or else 0.
    wanted: u32,
    /// How many of each log are open, sealed or claimed.
    held: [u32; 2],
    /// Parts of the large values whose items are in each log. A value can be removed before it is
    /// counted, so for a moment it may be below 0.
    parts: [i64; 2],
    /// Parts that values being received have, or will need.
    drafted: u64,
    /// Of these, those that were not taken yet.
    awaited: u64,
    /// INVARIANT: extents of which some parts are used and some are free, each once.
    shared: Vec<u32>,
    /// Committed bytes of the sealed and claimed ones.
    sealed_bytes: u64,
    /// Committed bytes of all that were ever retired.
    retired_bytes: u64,
    /// Whether a victim was ever claimed.
    has_evicted: bool,
    /// Where the next search for the emptiest begins.
    searched: u32,
    due: DueList,
}

impl Lists {
    /// Of no segments yet.
    fn new(geometry: &Geometry) -> Self {
        Self {
            free: VecDeque::new(),
            taken: 0,
            queues: Queues::new(geometry.segments),
            sequence: 0,
            evicting: 0,
            limbo: 0,
            leaving: 0,
            withdrawn: 0,
            wanted: 0,
            held: [0; 2],
            parts: [0; 2],
            drafted: 0,
            awaited: 0,
            shared: Vec::new(),
            sealed_bytes: 0,
            retired_bytes: 0,
            has_evicted: false,
            searched: 0,
            due: DueList::new(),
        }
    }

    /// Notes when something of a sealed segment will have expired, or that all of it was flushed.
    fn look_at(&mut self, segment: Segment<'_>) {
        self.due.look_at(
            match segment.newest_version() <= self.due.flushed_version() {
                true => 0,
                false => segment.lifetime().first_ms,
            },
        );
    }

    /// Takes a segment from the pool, if that leaves as many as are kept for moving items to.
    fn take(&mut self, kept: u32) -> Option<u32> {
        if self.free.len() as u32 <= kept {
            return None;
        }
        let id = self.free.pop_back()?;
        self.taken = self.taken.max(id + 1);
        Some(id)
    }
}

impl Segments {
    pub(crate) fn new(arena: Arc<Arena>, geometry: Geometry) -> Self {
        let mut lists = Lists::new(&geometry);
        lists.free = (0..geometry.segments).rev().collect();
        Self {
            arena,
            geometry,
            lists: Mutex::new(lists),
            unproven: Unproven::default(),
        }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn segment(&self, id: u32) -> Segment<'_> {
        let line = self.geometry.segment_table_at + u64::from(id) * SEGMENT_LINE_BYTES;
        Segment::at(&self.arena, line)
    }

    /// The offset of a segment's first byte.
    pub(crate) fn start(&self, id: u32) -> u64 {
        self.geometry.segments_at + u64::from(id) * self.geometry.segment_bytes
    }

    /// The range of the segments up to the last one that was ever taken.
    pub(crate) fn taken(&self) -> Range<u64> {
        self.geometry.segments_at..self.start(self.lists.lock().taken)
    }

    /// The segment that an item offset lies in.
    pub(crate) fn id_at(&self, offset: u64) -> u32 {
        ((offset - self.geometry.segments_at) / self.geometry.segment_bytes) as u32
    }

    /// The label of the segment that an item offset lies in.
    pub(crate) fn label_at(&self, offset: u64) -> Label {
        self.segment(self.id_at(offset)).label()
    }

    /// Takes a segment from the pool and opens it; `None` if there is none for this use.
    pub(crate) fn open(
        &self,
        label: Label,
        place: Place,
        owner: Owner,
        now_ms: u64,
    ) -> Option<u32> {
        let mut lists = self.lists.lock();
        let kept = match place {
            Place::New => self.geometry.segments_kept + lists.wanted,
            Place::Newest | Place::Before(_) => 0,
        };
        let id = lists.take(kept)?;
        lists.sequence += 1;
        lists.held[label.log as usize] += 1;
        self.segment(id).open(lists.sequence, label, owner, now_ms);
        match place {
            Place::Before(place) if lists.queues.contains(place) => {
                lists.queues.insert_before(id, place);
            }
            Place::Before(_) | Place::Newest | Place::New => {}
        }
        Some(id)
    }

    /// Seals a segment that the caller opened: it will append no more.
    pub(crate) fn seal(self: &Arc<Self>, id: u32, newest_version: u64, pin: &Pin<'_>) {
        let mut lists = self.lists.lock();
        let segment = self.segment(id);
        lists.sealed_bytes += segment.committed();
        match segment.seal(newest_version) {
            Emptied::No => {
                if !lists.queues.contains(id) {
                    lists.queues.push(segment.label().log, id);
                }
                lists.look_at(segment);
            }
            Emptied::Retired => {
                self.note_retired(&mut lists, id);
                drop(lists);
                self.reclaim_later(id, pin);
            }
        }
    }

    /// Counts an item whose index word the caller removed; retires the segment if it was the last.
    pub(crate) fn remove_live(self: &Arc<Self>, offset: u64, bytes: u64, pin: &Pin<'_>) {
        let id = self.id_at(offset);
        if self.segment(id).remove_live(bytes) == Emptied::Retired {
            self.retired(id, pin);
        }
    }

    fn retired(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        self.note_retired(&mut self.lists.lock(), id);
        self.reclaim_later(id, pin);
    }

    fn note_retired(&self, lists: &mut Lists, id: u32) {
        let segment = self.segment(id);
        let bytes = segment.committed();
        lists.queues.unlink(id);
        lists.held[segment.label().log as usize] -= 1;
        lists.sealed_bytes -= bytes;
        lists.retired_bytes += bytes;
        lists.limbo += 1;
    }

    /// Claims a segment for eviction: of small, if small has more than its share, or else of main.
    /// `None` if none is sealed.
    pub(crate) fn claim_victim(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        let order = match self.is_small_over(&lists) {
            true => [Log::Small, Log::Main],
            false => [Log::Main, Log::Small],
        };
        let victim = order.into_iter().find_map(|log| {
            // Whoever else has a claim to one, or retires it in this very moment, sees to it.
            let mut queue = lists.queues.oldest_first(log);
            queue.find(|&id| self.segment(id).claim())
        })?;
        lists.queues.unlink(victim);
        lists.evicting += 1;
        lists.has_evicted = true;
        Some(victim)
    }

    /// Whether the small log has more than its share.
    fn is_small_over(&self, lists: &Lists) -> bool {
        let usable = self.geometry.segments - lists.withdrawn;
        let parts_per_segment = i64::from(self.geometry.parts_per_segment());
        let small = i64::from(lists.held[Log::Small as usize])
            + lists.parts[Log::Small as usize] / parts_per_segment;
        small > i64::from(usable / shape::SMALL_SHARE).max(1)
    }

    /// The log that new keys begin in: small, but for a cache that has never been full, whose main
    /// log is filled with what small has no room for.
    pub(crate) fn first_log(&self) -> Log {
        let lists = self.lists.lock();
        let is_young = shape::MAIN_IS_FILLED_FIRST && !lists.has_evicted;
        match is_young && self.is_small_over(&lists) {
            true => Log::Main,
            false => Log::Small,
        }
    }

    /// The segments that are open, with the sequence of their opening: those of this sequence and later, in
    /// order. The lock orders their opening before what the caller reads of them.
    pub(crate) fn open_from(&self, sequence: u64) -> Vec<(u64, u32)> {
        let lists = self.lists.lock();
        let is_open = |&id: &u32| self.segment(id).state().0 == State::Open;
        let open = (0..lists.taken).filter(is_open);
        let mut open: Vec<_> = open.map(|id| (self.segment(id).sequence(), id)).collect();
        drop(lists);
        open.retain(|&(opened, _)| opened >= sequence);
        open.sort_unstable();
        open
    }

    /// Claims the sealed segment of whose items the smallest share is alive, if one is worth cleaning. What its
    /// items have left of it does not count: they would leave as much of another.
    pub(crate) fn claim_emptiest(&self, cleaned: Cleaned) -> Option<u32> {
        let (segments, first) = {
            let mut lists = self.lists.lock();
            let first = lists.searched;
            lists.searched = (first + SEARCHED_MAX) % self.geometry.segments;
            (self.geometry.segments, first)
        };
        let worth = ALIVE_UNIT / 8 * cleaned.eighths_max();
        let searched = (0..segments.min(SEARCHED_MAX)).map(|at| (first + at) % segments);
        let sealed = searched.filter_map(|id| match self.segment(id).state() {
            (State::Sealed, live_bytes) if cleaned.takes(self.segment(id)) => {
                let committed = self.segment(id).committed();
                Some((live_bytes * ALIVE_UNIT / committed.max(1), id))
            }
            _ => None,
        });
        let (_, id) = sealed.filter(|&(alive, _)| alive <= worth).min()?;
        self.segment(id).claim().then_some(id)
    }

    /// Gives a claim back: what is left in the segment stays, and expires as `lifetime` says.
    pub(crate) fn unclaim(self: &Arc<Self>, id: u32, lifetime: Option<Lifetime>, pin: &Pin<'_>) {
        let segment = self.segment(id);
        if let Some(lifetime) = lifetime {
            segment.set_lifetime(lifetime);
        }
        let mut lists = self.lists.lock();
        // Walks of the table have passed over it while it was claimed.
        lists.look_at(segment);
        if segment.unclaim() == Emptied::Retired {
            self.note_retired(&mut lists, id);
            drop(lists);
            self.reclaim_later(id, pin);
        }
    }

    /// Ends the eviction of a claimed segment: the caller removed every index word that named it.
    pub(crate) fn finish_evict(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        self.lists.lock().evicting -= 1;
        self.finish_clean(id, pin);
    }

    /// Puts the eviction of a claimed segment off, after `walked_bytes` of it: what is left there is
    /// the next victim.
    pub(crate) fn put_off_evict(self: &Arc<Self>, id: u32, walked_bytes: u64, pin: &Pin<'_>) {
        let segment = self.segment(id);
        segment.set_walked(walked_bytes);
        let mut lists = self.lists.lock();
        lists.evicting -= 1;
        lists.queues.push_oldest(segment.label().log, id);
        drop(lists);
        self.unclaim(id, None, pin);
    }

    /// Ends the cleaning of a claimed segment: the caller moved all that was live in it.
    pub(crate) fn finish_clean(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        self.segment(id).finish();
        self.retired(id, pin);
    }

    /// Whether fewer than `reserved` segments are free, or about to be, beside some for the large values
    /// that are being received: what is made free for them is in limbo for a while.
    pub(crate) fn is_short(&self, reserved: u32) -> bool {
        let lists = self.lists.lock();
        let coming = lists.evicting + lists.limbo + self.leaving(&lists);
        lists.free.len() as u32 + coming < reserved + lists.wanted + self.ahead(&lists)
    }

    /// Whether no segment is to be had for new items, nor will be without an eviction.
    pub(crate) fn is_out(&self) -> bool {
        let lists = self.lists.lock();
        let coming = lists.limbo + self.leaving(&lists);
        lists.free.len() as u32 + coming <= self.geometry.segments_kept + lists.wanted
    }

    /// Segments that large values which are being received will need soon.
    fn ahead(&self, lists: &Lists) -> u32 {
        let awaited = lists.awaited / u64::from(self.geometry.parts_per_segment());
        let most = AHEAD_SEGMENTS_MAX.min(self.geometry.segments / AHEAD_SHARE);
        awaited.min(most.into()) as u32
    }

    /// Whether anything is retired and not yet free.
    pub(crate) fn has_leaving(&self) -> bool {
        let lists = self.lists.lock();
        lists.limbo > 0 || lists.leaving > 0
    }

    /// Segments' worth of the extents that are leaving.
    fn leaving(&self, lists: &Lists) -> u32 {
        (lists.leaving / u64::from(self.geometry.parts_per_segment())) as u32
    }

    /// Which segments are to be cleaned, with `removed_bytes` the bytes of all items that were ever removed;
    /// `is_short`: if none is, one will be evicted.
    pub(crate) fn cleaned(&self, removed_bytes: u64, is_short: bool) -> Option<Cleaned> {
        let lists = self.lists.lock();
        let usable = self.geometry.segments - lists.withdrawn;
        let dead_bytes = removed_bytes.saturating_sub(lists.retired_bytes);
        let is_dead = |percent: u64| dead_bytes * 100 > lists.sealed_bytes * percent;
        let is_little_free = (lists.free.len() as u32) < usable / shape::CLEANED_BELOW_SHARE;
        if is_dead(self.geometry.dead_percent_max) && is_little_free {
            Some(Cleaned::WhatLeavesSomething)
        } else if is_short && is_dead(self.geometry.dead_percent_searched) {
            Some(Cleaned::WhatIsCheap)
        } else {
            None
        }
    }

    /// Takes a free segment out of use for good and gives its pages back, to pay for a chunk of
    /// the index or the ghosts; false if none is free.
    #[must_use]
    pub(crate) fn withdraw(&self) -> bool {
        let Some(id) = self.take_for_good() else {
            return false;
        };
        // SAFETY: the pool gave the segment to this thread alone, and nobody can see into it.
        let released = unsafe {
            self.arena
                .release(self.start(id), self.geometry.segment_bytes)
        };
        if released.is_err() {
            // Its pages stay: it must stay a segment, or the memory bound would not hold.
            self.lists.lock().free.push_front(id);
            return false;
        }
        self.segment(id).withdraw();
        self.lists.lock().withdrawn += 1;
        true
    }

    fn take_for_good(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        let is_enough = lists.free.len() as u32 > self.geometry.segments_kept;
        // From the other end, so that what is given away lies together, as long as it can.
        let id = is_enough.then(|| lists.free.pop_front()).flatten();
        // Until there is one, new items leave one more.
        lists.wanted = u32::from(id.is_none());
        id
    }

    fn reclaim_later(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        let segments = Arc::clone(self);
        pin.defer(move || {
            segments.segment(id).reclaim();
            segments.note_proven(id);
            let mut lists = segments.lists.lock();
            lists.limbo -= 1;
            lists.free.push_back(id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::Config;

    #[test]
    fn segments_are_cleaned_where_much_is_dead_and_little_is_free() {
        let geometry = Geometry::for_config(&Config::new(4 << 20)).expect("geometry");
        let arena = Arc::new(Arena::new(geometry.arena_bytes).expect("arena"));
        let segments = Segments::new(arena, geometry);
        segments.lists.lock().sealed_bytes = 1_000_000;
        assert_eq!(
            segments.cleaned(190_000, false),
            None,
            "all the others are free"
        );
        segments.lists.lock().free.clear();
        assert_eq!(segments.cleaned(170_000, false), None);
        assert_eq!(
            segments.cleaned(190_000, false),
            Some(Cleaned::WhatLeavesSomething)
        );
        segments.lists.lock().retired_bytes = 20_000;
        assert_eq!(
            segments.cleaned(190_000, false),
            None,
            "some of it has left"
        );
        assert_eq!(segments.cleaned(190_000, true), Some(Cleaned::WhatIsCheap));
        assert_eq!(segments.cleaned(30_000, true), None);
    }
}
