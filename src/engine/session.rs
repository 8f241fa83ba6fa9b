//! Sessions: one thread's handle to the cache.

use crate::engine::cache::Shared;
use crate::engine::guard::Guard;
use crate::engine::index::ahead::{Ahead, Reach};
use crate::engine::index::word::KeyHash;
use crate::engine::writer::Writer;
use crate::reclaim::{Handle, Pin};
use crate::sync::Arc;

/// One thread's handle to a [`Cache`](crate::Cache).
///
/// It can move to another thread (`Send`), and only one thread can use it at a time (not `Sync`):
///
/// ```compile_fail
/// fn share<T: Sync>() {}
/// share::<larder::Session>();
/// ```
///
/// ```
/// fn hand_over<T: Send>() {}
/// hand_over::<larder::Session>();
/// ```
#[derive(Debug)]
pub struct Session {
    writer: Writer,
    handle: Handle,
    shared: Arc<Shared>,
    number: u32,
    /// `Send`, but not `Sync`.
    _not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, number: u32) -> Self {
        Self {
            writer: Writer::new(&shared, number),
            handle: shared.collector.register(),
            shared,
            number,
            _not_sync: std::marker::PhantomData,
        }
    }

    /// Its number, from 1 on: what [`Stats`](crate::Stats) and
    /// [`Cache::session_figures`](crate::Cache::session_figures) know it by. Once it ends, another
    /// session may get it.
    pub fn number(&self) -> u32 {
        self.number + 1
    }

    /// Pins: operations run on the guard, a whole batch on one.
    ///
    /// `now_ms` is the time that they all use, in milliseconds since the Unix epoch (or of any other
    /// clock that the whole program agrees on). Hold a guard for a batch, not for long: memory that
    /// is freed meanwhile cannot be used.
    #[inline]
    pub fn pin(&mut self, now_ms: u64) -> Guard<'_> {
        let pin = self.handle.pin();
        Guard::new(&self.shared, pin, &mut self.writer, now_ms)
    }
}

/// Where a key is to be looked for, as it was when that was [asked](Session::foresee).
#[derive(Debug, Clone, Copy)]
pub struct Foreseen {
    /// The cache that it is a place of.
    cache: u64,
    hash: KeyHash,
    place: Place,
    reach: Reach,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// The offset of the key's bucket.
    Home(u64),
    /// The number of an overflow bucket.
    Overflow(u32),
}

impl Session {
    /// Asks the processor for the bucket of a key that a later batch begins with. Like
    /// [`Guard::prefetch_bucket`], but there is no pin yet; and there is other work to be done until that batch.
    ///
    /// ```
    /// # let cache = larder::Cache::new(larder::Config::new(8 << 20))?;
    /// # let session = cache.session()?;
    /// # let other_work = || ();
    /// let mut foreseen = Some(session.foresee(b"key", larder::Reach::Value));
    /// while let Some(next) = foreseen {
    ///     other_work();
    ///     foreseen = session.fetch(next);
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn foresee(&self, key: &[u8], reach: Reach) -> Foreseen {
        let index = &self.shared.index;
        let hash = self.shared.hash(key);
        let home_at = index.home_at(hash, index.extent());
        index.prefetch_bucket(home_at);
        Foreseen {
            cache: self.shared.identity(),
            hash,
            place: Place::Home(home_at),
            reach,
        }
    }

    /// Asks the processor for the item of such a key, when its bucket has come; or else for an overflow bucket
    /// that may name it, and gives that, to be looked into when it has come. What a session of another cache has
    /// foreseen is passed over.
    #[inline]
    pub fn fetch(&self, foreseen: Foreseen) -> Option<Foreseen> {
        if foreseen.cache != self.shared.identity() {
            return None;
        }
        let index = &self.shared.index;
        let (hash, reach) = (foreseen.hash, foreseen.reach);
        let seen_at = match foreseen.place {
            Place::Home(at) => match index.prefetch_item(at, hash, reach) {
                Ahead::Seen(seen_at) => seen_at,
                Ahead::Overflow(id) => {
                    return Some(Foreseen {
                        place: Place::Overflow(id),
                        ..foreseen
                    });
                }
            },
            Place::Overflow(id) => index.prefetch_overflowed(hash, id, reach),
        };
        self.shared.ghosts.foresee(hash, seen_at, reach);
        None
    }
}

impl Session {
    /// Lets go of the segments that this session has open and all of whose items have expired or were flushed,
    /// so that upkeep can free them. For a session that has nothing else to do, now and then, while it
    /// [has contents](Session::has_contents).
    pub fn rest(&mut self, now_ms: u64) {
        let pin = self.handle.pin();
        self.writer.appender.seal_gone(&self.shared, now_ms, &pin);
    }

    /// Whether this session has a segment open that has something in it: what expires there, or is flushed, stays
    /// until the session writes or [rests](Session::rest).
    pub fn has_contents(&self) -> bool {
        self.writer.appender.has_contents()
    }

    /// Whether a thread that [maintains](Session::maintain) the cache has something to do: this session has
    /// taken a segment since it was last asked, or there is upkeep that it will do itself as it writes, as far as
    /// it knows.
    #[inline]
    pub fn wants_maintenance(&mut self) -> bool {
        self.writer.wants_maintenance()
    }

    /// Some upkeep for its own sake: keeps segments free, cleans, removes what has expired, and has huge
    /// pages made where memory has come into use, unless they are [not wanted](crate::HugePages::Never).
    /// Gives true if there is more to do.
    ///
    /// Sessions do all of this by themselves as they write; a session in a thread of its own that
    /// calls this now and then, and again while it gives true, keeps them from having to, and gives
    /// back the memory of expired items also while nobody writes. One call is bounded.
    pub fn maintain(&mut self, now_ms: u64) -> bool {
        self.shared.note_use(now_ms);
        let has_made = self.shared.make_huge_page();
        let pin = self.handle.pin();
        self.writer.maintain(&self.shared, &pin, now_ms) || has_made
    }
}

impl Session {
    /// Whether it has an overflow bucket for its next insertion.
    pub(crate) fn holds_overflow(&self) -> bool {
        self.writer.overflow.is_some()
    }

    /// Entries added less entries removed that it has not reported.
    pub(crate) fn unreported(&self) -> i64 {
        self.writer.tally.unreported()
    }

    /// What all sessions share, and a pin.
    pub(crate) fn parts(&mut self) -> (&Shared, Pin<'_>) {
        let mut pin = self.handle.pin();
        // What is due is reclaimed first.
        for _ in 0..4 {
            pin.renew();
            pin.collect();
        }
        (&self.shared, pin)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let pin = self.handle.pin();
        self.writer.end(&self.shared, &pin);
        drop(pin);
        self.shared.end_session(self.number);
    }
}
