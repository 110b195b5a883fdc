//! Exact search: a scan of the live rows by [`reference_distance`](crate::reference_distance), on every core.

use crate::config::Metric;
use crate::distance::Measure;
use crate::error::Result;
use crate::index::rows_in;
use crate::storage::VectorStorage;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::thread;

/// One result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbor {
    /// The id.
    pub id: String,
    /// Its distance from the query in the store's metric; smaller is nearer. Never NaN.
    pub distance: f32,
}

/// A row and its distance. Ordered by distance, then by age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f64,
    pub(crate) row: u64,
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
        distance.then(self.row.cmp(&other.row))
    }
}

/// Components below which a second thread costs more than it saves.
const COMPONENTS_PER_THREAD: u64 = 1 << 18;

/// The `k` live rows nearest to `query`, nearest first. O(rows * dim) on all cores.
pub(crate) fn nearest(
    storage: &VectorStorage,
    live: &[u64],
    metric: Metric,
    query: &[f32],
    k: usize,
) -> Result<Vec<Candidate>> {
    let rows = storage.rows();
    let cores = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let threads = (rows * query.len() as u64 / COMPONENTS_PER_THREAD).clamp(1, cores);
    let part = rows.div_ceil(threads);
    let measure = Measure::new(metric, query);
    let scan_part = |n: u64| scan(storage, live, &measure, k, n * part..((n + 1) * part).min(rows));
    let mut found = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|n| scope.spawn(move || scan_part(n))).collect();
        let mut found = scan_part(0)?;
        for other in others {
            found.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(found)
    })?;
    found.sort_unstable();
    found.truncate(k);
    Ok(found)
}

fn scan(
    storage: &VectorStorage,
    live: &[u64],
    measure: &Measure<'_>,
    k: usize,
    range: Range<u64>,
) -> Result<Vec<Candidate>> {
    let mut best: BinaryHeap<Candidate> = BinaryHeap::new();
    for row in rows_in(live, range) {
        let candidate = Candidate { distance: measure.distance(storage.row(row)?), row };
        if best.len() < k {
            best.push(candidate);
        } else if let Some(mut worst) = best.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }
    Ok(best.into_vec())
}
