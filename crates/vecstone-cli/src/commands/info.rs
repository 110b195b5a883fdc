//! `vecstone info`: counts, sizes and memory.

use std::path::Path;

use serde_json::{Value, json};
use vecstone::{Stats, VectorStore};

use crate::args::Info;
use crate::failure::Result;
use crate::output::{Output, human_bytes};

pub(crate) fn run(args: &Info, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    let stats = store.stats()?;
    let clean = store.recovery().clean;
    if args.json {
        output.json(&as_json(&args.store, clean, &stats))?;
    } else {
        for (name, value) in table(&args.store, clean, &stats) {
            output.line(format!("{name:<10} {value}"))?;
        }
    }
    Ok(0)
}

fn as_json(path: &Path, clean: bool, stats: &Stats) -> Value {
    let Stats { bytes, memory, .. } = stats;
    json!({
        "path": path.display().to_string(),
        "clean": clean,
        "rows": stats.rows,
        "live": stats.live,
        "dead": stats.dead,
        "dim": stats.dim,
        "metric": stats.metric.name(),
        "element": stats.element.name(),
        "segments": stats.segments,
        "bytes": {
            "dat": bytes.dat,
            "idx": bytes.idx,
            "side": bytes.side,
            "total": bytes.total,
            "allocated": bytes.allocated,
        },
        "overhead": stats.overhead,
        "memory": { "heap": memory.heap, "mapped": memory.mapped, "resident": memory.resident },
    })
}

fn table(path: &Path, clean: bool, stats: &Stats) -> Vec<(&'static str, String)> {
    let Stats { bytes, memory, .. } = stats;
    vec![
        ("path", path.display().to_string()),
        ("clean", if clean { "yes" } else { "no: the last writer did not close it" }.to_owned()),
        ("rows", format!("{} ({} live, {} dead)", stats.rows, stats.live, stats.dead)),
        ("dim", stats.dim.to_string()),
        ("metric", stats.metric.name().to_owned()),
        ("element", stats.element.name().to_owned()),
        ("segments", stats.segments.to_string()),
        (".dat", human_bytes(bytes.dat)),
        (".idx", human_bytes(bytes.idx)),
        ("side", human_bytes(bytes.side)),
        ("total", format!("{} ({} allocated)", human_bytes(bytes.total), human_bytes(bytes.allocated))),
        ("overhead", format!("{:.5} times the live vectors", stats.overhead)),
        (
            "memory",
            format!(
                "{} heap, {} mapped, {} resident",
                human_bytes(memory.heap),
                human_bytes(memory.mapped),
                human_bytes(memory.resident)
            ),
        ),
    ]
}
