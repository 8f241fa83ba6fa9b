//! States that a process can leave behind when it dies in the middle of something, and states that
//! none does, made by hand.

use std::collections::BTreeSet;

use super::{Proof, Receipt, RecoverError};
use crate::arena::{Arena, OwnedFd};
use crate::engine::cache::Cache;
use crate::engine::config::{BUCKET_BYTES, Config, OVERFLOW_BYTES};
use crate::engine::header;
use crate::engine::index::ahead::Reach;
use crate::engine::index::word::{Control, Entry, KeyHash};
use crate::engine::log::segment::State;
use crate::engine::operations::{Entry as Stored, Mode, Outcome};
use crate::engine::session::Session;
use crate::shape;
use crate::sync::Ordering;

const CONTROL_BYTES: u64 = shape::SLOTS * 8;

/// A cache whose process is about to die.
struct Victim {
    cache: Cache,
    session: Session,
    config: Config,
}

impl Victim {
    fn new() -> Self {
        let mut config = Config::new(4 << 20);
        config.hash_seed = Some(5);
        config.first_version = Some(1);
        config.sessions_max = 2;
        let cache = Cache::new(config.clone()).expect("a cache");
        let session = cache.session().expect("a session");
        Self {
            cache,
            session,
            config,
        }
    }

    /// Stores as many keys, each with its number as the value.
    fn with(keys: u32) -> Self {
        let mut victim = Self::new();
        (0..keys).for_each(|number| victim.set(number));
        victim
    }

    fn set(&mut self, number: u32) {
        let name = number.to_string();
        let mut guard = self.session.pin(1);
        let key = guard.key(name.as_bytes()).expect("a key");
        let stored = guard.store(&key, Mode::Set, &Stored::of(name.as_bytes()));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })));
    }

    fn word(&self, at: u64) -> u64 {
        self.cache.shared().arena.word(at).load(Ordering::Relaxed)
    }

    fn set_word(&self, at: u64, value: u64) {
        let word = self.cache.shared().arena.word(at);
        word.store(value, Ordering::Relaxed);
    }

    fn bucket_at(&self, bucket: u64) -> u64 {
        self.cache.shared().geometry.buckets_at + bucket * BUCKET_BYTES
    }

    fn buckets(&self) -> u64 {
        self.cache.shared().index.buckets()
    }

    /// The slots of all buckets, overflow buckets aside, that hold an entry.
    fn entries(&self) -> Vec<(u64, Entry)> {
        let slots = |bucket| (0..shape::SLOTS).map(move |slot| (bucket, slot));
        let slots = (0..self.buckets()).flat_map(slots);
        let words = slots.map(|(bucket, slot)| self.bucket_at(bucket) + slot * 8);
        let words = words.map(|at| (at, Entry(self.word(at))));
        words.filter(|(_, entry)| !entry.is_empty()).collect()
    }

    fn hash(&self, entry: Entry) -> KeyHash {
        // SAFETY: nobody else is at work.
        let item = unsafe { self.cache.shared().item(entry) };
        self.cache.shared().hash(item.key())
    }

    fn number(&self, entry: Entry) -> u32 {
        // SAFETY: nobody else is at work.
        let item = unsafe { self.cache.shared().item(entry) };
        let value = String::from_utf8(item.value().into_owned());
        value.expect("digits").parse().expect("a number")
    }

    /// Dies; what is recovered must agree with itself.
    fn recovered(&self, proof: Proof) -> (Cache, Session, Receipt) {
        let memory = left_behind(&self.cache.shared().arena);
        let recovered = loop {
            let memory = memory.try_clone().expect("a descriptor");
            match Cache::recover(memory, &self.config, proof) {
                // Another test has just forked: until its new process runs its program, it is an owner as well.
                Err(RecoverError::InUse) => std::hint::spin_loop(),
                recovered => break recovered,
            }
        };
        let (cache, receipt) = recovered.expect("the header is whole");
        let mut session = cache.session().expect("a session");
        assert_eq!(session.verify(), Ok(()), "{receipt:#?}");
        (cache, session, receipt)
    }
}

/// The memory as it is at this moment, in another one that nobody owns.
fn left_behind(arena: &Arena) -> OwnedFd {
    let bytes = arena.bytes();
    let copy = Arena::new(bytes).expect("an arena");
    for at in (0..bytes).step_by(8) {
        let word = arena.word(at).load(Ordering::Relaxed);
        if word != 0 {
            copy.word(at).store(word, Ordering::Relaxed);
        }
    }
    copy.memory().try_clone_to_owned().expect("a descriptor")
}

/// Which of so many keys are there; each must have its own value.
fn present(session: &mut Session, keys: u32) -> BTreeSet<u32> {
    let guard = session.pin(1);
    let is_present = |number: &u32| {
        let name = number.to_string();
        let key = guard.key(name.as_bytes()).expect("a key");
        let item = guard.get(&key);
        item.inspect(|item| assert_eq!(item.value(), name.as_bytes()))
            .is_some()
    };
    (0..keys).filter(is_present).collect()
}

fn all(keys: u32) -> BTreeSet<u32> {
    (0..keys).collect()
}

/// The numbers of a sequence that looks random.
fn scattered() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state ^ state >> 29
    }
}

#[test]
fn locks_of_the_dead_are_cleared() {
    let victim = Victim::with(3000);
    let buckets = victim.buckets();
    for bucket in 0..buckets {
        let at = victim.bucket_at(bucket) + CONTROL_BYTES;
        victim.set_word(at, Control(victim.word(at)).locked_by(1).0);
    }
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!(receipt.locks_cleared, buckets);
    assert_eq!(present(&mut session, 3000), all(3000));
    let mut guard = session.pin(1);
    let key = guard.key(b"7").expect("a key");
    let _ = guard.delete(&key, None);
}

#[test]
fn a_split_that_had_not_raised_the_count_never_was() {
    let victim = Victim::with(3000);
    let child = victim.bucket_at(victim.buckets());
    for (slot, (_, entry)) in (0..4).zip(victim.entries()) {
        victim.set_word(child + slot * 8, entry.0);
    }
    victim.set_word(child + CONTROL_BYTES, Control(0).locked_by(1).0);
    let (cache, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!((receipt.items, receipt.dropped.total()), (3000, 0));
    // The next splits fill that bucket, and those behind it.
    for number in 3000..12_000_u32 {
        let name = number.to_string();
        let mut guard = session.pin(1);
        let key = guard.key(name.as_bytes()).expect("a key");
        let stored = guard.store(&key, Mode::Set, &Stored::of(name.as_bytes()));
        assert!(stored.is_ok());
    }
    assert!(cache.stats().buckets > 1000);
    assert_eq!(present(&mut session, 12_000), all(12_000));
    assert_eq!(session.verify(), Ok(()));
}

#[test]
fn a_split_that_had_raised_the_count_is_done() {
    let victim = Victim::with(2300);
    let child = victim.buckets();
    let moves = |entry: &Entry| victim.hash(*entry).bucket(child + 1) == child;
    let mut moved = victim.entries();
    moved.retain(|(_, entry)| moves(entry));
    moved.truncate(shape::SLOTS as usize);
    assert!(!moved.is_empty(), "another seed");
    for (slot, (_, entry)) in (0..).zip(&moved) {
        victim.set_word(victim.bucket_at(child) + slot * 8, entry.0);
    }
    victim.set_word(header::BUCKETS, child + 1);
    // One of them had been cleared from the parent.
    victim.set_word(moved[0].0, 0);
    let (cache, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!(cache.stats().buckets, child + 1);
    assert_eq!(receipt.dropped.key, receipt.dropped.total());
    assert!(receipt.dropped.key >= moved.len() as u64 - 1);
    // What lay in overflow buckets of the parent was not copied here, and is lost.
    let copied = moved.len() as u64 - 1;
    let found = present(&mut session, 2300).len() as u64;
    assert_eq!(found, 2300 - (receipt.dropped.key - copied));
}

#[test]
fn an_entry_that_names_what_was_not_committed_is_dropped() {
    let victim = Victim::with(10);
    let shared = victim.cache.shared();
    let open = (0..shared.geometry.segments)
        .find(|&id| shared.segments.segment(id).state().0 == State::Open)
        .expect("one is open");
    let end = shared.segments.start(open) + shared.segments.segment(open).committed();
    // An item that is whole, and one that is not: neither was committed.
    let (at, entry) = victim.entries()[3];
    let lost = victim.number(entry);
    for word in 0..4 {
        victim.set_word(end + word * 8, victim.word(entry.offset() + word * 8));
    }
    victim.set_word(at, Entry::new(victim.hash(entry), end).0);
    let (at, entry) = victim.entries()[5];
    let torn = victim.number(entry);
    victim.set_word(at, Entry::new(victim.hash(entry), end + 64).0);
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!(receipt.dropped.place, 2, "{receipt:#?}");
    let mut expected = all(10);
    expected.retain(|number| ![lost, torn].contains(number));
    assert_eq!(present(&mut session, 10), expected);
}

#[test]
fn a_committed_length_is_believed_as_far_as_items_follow_each_other() {
    let victim = Victim::with(100);
    let shared = victim.cache.shared();
    let open = (0..shared.geometry.segments)
        .find(|&id| shared.segments.segment(id).state().0 == State::Open)
        .expect("one is open");
    let segment = shared.segments.segment(open);
    let committed = segment.committed();
    segment.commit(u64::MAX);
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!(receipt.torn_segments, 1);
    assert!(receipt.torn_bytes >= 4096 && committed < 16_384);
    assert_eq!(present(&mut session, 100), all(100));
}

#[test]
fn words_of_garbage_are_dropped_and_hurt_nobody_else() {
    let victim = Victim::with(3000);
    let mut next = scattered();
    let entries = victim.entries();
    let mut overwritten = BTreeSet::new();
    for round in 0..600 {
        let (at, entry) = entries[(next() % entries.len() as u64) as usize];
        overwritten.insert(victim.number(entry));
        let word = match round % 3 {
            0 => next(),
            // Somewhere in an item, under the right tag.
            1 => Entry::new(victim.hash(entry), entry.offset() + 8).0,
            // What another word says.
            _ => entries[(next() % entries.len() as u64) as usize].1.0,
        };
        victim.set_word(at, word.max(1));
    }
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    let found = present(&mut session, 3000);
    let missing: BTreeSet<_> = all(3000).difference(&found).copied().collect();
    assert!(missing.is_subset(&overwritten));
    assert!(missing.len() > 400 && receipt.dropped.total() > 400);
    let dropped = receipt.dropped;
    assert!(
        dropped.segment > 0 && dropped.place > 0 && dropped.key > 0,
        "{dropped:?}"
    );
}

#[test]
fn an_entry_tells_the_lines_of_its_item_wherever_that_has_moved() {
    let mut victim = Victim::new();
    let mut set = |number: u32, value: &[u8]| {
        let mut guard = victim.session.pin(1);
        let name = number.to_string();
        let mut key = guard.key(name.as_bytes()).expect("a key");
        // Those that are there already go the way of most sets.
        guard.prefetch_items(std::iter::once((&mut key, Reach::Key)));
        let stored = guard.store(&key, Mode::Set, &Stored::of(value));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })), "{stored:?}");
        let _ = guard.get(&key);
    };
    // More than there is room for, some of it again and again: items are moved, too.
    for round in 0..4 {
        for number in 0..6000 {
            let bytes = (number * 37 + round * 101) as usize % 1300;
            set(number, &[3; 1300][..bytes]);
            set(number % 61, b"often");
        }
    }
    let stats = victim.cache.stats();
    assert!(
        stats.evict_moved_bytes > 0 && stats.overwritten > 0,
        "{stats:?}"
    );
    let mut lines = [0; 8];
    for (_, entry) in victim.entries() {
        // SAFETY: nobody else is at work.
        let item = unsafe { victim.cache.shared().item(entry) };
        let expected = Entry::new(victim.hash(entry), entry.offset()).spanning(item.bytes());
        assert_eq!(entry.further_lines(), expected.further_lines());
        lines[entry.further_lines() as usize] += 1;
    }
    assert!(lines.iter().all(|&items| items > 0), "{lines:?}");
}

#[test]
fn an_item_is_kept_whatever_its_entry_says_of_its_lines() {
    let victim = Victim::with(1000);
    let mut changed = 0;
    for (number, (at, entry)) in victim.entries().into_iter().enumerate() {
        let other = Entry::new(victim.hash(entry), entry.offset());
        // None, as of a server that did not tell; or more than there are.
        let other = match number % 2 {
            0 => other,
            _ => other.spanning(4096),
        };
        changed += u64::from(other.further_lines() != entry.further_lines());
        victim.set_word(at, other.0);
    }
    assert!(changed >= 500, "{changed}");
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!(receipt.dropped.total(), 0, "{receipt:#?}");
    assert_eq!(present(&mut session, 1000), all(1000));
}

#[test]
fn an_entry_in_another_bucket_or_of_another_tag_is_dropped() {
    let victim = Victim::with(3000);
    let entries = victim.entries();
    let (at, moved) = entries[10];
    let bucket = victim.hash(moved).bucket(victim.buckets());
    let elsewhere = (0..victim.buckets())
        .filter(|&other| other != bucket)
        .flat_map(|other| (0..shape::SLOTS).map(move |slot| (other, slot)))
        .map(|(other, slot)| victim.bucket_at(other) + slot * 8)
        .find(|&at| victim.word(at) == 0)
        .expect("a slot is free");
    victim.set_word(at, 0);
    victim.set_word(elsewhere, moved.0);
    let (at, renamed) = entries[400];
    victim.set_word(at, renamed.0 ^ 1 << 50);
    let mut expected = all(3000);
    expected.remove(&victim.number(moved));
    expected.remove(&victim.number(renamed));
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!((receipt.dropped.key, receipt.dropped.total()), (2, 2));
    assert_eq!(present(&mut session, 3000), expected);
}

#[test]
fn of_two_large_values_in_one_place_the_first_is_kept() {
    let mut victim = Victim::with(100);
    let before = victim.entries();
    for name in [b"a", b"b"] {
        let mut guard = victim.session.pin(1);
        let key = guard.key(name).expect("a key");
        let stored = guard.store(&key, Mode::Set, &Stored::of(&[7; 100_000]));
        assert!(matches!(stored, Ok(Outcome::Stored { .. })));
    }
    let mut large = victim.entries();
    large.retain(|found| !before.contains(found));
    large.sort_unstable_by_key(|(_, entry)| entry.offset());
    let arena = &victim.cache.shared().arena;
    // SAFETY: nobody else is at work, here and below.
    let first = unsafe { victim.cache.shared().item(large[0].1) };
    let description = first.extents().expect("it is large").description().to_vec();
    // Behind a header and a key of one byte.
    let at = large[1].1.offset() + 17;
    // SAFETY: the description of the second has the same length.
    unsafe { arena.write(at, &description) };
    let (_, _, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!((receipt.items, receipt.dropped.total()), (101, 1));
    assert_eq!(receipt.dropped.extents, 1);
}

#[test]
fn of_two_items_of_one_key_neither_is_served() {
    let mut victim = Victim::with(50);
    let hash = |victim: &Victim| victim.cache.shared().hash(b"7");
    let entry_of = |victim: &Victim| {
        let mut entries = victim.entries();
        entries.retain(|(_, entry)| victim.number(*entry) == 7);
        entries[0]
    };
    let (_, old) = entry_of(&victim);
    victim.set(7);
    let bucket = hash(&victim).bucket(victim.buckets());
    let free = (0..shape::SLOTS)
        .map(|slot| victim.bucket_at(bucket) + slot * 8)
        .find(|&at| victim.word(at) == 0)
        .expect("a slot is free");
    victim.set_word(free, old.0);
    for proof in [Proof::Contents, Proof::Lengths] {
        let (_, mut session, receipt) = victim.recovered(proof);
        assert_eq!(receipt.dropped.duplicate, 2);
        let mut expected = all(50);
        expected.remove(&7);
        assert_eq!(present(&mut session, 50), expected);
    }
}

#[test]
fn chains_that_run_in_circles_or_into_others_are_cut() {
    let victim = Victim::with(3000);
    let overflow_at = victim.cache.shared().geometry.overflow_at;
    for bucket in 0..victim.buckets() {
        let at = victim.bucket_at(bucket) + CONTROL_BYTES;
        if Control(victim.word(at)).overflow().is_none() {
            let id = [0, 1, 2, 900, u32::MAX - 1][bucket as usize % 5];
            victim.set_word(at, Control(0).with_overflow(id).0);
        }
    }
    for id in 0..3 {
        let control = overflow_at + id * OVERFLOW_BYTES + shape::OVERFLOW_SLOTS * 8;
        victim.set_word(control, Control(0).with_overflow(2 - id as u32).0);
    }
    let (_, mut session, receipt) = victim.recovered(Proof::Lengths);
    assert!(receipt.links_cut > 50, "{receipt:#?}");
    // What other chains had in overflow buckets may be lost, and nothing else.
    assert!(present(&mut session, 3000).len() as u64 == receipt.items && receipt.items > 2000);
}

#[test]
fn a_changed_byte_is_noticed_where_contents_are_to_be_proved() {
    let victim = Victim::with(10);
    let (_, entry) = victim.entries()[4];
    // A value of one digit lies behind a header and a key of one digit.
    let at = entry.offset() + 16;
    victim.set_word(at, victim.word(at) ^ 0x100);
    let (_, _, receipt) = victim.recovered(Proof::Contents);
    assert_eq!((receipt.items, receipt.dropped.contents), (9, 1));
}

#[test]
fn versions_that_were_never_given_out_are_dropped() {
    let victim = Victim::with(10);
    victim.set_word(header::NEXT_VERSION, 6);
    let (_, _, receipt) = victim.recovered(Proof::Contents);
    assert_eq!((receipt.items, receipt.dropped.version), (5, 5));
}

#[test]
fn a_segment_too_many_that_was_withdrawn_is_free_again() {
    let victim = Victim::with(10);
    let shared = victim.cache.shared();
    assert!(shared.segments.withdraw());
    let free = victim.cache.stats().free_bytes;
    let (cache, _, receipt) = victim.recovered(Proof::Lengths);
    assert_eq!(receipt.segments_freed, 1);
    let stats = cache.stats();
    assert_eq!(stats.free_bytes, free + stats.segment_bytes);
}
