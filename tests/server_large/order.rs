//! What comes back, in which order, and what is said.

use std::io::Write;

use larder_protocol::Status;

use crate::server_harness::{Raw, get, ping, request, set, settings, start};
use crate::{CAP, SEGMENT, answer, bytes, fetch, store};

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
    // Appending to it works; up to a length that is not copied in one go.
    raw.send(&request(0x13, 1, 3, b"key+"));
    assert_eq!(answer(&mut raw).status, Status::OK);
    store(&mut raw, "long", &bytes(7, 9 << 20));
    raw.send(&request(0x13, 1, 4, b"long+"));
    let told = answer(&mut raw);
    assert_eq!(told.status, Status::TOO_LARGE);
    assert!(told.sentence().contains("APPEND"), "{}", told.sentence());
    raw.send(&request(0x0B, 1, 4, b"long"));
    assert_eq!(answer(&mut raw).status, Status::OK);
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
    assert!((1..=60_000).contains(&left_ms) && told.body[16..] == [&value[..], b"+"].concat());
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
    assert_eq!(value_bytes, 200_001);
}

#[test]
fn lists_have_large_values_that_fit_a_frame_and_name_the_others() {
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
    // One that is too long for a reply with others is named, and the others are there.
    let long = bytes(8, 300_000);
    store(&mut raw, "c", &long);
    let keys: Vec<u8> = ["a", "c", "b"]
        .iter()
        .flat_map(|key| [&1_u32.to_le_bytes()[..], key.as_bytes()].concat())
        .collect();
    raw.send(&request(0x0C, 2, 3, &keys));
    let told = answer(&mut raw).body;
    let (first, rest) = told.split_at(20 + value.len());
    assert!(first[..4] == [0; 4] && first[20..] == value);
    assert_eq!(rest[..4], [0x05, 0x01, 0, 0], "TOO_LARGE for the second");
    assert!(rest.ends_with(b"small"));
    assert!(fetch(&mut raw, "c").value() == long);
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
fn a_quiet_list_is_answered_where_a_value_is_too_long_for_it() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    store(&mut raw, "c", &bytes(8, 300_000));
    let mut quiet = request(0x0C, 2, 2, b"\x01\0\0\0a\x01\0\0\0c");
    quiet[1] = 1;
    raw.send(&[quiet, ping(3)].concat());
    let told = answer(&mut raw);
    assert_eq!(told.id, 2, "it is there, and has to be read by itself");
    assert_eq!(told.body, [1, 0, 0, 0, 0x05, 0x01, 0, 0]);
    assert_eq!(answer(&mut raw).id, 3);
}
