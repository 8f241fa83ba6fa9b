//! Clients on many connections see one cache: every key's history can be explained, to the last
//! reply of a server that ends under load.
//!
//! The long look, on a server in this process or on one that runs elsewhere:
//!
//! ```text
//! LARDER_TEST_CONNECTIONS=200 LARDER_TEST_SECONDS=300 \
//!     cargo test --release --test linearizability_server many_connections -- --nocapture
//! LARDER_TEST_SERVER=larder://127.0.0.1:5273 ...
//! ```
#![cfg(feature = "server")]

#[path = "support/connections.rs"]
mod connections;
mod server_harness;
#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use connections::{History, Load, Tally, Until, run};
use larder::server::{Running, Server};
use larder::{Cache, Config};
use server_harness::{address, settings};
use support::meaning::Evictions;

/// A server with two workers, its cache, and a load for it.
fn serve(memory_bytes: u64) -> (Running, Cache, Load) {
    let cache = Cache::new(Config::new(memory_bytes)).expect("the memory is accepted");
    let running = Server::start(settings(2), cache.clone()).expect("the server starts");
    let load = Load {
        url: format!("larder://{}", address(&running)),
        connections: 6,
        callers: 4,
        keys: 12,
        fillers: 3000,
        padding_bytes: 0,
        until: Until::Calls(1000),
        goes_on: false,
    };
    (running, cache, load)
}

/// Runs a load beside something else.
fn run_beside(load: &Load, beside: impl FnOnce(&Tally)) -> (History, Arc<Tally>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let tally = Arc::new(Tally::default());
    let (running, calls) = (load.clone(), Arc::clone(&tally));
    let load = runtime.spawn(async move { run(&running, &calls).await });
    beside(&tally);
    let history = runtime.block_on(load).expect("the load ends");
    (history, tally)
}

#[test]
fn many_connections_see_one_cache() {
    let (running, cache, mut load) = serve(64 << 20);
    let number = |name| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is a number")),
        )
    };
    let elsewhere = std::env::var("LARDER_TEST_SERVER").ok();
    if let Some(connections) = number("LARDER_TEST_CONNECTIONS") {
        load.connections = connections as usize;
    }
    if let Some(seconds) = number("LARDER_TEST_SECONDS") {
        load.until = Until::Passed(Duration::from_secs(seconds));
        // A sample: one call in a few hundred, on keys that meet again.
        load.keys = 64;
        load.fillers = 200_000;
    }
    load.url = elsewhere.clone().unwrap_or(load.url);
    let (history, tally) = run_beside(&load, |_| ());
    let evictions = match elsewhere {
        None if cache.stats().evicted == 0 => Evictions::Impossible,
        _ => Evictions::Possible,
    };
    history.assert_linearizable(evictions);
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!((count(&tally.not_executed), count(&tally.unknown)), (0, 0));
    println!(
        "{} answered, {} of them checked",
        count(&tally.answered),
        history.calls()
    );
    running.drain();
    running.join().expect("no thread panicked");
}

#[test]
fn a_server_that_evicts_serves_nothing_stale() {
    let (_running, cache, mut load) = serve(2 << 20);
    load.padding_bytes = 2000;
    let (history, _) = run_beside(&load, |_| ());
    assert!(cache.stats().segments_evicted > 100);
    history.assert_linearizable(Evictions::Possible);
}

#[test]
fn a_server_that_ends_under_load_leaves_no_call_in_doubt_but_those_it_names() {
    let (running, _cache, mut load) = serve(64 << 20);
    load.until = Until::Stopped;
    let callers = (load.connections * load.callers) as u64;
    let (history, tally) = run_beside(&load, |tally| {
        while tally.answered.load(Ordering::Relaxed) < 5000 {
            std::thread::yield_now();
        }
        running.drain();
        running.join().expect("no thread panicked");
    });
    history.assert_linearizable(Evictions::Possible);
    let in_doubt = tally.unknown.load(Ordering::Relaxed);
    let refused = tally.not_executed.load(Ordering::Relaxed);
    assert!((1..=callers).contains(&(in_doubt + refused)));
    assert_eq!(in_doubt, 0, "a drain answers what it has received");
}
