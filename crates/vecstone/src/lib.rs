#![doc = include_str!("lib.md")]
#![warn(clippy::unwrap_used)] // `expect` says why it cannot fail; everything else is an error
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))] // a library is silent

mod batch;
mod config;
mod directory;
mod disk;
mod distance;
mod error;
pub mod format;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod planted;
mod recover;
mod search;
mod stats;
mod storage;
mod store;
#[cfg(test)]
mod tests;
mod verify;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub use batch::Op;
pub use config::{Element, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_DIM, MAX_ID_BYTES, MAX_ROWS, Metric};
pub use distance::reference_distance;
pub use error::{Error, Result};
pub use recover::RecoveryReport;
pub use search::Neighbor;
pub use stats::{FileBytes, Memory, Stats};
pub use storage::{LogEntry, VectorStorage};
pub use store::{Iter, OpenOptions, VectorStore};
pub use verify::{Damage, VerifyReport};
