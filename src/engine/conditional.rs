//! Operations that may depend on the item's version, and change more than one thing about it: what a
//! counter and an append can do beyond their plain forms in [`operations`](super::operations).

use crate::engine::cache::Key;
use crate::engine::guard::Guard;
use crate::engine::in_place::Versioned;
use crate::engine::index::word::Marks;
use crate::engine::item::{self, Item};
use crate::engine::lease::NewExpiry;
use crate::engine::operations::{Arithmetic, Entry, Initial, Outcome};
use crate::engine::stats::Figure;
use crate::engine::write::{NewValue, Plan, Put, StoreError, Written};

/// An increment or decrement with all that can go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calculation {
    /// What to do to the number.
    pub by: Arithmetic,
    /// What an absent counter starts with; `None`: it stays absent.
    pub initial: Option<Initial>,
    /// The version that a present item must have; `None`: any.
    pub version: Option<u64>,
    /// When a present item expires from now on.
    pub expiry: NewExpiry,
    /// The version that the counter gets; `None`: one of the cache's own.
    pub new_version: Option<u64>,
}

/// How a calculation ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calculated {
    /// The counter has a new value.
    Value(Counted),
    /// There is no such key, and no initial value was given.
    NotFound,
    /// The item's value is not an unsigned 64-bit number in decimal digits.
    NotANumber,
    /// The item has another version.
    Exists,
}

/// A counter after a calculation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// The value after the operation.
    pub value: u64,
    /// The item's new version.
    pub version: u64,
    /// When the item expires; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// When the item was to expire before; `None`: never, as one that is new.
    pub expires_at_ms_before: Option<u64>,
    /// Whether the operation has made the item.
    pub is_new: bool,
}

/// The end of a value that something is added at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the value.
    Front,
    /// Behind the value.
    Back,
}

impl Guard<'_> {
    /// Adds to, or subtracts from, a number in decimal digits. The item keeps its flags; an absent
    /// one is created with the initial value, if there is one.
    ///
    /// # Errors
    ///
    /// If no memory could be freed; nothing was changed then.
    pub fn calculate(
        &mut self,
        key: &Key<'_>,
        calculation: &Calculation,
    ) -> Result<Calculated, StoreError> {
        if let Some(calculated) = self.calculate_in_place(key, calculation) {
            if calculated != Calculated::Exists {
                self.count(Figure::CountedInPlace);
            }
            self.note(calculation.by, calculated);
            return Ok(calculated);
        }
        let mut counted = Counted::default();
        let written = self.write(key, &[], |old| {
            Plan::Put(match (old, calculation.initial) {
                (Some(old), _) if differs(old, calculation.version) => {
                    return Plan::Answer(Calculated::Exists);
                }
                (Some(old), _) => {
                    let Some(number) = old.number() else {
                        return Plan::Answer(Calculated::NotANumber);
                    };
                    let before = old.expires_at_ms();
                    counted = Counted {
                        value: calculation.by.apply(number),
                        version: 0,
                        expires_at_ms: match calculation.expiry {
                            NewExpiry::Kept => before,
                            NewExpiry::At(expires_at_ms) => expires_at_ms,
                        },
                        expires_at_ms_before: before,
                        is_new: false,
                    };
                    let put = counted.put(old.flags(), calculation);
                    // Counting is no reading, and takes no reading back.
                    put.keeping(Marks::STALE.and(Marks::FETCHED))
                }
                (None, Some(initial)) => {
                    counted = Counted {
                        value: initial.value,
                        version: 0,
                        expires_at_ms: initial.expires_at_ms,
                        expires_at_ms_before: None,
                        is_new: true,
                    };
                    counted.put(0, calculation)
                }
                (None, None) => return Plan::Answer(Calculated::NotFound),
            })
        })?;
        let calculated = match written {
            Written::Put { version, .. } => Calculated::Value(Counted { version, ..counted }),
            Written::Answer(calculated) => calculated,
        };
        self.note(calculation.by, calculated);
        Ok(calculated)
    }

    /// Counts how a calculation ended.
    fn note(&self, by: Arithmetic, calculated: Calculated) {
        let (figure, of_decrements) = match calculated {
            Calculated::Value(Counted { is_new: true, .. }) => {
                return self.count(Figure::CountersCreated);
            }
            Calculated::Value(_) => (Figure::CounterHits, Figure::DecrementHits),
            Calculated::NotFound => (Figure::CounterMisses, Figure::DecrementMisses),
            Calculated::NotANumber => return,
            Calculated::Exists => return self.count(Figure::CasMismatches),
        };
        self.count(figure);
        if matches!(by, Arithmetic::Decrement(_)) {
            self.count(of_decrements);
        }
    }

    /// Calculates with a number that can change in place; `None` if the key's value is none, or the
    /// item has to change as well.
    fn calculate_in_place(
        &mut self,
        key: &Key<'_>,
        calculation: &Calculation,
    ) -> Option<Calculated> {
        if calculation.expiry != NewExpiry::Kept || calculation.new_version.is_some() {
            return None;
        }
        let shared = self.shared;
        let mut place = None;
        let key = shared.own(key, &mut place);
        loop {
            // SAFETY: pinned for as long as the guard is.
            let seen = unsafe { shared.index.find(key.hash, key.bytes) }?;
            if !self.live(&seen)?.is_in_place() {
                return None;
            }
            let version = self.writer.next_version(shared);
            let bucket = self.lock(key);
            // SAFETY: pinned since before `seen` was found.
            let found = unsafe { bucket.find(key.hash, key.bytes, Some(&seen)) }?;
            let old = self.live(&found).filter(Item::is_in_place)?;
            // A lease ends with the version that it was for: in one store, that of another word.
            if found.entry.marks().has(Marks::LEASED) {
                return None;
            }
            if differs(&old, calculation.version) {
                return Some(Calculated::Exists);
            }
            // A flush that came in between would take the new version, though not what it counts.
            if version > shared.flushed_version() {
                let value = calculation.by.apply(old.number()?);
                let number = item::number_at(&shared.arena, found.entry.offset());
                number.update(Versioned { value, version });
                shared.index.bump_unread(&found);
                self.note_read_at(&found, &old);
                let expires_at_ms = old.expires_at_ms();
                return Some(Calculated::Value(Counted {
                    value,
                    version,
                    expires_at_ms,
                    expires_at_ms_before: expires_at_ms,
                    is_new: false,
                }));
            }
        }
    }

    /// Adds the entry's value to that of a present item, which keeps its flags and expiry, and gets the
    /// entry's version; with a `version`, only if the item has it. Gives how that ended, and the length
    /// of the value where it is stored.
    ///
    /// # Errors
    ///
    /// If the value would be too large, or no memory could be freed; nothing was changed then.
    pub fn join(
        &mut self,
        key: &Key<'_>,
        side: Side,
        entry: &Entry<'_>,
        version: Option<u64>,
    ) -> Result<(Outcome, u64), StoreError> {
        let joined = loop {
            let joined = match self.join_large(key, side, entry, version) {
                None => self.join_inline(key, side, entry, version)?,
                Some(joined) => Some(joined?),
            };
            // Whether the result is a large value can change in between.
            if let Some(joined) = joined {
                break joined;
            }
        };
        self.note_store(joined.0, version.is_some());
        Ok(joined)
    }

    /// [`Guard::join`] of what lies beside its key in the end; `None` if it would not.
    fn join_inline(
        &mut self,
        key: &Key<'_>,
        side: Side,
        entry: &Entry<'_>,
        version: Option<u64>,
    ) -> Result<Option<(Outcome, u64)>, StoreError> {
        let given = entry.value;
        let value = match side {
            Side::Front => NewValue::GivenThenOld,
            Side::Back => NewValue::OldThenGiven,
        };
        let inline_bytes_max = self.shared.geometry.inline_bytes_max;
        let mut value_bytes = 0;
        let written = self.write(key, given, |old| match old {
            None => Plan::Answer(Some(Outcome::NotStored)),
            Some(old) if differs(old, version) => Plan::Answer(Some(Outcome::Exists)),
            Some(old) => {
                value_bytes = old.value_bytes() + given.len() as u64;
                if value_bytes > inline_bytes_max {
                    return Plan::Answer(None);
                }
                let joined = Put::new(value, old.flags(), old.expires_at_ms());
                Plan::Put(joined.made_from_value().chosen(entry.new_version))
            }
        })?;
        Ok(match written {
            Written::Put { version, .. } => Some((Outcome::Stored { version }, value_bytes)),
            Written::Answer(outcome) => outcome.map(|outcome| (outcome, 0)),
        })
    }
}

impl Counted {
    /// The item to be stored.
    fn put(&self, flags: u32, calculation: &Calculation) -> Put {
        let number = NewValue::Number(self.value);
        Put::new(number, flags, self.expires_at_ms).chosen(calculation.new_version)
    }
}

/// Whether an item has another version than the one that was asked for.
fn differs(item: &Item<'_>, version: Option<u64>) -> bool {
    version.is_some_and(|version| version != item.version())
}
