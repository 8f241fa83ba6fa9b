//! What the cache says about itself: figures of each session, who is pinned, and the census.

use larder::{Cache, Config, Entry, Guard, Mode, Outcome};

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
