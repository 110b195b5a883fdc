//! One engine for all handles of a process: a store that is open for writing is found by device and inode, one that is
//! still to be made by its place.

use crate::error::OrRaise;
use crate::open::{Mode, Refused};
use crate::pending::Pending;
use arc_swap::ArcSwap;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use vecstone::{Error, Result, VectorStore};

/// What a store is found by.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Device and inode of its directory.
    #[cfg_attr(not(unix), expect(dead_code, reason = "there are none"))]
    Directory(u64, u64),
    /// The path at which it is to be made.
    Place(PathBuf),
}

/// An open store and the handles that use it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `None` once it is closed, and empty until it is made. A call that uses it holds it for reading, and never waits for
    /// the interpreter meanwhile.
    pub(crate) store: RwLock<Option<OnceLock<VectorStore>>>,
    /// What it is made with.
    pub(crate) pending: Pending,
    /// What the engine was opened with; other handles may not want anything else.
    pub(crate) wishes: EngineOptions,
    handles: AtomicUsize,
    /// The process that opened it.
    process: u32,
}

/// Options that all handles of an engine share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EngineOptions {
    pub(crate) flush_interval: f64,
    pub(crate) buffer_bytes: u64,
    pub(crate) threads: Option<usize>,
}

/// The stores that this process has open for writing.
type Registry = Mutex<HashMap<Key, Weak<Shared>>>;

/// With the process that filled it: a forked child begins with an empty one, since its parent's may be locked for ever.
static REGISTRY: LazyLock<ArcSwap<(u32, Registry)>> = LazyLock::new(|| ArcSwap::from_pointee(new_registry()));

fn new_registry() -> (u32, Registry) {
    (std::process::id(), Registry::default())
}

/// Makes the registry while the module is imported: whoever makes it holds a lock that a child forked meanwhile would wait
/// for, for ever.
pub(crate) fn init() {
    LazyLock::force(&REGISTRY);
}

fn registry() -> Arc<(u32, Registry)> {
    let registry = REGISTRY.load_full();
    if registry.0 == std::process::id() {
        return registry;
    }
    let fresh = Arc::new(new_registry());
    let replaced = REGISTRY.compare_and_swap(&registry, fresh.clone());
    // What the parent had open is not for this process to close.
    std::mem::forget(registry.clone());
    if Arc::ptr_eq(&replaced, &registry) { fresh } else { REGISTRY.load_full() }
}

fn lock(registry: &Registry) -> MutexGuard<'_, HashMap<Key, Weak<Shared>>> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a directory is, whatever its path; `None` where there is none.
fn key_of(path: &Path) -> Option<Key> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok()?;
        Some(Key::Directory(meta.dev(), meta.ino()))
    }
    #[cfg(not(unix))]
    {
        _ = path;
        None
    }
}

/// Where a path that names nothing is, however it is spelled.
fn place_of(path: &Path) -> PathBuf {
    let parent = path.parent().and_then(|parent| std::fs::canonicalize(parent).ok());
    match (parent, path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

impl Shared {
    fn new(store: Option<VectorStore>, pending: Pending, wishes: EngineOptions) -> Arc<Shared> {
        let store = store.map_or_else(OnceLock::new, OnceLock::from);
        Arc::new(Shared {
            store: RwLock::new(Some(store)),
            pending,
            wishes,
            handles: AtomicUsize::new(1),
            process: std::process::id(),
        })
    }

    /// A read-only handle. Where `may_be_missing`, it is empty as long as there is no store, and `refresh` looks again.
    pub(crate) fn of_reader(
        pending: Pending,
        wishes: EngineOptions,
        may_be_missing: bool,
    ) -> std::result::Result<Arc<Shared>, Refused> {
        let store = pending.open(None)?;
        if store.is_none() && !may_be_missing {
            // Says which of the errors it is.
            VectorStore::open_read_only(&pending.path)?;
        }
        Ok(Shared::new(store, pending, wishes))
    }

    /// The store that this process has open at `path`, or is to make there, with one handle more, unless it must not be
    /// there; else it is opened or made, or left to be made. Two threads that open the same path take turns.
    pub(crate) fn find_or_open(
        pending: Pending,
        dim: Option<u32>,
        wishes: EngineOptions,
    ) -> std::result::Result<Arc<Shared>, Refused> {
        let registry = registry();
        let mut open_stores = lock(&registry.1);
        let (path, place) = (pending.path.clone(), Key::Place(place_of(&pending.path)));
        let found = key_of(&path).and_then(|key| open_stores.get(&key)).or_else(|| open_stores.get(&place));
        if let Some(shared) = found.and_then(Weak::upgrade) {
            if pending.mode == Mode::Exclusive {
                return Err(Refused::AlreadyThere(path));
            }
            shared.handles.fetch_add(1, Ordering::Relaxed);
            return Ok(shared);
        }
        let shared = Shared::new(pending.open(dim)?, pending, wishes);
        let key = if shared.is_pending() { Some(place) } else { key_of(&path) };
        if let Some(key) = key {
            open_stores.insert(key, Arc::downgrade(&shared));
        }
        Ok(shared)
    }

    /// Whether the store is still to be made.
    pub(crate) fn is_pending(&self) -> bool {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().is_some_and(|store| store.get().is_none())
    }

    /// Where the store is, or is to be made.
    pub(crate) fn path(&self) -> PathBuf {
        self.pending.path.clone()
    }

    /// Makes or opens the store, if it is still to be made. Without a dimension it is only opened, if it is there.
    /// Threads take turns: one of them does it.
    pub(crate) fn make(self: &Arc<Shared>, dim: Option<u32>) -> std::result::Result<(), Refused> {
        self.check_process()?;
        let registry = registry();
        let mut open_stores = lock(&registry.1);
        let held = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = held.as_ref() else { return Err(Error::Closed.into()) };
        if place.get().is_some() {
            return Ok(());
        }
        let Some(store) = self.pending.open(dim)? else { return Ok(()) };
        let path = store.path().to_owned();
        _ = place.set(store);
        if self.pending.mode != Mode::Read {
            open_stores.retain(|_, shared| !std::ptr::eq(shared.as_ptr(), Arc::as_ptr(self)));
            if let Some(key) = key_of(&path) {
                open_stores.insert(key, Arc::downgrade(self));
            }
        }
        Ok(())
    }

    /// Refuses to write in a child of the process that opened the store.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.process == std::process::id() { Ok(()) } else { Err(Error::Forked) }
    }

    /// One handle less; the last one closes the store, after the calls that use it now.
    pub(crate) fn release(&self) -> Result<()> {
        let registry = registry();
        let mut open_stores = lock(&registry.1);
        if self.handles.fetch_sub(1, Ordering::Relaxed) > 1 {
            return Ok(());
        }
        // Held until LOCK is free: who opens the path again meanwhile waits.
        let closed = self.close();
        open_stores.retain(|_, shared| !std::ptr::eq(shared.as_ptr(), self));
        closed
    }

    fn close(&self) -> Result<()> {
        let store = match self.check_process() {
            Ok(()) => self.store.write().unwrap_or_else(PoisonError::into_inner).take(),
            // A thread of the parent may have been using it at the fork, and never lets go here.
            Err(_) => self.store.try_write().ok().and_then(|mut store| store.take()),
        };
        store.and_then(OnceLock::into_inner).map_or(Ok(()), VectorStore::close)
    }
}

/// Closes every store that this process writes: for the end of the interpreter.
#[pyfunction]
pub(crate) fn close_all(py: Python<'_>) -> PyResult<()> {
    py.detach(|| {
        let registry = registry();
        let open: Vec<_> = lock(&registry.1).drain().filter_map(|(_, shared)| shared.upgrade()).collect();
        open.iter().map(|shared| shared.close()).fold(Ok(()), Result::and)
    })
    .or_raise()
}
