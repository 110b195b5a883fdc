//! `vecstone delete`: removes ids, durably.

use std::collections::HashSet;

use serde_json::json;
use vecstone::{Filter, VectorStore};

use crate::args::Delete;
use crate::failure::{Failure, Result};
use crate::ids::parse_all;
use crate::output::{Output, shown_list};

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
        output.line(format!("deleted {deleted} of {} ids; {live} are left", ids.len()))?;
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let what = format!("{} of {} ids not stored: {}", missing.len(), ids.len(), shown_list(&missing));
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
        output.line(format!("deleted {deleted} ids; {live} are left"))?;
    }
    Ok(0)
}
