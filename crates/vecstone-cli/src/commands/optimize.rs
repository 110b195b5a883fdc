//! `vecstone optimize`: builds what makes a store faster.

use std::ops::ControlFlow;

use serde_json::json;
use vecstone::{VectorStore, counted};

use crate::args::Optimize;
use crate::failure::Result;
use crate::output::{Output, human_bytes};
use crate::progress::Bar;

pub(crate) fn run(args: &Optimize, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open(&args.store)?;
    let report = {
        let bar = Bar::new("[{bar:30}] rows built: {human_pos} of {human_len}, {eta} left");
        store.optimize_with(|progress| {
            bar.show(progress.rows, progress.total, "");
            ControlFlow::Continue(())
        })?
    };
    store.close()?;
    let path = args.store.display().to_string();
    let (covered, rows, bytes) = (report.rows_covered, report.rows, report.bytes);
    if args.json {
        output.json(&json!({ "store": path, "rows_covered": covered, "rows": rows, "bytes": bytes }))?;
    } else {
        output.line(format!("side files of {path} are up to date: {}", human_bytes(bytes)))?;
        output.line(format!("codes cover {covered} of {}", counted(rows, "row")))?;
    }
    Ok(0)
}
