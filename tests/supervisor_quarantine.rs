//! A key that is deadly: whoever asks for it brings the process that serves down, and the second time is
//! the last.
#![cfg(feature = "server")]

#[path = "support/endpoint.rs"]
mod endpoint;
#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;
mod server_harness;

use endpoint::Watched;
use larder_protocol::Status;
use scratch::Scratch;
use server_harness::{Raw, get, set};

/// What a client is told that asks for a key over a connection of its own; `None`: it loses that.
fn ask(watched: &Watched, request: &[u8]) -> Option<(Status, String)> {
    let mut raw = Raw::connect_to(watched.server.address());
    raw.greet();
    raw.send(request);
    let told = raw.next()?;
    Some((told.status, told.text))
}

fn value(watched: &Watched, key: &str) -> String {
    let (status, text) = ask(watched, &get(1, key)).expect("an answer");
    assert_eq!(status, Status::OK, "{key}: {text}");
    text
}

#[test]
fn what_two_processes_died_of_is_refused_for_a_while_and_all_else_is_served() {
    let file = Scratch::named("quarantine.toml");
    std::fs::write(&file.0, "refuse-for = \"1h\"\n").unwrap();
    let options = ["--allow-drills", "--config", file.text()];
    let watched = Watched::serve("quarantine", &options);
    for key in ["deadly", "other"] {
        let stored = ask(&watched, &set(1, key, key.as_bytes()));
        assert_eq!(stored.map(|(status, _)| status), Some(Status::OK));
    }
    let armed = watched.run(&["drill", "abort", "--key", "deadly"]);
    assert_eq!(armed.code, Some(0), "{armed:?}");
    assert!(
        armed
            .stdout
            .contains("was replaced by one that dies (abort)"),
        "{armed:?}"
    );
    assert_eq!(value(&watched, "other"), "other");
    for deaths in 1..=2 {
        assert_eq!(ask(&watched, &get(1, "deadly")), None, "{deaths}");
        assert_eq!(value(&watched, "other"), "other", "{deaths}");
        assert_eq!(watched.status()["deaths"], deaths);
    }
    let (status, said) = ask(&watched, &get(1, "deadly")).expect("it lives");
    assert_eq!(status, Status::QUARANTINED, "{said}");
    let status = watched.status();
    assert_eq!(status["deaths"], 2, "{status}");
    let refused = |thread: &serde_json::Value| thread["counts"]["refused_quarantined"].as_u64();
    let refused = status["threads"].as_array().unwrap().iter().map(refused);
    assert_eq!(refused.flatten().sum::<u64>(), 1, "{status}");
    assert_eq!(value(&watched, "other"), "other");
    let told = watched.run(&["postmortem"]).stdout;
    assert!(told.contains("was killed by SIGABRT"), "{told}");
    assert!(
        told.contains("It was in the midst of get of key "),
        "{told}"
    );

    // The time is over, and nobody dies of it any more.
    std::fs::write(&file.0, "refuse-for = \"1ms\"\n").unwrap();
    watched.server.signal("-HUP");
    let off = ["drill", "abort", "--key", "deadly", "--off", "--json"];
    let harmless = watched.run(&off);
    assert_eq!(harmless.code, Some(0), "{harmless:?}");
    let told: serde_json::Value = serde_json::from_str(&harmless.stdout).unwrap();
    assert_eq!(
        (&told["deadly"], &told["key"]),
        (&false.into(), &"deadly".into())
    );
    assert_eq!(value(&watched, "deadly"), "deadly");
    let status = watched.status();
    assert_eq!(status["deaths"], 2, "{status}");
    // It is the same program all the time.
    assert_eq!(status["upgrades"], 0, "{status}");
    assert_eq!(status["last_upgrade"], serde_json::Value::Null, "{status}");
}

#[test]
fn it_is_refused_also_where_nothing_is_kept_of_those_who_died_of_it() {
    for cold in [["--keep", "never"], ["--cold-after-deaths", "1"]] {
        let watched = Watched::serve(cold[0], &[&["--allow-drills"], &cold[..]].concat());
        let armed = watched.run(&["drill", "abort", "--key", "deadly"]);
        assert_eq!(armed.code, Some(0), "{armed:?}");
        for deaths in 1..=2 {
            assert_eq!(ask(&watched, &get(1, "deadly")), None, "{deaths}");
        }
        let told = ask(&watched, &get(1, "deadly"));
        let status = told.as_ref().map(|(status, _)| *status);
        assert_eq!(status, Some(Status::QUARANTINED), "{cold:?}: {told:?}");
    }
}

#[test]
fn a_key_cannot_be_deadly_where_no_drills_are_done_or_by_one_that_nobody_dies_of() {
    let watched = Watched::serve("harmless", &[]);
    let refused = watched.run(&["drill", "abort", "--key", "key"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("--allow-drills"), "{refused:?}");
    let answer = watched.ask("DELETE", "/deadly-key");
    assert_eq!(answer.code, 403, "{answer:?}");
    let refused = watched.run(&["drill", "hang", "--key", "key"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("accepted: abort, segfault, oom"),
        "{refused:?}"
    );
    let answer = watched.ask("POST", "/deadly-key?drill=spin&key=a");
    assert_eq!(answer.code, 400, "{answer:?}");
}
