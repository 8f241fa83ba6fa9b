//! What stands behind a client: a server, several, or a cache in this process.
//!
//! Every operation goes through here, so that all that is said of operations holds for each of them.

use std::sync::Arc;

use larder_protocol::{Limits, Request};
use tokio::time::timeout;

use crate::call::Outcome;
use crate::connector::Connector;
use crate::embedded::{self, Backend};
use crate::error::Cause;
use crate::servers::Servers;
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

impl Client {
    /// Has a request executed.
    pub(crate) async fn call<T: Outcome>(&self, request: Request<'_>) -> Result<T, Error> {
        match &self.way {
            Way::Server(connector) => connector.call(request, self.allowance).await,
            Way::Servers(servers) => servers.call(request, self.allowance).await,
            Way::Embedded(backend) => {
                if self.allowance.is_over() {
                    let after = std::time::Duration::ZERO;
                    return Err(Error::NotExecuted(Cause::Timeout { after }));
                }
                // What is never waited for would otherwise never let other tasks run.
                tokio::task::coop::consume_budget().await;
                T::from_answer(embedded::answer(&**backend, &request)?)
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
        if let Some(link) = connector.open_link() {
            return Ok(link.server.limits);
        }
        let after = self.time_left();
        match timeout(after, connector.link()).await {
            Ok(link) => Ok(link?.server.limits),
            Err(_) => Err(Error::NotExecuted(Cause::Timeout { after })),
        }
    }
}
