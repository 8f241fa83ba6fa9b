//! `larder bench` where something is wrong: servers that say nothing, an early end, loads that are none.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use process::{Ended, ServerProcess, end_of, larder};
use serde_json::Value;

/// Somebody who listens, and where.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A server of memcached's protocol that answers `stats` with this, so many sets as one does, and then
/// nothing; its URL.
fn falls_silent(stats: &'static str, sets: usize) -> String {
    let (listener, address) = listener();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A load that gives up closes its connections.
            std::thread::spawn(move || answer(&stream.unwrap(), stats, sets).ok());
        }
    });
    format!("memcached://{address}")
}

fn answer(mut stream: &TcpStream, stats: &str, mut sets: usize) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Some(line) = lines.next().transpose()? {
        if line.starts_with(b"stats") {
            stream.write_all(stats.as_bytes())?;
        } else if line.starts_with(b"set") && sets > 0 {
            lines.next();
            sets -= 1;
            stream.write_all(b"STORED\r\n")?;
        }
    }
    Ok(())
}

fn bench(url: &str, options: &[&str]) -> Ended {
    let mut command = larder(&["bench", "--keys", "100", "--server", url]);
    end_of(command.args(options), b"")
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_given_up() {
    let (_listener, address) = listener();
    for scheme in ["larder", "memcached", "redis"] {
        let url = format!("{scheme}://{address}");
        for options in [&["--load"][..], &["--idle", "5"], &["--compare", &url]] {
            let ended = bench(&url, &[options, &["--timeout", "50ms"]].concat());
            assert_eq!(
                (ended.code, &ended.stdout[..]),
                (Some(3), ""),
                "{options:?}"
            );
            let sentence = format!(
                "cannot connect to {url}: it took the connection and did not answer within 50ms"
            );
            assert!(ended.stderr.contains(&sentence), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let stats = "STAT version 0\r\nEND\r\n";
    let url = falls_silent(stats, 3);
    let options = ["--connections", "2", "--timeout", "500ms"];
    let ended = bench(&url, &[&options[..], &["--load"]].concat());
    assert_eq!((ended.code, &ended.stdout[..]), (Some(3), ""), "{ended:?}");
    let sentence = format!(
        "of 100 keys could be written to {url} before the load: the server did not answer within 500ms"
    );
    assert!(ended.stderr.contains(&sentence), "{}", ended.stderr);
    for load in [
        &["--requests", "10"][..],
        &["--load-only"],
        &["--rate", "1k", "--requests", "10"],
        &["--duration", "100ms"],
    ] {
        let ended = bench(&url, &[&options[..], load, &["--ratio", "0:1"]].concat());
        assert_eq!(ended.code, Some(3), "{load:?}: {ended:?}");
        assert!(
            ended.stderr.contains("1 connections lost: the "),
            "{ended:?}"
        );
    }
}

#[test]
fn a_server_that_will_not_tell_about_itself_takes_a_load() {
    let url = falls_silent("ERROR\r\n", 1000);
    let ended = bench(&url, &["--load-only", "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["stored"]), (Some(0), &100.into()));
}

#[test]
fn the_first_ctrl_c_ends_it_while_it_waits_for_a_first_answer() {
    let (listener, address) = listener();
    for scheme in ["larder", "memcached"] {
        let url = format!("{scheme}://{address}");
        let mut command = larder(&["bench", "--timeout", "1h", "--server", &url]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let _connection = listener.accept().unwrap();
        interrupt(&child);
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(
            (ended.status.code(), &stderr[..]),
            (Some(0), "larder bench: ended before the load began\n")
        );
    }
}

#[test]
fn the_first_ctrl_c_ends_a_load_that_nobody_answers() {
    let (listener, address) = listener();
    let url = format!("memcached://{address}");
    let options = ["--timeout", "1h", "--connections", "1", "--json"];
    let mut command = larder(&["bench", "--load-only", "--server", &url]);
    let child = command
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (asking, _) = listener.accept().unwrap();
    answer_stats(&asking);
    let (loading, _) = listener.accept().unwrap();
    let mut line = String::new();
    BufReader::new(&loading).read_line(&mut line).unwrap();
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&report["interrupted"], &report["operations"]),
        (&true.into(), &0.into())
    );
    assert_nothing_is_told_for_each_operation(&report);
}

fn answer_stats(mut stream: &TcpStream) {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "stats\r\n");
    stream.write_all(b"END\r\n").unwrap();
}

fn assert_nothing_is_told_for_each_operation(report: &Value) {
    for figure in [
        "latency",
        "get_latency",
        "slowest",
        "generator_cpu_ns_per_operation",
        "hit_ratio",
    ] {
        assert_eq!(report[figure], Value::Null, "{figure}");
    }
    // Here it is this process that listens.
    let cost = &report["server_cost"];
    assert_eq!(cost["cpu_ns_per_operation"], Value::Null);
    assert!(cost["rss_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn where_nothing_was_answered_nothing_is_told_for_each_operation() {
    let url = falls_silent("END\r\n", 0);
    let ended = bench(&url, &["--duration", "50ms", "--timeout", "500ms"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    for line in [
        "latency        -\n",
        "- ns per operation (user -, system -)",
        "generator CPU  - ns",
    ] {
        assert!(ended.stdout.contains(line), "{line} in {}", ended.stdout);
    }
}

#[test]
fn a_load_of_nothing_is_refused_and_a_failure_is_an_object_for_programs() {
    let server = ServerProcess::start();
    for (options, code, error) in [
        (
            &["--duration", "0s"][..],
            2,
            "--duration 0ms cannot work; accepted: more than nothing",
        ),
        (
            &["--requests", "0"],
            2,
            "--requests 0 cannot work; accepted: 1 to",
        ),
        (&["--timeout", "0s"], 2, "--timeout 0ms cannot work"),
        (
            &["--server", "larder+unix:///no/such"],
            3,
            "cannot connect to",
        ),
    ] {
        let ended = bench(&server.url(), options);
        let twice = options[0] == "--server";
        if !twice {
            assert_eq!(
                (ended.code, &ended.stdout[..]),
                (Some(code), ""),
                "{options:?}"
            );
            assert!(ended.stderr.contains(error), "{}", ended.stderr);
        }
        let ended = end_of(larder(&["bench", "--json"]).args(options), b"");
        let failure: Value = serde_json::from_str(&ended.stdout).expect(&ended.stdout);
        assert_eq!((ended.code, &ended.stderr[..]), (Some(code), ""));
        assert!(
            failure["error"].as_str().unwrap().contains(error),
            "{failure}"
        );
        let kind = if code == 2 { "usage" } else { "unreachable" };
        assert_eq!(failure["kind"], kind);
    }
    let held = bench(&server.url(), &["--idle", "3", "--duration", "0s"]);
    assert_eq!(held.code, Some(0), "{held:?}");
}

#[test]
fn a_server_whose_process_ended_has_no_cost() {
    let server = ServerProcess::serve(&[
        "--memory",
        "64MiB",
        "--workers",
        "1",
        "--no-supervisor",
        "--listen",
        "127.0.0.1:0",
    ]);
    let url = server.url();
    let mut command = larder(&["bench", "--json", "--keys", "100", "--duration", "1h"]);
    let child = command
        .env("LARDER_SERVER", &url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while !has_misses(&server) {}
    // It stays in the system's tables as long as this test has not waited for it.
    server.signal("-KILL");
    let ended = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (ended.status.code(), &report["server_cost"]),
        (Some(3), &Value::Null)
    );
    assert_eq!(
        report["server_cost_missing"],
        "the server's process has ended"
    );
}

/// Whether a load has begun, which the server's own count of misses tells.
fn has_misses(server: &ServerProcess) -> bool {
    let stats = server.run(&["stats", "--json"]).stdout;
    let figures: Value = serde_json::from_str(&stats).unwrap();
    figures["get_misses"].as_u64() > Some(0)
}

#[test]
fn an_open_loop_of_many_keys_and_sets_sends_what_is_due_and_no_more() {
    let server = ServerProcess::start();
    for connections in ["1", "7", "50"] {
        let options = [
            "--load",
            "--ratio",
            "1:1",
            "--multi-get",
            "64",
            "--rate",
            "5k",
            "--duration",
            "200ms",
            "--connections",
            connections,
            "--json",
        ];
        let ended = bench(&server.url(), &options);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let [operations, unsent, unanswered] =
            ["operations", "unsent", "unanswered"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(
            (operations + unsent, unanswered),
            (1000, 0),
            "{connections}: {report}"
        );
    }
}

#[test]
fn what_lost_connections_were_to_send_is_not_sent() {
    let (listener, address) = listener();
    let hangs_up = std::thread::spawn(move || {
        // The first asks who it is, the others bring the load.
        let (asking, _) = listener.accept().unwrap();
        answer_stats(&asking);
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
    });
    let options = [
        "--rate",
        "1k",
        "--duration",
        "1h",
        "--connections",
        "2",
        "--json",
    ];
    let ended = bench(&format!("memcached://{address}"), &options);
    hangs_up.join().unwrap();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let [unsent, unanswered] = ["unsent", "unanswered"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(
        (ended.code, unsent + unanswered),
        (Some(3), 3_600_000),
        "{report}"
    );
}

#[test]
fn finished_rounds_are_told_when_a_server_goes_away() {
    let (listener, address) = listener();
    let goes_away = std::thread::spawn(move || {
        let (asking, _) = listener.accept().unwrap();
        answer_stats(&asking);
        let (mut loading, _) = listener.accept().unwrap();
        // Nobody is there for the second round.
        drop(listener);
        let reader = BufReader::new(loading.try_clone().unwrap());
        for _ in reader.lines() {
            loading.write_all(b"END\r\n").unwrap();
        }
    });
    let compared = format!("memcached://{address}");
    let options = [
        "--rounds",
        "2",
        "--requests",
        "10",
        "--connections",
        "1",
        "--json",
        "--compare",
    ];
    let ended = end_of(larder(&["bench"]).args(options).arg(&compared), b"");
    goes_away.join().unwrap();
    let report: Value = serde_json::from_str(&ended.stdout).expect(&ended.stderr);
    assert_eq!((ended.code, &report["rounds"]), (Some(3), &1.into()));
    let sentence = format!("larder bench: cannot connect to {compared}: Connection refused");
    assert!(ended.stderr.contains(&sentence), "{}", ended.stderr);
}

#[test]
fn no_percentile_lies_beyond_the_longest_latency() {
    let server = ServerProcess::start();
    let options = [
        "--load",
        "--ratio",
        "1:1",
        "--requests",
        "300",
        "--rate",
        "10k",
        "--json",
    ];
    let ended = bench(&server.url(), &options);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let us = |kind: &str, figure: &str| report[kind][figure].as_f64().unwrap();
    for kind in ["latency", "get_latency", "set_latency", "delay"] {
        let figures = ["p50", "p90", "p99", "p99_9", "p99_99", "max"].map(|name| us(kind, name));
        assert!(figures.is_sorted(), "{kind}: {figures:?}");
    }
    let slowest = us("get_latency", "max").max(us("set_latency", "max"));
    assert_eq!(report["slowest"]["latency_us"], slowest);
    assert_eq!(report["latency"]["max"], slowest);
}

#[test]
fn the_files_of_threads_are_made_room_for_as_those_of_connections_are() {
    let server = ServerProcess::start();
    let url = server.url();
    let bench = |limits: &str, options: &str| {
        let program = env!("CARGO_BIN_EXE_larder");
        let script = format!("ulimit {limits} && exec {program} bench --server {url} {options}");
        end_of(Command::new("sh").args(["-c", &script]), b"")
    };
    let options = "--load --keys 100 --requests 500 --connections 60 --threads 60";
    let ended = bench("-Sn 128", options);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let refused = bench("-n 128", options);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let (_, accepted) = refused.stderr.split_once("accepted: up to ").unwrap();
    let (accepted, _) = accepted.split_once(' ').unwrap();
    for threads in ["1", "3", "60"] {
        let options =
            format!("--keys 100 --requests 500 --connections {accepted} --threads {threads}");
        let ended = bench("-n 128", &options);
        assert_eq!(ended.code, Some(0), "{options}: {ended:?}");
    }
}

#[test]
fn a_server_that_says_more_than_it_was_asked_for_is_told_so() {
    let (listener, address) = listener();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = |mut stream: TcpStream| -> std::io::Result<()> {
                for line in BufReader::new(stream.try_clone()?).split(b'\n') {
                    match line?.starts_with(b"stats") {
                        true => stream.write_all(b"END\r\n")?,
                        false => stream.write_all(&b"END\r\n".repeat(10_000))?,
                    }
                }
                Ok(())
            };
            // A load that gives up closes its connections.
            std::thread::spawn(move || answer(stream.unwrap()).ok());
        }
    });
    let url = format!("memcached://{address}");
    for load in [
        &["--connections", "1"][..],
        &["--connections", "1", "--rate", "1k"],
    ] {
        let ended = bench(&url, &[load, &["--duration", "10s"]].concat());
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let told = "the server says more than it was asked for";
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}
