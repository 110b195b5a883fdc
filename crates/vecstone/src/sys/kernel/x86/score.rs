//! Scores of codes, with the bits of [`codes::score`]: no product is added without being rounded.

use crate::sys::kernel::codes::{self, Corrections, Scoring};
use std::arch::x86_64::*;

/// As the generic one, sixteen codes at a time.
#[target_feature(enable = "avx512f")]
pub(super) fn avx512(by: &Scoring, dots: &[i32], of: Corrections<'_>, estimates: &mut [f32]) -> u128 {
    const LANES: usize = 16;
    codes::check_scored(dots, of, estimates);
    let [half_step, share, margin] = [by.half_step, by.share, by.margin].map(|x| _mm512_set1_ps(x));
    let [of_beyond, least] = [by.beyond, by.least].map(|x| _mm512_set1_ps(x));
    let (bias, mut kept) = (_mm512_set1_epi32(by.bias), 0);
    for start in (0..dots.len()).step_by(LANES) {
        let count = LANES.min(dots.len() - start);
        let lanes = u16::MAX >> (LANES - count);
        // SAFETY: only `count` numbers are loaded, which every array has from `start` on.
        let load = |values: &[f32]| unsafe { _mm512_maskz_loadu_ps(lanes, values.as_ptr().add(start)) };
        // SAFETY: as above.
        let dots = unsafe { _mm512_maskz_loadu_epi32(lanes, dots.as_ptr().add(start)) };
        let beyond = if of.beyond.is_empty() { _mm512_setzero_ps() } else { load(of.beyond) };
        let number = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_add_epi32(dots, dots), bias));
        let product = _mm512_mul_ps(load(of.a), _mm512_mul_ps(half_step, number));
        let estimate = _mm512_add_ps(product, _mm512_mul_ps(share, load(of.h)));
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(estimates.as_mut_ptr().add(start), lanes, estimate) };
        let bound = _mm512_add_ps(estimate, _mm512_mul_ps(load(of.e), margin));
        let bound = _mm512_add_ps(bound, _mm512_mul_ps(beyond, of_beyond));
        let bits = _mm512_mask_cmp_ps_mask::<_CMP_NLT_UQ>(lanes, bound, least);
        kept |= u128::from(bits) << start;
    }
    kept
}

/// As the generic one, eight codes at a time.
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2(by: &Scoring, dots: &[i32], of: Corrections<'_>, estimates: &mut [f32]) -> u128 {
    const LANES: usize = 8;
    codes::check_scored(dots, of, estimates);
    let [half_step, share, margin] = [by.half_step, by.share, by.margin].map(|x| _mm256_set1_ps(x));
    let [of_beyond, least] = [by.beyond, by.least].map(|x| _mm256_set1_ps(x));
    let (bias, mut kept) = (_mm256_set1_epi32(by.bias), 0);
    for start in (0..dots.len()).step_by(LANES) {
        let mut few = [0; LANES];
        few[..LANES.min(dots.len() - start)].fill(-1);
        // SAFETY: the array is as long as a vector.
        let lanes = unsafe { _mm256_loadu_si256(few.as_ptr().cast()) };
        // SAFETY: only as many numbers are loaded as every array has from `start` on.
        let load = |values: &[f32]| unsafe { _mm256_maskload_ps(values.as_ptr().add(start), lanes) };
        // SAFETY: as above.
        let dots = unsafe { _mm256_maskload_epi32(dots.as_ptr().add(start), lanes) };
        let beyond = if of.beyond.is_empty() { _mm256_setzero_ps() } else { load(of.beyond) };
        let number = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_add_epi32(dots, dots), bias));
        let product = _mm256_mul_ps(load(of.a), _mm256_mul_ps(half_step, number));
        let estimate = _mm256_add_ps(product, _mm256_mul_ps(share, load(of.h)));
        // SAFETY: as above.
        unsafe { _mm256_maskstore_ps(estimates.as_mut_ptr().add(start), lanes, estimate) };
        let bound = _mm256_add_ps(estimate, _mm256_mul_ps(load(of.e), margin));
        let bound = _mm256_add_ps(bound, _mm256_mul_ps(beyond, of_beyond));
        let is_kept = _mm256_cmp_ps::<_CMP_NLT_UQ>(bound, least);
        let bits = _mm256_movemask_ps(_mm256_and_ps(is_kept, _mm256_castsi256_ps(lanes)));
        kept |= u128::from(bits.cast_unsigned()) << start;
    }
    kept
}
