//! Items: a key with its value, immutable once published.
//!
//! ```text
//!  0        4            7         8                15     16
//!  +--------+------------+---------+----------------+------+
//!  | crc 32 | value 24   | key 8   | version 56     | kind |  header, two little-endian words
//!  +--------+------------+---------+----------------+------+
//!  | expires_at_ms u64            |  if kind has EXPIRES
//!  | flags u32                    |  if kind has FLAGS
//!  | key bytes u32                |  if kind has LONG_KEY (the header's 8 bits are then 0)
//!  | key ... | value ... | padding to a multiple of 8
//! ```
//!
//! The CRC covers everything but itself and the padding. It is written with the item and read by
//! whoever must decide whether bytes found after a crash are an item.

use crate::arena::Arena;

/// The largest version: 56 bits of the header hold it.
pub(crate) const VERSION_MAX: u64 = (1 << 56) - 1;

const HEADER_BYTES: usize = 16;
const KIND_EXPIRES: u8 = 1;
const KIND_FLAGS: u8 = 2;
const KIND_LONG_KEY: u8 = 4;
const KIND_LARGE: u8 = 8;
/// LIMIT: the most bytes an item spends beside key, value and padding.
pub(crate) const OVERHEAD_BYTES_MAX: u64 = HEADER_BYTES as u64 + 8 + 4 + 4 + 7;
const VALUE_BYTES_MAX: usize = (1 << 24) - 1;

/// The first two words of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    lengths: u64,
    version: u64,
}

impl Header {
    /// Reads the header of the item at `offset`.
    ///
    /// # Safety
    ///
    /// An item was written there in full, what published it has been observed, and its segment
    /// cannot be reclaimed while the caller is at work (it is pinned, or owns the segment).
    #[inline]
    pub(crate) unsafe fn read(arena: &Arena, offset: u64) -> Self {
        // SAFETY: published items are immutable; the caller answers for the rest.
        let bytes = unsafe { arena.read(offset, HEADER_BYTES) };
        let (lengths, version) = bytes.split_at(8);
        Self {
            lengths: u64::from_le_bytes(lengths.try_into().expect("8 bytes")),
            version: u64::from_le_bytes(version.try_into().expect("8 bytes")),
        }
    }

    #[inline]
    fn kind(self) -> u8 {
        (self.version >> 56) as u8
    }

    #[inline]
    fn has(self, kind: u8) -> bool {
        self.kind() & kind != 0
    }

    /// The version of the item.
    #[inline]
    pub(crate) fn version(self) -> u64 {
        self.version & VERSION_MAX
    }

    #[inline]
    fn value_bytes(self) -> usize {
        (self.lengths >> 32) as usize & VALUE_BYTES_MAX
    }

    /// Bytes of the optional fields.
    #[inline]
    fn optional_bytes(self) -> usize {
        let kind = self.kind();
        usize::from(kind & KIND_EXPIRES) * 8
            + usize::from(kind & KIND_FLAGS) * 2
            + usize::from(kind & KIND_LONG_KEY)
    }
}

/// An item, borrowed from the cache for as long as the guard it was read under.
#[derive(Debug, Clone, Copy)]
pub struct Item<'g> {
    header: Header,
    optional: &'g [u8],
    key: &'g [u8],
    value: &'g [u8],
}

impl<'g> Item<'g> {
    /// The item at `offset`.
    ///
    /// # Safety
    ///
    /// As for [`Header::read`], for as long as the result lives.
    #[inline]
    pub(crate) unsafe fn read(arena: &'g Arena, offset: u64) -> Self {
        // SAFETY: the caller's promise is the same.
        let header = unsafe { Header::read(arena, offset) };
        let optional_bytes = header.optional_bytes();
        let value_bytes = header.value_bytes();
        let mut key_bytes = (header.lengths >> 56) as usize;
        let body_at = offset + HEADER_BYTES as u64;
        if header.has(KIND_LONG_KEY) {
            // SAFETY: the optional fields belong to the item.
            let field = unsafe { arena.read(body_at + optional_bytes as u64 - 4, 4) };
            key_bytes = u32::from_le_bytes(field.try_into().expect("4 bytes")) as usize;
        }
        // SAFETY: the body of a written item has these lengths.
        let body = unsafe { arena.read(body_at, optional_bytes + key_bytes + value_bytes) };
        let (optional, rest) = body.split_at(optional_bytes);
        let (key, value) = rest.split_at(key_bytes);
        Self {
            header,
            optional,
            key,
            value,
        }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &'g [u8] {
        self.key
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> std::borrow::Cow<'g, [u8]> {
        self.value.into()
    }

    /// What lies in the log: the value, or of a large one its length and its number.
    pub(crate) fn stored(&self) -> &'g [u8] {
        self.value
    }

    /// Whether the value is a large one.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.header.has(KIND_LARGE)
    }

    /// The length of the value, also of a large one.
    pub fn value_bytes(&self) -> u64 {
        match self.is_large() {
            true => u64::from_le_bytes(self.value[..8].try_into().expect("8 bytes")),
            false => self.value.len() as u64,
        }
    }

    pub(crate) fn large_number(&self) -> Option<u64> {
        self.is_large()
            .then(|| u64::from_le_bytes(self.value[8..].try_into().expect("8 bytes")))
    }

    /// The 32 bits that the writer attached.
    #[inline]
    pub fn flags(&self) -> u32 {
        if !self.header.has(KIND_FLAGS) {
            return 0;
        }
        let at = if self.header.has(KIND_EXPIRES) { 8 } else { 0 };
        u32::from_le_bytes(self.optional[at..at + 4].try_into().expect("4 bytes"))
    }

    /// The number that changes whenever the value does, unique within the cache.
    #[inline]
    pub fn version(&self) -> u64 {
        self.header.version()
    }

    /// When the item expires, in milliseconds of the clock that the guards are given.
    #[inline]
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.header
            .has(KIND_EXPIRES)
            .then(|| u64::from_le_bytes(self.optional[..8].try_into().expect("8 bytes")))
    }

    /// The bytes that the item takes in its segment.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        let body = self.optional.len() + self.key.len() + self.value.len();
        ((HEADER_BYTES + body) as u64).next_multiple_of(8)
    }

    /// Whether the bytes are what was written.
    #[cfg(test)]
    pub(crate) fn is_intact(&self) -> bool {
        let found = self.header.lengths as u32;
        let parts = [self.optional, self.key, self.value];
        found == checksum(self.header.lengths, self.header.version, &parts)
    }
}

/// The kind of an item that carries this value.
pub(crate) fn kind_of(is_large: bool) -> u8 {
    if is_large { KIND_LARGE } else { 0 }
}

/// An item that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'d> {
    pub(crate) key: &'d [u8],
    /// The value, in two parts that follow each other.
    pub(crate) value: [&'d [u8]; 2],
    pub(crate) flags: u32,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) kind: u8,
}

impl Draft<'_> {
    pub(crate) fn value_bytes(&self) -> u64 {
        (self.value[0].len() + self.value[1].len()) as u64
    }

    fn optional(&self) -> ([u8; 16], usize, u8) {
        let mut fields = [0; 16];
        let mut kind = self.kind;
        let mut at = 0;
        let mut put = |bytes: &[u8], bit| {
            fields[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            kind |= bit;
        };
        if let Some(expires_at_ms) = self.expires_at_ms {
            put(&expires_at_ms.to_le_bytes(), KIND_EXPIRES);
        }
        if self.flags != 0 {
            put(&self.flags.to_le_bytes(), KIND_FLAGS);
        }
        if self.key.len() > usize::from(u8::MAX) {
            put(&(self.key.len() as u32).to_le_bytes(), KIND_LONG_KEY);
        }
        (fields, at, kind)
    }

    /// The bytes that the item will take in its segment.
    pub(crate) fn bytes(&self) -> u64 {
        (self.bytes_beside_value() + self.value_bytes()).next_multiple_of(8)
    }

    /// The bytes of the header, the optional fields and the key.
    pub(crate) fn bytes_beside_value(&self) -> u64 {
        let mut body = HEADER_BYTES + self.key.len();
        body += if self.expires_at_ms.is_some() { 8 } else { 0 };
        body += if self.flags != 0 { 4 } else { 0 };
        body += if self.key.len() > usize::from(u8::MAX) {
            4
        } else {
            0
        };
        body as u64
    }

    /// Writes the item at `offset` with `version`.
    ///
    /// # Safety
    ///
    /// [`Draft::bytes`] bytes from `offset` belong to the caller and nobody else reads them yet.
    pub(crate) unsafe fn write(&self, arena: &Arena, offset: u64, version: u64) {
        debug_assert!(version <= VERSION_MAX && self.value_bytes() <= VALUE_BYTES_MAX as u64);
        let (fields, fields_bytes, kind) = self.optional();
        let optional = &fields[..fields_bytes];
        let key_bytes = u8::try_from(self.key.len()).unwrap_or(0);
        let unchecked = self.value_bytes() << 32 | u64::from(key_bytes) << 56;
        let version = version | u64::from(kind) << 56;
        let parts = [optional, self.key, self.value[0], self.value[1]];
        let lengths = unchecked | u64::from(checksum(unchecked, version, &parts));
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&lengths.to_le_bytes());
        header[8..].copy_from_slice(&version.to_le_bytes());
        let mut at = offset;
        for part in [&header[..]].into_iter().chain(parts) {
            // SAFETY: the parts add up to `bytes()`, which the caller owns; none lies there.
            unsafe { arena.write(at, part) };
            at += part.len() as u64;
        }
    }
}

/// CRC-32 (IEEE) of an item: header without the checksum's own bits, then the parts.
fn checksum(lengths: u64, version: u64, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    let mut header = [0; 12];
    header[..4].copy_from_slice(&((lengths >> 32) as u32).to_le_bytes());
    header[4..].copy_from_slice(&version.to_le_bytes());
    crc.update(&header);
    for part in parts {
        crc.update(part);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::{Draft, Item};
    use crate::arena::Arena;

    #[test]
    fn an_item_reads_as_it_was_written() {
        let arena = Arena::new(1 << 18).expect("arena");
        let long = vec![b'k'; 65_536];
        for key in [&b"k"[..], &[b'k'; 255], &[b'k'; 256], &long] {
            for flags in [0, 7, u32::MAX] {
                for expires_at_ms in [None, Some(0), Some(u64::MAX)] {
                    let draft = Draft {
                        key,
                        value: [b"left", b"right"],
                        flags,
                        expires_at_ms,
                        kind: 0,
                    };
                    // SAFETY: one thread; the arena is large enough.
                    unsafe { draft.write(&arena, 64, 42) };
                    // SAFETY: just written.
                    let item = unsafe { Item::read(&arena, 64) };
                    assert_eq!(item.key(), key);
                    assert_eq!(item.stored(), b"leftright");
                    assert_eq!(item.flags(), flags);
                    assert_eq!(item.expires_at_ms(), expires_at_ms);
                    assert_eq!(item.version(), 42);
                    assert_eq!(item.bytes(), draft.bytes());
                    assert!(item.is_intact());
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let arena = Arena::new(4096).expect("arena");
        let draft = Draft {
            key: b"key",
            value: [b"value", b""],
            flags: 1,
            expires_at_ms: Some(9),
            kind: 0,
        };
        for at in 0..16 + 8 + 4 + 8 {
            // SAFETY: one thread; the arena is large enough.
            unsafe { draft.write(&arena, 64, 1) };
            // SAFETY: inside the item.
            let was = unsafe { arena.read(64 + at, 1) }[0];
            // Lengths and kinds that point elsewhere are the bounds checks' business.
            if (4..8).contains(&at) || at == 15 {
                continue;
            }
            // SAFETY: inside the item, nothing borrowed.
            unsafe { arena.write(64 + at, &[was ^ 1]) };
            // SAFETY: lengths are intact.
            assert!(!unsafe { Item::read(&arena, 64) }.is_intact(), "byte {at}");
        }
    }
}
