//! The roll: what the index names, held against what lies in the segments, without looking any item up.
//!
//! Looking an item up costs waiting for its bucket, which may be anywhere. So index and segments are each
//! read once from one end to the other. First the index: each entry leaves a bit for the place that it
//! names, and is added to its segment's sum, with the bucket that it was found in. Then the segments: of
//! each item whose bit is set the key is hashed, and what its entry would be, and in which bucket, is added
//! to another sum. Where count and sum of a segment agree, its entries are those of whole items, each in
//! the bucket of its key and under its key's tag, and none twice: each sum is over products that any
//! change of place, tag or bucket changes, so that other entries have the same one by a chance of 1 in 2^64.
//!
//! A segment where they disagree is *doubted*: its items are looked up one by one
//! ([`walk`](super::walk)), and so are those of which CRCs are asked. After the death of a process that
//! is where a split was half done, and nowhere else.

use crate::arena::prefetch;
use crate::engine::cache::hash_of;
use crate::engine::index::recovered::{Chains, Hands, Visitor};
use crate::engine::index::word::{Entry, KeyHash};
use crate::engine::item::{KIND_LARGE, KIND_NUMBER};
use crate::engine::recover::lanes::{Lanes, Walked};
use crate::engine::recover::measure::Measured;
use crate::engine::recover::survey::Survey;
use crate::engine::recover::walk::Large;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Bytes of the segments that share a bit: no two items begin in them, since the smallest takes 24.
const BYTES_PER_BIT: u64 = 16;
/// Bits that tell whether a chain may have two entries of one tag.
const TAG_BITS: u64 = 512;

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

/// What the index names.
#[derive(Debug)]
struct Named {
    /// A bit for each few bytes of the segments.
    bits: Box<[AtomicU64]>,
    /// Of each segment.
    sums: Vec<Sum>,
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
    pub(super) fn call(survey: &Survey<'_>, chains: &Chains, hands: Hands<'_>) -> Self {
        let mut roll = Self::default();
        let named = roll.read_index(survey, chains, hands);
        let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let work = || {
            let musterer = Musterer {
                survey,
                chains,
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
            let agrees = |walked: &Walked| walked.named == named.sums[walked.id as usize];
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

    fn read_index(&mut self, survey: &Survey<'_>, chains: &Chains, hands: Hands<'_>) -> Named {
        let words = survey.segments_bytes().div_ceil(BYTES_PER_BIT * 64);
        let bits: Box<[_]> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let begun = || Reader {
            survey,
            bits: &bits,
            sums: vec![Sum::default(); survey.segments()],
            asked: Vec::new(),
            suspects: Vec::new(),
            has_strays: false,
        };
        let mut sums = vec![Sum::default(); survey.segments()];
        for reader in chains.visit(hands, begun) {
            let each = sums.iter_mut().zip(&reader.sums);
            each.for_each(|(sum, &other)| sum.join(other));
            self.suspects.extend(reader.suspects);
            self.has_strays |= reader.has_strays;
        }
        Named { bits, sums }
    }
}

/// Who reads the index.
struct Reader<'s> {
    survey: &'s Survey<'s>,
    bits: &'s [AtomicU64],
    sums: Vec<Sum>,
    /// Bits that were asked for.
    asked: Vec<u64>,
    suspects: Vec<u64>,
    has_strays: bool,
}

impl Visitor for Reader<'_> {
    #[inline]
    fn chain(&mut self, bucket: u64, entries: &[Entry], is_loose: bool) {
        self.has_strays |= is_loose;
        let (mut tags, mut is_suspect) = ([0_u64; TAG_BITS as usize / 64], false);
        for &entry in entries {
            let tag = entry.tag() % TAG_BITS;
            let bits = &mut tags[tag as usize / 64];
            is_suspect |= *bits >> (tag % 64) & 1 == 1;
            *bits |= 1 << (tag % 64);
            let Some((id, from_start)) = self.survey.held_at(entry) else {
                self.has_strays = true;
                continue;
            };
            let bit = from_start / BYTES_PER_BIT;
            prefetch(&self.bits[bit as usize / 64]);
            self.asked.push(bit);
            self.sums[id as usize].add(entry, bucket, self.survey.hash_seed);
        }
        if is_suspect {
            self.suspects.push(bucket);
        }
    }

    fn rest(&mut self) {
        for bit in self.asked.drain(..) {
            // ORDERING: Relaxed; read when all who set bits have ended.
            self.bits[bit as usize / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}

/// Who reads segments.
struct Musterer<'s> {
    survey: &'s Survey<'s>,
    chains: &'s Chains,
    named: &'s Named,
    large: Vec<Large>,
}

impl Musterer<'_> {
    fn muster(mut self, mut lanes: Lanes<'_>) -> (Vec<Walked>, Vec<Large>) {
        while lanes.fill() {
            lanes.step(|walked, _, offset, item| self.count(walked, offset, &item));
        }
        (lanes.segments, self.large)
    }

    /// Counts an item, if it is named.
    #[inline]
    fn count(&mut self, walked: &mut Walked, offset: u64, item: &Measured) {
        let survey = self.survey;
        let bit = survey.behind_start(offset) / BYTES_PER_BIT;
        // ORDERING: Relaxed; nobody sets bits any more.
        let bits = self.named.bits[bit as usize / 64].load(Ordering::Relaxed);
        if bits >> (bit % 64) & 1 == 0 {
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
        let (entry, bucket) = (Entry::new(hash, offset), self.chains.bucket_of(hash));
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
