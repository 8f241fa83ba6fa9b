//! What each operation promises, one claim at a time. Time is an argument, so nothing waits.

use larder::{
    Arithmetic, Cache, Calculated, Calculation, Config, Counter, Deletion, Entry, Guard, Initial,
    Item, Key, Mode, NewExpiry, Outcome, Session,
};

const NOW_MS: u64 = 1_000_000;

fn cache() -> Cache {
    Cache::new(Config::new(4 << 20)).expect("4 MiB are accepted")
}

fn session() -> Session {
    cache().session().expect("a session is free")
}

/// Runs `test` on a fresh cache, at `NOW_MS`, with the key `k`.
fn with_key(test: impl FnOnce(&mut Guard<'_>, &Key<'_>)) {
    let mut session = session();
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"k").expect("a key");
    test(&mut guard, &key);
}

fn entry(value: &str, flags: u32, expires_at_ms: Option<u64>) -> Entry<'_> {
    Entry {
        flags,
        expires_at_ms,
        ..Entry::of(value.as_bytes())
    }
}

/// Stores, and gives the version.
#[track_caller]
fn store(guard: &mut Guard<'_>, key: &Key<'_>, mode: Mode, entry: &Entry<'_>) -> u64 {
    match guard.store(key, mode, entry).expect("there is memory") {
        Outcome::Stored { version } => version,
        outcome => panic!("{mode:?}: {outcome:?}"),
    }
}

#[track_caller]
fn set(guard: &mut Guard<'_>, key: &Key<'_>, value: &str) -> u64 {
    store(guard, key, Mode::Set, &Entry::of(value.as_bytes()))
}

#[track_caller]
fn outcome(guard: &mut Guard<'_>, key: &Key<'_>, mode: Mode, value: &str) -> Outcome {
    let entry = Entry::of(value.as_bytes());
    guard.store(key, mode, &entry).expect("there is memory")
}

fn value(guard: &Guard<'_>, key: &Key<'_>) -> Option<String> {
    let value = |item: Item<'_>| item.value().to_vec();
    (guard.get(key).map(value)).map(|value| String::from_utf8(value).expect("text"))
}

fn count(
    guard: &mut Guard<'_>,
    key: &Key<'_>,
    by: Arithmetic,
    initial: Option<Initial>,
) -> Counter {
    guard.arithmetic(key, by, initial).expect("there is memory")
}

/// The value of a counter.
#[track_caller]
fn counted(guard: &mut Guard<'_>, key: &Key<'_>, by: Arithmetic) -> u64 {
    match count(guard, key, by, None) {
        Counter::Value { value, .. } => value,
        other => panic!("{by:?}: {other:?}"),
    }
}

#[test]
fn an_item_reads_as_it_was_stored() {
    with_key(|guard, key| {
        assert!(guard.get(key).is_none());
        let stored = entry("value", 7, Some(NOW_MS + 5));
        let version = store(guard, key, Mode::Set, &stored);
        let item = guard.get(key).expect("stored");
        assert_eq!(item.key(), b"k");
        assert_eq!(*item.value(), *b"value");
        assert_eq!((item.flags(), item.version()), (7, version));
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5));
    });
}

#[test]
fn a_set_replaces_value_flags_and_expiry() {
    with_key(|guard, key| {
        let old = store(guard, key, Mode::Set, &entry("old", 7, Some(NOW_MS + 5)));
        let new = set(guard, key, "new");
        assert_ne!(old, new);
        let item = guard.get(key).expect("stored");
        assert_eq!((item.value(), item.flags()), (b"new"[..].into(), 0));
        assert_eq!(item.expires_at_ms(), None);
    });
}

#[test]
fn add_stores_only_where_nothing_is_and_replace_only_where_something_is() {
    with_key(|guard, key| {
        assert_eq!(outcome(guard, key, Mode::Replace, "a"), Outcome::NotStored);
        assert_eq!(value(guard, key), None);
        store(guard, key, Mode::Add, &Entry::of(b"b"));
        assert_eq!(outcome(guard, key, Mode::Add, "c"), Outcome::NotStored);
        assert_eq!(value(guard, key).as_deref(), Some("b"));
        store(guard, key, Mode::Replace, &Entry::of(b"d"));
        assert_eq!(value(guard, key).as_deref(), Some("d"));
    });
}

#[test]
fn append_and_prepend_keep_flags_and_expiry() {
    with_key(|guard, key| {
        for mode in [Mode::Append, Mode::Prepend] {
            assert_eq!(outcome(guard, key, mode, "x"), Outcome::NotStored);
        }
        let first = store(guard, key, Mode::Set, &entry("b", 7, Some(NOW_MS + 5)));
        store(guard, key, Mode::Append, &entry("c", 9, None));
        let last = store(guard, key, Mode::Prepend, &entry("a", 9, None));
        assert_ne!(first, last);
        let item = guard.get(key).expect("stored");
        assert_eq!((item.value(), item.flags()), (b"abc"[..].into(), 7));
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5));
        assert_eq!(item.version(), last);
    });
}

#[test]
fn a_conditional_store_needs_the_version_that_is_there() {
    with_key(|guard, key| {
        let cas = |version| Mode::CompareAndSet { version };
        assert_eq!(outcome(guard, key, cas(1), "a"), Outcome::NotFound);
        let first = set(guard, key, "a");
        assert_eq!(outcome(guard, key, cas(first + 1), "b"), Outcome::Exists);
        let second = store(guard, key, cas(first), &entry("b", 3, None));
        assert_eq!(outcome(guard, key, cas(first), "c"), Outcome::Exists);
        let item = guard.get(key).expect("stored");
        assert_eq!((item.value(), item.flags()), (b"b"[..].into(), 3));
        assert_eq!(item.version(), second);
    });
}

#[test]
fn a_version_never_returns_though_its_key_does() {
    with_key(|guard, key| {
        let first = set(guard, key, "a");
        assert_eq!(guard.delete(key, None), Deletion::Deleted);
        let second = set(guard, key, "a");
        assert_ne!(first, second);
        let cas = Mode::CompareAndSet { version: first };
        assert_eq!(outcome(guard, key, cas, "b"), Outcome::Exists);
    });
}

#[test]
fn an_increment_wraps_and_a_decrement_stops_at_zero() {
    use Arithmetic::{Decrement, Increment};
    with_key(|guard, key| {
        set(guard, key, "10");
        assert_eq!(counted(guard, key, Increment(5)), 15);
        assert_eq!(counted(guard, key, Decrement(6)), 9);
        assert_eq!(value(guard, key).as_deref(), Some("9"));
        assert_eq!(counted(guard, key, Decrement(u64::MAX)), 0);
        assert_eq!(counted(guard, key, Increment(u64::MAX)), u64::MAX);
        assert_eq!(counted(guard, key, Increment(3)), 2);
        assert_eq!(counted(guard, key, Increment(0)), 2);
    });
}

#[test]
fn a_counter_keeps_flags_and_expiry_and_gets_a_version() {
    with_key(|guard, key| {
        let old = store(guard, key, Mode::Set, &entry("1", 7, Some(NOW_MS + 5)));
        let initial = Some(Initial {
            value: 100,
            expires_at_ms: None,
        });
        let counter = count(guard, key, Arithmetic::Increment(1), initial);
        let item = guard.get(key).expect("stored");
        assert_eq!((item.value(), item.flags()), (b"2"[..].into(), 7));
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5));
        let version = item.version();
        assert_ne!(version, old);
        assert_eq!(counter, Counter::Value { value: 2, version });
    });
}

#[test]
fn an_absent_counter_starts_with_the_initial_value_or_not_at_all() {
    with_key(|guard, key| {
        let by = Arithmetic::Decrement(5);
        assert_eq!(count(guard, key, by, None), Counter::NotFound);
        assert_eq!(value(guard, key), None);
        let initial = Some(Initial {
            value: 100,
            expires_at_ms: Some(NOW_MS + 5),
        });
        let counter = count(guard, key, by, initial);
        assert!(matches!(counter, Counter::Value { value: 100, .. }));
        let item = guard.get(key).expect("created");
        assert_eq!((item.value(), item.flags()), (b"100"[..].into(), 0));
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5));
    });
}

#[test]
fn what_is_no_number_is_not_counted_and_stays() {
    with_key(|guard, key| {
        for text in [
            "",
            "x",
            "-1",
            "1 ",
            "18446744073709551616",
            "000000000000000000001",
        ] {
            let version = set(guard, key, text);
            let counter = count(guard, key, Arithmetic::Increment(1), None);
            assert_eq!(counter, Counter::NotANumber, "{text:?}");
            let item = guard.get(key).expect("stored");
            assert_eq!(
                (item.value(), item.version()),
                (text.as_bytes().into(), version)
            );
        }
        set(guard, key, "18446744073709551615");
        assert_eq!(counted(guard, key, Arithmetic::Increment(0)), u64::MAX);
    });
}

#[test]
fn a_touch_changes_the_expiry_and_nothing_else() {
    with_key(|guard, key| {
        assert!(!guard.touch(key, None).expect("there is memory"));
        let version = store(guard, key, Mode::Set, &entry("v", 7, None));
        assert!(guard.touch(key, Some(NOW_MS + 5)).expect("there is memory"));
        let item = guard.get(key).expect("stored");
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5));
        assert_eq!((item.value(), item.flags()), (b"v"[..].into(), 7));
        assert_eq!(item.version(), version);
        let item = guard.get_and_touch(key, None).expect("there is memory");
        let item = item.expect("stored");
        assert_eq!((item.value(), item.version()), (b"v"[..].into(), version));
        assert_eq!(item.expires_at_ms(), None);
    });
}

#[test]
fn a_delete_with_a_version_spares_every_other_item() {
    with_key(|guard, key| {
        assert_eq!(guard.delete(key, None), Deletion::NotFound);
        assert_eq!(guard.delete(key, Some(1)), Deletion::NotFound);
        let version = set(guard, key, "a");
        assert_eq!(guard.delete(key, Some(version + 1)), Deletion::Exists);
        assert_eq!(value(guard, key).as_deref(), Some("a"));
        assert_eq!(guard.delete(key, Some(version)), Deletion::Deleted);
        assert_eq!(value(guard, key), None);
        assert_eq!(guard.delete(key, None), Deletion::NotFound);
    });
}

#[test]
fn an_item_lives_until_the_millisecond_it_expires_in() {
    with_key(|guard, key| {
        store(guard, key, Mode::Set, &entry("v", 0, Some(NOW_MS + 5)));
        guard.set_now(NOW_MS + 4);
        assert_eq!(value(guard, key).as_deref(), Some("v"));
        guard.set_now(NOW_MS + 5);
        assert_eq!(value(guard, key), None);
    });
}

#[test]
fn to_every_operation_an_expired_item_is_absent() {
    with_key(|guard, key| {
        let mut expired = |test: &mut dyn FnMut(&mut Guard<'_>, &Key<'_>)| {
            store(guard, key, Mode::Set, &entry("1", 0, Some(NOW_MS)));
            test(guard, key);
        };
        expired(&mut |guard, key| assert!(guard.get(key).is_none()));
        for mode in [Mode::Replace, Mode::Append, Mode::Prepend] {
            expired(&mut |guard, key| {
                assert_eq!(outcome(guard, key, mode, "x"), Outcome::NotStored)
            });
        }
        expired(&mut |guard, key| {
            let cas = Mode::CompareAndSet { version: 1 };
            assert_eq!(outcome(guard, key, cas, "x"), Outcome::NotFound);
        });
        expired(&mut |guard, key| assert!(!guard.touch(key, None).expect("there is memory")));
        expired(&mut |guard, key| assert_eq!(guard.delete(key, None), Deletion::NotFound));
        expired(&mut |guard, key| {
            let counter = count(guard, key, Arithmetic::Increment(1), None);
            assert_eq!(counter, Counter::NotFound);
        });
        expired(&mut |guard, key| {
            store(guard, key, Mode::Add, &Entry::of(b"new"));
            assert_eq!(value(guard, key).as_deref(), Some("new"));
        });
    });
}

#[test]
fn a_flush_takes_all_that_was_stored_and_nothing_that_comes_after() {
    let cache = cache();
    let mut sessions = [(); 2].map(|()| cache.session().expect("a session is free"));
    let names: Vec<_> = (0..100).map(|n| format!("k{n}")).collect();
    for (at, name) in names.iter().enumerate() {
        let mut guard = sessions[at % 2].pin(NOW_MS);
        let key = guard.key(name.as_bytes()).expect("a key");
        set(&mut guard, &key, "old");
    }
    sessions[0].pin(NOW_MS).flush(None);
    for session in &mut sessions {
        let mut guard = session.pin(NOW_MS);
        let keys = names
            .iter()
            .map(|name| guard.key(name.as_bytes()).expect("a key"));
        let keys: Vec<_> = keys.collect();
        assert!(keys.iter().all(|key| guard.get(key).is_none()));
        for key in &keys {
            store(&mut guard, key, Mode::Add, &Entry::of(b"new"));
            assert_eq!(value(&guard, key).as_deref(), Some("new"));
            assert_eq!(guard.delete(key, None), Deletion::Deleted);
        }
    }
}

#[test]
fn a_flush_at_a_time_takes_what_is_stored_until_then() {
    let cache = cache();
    let mut session = cache.session().expect("a session is free");
    let mut other = cache.session().expect("a session is free");
    let mut guard = session.pin(NOW_MS);
    let keys = [b"a", b"b", b"c"].map(|key| guard.key(key).expect("a key"));
    set(&mut guard, &keys[0], "before it was asked for");
    guard.flush(Some(NOW_MS + 10));
    guard.set_now(NOW_MS + 9);
    set(&mut guard, &keys[1], "before it comes");
    assert!(keys[..2].iter().all(|key| guard.get(key).is_some()));
    drop(guard);
    let mut guard = other.pin(NOW_MS + 10);
    assert!(keys[..2].iter().all(|key| guard.get(key).is_none()));
    set(&mut guard, &keys[2], "after it");
    drop(guard);
    let guard = session.pin(NOW_MS + 11);
    assert_eq!(value(&guard, &keys[2]).as_deref(), Some("after it"));
    assert_eq!(cache.stats().flushes, 1);
}

#[test]
fn a_later_flush_takes_the_place_of_one_that_is_to_come() {
    with_key(|guard, key| {
        guard.flush(Some(NOW_MS + 10));
        guard.flush(Some(NOW_MS + 20));
        set(guard, key, "a");
        guard.set_now(NOW_MS + 19);
        assert_eq!(value(guard, key).as_deref(), Some("a"));
        guard.set_now(NOW_MS + 20);
        assert_eq!(value(guard, key), None);
        set(guard, key, "b");
        guard.flush(Some(NOW_MS + 20));
        assert_eq!(value(guard, key), None, "a time that has come is now");
    });
}

#[test]
fn a_flush_now_takes_the_place_of_one_that_is_to_come() {
    with_key(|guard, key| {
        guard.flush(Some(NOW_MS + 10));
        guard.flush(None);
        set(guard, key, "a");
        guard.set_now(NOW_MS + 10);
        assert_eq!(value(guard, key).as_deref(), Some("a"));
    });
}

#[test]
fn many_reads_at_once_find_what_single_reads_find() {
    let mut session = session();
    let mut guard = session.pin(NOW_MS);
    let names: Vec<_> = (0..50).map(|n| format!("k{n}")).collect();
    let keys: Vec<_> = (names
        .iter()
        .map(|name| guard.key(name.as_bytes()).expect("a key")))
    .collect();
    for (name, key) in names.iter().zip(&keys).step_by(3) {
        set(&mut guard, key, name);
    }
    let mut found = Vec::new();
    guard.get_many(&keys, |at, item| {
        found.push((at, item.map(|item| item.value())))
    });
    assert_eq!(found.len(), keys.len());
    for (at, (position, value)) in found.into_iter().enumerate() {
        let stored = (at % 3 == 0).then(|| names[at].as_bytes().into());
        assert_eq!((position, value), (at, stored));
    }
    guard.get_many(&[], |_, _| panic!("there are no keys"));
}

/// Stores under a version that is chosen.
#[track_caller]
fn choose(guard: &mut Guard<'_>, key: &Key<'_>, mode: Mode, value: &str, version: u64) {
    let entry = Entry {
        new_version: Some(version),
        ..Entry::of(value.as_bytes())
    };
    assert_eq!(store(guard, key, mode, &entry), version);
}

#[test]
fn an_item_has_the_version_that_was_chosen_until_it_changes() {
    with_key(|guard, key| {
        let version = |guard: &Guard<'_>| guard.get(key).expect("stored").version();
        choose(guard, key, Mode::Set, "a", 7);
        assert!(guard.touch(key, Some(NOW_MS + 5)).expect("there is memory"));
        assert_eq!(version(guard), 7);
        choose(guard, key, Mode::Append, "b", u64::MAX);
        choose(
            guard,
            key,
            Mode::CompareAndSet { version: u64::MAX },
            "c",
            0,
        );
        assert_eq!(guard.delete(key, Some(1)), Deletion::Exists);
        let own = set(guard, key, "d");
        assert_eq!(version(guard), own);
        choose(guard, key, Mode::Replace, "e", own + 1000);
        assert!(
            set(guard, key, "f") < own + 1000,
            "others are not led by it"
        );
        choose(guard, key, Mode::Set, "g", 9);
        assert_eq!(guard.delete(key, Some(9)), Deletion::Deleted);
    });
}

#[test]
fn a_number_has_the_version_that_was_chosen_until_it_is_counted() {
    with_key(|guard, key| {
        let mut calculate = |by, new_version| {
            let calculation = Calculation {
                by: Arithmetic::Increment(by),
                initial: Some(Initial {
                    value: 5,
                    expires_at_ms: None,
                }),
                version: None,
                expiry: NewExpiry::Kept,
                new_version,
            };
            match guard.calculate(key, &calculation).expect("there is memory") {
                Calculated::Value(counted) => (counted.value, counted.version),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(calculate(1, Some(70)), (5, 70));
        assert_eq!(calculate(1, Some(60)), (6, 60));
        let (value, first) = calculate(1, None);
        let (next, second) = calculate(1, None);
        assert_eq!((value, next), (7, 8));
        assert!(first < second && first != 60);
        assert_eq!(calculate(1, Some(1)), (9, 1));
        assert_eq!(guard.get(key).map(|item| item.version()), Some(1));
    });
}

#[test]
fn a_flush_takes_what_has_a_version_that_was_chosen() {
    with_key(|guard, key| {
        choose(guard, key, Mode::Set, "a", u64::MAX);
        guard.flush(None);
        assert_eq!(value(guard, key), None);
        choose(guard, key, Mode::Add, "b", 1);
        assert_eq!(value(guard, key).as_deref(), Some("b"));
    });
}

#[test]
fn versions_of_an_earlier_cache_are_not_those_of_another() {
    let first_version = || {
        let mut session = session();
        let mut guard = session.pin(NOW_MS);
        let key = guard.key(b"k").expect("a key");
        set(&mut guard, &key, "a")
    };
    let [one, other] = [first_version(), first_version()];
    assert_ne!(one, other);
    assert!(one.max(other) < 1 << 53, "{one}, {other}");
}
