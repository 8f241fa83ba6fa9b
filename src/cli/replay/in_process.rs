//! A replay against a cache in this process.
//!
//! The requests are dealt to sessions. *In turn*, one thread drives all sessions, request `i` on
//! session `i mod N`: every key comes by every session, as it does in a server, and the outcome is
//! the same in every run. *In parallel*, each session has a thread of its own and gets the requests
//! of its share of the keys, so that no request overtakes another one of the same key; how far the
//! sessions are apart is up to the system.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::Batch;
use super::driver::Driver;
use super::figures::Figures;
use super::tally::Tally;
use super::upkeep::Schedule;
use crate::cli::ending::Failure;
use crate::engine::{Cache, Config};
use crate::sync::Arc;

/// LIMIT: batches that wait for a thread; how far threads can be apart.
const BATCHES_WAITING: usize = 2;

/// Who runs the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dealing {
    InTurn,
    Parallel,
}

/// One combination of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) memory_bytes: u64,
    pub(super) threads: u32,
}

/// A cache with its sessions, and the requests on their way to it.
#[derive(Debug)]
pub(super) struct Run {
    setting: Setting,
    cache: Cache,
    crew: Crew,
}

#[derive(Debug)]
enum Crew {
    InTurn {
        drivers: Vec<Driver>,
        schedule: Schedule,
    },
    Parallel(Vec<Worker>),
}

/// A thread with a session.
#[derive(Debug)]
struct Worker {
    batches: SyncSender<Arc<Batch>>,
    thread: JoinHandle<Driver>,
}

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) setting: Option<Setting>,
    pub(super) tally: Tally,
    pub(super) figures: Figures,
}

impl Run {
    pub(super) fn start(setting: Setting, dealing: Dealing, seed: u64) -> Result<Self, Failure> {
        let cache = Cache::new(Config {
            sessions_max: setting.threads,
            hash_seed: Some(seed),
            first_version: Some(1),
            ..Config::new(setting.memory_bytes)
        })
        .map_err(|error| Failure::usage(error.to_string()))?;
        let mut drivers = Vec::new();
        for _ in 0..setting.threads {
            let driver = Driver::new(&cache, setting.memory_bytes);
            drivers.push(driver.map_err(|error| Failure::usage(error.to_string()))?);
        }
        let crew = match dealing {
            Dealing::InTurn => Crew::InTurn {
                drivers,
                schedule: Schedule::default(),
            },
            Dealing::Parallel => Crew::Parallel(
                (0..)
                    .zip(drivers)
                    .map(|(number, driver)| Worker::start(number, setting.threads, driver))
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Self {
            setting,
            cache,
            crew,
        })
    }

    /// Carries a batch out, or hands it to those who do.
    pub(super) fn feed(&mut self, batch: &Arc<Batch>) {
        match &mut self.crew {
            Crew::InTurn { drivers, schedule } => {
                let sessions = drivers.len();
                for (number, request) in (batch.first_number..).zip(&batch.requests) {
                    drivers[0].keep_up(schedule, request);
                    drivers[(number % sessions as u64) as usize].execute(request);
                }
            }
            Crew::Parallel(workers) => {
                for worker in workers {
                    // A thread that is gone is reported at the end.
                    let _ = worker.batches.send(Arc::clone(batch));
                }
            }
        }
    }

    /// Waits for what is under way and adds it up.
    pub(super) fn finish(self) -> Result<Outcome, Failure> {
        let drivers = match self.crew {
            Crew::InTurn { drivers, .. } => drivers,
            Crew::Parallel(workers) => workers
                .into_iter()
                .map(Worker::finish)
                .collect::<Result<_, _>>()?,
        };
        let mut tally = Tally::default();
        for driver in &drivers {
            tally.add(driver.tally());
        }
        Ok(Outcome {
            setting: Some(self.setting),
            tally,
            figures: Figures::of(&self.cache),
        })
    }
}

impl Worker {
    fn start(number: u64, threads: u32, driver: Driver) -> Result<Self, Failure> {
        let (batches, waiting) = sync_channel(BATCHES_WAITING);
        let thread = std::thread::Builder::new()
            .name(format!("larder-replay-{number}"))
            .spawn(move || drive(driver, &waiting, number, threads.into()))?;
        Ok(Self { batches, thread })
    }

    fn finish(self) -> Result<Driver, Failure> {
        drop(self.batches);
        let broken = |_| Failure::from(std::io::Error::other("a thread of the replay panicked"));
        self.thread.join().map_err(broken)
    }
}

/// Carries out this thread's share of every batch; the first thread sees to the upkeep.
fn drive(mut driver: Driver, batches: &Receiver<Arc<Batch>>, number: u64, threads: u64) -> Driver {
    let mut schedule = Schedule::default();
    while let Ok(batch) = batches.recv() {
        for request in &batch.requests {
            if number == 0 {
                driver.keep_up(&mut schedule, request);
            }
            if xxh3_64_with_seed(request.key.bytes(), 0) % threads == number {
                driver.execute(request);
            }
        }
    }
    driver
}
