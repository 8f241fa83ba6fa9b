//! Clients on connections of their own that share a server, and keep a history of what they did.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder::{Arithmetic, Initial, Mode};
use larder_client::{Client, Conditional, Config, Error, Item, Status};

use crate::support::linearizability::{Span, check};
use crate::support::meaning::{Answer, Call, Evictions, Marks, Stored};

/// What the clients do.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) url: String,
    pub(crate) connections: usize,
    /// Callers that share each connection, so that it carries several requests at a time.
    pub(crate) callers: usize,
    /// Keys whose history is kept: half of the calls.
    pub(crate) keys: u64,
    /// Keys for the other half.
    pub(crate) fillers: u64,
    /// Bytes that every value has beside what makes it unique.
    pub(crate) padding_bytes: usize,
    pub(crate) until: Until,
    /// Whether callers go on when a call finds no server: it comes back. Else they stop.
    pub(crate) goes_on: bool,
}

/// When callers stop.
#[allow(dead_code, reason = "each test uses its own part of this")]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so many calls each.
    Calls(u64),
    Passed(Duration),
    /// When somebody [says so](Tally::stop), or no server is found.
    Stopped,
}

/// How the calls came out.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Calls that were answered so far, for those who wait for a load to be under way.
    pub(crate) answered: AtomicU64,
    pub(crate) not_executed: AtomicU64,
    pub(crate) unknown: AtomicU64,
    stop: AtomicBool,
}

impl Tally {
    /// Has the callers stop.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The history of the keys that are kept.
#[derive(Debug, Default)]
pub(crate) struct History {
    calls: HashMap<u64, Vec<Span>>,
}

impl History {
    /// Panics with the first key whose calls cannot be explained.
    pub(crate) fn assert_linearizable(&self, evictions: Evictions) {
        for (key, calls) in &self.calls {
            if let Err(violation) = check(calls, 0, evictions) {
                panic!("key {key}: {violation:#?}");
            }
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.values().map(Vec::len).sum()
    }
}

/// Runs the load to its end.
pub(crate) async fn run(load: &Load, tally: &Arc<Tally>) -> History {
    let clock = Instant::now();
    let mut callers = Vec::new();
    for connection in 0..load.connections {
        // A server that comes back may go before it has greeted.
        let client = match load.goes_on {
            true => Client::lazy(&load.url, Config::default()),
            false => Client::connect(&load.url).await,
        };
        let client = client.expect("the server listens");
        for caller in 0..load.callers {
            let number = (connection * load.callers + caller) as u64 + 1;
            let caller = Caller {
                load: load.clone(),
                client: client.clone(),
                tally: Arc::clone(tally),
                clock,
                number,
                random: 0x9e37_79b9_7f4a_7c15 ^ number << 20,
                stores: 0,
                versions: HashMap::new(),
                spans: Vec::new(),
            };
            callers.push(tokio::spawn(caller.run()));
        }
    }
    let mut history = History::default();
    for caller in callers {
        for (key, span) in caller.await.expect("no caller panics") {
            history.calls.entry(key).or_default().push(span);
        }
    }
    history
}

struct Caller {
    load: Load,
    client: Client,
    tally: Arc<Tally>,
    clock: Instant,
    number: u64,
    random: u64,
    /// What makes this caller's values its own.
    stores: u64,
    /// The version of each key that this caller saw last.
    versions: HashMap<u64, u64>,
    spans: Vec<(u64, Span)>,
}

impl Caller {
    async fn run(mut self) -> Vec<(u64, Span)> {
        let mut calls = 0;
        loop {
            let is_over = match self.load.until {
                Until::Calls(most) => calls >= most,
                Until::Passed(time) => self.clock.elapsed() >= time,
                Until::Stopped => false,
            };
            if is_over || self.tally.stop.load(Ordering::Relaxed) {
                return self.spans;
            }
            calls += 1;
            match self.below(20) {
                0 => self.get_many().await,
                _ => self.call().await,
            }
        }
    }

    /// xorshift64: below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % bound
    }

    fn key(&mut self) -> u64 {
        let (keys, fillers) = (self.load.keys, self.load.fillers);
        match self.below(2) {
            0 if fillers > 0 => keys + self.below(fillers),
            _ => self.below(keys),
        }
    }

    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    async fn call(&mut self) {
        let key = self.key();
        let call = self.choose(key);
        let began = self.now();
        let answer = execute(&self.client, &name(key), &call).await;
        let answer = self.count(answer);
        let found = match &answer {
            Some(Answer::Hit(stored)) => stored.version,
            Some(Answer::Stored { version } | Answer::Counted { version, .. }) => *version,
            _ => None,
        };
        if let Some(version) = found {
            self.versions.insert(key, version);
        }
        self.record(key, call, answer, began);
    }

    async fn get_many(&mut self) {
        let keys: Vec<_> = (0..1 + self.below(6)).map(|_| self.key()).collect();
        let began = self.now();
        let answer = self
            .client
            .get_many(keys.iter().map(|&key| name(key)))
            .await;
        if let Some(items) = self.count(answer) {
            for (&key, item) in keys.iter().zip(items) {
                self.record(key, Call::Get, Some(read(item)), began);
            }
        }
    }

    /// The answer, if there was one; a call that was not executed is one without effect and is left
    /// out by [`Answer::NoSpace`].
    fn count<T: Refused>(&self, answer: Result<T, Error>) -> Option<T> {
        let (count, answer) = match answer {
            Ok(answer) => (&self.tally.answered, Some(answer)),
            Err(Error::Refused { status, .. }) if status == Status::NO_SPACE => {
                (&self.tally.answered, T::refused())
            }
            Err(error) if error.is_not_executed() => {
                self.found_no_server();
                (&self.tally.not_executed, T::refused())
            }
            Err(Error::Unknown(_)) => {
                self.found_no_server();
                (&self.tally.unknown, None)
            }
            Err(error) => panic!("{error}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    fn found_no_server(&self) {
        if !self.load.goes_on {
            self.tally.stop();
        }
    }

    fn record(&mut self, key: u64, call: Call, answer: Option<Answer>, began: u64) {
        let ended = self.now();
        if key < self.load.keys {
            let span = Span {
                call,
                answer,
                began,
                ended,
            };
            self.spans.push((key, span));
        }
    }

    fn choose(&mut self, key: u64) -> Call {
        let version = self.versions.get(&key).copied();
        let mode = match self.below(100) {
            0..40 => return Call::Get,
            40..43 => {
                let expires_at_ms = None;
                return Call::GetAndTouch { expires_at_ms };
            }
            43..47 => return Call::Delete { version: None },
            47..50 => return Call::Delete { version },
            50..56 => return self.choose_count(),
            56..62 => Mode::Add,
            62..67 => Mode::Replace,
            67..71 => Mode::Append,
            71..74 => Mode::Prepend,
            74..84 => Mode::CompareAndSet {
                version: version.unwrap_or(1),
            },
            _ => Mode::Set,
        };
        self.stores += 1;
        let value = match (mode, self.below(3)) {
            (Mode::Append | Mode::Prepend, _) | (_, 0) => self.stores.to_string(),
            _ => {
                let padding = self.load.padding_bytes;
                format!("{}/{}{:padding$}", self.number, self.stores, "")
            }
        };
        let flags = match mode {
            Mode::Append | Mode::Prepend => 0,
            _ => (self.stores % 3) as u32,
        };
        Call::Store {
            mode,
            value: value.into_bytes(),
            flags,
            expires_at_ms: None,
            new_version: None,
        }
    }

    fn choose_count(&mut self) -> Call {
        let by = match self.below(2) {
            0 => Arithmetic::Increment(self.below(1000)),
            _ => Arithmetic::Decrement(self.below(1000)),
        };
        let initial = (self.below(2) == 0).then(|| Initial {
            value: self.below(1000),
            expires_at_ms: None,
        });
        Call::Count {
            by,
            initial,
            new_version: None,
        }
    }
}

/// What stands for an answer where the server did nothing.
trait Refused: Sized {
    fn refused() -> Option<Self>;
}

impl Refused for Answer {
    fn refused() -> Option<Self> {
        Some(Self::NoSpace)
    }
}

impl Refused for Vec<Option<Item>> {
    fn refused() -> Option<Self> {
        None
    }
}

fn name(key: u64) -> Vec<u8> {
    format!("linearizability:{key}").into_bytes()
}

fn read(item: Option<Item>) -> Answer {
    item.map_or(Answer::Miss, |item| {
        Answer::Hit(Stored {
            value: item.value.to_vec(),
            flags: item.flags,
            expires_at_ms: None,
            version: Some(item.version),
            marks: Marks::default(),
        })
    })
}

/// A store that is `None` where the condition on the key's presence did not hold.
fn stored(version: Option<u64>) -> Answer {
    match version {
        None => Answer::NotStored,
        version => Answer::Stored { version },
    }
}

/// Asks the server.
async fn execute(client: &Client, name: &[u8], call: &Call) -> Result<Answer, Error> {
    Ok(match call {
        Call::Get => read(client.get(name).await?),
        Call::GetAndTouch { .. } => read(client.get_and_touch(name).await?),
        Call::Delete { version: None } => match client.delete(name).await? {
            true => Answer::Deleted,
            false => Answer::NotFound,
        },
        Call::Delete {
            version: Some(version),
        } => match client.delete_if_version(name, *version).await? {
            Conditional::Done(()) => Answer::Deleted,
            Conditional::VersionDiffers => Answer::Exists,
            Conditional::NotFound => Answer::NotFound,
        },
        Call::Count { by, initial, .. } => {
            let count = match *by {
                Arithmetic::Increment(by) => client.increment(name).by(by),
                Arithmetic::Decrement(by) => client.decrement(name).by(by),
            };
            let count = match initial {
                Some(initial) => count.initial(initial.value),
                None => count,
            };
            match count.await {
                Ok(Some(counter)) => Answer::Counted {
                    value: counter.number,
                    version: Some(counter.version),
                },
                Ok(None) => Answer::NotFound,
                Err(Error::Refused { status, .. }) if status == Status::NOT_A_NUMBER => {
                    Answer::NotANumber
                }
                Err(error) => return Err(error),
            }
        }
        Call::Store {
            mode, value, flags, ..
        } => {
            let value = value.clone();
            match *mode {
                Mode::Set => stored(Some(client.set(name, value).flags(*flags).await?)),
                Mode::Add => stored(client.add(name, value).flags(*flags).await?),
                Mode::Replace => stored(client.replace(name, value).flags(*flags).await?),
                Mode::Append => stored(client.append(name, value).await?),
                Mode::Prepend => stored(client.prepend(name, value).await?),
                Mode::CompareAndSetStale { .. } => unreachable!("the client has no such store"),
                Mode::CompareAndSet { version } => {
                    match client.cas(name, version, value).flags(*flags).await? {
                        Conditional::Done(version) => stored(Some(version)),
                        Conditional::VersionDiffers => Answer::Exists,
                        Conditional::NotFound => Answer::NotFound,
                    }
                }
            }
        }
        Call::Touch { .. }
        | Call::Flush
        | Call::GetOrLease { .. }
        | Call::Invalidate { .. }
        | Call::EndLease { .. } => unreachable!("no caller asks for it"),
    })
}
