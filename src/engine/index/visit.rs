//! All chains of an index that is recovered, read once, by as many threads as there are.
//!
//! Buckets follow one another, and their overflow buckets lie anywhere: waiting for these is what reading
//! costs. So chains are read in groups, and before its turn a group is asked for: its first overflow buckets,
//! a turn later those that the first ones lead to, and so on.
//!
//! What is read is not mended yet. As long as every link is one that [`Chains::mend`] keeps, there is nothing
//! to be done but to clear the locks, whose places are noted. After a process's death that is so. If a single
//! link is not, what was read is worth nothing, and nothing is changed: of two chains that lead to the same
//! overflow bucket the first one keeps it, which only who goes through them in their order can tell.

use std::ops::Range;

use crate::engine::index::recovered::{Chains, Hands, Place};
use crate::engine::index::word::{Control, Entry};
use crate::engine::index::{CONTROL, OVERFLOW_CONTROL, OVERFLOW_WORDS, WORDS};
use crate::shape;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Slots of the longest chain.
pub(super) const CHAIN_SLOTS: usize =
    CONTROL + OVERFLOW_CONTROL * shape::OVERFLOW_BUCKETS_MAX as usize;

/// LIMIT: buckets whose overflow buckets are fetched together: fewer would not be there in time.
const GROUP: u64 = 32;
/// LIMIT: overflow buckets of a chain that are asked for before it is read. Few chains have more.
const ASKED_FOR: u64 = 3;

/// Who reads all entries, or some.
pub(crate) trait Visitor {
    /// What the chain of a bucket holds, and whether its last overflow bucket holds nothing.
    fn chain(&mut self, bucket: u64, entries: &[Entry], is_loose: bool);

    /// Some chains were visited, or all.
    fn rest(&mut self);
}

/// Which overflow buckets are linked, of those that there are.
#[derive(Debug)]
pub(super) struct Links {
    words: Vec<u64>,
    overflow: u64,
}

/// What one party has read.
struct Reading<V> {
    visitor: V,
    links: Links,
    /// Control words that say more than a link.
    locked: Vec<u64>,
    is_sound: bool,
}

/// The entries of a chain, and room for one more than it has.
type Entries = [Entry; CHAIN_SLOTS + 1];

impl Links {
    /// Of so many overflow buckets, none.
    pub(super) fn none(overflow: u64) -> Self {
        Self {
            words: vec![0; overflow.div_ceil(64) as usize],
            overflow,
        }
    }

    /// How many overflow buckets there are.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow
    }

    /// Links one; false if there is no such one, or it is linked.
    #[inline]
    pub(super) fn take(&mut self, id: u32) -> bool {
        if u64::from(id) >= self.overflow {
            return false;
        }
        let (word, bit) = (&mut self.words[id as usize / 64], 1 << (id % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Unlinks one that is linked.
    pub(super) fn give_back(&mut self, id: u32) {
        self.words[id as usize / 64] &= !(1 << (id % 64));
    }

    /// Whether one is linked.
    pub(super) fn has(&self, id: u64) -> bool {
        self.words[id as usize / 64] >> (id % 64) & 1 == 1
    }

    /// Links those that others do; false if one of them is linked already.
    fn join(&mut self, others: &Self) -> bool {
        let mut is_new = true;
        for (word, other) in self.words.iter_mut().zip(&others.words) {
            is_new &= *word & other == 0;
            *word |= other;
        }
        is_new
    }

    /// Overflow buckets up to the last one that is linked.
    pub(super) fn used(&self) -> u64 {
        let last = self.words.iter().rposition(|&word| word != 0);
        last.map_or(0, |at| {
            at as u64 * 64 + u64::from(u64::BITS - self.words[at].leading_zeros())
        })
    }
}

impl Chains {
    /// Has each entry read by somebody: by what `begun` makes for each thread, and gives in the end. `None`
    /// if the chains have to be mended first; they are as they were, and this is to be done again then.
    pub(crate) fn visit<V: Visitor + Send>(
        &mut self,
        hands: Hands<'_>,
        begun: impl Fn() -> V + Sync,
    ) -> Option<Vec<V>> {
        let overflow = self.linked.overflow();
        let begun = || Reading {
            visitor: begun(),
            links: Links::none(overflow),
            locked: Vec::new(),
            is_sound: true,
        };
        let chains = &*self;
        let readings = chains.in_groups(hands, begun, |reading, group| {
            let mut entries = [Entry::EMPTY; CHAIN_SLOTS + 1];
            for bucket in group {
                let (count, is_loose) = chains.read(bucket, &mut entries, reading);
                reading.visitor.chain(bucket, &entries[..count], is_loose);
            }
            reading.visitor.rest();
        });
        let mut linked = Links::none(overflow);
        let mut is_sound = true;
        for reading in &readings {
            is_sound &= reading.is_sound && linked.join(&reading.links);
        }
        if !is_sound {
            return None;
        }
        self.linked = linked;
        let visitors = readings.into_iter().map(|mut reading| {
            // What was asked for last, and what before that.
            (0..2).for_each(|_| reading.visitor.rest());
            reading.locked.iter().for_each(|&at| self.unlock(at));
            reading.visitor
        });
        Some(visitors.collect())
    }

    /// Reads a chain: its entries, how many they are, and whether its last overflow bucket holds none.
    #[inline]
    fn read<V>(
        &self,
        bucket: u64,
        entries: &mut Entries,
        reading: &mut Reading<V>,
    ) -> (usize, bool) {
        let (mut count, mut next) =
            self.read_one::<WORDS, V>(Place::Bucket(bucket), (entries, 0), reading);
        let (mut is_loose, mut links) = (false, 0);
        while let Some(id) = next {
            links += 1;
            if links > shape::OVERFLOW_BUCKETS_MAX || !reading.links.take(id) {
                reading.is_sound = false;
                break;
            }
            let before = count;
            (count, next) =
                self.read_one::<OVERFLOW_WORDS, V>(Place::Overflow(id), (entries, count), reading);
            is_loose = count == before;
        }
        (count, is_loose)
    }

    /// Reads one bucket of it behind so many entries; gives how many they are then, and what is linked.
    #[inline(always)]
    fn read_one<const N: usize, V>(
        &self,
        place: Place,
        (entries, mut count): (&mut Entries, usize),
        reading: &mut Reading<V>,
    ) -> (usize, Option<u32>) {
        let at = self.at(place);
        let words = self.arena.words::<N>(at);
        // ORDERING: Relaxed, here and below; nobody shares the arena yet.
        for entry in (0..N - 1).map(|number| Entry(words[number].load(Ordering::Relaxed))) {
            // INVARIANT: there is room for one more than a chain has.
            entries[count] = entry;
            count += usize::from(!entry.is_empty());
        }
        let control = Control(words[N - 1].load(Ordering::Relaxed));
        if control != control.unlocked() {
            reading.locked.push(at + (N - 1) as u64 * 8);
        }
        (count, control.overflow())
    }

    /// Has all buckets gone through in groups, whose overflow buckets are asked for first, with something
    /// that `begun` makes for each thread; gives what was made.
    pub(super) fn in_groups<T: Send>(
        &self,
        hands: Hands<'_>,
        begun: impl Fn() -> T + Sync,
        group: impl Fn(&mut T, Range<u64>) + Sync,
    ) -> Vec<T> {
        let (next, done) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let work = || {
            let mut made = None;
            loop {
                // ORDERING: Relaxed; a number that each takes once.
                let first = next.fetch_add(shape::BUCKETS_PER_SHARE, Ordering::Relaxed);
                if first >= self.buckets() {
                    break;
                }
                let end = (first + shape::BUCKETS_PER_SHARE).min(self.buckets());
                let made = made.get_or_insert_with(&begun);
                self.in_turns(first..end, |buckets| group(made, buckets));
            }
            done.lock().extend(made);
        };
        hands(&work);
        // What nobody has taken is left to this thread.
        work();
        std::mem::take(&mut *done.lock())
    }

    /// Gives groups of these buckets to `group`, each after its overflow buckets were asked for.
    #[inline]
    fn in_turns(&self, buckets: Range<u64>, mut group: impl FnMut(Range<u64>)) {
        let groups = (buckets.end - buckets.start).div_ceil(GROUP);
        let of = |number: u64| {
            let first = buckets.start + number * GROUP;
            first..(first + GROUP).min(buckets.end)
        };
        for turn in 0..groups + ASKED_FOR {
            for links in 0..ASKED_FOR {
                let number = turn.checked_sub(links);
                if let Some(number) = number.filter(|&number| number < groups) {
                    of(number).for_each(|bucket| self.ask(bucket, links));
                }
            }
            if let Some(number) = turn.checked_sub(ASKED_FOR) {
                group(of(number));
            }
        }
    }

    /// Asks for the overflow bucket of a chain that follows behind so many links, if there is one.
    #[inline]
    fn ask(&self, bucket: u64, links: u64) {
        let mut place = Place::Bucket(bucket);
        for _ in 0..links {
            match self.next_of_these(place) {
                Some(next) => place = next,
                None => return,
            }
        }
        if let Some(next) = self.next_of_these(place) {
            self.arena.prefetch(self.at(next));
        }
    }

    /// What follows in a chain that may not be mended yet, if it is one that there is.
    #[inline]
    fn next_of_these(&self, place: Place) -> Option<Place> {
        let is_one = |place: &Place| match place {
            Place::Bucket(_) => true,
            Place::Overflow(id) => u64::from(*id) < self.linked.overflow(),
        };
        self.next(place).filter(is_one)
    }
}

#[cfg(test)]
mod tests {
    use super::Links;

    #[test]
    fn an_overflow_bucket_is_linked_once() {
        let (mut links, mut others) = (Links::none(130), Links::none(130));
        assert_eq!(links.used(), 0);
        for id in [0, 63, 64, 129] {
            assert!(links.take(id) && !links.take(id) && links.has(id.into()));
            assert_eq!(links.used(), u64::from(id) + 1);
        }
        assert!(!links.take(130) && !links.take(u32::MAX));
        assert!(others.take(65) && others.join(&links));
        assert!(others.has(129) && !others.join(&links));
        others.give_back(129);
        assert_eq!((others.used(), others.has(129)), (66, false));
    }
}
