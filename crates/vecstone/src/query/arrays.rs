//! A snapshot's rows where they lie, segment by segment, and its ids alone.

use crate::query::snapshot::Snapshot;
use crate::segment::version::SegmentVersion;
use crate::sys::disk::Mapping;
use crate::types::element::Element;
use crate::types::error::Result;
use crate::types::id::{Id, IdKind};
use std::ops::Range;
use std::sync::Arc;

/// The rows of one segment of a snapshot, dead ones among them, as one array in the mapped file, with what is known of
/// each. It stays as it is through writes, compaction and closing the store, and keeps the segment's files open and
/// mapped. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct SegmentRows {
    part: SegmentVersion,
    kind: IdKind,
    array: MappedRows,
}

/// Rows one after the other in a mapped file. It keeps that mapping and nothing else, no file open either: for those who
/// hold rows for longer than their store. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct MappedRows {
    map: Arc<Mapping>,
    bytes: Range<u64>,
    rows: usize,
    dim: usize,
    element: Element,
}

impl MappedRows {
    fn of(part: &SegmentVersion) -> Result<MappedRows> {
        let header = part.segment.header();
        Ok(MappedRows {
            map: part.dat_map()?.clone(),
            bytes: header.row_start(0)..header.row_start(part.rows),
            rows: usize::try_from(part.rows).unwrap_or(usize::MAX),
            dim: header.dim as usize,
            element: header.element,
        })
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Components of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How a component is stored.
    pub fn element(&self) -> Element {
        self.element
    }

    /// The rows as they are stored, where they lie: neither copied nor checked.
    pub fn bytes(&self) -> &[u8] {
        self.map.get(self.bytes.clone()).unwrap_or_default()
    }

    /// `rows * dim` components where they lie, neither copied nor checked. Empty if they are not stored as f32.
    pub fn vectors(&self) -> &[f32] {
        self.element.borrow(self.bytes()).unwrap_or_default()
    }
}

impl SegmentRows {
    fn of(part: &SegmentVersion, kind: IdKind) -> Result<SegmentRows> {
        Ok(SegmentRows { part: part.clone(), kind, array: MappedRows::of(part)? })
    }

    /// Number of the segment, as in the names of its files.
    pub fn number(&self) -> u64 {
        self.part.segment.number()
    }

    /// Rows, dead ones included.
    pub fn rows(&self) -> usize {
        self.array.rows()
    }

    /// Components of a row.
    pub fn dim(&self) -> usize {
        self.array.dim()
    }

    /// All rows one after the other, `rows * dim` components where they lie: neither copied nor checked.
    pub fn vectors(&self) -> &[f32] {
        self.array.vectors()
    }

    /// The same, to be kept: it does not keep the files open.
    pub fn mapped(&self) -> MappedRows {
        self.array.clone()
    }

    /// For each row whether it is live. O(rows).
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.rows()];
        for row in self.part.deletions.live_in(0..self.part.rows) {
            if let Some(live) = usize::try_from(row).ok().and_then(|row| live.get_mut(row)) {
                *live = true;
            }
        }
        live
    }

    /// The ids of all rows, dead ones included, in order. O(rows).
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if one is not what was written; [`Error::Io`](crate::Error::Io).
    pub fn ids(&self) -> Result<Vec<Id>> {
        (0..self.part.rows).map(|row| self.part.segment.id(row, self.kind)).collect()
    }
}

impl Snapshot {
    /// The segments that have rows, oldest first. What is only buffered is in none of them: flush before, where it
    /// matters.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if a file cannot be mapped.
    pub fn segments(&self) -> Result<Vec<SegmentRows>> {
        let version = self.files();
        // Before the first row there is no kind.
        let Some(kind) = version.kind else { return Ok(Vec::new()) };
        version.segments.iter().filter(|part| part.rows > 0).map(|part| SegmentRows::of(part, kind)).collect()
    }
}
