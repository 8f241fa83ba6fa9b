//! The server's time: wall-clock milliseconds that never step back.

use std::time::{Duration, Instant, SystemTime};

/// The wall clock read once at start, carried on by the monotonic clock.
///
/// All workers share one anchor, so that they agree on what has expired.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor: Instant,
    anchor_wall_ms: u64,
}

/// One reading, used for everything a turn does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Now {
    /// Milliseconds since the clock was anchored.
    pub(crate) uptime_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) wall_ms: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            anchor: Instant::now(),
            anchor_wall_ms: whole_ms(wall),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let uptime_ms = whole_ms(self.anchor.elapsed());
        Now {
            uptime_ms,
            wall_ms: self.anchor_wall_ms + uptime_ms,
        }
    }
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
