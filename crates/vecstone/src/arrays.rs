//! A snapshot's rows where they lie, segment by segment, and its ids alone.

use crate::disk::Mapping;
use crate::error::Result;
use crate::id::Id;
use crate::snapshot::Snapshot;
use crate::view::{At, SegmentView};
use std::sync::Arc;

/// The rows of one segment of a snapshot, dead ones among them, as one array in the mapped file. It keeps the mapping:
/// the array stays as it is through writes, compaction and closing the store. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct SegmentRows {
    snapshot: Snapshot,
    place: usize,
    map: Arc<Mapping>,
}

impl SegmentRows {
    fn part(&self) -> &SegmentView {
        &self.snapshot.files().segments[self.place]
    }

    /// Number of the segment, as in the names of its files.
    pub fn number(&self) -> u64 {
        self.part().segment.number()
    }

    /// Rows, dead ones included.
    pub fn rows(&self) -> usize {
        usize::try_from(self.part().rows).unwrap_or(usize::MAX)
    }

    /// Components of a row.
    pub fn dim(&self) -> usize {
        self.snapshot.dim()
    }

    /// All rows one after the other, `rows * dim` components where they lie: neither copied nor checked.
    pub fn vectors(&self) -> &[f32] {
        let header = self.part().segment.header();
        let bytes = self.map.get(header.row_start(0)..header.row_start(self.part().rows));
        bytes.map_or(&[], bytemuck::cast_slice)
    }

    /// For each row whether it is live. O(rows).
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.rows()];
        for row in self.part().mask.live_in(0..self.part().rows) {
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
        let rows = u32::try_from(self.part().rows).unwrap_or(u32::MAX);
        (0..rows).map(|row| self.snapshot.files().id(At { segment: self.place, row })).collect()
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
        let parts = self.files().segments.iter().enumerate().filter(|(_, part)| part.rows > 0);
        parts
            .map(|(place, part)| {
                Ok(SegmentRows { snapshot: self.clone(), place, map: part.dat_map()?.clone() })
            })
            .collect()
    }
}
