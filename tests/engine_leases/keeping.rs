//! What is known of an item beside its value: whether it was read, and its marks, wherever it moves.

use larder::Freshness::{Fresh, Stale};
use larder::Lease::{self, Taken, Won};
use larder::{Cache, Config, Guard, History, Key, NewExpiry, Terms};

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
