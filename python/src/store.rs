//! What a store answers to Python, call by call; `handle` says how it gets to the engine.

use crate::arrow;
use crate::convert::{self, Line};
use crate::error::OrRaise;
use crate::given;
use crate::handle::{Store, check_count, unknown};
use crate::ids::{self, Ids};
use crate::interrupt;
use crate::iterate::{IterItem, RowIter};
use crate::maintain;
use crate::numbers;
use crate::open::{self, Mode, Refused, Request};
use crate::reading::{self, Options, Precision, PyFilter, of_kind};
use crate::segments::Segment;
use crate::shared::EngineOptions;
use crate::vectors;
use numpy::PyArray1;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList, PyTuple};
use std::path::PathBuf;
use vecstone::{AsId, CompactOptions, Document, Error, IdKind, SearchOptions, Stats, VectorStore};

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, *, dim=None, metric=None, mode="a", durability="buffered", flush_interval=0.1,
                        buffer_bytes=64 << 20, threads=None, lock_timeout=0.0, recall_target=None,
                        auto_optimize_rows=None, _metric_if_missing=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's keywords")]
    fn of(
        py: Python<'_>,
        #[pyo3(from_py_with = given::path)] path: PathBuf,
        #[pyo3(from_py_with = numbers::dim)] dim: Option<u32>,
        metric: Option<&str>,
        mode: &str,
        durability: &str,
        flush_interval: f64,
        #[pyo3(from_py_with = numbers::buffer_bytes)] buffer_bytes: u64,
        #[pyo3(from_py_with = numbers::threads)] threads: Option<usize>,
        lock_timeout: f64,
        recall_target: Option<f32>,
        #[pyo3(from_py_with = numbers::auto_optimize_rows)] auto_optimize_rows: Option<u64>,
        _metric_if_missing: Option<&str>,
    ) -> PyResult<Store> {
        let durability = open::durability(durability)?;
        let recall_target = recall_target.unwrap_or(1.0);
        SearchOptions::new().recall_target(recall_target).check().or_raise()?;
        let may_be_missing = _metric_if_missing.is_some();
        let request = Request {
            dim,
            metric: metric.or(_metric_if_missing).map(open::metric).transpose()?,
            auto_optimize_rows,
            may_be_missing,
            mode: Mode::of(mode)?,
            lock_timeout,
            wishes: EngineOptions { flush_interval, buffer_bytes, threads },
        };
        let path = std::path::absolute(&path).unwrap_or(path);
        let shared = open::open(py, &path, &request)?;
        Ok(Store::new(shared, request.mode, path, durability, recall_target))
    }

    // ---- writing ----

    /// Stores a vector under an id, or replaces the vector of a stored id.
    ///
    /// `vector`: shape (dim,), any real dtype, rounded to float32; NaN and infinity are refused. `document`: any JSON value.
    /// None keeps the document that is stored, `vecstone.NO_DOCUMENT` removes it. Keys that are int, float, bool or None
    /// become strings, as `json.dumps` has it.
    /// `durability`: "buffered" returns when the write is accepted (this handle sees it at once, the background flushes it),
    /// "sync" when it survives a power cut; None is what `open` was told.
    ///
    /// ValueError: shape, NaN, an id of 0 or above 65,536 bytes, two keys of a document that become the same string, a closed
    /// store. TypeError: an id of another kind than the store's, a document that is no JSON. ReadOnlyError, OSError (no
    /// space, I/O), WritingStoppedError.
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
        let given = |document| convert::argument_to_json("document", document);
        let (id, document) = (ids::one(id)?, document.map_or(Ok(Document::Keep), given)?);
        self.write_one(py, &id, vector, document.as_deref(), durability)
    }

    fn __setitem__(&self, py: Python<'_>, id: &Bound<'_, PyAny>, vector: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(py, id, vector, None, None)
    }

    /// Stores a batch: all of it or nothing, of an id that comes twice the last row.
    ///
    /// `ids`: n of str, int (0 to 2**64 - 2, numpy integers too) or uuid.UUID, all of one kind. `vectors`: array or nested list
    /// of shape (n, dim), any real dtype, byte order and strides. An array is copied and rounded a mebibyte at a time, so
    /// memory stays small; a list, and a long double, becomes an array as a whole first. `documents`: n JSON values; None
    /// keeps the document that is stored, `vecstone.NO_DOCUMENT` removes it. Everything is checked before the first byte is written. Up to 1 GiB of vectors and 4,194,304
    /// rows are one batch; more become consecutive ones. Errors as of `put`.
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
        let (ids, lines) = (Ids::of_rows(ids)?, convert::many_to_json(documents)?);
        if documents.is_some() {
            check_count(ids.len(), lines.len())?;
        }
        self.write_many(py, &ids, vectors, &lines, durability)
    }

    /// As `put_many`, with documents that are JSON text already.
    fn _put_lines(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        vectors: &Bound<'_, PyAny>,
        lines: Option<Vec<Line>>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        let durability = self.durability_of(durability)?;
        self.write_many(py, &Ids::of_rows(ids)?, vectors, &convert::lines_of(lines), durability)
    }

    /// Which of the rows are stored already, with the same bytes and the same document: bool of shape (n,).
    fn _unchanged<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        vectors: &Bound<'py, PyAny>,
        lines: Option<Vec<Line>>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let (ids, lines, snapshot) = (Ids::of(ids)?, convert::lines_of(lines), self.snapshot_now(py)?);
        arrow::unchanged(py, snapshot.as_ref(), &ids, vectors, &lines)
    }

    /// Replaces the document of an id, and not its vector; None or `vecstone.NO_DOCUMENT` removes it.
    ///
    /// KeyError: the id is not there. Else errors as of `put`.
    #[pyo3(signature = (id, document, *, durability=None))]
    fn put_document(
        &self,
        py: Python<'_>,
        id: &Bound<'_, PyAny>,
        document: &Bound<'_, PyAny>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        let (id, durability) = (ids::one(id)?, Some(self.durability_of(durability)?));
        let document = match convert::argument_to_json("document", document)? {
            Document::Keep => Document::None,
            document => document,
        };
        let change = |store: Option<&VectorStore>| {
            let Some(store) = store else {
                return self.check_writable().and_then(|()| unknown(&[id.as_id()]));
            };
            store.change_documents(
                &[of_kind(store.kind(), id.as_id())?],
                &[document.as_deref()],
                false,
                durability,
            )
        };
        interrupt::detach(py, || self.use_store(change))
    }

    /// Replaces the documents of n ids, and not their vectors: one batch, all of it or nothing.
    ///
    /// `documents`: n JSON values; None keeps what is stored, `vecstone.NO_DOCUMENT` removes it. Of an id that comes twice
    /// the last one counts. KeyError: with all ids that are not there. Else errors as of `put`.
    #[pyo3(signature = (ids, documents, *, durability=None))]
    fn put_documents(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        documents: &Bound<'_, PyAny>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        self.change_documents(py, ids, documents, durability, false)
    }

    /// Merges JSON objects into the documents of n ids, as RFC 7396 says: one batch, all of it or nothing.
    ///
    /// Members that are given take the place of those stored, None as the value of a member removes it, objects are merged
    /// in turn, anything else is replaced as a whole. An id without a document has an empty object. `documents`: n JSON
    /// values; None keeps what is stored, `vecstone.NO_DOCUMENT` removes it. KeyError: with all ids that are not there.
    /// ValueError: a stored document that is no object. Else errors as of `put`.
    #[pyo3(signature = (ids, documents, *, durability=None))]
    fn update_documents(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        documents: &Bound<'_, PyAny>,
        durability: Option<&str>,
    ) -> PyResult<()> {
        self.change_documents(py, ids, documents, durability, true)
    }

    /// Deletes an id; False if it was not there.
    fn delete(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let id = ids::one(id)?;
        let durability = Some(self.durability);
        let deleted = self
            .change(py, |store| store.delete_many_with(&[of_kind(store.kind(), id.as_id())?], durability))?;
        Ok(deleted == 1)
    }

    fn __delitem__(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.delete(py, id)? { Ok(()) } else { Err(PyKeyError::new_err(id.clone().unbind())) }
    }

    /// Deletes several ids in one batch; returns how many were there.
    fn delete_many(&self, py: Python<'_>, ids: &Bound<'_, PyAny>) -> PyResult<usize> {
        let (ids, durability) = (Ids::of(ids)?, Some(self.durability));
        self.change(py, |store| {
            let ids = ids.refs();
            reading::all_of_kind(store.kind(), &ids)?;
            store.delete_many_with(&ids, durability)
        })
    }

    /// Deletes the rows that a filter matches (see `search`); returns how many.
    ///
    /// TypeError: the filter is a collection of ids of another kind than the store's.
    #[pyo3(signature = (filter, *, durability=None))]
    fn delete_where(
        &self,
        py: Python<'_>,
        filter: &Bound<'_, PyAny>,
        durability: Option<&str>,
    ) -> PyResult<usize> {
        let (filter, durability) = (PyFilter::of(filter)?, self.durability_of(durability)?);
        self.change(py, |store| store.delete_where_with(filter.in_store_of(store.kind())?, Some(durability)))
    }

    /// Deletes everything, durably and at once. `dim` and `metric` stay. Snapshots keep what they show.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, VectorStore::clear)
    }

    /// Puts a dict in the place of the store's attributes (`attrs`), durably, with everything written before; {}
    /// removes them.
    ///
    /// They describe the store as a whole and stay through `clear`, `compact`, `backup` and repair. `attrs`: a dict of JSON
    /// values, as documents are, of at most 983,040 bytes as JSON text. TypeError: no dict, or a value that is no JSON.
    /// ValueError: NaN, too long, two keys that become the same string, or a store that its first vector is still to make
    /// (give `open` a `dim`). ReadOnlyError; else errors as of `flush`.
    fn set_attrs(&self, py: Python<'_>, attrs: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_attributes(py, reading::attrs_to_json(attrs)?.as_deref())
    }

    /// The attributes as JSON text, if there are any.
    fn _attrs(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, VectorStore::attributes)
    }

    /// Records the name of what makes the vectors, or with None removes it. False if the first vector is still to make the
    /// store, which has none then.
    fn _set_embed_name(&self, py: Python<'_>, name: Option<&str>) -> PyResult<bool> {
        self.change(py, |store| store.set_embed_name(name).map(|()| true))
    }

    /// The name of what made the vectors (see `ingest`); None without.
    #[getter]
    fn embed_name(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, VectorStore::embed_name)
    }

    /// Returns when everything written before is durable.
    ///
    /// OSError: no space (`errno` says which; nothing is lost yet: free some and flush again), a failed write or sync.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.change(py, VectorStore::flush)
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
        let (ids, lenient) = (Ids::of_rows(ids)?, reading::is_lenient(missing)?);
        if self.mode == Mode::Read {
            // Another thread may refresh this handle, and the store there have another dimension.
            return reading::get_many_of(py, self.snapshot_now(py)?.as_ref(), &ids, lenient);
        }
        let dim = self.with(py, |store| Ok(store.dim()))?;
        reading::get_many(py, &ids, dim, lenient, |out, absent| {
            self.use_store(|store| {
                let ids = ids.refs();
                // Made since, it has a dimension that `out` has not.
                let Some(store) = store.filter(|_| dim > 0) else {
                    absent.extend(0..ids.len());
                    return Ok(());
                };
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
        reading::get_documents(py, self.snapshot_now(py)?.as_ref(), &Ids::of_rows(ids)?)
    }

    /// The ids whose rows a filter matches (see `search`), in the order of writing.
    ///
    /// TypeError: the filter is a collection of ids of another kind than the store's.
    fn ids_where<'py>(&self, py: Python<'py>, filter: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let filter = PyFilter::of(filter)?;
        let ids = self.read(py, |snapshot| snapshot.ids_where(filter.in_store_of(snapshot.kind())?))?;
        reading::id_list(py, &ids)
    }

    fn _search<'py>(
        &self,
        py: Python<'py>,
        query: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = numbers::k)] k: usize,
        filter: Option<&Bound<'py, PyAny>>,
        precision: Precision,
        gives: [bool; 3],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let options = Options::of(k, filter, precision, gives)?;
        let query = vectors::one(query)?;
        let found = self.read(py, |snapshot| {
            let wanted = options.in_store_of(snapshot.kind())?;
            snapshot.search_with(&query, k, &wanted)
        })?;
        reading::hits(py, found, &options)
    }

    fn _search_many<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = numbers::k)] k: usize,
        filter: Option<&Bound<'py, PyAny>>,
        precision: Precision,
        gives: [bool; 3],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let options = Options::of(k, filter, precision, gives)?;
        let (queries, n) = reading::queries(queries)?;
        let snapshot = self.snapshot_now(py)?;
        let found = interrupt::detach(py, || reading::search_many(snapshot.as_ref(), &queries, n, &options))?;
        reading::neighbors(py, &found, snapshot.and_then(|snapshot| snapshot.kind()), &options)
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
        self.iterate(py, IterItem::Ids)
    }

    /// For `values()` and `items()`: an iterator over vectors, or over ids with vectors.
    fn _rows(&self, py: Python<'_>, with_ids: bool) -> PyResult<RowIter> {
        self.iterate(py, if with_ids { IterItem::Both } else { IterItem::Vectors })
    }

    /// The committed rows of each segment, oldest first, as numpy views of the mapped files: see `Segment`.
    ///
    /// Flushes first, if the store is open for writing. The views stay as they are after `close()` and through compaction.
    fn arrays(&self, py: Python<'_>) -> PyResult<Vec<Segment>> {
        let segments = self.with(py, |store| {
            self.flush_own(store)?;
            store.snapshot()?.segments()
        })?;
        Ok(segments.into_iter().map(Segment::new).collect())
    }

    // ---- the whole ----

    /// Moves a read-only handle on to what is durable now; True if it shows anything else than before.
    ///
    /// Where another store stands at the path by now (made anew, moved there, restored from a backup), it opens that one:
    /// `dim`, `metric` and `id_kind` are that one's from then on. Snapshots, iterators and arrays stay as they are.
    /// FileNotFoundError, NotAStoreError, CorruptError: the handle goes on showing what it showed.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        interrupt::detach(py, || {
            if self.use_store(|store| Ok(store.is_some() || self.mode != Mode::Read))? {
                return self
                    .use_store(|store| store.map_or(Ok(false), VectorStore::refresh))
                    .map_err(Refused::from);
            }
            self.shared.make(None).map(|()| !self.shared.is_pending())
        })
    }

    /// Copies the store as it is now to a new directory, which is a store of its own, durable when this returns.
    ///
    /// FileExistsError if anything is there; FileNotFoundError if nothing was ever written to this store: there is none.
    fn backup(&self, py: Python<'_>, #[pyo3(from_py_with = given::path)] path: PathBuf) -> PyResult<()> {
        let backup = |store: Option<&VectorStore>| match store {
            Some(store) => store.backup(&path).map(|_| ()),
            None => Err(Error::not_found(self.path.clone())),
        };
        interrupt::detach(py, || self.use_store(backup))
    }

    /// Flushes and closes this handle; the last one of a process closes the store. A second call does nothing.
    ///
    /// Errors as of `flush`. Views of `arrays()` stay valid.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.release()).or_raise()
    }

    /// The object of `vecstone info --json`, as text.
    fn _stats(&self, py: Python<'_>) -> PyResult<String> {
        let stats = |store: Option<&VectorStore>| match store {
            Some(store) => vecstone_cli::info_json(store),
            None => {
                let mut stats = Stats::default();
                let rows = self.shared.pending.auto_optimize_rows;
                (stats.metric, stats.auto_optimize_rows) =
                    (self.shared.pending.metric, open::auto_optimize_rows(rows));
                Ok(vecstone_cli::stats_json(&self.path, true, &stats, None))
            }
        };
        interrupt::detach(py, || self.use_store(stats))
    }

    /// Checks every byte that counts. O(bytes).
    ///
    /// A dict: `ok`; `bytes` checked; `tail_bytes` behind the last batch that counts (a write under way, or cut short by a
    /// crash: no damage); `damage`, a list of dicts with `path`, `offset`, `id` (or None), `what` and `consequence`;
    /// `unlisted`, how many more damaged places there are than the 100,000 that it has at most.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        maintain::verified(py, &self.with(py, VectorStore::verify)?)
    }

    /// Rewrites segments without their dead rows, while reads and writes go on; the background does so by itself where more
    /// than a fifth of a segment's rows are dead.
    ///
    /// `min_dead`: the share of dead rows from which on a segment is rewritten; 0 rewrites each one that has a dead row.
    /// Small neighbours are merged, and segments without live rows go, in any case. `progress(done, total)`, in rows, is
    /// called after each few megabytes; an exception of it breaks the compaction off, and is raised: segments that were
    /// done by then stay compacted. A dict: `segments` rewritten, `rows_dropped`, `bytes_freed`, and what is left:
    /// `rows_left` dead rows in `segments_left`, of each a share below `min_dead`, or rows that died meanwhile.
    /// ValueError: `min_dead` is not 0 to 1. Else errors as of `flush`.
    #[pyo3(signature = (progress=None, *, min_dead=0.01))]
    fn compact<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Py<PyAny>>,
        min_dead: f64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let options = CompactOptions::new().min_dead(min_dead);
        maintain::compacted(py, &self.compact_with(py, &options, progress)?)
    }

    /// Builds every side file that makes the store faster, up to the rows that are durable now: it flushes first. Right
    /// answers never need it, and the background builds the same later. It neither seals nor compacts.
    ///
    /// `progress(done, total)`, in rows of the files that are to be built, is called before each file, now and then within,
    /// and at the end; an exception of it breaks the work off, and is raised: files that were whole by then stay. A dict:
    /// `rows_covered`, rows that codes cover now, of `rows`; `bytes` of all side files now. CorruptError: a segment is
    /// damaged; the files of the others were built. Else errors as of `flush`.
    #[pyo3(signature = (progress=None))]
    fn optimize<'py>(&self, py: Python<'py>, progress: Option<Py<PyAny>>) -> PyResult<Bound<'py, PyDict>> {
        maintain::optimized(py, &self.optimize_with(py, progress)?)
    }

    fn _tune(
        &self,
        py: Python<'_>,
        queries: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Option<String>> {
        self.tune(py, reading::queries(queries)?, progress)
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

    /// Whether the first write still has to make the store.
    #[getter]
    fn _pending(&self, py: Python<'_>) -> bool {
        py.detach(|| self.shared.is_pending())
    }

    /// As `threads` of `open`, of the engine behind this handle.
    #[getter]
    fn _threads(&self) -> Option<usize> {
        self.shared.wishes.threads
    }

    /// As `recall_target` of `open`; 1 is exact.
    #[getter]
    fn _recall_target(&self) -> f32 {
        self.recall_target
    }

    /// Components of a vector; None before the first write to a store that is still to be made.
    #[getter]
    fn dim(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        self.with(py, |store| Ok(Some(store.dim()).filter(|dim| *dim > 0)))
    }

    /// "cosine", "l2" or "ip".
    #[getter]
    fn metric(&self, py: Python<'_>) -> PyResult<&'static str> {
        Ok(self.metric_now(py)?.name())
    }

    /// "string", "u64" or "uuid"; None before the first write.
    #[getter]
    fn id_kind(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        self.with(py, |store| Ok(store.kind().map(IdKind::name)))
    }
}
