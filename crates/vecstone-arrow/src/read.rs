//! One reader for every format.

use std::path::{Path, PathBuf};

use crate::columns::Columns;
use crate::error::Result;
use crate::file::{BatchReader, Format, open_file};
use crate::json_lines::JsonLines;
use crate::rows::{Rows, rows_of};

/// Rows of a file of any format, batch by batch; after an error it ends.
pub struct RowReader(Source);

enum Source {
    Batches { path: PathBuf, reader: BatchReader, columns: Columns, rows: u64 },
    Lines(JsonLines),
    Ended,
}

impl RowReader {
    /// Opens a file and tells its format by its content. Batches have from 1 to `batch_rows` rows, all of one dimension.
    ///
    /// # Errors
    ///
    /// As [`open`](crate::open) and [`JsonLines::open`].
    pub fn open(path: impl AsRef<Path>, columns: &Columns, batch_rows: usize) -> Result<RowReader> {
        let path = path.as_ref();
        let source = open_file(path).and_then(|(file, format)| {
            Ok(match format {
                Format::JsonLines => Source::Lines(JsonLines::new(path, file, columns, batch_rows)),
                _ => Source::Batches {
                    path: path.to_owned(),
                    reader: BatchReader::new(path, file, format, columns, batch_rows)?,
                    columns: columns.clone(),
                    rows: 0,
                },
            })
        });
        source.map(RowReader).map_err(|e| e.in_file(path))
    }

    /// The names of the columns that are not read; of JSON lines the keys of the first line, once that was read.
    pub fn unread(&self) -> &[String] {
        match &self.0 {
            Source::Batches { reader, .. } => reader.unread(),
            Source::Lines(lines) => lines.unread(),
            Source::Ended => &[],
        }
    }

    /// Rows of the whole file, if it says so itself: `None` for JSON lines.
    pub fn rows(&self) -> Option<u64> {
        match &self.0 {
            Source::Batches { reader, .. } => Some(reader.rows()),
            Source::Lines(_) | Source::Ended => None,
        }
    }
}

impl Iterator for RowReader {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.0 {
            Source::Ended => return None,
            Source::Lines(lines) => return lines.next(),
            Source::Batches { path, reader, columns, rows } => reader.next_batch().and_then(|batch| {
                let Some(batch) = batch else { return Ok(None) };
                let next = rows_of(&batch, columns, *rows).map_err(|e| e.in_file(path))?;
                *rows += next.ids.len() as u64;
                columns.dim = columns.dim.or(columns.vector.as_ref().map(|_| next.dim));
                Ok(Some(next))
            }),
        };
        let next = next.transpose();
        if !matches!(next, Some(Ok(_))) {
            self.0 = Source::Ended;
        }
        next
    }
}
