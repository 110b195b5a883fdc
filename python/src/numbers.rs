//! Whole numbers that calls take: what is none is a TypeError, what is out of range a ValueError, both with the name.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::ops::RangeInclusive;
use vecstone::MAX_DIM;

fn whole(name: &str, object: &Bound<'_, PyAny>, range: RangeInclusive<u64>) -> PyResult<u64> {
    match object.extract::<u64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        Err(error) if !error.is_instance_of::<PyOverflowError>(object.py()) => {
            Err(PyTypeError::new_err(format!("{name} is {}; give a whole number", object.repr()?)))
        }
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(PyValueError::new_err(format!("{name} is {object}; give {least} to {most}")))
        }
    }
}

fn size(name: &str, object: &Bound<'_, PyAny>, least: u64) -> PyResult<usize> {
    let number = whole(name, object, least..=usize::MAX as u64)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

/// Components of a vector, or None.
pub(crate) fn dim(object: &Bound<'_, PyAny>) -> PyResult<Option<u32>> {
    if object.is_none() {
        return Ok(None);
    }
    let dim = whole("dim", object, 1..=u64::from(MAX_DIM))?;
    Ok(u32::try_from(dim).ok())
}

/// Bytes of a buffer.
pub(crate) fn buffer_bytes(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    whole("buffer_bytes", object, 0..=u64::MAX)
}

/// How many threads, or None for all cores.
pub(crate) fn threads(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if object.is_none() { Ok(None) } else { size("threads", object, 1).map(Some) }
}

/// Rows from which codes are made, or None for what the store has.
pub(crate) fn auto_optimize_rows(object: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if object.is_none() { Ok(None) } else { whole("auto_optimize_rows", object, 0..=u64::MAX).map(Some) }
}

/// How many results.
pub(crate) fn k(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    size("k", object, 0)
}
