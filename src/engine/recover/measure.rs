//! How long an item is that nobody vouches for, and whether all that it says of itself can be.

use crate::arena::Arena;
use crate::engine::item::{
    HEADER_BYTES, Header, KIND_EXPIRES, KIND_FLAGS, KIND_LARGE, KIND_LONG_KEY, KIND_NUMBER,
    KIND_PLACEHOLDER, KIND_READ_AT, KINDS,
};

/// An item that can be one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) header: Header,
    /// Its length.
    pub(super) bytes: u64,
    /// Offset and length of its key.
    pub(super) key_at: u64,
    pub(super) key_bytes: usize,
}

/// The measures of the item at `offset`, if one can be there that ends at `end` or before. Then
/// [`Item::read`](crate::engine::item::Item::read) may read it, and stays within that length.
///
/// # Safety
///
/// The bytes up to `end`, which is inside the arena, hold still.
#[inline]
pub(super) unsafe fn measured(
    arena: &Arena,
    offset: u64,
    end: u64,
    key_bytes_max: u32,
) -> Option<Measured> {
    let room_bytes = end.checked_sub(offset)?;
    if offset & 7 != 0 || room_bytes < HEADER_BYTES as u64 {
        return None;
    }
    // SAFETY: within the bytes that hold still.
    let header = unsafe { Header::read(arena, offset) };
    if !is_a_kind(header) {
        return None;
    }
    let before_key = header.fixed_bytes() + header.optional_bytes() as u64;
    if before_key > room_bytes {
        return None;
    }
    let short_bytes = header.short_key_bytes() as u32;
    let key_bytes = match header.has(KIND_LONG_KEY) {
        true => {
            // SAFETY: within the bytes that hold still, as was just checked.
            let field = unsafe { arena.read(offset + before_key - 4, 4) };
            let key_bytes = u32::from_le_bytes(field.try_into().expect("4 bytes"));
            (short_bytes == 0 && key_bytes > u32::from(u8::MAX)).then_some(key_bytes)?
        }
        false => short_bytes,
    };
    if !(1..=key_bytes_max).contains(&key_bytes) {
        return None;
    }
    let body_end = before_key + u64::from(key_bytes) + header.value_bytes() as u64;
    let bytes = body_end.next_multiple_of(8) + header.last_bytes();
    (bytes <= room_bytes).then_some(Measured {
        header,
        bytes,
        key_at: offset + before_key,
        key_bytes: key_bytes as usize,
    })
}

/// Whether its kind can be one, and fits its lengths.
#[inline]
fn is_a_kind(header: Header) -> bool {
    let kind = header.kind();
    // As most are.
    if kind & !(KIND_EXPIRES | KIND_FLAGS | KIND_READ_AT) == 0 {
        return true;
    }
    let special = kind & (KIND_NUMBER | KIND_LARGE | KIND_PLACEHOLDER);
    let has_no_value = special & (KIND_NUMBER | KIND_PLACEHOLDER) != 0;
    kind & !KINDS == 0
        && special.count_ones() <= 1
        && (special != KIND_PLACEHOLDER || header.has(KIND_EXPIRES))
        && (!has_no_value || header.value_bytes() == 0)
}
