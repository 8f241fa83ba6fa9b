//! Overflow buckets: linked by a writer, followed by readers and other writers.

use crate::engine::{Cache, Session};
use crate::model::{models, spawn};
use crate::models::scene::{Layout, expect_single, get, session, set, verify};

models! {
    Some(3) => a_reader_follows_a_new_overflow_bucket,
    Some(2) => two_writers_overflow_one_bucket,
    Some(2) => a_key_in_an_overflow_bucket_is_overwritten_once,
    Some(2) => a_full_chain_drops_one_entry_for_another,
}

/// A bucket whose two slots are taken.
fn full_bucket() -> (Cache, Session, Session) {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, two) = (session(&cache), session(&cache));
    set(&mut one, b"a", b"first");
    set(&mut one, b"b", b"second");
    (cache, one, two)
}

fn a_reader_follows_a_new_overflow_bucket() {
    let (_cache, mut writer, mut reader) = full_bucket();
    let writing = spawn(move || {
        set(&mut writer, b"c", b"third");
        writer
    });
    let seen = get(&mut reader, b"c");
    assert!(seen.is_none() || seen.as_deref() == Some(b"third"));
    assert!(get(&mut reader, b"b").is_some(), "nothing makes room");
    let ended = writing.join();
    verify(&mut reader);
    drop(ended);
}

fn two_writers_overflow_one_bucket() {
    let (cache, mut one, mut two) = full_bucket();
    let writing = spawn(move || {
        set(&mut one, b"c", b"one");
        one
    });
    set(&mut two, b"d", b"two");
    let one = writing.join();
    verify(&mut two);
    assert_eq!(cache.stats().items, 4);
    for (key, value) in [(b"c", b"one"), (b"d", b"two")] {
        expect_single(&mut two, key, &[value]);
    }
    expect_single(&mut two, b"a", &[b"first"]);
    drop(one);
}

fn a_key_in_an_overflow_bucket_is_overwritten_once() {
    let (_cache, mut one, mut two) = full_bucket();
    let writing = spawn(move || {
        set(&mut one, b"c", b"one");
        // Gives back the overflow bucket that it took in vain.
        drop(one);
    });
    set(&mut two, b"c", b"two");
    writing.join().expect("writer");
    verify(&mut two);
    expect_single(&mut two, b"c", &[b"one", b"two"]);
}

fn a_full_chain_drops_one_entry_for_another() {
    let (cache, mut one, mut two) = full_bucket();
    set(&mut one, b"c", b"third");
    set(&mut one, b"d", b"fourth");
    let writing = spawn(move || {
        set(&mut one, b"e", b"one");
        one
    });
    let seen = get(&mut two, b"a");
    assert!(seen.is_none() || seen.as_deref() == Some(b"first"));
    set(&mut two, b"a", b"two");
    let one = writing.join();
    verify(&mut two);
    let stats = cache.stats();
    assert_eq!(stats.items, 4);
    assert!(matches!(stats.evicted, 1 | 2));
    let found = [b"a", b"b", b"c", b"d", b"e"].map(|key| get(&mut two, key).is_some());
    assert_eq!(found.iter().filter(|found| **found).count(), 4);
    drop(one);
}
