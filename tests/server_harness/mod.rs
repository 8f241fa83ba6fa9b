//! What the tests of the server share: a server in this process, and a client that is nothing but
//! bytes, so that it can also send what no client would.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use larder::server::{Address, Io, Running, Server, Settings};
use larder::{Cache, Config};
use larder_protocol::{Decoded, Response, Status, decode_response};

/// Longer than anything that works takes. Nothing waits this long unless a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The greeting of a client.
pub const HELLO: &[u8] =
    b"\x01\0\0\0\x01\0\0\0\x04\0\0\0\x14\0\0\0LRDR\x01\0\x01\0\0\0\0\0\0\0\0\0demo";

/// Settings on a free port with this many workers; `LARDER_TEST_IO=epoll` has these read and write as where the
/// system has no io_uring.
pub fn settings(workers: usize) -> Settings {
    let listen = vec![Address::Tcp(([127, 0, 0, 1], 0).into())];
    let by_epoll = std::env::var("LARDER_TEST_IO").is_ok_and(|io| io == "epoll");
    Settings {
        listen,
        workers,
        io: if by_epoll { Io::Epoll } else { Io::Auto },
        ..Settings::default()
    }
}

/// A server on a cache of 64 MiB.
pub fn start(settings: Settings) -> Running {
    let mut config = Config::new(64 << 20);
    config.sessions_max = settings.workers as u32 + 1;
    Server::start(settings, Cache::new(config).unwrap()).unwrap()
}

/// The TCP address of a server.
pub fn address(running: &Running) -> SocketAddr {
    match running.addresses()[0] {
        Address::Tcp(address) => address,
        Address::Unix(_) => panic!("not a TCP address"),
    }
}

/// A frame of a request: the opcode, the word of its header, and its body.
pub fn request(opcode: u8, id: u32, word: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode, 0, 0, 0];
    for number in [id, word, body.len() as u32] {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    frame.extend_from_slice(body);
    frame
}

pub fn ping(id: u32) -> Vec<u8> {
    request(0x02, id, 0, b"")
}

pub fn get(id: u32, key: &str) -> Vec<u8> {
    request(0x08, id, key.len() as u32, key.as_bytes())
}

pub fn set(id: u32, key: &str, value: &[u8]) -> Vec<u8> {
    request(
        0x10,
        id,
        key.len() as u32,
        &[key.as_bytes(), value].concat(),
    )
}

/// What a client was told, as far as these tests look.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub opcode: u8,
    pub id: u32,
    pub status: Status,
    pub text: String,
    pub body_bytes: usize,
}

/// A connection to a server, byte by byte.
#[derive(Debug)]
pub struct Raw<S = TcpStream> {
    pub stream: S,
    received: Vec<u8>,
}

impl Raw<TcpStream> {
    /// Connects without a greeting.
    pub fn connect(running: &Running) -> Self {
        Self::connect_to(address(running))
    }

    pub fn connect_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream)
    }

    /// Connects and greets.
    pub fn greeted(running: &Running) -> Self {
        let mut raw = Self::connect(running);
        raw.greet();
        raw
    }

    /// Says that nothing more will be sent.
    pub fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Raw<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    pub fn greet(&mut self) {
        self.send(HELLO);
        let told = self.told();
        assert_eq!((told.opcode, told.status), (0x01, Status::OK));
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads exactly so many bytes.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(
                self.read_some(),
                "the connection ended after {} of {count} bytes, the first {:02x?}",
                self.received.len(),
                &self.received[..self.received.len().min(64)]
            );
        }
        self.received.drain(..count).collect()
    }

    /// The next frame.
    pub fn told(&mut self) -> Told {
        self.next().expect("the connection ended before a frame")
    }

    /// The next frame, or nothing where the connection ends.
    pub fn next(&mut self) -> Option<Told> {
        loop {
            if let Decoded::Frame { frame, consumed } =
                decode_response(&self.received, u32::MAX >> 2)
            {
                let text = match frame.response {
                    Response::Failed { message } | Response::Close { message } => {
                        message.to_owned()
                    }
                    Response::Value(value) => String::from_utf8_lossy(value.bytes).into_owned(),
                    _ => String::new(),
                };
                let (opcode, id, status) = (frame.opcode, frame.id, frame.status);
                self.received.drain(..consumed);
                return Some(Told {
                    opcode,
                    id,
                    status,
                    text,
                    body_bytes: consumed - 16,
                });
            }
            if !self.read_some() {
                return None;
            }
        }
    }

    /// Waits for the end of the connection; what comes before it is returned.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read_some() {}
        std::mem::take(&mut self.received)
    }

    /// Waits for the end of the connection, before which nothing may come.
    pub fn expect_end(&mut self) {
        let rest = self.rest();
        let first = &rest[..rest.len().min(64)];
        assert!(rest.is_empty(), "before the end came {first:02x?}");
    }

    /// Reads what there is; says whether the connection goes on.
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// A figure of STATS.
    pub fn figure(&mut self, name: &str) -> u64 {
        self.figure_of("", name)
    }

    /// A figure of a group.
    pub fn figure_of(&mut self, group: &str, name: &str) -> u64 {
        self.send(&request(0x04, 99, 0, group.as_bytes()));
        loop {
            if let Decoded::Frame { frame, consumed } =
                decode_response(&self.received, u32::MAX >> 2)
            {
                let Response::Stats(pairs) = frame.response else {
                    panic!("{frame:?}")
                };
                let pair = pairs.iter().find(|pair| pair.name == name);
                let value = pair
                    .unwrap_or_else(|| panic!("no figure {name}"))
                    .value
                    .parse();
                self.received.drain(..consumed);
                return value.unwrap();
            }
            assert!(self.read_some());
        }
    }

    /// Asks for a figure until it is as wanted.
    pub fn wait_for_figure(&mut self, name: &str, mut wanted: impl FnMut(u64) -> bool) -> u64 {
        let start = Instant::now();
        loop {
            let value = self.figure(name);
            if wanted(value) {
                return value;
            }
            assert!(start.elapsed() < PATIENCE, "{name} stays at {value}");
        }
    }
}
