//! Many sockets in one call of the system: several receives, or several sends, by way of io_uring.
//!
//! It is a way to hand them over, and no more: each says that it does not wait, so the system tries it within
//! the call that hands it over and says what came of it, and no buffer is the system's after that. Which
//! sockets there is something to do on, epoll tells.
//!
//! What the system does not take, since it is out of memory, say, is received and sent by a call each; from then on,
//! everything is.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Signal, getpid, kill_process, set_dumpable_behavior};

/// LIMIT: sockets of one call.
pub(crate) const SOCKETS_MAX: usize = 64;

/// LIMIT: how often the system is asked again that is out of memory, or has too much to do.
const REFUSALS_MAX: u32 = 16;

/// What went wrong where the system gives no reason: EIO.
const UNKNOWN: i32 = Errno::IO.raw_os_error();

const RECEIVED: RecvFlags = RecvFlags::DONTWAIT;
const SENT: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Where several receives or sends are handed over, by the thread that has opened it.
///
/// When it goes, the system interrupts whatever call that thread is in. So workers open their own, and nobody has
/// one who may be in a call of somebody else's.
pub(crate) struct Ring {
    /// None any more, once the system refused a call of it.
    ring: Option<IoUring>,
    /// Those of a call; between two calls, those of the last, which nobody looks at.
    operations: Vec<Operation>,
}

/// A receive from a socket, or a send to it.
struct Operation {
    socket: RawFd,
    start: *mut u8,
    bytes: usize,
    is_send: bool,
}

// SAFETY: what it names is looked at within the call that names it, by the thread that makes it.
unsafe impl Send for Operation {}

impl Ring {
    /// Opens one for the calling thread.
    ///
    /// # Errors
    ///
    /// The system has none, or none for this process.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            ring: Some(Self::build()?),
            operations: Vec::with_capacity(SOCKETS_MAX),
        })
    }

    /// Whether there is one to be had, found out by doing what workers will do, in a process of its own: a system may
    /// refuse any call that it takes, and a worker that learns of it in the middle of its work has lost time; and it
    /// may kill whoever makes one.
    ///
    /// # Errors
    ///
    /// The system has none, or none for this process.
    pub(crate) fn probe() -> io::Result<()> {
        let (findings, finding) = pipe_with(PipeFlags::CLOEXEC)?;
        let try_out = move || {
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
            let tried = Self::build().and_then(Self::try_out);
            let error = tried.map_or_else(|error| error.raw_os_error().unwrap_or(UNKNOWN), |()| 0);
            rustix::io::write(&finding, &error.to_ne_bytes())?;
            Ok(kill_process(getpid(), Signal::KILL)?)
        };
        // It never comes to be this.
        let mut process = Command::new("/proc/self/exe");
        // SAFETY: it makes system calls and nothing else.
        unsafe { process.pre_exec(try_out) };
        let mut started = process.spawn()?;
        drop(process);
        // Where nobody is told of ends, there is nothing to wait for.
        let _ = started.wait();
        let mut error = [0; 4];
        match File::from(findings).read_exact(&mut error) {
            Ok(()) => match i32::from_ne_bytes(error) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            },
            Err(_) => Err(io::Error::other("the system kills whoever asks for it")),
        }
    }

    fn build() -> io::Result<IoUring> {
        IoUring::builder()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(SOCKETS_MAX as u32)
    }

    fn try_out(mut ring: IoUring) -> io::Result<()> {
        let nothing = opcode::Nop::new().build();
        // SAFETY: it names nothing.
        let pushed = unsafe { ring.submission().push(&nothing) };
        pushed.expect("a ring that is empty");
        ring.submit_and_wait(1)?;
        let done = ring.completion().next();
        outcome(done.ok_or(ErrorKind::WouldBlock)?.result()).map(drop)
    }

    /// Receives once from each of up to [`SOCKETS_MAX`] sockets what is there already. What came of it is
    /// in `outcomes`, in the same order, as `recv` says it.
    pub(crate) fn receive<'a>(
        &mut self,
        receives: impl Iterator<Item = (BorrowedFd<'a>, &'a mut [u8])>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) {
        let operation = |(socket, into): (BorrowedFd<'_>, &mut [u8])| Operation {
            socket: socket.as_raw_fd(),
            start: into.as_mut_ptr(),
            bytes: into.len(),
            is_send: false,
        };
        // SAFETY: sockets and buffers are borrowed until this returns, and the buffers for nobody else.
        unsafe { self.run(receives.map(operation), outcomes) };
    }

    /// Sends to each of up to [`SOCKETS_MAX`] sockets what it takes at once, in the same way.
    pub(crate) fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) {
        let operation = |(socket, from): (BorrowedFd<'_>, &[u8])| Operation {
            socket: socket.as_raw_fd(),
            start: from.as_ptr().cast_mut(),
            bytes: from.len(),
            is_send: true,
        };
        // SAFETY: sockets and buffers are borrowed until this returns.
        unsafe { self.run(sends.map(operation), outcomes) };
    }

    /// Hands operations over and takes what came of each.
    ///
    /// # Safety
    ///
    /// What they name lasts until this returns.
    unsafe fn run(
        &mut self,
        operations: impl Iterator<Item = Operation>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) {
        self.operations.clear();
        self.operations.extend(operations);
        outcomes.clear();
        outcomes.extend((0..self.operations.len()).map(|_| Ok(0)));
        // SAFETY: the caller's promise.
        let left = unsafe { self.run_together(outcomes) };
        // They are handed over in their order, so those that are left are the last.
        let done = self.operations.len() - left;
        for (operation, outcome) in self.operations.iter().zip(outcomes).skip(done) {
            // SAFETY: the caller's promise.
            *outcome = unsafe { operation.run_alone() };
        }
    }

    /// Hands over as many as the system takes, waits until they are done, and gives how many it did not take.
    ///
    /// # Safety
    ///
    /// As of [`Ring::run`].
    unsafe fn run_together(&mut self, outcomes: &mut [io::Result<usize>]) -> usize {
        let mut left = self.operations.len();
        let Some(ring) = &mut self.ring else {
            return left;
        };
        let mut submission = ring.submission();
        for (operation, place) in self.operations.iter().zip(0..) {
            // SAFETY: the caller's promise; nothing returns before all that the system took are done.
            let pushed = unsafe { submission.push(&operation.entry().user_data(place)) };
            pushed.expect("at most SOCKETS_MAX sockets");
        }
        drop(submission);
        // The first call does it all, unless the system is short of memory or the thread is interrupted.
        let (mut wanted, mut refusals) = (0, 0);
        while left > 0 {
            let entered = ring.submit_and_wait(wanted);
            for completion in ring.completion() {
                outcomes[completion.user_data() as usize] = outcome(completion.result());
                left -= 1;
            }
            wanted = usize::from(left > 0);
            match entered {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) && refusals < REFUSALS_MAX => refusals += 1,
                Err(error) if left == ring.submission().len() => {
                    tracing::warn!(%error, "io_uring is refused: sockets are read and written one by one from now on");
                    // With what it did not take, which it would take the next time.
                    self.ring = None;
                    return left;
                }
                // There is no telling what the system still reads or writes.
                Err(error) => {
                    tracing::error!(%error, "io_uring failed in the middle of its work");
                    std::process::abort();
                }
            }
        }
        0
    }
}

impl Operation {
    fn entry(&self) -> Entry {
        let socket = Fd(self.socket);
        let bytes = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        match self.is_send {
            true => opcode::Send::new(socket, self.start, bytes)
                .flags(SENT.bits() as i32)
                .build(),
            false => opcode::Recv::new(socket, self.start, bytes)
                .flags(RECEIVED.bits() as i32)
                .build(),
        }
    }

    /// Does it by a call of its own.
    ///
    /// # Safety
    ///
    /// What it names lasts, and its buffer is borrowed for it.
    unsafe fn run_alone(&self) -> io::Result<usize> {
        // SAFETY: the caller's promise.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket) };
        match self.is_send {
            true => {
                // SAFETY: the caller's promise.
                let from = unsafe { std::slice::from_raw_parts(self.start, self.bytes) };
                Ok(retry_on_intr(|| send(socket, from, SENT))?)
            }
            false => {
                // SAFETY: the caller's promise.
                let into = unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) };
                let (_, bytes) = retry_on_intr(|| recv(socket, &mut *into, RECEIVED))?;
                Ok(bytes)
            }
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether the system may do better when it is asked again: it had no memory, or too much to do.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::ResourceBusy
    )
}

#[cfg(test)]
mod tests;
