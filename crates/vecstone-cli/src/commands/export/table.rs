//! Columns `id`, `vector` and `document`, as Parquet, Arrow IPC or JSON lines.

use serde_json::json;
use vecstone::{VectorStore, counted};
use vecstone_arrow::{Error, Format};

use super::{Target, check_count, failed_write, rename};
use crate::args::Export;
use crate::failure::{Failure, Result};
use crate::output::{Output, human_bytes};

/// `end`: that of the file's name.
pub(super) fn export(args: &Export, store: &VectorStore, end: &str, output: &mut Output) -> Result<u8> {
    let format = match end {
        "parquet" => Format::Parquet,
        "arrow" | "feather" => Format::ArrowFile,
        _ => Format::JsonLines,
    };
    let snapshot = store.snapshot()?;
    let (rows, dim) = (snapshot.len() as u64, store.dim());
    let mut target = Target::new(&args.out)?;
    let written = vecstone_arrow::write(&snapshot, format, &mut target.out).map_err(|error| match error {
        Error::Store(error) => error.into(),
        Error::Write { why } => failed_write(&args.out, why),
        error => Failure::file(&args.out, error),
    })?;
    check_count(store, written, rows)?;
    let (path, file) = target.synced()?;
    let bytes = file.as_file().metadata().map_err(|e| Failure::io(&path, "read", &e))?.len();
    rename(file, &path, args.force)?;
    let out = path.display().to_string();
    if args.json {
        output.json(&json!({ "rows": rows, "dim": dim, "file": out, "bytes": bytes }))?;
    } else {
        output.line(format!(
            "exported {} of dim {dim} to {out} ({})",
            counted(rows, "row"),
            human_bytes(bytes)
        ))?;
    }
    Ok(0)
}
