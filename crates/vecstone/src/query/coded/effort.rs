//! What an approximate search has to spend, measured with rows of the store as queries, or with the user's.

use super::approximate::Spending;
use super::{Coded, Walk};
use crate::buffer::BufferSnapshot;
use crate::query::scan::{SearchRequest, nearest};
use crate::query::search::Rows;
use crate::segment::codes::build;
use crate::segment::codes::effort::{Effort, NEIGHBOURS, RECALLS};
use crate::segment::side::{GoOn, Optimize};
use crate::segment::version::{At, Version};
use crate::types::error::{Error, Result};
use crate::types::memory::check_memory;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that are queries, at most.
const QUERIES: u64 = 512;
/// Of those so many at once.
const AT_ONCE: usize = 32;
/// What is added to what they need.
const STANDARD_ERRORS: f64 = 2.0;

/// The neighbours of a query: where each is, the nearest first.
type Neighbours = Vec<(usize, u64)>;

/// What is searched for: rows of the store, each but for itself, or queries, one after the other.
enum Sample<'a> {
    Rows(Vec<At>),
    Queries(&'a [f32]),
}

impl Sample<'_> {
    fn len(&self, dim: usize) -> usize {
        match self {
            Sample::Rows(rows) => rows.len(),
            Sample::Queries(queries) => queries.len() / dim,
        }
    }

    fn vector<'s>(&'s self, version: &'s Version, n: usize) -> Result<Cow<'s, [f32]>> {
        let dim = version.schema.dim as usize;
        match self {
            Sample::Rows(rows) => version.vector(rows[n]),
            Sample::Queries(queries) => Ok(queries[n * dim..][..dim].into()),
        }
    }

    /// The row that is no neighbour of this one: itself.
    fn left_out(&self, n: usize) -> Option<(usize, u64)> {
        match self {
            Sample::Rows(rows) => Some((rows[n].segment, u64::from(rows[n].row))),
            Sample::Queries(_) => None,
        }
    }
}

/// Measures effort: of each of some rows, or queries, the nearest others are found by an exact search, and what is spent
/// before the partition of each, when partitions are taken as an approximate search takes them. Bounds leave out no more
/// than one neighbour of a hundred of those; what is measured is the rest. `None` if there are no codes.
pub(crate) fn measure(version: &Version, optimize: &Optimize<'_>, go_on: GoOn<'_>) -> Result<Option<Effort>> {
    if Coded::of(version, 1).is_none() {
        return Ok(None);
    }
    let sample =
        optimize.queries.map_or_else(|| Sample::Rows(build::sample(version, QUERIES)), Sample::Queries);
    let count = sample.len(version.schema.dim as usize);
    // Each query has its code, and for each neighbour its place, and what is spent before it, sorted beside it.
    let of_one = version.schema.stride() * 2 + NEIGHBOURS[NEIGHBOURS.len() - 1] as u64 * 40;
    check_memory((count as u64).saturating_mul(of_one))?;
    let (found, read) = neighbours(version, &sample, optimize.threads, go_on)?;
    let mut ask = || if go_on(read).is_break() { Err(Error::Cancelled) } else { Ok(()) };
    // Some may have been found damaged meanwhile.
    let Some(coded) = Coded::of(version, 1) else { return Ok(None) };
    let partitions = coded.partitions_of(&found, &mut ask)?;
    let mut walks = Vec::with_capacity(count);
    // For each number of neighbours, of each query, what is spent before each of them.
    let mut needed: [Vec<Vec<f64>>; NEIGHBOURS.len()] = Default::default();
    for (n, neighbours) in found.iter().enumerate() {
        ask()?;
        let vector = sample.vector(version, n)?;
        // One that has no code is searched for exactly.
        let Some(queries) = coded.code(&vector) else { continue };
        let walk = Walk { coded: &coded, queries, measured: Vec::new(), visited: Vec::new(), copies: true };
        let Some(before) = coded.spent_before(&walk) else { return Ok(None) };
        for (n, (needed, k)) in needed.iter_mut().zip(NEIGHBOURS).enumerate() {
            let needs = |row| {
                let partitions = partitions.get(row).into_iter().flatten();
                partitions.map(|&partition| before[partition][n]).reduce(f64::min).unwrap_or(0.0)
            };
            needed.push(neighbours.iter().take(k).map(needs).collect());
        }
        walks.push(walk);
    }
    let spent = needed.map(|needed| RECALLS.map(|recall| effort(&needed, recall.into()).unwrap_or(f64::MAX)));
    let mut looked = [[0; RECALLS.len()]; NEIGHBOURS.len()];
    // Partitions are put in order once more: to keep the order of all queries would take more memory than is worth it.
    for walk in &walks {
        ask()?;
        if coded.look(walk, &spent, &mut looked).is_none() {
            return Ok(None);
        }
    }
    // Without a query that has a code, all rows are looked at.
    let of_one = |looked: u64| looked.checked_div(walks.len() as u64).map_or(coded.rows, |looked| looked + 1);
    let looked = looked.map(|looked| looked.map(of_one));
    let queries = optimize.queries.map_or(0, |_| count as u64);
    Ok(Some(Effort { rows: version.live(), queries, spent, looked }))
}

/// The least that finds that share of the neighbours, and some standard errors more: what is measured of a sample may be too
/// little for others. `None` if there are no neighbours.
fn effort(needed: &[Vec<f64>], recall: f64) -> Option<f64> {
    let mut all: Vec<f64> = needed.concat();
    all.sort_unstable_by(f64::total_cmp);
    let is_enough = |effort: f64| {
        let shares = needed.iter().filter(|needed| !needed.is_empty()).map(|needed| {
            needed.iter().filter(|&&needs| needs <= effort).count() as f64 / needed.len() as f64
        });
        let (count, sum, squares) = shares.fold((0.0, 0.0, 0.0), |(count, sum, squares), share| {
            (count + 1.0, sum + share, squares + share * share)
        });
        let mean: f64 = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        mean - STANDARD_ERRORS * (variance / count).sqrt() >= recall
    };
    let at = all.partition_point(|&effort| !is_enough(effort));
    all.get(at).or(all.last()).copied()
}

/// The nearest rows of each of a sample; and how many bytes were read for them, about.
fn neighbours(
    version: &Version,
    sample: &Sample<'_>,
    threads: usize,
    go_on: GoOn<'_>,
) -> Result<(Vec<Neighbours>, u64)> {
    let (schema, buffered) = (&version.schema, BufferSnapshot::default());
    let (live, puts) = (version.live(), Vec::new());
    let rows = Rows { version: Arc::new(version.clone()), live, buffered: &buffered, puts };
    let most = NEIGHBOURS[NEIGHBOURS.len() - 1];
    let k = usize::try_from(version.live()).unwrap_or(usize::MAX).min(most + 1);
    let (metric, dim) = (schema.metric, schema.dim as usize);
    let count = sample.len(dim);
    // As if all queries together read each row once: codes are less, and rows that they leave are more.
    let of_all = version.live().saturating_mul(schema.stride());
    let read_for = |queries: usize| of_all / count.max(1) as u64 * queries as u64;
    let mut all = Vec::with_capacity(count);
    for first in (0..count).step_by(AT_ONCE) {
        if go_on(read_for(all.len())).is_break() {
            return Err(Error::Cancelled);
        }
        let some = first..count.min(first + AT_ONCE);
        let mut queries = Vec::with_capacity(some.len() * dim);
        for n in some.clone() {
            queries.extend_from_slice(&sample.vector(version, n)?);
        }
        let request = SearchRequest { metric, dim, queries: &queries, k, radius: None, recall: 1.0 };
        for (found, n) in nearest(&rows, &request, threads)?.into_iter().zip(some) {
            let others = found.rows.iter().map(|row| (row.segment, row.row));
            all.push(others.filter(|&row| Some(row) != sample.left_out(n)).take(most).collect());
        }
    }
    let read = read_for(all.len());
    Ok((all, read))
}

impl Coded<'_> {
    /// The partitions that each row that is a neighbour is in, or has a copy in.
    fn partitions_of(
        &self,
        found: &[Neighbours],
        ask: &mut dyn FnMut() -> Result<()>,
    ) -> Result<HashMap<(usize, u64), Vec<usize>>> {
        let mut partitions: HashMap<(usize, u64), Vec<usize>> =
            found.iter().flatten().map(|&row| (row, Vec::new())).collect();
        for at in 0..self.partitions {
            ask()?;
            let (ready, of) = self.partition(at);
            let Some(back) = ready.file.codes.back(of) else { continue };
            for ordinal in (0..of.codes()).map(|row| back.ordinal(row)) {
                let known = self.live(&ready.file, ordinal).and_then(|row| partitions.get_mut(&row));
                known.into_iter().for_each(|partitions| partitions.push(at));
            }
        }
        Ok(partitions)
    }

    /// What a search has spent when it comes to each partition, by [`NEIGHBOURS`]; `None` if something is damaged.
    fn spent_before(&self, walk: &Walk<'_, '_>) -> Option<Vec<[f64; NEIGHBOURS.len()]>> {
        let mut before = vec![[0.0; NEIGHBOURS.len()]; self.partitions];
        let mut looked = NEIGHBOURS.map(|k| Spending::new(k as u64, &walk.queries));
        for (at, estimate) in self.nearest(walk, self.rows)? {
            before[at] = looked.each_ref().map(|looked| looked.spent(estimate));
            let codes = self.partition(at).1.codes() as u64;
            looked.iter_mut().for_each(|looked| looked.take(codes, estimate));
        }
        Some(before)
    }

    /// Adds how many rows and copies a search looks at until so much is spent; `None` if something is damaged.
    fn look(
        &self,
        walk: &Walk<'_, '_>,
        enough: &[[f64; RECALLS.len()]; NEIGHBOURS.len()],
        codes: &mut [[u64; RECALLS.len()]; NEIGHBOURS.len()],
    ) -> Option<()> {
        let mut looked = NEIGHBOURS.map(|k| Spending::new(k as u64, &walk.queries));
        for (at, estimate) in self.nearest(walk, self.rows)? {
            let of = self.partition(at).1.codes() as u64;
            for ((looked, enough), codes) in looked.iter_mut().zip(enough).zip(&mut *codes) {
                let spent = looked.spent(estimate);
                for (codes, _) in codes.iter_mut().zip(enough).filter(|(_, enough)| spent <= **enough) {
                    *codes += of;
                }
                looked.take(of, estimate);
            }
        }
        Some(())
    }
}
