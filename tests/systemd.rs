//! `larder serve --no-supervisor` under a stand-in for systemd: sockets from outside, a descriptor store,
//! `sd_notify`, a watchdog.
#![cfg(feature = "server")]

mod server_harness;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSliceMut, Read, Seek};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use larder_protocol::Status;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use server_harness::{Raw, get, set};

/// What systemd does for a service.
struct Manager {
    socket: TcpListener,
    notify: UnixDatagram,
    path: PathBuf,
    /// The descriptor store.
    kept: BTreeMap<String, OwnedFd>,
    service: Option<Child>,
    /// Where the service's log goes.
    log: File,
}

/// A message of the service.
#[derive(Debug)]
struct Note {
    lines: Vec<String>,
}

impl Note {
    fn has(&self, line: &str) -> bool {
        self.lines.iter().any(|said| said == line)
    }

    fn value(&self, key: &str) -> Option<&str> {
        let mut lines = self.lines.iter();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

impl Manager {
    fn new(name: &str) -> Self {
        let name = format!("larder-test-{}-{name}.notify", std::process::id());
        let path = std::env::temp_dir().join(name);
        Self {
            socket: TcpListener::bind("127.0.0.1:0").unwrap(),
            notify: UnixDatagram::bind(&path).unwrap(),
            path,
            kept: BTreeMap::new(),
            service: None,
            log: memfd_create("log", MemfdFlags::CLOEXEC).unwrap().into(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Starts the service. The descriptors come by standard input and output, and the shell moves them
    /// to where systemd would have put them, and tells the number of the process.
    fn start(&mut self, more: &[(&str, &str)]) {
        let memory = self
            .kept
            .get("memory")
            .map(|kept| kept.try_clone().unwrap());
        let (names, moves) = match memory {
            None => ("larder", "3<&0 0</dev/null 1>&2"),
            Some(_) => ("larder:memory", "3<&0 4<&1 0</dev/null 1>&2"),
        };
        let program = env!("CARGO_BIN_EXE_larder");
        let script = format!(
            "LISTEN_PID=$$ exec {program} serve --no-supervisor --memory 64MiB --workers 2 {moves}"
        );
        let mut command = Command::new("sh");
        command
            .args(["-c", &script])
            .env("LISTEN_FDS", names.split(':').count().to_string())
            .env("LISTEN_FDNAMES", names)
            .env("NOTIFY_SOCKET", &self.path)
            .envs(more.iter().copied())
            .stdin(OwnedFd::from(self.socket.try_clone().unwrap()))
            .stdout(memory.map_or_else(Stdio::null, Stdio::from))
            .stderr(self.log.try_clone().unwrap());
        self.service = Some(command.spawn().unwrap());
    }

    /// Waits for the next message, and does what it asks for.
    fn next(&mut self) -> Note {
        let mut text = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut text)];
        let received = recvmsg(&self.notify, &mut slices, &mut beside, RecvFlags::empty());
        let bytes = received.unwrap().bytes;
        let sent = beside.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sent) => sent.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let sent: Vec<_> = sent.collect();
        let lines = std::str::from_utf8(&text[..bytes]).unwrap().lines();
        let note = Note {
            lines: lines.map(str::to_owned).collect(),
        };
        let name = note.value("FDNAME").map(str::to_owned);
        if note.has("FDSTOREREMOVE=1") {
            self.kept.remove(name.as_deref().unwrap());
        }
        if note.has("FDSTORE=1") {
            let [descriptor] = <[OwnedFd; 1]>::try_from(sent).unwrap();
            self.kept.insert(name.unwrap(), descriptor);
        }
        note
    }

    /// Waits for a message that has a line.
    fn wait_for(&mut self, line: &str) -> Note {
        loop {
            let note = self.next();
            if note.has(line) {
                return note;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.service.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    fn ended(&mut self) -> Option<i32> {
        self.service.take().unwrap().wait().unwrap().code()
    }

    /// What the service has logged so far; all of it, once it has ended.
    fn logged(&mut self) -> String {
        let mut text = String::new();
        self.log.rewind().unwrap();
        self.log.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(service) = &mut self.service {
            // It may have ended.
            let _ = service.kill();
            let _ = service.wait();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_service_takes_its_socket_leaves_its_memory_and_goes_on_in_it() {
    let mut manager = Manager::new("service");
    manager.start(&[]);
    let ready = manager.wait_for("READY=1");
    assert!(ready.value("STATUS").unwrap().contains(" ready on "));
    assert_eq!(ready.value("X_LARDER_RECEIPT"), None, "a cold start");
    let kept: Vec<_> = manager.kept.keys().map(String::as_str).collect();
    let expected = [
        "black-box-acceptor",
        "black-box-upkeep",
        "black-box-worker-0",
        "black-box-worker-1",
        "memory",
    ];
    assert_eq!(kept, expected);
    let mut raw = Raw::connect_to(manager.address());
    raw.greet();
    raw.send(&set(1, "key", b"value"));
    assert_eq!(raw.told().status, Status::OK);

    manager.signal("-KILL");
    assert_eq!(manager.ended(), None);
    manager.start(&[]);
    // The socket stayed, so this waits for the next process.
    let mut raw = Raw::connect_to(manager.address());
    raw.greet();
    raw.send(&get(1, "key"));
    assert_eq!(raw.told().text, "value");
    let ready = manager.wait_for("READY=1");
    assert!(ready.has("X_LARDER_RECEIPT=kept_items 1"), "{ready:?}");

    manager.signal("-TERM");
    manager.wait_for("STOPPING=1");
    drop(raw);
    assert_eq!(manager.ended(), Some(0));
}

#[test]
fn a_service_with_a_watchdog_says_that_it_is_alive() {
    // Without black boxes as well, which nobody could look into.
    for without_boxes in ["false", "true"] {
        let mut manager = Manager::new(&format!("watchdog-{without_boxes}"));
        manager.start(&[
            ("WATCHDOG_USEC", "30000"),
            ("LARDER_NO_BLACK_BOX", without_boxes),
        ]);
        manager.wait_for("READY=1");
        for _ in 0..3 {
            manager.wait_for("WATCHDOG=1");
        }
    }
}

/// What systemd would give a service otherwise is `TimeoutStartSec=` and `TimeoutStopSec=` of its unit.
#[test]
fn a_service_has_the_time_that_its_settings_give_it() {
    let mut manager = Manager::new("patience");
    manager.start(&[
        ("LARDER_START_TIMEOUT", "10m"),
        ("LARDER_DRAIN_TIMEOUT", "30s"),
    ]);
    let first = manager.next();
    assert_eq!(
        first.value("EXTEND_TIMEOUT_USEC"),
        Some("600000000"),
        "{first:?}"
    );
    manager.wait_for("READY=1");
    manager.signal("-TERM");
    let stopping = manager.wait_for("STOPPING=1");
    // Two seconds are for the end itself, as Larder's own supervisor has it.
    assert_eq!(
        stopping.value("EXTEND_TIMEOUT_USEC"),
        Some("32000000"),
        "{stopping:?}"
    );
    assert_eq!(manager.ended(), Some(0));
}

#[test]
fn an_address_that_is_none_of_the_sockets_is_told() {
    // What a service logs that is started with these variables.
    let logged = |variables: &dyn Fn(SocketAddr) -> Vec<(&'static str, String)>| {
        let mut manager = Manager::new("unheard");
        let variables = variables(manager.address());
        let variables = variables.iter().map(|(name, value)| (*name, &value[..]));
        manager.start(&variables.collect::<Vec<_>>());
        manager.wait_for("READY=1");
        manager.signal("-TERM");
        assert_eq!(manager.ended(), Some(0));
        manager.logged()
    };
    let both = logged(&|address| {
        let memcached = "127.0.0.1:11211".to_owned();
        vec![
            ("LARDER_LISTEN", address.to_string()),
            ("LARDER_MEMCACHED", memcached),
        ]
    });
    let told = "LARDER_MEMCACHED: nobody listens on 127.0.0.1:11211 for it";
    assert!(both.contains(told), "{both}");
    assert!(!both.contains("LARDER_LISTEN"), "{both}");
    // Nobody has asked for the default.
    let default = logged(&|_| Vec::new());
    assert!(!default.contains("nobody listens"), "{default}");
}

#[test]
fn descriptors_that_are_not_what_their_name_says_are_refused() {
    let mut manager = Manager::new("refused");
    // Its own memory was never there, and this is a socket.
    manager.kept.insert(
        "memory".to_owned(),
        manager.socket.try_clone().unwrap().into(),
    );
    manager.start(&[]);
    // What is no memory of a cache means a cold start.
    let ready = manager.wait_for("READY=1");
    assert_eq!(ready.value("X_LARDER_RECEIPT"), None);
}

#[test]
fn the_units_that_are_shipped_fit_the_program() {
    let service = include_str!("../packaging/systemd/larder.service");
    let socket = include_str!("../packaging/systemd/larder.socket");
    for line in [
        "Type=notify",
        "ExecStart=/usr/bin/larder serve --no-supervisor",
        "Restart=always",
        "FileDescriptorStoreMax=1100",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ] {
        assert!(service.lines().any(|of| of == line), "{line}");
    }
    assert!(socket.contains("FileDescriptorName=larder"));
}
