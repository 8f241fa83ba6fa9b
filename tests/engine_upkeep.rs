//! What stays and what goes: eviction, ghosts, cleaning, expiry, counters in place.

use std::ops::Range;

use larder::{
    Arithmetic, Cache, Config, Counter, Deletion, Entry, Guard, Initial, Mode, Outcome, Session,
    Stats,
};

const NOW_MS: u64 = 1_000_000;

fn cache(memory_bytes: u64) -> Cache {
    cache_for(memory_bytes, 2)
}

fn cache_for(memory_bytes: u64, sessions_max: u32) -> Cache {
    let mut config = Config::new(memory_bytes);
    config.sessions_max = sessions_max;
    config.hash_seed = Some(11);
    config.first_version = Some(1);
    Cache::new(config).expect("the configuration is accepted")
}

fn set(guard: &mut Guard<'_>, name: &str, value: &[u8], expires_at_ms: Option<u64>) {
    let key = guard.key(name.as_bytes()).expect("a key");
    let entry = Entry {
        expires_at_ms,
        ..Entry::of(value)
    };
    let stored = guard.store(&key, Mode::Set, &entry);
    assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
}

/// Stores values under numbered names, each with a pin of its own.
fn fill(session: &mut Session, name: &str, count: u32, value: &[u8]) {
    for n in 0..count {
        set(
            &mut session.pin(NOW_MS),
            &format!("{name} {n}"),
            value,
            None,
        );
    }
}

fn is_there(guard: &Guard<'_>, name: &str) -> bool {
    let key = guard.key(name.as_bytes()).expect("a key");
    guard.get(&key).is_some()
}

/// Upkeep until there is nothing to do, as a maintenance thread would.
fn maintain(session: &mut Session, now_ms: u64) {
    while session.maintain(now_ms) {}
    // What was freed waits for the pins of that moment.
    for _ in 0..4 {
        let _ = session.maintain(now_ms);
    }
}

fn verified(cache: &Cache, session: &mut Session) -> Stats {
    assert_eq!(session.verify(), Ok(()));
    cache.stats()
}

#[test]
fn keys_that_are_read_survive_a_flood_of_keys_that_are_not() {
    let cache = cache(4 << 20);
    let mut session = cache.session().expect("a session is free");
    let hot: Vec<_> = (0..500).map(|n| format!("hot {n}")).collect();
    for name in &hot {
        set(&mut session.pin(NOW_MS), name, &[1; 500], None);
    }
    let mut lost = 0;
    for n in 0..40_000 {
        let mut guard = session.pin(NOW_MS);
        set(&mut guard, &format!("cold {n}"), &[2; 500], None);
        if n % 1000 == 0 {
            for name in &hot {
                if !is_there(&guard, name) {
                    lost += 1;
                    set(&mut guard, name, &[1; 500], None);
                }
            }
        }
    }
    // While the index and the ghosts take their memory, a few may find no place to move to.
    assert!(lost < 100, "{lost} of 20,000 reads");
    let stats = verified(&cache, &mut session);
    assert!(stats.evicted_small > 30_000, "{stats:#?}");
    assert!(stats.ghost_bytes > 0);
}

#[test]
fn a_key_that_comes_back_soon_after_it_was_evicted_begins_in_main() {
    let cache = cache(4 << 20);
    let mut session = cache.session().expect("a session is free");
    fill(&mut session, "key", 20_000, &[2; 500]);
    let before = cache.stats();
    let mut back = 0;
    for n in (0..20_000).rev() {
        let mut guard = session.pin(NOW_MS);
        let name = format!("key {n}");
        if !is_there(&guard, &name) && back < 500 {
            back += 1;
            set(&mut guard, &name, &[3; 500], None);
        }
    }
    let stats = verified(&cache, &mut session);
    assert!(stats.ghost_hits - before.ghost_hits > 300, "{stats:#?}");
}

#[test]
fn a_key_that_was_read_comes_back_to_main_after_it_expired() {
    let cache = cache(4 << 20);
    let mut session = cache.session().expect("a session is free");
    // Until something is evicted there are no ghosts.
    fill(&mut session, "flood", 5_000, &[1; 1000]);
    for (name, reads) in [("read", 2), ("not read", 0)] {
        let mut guard = session.pin(NOW_MS);
        set(&mut guard, name, b"for a minute", Some(NOW_MS + 60_000));
        (0..reads).for_each(|_| assert!(is_there(&guard, name)));
    }
    let later_ms = NOW_MS + 61_000;
    session.rest(later_ms);
    maintain(&mut session, later_ms);
    let before = verified(&cache, &mut session);
    assert_eq!(before.expired, 2, "{before:#?}");
    for (name, ghost_hits) in [("not read", 0), ("read", 1)] {
        let mut guard = session.pin(later_ms);
        set(&mut guard, name, b"again", None);
        drop(guard);
        let after = cache.stats();
        assert_eq!(after.ghost_hits - before.ghost_hits, ghost_hits, "{name}");
    }
}

#[test]
fn what_main_has_stays_once_for_a_read_and_leaves_where_there_was_none() {
    const OLD: u32 = 6_000;
    const SAMPLE: u32 = 240;
    let cache = cache(4 << 20);
    let mut session = cache.session().expect("a session is free");
    // The first of them lie in small, and all others in main.
    let in_main = OLD / 5;
    fill(&mut session, "old", OLD, &[1; 500]);
    assert_eq!(cache.stats().evicted, 0);
    let guard = session.pin(NOW_MS);
    let mut read = (in_main..OLD).step_by(2);
    assert!(read.all(|n| is_there(&guard, &format!("old {n}"))));
    drop(guard);
    // Each of these moves to main, where the oldest make room.
    let store_new = |session: &mut Session, numbers: Range<u32>| {
        for n in numbers {
            let (mut guard, name) = (session.pin(NOW_MS), format!("new {n}"));
            set(&mut guard, &name, &[2; 500], None);
            assert!((0..2).all(|_| is_there(&guard, &name)));
        }
    };
    // To look is to read: nobody is looked at twice.
    let gone = |session: &mut Session, first: u32| {
        let guard = session.pin(NOW_MS);
        let sample = (0..SAMPLE).map(|at| format!("old {}", first + at * 20));
        sample.filter(|name| !is_there(&guard, name)).count()
    };
    store_new(&mut session, 0..4_000);
    let (read, unread) = (gone(&mut session, in_main), gone(&mut session, in_main + 1));
    let stats = verified(&cache, &mut session);
    assert!(unread > 100, "{unread} of {SAMPLE} that were not read");
    assert!(read < 10, "{read} of {SAMPLE} that were read");
    assert!(stats.reinserted > 1_000, "{stats:#?}");
    // One read is for one time; and what came from small brought none along. (What came before anything
    // had to leave began in main, and brought two.)
    store_new(&mut session, 4_000..12_000);
    let read = gone(&mut session, in_main + 2);
    let stats = verified(&cache, &mut session);
    assert!(read > 200, "{read} of {SAMPLE} that were read once");
    assert!(stats.reinserted < 7_000, "{stats:#?}");
}

#[test]
fn expired_items_give_their_memory_back_before_anything_alive_leaves() {
    let cache = cache(8 << 20);
    let mut session = cache.session().expect("a session is free");
    // Half of the memory lives for half a minute, the other half for ever.
    for n in 0..6_000 {
        let mut guard = session.pin(NOW_MS);
        let expires_at_ms = (n % 2 == 0).then_some(NOW_MS + 30_000);
        set(&mut guard, &format!("key {n}"), &[5; 1000], expires_at_ms);
    }
    let full = cache.stats();
    assert_eq!(full.evicted, 0);
    let later_ms = NOW_MS + 31_000;
    session.rest(later_ms);
    maintain(&mut session, later_ms);
    let stats = verified(&cache, &mut session);
    assert_eq!((stats.items, stats.expired), (3_000, 3_000), "{stats:#?}");
    assert!(stats.free_bytes > full.free_bytes + 2_800_000, "{stats:#?}");
    // As much again: nothing that is alive has to leave for it.
    for n in 0..2_800 {
        let mut guard = session.pin(later_ms);
        set(&mut guard, &format!("new {n}"), &[6; 1000], None);
    }
    assert_eq!(verified(&cache, &mut session).evicted, 0);
}

#[test]
fn what_is_mostly_dead_makes_room_before_anything_alive_leaves() {
    let cache = cache(8 << 20);
    let mut session = cache.session().expect("a session is free");
    // An eighth of the memory, in which three of four items live for as long as others of their class do not.
    for n in 0..7_200 {
        let mut guard = session.pin(NOW_MS);
        let lives_ms = match n {
            0..1_000 if n % 4 > 0 => Some(100_000),
            0..1_000 => Some(500_000),
            _ => None,
        };
        let expires_at_ms = lives_ms.map(|ms| NOW_MS + ms);
        set(&mut guard, &format!("key {n}"), &[5; 1000], expires_at_ms);
    }
    let full = cache.stats();
    assert_eq!(full.evicted, 0);
    let later_ms = NOW_MS + 101_000;
    session.rest(later_ms);
    maintain(&mut session, later_ms);
    // What the open segment has is looked at once it is sealed.
    assert!(cache.stats().expired > 700, "{:#?}", cache.stats());
    let room_bytes = full.free_bytes + 400_000;
    for n in 0..room_bytes / 1_040 {
        let mut guard = session.pin(later_ms);
        set(&mut guard, &format!("new {n}"), &[6; 1000], None);
    }
    let stats = verified(&cache, &mut session);
    assert_eq!(stats.evicted, 0, "{stats:#?}");
}

#[test]
fn a_session_short_of_segments_takes_expired_ones_first_though_nobody_maintains() {
    let cache = cache(8 << 20);
    let mut session = cache.session().expect("a session is free");
    for n in 0..6_000 {
        let mut guard = session.pin(NOW_MS);
        let expires_at_ms = (n % 2 == 0).then_some(NOW_MS + 30_000);
        set(&mut guard, &format!("key {n}"), &[5; 1000], expires_at_ms);
    }
    for n in 0..3_000 {
        let mut guard = session.pin(NOW_MS + 31_000);
        set(&mut guard, &format!("new {n}"), &[6; 1000], None);
    }
    let stats = verified(&cache, &mut session);
    assert_eq!(stats.evicted, 0, "{stats:#?}");
    assert!(stats.expired > 2_000, "{stats:#?}");
}

#[test]
fn an_item_whose_life_was_lengthened_outlives_its_segment() {
    let cache = cache(8 << 20);
    let mut session = cache.session().expect("a session is free");
    for n in 0..1_000 {
        let mut guard = session.pin(NOW_MS);
        set(
            &mut guard,
            &format!("key {n}"),
            &[5; 1000],
            Some(NOW_MS + 5_000),
        );
    }
    for n in (0..1_000).step_by(10) {
        let mut guard = session.pin(NOW_MS);
        let name = format!("key {n}");
        let key = guard.key(name.as_bytes()).expect("a key");
        assert_eq!(guard.touch(&key, Some(NOW_MS + 500_000)), Ok(true));
    }
    let later_ms = NOW_MS + 6_000;
    session.rest(later_ms);
    maintain(&mut session, later_ms);
    let guard = session.pin(later_ms);
    for n in 0..1_000 {
        assert_eq!(is_there(&guard, &format!("key {n}")), n % 10 == 0, "{n}");
    }
    drop(guard);
    assert_eq!(verified(&cache, &mut session).items, 100);
}

#[test]
fn overwritten_items_are_cleaned_away_and_nothing_is_evicted_for_them() {
    let cache = cache(4 << 20);
    let mut session = cache.session().expect("a session is free");
    // Most of the memory alive, and overwritten over and over in a scattered order.
    const KEYS: u64 = 2_900;
    for n in 0..KEYS * 20 {
        let mut guard = session.pin(NOW_MS);
        let key = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % KEYS;
        set(&mut guard, &format!("key {key}"), &[n as u8; 950], None);
    }
    let stats = verified(&cache, &mut session);
    assert_eq!((stats.items, stats.evicted), (KEYS, 0), "{stats:#?}");
    assert!(stats.segments_cleaned > 0);
    let log_bytes = stats.live_bytes + stats.dead_bytes;
    assert!(stats.live_bytes * 4 >= log_bytes * 3, "{stats:#?}");
}

/// Fills a cache up with small items, deletes so many of each hundred, and has that cleaned away.
#[track_caller]
fn fill_up_and_clean(cache: &Cache, session: &mut Session, deleted: u32) {
    let name = |n: u32| format!("small {n}");
    let full = |stats: Stats| stats.free_bytes * 25 < stats.memory_bytes;
    let mut count = 0;
    while count % 64 != 0 || !full(cache.stats()) {
        set(&mut session.pin(NOW_MS), &name(count), &[1; 200], None);
        count += 1;
    }
    for n in (0..count).filter(|n| n * 37 % 100 < deleted) {
        let mut guard = session.pin(NOW_MS);
        let name = name(n);
        let key = guard.key(name.as_bytes()).expect("a key");
        assert_eq!(guard.delete(&key, None), Deletion::Deleted);
    }
    let steps = (0..5_000).take_while(|_| session.maintain(NOW_MS)).count();
    let stats = verified(cache, session);
    assert!(steps < 5_000, "it goes on for ever: {stats:?}");
    // Until so much is free, nothing ends it but that little is dead.
    let is_free = (stats.free_bytes + stats.limbo_bytes) * 17 > stats.memory_bytes;
    let sealed_bytes = stats.live_bytes + stats.dead_bytes;
    let is_clean = stats.dead_bytes * 100 <= sealed_bytes * 19;
    assert!(is_free || is_clean, "{stats:?}");
    assert_eq!(stats.evicted, 0);
}

#[test]
fn what_is_dead_is_cleaned_away_beside_segments_of_few_large_values() {
    let cache = cache(16 << 20);
    let mut session = cache.session().expect("a session is free");
    for n in 0..60 {
        let name = format!("large {n}");
        set(&mut session.pin(NOW_MS), &name, &[2; 100_000], None);
    }
    fill_up_and_clean(&cache, &mut session, 35);
}

#[test]
fn what_is_dead_is_cleaned_away_beside_segments_that_cannot_be_fuller() {
    let cache = cache(16 << 20);
    let mut session = cache.session().expect("a session is free");
    // Two of them leave a quarter of a segment.
    fill(&mut session, "medium", 400, &[2; 6_000]);
    fill_up_and_clean(&cache, &mut session, 24);
}

#[test]
fn a_hot_counter_makes_no_garbage() {
    let cache = cache(2 << 20);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"hits").expect("a key");
    let initial = Some(Initial {
        value: 0,
        expires_at_ms: None,
    });
    let mut versions = Vec::new();
    for n in 0..10_000 {
        match guard.arithmetic(&key, Arithmetic::Increment(1), initial) {
            Ok(Counter::Value { value, version }) => {
                assert_eq!(value, n);
                versions.push(version);
            }
            other => panic!("{other:?}"),
        }
        let item = guard.get(&key).expect("it is there");
        assert_eq!(*item.value(), *n.to_string().as_bytes());
        assert_eq!(Some(&item.version()), versions.last());
    }
    assert!(versions.is_sorted_by(|one, next| one < next));
    drop(guard);
    let stats = verified(&cache, &mut session);
    assert_eq!(stats.counted_in_place, 9_999);
    assert_eq!(stats.dead_bytes, 0, "{stats:#?}");
}

#[test]
fn flushed_items_give_their_memory_back() {
    let cache = cache(4 << 20);
    let mut session = cache.session().expect("a session is free");
    for n in 0..3_000 {
        let mut guard = session.pin(NOW_MS);
        set(&mut guard, &format!("key {n}"), &[5; 1000], None);
    }
    session.pin(NOW_MS).flush(None);
    maintain(&mut session, NOW_MS + 1);
    let stats = verified(&cache, &mut session);
    assert_eq!(stats.evicted, 0);
    // What is in segments that are still open among them.
    assert_eq!(stats.items, 0, "{stats:#?}");
}

#[test]
fn what_is_gone_leaves_segments_that_are_open() {
    let cache = cache(64 << 20);
    let mut session = cache.session().expect("a session is free");
    let mut keeper = cache.session().expect("another is free");
    let large = vec![5; 1 << 20];
    let fill = |session: &mut Session, name: &str, expires_at_ms| {
        let mut guard = session.pin(NOW_MS);
        set(&mut guard, name, &large, expires_at_ms);
    };
    // Flushed, and the session goes on with other items: those are not in the same segment.
    fill(&mut session, "flushed", None);
    session.pin(NOW_MS).flush(None);
    fill(&mut session, "later", None);
    // The table of segments is looked through no more often than this.
    maintain(&mut keeper, NOW_MS + 200);
    assert_eq!(cache.stats().items, 1);
    // Flushed, and the session does nothing more than to rest.
    assert!(session.has_contents());
    session.pin(NOW_MS).flush(None);
    session.rest(NOW_MS);
    assert!(!session.has_contents());
    maintain(&mut keeper, NOW_MS + 400);
    assert_eq!(cache.stats().items, 0);
    // Expired, in a segment that the session has open that maintains.
    fill(&mut keeper, "expires", Some(NOW_MS + 500));
    maintain(&mut keeper, NOW_MS + 600);
    assert_eq!(verified(&cache, &mut keeper).items, 0);
}

#[test]
fn keys_that_come_and_go_by_different_sessions_do_not_make_the_index_grow() {
    const SESSIONS: usize = 4;
    let cache = cache_for(16 << 20, SESSIONS as u32);
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| cache.session().unwrap()).collect();
    let before = cache.stats().buckets;
    for n in 0..100_000 {
        // What one stores another deletes, and one session reports more than another.
        let (stores, deletes) = (n * n % SESSIONS, n % SESSIONS);
        let mut guard = sessions[stores].pin(NOW_MS);
        set(&mut guard, "lock", b"held", None);
        drop(guard);
        let mut guard = sessions[deletes].pin(NOW_MS);
        let key = guard.key(b"lock").expect("a key");
        assert_eq!(guard.delete(&key, None), Deletion::Deleted);
    }
    assert_eq!(cache.stats().buckets, before);
}

#[test]
fn what_a_large_value_takes_is_freed_bit_by_bit_as_it_comes() {
    const PIECE_BYTES: usize = 4 << 10;
    const VALUE_BYTES: u64 = 4 << 20;
    // With header, key and padding.
    const ITEM_BYTES_MIN: u64 = 100;
    let cache = cache(32 << 20);
    let mut session = cache.session().expect("a session is free");
    fill(&mut session, "key", 300_000, &[7; 80]);
    let full = cache.stats();
    assert!(full.evicted > 0, "{full:#?}");
    let mut draft = session.pin(NOW_MS).begin_large(VALUE_BYTES).expect("room");
    let (mut evicted, mut most, mut asked) = (full.evicted, 0, 0);
    while draft.missing_bytes() > 0 {
        let extended = session.pin(NOW_MS).extend_large(&mut draft);
        asked += u64::from(extended.expect("it is there or is made"));
        let now = cache.stats().evicted;
        most = most.max(now - evicted);
        evicted = now;
        let bytes = draft.space().len().min(PIECE_BYTES);
        draft.space()[..bytes].fill(9);
        draft.advance(bytes);
    }
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(b"large").expect("a key");
    let stored = guard.store_large(&key, Mode::Set, &Entry::default(), draft);
    assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
    drop(guard);
    // All that was needed left, and never more at once than a few times what had come.
    let freed_bytes = (evicted - full.evicted) * ITEM_BYTES_MIN;
    assert!(freed_bytes > VALUE_BYTES / 2, "{freed_bytes}");
    let walked_bytes_max = 5 * PIECE_BYTES as u64;
    assert!(most * ITEM_BYTES_MIN <= walked_bytes_max, "{most} at once");
    assert!(asked > 0, "nobody was asked to let others go first");
    verified(&cache, &mut session);
}

#[test]
fn what_is_evicted_bit_by_bit_is_not_cleaned_meanwhile() {
    let cache = cache(8 << 20);
    let mut session = cache.session().expect("a session is free");
    for (name, value) in [("first", 1), ("second", 2)] {
        fill(&mut session, name, 1_000, &[value; 40_000]);
    }
    let stats = verified(&cache, &mut session);
    assert!(stats.evicted_large > 1_000, "{stats:#?}");
    assert_eq!(stats.segments_cleaned, 0, "{stats:#?}");
}

#[test]
fn for_a_large_value_that_is_being_received_more_is_kept_free() {
    let cache = cache(32 << 20);
    let mut session = cache.session().expect("a session is free");
    fill(&mut session, "key", 40_000, &[7; 1000]);
    maintain(&mut session, NOW_MS);
    let before = cache.stats();
    assert!(before.evicted > 0, "{before:#?}");
    let draft = session.pin(NOW_MS).begin_large(4 << 20).expect("room");
    maintain(&mut session, NOW_MS);
    let ahead_bytes = cache.stats().free_bytes - before.free_bytes;
    let segment_bytes = 32 << 10;
    assert!(
        (8 * segment_bytes..=16 * segment_bytes).contains(&ahead_bytes),
        "{ahead_bytes}"
    );
    // Who promises a value and does not send it keeps no more free when it is gone.
    drop(draft);
    fill(&mut session, "new", 1_000, &[7; 1000]);
    maintain(&mut session, NOW_MS);
    let after = verified(&cache, &mut session);
    assert!(
        after.free_bytes < before.free_bytes + ahead_bytes / 2,
        "{after:#?}"
    );
}

#[test]
fn an_open_segment_has_the_items_of_a_share_of_the_memory_at_most() {
    const VALUE_BYTES: usize = 512 << 10;
    let cache = cache(32 << 20);
    let mut session = cache.session().expect("a session is free");
    fill(&mut session, "key", 40, &vec![7; VALUE_BYTES]);
    let stats = verified(&cache, &mut session);
    assert_eq!((stats.items, stats.evicted), (40, 0), "{stats:#?}");
    // A sixteenth of the memory is four values; their items would fit into one segment.
    assert!((8..=10).contains(&stats.segments_sealed), "{stats:#?}");
}

#[test]
fn large_values_that_open_segments_of_other_sessions_name_make_room() {
    const SESSIONS: u32 = 16;
    let cache = cache_for(32 << 20, SESSIONS + 1);
    let value = vec![7; 2 << 20];
    let mut others: Vec<_> = (0..SESSIONS - 1)
        .map(|n| {
            let mut session = cache.session().expect("a session is free");
            let expires_at_ms = (n == 1).then_some(NOW_MS + 10);
            let name = format!("session {n}");
            set(&mut session.pin(NOW_MS), &name, &value, expires_at_ms);
            session
        })
        .collect();
    let full = cache.stats();
    assert_eq!((full.segments_sealed, full.evicted), (0, 0), "{full:#?}");
    // One that is read often stays as long as others can go, unless it expires.
    let guard = others[0].pin(NOW_MS);
    assert!((0..3).all(|_| is_there(&guard, "session 0") && is_there(&guard, "session 1")));
    drop(guard);
    let mut session = cache.session().expect("a session is free");
    let mut guard = session.pin(NOW_MS + 10);
    set(&mut guard, "new", &vec![8; 6 << 20], None);
    assert!(is_there(&guard, "new") && is_there(&guard, "session 0"));
    assert!(!is_there(&guard, "session 2"));
    drop(guard);
    let stats = verified(&cache, &mut session);
    assert_eq!(stats.expired, 1, "{stats:#?}");
    assert!((2..=3).contains(&stats.evicted_large), "{stats:#?}");
}
