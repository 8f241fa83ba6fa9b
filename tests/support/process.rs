//! The `larder` program in processes of its own: a server that ends with its test, and commands.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test uses its own part of this"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A server in a process of its own, killed with the test.
pub struct ServerProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: String,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl ServerProcess {
    /// Starts a server on a free port and waits for its ready line.
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// Starts a server on an address and waits for its ready line.
    pub fn listen(address: &str) -> Self {
        Self::serve(&["--memory", "64MiB", "--workers", "2", "--listen", address])
    }

    /// Starts a server with these options and waits for its ready line.
    pub fn serve(options: &[&str]) -> Self {
        Self::serve_logging_to(options, Stdio::piped())
    }

    /// The same, with the log going elsewhere.
    pub fn serve_logging_to(options: &[&str], log: Stdio) -> Self {
        let mut command = larder(&[&["serve"], options].concat());
        // A server that is killed leaves the socket of its endpoint behind.
        command.env("LARDER_ADMIN", "none");
        Self::run_by(&mut command, log)
    }

    /// Starts a server with these options, whose endpoint is where it usually is: in this folder, for what runs.
    pub fn serve_in(folder: &Path, options: &[&str]) -> Self {
        let mut command = larder(&[&["serve"], options].concat());
        command.env_remove("LARDER_ADMIN");
        command.env("XDG_RUNTIME_DIR", folder);
        Self::run_by(&mut command, Stdio::piped())
    }

    /// Starts a server by a command and waits for its ready line.
    pub fn run_by(command: &mut Command, log: Stdio) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(log).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        Self {
            child,
            stdout,
            ready,
        }
    }

    /// The line that says that the server is ready.
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// The number of the process that was started.
    pub fn supervisor_pid(&self) -> u32 {
        self.child.id()
    }

    /// The number of the process that serves: the supervisor's only child, or the process itself
    /// where it has no supervisor.
    pub fn pid(&self) -> u32 {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let mut children = children.unwrap();
        children.truncate(children.trim_end().len());
        match &children[..] {
            "" => pid,
            child => child.parse().expect("one child"),
        }
    }

    fn first_address(&self) -> &str {
        let after = self.ready.split_once(" ready on ").expect("a ready line").1;
        after.split([' ', ',']).next().unwrap()
    }

    /// The TCP address in the ready line.
    pub fn address(&self) -> SocketAddr {
        self.first_address().parse().unwrap()
    }

    /// Sends a signal: `-TERM` and the like.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; returns the exit code.
    pub fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits for the end; returns the exit code and the log.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "one line on standard output is enough");
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }

    /// Waits for the end of standard output, which each of its processes has; returns the rest of it.
    pub fn end_of_output(mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }

    /// As [`ServerProcess::wait`], for a server whose worker was started again: each says that it is
    /// ready.
    pub fn wait_after_restarts(mut self) -> (Option<i32>, String) {
        let ready = self.ready.clone();
        for line in self.stdout.by_ref().lines() {
            assert_eq!(line.unwrap(), ready.trim_end());
        }
        self.wait()
    }

    /// Where the server listens, as its clients write it.
    pub fn url(&self) -> String {
        let address = self.first_address();
        match address.strip_prefix("unix:") {
            Some(path) => format!("larder+unix://{path}"),
            None => format!("larder://{address}"),
        }
    }

    /// Runs a command that asks this server.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_input(arguments, b"")
    }

    /// Runs a command that asks this server and reads standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = larder(arguments);
        command.env("LARDER_SERVER", self.url());
        end_of(&mut command, input)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // A process that has ended already needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, with no setting of whoever runs the tests in its environment; where it is a server, it
/// leaves no evidence of deaths behind unless told to.
pub fn larder(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"LARDER_")) {
        command.env_remove(name);
    }
    if arguments.first() == Some(&"serve") {
        command.env("LARDER_EVIDENCE", "none");
    }
    command
}

/// Runs a command to its end.
pub fn end_of(command: &mut Command, input: &[u8]) -> Ended {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input may have ended.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    Ended {
        code: status.code(),
        stdout,
        stderr,
    }
}
