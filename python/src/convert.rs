//! Documents: Python's values to JSON text and back, by Python's own `json`.

use crate::given;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use std::collections::HashSet;
use vecstone::Document;

/// What `vecstone.NO_DOCUMENT` is: in the place of a document it says that there is none from then on.
#[pyclass(frozen, module = "vecstone")]
pub(crate) struct NoDocument;

#[pymethods]
impl NoDocument {
    fn __repr__(&self) -> &'static str {
        "vecstone.NO_DOCUMENT"
    }

    /// Copies and pickles are the constant.
    fn __reduce__(&self) -> &'static str {
        "NO_DOCUMENT"
    }
}

/// What a call says of a document: None, that the stored one stays; `NO_DOCUMENT`, that there is none; else the value as
/// JSON text.
pub(crate) fn to_json(document: &Bound<'_, PyAny>) -> PyResult<Document<String>> {
    if document.is_none() {
        return Ok(Document::Keep);
    }
    if document.is_instance_of::<NoDocument>() {
        return Ok(Document::None);
    }
    let text = encoder(document.py())?.call1((document,))?;
    check_keys(document)?;
    Ok(Document::Json(text.cast::<PyString>()?.to_str()?.to_owned()))
}

/// Refuses objects of which two keys become the same: JSON's are strings, and Python makes strings of some others. Not
/// before it was encoded, which proves that it ends.
fn check_keys(value: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(object) = value.cast::<PyDict>() {
        let keys = object.keys();
        if keys.iter().any(|key| !key.is_instance_of::<PyString>()) {
            check_unlike(&keys)?;
        }
        return object.values().iter().try_for_each(|value| check_keys(&value));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().try_for_each(|value| check_keys(&value));
    }
    value.cast::<PyTuple>().map_or(Ok(()), |tuple| tuple.iter().try_for_each(|value| check_keys(&value)))
}

fn check_unlike(keys: &Bound<'_, PyList>) -> PyResult<()> {
    let (py, mut seen) = (keys.py(), HashSet::new());
    for key in keys {
        let object = PyDict::new(py);
        object.set_item(&key, py.None())?;
        // Its text in an object of its own: {"key":null}.
        if !seen.insert(encoder(py)?.call1((object,))?.extract::<String>()?) {
            let text =
                format!("{} and another key are the same key in JSON; name one otherwise", key.repr()?);
            return Err(PyValueError::new_err(text));
        }
    }
    Ok(())
}

/// A document that is JSON text already.
pub(crate) struct Line(pub(crate) Document<String>);

impl<'py> FromPyObject<'_, 'py> for Line {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Line> {
        if object.is_instance_of::<NoDocument>() {
            return Ok(Line(Document::None));
        }
        Ok(Line(Document::given(object.extract()?)))
    }
}

/// The same of several documents that are JSON text already.
pub(crate) fn lines_of(lines: Option<Vec<Line>>) -> Vec<Document<String>> {
    lines.unwrap_or_default().into_iter().map(|line| line.0).collect()
}

/// The same error with its place before it, if it is a TypeError or a ValueError; others are not about the value.
pub(crate) fn placed(py: Python<'_>, place: &str, error: &PyErr) -> PyErr {
    let text = format!("{place}: {}", error.value(py));
    if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(text)
    } else if error.is_instance_of::<PyValueError>(py) {
        PyValueError::new_err(text)
    } else {
        error.clone_ref(py)
    }
}

/// The value given for an argument of that name, as [`to_json`] has it.
pub(crate) fn argument_to_json(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Document<String>> {
    to_json(value).map_err(|error| placed(value.py(), name, &error))
}

/// The documents of a batch.
pub(crate) fn many_to_json(documents: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Document<String>>> {
    let Some(documents) = documents else { return Ok(Vec::new()) };
    let (py, documents) = (documents.py(), given::column("documents", documents, true)?);
    let mut lines = Vec::new();
    for (row, document) in documents.try_iter()?.enumerate() {
        let line =
            to_json(&document?).map_err(|error| placed(py, &format!("document of row {row}"), &error))?;
        lines.push(line);
    }
    Ok(lines)
}

/// The value of a JSON text, or None.
pub(crate) fn from_json<'py>(py: Python<'py>, text: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match text {
        None => Ok(py.None().into_bound(py)),
        Some(text) => LOADS.import(py, "json", "loads")?.call1((text,)),
    }
}

/// `vecstone._json.encode`: one line, any text as it is, and no NaN.
fn encoder(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    ENCODE.import(py, "vecstone._json", "encode")
}

/// A filter as JSON text.
pub(crate) fn filter_to_json(filter: &Bound<'_, PyAny>) -> PyResult<String> {
    static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let encode = ENCODE.import(filter.py(), "vecstone._json", "encode_filter")?;
    encode.call1((filter,)).map_err(|error| placed(filter.py(), "filter", &error))?.extract()
}
