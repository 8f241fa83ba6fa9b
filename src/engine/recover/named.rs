//! Which places of the segments the index names: a bit for each few bytes of them.
//!
//! The index names them in no order, so that each bit is waited for. Parties that set bits of one map would
//! wait for one after the other, since an atomic step ends before what follows it begins. So the first
//! parties have a map of their own each. Later ones share one more: a map for each of them would take more
//! memory than there may be. Whoever reads a segment then gathers its bits from all of them.

use crate::arena::prefetch;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// Bytes of the segments that share a bit: no two items begin in them, since the smallest takes 24.
const BYTES_PER_BIT: u64 = 16;
/// Bytes of the segments that share a word.
const BYTES_PER_WORD: u64 = BYTES_PER_BIT * 64;
/// LIMIT: maps, the last of which is shared. Each takes 0.8 % of the memory, until recovery ends.
const MAPS_MAX: usize = 4;

/// A bit for each few bytes.
type Map = [AtomicU64];

/// Where parties say what the index names.
#[derive(Debug)]
pub(super) struct Maps {
    words: usize,
    /// Parties that have begun.
    parties: AtomicU64,
    /// Each is made by the first party that needs it.
    maps: [Mutex<Option<Arc<Map>>>; MAPS_MAX],
}

/// A party that reads the index.
#[derive(Debug)]
pub(super) struct Namer {
    map: Arc<Map>,
    is_shared: bool,
}

/// What the index names.
#[derive(Debug)]
pub(super) struct Named {
    all: Arc<Map>,
    others: Vec<Arc<Map>>,
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
        }
    }

    fn zeros(&self) -> Arc<Map> {
        (0..self.words).map(|_| AtomicU64::new(0)).collect()
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
    /// Asks for the bit of a place that is so far behind the beginning of all segments.
    #[inline]
    pub(super) fn ask(&self, from_start: u64) {
        prefetch(&self.map[(from_start / BYTES_PER_WORD) as usize]);
    }

    /// Names that place.
    #[inline]
    pub(super) fn name(&self, from_start: u64) {
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

    /// Whether a place is named that is so far behind the beginning of all segments, and whose segment was
    /// gathered.
    #[inline]
    pub(super) fn has(&self, from_start: u64) -> bool {
        // ORDERING: Relaxed; as in `gather`.
        let word = self.all[(from_start / BYTES_PER_WORD) as usize].load(Ordering::Relaxed);
        word >> (from_start / BYTES_PER_BIT % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_PER_BIT, BYTES_PER_WORD, MAPS_MAX, Maps};

    #[test]
    fn what_any_party_has_named_is_gathered_segment_by_segment() {
        let (segment_bytes, parties) = (BYTES_PER_WORD * 2, MAPS_MAX as u64 + 3);
        let maps = Maps::new(segment_bytes * 3);
        let place = |party, segment| segment * segment_bytes + party * 5 * BYTES_PER_BIT;
        let namers: Vec<_> = (0..parties).map(|_| maps.namer()).collect();
        for (party, namer) in (0..).zip(&namers) {
            namer.name(place(party, 0));
            namer.name(place(party, 2));
        }
        drop(namers);
        let named = maps.named();
        named.gather(segment_bytes * 2, segment_bytes);
        for at in (segment_bytes * 2..segment_bytes * 3).step_by(BYTES_PER_BIT as usize) {
            let is_one = (0..parties).any(|party| place(party, 2) == at);
            assert_eq!(named.has(at), is_one, "{at}");
        }
        // Only who was there first is found in what was not gathered.
        assert!(named.has(place(0, 0)) && !named.has(place(1, 0)));
        assert_eq!(named.others.len(), MAPS_MAX - 1);
    }

    #[test]
    fn where_nobody_has_read_the_index_nothing_is_named() {
        let named = Maps::new(100).named();
        named.gather(0, 100);
        assert!(!named.has(96));
    }
}
