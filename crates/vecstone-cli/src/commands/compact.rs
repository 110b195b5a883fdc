//! `vecstone compact`: gives the space of dead rows back.

use std::ops::ControlFlow;

use serde_json::json;
use vecstone::{CompactOptions, VectorStore, counted};

use crate::args::Compact;
use crate::failure::Result;
use crate::output::{Output, human_bytes, verb};
use crate::progress::Bar;

pub(crate) fn run(args: &Compact, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open(&args.store)?;
    let report = {
        let bar = Bar::new("[{bar:30}] rows copied: {human_pos} of {human_len}, {eta} left");
        store.compact_with(&CompactOptions::new().min_dead(args.min_dead), |progress| {
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
            "segments_left": report.segments_left,
            "rows_left": report.rows_left,
            "live": live,
        }))?;
        return Ok(0);
    }
    if segments > 0 {
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
    } else if report.rows_left == 0 {
        output
            .line(format!("nothing to compact in {path}: it holds {}, none is dead", counted(live, "row")))?;
    } else {
        output.line(format!("nothing compacted in {path}, which holds {}", counted(live, "row")))?;
    }
    if report.rows_left > 0 {
        output.line(format!(
            "{} {} left in {}, a share below {} of each; --min-dead 0 rewrites these, too",
            counted(report.rows_left, "dead row"),
            verb(report.rows_left, "is", "are"),
            counted(report.segments_left, "segment"),
            args.min_dead
        ))?;
    }
    Ok(0)
}
