//! The tags of a whole bucket looked at together, with the vectors that every x86-64 has.
//!
//! The words are loaded 16 bytes at a time by instructions of our own, since the language knows no
//! atomic loads of that width and would call ordinary ones a race. Two halves of such a load need not
//! be of one instant, but each is whole, as every aligned 8-byte access is, and x86-64 keeps loads in
//! order among themselves: each word is as if loaded with Acquire.

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi16, _mm_cvtsi64_si128,
    _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32, _mm_setzero_si128, _mm_shuffle_epi32,
    _mm_shuffle_ps, _mm_shufflelo_epi16, _mm_srai_epi32,
};

use crate::sync::AtomicU64;

/// What a vector holds.
const VECTOR_BYTES: usize = 16;

/// Which of four or eight words have the upper 16 bits of `like`: a bit for each, the first the lowest.
/// `None` for any other number of words.
///
/// # Safety
///
/// The words lie at a multiple of 16 bytes.
#[inline]
pub(super) unsafe fn tagged<const N: usize>(words: &[AtomicU64; N], like: u64) -> Option<u32> {
    debug_assert!(words.as_ptr().addr() & 15 == 0, "a bucket is not aligned");
    let words = words.as_ptr();
    match N {
        4 => {
            // SAFETY: four aligned words; and SSE2 is part of every x86-64.
            let tags = unsafe { tags::<0>(words) };
            // SAFETY: likewise.
            Some(unsafe { equal(tags, tags, like) } & 0xf)
        }
        8 => {
            // SAFETY: the first four of eight; and likewise.
            let low = unsafe { tags::<0>(words) };
            // SAFETY: the last four of eight; and likewise.
            let high = unsafe { tags::<{ 2 * VECTOR_BYTES }>(words) };
            // SAFETY: likewise.
            Some(unsafe { equal(low, high, like) })
        }
        _ => None,
    }
}

/// The upper 16 bits of four words, `AT` bytes behind the first, each in a lane of 32 with its sign.
///
/// # Safety
///
/// They are there, and lie at a multiple of 16 bytes.
#[inline]
#[target_feature(enable = "sse2")]
unsafe fn tags<const AT: usize>(words: *const AtomicU64) -> __m128i {
    let (low, high): (__m128i, __m128i);
    // SAFETY: the words are there and aligned, as the caller says, and only read.
    unsafe {
        asm!(
            "movdqa {low}, [{words} + {at}]",
            "movdqa {high}, [{words} + {at} + {vector_bytes}]",
            words = in(reg) words,
            low = out(xmm_reg) low,
            high = lateout(xmm_reg) high,
            at = const AT,
            vector_bytes = const VECTOR_BYTES,
            options(nostack, preserves_flags, readonly),
        );
    }
    let (low, high) = (_mm_castsi128_ps(low), _mm_castsi128_ps(high));
    // The upper 32 bits of each word, and of these the upper 16.
    let upper = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(low, high));
    _mm_srai_epi32::<16>(upper)
}

/// Which of these eight tags are that of `like`.
#[inline]
#[target_feature(enable = "sse2")]
fn equal(low: __m128i, high: __m128i, like: u64) -> u32 {
    let tags = _mm_packs_epi32(low, high);
    // Its upper 16 bits in each lane.
    let like = _mm_shufflelo_epi16::<0b11_11_11_11>(_mm_cvtsi64_si128(like as i64));
    let like = _mm_shuffle_epi32::<0>(like);
    let equal = _mm_cmpeq_epi16(tags, like);
    _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
}

#[cfg(test)]
mod tests {
    use super::{AtomicU64, tagged};

    #[repr(align(64))]
    struct Line<const N: usize>([AtomicU64; N]);

    #[test]
    fn every_word_with_the_tag_has_its_bit_and_no_other() {
        for tag in [0_u16, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            for wanted in 0..256_u32 {
                let other = (u64::from(tag) ^ 1) << 48 | 0xffff_ffff_ffff;
                let of = |at: usize| match wanted >> at & 1 {
                    1 => u64::from(tag) << 48 | at as u64,
                    _ => other,
                };
                let line = Line(std::array::from_fn::<_, 8, _>(|at| AtomicU64::new(of(at))));
                let like = u64::from(tag) << 48 | 0x1234_5678_9abc;
                // SAFETY: a line is aligned.
                let found = unsafe { tagged(&line.0, like) };
                assert_eq!(found, Some(wanted), "{tag:x}");
                let half = Line(std::array::from_fn::<_, 4, _>(|at| AtomicU64::new(of(at))));
                // SAFETY: likewise.
                let found = unsafe { tagged(&half.0, like) };
                assert_eq!(found, Some(wanted & 0xf), "{tag:x}");
            }
        }
    }
}
