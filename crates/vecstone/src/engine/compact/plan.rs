//! What a compaction rewrites together, and how much room that takes.

use super::{BATCH_BYTES, ROWS_PER_BATCH};
use crate::format::header::HEADER_BYTES;
use crate::format::record::{COMMIT_BYTES, FILE_BYTES, FRAME_BYTES};
use crate::pair::rows::NULL_LINE;
use crate::segment::version::{SegmentVersion, Version};
use crate::types::options::Limits;
use std::ops::Range;

/// Bytes of log that a segment made by compaction has beside its batches: FILE, BASE, DURABLE.
const LOG_OF_OUTPUT: u64 = FILE_BYTES as u64 + 128;
/// What BASE says of each input.
const LOG_OF_INPUT: u64 = 8;
/// What a COMMIT says of each row: its checksum, and the length and checksum of its line.
const COMMIT_OF_ROW: u64 = 12;

/// What rows take in the files of a segment, or may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) rows: u64,
    pub(super) dat: u64,
    pub(super) idx: u64,
    pub(super) jsonl: u64,
}

impl Space {
    /// What one row takes at most: as if its segment had documents.
    pub(super) fn of_row(stride: u64, id: usize, line: u32) -> Space {
        let idx = (FRAME_BYTES + id) as u64 + COMMIT_OF_ROW;
        let jsonl = if line == 0 { NULL_LINE.len() as u64 } else { line.into() };
        Space { rows: 1, dat: stride, idx, jsonl }
    }

    /// What a whole segment may take.
    pub(super) fn of_segment(limits: &Limits) -> Space {
        Space { rows: limits.records, dat: limits.dat, idx: limits.idx, jsonl: limits.jsonl }
    }

    /// What a segment takes that is made from so many others, before its first row.
    fn of_output(inputs: usize) -> Space {
        Space { dat: HEADER_BYTES, idx: LOG_OF_OUTPUT + inputs as u64 * LOG_OF_INPUT, ..Space::default() }
    }

    /// What the live rows of a segment take at most, going by the length of its files.
    fn bound(part: &SegmentVersion) -> Space {
        let rows = part.live();
        let jsonl = match part.end.jsonl_len {
            0 => rows * NULL_LINE.len() as u64,
            len => len,
        };
        let idx = part.end.idx_len + rows * COMMIT_OF_ROW;
        Space { rows, dat: rows * part.segment.header().stride(), idx, jsonl }.with_commits()
    }

    /// The same, going by each live row. Reads the length of each id; the bound where one cannot be read.
    fn measured(part: &SegmentVersion) -> Space {
        let stride = part.segment.header().stride();
        let mut space = Space::default();
        for row in part.deletions.live_in(0..part.rows) {
            let Ok((id, line)) = part.segment.lengths(row) else { return Self::bound(part) };
            space = space.plus(Self::of_row(stride, id, line));
        }
        space.with_commits()
    }

    /// With the COMMITs of the batches that the rows are copied in.
    fn with_commits(self) -> Space {
        let batches = self.bytes() / BATCH_BYTES + self.rows / ROWS_PER_BATCH + 1;
        Space { idx: self.idx + batches * COMMIT_BYTES, ..self }
    }

    /// Bytes in all files.
    pub(super) fn bytes(self) -> u64 {
        self.dat + self.idx + self.jsonl
    }

    pub(super) fn plus(self, other: Space) -> Space {
        Space {
            rows: self.rows + other.rows,
            dat: self.dat + other.dat,
            idx: self.idx + other.idx,
            jsonl: self.jsonl + other.jsonl,
        }
    }

    pub(super) fn minus(self, other: Space) -> Space {
        Space {
            rows: self.rows.saturating_sub(other.rows),
            dat: self.dat.saturating_sub(other.dat),
            idx: self.idx.saturating_sub(other.idx),
            jsonl: self.jsonl.saturating_sub(other.jsonl),
        }
    }

    pub(super) fn fits_in(self, room: Space) -> bool {
        self.rows <= room.rows && self.dat <= room.dat && self.idx <= room.idx && self.jsonl <= room.jsonl
    }
}

/// Segments that are to become one, and what that takes at most.
struct Run<'a> {
    sealed: &'a [SegmentVersion],
    places: Range<usize>,
    space: Space,
    limits: Space,
}

impl Run<'_> {
    fn live(&self) -> u64 {
        self.space.rows
    }

    /// Takes a neighbour in if all of it stays within the limits of one segment. The rows are looked at only where the
    /// lengths of the files do not tell.
    fn take(&mut self, place: usize) -> bool {
        let places = self.places.start.min(place)..self.places.end.max(place + 1);
        let room = self.limits.minus(Space::of_output(places.len()));
        let bound = self.space.plus(Space::bound(&self.sealed[place]));
        if bound.rows > room.rows || bound.dat > room.dat {
            return false;
        }
        let space = if bound.fits_in(room) {
            bound
        } else {
            self.sealed[places.clone()].iter().map(Space::measured).fold(Space::default(), Space::plus)
        };
        let fits = space.fits_in(room);
        if fits {
            (self.places, self.space) = (places, space);
        }
        fits
    }
}

/// Runs of neighbouring sealed segments to rewrite together: those wanted, and smaller neighbours that fit and `may`
/// join. What several become is within the limits of one segment.
pub(super) fn plan(
    version: &Version,
    limits: &Limits,
    wanted: impl Fn(&SegmentVersion) -> bool,
    may: impl Fn(&SegmentVersion) -> bool,
) -> Vec<Range<usize>> {
    let sealed = &version.segments[..version.segments.len() - 1];
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (place, part) in sealed.iter().enumerate() {
        let taken = runs.last().map_or(0, |run| run.end);
        if !wanted(part) || place < taken {
            continue;
        }
        let (places, space, limits) = (place..place + 1, Space::bound(part), Space::of_segment(limits));
        let mut run = Run { sealed, places, space, limits };
        while run.places.start > taken
            && let before = &sealed[run.places.start - 1]
            && before.live() <= run.live().max(1)
            && may(before)
            && run.take(run.places.start - 1)
        {}
        while let Some(after) = sealed.get(run.places.end)
            && (after.live() <= run.live().max(1) || wanted(after))
            && may(after)
            && run.take(run.places.end)
        {}
        runs.push(run.places);
    }
    runs
}
