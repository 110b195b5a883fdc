//! A directory of vectors: what a user holds.

use crate::engine::Engine;
use crate::engine::close;
use crate::engine::compact::{CompactOptions, CompactProgress, CompactReport};
use crate::engine::optimize::{OptimizeProgress, OptimizeReport};
use crate::format::manifest::Sections;
use crate::maintain::backup::{self, BackupReport};
use crate::maintain::repair::{self, RepairReport};
use crate::maintain::verify::{self, VerifyReport, as_damage};
use crate::open::lock::Lock;
use crate::open::reader::Reader;
use crate::query::snapshot::Snapshot;
use crate::segment::side::EffortStats;
use crate::sys::disk::{Disk, OsDisk};
use crate::sys::interrupt;
use crate::sys::sync::caught;
use crate::types::config::{MAX_ATTRIBUTES_BYTES, MAX_EMBED_NAME_BYTES};
use crate::types::document;
use crate::types::error::{Error, Result};
use crate::types::recovery::RecoveryReport;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

mod batch;
mod internal;
mod open;
mod read;
mod write;

pub use batch::WriteBatch;
pub use write::Flush;

/// An embedded vector store: a directory that one process writes and any number read.
///
/// Writing is the store's, with [`WriteBatch`] for changes that belong together; reading is a [`Snapshot`]'s, of which
/// [`get`](Self::get), [`contains`](Self::contains) and [`search`](Self::search) are short forms.
///
/// Every method takes `&self` and may be called from any thread. Ids are unique: a put of a stored id replaces its
/// vector and its document. A write is visible to this handle when it returns; it is durable when it was made with
/// [`Durability::Sync`](crate::Durability::Sync), when a later [`flush`](Self::flush) or [`close`](Self::close) has
/// returned `Ok`, or, without any call, within the flush interval. A crash keeps whole batches only, in the order of
/// writing.
#[derive(Debug)]
pub struct VectorStore {
    role: Role,
    /// Absolute.
    path: PathBuf,
    recovery: RecoveryReport,
    /// Threads of a search; 0: not said.
    threads: usize,
    /// The recall of a search that says nothing of it; 1 is exact.
    recall_target: f32,
    /// What a forked child of the process that opened the store reads.
    forked: OnceLock<Snapshot>,
    /// Held as long as the store is open for writing.
    _lock: Option<Arc<Lock>>,
}

#[derive(Debug)]
enum Role {
    Writer(Arc<Engine>),
    Reader(Box<Reader>),
}

impl VectorStore {
    /// Checks every byte of the store at `path`, even of one too damaged to open. Without MANIFEST the segments are
    /// found by the names of their files.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotAStore`] and others where there is no store, [`Error::Unsupported`], and
    /// [`Error::Io`] for what says nothing of the bytes (no permission, say). Damage is in the report; so are bytes that
    /// the disk cannot read.
    pub fn verify_path(path: impl AsRef<Path>) -> Result<VerifyReport> {
        verify::verify_directory(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), path.as_ref())
            .or_else(as_damage)
    }

    /// Writes a new store at `to` (a new or empty directory) with everything of the store at `from` that checks out: for
    /// each id its newest row, if its bytes and its id are intact and nothing says that it was deleted. An older version
    /// takes its place only where nothing that is left tells of the newer one. `from` is only read, and locked
    /// meanwhile; dimension, metric and kind of the ids stay, the uuid is new. If this fails, or the process dies, what
    /// is at `to` is no store ([`Error::Unfinished`]): repeated, the call starts over.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] and [`Error::NotAStore`] where there is nothing to repair; [`Error::Locked`] while another
    /// process writes; [`Error::Unsupported`]; [`Error::AlreadyExists`] and [`Error::NotAStore`] if `to` is not empty,
    /// [`Error::InItself`] if it lies in `from`; [`Error::Corrupt`] if
    /// nothing is left that says what the store was; [`Error::Io`] and others if `to` cannot be written.
    pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport> {
        repair::repair(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), from.as_ref(), to.as_ref())
    }

    /// The engine of a handle that may write.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>> {
        match &self.role {
            Role::Writer(engine) if engine.is_forked() => Err(Error::Forked),
            Role::Writer(engine) => Ok(engine),
            Role::Reader(_) => Err(Error::ReadOnly),
        }
    }

    // ---- the whole ----

    /// Rewrites segments without their dead rows and merges small ones, while reads and writes go on: those of which at
    /// least one row in a hundred is dead, or as many as [`CompactOptions::min_dead`] says, and those without live rows.
    /// The report says what is left. `progress` is called after each few megabytes and can break it off
    /// ([`Error::Cancelled`]): segments that were done by then stay compacted, the others are as before.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use std::ops::ControlFlow;
    ///
    /// use vecstone::CompactOptions;
    ///
    /// let report = store.compact_with(&CompactOptions::new().min_dead(0.0), |step| {
    ///     println!("{} of {} rows", step.rows, step.total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert_eq!(report.rows_left, 0);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMinDead`]: nothing was done. [`Error::Corrupt`] if a live row is damaged, [`Error::NoSpace`]: the
    /// store is as before and goes on.
    pub fn compact_with(
        &self,
        options: &CompactOptions,
        mut progress: impl FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactReport> {
        self.maintain(&mut progress, |engine, progress| engine.compact(options, progress))
    }

    /// As [`compact_with`](Self::compact_with), with the defaults and without progress.
    ///
    /// # Errors
    ///
    /// As [`compact_with`](Self::compact_with).
    pub fn compact(&self) -> Result<CompactReport> {
        self.compact_with(&CompactOptions::new(), |_| ControlFlow::Continue(()))
    }

    /// Builds every side file that makes the store faster, up to the rows that are durable now: it flushes first. Right
    /// answers never need it, and the background builds the same later. It neither seals nor compacts. `progress` is called
    /// before each file, now and then within, and at the end, and can break it off ([`Error::Cancelled`]): files that were
    /// whole by then stay. O(rows that no side file covers).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use std::ops::ControlFlow;
    ///
    /// let report = store.optimize_with(|step| {
    ///     println!("{} of {} rows", step.rows, step.total);
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a segment is damaged, [`Error::NoSpace`]: the files of other segments were built all the same,
    /// and the store goes on as before.
    pub fn optimize_with(
        &self,
        mut progress: impl FnMut(OptimizeProgress) -> ControlFlow<()>,
    ) -> Result<OptimizeReport> {
        self.maintain(&mut progress, |engine, progress| engine.optimize(None, progress))
    }

    /// As [`optimize_with`](Self::optimize_with), without progress.
    ///
    /// # Errors
    ///
    /// As [`optimize_with`](Self::optimize_with).
    pub fn optimize(&self) -> Result<OptimizeReport> {
        self.optimize_with(|_| ControlFlow::Continue(()))
    }

    /// As [`optimize_with`](Self::optimize_with), and measures how many rows an approximate search has to look at with these
    /// queries, *n* rows of `dim` components, where `optimize` takes rows of the store for queries. For queries that are not
    /// like the rows, such as questions about texts: a search then finds the share of the nearest that it is asked for among
    /// those of queries like these. Some hundreds of them are good. Each costs an exact search.
    ///
    /// What was measured stays, also where [`optimize`](Self::optimize) would measure anew: where the rows have become many
    /// more, a search looks at more of them, and rather at too many than at too few, until this is called again. The queries
    /// are not kept. [`Stats::effort`](crate::Stats::effort) has what counts, and this returns it; `None` where there are no
    /// codes to search over, so that every search is exact.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// let queries: Vec<f32> = (0..64).map(|n| n as f32).collect(); // of two components each
    /// let measured = store.tune(&queries)?;
    /// assert_eq!(measured, None, "so few rows have no codes");
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`], [`Error::NonFinite`] with the number of the query, [`Error::TooFewQueries`] below 32;
    /// else as [`optimize_with`](Self::optimize_with).
    pub fn tune_with(
        &self,
        queries: &[f32],
        mut progress: impl FnMut(OptimizeProgress) -> ControlFlow<()>,
    ) -> Result<Option<EffortStats>> {
        self.maintain(&mut progress, |engine, progress| engine.tune(queries, progress))
    }

    /// As [`tune_with`](Self::tune_with), without progress.
    ///
    /// # Errors
    ///
    /// As [`tune_with`](Self::tune_with).
    pub fn tune(&self, queries: &[f32]) -> Result<Option<EffortStats>> {
        self.tune_with(queries, |_| ControlFlow::Continue(()))
    }

    /// Long work with a progress that the caller hears, and may break off.
    fn maintain<P, R>(
        &self,
        progress: &mut dyn FnMut(P) -> ControlFlow<()>,
        work: impl FnOnce(&Engine, &mut dyn FnMut(P) -> ControlFlow<()>) -> Result<R>,
    ) -> Result<R> {
        let engine = self.engine()?;
        // A panic of the caller's ends the work as a break does, and goes on from here.
        let mut panicked = None;
        let done = work(engine, &mut |step| {
            caught(|| progress(step)).unwrap_or_else(|panic| {
                panicked = Some(panic);
                ControlFlow::Break(())
            })
        });
        if let Some(panic) = panicked {
            resume_unwind(panic)
        }
        let report = done.map_err(|error| engine.or_moved(error))?;
        engine.check_place().map(|()| report)
    }

    /// Empties the store, atomically and durably, in O(segments): everything accepted before is gone when this returns,
    /// everything accepted after stays. Dimension and metric stay; the next write fixes the kind of the ids anew.
    /// Snapshots go on showing what they showed, and so do readers in other processes until they
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`]: the store is as before and goes on. [`Error::SyncFailed`],
    /// [`Error::StoreMoved`], [`Error::LockRemoved`]: unknown whether it was cleared; writing stops, reopen the store.
    pub fn clear(&self) -> Result<()> {
        let engine = self.engine()?;
        engine.clear().map_err(|error| engine.or_moved(error))
    }

    /// Puts a JSON object in the place of the store's attributes, or removes them; any JSON that describes the store as
    /// a whole, as the name of what made its vectors. One replacement of MANIFEST: when this returns the attributes are
    /// durable, and so is everything accepted before. They stay through compaction, [`clear`](Self::clear),
    /// [`backup`](Self::backup) and repair. O(length), two syncs or so.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.set_attributes(Some(r#"{"model": "all-MiniLM-L6-v2"}"#))?;
    /// assert!(store.attributes()?.is_some());
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidAttributes`], [`Error::AttributesTooLarge`] above
    /// [`MAX_ATTRIBUTES_BYTES`], [`Error::ReadOnly`]: nothing was changed. Else as
    /// [`clear`](Self::clear).
    pub fn set_attributes(&self, attributes: Option<&str>) -> Result<()> {
        let attributes = attributes.map(str::trim);
        if let Err(why) = attributes.map_or(Ok(()), document::check_object) {
            return Err(Error::InvalidAttributes { why: why.into() });
        }
        let found = attributes.map_or(0, |text| text.len() as u64);
        let change = |sections: &mut Sections| {
            let max = sections.room_for_attributes().min(MAX_ATTRIBUTES_BYTES);
            if found > max {
                return Err(Error::AttributesTooLarge { found, max });
            }
            sections.set_attributes(attributes);
            Ok(())
        };
        let engine = self.engine()?;
        engine.change_sections(change).map_err(|error| engine.or_moved(error))
    }

    /// Records the name of what makes the store's vectors, such as that of a model, or removes it: so that a caller can
    /// refuse to mix those of two. It is kept beside the store's options as [`set_attributes`](Self::set_attributes) keeps
    /// attributes. 1 to [`MAX_EMBED_NAME_BYTES`] bytes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.set_embed_name(Some("all-MiniLM-L6-v2"))?;
    /// assert_eq!(store.embed_name()?.as_deref(), Some("all-MiniLM-L6-v2"));
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidEmbedName`], [`Error::ReadOnly`]: nothing was changed. Else as [`clear`](Self::clear).
    pub fn set_embed_name(&self, name: Option<&str>) -> Result<()> {
        let found = name.map_or(1, |name| name.len() as u64);
        let invalid = |max| Error::InvalidEmbedName { found, max };
        if !(1..=MAX_EMBED_NAME_BYTES).contains(&found) {
            return Err(invalid(MAX_EMBED_NAME_BYTES));
        }
        let change = |sections: &mut Sections| {
            if sections.set_embed_name(name) { Ok(()) } else { Err(invalid(0)) }
        };
        let engine = self.engine()?;
        engine.change_sections(change).map_err(|error| engine.or_moved(error))
    }

    /// Copies the store, as it is now, to a new directory, which is then a store of its own: a consistent copy of a live
    /// store, durable when this returns. A handle that writes flushes first; any other copies what it shows. Sealed
    /// segments, which never change, become hard links where the file system can; the rest is copied by the file system
    /// (as reflinks, where it has them) or through memory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// let monday = dir.path().join("monday");
    /// store.backup(&monday)?;
    /// vecstone::VectorStore::open(&monday)?.close()?;
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] or [`Error::NotAStore`] if `to` holds anything, [`Error::InItself`] if it lies in this
    /// store; [`Error::NoSpace`], [`Error::Io`]: what was copied is removed. Until it is whole, also after a crash, the
    /// copy is no store ([`Error::Unfinished`]): repeated, the call starts over.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport> {
        let to = to.as_ref();
        let (manifest, snapshot) = match &self.role {
            // Dead rows are written to the copy's lists.
            Role::Reader(reader) => reader.confirmed()?,
            Role::Writer(_) => {
                let engine = self.engine()?;
                engine.durable_snapshot().map_err(|error| engine.or_moved(error))?
            }
        };
        backup::backup(&snapshot.files().dir, &manifest, &snapshot, to)
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
        match &self.role {
            // The child of a writer has nothing to close: no lock, no thread, nothing of its own in the files.
            // What was accepted is written, also in a call that is not wanted any more.
            Role::Writer(engine) if !engine.is_forked() => interrupt::not_now(|| close::close(engine)),
            Role::Writer(_) | Role::Reader(_) => Ok(()),
        }
    }
}

impl Drop for VectorStore {
    fn drop(&mut self) {
        if let Role::Writer(engine) = &self.role
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
