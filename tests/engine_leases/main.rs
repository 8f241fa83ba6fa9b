//! Leases, stale items and placeholders, one claim at a time. Time is an argument, so nothing waits.

mod keeping;
mod placeholders;
mod stale;

use larder::{
    Cache, Config, Entry, Freshness, Guard, Invalidated, Invalidation, Key, Lease, Leased, Mode,
    NewExpiry, OldValue, Outcome, Reading, Session, Terms,
};

const NOW_MS: u64 = 1_000_000;

fn session() -> Session {
    let cache = Cache::new(Config::new(4 << 20)).expect("4 MiB are accepted");
    cache.session().expect("a session is free")
}

/// Runs `test` on a fresh cache, at `NOW_MS`, with the key `k`; and checks the cache after it.
fn with_key(test: impl FnOnce(&mut Guard<'_>, &Key<'_>)) {
    let mut session = session();
    {
        let mut guard = session.pin(NOW_MS);
        let key = guard.key(b"k").expect("a key");
        test(&mut guard, &key);
    }
    assert_eq!(session.verify(), Ok(()));
}

fn entry(value: &str, flags: u32, expires_at_ms: Option<u64>) -> Entry<'_> {
    Entry {
        flags,
        expires_at_ms,
        ..Entry::of(value.as_bytes())
    }
}

#[track_caller]
fn store(guard: &mut Guard<'_>, key: &Key<'_>, mode: Mode, value: &str) -> Outcome {
    let stored = guard.store(key, mode, &Entry::of(value.as_bytes()));
    stored.expect("there is memory")
}

/// Stores, and gives the version.
#[track_caller]
fn put(guard: &mut Guard<'_>, key: &Key<'_>, entry: &Entry<'_>) -> u64 {
    match guard.store(key, Mode::Set, entry).expect("there is memory") {
        Outcome::Stored { version } => version,
        outcome => panic!("{outcome:?}"),
    }
}

#[track_caller]
fn set(guard: &mut Guard<'_>, key: &Key<'_>, value: &str) -> u64 {
    put(guard, key, &Entry::of(value.as_bytes()))
}

/// Leave a placeholder for a second.
const FILL: Terms = Terms {
    placeholder_until_ms: Some(NOW_MS + 1000),
    refresh_below_ms: None,
    expiry: NewExpiry::Kept,
    reading: Reading::Counts,
    new_version: None,
};

/// Only look.
const LOOK: Terms = Terms {
    placeholder_until_ms: None,
    reading: Reading::Passes,
    ..FILL
};

const STALE: Invalidation = Invalidation {
    version: None,
    expiry: NewExpiry::Kept,
    value: OldValue::Kept,
    freshness: Freshness::Stale,
    new_version: None,
};

#[track_caller]
fn read<'g>(guard: &'g mut Guard<'_>, key: &Key<'_>, terms: &Terms) -> Leased<'g> {
    guard.get_or_lease(key, terms).expect("there is memory")
}

/// What a read on terms says beside the item.
#[track_caller]
fn told(guard: &mut Guard<'_>, key: &Key<'_>, terms: &Terms) -> (Lease, Freshness) {
    let leased = read(guard, key, terms);
    (leased.lease, leased.freshness)
}

#[track_caller]
fn version_of(guard: &mut Guard<'_>, key: &Key<'_>) -> u64 {
    read(guard, key, &LOOK).item.expect("it is there").version()
}

#[track_caller]
fn invalidate(guard: &mut Guard<'_>, key: &Key<'_>, how: &Invalidation) -> Invalidated {
    guard.invalidate(key, how).expect("there is memory")
}

#[track_caller]
fn marked(guard: &mut Guard<'_>, key: &Key<'_>, how: &Invalidation) -> u64 {
    match invalidate(guard, key, how) {
        Invalidated::Marked { version } => version,
        other => panic!("{other:?}"),
    }
}

fn value(guard: &Guard<'_>, key: &Key<'_>) -> Option<Vec<u8>> {
    guard.get(key).map(|item| item.value().to_vec())
}
