//! Vectors as Python has them: arrays of any numeric type and any strides, lists, whatever numpy can make an array of.

use crate::given;
use half::f16;
use half::slice::HalfFloatSliceExt;
use numpy::ndarray::{ArrayView2, ArrayView3, Axis, s};
use numpy::{
    Element, PyArray1, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray3,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PySlice};
use std::fmt::Debug;
use std::marker::PhantomData;
use vecstone::RowSource;

/// numpy, as Python sees it.
pub(crate) fn numpy_module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(NUMPY.get_or_try_init(py, || PyModule::import(py, "numpy").map(Bound::unbind))?.bind(py))
}

/// A component that can be rounded to float32, as numpy does: to the nearest, and to infinity what is too large.
pub(crate) trait Component: Copy + Debug + Send + Sync + Element {
    /// Rounds one.
    fn round(self) -> f32;

    /// That of the bytes, little end first.
    fn of_bytes(bytes: &[u8]) -> Self;

    /// Copies and rounds.
    fn copy(from: &[Self], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.round());
    }
}

macro_rules! components {
    ($($number:ty)*) => {$(
        impl Component for $number {
            #[allow(clippy::cast_possible_truncation, reason = "the store holds float32")]
            #[allow(clippy::cast_precision_loss, reason = "the same")]
            fn round(self) -> f32 {
                self as f32
            }

            fn of_bytes(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many bytes as it has"))
            }
        }
    )*};
}

components!(f32 f64 i8 i16 i32 i64 u8 u16 u32 u64);

impl Component for f16 {
    fn round(self) -> f32 {
        self.to_f32()
    }

    fn of_bytes(bytes: &[u8]) -> f16 {
        f16::from_le_bytes(bytes.try_into().expect("as many bytes as it has"))
    }

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

/// Rows in Python's memory as bytes, one component to each line of the last axis: of the other byte order, or where such
/// numbers must not be read directly.
#[derive(Debug)]
struct Bytes<'a, T> {
    bytes: ArrayView3<'a, u8>,
    big_end_first: bool,
    of: PhantomData<T>,
}

impl<T: Component> RowSource for Bytes<'_, T> {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..size_of::<T>()];
        for (component, out) in self.bytes.slice(s![first.., .., ..]).rows().into_iter().zip(out) {
            bytes.iter_mut().zip(component).for_each(|(to, from)| *to = *from);
            if self.big_end_first {
                bytes.reverse();
            }
            *out = T::of_bytes(bytes).round();
        }
    }
}

/// An empty list has no dimension.
#[derive(Debug)]
struct NoRows;

impl RowSource for NoRows {
    fn copy_rows(&self, _first: usize, _out: &mut [f32]) {}
}

/// An array of numbers, and what they are: kind and bytes.
struct Numbers<'py> {
    array: Bound<'py, PyUntypedArray>,
    kind: String,
    size: usize,
    /// They may be read where they lie, as this machine's own.
    plain: bool,
}

/// Whether its elements lie where such elements may lie, whole ones apart: else they must not be referred to. In an array
/// with fields they need not, nor in one made of bytes.
pub(crate) fn lies_plain(array: &Bound<'_, PyUntypedArray>) -> bool {
    let size = array.dtype().itemsize().max(1).cast_signed();
    array.is_aligned() && array.strides().iter().all(|stride| stride % size == 0)
}

fn numbers<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Numbers<'py>> {
    let array = match object.cast_exact::<PyUntypedArray>() {
        Ok(array) => array.clone(),
        Err(_) => given::numbers(name, object)?,
    };
    let dtype = array.dtype();
    let (kind, size): (String, usize) = (dtype.getattr("kind")?.extract()?, dtype.itemsize());
    let plain = lies_plain(&array) && dtype.getattr("isnative")?.extract()?;
    match kind.as_str() {
        "f" | "i" | "u" if size <= 8 => Ok(Numbers { array, kind, size, plain }),
        // A long double, or an empty list of anything.
        _ if kind == "f" || array.len() == 0 => numbers(name, &array.call_method1("astype", ("float32",))?),
        // Of objects, or of a kind that numpy has no letter for.
        _ => numbers(name, given::numbers(name, &array)?.as_any()),
    }
}

/// Calls `take` with the rows of a two-dimensional array-like, of which there must be `rows`, and their dimension.
pub(crate) fn with_rows<R>(
    object: &Bound<'_, PyAny>,
    rows: usize,
    take: impl FnOnce(&dyn RowSource, usize) -> PyResult<R>,
) -> PyResult<R> {
    let numbers = numbers("vectors", object)?;
    match *numbers.array.shape() {
        [0] if rows == 0 => return take(&NoRows, 1),
        [found, dim] if found == rows && dim > 0 => {}
        _ => {
            let shape = numbers.array.getattr("shape")?;
            return Err(PyValueError::new_err(format!(
                "{} vectors of shape ({rows}, dim), these have shape {shape}",
                if rows == 1 { "1 id needs".to_owned() } else { format!("{rows} ids need") }
            )));
        }
    }
    with_numbers(&numbers, |source, _, dim| take(source, dim))
}

/// The components of a two-dimensional array-like, of which there must be `rows` rows, copied, and their dimension.
pub(crate) fn copy_rows(object: &Bound<'_, PyAny>, rows: usize) -> PyResult<(Vec<f32>, usize)> {
    with_rows(object, rows, |source, dim| {
        let mut vectors = vec![0.0; rows * dim];
        if rows > 0 {
            source.copy_rows(0, &mut vectors);
        }
        Ok((vectors, dim))
    })
}

/// Calls `take` with the rows of a two-dimensional array-like, their number and their dimension.
pub(crate) fn with_any_rows<R>(
    name: &str,
    object: &Bound<'_, PyAny>,
    take: impl FnOnce(&dyn RowSource, usize, usize) -> PyResult<R>,
) -> PyResult<R> {
    let numbers = numbers(name, object)?;
    if numbers.array.ndim() != 2 {
        let shape = numbers.array.getattr("shape")?;
        return Err(PyValueError::new_err(format!("{name} has shape {shape}; give shape (n, dim)")));
    }
    with_numbers(&numbers, take)
}

fn with_numbers<R>(
    numbers: &Numbers<'_>,
    take: impl FnOnce(&dyn RowSource, usize, usize) -> PyResult<R>,
) -> PyResult<R> {
    match (numbers.kind.as_str(), numbers.size) {
        ("f", 2) => with_rows_of::<f16, R>(numbers, take),
        ("f", 8) => with_rows_of::<f64, R>(numbers, take),
        ("i", 1) => with_rows_of::<i8, R>(numbers, take),
        ("i", 2) => with_rows_of::<i16, R>(numbers, take),
        ("i", 4) => with_rows_of::<i32, R>(numbers, take),
        ("i", _) => with_rows_of::<i64, R>(numbers, take),
        ("u", 1) => with_rows_of::<u8, R>(numbers, take),
        ("u", 2) => with_rows_of::<u16, R>(numbers, take),
        ("u", 4) => with_rows_of::<u32, R>(numbers, take),
        ("u", _) => with_rows_of::<u64, R>(numbers, take),
        _ => with_rows_of::<f32, R>(numbers, take),
    }
}

fn with_rows_of<T: Component, R>(
    Numbers { array, plain, .. }: &Numbers<'_>,
    take: impl FnOnce(&dyn RowSource, usize, usize) -> PyResult<R>,
) -> PyResult<R> {
    if *plain {
        let array = array.extract::<PyReadonlyArray2<'_, T>>()?;
        let rows = array.as_array();
        return take(&Rows(rows), rows.nrows(), rows.ncols());
    }
    let py = array.py();
    let order: String = array.dtype().getattr("byteorder")?.extract()?;
    // One component to each line of a new last axis, whose bytes lie one after the other whatever the others' do.
    let all = PySlice::full(py);
    let lines = array.get_item((&all, &all, py.None()))?.call_method1("view", ("uint8",))?;
    let lines = lines.extract::<PyReadonlyArray3<'_, u8>>()?;
    let bytes = lines.as_array();
    let (rows, dim) = (array.shape()[0], array.shape()[1]);
    take(&Bytes::<T> { bytes, big_end_first: is_big(&order), of: PhantomData }, rows, dim)
}

/// Whether a byte order of numpy's is that with the big end first.
fn is_big(order: &str) -> bool {
    order == ">" || (order != "<" && cfg!(target_endian = "big"))
}

/// Makes `out` the components of one vector: shape (dim,), or (1, dim) too. Copied, since Python may change the vector
/// meanwhile: what is checked and stored is the copy.
pub(crate) fn copy_one(object: &Bound<'_, PyAny>, out: &mut Vec<f32>) -> PyResult<()> {
    out.clear();
    if let Ok(array) = object.cast::<PyArray1<f32>>()
        && given::is_plain_array(object)
        && let Ok(array) = array.try_readonly()
        && let Ok(vector) = array.as_slice()
    {
        out.extend_from_slice(vector);
        return Ok(());
    }
    let array = numbers("vector", object)?.array;
    if !matches!(*array.shape(), [_] | [1, _]) {
        let shape = array.getattr("shape")?;
        return Err(PyValueError::new_err(format!("a vector has shape (dim,), this has shape {shape}")));
    }
    let row = array.call_method1("reshape", (1, array.len()))?;
    with_any_rows("vector", &row, |source, _, dim| {
        out.resize(dim, 0.0);
        if dim > 0 {
            source.copy_rows(0, out);
        }
        Ok(())
    })
}

/// The same in memory of its own.
pub(crate) fn one(object: &Bound<'_, PyAny>) -> PyResult<Vec<f32>> {
    let mut vector = Vec::new();
    copy_one(object, &mut vector)?;
    Ok(vector)
}
