//! Overflow buckets: linked by a writer, followed by readers and other writers, unlinked, and linked
//! to another chain.

use crate::engine::{Cache, Deletion, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_single, get, key, key_in, keys_of_one_tag,
    session, set, verify,
};

models! {
    Some(3) => a_reader_follows_a_new_overflow_bucket,
    Some(3) => a_scan_follows_a_new_overflow_bucket,
    Some(2) => two_writers_overflow_one_bucket,
    Some(2) => a_key_in_an_overflow_bucket_is_overwritten_once,
    Some(2) => a_full_chain_drops_one_entry_for_another,
    Some(2) => a_reader_in_an_unlinked_overflow_bucket_never_meets_another_chain,
    Some(2) => a_scan_in_an_unlinked_overflow_bucket_never_meets_another_chain,
    Some(1) => two_chains_pass_their_overflow_buckets_on,
    Some(2) => an_overflow_bucket_that_a_reader_was_in_is_used_again,
    Some(1) => a_session_that_ends_leaves_its_overflow_bucket_to_another,
    Some(3) => an_overflow_bucket_is_taken_beside_a_split,
    Some(2) => a_reader_finds_its_key_through_a_split_of_a_whole_chain,
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

fn a_scan_follows_a_new_overflow_bucket() {
    let (_cache, mut writer, mut reader) = full_bucket();
    let writing = spawn(move || {
        set(&mut writer, b"c", b"third");
        writer
    });
    {
        let guard = reader.pin(NOW_MS);
        let mut seen = Vec::new();
        guard.scan(0, 3, |item| seen.push(item.value().into_owned()));
        assert_eq!(seen[..2], [b"first".to_vec(), b"second".to_vec()]);
        assert!(seen[2..].iter().all(|value| value == b"third"));
    }
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

/// Two buckets for good. Bucket 0 is full and has an overflow bucket with one key, bucket 1 is full.
/// The writer has room for what it will store.
fn two_chains() -> (Cache, Session) {
    let layout = Layout {
        items_per_segment: 9,
        segments: 3,
        buckets_per_chunk: 2,
        ..Layout::ONE_BUCKET
    };
    let cache = layout.cache();
    let mut writer = session(&cache);
    for (bucket, nth) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] {
        set(&mut writer, &key(bucket, nth), b"old");
    }
    assert_eq!(cache.stats().buckets, 2);
    (cache, writer)
}

/// Ends the sessions, and checks that all overflow buckets are linked or spare: none is lost.
fn expect_no_overflow_bucket_lost(cache: &Cache, sessions: Vec<Session>) {
    drop(sessions);
    verify(&mut session(cache));
    assert_eq!(
        cache.stats().evicted,
        0,
        "there is an overflow bucket for everyone"
    );
}

/// The only key in the overflow bucket of bucket 0 goes, and a new one overflows bucket 1, while
/// `read` is in the overflow bucket.
fn unlinked_beside(read: impl FnOnce(&mut Session, &[u8]) + Send + 'static) {
    let (cache, mut writer) = two_chains();
    let mut reader = session(&cache);
    let (new, same_tag) = keys_of_one_tag();
    let reading = spawn(move || {
        read(&mut reader, &same_tag);
        reader
    });
    assert_eq!(delete(&mut writer, &key(0, 2)), Deletion::Deleted);
    set(&mut writer, &new, b"new");
    let reader = reading.join().expect("reader");
    expect_absent(&mut writer, &key(0, 2));
    assert_eq!(get(&mut writer, &new).as_deref(), Some(&b"new"[..]));
    expect_no_overflow_bucket_lost(&cache, vec![writer, reader]);
}

/// A reader of bucket 0 that met the new entry there would follow it, since it has the reader's tag,
/// though the entry was published to those who follow the links of bucket 1.
fn a_reader_in_an_unlinked_overflow_bucket_never_meets_another_chain() {
    unlinked_beside(|reader, same_tag| assert_eq!(get(reader, same_tag), None));
}

fn a_scan_in_an_unlinked_overflow_bucket_never_meets_another_chain() {
    unlinked_beside(|reader, _| {
        let guard = reader.pin(NOW_MS);
        // The first bucket is enough.
        guard.scan(0, 1, |item| assert_eq!(item.value().as_ref(), b"old"));
    });
}

/// Each of two sessions empties the overflow bucket of one chain and then needs one for the other.
fn two_chains_pass_their_overflow_buckets_on() {
    let (cache, mut one) = two_chains();
    let mut two = session(&cache);
    set(&mut two, &key(1, 2), b"old");
    let passing = spawn(move || {
        assert_eq!(delete(&mut one, &key(0, 2)), Deletion::Deleted);
        set(&mut one, &key(1, 3), b"one");
        one
    });
    assert_eq!(delete(&mut two, &key(1, 2)), Deletion::Deleted);
    set(&mut two, &key(0, 3), b"two");
    let one = passing.join().expect("session");
    verify(&mut two);
    for (bucket, nth, value) in [(1, 3, b"one"), (0, 3, b"two"), (0, 0, b"old")] {
        expect_single(&mut two, &key(bucket, nth), &[value]);
    }
    expect_no_overflow_bucket_lost(&cache, vec![one, two]);
}

/// There are two overflow buckets, and one chain that needs one again and again.
fn an_overflow_bucket_that_a_reader_was_in_is_used_again() {
    let (cache, mut writer, mut reader) = full_bucket();
    set(&mut writer, b"c", b"third");
    let reading = spawn(move || {
        let seen = get(&mut reader, b"c");
        assert!(seen.is_none() || seen.as_deref() == Some(b"third"));
        reader
    });
    // A reader that is still in it makes the first of these take the other one.
    assert_eq!(delete(&mut writer, b"c"), Deletion::Deleted);
    set(&mut writer, b"d", b"fourth");
    let reader = reading.join().expect("reader");
    for (old, new) in [(b"d", b"e"), (b"e", b"f")] {
        assert_eq!(delete(&mut writer, old), Deletion::Deleted);
        set(&mut writer, new, b"again");
    }
    for key in [b"a", b"b", b"f"] {
        assert!(get(&mut writer, key).is_some());
    }
    expect_no_overflow_bucket_lost(&cache, vec![writer, reader]);
}

/// Both take an overflow bucket for one key; who comes second has one in hand, and ends, while the other
/// takes one more.
fn a_session_that_ends_leaves_its_overflow_bucket_to_another() {
    let (cache, mut one) = two_chains();
    let mut two = session(&cache);
    set(&mut two, &key(0, 2), b"old");
    assert_eq!(delete(&mut two, &key(0, 2)), Deletion::Deleted);
    let going_on = spawn(move || {
        set(&mut two, &key(1, 2), b"two");
        set(&mut two, &key(0, 2), b"two");
        two
    });
    set(&mut one, &key(1, 2), b"one");
    drop(one);
    let mut two = going_on.join().expect("session");
    verify(&mut two);
    expect_single(&mut two, &key(0, 2), &[b"two"]);
    expect_no_overflow_bucket_lost(&cache, vec![two]);
}

/// Bucket 0 of two is full; of its keys those that belong to bucket 2 move when it splits.
fn about_to_split(bucket: u64) -> (Cache, Session, Session) {
    let layout = Layout {
        items_per_segment: 9,
        segments: 3,
        buckets_per_chunk: 3,
        ..Layout::ONE_BUCKET
    };
    let cache = layout.cache();
    let (mut one, two) = (session(&cache), session(&cache));
    for nth in 0..2 {
        set(&mut one, &key_in(bucket, 4, nth), b"old");
    }
    assert_eq!(cache.stats().buckets, 2);
    (cache, one, two)
}

/// The split takes an overflow bucket as well, which the one key that moves does not need.
fn an_overflow_bucket_is_taken_beside_a_split() {
    let (cache, mut one, mut two) = about_to_split(0);
    let splitting = spawn(move || {
        set(&mut one, &key_in(2, 4, 0), b"new");
        one
    });
    {
        let guard = two.pin(NOW_MS);
        let (index, segments) = (&guard.shared.index, &guard.shared.segments);
        let id = index.take_overflow(segments).expect("there are enough");
        index.return_overflow(id);
    }
    let one = splitting.join().expect("writer");
    verify(&mut two);
    assert_eq!(cache.stats().buckets, 3);
    expect_no_overflow_bucket_lost(&cache, vec![one, two]);
}

/// All of a chain moves, so that the new bucket has an overflow bucket and the old one has none.
fn a_reader_finds_its_key_through_a_split_of_a_whole_chain() {
    let (cache, mut one, mut two) = about_to_split(2);
    let last = key_in(2, 4, 2);
    let splitting = spawn(move || {
        set(&mut one, &last, b"new");
        one
    });
    if get(&mut two, &last).is_some() {
        assert!(
            get(&mut two, &last).is_some(),
            "a key that was seen is lost"
        );
    }
    let one = splitting.join().expect("writer");
    verify(&mut two);
    for nth in 0..3 {
        expect_single(&mut two, &key_in(2, 4, nth), &[b"old", b"new"]);
    }
    expect_no_overflow_bucket_lost(&cache, vec![one, two]);
}
