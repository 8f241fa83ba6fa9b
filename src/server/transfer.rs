//! Bytes between a socket and the worker's buffers: one read and one write per turn.

use std::io::{self, ErrorKind, IoSlice};

use super::connection::{Cause, Connection};
use super::inputs::INPUT_AHEAD_BYTES;
use super::service::Service;
use crate::blackbox::Phase;

/// Whether all replies are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Sent {
    All,
    /// The socket takes no more.
    Some,
    /// The turn is used up; the socket may take more.
    UpToSlice,
}

impl Sent {
    pub(super) fn by(connection: &Connection) -> Self {
        match connection.waits_for_reader() {
            true => Self::Some,
            false => Self::All,
        }
    }
}

impl Service {
    /// One read. A short one says that the socket is empty, unless the peer has finished: then the
    /// end is still to come.
    pub(super) fn read(
        &self,
        connection: &mut Connection,
        into: &mut [u8],
    ) -> Result<usize, Cause> {
        if !connection.readable {
            return Ok(0);
        }
        let outcome = connection.stream.read(into);
        self.note_read(connection, into, outcome)
    }

    /// Notes what came of a read.
    pub(super) fn note_read(
        &self,
        connection: &mut Connection,
        into: &mut [u8],
        mut outcome: io::Result<usize>,
    ) -> Result<usize, Cause> {
        let count = loop {
            match outcome {
                Ok(count) => break count,
                Err(error) => match recoverable(&error) {
                    Recovery::Retry => outcome = connection.stream.read(into),
                    Recovery::Wait => {
                        (connection.readable, connection.peer_finished) = (false, false);
                        connection.filled_its_buffer = false;
                        return Ok(0);
                    }
                    Recovery::None => return Err(Cause::Io),
                },
            }
        };
        if count == 0 {
            connection.readable = false;
            connection.read_to_end = true;
            return Ok(0);
        }
        if count < into.len() && !connection.peer_finished {
            connection.readable = false;
        }
        // Whoever read the rest of something long by itself would read the beginning of the next ahead again.
        let is_more = connection.filled_its_buffer && connection.talks_at_length;
        connection.talks_at_length = count >= INPUT_AHEAD_BYTES || is_more;
        connection.filled_its_buffer = count == into.len();
        connection.active_ms = self.now.uptime_ms;
        self.station.counters.reads.add(1);
        self.station.counters.bytes_in.add(count as u64);
        Ok(count)
    }

    /// Sends the output: one write, and what it does not take becomes the connection's backlog.
    /// A large value behind it is sent with it.
    pub(super) fn send(&mut self, connection: &mut Connection) -> Result<Sent, Cause> {
        if connection.is_sending() {
            match self.send_large(connection)? {
                Sent::All => {}
                sent => return Ok(sent),
            }
        }
        let taken = match self.output.as_slice() {
            [] => {
                return Ok(Sent::by(connection));
            }
            _ if connection.has_backlog() => 0,
            output => {
                self.pen.enter(Phase::Writing);
                self.write(connection, output)?
            }
        };
        self.output.drain(..taken);
        self.keep_output(connection)?;
        Ok(Sent::by(connection))
    }

    /// Notes what came of sending replies, and keeps those that the socket did not take.
    pub(super) fn note_sent(
        &self,
        connection: &mut Connection,
        replies: &[u8],
        outcome: io::Result<usize>,
    ) -> Result<Sent, Cause> {
        let taken = self.written(outcome, || connection.stream.write(replies))?;
        self.keep(connection, &replies[taken..])?;
        Ok(Sent::by(connection))
    }

    /// Keeps the output that the socket did not take as the connection's backlog.
    pub(super) fn keep_output(&mut self, connection: &mut Connection) -> Result<(), Cause> {
        self.keep(connection, &self.output)?;
        self.output.clear();
        Ok(())
    }

    fn keep(&self, connection: &mut Connection, replies: &[u8]) -> Result<(), Cause> {
        if replies.is_empty() {
            return Ok(());
        }
        self.station.counters.backlogs.add(1);
        connection
            .push_backlog(replies, self.now.uptime_ms, &self.shared.budget)
            .map_err(|_| Cause::SlowReader)
    }

    /// Sends on what waits for the reader.
    pub(super) fn send_waiting(&mut self, connection: &mut Connection) -> Result<Sent, Cause> {
        if connection.is_sending() {
            return self.send(connection);
        }
        self.pen.enter(Phase::Writing);
        let taken = self.write(connection, connection.backlog())?;
        connection.sent(taken);
        Ok(Sent::by(connection))
    }

    fn write(&self, connection: &Connection, bytes: &[u8]) -> Result<usize, Cause> {
        self.write_by(|| connection.stream.write(bytes))
    }

    pub(super) fn write_slices(
        &self,
        connection: &Connection,
        slices: &[IoSlice<'_>],
    ) -> Result<usize, Cause> {
        self.write_by(|| connection.stream.write_slices(slices))
    }

    fn write_by(&self, mut write: impl FnMut() -> io::Result<usize>) -> Result<usize, Cause> {
        self.written(write(), write)
    }

    /// What came of a write, which is tried again where that may help.
    fn written(
        &self,
        mut outcome: io::Result<usize>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Result<usize, Cause> {
        loop {
            match outcome {
                Ok(count) => {
                    self.station.counters.writes.add(1);
                    self.station.counters.bytes_out.add(count as u64);
                    return Ok(count);
                }
                Err(error) => match recoverable(&error) {
                    Recovery::Retry => outcome = write(),
                    Recovery::Wait => return Ok(0),
                    Recovery::None => return Err(Cause::Io),
                },
            }
        }
    }
}

enum Recovery {
    Retry,
    Wait,
    None,
}

fn recoverable(error: &io::Error) -> Recovery {
    match error.kind() {
        ErrorKind::Interrupted => Recovery::Retry,
        ErrorKind::WouldBlock => Recovery::Wait,
        _ => Recovery::None,
    }
}
