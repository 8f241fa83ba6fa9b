//! `larder bench` at tiny sizes: every load ends, and its report adds up.
#![cfg(feature = "server")]

#[path = "support/memcached_double.rs"]
mod memcached_double;
#[path = "support/process.rs"]
mod process;
#[path = "support/redis_double.rs"]
mod redis_double;

use std::process::{Command, Stdio};

use memcached_double::{Double, Values};
use process::{Ended, ServerProcess, end_of, larder};
use serde_json::Value;

/// Runs a load and reads its report.
fn bench(server: &ServerProcess, arguments: &[&str]) -> (Option<i32>, Value) {
    bench_at(&server.url(), arguments)
}

fn bench_at(url: &str, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = larder(&["bench", "--json", "--server", url]);
    if !arguments.contains(&"--keys") {
        command.args(["--keys", "1000"]);
    }
    let ended = end_of(command.args(arguments), b"");
    let report = serde_json::from_str(&ended.stdout);
    (
        ended.code,
        report.unwrap_or_else(|error| panic!("{error}: {ended:?}")),
    )
}

#[test]
fn a_mixed_load_reports_figures_that_add_up() {
    let server = ServerProcess::start();
    let arguments = [
        "--load",
        "--verify",
        "--requests",
        "5k",
        "--ratio",
        "4:1",
        "--depth",
        "8",
        "--connections",
        "5",
        "--threads",
        "2",
    ];
    let (code, report) = bench(&server, &arguments);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["prepared"]["stored"], 1000);
    assert_eq!(report["operations"], 5000);
    let [hits, misses, stored] =
        ["hits", "misses", "stored"].map(|name| report[name].as_u64().unwrap());
    assert_eq!((hits + misses + stored, misses), (5000, 0));
    assert!(
        (3700..4300).contains(&hits),
        "{hits} of 5000 operations are reads"
    );
    assert_eq!(report["hit_ratio"], 1.0);
    for none in ["wrong", "unanswered", "lost_connections"] {
        assert_eq!(report[none], 0, "{none}");
    }
    let latency = ["p50", "p90", "p99", "p99_9", "p99_99", "max"]
        .map(|name| report["latency"][name].as_f64().unwrap());
    assert!(
        latency[0] > 0.0 && latency[4] <= latency[5] * 1.01,
        "{latency:?}"
    );
    assert!(latency[..5].is_sorted(), "{latency:?}");
    assert_eq!(report["slowest"]["latency_us"], report["latency"]["max"]);
    assert!(report["operations_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_cost_of_a_server_on_this_machine_is_known() {
    let server = ServerProcess::start();
    let (_, report) = bench(&server, &["--requests", "20k", "--ratio", "0:1"]);
    let cost = &report["server_cost"];
    assert!(
        cost["cpu_ns_per_operation"].as_f64().unwrap() > 0.0,
        "{report}"
    );
    assert!(cost["rss_bytes"].as_u64().unwrap() > 1 << 20, "{report}");
    assert_eq!(report["server_cost_missing"], Value::Null);
}

#[test]
fn a_zipf_load_reads_what_was_loaded() {
    let server = ServerProcess::start();
    let (code, loaded) = bench(&server, &["--load-only", "--depth", "16"]);
    assert_eq!((code, &loaded["stored"]), (Some(0), &Value::from(1000)));
    let (code, report) = bench(
        &server,
        &[
            "--distribution",
            "zipf:0.99",
            "--requests",
            "2k",
            "--verify",
        ],
    );
    assert_eq!(
        (code, &report["hits"], &report["wrong"]),
        (Some(0), &2000.into(), &0.into())
    );
}

#[test]
fn verify_all_counts_what_is_missing_and_what_is_wrong() {
    let server = ServerProcess::start();
    bench(&server, &["--load-only"]);
    let (code, report) = bench(&server, &["--verify-all", "--depth", "10"]);
    assert_eq!(
        (code, &report["hits"], &report["misses"]),
        (Some(0), &1000.into(), &0.into())
    );
    let key = |index: u32| format!("{index:020}");
    server.run(&["delete", &key(7)]);
    server.run(&["delete", &key(999)]);
    let (code, report) = bench(&server, &["--verify-all"]);
    assert_eq!(
        (code, &report["hits"], &report["misses"]),
        (Some(1), &998.into(), &2.into())
    );
    bench(&server, &["--load-only"]);
    server.run(&["set", &key(500), "not what it was"]);
    let (code, report) = bench(&server, &["--verify-all"]);
    assert_eq!(
        (code, &report["misses"], &report["wrong"]),
        (Some(1), &0.into(), &1.into())
    );
}

#[test]
fn values_of_another_seed_are_wrong() {
    let server = ServerProcess::start();
    bench(&server, &["--load-only"]);
    let (code, report) = bench(&server, &["--verify-all", "--seed", "1"]);
    assert_eq!((code, &report["wrong"]), (Some(1), &1000.into()));
}

#[test]
fn large_values_at_depth_do_not_lock_both_sides_up() {
    let server = ServerProcess::start();
    let arguments = [
        "--keys",
        "100",
        "--value-bytes",
        "50KB",
        "--depth",
        "64",
        "--connections",
        "2",
        "--ratio",
        "1:1",
        "--requests",
        "2k",
        "--verify",
    ];
    let ended = server.run(&[&["bench", "--json"], &arguments[..]].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, &report["operations"], &report["wrong"]),
        (Some(0), &2000.into(), &0.into())
    );
}

#[test]
fn a_value_that_the_server_does_not_accept_is_refused_before_the_load() {
    let server = ServerProcess::start();
    let ended = server.run(&["bench", "--value-bytes", "100MiB", "--requests", "1"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(
        ended.stderr.contains("the server accepts up to"),
        "{}",
        ended.stderr
    );
}

#[test]
fn idle_connections_are_opened_held_and_counted() {
    let server = ServerProcess::start();
    let ended = server.run(&["bench", "--idle", "100", "--duration", "10ms", "--json"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, &report["connections"], &report["closed"]),
        (Some(0), &100.into(), &0.into())
    );
    assert!(
        report["memory"]["rss_bytes_held"].as_u64().unwrap() > 0,
        "{report}"
    );
}

#[test]
fn a_report_for_people_names_its_figures() {
    let server = ServerProcess::start();
    let Ended {
        code,
        stdout,
        stderr,
    } = server.run(&["bench", "--keys", "100", "--load", "--duration", "20ms"]);
    assert_eq!(
        (code, stderr.as_str()),
        (Some(0), ""),
        "no progress where nobody watches"
    );
    for figure in [
        "prepared",
        "throughput",
        "reads",
        "errors         none",
        "p99.99",
        "slowest",
        "server CPU",
    ] {
        assert!(stdout.contains(figure), "{figure} in {stdout}");
    }
}

#[test]
fn ctrl_c_ends_a_load_early_and_it_still_reports() {
    let server = ServerProcess::start();
    let mut command = larder(&["bench", "--json", "--keys", "100", "--duration", "1h"]);
    command
        .env("LARDER_SERVER", server.url())
        .stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for_operations(&server);
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["interrupted"]),
        (Some(0), &true.into())
    );
    assert!(report["operations"].as_u64().unwrap() > 0, "{report}");
}

/// Waits until a load has begun, which the server's own count of misses tells.
fn wait_for_operations(server: &ServerProcess) {
    loop {
        let stats = server.run(&["stats", "--json"]).stdout;
        let figures: Value = serde_json::from_str(&stats).unwrap();
        if figures["get_misses"].as_u64().expect("a count of misses") > 0 {
            return;
        }
    }
}

#[test]
fn a_server_that_goes_away_is_reported_and_ends_with_3() {
    let server = ServerProcess::start();
    let mut command = larder(&["bench", "--json", "--keys", "100", "--duration", "1h"]);
    command
        .env("LARDER_SERVER", server.url())
        .stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for_operations(&server);
    drop(server);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["lost_connections"]),
        (Some(3), &50.into())
    );
}

#[test]
fn a_memcached_server_takes_the_same_load() {
    let server = Double::start(Values::Kept);
    let arguments = [
        "bench",
        "--json",
        "--keys",
        "10",
        "--connections",
        "2",
        "--depth",
        "4",
        "--load",
        "--verify",
        "--ratio",
        "1:1",
        "--requests",
        "100",
    ];
    let ended = end_of(larder(&arguments).args(["--server", &server.url()]), b"");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["operations"]), (Some(0), &100.into()));
    let [hits, stored] = ["hits", "stored"].map(|name| report[name].as_u64().unwrap());
    assert!(hits > 0 && hits + stored == 100, "{report}");
    assert_eq!(report["wrong"], 0);
}

#[test]
fn a_redis_server_takes_the_same_load() {
    let url = format!("redis://{}", redis_double::start());
    let options = [
        "--load",
        "--verify",
        "--depth",
        "4",
        "--ratio",
        "1:1",
        "--requests",
        "500",
    ];
    let (code, report) = bench_at(&url, &options);
    assert_eq!(
        (code, &report["operations"]),
        (Some(0), &500.into()),
        "{report}"
    );
    assert_eq!(
        (&report["misses"], &report["wrong"]),
        (&0.into(), &0.into())
    );
    let options = ["--verify-all", "--multi-get", "32", "--expire-in", "1500ms"];
    let (code, report) = bench_at(&url, &options);
    assert_eq!((code, &report["hits"]), (Some(0), &1000.into()), "{report}");
    let options = ["--load-only", "--expire-in", "1500ms"];
    assert_eq!(bench_at(&url, &options).0, Some(0));
}

#[test]
fn multi_gets_count_every_key_in_both_protocols() {
    let (larder, memcached) = (ServerProcess::start(), Double::start(Values::Kept));
    for url in [larder.url(), memcached.url()] {
        let arguments = [
            "--load",
            "--verify",
            "--multi-get",
            "7",
            "--depth",
            "3",
            "--ratio",
            "2:1",
        ];
        let (code, report) = bench_at(&url, &[&arguments[..], &["--requests", "2000"]].concat());
        assert_eq!(
            (code, &report["operations"]),
            (Some(0), &2000.into()),
            "{report}"
        );
        let [hits, stored] = ["hits", "stored"].map(|name| report[name].as_u64().unwrap());
        assert_eq!((hits + stored, &report["misses"]), (2000, &0.into()));
        // Two requests of seven keys each to one of one.
        assert!((1750..1950).contains(&hits), "{hits} of 2000 are reads");
        assert!(!report["get_latency"]["max"].is_null());
        let (code, report) = bench_at(&url, &["--verify-all", "--multi-get", "64"]);
        let counts = ["hits", "misses", "wrong"].map(|name| report[name].as_u64().unwrap());
        assert_eq!((code, counts), (Some(0), [1000, 0, 0]));
    }
    let asked = &memcached.told().gets;
    assert!(asked.contains(&7) && asked.contains(&64), "{asked:?}");
}

#[test]
fn keys_that_are_missing_from_a_multi_get_are_counted() {
    let server = ServerProcess::start();
    bench(&server, &["--load-only"]);
    for key in [7, 8, 500] {
        server.run(&["delete", &format!("{key:020}")]);
    }
    let (code, report) = bench(&server, &["--verify-all", "--multi-get", "10"]);
    assert_eq!(
        (code, &report["hits"], &report["misses"]),
        (Some(1), &997.into(), &3.into())
    );
}

#[test]
fn an_open_loop_sends_at_its_rate_and_no_faster() {
    let server = ServerProcess::start();
    let options = ["--load", "--verify", "--rate", "2k", "--connections", "4"];
    let (code, report) = bench(&server, &[&options[..], &["--requests", "200"]].concat());
    assert_eq!(
        (code, &report["operations"]),
        (Some(0), &200.into()),
        "{report}"
    );
    assert_eq!(
        (&report["load"]["rate"], &report["load"]["depth"]),
        (&2000.into(), &64.into())
    );
    // The last of 200 operations is due after 99.5 ms; how much later it comes is the machine's affair.
    let seconds = report["seconds"].as_f64().unwrap();
    assert!(seconds >= 0.0995, "{seconds} s");
    assert_eq!(
        (&report["wrong"], &report["unsent"]),
        (&0.into(), &0.into())
    );
    // What the generator was late by is part of each latency.
    let max = |figure: &str| report[figure]["max"].as_f64().unwrap();
    assert!(max("delay") <= max("latency") * 1.01, "{report}");
}

#[test]
fn an_open_loop_charges_a_server_that_falls_behind_with_the_wait() {
    let server = Double::start(Values::Kept);
    let options = [
        "--keys",
        "10",
        "--load",
        "--rate",
        "100M",
        "--depth",
        "1",
        "--duration",
        "100ms",
    ];
    let (code, report) = bench_at(&server.url(), &options);
    assert_eq!(code, Some(0), "{report}");
    // No server answers so many; those that it was asked and those that had to wait are all there were.
    let [operations, unsent] = ["operations", "unsent"].map(|name| report[name].as_u64().unwrap());
    assert!(
        (9_900_000..10_100_000).contains(&(operations + unsent)),
        "{report}"
    );
    // A reply that comes at the end was due near the start.
    let latency_us = report["latency"]["max"].as_f64().unwrap();
    assert!(latency_us > 80_000.0, "{report}");
    // Beside it stands how much of that was the generator's own delay.
    assert!(report["delay"]["p50"].as_f64().is_some(), "{report}");
}

#[test]
fn values_of_drawn_lengths_verify_also_by_another_run() {
    let (larder, memcached) = (ServerProcess::start(), Double::start(Values::Kept));
    for url in [larder.url(), memcached.url()] {
        for sizes in ["0..200", "10:3,5KiB:1", "lognormal:100:1:2KiB"] {
            let options = [
                "--value-bytes",
                sizes,
                "--connections",
                "5",
                "--load",
                "--ratio",
                "1:1",
                "--verify",
            ];
            let (code, report) = bench_at(&url, &[&options[..], &["--requests", "500"]].concat());
            assert_eq!((code, &report["wrong"]), (Some(0), &0.into()), "{report}");
            assert_eq!(
                (
                    &report["load"]["value_sizes"],
                    &report["load"]["value_bytes"]
                ),
                (&sizes.into(), &Value::Null)
            );
            let (code, _) = bench_at(
                &url,
                &["--value-bytes", sizes, "--depth", "20", "--verify-all"],
            );
            assert_eq!(code, Some(0), "{sizes} at {url}");
            let (code, report) = bench_at(
                &url,
                &["--value-bytes", "64", "--depth", "20", "--verify-all"],
            );
            assert_eq!(
                (code, report["wrong"].as_u64() > Some(900)),
                (Some(1), true),
                "{report}"
            );
        }
    }
    let told = memcached.told();
    let lengths: std::collections::HashSet<u64> = told.sets.iter().map(|set| set[2]).collect();
    assert!(lengths.contains(&10) && lengths.contains(&5120) && lengths.len() > 150);
}

#[test]
fn what_is_stored_expires_in_both_protocols() {
    let (larder, memcached) = (ServerProcess::start(), Double::start(Values::Kept));
    bench_at(&memcached.url(), &["--load-only", "--expire-in", "90s"]);
    assert!(memcached.told().sets.iter().all(|set| set[..2] == [0, 90]));
    bench(&larder, &["--load-only", "--expire-in", "1ms"]);
    // However quick this was, a millisecond is over before the last of a thousand keys is read.
    let (code, report) = loop {
        let ended = bench(&larder, &["--verify-all"]);
        if ended.1["hits"] == 0 {
            break ended;
        }
    };
    assert_eq!((code, &report["misses"]), (Some(1), &1000.into()));
}

#[test]
fn latencies_are_drawn_by_percentile() {
    let server = ServerProcess::start();
    let file = std::env::temp_dir().join(format!("larder-bench-{}.svg", std::process::id()));
    let path = file.to_str().unwrap();
    let (code, _) = bench(&server, &["--load", "--requests", "2k", "--plot", path]);
    let picture = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, Some(0));
    for text in ["<svg", &server.url()[..], "99.9 %", "latency"] {
        assert!(picture.contains(text), "{text}");
    }
    let ended = server.run(&["bench", "--plot", "/no/such/folder/a.svg"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("there is no folder /no/such/folder"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_a_load_cannot_be_made_of_is_refused_with_what_is_accepted() {
    for (options, why) in [
        (
            &["--multi-get", "0"][..],
            "--multi-get 0 cannot work; accepted: 1 to 10000",
        ),
        (&["--rate", "0"], "--rate 0 cannot work; accepted: 1 to"),
        (&["--rate", "fast"], "`fast` is not a count"),
        (
            &["--value-bytes", "9..5"],
            "accepted: SIZE, MIN..MAX, SIZE:WEIGHT",
        ),
        (
            &["--value-bytes", "1GiB"],
            "--value-bytes 1073741824 cannot work",
        ),
        (
            &["--expire-in", "31d"],
            "--expire-in 2678400000ms cannot work",
        ),
        (&["--expire-in", "0s"], "--expire-in 0ms cannot work"),
        (
            &[
                "--expire-in",
                "1500ms",
                "--server",
                "memcached://127.0.0.1:1",
            ],
            "in whole seconds",
        ),
        (&["--depth", "0"], "--depth 0 cannot work"),
        (
            &["--depth", "65536", "--multi-get", "64"],
            "--depth times --multi-get 4194304 cannot work",
        ),
    ] {
        let ended = end_of(larder(&["bench"]).args(options), b"");
        assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""), "{ended:?}");
        assert!(ended.stderr.contains(why), "{why} in {}", ended.stderr);
    }
}
