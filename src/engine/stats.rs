//! Figures about the cache.
//!
//! Each session counts in its own lines of the arena, with plain loads and stores: nobody else
//! writes there. A reader adds the sessions up; it sees each counter at some recent instant.

use crate::arena::Arena;
use crate::engine::config::{COUNTERS_BYTES, Geometry};
use crate::engine::header;
use crate::engine::log::Usage;
use crate::sync::Ordering;

/// What a session counts. Each is a word of the session's counter block.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    GetHits,
    GetMisses,
    GetExpired,
    GetFlushed,
    Stored,
    NotStored,
    Overwritten,
    CounterHits,
    CounterMisses,
    CountersCreated,
    CountedInPlace,
    DecrementHits,
    DecrementMisses,
    TouchHits,
    TouchMisses,
    DeleteHits,
    DeleteMisses,
    DeleteMismatches,
    CasMismatches,
    StoreMismatches,
    CasHits,
    CasMisses,
    Flushes,
    LeasesWon,
    StaleServed,
    Invalidated,
    NoSpace,
    TooLarge,
    /// Entries that the session added to the index.
    Inserted,
    /// Entries that it removed from the index, for whatever reason.
    Removed,
    EvictedSmall,
    EvictedMain,
    EvictedBucket,
    EvictedLarge,
    EvictedUnfetched,
    Expired,
    ExpiredUnfetched,
    FlushedRemoved,
    Promoted,
    Reinserted,
    GhostHits,
    Cleaned,
    SegmentsEvicted,
    SegmentsCleaned,
    /// Items that were removed since their CRC did not hold.
    Damaged,
    ScrubbedBytes,
    BucketsSplit,
    /// Bytes of items that were stored.
    StoredBytes,
    /// Bytes of items whose index word the session removed or replaced.
    RemovedBytes,
    EvictMovedBytes,
    CleanMovedBytes,
    /// Not a count: since when the session is pinned, in milliseconds; 0: it is not.
    PinnedSinceMs,
    /// Not a count: the bucket whose lock the session waits for, and who holds it, as a
    /// [`Wait`](crate::engine::index::word::Wait); 0: it waits for none.
    WaitsFor,
}

const COUNTERS: usize = Figure::WaitsFor as usize + 1;
const _: () = assert!(COUNTERS as u64 * 8 <= COUNTERS_BYTES);

/// One session's counter block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counters {
    /// Offset of the block.
    at: u64,
}

impl Counters {
    pub(crate) fn of_session(geometry: &Geometry, session: u32) -> Self {
        Self {
            at: geometry.counters_at + u64::from(session) * COUNTERS_BYTES,
        }
    }

    /// Adds to a counter. Only the session that owns the block calls this.
    #[inline]
    pub(crate) fn add(self, arena: &Arena, counter: Figure, count: u64) {
        let value = self.get(arena, counter).wrapping_add(count);
        self.set(arena, counter, value);
    }

    /// Says what a figure is now. Only the session that owns the block calls this.
    #[inline]
    pub(crate) fn set(self, arena: &Arena, counter: Figure, value: u64) {
        // ORDERING: Relaxed, here and in `get`; one writer, and readers want no more than a recent
        // figure.
        let word = arena.word(self.at + counter as u64 * 8);
        word.store(value, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(self, arena: &Arena, counter: Figure) -> u64 {
        let word = arena.word(self.at + counter as u64 * 8);
        word.load(Ordering::Relaxed)
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident $(= $figure:ident)?,)*) => {
        /// Figures about a cache: counts since it was created, sizes in bytes now.
        ///
        /// Collected while sessions go on, so figures that belong together may be a moment apart.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Every figure with its name, in a fixed order.
            pub fn figures(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// The figures that are counts, with their names.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                let counted = [$($((stringify!($name), Figure::$figure),)?)*].map(|(name, _)| name);
                let mut figures = self.figures();
                figures.retain(|(name, _)| counted.contains(name) || *name == "evicted");
                figures
            }

            /// What sessions count, the rest being 0.
            fn counted(count: impl Fn(Figure) -> u64) -> Self {
                Self {
                    $($($name: count(Figure::$figure),)?)*
                    ..Self::default()
                }
            }
        }

        /// What a session counts that is a figure of its own, by name.
        const COUNTS: &[(&str, Figure)] = &[$($((stringify!($name), Figure::$figure),)?)*];
    };
}

stats! {
    /// Items that the index names, expired and flushed ones included until they leave.
    items,
    /// Reads that found a live item.
    get_hits = GetHits,
    /// Reads that found none.
    get_misses = GetMisses,
    /// Of the misses, those that found an expired item.
    get_expired = GetExpired,
    /// Of the misses, those that found a flushed item.
    get_flushed = GetFlushed,
    /// Items stored.
    stored = Stored,
    /// Of these and of the counters, those that took the place of an item.
    overwritten = Overwritten,
    /// Stores whose condition on the key's presence did not hold.
    not_stored = NotStored,
    /// Increments and decrements that found their key, and counted.
    counter_hits = CounterHits,
    /// Counters that increments and decrements created, since their key was absent.
    counters_created = CountersCreated,
    /// Of the counter's hits, those that changed the number in place.
    counted_in_place = CountedInPlace,
    /// Of the counter's hits, those of decrements.
    decrement_hits = DecrementHits,
    /// Increments and decrements that did not find their key, and created nothing.
    counter_misses = CounterMisses,
    /// Of these, those of decrements.
    decrement_misses = DecrementMisses,
    /// Touches that found their key, reads that touch included.
    touch_hits = TouchHits,
    /// Touches that did not.
    touch_misses = TouchMisses,
    /// Deletes that found their key.
    delete_hits = DeleteHits,
    /// Deletes that did not.
    delete_misses = DeleteMisses,
    /// Operations that depend on a version and found another one.
    cas_mismatches = CasMismatches,
    /// Of these, stores and appends.
    store_mismatches = StoreMismatches,
    /// Of these, deletes.
    delete_mismatches = DeleteMismatches,
    /// Stores and appends that found the version that they wanted.
    cas_hits = CasHits,
    /// Stores and appends that wanted a version and found no item.
    cas_misses = CasMisses,
    /// Flushes asked for, at once or for later.
    flushes = Flushes,
    /// Leases given: callers that were told to store a new value.
    leases_won = LeasesWon,
    /// Reads on the terms of leases that found a stale item.
    stale_served = StaleServed,
    /// Items that were marked stale.
    invalidated = Invalidated,
    /// Writes refused because no memory could be freed at once.
    no_space = NoSpace,
    /// Writes refused because the value is too long.
    too_large = TooLarge,
    /// Items that left to make space.
    evicted,
    /// Of these, those that left the small log, not read twice.
    evicted_small = EvictedSmall,
    /// Of these, those that left the main log, not read since they last moved.
    evicted_main = EvictedMain,
    /// Of these, those whose bucket was full.
    evicted_bucket = EvictedBucket,
    /// Of those of the logs, those with a large value.
    evicted_large = EvictedLarge,
    /// Of all evicted ones, those whose value was never read.
    evicted_unfetched = EvictedUnfetched,
    /// Items that were removed since they had expired.
    expired = Expired,
    /// Of these, those whose value was never read.
    expired_unfetched = ExpiredUnfetched,
    /// Items that were removed since they were flushed.
    flushed = FlushedRemoved,
    /// Items that moved from the small log to the main log.
    promoted = Promoted,
    /// Items that moved to the other end of the main log.
    reinserted = Reinserted,
    /// New keys that began in the main log, since they had been evicted not long before.
    ghost_hits = GhostHits,
    /// Items that were moved by cleaning.
    cleaned = Cleaned,
    /// Segments evicted.
    segments_evicted = SegmentsEvicted,
    /// Segments cleaned.
    segments_cleaned = SegmentsCleaned,
    /// Items that were removed since they were damaged, as their CRC told: after a recovery.
    damaged = Damaged,
    /// Bytes of items whose CRCs were compared after a recovery, by maintenance.
    scrubbed_bytes = ScrubbedBytes,
    /// Segments whose items are still to be compared: until then, each is when it is read.
    segments_unproven,
    /// Bytes of items stored, headers and padding included.
    stored_bytes = StoredBytes,
    /// Bytes of items moved by eviction.
    evict_moved_bytes = EvictMovedBytes,
    /// Bytes of items moved by cleaning.
    clean_moved_bytes = CleanMovedBytes,
    /// Buckets of the index, overflow buckets aside.
    buckets,
    /// Buckets split since the start.
    buckets_split = BucketsSplit,
    /// The whole budget.
    memory_bytes,
    /// Of the budget: the arena's header.
    header_bytes,
    /// Of the budget: counters of the sessions.
    counter_bytes,
    /// Of the budget: the segment table.
    table_bytes,
    /// Of the budget: the index.
    index_bytes,
    /// Of the budget: the ghosts of evicted keys.
    ghost_bytes,
    /// Of the budget: items that the index names, those in `expired_bytes` apart.
    live_bytes,
    /// Of the budget: items overwritten, deleted or evicted whose segment is in use.
    dead_bytes,
    /// Of the budget: items of segments all of whose items have expired.
    expired_bytes,
    /// Of the budget: extents of large values.
    large_bytes,
    /// Of the budget: what is free of the segments that large values share.
    large_free_bytes,
    /// Of the budget: what is left of the segments that sessions append to.
    open_bytes,
    /// Of the budget: what was left of segments when they were sealed.
    tail_bytes,
    /// Of the budget: segments that are free.
    free_bytes,
    /// Of the budget: segments that wait for readers before they are free.
    limbo_bytes,
    /// Of the budget: what is too little for one more segment.
    spare_bytes,
    /// Size of a segment.
    segment_bytes,
    /// Segments in all, those that the index took included.
    segments,
    /// Segments that sessions append to.
    segments_open,
    /// Segments that are complete.
    segments_sealed,
    /// Segments of the small log.
    segments_small,
    /// Segments of the main log.
    segments_main,
    /// When the oldest segment of the small log was opened, in milliseconds; 0: there is none.
    small_since_ms,
    /// When the oldest segment of the main log was opened, in milliseconds; 0: there is none.
    main_since_ms,
    /// The session that has been pinned for longest, counted from 1; 0: none is.
    pinned_session,
    /// Since when it is, in milliseconds.
    pinned_since_ms,
}

impl Stats {
    /// Adds up the counters of all sessions, and describes the memory.
    pub(crate) fn collect(arena: &Arena, geometry: &Geometry, now_ms: u64) -> Self {
        let usage = &Usage::of(arena, geometry, now_ms);
        let sum = |figure: Figure| sum(arena, geometry, figure);
        let segments = |count: u64| count * geometry.segment_bytes;
        // ORDERING: Relaxed, here and below; figures.
        let count = |at: u64| arena.word(at).load(Ordering::Relaxed);
        // A segment that is withdrawn at this moment may not be counted as either.
        let ghost_chunks = count(header::GHOST_CHUNKS).min(usage.withdrawn);
        let index_chunks = 2 + usage.withdrawn - ghost_chunks;
        let table_bytes = geometry.buckets_at - geometry.segment_table_at;
        let (pinned_session, pinned_since_ms) = oldest_pin(arena, geometry);
        let used = geometry.buckets_at + segments(u64::from(geometry.segments) + 2);
        let of_logs = sum(Figure::EvictedSmall).wrapping_add(sum(Figure::EvictedMain));
        Self {
            items: sum(Figure::Inserted).saturating_sub(sum(Figure::Removed)),
            evicted: of_logs.wrapping_add(sum(Figure::EvictedBucket)),
            buckets: count(header::BUCKETS),
            segments_unproven: count(header::UNPROVEN),
            memory_bytes: geometry.memory_bytes,
            header_bytes: geometry.counters_at,
            counter_bytes: geometry.segment_table_at - geometry.counters_at,
            table_bytes,
            index_bytes: segments(index_chunks),
            ghost_bytes: segments(ghost_chunks),
            live_bytes: usage.live_bytes,
            dead_bytes: usage.dead_bytes,
            expired_bytes: usage.expired_bytes,
            large_bytes: usage.used_parts * geometry.part_bytes,
            large_free_bytes: usage.free_parts * geometry.part_bytes,
            open_bytes: usage.open_bytes,
            tail_bytes: usage.tail_bytes,
            free_bytes: segments(usage.free),
            limbo_bytes: segments(usage.limbo),
            spare_bytes: geometry.memory_bytes - used,
            segment_bytes: geometry.segment_bytes,
            segments: u64::from(geometry.segments),
            segments_open: usage.open,
            segments_sealed: usage.sealed,
            segments_small: usage.held[0],
            segments_main: usage.held[1],
            small_since_ms: usage.oldest_ms[0].unwrap_or(0),
            main_since_ms: usage.oldest_ms[1].unwrap_or(0),
            pinned_session,
            pinned_since_ms,
            ..Self::counted(sum)
        }
    }

    /// What one session counted, with its names.
    pub(crate) fn of_session(
        arena: &Arena,
        geometry: &Geometry,
        session: u32,
    ) -> Vec<(&'static str, u64)> {
        let counters = Counters::of_session(geometry, session);
        let count = |&(name, figure)| (name, counters.get(arena, figure));
        COUNTS.iter().map(count).collect()
    }

    /// What the budget is used for, line by line: the bytes add up to `memory_bytes`.
    pub fn ledger(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("header", self.header_bytes),
            ("counters", self.counter_bytes),
            ("segment_table", self.table_bytes),
            ("index", self.index_bytes),
            ("ghosts", self.ghost_bytes),
            ("live", self.live_bytes),
            ("dead", self.dead_bytes),
            ("expired", self.expired_bytes),
            ("large", self.large_bytes),
            ("large_free", self.large_free_bytes),
            ("open", self.open_bytes),
            ("tails", self.tail_bytes),
            ("free", self.free_bytes),
            ("limbo", self.limbo_bytes),
            ("spare", self.spare_bytes),
        ]
    }
}

/// A figure of all sessions together.
pub(crate) fn sum(arena: &Arena, geometry: &Geometry, figure: Figure) -> u64 {
    let sessions = 0..geometry.sessions_max;
    let counts = sessions.map(|session| Counters::of_session(geometry, session));
    counts.fold(0, |sum, counters| {
        sum.wrapping_add(counters.get(arena, figure))
    })
}

/// The session that has been pinned for longest, counted from 1, and since when.
fn oldest_pin(arena: &Arena, geometry: &Geometry) -> (u64, u64) {
    let sessions = 0..geometry.sessions_max;
    let pins = sessions.filter_map(|session| {
        let counters = Counters::of_session(geometry, session);
        match counters.get(arena, Figure::PinnedSinceMs) {
            0 => None,
            since_ms => Some((since_ms, u64::from(session) + 1)),
        }
    });
    let (since_ms, session) = pins.min().unwrap_or_default();
    (session, since_ms)
}
