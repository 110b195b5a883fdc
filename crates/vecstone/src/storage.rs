//! One pair of files, `NAME.dat` and `NAME.idx`: append, commit, recover, read, verify.
//!
//! The write path is [`VectorStorage::append`] and [`VectorStorage::commit`]; `format.md` says what they write. Each is
//! made of a part that touches the disk and needs only `&self`, and a part that publishes the outcome and never
//! waits, so that a store can let readers go on during the first.

mod read;

pub use read::LogEntry;

use crate::batch::{Batch, Op};
use crate::config::{Element, MAX_ROWS, check_dim};
use crate::disk::{Disk, Mapping, Open, OsDisk, write_all_at};
use crate::error::{Error, Result};
use crate::format::Identity;
use crate::format::header::Header;
use crate::format::record::{self, Commit, FileRecord};
use crate::planted::{self, Bug};
use crate::recover::{self, Named, Recovered, RecoveryReport, RowTable, Tip};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A pair of files made crash-safe: appended batches count wholly or not at all, and those that
/// [`commit`](Self::commit) returned for are there after every crash.
///
/// It knows no search, no segments and no threads, and it takes no lock: one writer at a time is the caller's duty
/// ([`VectorStore`](crate::VectorStore) does all of that). Ids may repeat; which row of an id is live is the reader's
/// to decide from [`log`](Self::log).
#[derive(Debug)]
pub struct VectorStorage {
    disk: Arc<dyn Disk>,
    dat: Named,
    idx: Named,
    header: Header,
    /// The MANIFEST number that COMMITs are written under.
    manifest: u64,
    rows: RowTable,
    /// The end of what was appended.
    written: Tip,
    /// The end of what both files were synced for.
    durable: Tip,
    /// The last sequence that the log itself says is durable.
    noted: u64,
    dat_map: Arc<Mapping>,
    idx_map: Arc<Mapping>,
    /// The log ends in CLOSE and the files end where it says.
    clean: bool,
    writable: bool,
    poisoned: Option<Arc<Error>>,
    report: RecoveryReport,
}

/// What a written batch changes, not yet published.
#[derive(Debug)]
pub(crate) struct Appended {
    tip: Tip,
    rows: RowTable,
    dat_map: Option<Mapping>,
    idx_map: Option<Mapping>,
}

/// What a sync is to prove durable, and the files to sync for it.
#[derive(Debug)]
pub(crate) struct Pending {
    tip: Tip,
    pair: [Named; 2],
    disk: Arc<dyn Disk>,
}

/// How rows are handed to the system: pieces that stay in the core's own cache between checksum and write.
const PIECE_BYTES: usize = 1 << 20;
/// How much of a long batch is written before the disk is asked to begin with it: large enough that the file system
/// gives it room in one piece, small enough that the sync at the end has little left to do.
const WRITEBACK_BYTES: u64 = 16 << 20;

// Rows are mapped as they lie.
#[cfg(target_endian = "big")]
compile_error!("vecstone needs a little-endian machine");

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
        for path in [with_suffix(path, ".dat"), with_suffix(path, ".idx")] {
            if disk.open(&path, Open::Read).is_ok() {
                return Err(Error::AlreadyExists { path });
            }
        }
        let storage = Self::create_on(disk, path, header, 0)?;
        let dir = parent_of(&storage.dat.path);
        storage.disk.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))?;
        Ok(storage)
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

    /// Makes both files and syncs them; the directory is the caller's to sync.
    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        header: Header,
        manifest: u64,
    ) -> Result<VectorStorage> {
        let create = |path: PathBuf| match disk.open(&path, Open::CreateNew) {
            Ok(file) => Ok(Named { path, file }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists { path }),
            Err(e) => Err(Error::io(&path, "create", e)),
        };
        let (dat, idx) = (create(with_suffix(path, ".dat"))?, create(with_suffix(path, ".idx"))?);
        let file = FileRecord { header, seq: 0, chain: [0; 16] };
        write_named(&dat, &header.encode(), 0)?;
        write_named(&idx, &file.encode(), 0)?;
        if !planted::is(Bug::SkipPairSync) {
            sync_at_once(disk.as_ref(), &[&dat, &idx])?;
        }
        let recovered = recover::recover(&dat, &idx)?;
        Self::assemble(disk, dat, idx, recovered, manifest, true)
    }

    /// Opens a pair and recovers it; see [`open`](Self::open).
    pub(crate) fn open_on(disk: Arc<dyn Disk>, path: &Path, writable: bool) -> Result<VectorStorage> {
        let (dat, idx) = Self::open_files(disk.as_ref(), path, writable)?;
        let recovered = recover::recover(&dat, &idx)?;
        let mut storage = Self::assemble(disk, dat, idx, recovered, 0, writable)?;
        if writable {
            storage.make_recovered_durable()?;
        }
        Ok(storage)
    }

    pub(crate) fn open_files(disk: &dyn Disk, path: &Path, writable: bool) -> Result<(Named, Named)> {
        let how = if writable { Open::ReadWrite } else { Open::Read };
        let open = |path: PathBuf| match disk.open(&path, how) {
            Ok(file) => Ok(Named { path, file }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NotFound { path }),
            Err(e) => Err(Error::io(&path, "open", e)),
        };
        Ok((open(with_suffix(path, ".dat"))?, open(with_suffix(path, ".idx"))?))
    }

    /// A handle on what recovery found; nothing is written yet.
    pub(crate) fn assemble(
        disk: Arc<dyn Disk>,
        dat: Named,
        idx: Named,
        found: Recovered,
        manifest: u64,
        writable: bool,
    ) -> Result<VectorStorage> {
        let map = |named: &Named, len| named.file.map(len).map_err(|e| Error::io(&named.path, "map", e));
        let dat_map = map(&dat, found.header.row_start(found.tip.rows))?;
        let idx_map = map(&idx, found.tip.idx_end)?;
        Ok(VectorStorage {
            disk,
            header: found.header,
            manifest,
            rows: found.rows,
            written: found.tip,
            noted: found.proven.seq,
            durable: found.proven,
            dat_map: Arc::new(dat_map),
            idx_map: Arc::new(idx_map),
            clean: found.report.clean,
            writable,
            poisoned: None,
            report: found.report,
            dat,
            idx,
        })
    }

    /// Shows only what is proven durable: what a reader beside a live writer may see.
    pub(crate) fn keep_proven(&mut self) {
        self.written = self.durable.clone();
        self.rows.truncate(self.written.rows);
        self.report.seq = self.written.seq;
        self.report.rows = self.written.rows;
        self.report.unproven_batches = 0;
    }

    /// Writes the unproven end of both files again and syncs it; then says in the log that it is durable, and cuts
    /// what is behind.
    ///
    /// Reading it proved only that the page cache has it: a page whose write-back once failed is clean there and lost
    /// on the disk. Written again it is dirty, and the sync tells the truth. The new DURABLE record takes the place
    /// of whatever proof is cut off.
    pub(crate) fn make_recovered_durable(&mut self) -> Result<()> {
        if self.clean {
            return Ok(());
        }
        let rows_end = self.header.row_start(self.written.rows);
        let trusting = planted::is(Bug::TrustPageCache);
        if self.durable.seq < self.written.seq && !trusting {
            write_again(&self.dat, self.header.row_start(self.durable.rows)..rows_end)?;
            write_again(&self.idx, self.durable.idx_end..self.written.idx_end)?;
            self.sync_both()?;
        }
        self.durable = self.written.clone();
        self.written.epoch = self.written.epoch.saturating_add(1);
        self.noted = 0;
        if let Some(mark) = self.note(&Ok(self.durable.seq))
            && !planted::is(Bug::ForgetProof)
        {
            self.noted(self.durable.seq, &mark);
        }
        self.cut_to_written()?;
        if trusting { Ok(()) } else { self.sync_both() }
    }

    /// Cuts what is behind the end of what counts.
    fn cut_to_written(&self) -> Result<()> {
        let rows_end = self.header.row_start(self.written.rows);
        for (named, end) in [(&self.dat, rows_end), (&self.idx, self.written.idx_end)] {
            if named.len()? > end {
                named.file.set_len(end).map_err(|e| Error::io(&named.path, "cut the end of", e))?;
            }
        }
        Ok(())
    }

    fn sync_both(&self) -> Result<()> {
        sync_at_once(self.disk.as_ref(), &[&self.dat, &self.idx])
    }

    // ---- writing: one screen ----

    /// Appends one batch: all of it counts, or nothing. Visible at once; durable after [`commit`](Self::commit).
    /// Returns the row number of the first put. O(bytes of the batch).
    ///
    /// # Errors
    ///
    /// Bad input ([`Error::NonFinite`], [`Error::DimensionMismatch`], [`Error::InvalidId`],
    /// [`Error::BatchTooLarge`], [`Error::Full`]) and [`Error::NoSpace`] leave the pair as it was and usable. After
    /// [`Error::WriteFailed`] writing stops.
    pub fn append(&mut self, batch: &[Op<'_>]) -> Result<u64> {
        let first = self.written.rows;
        if batch.is_empty() {
            return self.check_writable().map(|()| first);
        }
        let appended = self.write(Batch::Ops(batch));
        self.publish(appended)?;
        Ok(first)
    }

    /// Makes everything appended so far durable: both files are synced at the same time.
    ///
    /// # Errors
    ///
    /// [`Error::SyncFailed`]: whether the batches since the last commit survive is unknown; writing stops.
    pub fn commit(&mut self) -> Result<()> {
        let Some(pending) = self.pending()? else { return Ok(()) };
        let synced = pending.sync();
        let noted = self.note(&synced);
        self.finish(pending, synced, noted)
    }

    /// The disk's part of [`append`](Self::append): rows to `.dat`, then records and COMMIT to `.idx`, at the ends of
    /// what is published. If it fails nothing moved, and the next batch goes to the same place.
    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<Appended> {
        self.check(batch)?;
        let at = &self.written;
        let (mut log, mut rows) = (Vec::new(), RowTable::default());
        for op in batch.ops() {
            match op {
                Op::Delete { id } => record::push_delete(&mut log, id.as_bytes()),
                Op::Put { id, .. } => {
                    let row = at.rows + rows.id_at.len() as u64;
                    rows.id_at.push(at.idx_end + log.len() as u64);
                    record::push_put(&mut log, id.as_bytes(), self.header.row_start(row));
                }
            }
        }
        self.write_rows(batch, &mut rows.crc)?;
        let tip = self.seal(&mut log, batch.len(), &rows.crc);
        for (piece, bytes) in log.chunks(PIECE_BYTES).enumerate() {
            write_named(&self.idx, bytes, at.idx_end + (piece * PIECE_BYTES) as u64)?;
        }
        let dat_map = remap(&self.dat, &self.dat_map, self.header.row_start(tip.rows))?;
        let idx_map = remap(&self.idx, &self.idx_map, tip.idx_end)?;
        Ok(Appended { tip, rows, dat_map, idx_map })
    }

    /// Ends the batch in `log` with its COMMIT; returns the point behind it.
    fn seal(&self, log: &mut Vec<u8>, records: usize, crcs: &[u32]) -> Tip {
        let at = &self.written;
        let rows = at.rows + crcs.len() as u64;
        let count = |n: usize| u32::try_from(n).expect("a batch has at most MAX_BATCH_RECORDS records");
        let mut commit = Commit {
            kind: record::KIND_STRING,
            flags: 0,
            epoch: at.epoch,
            seq: at.seq + 1,
            manifest: self.manifest,
            records: count(records),
            rows: count(crcs.len()),
            kills: 0,
            reserved: 0,
            batch_len: 0,
            rows_end: self.header.row_start(rows),
            docs_end: 0,
            durable_seq: if planted::is(Bug::ClaimTooMuch) { at.seq + 1 } else { self.durable.seq },
            chain: [0; 16],
        };
        let mut hasher = self.header.identity.chain_from(&at.chain);
        hasher.update(&at.since_commit);
        commit.seal(log, 0, hasher, crcs, &self.header.identity);
        Tip {
            seq: commit.seq,
            chain: commit.chain,
            since_commit: Vec::new(),
            idx_end: at.idx_end + log.len() as u64,
            rows,
            epoch: at.epoch,
        }
    }

    /// Writes the rows piece by piece; rows that lie scattered are gathered first.
    fn write_rows(&self, batch: Batch<'_>, crcs: &mut Vec<u32>) -> Result<()> {
        let dim = self.dim();
        let piece = (PIECE_BYTES / (dim * 4)).max(1) * dim;
        if let Batch::Rows { vectors, .. } = batch {
            return vectors.chunks(piece).try_for_each(|rows| self.write_piece(rows, crcs));
        }
        let mut gathered = Vec::with_capacity(piece.min(batch.len() * dim));
        for op in batch.ops() {
            let Op::Put { vector, .. } = op else { continue };
            gathered.extend_from_slice(vector);
            if gathered.len() == piece {
                self.write_piece(&gathered, crcs)?;
                gathered.clear();
            }
        }
        self.write_piece(&gathered, crcs)
    }

    /// Checksums and writes whole rows behind those of `crcs`. Each piece is on its way to the disk while the next is
    /// prepared.
    fn write_piece(&self, rows: &[f32], crcs: &mut Vec<u32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let first = self.written.rows + crcs.len() as u64;
        for (row, vector) in (first..).zip(rows.chunks_exact(self.dim())) {
            crcs.push(self.header.identity.row_crc(row, bytemuck::cast_slice(vector)));
        }
        let bytes: &[u8] = bytemuck::cast_slice(rows);
        let offset = self.header.row_start(first);
        write_named(&self.dat, bytes, offset)?;
        let end = offset + bytes.len() as u64;
        if offset / WRITEBACK_BYTES != end / WRITEBACK_BYTES {
            let from = (offset / WRITEBACK_BYTES) * WRITEBACK_BYTES;
            self.disk.start_writeback(&self.dat.file, from, WRITEBACK_BYTES);
        }
        Ok(())
    }

    /// Refuses what must not be stored, before the first byte is written.
    fn check(&self, batch: Batch<'_>) -> Result<()> {
        self.check_writable()?;
        let rows = self.written.rows + batch.check(self.dim())?;
        if rows > MAX_ROWS { Err(Error::Full { rows, max: MAX_ROWS }) } else { Ok(()) }
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        match &self.poisoned {
            _ if !self.writable => Err(Error::ReadOnly),
            Some(first) => Err(Error::Poisoned { first: first.clone() }),
            None => Ok(()),
        }
    }

    /// The memory's part of [`append`](Self::append).
    pub(crate) fn publish(&mut self, appended: Result<Appended>) -> Result<()> {
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => return Err(self.failed(error)),
        };
        // A failed sync may have come in between: what it took back must not be built upon.
        self.check_writable()?;
        self.rows.id_at.extend_from_slice(&appended.rows.id_at);
        self.rows.crc.extend_from_slice(&appended.rows.crc);
        for (map, new) in [(&mut self.dat_map, appended.dat_map), (&mut self.idx_map, appended.idx_map)] {
            if let Some(new) = new {
                *map = Arc::new(new);
            }
        }
        self.written = appended.tip;
        self.clean = false;
        Ok(())
    }

    /// What there is to sync, if anything.
    pub(crate) fn pending(&self) -> Result<Option<Pending>> {
        self.check_writable()?;
        if self.durable.seq == self.written.seq {
            return Ok(None);
        }
        Ok(Some(Pending {
            tip: self.written.clone(),
            pair: [self.dat.clone(), self.idx.clone()],
            disk: self.disk.clone(),
        }))
    }

    /// Writes, unsynced, that a sequence is durable: a reader in another process waits for this record, and recovery
    /// takes it for proof. Returns the record; `None` if it could not be written (the next COMMIT says the same).
    pub(crate) fn note(&self, synced: &Result<u64>) -> Option<Vec<u8>> {
        let seq = *synced.as_ref().ok()?;
        if self.check_writable().is_err() || seq <= self.noted {
            return None;
        }
        let mut mark = Vec::new();
        record::push_durable(&mut mark, self.written.epoch, seq, &self.header.identity);
        write_named(&self.idx, &mark, self.written.idx_end).ok()?;
        Some(mark)
    }

    /// The memory's part of [`commit`](Self::commit).
    pub(crate) fn finish(
        &mut self,
        pending: Pending,
        synced: Result<u64>,
        noted: Option<Vec<u8>>,
    ) -> Result<()> {
        let seq = synced.map_err(|error| self.failed(error))?;
        self.check_writable()?;
        if pending.tip.seq > self.durable.seq {
            self.durable = pending.tip;
        }
        if let Some(mark) = noted {
            self.noted(seq, &mark);
        }
        Ok(())
    }

    fn noted(&mut self, seq: u64, mark: &[u8]) {
        self.noted = seq;
        self.passed(mark);
    }

    /// Moves the end of the log behind a mark that was written there.
    fn passed(&mut self, mark: &[u8]) {
        self.written.idx_end += mark.len() as u64;
        self.written.since_commit.extend_from_slice(mark);
    }

    /// Stops writing after an error that leaves the files in an unknown state: from now on reads show what was
    /// durable, and each write returns this error again.
    fn failed(&mut self, error: Error) -> Error {
        let harmless = planted::is(Bug::IgnoreFailedSync) || !error.stops_writing();
        if !harmless && self.poisoned.is_none() {
            self.poisoned = Some(Arc::new(error.clone()));
            self.written = self.durable.clone();
            self.rows.truncate(self.written.rows);
        }
        if planted::is(Bug::AppendAfterFailure) {
            self.written.idx_end = self.idx.len().unwrap_or(self.written.idx_end);
        }
        error
    }

    /// Commits, writes CLOSE and cuts both files to what counts. A handle that wrote nothing to a cleanly closed pair
    /// changes nothing. Dropping a handle without `close` loses no committed batch.
    pub fn close(mut self) -> Result<()> {
        self.close_in_place()
    }

    pub(crate) fn close_in_place(&mut self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.commit()?;
        if self.clean {
            return Ok(());
        }
        let rows_end = self.header.row_start(self.written.rows);
        let mut mark = Vec::new();
        let (epoch, seq) = (self.written.epoch, self.written.seq);
        record::push_close(&mut mark, epoch, seq, self.manifest, rows_end, &self.header.identity);
        let wrote = write_named(&self.idx, &mark, self.written.idx_end);
        wrote.map_err(|error| self.failed(error))?;
        self.passed(&mark);
        self.cut_to_written()?;
        let synced = self.sync_both();
        synced.map_err(|error| self.failed(error))?;
        self.clean = true;
        Ok(())
    }
}

impl Pending {
    /// Syncs both files at once; returns the sequence that is durable then.
    pub(crate) fn sync(&self) -> Result<u64> {
        let skipped = [Bug::SkipDatSync, Bug::SkipIdxSync].map(planted::is);
        let files: Vec<_> =
            self.pair.iter().zip(skipped).filter(|(_, skip)| !skip).map(|(named, _)| named).collect();
        let synced = sync_at_once(self.disk.as_ref(), &files);
        if planted::is(Bug::IgnoreFailedSync) {
            return Ok(self.tip.seq);
        }
        synced.map(|()| self.tip.seq)
    }
}

fn sync_at_once(disk: &dyn Disk, files: &[&Named]) -> Result<()> {
    let open: Vec<_> = files.iter().map(|named| named.file.clone()).collect();
    for (result, named) in disk.sync_data(&open).into_iter().zip(files) {
        result.map_err(|e| Error::SyncFailed { path: named.path.clone(), source: Arc::new(e) })?;
    }
    Ok(())
}

fn write_named(named: &Named, bytes: &[u8], offset: u64) -> Result<()> {
    write_all_at(named.file.as_ref(), bytes, offset).map_err(|e| Error::write(&named.path, offset, e))
}

/// Reads a range and writes the same bytes back.
fn write_again(named: &Named, range: std::ops::Range<u64>) -> Result<()> {
    let mut at = range.start;
    let mut buf = Vec::new();
    while at < range.end {
        let len = (range.end - at).min(PIECE_BYTES as u64);
        buf.resize(usize::try_from(len).unwrap_or(PIECE_BYTES), 0);
        named.read(&mut buf, at)?;
        write_named(named, &buf, at)?;
        at += len;
    }
    Ok(())
}

/// A new mapping if the old one does not reach `len`. The batch is on its way to the disk by now, so a failure leaves
/// an unknown state.
fn remap(named: &Named, old: &Mapping, len: u64) -> Result<Option<Mapping>> {
    if old.len() >= len {
        return Ok(None);
    }
    let failed = |e| Error::WriteFailed { path: named.path.clone(), offset: len, source: Arc::new(e) };
    named.file.map(len).map(Some).map_err(failed)
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory that holds `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Random bytes from the operating system.
pub(crate) fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::io(Path::new("the system's random source"), "read", io::Error::other(e)))?;
    Ok(bytes)
}
