//! `vecstone info`: counts, sizes and memory.

use std::path::Path;

use serde_json::{Value, json};
use vecstone::{FileBytes, IdKind, Memory, Stats, VectorStore};

use crate::args::Info;
use crate::failure::Result;
use crate::output::{Output, human_bytes};

pub(crate) fn run(args: &Info, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    if args.json {
        output.json(&info_json(&store)?)?;
    } else {
        for (name, value) in table(&args.store, store.recovery().clean, &store.stats()?) {
            output.line(format!("{name:<10} {value}"))?;
        }
    }
    Ok(0)
}

/// What `vecstone info --json` prints, for a store that is open.
///
/// # Errors
///
/// As [`VectorStore::stats`].
pub fn info_json(store: &VectorStore) -> vecstone::Result<Value> {
    Ok(stats_json(store.path(), store.recovery().clean, &store.stats()?))
}

/// The same from numbers that are known already; a dimension of 0 is null.
pub fn stats_json(path: &Path, clean: bool, stats: &Stats) -> Value {
    let Stats { bytes, memory, .. } = stats;
    json!({
        "path": path.display().to_string(),
        "clean": clean,
        "rows": stats.rows,
        "live": stats.live,
        "dead": stats.dead,
        "buffered": stats.buffered,
        "id_kind": stats.kind.map(IdKind::name),
        "dim": (stats.dim > 0).then_some(stats.dim),
        "metric": stats.metric.name(),
        "element": stats.element.name(),
        "segments": stats.segments,
        "per_segment": stats.per_segment.iter().map(|part| json!({
            "number": part.number, "rows": part.rows, "live": part.live,
        })).collect::<Vec<_>>(),
        "bytes": {
            "dat": bytes.dat,
            "idx": bytes.idx,
            "ids": bytes.ids,
            "del": bytes.del,
            "jsonl": bytes.jsonl,
            "codes": bytes.codes,
            "side": bytes.side,
            "total": bytes.total,
            "allocated": bytes.allocated,
        },
        "overhead": stats.overhead,
        "overhead_without_side": stats.overhead_without_side,
        "memory": {
            "heap": memory.heap,
            "buffer": memory.buffer,
            "index": memory.index,
            "masks": memory.masks,
            "other": memory.other,
            "mapped": memory.mapped,
            "resident": memory.resident,
        },
        "compaction_error": stats.compaction_error,
        "ids_error": stats.ids_error,
        "lost_documents": stats.lost_documents,
        "document_error": stats.document_error,
    })
}

fn table(path: &Path, clean: bool, stats: &Stats) -> Vec<(&'static str, String)> {
    let Stats { bytes, memory, .. } = stats;
    let mut table = vec![
        ("path", path.display().to_string()),
        ("clean", if clean { "yes" } else { "no: the last writer did not close it" }.to_owned()),
        ("rows", rows(stats)),
        ("ids", stats.kind.map_or("none yet", IdKind::name).to_owned()),
        ("dim", stats.dim.to_string()),
        ("metric", stats.metric.name().to_owned()),
        ("element", stats.element.name().to_owned()),
        ("segments", stats.segments.to_string()),
    ];
    table.extend(files(bytes).into_iter().map(|(name, bytes)| (name, human_bytes(bytes))));
    table.extend([
        ("total", format!("{} ({} allocated)", human_bytes(bytes.total), human_bytes(bytes.allocated))),
        (
            "overhead",
            format!(
                "{:.5} times the live vectors, {:.5} without documents and codes",
                stats.overhead, stats.overhead_without_side
            ),
        ),
        ("heap", heap(memory)),
        (
            "mapped",
            format!("{}, {} of it resident", human_bytes(memory.mapped), human_bytes(memory.resident)),
        ),
    ]);
    if let Some(error) = &stats.compaction_error {
        table.push(("compaction", format!("failed: {error}")));
    }
    if let Some(error) = &stats.document_error {
        table.push(("documents", format!("{} lost: {error}", stats.lost_documents)));
    }
    table
}

fn rows(stats: &Stats) -> String {
    let Stats { rows, live, dead, buffered, .. } = stats;
    let buffered = if *buffered > 0 { format!(", and {buffered} buffered") } else { String::new() };
    format!("{rows} ({live} live, {dead} dead){buffered}")
}

/// Each kind of file that there is.
fn files(bytes: &FileBytes) -> Vec<(&'static str, u64)> {
    let all = [
        (".dat", bytes.dat),
        (".idx", bytes.idx),
        (".ids", bytes.ids),
        (".del", bytes.del),
        (".jsonl", bytes.jsonl),
        (".codes", bytes.codes),
        ("side", bytes.side),
    ];
    all.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

fn heap(memory: &Memory) -> String {
    let parts = [
        ("buffer", memory.buffer),
        ("index", memory.index),
        ("masks", memory.masks),
        ("other", memory.other),
    ];
    let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {}", human_bytes(bytes))).into();
    format!("{}: {}", human_bytes(memory.heap), parts.join(", "))
}
