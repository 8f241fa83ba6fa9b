//! Growth of the index against readers, writers and scans.
//!
//! The index has one bucket. The *moving* key belongs to the second one; the second insert makes
//! the index split.

use crate::engine::{Cache, Deletion, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_no_segment_lost, expect_single, get, key, key_in,
    keys_of_one_tag, maintain, session, set, verify,
};

models! {
    Some(3) => a_reader_finds_its_key_through_a_split,
    Some(2) => a_reader_finds_a_key_that_stays_through_a_split,
    Some(2) => an_overwrite_survives_a_split,
    Some(2) => a_deletion_survives_a_split,
    Some(2) => two_splits_do_not_meet,
    Some(2) => a_split_takes_a_segment_while_another_is_opened,
    Some(1) => figures_are_read_during_a_split,
    Some(3) => a_scan_returns_a_key_that_moves,
    Some(2) => a_key_is_cleaned_while_it_moves_to_another_bucket,
    Some(2) => a_key_that_stays_is_cleaned_through_a_split,
    Some(2) => a_key_is_evicted_while_it_moves_to_another_bucket,
    Some(2) => a_key_that_stays_is_evicted_through_a_split,
    Some(2) => a_reader_finds_its_key_while_it_leaves_an_overflow_bucket,
    Some(2) => a_scan_never_meets_memory_of_a_key_that_moved,
    Some(2) => a_reader_of_the_same_tag_never_meets_memory_of_a_key_that_moved,
}

/// A growing cache with one key in it, in a sealed segment.
fn cache_with(first: &[u8]) -> (Cache, Session) {
    let cache = Layout::GROWING.cache();
    let mut writer = session(&cache);
    set(&mut writer, first, b"old");
    drop(writer);
    let reader = session(&cache);
    (cache, reader)
}

/// A key that moves at the split, and one that stays.
fn keys() -> ([u8; 1], [u8; 1]) {
    (key(1, 0), key(0, 0))
}

fn a_reader_finds_its_key_through_a_split() {
    let (moving, staying) = keys();
    let (cache, mut reader) = cache_with(&moving);
    let mut writer = session(&cache);
    let growing = spawn(move || {
        set(&mut writer, &staying, b"new");
        writer
    });
    assert!(
        get(&mut reader, &moving).is_some(),
        "the key is there all the time"
    );
    let writer = growing.join();
    verify(&mut reader);
    assert_eq!(cache.stats().buckets, 2);
    assert!(get(&mut reader, &staying).is_some());
    drop(writer);
}

fn a_reader_finds_a_key_that_stays_through_a_split() {
    let (moving, staying) = keys();
    let (cache, mut reader) = cache_with(&staying);
    let mut writer = session(&cache);
    let growing = spawn(move || {
        set(&mut writer, &moving, b"new");
        writer
    });
    assert!(
        get(&mut reader, &staying).is_some(),
        "the key is there all the time"
    );
    if get(&mut reader, &moving).is_some() {
        assert!(
            get(&mut reader, &moving).is_some(),
            "a key that was seen is lost"
        );
    }
    let ended = growing.join();
    verify(&mut reader);
    drop(ended);
}

fn an_overwrite_survives_a_split() {
    let (moving, staying) = keys();
    let (cache, mut other) = cache_with(&moving);
    let mut writer = session(&cache);
    let growing = spawn(move || {
        set(&mut writer, &staying, b"new");
        writer
    });
    set(&mut other, &moving, b"new");
    let writer = growing.join();
    verify(&mut other);
    expect_single(&mut other, &moving, &[b"new"]);
    expect_single(&mut other, &staying, &[b"new"]);
    drop(writer);
}

fn a_deletion_survives_a_split() {
    let (moving, staying) = keys();
    let (cache, mut other) = cache_with(&moving);
    let mut writer = session(&cache);
    let growing = spawn(move || {
        set(&mut writer, &staying, b"new");
        writer
    });
    assert_eq!(delete(&mut other, &moving), Deletion::Deleted);
    let writer = growing.join();
    verify(&mut other);
    expect_absent(&mut other, &moving);
    expect_single(&mut other, &staying, &[b"new"]);
    drop(writer);
}

fn two_splits_do_not_meet() {
    let (moving, staying) = keys();
    let cache = Layout::GROWING.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let growing = spawn(move || {
        set(&mut one, &staying, b"new");
        one
    });
    set(&mut two, &moving, b"new");
    let one = growing.join();
    verify(&mut two);
    // One of the two inserts sees both entries.
    assert_eq!(cache.stats().buckets, 2);
    expect_single(&mut two, &moving, &[b"new"]);
    expect_single(&mut two, &staying, &[b"new"]);
    drop(one);
}

fn a_split_takes_a_segment_while_another_is_opened() {
    let (moving, staying) = keys();
    let cache = Layout::PAYING.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, &moving, b"old");
    let growing = spawn(move || {
        set(&mut one, &staying, b"new");
        one
    });
    set(&mut two, &moving, b"new");
    let one = growing.join().expect("writer");
    assert_eq!(cache.stats().buckets, 2);
    expect_single(&mut two, &moving, &[b"new"]);
    expect_single(&mut two, &staying, &[b"new"]);
    expect_no_segment_lost(&cache, vec![one, two]);
}

/// The index splits while a segment with this key is walked: whatever the walk takes the key for,
/// no entry may name the segment afterwards.
fn relocated_through_a_split(layout: Layout, first: &[u8], second: &[u8], reads: usize) {
    let cache = layout.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    // Opens a segment for later.
    set(&mut two, first, b"dead");
    // What is to be cleaned has something dead.
    set(&mut one, first, b"dead");
    set(&mut one, first, b"old");
    drop(one);
    let mut one = session(&cache);
    for _ in 0..reads {
        assert!(get(&mut one, first).is_some());
    }
    let moving = spawn(move || {
        maintain(&mut one);
        one
    });
    set(&mut two, second, b"new");
    let one = moving.join().expect("mover");
    verify(&mut two);
    let stats = cache.stats();
    assert_eq!((stats.buckets, stats.items), (2, 2));
    assert_eq!(stats.segments_cleaned + stats.segments_evicted, 1);
    expect_single(&mut two, first, &[b"old"]);
    expect_single(&mut two, second, &[b"new"]);
    drop(one);
}

const TIDY: Layout = Layout {
    items_per_segment: 4,
    segments_reserved: 0,
    dead_percent_max: 0,
    ..Layout::GROWING
};

const SHORT: Layout = Layout {
    items_per_segment: 4,
    segments: 4,
    segments_reserved: 2,
    ..Layout::GROWING
};

fn a_key_is_cleaned_while_it_moves_to_another_bucket() {
    let (moving, staying) = keys();
    relocated_through_a_split(TIDY, &moving, &staying, 0);
}

fn a_key_that_stays_is_cleaned_through_a_split() {
    let (moving, staying) = keys();
    relocated_through_a_split(TIDY, &staying, &moving, 0);
}

fn a_key_is_evicted_while_it_moves_to_another_bucket() {
    let (moving, staying) = keys();
    relocated_through_a_split(SHORT, &moving, &staying, 2);
}

fn a_key_that_stays_is_evicted_through_a_split() {
    let (moving, staying) = keys();
    relocated_through_a_split(SHORT, &staying, &moving, 2);
}

/// Two keys that fill the first bucket of two, and one that overflows, and belongs to the third
/// bucket: its insertion makes that.
fn overflowing() -> (Cache, [u8; 1]) {
    let layout = Layout {
        buckets_per_chunk: 4,
        ..TIDY
    };
    let cache = layout.cache();
    let mut writer = session(&cache);
    for nth in 0..2 {
        set(&mut writer, &key_in(0, 4, nth), b"first");
    }
    (cache, key_in(2, 4, 0))
}

fn a_reader_finds_its_key_while_it_leaves_an_overflow_bucket() {
    let (cache, leaving) = overflowing();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    let growing = spawn(move || {
        set(&mut writer, &leaving, b"new");
        writer
    });
    if get(&mut reader, &leaving).is_some() {
        assert!(
            get(&mut reader, &leaving).is_some(),
            "a key that was seen is lost"
        );
    }
    let ended = growing.join();
    verify(&mut reader);
    assert_eq!(cache.stats().buckets, 3);
    drop(ended);
}

fn figures_are_read_during_a_split() {
    let (moving, staying) = keys();
    let (cache, mut writer) = cache_with(&moving);
    let other = cache.clone();
    let reading = spawn(move || {
        let stats = other.stats();
        assert!(matches!(stats.buckets, 1 | 2));
        assert!(matches!(stats.items, 1 | 2));
    });
    set(&mut writer, &staying, b"new");
    reading.join().expect("reader");
    verify(&mut writer);
    let stats = cache.stats();
    assert_eq!((stats.buckets, stats.items), (2, 2));
}

fn scan(session: &mut Session, wanted: &[u8]) -> usize {
    let guard = session.pin(NOW_MS);
    let (mut cursor, mut seen) = (Some(0), 0);
    while let Some(at) = cursor {
        cursor = guard.scan(at, 1, |item| seen += usize::from(item.key() == wanted));
    }
    seen
}

fn a_scan_returns_a_key_that_moves() {
    let (moving, staying) = keys();
    let (cache, mut reader) = cache_with(&moving);
    let mut writer = session(&cache);
    let growing = spawn(move || {
        set(&mut writer, &staying, b"new");
        writer
    });
    assert!(
        scan(&mut reader, &moving) > 0,
        "the key is there all the time"
    );
    let ended = growing.join();
    verify(&mut reader);
    drop(ended);
}

/// The moving key is deleted while it stands in both buckets, and its memory is used again while a
/// pin that is younger than the deletion reads the bucket that it left.
fn reuse_after_a_split(
    moving: Vec<u8>,
    staying: &[u8],
    read: impl Fn(&mut Session) + Send + 'static,
) {
    let (cache, mut reader) = cache_with(&moving);
    let mut writer = session(&cache);
    let reading = spawn(move || {
        assert_eq!(delete(&mut reader, &moving), Deletion::Deleted);
        read(&mut reader);
        reader
    });
    set(&mut writer, staying, b"new");
    // Does not fit, and goes into the segment that was freed last.
    set(&mut writer, staying, b"again");
    let ended = reading.join();
    verify(&mut writer);
    drop(ended);
}

fn a_scan_never_meets_memory_of_a_key_that_moved() {
    let (moving, staying) = keys();
    reuse_after_a_split(moving.to_vec(), &staying, |reader| {
        let guard = reader.pin(NOW_MS);
        // The first bucket is enough.
        guard.scan(0, 1, |_| {});
    });
}

fn a_reader_of_the_same_tag_never_meets_memory_of_a_key_that_moved() {
    let (moving, staying) = keys_of_one_tag();
    let same_tag = staying.clone();
    reuse_after_a_split(moving, &staying, move |reader| {
        get(reader, &same_tag);
    });
}
