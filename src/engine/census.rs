//! A census: how often the items were read and how large they are, from a sample of the index.
//!
//! A bucket's keys are there by their hash, so buckets at even distances are a fair sample. What is
//! counted in them is scaled to the whole; an index that is sampled whole is counted exactly.

use crate::engine::guard::Guard;

/// Frequencies that an index word can tell apart.
const FREQUENCIES: usize = 4;
/// Classes of value sizes: one for the empty value, and one for each power of two up to 4 GiB.
const SIZE_CLASSES: usize = 34;

/// Live items by frequency and by size, scaled from the sampled buckets to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Buckets that were looked at.
    pub sampled_buckets: u64,
    /// Live items that were seen in them.
    pub sampled_items: u64,
    /// Buckets of the index.
    pub buckets: u64,
    frequencies: [u64; FREQUENCIES],
    sizes: [u64; SIZE_CLASSES],
}

impl Guard<'_> {
    /// Counts the live items of at most `buckets_max` buckets, spread evenly over the index. Each
    /// bucket costs as much as reading the items in it; no item counts as read by this.
    pub fn census(&self, buckets_max: u64) -> Census {
        let index = &self.shared.index;
        let buckets = index.buckets();
        let sampled_buckets = buckets.min(buckets_max).max(1);
        let mut census = Census::of(buckets, sampled_buckets);
        for sample in 0..sampled_buckets {
            let bucket =
                (u128::from(sample) * u128::from(buckets) / u128::from(sampled_buckets)) as u64;
            self.prefetch_all(bucket);
            index.visit(bucket, |found| {
                if let Some(item) = self.live(found) {
                    census.add(found.entry.frequency(), item.value_bytes());
                }
            });
        }
        census
    }
}

impl Census {
    fn of(buckets: u64, sampled_buckets: u64) -> Self {
        Self {
            sampled_buckets,
            sampled_items: 0,
            buckets,
            frequencies: [0; FREQUENCIES],
            sizes: [0; SIZE_CLASSES],
        }
    }

    fn add(&mut self, frequency: u64, value_bytes: u64) {
        self.sampled_items += 1;
        self.frequencies[frequency as usize] += 1;
        self.sizes[size_class(value_bytes)] += 1;
    }

    /// Live items, about.
    pub fn items(&self) -> u64 {
        self.scaled(self.sampled_items)
    }

    /// Items by how often they were read of late, 0 to 3, where 3 stands for 3 or more.
    pub fn by_frequency(&self) -> [u64; FREQUENCIES] {
        self.frequencies.map(|items| self.scaled(items))
    }

    /// Items by the length of their values: up to so many bytes (0, then the powers of two), and
    /// more than in the class before. Up to the largest class that has any.
    pub fn by_value_bytes(&self) -> Vec<(u64, u64)> {
        let end = self.sizes.iter().rposition(|&items| items > 0);
        let classes = 0..end.map_or(0, |last| last + 1);
        classes
            .map(|class| (bytes_max(class), self.scaled(self.sizes[class])))
            .collect()
    }

    fn scaled(&self, items: u64) -> u64 {
        let (buckets, sampled) = (u128::from(self.buckets), u128::from(self.sampled_buckets));
        ((u128::from(items) * buckets + sampled / 2) / sampled) as u64
    }
}

/// Class 0 is the empty value, class `n` those of up to 2^(n-1) bytes.
fn size_class(value_bytes: u64) -> usize {
    let class = match value_bytes {
        0 => 0,
        _ => value_bytes.next_power_of_two().ilog2() as usize + 1,
    };
    class.min(SIZE_CLASSES - 1)
}

fn bytes_max(class: usize) -> u64 {
    match class {
        0 => 0,
        _ => 1 << (class - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::{Census, bytes_max, size_class};

    #[test]
    fn a_class_ends_at_a_power_of_two() {
        for (value_bytes, up_to) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 4),
            (4, 4),
            (5, 8),
            (1 << 20, 1 << 20),
        ] {
            assert_eq!(bytes_max(size_class(value_bytes)), up_to, "{value_bytes}");
        }
    }

    #[test]
    fn what_a_sample_shows_is_scaled_to_the_whole() {
        let mut census = Census::of(1000, 100);
        for at in 0..50 {
            census.add(at % 4, 100);
        }
        assert_eq!(census.items(), 500);
        assert_eq!(census.by_frequency(), [130, 130, 120, 120]);
        assert_eq!(census.by_value_bytes().last(), Some(&(128, 500)));
        assert_eq!(census.by_value_bytes().len(), 9);
    }
}
