//! Approximate search: looks at the partitions nearest to a query, until so many rows were looked at.

use super::bound::{CodedQuery, Measured, ordered};
use super::pass::Scratch;
use super::signs::Left;
use super::{Coded, Found, Ready, Space, Stop, Walk};
use crate::sys::kernel::STREAMS;
use crate::types::error::Result;

/// Standard deviations of an estimate by signs, and of one by 4 bits, that are allowed for.
const DEVIATIONS: [f64; 2] = [2.0, 3.0];
/// Partitions that are put in order at once, at first.
const AT_ONCE: usize = 64;
/// Where fewer than so many fourths of the rows are live or selected, those that are count as looked at; else all do.
const THINNED: u64 = 3;

impl Coded<'_> {
    /// What the codes of centres say of each partition, for a query: the greater, the nearer. `None` if one is damaged.
    pub(super) fn estimates(&self, walk: &Walk<'_, '_>) -> Option<Vec<f32>> {
        let of_space = |(space, query): (&Space<'_>, &CodedQuery)| {
            Some(query.estimates(self.kernels, &space.file.codes()?))
        };
        let of_spaces = self.spaces.iter().zip(&walk.queries).map(of_space).collect::<Option<Vec<_>>>()?;
        let of_file = |ready: &Ready<'_>| {
            let of_space = &of_spaces[ready.space];
            ready.partitions.iter().map(|of| of_space[of.centre as usize]).collect::<Vec<_>>()
        };
        Some(self.files.iter().flat_map(of_file).collect())
    }

    /// How many rows and copies of a partition are live.
    fn live_codes(&self, partition: usize) -> u64 {
        let (ready, of) = self.partition(partition);
        let Some(back) = ready.file.codes.back(of) else { return 0 };
        let is_live = |row: &usize| self.live(&ready.file, back.ordinal(*row)).is_some();
        (0..of.codes()).filter(is_live).count() as u64
    }
}

/// Partitions, the nearest first, put in order as far as they are asked for.
pub(super) struct Nearest {
    /// What orders them, the nearest first, and their numbers in the low half.
    keys: Vec<u64>,
    given: usize,
    /// How many are in order.
    ordered: usize,
}

impl Nearest {
    pub(super) fn of(estimates: &[f32]) -> Nearest {
        let key = |(at, estimate): (u32, &f32)| {
            // From the greatest on, as an unsigned number.
            let order = !(ordered(*estimate).cast_unsigned() ^ 1 << 31);
            u64::from(order) << 32 | u64::from(at)
        };
        Nearest { keys: (0..).zip(estimates).map(key).collect(), given: 0, ordered: 0 }
    }
}

impl Iterator for Nearest {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.given == self.ordered {
            let rest = &mut self.keys[self.ordered..];
            let more = rest.len().min(self.ordered.max(AT_ONCE));
            if more < rest.len() {
                rest.select_nth_unstable(more);
            }
            rest[..more].sort_unstable();
            self.ordered += more;
        }
        let key = *self.keys.get(self.given)?;
        self.given += 1;
        #[expect(clippy::cast_possible_truncation, reason = "the low half")]
        Some(key as u32 as usize)
    }
}

impl Walk<'_, '_> {
    /// Looks at the nearest partitions, the nearest first, until they had `effort` rows and copies and `k` were found.
    pub(super) fn look_near(&mut self, effort: u64, found: &mut Found<'_>) -> Result<()> {
        let coded = self.coded;
        self.queries.iter_mut().for_each(|query| query.allow(DEVIATIONS));
        let Some(estimates) = coded.estimates(self) else {
            found.stop = Some(Stop::Damaged);
            return Ok(());
        };
        let mut near = Nearest::of(&estimates);
        let is_thinned = coded.version.live() * 4 < coded.version.rows() * THINNED;
        let (mut scratch, mut looked, mut left) = (Scratch::new(), 0, Left::default());
        self.measured = vec![Measured::default(); coded.partitions.len()];
        loop {
            let next: Vec<usize> = near.by_ref().take(STREAMS).collect();
            if next.is_empty() {
                return self.look_at_left(&mut left, found);
            }
            self.measure_centres(&next);
            for (n, &at) in next.iter().enumerate() {
                if let Some(&next) = next.get(n + 1) {
                    let (ready, of) = coded.partition(next);
                    ready.file.codes.prefetch_signs(of);
                }
                if found.stop.is_some() || (looked >= effort && found.search.is_full()) {
                    return self.look_at_left(&mut left, found);
                }
                let before = std::mem::take(&mut left);
                self.look_at_signs(at, &mut left, found, &mut scratch)?;
                // What the one before asked for has come by now.
                self.look_at_waiting(found)?;
                self.look_at_fronts(&before, found);
                if !found.search.is_full() {
                    self.look_at_left(&mut left, found)?;
                    self.set_bar(found)?;
                }
                let (_, of) = coded.partition(at);
                looked += if is_thinned { coded.live_codes(at) } else { of.codes() as u64 };
            }
        }
    }

    /// Looks at all that is left of a partition.
    fn look_at_left(&self, left: &mut Left, found: &mut Found<'_>) -> Result<()> {
        self.look_at_waiting(found)?;
        self.look_at_fronts(&std::mem::take(left), found);
        self.look_at_waiting(found)
    }

    /// Measures the query with the centres of some partitions.
    fn measure_centres(&mut self, partitions: &[usize]) {
        let coded = self.coded;
        for (n, (space, query)) in coded.spaces.iter().zip(&self.queries).enumerate() {
            let is_in = |at: &&usize| coded.partition(**at).0.space == n;
            let here: Vec<usize> = partitions.iter().filter(is_in).copied().collect();
            let centres = here.iter().map(|&at| space.centres.row(coded.partition(at).1.centre as usize));
            let mut at = here.iter();
            Measured::each(coded.kernels, space.frame, &[&query.place], centres, |_, measured| {
                at.next().into_iter().for_each(|&at| self.measured[at] = measured);
            });
        }
    }
}
