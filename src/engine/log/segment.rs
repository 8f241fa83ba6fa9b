//! One segment's line in the segment table, and the states it goes through.
//!
//! ```text
//!  word 0  state (8 bits) | live bytes (upper 32 bits)
//!  word 1  committed bytes
//!  word 2  sequence: the order in which segments were opened
//!  the rest is reserved
//! ```
//!
//! State and live bytes share a word so that every decision that needs both is one atomic step.
//!
//! ```text
//!            open              seal                 begin_evict
//!   Free ----------> Open --------------> Sealed ----------------> Evicting
//!    ^                |  (nothing live)      | (last live byte          | finish_evict
//!    |                v                      v  removed)                v
//!    +------------ Retired <-----------------+--------------------------+
//!       reclaim (one grace period after)
//! ```
//!
//! Only the session that opened a segment publishes items in it, and it seals it after its last
//! publication; so one grace period between `Retired` and `Free` is enough: whoever was pinned
//! before the last index word went may still read, nobody can publish.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | state, live | `add_live` Relaxed | `remove_live` | ordered by the index word that was published in between (Release / Acquire) | `a_removal_races_with_sealing` |
//! | state, live | `seal`, `remove_live`, `begin_evict` AcqRel | each other | whoever retires has seen every removal before it | `a_removal_races_with_sealing` |
//! | committed | `commit` Release | `committed` Acquire | a walk sees the bytes of every item below it | `eviction_races_with_a_reader` |

use crate::arena::Arena;
use crate::sync::Ordering;

const STATE: u64 = 0xff;
const LIVE_SHIFT: u32 = 32;

/// What a segment is used for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// In the pool, or never used.
    Free = 0,
    /// One session appends to it.
    Open = 1,
    /// Complete; all its items may be read, none will be added.
    Sealed = 2,
    /// One session is removing the index words that name it.
    Evicting = 3,
    /// No index word names it; readers that were pinned before may still look.
    Retired = 4,
    /// Its memory was given to the index for good.
    Withdrawn = 5,
}

impl State {
    fn of(word: u64) -> Self {
        match word & STATE {
            0 => Self::Free,
            1 => Self::Open,
            2 => Self::Sealed,
            3 => Self::Evicting,
            4 => Self::Retired,
            5 => Self::Withdrawn,
            other => unreachable!("segment state {other}"),
        }
    }
}

/// What became of a segment when its last live byte may have gone.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// Something is live, or its owner or evictor will see to it.
    No,
    /// It is `Retired` now, by this call: the caller must have it reclaimed.
    Retired,
}

/// One line of the segment table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    arena: &'a Arena,
    line: u64,
}

impl<'a> Segment<'a> {
    pub(crate) fn at(arena: &'a Arena, line: u64) -> Self {
        Self { arena, line }
    }

    /// The state and the live bytes at one instant.
    pub(crate) fn state(self) -> (State, u64) {
        let word = self.arena.word(self.line).load(Ordering::Acquire);
        (State::of(word), word >> LIVE_SHIFT)
    }

    /// The bytes that hold items, from the start of the segment.
    pub(crate) fn committed(self) -> u64 {
        self.arena.word(self.line + 8).load(Ordering::Acquire)
    }

    /// Free → Open. The caller took the segment from the pool.
    pub(crate) fn open(self, sequence: u64) {
        // ORDERING: Relaxed; the pool's lock gave the segment to this thread alone, and others
        // learn of it through index words or the pool.
        let words = self.arena.words::<3>(self.line);
        words[1].store(0, Ordering::Relaxed);
        words[2].store(sequence, Ordering::Relaxed);
        words[0].store(State::Open as u64, Ordering::Relaxed);
    }

    /// Says that items fill the segment up to `bytes`. Only the session that opened it calls this,
    /// before it publishes the index word.
    pub(crate) fn commit(self, bytes: u64) {
        // ORDERING: Release, with `committed`: the item's bytes come before its length.
        self.arena
            .word(self.line + 8)
            .store(bytes, Ordering::Release);
    }

    /// Counts an item that is about to be published.
    pub(crate) fn add_live(self, bytes: u64) {
        // ORDERING: Relaxed; `remove_live` for this item comes after its publication.
        let word = self.arena.word(self.line);
        word.fetch_add(bytes << LIVE_SHIFT, Ordering::Relaxed);
    }

    /// Counts an item whose index word the caller removed.
    pub(crate) fn remove_live(self, bytes: u64) -> Emptied {
        let word = self.arena.word(self.line);
        // ORDERING: AcqRel: whoever takes the count to 0 has every earlier removal behind it.
        let before = word.fetch_sub(bytes << LIVE_SHIFT, Ordering::AcqRel);
        debug_assert!(before >> LIVE_SHIFT >= bytes, "live bytes below zero");
        if before != bytes << LIVE_SHIFT | State::Sealed as u64 {
            return Emptied::No;
        }
        self.retire_if(State::Sealed)
    }

    /// Open → Sealed, or Retired if nothing in it is live.
    pub(crate) fn seal(self) -> Emptied {
        let word = self.arena.word(self.line);
        // ORDERING: AcqRel, as in `remove_live`: either this sees the last removal, or the last
        // removal sees `Sealed`.
        let before = word.fetch_add(State::Sealed as u64 - State::Open as u64, Ordering::AcqRel);
        debug_assert_eq!(State::of(before), State::Open);
        if before >> LIVE_SHIFT > 0 {
            return Emptied::No;
        }
        self.retire_if(State::Sealed)
    }

    /// Sealed → Evicting; false if the segment is not sealed any more.
    #[must_use]
    pub(crate) fn begin_evict(self) -> bool {
        let word = self.arena.word(self.line);
        let mut seen = word.load(Ordering::Relaxed);
        while State::of(seen) == State::Sealed {
            let next = seen - State::Sealed as u64 + State::Evicting as u64;
            // ORDERING: AcqRel: competes with `retire_if`; exactly one of them retires.
            match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Evicting → Retired: no index word names the segment any more.
    ///
    /// Live bytes may still be above 0: a session that removed a word itself counts it down before
    /// it unpins, hence before the segment is reclaimed.
    pub(crate) fn finish_evict(self) {
        let word = self.arena.word(self.line);
        let step = State::Retired as u64 - State::Evicting as u64;
        let before = word.fetch_add(step, Ordering::AcqRel);
        debug_assert_eq!(State::of(before), State::Evicting);
    }

    /// Retired → Free, a grace period later.
    pub(crate) fn reclaim(self) {
        let word = self.arena.word(self.line);
        let before = word.swap(State::Free as u64, Ordering::AcqRel);
        debug_assert_eq!(before, State::Retired as u64, "reclaimed while in use");
    }

    /// Free → Withdrawn. The caller took the segment from the pool.
    pub(crate) fn withdraw(self) {
        let word = self.arena.word(self.line);
        word.store(State::Withdrawn as u64, Ordering::Relaxed);
    }

    fn retire_if(self, state: State) -> Emptied {
        let word = self.arena.word(self.line);
        // ORDERING: AcqRel: competes with `begin_evict`; exactly one of them retires.
        let retired = word.compare_exchange(
            state as u64,
            State::Retired as u64,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        match retired {
            Ok(_) => Emptied::Retired,
            Err(_) => Emptied::No,
        }
    }
}
