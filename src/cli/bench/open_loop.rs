//! The open loop: every request is sent when it is due, whatever has become of those before it, and its
//! latency is counted from the time that was meant for it. So a server that stalls is charged with the
//! wait of every request that it held up, those that could not be sent included: there is no
//! coordinated omission.
//!
//! A connection has at most `depth` requests under way; what is due beyond that waits here, and its
//! waiting counts. A request of many keys waits for the time of the last; where the load ends before that,
//! it is sent with those keys whose time has come.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::connection::{Connection, End, Lost, Orders, Values};
use super::schedule::Schedule;
use super::source::{Operation, Source};
use super::wire::Reply;

/// LIMIT: operations that are answered and not yet forgotten.
const ANSWERED_MAX: usize = 4096;

/// LIMIT: bytes that are written and not yet forgotten, before others that the socket did not take.
const WRITTEN_BYTES_MAX: usize = 64 << 10;

/// What is under way on one connection.
struct Flight {
    schedule: Schedule,
    started: Instant,
    /// Operations that were sent; those before `answered` are done.
    operations: Vec<Operation>,
    answered: usize,
    /// The id of the first of `operations`.
    first_id: u32,
    /// The time that was meant for each request under way.
    meant: VecDeque<Duration>,
    /// The next request; empty before it is drawn.
    request: Vec<Operation>,
    /// When there was last no room for another request under way.
    full_until: Duration,
    /// How late the requests are that are sent at once, and how many operations they have.
    delays: Vec<Duration>,
    sent: usize,
    supply: Supply,
}

/// Whether there are requests to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supply {
    More,
    Exhausted,
}

/// Why a wait is over.
enum Woken {
    Received,
    Due,
}

/// Works until nothing is left to do, or the time is over and all replies are there.
pub(super) async fn work(
    connection: Connection,
    source: Source,
    orders: Orders,
    schedule: Schedule,
) {
    let mut flight = Flight::new(schedule, orders.started);
    if let Err(lost) = fly(&mut flight, connection, source, &orders).await {
        let mut tally = orders.tally.lock();
        if flight.supply == Supply::More {
            tally.add_orphaned(flight.schedule);
        }
        tally.count_lost(lost.to_string());
    }
}

async fn fly(
    flight: &mut Flight,
    mut connection: Connection,
    mut source: Source,
    orders: &Orders,
) -> Result<(), Lost> {
    connection.make_room_for(orders);
    connection.outbox.clear();
    let keys_per_get = std::mem::replace(
        &mut source.keys_per_get,
        flight.schedule.first_keys(orders.keys_per_get),
    );
    flight.draw(&mut source);
    source.keys_per_get = keys_per_get;
    let (mut written, mut now) = (0, Instant::now());
    let mut alarm = Alarm::new()?;
    loop {
        if flight.supply == Supply::More && orders.is_over(now) {
            flight.stop(&mut connection, orders, now);
        }
        if written == connection.outbox.len() || written >= WRITTEN_BYTES_MAX {
            connection.outbox.drain(..written);
            written = 0;
        }
        flight.send_due(&mut connection, &mut source, orders, now);
        if flight.is_done() {
            return Ok(());
        }
        let due = flight.next_due(orders);
        let woken = std::future::poll_fn(|cx| {
            poll_either(cx, &mut connection, &mut written, due, &mut alarm)
        });
        let woken = woken.await?;
        now = Instant::now();
        if let Woken::Received = woken {
            flight.take_replies(&mut connection, orders, now)?;
        }
    }
}

/// Ends when something was received, or the next request is due.
fn poll_either(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    written: &mut usize,
    due: Option<Instant>,
    alarm: &mut Alarm,
) -> Poll<Result<Woken, Lost>> {
    if let Poll::Ready(received) = connection.poll_exchange(cx, written) {
        return Poll::Ready(received.map(|()| Woken::Received).map_err(Lost::from));
    }
    let Some(due) = due else {
        return Poll::Pending;
    };
    alarm
        .poll(cx, due)
        .map(|rang| rang.map(|()| Woken::Due).map_err(Lost::from))
}

impl Flight {
    fn new(schedule: Schedule, started: Instant) -> Self {
        Self {
            schedule,
            started,
            operations: Vec::new(),
            answered: 0,
            first_id: 0,
            meant: VecDeque::new(),
            request: Vec::new(),
            full_until: Duration::ZERO,
            delays: Vec::new(),
            sent: 0,
            supply: Supply::More,
        }
    }

    /// Draws the next request.
    fn draw(&mut self, source: &mut Source) {
        source.fill(1, &mut self.request);
        if self.request.is_empty() {
            self.supply = Supply::Exhausted;
        }
    }

    /// Sends no more than the keys of the next request that are due by now, if there is room; what else was
    /// due is counted.
    fn stop(&mut self, connection: &mut Connection, orders: &Orders, now: Instant) {
        self.supply = Supply::Exhausted;
        let until = orders.deadline.map_or(now, |deadline| now.min(deadline));
        let until = until.saturating_duration_since(self.started);
        let missed = self.schedule.missed(until);
        if missed > 0 && self.meant.len() < orders.depth {
            self.request.truncate(missed as usize);
            self.send(connection, until);
        }
        orders.tally.lock().unsent += self.schedule.missed(until);
    }

    fn is_done(&self) -> bool {
        self.supply == Supply::Exhausted && self.meant.is_empty()
    }

    /// When something has to be done besides reading replies.
    fn next_due(&self, orders: &Orders) -> Option<Instant> {
        if self.supply == Supply::Exhausted {
            return None;
        }
        let may_send = self.meant.len() < orders.depth;
        let due = may_send.then(|| self.started + self.schedule.due(self.request.len()));
        // That a load is over must be noticed, too.
        due.into_iter().chain(orders.deadline).min()
    }

    /// Puts every request that is due and may be sent among those to be written.
    fn send_due(
        &mut self,
        connection: &mut Connection,
        source: &mut Source,
        orders: &Orders,
        now: Instant,
    ) {
        let elapsed = now.saturating_duration_since(self.started);
        while self.supply == Supply::More
            && self.meant.len() < orders.depth
            && self.schedule.due(self.request.len()) <= elapsed
        {
            self.send(connection, elapsed);
            self.draw(source);
        }
        if self.sent > 0 {
            orders.tally.lock().count_sent(self.sent, &self.delays);
            self.delays.clear();
            self.sent = 0;
        }
    }

    /// Puts the next request among those to be written.
    fn send(&mut self, connection: &mut Connection, elapsed: Duration) {
        let operations = self.request.len();
        let id = self.first_id.wrapping_add(self.operations.len() as u32);
        let Connection { wire, outbox, .. } = connection;
        wire.push_request(&self.request, id, outbox);
        let meant = self.schedule.due(operations);
        self.schedule.take(operations);
        self.meant.push_back(meant);
        let possible = meant.max(self.full_until);
        self.delays.push(elapsed.saturating_sub(possible));
        self.sent += operations;
        self.operations.append(&mut self.request);
    }

    /// Counts the replies that have come.
    fn take_replies(
        &mut self,
        connection: &mut Connection,
        orders: &Orders,
        now: Instant,
    ) -> Result<(), Lost> {
        let elapsed = now - self.started;
        if self.meant.len() == orders.depth {
            self.full_until = elapsed;
        }
        let mut tally = orders.tally.lock();
        let (meant, mut latency) = (&mut self.meant, Duration::ZERO);
        let each = |operation, reply: Reply<'_>| {
            // The keys of one request were sent together.
            if !matches!(operation, Operation::GetNext(_)) {
                let meant = meant.pop_front().unwrap_or(elapsed);
                latency = elapsed.saturating_sub(meant);
            }
            tally.count(operation, reply, latency, now);
            if orders.values == Values::Verify {
                tally.verify(&orders.keyspace, operation, reply);
            }
        };
        let id = self.first_id.wrapping_add(self.answered as u32);
        let taken = connection.take_replies(&self.operations[self.answered..], id, each)?;
        drop(tally);
        self.answered += taken.operations;
        if self.answered == self.operations.len() || self.answered >= ANSWERED_MAX {
            self.operations.drain(..self.answered);
            self.first_id = self.first_id.wrapping_add(self.answered as u32);
            self.answered = 0;
        }
        match taken.end {
            End::Draining => Err(Lost::Said("the server is draining".to_owned())),
            End::Waiting => Ok(()),
        }
    }
}
