//! Reading an item, and making it where there is none: by one caller of all.
//!
//! The server says who: the first that asks wins its lease, everybody else is told that it is taken.
//! The winner makes the value and stores it by the version of the lease, which stores nothing if the
//! key was deleted, invalidated or stored meanwhile, so that what was made from old data never ends up
//! in the cache. Whoever does not win takes the stale value, if there is one, or waits: for its own
//! process's winner in a [flight](crate::flights), for another's by asking again. In each process one
//! task asks for all.
//!
//! A winner that fails, panics or is dropped gives the lease back, and one that is dropped or out of time before
//! it knows has it [given back](crate::forsaken); one whose process dies loses it when its time is over. Either
//! way somebody else wins it then. Where there is a stale value, whoever
//! still finds the lease taken when that time is over invalidates it once more, which takes the lease away.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use larder_protocol::Request;
use tokio::time::{Instant, timeout_at};

use crate::allowance::Allowance;
use crate::error::Cause;
use crate::flights::{End, Flight, Flights};
use crate::lease::{Freshness, Lease, Leased};
use crate::pause::Pauses;
use crate::reply::Item;
use crate::store::Conditional;
use crate::way::Way;
use crate::{Client, Error, embedded};

/// What a fill becomes when it is awaited.
type Filling<'c, E> =
    std::pin::Pin<Box<dyn Future<Output = Result<Bytes, FillError<E>>> + Send + 'c>>;

/// LIMIT: how long a winner has unless told otherwise.
const LEASE_FOR: Duration = Duration::from_secs(10);

/// LIMIT: the first pause before another process's value is asked for again, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// A read that makes what is not there; await it. Made by [`Client::get_or_fill`].
#[must_use = "nothing is sent until this is awaited"]
pub struct GetOrFill<'c, F> {
    client: &'c Client,
    key: Bytes,
    make: F,
    expire_in: Option<Duration>,
    lease_for: Duration,
    refresh_below: Option<Duration>,
    takes_stale: bool,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError<E> {
    /// It was this caller's turn to make the value, and it failed. The lease was handed on.
    #[error("the value could not be made: {0}")]
    Fill(E),
    /// The cache refused the key, or the [deadline](Client::until) is over. (Where it cannot be
    /// reached, the value is made without it.)
    #[error("the cache could not be asked: {0}")]
    Cache(Error),
}

impl Client {
    /// Reads a value, and makes and stores it where there is none or it is
    /// [out of date](Client::invalidate). Of all callers, in this process and in others, exactly one
    /// makes it; the others wait for it, or take the value that is out of date.
    ///
    /// ```no_run
    /// # async fn load_report() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn example(client: larder_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let report = client
    ///     .get_or_fill("report", async || load_report().await)
    ///     .expire_in(Duration::from_secs(60))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If the one who makes it fails, panics or is dropped, one of the others does, and so it goes if
    /// its process dies, after [`lease_for`](GetOrFill::lease_for). Where the cache cannot be reached,
    /// each process makes the value for itself, and nothing is stored; where it cannot be stored, it
    /// is returned all the same, and a `tracing` event says so.
    pub fn get_or_fill<F, Fut, V, E>(&self, key: impl AsRef<[u8]>, make: F) -> GetOrFill<'_, F>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<V, E>> + Send,
        V: Into<Bytes>,
    {
        GetOrFill {
            client: self,
            key: Bytes::copy_from_slice(key.as_ref()),
            make,
            expire_in: None,
            lease_for: LEASE_FOR,
            refresh_below: None,
            takes_stale: true,
        }
    }
}

impl<F> GetOrFill<'_, F> {
    /// What is stored expires this long after. Without this it never expires.
    pub fn expire_in(mut self, expire_in: Duration) -> Self {
        self.expire_in = Some(expire_in);
        self
    }

    /// How long whoever makes the value has before somebody else is told to; 10 seconds without this.
    /// Only a process that dies, or is cut off, lets it run out; but where making the value takes
    /// longer, it is made more than once. Where there is a value that is out of date, the time counts from
    /// when this process first finds that another caller makes it.
    pub fn lease_for(mut self, lease_for: Duration) -> Self {
        self.lease_for = lease_for;
        self
    }

    /// Has a value made anew also while there is one, if it has less than this left: one caller makes
    /// it, the others take the one that is there.
    pub fn refresh_below(mut self, left: Duration) -> Self {
        self.refresh_below = Some(left);
        self
    }

    /// Waits for the new value also where there is one that is out of date.
    pub fn never_stale(mut self) -> Self {
        self.takes_stale = false;
        self
    }
}

impl<'c, F, Fut, V, E> IntoFuture for GetOrFill<'c, F>
where
    F: FnOnce() -> Fut + Send + 'c,
    Fut: Future<Output = Result<V, E>> + Send + 'c,
    V: Into<Bytes> + 'c,
    E: Send + 'c,
{
    type Output = Result<Bytes, FillError<E>>;
    type IntoFuture = Filling<'c, E>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Allowance::Until(deadline) = self.client.allowance else {
                return self.run().await;
            };
            let after = deadline.saturating_duration_since(Instant::now());
            // What was under way then, the store of a value among others, may be done or not.
            let in_time = timeout_at(deadline, self.run()).await;
            in_time.unwrap_or_else(|_| {
                let over = Error::Unknown(Cause::Timeout { after });
                Err(FillError::Cache(over))
            })
        })
    }
}

impl<'c, F, Fut, V, E> GetOrFill<'c, F>
where
    F: FnOnce() -> Fut + Send + 'c,
    Fut: Future<Output = Result<V, E>> + Send + 'c,
    V: Into<Bytes> + 'c,
{
    async fn run(self) -> Result<Bytes, FillError<E>> {
        let flights = &self.client.flights;
        let mut leading: Option<Flight> = None;
        let mut pauses = Pauses::new(PAUSES[0], PAUSES[1]);
        loop {
            let (client, key) = (self.client, &self.key);
            let mut asked = client.get_or_lease(key, self.lease_for);
            if let Some(left) = self.refresh_below {
                asked = asked.refresh_below(left);
            }
            let mut was_in_vain = false;
            let mut awaited = match asked.await {
                Ok(found) if self.is_orphaned(&found) => {
                    let version = found.item.map_or(0, |item| item.version);
                    let taken_away = client.invalidate(key).if_version(version).await;
                    tracing::debug!(?taken_away, "nobody made what is out of date in time");
                    continue;
                }
                Ok(found) => match (found.lease, found.item) {
                    (Lease::Won { version }, _) => {
                        flights.forget_taken(key);
                        // Those who wait for this task already wait on.
                        let flight = leading.take().unwrap_or_else(|| flights.lead(key));
                        return self.make_and_store(version, flight).await;
                    }
                    (_, Some(item)) if found.freshness == Freshness::Fresh || self.takes_stale => {
                        return Ok(item.value);
                    }
                    // Another caller makes it; one task of this process looks after it.
                    (Lease::Taken, _) if leading.is_some() => {
                        pauses.pause().await;
                        continue;
                    }
                    (Lease::Taken, _) => match flights.join(key) {
                        Ok(flight) => {
                            leading = Some(flight);
                            pauses.pause().await;
                            continue;
                        }
                        Err(awaited) => awaited,
                    },
                    // There is nobody who could say whose turn it is.
                    (Lease::None, _) => match join(flights, key, leading.take()) {
                        Ok(flight) => return self.make_alone(flight).await,
                        Err(awaited) => awaited,
                    },
                },
                Err(error @ Error::Refused { .. }) => return Err(FillError::Cache(error)),
                Err(error) if client.allowance.is_over() => return Err(FillError::Cache(error)),
                Err(error) => {
                    tracing::warn!(%error, "the cache cannot be asked; the value is made without it");
                    was_in_vain = true;
                    match join(flights, key, leading.take()) {
                        Ok(flight) => return self.make_alone(flight).await,
                        Err(awaited) => awaited,
                    }
                }
            };
            loop {
                match awaited.end().await {
                    End::Value(value) => return Ok(value),
                    // To ask again would take as long again, for each of those who waited in turn.
                    End::NothingAlone if was_in_vain => match flights.join(key) {
                        Ok(flight) => return self.make_alone(flight).await,
                        Err(next) => awaited = next,
                    },
                    End::Nothing | End::NothingAlone => break,
                }
            }
        }
    }

    /// Whether somebody was to make what is out of date, and had the time for it.
    fn is_orphaned(&self, found: &Leased) -> bool {
        let flights = &self.client.flights;
        matches!(found, Leased { item: Some(Item { version, .. }), freshness: Freshness::Stale, lease: Lease::Taken }
            if flights.is_taken_for_long(&self.key, *version, self.lease_for))
    }

    /// Makes the value without the cache.
    async fn make_alone(self, flight: Flight) -> Result<Bytes, FillError<E>> {
        flight.go_alone();
        let made = (self.make)().await;
        let value: Bytes = made.map_err(FillError::Fill)?.into();
        flight.land(value.clone());
        Ok(value)
    }

    async fn make_and_store(self, version: u64, flight: Flight) -> Result<Bytes, FillError<E>> {
        let Self {
            client,
            key,
            make,
            expire_in,
            ..
        } = self;
        let mut held = Held {
            client,
            key: key.clone(),
            version,
            flight: Some(flight),
        };
        let value: Bytes = make().await.map_err(FillError::Fill)?.into();
        let mut store = client.cas(&key, version, value.clone());
        if let Some(expire_in) = expire_in {
            store = store.expire_in(expire_in);
        }
        match store.await {
            Ok(Conditional::Done(_)) => {
                if let Some(flight) = held.flight.take() {
                    flight.land(value.clone());
                }
            }
            // Somebody stored, deleted or invalidated it meanwhile: those who wait look again.
            Ok(_) => drop(held.flight.take()),
            Err(error) => tracing::warn!(%error, "a value that was made is not stored"),
        }
        Ok(value)
    }
}

/// Leads the flight that this task leads already, or joins the one that there is.
fn join(
    flights: &std::sync::Arc<Flights>,
    key: &Bytes,
    leading: Option<Flight>,
) -> Result<Flight, crate::flights::Awaited> {
    leading.map_or_else(|| flights.join(key), Ok)
}

/// A lease that was won. Dropped before its flight has ended, it is given back, and only then do
/// those who wait ask for themselves.
struct Held<'c> {
    client: &'c Client,
    key: Bytes,
    version: u64,
    flight: Option<Flight>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        let version = self.version;
        if let Way::Embedded(backend) = &self.client.way {
            let key = &self.key;
            let ended = embedded::answer(&**backend, &Request::EndLease { key, version });
            tracing::debug!(?ended, "gave a lease back");
            return;
        }
        // Without a runtime there is nobody to send it; it runs out by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let key = std::mem::take(&mut self.key);
        let client = Client {
            allowance: Allowance::Configured,
            ..self.client.clone()
        };
        runtime.spawn(async move {
            let ended = client.end_lease(&key, version).await;
            tracing::debug!(?ended, "gave a lease back");
            drop(flight);
        });
    }
}

impl<F> fmt::Debug for GetOrFill<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetOrFill")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
