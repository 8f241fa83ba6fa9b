//! The time of the last read, which readers write behind an item, while the item moves, and while its
//! memory is used again.

use crate::engine::config::AccessTimes;
use crate::engine::lease::Reading;
use crate::engine::{Cache, Session, Terms};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, expect_single, get, maintain, session, set, try_set, verify,
};

models! {
    Some(2) => a_read_is_noted_while_the_item_moves_to_main,
    Some(2) => a_read_is_noted_while_the_item_is_overwritten,
    Some(3) => two_reads_are_noted,
}

/// An item of one byte of key and a value of up to 7 takes 32 bytes, and so has room for three.
const NOTING: Layout = Layout {
    items_per_segment: 4,
    segments: 4,
    segments_reserved: 2,
    access_times: AccessTimes::Kept,
    ..Layout::ONE_BUCKET
};

/// A second later, so that a read is noted.
fn get_later(session: &mut Session, name: &[u8]) -> Vec<u8> {
    let guard = session.pin(NOW_MS + 1000);
    let key = guard.key(name).expect("a key");
    let item = guard.get(&key).expect("the key is there all the time");
    let read = item.value().to_vec();
    assert_eq!(*item.value(), read[..], "reused while it was read");
    read
}

fn read_at_ms(session: &mut Session, name: &[u8]) -> Option<u64> {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(name).expect("a key");
    let terms = Terms {
        reading: Reading::Passes,
        ..Terms::default()
    };
    let leased = guard.get_or_lease(&key, &terms).expect("nothing is stored");
    leased.read_at_ms
}

fn with_item() -> (Cache, Session, Session) {
    let cache = NOTING.cache();
    let mut one = session(&cache);
    set(&mut one, b"a", b"value");
    drop(one);
    let (one, mut two) = (session(&cache), session(&cache));
    set(&mut two, b"b", b"open");
    for _ in 0..2 {
        assert!(get(&mut two, b"a").is_some());
    }
    (cache, one, two)
}

fn a_read_is_noted_while_the_item_moves_to_main() {
    let (_cache, mut one, mut two) = with_item();
    let moving = spawn(move || {
        maintain(&mut one);
        // Goes into the segment that was freed last.
        set(&mut one, b"c", b"other");
        one
    });
    assert_eq!(get_later(&mut two, b"a"), b"value");
    let one = moving.join().expect("mover");
    verify(&mut two);
    // What is noted while the item moves may be lost.
    let read_at_ms = read_at_ms(&mut two, b"a");
    assert!([Some(NOW_MS), Some(NOW_MS + 1000)].contains(&read_at_ms));
    expect_single(&mut two, b"a", &[b"value"]);
    drop(one);
}

fn a_read_is_noted_while_the_item_is_overwritten() {
    let (_cache, mut one, mut two) = with_item();
    let writing = spawn(move || {
        set(&mut one, b"a", b"new");
        try_set(&mut one, b"c", b"other");
        one
    });
    let read = get_later(&mut two, b"a");
    assert!([&b"value"[..], b"new"].contains(&&read[..]));
    let one = writing.join();
    verify(&mut two);
    expect_single(&mut two, b"a", &[b"new"]);
    drop(one);
}

fn two_reads_are_noted() {
    let (_cache, mut one, mut two) = with_item();
    let reading = spawn(move || {
        get_later(&mut one, b"a");
        one
    });
    get_later(&mut two, b"a");
    let one = reading.join();
    verify(&mut two);
    assert_eq!(read_at_ms(&mut two, b"a"), Some(NOW_MS + 1000));
    assert_eq!(read_at_ms(&mut two, b"b"), Some(NOW_MS), "as it was stored");
    drop(one);
}
