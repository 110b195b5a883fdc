//! Approximate search: looks at the partitions nearest to a query, until enough was spent on it.

use super::bound::{CodedQuery, Measured, from_order, ordered};
use super::pass::Scratch;
use super::signs::Left;
use super::{Coded, Found, Space, Stop, Walk};
use crate::query::explain::WhyExact;
use crate::segment::codes::effort::Enough;
use crate::segment::codes::part::Signed;
use crate::segment::side;
use crate::segment::version::Version;
use crate::sys::kernel::STREAMS;
use crate::types::error::Result;

/// Standard deviations of an estimate that are allowed for.
const DEVIATIONS: f64 = 2.0;
/// Of so many times the partitions that a search will look at, and some more, the codes of their centres are read,
const BY_SIGNS: usize = 3;
const LEAST_CHOSEN: usize = if cfg!(test) { 4 } else { 32 };
/// if that is less than one of so many.
const SMALL_SHARE: usize = if cfg!(test) { 2 } else { 8 };
/// Partitions that are put in order at once, at first.
const AT_ONCE: usize = 64;
/// Where fewer than so many fourths of the rows are live or selected, those that are count as looked at; else all do.
const THINNED: u64 = 3;
/// One of so many rows is looked up to know how many do.
const COUNTED: usize = 8;

/// Which share of the rows counts as looked at, where only those count that are live and selected.
fn thinned(version: &Version) -> Option<f64> {
    let (live, rows) = (version.live(), version.rows());
    (live * 4 < rows * THINNED).then(|| live as f64 / rows as f64)
}

/// When a search has looked at enough, by what was measured, with so many live rows without a filter; or why only an exact
/// search will do. Among a share of the rows the nearest are the nearest of as many times more where these rows lie
/// everywhere, and no more than those where they lie together: the greater effort counts.
pub(crate) fn enough(version: &Version, k: usize, recall: f32, live: u64) -> Result<Enough, WhyExact> {
    let effort = side::measured(version).ok_or(WhyExact::NotMeasured)?;
    let of = |k| effort.of(k, recall, live).ok_or(WhyExact::Recall);
    let enough = of(k)?;
    let Some(share) = thinned(version) else { return Ok(enough) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
    let more = of((k as f64 / share).ceil() as usize)?;
    Ok(Enough { spent: enough.spent.max(more.spent * share), looked: more.looked, ..enough })
}

impl<'a> Coded<'a> {
    /// All partitions, those that seem nearest by the codes of their centres first; `None` if one is damaged. Where there
    /// are many more of them than hold `looked` rows, signs choose those whose codes are read.
    pub(super) fn nearest(&self, walk: &Walk<'_, '_>, looked: u64) -> Option<Nearest> {
        let all = self.partitions;
        let looked = u128::from(looked) * all as u128 / u128::from(self.rows.max(1));
        let wanted =
            usize::try_from(looked).unwrap_or(all).saturating_mul(BY_SIGNS).saturating_add(LEAST_CHOSEN);
        let by_signs = wanted < all / SMALL_SHARE;
        // Estimates in several frames are to be of one thing.
        let of_norm = |query: &CodedQuery| if self.spaces.len() > 1 { query.of_norm() } else { 0.0 };
        let of_space = |(space, query): (&Space<'_>, &CodedQuery)| {
            Some(match by_signs {
                true => query.estimates_by_signs(self.kernels, &space.file.signs()?),
                false => query.estimates(self.kernels, &space.file.codes()?),
            })
        };
        let of_spaces = self.spaces.iter().zip(&walk.queries).map(of_space).collect::<Option<Vec<_>>>()?;
        let mut nearest = Nearest { keys: Vec::with_capacity(all), given: 0, ordered: 0 };
        for ready in &self.files {
            let (of_space, of_norm) = (&of_spaces[ready.space], of_norm(&walk.queries[ready.space]));
            let estimates = ready.partitions.iter().map(|of| of_norm + of_space[of.centre as usize]);
            let first = u32::try_from(nearest.keys.len()).unwrap_or(u32::MAX);
            nearest.keys.extend((first..).zip(estimates).map(key));
        }
        if by_signs {
            let parts = self.spaces.iter().map(|space| space.file.codes()).collect::<Option<Vec<_>>>()?;
            nearest.reorder(wanted, |at| {
                let (ready, of) = self.partition(at);
                let (query, parts) = (&walk.queries[ready.space], &parts[ready.space]);
                of_norm(query) + query.estimate(self.kernels, parts, of.centre as usize)
            });
        }
        Some(nearest)
    }

    /// What is looked at first of the rows of a partition, and of its copies; `None` if a byte is damaged.
    fn signed(&self, partition: usize) -> Option<[Signed<'a>; 2]> {
        let (ready, of) = self.partition(partition);
        ready.file.codes.signed(of)
    }

    /// How many rows and copies of a partition are live, about: some are looked up, since that reads a line of memory each.
    fn live_codes(&self, partition: usize) -> u64 {
        let (ready, of) = self.partition(partition);
        let Some(back) = ready.file.codes.back(of) else { return 0 };
        let is_live = |row: &usize| self.live(&ready.file, back.ordinal(*row)).is_some();
        let some = (0..of.codes()).step_by(COUNTED);
        let count = some.len().max(1);
        (some.filter(is_live).count() * of.codes()).div_ceil(count) as u64
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

/// What orders partitions, and the number of one.
fn key((at, estimate): (u32, f32)) -> u64 {
    // From the greatest on, as an unsigned number.
    let order = !(ordered(estimate).cast_unsigned() ^ 1 << 31);
    u64::from(order) << 32 | u64::from(at)
}

/// The estimate by which it is ordered.
fn estimate(key: u64) -> f32 {
    from_order((!((key >> 32) as u32) ^ 1 << 31).cast_signed())
}

/// The number of a partition.
#[expect(clippy::cast_possible_truncation, reason = "the low half")]
fn number(key: u64) -> u32 {
    key as u32
}

impl Nearest {
    /// Puts so many of the nearest in the order of better estimates.
    fn reorder(&mut self, count: usize, estimate: impl Fn(usize) -> f32) {
        self.keys.select_nth_unstable(count);
        let first = &mut self.keys[..count];
        for of in &mut *first {
            let at = number(*of);
            *of = key((at, estimate(at as usize)));
        }
        first.sort_unstable();
        self.ordered = count;
    }
}

impl Iterator for Nearest {
    /// A partition, and the estimate of its centre.
    type Item = (usize, f32);

    fn next(&mut self) -> Option<(usize, f32)> {
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
        Some((number(key) as usize, estimate(key)))
    }
}

/// What a search has looked at.
pub(super) struct Spending {
    /// It is measured how much less near partitions seem than the one in which there were so many.
    k: u64,
    codes: u64,
    from: Option<f32>,
    /// What estimates are measured by, whatever the lengths of rows and query.
    unit: f64,
}

impl Spending {
    pub(super) fn new(k: u64, queries: &[CodedQuery]) -> Spending {
        Spending { k, codes: 0, from: None, unit: queries.first().map_or(0.0, CodedQuery::unit) }
    }

    pub(super) fn take(&mut self, codes: u64, estimate: f32) {
        self.codes += codes;
        if self.from.is_none() && self.codes >= self.k {
            self.from = Some(estimate);
        }
    }

    /// What is spent before a partition of that estimate: see [`Effort`](crate::segment::codes::effort::Effort).
    pub(super) fn spent(&self, estimate: f32) -> f64 {
        let less = self.from.map_or(0.0, |from| (f64::from(from) - f64::from(estimate)).max(0.0));
        let share = if self.unit > 0.0 { less / self.unit } else { 0.0 };
        self.codes as f64 * share * share
    }
}

impl<'a> Walk<'_, 'a> {
    /// Looks at the nearest partitions, the nearest first, until enough was spent and `k` were found.
    pub(super) fn look_near(&mut self, enough: &Enough, found: &mut Found<'_>) -> Result<()> {
        let coded = self.coded;
        self.queries.iter_mut().for_each(|query| query.allow(DEVIATIONS));
        let Some(mut near) = coded.nearest(self, enough.looked) else {
            found.stop = Some(Stop::Damaged);
            return Ok(());
        };
        let is_thinned = thinned(coded.version).is_some();
        let (mut scratch, mut looked) = (Scratch::new(), Spending::new(enough.k, &self.queries));
        let [mut left, mut before] = [Left::default(), Left::default()];
        self.measured = vec![Measured::default(); coded.partitions];
        loop {
            let next: Vec<(usize, f32)> = near.by_ref().take(STREAMS).collect();
            if next.is_empty() {
                return self.look_at_left(&mut left, found);
            }
            self.measure_centres(&next);
            let mut ahead = coded.signed(next[0].0);
            for (n, &(at, estimate)) in next.iter().enumerate() {
                let Some(signed) = ahead else {
                    found.stop = Some(Stop::Damaged);
                    return Ok(());
                };
                ahead = next.get(n + 1).and_then(|&(next, _)| coded.signed(next));
                ahead.iter().flatten().for_each(Signed::prefetch);
                if found.stop.is_some() || (looked.spent(estimate) > enough.spent && found.search.is_full()) {
                    return self.look_at_left(&mut left, found);
                }
                if !found.search.is_full() {
                    self.look_at_left(&mut left, found)?;
                    self.look_at_promising((at, &signed), found, &mut scratch)?;
                }
                std::mem::swap(&mut left, &mut before);
                self.look_at_signs((at, &signed), &mut left, found, &mut scratch)?;
                // What the one before asked for has come by now.
                self.look_at_waiting(found)?;
                self.look_at_fronts(&before, found);
                before.clear();
                if !found.search.is_full() {
                    self.look_at_left(&mut left, found)?;
                    self.set_bar(found)?;
                }
                let (_, of) = coded.partition(at);
                looked.take(if is_thinned { coded.live_codes(at) } else { of.codes() as u64 }, estimate);
            }
        }
    }

    /// Looks at all that is left of a partition.
    pub(super) fn look_at_left(&self, left: &mut Left<'a>, found: &mut Found<'_>) -> Result<()> {
        self.look_at_waiting(found)?;
        self.look_at_fronts(left, found);
        left.clear();
        self.look_at_waiting(found)
    }

    /// Measures the query with the centres of some partitions.
    fn measure_centres(&mut self, partitions: &[(usize, f32)]) {
        let coded = self.coded;
        for (n, (space, query)) in coded.spaces.iter().zip(&self.queries).enumerate() {
            let is_in = |at: &usize| coded.partition(*at).0.space == n;
            let here: Vec<usize> = partitions.iter().map(|&(at, _)| at).filter(is_in).collect();
            let centres = here.iter().map(|&at| space.centres.row(coded.partition(at).1.centre as usize));
            let mut at = here.iter();
            Measured::each(coded.kernels, space.frame, &[&query.place], centres, |_, measured| {
                at.next().into_iter().for_each(|&at| self.measured[at] = measured);
            });
        }
    }
}
