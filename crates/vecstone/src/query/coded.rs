//! Exact search over codes: the vectors that are read are those that the codes do not exclude.
//!
//! The nearest partitions are looked at first, and their best rows measured: that sets the bar. Then every other
//! partition that the bar does not exclude is passed through in the order of the file, and what its codes do not
//! exclude is measured by [`reference_distance`](crate::reference_distance), the most promising rows first. Where too much
//! is left over, the search gives up, and a scan does it. Rows without a code are scanned afterwards.
//!
//! Some sizes are smaller in this crate's own tests, so that small stores go every way.

use crate::query::explain::SearchPath;
use crate::query::scan::Search;
use crate::segment::codes;
use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::file::{Back, Partition};
use crate::segment::codes::frame::Frame;
use crate::segment::side::{CodedFile, Coverage};
use crate::segment::version::Version;
use crate::sys::kernel::codes::{Scoring, is_kept};
use crate::sys::kernel::{self, Kernels};
use crate::sys::parallel;
use crate::sys::sync::Instant;
use crate::types::error::Result;
use bound::{CodedQuery, PartitionBound};
use std::ops::Range;

pub(crate) mod bound;

/// Rows of the nearest partitions that set the bar.
const NEAREST_ROWS: u64 = if cfg!(test) { 200 } else { 4000 };
/// Partitions among which these are looked for.
const NEAREST_PARTITIONS: usize = 512;
/// A search gives up if more than one of so many rows is left over,
const GIVE_UP_AT: u64 = 5;
/// of at least one of so many rows.
const AFTER: u64 = 50;
/// and of no fewer than these.
const LEAST_LEFT: u64 = if cfg!(test) { 100 } else { 1000 };
/// Rows that are scored at once.
const AT_ONCE: usize = 128;
/// Bytes of codes for each thread, below which starting one costs more than it saves.
const BYTES_PER_THREAD: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// Queries for which each centre and each block is read once.
const GROUP: usize = 32;
/// Partitions that a thread takes at a time.
const PIECE: usize = if cfg!(test) { 2 } else { 32 };
/// A search has to be for fewer than one of so many rows.
const LEAST_SHARE: u64 = 16;

/// Why a search over codes came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Too many rows were left over.
    GaveUp,
    /// The query has no code.
    NotCoded,
    /// A file is damaged, and marked so.
    Damaged,
}

/// The files of codes of a version, ready for searches.
struct Coded<'a> {
    version: &'a Version,
    files: Vec<Ready<'a>>,
    /// Rows without a code, by segment.
    hot: Vec<Vec<Range<u64>>>,
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

/// Searches over codes. Those that found all there is among the rows with a code say so in their explanation; the others
/// have found nothing. Returns the rows without a code, by segment; `None` if there is nothing to find over codes.
pub(crate) fn search(
    version: &Version,
    searches: &mut [Search<'_>],
    k: usize,
    limit: usize,
) -> Result<Option<Vec<Vec<Range<u64>>>>> {
    loop {
        let Some(coded) = Coded::of(version, k) else { return Ok(None) };
        let groups = searches.len().div_ceil(GROUP);
        let (outer, inner) = if groups >= limit { (limit, 1) } else { (1, limit) };
        let find = |stopped: &mut Vec<Stop>, searches: &mut [Search<'_>]| {
            stopped.extend(coded.search(searches, inner)?);
            Ok(())
        };
        let pieces = searches.chunks_mut(GROUP);
        let stopped = parallel::for_each_piece(pieces, outer as u64, outer, Vec::new, find)?.concat();
        if !stopped.contains(&Stop::Damaged) {
            return Ok(Some(coded.hot));
        }
        // Once more, without the file that is damaged.
        searches.iter_mut().for_each(Search::restart);
    }
}

impl<'a> Coded<'a> {
    /// `None` if a scan is the better way: for want of codes, of instructions, or of rows to leave out.
    fn of(version: &'a Version, k: usize) -> Option<Coded<'a>> {
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
            let worth = rows > 0 && ((!few && plain <= rows / GIVE_UP_AT) || codes::are_for_all());
            return worth.then_some(Coded { version, files, hot, rows });
        }
    }

    /// Finds the rows nearest to some queries among those with a code. Returns why some searches came to nothing.
    fn search(&self, searches: &mut [Search<'_>], limit: usize) -> Result<Vec<Stop>> {
        let (start, kernels) = (Instant::now(), kernel::kernels());
        let all = searches.len();
        let with_code = searches.iter_mut().filter_map(|search| {
            let queries = self.code(kernels, search.query())?;
            Some((search, Walk { coded: self, kernels, queries, near: Vec::new(), visited: Vec::new() }))
        });
        let (searches, mut walks): (Vec<_>, Vec<_>) = with_code.unzip();
        self.rank(kernels, &mut walks);
        let ranked = start.elapsed();
        let start = Instant::now();
        let begun = walks.iter_mut().zip(&searches).map(|(walk, search)| walk.begin(search));
        let mut founds = begun.collect::<Result<Vec<_>>>()?;
        self.pass(&walks, &mut founds, limit)?;
        let scanned = start.elapsed();
        let mut stopped = vec![Stop::NotCoded; all - searches.len()];
        for ((walk, mut found), search) in walks.iter().zip(founds).zip(searches) {
            let explain = &mut found.search.explain;
            (explain.rank, explain.scan) = (ranked, scanned);
            stopped.extend(walk.end(found, search)?);
        }
        Ok(stopped)
    }

    /// Gives each search all partitions with their bounds. O(searches * partitions * dim).
    fn rank(&self, kernels: &Kernels, walks: &mut [Walk<'_, '_>]) {
        for (file, ready) in self.files.iter().enumerate() {
            for (at, partition) in ready.partitions.iter().enumerate() {
                let centre = ready.centres.row(partition.centre as usize);
                for walk in &mut *walks {
                    let query = &walk.queries[file];
                    let bound = PartitionBound::new(kernels, ready.frame, query, centre, partition);
                    walk.near.push(Near { file, at, bound });
                }
            }
        }
    }

    /// Passes through all partitions, each for all searches before the next.
    fn pass(&self, walks: &[Walk<'_, '_>], founds: &mut [Found<'_>], limit: usize) -> Result<()> {
        let Some(first) = walks.first() else { return Ok(()) };
        let (partitions, code) =
            (first.near.len(), first.queries.first().map_or(0, |query| query.first().len() / 2));
        let bytes = self.rows * (code * walks.len()) as u64;
        let pieces = (0..partitions).step_by(PIECE).map(|start| start..partitions.min(start + PIECE));
        let begin = || founds.iter().map(|found| Found::of(&found.search, found.stop)).collect();
        let pass = |states: &mut Vec<Found<'_>>, piece: Range<usize>| {
            walks.iter().zip(states).try_for_each(|(walk, state)| walk.pass(state, piece.clone()))
        };
        let done = parallel::for_each_piece(pieces, bytes / BYTES_PER_THREAD, limit, begin, pass)?;
        for others in done {
            founds.iter_mut().zip(others).for_each(|(found, other)| found.take(other));
        }
        Ok(())
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
        if !partitions.iter().all(is_known) || !file.codes.is_in(frame) {
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
    /// The query in the frame of each file.
    queries: Vec<CodedQuery>,
    /// All partitions, in the order of the files.
    near: Vec<Near>,
    /// Which of them were among the nearest.
    visited: Vec<bool>,
}

/// What one thread has found.
struct Found<'q> {
    search: Search<'q>,
    pending: Vec<Pending>,
    /// Rows that their codes did not exclude.
    left: u64,
    stop: Option<Stop>,
}

impl<'q> Found<'q> {
    fn of(search: &Search<'q>, stop: Option<Stop>) -> Found<'q> {
        Found { search: search.fresh(), pending: Vec::new(), left: 0, stop }
    }

    fn take(&mut self, other: Found<'_>) {
        self.stop = self.stop.or(other.stop);
        self.search.take(other.search);
        self.pending.extend(other.pending);
    }
}

impl Walk<'_, '_> {
    /// What is there before the pass: rows that are always measured, and a bar.
    fn begin<'q>(&mut self, search: &Search<'q>) -> Result<Found<'q>> {
        let mut found = Found::of(search, None);
        self.plain(&mut found.search)?;
        self.visited = self.nearest(&mut found)?;
        Ok(found)
    }

    /// Measures what waits, and hands over what was found; or says why it comes to nothing.
    fn end(&self, mut found: Found<'_>, search: &mut Search<'_>) -> Result<Option<Stop>> {
        let start = Instant::now();
        if found.stop.is_none() {
            self.refine(&mut found)?;
        }
        found.search.explain.refine += start.elapsed();
        if self.coded.files.iter().any(|ready| ready.file.is_damaged()) {
            found.stop = Some(Stop::Damaged);
        }
        match found.stop {
            None => {
                search.take(found.search);
                search.explain.path = SearchPath::Codes;
            }
            Some(Stop::GaveUp) => {
                search.explain.add(&found.search.explain);
                search.explain.path = SearchPath::CodesThenScan;
            }
            Some(_) => {}
        }
        Ok(found.stop)
    }

    /// Measures the rows without a code.
    fn plain(&self, search: &mut Search<'_>) -> Result<()> {
        for ready in &self.coded.files {
            for ordinal in ready.file.codes.plain().into_iter().flatten() {
                if let Some((segment, row)) = self.live(&ready.file, ordinal) {
                    search.explain.rows_by_code += 1;
                    search.refine(segment, row, &self.coded.version.segments[segment].vector(row)?);
                }
            }
        }
        Ok(())
    }

    /// Looks at the nearest partitions, the nearest first, so that there is a bar. Returns which they are.
    fn nearest(&self, found: &mut Found<'_>) -> Result<Vec<bool>> {
        let mut visited = vec![false; self.near.len()];
        let mut order: Vec<(f64, u32)> =
            (0..).zip(&self.near).map(|(at, near)| (near.bound.order(), at)).collect();
        let nearest = order.len().min(NEAREST_PARTITIONS);
        if nearest < order.len() {
            order.select_nth_unstable_by(nearest, |a, b| a.0.total_cmp(&b.0));
        }
        order[..nearest].sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        for (_, at) in &order[..nearest] {
            if (found.search.explain.codes_scanned >= NEAREST_ROWS && found.search.is_full())
                || found.stop.is_some()
            {
                break;
            }
            visited[*at as usize] = true;
            self.visit(found, *at as usize)?;
            self.set_bar(found)?;
        }
        Ok(visited)
    }

    /// Passes through partitions; gives up if too many rows are left over.
    fn pass(&self, found: &mut Found<'_>, partitions: Range<usize>) -> Result<()> {
        for at in partitions.filter(|at| !self.visited[*at]) {
            if found.stop.is_some() {
                break;
            }
            self.visit(found, at)?;
            let (scored, left) = (found.search.explain.codes_scanned, found.left);
            if scored >= self.coded.rows / AFTER && left > scored / GIVE_UP_AT && left > LEAST_LEFT {
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
            found.search.explain.partitions_skipped += 1;
            return Ok(());
        }
        let partition = &ready.partitions[near.at];
        let Some(front) = ready.file.codes.front(partition) else {
            found.stop = Some(Stop::Damaged);
            return Ok(());
        };
        found.search.explain.partitions_visited += 1;
        let (code, rows) = (query.first().len() / 2, partition.rows as usize);
        let (mut dots, mut estimates, mut back) = ([0i32; AT_ONCE], [0f32; AT_ONCE], None);
        for start in (0..rows).step_by(AT_ONCE) {
            let end = rows.min(start + AT_ONCE);
            let count = end - start;
            let scoring = near.bound.scoring(query, found.search.bar());
            let codes = &front.codes[start * code..end * code];
            (self.kernels.code_dots)(query.first(), codes, &mut dots[..count]);
            let of = front.corrections.part(start..end);
            if !(self.kernels.score)(&scoring[0], &dots[..count], of, &mut estimates[..count]) {
                continue;
            }
            if back.is_none() {
                back = ready.file.codes.back(partition);
            }
            let Some(back) = back else {
                found.stop = Some(Stop::Damaged);
                return Ok(());
            };
            for (row, &estimate) in estimates[..count].iter().enumerate() {
                let beyond = of.beyond.get(row).map_or(0.0, |&beyond| beyond);
                if is_kept(&scoring[0], estimate, of.e[row], beyond) {
                    let one = (estimate, of.e[row]);
                    self.look_back(found, (at, &scoring[1]), (&back, start + row), one)?;
                }
            }
        }
        found.search.explain.codes_scanned += rows as u64;
        Ok(())
    }

    /// Looks at the second part of a row that its first does not exclude. `one`: the estimate by the first, and |e|.
    fn look_back(
        &self,
        found: &mut Found<'_>,
        (at, scoring): (usize, &Scoring),
        (back, row): (&Back<'_>, usize),
        one: (f32, f32),
    ) -> Result<()> {
        let near = &self.near[at];
        let (ready, query) = (&self.coded.files[near.file], &self.queries[near.file]);
        let (mut estimate, mut e) = one;
        if let Some(second) = &back.second {
            let (mut dot, of) = ([0], second.corrections);
            (self.kernels.code_dots)(query.second(), second.code(row), &mut dot);
            estimate += kernel::codes::estimate(scoring, dot[0], of.a[row], of.h[row]);
            e = of.e[row];
            if !is_kept(scoring, estimate, e, 0.0) {
                return Ok(());
            }
        }
        found.left += 1;
        let Some((segment, row)) = self.live(&ready.file, back.ordinal(row)) else { return Ok(()) };
        let (cost, partition) = (near.bound.cost(estimate), u32::try_from(at).unwrap_or(u32::MAX));
        self.keep(found, Pending { cost, e, partition, segment, row })
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
        found.search.explain.rows_by_code += 1;
        found.search.refine(pending.segment, pending.row, &vector);
        Ok(())
    }

    /// As long as there is no bar: measures the most promising rows.
    fn set_bar(&self, found: &mut Found<'_>) -> Result<()> {
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
