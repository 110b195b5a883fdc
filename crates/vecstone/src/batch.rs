//! What one call writes, and what must not be written.

use crate::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_ID_BYTES, check_finite};
use crate::error::{Error, Result};

/// One change of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op<'a> {
    /// Stores `vector` as the row of `id`; an earlier row of that id is dead from then on.
    Put {
        /// 1 to [`MAX_ID_BYTES`] bytes.
        id: &'a str,
        /// `dim` finite components.
        vector: &'a [f32],
    },
    /// Deletes `id`.
    Delete {
        /// 1 to [`MAX_ID_BYTES`] bytes.
        id: &'a str,
    },
}

/// The changes of one call, all or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Batch<'a> {
    /// Puts whose rows lie one after the other: they are written from where they are.
    Rows { ids: &'a [&'a str], vectors: &'a [f32], dim: usize },
    /// Any changes.
    Ops(&'a [Op<'a>]),
}

impl<'a> Batch<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Batch::Rows { ids, .. } => ids.len(),
            Batch::Ops(ops) => ops.len(),
        }
    }

    /// The changes in order.
    pub(crate) fn ops(&self) -> impl Iterator<Item = Op<'a>> {
        let batch = *self;
        (0..self.len()).map(move |n| match batch {
            Batch::Rows { ids, vectors, dim } => {
                Op::Put { id: ids[n], vector: &vectors[n * dim..(n + 1) * dim] }
            }
            Batch::Ops(ops) => ops[n],
        })
    }

    /// Refuses what must not be stored, before the first byte is written; returns the number of puts.
    pub(crate) fn check(&self, dim: usize) -> Result<u64> {
        let (mut rows, mut id_bytes) = (0u64, 0u64);
        for (row, op) in self.ops().enumerate() {
            let (Op::Put { id, .. } | Op::Delete { id }) = op;
            if id.is_empty() || id.len() > MAX_ID_BYTES {
                return Err(Error::InvalidId { row, len: id.len() });
            }
            id_bytes += id.len() as u64;
            if let Op::Put { vector, .. } = op {
                if vector.len() != dim {
                    return Err(Error::DimensionMismatch { expected: dim, found: vector.len() });
                }
                check_finite(row, vector)?;
                rows += 1;
            }
        }
        for (what, found, max) in [
            ("bytes of vectors", rows * dim as u64 * 4, MAX_BATCH_BYTES),
            ("bytes of ids", id_bytes, MAX_BATCH_BYTES),
            ("records", self.len() as u64, MAX_BATCH_RECORDS as u64),
        ] {
            if found > max {
                return Err(Error::BatchTooLarge { what, found, max });
            }
        }
        Ok(rows)
    }
}
