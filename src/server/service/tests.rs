use std::io::{Read, Write};
use std::net::TcpStream;

use larder_protocol::{Decoded, HelloRequest, Request, RequestFrame, Status, decode_response};

use super::{NEVER_MS, Service, Turned};
use crate::engine::{Cache, Config, Entry, Mode, Outcome};
use crate::server::ahead::tests::{connection, service};
use crate::server::{Address, Running, Server, Settings};

/// What a test sends to have the worker panic on it.
pub(in crate::server) const PANIC: &[u8] = b"please panic, this is a test";

pub(super) fn panic_where_asked(bytes: &[u8]) {
    assert!(!bytes.ends_with(PANIC), "asked to panic");
}

fn connect(running: &Running) -> TcpStream {
    let Address::Tcp(address) = running.addresses()[0] else {
        unreachable!("listens on TCP")
    };
    let mut stream = TcpStream::connect(address).unwrap();
    let mut hello = Vec::new();
    HelloRequest::new("test").encode(1, &mut hello);
    stream.write_all(&hello).unwrap();
    assert_eq!(status(&mut stream), Status::OK);
    stream
}

fn ping(stream: &mut TcpStream, echo: &[u8]) {
    let mut frame = Vec::new();
    let request = Request::Ping { echo };
    RequestFrame {
        id: 2,
        quiet: false,
        request,
    }
    .encode(&mut frame);
    stream.write_all(&frame).unwrap();
}

/// The status of the next frame.
fn status(stream: &mut TcpStream) -> Status {
    let mut received = Vec::new();
    loop {
        if let Decoded::Frame { frame, .. } = decode_response(&received, 1 << 20) {
            return frame.status;
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        received.push(byte[0]);
    }
}

#[test]
fn a_panic_ends_its_connection_with_a_word_and_no_other() {
    let listen = vec![Address::Tcp(([127, 0, 0, 1], 0).into())];
    let settings = Settings {
        listen,
        workers: 1,
        ..Settings::default()
    };
    let running = Server::start(settings, Cache::new(Config::new(8 << 20)).unwrap()).unwrap();
    let mut bystander = connect(&running);
    for _ in 0..3 {
        let mut unlucky = connect(&running);
        ping(&mut unlucky, PANIC);
        assert_eq!(status(&mut unlucky), Status::INTERNAL);
        assert_eq!(
            unlucky.read(&mut [0; 16]).unwrap(),
            0,
            "nothing comes after it"
        );
    }
    ping(&mut bystander, b"still here?");
    assert_eq!(status(&mut bystander), Status::OK);
    assert_eq!(running.shared.stations[0].counters.panics.get(), 3);
    assert_eq!(running.shared.budget.held_bytes(), 0);
}

/// Has it be this time in the next turn.
fn set_time(service: &mut Service, uptime_ms: u64) {
    service.now.uptime_ms = uptime_ms;
    service.now_is_fresh = true;
}

#[test]
fn with_each_mebibyte_that_is_skipped_the_time_for_it_begins_anew() {
    let (_running, mut service) = service();
    let (mut sender, _peer) = connection(1, b"");
    sender.begun_ms = 1_000;
    sender.skip_bytes = (3 << 20) + 100_000;
    set_time(&mut service, 2_000);
    assert_eq!(service.skip(&mut sender, 60_000), 60_000);
    assert_eq!(sender.begun_ms, 1_000, "that is no mebibyte");
    assert_eq!(service.skip(&mut sender, 60_000), 60_000);
    assert_eq!(sender.begun_ms, 2_000);
}

#[test]
fn with_each_mebibyte_that_is_sent_the_time_for_it_begins_anew() {
    let (_running, mut service) = service();
    let mut guard = service.session.pin(service.now.wall_ms);
    let key = guard.key(b"key").unwrap();
    let stored = guard.store(&key, Mode::Set, &Entry::of(&[7; 2_000_000]));
    assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
    drop(guard);
    let (mut reader, mut peer) = connection(1, b"get key\r\n");
    let (mut times, mut buffer) = (Vec::new(), vec![0; 50_000]);
    for uptime_ms in 1_000.. {
        set_time(&mut service, uptime_ms);
        assert_eq!(service.turn(&mut reader, None), Turned::Wait);
        if reader.waiting_ms == NEVER_MS {
            break;
        }
        times.push(reader.waiting_ms);
        peer.read_exact(&mut buffer).unwrap();
    }
    assert!(times.len() > 10, "it was sent in a few steps: {times:?}");
    times.dedup();
    // Once in the midst of it.
    assert!(times.len() == 2 && times[0] == 1_000, "{times:?}");
}
