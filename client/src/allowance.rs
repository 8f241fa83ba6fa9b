//! How much time a call has.

use std::time::Duration;

use tokio::time::Instant;

/// How much time the calls of a handle have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allowance {
    /// As much as the configuration says, each.
    Configured,
    /// So much, each.
    Each(Duration),
    /// All of them until then.
    Until(Instant),
}

impl Allowance {
    /// How long a request that begins now may take.
    pub(crate) fn left(self, configured: Duration) -> Duration {
        match self {
            Self::Configured => configured,
            Self::Each(time) => time,
            Self::Until(deadline) => deadline.saturating_duration_since(Instant::now()),
        }
    }

    /// Whether the time is over for all that begins now.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Until(deadline) if deadline <= Instant::now())
    }
}
