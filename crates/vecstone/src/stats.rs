//! What a store holds, on the disk and in memory.

use crate::config::{Element, Metric};

/// A store's size, on the disk and in memory.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Rows stored, dead ones included.
    pub rows: u64,
    /// Rows that are the newest of their id.
    pub live: u64,
    /// Rows replaced or deleted.
    pub dead: u64,
    /// Components of a vector.
    pub dim: u32,
    /// How distances are measured.
    pub metric: Metric,
    /// How a component is stored.
    pub element: Element,
    /// Number of segments.
    pub segments: u64,
    /// Bytes on the disk.
    pub bytes: FileBytes,
    /// `bytes.total` divided by the bytes of the live vectors; 0 if there are none.
    pub overhead: f64,
    /// Bytes in memory.
    pub memory: Memory,
}

/// Bytes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileBytes {
    /// Length of all `.dat` files.
    pub dat: u64,
    /// Length of all `.idx` files.
    pub idx: u64,
    /// Length of everything else: MANIFEST and LOCK.
    pub side: u64,
    /// Length of all files.
    pub total: u64,
    /// Bytes that all files occupy.
    pub allocated: u64,
}

/// Bytes in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Allocated by this handle.
    pub heap: u64,
    /// Committed bytes of the mapped files.
    pub mapped: u64,
    /// Mapped bytes that are in the page cache now.
    pub resident: u64,
}
