//! Writes: prepare the item, lock the bucket, look again, publish, unlock, account.
//!
//! Every write is one pass through [`Guard::write`]. A *plan* looks at the live item of the key, if
//! there is one, and says what to store or what to answer. The item is written where nobody can see
//! it; then the bucket is locked, and if the entry that the plan saw is still there (or still
//! absent), the item is committed and published with one store. If not, it is planned again: some
//! other write to the same key has gone through meanwhile. A plain set does not depend on what was
//! there, and is published either way.

use crate::engine::appender::{self, Commitment};
use crate::engine::cache::Key;
use crate::engine::config::AccessTimes;
use crate::engine::draft::{Draft, DraftValue};
use crate::engine::guard::Guard;
use crate::engine::index::Found;
use crate::engine::index::bucket::Room;
use crate::engine::index::word::{Entry as IndexEntry, Marks};
use crate::engine::item::{Item, Value};
use crate::engine::lease::read_at;
use crate::engine::log::extents::{Extent, parts};
use crate::engine::log::segment::{Label, Log};
use crate::engine::number::Number;
use crate::engine::operations::{Entry, Outcome};
use crate::engine::stats::Figure;
use crate::engine::upkeep::Step;
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
    /// The cache's own version; `None`: a new one.
    pub(crate) version: Option<u64>,
    /// The version that the writer chose.
    pub(crate) chosen_version: Option<u64>,
    /// Whether it holds only if the key is still as the plan saw it.
    pub(crate) depends: Depends,
    /// Marks of the old item that the new one keeps.
    pub(crate) keeps: Marks,
    /// Marks that the new one gets.
    pub(crate) gets: Marks,
}

/// Where a new item's value comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewValue {
    Given,
    /// What is given describes extents.
    Described,
    OldThenGiven,
    GivenThenOld,
    Old,
    /// A number: it can change in place, unless it has a version that was chosen.
    Number(u64),
    Placeholder,
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

impl Written<Outcome> {
    /// How a store ended.
    #[inline]
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Put { version, .. } => Outcome::Stored { version },
            Self::Answer(outcome) => outcome,
        }
    }
}

/// Why a write was refused. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The value is longer than the limit.
    #[error("the value has {value_bytes} bytes: at most {value_bytes_max} are accepted")]
    TooLarge {
        /// Bytes of the value that would have been stored.
        value_bytes: u64,
        /// The limit.
        value_bytes_max: u64,
    },
    /// All memory that could be freed is held, or so many large values are being received that they would take
    /// more than half of it.
    #[error(
        "no memory could be freed at once: readers hold what was evicted, or large values that are being \
         received have half of it; try again"
    )]
    NoSpace,
}

/// An item that is written but not published.
struct Prepared {
    entry: IndexEntry,
    /// The count that it starts with where the index does not have the key.
    frequency: u64,
    label: Label,
    item: Commitment,
    depends: Depends,
    keeps: Marks,
    old: Option<OldItem>,
}

/// Where a new key begins, and with which count.
#[derive(Debug, Clone, Copy)]
struct Start {
    log: Log,
    frequency: u64,
}

/// The live item that a plan saw.
#[derive(Clone, Copy)]
struct OldItem {
    version: u64,
    /// Whether its value and version change while its entry stays.
    is_in_place: bool,
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
    /// Stores a plain item in place of another one, which was seen ahead: what most sets of a batch come
    /// to. `None` says nothing about the key, and nothing was changed.
    ///
    /// It is [`Guard::write_over`] of a plan that depends on nothing, without what only others need to ask.
    /// Whether the old item counts as one makes no difference to it.
    #[inline(never)]
    pub(crate) fn set_plain(&mut self, key: &Key<'_>, entry: &Entry<'_>) -> Option<u64> {
        let shared = self.shared;
        let is_small = !self.is_large(entry.value.len() as u64);
        let is_plain = is_small && entry.new_version.is_none() && shared.made(key);
        if !is_plain || self.has_unproven() || shared.geometry.access_times != AccessTimes::Off {
            return None;
        }
        // SAFETY: pinned for as long as the guard is.
        let seen = unsafe { shared.index.find_seen(key.seen_at, key.hash, key.bytes) };
        let (seen, old) = seen?;
        let value = DraftValue::Bytes([entry.value, &[]]);
        let draft = Draft::new(
            key.bytes,
            value,
            entry.flags,
            entry.expires_at_ms,
            None,
            None,
        );
        let log = shared.segments.label_at(seen.entry.offset()).log;
        let label = appender::label(&shared.geometry, log, entry.expires_at_ms, self.now_ms);
        let bytes = draft.bytes();
        if !self.writer.appender.has_room(shared, label, bytes) {
            return None;
        }
        let version = self.writer.next_version(shared);
        let offset = (self.writer.appender).append(shared, label, &draft, version);
        let bucket = self.lock(key);
        // SAFETY: pinned since before `seen` was found.
        let current = unsafe { bucket.find(key.hash, key.bytes, Some(&seen)) };
        // A flush in between would take what this stores, and what came after it.
        let current = current.filter(|current| {
            seen.entry.names_same(current.entry) && version > shared.flushed_version()
        })?;
        let item = Commitment {
            bytes,
            parts: 0,
            version,
            expires_at_ms: entry.expires_at_ms,
        };
        self.writer.appender.commit(shared, label, item);
        let stored = IndexEntry::new(key.hash, offset).spanning(bytes);
        bucket.put(&current, stored.with_frequency(current.entry.frequency()));
        drop(bucket);
        (self.writer.tally).removed_item(shared, &self.pin, &old, current.entry.offset());
        self.account_replacement(bytes);
        Some(version)
    }

    /// Carries a plan out to which a hidden placeholder is nothing.
    pub(crate) fn write<T>(
        &mut self,
        key: &Key<'_>,
        given: &[u8],
        mut plan: impl FnMut(Option<&Item<'_>>) -> Plan<T>,
    ) -> Result<Written<T>, StoreError> {
        let placeholders = self.placeholders;
        self.write_over(key, given, |old, _| {
            plan(old.filter(|old| !placeholders.hide(old)))
        })
    }

    /// Carries a plan out that sees placeholders, and the entry of what is there.
    pub(crate) fn write_over<T>(
        &mut self,
        key: &Key<'_>,
        given: &[u8],
        mut plan: impl FnMut(Option<&Item<'_>>, IndexEntry) -> Plan<T>,
    ) -> Result<Written<T>, StoreError> {
        let mut place = None;
        let key = self.shared.own(key, &mut place);
        let mut overflow_tried = false;
        let mut first = None;
        loop {
            // A renewed pin starts the loop again.
            let (seen, old) = match self.find(key) {
                Some((seen, item)) => (Some(seen), self.stands(&seen, &item).then_some(item)),
                None => (None, None),
            };
            let entry = seen.map_or(IndexEntry::EMPTY, |seen| seen.entry);
            let put = match plan(old.as_ref(), entry) {
                Plan::Put(put) => put,
                Plan::Answer(answer) => return Ok(Written::Answer(answer)),
            };
            let digits = put.digits(old.as_ref());
            let read_at_ms = self.first_read_at(&put, entry, old.as_ref());
            let draft = put.draft(key, given, old.as_ref(), digits.as_ref(), read_at_ms);
            let start = match &seen {
                Some(seen) => {
                    let label = self.shared.segments.label_at(seen.entry.offset());
                    Start {
                        log: label.log,
                        frequency: 0,
                    }
                }
                None => *first.get_or_insert_with(|| self.start(key)),
            };
            let geometry = &self.shared.geometry;
            let label = appender::label(geometry, start.log, put.expires_at_ms, self.now_ms);
            if !self
                .writer
                .appender
                .has_room(self.shared, label, draft.bytes())
            {
                self.make_room(label, draft.bytes())?;
                continue;
            }
            let prepared = self.prepare(key, &draft, &put, (label, start.frequency), old.as_ref());
            let shared_value = old.as_ref().and_then(|old| self.share_value(&put, old));
            let published = self.publish(key, seen.as_ref(), &prepared, overflow_tried);
            if let Published::WantsOverflow = published {
                let shared = self.shared;
                self.writer.overflow = shared.index.take_overflow(&shared.segments);
                overflow_tried = true;
            }
            self.copied_bytes += prepared.item.bytes;
            let done = self.account(published, prepared.item.bytes);
            if let Some(extents) = shared_value {
                self.settle_shared(&extents, label, done);
            }
            if done {
                return Ok(Written::Put {
                    version: put.chosen_version.unwrap_or(prepared.item.version),
                    entry: prepared.entry,
                });
            }
        }
    }

    /// Where a new key begins.
    fn start(&self, key: &Key<'_>) -> Start {
        let items = Step::main_items(self.shared);
        match self.shared.ghosts.take(key.hash, items) {
            true => {
                self.count(Figure::GhostHits);
                Start {
                    log: Log::Main,
                    frequency: 1,
                }
            }
            false => Start {
                log: self.writer.first_log,
                frequency: 0,
            },
        }
    }

    /// The time from which the reads of a new item are noted, if they are.
    fn first_read_at(&self, put: &Put, entry: IndexEntry, old: Option<&Item<'_>>) -> Option<u64> {
        let is_read = !matches!(put.value, NewValue::Old) || put.gets.has(Marks::FETCHED);
        match (self.shared.geometry.access_times, old) {
            (AccessTimes::Off, _) => None,
            (AccessTimes::Kept, Some(old)) if !is_read => read_at(self.shared, entry, old),
            (AccessTimes::Kept, _) => Some(self.now_ms),
        }
    }

    pub(crate) fn no_space(&self) -> StoreError {
        self.count(Figure::NoSpace);
        StoreError::NoSpace
    }

    pub(crate) fn too_large(&self, value_bytes: u64, value_bytes_max: u64) -> StoreError {
        self.count(Figure::TooLarge);
        StoreError::TooLarge {
            value_bytes,
            value_bytes_max,
        }
    }

    fn make_room(&mut self, label: Label, bytes: u64) -> Result<(), StoreError> {
        self.writer
            .make_room(self.shared, &mut self.pin, label, bytes, self.now_ms)
            .map_err(|NoSpace| self.no_space())
    }

    #[inline]
    fn prepare(
        &mut self,
        key: &Key<'_>,
        draft: &Draft<'_>,
        put: &Put,
        (label, frequency): (Label, u64),
        old: Option<&Item<'_>>,
    ) -> Prepared {
        let version = match put.version {
            Some(version) => version,
            None => self.writer.next_version(self.shared),
        };
        let offset = self
            .writer
            .appender
            .append(self.shared, label, draft, version);
        Prepared {
            entry: IndexEntry::new(key.hash, offset)
                .spanning(draft.bytes())
                .with(put.gets),
            frequency,
            label,
            item: Commitment {
                bytes: draft.bytes(),
                parts: draft.parts(),
                version,
                expires_at_ms: put.expires_at_ms,
            },
            depends: put.depends,
            keeps: put.keeps,
            old: old.map(|old| OldItem {
                version: old.own_version(),
                is_in_place: old.is_in_place(),
            }),
        }
    }

    /// Where the new item names the extents of the old one: one more reference to them.
    fn share_value(&self, put: &Put, old: &Item<'_>) -> Option<Box<[Extent]>> {
        let extents = old.extents()?.all();
        if !matches!(put.value, NewValue::Old) {
            return None;
        }
        self.shared.segments.hold(extents[0]);
        Some(extents)
    }

    /// The reference is the new item's, if that was published, and goes back if it was not.
    fn settle_shared(&self, extents: &[Extent], label: Label, published: bool) {
        match published {
            true => (self.shared.segments).share_parts(label.log, parts(extents)),
            false => self.shared.segments.release_extents(extents),
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
        let bucket = self.lock(key);
        // SAFETY: pinned since before `seen` was found.
        let current = unsafe { bucket.find(key.hash, key.bytes, seen) };
        let unchanged = match (seen, &current) {
            (None, None) => true,
            (Some(seen), Some(current)) => seen.entry.stands_like(current.entry),
            _ => false,
        };
        // A flush may have come in between. It would take an item with a version from before it,
        // though what that replaces here may have come after it; and what it took is no base for
        // an item with a version from after it.
        let flushed_version = shared.flushed_version();
        let is_flushed = |version| version <= flushed_version;
        let is_same = |old: &OldItem| match (&current, old.is_in_place) {
            // SAFETY: the entry was read under this guard's pin.
            (Some(now), true) => unsafe { shared.item(now.entry) }.own_version() == old.version,
            _ => true,
        };
        let old = prepared.old.as_ref();
        let holds = unchanged && old.is_none_or(|old| !is_flushed(old.version) && is_same(old));
        let depends = prepared.depends == Depends::OnWhatWasSeen;
        if is_flushed(prepared.item.version) || (depends && !holds) {
            return Published::Outdated;
        }
        let entry = prepared.entry;
        if let Some(current) = current {
            self.commit(prepared);
            let kept = current.entry.marks().within(prepared.keeps);
            let frequency = current.entry.frequency();
            bucket.put(&current, entry.with_frequency(frequency).with(kept));
            return Published::Replaced(current.entry);
        }
        let entry = entry.with_frequency(prepared.frequency);
        match bucket.room() {
            Room::Slot(slot) => {
                self.commit(prepared);
                bucket.put(&slot, entry);
                Published::Inserted
            }
            Room::Full { coldest, last } => match (last, self.writer.overflow) {
                (Some(last), Some(id)) => {
                    self.writer.overflow = None;
                    self.commit(prepared);
                    bucket.link(last, id, entry);
                    Published::Inserted
                }
                (Some(_), None) if !overflow_tried => Published::WantsOverflow,
                _ => {
                    self.commit(prepared);
                    bucket.put(&coldest, entry);
                    Published::InsertedOver(coldest.entry)
                }
            },
        }
    }

    fn commit(&mut self, prepared: &Prepared) {
        let (label, item) = (prepared.label, prepared.item);
        self.writer.appender.commit(self.shared, label, item);
    }

    /// Accounts for a publication, and does the upkeep that comes with it; false if there was none.
    fn account(&mut self, published: Published, bytes: u64) -> bool {
        match published {
            Published::Outdated | Published::WantsOverflow => return false,
            Published::Replaced(old) => {
                self.writer.tally.removed(self.shared, &self.pin, old);
                self.account_replacement(bytes);
                return true;
            }
            Published::Inserted => self.writer.count_insertion(self.shared, &self.pin),
            Published::InsertedOver(coldest) => {
                self.writer.evicted(self.shared, &self.pin, coldest);
                self.writer.count_insertion(self.shared, &self.pin);
            }
        }
        self.account_stored(bytes);
        true
    }

    /// Accounts for an item that took the place of one that is accounted for.
    #[inline]
    fn account_replacement(&mut self, bytes: u64) {
        self.count(Figure::Overwritten);
        self.account_stored(bytes);
    }

    #[inline]
    fn account_stored(&mut self, bytes: u64) {
        let (shared, writer) = (self.shared, &mut *self.writer);
        writer.tally.add(shared, Figure::StoredBytes, bytes);
        writer.pay_for(shared, &self.pin, self.now_ms, bytes);
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
            chosen_version: None,
            depends: Depends::OnWhatWasSeen,
            keeps: Marks::NONE,
            gets: Marks::NONE,
        }
    }

    /// The old item once more, with its version and marks, and another expiry.
    pub(crate) fn again(old: &Item<'_>, expires_at_ms: Option<u64>) -> Self {
        let never = old.is_placeholder().then_some(u64::MAX);
        Self {
            version: Some(old.own_version()),
            chosen_version: old.chosen_version(),
            keeps: Marks::ALL,
            ..Self::new(NewValue::Old, old.flags(), expires_at_ms.or(never))
        }
    }

    /// The same, made from a value: it is as stale as that, and nobody was told to renew it yet.
    pub(crate) fn made_from_value(self) -> Self {
        self.keeping(Marks::STALE)
    }

    /// The same that keeps these marks of the entry that it takes the place of.
    pub(crate) fn keeping(self, keeps: Marks) -> Self {
        Self { keeps, ..self }
    }

    /// The same with the version that its writer chose, if it did.
    pub(crate) fn chosen(self, chosen_version: Option<u64>) -> Self {
        Self {
            chosen_version,
            ..self
        }
    }

    /// The digits of a number that the new value is made of, or is itself where it cannot change in place.
    #[inline]
    fn digits(&self, old: Option<&Item<'_>>) -> Option<Number> {
        match self.value {
            NewValue::OldThenGiven | NewValue::GivenThenOld | NewValue::Old => old?.digits(),
            NewValue::Number(number) => self.chosen_version.map(|_| Number::new(number)),
            NewValue::Given | NewValue::Described | NewValue::Placeholder => None,
        }
    }

    fn draft<'d>(
        &self,
        key: &Key<'d>,
        given: &'d [u8],
        old: Option<&Item<'d>>,
        digits: Option<&'d Number>,
        read_at_ms: Option<u64>,
    ) -> Draft<'d> {
        let stored = old.map(Item::stored_value);
        let was_placeholder = old.is_some_and(Item::is_placeholder);
        let old = match (stored, digits) {
            (Some(Value::Inline(bytes)), _) => bytes,
            (_, Some(digits)) => digits.digits(),
            _ => &[],
        };
        let value = match (self.value, stored) {
            (NewValue::Given, _) => DraftValue::Bytes([given, &[]]),
            (NewValue::Described, _) => DraftValue::Large(given),
            (NewValue::OldThenGiven, _) => DraftValue::Bytes([old, given]),
            (NewValue::GivenThenOld, _) => DraftValue::Bytes([given, old]),
            (NewValue::Number(number), _) => match digits {
                Some(digits) => DraftValue::Bytes([digits.digits(), &[]]),
                None => DraftValue::Number(number),
            },
            (NewValue::Placeholder, _) => DraftValue::Placeholder,
            (NewValue::Old, _) if was_placeholder => DraftValue::Placeholder,
            (NewValue::Old, Some(Value::Number(number))) if self.chosen_version.is_none() => {
                DraftValue::Number(number.value)
            }
            (NewValue::Old, Some(Value::Large(extents))) => {
                DraftValue::Large(extents.description())
            }
            (NewValue::Old, _) => DraftValue::Bytes([old, &[]]),
        };
        Draft::new(
            key.bytes,
            value,
            self.flags,
            self.expires_at_ms,
            self.chosen_version,
            read_at_ms,
        )
    }
}
