//! The index: from a key's hash to the item's place, read without locks.
//!
//! A bucket is one cache line: seven entries and a control word. An entry names an item by tag and
//! offset. When a bucket is full it chains overflow buckets of half a line, a few at most; when the
//! chain is full, its coldest entry makes room, so an insert never fails ([`overflow`]). The table grows
//! by linear hashing, one bucket at a time ([`growth`]).
//!
//! **Readers** take no lock. A reader loads the bucket count, walks the chain of its bucket, and
//! compares keys where tags match. A living key never changes its slot: it is overwritten in place,
//! and only a split moves it, to the new bucket that the raised count announces. So a reader that
//! finds nothing, and sees that the count still leads to the same bucket, knows of an instant at
//! which the key was absent: if it was missed in a slot that had been passed while empty, it was
//! absent then. The one thing that a reader writes is the frequency of what it found: one
//! compare-exchange, not retried, and none once the count is full, so the line of a hot key stays
//! shared. A batch looks ahead: it finds the slots with the tags of its keys and asks for their items;
//! each read then begins at the slot that was seen, with what that has by then.
//!
//! **Writers** lock the bucket: a bit in its control word, held for some tens of instructions, with
//! no allocation, no eviction and no other lock inside. The count is read again under the lock: a
//! split publishes the count before it unlocks the parent, so a writer that has the lock knows
//! whether the bucket is still the right one.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | entry | `LockedBucket::put`, Release | `Index::find`, Acquire | the item's bytes come before the entry | `a_reader_sees_a_whole_item_or_none` |
//! | entry | `LockedBucket::put`, Release | `read_seen`, Acquire | the same, of a slot that was seen ahead | `a_key_that_was_seen_ahead_is_overwritten` |
//! | entry | `LockedBucket::put`, Release | `walk`, Acquire | the same, of what a scan comes to | `a_scan_returns_a_key_that_moves` |
//! | entry | `move_exact`, Release | `find`, Acquire | the copy's bytes come before the entry that names it | `a_reader_keeps_an_item_that_moves_to_main` |
//! | entry | `clear`, Release | `find`, Acquire | a reader that sees a moved entry gone sees the raised count | `a_reader_finds_its_key_through_a_split` |
//! | entry | frequency bump, Relaxed | - | a read-modify-write continues the writer's release sequence | `a_reader_sees_a_whole_item_or_none` |
//! | entry | marks, by `LockedBucket::put`, Release | `find`, Acquire | who sees the mark sees the item that it is about; a bump that was under way fails | `of_two_callers_that_miss_one_wins` |
//! | control | `lock`, Acquire / `unlock`, Release | writers | what one holder wrote, the next one sees | `two_writers_of_one_key_leave_one_entry` |
//! | control | `link`, Release | `find`, Acquire | an overflow bucket's entries come before the link to it | `a_reader_follows_a_new_overflow_bucket` |
//! | control | `link`, Release | `prefetch_named`, Acquire | the same, of an entry that is seen ahead there | `a_reader_looks_ahead_into_a_new_overflow_bucket` |
//! | control | `link`, Release | `walk`, Acquire | the same, for scans | `a_scan_follows_a_new_overflow_bucket` |
//! | control | `trim`, Release | `find`, Acquire | a reader that does not follow the link any more sees the raised count | `a_reader_finds_its_key_while_it_leaves_an_overflow_bucket` |
//! | entry | `clear`, Release | `Arena::tagged`, Acquire | the same of a slot without the tag | `a_reader_finds_its_key_through_a_split` |
//! | control | the holder, with the lock bit | whoever waits | nothing: it is for who looks on | - |
//! | count | `growth`, Release | `find` and `lock`, Acquire | the new bucket is filled before it can be found | `a_reader_finds_its_key_through_a_split` |
//! | count | `growth`, Release | `find_exact`, Acquire | a walk that sees a moved entry gone looks for it in the new bucket | `a_key_is_evicted_while_it_moves_to_another_bucket` |

pub(crate) mod ahead;
pub(crate) mod bucket;
pub(crate) mod growth;
mod overflow;
pub(crate) mod recovered;
pub(crate) mod visit;
pub(crate) mod word;

use std::num::NonZeroU32;
use std::ops::{ControlFlow, Range};

use crate::arena::Arena;
use crate::engine::config::{BUCKET_BYTES, Geometry, OVERFLOW_BYTES};
use crate::engine::header;
use crate::engine::index::ahead::Reach;
use crate::engine::index::bucket::LockedBucket;
use crate::engine::index::growth::Growth;
use crate::engine::index::overflow::Spares;
use crate::engine::index::word::{Control, Entry, Extent, KeyHash, Wait};
use crate::engine::item::Item;
use crate::engine::stats::{Counters, Figure};
use crate::reclaim::Pin;
use crate::shape;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, relax};

/// Words of a bucket, and the place of its control word.
const WORDS: usize = CONTROL + 1;
const CONTROL: usize = shape::SLOTS as usize;
/// Those of an overflow bucket.
const OVERFLOW_WORDS: usize = OVERFLOW_CONTROL + 1;
const OVERFLOW_CONTROL: usize = shape::OVERFLOW_SLOTS as usize;

/// The hash table over the arena's bucket ranges.
#[derive(Debug)]
pub(crate) struct Index {
    arena: Arc<Arena>,
    geometry: Geometry,
    /// Held by the one session that splits a bucket or extends a range.
    growth: Mutex<Growth>,
    spares: Arc<Mutex<Spares>>,
}

/// An entry and the slot it was found in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Offset of the slot's word.
    slot: u64,
    pub(crate) entry: Entry,
}

/// Slots of a bucket, a bit each.
#[derive(Debug, Clone, Copy)]
struct Slots(u32);

impl Slots {
    /// Takes the first.
    #[inline]
    fn pop(&mut self) -> Option<usize> {
        let slots = NonZeroU32::new(self.0)?;
        self.0 &= self.0 - 1;
        Some(slots.trailing_zeros() as usize)
    }
}

/// How the walk through one bucket ended.
enum Walked {
    Found(Found),
    /// With its control word.
    Past(Control),
}

impl Index {
    pub(crate) fn new(arena: Arc<Arena>, geometry: Geometry) -> Self {
        let growth = Growth::new(&geometry);
        // ORDERING: Relaxed; nobody shares the index yet.
        let count = arena.word(header::BUCKETS);
        count.store(growth.buckets_first(), Ordering::Relaxed);
        Self {
            arena,
            geometry,
            growth: Mutex::new(growth),
            spares: Arc::default(),
        }
    }

    /// How many buckets there are, overflow buckets aside.
    #[inline]
    pub(crate) fn buckets(&self) -> u64 {
        // ORDERING: Acquire, with the Release in `growth`: a bucket below the count is filled.
        self.arena.word(header::BUCKETS).load(Ordering::Acquire)
    }

    /// The ranges of buckets and overflow buckets that are paid for; `None` while a session extends them.
    pub(crate) fn paid(&self) -> Option<[Range<u64>; 2]> {
        let (buckets, overflow) = self.growth.try_lock()?.capacities();
        let (buckets_at, overflow_at) = (self.geometry.buckets_at, self.geometry.overflow_at);
        Some([
            buckets_at..buckets_at + buckets * BUCKET_BYTES,
            overflow_at..overflow_at + overflow * OVERFLOW_BYTES,
        ])
    }

    #[inline]
    fn bucket_at(&self, bucket: u64) -> u64 {
        self.geometry.buckets_at + bucket * BUCKET_BYTES
    }

    #[inline]
    fn overflow_at(&self, id: u32) -> u64 {
        self.geometry.overflow_at + u64::from(id) * OVERFLOW_BYTES
    }

    /// How many buckets there are.
    #[inline]
    pub(crate) fn extent(&self) -> Extent {
        Extent::of(self.buckets())
    }

    /// Where the bucket lies that the hash belongs to when the index has this extent.
    #[inline]
    pub(crate) fn home_at(&self, hash: KeyHash, extent: Extent) -> u64 {
        self.bucket_at(extent.bucket_of(hash))
    }

    /// Finds the entry whose item has this key.
    ///
    /// # Safety
    ///
    /// The caller is pinned, since before this call.
    #[inline]
    pub(crate) unsafe fn find(&self, hash: KeyHash, key: &[u8]) -> Option<Found> {
        let at = self.home_at(hash, self.extent());
        // SAFETY: the caller's promise is the same.
        unsafe { self.find_item(at, hash, key) }.map(|(found, _)| found)
    }

    /// [`Index::find`] that also gives the item. It looks first in the bucket at `at`, which the hash
    /// belonged to at some time: a bucket from before a split has what did not move, and what did is
    /// looked for where it went.
    ///
    /// # Safety
    ///
    /// The caller is pinned, since before this call, for as long as the result lives.
    #[cold]
    pub(crate) unsafe fn find_item(
        &self,
        mut at: u64,
        hash: KeyHash,
        key: &[u8],
    ) -> Option<(Found, Item<'_>)> {
        loop {
            // SAFETY: the caller's promise is the same.
            let found = unsafe { self.find_in_chain(at, hash, key) };
            if found.is_some() {
                return found;
            }
            // A split may have moved the key before this looked, or while it did.
            let now_at = self.home_at(hash, self.extent());
            if now_at == at {
                return None;
            }
            at = now_at;
        }
    }

    /// The entry and the item of this key in a chain.
    ///
    /// # Safety
    ///
    /// As for [`Index::find_item`].
    unsafe fn find_in_chain(
        &self,
        first: u64,
        hash: KeyHash,
        key: &[u8],
    ) -> Option<(Found, Item<'_>)> {
        self.seek(first, hash, |found| {
            self.prefetch_lines(found.entry, Reach::Key);
            // SAFETY: the entry was loaded with Acquire under the caller's pin.
            let item = unsafe { Item::read(&self.arena, found.entry.offset()) };
            (item.key() == key).then_some((found, item))
        })
    }

    /// What `look` gives for the first entry of a chain, of those with the hash's tag, for which it gives
    /// something.
    #[inline(always)]
    fn seek<T>(
        &self,
        first: u64,
        hash: KeyHash,
        mut look: impl FnMut(Found) -> Option<T>,
    ) -> Option<T> {
        let mut next = match self.seek_in::<WORDS, T>(first, hash, &mut look) {
            Ok(seen) => return Some(seen),
            Err(control) => control.overflow(),
        };
        while let Some(id) = next {
            let at = self.overflow_at(id);
            next = match self.seek_in::<OVERFLOW_WORDS, T>(at, hash, &mut look) {
                Ok(seen) => return Some(seen),
                Err(control) => control.overflow(),
            };
        }
        None
    }

    /// The same for one bucket of `N` words; its control word, if there is no such entry.
    #[inline(always)]
    fn seek_in<const N: usize, T>(
        &self,
        at: u64,
        hash: KeyHash,
        look: &mut impl FnMut(Found) -> Option<T>,
    ) -> Result<T, Control> {
        let (words, tagged) = self.arena.tagged::<N>(at, hash.0);
        let mut tagged = Slots(tagged);
        while let Some(slot) = tagged.pop() {
            // ORDERING: Acquire, with the Release of `put` and `clear`. It may be another one by now.
            let entry = Entry(words[slot].load(Ordering::Acquire));
            if entry.tag() != hash.tag() || entry.is_empty() {
                continue;
            }
            let slot = at + slot as u64 * 8;
            if let Some(seen) = look(Found { slot, entry }) {
                return Ok(seen);
            }
        }
        // ORDERING: Acquire, with the Release of `link`.
        Err(Control(words[N - 1].load(Ordering::Acquire)))
    }

    /// The entry in a chain that names the item at `offset`, whose key has this hash.
    fn find_named(&self, first: u64, hash: KeyHash, offset: u64) -> Option<Found> {
        self.seek(first, hash, |found| {
            (found.entry.offset() == offset).then_some(found)
        })
    }

    /// Whether the item that an entry names has this key.
    ///
    /// # Safety
    ///
    /// As for [`Item::read`].
    #[inline]
    unsafe fn has_key(&self, entry: Entry, key: &[u8]) -> bool {
        // SAFETY: the caller's promise is the same.
        unsafe { Item::read_key(&self.arena, entry.offset()) == key }
    }

    /// The first entry of a chain that `wanted` accepts, given the number of its slot in the chain; empty slots are not
    /// asked about.
    ///
    /// A key keeps its slot, and a chain its order, so the number stays valid between walks.
    #[inline]
    fn walk(&self, first: u64, mut wanted: impl FnMut(u64, &Found) -> bool) -> Option<Found> {
        let mut next = match self.walk_one::<WORDS>(first, 0, &mut wanted) {
            Walked::Found(found) => return Some(found),
            Walked::Past(control) => control.overflow(),
        };
        let mut number = shape::SLOTS;
        while let Some(id) = next {
            let at = self.overflow_at(id);
            next = match self.walk_one::<OVERFLOW_WORDS>(at, number, &mut wanted) {
                Walked::Found(found) => return Some(found),
                Walked::Past(control) => control.overflow(),
            };
            number += shape::OVERFLOW_SLOTS;
        }
        None
    }

    /// The same for one bucket of `N` words, whose first slot has this number.
    #[inline]
    fn walk_one<const N: usize>(
        &self,
        at: u64,
        number: u64,
        wanted: &mut impl FnMut(u64, &Found) -> bool,
    ) -> Walked {
        let words = self.arena.words::<N>(at);
        for (slot, word) in (0..N - 1).map(|slot| (slot as u64, &words[slot])) {
            // ORDERING: Acquire, with the Release of `put` and `clear`.
            let entry = Entry(word.load(Ordering::Acquire));
            let found = Found {
                slot: at + slot * 8,
                entry,
            };
            if !entry.is_empty() && wanted(number + slot, &found) {
                return Walked::Found(found);
            }
        }
        // ORDERING: Acquire, with the Release of `link`.
        Walked::Past(Control(words[N - 1].load(Ordering::Acquire)))
    }

    /// Notes that the item was read.
    #[inline]
    pub(crate) fn bump(&self, found: &Found) {
        note_read(self.arena.word(found.slot), found.entry);
    }

    /// Notes that an item was used, though its value was not read.
    pub(crate) fn bump_unread(&self, found: &Found) {
        note(
            self.arena.word(found.slot),
            found.entry,
            found.entry.used_again(),
        );
    }

    /// Locks the bucket that the hash belongs to, for the session of this number.
    pub(crate) fn lock(&self, hash: KeyHash, session: u32) -> LockedBucket<'_> {
        loop {
            let bucket = hash.bucket(self.buckets());
            let locked = self.lock_at(self.bucket_at(bucket), session);
            if hash.bucket(self.buckets()) == bucket {
                return locked;
            }
        }
    }

    fn lock_at(&self, at: u64, session: u32) -> LockedBucket<'_> {
        let word = self.arena.word(at + CONTROL as u64 * 8);
        let mut attempt = 0;
        loop {
            let control = Control(word.load(Ordering::Relaxed)).unlocked();
            // ORDERING: Acquire, with the Release of `unlock`: what the last holder wrote.
            let locked = word.compare_exchange_weak(
                control.0,
                control.locked_by(session).0,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match locked {
                Ok(_) if attempt == 0 => return LockedBucket::new(self, at),
                Ok(_) => {
                    self.note_wait(session, Wait::NONE);
                    return LockedBucket::new(self, at);
                }
                Err(held) => {
                    let bucket = (at - self.geometry.buckets_at) / BUCKET_BYTES;
                    self.note_wait(session, Wait::new(bucket, Control(held)));
                }
            }
            relax(attempt);
            attempt += 1;
        }
    }

    /// Says what a session waits for, for whoever looks on.
    #[cold]
    fn note_wait(&self, session: u32, wait: Wait) {
        if shape::IS_WATCHED {
            let counters = Counters::of_session(&self.geometry, session);
            counters.set(&self.arena, Figure::WaitsFor, wait.0);
        }
    }

    /// The entry that names the item at `offset`, if there is one. The segment of the item gets no
    /// new entry: once there is none, there is none for good.
    pub(crate) fn find_exact(&self, hash: KeyHash, offset: u64) -> Option<Entry> {
        let mut bucket = hash.bucket(self.buckets());
        loop {
            let found = self.find_named(self.bucket_at(bucket), hash, offset);
            if let Some(found) = found {
                return Some(found.entry);
            }
            let now = hash.bucket(self.buckets());
            if now == bucket {
                return None;
            }
            bucket = now;
        }
    }

    /// Removes the entry that names the item at `offset`, and gives it, if there is one.
    #[must_use]
    pub(crate) fn remove_exact(
        &self,
        hash: KeyHash,
        offset: u64,
        session: u32,
        pin: &Pin<'_>,
    ) -> Option<Entry> {
        let locked = self.lock(hash, session);
        let found = locked.find_exact(hash, offset)?;
        let unlinked = locked.clear(&found);
        drop(locked);
        self.return_unlinked(unlinked, pin);
        Some(found.entry)
    }

    /// Replaces the entry that names the item at `offset`, if there is one, by the one that
    /// `arrive` makes of it under the bucket's lock.
    #[must_use]
    pub(crate) fn move_exact(
        &self,
        hash: KeyHash,
        offset: u64,
        session: u32,
        arrive: impl FnOnce(Entry) -> Entry,
    ) -> bool {
        let locked = self.lock(hash, session);
        let found = locked.find_exact(hash, offset);
        if let Some(found) = &found {
            locked.put(found, arrive(found.entry));
        }
        found.is_some()
    }

    /// Visits the entries of one bucket and its chain.
    pub(crate) fn visit(&self, bucket: u64, mut visit: impl FnMut(&Found)) {
        self.walk(self.bucket_at(bucket), |_, found| {
            visit(found);
            false
        });
    }

    /// Visits the entries of one bucket and its chain from slot number `first` on, until one is not
    /// `wanted`; gives the number of its slot.
    pub(crate) fn visit_from(
        &self,
        bucket: u64,
        first: u64,
        mut wanted: impl FnMut(&Found) -> ControlFlow<()>,
    ) -> Option<u64> {
        let mut refused = None;
        self.walk(self.bucket_at(bucket), |number, found| {
            if number >= first && wanted(found).is_break() {
                refused = Some(number);
            }
            refused.is_some()
        });
        refused
    }
}

/// Notes in its slot that the item of this entry was read.
#[inline(always)]
fn note_read(slot: &AtomicU64, entry: Entry) {
    note(slot, entry, entry.read_again());
}

#[inline(always)]
fn note(slot: &AtomicU64, entry: Entry, next: Option<Entry>) {
    if let Some(next) = next {
        // ORDERING: Relaxed; it changes a count, and continues the release sequence of the store that
        // published the entry. Losing the race loses one count.
        let _ = slot.compare_exchange(entry.0, next.0, Ordering::Relaxed, Ordering::Relaxed);
    }
}
