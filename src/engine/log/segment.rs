//! One segment's line in the segment table, and the states it goes through.
//!
//! ```text
//!  word 0  state (8 bits) | live bytes (upper 32 bits)
//!  word 1  committed bytes
//!  word 2  label: sequence of opening | class | log
//!  word 3  when the last of its items expires, in milliseconds; NEVER: some item does not
//!  word 4  when the first of them does, as far as is known
//!  word 5  the largest version among its items, from its sealing on; until then, its owner
//!  word 6  when it was opened           | in the first extent of a large value: references to it
//!  word 7  bytes that an eviction has walked and that was put off
//! ```
//!
//! State and live bytes share a word so that every decision that needs both is one atomic step.
//!
//! ```text
//!            open              seal                   claim
//!   Free ----------> Open --------------> Sealed <------------> Claimed
//!   | ^               |  (nothing live)      | (last live byte     | finish
//!   | |               v                      v  removed)           v
//!   | +----------- Retired <-----------------+---------------------+
//!   |   reclaim (one grace period after)
//!   |
//!   +--> Extent, a piece of a large value, and back;  +--> Withdrawn, part of the index for good
//! ```
//!
//! A claim is one party's right to walk the segment: to remove or move every item (then it ends in
//! `finish`), or the expired ones only (then it is given back).
//!
//! Only the session that opened a segment publishes items in it, and it seals it after its last
//! publication; so one grace period between `Retired` and `Free` is enough: whoever was pinned
//! before the last index word went may still read, nobody can publish. The caretaker's segments belong
//! to whoever holds the caretaker's lock, which orders its holders as if they were one session.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | state, live | `add_live` Relaxed | `remove_live` | ordered by the index word that was published in between (Release / Acquire) | `a_removal_races_with_sealing`, `a_touch_races_with_an_overwrite` |
//! | state, live | `seal`, `remove_live`, `retire_if_empty` AcqRel | each other | whoever retires has seen every removal before it | `a_pin_after_the_last_removal_sees_the_first` |
//! | state, live | `claim`, `retire_if_empty` AcqRel | each other | one of them has the segment | `a_deletion_races_with_the_segment_that_expires` |
//! | state, live | `unclaim` AcqRel | `remove_live` | this sees that nothing is live, or the last removal sees `Sealed` | `a_removal_empties_a_segment_while_a_part_expires` |
//! | committed | `commit` Release | `committed` Acquire | a walk sees the bytes of every item below it: of an open segment by this, of a sealed one by the lists' lock, too | `a_value_leaves_beside_an_open_segment_that_is_written` |
//! | label | `open` Relaxed | `label` Relaxed | ordered by the index word of an item in it, or by the lists' lock | `a_reader_takes_hold_of_a_large_value_that_moves` |
//! | lifetime, newest | `commit`, `seal`, `unclaim` Relaxed | `claim_due` Relaxed | the lists' lock, which walks of the table hold, orders them | `what_expires_while_its_segment_is_claimed_is_not_forgotten`, `a_touch_outlives_a_part_that_expires` |
//! | walked | `put_off_evict`, `open` Relaxed | `Walk::of` Relaxed | `unclaim`, or the lists' lock, and the next `claim` order them (`claim_emptiest` only guesses by it) | `a_segment_that_is_used_again_is_walked_from_its_beginning`, `two_sessions_go_on_with_an_eviction_that_was_put_off` |

use crate::arena::Arena;
use crate::engine::item::Item;
use crate::sync::{AtomicU64, Ordering};

const STATE: u64 = 0xff;
const LIVE_SHIFT: u32 = 32;
const LOG: u64 = 1;
/// What tells an owner from a version.
const OWNER: u64 = 1 << 63;
const CLASS_SHIFT: u32 = 1;
const CLASS: u64 = 0x7f;
const SEQUENCE_SHIFT: u32 = 8;

/// A time that never comes.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// What a segment is used for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// In the pool, or never used.
    Free = 0,
    /// One session appends to it.
    Open = 1,
    /// Complete; all its items may be read, none will be added.
    Sealed = 2,
    /// One party walks it: evicts, cleans or expires its items.
    Claimed = 3,
    /// No index word names it; readers that were pinned before may still look.
    Retired = 4,
    /// Its memory was given to the index or the ghosts for good.
    Withdrawn = 5,
    /// It holds pieces of large values.
    Extent = 6,
}

impl State {
    fn of(word: u64) -> Self {
        Self::found(word).expect("a segment has a state")
    }

    /// The state that a word says, which nobody vouches for.
    fn found(word: u64) -> Option<Self> {
        match word & STATE {
            0 => Some(Self::Free),
            1 => Some(Self::Open),
            2 => Some(Self::Sealed),
            3 => Some(Self::Claimed),
            4 => Some(Self::Retired),
            5 => Some(Self::Withdrawn),
            6 => Some(Self::Extent),
            _ => None,
        }
    }
}

/// Who appends to an open segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever holds the caretaker.
    #[default]
    Caretaker,
    /// The session of this number, from 0 on.
    Session(u32),
}

impl Owner {
    fn word(self) -> u64 {
        match self {
            Self::Caretaker => OWNER,
            Self::Session(number) => OWNER | (u64::from(number) + 1),
        }
    }

    /// The owner that a word says, which nobody vouches for.
    fn found(word: u64) -> Option<Self> {
        let number = (word & OWNER != 0).then_some(word & !OWNER)?;
        match number.checked_sub(1) {
            None => Some(Self::Caretaker),
            Some(number) => u32::try_from(number).ok().map(Self::Session),
        }
    }
}

/// What a line says after a crash, which nobody vouches for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remains {
    /// `None`: it says nothing that is one.
    pub(crate) state: Option<State>,
    pub(crate) live_bytes: u64,
    pub(crate) committed: u64,
    pub(crate) label: Label,
    pub(crate) sequence: u64,
    /// Of an open one, as far as can be told.
    pub(crate) owner: Option<Owner>,
    pub(crate) opened_ms: u64,
}

impl Remains {
    /// Whether it is one for items.
    pub(crate) fn holds_items(&self) -> bool {
        let held = [State::Open, State::Sealed, State::Claimed];
        self.state.is_some_and(|state| held.contains(&state))
    }
}

/// What was proved of a segment after a crash, for its line to say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proven {
    Free,
    Withdrawn,
    /// Its parts that values use, a bit each.
    Extent(u64),
    Items(ProvenItems),
}

/// What was proved of a segment that holds items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProvenItems {
    pub(crate) committed: u64,
    pub(crate) live_bytes: u64,
    pub(crate) label: Label,
    pub(crate) lifetime: Lifetime,
    pub(crate) newest_version: u64,
    /// When it was opened, compared with others.
    pub(crate) sequence: u64,
}

impl ProvenItems {
    /// Counts an item that was proved.
    #[inline]
    pub(crate) fn add(&mut self, item: &Item<'_>, bytes: u64) {
        self.count(item.own_version(), item.stored_expiry_ms(), bytes);
    }

    /// Counts one of this version, expiry and length.
    #[inline]
    pub(crate) fn count(&mut self, version: u64, expires_at_ms: Option<u64>, bytes: u64) {
        self.live_bytes += bytes;
        self.lifetime = self.lifetime.with(expires_at_ms);
        self.newest_version = self.newest_version.max(version);
    }
}

/// Which of the two logs a segment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// Where new keys begin.
    Small = 0,
    /// Where keys go that were read again.
    Main = 1,
}

/// What kind of items a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) log: Log,
    /// The class of the time that its items have to live.
    pub(crate) class: usize,
}

impl Label {
    fn of(word: u64) -> Self {
        Self {
            log: match word & LOG {
                0 => Log::Small,
                _ => Log::Main,
            },
            class: (word >> CLASS_SHIFT & CLASS) as usize,
        }
    }

    /// The word that says it, with the sequence of the segment's opening.
    fn word(self, sequence: u64) -> u64 {
        let class = (self.class as u64) << CLASS_SHIFT;
        sequence << SEQUENCE_SHIFT | class | self.log as u64
    }
}

/// What became of a segment when its last live byte may have gone.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// Something is live, or its owner or claimant will see to it.
    No,
    /// It is `Retired` now, by this call: the caller must have it reclaimed.
    Retired,
}

/// When the items of a segment expire, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// The first of them, as far as is known.
    pub(crate) first_ms: u64,
    /// The last of them.
    pub(crate) last_ms: u64,
}

impl Lifetime {
    /// Of no items.
    pub(crate) const NONE: Self = Self {
        first_ms: NEVER_MS,
        last_ms: 0,
    };

    /// With one more item.
    #[must_use]
    #[inline]
    pub(crate) fn with(self, expires_at_ms: Option<u64>) -> Self {
        let at_ms = expires_at_ms.unwrap_or(NEVER_MS);
        Self {
            first_ms: self.first_ms.min(at_ms),
            last_ms: self.last_ms.max(at_ms),
        }
    }
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

    /// The same of a line that nobody vouches for.
    pub(crate) fn state_found(self) -> (Option<State>, u64) {
        let word = self.arena.word(self.line).load(Ordering::Acquire);
        (State::found(word), word >> LIVE_SHIFT)
    }

    /// The bytes that hold items, from the start of the segment.
    pub(crate) fn committed(self) -> u64 {
        self.arena.word(self.line + 8).load(Ordering::Acquire)
    }

    /// What kind of items it is for, since it was opened.
    pub(crate) fn label(self) -> Label {
        // ORDERING: Relaxed; written before anything in the segment could be found.
        Label::of(self.arena.word(self.line + 16).load(Ordering::Relaxed))
    }

    /// When it was opened, compared with others.
    pub(crate) fn sequence(self) -> u64 {
        // ORDERING: Relaxed, as in `label`.
        self.arena.word(self.line + 16).load(Ordering::Relaxed) >> SEQUENCE_SHIFT
    }

    /// What the line says after a crash.
    pub(crate) fn remains(self) -> Remains {
        // ORDERING: Relaxed, here and in `restore`; nobody shares the arena yet.
        let words = self.arena.words::<8>(self.line);
        let word = |at: usize| words[at].load(Ordering::Relaxed);
        Remains {
            state: State::found(word(0)),
            live_bytes: word(0) >> LIVE_SHIFT,
            committed: word(1),
            label: Label::of(word(2)),
            sequence: word(2) >> SEQUENCE_SHIFT,
            owner: Owner::found(word(5)),
            opened_ms: word(6),
        }
    }

    /// Has the line say what was proved, and nothing else: of items, that they are sealed.
    pub(crate) fn restore(self, proven: &Proven) {
        let words = self.arena.words::<8>(self.line);
        let store = |at: usize, value| words[at].store(value, Ordering::Relaxed);
        match proven {
            Proven::Free => store(0, State::Free as u64),
            Proven::Withdrawn => store(0, State::Withdrawn as u64),
            Proven::Extent(used) => {
                store(1, *used);
                store(0, State::Extent as u64);
            }
            Proven::Items(items) => {
                store(1, items.committed);
                store(2, items.label.word(items.sequence));
                store(3, items.lifetime.last_ms);
                store(4, items.lifetime.first_ms);
                store(5, items.newest_version);
                store(7, 0);
                store(0, items.live_bytes << LIVE_SHIFT | State::Sealed as u64);
            }
        }
    }

    /// When its items expire. Of an open segment: as its owner has said so far.
    pub(crate) fn lifetime(self) -> Lifetime {
        // ORDERING: Relaxed, here and in the next two; figures that decide when to look, not what
        // is found. Once the segment is sealed, the lists' lock orders them.
        let words = self.arena.words::<2>(self.line + 24);
        Lifetime {
            last_ms: words[0].load(Ordering::Relaxed),
            first_ms: words[1].load(Ordering::Relaxed),
        }
    }

    /// Says when its items expire. Its owner or claimant calls this.
    pub(crate) fn set_lifetime(self, lifetime: Lifetime) {
        let words = self.arena.words::<2>(self.line + 24);
        words[0].store(lifetime.last_ms, Ordering::Relaxed);
        words[1].store(lifetime.first_ms, Ordering::Relaxed);
    }

    /// The largest version that its items were created with, once it is sealed.
    pub(crate) fn newest_version(self) -> u64 {
        self.arena.word(self.line + 40).load(Ordering::Relaxed)
    }

    /// When it was opened, in milliseconds.
    pub(crate) fn opened_ms(self) -> u64 {
        self.arena.word(self.line + 48).load(Ordering::Relaxed)
    }

    /// Bytes from its start in which an eviction has left nothing alive.
    pub(crate) fn walked(self) -> u64 {
        // ORDERING: Relaxed, here and in `set_walked`; the claim orders who writes it.
        self.arena.word(self.line + 56).load(Ordering::Relaxed)
    }

    /// Says so. The claimant calls this.
    pub(crate) fn set_walked(self, bytes: u64) {
        self.arena
            .word(self.line + 56)
            .store(bytes, Ordering::Relaxed);
    }

    /// Free → Open. The caller took the segment from the pool.
    pub(crate) fn open(self, sequence: u64, label: Label, owner: Owner, now_ms: u64) {
        // ORDERING: Relaxed; the pool's lock gave the segment to this thread alone, and others
        // learn of it through index words or the pool.
        let words = self.arena.words::<8>(self.line);
        words[1].store(0, Ordering::Relaxed);
        words[2].store(label.word(sequence), Ordering::Relaxed);
        words[3].store(Lifetime::NONE.last_ms, Ordering::Relaxed);
        words[4].store(Lifetime::NONE.first_ms, Ordering::Relaxed);
        words[5].store(owner.word(), Ordering::Relaxed);
        words[6].store(now_ms, Ordering::Relaxed);
        words[7].store(0, Ordering::Relaxed);
        words[0].store(State::Open as u64, Ordering::Relaxed);
    }

    /// Says that items fill the segment up to `bytes`. Only its owner calls this, before it
    /// publishes the index word.
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
        self.retire_if_empty()
    }

    /// Open → Sealed, or Retired if nothing in it is live.
    pub(crate) fn seal(self, newest_version: u64) -> Emptied {
        // ORDERING: Relaxed; the lists' lock, which the caller holds, orders it.
        let newest = self.arena.word(self.line + 40);
        newest.store(newest_version, Ordering::Relaxed);
        let word = self.arena.word(self.line);
        // ORDERING: AcqRel, as in `remove_live`: either this sees the last removal, or the last
        // removal sees `Sealed`.
        let before = word.fetch_add(State::Sealed as u64 - State::Open as u64, Ordering::AcqRel);
        debug_assert_eq!(State::of(before), State::Open);
        if before >> LIVE_SHIFT > 0 {
            return Emptied::No;
        }
        self.retire_if_empty()
    }

    /// Sealed → Claimed; false if the segment is not sealed any more.
    #[must_use]
    pub(crate) fn claim(self) -> bool {
        let word = self.arena.word(self.line);
        let mut seen = word.load(Ordering::Relaxed);
        while State::of(seen) == State::Sealed {
            let next = seen - State::Sealed as u64 + State::Claimed as u64;
            // ORDERING: AcqRel: competes with `retire_if_empty`; exactly one of them has it.
            match word.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Claimed → Sealed, or Retired if nothing in it is live any more.
    pub(crate) fn unclaim(self) -> Emptied {
        let word = self.arena.word(self.line);
        let step = State::Claimed as u64 - State::Sealed as u64;
        // ORDERING: AcqRel, as in `seal`.
        let before = word.fetch_sub(step, Ordering::AcqRel);
        debug_assert_eq!(State::of(before), State::Claimed);
        if before >> LIVE_SHIFT > 0 {
            return Emptied::No;
        }
        self.retire_if_empty()
    }

    /// Claimed → Retired: no index word names the segment any more.
    ///
    /// Live bytes may still be above 0: a session that removed a word itself counts it down before
    /// it unpins, hence before the segment is reclaimed.
    pub(crate) fn finish(self) {
        let word = self.arena.word(self.line);
        let step = State::Retired as u64 - State::Claimed as u64;
        let before = word.fetch_add(step, Ordering::AcqRel);
        debug_assert_eq!(State::of(before), State::Claimed);
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

    /// Free → Extent. The caller took the segment from the pool.
    pub(crate) fn become_extent(self) {
        // ORDERING: Relaxed, as in `open`.
        let words = self.arena.words::<2>(self.line);
        words[1].store(0, Ordering::Relaxed);
        words[0].store(State::Extent as u64, Ordering::Relaxed);
    }

    /// Extent → Free. The caller knows that nobody can see it.
    pub(crate) fn free_extent(self) {
        let word = self.arena.word(self.line);
        // ORDERING: Relaxed; the pool's lock, taken next, orders it.
        word.store(State::Free as u64, Ordering::Relaxed);
    }

    /// The word that counts the references to the large value that begins in this segment.
    pub(crate) fn references(self) -> &'a AtomicU64 {
        self.arena.word(self.line + 48)
    }

    /// The parts that large values use, a bit each.
    pub(crate) fn used_parts(self) -> u64 {
        // ORDERING: Relaxed, here and in the next three; the lists' lock orders them.
        self.arena.word(self.line + 8).load(Ordering::Relaxed)
    }

    /// Says which are. Of an extent.
    pub(crate) fn set_used_parts(self, used: u64) {
        self.arena
            .word(self.line + 8)
            .store(used, Ordering::Relaxed);
    }

    /// Where it is in the list of segments that values share.
    pub(crate) fn place(self) -> u64 {
        self.arena.word(self.line + 16).load(Ordering::Relaxed)
    }

    /// Says where.
    pub(crate) fn set_place(self, place: u64) {
        self.arena
            .word(self.line + 16)
            .store(place, Ordering::Relaxed);
    }

    fn retire_if_empty(self) -> Emptied {
        let word = self.arena.word(self.line);
        // ORDERING: AcqRel: competes with `claim`; exactly one of them has it.
        let retired = word.compare_exchange(
            State::Sealed as u64,
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
