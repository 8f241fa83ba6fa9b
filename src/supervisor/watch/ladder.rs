//! What is done about a thread that does not go on, step by step, and each step once:
//!
//! ```text
//! --stall-warn: say so, and have new connections go to other workers
//!     the same again: save the evidence
//!         --stall-kill, where that was given and it is a hang: save it, and end the process
//! ```

use std::time::Duration;

/// A hang is one in so many looks in a row before a process is ended for it.
const HANG_LOOKS: u32 = 2;

/// LIMIT: lines in the log about one thread: one in this time; the journal has all.
const WARNS_EVERY: Duration = Duration::from_secs(10);

/// How long a thread may not go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallLimits {
    /// With work to do, before that is said.
    pub(crate) warn: Duration,
    /// Before its process is ended; `None`: that never happens.
    pub(crate) kill: Option<Duration>,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is said in the journal, and in the log too unless it was just now.
    Name { in_log: bool },
    /// New connections go to others.
    Steer,
    /// The evidence is saved.
    Capture,
    /// The process is ended.
    Kill,
    /// It goes on: new connections may come again.
    Recover,
}

/// How far up a thread has come.
#[derive(Debug, Default)]
pub(super) struct Climb {
    is_named: bool,
    is_captured: bool,
    is_killed: bool,
    /// Looks in a row at which it was a hang.
    hang_looks: u32,
    /// When it was in the log last, by the monotonic clock.
    logged_at: Option<Duration>,
}

impl Climb {
    /// Whether the thread was said not to go on, and has not since.
    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    /// The evidence has not been saved: that is still due.
    pub(super) fn capture_later(&mut self) {
        self.is_captured = false;
    }

    /// The steps that are due for a thread that is overdue by so much.
    pub(super) fn steps(
        &mut self,
        limits: StallLimits,
        now: Duration,
        overdue: Duration,
        is_hang: bool,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if overdue < limits.warn {
            if std::mem::take(&mut self.is_named) {
                steps.push(Step::Recover);
            }
            (self.is_captured, self.hang_looks) = (false, 0);
            return steps;
        }
        if !std::mem::replace(&mut self.is_named, true) {
            let was_just_now = |at| now.saturating_sub(at) < WARNS_EVERY;
            let in_log = !self.logged_at.is_some_and(was_just_now);
            if in_log {
                self.logged_at = Some(now);
            }
            steps.extend([Step::Name { in_log }, Step::Steer]);
        }
        self.hang_looks = match is_hang {
            true => self.hang_looks.saturating_add(1),
            false => 0,
        };
        let is_late = limits.kill.is_some_and(|kill| overdue >= kill);
        let kills = is_late && self.hang_looks >= HANG_LOOKS;
        if (kills || overdue >= limits.warn * 2) && !std::mem::replace(&mut self.is_captured, true)
        {
            steps.push(Step::Capture);
        }
        if kills && !std::mem::replace(&mut self.is_killed, true) {
            steps.push(Step::Kill);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: StallLimits = StallLimits {
        warn: SECOND,
        kill: Some(Duration::from_secs(5)),
    };

    fn climb(limits: StallLimits, is_hang: bool) -> Vec<(u64, Step)> {
        let mut climb = Climb::default();
        let mut all = Vec::new();
        for half in 0..14 {
            let at = SECOND / 2 * half;
            let steps = climb.steps(limits, 100 * SECOND + at, at, is_hang);
            all.extend(steps.into_iter().map(|step| (at.as_millis() as u64, step)));
        }
        all
    }

    #[test]
    fn each_step_has_its_time_and_is_taken_once() {
        let until_capture = [
            (1000, Step::Name { in_log: true }),
            (1000, Step::Steer),
            (2000, Step::Capture),
        ];
        let killed = [&until_capture[..], &[(5000, Step::Kill)]].concat();
        assert_eq!(climb(LIMITS, true), killed);
        assert_eq!(climb(LIMITS, false), until_capture, "slowness is no reason");
        let never = StallLimits {
            kill: None,
            ..LIMITS
        };
        assert_eq!(climb(never, true), until_capture);
        let at_once = StallLimits {
            kill: Some(SECOND),
            ..LIMITS
        };
        // Not at the first look.
        let both = [(1500, Step::Capture), (1500, Step::Kill)];
        assert_eq!(climb(at_once, true), [&until_capture[..2], &both].concat());
    }

    #[test]
    fn evidence_that_was_not_saved_is_due_again_for_as_long_as_it_hangs() {
        let mut climb = Climb::default();
        let mut at = |second: u32| {
            let steps = climb.steps(LIMITS, SECOND * second, SECOND * second, false);
            climb.capture_later();
            steps
        };
        assert_eq!(at(1), [Step::Name { in_log: true }, Step::Steer]);
        assert_eq!(at(2), [Step::Capture]);
        assert_eq!(at(3), [Step::Capture]);
        assert_eq!(
            climb.steps(LIMITS, SECOND * 4, SECOND * 4, false),
            [Step::Capture]
        );
        assert_eq!(climb.steps(LIMITS, SECOND * 5, SECOND * 5, false), []);
    }

    #[test]
    fn one_look_that_is_like_a_hang_ends_nobody() {
        let mut climb = Climb::default();
        let mut at =
            |second: u32, is_hang| climb.steps(LIMITS, SECOND * second, SECOND * second, is_hang);
        for second in 1..20 {
            let steps = at(second, second % 2 == 0);
            assert!(!steps.contains(&Step::Kill), "{second}");
        }
        assert_eq!(at(20, true), []);
        assert_eq!(at(21, true), [Step::Kill]);
    }

    #[test]
    fn who_goes_on_is_let_be_and_who_hangs_again_is_not_in_the_log_each_time() {
        let mut climb = Climb::default();
        let mut at = |second: u32, overdue: u32| {
            climb.steps(LIMITS, SECOND * second, SECOND * overdue, false)
        };
        assert_eq!(at(1, 1), [Step::Name { in_log: true }, Step::Steer]);
        assert_eq!(at(2, 0), [Step::Recover]);
        assert_eq!(at(3, 0), []);
        assert_eq!(at(5, 1), [Step::Name { in_log: false }, Step::Steer]);
        assert_eq!(at(6, 0), [Step::Recover]);
        assert_eq!(at(11, 1), [Step::Name { in_log: true }, Step::Steer]);
    }
}
