//! One party's share of the walk that proves items, and the entries that name them.
//!
//! A segment is walked from its beginning, item by item, up to its committed length or the first thing
//! that can be no item: what lies behind that is not trusted, whoever names it. So every later walk of
//! the segment meets whole items alone. An item that the index names, at this place and under this key's
//! hash, is live; if the rest of what is asked of it holds, its entry is marked and it is counted.
//!
//! What this costs is waiting for memory: for the next item, whose place only its predecessor tells, and
//! for its bucket, which may be anywhere. So a walker has several segments under way, in *lanes*, and
//! goes in rounds: in one it measures a few items of each lane, and asks for their buckets and for what
//! follows them; in the next it looks into the buckets, and then into such overflow buckets as these lead
//! to. The rest are instructions, for each item that was ever written: the path of the usual item is
//! straight, and what its header tells is read once.
//!
//! Walkers share nothing but the number of the next segment. Each segment is one walker's, so what was
//! proved of it does not depend on how many there are. Large values wait until all have ended: of two
//! that claim the same extents, the one that lies first has them.

use crate::engine::cache::hash_of;
use crate::engine::index::recovered::{Chains, Marks, Slot};
use crate::engine::index::word::KeyHash;
use crate::engine::item_header::{Header, KIND_LARGE, KIND_NUMBER};
use crate::engine::recover::lanes::{LANES, Lanes, Turn, Walked};
use crate::engine::recover::survey::Survey;
use crate::sync::AtomicU64;

/// LIMIT: items of each lane in a round: enough that what a round asks for is there in the next one.
const PER_LANE: usize = 8;
/// LIMIT: items of a round.
const ROUND: usize = LANES * PER_LANE;

/// A walker, and what it has found.
pub(super) struct Walker<'s> {
    survey: &'s Survey<'s>,
    chains: &'s Chains,
    lanes: Lanes<'s>,
    marks: Marks,
    large: Vec<Large>,
    suspects: Vec<u64>,
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

/// The item of a large value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Large {
    pub(super) id: u32,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// The slot to mark once it is proved; `None`: its entry stands unless it is disproved.
    pub(super) slot: Option<Slot>,
}

/// An item that was measured, and whose bucket was asked for.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    hash: KeyHash,
    offset: u64,
    header: Header,
    bytes: u64,
    /// The place of its segment among what was found.
    place: u32,
}

/// An item that its bucket does not name, and an overflow bucket may.
#[derive(Debug, Clone, Copy)]
struct Further {
    sighting: Sighting,
    /// The overflow bucket to look into next.
    overflow: u32,
    /// Whether its tag was met in a slot that names something else.
    is_suspect: bool,
}

impl<'s> Walker<'s> {
    pub(super) fn new(survey: &'s Survey<'s>, chains: &'s Chains, next: &'s AtomicU64) -> Self {
        Self {
            survey,
            chains,
            lanes: Lanes::new(survey, next),
            marks: chains.no_marks(),
            large: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// Walks segments until there are no more.
    pub(super) fn walk(mut self) -> Findings {
        let [mut measured, mut before] = [(); 2].map(|()| Vec::with_capacity(ROUND));
        let mut further = Vec::with_capacity(ROUND);
        loop {
            std::mem::swap(&mut measured, &mut before);
            measured.clear();
            let is_any_left = self.lanes.fill(|_| ());
            for _ in 0..PER_LANE {
                self.measure(&mut measured);
            }
            // Together, so that the processor waits for all of them at once.
            for sighting in &measured {
                self.chains.prefetch(sighting.hash, &self.marks);
            }
            for sighting in &before {
                self.look(sighting, &mut further);
            }
            for item in &further {
                self.chains.prefetch_overflow(item.overflow, &self.marks);
            }
            for item in further.drain(..) {
                self.look_further(item);
            }
            if !is_any_left && measured.is_empty() {
                return Findings {
                    segments: self.lanes.segments,
                    marks: self.marks,
                    large: self.large,
                    suspects: self.suspects,
                };
            }
        }
    }

    /// Measures the next item of each lane.
    #[inline]
    fn measure(&mut self, measured: &mut Vec<Sighting>) {
        let survey = self.survey;
        self.lanes.step(|_, place, left| {
            let offset = left.start;
            let Some(item) = survey.measured(offset, left.end) else {
                return Turn::Over(offset);
            };
            // SAFETY: they begin with the item that was measured.
            let key = unsafe { item.key(survey.bytes(offset, left.end)) };
            let bytes = item.bytes as u64;
            measured.push(Sighting {
                hash: hash_of(key, survey.hash_seed),
                offset,
                header: item.header,
                bytes,
                place,
            });
            Turn::On(offset + bytes)
        });
    }

    /// Looks into the bucket of an item, and asks for the overflow bucket that may name it otherwise.
    #[inline]
    fn look(&mut self, sighting: &Sighting, further: &mut Vec<Further>) {
        let looked = self.chains.look(sighting.hash, sighting.offset);
        match (looked.slot, looked.next) {
            (Some(slot), _) => self.name(sighting, slot, looked.others),
            (None, Some(overflow)) => further.push(Further {
                sighting: *sighting,
                overflow,
                is_suspect: looked.others,
            }),
            (None, None) => {}
        }
    }

    fn look_further(&mut self, mut item: Further) {
        let Sighting { hash, offset, .. } = item.sighting;
        loop {
            let looked = self.chains.look_overflow(item.overflow, hash, offset);
            item.is_suspect |= looked.others;
            match (looked.slot, looked.next) {
                (Some(slot), _) => return self.name(&item.sighting, slot, item.is_suspect),
                (None, Some(overflow)) => item.overflow = overflow,
                (None, None) => return,
            }
        }
    }

    /// Asks of an item, which the index names, all that the walk does not, and counts it.
    #[inline]
    fn name(&mut self, sighting: &Sighting, slot: Slot, is_suspect: bool) {
        let survey = self.survey;
        if is_suspect {
            let bucket = self.chains.bucket_of(sighting.hash);
            self.suspects.push(bucket);
        }
        let header = sighting.header;
        if header.has(KIND_NUMBER | KIND_LARGE) || survey.proves_contents() {
            self.prove(sighting, slot);
        } else if survey.is_possible(header.own_version()) {
            // SAFETY: the item was measured, and nobody else uses the arena.
            let expires_at_ms = unsafe { header.stored_expiry_ms(survey.arena, sighting.offset) };
            let items = &mut self.lanes.segments[sighting.place as usize].items;
            items.count(header.own_version(), expires_at_ms, sighting.bytes);
            self.marks.set(slot);
        }
    }

    /// The same where its header does not tell enough.
    fn prove(&mut self, sighting: &Sighting, slot: Slot) {
        let Sighting { offset, bytes, .. } = *sighting;
        if self.survey.doubt(offset).is_err() {
            return;
        }
        let item = self.survey.item(offset);
        let walked = &mut self.lanes.segments[sighting.place as usize];
        if item.is_large() {
            let id = walked.id;
            self.large.push(Large {
                id,
                offset,
                bytes,
                slot: Some(slot),
            });
            return;
        }
        walked.items.add(&item, bytes);
        self.marks.set(slot);
    }
}
