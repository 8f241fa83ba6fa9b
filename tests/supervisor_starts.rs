//! The start of `larder serve`, and each start of the process that serves: what may come in between, and what it
//! may cost.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;
mod server_harness;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use process::{ServerProcess, larder};
use rustix::fs::OFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use scratch::Scratch;
use server_harness::{Raw, ping};

fn pid_of(number: u32) -> Pid {
    Pid::from_raw(number as i32).unwrap()
}

/// Starts a server on a socket of its own and does not wait for it.
fn begin(socket: &Scratch, output: Stdio) -> Child {
    let at = format!("unix:{}", socket.text());
    let options = ["--memory", "64MiB", "--workers", "1", "--admin", "none"];
    let mut command = larder(&[&["serve", "--listen", &at][..], &options].concat());
    let command = command.stdin(Stdio::null()).stdout(output);
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Waits for what comes: a note to the supervisor is on its way for a moment.
fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

fn children(of: u32) -> String {
    std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap()
}

#[test]
fn a_signal_while_the_first_process_starts_is_the_end_in_good_order() {
    let socket = Scratch::named("early-end.sock");
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = begin(&socket, Stdio::null());
        // The process that is to serve has begun, and does not hear signals yet.
        wait_until(|| !children(server.id()).is_empty());
        kill_process(pid_of(server.id()), signal).unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(0), "{signal:?}");
        assert!(!socket.0.exists(), "the socket's file is left behind");
    }
}

#[test]
fn standard_output_that_nobody_reads_does_not_hold_the_server_up() {
    let socket = Scratch::named("unread.sock");
    let (_unread, full) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&full, &[b'x'; 4096]).is_ok() {}
    while rustix::io::write(&full, b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&full, OFlags::empty()).unwrap();
    let mut server = begin(&socket, full.into());
    let stream = loop {
        if let Ok(stream) = UnixStream::connect(&socket.0) {
            break stream;
        }
        std::thread::yield_now();
    };
    let mut raw = Raw::over(stream);
    raw.greet();
    raw.send(&ping(1));
    raw.told();
    drop(raw);
    kill_process(pid_of(server.id()), Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// The number of a user without privileges.
const NOBODY: u32 = 65_534;

const PREFAULTED: &[&str] = &[
    "--memory",
    "64MiB",
    "--workers",
    "1",
    "--listen",
    "127.0.0.1:0",
    "--prefault",
];

/// Much less than that, and much more.
const LITTLE: u64 = 8 << 20;
const MUCH: u64 = 56 << 20;

/// The memories of caches that a process has descriptors of, by their numbers, and what each takes.
fn memories(pid: u32) -> BTreeMap<u64, u64> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd"));
    // A process that has ended has none.
    let listed = listed.into_iter().flatten();
    let memories = listed.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = std::fs::read_link(&path).ok()?;
        let is_cache = name.to_str()?.starts_with("/memfd:larder-arena");
        let file = is_cache.then(|| std::fs::metadata(&path).ok()).flatten()?;
        Some((file.ino(), file.blocks() * 512))
    });
    memories.collect()
}

#[test]
fn contents_that_are_given_up_take_no_memory_while_there_is_no_process() {
    let server = ServerProcess::serve(&[PREFAULTED, &["--cold-after-deaths", "1"]].concat());
    let supervisor = server.supervisor_pid();
    let held = || memories(supervisor).values().sum::<u64>();
    wait_until(|| held() > MUCH);
    // It cannot start another for now.
    let allow = |current| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current, maximum };
        prlimit(Some(pid_of(supervisor)), Resource::Nofile, limit).unwrap()
    };
    let before = allow(Some(3)).current;
    kill_process(pid_of(server.pid()), Signal::KILL).unwrap();
    wait_until(|| held() < LITTLE);
    allow(before);
    Raw::connect_to(server.address()).greet();
    wait_until(|| held() > MUCH);
}

#[test]
fn a_process_that_keeps_nothing_takes_its_memory_when_that_of_the_last_is_gone() {
    let server = ServerProcess::serve(&[PREFAULTED, &["--keep", "never"]].concat());
    let supervisor = server.supervisor_pid();
    wait_until(|| !memories(supervisor).is_empty());
    let old: Vec<u64> = memories(supervisor).into_keys().collect();
    kill_process(pid_of(server.pid()), Signal::KILL).unwrap();
    loop {
        // The next process first: what it has taken, it has taken before the rest is looked at.
        let mut found = memories(server.pid());
        found.retain(|number, _| !old.contains(number));
        found.extend(memories(supervisor));
        let held: u64 = found.values().sum();
        assert!(held < MUCH + LITTLE * 2, "{found:?}");
        let is_next = |(number, bytes): (&u64, &u64)| !old.contains(number) && *bytes > MUCH;
        if found.iter().any(is_next) {
            break;
        }
    }
    Raw::connect_to(server.address()).greet();
}

#[test]
fn a_program_whose_file_has_capabilities_does_not_outlive_its_supervisor_either() {
    let program = Scratch::named("with-capabilities");
    std::fs::copy(env!("CARGO_BIN_EXE_larder"), &program.0).unwrap();
    let mut setcap = Command::new("setcap");
    let given = setcap
        .args(["cap_net_bind_service=ep", program.text()])
        .output();
    if !given.is_ok_and(|given| given.status.success()) {
        // It takes a privileged process to give them.
        return;
    }
    let mut command = Command::new(&program.0);
    command.args(
        [
            &["serve", "--admin", "none", "--evidence", "none"],
            PREFAULTED,
        ]
        .concat(),
    );
    let server = ServerProcess::run_by(command.uid(NOBODY), Stdio::null());
    let worker = server.pid();
    assert_ne!(worker, server.supervisor_pid());
    kill_process(pid_of(server.supervisor_pid()), Signal::KILL).unwrap();
    // Its standard output is the worker's too: it ends when both have.
    assert_eq!(server.end_of_output(), "");
}
