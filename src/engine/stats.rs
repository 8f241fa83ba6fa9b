//! Figures about the cache.
//!
//! Each session counts in its own lines of the arena, with plain loads and stores: nobody else
//! writes there. A reader adds the sessions up; it sees each counter at some recent instant.

use crate::arena::Arena;
use crate::engine::config::{COUNTERS_BYTES, Geometry, SEGMENT_LINE_BYTES};
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
    CounterHits,
    CounterMisses,
    TouchHits,
    TouchMisses,
    DeleteHits,
    DeleteMisses,
    CasMismatches,
    Flushes,
    NoSpace,
    /// Entries that the session added to the index.
    Inserted,
    /// Entries that it removed from the index, for whatever reason.
    Removed,
    /// Of these, those that left to make space.
    Evicted,
    SegmentsEvicted,
    BucketsSplit,
}

const COUNTERS: usize = Figure::BucketsSplit as usize + 1;
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
        let word = arena.word(self.at + counter as u64 * 8);
        // ORDERING: Relaxed; one writer, and readers want no more than a recent figure.
        word.store(
            word.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
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
        }
    };
}

stats! {
    /// Items that the index names, expired and flushed ones included until they leave.
    items,
    /// Reads that found a live item.
    get_hits,
    /// Reads that found none.
    get_misses,
    /// Of the misses, those that found an expired item.
    get_expired,
    /// Of the misses, those that found a flushed item.
    get_flushed,
    /// Items stored.
    stored,
    /// Stores whose condition on the key's presence did not hold.
    not_stored,
    /// Increments and decrements that found their key, or created it.
    counter_hits,
    /// Increments and decrements that did not.
    counter_misses,
    /// Touches that found their key, reads that touch included.
    touch_hits,
    /// Touches that did not.
    touch_misses,
    /// Deletes that found their key.
    delete_hits,
    /// Deletes that did not.
    delete_misses,
    /// Conditional stores and deletes that found another version.
    cas_mismatches,
    /// Flushes carried out.
    flushes,
    /// Writes refused because no memory could be freed at once.
    no_space,
    /// Items that left to make space.
    evicted,
    /// Segments evicted.
    segments_evicted,
    /// Buckets of the index, overflow buckets aside.
    buckets,
    /// Buckets split since the start.
    buckets_split,
    /// The whole budget.
    memory_bytes,
    /// Of the budget: the index.
    index_bytes,
    /// Of the budget: items that the index names.
    live_bytes,
    /// Of the budget: items overwritten, deleted or evicted whose segment is in use.
    dead_bytes,
    /// Of the budget: segments that are free.
    free_bytes,
    /// Of the budget: segments that wait for readers before they are free.
    limbo_bytes,
    /// Size of a segment.
    segment_bytes,
    /// Segments in all, those that the index took included.
    segments,
    /// Segments that sessions append to.
    segments_open,
    /// Segments that are complete.
    segments_sealed,
}

impl Stats {
    /// Where the budget is, by name, in bytes. The lines always sum to `memory_bytes`.
    pub fn ledger(&self) -> Vec<(&'static str, u64)> {
        let lines = [
            ("header", 0),
            ("counters", 0),
            ("segment_table", self.segments * SEGMENT_LINE_BYTES),
            ("index", self.index_bytes),
            ("ghosts", 0),
            ("live", self.live_bytes),
            ("dead", self.dead_bytes),
            ("expired", 0),
            ("open", 0),
            ("free", self.free_bytes),
            ("limbo", self.limbo_bytes),
            ("large", 0),
        ];
        let mut left = self.memory_bytes;
        let mut ledger = Vec::with_capacity(lines.len() + 1);
        for (name, bytes) in lines {
            // Figures may be a moment apart: what two lines claim counts in the first.
            let bytes = left.min(bytes);
            left -= bytes;
            ledger.push((name, bytes));
        }
        ledger.push(("unused", left));
        ledger
    }

    /// Adds up the counters of all sessions, and describes the memory.
    pub(crate) fn collect(
        arena: &Arena,
        geometry: &Geometry,
        usage: &Usage,
        buckets: u64,
        index_chunks: u64,
    ) -> Self {
        let mut sums = [0_u64; COUNTERS];
        for session in 0..geometry.sessions_max {
            let block = Counters::of_session(geometry, session);
            for (at, sum) in sums.iter_mut().enumerate() {
                // ORDERING: Relaxed, as in `add`.
                let count = arena.word(block.at + at as u64 * 8).load(Ordering::Relaxed);
                *sum = sum.wrapping_add(count);
            }
        }
        let sum = |counter: Figure| sums[counter as usize];
        Self {
            items: sum(Figure::Inserted).saturating_sub(sum(Figure::Removed)),
            get_hits: sum(Figure::GetHits),
            get_misses: sum(Figure::GetMisses),
            get_expired: sum(Figure::GetExpired),
            get_flushed: sum(Figure::GetFlushed),
            stored: sum(Figure::Stored),
            not_stored: sum(Figure::NotStored),
            counter_hits: sum(Figure::CounterHits),
            counter_misses: sum(Figure::CounterMisses),
            touch_hits: sum(Figure::TouchHits),
            touch_misses: sum(Figure::TouchMisses),
            delete_hits: sum(Figure::DeleteHits),
            delete_misses: sum(Figure::DeleteMisses),
            cas_mismatches: sum(Figure::CasMismatches),
            flushes: sum(Figure::Flushes),
            no_space: sum(Figure::NoSpace),
            evicted: sum(Figure::Evicted),
            segments_evicted: sum(Figure::SegmentsEvicted),
            buckets,
            buckets_split: sum(Figure::BucketsSplit),
            memory_bytes: geometry.memory_bytes,
            index_bytes: index_chunks * geometry.segment_bytes,
            live_bytes: usage.live_bytes,
            dead_bytes: usage.dead_bytes,
            free_bytes: usage.free * geometry.segment_bytes,
            limbo_bytes: usage.limbo * geometry.segment_bytes,
            segment_bytes: geometry.segment_bytes,
            segments: u64::from(geometry.segments),
            segments_open: usage.open,
            segments_sealed: usage.sealed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;
    use crate::engine::config::Config;
    use crate::engine::{Cache, Entry, Mode};

    fn sum(stats: &Stats) -> u64 {
        stats.ledger().iter().map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn the_ledger_sums_to_the_budget_at_every_stage() {
        let memory_bytes = 2_922_722;
        let cache = Cache::new(Config::new(memory_bytes)).expect("cache");
        let mut session = cache.session().expect("session");
        assert_eq!(sum(&cache.stats()), memory_bytes);
        for number in 0..40_000_u64 {
            let mut guard = session.pin(0);
            let key = number.to_le_bytes();
            let key = guard.key(&key).expect("key");
            let _ = guard.store(&key, Mode::Set, &Entry::of(&[7; 100]));
            if number.is_multiple_of(1000) {
                assert_eq!(sum(&cache.stats()), memory_bytes, "after {number}");
            }
        }
    }

    #[test]
    fn the_ledger_sums_to_the_budget_whatever_the_figures_say() {
        let stats = Stats {
            memory_bytes: 1000,
            index_bytes: 600,
            live_bytes: 600,
            free_bytes: 600,
            ..Stats::default()
        };
        assert_eq!(sum(&stats), 1000);
    }
}
