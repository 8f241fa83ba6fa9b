//! Reading on the terms of a lease, and marking items as out of date.

use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{Lease as WireLease, Leased as WireLeased, Presence, Request, Status};

use crate::call::Outcome;
use crate::read::{Boxed, whole_ms};
use crate::reply::{Answered, Failure};
use crate::reply::{Item, Reply};
use crate::store::Conditional;
use crate::{Client, Error};

/// A read that may come with the task to store a new value; await it. Made by
/// [`Client::get_or_lease`].
///
/// Where it is dropped before its answer came, or has no more time for it, a lease that the answer brings is given
/// back.
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct GetOrLease<'c> {
    client: &'c Client,
    key: Bytes,
    lease_for: Duration,
    refresh_below: Option<Duration>,
}

/// What a read on the terms of a lease found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The item, if there is one. How long it has left is in it.
    pub item: Option<Item>,
    /// Whether the item is out of date.
    pub freshness: Freshness,
    /// Who is to store a new value.
    pub lease: Lease,
}

/// Whether an item is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It is not, or there is none.
    Fresh,
    /// It was [invalidated](Client::invalidate).
    Stale,
}

/// Who is to store a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nobody: the item is good, or there is none and nobody wants one.
    None,
    /// This caller, and no other. It stores best with [`Client::cas`] and this version, which stores
    /// nothing if the key was deleted, invalidated or stored meanwhile; and if it cannot store, it
    /// [gives the lease back](Client::end_lease).
    Won {
        /// The version of the lease.
        version: u64,
    },
    /// Another caller: use the item, if it is good enough, or ask again in a while.
    Taken,
}

impl<'c> GetOrLease<'c> {
    pub(crate) fn new(client: &'c Client, key: &[u8], lease_for: Duration) -> Self {
        Self {
            client,
            key: Bytes::copy_from_slice(key),
            lease_for,
            refresh_below: None,
        }
    }

    /// Has an item stored anew also if it has less than this left.
    pub fn refresh_below(mut self, left: Duration) -> Self {
        self.refresh_below = Some(left);
        self
    }
}

impl<'c> IntoFuture for GetOrLease<'c> {
    type Output = Result<Leased, Error>;
    type IntoFuture = Boxed<'c, Leased>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = Request::GetOrLease {
                key: &self.key,
                lease_ms: Some(whole_ms(self.lease_for)),
                refresh_ms: self.refresh_below.map(whole_ms),
                want_expiry: true,
            };
            self.client.call(request).await
        })
    }
}

impl Leased {
    /// `item` is what the frame holds, also where there is none.
    pub(crate) fn from_wire(leased: &WireLeased<'_>, item: Item) -> Self {
        let lease = match leased.lease {
            WireLease::None => Lease::None,
            WireLease::Won => Lease::Won {
                version: item.version,
            },
            WireLease::Taken => Lease::Taken,
        };
        let freshness = match leased.presence {
            Presence::Stale => Freshness::Stale,
            Presence::Fresh | Presence::Absent => Freshness::Fresh,
        };
        Self {
            item: Some(item).filter(|_| leased.presence != Presence::Absent),
            freshness,
            lease,
        }
    }
}

impl Outcome for Leased {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer {
            Ok(Reply::Leased(leased)) => Ok(leased),
            Ok(_) => Err(Error::misfit()),
            Err(Failure {
                status: Status::NOT_FOUND,
                ..
            }) => Ok(Self {
                item: None,
                freshness: Freshness::Fresh,
                lease: Lease::None,
            }),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// A request to mark an item as out of date; await it. Made by [`Client::invalidate`].
#[derive(Debug)]
#[must_use = "nothing is sent until this is awaited"]
pub struct Invalidate<'c> {
    client: &'c Client,
    key: Bytes,
    version: Option<u64>,
    expire_in: Option<Duration>,
}

impl<'c> Invalidate<'c> {
    pub(crate) fn new(client: &'c Client, key: &[u8]) -> Self {
        Self {
            client,
            key: Bytes::copy_from_slice(key),
            version: None,
            expire_in: None,
        }
    }

    /// Only if the item still has this version.
    pub fn if_version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// The stale item expires this long after the server has executed the request. Without this it
    /// keeps its expiry.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }
}

impl<'c> IntoFuture for Invalidate<'c> {
    type Output = Result<Conditional<u64>, Error>;
    type IntoFuture = Boxed<'c, Conditional<u64>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = Request::Invalidate {
                key: &self.key,
                version: self.version,
                expire_in_ms: self.expire_in.map(whole_ms),
            };
            self.client.call(request).await
        })
    }
}
