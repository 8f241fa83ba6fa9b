//! Which operation comes next: a mix drawn at random, or every key once.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

use super::keys::Keyspace;
use crate::sync::{Arc, AtomicU64, Ordering};

/// One operation of a load, with the index of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Get(u64),
    /// A further key of the request that began with the `Get` before it.
    GetNext(u64),
    Set(u64),
}

impl Operation {
    /// The index of its key.
    pub(super) fn key(self) -> u64 {
        match self {
            Self::Get(index) | Self::GetNext(index) | Self::Set(index) => index,
        }
    }
}

/// How often each key is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Distribution {
    /// All keys alike.
    Uniform,
    /// The key at rank r in proportion to 1/r^exponent.
    Zipf { exponent: f64 },
}

/// How many operations read and how many write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ratio {
    pub(super) gets: u32,
    pub(super) sets: u32,
}

/// Why a text describes no load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not {what}; accepted: {accepted}")]
pub(super) struct LoadError {
    pub(super) input: String,
    pub(super) what: &'static str,
    pub(super) accepted: &'static str,
}

/// Operations that all connections take from, until none is left.
#[derive(Debug)]
pub(super) struct Budget {
    taken: AtomicU64,
    total: u64,
}

/// Where one connection takes its operations from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) choice: Choice,
    pub(super) budget: Arc<Budget>,
    /// Keys in each request that reads.
    pub(super) keys_per_get: usize,
}

/// How operations are chosen.
#[derive(Debug)]
pub(super) enum Choice {
    /// Drawn at random.
    Mixed(Box<Draw>),
    /// Every key once, written.
    WriteAll,
    /// Every key once, read.
    ReadAll,
}

/// Draws operations at random.
#[derive(Debug)]
pub(super) struct Draw {
    rng: SmallRng,
    keyspace: Arc<Keyspace>,
    zipf: Option<Zipf<f64>>,
    /// Reads among 2^32 operations.
    get_share: u64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self {
            taken: AtomicU64::new(0),
            total,
        }
    }

    /// Takes up to `count` operations, as their numbers.
    fn take(&self, count: usize) -> Range<u64> {
        // ORDERING: Relaxed; the numbers are all that is shared.
        let start = self
            .taken
            .fetch_add(count as u64, Ordering::Relaxed)
            .min(self.total);
        start..start.saturating_add(count as u64).min(self.total)
    }
}

impl Source {
    /// Fills a batch with up to `depth` requests; none are left where it stays empty.
    #[inline]
    pub(super) fn fill(&mut self, depth: usize, batch: &mut Vec<Operation>) {
        batch.clear();
        let budget = &self.budget;
        match (&mut self.choice, self.keys_per_get) {
            (Choice::Mixed(draw), 1) => batch.extend(budget.take(depth).map(|_| draw.next())),
            (Choice::WriteAll, _) => batch.extend(budget.take(depth).map(Operation::Set)),
            (Choice::ReadAll, 1) => batch.extend(budget.take(depth).map(Operation::Get)),
            _ => (0..depth).for_each(|_| self.fill_many(batch)),
        }
    }

    /// Adds one request, which has many keys if it reads.
    fn fill_many(&mut self, batch: &mut Vec<Operation>) {
        let first = match &mut self.choice {
            Choice::Mixed(draw) => draw.next(),
            Choice::ReadAll | Choice::WriteAll => Operation::Get(0),
        };
        if let Operation::Set(_) = first {
            batch.extend(self.budget.take(1).map(|_| first));
            return;
        }
        for (at, number) in self.budget.take(self.keys_per_get).enumerate() {
            let key = match &mut self.choice {
                Choice::Mixed(_) if at == 0 => first.key(),
                Choice::Mixed(draw) => draw.next_key(),
                Choice::ReadAll | Choice::WriteAll => number,
            };
            batch.push(match at {
                0 => Operation::Get(key),
                _ => Operation::GetNext(key),
            });
        }
    }
}

impl Draw {
    /// Operations of a run's `stream`-th connection.
    pub(super) fn new(
        keyspace: &Arc<Keyspace>,
        distribution: Distribution,
        ratio: Ratio,
        stream: u64,
    ) -> Self {
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf { exponent } => Zipf::new(keyspace.keys as f64, exponent).ok(),
        };
        let all = u64::from(ratio.gets) + u64::from(ratio.sets);
        Self {
            rng: SmallRng::seed_from_u64(keyspace.seed.wrapping_add(stream)),
            keyspace: Arc::clone(keyspace),
            zipf,
            get_share: (u64::from(ratio.gets) << 32) / all.max(1),
        }
    }

    /// The index of the next key.
    #[inline(always)]
    fn next_key(&mut self) -> u64 {
        let rank = match &self.zipf {
            None => self.rng.random_range(0..self.keyspace.keys),
            Some(zipf) => (zipf.sample(&mut self.rng) as u64).clamp(1, self.keyspace.keys) - 1,
        };
        self.keyspace.spread(rank)
    }

    #[inline]
    fn next(&mut self) -> Operation {
        let index = self.next_key();
        match u64::from(self.rng.next_u32()) < self.get_share {
            true => Operation::Get(index),
            false => Operation::Set(index),
        }
    }
}

impl FromStr for Distribution {
    type Err = LoadError;

    fn from_str(input: &str) -> Result<Self, LoadError> {
        let exponent = match input.split_once(':') {
            None if input == "uniform" => return Ok(Self::Uniform),
            Some(("zipf", exponent)) => exponent.parse().ok(),
            _ => None,
        };
        match exponent {
            // LIMIT: beyond this a handful of keys would be all there is.
            Some(exponent) if (0.0..=10.0).contains(&exponent) => Ok(Self::Zipf { exponent }),
            _ => Err(LoadError {
                input: input.to_owned(),
                what: "a distribution",
                accepted: "uniform, and zipf:EXPONENT with an exponent from 0 to 10, such as zipf:0.99",
            }),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

impl FromStr for Ratio {
    type Err = LoadError;

    fn from_str(input: &str) -> Result<Self, LoadError> {
        let parts = input.split_once(':');
        let ratio = parts.and_then(|(gets, sets)| {
            Some(Self {
                gets: gets.parse().ok()?,
                sets: sets.parse().ok()?,
            })
        });
        ratio
            .filter(|ratio| (ratio.gets, ratio.sets) != (0, 0))
            .ok_or_else(|| LoadError {
                input: input.to_owned(),
                what: "a ratio",
                accepted: "GETS:SETS, such as 9:1, 1:0 or 0:1",
            })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.gets, self.sets)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Choice, Distribution, Draw, Operation, Ratio, Source};
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::sizes::Sizes;
    use crate::sync::Arc;

    fn keyspace(keys: u64) -> Arc<Keyspace> {
        Arc::new(Keyspace {
            keys,
            key_bytes: 20,
            sizes: Sizes::fixed(64),
            expire_in: None,
            seed: 1,
        })
    }

    fn drawn(distribution: &str, ratio: &str, count: usize) -> Vec<Operation> {
        drawn_many(distribution, ratio, count, 1)
    }

    fn drawn_many(
        distribution: &str,
        ratio: &str,
        count: usize,
        keys_per_get: usize,
    ) -> Vec<Operation> {
        let draw = Draw::new(
            &keyspace(1000),
            distribution.parse().expect(distribution),
            ratio.parse().expect(ratio),
            0,
        );
        let budget = Arc::new(Budget::new(count as u64));
        let mut source = Source {
            choice: Choice::Mixed(Box::new(draw)),
            budget,
            keys_per_get,
        };
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        loop {
            source.fill(7, &mut batch);
            if batch.is_empty() {
                return all;
            }
            all.append(&mut batch);
        }
    }

    #[test]
    fn a_budget_gives_out_exactly_what_it_has() {
        assert_eq!(drawn("uniform", "1:1", 1000).len(), 1000);
        let budget = Arc::new(Budget::new(10));
        let [mut one, mut two] = [(); 2].map(|()| Source {
            choice: Choice::WriteAll,
            budget: Arc::clone(&budget),
            keys_per_get: 1,
        });
        let (mut first, mut second) = (Vec::new(), Vec::new());
        one.fill(6, &mut first);
        two.fill(6, &mut second);
        first.append(&mut second);
        assert_eq!(first, (0..10).map(Operation::Set).collect::<Vec<_>>());
        one.fill(6, &mut first);
        assert!(first.is_empty());
    }

    #[test]
    fn reads_and_writes_come_in_their_ratio() {
        let gets = |ratio| {
            let all = drawn("uniform", ratio, 10_000);
            all.iter()
                .filter(|operation| matches!(operation, Operation::Get(_)))
                .count()
        };
        assert_eq!((gets("1:0"), gets("0:1")), (10_000, 0));
        assert!((8_800..9_200).contains(&gets("9:1")));
    }

    #[test]
    fn a_multi_get_has_its_keys_behind_each_other_and_a_set_stands_alone() {
        let all = drawn_many("uniform", "1:1", 1000, 8);
        assert_eq!(all.len(), 1000, "operations are counted by key");
        let mut requests: Vec<Vec<Operation>> = Vec::new();
        for operation in all {
            match operation {
                Operation::GetNext(_) => requests.last_mut().expect("a Get before").push(operation),
                first => requests.push(vec![first]),
            }
        }
        let last = requests.pop().expect("there are requests");
        assert!(last.len() <= 8);
        for request in &requests {
            let keys = if matches!(request[0], Operation::Set(_)) {
                1
            } else {
                8
            };
            assert_eq!(request.len(), keys, "{request:?}");
        }
        let sets = requests.iter().filter(|request| request.len() == 1).count();
        assert!(
            (60..160).contains(&sets),
            "{sets} of {} write",
            requests.len()
        );
    }

    #[test]
    fn reading_every_key_by_multi_gets_reads_each_once() {
        let mut source = Source {
            choice: Choice::ReadAll,
            budget: Arc::new(Budget::new(10)),
            keys_per_get: 4,
        };
        let mut batch = Vec::new();
        source.fill(2, &mut batch);
        assert_eq!(batch[4], Operation::Get(4));
        let mut keys: Vec<u64> = batch.iter().map(|operation| operation.key()).collect();
        source.fill(2, &mut batch);
        assert_eq!(batch, [Operation::Get(8), Operation::GetNext(9)]);
        keys.extend(batch.iter().map(|operation| operation.key()));
        assert_eq!(keys, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_zipf_load_has_hot_keys_and_a_uniform_one_has_none() {
        let hottest = |distribution| {
            let mut counts = vec![0; 1000];
            for operation in drawn(distribution, "1:0", 100_000) {
                counts[operation.key() as usize] += 1;
            }
            counts.into_iter().max().unwrap_or(0)
        };
        // With exponent 0.99 the first of 1000 keys has 12.9 % of all accesses.
        assert!((12_000..14_000).contains(&hottest("zipf:0.99")));
        assert!((100..200).contains(&hottest("uniform")));
    }

    #[test]
    fn what_describes_no_load_is_refused_with_what_is_accepted() {
        for text in [
            "", "zipf", "zipf:", "zipf:-1", "zipf:11", "zipf:NaN", "normal",
        ] {
            let error = text.parse::<Distribution>().unwrap_err().to_string();
            assert!(error.contains("accepted: uniform"), "{error}");
        }
        for text in ["", "1", "0:0", "1:x", "-1:1", "1:1:1"] {
            let error = text.parse::<Ratio>().unwrap_err().to_string();
            assert!(error.contains("accepted: GETS:SETS"), "{error}");
        }
    }
}
