//! What recovery has not proved is proved when it is read, and by maintenance.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use larder::{Cache, Config, Entry, Guard, Mode, Outcome, Proof, Session, Side};

use super::{NOW_MS, as_it_is, config, recovered, sessions};

const KEYS: usize = 3000;

fn value(number: usize) -> Vec<u8> {
    let mut value = format!("<value {number}>").into_bytes();
    value.resize(60 + number % 200, b'.');
    value
}

fn set(guard: &mut Guard<'_>, number: usize) {
    let name = format!("key {number}");
    let key = guard.key(name.as_bytes()).expect("a key");
    let stored = guard.store(&key, Mode::Set, &Entry::of(&value(number)));
    assert!(matches!(stored, Ok(Outcome::Stored { .. })));
}

fn get(guard: &Guard<'_>, number: usize) -> Option<Vec<u8>> {
    let name = format!("key {number}");
    let key = guard.key(name.as_bytes()).expect("a key");
    guard.get(&key).map(|item| item.value().into_owned())
}

/// A memory in which a byte of the values of these keys was changed.
fn damaged(config: &Config, numbers: &[usize]) -> OwnedFd {
    let cache = Cache::new(config.clone()).expect("a cache");
    let mut of = sessions(&cache);
    (0..KEYS).for_each(|number| set(&mut of[number % 2].pin(NOW_MS), number));
    assert_eq!(cache.stats().evicted, 0);
    let texts = numbers.iter().map(|number| format!("<value {number}>"));
    changed(as_it_is(&cache, config), texts)
}

/// The memory with the first byte of each of these texts changed.
fn changed(memory: OwnedFd, texts: impl Iterator<Item = String>) -> OwnedFd {
    let file = File::from(memory);
    let mut bytes = vec![0; file.metadata().expect("a size").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("it can be read");
    let starts: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] == b'<').collect();
    for text in texts {
        let at = (starts.iter()).find(|&&at| bytes[at..].starts_with(text.as_bytes()));
        let at = *at.expect("it is there") as u64;
        file.write_all_at(b"(", at).expect("it can be written");
    }
    file.into()
}

const LARGE: usize = 4;

/// A value of many segments, with a text somewhere in it.
fn large(number: usize) -> Vec<u8> {
    let mut value = vec![b'.'; 150_000 + number];
    let text = format!("<large {number}>").into_bytes();
    value[100_000..100_000 + text.len()].copy_from_slice(&text);
    value
}

/// A memory with large values, in which a byte of these was changed.
fn damaged_large(config: &Config, numbers: &[usize]) -> OwnedFd {
    let cache = Cache::new(config.clone()).expect("a cache");
    let [mut session, _other] = sessions(&cache);
    for number in 0..LARGE {
        let mut guard = session.pin(NOW_MS);
        let name = format!("key {number}");
        let key = guard.key(name.as_bytes()).expect("a key");
        let stored = guard.store(&key, Mode::Set, &Entry::of(&large(number)));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })));
    }
    let texts = numbers.iter().map(|number| format!("<large {number}>"));
    changed(as_it_is(&cache, config), texts)
}

/// The same, recovered with nothing but lengths proved.
fn unproven(config: &Config, numbers: &[usize]) -> (Cache, [Session; 2]) {
    let recovered = Cache::recover(damaged(config, numbers), config, Proof::Lengths);
    let (cache, receipt) = recovered.expect("the memory is whole");
    assert_eq!((receipt.items, receipt.dropped.total()), (KEYS as u64, 0));
    assert!(cache.stats().segments_unproven > 10);
    let of = sessions(&cache);
    (cache, of)
}

/// Maintains until all is proved; the clock goes on a little each time.
fn scrub(cache: &Cache, session: &mut Session) {
    for step in 0..10_000 {
        if cache.stats().segments_unproven == 0 {
            return;
        }
        let _ = session.maintain(NOW_MS + step);
    }
    panic!("{:#?}", cache.stats());
}

#[test]
fn a_read_of_what_is_damaged_is_a_miss_and_removes_it() {
    let config = config(4 << 20);
    let bad = [3, 500, 2999];
    let (cache, mut of) = unproven(&config, &bad);
    for number in 0..KEYS {
        let guard = of[0].pin(NOW_MS);
        let expected = (!bad.contains(&number)).then(|| value(number));
        assert_eq!(get(&guard, number), expected, "{number}");
    }
    let stats = cache.stats();
    assert_eq!((stats.damaged, stats.get_misses), (3, 3));
    assert_eq!(stats.items, KEYS as u64 - 3);
    // They are gone: nobody has to compare them again.
    assert_eq!(get(&of[1].pin(NOW_MS), 500), None);
    assert_eq!(cache.stats().damaged, 3);
    assert_eq!(of[1].verify(), Ok(()));
}

#[test]
fn writes_take_what_is_damaged_for_absent() {
    let config = config(4 << 20);
    let (cache, mut of) = unproven(&config, &[1, 2, 3, 4]);
    let mut guard = of[0].pin(NOW_MS);
    let key = guard.key(b"key 1").expect("a key");
    let joined = guard.join(&key, Side::Back, &Entry::of(b"more"), None);
    assert!(matches!(joined, Ok((Outcome::NotStored, _))));
    let key = guard.key(b"key 2").expect("a key");
    assert!(!guard.touch(&key, Some(NOW_MS + 9)).expect("there is room"));
    let key = guard.key(b"key 3").expect("a key");
    let added = guard.store(&key, Mode::Add, &Entry::of(b"new"));
    assert!(matches!(added, Ok(Outcome::Stored { .. })));
    assert_eq!(get(&guard, 3).as_deref(), Some(&b"new"[..]));
    set(&mut guard, 4);
    assert_eq!(get(&guard, 4), Some(value(4)));
    drop(guard);
    scrub(&cache, &mut of[1]);
    assert_eq!(cache.stats().damaged, 2);
    assert_eq!(of[1].verify(), Ok(()));
}

#[test]
fn maintenance_finds_what_nobody_reads_and_then_it_is_over() {
    let config = config(4 << 20);
    let bad: Vec<_> = (0..KEYS).step_by(100).collect();
    let (cache, mut of) = unproven(&config, &bad);
    let live_bytes = cache.stats().live_bytes;
    scrub(&cache, &mut of[0]);
    let stats = cache.stats();
    assert_eq!(stats.damaged, bad.len() as u64);
    assert_eq!(stats.items, (KEYS - bad.len()) as u64);
    assert!(stats.scrubbed_bytes >= live_bytes && stats.live_bytes < live_bytes);
    assert_eq!(of[1].verify(), Ok(()));
    let guard = of[0].pin(NOW_MS);
    for number in 0..KEYS {
        let expected = (!bad.contains(&number)).then(|| value(number));
        assert_eq!(get(&guard, number), expected, "{number}");
    }
    drop(guard);
    let scrubbed_bytes = stats.scrubbed_bytes;
    let _ = of[0].maintain(NOW_MS + 1_000_000);
    assert_eq!(cache.stats().scrubbed_bytes, scrubbed_bytes);
    // Nobody has proved it for the next one.
    let memory = as_it_is(&cache, &config);
    let (next, _) = Cache::recover(memory, &config, Proof::Lengths).expect("it is whole");
    assert!(next.stats().segments_unproven > 10);
}

#[test]
fn upkeep_moves_nothing_that_is_damaged() {
    let config = config(2 << 20);
    let bad: Vec<_> = (0..KEYS).step_by(10).collect();
    let (cache, mut of) = unproven(&config, &bad);
    // Everything that was there is evicted, cleaned or overwritten, and what was read moves on.
    for number in 0..60_000 {
        let session = &mut of[number % 2];
        set(&mut session.pin(NOW_MS), KEYS + number % 12_000);
        let guard = session.pin(NOW_MS);
        for number in [number * 7919 % KEYS, KEYS + number * 31 % 12_000] {
            let found = get(&guard, number);
            assert!(found.is_none_or(|found| found == value(number)), "{number}");
        }
    }
    let stats = cache.stats();
    assert!(stats.evicted > 1000 && stats.damaged > 10, "{stats:#?}");
    scrub(&cache, &mut of[0]);
    assert_eq!(of[1].verify(), Ok(()));
}

#[test]
fn where_contents_are_proved_at_once_nothing_is_left_to_be_scrubbed() {
    let config = config(4 << 20);
    let (cache, mut of, receipt) = recovered(damaged(&config, &[7, 8]), &config);
    assert_eq!(receipt.dropped.contents, 2);
    let _ = of[0].maintain(NOW_MS);
    let stats = cache.stats();
    assert_eq!((stats.segments_unproven, stats.scrubbed_bytes), (0, 0));
}

#[test]
fn the_bytes_of_large_values_are_compared_as_well() {
    let config = config(4 << 20);
    let bad = [1, 3];
    let expected = |number| (!bad.contains(&number)).then(|| large(number));
    let whole = (0..LARGE).filter(|number| !bad.contains(number)).count() as u64;
    let recover = || {
        let memory = damaged_large(&config, &bad);
        let (cache, receipt) =
            Cache::recover(memory, &config, Proof::Lengths).expect("it is whole");
        assert_eq!((receipt.items, receipt.dropped.total()), (LARGE as u64, 0));
        let of = sessions(&cache);
        (cache, of)
    };
    // By who reads them,
    let (cache, mut of) = recover();
    for number in 0..LARGE {
        assert_eq!(
            get(&of[0].pin(NOW_MS), number),
            expected(number),
            "{number}"
        );
    }
    assert_eq!((cache.stats().damaged, cache.stats().items), (2, whole));
    assert_eq!(of[1].verify(), Ok(()));
    // by maintenance, in steps of a bounded length,
    let (cache, mut of) = recover();
    let (mut steps, mut before) = (0, 0);
    while cache.stats().segments_unproven > 0 {
        let _ = of[0].maintain(NOW_MS + steps);
        let scrubbed_bytes = cache.stats().scrubbed_bytes;
        let at_most = cache.stats().segment_bytes + large(LARGE).len() as u64;
        assert!(scrubbed_bytes - before <= at_most, "{scrubbed_bytes}");
        (before, steps) = (scrubbed_bytes, steps + 1);
        assert!(steps < 10_000, "{:#?}", cache.stats());
    }
    let stats = cache.stats();
    assert!(stats.scrubbed_bytes > (0..LARGE).map(|number| large(number).len() as u64).sum());
    assert_eq!((stats.damaged, stats.items), (2, whole));
    assert_eq!(of[1].verify(), Ok(()));
    // and by recovery, where it is asked for.
    let (cache, mut of, receipt) = recovered(damaged_large(&config, &bad), &config);
    assert_eq!((receipt.dropped.contents, receipt.items), (2, whole));
    for number in 0..LARGE {
        assert_eq!(
            get(&of[0].pin(NOW_MS), number),
            expected(number),
            "{number}"
        );
    }
    assert_eq!(cache.stats().segments_unproven, 0);
}
