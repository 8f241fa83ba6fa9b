//! Watching the worker process from outside: who does not go on, why, and what is done about it.
//!
//! ```text
//!  black boxes ──> attention ──> who does not go on ──┐
//!  /proc, cgroups, the memory (Lookout) ──────────────┴──> verdict ──> ladder ──> log, orders in the
//!                                                             │                   boxes, bundles, kill
//!                                                             └──> `larder why`
//!  the boxes of a process that has died ──> fingerprint, post-mortem ──> bundle, `larder postmortem`
//! ```
//!
//! Looking is cheap and asks nobody for anything: a few loads from each box ([`watched`]). How long
//! somebody has not gone on is counted in time that the supervisor was there to see ([`attention`]); why,
//! is decided from what was seen, by code that looks at nothing ([`verdict`]); what follows is decided in
//! [`ladder`]. Whatever is written to a disk, another thread writes ([`recorder`]), which also looks where threads
//! are in their program ([`stacks`]).

mod archive;
mod attention;
mod fingerprint;
mod ladder;
mod recent;
mod recorder;
mod report;
mod stacks;
mod thread;
mod throttle;
mod unwind;
mod verdict;
mod want;
mod watched;

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;

use crate::blackbox::{Fingerprint, Kind};
use crate::engine::Config;
use crate::supervisor::journal::{Ended, Journal, Phase};
use crate::supervisor::kept::Kept;
use crate::supervisor::sight::{Moment, Seen};
use crate::supervisor::{Plan, Supervisor, Terms, Worker};
use crate::sync::Arc;
use fingerprint::{fingerprint, fingerprint_of};
use ladder::Step;
use recorder::{Case, Recorder, SAVED_WITHIN, TOLD_WITHIN, Then};
use report::{Finding, Recovery};
use verdict::Verdict;
use want::Kills;
use watched::Watched;

pub(crate) use archive::can_keep_evidence;
pub(crate) use ladder::StallLimits;
pub(crate) use recent::RecentLog;
pub(crate) use report::{Postmortem, Why};

/// The file of a bundle that programs read.
pub(crate) const REPORT: &str = recorder::REPORT;

/// LIMIT: the longest time between two looks.
const INTERVAL_MAX: Duration = Duration::from_millis(200);

/// LIMIT: the shortest.
const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// LIMIT: bundles of one kind about a process that lives: one in this time.
const CAPTURES_EVERY: Duration = Duration::from_secs(60);

/// The watch over one worker process after the other.
#[derive(Debug)]
pub(super) struct Watch {
    limits: StallLimits,
    interval: Duration,
    next_at: Instant,
    process: Option<Watched>,
    recorder: Recorder,
    journal: Journal,
    /// The command line that counts now, and the one that the process was started with.
    command_line: String,
    started_with: String,
    /// Whom the kernel has killed.
    kills: Kills,
    /// When evidence of a stall, and of a failing probe, was saved last.
    stall_saved_at: Option<Instant>,
    unready_saved_at: Option<Instant>,
    /// What was found of the thread for which the process is killed, and its operation.
    killed_for: Option<(Finding, Option<Fingerprint>)>,
    /// Tells when the evidence of the last stall is saved.
    saving: Option<oneshot::Receiver<()>>,
}

/// Which form of the answer to a probe is sent: whether it is ready, in a sentence.
pub(super) type Probe = oneshot::Sender<Result<&'static str, String>>;

impl Watch {
    pub(super) fn new(plan: &Plan, journal: &Journal) -> io::Result<Self> {
        let command_line = one_line(&plan.terms.arguments);
        Ok(Self {
            started_with: command_line.clone(),
            command_line,
            kills: Kills::of_own_group(),
            recorder: Recorder::start(
                plan.evidence.clone(),
                plan.recent_log.clone(),
                journal.clone(),
            )?,
            limits: plan.terms.stalls,
            interval: interval(plan.terms.stalls),
            next_at: Instant::now(),
            process: None,
            journal: journal.clone(),
            stall_saved_at: None,
            unready_saved_at: None,
            killed_for: None,
            saving: None,
        })
    }

    /// From now on, these settings count.
    pub(super) fn set_terms(&mut self, terms: &Terms) {
        let limits = terms.stalls;
        self.command_line = one_line(&terms.arguments);
        self.limits = limits;
        self.interval = interval(limits);
        if let Some(process) = &mut self.process {
            process.set_limits(self.interval, limits.warn);
        }
    }

    /// When to look next; `None`: there is nothing to look at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.process.is_some().then_some(self.next_at)
    }

    /// A worker process serves: begins to watch it, and tells the last post-mortem what came after.
    pub(super) fn begins(&mut self, pid: Pid, seen: Arc<Seen>) {
        let (interval, warn) = (self.interval, self.limits.warn);
        self.process = Some(Watched::new(pid, seen, interval, warn));
        self.started_with.clone_from(&self.command_line);
        self.next_at = Instant::now() + self.interval;
        let entries = self.journal.read();
        let after = match entries.outage_ms {
            Some(ms) => format!("{ms} ms later"),
            None => "later".to_owned(),
        };
        let kept = match entries.receipt.is_empty() {
            true => "with an empty cache",
            false => "with what recovery kept",
        };
        let pid = pid.as_raw_nonzero();
        self.recorder.begins(pid.get());
        self.recorder.recovered(Recovery {
            sentence: format!("The next process, {pid}, served {after}, {kept}."),
            receipt: entries.receipt,
        });
    }

    /// The process has ended as it was told to.
    pub(super) fn ends(&mut self) {
        (self.process, self.killed_for, self.saving) = (None, None, None);
    }

    /// The process has died: keeps what can be known of it, and says which operation on which key it died
    /// of, if that can be told.
    pub(super) fn died(
        &mut self,
        (pid, config): (Pid, &Config),
        ended: Ended,
        lived: Duration,
        kept: &Kept,
    ) -> Option<Fingerprint> {
        let process = self.process.take();
        let seen = match &process {
            Some(process) => Arc::clone(&process.seen),
            // It has not served.
            None => Arc::new(Seen::of_process(pid, kept, config)),
        };
        let killed_for = self.killed_for.take();
        let found = match &killed_for {
            Some((_, of_stuck)) => *of_stuck,
            None => fingerprint(ended, &seen),
        };
        let by_whom = match &killed_for {
            Some((stuck, _)) => {
                format!(", by its supervisor, since {} hung", stuck.thread)
            }
            None => String::new(),
        };
        let stuck = process.as_ref().map_or(Vec::new(), |process| {
            let known = killed_for.as_ref().map(|(stuck, _)| stuck);
            let find = |at| {
                let name = &process.thread(at).name;
                // It was alive when that was found.
                match known.filter(|stuck| stuck.thread == *name) {
                    Some(stuck) => stuck.clone(),
                    None => process.finding(at),
                }
            };
            let findings = process.places().map(find);
            findings
                .filter(|finding| finding.verdict.is_stuck() && finding.verdict != Verdict::Gone)
                .collect()
        });
        let want = match (self.kills.more(), ended) {
            (1.., Ended::Killed(libc::SIGKILL)) if killed_for.is_none() => {
                "; meanwhile the kernel killed in its control group for want of memory"
            }
            _ => "",
        };
        let lived = report::seconds(lived);
        let what = format!("The worker process {ended}{by_whom}, after {lived}{want}");
        let settings = self.settings(process.is_some());
        let case = Case {
            what_for: "death",
            what,
            pid: pid.as_raw_nonzero().get(),
            seen,
            ended: Some(Moment::now()),
            fingerprint: found.map(|found| found.to_string()),
            findings: stuck,
            figures: process.map_or(Vec::new(), |process| process.figures()),
            steps: Vec::new(),
            settings,
        };
        self.keep(case, None);
        found
    }

    /// What a thread is about, and where it was in its program, if it still is.
    fn finding(&self, process: &Watched, at: usize) -> Finding {
        let mut finding = process.finding(at);
        let turns = process.thread(at).black_box.snapshot().turns;
        let pid = process.pid.as_raw_nonzero().get();
        let line = self.recorder.stacks.line(pid, &finding.thread, turns);
        if let Some(line) = line.filter(|_| finding.verdict.is_stuck()) {
            finding.evidence.push((report::STACK.to_owned(), line));
        }
        finding
    }

    fn keep(&self, mut case: Case, then: Then) {
        let entries = self.journal.read();
        let of_process = entries.steps.iter().filter(|step| step.pid == case.pid);
        case.steps = of_process.map(ToString::to_string).collect();
        self.recorder.keep(case, then);
    }

    /// Keeps what can be known of a process that lives.
    fn capture(&self, what_for: &'static str, what: String, then: Then) {
        let Some(process) = &self.process else { return };
        let case = Case {
            what_for,
            what,
            pid: process.pid.as_raw_nonzero().get(),
            seen: Arc::clone(&process.seen),
            ended: None,
            fingerprint: None,
            findings: process.places().map(|at| process.finding(at)).collect(),
            figures: process.figures(),
            steps: Vec::new(),
            settings: self.settings(true),
        };
        self.keep(case, then);
    }

    /// What a process was started with that serves or has served, or one that has not come to that.
    fn settings(&self, has_served: bool) -> String {
        let started_with = match has_served {
            true => &self.started_with,
            false => &self.command_line,
        };
        let anew = match &self.command_line == started_with {
            true => String::new(),
            false => format!("read anew since: {}\n", self.command_line),
        };
        let system = rustix::system::uname();
        format!(
            "command line: {started_with}\n{anew}supervisor: larder {}\nsystem: {} {} {}\n",
            env!("CARGO_PKG_VERSION"),
            system.sysname().to_string_lossy(),
            system.release().to_string_lossy(),
            system.machine().to_string_lossy(),
        )
    }

    /// What all threads are about, or one worker; an error says that there is no such worker.
    pub(super) fn why(&self, worker: Option<u32>) -> Result<Why, String> {
        let Some(process) = &self.process else {
            return Ok(Why::default());
        };
        let is_asked_for = |at: &usize| {
            let one = process.thread(*at);
            worker.is_none_or(|number| one.kind == Kind::Worker && one.black_box.number() == number)
        };
        let places = process.places().filter(is_asked_for);
        let threads: Vec<_> = places.map(|at| self.finding(process, at)).collect();
        if let Some(worker) = worker.filter(|_| threads.is_empty()) {
            return Err(process.seen.no_such_worker(worker));
        }
        Ok(Why {
            is_stuck: threads.iter().any(|finding| finding.verdict.is_stuck()),
            pid: Some(process.pid.as_raw_nonzero().get()),
            threads,
        })
    }

    /// Waits until all evidence is saved, and says where the last of it is.
    pub(super) fn last_word(&mut self) -> String {
        self.recorder.finish();
        match self.journal.read().last_bundle {
            Some(bundle) => format!("`larder postmortem --bundle {bundle}` says more"),
            None => "the log says more".to_owned(),
        }
    }

    /// The post-mortem of the last process that died.
    pub(super) fn last(&self, answer: oneshot::Sender<Option<Postmortem>>) {
        self.recorder.last(answer);
    }

    /// Why the server cannot be used; `None`: it can.
    pub(super) fn why_not_ready(&self, phase: Phase) -> Option<&'static str> {
        match phase {
            Phase::Serving => {
                let process = self.process.as_ref()?;
                process
                    .all_workers_are_stuck()
                    .then_some("no worker goes on")
            }
            Phase::Starting => Some("starting"),
            Phase::Waiting => Some("between two workers"),
            Phase::Ending => Some("draining"),
        }
    }

    /// Answers a probe; if the process serves and cannot be used, not before the evidence of that is saved.
    pub(super) fn answer_probe(&mut self, phase: Phase, answer: Probe) {
        let Some(why_not) = self.why_not_ready(phase) else {
            // Whoever asked may have gone.
            let _ = answer.send(Ok("serving"));
            return;
        };
        let told = Err(why_not.to_owned());
        // That it drains needs no evidence, and the end of that waits for nobody.
        if phase != Phase::Serving || !is_due(&mut self.unready_saved_at) {
            // As above.
            let _ = answer.send(told);
            return;
        }
        let (then, saved) = oneshot::channel();
        self.capture(
            "not-ready",
            format!("A probe found the server not ready: {why_not}"),
            Some(then),
        );
        tokio::spawn(async move {
            // An error says that it was not saved, and why is in the log, or that the disk hangs.
            let _ = tokio::time::timeout(TOLD_WITHIN, saved).await;
            let _ = answer.send(told);
        });
    }
}

/// How often to look.
fn interval(limits: StallLimits) -> Duration {
    (limits.warn / 5).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// Whether something may be done that is to be done once in a time; then it is noted that it was.
fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_due = last.is_none_or(|at| now - at >= CAPTURES_EVERY);
    if is_due {
        *last = Some(now);
    }
    is_due
}

/// What a server was started with. The environment is left out: others keep secrets there.
fn one_line(command_line: &[std::ffi::OsString]) -> String {
    let words = command_line.iter().map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

impl Supervisor {
    /// Looks at the worker process, if it is time to, and does what follows.
    pub(super) fn watch_on_time(&mut self, now: Instant) {
        if self.watch.due().is_none_or(|at| at > now) {
            return;
        }
        self.watch.next_at = now + self.watch.interval;
        if self.watch.killed_for.is_some() {
            // Its end is on its way.
            return;
        }
        let Some(process) = &mut self.watch.process else {
            return;
        };
        process.look();
        let limits = self.watch.limits;
        let mut due = Vec::new();
        let time = Duration::from_nanos(recorder::monotonic_ns());
        for at in process.places() {
            let overdue = process.overdue(at);
            if overdue < limits.warn && !process.climb(at).is_named() {
                continue;
            }
            let is_hang = process.verdict(at).is_hang();
            let steps = process.climb(at).steps(limits, time, overdue, is_hang);
            due.extend(steps.into_iter().map(|step| (at, step)));
        }
        for (at, step) in due {
            self.take_step(at, step);
        }
    }

    fn take_step(&mut self, at: usize, step: Step) {
        let Some(process) = &self.watch.process else {
            return;
        };
        let finding = process.finding(at);
        let (pid, thread) = (process.pid.as_raw_nonzero().get(), finding.thread.clone());
        let one = process.thread(at);
        let (name, sentence) = match step {
            Step::Name { in_log } => {
                if in_log {
                    tracing::warn!(pid, "{}", finding.sentence);
                }
                ("named", finding.sentence)
            }
            Step::Steer if one.kind == Kind::Worker => {
                one.black_box.set_avoided(true);
                (
                    "steered",
                    format!("new connections go to others than {thread}"),
                )
            }
            Step::Steer => return,
            Step::Recover => {
                one.black_box.set_avoided(false);
                tracing::info!(pid, "{thread} goes on");
                ("recovered", format!("{thread} goes on"))
            }
            Step::Capture => {
                if !is_due(&mut self.watch.stall_saved_at) {
                    if let Some(process) = &mut self.watch.process {
                        process.climb(at).capture_later();
                    }
                    return;
                }
                let (then, saved) = oneshot::channel();
                self.watch.saving = Some(saved);
                self.watch.capture("stall", finding.sentence, Some(then));
                ("captured", format!("the evidence about {thread} is saved"))
            }
            Step::Kill => {
                self.watch.killed_for = Some((finding.clone(), fingerprint_of(one)));
                tracing::error!(pid, "killed: {}", finding.sentence);
                // SIGABRT would have a core of the whole memory written before anything starts again.
                self.kill_once_saved();
                ("killed", finding.sentence)
            }
        };
        self.journal.step(pid, &thread, name, sentence);
    }

    /// Kills the worker process once the evidence about it is saved, or has not been in its time.
    fn kill_once_saved(&mut self) {
        let Worker::Running(running) = &self.worker else {
            return;
        };
        // Its number may be another's by then.
        let process = pidfd_open(running.pid, PidfdFlags::empty());
        match (self.watch.saving.take(), process) {
            (Some(saved), Ok(process)) => {
                tokio::spawn(async move {
                    // An error says that nothing will be saved.
                    let _ = tokio::time::timeout(SAVED_WITHIN, saved).await;
                    // It may have ended meanwhile.
                    let _ = pidfd_send_signal(process, Signal::KILL);
                });
            }
            _ => self.kill_worker(),
        }
    }
}
