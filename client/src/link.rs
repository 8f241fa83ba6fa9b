//! One connection, shared by all tasks.
//!
//! Tasks put their frames at the end of a common buffer, under a lock that is held for the time of a
//! copy. One task, the driver, owns the socket: it takes the whole buffer and writes it while the
//! next one fills, so that a write carries whatever came together during the one before. It reads in
//! the same way, and hands each reply to the request with its id.
//!
//! The time of requests is watched by the driver too, with one timer for all of them.
//!
//! The driver alone knows how many bytes the socket took. When the connection ends, a request that
//! ends beyond them never reached the server whole and was not executed; of the others nobody can
//! tell, unless the server said, by a frame of a closing class, that whatever it has not answered it
//! has not executed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use larder_protocol::{
    Class, Decoded, Limits, Reason, Request, RequestFrame, Response, ResponseFrame, Status, Store,
    decode_response,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, TryAcquireError, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::client::ServerInfo;
use crate::error::Cause;
use crate::metrics::Meter;
use crate::pending::{Answer, IN_FLIGHT_CEILING, Pending, Waiting};
use crate::reply::Reply;

/// LIMIT: what a request may weigh for one place of the room; see [`crate::Config::in_flight_max`].
const PLACE_BYTES: u64 = 4096;

/// LIMIT: a read takes what a socket buffer usually holds.
const READ_BYTES: usize = 64 * 1024;

/// LIMIT: replies up to this length are copied, so that a small value that is kept for long does not
/// keep a read buffer.
const COPY_BYTES_MAX: usize = 4096;

/// LIMIT: a buffer that once held a large value is not kept for small ones.
const KEPT_BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) server: ServerInfo,
    /// One permit for each request that may be under way; closed when the connection takes no more.
    room: Semaphore,
    room_max: u32,
    meter: Arc<Meter>,
    desk: Mutex<Desk>,
    /// Told when there is something to write or the stage has changed.
    work: Notify,
    /// Told when a request has less time than those before it.
    hurry: Notify,
}

/// What tasks and the driver share.
#[derive(Debug)]
struct Desk {
    stage: Stage,
    /// Frames that the driver has not taken yet.
    outgoing: Vec<u8>,
    /// All bytes that were ever put into `outgoing`.
    enqueued_bytes: u64,
    pending: Pending,
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
    /// Ends at once.
    Ended(Ending),
}

/// Why a connection ended.
#[derive(Clone, Debug)]
enum Ending {
    /// All was answered and no more was to come.
    Finished,
    /// The socket broke, or was closed by the server without a word.
    Lost(String),
    /// The server said why it closes.
    Closed { status: Status, message: String },
    /// The server broke the protocol.
    Broken(String),
}

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The connection takes no more requests.
    Closed,
    /// Its time was over before there was room.
    Overdue,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) at: Instant,
    /// Where its answer will arrive.
    pub(crate) answered: oneshot::Receiver<Answer>,
}

impl Link {
    /// Takes over a connection and starts its driver. `buffer` is what was read behind the handshake.
    pub(crate) fn start<R, W>(
        server: ServerInfo,
        in_flight_max: u32,
        (reader, writer): (R, W),
        buffer: BytesMut,
        meter: Arc<Meter>,
    ) -> Arc<Self>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let room_max = server
            .limits
            .in_flight_max
            .min(in_flight_max)
            .clamp(1, IN_FLIGHT_CEILING);
        let desk = Desk {
            stage: Stage::Open,
            outgoing: Vec::new(),
            enqueued_bytes: 0,
            pending: Pending::default(),
            heard_at: Instant::now(),
            look_at: None,
        };
        let link = Arc::new(Self {
            server,
            room: Semaphore::new(room_max as usize),
            room_max,
            meter,
            desk: Mutex::new(desk),
            work: Notify::new(),
            hurry: Notify::new(),
        });
        tokio::spawn(link.clone().drive(reader, writer, buffer));
        link
    }

    /// Whether new requests are taken.
    pub(crate) fn is_open(&self) -> bool {
        // Whoever lowers the stage closes the room; `send` asks the stage itself.
        !self.room.is_closed()
    }

    /// How much room there is for requests at this moment.
    pub(crate) fn room_left(&self) -> usize {
        self.room.available_permits()
    }

    /// Enqueues a request, now or after waiting for room. Its answer comes before `give_up_at`, or
    /// that it is [overdue](Answer::Overdue).
    pub(crate) async fn send(
        &self,
        request: &Request<'_>,
        now: Instant,
        give_up_at: Instant,
    ) -> Result<Sent, NotSent> {
        let (answer, answered) = oneshot::channel();
        let mut at = now;
        if let Some(reason) = too_much(request, &self.server.limits) {
            let _ = answer.send(Answer::Failed {
                status: reason.status(),
                message: reason.to_string(),
            });
            return Ok(Sent { at, answered });
        }
        let frame_bytes = request.frame_bytes();
        let places = (frame_bytes.div_ceil(PLACE_BYTES)).min(u64::from(self.room_max)) as u32;
        let room = match self.room.try_acquire_many(places) {
            Ok(room) => room,
            Err(TryAcquireError::Closed) => return Err(NotSent::Closed),
            Err(TryAcquireError::NoPermits) => {
                let room = timeout_at(give_up_at, self.room.acquire_many(places)).await;
                at = Instant::now();
                room.map_err(|_| NotSent::Overdue)?
                    .map_err(|_| NotSent::Closed)?
            }
        };
        let mut desk = self.desk();
        if !matches!(desk.stage, Stage::Open) {
            return Err(NotSent::Closed);
        }
        // It is given back with the slot, for all answers that came together.
        room.forget();
        let was_idle = desk.outgoing.is_empty();
        desk.enqueued_bytes += frame_bytes;
        let end_offset = desk.enqueued_bytes;
        let id = desk.pending.insert(Waiting {
            end_offset,
            sent_at: at,
            give_up_at,
            answer: Some(answer),
            places,
        });
        RequestFrame {
            id,
            quiet: false,
            request: request.clone(),
        }
        .encode(&mut desk.outgoing);
        let hurries = desk.look_at.is_none_or(|look_at| give_up_at < look_at);
        if hurries {
            desk.look_at = Some(give_up_at);
        }
        drop(desk);
        if was_idle {
            self.work.notify_one();
        }
        if hurries {
            self.hurry.notify_one();
        }
        Ok(Sent { at, answered })
    }

    /// Takes no more requests; ends when those under way are answered.
    pub(crate) fn drain(&self) {
        self.lower(Stage::Draining);
    }

    /// Ends at once: nobody is left who waits for an answer.
    pub(crate) fn abandon(&self) {
        self.lower(Stage::Ended(Ending::Finished));
    }

    /// Ends the connection if nothing at all has come from the server since a request was sent there
    /// whose time is now over.
    pub(crate) fn give_up_if_silent_since(&self, sent_at: Instant) {
        if self.desk().heard_at <= sent_at {
            let why = "the server was silent for as long as a request may take".to_owned();
            self.lower(Stage::Ended(Ending::Lost(why)));
        }
    }

    fn lower(&self, stage: Stage) {
        let mut desk = self.desk();
        match (&desk.stage, &stage) {
            (Stage::Open, _) | (Stage::Draining, Stage::Ended(_)) => desk.stage = stage,
            _ => {}
        }
        drop(desk);
        self.room.close();
        self.work.notify_one();
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing panics while it holds the desk, and every state of it is a valid one.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn drive<R, W>(self: Arc<Self>, reader: R, writer: W, buffer: BytesMut)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut written_bytes = 0;
        let ending = tokio::select! {
            ending = self.read_replies(reader, buffer) => ending,
            ending = self.write_requests(writer, &mut written_bytes) => ending,
            never = self.watch_time() => match never {},
        };
        self.end(ending, written_bytes);
    }

    /// Gives requests up whose time is over. One timer serves all: it is set for the request that
    /// has the least time left, and looked at again only when it has run out, or a new one has less.
    async fn watch_time(&self) -> Infallible {
        loop {
            let look_at = {
                let mut desk = self.desk();
                desk.look_at = desk.pending.give_up_overdue(Instant::now());
                desk.look_at
            };
            let hurry = self.hurry.notified();
            match look_at {
                Some(look_at) => {
                    // Either way it is time to look.
                    let _ = timeout_at(look_at, hurry).await;
                }
                None => hurry.await,
            }
        }
    }

    /// Writes what tasks enqueue until the connection has no more to do.
    ///
    /// A write that fails does not end the connection, since the reason may be among the bytes that
    /// are still to be read.
    async fn write_requests(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        written_bytes: &mut u64,
    ) -> Ending {
        let mut batch = Vec::new();
        loop {
            self.work.notified().await;
            // Tasks that are ready to ask something do so now, and share the write.
            tokio::task::yield_now().await;
            loop {
                if let Some(ending) = self.take_outgoing(&mut batch) {
                    return ending;
                }
                if batch.is_empty() {
                    break;
                }
                let mut rest = &batch[..];
                while !rest.is_empty() {
                    match writer.write(rest).await {
                        Ok(taken_bytes) if taken_bytes > 0 => {
                            *written_bytes += taken_bytes as u64;
                            self.meter.sent(taken_bytes);
                            rest = &rest[taken_bytes..];
                        }
                        _ => {
                            self.drain();
                            return self.ended().await;
                        }
                    }
                }
            }
        }
    }

    /// Exchanges the written batch for the next, or says that the connection is at its end.
    fn take_outgoing(&self, batch: &mut Vec<u8>) -> Option<Ending> {
        batch.clear();
        if batch.capacity() > KEPT_BUFFER_BYTES_MAX {
            *batch = Vec::new();
        }
        let mut desk = self.desk();
        std::mem::swap(batch, &mut desk.outgoing);
        desk.ending()
    }

    /// Waits until the connection is at its end, without writing any more.
    async fn ended(&self) -> Ending {
        loop {
            if let Some(ending) = self.desk().ending() {
                return ending;
            }
            self.work.notified().await;
        }
    }

    /// Reads replies and hands them out until the connection ends.
    async fn read_replies(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
    ) -> Ending {
        let mut answers = Vec::new();
        loop {
            let read = self.take_answers(&mut buffer, &mut answers);
            let finished = self.hand_out(&mut answers);
            let needed_bytes = match read {
                Ok(needed_bytes) => needed_bytes,
                Err(ending) => return ending,
            };
            if let Some(ending) = finished {
                return ending;
            }
            buffer.reserve(READ_BYTES.max(needed_bytes - buffer.len()));
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return Ending::Lost("the server closed it".to_owned()),
                Ok(count) => {
                    self.meter.received(count);
                    self.desk().heard_at = Instant::now();
                }
                Err(error) => return Ending::Lost(error.to_string()),
            }
        }
    }

    /// Decodes all whole frames at the front of the buffer, and returns how many bytes it must hold
    /// before there is another.
    fn take_answers(
        &self,
        buffer: &mut BytesMut,
        answers: &mut Vec<(u32, Answer)>,
    ) -> Result<usize, Ending> {
        let frame_bytes_max = self.server.limits.frame_bytes_max;
        loop {
            match decode_response(buffer, frame_bytes_max) {
                Decoded::Frame { frame, consumed } if consumed <= COPY_BYTES_MAX => {
                    let ending = self.take_frame(&frame, answers, Bytes::copy_from_slice);
                    buffer.advance(consumed);
                    ending?;
                }
                Decoded::Frame { consumed, .. } => {
                    let whole = buffer.split_to(consumed).freeze();
                    if let Decoded::Frame { frame, .. } = decode_response(&whole, frame_bytes_max) {
                        self.take_frame(&frame, answers, |slice| whole.slice_ref(slice))?;
                    }
                }
                Decoded::Incomplete { needed_bytes } => return Ok(needed_bytes),
                Decoded::Refused(refusal) => return Err(Ending::Broken(refusal.to_string())),
            }
        }
    }

    fn take_frame(
        &self,
        frame: &ResponseFrame<'_>,
        answers: &mut Vec<(u32, Answer)>,
        own: impl Fn(&[u8]) -> Bytes,
    ) -> Result<(), Ending> {
        let ResponseFrame { id, status, .. } = *frame;
        match &frame.response {
            Response::Drain { left_ms, message } => {
                tracing::debug!(left_ms, message, "the server drains this connection");
                self.drain();
            }
            Response::Close { message } => {
                return Err(Ending::Closed {
                    status,
                    message: (*message).to_owned(),
                });
            }
            Response::Failed { message } => {
                answers.push((
                    id,
                    Answer::Failed {
                        status,
                        message: (*message).to_owned(),
                    },
                ));
                if matches!(status.class(), Class::Closing | Class::Unknown) {
                    return Err(Ending::Closed {
                        status,
                        message: (*message).to_owned(),
                    });
                }
            }
            response => match Reply::from_response(response, own) {
                Some(reply) => answers.push((id, Answer::Reply(reply))),
                None => {
                    tracing::debug!(opcode = frame.opcode, "skipped a frame of an unknown kind")
                }
            },
        }
        Ok(())
    }

    /// Hands answers to those who wait for them, and says why the connection has no more to do, if it
    /// has not.
    fn hand_out(&self, answers: &mut Vec<(u32, Answer)>) -> Option<Ending> {
        let mut answered = match answers.is_empty() {
            true => None,
            false => Some(self.meter.answered()),
        };
        let mut free_places = 0;
        let mut desk = self.desk();
        for (id, answer) in answers.drain(..) {
            match desk.pending.remove(id) {
                Some(waiting) => {
                    free_places += waiting.places as usize;
                    if let Some(answered) = &mut answered {
                        answered.one_sent_at(waiting.sent_at);
                    }
                    waiting.tell(answer);
                }
                None => tracing::warn!(id, "the server answered what was not asked"),
            }
        }
        let ending = desk.ending();
        drop(desk);
        if free_places > 0 {
            self.room.add_permits(free_places);
        }
        ending
    }

    /// Tells all who still wait what became of their request.
    fn end(&self, ending: Ending, written_bytes: u64) {
        tracing::debug!(?ending, server = self.server.name, "the connection ended");
        self.room.close();
        let mut desk = self.desk();
        desk.stage = Stage::Ended(ending.clone());
        desk.outgoing = Vec::new();
        let unanswered = desk.pending.take_all();
        drop(desk);
        let refused =
            matches!(&ending, Ending::Closed { status, .. } if status.class() == Class::Closing);
        for waiting in unanswered {
            let cause = ending.clone().into();
            let is_not_executed = refused || waiting.end_offset > written_bytes;
            waiting.tell(match is_not_executed {
                true => Answer::NotExecuted(cause),
                false => Answer::Unknown(cause),
            });
        }
    }
}

/// Why a server with these limits would refuse a request for its length, which need not be sent then.
pub(crate) fn too_much(request: &Request<'_>, limits: &Limits) -> Option<Reason> {
    let value_bytes_max = limits.value_bytes_max;
    let frame_bytes_max = match request.opcode().has_value_in_place() {
        true => limits.frame_bytes_max,
        false => limits.buffered_bytes_max,
    };
    if let Request::Store(Store { value, .. }) = request
        && value.len() as u64 > u64::from(value_bytes_max)
    {
        return Some(Reason::TooLarge {
            value_bytes: u32::try_from(value.len()).unwrap_or(u32::MAX),
            value_bytes_max,
        });
    }
    let frame_bytes = request.frame_bytes();
    (frame_bytes > u64::from(frame_bytes_max)).then_some(Reason::FrameTooLarge {
        frame_bytes,
        frame_bytes_max,
    })
}

impl Desk {
    /// Why the connection has no more to do, if it has not.
    fn ending(&self) -> Option<Ending> {
        match &self.stage {
            Stage::Ended(ending) => Some(ending.clone()),
            Stage::Draining if self.pending.is_empty() => Some(Ending::Finished),
            Stage::Open | Stage::Draining => None,
        }
    }
}

impl From<Ending> for Cause {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Finished => Self::ConnectionLost("the client was dropped".to_owned()),
            Ending::Lost(why) => Self::ConnectionLost(why),
            Ending::Closed { status, message } => Self::ConnectionClosed { status, message },
            Ending::Broken(why) => Self::Protocol(why),
        }
    }
}
