//! The closed loop: on each connection a batch of requests, then all of their replies, then the next batch.
//!
//! ```text
//!   wait ──> receive from all that are ready ──> count their replies, ──> send to all ──┐
//!     ^                                          draw what is next                      │
//!     └─────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One thread drives all of its connections, and those that are ready together share one call of the system
//! for their receives and one for their sends: what a generator costs is taken from what it can measure.
//!
//! Events are edge-triggered. A connection has a turn when its socket has something new to say: it receives
//! what is there and sends what there is room for, so that neither side can wait for the other for ever.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::connection::{Connection, End, Lost, Orders, Values, first_request};
use super::patience::Patience;
use super::sockets::Sockets;
use super::source::{Operation, Source};
use super::tally::Tally;
use super::target::Socket;
use super::wire::Reply;
use crate::server::SOCKETS_MAX;

/// LIMIT: connections that one wait may report; the others are reported by the next.
const EVENTS: usize = 1024;

/// What one thread works with.
#[derive(Debug)]
pub(super) struct ClosedLoop {
    poll: Poll,
    sockets: Sockets,
    /// All that are not through, by their tokens.
    lanes: Vec<Option<Box<Lane>>>,
    /// Those that are to have a turn, and those that need another after it.
    ready: Vec<usize>,
    again: Vec<usize>,
    /// Those that have their turn; between turns, none.
    #[expect(clippy::vec_box, reason = "they go to and fro")]
    group: Vec<Box<Lane>>,
}

/// One connection and its batch.
#[derive(Debug)]
struct Lane {
    token: usize,
    connection: Connection<Socket>,
    source: Source,
    batch: Vec<Operation>,
    answered: usize,
    /// Bytes of the batch that the socket has taken.
    written: usize,
    /// When the first of them was sent.
    sent_at: Option<Instant>,
    end: End,
    /// Whether it is among those that are to have a turn.
    is_ready: bool,
    /// Whether its socket may take something.
    has_room: bool,
    /// Nothing more comes than what is there.
    is_hung_up: bool,
    turned: Turned,
}

/// What a connection needs after a turn.
#[derive(Debug)]
enum Turned {
    /// Its socket has to say something new.
    Wait,
    /// There may be more to receive.
    Again,
    /// Nothing is left to do, or the time is over.
    Done,
    Lost(Lost),
}

impl ClosedLoop {
    /// For the calling thread, and connections that each take their operations from a source.
    pub(super) fn new(members: impl Iterator<Item = (Connection, Source)>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut lanes = Vec::new();
        for (token, (connection, source)) in members.enumerate() {
            let mut connection = connection.leave_runtime()?;
            connection.register(poll.registry(), Token(token))?;
            lanes.push(Some(Box::new(Lane::new(token, connection, source))));
        }
        Ok(Self {
            poll,
            sockets: Sockets::new(),
            ready: (0..lanes.len()).collect(),
            again: Vec::new(),
            group: Vec::new(),
            lanes,
        })
    }

    /// Works until nothing is left to do, or there is no use in waiting any more: says why, where replies are
    /// missing.
    pub(super) fn work(mut self, orders: &Orders, mut patience: Patience) -> Option<String> {
        for lane in self.lanes.iter_mut().flatten() {
            lane.connection.make_room_for(orders);
        }
        let mut events = Events::with_capacity(EVENTS);
        let mut working = self.lanes.len();
        loop {
            working -= self.turns(orders);
            if working == 0 {
                return None;
            }
            if let ControlFlow::Break(missing) = patience.look(Instant::now(), orders) {
                return missing;
            }
            if let Err(error) = self.wait(&mut events, patience.pause()) {
                return Some(error.to_string());
            }
        }
    }

    /// Finds those that are ready; if there is none yet, waits for one, but no longer than this.
    fn wait(&mut self, events: &mut Events, pause: Duration) -> io::Result<()> {
        let is_idle = self.ready.is_empty();
        let pause = if is_idle { pause } else { Duration::ZERO };
        match self.poll.poll(events, Some(pause)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &*events {
            let Token(token) = event.token();
            if let Some(lane) = &mut self.lanes[token] {
                lane.has_room |= event.is_writable();
                lane.is_hung_up |= event.is_read_closed();
                if !std::mem::replace(&mut lane.is_ready, true) {
                    self.ready.push(token);
                }
            }
        }
        Ok(())
    }

    /// A turn for each that is ready; how many are through.
    fn turns(&mut self, orders: &Orders) -> usize {
        let mut through = 0;
        for tokens in self.ready.chunks(SOCKETS_MAX) {
            let lanes = tokens.iter().filter_map(|&token| self.lanes[token].take());
            self.group.extend(lanes);
            turns_together(&mut self.sockets, &mut self.group, orders);
            for mut lane in self.group.drain(..) {
                if let Turned::Lost(lost) = &lane.turned {
                    orders.tally.lock().count_lost(lost.to_string());
                }
                if lane.is_through() {
                    through += 1;
                    continue;
                }
                let token = lane.token;
                lane.is_ready = matches!(lane.turned, Turned::Again);
                if lane.is_ready {
                    self.again.push(token);
                }
                self.lanes[token] = Some(lane);
            }
        }
        self.ready.clear();
        self.ready.append(&mut self.again);
        through
    }
}

/// A turn for each of up to [`SOCKETS_MAX`] connections.
fn turns_together(sockets: &mut Sockets, lanes: &mut [Box<Lane>], orders: &Orders) {
    let outcomes = sockets.receive(lanes.iter_mut().map(|lane| lane.connection.next_receive()));
    let now = Instant::now();
    let mut tally = orders.tally.lock();
    for (lane, outcome) in lanes.iter_mut().zip(outcomes) {
        let turned = lane.take_replies(outcome, now, orders, &mut tally);
        lane.turned = turned.unwrap_or_else(Turned::Lost);
    }
    drop(tally);
    let now = Instant::now();
    let sends = lanes.iter_mut().filter(|lane| lane.has_to_send());
    let outcomes = sockets.send(sends.map(|lane| {
        lane.sent_at.get_or_insert(now);
        lane.connection.next_send(lane.written)
    }));
    let sends = lanes.iter_mut().filter(|lane| lane.has_to_send());
    for (lane, outcome) in sends.zip(outcomes) {
        lane.note_sent(outcome);
    }
}

impl Lane {
    fn new(token: usize, connection: Connection<Socket>, source: Source) -> Self {
        Self {
            token,
            connection,
            source,
            batch: Vec::new(),
            answered: 0,
            written: 0,
            sent_at: None,
            end: End::Waiting,
            is_ready: true,
            has_room: true,
            is_hung_up: false,
            turned: Turned::Again,
        }
    }

    /// Takes the replies that were received, and where they are all of a batch, puts the next together.
    fn take_replies(
        &mut self,
        received: io::Result<usize>,
        now: Instant,
        orders: &Orders,
        tally: &mut Tally,
    ) -> Result<Turned, Lost> {
        let may_be_more = self.connection.note_received(received)?;
        let latency = self.sent_at.map_or(Duration::ZERO, |sent_at| now - sent_at);
        let each = |operation, reply: Reply<'_>| {
            tally.count(operation, reply, latency, now);
            if orders.values == Values::Verify {
                tally.verify(&orders.keyspace, operation, reply);
            }
        };
        let batch = &self.batch[self.answered..];
        let taken = (self.connection).take_replies(batch, self.answered as u32, each)?;
        self.answered += taken.operations;
        if taken.end == End::Draining {
            self.end = End::Draining;
        }
        if self.answered == self.batch.len() {
            if self.end == End::Draining {
                return Err(Lost::Said("the server is draining".to_owned()));
            }
            self.next_batch(now, orders);
            if self.batch.is_empty() {
                return Ok(Turned::Done);
            }
            tally.sent += self.batch.len() as u64;
        }
        Ok(match may_be_more || self.is_hung_up {
            true => Turned::Again,
            false => Turned::Wait,
        })
    }

    /// Puts the next batch together; it is empty where there is none.
    fn next_batch(&mut self, now: Instant, orders: &Orders) {
        self.batch.clear();
        if !orders.is_over(now) {
            self.source.fill(orders.depth, &mut self.batch);
        }
        let Connection { wire, outbox, .. } = &mut self.connection;
        outbox.clear();
        let mut pushed = 0;
        while pushed < self.batch.len() {
            let request = first_request(&self.batch[pushed..]);
            wire.push_request(request, pushed as u32, outbox);
            pushed += request.len();
        }
        (self.answered, self.written, self.sent_at) = (0, 0, None);
    }

    fn is_through(&self) -> bool {
        matches!(self.turned, Turned::Done | Turned::Lost(_))
    }

    fn has_to_send(&self) -> bool {
        !self.is_through() && self.has_room && self.written < self.connection.outbox.len()
    }

    /// Notes what came of a send. What the socket did not take waits until it says that it has room.
    fn note_sent(&mut self, outcome: io::Result<usize>) {
        match outcome {
            Ok(bytes) => {
                self.written += bytes;
                self.has_room = self.written == self.connection.outbox.len();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.has_room = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.turned = Turned::Again,
            Err(error) => self.turned = Turned::Lost(error.into()),
        }
    }
}
