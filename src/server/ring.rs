//! Many sockets in one call of the system: several receives, or several sends, by way of io_uring.
//!
//! It is a way to hand them over, and no more: each says that it does not wait, so the system tries it within
//! the call that hands it over and says what came of it, and no buffer is the system's after that. Which
//! sockets there is something to do on, epoll tells.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::net::{RecvFlags, SendFlags};

/// LIMIT: sockets of one call.
pub(crate) const SOCKETS_MAX: usize = 64;

/// Where several receives or sends are handed over, by the thread that has opened it.
///
/// When it goes, the system interrupts whatever call that thread is in. So workers open their own, and nobody has
/// one who may be in a call of somebody else's.
pub(crate) struct Ring {
    ring: IoUring,
    /// Those that are handed over; between two calls, those of the last, which nobody looks at.
    operations: Vec<Entry>,
}

impl Ring {
    /// Opens one for the calling thread.
    ///
    /// # Errors
    ///
    /// The system has none, or none for this process.
    pub(crate) fn open() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(SOCKETS_MAX as u32)?;
        Ok(Self {
            ring,
            operations: Vec::with_capacity(SOCKETS_MAX),
        })
    }

    /// Whether there is one to be had, found out in a thread of its own by doing what workers will do: a system may
    /// refuse any call that it takes, and a worker that learns of it in the middle of its work cannot do without any more.
    ///
    /// # Errors
    ///
    /// The system has none, or none for this process.
    pub(crate) fn probe() -> io::Result<()> {
        let tried = std::thread::Builder::new().spawn(|| Self::open()?.try_out())?;
        tried
            .join()
            .unwrap_or_else(|_| Err(ErrorKind::Other.into()))
    }

    fn try_out(mut self) -> io::Result<()> {
        let nothing = opcode::Nop::new().build();
        // SAFETY: it names nothing.
        let pushed = unsafe { self.ring.submission().push(&nothing) };
        pushed.expect("a ring that is empty");
        self.ring.submit_and_wait(1)?;
        let done = self.ring.completion().next();
        outcome(done.ok_or(ErrorKind::WouldBlock)?.result()).map(drop)
    }

    /// Receives once from each of up to [`SOCKETS_MAX`] sockets what is there already. What came of it is
    /// in `outcomes`, in the same order, as `recv` says it.
    pub(crate) fn receive<'a>(
        &mut self,
        receives: impl Iterator<Item = (BorrowedFd<'a>, &'a mut [u8])>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) {
        let flags = RecvFlags::DONTWAIT.bits() as i32;
        let operation = |(socket, into): (BorrowedFd<'_>, &mut [u8])| {
            opcode::Recv::new(Fd(socket.as_raw_fd()), into.as_mut_ptr(), bytes(into))
                .flags(flags)
                .build()
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
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() as i32;
        let operation = |(socket, from): (BorrowedFd<'_>, &[u8])| {
            opcode::Send::new(Fd(socket.as_raw_fd()), from.as_ptr(), bytes(from))
                .flags(flags)
                .build()
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
        operations: impl Iterator<Item = Entry>,
        outcomes: &mut Vec<io::Result<usize>>,
    ) {
        let numbered = operations.zip(0..);
        let numbered = numbered.map(|(operation, place)| operation.user_data(place));
        self.operations.clear();
        self.operations.extend(numbered);
        // SAFETY: the caller's promise; nothing returns before all of them are done.
        let pushed = unsafe { (self.ring.submission()).push_multiple(&self.operations) };
        pushed.expect("at most SOCKETS_MAX sockets");
        let mut left = self.operations.len();
        outcomes.clear();
        outcomes.extend((0..left).map(|_| Ok(0)));
        // The first call does it all, unless the system is short of memory or the thread is interrupted.
        let mut wanted = 0;
        while left > 0 {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                // There is no telling what the system still reads or writes.
                Err(error) => {
                    tracing::error!(%error, "io_uring failed in the middle of its work");
                    std::process::abort();
                }
            }
            for completion in self.ring.completion() {
                outcomes[completion.user_data() as usize] = outcome(completion.result());
                left -= 1;
            }
            wanted = usize::from(left > 0);
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

fn bytes(buffer: &[u8]) -> u32 {
    u32::try_from(buffer.len()).unwrap_or(u32::MAX)
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// Whether the same call may do better.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy
    )
}

#[cfg(test)]
mod tests;
