//! The two ways to read and write, by io_uring and by epoll alone: the same to every client, and where the system
//! forbids the first, the second serves, or the server says why not.
#![cfg(feature = "server")]

#[path = "support/forbidden.rs"]
mod forbidden;
#[path = "support/process.rs"]
mod process;
mod server_harness;

use std::process::{Command, Stdio};

use forbidden::{IO_URING_CALLS, forbid, punish};
use larder::server::{Address, Io, Settings};
use process::{ServerProcess, larder};
use serde_json::Value;
use server_harness::{Raw, settings, start};

/// Clients whose requests come in parts and all at the same time; among them one that asks for much and reads it
/// late, and some that leave without having read.
fn serves_all_at_once(io: Io) {
    const CLIENTS: usize = 150;
    let running = start(Settings {
        io,
        memcached: vec![Address::Tcp(([127, 0, 0, 1], 0).into())],
        ..settings(1)
    });
    let Address::Tcp(address) = running.memcached_addresses()[0] else {
        panic!("not a TCP address")
    };
    let connect = || Raw::connect_to(address);
    let mut late = connect();
    let much = "v".repeat(60_000);
    late.send(format!("set much 0 0 60000\r\n{much}\r\n").as_bytes());
    assert_eq!(late.read_exactly(8), b"STORED\r\n");
    late.send(&b"get much\r\n".repeat(400));
    let mut clients: Vec<Raw> = (0..CLIENTS).map(|_| connect()).collect();
    for round in 0..20 {
        let cut = 1 + round * 2;
        let request = |at: usize| {
            format!("set key{at:03} 0 0 7\r\n{at:03}{round:04}\r\nget key{at:03}\r\nget none\r\n")
        };
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(&request(at).as_bytes()[..cut]);
        }
        let mut gone = connect();
        gone.send(&b"get much\r\n".repeat(5));
        drop(gone);
        for (at, client) in clients.iter_mut().enumerate() {
            client.send(&request(at).as_bytes()[cut..]);
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let expected =
                format!("STORED\r\nVALUE key{at:03} 0 7\r\n{at:03}{round:04}\r\nEND\r\nEND\r\n");
            let told = client.read_exactly(expected.len());
            assert_eq!(String::from_utf8(told).unwrap(), expected);
        }
    }
    let expected = format!("VALUE much 0 60000\r\n{much}\r\nEND\r\n");
    for _ in 0..400 {
        assert!(late.read_exactly(expected.len()) == expected.as_bytes());
    }
}

#[test]
fn clients_are_served_together() {
    serves_all_at_once(Io::Auto);
}

#[test]
fn clients_are_served_by_epoll_alone() {
    serves_all_at_once(Io::Epoll);
}

/// A server with these options, for which the system forbids a call if there is one.
fn serve(options: &[&str], forbidden: Option<libc::c_long>) -> ServerProcess {
    serve_with(options, |command| {
        if let Some(call) = forbidden {
            forbid(call, command);
        }
    })
}

fn serve_with(options: &[&str], change: impl Fn(&mut Command)) -> ServerProcess {
    let usual = ["serve", "--listen", "127.0.0.1:0", "--memory", "8MiB"];
    let mut command = larder(&[&usual, options].concat());
    command.env("LARDER_ADMIN", "none");
    change(&mut command);
    ServerProcess::run_by(&mut command, Stdio::piped())
}

/// How it reads and writes.
fn told_by(server: &ServerProcess) -> String {
    let stats = server.run(&["stats", "settings", "--json"]);
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    stats["io"].as_str().unwrap().to_owned()
}

/// With a supervisor or without, and each of the calls forbidden.
fn each_way() -> impl Iterator<Item = (&'static [&'static str], libc::c_long)> {
    const SUPERVISED: [&[&str]; 2] = [&["--no-supervisor"], &[]];
    SUPERVISED
        .into_iter()
        .flat_map(|supervised| IO_URING_CALLS.map(|call| (supervised, call)))
}

#[test]
fn where_io_uring_is_forbidden_epoll_serves() {
    for (supervised, call) in each_way() {
        let server = serve(supervised, Some(call));
        assert_eq!(told_by(&server), "epoll");
        assert_eq!(server.run(&["set", "key", "value"]).code, Some(0));
        server.signal("-TERM");
        let (code, log) = server.wait();
        assert_eq!(code, Some(0));
        assert!(log.contains("there is no io_uring"), "{log}");
    }
    let asked_for = serve(&["--io", "epoll"], None);
    assert_eq!(told_by(&asked_for), "epoll");
}

#[test]
fn io_uring_that_was_asked_for_and_is_forbidden_is_refused() {
    for (supervised, call) in each_way() {
        let server = serve(&[supervised, &["--io", "uring"]].concat(), Some(call));
        assert_eq!(server.ready(), "");
        let (code, log) = server.wait();
        assert_eq!(code, Some(2), "{log}");
        let sentence = "larder serve: io_uring cannot work here: Operation not permitted";
        assert!(log.contains(sentence), "{log}");
        assert!(log.contains("accepted: auto or epoll"), "{log}");
    }
}

#[test]
fn where_whoever_asks_for_io_uring_is_killed_epoll_serves() {
    for (supervised, call) in each_way() {
        let server = serve_with(supervised, |command| punish(call, command));
        assert_eq!(told_by(&server), "epoll");
        server.signal("-TERM");
        let (code, log) = server.wait();
        assert_eq!(code, Some(0));
        assert!(
            log.contains("the system kills whoever asks for it"),
            "{log}"
        );
        let insists = [supervised, &["--io", "uring"]].concat();
        let server = serve_with(&insists, |command| punish(call, command));
        let (code, log) = server.wait();
        assert_eq!(code, Some(2), "{log}");
        assert!(
            log.contains("the system kills whoever asks for it"),
            "{log}"
        );
    }
}

#[test]
fn io_uring_serves_where_the_system_has_it() {
    let server = serve(&["--io", "uring"], None);
    if server.ready().is_empty() {
        // This machine has none; then the server says so.
        let (code, log) = server.wait();
        assert_eq!(code, Some(2), "{log}");
        return;
    }
    assert_eq!(told_by(&server), "uring");
    assert_eq!(told_by(&serve(&[], None)), "uring", "also by default");
}
