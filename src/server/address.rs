//! Where a server listens: a TCP address or the path of a Unix socket.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// One address to listen on, written `HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 lets the system pick one.
    Tcp(SocketAddr),
    /// The path of a Unix stream socket.
    Unix(PathBuf),
}

/// Why a text names no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{input}` is not an address to listen on{reason}; \
     accepted: HOST:PORT, such as 127.0.0.1:5273 or [::1]:5273, and unix:PATH"
)]
pub struct AddressError {
    input: String,
    reason: String,
}

/// LIMIT: `sun_path` of Linux holds 108 bytes, the last of them the terminating zero.
pub(crate) const UNIX_PATH_BYTES_MAX: usize = 107;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(input: &str) -> Result<Self, AddressError> {
        let refuse = |reason: String| AddressError {
            input: input.to_owned(),
            reason,
        };
        if let Some(path) = input.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(refuse(" (the path is empty)".to_owned()));
            }
            if path.len() > UNIX_PATH_BYTES_MAX {
                return Err(refuse(format!(
                    " (the path has {} bytes, a Unix socket takes at most {UNIX_PATH_BYTES_MAX})",
                    path.len()
                )));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let mut found = input
            .to_socket_addrs()
            .map_err(|error| refuse(format!(" ({error})")))?;
        found
            .next()
            .map(Self::Tcp)
            .ok_or_else(|| refuse(" (the host has no address)".to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["127.0.0.1:5273", "[::1]:0", "unix:/run/larder.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_accepted() {
        let long = format!("unix:/{}", "x".repeat(200));
        for text in [
            "",
            "5273",
            "127.0.0.1",
            "127.0.0.1:99999",
            "unix:",
            long.as_str(),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("accepted: HOST:PORT"), "{text}: {error}");
        }
    }
}
