//! What a reader sees in a memory, whatever process it is of: a second reading of the index, apart from
//! the engine's own.
//!
//! At the instant of its death a process has published what readers see then, and nothing else. So
//! that is what recovery must come to, to the bit.

use crate::arena::Arena;
use crate::engine::config::{BUCKET_BYTES, Geometry, OVERFLOW_BYTES};
use crate::engine::header;
use crate::engine::index::word::{Control, Entry, KeyHash, Marks};
use crate::engine::item::Item;
use crate::shape;

/// A key's value, with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) value: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) version: u64,
    pub(crate) is_stale: bool,
    pub(crate) is_leased: bool,
    pub(crate) is_placeholder: bool,
}

impl State {
    /// Whether both are the same, whatever their versions.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let unversioned = |state: &Self| Self {
            version: 0,
            ..state.clone()
        };
        unversioned(self) == unversioned(other)
    }
}

/// What the index has of a key, expired and flushed items included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The word that names it.
    pub(crate) word: u64,
    pub(crate) state: State,
}

/// What a memory holds of some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) keys: Vec<Option<Seen>>,
    flushed_version: u64,
    flush_due_ms: u64,
}

impl Contents {
    pub(crate) fn of(arena: &Arena, geometry: &Geometry, keys: &[(Vec<u8>, KeyHash)]) -> Self {
        let found = |(key, hash): &(Vec<u8>, KeyHash)| find(arena, geometry, *hash, key);
        Self {
            keys: keys.iter().map(found).collect(),
            flushed_version: header::load(arena, header::FLUSHED_VERSION),
            flush_due_ms: header::load(arena, header::FLUSH_DUE_MS),
        }
    }

    /// What is neither expired nor flushed.
    pub(crate) fn live(&self, key: usize, now_ms: u64) -> Option<&State> {
        let state = &self.keys[key].as_ref()?.state;
        let is_expired = state.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let is_due = self.flush_due_ms != 0 && self.flush_due_ms <= now_ms;
        let is_flushed = is_due || state.version <= self.flushed_version;
        (!is_expired && !is_flushed).then_some(state)
    }

    /// The largest version of any key.
    pub(crate) fn newest_version(&self) -> u64 {
        let versions = self.keys.iter().flatten().map(|seen| seen.state.version);
        versions.max().unwrap_or(0)
    }

    /// How many keys the index has.
    pub(crate) fn count(&self) -> u64 {
        self.keys.iter().flatten().count() as u64
    }
}

fn find(arena: &Arena, geometry: &Geometry, hash: KeyHash, key: &[u8]) -> Option<Seen> {
    let bucket = hash.bucket(header::load(arena, header::BUCKETS));
    let mut at = geometry.buckets_at + bucket * BUCKET_BYTES;
    let mut slots = shape::SLOTS;
    loop {
        for slot in 0..slots {
            let entry = Entry(header::load(arena, at + slot * 8));
            if entry.is_empty() || entry.tag() != hash.tag() {
                continue;
            }
            // SAFETY: a published word names a whole item; where one does not, the lengths that are
            // found there leave the arena, which is checked, or make another key.
            let item = unsafe { Item::read(arena, entry.offset()) };
            if item.key() == key {
                let word = entry.0;
                let state = state(entry, &item);
                return Some(Seen { word, state });
            }
        }
        let next = Control(header::load(arena, at + slots * 8)).overflow()?;
        at = geometry.overflow_at + u64::from(next) * OVERFLOW_BYTES;
        slots = shape::OVERFLOW_SLOTS;
    }
}

fn state(entry: Entry, item: &Item<'_>) -> State {
    State {
        value: item.value().into_owned(),
        flags: item.flags(),
        expires_at_ms: item.stored_expiry_ms(),
        version: item.version(),
        is_stale: entry.marks().has(Marks::STALE),
        is_leased: entry.marks().has(Marks::LEASED),
        is_placeholder: item.is_placeholder(),
    }
}
