//! The server's time: wall-clock milliseconds that never step back.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The wall clock read once at start, carried on by the monotonic clock.
///
/// All workers share one anchor, so that they agree on what has expired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor_ns: u64,
    anchor_wall_ms: u64,
}

/// One reading, used for everything a turn does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Now {
    /// Milliseconds since the clock was anchored.
    pub(crate) uptime_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) wall_ms: u64,
    /// Nanoseconds of the monotonic clock, which all processes of the machine share.
    pub(crate) monotonic_ns: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            anchor_ns: monotonic_ns(),
            anchor_wall_ms: whole_ms(wall),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let monotonic_ns = monotonic_ns();
        let uptime_ms = monotonic_ns.saturating_sub(self.anchor_ns) / 1_000_000;
        Now {
            uptime_ms,
            wall_ms: self.anchor_wall_ms + uptime_ms,
            monotonic_ns,
        }
    }
}

#[inline]
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000) + time.tv_nsec as u64
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
