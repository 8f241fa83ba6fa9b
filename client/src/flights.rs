//! What is being filled in this process, so that many tasks that need the same trouble the server for
//! one.
//!
//! Whoever fills a key, or waits for another process to fill it, leads a *flight*; the others wait for
//! its end. It ends with the value, if that was stored under the lease that it was made for: then
//! nobody has stored, deleted or invalidated anything under the key since, so that it is as good as
//! read at that moment. In every other case, and when the leader fails, panics or is dropped, those
//! who waited ask for themselves, and one of them leads the next flight.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

/// All flights of a client and its clones.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    by_key: Mutex<HashMap<Bytes, watch::Receiver<Option<Bytes>>>>,
}

/// A flight, as its leader holds it. Dropped, it ends with nothing.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    key: Bytes,
    landed: watch::Sender<Option<Bytes>>,
}

/// A flight, as those who wait for its end hold it.
#[derive(Debug)]
pub(crate) struct Awaited(watch::Receiver<Option<Bytes>>);

impl Flights {
    /// Leads the flight for a key, or waits for the one that there is.
    pub(crate) fn join(self: &Arc<Self>, key: &Bytes) -> Result<Flight, Awaited> {
        let mut by_key = self.by_key();
        match by_key.get(key) {
            Some(landed) => Err(Awaited(landed.clone())),
            None => Ok(self.begin(&mut by_key, key)),
        }
    }

    /// Leads a flight for a key in place of the one that there may be.
    pub(crate) fn lead(self: &Arc<Self>, key: &Bytes) -> Flight {
        self.begin(&mut self.by_key(), key)
    }

    fn begin(
        self: &Arc<Self>,
        by_key: &mut HashMap<Bytes, watch::Receiver<Option<Bytes>>>,
        key: &Bytes,
    ) -> Flight {
        let (landed, receiver) = watch::channel(None);
        by_key.insert(key.clone(), receiver);
        Flight {
            flights: self.clone(),
            key: key.clone(),
            landed,
        }
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<Bytes, watch::Receiver<Option<Bytes>>>> {
        self.by_key.lock()
    }
}

impl Flight {
    /// Ends it with a value.
    pub(crate) fn land(self, value: Bytes) {
        self.landed.send_replace(Some(value));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut by_key = self.flights.by_key();
        // Another may have taken its place.
        let is_this = |landed: &watch::Receiver<_>| landed.same_channel(&self.landed.subscribe());
        if by_key.get(&self.key).is_some_and(is_this) {
            by_key.remove(&self.key);
        }
    }
}

impl Awaited {
    /// Waits for the end; the value, if there is one.
    pub(crate) async fn end(mut self) -> Option<Bytes> {
        let landed = self.0.wait_for(Option::is_some).await;
        landed.ok().and_then(|value| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Flight, Flights};

    fn lead(flights: &Arc<Flights>, key: &Bytes) -> Flight {
        flights.join(key).expect("there is no flight")
    }

    #[tokio::test]
    async fn those_who_wait_get_the_value_and_those_who_come_later_lead() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        let flight = lead(&flights, &key);
        let waits = flights.join(&key).expect_err("there is a flight");
        flight.land(Bytes::from("v"));
        assert_eq!(waits.end().await, Some(Bytes::from("v")));
        drop(lead(&flights, &key));
        assert!(flights.by_key().is_empty());
    }

    #[tokio::test]
    async fn a_flight_that_is_dropped_ends_with_nothing() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        let flight = lead(&flights, &key);
        let waits = flights.join(&key).expect_err("there is a flight");
        drop(flight);
        assert_eq!(waits.end().await, None);
    }

    #[tokio::test]
    async fn a_flight_that_was_replaced_does_not_take_the_other_away() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        let old = lead(&flights, &key);
        let new = flights.lead(&key);
        drop(old);
        let waits = flights.join(&key).expect_err("there is a flight");
        new.land(Bytes::from("v"));
        assert_eq!(waits.end().await, Some(Bytes::from("v")));
    }
}
