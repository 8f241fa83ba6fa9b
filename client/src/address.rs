//! Where a server listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::ConnectError;

/// The port that a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 5273;

/// Where a server listens: `larder://HOST`, `larder://HOST:PORT` or `larder+unix:///PATH`.
///
/// ```
/// use larder_client::Address;
///
/// let address: Address = "larder://cache.example".parse()?;
/// assert_eq!(address, Address::Tcp { host: "cache.example".into(), port: 5273 });
/// assert_eq!(address.to_string(), "larder://cache.example:5273");
/// # Ok::<(), larder_client::ConnectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port; the host is a name or an address, IPv6 without its brackets.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix stream socket.
    Unix {
        /// The absolute path of the socket.
        path: PathBuf,
    },
}

impl FromStr for Address {
    type Err = ConnectError;

    fn from_str(url: &str) -> Result<Self, ConnectError> {
        let wrong = |why| ConnectError::Url {
            url: url.to_owned(),
            why,
        };
        if let Some(path) = url.strip_prefix("larder+unix://") {
            return match path.starts_with('/') && path.len() > 1 {
                true => Ok(Self::Unix { path: path.into() }),
                false => Err(wrong(
                    "the path of a socket is absolute, as in larder+unix:///run/larder.sock",
                )),
            };
        }
        let Some(place) = url.strip_prefix("larder://") else {
            return Err(wrong(
                "it begins with larder:// or larder+unix://, as in larder://127.0.0.1:5273",
            ));
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains('@') {
            return Err(wrong(
                "a server knows no users; it names a host and perhaps a port, as in larder://127.0.0.1:5273",
            ));
        }
        let (host, port) = match place.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, rest))) => (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            ),
            Some(None) => return Err(wrong("the bracket of its IPv6 address is not closed")),
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, Some("")),
            },
        };
        let port = match port {
            Some("") => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(wrong("its port is not a number from 1 to 65535")),
                Ok(port) => port,
            },
            None => return Err(wrong("what follows its IPv6 address is not a port")),
        };
        if host.is_empty() || host.contains('/') {
            return Err(wrong(
                "it names a host and perhaps a port and nothing else, as in larder://127.0.0.1:5273",
            ));
        }
        if host.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(wrong("a host has no spaces in its name"));
        }
        if host.contains(':') && !place.starts_with('[') {
            return Err(wrong(
                "an IPv6 address stands in brackets, as in larder://[::1]:5273",
            ));
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "larder://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "larder://{host}:{port}"),
            Self::Unix { path } => write!(f, "larder+unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_is_read_and_written_alike() {
        for url in [
            "larder://127.0.0.1:5273",
            "larder://cache.example:1",
            "larder://[::1]:5273",
            "larder+unix:///run/larder.sock",
        ] {
            let address: Address = url.parse().expect(url);
            assert_eq!(address.to_string(), url);
        }
    }

    #[test]
    fn a_missing_port_is_the_default_one() {
        for (short, long) in [
            ("larder://host", "larder://host:5273"),
            ("larder://host/", "larder://host:5273"),
            ("larder://[::1]", "larder://[::1]:5273"),
        ] {
            assert_eq!(short.parse::<Address>().expect(short).to_string(), long);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for url in [
            "127.0.0.1:5273",
            "redis://host",
            "larder://",
            "larder://host:port",
            "larder://host:65536",
            "larder://host:0",
            "larder://user:word@host",
            "larder://two words",
            "larder://::1",
            "larder://[::1",
            "larder://[::1]x",
            "larder://host/path",
            "larder+unix://relative",
            "larder+unix:///",
        ] {
            let error = url.parse::<Address>().expect_err(url);
            assert!(error.to_string().contains(url), "{error}");
        }
    }
}
