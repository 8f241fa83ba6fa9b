//! What a cache says about itself, by name: whatever it offers is used, and the rest is left out.

use super::tally::ratio;
use crate::engine::Cache;

/// Bytes that were stored, as the cache counts them.
const STORED: &str = "stored_bytes";
/// Bytes that eviction moved to keep them.
const EVICT_MOVED: &str = "evict_moved_bytes";
/// Bytes that cleaning moved to free those between them.
const CLEAN_MOVED: &str = "clean_moved_bytes";
/// The whole budget.
const MEMORY: &str = "memory_bytes";
/// Of the budget, what live items take, and what the large ones among them do.
const LIVE: &str = "live_bytes";
const LARGE: &str = "large_bytes";
/// What the name of every line of the ledger ends in.
const LEDGER_ENDING: &str = "_bytes";
/// What ends so too, and is no part of the budget: counts since the start, a unit, and how much of it the
/// system keeps in huge pages.
const NOT_IN_THE_LEDGER: &[&str] = &[
    STORED,
    EVICT_MOVED,
    CLEAN_MOVED,
    "scrubbed_bytes",
    "segment_bytes",
    "huge_page_bytes",
];

/// The group of a server's figures that tells about its cache.
pub(super) const GROUP: &str = "cache";

/// All figures of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Figures(Vec<(String, u64)>);

impl Figures {
    pub(super) fn of(cache: &Cache) -> Self {
        let figures = cache.stats().figures().into_iter();
        Self(
            figures
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    /// The figures of a server; what is no number is left out.
    pub(super) fn parse(figures: Vec<(String, String)>) -> Self {
        let number = |(name, value): (String, String)| Some((name, value.parse().ok()?));
        Self(figures.into_iter().filter_map(number).collect())
    }

    /// The figures with what was counted before taken off.
    pub(super) fn since(mut self, before: &Self) -> Self {
        for (name, value) in &mut self.0 {
            if [STORED, EVICT_MOVED, CLEAN_MOVED].contains(&&name[..]) {
                *value = value.saturating_sub(before.find(name).unwrap_or(0));
            }
        }
        self
    }

    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.find(MEMORY)
    }

    /// Bytes that were stored, if the cache counts them.
    pub(super) fn stored_bytes(&self) -> Option<u64> {
        self.find(STORED)
    }

    pub(super) fn evict_moved_bytes(&self) -> Option<u64> {
        self.find(EVICT_MOVED)
    }

    pub(super) fn clean_moved_bytes(&self) -> Option<u64> {
        self.find(CLEAN_MOVED)
    }

    /// The share of the budget that live items take, large ones included.
    pub(super) fn live_share(&self) -> Option<f64> {
        let live_bytes = self.find(LIVE)? + self.find(LARGE).unwrap_or(0);
        ratio(live_bytes, self.find(MEMORY)?)
    }

    /// The lines of the memory ledger, and at their end the budget, which is their sum.
    pub(super) fn ledger(&self) -> impl Iterator<Item = (&str, u64)> {
        let figures = self.0.iter().map(|(name, value)| (&name[..], *value));
        let lines = figures.filter(|(name, _)| {
            name.ends_with(LEDGER_ENDING) && *name != MEMORY && !NOT_IN_THE_LEDGER.contains(name)
        });
        lines.chain(self.memory_bytes().map(|bytes| (MEMORY, bytes)))
    }

    fn find(&self, name: &str) -> Option<u64> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }
}
