//! Numbers that change in place, so that a hot counter makes no garbage.
//!
//! ```text
//!  word 0  version 56 | reserved 7 | which value is current: 1
//!  word 1  one value
//!  word 2  the other value
//! ```
//!
//! Writers hold the lock of the item's bucket, so there is one at a time. A writer stores the new
//! value where the current one is not, and then says in one store that it is the current one, and
//! with which version. A reader reads the first word, the value that it names, and the first word
//! again: if that has not changed, value and version belong together. Only two updates after each
//! other write the value that a reader is looking at, and the first of them has changed the first
//! word; so a reader tries again only because an update went through, and never waits for one.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | first | `update`, Release | `read`, Acquire | the value comes before the word that names it | `a_reader_of_a_counter_sees_value_and_version_together` |
//! | value | `update`, Release | `read`, Acquire | who sees a later value sees that the first word has changed | `a_reader_of_a_counter_sees_value_and_version_together` |

use crate::arena::Arena;
use crate::engine::item_header::VERSION_MAX;
use crate::sync::Ordering;

/// Bytes of a number that changes in place.
pub(crate) const IN_PLACE_BYTES: u64 = WORDS as u64 * 8;
const WORDS: usize = 3;
const SECOND: u64 = 1 << 63;

/// A value and the version that it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versioned {
    pub(crate) value: u64,
    pub(crate) version: u64,
}

/// The words of one number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InPlace<'a> {
    arena: &'a Arena,
    at: u64,
}

impl<'a> InPlace<'a> {
    /// The number at `at`, a multiple of 8.
    pub(crate) fn at(arena: &'a Arena, at: u64) -> Self {
        Self { arena, at }
    }

    /// Writes a number that nobody can see yet.
    pub(crate) fn begin(self, number: Versioned) {
        // Plain bytes may have been here before.
        self.arena.assert_unshared(self.at, WORDS * 8);
        let words = self.arena.words::<WORDS>(self.at);
        // ORDERING: Relaxed; the index word that names the item publishes it.
        words[1].store(number.value, Ordering::Relaxed);
        words[2].store(number.value, Ordering::Relaxed);
        words[0].store(number.version, Ordering::Relaxed);
    }

    /// Changes the number. The caller holds the lock of the bucket that names the item.
    pub(crate) fn update(self, number: Versioned) {
        let words = self.arena.words::<WORDS>(self.at);
        // ORDERING: Relaxed; the bucket's lock orders those who write it.
        let before = words[0].load(Ordering::Relaxed);
        let place = (before & SECOND) ^ SECOND;
        // ORDERING: Release, with `read`: whoever sees this value sees `before`, or what follows.
        words[slot(place)].store(number.value, Ordering::Release);
        // ORDERING: Release, with `read`: the value comes before the word that names it.
        words[0].store(number.version | place, Ordering::Release);
    }

    /// The number as it stands.
    pub(crate) fn read(self) -> Versioned {
        let words = self.arena.words::<WORDS>(self.at);
        loop {
            let before = words[0].load(Ordering::Acquire);
            let value = words[slot(before)].load(Ordering::Acquire);
            // ORDERING: Relaxed; the load before it is an Acquire, and keeps it behind.
            if words[0].load(Ordering::Relaxed) == before {
                let version = before & VERSION_MAX;
                return Versioned { value, version };
            }
        }
    }
}

fn slot(word: u64) -> usize {
    if word & SECOND == 0 { 1 } else { 2 }
}
