//! The handle that applications hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::{Direction, Limits, Request, Store as StoreRequest, StoreMode};

use crate::allowance::Allowance;
use crate::call::Outcome;
use crate::connector::Connector;
use crate::count::Count;
use crate::flights::Flights;
use crate::lease::{GetOrLease, Invalidate};
use crate::read::{GetAndTouch, whole_ms};
use crate::reply::Answered;
use crate::reply::{Item, Reply};
use crate::store::{Conditional, Store};
use crate::way::Way;
use crate::{Config, ConnectError, Error, Metrics};

/// A handle on a server, whose connections its clones share: cloning it is cheap. See the [crate's
/// page](crate).
///
/// Keys are anything that gives bytes, values anything that becomes [`Bytes`] (a `Vec<u8>`, a
/// `String`, a `&'static str`, ...) without being copied before it is sent.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) way: Way,
    pub(crate) allowance: Allowance,
    /// What is being filled in this process.
    pub(crate) flights: Arc<Flights>,
}

/// What a server said about itself in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its name and version, for people.
    pub name: String,
    /// What it accepts.
    pub limits: Limits,
}

impl Client {
    /// Connects to the server at a URL: `larder://HOST:PORT`, or `larder+unix:///PATH`.
    ///
    /// # Errors
    ///
    /// The URL makes no sense, or the one attempt to connect failed.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, Config::default()).await
    }

    /// Connects with other settings than the default ones.
    ///
    /// # Errors
    ///
    /// The URL makes no sense, or the one attempt to connect failed.
    pub async fn connect_with(url: &str, config: Config) -> Result<Self, ConnectError> {
        let connector = Connector::new(url.parse()?, config);
        connector.connect_once().await?;
        Ok(Self::over(Way::Server(connector)))
    }

    /// A client that connects when the first request needs it.
    ///
    /// # Errors
    ///
    /// The URL makes no sense.
    pub fn lazy(url: &str, config: Config) -> Result<Self, ConnectError> {
        let connector = Connector::new(url.parse()?, config);
        Ok(Self::over(Way::Server(connector)))
    }

    pub(crate) fn over(way: Way) -> Self {
        Self {
            way,
            allowance: Allowance::Configured,
            flights: Arc::default(),
        }
    }

    /// This client with another [request timeout](Config::request_timeout). It shares everything
    /// with the one that it was made from.
    ///
    /// ```no_run
    /// # async fn example(client: larder_client::Client) -> Result<(), larder_client::Error> {
    /// use std::time::Duration;
    ///
    /// let found = client.within(Duration::from_millis(20)).get("hint").await;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn within(&self, request_timeout: Duration) -> Self {
        Self {
            allowance: Allowance::Each(request_timeout),
            ..self.clone()
        }
    }

    /// This client with a deadline for all that is asked of it: a request that is under way then
    /// ends, and one that begins later is not sent.
    ///
    /// ```no_run
    /// # async fn example(client: larder_client::Client) -> Result<(), larder_client::Error> {
    /// use std::time::{Duration, Instant};
    ///
    /// let page = client.until(Instant::now() + Duration::from_millis(100));
    /// let user = page.get("user").await?;
    /// let items = page.get_many(["a", "b"]).await?; // what is left of the 100 milliseconds
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn until(&self, deadline: std::time::Instant) -> Self {
        Self {
            allowance: Allowance::Until(deadline.into()),
            ..self.clone()
        }
    }

    /// Whether there is a connection that takes requests at this moment, to every server where there
    /// are several. A request does not need to know: it waits for one.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connectors()
            .all(|connector| connector.open_link().is_some())
    }

    /// What the server said about itself, the first where there are several; connects where there is
    /// no connection.
    ///
    /// # Errors
    ///
    /// There is no connection to be had.
    pub async fn server(&self) -> Result<ServerInfo, Error> {
        Ok(match &self.way {
            Way::Server(connector) => (*self.link(connector).await?.server()).clone(),
            Way::Servers(servers) => (*self.link(servers.first()).await?.server()).clone(),
            Way::Embedded(backend) => backend.server().clone(),
        })
    }

    /// What this client and its clones have counted so far, of all servers where there are several.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        for connector in self.connectors() {
            metrics.add(&connector.meter.snapshot());
        }
        metrics
    }

    /// How long a request that begins now may take.
    pub(crate) fn time_left(&self) -> Duration {
        let configured = match self.connectors().next() {
            Some(connector) => connector.config.request_timeout,
            None => Config::default().request_timeout,
        };
        self.allowance.left(configured)
    }

    fn connectors(&self) -> Box<dyn Iterator<Item = &Arc<Connector>> + '_> {
        match &self.way {
            Way::Server(connector) => Box::new(std::iter::once(connector)),
            Way::Servers(servers) => Box::new(servers.connectors()),
            Way::Embedded(_) => Box::new(std::iter::empty()),
        }
    }

    /// Reads an item.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Item>, Error> {
        let key = key.as_ref();
        self.call(Request::Get {
            key,
            want_expiry: false,
        })
        .await
    }

    /// Reads an item and how long it has left.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn get_with_expiry(&self, key: impl AsRef<[u8]>) -> Result<Option<Item>, Error> {
        let key = key.as_ref();
        self.call(Request::Get {
            key,
            want_expiry: true,
        })
        .await
    }

    /// Reads an item and gives it a new expiry, in one step.
    pub fn get_and_touch(&self, key: impl AsRef<[u8]>) -> GetAndTouch<'_> {
        let key = Bytes::copy_from_slice(key.as_ref());
        GetAndTouch {
            client: self,
            key,
            expire_in: None,
        }
    }

    /// Stores an item. The result is its version.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Store<'_, u64> {
        Store::new(self, StoreMode::Set, key.as_ref(), value.into())
    }

    /// Stores an item where there is none. The result is its version, or `None` where there is one.
    pub fn add(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Store<'_, Option<u64>> {
        Store::new(self, StoreMode::Add, key.as_ref(), value.into())
    }

    /// Stores an item where there is one. The result is its version, or `None` where there is none.
    pub fn replace(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
    ) -> Store<'_, Option<u64>> {
        Store::new(self, StoreMode::Replace, key.as_ref(), value.into())
    }

    /// Stores an item where the one there still has this version. As with every store, an item without
    /// [`expire_in`](Store::expire_in) never expires, whatever the one before it did.
    ///
    /// ```no_run
    /// # async fn example(client: larder_client::Client) -> Result<(), larder_client::Error> {
    /// use larder_client::Conditional;
    ///
    /// if let Some(item) = client.get("key").await? {
    ///     match client.cas("key", item.version, "value").await? {
    ///         Conditional::Done(version) => println!("stored as {version}"),
    ///         Conditional::VersionDiffers => println!("somebody came between"),
    ///         Conditional::NotFound => println!("it is gone"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn cas(
        &self,
        key: impl AsRef<[u8]>,
        version: u64,
        value: impl Into<Bytes>,
    ) -> Store<'_, Conditional<u64>> {
        Store::new(self, StoreMode::Cas { version }, key.as_ref(), value.into())
    }

    /// Puts bytes behind the value of an item. The result is its new version, or `None` where there
    /// is no item.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        suffix: impl AsRef<[u8]>,
    ) -> Result<Option<u64>, Error> {
        self.extend(StoreMode::Append, key.as_ref(), suffix.as_ref())
            .await
    }

    /// Puts bytes before the value of an item. The result is its new version, or `None` where there
    /// is no item.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn prepend(
        &self,
        key: impl AsRef<[u8]>,
        prefix: impl AsRef<[u8]>,
    ) -> Result<Option<u64>, Error> {
        self.extend(StoreMode::Prepend, key.as_ref(), prefix.as_ref())
            .await
    }

    async fn extend(
        &self,
        mode: StoreMode,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<u64>, Error> {
        let store = StoreRequest {
            mode,
            key,
            value,
            client_flags: 0,
            expire_in_ms: None,
        };
        self.call(Request::Store(store)).await
    }

    /// Adds to a counter; past 2^64 - 1 it goes on from 0.
    pub fn increment(&self, key: impl AsRef<[u8]>) -> Count<'_> {
        Count::new(self, Direction::Increment, key.as_ref())
    }

    /// Subtracts from a counter; it stops at 0.
    pub fn decrement(&self, key: impl AsRef<[u8]>) -> Count<'_> {
        Count::new(self, Direction::Decrement, key.as_ref())
    }

    /// Gives an item a new expiry; `None` is never. The result is whether there was an item.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn touch(
        &self,
        key: impl AsRef<[u8]>,
        expire_in: Option<Duration>,
    ) -> Result<bool, Error> {
        let (key, expire_in_ms) = (key.as_ref(), expire_in.map(whole_ms));
        self.call(Request::Touch { key, expire_in_ms }).await
    }

    /// Deletes an item. The result is whether there was one.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.call(Request::Delete {
            key: key.as_ref(),
            version: None,
        })
        .await
    }

    /// Deletes an item if it still has this version.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn delete_if_version(
        &self,
        key: impl AsRef<[u8]>,
        version: u64,
    ) -> Result<Conditional<()>, Error> {
        self.call(Request::Delete {
            key: key.as_ref(),
            version: Some(version),
        })
        .await
    }

    /// Reads an item, and tells exactly one of all callers to store a new value where there is none
    /// or it is stale. Where there is none, the others are not told before `lease_for` is over, or
    /// the lease [ended](Self::end_lease); where it is stale, not before the lease ended, or the item is
    /// [invalidated](Self::invalidate) once more or expires.
    pub fn get_or_lease(&self, key: impl AsRef<[u8]>, lease_for: Duration) -> GetOrLease<'_> {
        GetOrLease::new(self, key.as_ref(), lease_for)
    }

    /// Marks an item as out of date: it is served all the same, and the next caller of
    /// [`get_or_lease`](Self::get_or_lease) is told to store a new value. The result is the item's new
    /// version.
    pub fn invalidate(&self, key: impl AsRef<[u8]>) -> Invalidate<'_> {
        Invalidate::new(self, key.as_ref())
    }

    /// Gives a lease back without a new value, so that the next caller gets it. The result is whether
    /// it was still there.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn end_lease(&self, key: impl AsRef<[u8]>, version: u64) -> Result<bool, Error> {
        let key = key.as_ref();
        self.call(Request::EndLease { key, version }).await
    }

    /// Empties the cache.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.flush_in(Duration::ZERO).await
    }

    /// Empties the cache this long from now: all goes that was stored before that moment.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn flush_in(&self, delay: Duration) -> Result<(), Error> {
        let delay_ms = whole_ms(delay);
        let flush = |server: Self| async move { server.call(Request::Flush { delay_ms }).await };
        let flushed: Vec<()> = self.at_each(flush).await?;
        drop(flushed);
        Ok(())
    }

    /// The server's counters, as names and values. An empty group is the general one. Where there are
    /// several servers, these are the first one's; [`each_server`](Self::each_server) has the others.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a group that the server does not have is [`Error::Refused`] with
    /// [`Status::NOT_FOUND`](crate::Status::NOT_FOUND).
    pub async fn stats(&self, group: &str) -> Result<Vec<(String, String)>, Error> {
        self.call(Request::Stats {
            group: group.as_bytes(),
        })
        .await
    }

    /// Asks for a sign of life, of every server where there are several.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn ping(&self) -> Result<(), Error> {
        let ping = async |server: Self| server.call(Request::Ping { echo: &[] }).await;
        let answered: Vec<()> = self.at_each(ping).await?;
        drop(answered);
        Ok(())
    }
}

impl Outcome for Vec<(String, String)> {
    fn from_answer(answer: Answered) -> Result<Self, Error> {
        match answer? {
            Reply::Stats(pairs) => Ok(pairs),
            _ => Err(Error::misfit()),
        }
    }
}
