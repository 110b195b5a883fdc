//! `vecstone compact`: gives the space of dead rows back.

use std::ops::ControlFlow;

use serde_json::json;
use vecstone::{VectorStore, counted};

use crate::args::Compact;
use crate::failure::Result;
use crate::output::{Output, human_bytes, verb};
use crate::progress::Bar;

pub(crate) fn run(args: &Compact, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open(&args.store)?;
    let report = {
        let bar = Bar::new("[{bar:30}] rows copied: {human_pos} of {human_len}, {eta} left");
        store.compact_with(|progress| {
            bar.show(progress.rows, progress.total, "");
            ControlFlow::Continue(())
        })?
    };
    let live = store.len()?;
    store.close()?;
    let path = args.store.display().to_string();
    let (segments, dropped, freed) = (report.segments, report.rows_dropped, report.bytes_freed);
    if args.json {
        output.json(&json!({
            "store": path,
            "segments": segments,
            "rows_dropped": dropped,
            "bytes_freed": freed,
            "live": live,
        }))?;
    } else if segments == 0 {
        output
            .line(format!("nothing to compact in {path}: it holds {}, none is dead", counted(live, "row")))?;
    } else {
        output.line(format!(
            "compacted {} of {path}, which holds {}",
            counted(segments, "segment"),
            counted(live, "row")
        ))?;
        output.line(format!(
            "{} {} gone, {} are free",
            counted(dropped, "dead row"),
            verb(dropped, "is", "are"),
            human_bytes(freed)
        ))?;
    }
    Ok(0)
}
