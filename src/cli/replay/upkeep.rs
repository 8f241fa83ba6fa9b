//! What a cache does between requests, and when it is due.

use crate::engine::Session;

/// LIMIT: requests between two rounds, where the trace's clock stands still.
const REQUESTS_MAX: u32 = 4096;

/// When the next round is due: at every new second of the trace, and after so many requests.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    second: u64,
    requests: u32,
}

impl Schedule {
    /// Counts a request at this time; whether a round is due before it.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1000;
        let is_due = second != self.second || self.requests >= REQUESTS_MAX;
        if is_due {
            *self = Self {
                second,
                requests: 0,
            };
        }
        self.requests += 1;
        is_due
    }
}

/// One round. The engine does its upkeep within its writes, so there is nothing to do yet.
pub(super) fn upkeep(_session: &mut Session, _now_ms: u64) {}
