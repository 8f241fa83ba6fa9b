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

mod queue;
pub(crate) mod segment;

use crate::arena::Arena;
use crate::engine::config::{Geometry, SEGMENT_LINE_BYTES};
use crate::engine::log::queue::Queues;
use crate::engine::log::segment::{Emptied, Label, Lifetime, Log, NEVER_MS, Segment, State};
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::{Arc, Mutex};

/// LIMIT: how often the segment table is walked for what has expired; a walk of the largest table
/// takes about a millisecond.
const DUE_EVERY_MS: u64 = 100;

/// LIMIT: lines of the table that a search for the emptiest segment looks at.
const SEARCHED_MAX: u32 = 4096;

/// LIMIT: a segment with more live bytes than this share (N/8) is not worth cleaning.
const CLEANED_EIGHTHS_MAX: u64 = 7;

/// All segments, with the pool of free ones and the queues of sealed ones.
#[derive(Debug)]
pub(crate) struct Segments {
    arena: Arc<Arena>,
    geometry: Geometry,
    lists: Mutex<Lists>,
}

/// How the segments are used at the moment; counts in segments, sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) free: u64,
    pub(crate) open: u64,
    pub(crate) sealed: u64,
    pub(crate) limbo: u64,
    pub(crate) withdrawn: u64,
    pub(crate) extents: u64,
    /// Segments of each log: open, sealed or claimed.
    pub(crate) held: [u64; 2],
    /// When the oldest segment of each log was opened; `None`: it has none.
    pub(crate) oldest_ms: [Option<u64>; 2],
    /// Bytes of items that the index names, those in `expired_bytes` apart.
    pub(crate) live_bytes: u64,
    /// The same, in segments all of whose items have expired.
    pub(crate) expired_bytes: u64,
    /// Bytes of items in open and sealed segments that the index does not name any more.
    pub(crate) dead_bytes: u64,
    /// Bytes of open segments that no item takes yet.
    pub(crate) open_bytes: u64,
    /// Bytes of sealed segments that were too few for the next item.
    pub(crate) tail_bytes: u64,
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

#[derive(Debug)]
struct Lists {
    /// INVARIANT: `Free` segments, each once.
    free: Vec<u32>,
    /// INVARIANT: a segment is in a queue from its sealing (or its opening in another one's place)
    /// until it is claimed for eviction, or retired.
    queues: Queues,
    sequence: u64,
    /// How many are being evicted: they go on as their sessions write.
    evicting: u32,
    /// How many are retired: they are free once their readers are gone.
    limbo: u32,
    /// Extents that the index has let go of: the same.
    leaving: u32,
    withdrawn: u32,
    /// 1 if the index or the ghosts wait for one, or else 0.
    wanted: u32,
    /// How many of each log are open, sealed or claimed.
    held: [u32; 2],
    /// Extents of the large values whose items are in each log. A value can be removed before it is
    /// counted, so for a moment it may be below 0.
    extents: [i64; 2],
    /// Extents that values being received have, or will need.
    drafted: u32,
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

/// Sealed segments of which something has expired, as of the last walk of the table.
#[derive(Debug)]
struct DueList {
    whole: Vec<u32>,
    part: Vec<u32>,
    /// When something else may have expired.
    next_ms: u64,
    /// When the table may be walked again.
    walk_ms: u64,
    /// The flush that the last walk knew of.
    flushed_version: u64,
}

impl Lists {
    /// Takes a segment from the pool, if that leaves as many as are kept for moving items to.
    fn take(&mut self, kept: u32) -> Option<u32> {
        (self.free.len() as u32 > kept)
            .then(|| self.free.pop())
            .flatten()
    }
}

impl Segments {
    pub(crate) fn new(arena: Arc<Arena>, geometry: Geometry) -> Self {
        let lists = Lists {
            // Popped from the end: low segments first.
            free: (0..geometry.segments).rev().collect(),
            queues: Queues::new(geometry.segments),
            sequence: 0,
            evicting: 0,
            limbo: 0,
            leaving: 0,
            withdrawn: 0,
            wanted: 0,
            held: [0; 2],
            extents: [0; 2],
            drafted: 0,
            sealed_bytes: 0,
            retired_bytes: 0,
            has_evicted: false,
            searched: 0,
            due: DueList {
                whole: Vec::new(),
                part: Vec::new(),
                next_ms: NEVER_MS,
                walk_ms: 0,
                flushed_version: 0,
            },
        };
        Self {
            arena,
            geometry,
            lists: Mutex::new(lists),
        }
    }

    pub(crate) fn segment(&self, id: u32) -> Segment<'_> {
        let line = self.geometry.segment_table_at + u64::from(id) * SEGMENT_LINE_BYTES;
        Segment::at(&self.arena, line)
    }

    /// The offset of a segment's first byte.
    pub(crate) fn start(&self, id: u32) -> u64 {
        self.geometry.segments_at + u64::from(id) * self.geometry.segment_bytes
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
    pub(crate) fn open(&self, label: Label, place: Place, now_ms: u64) -> Option<u32> {
        let mut lists = self.lists.lock();
        let kept = match place {
            Place::New => self.geometry.segments_kept + lists.wanted,
            Place::Newest | Place::Before(_) => 0,
        };
        let id = lists.take(kept)?;
        lists.sequence += 1;
        lists.held[label.log as usize] += 1;
        self.segment(id).open(lists.sequence, label, now_ms);
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
                lists.due.next_ms = lists.due.next_ms.min(segment.lifetime().first_ms);
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
            let mut queue = lists.queues.from_oldest(log);
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
        let small = i64::from(lists.held[Log::Small as usize]) + lists.extents[Log::Small as usize];
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

    /// Claims the emptiest sealed segment, if one is worth cleaning.
    pub(crate) fn claim_emptiest(&self) -> Option<u32> {
        let (segments, first) = {
            let mut lists = self.lists.lock();
            let first = lists.searched;
            lists.searched = (first + SEARCHED_MAX) % self.geometry.segments;
            (self.geometry.segments, first)
        };
        let worth_bytes = self.geometry.segment_bytes / 8 * CLEANED_EIGHTHS_MAX;
        let searched = (0..segments.min(SEARCHED_MAX)).map(|at| (first + at) % segments);
        let sealed = searched.filter_map(|id| match self.segment(id).state() {
            (State::Sealed, live_bytes) if live_bytes <= worth_bytes => Some((live_bytes, id)),
            _ => None,
        });
        let (_, id) = sealed.min()?;
        self.segment(id).claim().then_some(id)
    }

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
        if is_flush_new || (now_ms >= due.next_ms && now_ms >= due.walk_ms) {
            self.walk_table(due, now_ms, flushed_version);
        }
        while let Some(id) = due.whole.pop() {
            // What was due may have been evicted, and its segment reused, since the walk.
            if self.is_whole(id, now_ms, flushed_version) && self.segment(id).claim() {
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
            if segment.lifetime().first_ms <= now_ms && segment.claim() {
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
        due.walk_ms = now_ms + DUE_EVERY_MS;
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

    /// Gives a claim back: what is left in the segment stays, and expires as `lifetime` says.
    pub(crate) fn unclaim(self: &Arc<Self>, id: u32, lifetime: Option<Lifetime>, pin: &Pin<'_>) {
        let segment = self.segment(id);
        if let Some(lifetime) = lifetime {
            segment.set_lifetime(lifetime);
        }
        let mut lists = self.lists.lock();
        // Walks of the table have passed over it while it was claimed.
        let look_ms = match segment.newest_version() <= lists.due.flushed_version {
            true => 0,
            false => segment.lifetime().first_ms,
        };
        lists.due.next_ms = lists.due.next_ms.min(look_ms);
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

    /// Whether fewer than `reserved` segments are free, or about to be.
    pub(crate) fn is_short(&self, reserved: u32) -> bool {
        let lists = self.lists.lock();
        let coming = lists.evicting + lists.limbo + lists.leaving;
        lists.free.len() as u32 + coming < reserved + lists.wanted
    }

    /// Whether no segment is to be had for new items, nor will be without an eviction.
    pub(crate) fn is_out(&self) -> bool {
        let lists = self.lists.lock();
        let coming = lists.limbo + lists.leaving;
        lists.free.len() as u32 + coming <= self.geometry.segments_kept + lists.wanted
    }

    /// Whether so many bytes of sealed segments are dead, with `removed_bytes` the bytes of all
    /// items that were ever removed, and so little is free, that cleaning is due.
    pub(crate) fn wants_cleaning(&self, removed_bytes: u64) -> bool {
        let lists = self.lists.lock();
        let usable = self.geometry.segments - lists.withdrawn;
        let dead_bytes = removed_bytes.saturating_sub(lists.retired_bytes);
        dead_bytes * 100 > lists.sealed_bytes * self.geometry.dead_percent_max
            && (lists.free.len() as u32) < usable / shape::CLEANED_BELOW_SHARE
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
            self.lists.lock().free.push(id);
            return false;
        }
        self.segment(id).withdraw();
        self.lists.lock().withdrawn += 1;
        true
    }

    fn take_for_good(&self) -> Option<u32> {
        let mut lists = self.lists.lock();
        let id = lists.take(self.geometry.segments_kept);
        // Until there is one, new items leave one more.
        lists.wanted = u32::from(id.is_none());
        id
    }

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

    /// Counts how the segments are used. Not one instant: others go on meanwhile.
    pub(crate) fn usage(&self, now_ms: u64) -> Usage {
        let mut usage = Usage::default();
        for id in 0..self.geometry.segments {
            let segment = self.segment(id);
            let (state, live_bytes) = segment.state();
            match state {
                State::Free => usage.free += 1,
                State::Retired => usage.limbo += 1,
                State::Withdrawn => usage.withdrawn += 1,
                State::Extent => usage.extents += 1,
                State::Open | State::Sealed | State::Claimed => {
                    self.add_held(&mut usage, segment, state, live_bytes, now_ms);
                }
            }
        }
        usage
    }

    fn add_held(
        &self,
        usage: &mut Usage,
        segment: Segment<'_>,
        state: State,
        live_bytes: u64,
        now_ms: u64,
    ) {
        let log = segment.label().log as usize;
        let committed = segment.committed().max(live_bytes);
        let free_bytes = self.geometry.segment_bytes - committed;
        usage.held[log] += 1;
        let opened_ms = segment.opened_ms();
        let oldest_ms = usage.oldest_ms[log].map_or(opened_ms, |ms| ms.min(opened_ms));
        usage.oldest_ms[log] = Some(oldest_ms);
        usage.dead_bytes += committed - live_bytes;
        match segment.lifetime().last_ms <= now_ms {
            true => usage.expired_bytes += live_bytes,
            false => usage.live_bytes += live_bytes,
        }
        match state {
            State::Open => {
                usage.open += 1;
                usage.open_bytes += free_bytes;
            }
            _ => {
                usage.sealed += 1;
                usage.tail_bytes += free_bytes;
            }
        }
    }

    /// Checks that the lists agree with the table; for [`verify`](crate::engine::verify).
    pub(crate) fn verify_lists(&self) -> Result<(), String> {
        let usage = self.usage(0);
        let lists = self.lists.lock();
        let told = [
            ("free", lists.free.len() as u64, usage.free),
            ("retired", u64::from(lists.limbo), usage.limbo),
            ("withdrawn", u64::from(lists.withdrawn), usage.withdrawn),
            ("small's", u64::from(lists.held[0]), usage.held[0]),
            ("main's", u64::from(lists.held[1]), usage.held[1]),
            ("half received", u64::from(lists.drafted), 0),
            ("leaving", u64::from(lists.leaving), 0),
        ];
        for (name, listed, counted) in told {
            if listed != counted {
                return Err(format!(
                    "{listed} segments are listed as {name}, and {counted} are"
                ));
            }
        }
        let is_queued = |id: u32| lists.queues.contains(id);
        let sealed = (0..self.geometry.segments)
            .filter(|&id| self.segment(id).state().0 == State::Sealed)
            .find(|&id| !is_queued(id));
        sealed.map_or(Ok(()), |id| {
            Err(format!("segment {id} is sealed and in no queue"))
        })
    }

    fn reclaim_later(self: &Arc<Self>, id: u32, pin: &Pin<'_>) {
        let segments = Arc::clone(self);
        pin.defer(move || {
            segments.segment(id).reclaim();
            let mut lists = segments.lists.lock();
            lists.limbo -= 1;
            lists.free.push(id);
        });
    }
}
