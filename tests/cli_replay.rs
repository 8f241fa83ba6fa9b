//! `larder replay`: what it reads, what it refuses, and what it reports.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/replays.rs"]
mod replays;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use process::{ServerProcess, end_of, larder};
use replays::{only_run, replay, report};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::Value;

fn compressed(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// A file or a place for one, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}")))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Not every place has come to hold a file.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Requests of a made-up trace: few keys that are often read and many that are not, about 4 MiB.
fn requests() -> impl Iterator<Item = (u32, u64, u32)> {
    let mut state = 7_u64;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    (0..20_000).map(move |number| {
        let range = [10, 200, 30_000][draw(3) as usize];
        let key = draw(range);
        (number / 100, key, 100 + (key * 37 % 900) as u32)
    })
}

fn as_csv() -> String {
    let lines = requests().map(|(time, key, size)| format!("{time},{key},{size}\n"));
    "time,key,size\n".to_owned() + &lines.collect::<String>()
}

fn as_oracle_general() -> Vec<u8> {
    let mut trace = Vec::new();
    for (time, key, size) in requests() {
        trace.extend(time.to_le_bytes());
        trace.extend(key.to_le_bytes());
        trace.extend(size.to_le_bytes());
        trace.extend((-1_i64).to_le_bytes());
    }
    trace
}

#[test]
fn every_format_compressed_or_not_tells_the_same_story() {
    let (csv, binary) = (as_csv().into_bytes(), as_oracle_general());
    let expected = report(&csv, &["--memory", "2MiB"]);
    assert_eq!(expected["requests"], 20_000);
    let ratio = only_run(&expected)["miss_ratio"].as_f64().unwrap();
    assert!(ratio > 0.2 && ratio < 0.8, "{ratio}");
    for (trace, format) in [
        (&csv, "csv"),
        (&compressed(&csv), "csv"),
        (&binary, "oracle-general"),
        (&compressed(&binary), "oracle-general"),
    ] {
        for format in ["auto", format] {
            let found = report(trace, &["--memory", "2MiB", "--format", format]);
            assert_eq!(found["runs"], expected["runs"], "{format}");
        }
    }
}

#[test]
fn a_file_is_read_as_standard_input_is() {
    let file = Scratch::new("file.csv.zst");
    std::fs::write(&file.0, compressed(as_csv().as_bytes())).unwrap();
    let ended = end_of(&mut larder(&["replay", file.path(), "--json"]), b"");
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found["trace"], file.path());
    assert_eq!(found["runs"], report(as_csv(), &[])["runs"]);
}

#[test]
fn frames_that_zstd_itself_wrote_are_read_one_after_the_other() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/replay");
    for (name, requests) in [
        ("zstd-csv", 4),
        ("zstd-two-frames", 5),
        ("zstd-long", 2004),
        ("zstd-oracle-general", 3),
    ] {
        let trace = std::fs::read(corpus.join(name)).unwrap();
        assert_eq!(report(trace, &[])["requests"], requests, "{name}");
    }
}

#[test]
fn what_is_wrong_with_a_trace_is_said_with_its_line() {
    let whole = as_oracle_general();
    let torn_frame = &compressed(as_csv().as_bytes())[..1000];
    for (trace, sentence) in [
        (&b""[..], "the trace is empty: it has no request"),
        (b"\n\n", "the trace is empty"),
        (b"key,size\n", "the trace is empty: it has no request"),
        (&compressed(b""), "the trace is empty"),
        (
            b"time,key,bytes\n",
            "line 1: `bytes` is not a column of a trace; accepted: time, key, size, op, ttl",
        ),
        (b"0,17,100\n", "line 1: `0` is not a column"),
        (b"key,time\nk,1\n", "line 1: there is no column `size`"),
        (b"size,time\n1,1\n", "line 1: there is no column `key`"),
        (b"key,size,key\n", "line 1: the column `key` is there twice"),
        (b"key,size,ttl\n", "line 1: there is no column `time`"),
        (
            b"time,key,size\n1,k,100\n2,k\n",
            "line 3: the line has 2 fields where the first has 3",
        ),
        (
            b"key,size\nk,1\n\n\nk,1,2\n",
            "line 5: the line has 3 fields where the first has 2",
        ),
        (
            b"key,size\nk,100\n\n\nk,ten\n",
            "line 5: the size `ten` is not a whole number of bytes",
        ),
        (
            b"key,size\r\nk,4294967296\r\n",
            "line 2: the size `4294967296`",
        ),
        (b"key,size\r\n\r\nk,1\r\nk,x\r\n", "line 4: the size `x`"),
        (b"key,size\nk,1\nk,x", "line 3: the size `x`"),
        (b"\nkey,bytes\n", "line 2: `bytes` is not a column"),
        (
            b"key,size\nk,1\n\"k,2\nk,3\n",
            "line 3: a quoted field goes on past the end of its line",
        ),
        (b"key,size\nk,-1\n", "line 2: the size `-1`"),
        (b"key,size\n,1\n", "line 2: the key is empty"),
        (
            b"key,time,size\nk,NaN,1\n",
            "line 2: the time `NaN` is not a number of seconds",
        ),
        (b"key,time,size\nk,-0.5,1\n", "line 2: the time `-0.5`"),
        (
            b"key,time,size,ttl\nk,1,1,soon\n",
            "line 2: the ttl `soon` is not a number of seconds",
        ),
        (
            b"op,key,size\nget,k,9\nfetch,k,9\n",
            "line 3: `fetch` is not an operation; accepted: get, gets, ",
        ),
        (
            &whole[..24 * 9 + 5],
            "record 10: the trace ends after 5 of the record's 24 bytes",
        ),
        (
            torn_frame,
            "the trace cannot be read: it ends within a zstd frame",
        ),
    ] {
        let ended = replay(trace, &[]);
        assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""), "{sentence}");
        let expected = format!("larder replay: standard input: {sentence}");
        assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    }
}

#[test]
fn a_key_that_is_too_long_is_named_by_its_line() {
    let trace = format!("key,size\nk,1\n{},300\n", "k".repeat(250));
    let ended = replay(trace, &[]);
    assert!(
        ended.stderr.contains("line 3: the key has 250 bytes"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_cannot_work_is_refused_before_it_begins() {
    let nowhere = format!("{}/no-such-folder/out.svg", env!("CARGO_TARGET_TMPDIR"));
    let sizes = "2MiB,3MiB";
    for (options, sentence) in [
        (
            &["--memory", "1MiB"][..],
            "it must be between 2097152 (2 MiB)",
        ),
        (&["--memory", "much"], "`much` is not a size"),
        (
            &["--memory", "2MiB", "--threads", "200"],
            "200 sessions cannot work",
        ),
        (&["--threads", "0"], "0 is not in 1..=256"),
        (&["--plot", "out.svg"], "at least two different sizes"),
        (
            &["--plot", "out.svg", "--memory", "2MiB,2MiB"],
            "at least two different sizes",
        ),
        (
            &["--plot", &nowhere, "--memory", sizes],
            "there is no folder",
        ),
        (
            &["--overwrite", "1.5"],
            "`1.5` is not a share; accepted: 0 to 1",
        ),
        (
            &["--server", "larder://127.0.0.1:1", "--memory", sizes],
            "cannot be used with",
        ),
        (
            &["--format", "lcs"],
            "possible values: auto, csv, oracle-general",
        ),
    ] {
        let ended = replay(as_csv(), options);
        assert_eq!(
            (ended.code, &ended.stdout[..]),
            (Some(2), ""),
            "{options:?}"
        );
        assert!(
            ended.stderr.contains(sentence),
            "{options:?}: {}",
            ended.stderr
        );
    }
    let missing = end_of(&mut larder(&["replay", &nowhere]), b"");
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.stderr.contains("cannot open "),
        "{}",
        missing.stderr
    );
    let folder = end_of(&mut larder(&["replay", env!("CARGO_TARGET_TMPDIR")]), b"");
    assert!(
        folder.stderr.contains("is a folder, not a trace"),
        "{}",
        folder.stderr
    );
}

#[test]
fn a_sweep_is_a_table_with_a_line_for_each_combination() {
    let ended = replay(
        as_csv(),
        &["--memory", "2MiB,3MiB,64MiB", "--threads", "1,4"],
    );
    assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""));
    let mut lines = ended.stdout.lines().skip(2);
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let header = "memory threads miss ratio byte miss moved per byte live share";
    assert_eq!(words(lines.next().unwrap()).join(" "), header);
    let rows: Vec<Vec<String>> = lines.map(words).collect();
    let settings: Vec<String> = rows.iter().map(|row| row[..3].join(" ")).collect();
    assert_eq!(
        settings,
        [
            "2 MiB 1", "2 MiB 4", "3 MiB 1", "3 MiB 4", "64 MiB 1", "64 MiB 4"
        ]
    );
    let miss_ratio = |row: &[String]| row[3].parse::<f64>().unwrap();
    assert!(miss_ratio(&rows[0]) > miss_ratio(&rows[2]));
    assert!(miss_ratio(&rows[2]) > miss_ratio(&rows[4]));
    assert_eq!(
        rows[4][3], rows[5][3],
        "what holds everything misses what is new"
    );
}

#[test]
fn a_report_adds_up() {
    let found = report(as_csv(), &["--memory", "64MiB"]);
    let run = only_run(&found);
    let mut seen = std::collections::HashMap::new();
    let mut all_bytes = 0;
    for (_, key, size) in requests() {
        seen.insert(key, u64::from(size));
        all_bytes += u64::from(size);
    }
    let new_bytes: u64 = seen.values().sum();
    let hits = 20_000 - seen.len() as u64;
    for (name, value) in [
        ("gets", 20_000),
        ("hits", hits),
        ("get_bytes", all_bytes),
        ("hit_bytes", all_bytes - new_bytes),
        ("stored", seen.len() as u64),
        ("inserted_bytes", new_bytes),
        ("too_large", 0),
        ("no_space", 0),
        ("undersized", 0),
    ] {
        assert_eq!(run[name], value, "{name}");
    }
    assert_eq!(run["hit_ratio"], hits as f64 / 20_000.0);
    let sum = run["hit_ratio"].as_f64().unwrap() + run["miss_ratio"].as_f64().unwrap();
    assert!((sum - 1.0).abs() < 1e-9);
    assert_eq!(run["ledger"]["memory_bytes"], 64 << 20);
    assert!(run["ledger"]["live_bytes"].as_u64().unwrap() > new_bytes);
    let text = replay(as_csv(), &["--memory", "64MiB"]).stdout;
    for line in [
        "requests       20,000 in ",
        "cache          64 MiB, 1 session",
        "ledger",
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "{line}: {text}"
        );
    }
}

#[test]
fn a_plot_is_a_picture_of_the_sweep() {
    let plot = Scratch::new("curve.svg");
    let options = ["--memory", "2MiB,4MiB,8MiB", "--plot", plot.path()];
    assert_eq!(replay(as_csv(), &options).code, Some(0));
    let picture = std::fs::read_to_string(&plot.0).unwrap();
    assert!(picture.starts_with("<svg ") && picture.trim_end().ends_with("</svg>"));
    let opened = picture.matches('<').count() - picture.matches("</").count();
    let closed = picture.matches("/>").count() + picture.matches("</").count();
    assert_eq!(opened, closed, "every element ends");
    for text in [
        "2 MiB",
        "8 MiB",
        "of the reads",
        "of the bytes read",
        "standard input",
    ] {
        assert!(picture.contains(text), "{text}");
    }
}

#[test]
fn two_replays_come_to_the_same() {
    let options = [
        "--memory",
        "2MiB,3MiB",
        "--threads",
        "1,3",
        "--overwrite",
        "0.3",
    ];
    let first = report(as_csv(), &options);
    let second = report(as_csv(), &options);
    assert_eq!(first["runs"], second["runs"]);
    let other = report(as_csv(), &[&options[..], &["--seed", "2"]].concat());
    assert_ne!(first["runs"], other["runs"]);
}

#[test]
fn a_share_of_the_reads_becomes_overwrites() {
    let found = report(as_csv(), &["--overwrite", "0.3"]);
    let run = only_run(&found);
    let overwrites = run["overwrites"].as_u64().unwrap();
    assert!((5_600..6_400).contains(&overwrites), "{overwrites}");
    assert_eq!(run["gets"], 20_000 - overwrites);
    let all = report(as_csv(), &["--overwrite", "1"]);
    let run = only_run(&all);
    assert_eq!((&run["stored"], &run["gets"]), (&20_000.into(), &0.into()));
    assert_eq!(run["hit_ratio"], Value::Null);
}

#[test]
fn threads_of_their_own_carry_out_every_request_once() {
    let options = ["--memory", "2MiB,64MiB", "--threads", "4", "--parallel"];
    let found = report(as_csv(), &options);
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs[0]["gets"], 20_000);
    // Where nothing is evicted, each key's requests in their order leave nothing to chance.
    let in_turn = report(as_csv(), &["--memory", "64MiB", "--threads", "4"]);
    for name in ["gets", "hits", "hit_bytes", "stored", "inserted_bytes"] {
        assert_eq!(runs[1][name], only_run(&in_turn)[name], "{name}");
    }
}

#[test]
fn operations_do_what_their_names_say() {
    let trace = "\
op,key,size
replace,a,50
add,a,50
add,a,60
get,a,50
append,a,11
delete,a,0
delete,a,0
GET,a,50
incr,n,10
incr,n,10
incr,a,50
set,b,20
touch,b,20
cas,b,30
get,b,30
";
    let server = ServerProcess::start();
    for target in [&[][..], &["--server", &server.url()]] {
        let found = report(trace, target);
        let run = only_run(&found);
        for (name, value) in [
            ("requests", 15),
            ("gets", 3),
            ("hits", 2),
            ("stored", 7),
            // 50, 11, 50 after a miss, two counters of one digit, 20 and 30.
            ("inserted_bytes", 50 + 11 + 50 + 2 + 2 + 20 + 30),
            // replace and add where the key is absent and present; a count of what is no number.
            ("not_stored", 3),
            ("deleted", 1),
            ("undersized", 2),
        ] {
            assert_eq!(run[name], value, "{name} {target:?}");
        }
    }
}

#[test]
fn what_a_trace_gives_a_ttl_expires_on_the_trace_s_clock() {
    let trace = "\
time,key,size,ttl
10,a,50,1.5
11.499,a,50,
11.5,a,50,0
9,a,50,
1000000,a,50,
";
    for threads in ["1", "2", "5"] {
        let found = report(trace, &["--threads", threads]);
        let run = only_run(&found);
        // Expired to the millisecond; stored without one after that, and time never goes back.
        assert_eq!((&run["hits"], &run["stored"]), (&3.into(), &2.into()));
    }
}

#[test]
fn a_size_below_the_key_s_own_is_stored_with_no_value_and_counted() {
    let trace = "key,size\n1234567,3\n1234567,3\nlong-text-key,5\n12345678,8\n";
    let found = report(trace, &[]);
    let run = only_run(&found);
    assert_eq!(run["undersized"], 3);
    assert_eq!(run["hits"], 1);
    // 8 bytes of a number, twice, and a text with the byte that tells it from one.
    assert_eq!(run["inserted_bytes"], 8 + 14 + 8);
    let text = replay(trace, &[]).stdout;
    assert!(text.contains("3 requests smaller than their key"), "{text}");
}

#[test]
fn what_is_too_large_is_counted_and_not_stored() {
    let trace = "key,size\na,4000000000\nb,2000000\nb,2000000\nc,100\n";
    let server = ServerProcess::serve(&[
        "--memory",
        "2MiB",
        "--workers",
        "1",
        "--listen",
        "127.0.0.1:0",
    ]);
    for target in [&["--memory", "2MiB"][..], &["--server", &server.url()]] {
        let found = report(trace, target);
        let run = only_run(&found);
        assert_eq!(
            (&run["too_large"], &run["stored"]),
            (&3.into(), &1.into()),
            "{target:?}"
        );
    }
}

#[test]
fn a_server_keeps_what_a_cache_in_this_process_keeps() {
    let server = ServerProcess::start();
    let found = report(as_csv(), &["--server", &server.url(), "--overwrite", "0.1"]);
    assert_eq!(found["server"], server.url());
    let in_process = report(as_csv(), &["--memory", "64MiB", "--overwrite", "0.1"]);
    for name in [
        "gets",
        "hits",
        "hit_bytes",
        "overwrites",
        "stored",
        "inserted_bytes",
        "memory_bytes",
    ] {
        assert_eq!(
            only_run(&found)[name],
            only_run(&in_process)[name],
            "{name}"
        );
    }
    assert!(only_run(&found)["ledger"]["live_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn a_server_that_is_not_there_ends_a_replay_with_3() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("larder://{}", listener.local_addr().unwrap());
    drop(listener);
    let ended = replay(as_csv(), &["--server", &nobody]);
    assert_eq!((ended.code, &ended.stdout[..]), (Some(3), ""));
    assert!(
        ended.stderr.contains("cannot connect to"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_pipe_that_closes_is_no_failure() {
    let trace = Scratch::new("closed-pipe.csv");
    std::fs::write(&trace.0, as_csv()).unwrap();
    let mut child = larder(&["replay", trace.path()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(
        (ended.status.code(), &ended.stderr[..]),
        (Some(0), &b""[..])
    );
}

#[test]
fn the_help_tells_formats_and_choices() {
    let help = end_of(&mut larder(&["replay", "--help"]), b"");
    assert_eq!(help.code, Some(0));
    for text in [
        "oracle-general",
        "zstd",
        "its 8 bytes",
        "a clock of its own",
        "in turn",
    ] {
        assert!(help.stdout.contains(text), "{text}");
    }
}
