//! `vecstone create`: an empty store.

use serde_json::json;
use vecstone::OpenOptions;

use crate::args::Create;
use crate::failure::Result;
use crate::output::Output;

pub(crate) fn run(args: &Create, output: &mut Output) -> Result<u8> {
    let options = OpenOptions::new();
    let options = args.auto_optimize_rows.map_or(options.clone(), |rows| options.auto_optimize_rows(rows));
    let store = options.create(&args.store, args.dim, args.metric)?;
    let (path, metric) = (args.store.display().to_string(), store.metric().name());
    store.close()?;
    if args.json {
        output.json(&json!({ "store": path, "dim": args.dim, "metric": metric }))?;
    } else {
        output.line(format!("created {path}: dim {}, metric {metric}", args.dim))?;
    }
    Ok(0)
}
