//! Items that are about to be written: the other side of [`item`](crate::engine::item), which tells how
//! they lie in memory.

use crate::arena::Arena;
use crate::engine::in_place::{IN_PLACE_BYTES, Versioned};
use crate::engine::item::{checksum, number_at};
use crate::engine::item_header::{
    HEADER_BYTES, KIND_CHOSEN, KIND_EXPIRES, KIND_FLAGS, KIND_LARGE, KIND_LONG_KEY, KIND_NUMBER,
    KIND_PLACEHOLDER, KIND_READ_AT, VALUE_BYTES_MAX, VERSION_MAX,
};
use crate::engine::large;
use crate::engine::last_read::{LAST_READ_BYTES, LastRead};

/// An item that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'d> {
    key: &'d [u8],
    /// The bytes beside the key, in two parts that follow each other.
    value: [&'d [u8]; 2],
    number: Option<u64>,
    kind: u8,
    optional: Optional,
    /// The time from which its reads are noted.
    read_at_ms: Option<u64>,
    bytes: u64,
}

/// The value of an item that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DraftValue<'d> {
    /// Bytes, in two parts that follow each other.
    Bytes([&'d [u8]; 2]),
    /// A number that can change in place.
    Number(u64),
    /// The description of extents.
    Large(&'d [u8]),
    /// None: the draft is a placeholder, and has an expiry.
    Placeholder,
}

/// The fields that an item has only if they say something.
#[derive(Debug, Clone, Copy)]
struct Optional {
    fields: [u8; 24],
    bytes: usize,
}

impl Optional {
    const NONE: Self = Self {
        fields: [0; 24],
        bytes: 0,
    };

    #[inline(always)]
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.fields[self.bytes..self.bytes + N].copy_from_slice(&field);
        self.bytes += N;
    }

    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.fields[..self.bytes]
    }
}

impl<'d> Draft<'d> {
    #[inline(always)]
    pub(crate) fn new(
        key: &'d [u8],
        value: DraftValue<'d>,
        flags: u32,
        expires_at_ms: Option<u64>,
        chosen_version: Option<u64>,
        read_at_ms: Option<u64>,
    ) -> Self {
        let (value, number, mut kind) = match value {
            DraftValue::Bytes(parts) => (parts, None, 0),
            DraftValue::Number(number) => ([&[][..]; 2], Some(number), KIND_NUMBER),
            DraftValue::Large(description) => ([description, &[]], None, KIND_LARGE),
            DraftValue::Placeholder => ([&[][..]; 2], None, KIND_PLACEHOLDER),
        };
        debug_assert!(expires_at_ms.is_some() || kind != KIND_PLACEHOLDER);
        debug_assert!(chosen_version.is_none() || kind != KIND_NUMBER);
        let mut optional = Optional::NONE;
        if let Some(expires_at_ms) = expires_at_ms {
            optional.put(expires_at_ms.to_le_bytes());
            kind |= KIND_EXPIRES;
        }
        if flags != 0 {
            optional.put(flags.to_le_bytes());
            kind |= KIND_FLAGS;
        }
        if let Some(version) = chosen_version {
            optional.put(version.to_le_bytes());
            kind |= KIND_CHOSEN;
        }
        if key.len() > usize::from(u8::MAX) {
            optional.put((key.len() as u32).to_le_bytes());
            kind |= KIND_LONG_KEY;
        }
        let mut last_bytes = 0;
        if read_at_ms.is_some() {
            last_bytes = LAST_READ_BYTES;
            kind |= KIND_READ_AT;
        }
        let mut draft = Self {
            key,
            value,
            number,
            kind,
            optional,
            read_at_ms,
            bytes: 0,
        };
        draft.bytes = draft.fixed_bytes() + draft.padded_bytes() as u64 + last_bytes;
        draft
    }

    /// The bytes that the item will take in its segment.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Parts of the extents that it describes.
    pub(crate) fn parts(&self) -> u32 {
        match self.kind & KIND_LARGE {
            0 => 0,
            _ => large::described_parts(self.value[0]),
        }
    }

    #[inline(always)]
    fn value_bytes(&self) -> usize {
        self.value[0].len() + self.value[1].len()
    }

    /// The bytes before the optional fields.
    #[inline(always)]
    fn fixed_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.number.is_some()) * IN_PLACE_BYTES
    }

    #[inline(always)]
    fn body_bytes(&self) -> usize {
        self.optional.bytes + self.key.len() + self.value_bytes()
    }

    #[inline(always)]
    fn padded_bytes(&self) -> usize {
        self.body_bytes().next_multiple_of(8)
    }

    /// Writes the item at `offset` with the cache's own `version`.
    ///
    /// # Safety
    ///
    /// [`Draft::bytes`] bytes from `offset` belong to the caller and nobody else reads them yet.
    #[inline]
    pub(crate) unsafe fn write(&self, arena: &Arena, offset: u64, version: u64) {
        debug_assert!(version <= VERSION_MAX && self.value_bytes() <= VALUE_BYTES_MAX);
        let key_bytes = u8::try_from(self.key.len()).unwrap_or(0);
        let lengths = (self.value_bytes() as u64) << 32 | u64::from(key_bytes) << 56;
        let kinded = version | u64::from(self.kind) << 56;
        let body_at = offset + self.fixed_bytes();
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&lengths.to_le_bytes());
        header[8..].copy_from_slice(&kinded.to_le_bytes());
        // SAFETY: the bytes are the caller's, here and below; `header` lies elsewhere.
        unsafe { arena.write(offset, &header) };
        // SAFETY: likewise.
        unsafe { self.write_body(arena, body_at) };
        let crc = match self.number {
            None => {
                let whole_bytes = HEADER_BYTES + self.padded_bytes();
                // SAFETY: just written.
                crc32c::crc32c(unsafe { arena.read(offset, whole_bytes) })
            }
            Some(value) => {
                number_at(arena, offset).begin(Versioned { value, version });
                // SAFETY: just written.
                let padded = unsafe { arena.read(body_at, self.padded_bytes()) };
                checksum(lengths, kinded, padded)
            }
        };
        // SAFETY: as above.
        unsafe { arena.write(offset, &crc.to_le_bytes()) };
        if let Some(read_at_ms) = self.read_at_ms {
            LastRead::before(arena, offset + self.bytes).begin(read_at_ms);
        }
    }

    /// Writes the optional fields, the key, the value and the padding.
    ///
    /// # Safety
    ///
    /// As for [`Draft::write`].
    #[inline(always)]
    unsafe fn write_body(&self, arena: &Arena, body_at: u64) {
        let padded_bytes = self.padded_bytes();
        if padded_bytes > self.body_bytes() {
            let last = body_at + padded_bytes as u64 - 8;
            // SAFETY: the bytes are the caller's, and none of the parts lies there; here and below.
            unsafe { arena.write(last, &[0; 8]) };
        }
        let [left, right] = self.value;
        let mut at = body_at;
        for part in [self.optional.bytes(), self.key, left, right] {
            if !part.is_empty() {
                // SAFETY: likewise.
                unsafe { arena.write(at, part) };
                at += part.len() as u64;
            }
        }
    }
}
