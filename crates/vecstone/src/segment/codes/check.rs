//! Whether codes are what their rows say: each bound is computed again, from the vectors.

use crate::format::header::Header;
use crate::pair::files::Files;
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::file::{CodesFile, Partition};
use crate::segment::codes::frame::{Frame, OF_RADIUS, UNIT, distance, norm};
use crate::segment::codes::part::{Back, Part, RowCode, Signed, Signs};
use crate::segment::side::FilesOf;
use crate::sys::interrupt;
use crate::sys::kernel;
use crate::sys::kernel::codes::Correction;
use crate::types::config::Metric;
use crate::types::error::Result;

/// What the sums of this check may have lost, relative to their terms.
const SLACK: f64 = 1e-9;

/// Whether every row of the ranges has one code and at most one copy, or is in the list of those without, and every bound
/// holds. Damaged pages are no difference, nor rows of segments that are gone. O(rows * dim), by read calls.
///
/// # Errors
///
/// [`Corrupt`](crate::Error::Corrupt) if the log of a segment does not hold up to the point of a range.
pub(crate) fn is_right(codes: &CodesFile, centres: &CentresFile, files_of: FilesOf<'_>) -> Result<bool> {
    let mut segments = Vec::new();
    for range in &codes.head.ranges {
        let segment = files_of(&range.point.identity);
        if let Some((files, header)) = &segment
            && !range.point.is_in(files, header)?
        {
            return Ok(false);
        }
        segments.push(segment);
    }
    let (Some(frame), Some(all)) = (centres.frame(), centres.centres()) else { return Ok(true) };
    if !codes.is_in(frame) {
        return Ok(false);
    }
    let Some(partitions) = codes.partitions() else { return Ok(is_of_page(codes)) };
    let rows: u64 = codes.head.ranges.iter().map(|range| range.len()).sum();
    let unseen = vec![false; usize::try_from(rows).unwrap_or(0)];
    let mut check = Check { codes, frame, segments, seen: [unseen.clone(), unseen] };
    for partition in partitions {
        if partition.centre >= centres.count() {
            return Ok(false);
        }
        for part in 0..2 {
            let (Some(signed), Some(back)) = (codes.signed(partition), codes.back(partition)) else {
                return Ok(true);
            };
            let Signed { signs, front } = &signed[part];
            let stored = (signs, front, &back);
            if !check.block((partition, part), stored, all.row(partition.centre as usize))? {
                return Ok(false);
            }
        }
    }
    let Some(mut plain) = codes.plain() else { return Ok(true) };
    let has_code = |(copy, row): (&bool, &bool)| *row || !copy;
    let are_of_coded = check.seen[1].iter().zip(&check.seen[0]).all(has_code);
    let is_each = plain.all(|ordinal| check.see(ordinal, 0)) && check.seen[0].iter().all(|&seen| seen);
    Ok(is_each && are_of_coded)
}

/// Whether a table is missing for a damaged page, and not for what it says.
fn is_of_page(codes: &CodesFile) -> bool {
    let mut damaged = false;
    codes.pages.damaged_pages(&mut |_, _| damaged = true);
    damaged
}

struct Check<'a> {
    codes: &'a CodesFile,
    frame: &'a Frame,
    /// Of each range.
    segments: Vec<Option<(Files, Header)>>,
    /// Rows and copies.
    seen: [Vec<bool>; 2],
}

impl Check<'_> {
    /// Notes a row, or a copy as the second part; false if there is no such row, or it was noted before.
    fn see(&mut self, ordinal: u32, part: usize) -> bool {
        self.seen[part].get_mut(ordinal as usize).is_some_and(|seen| !std::mem::replace(seen, true))
    }

    fn block(
        &mut self,
        (partition, part): (&Partition, usize),
        (signs, front, back): (&Signs<'_>, &Part<'_>, &Back<'_>),
        centre: &[f32],
    ) -> Result<bool> {
        let (mut vector, mut place) = (vec![0f32; self.frame.dim], vec![0f32; centre.len()]);
        for (n, row) in partition.parts()[part].clone().enumerate() {
            interrupt::check_at(n)?;
            let ordinal = back.ordinal(row);
            if !self.see(ordinal, part) {
                return Ok(false);
            }
            let Some((range, number)) = self.codes.locate(ordinal) else { return Ok(false) };
            let Some((files, header)) = &self.segments[range] else { continue };
            header.element.read(&mut vector, |bytes| files.dat.read(bytes, header.row_start(number)))?;
            let is_placed = self.frame.place(kernel::kernels(), &vector, &mut place);
            let (code, correction) = signs.row(n);
            let stored = Stored {
                signs: RowCode { code: &code, correction },
                first: front.row(n),
                beyond: front.corrections.beyond.get(n).copied(),
                second: back.second(row),
            };
            let is_bound = is_placed && self.is_bound(&place, centre, &stored);
            if !is_bound || !(part == 1 || is_around(partition, &place, centre)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the numbers of a row are what its codes leave out.
    fn is_bound(&self, place: &[f32], centre: &[f32], stored: &Stored<'_>) -> bool {
        let (metric, first) = (self.frame.metric, self.frame.first());
        let [one, two] = [&place[..first], &place[first..]];
        let (k_one, k_two) = centre.split_at(first);
        let of_signs = Left::of(metric, (one, k_one), stored.signs, sign);
        let of_one = Left::of(metric, (one, k_one), stored.first, level);
        let half = of_one.square / 2.0;
        let Some(second) = stored.second else {
            return [of_signs, of_one].iter().all(|left| left.is_bound([half, 0.0], left.error));
        };
        let of_two = Left::of(metric, (two, k_two), second, level);
        let moved = of_two.square / 2.0;
        [&of_signs, &of_one].iter().all(|left| left.is_bound([half + moved, moved], left.error))
            && of_two.is_bound([0.0, moved], of_one.error + of_two.error)
            && stored.beyond.is_some_and(|beyond| is_at_least(beyond, of_two.square))
    }
}

/// What is stored of a row.
struct Stored<'a> {
    signs: RowCode<'a>,
    first: RowCode<'a>,
    beyond: Option<f32>,
    second: Option<RowCode<'a>>,
}

/// The level of a component in a code of signs.
fn sign(code: &[u8], component: usize) -> f64 {
    if code[component / 8] >> (component % 8) & 1 == 1 { 1.0 } else { -1.0 }
}

/// The same in a code of 4 bits a component.
fn level(code: &[u8], component: usize) -> f64 {
    let (group, lane) = (component / 64, component % 64);
    let byte = code[group * 32 + lane % 32];
    f64::from(if lane < 32 { byte & 15 } else { byte >> 4 }) - 7.5
}

/// Whether the radii and the norm of a partition are bounds for a row.
fn is_around(partition: &Partition, place: &[f32], centre: &[f32]) -> bool {
    let distance = distance(place, centre);
    let [least, greatest] = partition.radii.map(f64::from);
    let is_in = least <= distance * (1.0 + SLACK) && distance <= greatest * (1.0 + SLACK);
    is_in && norm(place) <= f64::from(partition.norm) * (1.0 + SLACK)
}

/// Whether a number is a bound of the root of a sum of squares.
fn is_at_least(bound: f32, square: f64) -> bool {
    square.sqrt() <= f64::from(bound) * (1.0 + SLACK)
}

/// What one part of the code of a row leaves out, as it is.
struct Left {
    metric: Metric,
    stored: Correction,
    /// |Y - a l|².
    error: f64,
    /// |Y|².
    square: f64,
    /// -a k·l or, for ip, k·(Y - a l); and the sum of the magnitudes of its terms.
    of_centre: f64,
    terms: f64,
    /// Y·(Y - a l).
    along: f64,
    /// |l|².
    of_levels: f64,
}

impl Left {
    fn of(
        metric: Metric,
        (place, centre): (&[f32], &[f32]),
        RowCode { code, correction }: RowCode<'_>,
        level: impl Fn(&[u8], usize) -> f64,
    ) -> Left {
        let a = f64::from(correction.a);
        let (error, square, of_centre, terms, along, of_levels) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        let stored = correction;
        let mut left = Left { metric, stored, error, square, of_centre, terms, along, of_levels };
        for (n, (&z, &k)) in place.iter().zip(centre).enumerate() {
            let level = level(code, n);
            let (y, k) = (f64::from(z) - f64::from(k), f64::from(k));
            let e = y - a * level;
            left.error += e * e;
            left.square += y * y;
            left.along += y * e;
            left.of_levels += level * level;
            let share = if metric == Metric::Ip { k * e } else { -a * k * level };
            left.of_centre += share;
            left.terms += share.abs();
        }
        left
    }

    /// Whether a, h and e are right. But for ip, h has half of some squares beside what is of the centre, of which some
    /// were added after a first rounding. e bounds an error.
    fn is_bound(&self, [half, moved]: [f64; 2], error: f64) -> bool {
        let Correction { a, h, e } = self.stored;
        if e == f32::INFINITY {
            return true;
        }
        let [half, moved] = if self.metric == Metric::Ip { [0.0; 2] } else { [half, moved] };
        let (right, tiny) = (self.of_centre - half, f64::from(f32::MIN_POSITIVE));
        let lost = 2.0 * UNIT * (right.abs() + moved) + SLACK * (self.terms + self.square + half) + tiny;
        // What a search allows for τ, and for what rounds in proportion to a.
        let is_scale = self.along.abs() <= 2.0 * UNIT * self.square + tiny
            && f64::from(a).abs() * self.of_levels.sqrt() <= OF_RADIUS * self.square.sqrt() + tiny;
        is_scale && is_at_least(e, error) && (right - f64::from(h)).abs() <= lost
    }
}
