//! The server's time: wall-clock milliseconds that never step back.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::engine::Cache;

const NS_PER_MS: u64 = 1_000_000;

/// The wall clock read once at start, carried on by the monotonic clock.
///
/// All workers share one anchor, so that they agree on what has expired. So do the processes that follow
/// each other on one memory: the cache keeps when the monotonic clock was 0, and a wall clock that is set
/// while nobody serves changes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    anchor_ns: u64,
    /// When the monotonic clock was 0, in milliseconds since the Unix epoch.
    origin_ms: u64,
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
    /// Goes on with the clock that a cache was used with, or starts one and has the cache keep it.
    pub(crate) fn of(cache: &Cache) -> Self {
        let anchor_ns = monotonic_ns();
        let origin_ms = cache.clock_origin_ms().unwrap_or_else(|| {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let origin_ms =
                whole_ms(wall.unwrap_or_default()).saturating_sub(anchor_ns / NS_PER_MS);
            cache.set_clock_origin_ms(origin_ms);
            origin_ms
        });
        Self {
            anchor_ns,
            origin_ms,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let monotonic_ns = monotonic_ns();
        let uptime_ms = monotonic_ns.saturating_sub(self.anchor_ns) / NS_PER_MS;
        Now {
            uptime_ms,
            wall_ms: self.origin_ms.saturating_add(monotonic_ns / NS_PER_MS),
            monotonic_ns,
        }
    }
}

#[inline]
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000) + time.tv_nsec as u64
}

/// The machine's monotonic clock in milliseconds, the same for all processes.
pub fn monotonic_ms() -> u64 {
    monotonic_ns() / NS_PER_MS
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Config;

    #[test]
    fn processes_that_follow_each_other_have_one_clock_whatever_the_wall_clock_says() {
        let cache = Cache::new(Config::new(4 << 20)).unwrap();
        let first = Clock::of(&cache);
        let origin_ms = cache.clock_origin_ms().unwrap();
        let next = Clock::of(&cache);
        assert_eq!(cache.clock_origin_ms(), Some(origin_ms));
        assert!(first.now().wall_ms <= next.now().wall_ms);
        // As far as the last process knew, the wall clock was an hour further.
        let hour_ms = 3_600_000;
        cache.set_clock_origin_ms(origin_ms + hour_ms);
        assert!(next.now().wall_ms + hour_ms <= Clock::of(&cache).now().wall_ms);
    }
}
