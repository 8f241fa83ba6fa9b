//! What the threads of a server share: settings, the cache, mailboxes, and how far it has come.

use std::time::Duration;

use mio::Waker;

use super::buffers::BufferBudget;
use super::clock::{Clock, Now};
use super::counters::Counters;
use super::drill::Deadly;
use super::listener::Accepted;
use super::quarantine::NotExecuted;
use super::roster::Roster;
use super::settings::Settings;
use super::tongue::Dialects;
use super::tuning::{Tuned, Tuning};
use super::upkeep::Bell;
use crate::blackbox::{BlackBox, Boxes, Fingerprint, Pen, Thread};
use crate::engine::Cache;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// How far a server has come. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub(crate) enum Stage {
    /// Connections are accepted and served.
    Serving = 0,
    /// Somebody asked for the end; the acceptor closes its listeners.
    DrainWanted = 1,
    /// No new connections; workers close theirs as they fall quiet.
    Draining = 2,
    /// Everything ends at once.
    Stopped = 3,
}

/// One worker as the other threads see it.
#[derive(Debug)]
pub(crate) struct Station {
    /// The number of its session with the cache.
    pub(crate) session: u32,
    pub(crate) counters: Counters,
    pub(crate) black_box: Arc<BlackBox>,
    /// Connections accepted for this worker and not yet taken over.
    pub(crate) mailbox: Mutex<Vec<Accepted>>,
    /// Its connections, as others may know them.
    pub(crate) roster: Roster,
    pub(crate) waker: Waker,
}

/// What the threads of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// What counts of these, where it can change.
    pub(super) tuned: Tuned,
    pub(crate) dialects: Dialects,
    pub(crate) cache: Cache,
    pub(crate) clock: Clock,
    pub(crate) budget: Arc<BufferBudget>,
    pub(crate) acceptor_counters: Counters,
    pub(crate) acceptor_waker: Waker,
    pub(crate) stations: Vec<Arc<Station>>,
    pub(crate) bell: Bell,
    pub(crate) boxes: Boxes,
    /// What the counts were when somebody last wanted them to begin anew.
    pub(crate) counts_before: Mutex<Vec<(String, u64)>>,
    /// The number of the maintenance thread's session; `None`: there is no such thread.
    pub(crate) upkeep_session: Option<u32>,
    /// What is not executed: of a key that is deadly, and what processes have died of.
    not_executed: NotExecuted,
    /// The key that workers die of.
    pub(super) deadly: Option<Deadly>,
    /// Workers that have not ended.
    workers_left: AtomicU64,
    stage: AtomicU64,
    drain_deadline_ms: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        dialects: Dialects,
        cache: Cache,
        acceptor_waker: Waker,
        stations: Vec<Arc<Station>>,
        boxes: Boxes,
        upkeep_session: Option<u32>,
    ) -> Self {
        let deadly = settings.deadly_key.as_ref();
        let deadly = deadly.filter(|_| settings.allow_drills);
        let deadly = deadly.and_then(|deadly| Deadly::of(deadly, &cache));
        let of_deadly = deadly.iter().flat_map(Deadly::fingerprints);
        Self {
            not_executed: NotExecuted::new(of_deadly, &settings.quarantine),
            deadly,
            budget: Arc::new(BufferBudget::new(settings.buffer_bytes_max)),
            tuned: Tuned::new(&Tuning::of(&settings)),
            settings,
            dialects,
            clock: Clock::of(&cache),
            cache,
            acceptor_counters: Counters::of(Arc::clone(&boxes.acceptor)),
            boxes,
            acceptor_waker,
            workers_left: AtomicU64::new(stations.len() as u64),
            stations,
            upkeep_session,
            bell: Bell::default(),
            counts_before: Mutex::new(Vec::new()),
            stage: AtomicU64::new(Stage::Serving as u64),
            drain_deadline_ms: AtomicU64::new(u64::MAX),
        }
    }

    /// The pen of a thread, for its box.
    pub(crate) fn pen(&self, black_box: &Arc<BlackBox>) -> Pen {
        match self.settings.black_box {
            true => Pen::new(Arc::clone(black_box)),
            false => Pen::off(),
        }
    }

    /// Says in the black box of the calling thread whose it is.
    pub(crate) fn introduce(&self, pen: &mut Pen, session: u32) {
        let now = self.clock.now();
        pen.tick(now.monotonic_ns);
        pen.introduce(&Thread {
            process: std::process::id(),
            thread: rustix::thread::gettid().as_raw_nonzero().get() as u32,
            session,
            started: Duration::from_millis(now.wall_ms),
            build: concat!("larder ", env!("CARGO_PKG_VERSION")),
        });
    }

    /// What is not executed at this time.
    #[inline]
    pub(super) fn quarantine(&self, now: Now) -> &[Fingerprint] {
        self.not_executed.at(now)
    }

    /// What is not executed at this time since processes have died of it.
    pub(super) fn quarantine_proper(&self, now: Now) -> &[Fingerprint] {
        self.not_executed.died_of_at(now)
    }

    pub(crate) fn stage(&self) -> Stage {
        // ORDERING: Acquire pairs with the Release in `advance`: whoever sees Draining sees the
        // deadline that was set before it, and finds the last connections in its mailbox.
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::DrainWanted,
            2 => Stage::Draining,
            _ => Stage::Stopped,
        }
    }

    /// Moves on to `stage` unless the server is already further, and wakes whom it concerns.
    pub(crate) fn advance(&self, stage: Stage) {
        // ORDERING: Release pairs with the Acquire in `stage`.
        self.stage.fetch_max(stage as u64, Ordering::Release);
        // A thread that has ended needs no waking.
        let _ = self.acceptor_waker.wake();
        if stage == Stage::Stopped {
            self.bell.ring_always();
        }
        if stage >= Stage::Draining {
            for station in &self.stations {
                let _ = station.waker.wake();
            }
        }
    }

    /// Notes that a worker has ended; with the last one the maintenance ends.
    pub(crate) fn end_worker(&self) {
        // ORDERING: Relaxed; nothing is read through the count, and the bell's lock orders the rest.
        self.workers_left.fetch_sub(1, Ordering::Relaxed);
        self.bell.ring_always();
    }

    /// Whether all workers have ended.
    pub(crate) fn workers_are_done(&self) -> bool {
        // ORDERING: Relaxed, as in `end_worker`.
        self.workers_left.load(Ordering::Relaxed) == 0
    }

    /// Asks for the end within the drain timeout. Later calls change nothing.
    pub(crate) fn drain(&self) {
        let timeout_ms = self.tuned.drain_ms();
        // The millisecond that has begun is not a part of it: clients have all of the time.
        let next_ms = self.clock.now().uptime_ms + 1;
        let deadline_ms = next_ms.saturating_add(timeout_ms);
        // ORDERING: Relaxed; the Release of the stage publishes it. The earliest deadline stays.
        self.drain_deadline_ms
            .fetch_min(deadline_ms, Ordering::Relaxed);
        self.advance(Stage::DrainWanted);
    }

    /// When the drain is over, in milliseconds of uptime.
    pub(crate) fn drain_deadline_ms(&self) -> u64 {
        // ORDERING: Relaxed; callers have seen the stage that it was set before.
        self.drain_deadline_ms.load(Ordering::Relaxed)
    }
}
