//! What two deaths may have in common: the operation and the key that a worker was at when it died.
//!
//! A process that dies takes all its threads along, and the system does not say afterwards which of
//! them was the one. So somebody is named only where there is one who can have been it: one worker
//! that was in the midst of an operation, and a death that a thread brings on its process by what it
//! executes. A process that was killed from outside was killed in the midst of something as well, of
//! what it does most often; that says nothing about it.

use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};

use crate::blackbox::{Fingerprint, Phase};
use crate::supervisor::journal::Ended;
use crate::supervisor::sight::{Seen, SeenThread};

/// The signals that a thread's own instructions bring about.
const BY_A_THREAD: [i32; 7] = [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS];

/// Which operation on which key a process died of; `None`: that cannot be told.
pub(super) fn fingerprint(ended: Ended, seen: &Seen) -> Option<Fingerprint> {
    match ended {
        Ended::Killed(signal) if BY_A_THREAD.contains(&signal) => {}
        Ended::Killed(_) | Ended::Exited(_) => return None,
    }
    let mut executing = seen.workers().filter(|worker| is_executing(worker));
    let only = executing.next()?;
    match executing.next() {
        None => fingerprint_of(only),
        Some(_) => None,
    }
}

/// Which operation on which key a worker is at, or was when it died.
pub(super) fn fingerprint_of(worker: &SeenThread) -> Option<Fingerprint> {
    let snapshot = worker.black_box.snapshot();
    snapshot.operation.as_ref()?.fingerprint()
}

fn is_executing(worker: &SeenThread) -> bool {
    let snapshot = worker.black_box.snapshot();
    snapshot.phase == Some(Phase::Executing) && snapshot.operation.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blackbox::{BlackBox, Kind, Operation, Outcome, Pen};
    use crate::sync::Arc;

    /// A worker's box, as the thread leaves it.
    fn worker(number: u32, write: impl FnOnce(&mut Pen)) -> SeenThread {
        let made = BlackBox::create(Kind::Worker, number, &[]).unwrap();
        let memory = made.memory().try_clone_to_owned().unwrap();
        write(&mut Pen::new(Arc::new(made)));
        let black_box = BlackBox::attach(memory).unwrap();
        SeenThread::of(black_box).unwrap()
    }

    fn executes(pen: &mut Pen) {
        pen.tick(7);
        pen.begin_batch(2);
        pen.begin(Operation::Set, 0xabc, 3, 5);
    }

    const SEGV: Ended = Ended::Killed(SIGSEGV);

    #[test]
    fn the_one_worker_that_was_in_the_midst_of_an_operation_is_who_it_was() {
        let sleeps = |pen: &mut Pen| pen.enter(Phase::Sleeping);
        let boxes = Seen::of(vec![worker(0, sleeps), worker(1, executes)], None);
        let found = fingerprint(SEGV, &boxes).unwrap();
        assert_eq!((found.operation, found.key_hash), (Operation::Set, 0xabc));
        for ended in [libc::SIGKILL, libc::SIGTERM].map(Ended::Killed) {
            assert_eq!(fingerprint(ended, &boxes), None, "{ended}");
        }
        assert_eq!(fingerprint(Ended::Exited(1), &boxes), None);
    }

    #[test]
    fn nobody_is_named_where_it_may_have_been_another() {
        let both = Seen::of(vec![worker(0, executes), worker(1, executes)], None);
        assert_eq!(fingerprint(SEGV, &both), None);
        let has_ended = worker(0, |pen| {
            executes(pen);
            pen.end(Outcome::Stored, 0);
            pen.end_batch(9);
            pen.enter(Phase::Writing);
        });
        let no_key = worker(1, |pen| {
            pen.begin_batch(1);
            pen.begin(Operation::Flush, 0, 0, 0);
        });
        let none = Seen::of(vec![has_ended, no_key], None);
        assert_eq!(fingerprint(SEGV, &none), None);
        assert_eq!(fingerprint(SEGV, &Seen::default()), None);
    }
}
