//! How long values are: all alike, or drawn for each key, so that whoever knows the key knows the
//! length.

use std::fmt;
use std::str::FromStr;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, LogNormal};

use super::source::LoadError;
use crate::cli::units;

/// LIMIT: the longest value of a log-normal distribution unless it is told; what memcached takes.
const LOG_NORMAL_MAX: usize = 1 << 20;

/// LIMIT: lengths of a list; they are looked through for every key.
const LISTED_MAX: usize = 100;

/// Keeps the draws of lengths apart from those of contents, which are seeded alike.
const SALT: u64 = 0x5bd1_e995_7b93_a6c5;

const ACCEPTED: &str = "SIZE, MIN..MAX, SIZE:WEIGHT,SIZE:WEIGHT,..., or lognormal:MEDIAN:SIGMA[:MAX], \
    such as 64, 16..1KiB, 100:9,10KiB:1 or lognormal:256:1.2";

/// The lengths of values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sizes {
    form: Form,
    /// As it was asked for.
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Fixed(usize),
    /// Every length from the first to the last alike.
    Uniform {
        min: usize,
        max: usize,
    },
    /// Lengths with the sum of the weights up to each.
    Listed {
        up_to: Vec<(u64, usize)>,
        total: u64,
    },
    LogNormal {
        lengths: LogNormal<f64>,
        max: usize,
    },
}

impl Sizes {
    /// All values have this length.
    #[cfg(test)]
    pub(super) fn fixed(bytes: usize) -> Self {
        Self {
            form: Form::Fixed(bytes),
            text: bytes.to_string(),
        }
    }

    /// The length of all values, if they have one.
    pub(super) fn only(&self) -> Option<usize> {
        match self.form {
            Form::Fixed(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The longest that a value can be.
    pub(super) fn max(&self) -> usize {
        match &self.form {
            Form::Fixed(bytes) => *bytes,
            Form::Uniform { max, .. } | Form::LogNormal { max, .. } => *max,
            Form::Listed { up_to, .. } => up_to.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0),
        }
    }

    /// The length of the value whose content is drawn from this seed.
    #[inline]
    pub(super) fn of(&self, seed: u64) -> usize {
        match &self.form {
            Form::Fixed(bytes) => *bytes,
            form => form.drawn(seed),
        }
    }
}

impl Form {
    fn drawn(&self, seed: u64) -> usize {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ SALT);
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { min, max } => rng.random_range(*min..=*max),
            Self::Listed { up_to, total } => {
                let drawn = rng.random_range(0..*total);
                let found = up_to.iter().find(|(sum, _)| drawn < *sum);
                found.map_or(0, |&(_, bytes)| bytes)
            }
            Self::LogNormal { lengths, max } => (lengths.sample(&mut rng) as usize).min(*max),
        }
    }

    fn parse(input: &str) -> Option<Self> {
        let size = |text: &str| usize::try_from(units::size(text).ok()?).ok();
        if let Some(parameters) = input.strip_prefix("lognormal:") {
            let parameters: Vec<&str> = parameters.split(':').collect();
            let (median, sigma, max) = match parameters[..] {
                [median, sigma] => (median, sigma, LOG_NORMAL_MAX),
                [median, sigma, max] => (median, sigma, size(max)?),
                _ => return None,
            };
            let median = size(median).filter(|median| (1..=max).contains(median))?;
            // LIMIT: beyond this the lengths would be nothing but the shortest and the longest.
            let sigma = sigma
                .parse()
                .ok()
                .filter(|sigma| (0.0..=10.0).contains(sigma))?;
            let lengths = LogNormal::new((median as f64).ln(), sigma).ok()?;
            return Some(Self::LogNormal { lengths, max });
        }
        if let Some((min, max)) = input.split_once("..") {
            let (min, max) = (size(min)?, size(max)?);
            return (min <= max).then_some(Self::Uniform { min, max });
        }
        if !input.contains(':') {
            return size(input).map(Self::Fixed);
        }
        let (mut up_to, mut total) = (Vec::new(), 0);
        for entry in input.split(',') {
            let (bytes, weight) = entry.split_once(':')?;
            total += u64::from(weight.parse::<u32>().ok()?);
            up_to.push((total, size(bytes)?));
        }
        let is_list = total > 0 && up_to.len() <= LISTED_MAX;
        is_list.then_some(Self::Listed { up_to, total })
    }
}

impl FromStr for Sizes {
    type Err = LoadError;

    fn from_str(input: &str) -> Result<Self, LoadError> {
        let form = Form::parse(input).ok_or_else(|| LoadError {
            input: input.to_owned(),
            what: "a length, or a distribution of lengths",
            accepted: ACCEPTED,
        })?;
        let text = match form {
            Form::Fixed(bytes) => bytes.to_string(),
            _ => input.to_owned(),
        };
        Ok(Self { form, text })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Sizes;

    fn drawn(form: &str) -> Vec<usize> {
        let sizes: Sizes = form.parse().expect(form);
        let mut drawn: Vec<usize> = (0..10_000).map(|seed| sizes.of(seed)).collect();
        let again: Vec<usize> = (0..10_000).map(|seed| sizes.of(seed)).collect();
        assert_eq!(drawn, again, "a key has one length");
        drawn.sort_unstable();
        assert!(drawn[9_999] <= sizes.max(), "{form}");
        drawn
    }

    #[test]
    fn a_fixed_length_is_everybodys() {
        let sizes: Sizes = "2KiB".parse().unwrap();
        assert_eq!(
            (sizes.only(), sizes.max(), sizes.of(7)),
            (Some(2048), 2048, 2048)
        );
        assert_eq!(sizes.to_string(), "2048");
        assert_eq!(sizes, Sizes::fixed(2048));
    }

    #[test]
    fn a_range_has_all_its_lengths_alike() {
        let drawn = drawn("10..19");
        assert_eq!((drawn[0], drawn[9_999]), (10, 19));
        for length in 10..20 {
            let count = drawn.iter().filter(|&&drawn| drawn == length).count();
            assert!((850..1150).contains(&count), "{count} of {length}");
        }
    }

    #[test]
    fn a_list_has_its_lengths_in_the_ratio_of_their_weights() {
        let drawn = drawn("100:90,1KiB:9,64KiB:1,5:0");
        let count = |length| drawn.iter().filter(|&&drawn| drawn == length).count();
        let counts = [100, 1024, 65_536, 5].map(count);
        assert_eq!(counts.iter().sum::<usize>(), 10_000);
        assert!((8_850..9_150).contains(&counts[0]), "{counts:?}");
        assert!((800..1000).contains(&counts[1]), "{counts:?}");
        assert!((60..140).contains(&counts[2]), "{counts:?}");
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn a_log_normal_has_its_median_and_spreads_by_factors() {
        let drawn = drawn("lognormal:1000:1");
        let at = |share: f64| drawn[(10_000.0 * share) as usize] as f64;
        assert!((950.0..1050.0).contains(&at(0.5)), "{}", at(0.5));
        // One sigma is a factor of e: 15.9 % lie below the median by that, and as many above.
        for (share, expected) in [(0.1587, 367.9), (0.8413, 2718.3)] {
            let ratio = at(share) / expected;
            assert!((0.93..1.07).contains(&ratio), "{share}: {ratio}");
        }
        let capped: Sizes = "lognormal:1000:2:1500B".parse().unwrap();
        let lengths: Vec<usize> = (0..1000).map(|seed| capped.of(seed)).collect();
        assert_eq!(lengths.iter().max(), Some(&1500));
    }

    #[test]
    fn what_is_no_length_is_refused_with_what_is_accepted() {
        for text in [
            "",
            "-1",
            "x",
            "5..",
            "9..5",
            "1:2:3",
            "1:0",
            "1:1,",
            "1:-1",
            "lognormal",
            "lognormal:",
            "lognormal:1",
            "lognormal:0:1",
            "lognormal:9:11",
            "lognormal:9:NaN",
            "lognormal:9:1:8",
            "lognormal:9:1:99:9",
        ] {
            let error = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(
                error.contains("accepted: SIZE, MIN..MAX"),
                "{text}: {error}"
            );
        }
    }
}
