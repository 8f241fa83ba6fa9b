//! A lookout over a memory from outside: what its sessions count, and what holds them up.
//!
//! The memory is mapped to be read, and only its header, its counters and its segment table are, with
//! single loads: so it disturbs nobody, needs nobody, and works while the owner's threads hang or after
//! they are gone. What it tells is of no one instant, and nobody vouches for it.

use crate::arena::{Arena, BorrowedFd};
use crate::engine::config::{Config, Geometry};
use crate::engine::header;
use crate::engine::index::word::Wait;
use crate::engine::recover::{RecoverError, accepted};
use crate::engine::stats::{Counters, Figure, Stats};

/// A look at a cache from another process, or after its process is gone. Nothing is changed by it.
///
/// ```
/// use larder::{Cache, Config, Lookout};
///
/// let config = Config::new(16 << 20);
/// let cache = Cache::new(config.clone())?;
/// let lookout = Lookout::over(cache.memory(), &config)?;
/// let mut session = cache.session()?;
/// let guard = session.pin(1_000);
/// assert_eq!(lookout.session(1).and_then(|seen| seen.pinned_since_ms), Some(1_000));
/// drop(guard);
/// assert!(lookout.sessions().all(|seen| seen.pinned_since_ms.is_none()));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Lookout {
    arena: Arena,
    geometry: Geometry,
}

/// What a session says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionSeen {
    /// Its [number](crate::Session::number).
    pub number: u32,
    /// Since when it is pinned, in milliseconds of the clock that it was given; `None`: it is not. What
    /// is freed meanwhile is not used again before it unpins.
    pub pinned_since_ms: Option<u64>,
    /// The lock that it waits for; `None`: for none.
    pub waits_for: Option<LockWait>,
}

/// A wait for the lock of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockWait {
    /// The bucket.
    pub bucket: u64,
    /// The [number](crate::Session::number) of the session that held it when that was last looked at;
    /// `None`: nobody did.
    pub held_by: Option<u32>,
}

impl Lookout {
    /// Looks out over the memory of a cache with this configuration.
    ///
    /// # Errors
    ///
    /// What [`Cache::recover`](crate::Cache::recover) would refuse the memory for, but for its being in
    /// use.
    pub fn over(memory: BorrowedFd<'_>, config: &Config) -> Result<Self, RecoverError> {
        let geometry = Geometry::for_config(config)?;
        let arena = Arena::look_at(memory, header::BYTES_MIN);
        let arena = arena.map_err(|reason| RecoverError::Memory { reason })?;
        accepted(&arena, &geometry, config)?;
        Ok(Self { arena, geometry })
    }

    /// When the machine's monotonic clock was 0 by the clock that sessions are given, as
    /// [`Cache::clock_origin_ms`](crate::Cache::clock_origin_ms) gives it.
    pub fn clock_origin_ms(&self) -> Option<u64> {
        header::clock_origin_ms(&self.arena)
    }

    /// What the session of this number says; `None` for a number that no session can have.
    pub fn session(&self, number: u32) -> Option<SessionSeen> {
        let counters = Counters::of_session(&self.geometry, self.checked(number)?);
        let since_ms = counters.get(&self.arena, Figure::PinnedSinceMs);
        let wait = Wait(counters.get(&self.arena, Figure::WaitsFor));
        let held_by = wait
            .holder()
            .filter(|&holder| holder < self.geometry.sessions_max);
        Some(SessionSeen {
            number,
            pinned_since_ms: (since_ms > 0).then_some(since_ms),
            waits_for: wait.bucket().map(|bucket| LockWait {
                bucket,
                held_by: held_by.map(|holder| holder + 1),
            }),
        })
    }

    /// What each session says, those included that do not exist at the moment.
    pub fn sessions(&self) -> impl Iterator<Item = SessionSeen> + '_ {
        (1..=self.geometry.sessions_max).filter_map(|number| self.session(number))
    }

    /// The figures of the cache, as [`Cache::stats_at`](crate::Cache::stats_at) gives them; what waits
    /// for readers is `limbo_bytes`.
    pub fn stats_at(&self, now_ms: u64) -> Stats {
        Stats::collect(&self.arena, &self.geometry, now_ms)
    }

    /// What one session counted, as
    /// [`Cache::session_figures`](crate::Cache::session_figures) gives it.
    pub fn session_figures(&self, number: u32) -> Vec<(&'static str, u64)> {
        let session = self.checked(number);
        session.map_or(Vec::new(), |session| {
            Stats::of_session(&self.arena, &self.geometry, session)
        })
    }

    /// The memory.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.arena.memory()
    }

    /// Where in the memory its contents begin: what is seen from here is before that.
    pub fn contents_at(&self) -> u64 {
        self.geometry.buckets_at
    }

    /// The number from 0 on of a session that can be.
    fn checked(&self, number: u32) -> Option<u32> {
        let session = number.checked_sub(1)?;
        (session < self.geometry.sessions_max).then_some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::{LockWait, Lookout, Wait};
    use crate::engine::cache::Cache;
    use crate::engine::config::Config;
    use crate::engine::index::word::Control;
    use crate::engine::operations::{Entry, Mode};
    use crate::engine::recover::Proof;
    use crate::engine::stats::{Counters, Figure};

    fn config() -> Config {
        let mut config = Config::new(4 << 20);
        config.sessions_max = 3;
        config
    }

    #[test]
    fn who_waits_for_a_lock_is_seen_with_the_bucket_and_its_holder() {
        let cache = Cache::new(config()).expect("a cache");
        let lookout = Lookout::over(cache.memory(), &config()).expect("a cache's memory");
        let shared = cache.shared();
        let hash = shared.hash(b"key");
        let mut waiting = cache.session().expect("a session");
        assert_eq!(waiting.number(), 1);
        // As a session does that hangs in the midst of a write.
        let held = shared.index.lock(hash, 2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut guard = waiting.pin(1);
                let key = guard.key(b"key").expect("a key");
                let _ = guard.store(&key, Mode::Set, &Entry::of(b"value"));
            });
            let seen = loop {
                if let Some(wait) = lookout.session(1).expect("it can be").waits_for {
                    break wait;
                }
                std::thread::yield_now();
            };
            let bucket = hash.bucket(shared.index.buckets());
            let held_by = Some(3);
            assert_eq!(seen, LockWait { bucket, held_by });
            drop(held);
        });
        assert!(lookout.sessions().all(|seen| seen.waits_for.is_none()));
        assert_eq!((lookout.session(0), lookout.session(4)), (None, None));
    }

    #[test]
    fn figures_are_those_of_the_cache_and_what_the_dead_waited_for_is_forgotten() {
        let cache = Cache::new(config()).expect("a cache");
        let memory = cache.memory().try_clone_to_owned().expect("a descriptor");
        let lookout = Lookout::over(cache.memory(), &config()).expect("a cache's memory");
        {
            let mut session = cache.session().expect("a session");
            for number in 0..3000 {
                let name = number.to_string();
                let mut guard = session.pin(7);
                let key = guard.key(name.as_bytes()).expect("a key");
                let stored = guard.store(&key, Mode::Set, &Entry::of(&[1; 200]));
                assert!(stored.is_ok());
            }
            let _guard = session.pin(9);
            assert_eq!(lookout.stats_at(10), cache.stats_at(10));
            assert_eq!(
                lookout.session(1).and_then(|seen| seen.pinned_since_ms),
                Some(9)
            );
            assert_eq!(lookout.session_figures(1), cache.session_figures(1));
            assert!(lookout.session_figures(9).is_empty());
        }
        let shared = cache.shared();
        let waiting = Counters::of_session(&shared.geometry, 1);
        let wait = Wait::new(5, Control(0).locked_by(77));
        waiting.set(&shared.arena, Figure::WaitsFor, wait.0);
        waiting.set(&shared.arena, Figure::PinnedSinceMs, 8);
        drop(cache);
        // A holder that there cannot be is none.
        let seen = lookout.session(2).expect("it can be");
        assert_eq!(
            seen.waits_for.map(|wait| (wait.bucket, wait.held_by)),
            Some((5, None))
        );
        let recovered = Cache::recover(memory, &config(), Proof::Lengths);
        let (_cache, _) = recovered.expect("the memory is whole");
        let seen = lookout.session(2).expect("it can be");
        assert_eq!((seen.waits_for, seen.pinned_since_ms), (None, None));
    }
}
