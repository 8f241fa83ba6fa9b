//! What a cache accepts, how it refuses the rest, and that it keeps to its memory.

use std::collections::HashMap;

use larder::{
    Arithmetic, Cache, Config, ConfigError, Deletion, Entry, Guard, KeyError, Mode, Outcome,
    StoreError,
};

fn cache(memory_bytes: u64, key_bytes_max: u32) -> Cache {
    let mut config = Config::new(memory_bytes);
    config.key_bytes_max = key_bytes_max;
    Cache::new(config).expect("the configuration is accepted")
}

fn set(guard: &mut Guard<'_>, name: &[u8], value: &[u8]) -> Result<Outcome, StoreError> {
    let key = guard.key(name).expect("a key");
    guard.store(&key, Mode::Set, &Entry::of(value))
}

#[test]
fn keys_of_every_accepted_length_are_told_apart() {
    let cache = cache(256 << 20, 65_536);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let names: Vec<_> = [1, 250, 255, 256, 257, 65_535, 65_536]
        .into_iter()
        .flat_map(|bytes| [0, 255].map(|byte| vec![byte; bytes]))
        .collect();
    for (at, name) in names.iter().enumerate() {
        let stored = set(&mut guard, name, at.to_string().as_bytes());
        assert!(matches!(stored, Ok(Outcome::Stored { .. })));
    }
    for (at, name) in names.iter().enumerate() {
        let key = guard.key(name).expect("a key");
        let item = guard.get(&key).expect("stored");
        assert_eq!(item.key(), name);
        assert_eq!(item.value(), at.to_string().as_bytes());
    }
}

#[test]
fn a_key_that_is_empty_or_too_long_is_refused_with_the_limit() {
    let cache = cache(2 << 20, 250);
    assert_eq!(cache.key(b"").unwrap_err(), KeyError::Empty);
    assert!(cache.key(&[b'k'; 250]).is_ok());
    let refused = cache.key(&[b'k'; 251]).unwrap_err();
    let limit = KeyError::TooLong {
        key_bytes: 251,
        key_bytes_max: 250,
    };
    assert_eq!(refused, limit);
    let sentence = refused.to_string();
    assert!(
        sentence.contains("251") && sentence.contains("250"),
        "{sentence}"
    );
}

#[test]
fn an_empty_value_is_a_value() {
    let cache = cache(2 << 20, 250);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    assert!(set(&mut guard, b"k", b"").is_ok());
    let key = guard.key(b"k").expect("a key");
    assert_eq!(
        guard.get(&key).map(|item| item.value()),
        Some(b""[..].into())
    );
    let appended = guard.store(&key, Mode::Append, &Entry::of(b""));
    assert!(matches!(appended, Ok(Outcome::Stored { .. })));
    assert_eq!(
        guard.get(&key).map(|item| item.value()),
        Some(b""[..].into())
    );
}

#[test]
fn a_value_of_the_announced_size_fits_with_the_longest_key_and_all_fields() {
    let cache = cache(2 << 20, 250);
    let limits = cache.limits();
    assert_eq!(limits.key_bytes_max, 250);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let key = guard.key(&[b'k'; 250]).expect("a key");
    let value: Vec<_> = (0..limits.value_bytes_max).map(|at| at as u8).collect();
    let entry = Entry {
        value: &value,
        flags: u32::MAX,
        expires_at_ms: Some(u64::MAX),
        new_version: Some(u64::MAX),
    };
    let stored = guard.store(&key, Mode::Set, &entry);
    assert!(matches!(stored, Ok(Outcome::Stored { .. })));
    assert_eq!(
        guard.get(&key).map(|item| item.value()),
        Some(value[..].into())
    );
}

#[test]
fn a_value_that_is_too_large_is_refused_with_what_fits_and_what_is_there_stays() {
    let cache = cache(2 << 20, 250);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    assert!(set(&mut guard, b"k", b"small").is_ok());
    let refused = set(&mut guard, b"k", &vec![0; 1 << 20]).unwrap_err();
    let StoreError::TooLarge {
        value_bytes: 1_048_576,
        value_bytes_max,
    } = refused
    else {
        panic!("{refused}");
    };
    let sentence = refused.to_string();
    assert!(
        sentence.contains(&value_bytes_max.to_string()),
        "{sentence}"
    );
    let key = guard.key(b"k").expect("a key");
    assert_eq!(
        guard.get(&key).map(|item| item.value()),
        Some(b"small"[..].into())
    );

    let largest = vec![7; value_bytes_max as usize];
    assert!(
        set(&mut guard, b"k", &largest).is_ok(),
        "what is said to fit does"
    );
    let refused = guard.store(&key, Mode::Append, &Entry::of(b"123456789"));
    let too_large = StoreError::TooLarge {
        value_bytes: value_bytes_max + 9,
        value_bytes_max,
    };
    assert_eq!(refused, Err(too_large));
    assert_eq!(
        guard.get(&key).map(|item| item.value()),
        Some(largest[..].into())
    );
}

#[test]
fn a_limit_of_values_holds_for_short_ones_too() {
    let mut config = Config::new(4 << 20);
    config.value_bytes_max = Some(100);
    let cache = Cache::new(config).expect("the configuration is accepted");
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let too_large = |value_bytes| {
        Err(StoreError::TooLarge {
            value_bytes,
            value_bytes_max: 100,
        })
    };
    assert!(set(&mut guard, b"k", &[1; 100]).is_ok());
    assert_eq!(set(&mut guard, b"k", &[1; 101]), too_large(101));
    let key = guard.key(b"k").expect("a key");
    let appended = guard.store(&key, Mode::Append, &Entry::of(b"1"));
    assert_eq!(appended, too_large(101));
    assert_eq!(cache.stats().too_large, 2);
}

#[test]
fn the_longest_value_fits_with_the_longest_key_in_the_smallest_segments() {
    for memory_bytes in [2 << 20, 16 << 20] {
        for sessions_max in [1, 32] {
            let mut config = Config::new(memory_bytes);
            config.sessions_max = sessions_max;
            config.key_bytes_max = 4096;
            let cache = Cache::new(config).expect("the configuration is accepted");
            let mut session = cache.session().expect("a session is free");
            let mut guard = session.pin(0);
            let key = guard.key(&[b'k'; 4096]).expect("a key");
            let entry = Entry {
                value: &vec![1; cache.limits().value_bytes_max as usize],
                flags: 1,
                expires_at_ms: Some(u64::MAX),
                new_version: Some(1),
            };
            let stored = guard.store(&key, Mode::Set, &entry);
            assert_eq!(stored, Ok(Outcome::Stored { version: 1 }));
        }
    }
}

#[test]
#[should_panic(expected = "a draft of another cache")]
fn a_draft_of_another_cache_is_not_stored() {
    let caches = [(); 2].map(|()| cache(8 << 20, 250));
    let mut sessions = caches.each_ref().map(|cache| cache.session().unwrap());
    let [one, other] = &mut sessions;
    let mut draft = one.pin(0).begin_large(100_000).expect("there is memory");
    let _ = other.pin(0).extend_large(&mut draft);
}

#[test]
#[should_panic(expected = "an item of another cache")]
fn an_item_of_another_cache_is_not_held() {
    let caches = [(); 2].map(|()| cache(8 << 20, 250));
    let mut sessions = caches.each_ref().map(|cache| cache.session().unwrap());
    let [one, other] = &mut sessions;
    assert!(set(&mut one.pin(0), b"k", &[0; 100_000]).is_ok());
    let guard = one.pin(0);
    let item = guard.get(&guard.key(b"k").expect("a key")).expect("there");
    let _ = other.pin(0).hold(&item);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_what_can() {
    for memory_bytes in [0, 1 << 20, 5 << 40, u64::MAX] {
        let refused = Cache::new(Config::new(memory_bytes)).unwrap_err();
        assert!(matches!(refused, ConfigError::Memory { .. }));
        assert!(refused.to_string().contains("2 MiB"), "{refused}");
    }
    let mut config = Config::new(2 << 20);
    config.sessions_max = 0;
    assert!(matches!(
        Cache::new(config),
        Err(ConfigError::Sessions { .. })
    ));
}

#[test]
fn sessions_beyond_the_limit_are_refused_until_one_ends() {
    let mut config = Config::new(2 << 20);
    config.sessions_max = 2;
    let cache = Cache::new(config).expect("the configuration is accepted");
    let first = cache.session().expect("the first");
    let _second = cache.session().expect("the second");
    let refused = cache.session().expect_err("there may be two");
    assert_eq!(refused.sessions_max, 2);
    drop(first);
    assert!(cache.session().is_ok());
}

#[test]
fn a_scan_visits_every_key_that_lives_through_it_though_the_index_grows() {
    let cache = cache(32 << 20, 250);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(0);
    let name = |n: u32| n.to_be_bytes();
    for n in 0..5000 {
        assert!(set(&mut guard, &name(n), b"old").is_ok());
    }
    let buckets = cache.stats().buckets;
    let mut visits: HashMap<Vec<u8>, u32> = HashMap::new();
    let (mut cursor, mut next) = (Some(0), 5000);
    while let Some(at) = cursor {
        cursor = guard.scan(at, 100, |item| {
            *visits.entry(item.key().to_vec()).or_default() += 1
        });
        for _ in 0..50 {
            assert!(set(&mut guard, &name(next), b"new").is_ok());
            next += 1;
        }
        let overwritten = name(next % 5000);
        assert!(set(&mut guard, &overwritten, b"overwritten").is_ok());
    }
    assert!(cache.stats().buckets > buckets, "the index grew meanwhile");
    assert_eq!(cache.stats().evicted, 0);
    let missed = (0..5000).filter(|&n| !visits.contains_key(&name(n)[..]));
    assert_eq!(missed.collect::<Vec<_>>(), Vec::<u32>::new());
}

#[test]
fn a_scan_may_ask_for_everything_at_once() {
    let cache = cache(2 << 20, 250);
    let mut session = cache.session().expect("a session is free");
    assert!(set(&mut session.pin(0), b"k", b"v").is_ok());
    let mut visited = 0;
    assert_eq!(session.pin(0).scan(0, usize::MAX, |_| visited += 1), None);
    assert_eq!(visited, 1);
}

#[test]
fn a_scan_of_an_empty_cache_ends() {
    let cache = cache(2 << 20, 250);
    let mut session = cache.session().expect("a session is free");
    let guard = session.pin(0);
    let mut cursor = Some(0);
    while let Some(at) = cursor {
        cursor = guard.scan(at, 0, |item| panic!("{item:?}"));
        assert!(cursor.is_none_or(|cursor| cursor > at), "a scan goes on");
    }
    assert_eq!(guard.scan(u64::MAX, 10, |item| panic!("{item:?}")), None);
}

#[test]
fn whatever_is_stored_the_memory_is_not_exceeded_and_none_is_lost() {
    for value_bytes in [0, 100, 1000, 16_000] {
        let cache = cache(4 << 20, 250);
        for round in 0..2_u64 {
            let mut session = cache.session().expect("a session is free");
            let value = vec![1; value_bytes];
            for n in 0..(12 << 20) / (value_bytes as u64 + 100) {
                let name = (round << 32 | n).to_be_bytes();
                let stored = set(&mut session.pin(0), &name, &value);
                assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
            }
            assert_eq!(session.verify(), Ok(()));
            drop(session);
            let stats = cache.stats();
            // Live items fill the segments but for the reserve, what is on its way, and the bytes
            // at each segment's end for which the next item was too long.
            let segments = stats.memory_bytes - stats.index_bytes - stats.ghost_bytes;
            let usable = segments - 24 * stats.segment_bytes;
            let is_large = value_bytes > cache.limits().inline_bytes_max as usize;
            let (item_bytes, held_bytes) = match is_large {
                true => (value_bytes as u64, stats.items * value_bytes as u64),
                false => (
                    (value_bytes as u64 + 24).next_multiple_of(8),
                    stats.live_bytes,
                ),
            };
            let per_segment = stats.segment_bytes / item_bytes;
            let share = (per_segment * item_bytes) as f64 / stats.segment_bytes as f64;
            let least = usable as f64 * share * 0.9;
            assert!(
                held_bytes as f64 > least,
                "{value_bytes}: {least} of {stats:#?}"
            );
        }
    }
}

#[test]
fn what_is_deleted_gives_its_memory_back() {
    let cache = cache(4 << 20, 250);
    for _ in 0..20 {
        let mut session = cache.session().expect("a session is free");
        for n in 0..2000_u32 {
            assert!(set(&mut session.pin(0), &n.to_be_bytes(), &[0; 1000]).is_ok());
        }
        for n in 0..2000_u32 {
            let mut guard = session.pin(0);
            let key = n.to_be_bytes();
            let key = guard.key(&key).expect("a key");
            assert_eq!(guard.delete(&key, None), Deletion::Deleted);
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.items, stats.evicted), (0, 0), "{stats:#?}");
    assert_eq!(
        (stats.live_bytes, stats.segments_sealed),
        (0, 0),
        "{stats:#?}"
    );
}

#[test]
fn a_reader_that_holds_on_to_all_memory_is_answered_with_no_space_and_nothing_changes() {
    let cache = cache(2 << 20, 250);
    let mut reader = cache.session().expect("a session is free");
    let mut writer = cache.session().expect("a session is free");
    assert!(set(&mut writer.pin(0), b"held", b"value").is_ok());
    let held = reader.pin(0);
    let key = held.key(b"held").expect("a key");
    let item = held.get(&key).expect("stored");
    let refused = (0..10_000_u32).find_map(|n| {
        let mut guard = writer.pin(0);
        let refused = set(&mut guard, &n.to_be_bytes(), &[0; 1000]).err()?;
        let name = n.to_be_bytes();
        let key = guard.key(&name).expect("a key");
        assert!(guard.get(&key).is_none());
        Some(refused)
    });
    assert_eq!(refused, Some(StoreError::NoSpace));
    let again = set(&mut writer.pin(0), b"k", &[0; 1000]);
    assert_eq!(again.map(|_| ()), Err(StoreError::NoSpace));
    assert_eq!(*item.value(), *b"value", "evicted, and yet as it was");
    assert!(cache.stats().no_space > 0);
    drop(held);
    assert!(set(&mut writer.pin(0), b"k", &[0; 1000]).is_ok());
}

/// Whether a key has an item. It is not read.
fn is_listed(guard: &Guard<'_>, name: &[u8]) -> bool {
    let (mut is_listed, mut cursor) = (false, Some(0));
    while let Some(from) = cursor {
        cursor = guard.scan(from, 100, |item| is_listed |= item.key() == name);
    }
    is_listed
}

#[test]
fn what_something_is_added_to_is_not_evicted_for_the_result() {
    for (mode, value_bytes, others) in [
        (Mode::Append, 400_000, 0..10),
        (Mode::Prepend, 120_000, 0..20),
    ] {
        let value = vec![1; value_bytes];
        let mut added_to = 0;
        for others in others {
            let cache = cache(2 << 20, 250);
            let mut session = cache.session().expect("a session is free");
            let mut guard = session.pin(0);
            for number in 0..=others {
                assert!(set(&mut guard, &u32::to_be_bytes(number), &value).is_ok());
            }
            if !is_listed(&guard, &[0; 4]) {
                continue;
            }
            added_to += 1;
            let key = guard.key(&[0; 4]).expect("a key");
            let stored = guard.store(&key, mode, &Entry::of(&[2; 100]));
            assert!(
                matches!(stored, Ok(Outcome::Stored { .. })),
                "{mode:?} to {value_bytes} bytes after {others} others: {stored:?}"
            );
        }
        assert!(added_to > 1);
    }
}

/// Mappings of this process that are arenas, by their bytes.
fn arenas() -> Vec<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a list of mappings");
    let arenas = maps.lines().filter(|line| line.contains("larder-arena"));
    let address = |text: &str| u64::from_str_radix(text, 16).expect("an address");
    let bytes = |line: &str| {
        let range = line.split_whitespace().next().expect("a range");
        let (start, end) = range.split_once('-').expect("two addresses");
        address(end) - address(start)
    };
    arenas.map(bytes).collect()
}

#[test]
fn a_dropped_cache_gives_all_its_memory_back() {
    // Of a size that no other test has.
    let cache = cache(3_500_000, 250);
    let mut session = cache.session().expect("a session is free");
    for n in 0..20_000_u32 {
        assert!(set(&mut session.pin(0), &n.to_be_bytes(), &[0; 500]).is_ok());
    }
    assert!(cache.stats().segments_evicted > 0);
    let is_own = |bytes: &u64| (5_900_000..6_000_000).contains(bytes);
    assert_eq!(
        arenas().into_iter().filter(is_own).count(),
        1,
        "{:?}",
        arenas()
    );
    drop(cache);
    assert_eq!(
        arenas().into_iter().filter(is_own).count(),
        1,
        "a session holds it"
    );
    drop(session);
    assert_eq!(arenas().into_iter().filter(is_own).count(), 0);
}

#[test]
fn figures_count_what_was_done() {
    let cache = cache(2 << 20, 250);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(10);
    let key = guard.key(b"k").expect("a key");
    assert!(guard.get(&key).is_none());
    assert!(set(&mut guard, b"k", b"1").is_ok());
    assert!(guard.get(&key).is_some());
    let by = Arithmetic::Increment(1);
    assert!(guard.arithmetic(&key, by, None).is_ok());
    assert_eq!(guard.touch(&key, Some(5)), Ok(true));
    assert!(guard.get(&key).is_none(), "expired");
    assert_eq!(guard.delete(&key, None), Deletion::NotFound);
    drop(guard);
    drop(session);
    let stats = cache.stats();
    assert_eq!(
        (stats.get_hits, stats.get_misses, stats.get_expired),
        (1, 2, 1)
    );
    assert_eq!(
        (stats.stored, stats.counter_hits, stats.touch_hits),
        (1, 1, 1)
    );
    assert_eq!((stats.delete_hits, stats.delete_misses), (0, 1));
    assert_eq!((stats.items, stats.live_bytes), (0, 0));
    let names: Vec<_> = stats.figures().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[0], "items");
}
