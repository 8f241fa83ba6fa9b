//! A server that is started for a load and ends with it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::cli::ending::Failure;

/// LIMIT: how long a server may take until it listens; one that recovers a large cache takes a while.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// LIMIT: how long a server may take to end once it was asked; what stays is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether the server listens, or has ended.
const CHECK: Duration = Duration::from_millis(10);

/// A process that was started, ended with this value.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    command: String,
}

/// How long one waits for a server that was started.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
}

impl Started {
    /// Starts a command, variables before it and quotes as in a shell; the process that the shell had
    /// becomes the command's. It ends with this process, however that ends. What the server prints goes nowhere, its complaints to standard error.
    pub(super) fn new(command: &str) -> Result<Self, Failure> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec env {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is for the load: the server ends after it.
            .process_group(0);
        // SAFETY: what runs between fork and exec makes one system call, and allocates nothing.
        unsafe {
            shell.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
        }
        let child = shell
            .spawn()
            .map_err(|error| Failure::usage(format!("cannot start `{command}`: {error}")))?;
        Ok(Self {
            child,
            command: command.to_owned(),
        })
    }

    /// The number of its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Says that the server is not there yet, and waits a little before it is asked again.
    ///
    /// # Errors
    ///
    /// That it has ended, or that it took too long, with the reason of the last failure to connect.
    pub(super) fn not_yet(&mut self, patience: &Patience, why: &str) -> Result<(), Failure> {
        self.still_runs()?;
        if Instant::now() >= patience.until {
            let seconds = LISTENS_WITHIN.as_secs();
            return Err(Failure::unreachable(format!(
                "`{}` does not listen {seconds} s after its start: {why}",
                self.command
            )));
        }
        std::thread::sleep(CHECK);
        Ok(())
    }

    /// Whoever answers at its address while this fails is another server.
    pub(super) fn still_runs(&mut self) -> Result<(), Failure> {
        match self.ended() {
            None => Ok(()),
            Some(status) => Err(Failure::usage(format!(
                "`{}` has ended ({status}) instead of serving",
                self.command
            ))),
        }
    }
}

impl Patience {
    pub(super) fn begin() -> Self {
        Self {
            until: Instant::now() + LISTENS_WITHIN,
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // One that has ended is waited for below.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + ENDS_WITHIN;
        while self.ended().is_none() && Instant::now() < until {
            std::thread::sleep(CHECK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
