//! Exact search: a scan of the live rows by [`reference_distance`](crate::reference_distance), on every core.

use crate::buffer;
use crate::config::Metric;
use crate::distance::Measure;
use crate::error::Result;
use crate::id::Id;
use crate::view::{At, View};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::thread;

/// What a search gives back beside ids and distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SearchOptions {
    /// The vectors.
    pub vectors: bool,
    /// The documents.
    pub documents: bool,
}

impl SearchOptions {
    /// Ids and distances only.
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

/// The `k` live rows nearest to `query`, nearest first. O(rows * dim) on all cores. Threads live as long as the call: a
/// forked child finds none of its parent's to wait for.
pub(crate) fn nearest(
    view: &View,
    buffered: &buffer::View,
    metric: Metric,
    query: &[f32],
    k: usize,
) -> Result<Vec<Candidate>> {
    let rows = view.rows();
    let cores = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let threads = (rows * query.len() as u64 / COMPONENTS_PER_THREAD).clamp(1, cores);
    let part = rows.div_ceil(threads);
    let measure = Measure::new(metric, query);
    let scan_part = |n: u64| scan(view, &measure, k, n * part..((n + 1) * part).min(rows));
    let mut found = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|n| scope.spawn(move || scan_part(n))).collect();
        let mut found = scan_part(0)?;
        found.extend(scan_buffer(buffered, &measure, k));
        for other in others {
            found.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(found)
    })?;
    found.sort_unstable();
    found.truncate(k);
    Ok(found)
}

/// Scans a range of the rows of all segments, counted one after the other.
fn scan(view: &View, measure: &Measure<'_>, k: usize, range: Range<u64>) -> Result<Vec<Candidate>> {
    let mut best = Best { k, heap: BinaryHeap::new() };
    let mut first = 0;
    for (segment, part) in view.segments.iter().enumerate() {
        let here = range.start.max(first)..range.end.min(first + part.rows);
        if here.start < here.end {
            let map = part.dat_map()?;
            for row in part.mask.live_in(here.start - first..here.end - first) {
                let distance = measure.distance(part.row_in(map, row)?);
                best.offer(Candidate { distance, segment, row });
            }
        }
        first += part.rows;
    }
    Ok(best.heap.into_vec())
}

fn scan_buffer(buffered: &buffer::View, measure: &Measure<'_>, k: usize) -> Vec<Candidate> {
    let mut best = Best { k, heap: BinaryHeap::new() };
    for (row, chunk, op) in buffered.latest() {
        if let Some(vector) = chunk.vector(op) {
            best.offer(Candidate { distance: measure.distance(vector), segment: BUFFER, row });
        }
    }
    best.heap.into_vec()
}
