//! Leases, stale items and placeholders against each other, against stores and deletions, and
//! against everything that moves an item or its index word.
//!
//! Whatever comes in between, one caller is told to store, and no lease is lost or given twice: so
//! each model ends with one more read on terms, and what that is told follows from what the others
//! were told.

use crate::engine::{
    Cache, Deletion, Freshness, Invalidated, Invalidation, Lease, Mode, NewExpiry, Outcome,
    Session, Terms,
};
use crate::model::{models, spawn};
use crate::models::scene::{
    Layout, NOW_MS, delete, expect_absent, get, increment, key, maintain, session, set, store,
    verify,
};

models! {
    Some(2) => of_two_callers_that_miss_one_wins,
    Some(3) => of_two_callers_that_find_a_stale_item_one_wins,
    Some(2) => of_a_caller_that_touches_and_one_that_does_not_one_wins,
    Some(2) => a_placeholder_is_in_the_way_of_no_store,
    Some(3) => a_lease_ends_with_a_store,
    Some(3) => what_was_to_be_stored_does_not_outlive_a_deletion,
    Some(3) => what_was_to_be_stored_is_stale_after_an_invalidation,
    Some(3) => an_invalidation_meets_a_store,
    Some(3) => an_invalidation_meets_a_caller,
    Some(3) => a_caller_meets_an_increment_in_place,
    Some(3) => a_lease_that_is_ended_meets_a_store,
    Some(3) => a_lease_that_is_ended_meets_a_caller,
    Some(2) => a_caller_meets_an_item_that_moves_to_main,
    Some(2) => a_caller_meets_an_item_that_is_cleaned,
    Some(2) => an_invalidation_meets_an_item_that_is_cleaned,
    Some(2) => a_caller_meets_a_split_that_moves_the_key,
    Some(2) => a_caller_meets_a_split_that_leaves_the_key,
    Some(1) => two_callers_that_miss_meet_a_split,
}

/// Room for a few placeholders and items with an expiry.
const ROOMY: Layout = Layout {
    items_per_segment: 12,
    ..Layout::ONE_BUCKET
};

const FILL: Terms = Terms {
    placeholder_until_ms: Some(NOW_MS + 1),
    ..LOOK
};

const LOOK: Terms = Terms {
    placeholder_until_ms: None,
    refresh_below_ms: None,
    expiry: NewExpiry::Kept,
    reading: crate::engine::lease::Reading::Counts,
    new_version: None,
};

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    lease: Lease,
    freshness: Freshness,
    /// The version of what was there, and its value, if it was no placeholder.
    version: Option<u64>,
    value: Option<Vec<u8>>,
}

impl Told {
    fn won(&self) -> bool {
        self.lease == Lease::Won
    }
}

fn call(session: &mut Session, name: &[u8], terms: &Terms) -> Told {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(name).expect("a key");
    let leased = guard.get_or_lease(&key, terms).expect("there is room");
    let item = leased.item;
    Told {
        lease: leased.lease,
        freshness: leased.freshness,
        version: item.map(|item| item.version()),
        value: item
            .filter(|item| !item.is_placeholder())
            .map(|item| item.value().to_vec()),
    }
}

fn invalidate(session: &mut Session, name: &[u8]) -> Option<u64> {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(name).expect("a key");
    let invalidated = guard.invalidate(&key, &Invalidation::default());
    match invalidated.expect("there is room") {
        Invalidated::Marked { version } => Some(version),
        Invalidated::NotFound => None,
        Invalidated::Exists => panic!("no version was asked for"),
    }
}

fn end_lease(session: &mut Session, name: &[u8], version: u64) -> bool {
    let mut guard = session.pin(NOW_MS);
    let key = guard.key(name).expect("a key");
    guard.end_lease(&key, version)
}

/// A cache with a stale item `a`, and two sessions.
fn with_stale(value: &[u8]) -> (Cache, Session, Session) {
    let cache = ROOMY.cache();
    let (mut one, two) = (session(&cache), session(&cache));
    set(&mut one, b"a", value);
    assert!(invalidate(&mut one, b"a").is_some());
    (cache, one, two)
}

/// Runs two acts beside each other.
fn beside<A: Send + 'static, B>(
    mut one: Session,
    two: &mut Session,
    first: impl FnOnce(&mut Session) -> A + Send + 'static,
    second: impl FnOnce(&mut Session) -> B,
) -> (Session, A, B) {
    let acting = spawn(move || {
        let done = first(&mut one);
        (one, done)
    });
    let second = second(two);
    let (one, first) = acting.join().expect("the other one");
    verify(two);
    (one, first, second)
}

fn one_wins(one: &Told, two: &Told) {
    match (one.lease, two.lease) {
        (Lease::Won, Lease::Taken) | (Lease::Taken, Lease::Won) => {}
        both => panic!("two callers were told {both:?}"),
    }
}

fn of_two_callers_that_miss_one_wins() {
    let cache = ROOMY.cache();
    let (one, mut two) = (session(&cache), session(&cache));
    let fill = |session: &mut Session| call(session, b"a", &FILL);
    let (_one, first, second) = beside(one, &mut two, fill, fill);
    one_wins(&first, &second);
    assert_eq!(first.version, second.version);
    assert_eq!(call(&mut two, b"a", &FILL).lease, Lease::Taken);
    assert_eq!(get(&mut two, b"a"), None);
}

fn of_two_callers_that_find_a_stale_item_one_wins() {
    let (_cache, one, mut two) = with_stale(b"old");
    let look = |session: &mut Session| call(session, b"a", &LOOK);
    let (_one, first, second) = beside(one, &mut two, look, look);
    one_wins(&first, &second);
    assert_eq!(call(&mut two, b"a", &LOOK).lease, Lease::Taken);
}

fn of_a_caller_that_touches_and_one_that_does_not_one_wins() {
    let (_cache, one, mut two) = with_stale(b"old");
    let touch = Terms {
        expiry: NewExpiry::At(Some(NOW_MS + 1)),
        ..LOOK
    };
    let (_one, first, second) = beside(
        one,
        &mut two,
        move |one| call(one, b"a", &touch),
        |two| call(two, b"a", &LOOK),
    );
    one_wins(&first, &second);
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(
        (last.lease, last.freshness),
        (Lease::Taken, Freshness::Stale)
    );
}

fn a_placeholder_is_in_the_way_of_no_store() {
    let cache = ROOMY.cache();
    let (one, mut two) = (session(&cache), session(&cache));
    let (_one, told, _) = beside(
        one,
        &mut two,
        |one| call(one, b"a", &FILL),
        |two| set(two, b"a", b"new"),
    );
    match told.lease {
        Lease::Won => assert_eq!(told.value, None),
        Lease::None => assert_eq!(told.value.as_deref(), Some(&b"new"[..])),
        Lease::Taken => panic!("taken by whom?"),
    }
    let last = call(&mut two, b"a", &FILL);
    assert_eq!(
        (last.lease, last.freshness),
        (Lease::None, Freshness::Fresh)
    );
    assert_eq!(last.value.as_deref(), Some(&b"new"[..]));
}

fn a_lease_ends_with_a_store() {
    let (_cache, one, mut two) = with_stale(b"old");
    let (_one, told, _) = beside(
        one,
        &mut two,
        |one| call(one, b"a", &LOOK),
        |two| set(two, b"a", b"new"),
    );
    let expected: &[u8] = if told.won() { b"old" } else { b"new" };
    assert_eq!(told.value.as_deref(), Some(expected));
    assert_ne!(told.lease, Lease::Taken);
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(
        (last.lease, last.freshness),
        (Lease::None, Freshness::Fresh)
    );
    assert_eq!(last.value.as_deref(), Some(&b"new"[..]));
}

/// A cache with a lease on the absent key `a`, with its token.
fn with_lease() -> (Cache, Session, Session, u64) {
    let cache = ROOMY.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    // Opens a segment for later.
    set(&mut two, b"b", b"open");
    let told = call(&mut one, b"a", &FILL);
    assert!(told.won());
    (cache, one, two, told.version.expect("a placeholder"))
}

fn fill(session: &mut Session, version: u64) -> bool {
    match store(session, b"a", Mode::CompareAndSet { version }, b"filled") {
        Outcome::Stored { .. } => true,
        Outcome::NotFound | Outcome::Exists => false,
        Outcome::NotStored => panic!("no condition on presence"),
    }
}

fn what_was_to_be_stored_does_not_outlive_a_deletion() {
    let (_cache, one, mut two, version) = with_lease();
    let (_one, filled, deletion) = beside(
        one,
        &mut two,
        move |one| fill(one, version),
        |two| delete(two, b"a"),
    );
    assert_eq!(filled, deletion == Deletion::Deleted);
    expect_absent(&mut two, b"a");
}

fn what_was_to_be_stored_is_stale_after_an_invalidation() {
    let (_cache, one, mut two, version) = with_lease();
    let (_one, filled, marked) = beside(
        one,
        &mut two,
        move |one| fill(one, version),
        |two| invalidate(two, b"a"),
    );
    assert_eq!(filled, marked.is_some());
    let last = call(&mut two, b"a", &FILL);
    assert_eq!(last.lease, Lease::Won);
    match filled {
        true => assert_eq!(last.freshness, Freshness::Stale),
        false => assert_eq!(last.value, None),
    }
}

fn an_invalidation_meets_a_store() {
    let cache = ROOMY.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, b"a", b"old");
    let (_one, marked, stored) = beside(
        one,
        &mut two,
        |one| invalidate(one, b"a"),
        |two| set(two, b"a", b"new"),
    );
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(last.value.as_deref(), Some(&b"new"[..]));
    let marked = marked.expect("the key is there all the time");
    assert!(last.version == Some(marked) || last.version == Some(stored));
    let is_stale = last.version == Some(marked);
    assert_eq!(is_stale, last.freshness == Freshness::Stale);
}

fn an_invalidation_meets_a_caller() {
    let (_cache, one, mut two) = with_stale(b"old");
    let (_one, told, marked) = beside(
        one,
        &mut two,
        |one| call(one, b"a", &LOOK),
        |two| invalidate(two, b"a"),
    );
    assert!(told.won(), "nobody else was told");
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(last.version, marked);
    // Who was told before the invalidation is not to store any more.
    let expected = match told.version == marked {
        true => Lease::Taken,
        false => Lease::Won,
    };
    assert_eq!(last.lease, expected);
}

fn a_caller_meets_an_increment_in_place() {
    let (_cache, mut one, mut two) = with_stale(b"7");
    assert_eq!(increment(&mut one, b"a"), 8);
    let (_one, told, counted) = beside(
        one,
        &mut two,
        |one| call(one, b"a", &LOOK),
        |two| increment(two, b"a"),
    );
    assert!(told.won());
    assert_eq!(counted, 9);
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(last.freshness, Freshness::Stale);
    let expected = match told.version == last.version {
        true => Lease::Taken,
        false => Lease::Won,
    };
    assert_eq!(last.lease, expected, "a lease is for one version");
}

fn a_lease_that_is_ended_meets_a_store() {
    let (_cache, one, mut two, version) = with_lease();
    let (_one, ended, _) = beside(
        one,
        &mut two,
        move |one| end_lease(one, b"a", version),
        |two| set(two, b"a", b"new"),
    );
    // Whether it was there to be ended is all that the store decides.
    let _ = ended;
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(
        (last.lease, last.freshness),
        (Lease::None, Freshness::Fresh)
    );
    assert_eq!(last.value.as_deref(), Some(&b"new"[..]));
}

fn a_lease_that_is_ended_meets_a_caller() {
    let (_cache, mut one, mut two) = with_stale(b"old");
    let version = call(&mut one, b"a", &LOOK).version.expect("it is there");
    let (_one, ended, told) = beside(
        one,
        &mut two,
        move |one| end_lease(one, b"a", version),
        |two| call(two, b"a", &LOOK),
    );
    assert!(ended);
    assert_ne!(told.lease, Lease::None);
    let last = call(&mut two, b"a", &LOOK);
    assert_ne!(last.won(), told.won(), "it is given on once");
}

/// A caller, beside one whole step of upkeep that moves the stale item `a`.
fn caller_meets_upkeep(layout: Layout, reads: usize) {
    let cache = layout.cache();
    let mut one = session(&cache);
    set(&mut one, b"a", b"old");
    assert!(invalidate(&mut one, b"a").is_some());
    drop(one);
    let (one, mut two) = (session(&cache), session(&cache));
    set(&mut two, b"b", b"open");
    for _ in 0..reads {
        assert!(get(&mut two, b"a").is_some());
    }
    let (_one, _, told) = beside(one, &mut two, maintain, |two| call(two, b"a", &LOOK));
    assert!(told.won());
    assert_eq!(told.freshness, Freshness::Stale);
    let stats = cache.stats();
    assert_eq!(stats.promoted + stats.cleaned, 1);
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!(
        (last.lease, last.freshness),
        (Lease::Taken, Freshness::Stale)
    );
    assert_eq!(last.version, told.version, "a move is no change");
}

/// So little memory that maintenance evicts, and enough for everybody to open a segment.
const SHORT: Layout = Layout {
    items_per_segment: 4,
    segments: 4,
    segments_reserved: 2,
    ..Layout::ONE_BUCKET
};

/// Whatever is dead starts the cleaner: here, what the stale copy has replaced.
const TIDY: Layout = Layout {
    items_per_segment: 4,
    segments_reserved: 0,
    dead_percent_max: 0,
    ..Layout::ONE_BUCKET
};

fn a_caller_meets_an_item_that_moves_to_main() {
    caller_meets_upkeep(SHORT, 2);
}

fn a_caller_meets_an_item_that_is_cleaned() {
    caller_meets_upkeep(TIDY, 0);
}

fn an_invalidation_meets_an_item_that_is_cleaned() {
    let cache = TIDY.cache();
    let mut one = session(&cache);
    set(&mut one, b"a", b"dead");
    set(&mut one, b"a", b"old");
    drop(one);
    let (one, mut two) = (session(&cache), session(&cache));
    set(&mut two, b"b", b"open");
    let (_one, _, marked) = beside(one, &mut two, maintain, |two| invalidate(two, b"a"));
    assert!(marked.is_some(), "the key is there all the time");
    let last = call(&mut two, b"a", &LOOK);
    assert_eq!((last.version, last.freshness), (marked, Freshness::Stale));
    assert_eq!(last.lease, Lease::Won);
}

/// A stale item and, beside the caller, the insertion of another key that splits the bucket.
fn caller_meets_split(name: [u8; 1], other: [u8; 1]) {
    let layout = Layout {
        items_per_segment: 4,
        ..Layout::GROWING
    };
    let cache = layout.cache();
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut two, &name, b"old");
    assert!(invalidate(&mut two, &name).is_some());
    // Opens a segment.
    set(&mut one, &name, b"old");
    assert!(invalidate(&mut one, &name).is_some());
    let (_one, _, told) = beside(
        one,
        &mut two,
        move |one| set(one, &other, b"new"),
        |two| call(two, &name, &LOOK),
    );
    assert_eq!(cache.stats().buckets, 2);
    assert!(told.won());
    let last = call(&mut two, &name, &LOOK);
    assert_eq!(
        (last.lease, last.freshness),
        (Lease::Taken, Freshness::Stale)
    );
}

fn a_caller_meets_a_split_that_moves_the_key() {
    caller_meets_split(key(1, 0), key(0, 0));
}

fn a_caller_meets_a_split_that_leaves_the_key() {
    caller_meets_split(key(0, 0), key(1, 0));
}

fn two_callers_that_miss_meet_a_split() {
    let layout = Layout {
        items_per_segment: 12,
        ..Layout::GROWING
    };
    let cache = layout.cache();
    let (name, other) = (key(1, 0), key(0, 0));
    let (mut one, mut two) = (session(&cache), session(&cache));
    set(&mut one, &other, b"there");
    // The placeholder is the second entry: whoever publishes it splits the bucket, and the key goes
    // to the new one.
    let (_one, first, second) = beside(
        one,
        &mut two,
        move |one| call(one, &name, &FILL),
        |two| call(two, &name, &FILL),
    );
    assert_eq!(cache.stats().buckets, 2);
    one_wins(&first, &second);
    assert_eq!(call(&mut two, &name, &FILL).lease, Lease::Taken);
}
