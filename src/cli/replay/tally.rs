//! What came of the requests.

use super::request::{Operation, Request};

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    Miss,
}

/// Counts of one session, or of several added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Tally {
    pub(super) requests: u64,
    /// Reads, those that became overwrites aside.
    pub(super) gets: u64,
    pub(super) hits: u64,
    pub(super) get_bytes: u64,
    pub(super) hit_bytes: u64,
    /// Reads that became overwrites.
    pub(super) overwrites: u64,
    /// Stores, those after a miss and the overwrites included, that were carried out.
    pub(super) stored: u64,
    /// Keys and values of these.
    pub(super) inserted_bytes: u64,
    /// Stores whose condition did not hold, and counters that are no numbers.
    pub(super) not_stored: u64,
    /// Stores of items that are too large for the cache.
    pub(super) too_large: u64,
    /// Stores that no memory could be freed for.
    pub(super) no_space: u64,
    /// Deletes that found their key.
    pub(super) deleted: u64,
    /// Requests whose size is below the length of their key, which is stored with no value.
    pub(super) undersized: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            requests,
            gets,
            hits,
            get_bytes,
            hit_bytes,
            overwrites,
            stored,
            inserted_bytes,
            not_stored,
            too_large,
            no_space,
            deleted,
            undersized,
        } = other;
        self.requests += requests;
        self.gets += gets;
        self.hits += hits;
        self.get_bytes += get_bytes;
        self.hit_bytes += hit_bytes;
        self.overwrites += overwrites;
        self.stored += stored;
        self.inserted_bytes += inserted_bytes;
        self.not_stored += not_stored;
        self.too_large += too_large;
        self.no_space += no_space;
        self.deleted += deleted;
        self.undersized += undersized;
    }

    /// Counts a request, whatever it asks for.
    pub(super) fn begin(&mut self, request: &Request) {
        self.requests += 1;
        self.undersized += u64::from(request.value_bytes().is_none());
        self.overwrites += u64::from(request.operation == Operation::Overwrite);
    }

    /// Counts what a read found.
    pub(super) fn read(&mut self, request: &Request, found: Found) {
        let size_bytes = u64::from(request.size_bytes);
        self.gets += 1;
        self.get_bytes += size_bytes;
        if found == Found::Hit {
            self.hits += 1;
            self.hit_bytes += size_bytes;
        }
    }

    /// Counts a value that was stored under the request's key.
    pub(super) fn stored(&mut self, request: &Request, value_bytes: usize) {
        self.stored += 1;
        self.inserted_bytes += (request.key.bytes().len() + value_bytes) as u64;
    }

    /// Counts a counter that was stored under the request's key.
    pub(super) fn counted(&mut self, request: &Request, value: u64) {
        let digits = value.checked_ilog10().unwrap_or(0) + 1;
        self.stored(request, digits as usize);
    }

    /// Hits of all reads, by number; nothing where there were no reads.
    pub(super) fn hit_ratio(&self) -> Option<f64> {
        ratio(self.hits, self.gets)
    }

    /// Hits of all reads, by bytes.
    pub(super) fn byte_hit_ratio(&self) -> Option<f64> {
        ratio(self.hit_bytes, self.get_bytes)
    }
}

/// A part of a whole; nothing where there is no whole.
pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
