//! Both servers over a socket: what is asked for in parts, together with others, and by a client that
//! reads late.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::Io;
use crate::requests::Replies;
use crate::uring;

const VALUE_BYTES: usize = 4096;

/// A server that lasts as long as the tests; none where the kernel has no io_uring for us.
fn start(io: Io) -> Option<SocketAddr> {
    if io == Io::Uring
        && let Err(refused) = uring::ring()
    {
        eprintln!("not tested here: {refused}");
        return None;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || io.serve(listener, &Replies::new(3, VALUE_BYTES)).unwrap());
    Some(address)
}

/// A client that fails in place of waiting for ever.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.set_write_timeout(patience).unwrap();
    stream
}

fn read_reply() -> String {
    let value = "v".repeat(VALUE_BYTES);
    format!("VALUE 000 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n")
}

fn expect(stream: &mut TcpStream, expected: &str) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(String::from_utf8_lossy(&received), expected);
}

fn answers_many_clients_in_parts(io: Io) {
    let Some(address) = start(io) else { return };
    let mut clients: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    for part in [
        "get a\r\nse",
        "t a 0 0 5\r\nget",
        "\r\n\r\nget b\r\nstats\r\n",
    ] {
        for client in &mut clients {
            client.write_all(part.as_bytes()).unwrap();
        }
    }
    let expected = format!("{}STORED\r\n{}END\r\n", read_reply(), read_reply());
    for client in &mut clients {
        expect(client, &expected);
    }
}

/// More replies than a socket's buffers hold, read only after all was asked for.
fn keeps_replies_for_a_late_reader(io: Io) {
    const READS: usize = 8_000;
    let Some(address) = start(io) else { return };
    let mut client = connect(address);
    client.write_all(&b"get a\r\n".repeat(READS)).unwrap();
    let mut other = connect(address);
    other.write_all(b"get a\r\n").unwrap();
    expect(&mut other, &read_reply());
    for _ in 0..READS {
        expect(&mut client, &read_reply());
    }
    client.write_all(b"foo\r\n").unwrap();
    expect(&mut client, "ERROR\r\n");
}

fn disconnects_nonsense_and_serves_on(io: Io) {
    let Some(address) = start(io) else { return };
    for _ in 0..100 {
        let mut client = connect(address);
        client.write_all(b"set a 0 0 x\r\n").unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"");
    }
    let mut client = connect(address);
    client.write_all(b"get a\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    expect(&mut client, &read_reply());
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn epoll_answers_many_clients_in_parts() {
    answers_many_clients_in_parts(Io::Epoll);
}

#[test]
fn uring_answers_many_clients_in_parts() {
    answers_many_clients_in_parts(Io::Uring);
}

#[test]
fn epoll_keeps_replies_for_a_late_reader() {
    keeps_replies_for_a_late_reader(Io::Epoll);
}

#[test]
fn uring_keeps_replies_for_a_late_reader() {
    keeps_replies_for_a_late_reader(Io::Uring);
}

#[test]
fn epoll_disconnects_nonsense_and_serves_on() {
    disconnects_nonsense_and_serves_on(Io::Epoll);
}

#[test]
fn uring_disconnects_nonsense_and_serves_on() {
    disconnects_nonsense_and_serves_on(Io::Uring);
}
