//! `larder stats --watch`: again and again, with rates, until somebody has seen enough.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/terminal.rs"]
mod terminal;

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use process::{ServerProcess, larder};
use serde_json::Value;
use terminal::Terminal;

/// A watch that writes into a pipe.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(server: &ServerProcess, arguments: &[&str]) -> Self {
        let mut child = watch(server, arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it goes on").unwrap()
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(sent.success());
        for line in self.lines {
            line.unwrap();
        }
        self.child.wait().unwrap().code()
    }
}

fn watch(server: &ServerProcess, arguments: &[&str]) -> Command {
    let mut command = larder(&[&["stats"], arguments].concat());
    command.env("LARDER_SERVER", server.url());
    command
}

#[test]
fn a_watch_shows_rates_until_it_is_interrupted() {
    let server = ServerProcess::start();
    let mut watch = Watch::start(&server, &["--watch", "10ms"]);
    assert_eq!(watch.line(), "Server");
    // The watch itself is a request for each time; the rates come with the second.
    loop {
        let line = watch.line();
        if line.trim_start().starts_with("requests ") && line.ends_with("/s") {
            break;
        }
    }
    assert_eq!(watch.interrupt(), Some(0));
}

#[test]
fn workers_are_watched_by_their_rates() {
    let server = ServerProcess::start();
    let mut watch = Watch::start(&server, &["workers", "--watch", "10ms"]);
    assert!(watch.line().contains("worker_0"));
    while watch.line() != "per second" {}
    assert!(watch.line().contains("worker_1"));
    assert_eq!(watch.interrupt(), Some(0));
}

#[test]
fn programs_get_an_object_on_each_line() {
    let server = ServerProcess::start();
    let mut watch = Watch::start(&server, &["server", "--json", "--watch", "10ms"]);
    let mut uptime = || -> u64 {
        let figures: Value = serde_json::from_str(&watch.line()).unwrap();
        figures["uptime_ms"].as_u64().unwrap()
    };
    let first = uptime();
    assert!(uptime() > first);
    assert_eq!(watch.interrupt(), Some(0));
}

#[test]
fn a_watch_ends_with_its_reader() {
    let server = ServerProcess::start();
    let mut watch = Watch::start(&server, &["--watch", "10ms"]);
    watch.line();
    drop(watch.lines);
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_terminal_has_one_screen_and_the_control_key_ends_it() {
    let server = ServerProcess::start();
    let mut terminal = Terminal::start(watch(&server, &["--watch", "10ms"]));
    for _ in 0..2 {
        terminal.wait_for("\u{1b}[H");
        terminal.wait_for("every 10ms; Ctrl-C ends");
        terminal.wait_for("\u{1b}[J");
    }
    terminal.type_in("\u{3}");
    assert_eq!(terminal.end().0, Some(0));
}

#[test]
fn what_would_have_no_end_is_refused_in_a_batch() {
    let server = ServerProcess::start();
    let ended = server.run_with_input(&["batch"], b"stats --watch\n");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("--watch has no end in a batch"),
        "{}",
        ended.stderr
    );
}
