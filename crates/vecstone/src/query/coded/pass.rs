//! The pass through the partitions, each for several searches at once.

use super::bound::PartitionBound;
use super::{
    AFTER, BYTES_PER_THREAD, Coded, Found, GIVE_UP_AT, LEAST_LEFT, PIECE, Pending, Ready, Stop, Walk,
};
use crate::segment::codes::file::Partition;
use crate::segment::codes::part::{Back, Part, RowCode};
use crate::sys::interrupt;
use crate::sys::kernel;
use crate::sys::kernel::codes::{self, GROUP, Levels, QUERIES, is_kept};
use crate::sys::parallel;
use crate::types::error::Result;
use std::ops::Range;

/// Rows that are scored at once.
pub(super) const AT_ONCE: usize = codes::SCORED;

/// Searches for which codes are packed, at least.
const LEAST_FOR_PACKED: usize = if cfg!(test) { 5 } else { 16 };

/// Memory for one partition after the other.
pub(super) struct Scratch {
    visitors: Vec<Visitor>,
    pub(super) dots: Vec<i32>,
    /// Codes of some rows, for many searches.
    packed: Vec<u8>,
}

/// A search that a partition may have rows for.
pub(super) struct Visitor {
    /// The number of the search.
    pub(super) search: usize,
    pub(super) bound: PartitionBound,
}

/// Some rows of a partition.
pub(super) struct Chunk<'a> {
    partition: usize,
    ready: &'a Ready<'a>,
    of: &'a Partition,
    pub(super) front: Part<'a>,
    /// Number of the front's first row.
    first: usize,
    /// Read for the first row that its front does not exclude.
    back: Option<Back<'a>>,
    /// Of the front.
    pub(super) rows: Range<usize>,
    is_packed: bool,
}

/// A row that the first part of its code does not exclude.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    /// Place of its partition's bound among those that are waited for.
    bound: usize,
    /// Of the partition.
    row: usize,
    /// By the first part; so |e|.
    estimate: f32,
    e: f32,
}

impl Waiting {
    /// The same, where so many bounds come first.
    pub(super) fn behind(self, bounds: usize) -> Waiting {
        Waiting { bound: self.bound + bounds, ..self }
    }
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch { visitors: Vec::new(), dots: vec![0; QUERIES * AT_ONCE], packed: Vec::new() }
    }
}

impl Coded<'_> {
    /// Passes through all partitions that are not visited yet, each for all searches before the next.
    pub(super) fn pass(&self, walks: &[Walk<'_, '_>], founds: &mut [Found<'_>], limit: usize) -> Result<()> {
        let groups = walks.iter().flat_map(|walk| walk.queries.first()).map(|query| query.first().len());
        let bytes = self.rows * (groups.sum::<usize>() * GROUP / 2) as u64;
        let all = self.partitions;
        let pieces = (0..all).step_by(PIECE).map(|start| start..all.min(start + PIECE));
        let begin = || {
            let founds = founds.iter().map(|found| Found::of(&found.search, found.stop));
            (founds.collect::<Vec<_>>(), Scratch::new())
        };
        let pass = |(founds, scratch): &mut (Vec<Found<'_>>, Scratch), mut piece: Range<usize>| {
            piece.try_for_each(|partition| -> Result<()> {
                self.visit(partition, walks, founds, scratch)?;
                let visitors = scratch.visitors.iter().map(|visitor| visitor.search);
                visitors.for_each(|search| founds[search].give_up(self.rows));
                Ok(())
            })
        };
        let done = parallel::for_each_piece(pieces, bytes / BYTES_PER_THREAD, limit, begin, pass)?;
        for (others, _) in done {
            founds.iter_mut().zip(others).for_each(|(found, other)| found.take(other));
        }
        Ok(())
    }

    /// Scores the rows of a partition for each search whose bar does not exclude them. Those that seem near are measured,
    /// the others of which it is not certain that they are not wait.
    pub(super) fn visit(
        &self,
        partition: usize,
        walks: &[Walk<'_, '_>],
        founds: &mut [Found<'_>],
        scratch: &mut Scratch,
    ) -> Result<()> {
        interrupt::check()?;
        let Scratch { visitors, dots, packed } = scratch;
        let (ready, of) = self.partition(partition);
        visitors.clear();
        for (search, (walk, found)) in walks.iter().zip(&mut *founds).enumerate() {
            if walk.visited[partition] || found.stop.is_some() {
                continue;
            }
            let (query, bar) = (walk.query(partition), found.search.bar());
            let is_far = query.is_far(self.frame(partition), walk.measured[partition], of, bar);
            let bound = (!is_far).then(|| walk.bound(partition));
            match bound.filter(|bound| !bound.excludes_all(query, bar)) {
                Some(bound) => visitors.push(Visitor { search, bound }),
                None => found.search.explain.partitions_skipped += 1,
            }
        }
        if visitors.is_empty() {
            return Ok(());
        }
        let Some(front) = ready.file.codes.front(of, 0) else {
            visitors.iter().for_each(|visitor| founds[visitor.search].stop = Some(Stop::Damaged));
            return Ok(());
        };
        let all = of.rows as usize;
        let mut chunk = Chunk::new(partition, (ready, of), front, 0);
        for start in (0..all).step_by(AT_ONCE) {
            chunk.rows = start..all.min(start + AT_ONCE);
            self.pack(&mut chunk, visitors.len(), packed);
            for visitors in visitors.chunks(QUERIES) {
                self.score(&mut chunk, (visitors, packed), walks, founds, dots)?;
            }
        }
        for visitor in visitors {
            let explain = &mut founds[visitor.search].search.explain;
            explain.partitions_visited += 1;
            explain.codes_scanned += u64::from(of.rows);
        }
        Ok(())
    }

    /// Packs the codes of some rows, if that is worth it for so many searches.
    fn pack(&self, chunk: &mut Chunk<'_>, visitors: usize, packed: &mut Vec<u8>) {
        chunk.is_packed = self.kernels.packed_dots.is_some() && visitors >= LEAST_FOR_PACKED;
        if chunk.is_packed {
            codes::pack(chunk.codes(), chunk.front.code, packed);
        }
    }

    /// Scores some rows for at most [`QUERIES`] searches.
    pub(super) fn score(
        &self,
        chunk: &mut Chunk<'_>,
        (visitors, packed): (&[Visitor], &[u8]),
        walks: &[Walk<'_, '_>],
        founds: &mut [Found<'_>],
        dots: &mut [i32],
    ) -> Result<()> {
        let mut queries: [&[Levels]; QUERIES] = [&[]; QUERIES];
        for (query, visitor) in queries.iter_mut().zip(visitors) {
            *query = walks[visitor.search].query(chunk.partition).first();
        }
        let count = chunk.rows.len();
        let (queries, dots) = (&queries[..visitors.len()], &mut dots[..visitors.len() * count]);
        match self.kernels.packed_dots.filter(|_| chunk.is_packed) {
            Some(packed_dots) => packed_dots(queries, packed, dots),
            None => (self.kernels.code_dots)(queries, chunk.codes(), dots),
        }
        for (visitor, dots) in visitors.iter().zip(dots.chunks_exact(count)) {
            walks[visitor.search].take(chunk, &visitor.bound, dots, &mut founds[visitor.search])?;
        }
        Ok(())
    }
}

impl Found<'_> {
    /// Asks for the second part of a row, which is looked at later. `bound`: its place among those that are waited for.
    pub(super) fn wait(&mut self, back: &Back<'_>, bound: usize, row: usize, (estimate, e): (f32, f32)) {
        kernel::prefetch(back.record(row));
        self.waiting.push(Waiting { bound, row, estimate, e });
    }

    /// Gives up if too many of the rows that were scored are left over.
    fn give_up(&mut self, rows: u64) {
        let (scored, left) = (self.search.explain.codes_scanned, self.left);
        if scored >= rows / AFTER && left > scored / GIVE_UP_AT && left > LEAST_LEFT && self.stop.is_none() {
            self.stop = Some(Stop::GaveUp);
        }
    }
}

impl<'a> Chunk<'a> {
    /// No rows yet, of a front whose first row has that number.
    pub(super) fn new(
        partition: usize,
        (ready, of): (&'a Ready<'a>, &'a Partition),
        front: Part<'a>,
        first: usize,
    ) -> Chunk<'a> {
        Chunk { partition, ready, of, front, first, back: None, rows: 0..0, is_packed: false }
    }

    fn codes(&self) -> &'a [u8] {
        &self.front.codes[self.rows.start * self.front.code..self.rows.end * self.front.code]
    }

    fn back(&mut self) -> Option<Back<'a>> {
        if self.back.is_none() {
            self.back = self.ready.file.codes.back(self.of);
        }
        self.back
    }
}

impl Walk<'_, '_> {
    /// Takes what the products with some codes do not exclude: rows whose second part is looked at later.
    fn take(
        &self,
        chunk: &mut Chunk<'_>,
        bound: &PartitionBound,
        dots: &[i32],
        found: &mut Found<'_>,
    ) -> Result<()> {
        let scoring = bound.scoring(self.query(chunk.partition), 0, found.search.bar());
        let mut estimates = [0f32; AT_ONCE];
        let (of, estimates) =
            (chunk.front.corrections.part(chunk.rows.clone()), &mut estimates[..dots.len()]);
        let mut kept = (self.coded.kernels.score)(&scoring, dots, of, estimates);
        if kept == 0 {
            return Ok(());
        }
        // What was asked for when earlier chunks were scored has come by now.
        self.look_at_waiting(found)?;
        let Some(back) = chunk.back() else {
            found.stop = Some(Stop::Damaged);
            return Ok(());
        };
        let at = found.bounds.len();
        found.bounds.push((chunk.partition, *bound));
        while kept != 0 {
            let n = kept.trailing_zeros() as usize;
            kept &= kept - 1;
            let row = chunk.first + chunk.rows.start + n;
            found.wait(&back, at, row, (estimates[n], of.e[n]));
        }
        Ok(())
    }

    /// Looks at the second parts of the rows that wait for it.
    pub(super) fn look_at_waiting(&self, found: &mut Found<'_>) -> Result<()> {
        let mut waiting = std::mem::take(&mut found.waiting);
        let mut bounds = std::mem::take(&mut found.bounds);
        let mut rows = &*waiting;
        while let Some(first) = rows.first() {
            let of_bound = rows.iter().take_while(|row| row.bound == first.bound).count();
            self.look_back(bounds[first.bound], &rows[..of_bound], found)?;
            rows = &rows[of_bound..];
        }
        let mut near = std::mem::take(&mut found.near);
        near.iter().try_for_each(|pending| self.measure(found, pending))?;
        waiting.clear();
        bounds.clear();
        near.clear();
        (found.waiting, found.bounds, found.near) = (waiting, bounds, near);
        Ok(())
    }

    /// Takes those rows of a partition that the first part of their codes does not exclude, unless the second does.
    fn look_back(
        &self,
        (partition, bound): (usize, PartitionBound),
        waiting: &[Waiting],
        found: &mut Found<'_>,
    ) -> Result<()> {
        let ((ready, of), query) = (self.coded.partition(partition), self.query(partition));
        let Some(back) = ready.file.codes.back(of) else {
            found.stop = Some(Stop::Damaged);
            return Ok(());
        };
        let (scoring, is_full) = (bound.scoring(query, 1, found.search.bar()), found.search.is_full());
        let nearest = bound.nearest(query, found.search.bar());
        for &Waiting { row, mut estimate, mut e, .. } in waiting {
            if let Some(RowCode { code, correction }) = back.second(row) {
                let mut dot = [0];
                (self.coded.kernels.code_dots)(&[query.second()], code, &mut dot);
                estimate += codes::estimate(&scoring, dot[0], correction.a, correction.h);
                e = correction.e;
                if !is_kept(&scoring, estimate, e, 0.0) {
                    continue;
                }
            }
            found.left += 1;
            let Some((segment, row)) = self.coded.live(&ready.file, back.ordinal(row)) else { continue };
            let partition = u32::try_from(partition).unwrap_or(u32::MAX);
            let pending = Pending { cost: bound.cost(estimate), e, partition, segment, row };
            if is_full && pending.cost <= nearest {
                self.prefetch(&pending)?;
                found.near.push(pending);
            } else {
                found.pending.push(pending);
            }
        }
        Ok(())
    }
}
