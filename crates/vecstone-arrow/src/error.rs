//! The one error type: what is wrong with the input, where, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;

/// A result with the error of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why input was not taken, or output not given.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What is wrong with a file.
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<Error>,
    },
    /// A call of the operating system failed.
    Io {
        /// As in "cannot read".
        operation: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// Neither Parquet nor Arrow IPC nor JSON lines.
    UnknownFormat {
        /// What it may be instead, and what to do.
        why: &'static str,
    },
    /// The file is cut short or damaged, or uses what this release cannot read.
    Unreadable {
        /// Name of the format.
        format: &'static str,
        /// What its reader says.
        why: String,
    },
    /// A column that was asked for is not there.
    MissingColumn {
        /// Its use, as in "the ids".
        role: &'static str,
        /// Its name.
        column: String,
        /// The columns that are there.
        there: Vec<String>,
    },
    /// Two columns have the same name.
    AmbiguousColumn {
        /// Their name.
        column: String,
    },
    /// A column is of a type that is not taken for what it is to be.
    ColumnType {
        /// What it is for, as in "the ids".
        role: &'static str,
        /// Its name.
        column: String,
        /// Its type.
        found: String,
        /// What would be taken.
        wanted: &'static str,
    },
    /// A row of a store could not be read.
    Store(vecstone::Error),
    /// Output could not be written.
    Write {
        /// What the operating system, or the writer of the format, says.
        why: String,
    },
    /// A value is not taken.
    Value {
        /// The column.
        column: String,
        /// The row, counted from 0 over the whole input.
        row: u64,
        /// What is wrong.
        what: String,
    },
    /// A line is not taken.
    Line {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, source }
    }

    pub(crate) fn in_file(self, path: &Path) -> Error {
        Error::InFile { path: path.to_owned(), error: Box::new(self) }
    }
}

/// As an error of an Arrow reader. The other way round it is found by downcasting.
impl From<Error> for ArrowError {
    fn from(error: Error) -> ArrowError {
        ArrowError::ExternalError(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InFile { path, error } => write!(f, "{}: {error}", path.display()),
            Error::Io { operation, source } => write!(f, "cannot {operation}: {source}"),
            Error::UnknownFormat { why } => write!(f, "{why}"),
            Error::Unreadable { format, why } => {
                write!(f, "cannot be read as {format}: {why}; write or copy the file again")
            }
            Error::MissingColumn { role, column, there } => {
                write!(f, "no column {column:?} for {role}; ")?;
                match there.as_slice() {
                    [] => write!(f, "there are no columns at all"),
                    there => {
                        let there: Vec<String> = there.iter().map(|name| format!("{name:?}")).collect();
                        write!(f, "the columns are {}", there.join(", "))
                    }
                }
            }
            Error::AmbiguousColumn { column } => {
                write!(f, "there is more than one column {column:?}; rename all but one")
            }
            Error::ColumnType { role, column, found, wanted } => {
                write!(f, "column {column:?} for {role} is of type {found}; {wanted}")
            }
            Error::Store(error) => error.fmt(f),
            Error::Write { why } => write!(f, "cannot write: {why}"),
            Error::Value { column, row, what } => write!(f, "column {column:?}, row {row}: {what}"),
            Error::Line { line, what } => write!(f, "line {line}: {what}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Error::InFile { error, .. } => Some(error.as_ref()),
            Error::Io { source, .. } => Some(source),
            Error::Store(error) => Some(error),
            _ => None,
        }
    }
}
