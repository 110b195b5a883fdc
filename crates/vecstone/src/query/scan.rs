//! Exact search by a scan of all live rows, on every core.
//!
//! Kernels of f32 measure each row; a row whose lower bound is above the k-th best distance so far is dropped, and every
//! other one is measured by [`reference_distance`](crate::reference_distance). So the answer is that of a scan by
//! `reference_distance` alone, bit for bit, whatever the processor and the number of threads.
//!
//! Some sizes are smaller in this crate's own tests, so that small stores have many morsels and tiles.

use crate::query::bound::Bound;
use crate::query::coded;
use crate::query::distance::{DistanceComputer, bar_of_radius};
use crate::query::explain::{Explain, SearchPath, WhyExact};
use crate::query::search::{BUFFER, Candidate, Rows};
use crate::segment::codes::effort::Enough;
use crate::sys::interrupt;
use crate::sys::kernel::{self, Kernels, QUERIES, ROWS, STREAMS};
use crate::sys::parallel;
use crate::sys::sync::Instant;
use crate::types::config::Metric;
use crate::types::error::{Error, Result};
use crate::types::memory::check_memory;
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
    /// The share of these that is to be found; 1 is exact.
    pub(crate) recall: f32,
}

/// What the search for one query found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Nearest first.
    pub(crate) rows: Vec<Candidate>,
    /// What was done for it.
    pub(crate) explain: Explain,
}

/// Components for each thread, below which starting one costs more than it saves.
const COMPONENTS_PER_THREAD: u64 = 1 << 19;

/// Bytes of live rows that a thread takes at a time. A sixth of them, what lies between the rows that are measured side by
/// side, is many pages.
const MORSEL_BYTES: u64 = if cfg!(test) { 2 << 10 } else { 256 << 10 };

/// Bytes of rows that are measured against all queries before the next ones: they stay in the second cache, beside the
/// queries of a block in the first.
const TILE_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 128 << 10 };

/// Some rows, live or not, that one thread scans.
struct Morsel {
    /// `BUFFER`: the rows are positions in the list of puts.
    segment: usize,
    rows: Range<u64>,
}

/// For each query the rows nearest to it, nearest first: over codes, as far as there are any, and they help.
/// O(queries * rows * dim) on up to `limit` threads.
///
/// # Errors
///
/// [`Error::FloatingPointMode`] where the calling thread does not round as the distances are defined.
pub(crate) fn nearest(rows: &Rows<'_>, request: &SearchRequest<'_>, limit: usize) -> Result<Vec<Found>> {
    if !kernel::rounds_to_nearest() {
        return Err(Error::FloatingPointMode);
    }
    let searches = request.queries.chunks_exact(request.dim).map(|query| Search::new(request, query));
    let mut searches: Vec<Search<'_>> = searches.collect();
    let enough = enough(rows, request);
    let coded = coded::search(&rows.version, &mut searches, (request.k, enough.ok()), limit)?;
    if request.recall < 1.0 {
        for search in searches.iter_mut().filter(|search| search.explain.path != SearchPath::Approximate) {
            let why = enough.err().filter(|why| *why != WhyExact::NotMeasured || coded.is_some());
            search.explain.why_exact = Some(why.unwrap_or(WhyExact::NoCodes));
        }
    }
    let (over_codes, over_rows): (Vec<_>, Vec<_>) =
        searches.iter_mut().partition(|search| search.explain.path.is_done_by_codes());
    scan_all(rows, coded.as_ref(), request, over_codes, limit)?;
    scan_all(rows, None, request, over_rows, limit)?;
    searches.into_iter().map(Search::finish).collect()
}

/// When an approximate search has looked at enough; or why it is exact, if it was not to be. A radius is a bar from the
/// beginning on: bounds that allow for chance would drop rows before there are as many as are asked for.
fn enough(rows: &Rows<'_>, request: &SearchRequest<'_>) -> Result<Enough, WhyExact> {
    if request.recall >= 1.0 {
        return Err(WhyExact::Recall);
    }
    if request.radius.is_some() {
        return Err(WhyExact::Radius);
    }
    coded::enough(&rows.version, request.k, request.recall, rows.live)
}

/// Measures rows against the queries of some searches: all, or those without a code. The rows are walked through once.
fn scan_all<'q>(
    rows: &Rows<'_>,
    coded: Option<&Vec<Vec<Range<u64>>>>,
    request: &SearchRequest<'q>,
    searches: Vec<&mut Search<'q>>,
    limit: usize,
) -> Result<()> {
    if searches.is_empty() {
        return Ok(());
    }
    let morsels = morsels(rows, coded);
    if morsels.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let count: u64 = morsels.iter().map(|morsel| morsel.rows.end - morsel.rows.start).sum();
    let components = count.min(rows.len()).saturating_mul((request.dim * searches.len()) as u64);
    let (wanted, begin) =
        (components / COMPONENTS_PER_THREAD, || searches.iter().map(|search| search.fresh()).collect());
    let scan = |searches: &mut Vec<Search<'q>>, morsel| scan(rows, &morsel, searches);
    let done = parallel::for_each_piece(morsels.into_iter(), wanted, limit, begin, scan)?;
    let mut searches = searches;
    for others in done {
        searches.iter_mut().zip(others).for_each(|(search, other)| search.take(other));
    }
    let elapsed = start.elapsed();
    searches.iter_mut().for_each(|search| search.explain.scan += elapsed);
    Ok(())
}

/// Rows in pieces for one thread each: all, or those without a code. The fewer are live, the longer the pieces.
fn morsels(rows: &Rows<'_>, coded: Option<&Vec<Vec<Range<u64>>>>) -> Vec<Morsel> {
    let at_once = sixths(MORSEL_BYTES, rows);
    let mut stretches = Vec::new();
    for (segment, part) in rows.version.segments.iter().enumerate() {
        match coded {
            None => stretches.push((segment, 0..part.rows)),
            Some(hot) => stretches.extend(hot[segment].iter().map(|rows| (segment, rows.clone()))),
        }
    }
    stretches.push((BUFFER, 0..rows.puts.len() as u64));
    let pieces = |(segment, all): (usize, Range<u64>)| {
        let part = rows.version.segments.get(segment);
        let len = part.map_or(at_once, |part| at_once * part.rows.max(1) / part.live().max(1));
        let starts = all.clone().step_by(usize::try_from(len).unwrap_or(usize::MAX));
        starts.map(move |start| Morsel { segment, rows: start..all.end.min(start + len) })
    };
    stretches.into_iter().flat_map(pieces).collect()
}

/// How many rows have about so many bytes: as many in each sixth.
fn sixths(bytes: u64, rows: &Rows<'_>) -> u64 {
    let streams = STREAMS as u64;
    (bytes / rows.version.schema.stride() / streams).max(1) * streams
}

/// Measures the live rows of a morsel against all queries.
fn scan(rows: &Rows<'_>, morsel: &Morsel, searches: &mut [Search<'_>]) -> Result<()> {
    let (kernels, segment) = (kernel::kernels(), morsel.segment);
    let bytes = if searches.len() == 1 { MORSEL_BYTES } else { TILE_BYTES };
    let full = usize::try_from(sixths(bytes, rows)).unwrap_or(usize::MAX);
    let offer = |tile: &[Row<'_>], searches: &mut [Search<'_>]| match searches {
        [search] => search.offer(kernels, segment, tile),
        searches => offer_tile(kernels, segment, tile, searches),
    };
    interrupt::check()?;
    let mut tile = Vec::with_capacity(full);
    for_each_row(rows, morsel, |row, vector| {
        tile.push((row, vector));
        if tile.len() == full {
            offer(&tile, searches);
            tile.clear();
        }
    })?;
    offer(&tile, searches);
    // Where this says so, not all queries were offered the last tiles.
    Ok(interrupt::check()?)
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
fn offer_tile(kernels: &Kernels, segment: usize, tile: &[Row<'_>], searches: &mut [Search<'_>]) {
    let Some(first) = searches.first() else { return };
    let l2 = first.computer.metric() == Metric::L2;
    let norm = |row: &[f32]| if l2 { 0.0 } else { first.bound.row_norm((kernels.dot)(row, row).1) };
    let norms: Vec<f64> = tile.iter().map(|(_, row)| norm(row)).collect();
    let measure = if l2 { kernels.l2s } else { kernels.dots };
    for searches in searches.chunks_mut(QUERIES) {
        if interrupt::check().is_err() {
            return;
        }
        searches.iter_mut().for_each(|search| search.explain.rows_scanned += tile.len() as u64);
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

/// A row's number and its components.
type Row<'a> = (u64, Cow<'a, [f32]>);

/// The search for the neighbours of one query.
pub(crate) struct Search<'q> {
    computer: DistanceComputer<'q>,
    bound: Bound,
    k: usize,
    /// Rows farther than this are of no interest: the distance of the k-th best row so far, or of the radius.
    bar: f64,
    /// The bar of the radius.
    radius: f64,
    best: BinaryHeap<Candidate>,
    /// Bytes for more rows that could not be had.
    lacking: Option<u64>,
    pub(crate) explain: Explain,
}

impl<'q> Search<'q> {
    fn new(request: &SearchRequest<'_>, query: &'q [f32]) -> Search<'q> {
        let computer = DistanceComputer::new(request.metric, query);
        let mut bound = Bound::new(request.metric, query.len(), computer.query_norm_sq());
        let bar = request.radius.map_or(f64::INFINITY, |radius| bar_of_radius(request.metric, radius));
        bound.set_bar(bar);
        let explain = Explain { queries: 1, ..Explain::default() };
        let best = BinaryHeap::new();
        Search { computer, bound, k: request.k, bar, radius: bar, best, lacking: None, explain }
    }

    /// Another one for the same query, with the same bar: what it finds is taken later.
    pub(crate) fn fresh(&self) -> Search<'q> {
        let Search { computer, bound, k, bar, radius, lacking, .. } = *self;
        let (best, explain) = (BinaryHeap::new(), Explain::default());
        Search { computer, bound, k, bar, radius, best, lacking, explain }
    }

    /// Forgets what was found.
    pub(crate) fn restart(&mut self) {
        self.bar = self.radius;
        self.bound.set_bar(self.bar);
        self.best.clear();
        self.explain.path = SearchPath::Scan;
    }

    /// Adds what another one found, and what it did.
    pub(crate) fn take(&mut self, other: Search<'_>) {
        self.lacking = self.lacking.or(other.lacking);
        other.best.into_iter().for_each(|candidate| self.keep(candidate));
        self.explain.add(&other.explain);
    }

    pub(crate) fn query(&self) -> &'q [f32] {
        self.computer.query()
    }

    pub(crate) fn bar(&self) -> f64 {
        self.bar
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Whether the bar is the distance of a row.
    pub(crate) fn is_full(&self) -> bool {
        self.best.len() == self.k
    }

    /// The nearest rows, each once, nearest first.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if there was no room for them.
    fn finish(self) -> Result<Found> {
        if let Some(bytes) = self.lacking {
            return Err(Error::OutOfMemory { bytes });
        }
        let mut rows = self.best.into_sorted_vec();
        // A file of codes that was made up may have a row twice.
        rows.dedup_by_key(|candidate| (candidate.segment, candidate.row));
        Ok(Found { rows, explain: self.explain })
    }

    /// Measures the rows of a tile, unless their bounds are enough: the first of each sixth beside each other, then the
    /// ones behind these; where they are no streams, neighbours beside each other.
    fn offer(&mut self, kernels: &Kernels, segment: usize, tile: &[Row<'_>]) {
        self.explain.rows_scanned += tile.len() as u64;
        let (query, l2) = (self.computer.query(), self.computer.metric() == Metric::L2);
        let groups = tile.len().div_ceil(STREAMS);
        let (apart, next) = if kernels.reads_streams() { (groups, 1) } else { (1, STREAMS) };
        for at in (0..groups).map(|group| group * next) {
            // In the place of what is missing the last one is measured again.
            let vectors = array::from_fn(|n| &*tile[(at + n * apart).min(tile.len() - 1)].1);
            let results = if l2 {
                (kernels.l2_rows)(query, vectors).map(|[square]| (square, 0.0))
            } else {
                (kernels.dot_rows)(query, vectors).map(|[dot, square]| (dot, self.bound.row_norm(square)))
            };
            for ((row, vector), (result, norm)) in tile[at..].iter().step_by(apart).zip(results) {
                if !self.bound.drops(result, norm) {
                    self.refine(segment, *row, vector);
                }
            }
        }
    }

    /// Measures a row by the reference and keeps it if it is one of the k best.
    pub(crate) fn refine(&mut self, segment: usize, row: u64, vector: &[f32]) {
        self.explain.rows_refined += 1;
        let distance = self.computer.distance(vector);
        self.keep(Candidate { distance, segment, row });
    }

    /// Whether one more row can be kept. Where memory lacks, this is the last that is asked for.
    fn has_room(&mut self) -> bool {
        let len = self.best.len();
        if len < self.best.capacity() {
            return true;
        }
        let more = len.max(64).min(self.k - len);
        let bytes = ((len + more) * size_of::<Candidate>()) as u64;
        let had = check_memory(bytes).is_ok() && self.best.try_reserve_exact(more).is_ok();
        if !had {
            (self.lacking, self.k) = (Some(bytes), len);
        }
        had
    }

    fn keep(&mut self, candidate: Candidate) {
        let distance = candidate.distance;
        // Of damaged rows, whose distance may be NaN, none is nearer than a bar. Behind no bar they are last.
        if self.bar < f64::INFINITY && (distance > self.bar || distance.is_nan()) {
            return;
        }
        if self.best.len() < self.k {
            if self.has_room() {
                self.best.push(candidate);
            }
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
