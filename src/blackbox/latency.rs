//! Latencies of each operation: how many took how long, in buckets that grow with what they hold.
//!
//! A bucket is a quarter of the way from one power of two to the next, so a percentile is right
//! within a fifth. Counts are of operations, each with the time that its batch took: from when its
//! bytes were read, or the batch before was through, until its reply was encoded.

use super::layout::{LATENCIES_AT, OPERATIONS_MAX};
use super::names::Operation;
use crate::arena::Arena;
use crate::shape::LATENCY_BUCKETS;
use crate::sync::Ordering;

/// Buckets between two powers of two, as a power of two.
const QUARTERS: u32 = 2;

/// Counts operations of a batch that took so long. Only the box's thread calls this.
#[inline]
pub(super) fn count(arena: &Arena, operation: Operation, duration_ns: u64, more: u64) {
    let word = arena.word(bucket_at(operation as usize, bucket_of(duration_ns)));
    // ORDERING: Relaxed, and no read-modify-write: one writer, and readers want a figure.
    let before = word.load(Ordering::Relaxed);
    word.store(before.wrapping_add(more), Ordering::Relaxed);
}

fn bucket_at(operation: usize, bucket: usize) -> u64 {
    LATENCIES_AT + (operation * LATENCY_BUCKETS + bucket) as u64 * 8
}

/// The bucket of a duration; what is longer than all is in the last.
fn bucket_of(duration_ns: u64) -> usize {
    let exponent = (duration_ns | 1).ilog2();
    let bucket = match exponent.checked_sub(QUARTERS) {
        None => duration_ns as usize,
        Some(shift) => ((shift as usize) << QUARTERS) + (duration_ns >> shift) as usize,
    };
    bucket.min(LATENCY_BUCKETS - 1)
}

/// The longest duration of a bucket, in nanoseconds.
fn longest_ns(bucket: usize) -> u64 {
    let shift = (bucket >> QUARTERS).saturating_sub(1) as u32;
    let first = (bucket - ((shift as usize) << QUARTERS)) as u64;
    ((first + 1) << shift) - 1
}

/// How many operations took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = vec![0; LATENCY_BUCKETS];
        Self { counts }
    }
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }

    /// The longest duration of each bucket, in nanoseconds, with how many lie in it. The last
    /// bucket also has all that took longer.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.counts.iter().enumerate();
        counts.map(|(bucket, count)| (longest_ns(bucket), *count))
    }

    /// What `share` (from 0 to 1) of the operations took at most, in nanoseconds, by its bucket's
    /// longest; `None` where there were none.
    pub fn percentile_ns(&self, share: f64) -> Option<u64> {
        let count = self.count();
        let wanted = (share.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        let reached = self.buckets().find(|(_, more)| {
            seen = seen.saturating_add(*more);
            seen >= wanted
        });
        reached
            .filter(|_| count > 0)
            .map(|(longest_ns, _)| longest_ns)
    }

    /// About how long all of them took together, in nanoseconds, each counted as its bucket's
    /// longest.
    pub fn sum_ns(&self) -> u64 {
        let each = self.buckets().map(|(ns, count)| ns.saturating_mul(count));
        each.fold(0, u64::saturating_add)
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.wrapping_add(*more);
        }
    }
}

/// The latencies of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// The operation.
    pub operation: Operation,
    /// How many of it took how long.
    pub histogram: Histogram,
}

/// The latencies of those operations of which there were any.
pub(super) fn read(arena: &Arena) -> Vec<Latency> {
    let operations = Operation::ALL.iter().take(OPERATIONS_MAX);
    let read_one = |operation: &Operation| {
        let word = |bucket| arena.word(bucket_at(*operation as usize, bucket));
        // ORDERING: Relaxed, as in `count`.
        let counts = (0..LATENCY_BUCKETS).map(|bucket| word(bucket).load(Ordering::Relaxed));
        let histogram = Histogram {
            counts: counts.collect(),
        };
        let operation = *operation;
        histogram.counts.iter().any(|n| *n > 0).then_some(Latency {
            operation,
            histogram,
        })
    };
    operations.filter_map(read_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_has_the_bucket_that_holds_it() {
        let around_powers = (0..37).flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1]);
        for ns in (0..5000).chain(around_powers) {
            let bucket = bucket_of(ns);
            assert!(ns <= longest_ns(bucket), "{ns}");
            assert!(bucket == 0 || ns > longest_ns(bucket - 1), "{ns}");
        }
        assert_eq!(bucket_of(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_right_within_a_fifth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile_ns(0.5), None);
        for ns in 1..=10_000 {
            histogram.counts[bucket_of(ns)] += 1;
        }
        for (share, ns) in [(0.5, 5000.0), (0.99, 9900.0), (1.0, 10_000.0)] {
            let found = histogram.percentile_ns(share).unwrap() as f64;
            assert!((ns..ns * 1.2).contains(&found), "{share}: {found}");
        }
        assert_eq!(histogram.count(), 10_000);
    }
}
