//! Bytes between a socket and the worker's buffers: one read and one write per turn.

use std::io::{self, ErrorKind, IoSlice};

use super::connection::{Cause, Connection};
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
        let count = loop {
            match connection.stream.read(into) {
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    (connection.readable, connection.peer_finished) = (false, false);
                    return Ok(0);
                }
                Err(_) => return Err(Cause::Io),
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

    /// Keeps the output that the socket did not take as the connection's backlog.
    pub(super) fn keep_output(&mut self, connection: &mut Connection) -> Result<(), Cause> {
        if !self.output.is_empty() {
            self.station.counters.backlogs.add(1);
            connection
                .push_backlog(&self.output, self.now.uptime_ms, &self.shared.budget)
                .map_err(|_| Cause::SlowReader)?;
            self.output.clear();
        }
        Ok(())
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
        loop {
            match write() {
                Ok(count) => {
                    self.station.counters.writes.add(1);
                    self.station.counters.bytes_out.add(count as u64);
                    return Ok(count);
                }
                Err(error) => match recoverable(&error) {
                    Recovery::Retry => {}
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
