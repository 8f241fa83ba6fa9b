//! Reads and sets that looked ahead: what a slot had when it was seen is looked at again, so it does not
//! matter what happened in between.

use crate::engine::index::ahead::Reach;
use crate::engine::{Cache, Deletion, Entry, Mode, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_no_segment_lost, expect_single, get, key, key_in,
    maintain, session, set, set_ahead, verify,
};

models! {
    Some(3) => a_key_that_was_seen_ahead_is_overwritten,
    Some(2) => a_key_that_was_seen_ahead_gives_way_to_another,
    Some(2) => a_key_that_was_seen_ahead_moves_to_another_bucket,
    Some(2) => a_store_of_the_same_batch_is_seen_through_a_split,
    Some(3) => two_sets_that_looked_ahead_leave_one_of_two_values,
    Some(3) => a_deletion_races_with_a_set_that_looked_ahead,
    Some(3) => a_reader_meets_a_set_that_looked_ahead,
    Some(2) => a_set_that_looked_ahead_survives_a_split,
    Some(2) => a_set_that_looked_ahead_stays_where_it_is_through_a_split,
    Some(3) => a_reader_looks_ahead_into_a_new_overflow_bucket,
    Some(1) => a_set_looks_ahead_at_a_key_that_leaves_an_overflow_bucket,
    Some(2) => a_set_that_looked_ahead_is_not_taken_by_a_flush_before_it,
}

/// Every session has an open segment with room for one item more than it stores at first.
const ROOMY: Layout = Layout {
    items_per_segment: 3,
    ..Layout::ONE_BUCKET
};

/// The key, its bucket and its slot looked at.
macro_rules! look_ahead {
    ($guard:expr, $key:expr) => {{
        let mut key = $guard.key($key).expect("a key");
        $guard.prefetch_bucket(&key);
        $guard.prefetch_items(std::iter::once((&mut key, Reach::Value)));
        key
    }};
}

/// Looks ahead for a key, and reads it.
fn get_ahead(session: &mut Session, key: &[u8]) -> Option<Vec<u8>> {
    let guard = session.pin(NOW_MS);
    let key = look_ahead!(guard, key);
    Some(guard.get(&key)?.value().into_owned())
}

fn a_key_that_was_seen_ahead_is_overwritten() {
    let cache = Layout::SINGLE_ITEMS.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"a", b"old");
    let writing = spawn(move || {
        set(&mut writer, b"a", b"new");
        // What was overwritten is written over.
        maintain(&mut writer);
        set(&mut writer, b"b", b"else");
        writer
    });
    let found = get_ahead(&mut reader, b"a").expect("it is there all the time");
    assert!(found == b"old" || found == b"new", "{found:?}");
    let writer = writing.join().expect("writer");
    assert_eq!(get_ahead(&mut reader, b"a").as_deref(), Some(&b"new"[..]));
    verify(&mut reader);
    drop(writer);
}

fn a_key_that_was_seen_ahead_gives_way_to_another() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"a", b"old");
    let writing = spawn(move || {
        let _ = delete(&mut writer, b"a");
        set(&mut writer, b"b", b"else");
        set(&mut writer, b"a", b"new");
        writer
    });
    let found = get_ahead(&mut reader, b"a");
    assert!(
        found.is_none_or(|found| found == b"old" || found == b"new"),
        "another key's value"
    );
    let writer = writing.join().expect("writer");
    assert_eq!(get_ahead(&mut reader, b"a").as_deref(), Some(&b"new"[..]));
    assert_eq!(get_ahead(&mut reader, b"b").as_deref(), Some(&b"else"[..]));
    verify(&mut reader);
    drop(writer);
}

fn a_key_that_was_seen_ahead_moves_to_another_bucket() {
    let (moving, staying) = (key(1, 0), key(0, 0));
    let cache = Layout::GROWING.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, &moving, b"old");
    let growing = spawn(move || {
        set(&mut writer, &staying, b"new");
        writer
    });
    let found = get_ahead(&mut reader, &moving);
    assert!(found.is_some(), "the key is there all the time");
    let writer = growing.join().expect("writer");
    verify(&mut reader);
    drop(writer);
}

fn a_store_of_the_same_batch_is_seen_through_a_split() {
    let (moving, staying) = (key(1, 0), key(0, 0));
    let cache = Layout::GROWING.cache();
    let (mut writer, mut batch) = (session(&cache), session(&cache));
    set(&mut writer, &moving, b"old");
    let growing = spawn(move || {
        set(&mut writer, &staying, b"new");
        writer
    });
    {
        let mut guard = batch.pin(NOW_MS);
        let key = look_ahead!(guard, &moving);
        let stored = guard.store(&key, Mode::Set, &Entry::of(b"mine"));
        assert!(stored.is_ok(), "there is room");
        let found = guard.get(&key).map(|item| item.value().into_owned());
        assert_eq!(found.as_deref(), Some(&b"mine"[..]), "not what it stored");
    }
    let writer = growing.join().expect("writer");
    assert_eq!(get(&mut batch, &moving).as_deref(), Some(&b"mine"[..]));
    verify(&mut batch);
    drop(writer);
}

/// Two sessions, both with room in an open segment, and `k` stored by the first.
fn two_sessions() -> (Cache, Session, Session) {
    let cache = ROOMY.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    set(&mut two, b"j", b"open");
    (cache, one, two)
}

fn two_sets_that_looked_ahead_leave_one_of_two_values() {
    let (cache, mut one, mut two) = two_sessions();
    let writing = spawn(move || {
        set_ahead(&mut one, b"k", b"one");
        one
    });
    set_ahead(&mut two, b"k", b"two");
    let one = writing.join().expect("writer");
    verify(&mut two);
    expect_single(&mut two, b"k", &[b"one", b"two"]);
    expect_no_segment_lost(&cache, vec![one, two]);
}

fn a_deletion_races_with_a_set_that_looked_ahead() {
    let (cache, mut one, mut two) = two_sessions();
    let writing = spawn(move || {
        set_ahead(&mut one, b"k", b"new");
        one
    });
    // There is an item all the time.
    assert_eq!(delete(&mut two, b"k"), Deletion::Deleted);
    let one = writing.join().expect("writer");
    verify(&mut two);
    match get(&mut two, b"k") {
        Some(_) => expect_single(&mut two, b"k", &[b"new"]),
        None => expect_absent(&mut two, b"k"),
    }
    expect_no_segment_lost(&cache, vec![one, two]);
}

fn a_reader_meets_a_set_that_looked_ahead() {
    let (cache, mut one, mut two) = two_sessions();
    let writing = spawn(move || {
        set_ahead(&mut one, b"k", b"new");
        one
    });
    let found = get_ahead(&mut two, b"k").expect("it is there all the time");
    assert!(found == b"old" || found == b"new", "{found:?}");
    let one = writing.join().expect("writer");
    expect_single(&mut two, b"k", &[b"new"]);
    expect_no_segment_lost(&cache, vec![one, two]);
}

/// A set of a key that was stored before beside the insertion that splits the only bucket.
fn set_through_a_split(stored: &[u8], inserted: &[u8]) {
    let layout = Layout {
        buckets_per_chunk: 2,
        ..ROOMY
    };
    let cache = layout.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut two, stored, b"old");
    let inserted = inserted.to_vec();
    let growing = spawn(move || {
        set(&mut one, &inserted, b"else");
        (one, inserted)
    });
    set_ahead(&mut two, stored, b"new");
    let (one, inserted) = growing.join().expect("writer");
    verify(&mut two);
    expect_single(&mut two, stored, &[b"new"]);
    expect_single(&mut two, &inserted, &[b"else"]);
    drop(one);
}

fn a_set_that_looked_ahead_survives_a_split() {
    set_through_a_split(&key(1, 0), &key(0, 0));
}

fn a_set_that_looked_ahead_stays_where_it_is_through_a_split() {
    set_through_a_split(&key(0, 0), &key(1, 0));
}

fn a_reader_looks_ahead_into_a_new_overflow_bucket() {
    let cache = ROOMY.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"a", b"first");
    set(&mut writer, b"b", b"first");
    let writing = spawn(move || {
        set(&mut writer, b"c", b"new");
        writer
    });
    let found = get_ahead(&mut reader, b"c");
    assert!(found.is_none_or(|found| found == b"new"));
    let writer = writing.join().expect("writer");
    assert_eq!(get_ahead(&mut reader, b"c").as_deref(), Some(&b"new"[..]));
    verify(&mut reader);
    drop(writer);
}

fn a_set_looks_ahead_at_a_key_that_leaves_an_overflow_bucket() {
    let layout = Layout {
        buckets_per_chunk: 4,
        items_per_segment: 4,
        ..Layout::ONE_BUCKET
    };
    let cache = layout.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    for nth in 0..2 {
        set(&mut two, &key_in(0, 4, nth), b"first");
    }
    let leaving = key_in(2, 4, 0);
    // Into an overflow bucket, which the split that follows takes it out of.
    let growing = spawn(move || {
        set(&mut one, &leaving, b"one");
        one
    });
    set_ahead(&mut two, &leaving, b"two");
    let one = growing.join().expect("writer");
    verify(&mut two);
    expect_single(&mut two, &leaving, &[b"one", b"two"]);
    drop(one);
}

fn a_set_that_looked_ahead_is_not_taken_by_a_flush_before_it() {
    let (cache, mut one, mut two) = two_sessions();
    let flushing = spawn(move || {
        one.pin(NOW_MS).flush(None);
        set(&mut one, b"k", b"one");
        one
    });
    set_ahead(&mut two, b"k", b"two");
    let one = flushing.join().expect("writer");
    verify(&mut two);
    // If the other set came before the flush, this one came after both.
    expect_single(&mut two, b"k", &[b"one", b"two"]);
    expect_no_segment_lost(&cache, vec![one, two]);
}
