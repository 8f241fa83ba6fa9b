//! The maintenance thread: keeps segments free and removes what has expired, so that workers seldom
//! have to.
//!
//! Its black box has the board: all figures as text, for whoever cannot ask the server.
//!
//! It works in small steps while there is something to do, and sleeps in between. After each step it
//! gives its core away: a worker on the same core would wait for all of them otherwise. A worker whose
//! turn has taken a segment or left few of them free wakes it; without that it looks by itself now and then,
//! for what has expired meanwhile.

use std::thread::Thread;
use std::time::Duration;

use super::clock::whole_ms;
use super::shared::{Shared, Stage};
use crate::blackbox::Phase;
use crate::engine::Session;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// LIMIT: how long the thread sleeps when nobody wakes it, and how old the figures on its board are:
/// the memory of what has expired is back within two seconds.
const PATIENCE: Duration = Duration::from_millis(250);

/// Wakes the maintenance thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    thread: Mutex<Option<Thread>>,
    /// 1 while the thread sleeps.
    sleeping: AtomicU64,
}

impl Bell {
    /// Wakes the thread, if it sleeps.
    #[inline]
    pub(crate) fn ring(&self) {
        // ORDERING: Relaxed; a ring that comes too early is made up for by the next one, or by the
        // thread's own patience.
        if self.sleeping.load(Ordering::Relaxed) != 0 {
            self.ring_always();
        }
    }

    /// The same, or keeps it from falling asleep.
    pub(crate) fn ring_always(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }
}

/// Tends the cache until the server ends.
pub(crate) fn run(shared: &Arc<Shared>, mut session: Session) {
    *shared.bell.thread.lock() = Some(std::thread::current());
    let mut pen = shared.pen(&shared.boxes.upkeep);
    shared.introduce(&mut pen, session.number());
    let mut board_at_ms = 0;
    while shared.stage() < Stage::Stopped && !shared.workers_are_done() {
        let now = shared.clock.now();
        pen.tick(now.monotonic_ns);
        pen.enter(Phase::Maintaining);
        pen.count_turn();
        if pen.is_on() && now.uptime_ms >= board_at_ms {
            pen.write_board(&shared.board());
            board_at_ms = now.uptime_ms + whole_ms(PATIENCE);
        }
        if shared.settings.allow_drills {
            shared.wake_for_drills();
        }
        if session.maintain(now.wall_ms) {
            std::thread::yield_now();
            continue;
        }
        pen.enter(Phase::Sleeping);
        // ORDERING: Relaxed, as in `ring`.
        shared.bell.sleeping.store(1, Ordering::Relaxed);
        std::thread::park_timeout(PATIENCE);
        shared.bell.sleeping.store(0, Ordering::Relaxed);
    }
    pen.enter(Phase::Ended);
}
