//! Going through a store in the order of writing, as it was when that began.

use crate::error::OrRaise;
use crate::ids::to_python;
use numpy::PyArray1;
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use vecstone::{Id, Snapshot};

/// Rows fetched at once, with the interpreter free for other threads meanwhile.
const AT_ONCE: usize = 256;

/// What each step gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IterItem {
    Ids,
    Vectors,
    Both,
}

/// An iterator over ids, vectors or both.
#[pyclass(frozen, module = "vecstone")]
pub(crate) struct RowIter {
    gives: IterItem,
    state: Mutex<State>,
}

/// Without its vector, where only ids are asked for.
type Row = vecstone::Result<(Id, Vec<f32>)>;

struct State {
    rows: Box<dyn Iterator<Item = Row> + Send>,
    fetched: VecDeque<Row>,
}

impl RowIter {
    /// `None`: a store that is still to be made.
    pub(crate) fn over(snapshot: Option<&Snapshot>, gives: IterItem) -> RowIter {
        let rows: Box<dyn Iterator<Item = Row> + Send> = match (snapshot, gives) {
            (None, _) => Box::new(std::iter::empty()),
            (Some(snapshot), IterItem::Ids) => Box::new(snapshot.ids().map(|id| Ok((id?, Vec::new())))),
            (Some(snapshot), IterItem::Vectors | IterItem::Both) => Box::new(snapshot.iter()),
        };
        RowIter { gives, state: Mutex::new(State { rows, fetched: VecDeque::new() }) }
    }

    fn next(&self) -> Option<Row> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.fetched.is_empty() {
            let some: Vec<_> = state.rows.by_ref().take(AT_ONCE).collect();
            state.fetched.extend(some);
        }
        state.fetched.pop_front()
    }
}

#[pymethods]
impl RowIter {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(row) = py.detach(|| self.next()) else { return Ok(None) };
        let (id, vector) = row.or_raise()?;
        Ok(Some(match self.gives {
            IterItem::Ids => to_python(py, &id)?,
            IterItem::Vectors => PyArray1::from_vec(py, vector).into_any(),
            IterItem::Both => {
                (to_python(py, &id)?, PyArray1::from_vec(py, vector)).into_pyobject(py)?.into_any()
            }
        }))
    }
}
