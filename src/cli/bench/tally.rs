//! What the connections of one thread counted and measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::generator::Work;
use super::keys::Keyspace;
use super::latencies::Latencies;
use super::schedule::Schedule;
use super::source::Operation;
use super::wire::Reply;
use crate::cli::ending::Ending;

/// LIMIT: how many sentences about lost connections are kept; the others would say the same.
const SENTENCES_MAX: usize = 5;

/// LIMIT: how many kinds of refusals are told apart.
const REFUSALS_MAX: usize = 32;

/// What was counted and measured, from a common beginning.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    started: Instant,
    /// Requests written, or about to be.
    pub(super) sent: u64,
    /// Operations that were due at a given rate, and for which there was no room before the end, or no
    /// connection.
    pub(super) unsent: u64,
    /// What connections had still to send that were lost.
    orphaned: Vec<Schedule>,
    /// Replies received.
    pub(super) answered: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) stored: u64,
    /// Hits with another value than the key determines.
    pub(super) wrong: u64,
    /// The key of the first of these.
    first_wrong: Option<u64>,
    /// Refusals by what the server called them.
    pub(super) refused: BTreeMap<String, u64>,
    /// Connections that ended before their work was done.
    pub(super) lost_connections: u64,
    /// Why the first of them ended.
    pub(super) lost_sentences: Vec<String>,
    pub(super) gets: Latencies,
    pub(super) sets: Latencies,
    /// How much later than meant requests were sent that had nothing to wait for, at a given rate: the
    /// generator's own delay, which is in the latencies as well.
    pub(super) delays: Latencies,
    pub(super) slowest: Option<Slowest>,
    /// The slowest since [`Tally::end_interval`].
    interval_slowest: Duration,
}

/// The longest single operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slowest {
    pub(super) latency: Duration,
    /// When its reply came, since the beginning.
    pub(super) at: Duration,
    pub(super) operation: Operation,
}

impl Tally {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            sent: 0,
            unsent: 0,
            orphaned: Vec::new(),
            answered: 0,
            hits: 0,
            misses: 0,
            stored: 0,
            wrong: 0,
            first_wrong: None,
            refused: BTreeMap::new(),
            lost_connections: 0,
            lost_sentences: Vec::new(),
            gets: Latencies::new(),
            sets: Latencies::new(),
            delays: Latencies::new(),
            slowest: None,
            interval_slowest: Duration::ZERO,
        }
    }

    /// Begins anew at `started`.
    pub(super) fn restart(&mut self, started: Instant) {
        *self = Self::new(started);
    }

    /// Counts a reply that came at `now`.
    #[inline]
    pub(super) fn count(
        &mut self,
        operation: Operation,
        reply: Reply<'_>,
        latency: Duration,
        now: Instant,
    ) {
        self.answered += 1;
        match reply {
            Reply::Hit(_) => self.hits += 1,
            Reply::Miss => self.misses += 1,
            Reply::Stored => self.stored += 1,
            Reply::Refused(why) => self.count_refusal(why),
        }
        let latencies = match operation {
            Operation::Get(_) | Operation::GetNext(_) => &mut self.gets,
            Operation::Set(_) => &mut self.sets,
        };
        latencies.record(latency);
        if latency > self.interval_slowest {
            self.interval_slowest = latency;
            if self.slowest.is_none_or(|slowest| latency > slowest.latency) {
                let at = now.duration_since(self.started);
                self.slowest = Some(Slowest {
                    latency,
                    at,
                    operation,
                });
            }
        }
    }

    /// Compares a value that was read with what its key determines.
    #[inline]
    pub(super) fn verify(&mut self, keyspace: &Keyspace, operation: Operation, reply: Reply<'_>) {
        if let (Operation::Get(key) | Operation::GetNext(key), Reply::Hit(value)) =
            (operation, reply)
            && !keyspace.is_value(key, value)
        {
            self.count_wrong(key);
        }
    }

    /// Counts a value that is not what its key determines.
    #[cold]
    fn count_wrong(&mut self, key: u64) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(key);
    }

    /// Counts requests of so many operations that were sent, each with its delay.
    pub(super) fn count_sent(&mut self, operations: usize, delays: &[Duration]) {
        self.sent += operations as u64;
        delays.iter().for_each(|delay| self.delays.record(*delay));
    }

    #[cold]
    fn count_refusal(&mut self, why: &str) {
        if self.refused.len() < REFUSALS_MAX || self.refused.contains_key(why) {
            *self.refused.entry(why.to_owned()).or_default() += 1;
        } else {
            *self.refused.entry("others".to_owned()).or_default() += 1;
        }
    }

    /// Counts a connection that ended before its work was done.
    pub(super) fn count_lost(&mut self, why: String) {
        self.lost_connections += 1;
        if self.lost_sentences.len() < SENTENCES_MAX && !self.lost_sentences.contains(&why) {
            self.lost_sentences.push(why);
        }
    }

    /// Keeps what a connection had still to send that was lost.
    pub(super) fn add_orphaned(&mut self, schedule: Schedule) {
        self.orphaned.push(schedule);
    }

    /// Counts what lost connections were to send before the end of the load.
    pub(super) fn count_orphaned(&mut self, until: Duration) {
        let orphaned = std::mem::take(&mut self.orphaned);
        let missed = orphaned.iter().map(|schedule| schedule.missed(until));
        self.unsent += missed.sum::<u64>();
    }

    /// The slowest operation since the last call.
    pub(super) fn end_interval(&mut self) -> Duration {
        std::mem::take(&mut self.interval_slowest)
    }

    /// Adds what another thread counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.orphaned.extend(&other.orphaned);
        self.answered += other.answered;
        self.hits += other.hits;
        self.misses += other.misses;
        self.stored += other.stored;
        self.add_trouble(other);
        self.gets.add(&other.gets);
        self.sets.add(&other.sets);
        self.delays.add(&other.delays);
        self.slowest = [self.slowest, other.slowest]
            .into_iter()
            .flatten()
            .max_by_key(|slowest| slowest.latency);
    }

    /// Adds only what went wrong elsewhere.
    pub(super) fn add_trouble(&mut self, other: &Self) {
        self.wrong += other.wrong;
        self.first_wrong = self.first_wrong.or(other.first_wrong);
        self.lost_connections += other.lost_connections;
        for (why, count) in &other.refused {
            *self.refused.entry(why.clone()).or_default() += count;
        }
        for sentence in &other.lost_sentences {
            if self.lost_sentences.len() < SENTENCES_MAX && !self.lost_sentences.contains(sentence)
            {
                self.lost_sentences.push(sentence.clone());
            }
        }
    }

    /// Latencies of all operations.
    pub(super) fn latencies(&self) -> Latencies {
        let mut all = self.gets.clone();
        all.add(&self.sets);
        all
    }

    /// What must not be overlooked in a report, as sentences.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(key) = self.first_wrong {
            complaints.push(format!(
                "WRONG VALUES: {} of {} values read are not what their key determines, the first of \
                 them that of key {key}",
                self.wrong, self.hits
            ));
        }
        if let Some(why) = self.lost_sentences.first() {
            let lost = self.lost_connections;
            complaints.push(format!("{lost} connections lost: {why}"));
        }
        complaints
    }

    /// How a command ends with such a result.
    pub(super) fn ending(&self, work: Work) -> Ending {
        let missing = work == Work::ReadAll && self.misses > 0;
        if self.lost_connections > 0 {
            Ending::Unreachable
        } else if missing || self.wrong > 0 || !self.refused.is_empty() {
            Ending::NotFoundOrNotStored
        } else {
            Ending::Done
        }
    }

    /// Requests of which nobody knows what became.
    pub(super) fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    /// Refusals of all kinds.
    pub(super) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Operation, Reply, Tally};

    #[test]
    fn tallies_of_threads_add_up() {
        let started = Instant::now();
        let at = |ms| started + Duration::from_millis(ms);
        let (mut one, mut two) = (Tally::new(started), Tally::new(started));
        one.sent = 3;
        one.count(
            Operation::Get(1),
            Reply::Hit(b"x"),
            Duration::from_millis(1),
            at(5),
        );
        one.count(
            Operation::Get(2),
            Reply::Miss,
            Duration::from_millis(2),
            at(6),
        );
        two.sent = 2;
        two.count(
            Operation::Set(3),
            Reply::Stored,
            Duration::from_millis(9),
            at(7),
        );
        two.count(
            Operation::Set(4),
            Reply::Refused("NO_SPACE"),
            Duration::from_millis(1),
            at(8),
        );
        two.count_lost("gone".to_owned());
        one.add(&two);
        assert_eq!(
            (one.hits, one.misses, one.stored, one.refusals()),
            (1, 1, 1, 1)
        );
        assert_eq!(
            (one.answered, one.unanswered(), one.lost_connections),
            (4, 1, 1)
        );
        assert_eq!((one.gets.len(), one.sets.len()), (2, 2));
        let slowest = one.slowest.expect("there was one");
        assert_eq!(
            (slowest.at, slowest.operation),
            (Duration::from_millis(7), Operation::Set(3))
        );
    }

    #[test]
    fn an_interval_has_a_slowest_operation_of_its_own() {
        let started = Instant::now();
        let mut tally = Tally::new(started);
        let count = |tally: &mut Tally, ms| {
            tally.count(
                Operation::Get(1),
                Reply::Miss,
                Duration::from_millis(ms),
                started,
            );
            tally.end_interval()
        };
        assert_eq!(count(&mut tally, 8), Duration::from_millis(8));
        assert_eq!(count(&mut tally, 2), Duration::from_millis(2));
        assert_eq!(
            tally.slowest.map(|slowest| slowest.latency),
            Some(Duration::from_millis(8))
        );
    }
}
