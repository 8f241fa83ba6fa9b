//! The native protocol on the wire, as tables of bytes sent and bytes expected.
//!
//! Every script runs whole, step by step, split at every byte, and with each of its steps on another
//! connection; on one worker and on many. Bytes are written as they stand: `08` is a byte, `5:4` the
//! number 5 in four bytes, `'apple'` text, and `?8` eight bytes that may be anything (versions).
#![cfg(feature = "server")]

mod server_harness;

use larder::server::Running;
use server_harness::{HELLO, Raw, request, settings, start};

struct Script {
    name: &'static str,
    /// What is sent, and what comes back.
    steps: &'static [(&'static str, &'static str)],
}

const SCRIPTS: &[Script] = &[
    Script {
        name: "ping comes back with its bytes",
        steps: &[
            (
                "02 00 0:2 25:4 0:4 5:4 'hello'",
                "02 00 0:2 25:4 0:4 5:4 'hello'",
            ),
            ("02 00 0:2 26:4 0:4 0:4", "02 00 0:2 26:4 0:4 0:4"),
        ],
    },
    Script {
        name: "what is set can be read, deleted, and then is gone",
        steps: &[
            ("08 00 0:2 1:4 5:4 5:4 'apple'", "08 00 1:2 1:4 0:4 0:4"),
            (
                "10 00 0:2 2:4 5:4 10:4 'apple' 'green'",
                "10 00 0:2 2:4 0:4 8:4 ?8",
            ),
            (
                "08 00 0:2 3:4 5:4 5:4 'apple'",
                "08 00 0:2 3:4 0:4 13:4 ?8 'green'",
            ),
            ("0b 00 0:2 4:4 5:4 5:4 'apple'", "0b 00 0:2 4:4 0:4 0:4"),
            ("0b 00 0:2 5:4 5:4 5:4 'apple'", "0b 00 1:2 5:4 0:4 0:4"),
            ("08 00 0:2 6:4 5:4 5:4 'apple'", "08 00 1:2 6:4 0:4 0:4"),
        ],
    },
    Script {
        name: "client flags come back, and expiries where they are asked for",
        steps: &[
            (
                "10 00 17:2 1:4 1:4 13:4 18446744073709551615:8 42:4 'k'",
                "10 00 0:2 1:4 0:4 8:4 ?8",
            ),
            (
                "08 02 0:2 2:4 1:4 1:4 'k'",
                "08 01 0:2 2:4 42:4 16:4 ?8 18446744073709551615:8",
            ),
            (
                "09 02 1:2 3:4 1:4 9:4 3600000:8 'k'",
                "09 01 0:2 3:4 42:4 16:4 ?8 3600000:8",
            ),
            ("0a 00 0:2 4:4 1:4 1:4 'k'", "0a 00 0:2 4:4 0:4 0:4"),
            (
                "08 02 0:2 5:4 1:4 1:4 'k'",
                "08 01 0:2 5:4 42:4 16:4 ?8 18446744073709551615:8",
            ),
            ("0a 00 1:2 6:4 1:4 9:4 0:8 'k'", "0a 00 0:2 6:4 0:4 0:4"),
            ("08 00 0:2 7:4 1:4 1:4 'k'", "08 00 1:2 7:4 0:4 0:4"),
        ],
    },
    Script {
        name: "conditional stores keep their conditions",
        steps: &[
            ("12 00 0:2 1:4 1:4 2:4 'k' 'a'", "12 00 2:2 1:4 0:4 0:4"),
            ("13 00 0:2 2:4 1:4 2:4 'k' 'a'", "13 00 2:2 2:4 0:4 0:4"),
            ("14 00 0:2 3:4 1:4 2:4 'k' 'a'", "14 00 2:2 3:4 0:4 0:4"),
            (
                "15 00 2:2 4:4 1:4 10:4 7:8 'k' 'a'",
                "15 00 1:2 4:4 0:4 0:4",
            ),
            ("11 00 0:2 5:4 1:4 2:4 'k' 'b'", "11 00 0:2 5:4 0:4 8:4 ?8"),
            ("11 00 0:2 6:4 1:4 2:4 'k' 'c'", "11 00 2:2 6:4 0:4 0:4"),
            ("13 00 0:2 7:4 1:4 2:4 'k' 'c'", "13 00 0:2 7:4 0:4 8:4 ?8"),
            ("14 00 0:2 8:4 1:4 2:4 'k' 'a'", "14 00 0:2 8:4 0:4 8:4 ?8"),
            (
                "08 00 0:2 9:4 1:4 1:4 'k'",
                "08 00 0:2 9:4 0:4 11:4 ?8 'abc'",
            ),
            (
                "15 00 2:2 10:4 1:4 10:4 0:8 'k' 'x'",
                "15 00 3:2 10:4 0:4 0:4",
            ),
            ("0b 00 2:2 11:4 1:4 9:4 0:8 'k'", "0b 00 3:2 11:4 0:4 0:4"),
            (
                "12 00 0:2 12:4 1:4 2:4 'k' 'd'",
                "12 00 0:2 12:4 0:4 8:4 ?8",
            ),
            (
                "08 00 0:2 13:4 1:4 1:4 'k'",
                "08 00 0:2 13:4 0:4 9:4 ?8 'd'",
            ),
        ],
    },
    Script {
        name: "counters wrap at the top, stop at the bottom, and are made where asked",
        steps: &[
            ("18 00 0:2 1:4 1:4 1:4 'n'", "18 00 1:2 1:4 0:4 0:4"),
            (
                "18 00 4:2 2:4 1:4 9:4 10:8 'n'",
                "18 00 0:2 2:4 0:4 16:4 10:8 ?8",
            ),
            (
                "18 00 8:2 3:4 1:4 9:4 5:8 'n'",
                "18 00 0:2 3:4 0:4 16:4 15:8 ?8",
            ),
            (
                "19 00 8:2 4:4 1:4 9:4 20:8 'n'",
                "19 00 0:2 4:4 0:4 16:4 0:8 ?8",
            ),
            (
                "10 00 0:2 5:4 1:4 21:4 'n' '18446744073709551615'",
                "10 00 0:2 5:4 0:4 8:4 ?8",
            ),
            ("18 00 0:2 6:4 1:4 1:4 'n'", "18 00 0:2 6:4 0:4 16:4 0:8 ?8"),
            ("10 00 0:2 7:4 1:4 2:4 'n' 'x'", "10 00 0:2 7:4 0:4 8:4 ?8"),
            ("18 00 0:2 8:4 1:4 1:4 'n'", "18 00 4:2 8:4 0:4 0:4"),
        ],
    },
    Script {
        name: "quiet requests are heard of only where it matters",
        steps: &[
            (
                "08 01 0:2 1:4 1:4 1:4 'k' 02 00 0:2 2:4 0:4 0:4",
                "02 00 0:2 2:4 0:4 0:4",
            ),
            (
                "10 01 0:2 3:4 1:4 2:4 'k' 'v' 02 00 0:2 4:4 0:4 0:4",
                "02 00 0:2 4:4 0:4 0:4",
            ),
            ("08 01 0:2 5:4 1:4 1:4 'k'", "08 00 0:2 5:4 0:4 9:4 ?8 'v'"),
            ("11 01 0:2 6:4 1:4 2:4 'k' 'w'", "11 00 2:2 6:4 0:4 0:4"),
            (
                "0b 01 0:2 7:4 1:4 1:4 'k' 02 00 0:2 8:4 0:4 0:4",
                "02 00 0:2 8:4 0:4 0:4",
            ),
            ("0b 01 0:2 9:4 1:4 1:4 'k'", "0b 00 1:2 9:4 0:4 0:4"),
        ],
    },
    Script {
        name: "multi-key frames answer entry by entry",
        steps: &[
            (
                "0d 00 0:2 1:4 2:4 45:4 1:4 3:4 7:4 18446744073709551615:8 'a' 'one' \
                 1:4 0:4 0:4 18446744073709551615:8 'b'",
                "0d 00 0:2 1:4 2:4 4:4 0:2 0:2",
            ),
            (
                "0c 00 0:2 2:4 3:4 15:4 1:4 'a' 1:4 'x' 1:4 'b'",
                "0c 00 0:2 2:4 3:4 47:4 0:2 0:2 7:4 3:4 ?8 'one' 1:2 0:2 0:2 0:2 0:4 0:4 ?8",
            ),
            (
                "0e 00 0:2 3:4 2:4 10:4 1:4 'a' 1:4 'x'",
                "0e 00 0:2 3:4 2:4 4:4 0:2 1:2",
            ),
            (
                "0c 01 0:2 4:4 1:4 5:4 1:4 'a' 02 00 0:2 5:4 0:4 0:4",
                "02 00 0:2 5:4 0:4 0:4",
            ),
            (
                "0e 01 0:2 6:4 1:4 5:4 1:4 'b' 02 00 0:2 7:4 0:4 0:4",
                "02 00 0:2 7:4 0:4 0:4",
            ),
        ],
    },
    Script {
        name: "a flush empties, and a scan shows what is there",
        steps: &[
            ("06 00 0:2 1:4 0:4 8:4 0:8", "06 00 0:2 1:4 0:4 8:4 0:8"),
            ("10 00 0:2 2:4 1:4 3:4 'k' 'vw'", "10 00 0:2 2:4 0:4 8:4 ?8"),
            (
                "06 00 0:2 3:4 0:4 8:4 0:8",
                "06 00 0:2 3:4 1:4 33:4 0:8 1:4 2:4 ?8 18446744073709551615:8 'k'",
            ),
            ("05 00 0:2 4:4 0:4 8:4 0:8", "05 00 0:2 4:4 0:4 0:4"),
            ("08 00 0:2 5:4 1:4 1:4 'k'", "08 00 1:2 5:4 0:4 0:4"),
            ("06 00 0:2 6:4 0:4 8:4 0:8", "06 00 0:2 6:4 0:4 8:4 0:8"),
        ],
    },
    Script {
        name: "one is told to store what is missing, and one what is stale",
        steps: &[
            ("1c 00 0:2 1:4 1:4 1:4 'k'", "1c 00 1:2 1:4 0:4 0:4"),
            // Absent and won, absent and taken.
            (
                "1c 00 32:2 2:4 1:4 9:4 3600000:8 'k'",
                "1c 28 0:2 2:4 0:4 8:4 ?8",
            ),
            (
                "1c 00 32:2 3:4 1:4 9:4 3600000:8 'k'",
                "1c 30 0:2 3:4 0:4 8:4 ?8",
            ),
            ("1c 00 0:2 4:4 1:4 1:4 'k'", "1c 30 0:2 4:4 0:4 8:4 ?8"),
            ("08 00 0:2 5:4 1:4 1:4 'k'", "08 00 1:2 5:4 0:4 0:4"),
            ("1d 00 0:2 6:4 1:4 1:4 'x'", "1d 00 1:2 6:4 0:4 0:4"),
            (
                "10 00 16:2 7:4 1:4 8:4 42:4 'k' 'old'",
                "10 00 0:2 7:4 0:4 8:4 ?8",
            ),
            (
                "1c 00 32:2 8:4 1:4 9:4 3600000:8 'k'",
                "1c 00 0:2 8:4 42:4 11:4 ?8 'old'",
            ),
            ("1d 00 2:2 9:4 1:4 9:4 0:8 'k'", "1d 00 3:2 9:4 0:4 0:4"),
            (
                "1d 00 1:2 10:4 1:4 9:4 3600000:8 'k'",
                "1d 00 0:2 10:4 0:4 8:4 ?8",
            ),
            (
                "08 00 0:2 11:4 1:4 1:4 'k'",
                "08 00 0:2 11:4 42:4 11:4 ?8 'old'",
            ),
            // Stale and won, stale and taken.
            (
                "1c 00 0:2 12:4 1:4 1:4 'k'",
                "1c 0c 0:2 12:4 42:4 11:4 ?8 'old'",
            ),
            (
                "1c 00 0:2 13:4 1:4 1:4 'k'",
                "1c 14 0:2 13:4 42:4 11:4 ?8 'old'",
            ),
            ("1e 00 2:2 14:4 1:4 9:4 0:8 'k'", "1e 00 1:2 14:4 0:4 0:4"),
            (
                "10 00 1:2 15:4 1:4 12:4 3600000:8 'k' 'new'",
                "10 00 0:2 15:4 0:4 8:4 ?8",
            ),
            // It has an hour left, and is to be renewed by then.
            (
                "1c 00 64:2 16:4 1:4 9:4 3600001:8 'k'",
                "1c 08 0:2 16:4 0:4 11:4 ?8 'new'",
            ),
            // What says nothing is not said.
            (
                "1d 01 0:2 17:4 1:4 1:4 'k' 1c 01 0:2 18:4 1:4 1:4 'x' 02 00 0:2 19:4 0:4 0:4",
                "02 00 0:2 19:4 0:4 0:4",
            ),
            (
                "1c 01 0:2 20:4 1:4 1:4 'k'",
                "1c 0c 0:2 20:4 0:4 11:4 ?8 'new'",
            ),
        ],
    },
    Script {
        name: "what is refused is named, skipped, and followed by what comes next",
        steps: &[
            (
                "08 00 0:2 1:4 0:4 0:4",
                "08 00 03 01 1:4 0:4 27:4 'a key needs at least 1 byte'",
            ),
            (
                "7f 00 0:2 2:4 0:4 3:4 'abc' 02 00 0:2 3:4 0:4 0:4",
                "7f 00 01 01 2:4 0:4 42:4 'there is no operation with the number 0x7f' \
                 02 00 0:2 3:4 0:4 0:4",
            ),
            (
                "01 00 0:2 4:4 4:4 20:4 'LRDR' 1:2 1:2 0:8 'demo' 02 00 0:2 5:4 0:4 0:4",
                "01 00 00 01 4:4 0:4 58:4 \
                 'the frame does not add up: HELLO comes first and only once' \
                 02 00 0:2 5:4 0:4 0:4",
            ),
            (
                "04 00 0:2 6:4 0:4 4:4 'none'",
                "04 00 1:2 6:4 0:4 143:4 \
                 'there are no statistics of that name; accepted: none, `server`, `cache`, `workers`, `items`, `memory`, `connections`, `settings`, `since_reset`'",
            ),
        ],
    },
];

/// Reads the notation of the tables; `None` is a byte that may be anything.
fn bytes(notation: &str) -> Vec<Option<u8>> {
    let mut bytes = Vec::new();
    let mut rest = notation.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (text, after) = quoted.split_once('\'').expect("a quote is closed");
            bytes.extend(text.bytes().map(Some));
            rest = after.trim_start();
            continue;
        }
        let (token, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after.trim_start();
        if let Some(count) = token.strip_prefix('?') {
            bytes.extend(std::iter::repeat_n(None, count.parse().unwrap()));
        } else if let Some((number, width)) = token.split_once(':') {
            let number = number.parse::<u64>().unwrap().to_le_bytes();
            bytes.extend(
                number[..width.parse().unwrap()]
                    .iter()
                    .map(|byte| Some(*byte)),
            );
        } else {
            bytes.push(Some(u8::from_str_radix(token, 16).unwrap()));
        }
    }
    bytes
}

fn to_send(notation: &str) -> Vec<u8> {
    bytes(notation)
        .into_iter()
        .map(|byte| byte.expect("what is sent is known"))
        .collect()
}

fn expect(raw: &mut Raw, expected: &str, context: &str) {
    let expected = bytes(expected);
    let got = raw.read_exactly(expected.len());
    let same = expected
        .iter()
        .zip(&got)
        .all(|(want, got)| want.is_none_or(|want| want == *got));
    assert!(
        same,
        "{context}\nexpected {expected:02x?}\ngot      {got:02x?}"
    );
}

/// Empties the cache.
fn flush(control: &mut Raw) {
    control.send(&request(0x05, 0, 0, &[0; 8]));
    assert_eq!(control.told().opcode, 0x05);
}

fn on_one_and_on_many_workers(run: impl Fn(&Running, &Script)) {
    for workers in [1, 4] {
        let running = start(settings(workers));
        for script in SCRIPTS {
            flush(&mut Raw::greeted(&running));
            run(&running, script);
        }
    }
}

#[test]
fn every_script_runs_step_by_step() {
    on_one_and_on_many_workers(|running, script| {
        let mut raw = Raw::greeted(running);
        for (sent, expected) in script.steps {
            raw.send(&to_send(sent));
            expect(&mut raw, expected, script.name);
        }
        raw.finish_writing();
        raw.expect_end();
    });
}

#[test]
fn every_script_runs_sent_at_once_with_its_greeting() {
    on_one_and_on_many_workers(|running, script| {
        let mut raw = Raw::connect(running);
        let mut all = HELLO.to_vec();
        all.extend(script.steps.iter().flat_map(|(sent, _)| to_send(sent)));
        raw.send(&all);
        assert_eq!(raw.told().opcode, 0x01);
        for (_, expected) in script.steps {
            expect(&mut raw, expected, script.name);
        }
        raw.finish_writing();
        raw.expect_end();
    });
}

#[test]
fn every_worker_serves_every_key() {
    on_one_and_on_many_workers(|running, script| {
        let mut connections: Vec<Raw> = (0..4).map(|_| Raw::greeted(running)).collect();
        for (index, (sent, expected)) in script.steps.iter().enumerate() {
            let raw = &mut connections[index % 4];
            raw.send(&to_send(sent));
            expect(raw, expected, script.name);
        }
    });
}

#[test]
fn every_script_runs_split_at_every_byte() {
    let running = start(settings(1));
    let mut control = Raw::greeted(&running);
    let mut read_before = 0;
    for script in SCRIPTS {
        let mut all = HELLO.to_vec();
        all.extend(script.steps.iter().flat_map(|(sent, _)| to_send(sent)));
        for split in 1..all.len() {
            flush(&mut control);
            let read = control.figure("bytes_in");
            assert!(read > read_before);
            let mut raw = Raw::connect(&running);
            raw.send(&all[..split]);
            // The server has read the first part once the count shows it beside the questions.
            let mut asked = 0;
            control.wait_for_figure("bytes_in", |now| {
                asked += 16;
                now >= read + asked + split as u64
            });
            raw.send(&all[split..]);
            assert_eq!(raw.told().opcode, 0x01);
            for (_, expected) in script.steps {
                expect(
                    &mut raw,
                    expected,
                    &format!("{}, split at {split}", script.name),
                );
            }
            read_before = read;
        }
    }
}

#[test]
fn every_script_runs_byte_by_byte() {
    on_one_and_on_many_workers(|running, script| {
        let mut raw = Raw::greeted(running);
        for (sent, expected) in script.steps {
            for byte in to_send(sent) {
                raw.send(&[byte]);
            }
            expect(&mut raw, expected, script.name);
        }
    });
}

#[test]
fn quit_is_answered_and_what_follows_is_not_executed() {
    let running = start(settings(1));
    let mut raw = Raw::greeted(&running);
    let quit = request(0x03, 26, 0, b"");
    let late = server_harness::set(27, "late", b"v");
    raw.send(&[quit.clone(), late].concat());
    assert_eq!(raw.read_exactly(16), quit);
    raw.expect_end();
    let mut other = Raw::greeted(&running);
    other.send(&server_harness::get(1, "late"));
    assert_eq!(other.told().status, larder_protocol::Status::NOT_FOUND);
}

#[test]
fn thousands_of_requests_in_one_write_are_answered_in_order() {
    let running = start(settings(2));
    let mut raw = Raw::greeted(&running);
    let keys: Vec<String> = (0..5000).map(|number| format!("key-{number}")).collect();
    let sets = keys
        .iter()
        .zip(0..)
        .flat_map(|(key, id)| server_harness::set(id, key, key.as_bytes()));
    let sets: Vec<u8> = sets.collect();
    raw.send(&sets);
    for id in 0..5000 {
        let told = raw.told();
        assert_eq!((told.opcode, told.id), (0x10, id));
    }
    let gets = keys
        .iter()
        .zip(0..)
        .flat_map(|(key, id)| server_harness::get(id, key));
    let gets: Vec<u8> = gets.collect();
    raw.send(&gets);
    for (key, id) in keys.iter().zip(0..) {
        let told = raw.told();
        assert_eq!((told.id, &told.text), (id, key));
    }
}
