//! What the server's process costs: its CPU time and memory, read where it runs on this machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// LIMIT: how far the CPU time that a server claims and the one that this machine knows of a process
/// of that number may be apart if they are of the same process: readings are not taken at once, and
/// some count in ticks.
const CLAIM_TOLERANCE: Duration = Duration::from_millis(250);

/// Why a process has no figures any more.
pub(super) const ENDED: &str = "the server's process has ended";

/// A process on this machine.
#[derive(Debug)]
pub(super) struct Watch {
    directory: PathBuf,
}

/// What the system says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// When it was started, which tells it from a later one of the same number.
    started: u64,
    /// User and system, to the nanosecond, over all threads that are alive.
    cpu: Duration,
    /// To the tick of the system's accounting, as is the next.
    user: Duration,
    system: Duration,
    pub(super) rss_bytes: u64,
}

/// What the system's accounting says of a process, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    user: u64,
    system: u64,
    started: u64,
}

/// What a run cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) cpu: Duration,
    /// Of the CPU time, what was spent in the server's own code, as far as the system tells.
    pub(super) user: Duration,
    pub(super) system: Duration,
    pub(super) rss_bytes_before: u64,
    pub(super) rss_bytes: u64,
}

impl Watch {
    /// A process on this machine by its number.
    ///
    /// # Errors
    ///
    /// That there is none.
    pub(super) fn of(pid: u32) -> Result<Self, String> {
        let watch = Self {
            directory: PathBuf::from(format!("/proc/{pid}")),
        };
        match watch.read() {
            None => Err(format!("there is no process {pid} on this machine")),
            Some(_) => Ok(watch),
        }
    }

    /// Whether a server says anything about its process.
    pub(super) fn is_told(figures: &[(String, String)]) -> bool {
        number(figures, "pid").is_some()
    }

    /// Finds the process of a server by what it says about itself, and makes sure that it is the
    /// one: a process of the same number on another machine, or in another container, has not used
    /// the same CPU time.
    ///
    /// # Errors
    ///
    /// Why it cannot be watched, as a sentence.
    pub(super) fn find(is_local: bool, figures: &[(String, String)]) -> Result<Self, String> {
        if !is_local {
            return Err("the server runs on another machine".to_owned());
        }
        let pid = number(figures, "pid").ok_or("the server does not tell its process")?;
        let claimed = claimed_cpu(figures).ok_or("the server does not tell its CPU time")?;
        let watch = Self::of(pid as u32)?;
        let another = format!("process {pid} on this machine is another one");
        let reading = watch.read().ok_or_else(|| another.clone())?;
        let used = reading.user + reading.system;
        if used.abs_diff(claimed) > CLAIM_TOLERANCE {
            return Err(another);
        }
        Ok(watch)
    }

    /// What the process has used so far; nothing once it has ended, or is about to: whatever ends gives
    /// its memory away first, and stays in the tables until its parent has heard of it.
    pub(super) fn read(&self) -> Option<Reading> {
        let text = |name| fs::read_to_string(self.directory.join(name)).ok();
        let cpu = self.precise_cpu();
        let stat = Stat::parse(&text("stat")?)?;
        let statm = text("statm")?;
        let resident: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        if resident == 0 {
            return None;
        }
        let (user, system) = (ticks(stat.user), ticks(stat.system));
        Some(Reading {
            started: stat.started,
            cpu: match cpu {
                Duration::ZERO => user + system,
                precise => precise,
            },
            user,
            system,
            rss_bytes: resident * rustix::param::page_size() as u64,
        })
    }

    /// The scheduler's own account of each thread.
    fn precise_cpu(&self) -> Duration {
        let tasks = fs::read_dir(self.directory.join("task"))
            .into_iter()
            .flatten()
            .flatten();
        let on_cpu_ns = tasks.filter_map(|task| {
            let account = fs::read_to_string(task.path().join("schedstat")).ok()?;
            account.split_ascii_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(on_cpu_ns.sum())
    }
}

impl Cost {
    /// What was used between two readings.
    ///
    /// # Errors
    ///
    /// That the process has gone meanwhile.
    pub(super) fn between(before: Option<Reading>, after: Option<Reading>) -> Result<Self, String> {
        let both = before.zip(after);
        let same = both.filter(|(before, after)| before.started == after.started);
        let (before, after) = same.ok_or(ENDED)?;
        let user = after.user.saturating_sub(before.user);
        let system = after.system.saturating_sub(before.system);
        Ok(Self {
            // Threads that ended meanwhile are in the coarse account alone.
            cpu: after.cpu.checked_sub(before.cpu).unwrap_or(user + system),
            user,
            system,
            rss_bytes_before: before.rss_bytes,
            rss_bytes: after.rss_bytes,
        })
    }
}

/// The CPU time that this process has used so far.
pub(super) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// What a server says about its own CPU time: Larder in microseconds, memcached in seconds.
fn claimed_cpu(figures: &[(String, String)]) -> Option<Duration> {
    if let Some(cpu_us) = number(figures, "cpu_us") {
        return Some(Duration::from_micros(cpu_us as u64));
    }
    let seconds = number(figures, "rusage_user")? + number(figures, "rusage_system")?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn number(figures: &[(String, String)], wanted: &str) -> Option<f64> {
    figures
        .iter()
        .find(|(name, _)| name == wanted)?
        .1
        .parse()
        .ok()
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

impl Stat {
    /// Fields of `/proc/PID/stat`; the second is a name in parentheses that may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let after_name = &stat[stat.rfind(')')? + 1..];
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // Counted from 1, as its manual does, and the two first are gone.
        let field = |number: usize| fields.get(number - 3)?.parse().ok();
        Some(Self {
            user: field(14)?,
            system: field(15)?,
            started: field(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{Cost, ENDED, Reading, Watch, own_cpu};

    fn figures(pid: u32, cpu_us: u128) -> Vec<(String, String)> {
        [("pid", pid.to_string()), ("cpu_us", cpu_us.to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    #[test]
    fn a_process_is_found_by_what_it_says_about_itself() {
        let own = figures(std::process::id(), own_cpu().as_micros());
        let reading = Watch::find(true, &own).expect("this process").read();
        let reading = reading.expect("it is alive");
        assert!(reading.rss_bytes > 0 && reading.cpu > Duration::ZERO);
    }

    #[test]
    fn another_process_of_the_same_number_is_not_taken_for_the_server() {
        let cpu_us = own_cpu().as_micros();
        let pid = std::process::id();
        for (is_local, figures) in [
            (false, figures(pid, cpu_us)),
            (true, figures(pid, cpu_us + 10_000_000)),
            (true, figures(u32::MAX, cpu_us)),
            (true, vec![]),
        ] {
            assert!(Watch::find(is_local, &figures).is_err(), "{figures:?}");
        }
    }

    #[test]
    fn a_process_that_has_gone_has_no_cost() {
        let before = Watch::of(std::process::id()).unwrap().read();
        assert!(Cost::between(before, before).is_ok());
        assert_eq!(Cost::between(before, None), Err(ENDED.to_owned()));
        let later = before.map(|reading| Reading {
            started: reading.started + 1,
            ..reading
        });
        assert_eq!(Cost::between(before, later), Err(ENDED.to_owned()));
    }

    #[test]
    fn a_process_that_nobody_waited_for_has_no_figures() {
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let watch = Watch::of(child.id()).unwrap();
        assert!(watch.read().is_some());
        drop(child.stdin.take());
        while watch.read().is_some() {}
        // It stays in the tables all the same.
        assert!(watch.directory.exists());
        child.wait().unwrap();
        assert_eq!(watch.read(), None);
    }

    #[test]
    fn threads_that_ended_are_in_the_coarse_account() {
        let ms = Duration::from_millis;
        let reading = |cpu, user| {
            Some(Reading {
                started: 1,
                cpu: ms(cpu),
                user: ms(user),
                system: ms(10),
                rss_bytes: 1,
            })
        };
        let cost = |before, after| Cost::between(before, after).unwrap().cpu;
        assert_eq!(cost(reading(95, 90), reading(108, 100)), ms(13));
        assert_eq!(cost(reading(95, 90), reading(40, 110)), ms(20));
    }
}
