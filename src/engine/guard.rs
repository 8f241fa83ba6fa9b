//! Guards: proof of a pin, and the reads that it allows.

use arrayvec::ArrayVec;

use crate::engine::cache::{Key, KeyError, Limits, Shared};
use crate::engine::index::Found;
use crate::engine::index::ahead::{Ahead, Reach, SeenAt};
use crate::engine::index::bucket::LockedBucket;
use crate::engine::index::word::{Entry, Extent, KeyHash};
use crate::engine::item::Item;
use crate::engine::stats::Figure;
use crate::engine::writer::Writer;
use crate::reclaim::Pin;
use crate::shape;

/// LIMIT: keys whose lines are fetched together. More gain nothing, and overflow the core's queue
/// of outstanding misses.
const BATCH: usize = 32;

/// Proof of a pin; all operations of a batch run on one guard.
///
/// Reads take `&self` and lend items out; writes take `&mut self`, since one that is short of space
/// may have to let go of everything that was read.
pub struct Guard<'s> {
    pub(crate) shared: &'s Shared,
    pub(crate) pin: Pin<'s>,
    pub(crate) writer: &'s mut Writer,
    pub(crate) now_ms: u64,
    pub(crate) placeholders: Placeholders,
    /// Whether there are contents that recovery has not proved.
    has_unproven: bool,
    /// How many buckets there were when the guard began: where keys are looked for first.
    extent: Extent,
    /// Bytes of items and large values that were written; those of [`Guard::set_plain`], which its caller brings,
    /// aside.
    pub(crate) copied_bytes: u64,
}

/// What operations take a placeholder for that [`Guard::get_or_lease`] has left for an absent key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placeholders {
    /// For nothing: the key is absent.
    #[default]
    Hidden,
    /// For an item with an empty value, as memcached's protocol has it.
    Shown,
}

impl Placeholders {
    /// Whether an item counts as absent, being a placeholder.
    #[inline]
    pub(crate) fn hide(self, item: &Item<'_>) -> bool {
        item.is_placeholder() && self == Self::Hidden
    }
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now_ms = self.now_ms;
        f.debug_struct("Guard").field("now_ms", &now_ms).finish()
    }
}

/// What an item that is named counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Live,
    Expired,
    Flushed,
    /// A placeholder, which is hidden.
    Hidden,
    /// Its CRC does not hold.
    Damaged,
}

impl<'s> Guard<'s> {
    #[inline(always)]
    pub(crate) fn new(
        shared: &'s Shared,
        pin: Pin<'s>,
        writer: &'s mut Writer,
        now_ms: u64,
    ) -> Self {
        writer.note_pin(&pin);
        flush_if_due(shared, now_ms);
        if shape::IS_WATCHED {
            let since_ms = now_ms.max(1);
            writer.tally.set(shared, Figure::PinnedSinceMs, since_ms);
        }
        Self {
            shared,
            pin,
            writer,
            now_ms,
            placeholders: Placeholders::Hidden,
            has_unproven: shared.segments.is_any_unproven(),
            extent: shared.index.extent(),
            copied_bytes: 0,
        }
    }

    /// Says what the operations from here on take placeholders for.
    #[inline]
    pub fn set_placeholders(&mut self, placeholders: Placeholders) {
        self.placeholders = placeholders;
    }

    /// Moves the guard's time on.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        flush_if_due(self.shared, now_ms);
    }

    /// What the cache accepts.
    pub fn limits(&self) -> Limits {
        self.shared.limits()
    }

    /// Checks and hashes a key.
    ///
    /// # Errors
    ///
    /// If it is empty or longer than the limit.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Result<Key<'k>, KeyError> {
        self.shared.key_within(self.extent, bytes)
    }

    /// Asks the processor for the key's bucket: the first stage of a batch.
    #[inline]
    pub fn prefetch_bucket(&self, key: &Key<'_>) {
        self.shared.index.prefetch_bucket(key.home_at);
    }

    /// Looks into the buckets of up to 32 keys, notes in the keys what is seen there, and asks the
    /// processor for their items: the second stage of a batch, to be run some time after the
    /// first. (Where a key's item is named in an overflow bucket, that is asked for first, and looked into
    /// after the other keys.)
    pub fn prefetch_items<'a, 'k: 'a>(&self, keys: impl Iterator<Item = (&'a mut Key<'k>, Reach)>) {
        self.look_ahead(keys.take(BATCH).map(|(key, reach)| {
            if !self.shared.made(key) {
                *key = self.shared.adopt(key);
            }
            (key.home_at, key.hash, &mut key.seen_at, reach)
        }));
    }

    /// The same for up to 32 keys of this cache, of which no more is known than where their buckets are,
    /// their hashes, and where to note what is seen.
    #[inline(always)]
    fn look_ahead<'a>(&self, keys: impl Iterator<Item = (u64, KeyHash, &'a mut SeenAt, Reach)>) {
        let index = &self.shared.index;
        let mut overflowed = ArrayVec::<_, BATCH>::new();
        for (home_at, hash, seen_at, reach) in keys {
            match index.prefetch_item(home_at, hash, reach) {
                Ahead::Seen(at) => {
                    *seen_at = at;
                    self.shared.ghosts.foresee(hash, at, reach);
                }
                Ahead::Overflow(id) => overflowed.push((hash, id, seen_at, reach)),
            }
        }
        for (hash, id, seen_at, reach) in overflowed {
            *seen_at = index.prefetch_overflowed(hash, id, reach);
            self.shared.ghosts.foresee(hash, *seen_at, reach);
        }
    }

    /// Reads an item.
    #[inline(always)]
    pub fn get(&self, key: &Key<'_>) -> Option<Item<'_>> {
        let seen_at = match key.seen_at {
            SeenAt::UNKNOWN if self.shared.made(key) => {
                self.shared.index.look_for(key.home_at, key.hash)
            }
            seen_at => seen_at,
        };
        match self.plain_reads().get(key, seen_at) {
            Some(item) => {
                self.count_hits(1);
                Some(item)
            }
            None => self.get_otherwise(key),
        }
    }

    /// The entry of a key that this cache made, with its item, whatever that counts as: where it was
    /// seen ahead, as most are, or else looked for.
    #[inline(always)]
    pub(crate) fn find(&self, key: &Key<'_>) -> Option<(Found, Item<'s>)> {
        let index = &self.shared.index;
        // SAFETY: pinned for as long as the guard is.
        let plain = unsafe { index.find_seen(key.seen_at, key.hash, key.bytes) };
        // SAFETY: likewise.
        plain.or_else(|| unsafe { index.find_item(key.home_at, key.hash, key.bytes) })
    }

    /// Whether there are contents that recovery has not proved.
    #[inline]
    pub(crate) fn has_unproven(&self) -> bool {
        self.has_unproven
    }

    /// Counts reads that found an item.
    #[inline]
    pub(crate) fn count_hits(&self, hits: u64) {
        self.writer.tally.add(self.shared, Figure::GetHits, hits);
    }

    /// [`Guard::get`] of whatever [`PlainReads`](super::plain::PlainReads) say nothing about.
    #[inline(never)]
    pub(crate) fn get_otherwise(&self, key: &Key<'_>) -> Option<Item<'_>> {
        let (found, item) = self.look(key)?;
        self.note_read(&found, &item);
        Some(item)
    }

    fn look(&self, key: &Key<'_>) -> Option<(Found, Item<'_>)> {
        let mut place = None;
        let key = self.shared.own(key, &mut place);
        // SAFETY: pinned for as long as the guard is.
        let found = unsafe { (self.shared.index).find_item(key.home_at, key.hash, key.bytes) };
        let Some((found, item)) = found else {
            self.count(Figure::GetMisses);
            return None;
        };
        match self.judge(&found, &item) {
            Standing::Live => {
                self.count(Figure::GetHits);
                return Some((found, item));
            }
            Standing::Damaged => self.remove_damaged(key, &found),
            Standing::Expired | Standing::Flushed | Standing::Hidden => self.count_gone(&found),
        }
        self.count(Figure::GetMisses);
        None
    }

    /// Counts why a read of an entry finds no item.
    pub(crate) fn count_gone(&self, found: &Found) {
        match self.judge(found, &self.named(found)) {
            Standing::Expired => self.count(Figure::GetExpired),
            Standing::Flushed => self.count(Figure::GetFlushed),
            Standing::Live | Standing::Hidden | Standing::Damaged => {}
        }
    }

    /// Reads many items: faster than one at a time, since the memory that they need is fetched
    /// ahead. `visit` gets the position of each key with what was found, in order.
    pub fn get_many<'g>(
        &'g self,
        keys: &[Key<'_>],
        mut visit: impl FnMut(usize, Option<Item<'g>>),
    ) {
        let plain = self.plain_reads();
        for (batch, keys) in keys.chunks(BATCH).enumerate() {
            keys.iter().for_each(|key| self.prefetch_bucket(key));
            let mut seen_at = [SeenAt::NOWHERE; BATCH];
            let pairs = keys.iter().zip(&mut seen_at);
            let own = pairs.filter(|(key, _)| self.shared.made(key));
            self.look_ahead(
                own.map(|(key, seen_at)| (key.home_at, key.hash, seen_at, Reach::Value)),
            );
            let mut hits = 0;
            for (at, (key, seen_at)) in keys.iter().zip(&seen_at).enumerate() {
                let at = batch * BATCH + at;
                // Each in a call of its own: what was found plainly is not moved to where both meet.
                match plain.get(key, *seen_at) {
                    Some(item) => {
                        hits += 1;
                        visit(at, Some(item));
                    }
                    None => visit(at, self.get_otherwise(key)),
                }
            }
            self.count_hits(hits);
        }
    }

    /// Notes that an item was read, and when, where the cache keeps that.
    #[inline]
    pub(crate) fn note_read(&self, found: &Found, item: &Item<'_>) {
        self.shared.index.bump(found);
        self.note_read_at(found, item);
    }

    #[inline]
    pub(crate) fn note_read_at(&self, found: &Found, item: &Item<'_>) {
        if item.keeps_last_read() {
            self.note_last_read(found.entry);
        }
    }

    /// Apart, and with an entry alone, so that the item of a usual read stays in registers.
    #[cold]
    fn note_last_read(&self, entry: Entry) {
        // SAFETY: the entry was found under this guard's pin.
        let item = unsafe { self.shared.item(entry) };
        if let Some(last_read) = item.last_read(&self.shared.arena, entry.offset()) {
            last_read.note(self.now_ms);
        }
    }

    /// The item that an entry names, if it is neither expired nor flushed nor hidden. It must not
    /// outlive the pin, which a write that makes room renews.
    #[inline]
    pub(crate) fn live(&self, found: &Found) -> Option<Item<'s>> {
        let item = self.named(found);
        (self.judge(found, &item) == Standing::Live).then_some(item)
    }

    /// [`Guard::live`] that gives placeholders too, hidden or not.
    pub(crate) fn standing(&self, found: &Found) -> Option<Item<'s>> {
        let item = self.named(found);
        self.stands(found, &item).then_some(item)
    }

    /// Whether the item that was found is one, or a placeholder, hidden or not.
    #[inline]
    pub(crate) fn stands(&self, found: &Found, item: &Item<'_>) -> bool {
        matches!(self.judge(found, item), Standing::Live | Standing::Hidden)
    }

    #[inline]
    fn named(&self, found: &Found) -> Item<'s> {
        // SAFETY: found under this guard's pin.
        unsafe { self.shared.item(found.entry) }
    }

    #[inline(always)]
    fn judge(&self, found: &Found, item: &Item<'_>) -> Standing {
        if self.has_unproven && self.is_damaged(found.entry) {
            return Standing::Damaged;
        }
        let expires_at_ms = item.stored_expiry_ms();
        if expires_at_ms.is_some_and(|at| at <= self.now_ms) {
            Standing::Expired
        } else if item.own_version() <= self.shared.flushed_version() {
            Standing::Flushed
        } else if expires_at_ms.is_some() && self.placeholders.hide(item) {
            Standing::Hidden
        } else {
            Standing::Live
        }
    }

    /// Whether the item that an entry names is not what was written, where nobody has proved it yet.
    #[cold]
    fn is_damaged(&self, entry: Entry) -> bool {
        let (segments, offset) = (&self.shared.segments, entry.offset());
        segments.is_unproven(segments.id_at(offset))
            // SAFETY: the entry was found under this guard's pin.
            && !unsafe { Item::is_intact_with_value(&self.shared.arena, offset) }
    }

    /// Removes an item that is not what was written.
    #[cold]
    fn remove_damaged(&self, key: &Key<'_>, found: &Found) {
        let (shared, tally) = (self.shared, &self.writer.tally);
        let (offset, session) = (found.entry.offset(), tally.session());
        let removed = (shared.index).remove_exact(key.hash, offset, session, &self.pin);
        if let Some(entry) = removed {
            tally.removed(shared, &self.pin, entry);
            tally.count_lone_removal(shared);
            tally.count(shared, Figure::Damaged);
        }
    }

    /// Does something that may evict, and spares the key's item: what is made from it needs it until it is stored,
    /// and where that cannot be stored, it stays.
    pub(crate) fn sparing<T>(&mut self, key: &Key<'_>, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.writer.spared.replace(key.hash);
        let done = act(self);
        self.writer.spared = before;
        done
    }

    /// Locks the bucket of a key that this cache made.
    #[inline]
    pub(crate) fn lock(&self, key: &Key<'_>) -> LockedBucket<'s> {
        self.shared
            .index
            .lock(key.hash, self.writer.tally.session())
    }

    #[inline]
    pub(crate) fn count(&self, figure: Figure) {
        self.writer.count(self.shared, figure);
    }

    /// Flushes: what is stored now, or will be until `at_ms`, is gone from then on.
    ///
    /// `None`, or a time that has come, is now. Either replaces a flush that was asked for earlier and is not
    /// due yet.
    pub fn flush(&mut self, at_ms: Option<u64>) {
        self.count(Figure::Flushes);
        match at_ms.filter(|&at_ms| at_ms > self.now_ms) {
            Some(at_ms) => self.shared.flush_at(at_ms),
            None => self.shared.flush_at_once(),
        }
    }
}

#[inline]
fn flush_if_due(shared: &Shared, now_ms: u64) {
    if shared.is_flush_due(now_ms) {
        shared.flush_if_due(now_ms);
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if shape::IS_WATCHED {
            self.writer.tally.set(self.shared, Figure::PinnedSinceMs, 0);
        }
    }
}
