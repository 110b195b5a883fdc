//! The inequality itself, for real codes of kind and unkind data, and what happens without each of its terms.
//!
//! Some terms are in the shadow of others, so that no data shows their want alone:
//!
//! - τ is at most 2⁻²⁴|Y'|², and the rounding terms for l2 and cosine hold 16·2⁻²⁴|Y'|².
//! - The rounding of |e| upwards is worth 2⁻²⁴|e|M, and the rounding terms hold 16·2⁻²⁴·4|Y'|M.
//! - The rounding of radii outwards is worth 2⁻²⁴|Y'| for l2 and cosine, of a distance |V-k| ≥ |Y'| that γ, at least
//!   40·2⁻²⁴, lowers. For ip it shows, where G is none.
//! - g is near 2⁻⁴⁷ and counts |q||x| or |v-y|², of which G is 2⁻²⁰ and more.
//! - 64 times the least normal number of f32 is more than each product below it may lose; a difference of two vectors whose
//!   norms are coded is above 2⁻¹⁰⁰, or zero.

use super::*;
use crate::query::distance::{bar_of_radius, reference_distance, to_public};
use crate::segment::codes::reflect::Reflections;
use crate::segment::codes::row::{Encoder, NewBlock};
use crate::sys::kernel::Family;
use crate::sys::kernel::codes::{Corrections, GROUP, Residual, Scratch};
use crate::tests::model::Random;

/// What a test leaves out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Forget {
    Nothing,
    /// ρ.
    Rest,
    /// ρ|e|, as if |a l| were |Y'|.
    RestOfError,
    /// |e|M.
    Error,
    /// G, but for the reference's own errors.
    Frame,
    /// What f32 loses of C.
    Rounding,
    /// γ of what the kernels say of the query and a centre.
    Kernels,
    /// That radii are rounded outwards.
    Outward,
    /// One part in 100,000 of the radii.
    SomeOfRadius,
    /// tN.
    Beyond,
}

/// A centre and rows in the frame.
struct Placed<'a> {
    frame: &'a Frame,
    centre: Vec<f32>,
    rows: NewBlock,
    partition: Partition,
}

impl<'a> Placed<'a> {
    fn new(kernels: &'static Kernels, frame: &'a Frame, centre: Vec<f32>, places: &[Vec<f32>]) -> Placed<'a> {
        let (mut rows, mut encoder) = (NewBlock::new(0), Encoder::new(kernels, frame));
        places.iter().for_each(|place| encoder.add(&mut rows, place, &centre, 0));
        let (radii, norm) = (rows.radii, rows.norm);
        let partition = Partition { centre: 0, rows: 1, copies: 0, starts: [0; 4], radii, norm };
        Placed { frame, centre, rows, partition }
    }

    /// By the kernel of one row or, for every other query, by that of a block.
    fn measured(&self, kernels: &Kernels, query: &CodedQuery) -> Measured {
        let mut found = Vec::new();
        let queries = vec![&*query.place; if query.biases[0] % 2 == 0 { 1 } else { 2 }];
        let centres = std::iter::once(&*self.centre);
        Measured::each(kernels, self.frame, &queries, centres, |_, measured| found.push(measured));
        found[found.len() - 1]
    }

    fn bound(&self, kernels: &Kernels, query: &mut CodedQuery, forget: Forget) -> PartitionBound {
        let mut partition = self.partition;
        match forget {
            Forget::Rest => query.rest = 0.0,
            Forget::Outward => {
                let [least, greatest] = partition.radii;
                partition.radii = [least.next_up(), greatest.next_down().next_down()];
            }
            Forget::SomeOfRadius => {
                let [least, greatest] = partition.radii;
                partition.radii = [least * 1.00001, greatest * 0.99999];
            }
            Forget::Frame => query.error = 0.0,
            _ => {}
        }
        let mut bound = PartitionBound::new(self.frame, query, self.measured(kernels, query), &partition);
        match (forget, query.metric) {
            (Forget::Frame, Metric::Ip) => {
                bound.error = query.reference * (1.0 + query.norm * f64::from(partition.norm));
            }
            (Forget::Frame, _) => bound.error = 0.0,
            (Forget::Rounding, _) => bound.rounding = [0.0; 2],
            (Forget::RestOfError, _) => query.rest = 0.0,
            (Forget::Kernels, Metric::Ip) => {
                bound.base = -f64::from(self.measured(kernels, query).between[0]);
            }
            (Forget::Kernels, _) => {
                let square = self.measured(kernels, query).between.map(f64::from).iter().sum::<f64>();
                (bound.base, bound.far) = (square / 2.0, [square.sqrt(); 2]);
            }
            _ => {}
        }
        bound
    }

    /// Whether a search whose bar is `bar` leaves out a row.
    fn excludes(
        &self,
        kernels: &Kernels,
        (query, bound): (&CodedQuery, &PartitionBound),
        row: usize,
        bar: f64,
        forget: Forget,
    ) -> bool {
        let block = &self.rows.parts[0];
        let of_first = &block.first;
        let (first, width) = (self.frame.first(), self.centre.len());
        let of_e = |e: f32| if forget == Forget::Error && e < f32::INFINITY { 0.0 } else { e };
        let (scoring, mut dots, mut estimates) =
            ([0, 1].map(|part| bound.scoring(query, part, bar)), [0], [0.0]);
        let (a, h, mut e) = (of_first.a[row], of_first.h[row], of_e(of_first.e[row]));
        let beyond = block.beyond.get(row).map_or(0.0, |&beyond| beyond);
        let beyond = if forget == Forget::Beyond { 0.0 } else { beyond };
        (kernels.code_dots)(
            &[query.first()],
            &of_first.codes[row * first / 2..(row + 1) * first / 2],
            &mut dots,
        );
        let beyonds = [beyond];
        let beyonds = if block.beyond.is_empty() { &[][..] } else { &beyonds };
        let of = Corrections { a: &[a], h: &[h], e: &[e], beyond: beyonds };
        let (measured, is_all) = (self.measured(kernels, query), bound.excludes_all(query, bar));
        let is_far = || query.is_far(self.frame, measured, &self.partition, bar);
        assert!(is_all || forget != Forget::Nothing || !is_far(), "told at less cost only");
        if is_all || (kernels.score)(&scoring[0], &dots, of, &mut estimates) == 0 {
            return true;
        }
        let mut estimate = estimates[0];
        if first < width {
            // The code, three numbers and the ordinal.
            let code = (width - first) / 2;
            let (code, numbers) = block.back[row * (code + 16)..].split_at(code);
            let number = |n: usize| f32::from_le_bytes(numbers[n * 4..n * 4 + 4].try_into().expect("four"));
            let (a, h) = (number(0), number(1));
            e = of_e(number(2));
            (kernels.code_dots)(&[query.second()], code, &mut dots);
            estimate += codes::estimate(&scoring[1], dots[0], a, h);
        }
        let is_kept = codes::is_kept(&scoring[1], estimate, e, 0.0);
        !is_kept || !bound.may_be_near(query, bound.cost(estimate), e, bar)
    }
}

/// Frames of vectors of that many components: of one part, and where there is room of two.
fn frames(metric: Metric, mean: &[f32], seed: u8) -> Vec<Frame> {
    let (width, id) = (Frame::padded(mean.len()), [seed; 16]);
    let mut frames = vec![Frame::new(metric, mean.to_vec(), id, Reflections::default())];
    if width > GROUP {
        let first = (width / 2).next_multiple_of(GROUP);
        let numbers = usize::try_from(Reflections::numbers(width as u64, first as u64)).expect("small");
        let directions = vector(&mut Random(seed.into()), numbers);
        let reflections = Reflections::of_stored(width, first, directions).expect("directions");
        frames.push(Frame::new(metric, mean.to_vec(), id, reflections));
    }
    frames
}

const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];
const DIMS: [usize; 7] = [1, 3, 64, 100, 384, 768, 1000];
const KINDS: usize = 17;

fn unit(random: &mut Random) -> f32 {
    let sum: usize = (0..4).map(|_| random.below(1 << 22)).sum();
    (sum as f32 / (1 << 23) as f32 - 1.0) * 1.7
}

fn vector(random: &mut Random, dim: usize) -> Vec<f32> {
    (0..dim).map(|_| unit(random)).collect()
}

fn scaled(vector: &[f32], by: f32) -> Vec<f32> {
    vector.iter().map(|x| x * by).collect()
}

fn beside(a: &[f32], b: &[f32], by: f32) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b * by).collect()
}

/// Rows, of which some are queries later.
fn rows(random: &mut Random, kind: usize, dim: usize) -> Vec<Vec<f32>> {
    let (base, n) = (vector(random, dim), 20);
    let one = |at: usize, random: &mut Random| {
        let x = vector(random, dim);
        let in_two = |by: f32| {
            let mut x = x.clone();
            x.iter_mut().take(2).for_each(|x| *x *= by);
            x
        };
        match kind {
            0 => beside(&base, &x, 0.1),
            1 => x,
            2 => beside(&x, &vec![3.0; dim], 1.0),
            3 => beside(&x, &vec![30.0; dim], 1.0),
            4 => beside(&x, &vec![1000.0; dim], 1.0),
            5 => x.iter().enumerate().map(|(n, x)| if n < 2 { x.signum() * 10.0 } else { *x }).collect(),
            6 => in_two(10.0),
            7 => base.clone(),
            8 => beside(&base, &x, 1e-7),
            9 => in_two(1e6),
            10 if at.is_multiple_of(3) => vec![0.0; dim],
            10 => x,
            11 => beside(&scaled(&x, 1e-41), &base, if at.is_multiple_of(2) { 1.0 } else { 1e-15 }),
            12 => scaled(&x, 1e15),
            13 => scaled(&x, 10f32.powf(unit(random))),
            14 => scaled(&x, 1e-15),
            // Of a few values only.
            15 => x.iter().map(|x| x.signum() * 0.5).collect(),
            _ => beside(&base, &x, 1e-3),
        }
    };
    (0..n).map(|at| one(at, random)).collect()
}

/// Queries for these rows.
fn queries(random: &mut Random, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let dim = rows[0].len();
    let some = |random: &mut Random| rows[random.below(rows.len())].clone();
    let (a, b, noise) = (some(random), some(random), vector(random, dim));
    let size = rounded(norm(&a)) / (dim as f32).sqrt();
    let near = beside(&a, &noise, size * 1e-6);
    let between = beside(&scaled(&a, 0.5), &b, 0.5);
    let all = [scaled(&a, 1e-3), scaled(&b, 1e3), scaled(&b, -1.0), near, between, b, vec![0.0; dim], noise];
    all.into_iter().chain([a]).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "rounded")]
fn rounded(x: f64) -> f32 {
    x as f32
}

/// The middle of some vectors.
fn middle(places: &[Vec<f32>]) -> Vec<f32> {
    let sum = |n: usize| places.iter().map(|place| f64::from(place[n])).sum::<f64>();
    (0..places[0].len()).map(|n| rounded(sum(n) / places.len() as f64)).collect()
}

/// How often a row is left out that is no farther than the bar. `seen`: how many rows were not left out, and how many
/// were that are farther.
fn wrong(forget: Forget, dims: &[usize], kinds: Range<usize>, seen: &mut [u64; 2]) -> u64 {
    let (mut random, mut wrong) = (Random(51), 0);
    for (kind, &dim) in kinds.flat_map(|kind| dims.iter().map(move |dim| (kind, dim))) {
        let rows = rows(&mut random, kind, dim);
        let queries = queries(&mut random, &rows);
        for metric in METRICS {
            // Rows that are equal are far from the mean here, as some rows of a store are.
            let has_mean = metric == Metric::L2 && kind != 7;
            let mean = if has_mean { middle(&rows) } else { vec![0.0; dim] };
            let frames = frames(metric, &mean, dim.to_le_bytes()[0]);
            for (frame, kernels) in
                frames.iter().flat_map(|frame| Family::available().map(move |of| (frame, of)))
            {
                let (mut coded, mut places) = (Vec::new(), Vec::new());
                for row in &rows {
                    let mut place = vec![0.0; Frame::padded(dim)];
                    if frame.place(kernels, row, &mut place) {
                        coded.push(row);
                        places.push(place);
                    }
                }
                let rows = coded;
                if rows.is_empty() {
                    continue;
                }
                for centre in [middle(&places), places[0].clone(), scaled(&places[0], 100.0)] {
                    let placed = Placed::new(kernels, frame, centre, &places);
                    for query in &queries {
                        wrong += wrong_of(kernels, &placed, query, &rows, forget, seen);
                    }
                }
            }
        }
    }
    wrong
}

fn wrong_of(
    kernels: &Kernels,
    placed: &Placed<'_>,
    query: &[f32],
    rows: &[&Vec<f32>],
    forget: Forget,
    seen: &mut [u64; 2],
) -> u64 {
    let Some(mut coded) = CodedQuery::new(kernels, placed.frame, query) else { return 0 };
    let bound = placed.bound(kernels, &mut coded, forget);
    let (of, metric, mut wrong) = ((&coded, &bound), placed.frame.metric, 0);
    for (row, vector) in rows.iter().enumerate() {
        let distance = reference_distance(metric, query, vector);
        let reported = to_public(metric, distance);
        let radii = [reported, reported.next_up()].map(|radius| bar_of_radius(metric, radius));
        let above = distance + distance.abs() * 1e-3;
        for bar in [distance, distance.next_up(), radii[0], radii[1], above, f64::INFINITY] {
            let is_wrong = placed.excludes(kernels, of, row, bar, forget);
            if is_wrong && forget == Forget::Nothing {
                let (of, first) = (&placed.partition, placed.frame.first());
                panic!("{metric:?}, {} of {first}, row at {distance:e}, bar {bar:e}: {of:?}", query.len());
            }
            wrong += u64::from(is_wrong);
        }
        let spread = rows.iter().map(|row| norm(row)).fold(norm(query), f64::max).powi(2);
        let far = distance - 0.5 * if metric == Metric::Cosine { 1.0 } else { spread };
        seen[usize::from(placed.excludes(kernels, of, row, far, forget))] += 1;
    }
    wrong
}

#[test]
fn no_row_that_is_as_near_as_the_bar_is_left_out() {
    let mut seen = [0; 2];
    assert_eq!(wrong(Forget::Nothing, &DIMS, 0..KINDS, &mut seen), 0);
    assert!(seen[1] > seen[0] / 4, "what is far is left out: {seen:?}");
}

/// Terms that real data need.
#[test]
fn terms_that_data_need_are_there() {
    for (forget, dims, kinds) in [
        (Forget::Error, &[3usize, 64][..], 0..2),
        (Forget::Frame, &[64, 100], 7..8),
        (Forget::SomeOfRadius, &[1, 3], 0..KINDS),
        (Forget::Rest, &[1, 3, 64], 0..KINDS),
        (Forget::Beyond, &[100, 384], 0..2),
    ] {
        assert!(wrong(forget, dims, kinds, &mut [0; 2]) > 0, "{forget:?} is not missed");
    }
}

// ---- cases made by hand, in a frame without an error ----

/// Whether a row at `row` is left out of a search for `query` whose bar is its distance; both are exactly where they say.
fn is_left_out(metric: Metric, [query, row, centre]: [&[f32]; 3], forget: Forget) -> bool {
    let frame = Frame::new(metric, vec![0.0; query.len()], [1; 16], Reflections::default());
    let bar = reference_distance(metric, query, row);
    Family::available().any(|kernels| {
        let mut placed = Placed::new(kernels, &frame, centre.to_vec(), &[row.to_vec()]);
        // G is of norms.
        placed.partition.norm = 0.0;
        let mut coded = CodedQuery::of_place(&frame, query.to_vec());
        coded.error = 0.0;
        let bound = placed.bound(kernels, &mut coded, forget);
        placed.excludes(kernels, (&coded, &bound), 0, bar, forget)
    })
}

fn never_without(forget: Forget, made: impl Fn(&mut Random) -> (Metric, [Vec<f32>; 3])) {
    let (mut random, mut missed) = (Random(52), 0);
    for _ in 0..200 {
        let (metric, vectors) = made(&mut random);
        let [query, row, centre] = &vectors;
        let vectors = [&query[..], &row[..], &centre[..]];
        assert!(!is_left_out(metric, vectors, Forget::Nothing), "{metric:?} {forget:?}: {vectors:?}");
        missed += u64::from(is_left_out(metric, vectors, forget));
    }
    assert!(missed > 0, "{forget:?} is not missed");
}

/// A query whose rest is parallel to the row's code, and at the row: C is ρ|a l|.
fn of_parallel_rest(random: &mut Random) -> (Metric, [Vec<f32>; 3]) {
    let n = 2 * GROUP;
    let (difference, zeros) = (vector(random, n), vec![0.0; n]);
    let (mut code, mut scratch) = (vec![0; n / 2], Scratch::new(n));
    let residual = Residual { vector: &difference, centre: &zeros, inner: false };
    (kernel::kernels().encode)(&residual, &mut scratch, &mut code);
    let level = |n: usize| {
        let byte = code[n / GROUP * 32 + n % 32];
        f32::from(if n % GROUP < 32 { byte & 15 } else { byte >> 4 }) - 7.5
    };
    let mut query: Vec<f32> =
        (0..n).map(|n| (random.below(251) as f32 - 125.0) + level(n) * (0.98 / 15.0)).collect();
    query[5] = 127.0;
    let centre = beside(&query, &difference, -1.0);
    (Metric::L2, [query.clone(), query, centre])
}

#[test]
fn the_rest_of_the_query_counts() {
    never_without(Forget::Rest, of_parallel_rest);
}

/// |a l| is more than |Y'|.
#[test]
fn the_rest_of_the_query_counts_the_error_of_the_row() {
    never_without(Forget::RestOfError, of_parallel_rest);
}

/// A query that is its code, at the row, and far from the origin: nothing but roundings.
#[test]
fn roundings_count() {
    never_without(Forget::Rounding, |random| {
        let sign = |random: &mut Random| if random.below(2) == 0 { 127.0 } else { -127.0 };
        let query: Vec<f32> = (0..2 * GROUP).map(|_| sign(random)).collect();
        let difference: Vec<f32> = query.iter().map(|x| x.signum() * unit(random).abs()).collect();
        let centre = beside(&query, &difference, -1.0);
        (Metric::L2, [query.clone(), query, centre])
    });
}

/// Sums of which each addition is rounded the same way.
#[test]
fn roundings_of_the_kernels_count() {
    let sum = |random: &mut Random, term: f32| -> Vec<f32> {
        let small = (rounded(UNIT) * term).sqrt();
        let scale = 1.0 + random.below(1000) as f32 / 1e5;
        (0..2048).map(|n| if n < 32 { 1.0 } else { small * scale }).collect()
    };
    never_without(Forget::Kernels, |random| {
        let row = sum(random, 1.2);
        (Metric::L2, [vec![0.0; 2048], row.clone(), row])
    });
    never_without(Forget::Kernels, |random| {
        let row = sum(random, 0.8);
        (Metric::Ip, [row.clone(), row.clone(), row])
    });
}

/// A row in the direction of the query, from a centre at the origin.
#[test]
fn radii_are_rounded_outwards() {
    never_without(Forget::Outward, |random| {
        let query = vector(random, GROUP);
        let row = scaled(&query, 0.7);
        (Metric::Ip, [query, row, vec![0.0; GROUP]])
    });
}

/// What a hostile file may say: no arithmetic of it leaves a row out that is not surely farther.
#[test]
fn numbers_that_are_none_keep_the_row() {
    let frame = Frame::new(Metric::L2, vec![0.0; GROUP], [3; 16], Reflections::default());
    let inner = Frame::new(Metric::Ip, vec![0.0; GROUP], [3; 16], Reflections::default());
    for (frame, value) in
        [&frame, &inner].into_iter().flat_map(|f| [f32::NAN, 1e30, f32::MAX].map(|x| (f, x)))
    {
        for kernels in Family::available() {
            let place = vec![1.0; GROUP];
            let mut placed = Placed::new(kernels, frame, vec![value; GROUP], std::slice::from_ref(&place));
            placed.partition.radii = [0.0, if value.is_nan() { f32::NAN } else { value * 8.0 }];
            let mut coded = CodedQuery::of_place(frame, place);
            let bound = placed.bound(kernels, &mut coded, Forget::Nothing);
            assert!(!placed.excludes(kernels, (&coded, &bound), 0, 0.0, Forget::Nothing), "{value:e}");
        }
    }
}
