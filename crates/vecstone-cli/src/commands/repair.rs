//! `vecstone repair`: what checks out of a damaged store, as a new store.

use serde_json::{Value, json};
use vecstone::{Dropped, RepairReport, VectorStore};

use crate::args::Repair;
use crate::failure::Result;
use crate::output::{Output, shown};

pub(crate) fn run(args: &Repair, output: &mut Output) -> Result<u8> {
    let report = VectorStore::repair(&args.store, &args.new)?;
    if args.json {
        output.json(&as_json(args, &report))?;
    } else {
        print(args, &report, output)?;
    }
    Ok(u8::from(!report.dropped.is_empty()))
}

fn as_json(args: &Repair, report: &RepairReport) -> Value {
    let dropped = |dropped: &Dropped| {
        json!({
            "id": dropped.id.as_ref().map(ToString::to_string),
            "path": dropped.path.display().to_string(),
            "offset": dropped.offset,
            "what": dropped.what,
        })
    };
    json!({
        "store": args.store.display().to_string(),
        "new": args.new.display().to_string(),
        "rows": report.rows,
        "dropped": report.dropped.iter().map(dropped).collect::<Vec<_>>(),
        "possibly_deleted": report.possibly_deleted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

fn print(args: &Repair, report: &RepairReport, output: &mut Output) -> Result<()> {
    for Dropped { id, path, offset, what, .. } in &report.dropped {
        let id = id.as_ref().map_or(String::new(), |id| format!(" (id {id})"));
        output.line(shown(&format!("dropped: {}: byte {offset}: {what}{id}", path.display())))?;
    }
    for id in &report.possibly_deleted {
        output.line(shown(&format!("kept, but possibly deleted before: {id}")))?;
    }
    for note in &report.notes {
        output.line(shown(note))?;
    }
    let (rows, new) = (report.rows, args.new.display());
    match report.dropped.len() {
        0 => output.line(format!("repaired into {new}: {rows} rows, nothing was dropped")),
        n => output.line(format!("repaired into {new}: {rows} rows are kept, {n} things were dropped")),
    }
}
