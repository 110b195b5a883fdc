//! `vecstone repair`: what checks out of a damaged store, as a new store.

use serde_json::{Value, json};
use vecstone::{Dropped, RepairReport, VectorStore, counted};

use crate::args::Repair;
use crate::failure::Result;
use crate::output::{Output, shown, verb};

pub(crate) fn run(args: &Repair, output: &mut Output) -> Result<u8> {
    let report = VectorStore::repair(&args.store, &args.new)?;
    if args.json {
        output.json(&as_json(args, &report))?;
    } else {
        print(args, &report, output)?;
    }
    Ok(u8::from(!report.is_whole()))
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
        "whole": report.is_whole(),
        "dropped": report.dropped.iter().map(dropped).collect::<Vec<_>>(),
        "dropped_total": report.dropped_total,
        "possibly_deleted": report.possibly_deleted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "possibly_deleted_total": report.possibly_deleted_total,
        "notes": report.notes,
    })
}

fn print(args: &Repair, report: &RepairReport, output: &mut Output) -> Result<()> {
    for Dropped { id, path, offset, what, .. } in &report.dropped {
        let id = id.as_ref().map_or(String::new(), |id| format!(" (id {id})"));
        output.line(shown(&format!("dropped: {}: byte {offset}: {what}{id}", path.display())))?;
    }
    for id in &report.possibly_deleted {
        output.line(shown(&format!("kept, but possibly deleted or older: {id}")))?;
    }
    for note in &report.notes {
        output.line(shown(note))?;
    }
    let (dropped, doubtful) = (report.dropped_total, report.possibly_deleted_total);
    let unlisted = dropped + doubtful - (report.dropped.len() + report.possibly_deleted.len()) as u64;
    if unlisted > 0 {
        output.line(format!("{unlisted} more {} not listed", verb(unlisted, "is", "are")))?;
    }
    let (rows, new) = (report.rows, args.new.display());
    if report.is_whole() {
        return output.line(format!("repaired into {new}: {}, nothing was dropped", counted(rows, "row")));
    }
    let doubts = match doubtful {
        0 => String::new(),
        n => format!(", {n} of them may have been deleted or be older"),
    };
    let kept = format!("{} {} kept", counted(rows, "row"), verb(rows, "is", "are"));
    let gone = format!("{} {} dropped", counted(dropped, "thing"), verb(dropped, "was", "were"));
    output.line(format!("repaired into {new}: {kept}{doubts}; {gone}"))
}
