//! The keys of a run, and the values that they determine.
//!
//! A key is a number between 0 and the count of keys, written in decimal; its value is what a
//! seeded generator makes of that number. So whoever reads a value can tell whether it is the right
//! one, and nobody has to remember what was stored.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use super::sizes::Sizes;

/// LIMIT: [`Keyspace::spread`] multiplies an index below this by a factor below 2^32.
pub(super) const KEYS_MAX: u64 = 1 << 32;

/// A prime, so that it shares no factor with a count of keys that it does not divide.
const STRIDE: u64 = 2_654_435_761;

/// A number for each key that has nothing to do with its neighbours' (2^64 over the golden ratio).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The keys of a run and what is stored under them.
#[derive(Debug, Clone)]
pub(super) struct Keyspace {
    pub(super) keys: u64,
    pub(super) key_bytes: usize,
    pub(super) sizes: Sizes,
    /// After which time what is stored is to be gone.
    pub(super) expire_in: Option<Duration>,
    pub(super) seed: u64,
}

impl Keyspace {
    /// The shortest key that tells all keys apart.
    pub(super) fn key_bytes_min(keys: u64) -> usize {
        (keys.max(1) - 1).checked_ilog10().unwrap_or(0) as usize + 1
    }

    /// A writer of keys.
    pub(super) fn key_text(&self) -> KeyText {
        KeyText {
            bytes: vec![b'0'; self.key_bytes],
            first_digit: self.key_bytes,
        }
    }

    /// The index of the key at a rank: neighbours in rank, which are stored after each other, lie
    /// far from each other in index, so that the hot keys do not share memory by accident.
    #[inline]
    pub(super) fn spread(&self, rank: u64) -> u64 {
        if self.keys.is_multiple_of(STRIDE) {
            return rank;
        }
        rank * STRIDE % self.keys
    }

    /// The length of the value of a key.
    #[inline]
    pub(super) fn value_bytes(&self, index: u64) -> usize {
        self.sizes.of(self.seed_of(index))
    }

    /// Appends the value of a key.
    #[inline]
    pub(super) fn push_value(&self, index: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.value_bytes(index), 0);
        self.generator(index).fill_bytes(&mut out[start..]);
    }

    /// Whether this is the value of a key.
    pub(super) fn is_value(&self, index: u64, value: &[u8]) -> bool {
        let mut expected = [0; 64];
        let mut generator = self.generator(index);
        value.len() == self.value_bytes(index)
            && value.chunks(expected.len()).all(|part| {
                let expected = &mut expected[..part.len()];
                generator.fill_bytes(expected);
                expected == part
            })
    }

    fn generator(&self, index: u64) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.seed_of(index))
    }

    fn seed_of(&self, index: u64) -> u64 {
        self.seed ^ index.wrapping_mul(SCATTER)
    }
}

/// Writes keys, one at a time, where the last one stood.
#[derive(Debug, Clone)]
pub(super) struct KeyText {
    bytes: Vec<u8>,
    // INVARIANT: everything before it is zeros.
    first_digit: usize,
}

impl KeyText {
    /// The key with this index: its decimal digits behind as many zeros as the length asks for.
    #[inline]
    pub(super) fn of(&mut self, index: u64) -> &[u8] {
        let (mut rest, mut at) = (index, self.bytes.len());
        while rest > 0 && at > 0 {
            at -= 1;
            self.bytes[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        // What the last key had before these digits becomes zero again.
        if self.first_digit < at {
            self.bytes[self.first_digit..at].fill(b'0');
        }
        self.first_digit = at;
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{KEYS_MAX, Keyspace};
    use crate::cli::bench::sizes::Sizes;

    fn keyspace(keys: u64, value_bytes: usize) -> Keyspace {
        Keyspace {
            keys,
            key_bytes: 12,
            sizes: Sizes::fixed(value_bytes),
            expire_in: None,
            seed: 7,
        }
    }

    #[test]
    fn every_key_has_its_length_and_is_a_key_of_its_own() {
        let keyspace = keyspace(1000, 0);
        let mut text = keyspace.key_text();
        let keys: HashSet<Vec<u8>> = (0..1000).map(|index| text.of(index).to_vec()).collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.contains(&b"000000000999"[..]) && keys.iter().all(|key| key.len() == 12));
        for (index, key) in [
            (KEYS_MAX - 1, b"004294967295"),
            (7, b"000000000007"),
            (120, b"000000000120"),
            (0, b"000000000000"),
        ] {
            assert_eq!(text.of(index), key, "{index}, whatever was before");
        }
    }

    #[test]
    fn the_shortest_key_still_tells_all_keys_apart() {
        for (keys, bytes) in [(1, 1), (10, 1), (11, 2), (100, 2), (101, 3), (1_000_000, 6)] {
            assert_eq!(Keyspace::key_bytes_min(keys), bytes, "{keys} keys");
        }
    }

    #[test]
    fn every_rank_has_an_index_of_its_own() {
        for keys in [1, 2, 1000, 4096, 99_991] {
            let keyspace = keyspace(keys, 0);
            let seen: HashSet<u64> = (0..keys).map(|rank| keyspace.spread(rank)).collect();
            assert_eq!(seen.len() as u64, keys);
            assert!(seen.iter().all(|&index| index < keys));
        }
    }

    #[test]
    fn a_value_is_known_by_its_key_and_mistaken_for_no_other() {
        for value_bytes in [1, 8, 63, 64, 65, 1000] {
            let keyspace = keyspace(10, value_bytes);
            let mut value = Vec::new();
            keyspace.push_value(3, &mut value);
            assert!(keyspace.is_value(3, &value), "{value_bytes} bytes");
            assert!(!keyspace.is_value(3, &value[1..]), "{value_bytes} bytes");
            if value_bytes > 1 {
                assert!(!keyspace.is_value(4, &value), "{value_bytes} bytes");
            }
            value[value_bytes - 1] ^= 1;
            assert!(!keyspace.is_value(3, &value), "{value_bytes} bytes");
        }
    }

    #[test]
    fn a_value_of_a_drawn_length_is_known_by_its_key() {
        let keyspace = Keyspace {
            sizes: "0..100".parse().unwrap(),
            ..keyspace(1000, 0)
        };
        let mut lengths = HashSet::new();
        for index in 0..1000 {
            let mut value = Vec::new();
            keyspace.push_value(index, &mut value);
            assert!(keyspace.is_value(index, &value), "{index}");
            value.push(0);
            assert!(!keyspace.is_value(index, &value), "{index}");
            lengths.insert(value.len());
        }
        assert!(lengths.len() > 90, "{} lengths", lengths.len());
    }
}
