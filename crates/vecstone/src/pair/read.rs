//! What a pair that is used alone reads: rows, ids, documents, the log.

use super::VectorStorage;
use crate::format::header::HEADER_BYTES;
use crate::format::record::{self, Next, Record};
use crate::pair::rows::Row;
use crate::types::error::{Error, Result};
use crate::types::id::Id;

/// One entry of the log, in the order of writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// This row was stored for this id.
    Put {
        /// The id.
        id: Id,
        /// The row number.
        row: u64,
    },
    /// This id was deleted.
    Delete {
        /// The id.
        id: Id,
    },
}

impl VectorStorage {
    /// A row as it lies in the mapped file: `dim` components, not copied, its checksum not compared. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRow`].
    pub fn row(&self, row: u64) -> Result<&[f32]> {
        self.check_row(row)?;
        let start = self.header.row_start(row);
        let bytes = self.dat_map.as_ref().and_then(|map| map.get(start..start + self.header.stride()));
        bytes.and_then(|bytes| self.header.element.borrow(bytes)).ok_or_else(|| self.no_such_row(row))
    }

    /// A row by read call, its checksum checked: `dim` components. One system call.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRow`]; [`Error::Corrupt`] if the bytes are not what was written; [`Error::Io`].
    pub fn read_row(&self, row: u64) -> Result<Vec<f32>> {
        let crc = self.check_row(row)?.crc;
        let mut vector = vec![0f32; self.dim()];
        self.files.read_row(&self.header, row, crc, &mut vector)?;
        Ok(vector)
    }

    /// The JSON document of a row, checked; `None` if it has none.
    ///
    /// # Errors
    ///
    /// As [`read_row`](Self::read_row).
    pub fn document(&self, row: u64) -> Result<Option<String>> {
        self.check_row(row)?;
        let line = self.table.as_ref().map(|table| table.line(row)).unwrap_or_default();
        self.files.read_document(self.files.jsonl.as_ref(), &self.header, row, line)
    }

    /// The id of a row. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRow`]; [`Error::Corrupt`] if the log changed under this handle.
    pub fn id(&self, row: u64) -> Result<Id> {
        let at = self.check_row(row)?.idx_at.into();
        match self.entry(at, self.raw_at(at)?.0)? {
            LogEntry::Put { id, row: found } if found == row => Ok(id),
            _ => Err(self.changed(at)),
        }
    }

    /// All puts and deletes, in the order of writing. O(length of `.idx`).
    ///
    /// # Errors
    ///
    /// An item is [`Error::Corrupt`] if the log changed under this handle; it is the last one.
    pub fn log(&self) -> impl Iterator<Item = Result<LogEntry>> {
        let mut at = record::FILE_BYTES as u64;
        std::iter::from_fn(move || {
            while at < self.log_end() {
                let (from, found) = (at, self.raw_at(at));
                // After an error there is nothing to go on from.
                at = found.as_ref().map_or(u64::MAX, |(_, len)| at + len);
                match found {
                    Ok((Record::Control { .. }, _)) => {}
                    Ok((record, _)) => return Some(self.entry(from, record)),
                    Err(error) => return Some(Err(error)),
                }
            }
            None
        })
    }

    /// Where the last COMMIT ends; only marks follow, which may lie beyond the mapping.
    fn log_end(&self) -> u64 {
        self.written.idx_end - self.written.since_commit.len() as u64
    }

    fn raw_at(&self, at: u64) -> Result<(Record<'_>, u64)> {
        let bytes = self.idx_map.as_ref().and_then(|map| map.get(at..self.log_end()));
        match record::next(bytes.unwrap_or_default()) {
            Next::Record(record, len) => Ok((record, len as u64)),
            _ => Err(self.changed(at)),
        }
    }

    /// What the record at `at` says.
    fn entry(&self, at: u64, record: Record<'_>) -> Result<LogEntry> {
        let id =
            |bytes| self.kind().and_then(|kind| Id::from_bytes(kind, bytes)).ok_or_else(|| self.changed(at));
        match record {
            Record::Put { id: bytes, offset } if offset >= HEADER_BYTES => {
                let row = (offset - HEADER_BYTES) / self.header.stride();
                Ok(LogEntry::Put { id: id(bytes)?, row })
            }
            Record::Delete { id: bytes } => Ok(LogEntry::Delete { id: id(bytes)? }),
            _ => Err(self.changed(at)),
        }
    }

    fn changed(&self, at: u64) -> Error {
        Error::corrupt(&self.files.idx.path, at, "a record changed under this handle")
    }

    fn check_row(&self, row: u64) -> Result<Row> {
        self.table.as_ref().and_then(|table| table.get(row)).ok_or_else(|| self.no_such_row(row))
    }

    fn no_such_row(&self, row: u64) -> Error {
        Error::NoSuchRow { row, rows: self.rows() }
    }
}
