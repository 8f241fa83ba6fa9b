//! Reading ahead: while one connection has its turn, the request of the next is on its way from memory.
//!
//! ```text
//!  before the turn in front   the turn in front   before its own turn    its own turn
//!  ────────────────────────   ────────────────    ───────────────────    ─────────────
//!  read, ask for the bucket   (the bucket comes)  ask for the item, and  execute, send
//!                                                 read the next one
//! ```
//!
//! Where clients wait for each reply, a turn has a single request, and nothing else to do while memory is
//! waited for, first for the bucket of its key and then for its item: longer than all that the turn does
//! itself. Most of a turn is the system's, which is time enough for both to come. Who has the next turn is
//! known where a wait reports several events.
//!
//! What is read keeps its buffer until its turn, whatever happens in the turn in front. What is asked for is a
//! guess, without a pin: nothing depends on it, and the turn looks for itself.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::connection::{Cause, Connection};
use super::service::Service;
use super::tongue::{Spoken, in_tongue};
use crate::blackbox;
use crate::engine::Foreseen;
use crate::execute::foresee;

/// LIMIT: requests of a turn that is brief. With more there is enough to do while their memory comes, and what
/// else was read would be in the way.
const REQUESTS_BRIEF: u64 = 4;

/// What was read of a connection before its turn.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(super) input: Box<[u8]>,
    /// How much was read, or why it was not.
    pub(super) outcome: Result<usize, Cause>,
    /// Where its first request will look next.
    foreseen: Option<Foreseen>,
}

impl Ahead {
    /// Nothing yet, and where to read to.
    pub(super) fn into(input: Box<[u8]>) -> Self {
        Self {
            input,
            outcome: Ok(0),
            foreseen: None,
        }
    }
}

impl Service {
    /// Whether the last turn was brief, and so will the next ones be, as a rule.
    #[inline]
    pub(crate) fn was_brief(&self) -> bool {
        self.requests <= REQUESTS_BRIEF
    }

    /// Reads a connection before its turn, if that is what its turn would begin with.
    pub(crate) fn read_ahead(&mut self, connection: &mut Connection) -> Option<Ahead> {
        if !connection.begins_with_a_read() {
            return None;
        }
        self.pen.enter(blackbox::Phase::Reading);
        let mut ahead = Ahead::into(self.inputs.take_ahead());
        ahead.outcome = self.read(connection, &mut ahead.input);
        self.foresee(connection, &mut ahead);
        Some(ahead)
    }

    /// Asks for the bucket of the first request's key, if it has one.
    pub(super) fn foresee(&self, connection: &Connection, ahead: &mut Ahead) {
        let Ok(bytes) = ahead.outcome else { return };
        let read = &ahead.input[..bytes];
        let foresee = AssertUnwindSafe(|| self.foresee_in(connection, read));
        // The turn will come to the same panic, and answer for it.
        ahead.foreseen = catch_unwind(foresee).unwrap_or_default();
    }

    fn foresee_in(&self, connection: &Connection, bytes: &[u8]) -> Option<Foreseen> {
        let (session, now_ms) = (&self.session, self.now.wall_ms);
        in_tongue!(connection.tongue, D => foresee(D::of(&self.shared), session, bytes, now_ms))
    }

    /// Asks for the item of the first request, or for the overflow bucket that is to be looked into before.
    #[inline]
    pub(crate) fn fetch(&self, ahead: &mut Ahead) {
        let foreseen = ahead.foreseen.take();
        ahead.foreseen = foreseen.and_then(|foreseen| self.session.fetch(foreseen));
    }
}

#[cfg(test)]
pub(super) mod tests;
