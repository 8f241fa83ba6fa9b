//! The memory bound of a server under a churn of everything: values of one byte up to a quarter of
//! the memory, items that live for ever, for a second, for ten, for two minutes, or longer since they
//! are touched, overwrites, deletes, counters.
//!
//! What must hold in any run: the process never has more in memory than its budget and 64 MiB, looked
//! at every 100 ms; every value that comes back is whole, its key's own and not older than what the
//! same client stored last; the ledger's lines sum to the budget in the end.
//!
//! What is only told, since it depends on the machine:
//!
//! - *The longest operation*: of those that move up to 64 KiB of values, from the call to the result
//!   in the client, and without what its caller waited for a processor meanwhile: callers share one, and
//!   wait for each other. Those that move up to 1 MiB are told apart, and those beyond by the time for each
//!   MiB: what moves 64 MiB over loopback takes its time.
//! - *The live share*: the ledger's `live` (items that the index names, with their headers, in segments
//!   that have not expired as a whole) and the bytes of large values that a SCAN names, by the budget.
//!   What the last extent of a large value has left does not count as live.
//!   Beside it, the share with it, and that of the keys and values alone that a SCAN names. Since one value
//!   may be a quarter of the memory, and leave or expire in the last second, it is looked at all the time, too.
//!
//! The short run is part of `cargo test`. The long one, on a server of 256 MiB:
//!
//! ```text
//! LARDER_TEST_SECONDS=600 cargo test --release --test churn -- --nocapture
//! ```
//!
//! `LARDER_TEST_MEMORY` (`256MiB`) and `LARDER_TEST_CONNECTIONS` (8) change the rest, and
//! `LARDER_TEST_SERVER_CORE` moves the server to a core of its own.
#![cfg(feature = "server")]

mod caller;
mod contents;
mod figures;
#[path = "../support/process.rs"]
mod process;
mod stopwatch;
mod watch;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caller::{Caller, Mix};
use contents::Pool;
use figures::{LiveShares, Memory, Tally};
use larder_client::{Client, Config};
use process::ServerProcess;
use watch::Watch;

/// LIMIT: how often the live share is looked at in a run, and how soon again.
const LOOKS: u32 = 600;
const LOOK_AFTER_MIN: Duration = Duration::from_millis(100);
/// LIMIT: what the process may have in memory beside its budget.
const BESIDE_BYTES: u64 = 64 << 20;

/// What a run is like.
#[derive(Debug)]
struct Setup {
    memory: String,
    time: Duration,
    connections: u64,
    server_core: Option<String>,
}

impl Setup {
    fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let number = |name, unless: u64| {
            let given = text(name).map(|text: String| text.parse());
            given.map_or(unless, |number| number.expect("a whole number"))
        };
        Self {
            memory: text("LARDER_TEST_MEMORY").unwrap_or_else(|| "256MiB".to_owned()),
            time: Duration::from_secs(number("LARDER_TEST_SECONDS", 2)),
            connections: number("LARDER_TEST_CONNECTIONS", 8),
            server_core: text("LARDER_TEST_SERVER_CORE"),
        }
    }

    fn serve(&self) -> ServerProcess {
        let listen = "127.0.0.1:0";
        let options = ["--memory", &self.memory, "--workers", "2"];
        let quiet = ["--listen", listen, "--log-level", "warn"];
        let server = ServerProcess::serve(&[options, quiet].concat());
        if let Some(core) = &self.server_core {
            let pid = server.pid().to_string();
            let moved = || {
                let mut move_to = Command::new("taskset");
                let moved = move_to.args(["-a", "-c", "-p", core, &pid]).output();
                moved.expect("taskset is there").status.success()
            };
            // It stops at a thread that ends meanwhile, as the one that tries io_uring out does.
            assert!((0..10).any(|_| moved()), "the server does not move");
        }
        server
    }
}

async fn connect(url: &str) -> Client {
    let config = Config {
        // Longer than anything takes: what is slow is told, and what stands still fails.
        request_timeout: Duration::from_secs(60),
        ..Config::default()
    };
    let connected = Client::connect_with(url, config).await;
    connected.expect("the server listens")
}

/// Runs the churn to its end and gives what came of it. Each caller has a thread and a runtime of its
/// own: what one of them does with a large value is not time that another's operation took.
async fn churn(server: &ServerProcess, setup: &Setup, memory_bytes: u64) -> Tally {
    let pool = Arc::new(Pool::new());
    let mix = Arc::new(Mix::new(memory_bytes));
    let until = Instant::now() + setup.time;
    let mut callers = Vec::new();
    for number in 1..=setup.connections {
        let (url, mix, pool) = (server.url(), Arc::clone(&mix), Arc::clone(&pool));
        let run = async move {
            let client = connect(&url).await;
            Caller::new(number, client, mix, pool).run(until).await
        };
        callers.push(tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(run)
        }));
    }
    let mut tally = Tally::default();
    for caller in callers {
        tally.add(caller.await.expect("no value is wrong"));
    }
    tally
}

#[tokio::test]
async fn a_server_keeps_to_its_memory_in_a_churn_of_everything() {
    let setup = Setup::from_environment();
    let server = setup.serve();
    let control = connect(&server.url()).await;
    let memory_bytes = Memory::of(&control).await.budget_bytes;
    let watch = Watch::start(server.pid());
    let mut shares = LiveShares::default();
    let mut looks = tokio::time::interval(LOOK_AFTER_MIN.max(setup.time / LOOKS));
    let churn = churn(&server, &setup, memory_bytes);
    tokio::pin!(churn);
    let tally = loop {
        tokio::select! {
            tally = &mut churn => break tally,
            _ = looks.tick() => shares.look(&control).await,
        }
    };
    let memory = Memory::of(&control).await;
    let peak = watch.end();
    println!(
        "{} for {:?}\n{tally}{memory}{shares}{peak}",
        setup.memory, setup.time
    );
    assert_eq!(memory.sum_bytes, memory.budget_bytes, "{memory}");
    let bound_bytes = memory_bytes + BESIDE_BYTES;
    assert!(peak.rss_bytes <= bound_bytes, "{peak}");
    assert!(tally.checked() > 0, "no value was read");
}
