//! Operations that are not executed for a while, since processes have died of their like.

use std::fmt;
use std::str::FromStr;

use super::clock::Now;
use crate::blackbox::Fingerprint;

/// LIMIT: each request of a server with such a list is compared with all of it.
pub const QUARANTINE_MAX: usize = 16;

/// An operation that is not executed for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    /// The operation.
    pub fingerprint: Fingerprint,
    /// Until when, by the machine's monotonic clock in milliseconds ([`monotonic_ms`](super::monotonic_ms)): it
    /// goes on when one process takes the place of another.
    pub until_ms: u64,
}

impl fmt::Display for Quarantined {
    /// In one word, as [`FromStr`] takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.fingerprint.to_word(), self.until_ms)
    }
}

impl FromStr for Quarantined {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':');
        let parts = parts.and_then(|(word, until)| Some((word, until.parse().ok()?)));
        let (word, until_ms) = parts.ok_or_else(|| {
            format!(
                "`{text}` does not say what is refused until when; accepted: OPERATION:HASH:MILLISECONDS of the \
                 monotonic clock, such as get:00c0ffee00c0ffee:86400000"
            )
        })?;
        let fingerprint = word.parse()?;
        Ok(Self {
            fingerprint,
            until_ms,
        })
    }
}

/// What is not executed: some operations never, others until their time is over.
#[derive(Debug)]
pub(super) struct NotExecuted {
    /// Those that never are, then the others, the longest first.
    all: Vec<Fingerprint>,
    /// Until when each of the others is not.
    until_ms: Vec<u64>,
}

impl NotExecuted {
    pub(super) fn new(
        never: impl Iterator<Item = Fingerprint>,
        quarantine: &[Quarantined],
    ) -> Self {
        let mut quarantine = quarantine.to_vec();
        quarantine.sort_by_key(|one| std::cmp::Reverse(one.until_ms));
        let for_a_while = quarantine.iter().map(|one| one.fingerprint);
        Self {
            all: never.chain(for_a_while).collect(),
            until_ms: quarantine.iter().map(|one| one.until_ms).collect(),
        }
    }

    /// All of it at this time.
    #[inline]
    pub(super) fn at(&self, now: Now) -> &[Fingerprint] {
        match self.all.is_empty() {
            true => &[],
            false => &self.all[..self.never() + self.left(now)],
        }
    }

    /// What processes have died of, at this time.
    pub(super) fn died_of_at(&self, now: Now) -> &[Fingerprint] {
        &self.all[self.never()..][..self.left(now)]
    }

    fn never(&self) -> usize {
        self.all.len() - self.until_ms.len()
    }

    /// How many have time left.
    #[cold]
    fn left(&self, now: Now) -> usize {
        let now_ms = now.monotonic_ns / 1_000_000;
        (self.until_ms).partition_point(|&until_ms| now_ms < until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::Operation;

    fn fingerprint(key_hash: u64) -> Fingerprint {
        let operation = Operation::Get;
        Fingerprint {
            operation,
            key_hash,
        }
    }

    fn until(key_hash: u64, until_ms: u64) -> Quarantined {
        let fingerprint = fingerprint(key_hash);
        Quarantined {
            fingerprint,
            until_ms,
        }
    }

    #[test]
    fn each_has_its_own_time_and_what_is_never_executed_has_none() {
        let quarantine = [until(1, 100), until(2, 300), until(3, 200)];
        let not_executed = NotExecuted::new([fingerprint(9)].into_iter(), &quarantine);
        let at = |now_ms: u64| {
            let now = Now {
                uptime_ms: 0,
                wall_ms: 0,
                monotonic_ns: now_ms * 1_000_000,
            };
            let keys = |of: &[Fingerprint]| of.iter().map(|one| one.key_hash).collect::<Vec<_>>();
            (
                keys(not_executed.at(now)),
                keys(not_executed.died_of_at(now)),
            )
        };
        assert_eq!(at(99), (vec![9, 2, 3, 1], vec![2, 3, 1]));
        assert_eq!(at(100), (vec![9, 2, 3], vec![2, 3]));
        assert_eq!(at(299), (vec![9, 2], vec![2]));
        assert_eq!(at(300), (vec![9], vec![]));
    }

    #[test]
    fn it_comes_back_from_its_word_and_no_other_word_is_one() {
        let one = until(0x00c0_ffee, 86_400_000);
        assert_eq!(one.to_string().parse(), Ok(one));
        for text in ["", "get", "get:00c0ffee00c0ffee", "get:x:1", "get:1:-1"] {
            let error = text.parse::<Quarantined>().unwrap_err();
            assert!(error.contains("accepted"), "{error}");
        }
    }
}
