//! Reading a pair: rows by number, the log, every byte.

use super::VectorStorage;
use crate::error::{Error, Result};
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::record::{self, Next, Record};
use crate::planted::{self, Bug};
use crate::recover::{Named, RecoveryReport};
use crate::verify::{Check, VerifyReport};

/// One entry of the log, in the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEntry<'a> {
    /// This row was stored for this id.
    Put {
        /// The id.
        id: &'a str,
        /// The row number.
        row: u64,
    },
    /// This id was deleted.
    Delete {
        /// The id.
        id: &'a str,
    },
}

impl VectorStorage {
    /// Number of rows, dead ones included.
    pub fn rows(&self) -> u64 {
        self.written.rows
    }

    /// Components of a row.
    pub fn dim(&self) -> usize {
        self.header.dim as usize
    }

    /// What opening found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// A row as it lies in the mapped file: `dim` components, not copied, not checked. O(1).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRow`].
    pub fn row(&self, row: u64) -> Result<&[f32]> {
        self.check_row(row)?;
        let start = self.header.row_start(row);
        let bytes = self.dat_map.get(start..start + self.header.stride());
        bytes.map(bytemuck::cast_slice).ok_or_else(|| self.no_such_row(row))
    }

    /// A row by read call, its checksum checked: `dim` components. One system call.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRow`]; [`Error::Corrupt`] if the bytes are not what was written; [`Error::Io`].
    pub fn read_row(&self, row: u64) -> Result<Vec<f32>> {
        self.check_row(row)?;
        let mut vector = vec![0f32; self.dim()];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut vector);
        self.dat.read(bytes, self.header.row_start(row))?;
        self.check_bytes(row, bytes)?;
        Ok(vector)
    }

    /// Checks a row in the mapping: for a search's results.
    pub(crate) fn check_mapped(&self, row: u64) -> Result<()> {
        self.check_bytes(row, bytemuck::cast_slice(self.row(row)?))
    }

    fn check_bytes(&self, row: u64, bytes: &[u8]) -> Result<()> {
        let place = usize::try_from(row).unwrap_or(usize::MAX);
        let intact = self.rows.crc.get(place) == Some(&self.header.identity.row_crc(row, bytes));
        if intact || planted::is(Bug::UncheckedRead) {
            return Ok(());
        }
        let what = "the row does not match its checksum";
        Err(Error::corrupt(&self.dat.path, self.header.row_start(row), what))
    }

    /// The id of a row. O(1).
    pub fn id(&self, row: u64) -> Result<&str> {
        self.check_row(row)?;
        let at = self.rows.id_at[usize::try_from(row).unwrap_or(usize::MAX)];
        match self.entry(at, self.raw_at(at)?.0)? {
            LogEntry::Put { id, row: found } if found == row => Ok(id),
            _ => Err(Error::corrupt(&self.idx.path, at, "the record of a row changed under this handle")),
        }
    }

    /// The bytes of a row's id, not looked into; empty if there is no such row. For hashing and comparing.
    pub(crate) fn id_bytes(&self, row: u32) -> &[u8] {
        let Some(&at) = self.rows.id_at.get(row as usize) else { return &[] };
        let len =
            self.idx_map.get(at..at + 4).and_then(|len| len.try_into().ok()).map_or(0, u32::from_le_bytes);
        self.idx_map.get(at + 4..at + 4 + u64::from(len)).unwrap_or_default()
    }

    /// Everything that counts, in the order of writing: an iterator over puts and deletes. O(length of `.idx`).
    pub fn log(&self) -> impl Iterator<Item = Result<LogEntry<'_>>> {
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
        let bytes = self.idx_map.get(at..self.log_end()).unwrap_or_default();
        match record::next(bytes) {
            Next::Record(record, len) => Ok((record, len as u64)),
            _ => Err(Error::corrupt(&self.idx.path, at, "a record changed under this handle")),
        }
    }

    /// What the record at `at` says.
    fn entry<'a>(&self, at: u64, record: Record<'a>) -> Result<LogEntry<'a>> {
        let changed = || Error::corrupt(&self.idx.path, at, "a record changed under this handle");
        let text = |id: &'a [u8]| std::str::from_utf8(id).map_err(|_| changed());
        match record {
            Record::Put { id, offset } if offset >= HEADER_BYTES => {
                let row = (offset - HEADER_BYTES) / self.header.stride();
                Ok(LogEntry::Put { id: text(id)?, row })
            }
            Record::Delete { id } => Ok(LogEntry::Delete { id: text(id)? }),
            _ => Err(changed()),
        }
    }

    fn check_row(&self, row: u64) -> Result<()> {
        if row < self.written.rows { Ok(()) } else { Err(self.no_such_row(row)) }
    }

    fn no_such_row(&self, row: u64) -> Error {
        Error::NoSuchRow { row, rows: self.written.rows }
    }

    /// Checks every byte that counts in both files. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read; damage is in the report, not an error.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.to_check().verify()
    }

    /// What [`verify`](Self::verify) needs, copied: checking takes long.
    pub(crate) fn to_check(&self) -> Check {
        let (dat, idx) = (self.dat.clone(), self.idx.clone());
        Check { dat, idx, header: self.header, end: self.written.clone(), crcs: self.rows.crc.clone() }
    }

    // ---- for the store ----

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// Whether both files end where a CLOSE record says.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    pub(crate) fn files(&self) -> [&Named; 2] {
        [&self.dat, &self.idx]
    }

    /// Heap bytes, mapped bytes and mapped bytes now in memory.
    pub(crate) fn memory(&self) -> (u64, u64, u64) {
        let heap = self.rows.id_at.capacity() * 8 + self.rows.crc.capacity() * 4;
        let (dat, idx) = (self.header.row_start(self.written.rows), self.written.idx_end);
        (heap as u64, dat + idx, self.dat_map.resident(dat) + self.idx_map.resident(idx))
    }
}
