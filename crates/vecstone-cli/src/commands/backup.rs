//! `vecstone backup`: a copy of the store as it is now.

use serde_json::json;
use vecstone::{VectorStore, counted};

use crate::args::Backup;
use crate::failure::Result;
use crate::output::{Output, human_bytes};

pub(crate) fn run(args: &Backup, output: &mut Output) -> Result<u8> {
    let report = VectorStore::open_read_only(&args.store)?.backup(&args.dir)?;
    let (store, dir) = (args.store.display().to_string(), args.dir.display().to_string());
    let (files, bytes, linked) = (report.files, report.bytes, report.linked);
    if args.json {
        output.json(
            &json!({ "store": store, "backup": dir, "files": files, "bytes": bytes, "linked": linked }),
        )?;
        return Ok(0);
    }
    output.line(format!(
        "backed up {store} to {dir}: {} in {}",
        human_bytes(bytes),
        counted(files, "file")
    ))?;
    if linked > 0 {
        output.line(format!("{} of it are files that both share as hard links", human_bytes(linked)))?;
    }
    Ok(0)
}
