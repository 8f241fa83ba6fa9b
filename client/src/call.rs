//! The life of a request: wait for a connection and for room, send, wait for the answer, and send
//! again what is known not to have been executed.

use std::sync::Arc;
use std::time::Duration;

use larder_protocol::{Request, Status};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use crate::allowance::Allowance;
use crate::connector::Connector;
use crate::error::{Cause, Error};
use crate::link::NotSent;
use crate::pending::Answer;
use crate::reply::Reply;

/// What the server answered, if it did.
pub(crate) type Answered = Result<Reply, Failure>;

/// A status other than OK. Some are results, some are errors; the operation decides.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl From<Failure> for Error {
    fn from(Failure { status, message }: Failure) -> Self {
        Self::Refused { status, message }
    }
}

/// What a caller makes of the answer to its request.
pub(crate) trait Outcome: Sized {
    fn from_answer(answer: Answered) -> Result<Self, Error>;
}

/// LIMIT: more time than this is as good as for ever, and keeps the sum in range.
const LONGEST: Duration = Duration::from_secs(3600 * 24 * 365);

impl Connector {
    /// Asks the server and waits for its answer, for as long as the request may take.
    pub(crate) async fn call<T: Outcome>(
        self: &Arc<Self>,
        request: Request<'_>,
        allowance: Allowance,
    ) -> Result<T, Error> {
        let operation = request.opcode().name();
        let span = tracing::debug_span!("larder", operation, server = %self.address);
        let outcome = match span.is_disabled() {
            true => self.call_in_time(&request, allowance).await,
            false => {
                self.call_in_time(&request, allowance)
                    .instrument(span)
                    .await
            }
        };
        outcome.inspect_err(|error| self.meter.failed(error))
    }

    async fn call_in_time<T: Outcome>(
        self: &Arc<Self>,
        request: &Request<'_>,
        allowance: Allowance,
    ) -> Result<T, Error> {
        let after = allowance.left(self.config.request_timeout);
        let mut now = Instant::now();
        let give_up_at = now + after.min(LONGEST);
        let overdue = Cause::Timeout { after };
        if allowance.is_over() {
            return Err(Error::NotExecuted(overdue));
        }
        let mut resends_left = self.config.resends_max;
        loop {
            let link = match self.open_link_or_more() {
                Some(link) => link,
                None => {
                    let link = timeout_at(give_up_at, self.link()).await;
                    now = Instant::now();
                    link.map_err(|_| Error::NotExecuted(overdue.clone()))??
                }
            };
            let sent = match link.send(request, now, give_up_at).await {
                Ok(sent) => sent,
                // The connection closed its door while this request stood before it.
                Err(NotSent::Closed) => continue,
                Err(NotSent::Overdue) => return Err(Error::NotExecuted(overdue)),
            };
            let cause = match sent.answered.await {
                Ok(Answer::Reply(reply)) => return T::from_answer(Ok(reply)),
                Ok(Answer::Failed {
                    status: Status::DRAINING,
                    ..
                }) => {
                    link.drain();
                    Cause::Draining
                }
                Ok(Answer::Failed { status, message }) => {
                    return T::from_answer(Err(Failure { status, message }));
                }
                Ok(Answer::NotExecuted(cause)) => cause,
                Ok(Answer::Unknown(cause)) => return Err(Error::Unknown(cause)),
                Ok(Answer::Overdue) => {
                    // A caller that has little time tells nothing about the server.
                    let configured = self.config.request_timeout;
                    let waited = sent.at.elapsed();
                    if matches!(allowance, Allowance::Configured) || waited >= configured {
                        link.give_up_if_silent_since(sent.at);
                    }
                    return Err(Error::Unknown(overdue));
                }
                // The driver was dropped with its runtime.
                Err(_) => {
                    let why = "the runtime of the client has ended".to_owned();
                    return Err(Error::Unknown(Cause::ConnectionLost(why)));
                }
            };
            resends_left = match resends_left.checked_sub(1) {
                Some(left) => left,
                None => return Err(Error::NotExecuted(cause)),
            };
            self.meter.resent();
            now = Instant::now();
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
