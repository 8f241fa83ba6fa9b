//! The roll: what the index names, held against what lies in the segments, without looking any item up.
//!
//! Looking an item up costs waiting for its bucket, which may be anywhere. So index and segments are each
//! read once from one end to the other. First the index: each entry leaves a bit for the place that it
//! names ([`named`](super::named)), and is added to its segment's sum, with the bucket that it was found in.
//! Then the segments: of each item whose bit is set the key is hashed, and what its entry would be, and in
//! which bucket, is added to another sum. Where count and sum of a segment agree, its entries are those of
//! whole items, each in the bucket of its key and under its key's tag, and none twice: each sum is over
//! products that any change of place, tag or bucket changes, so that other entries have the same one by a
//! chance of 1 in 2^64.
//!
//! A segment where they disagree is *doubted*: its items are looked up one by one
//! ([`walk`](super::walk)), and so are those of which CRCs are asked. After the death of a process that
//! is where a split was half done, and nowhere else.

use std::ops::Range;

use crate::engine::cache::hash_of;
use crate::engine::index::recovered::{Chains, Hands};
use crate::engine::index::visit::Visitor;
use crate::engine::index::word::{Entry, Extent, LINE_BYTES};
use crate::engine::item_header::{HEADER_BYTES, KIND_EXPIRES, KIND_LARGE, KIND_NUMBER};
use crate::engine::log::segment::Lifetime;
use crate::engine::recover::lanes::{Lanes, Turn, Walked};
use crate::engine::recover::measure::{Measured, measured, usual};
use crate::engine::recover::named::{Bits, Maps, Named, Namer, Window};
use crate::engine::recover::places::Places;
use crate::engine::recover::survey::Survey;
use crate::engine::recover::walk::Large;
use crate::sync::{AtomicU64, Mutex};

/// Bytes of an item that ends a turn, since more lines lie between it and the next than are read.
const LARGE_BYTES: usize = 4 * LINE_BYTES as usize;
/// LIMIT: bytes of a segment that one turn takes of smaller items, and asks for: enough that a turn is worth its
/// beginning, and what all lanes ask for still fits the nearest cache.
const TURN_BYTES: u64 = Window::BYTES;

/// How many entries there are, and which, all in one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    sum: u64,
    /// LIMIT: a segment is far too short for so many. More of them, of which none is an item's, come out as
    /// what they are by the sum.
    entries: u32,
}

impl Sum {
    /// Adds an entry of this name.
    #[inline(always)]
    fn add(&mut self, name: u64, bucket: u64, seed: u64) {
        // A bucket's number has 40 bits at most, so neither factor is 0 but by chance.
        let factor = bucket ^ 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(name ^ seed) * u128::from(factor);
        self.entries = self.entries.wrapping_add(1);
        self.sum = self
            .sum
            .wrapping_add(product as u64 ^ (product >> 64) as u64);
    }

    fn join(&mut self, other: Self) {
        self.entries = self.entries.wrapping_add(other.entries);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// What comes of the comparison.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// Segments whose entries are proved.
    pub(super) agreed: Vec<Walked>,
    /// Items of large values in them, which are still to be proved.
    pub(super) large: Vec<Large>,
    /// Segments that are doubted.
    pub(super) doubted: Vec<u32>,
    /// Buckets that may have two entries of the same key.
    pub(super) suspects: Vec<u64>,
    /// Whether entries lead to no segment for items, or chains end with nothing.
    pub(super) has_strays: bool,
}

impl Roll {
    /// Entries of the segments that agreed.
    pub(super) fn entries(&self) -> u64 {
        let entries = |walked: &Walked| u64::from(walked.named.entries);
        self.agreed.iter().map(entries).sum()
    }

    /// Reads the index and the segments, and compares.
    pub(super) fn call(survey: &Survey<'_>, chains: &mut Chains, hands: Hands<'_>) -> Self {
        let mut roll = Self::default();
        let (named, sums) = roll.read_index(survey, chains, hands);
        let chains = &*chains;
        let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let work = || {
            let musterer = Musterer {
                survey,
                extent: chains.extent(),
                named: named.bits(),
                key_bytes_max: survey.key_bytes_max(),
                large: Vec::new(),
            };
            let mustered = musterer.muster(Lanes::new(survey, &next), &named);
            found.lock().push(mustered);
        };
        hands(&work);
        // What nobody has taken is left to this thread.
        work();
        for (segments, large) in found.into_inner() {
            let agrees =
                |walked: &Walked| !walked.is_doubted && walked.named == sums[walked.id as usize];
            let (agreed, doubted): (Vec<_>, Vec<_>) = segments.into_iter().partition(agrees);
            roll.agreed.extend(agreed);
            roll.doubted.extend(doubted.iter().map(|walked| walked.id));
            roll.large.extend(large);
        }
        roll.doubted.sort_unstable();
        let doubted = &roll.doubted;
        roll.large
            .retain(|large| doubted.binary_search(&large.id).is_err());
        roll
    }

    /// What the index names, and the sums of the segments by what it does.
    fn read_index(
        &mut self,
        survey: &Survey<'_>,
        chains: &mut Chains,
        hands: Hands<'_>,
    ) -> (Named, Vec<Sum>) {
        let maps = Maps::new(survey.places.bytes());
        let begun = || Reader {
            places: survey.places,
            hash_seed: survey.hash_seed,
            namer: maps.namer(),
            sums: vec![Sum::default(); survey.places.units()],
            suspects: Vec::new(),
            has_strays: false,
        };
        let Some(readers) = chains.visit(hands, begun) else {
            chains.mend();
            // INVARIANT: chains that were mended can be read.
            return self.read_index(survey, chains, hands);
        };
        let mut sums = vec![Sum::default(); survey.segments()];
        for reader in readers {
            let units = reader.sums.chunks(survey.places.units_per_segment());
            for (sum, units) in sums.iter_mut().zip(units) {
                units.iter().for_each(|&unit| sum.join(unit));
            }
            self.suspects.extend(reader.suspects);
            self.has_strays |= reader.has_strays;
        }
        let mut strays = (0..).zip(&sums).filter(|&(id, _)| !survey.holds_items(id));
        self.has_strays |= strays.any(|(_, &sum)| sum != Sum::default());
        (maps.named(), sums)
    }
}

/// Who reads the index.
struct Reader {
    places: Places,
    hash_seed: u64,
    namer: Namer,
    /// One for each unit that segments are made of.
    sums: Vec<Sum>,
    suspects: Vec<u64>,
    has_strays: bool,
}

impl Visitor for Reader {
    #[inline(always)]
    fn entry(&mut self, bucket: u64, entry: Entry) {
        let from_start = self.places.behind_start(entry.offset());
        let unit = self.places.unit_of(from_start);
        if let Some(sum) = self.sums.get_mut(unit) {
            sum.add(entry.name(), bucket, self.hash_seed);
            self.namer.name(from_start);
        } else {
            self.has_strays = true;
        }
    }

    fn doubles(&mut self, bucket: u64) {
        self.suspects.push(bucket);
    }

    fn loose(&mut self) {
        self.has_strays = true;
    }

    fn end(&mut self) {
        self.namer.end();
    }
}

/// Who reads segments.
struct Musterer<'s> {
    survey: &'s Survey<'s>,
    extent: Extent,
    named: Bits<'s>,
    key_bytes_max: u32,
    large: Vec<Large>,
}

impl Musterer<'_> {
    fn muster(mut self, mut lanes: Lanes<'_>, named: &Named) -> (Vec<Walked>, Vec<Large>) {
        let survey = self.survey;
        let gather = |id| {
            let (start, _) = survey.extent_of(id);
            named.gather(survey.places.behind_start(start), survey.segment_bytes());
        };
        while lanes.fill(gather) {
            lanes.step(|walked, _, left| self.take_turn(walked, left));
        }
        (lanes.segments, self.large)
    }

    /// Counts the items of a segment that come next, as far as they are named, and asks for those that follow.
    #[inline(always)]
    fn take_turn(&mut self, walked: &mut Walked, left: Range<u64>) -> Turn {
        let (survey, seed) = (self.survey, self.survey.hash_seed);
        let window = (self.named).window(survey.places.behind_start(left.start));
        let mut rest = survey.bytes(left.start, left.end);
        let mut tally = Tally::NONE;
        let (turn, at) = loop {
            let offset = left.end - rest.len() as u64;
            let is_named = window.has(offset - left.start);
            let bytes = if let Some(item) = usual(rest, self.key_bytes_max) {
                if is_named {
                    // SAFETY: they begin with the item that was measured.
                    let hash = hash_of(unsafe { item.key(rest) }, seed);
                    let (name, bucket) = (Entry::new(hash, offset).0, self.extent.bucket_of(hash));
                    tally.named.add(name, bucket, seed);
                    tally.count(&item, rest);
                }
                item.bytes
            } else {
                let Some(bytes) = self.count(walked, rest, (offset, is_named)) else {
                    break (Turn::Over(offset), 0);
                };
                bytes
            };
            rest = &rest[bytes..];
            let at = offset + bytes as u64 - left.start;
            if at >= TURN_BYTES || bytes >= LARGE_BYTES {
                break (Turn::On(left.start + at), at);
            }
        };
        tally.add_to(walked, survey);
        // Where items are small, most of the next lines are read.
        if at >= TURN_BYTES {
            let lines = (LINE_BYTES..TURN_BYTES).step_by(LINE_BYTES as usize);
            lines.for_each(|line| survey.arena.prefetch(left.start + at + line));
        }
        turn
    }

    /// Counts an item that is not a usual one, if it is named, and gives its length, if it is one at all.
    #[cold]
    fn count(
        &mut self,
        walked: &mut Walked,
        rest: &[u8],
        (offset, is_named): (u64, bool),
    ) -> Option<usize> {
        let survey = self.survey;
        let item = measured(rest, self.key_bytes_max)?;
        let (header, bytes) = (item.header, item.bytes as u64);
        let is_special = header.has(KIND_NUMBER | KIND_LARGE);
        let version = || match is_special {
            true => survey.item(offset).own_version(),
            false => header.own_version(),
        };
        // What is not counted has its segment doubted.
        if !is_named || !survey.is_possible(version()) {
            return Some(item.bytes);
        }
        // SAFETY: they begin with the item that was measured.
        let hash = hash_of(unsafe { item.key(rest) }, survey.hash_seed);
        let (name, bucket) = (Entry::new(hash, offset).0, self.extent.bucket_of(hash));
        walked.named.add(name, bucket, survey.hash_seed);
        if header.has(KIND_LARGE) {
            self.large.push(Large {
                id: walked.id,
                offset,
                bytes,
                slot: None,
            });
        } else {
            // SAFETY: the item was measured.
            let expires_at_ms = unsafe { header.stored_expiry_ms(survey.arena, offset) };
            walked.items.count(version(), expires_at_ms, bytes);
        }
        Some(item.bytes)
    }
}

/// What a turn has counted of usual items.
struct Tally {
    named: Sum,
    live_bytes: u64,
    newest_version: u64,
    /// How many of them expire, and when.
    expiring: u32,
    lifetime: Lifetime,
}

impl Tally {
    const NONE: Self = Self {
        named: Sum { sum: 0, entries: 0 },
        live_bytes: 0,
        newest_version: 0,
        expiring: 0,
        lifetime: Lifetime::NONE,
    };

    /// Counts the item that these bytes begin with.
    #[inline(always)]
    fn count(&mut self, item: &Measured, bytes: &[u8]) {
        self.live_bytes += item.bytes as u64;
        self.newest_version = self.newest_version.max(item.header.own_version());
        if item.header.has(KIND_EXPIRES) {
            let field = bytes[HEADER_BYTES..].first_chunk();
            let expires_at_ms = field.map(|&field| u64::from_le_bytes(field));
            self.lifetime = self.lifetime.with(expires_at_ms);
            self.expiring += 1;
        }
    }

    /// Adds all that was counted to its segment's. Where one has a version that was never given out, the
    /// segment is doubted.
    #[inline(always)]
    fn add_to(self, walked: &mut Walked, survey: &Survey<'_>) {
        let items = &mut walked.items;
        if self.named.entries > self.expiring {
            items.lifetime = items.lifetime.with(None);
        }
        if self.expiring > 0 {
            let Lifetime { first_ms, last_ms } = self.lifetime;
            let lifetime = items.lifetime.with(Some(first_ms));
            items.lifetime = lifetime.with(Some(last_ms));
        }
        items.live_bytes += self.live_bytes;
        items.newest_version = items.newest_version.max(self.newest_version);
        walked.named.join(self.named);
        walked.is_doubted |= !survey.is_possible(self.newest_version);
    }
}
