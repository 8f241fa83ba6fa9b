//! The commands of a client: what they print, where, and how they end.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use process::{Ended, ServerProcess, end_of, larder};

/// An end with nothing to complain of.
fn done(stdout: &str) -> Ended {
    Ended {
        code: Some(0),
        stdout: stdout.to_owned(),
        stderr: String::new(),
    }
}

/// A server address that nobody listens on: its listener is gone before anybody asks.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("larder://{}", listener.local_addr().unwrap())
}

#[test]
fn what_is_set_is_got_byte_for_byte() {
    let server = ServerProcess::start();
    assert_eq!(server.run(&["set", "greeting", "hello"]), done("stored\n"));
    assert_eq!(server.run(&["get", "greeting"]), done("hello"));
    let long = "line\n".repeat(5000);
    assert_eq!(
        server.run_with_input(&["set", "page", "-"], long.as_bytes()),
        done("stored\n")
    );
    assert_eq!(server.run(&["get", "page"]), done(&long));
    assert_eq!(server.run(&["set", "empty", ""]), done("stored\n"));
    assert_eq!(server.run(&["get", "empty"]), done(""));
}

/// A folder of a test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("larder-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_go_in_and_come_out_byte_for_byte() {
    let (server, folder) = (ServerProcess::start(), Folder::new("files"));
    let [source, target] = ["source", "target"].map(|name| folder.file(name));
    for size in [0, 10, 9_000, 3_000_000] {
        let value: Vec<u8> = (0..size).map(|at: u32| (at / 3) as u8).collect();
        std::fs::write(&source, &value).unwrap();
        let set = server.run(&["set", "key", "--file", &source]);
        assert_eq!(set, done("stored\n"));
        assert_eq!(server.run(&["get", "key", "--output", &target]), done(""));
        assert!(std::fs::read(&target).unwrap() == value, "{size} bytes");
    }
    std::fs::write(&source, "text\n".repeat(100_000)).unwrap();
    server.run(&["set", "key", "--file", &source, "--replace"]);
    let printed = server.run(&["get", "key", "--output", "-"]);
    assert_eq!(printed, done(&"text\n".repeat(100_000)));
    let added = server.run(&["set", "key", "--file", &source, "--add"]);
    assert_eq!(added.code, Some(1));
    let missing = server.run(&["set", "key", "--file", &folder.file("missing")]);
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    let piped = server.run_with_input(&["set", "piped", "--file", "-"], b"piped");
    assert_eq!(piped, done("stored\n"));
    assert_eq!(server.run(&["get", "piped"]), done("piped"));
}

#[test]
fn what_has_no_length_of_its_own_is_read_to_its_end() {
    let server = ServerProcess::start();
    // The system says that it has none, and makes it as it is read.
    let path = "/proc/version";
    assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
    assert_eq!(server.run(&["set", "k", "--file", path]), done("stored\n"));
    let version = std::fs::read_to_string(path).unwrap();
    assert_eq!(server.run(&["get", "k"]), done(&version));
}

#[test]
fn what_has_no_end_is_read_as_far_as_the_server_would_take_it() {
    let server = ServerProcess::start();
    for arguments in [
        &["set", "k", "--file", "/dev/zero"][..],
        &["set", "k", "--file", "-"],
        &["set", "k", "-"],
    ] {
        let mut command = larder(arguments);
        let zeroes = std::fs::File::open("/dev/zero").unwrap();
        let ended = command
            .env("LARDER_SERVER", server.url())
            .stdin(zeroes)
            .output();
        let ended = ended.unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let why = "the value has more than 16777216 bytes";
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(server.run(&["get", "k"]).code, Some(1));
}

#[test]
fn a_file_is_not_touched_for_a_key_that_is_not_there() {
    let (server, folder) = (ServerProcess::start(), Folder::new("untouched"));
    let target = folder.file("target");
    std::fs::write(&target, b"precious").unwrap();
    let ended = server.run(&["get", "fig", "--output", &target]);
    assert_eq!(
        (ended.code, &ended.stderr[..]),
        (Some(1), "larder get: fig is not there\n")
    );
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}

#[test]
fn the_largest_value_is_an_option_of_the_server() {
    let server = ServerProcess::serve(&[
        "--memory",
        "64MiB",
        "--value-bytes-max",
        "1MiB",
        "--listen",
        "127.0.0.1:0",
    ]);
    let folder = Folder::new("largest");
    let source = folder.file("source");
    std::fs::write(&source, vec![7; 1 << 20]).unwrap();
    assert_eq!(
        server.run(&["set", "key", "--file", &source]),
        done("stored\n")
    );
    std::fs::write(&source, vec![7; (1 << 20) + 1]).unwrap();
    let ended = server.run(&["set", "key", "--file", &source]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("accepts up to 1048576"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_key_that_is_not_there_ends_with_1_and_says_so() {
    let server = ServerProcess::start();
    for arguments in [&["get", "fig"][..], &["delete", "fig"]] {
        let ended = server.run(arguments);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{arguments:?}"
        );
        assert_eq!(
            ended.stderr,
            format!("larder {}: fig is not there\n", arguments[0])
        );
    }
    let ended = server.run(&["incr", "fig"]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (
            Some(1),
            "larder incr: fig is not there; --initial N creates it\n"
        )
    );
}

#[test]
fn add_and_replace_store_on_their_condition_alone() {
    let server = ServerProcess::start();
    let refused = server.run(&["set", "k", "v", "--replace"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("there is no such item"),
        "{}",
        refused.stderr
    );
    assert_eq!(server.run(&["set", "k", "v", "--add"]), done("stored\n"));
    let refused = server.run(&["set", "k", "w", "--add"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("already there"),
        "{}",
        refused.stderr
    );
    assert_eq!(
        server.run(&["set", "k", "w", "--replace", "--flags", "7"]),
        done("stored\n")
    );
    assert_eq!(server.run(&["get", "k"]), done("w"));
    assert_eq!(
        server.run(&["set", "k", "w", "--add", "--replace"]).code,
        Some(2)
    );
}

#[test]
fn an_item_that_has_expired_is_not_there() {
    let server = ServerProcess::start();
    assert_eq!(
        server.run(&["set", "k", "v", "--expire-in", "0ms"]),
        done("stored\n")
    );
    assert_eq!(server.run(&["get", "k"]).code, Some(1));
    assert_eq!(
        server.run(&["set", "k", "v", "--expire-in", "1h"]),
        done("stored\n")
    );
    assert_eq!(server.run(&["get", "k"]), done("v"));
}

#[test]
fn counters_go_up_and_down_and_stop_at_0() {
    let server = ServerProcess::start();
    for (arguments, number) in [
        (&["incr", "n", "--initial", "5"][..], "5\n"),
        (&["incr", "n", "--initial", "5"], "6\n"),
        (&["incr", "n", "10"], "16\n"),
        (&["incr", "n", "-4"], "12\n"),
        (&["incr", "n", "2", "--down"], "10\n"),
        (&["incr", "n", "-2", "--down"], "12\n"),
        (&["incr", "n", "-100"], "0\n"),
        (
            &[
                "incr",
                "m",
                "--initial",
                "18446744073709551615",
                "--expire-in",
                "1h",
            ],
            "18446744073709551615\n",
        ),
        (
            &["incr", "m", "18446744073709551615"],
            "18446744073709551614\n",
        ),
    ] {
        assert_eq!(server.run(arguments), done(number), "{arguments:?}");
    }
    assert_eq!(
        server.run(&["incr", "n", "18446744073709551616"]).code,
        Some(2)
    );
    server.run(&["set", "word", "bread"]);
    let ended = server.run(&["incr", "word"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("NOT_A_NUMBER"), "{}", ended.stderr);
}

#[test]
fn a_deleted_key_is_not_there() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    assert_eq!(server.run(&["delete", "k"]), done("deleted\n"));
    assert_eq!(server.run(&["get", "k"]).code, Some(1));
}

#[test]
fn ping_names_the_server() {
    let server = ServerProcess::start();
    let ended = server.run(&["ping"]);
    assert_eq!(ended.code, Some(0));
    let name = format!("larder {} answered in ", env!("CARGO_PKG_VERSION"));
    assert!(ended.stdout.starts_with(&name), "{}", ended.stdout);
}

#[test]
fn stats_are_a_table_or_json() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    let table = server.run(&["stats"]);
    assert_eq!(table.code, Some(0));
    let (of_server, rest) = table.stdout.split_once("\n\n").unwrap();
    let words: Vec<&str> = of_server.split_whitespace().collect();
    assert_eq!((words[0], &words[words.len() - 2..].len()), ("Server", &2));
    assert!(
        words.windows(2).any(|pair| pair == ["workers", "2"]),
        "{of_server}"
    );
    assert!(
        rest.contains("\nMemory\n") && rest.contains(" 64 MiB\n"),
        "{rest}"
    );
    assert!(
        !rest.contains("\nMore\n"),
        "every figure has its section: {rest}"
    );
    assert!(!rest.contains("evicted"), "nothing that is 0: {rest}");
    let all = server.run(&["stats", "--all"]).stdout;
    assert!(all.contains("evicted"), "{all}");
    assert!(!all.contains("\nMore\n"), "{all}");
    let json = server.run(&["stats", "server", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(figures["workers"], 2);
    let unknown = server.run(&["stats", "weather"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(1), ""));
    assert!(unknown.stderr.contains("NOT_FOUND"), "{}", unknown.stderr);
}

#[test]
fn the_memory_is_a_ledger_that_sums_to_the_budget() {
    let server = ServerProcess::start();
    let page = vec![b'x'; 60_000];
    server.run_with_input(&["set", "page", "-"], &page);
    let ended = server.run(&["stats", "memory"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let bytes = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    let (ledger, beside) = ended.stdout.split_once("\n\n").unwrap();
    let (lines, sum) = ledger.rsplit_once('\n').unwrap();
    let added: u64 = lines.lines().map(|line| bytes(line).unwrap()).sum();
    assert_eq!(added, 64 << 20, "{ledger}");
    assert!(sum.starts_with("sum ") && sum.ends_with("100.0 %"), "{sum}");
    assert_eq!(bytes(sum), Some(64 << 20));
    for name in ["live", "dead", "expired", "open", "free", "limbo", "spare"] {
        let is_there = |line: &str| line.starts_with(&format!("{name} "));
        assert!(lines.lines().any(is_there), "{name}: {ledger}");
    }
    let figure = |name: &str| {
        let line = beside.lines().find(|line| line.starts_with(name));
        bytes(line.unwrap()).unwrap()
    };
    assert_eq!(figure("memory_bytes "), 64 << 20);
    assert!((1..figure("rss_bytes_max ")).contains(&figure("rss_bytes ")));
    let json = server.run(&["stats", "memory", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(figures["memory_bytes"], 64 << 20);
}

#[test]
fn who_is_connected_is_a_table() {
    let server = ServerProcess::start();
    let table = server.run(&["stats", "connections"]).stdout;
    let lines: Vec<Vec<&str>> = (table.lines())
        .map(|line| line.split_whitespace().collect())
        .collect();
    let names = [
        "peer", "address", "protocol", "worker", "state", "age", "idle",
    ];
    assert_eq!(lines[0], names, "{table}");
    // Whoever asks is.
    let asking = lines.last().unwrap();
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!(asking[3], "larder");
    assert_eq!(asking[5], "idle");
    let json = server.run(&["stats", "connections", "--json"]).stdout;
    let figures: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(figures["connection_2.protocol"], "larder", "{json}");
}

#[test]
fn each_worker_counts_for_itself_and_the_table_sums_them() {
    let server = ServerProcess::start();
    for _ in 0..3 {
        server.run(&["get", "nothing"]);
    }
    let ended = server.run(&["stats", "workers"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let mut lines = ended.stdout.lines().map(words);
    assert_eq!(
        lines.next().unwrap(),
        ["worker_0", "worker_1", "upkeep", "sum"]
    );
    let misses = lines.find(|words| words[0] == "get_misses").unwrap();
    let misses: Vec<u64> = misses[1..]
        .iter()
        .map(|word| word.parse().unwrap())
        .collect();
    assert_eq!((misses[3], misses[2], misses[0] + misses[1]), (3, 0, 3));
    assert!(lines.any(|words| words[0] == "requests"));
    let json = server.run(&["stats", "workers", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let opened = |worker: u64| figures[format!("worker_{worker}.connections_opened")].as_u64();
    assert_eq!(opened(0).unwrap() + opened(1).unwrap(), 5);
}

#[test]
fn items_are_told_by_frequency_and_size() {
    let server = ServerProcess::start();
    for (key, value) in [("a", "1"), ("b", "12345"), ("c", "1234567")] {
        server.run(&["set", key, value]);
    }
    server.run(&["get", "b"]);
    let table = server.run(&["stats", "items"]).stdout;
    assert!(table.starts_with("3 items, from 3 in "), "{table}");
    let json = server.run(&["stats", "items", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let expected = [
        ("items", 3),
        ("frequency_0", 2),
        ("frequency_1", 1),
        ("value_bytes_to_1", 1),
        ("value_bytes_to_4", 0),
        ("value_bytes_to_8", 2),
    ];
    for (name, value) in expected {
        assert_eq!(figures[name], value, "{name}");
    }
}

#[test]
fn the_cache_tells_ages_and_who_is_pinned() {
    let server = ServerProcess::start();
    server.run(&["set", "k", "v"]);
    let json = server.run(&["stats", "cache", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(figures["main_age_s"].as_u64().unwrap() < 600, "{figures}");
    assert_eq!(figures["small_age_s"], 0);
    // Whoever answers is pinned.
    let pinned_by = figures["pinned_by"].as_str().unwrap();
    assert!(pinned_by.starts_with("worker_"), "{pinned_by}");
    assert!(figures["pinned_ms"].as_u64().unwrap() < 60_000, "{figures}");
    assert!(figures["limbo_bytes"].is_u64());
}

#[test]
fn the_help_of_stats_names_every_group_that_a_server_has() {
    let server = ServerProcess::start();
    let refused = server.run(&["stats", "nonsense"]).stderr;
    let groups: Vec<&str> = refused.split('`').skip(1).step_by(2).collect();
    assert!(groups.contains(&"since_reset"), "{refused}");
    let help = server.run(&["stats", "--help"]).stdout;
    for group in groups {
        assert!(help.contains(group), "{group}: {help}");
    }
}

#[test]
fn a_server_that_is_not_there_ends_every_command_with_3() {
    let nobody = nobody();
    for arguments in [
        &["ping"][..],
        &["get", "k"],
        &["set", "k", "v"],
        &["delete", "k"],
        &["incr", "k"],
        &["touch", "k", "--forever"],
        &["scan"],
        &["flush"],
        &["stats"],
        &["bench", "--requests", "1"],
    ] {
        let ended = end_of(larder(arguments).args(["--server", &nobody]), b"");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(3), ""),
            "{arguments:?}"
        );
        assert!(
            ended
                .stderr
                .contains("cannot connect to larder://127.0.0.1:"),
            "{}",
            ended.stderr
        );
        let hint =
            "Connection refused (os error 111); is it running? `larder serve` starts a server";
        assert!(
            ended.stderr.contains(hint),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn what_listens_there_and_does_not_speak_the_protocol_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("larder://{}", listener.local_addr().unwrap());
    let stranger = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut stream = listener.accept().unwrap().0;
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let ended = end_of(&mut larder(&["ping", "--server", &url]), b"");
    stranger.join().unwrap();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("does not speak Larder's protocol"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &["get"][..],
        &["set", "k"],
        &["set", "k", "v", "--file", "f"],
        &["set", "k", "v", "--expire-in", "5"],
        &["incr", "k", "many"],
        &["ping", "--server", "redis://127.0.0.1"],
        &["get", "k", "--server", "127.0.0.1:5273"],
        &["bench", "--connections", "0"],
        &["bench", "--keys", "101", "--key-bytes", "2"],
        &["bench", "--load-only", "--verify-all"],
        &["dance"],
    ] {
        let ended = end_of(&mut larder(arguments), b"");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_key_that_the_server_does_not_accept_is_wrong_usage() {
    let server = ServerProcess::start();
    for key in ["", &"k".repeat(251)] {
        let ended = server.run(&["get", key]);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let server = ServerProcess::start();
    let page = vec![b'x'; 60_000];
    server.run_with_input(&["set", "page", "-"], &page);
    for arguments in [
        &["get", "page"][..],
        &["get", "page", "--output", "-"],
        &["get", "page", "--json"],
        &["get", "nothing-here", "--json"],
        &["scan"],
        &["stats"],
        &["ping"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut command = larder(arguments);
        command
            .env("LARDER_SERVER", server.url())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let code = i32::from(arguments.contains(&"nothing-here"));
        assert_eq!(
            (output.status.code(), output.status.signal()),
            (Some(code), None),
            "{arguments:?}"
        );
        assert!(
            output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn commands_reach_a_server_on_a_unix_socket() {
    let name = format!("larder-test-{}-commands.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let server = ServerProcess::listen(&format!("unix:{}", path.display()));
    assert_eq!(server.run(&["set", "k", "v"]), done("stored\n"));
    assert_eq!(server.run(&["get", "k"]), done("v"));
    assert_eq!(
        server.run(&["bench", "--keys", "10", "--load-only"]).code,
        Some(0)
    );
    drop(server);
    // Killed, the server could not remove it.
    let _ = std::fs::remove_file(path);
}
