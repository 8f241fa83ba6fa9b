//! Segments from open to free again, against readers, removals and evictions.

use crate::engine::{Cache, Deletion};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_no_segment_lost, expect_single, get, key, maintain, session,
    set, try_set, verify,
};

models! {
    Some(2) => a_reader_keeps_what_it_sees_until_it_unpins,
    Some(3) => a_removal_races_with_sealing,
    Some(3) => two_removals_retire_a_segment_once,
    Some(2) => a_pin_after_the_last_removal_sees_the_first,
    Some(2) => a_pin_after_sealing_sees_the_removals_before,
    Some(2) => eviction_races_with_a_reader,
    Some(2) => eviction_races_with_a_removal,
    Some(2) => eviction_races_with_an_overwrite,
    Some(2) => two_evictions_take_two_segments,
    Some(2) => a_session_ends_in_the_middle_of_an_eviction,
}

/// So few segments that the third item evicts the first.
const CRAMPED: Layout = Layout {
    segments: 3,
    ..Layout::SINGLE_ITEMS
};

fn a_reader_keeps_what_it_sees_until_it_unpins() {
    let cache = Layout::SINGLE_ITEMS.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"k", b"old");
    let writing = spawn(move || {
        set(&mut writer, b"k", b"new");
        // Goes on in the segment that was freed last.
        set(&mut writer, b"j", b"other");
        writer
    });
    {
        let guard = reader.pin(NOW_MS);
        let key = guard.key(b"k").expect("a key");
        let item = guard.get(&key).expect("the key is there all the time");
        assert!(matches!(&*item.value(), b"old" | b"new"));
        let again = guard.get(&key).expect("the key is there all the time");
        assert!(matches!(&*again.value(), b"old" | b"new"));
        assert!(
            matches!(&*item.value(), b"old" | b"new"),
            "reused while it was read"
        );
    }
    let writer = writing.join().expect("writer");
    expect_single(&mut reader, b"j", &[b"other"]);
    expect_single(&mut reader, b"k", &[b"new"]);
    expect_no_segment_lost(&cache, vec![writer, reader]);
}

fn a_removal_races_with_sealing() {
    let cache = Layout::SINGLE_ITEMS.cache();
    let (mut writer, mut remover) = (session(&cache), session(&cache));
    set(&mut writer, b"k", b"old");
    let sealing = spawn(move || {
        // Does not fit the open segment, which is sealed.
        set(&mut writer, b"j", b"new");
        writer
    });
    assert_eq!(delete(&mut remover, b"k"), Deletion::Deleted);
    let writer = sealing.join().expect("writer");
    expect_single(&mut remover, b"j", &[b"new"]);
    expect_no_segment_lost(&cache, vec![writer, remover]);
}

fn two_removals_retire_a_segment_once() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"j", b"first");
    set(&mut one, b"k", b"second");
    // Seals the segment of both.
    drop(one);
    let mut one = session(&cache);
    let removing = spawn(move || {
        assert_eq!(delete(&mut one, b"j"), Deletion::Deleted);
        one
    });
    assert_eq!(delete(&mut two, b"k"), Deletion::Deleted);
    let one = removing.join().expect("remover");
    expect_no_segment_lost(&cache, vec![one, two]);
}

/// A cache whose index has split, with a key in each bucket: no bucket's lock orders their writers.
fn two_buckets(layout: Layout) -> (Cache, [u8; 1], [u8; 1]) {
    let cache = layout.cache();
    let (moving, staying) = (key(1, 0), key(0, 0));
    let mut writer = session(&cache);
    set(&mut writer, &moving, b"first");
    set(&mut writer, &staying, b"second");
    drop(writer);
    assert_eq!(cache.stats().buckets, 2);
    (cache, moving, staying)
}

fn a_pin_after_the_last_removal_sees_the_first() {
    let layout = Layout {
        items_per_segment: 2,
        ..Layout::GROWING
    };
    let (cache, moving, staying) = two_buckets(layout);
    let (mut one, mut two) = (session(&cache), session(&cache));
    let removing = spawn(move || {
        assert_eq!(delete(&mut two, &staying), Deletion::Deleted);
        // If that was the last item of the segment, this pin does not hold it back any more.
        get(&mut two, &moving);
        two
    });
    assert_eq!(delete(&mut one, &moving), Deletion::Deleted);
    // Goes into the segment that was freed last.
    set(&mut one, b"other", b"new");
    let ended = removing.join();
    verify(&mut one);
    drop((ended, one));
}

fn a_pin_after_sealing_sees_the_removals_before() {
    let (cache, moving, staying) = two_buckets(Layout::GROWING);
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut two, &moving, b"open");
    let sealing = spawn(move || {
        set(&mut two, &staying, b"seals");
        get(&mut two, &moving);
        two
    });
    assert_eq!(delete(&mut one, &moving), Deletion::Deleted);
    // Goes into the segment that was freed last.
    set(&mut one, b"other", b"new");
    let ended = sealing.join();
    verify(&mut one);
    drop((ended, one));
}

fn eviction_races_with_a_reader() {
    let cache = CRAMPED.cache();
    let (mut writer, mut reader) = (session(&cache), session(&cache));
    set(&mut writer, b"a", b"first");
    let writing = spawn(move || {
        for key in [b"b", b"c", b"d"] {
            // May find no room while the reader holds what was evicted.
            try_set(&mut writer, key, b"more");
        }
        writer
    });
    {
        let guard = reader.pin(NOW_MS);
        let key = guard.key(b"a").expect("a key");
        let item = guard.get(&key);
        let missed = guard.get(&key).is_none();
        match item {
            Some(item) => assert_eq!(*item.value(), *b"first", "reused while it was read"),
            None => assert!(missed, "what was evicted came back"),
        }
    }
    let writer = writing.join().expect("writer");
    expect_no_segment_lost(&cache, vec![writer, reader]);
}

fn eviction_races_with_a_removal() {
    let cache = CRAMPED.cache();
    let (mut writer, mut remover) = (session(&cache), session(&cache));
    set(&mut writer, b"a", b"first");
    set(&mut writer, b"b", b"second");
    let evicting = spawn(move || {
        set(&mut writer, b"c", b"third");
        writer
    });
    let deletion = delete(&mut remover, b"a");
    assert_ne!(deletion, Deletion::Exists);
    let writer = evicting.join().expect("writer");
    assert_eq!(get(&mut remover, b"a"), None);
    for key in [b"b", b"c"] {
        let _ = delete(&mut remover, key);
    }
    assert_eq!(cache.stats().items, 0);
    expect_no_segment_lost(&cache, vec![writer, remover]);
}

fn eviction_races_with_an_overwrite() {
    let cache = CRAMPED.cache();
    let (mut writer, mut other) = (session(&cache), session(&cache));
    set(&mut writer, b"a", b"first");
    set(&mut other, b"b", b"second");
    let evicting = spawn(move || {
        set(&mut writer, b"c", b"third");
        writer
    });
    set(&mut other, b"a", b"new");
    let writer = evicting.join().expect("writer");
    for key in [b"a", b"b", b"c"] {
        let _ = delete(&mut other, key);
    }
    assert_eq!(cache.stats().items, 0);
    expect_no_segment_lost(&cache, vec![writer, other]);
}

fn two_evictions_take_two_segments() {
    let cache = Layout {
        segments: 4,
        ..Layout::SINGLE_ITEMS
    }
    .cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    for key in [b"a", b"b"] {
        set(&mut one, key, b"first");
    }
    for key in [b"c", b"d"] {
        set(&mut two, key, b"first");
    }
    let evicting = spawn(move || {
        try_set(&mut one, b"e", b"one");
        one
    });
    // May find no room while the other is at it.
    try_set(&mut two, b"f", b"two");
    let one = evicting.join().expect("writer");
    for key in [b"a", b"b", b"c", b"d", b"e", b"f"] {
        let _ = delete(&mut two, key);
    }
    assert_eq!(cache.stats().items, 0);
    expect_no_segment_lost(&cache, vec![one, two]);
}

fn a_session_ends_in_the_middle_of_an_eviction() {
    let cache = Layout {
        items_per_segment: 4,
        segments: 2,
        ..Layout::ONE_BUCKET
    }
    .cache();
    let (mut writer, mut other) = (session(&cache), session(&cache));
    // The first half of the segment is dead when its eviction begins.
    for value in [b"dead", b"live"] {
        set(&mut writer, b"a", value);
        set(&mut writer, b"b", value);
    }
    let ending = spawn(move || {
        set(&mut writer, b"c", b"third");
        drop(writer);
    });
    assert_ne!(delete(&mut other, b"a"), Deletion::Exists);
    if let Some(value) = get(&mut other, b"b") {
        assert_eq!(value, b"live");
    }
    ending.join().expect("session");
    // What it has begun, whoever needs a segment ends.
    maintain(&mut other);
    assert_eq!(get(&mut other, b"b"), None);
    expect_single(&mut other, b"c", &[b"third"]);
    expect_no_segment_lost(&cache, vec![other]);
}
