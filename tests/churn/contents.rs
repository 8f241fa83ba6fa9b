//! Values that tell what they are: a reader that knows the key can tell a value that is torn, cut, or
//! another key's, and who stored it.
//!
//! A value of 16 bytes or more begins with its stamp; what follows is a stretch of a pool of random
//! bytes, over and over, from a place that key, stamp and length determine. A shorter one is made of
//! key and length alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// LIMIT: a prime, so that no length that segments or frames have is a multiple of it.
const POOL_BYTES: usize = 1_048_573;
const STAMP_BYTES: usize = 8;
/// Values from here on have a stamp.
const STAMPED_BYTES_MIN: usize = 16;
/// LIMIT: what a stream gives out at a time, so that nobody waits for its making.
const PIECE_BYTES: usize = 64 << 10;

/// Who stored a value, and the number that the storing had with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) caller: u64,
    pub(crate) count: u64,
}

/// What values are made of.
#[derive(Debug)]
pub(crate) struct Pool(Vec<u8>);

/// One value.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pool: Arc<Pool>,
    head: [u8; STAMP_BYTES],
    value_bytes: usize,
    /// Where in the pool the rest begins.
    start: usize,
}

/// A value as a stream.
#[derive(Debug)]
pub(crate) struct Source {
    content: Content,
    at: usize,
}

/// splitmix64: a number that has nothing to do with its neighbours'.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Pool {
    pub(crate) fn new() -> Self {
        let words = (0..POOL_BYTES.div_ceil(8) as u64).map(|at| mixed(at).to_le_bytes());
        let mut bytes: Vec<u8> = words.flatten().collect();
        bytes.truncate(POOL_BYTES);
        Self(bytes)
    }
}

impl Stamp {
    fn word(self) -> u64 {
        self.caller << 48 | self.count
    }

    fn of(word: u64) -> Self {
        Self {
            caller: word >> 48,
            count: word & ((1 << 48) - 1),
        }
    }
}

impl Content {
    /// The value that a store with this stamp has.
    pub(crate) fn new(pool: &Arc<Pool>, key: u64, stamp: Stamp, value_bytes: usize) -> Self {
        let word = match value_bytes {
            STAMPED_BYTES_MIN.. => stamp.word(),
            _ => mixed(key ^ (value_bytes as u64) << 32),
        };
        let place = mixed(mixed(key) ^ mixed(word) ^ value_bytes as u64);
        Self {
            pool: Arc::clone(pool),
            head: word.to_le_bytes(),
            value_bytes,
            start: (place % POOL_BYTES as u64) as usize,
        }
    }

    /// The value that begins so, where it is one of this key.
    pub(crate) fn read(pool: &Arc<Pool>, key: u64, head: &[u8], value_bytes: usize) -> Self {
        let word = head
            .first_chunk()
            .map_or(0, |head| u64::from_le_bytes(*head));
        Self::new(pool, key, Stamp::of(word), value_bytes)
    }

    /// Who stored it; nothing where it is too short to tell.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        let word = u64::from_le_bytes(self.head);
        (self.value_bytes >= STAMPED_BYTES_MIN).then(|| Stamp::of(word))
    }

    /// Whether these are its bytes from `at` on.
    pub(crate) fn is_at(&self, at: usize, piece: &[u8]) -> bool {
        let mut done = 0;
        at + piece.len() <= self.value_bytes
            && self.stretches(at, piece.len()).all(|stretch| {
                let same = *stretch == piece[done..done + stretch.len()];
                done += stretch.len();
                same
            })
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.value_bytes);
        let stretches = self.stretches(0, self.value_bytes);
        stretches.for_each(|stretch| bytes.extend_from_slice(stretch));
        bytes
    }

    pub(crate) fn stream(self) -> Source {
        Source {
            content: self,
            at: 0,
        }
    }

    /// The parts that lie together of its `count` bytes from `at` on.
    fn stretches(&self, mut at: usize, count: usize) -> impl Iterator<Item = &[u8]> {
        let end = at + count;
        std::iter::from_fn(move || {
            let stretch = match at {
                _ if at == end => return None,
                0..STAMP_BYTES => &self.head[at..],
                _ => &self.pool.0[(self.start + at) % POOL_BYTES..],
            };
            let stretch = &stretch[..stretch.len().min(end - at)];
            at += stretch.len();
            Some(stretch)
        })
    }
}

impl AsyncRead for Source {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.content.value_bytes - self.at;
        let count = left.min(buffer.remaining()).min(PIECE_BYTES);
        let stretches = self.content.stretches(self.at, count);
        stretches.for_each(|stretch| buffer.put_slice(stretch));
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_value_is_known_by_its_key_and_mistaken_for_no_other() {
    let pool = Arc::new(Pool::new());
    let stamp = |count| Stamp { caller: 3, count };
    for value_bytes in [1, 7, 8, 15, 16, 17, 1000, 3 << 20] {
        let content = Content::new(&pool, 5, stamp(9), value_bytes);
        let mut bytes = content.bytes();
        let read = |key, bytes: &[u8]| {
            let content = Content::read(&pool, key, bytes, bytes.len());
            content.is_at(0, bytes).then(|| content.stamp())
        };
        let expected = (value_bytes >= STAMPED_BYTES_MIN).then(|| stamp(9));
        assert_eq!(read(5, &bytes), Some(expected), "{value_bytes} bytes");
        if value_bytes > 1 {
            assert_eq!(read(6, &bytes), None, "{value_bytes} bytes of another key");
            assert_eq!(
                read(5, &bytes[1..]),
                None,
                "{value_bytes} bytes without one"
            );
        }
        if value_bytes > STAMPED_BYTES_MIN {
            let other = Content::new(&pool, 5, stamp(10), value_bytes).bytes();
            bytes[value_bytes / 2..].copy_from_slice(&other[value_bytes / 2..]);
            assert_eq!(read(5, &bytes), None, "{value_bytes} bytes of two stores");
        }
    }
}
