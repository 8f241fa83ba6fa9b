//! What was acknowledged is there, with all that belongs to it.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;

use larder::{
    AccessTimes, Arithmetic, Cache, Counter, Entry, Freshness, Guard, Initial, Invalidated,
    Invalidation, Lease, Mode, Outcome, Proof, Terms, WrittenBy,
};

use super::{NOW_MS, as_it_is, config, dead, recovered, sessions};

fn set(guard: &mut Guard<'_>, name: &str, entry: &Entry<'_>) -> u64 {
    let key = guard.key(name.as_bytes()).expect("a key");
    match guard.store(&key, Mode::Set, entry) {
        Ok(Outcome::Stored { version }) => version,
        other => panic!("{other:?}"),
    }
}

fn value(guard: &Guard<'_>, name: &str) -> Option<Vec<u8>> {
    let key = guard.key(name.as_bytes()).expect("a key");
    guard.get(&key).map(|item| item.value().into_owned())
}

#[test]
fn what_was_stored_is_there_with_value_flags_expiry_and_version() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    let mut stored = HashMap::new();
    for number in 0..5000_u32 {
        let name = format!("key {number}");
        let value = vec![number as u8; number as usize % 300];
        let entry = Entry {
            value: &value,
            flags: number % 3,
            expires_at_ms: (number % 5 == 0).then_some(NOW_MS + 1_000_000 + u64::from(number)),
            new_version: (number % 7 == 0).then_some(u64::MAX - u64::from(number)),
        };
        let guard = &mut of[number as usize % 2].pin(NOW_MS);
        let version = set(guard, &name, &entry);
        let (flags, expires_at_ms) = (entry.flags, entry.expires_at_ms);
        stored.insert(name, (value, flags, expires_at_ms, version));
    }
    let deleted: Vec<_> = stored
        .keys()
        .filter(|name| name.ends_with('7'))
        .cloned()
        .collect();
    for name in &deleted {
        let guard = &mut of[0].pin(NOW_MS);
        let key = guard.key(name.as_bytes()).expect("a key");
        let _ = guard.delete(&key, None);
        stored.remove(name);
    }
    assert_eq!(cache.stats().evicted, 0);
    let (cache, mut of, receipt) = recovered(dead(cache, of, &config), &config);
    assert_eq!(receipt.items, stored.len() as u64);
    assert_eq!(receipt.dropped.total(), 0, "{receipt:#?}");
    let guard = of[0].pin(NOW_MS);
    for (name, (value, flags, expires_at_ms, version)) in &stored {
        let item = guard.get(&guard.key(name.as_bytes()).expect("a key"));
        let item = item.expect("it was acknowledged");
        assert_eq!(item.value(), &value[..]);
        assert_eq!(
            (item.flags(), item.expires_at_ms()),
            (*flags, *expires_at_ms)
        );
        assert_eq!(item.version(), *version);
    }
    for name in &deleted {
        assert_eq!(value(&guard, name), None);
    }
    assert_eq!(cache.stats().items, stored.len() as u64);
}

#[test]
fn segments_that_were_being_written_are_told_with_who_wrote_them() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    for (session, name) in of.iter_mut().zip(["one", "two"]) {
        set(&mut session.pin(NOW_MS), name, &Entry::of(b"value"));
    }
    let (_, mut of, receipt) = recovered(dead(cache, of, &config), &config);
    let mut by: Vec<_> = receipt.open.iter().map(|open| open.written_by).collect();
    by.sort_by_key(|by| match by {
        WrittenBy::Session(number) => *number,
        _ => u32::MAX,
    });
    assert_eq!(by, [WrittenBy::Session(1), WrittenBy::Session(2)]);
    let guard = of[0].pin(NOW_MS);
    assert!(value(&guard, "one").is_some() && value(&guard, "two").is_some());
}

#[test]
fn an_end_in_order_leaves_no_segment_open_and_loses_nothing() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    for number in 0..3000 {
        let name = number.to_string();
        set(
            &mut of[number % 2].pin(NOW_MS),
            &name,
            &Entry::of(&[1; 100]),
        );
    }
    let memory = cache.memory().try_clone_to_owned().expect("a descriptor");
    drop(of);
    drop(cache);
    let (_, _, receipt) = recovered(memory, &config);
    assert_eq!((receipt.items, receipt.open.len()), (3000, 0));
}

#[test]
fn no_version_is_given_twice() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    let mut versions = HashSet::new();
    let mut memory = {
        for number in 0..3000 {
            let guard = &mut of[number % 2].pin(NOW_MS);
            assert!(versions.insert(set(guard, "key", &Entry::of(b"value"))));
        }
        dead(cache, of, &config)
    };
    for _ in 0..3 {
        let (cache, mut of, _) = recovered(memory, &config);
        for session in &mut of {
            assert!(versions.insert(set(&mut session.pin(NOW_MS), "key", &Entry::of(b"value"))));
        }
        memory = dead(cache, of, &config);
    }
}

#[test]
fn large_values_and_counters_survive_and_go_on() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    let large = |number: usize| vec![number as u8; 20_000 + 7001 * number];
    for number in 0..20 {
        let name = format!("large {number}");
        set(
            &mut of[number % 2].pin(NOW_MS),
            &name,
            &Entry::of(&large(number)),
        );
    }
    // One is overwritten, one is deleted: what they had is free.
    set(&mut of[0].pin(NOW_MS), "large 3", &Entry::of(b"small"));
    {
        let mut guard = of[1].pin(NOW_MS);
        let key = guard.key(b"large 4").expect("a key");
        let _ = guard.delete(&key, None);
        // A touch shares the extents with the item that it replaces.
        let key = guard.key(b"large 5").expect("a key");
        assert!(guard.touch(&key, Some(NOW_MS + 1)).expect("there is room"));
    }
    let count = |guard: &mut Guard<'_>| {
        let key = guard.key(b"counter").expect("a key");
        let initial = Initial {
            value: 40,
            expires_at_ms: None,
        };
        match guard.arithmetic(&key, Arithmetic::Increment(1), Some(initial)) {
            Ok(Counter::Value { value, .. }) => value,
            other => panic!("{other:?}"),
        }
    };
    for number in 40..50 {
        assert_eq!(count(&mut of[0].pin(NOW_MS)), number);
    }
    let (cache, mut of, receipt) = recovered(dead(cache, of, &config), &config);
    assert!(receipt.large_bytes > 18 * 20_000);
    assert_eq!(receipt.large_bytes, cache.stats().large_bytes);
    {
        let guard = of[1].pin(NOW_MS);
        for number in (0..20).filter(|number| ![3, 4].contains(number)) {
            assert_eq!(
                value(&guard, &format!("large {number}")),
                Some(large(number))
            );
        }
        assert_eq!(value(&guard, "large 3").as_deref(), Some(&b"small"[..]));
        assert_eq!(value(&guard, "large 4"), None);
    }
    assert_eq!(count(&mut of[0].pin(NOW_MS)), 50);
    // All can go, and leaves nothing behind.
    for number in 0..20 {
        let name = format!("large {number}");
        let mut guard = of[0].pin(NOW_MS);
        let key = guard.key(name.as_bytes()).expect("a key");
        let _ = guard.delete(&key, None);
    }
    assert_eq!(of[1].verify(), Ok(()));
    assert_eq!(cache.stats().large_bytes, 0);
}

#[test]
fn marks_of_leases_and_access_times_survive() {
    let mut config = config(4 << 20);
    config.access_times = AccessTimes::Kept;
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    for name in ["stale", "read", "leased"] {
        set(&mut of[0].pin(NOW_MS), name, &Entry::of(b"value"));
    }
    let terms = |until_ms| Terms {
        placeholder_until_ms: until_ms,
        ..Terms::default()
    };
    let lease = |guard: &mut Guard<'_>, name: &str, until_ms| {
        let key = guard.key(name.as_bytes()).expect("a key");
        let leased = guard
            .get_or_lease(&key, &terms(until_ms))
            .expect("there is room");
        (leased.lease, leased.freshness, leased.read_at_ms)
    };
    {
        let mut guard = of[0].pin(NOW_MS);
        for name in ["stale", "leased"] {
            let key = guard.key(name.as_bytes()).expect("a key");
            let marked = guard.invalidate(&key, &Invalidation::default());
            assert!(matches!(marked, Ok(Invalidated::Marked { .. })));
        }
        assert_eq!(lease(&mut guard, "leased", None).0, Lease::Won);
        assert_eq!(lease(&mut guard, "absent", Some(NOW_MS + 9)).0, Lease::Won);
        guard.set_now(NOW_MS + 5000);
        assert!(value(&guard, "read").is_some());
    }
    let (_, mut of, _) = recovered(dead(cache, of, &config), &config);
    let mut guard = of[1].pin(NOW_MS + 5);
    assert_eq!(
        lease(&mut guard, "absent", Some(NOW_MS + 99)).0,
        Lease::Taken
    );
    let (won, freshness, _) = lease(&mut guard, "leased", None);
    assert_eq!((won, freshness), (Lease::Taken, Freshness::Stale));
    let (won, freshness, _) = lease(&mut guard, "stale", None);
    assert_eq!((won, freshness), (Lease::Won, Freshness::Stale));
    assert_eq!(lease(&mut guard, "read", None).2, Some(NOW_MS + 5000));
}

#[test]
fn flushes_are_kept_also_one_for_later() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    set(&mut of[0].pin(NOW_MS), "before", &Entry::of(b"1"));
    of[0].pin(NOW_MS).flush(None);
    set(&mut of[0].pin(NOW_MS), "after", &Entry::of(b"2"));
    of[0].pin(NOW_MS).flush(Some(NOW_MS + 100));
    let (_, mut of, _) = recovered(dead(cache, of, &config), &config);
    {
        let guard = of[0].pin(NOW_MS);
        assert_eq!(value(&guard, "before"), None);
        assert!(value(&guard, "after").is_some());
    }
    assert_eq!(value(&of[0].pin(NOW_MS + 100), "after"), None);
}

#[test]
fn a_cache_that_was_full_goes_on_evicting_and_cleaning() {
    let config = config(2 << 20);
    let mut memory = None;
    for round in 0..4 {
        let (cache, mut of) = match memory.take() {
            None => {
                let cache = Cache::new(config.clone()).expect("a cache");
                let of = sessions(&cache);
                (cache, of)
            }
            Some(memory) => {
                let (cache, of, receipt) = recovered(memory, &config);
                assert!(receipt.items > 2000, "{receipt:#?}");
                (cache, of)
            }
        };
        for number in 0..20_000_usize {
            // Two of three overwrite.
            let name = match number % 3 {
                0 => format!("cold {}", number % 7000 + round * 100),
                _ => format!("hot {}", number * 7919 % 3000),
            };
            let stored = vec![3; number % 400];
            let session = &mut of[number % 2];
            set(&mut session.pin(NOW_MS), &name, &Entry::of(&stored));
            assert!(value(&session.pin(NOW_MS), &name).is_some());
        }
        let stats = cache.stats();
        assert!(
            stats.evicted > 1000 && stats.segments_cleaned > 10,
            "{stats:#?}"
        );
        memory = Some(dead(cache, of, &config));
    }
}

#[test]
fn what_is_kept_does_not_depend_on_how_many_threads_there_are() {
    let config = config(4 << 20);
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    for number in 0..9000_usize {
        let name = format!("key {}", number * 7919 % 4000);
        let value = vec![number as u8; if number % 50 == 0 { 9000 } else { number % 300 }];
        set(&mut of[number % 2].pin(NOW_MS), &name, &Entry::of(&value));
    }
    // Words that lead elsewhere, the same for all: what is dropped is dropped by every number.
    let memory = || {
        let memory = as_it_is(&cache, &config);
        let file = std::fs::File::from(memory);
        let bytes = file.metadata().expect("a size").len();
        for at in (1..400).map(|part| (bytes / 400 * part) & !7) {
            let word = (at * 0x9e37_79b9).to_le_bytes();
            file.write_all_at(&word, at).expect("it can be written");
        }
        std::os::fd::OwnedFd::from(file)
    };
    let recovered = |threads: usize, proof: Proof| {
        let hands = |work: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                (0..threads).for_each(|_| drop(scope.spawn(work)));
            });
        };
        let recovered = Cache::recover_with(memory(), &config, proof, &hands);
        let (cache, receipt) = recovered.expect("the header is whole");
        let mut session = cache.session().expect("a session");
        // What was written over is found out later where lengths alone are proved.
        if proof == Proof::Contents {
            assert_eq!(session.verify(), Ok(()), "{receipt:#?}");
        }
        let mut items = Vec::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = session.pin(NOW_MS).scan(at, 100, |item| {
                items.push((item.key().to_vec(), item.version()));
            });
        }
        (receipt, items)
    };
    for proof in [Proof::Contents, Proof::Lengths] {
        let alone = recovered(1, proof);
        assert!(
            alone.0.dropped.total() > 0 && alone.0.items > 1000,
            "{:#?}",
            alone.0
        );
        // Whoever lends no thread at all has none but its own.
        for threads in [0, 2, 3, 8] {
            assert!(recovered(threads, proof) == alone, "{threads} threads");
        }
    }
}
