//! The scrub of what nobody has proved, against everything else that may happen to the same items.
//!
//! In each model one session's maintenance scrubs the segment that `a` and `b` lie in, while another
//! session does something with `a`, which is damaged, or is not.

use crate::engine::header;
use crate::engine::{Cache, Deletion, Session};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, delete, expect_absent, expect_no_segment_lost, expect_single, get, increment, maintain,
    session, set, verify,
};
use crate::sync::Ordering;

models! {
    Some(3) => a_read_never_finds_what_is_damaged,
    Some(3) => a_read_removes_what_is_damaged_as_a_session_ends,
    Some(3) => a_read_finds_what_is_whole,
    Some(2) => an_overwrite_meets_the_scrub_of_what_is_damaged,
    Some(2) => an_overwrite_meets_the_scrub,
    Some(2) => a_deletion_meets_the_scrub_of_what_is_damaged,
    Some(2) => a_deletion_meets_the_scrub,
    Some(2) => the_last_deletions_meet_the_scrub,
    Some(2) => an_increment_meets_the_scrub,
    Some(1) => two_sessions_scrub,
    Some(1) => two_sessions_scrub_two_segments,
    Some(1) => an_eviction_meets_the_scrub,
}

/// Room for both items in one segment, and nothing is evicted.
const ROOMY: Layout = Layout {
    segments: 9,
    ..Layout::ONE_BUCKET
};

/// The same, with a segment for each item.
const APART: Layout = Layout {
    segments: 9,
    ..Layout::SINGLE_ITEMS
};

/// So little that maintenance evicts as well.
const SHORT: Layout = Layout {
    segments: 3,
    segments_reserved: 2,
    ..Layout::ONE_BUCKET
};

struct Scene {
    cache: Cache,
    /// Whose maintenance scrubs.
    scrubber: Session,
    other: Session,
}

/// `a` and `b` lie in a sealed segment that nobody has proved.
fn scene(layout: Layout) -> Scene {
    let cache = layout.unproven_cache();
    let mut writer = session(&cache);
    set(&mut writer, b"a", b"7");
    set(&mut writer, b"b", b"kept");
    drop(writer);
    let (scrubber, other) = (session(&cache), session(&cache));
    Scene {
        cache,
        scrubber,
        other,
    }
}

/// The same, and the value of `a` is not what was written.
fn damaged(layout: Layout) -> Scene {
    let mut scene = scene(layout);
    let (shared, pin) = scene.other.parts();
    let hash = shared.hash(b"a");
    let mut offset = None;
    shared.index.visit(0, |found| {
        if found.entry.tag() == hash.tag() {
            offset = Some(found.entry.offset());
        }
    });
    // Behind a header and a key of one byte.
    let at = offset.expect("it is there") + 17;
    // SAFETY: nobody else is at work yet, and the value lies there.
    unsafe { shared.arena.write(at, b"8") };
    drop(pin);
    scene
}

impl Scene {
    /// Scrubs while the other session does something; gives both sessions back, and what came of it.
    fn beside<T: Send + 'static>(
        self,
        act: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> (Cache, [Session; 2], T) {
        let (mut scrubber, mut other) = (self.scrubber, self.other);
        let acting = spawn(move || {
            let result = act(&mut other);
            (other, result)
        });
        maintain(&mut scrubber);
        let (other, result) = acting.join().expect("it ended");
        (self.cache, [scrubber, other], result)
    }
}

/// When all is quiet: `b` is there, and what is to be scrubbed was.
fn expect_scrubbed(cache: &Cache, mut sessions: [Session; 2]) {
    for _ in 0..4 {
        maintain(&mut sessions[0]);
    }
    expect_proved(&mut sessions[1], b"b");
    expect_single(&mut sessions[1], b"b", &[b"kept"]);
    expect_no_segment_lost(cache, sessions.into());
}

/// When all is quiet: the segment of a key is proved, and as many are not as the header says.
fn expect_proved(session: &mut Session, key: &[u8]) {
    let (shared, _pin) = session.parts();
    let hash = shared.hash(key);
    let mut found_in = None;
    shared.index.visit(0, |found| {
        if found.entry.tag() == hash.tag() {
            found_in = Some(shared.segments.id_at(found.entry.offset()));
        }
    });
    let id = found_in.expect("the key is there");
    assert!(!shared.segments.is_unproven(id));
    let all = 0..shared.segments.geometry().segments;
    let unproven = all.filter(|id| shared.segments.is_unproven(*id)).count() as u64;
    let noted = shared.arena.word(header::UNPROVEN).load(Ordering::Relaxed);
    assert_eq!(noted, unproven);
}

fn a_read_never_finds_what_is_damaged() {
    let (cache, mut sessions, found) = damaged(ROOMY).beside(|other| get(other, b"a"));
    assert_eq!(found, None);
    expect_absent(&mut sessions[1], b"a");
    expect_scrubbed(&cache, sessions);
}

/// Both count what has left the index or come into it: one by itself, one at its end.
fn a_read_removes_what_is_damaged_as_a_session_ends() {
    let Scene {
        scrubber: mut writer,
        mut other,
        ..
    } = damaged(ROOMY);
    set(&mut writer, b"c", b"new");
    let ending = spawn(move || drop(writer));
    assert_eq!(get(&mut other, b"a"), None);
    ending.join().expect("it ended");
    verify(&mut other);
}

fn a_read_finds_what_is_whole() {
    let (cache, mut sessions, found) = scene(ROOMY).beside(|other| get(other, b"a"));
    assert_eq!(found.as_deref(), Some(&b"7"[..]));
    expect_single(&mut sessions[1], b"a", &[b"7"]);
    expect_scrubbed(&cache, sessions);
}

fn an_overwrite_meets_the_scrub_of_what_is_damaged() {
    let (cache, mut sessions, _) = damaged(ROOMY).beside(|other| set(other, b"a", b"new"));
    expect_single(&mut sessions[1], b"a", &[b"new"]);
    expect_scrubbed(&cache, sessions);
}

fn an_overwrite_meets_the_scrub() {
    let (cache, mut sessions, _) = scene(ROOMY).beside(|other| set(other, b"a", b"new"));
    expect_single(&mut sessions[1], b"a", &[b"new"]);
    expect_scrubbed(&cache, sessions);
}

fn a_deletion_meets_the_scrub_of_what_is_damaged() {
    let (cache, mut sessions, deletion) = damaged(ROOMY).beside(|other| delete(other, b"a"));
    assert_eq!(deletion, Deletion::NotFound);
    expect_absent(&mut sessions[1], b"a");
    expect_scrubbed(&cache, sessions);
}

fn a_deletion_meets_the_scrub() {
    let (cache, mut sessions, deletion) = scene(ROOMY).beside(|other| delete(other, b"a"));
    assert_eq!(deletion, Deletion::Deleted);
    expect_absent(&mut sessions[1], b"a");
    expect_scrubbed(&cache, sessions);
}

fn the_last_deletions_meet_the_scrub() {
    let (cache, mut sessions, deletions) =
        scene(ROOMY).beside(|other| [delete(other, b"a"), delete(other, b"b")]);
    assert_eq!(deletions, [Deletion::Deleted; 2]);
    expect_absent(&mut sessions[1], b"a");
    expect_no_segment_lost(&cache, sessions.into());
}

fn an_increment_meets_the_scrub() {
    let (_, mut sessions, value) = scene(ROOMY).beside(|other| increment(other, b"a"));
    assert_eq!(value, 8);
    expect_single(&mut sessions[1], b"a", &[b"8"]);
    expect_single(&mut sessions[1], b"b", &[b"kept"]);
    verify(&mut sessions[1]);
}

fn two_sessions_scrub() {
    let (cache, mut sessions, ()) = damaged(ROOMY).beside(maintain);
    expect_absent(&mut sessions[1], b"a");
    expect_scrubbed(&cache, sessions);
}

fn two_sessions_scrub_two_segments() {
    let (cache, mut sessions, ()) = scene(APART).beside(maintain);
    maintain(&mut sessions[0]);
    expect_proved(&mut sessions[1], b"a");
    expect_scrubbed(&cache, sessions);
}

fn an_eviction_meets_the_scrub() {
    let (cache, mut sessions, found) = damaged(SHORT).beside(|other| {
        maintain(other);
        get(other, b"a")
    });
    assert_eq!(found, None);
    expect_absent(&mut sessions[1], b"a");
    expect_no_segment_lost(&cache, sessions.into());
}
