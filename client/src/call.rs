//! The life of a request: wait for a connection and for room, send, wait for the answer, and send
//! again what is known not to have been executed.
//!
//! It is written as a state machine and not as an `async` function: a request that finds a connection
//! and room, as nearly all do, is looked at twice, when it is sent and when its answer is there, and
//! each look goes straight to what there is to do. One that has to wait for a connection, or beside a
//! driver that [may not run](crate::beside), does so in a future of its own.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{Request, RequestFrame, ResponseHeader, Status};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tracing::Span;

use crate::allowance::Allowance;
use crate::beside::{Place, Stands, Waited, Waiting, is_abroad};
use crate::config::bounded;
use crate::connector::Connector;
use crate::desk::Time;
use crate::error::{Cause, Error};
use crate::link::{Link, NotSent};
use crate::pending::Answer;
use crate::reply::{Answered, Failure, Reply, read_answer};

impl From<Failure> for Error {
    fn from(Failure { status, message }: Failure) -> Self {
        Self::Refused { status, message }
    }
}

/// What a caller makes of the answer to its request.
pub(crate) trait Outcome: Sized {
    fn from_answer(answer: Answered) -> Result<Self, Error>;

    /// From the whole frame of an answer.
    ///
    /// # Errors
    ///
    /// How the frame breaks the protocol.
    fn from_frame(frame: Bytes) -> Result<Result<Self, Error>, String> {
        Ok(Self::from_answer(read_answer(&frame, |slice| {
            frame.slice_ref(slice)
        })?))
    }
}

/// A request to one server, and what comes of it.
#[must_use = "nothing is sent until this is awaited"]
pub(crate) struct Call<'r, T> {
    exchange: Exchange<'r>,
    outcome: PhantomData<fn() -> T>,
}

/// A request to one server, and its answer, however often it has to be sent.
struct Exchange<'r> {
    connector: &'r Arc<Connector>,
    frame: RequestFrame<'r>,
    allowance: Allowance,
    /// How much time it had in the beginning.
    after: Duration,
    time: Time,
    resends_left: u32,
    /// The connection that it knocks at, or was sent on.
    link: Option<&'r Link>,
    stage: Stage<'r>,
    span: Span,
}

/// Where a request stands.
enum Stage<'r> {
    /// Nothing was done.
    New,
    /// It needs a connection.
    Ready,
    /// There is no connection and it waits for one, or its driver may not run.
    Waiting(Waiting<'r>),
    /// It has a connection, and perhaps a ticket in the queue for room there.
    Knocking(Option<u64>),
    /// It was sent, under this id.
    Sent { id: u32, connection: u32 },
    /// It is over, and was answered on this connection, if it was.
    Over { connection: u32 },
}

impl Connector {
    /// Asks the server, and waits for its answer for as long as the request may take.
    #[inline]
    pub(crate) fn call<'r, T>(
        self: &'r Arc<Self>,
        request: Request<'r>,
        allowance: Allowance,
    ) -> Call<'r, T> {
        let exchange = Exchange {
            connector: self,
            frame: RequestFrame {
                id: 0,
                quiet: false,
                request,
            },
            allowance,
            after: Duration::ZERO,
            time: Time::For(Duration::ZERO),
            resends_left: self.config.resends_max,
            link: None,
            stage: Stage::New,
            span: Span::none(),
        };
        let outcome = PhantomData;
        Call { exchange, outcome }
    }
}

impl<T: Outcome> Future for Call<'_, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let exchange = &mut self.exchange;
        let outcome = match ready!(exchange.poll(context)) {
            Ok(frame) => exchange.read(frame),
            Err(error) => Err(*error),
        };
        Poll::Ready(outcome.inspect_err(|error| exchange.note(error)))
    }
}

/// The whole frame of an answer, or why there is none.
type Got = Result<Bytes, Box<Error>>;

impl<'r> Exchange<'r> {
    /// Goes on, within its span, to its end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Got> {
        if matches!(self.stage, Stage::New) {
            self.begin();
        }
        if self.span.is_disabled() {
            return self.poll_stages(context);
        }
        let span = self.span.clone();
        let _entered = span.enter();
        self.poll_stages(context)
    }

    /// Looks how much time there is.
    fn begin(&mut self) {
        self.span = tracing::debug_span!(
            "larder",
            operation = self.frame.request.opcode().name(),
            server = %self.connector.address
        );
        self.after = self.allowance.left(self.connector.config.request_timeout);
        self.time = match self.allowance {
            Allowance::Until(deadline) => Time::Deadline(deadline),
            _ => Time::For(bounded(self.after)),
        };
        self.stage = Stage::Ready;
    }

    fn poll_stages(&mut self, context: &mut Context<'_>) -> Poll<Got> {
        loop {
            match (&mut self.stage, self.link) {
                (&mut Stage::Sent { id, connection }, Some(link)) => {
                    let answer = ready!(link.poll_answer(id, context));
                    self.stage = Stage::Over { connection };
                    if let Answer::Overdue = answer {
                        self.connector.forsake(&self.frame.request, link, id);
                    }
                    if let Some(got) = self.heed(answer, connection) {
                        return Poll::Ready(got);
                    }
                    self.stage = Stage::Ready;
                }
                (Stage::Knocking(ticket), Some(link)) => {
                    let (frame, time, mut home) = (&mut self.frame, &mut self.time, None);
                    match link.poll_send(frame, time, ticket, &mut home, context) {
                        Poll::Ready(Ok(connection)) => {
                            // Its task was noted beside it, to be woken.
                            let id = self.frame.id;
                            self.stage = Stage::Sent { id, connection };
                        }
                        Poll::Ready(Err(not_sent)) => match self.heed_not_sent(not_sent) {
                            None => continue,
                            Some(error) => return self.over(error),
                        },
                        Poll::Pending => {}
                    }
                    if !home.is_some_and(is_abroad) {
                        return Poll::Pending;
                    }
                    self.step_aside(link);
                }
                (Stage::Waiting(waiting), _) => {
                    // It has timers, for which a thread without a runtime borrows one.
                    let runtime = self.connector.runtime_elsewhere();
                    let _entered = runtime.as_ref().map(Handle::enter);
                    let waited = ready!(waiting.as_mut().poll(context));
                    if let Some(got) = self.heed_waited(waited) {
                        return Poll::Ready(got);
                    }
                }
                (Stage::Over { .. }, _) => {
                    panic!("a request is asked for its answer a second time")
                }
                _ if self.after.is_zero() || self.allowance.is_over() => {
                    return self.over(self.not_in_time());
                }
                _ => self.seek_link(),
            }
        }
    }

    fn over(&mut self, error: Error) -> Poll<Got> {
        self.stage = Stage::Over { connection: 0 };
        Poll::Ready(Err(Box::new(error)))
    }

    /// Takes a connection, or waits for one.
    fn seek_link(&mut self) {
        self.link = self.connector.open_link_or_more();
        self.stage = match self.link {
            Some(_) => Stage::Knocking(None),
            None => {
                let (connector, overdue) = (self.connector, self.not_in_time());
                let give_up_at = self.time.end_by_clock();
                Stage::Waiting(Box::pin(async move {
                    let link = timeout_at(give_up_at, connector.link()).await;
                    Waited::Connected(match link {
                        Ok(link) => link.map_err(Error::from),
                        Err(_) => Err(overdue),
                    })
                }))
            }
        };
    }

    /// Waits with a timer of its own, since the driver of its connection may not run.
    #[cold]
    fn step_aside(&mut self, link: &'r Link) {
        let stands = match self.stage {
            Stage::Knocking(ticket) => Stands::Knocking(ticket),
            Stage::Sent { id, connection } => Stands::Sent { id, connection },
            _ => unreachable!("it was sent, or waits for room"),
        };
        // What was written with others has the clock of the first, which may be long ago.
        if let Time::For(_) | Time::Until(_) = self.time {
            self.time = Time::Ends(Instant::now() + bounded(self.after));
        }
        let place = Place { link, stands };
        self.stage = Stage::Waiting(place.wait(self.frame.clone(), self.time));
    }

    /// What follows where it waited: the end, or that it goes on.
    #[cold]
    fn heed_waited(&mut self, waited: Waited<'r>) -> Option<Got> {
        let error = match waited {
            Waited::Connected(Ok(link)) => {
                self.link = Some(link);
                self.stage = Stage::Knocking(None);
                return None;
            }
            Waited::Connected(Err(error)) => error,
            Waited::NotSent(not_sent) => self.heed_not_sent(not_sent)?,
            Waited::Answered { answer, connection } => {
                self.stage = Stage::Over { connection };
                let got = self.heed(answer, connection);
                if got.is_none() {
                    self.stage = Stage::Ready;
                }
                return got;
            }
        };
        self.stage = Stage::Over { connection: 0 };
        Some(Err(Box::new(error)))
    }

    /// What follows where it was not sent: the end, or that it looks for another connection.
    #[cold]
    fn heed_not_sent(&mut self, not_sent: NotSent) -> Option<Error> {
        match not_sent {
            // The connection closed its door while this request stood before it.
            NotSent::Closed => {
                self.stage = Stage::Ready;
                None
            }
            NotSent::Overdue => Some(self.not_in_time()),
            NotSent::TooMuch(reason) => {
                let (status, message) = (reason.status(), reason.to_string());
                Some(Error::Refused { status, message })
            }
        }
    }

    /// What follows from an answer: the end, or that the request is sent again.
    // In two places, of which one is in the way of every request.
    #[inline(always)]
    fn heed(&mut self, answer: Answer, connection: u32) -> Option<Got> {
        match answer {
            Answer::Frame(frame) if !is_draining(&frame) => Some(Ok(frame)),
            answer => self.heed_failure(answer, connection),
        }
    }

    fn heed_failure(&mut self, answer: Answer, connection: u32) -> Option<Got> {
        let cause = match answer {
            Answer::Frame(_) => {
                if let Some(link) = self.link {
                    link.heed_drain(connection);
                }
                Cause::Draining
            }
            Answer::NotExecuted(cause) => *cause,
            Answer::Unknown(cause) => return Some(Err(Box::new(Error::Unknown(*cause)))),
            Answer::Overdue => {
                let after = self.after;
                return Some(Err(Box::new(Error::Unknown(Cause::Timeout { after }))));
            }
        };
        self.resends_left = match self.resends_left.checked_sub(1) {
            Some(left) => left,
            None => return Some(Err(Box::new(Error::NotExecuted(cause)))),
        };
        self.time.end_by_clock();
        self.connector.meter.resent();
        None
    }

    /// What the frame of the answer says.
    #[inline]
    fn read<T: Outcome>(&self, frame: Bytes) -> Result<T, Error> {
        match frame.first() == Some(&(self.frame.request.opcode() as u8)) {
            true => T::from_frame(frame).unwrap_or_else(|why| Err(Error::broken(why))),
            false => Err(Error::misfit()),
        }
    }

    /// Counts an error, and leaves the connection if it is that the server broke the protocol there.
    #[cold]
    fn note(&self, error: &Error) {
        self.connector.meter.failed(error);
        if let (&Stage::Over { connection }, Some(link), Error::Unknown(Cause::Protocol(why))) =
            (&self.stage, self.link, error)
        {
            link.give_up_broken(connection, why);
        }
    }

    fn not_in_time(&self) -> Error {
        let after = self.after;
        Error::NotExecuted(Cause::Timeout { after })
    }
}

/// Whether a server says that it executes nothing more on a connection.
#[inline]
fn is_draining(frame: &[u8]) -> bool {
    ResponseHeader::read(frame).is_some_and(|header| header.status == Status::DRAINING)
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        match (&self.stage, self.link) {
            (&Stage::Knocking(Some(ticket)), Some(link)) => link.leave(ticket),
            (&Stage::Sent { id, .. }, Some(link)) => {
                self.connector.forsake(&self.frame.request, link, id);
            }
            _ => {}
        }
    }
}

/// OK with nothing more to say.
impl Outcome for () {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer? {
            Reply::Done => Ok(()),
            _ => Err(Error::misfit()),
        }
    }
}

/// Whether there was an item.
impl Outcome for bool {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer {
            Ok(Reply::Done) => Ok(true),
            Ok(_) => Err(Error::misfit()),
            Err(Failure {
                status: Status::NOT_FOUND,
                ..
            }) => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}
