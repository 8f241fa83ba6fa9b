//! Storing one item.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{Request, Status, Store as StoreRequest, StoreMode};

use crate::call::Outcome;
use crate::read::{Boxed, whole_ms};
use crate::reply::Reply;
use crate::reply::{Answered, Failure};
use crate::{Client, Error};

/// A request to store an item; await it. `T` is what comes of it, and depends on the operation.
/// Made by [`Client::set`], [`Client::add`], [`Client::replace`] and [`Client::cas`].
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Store<'c, T> {
    client: &'c Client,
    mode: StoreMode,
    key: Bytes,
    value: Bytes,
    flags: u32,
    expire_in: Option<Duration>,
    outcome: PhantomData<fn() -> T>,
}

/// What came of a request that depends on an item's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditional<T> {
    /// The version was right and it is done.
    Done(T),
    /// The item has another version now; nothing changed.
    VersionDiffers,
    /// There is no item; nothing changed.
    NotFound,
}

impl<'c, T> Store<'c, T> {
    pub(crate) fn new(client: &'c Client, mode: StoreMode, key: &[u8], value: Bytes) -> Self {
        let (key, outcome) = (Bytes::copy_from_slice(key), PhantomData);
        Self {
            client,
            mode,
            key,
            value,
            flags: 0,
            expire_in: None,
            outcome,
        }
    }

    /// The item expires this long after the server has executed the request: with a time of 0 nobody
    /// ever finds it. Without this it never expires.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }

    /// Thirty-two bits that the server keeps with the item and does not look at; 0 without this.
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }
}

impl<'c> Store<'c, u64> {
    /// Stores only where there is no item, as [`Client::add`] does. The result is the version, or
    /// `None` where there is one.
    pub fn if_absent(self) -> Store<'c, Option<u64>> {
        self.only(StoreMode::Add)
    }

    /// Stores only where there is an item, as [`Client::replace`] does. The result is the version, or
    /// `None` where there is none.
    pub fn if_present(self) -> Store<'c, Option<u64>> {
        self.only(StoreMode::Replace)
    }

    /// Stores only where the item still has this version, as [`Client::cas`] does.
    pub fn if_version(self, version: u64) -> Store<'c, Conditional<u64>> {
        self.only(StoreMode::Cas { version })
    }

    fn only<T>(self, mode: StoreMode) -> Store<'c, T> {
        let Self {
            client,
            key,
            value,
            flags,
            expire_in,
            ..
        } = self;
        Store {
            client,
            mode,
            key,
            value,
            flags,
            expire_in,
            outcome: PhantomData,
        }
    }
}

impl<'c, T: Outcome + 'c> IntoFuture for Store<'c, T> {
    type Output = Result<T, Error>;
    type IntoFuture = Boxed<'c, T>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = StoreRequest {
                mode: self.mode,
                key: &self.key,
                value: &self.value,
                client_flags: self.flags,
                expire_in_ms: self.expire_in.map(whole_ms),
            };
            self.client.call(Request::Store(request)).await
        })
    }
}

/// The version that was stored.
impl Outcome for u64 {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer? {
            Reply::Stored { version } => Ok(version),
            _ => Err(Error::misfit()),
        }
    }
}

/// The version that was stored, if the condition held.
impl Outcome for Option<u64> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer {
            Ok(Reply::Stored { version }) => Ok(Some(version)),
            Ok(_) => Err(Error::misfit()),
            Err(Failure {
                status: Status::NOT_STORED,
                ..
            }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}

impl Outcome for Conditional<u64> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        conditional(answer, |reply| match reply {
            Reply::Stored { version } => Some(version),
            _ => None,
        })
    }
}

impl Outcome for Conditional<()> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        conditional(answer, |reply| matches!(reply, Reply::Done).then_some(()))
    }
}

fn conditional<T>(
    answer: Answered,
    done: impl FnOnce(Reply) -> Option<T>,
) -> Result<Conditional<T>, Error> {
    match answer {
        Ok(reply) => done(reply).map(Conditional::Done).ok_or_else(Error::misfit),
        Err(Failure {
            status: Status::EXISTS,
            ..
        }) => Ok(Conditional::VersionDiffers),
        Err(Failure {
            status: Status::NOT_FOUND,
            ..
        }) => Ok(Conditional::NotFound),
        Err(failure) => Err(failure.into()),
    }
}
