//! The operations that write, in terms of plans.

use crate::engine::cache::Key;
use crate::engine::conditional::{Calculated, Calculation, Side};
use crate::engine::guard::{Guard, Placeholders};
use crate::engine::index::Found;
use crate::engine::index::bucket::LockedBucket;
use crate::engine::index::word::Marks;
use crate::engine::item::Item;
use crate::engine::lease::NewExpiry;
use crate::engine::log::segment::Log;
use crate::engine::stats::Figure;
use crate::engine::write::{Depends, NewValue, Plan, Put, StoreError, Written};

/// What a store does, depending on what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Stores.
    Set,
    /// Stores if the key is absent.
    Add,
    /// Stores if the key is present.
    Replace,
    /// Adds the value behind that of the present item, which keeps its flags and expiry.
    Append,
    /// Adds the value before that of the present item, which keeps its flags and expiry.
    Prepend,
    /// Stores if the present item has this version.
    CompareAndSet {
        /// The version that the caller has read.
        version: u64,
    },
    /// Stores if the present item has this version; and if the key had it before, stores too, but
    /// the value is stale from the start. Then the item keeps its expiry, and whoever was told to
    /// renew it is still to do so.
    ///
    /// (A version that differs from the present one and was ever given out is taken for an earlier
    /// one of the key: whoever names it has read it there. Where the present one was
    /// [chosen](Entry::new_version), earlier ones are lower.)
    CompareAndSetStale {
        /// The version that the caller has read.
        version: u64,
    },
}

impl Mode {
    /// Whether the store depends on a version.
    pub(crate) fn compares(self) -> bool {
        matches!(
            self,
            Self::CompareAndSet { .. } | Self::CompareAndSetStale { .. }
        )
    }
}

/// What is stored under a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry<'v> {
    /// The value: any bytes, also none.
    pub value: &'v [u8],
    /// 32 bits for the client's own use.
    pub flags: u32,
    /// When the item expires, in milliseconds of the guard's clock; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// The version that the item gets, whatever others have; `None`: one of the cache's own.
    pub new_version: Option<u64>,
}

impl<'v> Entry<'v> {
    /// A value without flags that does not expire.
    pub fn of(value: &'v [u8]) -> Self {
        Self {
            value,
            ..Self::default()
        }
    }
}

/// How a store ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, with this version.
    Stored {
        /// The new item's version.
        version: u64,
    },
    /// Not stored: the key was present ([`Mode::Add`]) or absent (replace, append, prepend).
    NotStored,
    /// Not stored: the item has another version.
    Exists,
    /// Not stored: there is no item to compare the version with.
    NotFound,
}

/// What to do to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Adds; past 2^64 - 1 it goes on from 0.
    Increment(u64),
    /// Subtracts; stops at 0.
    Decrement(u64),
}

impl Arithmetic {
    pub(crate) fn apply(self, value: u64) -> u64 {
        match self {
            Self::Increment(by) => value.wrapping_add(by),
            Self::Decrement(by) => value.saturating_sub(by),
        }
    }
}

/// What a counter starts with where it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initial {
    /// The value stored, to which nothing is added yet.
    pub value: u64,
    /// When the new item expires; `None`: never.
    pub expires_at_ms: Option<u64>,
}

/// How an increment or decrement ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// The counter now has this value.
    Value {
        /// The value after the operation.
        value: u64,
        /// The item's new version.
        version: u64,
    },
    /// There is no such key, and no initial value was given.
    NotFound,
    /// The item's value is not an unsigned 64-bit number in decimal digits.
    NotANumber,
}

/// How a delete ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The item is gone.
    Deleted,
    /// There was none.
    NotFound,
    /// The item has another version, and stays.
    Exists,
}

impl Guard<'_> {
    /// Stores a value. [`Mode::Append`] and [`Mode::Prepend`] do not use the entry's flags and expiry.
    ///
    /// # Errors
    ///
    /// If the item is too large, or no memory could be freed; nothing was changed then.
    pub fn store(
        &mut self,
        key: &Key<'_>,
        mode: Mode,
        entry: &Entry<'_>,
    ) -> Result<Outcome, StoreError> {
        let side = match mode {
            Mode::Set => match self.set_plain(key, entry) {
                Some(version) => {
                    self.count(Figure::Stored);
                    return Ok(Outcome::Stored { version });
                }
                None => None,
            },
            Mode::Append => Some(Side::Back),
            Mode::Prepend => Some(Side::Front),
            _ => None,
        };
        if let Some(side) = side {
            return Ok(self.join(key, side, entry, None)?.0);
        }
        if self.is_large(entry.value.len() as u64) {
            let plan = self.store_plan(mode, entry, NewValue::Described);
            let outcome = self.store_pieces(key, &[entry.value], |old| plan.decide(old))?;
            self.note_store(outcome, mode.compares());
            return Ok(outcome);
        }
        let plan = self.store_plan(mode, entry, NewValue::Given);
        let written = self.write_over(key, entry.value, |old, _| plan.decide(old))?;
        let outcome = written.outcome();
        self.note_store(outcome, mode.compares());
        Ok(outcome)
    }

    /// Counts how a store ended that depended on a version, or did not.
    #[inline]
    pub(crate) fn note_store(&self, outcome: Outcome, compares: bool) {
        self.count(match outcome {
            Outcome::Stored { .. } => Figure::Stored,
            Outcome::Exists => {
                self.count(Figure::CasMismatches);
                Figure::StoreMismatches
            }
            Outcome::NotStored | Outcome::NotFound => Figure::NotStored,
        });
        match (compares, outcome) {
            (true, Outcome::Stored { .. }) => self.count(Figure::CasHits),
            (true, Outcome::NotStored | Outcome::NotFound) => self.count(Figure::CasMisses),
            _ => {}
        }
    }

    pub(crate) fn store_plan(&self, mode: Mode, entry: &Entry<'_>, value: NewValue) -> StorePlan {
        StorePlan {
            mode,
            value,
            flags: entry.flags,
            expires_at_ms: entry.expires_at_ms,
            new_version: entry.new_version,
            placeholders: self.placeholders,
            versions_taken: match mode {
                Mode::CompareAndSetStale { .. } => self.shared.versions_taken(),
                _ => 0,
            },
        }
    }

    /// Stores an item whose value is described, as planned by a [`StorePlan`]; tells the log that it
    /// went to.
    pub(crate) fn store_described(
        &mut self,
        key: &Key<'_>,
        description: &[u8],
        mut plan: impl FnMut(Option<&Item<'_>>) -> Plan<Outcome>,
    ) -> Result<(Outcome, Option<Log>), StoreError> {
        let written = self.write_over(key, description, |old, _| plan(old))?;
        let log = match &written {
            Written::Put { entry, .. } => Some(self.shared.segments.label_at(entry.offset()).log),
            Written::Answer(_) => None,
        };
        Ok((written.outcome(), log))
    }

    /// Adds to, or subtracts from, a number in decimal digits. The item keeps its flags and expiry;
    /// an absent one is created with the initial value, if there is one.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; nothing was changed then.
    pub fn arithmetic(
        &mut self,
        key: &Key<'_>,
        by: Arithmetic,
        initial: Option<Initial>,
    ) -> Result<Counter, StoreError> {
        let calculation = Calculation {
            by,
            initial,
            version: None,
            expiry: NewExpiry::Kept,
            new_version: None,
        };
        Ok(match self.calculate(key, &calculation)? {
            Calculated::Value(counted) => Counter::Value {
                value: counted.value,
                version: counted.version,
            },
            Calculated::NotANumber => Counter::NotANumber,
            // INVARIANT: without a version there is none that could differ.
            Calculated::NotFound | Calculated::Exists => Counter::NotFound,
        })
    }

    /// Changes when an item expires; false if there is none. The version stays.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; nothing was changed then.
    pub fn touch(&mut self, key: &Key<'_>, expires_at_ms: Option<u64>) -> Result<bool, StoreError> {
        Ok(self.get_and_touch(key, expires_at_ms)?.is_some())
    }

    /// Reads an item and changes when it expires. The version stays.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; nothing was changed then.
    pub fn get_and_touch(
        &mut self,
        key: &Key<'_>,
        expires_at_ms: Option<u64>,
    ) -> Result<Option<Item<'_>>, StoreError> {
        let written = self.write(key, &[], |old| match old {
            Some(old) => Plan::Put(Put {
                gets: Marks::FETCHED,
                ..Put::again(old, expires_at_ms)
            }),
            None => Plan::Answer(()),
        })?;
        match written {
            Written::Put { entry, .. } => {
                self.count(Figure::TouchHits);
                // SAFETY: published under this guard's pin, which was not renewed since.
                Ok(Some(unsafe { self.shared.item(entry) }))
            }
            Written::Answer(()) => {
                self.count(Figure::TouchMisses);
                Ok(None)
            }
        }
    }

    /// Deletes an item; with a version, only if the item has it.
    pub fn delete(&mut self, key: &Key<'_>, version: Option<u64>) -> Deletion {
        let deletion = self.delete_uncounted(key, version);
        self.count(match deletion {
            Deletion::Deleted => Figure::DeleteHits,
            Deletion::NotFound => Figure::DeleteMisses,
            Deletion::Exists => {
                self.count(Figure::CasMismatches);
                Figure::DeleteMismatches
            }
        });
        deletion
    }

    /// A placeholder goes too, whatever it is taken for.
    pub(crate) fn delete_uncounted(&mut self, key: &Key<'_>, version: Option<u64>) -> Deletion {
        let shared = self.shared;
        let mut place = None;
        let key = shared.own(key, &mut place);
        // SAFETY: pinned for as long as the guard is.
        let Some(seen) = (unsafe { shared.index.find(key.hash, key.bytes) }) else {
            return Deletion::NotFound;
        };
        let bucket = self.lock(key);
        // SAFETY: pinned since before `seen` was found.
        let Some(found) = (unsafe { bucket.find(key.hash, key.bytes, Some(&seen)) }) else {
            return Deletion::NotFound;
        };
        let standing = self.standing(&found);
        let live = standing.filter(|item| !self.placeholders.hide(item));
        if let (Some(standing), Some(wanted)) = (standing, version)
            && standing.version() != wanted
        {
            return live.map_or(Deletion::NotFound, |_| Deletion::Exists);
        }
        self.remove_found(bucket, &found);
        match live {
            Some(_) => Deletion::Deleted,
            None => Deletion::NotFound,
        }
    }

    /// Removes an entry of a locked bucket, and accounts for it.
    pub(crate) fn remove_found(&mut self, bucket: LockedBucket<'_>, found: &Found) {
        let shared = self.shared;
        let unlinked = bucket.clear(found);
        drop(bucket);
        shared.index.return_unlinked(unlinked, &self.pin);
        self.writer.tally.removed(shared, &self.pin, found.entry);
        self.writer.tally.count_removal(shared);
    }
}

/// How a store decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StorePlan {
    mode: Mode,
    value: NewValue,
    flags: u32,
    expires_at_ms: Option<u64>,
    new_version: Option<u64>,
    placeholders: Placeholders,
    /// Versions below this may have been given out, where the mode asks for that.
    versions_taken: u64,
}

impl StorePlan {
    /// The plan, with what is there of the key, placeholders included.
    pub(crate) fn decide(&self, old: Option<&Item<'_>>) -> Plan<Outcome> {
        let live = old.filter(|old| !self.placeholders.hide(old));
        Plan::Put(match (self.mode, live) {
            (Mode::Set, _) => Put {
                depends: Depends::OnNothing,
                ..self.given()
            },
            (Mode::Add, None) | (Mode::Replace, Some(_)) => self.given(),
            (Mode::CompareAndSet { version } | Mode::CompareAndSetStale { version }, _) => {
                // Who holds a lease names the version of the placeholder, seen or not.
                match old.is_some_and(|old| old.version() == version) {
                    true => self.given(),
                    false => return self.decide_outdated(live),
                }
            }
            // INVARIANT: what is added to a value is joined, and not planned here.
            (Mode::Add, Some(_)) | (Mode::Replace, None) | (Mode::Append | Mode::Prepend, _) => {
                return Plan::Answer(Outcome::NotStored);
            }
        })
    }

    /// A compare-and-set that found another version than it names.
    fn decide_outdated(&self, live: Option<&Item<'_>>) -> Plan<Outcome> {
        match (self.mode, live) {
            (_, None) => Plan::Answer(Outcome::NotFound),
            (Mode::CompareAndSetStale { version }, Some(live))
                if self.is_earlier(version, live) =>
            {
                Plan::Put(Put {
                    expires_at_ms: live.expires_at_ms(),
                    keeps: Marks::LEASED,
                    gets: Marks::STALE,
                    ..self.given()
                })
            }
            (_, Some(_)) => Plan::Answer(Outcome::Exists),
        }
    }

    /// Whether a version is from before that of the item, which has another.
    fn is_earlier(&self, version: u64, live: &Item<'_>) -> bool {
        match live.chosen_version() {
            Some(chosen) => version < chosen,
            None => (1..self.versions_taken).contains(&version),
        }
    }

    fn given(&self) -> Put {
        Put::new(self.value, self.flags, self.expires_at_ms).chosen(self.new_version)
    }
}
