//! Keys that are used with another cache than the one that made them: every operation answers as if its
//! own cache had made the key, whatever the key says about places.

use larder::{
    Arithmetic, Cache, Config, Counter, Deletion, Entry, Initial, Invalidated, Invalidation, Key,
    Lease, Mode, Outcome, Reach, Session, Side, Terms,
};

const NOW_MS: u64 = 1_000_000;
const KEYS: usize = 20_000;

fn cache(memory_bytes: u64, hash_seed: u64) -> Cache {
    let mut config = Config::new(memory_bytes);
    config.hash_seed = Some(hash_seed);
    config.first_version = Some(1);
    config.sessions_max = 2;
    Cache::new(config).expect("a cache")
}

fn names() -> Vec<String> {
    (0..KEYS).map(|number| format!("key {number}")).collect()
}

/// Stores every name as its own value.
fn fill(session: &mut Session, names: &[String]) {
    let mut guard = session.pin(NOW_MS);
    for name in names {
        let key = guard.key(name.as_bytes()).expect("a key");
        let stored = guard.store(&key, Mode::Set, &Entry::of(name.as_bytes()));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })));
    }
}

/// Keys that a cache made which has more buckets than the other, and hints where it has them.
fn strange<'n>(session: &mut Session, names: &'n [String]) -> Vec<Key<'n>> {
    let guard = session.pin(NOW_MS);
    let mut keys: Vec<_> = (names.iter())
        .map(|name| guard.key(name.as_bytes()).expect("a key"))
        .collect();
    for batch in keys.chunks_mut(16) {
        batch.iter().for_each(|key| guard.prefetch_bucket(key));
        guard.prefetch_items(batch.iter_mut().map(|key| (key, Reach::Value)));
    }
    keys
}

#[test]
fn reads_find_what_their_own_cache_has_and_nothing_else() {
    let (large, small) = (cache(64 << 20, 1), cache(4 << 20, 2));
    let (mut there, mut here) = (large.session().unwrap(), small.session().unwrap());
    let names = names();
    fill(&mut there, &names);
    fill(&mut here, &names[..500]);
    assert!(large.stats().buckets > 4 * small.stats().buckets);
    let mut keys = strange(&mut there, &names);
    let guard = here.pin(NOW_MS);
    let value = |name: &str, key: &Key<'_>| {
        let item = guard.get(key);
        item.inspect(|item| assert_eq!(item.value(), name.as_bytes()))
            .is_some()
    };
    for (at, (name, key)) in names.iter().zip(&keys).enumerate() {
        assert_eq!(value(name, key), at < 500, "{name}");
        assert_eq!(guard.peek(key).is_some(), at < 500, "{name}");
    }
    let mut found = 0;
    guard.get_many(&keys, |at, item| {
        found += usize::from(item.is_some());
        assert!(item.is_none_or(|item| item.value() == names[at].as_bytes()));
    });
    assert_eq!(found, 500);
    // Looking ahead makes them this cache's own.
    for (batch, names) in keys.chunks_mut(16).zip(names.chunks(16)) {
        batch.iter().for_each(|key| guard.prefetch_bucket(key));
        guard.prefetch_items(batch.iter_mut().map(|key| (key, Reach::Value)));
        for (name, key) in names.iter().zip(batch) {
            let _ = value(name, key);
        }
    }
}

#[test]
fn writes_go_where_their_own_cache_finds_them() {
    let (large, small) = (cache(64 << 20, 1), cache(4 << 20, 2));
    let (mut there, mut here) = (large.session().unwrap(), small.session().unwrap());
    let names = names();
    fill(&mut there, &names);
    let keys = strange(&mut there, &names);
    for (at, (name, key)) in names.iter().zip(&keys).take(4000).enumerate() {
        // What a large value had is free once nobody is pinned any more.
        let mut guard = here.pin(NOW_MS);
        let entry = Entry::of(name.as_bytes());
        let stored = guard.store(key, Mode::Add, &entry).expect("there is room");
        assert!(matches!(stored, Outcome::Stored { .. }), "{name}");
        match at % 5 {
            0 => assert_eq!(guard.delete(key, None), Deletion::Deleted),
            1 => {
                let joined = guard.join(key, Side::Back, &Entry::of(b"!"), None);
                assert!(matches!(joined, Ok((Outcome::Stored { .. }, _))));
            }
            2 => assert!(guard.touch(key, Some(NOW_MS + 1)).expect("there is room")),
            3 => {
                let marked = guard.invalidate(key, &Invalidation::default());
                assert!(matches!(marked, Ok(Invalidated::Marked { .. })));
                let leased = guard.get_or_lease(key, &Terms::default()).expect("room");
                assert_eq!(leased.lease, Lease::Won);
                let version = leased.item.expect("it is there").version();
                assert!(guard.end_lease(key, version));
            }
            _ => {
                let large = guard.store(key, Mode::Set, &Entry::of(&[7; 9000]));
                assert!(matches!(large, Ok(Outcome::Stored { .. })));
                assert_eq!(guard.delete(key, None), Deletion::Deleted);
                let initial = Initial {
                    value: 1,
                    expires_at_ms: None,
                };
                for expected in 1..3 {
                    let counted = guard.arithmetic(key, Arithmetic::Increment(1), Some(initial));
                    match counted.expect("there is room") {
                        Counter::Value { value, .. } => assert_eq!(value, expected),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
    assert_eq!(here.verify(), Ok(()));
    let guard = here.pin(NOW_MS);
    for (at, name) in names.iter().take(4000).enumerate() {
        let key = guard.key(name.as_bytes()).expect("a key");
        assert_eq!(guard.get(&key).is_some(), at % 5 != 0, "{name}");
    }
}

#[test]
fn a_key_outlives_its_cache_and_is_worth_nothing_to_the_next_one() {
    let names = names();
    let mut keys = Vec::new();
    for round in 0..4 {
        // The same seed, and most likely the same addresses.
        let cache = cache(16 << 20, 1);
        let mut session = cache.session().expect("a session");
        fill(&mut session, &names[round * 100..][..100]);
        let guard = session.pin(NOW_MS);
        let found = |key: &Key<'_>| guard.get(key).is_some();
        assert_eq!(keys.iter().filter(|key| found(key)).count(), 0);
        drop(guard);
        keys = strange(&mut session, &names[round * 100..][..100]);
    }
}

#[test]
fn what_was_foreseen_in_another_cache_is_passed_over() {
    // Twins: what one has foreseen would be found in the other as well.
    let (one, other) = (cache(64 << 20, 1), cache(64 << 20, 1));
    let (mut here, mut there) = (one.session().unwrap(), other.session().unwrap());
    let names = names();
    fill(&mut here, &names);
    fill(&mut there, &names);
    let mut overflowed = 0;
    for name in &names {
        let foreseen = there.foresee(name.as_bytes(), Reach::Value);
        let next = there.fetch(foreseen);
        overflowed += u64::from(next.is_some());
        assert!(here.fetch(foreseen).is_none());
        let last = next.and_then(|next| there.fetch(next));
        assert!(last.is_none(), "an overflow bucket is looked into at once");
    }
    assert!(overflowed > 0, "no key may be in an overflow bucket");
}

#[test]
#[should_panic(expected = "the key of another cache: the key has 9 bytes: at most 8 are accepted")]
fn a_strange_key_that_is_too_long_here_is_refused() {
    let wide = cache(4 << 20, 1);
    let mut config = Config::new(4 << 20);
    config.key_bytes_max = 8;
    let narrow = Cache::new(config).expect("a cache");
    let key = wide.key(b"123456789").expect("a key there");
    let mut session = narrow.session().expect("a session");
    let _ = session.pin(NOW_MS).get(&key);
}
