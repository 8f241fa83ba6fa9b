//! The process outside: it holds what must outlive the process that serves, and starts that again.
//!
//! ```text
//!              descriptors 3.. : sockets, memory              worker process
//!  supervisor ─────────────────────────────────────────────> larder serve --no-supervisor
//!      ^                                                          │
//!      └────────────── notify socket: keep this, I serve ─────────┘
//! ```
//!
//! The supervisor binds the sockets, and never looks at the cache's contents: it is the worker that
//! makes the memory, since only a program knows the layout that it works with, and the supervisor that
//! keeps it. (To [`watch`], it maps its counters to be read, if it knows them.) So whatever kills a worker cannot kill the supervisor, and what a worker understands of the
//! memory may change from one program to the next. Both sides speak systemd's protocol
//! ([`handover`], [`notify`]), so systemd can take the supervisor's place.
//!
//! One thread, one event loop ([`run`]); workers are processes in a group of their own, and are killed
//! with it. What happens is decided by one state ([`Worker`]) and two lists: the [`Deaths`] of the
//! last minute, and the steps of an [`upgrade`].

mod admin;
mod callers;
mod deaths;
mod drill;
mod handover;
mod journal;
mod kept;
mod launch;
mod metrics;
mod notify;
mod post;
mod quarantine;
mod reception;
mod sheet;
mod sight;
mod signals;
mod status;
mod upgrade;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, wait};

pub(crate) use deaths::Limits as DeathLimits;
pub(crate) use handover::{BLACK_BOX, Handed, MEMORY};
pub(crate) use launch::die_with_supervisor;
pub(crate) use notify::Watcher;
pub(crate) use sheet::Sheet;
pub(crate) use signals::Ears;
pub(crate) use watch::{Postmortem, REPORT, RecentLog, StallLimits, Why, can_keep_evidence};

use crate::engine::Config;
use crate::server::{Entrance, Listening, monotonic_ms};
use crate::sync::Arc;
use admin::{Desk, Order};
use deaths::{Deaths, Next};
use journal::{Ended, Journal, Phase};
use kept::Kept;
use launch::{Launch, Program};
use post::{Note, Post};
use quarantine::Quarantine;
use sight::{Seen, Sight};
use signals::Signals;
use upgrade::Upgrade;
use watch::Watch;

/// The option that makes a worker of a program.
pub(crate) const WORKER_OPTION: &str = "--no-supervisor";

/// The option that has a worker refuse a fingerprint for a while.
const REFUSE_OPTION: &str = "--refuse";

/// The option that makes a key deadly to a worker.
const DEADLY_OPTION: &str = "--deadly-key";

/// Children of this thread that have ended. What another thread traces is no child of this one: that it
/// stands still for a moment is not told here.
const ENDS_OF_CHILDREN: WaitOptions =
    WaitOptions::NOHANG.union(WaitOptions::from_bits_retain(libc::__WNOTHREAD as u32));

/// LIMIT: how much longer than its drain a worker may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// After this long it is tried again to start a worker process, where the system has refused it.
const START_AGAIN: Duration = Duration::from_secs(1);

/// What a supervisor works with.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What can change.
    pub(crate) terms: Terms,
    /// Reads the settings anew.
    pub(crate) reread: Reread,
    /// The sockets that workers serve.
    pub(crate) entrances: Vec<Entrance>,
    /// Where the admin endpoint answers; nowhere: there is none.
    pub(crate) admin: Vec<Listening>,
    /// The folder for evidence of hangs and deaths; `None`: there is none.
    pub(crate) evidence: Option<PathBuf>,
    /// The last lines of the log.
    pub(crate) recent_log: RecentLog,
    /// Whether workers may be asked to fail.
    pub(crate) allow_drills: bool,
}

/// What a supervisor starts and ends workers by; it may change while it runs.
#[derive(Debug)]
pub(crate) struct Terms {
    /// The command line of this process, the program's name first; the worker's has one option more.
    pub(crate) arguments: Vec<OsString>,
    /// What the cache is made by of a worker that is started by these: to find one's way to its counters.
    pub(crate) config: Config,
    /// How long a worker may take until it serves.
    pub(crate) start_timeout: Duration,
    /// How long a worker may take to end once it was told to.
    pub(crate) drain_timeout: Duration,
    /// How many deaths of workers lead to what.
    pub(crate) deaths: DeathLimits,
    /// How long is refused what two workers died of.
    pub(crate) refuse_for: Duration,
    /// How long each step of an upgrade may take.
    pub(crate) upgrade_timeout: Duration,
    /// How long threads may not go on.
    pub(crate) stalls: StallLimits,
}

/// Reads the settings anew, or says why that cannot be.
pub(crate) struct Reread(pub(crate) Box<dyn Fn() -> Result<Terms, String>>);

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

/// Why a supervisor could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    /// The system refuses what the supervisor itself needs.
    #[error("the supervisor cannot work: {0}")]
    System(#[from] io::Error),
    /// The worker process could not be started.
    #[error("the worker process cannot be started: {0}")]
    Start(io::Error),
    /// Worker processes died again and again.
    #[error(
        "giving up: {deaths} worker processes died within a minute, the last one {how}; \
         {more}"
    )]
    GaveUp {
        /// How many.
        deaths: usize,
        /// How the last one did.
        how: String,
        /// Where there is more about it.
        more: String,
    },
}

/// Starts workers until one ends as it was told to; gives the exit code that tells how.
///
/// # Errors
///
/// The system refuses something, or workers die again and again.
pub(crate) fn run(plan: Plan, ears: Ears) -> Result<u8, SuperviseError> {
    let (runtime, signals) = ears.apart();
    runtime.block_on(async { Supervisor::new(plan)?.run(signals).await })
}

/// The worker process, or the time until there is one.
#[derive(Debug)]
enum Worker {
    None { start_at: Instant },
    Running(Running),
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    started: Instant,
    is_ready: bool,
    /// When it is killed, unless it is ready before, or has ended.
    killed_at: Option<Instant>,
    /// Whether it was told to end.
    is_ending: bool,
    /// Whether the settings were read anew before it could be told.
    is_behind: bool,
    /// What its cache is made by.
    config: Config,
}

#[derive(Debug)]
struct Supervisor {
    plan: Plan,
    program: Program,
    post: Post,
    kept: Kept,
    sheet: Sheet,
    deaths: Deaths,
    quarantine: Quarantine,
    /// The seed of the workers' key hash, in hexadecimal.
    hash_seed: String,
    /// The key that workers are to die of, and how: `DRILL:KEY`.
    deadly: Option<String>,
    worker: Worker,
    upgrade: Upgrade,
    journal: Journal,
    watch: Watch,
    sight: Sight,
    /// Whether this process was told to end.
    is_ending: bool,
    /// The signal by which it was told so once more.
    cut_short_by: Option<Signal>,
    /// Whether a worker ever served.
    has_served: bool,
    /// When the last worker ended.
    ended_at: Option<Instant>,
}

impl Supervisor {
    fn new(mut plan: Plan) -> io::Result<Self> {
        let entrances = std::mem::take(&mut plan.entrances);
        let journal = Journal::new();
        Ok(Self {
            watch: Watch::new(&plan, &journal)?,
            program: Program::own()?,
            post: Post::open()?,
            kept: Kept::new(entrances),
            sheet: Sheet::new(&plan.terms.arguments)?,
            deaths: Deaths::new(plan.terms.deaths),
            quarantine: Quarantine::default(),
            hash_seed: format!("{:016x}", RandomState::new().hash_one(0)),
            deadly: None,
            worker: Worker::None {
                start_at: Instant::now(),
            },
            upgrade: Upgrade::None,
            journal,
            sight: Sight::default(),
            is_ending: false,
            cut_short_by: None,
            has_served: false,
            ended_at: None,
            plan,
        })
    }

    async fn run(mut self, mut signals: Signals) -> Result<u8, SuperviseError> {
        let (mut desk, mut orders) = Desk::new(&self.journal, &self.sight, self.kept.entrances());
        desk.allow_drills = self.plan.allow_drills;
        admin::open(std::mem::take(&mut self.plan.admin), desk)?;
        self.start()?;
        loop {
            let due = self.due();
            let due = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                note = self.post.next() => {
                    let (sender, note) = note?;
                    self.hear(sender, note);
                }
                _ = signals.child.recv() => {
                    if let Some(code) = self.reap(&mut signals).await? {
                        return Ok(code);
                    }
                }
                _ = signals.term.recv() => {
                    if let Some(code) = self.end(Signal::TERM) {
                        return Ok(code);
                    }
                }
                _ = signals.int.recv() => {
                    if let Some(code) = self.end(Signal::INT) {
                        return Ok(code);
                    }
                }
                _ = signals.hup.recv() => self.reload(),
                _ = signals.usr2.recv() => {
                    let path = self.program.path().to_owned();
                    self.begin_upgrade(&path, None);
                }
                Some(order) = orders.recv() => self.carry_out(order),
                () = due => self.on_time()?,
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Upgrade { binary, answer } => {
                let path = binary.unwrap_or_else(|| self.program.path().to_owned());
                self.begin_upgrade(&path, Some(answer));
            }
            Order::Deadly { key, answer } => self.make_deadly(key, answer),
            Order::Probe { answer } => {
                let phase = self.journal.read().phase;
                self.watch.answer_probe(phase, answer);
            }
            // Whoever asked may have gone, here and below.
            Order::Ready { answer } => {
                let phase = self.journal.read().phase;
                let _ = answer.send(self.watch.why_not_ready(phase));
            }
            Order::Why { worker, answer } => drop(answer.send(self.watch.why(worker))),
            Order::Postmortem { answer } => self.watch.last(answer),
        }
    }

    /// When something has to be done although nothing happens.
    fn due(&self) -> Option<Instant> {
        let of_worker = match &self.worker {
            Worker::None { start_at } => Some(*start_at),
            Worker::Running(running) => running.killed_at,
        };
        let steps = [of_worker, self.upgrade.deadline(), self.watch.due()];
        steps.into_iter().flatten().min()
    }

    fn on_time(&mut self) -> Result<(), SuperviseError> {
        let now = Instant::now();
        match &mut self.worker {
            Worker::None { start_at } if *start_at <= now => self.start()?,
            Worker::Running(running) if running.killed_at.is_some_and(|at| at <= now) => {
                running.killed_at = None;
                let pid = running.pid.as_raw_nonzero().get();
                let late_with = match running.is_ending {
                    true => "its end",
                    false => "its start",
                };
                tracing::warn!(pid, "the worker process is late with {late_with}; killed");
                self.kill_worker();
            }
            _ => {}
        }
        self.upgrade_on_time(now);
        self.watch_on_time(now);
        Ok(())
    }

    /// Starts a worker process.
    fn start(&mut self) -> Result<(), SuperviseError> {
        let started = Instant::now();
        let mut arguments = self.plan.terms.arguments.clone();
        arguments.push(WORKER_OPTION.into());
        let refused = self
            .quarantine
            .refused(monotonic_ms(), self.plan.terms.refuse_for);
        let refused = refused.iter();
        arguments.extend(refused.map(|one| format!("{REFUSE_OPTION}={one}").into()));
        let deadly = self.deadly.iter();
        arguments.extend(deadly.map(|key| format!("{DEADLY_OPTION}={key}").into()));
        let launch = Launch {
            program: &self.program,
            arguments: &arguments,
            variables: &[
                (notify::SOCKET_VARIABLE, self.post.name().as_ref()),
                (handover::HASH_SEED_VARIABLE, self.hash_seed.as_ref()),
            ],
            handed: &self.handed(),
            output: None,
        };
        let patience = match self.upgrade.is_proving() {
            true => self.plan.terms.upgrade_timeout,
            false => self.plan.terms.start_timeout,
        };
        let pid = match launch.start() {
            Ok(pid) => pid,
            Err(error) if self.upgrade.is_proving() => {
                self.take_upgrade_back(&format!("it cannot be started: {error}"));
                self.worker = Worker::None { start_at: started };
                return Ok(());
            }
            Err(error) if self.has_served => {
                // Rather late than without the contents.
                tracing::error!(%error, "the worker process cannot be started; it is tried again in {START_AGAIN:?}");
                self.worker = Worker::None {
                    start_at: started + START_AGAIN,
                };
                return Ok(());
            }
            Err(error) => return Err(SuperviseError::Start(error)),
        };
        self.worker = Worker::Running(Running {
            pid,
            started,
            is_ready: false,
            killed_at: Some(started + patience),
            is_ending: false,
            is_behind: false,
            config: self.plan.terms.config.clone(),
        });
        self.journal.turn(Phase::Starting, Some(pid));
        Ok(())
    }

    /// What is handed to a worker, by name.
    fn handed(&self) -> Vec<(&str, BorrowedFd<'_>)> {
        let mut handed = self.kept.handed();
        handed.push((handover::SETTINGS, self.sheet.as_fd()));
        handed
    }

    /// Reads the settings anew: those of this process count at once, and the worker process is told.
    fn reload(&mut self) {
        let reread = (self.plan.reread.0)().and_then(|terms| {
            let written = self.sheet.write(&terms.arguments);
            written.map_err(|error| error.to_string())?;
            Ok(terms)
        });
        match reread {
            Ok(terms) => {
                self.deaths.limits = terms.deaths;
                self.watch.set_terms(&terms);
                self.plan.terms = terms;
                tracing::info!(
                    "the settings are read anew; what cannot change while a process serves counts from its next start, sockets, drills and evidence from that of `larder serve`"
                );
                match &mut self.worker {
                    // It may not be ready for the signal.
                    Worker::Running(running) if !running.is_ready => running.is_behind = true,
                    _ => self.tell(Signal::HUP),
                }
            }
            Err(why) => tracing::error!("the settings stay as they are: {why}"),
        }
    }

    /// Takes a note of the worker process; of others, nothing.
    fn hear(&mut self, sender: Option<Pid>, mut note: Note) {
        let Worker::Running(running) = &mut self.worker else {
            return;
        };
        if sender != Some(running.pid) {
            return;
        }
        if note.forgets(MEMORY) {
            give_contents_back(&self.kept, &self.sight);
        }
        self.kept.take(&mut note);
        if let Some(status) = note.status {
            self.journal.says(status);
        }
        if note.ready && !running.is_ready {
            running.is_ready = true;
            if !running.is_ending {
                running.killed_at = None;
            }
            self.has_served = true;
            let seen = Seen::of_process(running.pid, &self.kept, &running.config);
            let seen = Arc::new(seen);
            self.sight.turn_to(Arc::clone(&seen));
            self.journal.turn(Phase::Serving, Some(running.pid));
            self.journal.serves(note.receipt, self.ended_at.take());
            self.watch.begins(running.pid, seen);
            if std::mem::take(&mut running.is_behind) {
                self.tell(Signal::HUP);
            }
            self.upgrade_serves();
        }
    }

    /// Takes note of all processes that have ended, orphans that fell to this process among them;
    /// gives the exit code, if that is the end.
    async fn reap(&mut self, signals: &mut Signals) -> Result<Option<u8>, SuperviseError> {
        while let Ok(Some((pid, status))) = wait(ENDS_OF_CHILDREN) {
            let ended = Ended::of(status);
            if let Worker::Running(running) = &self.worker
                && running.pid == pid
            {
                let was_told = self.is_ending || running.is_ending;
                // What it said last is still on its way.
                while let Ok((sender, note)) = self.post.take() {
                    self.hear(sender, note);
                }
                // Where both are told to end, the other one may do so first.
                let in_good_order = ended == Ended::Exited(0) && !was_told;
                if in_good_order && signals.told_to_end_soon().await {
                    self.cancel_upgrade("the server was told to end");
                    return Ok(Some(0));
                }
                if let Some(code) = self.worker_ended(ended)? {
                    return Ok(Some(code));
                }
            } else {
                self.examiner_ended(pid, ended);
            }
        }
        Ok(None)
    }

    fn worker_ended(&mut self, ended: Ended) -> Result<Option<u8>, SuperviseError> {
        let now = Instant::now();
        let none = Worker::None { start_at: now };
        let Worker::Running(running) = std::mem::replace(&mut self.worker, none) else {
            return Ok(None);
        };
        // Processes that never served have nothing to do with when one last did.
        self.ended_at.get_or_insert(now);
        self.journal.turn(Phase::Waiting, None);
        if self.is_ending {
            let code = self.cut_short_by.map(|signal| 128 + signal.as_raw() as u8);
            // Who has not come so far as to serve, or to hear signals, has nobody to part from.
            let served_nobody = !running.is_ready && ended.is_by_order();
            let own = if served_nobody { 0 } else { ended.code() };
            return Ok(Some(code.unwrap_or(own)));
        }
        if running.is_ending && ended.is_crash() {
            // Another takes its place in any case, but this is to be known.
            let pid = running.pid.as_raw_nonzero().get();
            tracing::error!(pid, "the worker process {ended} while it drained");
            let lived = now - running.started;
            self.journal.died(running.pid, lived, ended);
            (self.watch).died((running.pid, &running.config), ended, lived, &self.kept);
        } else if running.is_ending || self.upgrade.is_proving() {
            self.watch.ends();
        }
        if self.upgrade.is_proving() && !running.is_ready {
            self.take_upgrade_back(&format!("it {ended} before it served"));
            return Ok(None);
        }
        if running.is_ending && self.upgrade_drained() {
            return Ok(None);
        }
        if !self.has_served && matches!(ended, Ended::Exited(_)) {
            // It has said why.
            return Ok(Some(ended.code()));
        }
        self.died(&running, ended, now)?;
        Ok(None)
    }

    /// Decides what follows on a death that nobody asked for.
    fn died(
        &mut self,
        running: &Running,
        ended: Ended,
        now: Instant,
    ) -> Result<(), SuperviseError> {
        let pid = running.pid.as_raw_nonzero().get();
        let lived = now - running.started;
        self.journal.died(running.pid, lived, ended);
        let process = (running.pid, &running.config);
        if let Some(found) = (self.watch).died(process, ended, lived, &self.kept) {
            tracing::error!(
                pid,
                "the worker process was in the midst of {found} when it died"
            );
            if self.quarantine.note(monotonic_ms(), found) {
                let refuse_for = self.plan.terms.refuse_for;
                tracing::error!(
                    "{found} has brought two processes down: it is refused for {refuse_for:?}"
                );
            }
        }
        match self.deaths.note(now) {
            Next::GiveUp => Err(SuperviseError::GaveUp {
                deaths: self.deaths.count(),
                how: ended.to_string(),
                more: self.watch.last_word(),
            }),
            Next::Start { after, cold } => {
                let deaths = self.deaths.count();
                let delay_ms = journal::whole_ms(after);
                tracing::error!(pid, deaths, delay_ms, cold, "the worker process {ended}");
                if cold {
                    give_contents_back(&self.kept, &self.sight);
                    self.kept.drop_memory();
                }
                self.worker = Worker::None {
                    start_at: now + after,
                };
                Ok(())
            }
        }
    }
}

/// Has the system have the memory of which nothing is kept, before the next worker asks for as much: what its
/// counters tell is still wanted, and so it is still mapped.
fn give_contents_back(kept: &Kept, sight: &Sight) {
    if !kept.has_memory_aside() {
        sight.seen().give_contents_back();
    }
}

#[cfg(test)]
mod tests;
