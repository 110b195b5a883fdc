//! `vecstone tune`: measures the effort of approximate searches with the user's queries.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;
use vecstone::{Error, VectorStore};

use crate::args::Tune;
use crate::commands::info::{describe_effort, effort};
use crate::commands::search::name_row;
use crate::failure::{Failure, Result};
use crate::npy::{self, Shape};
use crate::output::Output;
use crate::progress::Bar;
use crate::rows::Rows;

pub(crate) fn run(args: &Tune, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open(&args.store)?;
    let queries = queries(&args.queries, store.dim())?;
    let measured = {
        let bar = Bar::new("[{bar:30}] {human_pos} of {human_len} rows built, {eta} left");
        let tuned = store.tune_with(&queries, |progress| {
            bar.show(progress.rows, progress.total, "");
            ControlFlow::Continue(())
        });
        tuned.map_err(|error| match error {
            Error::TooFewQueries { .. } => Failure::file(&args.queries, error),
            error => name_row(&args.queries, 0, error),
        })?
    };
    store.close()?;
    if args.json {
        let path = args.store.display().to_string();
        output.json(&json!({ "store": path, "effort": measured.as_ref().map(effort) }))?;
    } else {
        let text =
            measured.as_ref().map_or("every search is exact: there are no codes".to_owned(), describe_effort);
        output.line(text)?;
    }
    Ok(0)
}

/// All queries of a file.
fn queries(path: &Path, dim: usize) -> Result<Vec<f32>> {
    let (file, layout) = npy::open(path, Shape::Matrix)?;
    if dim != layout.dim {
        return Err(Failure::file(path, Error::dimension_mismatch(dim, layout.dim)));
    }
    let mut rows = Rows::new(path, file, layout);
    let mut queries = Vec::new();
    let count = usize::try_from(rows.left()).unwrap_or(usize::MAX);
    rows.read(count, &mut queries)?;
    Ok(queries)
}
