//! Listening sockets and the streams they yield, TCP and Unix alike.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::address::Address;
use super::tongue::Tongue;
use crate::blackbox::Peer;

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

/// A bound socket, and what is spoken there.
#[derive(Debug)]
pub(crate) struct Listener {
    door: Door,
    tongue: Tongue,
}

/// A bound socket; a Unix one removes its file when dropped.
#[derive(Debug)]
enum Door {
    Tcp(mio::net::TcpListener),
    Unix {
        socket: mio::net::UnixListener,
        /// Kept for what its drop does.
        _file: SocketFile,
    },
}

impl Listener {
    /// Binds `address`; the address returned has the port that the system picked.
    pub(crate) fn bind(address: &Address, tongue: Tongue) -> Result<(Self, Address), ListenError> {
        let (door, bound) = Door::bind(address)?;
        Ok((Self { door, tongue }, bound))
    }

    /// Takes one waiting connection, ready for a worker.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        let (stream, peer) = self.door.accept()?;
        Ok(Accepted {
            stream,
            number: 0,
            peer,
            tongue: self.tongue,
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.door {
            Door::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Door::Unix { socket, .. } => socket.register(registry, token, Interest::READABLE),
        }
    }
}

impl Door {
    fn bind(address: &Address) -> Result<(Self, Address), ListenError> {
        let refused = |reason| ListenError::Refused {
            address: address.clone(),
            reason,
        };
        match address {
            Address::Tcp(wanted) => {
                let socket = bind_tcp(*wanted).map_err(refused)?;
                let bound = socket.local_addr().map_err(refused)?;
                let listener = mio::net::TcpListener::from_std(socket);
                Ok((Self::Tcp(listener), Address::Tcp(bound)))
            }
            Address::Unix(path) => {
                clear_stale(path, address)?;
                let socket = unix::UnixListener::bind(path).map_err(refused)?;
                socket.set_nonblocking(true).map_err(refused)?;
                let file = SocketFile::of(path).map_err(refused)?;
                let socket = mio::net::UnixListener::from_std(socket);
                Ok((
                    Self::Unix {
                        socket,
                        _file: file,
                    },
                    address.clone(),
                ))
            }
        }
    }

    fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                // A connection that died in the queue refuses the option; its first read says so.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer::Tcp(peer)))
            }
            Self::Unix { socket, .. } => Ok((Stream::Unix(socket.accept()?.0), Peer::Unix)),
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
    match unix::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(error)),
        Ok(_) => Err(ListenError::Occupied {
            address: address.clone(),
        }),
    }
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
    pub(crate) tongue: Tongue,
}

/// An accepted connection's socket: non-blocking, without Nagle's delay.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Stream {
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).read(into),
            Self::Unix(stream) => (&*stream).read(into),
        }
    }

    pub(crate) fn write(&self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&*stream).write(from),
            Self::Unix(stream) => (&*stream).write(from),
        }
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
        let (_listener, bound) =
            Listener::bind(&"127.0.0.1:0".parse().unwrap(), Tongue::Larder).unwrap();
        let Address::Tcp(bound) = bound else {
            panic!("bound to {bound}")
        };
        assert_ne!(bound.port(), 0);
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_removed_on_drop() {
        let path = scratch_path("stale");
        drop(unix::UnixListener::bind(&path).unwrap());
        let (listener, _) = Listener::bind(&Address::Unix(path.clone()), Tongue::Larder).unwrap();
        assert!(path.exists());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_unix_socket_is_left_alone() {
        let path = scratch_path("live");
        let (_live, _) = Listener::bind(&Address::Unix(path.clone()), Tongue::Larder).unwrap();
        let error = Listener::bind(&Address::Unix(path.clone()), Tongue::Larder).unwrap_err();
        assert!(matches!(error, ListenError::Occupied { .. }), "{error}");
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = scratch_path("file");
        std::fs::write(&path, b"precious").unwrap();
        let error = Listener::bind(&Address::Unix(path.clone()), Tongue::Larder).unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
    }
}
