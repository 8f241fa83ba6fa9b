//! Waiting beside a driver that may not run.
//!
//! Nearly all requests leave it to the driver of their connection to say when their time is over. That
//! does not do where the driver's runtime does not run: one of a single thread, of which nobody waits in
//! `block_on`. So a request that comes from another runtime has a timer of its own there, which rings a
//! little later than the driver would.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use larder_protocol::RequestFrame;
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::desk::Time;
use crate::link::{Link, NotSent};
use crate::pending::Answer;

/// LIMIT: how much longer than its time a request waits for the driver to say that it is over.
const DRIVER_SLACK: Duration = Duration::from_millis(100);

/// What somebody waits for who looks at the time itself.
pub(crate) type Waiting<'r> = Pin<Box<dyn Future<Output = Waited<'r>> + Send + 'r>>;

/// What came of it.
pub(crate) enum Waited<'r> {
    /// There is a connection, or there is none to be had.
    Connected(Result<&'r Link, Error>),
    /// There was no room on the connection.
    NotSent(NotSent),
    /// The request was sent on this connection, and that is its answer.
    Answered { answer: Answer, connection: u32 },
}

/// Where a request stands at a connection. Dropped, it does not any more.
pub(crate) struct Place<'r> {
    pub(crate) link: &'r Link,
    pub(crate) stands: Stands,
}

#[derive(Clone, Copy)]
pub(crate) enum Stands {
    /// Before it, perhaps with a ticket in the queue for room there.
    Knocking(Option<u64>),
    /// It was sent, under this id.
    Sent { id: u32, connection: u32 },
    /// It is done with it.
    Over,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        match self.stands {
            Stands::Knocking(Some(ticket)) => self.link.leave(ticket),
            Stands::Sent { id, .. } => self.link.give_up(id),
            Stands::Knocking(None) | Stands::Over => {}
        }
    }
}

/// Whether a task may wait though the driver, whose home that is, does not run. Without a runtime it has
/// no timers, and no choice.
pub(crate) fn is_abroad(home: runtime::Id) -> bool {
    Handle::try_current().is_ok_and(|here| here.id() != home)
}

impl<'r> Place<'r> {
    /// Waits for room and for the answer, until a little after the time is over.
    pub(crate) fn wait(mut self, frame: RequestFrame<'r>, mut time: Time) -> Waiting<'r> {
        Box::pin(async move {
            let end = time.end(Instant::now) + DRIVER_SLACK;
            let done = timeout_at(end, self.go_on(frame, time)).await;
            done.unwrap_or_else(|_| {
                // Those to come take a connection whose driver runs.
                self.link.drain();
                match self.stands {
                    Stands::Sent { connection, .. } => Waited::Answered {
                        answer: Answer::Overdue,
                        connection,
                    },
                    _ => Waited::NotSent(NotSent::Overdue),
                }
            })
        })
    }

    async fn go_on(&mut self, mut frame: RequestFrame<'r>, mut time: Time) -> Waited<'r> {
        let Self { link, stands } = self;
        while let Stands::Knocking(ticket) = stands {
            let sent = poll_fn(|context| {
                link.poll_send(&mut frame, &mut time, ticket, &mut None, context)
            });
            match sent.await {
                Ok(connection) => {
                    let id = frame.id;
                    *stands = Stands::Sent { id, connection };
                }
                Err(not_sent) => return Waited::NotSent(not_sent),
            }
        }
        let Stands::Sent { id, connection } = *stands else {
            unreachable!("it is not done");
        };
        let answer = poll_fn(|context| link.poll_answer(id, context)).await;
        *stands = Stands::Over;
        Waited::Answered { answer, connection }
    }
}
