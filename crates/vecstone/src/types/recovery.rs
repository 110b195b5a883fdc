//! What recovery found.

use crate::types::counted::counted;
use std::fmt;

/// What opening found at the end of the last writer's work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The last writer closed the store and nothing follows.
    pub clean: bool,
    /// Sequence of the last batch kept; the state is exactly the batches up to it.
    pub seq: u64,
    /// Rows kept, dead ones included.
    pub rows: u64,
    /// Batches kept whose durability nothing on the disk proves; every row of them was checked.
    pub unproven_batches: u64,
    /// Bytes at the end of `.idx` that are not a whole batch.
    pub dropped_idx_bytes: u64,
    /// Bytes of `.dat` that belong to no batch kept.
    pub dropped_dat_bytes: u64,
    /// Bytes of `.jsonl` that belong to no batch kept.
    pub dropped_jsonl_bytes: u64,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clean {
            return write!(f, "closed cleanly after batch {}: {}", self.seq, counted(self.rows, "row"));
        }
        write!(
            f,
            "kept batches up to {}: {}, {} checked row by row",
            self.seq,
            counted(self.rows, "row"),
            counted(self.unproven_batches, "unproven batch")
        )?;
        if self.dropped_idx_bytes > 0 || self.dropped_dat_bytes > 0 || self.dropped_jsonl_bytes > 0 {
            write!(
                f,
                "; dropped what is not a whole batch: {} of .idx, {} of .dat",
                counted(self.dropped_idx_bytes, "byte"),
                counted(self.dropped_dat_bytes, "byte")
            )?;
            if self.dropped_jsonl_bytes > 0 {
                write!(f, ", {} of .jsonl", counted(self.dropped_jsonl_bytes, "byte"))?;
            }
        }
        Ok(())
    }
}
