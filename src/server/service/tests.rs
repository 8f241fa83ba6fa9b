use std::io::{Read, Write};
use std::net::TcpStream;

use larder_protocol::{Decoded, HelloRequest, Request, RequestFrame, Status, decode_response};

use crate::engine::{Cache, Config};
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
