//! A cache that goes on in the memory of one whose process is gone.
//!
//! Index, items and counts lie in the arena; which segments are free, how they queue and who waits
//! for whom was known to the process alone. So recovery believes nothing but the header, whose CRC
//! must hold and whose identity must be the configuration's, and proves the rest:
//!
//! 1. The counts of the header must be possible: buckets within their range, versions within theirs,
//!    as many segments withdrawn as the index and the ghosts were paid with. Else the memory is
//!    refused, and the caller starts cold.
//! 2. The chains of the index are read ([`visit`](crate::engine::index::visit)), and locks cleared. Only
//!    where a link cannot be, they are mended one after the other, such links cut
//!    ([`recovered`](crate::engine::index::recovered)), and read again.
//! 3. The entries that were read are compared with the items of each segment that holds some, up to its
//!    committed length ([`roll`]). Where they disagree, and where CRCs are asked for, each item is looked
//!    up, and entries that name a proven item are marked ([`walk`]). All of it on as many threads as the
//!    caller lends.
//! 4. Entries that are doubted and have no mark go, and so do those of which two name the same key.
//! 5. Every segment becomes what was proved of it: sealed, with its live bytes and lifetime; an
//!    extent, with the parts that values use; withdrawn; or free, which is all that nothing names.
//! 6. Entries are counted anew, and the figures of the sessions go on. The next version and the flush
//!    stay: versions are taken in blocks from the one word, so what stands there is above all that were
//!    given out.
//!
//! Why this keeps what was acknowledged and nothing older: a process that dies has stored all that it
//! stored, in its order. An item's bytes come before the committed length that covers them, that
//! before the one store of the index word that names it, and that before the answer. A word is
//! overwritten in one store, or cleared; what it named before is named by nothing. Where an entry
//! stands twice, in the parent and the child of a split, the count says which one is found.
//!
//! Each step only removes or repeats: a recovery that dies can be recovered from.

mod examine;
mod lanes;
mod measure;
mod named;
mod places;
mod receipt;
mod refusal;
mod roll;
mod survey;
#[cfg(test)]
mod tests;
mod walk;

use std::ops::Range;

use crate::arena::{Arena, BorrowedFd, OwnedFd};
use crate::engine::cache::{Cache, page_plan};
use crate::engine::config::{Config, ConfigError, Geometry, SEGMENT_LINE_BYTES};
use crate::engine::header;
use crate::engine::index::recovered::Chains;
use crate::engine::item_header::VERSION_MAX;
use crate::engine::log::Segments;
use crate::engine::log::recovered::Restored;
use crate::engine::log::segment::{Proven, Segment, State};
use crate::engine::recover::survey::Survey;
use crate::engine::stats::{Counters, Figure};
use crate::shape;
use crate::sync::Arc;

pub use crate::engine::index::recovered::Hands;
pub use examine::Examination;
pub use receipt::{Dropped, LastOwner, OpenSegment, Receipt, WrittenBy};
pub use refusal::RecoverError;

/// LIMIT: no cache lives to give out more versions, so a header that says so is none.
const NEXT_VERSION_MAX: u64 = VERSION_MAX / 2;

/// What recovery asks of an item before it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// That it lies whole within what its segment had committed, and that its key, its version and
    /// its extents can be. That is enough where a process died, since all that it stored is there.
    /// CRCs are compared afterwards: when an item is read, until
    /// [maintenance](crate::Session::maintain) has compared those of its whole segment.
    Lengths,
    /// That, and that its CRC holds, and that of its value, if that is a large one: enough also where
    /// bytes were changed by others.
    Contents,
}

impl Cache {
    /// The shared memory that the cache lies in, for another process to [recover](Cache::recover)
    /// from once this one is gone.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.shared().arena.memory()
    }

    /// Goes on in the memory of a cache whose process is gone, with what can be proved of it, and
    /// with the configuration that it had (its hash seed may be left open, and the pages may be
    /// others).
    ///
    /// Memory that somebody uses is refused: a cache owns its memory until it is dropped, with all its
    /// sessions and large values, or its process is gone. Whatever the memory holds, the result is a consistent cache or an error; items that are not
    /// proved are dropped, and told in the receipt. Ghosts, figures and flushes are kept, also a flush
    /// that is set for later.
    ///
    /// # Errors
    ///
    /// If the header does not check, the configuration is another one, or the system refuses
    /// something.
    pub fn recover(
        memory: OwnedFd,
        config: &Config,
        proof: Proof,
    ) -> Result<(Self, Receipt), RecoverError> {
        Self::recover_with(memory, config, proof, &|work| work())
    }

    /// [`Cache::recover`] with more than the caller's thread. `hands` calls the work that it is given
    /// once, or at the same time from as many threads as there are to be, and returns when all calls
    /// have. What comes of it does not depend on how many there are.
    ///
    /// ```
    /// use larder::{Cache, Config, Proof};
    ///
    /// let config = Config::new(16 << 20);
    /// # let cache = Cache::new(config.clone())?;
    /// # let memory = cache.memory().try_clone_to_owned()?;
    /// # drop(cache);
    /// let two = |work: &(dyn Fn() + Sync)| {
    ///     std::thread::scope(|scope| {
    ///         scope.spawn(work);
    ///         work();
    ///     });
    /// };
    /// let (cache, receipt) = Cache::recover_with(memory, &config, Proof::Lengths, &two)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As of [`Cache::recover`].
    pub fn recover_with(
        memory: OwnedFd,
        config: &Config,
        proof: Proof,
        hands: Hands<'_>,
    ) -> Result<(Self, Receipt), RecoverError> {
        let geometry = Geometry::for_config(config)?;
        let system = |reason| RecoverError::Memory { reason };
        let mut arena = Arena::attach(memory, header::BYTES_MIN).map_err(system)?;
        // Whoever owns it may change what is checked next.
        if !arena.own().map_err(system)? {
            return Err(RecoverError::InUse);
        }
        Self::recover_in(arena, geometry, config, (proof, hands))
    }

    /// [`Cache::recover_with`] in an arena that is to have this layout, whatever the configuration's is.
    pub(crate) fn recover_in(
        mut arena: Arena,
        geometry: Geometry,
        config: &Config,
        (proof, hands): (Proof, Hands<'_>),
    ) -> Result<(Self, Receipt), RecoverError> {
        let (hash_seed, counts) = accepted(&arena, &geometry, config)?;
        let mut plan = page_plan(config, &geometry);
        plan.given_away = given_away(&arena, &geometry);
        // As far as the header and the segments tell; what is not so is given back in the end.
        let left = counts.left_of(plan.given_away.len() as u64).unwrap_or(0);
        let overflow_chunks = (left + 1).min(geometry.overflow_chunks_max);
        plan.index = counts.paid(&geometry, overflow_chunks).into();
        let pages = arena.arrange_pages(&plan);
        pages.map_err(ConfigError::Pages)?;
        let arena = Arc::new(arena);
        recovered(arena, geometry, hash_seed, &counts, (proof, hands))
    }
}

/// The hash seed and the counts of the header, if it is one that this program can go on from.
pub(crate) fn accepted(
    arena: &Arena,
    geometry: &Geometry,
    config: &Config,
) -> Result<(u64, Counts), RecoverError> {
    let hash_seed = header::check(arena, geometry, config.hash_seed)?;
    if arena.bytes() != geometry.arena_bytes {
        let (what, found) = ("the size of the memory", arena.bytes());
        return Err(RecoverError::Impossible { what, found });
    }
    Ok((hash_seed, Counts::of(arena, geometry)?))
}

/// The counts of a header, which are possible.
#[derive(Debug)]
pub(crate) struct Counts {
    buckets: u64,
    bucket_chunks: u64,
    ghost_chunks: u64,
    next_version: u64,
}

impl Counts {
    fn of(arena: &Arena, geometry: &Geometry) -> Result<Self, RecoverError> {
        let checked = |what, at, accepted: std::ops::RangeInclusive<u64>| {
            let found = header::load(arena, at);
            let is_possible = accepted.contains(&found);
            (is_possible.then_some(found)).ok_or(RecoverError::Impossible { what, found })
        };
        let per_chunk = geometry.buckets_per_chunk;
        let buckets_first = per_chunk.min(shape::BUCKETS_FIRST);
        let buckets_max = per_chunk * geometry.bucket_chunks_max;
        let (buckets, versions) = (buckets_first..=buckets_max, 1..=NEXT_VERSION_MAX);
        checked(
            "the mark of the last flush",
            header::FLUSHED_VERSION,
            0..=NEXT_VERSION_MAX,
        )?;
        let buckets = checked("the number of buckets", header::BUCKETS, buckets)?;
        let ghosts = 0..=geometry.ghost_chunks_max;
        Ok(Self {
            buckets,
            bucket_chunks: buckets.div_ceil(per_chunk),
            ghost_chunks: checked("the number of ghosts", header::GHOST_CHUNKS, ghosts)?,
            next_version: checked("the next version", header::NEXT_VERSION, versions)?,
        })
    }
}

impl Counts {
    /// Segments that the index was paid with, but for overflow buckets, and the ghosts. (The first
    /// chunk of each kind of bucket came with the cache.)
    fn paid_with(&self) -> u64 {
        self.bucket_chunks - 1 + self.ghost_chunks
    }

    /// The ranges of buckets, overflow buckets, of which there are so many chunks, and ghosts.
    fn paid(&self, geometry: &Geometry, overflow_chunks: u64) -> [Range<u64>; 3] {
        [
            (geometry.buckets_at, self.bucket_chunks),
            (geometry.overflow_at, overflow_chunks),
            (geometry.ghosts_at, self.ghost_chunks),
        ]
        .map(|(at, chunks)| at..at + chunks * geometry.segment_bytes)
    }

    /// How many of the segments that were withdrawn are left for overflow buckets.
    fn left_of(&self, withdrawn: u64) -> Result<u64, RecoverError> {
        let left = withdrawn.checked_sub(self.paid_with());
        left.ok_or(RecoverError::Impossible {
            what: "the number of segments that the index and the ghosts were paid with",
            found: withdrawn,
        })
    }
}

/// Where the segments lie that say that the index or the ghosts were paid with them. (What the system keeps
/// of huge pages, it would copy to fill these holes.)
fn given_away(arena: &Arena, geometry: &Geometry) -> Vec<Range<u64>> {
    let lines = (0..).zip(segments(arena, geometry));
    let withdrawn = lines.filter(|(_, line)| line.state_found().0 == Some(State::Withdrawn));
    let starts =
        withdrawn.map(|(id, _): (u64, _)| geometry.segments_at + id * geometry.segment_bytes);
    starts
        .map(|start| start..start + geometry.segment_bytes)
        .collect()
}

/// What became of the one that had the memory, which is not in use.
fn last_owner(arena: &Arena) -> LastOwner {
    match header::load(arena, header::ENDED) {
        0 => LastOwner::Died,
        _ => LastOwner::Ended,
    }
}

/// When the memory was last in use, as far as it tells: when it was last maintained, or the last
/// segment for items was opened.
fn last_used_ms(arena: &Arena, geometry: &Geometry) -> Option<u64> {
    let maintained_ms = header::load(arena, header::LAST_USED_MS);
    let opened_ms = segments(arena, geometry)
        .map(|segment| segment.remains())
        .filter(|remains| remains.holds_items())
        .map(|remains| remains.opened_ms);
    opened_ms.chain([maintained_ms]).max().filter(|&ms| ms > 0)
}

/// The lines of the segment table.
fn segments<'a>(arena: &'a Arena, geometry: &Geometry) -> impl Iterator<Item = Segment<'a>> {
    let table_at = geometry.segment_table_at;
    (0..geometry.segments)
        .map(move |id| Segment::at(arena, table_at + u64::from(id) * SEGMENT_LINE_BYTES))
}

fn recovered(
    arena: Arc<Arena>,
    geometry: Geometry,
    hash_seed: u64,
    counts: &Counts,
    (proof, hands): (Proof, Hands<'_>),
) -> Result<(Cache, Receipt), RecoverError> {
    let mut survey = Survey::new(&arena, geometry, hash_seed, counts.next_version, proof);
    let paid_with = counts.paid_with();
    let left = counts.left_of(survey.withdrawn())?;
    // From here on the memory is this cache's, which has not ended.
    let (last_owner, last_used_ms) = (last_owner(&arena), last_used_ms(&arena, &geometry));
    header::store(&arena, header::ENDED, 0);
    let overflow_chunks = (left + 1).min(geometry.overflow_chunks_max);
    let overflow = overflow_chunks * geometry.overflow_per_chunk;
    let mut chains = Chains::found(Arc::clone(&arena), geometry, counts.buckets, overflow);
    let mut dropped = Dropped::default();
    let items = survey.walk(&mut chains, hands, &mut dropped);
    let overflow_chunks = chains.overflow_used().div_ceil(geometry.overflow_per_chunk);
    let withdrawn = paid_with + overflow_chunks.saturating_sub(1);
    let proven = survey.proven(withdrawn);
    let restored = Restored {
        unproven: match proof {
            Proof::Lengths => with_items(&proven).collect(),
            Proof::Contents => Vec::new(),
        },
        proven,
        parts: survey.parts,
        has_evicted: counts.ghost_chunks > 0,
    };
    let is_kept = |proven: &&Proven| matches!(proven, Proven::Items(_) | Proven::Extent(_));
    let receipt = Receipt {
        last_owner,
        last_used_ms,
        items,
        item_bytes: survey.item_bytes(),
        large_bytes: survey.parts.iter().sum::<u64>() * geometry.part_bytes,
        dropped,
        open: survey.open(),
        segments_kept: restored.proven.iter().filter(is_kept).count() as u64,
        segments_freed: survey.freed(&restored.proven),
        torn_segments: survey.torn_segments,
        torn_bytes: survey.torn_bytes,
        locks_cleared: chains.locks_cleared,
        links_cut: chains.links_cut,
    };
    release_unpaid(&arena, &geometry, counts, overflow_chunks.max(1), &restored)?;
    count_on(&arena, &geometry, &receipt, &restored);
    let index = chains.into_index(hands);
    let mut segments = Segments::restore(Arc::clone(&arena), geometry, &restored);
    let scrub = segments.doubt(&restored.unproven);
    let cache = Cache::of(arena, index, (segments, scrub), hash_seed);
    Ok((cache, receipt))
}

/// The segments that hold items.
fn with_items(proven: &[Proven]) -> impl Iterator<Item = u32> {
    let items = (0..).zip(proven);
    let items = items.filter(|(_, proven)| matches!(proven, Proven::Items(_)));
    items.map(|(id, _)| id)
}

/// Gives the pages back of what is not paid for, or was paid with: a process may have died before it
/// did so, and huge pages may have come into being since.
fn release_unpaid(
    arena: &Arena,
    geometry: &Geometry,
    counts: &Counts,
    overflow_chunks: u64,
    restored: &Restored,
) -> Result<(), RecoverError> {
    let chunk_bytes = geometry.segment_bytes;
    let paid = counts.paid(geometry, overflow_chunks);
    let ends = [
        geometry.overflow_at,
        geometry.ghosts_at,
        geometry.segments_at,
    ];
    let unpaid = paid
        .into_iter()
        .zip(ends)
        .map(|(paid, end)| (paid.end, end));
    let withdrawn = (0..).zip(&restored.proven);
    let withdrawn = withdrawn.filter(|(_, proven)| matches!(proven, Proven::Withdrawn));
    let withdrawn = withdrawn.map(|(id, _): (u64, _)| {
        let start = geometry.segments_at + id * chunk_bytes;
        (start, start + chunk_bytes)
    });
    for (start, end) in unpaid.chain(withdrawn) {
        // SAFETY: nobody else uses the arena, and what is in use lies elsewhere.
        let released = unsafe { arena.release(start, end - start) };
        // The next that use these bytes rely on them being zero.
        released.map_err(|reason| RecoverError::Memory { reason })?;
    }
    Ok(())
}

/// Has the figures go on from what they were, if they can have been that, and agree with what was
/// kept.
fn count_on(arena: &Arena, geometry: &Geometry, receipt: &Receipt, restored: &Restored) {
    let blocks = || (0..geometry.sessions_max).map(|id| Counters::of_session(geometry, id));
    let words = geometry.counters_at..geometry.segment_table_at;
    let words = || words.clone().step_by(8);
    // These are no counts, and were true of sessions that are gone.
    for counters in blocks() {
        counters.set(arena, Figure::PinnedSinceMs, 0);
        counters.set(arena, Figure::WaitsFor, 0);
    }
    // LIMIT: more was never counted, and sums of a few figures of all sessions stay within 64 bits.
    let figure_max = u64::MAX / 8 / u64::from(geometry.sessions_max);
    if words().any(|at| header::load(arena, at) > figure_max) {
        words().for_each(|at| header::store(arena, at, 0));
    }
    blocks().for_each(|counters| counters.set(arena, Figure::RemovedBytes, 0));
    let sum = |figure| -> u64 { blocks().map(|counters| counters.get(arena, figure)).sum() };
    let (inserted, removed) = (sum(Figure::Inserted), sum(Figure::Removed));
    let first = Counters::of_session(geometry, 0);
    match (removed + receipt.items).checked_sub(inserted) {
        Some(missing) => first.add(arena, Figure::Inserted, missing),
        None => first.add(arena, Figure::Removed, inserted - removed - receipt.items),
    }
    let dead_bytes = restored.proven.iter().map(|proven| match proven {
        Proven::Items(items) => items.committed - items.live_bytes,
        _ => 0,
    });
    first.set(arena, Figure::RemovedBytes, dead_bytes.sum());
    header::store(arena, header::ENTRIES, receipt.items);
}
