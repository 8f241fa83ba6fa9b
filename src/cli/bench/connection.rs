//! One connection of a load: a batch of requests in one write, then all of their replies.

use std::io;
use std::task::Poll;
use std::time::Instant;

use super::keys::Keyspace;
use super::source::{Operation, Source};
use super::stop::Stop;
use super::tally::Tally;
use super::target::{Place, Protocol, Stream};
use super::wire::{Parsed, Reply, Wire};
use crate::sync::{Arc, Mutex};

/// LIMIT: where a connection's room for replies begins; it grows to what a batch of them needs.
const INBOX_BYTES_MIN: usize = 4 << 10;

/// LIMIT: how much room is made at once for replies; longer batches are read in parts.
const INBOX_BYTES_STEP: usize = 1 << 20;

/// What a reply has beside its value, at most, in any protocol.
const REPLY_HEAD_BYTES: usize = 64;

/// What every connection of a run works by.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) depth: usize,
    pub(super) values: Values,
    pub(super) deadline: Option<Instant>,
    pub(super) stop: Stop,
    pub(super) tally: Arc<Mutex<Tally>>,
}

/// What is done with values that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// Nothing.
    Count,
    /// They are compared with what their key determines.
    Verify,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    wire: Wire,
    keyspace: Arc<Keyspace>,
    /// Requests on their way out.
    outbox: Vec<u8>,
    /// Replies on their way in; those at `start..end` are received and not read.
    inbox: Vec<u8>,
    start: usize,
    end: usize,
}

/// Why a connection ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server said so, or said what it must not.
    #[error("{0}")]
    Said(String),
    /// The server does not accept such keys or values.
    #[error("{0}")]
    Unfit(String),
}

impl Connection {
    /// Opens a connection and shakes hands.
    pub(super) async fn open(
        place: &Place,
        protocol: Protocol,
        keyspace: &Arc<Keyspace>,
    ) -> Result<Self, Lost> {
        let mut connection = Self {
            stream: place.connect().await?,
            wire: Wire::new(protocol, keyspace),
            keyspace: Arc::clone(keyspace),
            outbox: Vec::new(),
            inbox: Vec::new(),
            start: 0,
            end: 0,
        };
        connection.wire.push_hello(&mut connection.outbox);
        if connection.outbox.is_empty() {
            return Ok(connection);
        }
        connection.make_room(INBOX_BYTES_MIN);
        let mut written = 0;
        loop {
            connection.exchange(&mut written).await?;
            match connection
                .wire
                .take_hello(&connection.inbox[..connection.end])
            {
                None => {}
                Some(Err(lost)) => return Err(lost),
                Some(Ok(())) => break,
            }
        }
        connection.end = 0;
        Ok(connection)
    }

    /// Gives the memory for requests and replies back, on a connection that will be idle.
    pub(super) fn shrink(&mut self) {
        (self.outbox, self.inbox) = (Vec::new(), Vec::new());
    }

    /// Whether the server still keeps the connection open.
    pub(super) async fn is_open(&mut self) -> bool {
        let mut byte = [0];
        std::future::poll_fn(|cx| Poll::Ready(self.stream.poll_read(cx, &mut byte).is_pending()))
            .await
    }

    /// Asks for the server's figures.
    pub(super) async fn stats(&mut self) -> Result<Vec<(String, String)>, Lost> {
        self.outbox.clear();
        self.wire.push_stats(&mut self.outbox);
        self.make_room(INBOX_BYTES_MIN);
        let mut written = 0;
        loop {
            self.exchange(&mut written).await?;
            if let Some(figures) = self.wire.take_stats(&self.inbox[..self.end]) {
                self.end = 0;
                return Ok(figures);
            }
            if self.end == self.inbox.len() {
                self.make_room(self.end * 2);
            }
        }
    }

    /// Works until nothing is left to do, or the time is over.
    pub(super) async fn work(mut self, mut source: Source, orders: Orders) {
        let reply_bytes = self.keyspace.value_bytes + self.keyspace.key_bytes + REPLY_HEAD_BYTES;
        self.make_room((orders.depth * reply_bytes).clamp(INBOX_BYTES_MIN, INBOX_BYTES_STEP));
        let mut batch = Vec::with_capacity(orders.depth);
        let mut now = Instant::now();
        while !orders.is_over(now) {
            source.fill(orders.depth, &mut batch);
            if batch.is_empty() {
                return;
            }
            match self.run(&batch, &orders).await {
                Ok(at) => now = at,
                Err(lost) => return orders.tally.lock().count_lost(lost.to_string()),
            }
        }
    }

    /// Sends a batch and reads its replies; gives the time of the last.
    async fn run(&mut self, batch: &[Operation], orders: &Orders) -> Result<Instant, Lost> {
        self.outbox.clear();
        for (id, &operation) in batch.iter().enumerate() {
            self.wire
                .push_request(operation, id as u32, &mut self.outbox);
        }
        orders.tally.lock().sent += batch.len() as u64;
        let (mut written, mut answered, mut draining) = (0, 0, false);
        let sent_at = Instant::now();
        loop {
            self.exchange(&mut written).await?;
            let now = Instant::now();
            let mut tally = orders.tally.lock();
            while answered < batch.len() {
                let operation = batch[answered];
                let received = &self.inbox[self.start..self.end];
                match self.wire.take_reply(answered as u32, operation, received) {
                    Parsed::Reply { reply, consumed } => {
                        answered += 1;
                        tally.count(operation, reply, now - sent_at, now);
                        if orders.values == Values::Verify && !self.is_right(operation, reply) {
                            tally.count_wrong(operation.key());
                        }
                        self.start += consumed;
                    }
                    Parsed::Skip { consumed } => self.start += consumed,
                    Parsed::Drain { consumed } => {
                        self.start += consumed;
                        draining = true;
                    }
                    Parsed::Incomplete { needed_bytes } => {
                        self.make_room(needed_bytes);
                        break;
                    }
                    Parsed::Broken(why) => return Err(Lost::Said(why)),
                }
            }
            if answered == batch.len() {
                return match draining {
                    true => Err(Lost::Said("the server is draining".to_owned())),
                    false => Ok(now),
                };
            }
        }
    }

    #[inline]
    fn is_right(&self, operation: Operation, reply: Reply<'_>) -> bool {
        match (operation, reply) {
            (Operation::Get(index), Reply::Hit(value)) => self.keyspace.is_value(index, value),
            _ => true,
        }
    }

    /// Makes room for `needed_bytes` in all from `start` on, which is more than there are.
    fn make_room(&mut self, needed_bytes: usize) {
        if self.inbox.len() - self.start >= needed_bytes {
            return;
        }
        self.inbox.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.inbox.len() < needed_bytes {
            self.inbox.resize(needed_bytes, 0);
        }
    }

    /// Writes what is left of the requests and reads what has come, whichever is possible first, so
    /// that neither side can wait for the other for ever. Ends when something was read.
    async fn exchange(&mut self, written: &mut usize) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let Self {
            stream,
            outbox,
            inbox,
            end,
            ..
        } = self;
        std::future::poll_fn(|cx| {
            while *written < outbox.len() {
                match stream.poll_write(cx, &outbox[*written..]) {
                    Poll::Ready(Ok(bytes)) => *written += bytes,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            let bytes = std::task::ready!(stream.poll_read(cx, &mut inbox[*end..]))?;
            *end += bytes;
            Poll::Ready(Ok(()))
        })
        .await
    }
}

impl Orders {
    fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline) || self.stop.is_asked()
    }
}
