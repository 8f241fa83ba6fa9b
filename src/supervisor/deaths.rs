//! What a death of the worker process leads to: the next one at once, later, cold, or none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Deaths further apart than this have nothing to do with each other.
const WINDOW: Duration = Duration::from_secs(60);

/// From so many deaths within the window on, the contents are given up: they may be what kills.
const DEATHS_UNTIL_COLD: usize = 3;

/// So many deaths within the window are enough: whatever it is, another start does not help.
const DEATHS_UNTIL_GIVING_UP: usize = 7;

/// How long the second death within the window delays the next start; each further one doubles it.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// LIMIT: how long a start is delayed at most.
const DELAY_MAX: Duration = Duration::from_secs(5);

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
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Notes a death, and says what it leads to.
    pub(super) fn note(&mut self, now: Instant) -> Next {
        while (self.0.front()).is_some_and(|&then| now.duration_since(then) > WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let deaths = self.0.len();
        if deaths >= DEATHS_UNTIL_GIVING_UP {
            return Next::GiveUp;
        }
        let after = match deaths as u32 {
            0 | 1 => Duration::ZERO,
            deaths => (DELAY_FIRST * 2u32.pow(deaths - 2)).min(DELAY_MAX),
        };
        Next::Start {
            after,
            cold: deaths >= DEATHS_UNTIL_COLD,
        }
    }

    /// How many there were within the last minute, as of the last one.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_in_a_row_are_answered_later_and_later_then_cold_then_not_at_all() {
        let (mut deaths, now) = (Deaths::default(), Instant::now());
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
            start(1600, true),
            Next::GiveUp,
        ];
        assert_eq!(answers, expected);
    }

    #[test]
    fn deaths_that_are_far_apart_are_each_the_first() {
        let (mut deaths, now) = (Deaths::default(), Instant::now());
        for hour in 0..100 {
            let next = deaths.note(now + Duration::from_secs(3600 * hour));
            let at_once = Next::Start {
                after: Duration::ZERO,
                cold: false,
            };
            assert_eq!(next, at_once);
        }
    }
}
