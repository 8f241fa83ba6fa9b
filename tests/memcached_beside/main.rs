//! Larder beside memcached: random commands go to both, and what they answer is compared.
//!
//! Run by `tests/memcached_beside/run`, which sees to it that there is a memcached; `cargo test` alone
//! does not build it. Versions are each server's own: they are compared by what they stand for. Times
//! to live may differ by a second, since memcached's clock has whole ones.
#![cfg(feature = "server")]

#[path = "../server_harness/mod.rs"]
mod server_harness;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use larder::server::{Address, Settings};
use rand::SeedableRng;
use rand::rngs::StdRng;
use server_harness::{PATIENCE, settings, start};
use steps::{Difference, Step};

/// LIMIT: commands in a run, unless `LARDER_TEST_STEPS` says otherwise.
const STEPS: u64 = 200_000;

/// memcached in a process of its own, which ends with the test.
struct Memcached {
    child: Child,
    ports: std::path::PathBuf,
}

impl Memcached {
    fn start() -> Self {
        let program = std::env::var("MEMCACHED").unwrap_or_else(|_| "memcached".to_owned());
        let ports = std::env::temp_dir().join(format!("larder-{}-ports", std::process::id()));
        // Only the super-user has to say who it is to become.
        let child = Command::new(program)
            .args([
                "-u",
                "root",
                "-l",
                "127.0.0.1",
                "-p",
                "-1",
                "-U",
                "0",
                "-t",
                "1",
            ])
            .env("MEMCACHED_PORT_FILENAME", &ports)
            .stdin(Stdio::null())
            .spawn()
            .expect("memcached starts");
        Self { child, ports }
    }

    /// Waits for the file in which it says where it listens.
    fn address(&self) -> SocketAddr {
        let begin = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.ports).unwrap_or_default();
            let port = text
                .lines()
                .find_map(|line| line.strip_prefix("TCP INET: "));
            if let Some(port) = port.and_then(|port| port.parse().ok()) {
                return SocketAddr::from(([127, 0, 0, 1], port));
            }
            assert!(begin.elapsed() < PATIENCE, "memcached does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.ports);
    }
}

/// One of the two servers.
struct Peer {
    stream: TcpStream,
    /// The last version that it told of a key.
    versions: HashMap<String, String>,
}

impl Peer {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            versions: HashMap::new(),
        }
    }

    /// Sends a text and reads everything up to the answer of the no-operation behind it.
    fn ask(&mut self, text: &str) -> String {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.write_all(b"mn\r\n").unwrap();
        let mut received = Vec::new();
        while !(received.ends_with(b"\nMN\r\n") || received == b"MN\r\n") {
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap_or_else(|error| {
                panic!(
                    "{text:?} got {:?}: {error}",
                    String::from_utf8_lossy(&received)
                )
            });
            assert!(count > 0, "{text:?} ended the connection");
            received.extend_from_slice(&buffer[..count]);
        }
        received.truncate(received.len() - b"MN\r\n".len());
        String::from_utf8(received).unwrap()
    }

    /// Carries out a step, in parts where a later one needs what an earlier one told.
    fn take(&mut self, step: &Step) -> String {
        let Some((first, second)) = step.text.split_once("gets ") else {
            return self.ask(&step.text);
        };
        let Some((key_line, rest)) = second.split_once("\r\n") else {
            return self.ask(&step.text);
        };
        let mut answers = self.ask(&format!("{first}gets {key_line}\r\n"));
        self.note_version(step.key, &answers);
        let version = self.versions.get(step.key).map_or("1", String::as_str);
        if !rest.is_empty() {
            let rest = rest.replace("{}", version);
            answers.push_str(&self.ask(&rest));
        }
        answers
    }

    fn note_version(&mut self, key: &str, answers: &str) {
        let head = format!("VALUE {key} ");
        let line = answers.lines().find(|line| line.starts_with(&head));
        if let Some(version) = line.and_then(|line| line.split(' ').nth(4)) {
            self.versions.insert(key.to_owned(), version.to_owned());
        }
    }
}

/// Which version of the one server stands for which of the other.
#[derive(Default)]
struct Versions {
    ours: HashMap<String, String>,
    theirs: HashMap<String, String>,
}

impl Versions {
    /// Whether the two may stand for the same; from now on they do.
    fn agree(&mut self, ours: &str, theirs: &str) -> bool {
        let our_meaning = self
            .ours
            .entry(ours.to_owned())
            .or_insert(theirs.to_owned());
        let their_meaning = self
            .theirs
            .entry(theirs.to_owned())
            .or_insert(ours.to_owned());
        our_meaning == theirs && their_meaning == ours
    }
}

/// Whether two answers say the same.
fn same(ours: &str, theirs: &str, versions: &mut Versions) -> bool {
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
    ours.len() == theirs.len()
        && (ours.iter().zip(theirs)).all(|(ours, theirs)| same_line(ours, theirs, versions))
}

fn same_line(ours: &str, theirs: &str, versions: &mut Versions) -> bool {
    let is_list = ours.starts_with("VALUE ") && theirs.starts_with("VALUE ");
    let is_meta = ["HD", "VA ", "EX", "NS", "NF"]
        .iter()
        .any(|code| ours.starts_with(code));
    if ours == theirs && !is_list && !is_meta {
        return true;
    }
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.split(' ').collect(), theirs.split(' ').collect());
    let same_word = |(at, (ours, theirs)): (usize, (&&str, &&str))| {
        let number = |word: &str, flag: char| word.strip_prefix(flag).map(str::to_owned);
        let both = |flag| Some((number(ours, flag)?, number(theirs, flag)?));
        if is_list && at == 4 {
            return versions.agree(ours, theirs);
        }
        if is_meta && let Some((ours, theirs)) = both('c') {
            return versions.agree(&ours, &theirs);
        }
        if is_meta && let Some((ours, theirs)) = both('t') {
            let seconds = |text: String| text.parse::<i64>().unwrap_or(i64::MIN);
            return (seconds(ours) - seconds(theirs)).abs() <= 1;
        }
        ours == theirs
    };
    ours.len() == theirs.len() && ours.iter().zip(&theirs).enumerate().all(same_word)
}

/// Whether they do once numbers are as long as they have digits.
fn same_but_for_padding(ours: &str, theirs: &str, versions: &mut Versions) -> bool {
    let plain = |text: &str| {
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let mut words: Vec<&str> = line.trim_end().split(' ').collect();
            match words[..] {
                ["VALUE", _, _, _] => words[3] = "some",
                ["VA", ..] => words[1] = "some",
                _ => {}
            }
            lines.push(words.join(" "));
        }
        lines.join("\n")
    };
    same(&plain(ours), &plain(theirs), versions)
}

/// Whether memcached says of a number from 2^63 on that it is none, or would say so if it were asked.
fn is_misread(text: &str, theirs: &str) -> bool {
    let is_large = |line: &str| line.parse::<u64>().is_ok_and(|number| number >= 1 << 63);
    let is_said = theirs.contains("non-numeric value") || text.contains("noreply");
    is_said && theirs.lines().any(is_large)
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_commands_are_answered_alike_but_for_what_is_listed() {
    let seed = number_from_environment("LARDER_TEST_SEED", 1);
    let steps = number_from_environment("LARDER_TEST_STEPS", STEPS);
    let running = start(Settings {
        memcached: vec![Address::Tcp(([127, 0, 0, 1], 0).into())],
        ..settings(1)
    });
    let Address::Tcp(address) = running.memcached_addresses()[0] else {
        panic!("listens on TCP")
    };
    let memcached = Memcached::start();
    let (mut larder, mut memcached_peer) =
        (Peer::connect(address), Peer::connect(memcached.address()));
    println!("memcached {}", memcached_peer.ask("version\r\n").trim_end());
    println!(
        "{steps} steps with the seed {seed}; LARDER_TEST_STEPS and LARDER_TEST_SEED change that"
    );
    let mut random = StdRng::seed_from_u64(seed);
    let mut versions = Versions::default();
    let mut differing: BTreeMap<Difference, (u64, u64)> = BTreeMap::new();
    for number in 0..steps {
        let step = steps::step(&mut random);
        let (ours, theirs) = (larder.take(&step), memcached_peer.take(&step));
        let same = same(&ours, &theirs, &mut versions);
        let mut known = step.known;
        if known == Some(Difference::Padding)
            && !same_but_for_padding(&ours, &theirs, &mut versions)
        {
            let context = format!("step {number}: {:?}", step.text);
            let is_misread = is_misread(&step.text, &theirs);
            assert!(
                is_misread,
                "{context}\nlarder    {ours:?}\nmemcached {theirs:?}"
            );
            known = Some(Difference::Misread);
        }
        let Some(known) = known else {
            assert!(
                same,
                "step {number}: {:?}\nlarder    {ours:?}\nmemcached {theirs:?}",
                step.text
            );
            continue;
        };
        let (asked, differed) = differing.entry(known).or_default();
        (*asked, *differed) = (*asked + 1, *differed + u64::from(!same));
        if !same {
            // They go on from the same state.
            for peer in [&mut larder, &mut memcached_peer] {
                peer.ask(&format!("delete {} noreply\r\n", step.key));
            }
        }
    }
    println!("the answers were the same, but for these:");
    for difference in Difference::ALL {
        let (asked, differed) = differing.get(difference).copied().unwrap_or_default();
        println!(
            "{differed:>6} of {asked:>6}  {difference:?}: {}",
            difference.why()
        );
    }
}
