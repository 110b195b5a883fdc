//! Where a compaction moved the live rows of some segments.

use super::Output;
use crate::segment::version::{SegmentVersion, Version};
use crate::types::error::{Error, Result};

/// Where a compaction moved the live rows of some segments.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) version: &'a Version,
    pub(crate) inputs: &'a [SegmentVersion],
    /// Of each input.
    pub(crate) to: &'a [MovedRows],
    pub(crate) outputs: Vec<Output<'a>>,
}

/// Where the rows of one segment went that were live when it was copied: 4 bytes for each, and none for a dead one.
#[derive(Debug, Default)]
pub(crate) struct MovedRows {
    /// Old rows, ascending.
    rows: Vec<u32>,
    batches: Vec<MovedBatch>,
}

/// Rows that were copied one after the other.
#[derive(Debug)]
struct MovedBatch {
    /// The index of the first one in `rows`.
    from: usize,
    output: usize,
    /// Its row there; the others follow.
    first: u32,
}

impl MovedRows {
    /// For so many rows.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub(crate) fn with_room(rows: u64) -> Result<MovedRows> {
        let mut room = Vec::new();
        let enough = usize::try_from(rows).is_ok_and(|rows| room.try_reserve_exact(rows).is_ok());
        if !enough {
            return Err(Error::OutOfMemory { bytes: rows.saturating_mul(4) });
        }
        Ok(MovedRows { rows: room, batches: Vec::new() })
    }

    /// Some rows, behind those before, went to an output, from row `first` on.
    pub(crate) fn push(&mut self, rows: &[u64], output: usize, first: u64) {
        let first = u32::try_from(first).expect("below MAX_ROWS");
        self.batches.push(MovedBatch { from: self.rows.len(), output, first });
        self.rows.extend(rows.iter().map(|&row| u32::try_from(row).expect("below MAX_ROWS")));
    }

    /// Output and row there; `None` for a row that was dead, or came later.
    pub(crate) fn get(&self, row: u64) -> Option<(usize, u32)> {
        let index = self.rows.binary_search(&u32::try_from(row).ok()?).ok()?;
        let after = self.batches.partition_point(|batch| batch.from <= index);
        let batch = &self.batches[after.checked_sub(1)?];
        Some((batch.output, batch.first + u32::try_from(index - batch.from).ok()?))
    }

    pub(crate) fn heap_bytes(&self) -> u64 {
        (self.rows.capacity() * 4 + self.batches.capacity() * size_of::<MovedBatch>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_where_it_was_put() {
        let mut moved = MovedRows::with_room(5).expect("small");
        assert_eq!(moved.get(0), None);
        moved.push(&[1, 4], 0, 7);
        moved.push(&[5], 1, 0);
        moved.push(&[6, 9], 1, 1);
        let found: Vec<_> = (0..11).map(|row| moved.get(row)).collect();
        let expected = [(1, (0, 7)), (4, (0, 8)), (5, (1, 0)), (6, (1, 1)), (9, (1, 2))];
        for (row, found) in (0..11).zip(found) {
            let expected = expected.iter().find(|(at, _)| *at == row).map(|(_, to)| *to);
            assert_eq!(found, expected, "{row}");
        }
        assert_eq!(moved.get(u64::MAX), None);
        assert!(moved.heap_bytes() >= 20);
        assert!(matches!(MovedRows::with_room(u64::MAX), Err(Error::OutOfMemory { .. })));
    }
}
