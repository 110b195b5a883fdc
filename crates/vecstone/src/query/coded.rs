//! Search over codes: the vectors that are read are those that the codes do not exclude. What follows is of exact search;
//! `approximate.rs` has the other one.
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
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::effort::Enough;
use crate::segment::codes::file::Partition;
use crate::segment::codes::frame::Frame;
use crate::segment::side::{CodedFile, Coverage};
use crate::segment::version::Version;
use crate::sys::interrupt;
use crate::sys::kernel::{self, Kernels};
use crate::sys::parallel;
use crate::sys::sync::Instant;
use crate::types::error::Result;
pub(crate) use approximate::enough;
use bound::{CodedQuery, Measured, PartitionBound};
use pass::{Scratch, Waiting};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ops::Range;
use std::slice;

mod approximate;
pub(crate) mod bound;
pub(crate) mod effort;
mod pass;
mod signs;

/// Rows of the nearest partitions that set the bar.
const NEAREST_ROWS: u64 = if cfg!(test) { 200 } else { 2000 };
/// Partitions among which these are looked for.
const NEAREST_PARTITIONS: usize = 512;
/// A search gives up if more than one of so many rows is left over,
const GIVE_UP_AT: u64 = 5;
/// of at least one of so many rows.
const AFTER: u64 = 50;
/// and of no fewer than these.
const LEAST_LEFT: u64 = if cfg!(test) { 100 } else { 1000 };
/// Bytes of codes for each thread, below which starting one costs more than it saves.
const BYTES_PER_THREAD: u64 = if cfg!(test) { 8 << 10 } else { 4 << 20 };
/// Queries for which each block is read once: more of them visit a partition together.
const GROUP: usize = if cfg!(test) { 12 } else { 256 };
/// Queries for which each centre is read once: they stay in the second cache. Threads share no fewer.
const TILE: usize = if cfg!(test) { 5 } else { 32 };
/// Rows that are asked for before they are measured.
const ROWS_AHEAD: usize = 2;
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
    kernels: &'static Kernels,
    files: Vec<Ready<'a>>,
    /// What the files' codes are relative to, each once.
    spaces: Vec<Space<'a>>,
    /// All partitions are numbered in the order of the files: how many there are.
    partitions: usize,
    /// Rows without a code, by segment.
    hot: Vec<Vec<Range<u64>>>,
    rows: u64,
}

/// A file whose table has been read.
struct Ready<'a> {
    file: CodedFile<'a>,
    /// Its place among the spaces.
    space: usize,
    /// The number of its first partition.
    first: usize,
    partitions: &'a [Partition],
}

/// Centres, and the frame in which they are.
struct Space<'a> {
    file: &'a CentresFile,
    frame: &'a Frame,
    centres: Matrix<'a>,
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
    (k, enough): (usize, Option<Enough>),
    limit: usize,
) -> Result<Option<Vec<Vec<Range<u64>>>>> {
    loop {
        let Some(coded) = Coded::of(version, k) else { return Ok(None) };
        let group = searches.len().div_ceil(limit.max(1)).clamp(TILE, GROUP);
        let groups = searches.len().div_ceil(group);
        let (outer, inner) = if groups >= limit { (limit, 1) } else { (1, limit) };
        let find = |stopped: &mut Vec<Stop>, searches: &mut [Search<'_>]| -> Result<()> {
            stopped.extend(coded.search(searches, enough, inner)?);
            Ok(())
        };
        let pieces = searches.chunks_mut(group);
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
        let kernels = kernel::kernels();
        if !kernels.has_fast_codes() {
            return None;
        }
        loop {
            let Coverage { files, hot } = Coverage::of(version);
            let (mut spaces, mut partitions) = (Vec::new(), 0);
            let ready: Option<Vec<Ready<'_>>> =
                files.into_iter().map(|file| Ready::of(file, &mut spaces, &mut partitions)).collect();
            // What is damaged is marked so, and not looked at again.
            let Some(files) = ready else { continue };
            let rows = files.iter().map(|ready| ready.file.codes.head.coded).sum::<u64>();
            let plain: u64 = files.iter().map(|ready| u64::from(ready.file.codes.head.plain)).sum();
            let few = version.live() < rows / LEAST_SHARE || k as u64 > rows / LEAST_SHARE;
            let worth = rows > 0 && ((!few && plain <= rows / GIVE_UP_AT) || codes::are_for_all());
            return worth.then_some(Coded { version, kernels, files, spaces, partitions, hot, rows });
        }
    }

    /// Finds the rows nearest to some queries among those with a code. Returns why some searches came to nothing.
    fn search(&self, searches: &mut [Search<'_>], enough: Option<Enough>, limit: usize) -> Result<Vec<Stop>> {
        let start = Instant::now();
        let all = searches.len();
        let with_code = searches.iter_mut().filter_map(|search| {
            let queries = self.code(search.query())?;
            let measured = Vec::with_capacity(self.partitions);
            let copies = enough.is_some();
            Some((search, Walk { coded: self, queries, measured, visited: Vec::new(), copies }))
        });
        let (searches, mut walks): (Vec<_>, Vec<_>) = with_code.unzip();
        if enough.is_none() {
            walks.chunks_mut(TILE).for_each(|walks| self.rank(walks));
        }
        let ranked = start.elapsed();
        let start = Instant::now();
        let begun = walks.iter_mut().zip(&searches).map(|(walk, search)| walk.begin(search, enough));
        let mut founds = begun.collect::<Result<Vec<_>>>()?;
        if enough.is_none() {
            self.pass(&walks, &mut founds, limit)?;
        }
        let scanned = start.elapsed();
        let mut stopped = vec![Stop::NotCoded; all - searches.len()];
        for ((walk, mut found), search) in walks.iter().zip(founds).zip(searches) {
            let explain = &mut found.search.explain;
            (explain.rank, explain.scan) = (ranked, scanned);
            let path = if enough.is_none() { SearchPath::Codes } else { SearchPath::Approximate };
            stopped.extend(walk.end(found, search, path)?);
        }
        Ok(stopped)
    }

    /// Measures each query with each centre. O(searches * partitions * dim).
    fn rank(&self, walks: &mut [Walk<'_, '_>]) {
        for ready in &self.files {
            let space = &self.spaces[ready.space];
            let mut measured: Vec<Vec<Measured>> =
                walks.iter_mut().map(|walk| std::mem::take(&mut walk.measured)).collect();
            let places: Vec<&[f32]> = walks.iter().map(|walk| &*walk.queries[ready.space].place).collect();
            let centres = ready.partitions.iter().map(|of| space.centres.row(of.centre as usize));
            Measured::each(self.kernels, space.frame, &places, centres, |query, one| {
                measured[query].push(one);
            });
            walks.iter_mut().zip(measured).for_each(|(walk, measured)| walk.measured = measured);
        }
    }

    /// The file of a partition.
    fn ready(&self, partition: usize) -> &Ready<'a> {
        let behind = self.files.partition_point(|ready| ready.first <= partition);
        &self.files[behind - 1]
    }

    fn partition(&self, at: usize) -> (&Ready<'a>, &'a Partition) {
        let ready = self.ready(at);
        (ready, &ready.partitions[at - ready.first])
    }

    fn frame(&self, partition: usize) -> &'a Frame {
        self.spaces[self.ready(partition).space].frame
    }

    /// Where the row of an ordinal is, if it is live.
    fn live(&self, file: &CodedFile<'_>, ordinal: u32) -> Option<(usize, u64)> {
        let (segment, row) = file.locate(ordinal)?;
        let part = &self.version.segments[segment];
        let is_live = row < part.rows && part.deletions.is_live(u32::try_from(row).ok()?);
        is_live.then_some((segment, row))
    }

    /// The query in the frame of each space.
    fn code(&self, query: &[f32]) -> Option<Vec<CodedQuery>> {
        self.spaces.iter().map(|space| CodedQuery::new(self.kernels, space.frame, query)).collect()
    }
}

impl<'a> Ready<'a> {
    /// Counts its partitions.
    fn of(file: CodedFile<'a>, spaces: &mut Vec<Space<'a>>, all: &mut usize) -> Option<Ready<'a>> {
        let partitions = file.codes.partitions_of(file.centres)?;
        let known = spaces.iter().position(|space| space.file.id() == file.centres.id());
        let space = match known {
            Some(space) => space,
            None => {
                let (frame, centres) = (file.centres.frame()?, file.centres.centres()?);
                spaces.push(Space { file: file.centres, frame, centres });
                spaces.len() - 1
            }
        };
        let first = *all;
        *all += partitions.len();
        Some(Ready { file, space, first, partitions })
    }
}

/// One search.
struct Walk<'w, 'a> {
    coded: &'w Coded<'a>,
    /// The query in the frame of each space.
    queries: Vec<CodedQuery>,
    /// The query and the centre of each partition.
    measured: Vec<Measured>,
    /// Which partitions were among the nearest.
    visited: Vec<bool>,
    /// Whether copies are looked at, too: an approximate search may come to one sooner than to its row.
    copies: bool,
}

/// What one thread has found.
struct Found<'q> {
    search: Search<'q>,
    waiting: Vec<Waiting>,
    /// The partitions of these, and their bounds.
    bounds: Vec<(usize, PartitionBound)>,
    /// Rows that seem nearer than the bar, and were asked for.
    near: Vec<Pending>,
    pending: Vec<Pending>,
    /// Rows with a code that were measured, where copies are looked at.
    measured: HashSet<(usize, u64)>,
    /// Rows that their codes did not exclude.
    left: u64,
    stop: Option<Stop>,
}

impl<'q> Found<'q> {
    fn of(search: &Search<'q>, stop: Option<Stop>) -> Found<'q> {
        Found {
            search: search.fresh(),
            waiting: Vec::new(),
            bounds: Vec::new(),
            near: Vec::new(),
            pending: Vec::new(),
            measured: HashSet::new(),
            left: 0,
            stop,
        }
    }

    fn take(&mut self, other: Found<'_>) {
        self.stop = self.stop.or(other.stop);
        self.search.take(other.search);
        let before = self.bounds.len();
        self.bounds.extend(other.bounds);
        self.waiting.extend(other.waiting.into_iter().map(|waiting| waiting.behind(before)));
        self.pending.extend(other.pending);
    }
}

impl Walk<'_, '_> {
    /// Measures the rows that always are, and looks at the nearest partitions: for an exact search to have a bar for the
    /// pass; for an approximate one that is all.
    fn begin<'q>(&mut self, search: &Search<'q>, enough: Option<Enough>) -> Result<Found<'q>> {
        interrupt::check()?;
        let mut found = Found::of(search, None);
        self.plain(&mut found.search)?;
        match enough {
            None => self.nearest(&mut found)?,
            Some(enough) => self.look_near(&enough, &mut found)?,
        }
        Ok(found)
    }

    /// Measures what waits, and hands over what was found; or says why it comes to nothing.
    fn end(&self, mut found: Found<'_>, search: &mut Search<'_>, path: SearchPath) -> Result<Option<Stop>> {
        interrupt::check()?;
        let start = Instant::now();
        if found.stop.is_none() {
            self.look_at_waiting(&mut found)?;
            self.refine(&mut found)?;
        }
        found.search.explain.refine += start.elapsed();
        if self.coded.files.iter().any(|ready| ready.file.is_damaged()) {
            found.stop = Some(Stop::Damaged);
        }
        match found.stop {
            None => {
                search.take(found.search);
                search.explain.path = path;
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
                if let Some((segment, row)) = self.coded.live(&ready.file, ordinal) {
                    search.explain.rows_by_code += 1;
                    search.refine(segment, row, &self.coded.version.segments[segment].vector(row)?);
                }
            }
        }
        Ok(())
    }

    /// Looks at the nearest partitions, the nearest first, so that there is a bar.
    fn nearest(&mut self, found: &mut Found<'_>) -> Result<()> {
        let (mut scratch, coded) = (Scratch::new(), self.coded);
        self.visited = vec![false; coded.partitions];
        let order =
            |(at, measured): (usize, &Measured)| Reverse((measured.order(coded.frame(at).metric), at));
        let mut nearest: BinaryHeap<Reverse<(i32, usize)>> =
            self.measured.iter().enumerate().map(order).collect();
        for _ in 0..NEAREST_PARTITIONS {
            let enough = found.search.explain.codes_scanned >= NEAREST_ROWS && found.search.is_full();
            if enough || found.stop.is_some() {
                break;
            }
            let Some(Reverse((_, at))) = nearest.pop() else { break };
            coded.visit(at, slice::from_ref(self), slice::from_mut(found), &mut scratch)?;
            self.look_at_waiting(found)?;
            self.visited[at] = true;
            self.set_bar(found)?;
        }
        Ok(())
    }

    /// The query in the frame of a partition.
    fn query(&self, partition: usize) -> &CodedQuery {
        &self.queries[self.coded.ready(partition).space]
    }

    fn bound(&self, partition: usize) -> PartitionBound {
        let (_, of) = self.coded.partition(partition);
        PartitionBound::new(self.coded.frame(partition), self.query(partition), self.measured[partition], of)
    }

    /// Asks memory for the vector of a row.
    fn prefetch(&self, pending: &Pending) -> Result<()> {
        let part = &self.coded.version.segments[pending.segment];
        kernel::prefetch(part.row_in(part.dat_map()?, pending.row)?);
        Ok(())
    }

    /// Measures a row, unless it was measured before.
    fn measure(&self, found: &mut Found<'_>, pending: &Pending) -> Result<()> {
        if self.copies && !found.measured.insert((pending.segment, pending.row)) {
            return Ok(());
        }
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
        found.pending.iter().rev().take(found.search.k()).try_for_each(|pending| self.prefetch(pending))?;
        while !found.search.is_full() {
            let Some(pending) = found.pending.pop() else { break };
            self.measure(found, &pending)?;
        }
        // And those that seem nearer than the bar that these have set.
        while let Some(pending) = found.pending.pop() {
            let at = pending.partition as usize;
            if pending.cost > self.bound(at).nearest(self.query(at), found.search.bar()) {
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
        let may_be_near = |pending: &Pending, bar| {
            let at = pending.partition as usize;
            self.bound(at).may_be_near(self.query(at), pending.cost, pending.e, bar)
        };
        pending.retain(|pending| may_be_near(pending, found.search.bar()));
        pending.sort_unstable_by(|a, b| a.cost.total_cmp(&b.cost));
        for (n, one) in pending.iter().enumerate() {
            if let Some(next) = pending.get(n + ROWS_AHEAD) {
                self.prefetch(next)?;
            }
            if may_be_near(one, found.search.bar()) {
                self.measure(found, one)?;
            }
        }
        Ok(())
    }
}
