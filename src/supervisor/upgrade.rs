//! An upgrade: another program on the same memory and sockets, and the old one again if it fails.
//!
//! ```text
//! begin ──> Examining: the new program looks at the memory and says what it would keep
//!              │ it can                                     └── it cannot: refused, nothing happened
//!              v
//!           Draining: the old worker answers what it has received, and ends
//!              │
//!              v
//!           Proving: the new program starts ──> it serves: done
//!                                       └── it ends, or is late: the old program starts again
//! ```
//!
//! New connections wait in the sockets' queues meanwhile: these are never closed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::journal::Ended;
use super::launch::{Launch, Program};
use super::{Supervisor, WORKER_OPTION, Worker};

/// The option that has a program look at the memory that it is handed, and end.
pub(crate) const EXAMINE_OPTION: &str = "--examine";

/// LIMIT: bytes of what a program says about the memory.
const VERDICT_BYTES_MAX: u64 = 4096;

/// Where to tell how an upgrade came out, in a sentence.
pub(super) type Answer = oneshot::Sender<Result<String, String>>;

/// How far an upgrade has come.
#[derive(Debug)]
pub(super) enum Upgrade {
    /// There is none.
    None,
    /// The new program looks at the memory.
    Examining {
        pid: Pid,
        new: Program,
        verdict: File,
        deadline: Instant,
        answer: Option<Answer>,
    },
    /// The old worker ends.
    Draining {
        new: Program,
        verdict: String,
        answer: Option<Answer>,
    },
    /// The new program has to serve.
    Proving {
        old: Program,
        verdict: String,
        answer: Option<Answer>,
    },
}

impl Upgrade {
    /// When the step under way is late, as far as it is not the worker's.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Examining { deadline, .. } => Some(*deadline),
            _ => None,
        }
    }

    /// Whether the worker is one of a program that has to prove itself.
    pub(super) fn is_proving(&self) -> bool {
        matches!(self, Self::Proving { .. })
    }
}

impl Supervisor {
    /// Begins an upgrade to the program at a path.
    pub(super) fn begin_upgrade(&mut self, path: &Path, answer: Option<Answer>) {
        let begun = match (&self.upgrade, &self.worker) {
            (Upgrade::None, Worker::Running(running)) if running.is_ready && !self.is_ending => {
                self.examine(path)
            }
            (Upgrade::None, _) => Err("the server does not serve at the moment".to_owned()),
            _ => Err("another upgrade is under way".to_owned()),
        };
        match begun {
            Ok((pid, new, verdict)) => {
                tracing::info!(program = %path.display(), "upgrade: the new program looks at the memory");
                self.upgrade = Upgrade::Examining {
                    pid,
                    new,
                    verdict,
                    deadline: Instant::now() + self.plan.terms.upgrade_timeout,
                    answer,
                };
            }
            Err(why) => self.conclude(answer, Err(format!("the upgrade is refused: {why}"))),
        }
    }

    /// Starts the program at a path so that it looks at the memory and says what it would keep.
    fn examine(&self, path: &Path) -> Result<(Pid, Program, File), String> {
        let cannot = |error: std::io::Error| format!("{} cannot be run: {error}", path.display());
        let new = Program::open(path).map_err(cannot)?;
        let (verdict, output) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|e| cannot(e.into()))?;
        let mut arguments: Vec<OsString> = self.plan.terms.arguments.clone();
        arguments.extend([WORKER_OPTION.into(), EXAMINE_OPTION.into()]);
        let handed: Vec<_> = self.kept.memory().into_iter().collect();
        let launch = Launch {
            program: &new,
            arguments: &arguments,
            variables: &[],
            handed: &handed,
            output: Some(output.as_fd()),
        };
        let pid = launch.start().map_err(cannot)?;
        Ok((pid, new, verdict.into()))
    }

    /// Takes note of the end of a process that is not the worker.
    pub(super) fn examiner_ended(&mut self, pid: Pid, ended: Ended) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Examining {
                pid: examiner,
                new,
                verdict,
                answer,
                ..
            } if examiner == pid => {
                let verdict = read_verdict(verdict);
                if ended != Ended::Exited(0) {
                    let why = match &verdict[..] {
                        "" => format!("the new program {ended} when it looked at the memory"),
                        said => format!("the new program says: {said}"),
                    };
                    return self.conclude(answer, Err(format!("the upgrade is refused: {why}")));
                }
                tracing::info!("upgrade: the new program says: {verdict}; the worker drains");
                self.upgrade = Upgrade::Draining {
                    new,
                    verdict,
                    answer,
                };
                self.tell_to_end(Signal::TERM);
                // It may have died meanwhile, and be about to be started again.
                if matches!(self.worker, Worker::None { .. }) {
                    self.upgrade_drained();
                }
            }
            other => self.upgrade = other,
        }
    }

    /// The old worker has ended: the new program is next. Says whether an upgrade waited for that.
    pub(super) fn upgrade_drained(&mut self) -> bool {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Draining {
                new,
                verdict,
                answer,
            } => {
                let old = std::mem::replace(&mut self.program, new);
                self.kept.put_memory_aside();
                self.upgrade = Upgrade::Proving {
                    old,
                    verdict,
                    answer,
                };
                self.worker = Worker::None {
                    start_at: Instant::now(),
                };
                true
            }
            other => {
                self.upgrade = other;
                false
            }
        }
    }

    /// The worker serves: if it is one of a new program, that has proved itself.
    pub(super) fn upgrade_serves(&mut self) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Proving {
                verdict, answer, ..
            } => {
                self.kept.let_go_of_memory_aside();
                let program = self.program.path().display();
                let sentence = format!("upgraded to {program}, which said: {verdict}");
                self.conclude(answer, Ok(sentence));
            }
            other => self.upgrade = other,
        }
    }

    /// The new program does not serve: the old one is next.
    pub(super) fn take_upgrade_back(&mut self, why: &str) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Proving { old, answer, .. } => {
                let new = std::mem::replace(&mut self.program, old);
                self.kept.take_memory_back();
                let sentence = format!(
                    "the upgrade to {} is taken back, and the old program serves again: {why}",
                    new.path().display()
                );
                self.conclude(answer, Err(sentence));
            }
            other => self.upgrade = other,
        }
    }

    /// Gives an upgrade up that has not come to the new program's start.
    pub(super) fn cancel_upgrade(&mut self, why: &str) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::None => {}
            Upgrade::Examining { pid, answer, .. } => {
                let _ = kill_process(pid, Signal::KILL);
                self.conclude(answer, Err(format!("the upgrade is given up: {why}")));
            }
            Upgrade::Draining { answer, .. } | Upgrade::Proving { answer, .. } => {
                self.conclude(answer, Err(format!("the upgrade is given up: {why}")));
            }
        }
    }

    /// Ends a step that takes too long.
    pub(super) fn upgrade_on_time(&mut self, now: Instant) {
        if self.upgrade.deadline().is_some_and(|at| at <= now) {
            self.cancel_upgrade("the new program is late with its look at the memory");
        }
    }

    fn conclude(&mut self, answer: Option<Answer>, outcome: Result<String, String>) {
        match &outcome {
            Ok(sentence) => tracing::info!("{sentence}"),
            Err(sentence) => tracing::error!("{sentence}"),
        }
        self.journal.upgraded(&outcome);
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }
}

/// What a program that has ended said, in one line.
fn read_verdict(verdict: File) -> String {
    let mut said = Vec::new();
    // What is there is what there is.
    let _ = verdict.take(VERDICT_BYTES_MAX).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}
