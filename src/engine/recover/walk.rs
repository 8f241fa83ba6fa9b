//! One party's share of the walk that proves items, and the entries that name them.
//!
//! A segment is walked from its beginning, item by item, up to its committed length or the first thing
//! that can be no item: what lies behind that is not trusted, whoever names it. So every later walk of
//! the segment meets whole items alone. An item that the index names, at this place and under this key's
//! hash, is live; if the rest of what is asked of it holds, its entry is marked and it is counted.
//!
//! What this costs is waiting for memory: for the next item, whose place only its predecessor tells, and
//! for its bucket, which may be anywhere. So a walker has several segments under way, in *lanes*, and
//! each item passes three rounds: one measures it and asks for its bucket and for what follows it; the
//! next looks into the bucket, or asks for its overflow bucket; the last looks there. In between, the
//! other lanes have their turns.
//!
//! Walkers share nothing but the number of the next segment. Each segment is one walker's, so what was
//! proved of it does not depend on how many there are. Large values wait until all have ended: of two
//! that claim the same extents, the one that lies first has them.

use crate::engine::cache::hash_of;
use crate::engine::index::recovered::{Chains, Looked, Marks, Slot};
use crate::engine::index::word::KeyHash;
use crate::engine::log::segment::ProvenItems;
use crate::engine::recover::survey::Survey;
use crate::sync::{AtomicU64, Ordering};

/// LIMIT: segments that one walker has under way: about as many cache lines as a core can wait for.
const LANES: usize = 16;

/// A walker, and what it has found.
pub(super) struct Walker<'s> {
    survey: &'s Survey<'s>,
    chains: &'s Chains,
    /// What of `survey.held` nobody has begun with.
    next: &'s AtomicU64,
    is_any_left: bool,
    found: Findings,
}

/// What a walker found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) segments: Vec<Walked>,
    pub(super) marks: Marks,
    /// Items of large values, which are still to be proved.
    pub(super) large: Vec<Large>,
    /// Buckets of items that met their tag in another slot of the chain: two of them may be of one key.
    pub(super) suspects: Vec<u64>,
}

/// A segment that was walked.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) id: u32,
    pub(super) items: ProvenItems,
    /// Whether it holds less than its line says, and by how much.
    pub(super) torn_bytes: Option<u64>,
}

/// The item of a large value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Large {
    pub(super) id: u32,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) slot: Slot,
}

/// A segment under way.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// Its place among what was found.
    place: usize,
    start: u64,
    /// Offset of the next item.
    at: u64,
    end: u64,
}

/// An item that is under way through the rounds.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    hash: KeyHash,
    offset: u64,
    bytes: u64,
    /// The place of its segment among what was found.
    place: usize,
    /// The overflow bucket to look into next.
    overflow: u32,
    /// Whether its tag was met in a slot that names something else.
    is_suspect: bool,
}

/// The items of a round: at most one of each lane.
struct Round {
    items: [Sighting; LANES],
    count: usize,
}

impl Round {
    fn new() -> Self {
        Self {
            items: [Sighting::NONE; LANES],
            count: 0,
        }
    }

    #[inline]
    fn push(&mut self, sighting: Sighting) {
        self.items[self.count] = sighting;
        self.count += 1;
    }

    fn items(&self) -> &[Sighting] {
        &self.items[..self.count]
    }
}

impl Sighting {
    /// What stands where nothing was sighted yet.
    const NONE: Self = Self {
        hash: KeyHash(0),
        offset: 0,
        bytes: 0,
        place: 0,
        overflow: 0,
        is_suspect: false,
    };
}

impl<'s> Walker<'s> {
    pub(super) fn new(survey: &'s Survey<'s>, chains: &'s Chains, next: &'s AtomicU64) -> Self {
        Self {
            survey,
            chains,
            next,
            is_any_left: true,
            found: Findings {
                segments: Vec::new(),
                marks: chains.no_marks(),
                large: Vec::new(),
                suspects: Vec::new(),
            },
        }
    }

    /// Walks segments until there are no more.
    pub(super) fn walk(mut self) -> Findings {
        let mut lanes = [None; LANES];
        let mut rounds = [(); 4].map(|()| Round::new());
        let [
            mut measured,
            mut measured_before,
            mut overflowed,
            mut overflowed_before,
        ] = rounds.each_mut();
        loop {
            std::mem::swap(&mut measured, &mut measured_before);
            std::mem::swap(&mut overflowed, &mut overflowed_before);
            measured.count = 0;
            overflowed.count = 0;
            for lane in &mut lanes {
                if lane.is_none() && self.is_any_left {
                    *lane = self.begin();
                    self.is_any_left = lane.is_some();
                }
                if let Some(under_way) = lane {
                    match self.measure(under_way) {
                        Some(sighting) => measured.push(sighting),
                        None => {
                            self.end(under_way);
                            *lane = None;
                        }
                    }
                }
            }
            for sighting in measured_before.items() {
                if let Some(further) = self.look(sighting) {
                    overflowed.push(further);
                }
            }
            for sighting in overflowed_before.items() {
                self.look_further(sighting);
            }
            let is_over = !self.is_any_left && lanes.iter().all(Option::is_none);
            if is_over && measured.count + overflowed.count == 0 {
                return self.found;
            }
        }
    }

    /// Begins with the next segment.
    fn begin(&mut self) -> Option<Lane> {
        let survey = self.survey;
        // ORDERING: Relaxed; a number that each takes once, of a list that was there before.
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let id = *survey.held.get(next as usize)?;
        let (start, end) = survey.extent_of(id);
        survey.arena.prefetch(start);
        self.found.segments.push(Walked {
            id,
            items: survey.nothing_proven(id),
            torn_bytes: None,
        });
        Some(Lane {
            place: self.found.segments.len() - 1,
            start,
            at: start,
            end,
        })
    }

    fn end(&mut self, lane: &Lane) {
        let walked = &mut self.found.segments[lane.place];
        walked.items.committed = lane.at - lane.start;
        let committed = self.survey.committed_of(walked.id);
        if committed != walked.items.committed {
            walked.torn_bytes = Some(lane.end - lane.at);
        }
    }

    /// Measures the next item of a lane, and asks for its bucket.
    #[inline]
    fn measure(&self, lane: &mut Lane) -> Option<Sighting> {
        let survey = self.survey;
        let (offset, end) = (lane.at, lane.end);
        let measured = survey.measured(offset, end)?;
        lane.at = offset + measured.bytes;
        survey.arena.prefetch(lane.at);
        // SAFETY: the key is part of what was measured, and nobody else uses the arena.
        let key = unsafe { survey.arena.read(measured.key_at, measured.key_bytes) };
        let hash = hash_of(key, survey.hash_seed);
        self.chains.prefetch(hash, &self.found.marks);
        Some(Sighting {
            hash,
            offset,
            bytes: measured.bytes,
            place: lane.place,
            overflow: 0,
            is_suspect: false,
        })
    }

    /// Looks into the bucket of an item; gives it back if it may be named in an overflow bucket, which
    /// is asked for.
    #[inline]
    fn look(&mut self, sighting: &Sighting) -> Option<Sighting> {
        let marks = &self.found.marks;
        let looked = self.chains.look(sighting.hash, sighting.offset, marks);
        self.settle(sighting, looked)
    }

    fn look_further(&mut self, sighting: &Sighting) {
        let mut next = Some(*sighting);
        while let Some(sighting) = next {
            let Sighting { hash, offset, .. } = sighting;
            let marks = &self.found.marks;
            let looked = (self.chains).look_overflow(sighting.overflow, hash, offset, marks);
            next = self.settle(&sighting, looked);
        }
    }

    #[inline]
    fn settle(&mut self, sighting: &Sighting, looked: Looked) -> Option<Sighting> {
        let is_suspect = sighting.is_suspect | looked.others;
        if let Some(slot) = looked.slot {
            if is_suspect {
                self.found
                    .suspects
                    .push(self.chains.bucket_of(sighting.hash));
            }
            self.prove(sighting, slot);
            return None;
        }
        looked.next.map(|overflow| Sighting {
            overflow,
            is_suspect,
            ..*sighting
        })
    }

    /// Asks of an item, which the index names, all that the walk does not, and counts it.
    #[inline]
    fn prove(&mut self, sighting: &Sighting, slot: Slot) {
        let Sighting { offset, bytes, .. } = *sighting;
        if self.survey.doubt(offset).is_err() {
            return;
        }
        let item = self.survey.item(offset);
        let walked = &mut self.found.segments[sighting.place];
        if item.is_large() {
            let id = walked.id;
            self.found.large.push(Large {
                id,
                offset,
                bytes,
                slot,
            });
            return;
        }
        walked.items.add(&item, bytes);
        self.found.marks.set(slot);
    }
}
