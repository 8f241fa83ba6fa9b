//! Items that are about to be written: the other side of [`item`](crate::engine::item), which tells how
//! they lie in memory.

use crate::arena::Arena;
use crate::engine::in_place::{IN_PLACE_BYTES, Versioned};
use crate::engine::item::{
    HEADER_BYTES, KIND_EXPIRES, KIND_FLAGS, KIND_LARGE, KIND_LONG_KEY, KIND_NUMBER,
    KIND_PLACEHOLDER, KIND_READ_AT, VALUE_BYTES_MAX, VERSION_MAX, checksum, number_at,
};
use crate::engine::last_read::{LAST_READ_BYTES, LastRead};

/// An item that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'d> {
    pub(crate) key: &'d [u8],
    pub(crate) value: DraftValue<'d>,
    pub(crate) flags: u32,
    pub(crate) expires_at_ms: Option<u64>,
    /// The time from which its reads are noted.
    pub(crate) read_at_ms: Option<u64>,
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

impl<'d> DraftValue<'d> {
    /// Bytes beside the key.
    fn parts(&self) -> [&'d [u8]; 2] {
        match *self {
            Self::Bytes(parts) => parts,
            Self::Number(_) | Self::Placeholder => [&[], &[]],
            Self::Large(description) => [description, &[]],
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Bytes(_) => 0,
            Self::Number(_) => KIND_NUMBER,
            Self::Large(_) => KIND_LARGE,
            Self::Placeholder => KIND_PLACEHOLDER,
        }
    }
}

impl Draft<'_> {
    /// Bytes of the value that lie beside the key.
    pub(crate) fn value_bytes(&self) -> u64 {
        let [left, right] = self.value.parts();
        (left.len() + right.len()) as u64
    }

    fn optional(&self) -> ([u8; 16], usize, u8) {
        let mut fields = [0; 16];
        let mut kind = self.value.kind();
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
        if self.read_at_ms.is_some() {
            put(&[], KIND_READ_AT);
        }
        (fields, at, kind)
    }

    /// The bytes that the item will take in its segment.
    pub(crate) fn bytes(&self) -> u64 {
        let last_bytes = u64::from(self.read_at_ms.is_some()) * LAST_READ_BYTES;
        (self.bytes_beside_value() + self.value_bytes()).next_multiple_of(8) + last_bytes
    }

    /// The bytes of the header, a number's words, the optional fields and the key.
    fn bytes_beside_value(&self) -> u64 {
        let is_number = matches!(self.value, DraftValue::Number(_));
        let mut body = HEADER_BYTES as u64 + self.key.len() as u64;
        body += u64::from(is_number) * IN_PLACE_BYTES;
        body += u64::from(self.expires_at_ms.is_some()) * 8;
        body += u64::from(self.flags != 0) * 4;
        body += u64::from(self.key.len() > usize::from(u8::MAX)) * 4;
        body
    }

    /// Writes the item at `offset` with `version`.
    ///
    /// # Safety
    ///
    /// [`Draft::bytes`] bytes from `offset` belong to the caller and nobody else reads them yet.
    pub(crate) unsafe fn write(&self, arena: &Arena, offset: u64, version: u64) {
        debug_assert!(version <= VERSION_MAX && self.value_bytes() <= VALUE_BYTES_MAX as u64);
        let is_placeholder = matches!(self.value, DraftValue::Placeholder);
        debug_assert!(self.expires_at_ms.is_some() || !is_placeholder);
        let (fields, fields_bytes, kind) = self.optional();
        let optional = &fields[..fields_bytes];
        let key_bytes = u8::try_from(self.key.len()).unwrap_or(0);
        let unchecked = self.value_bytes() << 32 | u64::from(key_bytes) << 56;
        let kinded = version | u64::from(kind) << 56;
        let [left, right] = self.value.parts();
        let parts = [optional, self.key, left, right];
        let lengths = unchecked | u64::from(checksum(unchecked, kinded, &parts));
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&lengths.to_le_bytes());
        header[8..].copy_from_slice(&kinded.to_le_bytes());
        // SAFETY: the bytes are the caller's; `header` lies elsewhere.
        unsafe { arena.write(offset, &header) };
        let mut at = offset + HEADER_BYTES as u64;
        if let DraftValue::Number(value) = self.value {
            number_at(arena, offset).begin(Versioned { value, version });
            at += IN_PLACE_BYTES;
        }
        for part in parts {
            // SAFETY: the parts add up to `bytes()`, which the caller owns; none lies there.
            unsafe { arena.write(at, part) };
            at += part.len() as u64;
        }
        if let Some(read_at_ms) = self.read_at_ms {
            LastRead::before(arena, offset + self.bytes()).begin(read_at_ms);
        }
    }
}
