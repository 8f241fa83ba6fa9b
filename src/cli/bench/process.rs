//! What the server's process costs: its CPU time and memory, read where it runs on this machine.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// LIMIT: how far the CPU time that a server claims and the one that this machine knows of a process
/// of that number may be apart if they are of the same process: readings are not taken at once, and
/// some count in ticks.
const CLAIM_TOLERANCE: Duration = Duration::from_millis(250);

/// A process on this machine.
#[derive(Debug)]
pub(super) struct Watch {
    directory: PathBuf,
}

/// What a process has used so far, and holds at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// User and system, to the nanosecond, over all threads that are alive.
    cpu: Duration,
    /// To the tick of the system's accounting, as is the next.
    user: Duration,
    system: Duration,
    pub(super) rss_bytes: u64,
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
        match watch.read() == Reading::default() {
            true => Err(format!("there is no process {pid} on this machine")),
            false => Ok(watch),
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
        let reading = watch.read();
        let used = reading.user + reading.system;
        if used.abs_diff(claimed) > CLAIM_TOLERANCE {
            return Err(format!("process {pid} on this machine is another one"));
        }
        Ok(watch)
    }

    /// What the process has used so far; nothing where the system does not say.
    pub(super) fn read(&self) -> Reading {
        let text = |name| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        let (user, system) = cpu_ticks(&text("stat")).unwrap_or_default();
        let resident = text("statm")
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|pages| pages.parse().ok());
        let mut reading = Reading {
            cpu: self.precise_cpu(),
            user: ticks(user),
            system: ticks(system),
            rss_bytes: resident.unwrap_or(0) * rustix::param::page_size() as u64,
        };
        if reading.cpu.is_zero() {
            reading.cpu = reading.user + reading.system;
        }
        reading
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
    pub(super) fn between(before: Reading, after: Reading) -> Result<Self, String> {
        if after == Reading::default() {
            return Err("the server's process has ended".to_owned());
        }
        Ok(Self {
            cpu: after.cpu.saturating_sub(before.cpu),
            user: after.user.saturating_sub(before.user),
            system: after.system.saturating_sub(before.system),
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

/// User and system ticks: the 14th and 15th field; the second is a name in parentheses that may hold
/// anything.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cost, Reading, Watch, own_cpu};

    fn figures(pid: u32, cpu_us: u128) -> Vec<(String, String)> {
        [("pid", pid.to_string()), ("cpu_us", cpu_us.to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    }

    #[test]
    fn a_process_is_found_by_what_it_says_about_itself() {
        let own = figures(std::process::id(), own_cpu().as_micros());
        let reading = Watch::find(true, &own).expect("this process").read();
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
        let before = Reading {
            rss_bytes: 1,
            ..Reading::default()
        };
        assert!(Cost::between(before, before).is_ok());
        assert!(Cost::between(before, Reading::default()).is_err());
    }
}
