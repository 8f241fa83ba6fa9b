//! The arena's first page: what the cache is, and the counts that all sessions share.
//!
//! ```text
//!  0     magic | layout version | CRC of the identity            never change
//!  64    a cache line for each word that sessions share
//!  512   identity: the hash seed, and all that the layout follows from; never changes
//! ```
//!
//! The magic is written last, so a header that was half written is none. Words that are written by
//! different parties at different times lie on different cache lines.

use crate::arena::Arena;
use crate::engine::config::{AccessTimes, Geometry};
use crate::shape;
use crate::sync::Ordering;

/// "LARDER" and two digits, as a little-endian word.
const MAGIC: u64 = u64::from_le_bytes(*b"LARDER01");
/// Raised whenever the meaning of any byte of the arena changes.
const LAYOUT_VERSION: u64 = 7;

const AT_MAGIC: u64 = 0;
const AT_LAYOUT_VERSION: u64 = 8;
const AT_CRC: u64 = 16;
/// How many buckets the index has.
pub(crate) const BUCKETS: u64 = 64;
/// Items whose version is not above this were flushed.
pub(crate) const FLUSHED_VERSION: u64 = 128;
/// When a flush is due, in milliseconds; 0: none is.
pub(crate) const FLUSH_DUE_MS: u64 = 136;
/// The next version that no session has taken.
pub(crate) const NEXT_VERSION: u64 = 192;
/// Entries of the index, as far as sessions have reported them.
pub(crate) const ENTRIES: u64 = 256;
/// How many chunks the table of ghosts has.
pub(crate) const GHOST_CHUNKS: u64 = 320;
/// How many ghosts were inserted.
pub(crate) const GHOSTS_INSERTED: u64 = 384;
/// When the cache was last maintained, in milliseconds; 0: it was not.
pub(crate) const LAST_USED_MS: u64 = 448;
/// Not 0: the cache has ended in good order, and nobody has gone on in its memory.
pub(crate) const ENDED: u64 = 456;
/// When the monotonic clock of the machine was 0 by the clock that sessions are given, in its
/// milliseconds; 0: nobody has said.
pub(crate) const CLOCK_ORIGIN_MS: u64 = 464;
const AT_IDENTITY: u64 = 512;

/// Segments with items whose contents nobody has proved. Every guard looks at it: nothing else that
/// changes lies on its line.
pub(crate) const UNPROVEN: u64 = 640;

/// Words of the identity.
const IDENTITY_WORDS: usize = 12;

/// The bytes that a header takes, at least.
pub(crate) const BYTES_MIN: u64 = UNPROVEN + 64;
const _: () = assert!(AT_IDENTITY + IDENTITY_WORDS as u64 * 8 <= UNPROVEN);

/// What a cache is: the hash seed, and what its layout follows from, with names.
type Identity = [(&'static str, u64); IDENTITY_WORDS];

/// Why a header is none that this program can go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// There is none.
    NoMagic,
    /// It was made by a program with another layout.
    Layout { found: u64, accepted: u64 },
    /// It is not as it was written.
    Damaged,
    /// It is of a cache with another configuration.
    Identity {
        what: &'static str,
        found: u64,
        accepted: u64,
    },
}

fn identity(geometry: &Geometry, hash_seed: u64) -> Identity {
    let access_times = match geometry.access_times {
        AccessTimes::Off => 0,
        AccessTimes::Kept => 1,
    };
    let slots = shape::SLOTS | shape::OVERFLOW_SLOTS << 8 | shape::GHOST_WAYS << 16;
    [
        ("hash_seed", hash_seed),
        ("memory_bytes", geometry.memory_bytes),
        ("sessions_max", geometry.sessions_max.into()),
        ("key_bytes_max", geometry.key_bytes_max.into()),
        ("value_bytes_max", geometry.value_bytes_max),
        ("access_times", access_times),
        ("the size of a segment", geometry.segment_bytes),
        ("the size of a part", geometry.part_bytes),
        (
            "the longest value beside its key",
            geometry.inline_bytes_max,
        ),
        ("the number of classes", geometry.classes as u64),
        ("the slots of a bucket", slots),
        ("the size of the arena", geometry.arena_bytes),
    ]
}

/// Writes the header of a new cache, whose versions begin with one above 0.
pub(crate) fn write(arena: &Arena, geometry: &Geometry, hash_seed: u64, first_version: u64) {
    let identity = identity(geometry, hash_seed);
    for (at, (_, value)) in identity.iter().enumerate() {
        store(arena, AT_IDENTITY + at as u64 * 8, *value);
    }
    store(arena, AT_LAYOUT_VERSION, LAYOUT_VERSION);
    store(
        arena,
        AT_CRC,
        checksum(identity.iter().map(|(_, value)| *value)),
    );
    // Version 0 is flushed from the start, so no item has it.
    store(arena, NEXT_VERSION, first_version);
    store(arena, AT_MAGIC, MAGIC);
}

/// When the monotonic clock was 0, if somebody has said so.
pub(crate) fn clock_origin_ms(arena: &Arena) -> Option<u64> {
    Some(load(arena, CLOCK_ORIGIN_MS)).filter(|&origin_ms| origin_ms > 0)
}

/// Checks that the header is one of a cache with this geometry, and with this hash seed, if one is
/// given; gives the hash seed.
pub(crate) fn check(
    arena: &Arena,
    geometry: &Geometry,
    hash_seed: Option<u64>,
) -> Result<u64, Mismatch> {
    if load(arena, AT_MAGIC) != MAGIC {
        return Err(Mismatch::NoMagic);
    }
    let found = load(arena, AT_LAYOUT_VERSION);
    if found != LAYOUT_VERSION {
        let accepted = LAYOUT_VERSION;
        return Err(Mismatch::Layout { found, accepted });
    }
    let words: [u64; IDENTITY_WORDS] =
        std::array::from_fn(|at| load(arena, AT_IDENTITY + at as u64 * 8));
    if load(arena, AT_CRC) != checksum(words.into_iter()) {
        return Err(Mismatch::Damaged);
    }
    let accepted = identity(geometry, hash_seed.unwrap_or(words[0]));
    for ((what, accepted), found) in accepted.into_iter().zip(words) {
        if accepted != found {
            return Err(Mismatch::Identity {
                what,
                found,
                accepted,
            });
        }
    }
    Ok(words[0])
}

/// CRC-32C of the identity, with a bit that no empty page has.
fn checksum(words: impl Iterator<Item = u64>) -> u64 {
    let crc = words.fold(0, |crc, word| {
        crc32c::crc32c_append(crc, &word.to_le_bytes())
    });
    u64::from(crc) | 1 << 32
}

/// Reads a word of the header that nobody changes meanwhile.
pub(crate) fn load(arena: &Arena, at: u64) -> u64 {
    // ORDERING: Relaxed, here and in `store`; nobody shares the arena yet.
    arena.word(at).load(Ordering::Relaxed)
}

/// Writes a word of the header of an arena that nobody shares yet.
pub(crate) fn store(arena: &Arena, at: u64, value: u64) {
    arena.word(at).store(value, Ordering::Relaxed);
}
