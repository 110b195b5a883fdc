//! Signs: what an approximate search looks at first. Rows that they do not exclude are looked at by 4 bits, when memory has
//! brought these.

use super::bound::PartitionBound;
use super::pass::{AT_ONCE, Chunk, Scratch, Visitor};
use super::{Found, Stop, Walk};
use crate::sys::kernel::codes::{self, is_kept};
use crate::types::error::Result;
use std::ops::Range;
use std::slice;

/// Where signs leave more than one of so many rows, all are looked at by 4 bits: within a tight cluster signs say little.
const LEFT_AT_MOST: u32 = 5;

/// Rows of a partition that their signs do not exclude.
#[derive(Default)]
pub(super) struct Left {
    /// The partition and its bound, if it was looked at.
    of: Option<(usize, PartitionBound)>,
    /// Of the rows, and of the copies.
    rows: [Vec<usize>; 2],
}

impl Walk<'_, '_> {
    /// Looks at the signs of the rows and copies of a partition, unless the bar excludes all of it. Asks for what is left.
    pub(super) fn look_at_signs(
        &self,
        partition: usize,
        left: &mut Left,
        found: &mut Found<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let ((ready, of), query, bar) =
            (self.coded.partition(partition), self.query(partition), found.search.bar());
        let is_far = query.is_far(self.coded.frame(partition), self.measured[partition], of, bar);
        let bound = (!is_far || of.copies > 0).then(|| self.bound(partition));
        // Radii are of the rows and not of the copies.
        let is_out = is_far || bound.as_ref().is_none_or(|bound| bound.excludes_all(query, bar));
        let Some(bound) = bound.filter(|_| !is_out || of.copies > 0) else {
            found.search.explain.partitions_skipped += 1;
            return Ok(());
        };
        let parts = usize::from(is_out)..if of.copies > 0 { 2 } else { 1 };
        found.search.explain.partitions_visited += 1;
        found.search.explain.codes_scanned +=
            of.parts()[parts.clone()].iter().map(|rows| rows.len() as u64).sum::<u64>();
        left.of = Some((partition, bound));
        let scoring = bound.scoring_of_signs(query, bar);
        for part in parts {
            let front = ready.file.codes.front(of, part);
            let signs = front.as_ref().and_then(|front| ready.file.codes.signs(of, part, front));
            let (Some(front), Some(signs)) = (front, signs) else {
                found.stop = Some(Stop::Damaged);
                return Ok(());
            };
            let Range { start: first, end } = of.parts()[part];
            let mut chunk = Chunk::new(partition, (ready, of), front, first);
            for start in (0..end - first).step_by(AT_ONCE) {
                let rows = start..(end - first).min(start + AT_ONCE);
                let (dots, mut estimates) = (&mut scratch.dots[..rows.len()], [0f32; AT_ONCE]);
                (self.coded.kernels.sign_dots)(query.tables(), signs.codes(&rows), dots);
                let of_rows = signs.corrections.part(rows.clone());
                let mut kept =
                    (self.coded.kernels.score)(&scoring, dots, of_rows, &mut estimates[..rows.len()]);
                if kept.count_ones() * LEFT_AT_MOST > u32::try_from(rows.len()).unwrap_or(u32::MAX) {
                    chunk.rows = rows;
                    let visitor = Visitor { search: 0, bound };
                    let searches = (slice::from_ref(self), slice::from_mut(found));
                    self.coded.score(
                        &mut chunk,
                        (&[visitor], &[]),
                        searches.0,
                        searches.1,
                        &mut scratch.dots,
                    )?;
                    continue;
                }
                while kept != 0 {
                    let row = rows.start + kept.trailing_zeros() as usize;
                    kept &= kept - 1;
                    chunk.front.prefetch(row);
                    left.rows[part].push(row);
                }
            }
        }
        Ok(())
    }

    /// Looks at 4 bits of each component of rows that are left. Those that are left then wait for their second parts.
    pub(super) fn look_at_fronts(&self, left: &Left, found: &mut Found<'_>) {
        let Some((partition, bound)) = left.of else { return };
        let ((ready, of), query) = (self.coded.partition(partition), self.query(partition));
        let scoring = bound.scoring(query, 0, found.search.bar());
        let at = found.bounds.len();
        found.bounds.push((partition, bound));
        for (part, rows) in left.rows.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let (Some(front), Some(back)) = (ready.file.codes.front(of, part), ready.file.codes.back(of))
            else {
                found.stop = Some(Stop::Damaged);
                return;
            };
            for &row in rows {
                let (mut dot, code) = ([0], front.row(row));
                (self.coded.kernels.code_dots)(&[query.first()], code.code, &mut dot);
                let estimate = codes::estimate(&scoring, dot[0], code.correction.a, code.correction.h);
                let beyond = front.corrections.beyond.get(row).map_or(0.0, |&beyond| beyond);
                if is_kept(&scoring, estimate, code.correction.e, beyond) {
                    let row = of.parts()[part].start + row;
                    found.wait(&back, at, row, (estimate, code.correction.e));
                }
            }
        }
    }
}
