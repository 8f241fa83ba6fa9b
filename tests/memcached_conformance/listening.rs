//! The second listener: where it listens, and what it shares with the first.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use larder::server::{Address, Settings};
use larder_protocol::Status;

use crate::script::{connect, server};
use crate::server_harness::{self, PATIENCE, Raw, settings, start};

fn hear(stream: &mut impl Read, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&got),
        String::from_utf8_lossy(expected)
    );
}

#[test]
fn there_is_none_unless_it_is_asked_for() {
    let running = start(settings(1));
    assert!(running.memcached_addresses().is_empty());
}

#[test]
fn both_protocols_speak_of_the_same_items() {
    let running = server(2);
    let (mut native, mut memcached) = (Raw::greeted(&running), connect(&running));
    native.send(&server_harness::set(1, "k", b"from the one"));
    assert_eq!(native.told().status, Status::OK);
    memcached.write_all(b"get k\r\n").unwrap();
    hear(&mut memcached, b"VALUE k 0 12\r\nfrom the one\r\nEND\r\n");
    memcached
        .write_all(b"set k 0 0 14\r\nfrom the other\r\n")
        .unwrap();
    hear(&mut memcached, b"STORED\r\n");
    native.send(&server_harness::get(2, "k"));
    assert_eq!(native.told().text, "from the other");
}

#[test]
fn it_listens_on_unix_sockets_and_on_several_addresses() {
    let path = std::env::temp_dir().join(format!("larder-{}-memcached.sock", std::process::id()));
    let tcp = Address::Tcp(([127, 0, 0, 1], 0).into());
    let running = start(Settings {
        memcached: vec![tcp, Address::Unix(path.clone())],
        ..settings(1)
    });
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"set k 0 0 1\r\na\r\n").unwrap();
    hear(&mut stream, b"STORED\r\n");
    let mut over_tcp = connect(&running);
    over_tcp.write_all(b"get k\r\n").unwrap();
    hear(&mut over_tcp, b"VALUE k 0 1\r\na\r\nEND\r\n");
    drop(running);
    assert!(!path.exists());
}

#[test]
fn one_connection_too_many_is_told_so_in_its_own_words() {
    let running = start(Settings {
        memcached: vec![Address::Tcp(([127, 0, 0, 1], 0).into())],
        connections_max: 1,
        ..settings(1)
    });
    let mut first = connect(&running);
    first.write_all(b"mn\r\n").unwrap();
    hear(&mut first, b"MN\r\n");
    let mut second = connect(&running);
    let mut told = Vec::new();
    second.read_to_end(&mut told).unwrap();
    assert_eq!(told, b"ERROR Too many open connections\r\n");
}

#[test]
fn a_drain_answers_what_has_come_and_ends_without_a_word() {
    let running = server(2);
    let mut stream = connect(&running);
    stream.write_all(b"set k 0 0 1\r\na\r\n").unwrap();
    hear(&mut stream, b"STORED\r\n");
    running.drain();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    running.join().unwrap();
}

/// A client may still hold a version from before, and find another server at the address.
#[test]
fn a_version_of_one_server_is_none_of_the_next() {
    let stored = |running: &_| {
        let mut stream = connect(running);
        stream
            .write_all(b"set k 0 0 1\r\na\r\ngets k\r\nquit\r\n")
            .unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let version = told.lines().nth(1).and_then(|line| line.rsplit(' ').next());
        version.unwrap().to_owned()
    };
    let version = stored(&server(1));
    let next = server(1);
    stored(&next);
    let mut stream = connect(&next);
    let cas = format!("cas k 0 0 1 {version}\r\nb\r\n");
    stream.write_all(cas.as_bytes()).unwrap();
    hear(&mut stream, b"EXISTS\r\n");
}
