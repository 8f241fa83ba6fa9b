//! Clients of a server whose worker process is killed again and again, or replaced: every key's history
//! can be explained, with nothing lost, nothing stale, nothing torn, and nothing of another key.
//!
//! The long look:
//!
//! ```text
//! LARDER_TEST_KILLS=500 LARDER_TEST_CONNECTIONS=50 \
//!     cargo test --release --test kills -- --nocapture
//! ```
#![cfg(feature = "server")]

#[path = "support/connections.rs"]
mod connections;
#[path = "support/process.rs"]
mod process;
#[path = "support/scratch.rs"]
mod scratch;
#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

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
    "--listen=127.0.0.1:0",
    "--cold-after-deaths=1000000",
    "--end-after-deaths=1000000",
    "--restart-delay-max=0s",
    "--log-level=error",
];

/// What ends the process, one after the other.
const SIGNALS: [&str; 3] = ["-KILL", "-ABRT", "-KILL"];

fn number(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(usual, |text| text.parse().expect("a number"))
}

/// Kills the process that serves whenever it has answered so many calls more.
fn kill_again_and_again(server: &ServerProcess, tally: &Tally, kills: u64) {
    let mut random: u64 = 0x2545_f491_4f6c_dd1d;
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Each call of a new process tells that it serves again.
        wait_for_calls(tally, 200 + random % 2000);
        let pid = server.pid().to_string();
        let signal = SIGNALS[kill as usize % SIGNALS.len()];
        let killed = Command::new("kill").args([signal, &pid]).status();
        assert!(killed.expect("kill is there").success());
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

/// Puts a load on a server beside something that happens to it, and checks the history.
fn check_beside(server: &ServerProcess, happens: impl FnOnce(&Tally)) -> Arc<Tally> {
    let load = Load {
        url: server.url(),
        connections: number("LARDER_TEST_CONNECTIONS", 6) as usize,
        callers: 4,
        keys: 64,
        fillers: 3000,
        padding_bytes: 100,
        until: Until::Stopped,
        goes_on: true,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let tally = Arc::new(Tally::default());
    let calls = Arc::clone(&tally);
    let running = runtime.spawn(async move { run(&load, &calls).await });
    happens(&tally);
    wait_for_calls(&tally, 1000);
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

#[test]
fn what_was_answered_outlives_every_death_of_the_process_that_serves() {
    let kills = number("LARDER_TEST_KILLS", 12);
    let server = ServerProcess::serve(&[SERVER, &["--admin=none"]].concat());
    let tally = check_beside(&server, |tally| kill_again_and_again(&server, tally, kills));
    let unknown = tally.unknown.load(Ordering::Relaxed);
    assert!(unknown + tally.not_executed.load(Ordering::Relaxed) > 0);
}

#[test]
fn an_upgrade_leaves_no_call_in_doubt_whether_it_comes_off_or_not() {
    let admin = Scratch::named("kills.admin");
    let options = [format!("--admin=unix:{}", admin.text())];
    let options = [&options[0][..], "--upgrade-timeout=2s"];
    let server = ServerProcess::serve(&[SERVER, &options].concat());
    let tally = check_beside(&server, |tally| upgrade_again_and_again(&admin, tally));
    let in_doubt = tally.unknown.load(Ordering::Relaxed);
    assert_eq!(in_doubt, 0, "a drain answers what it has received");
}
