//! A limit on how often somebody may do something, counted in Larder, so that all processes of a
//! service count together.
//!
//! A window begins with the first request and is a counter that expires: one `increment` that creates
//! it where there is none, and no other state. Whoever is past the limit is told when to come back.

use std::time::Duration;

use larder_client::{Client, Error, ExpiryLeft};

/// How often, and in what time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) requests: u64,
    pub(crate) window: Duration,
}

/// Counts what callers do.
#[derive(Clone, Debug)]
pub(crate) struct Limiter {
    counters: Client,
    limit: Limit,
}

/// Whether a caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may, and so often again.
    Allowed { left: u64 },
    /// Not before this time is over.
    Refused { retry_in: Duration },
}

impl Limiter {
    pub(crate) fn new(counters: Client, limit: Limit) -> Self {
        Self { counters, limit }
    }

    /// Counts one request of a caller.
    pub(crate) async fn check(&self, caller: &str) -> Result<Verdict, Error> {
        let Limit { requests, window } = self.limit;
        let key = format!("limit:{caller}");
        let counting = self.counters.increment(&key).initial(1).expire_in(window);
        // With an initial number there is always a counter.
        let count = counting.await?.map_or(1, |counter| counter.number);
        if count <= requests {
            let left = requests - count;
            return Ok(Verdict::Allowed { left });
        }
        let counter = self.counters.get_with_expiry(&key).await?;
        let retry_in = match counter.map(|counter| counter.expiry_left) {
            Some(ExpiryLeft::Ms(left_ms)) => Duration::from_millis(left_ms),
            _ => Duration::ZERO,
        };
        Ok(Verdict::Refused { retry_in })
    }
}
