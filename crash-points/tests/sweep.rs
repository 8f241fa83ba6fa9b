//! Every family of programs, swept: no death at any store breaks the guarantee.
//!
//! `LARDER_CRASH_POINTS=deep` goes further, for an hour: programs of one operation more, a pair behind each
//! operation, and every recovery dies, too. Anything else is refused.

use std::time::Instant;

use larder_crash_points::{Counts, Settings, names, sweep};

/// LIMIT: recoveries that every family comes to; fewer means that programs were lost.
const RECOVERIES_MIN: u64 = 2_000;

fn settings() -> Settings {
    match std::env::var("LARDER_CRASH_POINTS").as_deref() {
        Err(_) => Settings::SOUND,
        Ok("deep") => Settings::DEEP,
        Ok(other) => panic!("LARDER_CRASH_POINTS is {other:?}; accepted: \"deep\", or nothing"),
    }
}

/// Sweeps a family, which must come to all of these figures.
fn sound(name: &str, figures: &[&str]) {
    let start = Instant::now();
    let counts = sweep(name, settings()).unwrap_or_else(|what| panic!("{what}"));
    let Counts {
        programs,
        deaths,
        recoveries,
        of_recoveries,
        shared,
        stores_max,
        ..
    } = counts;
    println!(
        "{name}: {programs} programs of up to {stores_max} stores, {deaths} deaths, {recoveries} \
         recoveries, {of_recoveries} of them of recoveries that died, {shared} by two threads as well; \
         {} s",
        start.elapsed().as_secs()
    );
    assert!(recoveries >= RECOVERIES_MIN && of_recoveries > 0 && shared > 0);
    for figure in figures {
        let reached = counts.figures[figure];
        assert!(reached > 0, "{name} never came to {figure}: {counts:?}");
    }
}

macro_rules! families {
    ($($test:ident: $name:literal comes to $figures:expr,)*) => {
        $(
            #[test]
            fn $test() {
                sound($name, &$figures);
            }
        )*

        #[test]
        fn every_family_has_its_test() {
            let mut tested = [$($name),*];
            let mut all = names();
            tested.sort_unstable();
            all.sort_unstable();
            assert_eq!(all, tested);
        }
    };
}

// The longest first.
families! {
    operations_after_each_other: "operations" comes to
        ["overwritten", "counted_in_place", "cas_hits", "leases_won", "stale_served", "flushes"],
    large_values: "large values" comes to ["stored", "touch_hits"],
    everything_at_length: "everything" comes to [
        "buckets_split", "evicted_small", "evicted_main", "evicted_large", "promoted", "cleaned",
        "expired",
    ],
    expiry: "expiry" comes to ["expired"],
    cleaning: "cleaning" comes to ["cleaned", "segments_cleaned"],
    growth_that_is_paid_for: "growth that is paid for" comes to ["buckets_split"],
    chains_that_are_paid_for: "chains that are paid for" comes to ["buckets_split"],
    growth: "growth" comes to ["buckets_split"],
    two_sessions: "two sessions" comes to ["overwritten", "counted_in_place"],
    pairs_of_operations: "pairs of operations" comes to ["flushes", "leases_won"],
    pairs_of_large_values: "pairs of large values" comes to ["touch_hits"],
    large_values_that_are_evicted: "large values that are evicted" comes to ["evicted_large"],
    pairs_that_grow: "pairs that grow" comes to ["buckets_split"],
    pairs_that_clean: "pairs that clean" comes to ["cleaned"],
    pairs_that_evict: "pairs that evict" comes to ["evicted_small"],
    eviction: "eviction" comes to ["evicted_small", "promoted"],
    ghosts: "ghosts" comes to ["ghost_hits"],
    two_keys_of_one_tag: "two keys of one tag" comes to ["buckets_split"],
    second_life: "second life" comes to ["scrubbed_bytes", "counted_in_place"],
    last_reads: "last reads" comes to ["evicted_small"],
}
