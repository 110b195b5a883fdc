//! Products of codes. A code that was unpacked serves all queries, and what is loaded of a query some codes, as far as there
//! are registers for their sums.

use super::{AHEAD, CACHE_LINE, prefetch_line};
use crate::sys::kernel::codes::{self, GROUP, Levels, PACKED};
use std::arch::x86_64::*;

/// Bytes of a code for one group.
const HALF: usize = GROUP / 2;

/// A family: from how it adds up the products of `Q` queries with `R` codes. How many codes side by side is said for each
/// number of queries.
macro_rules! family {
    ($module:ident, $products:ident, $features:literal, [$($codes:literal),+]) => {
        pub(in super::super) mod $module {
            use super::*;

            /// As the generic one.
            #[target_feature(enable = $features)]
            pub(in super::super::super) fn code_dots(queries: &[&[Levels]], codes: &[u8], out: &mut [i32]) {
                const CODES: [usize; codes::QUERIES] = [$($codes),+];
                let (_, rows) = codes::check_codes(queries, codes, out);
                let outs = out.chunks_mut((codes::QUERIES * rows).max(1));
                for (queries, out) in queries.chunks(codes::QUERIES).zip(outs) {
                    match *queries {
                        [a] => several::<1, { CODES[0] }>([a], codes, out),
                        [a, b] => several::<2, { CODES[1] }>([a, b], codes, out),
                        [a, b, c] => several::<3, { CODES[2] }>([a, b, c], codes, out),
                        [a, b, c, d] => several::<4, { CODES[3] }>([a, b, c, d], codes, out),
                        [a, b, c, d, e] => several::<5, { CODES[4] }>([a, b, c, d, e], codes, out),
                        [a, b, c, d, e, f] => several::<6, { CODES[5] }>([a, b, c, d, e, f], codes, out),
                        [a, b, c, d, e, f, g] => {
                            several::<7, { CODES[6] }>([a, b, c, d, e, f, g], codes, out);
                        }
                        [a, b, c, d, e, f, g, h] => {
                            several::<8, { CODES[7] }>([a, b, c, d, e, f, g, h], codes, out);
                        }
                        _ => unreachable!("one to eight queries"),
                    }
                }
            }

            /// The products of `Q` queries with some codes, `R` codes at a time.
            #[inline]
            #[target_feature(enable = $features)]
            fn several<const Q: usize, const R: usize>(
                queries: [&[Levels]; Q],
                codes: &[u8],
                out: &mut [i32],
            ) {
                let (bytes, rows) = (queries[0].len() * HALF, out.len() / Q);
                let is_one_length = queries.iter().all(|query| query.len() * HALF == bytes);
                assert!(is_one_length && codes.len() == rows * bytes, "checked before");
                let mut put = |row: usize, column: &[i32; Q]| {
                    for (query, product) in column.iter().enumerate() {
                        out[query * rows + row] = *product;
                    }
                };
                let whole = rows - rows % R;
                for row in (0..whole).step_by(R) {
                    // SAFETY: there are `R` codes from here on, of as many groups as each query has.
                    let columns: [[i32; Q]; R] = unsafe { $products(&queries, &codes[row * bytes..]) };
                    for (n, column) in columns.iter().enumerate() {
                        put(row + n, column);
                    }
                }
                for row in whole..rows {
                    // SAFETY: as above.
                    let [column] = unsafe { $products(&queries, &codes[row * bytes..]) };
                    put(row, &column);
                }
            }
        }
    };
}

family!(avx2, avx2_products, "avx2,fma", [4, 2, 2, 1, 1, 1, 1, 1]);
family!(avx512, avx512_products, "avx512f,avx512bw,avx512vnni", [4, 4, 4, 4, 2, 2, 2, 2]);

/// Groups of which a sum fits in 16 bits: a sum of two products is at most 2 x 15 x 127, and a group has two of them.
const PART: usize = 4;

/// The products of `Q` queries with the first `R` codes.
///
/// # Safety
///
/// There are so many codes, and each query has as many groups as a code.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_products<const Q: usize, const R: usize>(
    queries: &[&[Levels]; Q],
    codes: &[u8],
) -> [[i32; Q]; R] {
    let (groups, ones) = (queries[0].len(), _mm256_set1_epi16(1));
    let mut totals = [[_mm256_setzero_si256(); Q]; R];
    for start in (0..groups).step_by(PART) {
        let mut sums = [[_mm256_setzero_si256(); Q]; R];
        if start + PART <= groups {
            // Unrolled.
            for n in 0..PART {
                // SAFETY: as for this function; the group is one of them.
                unsafe { add_group(queries, codes, start + n, &mut sums) };
            }
        } else {
            for group in start..groups {
                // SAFETY: as above.
                unsafe { add_group(queries, codes, group, &mut sums) };
            }
        }
        for (total, sum) in totals.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *total = _mm256_add_epi32(*total, _mm256_madd_epi16(*sum, ones));
        }
    }
    add_up_all(&totals)
}

/// Adds the products of a group to the sums of the first `R` codes.
///
/// # Safety
///
/// There are so many codes, each of as many groups as each query, and the group is one of them.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_group<const Q: usize, const R: usize>(
    queries: &[&[Levels]; Q],
    codes: &[u8],
    group: usize,
    sums: &mut [[__m256i; Q]; R],
) {
    let (at, bytes, low_half) = (group * HALF, queries[0].len() * HALF, _mm256_set1_epi8(15));
    prefetch_ahead::<R>(codes, at);
    let (mut lows, mut highs) = ([_mm256_setzero_si256(); R], [_mm256_setzero_si256(); R]);
    for (row, (low, high)) in lows.iter_mut().zip(&mut highs).enumerate() {
        // SAFETY: each of the `R` codes has `bytes` bytes, of which those of the group begin at `at`.
        let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().add(row * bytes + at).cast()) };
        *low = _mm256_and_si256(codes, low_half);
        *high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
    }
    for (n, query) in queries.iter().enumerate() {
        // SAFETY: the query has this group, of 64 bytes, two vectors.
        let (low, high) = unsafe {
            let levels = query.as_ptr().add(group).cast::<__m256i>();
            (_mm256_load_si256(levels), _mm256_load_si256(levels.add(1)))
        };
        for ((lows, highs), sums) in lows.iter().zip(&highs).zip(&mut *sums) {
            let sum = _mm256_add_epi16(sums[n], _mm256_maddubs_epi16(*lows, low));
            sums[n] = _mm256_add_epi16(sum, _mm256_maddubs_epi16(*highs, high));
        }
    }
}

/// The products of `Q` queries with the first `R` codes.
///
/// # Safety
///
/// There are so many codes, and each query has as many groups as a code.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512_products<const Q: usize, const R: usize>(
    queries: &[&[Levels]; Q],
    codes: &[u8],
) -> [[i32; Q]; R] {
    let (groups, bytes) = (queries[0].len(), queries[0].len() * HALF);
    let low_half = _mm512_set1_epi8(15);
    // The code of a group twice: of the first copy the low halves count, of the second the high ones.
    let shifts = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(4));
    let mut sums = [[_mm512_setzero_si512(); Q]; R];
    for group in 0..groups {
        let at = group * HALF;
        prefetch_ahead::<R>(codes, at);
        let mut unpacked = [_mm512_setzero_si512(); R];
        for (row, unpacked) in unpacked.iter_mut().enumerate() {
            // SAFETY: each of the `R` codes has `bytes` bytes, of which those of the group begin at `at`.
            let code = unsafe { _mm256_loadu_si256(codes.as_ptr().add(row * bytes + at).cast()) };
            let twice = _mm512_broadcast_i64x4(code);
            *unpacked = _mm512_and_si512(_mm512_srlv_epi16(twice, shifts), low_half);
        }
        for (n, query) in queries.iter().enumerate() {
            // SAFETY: the query has this group, of 64 bytes, a vector.
            let levels = unsafe { _mm512_load_si512(query.as_ptr().add(group).cast()) };
            for (sums, unpacked) in sums.iter_mut().zip(&unpacked) {
                sums[n] = _mm512_dpbusd_epi32(sums[n], *unpacked, levels);
            }
        }
    }
    let mut totals = [[_mm256_setzero_si256(); Q]; R];
    for (total, sum) in totals.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
        let (low, high) = (_mm512_castsi512_si256(*sum), _mm512_extracti64x4_epi64::<1>(*sum));
        *total = _mm256_add_epi32(low, high);
    }
    add_up_all(&totals)
}

/// As [`codes::code_dots`] of packed codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn packed_dots(queries: &[&[Levels]], packed: &[u8], out: &mut [i32]) {
    let rows = codes::check_packed(queries, packed, out);
    for (queries, out) in queries.chunks(codes::QUERIES).zip(out.chunks_mut((codes::QUERIES * rows).max(1))) {
        match *queries {
            [a, b, c, d, e, f, g, h] => several_packed([a, b, c, d, e, f, g, h], packed, out),
            _ => {
                for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows.max(1))) {
                    several_packed([query], packed, out);
                }
            }
        }
    }
}

/// The products of `Q` queries, of whole vectors of codes: checked before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn several_packed<const Q: usize>(queries: [&[Levels]; Q], packed: &[u8], out: &mut [i32]) {
    /// Vectors of a group.
    const VECTORS: usize = HALF / 4;
    let (groups, rows, low_half) = (queries[0].len(), out.len() / Q, _mm512_set1_epi8(15));
    let block = groups * HALF * PACKED;
    assert!(
        packed.len() == rows.div_ceil(PACKED) * block && queries.iter().all(|query| query.len() == groups)
    );
    for start in (0..rows).step_by(PACKED) {
        let mut sums = [[_mm512_setzero_si512(); 2]; Q];
        for group in 0..groups {
            for vector in 0..VECTORS {
                let at = start / PACKED * block + (group * VECTORS + vector) * PACKED * 4;
                // SAFETY: each block has eight vectors of 64 bytes for each group.
                let codes = unsafe { _mm512_loadu_si512(packed.as_ptr().add(at).cast()) };
                let low = _mm512_and_si512(codes, low_half);
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_half);
                for (query, [of_low, of_high]) in queries.iter().zip(&mut sums) {
                    let levels = query.as_ptr().wrapping_add(group).cast::<i32>();
                    // SAFETY: a group of a query has 64 bytes, sixteen numbers, and those of the high halves are behind.
                    let (lows, highs) = unsafe { (*levels.add(vector), *levels.add(VECTORS + vector)) };
                    *of_low = _mm512_dpbusd_epi32(*of_low, low, _mm512_set1_epi32(lows));
                    *of_high = _mm512_dpbusd_epi32(*of_high, high, _mm512_set1_epi32(highs));
                }
            }
        }
        let lanes = u16::MAX >> (PACKED - PACKED.min(rows - start));
        for (query, [low, high]) in sums.iter().enumerate() {
            let sum = _mm512_add_epi32(*low, *high);
            // SAFETY: only as many lanes are stored as the query has numbers from `start` on.
            unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().add(query * rows + start), lanes, sum) };
        }
    }
}

/// Asks for what comes after `R` codes: side by side they are no stream that the processor would see ahead of.
#[inline]
fn prefetch_ahead<const R: usize>(codes: &[u8], at: usize) {
    if R > 1 {
        for line in 0..(R * HALF).div_ceil(CACHE_LINE) {
            prefetch_line(codes.as_ptr().wrapping_add(R * at + line * CACHE_LINE + AHEAD));
        }
    }
}

/// The sums of the eight numbers of each vector.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_up_all<const Q: usize, const R: usize>(totals: &[[__m256i; Q]; R]) -> [[i32; Q]; R] {
    let mut products = [[0; Q]; R];
    let (fours, rest) = totals.as_flattened().as_chunks();
    let (fours_out, rest_out) = products.as_flattened_mut().as_chunks_mut();
    for (totals, out) in fours.iter().zip(fours_out) {
        *out = add_up(*totals);
    }
    for (total, out) in rest.iter().zip(rest_out) {
        [*out, ..] = add_up([*total; 4]);
    }
    products
}

/// The sums of the eight numbers of each of four vectors.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_up([a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
    let first = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let second = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    let all = _mm256_add_epi32(_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
    let mut out = [0; 4];
    // SAFETY: the array has room for the whole vector.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}
