//! A look at a memory that changes nothing: whether this program could go on in it, and with how much.
//!
//! Its owner may go on meanwhile, so what is read is of no one instant. Only the header, the sessions'
//! counts and the segment table are looked at: how much of it could be proved, recovery alone tells.

use crate::arena::{Arena, BorrowedFd};
use crate::engine::cache::Cache;
use crate::engine::config::{Config, Geometry};
use crate::engine::header;
use crate::engine::log::segment::State;
use crate::engine::recover::receipt::LastOwner;
use crate::engine::recover::refusal::RecoverError;
use crate::engine::recover::{accepted, last_owner, last_used_ms, segments};
use crate::engine::stats::{Counters, Figure};

/// What a look at a memory tells that this program could recover from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examination {
    /// What became of the cache that has it, or had it.
    pub owner: LastOwner,
    /// When it was last in use, in milliseconds of the clock that its sessions were given; `None`: the
    /// memory does not tell.
    pub last_used_ms: Option<u64>,
    /// [When the monotonic clock was 0](Cache::clock_origin_ms) by that clock.
    pub clock_origin_ms: Option<u64>,
    /// About how many items recovery would keep, those that have expired or were flushed included.
    pub items: u64,
    /// About how many bytes they have in the log.
    pub item_bytes: u64,
    /// About how many bytes the extents of large values have.
    pub large_bytes: u64,
}

impl Cache {
    /// Whether [`Cache::recover`] would accept this memory with this configuration, and about what it
    /// would keep. Changes nothing, and the memory's owner may go on.
    ///
    /// # Errors
    ///
    /// What recovery would refuse it for; but memory that is in use is told in the result.
    pub fn examine(memory: BorrowedFd<'_>, config: &Config) -> Result<Examination, RecoverError> {
        let geometry = Geometry::for_config(config)?;
        let system = |reason| RecoverError::Memory { reason };
        let arena = Arena::look_at(memory, header::BYTES_MIN).map_err(system)?;
        let (_, counts) = accepted(&arena, &geometry, config)?;
        let is_owned = arena.is_owned().map_err(system)?;
        let (mut withdrawn, mut item_bytes, mut used_parts) = (0, 0, 0);
        for segment in segments(&arena, &geometry) {
            let remains = segment.remains();
            match remains.state {
                Some(State::Withdrawn) => withdrawn += 1,
                Some(State::Extent) => used_parts += u64::from(segment.used_parts().count_ones()),
                _ if remains.holds_items() => {
                    item_bytes += remains.live_bytes.min(geometry.segment_bytes);
                }
                _ => {}
            }
        }
        counts.left_of(withdrawn)?;
        let counters = (0..geometry.sessions_max).map(|id| Counters::of_session(&geometry, id));
        let items = counters.fold(0_u64, |items, counters| {
            let inserted = counters.get(&arena, Figure::Inserted);
            let removed = counters.get(&arena, Figure::Removed);
            items.wrapping_add(inserted).wrapping_sub(removed)
        });
        Ok(Examination {
            owner: match is_owned {
                true => LastOwner::AtWork,
                false => last_owner(&arena),
            },
            last_used_ms: last_used_ms(&arena, &geometry),
            clock_origin_ms: header::clock_origin_ms(&arena),
            // A removal may be counted before the insertion; and who knows what was counted.
            items: u64::try_from(items.cast_signed()).unwrap_or(0),
            item_bytes,
            large_bytes: used_parts * geometry.part_bytes,
        })
    }
}
