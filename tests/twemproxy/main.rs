//! The client beside twemproxy: what the one stores over several servers, the other finds.
//!
//! Run by `tests/twemproxy/run`, which sees to it that there is a twemproxy; `cargo test` alone does not
//! build it. Each key is on one server only, so that who finds it looks where the other put it.
#![cfg(feature = "server")]

#[path = "../server_harness/mod.rs"]
mod server_harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use larder::server::{Address, Running, Settings};
use larder_client::blocking::Wait;
use larder_client::{Client, Server, SetItem, Status};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use server_harness::{PATIENCE, address, settings, start};

const KEYS: usize = 10_000;

/// Keys that are asked for before answers are read.
const CHUNK_KEYS: usize = 100;

/// memcached's own port, which no name has in it.
const MEMCACHED_PORT: u16 = 11211;

/// One of the servers behind twemproxy.
struct Backend {
    running: Running,
    weight: u32,
    /// As twemproxy's settings have it.
    address: String,
    /// What the settings call it, if they do.
    called: Option<String>,
    /// What twemproxy places it by.
    name: String,
}

impl Backend {
    fn start(memcached: Address, weight: u32) -> Self {
        let running = start(Settings {
            memcached: vec![memcached],
            ..settings(1)
        });
        let (address, name) = match &running.memcached_addresses()[0] {
            Address::Tcp(address) if address.port() == MEMCACHED_PORT => {
                (address.to_string(), address.ip().to_string())
            }
            Address::Tcp(address) => (address.to_string(), address.to_string()),
            Address::Unix(path) => (path.display().to_string(), format!("{}:", path.display())),
        };
        Self {
            running,
            weight,
            address,
            called: None,
            name,
        }
    }

    fn on_tcp(weight: u32) -> Self {
        Self::start(Address::Tcp(([127, 0, 0, 1], 0).into()), weight)
    }

    fn called(mut self, name: String) -> Self {
        self.name.clone_from(&name);
        self.called = Some(name);
        self
    }

    /// Its line in twemproxy's settings.
    fn line(&self) -> String {
        let called = self.called.as_deref().unwrap_or_default();
        format!("   - {}:{} {called}", self.address, self.weight)
    }

    /// The same for the client, which speaks to another port.
    fn server(&self) -> Server {
        Server::new(format!("larder://{}", address(&self.running)))
            .named(&self.name)
            .weight(self.weight)
    }
}

/// twemproxy over some servers, in a process that ends with the test.
struct Twemproxy {
    child: Child,
    folder: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Twemproxy {
    fn start(test: &str, backends: &[Backend]) -> Self {
        let folder = folder(test);
        let listen = folder.join("listen");
        let mut text = format!(
            "pool:\n  listen: {}\n  hash: md5\n  distribution: ketama\n  servers:\n",
            listen.display()
        );
        for backend in backends {
            text.push_str(backend.line().trim_end());
            text.push('\n');
        }
        let file = folder.join("settings.yml");
        fs::write(&file, text).unwrap();
        let program = std::env::var("TWEMPROXY").unwrap_or_else(|_| "nutcracker".to_owned());
        let mut child = Command::new(program)
            .args(["--stats-addr", "127.0.0.1", "--stats-port"])
            .arg(free_port().to_string())
            .arg("--conf-file")
            .arg(file)
            .arg("--output")
            .arg(folder.join("log"))
            .stdin(Stdio::null())
            .spawn()
            .expect("twemproxy starts; TWEMPROXY=PATH names it");
        let begin = Instant::now();
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(&listen) {
                break stream;
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "twemproxy has ended: {ended:?}");
            assert!(begin.elapsed() < PATIENCE, "twemproxy does not listen");
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            child,
            folder,
            stream: BufReader::new(stream),
        }
    }

    fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn expect(&mut self, text: &str) {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), text);
    }

    fn set(&mut self, items: &[(String, String)]) {
        for items in items.chunks(CHUNK_KEYS) {
            let lines = items
                .iter()
                .map(|(key, value)| format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()));
            self.send(&lines.collect::<String>());
            for _ in items {
                self.expect("STORED");
            }
        }
    }

    /// Expects these.
    fn find(&mut self, items: &[(String, String)]) {
        for items in items.chunks(CHUNK_KEYS) {
            let lines = items.iter().map(|(key, _)| format!("get {key}\r\n"));
            self.send(&lines.collect::<String>());
            for (key, value) in items {
                self.expect(&format!("VALUE {key} 0 {}", value.len()));
                self.expect(value);
                self.expect("END");
            }
        }
    }
}

impl Drop for Twemproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A folder of a test's own, which goes with its twemproxy.
fn folder(test: &str) -> PathBuf {
    let name = format!("larder-{}-{test}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// For twemproxy's statistics, which have a port in any case and take no 0.
fn free_port() -> u16 {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    taken.local_addr().unwrap().port()
}

/// Keys of all lengths, and not of letters alone.
fn items(of: &str) -> Vec<(String, String)> {
    let item = |number: usize| {
        let key = match number % 3 {
            0 => format!("{of}:{number}"),
            1 => format!("schlüssel/{of}/{number}/ключ"),
            _ => format!("{of}{number:0width$}", width = 1 + number % 240),
        };
        (key, format!("value {number}"))
    };
    (0..KEYS).map(item).collect()
}

fn find(client: &Client, items: &[(String, String)]) {
    let keys = items.iter().map(|(key, _)| key);
    let found = client.get_many(keys).wait().unwrap();
    for ((key, value), found) in items.iter().zip(found) {
        let found = found.unwrap_or_else(|| panic!("{key} is elsewhere"));
        assert_eq!(found.value, value.as_bytes());
    }
}

/// What either stores, the other finds.
fn agree(test: &str, backends: &[Backend]) {
    let mut twemproxy = Twemproxy::start(test, backends);
    let client = Client::connect_many(backends.iter().map(Backend::server))
        .wait()
        .unwrap();

    let theirs = items("theirs");
    twemproxy.set(&theirs);
    find(&client, &theirs);

    let ours = items("ours");
    let stored = (ours.iter()).map(|(key, value)| SetItem::new(key.clone(), value.clone()));
    let stored = client.set_many(stored).wait().unwrap();
    assert_eq!(stored, [Status::OK; KEYS]);
    twemproxy.find(&ours);
    println!("{test}: {} keys each way, {} servers", KEYS, backends.len());
}

#[test]
fn servers_that_go_by_host_and_port() {
    let backends: Vec<_> = (0..4).map(|_| Backend::on_tcp(1)).collect();
    agree("ports", &backends);
}

#[test]
fn servers_at_memcacheds_own_port() {
    // An address of the loopback network that is nobody else's.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let backend = |last: u8| {
        let address = SocketAddr::from(([127, high | 1, low, last], MEMCACHED_PORT));
        Backend::start(Address::Tcp(address), 1 + u32::from(last) % 2)
    };
    let backends: Vec<_> = (1..=4).map(backend).collect();
    agree("own_port", &backends);
}

#[test]
fn servers_with_names_and_weights() {
    let mut random = StdRng::seed_from_u64(6);
    for servers in [1, 2, 3, 5, 8] {
        let backend = |number: usize| {
            let weight = random.random_range(1..100);
            Backend::on_tcp(weight).called(format!("cache-{number}.example"))
        };
        let backends: Vec<_> = (0..servers).map(backend).collect();
        agree(&format!("names_{servers}"), &backends);
    }
}

#[test]
fn servers_on_sockets() {
    let folder = folder("sockets_of_servers");
    let backend = |number: u32| {
        let path = folder.join(format!("{number}.sock"));
        Backend::start(Address::Unix(path), 1 + number)
    };
    let backends: Vec<_> = (0..3).map(backend).collect();
    agree("sockets", &backends);
    drop(backends);
    fs::remove_dir_all(folder).unwrap();
}
