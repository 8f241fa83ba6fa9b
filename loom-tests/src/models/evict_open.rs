//! Large values whose items lie in open segments, evicted since somebody else needs their memory.

use crate::engine::{Cache, Deletion, Session};
use crate::model::{models, spawn};
use crate::models::large::{ROOMY, expect_no_extent, hold, large, send, with_large};
use crate::models::scene::{Layout, delete, get, session, set, try_set, verify};

models! {
    Some(3) => a_reader_takes_hold_of_a_value_that_an_open_segment_names,
    Some(2) => a_value_that_an_open_segment_names_is_deleted,
    Some(2) => a_value_that_an_open_segment_names_is_overwritten,
    Some(2) => a_value_leaves_beside_an_open_segment_that_is_written,
    Some(2) => a_value_leaves_beside_a_segment_that_is_opened_again,
    Some(2) => two_sessions_need_what_an_open_segment_names,
}

/// The item of a value has a segment, and the value one extent.
const NAMED: Layout = Layout {
    items_per_segment: 4,
    segments: 4,
    ..ROOMY
};

/// The value of `a` leaves, whose item lies in what the first session has open, since another session needs
/// its memory; meanwhile the second acts.
fn leave_open<T: Send + 'static>(
    act: impl FnOnce(&mut Session, &mut Session) -> T + Send + 'static,
) -> (Cache, Session, T) {
    let layout = Layout {
        segments: 3,
        ..NAMED
    };
    let (cache, mut one, mut two) = with_large(layout);
    let mut three = session(&cache);
    let acting = spawn(move || {
        let acted = act(&mut one, &mut two);
        // One stays open.
        (one, two, acted)
    });
    // One segment is free; this needs two.
    let stored = try_set(&mut three, b"b", &large(b'y'));
    let (one, mut two, acted) = acting.join().expect("actor");
    verify(&mut two);
    let found = get(&mut two, b"b");
    assert_eq!(found, stored.then(|| large(b'y')));
    if !stored {
        // At the latest now there is room.
        set(&mut three, b"b", &large(b'y'));
        verify(&mut two);
    }
    drop(one);
    drop(two);
    (cache, three, acted)
}

fn a_reader_takes_hold_of_a_value_that_an_open_segment_names() {
    let (cache, mut three, ()) = leave_open(|_, two| {
        if let Some(held) = hold(two) {
            assert_eq!(send(&held), large(b'x'), "freed while it was held");
        }
    });
    for key in [b"a", b"b"] {
        let _ = delete(&mut three, key);
    }
    expect_no_extent(&cache, &mut three);
}

fn a_value_that_an_open_segment_names_is_deleted() {
    let (cache, mut three, _) = leave_open(|_, two| delete(two, b"a"));
    assert_eq!(get(&mut three, b"a"), None);
    let _ = delete(&mut three, b"b");
    expect_no_extent(&cache, &mut three);
}

fn a_value_that_an_open_segment_names_is_overwritten() {
    // Its owner writes on in the same segment.
    let (cache, mut three, stored) = leave_open(|one, _| try_set(one, b"a", b"new"));
    assert!(stored, "the segment had room");
    assert_eq!(get(&mut three, b"a").as_deref(), Some(&b"new"[..]));
    for key in [b"a", b"b"] {
        let _ = delete(&mut three, key);
    }
    expect_no_extent(&cache, &mut three);
}

/// Another session needs the memory of the value of `a` while one writes to its own open segment.
fn leave_beside(cache: &Cache, mut one: Session, named: Session) {
    let mut other = session(cache);
    let writing = spawn(move || {
        let stored = try_set(&mut one, b"n", b"new");
        (one, stored)
    });
    let has_room = try_set(&mut other, b"b", &large(b'y'));
    let (one, stored) = writing.join().expect("writer");
    verify(&mut other);
    if !has_room {
        set(&mut other, b"b", &large(b'y'));
        verify(&mut other);
    }
    // The writer may have needed its memory in turn.
    let found = get(&mut other, b"b");
    assert!(found.is_none_or(|value| value == large(b'y')));
    let found = get(&mut other, b"n");
    assert!(found.is_none_or(|value| stored && value == b"new"));
    drop(one);
    drop(named);
}

fn a_value_leaves_beside_an_open_segment_that_is_written() {
    let cache = NAMED.cache();
    let (mut one, mut named) = (session(&cache), session(&cache));
    // Opened first, so that it is walked first.
    set(&mut one, b"k", b"short");
    set(&mut named, b"a", &large(b'x'));
    leave_beside(&cache, one, named);
}

fn a_value_leaves_beside_a_segment_that_is_opened_again() {
    let cache = NAMED.cache();
    let mut named = session(&cache);
    set(&mut named, b"a", &large(b'x'));
    // A segment was filled before, and is free again.
    let mut before = session(&cache);
    for key in [b"e", b"f", b"g", b"h"] {
        set(&mut before, key, b"old");
        assert_eq!(delete(&mut before, key), Deletion::Deleted);
    }
    drop(before);
    verify(&mut named);
    let one = session(&cache);
    leave_beside(&cache, one, named);
}

fn two_sessions_need_what_an_open_segment_names() {
    let cache = NAMED.cache();
    let [mut one, mut two, mut named] = [session(&cache), session(&cache), session(&cache)];
    set(&mut named, b"a", &large(b'x'));
    let other = spawn(move || {
        let stored = try_set(&mut one, b"b", &large(b'y'));
        (one, stored)
    });
    let stored = try_set(&mut two, b"c", &large(b'z'));
    let (one, other) = other.join().expect("session");
    verify(&mut two);
    assert!(stored || other, "neither found room");
    for (key, byte) in [(b"a", b'x'), (b"b", b'y'), (b"c", b'z')] {
        let found = get(&mut two, key);
        assert!(found.is_none_or(|value| value == large(byte)));
        let _ = delete(&mut two, key);
    }
    drop(one);
    drop(named);
    expect_no_extent(&cache, &mut two);
}
