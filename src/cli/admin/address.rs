//! Where the admin endpoint of a server is, if nobody says otherwise: a Unix socket whose name
//! follows from where the server listens, so that both sides find it.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::server::{Address, AddressError};

/// The port that servers listen on unless told otherwise.
const DEFAULT_PORT: u16 = 5273;

/// Where a server's admin endpoint is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// There is to be none.
    Nowhere,
    /// At this address.
    At(Address),
}

impl FromStr for AdminAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "none" => Ok(Self::Nowhere),
            address => address.parse().map(Self::At),
        }
    }
}

/// Where the evidence about a server is to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EvidencePlace {
    /// Nowhere.
    Nowhere,
    /// In this folder.
    In(PathBuf),
}

impl FromStr for EvidencePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Nowhere),
            "" => Err("a folder has a name; accepted: a path, or none".to_owned()),
            path => Ok(Self::In(path.into())),
        }
    }
}

/// Where the server is that commands talk to unless told otherwise.
pub(super) fn default_server() -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)))
}

/// Where the admin endpoint of a server is that listens at an address: beside its Unix socket, or by
/// its port in the folder of what runs.
pub(crate) fn usual_address(server: &Address) -> Address {
    Address::Unix(match server {
        Address::Tcp(address) => runtime_folder().join(format!("larder-{}.admin", address.port())),
        Address::Unix(path) => {
            let mut path = path.clone().into_os_string();
            path.push(".admin");
            PathBuf::from(path)
        }
    })
}

/// The folder for evidence about a server that listens at an address: beside its admin endpoint.
pub(crate) fn usual_evidence(server: &Address) -> PathBuf {
    match server {
        Address::Tcp(address) => {
            runtime_folder().join(format!("larder-{}.evidence", address.port()))
        }
        Address::Unix(path) => {
            let mut path = path.clone().into_os_string();
            path.push(".evidence");
            PathBuf::from(path)
        }
    }
}

/// Where sockets of what runs have their place: the user's own folder, or the machine's for the user
/// that may write there.
fn runtime_folder() -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ if rustix::process::geteuid().is_root() => PathBuf::from("/run"),
        _ => env::temp_dir(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same_place() {
        let listens: Address = "0.0.0.0:5273".parse().unwrap();
        assert_eq!(usual_address(&listens), usual_address(&default_server()));
        let unix: Address = "unix:/somewhere/larder.sock".parse().unwrap();
        assert_eq!(
            usual_address(&unix).to_string(),
            "unix:/somewhere/larder.sock.admin"
        );
    }

    #[test]
    fn an_endpoint_can_be_done_without() {
        assert_eq!("none".parse(), Ok(AdminAddress::Nowhere));
        assert!("nowhere".parse::<AdminAddress>().is_err());
    }
}
