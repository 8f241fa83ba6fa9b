//! `larder bench --compare` at tiny sizes: servers side by side, in turns.
#![cfg(feature = "server")]

#[path = "support/memcached_double.rs"]
mod memcached_double;
#[path = "support/process.rs"]
mod process;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use memcached_double::{Double, Values};
use process::{Ended, ServerProcess, end_of, larder};
use serde_json::Value;

/// Runs a comparison of few keys.
fn compare(servers: &[String], arguments: &[&str]) -> Ended {
    let mut command = larder(&["bench", "--keys", "100", "--connections", "3"]);
    for server in servers {
        command.args(["--compare", server]);
    }
    end_of(command.args(arguments), b"")
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn servers_have_the_same_load_in_turns_and_stand_beside_each_other() {
    let (larder, memcached) = (ServerProcess::start(), Double::start(Values::Kept));
    let servers = [memcached.url(), larder.url()];
    let options = [
        "--load",
        "--verify",
        "--requests",
        "300",
        "--rounds",
        "3",
        "--json",
    ];
    let ended = compare(&servers, &options);
    assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""));
    let report = report(&ended);
    assert_eq!(
        (&report["rounds"], &report["against"]),
        (&3.into(), &"memcached".into())
    );
    for (at, name) in ["memcached", "larder"].into_iter().enumerate() {
        let server = &report["servers"][at];
        assert_eq!(
            (&server["name"], &server["hits"]),
            (&name.into(), &900.into()),
            "{server}"
        );
        assert_eq!(
            (&server["misses"], &server["wrong"]),
            (&0.into(), &0.into())
        );
        let rounds: Vec<f64> = server["rounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|round| round["operations_per_second"].as_f64().unwrap())
            .collect();
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(
            server["median"]["operations_per_second"], sorted[1],
            "{rounds:?}"
        );
        for figure in ["p50_us", "p99_us", "p99_9_us", "p99_99_us", "rss_bytes"] {
            assert!(
                server["median"][figure].as_f64().unwrap() > 0.0,
                "{figure} in {server}"
            );
        }
    }
    assert_eq!(report["servers"][0]["ratio"]["p50_us"], 1.0);
}

#[test]
fn the_table_names_its_figures_and_the_server_that_ratios_are_told_against() {
    let (larder, memcached) = (ServerProcess::start(), Double::start(Values::Kept));
    let servers = [
        format!("old={}", memcached.url()),
        format!("new={}", larder.url()),
    ];
    let options = [
        "--load",
        "--requests",
        "100",
        "--rounds",
        "1",
        "--against",
        "new",
    ];
    let ended = compare(&servers, &options);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in [
        "2 servers in turns, 1 round\n",
        "not yet three in a row within 5 %",
        "operations/s",
        "p99.99",
        "CPU ns/op",
        "RSS",
        "  spread",
        "  / new",
    ] {
        assert!(ended.stdout.contains(words), "{words} in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("  / old"), "{}", ended.stdout);
}

#[test]
fn a_wrong_value_of_one_server_is_loud_and_ends_with_1() {
    let (right, wrong) = (Double::start(Values::Kept), Double::start(Values::Garbled));
    let servers = [
        format!("right={}", right.url()),
        format!("wrong={}", wrong.url()),
    ];
    let options = ["--load", "--verify", "--requests", "50", "--rounds", "1"];
    let Ended {
        code,
        stdout,
        stderr,
    } = compare(&servers, &options);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stderr.contains("wrong: WRONG VALUES: 50 of 50 values read"),
        "{stderr}"
    );
    assert!(stdout.contains("wrong: 50 values WRONG"), "{stdout}");
    assert!(!stderr.contains("right:"), "{stderr}");
}

#[test]
fn rounds_go_on_until_the_medians_rest_or_are_too_many() {
    let memcached = Double::start(Values::Kept);
    let options = [
        "--load",
        "--requests",
        "50",
        "--rounds",
        "1",
        "--rounds-max",
        "4",
        "--json",
    ];
    let ended = compare(&[memcached.url()], &options);
    let report = report(&ended);
    let rounds = report["rounds"].as_u64().unwrap();
    assert!(
        rounds == 4 || (rounds == 3 && report["stable"] == true),
        "{report}"
    );
}

/// A server that a load is to start, at a socket of its own.
struct ToStart {
    folder: PathBuf,
    url: String,
    command: String,
}

impl ToStart {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("larder-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (program, socket) = (env!("CARGO_BIN_EXE_larder"), folder.join("socket"));
        let socket = socket.display();
        let options = "--memory 64MiB --workers 1 --log-level off --listen";
        Self {
            url: format!("larder+unix://{socket}"),
            command: format!("{program} serve {options} unix:{socket}"),
            folder,
        }
    }

    /// A comparison of few keys that starts it.
    fn compare(&self, arguments: &[&str]) -> Command {
        let mut command = larder(&["bench", "--keys", "100", "--json"]);
        command
            .args(["--compare", &format!("own={}", self.url)])
            .args(["--start", &format!("own={}", self.command)])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Its own count of reads that found nothing, if it is there.
    fn misses(&self) -> Option<u64> {
        let stats = end_of(
            larder(&["stats", "--json"]).env("LARDER_SERVER", &self.url),
            b"",
        );
        let figures: Value = serde_json::from_str(&stats.stdout).ok()?;
        figures["get_misses"].as_u64()
    }
}

impl Drop for ToStart {
    fn drop(&mut self) {
        // What cannot be removed is in nobody's way.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_server_that_is_started_for_the_load_ends_with_it() {
    let server = ToStart::new("started");
    let options = ["--load", "--requests", "100", "--rounds", "2"];
    let ended = server.compare(&options).output().unwrap();
    let report: Value =
        serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let own = &report["servers"][0];
    assert_eq!(
        (&own["hits"], &own["server_cost_missing"]),
        (&200.into(), &Value::Null)
    );
    assert_eq!(server.misses(), None, "nobody listens any more");
}

#[test]
fn a_server_that_was_started_ends_with_a_load_that_is_interrupted_or_killed() {
    for (signal, code) in [("-INT", Some(0)), ("-KILL", None)] {
        let server = ToStart::new(signal);
        let load = server.compare(&["--duration", "1h"]).spawn().unwrap();
        while server.misses().unwrap_or(0) == 0 {}
        let pid = load.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        let ended = load.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), code, "{ended:?}");
        while server.misses().is_some() {}
    }
}

#[test]
fn a_command_that_serves_nothing_is_reported_with_its_end() {
    let options = ["--rounds", "1", "--start", "A=7 sh -c 'exit $A'"];
    let ended = compare(&["larder+unix:///nowhere/to/be/found".to_owned()], &options);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("has ended (exit status: 7) instead of serving"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_process_of_a_silent_server_is_found_by_its_socket_or_named() {
    let silent = Double::start(Values::Kept);
    let own_pid = std::process::id();
    for options in [vec![], vec!["--pid".to_owned(), own_pid.to_string()]] {
        let mut all = vec!["--load", "--requests", "50", "--rounds", "1", "--json"];
        all.extend(options.iter().map(String::as_str));
        let ended = compare(&[silent.url()], &all);
        let server = &report(&ended)["servers"][0];
        assert!(
            server["median"]["rss_bytes"].as_f64().unwrap() > 0.0,
            "{server}"
        );
    }
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_is_accepted() {
    let two = [
        "larder://127.0.0.1:1".to_owned(),
        "memcached://127.0.0.1:1".to_owned(),
    ];
    for (servers, options, why) in [
        (
            &two[..],
            &["--rounds", "0"][..],
            "--rounds 0 cannot work; accepted: 1 to",
        ),
        (
            &two,
            &["--rounds", "3", "--rounds-max", "2"],
            "--rounds-max 2 cannot work; accepted: 3 to",
        ),
        (&two, &["--against", "redis"], "accepted: larder, memcached"),
        (&two, &["--pid", "12"], "names none of the servers"),
        (
            &two,
            &["--pid", "larder=1", "--start", "larder=x"],
            "second word",
        ),
        (&two, &["--idle", "3"], "cannot be used with"),
        (
            &two[..1],
            &["--pid", "4194305"],
            "there is no process 4194305",
        ),
        (&[], &["--rounds", "3"], "--compare"),
        (
            &["a=larder://x".to_owned(), "a=larder://y".to_owned()],
            &[],
            "two servers are called a",
        ),
        (
            &["redit://x".to_owned()],
            &[],
            "larder://, memcached:// or redis://",
        ),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop(listener);
        let ended = compare(servers, options);
        assert!(matches!(ended.code, Some(2 | 3)), "{ended:?}");
        assert!(ended.stderr.contains(why), "{why} in {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}
