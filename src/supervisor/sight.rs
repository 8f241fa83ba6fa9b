//! What the supervisor sees of a process that serves: its threads' black boxes, and the cache's memory
//! from outside.
//!
//! Both are mapped once for each worker process, when it says that it serves, and stay until the next
//! one does: so what the last one did can be told while there is none. Whoever tells of it shares the one
//! mapping: the endpoint by way of [`Sight`], the [watch](super::watch) and the evidence that it saves. To
//! look is to read memory. It takes no lock of the worker's and asks it nothing.

use std::os::fd::BorrowedFd;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, fallocate, fstat};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::journal::whole_ms;
use super::kept::Kept;
use crate::blackbox::{BlackBox, Board, Kind};
use crate::engine::{Config, Lookout, Stats};
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
    pub(super) kind: Kind,
    pub(super) black_box: BlackBox,
}

impl Sight {
    /// From now on, this is seen.
    pub(super) fn turn_to(&self, seen: Arc<Seen>) {
        *self.0.lock() = seen;
    }

    /// What is seen now.
    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.0.lock())
    }
}

impl SeenThread {
    /// `None`: the box does not say whose it is.
    pub(super) fn of(black_box: BlackBox) -> Option<Self> {
        let kind = black_box.kind()?;
        let name = match kind {
            Kind::Worker => format!("worker-{}", black_box.number()),
            kind => kind.name().to_owned(),
        };
        Some(Self {
            name,
            kind,
            black_box,
        })
    }

    fn over((name, memory): (&str, BorrowedFd<'_>)) -> Option<Self> {
        let attached = memory.try_clone_to_owned().map_err(Into::into);
        let black_box = attached
            .and_then(BlackBox::attach)
            .inspect_err(|error| tracing::warn!("the black box of {name} cannot be read: {error}"))
            .ok()?;
        Self::of(black_box)
    }
}

impl Seen {
    /// Maps what a worker process has left with the supervisor: those black boxes that its threads write
    /// to, or will. A box that cannot be read is left out: what it would tell is not known, whatever is
    /// done.
    pub(super) fn of_process(pid: Pid, kept: &Kept, cache: &Config) -> Self {
        let number = pid.as_raw_nonzero().get().unsigned_abs();
        // A thread that has not begun yet has not said whose it is.
        let is_of_process =
            |thread: &SeenThread| [0, number].contains(&thread.black_box.snapshot().process);
        let threads = kept.black_boxes().filter_map(SeenThread::over);
        let lookout = kept.memory().and_then(|(_, memory)| {
            Lookout::over(memory, cache)
                .inspect_err(|error| tracing::warn!("the memory cannot be looked at: {error}"))
                .ok()
        });
        Self::of(threads.filter(is_of_process).collect(), lookout)
    }

    /// Puts the threads in their order.
    pub(super) fn of(mut threads: Vec<SeenThread>, lookout: Option<Lookout>) -> Self {
        threads.sort_by_key(|thread| (thread.kind as u8, thread.black_box.number()));
        Self { threads, lookout }
    }

    /// The threads that serve connections.
    pub(super) fn workers(&self) -> impl Iterator<Item = &SeenThread> {
        let threads = self.threads.iter();
        threads.filter(|thread| thread.kind == Kind::Worker)
    }

    /// The black box of a worker.
    pub(super) fn worker(&self, number: u32) -> Option<&SeenThread> {
        self.workers()
            .find(|thread| thread.black_box.number() == number)
    }

    /// That a number is no worker's, and which ones are.
    pub(super) fn no_such_worker(&self, number: u32) -> String {
        let last = self.workers().count().saturating_sub(1);
        format!("there is no worker {number}; accepted: 0 to {last}")
    }

    /// Who has a session.
    pub(super) fn with_session(&self, session: u32) -> Option<&SeenThread> {
        let mut threads = self.threads.iter();
        threads.find(|thread| thread.black_box.snapshot().session == session)
    }

    /// The figures of STATS, as the worker process last wrote them down.
    pub(super) fn board(&self) -> Option<Board> {
        let is_upkeep = |thread: &&SeenThread| thread.kind == Kind::Upkeep;
        let board = self.threads.iter().find(is_upkeep)?.black_box.board();
        (board.time_ns > 0).then_some(board)
    }

    /// The time by the clock that the cache is used with, in its milliseconds. It goes on with the machine's
    /// monotonic clock: the wall clock may have been set since.
    pub(super) fn cache_ms(&self, now: Moment) -> u64 {
        let lookout = self.lookout.as_ref();
        match lookout.and_then(Lookout::clock_origin_ms) {
            Some(origin_ms) => origin_ms.saturating_add(now.monotonic_ns / 1_000_000),
            None => now.wall_ms,
        }
    }

    /// Gives the contents of the cache back to the system, whoever else has its memory: to them it is zeros from
    /// then on. Its counters stay.
    pub(super) fn give_contents_back(&self) {
        if let Some(Err(error)) = self.lookout.as_ref().map(give_back) {
            tracing::warn!("the contents that are given up still take memory for a while: {error}");
        }
    }

    /// The figures of the cache.
    pub(super) fn stats(&self, now: Moment) -> Option<Stats> {
        let lookout = self.lookout.as_ref()?;
        Some(lookout.stats_at(self.cache_ms(now)))
    }

    /// Since when a session is pinned, by the cache's clock, if it is.
    pub(super) fn pinned_since_ms(&self, session: u32) -> Option<u64> {
        self.lookout.as_ref()?.session(session)?.pinned_since_ms
    }

    /// What a session is pinned for, in milliseconds, if it is.
    pub(super) fn pinned_ms(&self, session: u32, now: Moment) -> Option<u64> {
        let since_ms = self.pinned_since_ms(session)?;
        Some(self.cache_ms(now).saturating_sub(since_ms))
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

fn give_back(lookout: &Lookout) -> rustix::io::Result<()> {
    let (memory, from) = (lookout.memory(), lookout.contents_at());
    let bytes = u64::try_from(fstat(memory)?.st_size).unwrap_or(0);
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(memory, flags, from, bytes.saturating_sub(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Cache, Entry, Mode};

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn a_pin_is_as_old_as_the_cache_s_own_clock_says_whatever_the_wall_clock_does() {
        let config = Config::new(4 << 20);
        let cache = Cache::new(config.clone()).unwrap();
        let look = || Lookout::over(cache.memory(), &config).unwrap();
        let now = Moment {
            wall_ms: 20 * HOUR_MS,
            monotonic_ns: 7 * HOUR_MS * 1_000_000,
        };
        let mut session = cache.session().unwrap();
        let number = session.number();
        // Nobody has said which clock it is: the wall clock is what there is.
        let guard = session.pin(now.wall_ms - 5);
        let seen = Seen::of(Vec::new(), Some(look()));
        assert_eq!(seen.pinned_ms(number, now), Some(5));
        drop(guard);
        // The wall clock was set an hour forward, and two hours back, since the cache's clock began.
        for origin_ms in [12 * HOUR_MS, 15 * HOUR_MS] {
            cache.set_clock_origin_ms(origin_ms);
            let _guard = session.pin(origin_ms + 7 * HOUR_MS - 5);
            assert_eq!(seen.pinned_ms(number, now), Some(5));
            assert_eq!(seen.cache_ms(now), origin_ms + 7 * HOUR_MS);
        }
        assert_eq!(seen.pinned_ms(number, now), None);
    }

    #[test]
    fn what_is_seen_outlasts_the_contents_that_are_given_back() {
        let config = Config::new(4 << 20);
        let cache = Cache::new(config.clone()).expect("a cache");
        let lookout = Lookout::over(cache.memory(), &config).expect("a cache's memory");
        let mut session = cache.session().expect("a session");
        let mut guard = session.pin(1);
        let value = [1; 2000];
        for number in 0..500_u32 {
            let name = number.to_string();
            let key = guard.key(name.as_bytes()).expect("a key");
            let stored = guard.store(&key, Mode::Set, &Entry::of(&value));
            assert!(stored.is_ok());
        }
        drop(guard);
        drop(session);
        let seen = lookout.stats_at(1);
        let memory = cache.memory().try_clone_to_owned().expect("a descriptor");
        drop(cache);
        let held_bytes = || rustix::fs::fstat(&memory).expect("its figures").st_blocks * 512;
        assert!(held_bytes() > 1_000_000);
        let seen_then = Seen::of(Vec::new(), Some(lookout));
        seen_then.give_contents_back();
        assert!(held_bytes() < 100_000, "{}", held_bytes());
        let lookout = seen_then.lookout.expect("it is there");
        assert_eq!(lookout.stats_at(1), seen);
    }
}
