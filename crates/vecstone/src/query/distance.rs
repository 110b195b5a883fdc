//! The one definition of distance. Every faster path has to agree with it.

use crate::sys::kernel::{self, Kernels, reference_sums};
use crate::types::config::Metric;

/// The distance of two vectors of equal length, in f64; smaller is nearer.
///
/// Computed in a fixed order (eight interleaved sums, added pairwise, no fused multiply-add), so that the result
/// has the same bits on every machine. `l2` is the sum of (q-x)², `ip` is 1 - q·x, `cosine` is 1 - q·x/(|q||x|), and
/// 1 if either vector is all zeros. O(dim).
///
/// # Panics
///
/// If the lengths differ.
pub fn reference_distance(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    assert_eq!(query.len(), row.len(), "vectors of one dimension");
    match metric {
        Metric::L2 => {
            let [sum] = reference_sums(query, row, |q, x| [(q - x) * (q - x)]);
            sum
        }
        Metric::Ip => 1.0 - dot(query, row),
        Metric::Cosine => cosine(dot(query, row), dot(query, query), dot(row, row)),
    }
}

/// [`reference_distance`] to one query, with what depends on the query alone computed once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DistanceComputer<'q> {
    metric: Metric,
    query: &'q [f32],
    query_norm_sq: f64,
    kernels: &'static Kernels,
}

impl<'q> DistanceComputer<'q> {
    pub(crate) fn new(metric: Metric, query: &'q [f32]) -> DistanceComputer<'q> {
        DistanceComputer { metric, query, query_norm_sq: dot(query, query), kernels: kernel::kernels() }
    }

    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    pub(crate) fn query(&self) -> &'q [f32] {
        self.query
    }

    /// q·q.
    pub(crate) fn query_norm_sq(&self) -> f64 {
        self.query_norm_sq
    }

    pub(crate) fn distance(&self, row: &[f32]) -> f64 {
        if self.metric == Metric::L2 {
            let [sum] = (self.kernels.reference_l2)(self.query, row);
            return sum;
        }
        let [product, row_norm_sq] = (self.kernels.reference_dot)(self.query, row);
        match self.metric {
            Metric::Cosine => cosine(product, self.query_norm_sq, row_norm_sq),
            _ => 1.0 - product,
        }
    }
}

/// What users see: f32, never NaN, within ±`f32::MAX`, and at least 0 for l2 and cosine.
#[expect(clippy::cast_possible_truncation, reason = "the rounding to f32 is the point")]
pub(crate) fn to_public(metric: Metric, distance: f64) -> f32 {
    let least = if metric == Metric::Ip { -f32::MAX } else { 0.0 };
    // NaN comes only from rows that are damaged; it must sort as far away.
    if distance.is_nan() { f32::MAX } else { (distance as f32).clamp(least, f32::MAX) }
}

/// The greatest distance that [`to_public`] shows as at most `radius`; below every distance if there is none.
pub(crate) fn bar_of_radius(metric: Metric, radius: f32) -> f64 {
    if radius >= f32::MAX {
        return f64::INFINITY;
    }
    if radius < to_public(metric, f64::NEG_INFINITY) {
        return f64::NEG_INFINITY;
    }
    // Halfway to the next number of f32; whether that is rounded up or down is for the rounding itself to say.
    let halfway = f64::midpoint(radius.into(), radius.next_up().into());
    if to_public(metric, halfway) <= radius { halfway } else { halfway.next_down() }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let [sum] = reference_sums(a, b, |x, y| [x * y]);
    sum
}

fn cosine(dot: f64, query_norm_sq: f64, row_norm_sq: f64) -> f64 {
    if query_norm_sq == 0.0 || row_norm_sq == 0.0 {
        return 1.0;
    }
    1.0 - dot / (query_norm_sq.sqrt() * row_norm_sq.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_cases_by_hand() {
        let (q, x) = ([1.0, 2.0, 2.0], [3.0, 0.0, 4.0]);
        assert_eq!(reference_distance(Metric::L2, &q, &x), 12.0);
        assert_eq!(reference_distance(Metric::Ip, &q, &x), -10.0);
        assert_eq!(reference_distance(Metric::Cosine, &q, &x), 1.0 - 11.0 / 15.0);
        assert_eq!(reference_distance(Metric::Cosine, &q, &[0.0; 3]), 1.0);
        assert_eq!(reference_distance(Metric::Cosine, &[0.0; 3], &x), 1.0);
    }

    #[test]
    fn reported_distances_stay_in_range() {
        let huge = [f32::MAX; 4];
        let least = [-f32::MAX; 4];
        assert_eq!(to_public(Metric::L2, reference_distance(Metric::L2, &huge, &least)), f32::MAX);
        assert_eq!(to_public(Metric::Ip, reference_distance(Metric::Ip, &huge, &huge)), -f32::MAX);
        let tiny = [f32::from_bits(1); 3];
        let cosine = to_public(Metric::Cosine, reference_distance(Metric::Cosine, &tiny, &tiny));
        assert!((0.0..1e-6).contains(&cosine), "{cosine}");
        assert_eq!(to_public(Metric::Cosine, f64::NAN), f32::MAX);
    }

    #[test]
    fn the_computer_is_the_reference() {
        let q: Vec<f32> = (0..37u8).map(|i| f32::from(i) * 0.37 - 5.0).collect();
        let x: Vec<f32> = (0..37u8).map(|i| f32::from(i * 5) * 0.11 - 3.0).collect();
        for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
            let computed = DistanceComputer::new(metric, &q).distance(&x);
            assert_eq!(computed.to_bits(), reference_distance(metric, &q, &x).to_bits());
        }
    }

    #[test]
    fn the_bar_of_a_radius_parts_what_is_reported_within_it() {
        let tiny = f32::from_bits(1);
        let some = [0.0, -0.0, tiny, -tiny, 1e-30, 0.1, 1.0, 1.0f32.next_up(), 3.5, 1e30, -1.0, -1e30];
        let ends = [
            f32::MAX,
            f32::MAX.next_down(),
            -f32::MAX,
            -f32::MAX.next_down(),
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        for radius in some.into_iter().chain(ends) {
            for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
                let bar = bar_of_radius(metric, radius);
                if bar > f64::NEG_INFINITY {
                    assert!(to_public(metric, bar) <= radius, "{metric:?} {radius:e}: {bar:e}");
                }
                if bar < f64::INFINITY {
                    assert!(to_public(metric, bar.next_up()) > radius, "{metric:?} {radius:e}: {bar:e}");
                }
            }
        }
    }
}
