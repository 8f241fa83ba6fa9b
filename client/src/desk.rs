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

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use larder_protocol::{Class, Reason, RequestFrame};
use tokio::time::Instant;

use crate::client::ServerInfo;
use crate::ending::Ending;
use crate::error::Cause;
use crate::length::too_much;
use crate::pending::{Answer, Answered, Pending, UnderWay};
use crate::room::{Room, Turn};

/// LIMIT: what requests may count as sent too early; far less than any time that a request is given.
const CLOCK_SLACK: Duration = Duration::from_millis(1);

/// LIMIT: what a request may weigh for one place of the room; see [`crate::Config::in_flight_max`].
const PLACE_BYTES: u64 = 4096;

/// LIMIT: a buffer that once held a large value is not kept for small ones.
const KEPT_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// What tasks and the driver share.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Which connection this is, of those that there were one after the other.
    connection: u32,
    server: Arc<ServerInfo>,
    /// How many places a request takes at most: all.
    places_max: u32,
    stage: Stage,
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
    /// So much, and by now it is known until when.
    Until(Instant),
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
            Self::Until(end) | Self::Deadline(end) => end,
        }
    }
}

impl Desk {
    /// The desk of a connection on which `places` requests may be under way.
    pub(crate) fn new(server: Arc<ServerInfo>, places: u32, pending: Pending) -> Self {
        let now = Instant::now();
        Self {
            connection: 0,
            server,
            places_max: places,
            stage: Stage::Open,
            outgoing: Vec::new(),
            outgoing_frames: 0,
            began_at: now,
            writing: false,
            enqueued_bytes: 0,
            written_bytes: 0,
            pending,
            room: Room::new(places),
            heard_at: now,
            look_at: None,
        }
    }

    /// Serves a new connection, if the one before has ended. Whoever has not taken the answer to a
    /// request on that one finds it still here.
    pub(crate) fn reopen(&mut self, server: &Arc<ServerInfo>, places: u32) -> bool {
        let is_over = matches!(self.stage, Stage::Over);
        if is_over {
            self.connection = self.connection.wrapping_add(1);
            self.server = server.clone();
            self.places_max = places;
            self.stage = Stage::Open;
            (self.enqueued_bytes, self.written_bytes) = (0, 0);
            self.writing = false;
            self.room.reopen(places);
            self.heard_at = Instant::now();
            self.look_at = None;
        }
        is_over
    }

    /// What the server said about itself.
    pub(crate) fn server(&self) -> &Arc<ServerInfo> {
        &self.server
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
        let frame_bytes = knock.frame.request.frame_bytes();
        if let Some(reason) = too_much(&knock.frame.request, frame_bytes, &self.server.limits) {
            return (Knocked::TooMuch(reason), Stir::default());
        }
        let places = frame_bytes.div_ceil(PLACE_BYTES);
        let places = places.min(u64::from(self.places_max)) as u32;
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
        let give_up_at = knock.time.end(Instant::now);
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

    /// Notes when somebody has to look for requests whose time is over, and says whether that is
    /// sooner than it was.
    fn hurries(&mut self, give_up_at: Instant) -> bool {
        let hurries = self.look_at.is_none_or(|look_at| give_up_at < look_at);
        if hurries {
            self.look_at = Some(give_up_at);
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

    /// The caller of a request is done with it.
    pub(crate) fn give_up(&mut self, id: u32, wake: &mut Vec<Waker>) {
        self.pending.give_up(id);
        self.room.give_back(0, wake);
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

    /// Gives up requests whose time is over, adds whom to wake, and says when that of another is.
    pub(crate) fn give_up_overdue(
        &mut self,
        now: Instant,
        wake: &mut Vec<Waker>,
    ) -> Option<Instant> {
        self.settle(now);
        let under_way = self.pending.give_up_overdue(now, wake);
        let queued = self.room.give_up_overdue(now, wake);
        self.look_at = match (under_way, queued) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.look_at
    }

    /// Notes that something was read.
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

    /// Whether nothing at all has come from the server since a moment.
    pub(crate) fn is_silent_since(&self, moment: Instant) -> bool {
        self.heard_at <= moment
    }

    /// Takes no more requests; ends when those under way are answered.
    pub(crate) fn drain(&mut self, wake: &mut Vec<Waker>) {
        if matches!(self.stage, Stage::Open) {
            self.stage = Stage::Draining;
        }
        self.room.close(wake);
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
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use larder_protocol::{Limits, Request, RequestFrame};
    use tokio::time::{Instant, advance};

    use super::{Desk, Knock, Knocked, Time};
    use crate::client::ServerInfo;
    use crate::ending::Ending;
    use crate::error::Cause;
    use crate::pending::{Answer, Pending};

    const TIME: Duration = Duration::from_millis(100);

    fn server() -> Arc<ServerInfo> {
        Arc::new(ServerInfo {
            name: "test".to_owned(),
            limits: Limits::default(),
        })
    }

    fn desk(places: u32) -> Desk {
        Desk::new(server(), places, Pending::new())
    }

    fn knock(desk: &mut Desk, time: Time, ticket: &mut Option<u64>) -> (Knocked, u32) {
        let mut frame = RequestFrame {
            id: 0,
            quiet: false,
            request: Request::Get {
                key: b"key",
                want_expiry: false,
            },
        };
        let knock = Knock {
            frame: &mut frame,
            time: &mut { time },
            ticket,
        };
        let (knocked, _) = desk.knock(knock, &Context::from_waker(Waker::noop()));
        (knocked, frame.id)
    }

    fn send(desk: &mut Desk, time: Time) -> u32 {
        let (knocked, id) = knock(desk, time, &mut None);
        assert!(matches!(knocked, Knocked::Sent { .. }), "{knocked:?}");
        id
    }

    fn take(desk: &mut Desk, id: u32) -> Option<Answer> {
        let context = Context::from_waker(Waker::noop());
        match desk.poll_take(id, &context, &mut Vec::new()) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// How many are given up at a moment.
    fn overdue(desk: &mut Desk, at: Instant) -> usize {
        let mut wake = Vec::new();
        desk.give_up_overdue(at, &mut wake);
        wake.len()
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_is_late_costs_no_request_its_time() {
        let mut desk = desk(10);
        let begin = Instant::now();
        send(&mut desk, Time::For(TIME));
        advance(Duration::from_millis(60)).await;
        // It is written with the first, whose clock it has.
        send(&mut desk, Time::For(TIME));
        send(&mut desk, Time::Deadline(begin + TIME));
        assert!(desk.take_outgoing(&mut Vec::new()).is_none());
        assert_eq!(overdue(&mut desk, begin + Duration::from_millis(159)), 1);
        assert_eq!(overdue(&mut desk, begin + Duration::from_millis(160)), 2);
    }

    #[tokio::test]
    async fn a_server_is_idle_once_it_has_answered_all_that_was_written() {
        let mut desk = desk(10);
        let first = send(&mut desk, Time::For(TIME));
        assert!(desk.is_server_idle() && desk.has_share(1) && !desk.has_share(2));
        let mut batch = Vec::new();
        desk.take_outgoing(&mut batch);
        assert!(!desk.is_server_idle(), "a write is under way");
        desk.take_outgoing(&mut batch);
        assert!(!desk.is_server_idle(), "it has not answered");
        send(&mut desk, Time::For(TIME));
        assert!(!desk.has_share(1));
        desk.answer(first, Answer::Frame(Bytes::new()))
            .expect("is under way");
        assert!(desk.has_share(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_behind_a_write_has_a_clock_of_its_own() {
        let mut desk = desk(10);
        send(&mut desk, Time::For(TIME));
        desk.take_outgoing(&mut Vec::new());
        let begin = Instant::now();
        for _ in 0..3 {
            send(&mut desk, Time::For(TIME));
            advance(Duration::from_millis(10)).await;
        }
        let gone = [100, 110, 120].map(|ms| overdue(&mut desk, begin + Duration::from_millis(ms)));
        assert_eq!(gone, [2, 1, 1]);
    }

    #[tokio::test]
    async fn where_all_ids_are_taken_requests_wait_until_an_answer_is_taken() {
        let mut desk = Desk::new(server(), 10, Pending::with_slots(1));
        let first = send(&mut desk, Time::For(TIME));
        desk.answer(first, Answer::Frame(Bytes::new()))
            .expect("is under way");
        desk.give_back(1, &mut Vec::new());
        let mut ticket = None;
        let (knocked, _) = knock(&mut desk, Time::For(TIME), &mut ticket);
        assert!(matches!(knocked, Knocked::Queued));
        assert!(take(&mut desk, first).is_some());
        let (knocked, id) = knock(&mut desk, Time::For(TIME), &mut ticket);
        assert!(matches!(knocked, Knocked::Sent { .. }));
        assert_ne!(id, first);
    }

    #[tokio::test]
    async fn the_end_is_told_by_what_was_written_and_the_next_connection_begins_anew() {
        let mut desk = desk(10);
        let (written, waits) = (
            send(&mut desk, Time::For(TIME)),
            send(&mut desk, Time::For(TIME)),
        );
        assert!(!desk.reopen(&server(), 10), "it goes on");
        let mut batch = Vec::new();
        desk.take_outgoing(&mut batch);
        desk.note_written(batch.len() - 1);
        let mut wake = Vec::new();
        desk.end(Ending::Lost("gone".to_owned()), &mut wake);
        assert_eq!(wake.len(), 2);
        let (knocked, _) = knock(&mut desk, Time::For(TIME), &mut None);
        assert!(matches!(knocked, Knocked::Closed));

        assert!(desk.reopen(&server(), 10));
        assert!(desk.serves(1) && !desk.serves(0));
        let next = send(&mut desk, Time::For(TIME));
        assert!(matches!(take(&mut desk, written), Some(Answer::Unknown(_))));
        match take(&mut desk, waits) {
            Some(Answer::NotExecuted(cause)) => {
                assert_eq!(*cause, Cause::ConnectionLost("gone".to_owned()));
            }
            other => panic!("{other:?}"),
        }
        assert!(take(&mut desk, next).is_none());
    }
}
