//! What the cache says about itself: figures of each session, who is pinned, and the census.

use larder::{
    AccessTimes, Arithmetic, Cache, Calculated, Calculation, Config, Deletion, Entry, Guard,
    History, Initial, Mode, NewExpiry, Outcome, Side, Terms,
};

fn set(guard: &mut Guard<'_>, name: &str, value: &[u8], expires_at_ms: Option<u64>) {
    let key = guard.key(name.as_bytes()).expect("a key");
    let entry = Entry {
        expires_at_ms,
        ..Entry::of(value)
    };
    let outcome = guard.store(&key, Mode::Set, &entry);
    assert!(matches!(outcome, Ok(Outcome::Stored { .. })), "{outcome:?}");
}

fn get(guard: &Guard<'_>, name: &str) -> bool {
    let key = guard.key(name.as_bytes()).expect("a key");
    guard.get(&key).is_some()
}

fn figure(cache: &Cache, session: u32, name: &str) -> u64 {
    let figures = cache.session_figures(session);
    figures.iter().find(|(of, _)| *of == name).expect(name).1
}

#[test]
fn the_figures_of_the_sessions_sum_to_those_of_the_cache() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut sessions = [(); 3].map(|()| cache.session().expect("a session"));
    for (at, session) in sessions.iter_mut().enumerate() {
        for number in 0..2000 {
            let mut guard = session.pin(1);
            set(&mut guard, &format!("{at} {number}"), &[7; 500], None);
            assert!(get(&guard, &format!("{at} {number}")));
            get(&guard, "nowhere");
        }
    }
    let numbers = sessions.each_ref().map(|session| session.number());
    assert_eq!(figure(&cache, numbers[1], "get_hits"), 2000);
    let stats = cache.stats();
    assert!(stats.evicted > 0, "{stats:#?}");
    let sums = stats.figures();
    for (name, _) in cache.session_figures(1) {
        let summed: u64 = numbers.iter().map(|&n| figure(&cache, n, name)).sum();
        assert!(sums.contains(&(name, summed)), "{name}: {summed}");
    }
    assert!(cache.session_figures(0).is_empty());
    assert!(cache.session_figures(u32::MAX).is_empty());
}

#[test]
fn whoever_has_been_pinned_for_longest_is_named() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut sessions = [(); 3].map(|()| cache.session().expect("a session"));
    let [one, two, three] = &mut sessions;
    let (late, early) = (two.number(), three.number());
    let named = || {
        let stats = cache.stats_at(9000);
        (stats.pinned_session, stats.pinned_since_ms)
    };
    assert_eq!(named(), (0, 0));
    let held_late = two.pin(5000);
    assert_eq!(named(), (u64::from(late), 5000));
    let held_early = three.pin(4000);
    assert_eq!(named(), (u64::from(early), 4000));
    // What goes meanwhile stays in limbo.
    let before = cache.stats().limbo_bytes;
    for number in 0..200 {
        let mut guard = one.pin(6000);
        set(&mut guard, "k", &[number; 4000], None);
    }
    assert!(cache.stats().limbo_bytes > before);
    drop(held_early);
    assert_eq!(named(), (u64::from(late), 5000));
    drop(held_late);
    assert_eq!(named(), (0, 0));
}

#[test]
fn evicted_large_values_are_counted_apart() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut session = cache.session().expect("a session");
    for number in 0..40 {
        let mut guard = session.pin(1);
        set(&mut guard, &number.to_string(), &[7; 200_000], None);
    }
    let stats = cache.stats();
    assert!(stats.evicted_large > 20, "{stats:#?}");
    assert!(stats.evicted_large <= stats.evicted_small + stats.evicted_main);
}

#[test]
fn operations_on_a_version_are_counted_once_however_long_the_value_is() {
    for value in [&b"1"[..], &[b'1'; 100_000]] {
        let cache = Cache::new(Config::new(64 << 20)).expect("a cache");
        let mut session = cache.session().expect("a session");
        let mut guard = session.pin(1);
        set(&mut guard, "k", value, None);
        let key = guard.key(b"k").expect("a key");
        let version = guard.get(&key).expect("it is there").version();
        let mut join = |version| {
            let joined = guard.join(&key, Side::Back, &Entry::of(b"2"), version);
            joined.expect("there is memory").0
        };
        assert_eq!(join(Some(version + 1)), Outcome::Exists);
        assert!(matches!(join(Some(version)), Outcome::Stored { .. }));
        assert!(matches!(join(None), Outcome::Stored { .. }));
        assert_eq!(guard.delete(&key, Some(1)), Deletion::Exists);
        let stats = cache.stats();
        let counted = (
            stats.cas_mismatches,
            stats.store_mismatches,
            stats.delete_mismatches,
        );
        assert_eq!((counted, stats.cas_hits), ((2, 1, 1), 1));
        assert_eq!(
            (stats.stored, stats.not_stored, stats.delete_misses),
            (3, 0, 0)
        );
    }
}

#[test]
fn reads_on_terms_are_counted_as_other_reads_and_touches_are() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut session = cache.session().expect("a session");
    let mut guard = session.pin(1);
    set(&mut guard, "k", b"v", Some(10));
    let key = guard.key(b"k").expect("a key");
    let touching = Terms {
        expiry: NewExpiry::At(Some(20)),
        ..Terms::default()
    };
    for terms in [Terms::default(), touching] {
        assert!(guard.get_or_lease(&key, &terms).unwrap().item.is_some());
    }
    guard.set_now(20);
    assert!(guard.get_or_lease(&key, &touching).unwrap().item.is_none());
    assert!(guard.peek(&key).is_none());
    let stats = cache.stats();
    assert_eq!((stats.get_hits, stats.touch_hits), (1, 1));
    assert_eq!((stats.get_misses, stats.get_expired), (1, 1));
    // A placeholder that runs out was no item.
    let placeholder = Terms {
        placeholder_until_ms: Some(30),
        ..Terms::default()
    };
    let _ = guard.get_or_lease(&key, &placeholder).unwrap();
    drop(guard);
    session.rest(30);
    while session.maintain(30) {}
    assert_eq!((cache.stats().items, cache.stats().expired), (0, 0));
}

#[test]
fn counting_is_no_reading_whichever_way_it_goes() {
    let mut config = Config::new(2 << 20);
    config.access_times = AccessTimes::Kept;
    let cache = Cache::new(config).expect("a cache");
    let mut session = cache.session().expect("a session");
    let mut known = Vec::new();
    // The first makes a counter, the second and third count in place; the last cannot.
    for (now_ms, new_version) in [
        (1_000, None),
        (9_000, None),
        (17_000, None),
        (25_000, Some(7)),
    ] {
        let mut guard = session.pin(now_ms);
        let key = guard.key(b"k").expect("a key");
        let counted = guard.calculate(
            &key,
            &Calculation {
                by: Arithmetic::Increment(1),
                initial: Some(Initial {
                    value: 1,
                    expires_at_ms: None,
                }),
                version: None,
                expiry: NewExpiry::Kept,
                new_version,
            },
        );
        assert!(matches!(counted, Ok(Calculated::Value(_))), "{counted:?}");
        let inspected = guard.peek(&key).expect("it is there");
        known.push((inspected.history, inspected.read_at_ms == Some(now_ms)));
        if now_ms == 17_000 {
            assert!(guard.get(&key).is_some());
        }
    }
    let unread = (History::Unread, true);
    assert_eq!(known, [unread, unread, unread, (History::Read, true)]);
    let stats = cache.stats();
    assert_eq!(
        (
            stats.counters_created,
            stats.counter_hits,
            stats.counted_in_place
        ),
        (1, 3, 2)
    );
}

#[test]
fn a_census_of_every_bucket_is_exact() {
    let cache = Cache::new(Config::new(16 << 20)).expect("a cache");
    let mut session = cache.session().expect("a session");
    let mut guard = session.pin(1000);
    for (name, value) in [("none", &b""[..]), ("one", b"1"), ("five", b"12345")] {
        set(&mut guard, name, value, None);
    }
    set(&mut guard, "large", &[7; 1 << 20], None);
    set(&mut guard, "gone", b"12345", Some(1001));
    for _ in 0..2 {
        assert!(get(&guard, "one"));
    }
    for _ in 0..9 {
        assert!(get(&guard, "five"));
    }
    guard.set_now(1001);
    for _ in 0..2 {
        let census = guard.census(u64::MAX);
        assert_eq!(census.items(), 4);
        assert_eq!(census.sampled_buckets, census.buckets);
        assert_eq!(census.by_frequency(), [2, 0, 1, 1], "nobody counts as read");
        let classes: Vec<_> = census.by_value_bytes();
        let held: Vec<_> = classes
            .into_iter()
            .filter(|(_, items)| *items > 0)
            .collect();
        assert_eq!(held, [(0, 1), (1, 1), (8, 1), (1 << 20, 1)]);
    }
}

#[test]
fn a_census_of_a_sample_is_close() {
    let cache = Cache::new(Config {
        hash_seed: Some(7),
        first_version: Some(1),
        ..Config::new(64 << 20)
    });
    let cache = cache.expect("a cache");
    let mut session = cache.session().expect("a session");
    let mut guard = session.pin(1);
    for number in 0..100_000 {
        let bytes = if number % 4 == 0 { 100 } else { 10 };
        set(&mut guard, &number.to_string(), &vec![7; bytes], None);
    }
    let census = guard.census(1000);
    assert_eq!(census.sampled_buckets, 1000);
    assert!((95_000..105_000).contains(&census.items()), "{census:?}");
    let sizes = census.by_value_bytes();
    let of = |bytes: u64| {
        sizes
            .iter()
            .find(|(up_to, _)| *up_to == bytes)
            .expect("a class")
            .1
    };
    assert!((23_000..27_000).contains(&of(128)), "{census:?}");
    assert!((71_000..79_000).contains(&of(16)), "{census:?}");
}
