//! What is known of an item beside its value: whether it was read, and its marks, wherever it moves.

use larder::Freshness::{Fresh, Stale};
use larder::Lease::{self, Taken, Won};
use larder::{
    AccessTimes, Arithmetic, Cache, Config, Counter, Guard, History, Key, NewExpiry, Session, Terms,
};

use super::{FILL, LOOK, NOW_MS, STALE, entry, marked, put, read, set, told, with_key};

#[test]
fn whether_a_value_was_read_before_is_known_until_the_next_store() {
    with_key(|guard, key| {
        let history = |guard: &mut Guard<'_>, terms| read(guard, key, terms).history;
        let counted = Terms::default();
        for round in 0..3 {
            set(guard, key, "value");
            assert_eq!(history(guard, &LOOK), History::Unread, "round {round}");
            assert_eq!(history(guard, &LOOK), History::Unread);
            assert_eq!(history(guard, &counted), History::Unread);
            assert_eq!(history(guard, &counted), History::Read);
            // The count of reads, which is full after three, outlives a store.
            set(guard, key, "value");
            assert!(guard.get(key).is_some() && guard.get(key).is_some());
            assert_eq!(history(guard, &LOOK), History::Read);
        }
        set(guard, key, "value");
        assert_eq!(guard.touch(key, None), Ok(true));
        assert_eq!(history(guard, &LOOK), History::Read);
    });
}

#[test]
fn leases_are_counted() {
    let cache = Cache::new(Config::new(4 << 20)).expect("4 MiB are accepted");
    let mut session = cache.session().expect("a session");
    {
        let mut guard = session.pin(NOW_MS);
        let key = guard.key(b"k").expect("a key");
        // One wins; another misses.
        let _ = told(&mut guard, &key, &FILL);
        let _ = told(&mut guard, &key, &FILL);
        set(&mut guard, &key, "value");
        marked(&mut guard, &key, &STALE);
        let _ = told(&mut guard, &key, &FILL);
        let _ = told(&mut guard, &key, &FILL);
    }
    let stats = cache.stats();
    assert_eq!((stats.get_misses, stats.get_hits), (2, 2));
    assert_eq!((stats.leases_won, stats.stale_served), (2, 2));
    assert_eq!(stats.invalidated, 1);
}

#[test]
fn what_leaves_unread_is_counted_apart() {
    let cache = Cache::new(Config::new(4 << 20)).expect("4 MiB are accepted");
    let mut session = cache.session().expect("a session");
    let name = |number: u32| format!("key {number}").into_bytes();
    {
        let mut guard = session.pin(NOW_MS);
        for number in 0..100 {
            let name = name(number);
            let key = guard.key(&name).expect("a key");
            put(&mut guard, &key, &entry("value", 0, Some(NOW_MS + 10)));
            if number < 30 {
                assert!(guard.get(&key).is_some());
            }
        }
    }
    session.rest(NOW_MS + 10);
    while session.maintain(NOW_MS + 10) {}
    let stats = cache.stats();
    assert_eq!((stats.expired, stats.expired_unfetched), (100, 70));

    // What was read once is not promoted, and leaves as read.
    let mut evicted_read = 0;
    for number in 0..100_000 {
        let mut guard = session.pin(NOW_MS + 10);
        let name = name(number);
        let key = guard.key(&name).expect("a key");
        put(&mut guard, &key, &entry(&"v".repeat(100), 0, None));
        if number % 2 == 0 {
            assert!(guard.get(&key).is_some());
            evicted_read += 1;
        }
    }
    assert!(evicted_read > 0);
    let stats = cache.stats();
    let read = stats.evicted - stats.evicted_unfetched;
    assert!(stats.evicted > 10_000, "{stats:#?}");
    let about_half = stats.evicted * 4 / 10..stats.evicted * 6 / 10;
    assert!(about_half.contains(&read), "{stats:#?}");
}

#[test]
fn marks_stay_where_an_item_moves() {
    let cache = Cache::new(Config::new(2 << 20)).expect("2 MiB are accepted");
    let mut session = cache.session().expect("a session");
    let names: Vec<_> = (0..4)
        .map(|number| format!("kept {number}").into_bytes())
        .collect();
    {
        let mut guard = session.pin(NOW_MS);
        for (number, name) in names.iter().enumerate() {
            let key = guard.key(name).expect("a key");
            set(&mut guard, &key, "value");
            if number & 1 != 0 {
                marked(&mut guard, &key, &STALE);
            }
            if number & 2 != 0 {
                let terms = Terms {
                    refresh_below_ms: Some(u64::MAX),
                    expiry: NewExpiry::Kept,
                    ..LOOK
                };
                put_off(&mut guard, &key, number & 1 != 0);
                assert_eq!(told(&mut guard, &key, &terms).0, Won);
            }
        }
    }
    // Enough to evict and to clean all memory several times, and to split every bucket: more keys
    // than there is room for, and then fewer, overwritten out of their order.
    for number in 0..100_000_u32 {
        let mut guard = session.pin(NOW_MS);
        let name = match number {
            0..50_000 => number % 18_000,
            _ => (number.wrapping_mul(0x9e37_79b1) >> 8) % 9_000,
        };
        let name = name.to_le_bytes();
        let key = guard.key(&name).expect("a key");
        set(&mut guard, &key, &"v".repeat(number as usize % 200));
        if number % 16 == 0 {
            for name in &names {
                let key = guard.key(name).expect("a key");
                assert!(guard.get(&key).is_some(), "what is read stays");
            }
        }
    }
    let stats = cache.stats();
    assert!(
        stats.promoted >= 4 && stats.reinserted > 0 && stats.cleaned > 0,
        "{stats:#?}"
    );
    let mut guard = session.pin(NOW_MS);
    for (number, name) in names.iter().enumerate() {
        let key = guard.key(name).expect("a key");
        let leased = read(&mut guard, &key, &LOOK);
        let freshness = if number & 1 != 0 { Stale } else { Fresh };
        let lease = match (number & 2 != 0, freshness) {
            (true, _) => Taken,
            (false, Stale) => Won,
            (false, Fresh) => Lease::None,
        };
        assert_eq!(
            (leased.lease, leased.freshness),
            (lease, freshness),
            "{number}"
        );
        assert_eq!(leased.history, History::Read);
    }
}

/// Gives an item an expiry, so that it can be due; one that is stale needs none.
fn put_off(guard: &mut Guard<'_>, key: &Key<'_>, is_stale: bool) {
    if !is_stale {
        assert_eq!(guard.touch(key, Some(u64::MAX - 1)), Ok(true));
    }
}

/// When the item was last read, as a read that leaves no trace is told.
#[track_caller]
fn read_at(guard: &mut Guard<'_>, key: &Key<'_>) -> Option<u64> {
    read(guard, key, &LOOK).read_at_ms
}

fn keeping_access_times(memory_bytes: u64) -> Session {
    let cache = Cache::new(Config {
        access_times: AccessTimes::Kept,
        ..Config::new(memory_bytes)
    });
    cache.expect("accepted").session().expect("a session")
}

#[test]
fn the_time_of_the_last_read_is_kept_where_it_is_asked_for() {
    with_key(|guard, key| {
        set(guard, key, "value");
        assert_eq!(read_at(guard, key), None);
    });
    let mut session = keeping_access_times(4 << 20);
    {
        let mut guard = session.pin(NOW_MS);
        let guard = &mut guard;
        let large = "x".repeat(100_000);
        for (name, value) in [
            ("text", "value"),
            ("empty", ""),
            ("number", "7"),
            ("large", &large),
        ] {
            guard.set_now(NOW_MS);
            let key = &guard.key(name.as_bytes()).expect("a key");
            set(guard, key, value);
            if name == "number" {
                for _ in 0..2 {
                    let counted = guard.arithmetic(key, Arithmetic::Increment(1), None);
                    assert!(matches!(counted, Ok(Counter::Value { .. })));
                }
            }
            assert_eq!(read_at(guard, key), Some(NOW_MS), "{name}");
            // A read that leaves no trace leaves none here either.
            guard.set_now(NOW_MS + 5000);
            assert_eq!(read_at(guard, key), Some(NOW_MS));
            assert!(guard.get(key).is_some());
            assert_eq!(read_at(guard, key), Some(NOW_MS + 5000));
            // It is known to a second.
            guard.set_now(NOW_MS + 5999);
            assert!(guard.get(key).is_some());
            assert_eq!(read_at(guard, key), Some(NOW_MS + 5000));
            guard.set_now(NOW_MS + 6000);
            let told = read(guard, key, &Terms::default());
            assert_eq!(told.read_at_ms, Some(NOW_MS + 5000), "before this read");
            assert_eq!(read_at(guard, key), Some(NOW_MS + 6000));
            // A mark is no read; a touch is one, and so is whatever wins a lease.
            guard.set_now(NOW_MS + 8000);
            marked(guard, key, &STALE);
            let won = read(guard, key, &Terms::default());
            assert_eq!((won.read_at_ms, won.lease), (Some(NOW_MS + 6000), Won));
            assert_eq!(read_at(guard, key), Some(NOW_MS + 8000));
            guard.set_now(NOW_MS + 9000);
            assert_eq!(guard.touch(key, None), Ok(true));
            assert_eq!(read_at(guard, key), Some(NOW_MS + 9000));
            // A clock that was set back is believed.
            guard.set_now(NOW_MS);
            assert!(guard.get(key).is_some());
            assert_eq!(read_at(guard, key), Some(NOW_MS));
        }
    }
    assert_eq!(session.verify(), Ok(()));
}

#[test]
fn the_time_of_the_last_read_moves_with_its_item() {
    let mut session = keeping_access_times(2 << 20);
    let name = |number: u32| (number % 18_000).to_le_bytes();
    for number in 0..100_000_u32 {
        let mut guard = session.pin(NOW_MS);
        let name = name(number);
        let key = guard.key(&name).expect("a key");
        set(&mut guard, &key, &"v".repeat(number as usize % 200));
        if number % 16 == 0 {
            let read = guard.key(b"read").expect("a key");
            match number {
                0 => {
                    set(&mut guard, &read, "value");
                }
                _ => assert!(guard.get(&read).is_some(), "what is read stays"),
            }
        }
    }
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"read").expect("a key");
    assert_eq!(read_at(&mut guard, &key), Some(NOW_MS));
    drop(guard);
    assert_eq!(session.verify(), Ok(()));
}
