//! Counters that change in place, against readers and against everything that replaces them.

use crate::engine::{
    Arithmetic, Cache, Calculated, Calculation, Counted, Counter, Deletion, Mode, NewExpiry,
    Outcome, Session,
};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_single, get, increment, session, set, store,
    verify,
};

models! {
    Some(3) => a_reader_of_a_counter_sees_value_and_version_together,
    Some(2) => a_reader_of_a_counter_never_sees_it_fall,
    Some(3) => two_increments_in_place_both_count,
    Some(3) => a_counter_that_is_touched_counts,
    Some(3) => a_counter_does_not_outlive_a_flush,
    Some(3) => an_increment_in_place_meets_an_overwrite,
    Some(3) => an_increment_in_place_meets_a_deletion,
    Some(3) => one_of_an_increment_and_a_conditional_store_sees_the_other,
    Some(3) => an_append_to_a_counter_loses_no_increment,
    Some(3) => a_count_under_a_chosen_version_loses_no_increment,
}

/// Room for a few counters in a segment.
const ROOMY: Layout = Layout {
    items_per_segment: 8,
    ..Layout::ONE_BUCKET
};

/// A cache with a counter `a` that stands at 8 and can change in place.
fn with_counter() -> (Cache, Session, Session) {
    let cache = ROOMY.cache();
    let (mut one, two) = (session(&cache), session(&cache));
    set(&mut one, b"a", b"7");
    increment(&mut one, b"a");
    (cache, one, two)
}

/// An increment, if the counter is there.
fn count(session: &mut Session) -> Option<(u64, u64)> {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    match guard.arithmetic(&key, Arithmetic::Increment(1), None) {
        Ok(Counter::Value { value, version }) => Some((value, version)),
        Ok(Counter::NotFound) => None,
        other => panic!("an increment ended with {other:?}"),
    }
}

/// The counter as a reader sees it: its value with its version.
fn read(session: &mut Session) -> (u64, u64) {
    let guard = session.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    let item = guard.get(&key).expect("the counter is there all the time");
    (item.number().expect("a number"), item.version())
}

fn a_reader_of_a_counter_sees_value_and_version_together() {
    let (_cache, mut one, mut two) = with_counter();
    let first = read(&mut one);
    let counting = spawn(move || {
        // The second one writes where the value was that the first one found.
        let counted = [count(&mut one), count(&mut one)];
        (one, counted)
    });
    let seen = read(&mut two);
    let (one, [second, third]) = counting.join().expect("counter");
    assert!(
        [Some(first), second, third].contains(&Some(seen)),
        "{seen:?} never stood there"
    );
    verify(&mut two);
    expect_single(&mut two, b"a", &[b"10"]);
    drop(one);
}

fn a_reader_of_a_counter_never_sees_it_fall() {
    let (_cache, mut one, mut two) = with_counter();
    let counting = spawn(move || {
        count(&mut one);
        count(&mut one);
        one
    });
    let (earlier, later) = (read(&mut two), read(&mut two));
    assert!(earlier <= later, "{earlier:?}, and then {later:?}");
    drop(counting.join());
}

fn two_increments_in_place_both_count() {
    let (_cache, mut one, mut two) = with_counter();
    let counting = spawn(move || {
        let value = increment(&mut one, b"a");
        (one, value)
    });
    let value = increment(&mut two, b"a");
    let (one, other) = counting.join().expect("counter");
    assert!(matches!((value, other), (9, 10) | (10, 9)));
    verify(&mut two);
    expect_single(&mut two, b"a", &[b"10"]);
    drop(one);
}

fn a_counter_that_is_touched_counts() {
    let (_cache, mut one, mut two) = with_counter();
    let counting = spawn(move || {
        assert_eq!(increment(&mut one, b"a"), 9);
        one
    });
    {
        let mut guard = two.pin(NOW_MS);
        let key = guard.key(b"a").expect("a key");
        assert_eq!(guard.touch(&key, Some(NOW_MS + 1)), Ok(true));
    }
    let one = counting.join().expect("counter");
    verify(&mut two);
    {
        let guard = two.pin(NOW_MS);
        let key = guard.key(b"a").expect("a key");
        let item = guard.get(&key).expect("the counter is there");
        assert_eq!(item.expires_at_ms(), Some(NOW_MS + 1));
    }
    // The touch writes a copy; it must not bring the number back that it saw.
    expect_single(&mut two, b"a", &[b"9"]);
    drop(one);
}

fn a_counter_does_not_outlive_a_flush() {
    let (_cache, mut one, mut two) = with_counter();
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        one
    });
    let counted = count(&mut two);
    assert!(counted.is_none_or(|(value, _)| value == 9));
    let one = flushing.join().expect("flusher");
    // Before the flush it is flushed, and after it there is nothing to count.
    assert_eq!(get(&mut two, b"a"), None);
    verify(&mut two);
    drop(one);
}

fn an_increment_in_place_meets_an_overwrite() {
    let (_cache, mut one, mut two) = with_counter();
    let writing = spawn(move || {
        set(&mut one, b"a", b"20");
        one
    });
    let value = increment(&mut two, b"a");
    let one = writing.join().expect("writer");
    verify(&mut two);
    let expected: &[u8] = match value {
        9 => b"20",
        21 => b"21",
        value => panic!("counted to {value}"),
    };
    expect_single(&mut two, b"a", &[expected]);
    drop(one);
}

fn an_increment_in_place_meets_a_deletion() {
    let (_cache, mut one, mut two) = with_counter();
    let deleting = spawn(move || {
        assert_eq!(delete(&mut one, b"a"), Deletion::Deleted);
        one
    });
    let counted = count(&mut two);
    assert!(counted.is_none_or(|(value, _)| value == 9));
    let one = deleting.join().expect("deleter");
    verify(&mut two);
    expect_absent(&mut two, b"a");
    drop(one);
}

fn one_of_an_increment_and_a_conditional_store_sees_the_other() {
    let (_cache, mut one, mut two) = with_counter();
    let (_, version) = read(&mut one);
    let writing = spawn(move || {
        let outcome = store(&mut one, b"a", Mode::CompareAndSet { version }, b"20");
        (one, outcome)
    });
    let value = increment(&mut two, b"a");
    let (one, outcome) = writing.join().expect("writer");
    verify(&mut two);
    let expected: &[u8] = match (outcome, value) {
        (Outcome::Stored { .. }, 21) => b"21",
        (Outcome::Exists, 9) => b"9",
        both => panic!("they ended with {both:?}"),
    };
    expect_single(&mut two, b"a", &[expected]);
    drop(one);
}

fn an_append_to_a_counter_loses_no_increment() {
    let (_cache, mut one, mut two) = with_counter();
    let writing = spawn(move || {
        let outcome = store(&mut one, b"a", Mode::Append, b"0");
        assert!(matches!(outcome, Outcome::Stored { .. }));
        one
    });
    let value = increment(&mut two, b"a");
    let one = writing.join().expect("writer");
    verify(&mut two);
    let expected: &[u8] = match value {
        9 => b"90",
        81 => b"81",
        value => panic!("counted to {value}"),
    };
    expect_single(&mut two, b"a", &[expected]);
    drop(one);
}

/// The one writes the number anew, as digits, and the other in place, or makes digits a number again.
fn a_count_under_a_chosen_version_loses_no_increment() {
    const CHOSEN: u64 = 1 << 60;
    let (_cache, mut one, mut two) = with_counter();
    let counting = spawn(move || {
        {
            let mut guard = one.pin(NOW_MS);
            let key = guard.key(b"a").expect("a key");
            let calculation = Calculation {
                by: Arithmetic::Increment(10),
                initial: None,
                version: None,
                expiry: NewExpiry::Kept,
                new_version: Some(CHOSEN),
            };
            let counted = guard.calculate(&key, &calculation);
            assert!(
                matches!(
                    counted,
                    Ok(Calculated::Value(Counted {
                        version: CHOSEN,
                        ..
                    }))
                ),
                "{counted:?}"
            );
        }
        one
    });
    let counted = count(&mut two);
    let one = counting.join().expect("counter");
    verify(&mut two);
    let (value, version) = read(&mut two);
    assert_eq!(value, 19);
    let is_last = counted.is_some_and(|(value, _)| value == 19);
    assert_eq!(version == CHOSEN, !is_last);
    drop(one);
}
