//! The times at which an open loop means to send, which no reply and no delay can move.

use std::time::Duration;

/// When one connection of a load sends next, counted from the start of the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    next_ns: f64,
    /// Between two operations of this connection.
    interval_ns: f64,
}

impl Schedule {
    /// The times of the `number`-th of so many connections, which together come to a rate. Each begins
    /// a little after the one before, so that they do not all send at once.
    pub(super) fn new(operations_per_second: f64, connections: usize, number: usize) -> Self {
        let between_any_ns = 1e9 / operations_per_second;
        Self {
            next_ns: between_any_ns * number as f64,
            interval_ns: between_any_ns * connections as f64,
        }
    }

    /// When the next request is due.
    pub(super) fn next(&self) -> Duration {
        Duration::from_nanos(self.next_ns as u64)
    }

    /// Whether a request is due.
    pub(super) fn is_due(&self, elapsed: Duration) -> bool {
        self.next() <= elapsed
    }

    /// Takes the request that is due, of so many operations; gives the time that was meant for it.
    pub(super) fn take(&mut self, operations: usize) -> Duration {
        let meant = self.next();
        self.next_ns += self.interval_ns * operations as f64;
        meant
    }

    /// How many operations were due before a time and are not taken.
    pub(super) fn missed(&self, elapsed: Duration) -> u64 {
        let behind_ns = elapsed.as_nanos() as f64 - self.next_ns;
        (behind_ns / self.interval_ns).ceil().max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Schedule;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn connections_share_a_rate_and_begin_one_after_the_other() {
        let mut times: Vec<Duration> = Vec::new();
        for number in 0..4 {
            let mut schedule = Schedule::new(1000.0, 4, number);
            times.extend((0..5).map(|_| schedule.take(1)));
        }
        times.sort();
        let expected: Vec<Duration> = (0..20).map(|ms| MS * ms).collect();
        assert_eq!(times, expected, "one each millisecond");
    }

    #[test]
    fn a_request_that_was_late_does_not_put_off_the_next() {
        let mut schedule = Schedule::new(1000.0, 1, 0);
        assert!(schedule.is_due(Duration::ZERO));
        assert_eq!(schedule.take(1), Duration::ZERO);
        assert!(!schedule.is_due(MS / 2), "not before its time");
        // Nothing could be sent for 5 ms: what was due meanwhile keeps the time that it was due at.
        let late: Vec<Duration> = std::iter::from_fn(|| {
            let is_due = schedule.is_due(MS * 5);
            is_due.then(|| schedule.take(1))
        })
        .collect();
        assert_eq!(late, [MS, MS * 2, MS * 3, MS * 4, MS * 5]);
    }

    #[test]
    fn a_request_of_many_operations_takes_the_time_of_all_of_them() {
        let mut schedule = Schedule::new(1000.0, 1, 0);
        schedule.take(64);
        assert_eq!(schedule.next(), MS * 64);
    }

    #[test]
    fn what_was_due_and_not_sent_is_counted() {
        let mut schedule = Schedule::new(1000.0, 2, 1);
        assert_eq!(schedule.missed(Duration::ZERO), 0);
        assert_eq!(schedule.missed(MS * 10), 5, "due at 1, 3, 5, 7 and 9 ms");
        schedule.take(1);
        assert_eq!(schedule.missed(MS * 10), 4);
        assert_eq!(schedule.missed(MS), 0);
    }
}
