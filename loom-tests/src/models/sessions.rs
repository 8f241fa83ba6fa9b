//! Sessions: handed to another thread, ended, and begun again.

use crate::engine::Session;
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, expect_no_segment_lost, expect_single, get, session, set, verify,
};
use crate::sync::{Arc, Mutex};

models! {
    Some(3) => a_session_goes_on_in_another_thread,
    Some(2) => a_session_that_ends_leaves_nothing_behind,
    Some(2) => two_sessions_begin_and_end_at_once,
}

fn a_session_goes_on_in_another_thread() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut first, mut reader) = (session(&cache), session(&cache));
    let hand: Arc<Mutex<Option<Session>>> = Arc::default();
    let other = Arc::clone(&hand);
    let giving = spawn(move || {
        set(&mut first, b"j", b"one");
        *other.lock() = Some(first);
    });
    let taken = hand.lock().take();
    let went_on = taken.map(|mut session| {
        // The same segment, the same block of versions.
        set(&mut session, b"k", b"two");
        session
    });
    giving.join().expect("giver");
    verify(&mut reader);
    assert_eq!(get(&mut reader, b"j").as_deref(), Some(&b"one"[..]));
    if went_on.is_some() {
        expect_single(&mut reader, b"k", &[b"two"]);
    }
    drop(hand.lock().take());
    drop(went_on);
}

fn a_session_that_ends_leaves_nothing_behind() {
    let cache = Layout::ONE_BUCKET.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"k", b"old");
    let ending = spawn(move || drop(one));
    set(&mut two, b"k", b"new");
    ending.join().expect("session");
    expect_single(&mut two, b"k", &[b"new"]);
    expect_no_segment_lost(&cache, vec![two]);
}

fn two_sessions_begin_and_end_at_once() {
    let cache = Layout::ONE_BUCKET.cache();
    let other = cache.clone();
    let beginning = spawn(move || {
        let mut one = session(&other);
        set(&mut one, b"j", b"one");
    });
    let mut two = session(&cache);
    set(&mut two, b"k", b"two");
    drop(two);
    beginning.join().expect("session");
    let mut reader = session(&cache);
    assert_eq!(cache.stats().items, 2, "two sessions counted in one place");
    expect_single(&mut reader, b"j", &[b"one"]);
    expect_single(&mut reader, b"k", &[b"two"]);
    expect_no_segment_lost(&cache, vec![reader]);
}
