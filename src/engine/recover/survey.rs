//! The walk of the segments that proves items, and the entries that name them.
//!
//! A segment is walked from its beginning, item by item, up to its committed length or the first
//! thing that can be no item: what lies behind that is not trusted, whoever names it. So every later
//! walk of the segment meets whole items alone. An item that the index names, at this place and under
//! this key's hash, is live; if the rest of what is asked of it holds, its entry is marked and it is
//! counted.

use crate::arena::Arena;
use crate::engine::cache::hash_of;
use crate::engine::config::{CLASSES_MAX, Geometry, SEGMENT_LINE_BYTES};
use crate::engine::index::recovered::{Chains, Unmarked};
use crate::engine::index::word::{Entry, KeyHash};
use crate::engine::item::Item;
use crate::engine::large::sound_extents;
use crate::engine::log::extents::{Extent, parts};
use crate::engine::log::segment::{
    Label, Lifetime, Owner, Proven, ProvenItems, Remains, Segment, State,
};
use crate::engine::recover::measure::measured;
use crate::engine::recover::{Dropped, OpenSegment, Proof, WrittenBy, segments};
use crate::sync::Ordering;

/// LIMIT: items whose buckets are fetched together.
const BATCH: usize = 16;

/// What is known of the segments so far.
#[derive(Debug)]
pub(super) struct Survey<'a> {
    arena: &'a Arena,
    geometry: Geometry,
    hash_seed: u64,
    /// Versions from here on were never given out.
    next_version: u64,
    proof: Proof,
    remains: Vec<Remains>,
    /// Of each segment: what was proved of its items; none, if it is not one for items.
    items: Vec<Option<ProvenItems>>,
    /// Of each segment: the parts that proven values use, a bit each.
    used_parts: Vec<u64>,
    /// Parts of the values whose items are in each log.
    pub(super) parts: [u64; 2],
    pub(super) item_bytes: u64,
    pub(super) torn_segments: u64,
    pub(super) torn_bytes: u64,
}

/// Why an entry is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
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
        Self {
            arena,
            geometry,
            hash_seed,
            next_version,
            proof,
            items: vec![None; remains.len()],
            used_parts: vec![0; remains.len()],
            remains,
            parts: [0; 2],
            item_bytes: 0,
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

    /// Walks all segments that hold items.
    pub(super) fn walk(&mut self, chains: &mut Chains) {
        for id in 0..self.geometry.segments {
            let remains = self.remains[id as usize];
            if remains.holds_items() {
                self.items[id as usize] = Some(self.nothing_proven(&remains));
                self.walk_segment(id, &remains, chains);
            }
        }
    }

    /// The segment with none of its items proved yet.
    fn nothing_proven(&self, remains: &Remains) -> ProvenItems {
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

    fn walk_segment(&mut self, id: u32, remains: &Remains, chains: &mut Chains) {
        let start = self.start(id);
        let end = start + remains.committed.min(self.geometry.segment_bytes);
        let mut at = start;
        loop {
            let mut batch = [(KeyHash(0), 0, 0); BATCH];
            let mut items = 0;
            while items < BATCH
                && let Some(bytes) = self.measured(at, end)
            {
                let hash = self.hash_at(at);
                chains.prefetch(chains.bucket_of(hash));
                batch[items] = (hash, at, bytes);
                items += 1;
                at += bytes;
            }
            for &(hash, ..) in &batch[..items] {
                chains.prefetch_overflow(hash);
            }
            for &(hash, offset, bytes) in &batch[..items] {
                if let Some(slot) = chains.find(hash, offset)
                    && self.prove(id, offset, bytes).is_ok()
                {
                    chains.mark(slot);
                }
            }
            if items < BATCH {
                break;
            }
        }
        let held = self.items[id as usize].as_mut().expect("just made");
        held.committed = at - start;
        if remains.committed != held.committed {
            self.torn_segments += 1;
            self.torn_bytes += end - at;
        }
    }

    /// Asks of an item, which the index names, all that the walk does not, and counts it.
    fn prove(&mut self, id: u32, offset: u64, bytes: u64) -> Result<(), Doubt> {
        self.doubt(offset)?;
        let item = self.item(offset);
        let extents = item.extents().map(|extents| {
            sound_extents(&self.geometry, &extents).filter(|extents| self.take_parts(extents))
        });
        let extents = extents
            .map(|sound| sound.ok_or(Doubt::Extents))
            .transpose()?;
        let held = self.items[id as usize].as_mut().expect("it is walked");
        held.live_bytes += bytes;
        held.lifetime = held.lifetime.with(item.stored_expiry_ms());
        held.newest_version = held.newest_version.max(item.version());
        let log = held.label.log;
        self.item_bytes += bytes;
        if let Some(extents) = extents {
            self.parts[log as usize] += u64::from(parts(&extents));
            self.hold(extents[0]);
        }
        Ok(())
    }

    /// Counts an item no more that was proved, with its bytes.
    fn take_back(&mut self, id: u32, offset: u64) {
        let item = self.item(offset);
        let held = self.items[id as usize].as_mut().expect("it was proved");
        held.live_bytes -= item.bytes();
        let log = held.label.log;
        self.item_bytes -= item.bytes();
        if let Some(extents) = item.extents() {
            let extents = extents.all();
            self.parts[log as usize] -= u64::from(parts(&extents));
            for &extent in &extents {
                let (id, parts) = self.geometry.place_of(extent);
                self.used_parts[id as usize] &= !parts;
            }
        }
    }

    /// What speaks against an item that can be read, its extents apart.
    fn doubt(&self, offset: u64) -> Result<(), Doubt> {
        if self.item(offset).version() >= self.next_version {
            return Err(Doubt::Version);
        }
        // SAFETY: the item was measured, and nobody else uses the arena.
        let is_intact = || unsafe { Item::is_intact(self.arena, offset) };
        match self.proof {
            Proof::Contents if !is_intact() => Err(Doubt::Contents),
            Proof::Contents | Proof::Lengths => Ok(()),
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

    /// Accounts for an entry that was removed.
    pub(super) fn count_dropped(
        &mut self,
        place: (u64, &dyn Fn(KeyHash) -> u64),
        entry: Entry,
        unmarked: Unmarked,
        dropped: &mut Dropped,
    ) {
        if unmarked == Unmarked::Duplicate {
            let (id, _) = self.place_of(entry).expect("it was proved");
            self.take_back(id, entry.offset());
            dropped.duplicate += 1;
            return;
        }
        let count = match self.doubt_entry(place, entry) {
            Err(Doubt::Segment) => &mut dropped.segment,
            Err(Doubt::Key) => &mut dropped.key,
            Err(Doubt::Version) => &mut dropped.version,
            Err(Doubt::Contents) => &mut dropped.contents,
            Err(Doubt::Extents) => &mut dropped.extents,
            // What can be an item is none where the walk found none.
            Err(Doubt::Place) | Ok(()) => &mut dropped.place,
        };
        *count += 1;
    }

    /// What speaks against an entry of this bucket, as far as can be told once it is known that
    /// something does.
    fn doubt_entry(
        &self,
        (bucket, bucket_of): (u64, &dyn Fn(KeyHash) -> u64),
        entry: Entry,
    ) -> Result<(), Doubt> {
        let (_, end) = self.place_of(entry).ok_or(Doubt::Segment)?;
        let offset = entry.offset();
        self.measured(offset, end).ok_or(Doubt::Place)?;
        let hash = self.hash_at(offset);
        if bucket_of(hash) != bucket || hash.tag() != entry.tag() || entry.has_reserved() {
            return Err(Doubt::Key);
        }
        self.doubt(offset)?;
        match self.item(offset).extents() {
            Some(_) => Err(Doubt::Extents),
            None => Ok(()),
        }
    }

    /// The segment that an entry leads to, and where its items end, if it is one for items.
    fn place_of(&self, entry: Entry) -> Option<(u32, u64)> {
        let from_start = entry.offset().checked_sub(self.geometry.segments_at)?;
        let id = from_start / self.geometry.segment_bytes;
        let items = self.items.get(id as usize)?.as_ref()?;
        Some((id as u32, self.start(id as u32) + items.committed))
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

    fn measured(&self, offset: u64, end: u64) -> Option<u64> {
        // SAFETY: segments are inside the arena, and nobody else uses it.
        unsafe { measured(self.arena, offset, end, self.geometry.key_bytes_max) }
    }

    /// The item at an offset where one was measured.
    fn item(&self, offset: u64) -> Item<'a> {
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
