//! `larder serve` as two processes: what a death of the one that serves costs, and what it does not.
#![cfg(feature = "server")]

#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;
mod server_harness;

use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use larder_protocol::Status;
use process::{Ended, ServerProcess, end_of, larder};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use scratch::Scratch;
use server_harness::{Raw, get, set};

/// Enough for a test, and quick to recover.
const SMALL: &[&str] = &[
    "--memory",
    "64MiB",
    "--workers",
    "2",
    "--listen",
    "127.0.0.1:0",
];

fn serve(more: &[&str]) -> ServerProcess {
    ServerProcess::serve(&[SMALL, more].concat())
}

fn kill(signal: &str, pid: u32) {
    let pid = pid.to_string();
    let mut command = std::process::Command::new("kill");
    assert!(command.args([signal, &pid]).status().unwrap().success());
}

fn exists(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = state.rsplit(')').next().unwrap_or_default();
    !matches!(
        after_name.trim_start().chars().next(),
        None | Some('Z' | 'X')
    )
}

/// Kills a process, and waits until it is dead: a signal is on its way for a moment.
fn kill_dead(signal: &str, pid: u32) {
    kill(signal, pid);
    wait_until_dead(pid);
}

fn wait_until_dead(pid: u32) {
    while exists(pid) {
        std::thread::yield_now();
    }
}

/// The value of a key, from a connection of its own.
fn value(server: &ServerProcess, key: &str) -> Option<String> {
    let mut raw = Raw::connect_to(server.address());
    raw.greet();
    raw.send(&get(1, key));
    let told = raw.told();
    (told.status == Status::OK).then_some(told.text)
}

fn store(server: &ServerProcess, key: &str, text: &str) {
    let mut raw = Raw::connect_to(server.address());
    raw.greet();
    raw.send(&set(1, key, text.as_bytes()));
    assert_eq!(raw.told().status, Status::OK);
}

#[test]
fn what_was_stored_outlives_the_process_that_serves_whatever_kills_it() {
    let server = serve(&[]);
    for (round, signal) in ["-KILL", "-ABRT"].into_iter().enumerate() {
        let key = format!("key-{round}");
        store(&server, &key, signal);
        let before = server.pid();
        kill_dead(signal, before);
        // The socket stays: a connection waits for the next process, and none is refused.
        assert_eq!(value(&server, &key).as_deref(), Some(signal));
        assert_ne!(server.pid(), before);
    }
    assert_eq!(value(&server, "key-0").as_deref(), Some("-KILL"));
}

#[test]
fn three_deaths_within_a_minute_are_followed_by_a_cold_start_and_seven_by_the_end() {
    let server = serve(&[]);
    store(&server, "key", "value");
    for deaths in 1..7 {
        kill_dead("-KILL", server.pid());
        let expected = (deaths < 3).then_some("value");
        assert_eq!(
            value(&server, "key").as_deref(),
            expected,
            "{deaths} deaths"
        );
    }
    kill_dead("-KILL", server.pid());
    let (code, log) = server.wait_after_restarts();
    assert_eq!(code, Some(4));
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("giving up: 7 worker processes died"), "{log}");
    assert!(last.contains("SIGKILL"), "{log}");
}

#[test]
fn the_worker_does_not_outlive_its_supervisor() {
    let server = serve(&[]);
    let worker = server.pid();
    kill("-KILL", server.supervisor_pid());
    // Its standard output is the worker's too: it ends when both have.
    let (code, _) = server.wait();
    assert_eq!(code, None);
    wait_until_dead(worker);
}

/// Anybody on the machine can write to where the worker process writes to.
#[test]
fn what_others_tell_the_supervisor_changes_nothing() {
    let server = serve(&[]);
    store(&server, "key", "value");
    let told = std::fs::read_to_string(format!("/proc/{}/environ", server.pid())).unwrap();
    let name = told
        .split('\0')
        .find_map(|of| of.strip_prefix("NOTIFY_SOCKET=@"));
    let post = SocketAddr::from_abstract_name(name.unwrap()).unwrap();
    let other = UnixDatagram::unbound().unwrap();
    let note = b"FDSTOREREMOVE=1\nFDNAME=memory\n";
    other.send_to_addr(note, &post).unwrap();
    // It is taken note of before the next process is started.
    kill_dead("-KILL", server.pid());
    assert_eq!(value(&server, "key").as_deref(), Some("value"));
}

#[test]
fn nothing_is_kept_where_that_was_asked_for() {
    let server = serve(&["--keep", "never"]);
    store(&server, "key", "value");
    kill_dead("-KILL", server.pid());
    assert_eq!(value(&server, "key"), None);
}

#[test]
fn a_second_signal_ends_both_processes_at_once() {
    let server = serve(&["--drain-timeout", "1h"]);
    // A connection that stays has the drain wait for it.
    let mut raw = Raw::connect_to(server.address());
    raw.greet();
    server.signal("-TERM");
    raw.next().expect("the notice of the drain");
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(128 + 15));
}

#[test]
fn a_signal_to_both_processes_at_once_is_no_second_one() {
    let server = serve(&[]);
    let mut raw = Raw::connect_to(server.address());
    raw.greet();
    // Half a request is still answered.
    let request = set(1, "key", &[b'v'; 1000]);
    raw.send(&request[..500]);
    let worker = server.pid();
    for pid in [worker, server.supervisor_pid()] {
        kill("-TERM", pid);
    }
    raw.next().expect("the notice of the drain");
    raw.send(&request[500..]);
    assert_eq!(raw.told().status, Status::OK);
    drop(raw);
    assert_eq!(server.wait().0, Some(0));
    wait_until_dead(worker);
}

#[test]
fn a_process_that_ends_as_both_are_told_to_is_no_death_where_the_supervisor_is_slow() {
    let server = serve(&[]);
    let (worker, supervisor) = (server.pid(), server.supervisor_pid());
    kill("-STOP", supervisor);
    for pid in [worker, supervisor] {
        kill("-TERM", pid);
    }
    wait_until_dead(worker);
    kill("-CONT", supervisor);
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

#[test]
fn the_number_of_workers_is_the_one_that_was_counted_at_the_start() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let server = ServerProcess::serve(&["--memory", "64MiB", "--listen", "127.0.0.1:0"]);
    store(&server, "key", "value");
    // What is started from now on has one core.
    let pid = server.supervisor_pid().to_string();
    let mut taskset = std::process::Command::new("taskset");
    assert!(
        taskset
            .args(["-acp", "0", &pid])
            .output()
            .unwrap()
            .status
            .success()
    );
    kill_dead("-KILL", server.pid());
    assert_eq!(value(&server, "key").as_deref(), Some("value"));
    let mut raw = Raw::connect_to(server.address());
    raw.greet();
    assert_eq!(raw.figure("workers"), cores as u64);
}

#[test]
fn without_a_supervisor_there_is_one_process_and_its_death_is_the_end() {
    let server = serve(&["--no-supervisor"]);
    assert_eq!(server.pid(), server.supervisor_pid());
    server.signal("-KILL");
    assert_eq!(server.wait().0, None);
}

/// A server with an admin endpoint of its own, and what it says to an upgrade.
struct Upgraded {
    server: ServerProcess,
    admin: Scratch,
}

impl Upgraded {
    fn serve(name: &str, more: &[&str]) -> Self {
        let admin = Scratch::named(&format!("{name}.admin"));
        let at = format!("unix:{}", admin.text());
        let server = serve(&[&["--admin", &at], more].concat());
        store(&server, "key", "value");
        Self { server, admin }
    }

    fn upgrade_to(&self, binary: &str) -> Ended {
        let at = format!("unix:{}", self.admin.text());
        end_of(
            &mut larder(&["upgrade", "--admin", &at, "--binary", binary]),
            b"",
        )
    }

    /// The upgrade fails for a reason, and the contents are served by the old program.
    fn fails(&self, binary: &Scratch, reason: &str) {
        let ended = self.upgrade_to(binary.text());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(reason), "{ended:?}");
        assert_eq!(value(&self.server, "key").as_deref(), Some("value"));
    }
}

#[test]
fn an_upgrade_keeps_the_contents_and_changes_the_process() {
    let upgraded = Upgraded::serve("upgrade", &[]);
    let before = upgraded.server.pid();
    let ended = upgraded.upgrade_to(env!("CARGO_BIN_EXE_larder"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.contains("would keep about 1 item,"),
        "{ended:?}"
    );
    assert_ne!(upgraded.server.pid(), before);
    assert_eq!(value(&upgraded.server, "key").as_deref(), Some("value"));
}

#[test]
fn contents_that_are_kept_after_a_clean_end_alone_are_kept_after_one() {
    let upgraded = Upgraded::serve("upgrade-clean", &["--keep", "clean"]);
    let ended = upgraded.upgrade_to(env!("CARGO_BIN_EXE_larder"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(value(&upgraded.server, "key").as_deref(), Some("value"));
    kill_dead("-KILL", upgraded.server.pid());
    assert_eq!(value(&upgraded.server, "key"), None);
}

#[test]
fn an_upgrade_answers_programs_in_json() {
    let upgraded = Upgraded::serve("upgrade-json", &[]);
    let at = format!("unix:{}", upgraded.admin.text());
    let json = |binary: &str| -> (Option<i32>, serde_json::Value) {
        let ended = end_of(
            &mut larder(&["upgrade", "--json", "--admin", &at, "--binary", binary]),
            b"",
        );
        (
            ended.code,
            serde_json::from_str(&ended.stdout).expect("one object"),
        )
    };
    let (code, done) = json(env!("CARGO_BIN_EXE_larder"));
    assert_eq!((code, &done["upgraded"]), (Some(0), &true.into()), "{done}");
    assert!(
        done["sentence"]
            .as_str()
            .is_some_and(|said| said.contains("would keep about 1 item,"))
    );
    let (code, refused) = json("/nowhere");
    assert_eq!(
        (code, &refused["kind"]),
        (Some(1), &"not_done".into()),
        "{refused}"
    );
    assert!(refused["error"].is_string(), "{refused}");
}

#[test]
fn an_upgrade_to_a_program_that_cannot_be_run_or_cannot_go_on_in_the_memory_is_refused() {
    let upgraded = Upgraded::serve("refused", &[]);
    let before = upgraded.server.pid();
    upgraded.fails(&Scratch::named("nothing"), "cannot be run");
    let no_layout = Scratch::program("layout", "echo the layout is unknown to me; exit 1");
    upgraded.fails(&no_layout, "the layout is unknown to me");
    let other = Scratch::program("other", "exit 3");
    upgraded.fails(&other, "ended with exit code 3");
    assert_eq!(upgraded.server.pid(), before, "the worker was left alone");
}

#[test]
fn an_upgrade_to_a_program_that_does_not_serve_is_taken_back() {
    let upgraded = Upgraded::serve("back", &["--upgrade-timeout", "1s"]);
    let fine = "case \"$*\" in *--examine*) echo fine; exit 0;; esac\n";
    let ends = Scratch::program("ends", &format!("{fine}exit 1"));
    upgraded.fails(&ends, "it ended with exit code 1 before it served");
    let hangs = Scratch::program("hangs", &format!("{fine}exec sleep 1000"));
    upgraded.fails(&hangs, "it was killed by SIGKILL before it served");
    let mute = Scratch::program("mute", "exec sleep 1000");
    upgraded.fails(&mute, "late with its look");
}

#[test]
fn an_upgrade_that_fails_gives_back_what_the_new_program_gave_up() {
    let upgraded = Upgraded::serve("gave-up", &[]);
    // It has the memory forgotten, to take its own in advance, and gets none of that size.
    let script = format!(
        "case \"$*\" in *--examine*) echo fine; exit 0;; esac\n\
         trap '' XFSZ; ulimit -f 100; exec {} \"$@\" --keep never --prefault",
        env!("CARGO_BIN_EXE_larder")
    );
    let gives_up = Scratch::program("gives-up", &script);
    upgraded.fails(&gives_up, "it ended with exit code 2 before it served");
}

/// The figure of a server's settings.
fn setting(server: &ServerProcess, name: &str) -> String {
    let told = server.run(&["stats", "settings", "--json"]).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let figure = &told[name];
    figure
        .as_str()
        .map_or_else(|| figure.to_string(), str::to_owned)
}

/// Waits until a figure of the settings is another: a signal is on its way for a moment.
fn wait_for_setting(server: &ServerProcess, name: &str, value: &str) {
    while setting(server, name) != value {
        std::thread::yield_now();
    }
}

#[test]
fn sighup_has_the_file_read_anew_and_the_next_worker_goes_by_it_as_well() {
    for more in [&[][..], &["--no-supervisor"]] {
        let file = Scratch::named(&format!("reload-{}.toml", more.len()));
        std::fs::write(&file.0, "connections-max = 100\n").unwrap();
        let config = ["--config", file.text(), "--admin", "none"];
        let server = serve(&[&config, more].concat());
        assert_eq!(setting(&server, "connections_max"), "100");
        std::fs::write(&file.0, "connections-max = 50\n").unwrap();
        server.signal("-HUP");
        wait_for_setting(&server, "connections_max", "50");
        // What cannot work changes nothing.
        std::fs::write(&file.0, "connections-max = 40\nno-such-setting = 1\n").unwrap();
        server.signal("-HUP");
        std::fs::write(&file.0, "connections-max = 60\n").unwrap();
        server.signal("-HUP");
        wait_for_setting(&server, "connections_max", "60");
        if more.is_empty() {
            std::fs::remove_file(&file.0).unwrap();
            kill_dead("-KILL", server.pid());
            assert_eq!(setting(&server, "connections_max"), "60");
        }
    }
}

#[test]
fn a_server_without_open_files_says_once_that_it_accepts_nobody_and_once_that_it_does_again() {
    let admin = Scratch::named("no-files.admin");
    let at = format!("unix:{}", admin.text());
    let server = serve(&["--admin", &at]);
    let mut first = Raw::connect_to(server.address());
    first.greet();
    let pid = Pid::from_raw(server.pid() as i32);
    let allow = |current| {
        let limit = Rlimit {
            current: Some(current),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(pid, Resource::Nofile, limit).unwrap()
    };
    let before = allow(3).current.unwrap();
    let mut next = Raw::connect_to(server.address());
    let turns = || {
        let told = end_of(&mut larder(&["status", "--json", "--admin", &at]), b"").stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let mut threads = told["threads"].as_array().unwrap().iter();
        let acceptor = threads.find(|thread| thread["kind"] == "acceptor").unwrap();
        acceptor["turns"].as_u64().unwrap()
    };
    // It tries again and again.
    let enough = turns() + 5;
    while turns() < enough {
        std::thread::yield_now();
    }
    allow(before);
    next.greet();
    server.signal("-TERM");
    drop((first, next));
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    for said in [
        "cannot accept connections; trying again",
        "connections are accepted again",
    ] {
        assert_eq!(log.matches(said).count(), 1, "{log}");
    }
}

#[test]
fn sighup_asks_for_no_more_connections_than_the_limit_of_open_files_allows() {
    let program = env!("CARGO_BIN_EXE_larder");
    for more in ["", "--no-supervisor"] {
        let file = Scratch::named(&format!("files{more}.toml"));
        std::fs::write(&file.0, "").unwrap();
        let script = format!(
            "ulimit -n 400; exec {program} serve --admin none --evidence none --config {} {} {more}",
            file.text(),
            SMALL.join(" ")
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]);
        let (lines, log) = std::io::pipe().unwrap();
        let server = ServerProcess::run_by(&mut command, log.into());
        let possible = setting(&server, "connections_max");
        if possible == "32768" {
            // A privileged process has raised the limit.
            return;
        }
        assert_eq!(possible, "198");
        for (text, connections_max) in [("connections-max = 100\n", "100"), ("", "198")] {
            std::fs::write(&file.0, text).unwrap();
            server.signal("-HUP");
            wait_for_setting(&server, "connections_max", connections_max);
        }
        std::fs::write(&file.0, "connections-max = 1000\n").unwrap();
        server.signal("-HUP");
        let mut lines = BufReader::new(lines).lines().map(Result::unwrap);
        let told = lines.find(|line| line.contains("the settings stay as they are"));
        let told = told.unwrap();
        let why = "1000 connections need more open files than the 400 that the system allows";
        assert!(told.contains(why), "{told}");
        let place = format!("{}, line 1: ", file.text());
        assert!(told.contains(&place), "{told}");
        if more.is_empty() {
            // The next process starts by what counted before.
            kill_dead("-KILL", server.pid());
        }
        assert_eq!(setting(&server, "connections_max"), "198");
    }
}

#[test]
fn as_many_connections_as_a_server_allows_find_open_files_beside_those_of_its_workers() {
    let program = env!("CARGO_BIN_EXE_larder");
    for more in ["", "--no-supervisor"] {
        let script = format!(
            "ulimit -n 600; exec {program} serve --admin none --evidence none --memory 64MiB --workers 64 \
             --listen 127.0.0.1:0 {more}"
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]);
        let server = ServerProcess::run_by(&mut command, std::process::Stdio::null());
        let possible: usize = setting(&server, "connections_max").parse().unwrap();
        // (Whoever asked for that may still be there.)
        let mut all: Vec<Raw> = (8..possible.min(600))
            .map(|_| Raw::connect_to(server.address()))
            .collect();
        for raw in &mut all {
            raw.greet();
        }
    }
}
