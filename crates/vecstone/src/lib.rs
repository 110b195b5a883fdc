#![doc = include_str!("lib.md")]
#![warn(clippy::unwrap_used)] // `expect` says why it cannot fail; everything else is an error
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))] // a library is silent

mod buffer;
mod engine;
pub mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "tests/fuzzing/mod.rs"]
pub mod fuzzing;
mod maintain;
mod open;
mod pair;
mod query;
mod segment;
mod store;
mod sys;
#[cfg(test)]
mod tests;
mod types;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use buffer::batch::Op;
#[doc(hidden)]
pub use buffer::batch::RowSource;
pub use engine::compact::{CompactOptions, CompactProgress, CompactReport};
pub use engine::optimize::{OptimizeProgress, OptimizeReport};
pub use maintain::backup::BackupReport;
pub use maintain::repair::{Dropped, RepairReport};
pub use maintain::stats::{FileBytes, Memory, SegmentStats, Stats};
pub use maintain::verify::{Damage, VerifyReport};
pub use pair::{LogEntry, VectorStorage};
pub use query::arrays::{MappedRows, SegmentRows};
pub use query::distance::reference_distance;
pub use query::explain::{Explain, SearchPath, WhyExact};
pub use query::filter::Filter;
pub use query::search::{Hits, Neighbor, SearchOptions};
pub use query::snapshot::{Iter, Snapshot};
pub use segment::side::{EffortStats, LookedAt, SideStats};
pub use store::{Flush, VectorStore, WriteBatch};
pub use sys::interrupt::interruptible;
#[doc(hidden)]
pub use sys::interrupt::is_interrupted;
pub use types::config::{
    MAX_ATTRIBUTES_BYTES, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_DIM, MAX_EMBED_NAME_BYTES, MAX_ID_BYTES,
    MAX_ID_NUMBER, MAX_ROWS, Metric,
};
#[doc(hidden)]
pub use types::counted::counted;
pub use types::document::Document;
pub use types::element::Element;
pub use types::error::{Error, ErrorKind, Result};
pub use types::id::{AsId, Id, IdKind, IdRef, Uuid};
#[doc(hidden)]
pub use types::memory::check_memory;
pub use types::options::{Durability, OpenOptions};
pub use types::recovery::RecoveryReport;
