//! A handle: how a call gets to the engine behind it.
//!
//! The interpreter is released in every call that works or may wait. A single `get` or `put` keeps it, unless it would
//! have to wait. No call waits for a lock of ours while it holds the interpreter, and none takes the interpreter while it
//! holds one.

use crate::convert;
use crate::error::{OrRaise, raised};
use crate::ids::{Ids, OneId};
use crate::iterate::{Gives, RowIter};
use crate::open::{self, Mode};
use crate::reading::{all_of_kind, of_kind};
use crate::shared::Shared;
use crate::vectors;
use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use vecstone::{AsId, Document, Durability, Error, Op, VectorStore};

/// A handle of a store.
#[pyclass(subclass, frozen, module = "vecstone._core")]
pub(crate) struct Store {
    pub(crate) shared: Arc<Shared>,
    closed: AtomicBool,
    pub(crate) mode: Mode,
    pub(crate) path: PathBuf,
    /// Of writes through this handle that do not say otherwise.
    pub(crate) durability: Durability,
}

/// Calls `take` with memory for one vector that is warm already.
fn with_row<R>(take: impl FnOnce(&mut Vec<f32>) -> R) -> R {
    thread_local!(static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
    let mut row = ROW.take();
    let taken = take(&mut row);
    ROW.set(row);
    taken
}

/// Refuses documents that are not as many as their ids.
pub(crate) fn check_count(ids: usize, documents: usize) -> PyResult<()> {
    if ids == documents {
        return Ok(());
    }
    let text = format!("{ids} ids, but {documents} documents; give one for each id");
    Err(PyValueError::new_err(text))
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, mode: Mode, path: PathBuf, durability: Durability) -> Store {
        Store { shared, closed: AtomicBool::new(false), mode, path, durability }
    }

    /// A call that must not hold the interpreter.
    pub(crate) fn use_store<T>(
        &self,
        call: impl FnOnce(&VectorStore) -> vecstone::Result<T>,
    ) -> vecstone::Result<T> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        match store.as_ref().filter(|_| !self.is_closed()) {
            Some(store) => call(store),
            None => Err(Error::Closed),
        }
    }

    /// A call that works or may wait: without the interpreter.
    pub(crate) fn with<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&VectorStore) -> vecstone::Result<T> + Send,
    ) -> PyResult<T> {
        py.detach(|| self.use_store(call)).or_raise()
    }

    /// A call of a microsecond, with the interpreter; `None` if it would have to wait.
    fn at_once<T>(
        &self,
        call: impl FnOnce(&VectorStore) -> vecstone::Result<Option<T>>,
    ) -> PyResult<Option<T>> {
        let Ok(store) = self.shared.store.try_read() else { return Ok(None) };
        let Some(store) = store.as_ref().filter(|_| !self.is_closed()) else {
            return Err(raised(&Error::Closed));
        };
        let outcome = call(store);
        outcome.or_raise()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Closes this handle; the last one closes the engine. A second call does nothing.
    pub(crate) fn release(&self) -> vecstone::Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) { Ok(()) } else { self.shared.release() }
    }

    pub(crate) fn durability_of(&self, durability: Option<&str>) -> PyResult<Durability> {
        durability.map_or(Ok(self.durability), open::durability)
    }

    pub(crate) fn write_one(
        &self,
        py: Python<'_>,
        id: &OneId<'_>,
        vector: &Bound<'_, PyAny>,
        document: Document<&str>,
        durability: Durability,
    ) -> PyResult<()> {
        with_row(|row| {
            // What is checked and stored is the copy: others may change the vector meanwhile, without the interpreter too.
            vectors::copy_one(vector, row)?;
            let op = Op::Put { id: id.as_id(), vector: row, document };
            if durability == Durability::Buffered && self.at_once(|store| store.try_write(&op))?.is_some() {
                return Ok(());
            }
            self.with(py, |store| store.write(&[op], Some(durability)))
        })
    }

    pub(crate) fn change_documents(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        documents: &Bound<'_, PyAny>,
        durability: Option<&str>,
        merges: bool,
    ) -> PyResult<()> {
        let durability = Some(self.durability_of(durability)?);
        let (ids, lines) = (Ids::of(ids)?, convert::many_to_json(Some(documents))?);
        check_count(ids.len(), lines.len())?;
        self.with(py, |store| {
            let ids = ids.refs();
            all_of_kind(store.kind(), &ids)?;
            let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
            match merges {
                false => store.put_documents(&ids, &lines, durability),
                true => store.update_documents(&ids, &lines, durability),
            }
        })
    }

    pub(crate) fn write_many(
        &self,
        py: Python<'_>,
        ids: &Ids,
        vectors: &Bound<'_, PyAny>,
        lines: &[Document<String>],
        durability: Durability,
    ) -> PyResult<()> {
        vectors::with_rows(vectors, ids.len(), |source, dim| {
            self.with(py, |store| {
                let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
                store.put_rows(&ids.refs(), source, dim, &lines, Some(durability))
            })
        })
    }

    pub(crate) fn read_one<'py>(
        &self,
        py: Python<'py>,
        id: &OneId<'_>,
    ) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        // What the array takes is not warm, and is written once.
        with_row(|row| Ok(self.read_row(py, id, row)?.then(|| PyArray1::from_slice(py, row))))
    }

    /// Makes `row` the vector of an id; false if the id is not there.
    fn read_row(&self, py: Python<'_>, id: &OneId<'_>, row: &mut Vec<f32>) -> PyResult<bool> {
        let sized = |store: &VectorStore, row: &mut Vec<f32>| {
            row.resize(store.dim(), 0.0);
            !row.is_empty()
        };
        let at_once = self.at_once(|store| match sized(store, row) {
            true => match store.try_get_into(id.as_id(), row) {
                // Refreshed since by another thread, this handle shows another store.
                Err(Error::DimensionMismatch { .. }) => Ok(None),
                got => got,
            },
            false => Ok(Some(false)),
        })?;
        let found = match at_once {
            Some(found) => found,
            None if self.mode == Mode::Read => self.with(py, |store| {
                let snapshot = store.snapshot()?;
                row.resize(snapshot.dim(), 0.0);
                Ok(!row.is_empty() && snapshot.get_into(id.as_id(), row)?)
            })?,
            None => self.with(py, |store| Ok(sized(store, row) && store.get_into(id.as_id(), row)?))?,
        };
        if !found {
            self.with(py, |store| of_kind(store.kind(), id.as_id()).map(drop))?;
        }
        Ok(found)
    }

    /// Makes durable what was written, if this handle writes. A forked child has written nothing.
    pub(crate) fn flush_own(&self, store: &VectorStore) -> vecstone::Result<()> {
        match store.flush() {
            Err(Error::Forked) => Ok(()),
            Err(Error::ReadOnly) if self.mode == Mode::Read => Ok(()),
            flushed => flushed,
        }
    }

    /// The store as it is now.
    pub(crate) fn snapshot_now(&self, py: Python<'_>) -> PyResult<vecstone::Snapshot> {
        self.with(py, VectorStore::snapshot)
    }

    pub(crate) fn iterate(&self, py: Python<'_>, gives: Gives) -> PyResult<RowIter> {
        Ok(RowIter::over(&self.snapshot_now(py)?, gives))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.is_closed() {
            return;
        }
        // Nobody is left to hear of a failure. Without the interpreter, if it is still there: closing waits for the disk.
        let close = || _ = self.release();
        if Python::try_attach(|py| py.detach(close)).is_none() {
            close();
        }
    }
}
