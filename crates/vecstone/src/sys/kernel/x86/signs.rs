//! Products of codes of signs: a look-up for each four components serves a block of codes.

use crate::sys::kernel::codes::{SIGN_BLOCK, SignTables, TABLE_STEP, check_signs};
use std::arch::x86_64::*;

/// Pairs of vectors of which sums fit in 16 bits, those of all lanes together: an entry of a table is 127 at most.
const PAIRS: usize = 64;

/// A family: its vector and its instructions. `lanes` adds up the lanes of a vector of 16-bit numbers.
macro_rules! family {
    ($name:ident, $features:literal, $vector:ty, $load:ident, $zero:ident, $bytes:ident, $words:ident,
     $and:ident, $shift:ident, $look_up:ident, $add_bytes:ident, $add_words:ident,
     |$sum:ident| $lanes:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(query: &SignTables, packed: &[u8], out: &mut [i32]) {
            const BYTES: usize = size_of::<$vector>();
            check_signs(query, packed, out);
            let (half, even, tables) = ($bytes(15), $words(255), query.entries.as_flattened());
            for (block, out) in packed.chunks_exact(tables.len()).zip(out.chunks_mut(SIGN_BLOCK)) {
                let mut sums = [query.least; SIGN_BLOCK];
                for (block, tables) in block.chunks(2 * PAIRS * BYTES).zip(tables.chunks(2 * PAIRS * BYTES)) {
                    // Of the codes in low halves those with an even number and the others; so of those in high halves.
                    let mut totals = [$zero(); 4];
                    for (codes, tables) in block.chunks_exact(2 * BYTES).zip(tables.chunks_exact(2 * BYTES)) {
                        let (mut low, mut high) = ($zero(), $zero());
                        for n in 0..2 {
                            // SAFETY: both have two vectors.
                            let (codes, tables) = unsafe {
                                let at = |bytes: &[u8]| $load(bytes.as_ptr().add(n * BYTES).cast());
                                (at(codes), at(tables))
                            };
                            low = $add_bytes(low, $look_up(tables, $and(codes, half)));
                            high = $add_bytes(high, $look_up(tables, $and($shift::<4>(codes), half)));
                        }
                        totals[0] = $add_words(totals[0], $and(low, even));
                        totals[1] = $add_words(totals[1], $shift::<8>(low));
                        totals[2] = $add_words(totals[2], $and(high, even));
                        totals[3] = $add_words(totals[3], $shift::<8>(high));
                    }
                    let mut lanes = [_mm_setzero_si128(); 4];
                    for (lanes, $sum) in lanes.iter_mut().zip(totals) {
                        *lanes = $lanes;
                    }
                    add(lanes, &mut sums);
                }
                out.copy_from_slice(&sums[..out.len()]);
            }
        }
    };
}

family!(
    avx2,
    "avx2,fma",
    __m256i,
    _mm256_loadu_si256,
    _mm256_setzero_si256,
    _mm256_set1_epi8,
    _mm256_set1_epi16,
    _mm256_and_si256,
    _mm256_srli_epi16,
    _mm256_shuffle_epi8,
    _mm256_add_epi8,
    _mm256_add_epi16,
    |sum| _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum))
);
family!(
    avx512,
    "avx512f,avx512bw",
    __m512i,
    _mm512_loadu_si512,
    _mm512_setzero_si512,
    _mm512_set1_epi8,
    _mm512_set1_epi16,
    _mm512_and_si512,
    _mm512_srli_epi16,
    _mm512_shuffle_epi8,
    _mm512_add_epi8,
    _mm512_add_epi16,
    |sum| {
        let half = _mm256_add_epi16(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
        _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    }
);

/// Adds the sums of codes with even and odd numbers, in steps, to those of all codes in order.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add([low_even, low_odd, high_even, high_odd]: [__m128i; 4], sums: &mut [i32; SIGN_BLOCK]) {
    let eights = [
        _mm_unpacklo_epi16(low_even, low_odd),
        _mm_unpackhi_epi16(low_even, low_odd),
        _mm_unpacklo_epi16(high_even, high_odd),
        _mm_unpackhi_epi16(high_even, high_odd),
    ];
    for (eight, sums) in eights.into_iter().zip(sums.as_chunks_mut::<8>().0) {
        let steps = _mm256_slli_epi32::<{ TABLE_STEP.ilog2().cast_signed() }>(_mm256_cvtepu16_epi32(eight));
        // SAFETY: there are eight numbers.
        unsafe {
            let at = sums.as_mut_ptr().cast();
            _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), steps));
        }
    }
}
