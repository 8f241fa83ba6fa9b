//! The black boxes of a running server, read through their descriptors as another process would.
#![cfg(feature = "server")]

mod server_harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use larder::blackbox::{BlackBox, Fingerprint, Kind, Operation, Outcome, Peer, Phase, Record};
use larder::server::{Address, Quarantined, Running, Server, Settings};
use larder::{Cache, Config};
use larder_protocol::{Class, Status};
use server_harness::{PATIENCE, Raw, get, ping, request, set, settings, start};

/// What another process sees of a box.
fn attached(black_box: &BlackBox) -> BlackBox {
    let memory = black_box.memory().try_clone_to_owned().unwrap();
    BlackBox::attach(memory).unwrap()
}

fn worker(running: &Running, number: usize) -> BlackBox {
    attached(&running.boxes().workers[number])
}

/// Looks at the box until it has what is wanted.
fn wait_for<T>(black_box: &BlackBox, mut look: impl FnMut(&BlackBox) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look(black_box) {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", black_box.snapshot());
        std::thread::yield_now();
    }
}

fn asleep(black_box: &BlackBox) -> larder::blackbox::Snapshot {
    wait_for(black_box, |black_box| {
        let snapshot = black_box.snapshot();
        let sleeps = snapshot.phase == Some(Phase::Sleeping) && !snapshot.is_moving;
        sleeps.then_some(snapshot)
    })
}

fn count(black_box: &BlackBox, name: &str) -> u64 {
    let counts = black_box.counts();
    let found = counts.iter().find(|(of, _)| of == name);
    found.unwrap_or_else(|| panic!("{counts:?}")).1
}

fn memcached(settings: Settings) -> Settings {
    let memcached = vec![Address::Tcp(([127, 0, 0, 1], 0).into())];
    Settings {
        memcached,
        ..settings
    }
}

/// Sends bytes to the listener of memcached's protocol, and reads until the answer ends so.
fn say(running: &Running, bytes: &[u8], end: &[u8]) -> String {
    let Address::Tcp(address) = running.memcached_addresses()[0] else {
        unreachable!("listens on TCP")
    };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(end) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(answer).unwrap()
}

fn of(records: &[Record], operation: Operation) -> Vec<Record> {
    let of = |record: &&Record| record.operation == Some(operation);
    records.iter().filter(of).copied().collect()
}

#[test]
fn a_box_says_who_does_what_for_whom() {
    let running = start(settings(1));
    let black_box = worker(&running, 0);
    assert_eq!(
        (black_box.kind(), black_box.number()),
        (Some(Kind::Worker), 0)
    );
    let mut raw = Raw::greeted(&running);
    let local = raw.stream.local_addr().unwrap();
    raw.send(&[set(2, "key", b"value"), get(3, "key"), get(4, "none")].concat());
    for _ in 0..3 {
        raw.told();
    }
    let snapshot = asleep(&black_box);
    assert_eq!(snapshot.process, std::process::id());
    assert_ne!(snapshot.thread, std::process::id());
    assert!(snapshot.session > 0);
    assert!(snapshot.build.starts_with("larder "), "{}", snapshot.build);
    assert!(snapshot.started_ns > 0 && snapshot.since_ns > snapshot.started_ns);
    assert_eq!((snapshot.connections, snapshot.untaken), (1, 0));
    assert!(snapshot.turns > 0 && !snapshot.is_torn);
    let connection = snapshot.connection.unwrap();
    assert_eq!(connection.peer, Peer::Tcp(local));
    assert_eq!(snapshot.operation, None);

    let records = black_box.operations();
    let set = of(&records, Operation::Set)[0];
    assert_eq!(set.outcome, Some(Outcome::Stored));
    assert_eq!((set.key_bytes, set.value_bytes), (3, 5));
    let [hit, miss] = of(&records, Operation::Get)[..] else {
        panic!("{records:?}")
    };
    assert_eq!(hit.outcome, Some(Outcome::Hit));
    assert_eq!((hit.key_hash, hit.value_bytes), (set.key_hash, 5));
    assert_eq!(miss.outcome, Some(Outcome::Miss));
    assert_ne!(miss.key_hash, set.key_hash);
    for record in [set, hit, miss] {
        assert_eq!(record.connection, Some(connection.number));
        let (start_ns, duration_ns) = record.batch.unwrap();
        assert!(start_ns > snapshot.started_ns && duration_ns > 0);
    }
    assert_eq!(count(&black_box, "connections_opened"), 1);
    assert_eq!(count(&black_box, "requests"), records.len() as u64);
    let latencies = black_box.latencies();
    let counted = latencies
        .iter()
        .map(|one| one.histogram.count())
        .sum::<u64>();
    assert_eq!(counted, records.len() as u64);

    drop(raw);
    let gone = wait_for(&black_box, |black_box| {
        let snapshot = black_box.snapshot();
        (snapshot.connections == 0).then_some(snapshot)
    });
    assert_eq!(
        gone.connection,
        Some(connection),
        "who was served last stays"
    );
    let (upkeep, acceptor) = (
        attached(&running.boxes().upkeep),
        attached(&running.boxes().acceptor),
    );
    assert_eq!(acceptor.snapshot().process, std::process::id());
    drop(running);
    for black_box in [black_box, upkeep, acceptor] {
        assert_eq!(black_box.snapshot().phase, Some(Phase::Ended));
    }
}

#[test]
fn the_ring_keeps_the_last_operations_and_numbers_them() {
    let running = start(settings(1));
    let black_box = worker(&running, 0);
    let mut raw = Raw::greeted(&running);
    for round in 0..5_u32 {
        let frames: Vec<_> = (0..1000)
            .flat_map(|id| get(id, &format!("{round}")))
            .collect();
        raw.send(&frames);
        for _ in 0..1000 {
            raw.told();
        }
    }
    raw.send(&ping(1));
    raw.told();
    asleep(&black_box);
    let records = black_box.operations();
    assert_eq!(records.len(), 4096);
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(records.last().unwrap().operation, Some(Operation::Ping));
    assert!(records.iter().all(|record| record.batch.is_some()));
    assert!(records.iter().all(|record| !record.is_open()));
    let (first, second) = (records[0].key_hash, records[records.len() - 2].key_hash);
    assert_ne!(first, second);
}

#[test]
fn requests_of_both_protocols_have_their_names() {
    let running = start(memcached(settings(1)));
    let black_box = worker(&running, 0);
    let bytes = "set a 0 0 1\r\n1\r\nincr a 2\r\nappend a 0 0 1\r\n5\r\nget a b c\r\nmg a v\r\n\
        delete a\r\ntouch a 5\r\nget nothing\r\nadd a 0 0 99999999\r\n";
    let answer = say(&running, bytes.as_bytes(), b"large for cache\r\n");
    assert!(answer.contains("VALUE a 0 2\r\n35"), "{answer}");
    asleep(&black_box);
    let records = black_box.operations();
    let outcome = |operation| of(&records, operation)[0].outcome.unwrap();
    assert_eq!(outcome(Operation::Set), Outcome::Stored);
    assert_eq!(outcome(Operation::Increment), Outcome::Stored);
    assert_eq!(outcome(Operation::Append), Outcome::Stored);
    assert_eq!(outcome(Operation::GetEach), Outcome::Done);
    assert_eq!(outcome(Operation::GetOrLease), Outcome::Hit);
    assert_eq!(outcome(Operation::Delete), Outcome::Done);
    assert_eq!(outcome(Operation::Touch), Outcome::Miss);
    assert_eq!(outcome(Operation::Get), Outcome::Miss);
    let each = of(&records, Operation::GetEach)[0];
    assert_eq!(each.value_bytes, 2, "the sum of all");
    assert_ne!(each.key_hash, 0, "the last key that it came to");
}

#[test]
fn a_large_value_is_an_operation_like_others() {
    let running = start(settings(1));
    let black_box = worker(&running, 0);
    let mut raw = Raw::greeted(&running);
    let value = vec![b'v'; 3 << 20];
    raw.send(&set(2, "large", &value));
    assert_eq!(raw.told().status, Status::OK);
    asleep(&black_box);
    let record = of(&black_box.operations(), Operation::Set)[0];
    assert_eq!(record.outcome, Some(Outcome::Stored));
    assert_eq!((record.key_bytes, record.value_bytes), (5, 3 << 20));
    assert!(record.batch.is_some_and(|(_, duration_ns)| duration_ns > 0));
}

#[test]
fn the_acceptor_avoids_a_worker_while_there_is_another() {
    let running = start(settings(2));
    let boxes = [worker(&running, 0), worker(&running, 1)];
    let opened = |number: usize| count(&boxes[number], "connections_opened");
    boxes[0].set_avoided(true);
    let steered: Vec<Raw> = (0..6).map(|_| Raw::greeted(&running)).collect();
    assert_eq!((opened(0), opened(1)), (0, 6));
    boxes[1].set_avoided(true);
    let both: Vec<Raw> = (0..6).map(|_| Raw::greeted(&running)).collect();
    assert_eq!(
        (opened(0), opened(1)),
        (6, 6),
        "the fewest, where all are avoided"
    );
    boxes[0].set_avoided(false);
    let last = Raw::greeted(&running);
    assert_eq!((opened(0), opened(1)), (7, 6));
    drop((steered, both, last));
}

#[test]
fn the_board_has_the_figures_of_stats() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    raw.send(&set(2, "key", b"value"));
    raw.told();
    let upkeep = attached(&running.boxes().upkeep);
    let board = wait_for(&upkeep, |black_box| {
        let board = black_box.board();
        let has_it = board.figures().any(|figure| figure == ("stored", "1"));
        (has_it && !board.is_torn).then_some(board)
    });
    assert!(board.time_ns >= upkeep.snapshot().started_ns);
    let pid = std::process::id().to_string();
    assert!(board.figures().any(|figure| figure == ("pid", &pid)));
    for name in ["worker_0.requests", "worker_0.set_p99_ns", "ledger.index"] {
        assert!(
            board.figures().any(|(of, _)| of == name),
            "{name}: {}",
            board.text
        );
    }
}

/// A server whose cache hashes keys as the others of this test do.
fn start_seeded(quarantine: Vec<Fingerprint>) -> Running {
    let mut config = Config::new(64 << 20);
    (config.sessions_max, config.hash_seed) = (2, Some(7));
    let quarantine = quarantine.into_iter();
    let for_ever = |fingerprint| Quarantined {
        fingerprint,
        until_ms: u64::MAX,
    };
    let settings = Settings {
        quarantine: quarantine.map(for_ever).collect(),
        ..memcached(settings(1))
    };
    Server::start(settings, Cache::new(config).unwrap()).unwrap()
}

#[test]
fn what_has_brought_a_server_down_is_refused_by_name() {
    let large = vec![b'v'; 1 << 20];
    let running = start_seeded(Vec::new());
    let mut raw = Raw::greeted(&running);
    raw.send(&[set(2, "bad", &large), get(3, "bad")].concat());
    drop((raw.told(), raw.told()));
    asleep(&worker(&running, 0));
    let records = worker(&running, 0).operations();
    let fingerprints = [Operation::Get, Operation::Set]
        .map(|operation| of(&records, operation)[0].fingerprint().unwrap());
    assert_eq!(fingerprints[0].key_hash, fingerprints[1].key_hash);
    drop((raw, running));

    let with = |operation| Fingerprint {
        operation,
        ..fingerprints[0]
    };
    let many = [Operation::GetEach, Operation::MultiDelete].map(with);
    let running = start_seeded([fingerprints, many].concat());
    let mut raw = Raw::greeted(&running);
    let pair = b"\x04\0\0\0good\x03\0\0\0bad";
    let small = b"small";
    let delete = |key: &str| request(0x0b, 6, key.len() as u32, key.as_bytes());
    let frames = [
        get(1, "bad"),
        get(2, "good"),
        set(3, "bad", small),
        set(4, "bad", &large),
        request(0x0e, 5, 2, pair),
        delete("bad"),
    ];
    raw.send(&frames.concat());
    let told: Vec<_> = frames.iter().map(|_| raw.told()).collect();
    let statuses: Vec<_> = told.iter().map(|told| told.status).collect();
    let (refused, missed) = (Status::QUARANTINED, Status::NOT_FOUND);
    assert_eq!(
        statuses,
        [refused, missed, refused, refused, refused, missed]
    );
    assert!(
        told[0].text.contains("brought the server down"),
        "{}",
        told[0].text
    );
    assert_eq!(Status::QUARANTINED.class(), Class::Refused);

    let bytes = "get bad\r\nget good bad\r\nset bad 0 0 1\r\n1\r\nget good\r\n";
    let answer = say(&running, bytes.as_bytes(), b"END\r\n");
    let lines: Vec<_> = answer.lines().collect();
    assert_eq!(lines.len(), 4, "{answer}");
    for line in &lines[..3] {
        assert!(line.starts_with("SERVER_ERROR refused"), "{answer}");
    }
    assert_eq!(raw.figure("refused_quarantined"), 7);
    let records = worker(&running, 0).operations();
    let outcomes = of(&records, Operation::MultiDelete);
    assert_eq!(outcomes[0].outcome, Some(Outcome::Quarantined));
}

#[test]
fn without_black_boxes_counts_are_still_there() {
    let running = start(Settings {
        black_box: false,
        ..settings(1)
    });
    let black_box = worker(&running, 0);
    let mut raw = Raw::greeted(&running);
    raw.send(&get(2, "key"));
    raw.told();
    assert_eq!(raw.figure("requests"), 1);
    assert_eq!(count(&black_box, "batches"), 2);
    assert_eq!(black_box.operations(), []);
    assert_eq!(black_box.latencies(), []);
    assert_eq!(black_box.snapshot().phase, Some(Phase::Starting));
}
