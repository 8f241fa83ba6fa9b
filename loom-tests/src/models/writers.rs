//! Writers against writers on one key, and on two keys of one bucket.

use crate::engine::{Deletion, Entry, Mode, Outcome};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_single, get, increment, session, set, store,
    verify,
};

models! {
    Some(3) => two_writers_of_one_key_leave_one_entry,
    Some(3) => two_writers_of_two_keys_keep_both,
    Some(3) => two_overwrites_leave_one_of_two_values,
    Some(3) => one_of_two_adds_stores,
    Some(3) => one_of_two_conditional_stores_stores,
    Some(3) => one_of_two_deletions_finds_the_key,
    Some(2) => two_increments_both_count,
    Some(3) => a_deletion_races_with_an_overwrite,
    Some(3) => a_deletion_races_with_a_conditional_store,
    Some(2) => a_write_after_a_flush_is_kept,
    Some(3) => a_flushed_key_stays_flushed,
    Some(3) => an_append_does_not_outlive_a_flush,
    Some(2) => two_flushes_do_not_undo_each_other,
    Some(2) => a_write_after_a_later_flush_is_kept,
    Some(2) => a_flush_set_while_another_is_carried_out_is_not_lost,
    Some(2) => no_version_is_used_twice_beside_a_flush,
    Some(2) => a_touch_races_with_an_overwrite,
}

fn two_writers_of_one_key_leave_one_entry() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let writing = spawn(move || {
        set(&mut one, b"k", b"one");
        one
    });
    set(&mut two, b"k", b"two");
    let one = writing.join();
    verify(&mut two);
    expect_single(&mut two, b"k", &[b"one", b"two"]);
    drop(one);
}

fn two_writers_of_two_keys_keep_both() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let writing = spawn(move || {
        let version = set(&mut one, b"j", b"one");
        (one, version)
    });
    let version = set(&mut two, b"k", b"two");
    let (one, other_version) = writing.join().expect("writer");
    verify(&mut two);
    assert_ne!(version, other_version, "a version was used twice");
    assert_eq!(cache.stats().items, 2);
    expect_single(&mut two, b"j", &[b"one"]);
    expect_single(&mut two, b"k", &[b"two"]);
    drop(one);
}

fn two_overwrites_leave_one_of_two_values() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let writing = spawn(move || {
        set(&mut one, b"k", b"one");
        one
    });
    set(&mut two, b"k", b"two");
    let one = writing.join();
    verify(&mut two);
    expect_single(&mut two, b"k", &[b"one", b"two"]);
    drop(one);
}

fn one_of_two_adds_stores() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let writing = spawn(move || {
        let outcome = store(&mut one, b"k", Mode::Add, b"one");
        (one, outcome)
    });
    let outcome = store(&mut two, b"k", Mode::Add, b"two");
    let (one, other) = writing.join().expect("writer");
    verify(&mut two);
    let expected: &[u8] = match (other, outcome) {
        (Outcome::Stored { .. }, Outcome::NotStored) => b"one",
        (Outcome::NotStored, Outcome::Stored { .. }) => b"two",
        both => panic!("two adds ended with {both:?}"),
    };
    expect_single(&mut two, b"k", &[expected]);
    drop(one);
}

fn one_of_two_conditional_stores_stores() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let version = set(&mut one, b"k", b"old");
    let mode = Mode::CompareAndSet { version };
    let writing = spawn(move || {
        let outcome = store(&mut one, b"k", mode, b"one");
        (one, outcome)
    });
    let outcome = store(&mut two, b"k", mode, b"two");
    let (one, other) = writing.join().expect("writer");
    verify(&mut two);
    let expected: &[u8] = match (other, outcome) {
        (Outcome::Stored { .. }, Outcome::Exists) => b"one",
        (Outcome::Exists, Outcome::Stored { .. }) => b"two",
        both => panic!("two conditional stores ended with {both:?}"),
    };
    expect_single(&mut two, b"k", &[expected]);
    drop(one);
}

fn one_of_two_deletions_finds_the_key() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let deleting = spawn(move || {
        let deletion = delete(&mut one, b"k");
        (one, deletion)
    });
    let deletion = delete(&mut two, b"k");
    let (one, other) = deleting.join().expect("deleter");
    verify(&mut two);
    let found = [deletion, other].map(|deletion| deletion == Deletion::Deleted);
    assert_eq!(found.iter().filter(|found| **found).count(), 1);
    expect_absent(&mut two, b"k");
    drop(one);
}

fn two_increments_both_count() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"7");
    let counting = spawn(move || {
        let value = increment(&mut one, b"k");
        (one, value)
    });
    let value = increment(&mut two, b"k");
    let (one, other) = counting.join().expect("counter");
    verify(&mut two);
    assert!(matches!((value, other), (8, 9) | (9, 8)));
    expect_single(&mut two, b"k", &[b"9"]);
    drop(one);
}

fn a_deletion_races_with_an_overwrite() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let writing = spawn(move || {
        set(&mut one, b"k", b"new");
        one
    });
    // There is an item all the time.
    assert_eq!(delete(&mut two, b"k"), Deletion::Deleted);
    let one = writing.join();
    verify(&mut two);
    match get(&mut two, b"k") {
        Some(_) => expect_single(&mut two, b"k", &[b"new"]),
        None => expect_absent(&mut two, b"k"),
    }
    drop(one);
}

fn a_deletion_races_with_a_conditional_store() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let version = set(&mut one, b"k", b"old");
    let writing = spawn(move || {
        let outcome = store(&mut one, b"k", Mode::CompareAndSet { version }, b"new");
        (one, outcome)
    });
    assert_eq!(delete(&mut two, b"k"), Deletion::Deleted);
    let (one, outcome) = writing.join().expect("writer");
    verify(&mut two);
    assert!(matches!(
        outcome,
        Outcome::Stored { .. } | Outcome::NotFound
    ));
    // Stored means before the deletion: nothing is left either way.
    expect_absent(&mut two, b"k");
    drop(one);
}

fn a_write_after_a_flush_is_kept() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    // Takes versions that a flush in between makes worthless.
    set(&mut two, b"j", b"old");
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        set(&mut one, b"k", b"one");
        one
    });
    set(&mut two, b"k", b"two");
    let one = flushing.join();
    verify(&mut two);
    // If the other write came before the flush, this one came after both.
    expect_single(&mut two, b"k", &[b"one", b"two"]);
    assert_eq!(get(&mut two, b"j"), None);
    drop(one);
}

fn a_flushed_key_stays_flushed() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        one
    });
    let first = get(&mut two, b"k");
    let second = get(&mut two, b"k");
    assert!(first.is_some() || second.is_none());
    let one = flushing.join();
    verify(&mut two);
    assert_eq!(get(&mut two, b"k"), None);
    drop(one);
}

fn an_append_does_not_outlive_a_flush() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        one
    });
    let appended = store(&mut two, b"k", Mode::Append, b"new");
    assert!(matches!(
        appended,
        Outcome::Stored { .. } | Outcome::NotStored
    ));
    let one = flushing.join();
    verify(&mut two);
    // Before the flush it is flushed, and after it there is nothing to append to.
    assert_eq!(get(&mut two, b"k"), None);
    drop(one);
}

fn two_flushes_do_not_undo_each_other() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        one
    });
    set(&mut two, b"k", b"two");
    two.pin(NOW_MS).flush(None);
    let one = flushing.join();
    verify(&mut two);
    assert_eq!(get(&mut two, b"k"), None);
    drop(one);
}

/// Both sessions come when the flush is due; one of them carries it out.
fn a_write_after_a_later_flush_is_kept() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    {
        let mut guard = two.pin(NOW_MS - 1);
        let key = guard.key(b"k").expect("a key");
        let stored = guard.store(&key, Mode::Set, &Entry::of(b"old"));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })));
        guard.flush(Some(NOW_MS));
        assert!(guard.get(&key).is_some(), "the flush is not due yet");
    }
    let flushing = spawn(move || {
        drop(one.pin(NOW_MS));
        one
    });
    assert_eq!(get(&mut two, b"k"), None);
    set(&mut two, b"k", b"new");
    assert_eq!(get(&mut two, b"k"), Some(b"new".to_vec()));
    let one = flushing.join();
    verify(&mut two);
    expect_single(&mut two, b"k", &[b"new"]);
    drop(one);
}

fn a_flush_set_while_another_is_carried_out_is_not_lost() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    two.pin(NOW_MS - 1).flush(Some(NOW_MS));
    let flushing = spawn(move || {
        drop(one.pin(NOW_MS));
        one
    });
    two.pin(NOW_MS - 1).flush(Some(NOW_MS + 1));
    let one = flushing.join();
    verify(&mut two);
    set(&mut two, b"k", b"new");
    let guard = two.pin(NOW_MS + 1);
    let key = guard.key(b"k").expect("a key");
    assert!(guard.get(&key).is_none(), "the second flush was lost");
    drop(guard);
    drop(one);
}

fn no_version_is_used_twice_beside_a_flush() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let mut three = session(&cache);
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        one
    });
    let mut versions = vec![set(&mut two, b"j", b"two"), set(&mut three, b"k", b"three")];
    let mut one = flushing.join().expect("session");
    verify(&mut two);
    versions.push(set(&mut one, b"k", b"one"));
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 3, "a version was used twice");
}

fn a_touch_races_with_an_overwrite() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let writing = spawn(move || {
        set(&mut one, b"k", b"new");
        one
    });
    {
        let mut guard = two.pin(NOW_MS);
        let key = guard.key(b"k").expect("a key");
        assert_eq!(guard.touch(&key, Some(NOW_MS + 1)), Ok(true));
    }
    let one = writing.join();
    verify(&mut two);
    // The touch copies what it saw; it must not bring it back over the new value.
    expect_single(&mut two, b"k", &[b"new"]);
    drop(one);
}
