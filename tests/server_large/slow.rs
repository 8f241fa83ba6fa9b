//! Clients that are slow, or stop, or come in the way of each other, and the end of the server.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use larder::server::Settings;
use larder_protocol::Status;

use crate::server_harness::{PATIENCE, Raw, get, ping, request, set, settings, start};
use crate::{CAP, answer, bytes, fetch, spare_bytes, store, stuck_reader, wait_for_spare};

const DRAIN: u8 = 0xE0;
const CLOSE: u8 = 0xE1;

#[test]
fn slow_and_fast_readers_get_whole_values_while_they_are_overwritten() {
    const SIZE: usize = 2 << 20;
    let running = start(settings(2));
    let mut control = Raw::greeted(&running);
    store(&mut control, "key", &bytes(0, SIZE));
    let is_whole = |value: &[u8]| (0..8).any(|seed| value == bytes(seed, SIZE));
    std::thread::scope(|scope| {
        for reader in 0..6 {
            let mut raw = Raw::greeted(&running);
            scope.spawn(move || {
                for _ in 0..4 {
                    raw.send(&get(2, "key"));
                    if reader % 2 == 1 {
                        // In small sips, so that the value stands in the socket's way for long.
                        let mut sip = vec![0; SIZE / 2];
                        for sip in sip.chunks_mut(1500) {
                            raw.stream.read_exact(sip).unwrap();
                        }
                        let mut rest = vec![0; 24 + SIZE - SIZE / 2];
                        raw.stream.read_exact(&mut rest).unwrap();
                        sip.extend(rest);
                        assert!(is_whole(&sip[24..]));
                    } else {
                        assert!(is_whole(answer(&mut raw).value()));
                    }
                }
            });
        }
        for seed in 1..8 {
            store(&mut control, "key", &bytes(seed, SIZE));
        }
    });
    assert_eq!(control.figure("buffer_bytes"), 0);
}

#[test]
fn a_slow_reader_gets_what_was_there_when_it_asked_and_costs_no_buffer() {
    let running = start(Settings {
        write_timeout: PATIENCE,
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    store(&mut control, "other", b"opens a segment");
    let spare = spare_bytes(&mut control);
    let value = bytes(1, 8 << 20);
    store(&mut control, "key", &value);
    let mut stuck = stuck_reader(&running, &mut control, "key");
    store(&mut control, "key", b"new");
    control.send(&request(0x0B, 3, 3, b"key"));
    assert_eq!(answer(&mut control).status, Status::OK);
    assert_eq!(control.figure("buffer_bytes"), 0);
    assert!(
        spare_bytes(&mut control) + (8 << 20) <= spare,
        "it is still held"
    );
    assert!(answer(&mut stuck).value() == value);
    wait_for_spare(&mut control, spare);
    stuck.send(&ping(5));
    assert_eq!(answer(&mut stuck).id, 5);
}

#[test]
fn a_sender_that_stops_is_told_and_holds_nothing() {
    let running = start(Settings {
        frame_timeout: Duration::from_millis(400),
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    store(&mut control, "other", b"opens a segment");
    let spare = spare_bytes(&mut control);
    let frame = set(1, "key", &bytes(1, 8 << 20));
    for sent_bytes in [100, 70_000, 3 << 20, frame.len() - 1] {
        let mut raw = Raw::greeted(&running);
        raw.send(&frame[..sent_bytes]);
        let told = answer(&mut raw);
        assert_eq!((told.opcode, told.status), (CLOSE, Status::FRAME_TIMEOUT));
        raw.expect_end();
        wait_for_spare(&mut control, spare);
    }
    // Nor does one that goes away.
    let mut raw = Raw::greeted(&running);
    raw.send(&frame[..3 << 20]);
    drop(raw);
    wait_for_spare(&mut control, spare);
    assert_eq!(fetch(&mut control, "key").status, Status::NOT_FOUND);
    assert_eq!(control.figure("closed_frame_timeout"), 4);
}

#[test]
fn a_sender_that_is_slow_and_goes_on_is_waited_for() {
    const STEPS: u32 = 10;
    let frame_timeout = Duration::from_secs(2);
    let running = start(Settings {
        frame_timeout,
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    let mut raw = Raw::greeted(&running);
    let frame = set(1, "key", &bytes(1, 10 << 20));
    // All of it takes longer than may pass without a mebibyte of it.
    let (start, step) = (Instant::now(), frame_timeout * 5 / 4 / STEPS);
    for (number, part) in (1..).zip(frame.chunks(frame.len().div_ceil(STEPS as usize))) {
        raw.send(part);
        while start.elapsed() < step * number {
            control.send(&ping(number));
            assert_eq!(answer(&mut control).id, number);
        }
    }
    let told = answer(&mut raw);
    assert_eq!((told.id, told.status), (1, Status::OK));
}

#[test]
fn a_sender_that_drips_is_not_waited_for() {
    let running = start(Settings {
        frame_timeout: Duration::from_millis(100),
        ..settings(1)
    });
    let mut raw = Raw::greeted(&running);
    let frame = set(1, "key", &[7; 1 << 20]);
    let start = Instant::now();
    raw.send(&frame[..100_000]);
    raw.stream.set_nonblocking(true).unwrap();
    // Until the server says why, or resets what it no longer reads.
    loop {
        assert!(start.elapsed() < PATIENCE, "it is still waited for");
        let sent = raw.stream.write(&frame[..1]);
        if matches!(sent, Err(error) if error.kind() != ErrorKind::WouldBlock) {
            break;
        }
        match raw.stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
        std::thread::yield_now();
    }
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_reader_that_never_reads_is_closed_and_holds_nothing() {
    let running = start(Settings {
        write_timeout: Duration::from_millis(300),
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    store(&mut control, "other", b"opens a segment");
    let spare = spare_bytes(&mut control);
    store(&mut control, "key", &bytes(1, 12 << 20));
    let stuck: Vec<Raw> = (0..3)
        .map(|_| stuck_reader(&running, &mut control, "key"))
        .collect();
    control.send(&request(0x0B, 3, 3, b"key"));
    assert_eq!(answer(&mut control).status, Status::OK);
    control.wait_for_figure("closed_slow_reader", |closed| closed == 3);
    wait_for_spare(&mut control, spare);
    drop(stuck);
}

#[test]
fn senders_that_ask_for_more_than_there_is_are_refused_and_go_on() {
    let running = start(settings(2));
    let mut control = Raw::greeted(&running);
    store(&mut control, "other", b"opens a segment");
    let spare = spare_bytes(&mut control);
    let frame = set(1, "key", &bytes(1, CAP));
    let mut senders: Vec<Raw> = (0..6).map(|_| Raw::greeted(&running)).collect();
    for raw in &mut senders {
        raw.send(&frame[..CAP - 1000]);
    }
    let mut refused = 0;
    for raw in &mut senders {
        raw.send(&frame[CAP - 1000..]);
        raw.send(&ping(2));
        let told = answer(raw);
        assert_eq!(told.id, 1);
        match told.status {
            Status::OK => {}
            Status::NO_SPACE => refused += 1,
            other => panic!("told {other}"),
        }
        assert_eq!(answer(raw).id, 2);
    }
    assert!(refused > 0, "six values of a quarter of the memory each");
    control.send(&request(0x0B, 3, 3, b"key"));
    let _ = answer(&mut control);
    wait_for_spare(&mut control, spare);
}

#[test]
fn a_drain_lets_values_on_their_way_arrive() {
    let running = start(Settings {
        drain_timeout: PATIENCE,
        write_timeout: PATIENCE,
        ..settings(2)
    });
    let mut control = Raw::greeted(&running);
    let value = bytes(1, 8 << 20);
    store(&mut control, "key", &value);
    let mut reader = stuck_reader(&running, &mut control, "key");
    let mut sender = Raw::greeted(&running);
    let frame = set(7, "late", &value);
    let read = control.figure("bytes_in");
    sender.send(&frame[..4 << 20]);
    control.wait_for_figure("bytes_in", |bytes| bytes >= read + (4 << 20));
    running.drain();
    assert_eq!(answer(&mut sender).opcode, DRAIN);
    sender.send(&frame[4 << 20..]);
    let told = answer(&mut sender);
    assert_eq!((told.id, told.status), (7, Status::OK));
    assert_eq!(answer(&mut sender).status, Status::DRAINED);
    assert!(answer(&mut reader).value() == value);
    assert_eq!(answer(&mut reader).opcode, DRAIN, "the notice has waited");
    assert_eq!(answer(&mut reader).status, Status::DRAINED);
    drop((reader, sender, control));
    running.join().unwrap();
}

#[test]
fn a_drain_ends_in_time_whoever_is_in_the_middle_of_a_value() {
    let running = start(Settings {
        drain_timeout: Duration::from_millis(200),
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    store(&mut control, "key", &bytes(1, 8 << 20));
    let stuck = stuck_reader(&running, &mut control, "key");
    let mut sender = Raw::greeted(&running);
    sender.send(&set(1, "late", &[7; 1 << 20])[..500_000]);
    let start = Instant::now();
    running.drain();
    running.join().unwrap();
    assert!(start.elapsed() < PATIENCE / 2);
    drop((stuck, sender));
}

#[test]
fn requests_behind_a_large_value_wait_for_it_even_where_no_buffer_is_left() {
    let running = start(Settings {
        buffer_bytes_max: 512 << 10,
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    let value = bytes(1, 8 << 20);
    store(&mut control, "key", &value);
    // Halves of frames until there is no room for one of a kilobyte.
    let mut fillers = Vec::new();
    for size in [200_000, 1000] {
        let overloaded = control.figure("refused_overloaded");
        while control.figure("refused_overloaded") == overloaded {
            let mut raw = Raw::greeted(&running);
            let read = control.figure("bytes_in");
            raw.send(&request(0x02, 1, 0, &vec![0; size])[..size / 2]);
            control.wait_for_figure("bytes_in", |bytes| bytes >= read + size as u64 / 2);
            fillers.push(raw);
        }
    }
    let mut raw = Raw::greeted(&running);
    let pings: Vec<u8> = (10..60).flat_map(ping).collect();
    raw.send(&[get(2, "key"), pings.clone()].concat());
    raw.finish_writing();
    // It is served in order, or closed where it falls behind with no room left for what it asked.
    let told = raw.rest();
    let in_order = [&value[..], &pings].concat();
    assert!(told.len() >= 24 && in_order.starts_with(&told[24..]));
}

#[test]
fn a_reader_that_sips_is_not_waited_for() {
    let running = start(Settings {
        write_timeout: Duration::from_millis(300),
        ..settings(1)
    });
    let mut control = Raw::greeted(&running);
    store(&mut control, "key", &bytes(1, 12 << 20));
    let mut stuck = stuck_reader(&running, &mut control, "key");
    let start = Instant::now();
    while control.figure("closed_slow_reader") == 0 {
        assert!(start.elapsed() < PATIENCE, "it is still waited for");
        stuck.stream.read_exact(&mut [0]).unwrap();
    }
}
