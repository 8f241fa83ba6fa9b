//! Fingerprints that have brought workers down: what two deaths have in common is refused for a while.
//!
//! Times are milliseconds of the monotonic clock, which the workers have as well.

use std::collections::VecDeque;
use std::time::Duration;

use super::journal::whole_ms;
use crate::blackbox::Fingerprint;
use crate::server::{QUARANTINE_MAX, Quarantined};

/// So many deaths with one fingerprint are no accident.
const DEATHS_ALIKE: usize = 2;

/// Deaths further apart than this have nothing to do with each other.
const WINDOW_MS: u64 = 600_000;

/// What workers have died of lately, and what the next ones refuse.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// LIMIT: within the window there are few, since each has its process.
    deaths: VecDeque<(u64, Fingerprint)>,
    /// What is refused, since when, the oldest first.
    refused: VecDeque<(u64, Fingerprint)>,
}

impl Quarantine {
    /// Notes a death; says whether its like is refused from now on.
    pub(super) fn note(&mut self, now_ms: u64, fingerprint: Fingerprint) -> bool {
        while (self.deaths.front())
            .is_some_and(|(then_ms, _)| now_ms.saturating_sub(*then_ms) > WINDOW_MS)
        {
            self.deaths.pop_front();
        }
        self.deaths.push_back((now_ms, fingerprint));
        let alike = self.deaths.iter().filter(|(_, of)| *of == fingerprint);
        if alike.count() < DEATHS_ALIKE {
            return false;
        }
        self.refused.retain(|(_, refused)| *refused != fingerprint);
        if self.refused.len() == QUARANTINE_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((now_ms, fingerprint));
        true
    }

    /// What a worker that is started now is to refuse, and until when: it may be the last one for long.
    pub(super) fn refused(&mut self, now_ms: u64, refused_for: Duration) -> Vec<Quarantined> {
        let until_ms = |since_ms: u64| since_ms.saturating_add(whole_ms(refused_for));
        self.refused
            .retain(|(since_ms, _)| now_ms < until_ms(*since_ms));
        let refused = self.refused.iter();
        let refused = refused.map(|&(since_ms, fingerprint)| Quarantined {
            fingerprint,
            until_ms: until_ms(since_ms),
        });
        refused.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::Operation;

    const HOUR: Duration = Duration::from_secs(3600);
    const HOUR_MS: u64 = 3_600_000;

    fn fingerprint(key_hash: u64) -> Fingerprint {
        let operation = Operation::Get;
        Fingerprint {
            operation,
            key_hash,
        }
    }

    fn keys(refused: &[Quarantined]) -> Vec<u64> {
        let fingerprints = refused.iter().map(|one| one.fingerprint);
        fingerprints.map(|one| one.key_hash).collect()
    }

    #[test]
    fn the_second_death_of_the_same_is_the_last_for_a_while() {
        let mut quarantine = Quarantine::default();
        assert!(!quarantine.note(0, fingerprint(1)));
        assert!(!quarantine.note(0, fingerprint(2)));
        assert_eq!(quarantine.refused(0, HOUR), []);
        assert!(quarantine.note(5000, fingerprint(1)));
        assert_eq!(keys(&quarantine.refused(5000, HOUR)), [1]);
        assert_eq!(quarantine.refused(2 * HOUR_MS, HOUR), []);
    }

    #[test]
    fn each_process_refuses_it_until_the_same_time_which_is_counted_from_the_death() {
        let mut quarantine = Quarantine::default();
        quarantine.note(0, fingerprint(1));
        quarantine.note(7000, fingerprint(1));
        quarantine.note(8000, fingerprint(2));
        quarantine.note(9000, fingerprint(2));
        let until = |refused: Vec<Quarantined>| -> Vec<u64> {
            refused.iter().map(|one| one.until_ms).collect()
        };
        let both = [HOUR_MS + 7000, HOUR_MS + 9000];
        assert_eq!(until(quarantine.refused(9000, HOUR)), both);
        let later_ms = HOUR_MS + 6999;
        assert_eq!(until(quarantine.refused(later_ms, HOUR)), both);
        assert_eq!(until(quarantine.refused(later_ms + 1, HOUR)), both[1..]);
    }

    #[test]
    fn deaths_that_are_far_apart_have_nothing_in_common() {
        for (apart_ms, has_something) in [(600_000, true), (600_001, false)] {
            let mut quarantine = Quarantine::default();
            assert!(!quarantine.note(0, fingerprint(1)));
            assert_eq!(quarantine.note(apart_ms, fingerprint(1)), has_something);
        }
    }

    #[test]
    fn no_more_are_refused_than_a_worker_takes() {
        let mut quarantine = Quarantine::default();
        for key in 0..40 {
            quarantine.note(0, fingerprint(key));
            quarantine.note(0, fingerprint(key));
        }
        let refused = keys(&quarantine.refused(0, HOUR));
        assert_eq!(refused.len(), QUARANTINE_MAX);
        assert_eq!(refused.last(), Some(&39));
    }
}
