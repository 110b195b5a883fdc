//! The Python package's native half: what Python hands in becomes ids and rows, what the store gives back becomes
//! Python's. Everything that decides is in the `vecstone` crate or in `python/vecstone`.

mod arrow;
mod convert;
mod error;
mod given;
mod handle;
mod ids;
mod interrupt;
mod iterate;
mod maintain;
mod numbers;
mod open;
mod pending;
mod reading;
mod segments;
mod shared;
mod snapshot;
mod store;
mod vectors;

use pyo3::prelude::*;

/// The native half of vecstone; use the `vecstone` package.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::arrow::Rows;
    #[pymodule_export]
    use super::convert::NoDocument;
    #[pymodule_export]
    use super::handle::Store;
    #[pymodule_export]
    use super::iterate::RowIter;
    #[pymodule_export]
    use super::segments::Segment;
    #[pymodule_export]
    use super::shared::close_all;
    #[pymodule_export]
    use super::snapshot::Snapshot;

    use pyo3::prelude::*;
    use std::ffi::OsString;

    /// Runs the command line with these arguments, the program's name first, in a process of its own; returns the exit
    /// code.
    #[pyfunction]
    fn run_command_line(py: Python<'_>, args: Vec<OsString>) -> u8 {
        py.detach(|| vecstone_cli::run_as_process(args))
    }

    /// Seconds that `n` searches take without Python: what `bench/` holds the Python call against.
    #[pyfunction]
    fn _bench_search(store: &Bound<'_, Store>, query: Vec<f32>, k: usize, n: usize) -> PyResult<f64> {
        store.get().with(store.py(), |store| {
            let start = std::time::Instant::now();
            for _ in 0..n {
                std::hint::black_box(store.search(&query, k)?);
            }
            Ok(start.elapsed().as_secs_f64())
        })
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("NO_DOCUMENT", NoDocument)?;
        super::shared::init();
        super::error::add_to(module)
    }
}
