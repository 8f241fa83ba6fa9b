//! Expiry: segments that are freed whole, and walks that remove a part, against everything else
//! that may happen to the same keys.
//!
//! One session's clock has come so far that `a` has expired, when it maintains; that of the other
//! one, which does something with `a` meanwhile, has not. In the models of a *part* the segment
//! holds `k` as well, which lives for ever.

use crate::engine::upkeep::Upkeep;
use crate::engine::{Cache, Entry, Mode, Outcome, Session};
use crate::model::{models, spawn};
use crate::models::scene::{Layout, NOW_MS, delete, get, session, set, tend_one_item, verify};

models! {
    Some(3) => a_reader_keeps_an_item_whose_segment_expires,
    Some(2) => an_overwrite_outlives_the_segment_that_expires,
    Some(2) => a_touch_outlives_the_segment_that_expires,
    Some(3) => a_deletion_races_with_the_segment_that_expires,
    Some(3) => a_reader_keeps_an_item_that_expires_in_part_of_a_segment,
    Some(2) => an_overwrite_outlives_a_part_that_expires,
    Some(2) => a_touch_outlives_a_part_that_expires,
    Some(3) => a_removal_empties_a_segment_while_a_part_expires,
    Some(3) => two_sessions_find_the_same_segment_expired,
    Some(2) => what_expires_while_its_segment_is_claimed_is_not_forgotten,
    Some(2) => what_is_flushed_while_its_segment_is_claimed_is_not_forgotten,
}

/// When `a` has expired.
const LATER_MS: u64 = NOW_MS + 1_000;
/// When everything has that ever will.
const LAST_MS: u64 = NOW_MS + 100_000;

const ROOMY: Layout = Layout {
    items_per_segment: 4,
    segments_reserved: 0,
    ..Layout::ONE_BUCKET
};

fn set_until(session: &mut Session, key: &[u8], expires_at_ms: u64) {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(key).expect("a key");
    let entry = Entry {
        expires_at_ms: Some(expires_at_ms),
        ..Entry::of(b"old")
    };
    let stored = guard.store(&key, Mode::Set, &entry).expect("there is room");
    assert!(matches!(stored, Outcome::Stored { .. }));
}

fn get_at(session: &mut Session, key: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let guard = session.pin(now_ms);
    let key = guard.key(key).expect("a key");
    guard.get(&key).map(|item| item.value().to_vec())
}

/// A sealed segment with `a`, which expires, alone or with others that do not.
fn expiring(others: &[&[u8]]) -> (Cache, Session, Session) {
    let cache = ROOMY.cache();
    let mut one = session(&cache);
    set_until(&mut one, b"a", LATER_MS);
    for key in others {
        set(&mut one, key, b"stays");
    }
    drop(one);
    let (one, mut two) = (session(&cache), session(&cache));
    set(&mut two, b"c", b"open");
    (cache, one, two)
}

/// Removes what has expired, while `act` runs.
fn expire_beside<T>(
    mut one: Session,
    two: &mut Session,
    act: impl FnOnce(&mut Session) -> T,
) -> (Session, T) {
    let expiring = spawn(move || {
        let _ = one.maintain(LATER_MS);
        one
    });
    let done = act(two);
    let one = expiring.join().expect("maintenance");
    verify(two);
    (one, done)
}

/// The same, while `a` is read; what was freed is used again at once.
fn expire_beside_a_reader(one: &mut Session, mut two: Session) -> Session {
    let reading = spawn(move || {
        let guard = two.pin(NOW_MS);
        let key = guard.key(b"a").expect("a key");
        let item = guard.get(&key);
        let again = guard.get(&key);
        assert!(item.is_some() || again.is_none(), "what expired came back");
        if let Some(item) = item {
            assert_eq!(*item.value(), *b"old", "reused while it was read");
        }
        drop(guard);
        two
    });
    let _ = one.maintain(LATER_MS);
    // Goes into the segment that was freed last.
    set(one, b"d", b"new");
    let two = reading.join().expect("reader");
    verify(one);
    two
}

fn touch(session: &mut Session) -> bool {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"a").expect("a key");
    let touched = guard.touch(&key, Some(LAST_MS));
    touched.expect("there is room")
}

/// What was touched lives, and what was gone before stays so.
fn expect_touched(session: &mut Session, touched: bool) {
    let found = get_at(session, b"a", LAST_MS - 1);
    assert_eq!(found.is_some(), touched);
    assert_eq!(get_at(session, b"a", LAST_MS), None);
}

/// Nothing is left but the segment of `c`.
fn expect_one_segment_sealed(cache: &Cache, sessions: [Session; 2]) {
    drop(sessions);
    let stats = cache.stats();
    assert_eq!((stats.segments_sealed, stats.limbo_bytes), (1, 0));
}

fn a_reader_keeps_an_item_whose_segment_expires() {
    let (_cache, mut one, two) = expiring(&[]);
    let mut two = expire_beside_a_reader(&mut one, two);
    assert_eq!(get(&mut two, b"a"), None);
    assert_eq!(get(&mut two, b"d").as_deref(), Some(&b"new"[..]));
}

fn an_overwrite_outlives_the_segment_that_expires() {
    let (_cache, one, mut two) = expiring(&[]);
    expire_beside(one, &mut two, |two| set(two, b"a", b"new"));
    let found = get_at(&mut two, b"a", LAST_MS);
    assert_eq!(found.as_deref(), Some(&b"new"[..]));
}

fn a_touch_outlives_the_segment_that_expires() {
    let (_cache, one, mut two) = expiring(&[]);
    let (_, touched) = expire_beside(one, &mut two, touch);
    expect_touched(&mut two, touched);
}

fn a_deletion_races_with_the_segment_that_expires() {
    let (cache, one, mut two) = expiring(&[]);
    let (one, _) = expire_beside(one, &mut two, |two| delete(two, b"a"));
    assert_eq!(get(&mut two, b"a"), None);
    expect_one_segment_sealed(&cache, [one, two]);
}

fn a_reader_keeps_an_item_that_expires_in_part_of_a_segment() {
    let (_cache, mut one, two) = expiring(&[b"k"]);
    let mut two = expire_beside_a_reader(&mut one, two);
    assert_eq!(get(&mut two, b"a"), None);
    assert_eq!(get(&mut two, b"k").as_deref(), Some(&b"stays"[..]));
}

fn an_overwrite_outlives_a_part_that_expires() {
    let (_cache, one, mut two) = expiring(&[b"k"]);
    expire_beside(one, &mut two, |two| set(two, b"a", b"new"));
    let found = get_at(&mut two, b"a", LAST_MS);
    assert_eq!(found.as_deref(), Some(&b"new"[..]));
    assert_eq!(get(&mut two, b"k").as_deref(), Some(&b"stays"[..]));
}

fn a_touch_outlives_a_part_that_expires() {
    let (_cache, one, mut two) = expiring(&[b"k"]);
    let (_, touched) = expire_beside(one, &mut two, touch);
    expect_touched(&mut two, touched);
    assert_eq!(get(&mut two, b"k").as_deref(), Some(&b"stays"[..]));
}

fn a_removal_empties_a_segment_while_a_part_expires() {
    let (cache, one, mut two) = expiring(&[b"k"]);
    let (one, _) = expire_beside(one, &mut two, |two| delete(two, b"k"));
    assert_eq!(get(&mut two, b"a"), None);
    assert_eq!(get(&mut two, b"k"), None);
    expect_one_segment_sealed(&cache, [one, two]);
}

fn two_sessions_find_the_same_segment_expired() {
    let (cache, mut one, mut two) = expiring(&[]);
    let expiring = spawn(move || {
        let _ = one.maintain(LATER_MS);
        one
    });
    let _ = two.maintain(LATER_MS);
    let one = expiring.join().expect("maintenance");
    verify(&mut two);
    expect_one_segment_sealed(&cache, [one, two]);
}

/// Two segments' worth of memory, the first of which holds `a` and `k`; the second session is
/// short of segments, so that it walks the table whatever the cleaner does.
fn expiring_in_two_steps(set_last: fn(&mut Session), two_does: fn(&mut Session), checked_ms: u64) {
    let layout = Layout {
        segments: 2,
        segments_reserved: 1,
        ..ROOMY
    };
    let cache = layout.cache();
    let mut one = session(&cache);
    set_until(&mut one, b"a", LATER_MS);
    set_last(&mut one);
    drop(one);
    let (mut one, mut two) = (session(&cache), session(&cache));
    let expiring = spawn(move || {
        let _ = one.maintain(LATER_MS);
        one
    });
    two_does(&mut two);
    drop(expiring.join().expect("maintenance"));
    verify(&mut two);
    if cache.stats().items > 0 {
        let found = tend_one_item(&mut two, checked_ms);
        assert_ne!(found, Upkeep::Done, "nobody looks for it any more");
    }
}

fn what_expires_while_its_segment_is_claimed_is_not_forgotten() {
    expiring_in_two_steps(
        |one| set_until(one, b"k", LAST_MS),
        |two| {
            let _ = two.maintain(LAST_MS);
        },
        LAST_MS + 1_000,
    );
}

fn what_is_flushed_while_its_segment_is_claimed_is_not_forgotten() {
    expiring_in_two_steps(
        |one| {
            set(one, b"k", b"stays");
        },
        |two| {
            two.pin(LATER_MS).flush(None);
            let _ = two.maintain(LATER_MS);
        },
        LATER_MS + 1_000,
    );
}
