//! Readers against a writer on one key.

use crate::engine::Deletion;
use crate::model::{models, spawn};
use crate::models::scene::{Layout, delete, get, session, set, verify};

models! {
    None => a_reader_sees_a_whole_item_or_none,
    Some(3) => two_readers_share_a_new_item,
    Some(4) => an_overwrite_is_seen_once_and_for_all,
    Some(4) => a_deleted_key_stays_deleted,
}

fn a_reader_sees_a_whole_item_or_none() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    let writing = spawn(move || {
        set(&mut writer, b"k", b"value");
        writer
    });
    let seen = get(&mut reader, b"k");
    assert!(seen.is_none() || seen.as_deref() == Some(b"value"));
    let ended = writing.join();
    verify(&mut reader);
    drop((ended, reader));
}

fn two_readers_share_a_new_item() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    let mut other = session(&cache);
    let writing = spawn(move || {
        set(&mut writer, b"k", b"value");
        writer
    });
    // The first to find it counts the read in its entry: the second may read that store.
    let reading = spawn(move || {
        let seen = get(&mut other, b"k");
        assert!(seen.is_none() || seen.as_deref() == Some(b"value"));
        other
    });
    let seen = get(&mut reader, b"k");
    assert!(seen.is_none() || seen.as_deref() == Some(b"value"));
    let ended = (writing.join(), reading.join());
    verify(&mut reader);
    drop((ended, reader));
}

fn an_overwrite_is_seen_once_and_for_all() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"k", b"old");
    let writing = spawn(move || {
        set(&mut writer, b"k", b"new");
        writer
    });
    let first = get(&mut reader, b"k").expect("the key is there all the time");
    let second = get(&mut reader, b"k").expect("the key is there all the time");
    let seen = (&first[..], &second[..]);
    assert!(matches!(
        seen,
        (b"old", b"old") | (b"old", b"new") | (b"new", b"new")
    ));
    let ended = writing.join();
    verify(&mut reader);
    drop((ended, reader));
}

fn a_deleted_key_stays_deleted() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"k", b"value");
    let writing = spawn(move || {
        assert_eq!(delete(&mut writer, b"k"), Deletion::Deleted);
        writer
    });
    let first = get(&mut reader, b"k");
    let second = get(&mut reader, b"k");
    assert!(first.is_some() || second.is_none());
    let writer = writing.join();
    verify(&mut reader);
    assert_eq!(get(&mut reader, b"k"), None);
    drop((writer, reader));
}
