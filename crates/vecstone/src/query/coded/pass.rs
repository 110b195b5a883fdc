//! The pass through the partitions, each for several searches at once.

use super::bound::PartitionBound;
use super::{
    AFTER, BYTES_PER_THREAD, Coded, Found, GIVE_UP_AT, LEAST_LEFT, PIECE, Pending, Ready, Stop, Walk,
};
use crate::segment::codes::file::Block;
use crate::sys::kernel::codes::{GROUP, Levels, QUERIES, is_kept};
use crate::sys::parallel;
use crate::types::error::Result;
use std::ops::Range;

/// Rows that are scored at once.
const AT_ONCE: usize = 128;

/// Memory for one partition after the other.
pub(super) struct Scratch {
    visitors: Vec<Visitor>,
    dots: Vec<i32>,
}

/// A search that a partition may have rows for.
struct Visitor {
    /// The number of the search.
    search: usize,
    bound: PartitionBound,
}

/// Some rows of a partition.
struct Chunk<'a> {
    partition: usize,
    ready: &'a Ready<'a>,
    block: Block<'a>,
    rows: Range<usize>,
}

impl Scratch {
    pub(super) fn new() -> Scratch {
        Scratch { visitors: Vec::new(), dots: vec![0; QUERIES * AT_ONCE] }
    }
}

impl Coded<'_> {
    /// Passes through all partitions that are not visited yet, each for all searches before the next.
    pub(super) fn pass(&self, walks: &[Walk<'_, '_>], founds: &mut [Found<'_>], limit: usize) -> Result<()> {
        let groups = walks.iter().flat_map(|walk| walk.queries.first()).map(|query| query.levels.len());
        let bytes = self.rows * (groups.sum::<usize>() * GROUP / 2) as u64;
        let all = self.partitions.len();
        let pieces = (0..all).step_by(PIECE).map(|start| start..all.min(start + PIECE));
        let begin = || {
            let founds = founds.iter().map(|found| Found::of(&found.search, found.stop));
            (founds.collect::<Vec<_>>(), Scratch::new())
        };
        let pass = |(founds, scratch): &mut (Vec<Found<'_>>, Scratch), mut piece: Range<usize>| {
            piece.try_for_each(|partition| {
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
        let Scratch { visitors, dots } = scratch;
        let (ready, of) = self.partition(partition);
        visitors.clear();
        for (search, (walk, found)) in walks.iter().zip(&mut *founds).enumerate() {
            if walk.visited[partition] || found.stop.is_some() {
                continue;
            }
            let (query, bar) = (walk.query(partition), found.search.bar());
            let is_far = query.is_far(ready.frame, walk.measured[partition], of, bar);
            let bound = (!is_far).then(|| walk.bound(partition));
            match bound.filter(|bound| !bound.excludes_all(query, bar)) {
                Some(bound) => visitors.push(Visitor { search, bound }),
                None => found.search.explain.partitions_skipped += 1,
            }
        }
        if visitors.is_empty() {
            return Ok(());
        }
        let Some(block) = ready.file.codes.block(of) else {
            visitors.iter().for_each(|visitor| founds[visitor.search].stop = Some(Stop::Damaged));
            return Ok(());
        };
        let all = of.rows as usize;
        let mut chunk = Chunk { partition, ready, block, rows: 0..0 };
        for visitors in visitors.chunks(QUERIES) {
            for start in (0..all).step_by(AT_ONCE) {
                chunk.rows = start..all.min(start + AT_ONCE);
                self.score(&chunk, visitors, walks, founds, dots)?;
            }
            for visitor in visitors {
                let explain = &mut founds[visitor.search].search.explain;
                explain.partitions_visited += 1;
                explain.codes_scanned += u64::from(of.rows);
            }
        }
        Ok(())
    }

    /// Scores some rows for at most [`QUERIES`] searches.
    fn score(
        &self,
        chunk: &Chunk<'_>,
        visitors: &[Visitor],
        walks: &[Walk<'_, '_>],
        founds: &mut [Found<'_>],
        dots: &mut [i32],
    ) -> Result<()> {
        let mut queries: [&[Levels]; QUERIES] = [&[]; QUERIES];
        for (query, visitor) in queries.iter_mut().zip(visitors) {
            *query = &walks[visitor.search].query(chunk.partition).levels;
        }
        let (count, code) = (chunk.rows.len(), queries[0].len() * GROUP / 2);
        let codes = &chunk.block.codes[chunk.rows.start * code..chunk.rows.end * code];
        let dots = &mut dots[..visitors.len() * count];
        (self.kernels.code_dots)(&queries[..visitors.len()], codes, dots);
        for (visitor, dots) in visitors.iter().zip(dots.chunks_exact(count)) {
            walks[visitor.search].take(chunk, &visitor.bound, dots, &mut founds[visitor.search])?;
        }
        Ok(())
    }
}

impl Found<'_> {
    /// Gives up if too many of the rows that were scored are left over.
    fn give_up(&mut self, rows: u64) {
        let (scored, left) = (self.search.explain.codes_scanned, self.left);
        if scored >= rows / AFTER && left > scored / GIVE_UP_AT && left > LEAST_LEFT && self.stop.is_none() {
            self.stop = Some(Stop::GaveUp);
        }
    }
}

impl Walk<'_, '_> {
    /// Takes what the products with some codes do not exclude.
    fn take(
        &self,
        chunk: &Chunk<'_>,
        bound: &PartitionBound,
        dots: &[i32],
        found: &mut Found<'_>,
    ) -> Result<()> {
        let query = self.query(chunk.partition);
        let scoring = bound.scoring(query, found.search.bar());
        let mut estimates = [0f32; AT_ONCE];
        let (of, estimates) =
            (chunk.block.corrections.part(chunk.rows.clone()), &mut estimates[..dots.len()]);
        if !(self.coded.kernels.score)(&scoring, dots, of, estimates) {
            return Ok(());
        }
        for ((row, &mut estimate), &e) in chunk.rows.clone().zip(estimates).zip(of.e) {
            if !is_kept(&scoring, estimate, e) {
                continue;
            }
            found.left += 1;
            let Some((segment, row)) = self.live(&chunk.ready.file, chunk.block.ordinal(row)) else {
                continue;
            };
            let (cost, partition) =
                (bound.cost(estimate), u32::try_from(chunk.partition).unwrap_or(u32::MAX));
            let pending = Pending { cost, e, partition, segment, row };
            if found.search.is_full() && bound.seems_near(query, cost, found.search.bar()) {
                self.measure(found, &pending)?;
            } else {
                found.pending.push(pending);
            }
        }
        Ok(())
    }
}
