//! Arrow data in and out by the C stream interface, and files of rows.

use crate::error::{OrRaise, file_name};
use crate::ids::{Ids, to_python};
use crate::vectors;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList, PyTuple};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use vecstone::{Document, IdRef};
use vecstone_arrow::arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use vecstone_arrow::{Columns, DocumentColumns, Error, RowReader, empty_reader, reader_of, rows_of};

/// The name that the interface gives its capsules.
const STREAM: &std::ffi::CStr = c"arrow_array_stream";
/// Rows in a batch that is handed out.
const BATCH_ROWS: usize = 8192;

/// The live rows of a snapshot as a stream of Arrow batches. `None`: a store that is still to be made.
pub(crate) fn stream<'py>(
    py: Python<'py>,
    snapshot: Option<vecstone::Snapshot>,
) -> PyResult<Bound<'py, PyCapsule>> {
    let reader = snapshot.map_or_else(empty_reader, |snapshot| reader_of(snapshot, BATCH_ROWS));
    let stream = FFI_ArrowArrayStream::new(Box::new(reader));
    PyCapsule::new_with_value(py, stream, STREAM)
}

/// Rows of a file (Parquet, Arrow IPC, JSON lines), or of anything that has `__arrow_c_stream__`: an iterator of tuples
/// (ids, vectors or None, documents as JSON or None, texts or None).
#[pyclass(frozen, module = "vecstone._core")]
pub(crate) struct Rows {
    source: Mutex<Source>,
    /// Rows of the whole, if that is known before.
    #[pyo3(get)]
    total: Option<u64>,
}

enum Source {
    File(Box<RowReader>),
    Stream { reader: Box<RecordBatchStreamReader>, columns: Columns, first: u64 },
}

impl Source {
    fn next(&mut self) -> Option<Result<vecstone_arrow::Rows, Error>> {
        match self {
            Source::File(reader) => reader.next(),
            Source::Stream { reader, columns, first } => loop {
                let batch = match reader.next()? {
                    Ok(batch) if batch.num_rows() == 0 => continue,
                    Ok(batch) => batch,
                    Err(error) => {
                        return Some(Err(Error::Unreadable {
                            format: "Arrow stream",
                            why: error.to_string(),
                        }));
                    }
                };
                let rows = rows_of(&batch, columns, *first);
                *first += batch.num_rows() as u64;
                return Some(rows);
            },
        }
    }
}

fn raised(error: Error) -> PyErr {
    match error {
        Error::InFile { path, error } => match *error {
            Error::Io { source, operation } => {
                let text = format!("cannot {operation}: {source}");
                match source.raw_os_error() {
                    Some(number) => PyOSError::new_err((number, text, file_name(&path))),
                    None => PyOSError::new_err(format!("{}: {text}", path.display())),
                }
            }
            Error::Store(error @ vecstone::Error::OutOfMemory { .. }) => {
                PyMemoryError::new_err(format!("{}: {error}", path.display()))
            }
            error => PyValueError::new_err(format!("{}: {error}", path.display())),
        },
        Error::Store(error) => crate::error::raised(&error),
        error => PyValueError::new_err(error.to_string()),
    }
}

#[pymethods]
impl Rows {
    /// `documents`: None for none, "auto" for a column `document` if there is one, "*" for all others, or their names.
    #[new]
    #[pyo3(signature = (source, id_column, vector_column, documents, text_column, batch_rows))]
    fn new(
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        id_column: String,
        vector_column: Option<String>,
        documents: Option<&Bound<'_, PyAny>>,
        text_column: Option<String>,
        batch_rows: usize,
    ) -> PyResult<Rows> {
        let documents = match documents {
            None => DocumentColumns::None,
            Some(documents) => match documents.extract::<String>() {
                Ok(word) if word == "auto" => DocumentColumns::IfThere,
                Ok(word) if word == "*" => DocumentColumns::Others,
                Ok(_) => return Err(PyTypeError::new_err("document_columns is a list of names, or '*'")),
                Err(_) => DocumentColumns::Named(documents.extract()?),
            },
        };
        let columns =
            Columns { id: id_column, vector: vector_column, documents, text: text_column, dim: None };
        if source.hasattr("__arrow_c_stream__")? {
            let reader = Box::new(imported(source)?);
            let source = Source::Stream { reader, columns, first: 0 };
            return Ok(Rows { source: Mutex::new(source), total: None });
        }
        let path: PathBuf = source.extract()?;
        let reader = py.detach(|| RowReader::open(path, &columns, batch_rows)).map_err(raised)?;
        Ok(Rows { total: reader.rows(), source: Mutex::new(Source::File(Box::new(reader))) })
    }

    /// The names of the columns of a file that are not read; of JSON lines the keys of the first line, once that was read.
    #[getter]
    fn unread(&self) -> Vec<String> {
        match &*self.source.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::File(reader) => reader.unread().to_vec(),
            Source::Stream { .. } => Vec::new(),
        }
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let next = py.detach(|| self.source.lock().unwrap_or_else(PoisonError::into_inner).next());
        let Some(rows) = next else { return Ok(None) };
        let rows = rows.map_err(raised)?;
        let ids = rows.ids.iter().map(|id| to_python(py, id)).collect::<PyResult<Vec<_>>>()?;
        let vectors = match rows.dim {
            0 => None,
            dim => Some(PyArray1::from_slice(py, &rows.vectors).reshape([ids.len(), dim])?),
        };
        let tuple = (PyList::new(py, ids)?, vectors, rows.documents, rows.texts);
        Ok(Some(tuple.into_pyobject(py)?))
    }
}

/// Takes the stream over that an object hands out.
#[allow(unsafe_code, reason = "the Arrow C stream interface hands a stream over by its address")]
fn imported(source: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let capsule = source.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
    let stream = capsule.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: a capsule of that name holds an ArrowArrayStream, by the Arrow PyCapsule interface, and lives until the end
    // of this function; `from_raw` moves the stream out and leaves a released one behind, which the capsule then frees.
    let reader = unsafe { RecordBatchStreamReader::from_raw(stream.as_ptr()) };
    reader.map_err(|error| PyValueError::new_err(format!("the Arrow stream cannot be read: {error}")))
}

/// Which of the rows are stored already with the same bytes and the same document.
pub(crate) fn unchanged<'py>(
    py: Python<'py>,
    snapshot: Option<&vecstone::Snapshot>,
    ids: &Ids,
    vectors: &Bound<'_, PyAny>,
    lines: &[Document<String>],
) -> PyResult<Bound<'py, PyArray1<bool>>> {
    let (vectors, dim) = vectors::copy_rows(vectors, ids.len())?;
    let Some(snapshot) = snapshot.filter(|_| ids.len() > 0) else {
        return Ok(PyArray1::from_vec(py, vec![false; ids.len()]));
    };
    let same = py.detach(|| {
        if dim != snapshot.dim() {
            return Err(vecstone::Error::dimension_mismatch(snapshot.dim(), dim));
        }
        let mut stored = vec![0.0f32; dim];
        let mut one = |row: usize, id: IdRef<'_>, vector: &[f32]| -> vecstone::Result<bool> {
            let there = snapshot.get_into(id, &mut stored)?;
            let same = there && stored.iter().zip(vector).all(|(a, b)| a.to_bits() == b.to_bits());
            Ok(same
                && match lines.get(row).map(Document::as_deref).unwrap_or_default() {
                    Document::Keep => true,
                    Document::None => snapshot.get_document(id)?.is_none(),
                    Document::Json(line) => same_document(snapshot.get_document(id)?.as_deref(), line),
                })
        };
        let rows = ids.refs().into_iter().zip(vectors.chunks_exact(dim)).enumerate();
        rows.map(|(row, (id, vector))| one(row, id, vector)).collect::<vecstone::Result<Vec<bool>>>()
    });
    Ok(PyArray1::from_vec(py, same.or_raise()?))
}

/// Whether the stored document says what this one does; `null` says nothing.
fn same_document(stored: Option<&str>, line: &str) -> bool {
    line == "null"
        || stored.is_some_and(|stored| {
            let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
            stored == line || (parse(stored).is_some() && parse(stored) == parse(line))
        })
}
