//! Clients of a server whose worker process is killed again and again: every key's history can be
//! explained, with nothing lost, nothing stale, nothing torn, and nothing of another key.
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
#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use connections::{Load, Tally, Until, run};
use process::ServerProcess;
use support::meaning::Evictions;

/// Memory for all that is stored and for what is dead until it is cleaned: nothing is evicted.
const SERVER: &[&str] = &[
    "--memory=256MiB",
    "--workers=2",
    "--listen=127.0.0.1:0",
    "--admin=none",
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
        let answered = || tally.answered.load(Ordering::Relaxed);
        // Each call of a new process tells that it serves again.
        let enough = answered() + 200 + random % 2000;
        while answered() < enough {
            std::thread::yield_now();
        }
        let pid = server.pid().to_string();
        let signal = SIGNALS[kill as usize % SIGNALS.len()];
        let killed = Command::new("kill").args([signal, &pid]).status();
        assert!(killed.expect("kill is there").success());
    }
    let enough = tally.answered.load(Ordering::Relaxed) + 1000;
    while tally.answered.load(Ordering::Relaxed) < enough {
        std::thread::yield_now();
    }
    tally.stop();
}

#[test]
fn what_was_answered_outlives_every_death_of_the_process_that_serves() {
    let kills = number("LARDER_TEST_KILLS", 12);
    let server = ServerProcess::serve(SERVER);
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
    let (running, calls) = (load.clone(), Arc::clone(&tally));
    let running = runtime.spawn(async move { run(&running, &calls).await });
    kill_again_and_again(&server, &tally, kills);
    let history = runtime.block_on(running).expect("the load ends");
    history.assert_linearizable(Evictions::Impossible);
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{kills} kills: {} calls answered, {} checked; {} in doubt, {} not executed",
        count(&tally.answered),
        history.calls(),
        count(&tally.unknown),
        count(&tally.not_executed)
    );
    assert!(count(&tally.unknown) + count(&tally.not_executed) > 0);
}
