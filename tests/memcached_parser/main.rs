//! The parser of memcached's text protocol beside a second one that is written to be read, on
//! streams that are made of what the grammar is made of. The fuzzer has them both as well.
#![cfg(feature = "server")]

#[path = "../../src/dialect/memcached/command/mod.rs"]
#[allow(dead_code, reason = "the parser has more uses than to be described")]
mod command;
mod described;
mod oracle;

use oracle::{Limits, Told};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// LIMIT: small, so that random streams cross every bound.
const LIMITS: Limits = Limits {
    line: 64,
    keys_line: 600,
    joined: 5,
};

const WORDS: &[&str] = &[
    "get",
    "gets",
    "gat",
    "gats",
    "set",
    "add",
    "replace",
    "append",
    "prepend",
    "cas",
    "delete",
    "incr",
    "decr",
    "touch",
    "flush_all",
    "version",
    "verbosity",
    "quit",
    "shutdown",
    "stats",
    "mg",
    "ms",
    "md",
    "ma",
    "mn",
    "me",
    "mx",
    "noreply",
    "k",
    "key",
    "0",
    "1",
    "2",
    "5",
    "-1",
    "17",
    "2147483645",
    "2147483646",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "000000000000000000000",
    "x",
    "v",
    "t",
    "f",
    "s",
    "c",
    "q",
    "b",
    "u",
    "T30",
    "T-1",
    "Tx",
    "N0",
    "N",
    "C5",
    "C",
    "F7",
    "F-1",
    "MA",
    "MP",
    "MS",
    "MR",
    "ME",
    "MI",
    "MD",
    "M+",
    "M-",
    "MX",
    "M",
    "J5",
    "Jx",
    "D2",
    "Dx",
    "Oabc",
    "O",
    "E5",
    "I",
    "R3",
    "h",
    "l",
    "L/a",
    "Ph",
    "aGVsbG8=",
    "aGVsbG8",
    "aGVsbG9=",
    "====",
    "\u{e9}",
    "HTTP/1.1",
    "settings",
    "a\tb",
    "a\rb",
];

/// A stream of commands, and of what nearly is one.
fn stream(random: &mut StdRng) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.random_range(1..6) {
        match random.random_range(0..20) {
            0 => stream.extend(std::iter::repeat_n(0x80, random.random_range(1..30))),
            1 => stream.extend((0..random.random_range(0..30)).map(|_| random.random::<u8>())),
            2 => stream.extend(std::iter::repeat_n(b'k', random.random_range(240..260))),
            _ => {}
        }
        // Lines that begin as a store does have a value behind them, more often than not.
        match random.random_range(0..10) {
            0..3 => {
                store(random, &mut stream);
                continue;
            }
            3..6 => {
                likely(random, &mut stream);
                continue;
            }
            _ => {}
        }
        for word in 0..random.random_range(0..8) {
            if word > 0 {
                stream.extend(std::iter::repeat_n(b' ', 1 + random.random_range(0..8) / 7));
            }
            let any = WORDS[random.random_range(0..WORDS.len())];
            stream.extend_from_slice(any.as_bytes());
        }
        stream.extend_from_slice(match random.random_range(0..8) {
            0 => b"\n",
            1 => b"\r\r\n",
            2 => b" \r\n",
            _ => b"\r\n",
        });
    }
    if random.random_bool(0.2) {
        stream.truncate(random.random_range(0..=stream.len()));
    }
    stream
}

/// A line that is a command, or would be one with other arguments.
fn likely(random: &mut StdRng, stream: &mut Vec<u8>) {
    const BEGINNINGS: &[&str] = &[
        "get k",
        "gets k",
        "gat 0 k",
        "gats 100 k",
        "delete k",
        "incr k",
        "decr k",
        "touch k",
        "flush_all",
        "verbosity",
        "stats",
        "lru_crawler",
        "lru_crawler metadump",
        "lru_crawler mgdump",
        "version",
        "mg k",
        "md k",
        "ma k",
        "mg aGk= b",
        "me k",
    ];
    let beginning = BEGINNINGS[random.random_range(0..BEGINNINGS.len())];
    stream.extend_from_slice(beginning.as_bytes());
    for _ in 0..random.random_range(0..3) {
        let any = WORDS[random.random_range(26..WORDS.len())];
        stream.push(b' ');
        stream.extend_from_slice(any.as_bytes());
    }
    stream.extend_from_slice(b"\r\n");
}

fn store(random: &mut StdRng, stream: &mut Vec<u8>) {
    let bytes = random.random_range(0..8_usize);
    let mut pick = |from: &[&'static str]| from[random.random_range(0..from.len())];
    let name = pick(&["set", "add", "append", "prepend", "replace", "cas", "ms"]);
    let line = match name {
        "ms" => {
            let flags = [
                "", " v", " T30", " MA", " MP", " MX", " q", " F5", " C7", " b", " y", " Oo",
            ];
            format!(
                "ms {} {bytes}{}{}",
                pick(&["k", "aGk="]),
                pick(&flags),
                pick(&flags)
            )
        }
        _ => {
            let flags = pick(&["0", "17", "x", "4294967295"]);
            let time = pick(&["0", "-1", "100", "y"]);
            let cas = if name == "cas" {
                pick(&[" 5", " x"])
            } else {
                ""
            };
            let noreply = pick(&["", " noreply", " 3"]);
            format!("{name} k {flags} {time} {bytes}{cas}{noreply}")
        }
    };
    stream.extend_from_slice(line.as_bytes());
    stream.extend_from_slice(b"\r\n");
    let sent = match random.random_range(0..6) {
        0 => bytes + 1,
        1 => bytes.saturating_sub(1),
        _ => bytes,
    };
    stream.extend((0..sent).map(|_| random.random_range(b'a'..=b'z')));
    stream.extend_from_slice(b"\r\n");
}

#[test]
fn the_parser_says_what_the_second_one_says() {
    let mut random = StdRng::seed_from_u64(0x6d63);
    let (mut commands, mut refused, mut incomplete) = (0, 0, 0);
    for _ in 0..40_000 {
        let stream = stream(&mut random);
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let told = described::front(rest, LIMITS);
            assert_eq!(
                told,
                oracle::front(rest, LIMITS),
                "{:?}",
                oracle::shown(rest)
            );
            let skip = match told {
                Told::Command(_, bytes) => {
                    commands += 1;
                    bytes
                }
                Told::Refused(_, skip) => {
                    refused += 1;
                    skip.map_or(rest.len(), |bytes| bytes as usize)
                }
                Told::Incomplete(needed) => {
                    assert!(needed > rest.len());
                    incomplete += 1;
                    rest.len()
                }
            };
            rest = &rest[skip.min(rest.len())..];
        }
    }
    // The streams are worth something only if all of it comes up.
    assert!(
        commands > 20_000 && refused > 20_000 && incomplete > 2_000,
        "{commands} {refused} {incomplete}"
    );
}

#[test]
fn what_a_command_means_does_not_depend_on_how_much_is_behind_it() {
    let mut random = StdRng::seed_from_u64(0x7370);
    for _ in 0..4_000 {
        let stream = stream(&mut random);
        let whole = described::front(&stream, LIMITS);
        for end in 0..stream.len() {
            match described::front(&stream[..end], LIMITS) {
                Told::Incomplete(needed) => {
                    assert!(needed > end);
                    match &whole {
                        // Nobody waits for more than what is there in the end.
                        Told::Command(_, bytes) => assert!(needed <= *bytes),
                        Told::Incomplete(whole) => assert!(needed <= *whole),
                        Told::Refused(..) => {}
                    }
                }
                told => assert_eq!(told, whole, "{:?} up to {end}", oracle::shown(&stream)),
            }
        }
    }
}
