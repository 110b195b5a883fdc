//! What each error says: where, what happened, and what to do.

use super::Error;
use crate::types::counted::counted;
use std::fmt;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_failed_call(f)
    }
}

/// The messages in the order of the enum, in parts that fit on a screen: each part hands what it does not know to the next.
impl Error {
    fn fmt_failed_call(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, operation, kept, source } => {
                write!(f, "{}: cannot {operation}: {source}", path.display())?;
                if *kept {
                    write!(f, "; what was accepted is kept in memory and tried again")
                } else {
                    Ok(())
                }
            }
            Error::WriteFailed { path, offset, source } => write!(
                f,
                "{}: write at byte {offset} failed: {source}; writing stops, reopen the store to go on",
                path.display()
            ),
            Error::SyncFailed { path, source } => write!(
                f,
                "{}: sync failed, so it is unknown whether the last batches are on the disk: {source}; \
                 writing stops, reopen the store to see which are there",
                path.display()
            ),
            Error::NoSpace { path, operation, kept: true, source } => write!(
                f,
                "{}: no space left, cannot {operation}: {source}; what was accepted is kept in memory and tried again, \
                 free some space and flush",
                path.display()
            ),
            Error::NoSpace { path, operation, kept: false, source } => write!(
                f,
                "{}: no space left, cannot {operation}: {source}; this call stored nothing, what was acknowledged stays, \
                 free some space and repeat",
                path.display()
            ),
            Error::Panicked { message } => write!(
                f,
                "vecstone itself failed: {message}; writing stops, reopen the store to go on, and please report this"
            ),
            Error::Poisoned { first } => write!(f, "writing stopped after an earlier failure: {first}"),
            _ => self.fmt_store_at_path(f),
        }
    }

    fn fmt_store_at_path(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Locked { path, pid: Some(pid) } => {
                write!(f, "{}: locked by process {pid}; wait for it, or open read-only", path.display())
            }
            Error::Locked { path, pid: None } => {
                write!(f, "{}: locked by another process; wait for it, or open read-only", path.display())
            }
            Error::StoreMoved { path } => write!(
                f,
                "{}: the store that was opened here was moved, replaced or removed; writing stops and nothing at \
                 this path was touched; open the store where it is now",
                path.display()
            ),
            Error::LockRemoved { path } => write!(
                f,
                "{}: removed or replaced while the store was open for writing, so that another writer may have come; \
                 writing stops, reopen the store and leave LOCK to it",
                path.display()
            ),
            Error::Linked { path, what } => write!(
                f,
                "{}: {what}, and writing to the store would change or leave behind the file under its other name; \
                 open it read-only, or copy the store with the content of its files (`cp -rL`) and write to the copy",
                path.display()
            ),
            Error::NotFound { path } => {
                write!(f, "{}: no store there; check the path", path.display())
            }
            Error::NotAPath { path, why } => write!(f, "{}: no path of a store: {why}", path.display()),
            Error::AlreadyExists { path } => {
                write!(f, "{}: already there; open it, or choose another path", path.display())
            }
            Error::NotAStore { path, why } => write!(f, "{}: not a vecstone store: {why}", path.display()),
            Error::IncompleteCreate { path } => write!(
                f,
                "{}: the creation of this store was interrupted and nothing is stored in it; create it again",
                path.display()
            ),
            Error::Unfinished { path, call } => write!(
                f,
                "{}: a {call} into this directory did not finish, or is under way; repeat it, into the same directory",
                path.display()
            ),
            Error::InItself { path, store } => write!(
                f,
                "{}: it lies in the store itself, {}; choose a place outside of it",
                path.display(),
                store.display()
            ),
            Error::Unsupported { path, what, found, supported } => write!(
                f,
                "{}: {what} {found} is not known to this release (up to {supported} is); use a newer vecstone",
                path.display()
            ),
            Error::Corrupt { path, offset, what } => write!(
                f,
                "{}: damaged at byte {offset}: {what}; nothing was changed, restore this file from a copy",
                path.display()
            ),
            Error::UncleanShutdown { path, report } => write!(
                f,
                "{}: not closed cleanly ({report}); open without strict to recover it",
                path.display()
            ),
            _ => self.fmt_refused_input(f),
        }
    }

    fn fmt_refused_input(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::DimensionMismatch { expected, found } => {
                write!(f, "the store holds vectors of dimension {expected}, this one has {found}")
            }
            Error::NonFinite { row, component } => write!(
                f,
                "row {row}, column {component} is not a finite number; remove NaN and infinity and repeat"
            ),
            Error::InvalidId { row, len: 0 } => {
                write!(f, "row {row}: the id is empty; give it at least one byte")
            }
            Error::InvalidId { row, len } => {
                write!(f, "row {row}: the id has {len} bytes; at most {} are allowed", crate::MAX_ID_BYTES)
            }
            Error::IdOutOfRange { row } => {
                write!(f, "row {row}: id {} is not between 0 and 2^64 - 2", u64::MAX)
            }
            Error::CountMismatch { ids, components, dim: 0 } => {
                write!(
                    f,
                    "{} cannot be shared out evenly to {}; give one id a vector",
                    counted(*components as u64, "component"),
                    counted(*ids as u64, "id")
                )
            }
            Error::CountMismatch { ids, components, dim } => write!(
                f,
                "{} for {}, where {ids} x {dim} are needed; give one id a vector",
                counted(*components as u64, "component"),
                counted(*ids as u64, "id")
            ),
            Error::BatchTooLarge { what, found, max } => {
                write!(f, "the batch has {found} {what}, one batch holds at most {max}; split it")
            }
            Error::InvalidDim { dim } => {
                write!(f, "dimension {dim} is not between 1 and {}", crate::MAX_DIM)
            }
            Error::NoSuchRow { row, rows } => {
                write!(f, "row {row} does not exist; the store has {}", counted(*rows, "row"))
            }
            Error::IdKindMismatch { expected, found } => write!(
                f,
                "the ids of this store are of kind {}, this one is of kind {}; use one kind in a store",
                expected.name(),
                found.name()
            ),
            Error::InvalidDocument { row, why } => {
                write!(f, "row {row}: the document is not one JSON value: {why}; give valid JSON text")
            }
            Error::UnknownIds { ids } => {
                let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
                write!(f, "not in the store: {}; put vectors under these ids first", names.join(", "))
            }
            Error::NotAnObject { id } => write!(
                f,
                "the document of {id} is no JSON object, so nothing can be merged into it; replace it as a whole"
            ),
            Error::InvalidAttributes { why } => {
                write!(f, "the attributes are not one JSON object: {why}; give the text of an object")
            }
            Error::AttributesTooLarge { found, max } => {
                write!(f, "the attributes have {found} bytes as JSON, there is room for {max}; keep less")
            }
            Error::InvalidEmbedName { found, max } => {
                write!(f, "the name of what makes vectors has {found} bytes; give 1 to {max}")
            }
            _ => self.fmt_refused_search(f),
        }
    }

    fn fmt_refused_search(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnknownName { what, name, names } => {
                write!(f, "{what} '{name}' is none of {names}{}", meant(what, name))
            }
            Error::InvalidFilter { why } => write!(f, "the filter cannot be used: {why}"),
            Error::InvalidRadius => {
                write!(f, "the radius is not a number (NaN); give the largest distance that counts")
            }
            Error::InvalidRecallTarget { target } => {
                write!(
                    f,
                    "the recall target {target} is not above 0 and at most 1; 0.95 is usual, 1 is exact"
                )
            }
            Error::InvalidMinDead { share } => {
                write!(
                    f,
                    "the share of dead rows {share} is not 0 to 1; 0.01 is usual, 0 compacts all that are dead"
                )
            }
            Error::ExactWithRecallTarget { target } => {
                write!(f, "a search cannot be exact and have the recall target {target}; give one of them")
            }
            Error::TooFewQueries { found, least } => {
                let queries = if *found == 1 { "query says" } else { "queries say" };
                write!(f, "{found} {queries} little of others; give {least} or more, some hundreds are good")
            }
            Error::OptionMismatch { option, expected, found } => write!(
                f,
                "the store was made with {option} {expected}, not {found}; leave {option} out to take what is there"
            ),
            Error::FloatingPointMode => write!(
                f,
                "this thread rounds numbers otherwise than to the nearest, or takes denormal ones for zero, so distances \
                 would be other ones; reset its floating-point mode, or search on another thread"
            ),
            _ => self.fmt_limit_or_state(f),
        }
    }

    fn fmt_limit_or_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooManyRows { rows, max } => {
                write!(f, "{rows} rows are more than one segment numbers ({max}); use a second store")
            }
            Error::OutOfMemory { bytes } => {
                write!(f, "not enough memory for {bytes} bytes; use smaller batches")
            }
            Error::TooManySegments { max } => {
                write!(
                    f,
                    "the store has {max} segments, more than that cannot be named; compact it to merge them"
                )
            }
            Error::NumbersUsedUp { what, max } => write!(
                f,
                "the store has used up its {what} (the last one is {max}); copy its vectors to a new store"
            ),
            Error::Closed => write!(f, "the store is closed; open it again"),
            Error::Forked => write!(
                f,
                "this process is a fork of the one that opened the store, and may only read what was there then; \
                 open the store here"
            ),
            Error::Cancelled => write!(f, "broken off as asked; nothing was changed"),
            Error::Interrupted => write!(f, "interrupted; the call was broken off, and may be made again"),
            Error::ReadOnly => write!(f, "the store is open read-only; open it for writing to change it"),
            // All others have an arm above.
            _ => write!(f, "{self:?}"),
        }
    }
}

/// What a name means that other stores have for a metric.
fn meant(what: &str, name: &str) -> &'static str {
    let letters: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    match letters.as_str() {
        _ if what != "metric" => "",
        "dot" | "dotproduct" | "innerproduct" | "inner" => {
            "; 'ip' is 1 minus the inner product: smaller is nearer"
        }
        "euclidean" | "euclid" | "sqeuclidean" | "l2sq" | "squaredl2" => {
            "; 'l2' is the sum of the squared differences, without a root"
        }
        "cos" | "cosinesimilarity" | "angular" => "; 'cosine' is 1 minus the cosine: smaller is nearer",
        _ => "",
    }
}
