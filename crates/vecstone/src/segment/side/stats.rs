//! Side files in figures.

use super::{SideFile, all};
use crate::segment::codes::effort::{NEIGHBOURS, RECALLS};
use crate::segment::version::Version;
use std::time::SystemTime;

/// The side files of one kind that a store uses. They can be built again from the other files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SideStats {
    /// What they hold, as in their names: `ids` is the index of ids.
    pub kind: &'static str,
    /// How many there are.
    pub files: u64,
    /// Rows that they describe, dead ones included.
    pub rows: u64,
    /// Their length.
    pub bytes: u64,
    /// When the newest was made, where that is known.
    pub modified: Option<SystemTime>,
}

/// How many rows an approximate search looks at, as it was measured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EffortStats {
    /// Live rows when it was measured.
    pub rows: u64,
    /// With how many queries of the user's, by [`tune`](crate::VectorStore::tune); `None`: with rows of the store.
    pub queries: Option<u64>,
    /// When that was, where it is known.
    pub measured: Option<SystemTime>,
    /// By neighbours that are looked for, then by recall.
    pub looked: Vec<LookedAt>,
}

/// What one recall takes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LookedAt {
    /// Neighbours that are looked for.
    pub k: usize,
    /// The share of them that is found on average.
    pub recall: f32,
    /// Rows and copies that are looked at for that, on average.
    pub rows: u64,
}

/// What was measured and counts, if anything.
pub(crate) fn effort(version: &Version) -> Option<EffortStats> {
    let newest = super::effort::newest(version)?;
    let measured = &newest.effort;
    let of_k = |(k, looked): (usize, [u64; RECALLS.len()])| {
        RECALLS.into_iter().zip(looked).map(move |(recall, rows)| LookedAt { k, recall, rows })
    };
    let looked = NEIGHBOURS.into_iter().zip(measured.looked).flat_map(of_k).collect();
    Some(EffortStats {
        rows: measured.rows,
        queries: Some(measured.queries).filter(|&queries| queries > 0),
        measured: newest.pages.file.file.modified(),
        looked,
    })
}

/// Each kind, also one of which there is no file. Opens those that are not open yet.
pub(crate) fn stats(version: &Version) -> Vec<SideStats> {
    let of_segments = version.segments.iter().flat_map(|part| part.segment.side_files());
    let files: Vec<&dyn SideFile> =
        of_segments.chain(version.side_files().iter().map(|file| &**file)).collect();
    let of_kind = |suffix: &'static str| {
        let kind = suffix.strip_suffix(".side").unwrap_or(suffix);
        let mut stats = SideStats { kind, files: 0, rows: 0, bytes: 0, modified: None };
        for file in files.iter().filter(|file| file.kind().suffix() == suffix) {
            stats.files += 1;
            stats.bytes += file.len();
            stats.modified = stats.modified.max(file.file().file.modified());
            stats.rows +=
                file.covers().iter().map(|rows| rows.point.rows.saturating_sub(rows.first)).sum::<u64>();
        }
        stats
    };
    all().map(|kind| of_kind(kind.suffix())).collect()
}
