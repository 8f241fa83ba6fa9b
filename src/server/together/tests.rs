use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;
use crate::server::WORKERS_MAX;
use crate::server::ahead::tests::{connection, service};
use crate::server::connection::Cause;
use crate::server::inputs::INPUT_AHEAD_BYTES;
use crate::server::service::tests::PANIC;

/// Connections of a service, to each of which something was sent, and their other ends.
struct Party {
    service: Service,
    together: Together,
    connections: Slab<Connection>,
    peers: Vec<UnixStream>,
}

/// A server, and a party beside its own; none where the system has no io_uring for us.
fn party(sent: &[&[u8]]) -> Option<(crate::server::Running, Party)> {
    let together = Together::new(1);
    let together = together
        .inspect_err(|refused| eprintln!("not tested here: {refused}"))
        .ok()?;
    let (running, service) = service();
    let (mut connections, mut peers) = (Slab::new(), Vec::new());
    for (number, sent) in sent.iter().enumerate() {
        let (connection, peer) = connection(number as u64, sent);
        connections.insert(connection);
        peers.push(peer);
    }
    let party = Party {
        service,
        together,
        connections,
        peers,
    };
    Some((running, party))
}

impl Party {
    /// A turn for each of the first connections; what each then needs.
    fn turns(&mut self, of: usize) -> Vec<Turned> {
        let keys: Vec<usize> = (0..of).collect();
        let turns = self
            .together
            .turns(&mut self.service, &mut self.connections, &keys);
        let turned: Vec<_> = turns.collect();
        assert!(turned.iter().map(|(key, _)| *key).eq(keys));
        turned.into_iter().map(|(_, turned)| turned).collect()
    }

    fn say(&mut self, to: usize, what: &[u8]) {
        self.peers[to].write_all(what).unwrap();
        self.connections[to].readable = true;
    }

    fn hear(&mut self, from: usize, expected: &str) {
        let mut heard = vec![0; expected.len()];
        self.peers[from].read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), expected);
    }
}

#[test]
fn all_have_their_turns_and_their_replies() {
    let sent: [&[u8]; 5] = [
        b"set key 0 0 5\r\nvalue\r\nget key\r\n",
        b"get key\r\nget ",
        b"version\r\n",
        b"",
        b"delete key noreply\r\n",
    ];
    let Some((running, mut party)) = party(&sent) else {
        return;
    };
    let counters = &running.shared.stations[0].counters;
    assert_eq!(party.turns(5), [Turned::Wait; 5]);
    party.hear(0, "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n");
    party.hear(1, "VALUE key 0 5\r\nvalue\r\nEND\r\n");
    party.hear(2, "VERSION ");
    assert_eq!((counters.reads.get(), counters.writes.get()), (4, 3));
    // The second puts both parts of its request together; what it asks for is gone.
    party.say(1, b"key\r\n");
    party.say(2, b"get key\r\n");
    assert_eq!(party.turns(3), [Turned::Wait; 3]);
    party.hear(1, "END\r\n");
    assert_eq!(counters.writes.get(), 5);
    assert!(party.service.kept.replies.is_empty());
}

#[test]
fn more_than_one_call_takes_are_served_call_by_call() {
    let requests: Vec<String> = (0..SOCKETS_MAX)
        .map(|at| format!("set key{at} 0 0 2\r\n{at:02}\r\nget key{at}\r\n"))
        .collect();
    let sent: Vec<&[u8]> = requests.iter().map(|it| it.as_bytes()).collect();
    let Some((_running, mut party)) = party(&sent) else {
        return;
    };
    assert_eq!(party.turns(SOCKETS_MAX), [Turned::Wait; SOCKETS_MAX]);
    for at in 0..SOCKETS_MAX {
        party.hear(
            at,
            &format!("STORED\r\nVALUE key{at} 0 2\r\n{at:02}\r\nEND\r\n"),
        );
    }
}

#[test]
fn a_panic_takes_nothing_from_the_others() {
    let sent: [&[u8]; 3] = [b"set key 0 0 1\r\n1\r\n", PANIC, b"get key\r\n"];
    let Some((running, mut party)) = party(&sent) else {
        return;
    };
    let turned = party.turns(3);
    assert_eq!((turned[0], turned[2]), (Turned::Wait, Turned::Wait));
    assert_ne!(turned[1], Turned::Close(Cause::Panic), "it is told why");
    party.hear(0, "STORED\r\n");
    party.hear(1, "SERVER_ERROR ");
    party.hear(2, "VALUE key 0 1\r\n1\r\nEND\r\n");
    assert_eq!(running.shared.stations[0].counters.panics.get(), 1);
}

#[test]
fn whoever_ends_ends_alone() {
    let sent: [&[u8]; 4] = [
        b"get key\r\n",
        b"get key\r\n",
        b"get key\r\nquit\r\n",
        b"get key\r\n",
    ];
    let Some((_running, mut party)) = party(&sent) else {
        return;
    };
    assert_eq!(party.turns(4), [Turned::Wait; 4], "the third lingers");
    party.hear(0, "END\r\n");
    party.hear(2, "END\r\n");
    party.hear(3, "END\r\n");
    party.say(3, b"get key\r\n");
    // The first has said and read everything; the second leaves its reply unread, which is a reset.
    party.peers.drain(..2);
    party.connections[0].readable = true;
    party.connections[1].readable = true;
    let gone = [Turned::Close(Cause::Finished), Turned::Close(Cause::Io)];
    assert_eq!(party.turns(4), [&gone[..], &[Turned::Wait; 2]].concat());
    party.peers[1].read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn whoever_does_not_read_gets_all_replies_when_it_does() {
    const VALUE_BYTES: usize = 10_000;
    let Some((running, mut party)) = party(&[b"", b""]) else {
        return;
    };
    let value = "v".repeat(VALUE_BYTES);
    let reply = format!("VALUE key 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n");
    let set = format!("set key 0 0 {VALUE_BYTES}\r\n{value}\r\n");
    party.say(0, set.as_bytes());
    assert_eq!(party.turns(2), [Turned::Wait; 2]);
    party.hear(0, "STORED\r\n");
    let mut asked = 0;
    while !party.connections[0].has_backlog() {
        party.say(0, b"get key\r\n");
        party.say(1, b"get key\r\n");
        assert_eq!(party.turns(2), [Turned::Wait; 2]);
        party.hear(1, &reply);
        asked += 1;
    }
    assert_eq!(running.shared.stations[0].counters.backlogs.get(), 1);
    // What it asks for meanwhile waits behind that, and nobody waits for it.
    party.say(0, b"get key\r\n");
    party.say(1, b"get key\r\n");
    assert_eq!(party.turns(2), [Turned::Wait; 2]);
    party.hear(1, &reply);
    let expected = reply.repeat(asked + 1).into_bytes();
    let (mut heard, mut room) = (Vec::new(), vec![0; 64 << 10]);
    while heard.len() < expected.len() {
        let bytes = party.peers[0].read(&mut room).unwrap();
        heard.extend_from_slice(&room[..bytes]);
        party.turns(2);
    }
    assert!(heard == expected);
    assert!(!party.connections[0].has_backlog());
}

#[test]
fn long_requests_and_long_replies_go_their_own_way() {
    let value = "v".repeat(INPUT_AHEAD_BYTES + 4_000);
    let set = format!("set key 0 0 {}\r\n{value}\r\n", value.len());
    let Some((_running, mut party)) = party(&[set.as_bytes(), b"get key\r\n"]) else {
        return;
    };
    let reply = format!("VALUE key 0 {}\r\n{value}\r\nEND\r\n", value.len());
    assert_eq!(party.turns(2), [Turned::Again, Turned::Wait]);
    party.hear(1, "END\r\n");
    assert!(!party.connections[0].begins_with_a_read());
    party.say(1, b"get none\r\n");
    // (What fills its buffer may not be all.)
    while party.turns(2)[0] == Turned::Again {}
    party.hear(0, "STORED\r\n");
    party.hear(1, "END\r\n");
    for at in 0..2 {
        party.say(at, b"get none\r\nget key\r\nget none\r\n");
    }
    assert_eq!(party.turns(2), [Turned::Wait; 2]);
    for at in 0..2 {
        party.hear(at, "END\r\n");
        party.hear(at, &reply);
        party.hear(at, "END\r\n");
    }
    assert!(
        party.connections[0].begins_with_a_read(),
        "it is brief again"
    );
}

#[test]
fn whoever_is_not_brief_is_read_from_once_for_each_time_it_says_something() {
    let value = "v".repeat(INPUT_AHEAD_BYTES + 4_000);
    let set = format!("set key 0 0 {}\r\n{value}\r\n", value.len());
    let Some((running, mut party)) = party(&[b"", b""]) else {
        return;
    };
    let counters = &running.shared.stations[0].counters;
    let mut reads = Vec::new();
    for request in [&set[..], &set, &set, "get none\r\n", "get none\r\n"] {
        let before = counters.reads.get();
        party.say(0, request.as_bytes());
        while party.turns(2)[0] == Turned::Again {}
        reads.push(counters.reads.get() - before);
    }
    assert!(reads[0] > 1, "it was taken to be brief");
    assert_eq!(reads[1..], [1; 4]);
    assert!(party.connections[0].begins_with_a_read());
}

/// What a client is told that has asked for figures, and where among them is this one.
fn figure(told: &str, name: &str) -> u64 {
    let mut lines = told.lines();
    let figure = lines.find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    figure.unwrap().parse().unwrap()
}

#[test]
fn nobodys_replies_wait_for_more_than_one_long_turn() {
    const BRIEF: &[u8] = b"get none\r\n";
    let long = BRIEF.repeat(REQUESTS_NOT_LONG as usize + 1);
    for (second, sent_bytes) in [(BRIEF, 0), (&long, 5 * (1 + 129))] {
        let sent = [BRIEF, second, b"stats\r\n", BRIEF];
        let Some((_running, mut party)) = party(&sent) else {
            return;
        };
        assert_eq!(party.turns(4), [Turned::Wait; 4]);
        party.hear(0, "END\r\n");
        party.hear(1, &"END\r\n".repeat(second.len() / BRIEF.len()));
        party.hear(3, "END\r\n");
        let mut told = vec![0; 64 << 10];
        let bytes = party.peers[2].read(&mut told).unwrap();
        let told = String::from_utf8_lossy(&told[..bytes]);
        assert_eq!(figure(&told, "bytes_written"), sent_bytes, "{told}");
    }
}

#[test]
fn what_all_workers_read_and_keep_at_a_time_takes_8_mib() {
    for workers in 1..=128 {
        let connections = connections_max(workers) * workers;
        let bytes = connections * (INPUT_AHEAD_BYTES + KEPT_BYTES_MAX);
        assert!(bytes <= 8 << 20, "{workers} workers: {bytes} bytes");
    }
    assert_eq!(connections_max(4), SOCKETS_MAX);
    assert_eq!(connections_max(WORKERS_MAX), OF_A_WORKER_MIN);
}
