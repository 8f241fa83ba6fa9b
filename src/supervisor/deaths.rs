//! What a death of the worker process leads to: the next one at once, later, cold, or none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deaths further apart than this have nothing to do with each other.
const WINDOW: Duration = Duration::from_secs(60);

/// How long the second death within the window delays the next start; each further one doubles it.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// How many deaths within a minute lead to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From so many on, the contents are given up: they may be what kills.
    pub(crate) cold_from: usize,
    /// So many are enough: whatever it is, another start does not help.
    pub(crate) end_from: usize,
    /// How long a start is delayed at most.
    pub(crate) delay_max: Duration,
}

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start another worker process.
    Start {
        /// How long from now.
        after: Duration,
        /// Whether without the contents.
        cold: bool,
    },
    /// End, and say why.
    GiveUp,
}

/// The deaths of the last minute.
#[derive(Debug)]
pub(super) struct Deaths {
    pub(super) limits: Limits,
    /// LIMIT: within a minute there cannot be many, since each has its process.
    times: VecDeque<Instant>,
}

impl Deaths {
    pub(super) fn new(limits: Limits) -> Self {
        let times = VecDeque::new();
        Self { limits, times }
    }

    /// Notes a death, and says what it leads to.
    pub(super) fn note(&mut self, now: Instant) -> Next {
        while (self.times.front()).is_some_and(|&then| now.duration_since(then) > WINDOW) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        let deaths = self.times.len();
        if deaths >= self.limits.end_from {
            return Next::GiveUp;
        }
        let after = match deaths as u32 {
            0 | 1 => Duration::ZERO,
            // LIMIT: ten times doubled, it is above whatever makes sense.
            deaths => DELAY_FIRST * 2u32.pow((deaths - 2).min(10)),
        };
        Next::Start {
            after: after.min(self.limits.delay_max),
            cold: deaths >= self.limits.cold_from,
        }
    }

    /// How many there were within the last minute, as of the last one.
    pub(super) fn count(&self) -> usize {
        self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        cold_from: 3,
        end_from: 7,
        delay_max: Duration::from_secs(1),
    };

    #[test]
    fn deaths_in_a_row_are_answered_later_and_later_then_cold_then_not_at_all() {
        let (mut deaths, now) = (Deaths::new(LIMITS), Instant::now());
        let answers: Vec<_> = (0..7)
            .map(|second| deaths.note(now + Duration::from_secs(second)))
            .collect();
        let start = |ms, cold| Next::Start {
            after: Duration::from_millis(ms),
            cold,
        };
        let expected = [
            start(0, false),
            start(100, false),
            start(200, true),
            start(400, true),
            start(800, true),
            start(1000, true),
            Next::GiveUp,
        ];
        assert_eq!(answers, expected);
    }

    #[test]
    fn deaths_that_are_far_apart_are_each_the_first() {
        let (mut deaths, now) = (Deaths::new(LIMITS), Instant::now());
        for hour in 0..100 {
            let next = deaths.note(now + Duration::from_secs(3600 * hour));
            let at_once = Next::Start {
                after: Duration::ZERO,
                cold: false,
            };
            assert_eq!(next, at_once);
        }
    }

    #[test]
    fn deaths_belong_together_for_a_minute() {
        for (apart, expected) in [(60, 2), (61, 1)] {
            let (mut deaths, now) = (Deaths::new(LIMITS), Instant::now());
            let _ = deaths.note(now);
            let _ = deaths.note(now + Duration::from_secs(apart));
            assert_eq!(deaths.count(), expected, "{apart} s");
        }
    }
}
