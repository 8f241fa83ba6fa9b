//! Puts a load on a server: threads, their connections, a common start, and a watch on the server.

use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::closed_loop::ClosedLoop;
use super::connection::{Connection, Lost, Orders, Values};
use super::keys::Keyspace;
use super::open_loop;
use super::patience::Patience;
use super::process::{self, Cost, Watch};
use super::progress::{Interval, Progress};
use super::schedule::Schedule;
use super::site::{Site, cannot_connect};
use super::source::{Budget, Choice, Distribution, Draw, Ratio, Source};
use super::stop::Stop;
use super::tally::Tally;
use crate::cli::ending::Failure;
use crate::sync::{Arc, Mutex};

/// LIMIT: connections that a thread opens at a time; servers bound how many may wait to be accepted.
const CONNECTING_MAX: usize = 64;

/// A load.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) work: Work,
    pub(super) keyspace: Arc<Keyspace>,
    pub(super) values: Values,
    pub(super) connections: usize,
    pub(super) depth: usize,
    /// 1 unless multi-gets were asked for.
    pub(super) keys_per_get: usize,
    /// Operations per second of all connections together; `None` is as many as there are replies to.
    pub(super) rate: Option<f64>,
    pub(super) threads: usize,
    /// LIMIT: how long replies may still come after the end of a run; those that do not are counted. So
    /// long a run without a duration goes on without a reply.
    pub(super) timeout: Duration,
}

impl Load {
    /// How long it lasts, if it ends by time.
    fn duration(&self) -> Option<Duration> {
        match self.work {
            Work::Mixed {
                end: End::After(duration),
                ..
            } => Some(duration),
            _ => None,
        }
    }
}

/// What is done under a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Work {
    /// Operations drawn at random.
    Mixed {
        distribution: Distribution,
        ratio: Ratio,
        end: End,
    },
    /// Every key is written once.
    WriteAll,
    /// Every key is read once.
    ReadAll,
}

/// When a mixed load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    After(Duration),
    Requests(u64),
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) elapsed: Duration,
    /// What the load cost the server.
    pub(super) server: Result<Cost, String>,
    /// What it cost this process.
    pub(super) generator_cpu: Duration,
    pub(super) intervals: Vec<Interval>,
}

/// A runtime for one thread.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Puts a load on a server and waits for its end.
pub(super) fn run(
    site: &Site,
    load: &Load,
    stop: &Stop,
    progress: Progress,
) -> Result<Outcome, Failure> {
    let threads = load.threads.clamp(1, load.connections.max(1));
    let budget = Arc::new(Budget::new(match load.work {
        Work::Mixed {
            end: End::Requests(requests),
            ..
        } => requests,
        Work::Mixed {
            end: End::After(_), ..
        } => u64::MAX,
        Work::WriteAll | Work::ReadAll => load.keyspace.keys,
    }));
    let (report, reports) = mpsc::channel();
    std::thread::scope(|scope| {
        let (mut starts, mut tallies) = (Vec::new(), Vec::new());
        for thread in 0..threads {
            let tally = Arc::new(Mutex::new(Tally::new(Instant::now())));
            let (start, started) = mpsc::channel();
            let seat = Seat {
                site,
                load,
                connections: thread..load.connections,
                step: threads,
                budget: Arc::clone(&budget),
                stop: stop.clone(),
                tally: Arc::clone(&tally),
                report: report.clone(),
                started,
            };
            let name = format!("larder-bench-{thread}");
            std::thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, || seat.work())?;
            starts.push(start);
            tallies.push(tally);
        }
        drop(report);
        for _ in 0..threads {
            match reports.recv() {
                Ok(Report::Connected) => {}
                Ok(Report::Failed(failure)) => return Err(failure),
                Ok(Report::Finished) | Err(_) => return Err(stopped_early()),
            }
        }
        let before = site.watch.as_ref().map(Watch::read);
        let generator_before = process::own_cpu();
        let started = Instant::now();
        for start in &starts {
            // A thread that is gone is found out below.
            let _ = start.send(started);
        }
        let intervals = watch_progress(progress, &tallies, &reports, threads, started);
        let elapsed = started.elapsed();
        let generator_cpu = process::own_cpu().saturating_sub(generator_before);
        let after = site.watch.as_ref().map(Watch::read);
        let mut tally = Tally::new(started);
        tallies.iter().for_each(|other| tally.add(&other.lock()));
        if let Some(duration) = load.duration() {
            // What connections were to send that were lost before that was due.
            let is_interrupted = stop.is_asked();
            tally.count_orphaned(if is_interrupted { elapsed } else { duration });
        }
        let server = match (before, after) {
            (Ok(before), Ok(after)) => Cost::between(before, after),
            (Err(why), _) | (_, Err(why)) => Err(why.clone()),
        };
        Ok(Outcome {
            tally,
            elapsed,
            server,
            generator_cpu,
            intervals,
        })
    })
}

fn stopped_early() -> Failure {
    Failure::unreachable("a thread of the generator ended early")
}

/// Shows how the run goes until all threads are through.
fn watch_progress(
    progress: Progress,
    tallies: &[Arc<Mutex<Tally>>],
    reports: &mpsc::Receiver<Report>,
    threads: usize,
    started: Instant,
) -> Vec<Interval> {
    let mut line = progress.begin(started);
    let mut running = threads;
    while running > 0 {
        match reports.recv_timeout(line.until_next()) {
            Ok(_) => running -= 1,
            Err(mpsc::RecvTimeoutError::Timeout) => line.advance(tallies),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    line.end(tallies)
}

/// What a thread tells of itself.
#[derive(Debug)]
enum Report {
    Connected,
    Failed(Failure),
    Finished,
}

/// One thread of a load.
struct Seat<'r> {
    site: &'r Site,
    load: &'r Load,
    /// The numbers of its connections, every `step`-th of these.
    connections: std::ops::Range<usize>,
    step: usize,
    budget: Arc<Budget>,
    stop: Stop,
    tally: Arc<Mutex<Tally>>,
    report: mpsc::Sender<Report>,
    started: mpsc::Receiver<Instant>,
}

/// The connections of one thread, with what drives them.
enum Crew {
    Closed(Box<ClosedLoop>),
    Open {
        runtime: Runtime,
        connections: Vec<Connection>,
        /// Operations per second of all connections of the load.
        rate: f64,
    },
}

impl Seat<'_> {
    fn work(self) {
        let report = self.report.clone();
        // Whoever waits for the report knows what it means that it does not come.
        let _ = report.send(match self.connect() {
            Err(failure) => Report::Failed(failure),
            Ok(crew) => {
                let _ = report.send(Report::Connected);
                let Ok(started) = self.started.recv() else {
                    return;
                };
                self.tally.lock().restart(started);
                if let Some(why) = self.generate(crew, started) {
                    self.tally.lock().count_lost(why);
                }
                Report::Finished
            }
        });
    }

    fn connect(&self) -> Result<Crew, Failure> {
        let runtime = runtime()?;
        let count = self.numbers().count();
        let Load {
            keyspace, timeout, ..
        } = self.load;
        let opening = open_all(self.site, keyspace, count, *timeout);
        let connections = runtime.block_on(async {
            tokio::select! {
                connections = opening => connections,
                () = self.stop.wait() => Err(Stop::early()),
            }
        })?;
        Ok(match self.load.rate {
            None => {
                let sources = self.numbers().map(|number| self.source(number));
                let members = connections.into_iter().zip(sources);
                Crew::Closed(Box::new(ClosedLoop::new(members)?))
            }
            Some(rate) => Crew::Open {
                runtime,
                connections,
                rate,
            },
        })
    }

    /// The numbers of its connections.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        self.connections.clone().step_by(self.step)
    }

    /// Generates the load; says why, where replies are missing at its end.
    fn generate(&self, crew: Crew, started: Instant) -> Option<String> {
        let orders = Orders {
            keyspace: Arc::clone(&self.load.keyspace),
            depth: self.load.depth,
            keys_per_get: self.load.keys_per_get,
            values: self.load.values,
            started,
            deadline: self.load.duration().map(|duration| started + duration),
            stop: self.stop.clone(),
            tally: Arc::clone(&self.tally),
        };
        let patience = Patience::new(self.load.timeout, started);
        match crew {
            Crew::Closed(closed_loop) => closed_loop.work(&orders, patience),
            Crew::Open {
                runtime,
                connections,
                rate,
            } => runtime.block_on(self.keep_pace(connections, rate, &orders, patience)),
        }
    }

    /// Generates a load of so many operations per second.
    async fn keep_pace(
        &self,
        connections: Vec<Connection>,
        rate: f64,
        orders: &Orders,
        mut patience: Patience,
    ) -> Option<String> {
        let mut tasks = JoinSet::new();
        for (number, connection) in self.numbers().zip(connections) {
            let schedule = Schedule::new(rate, self.load.connections, number);
            let source = self.source(number);
            tasks.spawn(open_loop::work(
                connection,
                source,
                orders.clone(),
                schedule,
            ));
        }
        let over = async {
            loop {
                tokio::time::sleep(patience.pause()).await;
                if let ControlFlow::Break(missing) = patience.look(Instant::now(), orders) {
                    return missing;
                }
            }
        };
        tokio::select! {
            _ = tasks.join_all() => None,
            missing = over => missing,
        }
    }

    fn source(&self, number: usize) -> Source {
        let choice = match self.load.work {
            Work::WriteAll => Choice::WriteAll,
            Work::ReadAll => Choice::ReadAll,
            Work::Mixed {
                distribution,
                ratio,
                ..
            } => Choice::Mixed(Box::new(Draw::new(
                &self.load.keyspace,
                distribution,
                ratio,
                number as u64,
            ))),
        };
        Source {
            choice,
            budget: Arc::clone(&self.budget),
            keys_per_get: self.load.keys_per_get,
        }
    }
}

/// Opens connections, some at a time.
pub(super) async fn open_all(
    site: &Site,
    keyspace: &Arc<Keyspace>,
    count: usize,
    timeout: Duration,
) -> Result<Vec<Connection>, Failure> {
    let mut opened = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for _ in 0..count {
        if opening.len() == CONNECTING_MAX {
            opened.extend(next_opened(site, &mut opening).await?);
        }
        let (place, keyspace) = (site.place.clone(), Arc::clone(keyspace));
        let protocol = site.target.protocol;
        opening.spawn(async move { Connection::open(&place, protocol, &keyspace, timeout).await });
    }
    while let Some(connection) = next_opened(site, &mut opening).await? {
        opened.push(connection);
    }
    Ok(opened)
}

async fn next_opened(
    site: &Site,
    opening: &mut JoinSet<Result<Connection, Lost>>,
) -> Result<Option<Connection>, Failure> {
    match opening.join_next().await {
        None => Ok(None),
        Some(Ok(Ok(connection))) => Ok(Some(connection)),
        Some(Ok(Err(lost))) => Err(cannot_connect(&site.target, &lost)),
        Some(Err(_)) => Err(stopped_early()),
    }
}
