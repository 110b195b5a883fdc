//! A store before its first vector: nothing is on the disk, and the first write makes it.
//!
//! A store has a dimension, which the first vector tells. Until then a handle keeps what `open` was told, and answers as an
//! empty store. The first write makes the store, or opens the one that another process has made meanwhile.

use crate::open::{Mode, Refused};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vecstone::{Error, Metric, OpenOptions, VectorStore};

/// What the first write makes a store with.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) metric: Metric,
    /// Whether `open` was told the metric: a store that is there by then must have it.
    pub(crate) metric_is_asked: AtomicBool,
    /// Of a store that is made; one that is there by then must have it.
    pub(crate) auto_optimize_rows: Option<u64>,
    pub(crate) options: OpenOptions,
    /// Longest wait for another process that makes or writes the store.
    pub(crate) lock_wait: Duration,
}

impl Pending {
    /// The store at the path: opened if it is there and may be, else made for vectors of `dim` components. `None` if
    /// there is none and `dim` is not known.
    pub(crate) fn open(&self, dim: Option<u32>) -> Result<Option<VectorStore>, Refused> {
        let store = match self.mode {
            Mode::Read => match self.options.open_read_only(&self.path) {
                Err(Error::NotFound { .. } | Error::IncompleteCreate { .. }) => None,
                opened => Some(opened?),
            },
            Mode::Exclusive => self.create(dim)?,
            Mode::Write => Some(self.options.open(&self.path)?),
            Mode::Append => self.open_or_create(dim)?,
        };
        if let Some(store) = &store
            && self.metric_is_asked.load(Ordering::Relaxed)
            && store.metric() != self.metric
        {
            return Err(Refused::metric(store.path(), self.metric, store.metric()));
        }
        if let (Some(store), Some(wished)) = (&store, self.auto_optimize_rows)
            && store.auto_optimize_rows() != wished
        {
            return Err(Refused::auto_optimize_rows(store.path(), wished, store.auto_optimize_rows()));
        }
        Ok(store)
    }

    /// Another process may make the store at the same time: what stands there is looked at again until that is settled.
    fn open_or_create(&self, dim: Option<u32>) -> Result<Option<VectorStore>, Refused> {
        let deadline = Instant::now() + self.lock_wait;
        loop {
            match self.options.open(&self.path) {
                Err(Error::NotFound { .. } | Error::IncompleteCreate { .. }) => {}
                opened => return Ok(Some(opened?)),
            }
            match self.create(dim) {
                Err(
                    Refused::AlreadyThere(_)
                    | Refused::Library(Error::AlreadyExists { .. } | Error::Locked { .. }),
                ) if Instant::now() < deadline => {}
                created => return created,
            }
        }
    }

    fn create(&self, dim: Option<u32>) -> Result<Option<VectorStore>, Refused> {
        let Some(dim) = dim else { return self.check_path().map(|()| None) };
        self.check_parent()?;
        let options = self.options.clone();
        let options =
            self.auto_optimize_rows.map_or(options.clone(), |rows| options.auto_optimize_rows(rows));
        let create = || options.create(&self.path, dim, self.metric);
        let created = match create() {
            // Its maker holds LOCK: the store is there now, or LOCK is free.
            Err(Error::Locked { .. }) if self.mode == Mode::Exclusive => create(),
            created => created,
        };
        match created {
            Err(Error::AlreadyExists { path, .. }) if self.mode == Mode::Exclusive => {
                Err(Refused::AlreadyThere(path))
            }
            created => Ok(Some(created?)),
        }
    }

    /// Whether there is a directory that could hold the store.
    fn check_parent(&self) -> Result<(), Refused> {
        let parent = self.path.parent().unwrap_or(&self.path);
        match fs::metadata(parent) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Refused::System { path: self.path.clone(), error })
            }
            _ => Ok(()),
        }
    }

    /// Whether a store could be made here: what making it would refuse is refused now.
    fn check_path(&self) -> Result<(), Refused> {
        let path = &self.path;
        let system = |path: &Path| {
            let path = path.to_owned();
            move |error| Refused::System { path, error }
        };
        match fs::metadata(path) {
            // Not made yet: its parent has to take it. A link that leads nowhere is in the way.
            Err(_) if fs::symlink_metadata(path).is_err() => {
                check_writable(path.parent().unwrap_or(path)).map_err(system(path))
            }
            Err(error) => Err(system(path)(error)),
            Ok(meta) if !meta.is_dir() || path.join("MANIFEST").exists() => {
                Err(Refused::AlreadyThere(path.clone()))
            }
            Ok(_) => match VectorStore::open_read_only(path) {
                Ok(_) => Err(Refused::AlreadyThere(path.clone())),
                // Empty, or what an interrupted creation left.
                Err(Error::NotFound { .. } | Error::IncompleteCreate { .. }) => {
                    check_writable(path).map_err(system(path))
                }
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Whether names may be made in a directory.
fn check_writable(dir: &Path) -> std::io::Result<()> {
    let meta = fs::metadata(dir)?;
    if !meta.is_dir() {
        return Err(std::io::ErrorKind::NotADirectory.into());
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
    }
    Ok(())
}
