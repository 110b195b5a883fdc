//! What a store and a snapshot of it answer alike: searches, many vectors, documents, filters.

use crate::convert;
use crate::error::OrRaise;
use crate::ids::{self, Ids};
use crate::interrupt;
use crate::maintain::counts;
use crate::vectors;
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple};
use vecstone::{
    Explain, Filter, Hits, Id, IdKind, IdRef, Neighbor, SearchOptions, Snapshot, WhyExact, check_memory,
};

/// The id, if it is of the store's kind: looking for another is a mistake, not a miss.
pub(crate) fn of_kind(kind: Option<IdKind>, id: IdRef<'_>) -> vecstone::Result<IdRef<'_>> {
    match kind {
        Some(expected) if expected != id.kind() => Err(vecstone::Error::id_kind(expected, id.kind())),
        _ => Ok(id),
    }
}

/// The same for many.
pub(crate) fn all_of_kind(kind: Option<IdKind>, ids: &[IdRef<'_>]) -> vecstone::Result<()> {
    ids.iter().try_for_each(|id| of_kind(kind, *id).map(|_| ()))
}

/// The JSON text of a store's attributes; `None` for an empty mapping.
pub(crate) fn attrs_to_json(attrs: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if attrs.cast::<PyMapping>().is_err() {
        return Err(PyTypeError::new_err("attrs is a dict of JSON values"));
    }
    let dict = attrs.py().get_type::<PyDict>().call1((attrs,))?;
    if dict.is_empty()? { Ok(None) } else { Ok(convert::argument_to_json("attrs", &dict)?.json()) }
}

/// A filter as Python gives it, and of what kind the ids are that it names.
pub(crate) struct PyFilter {
    filter: Filter,
    kind: Option<IdKind>,
}

impl PyFilter {
    /// From a dict over documents, or a collection of ids.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<PyFilter> {
        if object.cast::<PyMapping>().is_ok() {
            let text = convert::filter_to_json(object)?;
            return Ok(PyFilter { filter: Filter::parse(&text).or_raise()?, kind: None });
        }
        let text = object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>();
        if text || object.is_callable() || object.try_iter().is_err() {
            return Err(PyTypeError::new_err(format!(
                "filter is the {} {}; give a dict over documents, as {{\"year\": {{\"$gt\": 2003}}}}, or a list of ids",
                object.get_type().name()?,
                object.repr()?
            )));
        }
        let ids = Ids::of(object)?;
        let (ids, kind) = (ids.refs().iter().map(IdRef::to_id).collect::<Vec<_>>(), ids.kind());
        Ok(PyFilter { filter: Filter::ids(ids), kind })
    }

    /// The filter, if its ids are of the store's kind: looking for others is a mistake, not a miss.
    pub(crate) fn in_store_of(&self, kind: Option<IdKind>) -> vecstone::Result<&Filter> {
        match (kind, self.kind) {
            (Some(expected), Some(found)) if expected != found => {
                Err(vecstone::Error::id_kind(expected, found))
            }
            _ => Ok(&self.filter),
        }
    }
}

/// What a search is asked for beside its query, as Python gives it.
pub(crate) struct Options {
    k: usize,
    filter: Option<PyFilter>,
    /// All but the filter, which needs the kind of the store's ids.
    options: SearchOptions,
    vectors: bool,
    documents: bool,
    explain: bool,
}

/// Radius, `exact` and recall, each if it was given.
pub(crate) type Precision = (Option<f32>, Option<bool>, Option<f32>);

impl Options {
    /// `gives`: vectors, documents, and how the search went.
    pub(crate) fn of(
        k: usize,
        filter: Option<&Bound<'_, PyAny>>,
        (radius, exact, recall_target): Precision,
        [vectors, documents, explain]: [bool; 3],
    ) -> PyResult<Options> {
        let filter = filter.map(PyFilter::of).transpose()?;
        let mut options = SearchOptions::new();
        if let Some(radius) = radius {
            options = options.radius(radius);
        }
        if let Some(exact) = exact {
            options = options.exact(exact);
        }
        if let Some(target) = recall_target {
            options = options.recall_target(target);
        }
        // Also where the store is still to be made, and so nothing is searched.
        options.check().or_raise()?;
        if vectors {
            options = options.with_vectors();
        }
        if documents {
            options = options.with_documents();
        }
        Ok(Options { k, filter, options, vectors, documents, explain })
    }

    /// As the library takes them.
    pub(crate) fn in_store_of(&self, kind: Option<IdKind>) -> vecstone::Result<SearchOptions> {
        let options = self.options.clone();
        Ok(match &self.filter {
            Some(filter) => options.filter(filter.in_store_of(kind)?.clone()),
            None => options,
        })
    }
}

/// How a search went, times in seconds.
fn explained<'py>(py: Python<'py>, explain: &Explain) -> PyResult<Bound<'py, PyDict>> {
    let dict = counts(
        py,
        &[
            ("queries", explain.queries),
            ("partitions_visited", explain.partitions_visited),
            ("partitions_skipped", explain.partitions_skipped),
            ("codes_scanned", explain.codes_scanned),
            ("rows_scanned", explain.rows_scanned),
            ("rows_refined", explain.rows_refined),
        ],
    )?;
    dict.set_item("path", explain.path.name())?;
    dict.set_item("why_exact", explain.why_exact.map(WhyExact::name))?;
    let seconds = PyDict::new(py);
    for (stage, time) in explain.stages() {
        seconds.set_item(stage, time.as_secs_f64())?;
    }
    dict.set_item("seconds", seconds)?;
    Ok(dict)
}

/// Ids, distances, whether they are exact, rows read, vectors, documents and how it went: what `Hits` of Python is made of.
pub(crate) fn hits<'py>(
    py: Python<'py>,
    found: Hits,
    &Options { vectors, documents, explain, .. }: &Options,
) -> PyResult<Bound<'py, PyTuple>> {
    let explain = explain.then(|| explained(py, found.explain())).transpose()?;
    let list = |of: &mut dyn Iterator<Item = PyResult<Bound<'py, PyAny>>>| -> PyResult<Bound<'py, PyAny>> {
        Ok(PyList::new(py, of.collect::<PyResult<Vec<_>>>()?)?.into_any())
    };
    let none = || -> PyResult<Bound<'py, PyAny>> { Ok(py.None().into_bound(py)) };
    let ids = list(&mut found.iter().map(|hit| ids::to_python(py, &hit.id)))?;
    let distances = PyArray1::from_iter(py, found.iter().map(|hit| hit.distance));
    let (exact, rows_read) = (found.is_exact(), found.rows_read());
    let documents = match documents {
        true => list(&mut found.iter().map(|hit| convert::from_json(py, hit.document.as_deref())))?,
        false => none()?,
    };
    let vectors = match vectors {
        true => list(
            &mut found
                .into_iter()
                .map(|hit| Ok(PyArray1::from_vec(py, hit.vector.unwrap_or_default()).into_any())),
        )?,
        false => none()?,
    };
    (ids, distances, exact, rows_read, vectors, documents, explain).into_pyobject(py)
}

/// What `Neighbors` of Python is made of: ids and distances of the results of many queries, both of shape (n, k), then what
/// `Hits` says of each query, and documents.
pub(crate) fn neighbors<'py>(
    py: Python<'py>,
    found: &[Hits],
    kind: Option<IdKind>,
    &Options { k, documents, explain, .. }: &Options,
) -> PyResult<Bound<'py, PyTuple>> {
    let (ids, distances) = nearest(py, found, k, kind)?;
    let exact = PyArray1::from_iter(py, found.iter().map(Hits::is_exact));
    let rows_read = PyArray1::from_iter(py, found.iter().map(|hits| hits.rows_read().cast_signed()));
    let line = |hits: &Hits| -> PyResult<Bound<'py, PyList>> {
        let documents = hits.iter().map(|hit| convert::from_json(py, hit.document.as_deref()));
        let none = (hits.len()..k).map(|_| Ok(py.None().into_bound(py)));
        PyList::new(py, documents.chain(none).collect::<PyResult<Vec<_>>>()?)
    };
    let documents = documents.then(|| found.iter().map(line).collect::<PyResult<Vec<_>>>()).transpose()?;
    let explains = || found.iter().map(|hits| explained(py, hits.explain())).collect::<PyResult<Vec<_>>>();
    let explain = explain.then(explains).transpose()?;
    (ids, distances, exact, rows_read, explain, documents).into_pyobject(py)
}

/// Ids and distances of shape (n, k). numpy makes them: it refuses what memory cannot hold.
fn nearest<'py>(
    py: Python<'py>,
    found: &[Hits],
    k: usize,
    kind: Option<IdKind>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let full = |of: Bound<'py, PyAny>, dtype: &str| {
        vectors::numpy_module(py)?.call_method1("full", ((found.len(), k), of, dtype))
    };
    let distances = full(f32::INFINITY.into_pyobject(py)?.into_any(), "float32")?;
    fill(&distances, found, |hit| Ok(hit.distance))?;
    if kind == Some(IdKind::U64) {
        let ids = full(u64::MAX.into_pyobject(py)?.into_any(), "uint64")?;
        fill(&ids, found, |hit| if let Id::U64(id) = hit.id { Ok(id) } else { Ok(u64::MAX) })?;
        return Ok((ids, distances));
    }
    let ids = full(py.None().into_bound(py), "object")?;
    fill(&ids, found, |hit| Ok(ids::to_python(py, &hit.id)?.unbind()))?;
    Ok((ids, distances))
}

/// Writes what `of` takes from each hit to its place in an array with a line for each query.
fn fill<T: Element>(
    array: &Bound<'_, PyAny>,
    found: &[Hits],
    of: impl Fn(&Neighbor) -> PyResult<T>,
) -> PyResult<()> {
    // ndarray refuses the strides that numpy gives to lines of no cells.
    if found.iter().all(Hits::is_empty) {
        return Ok(());
    }
    let mut cells = array.cast::<PyArray2<T>>()?.readwrite();
    for (mut line, hits) in cells.as_array_mut().rows_mut().into_iter().zip(found) {
        array.py().check_signals()?;
        for (cell, hit) in line.iter_mut().zip(hits) {
            *cell = of(hit)?;
        }
    }
    Ok(())
}

/// The components of many queries, shape (n, dim), copied.
pub(crate) fn queries(object: &Bound<'_, PyAny>) -> PyResult<(Vec<f32>, usize)> {
    vectors::with_any_rows("queries", object, |source, rows, dim| {
        check_memory((rows as u64).saturating_mul(dim as u64 * 4)).or_raise()?;
        let mut queries = vec![0.0; rows * dim];
        if !queries.is_empty() {
            source.copy_rows(0, &mut queries);
        }
        Ok((queries, rows))
    })
}

/// Searches for each of `n` queries.
pub(crate) fn search_many(
    snapshot: Option<&Snapshot>,
    queries: &[f32],
    n: usize,
    options: &Options,
) -> vecstone::Result<Vec<Hits>> {
    let Some(snapshot) = snapshot else { return Ok(vec![Hits::default(); n]) };
    let (dim, wanted) = (snapshot.dim(), options.in_store_of(snapshot.kind())?);
    if n > 0 && queries.len() != n * dim {
        return Err(vecstone::Error::dimension_mismatch(dim, queries.len() / n));
    }
    snapshot.search_many(queries, options.k, &wanted)
}

/// What `get_many` does with ids that are not there.
pub(crate) fn is_lenient(missing: &str) -> PyResult<bool> {
    match missing {
        "raise" => Ok(false),
        "nan" => Ok(true),
        _ => Err(PyValueError::new_err(format!("missing is '{missing}', neither 'raise' nor 'nan'"))),
    }
}

/// The vectors of many ids of a snapshot, as [`get_many`] gives them.
pub(crate) fn get_many_of<'py>(
    py: Python<'py>,
    snapshot: Option<&Snapshot>,
    wanted: &Ids,
    lenient: bool,
) -> PyResult<Bound<'py, PyAny>> {
    get_many(py, wanted, snapshot.map_or(0, Snapshot::dim), lenient, |out, absent| {
        let ids = wanted.refs();
        let Some(snapshot) = snapshot else {
            absent.extend(0..ids.len());
            return Ok(());
        };
        all_of_kind(snapshot.kind(), &ids)?;
        snapshot.get_many_into(&ids, out, |n| absent.push(n))
    })
}

/// The vectors of many ids, float32 of shape (n, dim), aligned with them. `read` reads them and tells which are absent.
pub(crate) fn get_many<'py>(
    py: Python<'py>,
    wanted: &Ids,
    dim: usize,
    lenient: bool,
    mut read: impl FnMut(&mut [f32], &mut Vec<usize>) -> vecstone::Result<()> + Send,
) -> PyResult<Bound<'py, PyAny>> {
    // Not zeroed: every row is written below.
    let array = vectors::numpy_module(py)?.call_method1("empty", ((wanted.len(), dim), "float32"))?;
    let mut absent = Vec::new();
    {
        let mut out = array.cast::<PyArray2<f32>>()?.readwrite();
        let out = out.as_slice_mut()?;
        interrupt::detach(py, || {
            absent.clear();
            read(out, &mut absent)
        })?;
        for &n in &absent {
            out[n * dim..(n + 1) * dim].fill(f32::NAN);
        }
    }
    match absent.first().filter(|_| !lenient) {
        Some(&n) => Err(PyKeyError::new_err(ids::to_python(py, &wanted.refs()[n].to_id())?.unbind())),
        None => Ok(array),
    }
}

/// The documents of many ids, None where there is none.
pub(crate) fn get_documents<'py>(
    py: Python<'py>,
    snapshot: Option<&Snapshot>,
    wanted: &Ids,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let Some(snapshot) = snapshot else { return Ok(vec![py.None().into_bound(py); wanted.len()]) };
    check_memory((wanted.len() * size_of::<(Option<String>, Py<PyAny>, IdRef<'_>)>()) as u64).or_raise()?;
    let texts = interrupt::detach(py, || {
        let document = |id| snapshot.get_document(of_kind(snapshot.kind(), id)?);
        wanted.refs().into_iter().map(document).collect::<vecstone::Result<Vec<_>>>()
    });
    texts?.iter().map(|text| convert::from_json(py, text.as_deref())).collect()
}

/// Ids as a list of Python's.
pub(crate) fn id_list<'py>(py: Python<'py>, ids: &[Id]) -> PyResult<Bound<'py, PyList>> {
    let id = |(step, id)| interrupt::check_at(py, step).and_then(|()| ids::to_python(py, id));
    PyList::new(py, ids.iter().enumerate().map(id).collect::<PyResult<Vec<_>>>()?)
}
