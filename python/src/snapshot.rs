//! A store at one moment, as Python holds it.

use crate::arrow;
use crate::convert;
use crate::ids::{self, Ids};
use crate::interrupt;
use crate::iterate::{IterItem, RowIter};
use crate::numbers;
use crate::reading::{self, Options, Precision, PyFilter, of_kind};
use crate::segments::Segment;
use crate::vectors;
use numpy::PyArray1;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList, PyTuple};
use vecstone::{AsId, Metric};

/// An unchanging view of a store.
#[pyclass(subclass, frozen, module = "vecstone._core")]
pub(crate) struct Snapshot {
    /// `None`: of a store that was still to be made.
    snapshot: Option<vecstone::Snapshot>,
    metric: Metric,
}

impl Snapshot {
    /// A call that reads; the default where there is nothing to read.
    fn read<T: Send + Default>(
        &self,
        py: Python<'_>,
        mut call: impl FnMut(&vecstone::Snapshot) -> vecstone::Result<T> + Send,
    ) -> PyResult<T> {
        interrupt::detach(py, || self.snapshot.as_ref().map_or_else(|| Ok(T::default()), &mut call))
    }

    fn read_one<'py>(&self, py: Python<'py>, id: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let id = ids::one(id)?;
        let got = self.read(py, |snapshot| snapshot.get(of_kind(snapshot.kind(), id.as_id())?));
        Ok(got?.map(|vector| PyArray1::from_vec(py, vector).into_any()))
    }
}

#[pymethods]
impl Snapshot {
    #[new]
    fn of(store: &Bound<'_, crate::handle::Store>) -> PyResult<Snapshot> {
        let (store, py) = (store.get(), store.py());
        let snapshot = store.snapshot_now(py)?;
        let metric =
            snapshot.as_ref().map_or_else(|| store.metric_now(py), |snapshot| Ok(snapshot.metric()))?;
        Ok(Snapshot { snapshot, metric })
    }

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
        Ok(self.read_one(py, id)?.or(default))
    }

    fn __getitem__<'py>(&self, py: Python<'py>, id: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.read_one(py, id)?.ok_or_else(|| PyKeyError::new_err(id.clone().unbind()))
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
        reading::get_many_of(py, self.snapshot.as_ref(), &ids, lenient)
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
        let text = self.read(py, |snapshot| snapshot.get_document(of_kind(snapshot.kind(), id.as_id())?));
        text?.map_or(Ok(default), |text| convert::from_json(py, Some(&text)).map(Some))
    }

    /// The documents of n ids: a list of n, None where there is none.
    fn get_documents<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        reading::get_documents(py, self.snapshot.as_ref(), &Ids::of_rows(ids)?)
    }

    /// The attributes as JSON text, if there are any.
    fn _attrs(&self) -> Option<&str> {
        self.snapshot.as_ref().and_then(vecstone::Snapshot::attributes)
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
        let snapshot = self.snapshot.as_ref();
        let found = interrupt::detach(py, || reading::search_many(snapshot, &queries, n, &options))?;
        reading::neighbors(py, &found, snapshot.and_then(vecstone::Snapshot::kind), &options)
    }

    fn __contains__(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(id) = ids::one(id) else { return Ok(false) };
        self.read(py, |snapshot| snapshot.contains(id.as_id()))
    }

    fn __len__(&self) -> usize {
        self.snapshot.as_ref().map_or(0, vecstone::Snapshot::len)
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__(&self) -> RowIter {
        RowIter::over(self.snapshot.as_ref(), IterItem::Ids)
    }

    fn _rows(&self, with_ids: bool) -> RowIter {
        RowIter::over(self.snapshot.as_ref(), if with_ids { IterItem::Both } else { IterItem::Vectors })
    }

    /// The committed rows of each segment, oldest first, as numpy views of the mapped files: see `Segment`.
    ///
    /// What was only buffered is in none of them. The views stay as they are after `close()` and through compaction.
    fn arrays(&self, py: Python<'_>) -> PyResult<Vec<Segment>> {
        let segments = self.read(py, vecstone::Snapshot::segments)?;
        Ok(segments.into_iter().map(Segment::new).collect())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        _ = requested_schema; // a wish that may be ignored
        arrow::stream(py, self.snapshot.clone())
    }

    /// Components of a vector; None before the first write to a store that is still to be made.
    #[getter]
    fn dim(&self) -> Option<usize> {
        self.snapshot.as_ref().map(vecstone::Snapshot::dim)
    }

    /// "cosine", "l2" or "ip".
    #[getter]
    fn metric(&self) -> &'static str {
        self.metric.name()
    }

    /// "string", "u64" or "uuid"; None before the first write.
    #[getter]
    fn id_kind(&self) -> Option<&'static str> {
        self.snapshot.as_ref().and_then(vecstone::Snapshot::kind).map(vecstone::IdKind::name)
    }
}
