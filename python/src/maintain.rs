//! Calls about a store as a whole: their progress, and their reports as dicts.

use crate::ids;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::ops::ControlFlow;
use vecstone::{CompactReport, OptimizeReport, VerifyReport};

/// Python's `progress(done, total)`, and what it raised.
pub(crate) struct Progress {
    call: Option<Py<PyAny>>,
    raised: Option<PyErr>,
}

impl Progress {
    pub(crate) fn new(call: Option<Py<PyAny>>) -> Progress {
        Progress { call, raised: None }
    }

    /// Tells Python how far the work is; breaks it off where that raises.
    pub(crate) fn tell(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        let Some(call) = &self.call else { return ControlFlow::Continue(()) };
        match Python::attach(|py| call.call1(py, (done, total)).map(|_| ())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The outcome of the work, unless progress raised.
    pub(crate) fn end<T>(self, outcome: PyResult<T>) -> PyResult<T> {
        self.raised.map_or(outcome, Err)
    }
}

/// A dict of numbers.
pub(crate) fn counts<'py>(py: Python<'py>, counts: &[(&str, u64)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    counts.iter().try_for_each(|(name, count)| dict.set_item(name, count))?;
    Ok(dict)
}

/// What `compact` did, and what it left.
pub(crate) fn compacted<'py>(py: Python<'py>, report: &CompactReport) -> PyResult<Bound<'py, PyDict>> {
    let report = [
        ("segments", report.segments),
        ("rows_dropped", report.rows_dropped),
        ("bytes_freed", report.bytes_freed),
        ("segments_left", report.segments_left),
        ("rows_left", report.rows_left),
    ];
    counts(py, &report)
}

/// What codes cover after `optimize`.
pub(crate) fn optimized<'py>(py: Python<'py>, report: &OptimizeReport) -> PyResult<Bound<'py, PyDict>> {
    let report = [("rows_covered", report.rows_covered), ("rows", report.rows), ("bytes", report.bytes)];
    counts(py, &report)
}

/// What `verify` found.
pub(crate) fn verified<'py>(py: Python<'py>, report: &VerifyReport) -> PyResult<Bound<'py, PyDict>> {
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
    let found = counts(
        py,
        &[("bytes", report.bytes), ("tail_bytes", report.tail_bytes), ("unlisted", report.unlisted)],
    )?;
    found.set_item("ok", report.is_ok())?;
    found.set_item("damage", damage)?;
    Ok(found)
}
