//! Building, for a caller who waits, what makes a store fast and the background would build later.

use super::close::Built;
use crate::engine::Engine;
use crate::query::coded::effort;
use crate::segment::side::{self, EffortStats, Optimize, Rows, Scope};
use crate::segment::version::Version;
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::types::element::check_finite;
use crate::types::error::{Error, Result};
use std::cell::Cell;
use std::ops::ControlFlow;

/// Queries with which effort is measured, at least: what fewer need says little of others.
const LEAST_QUERIES: usize = 32;

/// How far [`optimize`](crate::VectorStore::optimize_with) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptimizeProgress {
    /// Rows of the side files that were built so far; of each kind by itself.
    pub rows: u64,
    /// The same of all that are to be built.
    pub total: u64,
}

/// What [`optimize`](crate::VectorStore::optimize_with) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OptimizeReport {
    /// Rows that codes cover now, dead ones included; 0 where there are none.
    pub rows_covered: u64,
    /// Rows of the store, dead ones included.
    pub rows: u64,
    /// Bytes of all side files now.
    pub bytes: u64,
}

impl Engine {
    /// Builds every side file that is wanted of the rows that are durable now; the background gives way. Effort is measured
    /// with these queries, if there are any.
    pub(crate) fn optimize(
        &self,
        queries: Option<&[f32]>,
        progress: &mut dyn FnMut(OptimizeProgress) -> ControlFlow<()>,
    ) -> Result<OptimizeReport> {
        self.guarded(|| {
            let _hurry = self.maintenance.hurry();
            // No segment is compacted meanwhile.
            let _turn = self.maintenance.turn();
            self.flush()?;
            let optimize = Optimize { queries, ..Optimize::now(parallel::limit(0), effort::measure) };
            let total = self.with_writer_lock(|writer| Ok(wanted_rows(&writer.durable_version, optimize)))?;
            let cancelled = Cell::new(false);
            let mut tell = |rows| {
                let told = progress(OptimizeProgress { rows, total: total.max(rows) });
                cancelled.set(told.is_break());
                told
            };
            let stops = || self.maintenance.is_stopped() || interrupt::check().is_err();
            let mut go_on = |built: Built| if stops() { ControlFlow::Break(()) } else { tell(built.rows) };
            let (built, outcome) = self.build_while(optimize, &mut go_on);
            if !cancelled.get() {
                outcome?;
                _ = go_on(built);
            }
            if cancelled.get() {
                return Err(Error::Cancelled);
            }
            interrupt::check()?;
            self.buffer.lock().check_open()?;
            Ok(report(&self.published.get()))
        })
    }

    /// The same with queries of the user's; returns what was measured.
    pub(crate) fn tune(
        &self,
        queries: &[f32],
        progress: &mut dyn FnMut(OptimizeProgress) -> ControlFlow<()>,
    ) -> Result<Option<EffortStats>> {
        let dim = self.published.load().schema.dim as usize;
        let (found, last) = (queries.len() / dim, queries.len() % dim);
        if last != 0 {
            return Err(Error::DimensionMismatch { expected: dim, found: last });
        }
        let mut each = queries.chunks_exact(dim).enumerate();
        each.try_for_each(|(row, query)| check_finite(row, query))?;
        if found < LEAST_QUERIES {
            return Err(Error::TooFewQueries { found, least: LEAST_QUERIES });
        }
        let before = side::measured_by(&self.published.get());
        self.optimize(Some(queries), progress)?;
        let version = self.published.get();
        let is_new = side::measured_by(&version) != before;
        Ok(side::effort_stats(&version).filter(|_| is_new))
    }
}

/// Rows of the side files that are to be built, of each kind by itself.
fn wanted_rows(version: &Version, optimize: Optimize<'_>) -> u64 {
    let rows = |place| Rows { version, place, closing: None, optimize };
    let active = version.segments.len() - 1;
    let mut is_new = false;
    let mut total = 0;
    for (kind, place) in side::all().flat_map(|kind| (0..=active).map(move |place| (kind, place))) {
        // What is relative to a file that is found anew is, too.
        let is_relative = kind.scope() != Scope::Segment && place == active && is_new;
        if is_relative || kind.is_wanted(&rows(place)) {
            is_new |= kind.scope() == Scope::Store;
            total += rows(place).of(kind);
        }
    }
    total
}

fn report(version: &Version) -> OptimizeReport {
    let all = side::stats(version);
    let of_ranges = side::all().zip(&all).filter(|(kind, _)| kind.scope() == Scope::Ranges);
    OptimizeReport {
        rows_covered: of_ranges.map(|(_, stats)| stats.rows).min().unwrap_or(0),
        rows: version.rows(),
        bytes: all.iter().map(|kind| kind.bytes).sum(),
    }
}
