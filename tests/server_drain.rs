//! The end of a server: what was received is answered, and everybody is told.
#![cfg(feature = "server")]

mod server_harness;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use larder::server::{Running, Settings};
use larder_protocol::Status;
use server_harness::{PATIENCE, Raw, Told, address, get, ping, set, settings, start};

const DRAIN: u8 = 0xE0;
const CLOSE: u8 = 0xE1;

fn with_drain_timeout(drain_timeout: Duration) -> Running {
    start(Settings {
        drain_timeout,
        ..settings(2)
    })
}

fn assert_drained(raw: &mut Raw) {
    assert_eq!(raw.told().opcode, DRAIN);
    let told = raw.told();
    assert_eq!((told.opcode, told.status), (CLOSE, Status::DRAINED));
    raw.expect_end();
}

#[test]
fn idle_connections_are_told_and_closed_and_nobody_new_is_let_in() {
    let running = with_drain_timeout(PATIENCE);
    let mut idle: Vec<Raw> = (0..10).map(|_| Raw::greeted(&running)).collect();
    let mut stranger = Raw::connect(&running);
    let address = address(&running);
    let start = Instant::now();
    running.drain();
    for raw in &mut idle {
        assert_drained(raw);
    }
    assert_eq!(stranger.told().status, Status::DRAINED);
    stranger.expect_end();
    drop((idle, stranger));
    running.join().unwrap();
    assert!(
        start.elapsed() < PATIENCE / 2,
        "quiet connections do not take the whole timeout"
    );
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn requests_that_come_during_the_drain_are_answered() {
    let running = with_drain_timeout(PATIENCE);
    let mut raw = Raw::greeted(&running);
    raw.send(&set(1, "key", b"value")[..20]);
    running.drain();
    assert_eq!(raw.told().opcode, DRAIN);
    raw.send(&set(1, "key", b"value")[20..]);
    raw.send(&get(2, "key"));
    assert_eq!(raw.told().status, Status::OK);
    assert_eq!(raw.told().text, "value");
    assert_eq!(raw.told().status, Status::DRAINED);
    raw.expect_end();
    running.join().unwrap();
}

#[test]
fn replies_that_wait_for_their_reader_are_still_sent() {
    let running = with_drain_timeout(PATIENCE);
    let mut control = Raw::greeted(&running);
    control.send(&set(1, "key", &[b'v'; 20_000]));
    assert_eq!(control.told().status, Status::OK);
    let mut late = Raw::greeted(&running);
    const REQUESTS: u32 = 1000;
    let frames: Vec<u8> = (0..REQUESTS).flat_map(|id| get(id, "key")).collect();
    late.send(&frames);
    control.wait_for_figure("backlogs", |backlogs| backlogs > 0);
    running.drain();
    let (mut next_id, mut drain_notices) = (0, 0);
    let last = loop {
        match late.told() {
            Told { opcode: DRAIN, .. } => drain_notices += 1,
            Told {
                opcode: CLOSE,
                status,
                ..
            } => break status,
            Told { id, body_bytes, .. } => {
                assert_eq!((id, body_bytes), (next_id, 20_008));
                next_id += 1;
            }
        }
    };
    assert_eq!(
        (next_id, drain_notices, last),
        (REQUESTS, 1, Status::DRAINED)
    );
    late.expect_end();
    drop((late, control));
    running.join().unwrap();
}

#[test]
fn a_drain_ends_in_time_whatever_clients_do() {
    let running = with_drain_timeout(Duration::from_millis(200));
    let mut half = Raw::greeted(&running);
    half.send(&get(1, "key")[..17]);
    let mut control = Raw::greeted(&running);
    control.send(&set(1, "key", &[b'v'; 60_000]));
    assert_eq!(control.told().status, Status::OK);
    let mut stuck = Raw::greeted(&running);
    let frames: Vec<u8> = (0..1000).flat_map(|id| get(id, "key")).collect();
    let mut writer = stuck.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&frames));
    control.wait_for_figure("backlogs", |backlogs| backlogs > 0);
    let mut chatty = Raw::greeted(&running);
    let start = Instant::now();
    running.drain();
    let talk = std::thread::spawn(move || {
        let mut answered = 0;
        while chatty.stream.write_all(&ping(answered)).is_ok() {
            match chatty.next() {
                Some(Told { opcode: DRAIN, .. }) => {}
                Some(Told {
                    opcode: CLOSE,
                    status,
                    ..
                }) => {
                    assert_eq!(status, Status::DRAINED);
                    break;
                }
                Some(told) => answered = told.id + 1,
                None => break,
            }
        }
        answered
    });
    running.join().unwrap();
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert!(
        talk.join().unwrap() > 0,
        "requests are answered until the end"
    );
    assert_eq!(half.told().opcode, DRAIN);
    assert_eq!(half.told().status, Status::DRAINED);
    // What the stuck one gets is cut off, and its sender is let go.
    stuck.rest();
    let _ = sender.join().unwrap();
}

#[test]
fn a_server_that_is_dropped_stops_at_once() {
    let running = with_drain_timeout(PATIENCE);
    let mut raw = Raw::greeted(&running);
    raw.send(&get(1, "key")[..17]);
    let start = Instant::now();
    drop(running);
    assert!(start.elapsed() < PATIENCE / 2);
    raw.rest();
}
