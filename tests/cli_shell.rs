//! `larder shell` as somebody uses it: on a terminal, with the tab key, the arrows and Ctrl-C.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/terminal.rs"]
mod terminal;

use std::path::PathBuf;

use process::{ServerProcess, larder};
use terminal::Terminal;

/// A shell, and where it keeps its history.
struct Shell {
    terminal: Terminal,
    /// What stands before each line.
    prompt: String,
}

/// A file for the history of one test.
struct History(PathBuf);

impl History {
    fn new(name: &str) -> Self {
        let name = format!("larder-test-{}-{name}-history", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Shell {
    fn start(server: &ServerProcess, history: &History) -> Self {
        Self::start_with(&[], server, history)
    }

    fn start_with(options: &[&str], server: &ServerProcess, history: &History) -> Self {
        let mut command = larder(&[&["shell"], options].concat());
        command
            .env("LARDER_SERVER", server.url())
            .env("LARDER_HISTORY", &history.0);
        let mut shell = Self {
            terminal: Terminal::without_colours(command),
            prompt: format!("{}> ", server.address()),
        };
        shell.terminal.wait_for("Ctrl-D leaves.");
        shell.terminal.wait_for(&shell.prompt.clone());
        shell
    }

    /// Types something, the enter key included, and returns what is shown until the next prompt.
    fn type_in(&mut self, keys: &str) -> String {
        self.terminal.type_in(keys);
        // The line as it is typed, and then what comes of it.
        self.terminal.wait_for("\n");
        self.terminal.wait_for(&self.prompt.clone())
    }

    fn leave(mut self) {
        self.terminal.type_in("exit\r");
        assert_eq!(self.terminal.end().0, Some(0));
    }
}

#[test]
fn a_history_that_is_no_file_is_told_and_left_alone() {
    let server = ServerProcess::start();
    for place in ["/dev/full", "/dev/zero", "/"] {
        let mut command = larder(&["shell"]);
        command
            .env("LARDER_SERVER", server.url())
            .env("LARDER_HISTORY", place);
        let mut terminal = Terminal::without_colours(command);
        terminal.wait_for("Ctrl-D leaves.");
        terminal.wait_for(&format!("what is typed is not kept: {place} is no file"));
        terminal.wait_for("> ");
        terminal.type_in("exit\r");
        assert_eq!(terminal.end().0, Some(0));
    }
}

#[test]
fn commands_are_answered_and_failures_end_nothing() {
    let (server, history) = (ServerProcess::start(), History::new("answers"));
    let mut shell = Shell::start(&server, &history);
    for (line, expected) in [
        ("set greeting 'hello world'\r", "stored\n"),
        ("get greeting\r", "hello world\n"),
        ("get fig\r", "fig is not there\n"),
        ("scann\r", "a similar subcommand exists: 'scan'"),
        ("get 'greeting\r", "a quote is not closed"),
        (
            "set k -\r",
            "cannot come from standard input, which is where commands are typed",
        ),
        ("incr n --initial 3 --json\r", "\"number\":3"),
        ("help\r", "  get "),
        ("help get\r", "larder get greeting"),
        ("\r", ""),
        ("delete greeting n\r", "deleted 2 of 2\n"),
    ] {
        let shown = shell.type_in(line);
        assert!(shown.contains(expected), "{line:?}: {shown:?}");
    }
    shell.leave();
}

#[test]
fn the_tab_key_completes_and_the_arrow_brings_back() {
    let (server, history) = (ServerProcess::start(), History::new("keys"));
    let mut shell = Shell::start(&server, &history);
    let shown = shell.type_in("inc\tvisits --ini\t7\r");
    assert!(shown.contains("7\n"), "{shown:?}");
    // Up: the line before.
    let shown = shell.type_in("\u{1b}[A\r");
    assert!(shown.contains("8\n"), "{shown:?}");
    shell.leave();
    // Another shell has what was typed in this one.
    let mut shell = Shell::start(&server, &history);
    let shown = shell.type_in("\u{1b}[A\u{1b}[A\r");
    assert!(shown.contains("9\n"), "{shown:?}");
    shell.type_in(" set secret word\r");
    shell.leave();
    let kept = std::fs::read_to_string(&history.0).unwrap();
    assert!(kept.contains("incr visits --initial 7"), "{kept}");
    assert!(!kept.contains("secret"), "{kept}");
}

#[test]
fn lines_that_come_at_once_are_all_carried_out() {
    let (server, history) = (ServerProcess::start(), History::new("ahead"));
    let mut shell = Shell::start(&server, &history);
    // Typed ahead.
    shell.terminal.type_in("set n 7\rincr n\rincr n\r");
    shell.terminal.wait_for("\n9\n");
    // Pasted, by a terminal that says so.
    shell.terminal.type_in(
        "\u{1b}[200~incr n 10\nset word 'two\nlines'\nget word\nget fig\nincr n\n\u{1b}[201~\r",
    );
    shell
        .terminal
        .wait_for("\n19\nstored\ntwo\nlines\nfig is not there\n20\n");
    // What comes behind the end of a session does not begin another.
    shell
        .terminal
        .type_in("\u{1b}[200~incr n\nexit\nincr n\u{1b}[201~\r");
    assert_eq!(shell.terminal.end().0, Some(0));
    assert_eq!(server.run(&["get", "n"]).stdout, "21");
}

#[test]
fn a_line_that_is_no_text_is_dropped_whole_and_the_shell_goes_on() {
    let (server, history) = (ServerProcess::start(), History::new("latin"));
    let mut shell = Shell::start(&server, &history);
    shell.type_in("set k v\r");
    shell.terminal.type_bytes(b"set caf\xe9 \rflush\r");
    shell.terminal.wait_for("no UTF-8, and the line is dropped");
    shell.terminal.wait_for(&shell.prompt.clone());
    let shown = shell.type_in("get k\r");
    assert!(shown.starts_with("v\n"), "{shown:?}");
    shell.leave();
}

#[test]
fn control_c_drops_a_line_and_control_d_leaves() {
    let (server, history) = (ServerProcess::start(), History::new("control"));
    let mut shell = Shell::start(&server, &history);
    shell.type_in("get half a li\u{3}");
    let shown = shell.type_in("set k v\r");
    assert!(shown.contains("stored"), "{shown:?}");
    shell.terminal.type_in("\u{4}");
    assert_eq!(shell.terminal.end().0, Some(0));
}

#[test]
fn control_c_ends_a_command_and_not_the_shell() {
    let (server, history) = (ServerProcess::start(), History::new("interrupted"));
    let mut shell = Shell::start(&server, &history);
    shell.terminal.type_in("stats --watch 10ms\r");
    shell.terminal.wait_for("every 10ms; Ctrl-C ends");
    shell.terminal.type_in("\u{3}");
    shell.terminal.wait_for(&shell.prompt.clone());
    let shown = shell.type_in("set k v\r");
    assert!(shown.contains("stored"), "{shown:?}");
    shell.leave();
}

#[test]
fn a_shell_outlives_its_server_for_as_long_as_its_author_wants() {
    let (server, history) = (ServerProcess::start(), History::new("outlives"));
    let mut shell = Shell::start_with(&["--timeout", "1s"], &server, &history);
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
    let shown = shell.type_in("get k\r");
    assert!(shown.contains("cannot connect to"), "{shown:?}");
    shell.leave();
}

#[test]
fn a_shell_that_nobody_sits_before_is_a_batch_that_keeps_going() {
    let server = ServerProcess::start();
    let ended = server.run_with_input(&["shell"], b"get fig\nset k v\nget k\n");
    assert_eq!((ended.code, &ended.stdout[..]), (Some(1), "stored\nv\n"));
    assert!(
        ended.stderr.contains("line 1: fig is not there"),
        "{}",
        ended.stderr
    );
}
