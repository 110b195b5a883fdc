//! `vecstone create`: an empty store.

use serde_json::json;
use vecstone::VectorStore;

use crate::args::Create;
use crate::failure::Result;
use crate::output::Output;

pub(crate) fn run(args: &Create, output: &mut Output) -> Result<u8> {
    let store = match args.dim {
        Some(dim) => VectorStore::create(&args.store, dim, args.metric.into())?,
        None => VectorStore::create_without_dim(&args.store, args.metric.into())?,
    };
    let (path, metric) = (args.store.display().to_string(), store.metric().name());
    store.close()?;
    if args.json {
        output.json(&json!({ "store": path, "dim": args.dim, "metric": metric }))?;
    } else {
        let dim = args.dim.map_or("not fixed yet".to_owned(), |dim| dim.to_string());
        output.line(format!("created {path}: dim {dim}, metric {metric}"))?;
    }
    Ok(0)
}
