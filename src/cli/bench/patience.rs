//! How long a thread of a load waits for replies.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::connection::Orders;

/// How often a thread looks whether its load is over, or its server silent.
const CHECK: Duration = Duration::from_millis(100);

/// LIMIT: how long replies may still come once somebody asked for the end.
const INTERRUPTED_WAIT: Duration = Duration::from_secs(2);

/// What a thread knows of its server's silence.
#[derive(Debug)]
pub(super) struct Patience {
    timeout: Duration,
    look_at: Instant,
    /// Replies by `heard_at`, when there was last one, or nothing to reply to.
    answered: u64,
    heard_at: Instant,
    /// When the load was first seen to be over.
    over_at: Option<Instant>,
}

impl Patience {
    /// That of a load that begins now, with so long a time for replies.
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        let mut patience = Self {
            timeout,
            look_at: now,
            answered: 0,
            heard_at: now,
            over_at: None,
        };
        patience.look_at += patience.pause();
        patience
    }

    /// How long it is from one look to the next.
    pub(super) fn pause(&self) -> Duration {
        CHECK.min(self.timeout)
    }

    /// Looks, where it is time to, whether there is no use in waiting for replies any more; if so, with
    /// the reason where some are missing.
    #[inline]
    pub(super) fn look(&mut self, now: Instant, orders: &Orders) -> ControlFlow<Option<String>> {
        if now < self.look_at {
            return ControlFlow::Continue(());
        }
        self.look_at = now + self.pause();
        self.look_closely(now, orders)
    }

    fn look_closely(&mut self, now: Instant, orders: &Orders) -> ControlFlow<Option<String>> {
        let (answered, unanswered) = {
            let tally = orders.tally.lock();
            (tally.answered, tally.unanswered())
        };
        if unanswered == 0 || answered != self.answered {
            (self.answered, self.heard_at) = (answered, now);
        }
        let is_interrupted = orders.stop.is_asked();
        if orders.is_over(now) {
            let over_at = *self.over_at.get_or_insert(now);
            if is_interrupted && unanswered == 0 {
                return ControlFlow::Break(None);
            }
            let left = match is_interrupted {
                true => self.timeout.min(INTERRUPTED_WAIT),
                false => self.timeout,
            };
            if now - over_at >= left {
                let why = "the last replies did not come in time";
                return ControlFlow::Break(Some(why.to_owned()));
            }
        } else if orders.deadline.is_none() && now - self.heard_at >= self.timeout {
            let why = format!("the server did not answer within {:?}", self.timeout);
            return ControlFlow::Break(Some(why));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::connection::Values;
    use crate::cli::bench::keys::Keyspace;
    use crate::cli::bench::sizes::Sizes;
    use crate::cli::bench::stop::Stop;
    use crate::cli::bench::tally::Tally;
    use crate::sync::{Arc, Mutex};

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Orders of a load that begins now and lasts this long.
    fn orders(duration: Option<Duration>) -> Orders {
        let started = Instant::now();
        let keyspace = Keyspace {
            keys: 1,
            key_bytes: 5,
            sizes: Sizes::fixed(1),
            expire_in: None,
            seed: 1,
        };
        Orders {
            keyspace: Arc::new(keyspace),
            depth: 1,
            keys_per_get: 1,
            values: Values::Count,
            started,
            deadline: duration.map(|duration| started + duration),
            stop: Stop::default(),
            tally: Arc::new(Mutex::new(Tally::new(started))),
        }
    }

    /// The last of the seconds at which it waits on, of those up to the 60th; and what it says then.
    fn lasts(orders: &Orders, mut each: impl FnMut(u64)) -> (u64, ControlFlow<Option<String>>) {
        let mut patience = Patience::new(TIMEOUT, orders.started);
        for second in 1..=60 {
            each(second);
            let now = orders.started + Duration::from_secs(second);
            let looked = patience.look(now, orders);
            if looked.is_break() {
                return (second - 1, looked);
            }
        }
        (60, ControlFlow::Continue(()))
    }

    fn broken(why: &str) -> ControlFlow<Option<String>> {
        ControlFlow::Break(Some(why.to_owned()))
    }

    #[test]
    fn a_load_without_an_end_goes_on_as_long_as_there_are_replies() {
        let orders = orders(None);
        let goes_on = ControlFlow::Continue(());
        assert_eq!(lasts(&orders, |_| {}), (60, goes_on.clone()));
        orders.tally.lock().sent = 100;
        let answer = |second: u64| orders.tally.lock().answered = second / 5;
        assert_eq!(lasts(&orders, answer), (60, goes_on));
        orders.tally.lock().answered = 7;
        let silent = broken("the server did not answer within 10s");
        // The first look finds those replies.
        assert_eq!(lasts(&orders, |_| {}), (10, silent));
    }

    #[test]
    fn the_last_replies_have_so_much_time_and_less_where_somebody_waits_for_the_end() {
        let orders = orders(Some(Duration::from_secs(20)));
        orders.tally.lock().sent = 1;
        let late = broken("the last replies did not come in time");
        assert_eq!(lasts(&orders, |_| {}), (29, late.clone()));
        let stop = orders.stop.clone();
        let ask = |second| {
            if second == 5 {
                stop.ask();
            }
        };
        assert_eq!(lasts(&orders, ask), (6, late));
        orders.tally.lock().answered = 1;
        assert_eq!(lasts(&orders, |_| {}), (0, ControlFlow::Break(None)));
    }

    #[test]
    fn nothing_is_looked_at_before_it_is_time() {
        let orders = orders(None);
        orders.stop.ask();
        let mut patience = Patience::new(TIMEOUT, orders.started);
        let due = orders.started + patience.pause();
        let early = patience.look(due - Duration::from_nanos(1), &orders);
        assert_eq!(early, ControlFlow::Continue(()));
        assert_eq!(patience.look(due, &orders), ControlFlow::Break(None));
    }
}
