//! Where the admin endpoint of a server is, if nobody says otherwise: a Unix socket whose name
//! follows from where the server listens, so that both sides find it.

use std::env;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;

use larder_client::Address as Url;

use super::ADMIN_VARIABLE;
use crate::cli::DEFAULT_URL;
use crate::cli::ending::Failure;
use crate::server::{Address, AddressError, connect_at_once};

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
pub(super) fn default_server() -> Url {
    DEFAULT_URL.parse().expect("the address of a server")
}

/// Where a server of this machine listens, by what its clients call it.
pub(super) fn of_this_machine(server: &Url) -> Result<Address, Failure> {
    let (host, port) = match server {
        Url::Unix { path } => return Ok(Address::Unix(path.clone())),
        Url::Tcp { host, port } => (&host[..], *port),
    };
    let found = (host, port).to_socket_addrs().map_err(|error| {
        Failure::unreachable(format!("where {server} is cannot be found out: {error}"))
    })?;
    let mut here = found.filter(|address| is_of_this_machine(address.ip()));
    here.next().map(Address::Tcp).ok_or_else(|| {
        Failure::usage(format!(
            "{server} is on another machine, and its admin endpoint is a Unix socket there; ask there, or have \
             it told over TCP as well (`larder serve --admin HOST:PORT`) and name that by --admin or \
             {ADMIN_VARIABLE}"
        ))
    })
}

/// Whether packets for an address stay here: only then the system lets somebody listen at it.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
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

/// Where it is if another server, at the same port of another address, has the usual one; `None`: nobody else can
/// have that.
pub(crate) fn second_address(server: &Address) -> Option<Address> {
    let Address::Tcp(address) = server else {
        return None;
    };
    let name = format!("larder-{}-{}.admin", address.ip(), address.port());
    Some(Address::Unix(runtime_folder().join(name)))
}

/// Where the admin endpoint of a server answers, of the places where it may be.
pub(super) fn found_address(server: &Address) -> Address {
    let of_all = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()),
    };
    let of_all = match server {
        Address::Tcp(address) => Some(Address::Tcp(of_all(address))),
        Address::Unix(_) => None,
    };
    let listens = [Some(server.clone()), of_all].into_iter().flatten();
    let mut second = listens.filter_map(|server| second_address(&server));
    (second.find(has_server)).unwrap_or_else(|| usual_address(server))
}

/// Whether somebody listens at a Unix socket, though perhaps with no room for one more connection.
fn has_server(address: &Address) -> bool {
    match address {
        Address::Unix(path) => {
            let connected = connect_at_once(path);
            connected.map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |()| true)
        }
        Address::Tcp(_) => false,
    }
}

/// The folder for evidence about a server that listens at an address: beside its admin endpoint, whose sockets are
/// given.
pub(crate) fn usual_evidence(server: &Address, admin: &[Address]) -> PathBuf {
    let second = second_address(server).filter(|second| admin.contains(second));
    match (second, server) {
        (Some(Address::Unix(second)), _) => second.with_extension("evidence"),
        (_, Address::Tcp(address)) => {
            runtime_folder().join(format!("larder-{}.evidence", address.port()))
        }
        (_, Address::Unix(path)) => {
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
    use std::os::unix::net::UnixStream;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    use super::*;

    #[test]
    fn both_sides_come_to_the_same_place() {
        let listens: Address = "0.0.0.0:5273".parse().unwrap();
        let asked = of_this_machine(&default_server()).unwrap();
        assert_eq!(usual_address(&listens), usual_address(&asked));
        let unix: Address = "unix:/somewhere/larder.sock".parse().unwrap();
        assert_eq!(
            usual_address(&unix).to_string(),
            "unix:/somewhere/larder.sock.admin"
        );
    }

    #[test]
    fn an_endpoint_that_has_no_room_is_there_all_the_same() {
        let name = format!("larder-{}-endpoint.admin", std::process::id());
        let path = env::temp_dir().join(name);
        let endpoint = Address::Unix(path.clone());
        assert!(!has_server(&endpoint));
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        assert!(has_server(&endpoint));
        drop(socket);
        assert!(!has_server(&endpoint));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_server_is_of_this_machine_or_is_not() {
        let found = |url: &str| of_this_machine(&url.parse().unwrap());
        for (url, expected) in [
            ("larder://127.0.0.1:7301", "127.0.0.1:7301"),
            ("larder://0.0.0.0:7301", "0.0.0.0:7301"),
            ("larder+unix:///run/l.sock", "unix:/run/l.sock"),
        ] {
            assert_eq!(found(url).unwrap().to_string(), expected);
        }
        // Of a network that is for examples.
        let error = found("larder://192.0.2.1:5273").unwrap_err().to_string();
        assert!(error.contains("on another machine"), "{error}");
    }

    #[test]
    fn an_endpoint_can_be_done_without() {
        assert_eq!("none".parse(), Ok(AdminAddress::Nowhere));
        assert!("nowhere".parse::<AdminAddress>().is_err());
    }
}
