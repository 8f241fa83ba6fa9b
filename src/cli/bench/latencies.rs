//! How long operations took: their distribution, and the longest of them to the nanosecond.

use std::time::Duration;

use hdrhistogram::Histogram;

/// LIMIT: latencies beyond this are recorded as this; no run should see one.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Three significant digits: no latency is off by more than 0.1 %.
const DIGITS: u8 = 3;

/// Latencies of one kind.
#[derive(Debug, Clone)]
pub(super) struct Latencies {
    counts: Histogram<u64>,
    max: Duration,
}

impl Latencies {
    pub(super) fn new() -> Self {
        let counts = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
        Self {
            counts: counts.expect("constant bounds that work"),
            max: Duration::ZERO,
        }
    }

    #[inline]
    pub(super) fn record(&mut self, latency: Duration) {
        self.counts.saturating_record(latency.as_nanos() as u64);
        self.max = self.max.max(latency);
    }

    /// Adds those that were recorded elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        // Histograms of one shape always add up.
        let _ = self.counts.add(&other.counts);
        self.max = self.max.max(other.max);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.counts.len()
    }

    /// What so large a share of them did not exceed. The histogram answers with the end of a bucket, which
    /// may lie beyond the longest of them.
    pub(super) fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.counts.value_at_quantile(quantile)).min(self.max)
    }

    /// The longest.
    pub(super) fn max(&self) -> Duration {
        self.max
    }

    pub(super) fn mean(&self) -> Duration {
        Duration::from_nanos(self.counts.mean() as u64).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Latencies;

    #[test]
    fn no_percentile_lies_beyond_the_longest() {
        // Whatever the place of the longest in its bucket.
        for longest_ns in (1_000_000..1_002_000)
            .step_by(97)
            .chain([3, 70_000_000_000])
        {
            let longest = Duration::from_nanos(longest_ns);
            let mut latencies = Latencies::new();
            latencies.record(longest);
            let mut all = Latencies::new();
            all.add(&latencies);
            assert_eq!((all.max(), all.len()), (longest, 1));
            for quantile in [0.5, 0.9999, 1.0] {
                assert!(all.at(quantile) <= longest, "{longest_ns}");
            }
            assert!(all.mean() <= longest, "{longest_ns}");
        }
    }
}
