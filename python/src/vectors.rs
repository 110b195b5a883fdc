//! Vectors as Python has them: arrays of any numeric type and any strides, lists, whatever numpy can make an array of.

use half::f16;
use half::slice::HalfFloatSliceExt;
use numpy::ndarray::{ArrayView2, Axis, s};
use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::fmt::Debug;
use vecstone::RowSource;

/// numpy, as Python sees it.
pub(crate) fn numpy_module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(NUMPY.get_or_try_init(py, || PyModule::import(py, "numpy").map(Bound::unbind))?.bind(py))
}

/// A component that can be rounded to float32.
pub(crate) trait Component: Copy + Debug + Send + Sync + Element {
    /// Copies and rounds.
    fn copy(from: &[Self], to: &mut [f32]);
}

impl Component for f32 {
    fn copy(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
}

impl Component for f64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the store holds float32; what is too large becomes infinite"
    )]
    fn copy(from: &[f64], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from as f32);
    }
}

impl Component for f16 {
    fn copy(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
}

/// Rows in Python's memory.
#[derive(Debug)]
struct Rows<'a, T>(ArrayView2<'a, T>);

impl<T: Component> RowSource for Rows<'_, T> {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        let dim = self.0.ncols();
        if let Some(all) = self.0.as_slice() {
            return T::copy(&all[first * dim..][..out.len()], out);
        }
        let mut row_of_its_own = Vec::new();
        let rows = self.0.slice(s![first.., ..]);
        for (row, out) in rows.axis_iter(Axis(0)).zip(out.chunks_exact_mut(dim)) {
            if let Some(row) = row.as_slice() {
                T::copy(row, out);
            } else {
                row_of_its_own.clear();
                row_of_its_own.extend(row.iter().copied());
                T::copy(&row_of_its_own, out);
            }
        }
    }
}

/// An empty list has no dimension.
#[derive(Debug)]
struct NoRows;

impl RowSource for NoRows {
    fn copy_rows(&self, _first: usize, _out: &mut [f32]) {}
}

/// An array of float32, float64 or float16: the types that are read where they lie.
fn as_array<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let py = object.py();
    let numpy = numpy_module(py)?;
    let made = match object.cast::<PyUntypedArray>() {
        Ok(array) => array.clone(),
        Err(_) => numpy
            .call_method1("asarray", (object,))
            .map_err(|error| unfit(py, &error))?
            .cast_into::<PyUntypedArray>()?,
    };
    let dtype = made.dtype();
    let (kind, native) = (dtype.getattr("kind")?, dtype.getattr("isnative")?.extract::<bool>()?);
    let (kind, size): (String, usize) = (kind.extract()?, dtype.getattr("itemsize")?.extract()?);
    match kind.as_str() {
        "f" if native && matches!(size, 2 | 4 | 8) => Ok(made),
        "f" | "i" | "u" => Ok(made.call_method1("astype", ("float32",))?.cast_into::<PyUntypedArray>()?),
        _ if made.len() == 0 => {
            Ok(made.call_method1("astype", ("float32",))?.cast_into::<PyUntypedArray>()?)
        }
        _ => Err(PyTypeError::new_err(format!("vectors of dtype {dtype} are not numbers; give float32"))),
    }
}

fn unfit(py: Python<'_>, error: &PyErr) -> PyErr {
    if error.is_instance_of::<PyValueError>(py) {
        let why = error.value(py);
        return PyValueError::new_err(format!("the vectors are not of one length: {why}"));
    }
    error.clone_ref(py)
}

/// Calls `take` with the rows of a two-dimensional array-like, of which there must be `rows`, and their dimension.
pub(crate) fn with_rows<R>(
    object: &Bound<'_, PyAny>,
    rows: usize,
    take: impl FnOnce(&dyn RowSource, usize) -> PyResult<R>,
) -> PyResult<R> {
    let array = as_array(object)?;
    match *array.shape() {
        [0] if rows == 0 => return take(&NoRows, 1),
        [found, dim] if found == rows && dim > 0 => {}
        _ => {
            let shape = array.getattr("shape")?;
            return Err(PyValueError::new_err(format!(
                "{rows} ids need vectors of shape ({rows}, dim), these have shape {shape}"
            )));
        }
    }
    with_array(&array, |source, _, dim| take(source, dim))
}

/// Calls `take` with the rows of a two-dimensional array-like, their number and their dimension.
pub(crate) fn with_any_rows<R>(
    object: &Bound<'_, PyAny>,
    take: impl FnOnce(&dyn RowSource, usize, usize) -> PyResult<R>,
) -> PyResult<R> {
    let array = as_array(object)?;
    if array.ndim() != 2 {
        let shape = array.getattr("shape")?;
        return Err(PyValueError::new_err(format!("the array has shape {shape}; give shape (n, dim)")));
    }
    with_array(&array, take)
}

fn with_array<R>(
    array: &Bound<'_, PyUntypedArray>,
    take: impl FnOnce(&dyn RowSource, usize, usize) -> PyResult<R>,
) -> PyResult<R> {
    if let Ok(array) = array.extract::<PyReadonlyArray2<'_, f32>>() {
        let view = array.as_array();
        take(&Rows(view), view.nrows(), view.ncols())
    } else if let Ok(array) = array.extract::<PyReadonlyArray2<'_, f64>>() {
        let view = array.as_array();
        take(&Rows(view), view.nrows(), view.ncols())
    } else {
        let array = array.extract::<PyReadonlyArray2<'_, f16>>()?;
        let view = array.as_array();
        take(&Rows(view), view.nrows(), view.ncols())
    }
}

/// Calls `take` with the components of one vector: shape (dim,), or (1, dim) too.
pub(crate) fn with_one<R>(
    object: &Bound<'_, PyAny>,
    take: impl FnOnce(&[f32]) -> PyResult<R>,
) -> PyResult<R> {
    if let Ok(array) = object.cast::<PyArray1<f32>>()
        && let Ok(array) = array.try_readonly()
        && let Ok(vector) = array.as_slice()
    {
        return take(vector);
    }
    let array = as_array(object)?;
    if !matches!(*array.shape(), [_] | [1, _]) {
        let shape = array.getattr("shape")?;
        return Err(PyValueError::new_err(format!("a vector has shape (dim,), this has shape {shape}")));
    }
    let row = array.call_method1("reshape", (1, array.len()))?;
    let vector = with_any_rows(&row, |source, _, dim| {
        let mut vector = vec![0.0; dim];
        if dim > 0 {
            source.copy_rows(0, &mut vector);
        }
        Ok(vector)
    })?;
    take(&vector)
}
