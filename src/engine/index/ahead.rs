//! Looking ahead: where the keys of a batch lie, and their items asked for, before any of them is read.
//!
//! What was seen is a hint: a read begins at the slot that was seen, with what that has by then.

use crate::arena::Arena;
use crate::engine::config::BUCKET_BYTES;
use crate::engine::index::word::{Control, Entry, KeyHash, LINE_BYTES};
use crate::engine::index::{Found, Index, OVERFLOW_WORDS, Slots, WORDS, note_read};
use crate::engine::item::Item;
use crate::shape;
use crate::sync::{AtomicU64, Ordering};

/// How far an item is asked for ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as its key, which is enough for a write.
    Key,
    /// As far as its value, for a read.
    Value,
}

impl Reach {
    /// LIMIT: lines behind an item's first. Of longer items the processor sees for itself where they go on.
    #[inline]
    fn further_lines_max(self) -> u64 {
        match self {
            Self::Key => 1,
            Self::Value => Entry::FURTHER_LINES_MAX,
        }
    }
}

/// What was seen, and asked for, ahead of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// An entry with the tag, and its item asked for; or nothing.
    Seen(SeenAt),
    /// No such entry, but an overflow bucket of this number, which may have it.
    Overflow(u32),
}

/// The offset of a slot that had an entry with a key's tag when it was seen, or one that no slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenAt(u64);

impl SeenAt {
    /// There was none.
    pub(crate) const NOWHERE: Self = Self(0);
    /// Nobody has looked yet.
    pub(crate) const UNKNOWN: Self = Self(1);

    #[inline(always)]
    fn slot(self) -> Option<u64> {
        (self.0 > Self::UNKNOWN.0).then_some(self.0)
    }
}

impl Index {
    /// Asks for the cache line of the bucket at `at`.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, at: u64) {
        debug_assert!(
            at >= self.bucket_at(0) && (at - self.bucket_at(0)).is_multiple_of(BUCKET_BYTES),
            "no bucket lies at {at}"
        );
        self.arena.prefetch(at);
    }

    /// Asks for the first overflow bucket of the bucket at `at`, if it has one: for who looks for an item that is dead,
    /// and so through the whole chain.
    #[inline]
    pub(crate) fn prefetch_overflow(&self, at: u64) {
        let control_at = at + (WORDS as u64 - 1) * 8;
        (self.arena).prefetch_through(control_at, |control| {
            let id = Control(control).overflow()?;
            Some(self.overflow_at(id))
        });
    }

    /// Looks for the tag in the bucket at `at`, and asks for the items that it names,
    /// or else for the overflow bucket.
    #[inline(always)]
    pub(crate) fn prefetch_item(&self, at: u64, hash: KeyHash, reach: Reach) -> Ahead {
        let ahead = self.prefetch_named::<WORDS>(at, hash, reach);
        if let Ahead::Overflow(id) = ahead {
            self.arena.prefetch(self.overflow_at(id));
        }
        ahead
    }

    /// Where the tag is in the chain of the bucket at `at`, looked for there and then by a read.
    #[inline(always)]
    pub(crate) fn look_for(&self, at: u64, hash: KeyHash) -> SeenAt {
        match self.prefetch_named::<WORDS>(at, hash, Reach::Value) {
            Ahead::Seen(seen_at) => seen_at,
            Ahead::Overflow(id) => self.prefetch_overflowed(hash, id, Reach::Value),
        }
    }

    /// [`Index::prefetch_item`] for an overflow bucket that was asked for before. Few keys are further down the chain:
    /// those that it leads to are waited for.
    #[inline]
    pub(crate) fn prefetch_overflowed(&self, hash: KeyHash, mut id: u32, reach: Reach) -> SeenAt {
        for _ in 0..shape::OVERFLOW_BUCKETS_MAX {
            match self.prefetch_named::<OVERFLOW_WORDS>(self.overflow_at(id), hash, reach) {
                Ahead::Seen(seen_at) => return seen_at,
                Ahead::Overflow(next) => id = next,
            }
        }
        SeenAt::NOWHERE
    }

    /// The same for a bucket of `N` words.
    #[inline(always)]
    fn prefetch_named<const N: usize>(&self, at: u64, hash: KeyHash, reach: Reach) -> Ahead {
        let (words, tagged) = self.arena.tagged::<N>(at, hash.0);
        let mut tagged = Slots(tagged);
        let Some(first) = tagged.pop() else {
            // ORDERING: Acquire, with the Release of `link`: a read begins in the bucket that it leads to.
            let control = Control(words[N - 1].load(Ordering::Acquire));
            return match control.overflow() {
                Some(id) => Ahead::Overflow(id),
                None => Ahead::Seen(SeenAt::NOWHERE),
            };
        };
        // ORDERING: Relaxed, both; hints.
        self.prefetch_lines(Entry(words[first].load(Ordering::Relaxed)), reach);
        while let Some(slot) = tagged.pop() {
            self.prefetch_lines(Entry(words[slot].load(Ordering::Relaxed)), reach);
        }
        Ahead::Seen(SeenAt(at + first as u64 * 8))
    }

    /// Asks for the item that an entry names.
    #[inline(always)]
    pub(super) fn prefetch_lines(&self, entry: Entry, reach: Reach) {
        let offset = entry.offset();
        let further = entry.further_lines().min(reach.further_lines_max());
        self.arena.prefetch(offset);
        self.arena.prefetch(offset + LINE_BYTES);
        // Many have two lines or three, and which of both, nobody could tell beforehand.
        self.arena.prefetch(offset + LINE_BYTES * further.min(2));
        for line in 3..=further {
            self.arena.prefetch(offset + LINE_BYTES * line);
        }
    }
}

impl Index {
    /// The entry and the item of the key, if they are what most reads come to: a
    /// [plain](Item::read_plain) item in the slot that was seen ahead. What that has now counts, so it
    /// does not matter what happened since. `None` says nothing about the key.
    ///
    /// # Safety
    ///
    /// The caller is pinned, since before this call, for as long as the result lives.
    #[inline(always)]
    pub(crate) unsafe fn find_seen(
        &self,
        seen_at: SeenAt,
        hash: KeyHash,
        key: &[u8],
    ) -> Option<(Found, Item<'_>)> {
        // SAFETY: the caller's promise is the same.
        let (_, entry, item) = unsafe { look_at(&self.arena, seen_at, hash, key) }?;
        let slot = seen_at.0;
        Some((Found { slot, entry }, item))
    }
}

/// Reads the key's item, and notes that it was read, if it is one that [`Index::find_seen`] finds and is
/// still `wanted`.
///
/// # Safety
///
/// As for [`Index::find_seen`].
#[inline(always)]
pub(crate) unsafe fn read_seen<'g>(
    arena: &'g Arena,
    seen_at: SeenAt,
    hash: KeyHash,
    key: &[u8],
    wanted: impl FnOnce(&Item<'g>) -> bool,
) -> Option<Item<'g>> {
    // SAFETY: the caller's promise is the same.
    let (slot, entry, item) = unsafe { look_at(arena, seen_at, hash, key) }?;
    if !wanted(&item) {
        return None;
    }
    note_read(slot, entry);
    Some(item)
}

/// [`Index::find_seen`] that gives the slot's word.
///
/// # Safety
///
/// As for [`Index::find_seen`].
#[inline(always)]
unsafe fn look_at<'g>(
    arena: &'g Arena,
    seen_at: SeenAt,
    hash: KeyHash,
    key: &[u8],
) -> Option<(&'g AtomicU64, Entry, Item<'g>)> {
    let slot = arena.word(seen_at.slot()?);
    // ORDERING: Acquire, as in `find_in`.
    let entry = Entry(slot.load(Ordering::Acquire));
    if entry.tag() != hash.tag() || entry.is_empty() {
        return None;
    }
    // SAFETY: the entry was loaded with Acquire under the caller's pin.
    let item = unsafe { Item::read_plain(arena, entry.offset()) }?;
    is_same(item.key(), key).then_some((slot, entry, item))
}

/// Whether two keys are the same. Most are of 16 to 32 bytes: comparing their two ends, which may
/// overlap, is cheaper than a call.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match one.len() {
            16..=32 => {
                (differences(one.first_chunk(), other.first_chunk())
                    | differences(one.last_chunk(), other.last_chunk()))
                    == 0
            }
            _ => one == other,
        }
}

/// The bits that differ.
#[inline(always)]
fn differences(one: Option<&[u8; 16]>, other: Option<&[u8; 16]>) -> u128 {
    match (one, other) {
        (Some(one), Some(other)) => u128::from_le_bytes(*one) ^ u128::from_le_bytes(*other),
        // INVARIANT: never; they are of 16 bytes at least.
        _ => u128::MAX,
    }
}
