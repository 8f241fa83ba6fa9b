//! Items that are served although they are out of date.

use larder::Freshness::{Fresh, Stale};
use larder::Lease::{self, Taken, Won};
use larder::{
    Arithmetic, Counter, Guard, Invalidated, Invalidation, Key, Mode, NewExpiry, OldValue, Outcome,
    Terms,
};

use super::{
    FILL, LOOK, NOW_MS, STALE, entry, invalidate, marked, put, read, session, set, store, told,
    value, version_of, with_key,
};

#[test]
fn a_stale_item_is_served_and_renewed_by_one() {
    with_key(|guard, key| {
        let before = put(guard, key, &entry("old", 7, Some(NOW_MS + 100)));
        let version = marked(guard, key, &STALE);
        assert_ne!(before, version);
        let item = guard.get(key).expect("served all the same");
        assert_eq!((&item.value()[..], item.flags()), (&b"old"[..], 7));
        assert_eq!(item.version(), version);
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 100));

        let first = read(guard, key, &Terms::default());
        assert_eq!((first.lease, first.freshness), (Won, Stale));
        assert_eq!(first.item.expect("served").version(), version);
        assert_eq!(told(guard, key, &Terms::default()), (Taken, Stale));
        // A second invalidation has another caller renew it.
        marked(guard, key, &STALE);
        assert_eq!(told(guard, key, &FILL), (Won, Stale));
        assert_eq!(told(guard, key, &FILL), (Taken, Stale));
        let cas = Mode::CompareAndSet { version };
        assert_eq!(store(guard, key, cas, "outdated"), Outcome::Exists);
        set(guard, key, "new");
        assert_eq!(told(guard, key, &FILL), (Lease::None, Fresh));
    });
}

#[test]
fn every_store_of_a_value_ends_staleness_and_lease() {
    with_key(|guard, key| {
        for mode in [Mode::Set, Mode::Replace, Mode::CompareAndSet { version: 0 }] {
            set(guard, key, "1");
            let version = marked(guard, key, &STALE);
            assert_eq!(told(guard, key, &LOOK), (Won, Stale));
            let mode = match mode {
                Mode::CompareAndSet { .. } => Mode::CompareAndSet { version },
                mode => mode,
            };
            assert!(matches!(
                store(guard, key, mode, "2"),
                Outcome::Stored { .. }
            ));
            assert_eq!(told(guard, key, &LOOK), (Lease::None, Fresh), "{mode:?}");
        }
    });
}

#[test]
fn what_is_made_from_a_stale_value_is_stale_and_to_be_renewed_anew() {
    with_key(|guard, key| {
        let count = |guard: &mut Guard<'_>| {
            let counted = guard.arithmetic(key, Arithmetic::Increment(1), None);
            assert!(matches!(counted, Ok(Counter::Value { .. })));
        };
        let join = |mode| {
            move |guard: &mut Guard<'_>, key: &Key<'_>| {
                assert!(matches!(
                    store(guard, key, mode, "1"),
                    Outcome::Stored { .. }
                ));
            }
        };
        let (append, prepend) = (join(Mode::Append), join(Mode::Prepend));
        set(guard, key, "1");
        marked(guard, key, &STALE);
        // The first increment makes the number one that changes in place.
        for step in 0..4 {
            assert_eq!(told(guard, key, &LOOK), (Won, Stale), "step {step}");
            assert_eq!(told(guard, key, &LOOK), (Taken, Stale));
            match step {
                0 | 1 => count(guard),
                2 => append(guard, key),
                _ => prepend(guard, key),
            }
        }
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
        assert_eq!(value(guard, key).as_deref(), Some(&b"131"[..]));
    });
}

#[test]
fn a_touch_leaves_staleness_and_lease() {
    with_key(|guard, key| {
        set(guard, key, "value");
        marked(guard, key, &STALE);
        assert_eq!(guard.touch(key, Some(NOW_MS + 50)), Ok(true));
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
        assert_eq!(guard.touch(key, Some(NOW_MS + 70)), Ok(true));
        assert_eq!(told(guard, key, &LOOK), (Taken, Stale));
    });
}

#[test]
fn an_invalidation_may_change_the_expiry_and_ask_for_a_version() {
    with_key(|guard, key| {
        assert_eq!(invalidate(guard, key, &STALE), Invalidated::NotFound);
        let version = put(guard, key, &entry("old", 7, Some(NOW_MS + 5000)));
        let asked = Invalidation {
            version: Some(version + 1),
            expiry: NewExpiry::At(Some(NOW_MS + 10)),
            ..STALE
        };
        assert_eq!(invalidate(guard, key, &asked), Invalidated::Exists);
        assert_eq!(told(guard, key, &LOOK), (Lease::None, Fresh));
        let asked = Invalidation {
            version: Some(version),
            ..asked
        };
        let version = marked(guard, key, &asked);
        let item = guard.get(key).expect("served");
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 10));
        assert_eq!(item.version(), version);
        let never = Invalidation {
            expiry: NewExpiry::At(None),
            ..STALE
        };
        marked(guard, key, &never);
        assert_eq!(guard.get(key).expect("served").expires_at_ms(), None);
        guard.set_now(NOW_MS + 10);
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
    });
}

#[test]
fn a_value_can_be_dropped_and_its_item_kept() {
    with_key(|guard, key| {
        let before = put(guard, key, &entry("old", 7, Some(NOW_MS + 5000)));
        let dropped = Invalidation {
            value: OldValue::Dropped,
            ..STALE
        };
        let version = marked(guard, key, &dropped);
        assert_ne!(before, version);
        let item = guard.get(key).expect("an empty one");
        assert_eq!((item.value_bytes(), item.flags()), (0, 0));
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5000));
        assert!(!item.is_placeholder());
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
        // The same without the mark.
        set(guard, key, "old");
        let fresh = Invalidation {
            freshness: Fresh,
            ..dropped
        };
        marked(guard, key, &fresh);
        assert_eq!(value(guard, key).as_deref(), Some(&b""[..]));
        assert_eq!(told(guard, key, &LOOK), (Lease::None, Fresh));
    });
}

#[test]
fn a_large_value_is_served_stale_and_dropped() {
    let mut session = session();
    {
        let mut guard = session.pin(NOW_MS);
        let key = guard.key(b"k").expect("a key");
        let large = "x".repeat(100_000);
        set(&mut guard, &key, &large);
        marked(&mut guard, &key, &STALE);
        let leased = read(&mut guard, &key, &LOOK);
        assert_eq!((leased.lease, leased.freshness), (Won, Stale));
        assert!(
            leased
                .large
                .is_some_and(|value| value.value_bytes() == 100_000)
        );
        // Made from a stale one.
        let joined = store(&mut guard, &key, Mode::Append, &large);
        assert!(matches!(joined, Outcome::Stored { .. }));
        assert_eq!(told(&mut guard, &key, &LOOK), (Won, Stale));
        let dropped = Invalidation {
            value: OldValue::Dropped,
            ..STALE
        };
        marked(&mut guard, &key, &dropped);
        assert_eq!(value(&guard, &key).as_deref(), Some(&b""[..]));
    }
    assert_eq!(session.verify(), Ok(()));
}

#[test]
fn a_store_that_names_an_earlier_version_may_be_taken_as_stale() {
    with_key(|guard, key| {
        let stale = |version| Mode::CompareAndSetStale { version };
        assert_eq!(store(guard, key, stale(1), "x"), Outcome::NotFound);
        let first = set(guard, key, "first");
        let expires_at_ms = Some(NOW_MS + 100);
        let second = put(guard, key, &entry("second", 7, expires_at_ms));
        assert_eq!(told(guard, key, &LOOK), (Lease::None, Fresh));
        // Never given out.
        for version in [0, 1 << 60, u64::MAX] {
            assert_eq!(store(guard, key, stale(version), "x"), Outcome::Exists);
        }
        let third = entry("third", 9, Some(NOW_MS + 5000));
        let stored = guard.store(key, stale(first), &third);
        let Ok(Outcome::Stored { version }) = stored else {
            panic!("{stored:?}");
        };
        assert!(version != first && version != second);
        let item = guard.get(key).expect("stored");
        assert_eq!((&item.value()[..], item.flags()), (&b"third"[..], 9));
        assert_eq!(item.expires_at_ms(), expires_at_ms, "the old item's");
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
        // Whoever was told to renew it still is.
        assert!(matches!(
            store(guard, key, stale(first), "x"),
            Outcome::Stored { .. }
        ));
        assert_eq!(told(guard, key, &LOOK), (Taken, Stale));
        let current = version_of(guard, key);
        assert!(matches!(
            store(guard, key, stale(current), "x"),
            Outcome::Stored { .. }
        ));
        assert_eq!(told(guard, key, &LOOK), (Lease::None, Fresh));
    });
}
