//! A point of a log, as side files name it.

use crate::format::header::Header;
use crate::format::{Chain, Identity};
use crate::pair::files::Files;
use crate::pair::recover::{self, LogPosition};
use crate::types::error::Result;
use crate::types::id::IdKind;

/// A point of the log of one pair, between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) identity: Identity,
    /// Sequence of the last batch.
    pub(crate) seq: u64,
    pub(crate) chain: Chain,
    pub(crate) epoch: u32,
    /// Kind of the ids.
    pub(crate) kind: u8,
    /// Where the last COMMIT record starts in `.idx`.
    pub(crate) commit_at: u64,
    /// Where it ends.
    pub(crate) idx_end: u64,
    pub(crate) rows: u64,
    /// Length of `.jsonl`.
    pub(crate) docs_end: u64,
    /// The MANIFEST number that cross-segment deletes belong to; 0 if none are told of.
    pub(crate) manifest: u64,
}

/// Rows of a segment that a side file describes, in the state that the log has at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Covered {
    /// The first row, and the one behind the last.
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) point: Point,
}

impl Covered {
    /// How many rows there are.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.first
    }

    /// Whether all of them are among those.
    pub(crate) fn is_within(&self, other: &Covered) -> bool {
        self.point.identity == other.point.identity && other.first <= self.first && self.end <= other.end
    }
}

impl Point {
    /// The last batch before `position`.
    pub(crate) fn of(header: &Header, position: &LogPosition, manifest: u64) -> Point {
        Point {
            identity: header.identity,
            seq: position.seq,
            chain: position.chain,
            epoch: position.epoch,
            kind: position.kind.map_or(0, |kind| kind as u8),
            commit_at: position.commit_at,
            idx_end: position.idx_end - position.since_commit.len() as u64,
            rows: position.rows,
            docs_end: position.docs_end,
            manifest,
        }
    }

    /// The end of the log at this point.
    pub(crate) fn position(&self) -> LogPosition {
        LogPosition {
            seq: self.seq,
            chain: self.chain,
            since_commit: Vec::new(),
            commit_at: self.commit_at,
            idx_end: self.idx_end,
            rows: self.rows,
            docs_end: self.docs_end,
            epoch: self.epoch,
            kind: IdKind::from_byte(self.kind),
        }
    }

    /// Whether the log of a segment has this point. One read.
    pub(crate) fn is_in(&self, files: &Files, header: &Header) -> Result<bool> {
        Ok(self.identity == header.identity && recover::ends_a_batch(files, header, &self.position())?)
    }
}
