//! Threads that share a cache see one cache: every key's history can be explained.
//!
//! `LARDER_TEST_ROUNDS` repeats the loads, for a longer look than the one that every build takes.

#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

use support::meaning::Evictions;
use support::threads::{History, Load, run};

const LOAD: Load = Load {
    memory_bytes: 64 << 20,
    threads: 4,
    calls_per_thread: 30_000,
    keys: 8,
    fillers: 0,
    padding_bytes: 0,
    calls_per_flush: 0,
};

fn rounds(load: &Load, mut check: impl FnMut(&History)) {
    let rounds = std::env::var("LARDER_TEST_ROUNDS").map_or(1, |rounds| {
        rounds.parse().expect("LARDER_TEST_ROUNDS is a number")
    });
    (0..rounds).for_each(|_| check(&run(load)));
}

#[test]
fn few_keys_under_contention_are_linearizable() {
    for (threads, keys) in [(2, 1), (4, 8)] {
        let load = Load {
            threads,
            keys,
            ..LOAD
        };
        rounds(&load, |history| {
            assert_eq!(history.stats.evicted, 0);
            history.assert_linearizable(Evictions::Impossible);
        });
    }
}

#[test]
fn a_flush_beside_writers_is_linearizable() {
    let load = Load {
        calls_per_flush: 200,
        ..LOAD
    };
    rounds(&load, |history| {
        assert!(history.stats.flushes > 100);
        history.assert_linearizable(Evictions::Impossible);
    });
}

#[test]
fn no_key_is_lost_or_found_twice_while_the_index_grows() {
    let load = Load {
        keys: 2000,
        fillers: 40_000,
        ..LOAD
    };
    rounds(&load, |history| {
        assert!(history.stats.buckets_split > 1000);
        assert_eq!(history.stats.evicted, 0);
        history.assert_linearizable(Evictions::Impossible);
    });
}

#[test]
fn an_evicted_item_never_returns() {
    let load = Load {
        memory_bytes: 2 << 20,
        keys: 16,
        fillers: 20_000,
        padding_bytes: 300,
        ..LOAD
    };
    rounds(&load, |history| {
        let stats = history.stats;
        assert!(stats.segments_evicted + stats.segments_cleaned > 100);
        assert!(history.stats.buckets_split > 0);
        history.assert_linearizable(Evictions::Possible);
    });
}

#[test]
fn a_cache_of_few_segments_shared_by_many_threads_is_linearizable() {
    let load = Load {
        memory_bytes: 2 << 20,
        threads: 12,
        calls_per_thread: 8000,
        keys: 4,
        fillers: 1000,
        padding_bytes: 3000,
        calls_per_flush: 1000,
    };
    rounds(&load, |history| {
        let stats = history.stats;
        assert!(stats.segments_evicted + stats.segments_cleaned > 100);
        history.assert_linearizable(Evictions::Possible);
    });
}
