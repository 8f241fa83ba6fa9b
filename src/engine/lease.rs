//! Leases: of many callers that need a new value exactly one is told to store it, and the others
//! wait, or make do with what is there.
//!
//! Whether somebody was told is a mark of the index word, LEASED; whether the value is out of date is
//! another, STALE. Both change only under the bucket's lock, where whoever would win a lease looks
//! once more: so one wins. They go along wherever the word moves, and end with the value: a word
//! that a store publishes has neither. (A value that is made from the old one, by an append or an
//! increment, is as stale as that. A lease was for one version, and ends with it.)
//!
//! A key that is absent has no word. There the winner is who publishes a *placeholder*: an item with
//! a key, a version and an expiry, and no value. It is in the way of no store. When it expires, the
//! key is absent again, and the next caller wins: so a caller that was told and never stored, since
//! it died, is not waited for for ever. Whether other operations take it for an item is a setting of
//! the guard, [`Placeholders`].
//!
//! The version of what was leased is the token of the lease. Who stores with
//! [`Mode::CompareAndSet`] and that version stores only if no delete, no invalidation, no other store
//! and no other lease on the same key came in between.
//!
//! [`Placeholders`]: crate::engine::guard::Placeholders
//! [`Mode::CompareAndSet`]: crate::engine::operations::Mode::CompareAndSet

use crate::engine::cache::{Key, Shared};
use crate::engine::guard::Guard;
use crate::engine::index::Found;
use crate::engine::index::bucket::LockedBucket;
use crate::engine::index::word::{Entry, Marks};
use crate::engine::item::Item;
use crate::engine::large::{LargeValue, hold};
use crate::engine::last_read::LastRead;
use crate::engine::stats::Figure;
use crate::engine::write::{NewValue, Plan, Put, StoreError, Written};

/// On which terms [`Guard::get_or_lease`] reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Where the key is absent, leave a placeholder that expires at this time, in milliseconds of the
    /// guard's clock, and win the lease; `u64::MAX` is never. `None`: a miss is a miss.
    pub placeholder_until_ms: Option<u64>,
    /// Win the lease also if the item expires in less than so many milliseconds. It is the expiry
    /// that the item had before this read. `None`: only if the item is stale.
    pub refresh_below_ms: Option<u64>,
    /// What becomes of the item's expiry, where there is one.
    pub expiry: NewExpiry,
    /// Whether this read counts.
    pub reading: Reading,
    /// The version that the placeholder gets; `None`: one of the cache's own.
    pub new_version: Option<u64>,
}

/// What becomes of an item's expiry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NewExpiry {
    /// It stays.
    #[default]
    Kept,
    /// The item expires at this time; `None`: never.
    At(Option<u64>),
}

/// Whether a read counts for what stays in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reading {
    /// As every read does.
    #[default]
    Counts,
    /// It leaves no trace.
    Passes,
}

impl Reading {
    /// What it marks an item with that it stores itself.
    fn marks(self) -> Marks {
        match self {
            Self::Counts => Marks::FETCHED,
            Self::Passes => Marks::NONE,
        }
    }
}

/// What a read on terms found, and whether its caller is to store a new value.
#[derive(Debug)]
pub struct Leased<'g> {
    /// What is there, placeholders included, whatever the guard takes them for.
    pub item: Option<Item<'g>>,
    /// A reference to its value, if that is a large one.
    pub large: Option<LargeValue>,
    /// Who is to store a new value.
    pub lease: Lease,
    /// Whether the value is out of date.
    pub freshness: Freshness,
    /// Whether the value was read before.
    pub history: History,
    /// When the item was last read before, or stored, where the cache keeps
    /// [`AccessTimes`](crate::engine::config::AccessTimes).
    pub read_at_ms: Option<u64>,
    /// When the item was to expire before this read; `None`: never, as what this read has made.
    pub expires_at_ms_before: Option<u64>,
}

/// Who is to store a new value.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Nobody.
    None,
    /// The caller, and nobody else: until a value is stored, or the item is deleted, invalidated or
    /// evicted, or expires.
    Won,
    /// Another caller.
    Taken,
}

/// Whether a value is out of date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Freshness {
    /// It is as it was stored.
    Fresh,
    /// It was invalidated since, or stored as stale.
    #[default]
    Stale,
}

/// Whether a value was read since it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Not yet.
    Unread,
    /// It was.
    Read,
}

impl History {
    pub(crate) fn by(marks: Marks) -> Self {
        match marks.has(Marks::FETCHED) {
            true => Self::Read,
            false => Self::Unread,
        }
    }
}

/// How [`Guard::invalidate`] marks an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Invalidation {
    /// Only if the item has this version.
    pub version: Option<u64>,
    /// What becomes of its expiry.
    pub expiry: NewExpiry,
    /// What becomes of its value.
    pub value: OldValue,
    /// What it is marked as: stale, by default.
    pub freshness: Freshness,
    /// The version that it gets; `None`: one of the cache's own.
    pub new_version: Option<u64>,
}

/// What becomes of the value of an item that is invalidated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OldValue {
    /// It stays, with the client's flags.
    #[default]
    Kept,
    /// It is empty from there on, and the flags are 0.
    Dropped,
}

/// How an invalidation ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidated {
    /// The item is marked, and has this new version.
    Marked {
        /// The version.
        version: u64,
    },
    /// There is no such item.
    NotFound,
    /// The item has another version, and stays as it is.
    Exists,
}

/// An item, the marks that a read on terms found on it, and what was decided.
struct Seen<'s> {
    item: Item<'s>,
    marks: Marks,
    lease: Lease,
    read_at_ms: Option<u64>,
    expires_at_ms_before: Option<u64>,
}

impl Terms {
    fn decide(&self, item: &Item<'_>, marks: Marks, now_ms: u64) -> Lease {
        let expires_at_ms = item.expires_at_ms();
        let is_due = match (expires_at_ms, self.refresh_below_ms) {
            (Some(at_ms), Some(below_ms)) => at_ms.saturating_sub(now_ms) < below_ms,
            _ => false,
        };
        match (marks.has(Marks::LEASED), marks.has(Marks::STALE) || is_due) {
            (true, _) => Lease::Taken,
            (false, true) => Lease::Won,
            (false, false) => Lease::None,
        }
    }
}

impl<'s> Guard<'s> {
    /// Reads an item, and tells exactly one caller to store a new value where one is needed: where
    /// the item is stale; where it expires soon and the terms say that this is a reason; and where
    /// the key is absent and the terms have a placeholder left for it.
    ///
    /// The caller that [won](Lease::Won) stores, best with [`Mode::CompareAndSet`] and the version of
    /// the item or placeholder that it got, or [ends](Self::end_lease) the lease. Other callers learn
    /// that it is [taken](Lease::Taken), whatever their terms.
    ///
    /// # Errors
    ///
    /// If something had to be written (a placeholder, a new expiry) and no memory could be freed;
    /// nothing was changed then.
    ///
    /// [`Mode::CompareAndSet`]: crate::engine::operations::Mode::CompareAndSet
    pub fn get_or_lease(&mut self, key: &Key<'_>, terms: &Terms) -> Result<Leased<'_>, StoreError> {
        let mut place = None;
        let key = self.shared.own(key, &mut place);
        loop {
            // SAFETY: pinned for as long as the guard is; nothing that is found here is used after a
            // write, which may renew the pin.
            let found = unsafe { self.shared.index.find(key.hash, key.bytes) };
            let standing = found.and_then(|found| Some((found, self.standing(&found)?)));
            if let (Some(found), None) = (&found, &standing) {
                self.count_gone(found);
            }
            let seen = match (standing, terms.placeholder_until_ms, terms.expiry) {
                (None, None, _) => return Ok(self.missed()),
                (None, Some(until_ms), _) => self.leave_placeholder(key, until_ms, terms)?,
                (Some(_), _, NewExpiry::At(at_ms)) => self.touch_on_terms(key, terms, at_ms)?,
                (Some((found, item)), _, NewExpiry::Kept) => {
                    let marks = found.entry.marks();
                    match terms.decide(&item, marks, self.now_ms) {
                        Lease::Won => self.win(key, &found, terms.reading),
                        lease => {
                            let read_at_ms = read_at(self.shared, found.entry, &item);
                            if terms.reading == Reading::Counts {
                                self.note_read(&found, &item);
                            }
                            Some(Seen {
                                item,
                                marks,
                                lease,
                                read_at_ms,
                                expires_at_ms_before: item.expires_at_ms(),
                            })
                        }
                    }
                }
            };
            if let Some(seen) = seen {
                return Ok(self.leased(seen, terms));
            }
        }
    }

    /// Takes the lease of an item that stands as it was `seen`; `None` if it does not any more.
    fn win(&self, key: &Key<'_>, seen: &Found, reading: Reading) -> Option<Seen<'s>> {
        let bucket = self.lock(key);
        // SAFETY: pinned since before `seen` was found.
        let found = unsafe { bucket.find(key.hash, key.bytes, Some(seen)) }?;
        if !found.entry.stands_like(seen.entry) {
            return None;
        }
        // A counter may have another number and version by now, and a flush may have come.
        let item = self.standing(&found)?;
        let read_at_ms = read_at(self.shared, found.entry, &item);
        let mut entry = found.entry.with(Marks::LEASED);
        if reading == Reading::Counts {
            self.note_read_at(&found, &item);
            entry = entry.read_again().unwrap_or(entry);
        }
        bucket.put(&found, entry);
        Some(Seen {
            item,
            marks: found.entry.marks(),
            lease: Lease::Won,
            read_at_ms,
            expires_at_ms_before: item.expires_at_ms(),
        })
    }

    /// Publishes a placeholder; `None` if the key is not absent any more.
    fn leave_placeholder(
        &mut self,
        key: &Key<'_>,
        until_ms: u64,
        terms: &Terms,
    ) -> Result<Option<Seen<'s>>, StoreError> {
        let read = terms.reading.marks();
        let written = self.write_over(key, &[], |old, _| match old {
            Some(_) => Plan::Answer(()),
            None => Plan::Put(Put {
                gets: read.and(Marks::LEASED),
                chosen_version: terms.new_version,
                ..Put::new(NewValue::Placeholder, 0, Some(until_ms))
            }),
        })?;
        Ok(self.written(written).map(|item| Seen {
            item,
            marks: Marks::NONE,
            lease: Lease::Won,
            read_at_ms: None,
            expires_at_ms_before: None,
        }))
    }

    /// Gives the item another expiry, and takes the lease if the terms say so; `None` if there is no
    /// item any more.
    fn touch_on_terms(
        &mut self,
        key: &Key<'_>,
        terms: &Terms,
        expires_at_ms: Option<u64>,
    ) -> Result<Option<Seen<'s>>, StoreError> {
        let (now_ms, shared) = (self.now_ms, self.shared);
        let read = terms.reading.marks();
        let (mut marks, mut lease) = (Marks::NONE, Lease::None);
        let (mut read_at_ms, mut expires_at_ms_before) = (None, None);
        let written = self.write_over(key, &[], |old, entry| {
            let Some(old) = old else {
                return Plan::Answer(());
            };
            marks = entry.marks();
            lease = terms.decide(old, marks, now_ms);
            read_at_ms = read_at(shared, entry, old);
            expires_at_ms_before = old.expires_at_ms();
            let won = match lease {
                Lease::Won => Marks::LEASED,
                Lease::None | Lease::Taken => Marks::NONE,
            };
            Plan::Put(Put {
                gets: read.and(won),
                ..Put::again(old, expires_at_ms)
            })
        })?;
        Ok(self.written(written).map(|item| Seen {
            item,
            marks,
            lease,
            read_at_ms,
            expires_at_ms_before,
        }))
    }

    /// The item that was written under this guard's pin.
    fn written(&self, written: Written<()>) -> Option<Item<'s>> {
        match written {
            // SAFETY: published under this guard's pin, which was not renewed since.
            Written::Put { entry, .. } => Some(unsafe { self.shared.item(entry) }),
            Written::Answer(()) => None,
        }
    }

    fn missed(&self) -> Leased<'s> {
        self.count(Figure::GetMisses);
        Leased {
            item: None,
            large: None,
            lease: Lease::None,
            freshness: Freshness::Fresh,
            history: History::Unread,
            read_at_ms: None,
            expires_at_ms_before: None,
        }
    }

    fn leased(&self, seen: Seen<'s>, terms: &Terms) -> Leased<'s> {
        let Seen {
            item,
            marks,
            lease,
            read_at_ms,
            expires_at_ms_before,
        } = seen;
        let freshness = match marks.has(Marks::STALE) {
            true => Freshness::Stale,
            false => Freshness::Fresh,
        };
        self.count(match (item.is_placeholder(), terms.expiry) {
            (true, _) => Figure::GetMisses,
            (false, NewExpiry::At(_)) => Figure::TouchHits,
            (false, NewExpiry::Kept) => Figure::GetHits,
        });
        if lease == Lease::Won {
            self.count(Figure::LeasesWon);
        }
        if freshness == Freshness::Stale {
            self.count(Figure::StaleServed);
        }
        Leased {
            item: Some(item),
            large: hold(self.shared, &item),
            lease,
            freshness,
            history: History::by(marks),
            read_at_ms,
            expires_at_ms_before,
        }
    }

    /// Ends a lease without a new value: the next caller of [`Guard::get_or_lease`] wins. A
    /// placeholder goes with it. False if the item has not this version, or is not leased.
    pub fn end_lease(&mut self, key: &Key<'_>, version: u64) -> bool {
        let Some((bucket, found, item)) = self.lock_version(key, version) else {
            return false;
        };
        let is_leased = found.entry.marks().has(Marks::LEASED);
        match (is_leased, item.is_placeholder()) {
            (true, true) => self.remove_found(bucket, &found),
            (true, false) => bucket.put(&found, found.entry.without(Marks::LEASED)),
            (false, _) => {}
        }
        is_leased
    }

    /// The item of the key under its bucket's lock, placeholders included, if it has this version.
    fn lock_version(
        &self,
        key: &Key<'_>,
        version: u64,
    ) -> Option<(LockedBucket<'s>, Found, Item<'s>)> {
        let shared = self.shared;
        let mut place = None;
        let key = shared.own(key, &mut place);
        // SAFETY: pinned for as long as the guard is.
        let seen = unsafe { shared.index.find(key.hash, key.bytes) }?;
        let bucket = self.lock(key);
        // SAFETY: pinned since before `seen` was found.
        let found = unsafe { bucket.find(key.hash, key.bytes, Some(&seen)) }?;
        let item = self.standing(&found)?;
        (item.version() == version).then_some((bucket, found, item))
    }

    /// Marks an item stale: it is served all the same, and the next caller of
    /// [`Guard::get_or_lease`] is told to store a new value, also if one was told before. The item
    /// gets a new version, so that what was read before cannot replace it by compare-and-set.
    ///
    /// A hidden placeholder is taken away, and answered as what it counts as: nothing.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; nothing was changed then.
    pub fn invalidate(
        &mut self,
        key: &Key<'_>,
        wanted: &Invalidation,
    ) -> Result<Invalidated, StoreError> {
        let placeholders = self.placeholders;
        loop {
            let written = self.write_over(key, &[], |old, _| match (old, wanted.version) {
                (None, _) => Plan::Answer(NotMarked::NotFound),
                (Some(old), _) if placeholders.hide(old) => {
                    Plan::Answer(NotMarked::Hidden(old.version()))
                }
                (Some(old), Some(version)) if version != old.version() => {
                    Plan::Answer(NotMarked::Exists)
                }
                (Some(old), _) => Plan::Put(wanted.put(old)),
            })?;
            match written {
                Written::Put { version, .. } => {
                    self.count(Figure::Invalidated);
                    return Ok(Invalidated::Marked { version });
                }
                Written::Answer(NotMarked::NotFound) => return Ok(Invalidated::NotFound),
                Written::Answer(NotMarked::Exists) => {
                    self.count(Figure::CasMismatches);
                    return Ok(Invalidated::Exists);
                }
                Written::Answer(NotMarked::Hidden(version)) => {
                    if wanted.version.is_some_and(|wanted| wanted != version) {
                        return Ok(Invalidated::NotFound);
                    }
                    // Where it is gone by now, there may be something to mark.
                    if let Some((bucket, found, item)) = self.lock_version(key, version)
                        && item.is_placeholder()
                    {
                        self.remove_found(bucket, &found);
                        return Ok(Invalidated::NotFound);
                    }
                }
            }
        }
    }
}

/// When the item that an entry names was last read, where the cache keeps that.
pub(crate) fn read_at(shared: &Shared, entry: Entry, item: &Item<'_>) -> Option<u64> {
    let last_read = item.last_read(&shared.arena, entry.offset());
    last_read.map(LastRead::ms)
}

/// Why an item was not marked.
enum NotMarked {
    NotFound,
    Exists,
    /// It is a placeholder of this version.
    Hidden(u64),
}

impl Invalidation {
    fn put(&self, old: &Item<'_>) -> Put {
        let expires_at_ms = match self.expiry {
            NewExpiry::Kept => old.expires_at_ms(),
            NewExpiry::At(at_ms) => at_ms,
        };
        let gets = match self.freshness {
            Freshness::Fresh => Marks::NONE,
            Freshness::Stale => Marks::STALE,
        };
        let put = match self.value {
            OldValue::Kept => Put {
                version: None,
                keeps: Marks::FETCHED,
                ..Put::again(old, expires_at_ms)
            },
            OldValue::Dropped => Put::new(NewValue::Given, 0, expires_at_ms),
        };
        Put { gets, ..put }.chosen(self.new_version)
    }
}
