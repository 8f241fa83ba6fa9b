//! What the supervisor sees of the process that serves: its threads' black boxes, and the cache's
//! memory from outside.
//!
//! Both are mapped once for each worker process, when it says that it serves, and stay until the next
//! one does: so what the last one did can be told while there is none. To look is to read memory. It
//! takes no lock of the worker's and asks it nothing.

use std::time::SystemTime;

use rustix::time::{ClockId, clock_gettime};

use super::journal::whole_ms;
use super::kept::Kept;
use crate::blackbox::{BlackBox, Board, Kind};
use crate::engine::{Config, Lookout};
use crate::sync::{Arc, Mutex};

/// What is seen, as the supervisor and its endpoint share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight(Arc<Mutex<Arc<Seen>>>);

/// What is seen of one worker process.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Its threads: workers in the order of their numbers, then the others.
    pub(super) threads: Vec<SeenThread>,
    /// The cache's memory; `None`: this program cannot read it.
    pub(super) lookout: Option<Lookout>,
}

/// A thread and its black box.
#[derive(Debug)]
pub(super) struct SeenThread {
    /// What it is called: `worker-0`, `upkeep`.
    pub(super) name: String,
    pub(super) black_box: Arc<BlackBox>,
}

impl Sight {
    /// Maps what the worker process has left with the supervisor.
    pub(super) fn renew(&self, kept: &Kept, cache: &Config) {
        let mut threads: Vec<_> = kept.black_boxes().filter_map(seen_thread).collect();
        threads.sort_by_key(|thread| {
            let black_box = &thread.black_box;
            (black_box.kind().map(|kind| kind as u8), black_box.number())
        });
        let lookout = kept.memory().and_then(|(_, memory)| {
            Lookout::over(memory, cache)
                .inspect_err(|error| tracing::warn!("the memory cannot be looked at: {error}"))
                .ok()
        });
        *self.0.lock() = Arc::new(Seen { threads, lookout });
    }

    /// What is seen now.
    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.0.lock())
    }
}

fn seen_thread((name, memory): (&str, std::os::fd::BorrowedFd<'_>)) -> Option<SeenThread> {
    let attached = memory.try_clone_to_owned().map_err(Into::into);
    let black_box = attached
        .and_then(BlackBox::attach)
        .inspect_err(|error| tracing::warn!("the black box of {name} cannot be read: {error}"))
        .ok()?;
    Some(SeenThread {
        name: name.to_owned(),
        black_box: Arc::new(black_box),
    })
}

impl Seen {
    /// The black box of a worker.
    pub(super) fn worker(&self, number: u32) -> Option<&SeenThread> {
        let is_it = |thread: &&SeenThread| {
            thread.black_box.kind() == Some(Kind::Worker) && thread.black_box.number() == number
        };
        self.threads.iter().find(is_it)
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        let kinds = self.threads.iter().map(|thread| thread.black_box.kind());
        kinds.filter(|kind| *kind == Some(Kind::Worker)).count()
    }

    /// The figures of STATS, as the worker process last wrote them down.
    pub(super) fn board(&self) -> Option<Board> {
        let is_upkeep = |thread: &&SeenThread| thread.black_box.kind() == Some(Kind::Upkeep);
        let board = self.threads.iter().find(is_upkeep)?.black_box.board();
        (board.time_ns > 0).then_some(board)
    }

    /// What a session is pinned for, in milliseconds, if it is.
    pub(super) fn pinned_ms(&self, session: u32, now: Moment) -> Option<u64> {
        let seen = self.lookout.as_ref()?.session(session)?;
        let since_ms = seen.pinned_since_ms?;
        Some(now.wall_ms.saturating_sub(since_ms))
    }
}

/// One reading of the clocks that black boxes and memory know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Milliseconds since the Unix epoch.
    pub(super) wall_ms: u64,
    /// Nanoseconds of the monotonic clock, the same in every process of the machine.
    pub(super) monotonic_ns: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time = clock_gettime(ClockId::Monotonic);
        Self {
            wall_ms: whole_ms(wall.unwrap_or_default()),
            monotonic_ns: (time.tv_sec as u64).wrapping_mul(1_000_000_000) + time.tv_nsec as u64,
        }
    }

    /// How long ago something was, in nanoseconds.
    pub(super) fn since_ns(self, then_ns: u64) -> u64 {
        self.monotonic_ns.saturating_sub(then_ns)
    }
}
