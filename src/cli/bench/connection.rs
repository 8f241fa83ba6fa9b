//! One connection of a load: requests on their way out, replies on their way in.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::keys::Keyspace;
use super::source::Operation;
use super::stop::Stop;
use super::tally::Tally;
use super::target::{Place, Protocol, Socket, Stream, no_more};
use super::wire::{Parsed, Reply, Wire};
use crate::sync::{Arc, Mutex};

/// LIMIT: where a connection's room for replies begins; it grows to what a batch of them needs.
const INBOX_BYTES_MIN: usize = 4 << 10;

/// LIMIT: how much room is made at once for replies; longer batches are read in parts.
const INBOX_BYTES_STEP: usize = 1 << 20;

/// LIMIT: what a server may say unasked, such as that it drains; less than there is room for in any inbox.
const UNASKED_BYTES_MAX: usize = 1 << 10;

/// What a reply has beside its value, at most, in any protocol.
const REPLY_HEAD_BYTES: usize = 64;

/// What every connection of a run works by.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) keyspace: Arc<Keyspace>,
    pub(super) depth: usize,
    /// 1 unless multi-gets were asked for.
    pub(super) keys_per_get: usize,
    pub(super) values: Values,
    pub(super) started: Instant,
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
pub(super) struct Connection<S = Stream> {
    stream: S,
    pub(super) wire: Wire,
    keyspace: Arc<Keyspace>,
    /// Requests on their way out.
    pub(super) outbox: Vec<u8>,
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
    /// There was no connection in time.
    #[error("it took longer than {0:?}")]
    TooLong(Duration),
    /// Somebody took the connection and said nothing.
    #[error(
        "it took the connection and did not answer within {0:?}; does that server hang, or speak another protocol?"
    )]
    Silent(Duration),
    /// The server said so, or said what it must not.
    #[error("{0}")]
    Said(String),
    /// The server does not accept such keys or values.
    #[error("{0}")]
    Unfit(String),
}

impl Connection {
    /// Opens a connection and shakes hands; for each there is so much time.
    pub(super) async fn open(
        place: &Place,
        protocol: Protocol,
        keyspace: &Arc<Keyspace>,
        timeout: Duration,
    ) -> Result<Self, Lost> {
        let connected = tokio::time::timeout(timeout, place.connect()).await;
        let mut connection = Self {
            stream: connected.map_err(|_| Lost::TooLong(timeout))??,
            wire: Wire::new(protocol, keyspace),
            keyspace: Arc::clone(keyspace),
            outbox: Vec::new(),
            inbox: Vec::new(),
            start: 0,
            end: 0,
        };
        connection.wire.push_hello(&mut connection.outbox);
        if !connection.outbox.is_empty() {
            in_time(timeout, connection.shake_hands()).await?;
        }
        Ok(connection)
    }

    async fn shake_hands(&mut self) -> Result<(), Lost> {
        self.make_room(INBOX_BYTES_MIN);
        let mut written = 0;
        loop {
            self.exchange(&mut written).await?;
            if let Some(taken) = self.wire.take_hello(&self.inbox[..self.end]) {
                self.end = 0;
                return taken;
            }
        }
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

    /// Asks for the server's figures; for the answer there is so much time.
    pub(super) async fn stats(&mut self, timeout: Duration) -> Result<Vec<(String, String)>, Lost> {
        in_time(timeout, self.ask_for_stats()).await
    }

    async fn ask_for_stats(&mut self) -> Result<Vec<(String, String)>, Lost> {
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

    /// Writes what is left of the requests and reads what has come, whichever is possible first, so
    /// that neither side can wait for the other for ever. Ends when something was read.
    pub(super) async fn exchange(&mut self, written: &mut usize) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_exchange(cx, written)).await
    }

    /// As [`exchange`](Self::exchange), for those who wait for something else as well.
    #[inline]
    pub(super) fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        written: &mut usize,
    ) -> Poll<io::Result<()>> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        while *written < self.outbox.len() {
            match self.stream.poll_write(cx, &self.outbox[*written..]) {
                Poll::Ready(Ok(bytes)) => *written += bytes,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        let bytes = ready!(self.stream.poll_read(cx, &mut self.inbox[self.end..]))?;
        self.end += bytes;
        Poll::Ready(Ok(()))
    }
}

impl<S> Connection<S> {
    /// Reads the replies that have come, to the requests in `batch` from its `answered`-th operation on.
    /// The id of a request is the place of its first operation, counted from `first_id`.
    ///
    /// # Errors
    ///
    /// Why the connection ends.
    #[inline]
    pub(super) fn take_replies(
        &mut self,
        batch: &[Operation],
        first_id: u32,
        mut each: impl FnMut(Operation, Reply<'_>),
    ) -> Result<Taken, Lost> {
        let mut taken = Taken {
            operations: 0,
            requests: 0,
            end: End::Waiting,
        };
        while taken.operations < batch.len() {
            let request = first_request(&batch[taken.operations..]);
            let received = &self.inbox[self.start..self.end];
            let id = first_id.wrapping_add(taken.operations as u32);
            match self.wire.take_reply(id, request, received, &mut each) {
                Parsed::Reply { consumed } => {
                    taken.operations += request.len();
                    taken.requests += 1;
                    self.start += consumed;
                }
                Parsed::Skip { consumed } => self.start += consumed,
                Parsed::Drain { consumed } => {
                    self.start += consumed;
                    taken.end = End::Draining;
                }
                Parsed::Incomplete { needed_bytes } => {
                    self.make_room(needed_bytes);
                    break;
                }
                Parsed::Broken(why) => return Err(Lost::Said(why)),
            }
        }
        if taken.operations == batch.len() {
            self.look_at_rest()?;
        }
        Ok(taken)
    }

    /// Looks at what is received where nothing more was asked for: there is room for more.
    fn look_at_rest(&mut self) -> Result<(), Lost> {
        if self.end - self.start > UNASKED_BYTES_MAX {
            let why = "the server says more than it was asked for";
            return Err(Lost::Said(why.to_owned()));
        }
        if self.end == self.inbox.len() {
            self.move_to_front();
        }
        Ok(())
    }

    /// Makes room for `needed_bytes` in all from `start` on, which is more than there are.
    fn make_room(&mut self, needed_bytes: usize) {
        if self.inbox.len() - self.start >= needed_bytes {
            return;
        }
        self.move_to_front();
        if self.inbox.len() < needed_bytes {
            self.inbox.resize(needed_bytes, 0);
        }
    }

    /// Makes what is received and not read the first of the inbox.
    fn move_to_front(&mut self) {
        self.inbox.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }

    /// Makes room for the replies to so many requests under way.
    pub(super) fn make_room_for(&mut self, orders: &Orders) {
        let Keyspace {
            key_bytes, sizes, ..
        } = &*self.keyspace;
        let reply_bytes = sizes.max() + key_bytes + REPLY_HEAD_BYTES;
        let operations = orders.depth * orders.keys_per_get;
        self.make_room((operations * reply_bytes).clamp(INBOX_BYTES_MIN, INBOX_BYTES_STEP));
    }
}

impl Connection {
    /// The same, waited for by somebody else than the runtime.
    pub(super) fn leave_runtime(self) -> io::Result<Connection<Socket>> {
        Ok(Connection {
            stream: self.stream.into_socket()?,
            wire: self.wire,
            keyspace: self.keyspace,
            outbox: self.outbox,
            inbox: self.inbox,
            start: self.start,
            end: self.end,
        })
    }
}

impl Connection<Socket> {
    /// Has its socket watched.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token)
    }

    /// What is to be received next: from where, and where to.
    pub(super) fn next_receive(&mut self) -> (BorrowedFd<'_>, &mut [u8]) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        (self.stream.as_fd(), &mut self.inbox[self.end..])
    }

    /// Notes what came of a receive; whether there may be more.
    pub(super) fn note_received(&mut self, outcome: io::Result<usize>) -> io::Result<bool> {
        match outcome {
            Ok(0) => Err(no_more()),
            Ok(bytes) => {
                self.end += bytes;
                Ok(self.end == self.inbox.len())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What is to be sent next, where so many bytes of the requests are written: where to, and what.
    pub(super) fn next_send(&self, written: usize) -> (BorrowedFd<'_>, &[u8]) {
        (self.stream.as_fd(), &self.outbox[written..])
    }
}

/// An answer, if it comes in time.
async fn in_time<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, Lost>>,
) -> Result<T, Lost> {
    let answer = tokio::time::timeout(timeout, answer).await;
    answer.map_err(|_| Lost::Silent(timeout))?
}

/// The operations of the first request: one, or the keys of a multi-get.
#[inline]
pub(super) fn first_request(batch: &[Operation]) -> &[Operation] {
    let mut end = 1;
    while let Some(Operation::GetNext(_)) = batch.get(end) {
        end += 1;
    }
    &batch[..end]
}

/// The replies that were read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) operations: usize,
    pub(super) requests: usize,
    pub(super) end: End,
}

/// Whether the server ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Waiting,
    Draining,
}

impl Orders {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline) || self.stop.is_asked()
    }
}
