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

/// LIMIT: steps of one round.
const STEPS_MAX: u32 = 32_768;

/// One round: what has expired leaves, and the next segments are made free.
pub(super) fn upkeep(session: &mut Session, now_ms: u64) {
    (0..STEPS_MAX).find(|_| !session.maintain(now_ms));
}
