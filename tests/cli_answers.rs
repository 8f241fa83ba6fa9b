//! How commands answer: in JSON for programs, in colours on a terminal alone, with an example in every
//! help, and with scripts for shells.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/terminal.rs"]
mod terminal;

use process::{ServerProcess, end_of, larder};
use serde_json::{Value, json};
use terminal::Terminal;

/// The commands that the overview lists.
fn commands() -> Vec<String> {
    let help = end_of(&mut larder(&["--help"]), b"").stdout;
    let command = |line: &str| Some(line.strip_prefix("  ")?.split_once(' ')?.0.to_owned());
    let commands: Vec<String> = help.lines().filter_map(command).collect();
    assert!(commands.len() > 10, "{help}");
    commands
}

#[test]
fn every_command_answers_in_json() {
    let server = ServerProcess::start();
    let answer = |arguments: &[&str]| -> (Option<i32>, Value) {
        let ended = server.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended.stderr, "", "{arguments:?}");
        assert_eq!(ended.stdout.matches('\n').count(), 1, "{arguments:?}");
        (ended.code, serde_json::from_str(&ended.stdout).unwrap())
    };
    let version = |number: u64, mut answer: Value| {
        answer["version"] = number.into();
        answer
    };
    let cases = [
        (&["set", "k", "v"][..], json!({"key": "k", "stored": true})),
        (
            &["touch", "k", "--forever"],
            json!({"touched": 1, "absent": 0, "absent_keys": []}),
        ),
        (
            &["incr", "n", "--initial", "7"],
            json!({"key": "n", "number": 7}),
        ),
        (
            &["get", "k"],
            json!({"key": "k", "value": "v", "flags": 0, "expires_in_ms": null}),
        ),
        (
            &["delete", "k"],
            json!({"deleted": 1, "absent": 0, "absent_keys": []}),
        ),
        (&["flush"], json!({"flushed": true})),
    ];
    for (arguments, expected) in cases {
        let (code, answered) = answer(arguments);
        assert_eq!(code, Some(0), "{arguments:?}");
        let expected = match answered.get("version") {
            Some(number) => version(number.as_u64().unwrap(), expected),
            None => expected,
        };
        assert_eq!(answered, expected, "{arguments:?}");
    }
    assert!(answer(&["ping"]).1["took_ms"].is_f64());
    assert!(answer(&["stats"]).1["uptime_ms"].is_u64());
    let absent = json!({"error": "k is not there", "kind": "not_done"});
    assert_eq!(answer(&["get", "k"]), (Some(1), absent));
    let (code, refused) = answer(&["get", ""]);
    assert_eq!((code, &refused["kind"]), (Some(2), &json!("usage")));
    let (code, gone) = answer(&["ping", "--server", "larder+unix:///no/such"]);
    assert_eq!((code, &gone["kind"]), (Some(3), &json!("unreachable")));
}

#[test]
fn every_failure_is_an_object_where_json_is_asked_for() {
    let admin = ["--admin", "unix:/no/such", "--json"];
    let server = ["--server", "larder+unix:///no/such", "--json"];
    let of_admin = |command: &[&'static str]| [command, &admin].concat();
    for (arguments, code, kind) in [
        (of_admin(&["status"]), 3, "unreachable"),
        (of_admin(&["why"]), 3, "unreachable"),
        (of_admin(&["postmortem"]), 3, "unreachable"),
        (of_admin(&["upgrade"]), 3, "unreachable"),
        (of_admin(&["drill", "abort"]), 3, "unreachable"),
        (
            of_admin(&["drill", "abort", "--key", "k"]),
            3,
            "unreachable",
        ),
        (of_admin(&["drill", "hang", "--key", "k"]), 2, "usage"),
        (
            vec!["status", "--server", "larder://192.0.2.1", "--json"],
            2,
            "usage",
        ),
        (
            vec!["postmortem", "--bundle", "/no/such", "--json"],
            2,
            "usage",
        ),
        ([&["batch"], &server[..]].concat(), 3, "unreachable"),
        (vec!["config", "--config", "/no/such", "--json"], 2, "usage"),
        (vec!["config", "--memory", "1KiB", "--json"], 2, "usage"),
        (vec!["config", "--default", "--json"], 2, "usage"),
    ] {
        let mut command = larder(&arguments);
        let ended = end_of(command.env_remove("LARDER_ADMIN"), b"");
        assert_eq!(
            (ended.code, &ended.stderr[..]),
            (Some(code), ""),
            "{arguments:?}"
        );
        assert_eq!(ended.stdout.matches('\n').count(), 1, "{arguments:?}");
        let told: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(told["kind"], kind, "{arguments:?}");
        assert!(told["error"].as_str().unwrap().len() > 10, "{told}");
    }
}

#[test]
fn bytes_that_are_no_text_are_base64_in_json() {
    let server = ServerProcess::start();
    server.run_with_input(&["set", "k", "-"], b"\xff\x00");
    let answer: Value = serde_json::from_str(&server.run(&["get", "k", "--json"]).stdout).unwrap();
    assert_eq!(answer["value"], json!({"base64": "/wA="}));
}

#[test]
fn every_command_has_an_example_in_its_help() {
    for command in commands() {
        if command == "help" {
            continue;
        }
        let ended = end_of(&mut larder(&[&command, "--help"]), b"");
        assert_eq!(ended.code, Some(0), "{command}");
        let example = format!("\n  larder {command}");
        assert!(
            ended.stdout.contains("Example") && ended.stdout.contains(&example),
            "{command}: {}",
            ended.stdout
        );
    }
}

#[test]
fn the_overview_is_short_and_tells_exit_codes() {
    let help = end_of(&mut larder(&["--help"]), b"").stdout;
    assert!(help.lines().count() <= 45, "{help}");
    for expected in ["Items:", "Exit codes: 0 done", "LARDER_SERVER"] {
        assert!(help.contains(expected), "{expected}: {help}");
    }
    assert!(!help.contains('\u{1b}'), "no colours but on a terminal");
    let help = end_of(&mut larder(&["serve", "--help"]), b"").stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        help.contains("4 the processes that serve died again and again"),
        "{help}"
    );
}

#[test]
fn every_shell_gets_a_script_that_knows_all_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = end_of(&mut larder(&["completions", shell]), b"").stdout;
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command}");
        }
    }
    let unknown = end_of(&mut larder(&["completions", "basch"]), b"");
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("similar value exists: 'bash'"));
}

#[test]
fn bash_takes_its_script_and_completes_a_command() {
    let script = end_of(&mut larder(&["completions", "bash"]), b"").stdout;
    let ask =
        "COMP_WORDS=(larder sc); COMP_CWORD=1; _larder larder sc larder; echo \"${COMPREPLY[@]}\"";
    let mut bash = std::process::Command::new("bash");
    bash.args(["--norc", "-c", &format!("{script}\n{ask}")]);
    let ended = end_of(&mut bash, b"");
    assert_eq!(
        (ended.code, &ended.stdout[..]),
        (Some(0), "scan\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_terminal_gets_readable_values_in_colours_unless_they_are_not_wanted() {
    let server = ServerProcess::start();
    server.run_with_input(&["set", "picture", "-"], b"\x1b[2J");
    server.run(&["set", "word", "hello"]);
    let get = |key: &str| {
        let mut command = larder(&["get", key]);
        command.env("LARDER_SERVER", server.url());
        command
    };
    let done = |shown: &str| (Some(0), shown.to_owned());
    assert_eq!(Terminal::start(get("word")).end(), done("hello\n"));
    let coloured = "\\x1b[2J \u{1b}[2m(not plain text, 4 B)\u{1b}[0m\n";
    assert_eq!(Terminal::start(get("picture")).end(), done(coloured));
    let plain = "\\x1b[2J (not plain text, 4 B)\n";
    assert_eq!(Terminal::without_colours(get("picture")).end(), done(plain));
    // A pipe gets what was stored.
    assert_eq!(server.run(&["get", "picture"]).stdout, "\u{1b}[2J");
    assert_eq!(server.run(&["get", "word"]).stdout, "hello");
}

#[test]
fn help_has_colours_on_a_terminal_unless_no_color_is_set() {
    let (code, help) = Terminal::start(larder(&["--help"])).end();
    assert_eq!(code, Some(0));
    assert!(help.contains("\u{1b}["), "{help:?}");
    let (_, help) = Terminal::without_colours(larder(&["--help"])).end();
    assert!(!help.contains('\u{1b}'), "{help:?}");
}
