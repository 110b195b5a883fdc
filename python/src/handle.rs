//! A handle: how a call gets to the engine behind it.
//!
//! The interpreter is released in every call that works or may wait. A single `get` or `put` keeps it, unless it would
//! have to wait. No call waits for a lock of ours while it holds the interpreter, and none takes the interpreter while it
//! holds one.

use crate::convert;
use crate::error::{OrRaise, raised};
use crate::ids::{Ids, OneId};
use crate::interrupt;
use crate::iterate::{IterItem, RowIter};
use crate::maintain::Progress;
use crate::open::{self, Mode, Refused};
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
use vecstone::{
    AsId, CompactOptions, CompactReport, Document, Durability, Error, IdRef, Metric, Op, OptimizeReport,
    RowSource, VectorStore, WriteBatch, counted,
};

/// A handle of a store.
#[pyclass(subclass, frozen, module = "vecstone._core")]
pub(crate) struct Store {
    pub(crate) shared: Arc<Shared>,
    closed: AtomicBool,
    pub(crate) mode: Mode,
    pub(crate) path: PathBuf,
    /// Of writes through this handle that do not say otherwise.
    pub(crate) durability: Durability,
    /// Of searches through this handle that do not say otherwise; 1 is exact.
    pub(crate) recall_target: f32,
}

/// Calls `take` with memory for one vector that is warm already.
fn with_row<R>(take: impl FnOnce(&mut Vec<f32>) -> R) -> R {
    thread_local!(static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
    let mut row = ROW.take();
    let taken = take(&mut row);
    ROW.set(row);
    taken
}

/// One vector as the rows of a batch.
#[derive(Debug)]
struct OneRow<'a>(&'a [f32]);

impl RowSource for OneRow<'_> {
    fn copy_rows(&self, _first: usize, out: &mut [f32]) {
        out.copy_from_slice(self.0);
    }
}

/// Refuses documents of ids, none of which are there.
pub(crate) fn unknown(ids: &[IdRef<'_>]) -> vecstone::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    Err(Error::unknown_ids(ids.iter().map(IdRef::to_id)))
}

/// Refuses documents that are not as many as their ids.
pub(crate) fn check_count(ids: usize, documents: usize) -> PyResult<()> {
    if ids == documents {
        return Ok(());
    }
    let (ids, documents) = (counted(ids, "id"), counted(documents, "document"));
    let text = format!("{ids}, but {documents}; give one for each id");
    Err(PyValueError::new_err(text))
}

impl Store {
    pub(crate) fn new(
        shared: Arc<Shared>,
        mode: Mode,
        path: PathBuf,
        durability: Durability,
        recall_target: f32,
    ) -> Store {
        Store { shared, closed: AtomicBool::new(false), mode, path, durability, recall_target }
    }

    /// A call that must not hold the interpreter. `None`: the store is still to be made, and so empty.
    pub(crate) fn use_store<T>(
        &self,
        call: impl FnOnce(Option<&VectorStore>) -> vecstone::Result<T>,
    ) -> vecstone::Result<T> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        match store.as_ref().filter(|_| !self.is_closed()) {
            Some(store) => call(store.get()),
            None => Err(Error::Closed),
        }
    }

    /// A call that reads, or may wait: without the interpreter. A store that is still to be made gives the default.
    pub(crate) fn with<T: Send + Default>(
        &self,
        py: Python<'_>,
        mut call: impl FnMut(&VectorStore) -> vecstone::Result<T> + Send,
    ) -> PyResult<T> {
        interrupt::detach(py, || self.use_store(|store| store.map_or_else(|| Ok(T::default()), &mut call)))
    }

    /// As [`with`](Self::with), of a call that reads one moment.
    pub(crate) fn read<T: Send + Default>(
        &self,
        py: Python<'_>,
        mut call: impl FnMut(&vecstone::Snapshot) -> vecstone::Result<T> + Send,
    ) -> PyResult<T> {
        self.with(py, |store| call(&self.snapshot_of(store)?))
    }

    /// As [`with`](Self::with), of a call that changes what is there.
    pub(crate) fn change<T: Send + Default>(
        &self,
        py: Python<'_>,
        mut call: impl FnMut(&VectorStore) -> vecstone::Result<T> + Send,
    ) -> PyResult<T> {
        let mut change = |store: Option<&VectorStore>| match store {
            Some(store) => call(store),
            None => self.check_writable().map(|()| T::default()),
        };
        interrupt::detach(py, || self.use_store(&mut change))
    }

    /// Measures effort with `n` queries: the `effort` of `info --json`, as text. A store that is still to be made has
    /// nothing to measure.
    pub(crate) fn tune(
        &self,
        py: Python<'_>,
        (queries, n): (Vec<f32>, usize),
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Option<String>> {
        let mut progress = Progress::new(progress);
        let done = self.change(py, |store| {
            let dim = store.dim();
            if n > 0 && queries.len() != n * dim {
                return Err(Error::dimension_mismatch(dim, queries.len() / n));
            }
            store.tune_with(&queries, |now| progress.tell(now.rows, now.total))
        });
        Ok(progress.end(done)?.as_ref().map(vecstone_cli::effort_json))
    }

    pub(crate) fn optimize_with(
        &self,
        py: Python<'_>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<OptimizeReport> {
        let mut progress = Progress::new(progress);
        let done = self.change(py, |store| store.optimize_with(|now| progress.tell(now.rows, now.total)));
        progress.end(done)
    }

    pub(crate) fn compact_with(
        &self,
        py: Python<'_>,
        options: &CompactOptions,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<CompactReport> {
        options.check().or_raise()?;
        let mut progress = Progress::new(progress);
        let done =
            self.change(py, |store| store.compact_with(options, |now| progress.tell(now.rows, now.total)));
        progress.end(done)
    }

    /// A call that stores vectors of `dim` components, and makes the store for them if it is still to be made and `check`
    /// has nothing against them. Without vectors there is no dimension: the store is opened if it is there by now.
    fn store_rows(
        &self,
        py: Python<'_>,
        dim: Option<usize>,
        mut check: impl FnMut() -> vecstone::Result<()> + Send,
        mut call: impl FnMut(&VectorStore) -> vecstone::Result<()> + Send,
    ) -> PyResult<()> {
        let store_rows = || {
            if self.use_store(|store| Ok(store.is_none()))? {
                self.check_writable()?;
                check()?;
                self.shared.make(dim.and_then(|dim| u32::try_from(dim).ok()))?;
            }
            let outcome = self.use_store(|store| match store {
                Some(store) => call(store),
                None if dim.is_none() => Ok(()),
                None => Err(Error::Closed),
            });
            outcome.map_err(Refused::from)
        };
        interrupt::detach(py, store_rows)
    }

    /// Puts attributes, as JSON text, in the place of those that there are.
    pub(crate) fn set_attributes(&self, py: Python<'_>, text: Option<&str>) -> PyResult<()> {
        let set = || {
            if self.use_store(|store| Ok(store.is_none()))? {
                self.check_writable()?;
                self.shared.make(None)?;
            }
            let set = |store: Option<&VectorStore>| match store {
                Some(store) => store.set_attributes(text).map(|()| true),
                None => Ok(text.is_none()),
            };
            self.use_store(set).map_err(Refused::from)
        };
        if interrupt::detach(py, set)? {
            return Ok(());
        }
        let path = self.path.display();
        Err(PyValueError::new_err(format!(
            "{path} is made by its first vector, and has no attributes before: open it with dim=, or store a vector first"
        )))
    }

    /// Refuses to write to a store that is still to be made.
    pub(crate) fn check_writable(&self) -> vecstone::Result<()> {
        if self.mode == Mode::Read { Err(Error::ReadOnly) } else { self.shared.check_process() }
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
        let Some(store) = store.get() else { return Ok(None) };
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
            let check = || VectorStore::check_rows(&[id.as_id()], &OneRow(row), row.len(), &[document]);
            self.store_rows(py, Some(row.len()), check, |store| {
                let mut batch = WriteBatch::new();
                store.write(batch.put_with_document(id.as_id(), row, document).durability(durability))
            })
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
        let (ids, lines) = (Ids::of_rows(ids)?, convert::many_to_json(Some(documents))?);
        check_count(ids.len(), lines.len())?;
        let change = |store: Option<&VectorStore>| {
            let ids = ids.refs();
            let Some(store) = store else { return self.check_writable().and_then(|()| unknown(&ids)) };
            all_of_kind(store.kind(), &ids)?;
            let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
            store.change_documents(&ids, &lines, merges, durability)
        };
        interrupt::detach(py, || self.use_store(change))
    }

    pub(crate) fn write_many(
        &self,
        py: Python<'_>,
        ids: &Ids,
        vectors: &Bound<'_, PyAny>,
        lines: &[Document<String>],
        durability: Durability,
    ) -> PyResult<()> {
        let (ids, lines) = (ids.refs(), lines.iter().map(Document::as_deref).collect::<Vec<_>>());
        vectors::with_rows(vectors, ids.len(), |source, dim| {
            let put = |store: &VectorStore| store.put_rows(&ids, source, dim, &lines, Some(durability));
            let dim_of_rows = (!ids.is_empty()).then_some(dim);
            self.store_rows(py, dim_of_rows, || VectorStore::check_rows(&ids, source, dim, &lines), put)
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
        let at_once = self.at_once(|store| {
            row.resize(store.dim(), 0.0);
            match store.try_get_into(id.as_id(), row) {
                // Refreshed since by another thread, this handle shows another store.
                Err(Error::DimensionMismatch { .. }) => Ok(None),
                got => got,
            }
        })?;
        let found = match at_once {
            Some(found) => found,
            None if self.mode == Mode::Read => self.with(py, |store| {
                let snapshot = store.snapshot()?;
                row.resize(snapshot.dim(), 0.0);
                snapshot.get_into(id.as_id(), row)
            })?,
            None => self.with(py, |store| {
                row.resize(store.dim(), 0.0);
                store.get_into(id.as_id(), row)
            })?,
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

    /// The store as it is now; `None` while it is still to be made.
    pub(crate) fn snapshot_now(&self, py: Python<'_>) -> PyResult<Option<vecstone::Snapshot>> {
        self.with(py, |store| self.snapshot_of(store).map(Some))
    }

    fn snapshot_of(&self, store: &VectorStore) -> vecstone::Result<vecstone::Snapshot> {
        Ok(store.snapshot()?.with_recall_target(self.recall_target))
    }

    /// The metric of the store that is there, or is to be made.
    pub(crate) fn metric_now(&self, py: Python<'_>) -> PyResult<Metric> {
        let metric =
            |store: Option<&VectorStore>| Ok(store.map_or(self.shared.pending.metric, VectorStore::metric));
        py.detach(|| self.use_store(metric)).or_raise()
    }

    pub(crate) fn iterate(&self, py: Python<'_>, gives: IterItem) -> PyResult<RowIter> {
        Ok(RowIter::over(self.snapshot_now(py)?.as_ref(), gives))
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
