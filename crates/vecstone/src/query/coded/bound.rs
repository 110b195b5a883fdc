//! Which rows a search may drop by their codes.
//!
//! # Why it holds
//!
//! Let v and y be the query and a row as they are coded: themselves, or for cosine divided by their norms. A frame takes
//! them to V = R(v-m) + δ and Y = R(y-m) + δ', with R orthogonal and |δ| and |δ'| at most what [`Frame::error`] says. So
//! with G the sum of both, | |V-Y| - |v-y| | ≤ G. V, Y and the centre k are vectors of f32, and what follows is of these
//! numbers as they are.
//!
//! Let Y' = Y - k. The row's code has the levels l; the file has a, h and |e|, where e = Y' - a l. The query is coded once:
//! V = s U + r with integers U, |r| = ρ. J = 2 U·l is an integer, and computed without error. Then
//! (V-k)·Y' = a s J/2 - a k·l + a r·l + (V-k)·e.
//!
//! *l2 and cosine.* With C = |V-k|²/2 - (a s J/2 + h), where h = -a k·l - |Y'|²/2,
//! |V-Y|²/2 = C - a r·l - (V-k)·e. And |a r·l| ≤ ρ|a l| ≤ ρ|Y'| + ρ|e|, as a l = Y' - e; |(V-k)·e| ≤ |V-k||e|, or since
//! (V-k)·e = (V-Y)·e + Y'·e, at most |V-Y||e| + τ with τ = |Y'·e|. Were a exact, e would be orthogonal to Y'; it is
//! rounded to f32, so τ ≤ 2⁻²⁴|Y'|².
//! Let a row be at most as far as the bar: |v-y| ≤ b, so |V-Y| ≤ B = b + G. Then with M = min(|V-k|, B) + ρ
//! C - ρ|Y'| - |e|M - τ ≤ |V-Y|²/2 ≤ B²/2. A row for which that is false is farther than the bar.
//!
//! - b for l2: the reference r is at least (1-g)|v-y|², so r ≤ bar gives b² = bar (1+2g).
//! - b for cosine: |v-y|² = 2 - 2cos, and r is within 4g of 1 - cos: b² = 2 (bar + 4g).
//!
//! *Parts.* Where the frame divides the components, Y' = (Y'₁, Y'₂) has a code for each part, with an a, an l and an e of
//! its own, and so has the query: U and r have two parts, each with its step s, and ρ is of both. With e = (e₁, e₂) and a l
//! = (a₁l₁, a₂l₂) all of the above holds, for J = (s₁J₁, s₂J₂) summed up. The file has |e|, and h in two parts: h₁ = -a₁
//! k·l₁ - |Y'|²/2 and h₂ = -a₂ k·l₂; for ip k·e₁ and k·e₂. The first part is looked at alone before: the rest of
//! (V-k)·Y' is (V-k)₂·Y'₂, at most N t, with N = |(V-k)₂| and t = |Y'₂|, which the file has. So with C₁ =
//! |V-k|²/2 - (a₁s₁J₁/2 + h₁) a row that is as near as the bar has C₁ - ρ|Y'| - |e₁|M - tN - τ ≤ B²/2, and for ip the same
//! with N = |V₂|.
//!
//! *ip.* q·x is within |δ||Y| + (|V|+|δ|)|δ'| =: G of V·Y, and with h = k·e and any t,
//! V·Y = V·k + a s J/2 + t h + a r·l + (V - t k)·e. With C = -V·k - (a s J/2 + t h), a row with r ≤ bar has
//! C - ρ|Y'| - |e|M ≤ -V·Y ≤ bar - 1 + g(1 + |q||x|) + g(1 + |bar|) + G, where M = |V - t k| + ρ. The t that makes
//! |V - t k| least is V·k/|k|².
//!
//! *Rounding.* C is computed in f32 from a, h and J: for each part five roundings of terms that are at most |a l|(|V|+ρ),
//! |h|, |e|M and tN, and h has up to two of its own. |a l| is |Y'| over the cosine of Y' and l, but for the rounding of a,
//! and no code has a cosine below 1/4; |e| is less. |h| ≤ |k||a l| + |Y'|²/2, or |k||e| t for ip. So all is below 16·2⁻²⁴
//! times their sum. Distances from a centre come from
//! the f32 kernels, whose γ and η are allowed for.
//! What is not a number keeps the row: every test asks whether a row is *less*, and e is infinite where no code says much.
//!
//! *Partitions.* |V-Y| ≥ ||V-k| - |Y'||, and V·Y ≤ V·k + |V||Y'|, so that the least and the greatest |Y'| of a partition
//! exclude all of it.

use crate::segment::codes::file::Partition;
use crate::segment::codes::frame::{Frame, OF_RADIUS, UNIT, norm};
use crate::segment::codes::part::{Part, Signs};
use crate::sys::kernel::codes::{self, Corrections, GROUP, Levels, SCORED, Scoring, SignTables};
use crate::sys::kernel::{self, Kernels, QUERIES, ROWS, STREAMS};
use crate::types::config::Metric;
use std::array;
use std::ops::Range;

/// What an approximate search allows for of tN. The second parts of a query and of a row that is near to it have more in
/// common than chance.
const OF_BEYOND: f64 = 0.5;
/// What sums in f64 here have lost.
const SLACK: f64 = 1e-12;

/// Added and taken away again, it rounds a small number to an integer.
const ROUND: f32 = (3u32 << 22) as f32;

/// A query in a frame, and its code.
#[derive(Debug)]
pub(crate) struct CodedQuery {
    metric: Metric,
    pub(crate) place: Vec<f32>,
    /// U.
    levels: Vec<Levels>,
    /// Groups of the first part.
    first: usize,
    /// s/2 of each part.
    half_steps: [f32; 2],
    /// 15 times the sum of U: J is twice the sum of U times the codes, less this.
    biases: [i32; 2],
    /// |V₂|.
    second: f64,
    /// ρ.
    rest: f64,
    norm: f64,
    /// |δ|.
    error: f64,
    /// g.
    reference: f64,
    /// γ and η of the kernels.
    of_kernels: [f64; 2],
    allowed: Allowed,
    /// Of the first part, for an approximate search.
    tables: SignTables,
}

/// How much is allowed for of what a bound says may be: all of it in an exact search.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    /// Of |e|M, by the first part, of which there are signs too, and by both; of ρ|Y'| as by both.
    e: [f64; 2],
    /// Of tN.
    beyond: f64,
}

impl CodedQuery {
    /// `None` if the query is not to be coded.
    pub(crate) fn new(kernels: &Kernels, frame: &Frame, query: &[f32]) -> Option<CodedQuery> {
        let mut place = vec![0f32; Frame::padded(frame.dim)];
        frame.place(kernels, query, &mut place).then(|| CodedQuery::of_place(frame, place))
    }

    /// Of a query that is in the frame.
    fn of_place(frame: &Frame, place: Vec<f32>) -> CodedQuery {
        let (one, two) = place.split_at(frame.first());
        let first = one.len() / GROUP;
        let (mut levels, mut rest) = (Vec::with_capacity(place.len() / GROUP), 0.0);
        let half_steps = [one, two].map(|part| code(part, &mut levels, &mut rest));
        let each =
            |levels: &[Levels]| levels.iter().flat_map(|Levels(group)| *group).map(i32::from).sum::<i32>();
        let norm_of = |part: &[f32]| norm(part) * (1.0 + 1e-9);
        let norm = norm_of(&place);
        CodedQuery {
            metric: frame.metric,
            first,
            half_steps,
            biases: [15 * each(&levels[..first]), 15 * each(&levels[first..])],
            second: norm_of(two),
            rest: rest.sqrt() * (1.0 + 1e-9),
            norm,
            error: frame.error(norm),
            reference: (frame.dim / 8 + 32) as f64 * f64::EPSILON,
            of_kernels: [kernel::rounding(place.len()), kernel::underflow(place.len())],
            allowed: Allowed { e: [1.0; 2], beyond: 1.0 },
            tables: SignTables::default(),
            place,
            levels,
        }
    }

    /// Makes it a query of an approximate search. The bounds are products of lengths, which two vectors only reach if they
    /// have one direction. The product of directions that have nothing to do with each other has a standard deviation of
    /// 1/√n in n components: so many of these are allowed for.
    pub(crate) fn allow(&mut self, deviations: f64) {
        let e = [self.first * GROUP, self.place.len()].map(|n| (deviations / (n as f64).sqrt()).min(1.0));
        self.tables = SignTables::new(self.first());
        self.allowed = Allowed { e, beyond: OF_BEYOND };
    }

    /// What makes an estimate of a centre one of -|V-k|²/2: -|V|²/2. 0 for ip.
    #[expect(clippy::cast_possible_truncation, reason = "an estimate")]
    pub(crate) fn of_norm(&self) -> f32 {
        if self.metric == Metric::Ip { 0.0 } else { (-self.norm * self.norm / 2.0) as f32 }
    }

    /// What estimates grow with: |V|², or |V| for ip.
    pub(crate) fn unit(&self) -> f64 {
        if self.metric == Metric::Ip { self.norm } else { self.norm * self.norm }
    }

    /// An estimate of V·k - |k|²/2, or of V·k for ip, where the codes are of centres k: of one of them, given by the parts
    /// of all.
    pub(crate) fn estimate(&self, kernels: &Kernels, parts: &[Part<'_>; 2], centre: usize) -> f32 {
        let mut sum = 0.0;
        for (n, (part, levels)) in parts.iter().zip([self.first(), self.second()]).enumerate() {
            if !levels.is_empty() {
                let (mut dot, of) = ([0], part.row(centre));
                (kernels.code_dots)(&[levels], of.code, &mut dot);
                sum += codes::estimate(&self.all(n), dot[0], of.correction.a, of.correction.h);
            }
        }
        sum
    }

    /// The same of each.
    pub(crate) fn estimates(&self, kernels: &Kernels, parts: &[Part<'_>; 2]) -> Vec<f32> {
        let count = parts[0].corrections.a.len();
        let (mut dots, mut sums) = (vec![0; count], vec![0f32; count]);
        for (n, (part, levels)) in parts.iter().zip([self.first(), self.second()]).enumerate() {
            if !levels.is_empty() {
                (kernels.code_dots)(&[levels], part.codes, &mut dots);
                add_estimates(kernels, &self.all(n), (&dots, part.corrections), &mut sums);
            }
        }
        sums
    }

    /// The same by the signs of the first part, of that part. Needs [`allow`](Self::allow).
    pub(crate) fn estimates_by_signs(&self, kernels: &Kernels, signs: &Signs<'_>) -> Vec<f32> {
        let count = signs.corrections.a.len();
        let (mut dots, mut sums) = (vec![0; count], vec![0f32; count]);
        (kernels.sign_dots)(&self.tables, signs.codes(&(0..count)), &mut dots);
        let (half_step, bias) = self.sign_step();
        let all = Scoring { half_step, bias, ..self.all(0) };
        add_estimates(kernels, &all, (&dots, signs.corrections), &mut sums);
        sums
    }

    /// s/2 and the bias of codes of signs: what is added up has the levels 1 and 0, and not 15 to 0 of which half counts.
    fn sign_step(&self) -> (f32, i32) {
        (2.0 * self.half_steps[0], self.biases[0] / 15)
    }

    /// What scores codes and keeps all.
    fn all(&self, part: usize) -> Scoring {
        let (half_step, bias) = (self.half_steps[part], self.biases[part]);
        Scoring { half_step, bias, share: 1.0, margin: 0.0, beyond: 0.0, least: f32::INFINITY }
    }

    /// What U of the first part says of signs.
    pub(crate) fn tables(&self) -> &SignTables {
        &self.tables
    }

    /// U of the first part.
    pub(crate) fn first(&self) -> &[Levels] {
        &self.levels[..self.first]
    }

    /// U of the second part.
    pub(crate) fn second(&self) -> &[Levels] {
        &self.levels[self.first..]
    }

    /// B - G.
    fn reach(&self, bar: f64) -> f64 {
        let square = match self.metric {
            Metric::Cosine => 2.0 * (bar + 4.0 * self.reference),
            _ => bar * (1.0 + 2.0 * self.reference),
        };
        square.max(0.0).sqrt() * (1.0 + SLACK)
    }

    /// Bounds of |V-k|² of each part, unless the metric is ip.
    fn squares(&self, measured: Measured) -> [[f64; 2]; 2] {
        let [gamma, eta] = self.of_kernels;
        measured.between.map(|sum| {
            let sum = f64::from(sum);
            // Where a sum overflows, nothing is known of it.
            let low = if sum.is_finite() { (sum * (1.0 - gamma) - eta).max(0.0) } else { 0.0 };
            [low, (sum + eta) * (1.0 + 2.0 * gamma)]
        })
    }

    /// Whether no row of a partition is as near as the bar, told at less cost than by
    /// [`PartitionBound::excludes_all`], and not as often.
    #[inline]
    pub(crate) fn is_far(&self, frame: &Frame, measured: Measured, of: &Partition, bar: f64) -> bool {
        let far = self.reach(bar) + self.error + frame.error(of.norm.into()) + f64::from(of.radii[1]);
        let [[one, _], [two, _]] = self.squares(measured);
        self.metric != Metric::Ip && one + two > far * far * (1.0 + SLACK)
    }
}

/// Adds what products say of codes.
fn add_estimates(kernels: &Kernels, all: &Scoring, (dots, of): (&[i32], Corrections<'_>), sums: &mut [f32]) {
    let mut scored = [0f32; SCORED];
    for (start, sums) in (0..).step_by(SCORED).zip(sums.chunks_mut(SCORED)) {
        let (rows, scored) = (start..start + sums.len(), &mut scored[..sums.len()]);
        (kernels.score)(all, &dots[rows.clone()], of.part(rows), scored);
        sums.iter_mut().zip(&*scored).for_each(|(sum, scored)| *sum += scored);
    }
}

/// Adds the code of a part of a query, and the square of what it leaves out; returns s/2.
fn code(part: &[f32], levels: &mut Vec<Levels>, rest: &mut f64) -> f32 {
    let mut mosts = [0f32; 16];
    for group in part.as_chunks::<16>().0 {
        mosts.iter_mut().zip(group).for_each(|(most, x)| *most = most.max(x.abs()));
    }
    let most = mosts.iter().fold(0f32, |most, x| most.max(*x));
    let step = (most / 127.0).max(f32::MIN_POSITIVE);
    for group in part.as_chunks::<GROUP>().0 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
        let found = group.map(|x| (x / step + ROUND - ROUND).clamp(-127.0, 127.0) as i8);
        let mut squares = [0f64; 8];
        for (group, found) in group.as_chunks::<8>().0.iter().zip(found.as_chunks::<8>().0) {
            for ((sum, &x), &level) in squares.iter_mut().zip(group).zip(found) {
                let left = f64::from(x) - f64::from(step) * f64::from(level);
                *sum += left * left;
            }
        }
        *rest += squares.iter().sum::<f64>();
        levels.push(Levels(found));
    }
    step / 2.0
}

/// What the kernels say of a query and a centre.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// |V-k|² of each part, for ip V·k of all.
    between: [f32; 2],
    /// |k|², for ip.
    of_centre: f32,
}

impl Measured {
    /// Hands on what is measured of each of some queries, one in `places` for each, with each of some centres: the number of
    /// the query, and what they are together, centre by centre for one query. O(queries * centres * dim).
    pub(crate) fn each<'a>(
        kernels: &Kernels,
        frame: &Frame,
        places: &[&[f32]],
        centres: impl ExactSizeIterator<Item = &'a [f32]>,
        mut see: impl FnMut(usize, Measured),
    ) {
        let (ip, first) = (frame.metric == Metric::Ip, frame.first());
        let centres: Vec<&[f32]> = centres.collect();
        if let [place] = places {
            return Measured::of_one(kernels, frame, place, &centres, |measured| see(0, measured));
        }
        for centres in centres.chunks(ROWS) {
            // What is missing in the last block is measured twice.
            let rows: [&[f32]; ROWS] = array::from_fn(|n| centres[n.min(centres.len() - 1)]);
            let squares = rows.map(|centre| if ip { (kernels.dot)(centre, centre).1 } else { 0.0 });
            for (block, places) in places.chunks(QUERIES).enumerate() {
                let queries: [&[f32]; QUERIES] = array::from_fn(|n| places[n.min(places.len() - 1)]);
                let (one, two) = if ip {
                    ((kernels.dots)(queries, rows), [[0.0; ROWS]; QUERIES])
                } else {
                    let of = |part: Range<usize>| {
                        (kernels.l2s)(
                            queries.map(|query| &query[part.clone()]),
                            rows.map(|row| &row[part.clone()]),
                        )
                    };
                    (of(0..first), of(first..queries[0].len()))
                };
                for (n, (one, two)) in one.iter().zip(two).take(places.len()).enumerate() {
                    let both = one.iter().zip(two).zip(squares).take(centres.len());
                    both.for_each(|((&one, two), of_centre)| {
                        see(block * QUERIES + n, Measured { between: [one, two], of_centre });
                    });
                }
            }
        }
    }

    /// The same of one query.
    fn of_one(
        kernels: &Kernels,
        frame: &Frame,
        place: &[f32],
        centres: &[&[f32]],
        mut see: impl FnMut(Measured),
    ) {
        let (ip, first) = (frame.metric == Metric::Ip, frame.first());
        let mut ahead = centres.chunks(STREAMS).skip(1);
        for centres in centres.chunks(STREAMS) {
            ahead.next().into_iter().flatten().for_each(|centre| kernel::prefetch(centre));
            let rows: [&[f32]; STREAMS] = array::from_fn(|n| centres[n.min(centres.len() - 1)]);
            let measured = if ip {
                let measured =
                    |[between, of_centre]: [f32; 2]| Measured { between: [between, 0.0], of_centre };
                (kernels.dot_rows)(place, rows).map(measured)
            } else {
                let of = |part: Range<usize>| {
                    (kernels.l2_rows)(&place[part.clone()], rows.map(|row| &row[part.clone()]))
                };
                let one = of(0..first);
                let two = if frame.is_divided() { of(first..place.len()) } else { [[0.0]; STREAMS] };
                array::from_fn(|n| Measured { between: [one[n][0], two[n][0]], of_centre: 0.0 })
            };
            measured.into_iter().take(centres.len()).for_each(&mut see);
        }
    }

    /// What orders centres, the nearest first: the bits of |V-k|² or -V·k, such that they compare as the numbers do.
    pub(crate) fn order(&self, metric: Metric) -> i32 {
        let [one, two] = self.between;
        let number = if metric == Metric::Ip { -one } else { one + two };
        ordered(number)
    }
}

/// The bits of a number, such that they compare as numbers do.
pub(crate) fn ordered(number: f32) -> i32 {
    let bits = i32::from_le_bytes(number.to_le_bytes());
    bits ^ ((bits >> 31) & i32::MAX)
}

/// The number that is ordered so.
pub(crate) fn from_order(order: i32) -> f32 {
    f32::from_bits((order ^ ((order >> 31) & i32::MAX)).cast_unsigned())
}

/// What is lost of terms of that sum by the roundings of f32, and of |e|M where |e| is at most `of_e`.
fn rounding_of(terms: f64, of_e: f64) -> [f64; 2] {
    [16.0 * UNIT * terms, 16.0 * UNIT * of_e]
}

/// What is known of a partition before its codes are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartitionBound {
    /// |V-k|²/2 or -V·k, rounded down.
    base: f64,
    /// t, or 1.
    share: f32,
    /// Bounds of |V-k|; for ip |V - t k| is the second.
    far: [f64; 2],
    /// N.
    beyond: f64,
    radii: [f64; 2],
    /// ρ|Y'| + τ.
    lost: f64,
    /// What C and |e|M lose by rounding: a constant, and what counts M.
    rounding: [f64; 2],
    /// G.
    error: f64,
}

impl PartitionBound {
    /// `measured`: the query and the centre of the partition. O(1).
    pub(crate) fn new(
        frame: &Frame,
        query: &CodedQuery,
        measured: Measured,
        partition: &Partition,
    ) -> PartitionBound {
        let radii = partition.radii.map(f64::from);
        let of_norm = f64::from(partition.norm);
        let scale = radii[1] * OF_RADIUS;
        let lost =
            query.allowed.e[1] * query.rest * radii[1] * (1.0 + SLACK) + 2.0 * UNIT * radii[1] * radii[1];
        let bound = PartitionBound {
            base: 0.0,
            share: 1.0,
            far: [0.0; 2],
            beyond: query.second,
            radii,
            lost,
            rounding: rounding_of(scale * (query.norm + query.rest), scale),
            error: query.error + frame.error(of_norm),
        };
        if query.metric == Metric::Ip {
            return bound.of_ip(frame, query, measured, of_norm);
        }
        let [one, two] = query.squares(measured);
        let [low, high] = [one[0] + two[0], one[1] + two[1]];
        let (far, beyond) = ([low.sqrt(), high.sqrt()], if frame.is_divided() { two[1].sqrt() } else { 0.0 });
        let of_centre = query.norm + far[1];
        let of_h =
            rounding_of(2.0 * (of_centre * scale + radii[1] * radii[1] / 2.0) + beyond * radii[1], 0.0);
        let rounding = [bound.rounding[0] + of_h[0], bound.rounding[1]];
        PartitionBound { base: low / 2.0, far, beyond, rounding, ..bound }
    }

    fn of_ip(self, frame: &Frame, query: &CodedQuery, measured: Measured, of_norm: f64) -> PartitionBound {
        let [gamma, eta] = query.of_kernels;
        let product = f64::from(measured.between[0]);
        let square = (f64::from(measured.of_centre) + eta) * (1.0 + 2.0 * gamma);
        let of_centre = square.sqrt();
        let lost = gamma * query.norm * of_centre + eta;
        #[expect(clippy::cast_possible_truncation, reason = "any t will do")]
        let share = if square > 0.0 { (product / square) as f32 } else { 0.0 };
        let t = f64::from(share);
        let part = query.norm * query.norm - 2.0 * t * product + t * t * square;
        let slack = 2.0 * t.abs() * lost + 3.0 * gamma * t * t * square + SLACK * query.norm * query.norm;
        let beside = (part.max(0.0) + slack).sqrt();
        let reference = query.reference * (1.0 + query.norm * of_norm);
        let terms = 2.0 * t.abs() * of_centre * OF_RADIUS + self.beyond;
        let of_h = rounding_of(terms * self.radii[1], 0.0);
        PartitionBound {
            base: -product - lost,
            share,
            far: [0.0, beside],
            rounding: [self.rounding[0] + of_h[0], self.rounding[1]],
            error: query.error * of_norm + (query.norm + query.error) * frame.error(of_norm) + reference,
            ..self
        }
    }

    /// The greatest C less what is lost that a row may have which is as near as the bar, and M.
    fn limit(&self, query: &CodedQuery, bar: f64) -> (f64, f64) {
        if query.metric == Metric::Ip {
            let rounded = query.reference * (1.0 + bar.abs());
            return (bar - 1.0 + rounded + self.error, self.far[1] + query.rest);
        }
        let reach = self.reach(query, bar);
        (reach * reach / 2.0 * (1.0 + SLACK), self.far[1].min(reach) + query.rest)
    }

    /// B.
    fn reach(&self, query: &CodedQuery, bar: f64) -> f64 {
        query.reach(bar) + self.error
    }

    fn constant(&self, margin: f64) -> f64 {
        let [constant, of_margin] = self.rounding;
        self.lost + constant + of_margin * margin + 128.0 * f64::from(f32::MIN_POSITIVE)
    }

    /// Whether no row of the partition is as near as the bar.
    pub(crate) fn excludes_all(&self, query: &CodedQuery, bar: f64) -> bool {
        if query.metric == Metric::Ip {
            let (limit, _) = self.limit(query, bar);
            return self.base - query.norm * self.radii[1] * (1.0 + SLACK) > limit;
        }
        let reach = self.reach(query, bar);
        self.far[0] - self.radii[1] > reach || self.radii[0] - self.far[1] > reach
    }

    /// What a kernel needs to tell by a part, the first or both, which rows may be as near as the bar.
    pub(crate) fn scoring(&self, query: &CodedQuery, part: usize, bar: f64) -> Scoring {
        self.scoring_by(query, (query.half_steps[part], query.biases[part]), query.allowed.e[part], bar)
    }

    /// The same of codes of signs.
    pub(crate) fn scoring_of_signs(&self, query: &CodedQuery, bar: f64) -> Scoring {
        self.scoring_by(query, query.sign_step(), query.allowed.e[0], bar)
    }

    fn scoring_by(&self, query: &CodedQuery, (half_step, bias): (f32, i32), e: f64, bar: f64) -> Scoring {
        let (limit, margin) = self.limit(query, bar);
        let least = self.base - self.constant(margin) - limit;
        let (margin, beyond) = (margin * e, self.beyond * query.allowed.beyond);
        #[expect(clippy::cast_possible_truncation, reason = "rounded so that more rows are kept")]
        let (margin, beyond, least) =
            ((margin as f32).next_up(), (beyond as f32).next_up(), (least as f32).next_down());
        let share = if query.metric == Metric::Ip { self.share } else { 1.0 };
        Scoring { half_step, bias, share, margin, beyond, least }
    }

    /// C of an estimate, by which rows of all partitions are compared.
    pub(crate) fn cost(&self, estimate: f32) -> f64 {
        self.base - f64::from(estimate)
    }

    /// The greatest C of rows that are by their estimates alone as near as the bar.
    pub(crate) fn nearest(&self, query: &CodedQuery, bar: f64) -> f64 {
        self.limit(query, bar).0
    }

    /// Whether a row of that C may be as near as the bar.
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "what is not a number is kept")]
    pub(crate) fn may_be_near(&self, query: &CodedQuery, cost: f64, e: f32, bar: f64) -> bool {
        let (limit, margin) = self.limit(query, bar);
        !(cost - f64::from(e) * margin * query.allowed.e[1] - self.constant(margin) > limit)
    }
}

#[cfg(test)]
mod tests;
