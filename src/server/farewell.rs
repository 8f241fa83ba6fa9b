//! How a connection ends: a last word, what is still to be sent, and the peer's own end.

use super::connection::{Cause, Connection, Phase};
use super::service::{Service, Turned};
use super::tongue::{Spoken, in_tongue};
use super::transfer::Sent;
use crate::dialect::{Dialect, Ending};

impl Service {
    /// Tells the client why the server ends the connection, and sees it out.
    pub(crate) fn end(&mut self, connection: &mut Connection, ending: Ending) -> Turned {
        self.guarded(connection, |service, connection| {
            if connection.is_sending() {
                // There is no place for a word in the middle of a value.
                return Err(Cause::Finished);
            }
            service.say_ending(connection, ending);
            service.finish(connection)
        })
    }

    /// Tells the client that the server will end the connection soon.
    pub(crate) fn notice_drain(&mut self, connection: &mut Connection, left_ms: u64) -> Turned {
        self.guarded(connection, |service, connection| {
            let (shared, out) = (&service.shared, &mut service.output);
            in_tongue!(connection.tongue, D => D::of(shared).notice_drain(left_ms, out));
            service.say_behind(connection);
            Ok(match service.send(connection)? {
                Sent::UpToSlice => Turned::Again,
                // What waited behind a value that is through now gets no other event.
                Sent::All if connection.has_work() => Turned::Again,
                Sent::All | Sent::Some => Turned::Wait,
            })
        })
    }

    pub(super) fn say_ending(&mut self, connection: &Connection, ending: Ending) {
        let (shared, out) = (&self.shared, &mut self.output);
        in_tongue!(connection.tongue, D => D::of(shared).notice_ending(ending, out));
    }

    /// Executes nothing more: sends what is to be sent, then waits for the peer to close.
    pub(super) fn finish(&mut self, connection: &mut Connection) -> Result<Turned, Cause> {
        connection.phase = Phase::Finishing;
        connection.held.release();
        connection.needed_bytes = 0;
        if connection.is_receiving() {
            connection.transfer = None;
        }
        match self.send(connection)? {
            Sent::Some => Ok(Turned::Wait),
            Sent::UpToSlice => Ok(Turned::Again),
            Sent::All => self.linger(connection),
        }
    }

    pub(super) fn linger(&mut self, connection: &mut Connection) -> Result<Turned, Cause> {
        if connection.read_to_end {
            return Err(Cause::Finished);
        }
        connection.stream.finish_writing();
        connection.phase = Phase::Lingering;
        connection.waiting_ms = self.now.uptime_ms;
        self.discard(connection)
    }

    pub(super) fn discard(&mut self, connection: &mut Connection) -> Result<Turned, Cause> {
        let mut input = self.inputs.take();
        let outcome = self.read(connection, &mut input);
        self.inputs.give_back(input);
        outcome.map_err(|_| Cause::Finished)?;
        match (connection.read_to_end, connection.readable) {
            (true, _) => Err(Cause::Finished),
            (false, true) => Ok(Turned::Again),
            (false, false) => Ok(Turned::Wait),
        }
    }
}
