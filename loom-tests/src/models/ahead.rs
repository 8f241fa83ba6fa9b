//! Reads that looked ahead: what a slot had when it was seen is looked at again, so it does not matter
//! what happened in between.

use crate::engine::{Entry, Mode, Session};
use crate::model::{models, spawn};
use crate::models::scene::{Layout, NOW_MS, delete, get, key, maintain, session, set, verify};

models! {
    Some(3) => a_key_that_was_seen_ahead_is_overwritten,
    Some(2) => a_key_that_was_seen_ahead_gives_way_to_another,
    Some(2) => a_key_that_was_seen_ahead_moves_to_another_bucket,
    Some(2) => a_store_of_the_same_batch_is_seen_through_a_split,
}

/// The key, its bucket and its slot looked at.
macro_rules! look_ahead {
    ($guard:expr, $key:expr) => {{
        let mut key = $guard.key($key).expect("a key");
        $guard.prefetch_bucket(&key);
        $guard.prefetch_items(std::iter::once(&mut key));
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
