//! Reflections that turn the directions in which rows differ most into the first components of a code.
//!
//! The directions are principal components of what rows are less their centres (I. Jolliffe, Principal Component
//! Analysis, 2002), found by orthogonal iteration, and made reflections by Householder's method (both in G. Golub and
//! C. Van Loan, Matrix Computations, 2013, sections 8.2 and 5.2). A reflection keeps every length, whatever direction it
//! has: directions that are badly chosen make a search slower and no answer wrong.

use crate::segment::codes;
use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::frame::split_mix;
use crate::sys::kernel::codes::GROUP;
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
/// Rounds of orthogonal iteration. Another one gains half a hundredth of the squares.
const ROUNDS: usize = 3;

/// Some reflections of vectors of `width` components. The first is at a vector of all components, the next of all but the
/// first, and so on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reflections {
    width: usize,
    /// The vectors, one after the other.
    values: Vec<f32>,
    /// 2 / |u|² of each.
    scales: Vec<f64>,
}

impl Reflections {
    /// Numbers in the vectors of so many reflections, at most as many as there are components.
    pub(crate) fn numbers(width: u64, count: u64) -> u64 {
        (0..count).map(|n| width - n).sum()
    }

    /// Of vectors as they are stored; `None` if one has no direction.
    pub(crate) fn of_stored(width: usize, count: usize, values: Vec<f32>) -> Option<Reflections> {
        let mut reflections = Reflections { width, values, scales: Vec::new() };
        let mut start = 0;
        for n in 0..count {
            let vector = reflections.values.get(start..start + width - n)?;
            reflections.scales.push(scale(vector)?);
            start += width - n;
        }
        (start == reflections.values.len()).then_some(reflections)
    }

    pub(crate) fn stored(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn count(&self) -> usize {
        self.scales.len()
    }

    /// Each vector with its scale and the first component that it is for.
    fn each(&self) -> impl DoubleEndedIterator<Item = (&[f32], f64, usize)> {
        let at = |n: usize| {
            let start = n * self.width - n * n.saturating_sub(1) / 2;
            (&self.values[start..start + self.width - n], self.scales[n], n)
        };
        (0..self.count()).map(at)
    }

    /// Applies all to a vector. O(count * width).
    pub(crate) fn apply(&self, kernels: &Kernels, vector: &mut [f32]) {
        apply(kernels, self.each(), vector);
    }

    /// Undoes that, about.
    pub(crate) fn apply_back(&self, kernels: &Kernels, vector: &mut [f32]) {
        apply(kernels, self.each().rev(), vector);
    }

    /// The relative error of a reflected vector: it is rounded to f32 once. In f64 each reflection has sums of at most
    /// `width` terms and a scale that is such a sum itself.
    pub(crate) fn rounding(&self) -> f64 {
        let of_each = 4.0 * (self.width + 8) as f64 * f64::EPSILON;
        if self.scales.is_empty() { 0.0 } else { f64::from(f32::EPSILON) + self.count() as f64 * of_each }
    }

    /// Adds the reflection that takes a vector, as those before it have left it, to its first component.
    fn push(&mut self, vector: &[f64]) {
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "stored as f32; the scale is of what is stored")]
        let mut at: Vec<f32> = vector.iter().map(|&x| (x / norm) as f32).collect();
        at[0] += if at[0] < 0.0 { -1.0 } else { 1.0 };
        let found = scale(&at);
        if found.is_none() {
            at.fill(0.0);
            at[0] = 1.0;
        }
        self.scales.push(found.unwrap_or(2.0));
        self.values.extend(at);
    }
}

/// Applies some reflections, which are their own inverses, in order.
fn apply<'a>(
    kernels: &Kernels,
    mut each: impl DoubleEndedIterator<Item = (&'a [f32], f64, usize)>,
    vector: &mut [f32],
) {
    let Some(one) = each.next() else { return };
    let mut wide: Vec<f64> = vector.iter().map(|&x| f64::from(x)).collect();
    for (at, scale, from) in std::iter::once(one).chain(each) {
        (kernels.reflect)(at, scale, &mut wide[from..]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
    vector.iter_mut().zip(wide).for_each(|(x, wide)| *x = wide as f32);
}

/// 2 / |u|²; `None` if that is no scale.
fn scale(vector: &[f32]) -> Option<f64> {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (1e-30..1e30).contains(&square).then(|| 2.0 / square)
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
    if is_worth || for_all { householder(kernels, directions, first) } else { Reflections::default() }
}

/// The reflections that take the first directions to the first components.
fn householder(kernels: &Kernels, directions: Matrix<'_>, first: usize) -> Reflections {
    let mut reflections = Reflections { width: directions.width, ..Reflections::default() };
    for n in 0..first {
        let mut direction: Vec<f64> = directions.row(n).iter().map(|&x| f64::from(x)).collect();
        for (at, scale, from) in reflections.each() {
            (kernels.reflect)(at, scale, &mut direction[from..]);
        }
        reflections.push(&direction[n..]);
    }
    reflections
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
