//! `vecstone import`: the rows of a .npy file, batch by batch, each acknowledged once it is durable.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use serde_json::json;
use vecstone::{Error, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, Metric, VectorStore};

use crate::args::Import;
use crate::failure::{Failure, Result};
use crate::ids::{Ids, Source, numbered};
use crate::npy::{self, Dtype, Layout, Shape};
use crate::output::{Output, human_bytes, note, shown};
use crate::progress::{Progress, rate};
use crate::repeats::Repeats;
use crate::rows::Rows;
use crate::writer::{Flusher, Stopped, acknowledge};

/// Bytes of rows in a batch, unless there would be fewer than `BATCH_ROWS_MIN` rows.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_ROWS_MIN: usize = 1000;
/// Bytes of ids after which a batch ends early, so that long ids do not fill the memory.
const BATCH_ID_BYTES: usize = 16 << 20;

/// Rows on their way from the file to the store.
struct Batch {
    first: u64,
    ids: Vec<String>,
    vectors: Vec<f32>,
}

/// What became of the rows of the file.
#[derive(Default)]
struct Counts {
    written: u64,
    skipped: u64,
    replaced: u64,
}

pub(crate) fn run(args: &Import, output: &mut Output) -> Result<u8> {
    let (file, layout) = npy::open(&args.file, Shape::Matrix)?;
    if layout.dtype != Dtype::F32 && !args.convert {
        let what = format!("the array is {}; add --convert to store it as float32", layout.dtype.name());
        return Err(Failure::file(&args.file, what));
    }
    let source = Source::choose(args.ids.as_deref(), args.id_prefix.as_deref(), &args.file)?;
    source.check(layout.rows)?;
    let (store, created) = open_store(args, &layout)?;
    if !(created || args.resume || args.overwrite) {
        refuse_stored(&store, &source, layout.rows)?;
    }
    let repeats = if args.resume { Some(Repeats::find(&source, layout.rows)?) } else { None };
    let rows = Rows::new(&args.file, file, layout);
    let progress = Progress::new(layout.rows, layout.dim);
    let ids = source.open()?;
    let mut importer = Importer { args, store: &store, dim: layout.dim, repeats, counts: Counts::default() };
    let outcome = acknowledge(&store, &progress, |flusher| {
        importer.stream(rows, ids, batch_rows(args, &layout), flusher)
    });
    let counts = importer.counts;
    const GO_ON: &str = "run the same import again with --resume to go on";
    outcome.map_err(|stopped| stopped.explain(&progress, GO_ON))?;
    let live = store.len();
    store.close().map_err(|e| Stopped::Store(e).explain(&progress, GO_ON))?;
    report(args, &layout, &counts, (created, live), &progress, output)?;
    Ok(0)
}

/// Opens the store, or makes it; all checks of the input came before.
fn open_store(args: &Import, layout: &Layout) -> Result<(VectorStore, bool)> {
    let metric = args.metric.map(Metric::from);
    // The header was checked: at most MAX_DIM.
    let dim = u32::try_from(layout.dim).unwrap_or(u32::MAX);
    let store = match VectorStore::open(&args.store) {
        Ok(store) => store,
        Err(Error::NotFound { .. }) => {
            return Ok((VectorStore::create(&args.store, dim, metric.unwrap_or_default())?, true));
        }
        Err(Error::HalfMade { .. }) if args.resume => {
            return Ok((VectorStore::create(&args.store, dim, metric.unwrap_or_default())?, true));
        }
        Err(Error::HalfMade { path }) => {
            let what = "the creation of this store was interrupted and nothing is stored in it; add --resume to start over";
            return Err(Failure::file(&path, what));
        }
        Err(error) => return Err(error.into()),
    };
    if store.dim() != layout.dim {
        let mismatch = Error::DimensionMismatch { expected: store.dim(), found: layout.dim };
        return Err(Failure::file(&args.file, format!("{mismatch}; import it into another store")));
    }
    if let Some(metric) = metric.filter(|metric| *metric != store.metric()) {
        let what = format!(
            "the store's metric is {}, --metric says {}; leave --metric out, or import into another store",
            store.metric().name(),
            metric.name()
        );
        return Err(Failure::file(&args.store, what));
    }
    if !store.recovery().clean {
        note(format!("recovered {}: {}", args.store.display(), store.recovery()));
    }
    Ok((store, false))
}

/// Without ids of their own, rows must not replace others by accident.
fn refuse_stored(store: &VectorStore, source: &Source, rows: u64) -> Result<()> {
    let Source::Numbered(prefix) = source else { return Ok(()) };
    if store.is_empty() {
        return Ok(());
    }
    match (0..rows).map(|row| numbered(prefix, row)).find(|id| store.contains(id)) {
        None => Ok(()),
        Some(id) => Err(Failure::error(format!(
            "id {} is already stored; add --resume to write only what is missing, --overwrite to replace it, \
             or choose another --id-prefix",
            shown(&id)
        ))),
    }
}

fn batch_rows(args: &Import, layout: &Layout) -> usize {
    let row = layout.dim * 4;
    let asked = args.batch_rows.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
    let rows = asked.unwrap_or_else(|| (BATCH_BYTES / row).max(BATCH_ROWS_MIN));
    let most = usize::try_from(MAX_BATCH_BYTES / row as u64).unwrap_or(usize::MAX);
    rows.min(most).min(MAX_BATCH_RECORDS)
}

struct Importer<'a> {
    args: &'a Import,
    store: &'a VectorStore,
    dim: usize,
    /// Set for `--resume`.
    repeats: Option<Repeats>,
    counts: Counts,
}

impl Importer<'_> {
    /// One thread reads and converts the next batch while this one puts; at most two batches are in memory.
    fn stream(&mut self, rows: Rows, ids: Ids, most: usize, flusher: &Flusher) -> Result<(), Stopped> {
        thread::scope(|scope| {
            let (batches, ready) = sync_channel(0);
            let (used, spare) = channel();
            scope.spawn(move || read_batches(rows, ids, most, &batches, &spare));
            self.put_each(&ready, &used, flusher)
        })
    }

    fn put_each(
        &mut self,
        ready: &Receiver<Result<Batch>>,
        used: &Sender<Vec<f32>>,
        flusher: &Flusher,
    ) -> Result<(), Stopped> {
        for batch in ready {
            let mut batch = batch?;
            let end = batch.first + batch.ids.len() as u64;
            self.put(&mut batch)?;
            flusher.flush(end)?;
            // The reader has ended if nobody takes the memory back.
            let _ = used.send(batch.vectors);
        }
        Ok(())
    }

    fn put(&mut self, batch: &mut Batch) -> Result<(), Stopped> {
        let kept = match &self.repeats {
            Some(_) => self.choose(batch)?,
            None => (0..batch.ids.len()).collect(),
        };
        if kept.len() < batch.ids.len() {
            batch.keep(&kept, self.dim);
        }
        if kept.is_empty() {
            return Ok(());
        }
        let before = self.store.len();
        self.put_kept(batch, &kept)?;
        // Whatever made no new id replaced a stored one. Nobody else writes to the store.
        let new = self.store.len() - before;
        self.counts.written += kept.len() as u64;
        self.counts.replaced += (kept.len() - new) as u64;
        Ok(())
    }

    fn put_kept(&self, batch: &Batch, kept: &[usize]) -> Result<(), Stopped> {
        self.store.put_many(&batch.ids, &batch.vectors).map_err(|error| match error {
            Error::NonFinite { row, component } => {
                let row = batch.first + kept.get(row).copied().unwrap_or(row) as u64;
                Stopped::Other(self.not_finite(row, component, batch.first))
            }
            error => Stopped::Store(error),
        })
    }

    /// Under `--resume`: which rows of the batch are to be written; counts those that are not.
    fn choose(&mut self, batch: &Batch) -> Result<Vec<usize>, Stopped> {
        let mut kept = Vec::with_capacity(batch.ids.len());
        let mut chosen = HashSet::with_capacity(batch.ids.len());
        for (at, id) in batch.ids.iter().enumerate() {
            let stored = self.store.contains(id);
            if stored && !chosen.contains(id.as_str()) && self.needless(batch, at)? {
                self.counts.skipped += 1;
                continue;
            }
            chosen.insert(id.as_str());
            kept.push(at);
        }
        Ok(kept)
    }

    /// Under `--resume`: a stored row needs no writing if it is the same, or if a later row replaces it anyway.
    fn needless(&mut self, batch: &Batch, at: usize) -> Result<bool, Stopped> {
        let Some(repeats) = &mut self.repeats else { return Ok(false) };
        let (row, id) = (batch.first + at as u64, &batch.ids[at]);
        if repeats.superseded(row, id)? {
            return Ok(true);
        }
        let vector = &batch.vectors[at * self.dim..][..self.dim];
        let stored = self.store.get(id)?;
        Ok(stored.is_some_and(|stored| same_bytes(&stored, vector)))
    }

    fn not_finite(&self, row: u64, column: usize, first: u64) -> Failure {
        let stays =
            if first > 0 { format!("; the rows before row {first} are stored") } else { String::new() };
        let what = format!("row {row}, column {column} is not a finite number in float32; correct it{stays}");
        Failure::file(&self.args.file, what)
    }
}

impl Batch {
    /// Drops the rows that are not in `kept` (ascending), in place.
    fn keep(&mut self, kept: &[usize], dim: usize) {
        for (to, from) in kept.iter().enumerate() {
            self.ids.swap(to, *from);
            self.vectors.copy_within(from * dim..(from + 1) * dim, to * dim);
        }
        self.ids.truncate(kept.len());
        self.vectors.truncate(kept.len() * dim);
    }
}

/// Bits, not values: 0.0 and -0.0 are different rows.
fn same_bytes(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Reads until the end of the file, an error, or the other side's end.
fn read_batches(
    mut rows: Rows,
    mut ids: Ids,
    most: usize,
    batches: &SyncSender<Result<Batch>>,
    spare: &Receiver<Vec<f32>>,
) {
    let mut first = 0;
    while rows.left() > 0 {
        let batch = read_batch(&mut rows, &mut ids, most, first, spare.try_recv().unwrap_or_default());
        first += batch.as_ref().map_or(0, |batch| batch.ids.len() as u64);
        let ended = batch.is_err();
        if batches.send(batch).is_err() || ended {
            return;
        }
    }
}

fn read_batch(rows: &mut Rows, ids: &mut Ids, most: usize, first: u64, spare: Vec<f32>) -> Result<Batch> {
    let most = usize::try_from(rows.left()).map_or(most, |left| left.min(most));
    let ids = ids.batch(most, BATCH_ID_BYTES)?;
    if ids.is_empty() {
        return Err(Failure::error("the ids file became shorter while it was read; import it again"));
    }
    let mut vectors = spare;
    rows.read(ids.len(), &mut vectors)?;
    Ok(Batch { first, ids, vectors })
}

fn report(
    args: &Import,
    layout: &Layout,
    counts: &Counts,
    (created, live): (bool, usize),
    progress: &Progress,
    output: &mut Output,
) -> Result<()> {
    let Counts { written, skipped, replaced } = counts;
    let (store, file) = (args.store.display().to_string(), args.file.display().to_string());
    let bytes = written * layout.dim as u64 * 4;
    let time = progress.elapsed();
    if args.json {
        return output.json(&json!({
            "store": store,
            "file": file,
            "created": created,
            "rows": layout.rows,
            "written": written,
            "skipped": skipped,
            "replaced": replaced,
            "live": live,
            "bytes": bytes,
            "seconds": time.as_secs_f64(),
        }));
    }
    let rows = layout.rows;
    output.line(format!("imported {rows} rows of {file} into {store}, which now holds {live}"))?;
    output.line(format!("{written} rows written, {skipped} skipped, {replaced} replaced"))?;
    let seconds = time.as_secs_f64();
    output.line(format!("{} in {seconds:.2} s, {}", human_bytes(bytes), rate(bytes, time)))
}
