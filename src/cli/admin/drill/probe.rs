//! The probe: a few clients that read and write while a drill goes on, and note what they meet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use larder_client::{Cause, Client, Config, Error};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::ending::Failure;
use crate::sync::{Arc, Mutex};

/// Connections for each worker: the server gives each worker some, since it gives new ones to whoever
/// has the fewest.
const CONNECTIONS_PER_WORKER: usize = 2;

/// LIMIT: connections of the probe.
const CONNECTIONS_MAX: usize = 128;

/// Items that are to be there afterwards.
const KEPT_ITEMS: usize = 1000;

/// LIMIT: how long these stay if nobody removes them.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// LIMIT: how long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// LIMIT: how long each of those may take that fill and read back.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two rounds of a connection.
const PAUSE: Duration = Duration::from_millis(5);

/// Values that do not fit into what a worker reads at a time, many together: what is left of them has to
/// be held.
const BULKY_BYTES: usize = 7_000;
const BULKY_AT_A_TIME: usize = 32;

/// What one connection has met.
#[derive(Debug, Clone)]
struct Meeting {
    answers: u64,
    /// The last answer that was as it should be.
    last: Instant,
    longest_gap: Duration,
    /// The first such answer since somebody last asked for one.
    first_since: Option<Instant>,
}

/// What all of them have met.
#[derive(Debug, Default)]
struct Notes {
    meetings: Vec<Meeting>,
    errors: BTreeMap<String, u64>,
    wrong_answers: u64,
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Probe {
    notes: Arc<Mutex<Notes>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    patient: Client,
    prefix: String,
}

/// What they met.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) connections: usize,
    pub(super) answers: u64,
    pub(super) longest_gaps: Vec<Duration>,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) wrong_answers: u64,
    pub(super) items: usize,
    pub(super) items_kept: usize,
}

impl Probe {
    /// Stores what is to be kept, and begins.
    pub(super) async fn begin(url: &str, workers: usize, is_bulky: bool) -> Result<Self, Failure> {
        let config = Config {
            request_timeout: PATIENT_TIMEOUT,
            connect_timeout: PATIENT_TIMEOUT,
            name: "larder drill".to_owned(),
            ..Config::default()
        };
        let patient = Client::connect_with(url, config.clone()).await?;
        let prefix = format!("larder-drill:{}", std::process::id());
        for number in 0..KEPT_ITEMS {
            let (key, value) = (format!("{prefix}:{number}"), value_of(number));
            patient.set(key, value).expire_in(KEPT_FOR).await?;
        }
        let config = Config {
            request_timeout: REQUEST_TIMEOUT,
            connect_timeout: REQUEST_TIMEOUT,
            // Each failure is to be seen.
            resends_max: 0,
            ..config
        };
        let (stop, stopped) = watch::channel(false);
        let mut probe = Self {
            notes: Arc::default(),
            stop,
            tasks: JoinSet::new(),
            patient,
            prefix,
        };
        let connections = (workers * CONNECTIONS_PER_WORKER).clamp(1, CONNECTIONS_MAX);
        for number in 0..connections {
            let client = Client::connect_with(url, config.clone()).await?;
            probe.notes.lock().meetings.push(Meeting::new());
            let caller = Caller {
                client,
                number,
                key: format!("{}:caller-{number}", probe.prefix),
                notes: Arc::clone(&probe.notes),
                is_bulky: is_bulky && number % 2 == 1,
                unknown: Vec::new(),
            };
            probe.tasks.spawn(caller.call_until(stopped.clone()));
        }
        Ok(probe)
    }

    /// Begins to count anew.
    pub(super) fn count_from_now_on(&self) {
        let mut notes = self.notes.lock();
        notes.errors.clear();
        for meeting in &mut notes.meetings {
            *meeting = Meeting::new();
        }
    }

    /// Waits for the next good answer on every connection.
    pub(super) fn ask_for_answers(&self) {
        for meeting in &mut self.notes.lock().meetings {
            meeting.first_since = None;
        }
    }

    /// Whether each had one since then.
    pub(super) fn all_are_answered(&self) -> bool {
        let notes = self.notes.lock();
        notes.meetings.iter().all(|one| one.first_since.is_some())
    }

    /// Ends, and looks what has been kept.
    pub(super) async fn end(mut self) -> Probed {
        // From here on nobody asks, and so nobody waits.
        let gaps = (self.notes.lock().meetings.iter().map(Meeting::gap)).collect();
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        let mut items_kept = 0;
        for number in 0..KEPT_ITEMS {
            let key = format!("{}:{number}", self.prefix);
            if let Ok(Some(item)) = self.patient.get(&key).await {
                items_kept += usize::from(*item.value == *value_of(number).as_bytes());
            }
            // It ends by itself as well.
            let _ = self.patient.delete(&key).await;
        }
        let notes = self.notes.lock();
        Probed {
            connections: notes.meetings.len(),
            answers: notes.meetings.iter().map(|one| one.answers).sum(),
            longest_gaps: gaps,
            errors: notes.errors.clone(),
            wrong_answers: notes.wrong_answers,
            items: KEPT_ITEMS,
            items_kept,
        }
    }
}

fn value_of(number: usize) -> String {
    format!("value {number} of a drill")
}

impl Meeting {
    fn new() -> Self {
        Self {
            answers: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
            first_since: None,
        }
    }

    fn note(&mut self, now: Instant) {
        self.answers += 1;
        self.longest_gap = self.longest_gap.max(now - self.last);
        self.last = now;
        self.first_since.get_or_insert(now);
    }

    /// The longest time without an answer, the last one that has not ended included.
    fn gap(&self) -> Duration {
        self.longest_gap.max(self.last.elapsed())
    }
}

/// One connection.
struct Caller {
    client: Client,
    number: usize,
    key: String,
    notes: Arc<Mutex<Notes>>,
    is_bulky: bool,
    /// Values that were sent, and nobody knows whether they were stored, or will be.
    unknown: Vec<String>,
}

impl Caller {
    async fn call_until(mut self, stopped: watch::Receiver<bool>) {
        let mut round = 0_u64;
        while !*stopped.borrow() {
            round += 1;
            let called = match self.is_bulky {
                true => self.store_bulky().await,
                false => self.set_and_get(round).await,
            };
            self.note(called);
            tokio::time::sleep(PAUSE).await;
        }
        let _ = self.client.delete(&self.key).await;
    }

    /// Stores a value and reads it back; says whether it is the same.
    async fn set_and_get(&mut self, round: u64) -> Result<bool, Error> {
        let value = round.to_string();
        let stored = self.client.set(&self.key, value.clone());
        if let Err(error) = stored.expire_in(KEPT_FOR).await {
            if !error.is_not_executed() {
                self.unknown.push(value);
            }
            return Err(error);
        }
        let Some(found) = self.client.get(&self.key).await? else {
            // It was evicted meanwhile: no wrong answer.
            return Ok(true);
        };
        let is = |value: &String| *found.value == *value.as_bytes();
        Ok(is(&value) || self.unknown.iter().any(is))
    }

    async fn store_bulky(&self) -> Result<bool, Error> {
        let store = |_| async {
            let stored = self.client.set(&self.key, vec![1; BULKY_BYTES]);
            stored.expire_in(KEPT_FOR).await.map(|_| ())
        };
        let stored = futures_all((0..BULKY_AT_A_TIME).map(store)).await;
        stored.into_iter().collect::<Result<(), _>>().map(|()| true)
    }

    fn note(&self, called: Result<bool, Error>) {
        let mut notes = self.notes.lock();
        match called {
            Ok(true) => notes.meetings[self.number].note(Instant::now()),
            Ok(false) => notes.wrong_answers += 1,
            Err(error) => *notes.errors.entry(kind_of(&error)).or_default() += 1,
        }
    }
}

/// Waits for all of them at once.
async fn futures_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_over = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => is_over = false,
                }
            }
        }
        match is_over {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    let outputs = waiting.into_iter().filter_map(|(_, output)| output);
    outputs.collect()
}

/// What an error is counted as.
fn kind_of(error: &Error) -> String {
    let cause = |cause: &Cause| match cause {
        Cause::Unreachable(_) => "no connection",
        Cause::ConnectionLost(_) => "connection lost",
        Cause::ConnectionClosed { .. } => "connection closed by the server",
        Cause::Protocol(_) => "broken protocol",
        Cause::Timeout { .. } => "no answer in time",
        Cause::Draining => "draining",
        _ => "other",
    };
    match error {
        Error::NotExecuted(why) => format!("{}, not executed", cause(why)),
        Error::Unknown(why) => format!("{}, unknown whether executed", cause(why)),
        Error::Refused { status, .. } => format!("refused: {status}"),
        _ => "other".to_owned(),
    }
}
