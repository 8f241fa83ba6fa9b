//! All chains of an index that is recovered, read once, by as many threads as there are.
//!
//! Buckets follow one another, and their overflow buckets lie anywhere: waiting for these is what reading
//! costs, and for the addresses of their pages most of all. So buckets are read in groups, and the overflow
//! buckets that follow in a group's chains are asked for together, one after the other, so that the processor
//! looks for several addresses at the same time. A turn later, when the buckets of the next group were read, they
//! are there; then those are asked for that follow them, and so on.
//!
//! What is read is not mended yet. As long as every link is one that [`Chains::mend`] keeps, there is nothing
//! to be done but to clear the locks, whose places are noted. After a process's death that is so. If a single
//! link is not, what was read is worth nothing, and nothing is changed: of two chains that lead to the same
//! overflow bucket the first one keeps it, which only who goes through them in their order can tell.

use std::ops::Range;

use crate::arena::prefetch;
use crate::engine::index::recovered::{Chains, Hands, Place};
use crate::engine::index::word::{Control, Entry};
use crate::engine::index::{CONTROL, OVERFLOW_CONTROL, OVERFLOW_WORDS, WORDS};
use crate::shape;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Slots of the longest chain.
pub(super) const CHAIN_SLOTS: usize =
    CONTROL + OVERFLOW_CONTROL * shape::OVERFLOW_BUCKETS_MAX as usize;

/// LIMIT: buckets whose overflow buckets are fetched together: fewer would not be there in time.
const GROUP: usize = 32;
/// LIMIT: overflow buckets of a chain that are asked for before they are read. Few chains have more.
const ASKED_FOR: usize = 3;
/// Words with a bit for each tag of a chain, or several: where two entries have the same bit, it is seen
/// whether they have the same tag.
const TAG_WORDS: usize = 8;

/// Who reads all entries, or some.
pub(crate) trait Visitor {
    /// An entry of the chain of this bucket.
    fn entry(&mut self, bucket: u64, entry: Entry);

    /// Two entries of this chain have the same tag.
    fn doubles(&mut self, bucket: u64);

    /// The last overflow bucket of a chain holds nothing.
    fn loose(&mut self);

    /// All that this one reads was read.
    fn end(&mut self);
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

/// Chains of buckets that follow one another, read up to their overflow buckets that were asked for.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// The first bucket.
    first: u64,
    /// Tags that each chain has.
    tags: [[u64; TAG_WORDS]; GROUP],
    /// Which chains have two entries that may be of one tag, a bit each.
    suspects: u32,
    /// Overflow buckets to be read next, of so many chains.
    next: [Next; GROUP],
    chains: usize,
}

/// An overflow bucket, and which chain of its group it belongs to.
#[derive(Debug, Clone, Copy)]
struct Next {
    chain: u32,
    id: u32,
}

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

    /// Asks for the word of one, if there is such a one.
    #[inline]
    fn prefetch(&self, id: u32) {
        if let Some(word) = self.words.get(id as usize / 64) {
            prefetch(word);
        }
    }

    /// Unlinks one that is linked.
    pub(super) fn give_back(&mut self, id: u32) {
        self.words[id as usize / 64] &= !(1 << (id % 64));
    }

    /// Whether one is linked.
    fn has(&self, id: u64) -> bool {
        let word = self.words.get(id as usize / 64);
        word.is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// Which of these are not.
    pub(super) fn others(&self, ids: Range<u64>) -> impl Iterator<Item = u32> {
        let others = ids.filter(|&id| !self.has(id));
        others.map(|id| id as u32)
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

impl Group {
    const EMPTY: Self = Self {
        first: 0,
        tags: [[0; TAG_WORDS]; GROUP],
        suspects: 0,
        next: [Next { chain: 0, id: 0 }; GROUP],
        chains: 0,
    };

    /// Has an overflow bucket of a chain be read next, if one follows.
    #[inline(always)]
    fn follow(&mut self, chain: u32, next: Option<u32>) {
        // Written in any case, since nobody could tell whether one follows.
        let id = next.unwrap_or(0);
        self.next[self.chains] = Next { chain, id };
        self.chains += usize::from(next.is_some());
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
        let readings = chains.in_shares(hands, begun, |reading, buckets| {
            chains.read_all(buckets, reading);
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
            reading.visitor.end();
            reading.locked.iter().for_each(|&at| self.unlock(at));
            reading.visitor
        });
        Some(visitors.collect())
    }

    /// Reads the chains of these buckets: one group's buckets, the first overflow buckets of the group
    /// before, the second ones of the group before that, and so on.
    fn read_all<V: Visitor>(&self, buckets: Range<u64>, reading: &mut Reading<V>) {
        let mut groups = [Group::EMPTY; ASKED_FOR + 1];
        let count = (buckets.end - buckets.start).div_ceil(GROUP as u64);
        for turn in 0..count + ASKED_FOR as u64 {
            let place = |number: u64| number as usize % (ASKED_FOR + 1);
            if turn < count {
                let first = buckets.start + turn * GROUP as u64;
                let end = (first + GROUP as u64).min(buckets.end);
                self.read_buckets(first..end, &mut groups[place(turn)], reading);
            }
            for links in 1..=ASKED_FOR as u64 {
                let number = turn.checked_sub(links).filter(|&number| number < count);
                if let Some(number) = number {
                    let group = &mut groups[place(number)];
                    self.read_overflow(group, links as u32, reading);
                    if links == ASKED_FOR as u64 {
                        self.read_rest(group, reading);
                    }
                }
            }
        }
    }

    /// Reads buckets, and asks for the overflow buckets that follow.
    #[inline(always)]
    fn read_buckets<V: Visitor>(
        &self,
        buckets: Range<u64>,
        group: &mut Group,
        reading: &mut Reading<V>,
    ) {
        *group = Group {
            first: buckets.start,
            ..Group::EMPTY
        };
        for (chain, bucket) in (0..).zip(buckets) {
            let place = Place::Bucket(bucket);
            let (_, next) = self.read_one::<WORDS, V>(place, group, chain, reading);
            group.follow(chain, next);
        }
        self.ask_for_next(group, reading);
    }

    /// Reads the overflow buckets behind so many links, and asks for those that follow.
    #[inline(always)]
    fn read_overflow<V: Visitor>(&self, group: &mut Group, links: u32, reading: &mut Reading<V>) {
        // What follows takes the places of what was read before.
        for number in 0..std::mem::take(&mut group.chains) {
            let Next { chain, id } = group.next[number];
            if links > shape::OVERFLOW_BUCKETS_MAX || !reading.links.take(id) {
                reading.is_sound = false;
                continue;
            }
            let place = Place::Overflow(id);
            let (count, next) = self.read_one::<OVERFLOW_WORDS, V>(place, group, chain, reading);
            if count == 0 && next.is_none() {
                reading.visitor.loose();
            }
            group.follow(chain, next);
        }
        self.ask_for_next(group, reading);
    }

    /// Asks for the overflow buckets that are read next. (One after the other with nothing in between: so the
    /// processor looks for the addresses of several pages at the same time.)
    #[inline(always)]
    fn ask_for_next<V>(&self, group: &Group, reading: &Reading<V>) {
        for next in &group.next[..group.chains] {
            self.arena.prefetch(self.at(Place::Overflow(next.id)));
            reading.links.prefetch(next.id);
        }
    }

    /// Reads what is left of the chains of a group, which is done with then.
    fn read_rest<V: Visitor>(&self, group: &mut Group, reading: &mut Reading<V>) {
        let mut links = ASKED_FOR as u32;
        while group.chains > 0 {
            links += 1;
            self.read_overflow(group, links, reading);
        }
        let mut suspects = group.suspects;
        while suspects != 0 {
            let bucket = group.first + u64::from(suspects.trailing_zeros());
            // Where a link was none there may be no end.
            if reading.is_sound && self.has_doubles(bucket) {
                reading.visitor.doubles(bucket);
            }
            suspects &= suspects - 1;
        }
    }

    /// Reads one bucket of a chain of the group; gives how many entries it has, and what is linked.
    #[inline(always)]
    fn read_one<const N: usize, V: Visitor>(
        &self,
        place: Place,
        group: &mut Group,
        chain: u32,
        reading: &mut Reading<V>,
    ) -> (usize, Option<u32>) {
        let at = self.at(place);
        let words = self.arena.words::<N>(at);
        let (tags, bucket) = (
            &mut group.tags[chain as usize],
            group.first + u64::from(chain),
        );
        let (mut count, mut is_suspect) = (0, false);
        // ORDERING: Relaxed, here and below; nobody shares the arena yet.
        for entry in (0..N - 1).map(|number| Entry(words[number].load(Ordering::Relaxed))) {
            if entry.is_empty() {
                continue;
            }
            count += 1;
            let (word, bit) = (entry.tag() as usize / 64 % TAG_WORDS, entry.tag() % 64);
            is_suspect |= tags[word] >> bit & 1 == 1;
            tags[word] |= 1 << bit;
            reading.visitor.entry(bucket, entry);
        }
        group.suspects |= u32::from(is_suspect) << chain;
        let control = Control(words[N - 1].load(Ordering::Relaxed));
        if control != control.unlocked() {
            reading.locked.push(at + (N - 1) as u64 * 8);
        }
        (count, control.overflow())
    }

    /// Whether two entries of a chain, which ends, have one tag.
    #[cold]
    fn has_doubles(&self, bucket: u64) -> bool {
        let (mut tags, mut count) = ([0_u16; CHAIN_SLOTS], 0);
        let mut next = Some(Place::Bucket(bucket));
        while let Some(place) = next {
            for entry in self.entries(place) {
                let tag = entry.tag() as u16;
                if tags[..count].contains(&tag) {
                    return true;
                }
                tags[count] = tag;
                count += 1;
            }
            next = self.next(place);
        }
        false
    }

    /// Has all buckets gone through in groups, whose overflow buckets are asked for first, with something
    /// that `begun` makes for each thread; gives what was made.
    pub(super) fn in_groups<T: Send>(
        &self,
        hands: Hands<'_>,
        begun: impl Fn() -> T + Sync,
        group: impl Fn(&mut T, Range<u64>) + Sync,
    ) -> Vec<T> {
        self.in_shares(hands, begun, |made, buckets| {
            self.in_turns(buckets, |buckets| group(made, buckets));
        })
    }

    /// Has all buckets gone through, some at a time, with something that `begun` makes for each thread; gives
    /// what was made.
    fn in_shares<T: Send>(
        &self,
        hands: Hands<'_>,
        begun: impl Fn() -> T + Sync,
        share: impl Fn(&mut T, Range<u64>) + Sync,
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
                share(made.get_or_insert_with(&begun), first..end);
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
        const BUCKETS: u64 = GROUP as u64;
        const LINKS: u64 = ASKED_FOR as u64;
        let groups = (buckets.end - buckets.start).div_ceil(BUCKETS);
        let of = |number: u64| {
            let first = buckets.start + number * BUCKETS;
            first..(first + BUCKETS).min(buckets.end)
        };
        for turn in 0..groups + LINKS {
            for links in 0..LINKS {
                let number = turn.checked_sub(links);
                if let Some(number) = number.filter(|&number| number < groups) {
                    of(number).for_each(|bucket| self.ask(bucket, links));
                }
            }
            if let Some(number) = turn.checked_sub(LINKS) {
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
