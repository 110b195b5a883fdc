//! `vecstone delete`: removes ids, durably.

use std::collections::HashSet;

use serde_json::json;
use vecstone::VectorStore;

use crate::args::Delete;
use crate::failure::{Failure, Result};
use crate::output::{Output, shown_list};

pub(crate) fn run(args: &Delete, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open(&args.store)?;
    let mut seen = HashSet::new();
    let ids: Vec<&str> = args.ids.iter().map(String::as_str).filter(|id| seen.insert(*id)).collect();
    let missing: Vec<&str> = ids.iter().copied().filter(|id| !store.contains(id)).collect();
    let deleted = store.delete_many(&ids)?;
    let live = store.len();
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
