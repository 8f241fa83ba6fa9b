//! What a client may not do, what it is told, and that nobody else notices.
#![cfg(feature = "server")]

mod server_harness;

use std::io::ErrorKind;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use larder::server::{Running, Settings};
use larder_protocol::Status;
use server_harness::{HELLO, PATIENCE, Raw, Told, get, ping, request, set, settings, start};

const CLOSE: u8 = 0xE1;

impl Raw {
    /// Sends bytes, then asks for a figure.
    fn figure_after(&mut self, bytes: &[u8], name: &str) -> u64 {
        self.send(bytes);
        self.figure(name)
    }
}

/// The header of a frame whose body is still to come.
fn header(opcode: u8, id: u32, word: u32, body_bytes: u32) -> Vec<u8> {
    let mut frame = request(opcode, id, word, b"");
    frame[12..16].copy_from_slice(&body_bytes.to_le_bytes());
    frame
}

/// What a client is told that the server closes.
fn closed(raw: &mut Raw) -> Status {
    let Told {
        opcode, id, status, ..
    } = raw.told();
    assert_eq!((opcode, id), (CLOSE, 0));
    raw.expect_end();
    status
}

fn assert_alive(raw: &mut Raw) {
    raw.send(&ping(77));
    let told = raw.told();
    assert_eq!((told.opcode, told.id, told.status), (0x02, 77, Status::OK));
}

#[test]
fn a_connection_too_many_is_told_so_and_one_that_leaves_makes_room() {
    let running = start(Settings {
        connections_max: 2,
        ..settings(2)
    });
    let first = Raw::greeted(&running);
    let mut second = Raw::greeted(&running);
    let mut third = Raw::connect(&running);
    let told = third.told();
    assert_eq!(
        (told.opcode, told.status),
        (CLOSE, Status::TOO_MANY_CONNECTIONS)
    );
    assert_eq!(
        told.text,
        "the server has 2 connections, as many as it accepts"
    );
    third.expect_end();
    assert_alive(&mut second);

    drop(first);
    let start = Instant::now();
    let _next = loop {
        let mut next = Raw::connect(&running);
        // A refusal may overtake the greeting, which then has nowhere to go.
        if next.stream.write_all(HELLO).is_ok() && next.next().is_some_and(|told| told.opcode == 1)
        {
            break next;
        }
        assert!(start.elapsed() < PATIENCE, "there is still no room");
    };
    assert_eq!(second.figure("connections"), 2);
}

#[test]
fn other_protocols_are_told_at_their_first_byte() {
    let running = start(settings(1));
    let mut bystander = Raw::greeted(&running);
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\r\n",
        b"\xff\xff\xff\xff",
        b"set",
    ] {
        let mut raw = Raw::connect(&running);
        raw.send(garbage);
        let told = raw.told();
        assert_eq!((told.opcode, told.status), (0x01, Status::HELLO_REQUIRED));
        raw.expect_end();
        assert_alive(&mut bystander);
    }
    assert_eq!(bystander.figure("closed_protocol_error"), 4);
}

#[test]
fn a_client_of_another_version_is_told_which_is_spoken() {
    let running = start(settings(1));
    let mut raw = Raw::connect(&running);
    let mut hello = HELLO.to_vec();
    hello[20..24].copy_from_slice(&[7, 0, 9, 0]);
    raw.send(&hello);
    let told = raw.told();
    assert_eq!(told.status, Status::VERSION_MISMATCH);
    assert_eq!(
        told.text,
        "the client speaks versions 7 to 9; this server speaks 1"
    );
    raw.expect_end();
}

#[test]
fn garbage_behind_a_greeting_never_ends_the_server() {
    let running = start(settings(2));
    let mut bystander = Raw::greeted(&running);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200 {
        let mut raw = Raw::greeted(&running);
        let garbage: Vec<u8> = (0..300)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        raw.send(&garbage);
        raw.finish_writing();
        // Whatever it says, it comes to an end and every part of it is a whole frame.
        while raw.next().is_some() {}
        assert!(raw.rest().is_empty());
    }
    assert_alive(&mut bystander);
    assert_eq!(bystander.figure("panics"), 0);
}

#[test]
fn a_frame_too_large_is_skipped_and_the_connection_goes_on() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let body = vec![b'x'; 300_000];
    raw.send(&header(0x02, 5, 0, body.len() as u32));
    let told = raw.told();
    assert_eq!((told.id, told.status), (5, Status::FRAME_TOO_LARGE));
    let held = raw.figure_after(&body, "buffer_bytes");
    assert_eq!(held, 0, "nothing of it was kept");
    assert_alive(&mut raw);
}

#[test]
fn a_frame_beyond_skipping_closes_the_connection() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    raw.send(&header(0x02, 5, 0, u32::MAX));
    let told = raw.told();
    assert_eq!((told.id, told.status), (5, Status::FRAME_UNSKIPPABLE));
    raw.expect_end();
}

#[test]
fn keys_and_values_beyond_their_limits_are_refused_alone() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    raw.send(&get(1, &"k".repeat(251)));
    let told = raw.told();
    assert_eq!((told.id, told.status), (1, Status::KEY_TOO_LONG));
    assert_eq!(
        told.text,
        "the key has 251 bytes; this server accepts up to 250"
    );
    raw.send(&get(2, &"k".repeat(250)));
    assert_eq!(raw.told().status, Status::NOT_FOUND);
    raw.send(&set(3, "k", &vec![0; (16 << 20) + 1]));
    let told = raw.told();
    assert_eq!((told.id, told.status), (3, Status::TOO_LARGE));
    assert_alive(&mut raw);
}

#[test]
fn a_silent_connection_is_closed_when_its_time_is_up() {
    let idle_timeout = Some(Duration::from_millis(60));
    let running = start(Settings {
        idle_timeout,
        ..settings(1)
    });
    let start = Instant::now();
    let mut raw = Raw::greeted(&running);
    assert_eq!(closed(&mut raw), Status::IDLE_TIMEOUT);
    assert!(start.elapsed() >= Duration::from_millis(60));
    let mut never_greeted = Raw::connect(&running);
    assert_eq!(closed(&mut never_greeted), Status::IDLE_TIMEOUT);
}

#[test]
fn a_worker_that_polls_busily_keeps_its_deadlines() {
    let running = start(Settings {
        busy_poll: Duration::from_secs(1),
        idle_timeout: Some(Duration::from_millis(60)),
        ..settings(1)
    });
    let mut raw = Raw::greeted(&running);
    assert_alive(&mut raw);
    assert_eq!(closed(&mut raw), Status::IDLE_TIMEOUT);
}

fn with_frame_timeout(frame_ms: u64) -> Running {
    let frame_timeout = Duration::from_millis(frame_ms);
    start(Settings {
        frame_timeout,
        ..settings(1)
    })
}

#[test]
fn half_a_frame_is_not_waited_for_longer_than_allowed() {
    let running = with_frame_timeout(60);
    let mut bystander = Raw::greeted(&running);
    let frame = set(1, "key", &[7; 1000]);
    for sent_bytes in [1, 15, 16, 17, 19, 500, frame.len() - 1] {
        let mut raw = Raw::greeted(&running);
        raw.send(&frame[..sent_bytes]);
        assert_eq!(
            closed(&mut raw),
            Status::FRAME_TIMEOUT,
            "after {sent_bytes} bytes"
        );
    }
    let mut greeting = Raw::connect(&running);
    greeting.send(&HELLO[..10]);
    assert_eq!(closed(&mut greeting), Status::FRAME_TIMEOUT);
    // Whoever says nothing from the beginning holds a place that others may need.
    let mut silent = Raw::connect(&running);
    assert_eq!(closed(&mut silent), Status::FRAME_TIMEOUT);
    let mut skipped = Raw::greeted(&running);
    skipped.send(&header(0x02, 5, 0, 300_000));
    assert_eq!(skipped.told().status, Status::FRAME_TOO_LARGE);
    assert_eq!(closed(&mut skipped), Status::FRAME_TIMEOUT);
    // One that is between two frames may be as slow as it likes.
    assert_alive(&mut bystander);
    assert_eq!(bystander.figure("closed_frame_timeout"), 10);
}

#[test]
fn whoever_always_has_begun_the_next_frame_has_its_time_for_each() {
    const FRAME_MS: u64 = 2000;
    let running = with_frame_timeout(FRAME_MS);
    let mut raw = Raw::greeted(&running);
    raw.send(&ping(0)[..10]);
    let (start, mut id) = (Instant::now(), 0);
    // Frame by frame for longer than one may take, and never between two.
    while start.elapsed() < Duration::from_millis(FRAME_MS + FRAME_MS / 4) {
        raw.send(&[&ping(id)[10..], &ping(id + 1)[..10]].concat());
        assert_eq!(raw.told().id, id);
        id += 1;
    }
    raw.send(&ping(id)[10..]);
    assert_eq!(raw.told().id, id);
}

#[test]
fn bytes_that_drip_do_not_prolong_a_frame() {
    let running = with_frame_timeout(100);
    let mut raw = Raw::greeted(&running);
    let frame = set(1, "key", &[7; 60_000]);
    raw.send(&frame[..16]);
    let start = Instant::now();
    raw.stream.set_nonblocking(true).unwrap();
    let (mut told, mut sent) = ([0; 1], 0);
    loop {
        assert!(start.elapsed() < PATIENCE, "the frame was never given up");
        // One each millisecond: the frame is not whole before its time is over, however busy the
        // machine is. Once closed, what is sent comes back as a reset: the end in its other form.
        if sent < start.elapsed().as_millis() {
            sent += 1;
            if matches!(raw.stream.write(&frame[16..17]), Err(error) if error.kind() != ErrorKind::WouldBlock)
            {
                break;
            }
        }
        match raw.stream.peek(&mut told) {
            Ok(count) => {
                assert_eq!((count, told[0]), (1, CLOSE));
                break;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_client_that_says_goodbye_gets_its_answers_first() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    raw.send(&[set(1, "a", b"1"), get(2, "a"), get(3, "b")].concat());
    raw.finish_writing();
    assert_eq!(raw.told().id, 1);
    assert_eq!(raw.told().text, "1");
    assert_eq!(raw.told().status, Status::NOT_FOUND);
    raw.expect_end();
    // Half a frame before the end is no request and no error.
    let mut half = Raw::greeted(&running);
    half.send(&get(1, "key")[..17]);
    half.finish_writing();
    half.expect_end();
}

#[test]
fn connections_are_spread_over_the_workers_and_all_are_counted() {
    let running = start(settings(4));
    let mut all: Vec<Raw> = (0..40).map(|_| Raw::greeted(&running)).collect();
    assert_eq!(all[0].figure("connections"), 40);
    for worker in 0..4 {
        let opened = format!("worker_{worker}.connections_opened");
        assert_eq!(all[0].figure_of("workers", &opened), 10, "{opened}");
    }
    let mut last = all.pop().unwrap();
    for mut raw in all {
        raw.finish_writing();
        let mut end = Vec::new();
        raw.stream.read_to_end(&mut end).unwrap();
    }
    last.wait_for_figure("connections", |open| open == 1);
}
