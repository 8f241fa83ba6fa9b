//! Items: a key with its value, immutable once published (but for numbers that change in place).
//!
//! ```text
//!  0        4            7         8                15     16
//!  +--------+------------+---------+----------------+------+
//!  | crc 32 | value 24   | key 8   | version 56     | kind |  header, two little-endian words
//!  +--------+------------+---------+----------------+------+
//!  | three words of a number      |  if kind has NUMBER (there is no value behind the key then)
//!  | expires_at_ms u64            |  if kind has EXPIRES
//!  | flags u32                    |  if kind has FLAGS
//!  | chosen version u64           |  if kind has CHOSEN (never beside a number)
//!  | key bytes u32                |  if kind has LONG_KEY (the header's 8 bits are then 0)
//!  | key ... | value ... | padding to a multiple of 8
//!  | last read, ms u64            |  if kind has READ_AT
//! ```
//!
//! The value of a large item (kind LARGE) is the description of its extents, see
//! [`large`](crate::engine::large). A placeholder (kind PLACEHOLDER) has no value, and always has an
//! expiry: it stands where somebody was told to store one, see [`lease`](crate::engine::lease).
//!
//! An item has the version that the cache gave it, which also tells what it was written before and after.
//! Where its writer chose another, that is the one that others are told, and compare with.
//!
//! The CRC is CRC-32C, which the processor computes. It covers everything but itself, a number's words and the
//! time of the last read; the padding, which is zero, for the sake of whole words. It is written with the item
//! and read by whoever must decide whether bytes found after a crash are an item.

use std::borrow::Cow;

use crate::arena::Arena;
use crate::engine::in_place::{InPlace, Versioned};
use crate::engine::item_header::{
    HEADER_BYTES, Header, KIND_CHOSEN, KIND_EXPIRES, KIND_FLAGS, KIND_LARGE, KIND_LONG_KEY,
    KIND_NUMBER, KIND_PLACEHOLDER, KIND_READ_AT,
};
use crate::engine::large::Extents;
use crate::engine::last_read::LastRead;
use crate::engine::number::Number;

/// An item, borrowed from the cache for as long as the guard it was read under.
#[derive(Debug, Clone, Copy)]
pub struct Item<'g> {
    header: Header,
    /// INVARIANT: the optional fields, the key and the bytes of the value, as long as the header
    /// says.
    body: &'g [u8],
    beside: Beside<'g>,
}

/// What an item of a special kind has beside its bytes.
#[derive(Debug, Clone, Copy)]
enum Beside<'g> {
    Nothing,
    /// The number, as it stood when the item was read.
    Number(Versioned),
    /// Where its extents lie.
    Arena(&'g Arena),
}

/// What an item's value is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'g> {
    /// Bytes beside the key; none where the item is a placeholder.
    Inline(&'g [u8]),
    /// A number, as it stood when the item was read.
    Number(Versioned),
    /// Extents.
    Large(Extents<'g>),
}

impl<'g> Item<'g> {
    /// The item at `offset`.
    ///
    /// # Safety
    ///
    /// As for [`Header::read`], for as long as the result lives.
    #[inline(always)]
    pub(crate) unsafe fn read(arena: &'g Arena, offset: u64) -> Self {
        // SAFETY: the caller's promise is the same.
        let header = unsafe { Header::read(arena, offset) };
        // SAFETY: likewise.
        let body = unsafe { body(arena, offset, header) };
        let beside = match header.kind() & (KIND_NUMBER | KIND_LARGE) {
            0 => Beside::Nothing,
            KIND_LARGE => Beside::Arena(arena),
            _ => number(arena, offset),
        };
        Self {
            header,
            body,
            beside,
        }
    }

    /// The item at `offset`, if it is plain: its value lies in one piece, and nothing but an expiry and
    /// flags sets it apart. Most are; what is done with them is worth a way of its own.
    ///
    /// # Safety
    ///
    /// As for [`Item::read`].
    #[inline(always)]
    pub(crate) unsafe fn read_plain(arena: &'g Arena, offset: u64) -> Option<Self> {
        // SAFETY: the caller's promise is the same.
        let header = unsafe { Header::read(arena, offset) };
        let body_bytes = header.plain_body_bytes()?;
        // SAFETY: the header and the body of a written item have these lengths.
        let bytes = unsafe { arena.read(offset, HEADER_BYTES + body_bytes) };
        Some(Self {
            header,
            body: &bytes[HEADER_BYTES..],
            beside: Beside::Nothing,
        })
    }

    /// The key of the item at `offset`.
    ///
    /// # Safety
    ///
    /// As for [`Item::read`].
    #[inline]
    pub(crate) unsafe fn read_key(arena: &'g Arena, offset: u64) -> &'g [u8] {
        // SAFETY: the caller's promise is the same.
        let header = unsafe { Header::read(arena, offset) };
        // SAFETY: likewise.
        parts(header, unsafe { body(arena, offset, header) }).1
    }

    /// The key.
    #[inline(always)]
    pub fn key(&self) -> &'g [u8] {
        parts(self.header, self.body).1
    }

    #[inline(always)]
    fn optional(&self) -> &'g [u8] {
        parts(self.header, self.body).0
    }

    /// The value: borrowed from the cache where it lies there in one piece, as most do; copied
    /// together where it is in several, and spelled out where it is a counter.
    #[inline(always)]
    pub fn value(&self) -> Cow<'g, [u8]> {
        match self.plain_value() {
            Some(bytes) => Cow::Borrowed(bytes),
            None => self.other_value(),
        }
    }

    fn other_value(&self) -> Cow<'g, [u8]> {
        match self.stored_value() {
            Value::Inline(bytes) => Cow::Borrowed(bytes),
            Value::Number(number) => Cow::Owned(Number::new(number.value).digits().to_vec()),
            Value::Large(extents) => Cow::Owned(extents.pieces().collect::<Vec<_>>().concat()),
        }
    }

    /// Appends the value to `out`.
    #[inline]
    pub fn append_value_to(&self, out: &mut Vec<u8>) {
        match self.stored_value() {
            Value::Inline(bytes) => out.extend_from_slice(bytes),
            Value::Number(number) => out.extend_from_slice(Number::new(number.value).digits()),
            Value::Large(extents) => extents.pieces().for_each(|p| out.extend_from_slice(p)),
        }
    }

    /// The value, if it lies in the cache in one piece, as most do.
    #[inline(always)]
    pub fn plain_value(&self) -> Option<&'g [u8]> {
        match self.beside {
            Beside::Nothing => Some(parts(self.header, self.body).2),
            Beside::Number(_) | Beside::Arena(_) => None,
        }
    }

    /// The length of the value.
    #[inline(always)]
    pub fn value_bytes(&self) -> u64 {
        match self.beside {
            Beside::Nothing => self.header.value_bytes() as u64,
            Beside::Number(_) | Beside::Arena(_) => self.other_value_bytes(),
        }
    }

    fn other_value_bytes(&self) -> u64 {
        match self.stored_value() {
            Value::Inline(bytes) => bytes.len() as u64,
            Value::Number(number) => Number::new(number.value).digits().len() as u64,
            Value::Large(extents) => extents.value_bytes(),
        }
    }

    /// Whether the value lies in pieces of its own, apart from the key.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.header.has(KIND_LARGE)
    }

    /// Whether this is no item but the place of one that somebody was told to store, see
    /// [`Guard::get_or_lease`](crate::Guard::get_or_lease). Its value is empty.
    #[inline]
    pub fn is_placeholder(&self) -> bool {
        self.header.has(KIND_PLACEHOLDER)
    }

    #[inline]
    pub(crate) fn stored_value(&self) -> Value<'g> {
        let bytes = parts(self.header, self.body).2;
        match self.beside {
            Beside::Nothing => Value::Inline(bytes),
            Beside::Number(number) => Value::Number(number),
            Beside::Arena(arena) => Value::Large(Extents::described(arena, bytes)),
        }
    }

    /// The number that the value is, or spells.
    pub(crate) fn number(&self) -> Option<u64> {
        match self.stored_value() {
            Value::Inline(bytes) => Number::parse(bytes),
            Value::Number(number) => Some(number.value),
            Value::Large(_) => None,
        }
    }

    /// The digits of a value that changes in place.
    pub(crate) fn digits(&self) -> Option<Number> {
        match self.stored_value() {
            Value::Number(number) => Some(Number::new(number.value)),
            Value::Inline(_) | Value::Large(_) => None,
        }
    }

    /// Whether the value changes in place.
    pub(crate) fn is_in_place(&self) -> bool {
        self.header.has(KIND_NUMBER)
    }

    /// The extents of a large value.
    pub(crate) fn extents(&self) -> Option<Extents<'g>> {
        match self.stored_value() {
            Value::Large(extents) => Some(extents),
            Value::Inline(_) | Value::Number(_) => None,
        }
    }

    /// The 32 bits that the writer attached.
    #[inline(always)]
    pub fn flags(&self) -> u32 {
        if !self.header.has(KIND_FLAGS) {
            return 0;
        }
        let at = if self.header.has(KIND_EXPIRES) { 8 } else { 0 };
        u32::from_le_bytes(self.optional()[at..at + 4].try_into().expect("4 bytes"))
    }

    /// The number that changes whenever the value does: unique within the cache, unless the writer
    /// [chose](crate::Entry::new_version) it.
    #[inline(always)]
    pub fn version(&self) -> u64 {
        match self.chosen_version() {
            Some(version) => version,
            None => self.own_version(),
        }
    }

    /// The version that the cache gave: what was written later has a greater one.
    #[inline(always)]
    pub(crate) fn own_version(&self) -> u64 {
        match self.beside {
            Beside::Number(number) => number.version,
            Beside::Nothing | Beside::Arena(_) => self.header.own_version(),
        }
    }

    /// The version that the writer chose.
    #[inline(always)]
    pub(crate) fn chosen_version(&self) -> Option<u64> {
        self.header.has(KIND_CHOSEN).then(|| {
            let fields = self.optional();
            let end = fields.len() - usize::from(self.header.has(KIND_LONG_KEY)) * 4;
            u64::from_le_bytes(fields[end - 8..end].try_into().expect("8 bytes"))
        })
    }

    /// When the item expires, in milliseconds of the clock that the guards are given.
    #[inline(always)]
    pub fn expires_at_ms(&self) -> Option<u64> {
        let stored = self.stored_expiry_ms();
        stored.filter(|&at_ms| at_ms != u64::MAX || !self.is_placeholder())
    }

    /// The same as it is stored: that of a placeholder is there also where it never comes.
    #[inline(always)]
    pub(crate) fn stored_expiry_ms(&self) -> Option<u64> {
        self.header
            .has(KIND_EXPIRES)
            .then(|| u64::from_le_bytes(self.optional()[..8].try_into().expect("8 bytes")))
    }

    /// The bytes that the item takes in its segment: for a large value, what describes it.
    #[inline]
    pub fn bytes(&self) -> u64 {
        let bytes = self.header.fixed_bytes() + self.body.len() as u64;
        bytes.next_multiple_of(8) + self.header.last_bytes()
    }

    /// Whether the item says when it was last read.
    #[inline]
    pub(crate) fn keeps_last_read(&self) -> bool {
        self.header.has(KIND_READ_AT)
    }

    /// When the item at `offset`, which is this one, was last read, where the cache keeps that.
    #[inline]
    pub(crate) fn last_read<'a>(&self, arena: &'a Arena, offset: u64) -> Option<LastRead<'a>> {
        let end = || offset + self.bytes();
        (self.keeps_last_read()).then(|| LastRead::before(arena, end()))
    }

    /// Whether the bytes are what was written.
    ///
    /// # Safety
    ///
    /// As for [`Item::read`], of the item at `offset`.
    pub(crate) unsafe fn is_intact(arena: &Arena, offset: u64) -> bool {
        // SAFETY: the caller's promise is the same.
        let header = unsafe { Header::read(arena, offset) };
        // SAFETY: likewise.
        let body_bytes = unsafe { body(arena, offset, header) }.len();
        let padded_bytes = body_bytes.next_multiple_of(8);
        // SAFETY: the padding belongs to the item.
        let padded = unsafe { arena.read(offset + header.fixed_bytes(), padded_bytes) };
        header.lengths as u32 == checksum(header.lengths, header.version, padded)
    }

    /// [`Item::is_intact`], and so is its value, if that is a large one.
    ///
    /// # Safety
    ///
    /// The same; and the index has named the item while the caller was pinned, as it still is. (What
    /// is not named any more may have lost its extents.)
    pub(crate) unsafe fn is_intact_with_value(arena: &Arena, offset: u64) -> bool {
        // SAFETY: the caller's promise is the same.
        let is_intact = unsafe { Self::is_intact(arena, offset) };
        // SAFETY: likewise.
        let item = || unsafe { Item::read(arena, offset) };
        is_intact && item().extents().is_none_or(|extents| extents.is_intact())
    }
}

/// The optional fields, the key and the bytes of the value, in one.
///
/// # Safety
///
/// As for [`Header::read`].
#[inline]
unsafe fn body(arena: &Arena, offset: u64, header: Header) -> &[u8] {
    let body_at = offset + header.fixed_bytes();
    let optional_bytes = header.optional_bytes();
    let mut key_bytes = header.short_key_bytes();
    if header.has(KIND_LONG_KEY) {
        // SAFETY: the optional fields belong to the item.
        let field = unsafe { arena.read(body_at + optional_bytes as u64 - 4, 4) };
        key_bytes = u32::from_le_bytes(field.try_into().expect("4 bytes")) as usize;
    }
    let bytes = optional_bytes + key_bytes + header.value_bytes();
    // SAFETY: the body of a written item has these lengths.
    unsafe { arena.read(body_at, bytes) }
}

/// The optional fields, the key and the bytes of the value of a [`body`] that this header is of.
#[inline]
fn parts(header: Header, body: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (optional, rest) = body.split_at(header.optional_bytes());
    let (key, value) = rest.split_at(rest.len() - header.value_bytes());
    (optional, key, value)
}

#[cold]
fn number(arena: &Arena, offset: u64) -> Beside<'_> {
    Beside::Number(number_at(arena, offset).read())
}

/// The number of the item at `offset`, which is one of kind NUMBER.
pub(crate) fn number_at(arena: &Arena, offset: u64) -> InPlace<'_> {
    InPlace::at(arena, offset + HEADER_BYTES as u64)
}

/// Copies the item at `from`, of `bytes` bytes, to `to`; a number as it stands.
///
/// # Safety
///
/// As for [`Item::read`] of the item at `from`; and the bytes at `to` belong to the caller and
/// nobody else reads them yet.
pub(crate) unsafe fn copy(arena: &Arena, from: u64, to: u64, bytes: u64) {
    // SAFETY: the caller's promise is the same.
    let header = unsafe { Header::read(arena, from) };
    let (fixed_bytes, last_bytes) = (header.fixed_bytes(), header.last_bytes());
    let body_bytes = bytes - fixed_bytes - last_bytes;
    for (at, length) in [(0, HEADER_BYTES as u64), (fixed_bytes, body_bytes)] {
        // SAFETY: what is published does not change, and lies apart from what the caller owns.
        let part = unsafe { arena.read(from + at, length as usize) };
        // SAFETY: the caller owns the bytes at `to`.
        unsafe { arena.write(to + at, part) };
    }
    if header.has(KIND_NUMBER) {
        copy_number(arena, from, to);
    }
    if last_bytes > 0 {
        let read_at_ms = LastRead::before(arena, from + bytes).ms();
        LastRead::before(arena, to + bytes).begin(read_at_ms);
    }
}

/// Copies the number of the item at `from`, as it stands, to its copy at `to`, which nobody can see
/// yet.
pub(crate) fn copy_number(arena: &Arena, from: u64, to: u64) {
    number_at(arena, to).begin(number_at(arena, from).read());
}

/// CRC-32C of an item: of its header, in which that of the checksum itself is 0, and its padded body.
#[inline]
pub(crate) fn checksum(lengths: u64, version: u64, padded: &[u8]) -> u32 {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&(lengths & !u64::from(u32::MAX)).to_le_bytes());
    header[8..].copy_from_slice(&version.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&header), padded)
}

#[cfg(test)]
mod tests {
    use super::{Item, LastRead};
    use crate::arena::Arena;
    use crate::engine::draft::{Draft, DraftValue};

    #[test]
    fn an_item_reads_as_it_was_written() {
        let arena = Arena::new(1 << 18).expect("arena");
        let long = vec![b'k'; 65_536];
        for key in [&b"k"[..], &[b'k'; 255], &[b'k'; 256], &long] {
            for flags in [0, 7, u32::MAX] {
                for (expires_at_ms, chosen) in [
                    (None, None),
                    (Some(0), Some(u64::MAX)),
                    (None, Some(0)),
                    (Some(u64::MAX), None),
                ] {
                    let value = DraftValue::Bytes([b"left", b"right"]);
                    let read_at_ms = (flags == 7).then_some(3);
                    let draft = Draft::new(key, value, flags, expires_at_ms, chosen, read_at_ms);
                    // SAFETY: one thread; the arena is large enough.
                    unsafe { draft.write(&arena, 64, 42) };
                    // SAFETY: just written.
                    let item = unsafe { Item::read(&arena, 64) };
                    assert_eq!(item.key(), key);
                    assert_eq!(item.value(), &b"leftright"[..]);
                    assert_eq!(item.flags(), flags);
                    assert_eq!(item.expires_at_ms(), expires_at_ms);
                    assert_eq!(item.own_version(), 42);
                    assert_eq!(item.version(), chosen.unwrap_or(42));
                    assert_eq!(item.bytes(), draft.bytes());
                    let last_read = item.last_read(&arena, 64);
                    assert_eq!(last_read.map(LastRead::ms), read_at_ms);
                    // It is no part of what the CRC covers.
                    last_read.inspect(|last_read| last_read.note(5000));
                    // SAFETY: as above.
                    assert!(unsafe { Item::is_intact(&arena, 64) });
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let arena = Arena::new(4096).expect("arena");
        let value = DraftValue::Bytes([b"value", b""]);
        let draft = Draft::new(b"key", value, 1, Some(9), Some(5), None);
        for at in 0..16 + 8 + 4 + 8 + 8 {
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
            assert!(!unsafe { Item::is_intact(&arena, 64) }, "byte {at}");
        }
    }
}
