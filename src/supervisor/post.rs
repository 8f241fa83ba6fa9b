//! Where the supervisor hears from its worker: the other end of [`notify`].

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, bind, getsockname,
    recvmsg,
};
use rustix::process::Pid;
use tokio::io::Interest;

use super::notify;

/// LIMIT: the longest message; a longer one is cut, and its last line with it.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// LIMIT: descriptors beside a message; Larder sends one at a time.
const DESCRIPTORS_MAX: usize = 4;

/// The socket that workers write to.
#[derive(Debug)]
pub(super) struct Post {
    socket: tokio::net::UnixDatagram,
    name: String,
}

/// What a worker said.
#[derive(Debug, Default)]
pub(super) struct Note {
    pub(super) ready: bool,
    pub(super) stopping: bool,
    pub(super) status: Option<String>,
    /// The name of the descriptors beside the message, or of those to forget.
    pub(super) name: Option<String>,
    pub(super) keep: bool,
    pub(super) forget: bool,
    pub(super) descriptors: Vec<OwnedFd>,
    /// The figures of a receipt.
    pub(super) receipt: Vec<(String, String)>,
}

impl Post {
    /// Opens a socket of this process's own. Needs a tokio runtime.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // The system finds a name that nobody has: supervisors in different containers may share the names of
        // sockets, and have the same process number.
        bind(&socket, &SocketAddrUnix::new_unnamed())?;
        let address = SocketAddrUnix::try_from(getsockname(&socket)?)?;
        let name = address.abstract_name().map(str::from_utf8);
        let name = name
            .and_then(Result::ok)
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        socket.set_nonblocking(true)?;
        // An abstract name is open to everybody on the machine: the system says who writes.
        set_socket_passcred(&socket, true)?;
        Ok(Self {
            name: format!("@{name}"),
            socket: tokio::net::UnixDatagram::from_std(socket)?,
        })
    }

    /// What to put into the environment of a worker.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the next note, and says which process sent it.
    pub(super) async fn next(&self) -> io::Result<(Option<Pid>, Note)> {
        loop {
            self.socket.readable().await?;
            let taken = (self.socket).try_io(Interest::READABLE, || receive(&self.socket));
            match taken {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return taken,
            }
        }
    }

    /// The next note, if there is one by now, whether or not the runtime has heard of it.
    pub(super) fn take(&self) -> io::Result<(Option<Pid>, Note)> {
        receive(&self.socket)
    }
}

fn receive(socket: &tokio::net::UnixDatagram) -> io::Result<(Option<Pid>, Note)> {
    let mut text = vec![0; MESSAGE_BYTES_MAX];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut text)];
    let received = recvmsg(
        socket,
        &mut slices,
        &mut beside,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    )?;
    let (mut descriptors, mut sender) = (Vec::new(), None);
    for message in beside.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(sent) => descriptors.extend(sent),
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
            _ => {}
        }
    }
    text.truncate(received.bytes);
    let mut note = Note::parse(&String::from_utf8_lossy(&text));
    note.descriptors = descriptors;
    Ok((sender, note))
}

impl Note {
    /// Whether what is kept under a name is to be forgotten.
    pub(super) fn forgets(&self, name: &str) -> bool {
        self.forget && self.name.as_deref() == Some(name)
    }

    fn parse(text: &str) -> Self {
        let mut note = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                notify::READY => note.ready = value == "1",
                notify::STOPPING => note.stopping = value == "1",
                notify::STATUS => note.status = Some(value.to_owned()),
                notify::FD_STORE => note.keep = value == "1",
                notify::FD_STORE_REMOVE => note.forget = value == "1",
                notify::FD_NAME => note.name = Some(value.to_owned()),
                notify::RECEIPT => {
                    if let Some((name, figure)) = value.split_once(' ') {
                        note.receipt.push((name.to_owned(), figure.to_owned()));
                    }
                }
                // WATCHDOG and what else there may be: the black boxes tell more. The descriptor of a BARRIER is
                // closed with its note.
                _ => {}
            }
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    fn in_runtime(test: impl FnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async { test() });
    }

    #[test]
    fn what_was_said_is_there_at_once() {
        in_runtime(|| {
            let post = Post::open().unwrap();
            let name = post.name().strip_prefix('@').expect("an abstract name");
            let address = SocketAddr::from_abstract_name(name).unwrap();
            let worker = UnixDatagram::unbound().unwrap();
            worker
                .send_to_addr(b"READY=1\nSTATUS=fine\n", &address)
                .unwrap();
            let (sender, note) = post.take().unwrap();
            assert_eq!(sender, Some(rustix::process::getpid()));
            assert_eq!((note.ready, note.status.as_deref()), (true, Some("fine")));
            assert_eq!(post.take().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        });
    }

    #[test]
    fn supervisors_of_the_same_number_have_names_of_their_own() {
        in_runtime(|| {
            let (one, other) = (Post::open().unwrap(), Post::open().unwrap());
            assert_ne!(one.name(), other.name());
        });
    }
}
