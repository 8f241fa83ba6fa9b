//! Clocks that are set back, and sessions whose clocks differ: what expires leaves all the same.

use larder::{Cache, Config, Entry, Mode, Outcome, Session};

const VALUE: [u8; 1000] = [7; 1000];

/// Stores so many items that some segments are complete.
fn fill(session: &mut Session, now_ms: u64, expires_at_ms: u64) {
    fill_each(session, now_ms, |_| expires_at_ms);
}

/// The same, with a time for each.
fn fill_each(session: &mut Session, now_ms: u64, expires_at_ms: impl Fn(u64) -> u64) {
    for number in 0..100_u64 {
        let mut guard = session.pin(now_ms);
        let name = number.to_le_bytes();
        let key = guard.key(&name).expect("a key");
        let entry = Entry {
            expires_at_ms: Some(expires_at_ms(number)),
            ..Entry::of(&VALUE)
        };
        let outcome = guard.store(&key, Mode::Set, &entry);
        assert!(matches!(outcome, Ok(Outcome::Stored { .. })), "{outcome:?}");
    }
}

fn maintain(session: &mut Session, now_ms: u64) {
    (0..1000).find(|_| !session.maintain(now_ms));
}

#[test]
fn what_expires_leaves_after_the_clock_was_set_back() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut session = cache.session().expect("a session");
    fill(&mut session, 1000, 5000);
    maintain(&mut session, 1 << 42);
    let before = cache.stats();
    assert!(before.expired > 50, "{before:#?}");
    fill(&mut session, 6000, 7000);
    maintain(&mut session, 8000);
    let after = cache.stats();
    assert!(after.expired > before.expired + 50, "{after:#?}");
}

#[test]
fn what_expires_leaves_although_the_clock_was_set_back_by_little() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut session = cache.session().expect("a session");
    fill(&mut session, 1_000, 5_000);
    maintain(&mut session, 60_000);
    let before = cache.stats();
    assert!(before.expired > 50, "{before:#?}");
    fill(&mut session, 20_000, 21_000);
    maintain(&mut session, 22_000);
    let after = cache.stats();
    assert!(after.expired > before.expired + 50, "{after:#?}");
}

/// Of a segment of which more and more expires.
#[test]
fn a_segment_is_looked_through_now_and_then_and_not_for_each_item_that_expires() {
    // By when the last of it expires: a sixteenth of the time until then passes, or half a second.
    for (last_ms, too_soon_ms, due_ms) in [(141_000, 75_200, 75_500), (78_000, 71_450, 71_600)] {
        let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
        let mut session = cache.session().expect("a session");
        let expires_at_ms = |number| match number {
            0..6 => 71_000 + number * 60,
            _ => last_ms,
        };
        fill_each(&mut session, 1_000, expires_at_ms);
        let expired = [70_999, 71_000, too_soon_ms, due_ms].map(|now_ms| {
            maintain(&mut session, now_ms);
            cache.stats().expired
        });
        assert_eq!(expired, [0, 1, 1, 6], "the last one at {last_ms}");
    }
}

#[test]
fn a_session_whose_clock_is_behind_forgets_nothing_that_is_due() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut sessions = [(); 2].map(|()| cache.session().expect("a session"));
    fill(&mut sessions[0], 1000, 5000);
    // One finds what is due, and begins; the other one finds the rest not due yet.
    sessions[0].maintain(5000);
    maintain(&mut sessions[1], 4999);
    let begun = cache.stats();
    assert!(begun.expired < 50, "{begun:#?}");
    maintain(&mut sessions[1], 5200);
    let after = cache.stats();
    assert!(after.expired > 50, "{after:#?}");
}

#[test]
fn a_session_whose_clock_is_behind_forgets_no_part_that_is_due() {
    let cache = Cache::new(Config::new(2 << 20)).expect("a cache");
    let mut sessions = [(); 2].map(|()| cache.session().expect("a session"));
    // Of each segment, some.
    fill_each(&mut sessions[0], 1000, |number| match number % 5 {
        0 => 5000,
        _ => 100_000,
    });
    sessions[0].maintain(5000);
    maintain(&mut sessions[1], 4999);
    let begun = cache.stats();
    assert!(begun.expired < 10, "{begun:#?}");
    maintain(&mut sessions[1], 5200);
    let after = cache.stats();
    assert!(after.expired > 10, "{after:#?}");
}
