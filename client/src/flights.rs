//! What is being filled in this process, so that many tasks that need the same trouble the server for
//! one.
//!
//! Whoever fills a key, or waits for another process to fill it, leads a *flight*; the others wait for
//! its end. It ends with the value, if that was stored under the lease that it was made for: then
//! nobody has stored, deleted or invalidated anything under the key since, so that it is as good as
//! read at that moment. In every other case, and when the leader fails, panics or is dropped, those
//! who waited ask for themselves, and one of them leads the next flight. Where the cache cannot be
//! reached, the value is made without it, [alone](Flight::go_alone), and counts all the same; if that
//! fails, those who had asked in vain do not ask again, since each would wait for the cache anew.
//!
//! The lease on an item that is out of date has no end of its own at the server, also where its winner
//! died. So each process remembers since when it has been told that it is taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

/// LIMIT: of more items than this that are out of date and not made, all are forgotten, and their time
/// begins anew.
const TAKEN_MAX: usize = 4096;

/// All flights of a client and its clones.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    by_key: Mutex<HashMap<Bytes, watch::Receiver<Stage>>>,
    taken: Mutex<HashMap<Bytes, Taken>>,
}

/// The lease on an item that is out of date, which another caller has.
#[derive(Debug)]
struct Taken {
    version: u64,
    since: Instant,
}

/// Where a flight is.
#[derive(Clone, Debug)]
enum Stage {
    /// Under way, with the cache.
    UnderWay,
    /// Under way, without the cache.
    Alone,
    /// It has ended with a value.
    Landed(Bytes),
}

/// How a flight ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Value(Bytes),
    /// With nothing, as the cache may say why.
    Nothing,
    /// With nothing, and the cache could not be reached.
    NothingAlone,
}

/// A flight, as its leader holds it. Dropped, it ends with nothing.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    key: Bytes,
    stage: watch::Sender<Stage>,
}

/// A flight, as those who wait for its end hold it.
#[derive(Debug)]
pub(crate) struct Awaited(watch::Receiver<Stage>);

impl Flights {
    /// Leads the flight for a key, or waits for the one that there is.
    pub(crate) fn join(self: &Arc<Self>, key: &Bytes) -> Result<Flight, Awaited> {
        let mut by_key = self.by_key();
        match by_key.get(key) {
            Some(stage) => Err(Awaited(stage.clone())),
            None => Ok(self.begin(&mut by_key, key)),
        }
    }

    /// Leads a flight for a key in place of the one that there may be.
    pub(crate) fn lead(self: &Arc<Self>, key: &Bytes) -> Flight {
        self.begin(&mut self.by_key(), key)
    }

    /// Notes that the lease on an item that is out of date is taken, and says, once, if it has been for
    /// longer than it may.
    pub(crate) fn is_taken_for_long(&self, key: &Bytes, version: u64, lease_for: Duration) -> bool {
        let since = Instant::now();
        let mut taken = self.taken.lock();
        match taken.get(key) {
            Some(known) if known.version == version => {
                let is_long = known.since.elapsed() >= lease_for;
                if is_long {
                    taken.remove(key);
                }
                is_long
            }
            known => {
                if known.is_none() && taken.len() >= TAKEN_MAX {
                    taken.clear();
                }
                taken.insert(key.clone(), Taken { version, since });
                false
            }
        }
    }

    /// Forgets since when the lease was taken, since this process has it.
    pub(crate) fn forget_taken(&self, key: &Bytes) {
        self.taken.lock().remove(key);
    }

    fn begin(
        self: &Arc<Self>,
        by_key: &mut HashMap<Bytes, watch::Receiver<Stage>>,
        key: &Bytes,
    ) -> Flight {
        let (stage, receiver) = watch::channel(Stage::UnderWay);
        by_key.insert(key.clone(), receiver);
        Flight {
            flights: self.clone(),
            key: key.clone(),
            stage,
        }
    }

    fn by_key(&self) -> MutexGuard<'_, HashMap<Bytes, watch::Receiver<Stage>>> {
        self.by_key.lock()
    }
}

impl Flight {
    /// Goes on without the cache, which cannot be reached.
    pub(crate) fn go_alone(&self) {
        self.stage.send_replace(Stage::Alone);
    }

    /// Ends it with a value.
    pub(crate) fn land(self, value: Bytes) {
        self.stage.send_replace(Stage::Landed(value));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut by_key = self.flights.by_key();
        // Another may have taken its place.
        let is_this = |stage: &watch::Receiver<_>| stage.same_channel(&self.stage.subscribe());
        if by_key.get(&self.key).is_some_and(is_this) {
            by_key.remove(&self.key);
        }
    }
}

impl Awaited {
    /// Waits for the end.
    pub(crate) async fn end(mut self) -> End {
        // An error says that the leader is gone.
        let _ = self
            .0
            .wait_for(|stage| matches!(stage, Stage::Landed(_)))
            .await;
        match &*self.0.borrow() {
            Stage::Landed(value) => End::Value(value.clone()),
            Stage::Alone => End::NothingAlone,
            Stage::UnderWay => End::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{End, Flight, Flights};

    fn lead(flights: &Arc<Flights>, key: &Bytes) -> Flight {
        flights.join(key).expect("there is no flight")
    }

    #[tokio::test]
    async fn those_who_wait_get_the_value_and_those_who_come_later_lead() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        let flight = lead(&flights, &key);
        let waits = flights.join(&key).expect_err("there is a flight");
        flight.land(Bytes::from("v"));
        assert_eq!(waits.end().await, End::Value(Bytes::from("v")));
        drop(lead(&flights, &key));
        assert!(flights.by_key().is_empty());
    }

    #[tokio::test]
    async fn a_flight_that_is_dropped_ends_with_nothing() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        let flight = lead(&flights, &key);
        let waits = flights.join(&key).expect_err("there is a flight");
        drop(flight);
        assert_eq!(waits.end().await, End::Nothing);
    }

    #[tokio::test]
    async fn one_that_goes_on_alone_says_so_if_it_ends_with_nothing() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        for lands in [false, true] {
            let flight = lead(&flights, &key);
            let waits = flights.join(&key).expect_err("there is a flight");
            flight.go_alone();
            let value = Bytes::from("v");
            let end = match lands {
                true => {
                    flight.land(value.clone());
                    End::Value(value)
                }
                false => {
                    drop(flight);
                    End::NothingAlone
                }
            };
            assert_eq!(waits.end().await, end);
        }
    }

    #[tokio::test]
    async fn a_flight_that_was_replaced_does_not_take_the_other_away() {
        let (flights, key) = (Arc::new(Flights::default()), Bytes::from("k"));
        let old = lead(&flights, &key);
        let new = flights.lead(&key);
        drop(old);
        let waits = flights.join(&key).expect_err("there is a flight");
        new.land(Bytes::from("v"));
        assert_eq!(waits.end().await, End::Value(Bytes::from("v")));
    }
}
