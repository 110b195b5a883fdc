//! What a compaction is asked for, and what it says.

use crate::segment::version::SegmentVersion;
use crate::types::error::{Error, Result};

/// What [`compact_with`](crate::VectorStore::compact_with) rewrites.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "options do nothing until a store is compacted with them"]
pub struct CompactOptions {
    min_dead: f64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        CompactOptions { min_dead: Self::MIN_DEAD }
    }
}

impl CompactOptions {
    /// What [`min_dead`](Self::min_dead) is without that call.
    pub const MIN_DEAD: f64 = 0.01;

    /// The defaults: segments of which at least one row in a hundred is dead.
    pub fn new() -> Self {
        Self::default()
    }

    /// The share of dead rows, 0 to 1, from which on a segment is rewritten (0.01): a segment of a million rows is not
    /// copied for the space of a few. 0 rewrites each one that has a dead row. Dead rows of segments that are merged, or
    /// whose log is mostly of no use, go in any case. Any other number is
    /// [`Error::InvalidMinDead`].
    pub fn min_dead(mut self, share: f64) -> Self {
        self.min_dead = share;
        self
    }

    /// Refuses what no share of rows can be, NaN too: also for a caller that has no store yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMinDead`].
    #[doc(hidden)]
    pub fn check(&self) -> Result<()> {
        let share = self.min_dead;
        if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(Error::InvalidMinDead { share }) }
    }

    /// Whether enough rows of a segment are dead.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn takes(&self, part: &SegmentVersion) -> bool {
        let dead = part.deletions.dead();
        // A quotient is rounded as the share is that the caller wrote.
        dead > 0 && dead as f64 / part.rows as f64 >= self.min_dead
    }
}

/// How far a compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactProgress {
    /// Live rows copied so far.
    pub rows: u64,
    /// Live rows to copy.
    pub total: u64,
}

/// What a compaction did, and what it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CompactReport {
    /// Segments that were rewritten.
    pub segments: u64,
    /// Dead rows that are gone.
    pub rows_dropped: u64,
    /// Bytes of `.dat`, `.idx` and `.jsonl` that came back.
    pub bytes_freed: u64,
    /// Segments that have dead rows all the same: a smaller share of them than
    /// [`min_dead`](CompactOptions::min_dead), or rows that died meanwhile.
    pub segments_left: u64,
    /// Dead rows in those.
    pub rows_left: u64,
}
