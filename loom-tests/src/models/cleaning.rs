//! Cleaning moves what is alive out of a segment that is mostly dead, against everything else that
//! may happen to the same key, to the cleaner, and to the neighbouring segment.

use crate::engine::log::segment::Log;
use crate::engine::{Cache, Deletion, Mode, Outcome, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_single, get, increment, maintain, session, set,
    standing, store, tend_one_item, try_set, verify,
};

models! {
    Some(3) => a_reader_keeps_an_item_that_is_cleaned,
    Some(2) => an_overwrite_meets_an_item_that_is_cleaned,
    Some(2) => a_deletion_meets_an_item_that_is_cleaned,
    Some(2) => a_conditional_store_meets_an_item_that_is_cleaned,
    Some(2) => an_increment_meets_digits_that_are_cleaned,
    Some(2) => an_increment_meets_a_counter_that_is_cleaned,
    Some(3) => two_sessions_share_the_cleaner,
    Some(2) => a_segment_is_cleaned_beside_the_eviction_of_its_neighbour,
    Some(2) => what_was_cleaned_half_is_evicted,
}

/// Whatever is dead starts the cleaner.
const TIDY: Layout = Layout {
    items_per_segment: 4,
    segments_reserved: 0,
    dead_percent_max: 0,
    ..Layout::ONE_BUCKET
};

/// A cache with a sealed segment in which something is dead and the item of `a`, read once, is
/// alive; a session to clean, and one with a segment open.
fn about_to_clean(value: &[u8]) -> (Cache, Session, Session, u64) {
    let cache = TIDY.cache();
    let mut one = session(&cache);
    set(&mut one, b"b", b"dead");
    assert_eq!(delete(&mut one, b"b"), Deletion::Deleted);
    let version = set(&mut one, b"a", value);
    drop(one);
    let (one, mut two) = (session(&cache), session(&cache));
    set(&mut two, b"b", b"open");
    assert!(get(&mut two, b"a").is_some());
    (cache, one, two, version)
}

/// Cleans while `act` runs.
fn clean_beside<T>(mut one: Session, two: &mut Session, act: impl FnOnce(&mut Session) -> T) -> T {
    let cleaning = spawn(move || {
        maintain(&mut one);
        one
    });
    let done = act(two);
    drop(cleaning.join().expect("cleaner"));
    verify(two);
    done
}

fn a_reader_keeps_an_item_that_is_cleaned() {
    let (cache, one, mut two, _) = about_to_clean(b"value");
    clean_beside(one, &mut two, |two| {
        let guard = two.pin(NOW_MS);
        let key = guard.key(b"a").expect("a key");
        let item = guard.get(&key).expect("the key is there all the time");
        let again = guard.get(&key).expect("the key is there all the time");
        assert_eq!(*again.value(), *b"value");
        assert_eq!(*item.value(), *b"value", "reused while it was read");
    });
    assert_eq!(cache.stats().segments_cleaned, 1);
    let (log, frequency) = standing(&mut two, b"a");
    assert_eq!(log, Log::Small, "an item stays in its log");
    assert!((1..=3).contains(&frequency), "an item keeps its count");
    expect_single(&mut two, b"a", &[b"value"]);
}

fn an_overwrite_meets_an_item_that_is_cleaned() {
    let (_cache, one, mut two, _) = about_to_clean(b"old");
    clean_beside(one, &mut two, |two| set(two, b"a", b"new"));
    expect_single(&mut two, b"a", &[b"new"]);
}

fn a_deletion_meets_an_item_that_is_cleaned() {
    let (_cache, one, mut two, _) = about_to_clean(b"old");
    let deletion = clean_beside(one, &mut two, |two| delete(two, b"a"));
    assert_eq!(deletion, Deletion::Deleted, "the key is there all the time");
    expect_absent(&mut two, b"a");
}

fn a_conditional_store_meets_an_item_that_is_cleaned() {
    let (_cache, one, mut two, version) = about_to_clean(b"old");
    let outcome = clean_beside(one, &mut two, |two| {
        store(two, b"a", Mode::CompareAndSet { version }, b"new")
    });
    assert!(
        matches!(outcome, Outcome::Stored { .. }),
        "a move is no change"
    );
    expect_single(&mut two, b"a", &[b"new"]);
}

fn an_increment_meets_digits_that_are_cleaned() {
    let (_cache, one, mut two, _) = about_to_clean(b"7");
    let value = clean_beside(one, &mut two, |two| increment(two, b"a"));
    assert_eq!(value, 8);
    expect_single(&mut two, b"a", &[b"8"]);
}

fn an_increment_meets_a_counter_that_is_cleaned() {
    let cache = TIDY.cache();
    let mut one = session(&cache);
    set(&mut one, b"a", b"7");
    // What spelled the number is dead.
    assert_eq!(increment(&mut one, b"a"), 8);
    drop(one);
    let (one, mut two) = (session(&cache), session(&cache));
    let value = clean_beside(one, &mut two, |two| increment(two, b"a"));
    assert_eq!(value, 9);
    assert_eq!(cache.stats().segments_cleaned, 1);
    expect_single(&mut two, b"a", &[b"9"]);
}

/// A sealed segment with two items alive.
fn two_to_clean(layout: Layout) -> (Cache, Session, Session) {
    let cache = layout.cache();
    let mut one = session(&cache);
    set(&mut one, b"b", b"dead");
    set(&mut one, b"a", b"first");
    set(&mut one, b"b", b"second");
    drop(one);
    let (one, two) = (session(&cache), session(&cache));
    (cache, one, two)
}

fn two_sessions_share_the_cleaner() {
    let (_cache, mut one, mut two) = two_to_clean(TIDY);
    // The dead one.
    let _ = tend_one_item(&mut one, NOW_MS);
    let cleaning = spawn(move || {
        let _ = tend_one_item(&mut one, NOW_MS);
        one
    });
    let _ = tend_one_item(&mut two, NOW_MS);
    let mut one = cleaning.join().expect("cleaner");
    maintain(&mut two);
    verify(&mut one);
    expect_single(&mut one, b"a", &[b"first"]);
    expect_single(&mut two, b"b", &[b"second"]);
}

fn a_segment_is_cleaned_beside_the_eviction_of_its_neighbour() {
    let layout = Layout {
        items_per_segment: 3,
        segments: 3,
        ..TIDY
    };
    let (cache, mut one, mut two) = two_to_clean(layout);
    let _ = tend_one_item(&mut one, NOW_MS);
    // The cleaner's own segment is open from here on, and one is left for the neighbour.
    let _ = tend_one_item(&mut one, NOW_MS);
    let mut neighbour = session(&cache);
    set(&mut neighbour, b"c", b"third");
    drop(neighbour);
    let evicting = spawn(move || {
        // Finds no room but that of the neighbour, unless the cleaner has just made some; and gives
        // up if it is kept waiting for either.
        let stored = try_set(&mut two, b"c", b"new");
        (two, stored)
    });
    let _ = tend_one_item(&mut one, NOW_MS);
    let (mut two, stored) = evicting.join().expect("evictor");
    verify(&mut one);
    expect_single(&mut one, b"a", &[b"first"]);
    expect_single(&mut one, b"b", &[b"second"]);
    if stored {
        expect_single(&mut two, b"c", &[b"new"]);
    }
}

fn what_was_cleaned_half_is_evicted() {
    let layout = Layout {
        items_per_segment: 3,
        segments: 2,
        ..TIDY
    };
    let (_cache, mut one, mut two) = two_to_clean(layout);
    let _ = tend_one_item(&mut one, NOW_MS);
    let _ = tend_one_item(&mut one, NOW_MS);
    let evicting = spawn(move || {
        // All memory is the cleaner's: it may find no room.
        try_set(&mut two, b"c", b"new");
        two
    });
    let _ = tend_one_item(&mut one, NOW_MS);
    let mut two = evicting.join().expect("evictor");
    verify(&mut two);
    expect_single(&mut one, b"a", &[b"first"]);
    expect_single(&mut one, b"b", &[b"second"]);
}
