//! `vecstone get`: the vectors, or the documents, of ids.

use serde::Serialize;
use serde_json::value::RawValue;
use vecstone::{Id, Snapshot, VectorStore, counted};

use crate::args::Get;
use crate::failure::{Failure, Result};
use crate::ids::parse_all;
use crate::output::{Output, as_json, note, shown, shown_document, shown_list};

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    vector: &'a [f32],
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    document: Option<Box<RawValue>>,
}

pub(crate) fn run(args: &Get, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    let snapshot = store.snapshot()?;
    let ids = parse_all(snapshot.kind(), &args.ids)?;
    let mut missing = Vec::new();
    for id in &ids {
        let there = if args.document {
            print_document(args, &snapshot, id, output)?
        } else {
            print_vector(args, &snapshot, id, output)?
        };
        if !there {
            missing.push(id);
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let what = format!(
        "{} of {} not stored: {}",
        missing.len(),
        counted(ids.len() as u64, "id"),
        shown_list(&missing)
    );
    Err(Failure::not_found(format!("{}: {what}", args.store.display())))
}

fn print_vector(args: &Get, snapshot: &Snapshot, id: &Id, output: &mut Output) -> Result<bool> {
    let Some(vector) = snapshot.get(id)? else { return Ok(false) };
    let id = id.to_string();
    if args.json {
        output.json(&Row { id: &id, vector: &vector })?;
    } else {
        output.line(format!("{}\t{}", shown(&id), numbers(&vector)))?;
    }
    Ok(true)
}

fn print_document(args: &Get, snapshot: &Snapshot, id: &Id, output: &mut Output) -> Result<bool> {
    if !snapshot.contains(id)? {
        return Ok(false);
    }
    let document = snapshot.get_document(id)?;
    let id = id.to_string();
    if args.json {
        let document = document.as_deref().map(as_json).transpose()?;
        output.json(&Document { id: &id, document })?;
        return Ok(true);
    }
    output.line(format!("{}\t{}", shown(&id), shown_document(document.as_deref().unwrap_or("null"))))?;
    if document.is_none() {
        note(format!("id {} has no document", shown(&id)));
    }
    Ok(true)
}

/// As `--vector` takes them.
fn numbers(vector: &[f32]) -> String {
    vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}
