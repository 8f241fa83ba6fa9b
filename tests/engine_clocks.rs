//! Clocks that are set back, and sessions whose clocks differ: what expires leaves all the same.

use larder::{Cache, Config, Entry, Mode, Outcome, Session};

const VALUE: [u8; 1000] = [7; 1000];

/// Stores so many items that some segments are complete.
fn fill(session: &mut Session, now_ms: u64, expires_at_ms: u64) {
    for number in 0..100_u64 {
        let mut guard = session.pin(now_ms);
        let name = number.to_le_bytes();
        let key = guard.key(&name).expect("a key");
        let entry = Entry {
            expires_at_ms: Some(expires_at_ms),
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
