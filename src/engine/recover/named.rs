//! Which places of the segments the index names: a bit for each few bytes of them.
//!
//! The index names them in no order, so that each bit is waited for. Parties that set bits of one map would
//! wait for one after the other, since an atomic step ends before what follows it begins. So the first
//! parties have a map of their own each. Later ones share one more: a map for each of them would take more
//! memory than there may be. Whoever reads a segment then gathers its bits from all of them.

use crate::arena::{Scratch, prefetch};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// Bytes of the segments that share a bit: no two items begin in them, since the smallest takes 24.
const BYTES_PER_BIT: u64 = 16;
/// Bytes of the segments that share a word.
const BYTES_PER_WORD: u64 = BYTES_PER_BIT * 64;
/// LIMIT: maps, the last of which is shared. Each takes 0.8 % of the memory, until recovery ends.
const MAPS_MAX: usize = 4;

/// LIMIT: places whose words are asked for before the first of them is named: enough that it is there then.
const ASKED_FOR: usize = 64;

/// Where parties say what the index names.
#[derive(Debug)]
pub(super) struct Maps {
    words: usize,
    /// Parties that have begun.
    parties: AtomicU64,
    /// Each is made by the first party that needs it.
    maps: [Mutex<Option<Arc<Scratch>>>; MAPS_MAX],
}

/// A party that reads the index.
#[derive(Debug)]
pub(super) struct Namer {
    map: Arc<Scratch>,
    is_shared: bool,
    /// Places whose words were asked for, and are named when as many others were.
    asked: [u64; ASKED_FOR],
    /// The one that was asked for first.
    first: usize,
}

/// What the index names.
#[derive(Debug)]
pub(super) struct Named {
    all: Arc<Scratch>,
    others: Vec<Arc<Scratch>>,
}

/// What the index names, segment by segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits<'n>(&'n [AtomicU64]);

/// What the index names of a few places that follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    bits: u64,
    /// How far its beginning is behind the place of the first bit.
    past: u64,
}

impl Maps {
    /// With nothing in them, for segments of so many bytes together.
    pub(super) fn new(segments_bytes: u64) -> Self {
        Self {
            words: segments_bytes.div_ceil(BYTES_PER_WORD) as usize,
            parties: AtomicU64::new(0),
            maps: std::array::from_fn(|_| Mutex::new(None)),
        }
    }

    /// For one more party.
    pub(super) fn namer(&self) -> Namer {
        // ORDERING: Relaxed; a number that each takes once.
        let party = self.parties.fetch_add(1, Ordering::Relaxed) as usize;
        let number = party.min(MAPS_MAX - 1);
        let mut map = self.maps[number].lock();
        Namer {
            map: Arc::clone(map.get_or_insert_with(|| self.zeros())),
            is_shared: number == MAPS_MAX - 1,
            asked: [self.nowhere(); ASKED_FOR],
            first: 0,
        }
    }

    fn zeros(&self) -> Arc<Scratch> {
        // One more for what is no place.
        Arc::new(Scratch::zeros(self.words + 1))
    }

    /// A place behind all segments.
    fn nowhere(&self) -> u64 {
        self.words as u64 * BYTES_PER_WORD
    }

    /// What all parties have said, once they have ended.
    pub(super) fn named(self) -> Named {
        let mut maps = self.maps.iter().filter_map(|map| map.lock().take());
        Named {
            all: maps.next().unwrap_or_else(|| self.zeros()),
            others: maps.collect(),
        }
    }
}

impl Namer {
    /// Names the place that is so far behind the beginning of all segments, when its word is there.
    #[inline(always)]
    pub(super) fn name(&mut self, from_start: u64) {
        prefetch(&self.map[(from_start / BYTES_PER_WORD) as usize]);
        let first = std::mem::replace(&mut self.asked[self.first % ASKED_FOR], from_start);
        self.first += 1;
        self.set(first);
    }

    /// Names those that were asked for.
    pub(super) fn end(&self) {
        self.asked
            .iter()
            .for_each(|&from_start| self.set(from_start));
    }

    #[inline(always)]
    fn set(&self, from_start: u64) {
        let word = &self.map[(from_start / BYTES_PER_WORD) as usize];
        let bit = 1 << (from_start / BYTES_PER_BIT % 64);
        // ORDERING: Relaxed; read when all parties have ended.
        match self.is_shared {
            true => _ = word.fetch_or(bit, Ordering::Relaxed),
            false => word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed),
        }
    }
}

impl Named {
    /// Gathers what is named in a segment, of so many bytes, that begins so far behind the beginning of all of
    /// them. (Segments that share a word come to the same, whoever gathers first.)
    pub(super) fn gather(&self, from_start: u64, bytes: u64) {
        let end = (from_start + bytes).div_ceil(BYTES_PER_WORD);
        let words = (from_start / BYTES_PER_WORD) as usize..end as usize;
        for other in &self.others {
            for (word, other) in self.all[words.clone()].iter().zip(&other[words.clone()]) {
                // ORDERING: Relaxed; all that names has ended.
                let both = word.load(Ordering::Relaxed) | other.load(Ordering::Relaxed);
                word.store(both, Ordering::Relaxed);
            }
        }
    }

    /// Their bits, for who has gathered them.
    pub(super) fn bits(&self) -> Bits<'_> {
        // But for the last, which is of no place.
        Bits(&self.all[..self.all.len() - 1])
    }
}

impl Bits<'_> {
    /// What is named of a few places from here on, which is so far behind the beginning of all segments, and
    /// whose segment was gathered.
    #[inline(always)]
    pub(super) fn window(self, from_start: u64) -> Window {
        let (number, shift) = (
            (from_start / BYTES_PER_WORD) as usize,
            from_start / BYTES_PER_BIT % 64,
        );
        // ORDERING: Relaxed; as in `gather`.
        let word = |number: usize| {
            self.0
                .get(number)
                .map_or(0, |word| word.load(Ordering::Relaxed))
        };
        Window {
            // The second in two steps: all of it is beyond where there is no shift.
            bits: word(number) >> shift | word(number + 1) << 1 << (63 - shift),
            past: from_start % BYTES_PER_BIT,
        }
    }
}

impl Window {
    /// LIMIT: how far behind the beginning of a window places are that it tells of.
    pub(super) const BYTES: u64 = BYTES_PER_WORD - BYTES_PER_BIT;

    /// Whether the place is named that is so far behind the beginning of the window.
    #[inline(always)]
    pub(super) fn has(self, from_start: u64) -> bool {
        debug_assert!(from_start < Self::BYTES, "outside of the window");
        self.bits >> ((from_start + self.past) / BYTES_PER_BIT % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_PER_BIT, BYTES_PER_WORD, MAPS_MAX, Maps, Window};

    #[test]
    fn what_any_party_has_named_is_gathered_segment_by_segment() {
        let (segment_bytes, parties) = (BYTES_PER_WORD * 2, MAPS_MAX as u64 + 3);
        let maps = Maps::new(segment_bytes * 3);
        let place = |party, segment| segment * segment_bytes + party * 5 * BYTES_PER_BIT;
        let mut namers: Vec<_> = (0..parties).map(|_| maps.namer()).collect();
        for (party, namer) in (0..).zip(&mut namers) {
            namer.name(place(party, 0));
            namer.name(place(party, 2));
            namer.end();
        }
        drop(namers);
        let named = maps.named();
        named.gather(segment_bytes * 2, segment_bytes);
        let has = |at| named.bits().window(at).has(0);
        for at in (segment_bytes * 2..segment_bytes * 3).step_by(BYTES_PER_BIT as usize) {
            let is_one = (0..parties).any(|party| place(party, 2) == at);
            assert_eq!(has(at), is_one, "{at}");
        }
        // Only who was there first is found in what was not gathered.
        assert!(has(place(0, 0)) && !has(place(1, 0)));
        assert_eq!(named.others.len(), MAPS_MAX - 1);
    }

    #[test]
    fn where_nobody_has_read_the_index_nothing_is_named() {
        let named = Maps::new(100).named();
        named.gather(0, 100);
        assert!(!named.bits().window(96).has(0));
    }

    #[test]
    fn a_window_tells_of_what_follows_it() {
        let maps = Maps::new(BYTES_PER_WORD * 3);
        let mut namer = maps.namer();
        let places: Vec<_> = (0..24).map(|number| number * number * 5 * 8).collect();
        places
            .iter()
            .filter(|&&at| at < BYTES_PER_WORD * 3)
            .for_each(|&at| namer.name(at));
        namer.end();
        let named = maps.named();
        for start in (0..BYTES_PER_WORD * 3).step_by(8) {
            let window = named.bits().window(start);
            for at in (0..Window::BYTES).step_by(8) {
                let same_bit = |&place: &u64| place / BYTES_PER_BIT == (start + at) / BYTES_PER_BIT;
                let is_one = start + at < BYTES_PER_WORD * 3 && places.iter().any(same_bit);
                assert_eq!(window.has(at), is_one, "{start} {at}");
            }
        }
    }
}
