//! The kernels in plain Rust, which the compiler turns into the vector instructions of whatever family they are inlined
//! into. A row is read once, so that they run at the speed of memory; see `docs/performance.md`.

use super::{Block, Family, Kernels, QUERIES, ROWS, codes};

/// Sums side by side: enough to keep the adders of every family busy.
const LANES: usize = 32;

/// a * b + c, rounded once where the family has an instruction for it.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Goes through the components of two slices, each with the number of its lane.
#[inline(always)]
fn for_each(q: &[f32], x: &[f32], mut step: impl FnMut(usize, f32, f32)) {
    assert_eq!(q.len(), x.len(), "vectors of one dimension");
    let ((q, q_rest), (x, x_rest)) = (q.as_chunks::<LANES>(), x.as_chunks::<LANES>());
    for (q, x) in q.iter().zip(x) {
        for lane in 0..LANES {
            step(lane, q[lane], x[lane]);
        }
    }
    for (lane, (q, x)) in q_rest.iter().zip(x_rest).enumerate() {
        step(lane, *q, *x);
    }
}

#[inline(always)]
fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
pub(super) fn dot<const FUSED: bool>(q: &[f32], x: &[f32]) -> (f32, f32) {
    let (mut products, mut squares) = ([0.0; LANES], [0.0; LANES]);
    for_each(q, x, |lane, q, x| {
        products[lane] = multiply_add::<FUSED>(q, x, products[lane]);
        squares[lane] = multiply_add::<FUSED>(x, x, squares[lane]);
    });
    (total(products), total(squares))
}

#[inline(always)]
pub(super) fn l2<const FUSED: bool>(q: &[f32], x: &[f32]) -> f32 {
    let mut squares = [0.0; LANES];
    for_each(q, x, |lane, q, x| {
        let difference = q - x;
        squares[lane] = multiply_add::<FUSED>(difference, difference, squares[lane]);
    });
    total(squares)
}

/// Sums over the components of two vectors in f64, as the reference distance is defined: eight interleaved sums, added
/// pairwise, no fused multiply-add. So every family has the same bits.
#[inline(always)]
pub(crate) fn reference_sums<const N: usize>(
    q: &[f32],
    x: &[f32],
    terms: impl Fn(f64, f64) -> [f64; N],
) -> [f64; N] {
    assert_eq!(q.len(), x.len(), "vectors of one dimension");
    let mut sums = [[0f64; 8]; N];
    let mut add = |lane: usize, q: f32, x: f32| {
        sums.iter_mut().zip(terms(q.into(), x.into())).for_each(|(sums, term)| sums[lane] += term);
    };
    let ((q, q_rest), (x, x_rest)) = (q.as_chunks::<8>(), x.as_chunks::<8>());
    for (q, x) in q.iter().zip(x) {
        for lane in 0..8 {
            add(lane, q[lane], x[lane]);
        }
    }
    for (lane, (q, x)) in q_rest.iter().zip(x_rest).enumerate() {
        add(lane, *q, *x);
    }
    sums.map(|s| ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])))
}

#[inline(always)]
pub(super) fn reference_dot(q: &[f32], x: &[f32]) -> [f64; 2] {
    reference_sums(q, x, |q, x| [q * x, x * x])
}

#[inline(always)]
pub(super) fn reference_l2(q: &[f32], x: &[f32]) -> [f64; 1] {
    reference_sums(q, x, |q, x| [(q - x) * (q - x)])
}

/// [`dot`] as a function of its own: the compiler does worse where it inlines it into a loop over rows.
#[inline(never)]
fn dot_alone<const FUSED: bool>(q: &[f32], x: &[f32]) -> (f32, f32) {
    dot::<FUSED>(q, x)
}

/// [`l2`], likewise.
#[inline(never)]
fn l2_alone<const FUSED: bool>(q: &[f32], x: &[f32]) -> f32 {
    l2::<FUSED>(q, x)
}

/// A block as so many single calls.
#[inline(always)]
fn block(queries: [&[f32]; QUERIES], rows: [&[f32]; ROWS], kernel: impl Fn(&[f32], &[f32]) -> f32) -> Block {
    queries.map(|query| rows.map(|row| kernel(query, row)))
}

pub(super) static PORTABLE: Kernels = Kernels {
    family: Family::Portable,
    dot: dot_alone::<false>,
    dot_rows: |query, rows| rows.map(|row| dot_alone::<false>(query, row).into()),
    l2_rows: |query, rows| rows.map(|row| [l2_alone::<false>(query, row)]),
    dots: |queries, rows| block(queries, rows, |q, x| dot::<false>(q, x).0),
    l2s: |queries, rows| block(queries, rows, l2::<false>),
    reference_dot,
    reference_l2,
    hadamard: codes::hadamard,
    reflect: codes::reflect::<false>,
    encode: codes::encode,
    encode_signs: codes::encode_signs,
    sign_dots: codes::sign_dots,
    code_dots: codes::code_dots,
    packed_dots: None,
    score: codes::score,
};

/// Every 64-bit ARM processor that Rust compiles for by default has these instructions.
#[cfg(target_arch = "aarch64")]
pub(super) static NEON: Kernels = Kernels {
    family: Family::Neon,
    dot: dot_alone::<true>,
    dot_rows: |query, rows| rows.map(|row| dot_alone::<true>(query, row).into()),
    l2_rows: |query, rows| rows.map(|row| [l2_alone::<true>(query, row)]),
    dots: |queries, rows| block(queries, rows, |q, x| dot::<true>(q, x).0),
    l2s: |queries, rows| block(queries, rows, l2::<true>),
    reference_dot,
    reference_l2,
    hadamard: codes::hadamard,
    reflect: codes::reflect::<true>,
    encode: codes::encode,
    encode_signs: codes::encode_signs,
    sign_dots: codes::sign_dots,
    code_dots: codes::code_dots,
    packed_dots: None,
    score: codes::score,
};
