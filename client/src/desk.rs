//! What the tasks that ask on a connection and its driver share: the frames to be written, the
//! requests under way, the room. All of it is under one lock, which a request takes twice, to be
//! written down and to take its answer, and the driver twice for all that it writes or reads at once.
//!
//! # The clock
//!
//! Reading the clock costs a request about as much as writing it down. So the first frame of those
//! that are written together reads it for all of them. The others then count as sent up to as much
//! too early as the driver was late to take the frames, which is next to nothing, except where
//! somebody holds up the runtime's thread; where it was more, the driver [gives](Desk::settle) all of
//! them that much more time. While a write is under way, which may take long, everyone reads the
//! clock.
//!
//! # Silence
//!
//! A server that owes an answer that nobody waits for any more, and has said nothing for as long as a
//! request may take, is gone or hangs, and the connection is left. Whether the callers had that much
//! time themselves, or went away before, makes no difference. A request that is given more time than
//! that is waited for. A server that goes on reading what is longer than the socket holds is not silent: it
//! cannot answer before it has all of it.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use larder_protocol::{Class, Reason, RequestFrame};
use tokio::runtime;
use tokio::time::Instant;

use crate::client::ServerInfo;
use crate::ending::Ending;
use crate::error::Cause;
use crate::length::too_much;
use crate::pending::{Answer, Answered, Pending, Times, UnderWay, earlier};
use crate::room::{Room, Turn};

/// LIMIT: what requests may count as sent too early; far less than any time that a request is given.
const CLOCK_SLACK: Duration = Duration::from_millis(1);

/// LIMIT: what a request may weigh for one place of the room; see [`crate::Config::in_flight_max`].
const PLACE_BYTES: u64 = 4096;

/// LIMIT: how much later than it said a server may close a connection that it drains; what it says then
/// frees requests from doubt.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// LIMIT: a buffer that once held a large value is not kept for small ones.
const KEPT_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// What holds on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) server: Arc<ServerInfo>,
    /// How many places there are for requests, and so how many one takes at most.
    pub(crate) places: u32,
    /// How long the server may say nothing where it owes an answer.
    pub(crate) patience: Duration,
    /// The runtime of the driver, where that may run only while somebody waits in it.
    pub(crate) home: Option<runtime::Id>,
}

/// What tasks and the driver share.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Which connection this is, of those that there were one after the other.
    connection: u32,
    terms: Terms,
    stage: Stage,
    /// When the server will have closed the connection, if it has said so.
    closed_by: Option<Instant>,
    /// Frames that the driver has not taken yet.
    outgoing: Vec<u8>,
    /// How many they are.
    outgoing_frames: u32,
    /// When the first of them was put there, and those after it count as sent.
    began_at: Instant,
    /// Whether a write is under way.
    writing: bool,
    /// All bytes that were ever put into `outgoing`.
    enqueued_bytes: u64,
    /// All bytes that the socket has taken.
    written_bytes: u64,
    pending: Pending,
    room: Room,
    /// When the server last gave a sign of life.
    heard_at: Instant,
    /// When somebody looks for requests whose time is over, if there are requests.
    look_at: Option<Instant>,
}

/// What a connection is good for. It only ever goes down this list.
#[derive(Debug)]
enum Stage {
    /// Takes requests.
    Open,
    /// Takes no more requests, and ends when those under way are answered.
    Draining,
    /// Is to end at once.
    Ending(Ending),
    /// Has ended.
    Over,
}

/// How much time a request has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Time {
    /// So much, from when it is first looked at.
    For(Duration),
    /// So much, and it is over then by the clock of those that it was written with.
    Until(Instant),
    /// So much, and it is over then.
    Ends(Instant),
    /// Until a moment that the caller named.
    Deadline(Instant),
}

/// A request that wants to be sent.
#[derive(Debug)]
pub(crate) struct Knock<'k, 'r> {
    /// Its id is given to it here.
    pub(crate) frame: &'k mut RequestFrame<'r>,
    pub(crate) time: &'k mut Time,
    /// What it has in the queue for room.
    pub(crate) ticket: &'k mut Option<u64>,
    /// Is told the [home](Terms::home) of the driver.
    pub(crate) home: &'k mut Option<runtime::Id>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Knocked {
    /// It is written down, and its frame has its id.
    Sent {
        /// On which connection.
        connection: u32,
    },
    /// It waits for room.
    Queued,
    /// The connection takes no more requests.
    Closed,
    /// Its time was over before there was room.
    Overdue,
    /// The server would refuse it for its length.
    TooMuch(Reason),
}

/// What a look at the time found.
#[derive(Debug)]
pub(crate) enum Look {
    /// The connection has no more to do.
    Ended(Ending),
    /// The connection is to be left, unless there is news of the server.
    Silent,
    /// When there is something to look for again.
    Next(Option<Instant>),
}

/// Whom a request that knocked sets to work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stir {
    /// There is something to write, and was not before.
    pub(crate) writes: bool,
    /// It has less time than those before it.
    pub(crate) hurries: bool,
}

impl Time {
    /// When the time is over.
    pub(crate) fn end(&mut self, now: impl FnOnce() -> Instant) -> Instant {
        match *self {
            Self::For(time) => {
                let end = now() + time;
                *self = Self::Until(end);
                end
            }
            Self::Until(end) | Self::Ends(end) | Self::Deadline(end) => end,
        }
    }

    /// When the time is over, and that for good.
    pub(crate) fn end_by_clock(&mut self) -> Instant {
        let end = self.end(Instant::now);
        if let Self::Until(_) = self {
            *self = Self::Ends(end);
        }
        end
    }
}

impl Desk {
    pub(crate) fn new(terms: Terms, pending: Pending) -> Self {
        let now = Instant::now();
        Self {
            connection: 0,
            stage: Stage::Open,
            closed_by: None,
            outgoing: Vec::new(),
            outgoing_frames: 0,
            began_at: now,
            writing: false,
            enqueued_bytes: 0,
            written_bytes: 0,
            pending,
            room: Room::new(terms.places),
            terms,
            heard_at: now,
            look_at: None,
        }
    }

    /// Serves a new connection, if the one before has ended. Whoever has not taken the answer to a
    /// request on that one finds it still here.
    pub(crate) fn reopen(&mut self, terms: &Terms) -> bool {
        let is_over = matches!(self.stage, Stage::Over);
        if is_over {
            self.connection = self.connection.wrapping_add(1);
            self.terms = terms.clone();
            self.stage = Stage::Open;
            self.closed_by = None;
            (self.enqueued_bytes, self.written_bytes) = (0, 0);
            self.writing = false;
            self.room.reopen(terms.places);
            self.heard_at = Instant::now();
            self.look_at = None;
        }
        is_over
    }

    /// What the server said about itself.
    pub(crate) fn server(&self) -> &Arc<ServerInfo> {
        &self.terms.server
    }

    /// Whether this is still the connection that somebody means.
    pub(crate) fn serves(&self, connection: u32) -> bool {
        self.connection == connection
    }

    /// How much room there is; `None` where no more requests are taken.
    pub(crate) fn room_left(&self) -> Option<u32> {
        matches!(self.stage, Stage::Open).then(|| self.room.free())
    }

    /// Writes a request down, if there is room.
    pub(crate) fn knock(&mut self, knock: Knock<'_, '_>, context: &Context<'_>) -> (Knocked, Stir) {
        if !matches!(self.stage, Stage::Open) {
            *knock.ticket = None;
            return (Knocked::Closed, Stir::default());
        }
        *knock.home = self.terms.home;
        let frame_bytes = knock.frame.request.frame_bytes();
        if let Some(reason) = too_much(&knock.frame.request, frame_bytes, &self.terms.server.limits)
        {
            return (Knocked::TooMuch(reason), Stir::default());
        }
        let places = frame_bytes.div_ceil(PLACE_BYTES);
        let places = places.min(u64::from(self.terms.places)) as u32;
        let turn = match *knock.ticket {
            Some(ticket) => self.room.ask(ticket, context),
            None if self.room.take(places) => Turn::Now,
            None => return self.queue(knock, places, context),
        };
        if turn != Turn::NotYet {
            *knock.ticket = None;
        }
        match turn {
            Turn::Now => self.send(knock, frame_bytes, places, context),
            Turn::NotYet => (Knocked::Queued, Stir::default()),
            Turn::Missed => (Knocked::Overdue, Stir::default()),
            Turn::Never => (Knocked::Closed, Stir::default()),
        }
    }

    #[cold]
    fn queue(
        &mut self,
        knock: Knock<'_, '_>,
        places: u32,
        context: &Context<'_>,
    ) -> (Knocked, Stir) {
        let give_up_at = knock.time.end_by_clock();
        let waker = context.waker().clone();
        *knock.ticket = Some(self.room.queue(places, give_up_at, waker));
        let stir = Stir {
            writes: false,
            hurries: self.hurries(give_up_at),
        };
        (Knocked::Queued, stir)
    }

    #[inline]
    fn send(
        &mut self,
        knock: Knock<'_, '_>,
        frame_bytes: u64,
        places: u32,
        context: &Context<'_>,
    ) -> (Knocked, Stir) {
        if self.pending.is_full() {
            // Whoever takes an answer makes room for an id.
            self.room.put_back(places);
            return self.queue(knock, places, context);
        }
        let writes = self.outgoing.is_empty();
        if writes || self.writing {
            self.began_at = Instant::now();
        }
        let began_at = self.began_at;
        let give_up_at = knock.time.end(|| began_at);
        self.enqueued_bytes += frame_bytes;
        let request = UnderWay {
            end_offset: self.enqueued_bytes,
            sent_at: began_at,
            owed_from: began_at,
            give_up_at,
            is_deadline: matches!(knock.time, Time::Deadline(_)),
            places,
        };
        knock.frame.id = self.pending.insert(request, context.waker().clone());
        knock.frame.encode(&mut self.outgoing);
        self.outgoing_frames += 1;
        let stir = Stir {
            writes,
            hurries: self.hurries(give_up_at),
        };
        let connection = self.connection;
        (Knocked::Sent { connection }, stir)
    }

    /// Notes when somebody has to look at the time, and says whether that is sooner than it was.
    fn hurries(&mut self, at: Instant) -> bool {
        let hurries = self.look_at.is_none_or(|look_at| at < look_at);
        if hurries {
            self.look_at = Some(at);
        }
        hurries
    }

    /// Takes the answer to a request; its id is used up then.
    pub(crate) fn poll_take(
        &mut self,
        id: u32,
        context: &Context<'_>,
        wake: &mut Vec<Waker>,
    ) -> Poll<Answer> {
        let was_full = self.pending.is_full();
        let taken = self.pending.poll_take(id, context);
        if was_full {
            self.room.give_back(0, wake);
        }
        taken
    }

    /// The caller of a request is done with it. Says whether somebody has to look at the time sooner
    /// than before.
    pub(crate) fn give_up(&mut self, id: u32, wake: &mut Vec<Waker>) -> bool {
        let owed_from = self.pending.give_up(id);
        self.room.give_back(0, wake);
        owed_from.is_some_and(|owed_from| self.hurries(self.silent_at(owed_from)))
    }

    /// Has somebody else wait for an answer in the caller's place. Says whether there is still one to wait
    /// for, and whether somebody has to look at the time sooner than before.
    pub(crate) fn pass_on(&mut self, id: u32) -> (bool, bool) {
        let give_up_at = self.pending.pass_on(id, self.terms.patience);
        (
            give_up_at.is_some(),
            give_up_at.is_some_and(|at| self.hurries(at)),
        )
    }

    /// The caller of a request waits for room no more.
    pub(crate) fn leave(&mut self, ticket: u64, wake: &mut Vec<Waker>) {
        self.room.leave(ticket, wake);
    }

    /// Exchanges the batch that was written for the next, or says that the connection is at its end.
    pub(crate) fn take_outgoing(&mut self, batch: &mut Vec<u8>) -> Option<Ending> {
        batch.clear();
        if batch.capacity() > KEPT_BUFFER_BYTES_MAX {
            *batch = Vec::new();
        }
        if !self.outgoing.is_empty() {
            self.settle(Instant::now());
        }
        std::mem::swap(batch, &mut self.outgoing);
        self.outgoing_frames = 0;
        self.writing = !batch.is_empty();
        self.ending()
    }

    /// Whether the server has answered all that was ever written.
    pub(crate) fn is_server_idle(&self) -> bool {
        !self.writing && self.pending.unanswered() == self.outgoing_frames
    }

    /// Whether so many frames are to be written to a server that has nothing to do.
    pub(crate) fn has_share(&self, frames: usize) -> bool {
        self.outgoing_frames as usize >= frames && self.is_server_idle()
    }

    /// The socket took so many bytes of the batch.
    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.written_bytes += bytes as u64;
    }

    /// Gives the frames that are written together the time that the driver was late.
    fn settle(&mut self, now: Instant) {
        let late = now - self.began_at;
        if !self.outgoing.is_empty() && !self.writing && late > CLOCK_SLACK {
            self.pending.prolong(self.began_at, late);
            self.began_at = now;
        }
    }

    /// Gives up requests whose time is over, and adds whom to wake.
    pub(crate) fn look(&mut self, now: Instant, wake: &mut Vec<Waker>) -> Look {
        if let Some(ending) = self.ending() {
            return Look::Ended(ending);
        }
        self.settle(now);
        let Times { next, owed_from } = self.pending.give_up_overdue(now, wake);
        let next = earlier(next, self.room.give_up_overdue(now, wake));
        let silent_at = owed_from.map(|owed_from| self.silent_at(owed_from));
        let leave_at = earlier(silent_at, self.closed_by);
        self.look_at = earlier(next, leave_at);
        match leave_at {
            Some(leave_at) if leave_at <= now => Look::Silent,
            _ => Look::Next(self.look_at),
        }
    }

    /// When it will have been silence for too long, if there is no news.
    fn silent_at(&self, owed_from: Instant) -> Instant {
        owed_from.max(self.heard_at) + self.terms.patience
    }

    /// Is to end at once if the server is still silent.
    pub(crate) fn leave_if_silent(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        if let Look::Silent = self.look(now, wake) {
            let why = match self.closed_by {
                Some(closed_by) if closed_by <= now => "the server drained it and did not close it",
                _ => "the server was silent for as long as a request may take",
            };
            self.stop(Ending::Lost(why.to_owned()), wake);
        }
    }

    /// Notes that something was read, or that a socket that was full has room again.
    pub(crate) fn note_heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Puts an answer where its caller finds it, and adds whom to wake; the places that its request
    /// had are for the caller to [give back](Self::give_back). `None` where nobody asked.
    #[inline]
    pub(crate) fn answer(&mut self, id: u32, answer: Answer) -> Option<Answered> {
        self.pending.answer(id, answer)
    }

    /// Gives places back, and adds whom to wake since it has got them.
    pub(crate) fn give_back(&mut self, places: u32, wake: &mut Vec<Waker>) {
        self.room.give_back(places, wake);
    }

    /// Takes no more requests; ends when those under way are answered.
    pub(crate) fn drain(&mut self, wake: &mut Vec<Waker>) {
        if matches!(self.stage, Stage::Open) {
            self.stage = Stage::Draining;
        }
        self.room.close(wake);
    }

    /// Takes no more requests, since the server closes the connection after so much time.
    pub(crate) fn drain_within(&mut self, left: Duration, now: Instant, wake: &mut Vec<Waker>) {
        let closed_by = now + left + DRAIN_SLACK;
        self.closed_by = earlier(self.closed_by, Some(closed_by));
        self.drain(wake);
    }

    /// Is to end at once.
    pub(crate) fn stop(&mut self, ending: Ending, wake: &mut Vec<Waker>) {
        if matches!(self.stage, Stage::Open | Stage::Draining) {
            self.stage = Stage::Ending(ending);
        }
        self.room.close(wake);
    }

    /// Why the connection has no more to do, if it has not.
    pub(crate) fn ending(&self) -> Option<Ending> {
        match &self.stage {
            Stage::Ending(ending) => Some(ending.clone()),
            Stage::Draining if self.pending.is_answered() => Some(Ending::Finished),
            Stage::Open | Stage::Draining | Stage::Over => None,
        }
    }

    /// Tells all who still wait what became of their request, now that the connection is no more, and
    /// adds them to whom to wake.
    pub(crate) fn end(&mut self, ending: Ending, wake: &mut Vec<Waker>) {
        let refused =
            matches!(&ending, Ending::Closed { status, .. } if status.class() == Class::Closing);
        let (cause, written_bytes) = (Cause::from(ending), self.written_bytes);
        self.stage = Stage::Over;
        self.outgoing = Vec::new();
        self.outgoing_frames = 0;
        self.room.close(wake);
        let answer = |request: &UnderWay| match refused || request.end_offset > written_bytes {
            true => Answer::NotExecuted(Box::new(cause.clone())),
            false => Answer::Unknown(Box::new(cause.clone())),
        };
        self.pending.end(answer, wake);
    }
}

#[cfg(test)]
mod tests;
