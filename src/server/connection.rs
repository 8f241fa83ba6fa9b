//! One client's connection: its socket, where it is in its life, and the little it may own.
//!
//! ```text
//!            HELLO             QUIT, error, end              all sent           peer closed,
//! Greeting ---------> Open ------------------> Finishing -----------> Lingering ----------> gone
//!                                                                     or long enough
//! ```
//!
//! `Lingering` reads and drops what still comes: a socket closed with unread bytes resets, and a
//! reset may overtake the last replies.

use super::buffers::{BudgetSpent, BufferBudget, HeldBuffer};
use super::large::Transfer;
use super::listener::{Accepted, Stream};
use super::tongue::Tongue;
use crate::blackbox::PackedPeer;
use crate::sync::Arc;

/// A time that never comes.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is executed before the greeting.
    Greeting,
    /// Requests are executed.
    Open,
    /// Nothing more is executed; what waits to be sent is sent.
    Finishing,
    /// All is sent; what still comes is dropped.
    Lingering,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// One side said it was done.
    Finished,
    /// The peer reset it, or the system failed it.
    Io,
    /// Its replies were not read.
    SlowReader,
    /// Serving it panicked.
    Panic,
}

/// One client's connection. Idle, it owns its socket and nothing else.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    /// No other connection of the server has the same.
    pub(crate) number: u64,
    pub(crate) peer: PackedPeer,
    pub(crate) tongue: Tongue,
    pub(crate) phase: Phase,
    /// Whether there may be bytes to read: set by events, cleared by a short read.
    pub(crate) readable: bool,
    /// Whether the peer has said that it writes no more; what it wrote before may still be unread.
    pub(crate) peer_finished: bool,
    /// Whether what came last was more than is read ahead.
    pub(crate) talks_at_length: bool,
    /// Whether the last read filled its buffer, so that the next one brings more of the same.
    pub(crate) filled_its_buffer: bool,
    /// Whether everything that the peer ever wrote is read.
    pub(crate) read_to_end: bool,
    /// Whether it waits in its worker's run queue.
    pub(crate) queued: bool,
    /// Input that is not executed yet: part of a frame, or frames that had to wait.
    pub(crate) held: HeldBuffer,
    /// The length of `held` at which looking at it again makes sense.
    pub(crate) needed_bytes: usize,
    /// How far the request at the front of the input is answered already, in the request's own measure; 0
    /// where nothing of it is.
    pub(crate) answered: u64,
    /// Input to drop before requests begin again.
    pub(crate) skip_bytes: u64,
    backlog: HeldBuffer,
    backlog_sent: usize,
    /// A large value on its way; in a box, since few connections have one.
    pub(crate) transfer: Option<Box<Transfer>>,
    /// When bytes last came.
    pub(crate) active_ms: u64,
    /// When the frame in `held` was begun, or a longer one last came forward.
    pub(crate) begun_ms: u64,
    /// When the wait for the reader, or the lingering, began.
    pub(crate) waiting_ms: u64,
}

impl Connection {
    pub(crate) fn new(accepted: Accepted, now_ms: u64) -> Self {
        let Accepted {
            stream,
            number,
            peer,
            tongue,
            ..
        } = accepted;
        Self {
            stream,
            number,
            peer: peer.pack(),
            tongue,
            phase: tongue.first_phase(),
            readable: false,
            peer_finished: false,
            talks_at_length: false,
            filled_its_buffer: false,
            read_to_end: false,
            queued: false,
            held: HeldBuffer::default(),
            needed_bytes: 0,
            answered: 0,
            skip_bytes: 0,
            backlog: HeldBuffer::default(),
            backlog_sent: 0,
            transfer: None,
            active_ms: now_ms,
            begun_ms: NEVER_MS,
            waiting_ms: NEVER_MS,
        }
    }

    /// Whether `held` can be looked at before anything more is read.
    pub(crate) fn has_work(&self) -> bool {
        !self.held.is_empty() && self.held.len() >= self.needed_bytes
    }

    /// Whether the connection is between two requests with nothing under way.
    pub(crate) fn is_quiet(&self) -> bool {
        let between = self.held.is_empty() && self.skip_bytes == 0;
        between && !self.has_backlog() && self.transfer.is_none()
    }

    /// Whether its turn reads before anything else, and not much, as a rule.
    pub(crate) fn begins_with_a_read(&self) -> bool {
        let is_between = self.phase == Phase::Open && self.is_quiet() && self.needed_bytes == 0;
        is_between && !self.talks_at_length
    }

    /// Whether a large value is being received.
    pub(crate) fn is_receiving(&self) -> bool {
        matches!(self.transfer.as_deref(), Some(Transfer::Receiving(_)))
    }

    /// Whether a large value is being sent.
    pub(crate) fn is_sending(&self) -> bool {
        matches!(self.transfer.as_deref(), Some(Transfer::Sending(_)))
    }

    /// Whether the peer has to read before anything else is done.
    pub(crate) fn waits_for_reader(&self) -> bool {
        self.has_backlog() || self.is_sending()
    }

    /// Whether replies wait for the socket.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The replies that wait for the socket.
    pub(crate) fn backlog(&self) -> &[u8] {
        &self.backlog.as_slice()[self.backlog_sent..]
    }

    /// Keeps replies that the socket did not take.
    pub(crate) fn push_backlog(
        &mut self,
        bytes: &[u8],
        now_ms: u64,
        budget: &Arc<BufferBudget>,
    ) -> Result<(), BudgetSpent> {
        if !self.has_backlog() {
            self.waiting_ms = now_ms;
        }
        self.backlog.extend(bytes, budget)
    }

    /// Forgets replies that the socket took; the last of them frees the memory.
    pub(crate) fn sent(&mut self, count: usize) {
        self.backlog_sent += count;
        if self.backlog_sent >= self.backlog.len() {
            self.backlog.release();
            self.backlog_sent = 0;
            self.waiting_ms = NEVER_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_far_less_than_a_kilobyte() {
        assert!(
            size_of::<Connection>() <= 192,
            "{} bytes",
            size_of::<Connection>()
        );
    }
}
