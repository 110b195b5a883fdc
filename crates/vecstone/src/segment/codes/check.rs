//! Whether codes are what their rows say: each bound is computed again, from the vectors.

use crate::format::header::Header;
use crate::pair::files::Files;
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::file::{Block, CodesFile, Partition};
use crate::segment::codes::frame::{Frame, OF_RADIUS, UNIT, norm};
use crate::segment::side::FilesOf;
use crate::sys::kernel;
use crate::types::config::Metric;
use crate::types::error::Result;

/// What the sums of this check may have lost, relative to their terms.
const SLACK: f64 = 1e-9;

/// Whether every row of the ranges has one code, or is in the list of those without, and every bound holds. Damaged
/// pages are no difference, nor rows of segments that are gone. O(rows * dim), by read calls.
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
    let Some(partitions) = codes.partitions() else { return Ok(is_of_page(codes)) };
    let rows: u64 = codes.head.ranges.iter().map(|range| range.len()).sum();
    let mut check = Check { codes, frame, segments, seen: vec![false; usize::try_from(rows).unwrap_or(0)] };
    for partition in partitions {
        let Some(block) = codes.block(partition) else { return Ok(true) };
        if partition.centre >= centres.count() {
            return Ok(false);
        }
        if !check.block(partition, &block, all.row(partition.centre as usize))? {
            return Ok(false);
        }
    }
    let Some(mut plain) = codes.plain() else { return Ok(true) };
    Ok(plain.all(|ordinal| check.see(ordinal)) && check.seen.iter().all(|&seen| seen))
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
    seen: Vec<bool>,
}

impl Check<'_> {
    /// Notes a row; false if there is no such row, or it was noted before.
    fn see(&mut self, ordinal: u32) -> bool {
        self.seen.get_mut(ordinal as usize).is_some_and(|seen| !std::mem::replace(seen, true))
    }

    fn block(&mut self, partition: &Partition, block: &Block<'_>, centre: &[f32]) -> Result<bool> {
        let width = centre.len();
        let (mut vector, mut place) = (vec![0f32; self.frame.dim], vec![0f32; width]);
        for (row, code) in block.codes.chunks_exact(width / 2).enumerate() {
            let ordinal = block.ordinal(row);
            if !self.see(ordinal) {
                return Ok(false);
            }
            let Some((range, number)) = self.codes.locate(ordinal) else { return Ok(false) };
            let Some((files, header)) = &self.segments[range] else { continue };
            header.element.read(&mut vector, |bytes| files.dat.read(bytes, header.row_start(number)))?;
            if !self.frame.place(kernel::kernels(), &vector, &mut place) {
                return Ok(false);
            }
            let of = block.corrections;
            let stored = [of.a[row], of.h[row], of.e[row]].map(f64::from);
            if !is_bound(self.frame.metric, &place, centre, code, stored)
                || !is_around(partition, &place, centre)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether the radii and the norm of a partition are bounds for a row.
fn is_around(partition: &Partition, place: &[f32], centre: &[f32]) -> bool {
    let distance = super::build::distance(place, centre);
    let [least, greatest] = partition.radii.map(f64::from);
    let is_in = least <= distance * (1.0 + SLACK) && distance <= greatest * (1.0 + SLACK);
    is_in && norm(place) <= f64::from(partition.norm) * (1.0 + SLACK)
}

/// Whether a, h and e are what the code of a row leaves out.
fn is_bound(metric: Metric, place: &[f32], centre: &[f32], code: &[u8], [a, h, e]: [f64; 3]) -> bool {
    if e == f64::INFINITY {
        return true;
    }
    let (mut error, mut square, mut of_centre, mut terms) = (0.0, 0.0, 0.0, 0.0);
    let (mut along, mut of_levels) = (0.0, 0.0);
    for (n, (&z, &k)) in place.iter().zip(centre).enumerate() {
        let (group, lane) = (n / 64, n % 64);
        let byte = code[group * 32 + lane % 32];
        let level = f64::from(if lane < 32 { byte & 15 } else { byte >> 4 }) - 7.5;
        let (y, k) = (f64::from(z) - f64::from(k), f64::from(k));
        let left = y - a * level;
        error += left * left;
        square += y * y;
        along += y * left;
        of_levels += level * level;
        let share = if metric == Metric::Ip { k * left } else { -a * k * level };
        of_centre += share;
        terms += share.abs();
    }
    let right = if metric == Metric::Ip { of_centre } else { of_centre - square / 2.0 };
    let lost = 2.0 * UNIT * right.abs() + SLACK * (terms + square) + f64::from(f32::MIN_POSITIVE);
    let tiny = f64::from(f32::MIN_POSITIVE);
    // What a search allows for τ, and for what rounds in proportion to a.
    let is_scale = along.abs() <= 2.0 * UNIT * square + tiny
        && a.abs() * of_levels.sqrt() <= OF_RADIUS * square.sqrt() + tiny;
    is_scale && error.sqrt() <= e * (1.0 + SLACK) && (right - h).abs() <= lost
}
