//! `vecstone verify`: every byte, every checksum.

use serde_json::{Value, json};
use vecstone::{VectorStore, VerifyReport};

use crate::args::Verify;
use crate::failure::Result;
use crate::output::{Output, human_bytes, shown};

const REMEDY: &str = "restore the store from a copy, or save what checks out with vecstone repair";

pub(crate) fn run(args: &Verify, output: &mut Output) -> Result<u8> {
    let report = VectorStore::verify_path(&args.store)?;
    if args.json {
        output.json(&as_json(args, &report))?
    } else {
        print(&report, output)?
    }
    Ok(u8::from(!report.is_ok()))
}

fn as_json(args: &Verify, report: &VerifyReport) -> Value {
    let damage: Vec<Value> = report
        .damage
        .iter()
        .map(|damage| {
            json!({
                "path": damage.path.display().to_string(),
                "offset": damage.offset,
                "id": damage.id.as_ref().map(ToString::to_string),
                "what": damage.what,
                "consequence": damage.consequence,
            })
        })
        .collect();
    json!({
        "store": args.store.display().to_string(),
        "ok": report.is_ok(),
        "bytes": report.bytes,
        "tail_bytes": report.tail_bytes,
        "damage": damage,
        "unlisted": report.unlisted,
    })
}

fn print(report: &VerifyReport, output: &mut Output) -> Result<()> {
    for damage in &report.damage {
        output.line(shown(&damage.to_string()))?;
    }
    if report.tail_bytes > 0 {
        output.line(format!(
            "{} after the last proven batch: a write that was cut short, dropped when the store is next written",
            human_bytes(report.tail_bytes)
        ))?;
    }
    match report.damage.len() as u64 + report.unlisted {
        0 => output.line(format!("verified {}: no damage", human_bytes(report.bytes))),
        1 => output.line(format!("damaged in 1 place; {REMEDY}")),
        n if report.unlisted > 0 => {
            output.line(format!("damaged in {n} places, {} of them not listed; {REMEDY}", report.unlisted))
        }
        n => output.line(format!("damaged in {n} places; {REMEDY}")),
    }
}
