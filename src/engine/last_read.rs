//! When an item was last read, where the cache is to keep that: one word behind the item.
//!
//! It is the one part of an item that readers write, so it lies apart from the rest and outside the
//! item's CRC: a plain store, at most once in a while for each item, of which the last one stays. A
//! time that is noted while the item is moved may be lost. Nothing depends on it.

use crate::arena::Arena;
use crate::sync::{AtomicU64, Ordering};

/// Bytes of the word.
pub(crate) const LAST_READ_BYTES: u64 = 8;
/// LIMIT: a time that is younger than this is not replaced, so that the line of a hot item stays
/// shared.
const STEP_MS: u64 = 1000;

/// The word of one item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastRead<'a> {
    arena: &'a Arena,
    at: u64,
}

impl<'a> LastRead<'a> {
    /// The word behind an item that ends, with its word, at `end`.
    pub(crate) fn before(arena: &'a Arena, end: u64) -> Self {
        Self {
            arena,
            at: end - LAST_READ_BYTES,
        }
    }

    fn word(self) -> &'a AtomicU64 {
        self.arena.word(self.at)
    }

    /// Writes the time of an item that nobody can see yet.
    pub(crate) fn begin(self, now_ms: u64) {
        // Plain bytes may have been here before.
        self.arena
            .assert_unshared(self.at, LAST_READ_BYTES as usize);
        // ORDERING: Relaxed; the index word that names the item publishes it.
        self.word().store(now_ms, Ordering::Relaxed);
    }

    /// Notes a read. A clock that was set back is believed.
    pub(crate) fn note(self, now_ms: u64) {
        let before_ms = self.ms();
        if before_ms > now_ms || now_ms - before_ms >= STEP_MS {
            // ORDERING: Relaxed, here and in `ms`; a time, which nothing depends on.
            self.word().store(now_ms, Ordering::Relaxed);
        }
    }

    /// The time as it stands.
    pub(crate) fn ms(self) -> u64 {
        self.word().load(Ordering::Relaxed)
    }
}
