//! Whose listening socket an address is, as the system tells: for servers that say nothing about their
//! process.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::target::Place;

/// The state of a listening socket in the system's tables of TCP and of Unix sockets.
const TCP_LISTENS: &str = "0A";
const UNIX_LISTENS: &str = "01";

/// The flag of a Unix socket that accepts connections.
const UNIX_ACCEPTS: &str = "00010000";

/// The process that listens at a place on this machine.
///
/// # Errors
///
/// Why it is not known, as a sentence.
pub(super) fn of(place: &Place) -> Result<u32, String> {
    if !place.is_local() {
        return Err("the server runs on another machine".to_owned());
    }
    let table = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let sockets = match place {
        Place::Tcp(address) => ["tcp", "tcp6"]
            .iter()
            .flat_map(|name| listening_tcp(&table(name), address.port()))
            .collect(),
        Place::Unix(path) => listening_unix(&table("unix"), path),
    };
    let owners = owners(&sockets);
    match owners.iter().collect::<Vec<_>>()[..] {
        [&pid] => Ok(pid),
        [] => Err("the server does not tell its process; --pid names it".to_owned()),
        _ => Err("several processes hold the server's socket; --pid names one".to_owned()),
    }
}

/// The numbers of the sockets that listen on a port.
fn listening_tcp(table: &str, port: u16) -> BTreeSet<u64> {
    let port = format!("{port:04X}");
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (_, local_port) = fields.next()?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        let socket = fields.nth(5)?.parse().ok()?;
        (local_port == port && state == TCP_LISTENS).then_some(socket)
    });
    lines.collect()
}

/// The numbers of the sockets that listen at a path.
fn listening_unix(table: &str, path: &Path) -> BTreeSet<u64> {
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, flags, _, state, socket, at] = fields[..] else {
            return None;
        };
        let listens = flags == UNIX_ACCEPTS && state == UNIX_LISTENS;
        (listens && Path::new(at) == path).then(|| socket.parse().ok())?
    });
    lines.collect()
}

/// The processes that hold one of these sockets, as far as this user may see them.
fn owners(sockets: &BTreeSet<u64>) -> BTreeSet<u32> {
    if sockets.is_empty() {
        return BTreeSet::new();
    }
    let links: BTreeSet<_> = sockets
        .iter()
        .map(|socket| format!("socket:[{socket}]"))
        .collect();
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|link| link.to_str().is_some_and(|link| links.contains(link)))
        })
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::of;
    use crate::cli::bench::target::Place;

    #[test]
    fn who_listens_is_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::Tcp(tcp.local_addr().unwrap());
        assert_eq!(of(&place), Ok(std::process::id()));
        let path = std::env::temp_dir().join(format!("larder-owner-{}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        let found = of(&Place::Unix(path.clone()));
        drop(unix);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found, Ok(std::process::id()));
    }

    #[test]
    fn where_nobody_listens_nobody_is_found() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let why = of(&Place::Tcp(free)).unwrap_err();
        assert!(why.contains("--pid names it"), "{why}");
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let why = of(&Place::Tcp(elsewhere)).unwrap_err();
        assert!(why.contains("another machine"), "{why}");
    }
}
