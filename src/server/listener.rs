//! Listening sockets and the streams they yield, TCP and Unix alike.
//!
//! A socket is bound first, or taken over from whoever bound it, and belongs to a server after: so a
//! parent process can keep it open while one server ends and the next begins.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::address::Address;
use super::tongue::Tongue;
use crate::blackbox::Peer;
use crate::sync::Arc;

/// LIMIT: connections the kernel completes before they are accepted; the kernel caps it at
/// `net.core.somaxconn`, whose usual value this is.
const LISTEN_BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The system refused.
    #[error(
        "cannot listen on {address}: {reason}; accepted: an address of this machine that no other program listens on"
    )]
    Refused {
        /// The address asked for.
        address: Address,
        /// What the system said.
        reason: io::Error,
    },
    /// Another process answers at the Unix socket.
    #[error(
        "cannot listen on {address}: a live server answers there; accepted: a path that is free, or whose server is gone"
    )]
    Occupied {
        /// The address asked for.
        address: Address,
    },
    /// Something that is not a socket has the path.
    #[error(
        "cannot listen on {address}: the path exists and is not a socket; accepted: a path that is free, or whose server is gone"
    )]
    NotASocket {
        /// The address asked for.
        address: Address,
    },
}

/// A socket that listens, and what is spoken there, for a [`Server`](super::Server) to take over.
#[derive(Debug)]
pub struct Entrance {
    /// The socket.
    pub socket: Listening,
    /// What is spoken there.
    pub tongue: Tongue,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    socket: Bound,
    address: Address,
    /// Kept for what its drop does; none, where another process has it.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(unix::UnixListener),
}

impl Listening {
    /// Binds an address.
    ///
    /// # Errors
    ///
    /// The system refuses it, or something else has the path.
    pub fn bind(address: &Address) -> Result<Self, ListenError> {
        let refused = |reason| ListenError::Refused {
            address: address.clone(),
            reason,
        };
        let (socket, address, file) = match address {
            Address::Tcp(wanted) => {
                let socket = bind_tcp(*wanted).map_err(refused)?;
                let bound = socket.local_addr().map_err(refused)?;
                (Bound::Tcp(socket), Address::Tcp(bound), None)
            }
            Address::Unix(path) => {
                clear_stale(path, address)?;
                let socket = unix::UnixListener::bind(path).map_err(refused)?;
                socket.set_nonblocking(true).map_err(refused)?;
                let file = SocketFile::of(path).map_err(refused)?;
                (Bound::Unix(socket), address.clone(), Some(file))
            }
        };
        Ok(Self {
            socket,
            address,
            file,
        })
    }

    /// Takes over a socket that another process has bound, and may go on holding.
    ///
    /// # Errors
    ///
    /// It is no stream socket that listens at a TCP address or a path.
    pub fn adopt(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::Error::other(
                "it does not listen; accepted: a stream socket that does",
            ));
        }
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        let (socket, address) = match (bound.as_socket(), bound.as_pathname()) {
            (Some(address), _) => (Bound::Tcp(socket.into()), Address::Tcp(address)),
            (None, Some(path)) => {
                let address = Address::Unix(path.to_owned());
                (Bound::Unix(OwnedFd::from(socket).into()), address)
            }
            (None, None) => {
                return Err(io::Error::other(
                    "it listens at no TCP address and no path; accepted: one of these",
                ));
            }
        };
        Ok(Self {
            socket,
            address,
            file: None,
        })
    }

    /// Where it listens, with the port that the system picked.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Bound::Tcp(socket) => socket.as_fd(),
            Bound::Unix(socket) => socket.as_fd(),
        }
    }
}

/// A socket that listens, watched by an event loop.
#[derive(Debug)]
pub(crate) struct Listener {
    door: Door,
    address: Arc<str>,
    tongue: Tongue,
    /// Kept for what its drop does.
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Door {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Listener {
    /// Takes one waiting connection, ready for a worker.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        let (stream, peer) = self.door.accept()?;
        Ok(Accepted {
            stream,
            number: 0,
            peer,
            address: Arc::clone(&self.address),
            tongue: self.tongue,
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.door {
            Door::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Door::Unix(listener) => listener.register(registry, token, Interest::READABLE),
        }
    }
}

impl From<Entrance> for Listener {
    fn from(entrance: Entrance) -> Self {
        let Entrance { socket, tongue } = entrance;
        let door = match socket.socket {
            Bound::Tcp(socket) => Door::Tcp(mio::net::TcpListener::from_std(socket)),
            Bound::Unix(socket) => Door::Unix(mio::net::UnixListener::from_std(socket)),
        };
        Self {
            door,
            address: socket.address.to_string().into(),
            tongue,
            _file: socket.file,
        }
    }
}

impl Door {
    fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // A connection that died in the queue refuses the option; its first read says so.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer::Tcp(peer)))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept()?.0), Peer::Unix)),
        }
    }
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Removes the socket file of a server that is gone; a live one or another kind of file stays.
fn clear_stale(path: &Path, address: &Address) -> Result<(), ListenError> {
    let refused = |reason| ListenError::Refused {
        address: address.clone(),
        reason,
    };
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket {
                address: address.clone(),
            });
        }
        Ok(_) => {}
    }
    match connect_at_once(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(refused(error)),
        // Where there is no room for one more connection, somebody listens as well.
        Ok(()) | Err(_) => Err(ListenError::Occupied {
            address: address.clone(),
        }),
    }
}

/// Connects for a moment, and does not wait where there is no room for that: that is [`ErrorKind::WouldBlock`].
pub(crate) fn connect_at_once(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// The file of a bound Unix socket, removed with it unless another server has taken the path.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inode: path.symlink_metadata()?.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self
            .path
            .symlink_metadata()
            .is_ok_and(|found| found.ino() == self.inode)
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A connection that was accepted, and what is spoken on it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    /// Which of the server's it is, from 1 on; 0 until a worker is given it.
    pub(crate) number: u64,
    pub(crate) peer: Peer,
    /// Where it was accepted.
    pub(crate) address: Arc<str>,
    pub(crate) tongue: Tongue,
}

/// A connection's socket: non-blocking, without Nagle's delay.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Stream {
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    /// By the system call itself, as `write`: libc's asks before and after whether the thread is to be
    /// cancelled, which is a part of what a small request costs.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(self, into, RecvFlags::empty())?;
        Ok(count)
    }

    pub(crate) fn write(&self, from: &[u8]) -> io::Result<usize> {
        Ok(send(self, from, SendFlags::NOSIGNAL)?)
    }

    pub(crate) fn write_slices(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write_vectored(from),
            Self::Unix(stream) => (&*stream).write_vectored(from),
        }
    }

    /// Says that nothing more will be written; the peer may still be writing.
    pub(crate) fn finish_writing(&self) {
        // A peer that is gone already needs no word.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch_path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("larder-{}-{name}.sock", std::process::id()))
    }

    #[test]
    fn port_zero_is_replaced_by_the_port_picked() {
        let listening = Listening::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let &Address::Tcp(bound) = listening.address() else {
            panic!("bound to {}", listening.address())
        };
        assert_ne!(bound.port(), 0);
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_removed_on_drop() {
        let path = scratch_path("stale");
        drop(unix::UnixListener::bind(&path).unwrap());
        let listening = Listening::bind(&Address::Unix(path.clone())).unwrap();
        assert!(path.exists());
        drop(listening);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_taken_over_leaves_its_file_to_whoever_bound_it() {
        let path = scratch_path("adopted");
        let bound = Listening::bind(&Address::Unix(path.clone())).unwrap();
        let handed = bound.as_fd().try_clone_to_owned().unwrap();
        let adopted = Listening::adopt(handed).unwrap();
        assert_eq!(adopted.address(), &Address::Unix(path.clone()));
        drop(adopted);
        assert!(path.exists());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn what_does_not_listen_is_not_taken_over() {
        let (one, _other) = unix::UnixStream::pair().unwrap();
        let error = Listening::adopt(one.into()).unwrap_err();
        assert!(error.to_string().contains("accepted"), "{error}");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Listening::adopt(file.into()).is_err());
    }

    #[test]
    fn a_live_unix_socket_is_left_alone() {
        let path = scratch_path("live");
        let _live = Listening::bind(&Address::Unix(path.clone())).unwrap();
        let error = Listening::bind(&Address::Unix(path.clone())).unwrap_err();
        assert!(matches!(error, ListenError::Occupied { .. }), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_live_unix_socket_that_has_no_room_is_left_alone_at_once() {
        let path = scratch_path("full");
        let live = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        live.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        live.listen(0).unwrap();
        let _waits = unix::UnixStream::connect(&path).unwrap();
        let error = Listening::bind(&Address::Unix(path.clone())).unwrap_err();
        assert!(matches!(error, ListenError::Occupied { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = scratch_path("file");
        std::fs::write(&path, b"precious").unwrap();
        let error = Listening::bind(&Address::Unix(path.clone())).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
    }
}
