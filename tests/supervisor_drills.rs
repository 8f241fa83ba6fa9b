//! Drills: each failure happens for real, and the report says what was seen of it.
#![cfg(feature = "server")]

#[path = "support/endpoint.rs"]
mod endpoint;
#[path = "support/process.rs"]
mod process;

use endpoint::Watched;
use serde_json::Value;

/// Longer than anything takes: no test of this is about time.
const EVER: [&str; 4] = ["--noticed-within", "1h", "--recovered-within", "1h"];

fn serve(name: &str) -> Watched {
    Watched::serve(name, &["--allow-drills"])
}

/// Carries a drill out, and gives its report.
fn drill(watched: &Watched, arguments: &[&str]) -> Value {
    let ended = watched.run(&[&["drill", "--json"], arguments, &EVER].concat());
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let is_good = report["is_good"].as_bool().unwrap();
    assert_eq!(ended.code, Some(i32::from(!is_good)), "{ended:?}");
    report
}

/// What is to be so after every drill.
fn all_is_as_before(report: &Value) {
    assert_eq!(report["items_found"], report["items"], "{report}");
    assert_eq!(report["wrong_answers"], 0, "{report}");
    assert_eq!(report["contained"]["is_good"], true, "{report}");
    assert_eq!(report["recovered"]["is_good"], true, "{report}");
}

fn is_good(report: &Value) {
    assert_eq!(report["is_good"], true, "{report}");
    all_is_as_before(report);
}

#[test]
fn a_server_that_was_not_started_for_it_does_no_drills() {
    let watched = Watched::serve("none", &[]);
    let pid = watched.server.pid();
    let ended = watched.run(&["drill", "abort"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("--allow-drills"), "{ended:?}");
    let answer = watched.ask("POST", "/drill?drill=abort&worker=0&for_ms=1");
    assert_eq!(answer.code, 403, "{answer:?}");
    assert!(answer.body.contains("--allow-drills"), "{answer:?}");
    assert_eq!(watched.server.pid(), pid);
}

#[test]
fn a_drill_that_cannot_be_is_refused_with_what_can() {
    let watched = serve("refused");
    for (arguments, expected) in [
        (&["drill", "dance"][..], "hang, spin, panic"),
        (&["drill", "hang", "--worker", "9"], "accepted: 0 to 1"),
        (&["drill", "hang", "--for", "1h"], "accepted: up to 600s"),
    ] {
        let ended = watched.run(arguments);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
    }
    for (query, code) in [
        ("drill=dance&worker=0&for_ms=1", 400),
        ("drill=hang&worker=9&for_ms=1", 400),
        ("drill=hang&worker=0&for_ms=600001", 400),
        ("drill=hang&worker=0", 400),
    ] {
        let answer = watched.ask("POST", &format!("/drill?{query}"));
        assert_eq!(answer.code, code, "{answer:?}");
    }
    let status = watched.status();
    assert_eq!(status["deaths"], 0);
}

#[test]
fn a_process_that_ends_itself_is_followed_by_one_with_all_items() {
    let watched = serve("abort");
    let report = drill(&watched, &["abort"]);
    is_good(&report);
    assert_eq!(report["deaths"], 1);
    assert_eq!(report["named"], "the worker process was killed by SIGABRT");
}

#[test]
fn a_fault_is_followed_by_a_process_with_all_items() {
    let watched = serve("segfault");
    let report = drill(&watched, &["segfault", "--worker", "1"]);
    is_good(&report);
    assert_eq!(report["named"], "the worker process was killed by SIGSEGV");
}

#[test]
fn a_process_without_memory_is_followed_by_one_with_all_items() {
    let watched = serve("oom");
    let report = drill(&watched, &["oom"]);
    is_good(&report);
    assert_eq!(report["deaths"], 1);
}

#[test]
fn a_panic_costs_its_connection_and_no_more() {
    let watched = serve("panic");
    let pid = watched.server.pid();
    let report = drill(&watched, &["panic", "--worker", "1"]);
    is_good(&report);
    assert_eq!(report["deaths"], 0);
    assert_eq!(watched.server.pid(), pid);
    let status = watched.status();
    assert_eq!(status["threads"][1]["counts"]["panics"], 1);
    assert_eq!(status["threads"][0]["counts"]["panics"], 0);
}

#[test]
fn memory_that_is_denied_costs_what_needs_it_and_comes_back() {
    let watched = serve("memory");
    let pid = watched.server.pid();
    let report = drill(&watched, &["deny-memory", "--for", "2s"]);
    is_good(&report);
    assert_eq!(watched.server.pid(), pid);
    let errors = report["client_errors"].as_object().unwrap();
    assert!(
        errors.keys().any(|kind| kind.starts_with("refused")),
        "{report}"
    );
}

#[test]
fn a_worker_that_stands_still_holds_up_its_own_connections_and_goes_on_after() {
    for what in ["hang", "spin", "slow-io"] {
        let watched = serve(what);
        let pid = watched.server.pid();
        let report = drill(&watched, &[what, "--worker", "1", "--for", "2s"]);
        all_is_as_before(&report);
        assert_eq!(report["deaths"], 0, "{report}");
        assert_eq!(watched.server.pid(), pid);
    }
}

#[test]
fn a_worker_that_stands_still_is_named_and_its_process_ended_where_that_was_asked_for() {
    for what in ["hang", "spin", "slow-io"] {
        let options = [
            "--allow-drills",
            "--stall-warn",
            "100ms",
            "--stall-kill",
            "2s",
        ];
        let watched = Watched::serve(&format!("{what}-killed"), &options);
        let report = drill(&watched, &[what, "--for", "10m"]);
        is_good(&report);
        assert_eq!(report["deaths"], 1, "{report}");
        let status = watched.status();
        assert_eq!(status["stall_kills"], 1, "{status}");
        assert!(status["stalls"].as_u64() >= Some(1), "{status}");
        // Its stack was taken before, which interrupts what it sleeps in.
        let kept = watched.ask("GET", "/postmortem.json");
        let kept: Value = serde_json::from_str(&kept.body).expect("JSON");
        let of_worker = |finding: &&Value| finding["thread"] == "worker-0";
        let mut findings = kept["findings"].as_array().unwrap().iter();
        let finding = findings.find(of_worker).expect("what it was killed for");
        let call = finding["call"].as_str().unwrap_or_default();
        let is_named = match what {
            "hang" => finding["verdict"] == "blocked" && call.ends_with("nanosleep"),
            "spin" => finding["verdict"] == "spinning",
            _ => finding["verdict"] == "blocked" && call == "write",
        };
        assert!(is_named, "{what}: {finding}");
    }
}

#[test]
fn the_report_is_for_people_unless_they_want_it_otherwise() {
    let watched = serve("people");
    let ended = watched.run(&[&["drill", "abort"], &EVER[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "Drill abort of worker 0",
        "good  noticed     after ",
        "All is good.",
    ] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
}
