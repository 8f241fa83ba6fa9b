//! What the system knows of a thread, from `/proc`.
//!
//! Only files are read for which the kernel takes no lock of the process: `maps`, `cmdline` and the
//! like wait for a thread that is stuck in a page fault.

use std::fs;
use std::time::Duration;

use crate::blackbox::Pulse;

/// What is read of a thread, as it is kept with other evidence; the last two need rights that the
/// supervisor may not have.
pub(super) const FILES: [&str; 6] = ["stat", "status", "schedstat", "wchan", "syscall", "stack"];

/// What a thread is in that was interrupted while it slept, as by whoever takes its stack.
const RESTART_SYSCALL: u64 = libc::SYS_restart_syscall as u64;

/// What a thread is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// It runs, or could.
    None,
    /// It waits in the kernel, and has not called it: in a page fault.
    Fault,
    /// A system call, by its number.
    Number(u64),
    /// One that it goes on with after an interruption; the system does not tell which.
    Resumed,
    /// The system does not tell.
    Unknown,
}

/// A thread at one moment. Times count from its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThreadSample {
    /// A letter, as `ps` has it.
    pub(super) state: char,
    pub(super) user: Duration,
    pub(super) system: Duration,
    /// How long it ran, and how long it was ready to and did not.
    pub(super) ran: Duration,
    pub(super) waited: Duration,
    pub(super) major_faults: u64,
    pub(super) call: Call,
    /// Where in the kernel it waits; empty where it does not, or the system does not tell.
    pub(super) waits_in: String,
}

/// The system call that a thread was seen in last, and its pulse then.
#[derive(Debug, Default)]
pub(super) struct LastCall(Option<(Pulse, Call)>);

impl LastCall {
    /// Puts into a look what the system no longer tells, if the thread has not gone on since it did.
    pub(super) fn complete(&mut self, sample: &mut ThreadSample, pulse: Pulse) {
        match (sample.call, self.0) {
            (Call::Number(_), _) => self.0 = Some((pulse, sample.call)),
            (Call::Resumed, Some((then, call))) if !pulse.has_moved_since(&then) => {
                sample.call = call;
            }
            _ => {}
        }
    }
}

/// The text of a file about a thread; empty where there is none.
pub(super) fn text(process: u32, thread: u32, file: &str) -> String {
    // Whoever has ended has no files.
    fs::read_to_string(format!("/proc/{process}/task/{thread}/{file}")).unwrap_or_default()
}

impl ThreadSample {
    /// Looks at a thread; `None`: it is gone.
    pub(super) fn take(process: u32, thread: u32) -> Option<Self> {
        let read = |file| text(process, thread, file);
        let ticks = rustix::param::clock_ticks_per_second();
        Self::parse(
            &read("stat"),
            &read("schedstat"),
            &read("syscall"),
            &read("wchan"),
            ticks,
        )
    }

    fn parse(
        stat: &str,
        schedstat: &str,
        syscall: &str,
        wchan: &str,
        ticks_per_second: u64,
    ) -> Option<Self> {
        // The name of the thread may hold anything, parentheses and blanks included.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = |count: u64| Duration::from_millis(count * 1000 / ticks_per_second.max(1));
        let (user, system) = (ticks(number(11)?), ticks(number(12)?));
        let mut scheduled = schedstat.split_whitespace().map(str::parse::<u64>);
        let mut next = || Some(Duration::from_nanos(scheduled.next()?.ok()?));
        let (ran, waited) = (next(), next());
        Some(Self {
            state: fields.first()?.chars().next()?,
            user,
            system,
            // Where the system does not count it, ticks are what there is.
            ran: ran.unwrap_or(user + system),
            waited: waited.unwrap_or_default(),
            major_faults: number(9)?,
            call: Call::parse(syscall),
            waits_in: match wchan.trim() {
                "0" => String::new(),
                name => name.to_owned(),
            },
        })
    }
}

impl Call {
    fn parse(text: &str) -> Self {
        match text.split_whitespace().next() {
            Some("running") => Self::None,
            Some("-1") => Self::Fault,
            Some(number) => match number.parse() {
                Ok(RESTART_SYSCALL) => Self::Resumed,
                Ok(number) => Self::Number(number),
                Err(_) => Self::Unknown,
            },
            None => Self::Unknown,
        }
    }

    /// What it is called.
    pub(super) fn name(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Fault => "page fault".to_owned(),
            Self::Unknown => "unknown".to_owned(),
            Self::Resumed => "restart_syscall".to_owned(),
            Self::Number(number) => {
                let known = usize::try_from(number).ok().and_then(syscalls::Sysno::new);
                known.map_or_else(|| format!("number {number}"), |call| call.name().to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (larder) worker) S 1 4711 4711 0 -1 4194624 510 0 7 0 123 45 0 0 20 0 6 \
                        0 8812 402182144 3311 18446744073709551615 1 1 0 0 0 0 0 4096 17 0 0 0 -1 1 \
                        0 0 0 0 0 0 0 0 0 0 0 0";

    #[test]
    fn what_the_system_says_of_a_thread_is_read() {
        let syscall = "232 0x5 0x7f00 0x400 0xffffffff 0x0 0x8 0x7ffd 0x7f06";
        let sample = ThreadSample::parse(STAT, "1680000000 6719875 12\n", syscall, "ep_poll", 100);
        let sample = sample.unwrap();
        assert_eq!(sample.state, 'S');
        assert_eq!(sample.user, Duration::from_millis(1230));
        assert_eq!(sample.system, Duration::from_millis(450));
        assert_eq!(sample.ran, Duration::from_millis(1680));
        assert_eq!(sample.waited, Duration::from_nanos(6_719_875));
        assert_eq!((sample.major_faults, &sample.waits_in[..]), (7, "ep_poll"));
        assert_eq!(sample.call, Call::Number(232));
    }

    #[test]
    fn what_it_does_not_say_is_done_without() {
        let sample = ThreadSample::parse(STAT, "", "", "0", 100).unwrap();
        assert_eq!(sample.ran, Duration::from_millis(1680));
        assert_eq!((sample.call, &sample.waits_in[..]), (Call::Unknown, ""));
        for cut in ["", "4711 (larder", "4711 (larder) S 1 2"] {
            assert_eq!(ThreadSample::parse(cut, "", "", "", 100), None, "{cut}");
        }
        assert_eq!(ThreadSample::take(u32::MAX, u32::MAX), None);
    }

    #[test]
    fn a_call_has_its_name() {
        assert_eq!(Call::parse("running\n"), Call::None);
        assert_eq!(Call::parse("-1 0x7ffd 0x7f06\n"), Call::Fault);
        let name = |number: i64| Call::parse(&format!("{number} 0x0")).name();
        assert_eq!(name(libc::SYS_write), "write");
        assert_eq!(name(libc::SYS_futex), "futex");
        assert_eq!(name(1 << 40), "number 1099511627776");
    }

    #[test]
    fn a_call_that_goes_on_after_an_interruption_is_the_one_from_before() {
        let mut last = LastCall::default();
        let mut seen = |call: &str, turns| {
            let mut sample = ThreadSample::parse(STAT, "", call, "", 100).expect("whole");
            let pulse = Pulse {
                phase: None,
                since_ns: 5,
                turns,
                announced: [0; 2],
                connections: 0,
                untaken: 0,
            };
            last.complete(&mut sample, pulse);
            sample.call.name()
        };
        let [sleeps, goes_on] = [libc::SYS_nanosleep, libc::SYS_restart_syscall];
        let [sleeps, goes_on] = [sleeps, goes_on].map(|number| format!("{number} 0x0"));
        assert_eq!(seen(&goes_on, 1), "restart_syscall");
        assert_eq!(seen(&sleeps, 1), "nanosleep");
        assert_eq!(seen(&goes_on, 1), "nanosleep");
        assert_eq!(seen("running", 1), "none");
        assert_eq!(seen(&goes_on, 1), "nanosleep");
        // Whoever has gone on since may be in another.
        assert_eq!(seen(&goes_on, 2), "restart_syscall");
    }

    #[test]
    fn this_thread_is_found() {
        let own = ThreadSample::take(
            std::process::id(),
            rustix::thread::gettid().as_raw_nonzero().get() as u32,
        );
        assert_eq!(own.map(|own| own.state), Some('R'));
    }
}
