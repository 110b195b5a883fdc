//! What the modes of `open` mean.

use crate::error::{OrRaise, already_there};
use crate::shared::{Shared, Wishes};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vecstone::{Durability, Error, Metric, OpenOptions, VectorStore};

/// Readers probe LOCK for microseconds; a writer that gave up at once would take one for another writer.
const LEAST_WAIT: Duration = Duration::from_millis(250);

/// How a store is opened, as `open` of Python takes it.
pub(crate) struct Request {
    pub(crate) dim: Option<u32>,
    pub(crate) metric: Option<Metric>,
    pub(crate) mode: Mode,
    pub(crate) lock_timeout: f64,
    pub(crate) wishes: Wishes,
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
    match text {
        "buffered" => Ok(Durability::Buffered),
        "sync" => Ok(Durability::Sync),
        _ => Err(PyValueError::new_err(format!("durability '{text}' is neither 'buffered' nor 'sync'"))),
    }
}

/// The metric of that name.
pub(crate) fn metric(text: &str) -> PyResult<Metric> {
    let named = |metric: &Metric| metric.name() == text;
    let found = [Metric::L2, Metric::Ip, Metric::Cosine].into_iter().find(named);
    found.ok_or_else(|| PyValueError::new_err(format!("metric '{text}' is none of 'l2', 'ip', 'cosine'")))
}

/// A duration given in seconds.
pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    let unfit = |_| PyValueError::new_err(format!("{name} is {value}; give seconds, 0 or more"));
    Duration::try_from_secs_f64(value).map_err(unfit)
}

impl Wishes {
    fn options(&self) -> PyResult<OpenOptions> {
        let options = OpenOptions::new()
            .flush_interval(seconds("flush_interval", self.flush_interval)?)
            .buffer_bytes(self.buffer_bytes);
        Ok(self.threads.map_or(options.clone(), |threads| options.threads(threads)))
    }

    /// What of these is neither the default nor what the open engine has.
    fn conflict(&self, open: &Wishes) -> Option<String> {
        let default = Wishes::default();
        let differs = |name: &str, wished: f64, default: f64, open: f64| {
            (wished != default && wished != open).then(|| format!("{name} is {open} there, not {wished}"))
        };
        #[expect(clippy::cast_precision_loss, reason = "for a message")]
        let (bytes, threads) = (
            |wishes: &Wishes| wishes.buffer_bytes as f64,
            |wishes: &Wishes| wishes.threads.unwrap_or(0) as f64,
        );
        differs("flush_interval", self.flush_interval, default.flush_interval, open.flush_interval)
            .or_else(|| differs("buffer_bytes", bytes(self), bytes(&default), bytes(open)))
            .or_else(|| differs("threads", threads(self), threads(&default), threads(open)))
    }
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { flush_interval: 0.1, buffer_bytes: 64 << 20, threads: None }
    }
}

/// Opens a store, or another handle of one that this process writes already.
pub(crate) fn open(py: Python<'_>, path: &Path, request: &Request) -> PyResult<Arc<Shared>> {
    let options = request.wishes.options()?;
    let options = options.lock_wait(seconds("lock_timeout", request.lock_timeout)?.max(LEAST_WAIT));
    let exclusive = request.mode == Mode::Exclusive;
    let opened = py.detach(|| {
        if request.mode == Mode::Read {
            let store = VectorStore::open_read_only_with(path, &options)?;
            return Ok(Shared::of_one(store, request.wishes));
        }
        Shared::find_or(path, request.wishes, exclusive, || open_or_create(path, request, &options))
    });
    let shared = match opened {
        Err(Error::AlreadyExists { path }) if exclusive => {
            let text = "already there; open it with mode 'a' or 'r+', or choose another path";
            return Err(already_there(&path, text));
        }
        opened => opened.or_raise()?,
    };
    if let Err(error) = check(&shared, request) {
        py.detach(|| shared.release()).or_raise()?;
        return Err(error);
    }
    Ok(shared)
}

fn open_or_create(path: &Path, request: &Request, options: &OpenOptions) -> vecstone::Result<VectorStore> {
    let create = || {
        let metric = request.metric.unwrap_or_default();
        match request.dim {
            Some(dim) => VectorStore::create_with(path, dim, metric, options),
            None => VectorStore::create_without_dim_with(path, metric, options),
        }
    };
    match request.mode {
        Mode::Exclusive => create(),
        Mode::Append => match VectorStore::open_with(path, options) {
            Err(Error::NotFound { .. } | Error::HalfMade { .. }) => match create() {
                // Another process was faster.
                Err(Error::AlreadyExists { .. }) => VectorStore::open_with(path, options),
                created => created,
            },
            opened => opened,
        },
        Mode::Read | Mode::Write => VectorStore::open_with(path, options),
    }
}

/// Refuses what contradicts the store that is there.
fn check(shared: &Shared, request: &Request) -> PyResult<()> {
    let guard = shared.store.try_read();
    let Some(store) = guard.as_ref().ok().and_then(|store| store.as_ref()) else { return Ok(()) };
    let name = store.path().display();
    if let Some(wished) = request.metric.filter(|wished| *wished != store.metric()) {
        let (wished, found) = (wished.name(), store.metric().name());
        return Err(PyValueError::new_err(format!("{name} measures by {found}, not by {wished}")));
    }
    if let Some(wished) = request.dim
        && store.dim() != wished as usize
    {
        if store.dim() == 0 && request.mode != Mode::Read {
            return store.set_dim(wished).or_raise();
        }
        let found = store.dim();
        if found == 0 {
            let text =
                format!("{name} has no dimension yet, and is open read-only: dim is {wished}, give None");
            return Err(PyValueError::new_err(text));
        }
        return Err(PyValueError::new_err(format!("{name} holds vectors of dim {found}, not {wished}")));
    }
    if let Some(conflict) = request.wishes.conflict(&shared.wishes) {
        return Err(PyValueError::new_err(format!("{name} is open in this process already: {conflict}")));
    }
    Ok(())
}
