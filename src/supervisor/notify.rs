//! What a worker process tells whoever watches it: `sd_notify`, as systemd defines it.
//!
//! A message is lines of `KEY=VALUE` in a datagram, descriptors beside them. Names of sockets that
//! begin with `@` are abstract: the supervisor's own is, so that it needs no place in a file system.
//! (The crate `sd-notify` connects to paths alone.)

use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use super::GRACE;
use crate::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The variable that names the socket.
pub(super) const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// The worker serves.
pub(super) const READY: &str = "READY";
/// The worker is about to end.
pub(super) const STOPPING: &str = "STOPPING";
/// The worker is alive.
pub(super) const WATCHDOG: &str = "WATCHDOG";
/// So many microseconds from now on the worker may take for what it is at, where it would have had less. Larder's own
/// supervisor knows its patience by itself.
const EXTEND_TIMEOUT_USEC: &str = "EXTEND_TIMEOUT_USEC";
/// What the worker does, for people.
pub(super) const STATUS: &str = "STATUS";
/// The descriptors beside the message are to be kept, under the name of [`FD_NAME`].
pub(super) const FD_STORE: &str = "FDSTORE";
/// Those kept under the name of [`FD_NAME`] are not needed any more.
pub(super) const FD_STORE_REMOVE: &str = "FDSTOREREMOVE";
/// The name of descriptors.
pub(super) const FD_NAME: &str = "FDNAME";
/// The descriptor beside the message is to be closed when all before is done.
const BARRIER: &str = "BARRIER";
/// A figure of the receipt of a recovery, `name value`. Only Larder's supervisor knows this key;
/// systemd skips what it does not know.
pub(super) const RECEIPT: &str = "X_LARDER_RECEIPT";

/// LIMIT: how long the watcher may take for what it was told: it may have to give some memory back.
const DONE_WITHIN: Duration = Duration::from_secs(10);

/// The line to whoever watches this process.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    /// None, where nobody watches.
    socket: Option<Arc<UnixDatagram>>,
}

impl Watcher {
    /// Finds whoever watches this process.
    ///
    /// # Errors
    ///
    /// The environment names a socket that cannot be reached.
    pub(crate) fn find() -> io::Result<Self> {
        let Some(name) = std::env::var_os(SOCKET_VARIABLE) else {
            return Ok(Self { socket: None });
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(&name)?)?;
        Ok(Self {
            socket: Some(Arc::new(socket)),
        })
    }

    /// Gives a descriptor to be kept for the next process, in place of what has its name.
    ///
    /// # Errors
    ///
    /// The watcher does not take it.
    pub(crate) fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.forget(name)?;
        self.send(&[(FD_STORE, "1"), (FD_NAME, name)], &[descriptor])
    }

    /// Says that what was kept under a name is of no use any more.
    ///
    /// # Errors
    ///
    /// The watcher does not take the message.
    pub(crate) fn forget(&self, name: &str) -> io::Result<()> {
        self.send(&[(FD_STORE_REMOVE, "1"), (FD_NAME, name)], &[])
    }

    /// Waits until the watcher has done what it was told so far, but not for ever.
    ///
    /// # Errors
    ///
    /// The watcher does not take the message, or is late.
    pub(crate) fn wait_until_done(&self) -> io::Result<()> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(DONE_WITHIN))?;
        self.send(&[(BARRIER, "1")], &[theirs.as_fd()])?;
        drop(theirs);
        // It closes its end when it comes to the message.
        ours.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// Says that this process may take so long until it serves, also where its watcher expects it sooner.
    ///
    /// # Errors
    ///
    /// The watcher does not take the message.
    pub(crate) fn starting(&self, within: Duration) -> io::Result<()> {
        self.send(&[(EXTEND_TIMEOUT_USEC, &micros(within))], &[])
    }

    /// Says that this process serves, and in a sentence what; with the figures of the recovery, if
    /// there was one.
    ///
    /// # Errors
    ///
    /// The watcher does not take the message.
    pub(crate) fn ready(&self, status: &str, receipt: &[(&str, u64)]) -> io::Result<()> {
        let figures: Vec<String> = (receipt.iter())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let mut lines = vec![(READY, "1"), (STATUS, status)];
        lines.extend(figures.iter().map(|figure| (RECEIPT, &figure[..])));
        self.send(&lines, &[])
    }

    /// Says that this process is alive.
    ///
    /// # Errors
    ///
    /// The watcher does not take the message.
    pub(crate) fn alive(&self) -> io::Result<()> {
        self.send(&[(WATCHDOG, "1")], &[])
    }

    /// Says that this process is about to end, and drains for so long; also where its watcher expects the end
    /// sooner.
    ///
    /// # Errors
    ///
    /// The watcher does not take the message.
    pub(crate) fn stopping(&self, drain_timeout: Duration) -> io::Result<()> {
        let within = micros(drain_timeout.saturating_add(GRACE));
        self.send(&[(STOPPING, "1"), (EXTEND_TIMEOUT_USEC, &within)], &[])
    }

    fn send(&self, lines: &[(&str, &str)], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let mut text = String::new();
        for (key, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key}={}", value.replace('\n', " "));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("one descriptor at a time"));
        }
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg(&**socket, &text, &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

fn micros(duration: Duration) -> String {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .to_string()
}

/// The address of a socket that the environment names.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
