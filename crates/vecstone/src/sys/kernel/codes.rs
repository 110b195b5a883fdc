//! Codes of 4 bits a component, in plain Rust: how a vector becomes one, and the products of a query with many of them.
//!
//! A component's code *n*, 0 to 15, stands for the level n - 7.5. A code of 64 components is 32 bytes: byte *j* holds
//! component *j* in its low half and component *j* + 32 in its high half.

use std::array;
use std::ops::Range;

/// Components whose codes stand together.
pub(crate) const GROUP: usize = 64;
/// Bytes of a group.
const GROUP_BYTES: usize = GROUP / 2;
/// The level of code 0 is minus this.
const MIDDLE: f32 = 7.5;
/// Steps between two levels that are tried, in units of the vector's standard deviation; 0.335 is the best one for
/// sixteen levels of a normal distribution (J. Max, Quantizing for Minimum Distortion, 1960).
const STEPS: [f32; 3] = [0.27, 0.335, 0.41];
/// A code is of use where the cosine between it and the vector is at least this.
const LEAST_COSINE: f64 = 0.25;
/// Sums side by side.
const LANES: usize = 32;

/// Queries that are multiplied with codes at once: so often does a code that was unpacked serve.
pub(crate) const QUERIES: usize = 8;

/// The code of a query for the components of a group: integers of at most 127. At the start of a cache line, as loads
/// across two of them take twice the time.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Levels(pub(crate) [i8; GROUP]);

/// What is stored beside the code of a vector *y*, relative to its centre *k*. With *l* the levels of the code, e is
/// y - a l.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Correction {
    /// The scale that makes e orthogonal to y: |y|² / (y·l).
    pub(crate) a: f32,
    /// -a k·l - |y|²/2; for raw inner products k·e.
    pub(crate) h: f32,
    /// |e|, rounded up.
    pub(crate) e: f32,
}

/// A row of which nothing is known.
const UNKNOWN: Correction = Correction { a: 0.0, h: 0.0, e: f32::INFINITY };

/// What is encoded: a vector less its centre.
#[derive(Debug)]
pub(crate) struct Residual<'a> {
    pub(crate) vector: &'a [f32],
    pub(crate) centre: &'a [f32],
    /// For raw inner products.
    pub(crate) inner: bool,
}

/// Memory for one code in the making, of as many components.
#[derive(Debug)]
pub(crate) struct Scratch {
    difference: Vec<f32>,
    levels: Vec<f32>,
}

impl Scratch {
    pub(crate) fn new(components: usize) -> Scratch {
        Scratch { difference: vec![0.0; components], levels: vec![0.0; components] }
    }
}

/// How codes are compared with one query, in one partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scoring {
    /// Half the step of the query's code.
    pub(crate) half_step: f32,
    /// 15 times the sum of the query's code.
    pub(crate) bias: i32,
    /// What h counts.
    pub(crate) share: f32,
    /// What e counts.
    pub(crate) margin: f32,
    /// What counts what is beyond the codes.
    pub(crate) beyond: f32,
    /// Rows whose estimate plus margin is less are dropped.
    pub(crate) least: f32,
}

/// The arrays of some codes, one number for each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Corrections<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) h: &'a [f32],
    pub(crate) e: &'a [f32],
    /// The lengths of what is not in the codes at all; empty if nothing is.
    pub(crate) beyond: &'a [f32],
}

impl<'a> Corrections<'a> {
    /// Those of some of the codes.
    pub(crate) fn part(self, rows: Range<usize>) -> Corrections<'a> {
        let part = |array: &'a [f32]| &array[rows.clone()];
        let beyond = if self.beyond.is_empty() { &[] } else { part(self.beyond) };
        Corrections { a: part(self.a), h: part(self.h), e: part(self.e), beyond }
    }
}

/// The Walsh-Hadamard transform of a power of two of numbers, unscaled: each sum is multiplied by 1 or -1 in 2^n ways.
#[inline(always)]
pub(super) fn hadamard(values: &mut [f32]) {
    assert!(values.len().is_power_of_two(), "a power of two");
    let mut half = values.len() / 2;
    // Of short vectors all; of others what reaches from one vector of the processor to another.
    let least = if values.len() < WIDE { 1 } else { WIDE };
    while half >= least {
        for pair in values.chunks_exact_mut(half * 2) {
            let (low, high) = pair.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (*low + *high, *low - *high);
            }
        }
        half /= 2;
    }
    for values in values.as_chunks_mut::<WIDE>().0 {
        stage::<8>(values);
        stage::<4>(values);
        stage::<2>(values);
        stage::<1>(values);
    }
}

/// Components that a vector of the processor has room for.
const WIDE: usize = 16;

/// Sums and differences of those that are `HALF` apart.
#[inline(always)]
fn stage<const HALF: usize>(values: &mut [f32; WIDE]) {
    let before = *values;
    for n in 0..WIDE {
        let sign = if n & HALF == 0 { 1.0 } else { -1.0 };
        values[n] = before[n ^ HALF] + sign * before[n];
    }
}

/// Reflections that are applied together.
pub(crate) const REFLECTED: usize = 8;

/// Vectors *u*, one for each reflection, which takes 2 (u·x) / |u|² times u off *x*.
#[derive(Debug, Clone)]
pub(crate) struct Reflected {
    /// Eight vectors as long as those that are reflected, one after the other. As f32 they are half as much to read.
    pub(crate) vectors: Vec<f32>,
    /// 2 / |u|².
    pub(crate) scales: [f64; REFLECTED],
    /// Their products with each other.
    pub(crate) gram: [[f64; REFLECTED]; REFLECTED],
}

/// Applies eight reflections to a vector, the first one first, or the last one. In f64, so that hundreds of them lose
/// nothing. With w the numbers of which each takes that many of its u off, w = 2 (u·x - the sum of u·u' w' over those
/// before) / |u|²: x is written twice, not eight times.
#[inline(always)]
pub(super) fn reflect<const FUSED: bool>(by: &Reflected, is_forward: bool, x: &mut [f64]) {
    let len = x.len();
    assert!(len > 0 && by.vectors.len() == REFLECTED * len, "vectors of one length");
    let vectors: [&[f32]; REFLECTED] = array::from_fn(|n| &by.vectors[n * len..][..len]);
    let (mut along, mut off) = (products::<FUSED>(vectors, x), [0f64; REFLECTED]);
    for n in 0..REFLECTED {
        let at = if is_forward { n } else { REFLECTED - 1 - n };
        off[at] = -by.scales[at] * along[at];
        for (along, product) in along.iter_mut().zip(by.gram[at]) {
            *along += product * off[at];
        }
    }
    for (off, vectors) in off.as_chunks::<4>().0.iter().zip(vectors.as_chunks::<4>().0) {
        for ((((x, a), b), c), d) in
            x.iter_mut().zip(vectors[0]).zip(vectors[1]).zip(vectors[2]).zip(vectors[3])
        {
            let [a, b, c, d] = [a, b, c, d].map(|u| f64::from(*u));
            *x = add_product::<FUSED>(off[0], a, add_product::<FUSED>(off[1], b, *x));
            *x = add_product::<FUSED>(off[2], c, add_product::<FUSED>(off[3], d, *x));
        }
    }
}

/// a b + c, rounded once where the family has an instruction for it.
#[inline(always)]
fn add_product<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// The products of eight vectors with another one of their length, in f64: beside each other, so that none waits for its
/// own sum.
#[inline(always)]
fn products<const FUSED: bool>(vectors: [&[f32]; REFLECTED], x: &[f64]) -> [f64; REFLECTED] {
    const LANES: usize = 8;
    let mut sums = [[0f64; LANES]; REFLECTED];
    let (many, few) = x.as_chunks::<LANES>();
    let parts = vectors.map(|vector| vector.as_chunks::<LANES>());
    for (at, x) in many.iter().enumerate() {
        for (sums, (u, _)) in sums.iter_mut().zip(&parts) {
            let u = &u[at];
            for lane in 0..LANES {
                sums[lane] = add_product::<FUSED>(f64::from(u[lane]), x[lane], sums[lane]);
            }
        }
    }
    let mut products = [0f64; REFLECTED];
    for ((product, s), (_, rest)) in products.iter_mut().zip(sums).zip(parts) {
        let rest = few.iter().zip(rest).map(|(x, &u)| f64::from(u) * x).sum::<f64>();
        *product = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])) + rest;
    }
    products
}

/// The product of two vectors of one length, in f64.
#[inline(always)]
pub(crate) fn product(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0f64; LANES];
    let ((many, few), (others, rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in many.iter().zip(others) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        (0..half).for_each(|lane| sums[lane] += sums[lane + half]);
        half /= 2;
    }
    sums[0] + few.iter().zip(rest).map(|(a, b)| a * b).sum::<f64>()
}

#[inline(always)]
fn level(difference: f32, per_step: f32) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "0 to 15")]
    let code = (difference * per_step + (MIDDLE + 0.5)).clamp(0.0, 15.5) as i32;
    code as f32 - MIDDLE
}

/// The square of the cosine between a vector and its code, but for the vector's length.
#[inline(always)]
fn fit(difference: &[f32], per_step: f32) -> f32 {
    let (mut dots, mut squares) = ([0f32; LANES], [0f32; LANES]);
    for part in difference.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let level = level(part[lane], per_step);
            dots[lane] += part[lane] * level;
            squares[lane] += level * level;
        }
    }
    let (dot, square): (f32, f32) = (dots.iter().sum(), squares.iter().sum());
    dot * dot.abs() / square
}

/// Sums of two numbers for each component, in f64.
#[inline(always)]
fn sums(residual: &Residual<'_>, levels: &[f32], term: impl Fn(f64, f64, f64) -> (f64, f64)) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut first, mut second) = ([0f64; LANES], [0f64; LANES]);
    let parts = residual.vector.as_chunks::<LANES>().0.iter().zip(residual.centre.as_chunks::<LANES>().0);
    for ((vector, centre), levels) in parts.zip(levels.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            let (centre, level) = (f64::from(centre[lane]), f64::from(levels[lane]));
            let (a, b) = term(f64::from(vector[lane]) - centre, centre, level);
            first[lane] += a;
            second[lane] += b;
        }
    }
    (first.iter().sum(), second.iter().sum())
}

/// Codes a vector less its centre. Where no code says much of it, or a number is not finite, e is infinite: the row is
/// always kept. `out` has half a byte for each component. O(components).
#[inline(always)]
pub(super) fn encode(residual: &Residual<'_>, scratch: &mut Scratch, out: &mut [u8]) -> Correction {
    let Scratch { difference, levels } = scratch;
    let components = residual.vector.len();
    assert!(components == residual.centre.len() && components == difference.len(), "vectors of one length");
    assert!(components.is_multiple_of(GROUP) && out.len() == components / 2, "whole groups");
    let (mut squares, mut most) = ([0f32; LANES], [0f32; LANES]);
    let parts = residual.vector.as_chunks::<LANES>().0.iter().zip(residual.centre.as_chunks::<LANES>().0);
    for ((vector, centre), out) in parts.zip(difference.as_chunks_mut::<LANES>().0) {
        for lane in 0..LANES {
            out[lane] = vector[lane] - centre[lane];
            squares[lane] += out[lane] * out[lane];
            most[lane] = most[lane].max(out[lane].abs());
        }
    }
    let (square, most) = (squares.iter().sum::<f32>(), most.iter().fold(0f32, |a, &b| a.max(b)));
    out.fill(0);
    // The largest of numbers that are none is 0, too.
    if most == 0.0 && square == 0.0 {
        return Correction::default();
    }
    let deviation = (square / components as f32).sqrt();
    let (mut best, mut per_step) = (f32::NEG_INFINITY, f32::NAN);
    for step in STEPS.map(|step| step * deviation).into_iter().chain([most / MIDDLE]) {
        let fit = fit(difference, 1.0 / step);
        if fit > best {
            (best, per_step) = (fit, 1.0 / step);
        }
    }
    if !per_step.is_finite() {
        return UNKNOWN;
    }
    for (level_of, &difference) in levels.iter_mut().zip(&*difference) {
        *level_of = level(difference, per_step);
    }
    let groups = levels.as_chunks::<GROUP>().0.iter().zip(out.as_chunks_mut::<GROUP_BYTES>().0);
    for (levels, out) in groups {
        let (low, high) = levels.split_at(GROUP_BYTES);
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 15")]
            let code = |level: &f32| (level + MIDDLE) as u8;
            *out = code(low) | code(high) << 4;
        }
    }
    correction(residual, levels)
}

/// All in f64, of the numbers as they are stored, so that their bounds hold for what is read later.
#[inline(always)]
fn correction(residual: &Residual<'_>, levels: &[f32]) -> Correction {
    let (product, square) = sums(residual, levels, |y, _, l| (y * l, y * y));
    let (of_levels, of_centre) = sums(residual, levels, |_, k, l| (l * l, k * l));
    let is_close = product >= LEAST_COSINE * (square * of_levels).sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "stored as f32; what follows is of what is stored")]
    let a = (square / product) as f32;
    let scale = f64::from(a);
    let (error, centre_error) = sums(residual, levels, |y, k, l| {
        let e = y - scale * l;
        (e * e, k * e)
    });
    let h = if residual.inner { centre_error } else { -scale * of_centre - square / 2.0 };
    #[expect(clippy::cast_possible_truncation, reason = "rounded up, and a bound is of the rounding")]
    let (h, e) = (h as f32, ((error.sqrt() * (1.0 + 1e-9)) as f32).next_up());
    let is_finite = a.is_finite() && h.is_finite() && e.is_finite();
    if is_close && is_finite { Correction { a, h, e } } else { UNKNOWN }
}

/// For each of some queries, one after the other, and each of some codes the sum of the query's code times the row's, codes
/// counted 0 to 15. Exact: it is at most 15 x 127 for each component.
#[inline(always)]
pub(super) fn code_dots(queries: &[&[Levels]], codes: &[u8], out: &mut [i32]) {
    let (bytes, rows) = check_codes(queries, codes, out);
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows.max(1))) {
        for (codes, out) in codes.chunks_exact(bytes).zip(out) {
            let mut sums = [0i32; GROUP_BYTES];
            for (Levels(levels), codes) in query.iter().zip(codes.as_chunks::<GROUP_BYTES>().0) {
                let (low, high) = levels.split_at(GROUP_BYTES);
                for lane in 0..GROUP_BYTES {
                    sums[lane] += i32::from(codes[lane] & 15) * i32::from(low[lane])
                        + i32::from(codes[lane] >> 4) * i32::from(high[lane]);
                }
            }
            *out = sums.iter().sum();
        }
    }
}

/// The signs of a vector less its centre, a bit for each component: 1 for the level 1, 0 for -1. Component *j* of a group
/// is bit *j* of its 8 bytes, the lowest first. As [`encode`] otherwise; `out` has a bit for each component.
#[inline(always)]
pub(super) fn encode_signs(residual: &Residual<'_>, scratch: &mut Scratch, out: &mut [u8]) -> Correction {
    let components = residual.vector.len();
    assert!(
        components == residual.centre.len() && components == scratch.levels.len(),
        "vectors of one length"
    );
    assert!(components.is_multiple_of(GROUP) && out.len() == components / 8, "whole groups");
    let parts = residual.vector.as_chunks::<8>().0.iter().zip(residual.centre.as_chunks::<8>().0);
    let levels = scratch.levels.as_chunks_mut::<8>().0;
    for ((out, levels), (vector, centre)) in out.iter_mut().zip(levels).zip(parts) {
        *out = 0;
        for lane in 0..8 {
            let is_positive = vector[lane] >= centre[lane];
            levels[lane] = if is_positive { 1.0 } else { -1.0 };
            *out |= u8::from(is_positive) << lane;
        }
    }
    if residual.vector == residual.centre {
        return Correction::default();
    }
    correction(residual, &scratch.levels)
}

/// Codes of signs whose components stand side by side.
pub(crate) const SIGN_BLOCK: usize = 32;
/// Components of a table, and its bytes.
const TABLE: usize = 4;
const TABLE_BYTES: usize = 1 << TABLE;
/// What an entry of a table counts: sums of four levels are 508 apart at most, so that an entry is 127 at most, and the sum
/// of two is a byte.
pub(super) const TABLE_STEP: i32 = 4;
const HALF_STEP: i16 = 2;

/// Bytes of so many codes of signs, each of so many bytes, as they are stored.
pub(crate) fn sign_bytes(codes: usize, code: usize) -> usize {
    codes.next_multiple_of(SIGN_BLOCK) * code
}

/// Puts codes of signs side by side, 32 of them together; in the place of missing codes there are zeros. For each four
/// components in turn there are 16 bytes: byte *j* has those of code *j* in its low half, and of code *j* + 16 in its high
/// half. So one instruction looks up what the query says of four components, for all codes (as in F. André, A.-M. Kermarrec
/// and N. Le Scouarnec, Cache Locality is not Enough, 2015). O(bytes).
pub(crate) fn pack_signs(codes: &[u8], code: usize) -> Vec<u8> {
    let mut out = vec![0; sign_bytes(codes.len() / code, code)];
    for (codes, block) in codes.chunks(SIGN_BLOCK * code).zip(out.chunks_exact_mut(SIGN_BLOCK * code)) {
        for (row, code) in codes.chunks_exact(code).enumerate() {
            for (tables, byte) in block.as_chunks_mut::<{ 2 * TABLE_BYTES }>().0.iter_mut().zip(code) {
                let (at, high) = (row % TABLE_BYTES, row / TABLE_BYTES * TABLE);
                tables[at] |= (byte & 15) << high;
                tables[TABLE_BYTES + at] |= (byte >> 4) << high;
            }
        }
    }
    out
}

/// One of the codes that are side by side.
pub(crate) fn unpack_signs(packed: &[u8], code: usize, row: usize) -> Vec<u8> {
    let block = &packed[row / SIGN_BLOCK * SIGN_BLOCK * code..][..SIGN_BLOCK * code];
    let (at, high) = (row % TABLE_BYTES, row % SIGN_BLOCK / TABLE_BYTES * TABLE);
    let half = |byte: u8| byte >> high & 15;
    let tables = block.as_chunks::<{ 2 * TABLE_BYTES }>().0.iter();
    tables.map(|tables| half(tables[at]) | half(tables[TABLE_BYTES + at]) << 4).collect()
}

/// What a query says of signs: for each four components and each way in which they may be the sum of those levels that have
/// a 1, less the least one there is, in steps.
#[derive(Debug, Default)]
pub(crate) struct SignTables {
    pub(super) entries: Vec<[u8; TABLE_BYTES]>,
    /// The sum of the least ones.
    pub(super) least: i32,
}

impl SignTables {
    pub(crate) fn new(query: &[Levels]) -> SignTables {
        let mut tables = SignTables::default();
        for levels in query.iter().flat_map(|Levels(levels)| levels.as_chunks::<TABLE>().0) {
            let (mut sums, mut least) = ([0i16; TABLE_BYTES], 0i16);
            for (n, &level) in levels.iter().enumerate() {
                let level = i16::from(level);
                least += level.min(0);
                for (way, sum) in sums.iter_mut().enumerate() {
                    *sum += if way >> n & 1 == 1 { level } else { 0 };
                }
            }
            tables.least += i32::from(least);
            let mut entries = [0; TABLE_BYTES];
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "four levels are 508 at most"
            )]
            for (entry, sum) in entries.iter_mut().zip(sums) {
                *entry = ((sum - least + HALF_STEP) >> TABLE_STEP.ilog2()) as u8;
            }
            tables.entries.push(entries);
        }
        tables
    }

    /// The most that a product may be off for each component: half a step for each table.
    #[cfg(test)]
    fn error(&self) -> i32 {
        TABLE_STEP / 2 * i32::try_from(self.entries.len()).unwrap_or(i32::MAX)
    }
}

/// Of each of some codes of signs, which are [packed](pack_signs), the sum of those of the query's levels that have a 1
/// there, about: half a step of each table is lost at most.
#[inline(always)]
pub(super) fn sign_dots(query: &SignTables, packed: &[u8], out: &mut [i32]) {
    check_signs(query, packed, out);
    let blocks = packed.chunks_exact((query.entries.len() * TABLE_BYTES).max(1));
    for (block, out) in blocks.zip(out.chunks_mut(SIGN_BLOCK)) {
        for (row, out) in out.iter_mut().enumerate() {
            let (at, high) = (row % TABLE_BYTES, row / TABLE_BYTES * TABLE);
            let entries = query.entries.iter().zip(block.as_chunks::<TABLE_BYTES>().0);
            let entries =
                entries.map(|(entries, codes)| i32::from(entries[usize::from(codes[at] >> high & 15)]));
            *out = query.least + TABLE_STEP * entries.sum::<i32>();
        }
    }
}

/// There are as many codes of signs as there is room for products.
pub(super) fn check_signs(query: &SignTables, packed: &[u8], out: &[i32]) {
    let block = query.entries.len() * TABLE_BYTES;
    assert!(block > 0 && packed.len() == out.len().div_ceil(SIGN_BLOCK) * block, "as many codes");
}

/// Codes that are packed together: a number of 32 bits of each is a vector.
pub(crate) const PACKED: usize = 16;

/// Puts the bytes of codes side by side, four of each at a time, sixteen codes together; in the place of missing codes there
/// are zeros. So each lane of a vector is of one code, and its sum needs no adding up. O(bytes).
pub(crate) fn pack(codes: &[u8], code: usize, out: &mut Vec<u8>) {
    assert!(code > 0 && code.is_multiple_of(GROUP_BYTES) && codes.len().is_multiple_of(code), "whole codes");
    out.clear();
    out.resize((codes.len() / code).next_multiple_of(PACKED) * code, 0);
    for (codes, block) in codes.chunks(PACKED * code).zip(out.chunks_exact_mut(PACKED * code)) {
        for (lane, code) in codes.chunks_exact(code).enumerate() {
            for (four, vector) in code.as_chunks::<4>().0.iter().zip(block.chunks_exact_mut(PACKED * 4)) {
                vector[lane * 4..(lane + 1) * 4].copy_from_slice(four);
            }
        }
    }
}

/// The same of packed codes, with room for as many products as there are codes.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "of processors that can use it"))]
pub(super) fn check_packed(queries: &[&[Levels]], packed: &[u8], out: &[i32]) -> usize {
    let (bytes, rows) = check_queries(queries, out);
    assert_eq!(packed.len(), rows.next_multiple_of(PACKED) * bytes, "as many codes");
    rows
}

/// Bytes of one code, and how many codes there are.
pub(super) fn check_codes(queries: &[&[Levels]], codes: &[u8], out: &[i32]) -> (usize, usize) {
    let (bytes, rows) = check_queries(queries, out);
    assert_eq!(codes.len(), rows * bytes, "as many codes");
    (bytes, rows)
}

/// Bytes of a code that is multiplied with these, and how many codes there is room for.
fn check_queries(queries: &[&[Levels]], out: &[i32]) -> (usize, usize) {
    let groups = queries.first().map_or(0, |query| query.len());
    assert!(groups > 0 && queries.iter().all(|query| query.len() == groups), "queries of one length");
    let rows = out.len() / queries.len();
    assert_eq!(out.len(), rows * queries.len(), "a number for each code");
    (groups * GROUP_BYTES, rows)
}

/// Codes that are scored at once, at most.
pub(crate) const SCORED: usize = u128::BITS as usize;

/// Turns the products of some codes into estimates. Returns a bit for each code, from the lowest on: whether its estimate
/// plus margin is not less than the least.
#[inline(always)]
pub(super) fn score(by: &Scoring, dots: &[i32], of: Corrections<'_>, estimates: &mut [f32]) -> u128 {
    check_scored(dots, of, estimates);
    let mut kept = 0;
    for (n, (&dot, found)) in dots.iter().zip(estimates).enumerate() {
        let beyond = of.beyond.get(n).map_or(0.0, |&beyond| beyond);
        *found = estimate(by, dot, of.a[n], of.h[n]);
        kept |= u128::from(is_kept(by, *found, of.e[n], beyond)) << n;
    }
    kept
}

pub(super) fn check_scored(dots: &[i32], of: Corrections<'_>, estimates: &[f32]) {
    let rows = dots.len();
    let is_one_each = [of.a.len(), of.h.len(), of.e.len(), estimates.len()] == [rows; 4];
    assert!(rows <= SCORED && is_one_each, "a number for each code");
    assert!(of.beyond.is_empty() || of.beyond.len() == rows, "a number for each code");
}

/// The estimate of a row whose code and the query's have this product.
#[inline(always)]
pub(crate) fn estimate(by: &Scoring, dot: i32, a: f32, h: f32) -> f32 {
    a * (by.half_step * (2 * dot - by.bias) as f32) + by.share * h
}

/// Whether a row may be near enough.
#[expect(clippy::neg_cmp_op_on_partial_ord, reason = "what is not a number is kept")]
#[inline(always)]
pub(crate) fn is_kept(by: &Scoring, estimate: f32, e: f32, beyond: f32) -> bool {
    !(estimate + e * by.margin + beyond * by.beyond < by.least)
}

#[cfg(test)]
mod tests;
