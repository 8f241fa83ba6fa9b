//! What is told of threads, and of a process that ended: for people and for programs.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::verdict::Verdict;
use crate::blackbox::{BlackBox, Phase, Record};
use crate::supervisor::sight::SeenThread;

/// LIMIT: the last operations of each thread that a report tells; the box in the bundle has more.
const OPERATIONS_TOLD: usize = 16;

/// How it is called where a thread is in its program: the innermost function first.
pub(super) const STACK: &str = "stack";

/// What every thread of the worker process is about.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Why {
    /// Whether any of them is stuck.
    pub(crate) is_stuck: bool,
    /// The worker process; `None`: there is none.
    pub(crate) pid: Option<i32>,
    pub(crate) threads: Vec<Finding>,
}

/// What one thread is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// `worker-0`, `upkeep`, `acceptor`.
    pub(crate) thread: String,
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// For how long it has not gone on although it had reason to.
    pub(crate) stuck_ms: u64,
    /// The verdict and what the thread is at.
    pub(crate) sentence: String,
    /// What that is based on, by name.
    pub(crate) evidence: Vec<(String, String)>,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.threads.is_empty() {
            return writeln!(
                f,
                "no worker process serves at the moment; `larder postmortem` tells of the last one"
            );
        }
        self.threads
            .iter()
            .try_for_each(|finding| write!(f, "{finding}"))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sentence)?;
        if self.verdict.is_stuck() {
            facts(f, &self.evidence)?;
        }
        Ok(())
    }
}

fn facts(f: &mut fmt::Formatter<'_>, facts: &[(String, String)]) -> fmt::Result {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts
        .iter()
        .try_for_each(|(name, value)| writeln!(f, "    {name:width$}  {value}"))
}

/// A thread of a process that ended, or hung.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Remains {
    pub(crate) thread: String,
    /// What it was doing, as a sentence.
    pub(crate) sentence: String,
    /// Its last operations, oldest first.
    pub(crate) operations: Vec<String>,
}

/// What is kept of a process: because it ended, hung, or did not serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Postmortem {
    /// What happened, as a sentence.
    pub(crate) what: String,
    /// When, for people.
    pub(crate) at: String,
    pub(crate) pid: i32,
    /// The program that the process ran, as it says itself; empty: it has not come to that.
    pub(crate) build: String,
    /// Which operation on which key it died of, if that can be told.
    pub(crate) fingerprint: Option<String>,
    /// What was found of threads that did not go on before.
    pub(crate) findings: Vec<Finding>,
    pub(crate) threads: Vec<Remains>,
    /// Figures of the cache then, by name.
    pub(crate) figures: Vec<(String, String)>,
    /// What the supervisor had done about it.
    pub(crate) steps: Vec<String>,
    /// What the next process kept of the contents, once it serves.
    pub(crate) recovery: Option<Recovery>,
    /// The folder where all of it is.
    pub(crate) bundle: Option<String>,
}

/// What came after an end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Recovery {
    /// As a sentence.
    pub(crate) sentence: String,
    /// What recovery kept and dropped, by name; empty after a cold start.
    pub(crate) receipt: Vec<(String, String)>,
}

impl fmt::Display for Postmortem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, process {}", self.what, self.at, self.pid)?;
        match &self.build[..] {
            "" => f.write_str(")\n")?,
            build => writeln!(f, ", {build})")?,
        }
        if let Some(fingerprint) = &self.fingerprint {
            writeln!(f, "It was in the midst of {fingerprint}.")?;
        }
        for finding in &self.findings {
            write!(f, "{finding}")?;
        }
        for remains in &self.threads {
            write!(f, "\n{}\n", remains.sentence)?;
            for operation in &remains.operations {
                writeln!(f, "    {operation}")?;
            }
        }
        if !self.figures.is_empty() {
            f.write_str("\nThe cache then:\n")?;
            facts(f, &self.figures)?;
        }
        if !self.steps.is_empty() {
            f.write_str("\nWhat was done about it:\n")?;
            self.steps
                .iter()
                .try_for_each(|step| writeln!(f, "    {step}"))?;
        }
        if let Some(recovery) = &self.recovery {
            writeln!(f, "\n{}", recovery.sentence)?;
            let receipt = recovery.receipt.iter();
            let told: Vec<_> = receipt.filter(|(_, value)| value != "0").cloned().collect();
            facts(f, &told)?;
        }
        match &self.bundle {
            Some(bundle) => writeln!(f, "\nThe evidence is in {bundle}"),
            None => Ok(()),
        }
    }
}

/// What a thread does, or did when it ended, as the predicate of a sentence.
pub(super) fn doing(black_box: &BlackBox, now_ns: u64, was: bool) -> String {
    let snapshot = black_box.snapshot();
    let be = if was { "was" } else { "is" };
    let mut said = match snapshot.phase {
        Some(phase) => format!("{be} {phase}"),
        None => return format!("{be} doing what its damaged black box does not tell"),
    };
    if snapshot.phase == Some(Phase::Executing)
        && let Some(record) = &snapshot.operation
    {
        let _ = write!(said, " {}", about(record));
    }
    let since = Duration::from_nanos(now_ns.saturating_sub(snapshot.since_ns));
    let _ = write!(said, " for {}", seconds(since));
    let serves = !matches!(
        snapshot.phase,
        Some(Phase::Sleeping | Phase::Starting | Phase::Ended)
    );
    match snapshot.connection {
        Some(connection) if serves => {
            let _ = write!(
                said,
                ", asked by connection {} of {}",
                connection.number, connection.peer
            );
        }
        _ => {}
    }
    match snapshot.connections {
        0 if snapshot.untaken == 0 => {}
        1 => said.push_str("; it has 1 connection"),
        count => {
            let _ = write!(said, "; it has {count} connections");
        }
    }
    if snapshot.untaken > 0 {
        let _ = write!(said, " and {} more to take over", snapshot.untaken);
    }
    said
}

/// What an operation is: `set of key 00000000deadbeef (3 bytes, value 5)`.
fn about(record: &Record) -> String {
    let operation = record
        .operation
        .map_or("an unknown operation", |one| one.name());
    match record.key_hash {
        0 => operation.to_owned(),
        hash => format!(
            "{operation} of key {hash:016x} ({} bytes of key, {} of value)",
            record.key_bytes, record.value_bytes
        ),
    }
}

/// The last operations of a box, oldest first, one in each line.
pub(super) fn operations(black_box: &BlackBox, now_ns: u64, most: usize) -> Vec<String> {
    let records = black_box.operations();
    let from = records.len().saturating_sub(most);
    records[from..]
        .iter()
        .map(|record| line(record, now_ns))
        .collect()
}

fn line(record: &Record, now_ns: u64) -> String {
    let outcome = record.outcome.map_or("unknown", |one| one.name());
    let mut line = format!("#{} {}: {outcome}", record.number, about(record));
    if let Some((start_ns, duration_ns)) = record.batch {
        let ago = Duration::from_nanos(now_ns.saturating_sub(start_ns));
        let _ = write!(line, ", {} before", seconds(ago));
        if duration_ns > 0 {
            let _ = write!(line, ", in {:?}", Duration::from_nanos(duration_ns));
        }
    }
    if let Some(connection) = record.connection {
        let _ = write!(line, ", connection {connection}");
    }
    line
}

impl Remains {
    /// What a box tells of a thread whose process ended.
    pub(super) fn of(thread: &SeenThread, now_ns: u64, was: bool) -> Self {
        let (name, black_box) = (&thread.name, &thread.black_box);
        Self {
            sentence: format!("{name} {}", doing(black_box, now_ns, was)),
            operations: operations(black_box, now_ns, OPERATIONS_TOLD),
            thread: name.clone(),
        }
    }
}

/// A duration as people say it.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_not_said_what_it_ran_has_no_empty_place_for_it() {
        let mut postmortem = Postmortem {
            what: "The worker process was killed by SIGKILL, after 7 ms".to_owned(),
            at: "2026-05-04T03:15:01.250Z".to_owned(),
            pid: 7,
            build: String::new(),
            fingerprint: None,
            findings: Vec::new(),
            threads: Vec::new(),
            figures: Vec::new(),
            steps: Vec::new(),
            recovery: None,
            bundle: None,
        };
        let first_line = |one: &Postmortem| one.to_string().lines().next().unwrap().to_owned();
        assert!(first_line(&postmortem).ends_with("(2026-05-04T03:15:01.250Z, process 7)"));
        postmortem.build = "larder 0.1.0".to_owned();
        assert!(first_line(&postmortem).ends_with("process 7, larder 0.1.0)"));
    }
}
