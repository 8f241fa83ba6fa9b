//! Where a load goes, and the stream that takes it there.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};

use larder_client::{Address, ConnectError, DEFAULT_PORT};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub(super) use crate::server::Stream as Socket;

/// Which protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Larder's own.
    Larder,
    /// memcached's text protocol, to put the same load on a peer.
    Memcached,
    /// Redis's protocol, for the same.
    Redis,
}

/// A server to put load on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    address: Address,
}

/// A target whose name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connection to a target.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Protocol {
    /// What a URL begins with.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Larder => "larder",
            Self::Memcached => "memcached",
            Self::Redis => "redis",
        }
    }

    /// The port that such servers listen on unless told otherwise.
    fn port(self) -> u16 {
        match self {
            Self::Larder => DEFAULT_PORT,
            Self::Memcached => 11211,
            Self::Redis => 6379,
        }
    }

    /// Whether it tells times in seconds, and no finer.
    pub(super) fn counts_seconds(self) -> bool {
        self == Self::Memcached
    }
}

impl FromStr for Target {
    type Err = ConnectError;

    fn from_str(url: &str) -> Result<Self, ConnectError> {
        let foreign = [Protocol::Memcached, Protocol::Redis]
            .into_iter()
            .find_map(|protocol| Some((protocol, url.strip_prefix(protocol.scheme())?)));
        let Some((protocol, rest)) = foreign else {
            if !url.starts_with(Protocol::Larder.scheme()) {
                return Err(ConnectError::Url {
                    url: url.to_owned(),
                    why: "it begins with larder://, memcached:// or redis://, or with +unix before the :",
                });
            }
            return Ok(Self {
                protocol: Protocol::Larder,
                address: url.parse()?,
            });
        };
        let mut address: Address = format!("larder{rest}").parse()?;
        if let Address::Tcp { port, .. } = &mut address
            && *port == DEFAULT_PORT
            && !rest.contains(&DEFAULT_PORT.to_string())
        {
            *port = protocol.port();
        }
        Ok(Self { protocol, address })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.address.to_string();
        let scheme = self.protocol.scheme();
        write!(f, "{scheme}{}", url.trim_start_matches("larder"))
    }
}

impl Target {
    /// Resolves the target's name, once for all connections: all that it leads to.
    pub(super) async fn resolve(&self) -> io::Result<Vec<Place>> {
        match &self.address {
            Address::Unix { path } => Ok(vec![Place::Unix(path.clone())]),
            Address::Tcp { host, port } => {
                let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
                Ok(found.map(Place::Tcp).collect())
            }
        }
    }
}

impl Place {
    /// Opens a connection.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Whether the server runs on this machine, as far as its address tells.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => ip.is_loopback(),
                IpAddr::V6(ip) => {
                    ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
                }
            },
        }
    }
}

impl Stream {
    /// Writes some bytes. Where only some were taken, the next call does not ask the system before
    /// there is room again.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match self {
            Self::Tcp(stream) => ready!(Pin::new(stream).poll_write(cx, bytes)),
            Self::Unix(stream) => ready!(Pin::new(stream).poll_write(cx, bytes)),
        };
        Poll::Ready(match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        })
    }

    /// Reads some bytes. A read that does not fill `room` says that there are no more, and the next
    /// call does not ask the system before there are.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(room);
        let read = match self {
            Self::Tcp(stream) => ready!(Pin::new(stream).poll_read(cx, &mut room)),
            Self::Unix(stream) => ready!(Pin::new(stream).poll_read(cx, &mut room)),
        };
        Poll::Ready(match (read, room.filled().len()) {
            (Ok(()), 0) => Err(no_more()),
            (Ok(()), bytes) => Ok(bytes),
            (Err(error), _) => Err(error),
        })
    }

    /// The same, waited for by somebody else than the runtime.
    pub(super) fn into_socket(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Socket::Tcp(mio::net::TcpStream::from_std(stream.into_std()?)),
            Self::Unix(stream) => Socket::Unix(mio::net::UnixStream::from_std(stream.into_std()?)),
        })
    }
}

/// What a read says that finds the end.
pub(super) fn no_more() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed the connection",
    )
}

#[cfg(test)]
mod tests {
    use super::{Protocol, Target};

    #[test]
    fn a_target_names_its_protocol_by_its_scheme() {
        for (url, long, protocol) in [
            (
                "larder://127.0.0.1",
                "larder://127.0.0.1:5273",
                Protocol::Larder,
            ),
            (
                "larder+unix:///run/l.sock",
                "larder+unix:///run/l.sock",
                Protocol::Larder,
            ),
            (
                "memcached://[::1]",
                "memcached://[::1]:11211",
                Protocol::Memcached,
            ),
            (
                "memcached://host:5273",
                "memcached://host:5273",
                Protocol::Memcached,
            ),
            (
                "memcached+unix:///run/m",
                "memcached+unix:///run/m",
                Protocol::Memcached,
            ),
            ("redis://host", "redis://host:6379", Protocol::Redis),
        ] {
            let target: Target = url.parse().expect(url);
            assert_eq!(
                (target.to_string(), target.protocol),
                (long.to_owned(), protocol)
            );
        }
        for url in [
            "",
            "127.0.0.1:5273",
            "redit://host",
            "memcached",
            "memcachedx://host",
        ] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }
}
