//! One error type: what happened, where, and what to do about it.

use crate::sys::disk::is_no_file;
use crate::sys::interrupt::Interrupted;
use crate::types::recovery::RecoveryReport;
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod display;
mod kind;

pub use kind::ErrorKind;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do. [`kind`](Self::kind) sorts errors by what a caller can do about them.
///
/// Errors are cheap to clone: a store whose writing stopped hands out its first error again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a call; nothing that was stored changed.
    #[non_exhaustive]
    Io {
        /// The file or directory the call was about.
        path: PathBuf,
        /// What was being done, as in "read" or "rename".
        operation: &'static str,
        /// As in [`NoSpace`](Error::NoSpace).
        kept: bool,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// A write ended in an unknown state (an I/O error, not a full disk). Writing stops until reopen.
    #[non_exhaustive]
    WriteFailed {
        /// The file written to.
        path: PathBuf,
        /// Byte offset of the write.
        offset: u64,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// A sync failed: whether what it covered is on the disk is unknown. Writing stops until reopen, which
    /// finds each batch whole or absent.
    #[non_exhaustive]
    SyncFailed {
        /// The file or directory synced.
        path: PathBuf,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The disk, a quota or the limit on the size of a file is reached. Nothing that was acknowledged is lost, and the
    /// store goes on once there is room.
    #[non_exhaustive]
    NoSpace {
        /// The file or directory the call was about.
        path: PathBuf,
        /// What was being done, as in "write" or "create".
        operation: &'static str,
        /// Whether what the call was to write is accepted all the same: kept in memory, visible to this handle and tried
        /// again by the background and by [`flush`](crate::VectorStore::flush). Otherwise the call did nothing: repeat it.
        kept: bool,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// An earlier write or sync failed, so writing stopped; what was durable can still be read. Reopen to go on.
    #[non_exhaustive]
    Poisoned {
        /// The failure that stopped writing.
        first: Arc<Error>,
    },
    /// Code of this library panicked while it changed the store: a bug. Writing stops until reopen, which finds each batch
    /// whole or absent; what was durable can still be read.
    #[non_exhaustive]
    Panicked {
        /// What the panic said.
        message: Arc<str>,
    },
    /// Another writer holds the store.
    #[non_exhaustive]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it said so.
        pid: Option<u32>,
    },
    /// The path of the store names another directory now, or none: it was moved, replaced or removed. Writing stops.
    /// What was accepted since the last acknowledgement is in the directory that was opened, if that still has a name,
    /// and nothing was done to what stands at the path.
    #[non_exhaustive]
    StoreMoved {
        /// The path that the store was opened by.
        path: PathBuf,
    },
    /// LOCK was removed or replaced while the store was open for writing: another writer may have come. Writing stops.
    #[non_exhaustive]
    LockRemoved {
        /// The lock file.
        path: PathBuf,
    },
    /// A file that a writer would change is a link: what it does would change, or leave behind, what others have under
    /// another name.
    #[non_exhaustive]
    Linked {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// No store at this path.
    #[non_exhaustive]
    NotFound {
        /// The path given.
        path: PathBuf,
    },
    /// A path that can be none of a store: a store is a directory of this machine. Nothing was made.
    #[non_exhaustive]
    NotAPath {
        /// The path given.
        path: PathBuf,
        /// What to give instead.
        why: &'static str,
    },
    /// The path already holds a store, or files that are not ours.
    #[non_exhaustive]
    AlreadyExists {
        /// The path given.
        path: PathBuf,
    },
    /// What is there is not a store (or pair) of this library.
    #[non_exhaustive]
    NotAStore {
        /// The file or directory looked at.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// The creation of this store was interrupted before anything could be stored in it.
    #[non_exhaustive]
    IncompleteCreate {
        /// The directory.
        path: PathBuf,
    },
    /// A repair, a backup or a migration into this directory did not finish, or is under way. Nothing in it counts.
    #[non_exhaustive]
    Unfinished {
        /// The directory.
        path: PathBuf,
        /// What fills it: "repair", "backup" or "migration".
        call: &'static str,
    },
    /// A repair or backup of a store was to be made in the store itself. Nothing was made.
    #[non_exhaustive]
    InItself {
        /// The place given.
        path: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// Written by a newer release, or with a feature that this release does not know.
    #[non_exhaustive]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not known, with its number.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The largest number this release reads.
        supported: u64,
    },
    /// Stored bytes are not what was written. Nothing was changed or deleted.
    #[non_exhaustive]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Byte offset of the damage, as near as it is known.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// `open` with `strict` found that the last writer did not close the store, or that bytes would be dropped.
    #[non_exhaustive]
    UncleanShutdown {
        /// The file whose end is not proven.
        path: PathBuf,
        /// What recovery would keep and drop.
        report: RecoveryReport,
    },
    /// A vector, query or file has another dimension than the store.
    #[non_exhaustive]
    DimensionMismatch {
        /// The store's dimension.
        expected: usize,
        /// The dimension given.
        found: usize,
    },
    /// A component is NaN or infinite. Nothing of the batch is stored.
    #[non_exhaustive]
    NonFinite {
        /// Row of the batch, counted from 0.
        row: usize,
        /// Component of the row, counted from 0.
        component: usize,
    },
    /// An id is empty or longer than [`MAX_ID_BYTES`](crate::MAX_ID_BYTES). Nothing of the batch is stored.
    #[non_exhaustive]
    InvalidId {
        /// Row of the batch, counted from 0.
        row: usize,
        /// Length of the id in bytes.
        len: usize,
    },
    /// An id is 2^64 - 1, above [`MAX_ID_NUMBER`](crate::MAX_ID_NUMBER). Nothing of the batch is stored.
    #[non_exhaustive]
    IdOutOfRange {
        /// Row of the batch, counted from 0.
        row: usize,
    },
    /// Ids and vectors of a batch do not have the same number of rows. Nothing of the batch is stored.
    #[non_exhaustive]
    CountMismatch {
        /// Number of ids.
        ids: usize,
        /// Number of vector components.
        components: usize,
        /// The store's dimension; 0 if it has none yet.
        dim: usize,
    },
    /// One batch holds more than a batch may. Nothing of it is stored; split it.
    #[non_exhaustive]
    BatchTooLarge {
        /// What there is too much of: "bytes of vectors", "bytes of ids" or "records".
        what: &'static str,
        /// How much the batch has.
        found: u64,
        /// The most that one batch may hold.
        max: u64,
    },
    /// The store has as many rows as row numbers.
    #[non_exhaustive]
    TooManyRows {
        /// Rows that there would be.
        rows: u64,
        /// The most that a segment may hold.
        max: u64,
    },
    /// A dimension of 0, or above [`MAX_DIM`](crate::MAX_DIM).
    #[non_exhaustive]
    InvalidDim {
        /// The dimension given.
        dim: u64,
    },
    /// A row number at or beyond the number of rows.
    #[non_exhaustive]
    NoSuchRow {
        /// The row asked for.
        row: u64,
        /// How many rows there are.
        rows: u64,
    },
    /// Memory for this many bytes could not be had.
    #[non_exhaustive]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// The handle was opened read-only.
    ReadOnly,
    /// An id of another kind than the store's; the first write fixed it. Nothing of the batch is stored.
    #[non_exhaustive]
    IdKindMismatch {
        /// The store's kind.
        expected: crate::IdKind,
        /// The kind given.
        found: crate::IdKind,
    },
    /// A document is not exactly one JSON value. Nothing of the batch is stored.
    #[non_exhaustive]
    InvalidDocument {
        /// Row of the batch, counted from 0.
        row: usize,
        /// What the JSON parser says.
        why: Arc<str>,
    },
    /// Documents of ids that are not there were to change. Nothing of the call is stored.
    #[non_exhaustive]
    UnknownIds {
        /// All of them.
        ids: Arc<[crate::Id]>,
    },
    /// A document that is no JSON object was to be merged with another one. Nothing of the call is stored.
    #[non_exhaustive]
    NotAnObject {
        /// Whose document it is.
        id: crate::Id,
    },
    /// Attributes are not exactly one JSON object. Nothing was changed.
    #[non_exhaustive]
    InvalidAttributes {
        /// What is wrong with them.
        why: Arc<str>,
    },
    /// Attributes are longer than a store has room for. Nothing was changed.
    #[non_exhaustive]
    AttributesTooLarge {
        /// Bytes of their JSON text.
        found: u64,
        /// [`MAX_ATTRIBUTES_BYTES`](crate::MAX_ATTRIBUTES_BYTES), or less where a later release keeps more beside them.
        max: u64,
    },
    /// A name of what makes vectors is empty or too long. Nothing was changed.
    #[non_exhaustive]
    InvalidEmbedName {
        /// Bytes of the name.
        found: u64,
        /// [`MAX_EMBED_NAME_BYTES`](crate::MAX_EMBED_NAME_BYTES), or less where a later release keeps more beside it.
        max: u64,
    },
    /// There are too few queries to measure with: what they need says little of others. Nothing was changed.
    #[non_exhaustive]
    TooFewQueries {
        /// How many there are.
        found: usize,
        /// How many there have to be.
        least: usize,
    },
    /// A filter is not JSON, or asks for something that there is not.
    #[non_exhaustive]
    InvalidFilter {
        /// What is wrong, with the key or the operator.
        why: Arc<str>,
    },
    /// The radius of a search is NaN.
    InvalidRadius,
    /// A recall to reach is not above 0 and at most 1.
    #[non_exhaustive]
    InvalidRecallTarget {
        /// The number given.
        target: f32,
    },
    /// A share of dead rows is not 0 to 1.
    #[non_exhaustive]
    InvalidMinDead {
        /// The number given.
        share: f64,
    },
    /// A search was to be exact, and to reach a recall below 1.
    #[non_exhaustive]
    ExactWithRecallTarget {
        /// The recall given.
        target: f32,
    },
    /// A store was opened with another value of an option that is the store's own: it was fixed when the store was made.
    #[non_exhaustive]
    OptionMismatch {
        /// The option.
        option: &'static str,
        /// Its value in the store.
        expected: u64,
        /// The value given.
        found: u64,
    },
    /// The calling thread does not compute as the distances are defined: it rounds otherwise than to the nearest number,
    /// or takes denormal numbers for zero. Some libraries set that for speed (`-ffast-math`).
    FloatingPointMode,
    /// A store has as many segments as MANIFEST can name.
    #[non_exhaustive]
    TooManySegments {
        /// The most that there may be.
        max: u64,
    },
    /// A number that counts what a store ever did, and is never used twice, has come to its end. Nothing was changed;
    /// copy the vectors to a new store.
    #[non_exhaustive]
    NumbersUsedUp {
        /// What is counted: "segment numbers", "MANIFEST numbers" or "sequences of batches".
        what: &'static str,
        /// The last of them.
        max: u64,
    },
    /// A text names nothing of what it stands for: a [`Metric`](crate::Metric), an [`IdKind`](crate::IdKind), a
    /// [`Durability`](crate::Durability).
    #[non_exhaustive]
    UnknownName {
        /// What is named: "metric", "id kind" or "durability".
        what: &'static str,
        /// The text.
        name: Arc<str>,
        /// All names that there are, quoted, with commas between.
        names: Arc<str>,
    },
    /// The handle is closed.
    Closed,
    /// The handle was opened before a fork, by the parent of this process; it reads what was there then.
    Forked,
    /// The caller broke it off; nothing was changed.
    Cancelled,
    /// The call was made through [`interruptible`](crate::interruptible), and is not wanted any more.
    Interrupted,
}

impl Error {
    /// What a panic says, as an error.
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Error::Panicked { message: text.unwrap_or("a panic without a message").into() }
    }

    /// A call that changed nothing: refused, or for want of space.
    pub(crate) fn io(path: &Path, operation: &'static str, source: io::Error) -> Error {
        // Something else in the place of a file is damage of that file.
        if operation == "open" && is_no_file(&source) {
            return Error::corrupt(path, 0, "it is not a regular file");
        }
        Error::refused(path.to_owned(), operation, Arc::new(source))
    }

    fn refused(path: PathBuf, operation: &'static str, source: Arc<io::Error>) -> Error {
        let kept = false;
        // Reading needs no space, whatever the system says.
        if is_full(&source) && !operation.starts_with("read") {
            Error::NoSpace { path, operation, kept, source }
        } else {
            Error::Io { path, operation, kept, source }
        }
    }

    /// A failed opening of a file for writing.
    pub(crate) fn open(dir: &crate::sys::disk::Dir, path: &Path, source: io::Error) -> Error {
        match dir.stat(path) {
            Ok(found) if found.symlink => Error::Linked { path: path.to_owned(), what: "a symbolic link" },
            _ => Error::io(path, "open", source),
        }
    }

    /// Sorts a failed write by what is known afterwards: a full disk wrote nothing that counts, anything else
    /// leaves the file in an unknown state.
    pub(crate) fn write(path: &Path, offset: u64, source: io::Error) -> Error {
        if is_full(&source) {
            return Error::io(path, "write", source);
        }
        Error::WriteFailed { path: path.to_owned(), offset, source: Arc::new(source) }
    }

    /// The same failure in making a file that nothing names yet: it goes, and writing goes on.
    pub(crate) fn abandoned(self) -> Error {
        match self {
            Error::WriteFailed { path, source, .. } => Error::refused(path, "write", source),
            Error::SyncFailed { path, source } => Error::refused(path, "sync", source),
            error => error,
        }
    }

    /// The same failure, told to a caller whose write is accepted (`true`) or not.
    pub(crate) fn kept(self, kept: bool) -> Error {
        match self {
            Error::NoSpace { path, operation, source, .. } => {
                Error::NoSpace { path, operation, kept, source }
            }
            Error::Io { path, operation, source, .. } => Error::Io { path, operation, kept, source },
            error => error,
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { path: path.to_owned(), offset, what }
    }

    /// The number that the system gave its error, where that is the cause: `errno`, or what Windows has instead.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. }
            | Error::WriteFailed { source, .. }
            | Error::SyncFailed { source, .. }
            | Error::NoSpace { source, .. } => source.raw_os_error(),
            Error::Poisoned { first } => first.errno(),
            _ => None,
        }
    }

    /// True where the error says that stored bytes are damaged.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Corrupt { .. })
    }

    /// True where a reader may only have met a writer in the middle of its work.
    pub(crate) fn may_be_a_race(&self) -> bool {
        let cut = |source: &io::Error| source.kind() == io::ErrorKind::UnexpectedEof;
        matches!(self, Error::Corrupt { .. }) || matches!(self, Error::Io { source, .. } if cut(source))
    }

    /// True where writing stops until the store is opened again.
    pub(crate) fn stops_writing(&self) -> bool {
        self.kind() == ErrorKind::WritingStopped
    }
}

/// Whether the system says that there is no room: on the disk, in a quota, below the limit on the size of a file.
pub(crate) fn is_full(source: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. }
            | Error::WriteFailed { source, .. }
            | Error::SyncFailed { source, .. }
            | Error::NoSpace { source, .. } => Some(source.as_ref()),
            Error::Poisoned { first } => Some(first.as_ref()),
            _ => None,
        }
    }
}

impl From<Interrupted> for Error {
    fn from(_: Interrupted) -> Error {
        Error::Interrupted
    }
}
