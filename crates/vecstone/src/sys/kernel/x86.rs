//! The kernels of x86-64 processors. Single rows: the generic code, compiled for the family. Rows side by side and blocks:
//! by hand, since only then do all sums stay in registers and each load serves several products.
#![expect(unsafe_code, reason = "instructions that not every processor has, and loads from slices")]

use super::codes::{self, Correction, Corrections, GROUP, Levels, Residual, Scoring, Scratch};
use super::{Block, Family, Kernels, QUERIES, ROWS, STREAMS, generic};
use std::arch::x86_64::*;

/// A family: its single kernels from the generic code, the others from the names of its instructions.
macro_rules! family {
    ($kernels:ident, $module:ident, $family:expr, $features:literal, $lanes:literal, $vector:ident,
     $zero:ident, $load:ident, $store:ident, $subtract:ident, $multiply_add:ident) => {
        pub(super) static $kernels: Kernels = Kernels {
            family: $family,
            // SAFETY: `Family::kernels` gives this out only where the processor has the instructions.
            dot: |q, x| unsafe { $module::dot(q, x) },
            // SAFETY: as above.
            dot_rows: |query, rows| unsafe { $module::dot_rows(query, rows) },
            // SAFETY: as above.
            l2_rows: |query, rows| unsafe { $module::l2_rows(query, rows) },
            // SAFETY: as above.
            dots: |queries, rows| unsafe { $module::dots(queries, rows) },
            // SAFETY: as above.
            l2s: |queries, rows| unsafe { $module::l2s(queries, rows) },
            // SAFETY: as above.
            reference_dot: |q, x| unsafe { $module::reference_dot(q, x) },
            // SAFETY: as above.
            reference_l2: |q, x| unsafe { $module::reference_l2(q, x) },
            // SAFETY: as above.
            hadamard: |values| unsafe { $module::hadamard(values) },
            // SAFETY: as above.
            reflect: |at, scale, x| unsafe { $module::reflect(at, scale, x) },
            // SAFETY: as above.
            encode: |residual, scratch, out| unsafe { $module::encode(residual, scratch, out) },
            // SAFETY: as above; every processor with AVX-512 has AVX2.
            code_dots: |queries, codes, out| unsafe { code_dots(queries, codes, out) },
            // SAFETY: as above.
            score: |by, dots, of, estimates| unsafe { $module::score(by, dots, of, estimates) },
        };

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) fn dot(q: &[f32], x: &[f32]) -> (f32, f32) {
                generic::dot::<true>(q, x)
            }

            #[target_feature(enable = $features)]
            pub(super) fn reference_dot(q: &[f32], x: &[f32]) -> [f64; 2] {
                generic::reference_dot(q, x)
            }

            #[target_feature(enable = $features)]
            pub(super) fn reference_l2(q: &[f32], x: &[f32]) -> [f64; 1] {
                generic::reference_l2(q, x)
            }

            #[target_feature(enable = $features)]
            pub(super) fn hadamard(values: &mut [f32]) {
                codes::hadamard(values);
            }

            #[target_feature(enable = $features)]
            pub(super) fn reflect(at: &[f32], scale: f64, x: &mut [f64]) {
                codes::reflect(at, scale, x);
            }

            #[target_feature(enable = $features)]
            pub(super) fn encode(
                residual: &Residual<'_>,
                scratch: &mut Scratch,
                out: &mut [u8],
            ) -> Correction {
                codes::encode(residual, scratch, out)
            }

            #[target_feature(enable = $features)]
            pub(super) fn score(
                by: &Scoring,
                dots: &[i32],
                of: Corrections<'_>,
                estimates: &mut [f32],
            ) -> bool {
                codes::score(by, dots, of, estimates)
            }

            /// The sum of all lanes.
            #[target_feature(enable = $features)]
            fn total(sums: $vector) -> f32 {
                let mut lanes = [0f32; $lanes];
                // SAFETY: the array has room for the whole vector.
                unsafe { $store(lanes.as_mut_ptr(), sums) };
                let mut half = $lanes / 2;
                while half > 0 {
                    for lane in 0..half {
                        lanes[lane] += lanes[lane + half];
                    }
                    half /= 2;
                }
                lanes[0]
            }

            rows!(
                dot_rows,
                2,
                $features,
                $lanes,
                $zero,
                $load,
                |[product, square], q, x| [$multiply_add(q, x, product), $multiply_add(x, x, square)],
                |q, x| [q * x, x * x]
            );
            rows!(
                l2_rows,
                1,
                $features,
                $lanes,
                $zero,
                $load,
                |[sum], q, x| {
                    let d = $subtract(q, x);
                    [$multiply_add(d, d, sum)]
                },
                |q, x| [(q - x) * (q - x)]
            );
            block!(dots, $features, $lanes, $zero, $load, |sum, q, x| $multiply_add(q, x, sum), |q, x| q * x);
            block!(
                l2s,
                $features,
                $lanes,
                $zero,
                $load,
                |sum, q, x| {
                    let d = $subtract(q, x);
                    $multiply_add(d, d, sum)
                },
                |q, x| (q - x) * (q - x)
            );
        }
    };
}

/// A kernel of one query and rows side by side, with some sums for each. `step` adds a vector of terms to each of a row's;
/// `term` is one of each.
macro_rules! rows {
    ($name:ident, $sums:literal, $features:literal, $lanes:literal, $zero:ident, $load:ident,
     |$sum:pat_param, $q:ident, $x:ident| $step:expr, |$a:ident, $b:ident| $term:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(query: &[f32], rows: [&[f32]; STREAMS]) -> [[f32; $sums]; STREAMS] {
            let dim = query.len();
            assert!(rows.iter().all(|row| row.len() == dim), "vectors of one dimension");
            let whole = dim - dim % $lanes;
            let mut sums = [[$zero(); $sums]; STREAMS];
            for at in (0..whole).step_by($lanes) {
                // SAFETY: `at + $lanes` is at most `whole`, and that at most the length of the query.
                let $q = unsafe { $load(query.as_ptr().add(at)) };
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    // SAFETY: as above, and a row is as long as the query.
                    let ($sum, $x) = (*sums, unsafe { $load(row.as_ptr().add(at)) });
                    *sums = $step;
                }
            }
            let mut results = [[0.0; $sums]; STREAMS];
            for (row, (sums, out)) in rows.iter().zip(sums.iter().zip(&mut results)) {
                *out = sums.map(|sum| total(sum));
                for (&$a, &$b) in query[whole..].iter().zip(&row[whole..]) {
                    out.iter_mut().zip($term).for_each(|(sum, term)| *sum += term);
                }
            }
            results
        }
    };
}

/// A kernel of four queries and three rows. `step` adds a vector of terms to one of sums; `term` is one of them.
macro_rules! block {
    ($name:ident, $features:literal, $lanes:literal, $zero:ident, $load:ident,
     |$sum:ident, $q:ident, $x:ident| $step:expr, |$a:ident, $b:ident| $term:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(queries: [&[f32]; QUERIES], rows: [&[f32]; ROWS]) -> Block {
            let dim = rows[0].len();
            assert!(
                queries.iter().chain(&rows).all(|vector| vector.len() == dim),
                "vectors of one dimension"
            );
            let whole = dim - dim % $lanes;
            let mut sums = [[$zero(); ROWS]; QUERIES];
            for at in (0..whole).step_by($lanes) {
                let mut xs = [$zero(); ROWS];
                for (x, row) in xs.iter_mut().zip(&rows) {
                    // SAFETY: `at + $lanes` is at most `whole`, and that at most the length of the row.
                    *x = unsafe { $load(row.as_ptr().add(at)) };
                }
                for (sums, query) in sums.iter_mut().zip(&queries) {
                    // SAFETY: as above.
                    let $q = unsafe { $load(query.as_ptr().add(at)) };
                    for (sum, x) in sums.iter_mut().zip(&xs) {
                        let ($sum, $x) = (*sum, *x);
                        *sum = $step;
                    }
                }
            }
            let mut block = [[0.0; ROWS]; QUERIES];
            for (query, (sums, out)) in queries.iter().zip(sums.iter().zip(&mut block)) {
                for (row, (sum, out)) in rows.iter().zip(sums.iter().zip(out)) {
                    let rest = query[whole..].iter().zip(&row[whole..]);
                    *out = rest.fold(total(*sum), |sum, (&$a, &$b)| sum + $term);
                }
            }
            block
        }
    };
}

family!(
    AVX2,
    avx2,
    Family::Avx2,
    "avx2,fma",
    8,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_sub_ps,
    _mm256_fmadd_ps
);
family!(
    AVX512,
    avx512,
    Family::Avx512,
    "avx512f",
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_sub_ps,
    _mm512_fmadd_ps
);

/// Bytes that memory gives at once, and how far ahead they are asked for.
const CACHE_LINE: usize = 64;
const AHEAD: usize = 8192;
fn prefetch_line(address: *const u8) {
    #[allow(unused_unsafe, reason = "unsafe in older releases of Rust")]
    // SAFETY: a hint, which may name any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(address.cast())
    };
}

pub(super) fn prefetch(bytes: &[u8]) {
    bytes.chunks(CACHE_LINE).for_each(|line| prefetch_line(line.as_ptr()));
}

/// Bytes of a code for one group: a vector.
const HALF: usize = GROUP / 2;
/// Groups of which a sum fits in 16 bits: a sum of two products is at most 2 x 15 x 127, and a group has two of them.
const PART: usize = 4;

/// As the generic one. What is loaded of a query serves some codes, and a code that was unpacked serves all queries, as far
/// as there are registers for their sums.
#[target_feature(enable = "avx2,fma")]
fn code_dots(queries: &[&[Levels]], codes: &[u8], out: &mut [i32]) {
    let (_, rows) = codes::check_codes(queries, codes, out);
    for (queries, out) in queries.chunks(codes::QUERIES).zip(out.chunks_mut((codes::QUERIES * rows).max(1))) {
        match *queries {
            [a] => products::<1, 4>([a], codes, out),
            [a, b] => products::<2, 2>([a, b], codes, out),
            [a, b, c] => products::<3, 2>([a, b, c], codes, out),
            [a, b, c, d] => products::<4, 1>([a, b, c, d], codes, out),
            [a, b, c, d, e] => products::<5, 1>([a, b, c, d, e], codes, out),
            [a, b, c, d, e, f] => products::<6, 1>([a, b, c, d, e, f], codes, out),
            [a, b, c, d, e, f, g] => products::<7, 1>([a, b, c, d, e, f, g], codes, out),
            [a, b, c, d, e, f, g, h] => products::<8, 1>([a, b, c, d, e, f, g, h], codes, out),
            _ => unreachable!("one to eight queries"),
        }
    }
}

/// The products of `Q` queries with some codes, `R` codes at a time.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn products<const Q: usize, const R: usize>(queries: [&[Levels]; Q], codes: &[u8], out: &mut [i32]) {
    let (bytes, rows) = (queries[0].len() * HALF, out.len() / Q);
    assert!(codes.len() == rows * bytes && queries.iter().all(|query| query.len() * HALF == bytes));
    let mut put = |row: usize, column: &[i32; Q]| {
        column.iter().enumerate().for_each(|(query, product)| out[query * rows + row] = *product);
    };
    let whole = rows - rows % R;
    for row in (0..whole).step_by(R) {
        // SAFETY: there are `R` codes from here on, of as many groups as each query has.
        let columns: [[i32; Q]; R] = unsafe { products_of(&queries, &codes[row * bytes..]) };
        columns.iter().enumerate().for_each(|(n, column)| put(row + n, column));
    }
    for row in whole..rows {
        // SAFETY: as above.
        let [column] = unsafe { products_of(&queries, &codes[row * bytes..]) };
        put(row, &column);
    }
}

/// The products of `Q` queries with the first `R` codes.
///
/// # Safety
///
/// There are so many codes, and each query has as many groups as a code.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn products_of<const Q: usize, const R: usize>(
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
    let mut products = [[0; Q]; R];
    let (fours, rest) = totals.as_flattened().as_chunks();
    let (fours_out, rest_out) = products.as_flattened_mut().as_chunks_mut();
    fours.iter().zip(fours_out).for_each(|(totals, out)| *out = add_up(*totals));
    for (total, out) in rest.iter().zip(rest_out) {
        [*out, ..] = add_up([*total; 4]);
    }
    products
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
    if R > 1 {
        // The rows side by side are no stream that the processor would see ahead of: ask for what comes next.
        for line in 0..(R * HALF).div_ceil(CACHE_LINE) {
            prefetch_line(codes.as_ptr().wrapping_add(R * at + line * CACHE_LINE + AHEAD));
        }
    }
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
