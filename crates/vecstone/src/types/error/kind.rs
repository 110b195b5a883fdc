//! Errors by what a caller can do about them.

use super::Error;

/// What a caller can do about an [`Error`].
///
/// ```
/// use vecstone::{ErrorKind, VectorStore};
///
/// let store = match VectorStore::open("/no/such/store") {
///     Err(error) if error.kind() == ErrorKind::NotFound => None, // make one
///     opened => Some(opened?),
/// };
/// # assert!(store.is_none());
/// # Ok::<(), vecstone::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument cannot be used, in this store or in any. Nothing was done: give another one.
    InvalidInput,
    /// No store is there, or no row under these ids: make it first.
    NotFound,
    /// Something is there already: open it, or choose another path.
    AlreadyExists,
    /// What is there is no store, or not one yet: choose another path, or repeat the call that makes it.
    NotAStore,
    /// Another process writes: wait and repeat, or open read-only.
    Locked,
    /// Space, memory or numbers are used up. Nothing that was acknowledged is lost: make room, or give less at once.
    LimitReached,
    /// The operating system refused a call. Nothing that was stored changed: see to the cause and repeat.
    Io,
    /// Writing stopped, and what was durable can be read: open the store again.
    WritingStopped,
    /// Stored bytes are damaged. Nothing was changed: verify, restore a backup, or repair.
    Corrupt,
    /// The store was not closed cleanly, and strict opening was asked for: open it without.
    UncleanShutdown,
    /// A newer release wrote this: use that one.
    Unsupported,
    /// This handle cannot do that (closed, read-only, of a parent process, links in the way): open the store for it.
    WrongHandle,
    /// The caller broke it off.
    Cancelled,
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::DimensionMismatch { .. }
            | Error::NonFinite { .. }
            | Error::InvalidId { .. }
            | Error::IdOutOfRange { .. }
            | Error::IdKindMismatch { .. }
            | Error::CountMismatch { .. }
            | Error::BatchTooLarge { .. }
            | Error::InvalidDim { .. }
            | Error::NoSuchRow { .. }
            | Error::InvalidDocument { .. }
            | Error::NotAnObject { .. }
            | Error::InvalidAttributes { .. }
            | Error::AttributesTooLarge { .. }
            | Error::InvalidEmbedName { .. }
            | Error::InvalidFilter { .. }
            | Error::InvalidRadius
            | Error::TooFewQueries { .. }
            | Error::InvalidRecallTarget { .. }
            | Error::InvalidMinDead { .. }
            | Error::ExactWithRecallTarget { .. }
            | Error::OptionMismatch { .. }
            | Error::UnknownName { .. }
            | Error::InItself { .. }
            | Error::NotAPath { .. }
            | Error::FloatingPointMode => ErrorKind::InvalidInput,
            Error::NotFound { .. } | Error::UnknownIds { .. } => ErrorKind::NotFound,
            Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Error::NotAStore { .. } | Error::IncompleteCreate { .. } | Error::Unfinished { .. } => {
                ErrorKind::NotAStore
            }
            Error::Locked { .. } => ErrorKind::Locked,
            Error::NoSpace { .. }
            | Error::OutOfMemory { .. }
            | Error::TooManyRows { .. }
            | Error::TooManySegments { .. }
            | Error::NumbersUsedUp { .. } => ErrorKind::LimitReached,
            Error::Io { .. } => ErrorKind::Io,
            Error::WriteFailed { .. }
            | Error::SyncFailed { .. }
            | Error::Poisoned { .. }
            | Error::Panicked { .. }
            | Error::StoreMoved { .. }
            | Error::LockRemoved { .. } => ErrorKind::WritingStopped,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::UncleanShutdown { .. } => ErrorKind::UncleanShutdown,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::ReadOnly | Error::Closed | Error::Forked | Error::Linked { .. } => ErrorKind::WrongHandle,
            Error::Cancelled | Error::Interrupted => ErrorKind::Cancelled,
        }
    }
}

/// Errors of a caller that answers for a store, such as the Python package for one that is still to be made. No part of the
/// interface: any release may change it.
#[doc(hidden)]
impl Error {
    pub fn not_found(path: std::path::PathBuf) -> Error {
        Error::NotFound { path }
    }

    pub fn dimension_mismatch(expected: usize, found: usize) -> Error {
        Error::DimensionMismatch { expected, found }
    }

    pub fn id_kind(expected: crate::IdKind, found: crate::IdKind) -> Error {
        Error::IdKindMismatch { expected, found }
    }

    pub fn out_of_memory(bytes: u64) -> Error {
        Error::OutOfMemory { bytes }
    }

    pub fn unknown_ids(ids: impl IntoIterator<Item = crate::Id>) -> Error {
        Error::UnknownIds { ids: ids.into_iter().collect() }
    }
}
