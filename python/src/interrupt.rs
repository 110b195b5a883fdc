//! Ctrl-C in calls that take long: the library breaks them off, then the handler of the signal runs, as Python has it.
//!
//! No code of Python's runs within a call, which may hold locks: the handler might use the store.

use crate::open::Refused;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::cell::Cell;
use std::ffi::c_int;
use vecstone::{Error, interruptible};

/// Makes a call of the library without the interpreter. Where Ctrl-C breaks it off and the handler raises nothing, the call
/// is made again: it has changed nothing.
pub(crate) fn detach<T: Send, E: Into<Refused> + Send>(
    py: Python<'_>,
    mut call: impl FnMut() -> Result<T, E> + Send,
) -> PyResult<T> {
    // Python runs handlers in its main thread only. No other one takes the interpreter within a call: at the end of the
    // process it might never get it, and hold its locks for ever.
    let hears = is_main_thread(py)?;
    loop {
        let outcome = py.detach(|| if hears { interruptible(is_pending, &mut call) } else { call() });
        if PRESSED.take() {
            run_handler(py)?;
        }
        match outcome.map_err(Into::into) {
            Err(Refused::Library(Error::Interrupted)) => py.check_signals()?,
            outcome => return outcome.map_err(Refused::raised),
        }
    }
}

thread_local! {
    /// Ctrl-C was pressed, and Python has been told that it was heard: its handler is for us to run.
    static PRESSED: Cell<bool> = const { Cell::new(false) };
}

/// Whether Ctrl-C was pressed and its handler has not run.
#[allow(unsafe_code, reason = "a C function of Python's")]
fn is_pending() -> bool {
    // SAFETY: it is called with the interpreter, as it asks for. It forgets what it tells; to set that again would tell
    // whoever listens to Python's signals, as asyncio does, of another press.
    let pending = Python::attach(|_| unsafe { ffi::PyOS_InterruptOccurred() != 0 });
    PRESSED.set(pending || PRESSED.get());
    pending
}

/// What Python does for a signal: calls the handler with its number and the frame that was interrupted.
fn run_handler(py: Python<'_>) -> PyResult<()> {
    static HANDLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static FRAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let handler = HANDLER.import(py, "_signal", "getsignal")?.call1((SIGINT,))?;
    // A number, or None: Ctrl-C is ignored, or is not Python's.
    if !handler.is_callable() {
        return Ok(());
    }
    let frame = FRAME.import(py, "sys", "_getframe")?.call0().ok();
    handler.call1((SIGINT, frame)).map(drop)
}

/// The number of Ctrl-C's signal, on every system.
const SIGINT: c_int = 2;

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    thread_local!(static KNOWN: Cell<Option<bool>> = const { Cell::new(None) });
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let main = MAIN.import(py, "threading", "main_thread")?.call0()?.getattr("ident")?;
    let is_main = CURRENT.import(py, "threading", "get_ident")?.call0()?.eq(main)?;
    KNOWN.set(Some(is_main));
    Ok(is_main)
}

/// Has handlers of signals run now and then in a loop that holds the interpreter: number `step` of many short ones.
pub(crate) fn check_at(py: Python<'_>, step: usize) -> PyResult<()> {
    if step.is_multiple_of(1 << 14) { py.check_signals() } else { Ok(()) }
}
