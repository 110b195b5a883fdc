//! What the modes of `open` mean.

use crate::error::{OrRaise, already_there, of_the_system, raised};
use crate::interrupt;
use crate::pending::Pending;
use crate::shared::{EngineOptions, Shared};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;
use vecstone::{Durability, Error, Metric, OpenOptions, VectorStore};

/// Readers probe LOCK for microseconds; a writer that gave up at once would take one for another writer.
const MIN_LOCK_WAIT: Duration = Duration::from_millis(250);

/// How a store is opened, as `open` of Python takes it.
pub(crate) struct Request {
    pub(crate) dim: Option<u32>,
    pub(crate) metric: Option<Metric>,
    pub(crate) auto_optimize_rows: Option<u64>,
    pub(crate) mode: Mode,
    pub(crate) lock_timeout: f64,
    pub(crate) wishes: EngineOptions,
    /// Of a reader: the store may not be made yet.
    pub(crate) may_be_missing: bool,
}

/// Whether a store must be there, and whether it may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
    Append,
    Exclusive,
}

impl Mode {
    /// What Python's `mode` says.
    pub(crate) fn of(text: &str) -> PyResult<Mode> {
        match text {
            "r" => Ok(Mode::Read),
            "r+" => Ok(Mode::Write),
            "a" => Ok(Mode::Append),
            "x" => Ok(Mode::Exclusive),
            "w" => {
                Err(PyValueError::new_err("mode 'w' would empty the store: open with 'a' and call clear()"))
            }
            _ => Err(PyValueError::new_err(format!("mode '{text}' is none of 'r', 'r+', 'a', 'x'"))),
        }
    }

    /// As Python says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Read => "r",
            Mode::Write => "r+",
            Mode::Append => "a",
            Mode::Exclusive => "x",
        }
    }
}

/// The durability of that name.
pub(crate) fn durability(text: &str) -> PyResult<Durability> {
    text.parse().or_raise()
}

/// The metric of that name.
pub(crate) fn metric(text: &str) -> PyResult<Metric> {
    text.parse().or_raise()
}

/// Of a store that is to be made.
pub(crate) fn auto_optimize_rows(asked: Option<u64>) -> u64 {
    asked.unwrap_or(OpenOptions::AUTO_OPTIMIZE_ROWS)
}

/// A duration given in seconds.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    let unfit = |_| PyValueError::new_err(format!("{name} is {value}; give seconds, 0 or more"));
    Duration::try_from_secs_f64(value).map_err(unfit)
}

impl EngineOptions {
    fn options(&self) -> PyResult<OpenOptions> {
        let options = OpenOptions::new()
            .flush_interval(seconds("flush_interval", self.flush_interval)?)
            .buffer_bytes(self.buffer_bytes);
        Ok(self.threads.map_or(options.clone(), |threads| options.threads(threads)))
    }

    /// What of these is neither the default nor what the open engine has.
    fn conflict(&self, open: &EngineOptions) -> Option<String> {
        let default = EngineOptions::default();
        let differs = |name: &str, wished: f64, default: f64, open: f64| {
            (wished != default && wished != open).then(|| format!("{name} is {open} there, not {wished}"))
        };
        #[expect(clippy::cast_precision_loss, reason = "for a message")]
        let (bytes, threads) = (
            |wishes: &EngineOptions| wishes.buffer_bytes as f64,
            |wishes: &EngineOptions| wishes.threads.unwrap_or(0) as f64,
        );
        differs("flush_interval", self.flush_interval, default.flush_interval, open.flush_interval)
            .or_else(|| differs("buffer_bytes", bytes(self), bytes(&default), bytes(open)))
            .or_else(|| differs("threads", threads(self), threads(&default), threads(open)))
    }
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions { flush_interval: 0.1, buffer_bytes: 64 << 20, threads: None }
    }
}

/// Why a store is not opened, or not made.
#[derive(Debug)]
pub(crate) enum Refused {
    Library(Error),
    /// Something stands where a new store was asked for.
    AlreadyThere(PathBuf),
    /// What was asked for is not what is there.
    Contradiction(String),
    /// The system refuses the path.
    System {
        path: PathBuf,
        error: io::Error,
    },
}

impl Refused {
    pub(crate) fn metric(path: &Path, wished: Metric, found: Metric) -> Refused {
        let (name, wished, found) = (path.display(), wished.name(), found.name());
        Refused::Contradiction(format!("{name} measures by {found}, not by {wished}"))
    }

    pub(crate) fn auto_optimize_rows(path: &Path, wished: u64, found: u64) -> Refused {
        Refused::Contradiction(format!("{} has auto_optimize_rows {found}, not {wished}", path.display()))
    }

    /// As Python's exception.
    pub(crate) fn raised(self) -> PyErr {
        match self {
            Refused::Library(error) => raised(&error),
            Refused::AlreadyThere(path) => {
                let text = "already there; open it with mode 'a' or 'r+', or choose another path";
                already_there(&path, text)
            }
            Refused::Contradiction(text) => PyValueError::new_err(text),
            Refused::System { path, error } => {
                let advice = match error.kind() {
                    io::ErrorKind::NotFound => {
                        "; make the directory that is to hold it first, as os.makedirs does"
                    }
                    _ => "",
                };
                let text = format!("cannot make a store there: {error}{advice}");
                of_the_system(&path, &error, text)
            }
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Library(error)
    }
}

/// Opens a store, or another handle of one that this process writes already, or a handle that makes it with its first
/// write.
pub(crate) fn open(py: Python<'_>, path: &Path, request: &Request) -> PyResult<Arc<Shared>> {
    let options = request.wishes.options()?;
    let lock_wait = seconds("lock_timeout", request.lock_timeout)?.max(MIN_LOCK_WAIT);
    let pending = || Pending {
        path: path.to_owned(),
        mode: request.mode,
        metric: request.metric.unwrap_or_default(),
        metric_is_asked: request.metric.is_some().into(),
        auto_optimize_rows: request.auto_optimize_rows,
        options: options.clone().lock_wait(lock_wait),
        lock_wait,
    };
    interrupt::detach(py, || open_pending(pending(), request))
}

fn open_pending(pending: Pending, request: &Request) -> Result<Arc<Shared>, Refused> {
    if request.mode == Mode::Read {
        let shared = Shared::of_reader(pending, request.wishes, request.may_be_missing)?;
        return check(&shared, request).map(|()| shared);
    }
    let shared = Shared::find_or_open(pending, request.dim, request.wishes)?;
    let opened = check(&shared, request).and_then(|()| {
        if !shared.is_pending() {
            return Ok(());
        }
        // The dimension is told, or another process may have made the store by now.
        shared.make(request.dim)?;
        match request.mode {
            Mode::Write if shared.is_pending() => Err(Error::not_found(shared.path()).into()),
            _ => check(&shared, request),
        }
    });
    if let Err(refused) = opened {
        shared.release()?;
        return Err(refused);
    }
    Ok(shared)
}

/// Refuses what contradicts the store that is there, or is to be made.
fn check(shared: &Shared, request: &Request) -> Result<(), Refused> {
    let guard = shared.store.read().unwrap_or_else(PoisonError::into_inner);
    let (Some(store), pending) = (guard.as_ref().map(OnceLock::get), &shared.pending) else { return Ok(()) };
    let path = store.map_or(pending.path.as_path(), VectorStore::path);
    let metric = store.map_or(pending.metric, VectorStore::metric);
    let name = path.display();
    if let Some(wished) = request.metric {
        if wished != metric {
            return Err(Refused::metric(path, wished, metric));
        }
        pending.metric_is_asked.store(true, Ordering::Relaxed);
    }
    if let Some(wished) = request.auto_optimize_rows {
        let to_be = || auto_optimize_rows(pending.auto_optimize_rows);
        let found = store.map_or_else(to_be, VectorStore::auto_optimize_rows);
        if found != wished {
            return Err(Refused::auto_optimize_rows(path, wished, found));
        }
    }
    if let (Some(wished), Some(store)) = (request.dim, store)
        && store.dim() != wished as usize
    {
        let found = store.dim();
        return Err(Refused::Contradiction(format!("{name} holds vectors of dim {found}, not {wished}")));
    }
    if let Some(conflict) = request.wishes.conflict(&shared.wishes) {
        return Err(Refused::Contradiction(format!("{name} is open in this process already: {conflict}")));
    }
    Ok(())
}
