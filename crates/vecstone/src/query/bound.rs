//! Which rows a search may drop by the results of f32 kernels.

use crate::sys::kernel;
use crate::types::config::Metric;

/// Drops the rows whose [`reference_distance`](crate::reference_distance) to one query is surely greater than a bar.
///
/// A row is dropped if its result, q·x or -|q-x|², is less than `a + b * norm`, where *norm* is that of the row as
/// [`row_norm`](Self::row_norm) says. Every comparison with NaN is false, so what is not known is kept.
///
/// # Why it holds
///
/// Let p = q·x, and let p̃, ñ, s̃ be what the kernels return for q·x, |x|² and |q-x|². γ and η are theirs
/// ([`kernel::rounding`], [`kernel::underflow`]); g bounds all roundings in f64: those of the reference, which are fewer
/// than g / 2⁻⁵³ - 16 in a row, and those here.
///
/// - *l2*: all terms are at least 0, so s̃ ≤ (1+γ)|q-x|² + η. The reference r is at least (1-g)|q-x|². So
///   s̃ > bar(1+γ)(1+2g) + η gives r > bar. A sum that overflows is more than 2¹²⁰; the bar must be less.
/// - *ip*: |p̃-p| ≤ γ·Σ|qᵢxᵢ| + η ≤ γ|q||x| + η, by Cauchy and Schwarz. From ñ ≥ (1-γ)|x|² - η follows
///   |x|² ≤ (ñ+η)(1+2γ), as γ ≤ 1/2. The reference is within g(1+|q||x|) of 1-p. So
///   p̃ < 1 - bar - η - 2g(1+|bar|) - (γ+2g)|q||x| gives r > bar; one g is the reference's, one is for what is computed
///   here. |q| and |x| are at most 2⁶⁰, else a sum may overflow.
/// - *cosine*: |q| and √ñ are at least 2⁻⁴⁰, so η is at most 2⁻²⁹ of their product (`dim` ≤ 2¹⁶), and with e = γ + 2⁻²⁹
///   p̃/(|q||x|) is within e of the cosine, and |x|/√ñ is between 1-e and 1+e, as e ≤ 0.2. So p̃/(|q|√ñ) is within
///   e(1+e)+e ≤ 3e of the cosine. The reference is within 4g of one minus it. So p̃ < (1 - bar - 3e - 8g)|q|√ñ gives
///   r > bar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    metric: Metric,
    /// |q|, or NaN where it is too large or too small.
    query_norm: f64,
    errors: Errors,
    a: f64,
    b: f64,
}

/// The bounds of all roundings.
#[derive(Debug, Clone, Copy)]
struct Errors {
    /// γ.
    rounding: f64,
    /// η.
    underflow: f64,
    /// g.
    reference: f64,
    /// 2⁻²⁹.
    relative_underflow: f64,
}

/// 2⁶⁰, 2⁻⁴⁰, and the square of the first.
const LARGEST_NORM: f64 = (1u64 << 60) as f64;
const SMALLEST_NORM: f64 = 1.0 / (1u64 << 40) as f64;
const LARGEST_SQUARE: f64 = LARGEST_NORM * LARGEST_NORM;

impl Bound {
    /// Drops nothing yet. `query_norm_sq`: q·q in f64.
    pub(crate) fn new(metric: Metric, dim: usize, query_norm_sq: f64) -> Bound {
        let errors = Errors {
            rounding: kernel::rounding(dim),
            underflow: kernel::underflow(dim),
            reference: (dim / 8 + 32) as f64 * f64::EPSILON,
            relative_underflow: 1.0 / (1u64 << 29) as f64,
        };
        let bound = Bound { metric, query_norm: 0.0, errors, a: f64::NEG_INFINITY, b: 0.0 };
        Bound { query_norm: bound.trusted(query_norm_sq.sqrt()), ..bound }
    }

    /// A norm, or NaN where the argument above does not hold for it.
    fn trusted(&self, norm: f64) -> f64 {
        let smallest = if self.metric == Metric::Cosine { SMALLEST_NORM } else { 0.0 };
        if (smallest..=LARGEST_NORM).contains(&norm) { norm } else { f64::NAN }
    }

    /// From here on rows farther than `bar` are dropped.
    pub(crate) fn set_bar(&mut self, bar: f64) {
        let Errors { rounding, underflow, reference, relative_underflow } = self.errors;
        (self.a, self.b) = match self.metric {
            Metric::L2 if bar > LARGEST_SQUARE => (f64::NEG_INFINITY, 0.0),
            Metric::L2 => (-(bar * (1.0 + rounding) * (1.0 + 2.0 * reference) + underflow), 0.0),
            Metric::Ip => (
                1.0 - bar - underflow - 2.0 * reference * (1.0 + bar.abs()),
                -(rounding + 2.0 * reference) * self.query_norm,
            ),
            Metric::Cosine => {
                let slack = 3.0 * (rounding + relative_underflow) + 8.0 * reference;
                (0.0, (1.0 - bar - slack) * self.query_norm)
            }
        };
    }

    /// The norm of a row by the kernel's x·x, for [`drops`](Self::drops). For `l2` it is of no use, and 0 will do.
    pub(crate) fn row_norm(&self, row_norm_sq: f32) -> f64 {
        let square = f64::from(row_norm_sq);
        self.trusted(if self.metric == Metric::Cosine {
            square.sqrt()
        } else {
            ((square + self.errors.underflow) * (1.0 + 2.0 * self.errors.rounding)).sqrt()
        })
    }

    /// Whether a row is farther than the bar: by the kernel's q·x, or |q-x|² for `l2`.
    pub(crate) fn drops(&self, result: f32, row_norm: f64) -> bool {
        let result = f64::from(if self.metric == Metric::L2 { -result } else { result });
        result < self.a + self.b * row_norm
    }
}

#[cfg(test)]
mod tests;
