//! What is known of the segments, and what comes of it: the walk of them ([`walk`](super::walk)), large
//! values and items of one key afterwards, and then the index is settled with.

use crate::arena::Arena;
use crate::engine::cache::hash_of;
use crate::engine::config::{CLASSES_MAX, Geometry, SEGMENT_LINE_BYTES};
use crate::engine::index::recovered::{Chains, Hands, Marks, Proved};
use crate::engine::index::word::{Entry, KeyHash};
use crate::engine::item::Item;
use crate::engine::large::{Extents, sound_extents};
use crate::engine::log::extents::{Extent, parts};
use crate::engine::log::segment::{
    Label, Lifetime, Owner, Proven, ProvenItems, Remains, Segment, State,
};
use crate::engine::recover::lanes::Walked;
use crate::engine::recover::measure::{Measured, measured};
use crate::engine::recover::places::Places;
use crate::engine::recover::roll::Roll;
use crate::engine::recover::walk::{Large, Walker};
use crate::engine::recover::{Dropped, OpenSegment, Proof, WrittenBy, segments};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What is known of the segments so far.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    pub(super) arena: &'a Arena,
    geometry: Geometry,
    pub(super) places: Places,
    pub(super) hash_seed: u64,
    /// Versions from here on were never given out.
    next_version: u64,
    proof: Proof,
    remains: Vec<Remains>,
    /// Whether each says that it holds items.
    holds_items: Vec<bool>,
    /// Segments that are still to be walked.
    pub(super) left: Vec<u32>,
    /// Whether the entries of a segment are proved by its sum.
    has_agreed: Vec<bool>,
    /// Of each segment: what was proved of its items; none, if it is not one for items.
    items: Vec<Option<ProvenItems>>,
    /// Of each segment: the parts that proven values use, a bit each.
    used_parts: Vec<u64>,
    /// Parts of the values whose items are in each log.
    pub(super) parts: [u64; 2],
    pub(super) torn_segments: u64,
    pub(super) torn_bytes: u64,
}

/// Why an entry is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    Segment,
    Place,
    Key,
    Version,
    Contents,
    Extents,
}

impl<'a> Survey<'a> {
    pub(super) fn new(
        arena: &'a Arena,
        geometry: Geometry,
        hash_seed: u64,
        next_version: u64,
        proof: Proof,
    ) -> Self {
        let remains: Vec<_> = segments(arena, &geometry)
            .map(|segment| segment.remains())
            .collect();
        let holds_items: Vec<_> = remains.iter().map(Remains::holds_items).collect();
        let held = (0..).zip(&holds_items).filter(|&(_, &holds)| holds);
        Self {
            arena,
            geometry,
            places: Places::of(&geometry),
            hash_seed,
            next_version,
            proof,
            left: held.map(|(id, _)| id).collect(),
            has_agreed: vec![false; remains.len()],
            holds_items,
            items: vec![None; remains.len()],
            used_parts: vec![0; remains.len()],
            remains,
            parts: [0; 2],
            torn_segments: 0,
            torn_bytes: 0,
        }
    }

    /// Segments that the index and the ghosts were paid with.
    pub(super) fn withdrawn(&self) -> u64 {
        let is_withdrawn = |remains: &&Remains| remains.state == Some(State::Withdrawn);
        self.remains.iter().filter(is_withdrawn).count() as u64
    }

    /// Segments that were being written.
    pub(super) fn open(&self) -> Vec<OpenSegment> {
        let open = self.remains.iter().zip(0..);
        let open = open.filter(|(remains, _)| remains.state == Some(State::Open));
        open.map(|(remains, segment)| OpenSegment {
            segment,
            written_by: match remains.owner {
                Some(Owner::Session(number)) if number < self.geometry.sessions_max => {
                    WrittenBy::Session(number + 1)
                }
                Some(Owner::Caretaker) => WrittenBy::Upkeep,
                _ => WrittenBy::Unknown,
            },
            committed_bytes: remains.committed.min(self.geometry.segment_bytes),
        })
        .collect()
    }

    /// Proves entries and items, and settles with the index; gives how many items are left.
    pub(super) fn walk(
        &mut self,
        chains: &mut Chains,
        hands: Hands<'_>,
        dropped: &mut Dropped,
    ) -> u64 {
        let roll = match self.proof {
            Proof::Lengths => self.call_roll(chains, hands),
            Proof::Contents => {
                chains.mend();
                Roll::default()
            }
        };
        let (entries, has_strays) = (roll.entries(), roll.has_strays);
        let (mut large, mut suspects) = (roll.large, roll.suspects);
        let marks = self.walk_the_rest(chains, hands, (&mut large, &mut suspects));
        let mut marks = marks.unwrap_or_default();
        large.sort_unstable_by_key(|large| large.offset);
        for large in &large {
            match (self.prove_large(large), large.slot) {
                (Ok(()), Some(slot)) => marks.set(slot),
                (Err(_), None) => {
                    chains.remove_exact(self.hash_at(large.offset), large.offset);
                    dropped.extents += 1;
                }
                (Ok(()), None) | (Err(_), Some(_)) => {}
            }
        }
        suspects.sort_unstable();
        suspects.dedup();
        for bucket in suspects {
            self.drop_doubles(bucket, chains, &marks, dropped);
        }
        let is_settled = !has_strays && self.left.is_empty() && dropped.total() == 0;
        if is_settled && self.proof == Proof::Lengths {
            return entries;
        }
        self.settle(chains, &marks, hands, dropped)
    }

    /// Compares segments with the index, and leaves those that are doubted.
    fn call_roll(&mut self, chains: &mut Chains, hands: Hands<'_>) -> Roll {
        let mut roll = Roll::call(self, chains, hands);
        self.note(&roll.agreed);
        for walked in &roll.agreed {
            self.has_agreed[walked.id as usize] = true;
        }
        self.left = std::mem::take(&mut roll.doubted);
        roll
    }

    /// Walks the segments that are left, and looks each item up; gives the entries that are proved.
    fn walk_the_rest(
        &mut self,
        chains: &Chains,
        hands: Hands<'_>,
        (large, suspects): (&mut Vec<Large>, &mut Vec<u64>),
    ) -> Option<Marks> {
        if self.left.is_empty() {
            return None;
        }
        let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let survey = &*self;
        let work = || {
            let findings = Walker::new(survey, chains, &next).walk();
            found.lock().push(findings);
        };
        hands(&work);
        // Hands that did nothing are no reason to find nothing.
        if found.lock().is_empty() {
            work();
        }
        let mut marks: Option<Marks> = None;
        for findings in found.into_inner() {
            self.note(&findings.segments);
            large.extend(findings.large);
            suspects.extend(findings.suspects);
            match &mut marks {
                None => marks = Some(findings.marks),
                Some(marks) => marks.add(&findings.marks),
            }
        }
        marks
    }

    /// Has everything go that is not proved; gives how many entries are left.
    fn settle(
        &self,
        chains: &mut Chains,
        marks: &Marks,
        hands: Hands<'_>,
        dropped: &mut Dropped,
    ) -> u64 {
        let (survey, buckets) = (self, chains.buckets());
        let proof = Proved {
            entries: &|entry| survey.is_agreed(entry),
            marks,
        };
        let (items, each) =
            chains.settle(proof, hands, Dropped::default, |dropped, bucket, entry| {
                let place = (bucket, buckets);
                *survey.reason(place, entry, dropped) += 1;
            });
        each.iter().for_each(|each| dropped.add(each));
        items
    }

    /// Removes entries of one bucket that name items of the same key.
    fn drop_doubles(&mut self, bucket: u64, chains: &Chains, marks: &Marks, dropped: &mut Dropped) {
        let (arena, mut doubles) = (self.arena, Vec::new());
        let same_key = |one: Entry, other: Entry| {
            // SAFETY: both name items that were proved, and nobody else uses the arena.
            let key = |entry: Entry| unsafe { Item::read_key(arena, entry.offset()) };
            key(one) == key(other)
        };
        let proof = Proved {
            entries: &|entry| self.is_agreed(entry),
            marks,
        };
        chains.drop_doubles(bucket, proof, same_key, |entry| doubles.push(entry));
        for entry in doubles {
            let (id, _) = self.place_of(entry).expect("it was proved");
            self.take_back(id, entry.offset());
            dropped.duplicate += 1;
        }
    }

    /// Whether an entry leads into a segment whose sum has proved it.
    fn is_agreed(&self, entry: Entry) -> bool {
        let id = self.places.segment_of(entry);
        id.is_some_and(|id| self.has_agreed.get(id) == Some(&true))
    }

    /// The segment with none of its items proved yet.
    pub(super) fn nothing_proven(&self, id: u32) -> ProvenItems {
        let remains = &self.remains[id as usize];
        let Label { log, class } = remains.label;
        let class = match self.geometry.classes {
            1 => 0,
            _ => class.min(CLASSES_MAX - 1),
        };
        ProvenItems {
            committed: 0,
            live_bytes: 0,
            label: Label { log, class },
            lifetime: Lifetime::NONE,
            newest_version: 0,
            sequence: remains.sequence,
        }
    }

    /// The bytes that a segment says it has committed.
    pub(super) fn committed_of(&self, id: u32) -> u64 {
        self.remains[id as usize].committed
    }

    /// Where a segment begins, and where its items end at most.
    pub(super) fn extent_of(&self, id: u32) -> (u64, u64) {
        let start = self.start(id);
        let committed = self.committed_of(id).min(self.geometry.segment_bytes);
        (start, start + committed)
    }

    /// Notes what a walker found of its segments.
    fn note(&mut self, segments: &[Walked]) {
        for walked in segments {
            self.items[walked.id as usize] = Some(walked.items);
            if let Some(torn_bytes) = walked.torn_bytes {
                self.torn_segments += 1;
                self.torn_bytes += torn_bytes;
            }
        }
    }

    /// Counts the item of a large value, if its extents are sound and no other value's.
    fn prove_large(&mut self, large: &Large) -> Result<(), Doubt> {
        let item = self.item(large.offset);
        let described = item.extents().ok_or(Doubt::Extents)?;
        let extents = self.sound_value(&described)?;
        if !self.take_parts(&extents) {
            return Err(Doubt::Extents);
        }
        let held = self.items[large.id as usize]
            .as_mut()
            .expect("it was walked");
        held.add(&item, large.bytes);
        let log = held.label.log;
        self.parts[log as usize] += u64::from(parts(&extents));
        self.hold(extents[0]);
        Ok(())
    }

    /// Counts an item no more that was proved, with its bytes.
    fn take_back(&mut self, id: u32, offset: u64) {
        let item = self.item(offset);
        let held = self.items[id as usize].as_mut().expect("it was proved");
        held.live_bytes -= item.bytes();
        let log = held.label.log;
        if let Some(extents) = item.extents() {
            let extents = extents.all();
            self.parts[log as usize] -= u64::from(parts(&extents));
            for &extent in &extents {
                let (id, parts) = self.geometry.place_of(extent);
                self.used_parts[id as usize] &= !parts;
            }
        }
    }

    /// Whether CRCs are compared.
    #[inline]
    pub(super) fn proves_contents(&self) -> bool {
        self.proof == Proof::Contents
    }

    /// Whether a version was ever given out.
    #[inline]
    pub(super) fn is_possible(&self, version: u64) -> bool {
        version < self.next_version
    }

    /// What speaks against an item that can be read, its extents apart.
    pub(super) fn doubt(&self, offset: u64) -> Result<(), Doubt> {
        if !self.is_possible(self.item(offset).own_version()) {
            return Err(Doubt::Version);
        }
        // SAFETY: the item was measured, and nobody else uses the arena.
        let is_intact = || unsafe { Item::is_intact(self.arena, offset) };
        match self.proves_contents() && !is_intact() {
            true => Err(Doubt::Contents),
            false => Ok(()),
        }
    }

    /// The extents of a value, if nothing speaks against it but that another one may have them.
    fn sound_value(&self, described: &Extents<'_>) -> Result<Box<[Extent]>, Doubt> {
        let extents = sound_extents(&self.geometry, described).ok_or(Doubt::Extents)?;
        match self.proves_contents() && !described.is_intact() {
            true => Err(Doubt::Contents),
            false => Ok(extents),
        }
    }

    /// Takes the parts of a value, if they are extents and no other value has them.
    fn take_parts(&mut self, extents: &[Extent]) -> bool {
        let is_extent = |id: u32| self.remains[id as usize].state == Some(State::Extent);
        for (taken, &extent) in extents.iter().enumerate() {
            let (id, parts) = self.geometry.place_of(extent);
            if is_extent(id) && self.used_parts[id as usize] & parts == 0 {
                self.used_parts[id as usize] |= parts;
                continue;
            }
            for &extent in &extents[..taken] {
                let (id, parts) = self.geometry.place_of(extent);
                self.used_parts[id as usize] &= !parts;
            }
            return false;
        }
        true
    }

    /// Gives the value that begins in `first` the one reference that it has: the index's.
    fn hold(&self, first: Extent) {
        let references = match first.parts() == self.geometry.parts_per_segment() {
            true => self.segment(self.geometry.place_of(first).0).references(),
            false => self.arena.word(first.offset()),
        };
        // ORDERING: Relaxed; nobody shares the arena yet.
        references.store(1, Ordering::Relaxed);
    }

    /// The reason why an entry of this bucket, of so many, was removed.
    fn reason<'d>(&self, place: (u64, u64), entry: Entry, dropped: &'d mut Dropped) -> &'d mut u64 {
        match self.doubt_entry(place, entry) {
            Err(Doubt::Segment) => &mut dropped.segment,
            Err(Doubt::Key) => &mut dropped.key,
            Err(Doubt::Version) => &mut dropped.version,
            Err(Doubt::Contents) => &mut dropped.contents,
            Err(Doubt::Extents) => &mut dropped.extents,
            // What can be an item is none where the walk found none.
            Err(Doubt::Place) | Ok(()) => &mut dropped.place,
        }
    }

    /// What speaks against an entry of this bucket, as far as can be told once it is known that
    /// something does.
    fn doubt_entry(&self, (bucket, buckets): (u64, u64), entry: Entry) -> Result<(), Doubt> {
        let (_, end) = self.place_of(entry).ok_or(Doubt::Segment)?;
        let offset = entry.offset();
        self.measured(offset, end).ok_or(Doubt::Place)?;
        let hash = self.hash_at(offset);
        if hash.bucket(buckets) != bucket || hash.tag() != entry.tag() {
            return Err(Doubt::Key);
        }
        self.doubt(offset)?;
        match self.item(offset).extents() {
            Some(described) => Err(self.sound_value(&described).err().unwrap_or(Doubt::Extents)),
            None => Ok(()),
        }
    }

    /// How many segments there are.
    pub(super) fn segments(&self) -> usize {
        self.remains.len()
    }

    /// Whether a segment says that it holds items.
    pub(super) fn holds_items(&self, id: u32) -> bool {
        self.holds_items[id as usize]
    }

    pub(super) fn segment_bytes(&self) -> u64 {
        self.geometry.segment_bytes
    }

    /// The segment that an entry leads to, and where its items end, if it is one for items.
    fn place_of(&self, entry: Entry) -> Option<(u32, u64)> {
        let id = self.places.segment_of(entry)?;
        let items = self.items.get(id)?.as_ref()?;
        let id = id as u32;
        Some((id, self.start(id) + items.committed))
    }

    /// Bytes of the items that were proved.
    pub(super) fn item_bytes(&self) -> u64 {
        self.items
            .iter()
            .flatten()
            .map(|items| items.live_bytes)
            .sum()
    }

    /// What was proved of each segment. Of those that are withdrawn, so many are kept.
    pub(super) fn proven(&self, mut withdrawn: u64) -> Vec<Proven> {
        let each = self.remains.iter().zip(&self.items).zip(&self.used_parts);
        each.map(|((remains, items), &used)| match (remains.state, items) {
            (_, Some(items)) if items.live_bytes > 0 => Proven::Items(*items),
            (Some(State::Extent), _) if used != 0 => Proven::Extent(used),
            (Some(State::Withdrawn), _) if withdrawn > 0 => {
                withdrawn -= 1;
                Proven::Withdrawn
            }
            _ => Proven::Free,
        })
        .collect()
    }

    /// Segments that are free by what was proved, and not by what their lines said.
    pub(super) fn freed(&self, proven: &[Proven]) -> u64 {
        let each = self.remains.iter().zip(proven);
        let freed = each.filter(|(remains, proven)| {
            matches!(proven, Proven::Free) && remains.state != Some(State::Free)
        });
        freed.count() as u64
    }

    fn segment(&self, id: u32) -> Segment<'a> {
        let line = self.geometry.segment_table_at + u64::from(id) * SEGMENT_LINE_BYTES;
        Segment::at(self.arena, line)
    }

    fn start(&self, id: u32) -> u64 {
        self.geometry.segments_at + u64::from(id) * self.geometry.segment_bytes
    }

    /// The longest key that there may be.
    pub(super) fn key_bytes_max(&self) -> u32 {
        self.geometry.key_bytes_max
    }

    /// The bytes of a segment from `offset` on, up to `end`.
    #[inline]
    pub(super) fn bytes(&self, offset: u64, end: u64) -> &'a [u8] {
        // SAFETY: nobody else uses the arena, and nothing in segments is written before all was read.
        unsafe { self.arena.read(offset, (end - offset) as usize) }
    }

    /// The measures of the item at `offset`, if one can be there that ends at `end` or before.
    #[inline]
    pub(super) fn measured(&self, offset: u64, end: u64) -> Option<Measured> {
        let is_inside = offset & 7 == 0 && offset <= end;
        is_inside
            .then(|| self.bytes(offset, end))
            .and_then(|bytes| measured(bytes, self.geometry.key_bytes_max))
    }

    /// The item at an offset where one was measured.
    pub(super) fn item(&self, offset: u64) -> Item<'a> {
        // SAFETY: it was measured, so it can be read, and nobody else uses the arena.
        unsafe { Item::read(self.arena, offset) }
    }

    /// The hash of the key of the item at an offset where one was measured.
    fn hash_at(&self, offset: u64) -> KeyHash {
        // SAFETY: as in `item`.
        hash_of(
            unsafe { Item::read_key(self.arena, offset) },
            self.hash_seed,
        )
    }
}
