//! `larder replay`: what is nearly a trace, failures for programs, and the memory that a report tells of.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/replays.rs"]
mod replays;

use process::ServerProcess;
use replays::{only_run, replay, report};
use serde_json::Value;

/// A CSV in gzip, padded to the length of whole records.
const GZIPPED: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x4e, 0xad, 0xd4, 0x29, 0xce,
    0xac, 0x4a, 0xe5, 0xca, 0xd6, 0x31, 0x34, 0x30, 0xe0, 0x02, 0x00, 0x1c, 0xda, 0x94, 0x45, 0x0f,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

#[test]
fn what_is_no_trace_is_named_with_what_makes_one_of_it() {
    assert_eq!(GZIPPED.len() % 24, 0);
    let utf_16: Vec<u8> = "\u{feff}time,key,size\n0,a,100\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (trace, sentence) in [
        (
            GZIPPED,
            "it is compressed with gzip; pipe it through zcat: zcat FILE | larder replay -",
        ),
        (
            b"BZh91AY&SY\x12\x34\x56\x78",
            "bzcat FILE | larder replay -",
        ),
        (
            b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46",
            "xzcat FILE | larder replay -",
        ),
        (&utf_16, "it is text in UTF-16; have it converted: iconv"),
    ] {
        for format in ["auto", "csv", "oracle-general"] {
            let ended = replay(trace, &["--format", format]);
            assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""), "{sentence}");
            assert!(ended.stderr.contains(sentence), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_line_that_names_columns_makes_text_of_keys_that_are_none() {
    for header in ["key,size\n", "\r\nKEY,size\r\n", " size , key\n"] {
        let lines: &[u8] = match header {
            " size , key\n" => b"100,\xff\x00\n100,\xff\x00\n",
            _ => b"\xff\x00,100\n\xff\x00,100\n",
        };
        let found = report([header.as_bytes(), lines].concat(), &[]);
        assert_eq!(only_run(&found)["hits"], 1, "{header:?}");
    }
}

#[test]
fn a_failure_is_an_object_for_programs() {
    for (options, trace, kind) in [
        (&["--memory", "1MiB"][..], "key,size\nk,1\n", "usage"),
        (&[], "key,bytes\n", "usage"),
        (
            &["--server", "larder+unix:///no/such"],
            "key,size\nk,1\n",
            "unreachable",
        ),
    ] {
        let ended = replay(trace, &[options, &["--json"]].concat());
        let failure: Value = serde_json::from_str(&ended.stdout).expect(&ended.stdout);
        assert_eq!((&failure["kind"], &ended.stderr[..]), (&kind.into(), ""));
        assert!(
            failure["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty())
        );
        assert_eq!(ended.code, Some(if kind == "usage" { 2 } else { 3 }));
    }
}

/// What a run says of the memory: the sum of its places, and the whole.
fn memory(run: &Value) -> [u64; 2] {
    let ledger = run["ledger"].as_object().unwrap();
    let bytes = |bytes: &Value| bytes.as_u64().unwrap();
    let places = ledger.iter().filter(|(name, _)| *name != "memory_bytes");
    [
        places.map(|(_, place)| bytes(place)).sum(),
        bytes(&ledger["memory_bytes"]),
    ]
}

#[test]
fn the_ledger_sums_to_the_memory_and_large_values_are_live() {
    let trace = "time,key,size\n0,a,9000000\n1,a,9000000\n2,b,100\n";
    let server = ServerProcess::start();
    for target in [&["--memory", "64MiB"][..], &["--server", &server.url()]] {
        let found = report(trace, target);
        let run = only_run(&found);
        let [sum, whole] = memory(run);
        assert_eq!((sum, whole), (64 << 20, 64 << 20), "{run}");
        let ledger = |name: &str| run["ledger"][name].as_u64().unwrap();
        let live_bytes = ledger("live_bytes") + ledger("large_bytes");
        assert!(live_bytes > 9_000_000, "{run}");
        let share = run["live_share"].as_f64().unwrap();
        assert!(
            (share - live_bytes as f64 / whole as f64).abs() < 1e-9,
            "{run}"
        );
    }
    let text = replay(trace, &["--memory", "64MiB"]).stdout;
    let last = text.lines().last().unwrap_or_default();
    let words: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(words, ["memory_bytes", "67,108,864"], "{text}");
}
