//! The store as Python holds it: one handle of an engine.
//!
//! The interpreter is released in every call that works or may wait. A single `get` or `put` keeps it, unless it would
//! have to wait. No call waits for a lock of ours while it holds the interpreter, and none takes the interpreter while it
//! holds one.

use crate::arrow;
use crate::convert;
use crate::error::{OrRaise, raised};
use crate::ids::{self, Ids, OneId};
use crate::iterate::{Gives, RowIter};
use crate::open::{self, Mode, Request};
use crate::reading::{self, of_kind};
use crate::segments::Segment;
use crate::shared::{Shared, Wishes};
use crate::vectors;
use numpy::PyArray1;
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyTuple};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use vecstone::{AsId, Durability, Op, VectorStore};

/// A handle of a store.
#[pyclass(subclass, frozen, module = "vecstone._core")]
pub(crate) struct Store {
    shared: Arc<Shared>,
    closed: AtomicBool,
    mode: Mode,
    path: PathBuf,
    /// Of writes through this handle that do not say otherwise.
    durability: Durability,
}

impl Store {
    fn use_store<T>(&self, call: impl FnOnce(&VectorStore) -> vecstone::Result<T>) -> vecstone::Result<T> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        match store.as_ref().filter(|_| !self.is_closed()) {
            Some(store) => call(store),
            None => Err(vecstone::Error::Closed),
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
            return Err(raised(&vecstone::Error::Closed));
        };
        let outcome = call(store);
        outcome.or_raise()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn durability_of(&self, durability: Option<&str>) -> PyResult<Durability> {
        durability.map_or(Ok(self.durability), open::durability)
    }

    fn write_one(
        &self,
        py: Python<'_>,
        id: &OneId<'_>,
        vector: &[f32],
        document: Option<&str>,
        durability: Durability,
    ) -> PyResult<()> {
        let op = Op::Put { id: id.as_id(), vector, document };
        if durability == Durability::Buffered && self.at_once(|store| store.try_write(&op))?.is_some() {
            return Ok(());
        }
        // Python may change the vector while the interpreter is released.
        let copy = vector.to_vec();
        self.with(py, |store| {
            store.write(&[Op::Put { id: id.as_id(), vector: &copy, document }], Some(durability))
        })
    }

    fn read_one<'py>(&self, py: Python<'py>, id: &OneId<'_>) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        // Memory that is warm already; what the array takes is not, and is written once.
        thread_local!(static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) });
        let mut row = ROW.take();
        let found = self.read_row(py, id, &mut row);
        let array = found.map(|found| found.then(|| PyArray1::from_slice(py, &row)));
        ROW.set(row);
        array
    }

    /// Makes `row` the vector of an id; false if the id is not there.
    fn read_row(&self, py: Python<'_>, id: &OneId<'_>, row: &mut Vec<f32>) -> PyResult<bool> {
        let sized = |store: &VectorStore, row: &mut Vec<f32>| {
            row.resize(store.dim(), 0.0);
            !row.is_empty()
        };
        let at_once = self.at_once(|store| match sized(store, row) {
            true => store.try_get_into(id.as_id(), row),
            false => Ok(Some(false)),
        })?;
        let found = match at_once {
            Some(found) => found,
            None => self.with(py, |store| Ok(sized(store, row) && store.get_into(id.as_id(), row)?))?,
        };
        if !found {
            self.with(py, |store| of_kind(store.kind(), id.as_id()).map(drop))?;
        }
        Ok(found)
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, *, dim=None, metric=None, mode="a", durability="buffered", flush_interval=0.1,
                        buffer_bytes=64 << 20, threads=None, lock_timeout=0.0))]
    #[expect(clippy::too_many_arguments, reason = "Python's keywords")]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        dim: Option<i64>,
        metric: Option<&str>,
        mode: &str,
        durability: &str,
        flush_interval: f64,
        buffer_bytes: u64,
        threads: Option<usize>,
        lock_timeout: f64,
    ) -> PyResult<Store> {
        let unfit = |dim: i64| move |_| raised(&vecstone::Error::InvalidDim { dim: dim.unsigned_abs() });
        let dim = dim.map(|dim| u32::try_from(dim).map_err(unfit(dim))).transpose()?;
        if threads == Some(0) {
            return Err(PyValueError::new_err("threads is 0; give 1 or more, or None for all cores"));
        }
        let durability = open::durability(durability)?;
        let request = Request {
            dim,
            metric: metric.map(open::metric).transpose()?,
            mode: Mode::of(mode)?,
            lock_timeout,
            wishes: Wishes { flush_interval, buffer_bytes, threads },
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        let shared = open::open(py, &path, &request)?;
        Ok(Store { shared, closed: AtomicBool::new(false), mode: request.mode, path, durability })
    }

    // ---- writing ----

    /// Stores a vector under an id, or replaces vector and document of a stored id.
    ///
    /// `vector`: shape (dim,), any real dtype, rounded to float32; NaN and infinity are refused. `document`: any JSON value;
    /// without one, a stored document goes. `durability`: "buffered" returns when the write is accepted (this handle sees it
    /// at once, the background flushes it), "sync" when it survives a power cut; None is what `open` was told.
    ///
    /// ValueError: shape, NaN, an id of 0 or above 65,536 bytes, a closed store. TypeError: an id of another kind than the
    /// store's, a document that is no JSON. ReadOnlyError, OSError (no space, I/O), WritingStoppedError.
    #[pyo3(signature = (id, vector, document=None, *, durability=None))]
    fn put(
        &self,
        py: Python<'_>,
        id: &Bound<'_, PyAny>,
        vector: &Bound<'_, PyAny>,
        document: Option<&Bound<'_, PyAny>>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        let durability = self.durability_of(durability)?;
        let (id, document) = (ids::one(id)?, document.map_or(Ok(None), convert::to_json)?);
        vectors::with_one(vector, |vector| self.write_one(py, &id, vector, document.as_deref(), durability))
    }

    fn __setitem__(&self, py: Python<'_>, id: &Bound<'_, PyAny>, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(py, id, vector, None, None)
    }

    /// Stores a batch: all of it or nothing, of an id that comes twice the last row.
    ///
    /// `ids`: n of str, int (0 to 2**64 - 2, numpy integers too) or uuid.UUID, all of one kind. `vectors`: array or nested list
    /// of shape (n, dim), any real dtype and strides; it is copied a mebibyte at a time, so memory stays small. `documents`: n
    /// JSON values, None where there is none. Everything is checked before the first byte is written. Up to 1 GiB of vectors
    /// and 4,194,304 rows are one batch; more become consecutive ones. Errors as of `put`.
    #[pyo3(signature = (ids, vectors, documents=None, *, durability=None))]
    fn put_many(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        documents: Option<&Bound<'_, PyAny>>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        let durability = self.durability_of(durability)?;
        let (ids, lines) = (Ids::of(ids)?, convert::many_to_json(documents)?);
        if documents.is_some() && lines.len() != ids.len() {
            let (ids, documents) = (ids.len(), lines.len());
            return Err(PyValueError::new_err(format!(
                "{ids} ids, but {documents} documents; give one for each id"
            )));
        }
        self.put_lines(py, &ids, vectors, &lines, durability)
    }

    /// As `put_many`, with documents that are JSON text already.
    fn _put_lines(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        lines: Option<Vec<Option<String>>>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        self.put_lines(
            py,
            &Ids::of(ids)?,
            vectors,
            &lines.unwrap_or_default(),
            self.durability_of(durability)?,
        )
    }

    /// Which of the rows are stored already, with the same bytes and the same document: bool of shape (n,).
    fn _unchanged<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        vectors: &Bound<'py, PyAny>,
        lines: Option<Vec<Option<String>>>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let (ids, (vectors, _)) = (Ids::of(ids)?, reading::queries(vectors)?);
        arrow::unchanged(py, &self.snapshot_now(py)?, &ids, &vectors, &lines.unwrap_or_default())
    }

    /// Deletes an id; False if it was not there.
    fn delete(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let id = ids::one(id)?;
        let durability = Some(self.durability);
        let deleted =
            self.with(py, |store| store.delete_many_with(&[of_kind(store.kind(), id.as_id())?], durability))?;
        Ok(deleted == 1)
    }

    fn __delitem__(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.delete(py, id)? { Ok(()) } else { Err(PyKeyError::new_err(id.clone().unbind())) }
    }

    /// Deletes several ids in one batch; returns how many were there.
    fn delete_many(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (ids, durability) = (Ids::of(ids)?, Some(self.durability));
        self.with(py, |store| {
            let ids = ids.refs();
            reading::all_of_kind(store.kind(), &ids)?;
            store.delete_many_with(&ids, durability)
        })
    }

    /// Deletes the rows that a filter matches (see `search`); returns how many.
    #[pyo3(signature = (filter, *, durability=None))]
    fn delete_where(
        &self,
        py: Python<'_>,
        filter: &Bound<'_, PyAny>,
        durability: Option<&str>,
    ) -> PyResult<usize> {
        let (filter, durability) = (reading::filter(filter)?, self.durability_of(durability)?);
        self.with(py, |store| store.delete_where(&filter, Some(durability)))
    }

    /// Deletes everything, durably and at once. `dim` and `metric` stay. Snapshots keep what they show.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, VectorStore::clear)
    }

    /// Returns when everything written before is durable.
    ///
    /// OSError: no space (nothing is lost yet; free some and flush again), a failed write or sync.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, VectorStore::flush)
    }

    // ---- reading ----

    /// The vector of an id, float32 of shape (dim,), a copy that may be written to; `default` if the id is not there.
    ///
    /// Its checksum is checked: CorruptError, never wrong numbers. TypeError for an id of another kind than the store's.
    #[pyo3(signature = (id, default=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        id: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.read_one(py, &ids::one(id)?)?.map(Bound::into_any).or(default))
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        id: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        self.read_one(py, &ids::one(id)?)?.ok_or_else(|| PyKeyError::new_err(id.clone().unbind()))
    }

    /// The vectors of n ids, float32 of shape (n, dim), row by row those of `ids`.
    ///
    /// `missing`: "raise" raises KeyError for the first id that is not there, "nan" gives a row of NaN for each.
    #[pyo3(signature = (ids, missing="raise"))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        missing: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (ids, lenient) = (Ids::of(ids)?, reading::is_lenient(missing)?);
        let dim = self.with(py, |store| Ok(store.dim()))?;
        reading::get_many(py, &ids, dim, lenient, |out, absent| {
            self.use_store(|store| {
                let ids = ids.refs();
                reading::all_of_kind(store.kind(), &ids)?;
                store.get_many_into(&ids, out, |n| absent.push(n))
            })
        })
    }

    /// The document of an id; `default` if the id or its document is not there.
    #[pyo3(signature = (id, default=None))]
    fn get_document<'py>(
        &self,
        py: Python<'py>,
        id: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let id = ids::one(id)?;
        let text = self.with(py, |store| store.get_document(of_kind(store.kind(), id.as_id())?))?;
        text.map_or(Ok(default), |text| convert::from_json(py, Some(&text)).map(Some))
    }

    /// The documents of n ids: a list of n, None where there is none.
    fn get_documents<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        reading::get_documents(py, &self.snapshot_now(py)?, &Ids::of(ids)?)
    }

    /// The ids whose rows a filter matches (see `search`), in the order of writing.
    fn ids_where<'py>(&self, py: Python<'py>, filter: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let filter = reading::filter(filter)?;
        let ids = self.with(py, |store| store.ids_where(&filter))?;
        reading::id_list(py, &ids)
    }

    #[expect(clippy::too_many_arguments, reason = "Python's keywords")]
    fn _search<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        k: usize,
        filter: Option<&Bound<'py, PyAny>>,
        radius: Option<f32>,
        with_vectors: bool,
        with_documents: bool,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let options = reading::options(filter, radius, with_vectors, with_documents)?;
        let query = vectors::with_one(query, |query| Ok(query.to_vec()))?;
        let found = self.with(py, |store| store.search_with(&query, k, &options))?;
        reading::hits(py, found, with_vectors, with_documents)
    }

    fn _search_many<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
        filter: Option<&Bound<'py, PyAny>>,
        radius: Option<f32>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let options = reading::options(filter, radius, false, false)?;
        let (queries, n) = reading::queries(queries)?;
        let (found, kind) = self.with(py, |store| {
            let snapshot = store.snapshot()?;
            Ok((reading::search_many(&snapshot, &queries, n, k, &options)?, snapshot.kind()))
        })?;
        reading::neighbors(py, &found, k, kind)
    }

    fn __contains__(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(id) = ids::one(id) else { return Ok(false) };
        self.with(py, |store| store.contains(id.as_id()))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, VectorStore::len)
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__(&self, py: Python<'_>) -> PyResult<RowIter> {
        self.iterate(py, Gives::Ids)
    }

    /// For `values()` and `items()`: an iterator over vectors, or over ids with vectors.
    fn _rows(&self, py: Python<'_>, with_ids: bool) -> PyResult<RowIter> {
        self.iterate(py, if with_ids { Gives::Both } else { Gives::Vectors })
    }

    /// The committed rows of each segment, oldest first, as numpy views of the mapped files: see `Segment`.
    ///
    /// Flushes first, if the store is open for writing. The views stay as they are after `close()` and through compaction.
    fn arrays(&self, py: Python<'_>) -> PyResult<Vec<Segment>> {
        let writes = self.mode != Mode::Read;
        let segments = self.with(py, |store| {
            if writes {
                store.flush()?;
            }
            store.snapshot()?.segments()
        })?;
        Ok(segments.into_iter().map(Segment::new).collect())
    }

    // ---- the whole ----

    /// Moves a read-only handle on to what is durable now; True if there was anything new.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, VectorStore::refresh)
    }

    /// Copies the store as it is now to a new directory, which is a store of its own, durable when this returns.
    ///
    /// FileExistsError if anything is there.
    fn backup(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.with(py, |store| store.backup(&path).map(|_| ()))
    }

    /// Flushes and closes this handle; the last one of a process closes the store. A second call does nothing.
    ///
    /// Errors as of `flush`. Views of `arrays()` stay valid.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        py.detach(|| self.shared.release()).or_raise()
    }

    /// The object of `vecstone info --json`, as text.
    fn _stats(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |store| Ok(vecstone_cli::info_json(store)?.to_string()))
    }

    /// Checks every byte that counts. O(bytes).
    ///
    /// A dict: `ok`; `bytes` checked; `tail_bytes` behind the last batch that counts (a write under way, or cut short by a
    /// crash: no damage); `damage`, a list of dicts with `path`, `offset`, `id` (or None), `what` and `consequence`.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let report = self.with(py, VectorStore::verify)?;
        let damage = PyList::empty(py);
        for place in &report.damage {
            let one = PyDict::new(py);
            one.set_item("path", &place.path)?;
            one.set_item("offset", place.offset)?;
            one.set_item("id", place.id.as_ref().map(|id| ids::to_python(py, id)).transpose()?)?;
            one.set_item("what", &place.what)?;
            one.set_item("consequence", place.consequence)?;
            damage.append(one)?;
        }
        let found = PyDict::new(py);
        found.set_item("ok", report.is_ok())?;
        found.set_item("bytes", report.bytes)?;
        found.set_item("tail_bytes", report.tail_bytes)?;
        found.set_item("damage", damage)?;
        Ok(found)
    }

    /// Rewrites all segments without their dead rows, while reads and writes go on; the background does so by itself where
    /// more than a fifth of a segment's rows are dead.
    ///
    /// `progress(done, total)`, in rows, is called after each few megabytes; an exception of it breaks the compaction off,
    /// and is raised: segments that were done by then stay compacted. A dict: `segments` rewritten, `rows_dropped`,
    /// `bytes_freed`.
    #[pyo3(signature = (progress=None))]
    fn compact<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyDict>> {
        let mut raised = None;
        let report = self.with(py, |store| {
            store.compact_with(|now| {
                let Some(progress) = &progress else { return ControlFlow::Continue(()) };
                match Python::attach(|py| progress.call1(py, (now.rows, now.total)).map(|_| ())) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        raised = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })
        });
        let report = raised.map_or(report, Err)?;
        let done = PyDict::new(py);
        done.set_item("segments", report.segments)?;
        done.set_item("rows_dropped", report.rows_dropped)?;
        done.set_item("bytes_freed", report.bytes_freed)?;
        Ok(done)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        _ = requested_schema; // a wish that may be ignored
        arrow::stream(py, self.snapshot_now(py)?)
    }

    /// Whether this handle is closed.
    #[getter]
    fn closed(&self) -> bool {
        self.is_closed()
    }

    /// As it was opened: "r", "r+", "a" or "x".
    #[getter]
    fn mode(&self) -> &'static str {
        self.mode.name()
    }

    /// The directory, absolute.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Components of a vector; None before the first write to a store that was made without.
    #[getter]
    fn dim(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        let dim = self.with(py, |store| Ok(store.dim()))?;
        Ok((dim > 0).then_some(dim))
    }

    /// "cosine", "l2" or "ip".
    #[getter]
    fn metric(&self, py: Python<'_>) -> PyResult<&'static str> {
        self.with(py, |store| Ok(store.metric().name()))
    }

    /// "string", "u64" or "uuid"; None before the first write.
    #[getter]
    fn id_kind(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        self.with(py, |store| Ok(store.kind().map(vecstone::IdKind::name)))
    }
}

impl Store {
    fn put_lines(
        &self,
        py: Python<'_>,
        ids: &Ids,
        vectors: &Bound<'_, PyAny>,
        lines: &[Option<String>],
        durability: Durability,
    ) -> PyResult<()> {
        vectors::with_rows(vectors, ids.len(), |source, dim| {
            self.with(py, |store| {
                let lines: Vec<_> = lines.iter().map(Option::as_deref).collect();
                store.put_rows(&ids.refs(), source, dim, &lines, Some(durability))
            })
        })
    }

    fn iterate(&self, py: Python<'_>, gives: Gives) -> PyResult<RowIter> {
        Ok(RowIter::over(&self.snapshot_now(py)?, gives))
    }

    /// The store as it is now.
    pub(crate) fn snapshot_now(&self, py: Python<'_>) -> PyResult<vecstone::Snapshot> {
        self.with(py, VectorStore::snapshot)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.is_closed() {
            return;
        }
        // Nobody is left to hear of a failure. Without the interpreter, if it is still there: closing waits for the disk.
        let close = || _ = self.shared.release();
        if Python::try_attach(|py| py.detach(close)).is_none() {
            close();
        }
    }
}
