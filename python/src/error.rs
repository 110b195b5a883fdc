//! Errors of the library as Python's: built-in exceptions where Python has the word.

use crate::ids::to_python;
use pyo3::exceptions::{
    PyException, PyFileExistsError, PyFileNotFoundError, PyKeyError, PyMemoryError, PyOSError, PyTypeError,
    PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{Python, create_exception};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use vecstone::{Error as E, ErrorKind, Id};

create_exception!(vecstone, Error, PyException, "What Python has no word for; the base of the others here.");
create_exception!(
    vecstone,
    LockedError,
    Error,
    "Another process writes the store; `pid` is its process, if known."
);
create_exception!(
    vecstone,
    CorruptError,
    Error,
    "Stored bytes are damaged: `path`, `offset`. Nothing was changed."
);
create_exception!(vecstone, NotAStoreError, Error, "What is at that path is not a store.");
create_exception!(vecstone, UnsupportedError, Error, "Written by a newer release.");
create_exception!(vecstone, ReadOnlyError, Error, "The store is open read-only.");
create_exception!(vecstone, ForkedError, Error, "This process is a fork of the one that opened the store.");
create_exception!(
    vecstone,
    WritingStoppedError,
    Error,
    "A write or sync failed before; open the store again. `errno` is what the system said then, if it did."
);
create_exception!(
    vecstone,
    StoreMovedError,
    WritingStoppedError,
    "The open store was moved, replaced or removed, or its LOCK was; nothing was done to what stands at its path."
);
create_exception!(vecstone, CancelledError, Error, "Broken off as asked; nothing was changed.");

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("Error", py.get_type::<Error>())?;
    module.add("LockedError", py.get_type::<LockedError>())?;
    module.add("CorruptError", py.get_type::<CorruptError>())?;
    module.add("NotAStoreError", py.get_type::<NotAStoreError>())?;
    module.add("UnsupportedError", py.get_type::<UnsupportedError>())?;
    module.add("ReadOnlyError", py.get_type::<ReadOnlyError>())?;
    module.add("ForkedError", py.get_type::<ForkedError>())?;
    module.add("WritingStoppedError", py.get_type::<WritingStoppedError>())?;
    module.add("StoreMovedError", py.get_type::<StoreMovedError>())?;
    module.add("CancelledError", py.get_type::<CancelledError>())
}

/// The exception of an error.
pub(crate) fn raised(error: &E) -> PyErr {
    let text = error.to_string();
    match error {
        E::IdKindMismatch { .. } => PyTypeError::new_err(text),
        E::UnknownIds { ids, .. } => unknown(ids),
        E::NotFound { path, .. } => {
            let text = "no store there; check the path, or open it with mode 'a', which makes one";
            PyFileNotFoundError::new_err((ENOENT, text, file_name(path)))
        }
        E::AlreadyExists { path, .. } => {
            already_there(path, "already there; open it, or choose another path")
        }
        E::OutOfMemory { .. } => PyMemoryError::new_err(text),
        E::WriteFailed { path, source, .. } | E::SyncFailed { path, source, .. } => {
            of_the_system(path, source, text)
        }
        E::Io { path, kept, source, .. } | E::NoSpace { path, kept, source, .. } => {
            with_attributes(of_the_system(path, source, text), |error| error.setattr("kept", *kept))
        }
        E::Locked { pid, .. } => {
            with_attributes(LockedError::new_err(text), |error| error.setattr("pid", *pid))
        }
        E::Corrupt { path, offset, .. } => with_attributes(CorruptError::new_err(text), |error| {
            error.setattr("path", file_name(path))?;
            error.setattr("offset", *offset)
        }),
        E::StoreMoved { path, .. } | E::LockRemoved { path, .. } => {
            with_attributes(StoreMovedError::new_err(text), |error| error.setattr("path", file_name(path)))
        }
        E::Closed => PyValueError::new_err(text),
        E::ReadOnly => ReadOnlyError::new_err(text),
        E::Forked => ForkedError::new_err(text),
        E::FloatingPointMode => Error::new_err(text),
        _ => match error.kind() {
            ErrorKind::InvalidInput => PyValueError::new_err(text),
            ErrorKind::NotAStore => NotAStoreError::new_err(text),
            ErrorKind::Unsupported => UnsupportedError::new_err(text),
            ErrorKind::WritingStopped => with_attributes(WritingStoppedError::new_err(text), |raised| {
                raised.setattr("errno", error.errno())
            }),
            ErrorKind::Cancelled => CancelledError::new_err(text),
            _ => Error::new_err(text),
        },
    }
}

/// `KeyError` with all of the ids.
fn unknown(ids: &[Id]) -> PyErr {
    Python::attach(|py| {
        let ids = ids.iter().map(|id| to_python(py, id)).collect::<PyResult<Vec<_>>>();
        let args = ids.and_then(|ids| PyTuple::new(py, ids));
        args.map_or_else(|error| error, |args| PyKeyError::new_err(args.unbind()))
    })
}

/// A path as the exceptions of Python's own calls have it, a str: to make a `pathlib.Path`, Python may have to open files,
/// and there may be no descriptor left.
pub(crate) fn file_name(path: &Path) -> OsString {
    path.as_os_str().to_owned()
}

/// As `errno` of Python has them, everywhere.
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

/// The exception for a path that holds something already.
pub(crate) fn already_there(path: &Path, text: &'static str) -> PyErr {
    PyFileExistsError::new_err((EEXIST, text, file_name(path)))
}

/// With a number from the system Python chooses the class: `PermissionError` and the like.
pub(crate) fn of_the_system(path: &Path, source: &io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text, file_name(path))),
        None => PyOSError::new_err(text),
    }
}

fn with_attributes(error: PyErr, set: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> PyErr {
    Python::attach(|py| set(error.value(py).as_any()).err()).unwrap_or(error)
}

/// Errors of the library in Python's functions.
pub(crate) trait OrRaise<T> {
    /// The value, or the exception of the error.
    fn or_raise(self) -> PyResult<T>;
}

impl<T> OrRaise<T> for vecstone::Result<T> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| raised(&error))
    }
}
