//! Pauses between attempts: each twice as long as the one before, and drawn by chance, so that those
//! who failed together do not come back together.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A growing pause.
#[derive(Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let next = first;
        Self { next, longest }
    }

    /// Waits.
    pub(crate) async fn pause(&mut self) {
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        tokio::time::sleep(pause).await;
    }
}

/// A time from the upper half of this one.
pub(crate) fn jittered(longest: Duration) -> Duration {
    // The standard library seeds its hashers at random, which is all the chance that is needed.
    let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    longest.mul_f64(0.5 + chance / 2.0)
}
