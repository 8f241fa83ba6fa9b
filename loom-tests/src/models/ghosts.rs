//! Ghosts: remembered by those who evict, taken by those who store, while the table comes into being.
//!
//! Two pairs of keys: `a` and `b` in a sealed segment, `c` and `d` in another one. An eviction of
//! either leaves two ghosts in a table of three sets.

use crate::engine::{Cache, Session};
use crate::model::{models, spawn};
use crate::models::scene::{Layout, expect_single, get, maintain, session, set, try_set, verify};

models! {
    Some(1) => two_evictions_make_one_table_of_ghosts,
    Some(2) => an_eviction_beside_the_caretakers_makes_no_second_table_of_ghosts,
    Some(2) => a_key_comes_back_while_others_leave,
    Some(2) => two_sessions_take_one_ghost,
}

const HAUNTED: Layout = Layout {
    segments: 6,
    segments_reserved: 3,
    ghost_chunks_max: 1,
    buckets_per_chunk: 2,
    ..Layout::ONE_BUCKET
};

fn two_pairs(layout: Layout) -> (Cache, Session, Session) {
    let cache = layout.cache();
    for pair in [[b"a", b"b"], [b"c", b"d"]] {
        let mut writer = session(&cache);
        for key in pair {
            set(&mut writer, key, b"old");
        }
    }
    let (one, two) = (session(&cache), session(&cache));
    (cache, one, two)
}

/// The table of ghosts has one chunk, and nothing else was paid for.
fn expect_one_chunk(cache: &Cache) {
    let stats = cache.stats();
    let chunks = |bytes: u64| bytes / stats.segment_bytes;
    assert_eq!(
        (chunks(stats.ghost_bytes), chunks(stats.index_bytes)),
        (1, 2)
    );
}

fn two_evictions_make_one_table_of_ghosts() {
    let (cache, mut one, mut two) = two_pairs(HAUNTED);
    let evicting = spawn(move || {
        maintain(&mut one);
        one
    });
    maintain(&mut two);
    drop(evicting.join().expect("evictor"));
    verify(&mut two);
    expect_one_chunk(&cache);
    assert!(cache.stats().evicted >= 2);
}

/// No segment is free, so a session that needs one while the other has the caretaker evicts alone, and
/// both come to want a table; none can be paid for yet.
fn an_eviction_beside_the_caretakers_makes_no_second_table_of_ghosts() {
    let (cache, mut one, mut two) = two_pairs(Layout {
        segments: 2,
        ..HAUNTED
    });
    let evicting = spawn(move || {
        maintain(&mut one);
        one
    });
    let stored = try_set(&mut two, b"e", b"new");
    let one = evicting.join().expect("evictor");
    verify(&mut two);
    assert_eq!(get(&mut two, b"e").is_some(), stored);
    drop((one, two));
    let mut last = session(&cache);
    maintain(&mut last);
    maintain(&mut last);
    verify(&mut last);
    assert!(cache.stats().ghost_bytes <= cache.stats().segment_bytes);
}

fn a_key_comes_back_while_others_leave() {
    let (cache, mut one, mut two) = two_pairs(HAUNTED);
    maintain(&mut one);
    expect_one_chunk(&cache);
    assert_eq!(get(&mut two, b"a"), None);
    let evicting = spawn(move || {
        maintain(&mut one);
        one
    });
    // The others may take the place of its ghost; more than that cannot go wrong.
    assert!(try_set(&mut two, b"a", b"new"));
    let one = evicting.join().expect("evictor");
    verify(&mut two);
    expect_one_chunk(&cache);
    expect_single(&mut two, b"a", &[b"new"]);
    drop(one);
}

fn two_sessions_take_one_ghost() {
    let (cache, mut one, mut two) = two_pairs(HAUNTED);
    maintain(&mut one);
    let storing = spawn(move || {
        set(&mut one, b"a", b"one");
        one
    });
    set(&mut two, b"a", b"two");
    let one = storing.join().expect("writer");
    verify(&mut two);
    // Whoever comes first finds the ghost, or both do; the last of them says where the key stands.
    assert!((1..=2).contains(&cache.stats().ghost_hits));
    expect_single(&mut two, b"a", &[b"one", b"two"]);
    drop(one);
}
