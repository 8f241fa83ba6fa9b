//! The tags of a whole bucket looked at together, with the vectors that every x86-64 has.
//!
//! The words are loaded 16 bytes at a time by instructions of our own, since the language knows no
//! atomic loads of that width and would call ordinary ones a race. Two halves of such a load need not
//! be of one instant, but each is whole, as every aligned 8-byte access is, and x86-64 keeps loads in
//! order among themselves: each word is as if loaded with Acquire.

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi16, _mm_movemask_epi8,
    _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_ps,
    _mm_srai_epi32,
};

use crate::sync::AtomicU64;

/// What a vector holds.
const WORDS: usize = 2;

/// Which of four or eight words, which lie at a multiple of 16 bytes, have this tag in their upper 16
/// bits: a bit for each, the first the lowest. `None` for any other number of words.
#[inline]
pub(super) fn tagged<const N: usize>(words: &[AtomicU64; N], tag: u16) -> Option<u32> {
    assert!(words.as_ptr().addr() & 15 == 0, "a bucket is not aligned");
    match N {
        // SAFETY: SSE2 is part of every x86-64.
        4 => Some(unsafe { equal(words, [0, 0], tag) } & 0xf),
        // SAFETY: likewise.
        8 => Some(unsafe { equal(words, [0, 4], tag) }),
        _ => None,
    }
}

/// Which of the four words from each of two places on have the tag.
#[inline]
#[target_feature(enable = "sse2")]
fn equal<const N: usize>(words: &[AtomicU64; N], places: [usize; 2], tag: u16) -> u32 {
    let tags = places.map(|first| {
        let (low, high) = (load(words, first), load(words, first + WORDS));
        let (low, high) = (_mm_castsi128_ps(low), _mm_castsi128_ps(high));
        // The upper 32 bits of each word, and of these the upper 16.
        let upper = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(low, high));
        _mm_srai_epi32::<16>(upper)
    });
    let tags = _mm_packs_epi32(tags[0], tags[1]);
    let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(tag as i16));
    _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
}

#[inline]
fn load<const N: usize>(words: &[AtomicU64; N], first: usize) -> __m128i {
    let words = &words[first..first + WORDS];
    let vector: __m128i;
    // SAFETY: the words are in bounds and aligned to 16 bytes (asserted), and only read.
    unsafe {
        asm!(
            "movdqa {vector}, [{at}]",
            at = in(reg) words.as_ptr(),
            vector = lateout(xmm_reg) vector,
            options(nostack, preserves_flags, readonly),
        );
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::{AtomicU64, tagged};

    #[repr(align(64))]
    struct Line<const N: usize>([AtomicU64; N]);

    #[test]
    fn every_word_with_the_tag_has_its_bit_and_no_other() {
        for tag in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            for wanted in 0..256_u32 {
                let other = (u64::from(tag) ^ 1) << 48 | 0xffff_ffff_ffff;
                let of = |at: usize| match wanted >> at & 1 {
                    1 => u64::from(tag) << 48 | at as u64,
                    _ => other,
                };
                let line = Line(std::array::from_fn::<_, 8, _>(|at| AtomicU64::new(of(at))));
                assert_eq!(tagged(&line.0, tag), Some(wanted), "{tag:x}");
                let half = Line(std::array::from_fn::<_, 4, _>(|at| AtomicU64::new(of(at))));
                assert_eq!(tagged(&half.0, tag), Some(wanted & 0xf), "{tag:x}");
            }
        }
    }
}
