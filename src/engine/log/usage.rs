//! What the segments are used for, counted one by one, and whether the lists agree with that.

use crate::arena::Arena;
use crate::engine::config::{Geometry, SEGMENT_LINE_BYTES};
use crate::engine::log::Segments;
use crate::engine::log::segment::{Segment, State};

/// How the segments are used at the moment; counts in segments, sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) free: u64,
    pub(crate) open: u64,
    pub(crate) sealed: u64,
    pub(crate) limbo: u64,
    pub(crate) withdrawn: u64,
    /// Parts of extents that large values use, and that are free.
    pub(crate) used_parts: u64,
    pub(crate) free_parts: u64,
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

impl Usage {
    /// Counts how the segments of an arena are used, as its table tells: a memory that nobody vouches
    /// for has figures, too. Not one instant: others go on meanwhile.
    pub(crate) fn of(arena: &Arena, geometry: &Geometry, now_ms: u64) -> Self {
        let mut usage = Self::default();
        for id in 0..geometry.segments {
            let line = geometry.segment_table_at + u64::from(id) * SEGMENT_LINE_BYTES;
            let segment = Segment::at(arena, line);
            let (state, live_bytes) = segment.state_found();
            match state {
                None => {}
                Some(State::Free) => usage.free += 1,
                Some(State::Retired) => usage.limbo += 1,
                Some(State::Withdrawn) => usage.withdrawn += 1,
                Some(State::Extent) => {
                    let all = u64::from(geometry.parts_per_segment());
                    let used = u64::from(segment.used_parts().count_ones()).min(all);
                    usage.used_parts += used;
                    usage.free_parts += all - used;
                }
                Some(state @ (State::Open | State::Sealed | State::Claimed)) => {
                    usage.add_held(geometry, segment, (state, live_bytes), now_ms);
                }
            }
        }
        usage
    }

    fn add_held(
        &mut self,
        geometry: &Geometry,
        segment: Segment<'_>,
        (state, live_bytes): (State, u64),
        now_ms: u64,
    ) {
        let log = segment.label().log as usize;
        let live_bytes = live_bytes.min(geometry.segment_bytes);
        let committed = segment.committed().min(geometry.segment_bytes);
        let committed = committed.max(live_bytes);
        let free_bytes = geometry.segment_bytes - committed;
        self.held[log] += 1;
        let opened_ms = segment.opened_ms();
        let oldest_ms = self.oldest_ms[log].map_or(opened_ms, |ms| ms.min(opened_ms));
        self.oldest_ms[log] = Some(oldest_ms);
        self.dead_bytes += committed - live_bytes;
        match segment.lifetime().last_ms <= now_ms {
            true => self.expired_bytes += live_bytes,
            false => self.live_bytes += live_bytes,
        }
        match state {
            State::Open => {
                self.open += 1;
                self.open_bytes += free_bytes;
            }
            _ => {
                self.sealed += 1;
                self.tail_bytes += free_bytes;
            }
        }
    }
}

impl Segments {
    /// Counts how the segments are used. Not one instant: others go on meanwhile.
    pub(crate) fn usage(&self, now_ms: u64) -> Usage {
        Usage::of(&self.arena, &self.geometry, now_ms)
    }

    /// Checks that the lists agree with the table, and with the bytes of all items that were ever removed; for
    /// [`verify`](crate::engine::verify).
    pub(crate) fn verify_lists(&self, removed_bytes: u64) -> Result<(), String> {
        let usage = self.usage(0);
        let lists = self.lists.lock();
        let dead_bytes = removed_bytes.wrapping_sub(lists.retired_bytes);
        if dead_bytes != usage.dead_bytes {
            return Err(format!(
                "{dead_bytes} bytes are counted as dead, and {} are",
                usage.dead_bytes
            ));
        }
        let told = [
            ("free", lists.free.len() as u64, usage.free),
            ("retired", u64::from(lists.limbo), usage.limbo),
            ("withdrawn", u64::from(lists.withdrawn), usage.withdrawn),
            ("small's", u64::from(lists.held[0]), usage.held[0]),
            ("main's", u64::from(lists.held[1]), usage.held[1]),
            ("half received", lists.drafted, 0),
            ("leaving", lists.leaving, 0),
        ];
        for (name, listed, counted) in told {
            if listed != counted {
                return Err(format!(
                    "{listed} segments are listed as {name}, and {counted} are"
                ));
            }
        }
        self.verify_shared(&lists)?;
        let is_queued = |id: u32| lists.queues.contains(id);
        let sealed = (0..self.geometry.segments)
            .filter(|&id| self.segment(id).state().0 == State::Sealed)
            .find(|&id| !is_queued(id));
        sealed.map_or(Ok(()), |id| {
            Err(format!("segment {id} is sealed and in no queue"))
        })
    }
}
