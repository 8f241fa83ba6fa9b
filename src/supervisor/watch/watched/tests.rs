use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::blackbox::{BlackBox, Operation, Pen, Phase};
use crate::engine::{Cache, Config, Entry, Mode};
use crate::supervisor::journal::now_ms;
use crate::supervisor::kept::Kept;
use crate::supervisor::post::Note;
use crate::sync::{AtomicU64, Ordering};

const WARN: Duration = Duration::from_millis(60);
const INTERVAL: Duration = Duration::from_millis(10);

/// Nothing takes as long as this unless a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn config() -> Config {
    let mut config = Config::new(4 << 20);
    config.sessions_max = 3;
    config
}

fn keep(kept: &mut Kept, name: &str, descriptor: OwnedFd) {
    kept.take(&mut Note {
        name: Some(name.to_owned()),
        keep: true,
        descriptors: vec![descriptor],
        ..Note::default()
    });
}

/// Makes a box for a thread of this process that has a session.
fn begun(kept: &mut Kept, number: u32, session: u32) -> Pen {
    let made = BlackBox::create(Kind::Worker, number, &[]).unwrap();
    let memory = made.memory().try_clone_to_owned().unwrap();
    keep(kept, &format!("black-box-worker-{number}"), memory);
    let mut pen = Pen::new(Arc::new(made));
    pen.introduce(&crate::blackbox::Thread {
        process: std::process::id(),
        thread: 0,
        session,
        started: Duration::from_secs(1),
        build: "of a test",
    });
    pen
}

/// Says which thread it is, and what it is at.
fn executes(pen: &mut Pen, session: u32) {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    pen.tick(monotonic_ns());
    pen.introduce(&crate::blackbox::Thread {
        process: std::process::id(),
        thread: thread.unsigned_abs(),
        session,
        started: Duration::from_secs(1),
        build: "of a test",
    });
    pen.begin_batch(1);
    pen.begin(Operation::Set, 0xabc, 3, 5);
}

fn watch(kept: &Kept) -> Watched {
    let pid = rustix::process::getpid();
    let seen = Seen::of_process(pid, kept, &config());
    Watched::new(pid, Arc::new(seen), INTERVAL, WARN)
}

/// Looks until the first thread has the verdict that is waited for.
fn wait_for(watched: &mut Watched, is_it: impl Fn(&Verdict) -> bool) -> Finding {
    let start = Instant::now();
    loop {
        watched.look();
        let finding = watched.finding(0);
        if is_it(&finding.verdict) {
            return finding;
        }
        assert!(start.elapsed() < PATIENCE, "{finding:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_thread_that_spins_is_told_from_one_that_is_blocked() {
    let mut kept = Kept::new(Vec::new());
    let mut pen = begun(&mut kept, 0, 0);
    let go_on = AtomicU64::new(0);
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    std::thread::scope(|scope| {
        let go_on = &go_on;
        scope.spawn(move || {
            executes(&mut pen, 0);
            // ORDERING: Relaxed, here and below; nothing else is told by it.
            while go_on.load(Ordering::Relaxed) == 0 {
                std::hint::spin_loop();
            }
            pen.end_batch(monotonic_ns());
            executes(&mut pen, 0);
            let _ = File::from(reader).read(&mut [0]);
        });
        let mut watched = watch(&kept);
        let spins = wait_for(&mut watched, |verdict| {
            matches!(verdict, Verdict::Spinning { .. })
        });
        assert!(
            spins
                .sentence
                .contains("executing set of key 0000000000000abc"),
            "{spins}"
        );
        assert!(watched.all_workers_are_stuck());
        go_on.store(1, Ordering::Relaxed);
        let blocked = wait_for(&mut watched, |verdict| {
            matches!(verdict, Verdict::Blocked { .. })
        });
        assert!(
            blocked.sentence.contains("in the system call read"),
            "{blocked}"
        );
        drop(writer);
    });
}

/// As when both processes are stopped and go on, or the machine is short of cores.
#[test]
fn nobody_is_blamed_for_time_in_which_the_supervisor_was_not_there() {
    let mut kept = Kept::new(Vec::new());
    let mut pen = begun(&mut kept, 0, 0);
    executes(&mut pen, 0);
    let mut watched = watch(&kept);
    let begun = Duration::from_nanos(monotonic_ns());
    watched.look_at(begun);
    for absence in 1..=2 {
        watched.look_at(begun + 1000 * WARN * absence);
        assert_eq!(watched.verdict(0), Verdict::Healthy);
    }
    // It is there again, for the time that is tolerated.
    let back = begun + 2000 * WARN;
    for looks in 1..=6 {
        assert_eq!(watched.verdict(0), Verdict::Healthy);
        watched.look_at(back + INTERVAL * looks);
    }
    assert_ne!(watched.verdict(0), Verdict::Healthy);
    assert!(watched.all_workers_are_stuck());
}

#[test]
fn who_goes_on_after_the_last_look_is_not_told_as_what_it_was() {
    let mut kept = Kept::new(Vec::new());
    let mut pen = begun(&mut kept, 0, 0);
    executes(&mut pen, 0);
    let mut watched = watch(&kept);
    let begun = Duration::from_nanos(monotonic_ns());
    for looks in 0..=10 {
        watched.look_at(begun + INTERVAL * looks);
    }
    assert!(watched.finding(0).sentence.contains("has not gone on for"));
    assert!(watched.all_workers_are_stuck());
    pen.end_batch(monotonic_ns());
    pen.enter(Phase::Sleeping);
    let told = watched.finding(0);
    assert_eq!((told.verdict, told.stuck_ms), (Verdict::Healthy, 0));
    assert!(
        told.sentence.contains("is healthy: it is sleeping for"),
        "{}",
        told.sentence
    );
    assert!(!watched.all_workers_are_stuck());
}

#[test]
fn who_waits_for_a_bucket_is_told_whose_it_is_and_what_that_thread_does() {
    let cache = Cache::new(config()).unwrap();
    let mut kept = Kept::new(Vec::new());
    keep(
        &mut kept,
        "memory",
        cache.memory().try_clone_to_owned().unwrap(),
    );
    let mut session = cache.session().unwrap();
    let mut pen = begun(&mut kept, 0, session.number());
    let mut holder = begun(&mut kept, 1, 2);
    executes(&mut holder, 2);
    let shared = cache.shared();
    let hash = shared.hash(b"key");
    let bucket = hash.bucket(shared.index.buckets());
    // As a session does that hangs in the midst of a write; sessions count from 0 here.
    let held = shared.index.lock(hash, 1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            executes(&mut pen, session.number());
            let mut guard = session.pin(now_ms());
            let key = guard.key(b"key").unwrap();
            let _ = guard.store(&key, Mode::Set, &Entry::of(b"value"));
            drop(guard);
            pen.enter(Phase::Sleeping);
        });
        let mut watched = watch(&kept);
        let waits = wait_for(&mut watched, |verdict| {
            matches!(verdict, Verdict::WaitsForLock { .. })
        });
        let whose =
            format!("the lock of bucket {bucket}, which worker-1 holds, which is executing");
        assert!(waits.sentence.contains(&whose), "{waits}");
        assert!(
            waits.evidence.iter().any(|(name, _)| name == "pinned"),
            "{waits:?}"
        );
        drop(held);
        wait_for(&mut watched, |verdict| *verdict == Verdict::Healthy);
    });
}
