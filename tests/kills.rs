//! Clients of a server whose worker process dies again and again, or is replaced: every key's history
//! can be explained, with nothing lost, nothing stale, nothing torn, and nothing of another key.
//!
//! The long look, by all kinds of death in turn or by one of [`KINDS`]:
//!
//! ```text
//! LARDER_TEST_KILLS=500 LARDER_TEST_CONNECTIONS=50 LARDER_TEST_DEATH=segfault \
//!     cargo test --release --test kills -- --nocapture
//! ```
#![cfg(feature = "server")]

#[path = "support/connections.rs"]
mod connections;
#[path = "support/endpoint.rs"]
mod endpoint;
#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;
#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use connections::{Load, Tally, Until, run};
use process::{ServerProcess, end_of, larder};
use scratch::Scratch;
use support::meaning::Evictions;

/// Memory for all that is stored and for what is dead until it is cleaned: nothing is evicted.
const SERVER: &[&str] = &[
    "--memory=256MiB",
    "--workers=2",
    "--cold-after-deaths=1000000",
    "--end-after-deaths=1000000",
    "--restart-delay-max=0s",
    "--log-level=error",
    "--allow-drills",
];

/// A kind of death.
struct Kind {
    name: &'static str,
    death: Death,
    /// How the supervisor tells of it.
    how: &'static str,
}

/// What ends a process.
#[derive(Clone, Copy)]
enum Death {
    Signal(&'static str),
    /// What a worker does itself.
    Drill(&'static str),
    /// The kernel, since the process takes more than its control group may have.
    KilledByKernel,
}

/// The kinds of death; all but the last need nothing that a machine may not have.
const KINDS: [Kind; 5] = [
    Kind {
        name: "kill",
        death: Death::Signal("-KILL"),
        how: "was killed by SIGKILL",
    },
    Kind {
        name: "abort",
        death: Death::Signal("-ABRT"),
        how: "was killed by SIGABRT",
    },
    // A worker touches memory that it may not.
    Kind {
        name: "segfault",
        death: Death::Drill("segfault"),
        how: "was killed by SIGSEGV",
    },
    // By rlimit: the allocator is refused memory, and the process ends itself.
    Kind {
        name: "oom",
        death: Death::Drill("oom"),
        how: "was killed by SIGABRT",
    },
    Kind {
        name: "oom-kill",
        death: Death::KilledByKernel,
        how: "was killed by SIGKILL",
    },
];

/// The kinds that are asked for.
fn kinds() -> &'static [Kind] {
    let Ok(name) = std::env::var("LARDER_TEST_DEATH") else {
        return &KINDS[..KINDS.len() - 1];
    };
    let at = KINDS.iter().position(|kind| kind.name == name);
    let at = at.unwrap_or_else(|| panic!("LARDER_TEST_DEATH={name} is no kind of death"));
    &KINDS[at..=at]
}

fn number(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(usual, |text| text.parse().expect("a number"))
}

/// A control group of memory, for a process that is to be killed by the kernel.
struct Group(PathBuf);

impl Group {
    /// LIMIT: less than the drill takes that runs out of memory.
    const BYTES_MAX: &str = "16777216";

    /// Makes one, of either version of control groups; says why that cannot be.
    fn make() -> Result<Self, String> {
        let name = format!("larder-test-{}", std::process::id());
        let made = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        let made = made.map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            fs::create_dir(&group.0)?;
            fs::write(group.0.join(limit), Self::BYTES_MAX)?;
            Ok(group)
        });
        let mut errors = Vec::new();
        for made in made {
            match made {
                Ok(group) => return Ok(group),
                Err(error) => errors.push(std::io::Error::to_string(&error)),
            }
        }
        Err(errors.join("; "))
    }

    fn take(&self, pid: u32) {
        let taken = fs::write(self.0.join("cgroup.procs"), pid.to_string());
        taken.expect("a process can be moved to a group");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A server whose endpoint is a socket of the test's own.
struct Mortal {
    server: ServerProcess,
    admin: Scratch,
}

impl Mortal {
    fn serve(name: &str, more: &[&str]) -> Self {
        let admin = Scratch::named(&format!("kills-{name}.admin"));
        Self::serve_at("127.0.0.1:0", admin, more)
    }

    fn serve_at(address: &str, admin: Scratch, more: &[&str]) -> Self {
        let listen = format!("--listen={address}");
        let at = format!("--admin=unix:{}", admin.text());
        let server = ServerProcess::serve(&[SERVER, &[&listen, &at], more].concat());
        Self { server, admin }
    }

    /// The process that serves; the supervisor has none for a moment after a death.
    fn worker_after(&self, before: Option<u32>) -> u32 {
        loop {
            let pid = self.server.pid();
            if pid != self.server.supervisor_pid() && Some(pid) != before {
                return pid;
            }
            std::thread::yield_now();
        }
    }

    /// Has the worker process die.
    fn bring(&self, death: Death, group: Option<&Group>, worker: u64) {
        match (death, group) {
            (Death::Signal(signal), _) => signal_to(signal, self.server.pid()),
            (Death::Drill(drill), _) => {
                let answer = self.order(drill, worker);
                assert_eq!(answer.code, 200, "{answer:?}");
            }
            (Death::KilledByKernel, Some(group)) => {
                let pid = self.server.pid();
                group.take(pid);
                // It may be too short of memory to take the order, and may die of what else it takes.
                while self.server.pid() == pid && self.order("oom", worker).code != 200 {}
            }
            (Death::KilledByKernel, None) => unreachable!("there is a group"),
        }
    }

    fn order(&self, drill: &str, worker: u64) -> endpoint::Answer {
        let path = format!("/drill?drill={drill}&worker={worker}&for_ms=0");
        endpoint::ask(&self.admin.0, "POST", &path)
    }

    fn status(&self) -> serde_json::Value {
        let answer = endpoint::ask(&self.admin.0, "GET", "/status.json");
        serde_json::from_str(&answer.body).expect("JSON")
    }
}

fn signal_to(signal: &str, pid: u32) {
    let killed = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(killed.expect("kill is there").success());
}

/// From 200 to 2200, never the same twice in a row: xorshift64.
struct Calls(u64);

impl Calls {
    fn some(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        200 + self.0 % 2000
    }
}

/// Has the process that serves die whenever it has answered so many calls more.
fn kill_again_and_again(mortal: &Mortal, tally: &Tally, kills: u64, group: Option<&Group>) {
    let mut calls = Calls(0x2545_f491_4f6c_dd1d);
    for (kill, kind) in (0..kills).zip(kinds().iter().cycle()) {
        wait_for_calls(tally, calls.some());
        let before = mortal.worker_after(None);
        mortal.bring(kind.death, group, kill % 2);
        mortal.worker_after(Some(before));
    }
}

/// Has the server upgraded to programs that serve, and to others that fail in every way that there is:
/// each time under load.
fn upgrade_again_and_again(admin: &Scratch, tally: &Tally) {
    let fine = "case \"$*\" in *--examine*) echo fine; exit 0;; esac\n";
    let program = |name: &str, script: &str| Scratch::program(&format!("kills-{name}"), script);
    let own = env!("CARGO_BIN_EXE_larder");
    let no_layout = program("layout", "echo the layout is unknown to me; exit 1");
    let ends = program("ends", &format!("{fine}exit 1"));
    let hangs = program("hangs", &format!("{fine}exec sleep 1000"));
    for (binary, code) in [
        (own, 0),
        (no_layout.text(), 1),
        (ends.text(), 1),
        (own, 0),
        (hangs.text(), 1),
        (own, 0),
    ] {
        wait_for_calls(tally, 500);
        let at = format!("unix:{}", admin.text());
        let mut upgrade = larder(&["upgrade", "--admin", &at, "--binary", binary]);
        let ended = end_of(&mut upgrade, b"");
        assert_eq!(ended.code, Some(code), "{binary}: {ended:?}");
    }
}

/// Waits until so many calls more are answered.
fn wait_for_calls(tally: &Tally, more: u64) {
    let answered = || tally.answered.load(Ordering::Relaxed);
    let enough = answered() + more;
    while answered() < enough {
        std::thread::yield_now();
    }
}

fn load(server: &ServerProcess) -> Load {
    Load {
        url: server.url(),
        connections: number("LARDER_TEST_CONNECTIONS", 6) as usize,
        callers: 4,
        keys: 64,
        fillers: 3000,
        padding_bytes: 100,
        until: Until::Stopped,
        goes_on: true,
    }
}

/// Puts a load on a server beside something that happens to it, and checks the history.
fn check_beside(load: Load, happens: impl FnOnce(&Tally)) -> Arc<Tally> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let tally = Arc::new(Tally::default());
    let calls = Arc::clone(&tally);
    let running = runtime.spawn(async move { run(&load, &calls).await });
    happens(&tally);
    tally.stop();
    let history = runtime.block_on(running).expect("the load ends");
    history.assert_linearizable(Evictions::Impossible);
    println!(
        "{} calls answered, {} checked; {} in doubt, {} not executed",
        tally.answered.load(Ordering::Relaxed),
        history.calls(),
        tally.unknown.load(Ordering::Relaxed),
        tally.not_executed.load(Ordering::Relaxed)
    );
    tally
}

/// How many calls were not answered.
fn unanswered(tally: &Tally) -> u64 {
    tally.unknown.load(Ordering::Relaxed) + tally.not_executed.load(Ordering::Relaxed)
}

#[test]
fn what_was_answered_outlives_every_death_of_the_process_that_serves() {
    let kills = number("LARDER_TEST_KILLS", 12);
    let needs_group = |kind: &Kind| matches!(kind.death, Death::KilledByKernel);
    let group = match kinds().iter().any(needs_group).then(Group::make) {
        None => None,
        Some(Ok(group)) => Some(group),
        Some(Err(why)) => {
            println!("NOT SHOWN: there can be no control group here: {why}");
            return;
        }
    };
    let mortal = Mortal::serve("deaths", &[]);
    let tally = check_beside(load(&mortal.server), |tally| {
        kill_again_and_again(&mortal, tally, kills, group.as_ref());
        wait_for_calls(tally, 1000);
    });
    assert!(unanswered(&tally) > 0);
    let status = mortal.status();
    assert_eq!(status["deaths"], kills, "{status}");
    let expected = || kinds().iter().map(|kind| kind.how);
    for death in status["last_deaths"].as_array().unwrap() {
        let is = |how| death["how"] == how;
        assert!(expected().any(is), "{death}");
    }
    for how in expected().take(kills as usize) {
        assert!(status["last_deaths"].to_string().contains(how), "{status}");
    }
}

/// The supervisor holds the memory: with it the contents are gone, and clients have no server. None of them
/// is told anything that is not so.
#[test]
fn what_a_killed_supervisor_takes_along_nobody_is_told_wrongly_about() {
    let mut calls = Calls(0x9e37_79b9_7f4a_7c15);
    let mut mortal = Mortal::serve("supervisor", &[]);
    for _ in 0..number("LARDER_TEST_KILLS", 2) {
        let Mortal { server, admin } = mortal;
        let address = server.address();
        let tally = check_beside(load(&server), |tally| {
            wait_for_calls(tally, calls.some());
            signal_to("-KILL", server.supervisor_pid());
            // The last process has gone when nobody listens any more.
            while TcpStream::connect(address).is_ok() {
                std::thread::yield_now();
            }
            // Whoever asks now knows, although all may be answered that was asked before.
            while unanswered(tally) == 0 {
                std::thread::yield_now();
            }
        });
        assert!(tally.answered.load(Ordering::Relaxed) > 0);
        drop(server);
        // Whoever starts it again has an empty one, at the same places.
        mortal = Mortal::serve_at(&address.to_string(), admin, &[]);
        assert_eq!(mortal.status()["cache"]["items"], 0);
    }
}

#[test]
fn an_upgrade_leaves_no_call_in_doubt_whether_it_comes_off_or_not() {
    let mortal = Mortal::serve("upgrade", &["--upgrade-timeout=2s"]);
    let tally = check_beside(load(&mortal.server), |tally| {
        upgrade_again_and_again(&mortal.admin, tally);
        wait_for_calls(tally, 1000);
    });
    let in_doubt = tally.unknown.load(Ordering::Relaxed);
    assert_eq!(in_doubt, 0, "a drain answers what it has received");
}
