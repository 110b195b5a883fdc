//! One engine for all handles of a process: a store that is open for writing is found by device and inode.

use crate::error::OrRaise;
use arc_swap::ArcSwap;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use vecstone::{Error, Result, VectorStore};

/// Device and inode of a directory.
pub(crate) type Key = (u64, u64);

/// An open store and the handles that use it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// `None` once it is closed. A call that uses it holds it for reading, and never waits for the interpreter meanwhile.
    pub(crate) store: RwLock<Option<VectorStore>>,
    /// What the engine was opened with; other handles may not want anything else.
    pub(crate) wishes: Wishes,
    key: Option<Key>,
    handles: AtomicUsize,
}

/// Options that all handles of an engine share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wishes {
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
pub(crate) fn key_of(path: &Path) -> Option<Key> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    }
    #[cfg(not(unix))]
    {
        _ = path;
        None
    }
}

impl Shared {
    /// A store of one handle.
    pub(crate) fn of_one(store: VectorStore, wishes: Wishes) -> Arc<Shared> {
        Arc::new(Shared { store: RwLock::new(Some(store)), wishes, key: None, handles: AtomicUsize::new(1) })
    }

    /// The engine that this process has open at `path`, with one handle more, unless it must not be there (`exclusive`);
    /// else what `open` opens. Two threads that open the same path take turns.
    pub(crate) fn find_or(
        path: &Path,
        wishes: Wishes,
        exclusive: bool,
        open: impl FnOnce() -> Result<VectorStore>,
    ) -> Result<Arc<Shared>> {
        let registry = registry();
        let mut open_stores = lock(&registry.1);
        if let Some(shared) = key_of(path).and_then(|key| open_stores.get(&key)).and_then(Weak::upgrade) {
            if exclusive {
                return Err(Error::AlreadyExists { path: path.to_owned() });
            }
            shared.handles.fetch_add(1, Ordering::Relaxed);
            return Ok(shared);
        }
        let store = RwLock::new(Some(open()?));
        let key = key_of(path);
        let shared = Arc::new(Shared { store, wishes, key, handles: AtomicUsize::new(1) });
        if let Some(key) = key {
            open_stores.insert(key, Arc::downgrade(&shared));
        }
        Ok(shared)
    }

    /// One handle less; the last one closes the engine, after the calls that use it now.
    pub(crate) fn release(&self) -> Result<()> {
        let registry = registry();
        let mut open_stores = lock(&registry.1);
        if self.handles.fetch_sub(1, Ordering::Relaxed) > 1 {
            return Ok(());
        }
        // Held until LOCK is free: who opens the path again meanwhile waits.
        let closed = self.close();
        if let Some(key) = self.key {
            open_stores.remove(&key);
        }
        closed
    }

    fn close(&self) -> Result<()> {
        let store = self.store.write().unwrap_or_else(PoisonError::into_inner).take();
        store.map_or(Ok(()), VectorStore::close)
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
