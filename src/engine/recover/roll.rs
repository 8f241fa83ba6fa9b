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

use crate::engine::cache::hash_of;
use crate::engine::index::recovered::{Chains, Hands};
use crate::engine::index::visit::Visitor;
use crate::engine::index::word::{Entry, Extent, KeyHash};
use crate::engine::item::{KIND_LARGE, KIND_NUMBER};
use crate::engine::recover::lanes::{BURST_BYTES, Lanes, Walked};
use crate::engine::recover::measure::Measured;
use crate::engine::recover::named::{Maps, Named, Namer};
use crate::engine::recover::survey::Survey;
use crate::engine::recover::walk::Large;
use crate::sync::{AtomicU64, Mutex};

/// Words with a bit for each tag of a chain, or several: where two entries have the same bit, it is seen
/// whether they have the same tag.
const TAG_WORDS: usize = 8;

/// How many entries there are, and which, all in one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    entries: u64,
    sum: u64,
}

impl Sum {
    #[inline]
    fn add(&mut self, entry: Entry, bucket: u64, seed: u64) {
        // A bucket's number has 40 bits at most, so neither factor is 0 but by chance.
        let factor = bucket ^ 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(entry.name() ^ seed) * u128::from(factor);
        self.entries += 1;
        self.sum = self
            .sum
            .wrapping_add(product as u64 ^ (product >> 64) as u64);
    }

    fn join(&mut self, other: Self) {
        self.entries += other.entries;
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
        self.agreed.iter().map(|walked| walked.named.entries).sum()
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
                named: &named,
                large: Vec::new(),
            };
            let mustered = musterer.muster(Lanes::new(survey, &next));
            found.lock().push(mustered);
        };
        hands(&work);
        // What nobody has taken is left to this thread.
        work();
        for (segments, large) in found.into_inner() {
            let agrees = |walked: &Walked| walked.named == sums[walked.id as usize];
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
        let maps = Maps::new(survey.segments_bytes());
        let begun = || Reader {
            survey,
            namer: maps.namer(),
            sums: vec![Sum::default(); survey.segments()],
            asked: [const { Vec::new() }; 2],
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
            let each = sums.iter_mut().zip(&reader.sums);
            each.for_each(|(sum, &other)| sum.join(other));
            self.suspects.extend(reader.suspects);
            self.has_strays |= reader.has_strays;
        }
        let mut strays = (0..).zip(&sums).filter(|&(id, _)| !survey.holds_items(id));
        self.has_strays |= strays.any(|(_, sum)| sum.entries > 0);
        (maps.named(), sums)
    }
}

/// Who reads the index.
struct Reader<'s> {
    survey: &'s Survey<'s>,
    namer: Namer,
    sums: Vec<Sum>,
    /// Places that are named once they are there: of these chains, and of those before.
    asked: [Vec<u64>; 2],
    suspects: Vec<u64>,
    has_strays: bool,
}

impl Visitor for Reader<'_> {
    #[inline]
    fn chain(&mut self, bucket: u64, entries: &[Entry], is_loose: bool) {
        self.has_strays |= is_loose;
        let (mut tags, mut is_suspect) = ([0_u64; TAG_WORDS], false);
        for &entry in entries {
            let (word, bit) = (entry.tag() as usize / 64 % TAG_WORDS, entry.tag() % 64);
            is_suspect |= tags[word] >> bit & 1 == 1;
            tags[word] |= 1 << bit;
            if let Some((id, from_start)) = self.survey.place(entry)
                && let Some(sum) = self.sums.get_mut(id)
            {
                sum.add(entry, bucket, self.survey.hash_seed);
                self.namer.ask(from_start);
                self.asked[0].push(from_start);
            } else {
                self.has_strays = true;
            }
        }
        if is_suspect && has_doubles(entries) {
            self.suspects.push(bucket);
        }
    }

    fn rest(&mut self) {
        let [asked, before] = &mut self.asked;
        let places = before.drain(..);
        places.for_each(|from_start| self.namer.name(from_start));
        std::mem::swap(asked, before);
    }
}

/// Whether two of these entries have one tag.
#[cold]
fn has_doubles(entries: &[Entry]) -> bool {
    let mut rest = entries;
    while let Some((one, others)) = rest.split_first() {
        if others.iter().any(|other| other.tag() == one.tag()) {
            return true;
        }
        rest = others;
    }
    false
}

/// Who reads segments.
struct Musterer<'s> {
    survey: &'s Survey<'s>,
    extent: Extent,
    named: &'s Named,
    large: Vec<Large>,
}

impl Musterer<'_> {
    fn muster(mut self, mut lanes: Lanes<'_>) -> (Vec<Walked>, Vec<Large>) {
        let (survey, named) = (self.survey, self.named);
        let gather = |id| {
            let (start, _) = survey.extent_of(id);
            named.gather(survey.behind_start(start), survey.segment_bytes());
        };
        while lanes.fill(gather) {
            lanes.step(BURST_BYTES, |walked, _, offset, item| {
                self.count(walked, offset, &item)
            });
        }
        (lanes.segments, self.large)
    }

    /// Counts an item, if it is named.
    #[inline]
    fn count(&mut self, walked: &mut Walked, offset: u64, item: &Measured) {
        let survey = self.survey;
        if !self.named.has(survey.behind_start(offset)) {
            return;
        }
        let (header, is_special) = (item.header, item.header.has(KIND_NUMBER | KIND_LARGE));
        let version = match is_special {
            true => survey.item(offset).version(),
            false => header.version(),
        };
        // What is not counted has its segment doubted.
        if !survey.is_possible(version) {
            return;
        }
        // SAFETY: the key is part of what was measured, and nobody else uses the arena.
        let key = unsafe { survey.arena.read(item.key_at, item.key_bytes) };
        let hash: KeyHash = hash_of(key, survey.hash_seed);
        let (entry, bucket) = (Entry::new(hash, offset), self.extent.bucket_of(hash));
        walked.named.add(entry, bucket, survey.hash_seed);
        if header.has(KIND_LARGE) {
            self.large.push(Large {
                id: walked.id,
                offset,
                bytes: item.bytes,
                slot: None,
            });
            return;
        }
        // SAFETY: the item was measured.
        let expires_at_ms = unsafe { header.stored_expiry_ms(survey.arena, offset) };
        walked.items.count(version, expires_at_ms, item.bytes);
    }
}
