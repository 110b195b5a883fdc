//! Signs: what an approximate search looks at first. Rows that they do not exclude are looked at by 4 bits, when memory has
//! brought these.

use super::bound::PartitionBound;
use super::pass::{AT_ONCE, Chunk, Scratch, Visitor};
use super::{Found, Stop, Walk};
use crate::segment::codes::part::{Part, Signed, Signs};
use crate::sys::kernel::codes::{self, Scoring, SignTables, is_kept};
use crate::types::error::Result;
use std::ops::Range;
use std::slice;

/// Where signs leave more than one of so many rows, all are looked at by 4 bits: within a tight cluster signs say little.
const LEFT_AT_MOST: u32 = 5;

/// For each row that is sought, so many are looked at before there is a bar.
const PROMISING: usize = 2;

/// Rows of a partition that their signs do not exclude.
#[derive(Default)]
pub(super) struct Left<'a> {
    /// The partition, its bound and its codes, if it was looked at.
    of: Option<(usize, PartitionBound, [Part<'a>; 2])>,
    /// Of the rows, and of the copies.
    rows: [Vec<usize>; 2],
}

impl Left<'_> {
    /// Forgets them, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.of = None;
        self.rows.iter_mut().for_each(Vec::clear);
    }
}

impl<'a> Walk<'_, 'a> {
    /// Looks at the signs of the rows and copies of a partition, unless the bar excludes all of it. Asks for what is left.
    pub(super) fn look_at_signs(
        &self,
        (partition, signed): (usize, &[Signed<'a>; 2]),
        left: &mut Left<'a>,
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
        left.of = Some((partition, bound, signed.map(|signed| signed.front)));
        let (tables, scoring) = (query.tables(), bound.scoring_of_signs(query, bar));
        for part in parts {
            let signed = &signed[part];
            let mut chunk = Chunk::new(partition, (ready, of), signed.front, of.parts()[part].start);
            for rows in chunks(signed) {
                let mut estimates = [0f32; AT_ONCE];
                let mut kept = self.score_signs(
                    &signed.signs,
                    rows.clone(),
                    (tables, &scoring),
                    scratch,
                    &mut estimates,
                );
                if kept.count_ones() * LEFT_AT_MOST > u32::try_from(rows.len()).unwrap_or(u32::MAX) {
                    chunk.rows = rows;
                    let visitor = Visitor { search: 0, bound };
                    let (walks, founds) = (slice::from_ref(self), slice::from_mut(found));
                    let dots = &mut scratch.dots;
                    self.coded.score(&mut chunk, (&[visitor], &[]), walks, founds, dots)?;
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

    /// Without a bar: looks at those rows of a partition that seem nearest by their signs, and measures the best of them, so
    /// that there is one. A partition with few rows more than these is left as it is.
    pub(super) fn look_at_promising(
        &self,
        (partition, signed): (usize, &[Signed<'a>; 2]),
        found: &mut Found<'_>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let ((_, of), bound) = (self.coded.partition(partition), self.bound(partition));
        let most = found.search.k().saturating_mul(PROMISING);
        if of.codes() / 2 < most {
            return Ok(());
        }
        let query = self.query(partition);
        let (tables, scoring) = (query.tables(), bound.scoring_of_signs(query, found.search.bar()));
        let mut promising = Vec::with_capacity(of.codes());
        for (part, signed) in signed.iter().enumerate() {
            for rows in chunks(signed) {
                let mut estimates = [0f32; AT_ONCE];
                self.score_signs(&signed.signs, rows.clone(), (tables, &scoring), scratch, &mut estimates);
                promising.extend(rows.zip(estimates).map(|(row, estimate)| (estimate, part, row)));
            }
        }
        // The greatest estimate is of the nearest.
        promising.select_nth_unstable_by(most, |a, b| b.0.total_cmp(&a.0));
        let fronts = signed.map(|signed| signed.front);
        let mut left = Left { of: Some((partition, bound, fronts)), ..Left::default() };
        for &(_, part, row) in &promising[..most] {
            fronts[part].prefetch(row);
            left.rows[part].push(row);
        }
        self.look_at_left(&mut left, found)?;
        self.set_bar(found)
    }

    /// Scores some rows by their signs. Returns which of them are kept.
    fn score_signs(
        &self,
        signs: &Signs<'_>,
        rows: Range<usize>,
        (tables, scoring): (&SignTables, &Scoring),
        scratch: &mut Scratch,
        estimates: &mut [f32; AT_ONCE],
    ) -> u128 {
        let dots = &mut scratch.dots[..rows.len()];
        (self.coded.kernels.sign_dots)(tables, signs.codes(&rows), dots);
        let estimates = &mut estimates[..rows.len()];
        (self.coded.kernels.score)(scoring, dots, signs.corrections.part(rows), estimates)
    }

    /// Looks at 4 bits of each component of rows that are left. Those that are left then wait for their second parts.
    pub(super) fn look_at_fronts(&self, left: &Left<'a>, found: &mut Found<'_>) {
        let Some((partition, bound, fronts)) =
            left.of.filter(|_| left.rows.iter().any(|rows| !rows.is_empty()))
        else {
            return;
        };
        let ((ready, of), query) = (self.coded.partition(partition), self.query(partition));
        let scoring = bound.scoring(query, 0, found.search.bar());
        let at = found.bounds.len();
        found.bounds.push((partition, bound));
        let Some(back) = ready.file.codes.back(of) else {
            found.stop = Some(Stop::Damaged);
            return;
        };
        for (part, (rows, front)) in left.rows.iter().zip(fronts).enumerate() {
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

/// Rows that are scored at once.
fn chunks(signed: &Signed<'_>) -> impl Iterator<Item = Range<usize>> + use<> {
    let all = signed.rows();
    (0..all).step_by(AT_ONCE).map(move |start| start..all.min(start + AT_ONCE))
}
