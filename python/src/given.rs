//! What people hand in, where it is neither a list nor a plain array: `vecstone._given` makes it one, or refuses it.

use numpy::PyUntypedArray;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::path::PathBuf;

/// Whether it is an array of numpy's own class: those of others may be masked, or worse.
pub(crate) fn is_plain_array(object: &Bound<'_, PyAny>) -> bool {
    object.cast_exact::<PyUntypedArray>().is_ok()
}

fn module<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyModule>> {
    PyModule::import(py, "vecstone._given")
}

/// The path of a directory or file of this machine.
pub(crate) fn path(object: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    module(object.py())?.getattr("path")?.call1((object,))?.extract()
}

/// A list, an array or an iterator of a column. `ordered`: its rows belong to those of another one.
pub(crate) fn column<'py>(
    name: &str,
    object: &Bound<'py, PyAny>,
    ordered: bool,
) -> PyResult<Bound<'py, PyAny>> {
    if object.is_exact_instance_of::<PyList>()
        || object.is_exact_instance_of::<PyTuple>()
        || is_plain_array(object)
    {
        return Ok(object.clone());
    }
    let options = PyDict::new(object.py());
    options.set_item("ordered", ordered)?;
    module(object.py())?.getattr("column")?.call((name, object), Some(&options))
}

/// An array of numbers, of any shape.
pub(crate) fn numbers<'py>(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let array = module(object.py())?.getattr("numbers")?.call1((name, object))?;
    let class = |_| PyTypeError::new_err(format!("{name} are no array of numbers; give one"));
    array.cast_into::<PyUntypedArray>().map_err(class)
}
