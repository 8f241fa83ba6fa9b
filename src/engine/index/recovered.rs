//! The index of a cache that is recovered.
//!
//! Nothing in it is believed. First its chains are mended: locks of writers that are gone are
//! cleared, and a link is kept only if it leads to an overflow bucket that is paid for, that no other
//! chain has, and that makes the chain no longer than chains are. Then the walk of the segments marks
//! each entry that names an item it has proved ([`Chains::find`], [`Chains::mark`]). Last, what has no
//! mark goes ([`Chains::settle`]), and so does what a split had filled of a bucket that nobody could
//! find yet. (Of a split that had raised the count, the parent keeps entries that belong to the child;
//! they get no mark, since their items lead to the child.)

use crate::arena::Arena;
use crate::engine::config::{BUCKET_BYTES, Geometry, OVERFLOW_BYTES};
use crate::engine::index::growth::Growth;
use crate::engine::index::overflow::Spares;
use crate::engine::index::word::{Control, Entry, KeyHash};
use crate::engine::index::{CONTROL, Index, OVERFLOW_CONTROL, OVERFLOW_WORDS, WORDS};
use crate::shape;
use crate::sync::{Arc, Mutex, Ordering};

/// Slots of the longest chain.
const CHAIN_SLOTS: usize = CONTROL + OVERFLOW_CONTROL * shape::OVERFLOW_BUCKETS_MAX as usize;

/// The chains of an index, mended, with what was proved of their entries.
#[derive(Debug)]
pub(crate) struct Chains {
    arena: Arc<Arena>,
    geometry: Geometry,
    buckets: u64,
    /// Slots that were proved, a bit each, of each bucket and of each overflow bucket.
    proven: [Vec<u8>; 2],
    /// Whether an overflow bucket is linked.
    linked: Vec<bool>,
    pub(crate) locks_cleared: u64,
    pub(crate) links_cut: u64,
}

/// A slot of the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    bucket: Place,
    number: u8,
}

/// A bucket of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Bucket(u64),
    Overflow(u32),
}

/// Why an entry has no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmarked {
    /// Nothing was proved of it.
    Unproven,
    /// Another entry names an item with the same key.
    Duplicate,
}

impl Chains {
    /// Mends the chains of so many buckets; `overflow` overflow buckets are paid for.
    pub(crate) fn mend(arena: Arc<Arena>, geometry: Geometry, buckets: u64, overflow: u64) -> Self {
        let mut chains = Self {
            arena,
            geometry,
            buckets,
            proven: [vec![0; buckets as usize], vec![0; overflow as usize]],
            linked: vec![false; overflow as usize],
            locks_cleared: 0,
            links_cut: 0,
        };
        (0..buckets).for_each(|bucket| chains.mend_one(bucket));
        chains
    }

    fn mend_one(&mut self, bucket: u64) {
        let mut place = Place::Bucket(bucket);
        for links in 0..=shape::OVERFLOW_BUCKETS_MAX {
            let control_at = self.control_at(place);
            let found = Control(self.load(control_at));
            let may_link = |id: &u32| {
                links < shape::OVERFLOW_BUCKETS_MAX && self.linked.get(*id as usize) == Some(&false)
            };
            let next = found.overflow().filter(may_link);
            let mended = next.map_or(Control(0), |id| Control(0).with_overflow(id));
            if mended != found {
                self.locks_cleared += u64::from(found.is_locked());
                self.links_cut += u64::from(found.overflow().is_some() && next.is_none());
                self.store(control_at, mended.0);
            }
            let Some(id) = next else { return };
            self.linked[id as usize] = true;
            place = Place::Overflow(id);
        }
    }

    pub(crate) fn bucket_of(&self, hash: KeyHash) -> u64 {
        hash.bucket(self.buckets)
    }

    /// Asks for the line of a bucket.
    pub(crate) fn prefetch(&self, bucket: u64) {
        self.arena.prefetch(self.at(Place::Bucket(bucket)));
    }

    /// Asks for the first overflow bucket behind a bucket that was asked for before, if the bucket
    /// has not the hash's tag.
    pub(crate) fn prefetch_overflow(&self, hash: KeyHash) {
        let place = Place::Bucket(self.bucket_of(hash));
        if self.tagged(place, hash) == 0
            && let Some(next) = self.next(place)
        {
            self.arena.prefetch(self.at(next));
        }
    }

    /// The first slot without a mark that names the item at `offset` of a key with this hash.
    pub(crate) fn find(&self, hash: KeyHash, offset: u64) -> Option<Slot> {
        let mut next = Some(Place::Bucket(self.bucket_of(hash)));
        while let Some(place) = next {
            let marks = self.marks(place);
            let tagged = u64::from(self.tagged(place, hash) & !u32::from(marks));
            let named = (0..slots(place)).find(|&number| {
                let is_tagged = tagged >> number & 1 == 1;
                is_tagged && {
                    let entry = Entry(self.load(self.at(place) + number * 8));
                    entry.offset() == offset && !entry.has_reserved()
                }
            });
            if let Some(number) = named {
                return Some(Slot {
                    bucket: place,
                    number: number as u8,
                });
            }
            next = self.next(place);
        }
        None
    }

    /// Notes that the item which the slot names was proved.
    pub(crate) fn mark(&mut self, slot: Slot) {
        *self.marks_mut(slot.bucket) |= 1 << slot.number;
    }

    /// Removes every entry that has no mark, or names an item of the same key as another one, and
    /// gives it to `dropped`; gives how many are left.
    pub(crate) fn settle(
        &mut self,
        same_key: impl Fn(Entry, Entry) -> bool,
        mut dropped: impl FnMut(u64, Entry, Unmarked),
    ) -> u64 {
        let mut kept = 0;
        let mut chain = [(0, Entry::EMPTY); CHAIN_SLOTS];
        for bucket in 0..self.buckets {
            let mut marked = 0;
            let mut next = Some(Place::Bucket(bucket));
            while let Some(place) = next {
                let marks = self.marks(place);
                for number in 0..slots(place) {
                    let at = self.at(place) + number * 8;
                    let entry = Entry(self.load(at));
                    if marks >> number & 1 == 1 {
                        chain[marked] = (at, entry);
                        marked += 1;
                    } else if !entry.is_empty() {
                        self.store(at, Entry::EMPTY.0);
                        dropped(bucket, entry, Unmarked::Unproven);
                    }
                }
                next = self.next(place);
            }
            let chain = &chain[..marked];
            for (position, &(at, entry)) in chain.iter().enumerate() {
                let mut others = chain[..position].iter().chain(&chain[position + 1..]);
                let is_double = |&&(_, other): &&(u64, Entry)| {
                    other.tag() == entry.tag() && same_key(entry, other)
                };
                if others.any(|other| is_double(&other)) {
                    self.store(at, Entry::EMPTY.0);
                    dropped(bucket, entry, Unmarked::Duplicate);
                } else {
                    kept += 1;
                }
            }
            self.trim(bucket);
        }
        kept
    }

    /// Unlinks overflow buckets from the end of a chain while they are empty.
    fn trim(&mut self, bucket: u64) {
        let mut before = Place::Bucket(bucket);
        let mut last_used = before;
        while let Some(place) = self.next(before) {
            let mut words = (0..slots(place)).map(|number| self.load(self.at(place) + number * 8));
            if words.any(|word| word != 0) {
                last_used = place;
            }
            before = place;
        }
        let mut unlinked = self.next(last_used);
        if unlinked.is_some() {
            self.store(self.control_at(last_used), 0);
        }
        while let Some(place) = unlinked {
            unlinked = self.next(place);
            if let Place::Overflow(id) = place {
                self.linked[id as usize] = false;
            }
        }
    }

    /// Overflow buckets up to the last one that is linked.
    pub(crate) fn overflow_used(&self) -> u64 {
        let last = self.linked.iter().rposition(|&is_linked| is_linked);
        last.map_or(0, |last| last as u64 + 1)
    }

    /// The index of the chains, with nothing in what they do not have.
    pub(crate) fn into_index(self) -> Index {
        let used = self.overflow_used();
        let growth = Growth::recovered(&self.geometry, self.buckets, used);
        let (buckets, overflow) = growth.capacities();
        let unused = (self.buckets..buckets).map(Place::Bucket);
        let is_linked = |id: u64| id < used && self.linked[id as usize];
        let unlinked = (0..overflow).filter(|&id| !is_linked(id));
        let unlinked = unlinked.map(|id| Place::Overflow(id as u32));
        for place in unused.chain(unlinked) {
            let at = self.at(place);
            (0..=slots(place)).for_each(|number| self.clear(at + number * 8));
        }
        let mut spares = Spares::default();
        let free = (0..used).filter(|&id| !is_linked(id));
        spares.add(free.map(|id| id as u32));
        Index {
            arena: self.arena,
            geometry: self.geometry,
            growth: Mutex::new(growth),
            spares: Arc::new(Mutex::new(spares)),
        }
    }

    /// The slots of a bucket that have the hash's tag, a bit each.
    fn tagged(&self, place: Place, hash: KeyHash) -> u32 {
        let at = self.at(place);
        match place {
            Place::Bucket(_) => self.arena.tagged::<WORDS>(at, hash.tag()),
            Place::Overflow(_) => self.arena.tagged::<OVERFLOW_WORDS>(at, hash.tag()),
        }
    }

    fn at(&self, place: Place) -> u64 {
        match place {
            Place::Bucket(bucket) => self.geometry.buckets_at + bucket * BUCKET_BYTES,
            Place::Overflow(id) => self.geometry.overflow_at + u64::from(id) * OVERFLOW_BYTES,
        }
    }

    fn control_at(&self, place: Place) -> u64 {
        self.at(place) + slots(place) * 8
    }

    fn next(&self, place: Place) -> Option<Place> {
        let control = Control(self.load(self.control_at(place)));
        control.overflow().map(Place::Overflow)
    }

    fn marks(&self, place: Place) -> u8 {
        match place {
            Place::Bucket(bucket) => self.proven[0][bucket as usize],
            Place::Overflow(id) => self.proven[1][id as usize],
        }
    }

    fn marks_mut(&mut self, place: Place) -> &mut u8 {
        match place {
            Place::Bucket(bucket) => &mut self.proven[0][bucket as usize],
            Place::Overflow(id) => &mut self.proven[1][id as usize],
        }
    }

    fn load(&self, at: u64) -> u64 {
        // ORDERING: Relaxed, here and in `store`; nobody shares the arena yet.
        self.arena.word(at).load(Ordering::Relaxed)
    }

    fn store(&self, at: u64, value: u64) {
        self.arena.word(at).store(value, Ordering::Relaxed);
    }

    /// Clears a word, but does not touch a page that is clear.
    fn clear(&self, at: u64) {
        if self.load(at) != 0 {
            self.store(at, 0);
        }
    }
}

/// Words of a bucket that hold entries.
fn slots(place: Place) -> u64 {
    match place {
        Place::Bucket(_) => CONTROL as u64,
        Place::Overflow(_) => OVERFLOW_CONTROL as u64,
    }
}
