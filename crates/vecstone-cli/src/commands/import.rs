//! `vecstone import`: the rows of a file, batch by batch, each acknowledged once it is durable.

use std::io::Read;

use serde_json::json;
use vecstone::{Document, Error, OpenOptions, VectorStore, counted};

use crate::args::Import;
use crate::failure::{Failure, Result};
use crate::importer::{Importer, Input};
use crate::npy::open_regular;
use crate::npy_input::NpyInput;
use crate::output::{Output, human_bytes, note};
use crate::progress::{Progress, rate};
use crate::writer::{Stopped, acknowledge};

/// What became of the rows of the file.
struct Counts {
    written: u64,
    skipped: u64,
    replaced: u64,
}

pub(crate) fn run(args: &Import, output: &mut Output) -> Result<u8> {
    let mut input = open_input(args)?;
    let existing = open_existing(args, input.dim())?;
    let kind = existing.as_ref().and_then(VectorStore::kind).or(args.id_kind);
    input.check(kind)?;
    let created = existing.is_none();
    let store = match existing {
        Some(store) => store,
        None => create(args, input.dim())?,
    };
    if !(created || args.resume || args.overwrite) {
        input.refuse_stored(&store)?;
    }
    let repeats = args.resume.then(|| input.repeats()).transpose()?;
    let before = store.len()? as u64;
    let dim = store.dim();
    let progress = Progress::new(input.rows(), dim);
    let otherwise = if args.remove_documents { Document::None } else { Document::Keep };
    let mut importer =
        Importer { file: &args.file, store: &store, dim, otherwise, repeats, written: 0, skipped: 0 };
    const GO_ON: &str = "run the same import again with --resume to go on";
    acknowledge(&store, &progress, |acknowledger| importer.stream(input, acknowledger))
        .map_err(|stopped| stopped.explain(&progress, GO_ON))?;
    let Importer { written, skipped, .. } = importer;
    let live = store.len()? as u64;
    // Whatever made no new id replaced a stored one. Nobody else writes to the store.
    let counts = Counts { written, skipped, replaced: (before + written).saturating_sub(live) };
    store.close().map_err(|e| Stopped::Store(e).explain(&progress, GO_ON))?;
    report(args, dim, &counts, (created, live), &progress, output)?;
    Ok(0)
}

/// Tells a .npy file, and a .npz archive, which has a message of its own, from everything else.
fn open_input(args: &Import) -> Result<Box<dyn Input + '_>> {
    if args.file.join("MANIFEST").is_file() {
        let what = "a store; give the store first, then the file: vecstone import STORE FILE";
        return Err(Failure::file(&args.file, what));
    }
    let mut head = Vec::new();
    let file = open_regular(&args.file, "write the rows to one first")?;
    file.take(6).read_to_end(&mut head).map_err(|e| Failure::io(&args.file, "read", &e))?;
    if head == b"\x93NUMPY" || head.starts_with(b"PK\x03\x04") {
        return Ok(Box::new(NpyInput::open(args)?));
    }
    open_table(args)
}

#[cfg(feature = "arrow")]
fn open_table(args: &Import) -> Result<Box<dyn Input + '_>> {
    Ok(Box::new(crate::table::Table::open(args)?))
}

#[cfg(not(feature = "arrow"))]
fn open_table(args: &Import) -> Result<Box<dyn Input + '_>> {
    let what = "not a .npy file, and this vecstone was built without the feature \"arrow\", which reads Parquet, Arrow \
                IPC and JSON lines";
    Err(Failure::file(&args.file, what))
}

/// Batches are written from where they lie, not copied to a buffer: each is made durable soon anyway.
fn options() -> OpenOptions {
    OpenOptions::new().buffer_bytes(8 << 20)
}

/// Opens the store if it is there and fits the file.
fn open_existing(args: &Import, dim: Option<usize>) -> Result<Option<VectorStore>> {
    let store = match options().open(&args.store) {
        Ok(store) => store,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(Error::IncompleteCreate { .. }) if args.resume => return Ok(None),
        Err(Error::IncompleteCreate { path, .. }) => {
            let what = "the creation of this store was interrupted and nothing is stored in it; add --resume to start over";
            return Err(Failure::file(&path, what));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(found) = dim.filter(|dim| *dim != store.dim()) {
        let mismatch = Error::dimension_mismatch(store.dim(), found);
        return Err(Failure::file(&args.file, format!("{mismatch}; import it into another store")));
    }
    if let Some(metric) = args.metric.filter(|metric| *metric != store.metric()) {
        let what = format!(
            "the store's metric is {}, --metric says {}; leave --metric out, or import into another store",
            store.metric(),
            metric
        );
        return Err(Failure::file(&args.store, what));
    }
    if let (Some(stored), Some(asked)) = (store.kind(), args.id_kind)
        && stored != asked
    {
        let what = format!(
            "the store's ids are of kind {}, --id-kind says {}; leave --id-kind out, or import into another store",
            stored, asked
        );
        return Err(Failure::file(&args.store, what));
    }
    if !store.recovery().clean {
        note(format!("recovered {}: {}", args.store.display(), store.recovery()));
    }
    Ok(Some(store))
}

fn create(args: &Import, dim: Option<usize>) -> Result<VectorStore> {
    let Some(dim) = dim else {
        let what = "there are no rows, so that the dimension of a new store is unknown; make it with vecstone create --dim N";
        return Err(Failure::file(&args.file, what));
    };
    // Whoever read it checked it: at most MAX_DIM.
    let dim = u32::try_from(dim).unwrap_or(u32::MAX);
    let metric = args.metric.unwrap_or_default();
    Ok(options().create(&args.store, dim, metric)?)
}

fn report(
    args: &Import,
    dim: usize,
    counts: &Counts,
    (created, live): (bool, u64),
    progress: &Progress,
    output: &mut Output,
) -> Result<()> {
    let Counts { written, skipped, replaced } = counts;
    let rows = written + skipped;
    let (store, file) = (args.store.display().to_string(), args.file.display().to_string());
    let bytes = written * dim as u64 * 4;
    let time = progress.elapsed();
    if args.json {
        return output.json(&json!({
            "store": store,
            "file": file,
            "created": created,
            "rows": rows,
            "written": written,
            "skipped": skipped,
            "replaced": replaced,
            "live": live,
            "bytes": bytes,
            "seconds": time.as_secs_f64(),
        }));
    }
    output
        .line(format!("imported {} of {file} into {store}, which now holds {live}", counted(rows, "row")))?;
    output.line(format!("{} written, {skipped} skipped, {replaced} replaced", counted(*written, "row")))?;
    let seconds = time.as_secs_f64();
    output.line(format!("{} in {seconds:.2} s, {}", human_bytes(bytes), rate(bytes, time)))
}
