//! The header of an item, and what it says about the rest, which [`item`](crate::engine::item) shows.

use crate::arena::Arena;
use crate::engine::in_place::IN_PLACE_BYTES;
use crate::engine::last_read::LAST_READ_BYTES;

/// The largest version: 56 bits of the header hold it.
pub(crate) const VERSION_MAX: u64 = (1 << 56) - 1;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const KIND_EXPIRES: u8 = 1;
pub(crate) const KIND_FLAGS: u8 = 2;
pub(crate) const KIND_LONG_KEY: u8 = 4;
pub(crate) const KIND_NUMBER: u8 = 8;
pub(crate) const KIND_LARGE: u8 = 16;
pub(crate) const KIND_PLACEHOLDER: u8 = 32;
pub(crate) const KIND_READ_AT: u8 = 64;
pub(crate) const KIND_CHOSEN: u8 = 128;
pub(crate) const VALUE_BYTES_MAX: usize = (1 << 24) - 1;

/// The first two words of an item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(super) lengths: u64,
    /// With the kind.
    pub(super) version: u64,
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
        Self::of(bytes.try_into().expect("a header"))
    }

    /// The header that these bytes are.
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8; HEADER_BYTES]) -> Self {
        let (lengths, version) = bytes.split_at(8);
        Self {
            lengths: u64::from_le_bytes(lengths.try_into().expect("8 bytes")),
            version: u64::from_le_bytes(version.try_into().expect("8 bytes")),
        }
    }

    #[inline]
    pub(crate) fn kind(self) -> u8 {
        (self.version >> 56) as u8
    }

    #[inline]
    pub(crate) fn has(self, kind: u8) -> bool {
        self.kind() & kind != 0
    }

    #[inline]
    pub(crate) fn value_bytes(self) -> usize {
        (self.lengths >> 32) as usize & VALUE_BYTES_MAX
    }

    /// Bytes of the key, if it is not a long one.
    #[inline]
    pub(crate) fn short_key_bytes(self) -> usize {
        (self.lengths >> 56) as usize
    }

    /// The version that the cache gave. (That of a number changes with it, and stands beside it.)
    #[inline]
    pub(crate) fn own_version(self) -> u64 {
        self.version & VERSION_MAX
    }

    /// When the item at `offset`, which has this header, expires, as it is stored.
    ///
    /// # Safety
    ///
    /// As for [`Header::read`].
    #[inline]
    pub(crate) unsafe fn stored_expiry_ms(self, arena: &Arena, offset: u64) -> Option<u64> {
        self.has(KIND_EXPIRES).then(|| {
            // SAFETY: the field belongs to the item; the caller answers for the rest.
            let field = unsafe { arena.read(offset + self.fixed_bytes(), 8) };
            u64::from_le_bytes(field.try_into().expect("8 bytes"))
        })
    }

    /// Bytes before the optional fields.
    #[inline]
    pub(crate) fn fixed_bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.has(KIND_NUMBER)) * IN_PLACE_BYTES
    }

    /// Bytes behind the padding.
    #[inline]
    pub(crate) fn last_bytes(self) -> u64 {
        u64::from(self.has(KIND_READ_AT)) * LAST_READ_BYTES
    }

    /// Bytes of the body of a [plain](crate::engine::item::Item::read_plain) item; `None`: it is another one.
    #[inline(always)]
    pub(super) fn plain_body_bytes(self) -> Option<usize> {
        if self.kind() > KIND_EXPIRES | KIND_FLAGS {
            return None;
        }
        Some(self.optional_bytes() + self.short_key_bytes() + self.value_bytes())
    }

    /// The bytes that a plain item takes in its segment; `None`: it is another one.
    #[inline]
    pub(crate) fn plain_bytes(self) -> Option<u64> {
        let body_bytes = self.plain_body_bytes()?;
        Some((HEADER_BYTES + body_bytes).next_multiple_of(8) as u64)
    }

    /// Bytes of the optional fields.
    #[inline]
    pub(crate) fn optional_bytes(self) -> usize {
        const BYTES: [u8; 8] = {
            let (mut table, mut kind) = ([0; 8], 0);
            while kind < 8 {
                let flags_and_key = (kind & KIND_FLAGS) * 2 + (kind & KIND_LONG_KEY);
                table[kind as usize] = (kind & KIND_EXPIRES) * 8 + flags_and_key;
                kind += 1;
            }
            table
        };
        let kind = self.kind() & (KIND_EXPIRES | KIND_FLAGS | KIND_LONG_KEY);
        usize::from(BYTES[usize::from(kind)]) + usize::from(self.has(KIND_CHOSEN)) * 8
    }
}
