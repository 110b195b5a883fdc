//! The rows of a segment as numpy arrays that lie in the mapped file.

use crate::ids::to_python;
use crate::interrupt;
use crate::vectors::numpy_module;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use vecstone::{MappedRows, SegmentRows};

/// The committed rows of one segment. `numpy.asarray` of it is a read-only view of the mapped file, which lives as long as
/// any view of it: after `close()`, and through compaction. A view keeps its mapping and nothing else; this object, which
/// makes `live` and `ids` on demand, keeps the files of its segment open.
#[pyclass(frozen, module = "vecstone")]
pub(crate) struct Segment {
    rows: SegmentRows,
}

/// What a view keeps: the mapping alone.
#[pyclass(frozen, module = "vecstone._core")]
struct Mapped {
    rows: MappedRows,
}

#[pymethods]
impl Mapped {
    /// Where the rows lie: numpy makes a view of it that keeps this object, and so the mapping.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", "<f4")?;
        interface.set_item("shape", (self.rows.rows(), self.rows.dim()))?;
        interface.set_item("data", (self.rows.vectors().as_ptr().addr(), true))?;
        Ok(interface)
    }
}

impl Segment {
    pub(crate) fn new(rows: SegmentRows) -> Segment {
        Segment { rows }
    }
}

#[pymethods]
impl Segment {
    /// Number of the segment, as in the names of its files.
    #[getter]
    fn number(&self) -> u64 {
        self.rows.number()
    }

    /// The rows, float32 of shape (rows, dim), read-only and not copied; dead rows are among them.
    #[getter]
    fn vectors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        numpy_module(py)?.call_method1("asarray", (Mapped { rows: self.rows.mapped() },))
    }

    /// `numpy.asarray` of it is `vectors`.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let wishes = PyDict::new(py);
        wishes.set_item("dtype", dtype)?;
        wishes.set_item("copy", copy)?;
        numpy_module(py)?.call_method("array", (self.vectors(py)?,), Some(&wishes))
    }

    /// For each row whether it is live: bool of shape (rows,), made by this call.
    #[getter]
    fn live<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        let live = py.detach(|| self.rows.live());
        PyArray1::from_vec(py, live)
    }

    /// The ids of all rows, dead ones included, in order: a list made by this call.
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let ids = interrupt::detach(py, || self.rows.ids())?;
        let ids: Vec<_> = ids.iter().map(|id| to_python(py, id)).collect::<PyResult<_>>()?;
        PyList::new(py, ids)
    }

    fn __len__(&self) -> usize {
        self.rows.rows()
    }

    fn __repr__(&self) -> String {
        let (number, rows, dim) = (self.rows.number(), self.rows.rows(), self.rows.dim());
        format!("<vecstone.Segment {number} rows={rows} dim={dim}>")
    }
}
