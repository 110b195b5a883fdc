//! Files and Arrow data in, rows for a [`vecstone::VectorStore`] out, and back: one place for the command line and for
//! other languages.
//!
//! - [`RowReader::open`] reads a file of any format that it knows (Parquet, Arrow IPC as a file or a stream, JSON
//!   lines; told apart by content, never by name) as [`Rows`], batch by batch, in bounded memory.
//! - [`rows_of`] makes [`Rows`] of one Arrow batch, wherever that comes from; [`open`] gives such batches of a file, and
//!   [`JsonLines`] reads what is not Arrow.
//! - [`reader_of`] gives the live rows of a snapshot as Arrow batches; [`write()`] writes them as a file.
//!
//! [`Columns`] says which columns are meant. What is wrong with the data is an [`Error`] that names the column and the
//! row, counted from 0 over the whole input, or the line; hostile files are errors as well, never a panic.
//!
//! ```
//! use vecstone::{Metric, VectorStore, WriteBatch};
//! use vecstone_arrow::{Columns, RowReader, reader_of};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (path, file) = (dir.path().join("store"), dir.path().join("rows.jsonl"));
//! std::fs::write(&file, r#"{"id": "north", "vector": [0, 1], "document": {"title": "North"}}"#)?;
//! let store = VectorStore::create(&path, 2, Metric::Cosine)?;
//! for rows in RowReader::open(&file, &Columns::default(), 1000)? {
//!     let rows = rows?;
//!     store.write(WriteBatch::new().put_many_with_documents(&rows.ids, &rows.vectors, &rows.document_refs()))?;
//! }
//! assert_eq!(store.snapshot()?.get_document("north")?.as_deref(), Some(r#"{"title": "North"}"#));
//! for batch in reader_of(store.snapshot()?, 1000) {
//!     assert_eq!(batch?.num_rows(), 1);
//! }
//! # Ok(())
//! # }
//! ```

mod columns;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod json;
mod json_lines;
mod memory;
mod out;
mod read;
mod rows;
mod vectors;
mod write;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use arrow_array;
pub use columns::{Columns, DocumentColumns};
pub use error::{Error, Result};
pub use file::{BatchReader, Format, open};
pub use json_lines::JsonLines;
pub use out::{SnapshotReader, empty_reader, reader_of};
pub use read::RowReader;
pub use rows::{Rows, rows_of};
pub use write::write;
