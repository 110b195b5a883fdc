//! Reflections that turn the directions in which rows differ most into the first components of a code.
//!
//! The directions are principal components of what rows are less their centres (I. Jolliffe, Principal Component
//! Analysis, 2002), found by orthogonal iteration, and made reflections by Householder's method (both in G. Golub and
//! C. Van Loan, Matrix Computations, 2013, sections 8.2 and 5.2). A reflection keeps every length, whatever direction it
//! has: directions that are badly chosen make a search slower and no answer wrong.

use crate::segment::codes;
use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::frame::split_mix;
use crate::sys::kernel::codes::{GROUP, REFLECTED, Reflected, product as product_of};
use crate::sys::kernel::{Kernels, QUERIES, ROWS};
use crate::sys::parallel;
use std::array;
use std::convert::Infallible;

/// The share of all squares that the first part is to have, at least.
const SHARE: f64 = 0.85;
/// The first part has at most so many eighths of the components, or it saves too little.
const MOST_EIGHTHS: usize = 5;
/// Vectors with more components are not divided: reflecting one takes time in the square of their number.
const MOST_COMPONENTS: usize = 2048;
/// Vectors in the sample for each component: with few, every direction seems to be found.
pub(crate) const SAMPLE: usize = 16;
const LEAST_SAMPLE: usize = 8;
/// Vectors to which a block of reflections is applied before the next one.
const AT_ONCE: usize = 8;
/// Rounds of orthogonal iteration. Another one gains half a hundredth of the squares.
const ROUNDS: usize = 3;

/// Some reflections of vectors of `width` components, a multiple of [`REFLECTED`] many. The first is at a vector of all
/// components, the next of all but the first, and so on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reflections {
    width: usize,
    /// The vectors as they are stored, one after the other.
    stored: Vec<f32>,
    /// For each eight of them.
    blocks: Vec<Reflected>,
}

impl Reflections {
    /// Numbers in the vectors of so many reflections, at most as many as there are components.
    pub(crate) fn numbers(width: u64, count: u64) -> u64 {
        (0..count).map(|n| width - n).sum()
    }

    /// Of vectors as they are stored; `None` if one has no direction.
    pub(crate) fn of_stored(width: usize, count: usize, stored: Vec<f32>) -> Option<Reflections> {
        let (mut blocks, mut start) = (Vec::new(), 0);
        for from in (0..count).step_by(REFLECTED) {
            let len = width - from;
            let (mut vectors, mut scales) = (vec![0f32; REFLECTED * len], [0f64; REFLECTED]);
            for ((n, wide), scale) in vectors.chunks_exact_mut(len).enumerate().zip(&mut scales) {
                let vector = stored.get(start..start + len - n)?;
                *scale = 2.0 / square_of(vector)?;
                wide[n..].copy_from_slice(vector);
                start += len - n;
            }
            let wide: Vec<f64> = vectors.iter().map(|&x| f64::from(x)).collect();
            let vector = |n: usize| &wide[n * len..(n + 1) * len];
            let gram = array::from_fn(|a| array::from_fn(|b| product_of(vector(a), vector(b))));
            blocks.push(Reflected { vectors, scales, gram });
        }
        (start == stored.len()).then_some(Reflections { width, stored, blocks })
    }

    pub(crate) fn stored(&self) -> &[f32] {
        &self.stored
    }

    pub(crate) fn count(&self) -> usize {
        self.blocks.len() * REFLECTED
    }

    /// Applies all to each of some vectors, which are one after the other. O(vectors * count * width).
    pub(crate) fn apply(&self, kernels: &Kernels, vectors: &mut [f32]) {
        self.apply_in(kernels, true, vectors);
    }

    /// Undoes that, about.
    pub(crate) fn apply_back(&self, kernels: &Kernels, vectors: &mut [f32]) {
        self.apply_in(kernels, false, vectors);
    }

    fn apply_in(&self, kernels: &Kernels, is_forward: bool, vectors: &mut [f32]) {
        if self.blocks.is_empty() {
            return;
        }
        for vectors in vectors.chunks_mut(AT_ONCE * self.width) {
            let mut wide: Vec<f64> = vectors.iter().map(|&x| f64::from(x)).collect();
            for n in 0..self.blocks.len() {
                let n = if is_forward { n } else { self.blocks.len() - 1 - n };
                let (by, from) = (&self.blocks[n], n * REFLECTED);
                wide.chunks_exact_mut(self.width)
                    .for_each(|x| (kernels.reflect)(by, is_forward, &mut x[from..]));
            }
            #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
            vectors.iter_mut().zip(wide).for_each(|(x, wide)| *x = wide as f32);
        }
    }

    /// The relative error of a reflected vector. It is rounded to f32 once. In f64, with n the components and ε the
    /// rounding, u·x, u·u' and |u|² are off by (n + 8) ε at most, relative to the lengths; so w |u|, which is at most 2, by
    /// 4 (n + 8) ε times 1 for its own product and 2 for each of up to seven w before it, and by twice what each of these
    /// is off, which makes 3⁷ of it; and what eight of them take off together by half more.
    pub(crate) fn rounding(&self) -> f64 {
        let of_block = 1.5 * 4.0 * 15.0 * 2187.0 * (self.width + 8) as f64 * f64::EPSILON;
        if self.blocks.is_empty() {
            0.0
        } else {
            f64::from(f32::EPSILON) + self.blocks.len() as f64 * of_block
        }
    }
}

/// |u|²; `None` if that is no direction's.
fn square_of(vector: &[f32]) -> Option<f64> {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (1e-30..1e30).contains(&square).then_some(square)
}

/// Reflections for vectors like these, which are what rows are less their centres; none if no few directions have most of
/// them.
pub(crate) fn principal(kernels: &Kernels, vectors: Matrix<'_>, threads: usize) -> Reflections {
    let (width, for_all) = (vectors.width, codes::are_for_all());
    let most = if for_all { GROUP } else { width * MOST_EIGHTHS / 8 / GROUP * GROUP };
    let is_enough = vectors.rows() >= LEAST_SAMPLE * width || for_all;
    if most == 0 || most >= width || width > MOST_COMPONENTS || !is_enough {
        return Reflections::default();
    }
    let covariance = covariance(kernels, vectors, threads);
    let covariance = Matrix { values: &covariance, width };
    let all: f64 = (0..width).map(|n| f64::from(covariance.row(n)[n])).sum();
    let directions = directions(kernels, covariance, most, threads);
    let directions = Matrix { values: &directions, width };
    let images = product(kernels, directions, covariance, threads);
    let of = |n: usize| f64::from((kernels.dot)(directions.row(n), &images[n * width..][..width]).0);
    let (mut share, mut first) = (0.0, 0);
    while first < most && (share < SHARE * all || first % GROUP != 0) {
        share += of(first);
        first += 1;
    }
    let is_worth = first > 0 && share >= SHARE * all;
    if is_worth || for_all { householder(directions, first) } else { Reflections::default() }
}

/// The reflections that take the first directions to the first components.
fn householder(directions: Matrix<'_>, first: usize) -> Reflections {
    let width = directions.width;
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(first);
    for n in 0..first {
        let mut direction: Vec<f64> = directions.row(n).iter().map(|&x| f64::from(x)).collect();
        for (from, vector) in vectors.iter().enumerate() {
            let along = 2.0 * product_of(vector, &direction[from..]) / product_of(vector, vector);
            direction[from..].iter_mut().zip(vector).for_each(|(x, u)| *x -= along * u);
        }
        vectors.push(reflection_of(&direction[n..]));
    }
    #[expect(clippy::cast_possible_truncation, reason = "numbers of f32")]
    let stored = vectors.concat().into_iter().map(|x| x as f32).collect();
    Reflections::of_stored(width, first, stored).unwrap_or_default()
}

/// The vector of the reflection that takes a vector to its first component, in numbers of f32.
fn reflection_of(vector: &[f64]) -> Vec<f64> {
    let norm = product_of(vector, vector).sqrt();
    let mut at: Vec<f64> = vector.iter().map(|x| x / norm).collect();
    at[0] += if at[0] < 0.0 { -1.0 } else { 1.0 };
    #[expect(clippy::cast_possible_truncation, reason = "stored as f32")]
    let mut stored: Vec<f32> = at.iter().map(|&x| x as f32).collect();
    if square_of(&stored).is_none() {
        stored.fill(0.0);
        stored[0] = 1.0;
    }
    stored.into_iter().map(f64::from).collect()
}

/// The sum of each component times each other one, over all vectors.
fn covariance(kernels: &Kernels, vectors: Matrix<'_>, threads: usize) -> Vec<f32> {
    let (width, count) = (vectors.width, vectors.rows());
    let mut columns = vec![0f32; width * count];
    for n in 0..count {
        vectors.row(n).iter().enumerate().for_each(|(component, &x)| columns[component * count + n] = x);
    }
    let columns = Matrix { values: &columns, width: count };
    product(kernels, columns, columns, threads)
}

/// For each vector of `a` its product with each of `b`.
fn product(kernels: &Kernels, a: Matrix<'_>, b: Matrix<'_>, threads: usize) -> Vec<f32> {
    let (of_a, of_b) = (a.rows(), b.rows());
    let mut out = vec![0f32; of_a * of_b];
    let multiply = |(): &mut (), (tile, out): (usize, &mut [f32])| {
        let first = tile * QUERIES;
        let queries = array::from_fn(|n| a.row((first + n).min(of_a - 1)));
        for start in (0..of_b).step_by(ROWS) {
            let block = (kernels.dots)(queries, array::from_fn(|n| b.row((start + n).min(of_b - 1))));
            for (out, products) in out.chunks_exact_mut(of_b).zip(block) {
                out[start..].iter_mut().zip(products).for_each(|(out, product)| *out = product);
            }
        }
        Ok::<(), Infallible>(())
    };
    let tiles = out.chunks_mut(QUERIES * of_b).enumerate();
    let Ok(_) = parallel::for_each_piece(tiles, threads as u64, threads, || (), multiply);
    out
}

/// The first principal directions, about, the greatest first: orthonormal vectors.
fn directions(kernels: &Kernels, covariance: Matrix<'_>, count: usize, threads: usize) -> Vec<f32> {
    let (width, mut random) = (covariance.width, 1);
    let mut number = || (split_mix(&mut random) >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
    let mut found: Vec<f32> = (0..count * width).map(|_| number()).collect();
    for _ in 0..ROUNDS {
        found = product(kernels, Matrix { values: &found, width }, covariance, threads);
        orthonormalize(kernels, &mut found, width);
    }
    found
}

/// Takes off each vector what it has of those before it (modified Gram-Schmidt), and makes its length 1.
fn orthonormalize(kernels: &Kernels, vectors: &mut [f32], width: usize) {
    for n in 0..vectors.len() / width {
        let (before, vector) = vectors.split_at_mut(n * width);
        let vector = &mut vector[..width];
        let scale = |vector: &mut [f32]| {
            let norm = (kernels.dot)(vector, vector).1.sqrt().max(f32::MIN_POSITIVE);
            vector.iter_mut().for_each(|x| *x /= norm);
        };
        scale(vector);
        for before in before.chunks_exact(width) {
            let along = (kernels.dot)(before, vector).0;
            vector.iter_mut().zip(before).for_each(|(x, before)| *x -= along * before);
        }
        scale(vector);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::kernel::Family;
    use crate::tests::model::Random;

    fn vector(random: &mut Random, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| random.below(2_000_001) as f32 / 1e6 - 1.0).collect()
    }

    fn square(values: &[f32]) -> f64 {
        values.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
    }

    /// Vectors that differ in `of` directions, and a little in all.
    fn in_few(random: &mut Random, width: usize, of: usize, rows: usize) -> Vec<f32> {
        let directions: Vec<Vec<f32>> = (0..of).map(|_| vector(random, width)).collect();
        let mut values = Vec::new();
        for _ in 0..rows {
            let mut row = vector(random, width);
            row.iter_mut().for_each(|x| *x *= 0.1);
            for direction in &directions {
                let along = random.below(2_000_001) as f32 / 1e6 - 1.0;
                row.iter_mut().zip(direction).for_each(|(x, d)| *x += along * d);
            }
            values.extend(row);
        }
        values
    }

    #[test]
    fn what_rows_differ_in_comes_first() {
        let mut random = Random(61);
        let width = 256;
        let values = in_few(&mut random, width, 40, 4096);
        for kernels in Family::available() {
            let reflections = principal(kernels, Matrix { values: &values, width }, 2);
            assert_eq!(reflections.count(), GROUP, "forty directions are in one group");
            for row in values.chunks_exact(width).take(50) {
                let mut out = row.to_vec();
                reflections.apply(kernels, &mut out);
                assert!(square(&out[..GROUP]) > 0.9 * square(row));
            }
        }
    }

    #[test]
    fn what_has_no_direction_is_not_divided() {
        let mut random = Random(62);
        let kernels = crate::sys::kernel::kernels();
        let noise: Vec<f32> = (0..2048).flat_map(|_| vector(&mut random, 128)).collect();
        assert_eq!(principal(kernels, Matrix { values: &noise, width: 128 }, 1).count(), 0);
        // Of few vectors every direction seems to be the right one.
        let few = in_few(&mut random, 256, 40, 100);
        assert_eq!(principal(kernels, Matrix { values: &few, width: 256 }, 1).count(), 0);
        for width in [64, 128] {
            let same = vec![0.0; width * 1024];
            assert_eq!(principal(kernels, Matrix { values: &same, width }, 1).count(), 0);
        }
    }

    /// Whatever the vectors are, lengths and distances stay, within the error that is promised.
    #[test]
    fn any_reflections_keep_lengths() {
        let mut random = Random(63);
        for (width, count) in [(128, 64), (192, 64), (384, 192), (1024, 512)] {
            let numbers = usize::try_from(Reflections::numbers(width as u64, count as u64)).expect("small");
            let mut values = vector(&mut random, numbers);
            values.iter_mut().step_by(97).for_each(|x| *x *= 1e6);
            let reflections = Reflections::of_stored(width, count, values).expect("directions");
            for kernels in Family::available() {
                let row = vector(&mut random, width);
                let mut out = row.clone();
                reflections.apply(kernels, &mut out);
                assert_ne!(row, out);
                let (right, found) = (square(&row).sqrt(), square(&out).sqrt());
                assert!((right - found).abs() <= reflections.rounding() * right, "{width} {right} {found}");
                reflections.apply_back(kernels, &mut out);
                let off: f64 = row.iter().zip(out).map(|(&a, b)| f64::from(a - b).powi(2)).sum();
                assert!(off.sqrt() <= 2.0 * reflections.rounding() * right);
            }
        }
    }

    #[test]
    fn stored_vectors_have_a_direction_and_the_right_length() {
        let numbers = usize::try_from(Reflections::numbers(128, 64)).expect("small");
        let of = |values| Reflections::of_stored(128, 64, values);
        assert!(of(vec![1.0; numbers]).is_some());
        assert!(of(vec![1.0; numbers - 1]).is_none() && of(vec![1.0; numbers + 1]).is_none());
        for odd in [0.0, f32::NAN, f32::INFINITY, 1e30, 1e-30] {
            let mut values = vec![1.0; numbers];
            values[128..255].fill(odd);
            assert!(of(values).is_none(), "{odd}");
        }
    }
}
