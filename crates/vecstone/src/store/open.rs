//! Making and opening a store.

use super::{Role, VectorStore};
use crate::engine::OpenedEngine;
use crate::format::Identity;
use crate::open::directory;
use crate::open::reader::Reader;
use crate::pair::files::{new_identity, random};
use crate::sys::disk::{Disk, OsDisk};
use crate::types::config::{Metric, check_dim, check_recall};
use crate::types::error::Result;
use crate::types::options::OpenOptions;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The ends of the builder.
impl OpenOptions {
    /// Makes a store at `path` for vectors of `dim` components, durably. Starts over what an interrupted creation
    /// left.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let path = dir.path().join("store");
    /// use vecstone::{Durability, Metric, OpenOptions};
    ///
    /// let store = OpenOptions::new().durability(Durability::Sync).create(&path, 2, Metric::L2)?;
    /// store.put(7u64, &[1.0, 2.0])?; // durable when it returns
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`](crate::Error::InvalidDim),
    /// [`Error::InvalidRecallTarget`](crate::Error::InvalidRecallTarget);
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists) or
    /// [`Error::NotAStore`](crate::Error::NotAStore) if the directory holds anything else.
    pub fn create(&self, path: impl AsRef<Path>, dim: u32, metric: Metric) -> Result<VectorStore> {
        let identity = new_identity(random()?, 1)?;
        VectorStore::create_on(Arc::new(OsDisk::default()), path.as_ref(), dim, metric, identity, self)
    }

    /// Opens a store for writing: takes its lock and recovers it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let path = dir.path().join("store");
    /// # vecstone::VectorStore::create(&path, 2, vecstone::Metric::L2)?.close()?;
    /// use std::time::Duration;
    /// use vecstone::OpenOptions;
    ///
    /// let store = OpenOptions::new().lock_wait(Duration::from_secs(5)).open(&path)?;
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound), [`Error::IncompleteCreate`](crate::Error::IncompleteCreate),
    /// [`Error::NotAStore`](crate::Error::NotAStore); [`Error::Locked`](crate::Error::Locked) while another process
    /// writes; [`Error::Corrupt`](crate::Error::Corrupt) if something durable is damaged, and
    /// [`Error::UncleanShutdown`](crate::Error::UncleanShutdown) if [`strict`](Self::strict) asks for it (nothing is
    /// changed then); [`Error::OptionMismatch`](crate::Error::OptionMismatch) if the store was made with another
    /// [`auto_optimize_rows`](Self::auto_optimize_rows);
    /// [`Error::InvalidRecallTarget`](crate::Error::InvalidRecallTarget).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<VectorStore> {
        VectorStore::open_on(Arc::new(OsDisk::default()), path.as_ref(), self)
    }

    /// Opens a store for reading: writes nothing, needs no write permission, and works beside a live writer, of which
    /// it shows what is durable now. [`refresh`](VectorStore::refresh) moves on. Options about writing have no effect.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), without [`Error::Locked`](crate::Error::Locked).
    pub fn open_read_only(&self, path: impl AsRef<Path>) -> Result<VectorStore> {
        check_recall(self.recall_target)?;
        let mut store = VectorStore::open_read_only_on(Arc::new(OsDisk::default()), path.as_ref())?;
        self.check_store(store.snapshot()?.files().sections.auto_optimize_rows())?;
        (store.threads, store.recall_target) = (self.threads, self.recall_target);
        Ok(store)
    }
}

impl VectorStore {
    /// Makes a store at `path` for vectors of `dim` components, as [`OpenOptions::create`] does by default.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::create`].
    pub fn create(path: impl AsRef<Path>, dim: u32, metric: Metric) -> Result<VectorStore> {
        OpenOptions::new().create(path, dim, metric)
    }

    /// Opens a store for writing, as [`OpenOptions::open`] does by default.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<VectorStore> {
        OpenOptions::new().open(path)
    }

    /// Opens a store for reading, as [`OpenOptions::open_read_only`] does by default.
    ///
    /// # Errors
    ///
    /// As [`OpenOptions::open_read_only`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<VectorStore> {
        OpenOptions::new().open_read_only(path)
    }

    pub(crate) fn create_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        dim: u32,
        metric: Metric,
        identity: Identity,
        options: &OpenOptions,
    ) -> Result<VectorStore> {
        check_dim(dim)?;
        check_recall(options.recall_target)?;
        let (dir, lock) = directory::make_directory(&disk, path)?;
        let opened = OpenedEngine::create(dir, lock, dim, metric, identity, options)?;
        Ok(Self::writer(opened, options))
    }

    pub(crate) fn open_on(disk: Arc<dyn Disk>, path: &Path, options: &OpenOptions) -> Result<VectorStore> {
        check_recall(options.recall_target)?;
        OpenedEngine::open(&disk, path, options).map(|opened| Self::writer(opened, options))
    }

    pub(super) fn writer(opened: OpenedEngine, options: &OpenOptions) -> VectorStore {
        let OpenedEngine { engine, lock, recovery } = opened;
        VectorStore {
            path: engine.dir.path().to_owned(),
            role: Role::Writer(engine),
            recovery,
            threads: options.threads,
            recall_target: options.recall_target,
            forked: OnceLock::new(),
            _lock: Some(lock),
        }
    }

    pub(crate) fn open_read_only_on(disk: Arc<dyn Disk>, path: &Path) -> Result<VectorStore> {
        let (reader, recovery) = Reader::open(&disk, path)?;
        Ok(VectorStore {
            path: reader.published.load().dir.path().to_owned(),
            role: Role::Reader(Box::new(reader)),
            recovery,
            threads: 0,
            recall_target: 1.0,
            forked: OnceLock::new(),
            _lock: None,
        })
    }
}
