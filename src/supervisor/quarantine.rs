//! Fingerprints that have brought workers down: what two deaths have in common is refused for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::blackbox::Fingerprint;
use crate::server::QUARANTINE_MAX;

/// So many deaths with one fingerprint are no accident.
const DEATHS_ALIKE: usize = 2;

/// Deaths further apart than this have nothing to do with each other.
const WINDOW: Duration = Duration::from_secs(600);

/// What workers have died of lately, and what the next ones refuse.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// LIMIT: within the window there are few, since each has its process.
    deaths: VecDeque<(Instant, Fingerprint)>,
    /// What is refused, since when, the oldest first.
    refused: VecDeque<(Instant, Fingerprint)>,
}

impl Quarantine {
    /// Notes a death; says whether its like is refused from now on.
    pub(super) fn note(&mut self, now: Instant, fingerprint: Fingerprint) -> bool {
        while (self.deaths.front()).is_some_and(|(then, _)| now.duration_since(*then) > WINDOW) {
            self.deaths.pop_front();
        }
        self.deaths.push_back((now, fingerprint));
        let alike = self.deaths.iter().filter(|(_, of)| *of == fingerprint);
        if alike.count() < DEATHS_ALIKE {
            return false;
        }
        self.refused.retain(|(_, refused)| *refused != fingerprint);
        if self.refused.len() == QUARANTINE_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((now, fingerprint));
        true
    }

    /// What a worker that is started now is to refuse.
    pub(super) fn refused(&mut self, now: Instant, refused_for: Duration) -> Vec<Fingerprint> {
        self.refused
            .retain(|(since, _)| now.duration_since(*since) < refused_for);
        self.refused.iter().map(|(_, refused)| *refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::Operation;

    const HOUR: Duration = Duration::from_secs(3600);

    fn fingerprint(key_hash: u64) -> Fingerprint {
        let operation = Operation::Get;
        Fingerprint {
            operation,
            key_hash,
        }
    }

    #[test]
    fn the_second_death_of_the_same_is_the_last_for_a_while() {
        let (mut quarantine, now) = (Quarantine::default(), Instant::now());
        assert!(!quarantine.note(now, fingerprint(1)));
        assert!(!quarantine.note(now, fingerprint(2)));
        assert_eq!(quarantine.refused(now, HOUR), []);
        assert!(quarantine.note(now + Duration::from_secs(5), fingerprint(1)));
        assert_eq!(quarantine.refused(now, HOUR), [fingerprint(1)]);
        assert_eq!(quarantine.refused(now + 2 * HOUR, HOUR), []);
    }

    #[test]
    fn deaths_that_are_far_apart_have_nothing_in_common() {
        let (mut quarantine, now) = (Quarantine::default(), Instant::now());
        assert!(!quarantine.note(now, fingerprint(1)));
        assert!(!quarantine.note(now + HOUR, fingerprint(1)));
    }

    #[test]
    fn no_more_are_refused_than_a_worker_takes() {
        let (mut quarantine, now) = (Quarantine::default(), Instant::now());
        for key in 0..40 {
            quarantine.note(now, fingerprint(key));
            quarantine.note(now, fingerprint(key));
        }
        let refused = quarantine.refused(now, HOUR);
        assert_eq!(refused.len(), QUARANTINE_MAX);
        assert_eq!(refused.last(), Some(&fingerprint(39)));
    }
}
