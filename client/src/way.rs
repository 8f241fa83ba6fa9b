//! What stands behind a client: a server, several, or a cache in this process.
//!
//! Every operation goes through here, so that all that is said of operations holds for each of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use larder_protocol::{Limits, Request};
use tokio::time::timeout;

use crate::call::{Call, Outcome};
use crate::connector::Connector;
use crate::embedded::{Backend, Executing};
use crate::error::Cause;
use crate::link::Link;
use crate::servers::{AskingOne, Servers};
use crate::{Client, Error};

/// How requests reach what answers them.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// One server.
    Server(Arc<Connector>),
    /// Several, each with its share of the keys.
    Servers(Arc<Servers>),
    /// A cache in this process.
    Embedded(Arc<dyn Backend>),
}

/// A request, and what comes of it.
#[must_use = "nothing is sent until this is awaited"]
pub(crate) enum Asking<'r, T> {
    Server(Call<'r, T>),
    Servers(AskingOne<'r, T>),
    Embedded(Executing<'r, T>),
}

impl<T: Outcome> Future for Asking<'_, T> {
    type Output = Result<T, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Server(call) => Pin::new(call).poll(context),
            Self::Servers(asking) => Pin::new(asking).poll(context),
            Self::Embedded(executing) => Pin::new(executing).poll(context),
        }
    }
}

impl Client {
    /// Has a request executed.
    #[inline]
    pub(crate) fn call<'r, T: Outcome>(&'r self, request: Request<'r>) -> Asking<'r, T> {
        match &self.way {
            Way::Server(connector) => Asking::Server(connector.call(request, self.allowance)),
            Way::Servers(servers) => Asking::Servers(servers.call(request, self.allowance)),
            Way::Embedded(backend) => {
                Asking::Embedded(Executing::new(&**backend, request, self.allowance))
            }
        }
    }

    /// What one server, or the cache in this process, accepts.
    pub(crate) async fn limits(&self) -> Result<Limits, Error> {
        let connector = match &self.way {
            Way::Server(connector) => connector,
            Way::Servers(servers) => servers.first(),
            Way::Embedded(backend) => return Ok(backend.server().limits),
        };
        match connector.open_link() {
            Some(link) => Ok(link.server().limits),
            None => Ok(self.link(connector).await?.server().limits),
        }
    }

    /// A connection to a server, if there is one before the time is over.
    pub(crate) async fn link<'c>(&self, connector: &'c Arc<Connector>) -> Result<&'c Link, Error> {
        let after = self.time_left();
        let not_in_time = || Error::NotExecuted(Cause::Timeout { after });
        if after.is_zero() {
            return connector.open_link().ok_or_else(not_in_time);
        }
        match timeout(after, connector.link()).await {
            Ok(link) => Ok(link?),
            Err(_) => Err(not_in_time()),
        }
    }
}
