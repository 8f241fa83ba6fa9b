//! The index of a cache that is recovered.
//!
//! Nothing in it is believed. Locks of writers that are gone are cleared, and a link is kept only if it
//! leads to an overflow bucket that is paid for, that no other chain has, and that makes the chain no longer
//! than chains are: otherwise the chains are mended ([`Chains::mend`]). All entries are read
//! ([`Chains::visit`]), to be compared with what lies in the segments. Where that is doubted, the walk of
//! the segment marks each entry that names an item it has proved ([`Chains::look`], [`Marks`]). Last, what
//! is doubted and has no mark goes ([`Chains::settle`]), and so does what a split had filled of a bucket
//! that nobody could find yet. (Of a split that had raised the count, the parent keeps entries that belong to the child;
//! they get no mark, since their items lead to the child.)

use crate::arena::{Arena, prefetch};
use crate::engine::config::{BUCKET_BYTES, Geometry, OVERFLOW_BYTES};
use crate::engine::index::growth::Growth;
use crate::engine::index::overflow::Spares;
use crate::engine::index::visit::{CHAIN_SLOTS, Links};
use crate::engine::index::word::{Control, Entry, Extent, KeyHash};
use crate::engine::index::{CONTROL, Index, OVERFLOW_CONTROL, OVERFLOW_WORDS, WORDS};
use crate::shape;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// What calls a piece of work, from one thread or from several at the same time, and returns when all
/// calls have.
pub type Hands<'h> = &'h dyn Fn(&(dyn Fn() + Sync));

/// The chains of an index.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(super) arena: Arc<Arena>,
    geometry: Geometry,
    buckets: u64,
    /// Which overflow buckets are linked, once the chains were visited or mended.
    pub(super) linked: Links,
    pub(crate) locks_cleared: u64,
    pub(crate) links_cut: u64,
}

/// Slots whose items were proved one by one, a bit each, of each bucket and of each overflow bucket; or
/// nothing at all, where none were.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    buckets: Vec<u8>,
    overflow: Vec<u8>,
}

/// A slot of the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    bucket: Place,
    number: u8,
}

/// A bucket of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Bucket(u64),
    Overflow(u32),
}

/// What one bucket of a chain says about an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looked {
    /// The first slot that names it.
    pub(crate) slot: Option<Slot>,
    /// Whether another slot has its tag.
    pub(crate) others: bool,
    /// The overflow bucket that follows.
    pub(crate) next: Option<u32>,
}

/// Which entries are proved.
#[derive(Clone, Copy)]
pub(crate) struct Proved<'p> {
    /// All that this says so of.
    pub(crate) entries: &'p (dyn Fn(Entry) -> bool + Sync),
    /// And these.
    pub(crate) marks: &'p Marks,
}

impl Proved<'_> {
    fn holds(self, slot: Slot, entry: Entry) -> bool {
        !entry.is_empty() && (self.marks.has(slot) || (self.entries)(entry))
    }
}

impl Marks {
    /// Notes that the item which the slot names was proved.
    #[inline]
    pub(crate) fn set(&mut self, slot: Slot) {
        match slot.bucket {
            Place::Bucket(bucket) => self.buckets[bucket as usize] |= 1 << slot.number,
            Place::Overflow(id) => self.overflow[id as usize] |= 1 << slot.number,
        }
    }

    /// With those that somebody else has set.
    pub(crate) fn add(&mut self, other: &Self) {
        let (ours, others) = (&mut self.buckets, &other.buckets);
        ours.iter_mut()
            .zip(others)
            .for_each(|(our, other)| *our |= other);
        let (ours, others) = (&mut self.overflow, &other.overflow);
        ours.iter_mut()
            .zip(others)
            .for_each(|(our, other)| *our |= other);
    }

    /// Whether a slot has one. (Nobody marks anything where nothing is to be marked.)
    fn has(&self, slot: Slot) -> bool {
        let marks = match slot.bucket {
            Place::Bucket(bucket) => self.buckets.get(bucket as usize),
            Place::Overflow(id) => self.overflow.get(id as usize),
        };
        marks.is_some_and(|marks| marks >> slot.number & 1 == 1)
    }
}

impl Chains {
    /// The chains of so many buckets, as they are; `overflow` overflow buckets are paid for.
    pub(crate) fn found(
        arena: Arc<Arena>,
        geometry: Geometry,
        buckets: u64,
        overflow: u64,
    ) -> Self {
        Self {
            arena,
            geometry,
            buckets,
            linked: Links::none(overflow),
            locks_cleared: 0,
            links_cut: 0,
        }
    }

    /// Mends them, one after the other.
    pub(crate) fn mend(&mut self) {
        self.linked = Links::none(self.linked.overflow());
        for bucket in 0..self.buckets {
            self.mend_one(bucket);
        }
    }

    fn mend_one(&mut self, bucket: u64) {
        let mut place = Place::Bucket(bucket);
        for links in 0..=shape::OVERFLOW_BUCKETS_MAX {
            let control_at = self.control_at(place);
            let found = Control(self.load(control_at)).overflow();
            let may_link = links < shape::OVERFLOW_BUCKETS_MAX;
            let next = found.filter(|&id| may_link && self.linked.take(id));
            self.unlock(control_at);
            if next != found {
                self.links_cut += 1;
                self.store(control_at, Control(0).0);
            }
            let Some(id) = next else { return };
            place = Place::Overflow(id);
        }
    }

    /// Leaves a control word nothing but its link.
    pub(super) fn unlock(&mut self, control_at: u64) {
        let found = Control(self.load(control_at));
        if found != found.unlocked() {
            self.locks_cleared += u64::from(found.is_locked());
            self.store(control_at, found.unlocked().0);
        }
    }

    /// How many buckets there are, overflow buckets aside.
    pub(crate) fn buckets(&self) -> u64 {
        self.buckets
    }

    /// That, made up for many hashes.
    pub(crate) fn extent(&self) -> Extent {
        Extent::of(self.buckets)
    }

    #[inline]
    pub(crate) fn bucket_of(&self, hash: KeyHash) -> u64 {
        hash.bucket(self.buckets)
    }

    /// Asks for the bucket of a hash, and for its marks.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash, marks: &Marks) {
        let bucket = self.bucket_of(hash);
        self.arena.prefetch(self.at(Place::Bucket(bucket)));
        prefetch(&marks.buckets[bucket as usize]);
    }

    /// No marks yet.
    pub(crate) fn no_marks(&self) -> Marks {
        Marks {
            buckets: vec![0; self.buckets as usize],
            overflow: vec![0; self.linked.overflow() as usize],
        }
    }

    /// Asks for an overflow bucket that a chain leads to, and for its marks.
    #[inline]
    pub(crate) fn prefetch_overflow(&self, id: u32, marks: &Marks) {
        self.arena.prefetch(self.at(Place::Overflow(id)));
        // INVARIANT: a link that was kept leads to an overflow bucket that is paid for.
        prefetch(&marks.overflow[id as usize]);
    }

    /// What the bucket of a hash says about the item at `offset` of a key with this hash.
    #[inline]
    pub(crate) fn look(&self, hash: KeyHash, offset: u64) -> Looked {
        self.look_into::<WORDS>(Place::Bucket(self.bucket_of(hash)), hash, offset)
    }

    /// The same of an overflow bucket.
    #[inline]
    pub(crate) fn look_overflow(&self, id: u32, hash: KeyHash, offset: u64) -> Looked {
        self.look_into::<OVERFLOW_WORDS>(Place::Overflow(id), hash, offset)
    }

    #[inline(always)]
    fn look_into<const N: usize>(&self, place: Place, hash: KeyHash, offset: u64) -> Looked {
        let at = self.at(place);
        let (words, tagged) = self.arena.tagged::<N>(at, hash.0);
        let mut left = tagged;
        while left != 0 {
            let number = left.trailing_zeros();
            // ORDERING: Relaxed, here and below; nobody shares the arena yet.
            let entry = Entry(words[number as usize].load(Ordering::Relaxed));
            if entry.offset() == offset {
                return Looked {
                    slot: Some(Slot {
                        bucket: place,
                        number: number as u8,
                    }),
                    others: tagged & (tagged - 1) != 0,
                    next: None,
                };
            }
            left &= left - 1;
        }
        Looked {
            slot: None,
            others: tagged != 0,
            next: Control(words[N - 1].load(Ordering::Relaxed)).overflow(),
        }
    }

    /// Removes the entries of a chain that are proved and whose items have the same key, and gives them to
    /// `dropped`.
    pub(crate) fn drop_doubles(
        &self,
        bucket: u64,
        proof: Proved<'_>,
        same_key: impl Fn(Entry, Entry) -> bool,
        mut dropped: impl FnMut(Entry),
    ) {
        let mut chain = Vec::with_capacity(CHAIN_SLOTS);
        let mut next = Some(Place::Bucket(bucket));
        while let Some(place) = next {
            let slots = (0..slots(place)).map(|number| Slot {
                bucket: place,
                number: number as u8,
            });
            let entries = slots.map(|slot| (slot, self.entry(slot)));
            chain.extend(entries.filter(|&(slot, entry)| proof.holds(slot, entry)));
            next = self.next(place);
        }
        for (position, &(slot, entry)) in chain.iter().enumerate() {
            let mut others = chain[..position].iter().chain(&chain[position + 1..]);
            let is_double = |&&(_, other): &&(Slot, Entry)| {
                other.tag() == entry.tag() && same_key(entry, other)
            };
            if others.any(|other| is_double(&other)) {
                self.remove(slot);
                dropped(entry);
            }
        }
    }

    /// Removes the entry of the item at `offset`, of a key with this hash.
    pub(crate) fn remove_exact(&self, hash: KeyHash, offset: u64) {
        let mut looked = self.look(hash, offset);
        while let Some(id) = looked.next {
            looked = self.look_overflow(id, hash, offset);
        }
        if let Some(slot) = looked.slot {
            self.remove(slot);
        }
    }

    fn remove(&self, slot: Slot) {
        self.store(self.slot_at(slot), Entry::EMPTY.0);
    }

    fn entry(&self, slot: Slot) -> Entry {
        Entry(self.load(self.slot_at(slot)))
    }

    /// The entries of one bucket of a chain.
    pub(super) fn entries(&self, place: Place) -> impl Iterator<Item = Entry> {
        let words = (0..slots(place)).map(move |number| self.at(place) + number * 8);
        let entries = words.map(|at| Entry(self.load(at)));
        entries.filter(|entry| !entry.is_empty())
    }

    fn slot_at(&self, slot: Slot) -> u64 {
        self.at(slot.bucket) + u64::from(slot.number) * 8
    }

    /// Removes every entry that is not proved, and gives it to `dropped`, with its bucket and something
    /// that `begun` makes for each thread; unlinks overflow buckets that are empty then. Gives how many
    /// entries are left, and what was made.
    pub(crate) fn settle<T: Send>(
        &mut self,
        proof: Proved<'_>,
        hands: Hands<'_>,
        begun: impl Fn() -> T + Sync,
        dropped: impl Fn(&mut T, u64, Entry) + Sync,
    ) -> (u64, Vec<T>) {
        let begun = || (0, Vec::new(), begun());
        let chains = &*self;
        let done = chains.in_groups(hands, begun, |(kept, unlinked, made), group| {
            for bucket in group {
                let dropped = |entry| dropped(made, bucket, entry);
                *kept += chains.settle_one(bucket, proof, dropped, unlinked);
            }
        });
        let (mut kept, mut each) = (0, Vec::with_capacity(done.len()));
        for (of_one, unlinked, made) in done {
            kept += of_one;
            each.push(made);
            for id in unlinked {
                self.linked.give_back(id);
            }
        }
        (kept, each)
    }

    /// The same for one bucket.
    fn settle_one(
        &self,
        bucket: u64,
        proof: Proved<'_>,
        mut dropped: impl FnMut(Entry),
        unlinked: &mut Vec<u32>,
    ) -> u64 {
        let (mut kept, mut place) = (0, Place::Bucket(bucket));
        loop {
            let mut kept_here = 0;
            for number in 0..slots(place) {
                let slot = Slot {
                    bucket: place,
                    number: number as u8,
                };
                let entry = self.entry(slot);
                if entry.is_empty() {
                    continue;
                }
                if proof.holds(slot, entry) {
                    kept_here += 1;
                } else {
                    self.remove(slot);
                    dropped(entry);
                }
            }
            kept += kept_here;
            match self.next(place) {
                Some(next) => place = next,
                // Only the last may not be empty.
                None if kept_here == 0 && place != Place::Bucket(bucket) => {
                    self.trim(bucket, unlinked);
                    return kept;
                }
                None => return kept,
            }
        }
    }

    /// Unlinks overflow buckets from the end of a chain while they are empty.
    fn trim(&self, bucket: u64, unlinked: &mut Vec<u32>) {
        let mut before = Place::Bucket(bucket);
        let mut last_used = before;
        while let Some(place) = self.next(before) {
            if (0..slots(place)).any(|number| self.load(self.at(place) + number * 8) != 0) {
                last_used = place;
            }
            before = place;
        }
        let mut next = self.next(last_used);
        self.store(self.control_at(last_used), 0);
        while let Some(place) = next {
            next = self.next(place);
            if let Place::Overflow(id) = place {
                unlinked.push(id);
            }
        }
    }

    /// Overflow buckets up to the last one that is linked.
    pub(crate) fn overflow_used(&self) -> u64 {
        self.linked.used()
    }

    /// The index of the chains, with nothing in what they do not have.
    pub(crate) fn into_index(self, hands: Hands<'_>) -> Index {
        let used = self.overflow_used();
        let growth = Growth::recovered(&self.geometry, self.buckets, used);
        let (buckets, overflow) = growth.capacities();
        for bucket in self.buckets..buckets {
            self.clear::<WORDS>(Place::Bucket(bucket));
        }
        let mut spares = Spares::default();
        for (_, ids) in self.clear_unlinked(overflow, hands) {
            spares.add(ids.into_iter().filter(|&id| u64::from(id) < used));
        }
        Index {
            arena: self.arena,
            geometry: self.geometry,
            growth: Mutex::new(growth),
            spares: Arc::new(Mutex::new(spares)),
        }
    }

    /// Clears what is not linked of so many overflow buckets; gives which ones these are, in their order, some at
    /// a time, behind the first that they are of.
    fn clear_unlinked(&self, overflow: u64, hands: Hands<'_>) -> Vec<(u64, Vec<u32>)> {
        let (next, cleared) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let work = || {
            loop {
                // ORDERING: Relaxed; a number that each takes once.
                let first = next.fetch_add(shape::BUCKETS_PER_SHARE, Ordering::Relaxed);
                if first >= overflow {
                    break;
                }
                let end = (first + shape::BUCKETS_PER_SHARE).min(overflow);
                let ids: Vec<_> = self.linked.others(first..end).collect();
                for &id in &ids {
                    self.clear::<OVERFLOW_WORDS>(Place::Overflow(id));
                }
                cleared.lock().push((first, ids));
            }
        };
        hands(&work);
        // What nobody has taken is left to this thread.
        work();
        let mut cleared = std::mem::take(&mut *cleared.lock());
        cleared.sort_unstable_by_key(|&(first, _)| first);
        cleared
    }

    pub(super) fn at(&self, place: Place) -> u64 {
        match place {
            Place::Bucket(bucket) => self.geometry.buckets_at + bucket * BUCKET_BYTES,
            Place::Overflow(id) => self.geometry.overflow_at + u64::from(id) * OVERFLOW_BYTES,
        }
    }

    fn control_at(&self, place: Place) -> u64 {
        self.at(place) + slots(place) * 8
    }

    pub(super) fn next(&self, place: Place) -> Option<Place> {
        let control = Control(self.load(self.control_at(place)));
        control.overflow().map(Place::Overflow)
    }

    fn load(&self, at: u64) -> u64 {
        // ORDERING: Relaxed, here and in `store`; nobody shares the arena yet.
        self.arena.word(at).load(Ordering::Relaxed)
    }

    fn store(&self, at: u64, value: u64) {
        self.arena.word(at).store(value, Ordering::Relaxed);
    }

    /// Clears a bucket, but does not touch a page that is clear.
    fn clear<const N: usize>(&self, place: Place) {
        let words = self.arena.words::<N>(self.at(place));
        for word in (0..N).map(|number| &words[number]) {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
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
