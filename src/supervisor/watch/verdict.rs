//! Why a thread does not go on: two looks at it in, a verdict out. Nothing here looks by itself.
//!
//! | what is seen | verdict |
//! |---|---|
//! | the system has stopped it, or a debugger | stopped |
//! | it waits for a bucket's lock, and says so | whose lock that is |
//! | it is in a page fault, or comes from one to the next, and hardly runs | page-faulting |
//! | it runs at least half of the time, or has run longer than anything takes | spinning |
//! | it could run and does not, and its control group has used up its share | throttled |
//! | it could run and does not | starved |
//! | it waits in the kernel | blocked, in which system call |
//!
//! Only some of these are a hang ([`Verdict::is_hang`]): who is stopped, starved, throttled or waits
//! for a disk is slow, and will go on by itself once it can.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::thread::{Call, ThreadSample};
use super::throttle::Throttled;

/// Of the time between two looks, the share (1/N) that a control group has to have been throttled
/// for that to be the reason.
const THROTTLED_SHARE: u32 = 10;

/// Why a thread does not go on, or that it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It goes on, or has nothing to do.
    Healthy,
    /// It executes instructions of its program, and comes to no end.
    Spinning { ran_ms: u64, of_ms: u64 },
    /// The same in the kernel.
    SpinningInKernel {
        ran_ms: u64,
        of_ms: u64,
        call: String,
    },
    /// It waits in a system call.
    Blocked { call: String, waits_in: String },
    /// The system does not let it run, since somebody has stopped it.
    Stopped { by_debugger: bool },
    /// It could run, and others do.
    Starved {
        waited_ms: u64,
        ran_ms: u64,
        of_ms: u64,
    },
    /// It could run, and its control group has used up its share of the time.
    Throttled {
        times: u64,
        throttled_ms: u64,
        of_ms: u64,
    },
    /// It waits for pages.
    PageFaulting { major_faults: u64, of_ms: u64 },
    /// It waits for the lock of a bucket.
    WaitsForLock {
        bucket: u64,
        /// Who holds it, and what that thread does; `None`: nobody did at the last look.
        holder: Option<String>,
    },
    /// It goes on, but has been pinned all the time.
    HoldsBack { pinned_ms: u64, limbo_bytes: u64 },
    /// It has ended, and should not have.
    Gone,
    /// It has not been looked at for long enough, or the system does not tell.
    Unknown,
}

/// What is known of a thread that does not go on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'c> {
    /// It, when it began to look stuck, and now; `None`: it was gone.
    pub(super) first: Option<&'c ThreadSample>,
    pub(super) last: Option<&'c ThreadSample>,
    /// The time in between.
    pub(super) between: Duration,
    /// For how long its control group was throttled in that time.
    pub(super) throttled: Throttled,
    /// The bucket whose lock it waits for, and who holds that.
    pub(super) lock: Option<(u64, Option<&'c str>)>,
    /// Time of a core that nothing takes which comes to an end.
    pub(super) ample: Duration,
}

impl Case<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Verdict::Gone;
        };
        match last.state {
            'T' => return Verdict::Stopped { by_debugger: false },
            't' => return Verdict::Stopped { by_debugger: true },
            'Z' | 'X' => return Verdict::Gone,
            _ => {}
        }
        if let Some((bucket, holder)) = self.lock {
            let holder = holder.map(str::to_owned);
            return Verdict::WaitsForLock { bucket, holder };
        }
        let ran = last.ran.saturating_sub(first.ran);
        let waited = last.waited.saturating_sub(first.waited);
        let runs_little = self.between.is_zero() || ran * 2 < self.between;
        let faults = last.major_faults.saturating_sub(first.major_faults);
        let is_ready = last.state == 'R';
        let is_faulting = last.call == Call::Fault && !is_ready || faults > 0;
        if is_faulting && runs_little {
            return Verdict::PageFaulting {
                major_faults: faults,
                of_ms: whole_ms(self.between),
            };
        }
        if !runs_little || ran >= self.ample {
            return self.spinning(first, last, ran);
        }
        match is_ready {
            true => self.not_run(ran, waited),
            false => Verdict::Blocked {
                call: last.call.name(),
                waits_in: last.waits_in.clone(),
            },
        }
    }

    fn spinning(&self, first: &ThreadSample, last: &ThreadSample, ran: Duration) -> Verdict {
        let in_program = last.user.saturating_sub(first.user);
        let in_kernel = last.system.saturating_sub(first.system);
        let (ran_ms, of_ms) = (whole_ms(ran), whole_ms(self.between));
        match in_kernel > in_program {
            false => Verdict::Spinning { ran_ms, of_ms },
            true => Verdict::SpinningInKernel {
                ran_ms,
                of_ms,
                call: last.call.name(),
            },
        }
    }

    /// Why it does not run although it could.
    fn not_run(&self, ran: Duration, waited: Duration) -> Verdict {
        let of_ms = whole_ms(self.between);
        if self.between.is_zero() {
            return Verdict::Unknown;
        }
        if self.throttled.total * THROTTLED_SHARE >= self.between {
            return Verdict::Throttled {
                times: self.throttled.times,
                throttled_ms: whole_ms(self.throttled.total),
                of_ms,
            };
        }
        Verdict::Starved {
            waited_ms: whole_ms(waited),
            ran_ms: whole_ms(ran),
            of_ms,
        }
    }
}

impl Verdict {
    /// Whether somebody has to look after it.
    pub(crate) fn is_stuck(&self) -> bool {
        !matches!(self, Self::Healthy)
    }

    /// Whether it will not go on by itself: then it may be ended, if that was asked for. Who waits for
    /// a lock that somebody holds waits for what is the matter with that one.
    pub(super) fn is_hang(&self) -> bool {
        match self {
            Self::Spinning { .. }
            | Self::SpinningInKernel { .. }
            | Self::Blocked { .. }
            | Self::WaitsForLock { holder: None, .. }
            | Self::Gone => true,
            Self::Healthy
            | Self::Stopped { .. }
            | Self::Starved { .. }
            | Self::Throttled { .. }
            | Self::PageFaulting { .. }
            | Self::WaitsForLock {
                holder: Some(_), ..
            }
            | Self::HoldsBack { .. }
            | Self::Unknown => false,
        }
    }
}

impl fmt::Display for Verdict {
    /// As the second half of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("is healthy"),
            Self::Spinning { ran_ms, of_ms } => {
                write!(
                    f,
                    "is spinning in user code: it ran {ran_ms} of the last {of_ms} ms"
                )
            }
            Self::SpinningInKernel {
                ran_ms,
                of_ms,
                call,
            } => write!(
                f,
                "is spinning in the kernel (system call {call}): it ran {ran_ms} of the last {of_ms} ms"
            ),
            Self::Blocked { call, waits_in } => {
                write!(f, "is blocked in the system call {call}")?;
                match &waits_in[..] {
                    "" => Ok(()),
                    place => write!(f, " (in the kernel's {place})"),
                }
            }
            Self::Stopped { by_debugger: false } => f.write_str("is stopped by a signal"),
            Self::Stopped { by_debugger: true } => f.write_str("is stopped by a debugger"),
            Self::Starved {
                waited_ms,
                ran_ms,
                of_ms,
            } => write!(
                f,
                "is starved of CPU: it was ready to run for {waited_ms} of the last {of_ms} ms, and ran \
                 {ran_ms}"
            ),
            Self::Throttled {
                times,
                throttled_ms,
                of_ms,
            } => write!(
                f,
                "is throttled by its control group: {times} times, {throttled_ms} of the last {of_ms} ms"
            ),
            Self::PageFaulting {
                major_faults,
                of_ms,
            } => write!(
                f,
                "is page-faulting or swapping: {major_faults} pages had to be read in the last {of_ms} ms"
            ),
            Self::WaitsForLock { bucket, holder } => {
                write!(f, "is waiting for the lock of bucket {bucket}, which ")?;
                match holder {
                    Some(holder) => write!(f, "{holder}"),
                    None => f.write_str("nobody seems to hold"),
                }
            }
            Self::HoldsBack {
                pinned_ms,
                limbo_bytes,
            } => write!(
                f,
                "is holding back reclamation: it has been pinned for {pinned_ms} ms, and {limbo_bytes} \
                 bytes cannot be used again meanwhile"
            ),
            Self::Gone => f.write_str("has ended, and its process goes on without it"),
            Self::Unknown => f.write_str("does not go on, and why cannot be told yet"),
        }
    }
}

pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A second of a thread: state, call, and how much of it ran in user code, ran in the kernel, and
    /// waited for a core.
    struct Second {
        state: char,
        call: Call,
        spent: [u64; 3],
        faults: u64,
        throttled: u64,
    }

    const QUIET: Second = Second {
        state: 'S',
        call: Call::Number(libc::SYS_write as u64),
        spent: [0; 3],
        faults: 0,
        throttled: 0,
    };

    impl Second {
        fn verdict_with(&self, lock: Option<(u64, Option<&str>)>) -> Verdict {
            let sample = |since: [u64; 3], faults| ThreadSample {
                state: self.state,
                user: ms(700 + since[0]),
                system: ms(90 + since[1]),
                ran: ms(790 + since[0] + since[1]),
                waited: ms(33 + since[2]),
                major_faults: 4 + faults,
                call: self.call,
                waits_in: "pipe_write".to_owned(),
            };
            let (first, last) = (sample([0; 3], 0), sample(self.spent, self.faults));
            let case = Case {
                first: Some(&first),
                last: Some(&last),
                between: ms(1000),
                throttled: Throttled {
                    times: self.throttled / 50,
                    total: ms(self.throttled),
                },
                lock,
                ample: ms(1000),
            };
            case.verdict()
        }

        fn verdict(&self) -> Verdict {
            self.verdict_with(None)
        }
    }

    const READY: Second = Second {
        state: 'R',
        call: Call::None,
        ..QUIET
    };

    #[test]
    fn who_runs_and_comes_to_no_end_is_spinning() {
        let spins = Second {
            spent: [990, 0, 10],
            ..READY
        };
        let expected = Verdict::Spinning {
            ran_ms: 990,
            of_ms: 1000,
        };
        assert_eq!(spins.verdict(), expected);
        // Also where it shares its core with another.
        let shares = Second {
            spent: [510, 0, 490],
            ..READY
        };
        assert!(matches!(shares.verdict(), Verdict::Spinning { .. }));
        let in_kernel = Second {
            spent: [100, 800, 10],
            call: Call::Number(libc::SYS_epoll_wait as u64),
            ..READY
        };
        let said = in_kernel.verdict().to_string();
        assert!(
            said.contains("in the kernel (system call epoll_wait)"),
            "{said}"
        );
        // A control group that is throttled does not make it less of a hang once it has had its time.
        let throttled = Second {
            spent: [1000, 0, 0],
            throttled: 900,
            ..READY
        };
        assert!(throttled.verdict().is_hang());
    }

    #[test]
    fn who_waits_in_the_kernel_is_blocked_in_a_call() {
        let expected = Verdict::Blocked {
            call: "write".to_owned(),
            waits_in: "pipe_write".to_owned(),
        };
        assert_eq!(QUIET.verdict(), expected);
        let on_a_device = Second {
            state: 'D',
            ..QUIET
        };
        assert_eq!(on_a_device.verdict(), expected);
        assert!(expected.is_hang());
    }

    #[test]
    fn slowness_is_told_apart_and_is_no_hang() {
        let starved = Second {
            spent: [30, 0, 960],
            ..READY
        };
        let throttled = Second {
            spent: [90, 0, 10],
            throttled: 880,
            ..READY
        };
        // As kernels do that count no waiting while a group is throttled.
        let all_throttled = Second {
            throttled: 990,
            ..READY
        };
        let swapping = Second {
            state: 'D',
            faults: 300,
            spent: [5, 60, 0],
            ..QUIET
        };
        let in_fault = Second {
            state: 'D',
            call: Call::Fault,
            ..QUIET
        };
        let stopped = Second {
            state: 'T',
            ..QUIET
        };
        let debugged = Second {
            state: 't',
            spent: [500, 0, 0],
            ..QUIET
        };
        let told = [
            starved,
            all_throttled,
            swapping,
            in_fault,
            stopped,
            debugged,
        ];
        let told = told.map(|second| second.verdict());
        let waited = Verdict::Starved {
            waited_ms: 960,
            ran_ms: 30,
            of_ms: 1000,
        };
        assert_eq!(told[0], waited);
        let of_group = Verdict::Throttled {
            times: 19,
            throttled_ms: 990,
            of_ms: 1000,
        };
        assert_eq!(told[1], of_group);
        let faults = |major_faults| Verdict::PageFaulting {
            major_faults,
            of_ms: 1000,
        };
        assert_eq!(told[2..4], [faults(300), faults(0)]);
        let [by_signal, by_debugger] =
            [false, true].map(|by_debugger| Verdict::Stopped { by_debugger });
        assert_eq!(told[4..], [by_signal, by_debugger]);
        assert!(
            told.iter()
                .all(|verdict| verdict.is_stuck() && !verdict.is_hang())
        );
        let mixed = throttled.verdict();
        assert!(matches!(mixed, Verdict::Throttled { .. }), "{mixed}");
    }

    #[test]
    fn who_waits_for_a_lock_waits_for_its_holder() {
        let waits = Second {
            spent: [200, 700, 0],
            ..READY
        };
        let held = waits.verdict_with(Some((7, Some("worker-1 holds, which is blocked"))));
        let said = held.to_string();
        assert!(
            said.ends_with("lock of bucket 7, which worker-1 holds, which is blocked"),
            "{said}"
        );
        assert!(!held.is_hang());
        assert!(waits.verdict_with(Some((7, None))).is_hang());
    }

    #[test]
    fn without_a_second_look_nothing_is_claimed() {
        let sample = ThreadSample {
            state: 'R',
            user: ms(1),
            system: ms(1),
            ran: ms(2),
            waited: ms(2),
            major_faults: 0,
            call: Call::None,
            waits_in: String::new(),
        };
        let case = Case {
            first: Some(&sample),
            last: Some(&sample),
            between: Duration::ZERO,
            throttled: Throttled::default(),
            lock: None,
            ample: ms(1000),
        };
        assert_eq!(case.verdict(), Verdict::Unknown);
        assert_eq!(Case { last: None, ..case }.verdict(), Verdict::Gone);
    }
}
