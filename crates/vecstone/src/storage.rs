//! One pair of files, `NAME.dat` and `NAME.idx` (and `NAME.jsonl`, if some row has a document), for those who need no more.

use crate::batch::{Batch, Op, lines_of, with_lines};
use crate::config::{Element, check_dim};
use crate::disk::{Dir, Disk, Mapping, Open, OsDisk};
use crate::error::{Error, Result};
use crate::files::{Files, Named, random, with_suffix};
use crate::format::Identity;
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::record::{self, FileRecord, Next, Record};
use crate::id::{Id, IdKind};
use crate::pair::{Effects, Pair};
use crate::recover::{self, RecoveryReport};
use crate::rows::RowTable;
use crate::verify::{VerifyReport, verify_pair};
use std::path::Path;
use std::sync::Arc;

/// A pair of files made crash-safe: appended batches count wholly or not at all, and those that
/// [`commit`](Self::commit) returned for are there after every crash.
///
/// It knows no search, no segments and no threads, and it takes no lock: one writer at a time is the caller's duty
/// ([`VectorStore`](crate::VectorStore) does all of that). Ids may repeat; which row of an id is live is the reader's
/// to decide from [`log`](Self::log).
#[derive(Debug)]
pub struct VectorStorage {
    pair: Pair,
    rows: RowTable,
    dat_map: Mapping,
    idx_map: Mapping,
    writable: bool,
    report: RecoveryReport,
}

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
    /// Makes the pair `path.dat` and `path.idx` for vectors of `dim` components, durably.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; [`Error::AlreadyExists`] if one of the files is there.
    pub fn create(path: impl AsRef<Path>, dim: u32) -> Result<VectorStorage> {
        check_dim(dim)?;
        let identity = Identity { uuid: random()?, segment: 1, salt: random()? };
        let header = Header { dim, element: Element::F32, identity };
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::default());
        let path = path.as_ref();
        let (dir, path) = Dir::of_file(&disk, path).map_err(|e| Error::io(path, "create", e))?;
        for path in [".dat", ".idx", ".jsonl"].map(|suffix| with_suffix(&path, suffix)) {
            match dir.open_file(&path, Open::Read) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                _ => return Err(Error::AlreadyExists { path }),
            }
        }
        let pair = Pair::create(&dir, &path, FileRecord { header, seq: 0, chain: [0; 16] }, 0)
            .map_err(Error::abandoned)?;
        dir.sync().map_err(|e| Error::io(dir.path(), "sync", e))?;
        Self::assemble(pair, RowTable::default(), RecoveryReport::default(), true)
    }

    /// Opens the pair `path.dat` and `path.idx` for writing and recovers it: drops what no durable batch needs and
    /// makes everything else durable. O(length of `.idx` + rows not proven durable).
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a durable batch is damaged (nothing is changed then); [`Error::Unsupported`].
    pub fn open(path: impl AsRef<Path>) -> Result<VectorStorage> {
        Self::open_on(Arc::new(OsDisk::default()), path.as_ref(), true)
    }

    /// Opens a pair for reading: the same state as [`open`](Self::open), in memory only. Writes nothing and needs no
    /// write permission.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<VectorStorage> {
        Self::open_on(Arc::new(OsDisk::default()), path.as_ref(), false)
    }

    /// Opens a pair and recovers it; see [`open`](Self::open).
    pub(crate) fn open_on(disk: Arc<dyn Disk>, path: &Path, writable: bool) -> Result<VectorStorage> {
        let (dir, path) = Dir::of_file(&disk, path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound { path: with_suffix(path, ".dat") },
            _ => Error::io(path, "open", e),
        })?;
        let files = Files::open(&dir, &path, writable)?;
        let found = recover::recover(&files, None, 0)?;
        let mut pair = Pair::of(&dir, files, &found, 0);
        if writable {
            pair.make_recovered_durable()?;
        }
        Self::assemble(pair, found.rows, found.report, writable)
    }

    fn assemble(pair: Pair, rows: RowTable, report: RecoveryReport, writable: bool) -> Result<VectorStorage> {
        let (files, tip) = (pair.files(), pair.written());
        let dat_map = files.dat.map(pair.header().row_start(tip.rows))?;
        let idx_map = files.idx.map(tip.idx_end)?;
        Ok(VectorStorage { dat_map, idx_map, rows, report, writable, pair })
    }

    /// Appends one batch: all of it counts, or nothing. Visible at once; durable after [`commit`](Self::commit).
    /// Returns the row number of the first put. O(bytes of the batch). A pair does not look for the row that a put
    /// replaces: what keeps its document has none here.
    ///
    /// # Errors
    ///
    /// Bad input ([`Error::NonFinite`], [`Error::DimensionMismatch`], [`Error::InvalidId`], [`Error::IdKind`],
    /// [`Error::BatchTooLarge`], [`Error::Full`]) and [`Error::NoSpace`] leave the pair as it was and usable. After
    /// [`Error::WriteFailed`] writing stops.
    pub fn append(&mut self, ops: &[Op<'_>]) -> Result<u64> {
        let first = self.rows();
        self.check_writable()?;
        let batch = Batch::Ops(ops);
        let Some(kind) = self.kind().or(batch.kind()) else { return Ok(first) };
        batch.check(self.dim(), Some(kind))?;
        let lines = lines_of(ops)?;
        let ops = with_lines(ops, &lines);
        let written = self.pair.write(Batch::Ops(&ops), kind, &Effects::default()).and_then(|appended| {
            let dat_end = self.pair.header().row_start(appended.tip.rows);
            remap(&self.pair.files().dat, &mut self.dat_map, dat_end)?;
            remap(&self.pair.files().idx, &mut self.idx_map, appended.tip.idx_end)?;
            Ok(appended)
        });
        let published = self.pair.publish(&written);
        self.rows.truncate(self.pair.written().rows);
        published?;
        self.rows.append(&written?.rows);
        Ok(first)
    }

    /// Makes everything appended so far durable: both files are synced.
    ///
    /// # Errors
    ///
    /// [`Error::SyncFailed`]: whether the batches since the last commit survive is unknown; writing stops.
    pub fn commit(&mut self) -> Result<()> {
        self.check_writable()?;
        let committed = self.pair.commit();
        self.rows.truncate(self.pair.written().rows);
        committed
    }

    /// Commits, writes CLOSE and cuts both files to what counts. A handle that wrote nothing to a cleanly closed pair
    /// changes nothing. Dropping a handle without `close` loses no committed batch.
    pub fn close(mut self) -> Result<()> {
        if self.writable { self.pair.close() } else { Ok(()) }
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable { self.pair.check_writable() } else { Err(Error::ReadOnly) }
    }

    // ---- reading ----

    /// Number of rows, dead ones included.
    pub fn rows(&self) -> u64 {
        self.pair.written().rows
    }

    /// Components of a row.
    pub fn dim(&self) -> usize {
        self.pair.header().dim as usize
    }

    /// Kind of the ids; `None` before the first.
    pub fn kind(&self) -> Option<IdKind> {
        self.pair.written().kind
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
        let header = self.pair.header();
        let start = header.row_start(row);
        let bytes = self.dat_map.get(start..start + header.stride());
        bytes.map(bytemuck::cast_slice).ok_or_else(|| self.no_such_row(row))
    }

    /// A row by read call, its checksum checked: `dim` components. One system call.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRow`]; [`Error::Corrupt`] if the bytes are not what was written; [`Error::Io`].
    pub fn read_row(&self, row: u64) -> Result<Vec<f32>> {
        let crc = self.check_row(row)?.crc;
        let mut vector = vec![0f32; self.dim()];
        self.pair.files().read_row(self.pair.header(), row, crc, &mut vector)?;
        Ok(vector)
    }

    /// The JSON document of a row, checked; `None` if it has none.
    ///
    /// # Errors
    ///
    /// As [`read_row`](Self::read_row).
    pub fn document(&self, row: u64) -> Result<Option<String>> {
        self.check_row(row)?;
        let files = self.pair.files();
        files.read_document(files.jsonl.as_ref(), self.pair.header(), row, self.rows.line(row))
    }

    /// The id of a row. O(1).
    pub fn id(&self, row: u64) -> Result<Id> {
        let at = self.check_row(row)?.idx_at.into();
        match self.entry(at, self.raw_at(at)?.0)? {
            LogEntry::Put { id, row: found } if found == row => Ok(id),
            _ => Err(self.changed(at)),
        }
    }

    /// Everything that counts, in the order of writing: an iterator over puts and deletes. O(length of `.idx`).
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
        let tip = self.pair.written();
        tip.idx_end - tip.since_commit.len() as u64
    }

    fn raw_at(&self, at: u64) -> Result<(Record<'_>, u64)> {
        let bytes = self.idx_map.get(at..self.log_end()).unwrap_or_default();
        match record::next(bytes) {
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
                let row = (offset - HEADER_BYTES) / self.pair.header().stride();
                Ok(LogEntry::Put { id: id(bytes)?, row })
            }
            Record::Delete { id: bytes } => Ok(LogEntry::Delete { id: id(bytes)? }),
            _ => Err(self.changed(at)),
        }
    }

    fn changed(&self, at: u64) -> Error {
        Error::corrupt(&self.pair.files().idx.path, at, "a record changed under this handle")
    }

    fn check_row(&self, row: u64) -> Result<crate::rows::Row> {
        self.rows.get(row).ok_or_else(|| self.no_such_row(row))
    }

    fn no_such_row(&self, row: u64) -> Error {
        Error::NoSuchRow { row, rows: self.rows() }
    }

    /// Checks every byte that counts in all files. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for what says nothing of the bytes. Damage is in the report, not an error; so are bytes that the disk
    /// cannot read.
    pub fn verify(&self) -> Result<VerifyReport> {
        let (header, mut report) = (self.pair.header(), VerifyReport::default());
        let end = self.pair.written().sealed(header);
        verify_pair(self.pair.files(), header, &end, self.pair.written().kind, &mut report)?;
        Ok(report)
    }
}

/// A new mapping if the old one does not reach `len`.
fn remap(named: &Named, map: &mut Mapping, len: u64) -> Result<()> {
    if map.len() < len {
        *map = named.map_written(len)?;
    }
    Ok(())
}
