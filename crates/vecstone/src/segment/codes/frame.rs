//! The frame in which vectors are coded: less the mean of the store, and rotated.

use crate::segment::codes::reflect::Reflections;
use crate::sys::kernel::Kernels;
use crate::sys::kernel::codes::GROUP;
use crate::types::config::Metric;

/// Vectors with a norm outside of this range are not coded: their squares would leave f32.
const NORMS: std::ops::RangeInclusive<f64> = SMALLEST_NORM..=LARGEST_NORM;
const LARGEST_NORM: f64 = (1u64 << 60) as f64;
const SMALLEST_NORM: f64 = 1.0 / LARGEST_NORM;
/// Half the distance from 1 to the next number of f32: the largest relative error of one rounding.
pub(crate) const UNIT: f64 = (f32::EPSILON / 2.0) as f64;
/// The greatest |a l| / |Y'| of a code, and the greatest |e| / |Y'|: no code has a cosine below 1/4.
pub(crate) const OF_RADIUS: f64 = 4.001;
/// Rounds of the rotation: after two, every component of a vector has come to every place.
const ROUNDS: usize = 2;

/// A rotation that spreads what is in few components over all: signs drawn at random before a Hadamard transform, of the
/// first power of two of components, then of the last, twice (as in N. Ailon and B. Chazelle, The Fast
/// Johnson-Lindenstrauss Transform, 2009). O(components * log(components)).
#[derive(Debug, Clone)]
struct Rotation {
    /// For each transform. The second of a round undoes half of the first where there are none between.
    signs: [Vec<f32>; 2 * ROUNDS],
    scale: f32,
}

impl Rotation {
    /// `random`: the state of a generator, which goes on.
    fn new(components: usize, random: &mut u64) -> Rotation {
        // The largest power of two that is not above the number of components.
        let block = 1usize << components.ilog2();
        let mut sign = || if split_mix(random) >> 63 == 0 { 1.0 } else { -1.0 };
        let signs = std::array::from_fn(|_| (0..block).map(|_| sign()).collect());
        #[expect(clippy::cast_possible_truncation, reason = "the scale is f32")]
        let scale = (1.0 / (block as f64).sqrt()) as f32;
        Rotation { signs, scale }
    }

    fn rotate(&self, kernels: &Kernels, values: &mut [f32]) {
        let block = self.signs[0].len();
        let last = values.len() - block;
        for [of_first, of_last] in self.signs.as_chunks::<2>().0 {
            self.transform(kernels, of_first, &mut values[..block]);
            if last > 0 {
                self.transform(kernels, of_last, &mut values[last..]);
            }
        }
    }

    fn rotate_back(&self, kernels: &Kernels, values: &mut [f32]) {
        let block = self.signs[0].len();
        let last = values.len() - block;
        for [of_first, of_last] in self.signs.as_chunks::<2>().0.iter().rev() {
            if last > 0 {
                self.transform_back(kernels, of_last, &mut values[last..]);
            }
            self.transform_back(kernels, of_first, &mut values[..block]);
        }
    }

    /// The transform is its own inverse.
    fn transform_back(&self, kernels: &Kernels, signs: &[f32], block: &mut [f32]) {
        (kernels.hadamard)(block);
        block.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign * self.scale);
    }

    fn transform(&self, kernels: &Kernels, signs: &[f32], block: &mut [f32]) {
        block.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
        (kernels.hadamard)(block);
        block.iter_mut().for_each(|value| *value *= self.scale);
    }

    /// The relative error of the result's norm-wise: a rounding for each stage of a transform, two for its scale, which is
    /// rounded itself, and eight to spare for their products.
    fn rounding(&self) -> f64 {
        let of_block = f64::from(self.signs[0].len().ilog2() + 2);
        (ROUNDS as f64 * 2.0 * of_block + 8.0) * UNIT
    }
}

/// The generator SplitMix64 (G. Steele, D. Lea and C. Flood, Fast Splittable Pseudorandom Number Generators, 2014).
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// What codes of one store have in common. A vector *y* (for cosine: x / |x|) is coded as R(y - m), with R a rotation and
/// m the mean. Where rows differ more in some directions than in others, R first turns those into the first components:
/// the first part of a code says most of a row, and the second is looked at seldom. Within a part, all is spread.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    pub(crate) mean: Vec<f32>,
    pub(crate) reflections: Reflections,
    /// Of the first part, and of the second.
    rotations: Vec<Rotation>,
}

impl Frame {
    /// Components of a coded vector: whole groups.
    pub(crate) fn padded(dim: usize) -> usize {
        dim.next_multiple_of(GROUP)
    }

    /// `mean` has `dim` components; for raw inner products they are zero. The reflections, of the padded number of
    /// components, are none, or as many as the first part has components: whole groups.
    pub(crate) fn new(metric: Metric, mean: Vec<f32>, seed: [u8; 16], reflections: Reflections) -> Frame {
        let (low, high) = seed.split_at(8);
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let mut random = word(low) ^ word(high).rotate_left(32);
        let (dim, width, first) = (mean.len(), Self::padded(mean.len()), reflections.count());
        let parts = [first, width - first].into_iter().filter(|&part| part > 0);
        let rotations = parts.map(|part| Rotation::new(part, &mut random)).collect();
        Frame { metric, dim, mean, reflections, rotations }
    }

    /// Whether codes have two parts.
    pub(crate) fn is_divided(&self) -> bool {
        self.rotations.len() > 1
    }

    /// Components of the first part of a code; all if there is no second.
    pub(crate) fn first(&self) -> usize {
        if self.is_divided() { self.reflections.count() } else { Self::padded(self.dim) }
    }

    /// Brings a vector into the frame; `out` has the padded number of components. False if it is not to be coded: its norm
    /// is zero, not a number, too small or too large. (A vector of zeros is coded, but for cosine.)
    pub(crate) fn place(&self, kernels: &Kernels, vector: &[f32], out: &mut [f32]) -> bool {
        let is_coded = offset(self.metric, &self.mean, vector, out);
        if is_coded {
            self.turn(kernels, out);
        }
        is_coded
    }

    /// R of each of some vectors, which are one after the other.
    pub(crate) fn turn(&self, kernels: &Kernels, vectors: &mut [f32]) {
        self.reflections.apply(kernels, vectors);
        vectors.chunks_exact_mut(Self::padded(self.dim)).for_each(|vector| self.rotate(kernels, vector));
    }

    fn rotate(&self, kernels: &Kernels, values: &mut [f32]) {
        let (first, second) = values.split_at_mut(self.first());
        for (rotation, part) in self.rotations.iter().zip([first, second]) {
            rotation.rotate(kernels, part);
        }
    }

    /// The inverse of R, about.
    pub(crate) fn turn_back(&self, kernels: &Kernels, values: &mut [f32]) {
        let (first, second) = values.split_at_mut(self.first());
        for (rotation, part) in self.rotations.iter().zip([first, second]) {
            rotation.rotate_back(kernels, part);
        }
        self.reflections.apply_back(kernels, values);
    }

    /// How far the place of a vector is at most from the right one, where the result has this norm: of each component a
    /// rounding of the difference and those of the rotation, relative to that norm; for cosine two of the norm and one of
    /// the product, relative to 1; and what is lost below the smallest numbers of f32.
    pub(crate) fn error(&self, norm: f64) -> f64 {
        let of_cosine = if self.metric == Metric::Cosine { 4.0 * UNIT } else { 0.0 };
        let lost = Self::padded(self.dim) as f64 * f64::from(f32::MIN_POSITIVE);
        let of_parts = self.rotations.iter().map(Rotation::rounding).fold(0.0, f64::max);
        (self.reflections.rounding() + of_parts + 2.0 * UNIT) * norm + of_cosine + lost
    }
}

/// Components of each part of codes of `dim` components, of which the first has so many. 0: there is one part, and the
/// second has none.
pub(crate) fn parts(first: usize, dim: usize) -> [usize; 2] {
    let width = Frame::padded(dim);
    let first = if first == 0 { width } else { first };
    [first, width - first]
}

/// Whether the first part of codes of `dim` components may have so many, or none.
pub(crate) fn is_first_part(first: usize, dim: usize) -> bool {
    first.is_multiple_of(GROUP) && first < Frame::padded(dim)
}

/// A vector less the mean, for cosine divided by its norm before. False if it is not to be coded.
pub(crate) fn offset(metric: Metric, mean: &[f32], vector: &[f32], out: &mut [f32]) -> bool {
    let Some(scale) = scale_of(metric, vector) else { return false };
    for ((out, &x), &mean) in out.iter_mut().zip(vector).zip(mean) {
        *out = x * scale - mean;
    }
    out[mean.len()..].fill(0.0);
    true
}

/// What a vector is multiplied by before it is coded: 1, but for cosine. `None` if it is not coded.
pub(crate) fn scale_of(metric: Metric, vector: &[f32]) -> Option<f32> {
    let norm = norm(vector);
    let is_coded = NORMS.contains(&norm) || (norm == 0.0 && metric != Metric::Cosine);
    #[expect(clippy::cast_possible_truncation, reason = "the scale is f32")]
    let scale = if metric == Metric::Cosine { (1.0 / norm) as f32 } else { 1.0 };
    is_coded.then_some(scale)
}

/// The norm of a vector, by sums in f64.
pub(crate) fn norm(vector: &[f32]) -> f64 {
    let (parts, rest) = vector.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for part in parts {
        for (sum, &x) in sums.iter_mut().zip(part) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (sums.iter().sum::<f64>() + rest).sqrt()
}

/// The distance of two vectors of whole groups, by sums in f64.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for lane in 0..8 {
            let difference = f64::from(a[lane]) - f64::from(b[lane]);
            sums[lane] += difference * difference;
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// A number of at least 0 as f32, rounded up or down, with what its sum has lost.
pub(crate) fn outward(value: f64, up: bool) -> f32 {
    let lost = if up { 1.0 + 1e-9 } else { 1.0 - 1e-9 };
    #[expect(clippy::cast_possible_truncation, reason = "rounded outward")]
    let rounded = (value * lost) as f32;
    if up { rounded.next_up() } else { rounded.next_down().max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::kernel::Family;
    use crate::tests::model::Random;

    fn vector(random: &mut Random, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| random.below(2_000_001) as f32 / 1e6 - 1.0).collect()
    }

    /// Distances stay as they are within the error that is promised, and what is in one component is in all of them.
    #[test]
    fn a_frame_keeps_distances_and_spreads() {
        let mut random = Random(31);
        for dim in [1, 3, 63, 64, 65, 100, 192, 384, 768, 1000] {
            for metric in Metric::ALL {
                let mean = if metric == Metric::Ip { vec![0.0; dim] } else { vector(&mut random, dim) };
                let frame = Frame::new(metric, mean, [7; 16], Reflections::default());
                let (a, b) = (vector(&mut random, dim), vector(&mut random, dim));
                for kernels in Family::available() {
                    let mut places = [vec![0.0; Frame::padded(dim)], vec![0.0; Frame::padded(dim)]];
                    assert!(
                        frame.place(kernels, &a, &mut places[0]) && frame.place(kernels, &b, &mut places[1])
                    );
                    let scale = |x: &[f32]| if metric == Metric::Cosine { 1.0 / norm(x) } else { 1.0 };
                    let (of_a, of_b) = (scale(&a), scale(&b));
                    let terms = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * of_a - f64::from(b) * of_b);
                    let right = terms.map(|d| d * d).sum::<f64>().sqrt();
                    let terms = places[0].iter().zip(&places[1]).map(|(&a, &b)| f64::from(a) - f64::from(b));
                    let found = terms.map(|d| d * d).sum::<f64>().sqrt();
                    let error = frame.error(norm(&places[0])) + frame.error(norm(&places[1]));
                    assert!((right - found).abs() <= error, "{metric:?} {dim}: {right} {found} {error}");
                }
            }
        }
        let numbers = usize::try_from(Reflections::numbers(256, 64)).expect("small");
        let reflections = Reflections::of_stored(256, 64, vector(&mut random, numbers)).expect("directions");
        for reflections in [Reflections::default(), reflections] {
            let frame = Frame::new(Metric::L2, vec![0.0; 230], [8; 16], reflections);
            let (kernels, there) = (crate::sys::kernel::kernels(), vector(&mut random, 256));
            let mut back = there.clone();
            frame.turn(kernels, &mut back);
            assert!(distance(&back, &there) > 1.0, "it is turned");
            frame.turn_back(kernels, &mut back);
            assert!(distance(&back, &there) < 1e-5);
        }
        let frame = Frame::new(Metric::L2, vec![0.0; 768], [9; 16], Reflections::default());
        let mut one = vec![0.0; 768];
        one[5] = 1.0;
        let mut out = vec![0.0; 768];
        assert!(frame.place(Family::available().next().expect("portable"), &one, &mut out));
        assert!(out.iter().all(|x| x.abs() < 0.2), "no component has more than a fifth");
    }

    #[test]
    fn vectors_of_extreme_norms_are_not_coded() {
        for metric in Metric::ALL {
            for (x, coded) in [
                (0.0, metric != Metric::Cosine),
                (1e-30, false),
                (1e-15, true),
                (1e15, true),
                (1e30, false),
                (f32::NAN, false),
                (f32::INFINITY, false),
            ] {
                assert_eq!(scale_of(metric, &[x, 0.0]).is_some(), coded, "{metric:?} {x}");
            }
        }
    }
}
