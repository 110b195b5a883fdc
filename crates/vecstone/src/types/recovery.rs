//! What recovery found.

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
            return write!(f, "closed cleanly after batch {}: {} rows", self.seq, self.rows);
        }
        write!(
            f,
            "kept batches up to {}: {} rows, {} unproven batches checked row by row",
            self.seq, self.rows, self.unproven_batches
        )?;
        if self.dropped_idx_bytes > 0 || self.dropped_dat_bytes > 0 || self.dropped_jsonl_bytes > 0 {
            write!(
                f,
                "; dropped what is not a whole batch: {} bytes of .idx, {} bytes of .dat",
                self.dropped_idx_bytes, self.dropped_dat_bytes
            )?;
            if self.dropped_jsonl_bytes > 0 {
                write!(f, ", {} bytes of .jsonl", self.dropped_jsonl_bytes)?;
            }
        }
        Ok(())
    }
}
