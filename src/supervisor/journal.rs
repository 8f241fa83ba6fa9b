//! What the supervisor knows of its worker process and has done about it, for whoever asks: the log,
//! the admin endpoint, `larder status`.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, WaitStatus};
use serde::Serialize;

use crate::sync::{Arc, Mutex};

/// LIMIT: deaths that are remembered.
const DEATHS_MAX: usize = 32;

/// LIMIT: steps about stuck threads that are remembered.
const STEPS_MAX: usize = 64;

/// What the worker process is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// There is none, and one will be started.
    Waiting,
    /// It has not said yet that it serves.
    Starting,
    /// It serves.
    Serving,
    /// It was told to end.
    Ending,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A death of a worker process that nobody asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Death {
    /// The number that the process had.
    pub(crate) pid: i32,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// How long it had lived, in milliseconds.
    pub(crate) lived_ms: u64,
    /// How, as a sentence without its subject.
    pub(crate) how: String,
}

/// A step that was taken about a thread of the worker process that did not go on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Taken {
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    pub(crate) pid: i32,
    pub(crate) thread: String,
    /// `named`, `steered`, `captured`, `killed`, or `recovered` when it went on.
    pub(crate) step: &'static str,
    pub(crate) sentence: String,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(self.at_ms);
        let at = humantime::format_rfc3339_millis(at);
        write!(f, "{at} {}: {}", self.step, self.sentence)
    }
}

/// What is known now.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entries {
    pub(crate) phase: Phase,
    /// The worker process.
    pub(crate) pid: Option<i32>,
    /// What it says of itself.
    pub(crate) status: String,
    /// Since when it serves, or waits, in milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
    /// Worker processes that were started.
    pub(crate) starts: u64,
    /// Worker processes that died, and nobody had asked them to end.
    pub(crate) deaths: u64,
    /// The last of these.
    pub(crate) last_deaths: VecDeque<Death>,
    /// What the last recovery kept and dropped, by name; empty after a cold start.
    pub(crate) receipt: Vec<(String, String)>,
    /// Milliseconds from the last end of a worker process until the next one served.
    pub(crate) outage_ms: Option<u64>,
    /// Upgrades that came to their end, and those that were taken back or refused.
    pub(crate) upgrades: u64,
    pub(crate) upgrades_failed: u64,
    /// How the last one came out.
    pub(crate) last_upgrade: Option<String>,
    /// How often a thread did not go on.
    pub(crate) stalls: u64,
    /// Worker processes that were killed for that.
    pub(crate) stall_kills: u64,
    /// Bundles of evidence that were saved, and where the last one is.
    pub(crate) bundles: u64,
    pub(crate) last_bundle: Option<String>,
    /// The last steps that were taken about threads that did not go on.
    pub(crate) steps: VecDeque<Taken>,
}

/// The entries, as the supervisor and its endpoint share them.
#[derive(Debug, Clone)]
pub(crate) struct Journal(Arc<Mutex<Entries>>);

impl Journal {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Entries {
            phase: Phase::Waiting,
            pid: None,
            status: String::new(),
            since_ms: now_ms(),
            starts: 0,
            deaths: 0,
            last_deaths: VecDeque::new(),
            receipt: Vec::new(),
            outage_ms: None,
            upgrades: 0,
            upgrades_failed: 0,
            last_upgrade: None,
            stalls: 0,
            stall_kills: 0,
            bundles: 0,
            last_bundle: None,
            steps: VecDeque::new(),
        })))
    }

    /// What is known now.
    pub(crate) fn read(&self) -> Entries {
        self.0.lock().clone()
    }

    pub(super) fn turn(&self, phase: Phase, pid: Option<Pid>) {
        let mut entries = self.0.lock();
        entries.phase = phase;
        entries.pid = pid.map(|pid| pid.as_raw_nonzero().get());
        entries.since_ms = now_ms();
        if phase == Phase::Starting {
            entries.starts += 1;
            entries.status.clear();
        }
    }

    pub(super) fn serves(&self, receipt: Vec<(String, String)>, ended_at: Option<Instant>) {
        let mut entries = self.0.lock();
        entries.receipt = receipt;
        entries.outage_ms = ended_at.map(|at| whole_ms(at.elapsed()));
    }

    pub(super) fn says(&self, status: String) {
        self.0.lock().status = status;
    }

    pub(super) fn died(&self, pid: Pid, lived: Duration, how: Ended) {
        let mut entries = self.0.lock();
        entries.deaths += 1;
        if entries.last_deaths.len() == DEATHS_MAX {
            entries.last_deaths.pop_front();
        }
        entries.last_deaths.push_back(Death {
            pid: pid.as_raw_nonzero().get(),
            at_ms: now_ms(),
            lived_ms: whole_ms(lived),
            how: how.to_string(),
        });
    }

    /// Notes a step about a thread that does not go on.
    pub(super) fn step(&self, pid: i32, thread: &str, step: &'static str, sentence: String) {
        let mut entries = self.0.lock();
        match step {
            "named" => entries.stalls += 1,
            "killed" => entries.stall_kills += 1,
            _ => {}
        }
        if entries.steps.len() == STEPS_MAX {
            entries.steps.pop_front();
        }
        entries.steps.push_back(Taken {
            at_ms: now_ms(),
            pid,
            thread: thread.to_owned(),
            step,
            sentence,
        });
    }

    /// Notes that evidence was saved.
    pub(super) fn saved(&self, bundle: &Path) {
        let mut entries = self.0.lock();
        entries.bundles += 1;
        entries.last_bundle = Some(bundle.to_string_lossy().into_owned());
    }

    pub(super) fn upgraded(&self, outcome: &Result<String, String>) {
        let mut entries = self.0.lock();
        match outcome {
            Ok(_) => entries.upgrades += 1,
            Err(_) => entries.upgrades_failed += 1,
        }
        let (Ok(sentence) | Err(sentence)) = outcome;
        entries.last_upgrade = Some(sentence.clone());
    }
}

impl Ended {
    pub(super) fn of(status: WaitStatus) -> Self {
        match status.terminating_signal() {
            Some(signal) => Self::Killed(signal),
            None => Self::Exited(status.exit_status().unwrap_or_default()),
        }
    }

    /// Whether the process has not ended by itself in good order, nor was killed as it was late.
    pub(crate) fn is_crash(self) -> bool {
        match self {
            Self::Exited(code) => code != 0,
            Self::Killed(signal) => signal != Signal::KILL.as_raw(),
        }
    }

    /// Whether it was by a signal that has a process end.
    pub(super) fn is_by_order(self) -> bool {
        let orders = [Signal::TERM, Signal::INT, Signal::KILL];
        orders
            .iter()
            .any(|signal| self == Self::Killed(signal.as_raw()))
    }

    /// The exit code of a process that ends because this one did.
    pub(crate) fn code(self) -> u8 {
        let code = match self {
            Self::Exited(code) => code,
            // As shells tell it.
            Self::Killed(signal) => 128 + signal,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Killed(signal) => match signal_hook::low_level::signal_name(signal) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

/// The wall clock.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    whole_ms(since.unwrap_or_default())
}

pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
