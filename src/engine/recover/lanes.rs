//! Segments under way: each is walked from its beginning, item by item, up to its committed length or the
//! first thing that can be no item.
//!
//! What lies behind that is not trusted, whoever names it. So every later walk of the segment meets whole
//! items alone. Where the next item lies, only its predecessor tells, so one party has several segments
//! under way, in *lanes*, and each has its turn while the memory of the others comes. A turn takes one item,
//! or as many small ones as lie in the lines that the turn before asked for. Parties share nothing but the
//! number of the next segment, and each segment is one party's, so what is found in it does not depend on how
//! many there are.

use std::ops::Range;

use crate::engine::log::segment::ProvenItems;
use crate::engine::recover::roll::Sum;
use crate::engine::recover::survey::Survey;
use crate::sync::{AtomicU64, Ordering};

/// LIMIT: segments that one party has under way: about as many cache lines as a core can wait for.
pub(super) const LANES: usize = 16;

/// A segment that was walked, or is.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) id: u32,
    pub(super) items: ProvenItems,
    /// Its items that the index names, with their buckets.
    pub(super) named: Sum,
    /// Whether it holds less than its line says, and by how much.
    pub(super) torn_bytes: Option<u64>,
    /// Whether something in it speaks against it, whatever the sum.
    pub(super) is_doubted: bool,
}

/// One party's segments.
#[derive(Debug)]
pub(super) struct Lanes<'s> {
    survey: &'s Survey<'s>,
    /// What of `survey.left` nobody has begun with.
    next: &'s AtomicU64,
    under_way: Vec<Lane>,
    /// Those that were begun with.
    pub(super) segments: Vec<Walked>,
}

/// What a turn has come to: the offset of what is next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    /// The next item, if there is one.
    On(u64),
    /// What can be no item, or is no part of the segment.
    Over(u64),
}

/// A segment under way.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// Its place among those that were begun with.
    place: u32,
    start: u64,
    /// Offset of the next item.
    at: u64,
    end: u64,
}

impl<'s> Lanes<'s> {
    pub(super) fn new(survey: &'s Survey<'s>, next: &'s AtomicU64) -> Self {
        Self {
            survey,
            next,
            under_way: Vec::with_capacity(LANES),
            segments: Vec::new(),
        }
    }

    /// Begins with segments where there is room for more, and says with which; false if there is nothing left
    /// to walk.
    pub(super) fn fill(&mut self, mut begun: impl FnMut(u32)) -> bool {
        while self.under_way.len() < LANES
            && let Some((id, lane)) = self.begin()
        {
            begun(id);
            self.under_way.push(lane);
        }
        !self.under_way.is_empty()
    }

    /// Gives each lane to `turn`: the segment and its place, the offset of the next item, and where the items
    /// end at most. It says where the one behind those that it took lies, or that there is none.
    #[inline(always)]
    pub(super) fn step(&mut self, mut turn: impl FnMut(&mut Walked, u32, Range<u64>) -> Turn) {
        let mut number = 0;
        while let Some(lane) = self.under_way.get_mut(number) {
            let walked = &mut self.segments[lane.place as usize];
            match turn(walked, lane.place, lane.at..lane.end) {
                Turn::On(at) => {
                    lane.at = at;
                    self.survey.arena.prefetch(at);
                    number += 1;
                }
                Turn::Over(at) => {
                    let lane = Lane { at, ..*lane };
                    self.under_way.swap_remove(number);
                    self.end(&lane);
                }
            }
        }
    }

    fn begin(&mut self) -> Option<(u32, Lane)> {
        let survey = self.survey;
        // ORDERING: Relaxed; a number that each takes once, of a list that was there before.
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let id = *survey.left.get(next as usize)?;
        let (start, end) = survey.extent_of(id);
        survey.arena.prefetch(start);
        self.segments.push(Walked {
            id,
            items: survey.nothing_proven(id),
            named: Sum::default(),
            torn_bytes: None,
            is_doubted: false,
        });
        let lane = Lane {
            place: (self.segments.len() - 1) as u32,
            start,
            at: start,
            end,
        };
        Some((id, lane))
    }

    fn end(&mut self, lane: &Lane) {
        let walked = &mut self.segments[lane.place as usize];
        walked.items.committed = lane.at - lane.start;
        let committed = self.survey.committed_of(walked.id);
        if committed != walked.items.committed {
            walked.torn_bytes = Some(lane.end - lane.at);
        }
    }
}
