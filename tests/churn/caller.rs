//! A client that stores, reads, touches, deletes and counts, and checks whatever comes back.
//!
//! Keys are numbers. What a number is decides how large its values are and how long they live, so that
//! a reader knows what to expect of values that others stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_client::{Client, Error, Status};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::AsyncReadExt;

use crate::contents::{Content, Pool, Stamp, mixed};
use crate::figures::Tally;
use crate::stopwatch::Stopwatch;

const MIB: u64 = 1 << 20;
const COUNTERS: u64 = 64;
const BATCH: usize = 8;
/// LIMIT: how far apart the clocks of client and server may see the end of an item's life; wide, since
/// either may wait for a processor between looking at the clock and the item.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// LIMIT: a piece of a value that is read as a stream.
const PIECE_BYTES: usize = 64 << 10;

/// The keys that all callers share.
#[derive(Debug)]
pub(crate) struct Mix {
    families: [Family; 3],
    /// What each counter was increased by, at most.
    counted: Vec<AtomicU64>,
}

/// Keys whose values are about as large.
#[derive(Debug, Clone)]
struct Family {
    /// Of 1,000 operations.
    share: u32,
    keys: std::ops::Range<u64>,
    value_bytes: (u64, u64),
    transfer: Transfer,
}

/// How values go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Whole,
    Streamed,
}

/// How long items of a key live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Until(Option<Duration>),
    /// Ten seconds, and two minutes from each touch on.
    Touched,
}

/// What a caller knows of a key: an own value with a smaller count is gone for good.
#[derive(Debug, Clone, Copy)]
struct Floor {
    count: u64,
    /// When the value with this count has certainly expired.
    expired_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Caller {
    number: u64,
    client: Client,
    mix: Arc<Mix>,
    pool: Arc<Pool>,
    random: SmallRng,
    count: u64,
    floors: HashMap<u64, Floor>,
    tally: Tally,
}

impl Mix {
    /// Keys for about twice this memory.
    pub(crate) fn new(memory_bytes: u64) -> Self {
        let mut first = 0;
        let mut family = |share, keys: u64, value_bytes, transfer| {
            let keys = first..first + keys;
            first = keys.end;
            Family {
                share,
                keys,
                value_bytes,
                transfer,
            }
        };
        let small = family(988, memory_bytes >> 13, (1, 64 << 10), Transfer::Whole);
        let medium = family(11, memory_bytes >> 20, (64 << 10, MIB), Transfer::Whole);
        // The rarest, and some of them as large as the server takes.
        let large = (MIB, memory_bytes / 4);
        let large = family(1, memory_bytes >> 24, large, Transfer::Streamed);
        Self {
            families: [small, medium, large],
            counted: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn family(&self, key: u64) -> &Family {
        let holds = |family: &&Family| family.keys.contains(&key);
        self.families.iter().find(holds).expect("a key of the mix")
    }
}

fn life(key: u64) -> Life {
    match mixed(key) % 10 {
        0..4 => Life::Until(None),
        4..6 => Life::Until(Some(Duration::from_secs(1))),
        6..8 => Life::Until(Some(Duration::from_secs(10))),
        8 => Life::Until(Some(Duration::from_secs(120))),
        _ => Life::Touched,
    }
}

fn name(key: u64) -> String {
    format!("churn:{key}")
}

impl Caller {
    pub(crate) fn new(number: u64, client: Client, mix: Arc<Mix>, pool: Arc<Pool>) -> Self {
        Self {
            number,
            client,
            mix,
            pool,
            random: SmallRng::seed_from_u64(number),
            count: 0,
            floors: HashMap::new(),
            tally: Tally::default(),
        }
    }

    pub(crate) async fn run(mut self, until: Instant) -> Tally {
        while Instant::now() < until {
            match self.random.random_range(0..100) {
                0..42 => {
                    let key = self.key();
                    self.get(key).await;
                }
                42..46 => self.get_many().await,
                46..82 => self.set().await,
                82..87 => self.touch().await,
                87..92 => self.delete().await,
                _ => self.increment().await,
            }
        }
        self.tally
    }

    /// A key of any family; the front ones of a family come more often.
    fn key(&mut self) -> u64 {
        let mut draw = self.random.random_range(0..1000);
        let drawn = self.mix.families.iter().find(|family| {
            let is_here = draw < family.share;
            draw = draw.saturating_sub(family.share);
            is_here
        });
        let keys = drawn.expect("shares of 1,000").keys.clone();
        let end = self.random.random_range(keys.clone());
        self.random.random_range(keys.start..=end)
    }

    async fn set(&mut self) {
        let key = self.key();
        let Family {
            value_bytes: (least, most),
            transfer,
            ..
        } = self.mix.family(key).clone();
        let ratio = (most as f64 / least as f64).powf(self.random.random());
        let value_bytes = ((least as f64 * ratio) as u64).clamp(least, most);
        self.count += 1;
        let (caller, count) = (self.number, self.count);
        let content = Content::new(
            &self.pool,
            key,
            Stamp { caller, count },
            value_bytes as usize,
        );
        let time = match life(key) {
            Life::Until(time) => time,
            Life::Touched => Some(Duration::from_secs(10)),
        };
        let name = name(key);
        let (watch, stored) = match transfer {
            Transfer::Whole => {
                let value = content.bytes();
                let watch = Stopwatch::start();
                let store = self.client.set(name, value);
                (
                    watch,
                    time.into_iter()
                        .fold(store, |store, time| store.expire_in(time))
                        .await,
                )
            }
            Transfer::Streamed => {
                let watch = Stopwatch::start();
                let store = self.client.set_from(name, value_bytes, content.stream());
                (
                    watch,
                    time.into_iter()
                        .fold(store, |store, time| store.expire_in(time))
                        .await,
                )
            }
        };
        self.tally.count("set", value_bytes, watch.stop());
        match stored {
            Ok(_) => {
                let expired_at = match life(key) {
                    Life::Until(Some(time)) => Some(Instant::now() + time + CLOCKS_APART),
                    _ => None,
                };
                self.floors.insert(key, Floor { count, expired_at });
                self.tally.stored_bytes += value_bytes;
            }
            Err(error) => self.refused(&error),
        }
    }

    /// Counts a write that found no memory. Nothing else may be refused.
    fn refused(&mut self, error: &Error) {
        match error {
            Error::Refused { status, .. } if *status == Status::NO_SPACE => {
                self.tally.no_space += 1;
            }
            other => panic!("{other}"),
        }
    }

    async fn get(&mut self, key: u64) {
        let watch = Stopwatch::start();
        if self.mix.family(key).transfer == Transfer::Streamed {
            return self.get_stream(key, watch).await;
        }
        let item = self.client.get(name(key)).await.expect("an answer");
        let value = item.map(|item| item.value);
        let value_bytes = value.as_ref().map_or(0, |value| value.len() as u64);
        self.tally.count("get", value_bytes, watch.stop());
        self.check(key, value.as_deref(), watch.began);
    }

    async fn get_many(&mut self) {
        let mut keys: Vec<u64> = (0..BATCH).map(|_| self.key()).collect();
        keys.retain(|&key| self.mix.family(key).transfer == Transfer::Whole);
        let watch = Stopwatch::start();
        let names = keys.iter().map(|&key| name(key));
        let items = self.client.get_many(names).await.expect("an answer");
        let values = items.iter().flatten().map(|item| item.value.len() as u64);
        self.tally.count("get_many", values.sum(), watch.stop());
        for (&key, item) in keys.iter().zip(&items) {
            self.check(key, item.as_ref().map(|item| &item.value[..]), watch.began);
        }
    }

    async fn get_stream(&mut self, key: u64, watch: Stopwatch) {
        let stream = self.client.get_stream(name(key)).await;
        let Some(mut stream) = stream.expect("an answer") else {
            self.tally.count("get", 0, watch.stop());
            return self.check(key, None, watch.began);
        };
        let value_bytes = stream.value_bytes() as usize;
        let mut piece = vec![0; PIECE_BYTES.min(value_bytes)];
        stream
            .read_exact(&mut piece)
            .await
            .expect("the whole value");
        let content = Content::read(&self.pool, key, &piece, value_bytes);
        let mut at = 0;
        loop {
            assert!(content.is_at(at, &piece), "{} is wrong at {at}", name(key));
            at += piece.len();
            if at == value_bytes {
                break;
            }
            piece.truncate(value_bytes - at);
            stream
                .read_exact(&mut piece)
                .await
                .expect("the whole value");
        }
        self.tally.count("get", value_bytes as u64, watch.stop());
        self.read(key, &content, value_bytes, watch.began);
    }

    /// Checks a value that came as a whole.
    fn check(&mut self, key: u64, value: Option<&[u8]>, began: Instant) {
        let Some(value) = value else {
            self.tally.missed += 1;
            return;
        };
        let content = Content::read(&self.pool, key, value, value.len());
        let name = name(key);
        assert!(
            content.is_at(0, value),
            "{name}: {} bytes are wrong",
            value.len()
        );
        self.read(key, &content, value.len(), began);
    }

    /// Counts a right value, and looks whether it should still be there.
    fn read(&mut self, key: u64, content: &Content, value_bytes: usize, began: Instant) {
        self.tally.read += 1;
        self.tally.read_bytes += value_bytes as u64;
        let own = content.stamp().filter(|stamp| stamp.caller == self.number);
        let (Some(stamp), Some(floor)) = (own, self.floors.get(&key)) else {
            return;
        };
        let name = name(key);
        assert!(
            stamp.count >= floor.count,
            "{name}: {stamp:?} after {floor:?}"
        );
        let has_expired = floor.expired_at.is_some_and(|at| at < began);
        let is_it = stamp.count == floor.count;
        assert!(!(is_it && has_expired), "{name}: {stamp:?} has expired");
    }

    /// Gives those that are to live longer two minutes.
    async fn touch(&mut self) {
        let mut key = self.key();
        while life(key) != Life::Touched {
            key = self.key();
        }
        let watch = Stopwatch::start();
        let longer = Some(Duration::from_secs(120));
        let touched = self.client.touch(name(key), longer).await;
        self.tally.count("touch", 0, watch.stop());
        if let Err(error) = touched {
            self.refused(&error);
        }
    }

    async fn delete(&mut self) {
        let key = self.key();
        let watch = Stopwatch::start();
        self.client.delete(name(key)).await.expect("an answer");
        self.tally.count("delete", 0, watch.stop());
        let count = self.count + 1;
        let expired_at = None;
        self.floors.insert(key, Floor { count, expired_at });
    }

    /// Increments: no counter is ever more than all that was asked of it.
    async fn increment(&mut self) {
        let counter = self.random.random_range(0..COUNTERS);
        let counted = &self.mix.counted[counter as usize];
        counted.fetch_add(1, Ordering::SeqCst);
        let watch = Stopwatch::start();
        let name = format!("churn:count:{counter}");
        let number = self.client.increment(name).initial(1).await;
        self.tally.count("increment", 0, watch.stop());
        match number {
            Ok(number) => {
                let number = number.expect("it is created").number;
                let most = self.mix.counted[counter as usize].load(Ordering::SeqCst);
                assert!((1..=most).contains(&number), "{number} of {most}");
            }
            Err(error) => self.refused(&error),
        }
    }
}
