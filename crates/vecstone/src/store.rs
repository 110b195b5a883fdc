//! A directory of vectors: what a user holds.

use crate::backup::{self, BackupReport};
use crate::batch::{self, Batch, Op, RowSource, copy_in_pieces};
use crate::buffer::{self, Chunk};
use crate::close;
use crate::compact::{CompactProgress, CompactReport};
use crate::config::{Element, Metric, Schema, check_dim};
use crate::dimless::Dimless;
use crate::directory;
use crate::disk::{Disk, DiskFile, OsDisk};
use crate::document::one_line;
use crate::engine::{Engine, Goal};
use crate::error::{Error, Result};
use crate::files::random;
use crate::filter::Filter;
use crate::format::Identity;
use crate::format::header::Header;
use crate::format::manifest::{Manifest, SegmentEntry};
use crate::format::record::FileRecord;
use crate::id::{AsId, Id, IdKind, IdRef};
use crate::many::{self, check_rows};
use crate::open::{How, Opened, open_segments};
use crate::pair::Pair;
use crate::planted::{self, Bug};
use crate::reader::Reader;
use crate::recover::RecoveryReport;
use crate::repair::{self, RepairReport};
use crate::search::{Hits, SearchOptions};
use crate::settings::{Durability, OpenOptions};
use crate::snapshot::{self, Iter, Snapshot};
use crate::stats::{self, Stats};
use crate::sync::ArcSwap;
use crate::verify::{self, VerifyReport, as_damage};
use crate::view::{At, View, check_len};
use arc_swap::Guard;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

mod now;

/// An embedded vector store: a directory that one process writes and any number read.
///
/// Every method takes `&self` and may be called from any thread. Ids are unique: a put of a stored id replaces its
/// vector and its document. A write is visible to this handle when it returns; it is durable when it was made with
/// [`Durability::Sync`], when a later [`flush`](Self::flush) or [`close`](Self::close) has returned `Ok`, or, without
/// any call, within the flush interval. A crash keeps whole batches only, in the order of writing.
#[derive(Debug)]
pub struct VectorStore {
    /// Not there while the store has no dimension and this handle may fix it.
    role: OnceLock<Role>,
    /// What fixes it.
    dimless: Option<Dimless>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// As the store was opened: [`dim`](Self::dim) knows of a dimension that was fixed since.
    schema: Schema,
    recovery: RecoveryReport,
    /// Threads of a search; 0: not said.
    threads: usize,
    /// What a forked child of the process that opened the store reads.
    forked: OnceLock<Snapshot>,
    /// Held as long as the store is open for writing.
    _lock: Option<Arc<dyn DiskFile>>,
}

/// What a look at an id found.
enum Looked<T> {
    /// What the buffer says; `None` if the id is not there, in the files neither.
    Buffer(Option<T>),
    /// A row of the files.
    Files(Guard<Arc<View>>, At),
    /// This handle has no buffer: its snapshot knows.
    Ask(Snapshot),
}

#[derive(Debug)]
enum Role {
    Writer(Arc<Engine>),
    Reader(Box<Reader>),
}

impl VectorStore {
    /// Makes a store at `path` for vectors of `dim` components, durably. Starts over what an interrupted creation
    /// left.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; [`Error::AlreadyExists`] or [`Error::NotAStore`] if the directory holds anything else.
    pub fn create(path: impl AsRef<Path>, dim: u32, metric: Metric) -> Result<VectorStore> {
        Self::create_with(path, dim, metric, &OpenOptions::default())
    }

    /// As [`create`](Self::create), with options.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_with(
        path: impl AsRef<Path>,
        dim: u32,
        metric: Metric,
        options: &OpenOptions,
    ) -> Result<VectorStore> {
        let identity = Identity { uuid: random()?, segment: 1, salt: random()? };
        Self::create_on(Arc::new(OsDisk::default()), path.as_ref(), dim, metric, identity, options)
    }

    /// Makes a store at `path` whose dimension the first vector fixes, durably: until then it is empty, and
    /// [`dim`](Self::dim) is 0. Starts over what an interrupted creation left.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_without_dim(path: impl AsRef<Path>, metric: Metric) -> Result<VectorStore> {
        Self::create_without_dim_with(path, metric, &OpenOptions::default())
    }

    /// As [`create_without_dim`](Self::create_without_dim), with options.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_without_dim_with(
        path: impl AsRef<Path>,
        metric: Metric,
        options: &OpenOptions,
    ) -> Result<VectorStore> {
        let disk = Arc::new(OsDisk::default());
        Self::create_without_dim_on(disk, path.as_ref(), metric, random()?, options)
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
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::NotClean`] if that was asked for.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<VectorStore> {
        Self::open_on(Arc::new(OsDisk::default()), path.as_ref(), options)
    }

    /// Opens a store for reading: writes nothing, needs no write permission, and works beside a live writer, of which
    /// it shows what is durable now. [`refresh`](Self::refresh) moves on.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without [`Error::Locked`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<VectorStore> {
        Self::open_read_only_with(path, &OpenOptions::default())
    }

    /// As [`open_read_only`](Self::open_read_only), with options; those about writing are without effect.
    ///
    /// # Errors
    ///
    /// As [`open_read_only`](Self::open_read_only).
    pub fn open_read_only_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<VectorStore> {
        let mut store = Self::open_read_only_on(Arc::new(OsDisk::default()), path.as_ref())?;
        store.threads = options.threads;
        Ok(store)
    }

    /// Checks every byte of the store at `path`, even of one too damaged to open.
    ///
    /// # Errors
    ///
    /// What keeps the files from being read; damage is in the report.
    pub fn verify_path(path: impl AsRef<Path>) -> Result<VerifyReport> {
        verify::verify_directory(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), path.as_ref())
            .or_else(as_damage)
    }

    /// Writes a new store at `to` (a new or empty directory) with everything of the store at `from` that checks out: for
    /// each id its newest row, if its bytes and its id are intact and nothing says that it was deleted. An older version
    /// takes its place only where nothing that is left tells of the newer one. `from` is only read, and locked meanwhile;
    /// dimension, metric and kind of the ids stay, the uuid is new. If this fails, what is at `to` is not complete:
    /// remove it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] and [`Error::NotAStore`] where there is nothing to repair; [`Error::Locked`] while another
    /// process writes; [`Error::Unsupported`]; [`Error::AlreadyExists`] if `to` is not empty; [`Error::Corrupt`] if
    /// nothing is left that says what the store was; [`Error::Io`] and others if `to` cannot be written.
    pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport> {
        repair::repair(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), from.as_ref(), to.as_ref())
    }

    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        dim: u32,
        metric: Metric,
        identity: Identity,
        options: &OpenOptions,
    ) -> Result<VectorStore> {
        check_dim(dim)?;
        let lock = directory::make_directory(disk.as_ref(), dir)?;
        let header = Header { dim, element: Element::F32, identity };
        let manifest = Manifest {
            dim,
            next_segment: identity.segment + 1,
            segments: vec![SegmentEntry { number: identity.segment, salt: identity.salt, sealed: None }],
            ..directory::first_manifest(identity.uuid, metric)
        };
        let path = directory::pair_path(dir, identity.segment);
        let pair =
            Pair::create(&disk, &path, FileRecord { header, seq: 0, chain: [0; 16] }, manifest.number)?;
        disk.sync_dir(dir).map_err(|e| Error::io(dir, "sync", e))?;
        directory::replace_manifest(disk.as_ref(), dir, &manifest)?;
        let how = How { writable: true, proven_only: false, known: None };
        let opened = open_segments(&disk, dir, manifest, how)?;
        Ok(Self::writer(disk, dir, opened, pair, lock, options))
    }

    pub(crate) fn create_without_dim_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metric: Metric,
        uuid: [u8; 16],
        options: &OpenOptions,
    ) -> Result<VectorStore> {
        let lock = directory::make_directory(disk.as_ref(), dir)?;
        let manifest = directory::first_manifest(uuid, metric);
        directory::replace_manifest(disk.as_ref(), dir, &manifest)?;
        Ok(Self::without_dim(disk, dir, manifest, lock, options))
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: &OpenOptions) -> Result<VectorStore> {
        // Before LOCK is made: a path that is no store stays as it is.
        directory::read_manifest(disk.as_ref(), dir)?;
        let lock = directory::lock(disk.as_ref(), dir, options.lock_wait)?;
        let manifest = directory::read_manifest(disk.as_ref(), dir)?;
        if manifest.dim == 0 {
            let unlisted = directory::unlisted(disk.as_ref(), dir, &manifest)?;
            directory::settle_manifest(disk.as_ref(), dir)?;
            directory::remove(disk.as_ref(), unlisted)?;
            return Ok(Self::without_dim(disk, dir, manifest, lock, options));
        }
        let how = How { writable: true, proven_only: false, known: None };
        let opened = open_segments(&disk, dir, manifest, how)?;
        if options.strict && !opened.active.report.clean {
            let (path, report) = (opened.files.idx.path, opened.active.report);
            return Err(Error::NotClean { path, report });
        }
        let unlisted = directory::unlisted(disk.as_ref(), dir, &opened.manifest)?;
        let settled = opened.active.closed_under == Some(opened.manifest.number) && unlisted.is_empty();
        if !settled && !planted::is(Bug::SkipSettling) {
            directory::settle_manifest(disk.as_ref(), dir)?;
        }
        directory::remove(disk.as_ref(), unlisted)?;
        let mut pair = Pair::of(&disk, opened.files.clone(), &opened.active, opened.manifest.number);
        pair.make_recovered_durable()?;
        Ok(Self::writer(disk, dir, opened, pair, lock, options))
    }

    fn writer(
        disk: Arc<dyn Disk>,
        dir: &Path,
        opened: Opened,
        pair: Pair,
        lock: Arc<dyn DiskFile>,
        options: &OpenOptions,
    ) -> VectorStore {
        let recovery = opened.active.report.clone();
        let engine = Engine::new(disk.clone(), dir.to_owned(), options.settings.clone(), opened, pair);
        VectorStore {
            disk,
            dir: dir.to_owned(),
            schema: engine.schema,
            role: Role::Writer(engine).into(),
            dimless: None,
            recovery,
            threads: options.threads,
            forked: OnceLock::new(),
            _lock: Some(lock),
        }
    }

    fn without_dim(
        disk: Arc<dyn Disk>,
        dir: &Path,
        manifest: Manifest,
        lock: Arc<dyn DiskFile>,
        options: &OpenOptions,
    ) -> VectorStore {
        VectorStore {
            disk,
            dir: dir.to_owned(),
            schema: manifest.schema(),
            role: OnceLock::new(),
            dimless: Some(Dimless::new(manifest, options)),
            // There is no log whose end could be lost.
            recovery: RecoveryReport { clean: true, ..RecoveryReport::default() },
            threads: options.threads,
            forked: OnceLock::new(),
            _lock: Some(lock),
        }
    }

    pub(crate) fn open_read_only_on(disk: Arc<dyn Disk>, dir: &Path) -> Result<VectorStore> {
        let (reader, recovery) = Reader::open(&disk, dir)?;
        Ok(VectorStore {
            disk,
            dir: dir.to_owned(),
            schema: reader.schema,
            role: Role::Reader(Box::new(reader)).into(),
            dimless: None,
            recovery,
            threads: 0,
            forked: OnceLock::new(),
            _lock: None,
        })
    }

    /// The engine of a handle that may write; `None` while the store has no dimension, and so nothing in it.
    pub(crate) fn engine(&self) -> Result<Option<&Arc<Engine>>> {
        match (self.role.get(), &self.dimless) {
            (Some(Role::Writer(engine)), _) if engine.is_forked() => Err(Error::Forked),
            (Some(Role::Writer(engine)), _) => Ok(Some(engine)),
            (None, Some(dimless)) => dimless.place().map(|_| None),
            (Some(Role::Reader(_)) | None, _) => Err(Error::ReadOnly),
        }
    }

    // ---- the dimension ----

    /// Fixes the dimension of a store that has none yet, durably. Does nothing if this is its dimension.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; [`Error::DimensionMismatch`] if the store has another one; [`Error::NoSpace`] and
    /// [`Error::Io`]: the store is as before. [`Error::SyncFailed`]: unknown which; reopen the store.
    pub fn set_dim(&self, dim: u32) -> Result<()> {
        check_dim(dim)?;
        self.fix_dim(dim).map(drop)
    }

    /// The engine of a handle that may write, made for vectors of `dim` components if there is none yet.
    fn fix_dim(&self, dim: u32) -> Result<&Arc<Engine>> {
        loop {
            if let Some(engine) = self.engine()? {
                let (expected, found) = (engine.schema.dim as usize, dim as usize);
                let fits = expected == found;
                return if fits { Ok(engine) } else { Err(Error::DimensionMismatch { expected, found }) };
            }
            let Some(dimless) = &self.dimless else { return Err(Error::ReadOnly) };
            let mut place = dimless.place()?;
            // Another thread may have been faster.
            if self.role.get().is_none() {
                let engine = dimless.fix(&mut place, &self.disk, &self.dir, dim)?;
                _ = self.role.set(Role::Writer(engine));
            }
        }
    }

    /// Components of each of the vectors of a batch: the store's dimension, or the one that they make it.
    fn dim_of(&self, ids: usize, components: usize) -> Result<usize> {
        let mismatch = |dim| Err(Error::CountMismatch { ids, components, dim });
        match self.dim() {
            0 if components == 0 && ids == 0 => Ok(0),
            0 if ids == 0 || components == 0 || !components.is_multiple_of(ids) => mismatch(0),
            0 => Ok(components / ids),
            dim if ids.checked_mul(dim) == Some(components) => Ok(dim),
            dim => mismatch(dim),
        }
    }

    // ---- writing ----

    /// Stores a vector of `dim` finite components under an id, or replaces it.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn put(&self, id: impl AsId, vector: &[f32]) -> Result<()> {
        self.put_with(id, vector, None)
    }

    /// As [`put`](Self::put), with a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn put_with(&self, id: impl AsId, vector: &[f32], durability: Option<Durability>) -> Result<()> {
        self.write(&[Op::Put { id: id.as_id(), vector, document: None }], durability)
    }

    /// Stores a vector and a JSON document under an id, or replaces both. A put without a document removes the document.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDocument`] if `document` is not one JSON value; else as [`put_many`](Self::put_many).
    pub fn put_document(&self, id: impl AsId, vector: &[f32], document: &str) -> Result<()> {
        self.write(&[Op::Put { id: id.as_id(), vector, document: Some(document) }], None)
    }

    /// Stores a batch, all or nothing: `vectors` holds `ids.len()` rows of `dim` components, one after the other. Of an
    /// id that comes twice the last row counts. The first batch of a store without a dimension fixes it, durably, once
    /// everything else about the batch was checked.
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`], [`Error::NonFinite`], [`Error::InvalidId`], [`Error::IdKind`],
    /// [`Error::BatchTooLarge`]: nothing of the batch is stored. [`Error::NoSpace`]: what was accepted is kept in the
    /// buffer and tried again; a call that only finds an earlier failure of the background is not accepted, one with
    /// [`Durability::Sync`] that fails itself is.
    /// [`Error::WriteFailed`], [`Error::SyncFailed`] and [`Error::Poisoned`]: writing stops, reopen the store.
    pub fn put_many(&self, ids: &[impl AsId], vectors: &[f32]) -> Result<()> {
        self.put_many_with(ids, vectors, &[], None)
    }

    /// As [`put_many`](Self::put_many), with a JSON document (or none) for each row, unless `documents` is empty, and a
    /// durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`put_document`](Self::put_document).
    pub fn put_many_with(
        &self,
        ids: &[impl AsId],
        vectors: &[f32],
        documents: &[Option<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        let dim = self.dim_of(ids.len(), vectors.len())?;
        if !documents.is_empty() && documents.len() != ids.len() {
            return Err(Error::CountMismatch { ids: ids.len(), components: vectors.len(), dim });
        }
        let ids: Vec<IdRef<'_>> = ids.iter().map(AsId::as_id).collect();
        let lines = one_line_each(documents)?;
        let lines: Vec<Option<&str>> = lines.iter().map(Option::as_deref).collect();
        self.write_batch(Batch::Rows { ids: &ids, vectors, documents: &lines, dim }, durability)
    }

    /// Stores the rows of a source, of `dim` components, under their ids, with a JSON document (or none) for each, unless
    /// `documents` is empty.
    /// Everything is checked before the first byte is written. Up to 1 GiB and 4,194,304 rows make one batch, all or
    /// nothing; more becomes consecutive batches.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`put_document`](Self::put_document); [`Error::NonFinite`] also if the source
    /// changed after it was checked: the batch that this is in is not stored then, nor any after it.
    pub fn put_rows(
        &self,
        ids: &[IdRef<'_>],
        source: &dyn RowSource,
        dim: usize,
        documents: &[Option<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        if !documents.is_empty() && documents.len() != ids.len() {
            return Err(Error::CountMismatch { ids: ids.len(), components: documents.len() * dim, dim });
        }
        let lines = one_line_each(documents)?;
        let lines: Vec<Option<&str>> = lines.iter().map(Option::as_deref).collect();
        let Some(kind) = ids.first().map(IdRef::kind) else { return self.write(&[], durability) };
        let all = Batch::Copied { ids, source, documents: &lines, dim };
        let engine = match self.engine()? {
            Some(engine) => {
                all.check_content(engine.schema.dim as usize, kind)?;
                engine
            }
            None => {
                let fixed = u32::try_from(dim).unwrap_or(u32::MAX);
                check_dim(fixed)?;
                all.check_content(dim, kind)?;
                copy_in_pieces(source, ids.len(), dim, |_| Ok(()))?;
                self.fix_dim(fixed)?
            }
        };
        if all.bytes() <= engine.settings.buffer_bytes / 4 {
            let mut vectors = Vec::with_capacity(ids.len() * dim);
            copy_in_pieces(source, ids.len(), dim, |rows| {
                vectors.extend_from_slice(rows);
                Ok(())
            })?;
            return self
                .write_batch(Batch::Rows { ids, vectors: &vectors, documents: &lines, dim }, durability);
        }
        copy_in_pieces(source, ids.len(), dim, |_| Ok(()))?;
        let durability = durability.unwrap_or(engine.settings.durability);
        for rows in batch::parts(ids, &lines, dim)? {
            let source = &batch::Behind { source, first: rows.start };
            let documents = lines.get(rows.clone()).unwrap_or_default();
            engine.write(Batch::Copied { ids: &ids[rows], source, documents, dim }, kind, durability)?;
        }
        Ok(())
    }

    /// Writes puts and deletes as one batch, all or nothing. `None`: the store's own durability.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn write(&self, ops: &[Op<'_>], durability: Option<Durability>) -> Result<()> {
        let has_documents = ops.iter().any(|op| matches!(op, Op::Put { document: Some(_), .. }));
        if !has_documents {
            return self.write_batch(Batch::Ops(ops), durability);
        }
        let lines: Vec<Option<String>> = ops
            .iter()
            .enumerate()
            .map(|(row, op)| match op {
                Op::Put { document, .. } => document.map(|text| one_line(row, text)).transpose(),
                Op::Delete { .. } => Ok(None),
            })
            .collect::<Result<_>>()?;
        let ops: Vec<Op<'_>> = ops
            .iter()
            .zip(&lines)
            .map(|(op, line)| match *op {
                Op::Put { id, vector, .. } => Op::Put { id, vector, document: line.as_deref() },
                op => op,
            })
            .collect();
        self.write_batch(Batch::Ops(&ops), durability)
    }

    fn write_batch(&self, batch: Batch<'_>, durability: Option<Durability>) -> Result<()> {
        let engine = match (self.engine()?, batch.dim()) {
            (Some(engine), _) => {
                batch.check(engine.schema.dim as usize, None)?;
                engine
            }
            (None, Some(dim)) => {
                let fixed = u32::try_from(dim).unwrap_or(u32::MAX);
                check_dim(fixed)?;
                batch.check(dim, None)?;
                self.fix_dim(fixed)?
            }
            // Deletes, of what is not there.
            (None, None) => return batch.check(0, None),
        };
        let Some(kind) = batch.kind() else {
            return engine.check_writable(&engine.state());
        };
        engine.write(batch, kind, durability.unwrap_or(engine.settings.durability))
    }

    /// Deletes an id; `false` if it was not there, and nothing is written then.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete(&self, id: impl AsId) -> Result<bool> {
        Ok(self.delete_many(&[id])? == 1)
    }

    /// Deletes several ids in one batch; returns how many were there.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete_many(&self, ids: &[impl AsId]) -> Result<usize> {
        self.delete_many_with(ids, None)
    }

    /// As [`delete_many`](Self::delete_many), with a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete_many_with(&self, ids: &[impl AsId], durability: Option<Durability>) -> Result<usize> {
        let engine = self.engine()?;
        let ops: Vec<Op<'_>> = ids.iter().map(Op::delete).collect();
        Batch::Ops(&ops).check(0, None)?;
        let Some(engine) = engine else { return Ok(0) };
        engine.delete(ops, durability.unwrap_or(engine.settings.durability))
    }

    /// Deletes every id that a filter selects; returns how many there were. One batch, which counts wholly or not at all,
    /// with all that match at its place in the order of writing: what other threads write meanwhile comes before it, and
    /// is looked at, or after it, and stays. More than [`MAX_BATCH_RECORDS`](crate::MAX_BATCH_RECORDS) ids, or ids of more
    /// than [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES), are several batches. `None`: the store's own durability.
    ///
    /// Other writers wait only while what was written since the first look is looked at.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`ids_where`](Self::ids_where). Batches before the one that failed stay.
    pub fn delete_where(&self, filter: &Filter, durability: Option<Durability>) -> Result<usize> {
        let Some(engine) = self.engine()? else { return Ok(0) };
        engine.delete_where(filter, durability.unwrap_or(engine.settings.durability), self.threads)
    }

    /// Returns when everything accepted before is durable. Writers and readers go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]: nothing is lost yet; free some space and flush again. [`Error::SyncFailed`] and
    /// [`Error::WriteFailed`]: whether what was written since the last flush survives is unknown; reads show the last
    /// durable state, writing stops, reopen the store.
    pub fn flush(&self) -> Result<()> {
        self.engine()?.map_or(Ok(()), |engine| engine.flush())
    }

    /// A future that ends when everything accepted before this call is durable. It needs no particular runtime: the
    /// store's own threads do the work. Dropping it cancels nothing.
    pub fn flush_async(&self) -> Flush {
        Flush { engine: self.engine().map(|engine| Some((engine?.clone(), engine?.goal()))) }
    }

    /// Rewrites all segments without their dead rows and merges small ones, while reads and writes go on. `progress` is
    /// called after each few megabytes and can break it off ([`Error::Cancelled`]): segments that were done by then stay
    /// compacted, the others are as before.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a live row is damaged, [`Error::NoSpace`]: the store is as before and goes on.
    pub fn compact_with(
        &self,
        mut progress: impl FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactReport> {
        self.engine()?.map_or(Ok(CompactReport::default()), |engine| engine.compact(&mut progress))
    }

    /// As [`compact_with`](Self::compact_with), without progress.
    ///
    /// # Errors
    ///
    /// As [`compact_with`](Self::compact_with).
    pub fn compact(&self) -> Result<CompactReport> {
        self.compact_with(|_| ControlFlow::Continue(()))
    }

    /// Empties the store, atomically and durably, in O(segments): everything accepted before is gone when this returns,
    /// everything accepted after stays. Dimension and metric stay; the next write fixes the kind of the ids anew.
    /// Snapshots go on showing what they showed, and so do readers in other processes until they
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`]: the store is as before and goes on. [`Error::SyncFailed`]: unknown whether it
    /// was cleared; writing stops, reopen the store.
    pub fn clear(&self) -> Result<()> {
        self.engine()?.map_or(Ok(()), |engine| engine.clear())
    }

    /// Copies the store, as it is now, to a new directory, which is then a store of its own: a consistent copy of a live
    /// store, durable when this returns. A handle that writes flushes first and shares sealed segments as hard links
    /// where the file system can; any other copies what it shows.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] or [`Error::NotAStore`] if `to` holds anything; [`Error::NoSpace`], [`Error::Io`]: what
    /// was copied is removed.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        let (disk, to) = (&self.disk, to.as_ref());
        if let Some(Role::Reader(reader)) = self.role.get() {
            let (manifest, snapshot) = reader.with_manifest()?;
            return backup::backup(disk, &manifest, &snapshot, to, false);
        }
        if let Some(engine) = self.engine()? {
            let (manifest, snapshot) = engine.durable_snapshot()?;
            return backup::backup(disk, &manifest, &snapshot, to, true);
        }
        let Some(dimless) = &self.dimless else { return Err(Error::ReadOnly) };
        let manifest = dimless.place()?.manifest().clone();
        backup::backup(disk, &manifest, &self.empty_snapshot(), to, false)
    }

    /// Flushes, marks the store as closed cleanly and lets go of the lock.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush). Dropping the store does the same but can report nothing.
    pub fn close(self) -> Result<()> {
        // Dropping `self` afterwards finds nothing left to do, or the same failure.
        self.close_in_place()
    }

    fn close_in_place(&self) -> Result<()> {
        match self.role.get() {
            // The child of a writer has nothing to close: no lock, no thread, nothing of its own in the files.
            Some(Role::Writer(engine)) if !engine.is_forked() => close::close(engine),
            _ => Ok(()),
        }
    }

    // ---- reading ----

    /// The store as it is now, for as long as you keep it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Corrupt`] if the ids of buffered writes cannot be looked up.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let snapshot = match self.role.get() {
            Some(Role::Writer(engine)) if engine.is_forked() => self.forked_snapshot(&engine.published),
            Some(Role::Writer(engine)) => engine.snapshot(),
            Some(Role::Reader(reader)) if reader.is_forked() => self.forked_snapshot(&reader.published),
            Some(Role::Reader(reader)) => reader.snapshot(),
            None => Ok(self.empty_snapshot()),
        };
        Ok(snapshot?.with_threads(self.threads))
    }

    /// What a store without a dimension shows.
    fn empty_snapshot(&self) -> Snapshot {
        Snapshot::new(self.schema, None, Arc::default(), Default::default())
    }

    /// What was published before the fork, with tables of this process: those of the parent may be locked for ever.
    fn forked_snapshot(&self, published: &ArcSwap<View>) -> Result<Snapshot> {
        if let Some(snapshot) = self.forked.get() {
            return Ok(snapshot.clone());
        }
        let view = published.load_full();
        let view = view.detached(&self.disk)?;
        let snapshot = Snapshot::new(self.schema, view.kind, Arc::new(view), Default::default());
        Ok(self.forked.get_or_init(|| snapshot).clone())
    }

    /// Moves a read-only handle on to what is durable now; true if there was anything new. Reads only what was appended
    /// since. A handle that writes is always up to date.
    ///
    /// # Errors
    ///
    /// As [`open_read_only`](Self::open_read_only); the handle shows what it showed before then.
    pub fn refresh(&self) -> Result<bool> {
        match self.role.get() {
            Some(Role::Reader(reader)) => reader.refresh(),
            Some(Role::Writer(_)) | None => Ok(false),
        }
    }

    /// The vector of an id, its checksum checked; `None` if the id is not there. O(segments), one system call.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the stored bytes are not what was written; [`Error::Io`].
    pub fn get(&self, id: impl AsId) -> Result<Option<Vec<f32>>> {
        let id = id.as_id();
        match self.look_up(id, |chunk, op| chunk.vector(op).map(<[f32]>::to_vec))? {
            Looked::Buffer(found) => Ok(found),
            Looked::Files(view, at) => view.read(at).map(Some),
            Looked::Ask(snapshot) => snapshot.get(id),
        }
    }

    /// As [`get`](Self::get), into memory of the caller: `out` has `dim` components. False, and `out` as it was, if the id
    /// is not there; after an error `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`] if `out` is not as long as a vector; else as [`get`](Self::get).
    pub fn get_into(&self, id: impl AsId, out: &mut [f32]) -> Result<bool> {
        check_len(self.dim(), out)?;
        let id = id.as_id();
        match self.look_up(id, |chunk, op| chunk.vector(op).map(|vector| out.copy_from_slice(vector)))? {
            Looked::Buffer(found) => Ok(found.is_some()),
            Looked::Files(view, at) => view.read_into(at, out).map(|()| true),
            Looked::Ask(snapshot) => snapshot.get_into(id, out),
        }
    }

    /// Looks an id up without a snapshot, which would take the whole buffer: in the buffer, else in the files.
    fn look_up<T>(
        &self,
        id: IdRef<'_>,
        in_buffer: impl FnOnce(&Chunk, &buffer::Op) -> Option<T>,
    ) -> Result<Looked<T>> {
        let engine = match self.role.get() {
            Some(Role::Writer(engine)) if !engine.is_forked() => engine,
            _ => return Ok(Looked::Ask(self.snapshot()?)),
        };
        let (bytes, hash) = (id.as_bytes(), self.schema.hasher().hash(id.as_bytes()));
        if let Some(found) = engine.in_buffer(hash, id, in_buffer) {
            return Ok(Looked::Buffer(found));
        }
        // Loaded after the look at the buffer: what left it before is in here.
        let view = engine.published.load();
        if view.kind != Some(id.kind()) {
            return Ok(Looked::Buffer(None));
        }
        Ok(view.find(hash, bytes)?.map_or(Looked::Buffer(None), |at| Looked::Files(view, at)))
    }

    /// The vectors of several ids, in their order; `None` for those that are not there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many(&self, ids: &[impl AsId]) -> Result<Vec<Option<Vec<f32>>>> {
        ids.iter().map(|id| self.get(id)).collect()
    }

    /// The vectors of many ids, in memory of the caller: `out` holds a row of `dim` components for each id, in their order.
    /// `missing` is told, in order, the place of each id that is not there; its row stays as it was. Rows are copied from
    /// the mapping, not by read calls, and the copies are checked; on several cores where there are many. After an error
    /// `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`] if `out` is not as long as its rows; else as [`get`](Self::get).
    pub fn get_many_into(
        &self,
        ids: &[impl AsId],
        out: &mut [f32],
        missing: impl FnMut(usize),
    ) -> Result<()> {
        let Some(Role::Writer(engine)) = self.role.get() else {
            return self.snapshot()?.get_many_into(ids, out, missing);
        };
        if engine.is_forked() {
            return self.snapshot()?.get_many_into(ids, out, missing);
        }
        let dim = self.dim();
        let ids = &check_rows(ids, dim, out)?;
        many::read(ids, dim, out, |ids, out| engine.get_few(ids, out), missing)
    }

    /// The JSON document of an id, checked; `None` if the id or its document is not there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_document(&self, id: impl AsId) -> Result<Option<String>> {
        let id = id.as_id();
        match self.look_up(id, |chunk, op| snapshot::document_of(chunk, op).map(str::to_owned))? {
            Looked::Buffer(found) => Ok(found),
            Looked::Files(view, at) => view.segments[at.segment].segment.document(at.row.into()),
            Looked::Ask(snapshot) => snapshot.get_document(id),
        }
    }

    /// Whether an id is there. O(segments).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Corrupt`] if that cannot be found out.
    pub fn contains(&self, id: impl AsId) -> Result<bool> {
        let id = id.as_id();
        match self.look_up(id, |_, op| op.is_put().then_some(()))? {
            Looked::Buffer(found) => Ok(found.is_some()),
            Looked::Files(..) => Ok(true),
            Looked::Ask(snapshot) => snapshot.contains(id),
        }
    }

    /// Number of ids.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn len(&self) -> Result<usize> {
        Ok(self.snapshot()?.len())
    }

    /// True if there is no id.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.snapshot()?.is_empty())
    }

    /// Ids and vectors in the order of writing, as they are now: later writes do not show.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot); each item tells of its own.
    pub fn iter(&self) -> Result<Iter> {
        Ok(self.snapshot()?.iter())
    }

    /// The `k` ids nearest to `query` in the store's metric, nearest first; the older of two at the same distance. Exact.
    /// O(rows * dim) on all cores.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`], [`Error::NonFinite`]; [`Error::Corrupt`] if a result is not what was written.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Hits> {
        self.snapshot()?.search(query, k)
    }

    /// As [`search`](Self::search), with a filter, a radius, vectors or documents.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::search_with`].
    pub fn search_with(&self, query: &[f32], k: usize, options: &SearchOptions) -> Result<Hits> {
        self.snapshot()?.search_with(query, k, options)
    }

    /// The same as [`search_with`](Self::search_with) with each of several queries, in their order, and faster: `queries`
    /// holds *n* rows of `dim` components, one after the other. All see the store at one moment. See
    /// [`Snapshot::search_many`].
    ///
    /// # Errors
    ///
    /// As [`Snapshot::search_many`].
    pub fn search_many(&self, queries: &[f32], k: usize, options: &SearchOptions) -> Result<Vec<Hits>> {
        self.snapshot()?.search_many(queries, k, options)
    }

    /// The ids that a filter selects, in the order of writing. O(documents) on all cores, or O(ids).
    ///
    /// # Errors
    ///
    /// As [`Snapshot::ids_where`].
    pub fn ids_where(&self, filter: &Filter) -> Result<Vec<Id>> {
        self.snapshot()?.ids_where(filter)
    }

    /// Components of a vector; 0 until the first vector, or [`set_dim`](Self::set_dim), fixes that.
    pub fn dim(&self) -> usize {
        let dim = match self.role.get() {
            Some(Role::Writer(engine)) => engine.schema.dim,
            Some(Role::Reader(reader)) => reader.published.load().dim(),
            None => 0,
        };
        dim as usize
    }

    /// How distances are measured.
    pub fn metric(&self) -> Metric {
        self.schema.metric
    }

    /// Kind of the ids; `None` before the first write.
    pub fn kind(&self) -> Option<IdKind> {
        match self.role.get() {
            Some(Role::Writer(engine)) if engine.is_forked() => engine.published.load().kind,
            Some(Role::Writer(engine)) => engine.state().kind,
            Some(Role::Reader(reader)) => reader.published.load().kind,
            None => None,
        }
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
        let engine = self.engine().ok().flatten().map(Arc::as_ref);
        stats::stats(&self.disk, &self.dir, &self.snapshot()?, engine)
    }

    /// Checks every byte that counts: MANIFEST, the logs with their chains, every row, every document, every list of dead
    /// rows, and the indexes beside them. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read; damage is in the report, not an error.
    pub fn verify(&self) -> Result<VerifyReport> {
        verify::verify_view(&self.disk, &self.dir, &self.snapshot()?)
    }
}

/// Documents as the lines that they become.
fn one_line_each(documents: &[Option<&str>]) -> Result<Vec<Option<String>>> {
    let line = |(row, text): (usize, &Option<&str>)| text.map(|text| one_line(row, text)).transpose();
    documents.iter().enumerate().map(line).collect()
}

impl Drop for VectorStore {
    fn drop(&mut self) {
        if let Some(Role::Writer(engine)) = self.role.get()
            && engine.is_forked()
        {
            // Another thread of the parent may have been changing it at the fork: it is left as it is.
            std::mem::forget(engine.clone());
            return;
        }
        // Nobody is left to hear of a failure; what was flushed is safe whatever happens here.
        _ = self.close_in_place();
    }
}

/// See [`VectorStore::flush_async`].
#[derive(Debug)]
pub struct Flush {
    /// `None`: there was nothing to wait for.
    engine: Result<Option<(Arc<Engine>, Goal)>>,
}

impl Future for Flush {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &self.engine {
            Ok(None) => Poll::Ready(Ok(())),
            Ok(Some((engine, goal))) => {
                engine.poll(*goal, context.waker()).map_or(Poll::Pending, Poll::Ready)
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
