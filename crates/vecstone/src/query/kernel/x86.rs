//! The kernels of x86-64 processors. Single rows: the generic code, compiled for the family. Blocks: by hand, since only
//! then do all sums stay in registers and each load serves three or four products.
#![expect(unsafe_code, reason = "instructions that not every processor has, and loads from slices")]

use super::{Block, Family, Kernels, QUERIES, ROWS, generic};
use std::arch::x86_64::*;

/// A family: its single kernels from the generic code, its block kernels from the names of its instructions.
macro_rules! family {
    ($kernels:ident, $module:ident, $family:expr, $features:literal, $lanes:literal,
     $zero:ident, $load:ident, $store:ident, $subtract:ident, $multiply_add:ident) => {
        pub(super) static $kernels: Kernels = Kernels {
            family: $family,
            // SAFETY: `Family::kernels` gives this out only where the processor has the instructions.
            dot: |q, x| unsafe { $module::dot(q, x) },
            // SAFETY: as above.
            l2: |q, x| unsafe { $module::l2(q, x) },
            // SAFETY: as above.
            dots: |queries, rows| unsafe { $module::dots(queries, rows) },
            // SAFETY: as above.
            l2s: |queries, rows| unsafe { $module::l2s(queries, rows) },
        };

        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) fn dot(q: &[f32], x: &[f32]) -> (f32, f32) {
                generic::dot::<true>(q, x)
            }

            #[target_feature(enable = $features)]
            pub(super) fn l2(q: &[f32], x: &[f32]) -> f32 {
                generic::l2::<true>(q, x)
            }

            block!(
                dots,
                $features,
                $lanes,
                $zero,
                $load,
                $store,
                |sum, q, x| $multiply_add(q, x, sum),
                |q, x| q * x
            );
            block!(
                l2s,
                $features,
                $lanes,
                $zero,
                $load,
                $store,
                |sum, q, x| {
                    let d = $subtract(q, x);
                    $multiply_add(d, d, sum)
                },
                |q, x| (q - x) * (q - x)
            );
        }
    };
}

/// A kernel of four queries and three rows. `step` adds a vector of terms to one of sums; `term` is one of them.
macro_rules! block {
    ($name:ident, $features:literal, $lanes:literal, $zero:ident, $load:ident, $store:ident,
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
                    let mut lanes = [0f32; $lanes];
                    // SAFETY: the array has room for the whole vector.
                    unsafe { $store(lanes.as_mut_ptr(), *sum) };
                    let mut half = $lanes / 2;
                    while half > 0 {
                        for lane in 0..half {
                            lanes[lane] += lanes[lane + half];
                        }
                        half /= 2;
                    }
                    let rest = query[whole..].iter().zip(&row[whole..]);
                    *out = rest.fold(lanes[0], |sum, (&$a, &$b)| sum + $term);
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
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_sub_ps,
    _mm512_fmadd_ps
);
