//! Commands on keys, one or many: touch, delete, scan, flush.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::collections::BTreeSet;

use process::{Ended, ServerProcess};
use serde_json::Value;

/// An end with nothing to complain of.
fn done(stdout: &str) -> Ended {
    Ended {
        code: Some(0),
        stdout: stdout.to_owned(),
        stderr: String::new(),
    }
}

/// What a command says to programs.
fn json(server: &ServerProcess, arguments: &[&str]) -> Value {
    let ended = server.run(&[arguments, &["--json"]].concat());
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// A server with so many keys.
fn server_with(keys: &[&str]) -> ServerProcess {
    let server = ServerProcess::start();
    for key in keys {
        assert_eq!(server.run(&["set", key, "v"]), done("stored\n"));
    }
    server
}

#[test]
fn a_touched_item_has_its_new_expiry() {
    let server = server_with(&["a", "b"]);
    let expiry = |key| json(&server, &["get", key])["expires_in_ms"].clone();
    assert_eq!(expiry("a"), Value::Null);
    let ended = server.run(&["touch", "a", "--expire-in", "1h"]);
    assert_eq!(ended, done("touched\n"));
    assert!((1..=3_600_000).contains(&expiry("a").as_u64().unwrap()));
    let ended = server.run(&["touch", "a", "b", "--forever"]);
    assert_eq!(ended, done("touched 2 of 2\n"));
    assert_eq!(expiry("a"), Value::Null);
    server.run(&["touch", "a", "--expire-in", "0ms"]);
    assert_eq!(server.run(&["get", "a"]).code, Some(1));
    let ended = server.run(&["touch", "a", "--forever"]);
    assert_eq!(
        (ended.code, &ended.stderr[..]),
        (Some(1), "larder touch: a is not there\n")
    );
    for wrong in [
        &["touch", "a"][..],
        &["touch", "--forever"],
        &["touch", "a", "--forever", "--expire-in", "1h"],
    ] {
        assert_eq!(server.run(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn many_keys_are_deleted_and_those_that_are_not_there_named() {
    let server = server_with(&["a", "b", "c"]);
    let ended = server.run(&["delete", "a", "fig", "b", "plum"]);
    assert_eq!(
        (ended.code, &ended.stdout[..], &ended.stderr[..]),
        (
            Some(1),
            "deleted 2 of 4\n",
            "larder delete: fig, plum are not there\n"
        )
    );
    assert_eq!(server.run(&["scan"]), done("c\n"));
    let answer = json(&server, &["delete", "a", "c"]);
    assert_eq!(
        (&answer["deleted"], &answer["absent"]),
        (&1.into(), &1.into())
    );
    assert_eq!(answer["absent_keys"][0], "a");
    let missing: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    let ended = server.run(&[&["delete"], &missing[..]].concat());
    assert!(
        ended.stderr.ends_with("k8, k9 and 2 more are not there\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn keys_come_from_a_file_or_from_another_command() {
    let odd = "line\nend";
    let server = server_with(&["a", "b", odd]);
    let path = std::env::temp_dir().join(format!("larder-test-{}-keys", std::process::id()));
    std::fs::write(&path, "a\n\nb").unwrap();
    let path = path.to_str().unwrap();
    let ended = server.run(&["touch", "--keys-from", path, "--expire-in", "1h"]);
    assert_eq!(ended, done("touched 2 of 2\n"));
    std::fs::remove_file(path).unwrap();
    let keys = server.run(&["scan", "--null"]).stdout;
    assert_eq!(keys.split_terminator('\0').count(), 3);
    let delete = ["delete", "--keys-from", "-", "--null"];
    let ended = server.run_with_input(&delete, keys.as_bytes());
    assert_eq!(ended, done("deleted 3 of 3\n"));
    let ended = server.run(&["delete", "--keys-from", path]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("cannot read the keys"), "{ended:?}");
    let long = "x".repeat(70_000);
    let ended = server.run_with_input(&["delete", "--keys-from", "-"], long.as_bytes());
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("one key on each line"), "{ended:?}");
}

#[test]
fn what_was_done_before_a_key_that_is_refused_is_told() {
    let server = server_with(&["k7", "k8"]);
    let mut keys: String = (0..1000).map(|number| format!("k{number}\n")).collect();
    keys += &"x".repeat(300);
    for (command, done) in [
        (&["touch", "--forever"][..], "touched 2 of 1000"),
        (&["delete"], "deleted 2 of 1000"),
    ] {
        let command = [command, &["--keys-from", "-"]].concat();
        let ended = server.run_with_input(&command, keys.as_bytes());
        assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""));
        let expected = format!("(KEY_TOO_LONG); before that, {done}\n");
        assert!(ended.stderr.ends_with(&expected), "{ended:?}");
    }
}

#[test]
fn more_keys_than_travel_at_once_are_touched_and_deleted() {
    let server = ServerProcess::start();
    let bench = ["bench", "--keys", "2500", "--load-only"];
    assert_eq!(server.run(&bench).code, Some(0));
    let keys = server.run(&["scan"]).stdout;
    assert_eq!(keys.lines().count(), 2500);
    let touch = ["touch", "--keys-from", "-", "--expire-in", "1h"];
    let ended = server.run_with_input(&touch, keys.as_bytes());
    assert_eq!(ended, done("touched 2500 of 2500\n"));
    let ended = server.run_with_input(&["delete", "--keys-from", "-"], keys.as_bytes());
    assert_eq!(ended, done("deleted 2500 of 2500\n"));
    assert_eq!(server.run(&["scan"]), done(""));
}

#[test]
fn a_scan_lists_what_matches() {
    let server = server_with(&["user:1", "user:2", "user/3", "page:1"]);
    let listed = |arguments: &[&str]| -> BTreeSet<String> {
        let ended = server.run(&[&["scan"], arguments].concat());
        assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""));
        ended.stdout.lines().map(str::to_owned).collect()
    };
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(listed(&[]).len(), 4);
    let listed_users: BTreeSet<String> = set(&["user:1", "user:2", "user/3"]);
    assert_eq!(listed(&["user*"]), listed_users);
    assert_eq!(listed(&["user:?"]), set(&["user:1", "user:2"]));
    assert_eq!(listed(&["{page,user}:1"]), set(&["user:1", "page:1"]));
    assert_eq!(listed(&["nothing"]), set(&[]));
    assert_eq!(listed(&["--limit", "3"]).len(), 3);
    assert_eq!(listed(&["--limit", "0"]).len(), 0);
    server.run(&["set", "page:1", "12345", "--expire-in", "10m"]);
    let long = server.run(&["scan", "page:1", "--long"]).stdout;
    let words: Vec<&str> = long.split_whitespace().collect();
    assert_eq!(
        (&words[..2], words.last()),
        (&["5", "B"][..], Some(&"page:1"))
    );
    let item = json(&server, &["scan", "page:1"]);
    assert_eq!(
        (&item["key"], &item["value_bytes"]),
        (&"page:1".into(), &5.into())
    );
    assert!(item["expires_in_ms"].as_u64().unwrap() <= 600_000);
    server.run(&["set", "ünï", "v"]);
    for pattern in ["ün?", "[ü]nï", "???"] {
        assert_eq!(listed(&[pattern]), set(&["ünï"]), "{pattern}");
    }
    let wrong = server.run(&["scan", "[a"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.stderr.contains("unclosed character class"),
        "{wrong:?}"
    );
}

#[test]
fn a_flush_empties_the_cache_now_or_later() {
    let server = server_with(&["a", "b"]);
    let ended = server.run(&["flush", "--delay", "1h"]);
    assert_eq!(ended, done("will be flushed in 1h\n"));
    assert_eq!(server.run(&["get", "a"]), done("v"));
    assert_eq!(server.run(&["flush"]), done("flushed\n"));
    assert_eq!(server.run(&["scan"]), done(""));
}

#[test]
fn several_values_come_in_the_order_of_their_keys() {
    let server = ServerProcess::start();
    for (key, value) in [("a", "1"), ("b", "two words"), ("c", "")] {
        assert_eq!(server.run(&["set", key, value]), done("stored\n"));
    }
    assert_eq!(
        server.run(&["get", "c", "b", "a", "b"]),
        done("\ntwo words\n1\ntwo words\n")
    );
    let ended = server.run(&["get", "a", "x", "b", "y"]);
    assert_eq!((ended.code, &ended.stdout[..]), (Some(1), "1\ntwo words\n"));
    assert_eq!(ended.stderr, "larder get: x, y are not there\n");
    let ended = server.run(&["get", "a", "x"]);
    assert_eq!(ended.stderr, "larder get: x is not there\n");

    let ended = server.run(&["get", "x", "a", "--json"]);
    assert_eq!((ended.code, &ended.stderr[..]), (Some(1), ""));
    let objects: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(
        (&objects[0]["key"], &objects[0]["error"]),
        (&"x".into(), &"x is not there".into())
    );
    assert_eq!(
        (&objects[1]["key"], &objects[1]["value"]),
        (&"a".into(), &"1".into())
    );

    let ended = server.run(&["get", "a", "b", "--output", "file"]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .stderr
            .contains("--output takes the value of one key, and 2 keys were given")
    );
    // More than are asked for at once.
    let keys: Vec<String> = (0..150).map(|number| format!("k{number}")).collect();
    let sets: String = keys
        .iter()
        .map(|key| format!("set {key} v-{key}\n"))
        .collect();
    assert_eq!(
        server.run_with_input(&["batch"], sets.as_bytes()).code,
        Some(0)
    );
    let get: Vec<&str> = std::iter::once("get")
        .chain(keys.iter().map(String::as_str))
        .collect();
    let expected: String = keys.iter().map(|key| format!("v-{key}\n")).collect();
    assert_eq!(server.run(&get), done(&expected));
}
