//! Saving evidence, in a thread of its own: a disk that is slow, or hangs, must not keep the supervisor
//! from starting the next worker process. The thread does one thing after the other, in the order in
//! which they were asked for: so whoever asks for the last post-mortem gets it also while it is being
//! written.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::SystemTime;

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
use crate::supervisor::sight::{Seen, SeenThread};
use crate::sync::Arc;

/// LIMIT: what waits for the thread; what comes beyond is dropped, and said to be.
const WAITING_MAX: usize = 16;

/// What is to be kept of a process.
#[derive(Debug)]
pub(super) struct Case {
    /// A word for the name of the bundle.
    pub(super) what_for: &'static str,
    pub(super) what: String,
    pub(super) pid: i32,
    pub(super) seen: Arc<Seen>,
    /// Whether the process has ended.
    pub(super) is_over: bool,
    pub(super) fingerprint: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) figures: Vec<(String, String)>,
    pub(super) steps: Vec<String>,
    /// Whom to tell when it is saved.
    pub(super) then: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Job {
    Begins(i32),
    Keep(Box<Case>),
    Recovered(Recovery),
    Tell(oneshot::Sender<Option<Postmortem>>),
}

/// The thread, as the supervisor has it. Dropping it waits until all is written.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Where threads were when that was looked at last.
    pub(super) stacks: LastStacks,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread. Without a folder, the last post-mortem is kept in memory alone.
    pub(super) fn start(
        folder: Option<PathBuf>,
        settings: String,
        log: RecentLog,
        journal: Journal,
    ) -> std::io::Result<Self> {
        let (jobs, taken) = mpsc::channel(WAITING_MAX);
        let stacks = LastStacks::default();
        let desk = Desk {
            stacks: stacks.clone(),
            program: Program::default(),
            archive: folder.map(Archive::at),
            settings,
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
        })
    }

    /// A process begins to serve.
    pub(super) fn begins(&self, pid: i32) {
        self.send(Job::Begins(pid));
    }

    pub(super) fn keep(&self, case: Case) {
        self.send(Job::Keep(Box::new(case)));
    }

    pub(super) fn recovered(&self, recovery: Recovery) {
        self.send(Job::Recovered(recovery));
    }

    /// The post-mortem of the last process that died; it is told once all that was asked before is done.
    pub(super) fn last(&self, answer: oneshot::Sender<Option<Postmortem>>) {
        self.send(Job::Tell(answer));
    }

    /// Waits until all is written; nothing more will be.
    pub(super) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been said.
            let _ = thread.join();
        }
    }

    fn send(&self, job: Job) {
        let sent = self.jobs.as_ref().map(|jobs| jobs.try_send(job));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!("evidence is not saved: what was to be saved before is not yet written");
        }
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
    settings: String,
    log: RecentLog,
    journal: Journal,
    last: Option<Postmortem>,
}

impl Desk {
    fn work(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Begins(pid) => self.program = Program::of(pid),
                Job::Keep(case) => self.keep(*case),
                Job::Recovered(recovery) => self.recovered(recovery),
                Job::Tell(answer) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.last.clone());
                }
            }
        }
    }

    fn keep(&mut self, mut case: Case) {
        let mut stacks = String::new();
        if !case.is_over {
            let taken = stacks::take(case.pid, &self.program, &case.seen);
            stacks = stacks::text(&taken);
            self.stacks.set(taken);
        }
        self.add_stacks(&mut case);
        let now_ns = monotonic_ns();
        let each = case.seen.threads.iter();
        let remains = each.map(|one| Remains::of(one, now_ns, case.is_over));
        let build = case.seen.threads.first();
        let mut postmortem = Postmortem {
            what: case.what.clone(),
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            pid: case.pid,
            build: build.map_or(String::new(), |one| one.black_box.snapshot().build),
            fingerprint: case.fingerprint.clone(),
            findings: case.findings.clone(),
            threads: remains.collect(),
            figures: case.figures.clone(),
            steps: case.steps.clone(),
            recovery: None,
            bundle: None,
        };
        if let Some(archive) = &self.archive {
            match archive.save(
                case.what_for,
                &self.files(&case, &postmortem, stacks, now_ns),
            ) {
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
        if case.is_over {
            self.last = Some(postmortem);
        }
        if let Some(then) = case.then {
            // Whoever waited may have gone.
            let _ = then.send(());
        }
    }

    /// Puts to what was found of threads where they are in their program, or were when they were alive.
    fn add_stacks(&self, case: &mut Case) {
        let stuck = case.findings.iter_mut();
        for finding in stuck.filter(|finding| finding.verdict.is_stuck()) {
            let thread = (case.seen.threads.iter()).find(|one| one.name == finding.thread);
            let turns = thread.map_or(0, |one| one.black_box.snapshot().turns);
            if let Some(line) = self.stacks.line(&finding.thread, turns) {
                finding.evidence.retain(|(name, _)| name != report::STACK);
                finding.evidence.push((report::STACK.to_owned(), line));
            }
        }
    }

    /// What matters most comes first: what does not fit is left out.
    fn files(
        &self,
        case: &Case,
        postmortem: &Postmortem,
        stacks: String,
        now_ns: u64,
    ) -> Vec<Named> {
        let mut files = report(postmortem);
        files.push((
            "settings.txt".to_owned(),
            self.settings.clone().into_bytes(),
        ));
        files.push(("log.txt".to_owned(), self.log.read()));
        if !case.is_over {
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
