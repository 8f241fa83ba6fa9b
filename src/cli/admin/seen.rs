//! What `/status.json` tells, as far as the commands have a use for it. What it does not tell, since
//! another version answers, is empty.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ask::Told;
use crate::cli::ending::Failure;

/// How things are with a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    pub(super) phase: String,
    /// Why the server cannot be used, if it cannot.
    pub(super) why_not_ready: Option<String>,
    pub(super) pid: Option<i32>,
    pub(super) since_ms: u64,
    pub(super) now_ms: u64,
    pub(super) starts: u64,
    pub(super) deaths: u64,
    pub(super) last_deaths: Vec<Death>,
    pub(super) receipt: Vec<(String, String)>,
    pub(super) outage_ms: Option<u64>,
    pub(super) upgrades: u64,
    pub(super) upgrades_failed: u64,
    pub(super) last_upgrade: Option<String>,
    pub(super) stalls: u64,
    pub(super) stall_kills: u64,
    pub(super) steps: Vec<Step>,
    pub(super) supervisor: Supervisor,
    pub(super) addresses: Vec<String>,
    pub(super) memcached_addresses: Vec<String>,
    pub(super) build: Option<String>,
    pub(super) uptime_ms: Option<u64>,
    pub(super) threads: Vec<Thread>,
    pub(super) memory: BTreeMap<String, u64>,
    pub(super) cache: BTreeMap<String, u64>,
    pub(super) figures: Option<Figures>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Death {
    pub(super) pid: i32,
    pub(super) at_ms: u64,
    pub(super) lived_ms: u64,
    pub(super) how: String,
}

/// What was done about a thread that did not go on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    pub(super) at_ms: u64,
    pub(super) sentence: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Supervisor {
    pub(super) pid: u32,
    pub(super) build: String,
    pub(super) uptime_ms: u64,
    pub(super) drills_allowed: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Thread {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) number: u32,
    pub(super) phase: Option<String>,
    pub(super) for_ms: u64,
    pub(super) connections: u64,
    pub(super) untaken: u64,
    pub(super) waiting: u64,
    pub(super) is_avoided: bool,
    pub(super) connection: Option<Connection>,
    pub(super) operation: Option<Operation>,
    pub(super) pinned_ms: Option<u64>,
    pub(super) waits_for: Option<Wait>,
    pub(super) counts: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) peer: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Operation {
    pub(super) operation: Option<String>,
    pub(super) key_hash: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wait {
    pub(super) bucket: u64,
    pub(super) held_by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) age_ms: u64,
    pub(super) by_name: BTreeMap<String, String>,
}

impl Seen {
    /// Reads an answer.
    pub(super) fn of(told: &Told) -> Result<Self, Failure> {
        let why = match told.is_done {
            false => told.text.trim_end().to_owned(),
            true => match serde_json::from_str(&told.text) {
                Ok(seen) => return Ok(seen),
                Err(error) => error.to_string(),
            },
        };
        Err(Failure::unreachable(format!(
            "the admin endpoint does not tell how the server is: {why}"
        )))
    }

    /// Whether it serves.
    pub(super) fn is_serving(&self) -> bool {
        self.has_begun() && self.why_not_ready.is_none()
    }

    /// Whether there is a process that is to serve, and may hang.
    pub(super) fn has_begun(&self) -> bool {
        self.phase == "serving"
    }

    /// The workers.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Thread> {
        let threads = self.threads.iter();
        threads.filter(|thread| thread.kind.as_deref() == Some("worker"))
    }

    /// One of them.
    pub(super) fn worker(&self, number: u32) -> Option<&Thread> {
        self.workers().find(|worker| worker.number == number)
    }

    /// What all threads counted of something.
    pub(super) fn count(&self, name: &str) -> u64 {
        let threads = self.threads.iter();
        threads.filter_map(|thread| thread.counts.get(name)).sum()
    }

    /// A figure of STATS.
    pub(super) fn figure(&self, name: &str) -> Option<u64> {
        let written = self.figures.as_ref()?;
        written.by_name.get(name)?.parse().ok()
    }
}
