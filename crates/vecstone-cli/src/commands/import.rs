//! `vecstone import`: the rows of a .npy file, batch by batch, each acknowledged once it is durable.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use serde_json::json;
use vecstone::{Error, Id, IdKind, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, Metric, Snapshot, VectorStore};

use crate::args::Import;
use crate::documents::Documents;
use crate::failure::{Failure, Result};
use crate::ids::{Ids, Source};
use crate::npy::{self, Dtype, Layout, Shape};
use crate::output::{Output, human_bytes, note, shown};
use crate::progress::{Progress, rate};
use crate::repeats::Repeats;
use crate::rows::Rows;
use crate::writer::{Acknowledger, Stopped, acknowledge};

/// Bytes of rows in a batch, unless there would be fewer than `BATCH_ROWS_MIN` rows.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_ROWS_MIN: usize = 1000;
/// Bytes of ids and documents after which a batch ends early, so that long ones do not fill the memory.
const BATCH_TEXT_BYTES: usize = 16 << 20;

/// Rows on their way from the files to the store.
struct Batch {
    first: u64,
    ids: Vec<Id>,
    vectors: Vec<f32>,
    /// One for each row, or none at all.
    documents: Vec<Option<String>>,
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
    let existing = open_existing(args, &layout)?;
    let source = check_texts(args, &layout, existing.as_ref().and_then(VectorStore::kind))?;
    let created = existing.is_none();
    let store = match existing {
        Some(store) => store,
        None => create(args, &layout)?,
    };
    if !(created || args.resume || args.overwrite) {
        refuse_stored(&store, &source, layout.rows)?;
    }
    let repeats = if args.resume { Some(Repeats::find(&source, layout.rows)?) } else { None };
    let input = Input {
        rows: Rows::new(&args.file, file, layout),
        ids: source.open()?,
        documents: args.documents.as_deref().map(Documents::open).transpose()?,
        most: batch_rows(args, &layout),
        read: 0,
    };
    let before = store.len()? as u64;
    let progress = Progress::new(layout.rows, layout.dim);
    let mut importer = Importer { args, store: &store, dim: layout.dim, repeats, counts: Counts::default() };
    const GO_ON: &str = "run the same import again with --resume to go on";
    acknowledge(&store, &progress, |acknowledger| importer.stream(input, acknowledger))
        .map_err(|stopped| stopped.explain(&progress, GO_ON))?;
    let mut counts = importer.counts;
    let live = store.len()? as u64;
    // Whatever made no new id replaced a stored one. Nobody else writes to the store.
    counts.replaced = (before + counts.written).saturating_sub(live);
    store.close().map_err(|e| Stopped::Store(e).explain(&progress, GO_ON))?;
    report(args, &layout, &counts, (created, live), &progress, output)?;
    Ok(0)
}

/// Opens the store if it is there and fits the file.
fn open_existing(args: &Import, layout: &Layout) -> Result<Option<VectorStore>> {
    let store = match VectorStore::open(&args.store) {
        Ok(store) => store,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(Error::HalfMade { .. }) if args.resume => return Ok(None),
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
    if let Some(metric) = args.metric.map(Metric::from).filter(|metric| *metric != store.metric()) {
        let what = format!(
            "the store's metric is {}, --metric says {}; leave --metric out, or import into another store",
            store.metric().name(),
            metric.name()
        );
        return Err(Failure::file(&args.store, what));
    }
    if let (Some(stored), Some(asked)) = (store.kind(), args.id_kind.map(IdKind::from))
        && stored != asked
    {
        let what = format!(
            "the store's ids are of kind {}, --id-kind says {}; leave --id-kind out, or import into another store",
            stored.name(),
            asked.name()
        );
        return Err(Failure::file(&args.store, what));
    }
    if !store.recovery().clean {
        note(format!("recovered {}: {}", args.store.display(), store.recovery()));
    }
    Ok(Some(store))
}

/// Reads ids and documents once, before anything is stored or made. `kind`: that of the store's ids, if it has any.
fn check_texts(args: &Import, layout: &Layout, kind: Option<IdKind>) -> Result<Source> {
    let kind = kind.or(args.id_kind.map(IdKind::from)).unwrap_or(IdKind::String);
    let source = Source::choose(args.ids.as_deref(), args.id_prefix.as_deref(), &args.file, kind)?;
    source.check(layout.rows)?;
    if let Some(documents) = &args.documents {
        Documents::check(documents, layout.rows)?;
    }
    Ok(source)
}

fn create(args: &Import, layout: &Layout) -> Result<VectorStore> {
    // The header was checked: at most MAX_DIM.
    let dim = u32::try_from(layout.dim).unwrap_or(u32::MAX);
    let metric = args.metric.map(Metric::from).unwrap_or_default();
    Ok(VectorStore::create(&args.store, dim, metric)?)
}

/// Without ids of their own, rows must not replace others by accident.
fn refuse_stored(store: &VectorStore, source: &Source, rows: u64) -> Result<()> {
    let snapshot = store.snapshot()?;
    if snapshot.is_empty() {
        return Ok(());
    }
    for id in (0..rows).map_while(|row| source.made(row)) {
        if snapshot.contains(&id)? {
            return Err(Failure::error(format!(
                "id {} is already stored; add --resume to write only what is missing, --overwrite to replace it, \
                 or name the rows with --id-prefix or --ids",
                shown(&id.to_string())
            )));
        }
    }
    Ok(())
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
    fn stream(&mut self, input: Input<'_>, acknowledger: &mut Acknowledger<'_>) -> Result<(), Stopped> {
        thread::scope(|scope| {
            let (batches, ready) = sync_channel(0);
            let (used, spare) = channel();
            scope.spawn(move || input.read_all(&batches, &spare));
            self.put_each(&ready, &used, acknowledger)
        })
    }

    fn put_each(
        &mut self,
        ready: &Receiver<Result<Batch>>,
        used: &Sender<Vec<f32>>,
        acknowledger: &mut Acknowledger<'_>,
    ) -> Result<(), Stopped> {
        for batch in ready {
            let mut batch = batch?;
            let end = batch.first + batch.ids.len() as u64;
            self.put(&mut batch)?;
            acknowledger.put(end)?;
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
        let documents: Vec<Option<&str>> = batch.documents.iter().map(Option::as_deref).collect();
        let put = self.store.put_many_with(&batch.ids, &batch.vectors, &documents, None);
        put.map_err(|error| match error {
            Error::NonFinite { row, component } => {
                let row = batch.first + kept.get(row).copied().unwrap_or(row) as u64;
                Stopped::Other(self.not_finite(row, component, batch.first))
            }
            error => Stopped::Store(error),
        })?;
        self.counts.written += kept.len() as u64;
        Ok(())
    }

    /// Under `--resume`: which rows of the batch are to be written; counts those that are not.
    fn choose(&mut self, batch: &Batch) -> Result<Vec<usize>, Stopped> {
        let snapshot = self.store.snapshot()?;
        let mut kept = Vec::with_capacity(batch.ids.len());
        let mut chosen = HashSet::with_capacity(batch.ids.len());
        for (at, id) in batch.ids.iter().enumerate() {
            if !chosen.contains(id) && snapshot.contains(id)? && self.needless(&snapshot, batch, at)? {
                self.counts.skipped += 1;
                continue;
            }
            chosen.insert(id);
            kept.push(at);
        }
        Ok(kept)
    }

    /// Under `--resume`: a stored row needs no writing if it is the same, or if a later row replaces it anyway.
    fn needless(&mut self, snapshot: &Snapshot, batch: &Batch, at: usize) -> Result<bool, Stopped> {
        let Some(repeats) = &mut self.repeats else { return Ok(false) };
        let (row, id) = (batch.first + at as u64, &batch.ids[at]);
        if repeats.superseded(row, id)? {
            return Ok(true);
        }
        let vector = &batch.vectors[at * self.dim..][..self.dim];
        if !snapshot.get(id)?.is_some_and(|stored| same_bytes(&stored, vector)) {
            return Ok(false);
        }
        match batch.documents.get(at) {
            Some(document) => Ok(snapshot.get_document(id)? == *document),
            None => Ok(true),
        }
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
            if !self.documents.is_empty() {
                self.documents.swap(to, *from);
            }
        }
        self.ids.truncate(kept.len());
        self.vectors.truncate(kept.len() * dim);
        self.documents.truncate(kept.len());
    }
}

/// Bits, not values: 0.0 and -0.0 are different rows.
fn same_bytes(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// The files of an import, read in step.
struct Input<'a> {
    rows: Rows,
    ids: Ids<'a>,
    documents: Option<Documents>,
    /// Rows of a batch, at most.
    most: usize,
    /// Rows read so far.
    read: u64,
}

impl Input<'_> {
    /// Reads until the end of the files, an error, or the other side's end.
    fn read_all(mut self, batches: &SyncSender<Result<Batch>>, spare: &Receiver<Vec<f32>>) {
        while self.rows.left() > 0 {
            let batch = self.read_batch(spare.try_recv().unwrap_or_default());
            let ended = batch.is_err();
            if batches.send(batch).is_err() || ended {
                return;
            }
        }
    }

    fn read_batch(&mut self, mut vectors: Vec<f32>) -> Result<Batch> {
        let most = usize::try_from(self.rows.left()).map_or(self.most, |left| left.min(self.most));
        let mut ids = Vec::with_capacity(most.min(1 << 16));
        let mut documents = Vec::new();
        let mut bytes = 0;
        while ids.len() < most && bytes < BATCH_TEXT_BYTES {
            let id = self.ids.next()?.ok_or_else(became_shorter)?;
            bytes += id.as_str().map_or(0, str::len);
            ids.push(id);
            if let Some(lines) = &mut self.documents {
                let document = lines.next()?.ok_or_else(became_shorter)?;
                bytes += document.as_ref().map_or(0, String::len);
                documents.push(document);
            }
        }
        self.rows.read(ids.len(), &mut vectors)?;
        let first = self.read;
        self.read += ids.len() as u64;
        Ok(Batch { first, ids, vectors, documents })
    }
}

fn became_shorter() -> Failure {
    Failure::error("the ids or documents became fewer while they were read; import them again")
}

fn report(
    args: &Import,
    layout: &Layout,
    counts: &Counts,
    (created, live): (bool, u64),
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
