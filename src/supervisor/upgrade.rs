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
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;

use super::journal::Ended;
use super::launch::{Launch, Program};
use super::signals::kill_with_group;
use super::{Supervisor, WORKER_OPTION, Worker};

/// The option that has a program look at the memory that it is handed, and end.
pub(crate) const EXAMINE_OPTION: &str = "--examine";

/// LIMIT: bytes of what a program says about the memory.
const VERDICT_BYTES_MAX: u64 = 4096;

/// Where to tell how an upgrade came out, in a sentence.
pub(super) type Answer = oneshot::Sender<Result<String, String>>;

/// Why the worker process is replaced, and who waits for that.
#[derive(Debug)]
pub(super) struct Errand {
    purpose: Purpose,
    answer: Option<Answer>,
}

#[derive(Debug)]
enum Purpose {
    /// For another program.
    Upgrade,
    /// For the same one, to which another key is deadly; with the key of before.
    Deadly { before: Option<String> },
}

impl Errand {
    pub(super) fn upgrade(answer: Option<Answer>) -> Self {
        let purpose = Purpose::Upgrade;
        Self { purpose, answer }
    }

    pub(super) fn deadly(before: Option<String>, answer: Answer) -> Self {
        Self {
            purpose: Purpose::Deadly { before },
            answer: Some(answer),
        }
    }

    /// What it is called in what is said of it.
    fn name(&self) -> &'static str {
        match self.purpose {
            Purpose::Upgrade => "the upgrade",
            Purpose::Deadly { .. } => "the start that hands the key over",
        }
    }
}

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
        errand: Errand,
    },
    /// The old worker ends.
    Draining {
        new: Program,
        verdict: String,
        errand: Errand,
    },
    /// The new program has to serve.
    Proving {
        old: Program,
        verdict: String,
        errand: Errand,
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
        let errand = Errand::upgrade(answer);
        match Program::open(path) {
            Ok(new) => self.replace_by(new, errand),
            Err(error) => {
                let why = cannot_be_run(path, &error);
                self.refuse(errand, &why);
            }
        }
    }

    /// Begins to have a program take the place of the one that serves.
    pub(super) fn replace_by(&mut self, new: Program, errand: Errand) {
        let begun = match (&self.upgrade, &self.worker) {
            (Upgrade::None, Worker::Running(running)) if running.is_ready && !self.is_ending => {
                self.examine(&new)
            }
            (Upgrade::None, _) => Err("the server does not serve at the moment".to_owned()),
            _ => Err("another upgrade is under way".to_owned()),
        };
        match begun {
            Ok((pid, verdict)) => {
                let program = new.path().display();
                tracing::info!(%program, "{}: the program looks at the memory", errand.name());
                self.upgrade = Upgrade::Examining {
                    pid,
                    new,
                    verdict,
                    deadline: Instant::now() + self.plan.terms.upgrade_timeout,
                    errand,
                };
            }
            Err(why) => self.refuse(errand, &why),
        }
    }

    pub(super) fn refuse(&mut self, errand: Errand, why: &str) {
        let sentence = format!("{} is refused: {why}", errand.name());
        self.conclude(errand, Err(sentence));
    }

    /// Starts a program so that it looks at the memory and says what it would keep.
    fn examine(&self, new: &Program) -> Result<(Pid, File), String> {
        let cannot = |error: std::io::Error| cannot_be_run(new.path(), &error);
        let (verdict, output) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|e| cannot(e.into()))?;
        let mut arguments: Vec<OsString> = self.plan.terms.arguments.clone();
        arguments.extend([WORKER_OPTION.into(), EXAMINE_OPTION.into()]);
        let handed: Vec<_> = self.kept.memory().into_iter().collect();
        let launch = Launch {
            program: new,
            arguments: &arguments,
            variables: &[],
            handed: &handed,
            output: Some(output.as_fd()),
        };
        let pid = launch.start().map_err(cannot)?;
        Ok((pid, verdict.into()))
    }

    /// Takes note of the end of a process that is not the worker.
    pub(super) fn examiner_ended(&mut self, pid: Pid, ended: Ended) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Examining {
                pid: examiner,
                new,
                verdict,
                errand,
                ..
            } if examiner == pid => {
                let verdict = read_verdict(verdict);
                if ended != Ended::Exited(0) {
                    let why = match &verdict[..] {
                        "" => format!("the new program {ended} when it looked at the memory"),
                        said => format!("the new program says: {said}"),
                    };
                    return self.refuse(errand, &why);
                }
                let name = errand.name();
                tracing::info!("{name}: the program says: {verdict}; the worker drains");
                self.upgrade = Upgrade::Draining {
                    new,
                    verdict,
                    errand,
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
                errand,
            } => {
                let old = std::mem::replace(&mut self.program, new);
                self.kept.put_memory_aside();
                self.upgrade = Upgrade::Proving {
                    old,
                    verdict,
                    errand,
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
                verdict, errand, ..
            } => {
                self.kept.let_go_of_memory_aside();
                let sentence = match errand.purpose {
                    Purpose::Upgrade => {
                        let program = self.program.path().display();
                        format!("upgraded to {program}, which said: {verdict}")
                    }
                    Purpose::Deadly { .. } => {
                        "the worker process was replaced by one that knows which key is deadly"
                            .to_owned()
                    }
                };
                self.conclude(errand, Ok(sentence));
            }
            other => self.upgrade = other,
        }
    }

    /// The new program does not serve: the old one is next.
    pub(super) fn take_upgrade_back(&mut self, why: &str) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::Proving { old, errand, .. } => {
                let new = std::mem::replace(&mut self.program, old);
                self.kept.take_memory_back();
                let sentence = format!(
                    "{} to {} is taken back, and the old program takes over again: {why}",
                    errand.name(),
                    new.path().display()
                );
                self.conclude(errand, Err(sentence));
            }
            other => self.upgrade = other,
        }
    }

    /// Gives an upgrade up that has not come to the new program's start.
    pub(super) fn cancel_upgrade(&mut self, why: &str) {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::None => {}
            Upgrade::Examining { pid, errand, .. } => {
                kill_with_group(pid);
                self.give_up(errand, why);
            }
            Upgrade::Draining { errand, .. } | Upgrade::Proving { errand, .. } => {
                self.give_up(errand, why);
            }
        }
    }

    /// Ends a step that takes too long.
    pub(super) fn upgrade_on_time(&mut self, now: Instant) {
        if self.upgrade.deadline().is_some_and(|at| at <= now) {
            self.cancel_upgrade("the new program is late with its look at the memory");
        }
    }

    fn give_up(&mut self, errand: Errand, why: &str) {
        let sentence = format!("{} is given up: {why}", errand.name());
        self.conclude(errand, Err(sentence));
    }

    fn conclude(&mut self, errand: Errand, outcome: Result<String, String>) {
        match &outcome {
            Ok(sentence) => tracing::info!("{sentence}"),
            Err(sentence) => tracing::error!("{sentence}"),
        }
        match errand.purpose {
            Purpose::Upgrade => self.journal.upgraded(&outcome),
            Purpose::Deadly { before } if outcome.is_err() => self.deadly = before,
            Purpose::Deadly { .. } => {}
        }
        if let Some(answer) = errand.answer {
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }
}

fn cannot_be_run(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be run: {error}", path.display())
}

/// What a program that has ended said, in one line.
fn read_verdict(verdict: File) -> String {
    let mut said = Vec::new();
    // What is there is what there is.
    let _ = verdict.take(VERDICT_BYTES_MAX).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}
