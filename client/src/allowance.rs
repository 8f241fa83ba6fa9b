//! How much time a call has.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::bounded;
use crate::error::Cause;

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

    /// Whether nothing may begin now, however much time the configuration gives.
    pub(crate) fn is_used_up(self) -> bool {
        self.left(Duration::MAX).is_zero()
    }

    /// How long the server is waited for by a stream that begins now.
    pub(crate) fn patience(self, configured: Duration) -> Patience {
        let deadline = match self {
            Self::Until(deadline) => Some(deadline),
            Self::Configured | Self::Each(_) => None,
        };
        Patience {
            after: bounded(self.left(configured)),
            deadline,
        }
    }

    /// Whether the time is over for all that begins now.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Until(deadline) if deadline <= Instant::now())
    }
}

/// How long a stream waits for the server: for so long whenever nothing moves, or until a moment, however
/// much moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long nothing may move, or how much time there was in the beginning.
    after: Duration,
    deadline: Option<Instant>,
}

impl Patience {
    /// Whether there was no time from the beginning.
    pub(crate) fn is_none(self) -> bool {
        self.after.is_zero()
    }

    /// When it is over for what is waited for from now on.
    pub(crate) fn end(self) -> Instant {
        self.deadline.unwrap_or_else(|| Instant::now() + self.after)
    }

    /// Whether it is over, also where the server has more.
    pub(crate) fn is_over(self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Waits until it [is over](Self::is_over).
    pub(crate) async fn over(self) {
        match self.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    /// No more than so much from now on.
    pub(crate) fn at_most(self, time: Duration) -> Self {
        let after = self.after.min(time);
        let sooner = |deadline: Instant| deadline.min(Instant::now() + after);
        Self {
            after,
            deadline: self.deadline.map(sooner),
        }
    }

    /// What it is that it is over.
    pub(crate) fn timeout(self) -> Cause {
        Cause::Timeout { after: self.after }
    }
}
