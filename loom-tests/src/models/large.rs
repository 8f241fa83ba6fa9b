//! Large values: received, published, read in place, held by senders, and freed.
//!
//! A value of [`LONG`] bytes takes two extents. What is freed is overwritten at once, by another
//! value of that length: a reader that is not safe meets it.

use crate::engine::large::{LargeDraft, LargeValue};
use crate::engine::log::segment::Log;
use crate::engine::{Cache, Deletion, Entry, Mode, Outcome, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, get, maintain, session, set, standing, store, try_set, verify,
};

models! {
    Some(4) => a_large_value_is_freed_after_its_last_reader,
    Some(4) => a_sender_keeps_a_large_value_that_is_overwritten,
    Some(4) => a_sender_keeps_a_large_value_that_is_evicted,
    Some(3) => a_reader_takes_hold_of_a_large_value_that_is_deleted,
    Some(3) => a_reader_takes_hold_of_a_large_value_that_is_overwritten,
    Some(3) => two_readers_take_hold_of_one_large_value,
    Some(3) => a_reader_takes_hold_of_a_large_value_that_moves,
    Some(2) => a_large_value_that_moves_is_deleted,
    Some(2) => a_removal_empties_a_segment_whose_eviction_is_put_off,
    Some(1) => a_segment_that_is_used_again_is_walked_from_its_beginning,
    Some(2) => two_sessions_go_on_with_an_eviction_that_was_put_off,
    Some(3) => a_large_value_that_is_touched_is_deleted,
    Some(2) => a_large_value_that_is_touched_is_touched_again,
    Some(2) => an_append_to_a_large_value_keeps_a_touch,
    Some(3) => an_append_meets_a_value_that_becomes_large,
    Some(3) => an_abandoned_draft_leaves_nothing_behind,
    Some(2) => two_large_values_of_one_key_leave_one,
    Some(3) => two_values_share_a_segment_that_one_of_them_leaves,
    Some(1) => two_sessions_share_a_segment_of_parts,
    Some(3) => a_reader_takes_hold_of_a_value_in_a_part_that_is_overwritten,
}

/// Bytes of a large value: more than one segment, less than two.
const LONG: usize = 80;

/// An item that describes two extents takes 56 bytes.
pub(super) const ROOMY: Layout = Layout {
    items_per_segment: 3,
    segments: 8,
    segments_reserved: 0,
    inline_bytes_max: 40,
    ..Layout::ONE_BUCKET
};

pub(super) fn large(byte: u8) -> Vec<u8> {
    vec![byte; LONG]
}

/// A cache with a large value of `x` under `a`.
pub(super) fn with_large(layout: Layout) -> (Cache, Session, Session) {
    let cache = layout.cache();
    let (mut one, two) = (session(&cache), session(&cache));
    set(&mut one, b"a", &large(b'x'));
    (cache, one, two)
}

/// A reference to the value of `a`, if it is there.
pub(super) fn hold(session: &mut Session) -> Option<LargeValue> {
    let guard = session.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    let item = guard.get(&key)?;
    Some(guard.hold(&item).expect("it is a large one"))
}

/// Reads a held value as a sender does, piece by piece.
pub(super) fn send(value: &LargeValue) -> Vec<u8> {
    let mut sent = Vec::new();
    while (sent.len() as u64) < value.value_bytes() {
        sent.extend_from_slice(value.piece_at(sent.len() as u64));
    }
    sent
}

/// Checks that no extent is left, when nobody holds one.
pub(super) fn expect_no_extent(cache: &Cache, session: &mut Session) {
    verify(session);
    let (shared, _pin) = session.parts();
    assert_eq!(shared.segments.usage(NOW_MS).used_parts, 0);
    assert_eq!(cache.stats().limbo_bytes, 0);
}

/// A sender drops the value of `a` while `act` makes the index let go of it.
fn send_beside(layout: Layout, act: impl FnOnce(&mut Session)) -> (Cache, Session, Session) {
    let (cache, mut one, mut two) = with_large(layout);
    let held = hold(&mut two).expect("the value is there");
    let sending = spawn(move || {
        assert_eq!(send(&held), large(b'x'), "freed while it was sent");
    });
    act(&mut one);
    sending.join().expect("sender");
    verify(&mut two);
    (cache, one, two)
}

fn a_large_value_is_freed_after_its_last_reader() {
    let (cache, mut one, mut two) = send_beside(ROOMY, |one| {
        assert_eq!(delete(one, b"a"), Deletion::Deleted);
        set(one, b"b", &large(b'y'));
    });
    assert_eq!(delete(&mut one, b"b"), Deletion::Deleted);
    expect_no_extent(&cache, &mut two);
}

fn a_sender_keeps_a_large_value_that_is_overwritten() {
    let (_cache, _one, mut two) = send_beside(ROOMY, |one| {
        set(one, b"a", b"short");
        set(one, b"b", &large(b'y'));
    });
    assert_eq!(get(&mut two, b"a").as_deref(), Some(&b"short"[..]));
    assert_eq!(get(&mut two, b"b"), Some(large(b'y')));
}

fn a_sender_keeps_a_large_value_that_is_evicted() {
    let layout = Layout {
        segments: 4,
        ..ROOMY
    };
    let (_cache, _one, mut two) = send_beside(layout, |one| {
        // Needs more than there is: it may find no room while the sender is at it.
        for byte in [b'y', b'z'] {
            try_set(one, b"b", &large(byte));
        }
    });
    let found = get(&mut two, b"b");
    assert!(found.is_none_or(|value| value == large(b'y') || value == large(b'z')));
}

/// A reader takes hold of the value of `a` while `act` makes the index let go of it.
fn take_hold_beside(
    layout: Layout,
    act: impl FnOnce(&mut Session),
) -> (Cache, Session, Session, bool) {
    let (cache, mut one, mut two) = with_large(layout);
    let reading = spawn(move || {
        let held = hold(&mut two);
        if let Some(held) = &held {
            assert_eq!(send(held), large(b'x'), "freed while it was held");
        }
        (two, held.is_some())
    });
    act(&mut one);
    let (mut two, found) = reading.join().expect("reader");
    verify(&mut two);
    (cache, one, two, found)
}

fn a_reader_takes_hold_of_a_large_value_that_is_deleted() {
    let (cache, mut one, mut two, _) = take_hold_beside(ROOMY, |one| {
        assert_eq!(delete(one, b"a"), Deletion::Deleted);
        set(one, b"b", &large(b'y'));
    });
    assert_eq!(delete(&mut one, b"b"), Deletion::Deleted);
    expect_no_extent(&cache, &mut two);
}

fn a_reader_takes_hold_of_a_large_value_that_is_overwritten() {
    let cache = ROOMY.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"a", &large(b'x'));
    let writing = spawn(move || {
        set(&mut one, b"a", &large(b'y'));
        // May find no room while the reader holds what was there.
        try_set(&mut one, b"b", &large(b'z'));
        one
    });
    let held = hold(&mut two).expect("the key is there all the time");
    let sent = send(&held);
    assert!(sent == large(b'x') || sent == large(b'y'), "torn");
    drop(held);
    drop(writing.join().expect("writer"));
    verify(&mut two);
    assert_eq!(get(&mut two, b"a"), Some(large(b'y')));
}

fn two_readers_take_hold_of_one_large_value() {
    let (cache, mut one, mut two) = with_large(ROOMY);
    let reading = spawn(move || {
        let held = hold(&mut two);
        (two, held)
    });
    let held = hold(&mut one).expect("the value is there");
    let (mut two, other) = reading.join().expect("reader");
    drop(other);
    assert_eq!(delete(&mut one, b"a"), Deletion::Deleted);
    set(&mut one, b"b", &large(b'y'));
    assert_eq!(send(&held), large(b'x'), "freed while it was held");
    drop(held);
    assert_eq!(delete(&mut one, b"b"), Deletion::Deleted);
    expect_no_extent(&cache, &mut two);
}

/// Maintenance moves the value of `a` to main; only its item moves.
const SHORT: Layout = Layout {
    segments: 6,
    segments_reserved: 2,
    ..ROOMY
};

/// As [`with_large`], with the item sealed, read twice, and about to be moved.
fn about_to_move() -> (Cache, Session, Session) {
    let (cache, one, mut two) = with_large(SHORT);
    drop(one);
    for _ in 0..2 {
        assert!(hold(&mut two).is_some());
    }
    let one = session(&cache);
    (cache, one, two)
}

fn a_reader_takes_hold_of_a_large_value_that_moves() {
    let (cache, mut one, mut two) = about_to_move();
    let moving = spawn(move || {
        maintain(&mut one);
        one
    });
    let held = hold(&mut two).expect("the key is there all the time");
    assert_eq!(send(&held), large(b'x'));
    drop(held);
    let mut one = moving.join().expect("mover");
    verify(&mut two);
    assert_eq!(standing(&mut two, b"a").0, Log::Main);
    assert_eq!(delete(&mut one, b"a"), Deletion::Deleted);
    expect_no_extent(&cache, &mut two);
}

fn a_large_value_that_moves_is_deleted() {
    let (cache, mut one, mut two) = about_to_move();
    let moving = spawn(move || {
        maintain(&mut one);
        one
    });
    assert_eq!(delete(&mut two, b"a"), Deletion::Deleted);
    drop(moving.join().expect("mover"));
    assert_eq!(get(&mut two, b"a"), None);
    expect_no_extent(&cache, &mut two);
}

/// A cache whose memory is used up: by a large value of two extents and a short one, whose items
/// share a sealed segment, and by what another session has open. An eviction that has freed the
/// extents leaves the rest of the segment for another time.
fn used_up(buckets: u64) -> (Cache, [Session; 3]) {
    let layout = Layout {
        items_per_segment: 4,
        segments: 4,
        buckets_per_chunk: buckets,
        ..ROOMY
    };
    let cache = layout.cache();
    let mut one = session(&cache);
    set(&mut one, b"a", &[b'x'; 120]);
    set(&mut one, b"k", b"short");
    drop(one);
    let mut sessions = [session(&cache), session(&cache), session(&cache)];
    set(&mut sessions[2], b"o", b"open");
    (cache, sessions)
}

fn a_removal_empties_a_segment_whose_eviction_is_put_off() {
    let (cache, [mut one, mut two, _third]) = used_up(1);
    let evicting = spawn(move || {
        // May find no room while the other one is at it.
        let stored = try_set(&mut one, b"b", b"new");
        (one, stored)
    });
    let deletion = delete(&mut two, b"k");
    let (mut one, stored) = evicting.join().expect("evictor");
    verify(&mut two);
    assert_ne!(deletion, Deletion::Exists);
    assert_eq!(get(&mut two, b"k"), None);
    assert_eq!(get(&mut two, b"a"), None);
    let expected = stored.then(|| b"new".to_vec());
    assert_eq!(get(&mut two, b"b"), expected);
    let _ = delete(&mut one, b"b");
    expect_no_extent(&cache, &mut two);
}

fn a_segment_that_is_used_again_is_walked_from_its_beginning() {
    let (_cache, [mut one, mut two, _third]) = used_up(8);
    assert!(try_set(&mut one, b"b", b"new"));
    assert_eq!(delete(&mut two, b"k"), Deletion::Deleted);
    // Its eviction had been put off. It is filled again, and evicted again.
    let reading = spawn(move || {
        let found = get(&mut two, b"f");
        assert!(found.is_none_or(|value| value == b"new"));
        two
    });
    for key in (b'c'..=b'v').map(|byte| [byte]) {
        try_set(&mut one, &key, b"new");
    }
    drop(reading.join().expect("reader"));
    verify(&mut one);
    assert_eq!(get(&mut one, b"f"), None);
}

fn two_sessions_go_on_with_an_eviction_that_was_put_off() {
    let (_cache, [mut one, mut two, _third]) = used_up(1);
    let evicting = spawn(move || {
        let stored = try_set(&mut one, b"b", b"one");
        (one, stored)
    });
    let stored = try_set(&mut two, b"c", b"two");
    let (one, other) = evicting.join().expect("evictor");
    verify(&mut two);
    assert!(stored || other, "neither found room");
    assert_eq!(get(&mut two, b"a"), None);
    drop(one);
}

fn touch(session: &mut Session) -> bool {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    let touched = guard.touch(&key, Some(NOW_MS + 1));
    touched.expect("there is room")
}

fn a_large_value_that_is_touched_is_deleted() {
    let (cache, mut one, mut two) = with_large(ROOMY);
    let touching = spawn(move || {
        touch(&mut one);
        one
    });
    assert_eq!(delete(&mut two, b"a"), Deletion::Deleted);
    let one = touching.join().expect("toucher");
    assert_eq!(get(&mut two, b"a"), None);
    expect_no_extent(&cache, &mut two);
    drop(one);
}

fn a_large_value_that_is_touched_is_touched_again() {
    let (cache, mut one, mut two) = with_large(ROOMY);
    let touching = spawn(move || {
        assert!(touch(&mut one));
        one
    });
    assert!(touch(&mut two));
    let one = touching.join().expect("toucher");
    verify(&mut two);
    assert_eq!(get(&mut two, b"a"), Some(large(b'x')));
    assert_eq!(delete(&mut two, b"a"), Deletion::Deleted);
    expect_no_extent(&cache, &mut two);
    drop(one);
}

fn an_append_to_a_large_value_keeps_a_touch() {
    let (_cache, mut one, mut two) = with_large(ROOMY);
    let touching = spawn(move || {
        assert!(touch(&mut one));
        one
    });
    let outcome = store(&mut two, b"a", Mode::Append, b"more");
    assert!(matches!(outcome, Outcome::Stored { .. }));
    drop(touching.join().expect("toucher"));
    verify(&mut two);
    let guard = two.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    let item = guard.get(&key).expect("the key is there all the time");
    assert_eq!(*item.value(), [large(b'x'), b"more".to_vec()].concat());
    assert_eq!(item.expires_at_ms(), Some(NOW_MS + 1), "a touch was lost");
}

fn an_append_meets_a_value_that_becomes_large() {
    let cache = ROOMY.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"a", b"short");
    let storing = spawn(move || {
        set(&mut one, b"a", &large(b'x'));
        one
    });
    let outcome = store(&mut two, b"a", Mode::Append, b"y");
    assert!(matches!(outcome, Outcome::Stored { .. }));
    drop(storing.join().expect("storer"));
    verify(&mut two);
    // The append came before the other store, or behind it.
    let found = get(&mut two, b"a").expect("the key is there all the time");
    assert!(found == large(b'x') || found == [large(b'x'), b"y".to_vec()].concat());
}

fn receive_some(session: &mut Session) -> Option<LargeDraft> {
    let mut guard = session.pin(NOW_MS);
    let mut draft = guard.begin_large(LONG as u64).ok()?;
    guard.extend_large(&mut draft).ok()?;
    draft.space()[..8].fill(b'x');
    draft.advance(8);
    Some(draft)
}

fn an_abandoned_draft_leaves_nothing_behind() {
    let layout = Layout {
        segments: 5,
        ..ROOMY
    };
    let cache = layout.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let receiving = spawn(move || {
        // The client goes away after its first bytes.
        drop(receive_some(&mut one));
        one
    });
    // Where both are too much, one is refused.
    let mut guard = two.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    let value = large(b'y');
    let stored = guard.store(&key, Mode::Set, &Entry::of(&value)).is_ok();
    drop(guard);
    drop(receiving.join().expect("receiver"));
    verify(&mut two);
    let expected = stored.then_some(value);
    assert_eq!(get(&mut two, b"a"), expected);
    let _ = delete(&mut two, b"a");
    expect_no_extent(&cache, &mut two);
}

fn two_large_values_of_one_key_leave_one() {
    let cache = ROOMY.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    let writing = spawn(move || {
        set(&mut one, b"a", &large(b'x'));
        one
    });
    let _ = store(&mut two, b"a", Mode::Add, &large(b'y'));
    drop(writing.join().expect("writer"));
    verify(&mut two);
    assert_eq!(get(&mut two, b"a"), Some(large(b'x')));
    assert_eq!(delete(&mut two, b"a"), Deletion::Deleted);
    expect_no_extent(&cache, &mut two);
}

/// Bytes of a value that takes one part of three, its references included.
const PART: usize = 14;

/// A segment has three parts, and every value has extents.
const SHARED: Layout = Layout {
    inline_bytes_max: 8,
    parts_per_segment: 3,
    ..ROOMY
};

fn in_part(byte: u8) -> Vec<u8> {
    vec![byte; PART]
}

fn two_values_share_a_segment_that_one_of_them_leaves() {
    let cache = SHARED.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"a", &in_part(b'x'));
    set(&mut one, b"b", &in_part(b'y'));
    let held = hold(&mut two).expect("the value is there");
    let sending = spawn(move || {
        assert_eq!(send(&held), in_part(b'x'), "a neighbour was written over");
    });
    assert_eq!(delete(&mut one, b"b"), Deletion::Deleted);
    // One more than fits the segment: what `b` had is used again, and another segment is begun.
    for key in [b"c", b"d", b"e"] {
        set(&mut one, key, &in_part(b'z'));
    }
    sending.join().expect("sender");
    assert_eq!(get(&mut two, b"a"), Some(in_part(b'x')));
    assert_eq!(get(&mut two, b"c"), Some(in_part(b'z')));
    // With `a` both segments have free parts.
    for key in [b"a", b"c", b"d", b"e"] {
        assert_eq!(delete(&mut one, key), Deletion::Deleted);
        verify(&mut two);
    }
    expect_no_extent(&cache, &mut two);
}

fn two_sessions_share_a_segment_of_parts() {
    let cache = SHARED.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    // A whole segment, and a part of the one that the others share.
    set(&mut one, b"a", &large(b'x'));
    let other = spawn(move || {
        set(&mut two, b"b", &in_part(b'y'));
        assert_eq!(get(&mut two, b"b"), Some(in_part(b'y')));
        two
    });
    assert_eq!(delete(&mut one, b"a"), Deletion::Deleted);
    set(&mut one, b"c", &in_part(b'z'));
    let mut two = other.join().expect("session");
    assert_eq!(get(&mut one, b"b"), Some(in_part(b'y')));
    assert_eq!(get(&mut two, b"c"), Some(in_part(b'z')));
    for key in [b"b", b"c"] {
        assert_eq!(delete(&mut one, key), Deletion::Deleted);
    }
    expect_no_extent(&cache, &mut two);
}

fn a_reader_takes_hold_of_a_value_in_a_part_that_is_overwritten() {
    let cache = SHARED.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"a", &in_part(b'x'));
    let reading = spawn(move || {
        let held = hold(&mut two).expect("the key always has a value");
        let sent = send(&held);
        assert!(
            sent == in_part(b'x') || sent == in_part(b'y'),
            "freed while it was held"
        );
        drop(held);
        two
    });
    set(&mut one, b"a", &in_part(b'y'));
    set(&mut one, b"b", &in_part(b'z'));
    let mut two = reading.join().expect("reader");
    assert_eq!(get(&mut two, b"a"), Some(in_part(b'y')));
    for key in [b"a", b"b"] {
        assert_eq!(delete(&mut one, key), Deletion::Deleted);
    }
    expect_no_extent(&cache, &mut two);
}
