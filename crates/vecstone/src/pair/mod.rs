//! One pair of files: [`VectorStorage`], through which a store writes, and which can be used alone.
//!
//! `format.md` says what is written. Recovery decides what counts, this module carries it out. `pair/append.rs` has the
//! write path on one screen, `pair/read.rs` what a handle that is used alone reads.

use crate::format::header::Header;
use crate::format::record::{self, FileRecord};
use crate::pair::files::{
    Files, StoreFile, new_identity, random, sync_at_once, sync_dir, with_suffix, write_again,
};
use crate::pair::recover::{LogPosition, Recovered};
use crate::pair::rows::RowTable;
use crate::sys::disk::{Dir, Disk, Mapping, Open, OsDisk};
use crate::sys::planted::{self, Bug};
use crate::types::config::check_dim;
use crate::types::element::Element;
use crate::types::error::{Error, Result};
use crate::types::id::{IdHasher, IdKind};
use crate::types::recovery::RecoveryReport;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod append;
pub(crate) mod files;
mod lines;
pub(crate) mod log;
mod read;
pub(crate) mod recover;
pub(crate) mod rows;
pub(crate) mod window;

pub(crate) use append::Effects;
pub(crate) use lines::{Kept, StoredLine};
pub use read::LogEntry;

/// One crash-safe pair of files: `NAME.dat` with the rows, `NAME.idx` with the log, and `NAME.jsonl` if a row has a
/// document. [`VectorStore`](crate::VectorStore) writes each of its segments through this type.
///
/// [`append`](Self::append) adds a batch, which counts wholly or not at all. A batch survives every crash once
/// [`commit`](Self::commit) has returned `Ok`. Rows are numbered from 0 in the order of writing.
///
/// A pair alone has no search, no segments, no threads and no lock: the caller allows one writer at a time. Ids may
/// repeat, and a delete keeps the rows: [`log`](Self::log) tells which row of an id is the last. A handle keeps 12
/// bytes in memory for a row, 24 where rows have documents.
///
/// ```
/// use vecstone::{LogEntry, Op, VectorStorage};
///
/// # fn main() -> vecstone::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("vecstone-pair-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).expect("a directory for the example");
/// let path = dir.join("pair");
/// let mut pair = VectorStorage::create(&path, 3)?;
/// let first = pair.append(&[Op::put("north", &[0.0, 1.0, 0.0]), Op::put("east", &[1.0, 0.0, 0.0])])?;
/// assert_eq!(first, 0);
/// pair.commit()?; // from here on a power cut takes nothing of this
/// pair.append(&[Op::delete("north")])?;
/// pair.close()?; // commits, too
///
/// let pair = VectorStorage::open(&path)?;
/// assert_eq!((pair.rows(), pair.dim()), (2, 3));
/// assert_eq!(pair.row(1)?, [1.0, 0.0, 0.0]); // not copied
/// assert_eq!(pair.read_row(1)?, [1.0, 0.0, 0.0]); // checked
/// let log = pair.log().collect::<vecstone::Result<Vec<_>>>()?;
/// assert_eq!(log[2], LogEntry::Delete { id: "north".into() });
/// # drop(pair);
/// # std::fs::remove_dir_all(&dir).expect("the example removes its files");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct VectorStorage {
    dir: Dir,
    files: Files,
    header: Header,
    hasher: IdHasher,
    /// The MANIFEST number that COMMITs are written under; 0 for a pair alone.
    manifest: u64,
    /// The end of what was appended.
    written: LogPosition,
    /// The end of what all files were synced for.
    durable: LogPosition,
    /// The last sequence that the log itself says is durable.
    durable_in_log: u64,
    /// The log ends in CLOSE, and the files end where it says.
    clean: bool,
    /// This handle made the documents' file, for a batch that may have failed.
    made_jsonl: bool,
    health: Health,
    /// Both files, mapped up to the last batch that was appended.
    dat_map: Option<Arc<Mapping>>,
    idx_map: Option<Arc<Mapping>>,
    /// Of a pair that is used alone: a store finds rows through its segments.
    table: Option<RowTable>,
    report: RecoveryReport,
}

/// Whether a handle may write.
#[derive(Debug)]
enum Health {
    Writable,
    ReadOnly,
    /// An error left the files in an unknown state.
    Failed(Arc<Error>),
}

/// What a sync is to make durable. It needs nothing of the pair, so that the next batch is appended meanwhile.
#[derive(Debug)]
pub(crate) struct PendingSync {
    position: LogPosition,
    files: Files,
    dir: Dir,
}

impl VectorStorage {
    /// Makes the pair `path.dat` and `path.idx` for vectors of `dim` components, durably.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; [`Error::AlreadyExists`] if `path.dat`, `path.idx` or `path.jsonl` is there;
    /// [`Error::NoSpace`], [`Error::Io`].
    pub fn create(path: impl AsRef<Path>, dim: u32) -> Result<VectorStorage> {
        Self::create_on(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), path.as_ref(), dim)
    }

    pub(crate) fn create_on(disk: &Arc<dyn Disk>, path: &Path, dim: u32) -> Result<VectorStorage> {
        check_dim(dim)?;
        let identity = new_identity(random()?, 1)?;
        let header = Header { dim, element: Element::F32, identity };
        let (dir, path) = Dir::of_file(disk, path).map_err(|e| Error::io(path, "create", e))?;
        for path in [".dat", ".idx", ".jsonl"].map(|suffix| with_suffix(&path, suffix)) {
            match dir.open_file(&path, Open::Read) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                _ => return Err(Error::AlreadyExists { path }),
            }
        }
        let file = FileRecord { header, seq: 0, chain: [0; 16] };
        let pair = Self::create_in(&dir, &path, file, 0).map_err(Error::abandoned)?;
        sync_dir(&dir)?;
        pair.standalone(RowTable::default())
    }

    /// Opens the pair `path.dat` and `path.idx` for writing and recovers it: drops what no durable batch needs and
    /// makes everything else durable. O(length of `.idx` + bytes of rows not proven durable).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotAStore`]; [`Error::Corrupt`] if a durable batch is damaged (nothing is changed
    /// then); [`Error::Unsupported`]; [`Error::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<VectorStorage> {
        Self::open_on(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), path.as_ref(), true)
    }

    /// Opens a pair for reading: the same state as [`open`](Self::open), in memory only. Writes nothing and needs no
    /// write permission.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<VectorStorage> {
        Self::open_on(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), path.as_ref(), false)
    }

    pub(crate) fn open_on(disk: &Arc<dyn Disk>, path: &Path, writable: bool) -> Result<VectorStorage> {
        let (dir, path) = Dir::of_file(disk, path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: with_suffix(path, ".dat") },
            _ => Error::io(path, "open", e),
        })?;
        let files = Files::open(&dir, &path, writable)?;
        let mut found = recover::recover(&files, None, 0)?;
        let table = std::mem::take(&mut found.rows);
        let mut pair = Self::recovered(&dir, files, &found, 0);
        if writable {
            pair.make_recovered_durable()?;
        } else {
            pair.health = Health::ReadOnly;
        }
        pair.standalone(table)
    }

    /// The same pair, for a caller who reads through it, too.
    fn standalone(mut self, table: RowTable) -> Result<VectorStorage> {
        let dat_end = self.header.row_start(self.written.rows);
        self.dat_map = Some(Arc::new(self.files.dat.map(dat_end)?));
        self.idx_map = Some(Arc::new(self.files.idx.map(self.written.idx_end)?));
        self.table = Some(table);
        Ok(self)
    }

    // ---- for a store ----

    /// Makes both files and syncs them; the directory is the caller's to sync. If it fails, those that it has made are
    /// removed, and no others.
    pub(crate) fn create_in(
        dir: &Dir,
        path: &Path,
        file: FileRecord,
        manifest: u64,
    ) -> Result<VectorStorage> {
        let mut made = Vec::new();
        let mut create = |path: PathBuf| match dir.open_file(&path, Open::CreateNew) {
            Ok(file) => {
                made.push(path.clone());
                Ok(StoreFile { path, file })
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists { path }),
            Err(e) => Err(Error::io(&path, "create", e)),
        };
        let written = create(with_suffix(path, ".dat")).and_then(|dat| {
            let idx = create(with_suffix(path, ".idx"))?;
            dat.write(&file.header.encode(), 0)?;
            idx.write(&file.encode(), 0)?;
            if !planted::is(Bug::SkipPairSync) {
                sync_at_once(dir, &[&dat, &idx])?;
            }
            Ok(Files { dat, idx, jsonl: None })
        });
        if written.is_err() && planted::is(Bug::RemoveOthersFiles) {
            made = vec![with_suffix(path, ".dat"), with_suffix(path, ".idx")];
        }
        let files = written.inspect_err(|_| made.iter().for_each(|path| _ = dir.unlink(path)))?;
        let position = LogPosition::start(&file);
        Ok(Self::at(dir, files, file.header, position.clone(), position, manifest))
    }

    /// The pair that recovery found; nothing is written before
    /// [`make_recovered_durable`](Self::make_recovered_durable).
    pub(crate) fn recovered(dir: &Dir, files: Files, found: &Recovered, manifest: u64) -> VectorStorage {
        let pair = Self::at(dir, files, found.header, found.position.clone(), found.proven.clone(), manifest);
        Self { clean: found.report.clean, report: found.report.clone(), ..pair }
    }

    fn at(
        dir: &Dir,
        files: Files,
        header: Header,
        written: LogPosition,
        durable: LogPosition,
        manifest: u64,
    ) -> VectorStorage {
        VectorStorage {
            dir: dir.clone(),
            files,
            header,
            hasher: IdHasher::new(&header.identity.uuid),
            manifest,
            durable_in_log: durable.seq,
            written,
            durable,
            clean: false,
            made_jsonl: false,
            health: Health::Writable,
            dat_map: None,
            idx_map: None,
            table: None,
            report: RecoveryReport::default(),
        }
    }

    /// The files that this handle has made, for a caller who gives the pair up.
    pub(crate) fn made(&self) -> Vec<PathBuf> {
        let mut made = vec![self.files.dat.path.clone(), self.files.idx.path.clone()];
        if self.made_jsonl {
            made.push(self.files.dat.path.with_extension("jsonl"));
        }
        made
    }

    /// Writes the unproven end of the files again and syncs it; then says in the log that it is durable, and cuts
    /// what is behind.
    ///
    /// Reading it proved only that the page cache has it: a page whose write-back once failed is clean there and lost
    /// on the disk. Written again it is dirty, and the sync tells the truth. The new DURABLE record takes the place
    /// of whatever proof is cut off.
    pub(crate) fn make_recovered_durable(&mut self) -> Result<()> {
        if self.clean {
            return Ok(());
        }
        if self.written.docs_end == 0
            && let Some(jsonl) = self.files.jsonl.take()
        {
            // No COMMIT names it: the batch that made it never counted.
            self.dir.unlink(&jsonl.path).map_err(|e| Error::io(&jsonl.path, "remove", e))?;
        }
        let trusting = planted::is(Bug::TrustPageCache);
        if !trusting {
            // The marks behind the last COMMIT too: their sync may have failed.
            for (named, end, durable) in self.ends() {
                write_again(named, durable..end)?;
            }
        }
        if self.durable.seq < self.written.seq && !trusting {
            self.sync_all()?;
        }
        self.durable = self.written.clone();
        self.written.epoch = self.written.epoch.saturating_add(1);
        self.durable_in_log = 0;
        if !planted::is(Bug::ForgetProof) {
            _ = self.write_durable_mark(self.durable.seq);
        }
        self.cut_to_written()?;
        if trusting { Ok(()) } else { self.sync_all() }
    }

    /// Each file with the end of what was written and of what is durable.
    fn ends(&self) -> impl Iterator<Item = (&StoreFile, u64, u64)> {
        let (written, durable) = (&self.written, &self.durable);
        let rows = |position: &LogPosition| self.header.row_start(position.rows);
        let pair = [
            (&self.files.dat, rows(written), rows(durable)),
            (&self.files.idx, written.idx_end, durable.idx_end),
        ];
        let jsonl = self.files.jsonl.as_ref().map(|jsonl| (jsonl, written.docs_end, durable.docs_end));
        pair.into_iter().chain(jsonl)
    }

    /// Cuts what is behind the end of what counts.
    fn cut_to_written(&self) -> Result<()> {
        for (named, end, _) in self.ends() {
            if named.len()? > end {
                named.file.set_len(end).map_err(|e| Error::io(&named.path, "cut the end of", e))?;
            }
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        sync_at_once(&self.dir, &self.files.all())
    }

    // ---- committing ----

    /// Makes everything appended so far durable. O(bytes since the last commit), and one sync of each file; without an
    /// append since then it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::SyncFailed`]: unknown which batches since the last commit survive. Writing stops, and reads show what is
    /// durable. [`Error::Poisoned`] after such an error; [`Error::ReadOnly`].
    pub fn commit(&mut self) -> Result<()> {
        let Some(pending) = self.begin_commit()? else { return Ok(()) };
        let synced = pending.sync();
        self.finish_commit(pending, synced)
    }

    /// What there is to sync, if anything.
    pub(crate) fn begin_commit(&self) -> Result<Option<PendingSync>> {
        self.check_writable()?;
        if self.durable.seq == self.written.seq {
            return Ok(None);
        }
        Ok(Some(PendingSync {
            position: self.written.clone(),
            files: self.files.clone(),
            dir: self.dir.clone(),
        }))
    }

    /// Takes in what came of a sync.
    pub(crate) fn finish_commit(&mut self, pending: PendingSync, synced: Result<()>) -> Result<()> {
        synced.map_err(|error| self.failed(error))?;
        self.check_writable()?;
        // Where it cannot be written nothing is lost: the next COMMIT says the same.
        _ = self.write_durable_mark(pending.position.seq);
        if pending.position.seq > self.durable.seq {
            self.durable = pending.position;
        }
        Ok(())
    }

    /// Writes, unsynced, that a sequence is durable, if the log does not say so yet: a reader in another process waits
    /// for this record, and recovery takes it for proof.
    fn write_durable_mark(&mut self, seq: u64) -> Result<()> {
        if seq <= self.durable_in_log {
            return Ok(());
        }
        let mut mark = Vec::new();
        record::push_durable(&mut mark, self.written.epoch, seq, &self.header.identity);
        self.write_mark(&mark).map_err(Error::abandoned)?;
        self.durable_in_log = seq;
        Ok(())
    }

    /// Writes a record that belongs to no batch, and moves the end of the log behind it.
    fn write_mark(&mut self, mark: &[u8]) -> Result<()> {
        self.files.idx.write(mark, self.written.idx_end)?;
        self.written.idx_end += mark.len() as u64;
        self.written.since_commit.extend_from_slice(mark);
        Ok(())
    }

    /// The CLOSE that was found may be in the page cache only, if its sync failed: what is built upon it is written
    /// together with it.
    fn write_marks_again(&self) -> Result<()> {
        if !self.clean || planted::is(Bug::TrustClose) {
            return Ok(());
        }
        let marks = &self.written.since_commit;
        self.files.idx.write(marks, self.written.idx_end - marks.len() as u64)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        match &self.health {
            Health::Writable => Ok(()),
            Health::ReadOnly => Err(Error::ReadOnly),
            Health::Failed(first) => Err(Error::Poisoned { first: first.clone() }),
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.health, Health::Failed(_))
    }

    /// Stops writing after an error that leaves the files in an unknown state: from now on reads show what was
    /// durable, and each write returns this error again.
    pub(crate) fn failed(&mut self, error: Error) -> Error {
        let harmless = planted::is(Bug::IgnoreFailedSync) || !error.stops_writing();
        if !harmless && !self.has_failed() {
            self.health = Health::Failed(Arc::new(error.clone()));
            self.written = self.durable.clone();
            if let Some(table) = &mut self.table {
                table.truncate(self.written.rows);
            }
        }
        if planted::is(Bug::AppendAfterFailure) {
            self.written.idx_end = self.files.idx.len().unwrap_or(self.written.idx_end);
        }
        error
    }

    // ---- ending ----

    /// Commits, marks the log as closed and cuts the files to what counts. A handle that appended nothing to a cleanly
    /// closed pair changes nothing. Dropping a handle without `close` loses no committed batch.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit); [`Error::NoSpace`], [`Error::Io`]: everything is durable, the mark may be missing. A
    /// handle that only reads has none.
    pub fn close(mut self) -> Result<()> {
        if matches!(self.health, Health::ReadOnly) { Ok(()) } else { self.end_cleanly() }
    }

    /// Commits, writes CLOSE and cuts the files to what counts. Does nothing if nothing was written since the last
    /// CLOSE.
    pub(crate) fn end_cleanly(&mut self) -> Result<()> {
        self.commit()?;
        if self.clean {
            // A batch that failed may have left something behind.
            return self.cut_to_written();
        }
        let rows_end = self.header.row_start(self.written.rows);
        let mut mark = Vec::new();
        let (epoch, seq) = (self.written.epoch, self.written.seq);
        record::push_close(&mut mark, epoch, seq, self.manifest, rows_end, &self.header.identity);
        self.write_mark(&mark).map_err(|error| self.failed(error))?;
        if self.files.jsonl.is_none() && self.made_jsonl {
            _ = self.dir.unlink(&self.files.dat.path.with_extension("jsonl"));
        }
        self.cut_to_written()?;
        self.sync_all().map_err(|error| self.failed(error))?;
        self.clean = true;
        Ok(())
    }

    /// Makes all of it durable and cuts the files to it: what a segment needs to be sealed.
    pub(crate) fn end_here(&mut self) -> Result<()> {
        self.commit()?;
        if !planted::is(Bug::UnmarkedEnd) {
            // A list of dead rows must not show what a reader takes for unproven.
            self.write_durable_mark(self.durable.seq)?;
        }
        let ended =
            self.write_marks_again().and_then(|()| self.cut_to_written()).and_then(|()| self.sync_all());
        ended.map_err(|error| self.failed(error))
    }

    /// Writes behind FILE what a compacted segment was made from.
    pub(crate) fn write_base(&mut self, seq: u64, inputs: &[u64]) -> Result<()> {
        let mut base = Vec::new();
        record::push_base(&mut base, seq, inputs, &self.header.identity);
        self.write_mark(&base)
    }

    /// The same pair under a newer MANIFEST.
    pub(crate) fn set_manifest(&mut self, manifest: u64) {
        self.manifest = manifest;
        self.clean = false;
    }

    // ---- what there is ----

    /// Number of rows, those of deleted ids included.
    pub fn rows(&self) -> u64 {
        self.written.rows
    }

    /// Components of a row.
    pub fn dim(&self) -> usize {
        self.header.dim as usize
    }

    /// Kind of the ids, which the first append decides; `None` before.
    pub fn kind(&self) -> Option<IdKind> {
        self.written.kind
    }

    /// What opening found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The end of what was appended.
    pub(crate) fn written(&self) -> &LogPosition {
        &self.written
    }

    /// Whether the files end where a CLOSE record says.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    /// The rows, mapped; none before the first append.
    pub(crate) fn dat_map(&self) -> Option<&Arc<Mapping>> {
        self.dat_map.as_ref()
    }

    /// Goes on with mappings that readers have already.
    pub(crate) fn share_maps(&mut self, dat: Option<Arc<Mapping>>, idx: Arc<Mapping>) {
        (self.dat_map, self.idx_map) = (dat, Some(idx));
    }
}

impl PendingSync {
    /// Syncs all files at once: the disk begins with all of them, then each is waited for.
    pub(crate) fn sync(&self) -> Result<()> {
        let skipped = [Bug::SkipDatSync, Bug::SkipIdxSync, Bug::SkipJsonlSync].map(planted::is);
        let files: Vec<_> = self
            .files
            .all()
            .into_iter()
            .zip(skipped)
            .filter(|(_, skip)| !skip)
            .map(|(named, _)| named)
            .collect();
        let synced = sync_at_once(&self.dir, &files);
        if planted::is(Bug::IgnoreFailedSync) { Ok(()) } else { synced }
    }
}
