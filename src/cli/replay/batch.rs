//! Requests as they are handed out: many at a time, none earlier than the one before it, some of
//! them turned into overwrites.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::request::{Operation, Request};
use super::trace::{Trace, TraceError};

/// LIMIT: enough to share the cost of handing them out, few enough to stay in a core's cache.
const REQUESTS_MAX: usize = 4096;

/// Requests that follow each other.
#[derive(Debug)]
pub(super) struct Batch {
    /// How many came before.
    pub(super) first_number: u64,
    pub(super) requests: Vec<Request>,
}

/// Which reads become overwrites.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Overwrites {
    /// 0 to 1.
    pub(super) share: f64,
    pub(super) seed: u64,
}

impl Overwrites {
    /// Whether the request of this number is one of them. The same for every run with one seed.
    fn take(self, number: u64) -> bool {
        let hash = xxh3_64_with_seed(&number.to_le_bytes(), self.seed);
        // The upper 53 bits: as many as a fraction has.
        ((hash >> 11) as f64) < self.share * (1_u64 << 53) as f64
    }
}

/// The batches of a trace.
pub(super) struct Batches<'r> {
    trace: Trace<'r>,
    overwrites: Overwrites,
    number: u64,
    latest_ms: u64,
}

impl<'r> Batches<'r> {
    pub(super) fn new(trace: Trace<'r>, overwrites: Overwrites) -> Self {
        Self {
            trace,
            overwrites,
            number: 0,
            latest_ms: 0,
        }
    }

    fn next_batch(&mut self) -> Result<Batch, TraceError> {
        let first_number = self.number;
        let mut requests = Vec::with_capacity(REQUESTS_MAX);
        for request in self.trace.by_ref().take(REQUESTS_MAX) {
            let mut request = request?;
            // Traces that were merged go back a little; a cache's clock must not.
            self.latest_ms = self.latest_ms.max(request.time_ms);
            request.time_ms = self.latest_ms;
            if request.operation == Operation::Get && self.overwrites.take(self.number) {
                request.operation = Operation::Overwrite;
            }
            self.number += 1;
            requests.push(request);
        }
        Ok(Batch {
            first_number,
            requests,
        })
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next_batch();
        match &batch {
            Ok(batch) if batch.requests.is_empty() => None,
            _ => Some(batch),
        }
    }
}
