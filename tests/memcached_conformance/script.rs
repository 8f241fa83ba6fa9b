//! Scripts of the text protocol, and how they run.
//!
//! What is sent and what is expected are written as text. `{key*250}` is `key` 250 times. In what is
//! expected, `{}` is any number, and `{name}` one that is the same each time and can be sent again.
//! `{now+100}` is the time of the Unix epoch in 100 seconds.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use larder::server::{Address, Running, Server, Settings};
use larder::{Cache, Config};

use crate::server_harness::{PATIENCE, Raw, settings, start};

/// LIMIT: steps of up to so many bytes are split at each of them; of longer ones, this many at both
/// ends.
const SPLITS_MAX: usize = 160;

/// What is sent, step by step, and what comes back for each step.
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [(&'static str, &'static str)],
}

/// Numbers that were captured.
type Captured = HashMap<String, String>;

/// A connection that speaks the text protocol.
struct Talk {
    stream: TcpStream,
    received: Vec<u8>,
    captured: Captured,
}

/// A server that listens for memcached's clients as well.
pub(crate) fn server(workers: usize) -> Running {
    start(Settings {
        memcached: vec![Address::Tcp(([127, 0, 0, 1], 0).into())],
        ..settings(workers)
    })
}

/// A connection to its memcached listener.
pub(crate) fn connect(running: &Running) -> TcpStream {
    let Address::Tcp(address) = running.memcached_addresses()[0] else {
        panic!("not a TCP address")
    };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A server whose cache has so much memory.
pub(crate) fn server_with(memory_bytes: u64, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(memory_bytes);
    config.sessions_max = 2;
    change(&mut config);
    let memcached = vec![Address::Tcp(([127, 0, 0, 1], 0).into())];
    let settings = Settings {
        memcached,
        ..settings(1)
    };
    Server::start(settings, Cache::new(config).unwrap()).unwrap()
}

pub(crate) fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
}

/// Reads exactly what is expected.
pub(crate) fn hear(stream: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    let shown = got.len().min(200);
    assert!(
        got == expected,
        "expected {:?}\ngot {:?}",
        String::from_utf8_lossy(&expected[..shown]),
        String::from_utf8_lossy(&got[..shown])
    );
}

/// Runs all scripts in every way.
pub(crate) fn run_in_every_way(scripts: &[Script]) {
    for workers in [1, 4] {
        let running = server(workers);
        for script in scripts {
            step_by_step(&running, script);
            byte_by_byte(&running, script);
            at_once(&running, script);
        }
    }
    let running = server(1);
    let mut control = Raw::greeted(&running);
    for script in scripts {
        split_at_every_byte(&running, &mut control, script);
    }
}

fn step_by_step(running: &Running, script: &Script) {
    let mut talk = Talk::begin(running);
    for (sent, expected) in script.steps {
        let bytes = talk.to_send(sent);
        talk.send(&bytes);
        talk.expect(expected, script.name);
    }
    talk.end(script.name);
}

fn byte_by_byte(running: &Running, script: &Script) {
    let mut talk = Talk::begin(running);
    for (sent, expected) in script.steps {
        let bytes = talk.to_send(sent);
        // Long steps are about their length.
        let single = bytes.len().min(SPLITS_MAX);
        for byte in &bytes[..single] {
            talk.send(&[*byte]);
        }
        talk.send(&bytes[single..]);
        talk.expect(expected, script.name);
    }
    talk.end(script.name);
}

/// Sends as many steps as possible in one write: up to one that needs an answer to be written.
fn at_once(running: &Running, script: &Script) {
    let mut talk = Talk::begin(running);
    let mut rest = script.steps;
    while !rest.is_empty() {
        let known = |&(sent, _): &(&str, &str)| talk.is_known(sent);
        let count = rest.iter().take_while(|step| known(step)).count().max(1);
        let (now, later) = rest.split_at(count);
        let bytes: Vec<u8> = now
            .iter()
            .flat_map(|(sent, _)| talk.to_send(sent))
            .collect();
        talk.send(&bytes);
        for (_, expected) in now {
            talk.expect(expected, script.name);
        }
        rest = later;
    }
    talk.end(script.name);
}

/// Every step in two parts, of which the server has read the first before the second is sent; as
/// often as the longest step has places to split it.
fn split_at_every_byte(running: &Running, control: &mut Raw, script: &Script) {
    let mut split = 1;
    loop {
        let mut talk = Talk::begin(running);
        let mut was_split = false;
        for (sent, expected) in script.steps {
            let bytes = talk.to_send(sent);
            let Some(place) = place(split, bytes.len()) else {
                talk.send(&bytes);
                talk.expect(expected, script.name);
                continue;
            };
            was_split = true;
            let read = control.figure("bytes_in");
            talk.send(&bytes[..place]);
            // The server has read the first part once the count shows it beside the questions.
            let mut asked = 0;
            control.wait_for_figure("bytes_in", |now| {
                asked += 16;
                now >= read + asked + place as u64
            });
            talk.send(&bytes[place..]);
            let context = format!("{}, split at {place}", script.name);
            talk.expect(expected, &context);
        }
        talk.end(script.name);
        if !was_split {
            return;
        }
        split += 1;
    }
}

/// Where a step of so many bytes is split in the n-th run.
fn place(split: usize, bytes: usize) -> Option<usize> {
    match bytes {
        _ if split < bytes.min(SPLITS_MAX) => Some(split),
        SPLITS_MAX.. if split < 2 * SPLITS_MAX => Some(bytes - (2 * SPLITS_MAX - split)),
        _ => None,
    }
    .filter(|&place| place > 0 && place < bytes)
}

impl Talk {
    /// Connects, and empties the cache.
    fn begin(running: &Running) -> Self {
        let mut talk = Self {
            stream: connect(running),
            received: Vec::new(),
            captured: Captured::new(),
        };
        talk.send(b"flush_all\r\n");
        talk.expect("OK\r\n", "the flush before a script");
        talk
    }

    fn send(&mut self, bytes: &[u8]) {
        // A server that refuses what it is sent may have closed.
        let _ = self.stream.write_all(bytes);
    }

    /// Whether everything in a text is known that it needs.
    fn is_known(&self, text: &str) -> bool {
        parts(text).iter().all(|part| match part {
            Part::Captured(name) => self.captured.contains_key(*name),
            _ => true,
        })
    }

    fn to_send(&self, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts(text) {
            match part {
                Part::Literal(literal) => bytes.extend_from_slice(literal.as_bytes()),
                Part::Repeated(literal, count) => bytes.extend(literal.repeat(count).bytes()),
                Part::Seconds(from_now) => bytes.extend((now_s() + from_now).to_string().bytes()),
                Part::Captured(name) => bytes.extend_from_slice(self.captured[name].as_bytes()),
                Part::Number => panic!("a number that is sent has a name"),
            }
        }
        bytes
    }

    /// Reads on until what was expected is there.
    fn expect(&mut self, expected: &str, context: &str) {
        loop {
            match self.matched(expected) {
                Matched::Whole(bytes) => {
                    self.received.drain(..bytes);
                    return;
                }
                Matched::Begun if self.read_some() => {}
                _ => panic!(
                    "{context}\nexpected {expected:?}\ngot      {:?}",
                    String::from_utf8_lossy(&self.received)
                ),
            }
        }
    }

    fn matched(&mut self, expected: &str) -> Matched {
        let mut at = 0;
        for part in parts(expected) {
            let literal = match part {
                Part::Literal(literal) => literal.to_owned(),
                Part::Repeated(literal, count) => literal.repeat(count),
                Part::Captured(name) if self.captured.contains_key(name) => {
                    self.captured[name].clone()
                }
                Part::Captured(_) | Part::Number => {
                    let digits = self.received[at..].iter();
                    let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
                    if at + count == self.received.len() {
                        return Matched::Begun;
                    }
                    let digits = self.received[at..at + count].to_vec();
                    let digits = String::from_utf8(digits).unwrap();
                    if digits.is_empty() {
                        return Matched::Other;
                    }
                    if let Part::Captured(name) = part {
                        self.captured.insert(name.to_owned(), digits.clone());
                    }
                    digits
                }
                Part::Seconds(_) => panic!("what is expected does not depend on the time"),
            };
            let rest = &self.received[at..];
            let common = rest.len().min(literal.len());
            if rest[..common] != literal.as_bytes()[..common] {
                return Matched::Other;
            }
            if common < literal.len() {
                return Matched::Begun;
            }
            at += literal.len();
        }
        Matched::Whole(at)
    }

    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// Nothing may be left to be read.
    fn end(mut self, context: &str) {
        // It may be gone already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        while self.read_some() {}
        let rest = String::from_utf8_lossy(&self.received);
        assert!(rest.is_empty(), "{context}\nleft over: {rest:?}");
    }
}

/// How far what came is what was expected.
enum Matched {
    Whole(usize),
    Begun,
    Other,
}

/// A part of the notation.
enum Part<'t> {
    Literal(&'t str),
    Repeated(&'t str, usize),
    Seconds(u64),
    Captured(&'t str),
    Number,
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, behind)) = rest.split_once('{') {
        parts.push(Part::Literal(literal));
        let (inside, behind) = behind.split_once('}').expect("a brace is closed");
        parts.push(match (inside, inside.split_once(['*', '+'])) {
            ("", _) => Part::Number,
            (_, Some(("now", seconds))) => Part::Seconds(seconds.parse().unwrap()),
            (_, Some((literal, count))) => Part::Repeated(literal, count.parse().unwrap()),
            (name, None) => Part::Captured(name),
        });
        rest = behind;
    }
    parts.push(Part::Literal(rest));
    parts
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
