//! What a cache is built with, and the layout of the arena that follows from it.
//!
//! ```text
//!  0        header: identity, counts, versions          (1 page)
//!  4096     one counter block per session               (512 bytes each)
//!           segment table                               (64 bytes per segment)
//!           bucket range      reserved, used from below
//!           overflow range    reserved, used from below
//!           ghost range       reserved, used from below
//!           segments
//! ```
//!
//! The arena's address range is larger than its memory: the bucket, overflow and ghost ranges are
//! only reserved. They are used a *chunk* at a time, a chunk is as large as a segment, and each one
//! beyond the first of buckets and the first of overflow buckets is paid for with a segment that
//! leaves the pool and gives its pages back. So what is in use never exceeds `memory_bytes`.

use crate::engine::large;
use crate::pages::{HugePages, PagesError, Prefault};
use crate::shape;

/// Bytes of a segment's line in the segment table.
pub(crate) const SEGMENT_LINE_BYTES: u64 = 64;
/// Bytes of a session's counter block.
pub(crate) const COUNTERS_BYTES: u64 = 512;
/// Bytes of a set of ghosts.
pub(crate) const GHOST_SET_BYTES: u64 = shape::GHOST_WAYS * 4;
/// Classes of the time that items have to live.
pub(crate) const CLASSES_MAX: usize = 4;
/// Bytes of a bucket: its slots and the control word.
pub(crate) const BUCKET_BYTES: u64 = (shape::SLOTS + 1) * 8;
/// Bytes of an overflow bucket: the same.
pub(crate) const OVERFLOW_BYTES: u64 = (shape::OVERFLOW_SLOTS + 1) * 8;

const PAGE_BYTES: u64 = 4096;
const HEADER_BYTES: u64 = PAGE_BYTES;
/// LIMIT: a segment is at least this, so that what its walk and its lines cost stays small against
/// its contents.
const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// LIMIT: and at most this, so that few workers' open segments stay a small share of the memory.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// LIMIT: a segment is 1/1024 of the memory where the two bounds above allow it.
const SEGMENTS_WANTED: u64 = 1024;
/// LIMIT: below this, open segments and the reserve would be most of the cache.
const MEMORY_BYTES_MIN: u64 = 2 << 20;
/// LIMIT: offsets in index words have 40 bits and count 8 bytes.
const MEMORY_BYTES_MAX: u64 = 4 << 40;
/// LIMIT: keys of up to 64 KiB.
const KEY_BYTES_MAX: u32 = 1 << 16;
/// LIMIT: the share (1/N) of the segments that sessions keep free, so that one that needs a segment
/// rarely has to evict at once.
const RESERVE_SHARE: u64 = 256;
/// LIMIT: one more is kept free for so many sessions.
const SESSIONS_AHEAD: u64 = 8;
/// LIMIT: without one to move items to, eviction would let go of what was read.
const SEGMENTS_KEPT: u32 = 1;
/// LIMIT: sessions may hold at most this share (1/N) of the segments open, one for each log.
const OPEN_SHARE: u64 = 8;
/// LIMIT: where the segments that sessions may hold open for new items come to more than this share
/// (1/N) of a small memory, segments are half as large as they would be.
const OPEN_BYTES_SHARE: u64 = 20;
/// LIMIT: where a segment for each log and class would be more than this share (1/N) of all, items
/// are not told apart by the time that they have to live.
const CLASSES_SHARE: u64 = 8;
/// LIMIT: below this, a value may fill half a segment, and above an eighth.
const SMALL_SEGMENT_BYTES: u64 = 64 << 10;
/// LIMIT: what an item takes beside a key of half a segment and a value of the other half.
const INLINE_MARGIN_BYTES: u64 = 64;
/// LIMIT: parts of a segment that extents are made of. More waste less of the last one of a value,
/// and make more and smaller pieces of it.
const PARTS: u64 = 16;
/// LIMIT: the share (1/N) of the memory that one value may take.
const VALUE_SHARE: u64 = 4;
/// LIMIT: longer values are accepted only where that was asked for. A gibibyte is as much as is moved as one thing,
/// and a key and what tells of both go with a value.
const VALUE_BYTES_UNASKED_MAX: u64 = (1 << 30) - (128 << 10);
/// LIMIT: the share of sealed segments' bytes, in percent, that may be dead before they are cleaned.
const DEAD_PERCENT_MAX: u64 = 18;
/// LIMIT: the same above which one that is mostly dead is looked for before one is evicted.
const DEAD_PERCENT_SEARCHED: u64 = 2;

/// How a [`Cache`](crate::Cache) is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// All memory the cache may use, index included, in bytes: 2 MiB to 4 TiB.
    pub memory_bytes: u64,
    /// The longest key that is accepted, in bytes: 1 to 65,536. Default 250.
    pub key_bytes_max: u32,
    /// The longest value that is accepted, in bytes: up to a quarter of the memory, or less where a small
    /// memory is to have long keys. `None` (the default) is as long as can be, but 128 KiB less than
    /// 1 GiB at most: a server refuses a cache of longer values, since no frame carries them.
    pub value_bytes_max: Option<u64>,
    /// How many sessions may exist at a time. Default 16.
    pub sessions_max: u32,
    /// Seed of the key hash; `None` (the default) draws one at random.
    pub hash_seed: Option<u64>,
    /// The version that the first item gets, from 1 on; `None` (the default) draws one at random, so that those of
    /// a cache that was there before do not come again.
    pub first_version: Option<u64>,
    /// Whether items lie in huge pages. Default [`HugePages::Auto`].
    pub huge_pages: HugePages,
    /// When the memory's pages come into being. Default [`Prefault::OnFirstUse`].
    pub prefault: Prefault,
    /// Whether the cache knows when each item was last read. Default [`AccessTimes::Off`].
    pub access_times: AccessTimes,
}

/// Whether a cache knows when each item was last read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessTimes {
    /// It does not, and nothing is paid for it.
    #[default]
    Off,
    /// It does, to about a second: for 8 bytes of each item, and a store for each second in which
    /// an item is read.
    Kept,
}

impl Config {
    /// A cache of `memory_bytes` bytes with defaults for the rest.
    pub fn new(memory_bytes: u64) -> Self {
        Self {
            memory_bytes,
            key_bytes_max: 250,
            value_bytes_max: None,
            sessions_max: 16,
            hash_seed: None,
            first_version: None,
            huge_pages: HugePages::default(),
            prefault: Prefault::default(),
            access_times: AccessTimes::default(),
        }
    }
}

/// Why a [`Config`] cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `memory_bytes` is out of range.
    #[error(
        "a memory of {memory_bytes} bytes cannot work: it must be between {min} (2 MiB) and {max} (4 TiB)",
        min = MEMORY_BYTES_MIN,
        max = MEMORY_BYTES_MAX
    )]
    Memory {
        /// What was asked for.
        memory_bytes: u64,
    },
    /// `key_bytes_max` is out of range, or longer than a segment has room for.
    #[error(
        "keys of up to {key_bytes_max} bytes cannot work: the limit must be between 1 and {accepted}"
    )]
    KeyBytes {
        /// What was asked for.
        key_bytes_max: u32,
        /// The longest limit that this memory allows.
        accepted: u32,
    },
    /// `value_bytes_max` is out of range for this memory.
    #[error(
        "values of up to {value_bytes_max} bytes cannot work with {memory_bytes} bytes of memory: the limit must be between 1 and {accepted}, which is a quarter of it, or less where keys are long"
    )]
    ValueBytes {
        /// What was asked for.
        value_bytes_max: u64,
        /// What was asked for.
        memory_bytes: u64,
        /// The longest limit that this memory allows.
        accepted: u64,
    },
    /// `sessions_max` is out of range for this memory.
    #[error(
        "{sessions_max} sessions cannot work with {memory_bytes} bytes of memory: it allows between 1 and {accepted}"
    )]
    Sessions {
        /// What was asked for.
        sessions_max: u32,
        /// What was asked for.
        memory_bytes: u64,
        /// The most sessions that this memory allows.
        accepted: u64,
    },
    /// The system refused the shared memory.
    #[error("the system refused {memory_bytes} bytes of shared memory: {reason}")]
    System {
        /// What was asked for.
        memory_bytes: u64,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The pages that were asked for cannot be had.
    #[error(transparent)]
    Pages(#[from] PagesError),
}

/// Where everything lies in the arena. Offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) memory_bytes: u64,
    pub(crate) segment_bytes: u64,
    /// Segments in the table, before the index takes any.
    pub(crate) segments: u32,
    /// Free segments that new items leave for what eviction and cleaning move.
    pub(crate) segments_kept: u32,
    /// Free segments below which sessions evict ahead.
    pub(crate) segments_reserved: u32,
    /// Free segments below which maintenance does.
    pub(crate) segments_maintained: u32,
    pub(crate) sessions_max: u32,
    pub(crate) key_bytes_max: u32,
    pub(crate) buckets_per_chunk: u64,
    pub(crate) overflow_per_chunk: u64,
    /// Chunks that the bucket range may come to use.
    pub(crate) bucket_chunks_max: u64,
    /// Chunks that the overflow range may come to use.
    pub(crate) overflow_chunks_max: u64,
    /// Chunks that the ghost range may come to use; 0: there are no ghosts.
    pub(crate) ghost_chunks_max: u64,
    /// Classes of the time to live that items are told apart by.
    pub(crate) classes: usize,
    /// The share of dead bytes above which sealed segments are cleaned.
    pub(crate) dead_percent_max: u64,
    /// The share above which those that are mostly dead are cleaned before anything is evicted.
    pub(crate) dead_percent_searched: u64,
    /// What extents are made of: a share of a segment, a multiple of 8.
    pub(crate) part_bytes: u64,
    /// The longest value that lies in the log beside its key; a longer one has extents.
    pub(crate) inline_bytes_max: u64,
    /// The longest value.
    pub(crate) value_bytes_max: u64,
    pub(crate) access_times: AccessTimes,
    pub(crate) counters_at: u64,
    pub(crate) segment_table_at: u64,
    pub(crate) buckets_at: u64,
    pub(crate) overflow_at: u64,
    pub(crate) ghosts_at: u64,
    pub(crate) segments_at: u64,
    pub(crate) arena_bytes: u64,
}

impl Geometry {
    /// Checks a configuration and lays the arena out for it.
    pub(crate) fn for_config(config: &Config) -> Result<Self, ConfigError> {
        let memory_bytes = config.memory_bytes;
        if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&memory_bytes) {
            return Err(ConfigError::Memory { memory_bytes });
        }
        let wanted = memory_bytes / SEGMENTS_WANTED;
        let segment_bytes = if wanted <= SEGMENT_BYTES_MIN {
            // Many sessions would hold too much of a small memory open.
            let open_bytes = u64::from(config.sessions_max) * 2 * SEGMENT_BYTES_MIN;
            match open_bytes > memory_bytes / OPEN_BYTES_SHARE {
                true => SEGMENT_BYTES_MIN / 2,
                false => SEGMENT_BYTES_MIN,
            }
        } else {
            (1 << wanted.ilog2()).min(SEGMENT_BYTES_MAX)
        };
        // A key may fill half a segment: the other half is for a value worth having.
        let accepted = KEY_BYTES_MAX.min((segment_bytes / 2) as u32);
        if !(1..=accepted).contains(&config.key_bytes_max) {
            return Err(ConfigError::KeyBytes {
                key_bytes_max: config.key_bytes_max,
                accepted,
            });
        }
        // The item that describes a long value has to fit into a segment, with the longest key.
        let beside_bytes = u64::from(config.key_bytes_max) + INLINE_MARGIN_BYTES;
        let described = large::described_bytes_max(segment_bytes, PARTS, beside_bytes);
        let accepted = (memory_bytes / VALUE_SHARE).min(described);
        let unasked = accepted.min(VALUE_BYTES_UNASKED_MAX);
        let value_bytes_max = config.value_bytes_max.unwrap_or(unasked);
        if !(1..=accepted).contains(&value_bytes_max) {
            return Err(ConfigError::ValueBytes {
                value_bytes_max,
                memory_bytes,
                accepted,
            });
        }
        let accepted = memory_bytes / segment_bytes / OPEN_SHARE;
        if config.sessions_max == 0 || u64::from(config.sessions_max) > accepted {
            return Err(ConfigError::Sessions {
                sessions_max: config.sessions_max,
                memory_bytes,
                accepted,
            });
        }
        let fixed = HEADER_BYTES + u64::from(config.sessions_max) * COUNTERS_BYTES;
        let per_chunk = segment_bytes + SEGMENT_LINE_BYTES;
        // One page for each of the two regions that are rounded up to whole pages.
        let chunks = (memory_bytes - fixed - 2 * PAGE_BYTES) / per_chunk;
        let geometry = Self::new(
            segment_bytes,
            chunks,
            config.sessions_max,
            config.key_bytes_max,
        );
        debug_assert!(geometry.memory_bytes <= memory_bytes);
        Ok(Self {
            memory_bytes,
            value_bytes_max,
            // What is longer than the limit goes the way of large values, which refuses it.
            inline_bytes_max: geometry.inline_bytes_max.min(value_bytes_max),
            access_times: config.access_times,
            ..geometry
        })
    }

    /// Lays out `chunks` chunks of `segment_bytes`: one starts as buckets, one as overflow buckets,
    /// the others as segments.
    pub(crate) fn new(
        segment_bytes: u64,
        chunks: u64,
        sessions_max: u32,
        key_bytes_max: u32,
    ) -> Self {
        let bucket_chunks_max = (chunks * 2 / 5).max(1);
        let overflow_chunks_max = (chunks / 5).max(1);
        let ghost_chunks_max = chunks / 8;
        let segments = chunks - 2;
        let open_most = u64::from(sessions_max) * 2 * CLASSES_MAX as u64;
        let ahead = (segments / RESERVE_SHARE).max(1 + u64::from(sessions_max) / SESSIONS_AHEAD);
        let reserved = SEGMENTS_KEPT + ahead.clamp(1, 16) as u32;
        let has_classes = open_most <= segments / CLASSES_SHARE;
        let inline_bytes_max = match segment_bytes < SMALL_SEGMENT_BYTES {
            true => (segment_bytes / 2).saturating_sub(INLINE_MARGIN_BYTES),
            false => segment_bytes / 8,
        };
        let counters_at = HEADER_BYTES;
        let segment_table_at = counters_at + u64::from(sessions_max) * COUNTERS_BYTES;
        let table_end = segment_table_at + segments * SEGMENT_LINE_BYTES;
        let buckets_at = table_end.next_multiple_of(PAGE_BYTES);
        let overflow_at = buckets_at + bucket_chunks_max * segment_bytes;
        let ghosts_at = overflow_at + overflow_chunks_max * segment_bytes;
        let segments_at = ghosts_at + ghost_chunks_max * segment_bytes;
        let arena_bytes = segments_at + segments * segment_bytes;
        Self {
            memory_bytes: buckets_at + chunks * segment_bytes,
            segment_bytes,
            segments: segments as u32,
            segments_kept: SEGMENTS_KEPT,
            segments_reserved: reserved,
            segments_maintained: reserved + reserved / 4,
            classes: if has_classes { CLASSES_MAX } else { 1 },
            dead_percent_max: DEAD_PERCENT_MAX,
            dead_percent_searched: DEAD_PERCENT_SEARCHED,
            part_bytes: segment_bytes / PARTS,
            inline_bytes_max,
            value_bytes_max: segments * segment_bytes / VALUE_SHARE,
            access_times: AccessTimes::Off,
            sessions_max,
            key_bytes_max,
            buckets_per_chunk: segment_bytes / BUCKET_BYTES,
            overflow_per_chunk: segment_bytes / OVERFLOW_BYTES,
            bucket_chunks_max,
            overflow_chunks_max,
            ghost_chunks_max,
            counters_at,
            segment_table_at,
            buckets_at,
            overflow_at,
            ghosts_at,
            segments_at,
            arena_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, ConfigError, Geometry};

    fn geometry(memory_bytes: u64) -> Geometry {
        Geometry::for_config(&Config::new(memory_bytes)).expect("geometry")
    }

    #[test]
    fn what_can_be_in_use_never_exceeds_the_memory() {
        for memory_bytes in [2 << 20, 2_922_722, 17 << 20, 256 << 20, 1 << 30, 64 << 30] {
            let g = geometry(memory_bytes);
            let used = g.buckets_at + (u64::from(g.segments) + 2) * g.segment_bytes;
            assert!(used <= memory_bytes, "{used} of {memory_bytes}");
            assert!(
                memory_bytes - used < 2 * g.segment_bytes + (8 << 10),
                "{memory_bytes}"
            );
        }
    }

    #[test]
    fn segments_are_a_thousandth_of_the_memory_within_bounds() {
        assert_eq!(geometry(2 << 20).segment_bytes, 8 << 10);
        assert_eq!(geometry(12 << 20).segment_bytes, 16 << 10);
        assert_eq!(geometry(256 << 20).segment_bytes, 256 << 10);
        assert_eq!(geometry(300 << 20).segment_bytes, 256 << 10);
        assert_eq!(geometry(8 << 30).segment_bytes, 1 << 20);
    }

    #[test]
    fn values_that_are_longer_than_a_gibibyte_have_to_be_asked_for() {
        let longest = |memory_bytes, value_bytes_max| {
            let config = Config {
                value_bytes_max,
                ..Config::new(memory_bytes)
            };
            let geometry = Geometry::for_config(&config).expect("geometry");
            geometry.value_bytes_max
        };
        assert_eq!(longest(64 << 20, None), 16 << 20);
        assert_eq!(longest(64 << 30, None), (1 << 30) - (128 << 10));
        assert_eq!(longest(64 << 30, Some(16 << 30)), 16 << 30);
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_can() {
        let too_small = Geometry::for_config(&Config::new(1 << 20)).unwrap_err();
        assert!(too_small.to_string().contains("2 MiB"), "{too_small}");
        let mut config = Config::new(2 << 20);
        config.key_bytes_max = 0;
        assert!(matches!(
            Geometry::for_config(&config),
            Err(ConfigError::KeyBytes { accepted: 4096, .. })
        ));
        let mut config = Config::new(2 << 20);
        config.sessions_max = 1000;
        assert!(matches!(
            Geometry::for_config(&config),
            Err(ConfigError::Sessions { accepted: 32, .. })
        ));
    }
}
