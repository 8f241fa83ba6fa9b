//! Taking numbers and slices off the front of a body.
//!
//! Every function answers `None` where the bytes run out and moves nothing then, so that no decoder
//! above can index out of bounds.

/// How "never expires" is written where an expiry has a fixed place; an absent expiry field of a
/// request means the same.
pub const EXPIRY_NEVER: u64 = u64::MAX;

#[inline]
pub(crate) fn take<'a>(rest: &mut &'a [u8], count_bytes: u32) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count_bytes as usize)?;
    *rest = left;
    Some(taken)
}

#[inline]
fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

#[inline]
pub(crate) fn take_u16(rest: &mut &[u8]) -> Option<u16> {
    take_array(rest).map(u16::from_le_bytes)
}

#[inline]
pub(crate) fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take_array(rest).map(u32::from_le_bytes)
}

#[inline]
pub(crate) fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take_array(rest).map(u64::from_le_bytes)
}

/// An expiry as it stands in a fixed place: `None` is never.
#[inline]
pub(crate) fn expiry_from_wire(expiry_ms: u64) -> Option<u64> {
    (expiry_ms != EXPIRY_NEVER).then_some(expiry_ms)
}

/// The inverse of [`expiry_from_wire`]. An expiry of exactly `u64::MAX` milliseconds is never.
#[inline]
pub(crate) fn expiry_to_wire(expire_in_ms: Option<u64>) -> u64 {
    expire_in_ms.unwrap_or(EXPIRY_NEVER)
}

/// The longest prefix of `bytes` that is UTF-8. Sentences and names are for people, so a broken one
/// is shortened and never a reason to drop the frame that carries it.
pub(crate) fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The longest prefix of `text` of at most `bytes_max` bytes that ends between two characters.
pub(crate) fn shorten(text: &str, bytes_max: usize) -> &str {
    self::text(&text.as_bytes()[..text.len().min(bytes_max)])
}

/// The length of a slice as the wire states it.
///
/// Lengths above 4 GiB cannot be stated; no limit allows such a frame, so a slice that long is a
/// caller's mistake.
#[inline]
pub(crate) fn wire_len(length: usize) -> u32 {
    debug_assert!(
        u32::try_from(length).is_ok(),
        "a length of {length} has no place in a frame"
    );
    length as u32
}
