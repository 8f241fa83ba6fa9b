//! Who is told to store, and what stands in the place until then.

use larder::Freshness::{Fresh, Stale};
use larder::Lease::{self, Taken, Won};
use larder::{
    Arithmetic, Counter, Deletion, Guard, Initial, Invalidated, Mode, NewExpiry, Outcome,
    Placeholders, Terms,
};

use super::{
    FILL, LOOK, NOW_MS, STALE, entry, invalidate, marked, put, read, set, store, told, value,
    with_key,
};

#[test]
fn of_those_who_miss_one_is_told_to_store() {
    with_key(|guard, key| {
        let first = read(guard, key, &FILL);
        let placeholder = first.item.expect("a placeholder");
        assert_eq!((first.lease, first.freshness), (Won, Fresh));
        assert!(placeholder.is_placeholder());
        assert_eq!(placeholder.value_bytes(), 0);
        assert_eq!(placeholder.expires_at_ms(), Some(NOW_MS + 1000));
        for _ in 0..3 {
            let next = read(guard, key, &FILL);
            assert_eq!((next.lease, next.freshness), (Taken, Fresh));
            assert!(next.item.is_some_and(|item| item.is_placeholder()));
        }
        // Also on other terms.
        assert_eq!(told(guard, key, &LOOK), (Taken, Fresh));
        set(guard, key, "filled");
        assert_eq!(told(guard, key, &FILL), (Lease::None, Fresh));
        assert_eq!(value(guard, key).as_deref(), Some(&b"filled"[..]));
    });
}

#[test]
fn without_a_placeholder_a_miss_is_a_miss() {
    with_key(|guard, key| {
        let missed = read(guard, key, &LOOK);
        assert!(missed.item.is_none());
        assert_eq!(missed.lease, Lease::None);
        assert_eq!(told(guard, key, &FILL), (Won, Fresh));
    });
}

#[test]
fn a_placeholder_goes_with_its_time_and_the_next_one_wins() {
    with_key(|guard, key| {
        assert_eq!(told(guard, key, &FILL), (Won, Fresh));
        guard.set_now(NOW_MS + 999);
        assert_eq!(told(guard, key, &FILL), (Taken, Fresh));
        guard.set_now(NOW_MS + 1000);
        assert!(read(guard, key, &LOOK).item.is_none());
        let again = Terms {
            placeholder_until_ms: Some(NOW_MS + 5000),
            ..FILL
        };
        assert_eq!(told(guard, key, &again), (Won, Fresh));
        assert_eq!(told(guard, key, &FILL), (Taken, Fresh));
    });
}

#[test]
fn a_placeholder_that_never_expires_says_so() {
    with_key(|guard, key| {
        let terms = Terms {
            placeholder_until_ms: Some(u64::MAX),
            ..FILL
        };
        assert_eq!(told(guard, key, &terms), (Won, Fresh));
        guard.set_now(u64::MAX - 1);
        let leased = read(guard, key, &terms);
        let placeholder = leased.item.expect("for ever");
        assert_eq!(placeholder.expires_at_ms(), None);
        assert!(placeholder.is_placeholder());
    });
}

#[test]
fn the_version_of_the_placeholder_is_the_token_of_the_lease() {
    with_key(|guard, key| {
        let lease = |guard: &mut Guard<'_>| {
            let leased = read(guard, key, &FILL);
            assert_eq!(leased.lease, Won);
            leased.item.expect("a placeholder").version()
        };
        let fill = |guard: &mut Guard<'_>, version| {
            store(guard, key, Mode::CompareAndSet { version }, "filled")
        };
        let version = lease(guard);
        assert!(matches!(fill(guard, version), Outcome::Stored { .. }));
        assert_eq!(fill(guard, version), Outcome::Exists);

        // A delete takes the lease away, and what was to be stored would be out of date.
        assert_eq!(guard.delete(key, None), Deletion::Deleted);
        let version = lease(guard);
        assert_eq!(guard.delete(key, None), Deletion::NotFound);
        assert_eq!(fill(guard, version), Outcome::NotFound);

        // So does an invalidation, a flush, and another lease after the placeholder's time.
        let version = lease(guard);
        assert_eq!(invalidate(guard, key, &STALE), Invalidated::NotFound);
        assert_eq!(fill(guard, version), Outcome::NotFound);
        let version = lease(guard);
        guard.flush(None);
        assert_eq!(fill(guard, version), Outcome::NotFound);
        let version = lease(guard);
        guard.set_now(NOW_MS + 1000);
        let terms = Terms {
            placeholder_until_ms: Some(NOW_MS + 2000),
            ..FILL
        };
        assert_eq!(told(guard, key, &terms), (Won, Fresh));
        assert_eq!(fill(guard, version), Outcome::NotFound);
    });
}

#[test]
fn an_item_that_expires_soon_is_refreshed_by_one() {
    with_key(|guard, key| {
        let refresh = |ms| Terms {
            refresh_below_ms: Some(ms),
            ..FILL
        };
        put(guard, key, &entry("value", 7, Some(NOW_MS + 100)));
        assert_eq!(told(guard, key, &refresh(100)), (Lease::None, Fresh));
        let won = read(guard, key, &refresh(101));
        assert_eq!((won.lease, won.freshness), (Won, Fresh));
        let item = won.item.expect("it is there all the time");
        assert_eq!((&item.value()[..], item.flags()), (&b"value"[..], 7));
        assert_eq!(told(guard, key, &refresh(101)), (Taken, Fresh));
        assert_eq!(told(guard, key, &LOOK), (Taken, Fresh));
        // Whoever stores, for a longer time.
        put(guard, key, &entry("value", 7, Some(NOW_MS + 1000)));
        assert_eq!(told(guard, key, &refresh(101)), (Lease::None, Fresh));
        // What never expires is never due.
        set(guard, key, "value");
        assert_eq!(told(guard, key, &refresh(u64::MAX)), (Lease::None, Fresh));
    });
}

#[test]
fn a_lease_that_is_ended_goes_to_the_next() {
    with_key(|guard, key| {
        assert!(!guard.end_lease(key, 1));
        let version = read(guard, key, &FILL).item.expect("placed").version();
        assert!(!guard.end_lease(key, version + 1));
        assert_eq!(told(guard, key, &FILL), (Taken, Fresh));
        assert!(guard.end_lease(key, version));
        assert!(
            read(guard, key, &LOOK).item.is_none(),
            "the placeholder is gone"
        );
        assert_eq!(told(guard, key, &FILL), (Won, Fresh));

        set(guard, key, "old");
        let version = marked(guard, key, &STALE);
        assert!(!guard.end_lease(key, version), "nobody was told");
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
        assert!(guard.end_lease(key, version));
        assert_eq!(value(guard, key).as_deref(), Some(&b"old"[..]));
        assert_eq!(told(guard, key, &LOOK), (Won, Stale));
    });
}

#[test]
fn a_read_on_terms_may_change_the_expiry() {
    with_key(|guard, key| {
        let touch = |at_ms, below_ms| Terms {
            expiry: NewExpiry::At(at_ms),
            refresh_below_ms: below_ms,
            ..LOOK
        };
        assert!(read(guard, key, &touch(None, None)).item.is_none());
        let version = put(guard, key, &entry("value", 7, Some(NOW_MS + 100)));
        let soon = touch(Some(NOW_MS + 5000), Some(200));
        let leased = read(guard, key, &soon);
        let item = leased.item.expect("it is there");
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 5000));
        assert_eq!((item.version(), item.flags()), (version, 7));
        assert_eq!(leased.lease, Won, "by the expiry that it had");
        assert_eq!(leased.expires_at_ms_before, Some(NOW_MS + 100));
        assert_eq!(told(guard, key, &soon), (Taken, Fresh));
        // A stale one is won as it is touched, once.
        marked(guard, key, &STALE);
        assert_eq!(told(guard, key, &touch(None, None)), (Won, Stale));
        assert_eq!(told(guard, key, &touch(None, None)), (Taken, Stale));
    });
}

#[test]
fn a_hidden_placeholder_is_nothing_to_other_operations() {
    with_key(|guard, key| {
        let fill = |guard: &mut Guard<'_>| assert_eq!(told(guard, key, &FILL), (Won, Fresh));
        fill(guard);
        assert_eq!(value(guard, key), None);
        for mode in [Mode::Replace, Mode::Append, Mode::Prepend] {
            assert_eq!(store(guard, key, mode, "x"), Outcome::NotStored);
        }
        let cas = Mode::CompareAndSet { version: 1 << 60 };
        assert_eq!(store(guard, key, cas, "x"), Outcome::NotFound);
        assert_eq!(guard.touch(key, None), Ok(false));
        let by = Arithmetic::Increment(1);
        assert_eq!(guard.arithmetic(key, by, None), Ok(Counter::NotFound));
        let mut seen = 0;
        guard.scan(0, 1000, |_| seen += 1);
        assert_eq!(seen, 0);
        assert_eq!(guard.delete(key, Some(1 << 60)), Deletion::NotFound);
        assert_eq!(told(guard, key, &FILL), (Taken, Fresh));

        let initial = Some(Initial {
            value: 5,
            expires_at_ms: None,
        });
        let counted = guard.arithmetic(key, by, initial).expect("there is memory");
        assert!(matches!(counted, Counter::Value { value: 5, .. }));
        assert_eq!(guard.delete(key, None), Deletion::Deleted);
        fill(guard);
        assert!(matches!(
            store(guard, key, Mode::Add, "added"),
            Outcome::Stored { .. }
        ));
        assert_eq!(value(guard, key).as_deref(), Some(&b"added"[..]));
    });
}

#[test]
fn a_placeholder_that_is_shown_is_an_empty_item() {
    with_key(|guard, key| {
        guard.set_placeholders(Placeholders::Shown);
        assert_eq!(told(guard, key, &FILL), (Won, Fresh));
        assert_eq!(value(guard, key).as_deref(), Some(&b""[..]));
        assert_eq!(store(guard, key, Mode::Add, "x"), Outcome::NotStored);
        let by = Arithmetic::Increment(1);
        assert_eq!(guard.arithmetic(key, by, None), Ok(Counter::NotANumber));
        // A touch leaves it what it is.
        assert_eq!(guard.touch(key, None), Ok(true));
        let touched = read(guard, key, &LOOK);
        assert_eq!(touched.lease, Taken);
        let touched = touched.item.expect("it is there");
        assert!(touched.is_placeholder() && touched.expires_at_ms().is_none());
        assert!(matches!(
            store(guard, key, Mode::Append, "x"),
            Outcome::Stored { .. }
        ));
        let appended = read(guard, key, &LOOK);
        assert_eq!(appended.lease, Lease::None);
        assert!(!appended.item.expect("it is there").is_placeholder());
        assert_eq!(value(guard, key).as_deref(), Some(&b"x"[..]));
        assert_eq!(guard.delete(key, None), Deletion::Deleted);
        assert_eq!(told(guard, key, &FILL), (Won, Fresh));
        assert_eq!(guard.delete(key, None), Deletion::Deleted);
    });
}
