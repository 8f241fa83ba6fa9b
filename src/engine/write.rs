//! Writes: prepare the item, lock the bucket, look again, publish, unlock, account.
//!
//! Every write is one pass through [`Guard::write`]. A *plan* looks at the live item of the key, if
//! there is one, and says what to store or what to answer. The item is written where nobody can see
//! it; then the bucket is locked, and if the entry that the plan saw is still there (or still
//! absent), the item is committed and published with one store. If not, it is planned again: some
//! other write to the same key has gone through meanwhile. A plain set does not depend on what was
//! there, and is published either way.

use crate::engine::cache::Key;
use crate::engine::guard::Guard;
use crate::engine::index::Found;
use crate::engine::index::bucket::Room;
use crate::engine::index::word::Entry as IndexEntry;
use crate::engine::item::{Draft, Item};
use crate::engine::number::Number;
use crate::engine::stats::Figure;
use crate::engine::writer::NoSpace;

/// What a plan decides.
pub(crate) enum Plan<T> {
    /// Store this.
    Put(Put),
    /// Store nothing; this is the answer.
    Answer(T),
}

/// A new item, in terms of the old one and of what the caller gave.
pub(crate) struct Put {
    pub(crate) value: NewValue,
    pub(crate) flags: u32,
    pub(crate) expires_at_ms: Option<u64>,
    /// `None`: a new version.
    pub(crate) version: Option<u64>,
    /// Whether it holds only if the key is still as the plan saw it.
    pub(crate) depends: Depends,
}

/// Where a new item's value comes from.
pub(crate) enum NewValue {
    Given,
    Descriptor,
    OldThenGiven,
    GivenThenOld,
    Old,
    Number(Number),
}

/// Whether a put holds only for the item that its plan saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depends {
    OnWhatWasSeen,
    OnNothing,
}

/// What a write did.
pub(crate) enum Written<T> {
    Put { version: u64, entry: IndexEntry },
    Answer(T),
}

/// Why a write was refused. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The item does not fit a segment.
    #[error(
        "the value has {value_bytes} bytes: with this key at most {value_bytes_max} are accepted"
    )]
    TooLarge {
        /// Bytes of the value that would have been stored.
        value_bytes: u64,
        /// The most that fit beside this key.
        value_bytes_max: u64,
    },
    /// All memory is held by readers that have not let go of it yet.
    #[error("no memory could be freed at once: readers hold what was evicted; try again")]
    NoSpace,
}

/// An item that is written but not published.
struct Prepared {
    entry: IndexEntry,
    bytes: u64,
    version: u64,
    depends: Depends,
    /// The version of the live item that the plan saw.
    old_version: Option<u64>,
}

/// How a publication ended.
enum Published {
    /// In place of this entry of the same key.
    Replaced(IndexEntry),
    /// For a key that the index did not have.
    Inserted,
    /// The same, in place of the coldest entry of a full chain.
    InsertedOver(IndexEntry),
    /// Not at all: the key has changed since the plan, or everything was flushed.
    Outdated,
    /// Not at all: the chain is full, and an overflow bucket was not at hand.
    WantsOverflow,
}

impl Guard<'_> {
    /// Carries a plan out.
    pub(crate) fn write<T>(
        &mut self,
        key: &Key<'_>,
        given: &[u8],
        mut plan: impl FnMut(Option<&Item<'_>>) -> Plan<T>,
    ) -> Result<Written<T>, StoreError> {
        let mut overflow_tried = false;
        loop {
            // SAFETY: pinned for as long as the guard is; a renewed pin starts the loop again.
            let seen = unsafe { self.shared.index.find(key.hash, key.bytes) };
            let old = seen.as_ref().and_then(|seen| self.live(seen));
            let put = match plan(old.as_ref()) {
                Plan::Put(put) => put,
                Plan::Answer(answer) => return Ok(Written::Answer(answer)),
            };
            let draft = put.draft(key, given, old.as_ref());
            let bytes = draft.bytes();
            if !self.writer.has_room(self.shared, bytes) {
                self.check_size(&draft)?;
                self.make_room()?;
                continue;
            }
            let old_version = old.map(|old| old.version());
            let prepared = self.prepare(key, &draft, &put, old_version);
            let published = self.publish(key, seen.as_ref(), &prepared, overflow_tried);
            if let Published::WantsOverflow = published {
                let shared = self.shared;
                self.writer.overflow = shared.index.take_overflow(&shared.segments);
                overflow_tried = true;
            }
            if self.account(published, bytes) {
                self.shared.large_stored(prepared.entry);
                return Ok(Written::Put {
                    version: prepared.version,
                    entry: prepared.entry,
                });
            }
        }
    }

    fn check_size(&self, draft: &Draft<'_>) -> Result<(), StoreError> {
        let segment_bytes = self.shared.geometry.segment_bytes;
        let bytes = draft.bytes();
        if bytes <= segment_bytes {
            return Ok(());
        }
        let value_bytes = draft.value_bytes();
        // Up to 7 bytes of padding come off first: items are whole words, and so are segments.
        Err(StoreError::TooLarge {
            value_bytes,
            value_bytes_max: segment_bytes.saturating_sub(draft.bytes_beside_value()),
        })
    }

    fn make_room(&mut self) -> Result<(), StoreError> {
        self.writer
            .make_room(self.shared, &mut self.pin)
            .map_err(|NoSpace| {
                self.count(Figure::NoSpace);
                StoreError::NoSpace
            })
    }

    fn prepare(
        &mut self,
        key: &Key<'_>,
        draft: &Draft<'_>,
        put: &Put,
        old_version: Option<u64>,
    ) -> Prepared {
        let version = match put.version {
            Some(version) => version,
            None => self.writer.next_version(self.shared),
        };
        let offset = self.writer.append(self.shared, draft, version);
        Prepared {
            entry: IndexEntry::new(key.hash, offset),
            bytes: draft.bytes(),
            version,
            depends: put.depends,
            old_version,
        }
    }

    /// Publishes a prepared item, if the key is still as it was `seen`.
    fn publish(
        &mut self,
        key: &Key<'_>,
        seen: Option<&Found>,
        prepared: &Prepared,
        overflow_tried: bool,
    ) -> Published {
        let shared = self.shared;
        let bucket = shared.index.lock(key.hash);
        // SAFETY: pinned since before `seen` was found.
        let current = unsafe { bucket.find(key.hash, key.bytes, seen) };
        let unchanged = match (seen, &current) {
            (None, None) => true,
            (Some(seen), Some(current)) => seen.entry.names_same(current.entry),
            _ => false,
        };
        // A flush may have come in between. It would take an item with a version from before it,
        // though what that replaces here may have come after it; and what it took is no base for
        // an item with a version from after it.
        let flushed_version = shared.flushed_version();
        let is_flushed = |version| version <= flushed_version;
        let holds = unchanged && !prepared.old_version.is_some_and(is_flushed);
        let depends = prepared.depends == Depends::OnWhatWasSeen;
        if is_flushed(prepared.version) || (depends && !holds) {
            return Published::Outdated;
        }
        let entry = prepared.entry;
        if let Some(current) = current {
            self.writer.commit(shared, prepared.bytes);
            bucket.put(&current, entry.with_frequency_of(current.entry));
            return Published::Replaced(current.entry);
        }
        match bucket.room() {
            Room::Slot(slot) => {
                self.writer.commit(shared, prepared.bytes);
                bucket.put(&slot, entry);
                Published::Inserted
            }
            Room::Full { coldest, last } => match (last, self.writer.overflow) {
                (Some(last), Some(id)) => {
                    self.writer.overflow = None;
                    self.writer.commit(shared, prepared.bytes);
                    bucket.link(last, id, entry);
                    Published::Inserted
                }
                (Some(_), None) if !overflow_tried => Published::WantsOverflow,
                _ => {
                    self.writer.commit(shared, prepared.bytes);
                    bucket.put(&coldest, entry);
                    Published::InsertedOver(coldest.entry)
                }
            },
        }
    }

    /// Accounts for a publication, and does the upkeep that comes with it; false if there was none.
    fn account(&mut self, published: Published, bytes: u64) -> bool {
        match published {
            Published::Outdated | Published::WantsOverflow => return false,
            Published::Replaced(old) => self.writer.removed(self.shared, &self.pin, old),
            Published::Inserted => self.writer.count_insertion(self.shared, &self.pin),
            Published::InsertedOver(coldest) => {
                self.writer.evicted(self.shared, &self.pin, coldest);
                self.writer.count_insertion(self.shared, &self.pin);
            }
        }
        self.writer.pay_for(self.shared, &self.pin, bytes);
        true
    }
}

impl Put {
    /// A new value with a new version.
    pub(crate) fn new(value: NewValue, flags: u32, expires_at_ms: Option<u64>) -> Self {
        Self {
            value,
            flags,
            expires_at_ms,
            version: None,
            depends: Depends::OnWhatWasSeen,
        }
    }

    fn draft<'d>(&'d self, key: &Key<'d>, given: &'d [u8], old: Option<&Item<'d>>) -> Draft<'d> {
        let is_large = match self.value {
            NewValue::Descriptor => true,
            NewValue::Old => old.is_some_and(Item::is_large),
            _ => false,
        };
        let old = old.map_or(&[][..], Item::stored);
        let value = match &self.value {
            NewValue::Given | NewValue::Descriptor => [given, &[]],
            NewValue::OldThenGiven => [old, given],
            NewValue::GivenThenOld => [given, old],
            NewValue::Old => [old, &[]],
            NewValue::Number(number) => [number.digits(), &[]],
        };
        Draft {
            key: key.bytes,
            value,
            flags: self.flags,
            expires_at_ms: self.expires_at_ms,
            kind: crate::engine::item::kind_of(is_large),
        }
    }
}
