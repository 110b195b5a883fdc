//! A directory of vectors: ids, live rows, search. The only module that knows all others.

use crate::batch::{Batch, Op};
use crate::config::{Element, Metric, check_dim, check_finite};
use crate::directory;
use crate::disk::{Disk, DiskFile, OsDisk};
use crate::distance::reported;
use crate::error::{Error, Result};
use crate::format::Identity;
use crate::format::header::Header;
use crate::format::manifest::{Manifest, SegmentEntry};
use crate::index::{Index, rows_in};
use crate::planted::{self, Bug};
use crate::recover::{self, RecoveryReport};
use crate::search::{Neighbor, nearest};
use crate::stats::{FileBytes, Memory, Stats};
use crate::storage::{VectorStorage, random};
use crate::verify::{VerifyReport, as_damage};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::Duration;

/// An embedded vector store: a directory that one process writes and any number read.
///
/// Every method takes `&self` and may be called from any thread. Ids are unique: a put of a stored id replaces its
/// vector. A write is visible when it returns and durable when a later [`flush`](Self::flush) or
/// [`close`](Self::close) has returned `Ok`; a crash keeps whole batches only, in the order of writing.
#[derive(Debug)]
pub struct VectorStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    manifest: Manifest,
    /// What readers look at; changed only in memory, so that nobody waits here for a write or a sync.
    inner: RwLock<Inner>,
    /// The writer's place: held while a batch is written.
    writer: Mutex<()>,
    /// Held while the files are synced; writers go on meanwhile.
    flusher: Mutex<()>,
    recovery: RecoveryReport,
    /// Held as long as the store is open for writing.
    _lock: Option<Arc<dyn DiskFile>>,
}

#[derive(Debug)]
struct Inner {
    storage: VectorStorage,
    index: Index,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    strict: bool,
    lock_wait: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { strict: false, lock_wait: directory::LOCK_WAIT }
    }
}

impl OpenOptions {
    /// The defaults: recover what a crash left, wait 250 ms for the lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses, with [`Error::NotClean`], a store that its last writer did not close: there, and only there, nobody
    /// can tell a last batch that never became durable from one that was damaged later. Changes nothing then.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// How long to wait for another writer to let go of the store.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }
}

/// Heap bytes of a handle itself: paths, files, MANIFEST, the sync thread's channel. Measured; see `tests/heap.rs`.
const HANDLE_HEAP: u64 = 3 << 10;

/// A reader that meets a writer in the middle of a write reads again so often.
const READER_TRIES: usize = 5;
const READER_PAUSE: Duration = Duration::from_millis(10);

impl VectorStore {
    /// Makes a store at `path` for vectors of `dim` components, durably. Starts over what an interrupted creation
    /// left.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; [`Error::AlreadyExists`] or [`Error::NotAStore`] if the directory holds anything else.
    pub fn create(path: impl AsRef<Path>, dim: u32, metric: Metric) -> Result<VectorStore> {
        let identity = Identity { uuid: random()?, segment: 1, salt: random()? };
        Self::create_on(Arc::new(OsDisk::default()), path.as_ref(), dim, metric, identity)
    }

    /// Opens a store for writing: takes its lock and recovers it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::HalfMade`], [`Error::NotAStore`]; [`Error::Locked`] while another process writes;
    /// [`Error::Corrupt`] if something durable is damaged (nothing is changed then).
    pub fn open(path: impl AsRef<Path>) -> Result<VectorStore> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens a store for writing, with options.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<VectorStore> {
        Self::open_on(Arc::new(OsDisk::default()), path.as_ref(), options)
    }

    /// Opens a store for reading: writes nothing, needs no write permission, and works beside a live writer, of which
    /// it shows what is durable now.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<VectorStore> {
        Self::open_read_only_on(Arc::new(OsDisk::default()), path.as_ref())
    }

    /// Checks every byte of the store at `path`, even of one too damaged to open.
    ///
    /// # Errors
    ///
    /// What keeps the files from being read; damage is in the report.
    pub fn verify_path(path: impl AsRef<Path>) -> Result<VerifyReport> {
        Self::open_read_only(path).and_then(|store| store.verify()).or_else(as_damage)
    }

    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        dim: u32,
        metric: Metric,
        identity: Identity,
    ) -> Result<VectorStore> {
        check_dim(dim)?;
        let lock = directory::make_directory(disk.as_ref(), dir)?;
        let header = Header { dim, element: Element::F32, identity };
        let manifest = directory::first_manifest(&header, metric);
        let pair = directory::pair_path(dir, identity.segment);
        let storage = VectorStorage::create_on(disk.clone(), &pair, header, manifest.number)?;
        disk.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))?;
        directory::replace_manifest(disk.as_ref(), dir, &manifest)?;
        Self::assemble(disk, dir, manifest, storage, Some(lock))
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: &OpenOptions) -> Result<VectorStore> {
        // Before LOCK is made: a path that is no store stays as it is.
        directory::read_manifest(disk.as_ref(), dir)?;
        let lock = directory::lock(disk.as_ref(), dir, options.lock_wait)?;
        let manifest = directory::read_manifest(disk.as_ref(), dir)?;
        let (mut storage, closed_under) = open_segment(&disk, dir, &manifest, true)?;
        if options.strict && !storage.is_clean() {
            let [_, idx] = storage.files();
            return Err(Error::NotClean { path: idx.path.clone(), report: storage.recovery().clone() });
        }
        if closed_under != Some(manifest.number) && !planted::is(Bug::SkipSettling) {
            directory::settle_manifest(disk.as_ref(), dir)?;
        }
        storage.make_recovered_durable()?;
        Self::assemble(disk, dir, manifest, storage, Some(lock))
    }

    pub(crate) fn open_read_only_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<VectorStore> {
        let mut tries = 1;
        loop {
            let writer_before = directory::writer_lives(disk.as_ref(), dir)?;
            let manifest = directory::read_manifest(disk.as_ref(), dir)?;
            let opened = open_segment(&disk, dir, &manifest, false);
            let writer = writer_before || directory::writer_lives(disk.as_ref(), dir)?;
            match opened {
                // The file changed while it was read.
                Err(error) if error.may_be_a_race() && writer && tries < READER_TRIES => {
                    thread::sleep(READER_PAUSE);
                    tries += 1;
                }
                Err(error) => return Err(error),
                Ok((mut storage, _)) => {
                    if writer {
                        storage.keep_proven();
                    }
                    return Self::assemble(disk, dir, manifest, storage, None);
                }
            }
        }
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        dir: &Path,
        manifest: Manifest,
        storage: VectorStorage,
        lock: Option<Arc<dyn DiskFile>>,
    ) -> Result<VectorStore> {
        let index = Index::build(&storage)?;
        Ok(VectorStore {
            disk,
            dir: dir.to_owned(),
            manifest,
            recovery: storage.recovery().clone(),
            inner: RwLock::new(Inner { storage, index }),
            writer: Mutex::new(()),
            flusher: Mutex::new(()),
            _lock: lock,
        })
    }

    // ---- writing: one screen ----

    /// Stores a vector of `dim` finite components under an id, or replaces it.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn put(&self, id: &str, vector: &[f32]) -> Result<()> {
        self.write(Batch::Ops(&[Op::Put { id, vector }]))
    }

    /// Stores a batch, all or nothing: `vectors` holds `ids.len()` rows of `dim` components, one after the other. Of an
    /// id that comes twice the last row counts.
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`], [`Error::NonFinite`], [`Error::InvalidId`], [`Error::BatchTooLarge`],
    /// [`Error::Full`] and [`Error::NoSpace`]: nothing of the batch is stored, the store goes on.
    /// [`Error::WriteFailed`] and [`Error::Poisoned`]: writing stops, reopen the store.
    pub fn put_many(&self, ids: &[impl AsRef<str>], vectors: &[f32]) -> Result<()> {
        let dim = self.dim();
        if ids.len().checked_mul(dim) != Some(vectors.len()) {
            return Err(Error::CountMismatch { ids: ids.len(), components: vectors.len(), dim });
        }
        let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
        self.write(Batch::Rows { ids: &ids, vectors, dim })
    }

    /// Deletes an id; `false` if it was not there, and nothing is written then.
    pub fn delete(&self, id: &str) -> Result<bool> {
        Ok(self.delete_many(&[id])? == 1)
    }

    /// Deletes several ids in one batch; returns how many were there.
    pub fn delete_many(&self, ids: &[impl AsRef<str>]) -> Result<usize> {
        let place = self.writers_place();
        let batch = {
            let inner = self.read();
            let mut stored: Vec<&str> = ids
                .iter()
                .map(AsRef::as_ref)
                .filter(|id| inner.index.find(&inner.storage, id).is_some())
                .collect();
            stored.sort_unstable();
            stored.dedup();
            inner.storage.check_writable()?;
            stored.into_iter().map(|id| Op::Delete { id }).collect::<Vec<_>>()
        };
        self.write_in_place(&place, Batch::Ops(&batch))?;
        Ok(batch.len())
    }

    /// Returns when everything written before is durable. Writers and readers go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::SyncFailed`]: whether what was written since the last flush survives is unknown; reads show the last
    /// durable state, writing stops, reopen the store.
    pub fn flush(&self) -> Result<()> {
        let _turn = self.flusher.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pending) = self.read().storage.pending()? else { return Ok(()) };
        let synced = pending.sync();
        let _place = self.writers_place();
        let noted = self.read().storage.note(&synced);
        let mut inner = self.change();
        let finished = inner.storage.finish(pending, synced, noted);
        inner.after_failure(&finished)?;
        finished
    }

    fn write(&self, batch: Batch<'_>) -> Result<()> {
        self.write_in_place(&self.writers_place(), batch)
    }

    fn write_in_place(&self, _place: &MutexGuard<'_, ()>, batch: Batch<'_>) -> Result<()> {
        if batch.len() == 0 {
            return self.read().storage.check_writable();
        }
        let appended = self.read().storage.write(batch);
        let mut inner = self.change();
        let mut row = inner.storage.rows();
        let published = inner.storage.publish(appended);
        inner.after_failure(&published)?;
        published?;
        let Inner { storage, index } = &mut *inner;
        index.expect(batch.len());
        for op in batch.ops() {
            match op {
                Op::Put { id, .. } => {
                    index.put(storage, id, row);
                    row += 1;
                }
                Op::Delete { id } => _ = index.remove(storage, id),
            }
        }
        Ok(())
    }

    /// Flushes, marks the store as closed cleanly and lets go of the lock.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush). Dropping the store does the same but can report nothing.
    pub fn close(self) -> Result<()> {
        // Dropping `self` afterwards finds nothing left to do, or the same failure.
        self.change().storage.close_in_place()
    }

    fn writers_place(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- reading ----

    /// The vector of an id, its checksum checked; `None` if the id is not there. O(1), one system call.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the stored bytes are not what was written; [`Error::Io`].
    pub fn get(&self, id: &str) -> Result<Option<Vec<f32>>> {
        let inner = self.read();
        let row = inner.index.find(&inner.storage, id);
        row.map(|row| inner.storage.read_row(row)).transpose()
    }

    /// Whether an id is there. O(1).
    pub fn contains(&self, id: &str) -> bool {
        let inner = self.read();
        inner.index.find(&inner.storage, id).is_some()
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.read().index.len()
    }

    /// True if there is no id.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ids and vectors in the order of writing, as they are now: later writes do not show. Takes one bit a row.
    pub fn iter(&self) -> Iter<'_> {
        let inner = self.read();
        Iter { store: self, live: inner.index.live().to_vec(), next: 0 }
    }

    /// The `k` ids nearest to `query` in the store's metric, nearest first; the older of two at the same distance. Exact.
    /// O(rows * dim) on all cores.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`], [`Error::NonFinite`]; [`Error::Corrupt`] if a result is not what was written.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Neighbor>> {
        if query.len() != self.dim() {
            return Err(Error::DimensionMismatch { expected: self.dim(), found: query.len() });
        }
        check_finite(0, query)?;
        let inner = self.read();
        let metric = self.metric();
        let found = nearest(&inner.storage, inner.index.live(), metric, query, k)?;
        let neighbor = |candidate: crate::search::Candidate| {
            inner.storage.check_mapped(candidate.row)?;
            let id = inner.storage.id(candidate.row)?.to_owned();
            Ok(Neighbor { id, distance: reported(metric, candidate.distance) })
        };
        found.into_iter().map(neighbor).collect()
    }

    // ---- about the store ----

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.manifest.dim as usize
    }

    /// How distances are measured.
    pub fn metric(&self) -> Metric {
        self.manifest.metric
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// What opening found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Rows, bytes on the disk and bytes in memory. O(pages of the mapped files).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be looked at.
    pub fn stats(&self) -> Result<Stats> {
        let inner = self.read();
        let (side, side_allocated) = directory::side_bytes(self.disk.as_ref(), &self.dir)?;
        let mut bytes = FileBytes { side, allocated: side_allocated, ..FileBytes::default() };
        let [dat, idx] = inner.storage.files();
        for (named, len) in [(dat, &mut bytes.dat), (idx, &mut bytes.idx)] {
            *len = named.len()?;
            bytes.allocated +=
                named.file.allocated().map_err(|e| Error::io(&named.path, "read the allocated size", e))?;
        }
        bytes.total = bytes.dat + bytes.idx + bytes.side;
        let (rows, live) = (inner.storage.rows(), inner.index.len() as u64);
        let raw = live * inner.storage.header().stride();
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let overhead = if live == 0 { 0.0 } else { bytes.total as f64 / raw as f64 };
        let (rows_heap, mapped, resident) = inner.storage.memory();
        let heap = rows_heap + inner.index.heap() + HANDLE_HEAP;
        Ok(Stats {
            rows,
            live,
            dead: rows - live,
            dim: self.manifest.dim,
            metric: self.metric(),
            element: self.manifest.element,
            segments: self.manifest.segments.len() as u64,
            bytes,
            overhead,
            memory: Memory { heap, mapped, resident },
        })
    }

    /// Checks every byte that counts: MANIFEST, the log with its chain, every row. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read; damage is in the report, not an error.
    pub fn verify(&self) -> Result<VerifyReport> {
        // Copies, so that nobody waits for the reading.
        let checked = self.read().storage.to_check();
        let mut report = checked.verify()?;
        let path = directory::manifest_path(&self.dir);
        report.bytes += self.manifest.encode().len() as u64;
        match directory::read_manifest(self.disk.as_ref(), &self.dir) {
            Ok(found) if found == self.manifest => {}
            Ok(_) => report.add(&path, 0, "MANIFEST is not the one this store was opened with"),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => report.add(&path, 0, error.to_string()),
        }
        Ok(report)
    }
}

impl Inner {
    /// After writing stopped, the index has to forget what is not durable.
    fn after_failure(&mut self, outcome: &Result<()>) -> Result<()> {
        if outcome.is_err() && self.storage.is_poisoned() {
            self.index = Index::build(&self.storage)?;
        }
        Ok(())
    }
}

impl Drop for VectorStore {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; what was flushed is safe whatever happens here.
        _ = self.change().storage.close_in_place();
    }
}

/// Opens the segment that MANIFEST names and compares the two; also returns the MANIFEST number of the CLOSE it
/// ends in.
fn open_segment(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    manifest: &Manifest,
    writable: bool,
) -> Result<(VectorStorage, Option<u64>)> {
    let path = directory::manifest_path(dir);
    let [segment @ SegmentEntry { sealed: None, .. }] = manifest.segments.as_slice() else {
        let found = manifest.segments.len() as u64;
        return Err(Error::Unsupported { path, what: "number of segments", found, supported: 1 });
    };
    let pair = directory::pair_path(dir, segment.number);
    let (dat, idx) =
        VectorStorage::open_files(disk.as_ref(), &pair, writable).map_err(|error| match error {
            Error::NotFound { path } => Error::corrupt(&path, 0, "the file that MANIFEST names is missing"),
            error => error,
        })?;
    let found = recover::recover(&dat, &idx).map_err(|error| match error {
        Error::NotAStore { path, why } => Error::corrupt(&path, 0, why),
        error => error,
    })?;
    let identity = Identity { uuid: manifest.uuid, segment: segment.number, salt: segment.salt };
    if found.header != (Header { dim: manifest.dim, element: manifest.element, identity }) {
        return Err(Error::corrupt(&dat.path, 0, "the file is not the one that MANIFEST names"));
    }
    if found.manifest > manifest.number {
        return Err(Error::corrupt(&path, 0, "the log knows a newer MANIFEST: this one is an old copy"));
    }
    let closed_under = found.closed_under;
    let storage = VectorStorage::assemble(disk.clone(), dat, idx, found, manifest.number, writable)?;
    Ok((storage, closed_under))
}

/// Ids and vectors of a store, in the order of writing.
#[derive(Debug)]
pub struct Iter<'a> {
    store: &'a VectorStore,
    live: Vec<u64>,
    next: u64,
}

impl Iterator for Iter<'_> {
    type Item = Result<(String, Vec<f32>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = rows_in(&self.live, self.next..self.live.len() as u64 * 64).next();
        self.next = row.map_or(u64::MAX, |row| row + 1);
        let row = row?;
        let inner = self.store.read();
        let item =
            inner.storage.read_row(row).and_then(|vector| Ok((inner.storage.id(row)?.to_owned(), vector)));
        Some(item)
    }
}
