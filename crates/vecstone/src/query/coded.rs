//! Exact search over codes: the vectors that are read are those that the codes do not exclude.
//!
//! The nearest partitions are looked at first, and their best rows measured: that sets the bar. Then every other
//! partition that the bar does not exclude is passed through in the order of the file, and what its codes do not
//! exclude is measured by [`reference_distance`](crate::reference_distance), the most promising rows first. Where too much
//! is left over, the search gives up, and a scan does it. Rows without a code are scanned afterwards.

use crate::query::scan::Search;
use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::file::Partition;
use crate::segment::codes::frame::Frame;
use crate::segment::side::{CodedFile, Coverage};
use crate::segment::version::Version;
use crate::sys::kernel::codes::is_kept;
use crate::sys::kernel::{self, Kernels};
use crate::sys::parallel;
use crate::types::error::Result;
use bound::{CodedQuery, PartitionBound};
use std::ops::Range;

pub(crate) mod bound;

/// Rows of the nearest partitions that set the bar.
const NEAREST_ROWS: u64 = 4000;
/// Partitions among which these are looked for.
const NEAREST_PARTITIONS: usize = 512;
/// A search gives up if more than one of so many rows is left over,
const GIVE_UP_AT: u64 = 5;
/// of at least one of so many rows.
const AFTER: u64 = 50;
/// Rows that are scored at once.
const AT_ONCE: usize = 128;
/// Bytes of codes for each thread, below which starting one costs more than it saves.
const BYTES_PER_THREAD: u64 = 4 << 20;
/// Partitions that a thread takes at a time.
const PIECE: usize = 32;
/// A search has to be for fewer than one of so many rows.
const LEAST_SHARE: u64 = 16;

/// What a search over codes did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) visited: u64,
    pub(crate) skipped: u64,
    /// Rows whose code was read.
    pub(crate) scored: u64,
    /// Rows that it did not exclude.
    pub(crate) left: u64,
}

/// Why a search over codes came to nothing.
pub(crate) enum Stop {
    /// Too many rows were left over.
    GaveUp,
    /// A file is damaged, and marked so.
    Damaged,
}

/// The files of codes of a version, ready for searches.
pub(crate) struct Coded<'a> {
    version: &'a Version,
    files: Vec<Ready<'a>>,
    /// Rows without a code, by segment.
    pub(crate) hot: Vec<Vec<Range<u64>>>,
    rows: u64,
}

/// A file whose table has been read.
struct Ready<'a> {
    file: CodedFile<'a>,
    frame: &'a Frame,
    centres: Matrix<'a>,
    partitions: &'a [Partition],
}

/// A row that its code does not exclude.
#[derive(Debug, Clone, Copy)]
struct Pending {
    cost: f64,
    e: f32,
    /// Its partition's number among all.
    partition: u32,
    /// Place of the segment.
    segment: usize,
    row: u64,
}

impl<'a> Coded<'a> {
    /// `None` if a scan is the better way: for want of codes, of instructions, or of rows to leave out.
    pub(crate) fn of(version: &'a Version, k: usize) -> Option<Coded<'a>> {
        if !kernel::kernels().has_fast_codes() {
            return None;
        }
        loop {
            let Coverage { files, hot } = Coverage::of(version);
            let ready: Option<Vec<Ready<'_>>> = files.into_iter().map(Ready::of).collect();
            // What is damaged is marked so, and not looked at again.
            let Some(files) = ready else { continue };
            let rows = files.iter().map(|ready| ready.file.codes.head.coded).sum::<u64>();
            let plain: u64 = files.iter().map(|ready| u64::from(ready.file.codes.head.plain)).sum();
            let few = version.live() < rows / LEAST_SHARE || k as u64 > rows / LEAST_SHARE;
            let worth = rows > 0 && !few && plain <= rows / GIVE_UP_AT;
            return worth.then_some(Coded { version, files, hot, rows });
        }
    }

    /// Finds the rows nearest to the query of `search` among those with a code. `None` if the query has no code.
    pub(crate) fn search(
        &self,
        search: &mut Search<'_>,
        limit: usize,
    ) -> Result<Option<std::result::Result<Counts, Stop>>> {
        let kernels = kernel::kernels();
        let Some(queries) = self.code(kernels, search.query()) else { return Ok(None) };
        let mut walk = Walk { coded: self, kernels, queries: &queries, near: Vec::new() };
        if walk.rank().is_none() {
            return Ok(Some(Err(Stop::Damaged)));
        }
        walk.run(search, limit).map(Some)
    }

    /// The query in the frame of each file.
    fn code(&self, kernels: &Kernels, query: &[f32]) -> Option<Vec<CodedQuery>> {
        self.files.iter().map(|ready| CodedQuery::new(kernels, ready.frame, query)).collect()
    }
}

impl<'a> Ready<'a> {
    fn of(file: CodedFile<'a>) -> Option<Ready<'a>> {
        let (frame, centres) = (file.centres.frame()?, file.centres.centres()?);
        let partitions = file.codes.partitions()?;
        let is_known = |partition: &Partition| (partition.centre as usize) < centres.rows();
        if !partitions.iter().all(is_known) {
            file.codes.pages.note_damage();
            return None;
        }
        Some(Ready { file, frame, centres, partitions })
    }
}

/// A partition and its bound.
struct Near {
    file: usize,
    at: usize,
    bound: PartitionBound,
}

/// One search.
struct Walk<'w, 'a> {
    coded: &'w Coded<'a>,
    kernels: &'static Kernels,
    queries: &'w [CodedQuery],
    /// All partitions, in the order of the files.
    near: Vec<Near>,
}

/// What one thread has found.
struct Found<'q> {
    search: Search<'q>,
    pending: Vec<Pending>,
    counts: Counts,
    stop: Option<Stop>,
}

impl<'w> Walk<'w, '_> {
    /// Looks at all centres. `None` if a page is damaged.
    fn rank(&mut self) -> Option<()> {
        for (file, (ready, query)) in self.coded.files.iter().zip(self.queries).enumerate() {
            let bound = |partition: &Partition| {
                let centre = ready.centres.row(partition.centre as usize);
                PartitionBound::new(self.kernels, ready.frame, query, centre, partition)
            };
            let of_file = ready.partitions.iter().enumerate();
            self.near.extend(of_file.map(|(at, partition)| Near { file, at, bound: bound(partition) }));
        }
        Some(())
    }

    fn run(
        &self,
        search: &mut Search<'_>,
        limit: usize,
    ) -> Result<std::result::Result<Counts, Stop>> {
        let mut found = Found { search: search.fresh(), pending: Vec::new(), counts: Counts::default(), stop: None };
        self.plain(&mut found.search)?;
        let visited = self.begin(&mut found)?;
        if let Some(stop) = found.stop {
            return Ok(Err(stop));
        }
        let first = std::mem::take(&mut found.counts);
        let rest: Vec<usize> = (0..self.near.len()).filter(|at| !visited[*at]).collect();
        let bytes = self.coded.rows * self.queries.first().map_or(0, |query| query.levels.len() as u64 / 2);
        let wanted = bytes / BYTES_PER_THREAD;
        let begin = || Found { search: found.search.fresh(), pending: Vec::new(), counts: first.none(), stop: None };
        let pass = |state: &mut Found<'_>, piece: &[usize]| self.pass(state, piece);
        let done = parallel::for_each_piece(rest.chunks(PIECE), wanted, limit, begin, pass)?;
        for other in done {
            if let Some(stop) = other.stop {
                return Ok(Err(stop));
            }
            found.search.take(other.search);
            found.pending.extend(other.pending);
            found.counts.add(&other.counts);
        }
        self.refine(&mut found)?;
        search.take(found.search);
        found.counts.add(&first);
        let is_damaged = self.coded.files.iter().any(|ready| ready.file.is_damaged());
        Ok(if is_damaged { Err(Stop::Damaged) } else { Ok(found.counts) })
    }

    /// Measures the rows without a code.
    fn plain(&self, search: &mut Search<'_>) -> Result<()> {
        for ready in &self.coded.files {
            for ordinal in ready.file.codes.plain().into_iter().flatten() {
                if let Some((segment, row)) = self.live(&ready.file, ordinal) {
                    search.refine(segment, row, &self.coded.version.segments[segment].vector(row)?);
                }
            }
        }
        Ok(())
    }

    /// Looks at the nearest partitions, the nearest first, so that there is a bar. Returns which they are.
    fn begin(&self, found: &mut Found<'_>) -> Result<Vec<bool>> {
        let mut visited = vec![false; self.near.len()];
        let mut order: Vec<(f64, u32)> =
            (0..).zip(&self.near).map(|(at, near)| (near.bound.order(), at)).collect();
        let nearest = order.len().min(NEAREST_PARTITIONS);
        if nearest < order.len() {
            order.select_nth_unstable_by(nearest, |a, b| a.0.total_cmp(&b.0));
        }
        order[..nearest].sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        for (_, at) in &order[..nearest] {
            if found.counts.scored >= NEAREST_ROWS && found.search.is_full() || found.stop.is_some() {
                break;
            }
            visited[*at as usize] = true;
            self.visit(found, *at as usize)?;
            self.settle(found)?;
        }
        Ok(visited)
    }

    /// Passes through partitions; gives up if too many rows are left over.
    fn pass(&self, found: &mut Found<'_>, partitions: &[usize]) -> Result<()> {
        for &at in partitions {
            if found.stop.is_some() {
                break;
            }
            self.visit(found, at)?;
            let Counts { scored, left, .. } = found.counts;
            if scored >= self.coded.rows / AFTER && left > scored / GIVE_UP_AT && left > NEAREST_ROWS {
                found.stop = Some(Stop::GaveUp);
            }
        }
        Ok(())
    }

    /// Scores the rows of a partition, unless the bar excludes them. Those that seem near are measured, the others of which
    /// it is not certain that they are not wait.
    fn visit(&self, found: &mut Found<'_>, at: usize) -> Result<()> {
        let near = &self.near[at];
        let (ready, query) = (&self.coded.files[near.file], &self.queries[near.file]);
        if near.bound.excludes_all(query, found.search.bar()) {
            found.counts.skipped += 1;
            return Ok(());
        }
        let Some(block) = ready.file.codes.block(&ready.partitions[near.at]) else {
            found.stop = Some(Stop::Damaged);
            return Ok(());
        };
        found.counts.visited += 1;
        let (code, rows) = (query.levels.len() / 2, ready.partitions[near.at].rows as usize);
        let (mut dots, mut estimates) = ([0i32; AT_ONCE], [0f32; AT_ONCE]);
        for start in (0..rows).step_by(AT_ONCE) {
            let end = rows.min(start + AT_ONCE);
            let count = end - start;
            let scoring = near.bound.scoring(query, found.search.bar());
            (self.kernels.code_dots)(&query.levels, &block.codes[start * code..end * code], &mut dots[..count]);
            let of = block.corrections.part(start..end);
            if !(self.kernels.score)(&scoring, &dots[..count], of, &mut estimates[..count]) {
                continue;
            }
            for row in 0..count {
                if is_kept(&scoring, estimates[row], of.e[row]) {
                    found.counts.left += 1;
                    let Some((segment, number)) = self.live(&ready.file, block.ordinal(start + row)) else { continue };
                    let pending = Pending {
                        cost: near.bound.cost(estimates[row]),
                        e: of.e[row],
                        partition: u32::try_from(at).unwrap_or(u32::MAX),
                        segment,
                        row: number,
                    };
                    self.keep(found, pending)?;
                }
            }
        }
        found.counts.scored += rows as u64;
        Ok(())
    }

    /// Measures a row if there is a bar and it seems nearer than that.
    fn keep(&self, found: &mut Found<'_>, pending: Pending) -> Result<()> {
        let near = &self.near[pending.partition as usize];
        let bar = found.search.bar();
        if found.search.is_full() && near.bound.seems_near(&self.queries[near.file], pending.cost, bar) {
            return self.measure(found, &pending);
        }
        found.pending.push(pending);
        Ok(())
    }

    fn measure(&self, found: &mut Found<'_>, pending: &Pending) -> Result<()> {
        let vector = self.coded.version.segments[pending.segment].vector(pending.row)?;
        found.search.refine(pending.segment, pending.row, &vector);
        Ok(())
    }

    /// As long as there is no bar: measures the most promising rows.
    fn settle(&self, found: &mut Found<'_>) -> Result<()> {
        if found.search.is_full() {
            return Ok(());
        }
        found.pending.sort_unstable_by(|a, b| b.cost.total_cmp(&a.cost));
        while !found.search.is_full() {
            let Some(pending) = found.pending.pop() else { break };
            self.measure(found, &pending)?;
        }
        // And those that seem nearer than the bar that these have set.
        while let Some(pending) = found.pending.pop() {
            let near = &self.near[pending.partition as usize];
            if !near.bound.seems_near(&self.queries[near.file], pending.cost, found.search.bar()) {
                found.pending.push(pending);
                break;
            }
            self.measure(found, &pending)?;
        }
        Ok(())
    }

    /// Measures what waits, the most promising first, as far as the bar does not exclude it.
    fn refine(&self, found: &mut Found<'_>) -> Result<()> {
        let mut pending = std::mem::take(&mut found.pending);
        pending.sort_unstable_by(|a, b| a.cost.total_cmp(&b.cost));
        for pending in &pending {
            let near = &self.near[pending.partition as usize];
            let (query, bar) = (&self.queries[near.file], found.search.bar());
            if near.bound.may_be_near(query, pending.cost, pending.e, bar) {
                self.measure(found, pending)?;
            }
        }
        Ok(())
    }

    /// Where the row of an ordinal is, if it is live.
    fn live(&self, file: &CodedFile<'_>, ordinal: u32) -> Option<(usize, u64)> {
        let (segment, row) = file.locate(ordinal)?;
        let part = &self.coded.version.segments[segment];
        let is_live = row < part.rows && part.deletions.is_live(u32::try_from(row).ok()?);
        is_live.then_some((segment, row))
    }
}

impl Counts {
    fn none(self) -> Counts {
        Counts::default()
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.visited += other.visited;
        self.skipped += other.skipped;
        self.scored += other.scored;
        self.left += other.left;
    }
}
