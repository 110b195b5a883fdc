//! `vecstone delete`: removes ids, durably.

use std::collections::HashSet;

use serde_json::json;
use vecstone::{Filter, VectorStore, counted};

use crate::args::Delete;
use crate::failure::{Failure, Result};
use crate::ids::parse_all;
use crate::output::{Output, shown_list, verb};

pub(crate) fn run(args: &Delete, output: &mut Output) -> Result<u8> {
    if let Some(filter) = &args.filter {
        return delete_where(args, &Filter::parse(filter)?, output);
    }
    let store = VectorStore::open(&args.store)?;
    let mut seen = HashSet::new();
    let mut ids = parse_all(store.kind(), &args.ids)?;
    ids.retain(|id| seen.insert(id.clone()));
    let mut missing = Vec::new();
    for id in &ids {
        if !store.contains(id)? {
            missing.push(id.to_string());
        }
    }
    let deleted = store.delete_many(&ids)?;
    let live = store.len()?;
    store.close()?;
    if args.json {
        output.json(&json!({ "deleted": deleted, "missing": missing, "live": live }))?;
    } else {
        output.line(format!(
            "deleted {deleted} of {}; {live} {} left",
            counted(ids.len() as u64, "id"),
            verb(live, "is", "are")
        ))?;
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

fn delete_where(args: &Delete, filter: &Filter, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open(&args.store)?;
    let deleted = store.delete_where(filter)?;
    let live = store.len()?;
    store.close()?;
    if args.json {
        output.json(&json!({ "deleted": deleted, "missing": [], "live": live }))?;
    } else {
        output.line(format!(
            "deleted {}; {live} {} left",
            counted(deleted, "id"),
            verb(live, "is", "are")
        ))?;
    }
    Ok(0)
}
