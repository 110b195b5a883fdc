//! `vecstone get`: the vectors of ids.

use serde::Serialize;
use vecstone::VectorStore;

use crate::args::Get;
use crate::failure::{Failure, Result};
use crate::output::{Output, shown, shown_list};

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    vector: &'a [f32],
}

pub(crate) fn run(args: &Get, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    let mut missing = Vec::new();
    for id in &args.ids {
        match store.get(id)? {
            Some(vector) if args.json => output.json(&Row { id, vector: &vector })?,
            Some(vector) => output.line(format!("{}\t{}", shown(id), numbers(&vector)))?,
            None => missing.push(id.as_str()),
        }
    }
    if missing.is_empty() {
        return Ok(0);
    }
    let what = format!("{} of {} ids not stored: {}", missing.len(), args.ids.len(), shown_list(&missing));
    Err(Failure::not_found(format!("{}: {what}", args.store.display())))
}

/// As `--vector` takes them.
fn numbers(vector: &[f32]) -> String {
    vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}
