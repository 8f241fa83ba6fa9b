//! What is asked of every contender: keys, and the requests that are drawn from them.
//!
//! All of it is drawn before a clock starts, and once for all contenders.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};
use serde::Serialize;

const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=24;
const ZIPF_EXPONENT: f64 = 0.99;

/// Spreads the ranks of a Zipf load over the keys: a prime.
const STRIDE: u64 = 2_654_435_761;

/// One untimed request for this many timed ones, ahead of them: the contender before has left the
/// processor's caches full of its own memory.
const TIMED_PER_LEAD_IN: usize = 4;

/// How often each key is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Draw {
    Zipf,
    Uniform,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Reads; a key that is not there is set, as by one who then fetches the value elsewhere.
    Get,
    Set,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'r> {
    pub(crate) action: Action,
    pub(crate) key: &'r [u8],
}

/// All keys, one behind the other: no allocation that is freed, so that memory can be measured
/// after it.
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(crate) fn new(items: usize) -> Self {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut bytes = Vec::with_capacity(items * KEY_BYTES.end());
        let ends = (0..items).map(|index| {
            let digits = index.to_string();
            let width = rng.random_range(KEY_BYTES);
            bytes.resize(bytes.len() + width - digits.len(), b'0');
            bytes.extend_from_slice(digits.as_bytes());
            bytes.len()
        });
        let ends = ends.collect();
        Self { bytes, ends }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.key(index))
    }
}

/// The requests of one thread in one round. Their keys lie one behind the other, as in a server the
/// bytes just received: finding them must not cost what is measured.
pub(crate) struct Requests {
    keys: Vec<u8>,
    marks: Vec<Mark>,
    lead_in: usize,
}

struct Mark {
    start: usize,
    key_bytes: u8,
    action: Action,
}

impl Requests {
    /// Draws as many timed requests as `operations`, of which `gets_percent` in a hundred read.
    pub(crate) fn draw(
        keys: &Keys,
        draw: Draw,
        gets_percent: u32,
        operations: usize,
        seed: u64,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let items = keys.len() as u64;
        let zipf = Zipf::new(items as f64, ZIPF_EXPONENT).expect("a distribution");
        let lead_in = operations / TIMED_PER_LEAD_IN;
        let mut drawn = Self {
            keys: Vec::new(),
            marks: Vec::with_capacity(lead_in + operations),
            lead_in,
        };
        for _ in 0..lead_in + operations {
            let index = match draw {
                Draw::Uniform => rng.random_range(0..items),
                Draw::Zipf => (zipf.sample(&mut rng) as u64 - 1) * STRIDE % items,
            };
            let action = match rng.random_range(0..100) < gets_percent {
                true => Action::Get,
                false => Action::Set,
            };
            let key = keys.key(index as usize);
            drawn.marks.push(Mark {
                start: drawn.keys.len(),
                key_bytes: key.len() as u8,
                action,
            });
            drawn.keys.extend_from_slice(key);
        }
        drawn
    }

    /// The requests ahead of the timed ones.
    pub(crate) fn lead_in(&self) -> impl Iterator<Item = Request<'_>> {
        self.resolve(&self.marks[..self.lead_in])
    }

    pub(crate) fn timed(&self) -> impl Iterator<Item = Request<'_>> {
        self.resolve(&self.marks[self.lead_in..])
    }

    /// How many of the timed requests read.
    pub(crate) fn gets(&self) -> u64 {
        let timed = self.marks[self.lead_in..].iter();
        timed.filter(|mark| mark.action == Action::Get).count() as u64
    }

    fn resolve<'r>(&'r self, marks: &'r [Mark]) -> impl Iterator<Item = Request<'r>> {
        marks.iter().map(|mark| Request {
            action: mark.action,
            key: &self.keys[mark.start..][..usize::from(mark.key_bytes)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_of_16_to_24_bytes() {
        let keys = Keys::new(10_000);
        assert!(keys.iter().all(|key| KEY_BYTES.contains(&key.len())));
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn a_seed_draws_the_same_requests_again() {
        let keys = Keys::new(1_000);
        let draw = |seed| {
            let requests = Requests::draw(&keys, Draw::Zipf, 50, 400, seed);
            let timed = requests
                .timed()
                .map(|r| (r.action == Action::Get, r.key.to_vec()));
            (timed.collect::<Vec<_>>(), requests.lead_in().count())
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        assert_eq!((draw(3).0.len(), draw(3).1), (400, 100));
    }
}
