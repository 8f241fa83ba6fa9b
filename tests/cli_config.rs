//! The settings of the server: flags before variables before the file, and each mistake told with its place
//! and what would be right.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use process::{Ended, ServerProcess, end_of, larder};
use serde_json::Value;

/// A file of settings, removed with its test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("larder-test-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `larder config` with these arguments and variables.
fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = larder(&[&["config"], arguments].concat());
    command.envs(variables.iter().copied());
    end_of(&mut command, b"")
}

fn settings(arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let ended = config(&[arguments, &["--json"]].concat(), variables);
    assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""));
    serde_json::from_str(&ended.stdout).unwrap()
}

/// What is said about settings that cannot work.
fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let ended = config(arguments, variables);
    assert_eq!((ended.code, &ended.stdout[..]), (Some(2), ""), "{ended:?}");
    ended.stderr
}

#[test]
fn a_flag_counts_before_a_variable_and_that_before_the_file() {
    let file = File::new(
        "order",
        "memory = \"10MiB\"\nkey-bytes-max = 100\n\nwrite-timeout = \"3s\"\nlisten = [\"127.0.0.1:1\", \"unix:/s\"]\n",
    );
    let variables = [
        ("LARDER_CONFIG", file.path()),
        ("LARDER_MEMORY", "20MiB"),
        ("LARDER_KEY_BYTES_MAX", "200"),
        ("LARDER_MEMCACHED", "127.0.0.1:2,127.0.0.1:3"),
    ];
    let settings = settings(&["--memory", "30MiB"], &variables);
    let line = |number: u32| format!("{}, line {number}", file.path());
    for (name, value, from, place) in [
        (
            "memory",
            Value::from("30MiB"),
            "flag",
            "--memory".to_owned(),
        ),
        (
            "key-bytes-max",
            "200".into(),
            "environment",
            "LARDER_KEY_BYTES_MAX".to_owned(),
        ),
        (
            "memcached",
            vec!["127.0.0.1:2", "127.0.0.1:3"].into(),
            "environment",
            "LARDER_MEMCACHED".to_owned(),
        ),
        ("write-timeout", "3s".into(), "file", line(4)),
        (
            "listen",
            vec!["127.0.0.1:1", "unix:/s"].into(),
            "file",
            line(5),
        ),
        (
            "frame-timeout",
            "10s".into(),
            "default",
            "default".to_owned(),
        ),
        ("idle-timeout", Value::Null, "default", "default".to_owned()),
        ("prefault", false.into(), "default", "default".to_owned()),
    ] {
        let setting = &settings[name];
        assert_eq!(
            (&setting["value"], &setting["from"]),
            (&value, &from.into()),
            "{name}"
        );
        assert_eq!(setting["place"], place, "{name}");
        assert!(setting["meaning"].as_str().unwrap().len() > 10, "{name}");
    }
}

#[test]
fn a_switch_is_turned_on_and_off_again_everywhere() {
    let file = File::new("switch", "prefault = true\npin = false\n");
    let prefault = |arguments: &[&str], variables: &[(&str, &str)]| {
        let arguments = [arguments, &["--config", file.path()]].concat();
        settings(&arguments, variables)["prefault"]["value"].clone()
    };
    assert_eq!(prefault(&[], &[]), true);
    assert_eq!(prefault(&[], &[("LARDER_PREFAULT", "no")]), false);
    assert_eq!(
        prefault(&["--prefault"], &[("LARDER_PREFAULT", "no")]),
        true
    );
    assert_eq!(prefault(&["--prefault=false"], &[]), false);
    assert_eq!(prefault(&["--prefault=false", "--prefault"], &[]), true);
    let refused = refusal(&[], &[("LARDER_PREFAULT", "perhaps")]);
    assert!(refused.contains("LARDER_PREFAULT: `perhaps` is no switch; accepted: true or false"));
}

#[test]
fn every_flag_of_the_server_is_a_variable_and_a_line_of_the_file() {
    let help = end_of(&mut larder(&["serve", "--help"]), b"").stdout;
    let flags = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"));
    let flags = flags.map(|line| line.split([' ', '[']).next().unwrap().trim());
    let flags: Vec<&str> = flags
        .filter(|name| !["config", "help"].contains(name))
        .collect();
    assert!(flags.len() > 15, "{flags:?}");
    let settings = settings(&[], &[]);
    for flag in &flags {
        let variable = format!("LARDER_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(settings[flag]["variable"], variable, "{flag}");
    }
    assert_eq!(settings.as_object().unwrap().len(), flags.len());
}

#[test]
fn what_a_server_would_not_start_with_is_listed_and_told() {
    for (text, expected) in [
        ("memory = \"1KiB\"", "a memory of 1024 bytes cannot work"),
        ("workers = 0", "0 workers cannot serve; accepted: 1 to"),
        (
            "connections-max = 0",
            "a server for 0 connections cannot work",
        ),
    ] {
        let file = File::new("refused", text);
        let ended = config(&["--config", file.path()], &[]);
        assert_eq!(ended.code, Some(2), "{text}");
        assert!(ended.stdout.contains("refused"), "{}", ended.stdout);
        let expected = format!("larder config: {}, line 1: {expected}", file.path());
        assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    }
}

#[test]
fn what_cannot_work_is_refused_before_a_server_listens() {
    let file = File::new("range", "\n\n\nmemory = \"1MiB\"\n");
    let of_file = format!(
        "{}, line 4: a memory of 1048576 bytes cannot work",
        file.path()
    );
    let free = "127.0.0.1:0";
    let alone = &["--listen", free, "--no-supervisor"];
    let socket = format!("unix:/tmp/larder-test-{}-twice.sock", std::process::id());
    for (arguments, variable, expected) in [
        (
            &["--evidence", "/etc/passwd"][..],
            None,
            "evidence cannot be saved in /etc/passwd: it is no folder",
        ),
        (
            &["--evidence", "/etc/passwd/x"],
            None,
            "evidence cannot be saved in /etc/passwd/x: Not a directory",
        ),
        (
            &["--evidence", "/no/such/folder"],
            None,
            "/no/such: No such file",
        ),
        (
            &["--start-timeout", "0s"],
            None,
            "--start-timeout 0ms is shorter than any process takes to start",
        ),
        (
            &["--upgrade-timeout", "0s"],
            None,
            "--upgrade-timeout 0ms is shorter",
        ),
        (
            &["--stall-warn", "0s"],
            None,
            "--stall-warn 0ms is shorter than what a healthy server",
        ),
        (
            &[alone[0], alone[1], alone[2], "--admin", "unix:/tmp/a"],
            None,
            "nobody would answer at the admin endpoint unix:/tmp/a",
        ),
        (
            &alone[..],
            Some(("LARDER_ADMIN", "unix:/tmp/a")),
            "LARDER_ADMIN: nobody would answer",
        ),
        (
            &[alone[0], alone[1], alone[2], "--allow-drills"],
            None,
            "nobody could ask for a drill",
        ),
        (
            &["--listen", &socket, "--listen", &socket],
            None,
            "is to be listened on twice",
        ),
        (
            &["--listen", &socket, "--memcached", &socket],
            None,
            "is to be listened on twice",
        ),
        (
            &["--memory", "1MiB"],
            None,
            "larder serve: a memory of 1048576 bytes cannot work",
        ),
        (
            &[],
            Some(("LARDER_MEMORY", "1MiB")),
            "LARDER_MEMORY: a memory of 1048576 bytes cannot work",
        ),
        (
            &[],
            Some(("LARDER_FRAME_TIMEOUT", "0s")),
            "LARDER_FRAME_TIMEOUT: with 0s the frame timeout would close",
        ),
        (&["--config", file.path()], None, &of_file),
    ] {
        for command in ["serve", "config"] {
            let mut command = larder(&[&[command], arguments].concat());
            command
                .env_remove("LARDER_EVIDENCE")
                .env_remove("LARDER_ADMIN")
                .envs(variable);
            let ended = end_of(&mut command, b"");
            assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
            let expected = expected.replace("larder serve: ", ": ");
            assert!(ended.stderr.contains(&expected), "{arguments:?}: {ended:?}");
        }
    }
}

#[test]
fn what_may_be_a_mistake_is_told_once() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let workers = (cores + 1).to_string();
    let options = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--pin",
        "--workers",
        &workers,
    ];
    let mut command = larder(&options);
    command
        .env("LARDER_ADMIN", "none")
        .env("LARDER_MEMROY", "1GiB");
    let server = ServerProcess::run_by(&mut command, Stdio::piped());
    server.signal("-TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    for warning in [
        "there are more workers than cores",
        "LARDER_MEMROY names no setting",
    ] {
        assert_eq!(log.matches(warning).count(), 1, "{log}");
    }
}

#[test]
fn mistakes_in_the_file_are_told_with_their_line_and_what_would_be_right() {
    for (text, expected) in [
        (
            "\nmemroy = \"1GiB\"",
            "line 2: there is no setting `memroy`; did you mean `memory`?",
        ),
        (
            "buffer_memory = \"1MiB\"",
            "line 1: there is no setting `buffer_memory`; did you mean `buffer-memory`?",
        ),
        (
            "colour = \"red\"",
            "there is no setting `colour`; accepted: memory, ",
        ),
        (
            "[server]\nmemory = \"1GiB\"",
            "line 1: `server` is a table; accepted: settings alone",
        ),
        (
            "memory = \"1 apple\"",
            "line 1: memory: `1 apple` is not a size; accepted: a whole number with B",
        ),
        ("memory = 1.5", "line 1: memory: `1.5` is not a size"),
        ("workers = -1", "line 1: workers: "),
        (
            "memory = [\"1GiB\"]",
            "memory: it takes one value, and this is a list",
        ),
        (
            "listen = [1979-05-27]",
            "listen: one of its values is no text",
        ),
        (
            "idle-timeout = 1979-05-27",
            "idle-timeout: this is neither text nor number",
        ),
        ("listen = \"nowhere\"", "accepted: HOST:PORT"),
        (
            "huge-pages = \"maybe\"",
            "`maybe` is not accepted; accepted: auto, always, never",
        ),
        ("\n\nmemory = ", "line 3: "),
        (
            "memory = \"1GiB\"\nmemory = \"2GiB\"",
            "line 2: duplicate key",
        ),
        ("config = \"other.toml\"", "there is no setting `config`"),
    ] {
        let file = File::new("mistakes", text);
        let refused = refusal(&["--config", file.path()], &[]);
        assert!(refused.contains(expected), "{text}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert!(refused.contains(file.path()), "{refused}");
    }
    let missing = refusal(&["--config", "/no/such/file.toml"], &[]);
    assert!(
        missing.contains("cannot read the settings in /no/such/file.toml"),
        "{missing}"
    );
    let file = File::new("endless", &"# more\n".repeat(200_000));
    assert!(refusal(&["--config", file.path()], &[]).contains("more than 1 MiB"));
}

#[test]
fn mistakes_in_the_environment_are_told_with_their_variable() {
    let refused = refusal(&[], &[("LARDER_MEMORY", "lots")]);
    assert!(
        refused.contains("LARDER_MEMORY: `lots` is not a size; accepted: "),
        "{refused}"
    );
    let refused = refusal(&[], &[("LARDER_LISTEN", "127.0.0.1:1,nowhere")]);
    assert!(
        refused.contains("LARDER_LISTEN: `nowhere` is not an address"),
        "{refused}"
    );
    let warned = config(
        &[],
        &[("LARDER_MEMROY", "1GiB"), ("LARDER_SERVICE_PORT", "1")],
    );
    assert_eq!(warned.code, Some(0));
    let warning =
        "larder config: the variable LARDER_MEMROY names no setting; did you mean LARDER_MEMORY?\n";
    assert_eq!(warned.stderr, warning);
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let arguments = [
        "--memory",
        "30MiB",
        "--listen",
        "unix:/tmp/a \"b\"",
        "--pin",
        "--workers",
        "2",
    ];
    let printed = config(&arguments, &[]).stdout;
    assert!(printed.contains("memory = \"30MiB\""), "{printed}");
    assert!(printed.contains("# --memory\n"), "{printed}");
    assert!(
        printed.contains("# Memory of the cache: index and items"),
        "{printed}"
    );
    assert!(printed.contains("#idle-timeout ="), "{printed}");
    let file = File::new("printed", &printed);
    let again = settings(&["--config", file.path()], &[]);
    let before = settings(&arguments, &[]);
    for (name, setting) in before.as_object().unwrap() {
        assert_eq!(again[name]["value"], setting["value"], "{name}");
        let from = match setting["value"] {
            Value::Null => "default",
            _ if setting["value"] == Value::Array(Vec::new()) => "default",
            _ => "file",
        };
        assert_eq!(again[name]["from"], from, "{name}");
    }
}

#[test]
fn the_defaults_are_a_file_to_begin_with() {
    let printed = config(&["--default"], &[]).stdout;
    let file = File::new("defaults", &printed);
    let untouched = settings(&["--config", file.path()], &[]);
    let defaults = settings(&[], &[]);
    assert_eq!(untouched, defaults, "all of it is comments");
    // And with the comments removed from what has a default, it says the same.
    let is_setting =
        |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let lines = printed.lines().filter(is_setting);
    let lines: Vec<&str> = lines.map(|line| &line[1..]).collect();
    assert_eq!(lines.len(), defaults.as_object().unwrap().len());
    let lines: Vec<&str> = lines
        .into_iter()
        .filter(|line| defaults[line.split(' ').next().unwrap()]["value"] != Value::Null)
        .collect();
    let file = File::new("uncommented", &lines.join("\n"));
    let uncommented = settings(&["--config", file.path()], &[]);
    for (name, setting) in defaults.as_object().unwrap() {
        assert_eq!(uncommented[name]["value"], setting["value"], "{name}");
    }
}

#[test]
fn a_server_runs_as_its_file_says() {
    let socket =
        std::env::temp_dir().join(format!("larder-test-{}-config.sock", std::process::id()));
    let text = format!(
        "memory = \"16MiB\"\nworkers = 1\nlisten = [\"unix:{}\"]\nno-supervisor = false\n",
        socket.display()
    );
    let file = File::new("server", &text);
    let server = ServerProcess::serve(&["--config", file.path(), "--key-bytes-max", "99"]);
    let settings = server.run(&["stats", "settings", "--json"]).stdout;
    let settings: Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["memory_bytes"], 16 << 20);
    assert_eq!(
        (&settings["workers"], &settings["key_bytes_max"]),
        (&1.into(), &99.into())
    );
    // The worker's successor has the settings that the server was started with.
    std::fs::write(file.path(), "nonsense").unwrap();
    let first = server.pid();
    assert_ne!(first, server.supervisor_pid());
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &first.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let settings = loop {
        let figures = server.run(&["stats", "server", "--json"]);
        let figures: Value = serde_json::from_str(&figures.stdout).unwrap_or_default();
        // Not yet: what was killed may have been there for another moment.
        if figures["pid"]
            .as_u64()
            .is_some_and(|pid| pid != u64::from(first))
        {
            break server.run(&["stats", "settings", "--json"]).stdout;
        }
    };
    let settings: Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["memory_bytes"], 16 << 20);
    assert_eq!(
        (&settings["workers"], &settings["key_bytes_max"]),
        (&1.into(), &99.into())
    );
    drop(server);
    let _ = std::fs::remove_file(socket);
    let wrong = File::new("wrong", "memory = \"1KiB\"\nlisten = [\"127.0.0.1:0\"]\n");
    let ended = end_of(&mut larder(&["serve", "--config", wrong.path()]), b"");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(Path::new(file.path()).exists());
}
