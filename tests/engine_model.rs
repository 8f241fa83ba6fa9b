//! Long random programs: the engine answers as a map would that now and then loses a key, and says
//! so.

#[allow(dead_code, reason = "each test uses its own part of the support")]
mod support;

use larder::{
    AccessTimes, Arithmetic, Freshness, Initial, Invalidation, Mode, NewExpiry, OldValue, Reading,
    Stats, Terms,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use support::meaning::Call;
use support::twins::{Step, Twins};

/// What programs are like.
#[derive(Debug, Clone, Copy)]
struct Shape {
    memory_bytes: u64,
    keys: u64,
    /// Keys of the largest burst; 0: no bursts.
    burst_keys: u64,
    value_bytes_max: usize,
    steps: usize,
    time: Time,
    clock: Clock,
    life: Life,
}

/// Whether the cache goes on in the memory of one that died, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    GoesOn,
    EndsNowAndThen,
}

/// Whether items expire and flushes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Stands,
    Passes,
}

/// Whether the clock only goes on, or is also set to another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    GoesOn,
    Jumps,
}

const SMALL: Shape = Shape {
    memory_bytes: 16 << 20,
    keys: 40,
    burst_keys: 0,
    value_bytes_max: 100,
    steps: 6000,
    time: Time::Passes,
    clock: Clock::GoesOn,
    life: Life::GoesOn,
};

fn expiry(time: Time) -> impl Strategy<Value = Option<u64>> {
    let times = match time {
        Time::Stands => vec![None],
        Time::Passes => vec![None, None, Some(0), Some(1), Some(20), Some(500)],
    };
    select(times)
}

fn value(bytes_max: usize) -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..200_u64, any::<u64>(), Just(u64::MAX)];
    let bytes = prop_oneof![0..=bytes_max.min(40), 0..=bytes_max];
    prop_oneof![
        2 => (any::<u8>(), bytes).prop_map(|(byte, bytes)| vec![byte; bytes]),
        1 => number.prop_map(|number| number.to_string().into_bytes()),
    ]
}

/// Mostly none; of those that are chosen some come again. 1 is what steps name as an earlier one.
fn new_version() -> impl Strategy<Value = Option<u64>> {
    let chosen = prop_oneof![2..9_u64, 2..u64::MAX];
    prop_oneof![9 => Just(None), 1 => chosen.prop_map(Some)]
}

fn store(shape: Shape) -> impl Strategy<Value = Call> {
    use Mode::{Add, Append, Prepend, Replace, Set};
    let mode = select(vec![Set, Set, Set, Add, Replace, Append, Prepend]);
    let flags = prop_oneof![Just(0), any::<u32>()];
    let parts = (
        mode,
        value(shape.value_bytes_max),
        flags,
        expiry(shape.time),
        new_version(),
    );
    parts.prop_map(
        |(mode, value, flags, expires_at_ms, new_version)| Call::Store {
            mode,
            value,
            flags,
            expires_at_ms,
            new_version,
        },
    )
}

fn count(time: Time) -> impl Strategy<Value = Call> {
    let by = prop_oneof![0..9_u64, any::<u64>()];
    let by = prop_oneof![
        by.clone().prop_map(Arithmetic::Increment),
        by.prop_map(Arithmetic::Decrement)
    ];
    let initial = (0..100_u64, expiry(time)).prop_map(|(value, expires_at_ms)| Initial {
        value,
        expires_at_ms,
    });
    let parts = (by, option::of(initial), new_version());
    parts.prop_map(|(by, initial, new_version)| Call::Count {
        by,
        initial,
        new_version,
    })
}

fn call(shape: Shape) -> impl Strategy<Value = Call> {
    let expiry = || expiry(shape.time);
    prop_oneof![
        16 => store(shape),
        4 => Just(Call::Get),
        3 => count(shape.time),
        2 => Just(Call::Delete { version: None }),
        1 => expiry().prop_map(|expires_at_ms| Call::Touch { expires_at_ms }),
        1 => expiry().prop_map(|expires_at_ms| Call::GetAndTouch { expires_at_ms }),
        6 => terms(shape.time).prop_map(|terms| Call::GetOrLease { terms }),
        6 => invalidation(shape.time).prop_map(|how| Call::Invalidate { how }),
    ]
}

fn new_expiry(time: Time) -> impl Strategy<Value = NewExpiry> {
    prop_oneof![
        3 => Just(NewExpiry::Kept),
        1 => expiry(time).prop_map(NewExpiry::At),
    ]
}

fn terms(time: Time) -> impl Strategy<Value = Terms> {
    let until_ms = match time {
        Time::Stands => vec![None, Some(u64::MAX)],
        Time::Passes => vec![None, Some(u64::MAX), Some(0), Some(5), Some(50)],
    };
    let below_ms = select(vec![None, Some(15), Some(400)]);
    let reading = select(vec![Reading::Counts, Reading::Passes]);
    let parts = (
        select(until_ms),
        below_ms,
        new_expiry(time),
        reading,
        new_version(),
    );
    parts.prop_map(
        |(placeholder_until_ms, refresh_below_ms, expiry, reading, new_version)| Terms {
            placeholder_until_ms,
            refresh_below_ms,
            expiry,
            reading,
            new_version,
        },
    )
}

fn invalidation(time: Time) -> impl Strategy<Value = Invalidation> {
    let version = select(vec![None, None, None, Some(1)]);
    let value = prop_oneof![6 => Just(OldValue::Kept), 1 => Just(OldValue::Dropped)];
    let freshness = select(vec![Freshness::Stale, Freshness::Stale, Freshness::Fresh]);
    let parts = (version, new_expiry(time), value, freshness, new_version());
    parts.prop_map(
        |(version, expiry, value, freshness, new_version)| Invalidation {
            version,
            expiry,
            value,
            freshness,
            new_version,
        },
    )
}

fn step(shape: Shape) -> impl Strategy<Value = Step> {
    let key = || 0..shape.keys;
    let session = || 0..3_usize;
    let passes = u32::from(shape.time == Time::Passes);
    let jumps = u32::from(shape.clock == Clock::Jumps);
    let deaths = u32::from(shape.life == Life::EndsNowAndThen);
    let bursts = u32::from(shape.burst_keys > 0);
    let ending = prop_oneof![
        1 => session().prop_map(|session| Step::Renew { session }),
        deaths => Just(Step::Die),
    ];
    let burst = (session(), key(), 0..=shape.burst_keys, 0..200_usize);
    prop_oneof![
        400 => (session(), key(), call(shape))
            .prop_map(|(session, key, call)| Step::Call { session, key, call }),
        80 => versioned(shape),
        20 => (session(), key(), 0..40_u64)
            .prop_map(|(session, first, keys)| Step::GetMany { session, first, keys }),
        20 * passes => (0..15_u64).prop_map(|ms| Step::Pass { ms }),
        5 * jumps => jump(),
        2 * passes => (0..100_u64).prop_map(|ms| Step::FlushIn { ms }),
        4 => session().prop_map(|session| Step::Maintain { session }),
        4 * bursts => burst.prop_map(|(session, first, keys, value_bytes)| Step::Burst {
            session,
            first,
            keys,
            value_bytes,
        }),
        1 => (1..50_usize).prop_map(|items| Step::Scan { items }),
        1 + deaths => ending,
    ]
}

/// A step that names a version.
fn versioned(shape: Shape) -> impl Strategy<Value = Step> {
    let key = || 0..shape.keys;
    let value = || value(shape.value_bytes_max);
    let conditional = (key(), any::<bool>(), option::of(value()));
    let stale = (key(), any::<bool>(), value(), expiry(shape.time));
    prop_oneof![
        2 => conditional.prop_map(|(key, is_current, value)| Step::Conditional {
            key,
            is_current,
            value,
        }),
        1 => stale.prop_map(|(key, is_current, value, expires_at_ms)| Step::StoreStale {
            key,
            is_current,
            value,
            expires_at_ms,
        }),
        1 => (key(), 0..5_u8).prop_map(|(key, of_five)| Step::EndLease {
            key,
            is_current: of_five > 0,
        }),
    ]
}

/// To about where programs begin, to the beginning of time, and far ahead.
fn jump() -> impl Strategy<Value = Step> {
    let about = 999_000..1_001_000_u64;
    let to_ms = prop_oneof![6 => about, 1 => 0..2_u64, 1 => Just(1 << 42)];
    to_ms.prop_map(|to_ms| Step::Jump { to_ms })
}

/// Runs programs of a shape; what `reached` says of the figures must hold for one of them at least.
fn run(shape: Shape, cases: u32, reached: impl Fn(&Stats) -> bool) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let program = vec(step(shape), shape.steps / 2..shape.steps);
    let has_reached = std::cell::Cell::new(false);
    let access_times = std::cell::Cell::new(AccessTimes::Off);
    let checked = TestRunner::new(config).run(&program, |program| {
        // Every other program.
        access_times.set(match access_times.get() {
            AccessTimes::Off => AccessTimes::Kept,
            AccessTimes::Kept => AccessTimes::Off,
        });
        let mut twins = Twins::new(shape.memory_bytes, shape.keys, access_times.get());
        program.into_iter().for_each(|step| twins.step(step));
        has_reached.set(reached(&twins.finish()) || has_reached.get());
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
    assert!(has_reached.get(), "no program got where all were meant to");
}

#[test]
fn few_keys_answer_like_the_model() {
    run(SMALL, 4, |stats| {
        assert_eq!(stats.evicted, 0);
        let has_leases = stats.leases_won > 50 && stats.stale_served > 5;
        stats.flushes > 0 && stats.get_expired > 0 && has_leases
    });
}

#[test]
fn without_time_every_byte_is_accounted_for() {
    let shape = Shape {
        time: Time::Stands,
        keys: 500,
        burst_keys: 100,
        ..SMALL
    };
    run(shape, 5, |stats| stats.items > 100);
}

#[test]
fn a_growing_index_answers_like_the_model() {
    let shape = Shape {
        memory_bytes: 32 << 20,
        keys: 30_000,
        burst_keys: 2000,
        steps: 3000,
        ..SMALL
    };
    run(shape, 4, |stats| {
        assert_eq!(stats.evicted, 0);
        stats.buckets_split > 500
    });
}

#[test]
fn a_cache_that_evicts_loses_no_more_than_it_says() {
    let shape = Shape {
        memory_bytes: 2 << 20,
        keys: 20_000,
        burst_keys: 2000,
        value_bytes_max: 3000,
        steps: 3000,
        ..SMALL
    };
    run(shape, 4, |stats| {
        stats.segments_evicted > 100 && stats.buckets_split > 100
    });
}

#[test]
fn a_clock_that_jumps_brings_back_nothing_but_what_had_expired() {
    let shape = Shape {
        clock: Clock::Jumps,
        ..SMALL
    };
    // A segment that was claimed since all of it had expired is made free also if that is no longer so.
    run(shape, 4, |stats| {
        assert!(stats.evicted < 100, "{stats:#?}");
        stats.get_expired > 0
    });
    let shape = Shape {
        memory_bytes: 2 << 20,
        keys: 3000,
        burst_keys: 1000,
        value_bytes_max: 12_000,
        steps: 5000,
        ..shape
    };
    run(shape, 4, |stats| {
        stats.segments_evicted > 100 && stats.expired > 10
    });
}

#[test]
fn values_grow_out_of_the_log_and_into_it() {
    let shape = Shape {
        memory_bytes: 2 << 20,
        keys: 1500,
        value_bytes_max: 16_000,
        steps: 8000,
        time: Time::Stands,
        ..SMALL
    };
    run(shape, 4, |stats| stats.evicted_large > 20);
}

#[test]
fn large_values_in_few_segments_answer_like_the_model() {
    let shape = Shape {
        memory_bytes: 2 << 20,
        keys: 3000,
        value_bytes_max: 17 << 10,
        steps: 8000,
        ..SMALL
    };
    run(shape, 3, |stats| stats.segments_evicted > 20);
    let shape = Shape {
        time: Time::Stands,
        ..shape
    };
    run(shape, 3, |stats| stats.segments_evicted > 20);
}

#[test]
fn a_cache_that_dies_and_goes_on_answers_like_the_model() {
    let shape = Shape {
        life: Life::EndsNowAndThen,
        steps: 4000,
        ..SMALL
    };
    run(shape, 2, |stats| stats.items > 5);
    let large = Shape {
        keys: 500,
        time: Time::Stands,
        value_bytes_max: 20_000,
        ..shape
    };
    run(large, 2, |stats| stats.large_bytes > 100_000);
    let full = Shape {
        memory_bytes: 2 << 20,
        keys: 20_000,
        burst_keys: 2000,
        value_bytes_max: 9000,
        time: Time::Stands,
        ..shape
    };
    run(full, 3, |stats| stats.evicted > 500 && stats.buckets > 256);
    let growing = Shape {
        memory_bytes: 32 << 20,
        keys: 30_000,
        burst_keys: 2000,
        steps: 2000,
        ..shape
    };
    run(growing, 2, |stats| stats.buckets > 256);
}
