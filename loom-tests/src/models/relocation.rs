//! Eviction moves what was read: from small to main, and within main, against everything else that
//! may happen to the same key.
//!
//! In each model one session's maintenance moves the item of `a`, which was read twice, while
//! another session does something with that key.

use crate::engine::log::segment::Log;
use crate::engine::{Cache, Deletion, Mode, Outcome, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, expect_no_segment_lost, expect_single, get, increment,
    maintain, session, set, set_ahead, standing, store,
};

models! {
    Some(3) => a_reader_keeps_an_item_that_moves_to_main,
    Some(3) => a_reader_keeps_an_item_that_moves_within_main,
    Some(3) => an_overwrite_meets_an_item_that_moves_to_main,
    Some(2) => an_overwrite_meets_an_item_that_moves_within_main,
    Some(3) => an_overwrite_looks_ahead_at_an_item_that_moves_to_main,
    Some(2) => an_overwrite_looks_ahead_at_an_item_that_moves_within_main,
    Some(3) => a_deletion_meets_an_item_that_moves_to_main,
    Some(2) => a_deletion_meets_an_item_that_moves_within_main,
    Some(3) => a_conditional_store_meets_an_item_that_moves_to_main,
    Some(2) => a_conditional_store_meets_an_item_that_moves_within_main,
    Some(3) => an_increment_meets_digits_that_move_to_main,
    Some(2) => an_increment_meets_digits_that_move_within_main,
    Some(2) => an_increment_meets_a_counter_that_moves_to_main,
    Some(2) => an_increment_meets_a_counter_that_moves_within_main,
}

/// So little memory that maintenance evicts, and enough for everybody to open a segment.
const SHORT: Layout = Layout {
    items_per_segment: 4,
    segments: 4,
    segments_reserved: 2,
    ..Layout::ONE_BUCKET
};

/// What the value of `a` is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes(&'static [u8]),
    /// 8, which can change in place.
    Counter,
}

struct Scene {
    cache: Cache,
    /// Whose maintenance will move the item.
    mover: Session,
    /// Has a segment open.
    other: Session,
    version: u64,
}

fn about_to_move(from: Log, kind: Kind) -> Scene {
    let cache = SHORT.cache();
    let mut mover = session(&cache);
    let version = match kind {
        Kind::Bytes(value) => set(&mut mover, b"a", value),
        Kind::Counter => {
            set(&mut mover, b"a", b"7");
            increment(&mut mover, b"a")
        }
    };
    drop(mover);
    let (mut mover, mut other) = (session(&cache), session(&cache));
    set(&mut other, b"b", b"open");
    read_twice(&mut other);
    if from == Log::Main {
        maintain(&mut mover);
        drop(mover);
        mover = session(&cache);
        assert_eq!(standing(&mut other, b"a"), (Log::Main, 0));
        read_twice(&mut other);
    }
    Scene {
        cache,
        mover,
        other,
        version,
    }
}

fn read_twice(session: &mut Session) {
    for _ in 0..2 {
        assert!(get(session, b"a").is_some());
    }
}

impl Scene {
    /// Runs `act` beside the move.
    fn run<T>(self, act: impl FnOnce(&mut Session) -> T) -> (Cache, Session, Session, T) {
        let Self {
            cache,
            mut mover,
            mut other,
            ..
        } = self;
        let moving = spawn(move || {
            maintain(&mut mover);
            mover
        });
        let done = act(&mut other);
        let mover = moving.join().expect("mover");
        (cache, mover, other, done)
    }

    /// The same, and in the end there must be this value and no other.
    fn leaves<T>(self, value: &[u8], act: impl FnOnce(&mut Session) -> T) -> T {
        let (cache, mover, mut other, done) = self.run(act);
        expect_single(&mut other, b"a", &[value]);
        expect_no_segment_lost(&cache, vec![mover, other]);
        done
    }
}

fn reader(from: Log) {
    let Scene {
        cache,
        mut mover,
        mut other,
        ..
    } = about_to_move(from, Kind::Bytes(b"value"));
    let moving = spawn(move || {
        maintain(&mut mover);
        // Goes into the segment that was freed last.
        set(&mut mover, b"c", b"other");
        mover
    });
    {
        let guard = other.pin(NOW_MS);
        let key = guard.key(b"a").expect("a key");
        let item = guard.get(&key).expect("the key is there all the time");
        assert_eq!(*item.value(), *b"value");
        let again = guard.get(&key).expect("the key is there all the time");
        assert_eq!(*again.value(), *b"value");
        assert_eq!(*item.value(), *b"value", "reused while it was read");
    }
    let mover = moving.join().expect("mover");
    let (log, frequency) = standing(&mut other, b"a");
    assert_eq!(log, Log::Main);
    // Of the two reads each is counted before the move, after it, or lost to it.
    match from {
        Log::Small => assert!(frequency <= 2),
        Log::Main => assert!((1..=3).contains(&frequency)),
    }
    expect_single(&mut other, b"a", &[b"value"]);
    expect_no_segment_lost(&cache, vec![mover, other]);
}

fn a_reader_keeps_an_item_that_moves_to_main() {
    reader(Log::Small);
}

fn a_reader_keeps_an_item_that_moves_within_main() {
    reader(Log::Main);
}

fn overwrite(from: Log) {
    about_to_move(from, Kind::Bytes(b"old")).leaves(b"new", |other| set(other, b"a", b"new"));
}

fn an_overwrite_meets_an_item_that_moves_to_main() {
    overwrite(Log::Small);
}

fn an_overwrite_meets_an_item_that_moves_within_main() {
    overwrite(Log::Main);
}

fn overwrite_ahead(from: Log) {
    about_to_move(from, Kind::Bytes(b"old")).leaves(b"new", |other| set_ahead(other, b"a", b"new"));
}

fn an_overwrite_looks_ahead_at_an_item_that_moves_to_main() {
    overwrite_ahead(Log::Small);
}

fn an_overwrite_looks_ahead_at_an_item_that_moves_within_main() {
    overwrite_ahead(Log::Main);
}

fn deletion(from: Log) {
    let scene = about_to_move(from, Kind::Bytes(b"old"));
    let (cache, mover, mut other, deletion) = scene.run(|other| delete(other, b"a"));
    assert_eq!(deletion, Deletion::Deleted, "the key is there all the time");
    expect_absent(&mut other, b"a");
    expect_no_segment_lost(&cache, vec![mover, other]);
}

fn a_deletion_meets_an_item_that_moves_to_main() {
    deletion(Log::Small);
}

fn a_deletion_meets_an_item_that_moves_within_main() {
    deletion(Log::Main);
}

fn conditional_store(from: Log) {
    let scene = about_to_move(from, Kind::Bytes(b"old"));
    let version = scene.version;
    let outcome = scene.leaves(b"new", |other| {
        store(other, b"a", Mode::CompareAndSet { version }, b"new")
    });
    assert!(
        matches!(outcome, Outcome::Stored { .. }),
        "a move is no change"
    );
}

fn a_conditional_store_meets_an_item_that_moves_to_main() {
    conditional_store(Log::Small);
}

fn a_conditional_store_meets_an_item_that_moves_within_main() {
    conditional_store(Log::Main);
}

fn digits(from: Log) {
    let scene = about_to_move(from, Kind::Bytes(b"7"));
    assert_eq!(scene.leaves(b"8", |other| increment(other, b"a")), 8);
}

fn an_increment_meets_digits_that_move_to_main() {
    digits(Log::Small);
}

fn an_increment_meets_digits_that_move_within_main() {
    digits(Log::Main);
}

fn counter(from: Log) {
    let scene = about_to_move(from, Kind::Counter);
    assert_eq!(scene.leaves(b"9", |other| increment(other, b"a")), 9);
}

fn an_increment_meets_a_counter_that_moves_to_main() {
    counter(Log::Small);
}

fn an_increment_meets_a_counter_that_moves_within_main() {
    counter(Log::Main);
}
