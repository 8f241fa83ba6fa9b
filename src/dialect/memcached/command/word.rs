//! Words and numbers.

/// The words of a text: what is between spaces.
#[inline]
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, behind) = first(rest);
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

/// The first word, and what is behind it. Without a word, both are empty.
#[inline]
pub(crate) fn first(text: &[u8]) -> (&[u8], &[u8]) {
    let mut text = text;
    while let [b' ', behind @ ..] = text {
        text = behind;
    }
    text.split_at(space(text))
}

/// The first words of a text, up to `N` of them.
pub(super) struct Words<'i, const N: usize> {
    list: [&'i [u8]; N],
    /// How many there are in all, up to one more than the list has room for.
    count: usize,
}

impl<'i, const N: usize> Words<'i, N> {
    #[inline]
    pub(super) fn of(text: &'i [u8]) -> Self {
        let (mut list, mut count) = ([&[][..]; N], 0);
        for word in words(text) {
            if count == N {
                count += 1;
                break;
            }
            list[count] = word;
            count += 1;
        }
        Self { list, count }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A word that may not be there; then it is empty.
    #[inline]
    pub(super) fn at(&self, index: usize) -> &'i [u8] {
        self.list[index]
    }

    /// The last of them, as far as they are in the list.
    #[inline]
    pub(super) fn last(&self) -> &'i [u8] {
        match self.count {
            0 => b"",
            count => self.list[count.min(N) - 1],
        }
    }
}

/// Where the first space is, or else the end.
#[inline]
fn space(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += blank(&text[at..]);
        if text.get(at).is_none_or(|&byte| byte == b' ') {
            return at;
        }
        at += 1;
    }
}

const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Where the first byte is that is a space or less, or else the end: eight bytes at a time.
#[inline]
pub(super) fn blank(text: &[u8]) -> usize {
    let (chunks, rest) = text.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let eight = u64::from_le_bytes(*chunk);
        // A high bit for each byte below 0x21; the lowest of them is exact.
        let found = eight.wrapping_sub(LOW_BITS * 0x21) & !eight & HIGH_BITS;
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let in_rest = rest.iter().position(|&byte| byte <= b' ');
    chunks.len() * 8 + in_rest.unwrap_or(rest.len())
}

/// LIMIT: digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Whether a word has more than `bytes_max` bytes, found without looking at each word: any of them has
/// a space or an end within so many.
pub(super) fn has_longer_word(text: &[u8], bytes_max: usize) -> bool {
    let mut rest = text;
    while let Some(window) = rest.get(..=bytes_max) {
        let Some(space) = memchr::memrchr(b' ', window) else {
            return true;
        };
        rest = &rest[space + 1..];
    }
    false
}

/// LIMIT: as much as ten digits spell.
const SHORT_MAX: u64 = 9_999_999_999;

/// A space and then a number up to that, in digits without a zero before them, and what is behind it.
#[inline(always)]
pub(super) fn short_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let [b' ', first, rest @ ..] = text else {
        return None;
    };
    let (mut value, mut rest) = (u64::from(first.wrapping_sub(b'0')), rest);
    if value > 9 {
        return None;
    }
    while let [byte, behind @ ..] = rest
        && let digit @ 0..=9 = byte.wrapping_sub(b'0')
    {
        if value == 0 || value > SHORT_MAX / 10 {
            return None;
        }
        value = value * 10 + u64::from(digit);
        rest = behind;
    }
    Some((value, rest))
}

/// The number that decimal digits, and nothing else, spell within 64 bits.
#[inline]
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut value = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// A number of 32 bits.
#[inline]
pub(super) fn number_32(digits: &[u8]) -> Option<u32> {
    u32::try_from(number(digits)?).ok()
}

/// A number of 32 bits that may be negative.
#[inline]
pub(super) fn signed_32(text: &[u8]) -> Option<i32> {
    match text {
        [b'-', digits @ ..] => i32::try_from(-i64::from(number_32(digits)?)).ok(),
        digits => i32::try_from(number(digits)?).ok(),
    }
}
