//! How long an item is that nobody vouches for, and whether all that it says of itself can be.

use crate::engine::item_header::{
    HEADER_BYTES, Header, KIND_CHOSEN, KIND_EXPIRES, KIND_FLAGS, KIND_LARGE, KIND_LONG_KEY,
    KIND_NUMBER, KIND_PLACEHOLDER, KIND_READ_AT,
};
use crate::engine::last_read::LAST_READ_BYTES;

/// Kinds of the usual item, whose header tells all of its lengths.
const USUAL: u8 = KIND_EXPIRES | KIND_FLAGS | KIND_READ_AT;

/// Of each kind of usual item: the bytes before its key; of any other: 0.
const BEFORE_KEY: [u8; 256] = {
    let (mut table, mut kind) = ([0; 256], 0_u8);
    while kind <= USUAL {
        if kind & !USUAL == 0 {
            let expiry_and_flags = (kind & KIND_EXPIRES) * 8 + (kind & KIND_FLAGS) * 2;
            table[kind as usize] = HEADER_BYTES as u8 + expiry_and_flags;
        }
        kind += 1;
    }
    table
};

/// Of each kind of usual item: what fills it up to a multiple of 8, and the bytes behind that.
const BEHIND_VALUE: [u8; 256] = {
    let (mut table, mut kind) = ([7; 256], 0_u8);
    while kind <= USUAL {
        if kind & KIND_READ_AT != 0 {
            table[kind as usize] += LAST_READ_BYTES as u8;
        }
        kind += 1;
    }
    table
};

/// An item that can be one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub(super) header: Header,
    /// Its length.
    pub(super) bytes: usize,
    /// Where its key begins, and the length of that. INVARIANT: no further than the item.
    before_key: usize,
    key_bytes: usize,
}

impl Measured {
    /// The key of the item, whose measures these are.
    ///
    /// # Safety
    ///
    /// The item that was measured is what the bytes begin with.
    #[inline(always)]
    pub(super) unsafe fn key<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        debug_assert!(self.before_key + self.key_bytes <= self.bytes && self.bytes <= bytes.len());
        // SAFETY: the key is part of the item, and the item of the bytes.
        unsafe { bytes.get_unchecked(self.before_key..self.before_key + self.key_bytes) }
    }
}

/// The measures of the item that these bytes begin with, if one can be there that ends with them or before.
/// Then [`Item::read`](crate::engine::item::Item::read) may read it, and stays within that length.
#[inline]
pub(super) fn measured(bytes: &[u8], key_bytes_max: u32) -> Option<Measured> {
    usual(bytes, key_bytes_max).or_else(|| unusual(bytes, key_bytes_max))
}

/// The same of a usual item: one that nothing but an expiry, flags or the time of the last read sets apart.
#[inline(always)]
pub(super) fn usual(bytes: &[u8], key_bytes_max: u32) -> Option<Measured> {
    let header = Header::of(bytes.first_chunk()?);
    let kind = usize::from(header.kind());
    let (before_key, key_bytes) = (usize::from(BEFORE_KEY[kind]), header.short_key_bytes());
    // What has no key comes out as too long.
    if before_key == 0 || key_bytes.wrapping_sub(1) >= key_bytes_max as usize {
        return None;
    }
    let value_end = before_key + key_bytes + header.value_bytes();
    let length = (value_end + usize::from(BEHIND_VALUE[kind])) & !7;
    (length <= bytes.len()).then_some(Measured {
        header,
        bytes: length,
        before_key,
        key_bytes,
    })
}

/// The same of any other.
#[cold]
fn unusual(bytes: &[u8], key_bytes_max: u32) -> Option<Measured> {
    let header = Header::of(bytes.first_chunk()?);
    if !is_a_kind(header) {
        return None;
    }
    let before_key = header.fixed_bytes() as usize + header.optional_bytes();
    let short_bytes = header.short_key_bytes();
    let key_bytes = match header.has(KIND_LONG_KEY) {
        true => {
            let field = bytes.get(before_key - 4..before_key)?;
            let key_bytes = u32::from_le_bytes(field.try_into().expect("4 bytes"));
            (short_bytes == 0 && key_bytes > u32::from(u8::MAX)).then_some(key_bytes as usize)?
        }
        false => short_bytes,
    };
    if !(1..=key_bytes_max as usize).contains(&key_bytes) {
        return None;
    }
    let value_end = before_key + key_bytes + header.value_bytes();
    let length = value_end.next_multiple_of(8) + header.last_bytes() as usize;
    (length <= bytes.len()).then_some(Measured {
        header,
        bytes: length,
        before_key,
        key_bytes,
    })
}

/// Whether its kind can be one, and fits its lengths.
fn is_a_kind(header: Header) -> bool {
    let kind = header.kind();
    let special = kind & (KIND_NUMBER | KIND_LARGE | KIND_PLACEHOLDER);
    let has_no_value = special & (KIND_NUMBER | KIND_PLACEHOLDER) != 0;
    special.count_ones() <= 1
        && (special != KIND_NUMBER || !header.has(KIND_CHOSEN))
        && (special != KIND_PLACEHOLDER || header.has(KIND_EXPIRES))
        && (!has_no_value || header.value_bytes() == 0)
}

#[cfg(test)]
mod tests {
    use super::{measured, unusual, usual};

    /// A header with these lengths.
    fn header(kind: u8, key_bytes: u8, value_bytes: u32) -> [u8; 16] {
        let lengths = u64::from(key_bytes) << 56 | u64::from(value_bytes) << 32;
        let version = u64::from(kind) << 56 | 5;
        let bytes = [lengths.to_le_bytes(), version.to_le_bytes()].concat();
        bytes.try_into().expect("two words")
    }

    #[test]
    fn the_short_way_measures_as_the_long_one_does() {
        for kind in 0..=255 {
            for (key_bytes, value_bytes) in [(0, 9), (1, 0), (16, 40), (200, 3), (201, 3)] {
                let mut item = header(kind, key_bytes, value_bytes).to_vec();
                item.resize(400, 0);
                for length in [15, 16, 24, 64, 72, 80, 88, 232, 240, 248, 400] {
                    let bytes = &item[..length];
                    let figures =
                        |item: super::Measured| (item.bytes, item.before_key, item.key_bytes);
                    let long = unusual(bytes, 200).map(figures);
                    if let Some(item) = usual(bytes, 200) {
                        assert_eq!(Some(figures(item)), long, "{kind} {key_bytes} {length}");
                    }
                    assert_eq!(measured(bytes, 200).map(figures), long);
                }
            }
        }
    }
}
