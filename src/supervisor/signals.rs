//! Signals: those that a supervisor takes, and those by which it tells the worker process what it is to do.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::time::timeout;

use super::journal::Phase;
use super::{GRACE, SuperviseError, Supervisor, Worker};

/// LIMIT: how long a signal to both processes may come later here than there: a busy machine may take so long to
/// run this process's handler.
const SOON: Duration = Duration::from_millis(200);

/// What a supervisor hears signals with: from when it is there, none ends the process by itself.
#[derive(Debug)]
pub(crate) struct Ears {
    runtime: Runtime,
    signals: Signals,
}

impl Ears {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The system refuses what that needs.
    pub(crate) fn open() -> Result<Self, SuperviseError> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build()?;
        let signals = runtime.block_on(async { Signals::new() })?;
        Ok(Self { runtime, signals })
    }

    pub(super) fn apart(self) -> (Runtime, Signals) {
        (self.runtime, self.signals)
    }
}

/// The signals that a supervisor takes.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) term: Stream,
    pub(super) int: Stream,
    pub(super) hup: Stream,
    pub(super) usr2: Stream,
    pub(super) child: Stream,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr2: signal(SignalKind::user_defined2())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Whether this process is told to end, now or in a moment.
    pub(super) async fn told_to_end_soon(&mut self) -> bool {
        let told = async {
            tokio::select! {
                _ = self.term.recv() => {}
                _ = self.int.recv() => {}
            }
        };
        timeout(SOON, told).await.is_ok()
    }
}

impl Supervisor {
    /// Sends the worker process a signal, if there is one.
    pub(super) fn tell(&self, signal: Signal) {
        if let Worker::Running(running) = &self.worker {
            // It may have ended meanwhile; that is found out in its time.
            let _ = kill_process(running.pid, signal);
        }
    }

    /// Kills the worker process, and what it has started.
    pub(super) fn kill_worker(&self) {
        if let Worker::Running(running) = &self.worker {
            kill_with_group(running.pid);
        }
    }

    /// Has the worker process end within its time.
    pub(super) fn tell_to_end(&mut self, signal: Signal) {
        self.tell(signal);
        if let Worker::Running(running) = &mut self.worker {
            let latest = Instant::now() + self.plan.terms.drain_timeout + GRACE;
            if !running.is_ending {
                running.killed_at = Some(latest);
                running.is_ending = true;
                self.journal.turn(Phase::Ending, Some(running.pid));
            }
        }
    }

    /// Ends with the worker process: at once, where there is none, or this was asked for before.
    pub(super) fn end(&mut self, signal: Signal) -> Option<u8> {
        let was_told_before = std::mem::replace(&mut self.is_ending, true);
        self.cancel_upgrade("the server was told to end");
        match self.worker {
            Worker::None { .. } => Some(0),
            Worker::Running(_) if was_told_before => {
                self.cut_short_by = Some(signal);
                self.kill_worker();
                None
            }
            Worker::Running(_) => {
                self.tell_to_end(signal);
                None
            }
        }
    }
}

/// Kills a process with the group that it leads: what it has started would go on with what it was handed.
pub(super) fn kill_with_group(pid: Pid) {
    // It leads none before it has come so far. It may have ended meanwhile; that is found out in its time.
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = kill_process(pid, Signal::KILL);
}
