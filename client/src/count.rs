//! Counting.

use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{Arithmetic, Direction, Request, Status};

use crate::call::Outcome;
use crate::read::{Boxed, whole_ms};
use crate::reply::Reply;
use crate::reply::{Answered, Failure};
use crate::{Client, Error};

/// A request to count; await it. Made by [`Client::increment`] and [`Client::decrement`].
///
/// Its result is the counter, or `None` where there is none and [`initial`](Self::initial) was not
/// given. Where the item is no number, it is [`Error::Refused`] with
/// [`Status::NOT_A_NUMBER`](crate::Status::NOT_A_NUMBER).
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Count<'c> {
    client: &'c Client,
    direction: Direction,
    key: Bytes,
    delta: u64,
    initial: Option<u64>,
    expire_in: Option<Duration>,
}

/// A counter after it was changed or created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The number it holds now.
    pub number: u64,
    /// The version that the item has now.
    pub version: u64,
}

impl<'c> Count<'c> {
    pub(crate) fn new(client: &'c Client, direction: Direction, key: &[u8]) -> Self {
        let key = Bytes::copy_from_slice(key);
        Self {
            client,
            direction,
            key,
            delta: 1,
            initial: None,
            expire_in: None,
        }
    }

    /// By how much; 1 without this.
    pub fn by(mut self, delta: u64) -> Self {
        self.delta = delta;
        self
    }

    /// Creates an absent counter with this number, to which the delta is not applied.
    pub fn initial(mut self, initial: u64) -> Self {
        self.initial = Some(initial);
        self
    }

    /// A counter that is created expires this long after that; one that is there keeps its expiry.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }
}

impl<'c> IntoFuture for Count<'c> {
    type Output = Result<Option<Counter>, Error>;
    type IntoFuture = Boxed<'c, Option<Counter>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let expire_in_ms = self.expire_in.map(whole_ms);
            let Self {
                direction,
                ref key,
                delta,
                initial,
                ..
            } = self;
            let arithmetic = Arithmetic {
                direction,
                key,
                delta,
                initial,
                expire_in_ms,
            };
            self.client.call(Request::Arithmetic(arithmetic)).await
        })
    }
}

impl Outcome for Option<Counter> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer {
            Ok(Reply::Counter { number, version }) => Ok(Some(Counter { number, version })),
            Ok(_) => Err(Error::misfit()),
            Err(Failure {
                status: Status::NOT_FOUND,
                ..
            }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}
