//! The server: event loops over one shared cache. Bytes in, bytes out.
//!
//! ```text
//!                    connections                    mailbox + waker
//!   listeners ──> Acceptor (1 thread) ──────────────────────────────> Worker (N threads)
//!                                                                        │ one turn per ready
//!                                                                        v connection
//!                   Service: read ─> dialect parses ─> execute ─> dialect encodes ─> write
//! ```
//!
//! A connection belongs to one worker for life; every worker serves every key, through its own
//! [`Session`] of the one [`Cache`]. The server knows nothing of what bytes mean
//! (that is the dialect's) nor of where items lie (that is the engine's).

mod acceptor;
mod address;
mod ahead;
mod buffers;
pub(crate) mod clock;
mod connection;
mod counters;
mod drill;
mod farewell;
mod heap;
mod inputs;
mod large;
mod listener;
mod open_files;
mod quarantine;
mod report;
mod ring;
mod roster;
mod service;
mod settings;
mod shared;
mod together;
mod tongue;
mod transfer;
mod tuning;
mod upkeep;
mod worker;

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Poll, Waker};

pub use address::{Address, AddressError};
pub use clock::monotonic_ms;
pub use drill::DeadlyKey;
pub(crate) use drill::{Drill, DrillOrder};
pub(crate) use heap::share_one_heap;
pub use listener::{Entrance, ListenError, Listening};
pub(crate) use listener::{Stream, connect_at_once};
pub(crate) use open_files::use_all_open_files;
pub use open_files::{OpenFilesError, raise_open_files};
pub use quarantine::{QUARANTINE_MAX, Quarantined};
pub(crate) use ring::{Ring, SOCKETS_MAX};
pub use settings::{
    BUSY_POLL_MAX, CONNECTIONS_MAX, DEFAULT_ADDRESS, Io, Pinning, SettingError, Settings,
    WORKERS_MAX, usable_cores,
};
pub use tongue::Tongue;
pub use tuning::Tuning;

use crate::blackbox::{BlackBox, Boxes, Kind};
use crate::dialect::larder::Larder;
use crate::dialect::memcached::Memcached;
use crate::engine::{Cache, Session, TooManySessions};
use crate::sync::{Arc, Mutex, Weak};
use acceptor::Acceptor;
use counters::{Counters, Counts};
use listener::Listener;
use roster::Roster;
use shared::{Shared, Stage, Station};
use tongue::Dialects;
use worker::Worker;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The cache was made for fewer workers.
    #[error("the cache has no session for every worker: {0}")]
    Sessions(#[from] TooManySessions),
    /// The system refused threads or event queues.
    #[error("the system refused what {workers} workers need: {reason}")]
    System {
        /// The number of workers asked for.
        workers: usize,
        /// What the system said.
        reason: io::Error,
    },
}

/// A thread of the server ended by a panic; its connections are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thread of the server ended by a panic")]
pub struct ThreadDied;

/// A server to be started.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts serving `cache`, which needs a session for each worker, at the addresses of the
    /// settings.
    ///
    /// # Errors
    ///
    /// Settings that cannot work are refused before anything listens.
    pub fn start(settings: Settings, cache: Cache) -> Result<Running, StartError> {
        settings.check(cache.limits())?;
        let entrances = settings.bind()?;
        let workers = settings.workers;
        let boxes =
            Self::boxes(workers).map_err(|reason| StartError::System { workers, reason })?;
        Self::start_on(entrances, boxes, settings, cache)
    }

    /// Starts serving `cache` on sockets that listen already, whatever addresses the settings have, and
    /// with [`Server::boxes`] of the settings' workers.
    ///
    /// # Errors
    ///
    /// Settings that cannot work are refused.
    pub fn start_on(
        entrances: Vec<Entrance>,
        boxes: Boxes,
        mut settings: Settings,
        cache: Cache,
    ) -> Result<Running, StartError> {
        settings.listen = addresses(&entrances, Tongue::Larder);
        settings.memcached = addresses(&entrances, Tongue::Memcached);
        let limits = settings.check(cache.limits())?;
        settings.io = settings.io.settled();
        let workers = settings.workers;
        let system = |reason| StartError::System { workers, reason };
        let sessions = (0..workers)
            .map(|_| cache.session())
            .collect::<Result<Vec<_>, TooManySessions>>()?;
        // Without one more, the workers do all upkeep themselves.
        let upkeep = cache.session().ok();
        let listeners = entrances.into_iter().map(Listener::from).collect();
        let (polls, stations) = stations(&sessions, &boxes).map_err(system)?;
        let poll = Poll::new().map_err(system)?;
        let waker = Waker::new(poll.registry(), acceptor::WAKER).map_err(system)?;
        let dialects = Dialects {
            larder: Larder { limits },
            memcached: Memcached::default(),
        };
        let tended_by = upkeep.as_ref().map(Session::number);
        let shared = Shared::new(settings, dialects, cache, waker, stations, boxes, tended_by);
        let shared = Arc::new(shared);
        shared.warn_if_memory_is_short();
        let acceptor = Acceptor::new(poll, listeners, Arc::clone(&shared)).map_err(system)?;
        let mut running = Running {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        for (index, (poll, session)) in polls.into_iter().zip(sessions).enumerate() {
            let station = Arc::clone(&shared.stations[index]);
            let worker = Worker::new(poll, Arc::clone(&shared), station, session);
            let pinning = shared.settings.pinning;
            running
                .spawn(format!("larder-worker-{index}"), move || {
                    pin(pinning, index);
                    worker.run();
                })
                .map_err(system)?;
        }
        if let Some(session) = upkeep {
            let tended = Arc::clone(&shared);
            running
                .spawn("larder-upkeep".to_owned(), move || {
                    upkeep::run(&tended, session);
                })
                .map_err(system)?;
        }
        running
            .spawn("larder-accept".to_owned(), || acceptor.run())
            .map_err(system)?;
        Ok(running)
    }

    /// Makes the black boxes of a server with so many workers.
    ///
    /// # Errors
    ///
    /// Whatever the system says when it refuses the memory.
    pub fn boxes(workers: usize) -> io::Result<Boxes> {
        let create = |kind, number| BlackBox::create(kind, number, Counts::NAMES).map(Arc::new);
        let numbers = 0..u32::try_from(workers).unwrap_or(u32::MAX);
        Ok(Boxes {
            workers: numbers
                .map(|number| create(Kind::Worker, number))
                .collect::<io::Result<_>>()?,
            upkeep: create(Kind::Upkeep, 0)?,
            acceptor: create(Kind::Acceptor, 0)?,
        })
    }
}

/// Where a protocol is spoken.
fn addresses(entrances: &[Entrance], tongue: Tongue) -> Vec<Address> {
    let spoken = entrances
        .iter()
        .filter(|entrance| entrance.tongue == tongue);
    spoken
        .map(|entrance| entrance.socket.address().clone())
        .collect()
}

fn stations(sessions: &[Session], boxes: &Boxes) -> io::Result<(Vec<Poll>, Vec<Arc<Station>>)> {
    let (mut polls, mut stations) = (Vec::new(), Vec::new());
    for (session, black_box) in sessions.iter().zip(&boxes.workers) {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), worker::WAKER)?;
        let counters = Counters::of(Arc::clone(black_box));
        let (black_box, mailbox) = (Arc::clone(black_box), Mutex::new(Vec::new()));
        stations.push(Arc::new(Station {
            session: session.number(),
            counters,
            black_box,
            mailbox,
            roster: Roster::default(),
            waker,
        }));
        polls.push(poll);
    }
    Ok((polls, stations))
}

/// Keeps the calling thread on the core that is its own, where that was asked for.
fn pin(pinning: Pinning, index: usize) {
    if pinning == Pinning::Free {
        return;
    }
    let pinned = rustix::thread::sched_getaffinity(None).and_then(|usable| {
        let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&core| usable.is_set(core))
            .collect();
        let mut own = rustix::thread::CpuSet::new();
        own.set(cores[index % cores.len()]);
        rustix::thread::sched_setaffinity(None, &own)
    });
    if let Err(error) = pinned {
        tracing::warn!(%error, worker = index, "a worker cannot be pinned to a core");
    }
}

/// A server that is running. Dropped, it stops at once; [`Running::drain`] and [`Running::join`]
/// end it gently.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// The addresses where Larder's own protocol is spoken, with the ports that the system picked.
    pub fn addresses(&self) -> &[Address] {
        &self.shared.settings.listen
    }

    /// The addresses where memcached's protocol is spoken.
    pub fn memcached_addresses(&self) -> &[Address] {
        &self.shared.settings.memcached
    }

    /// The black boxes of its threads.
    pub fn boxes(&self) -> &Boxes {
        &self.shared.boxes
    }

    /// Begins to end: no new connections, clients are told, what was received is answered, and all
    /// is closed within the drain timeout.
    pub fn drain(&self) {
        self.shared.drain();
    }

    /// A handle by which another thread can drain the server, or change what can change.
    pub fn drainer(&self) -> Drainer {
        Drainer {
            shared: Arc::downgrade(&self.shared),
        }
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    ///
    /// A thread of the server panicked outside of any connection.
    pub fn join(mut self) -> Result<(), ThreadDied> {
        self.wait()
    }

    fn wait(&mut self) -> Result<(), ThreadDied> {
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            outcome = outcome.and(thread.join().map_err(|_| ThreadDied));
        }
        outcome
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let last_words = StopOnPanic(Arc::clone(&self.shared));
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            run();
            drop(last_words);
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.advance(Stage::Stopped);
        // Whoever wanted to know how it ended has joined.
        let _ = self.wait();
    }
}

/// Drains a server, or changes it, from another thread, such as the one that waits for signals. It does not keep
/// the server or its cache: where that has ended, it does nothing.
#[derive(Debug, Clone)]
pub struct Drainer {
    shared: Weak<Shared>,
}

impl Drainer {
    /// As [`Running::drain`].
    pub fn drain(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.drain();
        }
    }

    /// How long a drain may take, as it counts now: [`Tuning::drain_timeout`]. Of a server that has ended, no time.
    pub fn drain_timeout(&self) -> Duration {
        let shared = self.shared.upgrade();
        shared.map_or(Duration::ZERO, |shared| {
            Duration::from_millis(shared.tuned.drain_ms())
        })
    }

    /// Changes what can change while a server runs. Deadlines that run are compared with what counts
    /// when they are looked at; connections that are open stay.
    ///
    /// # Errors
    ///
    /// A setting cannot work; then none is changed.
    pub fn tune(&self, tuning: &Tuning) -> Result<(), SettingError> {
        tuning.check()?;
        if let Some(shared) = self.shared.upgrade() {
            shared.tuned.set(tuning);
        }
        Ok(())
    }
}

/// Ends the whole server where one of its threads panics: a server that has lost a worker would
/// leave some clients unanswered for ever.
struct StopOnPanic(Arc<Shared>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.advance(Stage::Stopped);
        }
    }
}
