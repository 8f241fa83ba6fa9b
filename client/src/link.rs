//! One connection, shared by all tasks.
//!
//! Tasks write their frames at the end of a common buffer, on the [desk](crate::desk), under a lock that
//! is held for the time of a copy. One task, the driver, owns the socket: it takes the whole buffer and
//! writes it while the next one fills, so that a write carries whatever came together during the one
//! before. It reads in the same way, lays each reply into the slot of the request with its id, and wakes
//! all whose replies came together in one sweep, with no lock held. Where the server has answered all that
//! it was asked, half of them go first, so that client and server do not wait for each other in turn.
//!
//! The time of requests is watched by the driver too, with one timer for all of them, and so is the
//! server: a connection on which it owes an answer and says nothing is left.
//!
//! The driver alone knows how many bytes the socket took. When the connection ends, a request that
//! ends beyond them never reached the server whole and was not executed; of the others nobody can
//! tell, unless the server said, by a frame of a closing class, that whatever it has not answered it
//! has not executed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use larder_protocol::{Reason, RequestFrame};
use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::ServerInfo;
use crate::desk::{Desk, Knock, Knocked, Look, Terms, Time};
use crate::ending::Ending;
use crate::inbox::Inbox;
use crate::metrics::Meter;
use crate::pending::{Answer, Pending};

/// LIMIT: a read takes what a socket buffer usually holds.
const READ_BYTES: usize = 64 * 1024;

/// LIMIT: as few requests are worth a write of their own, where the server waits for it.
const SHARE_MIN: usize = 16;

/// LIMIT: long enough that the runtime looks at its sockets before, and short beside any time that a
/// request is given.
const LAST_LOOK: Duration = Duration::from_millis(1);

/// What `room_left` holds when the connection takes no more requests.
const CLOSED: u64 = u64::MAX;

/// A connection whose handshake is done, or has ended and [gives its place](Link::restart) to another.
#[derive(Debug)]
pub(crate) struct Link {
    meter: Arc<Meter>,
    desk: Mutex<Desk>,
    /// What the desk says of its room, for those who choose among connections.
    // ORDERING: Relaxed; it is a hint. It is written under the desk's lock, so that whoever was told
    // there that the connection is closed sees that here, too.
    room_left: AtomicU64,
    /// Told when there is something to write or the stage has changed.
    work: Notify,
    /// Told when it is to be looked at the time sooner than was known, or at the stage.
    hurry: Notify,
}

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The connection takes no more requests.
    Closed,
    /// Its time was over before there was room.
    Overdue,
    /// The server would refuse it for its length.
    TooMuch(Reason),
}

/// Both directions of a connection, and what was read behind its handshake.
pub(crate) struct Halves<R, W> {
    pub(crate) reader: R,
    pub(crate) writer: W,
    pub(crate) buffer: BytesMut,
}

/// A connection that is driven; dropped with its runtime, it ends.
struct Driven {
    link: Arc<Link>,
    ending: Ending,
}

impl Link {
    /// Takes over a connection, and starts its driver.
    pub(crate) fn start<R, W>(terms: &Terms, halves: Halves<R, W>, meter: Arc<Meter>) -> Arc<Self>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let link = Arc::new(Self {
            meter,
            desk: Mutex::new(Desk::new(terms.clone(), Pending::new())),
            room_left: AtomicU64::new(u64::from(terms.places)),
            work: Notify::new(),
            hurry: Notify::new(),
        });
        link.begin(terms, halves);
        link
    }

    /// Takes over a new connection in place of the one that has ended, and starts its driver. Gives it
    /// back where that one has not ended yet.
    pub(crate) fn restart<R, W>(
        self: &Arc<Self>,
        terms: &Terms,
        halves: Halves<R, W>,
    ) -> Result<(), Halves<R, W>>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        if !self.at_desk(|desk, _| desk.reopen(terms)) {
            return Err(halves);
        }
        self.begin(terms, halves);
        Ok(())
    }

    fn begin<R, W>(self: &Arc<Self>, terms: &Terms, halves: Halves<R, W>)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let driven = Driven {
            link: self.clone(),
            ending: Ending::Lost("the runtime of the connection has ended".to_owned()),
        };
        tokio::spawn(driven.drive(halves, terms.server.limits.frame_bytes_max));
    }

    /// What the server said about itself.
    pub(crate) fn server(&self) -> Arc<ServerInfo> {
        self.desk().server().clone()
    }

    /// How much room there is for requests at this moment; `None` where no more are taken.
    pub(crate) fn room_left(&self) -> Option<u64> {
        let room_left = self.room_left.load(Ordering::Relaxed);
        (room_left != CLOSED).then_some(room_left)
    }

    /// Sends a request, now or when there is room, and gives its frame its id; the result is on which
    /// connection. Its answer comes before its time is over, or that it is [overdue](Answer::Overdue).
    #[inline]
    pub(crate) fn poll_send(
        &self,
        frame: &mut RequestFrame<'_>,
        time: &mut Time,
        ticket: &mut Option<u64>,
        home: &mut Option<runtime::Id>,
        context: &Context<'_>,
    ) -> Poll<Result<u32, NotSent>> {
        let knock = Knock {
            frame,
            time,
            ticket,
            home,
        };
        let mut desk = self.desk();
        let (knocked, stir) = desk.knock(knock, context);
        self.leave_desk(desk);
        if stir.writes {
            self.work.notify_one();
        }
        if stir.hurries {
            self.hurry.notify_one();
        }
        match knocked {
            Knocked::Sent { connection } => Poll::Ready(Ok(connection)),
            Knocked::Queued => Poll::Pending,
            Knocked::Closed => Poll::Ready(Err(NotSent::Closed)),
            Knocked::Overdue => Poll::Ready(Err(NotSent::Overdue)),
            Knocked::TooMuch(reason) => Poll::Ready(Err(NotSent::TooMuch(reason))),
        }
    }

    /// Takes the answer to a request; the id is used up then.
    pub(crate) fn poll_answer(&self, id: u32, context: &Context<'_>) -> Poll<Answer> {
        let mut wake = Vec::new();
        let answer = self.desk().poll_take(id, context, &mut wake);
        if !wake.is_empty() {
            wake_all(&mut wake);
        }
        answer
    }

    /// The caller of a request is done with it, whatever comes of it.
    pub(crate) fn give_up(&self, id: u32) {
        if self.at_desk(|desk, wake| desk.give_up(id, wake)) {
            self.hurry.notify_one();
        }
    }

    /// Has somebody else [take](Self::poll_answer) the answer to a request in the caller's place, if there is
    /// still one to wait for.
    pub(crate) fn pass_on(&self, id: u32) -> bool {
        let (is_there, hurries) = self.at_desk(|desk, _| desk.pass_on(id));
        if hurries {
            self.hurry.notify_one();
        }
        is_there
    }

    /// The caller of a request waits for room no more.
    pub(crate) fn leave(&self, ticket: u64) {
        self.at_desk(|desk, wake| desk.leave(ticket, wake));
    }

    /// Takes no more requests; ends when those under way are answered.
    pub(crate) fn drain(&self) {
        self.at_desk(Desk::drain);
        self.work.notify_one();
    }

    /// Drains, since the server said that it closes the connection after so much time.
    fn drain_within(&self, left: Duration) {
        self.at_desk(|desk, wake| desk.drain_within(left, Instant::now(), wake));
        self.work.notify_one();
        self.hurry.notify_one();
    }

    /// Drains, since the server told a request on that connection that it does.
    pub(crate) fn heed_drain(&self, connection: u32) {
        self.at_desk(|desk, wake| {
            if desk.serves(connection) {
                desk.drain(wake);
            }
        });
        self.work.notify_one();
    }

    /// Ends at once: nobody is left who waits for an answer.
    pub(crate) fn abandon(&self) {
        self.stop_if(|_| true, Ending::Finished);
    }

    /// Ends at once, since the server broke the protocol there.
    pub(crate) fn give_up_broken(&self, connection: u32, why: &str) {
        let ending = Ending::Broken(why.to_owned());
        self.stop_if(|desk| desk.serves(connection), ending);
    }

    fn stop_if(&self, stops: impl FnOnce(&Desk) -> bool, ending: Ending) {
        self.at_desk(|desk, wake| {
            if stops(desk) {
                desk.stop(ending, wake);
            }
        });
        self.work.notify_one();
        // Where a write does not come to its end, nobody hears of work.
        self.hurry.notify_one();
    }

    /// Does something at the desk, and wakes whoever has to know.
    fn at_desk<T>(&self, act: impl FnOnce(&mut Desk, &mut Vec<Waker>) -> T) -> T {
        let mut wake = Vec::new();
        let mut desk = self.desk();
        let done = act(&mut desk, &mut wake);
        self.leave_desk(desk);
        wake_all(&mut wake);
        done
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock()
    }

    /// Gives the desk to the next, and tells those who choose what it says of its room.
    #[inline]
    fn leave_desk(&self, desk: MutexGuard<'_, Desk>) {
        let room_left = desk.room_left().map_or(CLOSED, u64::from);
        self.room_left.store(room_left, Ordering::Relaxed);
    }

    /// Gives requests up whose time is over, and the connection if the server is silent for too long.
    /// One timer serves all: it is set for the request that has the least time left, and looked at
    /// again only when it has run out, or a new one has less.
    async fn watch_time(&self) -> Ending {
        loop {
            let look = self.at_desk(|desk, wake| desk.look(Instant::now(), wake));
            let hurry = self.hurry.notified();
            match look {
                Look::Ended(ending) => return ending,
                // What the server said while this task could not run is in the socket, and read first.
                Look::Silent => {
                    sleep(LAST_LOOK).await;
                    self.at_desk(|desk, wake| desk.leave_if_silent(Instant::now(), wake));
                }
                Look::Next(Some(look_at)) => {
                    // Either way it is time to look.
                    let _ = timeout_at(look_at, hurry).await;
                }
                Look::Next(None) => hurry.await,
            }
        }
    }

    /// Writes what tasks enqueue until the connection has no more to do.
    ///
    /// A write that fails does not end the connection, since the reason may be among the bytes that
    /// are still to be read.
    async fn write_requests(&self, mut writer: impl AsyncWrite + Unpin) -> Ending {
        let mut batch = Vec::new();
        loop {
            self.work.notified().await;
            // Tasks that are ready to ask something do so now, and share the write, except where there
            // is enough for a server that has nothing to do.
            if !self.desk().has_share(SHARE_MIN) {
                others_first().await;
            }
            loop {
                if let Some(ending) = self.desk().take_outgoing(&mut batch) {
                    return ending;
                }
                if batch.is_empty() {
                    break;
                }
                let mut rest = &batch[..];
                while !rest.is_empty() {
                    match write(&mut writer, rest).await {
                        Ok(Taken { bytes, was_full }) if bytes > 0 => {
                            let mut desk = self.desk();
                            desk.note_written(bytes);
                            if was_full {
                                desk.note_heard(Instant::now());
                            }
                            drop(desk);
                            self.meter.sent(bytes);
                            rest = &rest[bytes..];
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
    async fn read_replies(&self, mut reader: impl AsyncRead + Unpin, mut inbox: Inbox) -> Ending {
        let mut wake = Sleepers::default();
        let mut read_bytes = 0;
        loop {
            let taken = inbox.take_frames();
            if let Some(left) = inbox.notes().drains.take() {
                self.drain_within(left);
            }
            let finished = self.hand_out(&mut inbox.notes().answers, read_bytes, &mut wake.0);
            if wake.0.len() >= 2 * SHARE_MIN && self.desk().is_server_idle() {
                // Half of them ask again, and the server has something to do while the others do.
                let half = wake.0.len() / 2;
                wake.0.drain(..half).for_each(Waker::wake);
                others_first().await;
            }
            wake_all(&mut wake.0);
            let needed_bytes = match taken {
                Ok(needed_bytes) => needed_bytes,
                Err(ending) => return ending,
            };
            if let Some(ending) = finished {
                return ending;
            }
            inbox.make_room(READ_BYTES, needed_bytes);
            match reader.read_buf(&mut inbox.buffer).await {
                Ok(0) => return Ending::Lost("the server closed it".to_owned()),
                Ok(count) => read_bytes = count,
                Err(error) => return Ending::Lost(error.to_string()),
            }
        }
    }

    /// Hands answers to those who wait for them, adds whom to wake, and says why the connection has no
    /// more to do, if it has not. An answer to what was not asked is its end: nobody knows whose answers
    /// the others are. (One to a request that was given up is none of those.)
    fn hand_out(
        &self,
        answers: &mut Vec<(u32, Answer)>,
        read_bytes: usize,
        wake: &mut Vec<Waker>,
    ) -> Option<Ending> {
        let now = Instant::now();
        let mut batch = self.meter.received(read_bytes, now);
        let (mut free_places, mut stray) = (0, None);
        let mut desk = self.desk();
        if read_bytes > 0 {
            desk.note_heard(now);
        }
        for (id, answer) in answers.drain(..) {
            match desk.answer(id, answer) {
                Some(answered) => {
                    free_places += answered.places;
                    batch.one_sent_at(answered.sent_at);
                    wake.extend(answered.waker);
                }
                None => stray = Some(id),
            }
        }
        desk.give_back(free_places, wake);
        let ending = desk.ending();
        self.leave_desk(desk);
        let Some(id) = stray else {
            return ending;
        };
        let why = "the server answered what was not asked";
        tracing::warn!(id, why);
        Some(Ending::Broken(format!("{why}, by the id {id}")))
    }
}

/// Those that are to be woken, and are even if the driver ends before it gets to them.
#[derive(Default)]
struct Sleepers(Vec<Waker>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        wake_all(&mut self.0);
    }
}

impl Driven {
    async fn drive<R, W>(mut self, halves: Halves<R, W>, frame_bytes_max: u32)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Halves {
            reader,
            writer,
            buffer,
        } = halves;
        let inbox = Inbox::new(buffer, frame_bytes_max);
        self.ending = tokio::select! {
            biased;
            ending = self.link.read_replies(reader, inbox) => ending,
            ending = self.link.write_requests(writer) => ending,
            ending = self.link.watch_time() => ending,
        };
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let Self { link, ending } = self;
        let server = link.server();
        tracing::debug!(?ending, server = server.name, "the connection ended");
        link.at_desk(|desk, wake| desk.end(ending.clone(), wake));
    }
}

/// What a socket took.
struct Taken {
    bytes: usize,
    /// Whether it had no room at first.
    was_full: bool,
}

/// Writes once, and says what it came to.
async fn write(mut writer: impl AsyncWrite + Unpin, bytes: &[u8]) -> io::Result<Taken> {
    let mut was_full = false;
    poll_fn(|context| {
        let written = Pin::new(&mut writer).poll_write(context, bytes);
        was_full |= written.is_pending();
        written.map_ok(|bytes| Taken { bytes, was_full })
    })
    .await
}

/// Lets all tasks run that are ready now. (tokio's own `yield_now` also asks the system for news before
/// it comes back.)
async fn others_first() {
    let mut came_back = false;
    poll_fn(|context| match std::mem::replace(&mut came_back, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[inline]
fn wake_all(wake: &mut Vec<Waker>) {
    for waker in wake.drain(..) {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
