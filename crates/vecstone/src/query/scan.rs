//! Exact search by a scan of all live rows, on every core.
//!
//! Kernels of f32 measure each row; a row whose lower bound is above the k-th best distance so far is dropped, and every
//! other one is measured by [`reference_distance`](crate::reference_distance). So the answer is that of a scan by
//! `reference_distance` alone, bit for bit, whatever the processor and the number of threads.

use crate::query::bound::Bound;
use crate::query::distance::{DistanceComputer, bar_of_radius};
use crate::query::kernel::{self, Kernels, QUERIES, ROWS};
use crate::query::search::{BUFFER, Candidate, Rows};
use crate::sys::parallel;
use crate::types::config::Metric;
use crate::types::error::{Error, Result};
use std::array;
use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::ops::Range;

/// What a search looks for.
pub(crate) struct SearchRequest<'a> {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// One query after the other.
    pub(crate) queries: &'a [f32],
    /// At most so many for each query.
    pub(crate) k: usize,
    pub(crate) radius: Option<f32>,
}

/// What the search for one query found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Nearest first.
    pub(crate) rows: Vec<Candidate>,
    /// How many rows were measured by the reference.
    pub(crate) refined: u64,
}

/// Components for each thread, below which starting one costs more than it saves.
const COMPONENTS_PER_THREAD: u64 = 1 << 19;

/// Bytes of rows that a thread takes at a time.
const MORSEL_BYTES: u64 = 256 << 10;

/// Bytes of rows that are measured against all queries before the next ones: they stay in the second cache, beside the
/// queries of a block in the first.
const TILE_BYTES: usize = 128 << 10;

/// Some rows, live or not, that one thread scans.
struct Morsel {
    /// `BUFFER`: the rows are positions in the list of puts.
    segment: usize,
    rows: Range<u64>,
}

/// For each query the rows nearest to it, nearest first. The rows are walked through once. O(queries * rows * dim) on up
/// to `limit` threads.
///
/// # Errors
///
/// [`Error::FloatingPointMode`] where the calling thread does not round as the distances are defined.
pub(crate) fn nearest(rows: &Rows<'_>, request: &SearchRequest<'_>, limit: usize) -> Result<Vec<Found>> {
    if !kernel::rounds_to_nearest() {
        return Err(Error::FloatingPointMode);
    }
    let searches = || request.queries.chunks_exact(request.dim).map(|query| Search::new(request, query));
    let scan = |searches: &mut Vec<_>, morsel| scan(rows, &morsel, request, searches);
    let components = rows.len().saturating_mul(request.queries.len() as u64);
    let mut found = vec![Found::default(); searches().count()];
    let done = parallel::for_each_piece(
        morsels(rows),
        components / COMPONENTS_PER_THREAD,
        limit,
        || searches().collect(),
        scan,
    );
    for searches in done? {
        for (found, search) in found.iter_mut().zip(searches) {
            found.rows.extend(search.best);
            found.refined += search.refined;
        }
    }
    for found in &mut found {
        found.rows.sort_unstable();
        found.rows.truncate(request.k);
    }
    Ok(found)
}

/// All rows, in pieces for one thread each.
fn morsels(rows: &Rows<'_>) -> impl Iterator<Item = Morsel> + Send {
    let at_once = (MORSEL_BYTES / rows.version.schema.stride()).max(1);
    let segments = rows.version.segments.iter().enumerate().map(|(segment, part)| (segment, part.rows));
    let all = segments.chain([(BUFFER, rows.puts.len() as u64)]);
    let pieces = move |(segment, end)| {
        let starts = (0..end).step_by(usize::try_from(at_once).unwrap_or(usize::MAX));
        starts.map(move |start| Morsel { segment, rows: start..end.min(start + at_once) })
    };
    all.flat_map(pieces)
}

/// Measures the live rows of a morsel against all queries.
fn scan(
    rows: &Rows<'_>,
    morsel: &Morsel,
    request: &SearchRequest<'_>,
    searches: &mut [Search<'_>],
) -> Result<()> {
    let (kernels, segment) = (kernel::kernels(), morsel.segment);
    if let [search] = searches {
        return for_each_row(rows, morsel, |row, vector| search.offer(kernels, segment, row, &vector));
    }
    let full = (TILE_BYTES / (request.dim * size_of::<f32>())).max(ROWS);
    let mut tile = Vec::with_capacity(full);
    for_each_row(rows, morsel, |row, vector| {
        tile.push((row, vector));
        if tile.len() == full {
            offer_tile(kernels, segment, &tile, searches);
            tile.clear();
        }
    })?;
    offer_tile(kernels, segment, &tile, searches);
    Ok(())
}

/// Hands on the live rows of a morsel, each with its number.
fn for_each_row<'a>(
    rows: &'a Rows<'_>,
    morsel: &Morsel,
    mut see: impl FnMut(u64, Cow<'a, [f32]>),
) -> Result<()> {
    if morsel.segment == BUFFER {
        let index = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        for &number in &rows.puts[index(morsel.rows.start)..index(morsel.rows.end)] {
            let (chunk, op) = rows.buffered.op(number);
            chunk.vector(op).into_iter().for_each(|vector| see(number, Cow::Borrowed(vector)));
        }
    } else {
        let part = &rows.version.segments[morsel.segment];
        let (map, element) = (part.dat_map()?, rows.version.schema.element);
        for row in part.deletions.live_in(morsel.rows.clone()) {
            see(row, element.decode(part.row_in(map, row)?));
        }
    }
    Ok(())
}

/// Measures the rows of a tile against all queries, block by block.
fn offer_tile(
    kernels: &Kernels,
    segment: usize,
    tile: &[(u64, Cow<'_, [f32]>)],
    searches: &mut [Search<'_>],
) {
    let Some(first) = searches.first() else { return };
    let l2 = first.computer.metric() == Metric::L2;
    let norm = |row: &[f32]| if l2 { 0.0 } else { first.bound.row_norm((kernels.dot)(row, row).1) };
    let norms: Vec<f64> = tile.iter().map(|(_, row)| norm(row)).collect();
    let measure = if l2 { kernels.l2s } else { kernels.dots };
    for searches in searches.chunks_mut(QUERIES) {
        // What is missing in the last block is measured twice.
        let queries = array::from_fn(|n| searches[n.min(searches.len() - 1)].computer.query());
        for (rows, norms) in tile.chunks(ROWS).zip(norms.chunks(ROWS)) {
            let block = measure(queries, array::from_fn(|n| &*rows[n.min(rows.len() - 1)].1));
            for (search, results) in searches.iter_mut().zip(block) {
                for (((row, vector), &norm), result) in rows.iter().zip(norms).zip(results) {
                    if !search.bound.drops(result, norm) {
                        search.refine(segment, *row, vector);
                    }
                }
            }
        }
    }
}

/// The search for the neighbours of one query.
struct Search<'q> {
    computer: DistanceComputer<'q>,
    bound: Bound,
    k: usize,
    /// Rows farther than this are of no interest: the distance of the k-th best row so far, or of the radius.
    bar: f64,
    best: BinaryHeap<Candidate>,
    /// Rows measured by the reference.
    refined: u64,
}

impl<'q> Search<'q> {
    fn new(request: &SearchRequest<'_>, query: &'q [f32]) -> Search<'q> {
        let computer = DistanceComputer::new(request.metric, query);
        let mut bound = Bound::new(request.metric, query.len(), computer.query_norm_sq());
        let bar = request.radius.map_or(f64::INFINITY, |radius| bar_of_radius(request.metric, radius));
        bound.set_bar(bar);
        Search { computer, bound, k: request.k, bar, best: BinaryHeap::new(), refined: 0 }
    }

    /// Measures a row, unless its bound is enough.
    fn offer(&mut self, kernels: &Kernels, segment: usize, row: u64, vector: &[f32]) {
        let drops = self.bar < f64::INFINITY
            && if self.computer.metric() == Metric::L2 {
                self.bound.drops((kernels.l2)(self.computer.query(), vector), 0.0)
            } else {
                let (dot, square) = (kernels.dot)(self.computer.query(), vector);
                self.bound.drops(dot, self.bound.row_norm(square))
            };
        if !drops {
            self.refine(segment, row, vector);
        }
    }

    /// Measures a row by the reference and keeps it if it is one of the k best.
    fn refine(&mut self, segment: usize, row: u64, vector: &[f32]) {
        let distance = self.computer.distance(vector);
        self.refined += 1;
        // Of damaged rows, whose distance may be NaN, none is nearer than a bar. Behind no bar they are last.
        if self.bar < f64::INFINITY && (distance > self.bar || distance.is_nan()) {
            return;
        }
        let candidate = Candidate { distance, segment, row };
        if self.best.len() < self.k {
            self.best.push(candidate);
        } else if let Some(mut worst) = self.best.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
        if let Some(worst) = self.best.peek().filter(|_| self.best.len() == self.k) {
            self.bar = self.bar.min(worst.distance);
            self.bound.set_bar(self.bar);
        }
    }
}

#[cfg(test)]
mod tests;
