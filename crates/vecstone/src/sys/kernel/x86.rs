//! The kernels of x86-64 processors. Single rows: the generic code, compiled for the family. Rows side by side, blocks and
//! products of codes: by hand, since only then do all sums stay in registers and each load serves several products.
#![expect(unsafe_code, reason = "instructions that not every processor has, and loads from slices")]

use super::codes::{self, Correction, Reflected, Residual, Scratch};
use super::{Block, Family, Kernels, QUERIES, ROWS, STREAMS, generic};
use std::arch::x86_64::*;

mod products;
mod score;
mod signs;

/// A family: its single kernels from the generic code, the others from the names of its instructions.
macro_rules! family {
    ($kernels:ident, $module:ident, $family:expr, $features:literal, $lanes:literal, $vector:ident,
     $zero:ident, $load:ident, $store:ident, $subtract:ident, $multiply_add:ident, $packed_dots:expr) => {
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
            reflect: |by, is_forward, x| unsafe { $module::reflect(by, is_forward, x) },
            // SAFETY: as above.
            encode: |residual, scratch, out| unsafe { $module::encode(residual, scratch, out) },
            // SAFETY: as above.
            encode_signs: |residual, scratch, out| unsafe { $module::encode_signs(residual, scratch, out) },
            // SAFETY: as above.
            sign_dots: |query, signs, out| unsafe { signs::$module(query, signs, out) },
            // SAFETY: as above.
            code_dots: |queries, codes, out| unsafe { products::$module::code_dots(queries, codes, out) },
            packed_dots: $packed_dots,
            // SAFETY: as above.
            score: |by, dots, of, estimates| unsafe { score::$module(by, dots, of, estimates) },
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
            pub(super) fn reflect(by: &Reflected, is_forward: bool, x: &mut [f64]) {
                codes::reflect::<true>(by, is_forward, x);
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
            pub(super) fn encode_signs(
                residual: &Residual<'_>,
                scratch: &mut Scratch,
                out: &mut [u8],
            ) -> Correction {
                codes::encode_signs(residual, scratch, out)
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
    _mm256_fmadd_ps,
    // Products of 16 bits are to be added up now and then all the same.
    None
);
family!(
    AVX512,
    avx512,
    Family::Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl",
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_sub_ps,
    _mm512_fmadd_ps,
    // SAFETY: as above.
    Some(|queries, packed, out| unsafe { products::packed_dots(queries, packed, out) })
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

pub(super) fn prefetch<T>(values: &[T]) {
    const { assert!(size_of::<T>() > 0 && size_of::<T>() <= CACHE_LINE, "some to a line") };
    values.chunks(CACHE_LINE / size_of::<T>()).for_each(|line| prefetch_line(line.as_ptr().cast()));
}
