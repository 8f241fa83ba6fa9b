//! Plain reads: what most reads come to has a way of its own, on which nothing is asked that only others
//! need to know.
//!
//! An item is plain if its value lies in one piece, beside nothing but an expiry and flags; and a read
//! is, if the key was looked for ahead, and its item proved or written by this process. Whatever else
//! there is, [`Guard::get`] finds out. What the reads of a batch have in common is at hand here.

use crate::arena::Arena;
use crate::engine::cache::Key;
use crate::engine::guard::Guard;
use crate::engine::index::ahead::{self, SeenAt};
use crate::engine::item::Item;
use crate::sync::{AtomicU64, Ordering};

/// Reads plain items, one after the other, under one guard.
#[derive(Clone, Copy)]
pub(crate) struct PlainReads<'g> {
    arena: &'g Arena,
    /// Items whose version is not above this were flushed.
    flushed_version: &'g AtomicU64,
    /// The identity of the cache; [`NO_CACHE`]: no read is plain.
    cache: u64,
    now_ms: u64,
}

/// The identity that no cache has.
const NO_CACHE: u64 = 0;

impl Guard<'_> {
    /// For plain reads. They count nothing: that is for [`Guard::count_hits`], once for many.
    #[inline(always)]
    pub(crate) fn plain_reads(&self) -> PlainReads<'_> {
        PlainReads {
            arena: &self.shared.arena,
            flushed_version: self.shared.flushed_word(),
            cache: match self.has_unproven() {
                true => NO_CACHE,
                false => self.shared.identity(),
            },
            now_ms: self.now_ms,
        }
    }
}

impl<'g> PlainReads<'g> {
    /// The item of a key, where it was seen ahead. `None` says nothing about the key.
    #[inline(always)]
    pub(crate) fn get(&self, key: &Key<'_>, seen_at: SeenAt) -> Option<Item<'g>> {
        if key.cache != self.cache {
            return None;
        }
        let is_wanted = |item: &Item<'g>| {
            let is_expired = (item.stored_expiry_ms()).is_some_and(|at_ms| at_ms <= self.now_ms);
            // ORDERING: Relaxed, as in `Shared::flushed_version`.
            !is_expired && item.own_version() > self.flushed_version.load(Ordering::Relaxed)
        };
        // SAFETY: pinned for as long as the guard is.
        unsafe { ahead::read_seen(self.arena, seen_at, key.hash, key.bytes, is_wanted) }
    }
}
