//! Values larger than a buffer: every byte comes back, whoever stops in the middle holds nothing
//! after its deadline, and nobody else waits.
#![cfg(feature = "server")]

mod server_harness;

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use larder::server::{Running, Settings};
use larder_protocol::Status;
use server_harness::{PATIENCE, Raw, get, ping, request, set, settings, start};

const DRAIN: u8 = 0xE0;
const CLOSE: u8 = 0xE1;

/// What the cap of a server of 64 MiB is, the memory of [`start`].
const CAP: usize = 16 << 20;
/// What a segment of it has.
const SEGMENT: usize = 64 << 10;

/// A frame of an answer.
struct Answer {
    opcode: u8,
    id: u32,
    status: Status,
    body: Vec<u8>,
}

impl Answer {
    /// The value of a GET.
    fn value(&self) -> &[u8] {
        assert_eq!(self.status, Status::OK, "{}", self.sentence());
        &self.body[8..]
    }

    fn sentence(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn answer(raw: &mut Raw) -> Answer {
    let head = raw.read_exactly(16);
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
    Answer {
        opcode: head[0],
        id: number(4),
        status: Status(u16::from_le_bytes([head[2], head[3]])),
        body: raw.read_exactly(number(12) as usize),
    }
}

/// Bytes that no other place and no other seed has.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut made = Vec::with_capacity(count + 8);
    while made.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(count);
    made
}

fn store(raw: &mut Raw, key: &str, value: &[u8]) {
    raw.send(&set(1, key, value));
    let told = answer(raw);
    assert_eq!(
        (told.id, told.status),
        (1, Status::OK),
        "{}",
        told.sentence()
    );
}

fn fetch(raw: &mut Raw, key: &str) -> Answer {
    raw.send(&get(2, key));
    answer(raw)
}

/// Memory that no item has, be it free or about to be.
fn spare_bytes(raw: &mut Raw) -> u64 {
    raw.figure("free_bytes") + raw.figure("limbo_bytes")
}

fn wait_for_spare(raw: &mut Raw, wanted: u64) {
    let start = Instant::now();
    // Less what sessions may have opened since for ordinary items.
    while spare_bytes(raw) + 4 * (SEGMENT as u64) < wanted {
        assert!(start.elapsed() < PATIENCE, "memory does not come back");
    }
}

/// Sends a GET of a value so long that it cannot be sent unread, and waits until it is stuck.
fn stuck_reader(running: &Running, control: &mut Raw, key: &str) -> Raw {
    let mut stuck = Raw::greeted(running);
    let before = control.figure("backlogs");
    stuck.send(&get(2, key));
    control.wait_for_figure("backlogs", |backlogs| backlogs > before);
    stuck
}

#[test]
fn sizes_around_every_limit_come_back_byte_for_byte() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let eighth = SEGMENT / 8;
    let mut sizes = vec![CAP - 1, CAP];
    for around in [eighth - 300, eighth, SEGMENT, 5 * SEGMENT, 1 << 20] {
        sizes.extend([around - 1, around, around + 1]);
    }
    // Every length of key and header in reach of the boundary between the two kinds.
    sizes.extend((eighth - 60..eighth).step_by(1));
    for (seed, size) in sizes.into_iter().enumerate() {
        let value = bytes(seed as u64, size);
        store(&mut raw, "key", &value);
        assert!(fetch(&mut raw, "key").value() == value, "{size} bytes");
    }
    assert_eq!(raw.figure("buffer_bytes"), 0);
}

#[test]
fn a_value_beyond_the_cap_is_refused_by_its_header_and_the_connection_goes_on() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let frame = set(1, "key", &vec![7; CAP + 1]);
    raw.send(&frame[..16]);
    let told = answer(&mut raw);
    assert_eq!((told.id, told.status), (1, Status::TOO_LARGE));
    let sentence = told.sentence();
    assert!(sentence.contains(&CAP.to_string()), "{sentence}");
    raw.send(&frame[16..]);
    raw.send(&ping(2));
    assert_eq!(answer(&mut raw).id, 2);
    assert_eq!(fetch(&mut raw, "key").status, Status::NOT_FOUND);
}

#[test]
fn a_frame_split_anywhere_is_the_same_frame() {
    let running = start(settings(1));
    let (mut raw, mut control) = (Raw::greeted(&running), Raw::greeted(&running));
    let value = bytes(3, 2 * SEGMENT + 100);
    let key = b"split";
    // With an expiry of a minute and client flags: a head of 16 + 12 + 5 bytes.
    let mut frame = request(0x10, 1, key.len() as u32, &[]);
    frame[2] = 0x11;
    frame.extend(60_000_u64.to_le_bytes());
    frame.extend(42_u32.to_le_bytes());
    frame.extend(key);
    let head = frame.len();
    frame.extend(&value);
    let body_bytes = (frame.len() - 16) as u32;
    frame[12..16].copy_from_slice(&body_bytes.to_le_bytes());
    let borders = [head + SEGMENT, head + 2 * SEGMENT, 65_536, frame.len() - 1];
    let around = |at: usize| at - 2..(at + 3).min(frame.len());
    let splits = (1..head + 3).chain(borders.into_iter().flat_map(around));
    for split in splits {
        let read = control.figure("bytes_in");
        raw.send(&frame[..split]);
        control.wait_for_figure("bytes_in", |bytes| bytes >= read + split as u64);
        raw.send(&frame[split..]);
        raw.send(&ping(9));
        let told = answer(&mut raw);
        assert_eq!((told.id, told.status), (1, Status::OK), "split at {split}");
        assert_eq!(answer(&mut raw).id, 9);
        raw.send(&request(0x08, 2, key.len() as u32, key));
        assert!(answer(&mut raw).value() == value, "split at {split}");
        raw.send(&request(0x0B, 3, key.len() as u32, key));
        assert_eq!(answer(&mut raw).status, Status::OK);
    }
    assert_eq!(control.figure("buffer_bytes"), 0);
}

#[test]
fn small_requests_around_large_ones_keep_their_order() {
    let running = start(settings(2));
    let mut raw = Raw::greeted(&running);
    let values = [bytes(1, 300_000), bytes(2, 3 << 20)];
    let mut frames = Vec::new();
    for (at, value) in values.iter().enumerate() {
        let id = 10 * at as u32;
        let key = format!("large-{at}");
        frames.extend([set(id, "small", b"s"), get(id + 1, "small")].concat());
        frames.extend([set(id + 2, &key, value), get(id + 3, "small")].concat());
        frames.extend([get(id + 4, &key), get(id + 5, &key)].concat());
        frames.extend([get(id + 6, "small"), get(id + 7, &key), ping(id + 8)].concat());
    }
    let mut writer = raw.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&frames).unwrap());
    for (at, value) in values.iter().enumerate() {
        for step in 0..9 {
            let told = answer(&mut raw);
            assert_eq!((told.id, told.status), (10 * at as u32 + step, Status::OK));
            match step {
                1 | 3 | 6 => assert_eq!(told.value(), b"s"),
                4 | 5 | 7 => assert!(told.value() == value),
                _ => {}
            }
        }
    }
    sender.join().unwrap();
    // The last request of a batch, and the end behind it.
    raw.send(&[get(1, "large-1"), request(0x03, 2, 0, b"")].concat());
    assert!(answer(&mut raw).value() == values[1]);
    assert_eq!(answer(&mut raw).id, 2);
    raw.expect_end();
    let mut refused = Raw::greeted(&running);
    refused.send(&[get(1, "large-1"), request(0x7F, 2, 0, b"")].concat());
    assert!(answer(&mut refused).value() == values[1]);
    assert_eq!(answer(&mut refused).status, Status::UNKNOWN_OPCODE);
}

#[test]
fn every_store_that_can_be_large_has_its_outcome() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let value = bytes(5, 100_000);
    let with = |opcode: u8, quiet: u8| {
        let mut frame = request(opcode, 1, 3, &[b"key", &value[..]].concat());
        frame[1] = quiet;
        frame
    };
    let cas = |version: u64| {
        let body = [&version.to_le_bytes()[..], b"key", &value].concat();
        let mut frame = request(0x15, 1, 3, &body);
        frame[2] = 2;
        frame
    };
    let outcome = |raw: &mut Raw, frame: &[u8]| {
        raw.send(frame);
        answer(raw)
    };
    assert_eq!(
        outcome(&mut raw, &with(0x12, 0)).status,
        Status::NOT_STORED,
        "REPLACE"
    );
    assert_eq!(outcome(&mut raw, &cas(1)).status, Status::NOT_FOUND);
    let stored = outcome(&mut raw, &with(0x11, 0));
    assert_eq!(stored.status, Status::OK, "ADD");
    assert_eq!(outcome(&mut raw, &with(0x11, 0)).status, Status::NOT_STORED);
    let version = u64::from_le_bytes(stored.body[..8].try_into().unwrap());
    assert_eq!(
        outcome(&mut raw, &cas(version + 1000)).status,
        Status::EXISTS
    );
    let swapped = outcome(&mut raw, &cas(version));
    assert_eq!(swapped.status, Status::OK);
    assert_ne!(swapped.body, stored.body, "another version");
    // A quiet one is silent, and a PING behind it is answered.
    raw.send(&[with(0x10, 1), ping(7)].concat());
    assert_eq!(answer(&mut raw).id, 7);
    assert!(fetch(&mut raw, "key").value() == value);
}

#[test]
fn what_cannot_be_done_with_a_large_value_is_said() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let value = bytes(6, 200_000);
    store(&mut raw, "key", &value);
    raw.send(&request(0x13, 1, 3, b"key+"));
    let told = answer(&mut raw);
    assert_eq!(told.status, Status::TOO_LARGE);
    assert!(told.sentence().contains("APPEND"), "{}", told.sentence());
    raw.send(&request(0x18, 2, 3, b"key"));
    assert_eq!(answer(&mut raw).status, Status::NOT_A_NUMBER);
    // TOUCH and GET_AND_TOUCH are done as ever; so is SCAN, which tells the length.
    for (opcode, fields) in [(0x0A, 1), (0x09, 1)] {
        let mut frame = request(
            opcode,
            3,
            3,
            &[&60_000_u64.to_le_bytes()[..], b"key"].concat(),
        );
        frame[2] = fields;
        raw.send(&frame);
        assert_eq!(answer(&mut raw).status, Status::OK);
    }
    let mut frame = get(4, "key");
    frame[1] = 2;
    raw.send(&frame);
    let told = answer(&mut raw);
    let left_ms = u64::from_le_bytes(told.body[8..16].try_into().unwrap());
    assert!((1..=60_000).contains(&left_ms) && told.body[16..] == value);
    let mut cursor = 0_u64.to_le_bytes();
    let page = loop {
        raw.send(&request(0x06, 5, 1000, &cursor));
        let page = answer(&mut raw).body;
        cursor.copy_from_slice(&page[..8]);
        if page.len() > 8 {
            break page;
        }
        assert_ne!(cursor, [0; 8], "the key is listed");
    };
    let value_bytes = u32::from_le_bytes(page[12..16].try_into().unwrap());
    assert_eq!(value_bytes, 200_000);
}

#[test]
fn lists_have_no_place_for_large_values_that_are_read_and_store_those_that_fit_a_frame() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let value = bytes(7, 100_000);
    let mut body = Vec::new();
    for (key, value) in [("a", &value[..]), ("b", b"small")] {
        for number in [1, value.len() as u32, 0] {
            body.extend(number.to_le_bytes());
        }
        body.extend(u64::MAX.to_le_bytes());
        body.extend([key.as_bytes(), value].concat());
    }
    raw.send(&request(0x0D, 1, 2, &body));
    let told = answer(&mut raw);
    assert_eq!((told.status, told.body), (Status::OK, vec![0; 4]));
    assert!(fetch(&mut raw, "a").value() == value);
    let keys = [&1_u32.to_le_bytes()[..], b"a", &1_u32.to_le_bytes(), b"b"].concat();
    raw.send(&request(0x0C, 2, 2, &keys));
    let told = answer(&mut raw);
    assert_eq!(
        &told.body[..4],
        &[0x05, 0x01, 0, 0],
        "TOO_LARGE for the first"
    );
    assert!(told.body.ends_with(b"small"));
    // A list beyond what is gathered is refused by its header.
    let mut header = request(0x0D, 3, 1, b"");
    header[12..16].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    raw.send(&header);
    let told = answer(&mut raw);
    assert_eq!(told.status, Status::FRAME_TOO_LARGE, "{}", told.sentence());
    raw.send(&vec![0; 1 << 20]);
    raw.send(&ping(4));
    assert_eq!(answer(&mut raw).id, 4);
}

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
        frame_timeout: Duration::from_millis(100),
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
fn a_sender_that_drips_is_not_waited_for() {
    let running = start(Settings {
        frame_timeout: Duration::from_millis(100),
        ..settings(1)
    });
    let mut raw = Raw::greeted(&running);
    let frame = set(1, "key", &[7; 1 << 20]);
    raw.send(&frame[..100_000]);
    raw.stream.set_nonblocking(true).unwrap();
    let start = Instant::now();
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
