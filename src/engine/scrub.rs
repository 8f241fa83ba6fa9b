//! Contents that recovery has not proved: which segments have some, and the scrub that proves them.
//!
//! Where recovery asks for lengths alone ([`Proof::Lengths`]), the items that it keeps are whole, and
//! nobody has compared their bytes with their CRC. Until the scrub has passed a segment, whoever finds an
//! item in it compares first: an operation takes a damaged item for absent, and a read removes it, under
//! its bucket's lock. So do the walks of upkeep, which would copy it otherwise. A large value has a CRC of its
//! own, and is compared with the item that describes it. (A number that changes in place and the time of the
//! last read have none.)
//!
//! The scrub is a walk of one segment after the other, by maintenance, slow enough not to be felt. A
//! segment that it has passed is noted as proved one grace period later: who was pinned before may have
//! found what the scrub has removed, and must still compare. With the last one, all is as if nothing had
//! been recovered: a guard looks at one word when it is made, and never again.
//!
//! # Ordering ledger
//!
//! | word | writer | reader | pairs | caught by |
//! |---|---|---|---|---|
//! | unproven segments, and their bits | `note_proven`, Relaxed | guards, Relaxed | the grace period: it is over for all who could have found an entry that is gone | `a_read_never_finds_what_is_damaged` |
//!
//! [`Proof::Lengths`]: crate::Proof::Lengths

use std::collections::VecDeque;

use crate::engine::appender::Appender;
use crate::engine::cache::Shared;
use crate::engine::header;
use crate::engine::log::Segments;
use crate::engine::stats::Figure;
use crate::engine::upkeep::{Mercy, Progress, Purpose, Step, Walk};
use crate::engine::writer::Writer;
use crate::reclaim::Pin;
use crate::sync::{Arc, AtomicU64, Ordering};

/// LIMIT: bytes that maintenance scrubs in a millisecond, while it has nothing else to do: 128 MB/s, some
/// percent of a core.
const BYTES_PER_MS: u64 = 128 << 10;
/// LIMIT: what it makes up for after it slept.
const BEHIND_MS_MAX: u64 = 250;

/// The segments that hold items whose contents nobody has proved, a bit each; empty: there are none.
#[derive(Debug, Default)]
pub(crate) struct Unproven(Box<[AtomicU64]>);

impl Unproven {
    /// Of so many segments, these.
    fn of(segments: u32, ids: impl Iterator<Item = u32>) -> Self {
        let mut words = vec![0; segments.div_ceil(64) as usize];
        for id in ids {
            words[id as usize / 64] |= 1 << (id % 64);
        }
        Self(words.into_iter().map(AtomicU64::new).collect())
    }

    fn has(&self, id: u32) -> bool {
        let word = self.0.get(id as usize / 64);
        // ORDERING: Relaxed; the grace period before it changes.
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (id % 64) & 1 == 1)
    }

    /// Takes one away; false if it was not there.
    fn remove(&self, id: u32) -> bool {
        let bit = 1 << (id % 64);
        let word = self.0.get(id as usize / 64);
        // ORDERING: Relaxed; others take away other bits.
        word.is_some_and(|word| word.fetch_and(!bit, Ordering::Relaxed) & bit != 0)
    }
}

impl Segments {
    /// Has nobody have proved the contents of these segments, and gives the scrub of them. Nobody shares the
    /// cache yet.
    pub(crate) fn doubt(&mut self, ids: &[u32]) -> Scrub {
        self.unproven = Unproven::of(self.geometry().segments, ids.iter().copied());
        header::store(&self.arena, header::UNPROVEN, ids.len() as u64);
        Scrub {
            left: ids.iter().copied().collect(),
            walk: None,
            due_ms: 0,
        }
    }

    /// Whether there is a segment whose contents nobody has proved.
    #[inline]
    pub(crate) fn is_any_unproven(&self) -> bool {
        // ORDERING: Relaxed; see the ledger.
        self.arena.word(header::UNPROVEN).load(Ordering::Relaxed) != 0
    }

    /// Whether nobody has proved the contents of this segment.
    pub(crate) fn is_unproven(&self, id: u32) -> bool {
        self.unproven.has(id)
    }

    /// Notes that the contents of a segment are proved, or gone. Nobody is pinned any more who was
    /// while something else could be found there.
    pub(crate) fn note_proven(&self, id: u32) {
        if self.unproven.remove(id) {
            // ORDERING: Relaxed; it is for guards to come, which may find it too late.
            self.arena
                .word(header::UNPROVEN)
                .fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What is left to be scrubbed, and when to go on.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    left: VecDeque<u32>,
    /// The segment under way, of which more than a step's worth of large values is to be compared.
    walk: Option<Walk>,
    /// When as much as was scrubbed is paid for.
    due_ms: u64,
}

impl Scrub {
    fn is_due(&self, now_ms: u64) -> bool {
        // A clock that was set back is not waited for.
        !(now_ms..now_ms.saturating_add(BEHIND_MS_MAX)).contains(&self.due_ms)
            || self.due_ms == now_ms
    }

    /// The segment to go on with, claimed; `None`: there is none.
    fn next(&mut self, shared: &Shared) -> Option<Walk> {
        if self.walk.is_some() {
            return self.walk.take();
        }
        // Those that somebody else walks are looked at again; no more than there are.
        for _ in 0..self.left.len() {
            let id = self.left.pop_front()?;
            if !shared.segments.is_unproven(id) {
                continue;
            }
            if shared.segments.segment(id).claim() {
                return Some(Walk::of(shared, id, Purpose::Scrub));
            }
            self.left.push_back(id);
        }
        None
    }

    fn is_done(&self) -> bool {
        self.walk.is_none() && self.left.is_empty()
    }

    fn pay(&mut self, bytes: u64, now_ms: u64) {
        let earliest_ms = now_ms.saturating_sub(BEHIND_MS_MAX);
        let since_ms = match self.due_ms >= now_ms.saturating_add(BEHIND_MS_MAX) {
            true => now_ms,
            false => self.due_ms.max(earliest_ms),
        };
        self.due_ms = since_ms + (bytes / BYTES_PER_MS).max(1);
    }
}

impl Writer {
    /// Scrubs a segment, if one is left and this is the time, or nothing else is to be done; true if
    /// there is more to scrub at once.
    pub(crate) fn scrub(
        &mut self,
        shared: &Shared,
        pin: &Pin<'_>,
        now_ms: u64,
        is_idle: bool,
    ) -> bool {
        if !shared.segments.is_any_unproven() {
            return false;
        }
        let Some(mut scrub) = shared.scrub.try_lock() else {
            return false;
        };
        if !is_idle && !scrub.is_due(now_ms) {
            return false;
        }
        let Some(mut walk) = scrub.next(shared) else {
            return false;
        };
        let mut step = Step::new(shared, pin, now_ms, &mut self.tally);
        let (bytes, progress) = step.scrub(&mut walk);
        if progress == Progress::Enough {
            scrub.walk = Some(walk);
        }
        scrub.pay(bytes, now_ms);
        !scrub.is_done() && scrub.is_due(now_ms)
    }
}

impl Step<'_> {
    /// Walks on through a claimed segment, and removes what is damaged in it; says how much was compared.
    fn scrub(&mut self, walk: &mut Walk) -> (u64, Progress) {
        let (shared, id) = (self.shared, walk.id());
        let before_bytes = walk.begin_step(shared);
        let step_bytes = shared.geometry.segment_bytes;
        // It moves nothing, so it needs no place to move to and does not get stuck.
        let mercy = Mercy::KeepWhatWasRead;
        let progress = self.advance(walk, &mut Appender::default(), step_bytes, mercy);
        let bytes = walk.scrubbed_bytes(shared) - before_bytes;
        self.tally.add(shared, Figure::ScrubbedBytes, bytes);
        if progress == Progress::Done {
            shared.segments.unclaim(id, None, self.pin);
            let segments = Arc::clone(&shared.segments);
            self.pin.defer(move || segments.note_proven(id));
        }
        (bytes, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::{BEHIND_MS_MAX, BYTES_PER_MS, Scrub};

    #[test]
    fn as_much_is_scrubbed_as_the_time_that_passed_pays_for() {
        let mut scrub = Scrub::default();
        let mut steps_until = |now_ms| {
            let mut steps = 0;
            while scrub.is_due(now_ms) {
                scrub.pay(8 * BYTES_PER_MS, now_ms);
                steps += 1;
            }
            steps
        };
        // After a sleep of any length, what a quarter of a second pays for.
        let behind = BEHIND_MS_MAX / 8;
        assert!((behind..=behind + 1).contains(&steps_until(1_000_000)));
        assert_eq!(steps_until(1_000_001), 0);
        assert_eq!(steps_until(1_000_008), 1);
        assert_eq!(steps_until(1_000_088), 10);
        // A clock that is set back begins anew.
        assert!(steps_until(5_000) > 0);
        assert_eq!(steps_until(5_001), 0);
    }
}
