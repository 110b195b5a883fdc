#![doc = include_str!("lib.md")]
#![warn(clippy::unwrap_used)] // `expect` says why it cannot fail; everything else is an error
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))] // a library is silent

mod arrays;
mod backup;
mod batch;
mod bound;
mod buffer;
mod close;
mod compact;
mod config;
mod confirm;
mod crew;
mod directory;
mod disk;
mod distance;
mod document;
mod engine;
mod error;
mod files;
mod filter;
pub mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod ids;
mod in_log;
mod index;
mod kernel;
mod lock;
mod log;
mod many;
mod mask;
mod open;
mod pair;
mod planted;
mod reader;
mod recover;
mod repair;
mod replace;
mod rows;
mod salvage;
mod scan;
mod search;
mod segment;
mod select;
mod settings;
mod snapshot;
mod stats;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod threads;
mod unfinished;
mod verify;
mod view;
mod window;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub use arrays::{MappedRows, SegmentRows};
pub use backup::BackupReport;
pub use batch::{Op, RowSource};
pub use compact::{CompactProgress, CompactReport};
pub use config::{
    Element, MAX_ATTRIBUTES_BYTES, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_DIM, MAX_ID_BYTES, MAX_ROWS,
    Metric,
};
pub use distance::reference_distance;
pub use document::Document;
pub use error::{Error, Result};
pub use filter::Filter;
pub use id::{AsId, Id, IdKind, IdRef, Uuid};
pub use pair::{LogEntry, VectorStorage};
pub use recover::RecoveryReport;
pub use repair::{Dropped, RepairReport};
pub use search::{Hits, Neighbor, SearchOptions};
pub use settings::{Durability, OpenOptions};
pub use snapshot::{Iter, Snapshot};
pub use stats::{FileBytes, Memory, SegmentStats, Stats};
pub use store::{Flush, VectorStore};
pub use verify::{Damage, VerifyReport};
