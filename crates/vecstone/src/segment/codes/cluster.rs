//! Centres: k-means in two levels, and the nearest centre of a vector.
//!
//! √k groups are found first, then centres in each, then each is moved once to the mean of the vectors that are nearest
//! to it. A vector is compared with all groups and with the centres of the nearest few, which finds the nearest centre
//! nearly always. Where it does not, a code is a little worse and nothing else.

use crate::segment::codes::frame::split_mix;
use crate::sys::kernel::{self, Kernels, QUERIES, ROWS};
use crate::sys::parallel;
use crate::types::error::{Error, Result};
use std::array;
use std::ops::{ControlFlow, Range};
use std::slice;

/// Groups in which the nearest centre is looked for.
const NEAREST_GROUPS: usize = 4;
/// Rounds of k-means at each level.
const ROUNDS: usize = 6;
/// Vectors that are compared with centres at once.
const TILE: usize = 1024;
/// Vectors for each group that the first level looks at.
const PER_GROUP: usize = 128;
/// Nearest centres among which the place of a copy is looked for.
const CANDIDATES: usize = 8;

/// Asked now and then whether to go on.
pub(crate) type Asked<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// Vectors of one length, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) width: usize,
}

impl<'a> Matrix<'a> {
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    fn part(&self, rows: Range<usize>) -> Matrix<'a> {
        Matrix { values: &self.values[rows.start * self.width..rows.end * self.width], ..*self }
    }

    /// Half of each vector's square.
    fn half_squares(&self, kernels: &Kernels) -> Vec<f32> {
        (0..self.rows()).map(|row| (kernels.dot)(self.row(row), self.row(row)).1 / 2.0).collect()
    }
}

/// Centres in groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Centres {
    /// Components of a vector.
    pub(crate) width: usize,
    pub(crate) groups: Vec<f32>,
    /// Where each group's centres start, and their number.
    pub(crate) starts: Vec<u32>,
    pub(crate) centres: Vec<f32>,
}

/// The number of a centre, behind half the square of its distance from a vector less half that of the vector's.
type Near = (f32, u32);
/// Of some vectors the nearest centre.
type Nearest = Vec<Near>;
/// No centre. A vector that is near to nothing, not being a number, goes to the first one.
const NOWHERE: Near = (f32::INFINITY, 0);

/// Keeps a centre in its place if it is one of the nearest.
fn keep(nearest: &mut [Near], far: f32, number: u32) {
    let mut at = nearest.len() - 1;
    if far < nearest[at].0 {
        nearest[at] = (far, number);
        while at > 0 && nearest[at].0 < nearest[at - 1].0 {
            nearest.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// The centre of a vector, and the one that its copy would go to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Two {
    pub(crate) nearest: u32,
    pub(crate) second: u32,
    /// How much more is lost at the second than at the nearest, as a factor.
    pub(crate) loss: f32,
}

/// Compares each of some vectors with each centre, and keeps the nearest so far.
fn compare(
    kernels: &Kernels,
    vectors: &[&[f32]],
    centres: Matrix<'_>,
    halves: &[f32],
    mut see: impl FnMut(usize, usize, f32),
) {
    for (first, vectors) in (0..).step_by(QUERIES).zip(vectors.chunks(QUERIES)) {
        let queries = array::from_fn(|n| vectors[n.min(vectors.len() - 1)]);
        for start in (0..centres.rows()).step_by(ROWS) {
            let rows = array::from_fn(|n| centres.row((start + n).min(centres.rows() - 1)));
            let block = (kernels.dots)(queries, rows);
            for (n, products) in block.iter().enumerate().take(vectors.len()) {
                for (m, product) in products.iter().enumerate().take(centres.rows() - start) {
                    see(first + n, start + m, halves[start + m] - product);
                }
            }
        }
    }
}

/// Finds the nearest centre of vectors.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    of: &'a Centres,
    group_halves: Vec<f32>,
    halves: Vec<f32>,
}

impl<'a> Finder<'a> {
    /// O(centres * width).
    pub(crate) fn new(of: &'a Centres) -> Finder<'a> {
        let kernels = kernel::kernels();
        let halves = of.all().half_squares(kernels);
        Finder { of, group_halves: of.of_groups().half_squares(kernels), halves }
    }

    /// The number of the nearest centre of each vector.
    pub(crate) fn nearest(&self, kernels: &Kernels, vectors: Matrix<'_>) -> Vec<u32> {
        let mut found = Vec::with_capacity(vectors.rows());
        for start in (0..vectors.rows()).step_by(TILE) {
            let tile = vectors.part(start..vectors.rows().min(start + TILE));
            found.extend(self.near_of_tile(kernels, tile).into_iter().map(|[(_, centre)]| centre));
        }
        found
    }

    /// Of each vector the nearest centre, and another one whose error is not that of the nearest: the one whose residual is
    /// small, and the more so along the residual of the nearest (SOAR: P. Sun, D. Simcha, D. Dopson, R. Guo and S. Kumar,
    /// Improved Indexing for Approximate Nearest Neighbor Search, 2023; with λ = 1).
    pub(crate) fn two(&self, kernels: &Kernels, vectors: Matrix<'_>) -> Vec<Two> {
        let mut found = Vec::with_capacity(vectors.rows());
        for start in (0..vectors.rows()).step_by(TILE) {
            let tile = vectors.part(start..vectors.rows().min(start + TILE));
            let near = self.near_of_tile::<CANDIDATES>(kernels, tile);
            found.extend(
                (0..tile.rows()).zip(&near).map(|(row, near)| self.two_of(kernels, tile.row(row), near)),
            );
        }
        found
    }

    fn two_of(&self, kernels: &Kernels, vector: &[f32], [first, others @ ..]: &[Near; CANDIDATES]) -> Two {
        let square = (kernels.dot)(vector, vector).1;
        let (centre, half) = (self.of.all().row(first.1 as usize), self.halves[first.1 as usize]);
        let own = square + 2.0 * first.0;
        let loss = |&(far, number): &Near| {
            // The product of both residuals, from those of vector and centres.
            let between = (kernels.dot)(centre, self.of.all().row(number as usize)).0;
            let along = square - (half - first.0) - (self.halves[number as usize] - far) + between;
            (square + 2.0 * far + along * along / own, number)
        };
        let there =
            others.iter().filter(|(far, _)| far.is_finite()).map(loss).filter(|(loss, _)| loss.is_finite());
        let (loss, second) = there.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or(NOWHERE);
        Two { nearest: first.1, second, loss: if own > 0.0 { loss / own } else { f32::INFINITY } }
    }

    /// The nearest centres of each vector, of those in the nearest groups.
    fn near_of_tile<const N: usize>(&self, kernels: &Kernels, tile: Matrix<'_>) -> Vec<[Near; N]> {
        let of = self.of;
        let groups = of.starts.len() - 1;
        let rows: Vec<&[f32]> = (0..tile.rows()).map(|row| tile.row(row)).collect();
        let mut near = vec![[NOWHERE; NEAREST_GROUPS]; rows.len()];
        compare(kernels, &rows, of.of_groups(), &self.group_halves, |row, group, far| {
            keep(&mut near[row], far, u32::try_from(group).unwrap_or(0));
        });
        let mut of_group: Vec<Vec<u32>> = vec![Vec::new(); groups];
        for (row, near) in (0..).zip(&near) {
            let there = near.iter().filter(|(far, _)| far.is_finite());
            there.for_each(|&(_, group)| of_group[group as usize].push(row));
        }
        let mut best = vec![[NOWHERE; N]; rows.len()];
        for (group, numbers) in of_group.iter().enumerate().filter(|(_, numbers)| !numbers.is_empty()) {
            let vectors: Vec<&[f32]> = numbers.iter().map(|&row| rows[row as usize]).collect();
            let (first, range) = (of.starts[group], of.range(group));
            let (centres, halves) = (of.all().part(range.clone()), &self.halves[range]);
            compare(kernels, &vectors, centres, halves, |n, centre, far| {
                keep(&mut best[numbers[n] as usize], far, first + u32::try_from(centre).unwrap_or(0));
            });
        }
        best
    }
}

impl Centres {
    /// The points of groups, and the centres.
    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let width = self.width;
        self.groups.chunks_exact_mut(width).chain(self.centres.chunks_exact_mut(width))
    }

    pub(crate) fn all(&self) -> Matrix<'_> {
        Matrix { values: &self.centres, width: self.width }
    }

    fn of_groups(&self) -> Matrix<'_> {
        Matrix { values: &self.groups, width: self.width }
    }

    fn range(&self, group: usize) -> Range<usize> {
        self.starts[group] as usize..self.starts[group + 1] as usize
    }

    /// `count` centres of a sample, which has at least as many vectors. On up to `threads` threads; the same for the same
    /// sample, however many they are. O(sample * √count * width).
    ///
    /// # Errors
    ///
    /// [`Cancelled`](Error::Cancelled) if `go_on` broke off.
    pub(crate) fn train(
        sample: Matrix<'_>,
        count: usize,
        threads: usize,
        go_on: Asked<'_>,
    ) -> Result<Centres> {
        let kernels = kernel::kernels();
        let groups = (count as f64).sqrt().ceil().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the root of a count")]
        let groups = (groups as usize).min(count);
        let rows: Vec<u32> = (0..u32::try_from(sample.rows()).unwrap_or(u32::MAX)).collect();
        let step = (rows.len() / (groups * PER_GROUP)).max(1);
        let first: Vec<u32> = rows.iter().copied().step_by(step).collect();
        let found = k_means(kernels, sample, &first, groups, threads, 1);
        ask(go_on)?;
        let one_level = Centres {
            width: sample.width,
            starts: (0..=u32::try_from(groups).unwrap_or(0)).collect(),
            centres: found.clone(),
            groups: found,
        };
        let of_group = members(kernels, &Finder::new(&one_level), sample, groups, threads);
        ask(go_on)?;
        let shares = shares(&of_group, count);
        let pieces = of_group.iter().zip(&shares).enumerate();
        let train = |done: &mut Vec<(usize, Vec<f32>)>,
                     (group, (rows, &share)): (usize, (&Vec<u32>, &usize))| {
            if share > 0 {
                done.push((group, k_means(kernels, sample, rows, share, 1, group as u64 + 2)));
            }
            Ok::<(), Error>(())
        };
        let mut done = parallel::for_each_piece(pieces, threads as u64, threads, Vec::new, train)?.concat();
        done.sort_by_key(|(group, _)| *group);
        ask(go_on)?;
        let (mut centres, mut starts, mut kept) = (Vec::new(), vec![0], Vec::new());
        for (group, found) in done {
            centres.extend(found);
            starts.push(u32::try_from(centres.len() / sample.width).unwrap_or(u32::MAX));
            kept.extend_from_slice(one_level.of_groups().row(group));
        }
        let mut trained = Centres { width: sample.width, groups: kept, starts, centres };
        trained.move_once(kernels, sample, threads);
        ask(go_on).map(|()| trained)
    }

    /// About so many centres in the place of these, found of these, then moved to the means of the sample.
    pub(crate) fn fewer(
        &self,
        sample: Matrix<'_>,
        count: usize,
        threads: usize,
        go_on: Asked<'_>,
    ) -> Result<Centres> {
        let mut fewer = Centres::train(self.all(), count.min(self.all().rows()), threads, go_on)?;
        fewer.move_once(kernel::kernels(), sample, threads);
        Ok(fewer)
    }

    /// Moves each centre to the mean of the vectors that are nearest to it.
    fn move_once(&mut self, kernels: &Kernels, sample: Matrix<'_>, threads: usize) {
        let of_centre = members(kernels, &Finder::new(self), sample, self.all().rows(), threads);
        let width = self.width;
        for (centre, rows) in self.centres.chunks_exact_mut(width).zip(&of_centre) {
            if !rows.is_empty() {
                mean(sample, rows, centre);
            }
        }
    }
}

fn ask(go_on: Asked<'_>) -> Result<()> {
    if go_on().is_break() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Of each centre the vectors that are nearest to it, in their order.
fn members(
    kernels: &Kernels,
    finder: &Finder<'_>,
    sample: Matrix<'_>,
    centres: usize,
    threads: usize,
) -> Vec<Vec<u32>> {
    let tiles = (0..sample.rows()).step_by(TILE);
    let look = |done: &mut Vec<(usize, Vec<u32>)>, start: usize| {
        let tile = sample.part(start..sample.rows().min(start + TILE));
        done.push((start, finder.nearest(kernels, tile)));
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(done) = parallel::for_each_piece(tiles, threads as u64, threads, Vec::new, look);
    let mut done = done.concat();
    done.sort_by_key(|(start, _)| *start);
    let mut members = vec![Vec::new(); centres];
    for (row, centre) in (0..).zip(done.into_iter().flat_map(|(_, nearest)| nearest)) {
        members[centre as usize].push(row);
    }
    members
}

/// How many centres each group gets: in proportion to its vectors, at least one if it has any, `count` in all or fewer.
fn shares(of_group: &[Vec<u32>], count: usize) -> Vec<usize> {
    let all: usize = of_group.iter().map(Vec::len).sum();
    let filled = of_group.iter().filter(|rows| !rows.is_empty()).count();
    let spare = count.saturating_sub(filled);
    let share = |rows: &Vec<u32>| if rows.is_empty() { 0 } else { 1 + spare * rows.len() / all.max(1) };
    of_group.iter().map(|rows| share(rows).min(rows.len())).collect()
}

fn mean(sample: Matrix<'_>, rows: &[u32], out: &mut [f32]) {
    let mut sums = vec![0f64; out.len()];
    for &row in rows {
        sums.iter_mut().zip(sample.row(row as usize)).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    #[expect(clippy::cast_possible_truncation, reason = "centres are f32")]
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum / rows.len() as f64) as f32);
}

/// Lloyd's k-means of some vectors of a sample, begun at `count` of them.
fn k_means(
    kernels: &Kernels,
    sample: Matrix<'_>,
    rows: &[u32],
    count: usize,
    threads: usize,
    seed: u64,
) -> Vec<f32> {
    let width = sample.width;
    let mut centres = Vec::with_capacity(count * width);
    let mut random = seed;
    for n in 0..count {
        // One of each stretch of the vectors: no vector twice.
        let (start, end) = (n * rows.len() / count, (n + 1) * rows.len() / count);
        let stretch = (end - start).max(1) as u64;
        let at = start + usize::try_from(split_mix(&mut random) % stretch).unwrap_or(0);
        centres.extend_from_slice(sample.row(rows[at] as usize));
    }
    if count == rows.len() {
        return centres;
    }
    for _ in 0..ROUNDS {
        let nearest = flat_nearest(kernels, sample, rows, Matrix { values: &centres, width }, threads);
        let mut members = vec![Vec::new(); count];
        nearest.iter().zip(rows).for_each(|(&(_, centre), &row)| members[centre as usize].push(row));
        let mut farthest: Vec<usize> = Vec::new();
        for (centre, members) in members.iter().enumerate() {
            if members.is_empty() {
                let taken = farthest.len();
                if taken == 0 {
                    farthest = by_distance(kernels, sample, rows, &nearest);
                }
                // A centre that has lost all goes to where one is missing.
                let at = farthest.pop().unwrap_or(0);
                centres[centre * width..][..width].copy_from_slice(sample.row(rows[at] as usize));
            } else {
                mean(sample, members, &mut centres[centre * width..][..width]);
            }
        }
    }
    centres
}

/// The vectors by the distance from their centre, the farthest last.
fn by_distance(kernels: &Kernels, sample: Matrix<'_>, rows: &[u32], nearest: &Nearest) -> Vec<usize> {
    let distance = |n: &usize| {
        let row = sample.row(rows[*n] as usize);
        nearest[*n].0 + (kernels.dot)(row, row).1 / 2.0
    };
    let mut order: Vec<(f32, usize)> = (0..rows.len()).map(|n| (distance(&n), n)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.into_iter().map(|(_, n)| n).collect()
}

fn flat_nearest(
    kernels: &Kernels,
    sample: Matrix<'_>,
    rows: &[u32],
    centres: Matrix<'_>,
    threads: usize,
) -> Nearest {
    let halves = centres.half_squares(kernels);
    let look = |done: &mut Vec<(usize, Nearest)>, (tile, rows): (usize, &[u32])| {
        let vectors: Vec<&[f32]> = rows.iter().map(|&row| sample.row(row as usize)).collect();
        let mut best: Nearest = vec![NOWHERE; rows.len()];
        compare(kernels, &vectors, centres, &halves, |row, centre, far| {
            keep(slice::from_mut(&mut best[row]), far, u32::try_from(centre).unwrap_or(0));
        });
        done.push((tile, best));
        Ok::<(), std::convert::Infallible>(())
    };
    let tiles = rows.chunks(TILE).enumerate();
    let Ok(done) = parallel::for_each_piece(tiles, threads as u64, threads, Vec::new, look);
    let mut done = done.concat();
    done.sort_by_key(|(tile, _)| *tile);
    done.into_iter().flat_map(|(_, best)| best).collect()
}
