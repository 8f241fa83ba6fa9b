//! What a client counts.
//!
//! A connection's driver counts answers a batch at a time, under one lock for the batch, so that
//! counting costs a request next to nothing.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::Error;

/// LIMIT: times are kept to about 1 %, from a microsecond up to this; longer ones count as this.
const LONGEST_US: u64 = 600_000_000;

/// What a client and its clones have done since the first of them was made; see
/// [`Client::metrics`](crate::Client::metrics).
///
/// A client in this process ([`Client::embedded`](crate::Client::embedded)) has nothing between
/// itself and the cache that is worth counting: all of it is 0.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Requests that a server answered, with whatever status.
    pub answered: u64,
    /// Calls that ended with [`Error::Refused`].
    pub refused: u64,
    /// Calls that ended with [`Error::NotExecuted`].
    pub not_executed: u64,
    /// Calls that ended with [`Error::Unknown`].
    pub unknown: u64,
    /// Requests that were sent again by themselves.
    pub resent: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Bytes that sockets took.
    pub sent_bytes: u64,
    /// Writes that took them.
    pub writes: u64,
    /// Bytes that came from sockets.
    pub received_bytes: u64,
    /// Reads that brought them.
    pub reads: u64,
    /// The time from the moment a request was put among those to be written until its answer was
    /// read, of all that were answered.
    pub latency: Latency,
}

/// How long answers took.
#[derive(Clone)]
pub struct Latency {
    us: Histogram<u64>,
}

/// Counts for a client and its clones.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    metrics: Mutex<Metrics>,
}

/// Counts the answers of one batch. Those whose requests were sent at one moment, as most of a batch
/// were, are counted together.
pub(crate) struct Batch<'m> {
    metrics: MutexGuard<'m, Metrics>,
    now: Instant,
    sent_at: Instant,
    answers: u64,
}

impl Meter {
    pub(crate) fn snapshot(&self) -> Metrics {
        self.metrics().clone()
    }

    pub(crate) fn connected(&self) {
        self.metrics().connections += 1;
    }

    pub(crate) fn failed_to_connect(&self) {
        self.metrics().connect_failures += 1;
    }

    pub(crate) fn resent(&self) {
        self.metrics().resent += 1;
    }

    pub(crate) fn sent(&self, bytes: usize) {
        let mut metrics = self.metrics();
        metrics.sent_bytes += bytes as u64;
        metrics.writes += 1;
    }

    pub(crate) fn failed(&self, error: &Error) {
        let mut metrics = self.metrics();
        match error {
            Error::NotExecuted(_) => metrics.not_executed += 1,
            Error::Unknown(_) => metrics.unknown += 1,
            Error::Refused { .. } => metrics.refused += 1,
        }
    }

    /// Counts what was read at once, and lets the answers in it be counted.
    pub(crate) fn received(&self, bytes: usize, now: Instant) -> Batch<'_> {
        let mut metrics = self.metrics();
        metrics.received_bytes += bytes as u64;
        metrics.reads += u64::from(bytes > 0);
        Batch {
            metrics,
            now,
            sent_at: now,
            answers: 0,
        }
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock()
    }
}

impl Batch<'_> {
    #[inline]
    pub(crate) fn one_sent_at(&mut self, sent_at: Instant) {
        if sent_at != self.sent_at {
            self.count();
            self.sent_at = sent_at;
        }
        self.answers += 1;
    }

    fn count(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        if answers > 0 {
            let time = self.now.saturating_duration_since(self.sent_at);
            self.metrics.answered += answers;
            self.metrics.latency.record(time, answers);
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.count();
    }
}

impl Metrics {
    /// Adds what another client did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.not_executed += other.not_executed;
        self.unknown += other.unknown;
        self.resent += other.resent;
        self.connections += other.connections;
        self.connect_failures += other.connect_failures;
        self.sent_bytes += other.sent_bytes;
        self.writes += other.writes;
        self.received_bytes += other.received_bytes;
        self.reads += other.reads;
        // Both have the same bounds.
        let _ = self.latency.us.add(&other.latency.us);
    }
}

impl Latency {
    /// The time that this share of all answers did not exceed: `quantile(0.99)` is the 99th
    /// percentile. Zero where there was no answer.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.us.value_at_quantile(share))
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.us.mean() / 1e6)
    }

    /// The longest; zero where there was no answer.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.us.max())
    }

    /// How many answers it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.us.len()
    }

    /// How many answers took up to each time, as pairs of the longest time of a step and the number
    /// of answers in that step: what a histogram of a metrics system is fed with.
    pub fn steps(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.us.iter_recorded().map(|step| {
            (
                Duration::from_micros(step.value_iterated_to()),
                step.count_since_last_iteration(),
            )
        })
    }

    fn record(&mut self, time: Duration, answers: u64) {
        let us = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        self.us.saturating_record_n(us, answers);
    }
}

impl Default for Latency {
    fn default() -> Self {
        // The bounds are constants that the histogram accepts; a test makes one.
        let us = Histogram::new_with_bounds(1, LONGEST_US, 2);
        Self {
            us: us.expect("bounds that a histogram can have"),
        }
    }
}

impl std::fmt::Debug for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latency")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Latency, Metrics};

    #[test]
    fn quantiles_are_of_what_was_recorded() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.99), Duration::ZERO);
        for us in 1..=100 {
            latency.record(Duration::from_micros(us), 1);
        }
        latency.record(Duration::MAX, 1);
        assert_eq!(latency.count(), 101);
        assert_eq!(latency.quantile(0.5), Duration::from_micros(51));
        assert!(latency.max() >= Duration::from_secs(600));
        assert_eq!(latency.steps().map(|(_, count)| count).sum::<u64>(), 101);
    }

    #[test]
    fn sums_are_of_both() {
        let mut one = Metrics {
            answered: 2,
            ..Metrics::default()
        };
        one.latency.record(Duration::from_micros(5), 1);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.answered, sum.latency.count()), (4, 2));
    }
}
