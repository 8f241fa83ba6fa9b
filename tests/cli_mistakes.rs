//! What somebody new does wrong, and what is said about it: what was wrong, and what would be right. Nothing
//! panics, hangs, or ends as if it were done.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use process::{ServerProcess, end_of, larder};

#[test]
fn every_mistake_is_told_with_what_would_be_right() {
    let server = ServerProcess::start();
    server.run(&["set", "word", "bread"]);
    let long = "k".repeat(300);
    for (arguments, code, expected) in [
        (
            &["gett", "k"][..],
            2,
            "similar subcommands exist: 'set', 'get'",
        ),
        (&["get"], 2, "Usage: larder get [OPTIONS] <KEY>"),
        (&["incr", "a", "1", "b"], 2, "unexpected argument 'b'"),
        (
            &["set", "k"],
            2,
            "Usage: larder set [OPTIONS] <KEY> <VALUE>\n",
        ),
        (
            &["set", "k", "v", "--expire-in", "10"],
            2,
            "a whole number with ms, s, m, h or d",
        ),
        (
            &["set", "k", "v", "--expire_in", "10s"],
            2,
            "a similar argument exists: '--expire-in'",
        ),
        (
            &["set", "k", "-v"],
            2,
            "to pass '-v' as a value, use '-- -v'",
        ),
        (
            &["set", "k", "v", "--flags", "red"],
            2,
            "`red` is not a whole number; accepted: digits",
        ),
        (
            &["set", "k", "--file", "/no/such"],
            2,
            "cannot read the value from /no/such",
        ),
        (&["set", "k", "--file", "/"], 2, "Is a directory"),
        (
            &["set", &long, "v"],
            2,
            "the key has 300 bytes; this server accepts up to 250",
        ),
        (
            &["get", "word", "--output", "/no/such/file"],
            1,
            "cannot write the value into /no/such/file",
        ),
        (&["touch", "k"], 2, "<--expire-in <DURATION>|--forever>"),
        (
            &["incr", "word"],
            1,
            "what is stored under word is no number",
        ),
        (&["incr", "n"], 1, "--initial N creates it"),
        (&["incr", "n", "many"], 2, "`many` is not a whole number"),
        (&["scan", "[a"], 2, "unclosed character class"),
        (
            &["stats", "weather"],
            1,
            "accepted: none, `server`, `cache`",
        ),
        (
            &["stats", "--watch", "workers"],
            2,
            "a group of figures stands before --watch",
        ),
        (&["stats", "--watch", "1ms"], 2, "accepted: at least 10ms"),
        (&["flush", "now"], 2, "unexpected argument 'now'"),
        (&["batch", "/no/such"], 2, "cannot read /no/such"),
        (
            &["completions", "csh"],
            2,
            "possible values: bash, elvish, fish",
        ),
        (
            &["get", "k", "--server", "127.0.0.1:5273"],
            2,
            "did you mean larder://127.0.0.1:5273?",
        ),
        (
            &["get", "k", "--server", "redis://a"],
            2,
            "it begins with larder:// or larder+unix://",
        ),
        (
            &["ping", "--server", "larder+unix:///no/such"],
            3,
            "`larder serve` starts a server",
        ),
        (
            &["--server", "larder://a:1", "get", "k"],
            2,
            "'get --server' exists",
        ),
        (
            &["serve", "--workers", "many"],
            2,
            "`many` is not a whole number",
        ),
        (&["serve", "--memory", "1KiB"], 2, "2 MiB"),
    ] {
        let ended = server.run(arguments);
        assert_eq!(
            (ended.code, &ended.stdout[..]),
            (Some(code), ""),
            "{arguments:?}"
        );
        assert!(
            ended.stderr.contains(expected),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("panicked"), "{arguments:?}");
    }
}

#[test]
fn lines_that_a_shell_is_given_are_complained_of_in_its_name() {
    let server = ServerProcess::start();
    let ended = server.run_with_input(&["shell"], b"dance\n");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines[0].starts_with("larder shell: line 1: "), "{lines:?}");
    assert_eq!(lines[1], "larder shell: 1 of 1 commands failed");
    let ended = end_of(
        &mut larder(&["shell", "--server", "larder+unix:///no/such"]),
        b"",
    );
    assert!(ended.stderr.starts_with("larder shell: "), "{ended:?}");
}

#[test]
fn a_mistake_in_a_variable_is_told_with_its_name() {
    for (variable, arguments) in [
        ("LARDER_ADMIN", &["status"][..]),
        ("LARDER_SERVER", &["why"]),
        ("LARDER_SERVER", &["get", "k"]),
        ("LARDER_ADMIN", &["serve"]),
        ("LARDER_ADMIN", &["config"]),
    ] {
        let mut command = larder(arguments);
        let ended = end_of(command.env(variable, "nonsense"), b"");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let expected = format!("larder {}: {variable}: ", arguments[0]);
        assert!(ended.stderr.starts_with(&expected), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
    // One that was typed is told as clap does.
    let mut typed = larder(&["status", "--admin", "nonsense"]);
    let ended = end_of(typed.env("LARDER_ADMIN", "nonsense"), b"");
    assert!(
        ended.stderr.contains("for '--admin <ADDRESS>'"),
        "{ended:?}"
    );
}

#[test]
fn arguments_that_are_no_text_are_refused_like_others() {
    let key = OsStr::from_bytes(b"k\xff");
    for (arguments, expected) in [
        (&["get", "--foo"][..], "unexpected argument '--foo'"),
        (&["set"], "<VALUE|--file <PATH>>"),
        (&["scan"], "invalid UTF-8"),
        (&["serve", "--listen"], "invalid UTF-8"),
        (&[], "unrecognized subcommand"),
    ] {
        let ended = end_of(larder(arguments).arg(key), b"");
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{ended:?}");
    }
    for variable in ["LARDER_SERVER", "LARDER_ADMIN"] {
        let ended = end_of(larder(&["status"]).env(variable, key), b"");
        let expected = format!("larder status: {variable}: `k\u{fffd}` is not UTF-8\n");
        assert_eq!((ended.code, ended.stderr), (Some(2), expected));
    }
}

#[test]
fn a_value_and_an_object_are_not_asked_for_at_once() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    let ended = server.run(&["get", "k", "--output", "-", "--json"]);
    assert_eq!((ended.code, &ended.stderr[..]), (Some(2), ""));
    assert!(ended.stdout.contains("\"kind\":\"usage\""), "{ended:?}");
}

#[test]
fn bytes_that_a_terminal_would_obey_are_spelled_out_in_complaints() {
    let server = ServerProcess::start();
    let ended = server.run(&["get", "bell\u{7}"]);
    assert_eq!(ended.stderr, "larder get: bell\\x07 is not there\n");
    let ended = server.run_with_input(&["batch"], b"\x1b[2J\xff k\n");
    assert!(!ended.stderr.contains('\u{1b}'), "{:?}", ended.stderr);
    assert!(
        ended.stderr.contains("line 1: unrecognized subcommand"),
        "{:?}",
        ended.stderr
    );
}

#[test]
fn a_place_that_takes_no_more_is_a_failure_that_is_told() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    for command in [
        "get k",
        "scan",
        "stats",
        "completions bash",
        "config",
        "ping",
        "--help",
        "get --help",
        "help get",
        "--version",
    ] {
        let mut shell = Command::new("sh");
        let line = format!("\"$LARDER\" {command} > /dev/full");
        shell
            .args(["-c", &line])
            .env("LARDER", env!("CARGO_BIN_EXE_larder"))
            .env("LARDER_SERVER", server.url());
        let ended = end_of(&mut shell, b"");
        assert_eq!(ended.code, Some(1), "{command}: {}", ended.stderr);
        let why = "cannot write to standard output: No space left";
        assert!(ended.stderr.contains(why), "{command}: {}", ended.stderr);
    }
}

#[test]
fn a_device_that_takes_no_value_is_not_removed_as_a_torn_file_is() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    let link = std::env::temp_dir().join(format!("larder-{}-full", std::process::id()));
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let output = link.to_str().unwrap();
    let mut get = larder(&["get", "k", "--output", output, "--server", &server.url()]);
    let ended = end_of(&mut get, b"");
    let is_there = std::fs::remove_file(&link).is_ok();
    assert_eq!((ended.code, is_there), (Some(1), true), "{}", ended.stderr);
}

#[test]
fn complaints_that_nobody_hears_change_nothing() {
    for arguments in [
        "get k --server larder+unix:///no/such",
        "serve --memory 1KiB",
        "dance",
    ] {
        let mut shell = Command::new("sh");
        let line = format!("exec \"$LARDER\" {arguments} 2>&-");
        shell
            .args(["-c", &line])
            .env("LARDER", env!("CARGO_BIN_EXE_larder"));
        let ended = end_of(&mut shell, b"");
        let expected = if arguments.starts_with("get") { 3 } else { 2 };
        assert_eq!(ended.code, Some(expected), "{arguments}");
        let full = format!("exec \"$LARDER\" {arguments} 2>/dev/full");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &full])
            .env("LARDER", env!("CARGO_BIN_EXE_larder"));
        assert_eq!(end_of(&mut shell, b"").code, Some(expected), "{arguments}");
    }
    // The program without words is no mistake, and no server.
    assert_eq!(end_of(&mut larder(&[]), b"").code, Some(2));
}
