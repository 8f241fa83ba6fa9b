//! Who has not gone on for how long, as far as the supervisor was there to see it.
//!
//! Time in which the supervisor itself did not run says nothing about anybody: its process group was
//! stopped, or others had the cores. So what counts is not what a clock says, but looks: from one to
//! the next, twice the usual interval at most, and nothing if it was absent ([`Attention`]). A machine that is suspended stops the
//! monotonic clock anyway.
//!
//! And a thread that does nothing is not stuck if there is nothing for it to do ([`patience`]).

use std::time::Duration;

use crate::blackbox::{Kind, Phase, Pulse};

/// How long the maintenance thread sleeps at most.
const UPKEEP_SLEEPS: Duration = Duration::from_millis(250);

/// How long a worker that has connections sleeps at most: it looks at their deadlines.
const WORKER_SLEEPS: Duration = Duration::from_secs(1);

/// Whoever did not look for so long was not late, but absent: where many want the cores, everybody is late.
const ABSENT_AFTER: Duration = Duration::from_secs(1);

/// How much of the time passes under the supervisor's eyes.
#[derive(Debug)]
pub(super) struct Attention {
    pub(super) interval: Duration,
    last: Option<Duration>,
}

impl Attention {
    /// For somebody who means to look at this interval.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
        }
    }

    /// Looks now, by the monotonic clock; gives how much of the time since the last look counts.
    pub(super) fn look(&mut self, now: Duration) -> Duration {
        let last = self.last.replace(now);
        let elapsed = last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        match elapsed < ABSENT_AFTER {
            true => elapsed.min(self.interval * 2),
            false => Duration::ZERO,
        }
    }
}

/// How long a thread has not gone on.
#[derive(Debug)]
pub(super) struct Stillness {
    pulse: Pulse,
    patience: Option<Duration>,
    still: Duration,
}

impl Stillness {
    pub(super) fn new(kind: Kind, pulse: Pulse) -> Self {
        Self {
            patience: patience(kind, &pulse),
            pulse,
            still: Duration::ZERO,
        }
    }

    /// Takes what is seen after so much time that counts.
    pub(super) fn look(&mut self, kind: Kind, pulse: Pulse, attended: Duration) {
        let patience = patience(kind, &pulse);
        let goes_on = pulse.has_moved_since(&self.pulse) || patience != self.patience;
        self.still = match (goes_on, patience) {
            (false, Some(_)) => self.still + attended,
            _ => Duration::ZERO,
        };
        (self.pulse, self.patience) = (pulse, patience);
    }

    /// Whether it has gone on since it was looked at.
    pub(super) fn has_moved(&self, pulse: &Pulse) -> bool {
        pulse.has_moved_since(&self.pulse)
    }

    /// Nothing that was before counts.
    pub(super) fn begin_anew(&mut self) {
        self.still = Duration::ZERO;
    }

    /// How long it has not gone on although it had reason to.
    pub(super) fn overdue(&self) -> Duration {
        self.still.saturating_sub(self.patience.unwrap_or_default())
    }
}

/// How long a thread may stay as it is; `None`: for ever.
fn patience(kind: Kind, pulse: &Pulse) -> Option<Duration> {
    match (pulse.phase?, kind) {
        (Phase::Starting | Phase::Ended, _) | (Phase::Sleeping, Kind::Acceptor) => None,
        (Phase::Sleeping, Kind::Upkeep) => Some(UPKEEP_SLEEPS),
        (Phase::Sleeping, Kind::Worker) if pulse.untaken > 0 => Some(Duration::ZERO),
        (Phase::Sleeping, Kind::Worker) => (pulse.connections > 0).then_some(WORKER_SLEEPS),
        _ => Some(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pulse(phase: Phase, turns: u64) -> Pulse {
        Pulse {
            phase: Some(phase),
            since_ns: 5,
            turns,
            announced: [0; 2],
            connections: 0,
            untaken: 0,
        }
    }

    #[test]
    fn who_is_late_counts_for_no_more_than_two_looks_and_who_is_absent_for_none() {
        let mut attention = Attention::new(200 * MS);
        let looks = [1000, 1200, 1500, 2499, 3499, 61_500, 61_700].map(|at| at * MS);
        let counted = looks.map(|now| attention.look(now));
        assert_eq!(counted, [0, 200, 300, 400, 0, 0, 200].map(|at| at * MS));
    }

    #[test]
    fn who_has_work_and_does_not_go_on_is_overdue_until_it_does() {
        let busy = pulse(Phase::Executing, 1);
        let mut stillness = Stillness::new(Kind::Worker, busy);
        for _ in 0..3 {
            stillness.look(Kind::Worker, busy, 200 * MS);
        }
        assert_eq!(stillness.overdue(), 600 * MS);
        for moved in [
            pulse(Phase::Executing, 2),
            pulse(Phase::Writing, 1),
            Pulse {
                since_ns: 6,
                ..busy
            },
            Pulse {
                announced: [1, 0],
                ..busy
            },
        ] {
            let mut stillness = Stillness::new(Kind::Worker, busy);
            stillness.look(Kind::Worker, busy, 200 * MS);
            stillness.look(Kind::Worker, moved, 200 * MS);
            assert_eq!(stillness.overdue(), Duration::ZERO, "{moved:?}");
        }
    }

    #[test]
    fn who_sleeps_is_overdue_only_where_something_waits_for_it() {
        let asleep = pulse(Phase::Sleeping, 1);
        let after_an_hour = |kind, pulse| {
            let mut stillness = Stillness::new(kind, asleep);
            stillness.look(kind, asleep, 3_600_000 * MS);
            // What happens now begins now.
            stillness.look(kind, pulse, 200 * MS);
            let first = stillness.overdue();
            stillness.look(kind, pulse, 1500 * MS);
            (first, stillness.overdue())
        };
        let untaken = Pulse {
            untaken: 1,
            ..asleep
        };
        let has_some = Pulse {
            connections: 1,
            ..asleep
        };
        assert_eq!(
            after_an_hour(Kind::Worker, asleep),
            (Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(
            after_an_hour(Kind::Acceptor, asleep),
            (Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(
            after_an_hour(Kind::Worker, untaken),
            (Duration::ZERO, 1500 * MS)
        );
        assert_eq!(
            after_an_hour(Kind::Worker, has_some),
            (Duration::ZERO, 500 * MS)
        );
        let mut upkeep = Stillness::new(Kind::Upkeep, asleep);
        upkeep.look(Kind::Upkeep, asleep, 400 * MS);
        assert_eq!(upkeep.overdue(), 150 * MS);
    }
}
