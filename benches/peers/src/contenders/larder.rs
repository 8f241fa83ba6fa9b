//! Larder, one at a time and in batches of 16, maintained as a program with a thread for that does; with huge
//! pages, where the system makes them, and without.

use std::hint::black_box;

use larder::{Cache, Config, Entry, Guard, HugePages, Key, Mode, Reach, StoreError};

use crate::contenders::{Contender, Room, Session, Store, VALUE, Value};
use crate::load::{Action, Keys, Request};

const BATCH: usize = 16;
const NOW_MS: u64 = 0;

/// More than an entry of these sizes costs, dead ones that wait for the cleaner included.
const AMPLE_BYTES_PER_ENTRY: u64 = 512;
/// Where the search for the memory that holds a quarter begins.
const LIKELY_BYTES_PER_ENTRY: u64 = 92;
/// LIMIT: what the engine accepts.
const MEMORY_BYTES_MIN: u64 = 2 << 20;
/// LIMIT: tries of that search, each a fill.
const TRIES_MAX: usize = 8;

/// A pin for each operation, as by an embedder without batches. `HUGE`: in huge pages, where there are some.
pub(super) struct OneAtATime<const HUGE: bool>(Cache);

/// A pin for each batch; its gets are looked up together. `HUGE`: likewise.
pub(super) struct Batches<const HUGE: bool>(Cache);

impl<const HUGE: bool> Store for OneAtATime<HUGE> {
    type Session<'s> = EachSession;

    fn open(room: Room, keys: &Keys) -> Self {
        Self(open(room, keys, pages::<HUGE>()))
    }

    fn session(&self) -> EachSession {
        EachSession(self.0.session().expect("a session"))
    }

    fn settle(&self) {
        maintain(&self.0);
    }

    fn entries(&self) -> u64 {
        self.0.stats().items
    }

    fn refusals(&self) -> u64 {
        self.0.stats().no_space
    }
}

impl<const HUGE: bool> Store for Batches<HUGE> {
    type Session<'s> = BatchSession;

    fn open(room: Room, keys: &Keys) -> Self {
        Self(open(room, keys, pages::<HUGE>()))
    }

    fn session(&self) -> BatchSession {
        BatchSession(EachSession(self.0.session().expect("a session")))
    }

    fn settle(&self) {
        maintain(&self.0);
    }

    fn entries(&self) -> u64 {
        self.0.stats().items
    }

    fn refusals(&self) -> u64 {
        self.0.stats().no_space
    }
}

const fn pages<const HUGE: bool>() -> HugePages {
    match HUGE {
        true => HugePages::Auto,
        false => HugePages::Never,
    }
}

fn open(room: Room, keys: &Keys, huge_pages: HugePages) -> Cache {
    let memory_bytes = match room {
        Room::Everything => keys.len() as u64 * AMPLE_BYTES_PER_ENTRY,
        Room::Quarter => memory_for(room.entries(keys), keys),
    };
    with_memory(memory_bytes, huge_pages)
}

/// What a thread of its own would do meanwhile.
fn maintain(cache: &Cache) {
    let mut session = cache.session().expect("a session");
    while session.maintain(NOW_MS) {}
}

fn with_memory(memory_bytes: u64, huge_pages: HugePages) -> Cache {
    let mut config = Config::new(memory_bytes.max(MEMORY_BYTES_MIN));
    config.huge_pages = huge_pages;
    Cache::new(config).unwrap_or_else(|error| panic!("no cache: {error}"))
}

/// The memory that, when every key has been set once, holds about so many of them: Larder is given
/// bytes, and the others a number of entries.
fn memory_for(entries: u64, keys: &Keys) -> u64 {
    let mut memory_bytes = entries * LIKELY_BYTES_PER_ENTRY;
    let mut closest = (u64::MAX, memory_bytes);
    for _ in 0..TRIES_MAX {
        let store = OneAtATime::<false>(with_memory(memory_bytes, HugePages::Never));
        store.fill(keys);
        let held = store.0.stats().items;
        closest = closest.min((held.abs_diff(entries), memory_bytes));
        if held.abs_diff(entries) <= entries / 200 {
            break;
        }
        memory_bytes = memory_bytes * entries / held.max(1);
    }
    closest.1
}

pub(super) struct EachSession(larder::Session);

impl Session for EachSession {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        let guard = self.0.pin(NOW_MS);
        let item = guard.get(&guard.key(key).expect("a key"));
        item.map(|item| copy_out(item.value(), value)).is_some()
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        let mut guard = self.0.pin(NOW_MS);
        let key = guard.key(key).expect("a key");
        store(&mut guard, &key, value);
    }
}

pub(super) struct BatchSession(EachSession);

impl Session for BatchSession {
    fn get(&mut self, key: &[u8], value: &mut Value) -> bool {
        self.0.get(key, value)
    }

    fn set(&mut self, key: &[u8], value: &Value) {
        self.0.set(key, value);
    }

    /// The gets of a batch come first, then its sets and the sets of what was missed.
    fn serve<'r>(&mut self, mut requests: impl Iterator<Item = Request<'r>>) -> u64 {
        let mut value = VALUE;
        let mut hits = 0;
        let mut gets = Vec::with_capacity(BATCH);
        let mut sets = Vec::with_capacity(BATCH);
        loop {
            let mut guard = self.0.0.pin(NOW_MS);
            gets.clear();
            sets.clear();
            for Request { action, key } in requests.by_ref().take(BATCH) {
                let key = guard.key(key).expect("a key");
                // It comes while the next keys are hashed.
                guard.prefetch_bucket(&key);
                match action {
                    Action::Get => gets.push(key),
                    Action::Set => sets.push(key),
                }
            }
            if gets.is_empty() && sets.is_empty() {
                return hits;
            }
            guard.prefetch_items(sets.iter_mut().map(|key| (key, Reach::Key)));
            guard.get_many(&gets, |at, item| match item {
                Some(item) => {
                    copy_out(item.value(), black_box(&mut value));
                    hits += 1;
                }
                None => sets.push(gets[at]),
            });
            for key in &sets {
                store(&mut guard, key, &VALUE);
            }
        }
    }
}

fn copy_out(stored: impl AsRef<[u8]>, value: &mut Value) {
    value.copy_from_slice(stored.as_ref());
}

fn store(guard: &mut Guard<'_>, key: &Key<'_>, value: &Value) {
    match guard.store(key, Mode::Set, &Entry::of(value)) {
        // The engine counts those without space, and the report shows them.
        Ok(_) | Err(StoreError::NoSpace) => {}
        Err(error) => panic!("{error}"),
    }
}
