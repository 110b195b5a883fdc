//! f32 arithmetic on rows, in the processor's own vector instructions.
//!
//! A kernel is a filter: [`Bound`](crate::query::bound::Bound) allows for its rounding and
//! [`reference_distance`](crate::reference_distance) decides. So which family of kernels runs changes speed and nothing
//! else. Every kernel keeps one promise. Where its exact result is the sum of terms *t*, one for each component, it
//! returns the sum of *t* (1 + *θ*), plus *η*, with |*θ*| ≤ *γ* = [`rounding`] and |*η*| ≤ [`underflow`]; or, where a sum
//! overflows, something that is not finite.

use codes::{Correction, Corrections, Levels, Reflected, Residual, Scoring, Scratch, SignTables};
pub(crate) use generic::reference_sums;
use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) mod codes;
mod generic;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Queries of a block.
pub(crate) const QUERIES: usize = 4;
/// Rows of a block. With four queries their twelve sums fit in the registers of every family.
pub(crate) const ROWS: usize = 3;

/// Rows that are measured side by side with one query. Read from places apart, each is a stream of its own that the
/// processor fetches ahead, and their twelve sums fit in the registers, too.
pub(crate) const STREAMS: usize = 6;

/// What a block kernel returns: for each query a number for each row.
pub(crate) type Block = [[f32; ROWS]; QUERIES];
/// A kernel of one query and rows side by side: some sums for each row.
type RowsKernel<const SUMS: usize> = fn(&[f32], [&[f32]; STREAMS]) -> [[f32; SUMS]; STREAMS];
/// A kernel of some queries and codes: a product for each code, of one query after the other.
type CodesKernel = fn(&[&[Levels]], &[u8], &mut [i32]);
type BlockKernel = fn([&[f32]; QUERIES], [&[f32]; ROWS]) -> Block;

/// The kernels of one family. All slices of a call have one length, else the kernel panics. O(dim).
#[derive(Debug)]
pub(crate) struct Kernels {
    family: Family,
    /// q·x and x·x of a query and a row.
    pub(crate) dot: fn(&[f32], &[f32]) -> (f32, f32),
    /// [q·x, x·x] of a query and each row.
    pub(crate) dot_rows: RowsKernel<2>,
    /// The sum of (q-x)² of a query and each row.
    pub(crate) l2_rows: RowsKernel<1>,
    /// q·x of each query with each row.
    pub(crate) dots: BlockKernel,
    /// The sum of (q-x)² of each query with each row.
    pub(crate) l2s: BlockKernel,
    /// The sums of q x and x x in f64, with the bits of the reference distance.
    pub(crate) reference_dot: fn(&[f32], &[f32]) -> [f64; 2],
    /// The same of (q-x)².
    pub(crate) reference_l2: fn(&[f32], &[f32]) -> [f64; 1],
    /// See [`codes`]; so the seven below.
    pub(crate) hadamard: fn(&mut [f32]),
    pub(crate) reflect: fn(&Reflected, bool, &mut [f64]),
    pub(crate) encode: fn(&Residual<'_>, &mut Scratch, &mut [u8]) -> Correction,
    pub(crate) encode_signs: fn(&Residual<'_>, &mut Scratch, &mut [u8]) -> Correction,
    pub(crate) sign_dots: fn(&SignTables, &[u8], &mut [i32]),
    pub(crate) code_dots: CodesKernel,
    /// The same as `code_dots` of codes that are [packed](codes::pack), where that is faster for many queries.
    pub(crate) packed_dots: Option<CodesKernel>,
    pub(crate) score: fn(&Scoring, &[i32], Corrections<'_>, &mut [f32]) -> u128,
}

impl Kernels {
    /// Whether products of codes are so fast that they save time. Without vector instructions a plain scan is.
    pub(crate) fn has_fast_codes(&self) -> bool {
        self.family != Family::Portable
    }

    /// Whether rows side by side are read at the same time, so that they are to lie apart; else one after the other.
    pub(crate) fn reads_streams(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.family >= Family::Avx2;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// A family of processors, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Family {
    /// Any processor.
    Portable = 1,
    /// 64-bit ARM.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// x86-64 with AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 of the first generation that multiplies bytes, VNNI (2019).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Family {
    const ALL: &[Family] = &[
        Family::Portable,
        #[cfg(target_arch = "aarch64")]
        Family::Neon,
        #[cfg(target_arch = "x86_64")]
        Family::Avx2,
        #[cfg(target_arch = "x86_64")]
        Family::Avx512,
    ];

    fn name(self) -> &'static str {
        match self {
            Family::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Family::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Family::Avx512 => "avx512",
        }
    }

    /// Its kernels, where this processor has its instructions.
    pub(crate) fn kernels(self) -> Option<&'static Kernels> {
        match self {
            Family::Portable => Some(&generic::PORTABLE),
            #[cfg(target_arch = "aarch64")]
            Family::Neon => std::arch::is_aarch64_feature_detected!("neon").then_some(&generic::NEON),
            #[cfg(target_arch = "x86_64")]
            Family::Avx2 => {
                let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                has.then_some(&x86::AVX2)
            }
            #[cfg(target_arch = "x86_64")]
            Family::Avx512 => {
                let has = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni");
                has.then_some(&x86::AVX512)
            }
        }
    }

    /// Those that this processor has.
    pub(crate) fn available() -> impl DoubleEndedIterator<Item = &'static Kernels> {
        Family::ALL.iter().filter_map(|family| family.kernels())
    }
}

/// The best kernels that this processor has, or those that the environment variable `VECSTONE_CPU` names (`portable`,
/// `avx2`, `avx512`, `neon`) where it has them. Chosen once per process.
pub(crate) fn kernels() -> &'static Kernels {
    // No lock: it would be held for ever in a child that is forked meanwhile.
    static CHOSEN: AtomicU8 = AtomicU8::new(0);
    let known = CHOSEN.load(Ordering::Relaxed);
    if let Some(family) = Family::ALL.iter().find(|family| **family as u8 == known)
        && let Some(kernels) = family.kernels()
    {
        return kernels;
    }
    let named = std::env::var("VECSTONE_CPU").unwrap_or_default();
    let is_named = |kernels: &&Kernels| kernels.family.name() == named.trim();
    let chosen = Family::available().find(is_named).or_else(|| Family::available().next_back());
    let chosen = chosen.unwrap_or(&generic::PORTABLE);
    CHOSEN.store(chosen.family as u8, Ordering::Relaxed);
    chosen
}

/// Asks memory for what will be read soon. Costs little, and changes nothing.
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(values);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// The largest relative rounding *γ* of one term, for rows of `dim` components.
///
/// γ(n) = n u / (1 - n u) with u = 2⁻²⁴ bounds n roundings (N. J. Higham, Accuracy and Stability of Numerical
/// Algorithms, 2002, lemma 3.1). A term meets at most 3 of its own (two subtractions, one product), one addition for each
/// `dim` / 8 components, as the narrowest kernel has 8 sums, up to 15 components behind the last whole vector, and 5
/// additions that join the sums.
pub(crate) fn rounding(dim: usize) -> f64 {
    let n = (dim / 8 + 32) as f64 * f64::from(f32::EPSILON) / 2.0;
    n / (1.0 - n)
}

/// The largest absolute error *η* of a result through products that are too small for f32.
pub(crate) fn underflow(dim: usize) -> f64 {
    dim as f64 * f64::from(f32::MIN_POSITIVE)
}

/// Whether this thread rounds to nearest and keeps denormal numbers, as a program does unless it asks for something else.
/// Where it does not, the distances are other ones, too.
pub(crate) fn rounds_to_nearest() -> bool {
    use std::hint::black_box;
    let keeps = |x: f32| black_box(black_box(x) * 0.5) != 0.0;
    let denormal = f32::from_bits(2);
    let tiny = f64::EPSILON / 4.0;
    let near = |x: f64| black_box(black_box(x) + tiny) == x && black_box(black_box(x) - tiny) == x;
    keeps(f32::MIN_POSITIVE) && keeps(denormal) && near(1.0) && near(-1.0)
}

#[cfg(test)]
mod tests;
