//! `vecstone info`: counts, sizes and memory.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use vecstone::{EffortStats, FileBytes, IdKind, Memory, SideStats, Stats, VectorStore, counted};

use crate::args::Info;
use crate::failure::Result;
use crate::output::{Output, human_bytes, shown_document};

/// So many characters of the attributes are shown to people.
const MOST_SHOWN: usize = 200;

pub(crate) fn run(args: &Info, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    if args.json {
        output.line(info_json(&store)?)?;
    } else {
        let writer = writer(&args.store);
        let mut table = table(&args.store, &closed(store.recovery().clean, writer), &store.stats()?);
        table.extend(store.embed_name()?.map(|name| ("embedder", name)));
        table.extend(store.attributes()?.map(|text| ("attributes", attributes(&text))));
        for (name, value) in table {
            output.line(format!("{name:<10} {value}"))?;
        }
    }
    Ok(0)
}

/// The object, with the attributes digit for digit.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    stats: Value,
    attributes: Option<&'a RawValue>,
}

/// What `vecstone info --json` prints, for a store that is open: JSON text.
///
/// # Errors
///
/// As [`VectorStore::stats`].
pub fn info_json(store: &VectorStore) -> vecstone::Result<String> {
    let (clean, stats) = (store.recovery().clean, store.stats()?);
    Ok(stats_json(store.path(), clean, &stats, store.attributes()?.as_deref()))
}

/// The same from what is known already; a dimension of 0 is null.
pub fn stats_json(path: &Path, clean: bool, stats: &Stats, attributes: Option<&str>) -> String {
    let attributes = attributes.and_then(|text| serde_json::from_str(text).ok());
    let whole = Whole { stats: numbers(path, clean, stats), attributes };
    serde_json::to_string(&whole).expect("text and numbers")
}

fn numbers(path: &Path, clean: bool, stats: &Stats) -> Value {
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
        "side": stats.side.iter().map(|side| json!({
            "kind": side.kind, "files": side.files, "rows": side.rows, "bytes": side.bytes,
            "modified": seconds(side.modified),
        })).collect::<Vec<_>>(),
        "effort": stats.effort.as_ref().map(effort),
        "auto_optimize_rows": stats.auto_optimize_rows,
        "embed_name": stats.embed_name,
        "bytes": {
            "dat": bytes.dat,
            "idx": bytes.idx,
            "ids": bytes.ids,
            "del": bytes.del,
            "jsonl": bytes.jsonl,
            "side": bytes.side,
            "other": bytes.other,
            "total": bytes.total,
            "allocated": bytes.allocated,
        },
        "overhead": stats.overhead,
        "overhead_without_side": stats.overhead_without_side,
        "memory": {
            "heap": memory.heap,
            "buffer": memory.buffer,
            "index": memory.index,
            "deletions": memory.deletions,
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

/// What is measured of approximate searches.
pub(crate) fn effort(effort: &EffortStats) -> Value {
    json!({
        "rows": effort.rows,
        "queries": effort.queries,
        "measured": seconds(effort.measured),
        "looked": effort.looked.iter().map(|at| json!({
            "k": at.k, "recall": short(at.recall), "rows": at.rows,
        })).collect::<Vec<_>>(),
    })
}

/// The same as text.
pub fn effort_json(measured: &EffortStats) -> String {
    effort(measured).to_string()
}

/// Since 1970.
fn seconds(at: Option<SystemTime>) -> Option<f64> {
    at?.duration_since(UNIX_EPOCH).ok().map(|at| at.as_secs_f64())
}

/// What somebody writes the store by now, as messages say it: LOCK is held, and has the number of a process.
fn writer(store: &Path) -> Option<String> {
    let mut file = File::open(store.join("LOCK")).ok()?;
    // Let go at once: a writer that is about to open the store waits for longer than that.
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut content = String::new();
    _ = file.read_to_string(&mut content);
    let pid = content.lines().next().filter(|pid| pid.parse::<u32>().is_ok());
    Some(pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))
}

fn closed(clean: bool, writer: Option<String>) -> String {
    match writer {
        Some(writer) => format!("no: {writer} writes it"),
        None if clean => "yes".to_owned(),
        None => "no: the last writer did not close it".to_owned(),
    }
}

fn table(path: &Path, closed: &str, stats: &Stats) -> Vec<(&'static str, String)> {
    let Stats { bytes, memory, .. } = stats;
    let mut table = vec![
        ("path", path.display().to_string()),
        ("clean", closed.to_owned()),
        ("rows", rows(stats)),
        ("ids", stats.kind.map_or("none yet", IdKind::name).to_owned()),
        ("dim", stats.dim.to_string()),
        ("metric", stats.metric.name().to_owned()),
        ("element", stats.element.name().to_owned()),
        ("segments", stats.segments.to_string()),
    ];
    table.extend(files(bytes).into_iter().map(|(name, bytes)| (name, human_bytes(bytes))));
    table.extend(stats.side.iter().filter(|side| side.files > 0).map(|side| ("side", describe(side, stats))));
    table.extend(stats.effort.as_ref().map(|effort| ("effort", describe_effort(effort))));
    table.extend([
        ("total", format!("{} ({} allocated)", human_bytes(bytes.total), human_bytes(bytes.allocated))),
        (
            "overhead",
            format!(
                "{:.5} times the live vectors, {:.5} without documents and side files",
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

/// The attributes, or their beginning.
fn attributes(text: &str) -> String {
    let shown = shown_document(text);
    match shown.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => {
            format!("{}... ({} in all, --json prints them)", &shown[..end], human_bytes(text.len() as u64))
        }
        None => shown.into_owned(),
    }
}

fn rows(stats: &Stats) -> String {
    let Stats { rows, live, dead, buffered, .. } = stats;
    let buffered = if *buffered > 0 { format!(", and {buffered} buffered") } else { String::new() };
    format!("{rows} ({live} live, {dead} dead){buffered}")
}

fn describe(side: &SideStats, stats: &Stats) -> String {
    let SideStats { kind, files, rows, bytes, .. } = side;
    let files = counted(*files, "file");
    // Centres and effort are of the store, and of no rows.
    let covered = if matches!(*kind, "centres" | "effort") {
        String::new()
    } else {
        format!("{rows} of {}, ", counted(stats.rows, "row"))
    };
    let age = side.modified.and_then(|at| at.elapsed().ok()).map_or_else(String::new, human_age);
    format!("{kind}: {covered}{files}, {}{age}", human_bytes(*bytes))
}

/// What the ten nearest take.
pub(crate) fn describe_effort(effort: &EffortStats) -> String {
    let of_ten: Vec<String> = effort
        .looked
        .iter()
        .filter(|at| at.k == 10)
        .map(|at| format!("{:.2}: {}", at.recall, at.rows))
        .collect();
    let rows = effort.rows;
    let with = effort.queries.map_or("on".to_owned(), |count| format!("with {count} queries of yours on"));
    let age = effort.measured.and_then(|at| at.elapsed().ok()).map_or_else(String::new, human_age);
    let age = age.replacen(", made", "", 1);
    format!(
        "rows looked at by recall of the 10 nearest, measured {with} {rows} rows{age}: {}",
        of_ten.join(", ")
    )
}

/// A number as it was written, not with the digits that it has as f64.
fn short(number: f32) -> f64 {
    (f64::from(number) * 1e6).round() / 1e6
}

fn human_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (of, unit) = units.into_iter().find(|(of, _)| seconds >= *of).unwrap_or((1, "second"));
    let count = seconds / of;
    format!(", made {count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// Each kind of file that there is.
fn files(bytes: &FileBytes) -> Vec<(&'static str, u64)> {
    let all = [
        (".dat", bytes.dat),
        (".idx", bytes.idx),
        (".ids", bytes.ids),
        (".del", bytes.del),
        (".jsonl", bytes.jsonl),
        (".side", bytes.side),
        ("other", bytes.other),
    ];
    all.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

fn heap(memory: &Memory) -> String {
    let parts = [
        ("buffer", memory.buffer),
        ("index", memory.index),
        ("deletions", memory.deletions),
        ("other", memory.other),
    ];
    let parts: Vec<String> = parts.map(|(name, bytes)| format!("{name} {}", human_bytes(bytes))).into();
    format!("{}: {}", human_bytes(memory.heap), parts.join(", "))
}
