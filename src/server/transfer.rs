//! Bytes between a socket and the worker's buffers: one read and one write per turn.

use std::io::{self, ErrorKind};

use super::connection::{Cause, Connection};
use super::service::Service;

/// Whether all replies are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Sent {
    All,
    Some,
}

impl Sent {
    fn by(connection: &Connection) -> Self {
        match connection.has_backlog() {
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
    pub(super) fn send(&mut self, connection: &mut Connection) -> Result<Sent, Cause> {
        let taken = match self.output.as_slice() {
            [] => {
                return Ok(Sent::by(connection));
            }
            _ if connection.has_backlog() => 0,
            output => self.write(connection, output)?,
        };
        let left = &self.output[taken..];
        if !left.is_empty() {
            self.station.counters.backlogs.add(1);
            connection
                .push_backlog(left, self.now.uptime_ms, &self.shared.budget)
                .map_err(|_| Cause::SlowReader)?;
        }
        self.output.clear();
        Ok(Sent::by(connection))
    }

    pub(super) fn send_backlog(&self, connection: &mut Connection) -> Result<Sent, Cause> {
        let taken = self.write(connection, connection.backlog())?;
        connection.sent(taken);
        Ok(Sent::by(connection))
    }

    fn write(&self, connection: &Connection, bytes: &[u8]) -> Result<usize, Cause> {
        loop {
            match connection.stream.write(bytes) {
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
