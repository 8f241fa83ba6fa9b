//! The times at which an open loop means to send, which no reply and no delay can move.

use std::time::Duration;

/// When one connection of a load sends next, counted from the start of the load. Every operation has its
/// time; a request of many is due with its last, so that none of them is sent before its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    /// The time of its first operation.
    first_ns: f64,
    /// Between two operations of this connection.
    interval_ns: f64,
    /// Operations that were sent.
    taken: u64,
    /// How far into a request of its own the connection begins.
    share: f64,
}

impl Schedule {
    /// The times of the `number`-th of so many connections, which together come to a rate. Each begins
    /// a little after the one before, so that they do not all send at once.
    pub(super) fn new(operations_per_second: f64, connections: usize, number: usize) -> Self {
        let between_any_ns = 1e9 / operations_per_second;
        Self {
            first_ns: between_any_ns * number as f64,
            interval_ns: between_any_ns * connections as f64,
            taken: 0,
            share: (number + 1) as f64 / connections as f64,
        }
    }

    /// How many keys the first request asks for, of so many that the others do: on every connection another
    /// part of them, or else all connections would send their requests together ever after.
    pub(super) fn first_keys(&self, keys_per_get: usize) -> usize {
        ((keys_per_get as f64 * self.share).ceil() as usize).clamp(1, keys_per_get)
    }

    /// When the next request is due, of so many operations.
    pub(super) fn due(&self, operations: usize) -> Duration {
        let last = self.taken + (operations as u64).saturating_sub(1);
        Duration::from_nanos((self.first_ns + self.interval_ns * last as f64) as u64)
    }

    /// Takes the times of so many operations.
    pub(super) fn take(&mut self, operations: usize) {
        self.taken += operations as u64;
    }

    /// How many operations were due before a time and are not taken.
    pub(super) fn missed(&self, until: Duration) -> u64 {
        let due = (until.as_nanos() as f64 - self.first_ns) / self.interval_ns;
        (due.ceil().max(0.0) as u64).saturating_sub(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Schedule;

    const MS: Duration = Duration::from_millis(1);

    /// Takes what is due before a time, by requests of so many operations.
    fn take_due(schedule: &mut Schedule, operations: usize, until: Duration) -> Vec<Duration> {
        std::iter::from_fn(|| {
            let due = schedule.due(operations);
            (due < until).then(|| schedule.take(operations))?;
            Some(due)
        })
        .collect()
    }

    #[test]
    fn connections_share_a_rate_and_begin_one_after_the_other() {
        let schedules = (0..4).map(|number| Schedule::new(1000.0, 4, number));
        let times = schedules.map(|mut schedule| take_due(&mut schedule, 1, MS * 20));
        let mut times: Vec<Duration> = times.flatten().collect();
        times.sort();
        let expected: Vec<Duration> = (0..20).map(|ms| MS * ms).collect();
        assert_eq!(times, expected, "one each millisecond");
    }

    #[test]
    fn a_request_that_was_late_does_not_put_off_the_next() {
        let mut schedule = Schedule::new(1000.0, 1, 0);
        assert_eq!(take_due(&mut schedule, 1, MS / 2), [Duration::ZERO]);
        // Nothing could be sent for 5 ms: what was due meanwhile keeps the time that it was due at.
        let late = take_due(&mut schedule, 1, MS * 5);
        assert_eq!(late, [MS, MS * 2, MS * 3, MS * 4]);
    }

    #[test]
    fn a_request_of_many_operations_is_due_with_its_last_and_takes_the_time_of_all() {
        let mut schedule = Schedule::new(1000.0, 1, 0);
        assert_eq!(schedule.due(64), MS * 63);
        schedule.take(64);
        assert_eq!(schedule.due(1), MS * 64);
    }

    #[test]
    fn connections_begin_in_different_parts_of_a_request() {
        let first = |connections: usize| -> Vec<usize> {
            let schedules = (0..connections).map(|at| Schedule::new(1000.0, connections, at));
            schedules.map(|schedule| schedule.first_keys(64)).collect()
        };
        assert_eq!(first(4), [16, 32, 48, 64]);
        assert_eq!((first(1)[0], first(1000)[0]), (64, 1));
        assert_eq!(Schedule::new(1000.0, 50, 0).first_keys(1), 1);
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

    #[test]
    fn connections_together_come_to_the_rate_exactly() {
        for connections in [1, 7, 50] {
            let schedules = (0..connections).map(|at| Schedule::new(5000.0, connections, at));
            let due: u64 = schedules.map(|schedule| schedule.missed(MS * 2000)).sum();
            assert_eq!(due, 10_000, "{connections}");
        }
    }
}
