//! Exact search: a scan of the live rows by [`reference_distance`](crate::reference_distance), on every core.

use crate::buffer;
use crate::config::Metric;
use crate::crew;
use crate::distance::{Measure, reported, squared};
use crate::error::Result;
use crate::filter::Filter;
use crate::id::Id;
use crate::view::{At, View};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{self, AtomicUsize};

/// Which rows a search is about, and what it gives back beside ids and distances.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SearchOptions {
    /// The vectors.
    pub vectors: bool,
    /// The documents.
    pub documents: bool,
    /// Only rows that it selects.
    pub filter: Option<Filter>,
    /// Only rows at this distance or nearer.
    pub radius: Option<f32>,
}

impl SearchOptions {
    /// Ids and distances only, of all rows.
    pub fn new() -> SearchOptions {
        SearchOptions::default()
    }

    /// With the vector of each result.
    pub fn with_vectors(mut self) -> SearchOptions {
        self.vectors = true;
        self
    }

    /// With the document of each result.
    pub fn with_documents(mut self) -> SearchOptions {
        self.documents = true;
        self
    }

    /// Among the rows that the filter selects only: the `k` nearest of them, or all if they are fewer.
    pub fn filter(mut self, filter: Filter) -> SearchOptions {
        self.filter = Some(filter);
        self
    }

    /// Only rows whose [`distance`](Neighbor::distance), as it is given back, is at most `radius`: the `k` nearest of
    /// them, or all if they are fewer. In the units of the store's metric: `l2` is squared.
    pub fn radius(mut self, radius: f32) -> SearchOptions {
        self.radius = Some(radius);
        self
    }
}

/// What a search found. Used like a slice of [`Neighbor`]s, nearest first.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Hits {
    /// Nearest first; of two at the same distance the older first.
    pub hits: Vec<Neighbor>,
    /// Whether these are surely the nearest. Always true in this release.
    pub exact: bool,
    /// Rows whose vectors were read to measure their distance, buffered ones included.
    pub rows_read: u64,
}

impl Deref for Hits {
    type Target = [Neighbor];

    fn deref(&self) -> &[Neighbor] {
        &self.hits
    }
}

impl IntoIterator for Hits {
    type Item = Neighbor;
    type IntoIter = std::vec::IntoIter<Neighbor>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

impl<'a> IntoIterator for &'a Hits {
    type Item = &'a Neighbor;
    type IntoIter = std::slice::Iter<'a, Neighbor>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.iter()
    }
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Neighbor {
    /// The id.
    pub id: Id,
    /// Its distance from the query in the store's metric; smaller is nearer. Never NaN.
    pub distance: f32,
    /// Its vector, if the search was to give it.
    pub vector: Option<Vec<f32>>,
    /// Its JSON document, if the search was to give it and there is one.
    pub document: Option<String>,
}

/// A row and its distance. Ordered by distance, then by age: rows of the files before those of the buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f64,
    /// Place of the segment in the view; `BUFFER` for the buffer.
    pub(crate) segment: usize,
    /// Row of the segment, or op of the buffer.
    pub(crate) row: u64,
}

/// The place of the buffer: behind all segments.
pub(crate) const BUFFER: usize = usize::MAX;

impl Candidate {
    /// The row, unless it is in the buffer.
    pub(crate) fn at(&self) -> Option<At> {
        let row = u32::try_from(self.row).ok()?;
        (self.segment != BUFFER).then_some(At { segment: self.segment, row })
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // Only a damaged row has a distance that is NaN; it sorts last.
        let nan = self.distance.is_nan().cmp(&other.distance.is_nan());
        let distance = self.distance.partial_cmp(&other.distance).unwrap_or(nan);
        distance.then((self.segment, self.row).cmp(&(other.segment, other.row)))
    }
}

/// What a search looks through.
pub(crate) struct Rows<'a> {
    /// The live rows of the files.
    pub(crate) view: Arc<View>,
    pub(crate) buffered: &'a buffer::View,
    /// Puts of the buffer, by number.
    pub(crate) puts: Vec<u64>,
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> u64 {
        self.view.live() + self.puts.len() as u64
    }
}

/// What a search looks for.
pub(crate) struct Wanted<'a> {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// One query after the other.
    pub(crate) queries: &'a [f32],
    /// At most so many for each query.
    pub(crate) k: usize,
    pub(crate) radius: Option<f32>,
}

/// The nearest candidates so far.
struct Best {
    k: usize,
    heap: BinaryHeap<Candidate>,
}

impl Best {
    fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }
}

/// Components below which a second thread costs more than it saves.
const COMPONENTS_PER_THREAD: u64 = 1 << 18;

/// Bytes of rows that a thread takes at a time.
const TURN_BYTES: u64 = 256 << 10;

/// Bytes of rows that are measured against all queries before the next ones: they stay in the fastest cache.
const TILE_BYTES: usize = 16 << 10;

/// Some rows, live or not, that one thread scans.
struct Turn {
    /// `BUFFER`: the rows are places in the list of puts.
    segment: usize,
    rows: Range<u64>,
}

/// For each query the rows nearest to it, nearest first. The rows are walked through once. O(queries * rows * dim) on up
/// to `limit` threads.
pub(crate) fn nearest(rows: &Rows<'_>, wanted: &Wanted<'_>, limit: usize) -> Result<Vec<Vec<Candidate>>> {
    let queries = wanted.queries.chunks_exact(wanted.dim);
    let measures: Vec<_> = queries.map(|query| Measure::new(wanted.metric, query)).collect();
    let turns = turns(rows, wanted.dim);
    let next = AtomicUsize::new(0);
    let work = || {
        let none = || Best { k: wanted.k, heap: BinaryHeap::new() };
        let mut best: Vec<Best> = measures.iter().map(|_| none()).collect();
        while let Some(turn) = turns.get(next.fetch_add(1, atomic::Ordering::Relaxed)) {
            scan(rows, turn, wanted, &measures, &mut best)?;
        }
        Ok(best)
    };
    let components = rows.len().saturating_mul(wanted.queries.len() as u64);
    let mut found = vec![Vec::new(); measures.len()];
    for best in crew::together(components / COMPONENTS_PER_THREAD, limit, work) {
        found.iter_mut().zip(best?).for_each(|(found, best)| found.extend(best.heap));
    }
    for found in &mut found {
        found.sort_unstable();
        found.truncate(wanted.k);
    }
    Ok(found)
}

/// All rows, in pieces for one thread each.
fn turns(rows: &Rows<'_>, dim: usize) -> Vec<Turn> {
    let at_once = (TURN_BYTES / (dim as u64 * 4)).max(1);
    let segments = rows.view.segments.iter().enumerate().map(|(segment, part)| (segment, part.rows));
    let all = segments.chain([(BUFFER, rows.puts.len() as u64)]);
    let pieces = |(segment, end)| {
        let starts = (0..end).step_by(usize::try_from(at_once).unwrap_or(usize::MAX));
        starts.map(move |start| Turn { segment, rows: start..end.min(start + at_once) })
    };
    all.flat_map(pieces).collect()
}

/// Measures the live rows of a turn against all queries.
fn scan(
    rows: &Rows<'_>,
    turn: &Turn,
    wanted: &Wanted<'_>,
    measures: &[Measure<'_>],
    best: &mut [Best],
) -> Result<()> {
    // Each row with its number and what of its distance does not depend on the query.
    let mut tile: Vec<(u64, &[f32], f64)> = Vec::new();
    let full = (TILE_BYTES / (wanted.dim * 4)).max(1);
    let mut offer = |tile: &mut Vec<(u64, &[f32], f64)>| {
        for (measure, best) in measures.iter().zip(best.iter_mut()) {
            for &(row, vector, squared) in tile.iter() {
                let distance = measure.distance(vector, squared);
                if wanted.radius.is_none_or(|radius| reported(wanted.metric, distance) <= radius) {
                    best.offer(Candidate { distance, segment: turn.segment, row });
                }
            }
        }
        tile.clear();
    };
    let mut add = |row: u64, vector| {
        tile.push((row, vector, squared(wanted.metric, vector)));
        if tile.len() == full {
            offer(&mut tile);
        }
    };
    if turn.segment == BUFFER {
        let places = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        for &number in &rows.puts[places(turn.rows.start)..places(turn.rows.end)] {
            let (chunk, op) = rows.buffered.op(number);
            chunk.vector(op).into_iter().for_each(|vector| add(number, vector));
        }
    } else {
        let part = &rows.view.segments[turn.segment];
        let map = part.dat_map()?;
        for row in part.mask.live_in(turn.rows.clone()) {
            add(row, part.row_in(map, row)?);
        }
    }
    offer(&mut tile);
    Ok(())
}
