//! Saving evidence, in a thread of its own: a disk that is slow, or hangs, must not keep the supervisor
//! from starting the next worker process. The thread does one thing after the other, in the order in
//! which they were asked for: so whoever asks for the last post-mortem gets it also while it is being
//! written; where the disk hangs, nobody waits for long, and it is told from what is known without a disk.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot};

use super::archive::{Archive, Named};
use super::recent::RecentLog;
use super::report::{self, Finding, Postmortem, Recovery, Remains, operations};
use super::stacks::{self, LastStacks};
use super::thread;
use super::unwind::Program;
use crate::blackbox::Kind;
use crate::supervisor::journal::Journal;
use crate::supervisor::sight::{Moment, Seen, SeenThread};
use crate::sync::{Arc, Mutex};

/// LIMIT: what waits for the thread; what comes beyond is dropped, and said to be.
const WAITING_MAX: usize = 16;

/// LIMIT: how long evidence is waited for that is being saved.
pub(super) const SAVED_WITHIN: Duration = Duration::from_secs(5);

/// LIMIT: how long whoever asks waits for what is being written.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked whether the thread has ended.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What is to be kept of a process.
#[derive(Debug)]
pub(super) struct Case {
    /// A word for the name of the bundle.
    pub(super) what_for: &'static str,
    pub(super) what: String,
    pub(super) pid: i32,
    pub(super) seen: Arc<Seen>,
    /// When the process ended; `None`: it lives.
    pub(super) ended: Option<Moment>,
    pub(super) fingerprint: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) figures: Vec<(String, String)>,
    pub(super) steps: Vec<String>,
    /// What the server was started with.
    pub(super) settings: String,
}

/// Whom to tell when a case is saved.
pub(super) type Then = Option<oneshot::Sender<()>>;

#[derive(Debug)]
enum Job {
    Begins(i32),
    Keep(Box<Case>, Then),
    Recovered(Recovery),
    Tell(oneshot::Sender<Option<Postmortem>>),
}

/// The thread, as the supervisor has it. Dropping it waits until all is written, or the disk seems to hang.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Where threads were when that was looked at last.
    pub(super) stacks: LastStacks,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// What is told of the last death where the disk hangs. (It has nothing mapped: the memory of the dead would
    /// stay with it.)
    last_death: Mutex<Option<Postmortem>>,
}

impl Recorder {
    /// Starts the thread. Without a folder, the last post-mortem is kept in memory alone.
    pub(super) fn start(
        folder: Option<PathBuf>,
        log: RecentLog,
        journal: Journal,
    ) -> std::io::Result<Self> {
        let (jobs, taken) = mpsc::channel(WAITING_MAX);
        let stacks = LastStacks::default();
        let desk = Desk {
            stacks: stacks.clone(),
            program: Program::default(),
            archive: folder.map(Archive::at),
            log,
            journal,
            last: None,
        };
        let builder = std::thread::Builder::new().name("larder-evidence".to_owned());
        let thread = builder.spawn(move || desk.work(taken))?;
        Ok(Self {
            stacks,
            jobs: Some(jobs),
            thread: Some(thread),
            last_death: Mutex::new(None),
        })
    }

    /// A process begins to serve.
    pub(super) fn begins(&self, pid: i32) {
        self.send(Job::Begins(pid));
    }

    pub(super) fn keep(&self, case: Case, then: Then) {
        if case.ended.is_some() {
            *self.last_death.lock() = Some(postmortem(&case, &self.stacks));
        }
        if !self.send(Job::Keep(Box::new(case), then)) {
            tracing::warn!("evidence is not saved: what was to be saved before is not yet written");
        }
    }

    pub(super) fn recovered(&self, recovery: Recovery) {
        if let Some(death) = &mut *self.last_death.lock() {
            death.recovery.get_or_insert_with(|| recovery.clone());
        }
        self.send(Job::Recovered(recovery));
    }

    /// The post-mortem of the last process that died; it is told once all that was asked before is done, or
    /// that takes too long.
    pub(super) fn last(&self, answer: oneshot::Sender<Option<Postmortem>>) {
        let (asked, told) = oneshot::channel();
        self.send(Job::Tell(asked));
        let last_death = self.last_death.lock().clone();
        tokio::spawn(async move {
            let last = match tokio::time::timeout(TOLD_WITHIN, told).await {
                Ok(Ok(last)) => last,
                Ok(Err(_)) | Err(_) => last_death,
            };
            // Whoever asked may have gone.
            let _ = answer.send(last);
        });
    }

    /// Waits until all is written, if that comes to an end; nothing more will be.
    pub(super) fn finish(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + SAVED_WITHIN;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
        match thread.is_finished() {
            // Its panic has been said.
            true => _ = thread.join(),
            // It ends with the process.
            false => tracing::warn!("evidence is not saved: it could not be written in time"),
        }
    }

    /// Whether there is room for it.
    fn send(&self, job: Job) -> bool {
        let sent = self.jobs.as_ref().map(|jobs| jobs.try_send(job));
        matches!(sent, Some(Ok(())))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What the thread has.
#[derive(Debug)]
struct Desk {
    stacks: LastStacks,
    /// What the process that serves executes.
    program: Program,
    archive: Option<Archive>,
    log: RecentLog,
    journal: Journal,
    last: Option<Postmortem>,
}

impl Desk {
    fn work(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Begins(pid) => self.program = Program::of(pid),
                Job::Keep(case, then) => self.keep(&case, then),
                Job::Recovered(recovery) => self.recovered(recovery),
                Job::Tell(answer) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.last.clone());
                }
            }
        }
    }

    fn keep(&mut self, case: &Case, then: Then) {
        let mut stacks = String::new();
        if case.ended.is_none() {
            let taken = stacks::take(case.pid, &self.program, &case.seen);
            stacks = stacks::text(&taken);
            self.stacks.set(case.pid, taken);
        }
        let mut postmortem = postmortem(case, &self.stacks);
        if let Some(archive) = &self.archive {
            let files = self.files(case, &postmortem, stacks);
            match archive.save(case.what_for, &files) {
                Ok(saved) => {
                    let bundle = saved.folder;
                    tracing::info!(bundle = %bundle.display(), "the evidence is saved");
                    if !saved.left_out.is_empty() {
                        let left_out = saved.left_out.join(", ");
                        tracing::warn!(
                            "there was no room for these files of the evidence: {left_out}"
                        );
                    }
                    self.journal.saved(&bundle);
                    postmortem.bundle = Some(bundle.to_string_lossy().into_owned());
                }
                Err(error) => tracing::error!(%error, "the evidence cannot be saved"),
            }
        }
        if case.ended.is_some() {
            self.last = Some(postmortem);
        }
        if let Some(then) = then {
            // Whoever waited may have gone.
            let _ = then.send(());
        }
    }

    /// What matters most comes first: what does not fit is left out.
    fn files(&self, case: &Case, postmortem: &Postmortem, stacks: String) -> Vec<Named> {
        let now_ns = case.moment().monotonic_ns;
        let mut files = report(postmortem);
        files.push((
            "settings.txt".to_owned(),
            case.settings.clone().into_bytes(),
        ));
        files.push(("log.txt".to_owned(), self.log.read()));
        if case.ended.is_none() {
            let threads = case.seen.threads.iter().map(of_system);
            let threads = threads.collect::<String>().into_bytes();
            files.push(("threads.txt".to_owned(), threads));
            files.push(("stacks.txt".to_owned(), stacks.into_bytes()));
        }
        for one in case.seen.threads.iter() {
            let name = &one.name;
            if one.kind == Kind::Upkeep {
                let board = one.black_box.board().text.into_bytes();
                files.push(("figures.txt".to_owned(), board));
            }
            let all = operations(&one.black_box, now_ns, usize::MAX).join("\n");
            files.push((format!("{name}.txt"), all.into_bytes()));
        }
        for one in case.seen.threads.iter() {
            let name = &one.name;
            files.push((format!("{name}.box"), one.black_box.to_bytes()));
        }
        files
    }

    /// Adds to the last post-mortem what came after.
    fn recovered(&mut self, recovery: Recovery) {
        let Some(last) = &mut self.last else { return };
        if last.recovery.is_some() {
            return;
        }
        last.recovery = Some(recovery);
        let Some(bundle) = &last.bundle else { return };
        for (name, bytes) in report(last) {
            if let Err(error) = Archive::put(Path::new(bundle), &name, &bytes) {
                tracing::warn!(%error, "what recovery kept is not in the bundle");
            }
        }
    }
}

impl Case {
    /// The moment that it tells of: the end of its process, or now.
    fn moment(&self) -> Moment {
        self.ended.unwrap_or_else(Moment::now)
    }
}

/// What is told of a case, as long as nothing of it is saved.
fn postmortem(case: &Case, stacks: &LastStacks) -> Postmortem {
    let now = case.moment();
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.wall_ms);
    let threads = &case.seen.threads;
    let remains = |one| Remains::of(one, now.monotonic_ns, case.ended.is_some());
    let build = |one: &SeenThread| one.black_box.snapshot().build;
    Postmortem {
        what: case.what.clone(),
        at: humantime::format_rfc3339_millis(at).to_string(),
        pid: case.pid,
        build: threads.first().map_or_else(String::new, build),
        fingerprint: case.fingerprint.clone(),
        findings: with_stacks(case, stacks),
        threads: threads.iter().map(remains).collect(),
        figures: case.figures.clone(),
        steps: case.steps.clone(),
        recovery: None,
        bundle: None,
    }
}

/// What was found of threads, with where they are in their program, or were when they were alive.
fn with_stacks(case: &Case, stacks: &LastStacks) -> Vec<Finding> {
    let mut findings = case.findings.clone();
    let stuck = findings.iter_mut();
    for finding in stuck.filter(|finding| finding.verdict.is_stuck()) {
        let thread = (case.seen.threads.iter()).find(|one| one.name == finding.thread);
        let turns = thread.map_or(0, |one| one.black_box.snapshot().turns);
        if let Some(line) = stacks.line(case.pid, &finding.thread, turns) {
            finding.evidence.retain(|(name, _)| name != report::STACK);
            finding.evidence.push((report::STACK.to_owned(), line));
        }
    }
    findings
}

/// The file of a bundle that programs read.
pub(super) const REPORT: &str = "report.json";

fn report(postmortem: &Postmortem) -> Vec<Named> {
    // It may be read elsewhere than where it was saved.
    let postmortem = &Postmortem {
        bundle: None,
        ..postmortem.clone()
    };
    let json = serde_json::to_vec_pretty(postmortem).unwrap_or_default();
    vec![
        ("report.txt".to_owned(), postmortem.to_string().into_bytes()),
        (REPORT.to_owned(), json),
    ]
}

/// What the system says of the thread of a box. The kernel tells where a thread is, and stops nobody
/// for it.
fn of_system(one: &SeenThread) -> String {
    let snapshot = one.black_box.snapshot();
    let name = &one.name;
    let mut text = format!(
        "== {name}: process {}, thread {}\n",
        snapshot.process, snapshot.thread
    );
    for file in thread::FILES {
        let content = thread::text(snapshot.process, snapshot.thread, file);
        let content = match content.trim_end() {
            "" => "(the system does not tell)",
            content => content,
        };
        text.push_str(&format!("-- {file}\n{content}\n"));
    }
    text
}

pub(super) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000) + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_death_keeps_nothing_of_the_dead_mapped() {
        let mut recorder = Recorder::start(None, RecentLog::default(), Journal::new()).unwrap();
        let seen = Arc::new(Seen::default());
        let case = Case {
            what_for: "death",
            what: "The worker process was killed by SIGKILL, after 7 ms".to_owned(),
            pid: 7,
            seen: Arc::clone(&seen),
            ended: Some(Moment::now()),
            fingerprint: None,
            findings: Vec::new(),
            figures: Vec::new(),
            steps: Vec::new(),
            settings: String::new(),
        };
        recorder.keep(case, None);
        recorder.finish();
        assert_eq!(Arc::strong_count(&seen), 1);
        let told = recorder.last_death.lock().clone();
        assert_eq!(told.map(|death| death.pid), Some(7));
    }
}
