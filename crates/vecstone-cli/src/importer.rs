//! Rows of any input into a store: one thread reads the next batch while the other one puts. Where no thread can be started,
//! one does both in turn.

use std::collections::HashSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use vecstone::{
    Document, Error, Id, IdKind, MAX_BATCH_BYTES, MAX_BATCH_RECORDS, Snapshot, VectorStore, WriteBatch,
};

use crate::failure::{Failure, Result};
use crate::repeats::Repeats;
use crate::writer::{Acknowledger, Stopped, check};

/// Bytes of rows in a batch, unless there would be fewer than `BATCH_ROWS_MIN` rows.
const BATCH_BYTES: usize = 16 << 20;
const BATCH_ROWS_MIN: usize = 1000;
/// Bytes of ids and documents after which a batch ends early, so that long ones do not fill the memory.
pub(crate) const BATCH_TEXT_BYTES: usize = 16 << 20;

/// How often Ctrl-C is looked for while the next batch is read.
const LOOKS_AT_CTRL_C: Duration = Duration::from_millis(50);

/// Rows of a batch: as many as were asked for, if they fit.
pub(crate) fn batch_rows(asked: Option<u64>, dim: usize) -> usize {
    let row = dim * 4;
    let asked = asked.map(|rows| usize::try_from(rows).unwrap_or(usize::MAX));
    let rows = asked.unwrap_or_else(|| (BATCH_BYTES / row).max(BATCH_ROWS_MIN));
    let most = usize::try_from(MAX_BATCH_BYTES / row as u64).unwrap_or(usize::MAX);
    rows.min(most).min(MAX_BATCH_RECORDS)
}

/// What is imported: rows with their ids, and documents if there are any.
pub(crate) trait Input: Send {
    /// Components of a vector; `None` if there is no row that tells.
    fn dim(&self) -> Option<usize>;

    /// Number of rows, if that is known.
    fn rows(&self) -> Option<u64>;

    /// Checks what can be checked before anything is stored or made. `kind`: what the ids are to be, if that is fixed.
    fn check(&mut self, kind: Option<IdKind>) -> Result<()>;

    /// Refuses to replace stored rows by accident.
    fn refuse_stored(&self, store: &VectorStore) -> Result<()>;

    /// Which rows have a later twin. Called before the first batch.
    fn repeats(&self) -> Result<Repeats>;

    /// The next rows; `None` at the end. `spare`: memory for their vectors.
    fn next(&mut self, spare: Vec<f32>) -> Result<Option<Batch>>;
}

/// Rows on their way from the input to the store.
#[derive(Default)]
pub(crate) struct Batch {
    /// Number of the first row in the input.
    pub(crate) first: u64,
    pub(crate) ids: Vec<Id>,
    pub(crate) vectors: Vec<f32>,
    /// One for each row, or none at all.
    pub(crate) documents: Vec<Option<String>>,
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

/// Puts what an input gives.
pub(crate) struct Importer<'a> {
    /// The imported file, for messages.
    pub(crate) file: &'a Path,
    pub(crate) store: &'a VectorStore,
    pub(crate) dim: usize,
    /// What becomes of the stored document of a row that has none here.
    pub(crate) otherwise: Document<&'static str>,
    /// Set for `--resume`.
    pub(crate) repeats: Option<Repeats>,
    /// Rows put so far.
    pub(crate) written: u64,
    /// Rows that needed no writing.
    pub(crate) skipped: u64,
}

impl Importer<'_> {
    /// At most two batches are in memory.
    pub(crate) fn stream(
        &mut self,
        input: Box<dyn Input + '_>,
        acknowledger: &mut Acknowledger<'_>,
    ) -> Result<(), Stopped> {
        // Its thread takes it: what a thread that does not start was given is gone.
        let input = Mutex::new(Some(input));
        let take = || input.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread::scope(|scope| {
            let (batches, ready) = sync_channel(0);
            let (used, spare) = channel();
            let read = move || take().into_iter().for_each(|input| read_all(input, &batches, &spare));
            match thread::Builder::new().name("vecstone-read".into()).spawn_scoped(scope, read) {
                Ok(_) => self.put_each(&ready, &used, acknowledger),
                Err(_) => take().map_or(Ok(()), |input| self.put_in_turn(input, acknowledger)),
            }
        })
    }

    fn put_in_turn(
        &mut self,
        mut input: Box<dyn Input + '_>,
        acknowledger: &mut Acknowledger<'_>,
    ) -> Result<(), Stopped> {
        let mut spare = Vec::new();
        while let Some(batch) = input.next(std::mem::take(&mut spare))? {
            check()?;
            spare = self.put_and_acknowledge(batch, acknowledger)?;
        }
        Ok(())
    }

    fn put_each(
        &mut self,
        ready: &Receiver<Result<Batch>>,
        used: &Sender<Vec<f32>>,
        acknowledger: &mut Acknowledger<'_>,
    ) -> Result<(), Stopped> {
        loop {
            let batch = match ready.recv_timeout(LOOKS_AT_CTRL_C) {
                Ok(batch) => batch?,
                Err(RecvTimeoutError::Timeout) => {
                    check()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let spare = self.put_and_acknowledge(batch, acknowledger)?;
            // The reader has ended if nobody takes the memory back.
            let _ = used.send(spare);
        }
    }

    /// Returns the memory of the vectors.
    fn put_and_acknowledge(
        &mut self,
        mut batch: Batch,
        acknowledger: &mut Acknowledger<'_>,
    ) -> Result<Vec<f32>, Stopped> {
        let end = batch.first + batch.ids.len() as u64;
        self.put(&mut batch)?;
        acknowledger.put(end)?;
        Ok(batch.vectors)
    }

    fn put(&mut self, batch: &mut Batch) -> Result<(), Stopped> {
        let kept = match &self.repeats {
            Some(repeats) => self.choose(batch, repeats)?,
            None => (0..batch.ids.len()).collect(),
        };
        self.skipped += (batch.ids.len() - kept.len()) as u64;
        if kept.len() < batch.ids.len() {
            batch.keep(&kept, self.dim);
        }
        if kept.is_empty() {
            return Ok(());
        }
        let documents: Vec<_> = (0..batch.ids.len()).map(|at| self.document(batch, at)).collect();
        let put = self.store.write(WriteBatch::new().put_many_with_documents(
            &batch.ids,
            &batch.vectors,
            &documents,
        ));
        put.map_err(|error| match error {
            Error::NonFinite { row, component, .. } => {
                let row = batch.first + kept.get(row).copied().unwrap_or(row) as u64;
                Stopped::Other(self.not_finite(row, component, batch.first))
            }
            error => Stopped::Store(error),
        })?;
        self.written += kept.len() as u64;
        Ok(())
    }

    /// What is to become of the document of a row.
    fn document<'b>(&self, batch: &'b Batch, at: usize) -> Document<&'b str> {
        let given = batch.documents.get(at).and_then(Option::as_deref);
        given.map_or(self.otherwise, Document::Json)
    }

    /// Under `--resume`: which rows of the batch are to be written.
    fn choose(&self, batch: &Batch, repeats: &Repeats) -> Result<Vec<usize>, Stopped> {
        let snapshot = self.store.snapshot()?;
        let mut kept = Vec::with_capacity(batch.ids.len());
        let mut chosen = HashSet::with_capacity(batch.ids.len());
        for (at, id) in batch.ids.iter().enumerate() {
            let stored = !chosen.contains(id) && snapshot.contains(id)?;
            // A stored row needs no writing if a later row replaces it anyway, or if it is the same. The later row may keep
            // the document that this one gives.
            if stored
                && self.has_document(&snapshot, batch, at)?
                && (repeats.superseded(batch.first + at as u64, id)
                    || self.has_vector(&snapshot, batch, at)?)
            {
                continue;
            }
            chosen.insert(id);
            kept.push(at);
        }
        Ok(kept)
    }

    fn has_vector(&self, snapshot: &Snapshot, batch: &Batch, at: usize) -> Result<bool, Stopped> {
        let (id, vector) = (&batch.ids[at], &batch.vectors[at * self.dim..][..self.dim]);
        Ok(snapshot.get(id)?.is_some_and(|stored| same_bytes(&stored, vector)))
    }

    /// Whether the stored document is what this row leaves.
    fn has_document(&self, snapshot: &Snapshot, batch: &Batch, at: usize) -> Result<bool, Stopped> {
        let document = self.document(batch, at);
        Ok(document == Document::Keep || snapshot.get_document(&batch.ids[at])?.as_deref() == document.json())
    }

    fn not_finite(&self, row: u64, column: usize, first: u64) -> Failure {
        let stays =
            if first > 0 { format!("; the rows before row {first} are stored") } else { String::new() };
        let what = format!("row {row}, column {column} is not a finite number in float32; correct it{stays}");
        Failure::file(self.file, what)
    }
}

/// Reads until the end of the input, an error, or the other side's end.
fn read_all(mut input: Box<dyn Input + '_>, batches: &SyncSender<Result<Batch>>, spare: &Receiver<Vec<f32>>) {
    while let Some(batch) = input.next(spare.try_recv().unwrap_or_default()).transpose() {
        let ended = batch.is_err();
        if batches.send(batch).is_err() || ended {
            return;
        }
    }
}

/// Bits, not values: 0.0 and -0.0 are different rows.
fn same_bytes(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
