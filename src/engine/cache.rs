//! The cache that all sessions share.
//!
//! Versions and flushes: every item has a version that no other had. Sessions take versions in
//! blocks from one counter; a flush raises a mark, and what has a version up to the mark is gone. An
//! item that was made from another one must go with it: it either has a version up to the mark as
//! well, or whoever made it can see the mark and finds its base gone.
//!
//! So these versions are not for callers to choose: one below the mark would be flushed before it is
//! stored, and one far above it would outlive flushes to come. One that a caller chooses is a field of
//! the item beside its own version, and only compared with what callers name.
//!
//! A new cache begins with a version drawn at random, below 2^52: callers may still hold versions of an
//! earlier cache that they knew by the same address, and a compare-and-set with one of those is to fail.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | next version | `flush_now`, `take_versions`, Release | `take_versions`, Acquire | who takes versions above a mark sees the mark | `an_append_does_not_outlive_a_flush` |
//! | flushed version | `flush_now`, Relaxed | `flushed_version`, Relaxed | it only rises; other words order it | `two_flushes_do_not_undo_each_other` |
//! | session numbers | `session`, `end_session`, holding their lock | each other | no two sessions have one number | `two_sessions_begin_and_end_at_once` |
//! | flush due | `flush_if_due`, Release | `is_flush_due`, Acquire | who sees that a flush is done sees its mark | `a_write_after_a_later_flush_is_kept` |

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::arena::Arena;
use crate::engine::config::{Config, ConfigError, Geometry};
use crate::engine::ghosts::Ghosts;
use crate::engine::header;
use crate::engine::huge::HugePageMaker;
use crate::engine::index::Index;
use crate::engine::index::ahead::SeenAt;
use crate::engine::index::word::{Entry, Extent, KeyHash};
use crate::engine::item::Item;
use crate::engine::log::Segments;
use crate::engine::scrub::Scrub;
use crate::engine::session::Session;
use crate::engine::stats::{self, Figure, Stats};
use crate::engine::upkeep::Caretaker;
use crate::pages::{PagePlan, Pages};
use crate::reclaim::Collector;
use crate::shape;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, is_unwinding, unique_number};

/// LIMIT: the version that a new cache begins with. So no version comes to 2^53 for a long while, up to which all
/// programs can tell numbers apart that read them as JSON.
const FIRST_VERSION_MAX: u64 = (1 << 52) - 1;

/// LIMIT: versions that a flush leaves unused, so that sessions rarely take more of them than that
/// while it is under way.
const FLUSH_AHEAD: u64 = 16 * shape::VERSION_BLOCK;

/// One in-memory cache, shared by any number of threads.
///
/// Cloning is cheap and gives the same cache. Every thread works through a [`Session`] of its own.
///
/// ```
/// use larder::{Cache, Config, Entry, Mode};
///
/// let cache = Cache::new(Config::new(16 << 20))?;
/// let mut session = cache.session()?;
/// let mut guard = session.pin(0);
/// let key = guard.key(b"greeting")?;
/// guard.store(&key, Mode::Set, &Entry::of(b"hello"))?;
/// assert_eq!(*guard.get(&key).expect("just stored").value(), *b"hello");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

/// What sessions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) arena: Arc<Arena>,
    pub(crate) geometry: Geometry,
    pub(crate) index: Index,
    pub(crate) segments: Arc<Segments>,
    pub(crate) ghosts: Ghosts,
    pub(crate) huge_pages: Mutex<HugePageMaker>,
    pub(crate) caretaker: Mutex<Caretaker>,
    pub(crate) scrub: Mutex<Scrub>,
    pub(crate) collector: Collector,
    /// Which of this process's caches it is.
    identity: u64,
    hash_seed: u64,
    /// Session numbers that are free.
    sessions: Mutex<Vec<u32>>,
    /// Held while a flush is set for later, or one that was is carried out.
    later_flush: Mutex<()>,
}

/// All sessions that the configuration allows exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {sessions_max} sessions are in use: raise `sessions_max`, or drop one")]
pub struct TooManySessions {
    /// The configured bound.
    pub sessions_max: u32,
}

/// What a cache accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, in bytes.
    pub key_bytes_max: u32,
    /// The longest value, in bytes.
    pub value_bytes_max: u64,
    /// The longest value that is stored in one piece, beside its key, in bytes. Longer ones are
    /// stored in pieces of their own.
    pub inline_bytes_max: u32,
}

impl Limits {
    fn of(geometry: &Geometry) -> Self {
        Self {
            key_bytes_max: geometry.key_bytes_max,
            value_bytes_max: geometry.value_bytes_max,
            inline_bytes_max: geometry.inline_bytes_max as u32,
        }
    }
}

/// Why bytes cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There are none.
    #[error("the key is empty: it must have at least 1 byte")]
    Empty,
    /// There are too many.
    #[error("the key has {key_bytes} bytes: at most {key_bytes_max} are accepted")]
    TooLong {
        /// Length of the refused key.
        key_bytes: usize,
        /// The limit.
        key_bytes_max: u32,
    },
}

/// A key that was checked and hashed, once, for every operation of the cache that made it.
///
/// It also says where that cache may have its entry, so it is worth little to another one: an
/// operation of another cache checks and hashes the bytes again, each time.
///
/// # Panics
///
/// An operation panics that is given the key of another cache which is longer than its own cache
/// accepts.
#[derive(Debug, Clone, Copy)]
pub struct Key<'k> {
    /// The [identity](Shared::identity) of the cache that made it: what follows is believed by no
    /// other.
    pub(super) cache: u64,
    pub(crate) bytes: &'k [u8],
    pub(crate) hash: KeyHash,
    /// Where the bucket lies that the hash belonged to when it was made.
    pub(crate) home_at: u64,
    /// Where its entry is, as far as was seen ahead.
    pub(crate) seen_at: SeenAt,
}

impl Cache {
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What a cache of this configuration would accept. Takes no memory.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work.
    pub fn check(config: &Config) -> Result<Limits, ConfigError> {
        Ok(Limits::of(&Geometry::for_config(config)?))
    }

    /// Creates an empty cache.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, or the system refuses the memory.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let geometry = Geometry::for_config(&config)?;
        let system = |reason| ConfigError::System {
            memory_bytes: config.memory_bytes,
            reason,
        };
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let hash_seed = config.hash_seed.unwrap_or_else(random);
        let first_version = config
            .first_version
            .unwrap_or_else(|| random() & FIRST_VERSION_MAX)
            .max(1);
        let mut arena = Arena::new(geometry.arena_bytes).map_err(system)?;
        arena.arrange_pages(&page_plan(&config, &geometry))?;
        Ok(Self::in_arena(arena, geometry, hash_seed, first_version))
    }

    /// Creates an empty cache of a given layout in an arena of its size.
    pub(crate) fn in_arena(
        arena: Arena,
        geometry: Geometry,
        hash_seed: u64,
        first_version: u64,
    ) -> Self {
        let arena = Arc::new(arena);
        header::write(&arena, &geometry, hash_seed, first_version);
        let index = Index::new(Arc::clone(&arena), geometry);
        let segments = Segments::new(Arc::clone(&arena), geometry);
        Self::of(arena, index, (segments, Scrub::default()), hash_seed)
    }

    /// The cache of an index and its segments, and with what of these is to be scrubbed.
    pub(crate) fn of(
        arena: Arc<Arena>,
        index: Index,
        (segments, scrub): (Segments, Scrub),
        hash_seed: u64,
    ) -> Self {
        let geometry = *segments.geometry();
        let shared = Shared {
            index,
            segments: Arc::new(segments),
            ghosts: Ghosts::new(Arc::clone(&arena), geometry),
            huge_pages: Mutex::default(),
            caretaker: Mutex::default(),
            scrub: Mutex::new(scrub),
            collector: Collector::new(),
            identity: unique_number(),
            sessions: Mutex::new((0..geometry.sessions_max).rev().collect()),
            later_flush: Mutex::new(()),
            arena,
            geometry,
            hash_seed,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A session for one thread.
    ///
    /// # Errors
    ///
    /// If as many exist as the configuration allows.
    pub fn session(&self) -> Result<Session, TooManySessions> {
        let number = self.shared.sessions.lock().pop();
        let sessions_max = self.shared.geometry.sessions_max;
        let number = number.ok_or(TooManySessions { sessions_max })?;
        Ok(Session::new(Arc::clone(&self.shared), number))
    }

    /// When the machine's monotonic clock was 0 by the clock that sessions of this cache are given, in
    /// its milliseconds, if somebody has [said so](Cache::set_clock_origin_ms): also in the process that
    /// the cache was recovered from.
    ///
    /// The monotonic clock goes on from one process to the next, the wall clock may be set meanwhile. Who
    /// has the times of a recovered cache go on from here has its items expire when they were to.
    pub fn clock_origin_ms(&self) -> Option<u64> {
        header::clock_origin_ms(&self.shared.arena)
    }

    /// Says when the machine's monotonic clock was 0 by the clock that sessions are given. The cache keeps
    /// it for whoever recovers it, and makes no use of it.
    pub fn set_clock_origin_ms(&self, origin_ms: u64) {
        header::store(&self.shared.arena, header::CLOCK_ORIGIN_MS, origin_ms);
    }

    /// Ends the cache in good order, if this is all that is left of it: no clone and no session; true if
    /// so. Dropping them all, the last one last, is the same.
    ///
    /// Its memory says so from then on, to whoever [recovers](Cache::recover) or
    /// [examines](Cache::examine) it, if somebody else [holds](Cache::memory) it.
    pub fn close(self) -> bool {
        Arc::into_inner(self.shared).is_some()
    }

    /// What this cache accepts.
    pub fn limits(&self) -> Limits {
        self.shared.limits()
    }

    /// The pages that the cache's memory comes in.
    pub fn pages(&self) -> Pages {
        self.shared.arena.pages()
    }

    /// All the memory that this process could come to have, swap included, as far as the machine and its control
    /// groups let it, in bytes; `None` where the system does not say.
    pub fn system_bytes(&self) -> Option<u64> {
        self.shared.arena.system_bytes()
    }

    /// Checks and hashes a key.
    ///
    /// # Errors
    ///
    /// If it is empty or longer than the limit.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Result<Key<'k>, KeyError> {
        self.shared.key(bytes)
    }

    /// Figures about the cache; what has expired counts as live. Walks the segment table, and takes
    /// no lock that an operation waits for.
    pub fn stats(&self) -> Stats {
        self.stats_at(0)
    }

    /// [`Cache::stats`] that tell what has expired by `now_ms` apart.
    pub fn stats_at(&self, now_ms: u64) -> Stats {
        Stats::collect(&self.shared.arena, &self.shared.geometry, now_ms)
    }

    /// What one [session](Session::number) counted, and those that had its number before: the
    /// figures of [`Stats`] that are sums over the sessions, by the same names. None for a number
    /// that no session has.
    pub fn session_figures(&self, number: u32) -> Vec<(&'static str, u64)> {
        let session = number.checked_sub(1);
        let session = session.filter(|&session| session < self.shared.geometry.sessions_max);
        session.map_or(Vec::new(), |session| {
            Stats::of_session(&self.shared.arena, &self.shared.geometry, session)
        })
    }
}

/// What the memory covers from the start: everything below the first chunk of buckets and that
/// chunk, the first chunk of overflow buckets, and the segments.
pub(crate) fn page_plan(config: &Config, geometry: &Geometry) -> PagePlan {
    let chunk_bytes = geometry.segment_bytes;
    let segments = geometry.segments_at..geometry.arena_bytes;
    PagePlan {
        huge_pages: config.huge_pages,
        prefault: config.prefault,
        in_use: vec![
            0..geometry.buckets_at + chunk_bytes,
            geometry.overflow_at..geometry.overflow_at + chunk_bytes,
            segments.clone(),
        ],
        segments,
        index: Vec::new(),
        given_away: Vec::new(),
    }
}

/// A key's hash with a cache's seed.
#[inline]
pub(crate) fn hash_of(key: &[u8], hash_seed: u64) -> KeyHash {
    KeyHash(xxh3_64_with_seed(key, hash_seed))
}

impl Shared {
    pub(crate) fn limits(&self) -> Limits {
        Limits::of(&self.geometry)
    }

    #[inline(always)]
    pub(crate) fn key<'k>(&self, bytes: &'k [u8]) -> Result<Key<'k>, KeyError> {
        self.key_within(self.index.extent(), bytes)
    }

    /// The same, where it is known how many buckets there are, or were a while ago.
    #[inline(always)]
    pub(crate) fn key_within<'k>(
        &self,
        extent: Extent,
        bytes: &'k [u8],
    ) -> Result<Key<'k>, KeyError> {
        let key_bytes_max = self.geometry.key_bytes_max;
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > key_bytes_max as usize {
            return Err(KeyError::TooLong {
                key_bytes: bytes.len(),
                key_bytes_max,
            });
        }
        let hash = self.hash(bytes);
        Ok(Key {
            cache: self.identity,
            bytes,
            hash,
            home_at: self.index.home_at(hash, extent),
            seen_at: SeenAt::UNKNOWN,
        })
    }

    /// Whether this cache made the key.
    #[inline(always)]
    pub(crate) fn made(&self, key: &Key<'_>) -> bool {
        key.cache == self.identity
    }

    /// The key as this cache makes it: itself, or another one, for which there is a `place`.
    #[inline(always)]
    pub(crate) fn own<'a, 'k>(
        &self,
        key: &'a Key<'k>,
        place: &'a mut Option<Key<'k>>,
    ) -> &'a Key<'k> {
        match self.made(key) {
            true => key,
            false => place.insert(self.adopt(key)),
        }
    }

    /// The key of another cache as this cache makes it.
    #[cold]
    #[inline(never)]
    pub(crate) fn adopt<'k>(&self, key: &Key<'k>) -> Key<'k> {
        match self.key(key.bytes) {
            Ok(key) => key,
            Err(error) => panic!("the key of another cache: {error}"),
        }
    }

    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        hash_of(key, self.hash_seed)
    }

    /// The item that an entry names.
    ///
    /// # Safety
    ///
    /// The entry was read under a pin that is still live when the result is used, or its segment
    /// cannot be reclaimed for another reason.
    #[inline]
    pub(crate) unsafe fn item(&self, entry: Entry) -> Item<'_> {
        // SAFETY: entries name whole items; the caller answers for the pin.
        unsafe { Item::read(&self.arena, entry.offset()) }
    }

    /// Items whose version is not above this were flushed.
    #[inline]
    pub(crate) fn flushed_version(&self) -> u64 {
        // ORDERING: Relaxed; the word only rises, nothing but its value is read through it, and who
        // must see a flush is ordered after it by other words: by the entry of an item with a
        // version above it, by `take_versions`, or by `is_flush_due`.
        self.flushed_word().load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn flushed_word(&self) -> &AtomicU64 {
        self.arena.word(header::FLUSHED_VERSION)
    }

    /// Tells this cache's keys from those of others. Not 0.
    #[inline]
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// Flushes what is stored now.
    ///
    /// What has a version up to `FLUSHED_VERSION` is flushed, so that word must rise above every
    /// version that was taken before, and no version above it may be taken by anyone who cannot see
    /// it. So it is raised some way ahead of the counter of versions first, and the counter past it
    /// then; where the counter has meanwhile gone further than that way, once more.
    pub(crate) fn flush_now(&self) {
        let flushed = self.arena.word(header::FLUSHED_VERSION);
        let next = self.arena.word(header::NEXT_VERSION);
        loop {
            // ORDERING: Relaxed; a guess, which the last step checks.
            let version = next.load(Ordering::Relaxed) + FLUSH_AHEAD;
            // ORDERING: Relaxed; see `flushed_version`.
            flushed.fetch_max(version, Ordering::Relaxed);
            // ORDERING: Release, with the Acquire of `take_versions`: who takes versions above this
            // one sees that everything up to it is flushed.
            if next.fetch_max(version + 1, Ordering::Release) <= version + 1 {
                return;
            }
        }
    }

    /// Takes a block of versions, above those that are flushed.
    pub(crate) fn take_versions(&self) -> std::ops::Range<u64> {
        let next = self.arena.word(header::NEXT_VERSION);
        // ORDERING: Release, as in `flush_now`, which may not have come so far yet.
        next.fetch_max(self.flushed_version() + 1, Ordering::Release);
        // ORDERING: Acquire, with the Release above and in `flush_now`.
        let start = next.fetch_add(shape::VERSION_BLOCK, Ordering::Acquire);
        start..start + shape::VERSION_BLOCK
    }

    /// Versions from this one on were never given out.
    pub(crate) fn versions_taken(&self) -> u64 {
        // ORDERING: Relaxed; the word only rises, and who has read a version of the key is ordered
        // behind whoever took it.
        self.arena
            .word(header::NEXT_VERSION)
            .load(Ordering::Relaxed)
    }

    /// Sets a flush for later, in place of one that is not due yet.
    pub(crate) fn flush_at(&self, at_ms: u64) {
        let _held = self.later_flush.lock();
        let due = self.arena.word(header::FLUSH_DUE_MS);
        // ORDERING: Relaxed; a time, which nothing else depends on.
        due.store(at_ms, Ordering::Relaxed);
    }

    /// Whether a flush that was set for later is due.
    #[inline]
    pub(crate) fn is_flush_due(&self, now_ms: u64) -> bool {
        // ORDERING: Acquire, with the Release in `flush_if_due`: who sees that the flush is done
        // also sees the versions that it flushed, and stores above them.
        let due_ms = self
            .arena
            .word(header::FLUSH_DUE_MS)
            .load(Ordering::Acquire);
        due_ms != 0 && due_ms <= now_ms
    }

    /// Flushes, in place of a flush that was set for later.
    pub(crate) fn flush_at_once(&self) {
        let _held = self.later_flush.lock();
        self.end_later_flush();
    }

    /// Carries out a flush that is due, unless another session just did.
    ///
    /// Whoever comes when it is due waits here until it is done: a session that went ahead would
    /// store what the flush then takes away.
    #[cold]
    pub(crate) fn flush_if_due(&self, now_ms: u64) {
        let _held = self.later_flush.lock();
        if self.is_flush_due(now_ms) {
            self.end_later_flush();
        }
    }

    /// Flushes; then none is set for later any more. The caller holds that lock.
    fn end_later_flush(&self) {
        self.flush_now();
        let due = self.arena.word(header::FLUSH_DUE_MS);
        // ORDERING: Release, with `is_flush_due`.
        due.store(0, Ordering::Release);
    }

    /// A figure of all sessions together.
    pub(crate) fn sum(&self, figure: Figure) -> u64 {
        stats::sum(&self.arena, &self.geometry, figure)
    }

    /// Notes that the cache is in use.
    pub(crate) fn note_use(&self, now_ms: u64) {
        if shape::IS_WATCHED {
            // ORDERING: Relaxed; a time, for whoever looks at the memory from outside.
            let last_used = self.arena.word(header::LAST_USED_MS);
            last_used.store(now_ms, Ordering::Relaxed);
        }
    }

    /// How many sessions there are.
    pub(crate) fn live_sessions(&self) -> u32 {
        self.geometry.sessions_max - self.sessions.lock().len() as u32
    }

    /// Gives a session's number back.
    pub(crate) fn end_session(&self, number: u32) {
        self.sessions.lock().push(number);
    }
}

impl Drop for Shared {
    /// Nobody uses the cache any more: its memory may say so, unless a panic is on its way that may
    /// have come from the midst of something.
    fn drop(&mut self) {
        if shape::IS_WATCHED && !is_unwinding() {
            header::store(&self.arena, header::ENDED, 1);
        }
    }
}
