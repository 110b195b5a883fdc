//! What changes a store.

use super::VectorStore;
use super::batch::{Changes, Rows, WriteBatch};
use crate::buffer::batch::{self, Batch, Op};
use crate::engine::{DurabilityTarget, Engine};
use crate::query::filter::Filter;
use crate::types::document::{Document, one_line_each};
use crate::types::error::Result;
use crate::types::id::AsId;
use crate::types::options::Durability;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

impl VectorStore {
    // ---- vectors ----

    /// Stores a vector of `dim` finite components under an id, or replaces it. A document that is stored stays.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put("north", &[0.0, 1.0])?;
    /// store.put("north", &[0.1, 0.9])?; // replaces it
    /// assert_eq!(store.len()?, 1);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn put(&self, id: impl AsId, vector: &[f32]) -> Result<()> {
        self.put_with_document(id, vector, Document::Keep)
    }

    /// Stores a vector and a JSON document under an id, or replaces both.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_with_document("page 7", &[0.0, 1.0], r#"{"title": "North"}"#)?;
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDocument`](crate::Error::InvalidDocument) if `document` is not one JSON value; else as
    /// [`put_many`](Self::put_many).
    pub fn put_with_document<'d>(
        &self,
        id: impl AsId,
        vector: &[f32],
        document: impl Into<Document<&'d str>>,
    ) -> Result<()> {
        self.write_ops(&[Op::Put { id: id.as_id(), vector, document: document.into() }], None)
    }

    /// Stores a batch, all or nothing: `vectors` holds `ids.len()` rows of `dim` components, one after the other. Of an
    /// id that comes twice the last row counts. [`WriteBatch`] has more: documents, deletes, a durability of its own.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&[1u64, 2, 3], &[0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?;
    /// assert_eq!(store.get(2u64)?, Some(vec![1.0, 0.0]));
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`](crate::Error::CountMismatch),
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch), [`Error::NonFinite`](crate::Error::NonFinite),
    /// [`Error::InvalidId`](crate::Error::InvalidId), [`Error::IdKindMismatch`](crate::Error::IdKindMismatch),
    /// [`Error::BatchTooLarge`](crate::Error::BatchTooLarge): nothing of the batch is stored.
    /// [`Error::NoSpace`](crate::Error::NoSpace) and [`Error::Io`](crate::Error::Io): `kept` says whether the batch is
    /// accepted, kept in the buffer and tried again. A call that only finds an earlier failure of the background is not
    /// accepted; one with [`Durability::Sync`] that fails itself mostly is.
    /// [`Error::WriteFailed`](crate::Error::WriteFailed), [`Error::SyncFailed`](crate::Error::SyncFailed),
    /// [`Error::Panicked`](crate::Error::Panicked) and [`Error::Poisoned`](crate::Error::Poisoned): writing stops,
    /// reopen the store.
    pub fn put_many(&self, ids: &[impl AsId], vectors: &[f32]) -> Result<()> {
        self.write_rows(&Rows::new(ids, vectors, &[]), None)
    }

    /// Writes a batch, all or nothing. One without a change, with [`Durability::Sync`], returns when everything accepted
    /// before is durable.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use vecstone::WriteBatch;
    ///
    /// store.put("old", &[0.0, 1.0])?;
    /// store.write(WriteBatch::new().delete("old").put("new", &[0.0, 1.0]))?;
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many); [`Error::InvalidDocument`](crate::Error::InvalidDocument).
    pub fn write(&self, batch: &WriteBatch<'_>) -> Result<()> {
        match batch.changes(self.dim())? {
            Changes::Rows(rows) => self.write_rows(rows, batch.durability),
            Changes::Ops(ops) => self.write_ops(ops, batch.durability),
            Changes::Mixed(ops) => self.write_ops(&ops, batch.durability),
        }
    }

    fn write_rows(&self, rows: &Rows<'_>, durability: Option<Durability>) -> Result<()> {
        let (Rows { ids, vectors, documents }, dim) = (rows, self.dim());
        rows.check(dim)?;
        let lines = one_line_each(documents)?;
        let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
        self.write_batch(Batch::Rows { ids, vectors, documents: &lines, dim }, durability)
    }

    /// Writes changes in one batch. `None`: the store's own durability.
    fn write_ops(&self, ops: &[Op<'_>], durability: Option<Durability>) -> Result<()> {
        let gives = |op: &Op<'_>| matches!(op, Op::Put { document: Document::Json(_), .. });
        if !ops.iter().any(gives) {
            return self.write_batch(Batch::Ops(ops), durability);
        }
        let lines = batch::lines_of(ops)?;
        self.write_batch(Batch::Ops(&batch::with_lines(ops, &lines)), durability)
    }

    pub(super) fn write_batch(&self, batch: Batch<'_>, durability: Option<Durability>) -> Result<()> {
        let engine = self.engine()?;
        batch.check(engine.schema.dim as usize, None)?;
        batch.check_numbers()?;
        let durability = durability.unwrap_or(engine.settings.durability);
        let Some(kind) = batch.kind() else {
            engine.buffer.lock().check_writable()?;
            return engine.finish_write(engine.accepted()?, durability);
        };
        engine.write(batch, kind, durability)
    }

    /// Deletes an id; `false` if it was not there, and nothing is written then. With [`Durability::Sync`] as the store's
    /// durability it returns when that is durable: what deleted the id before may still be on its way to the disk.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put("a", &[0.0, 1.0])?;
    /// assert!(store.delete("a")?);
    /// assert!(!store.delete("a")?);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete(&self, id: impl AsId) -> Result<bool> {
        Ok(self.delete_many(&[id])? == 1)
    }

    /// Deletes several ids in one batch; returns how many were there.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// assert_eq!(store.delete_many(&["a", "b", "c"])?, 2);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete_many(&self, ids: &[impl AsId]) -> Result<usize> {
        self.delete_many_with(ids, None)
    }

    /// Deletes every id that a filter selects; returns how many there were. One batch, which counts wholly or not at
    /// all, with all that match at its place in the order of writing: what other threads write meanwhile comes before
    /// it, and is looked at, or after it, and stays. More than [`MAX_BATCH_RECORDS`](crate::MAX_BATCH_RECORDS) ids, or
    /// ids of more than [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES), are several batches.
    ///
    /// Other writers wait only while what was written since the first look is looked at.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use vecstone::Filter;
    ///
    /// store.put_with_document("draft", &[0.0, 1.0], r#"{"state": "draft"}"#)?;
    /// assert_eq!(store.delete_where(&Filter::parse(r#"{"state": "draft"}"#)?)?, 1);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`Snapshot::ids_where`](crate::Snapshot::ids_where). Batches before the one
    /// that failed stay.
    pub fn delete_where(&self, filter: &Filter) -> Result<usize> {
        self.delete_where_with(filter, None)
    }

    // ---- documents ----

    /// Changes the document of an id, and not its vector. [`Document::None`] removes it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use vecstone::Document;
    ///
    /// store.put("a", &[0.0, 1.0])?;
    /// store.put_document("a", r#"{"title": "A"}"#)?;
    /// store.put_document("a", Document::None)?; // it has none again
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put_documents`](Self::put_documents).
    pub fn put_document<'d>(&self, id: impl AsId, document: impl Into<Document<&'d str>>) -> Result<()> {
        self.put_documents(&[id], &[document.into()])
    }

    /// Changes the documents of several ids, and not their vectors: one batch, all or nothing, at one place in the order
    /// of writing. Of an id that comes twice the last document counts.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownIds`](crate::Error::UnknownIds) names all ids that are not there;
    /// [`Error::InvalidDocument`](crate::Error::InvalidDocument); [`Error::Corrupt`](crate::Error::Corrupt) if a row is
    /// not what was written; [`Error::BatchTooLarge`](crate::Error::BatchTooLarge): nothing of the batch is stored. Else
    /// as [`put_many`](Self::put_many).
    pub fn put_documents(&self, ids: &[impl AsId], documents: &[Document<&str>]) -> Result<()> {
        self.change_documents(ids, documents, false, None)
    }

    /// Merges one JSON value into the document of an id, as [`update_documents`](Self::update_documents) does.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_with_document("a", &[0.0, 1.0], r#"{"title": "A", "year": 1998}"#)?;
    /// store.update_document("a", r#"{"year": null, "pages": 7}"#)?;
    /// assert_eq!(store.snapshot()?.get_document("a")?.as_deref(), Some(r#"{"title":"A","pages":7}"#));
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update_documents`](Self::update_documents).
    pub fn update_document(&self, id: impl AsId, document: &str) -> Result<()> {
        self.update_documents(&[id], &[Document::Json(document)])
    }

    /// As [`put_documents`](Self::put_documents), but each JSON value is merged into the stored document as RFC 7396
    /// says: members that it has take the place of those stored, `null` removes one, objects are merged in turn,
    /// anything else is replaced as a whole. An id without a document has an empty object.
    ///
    /// # Errors
    ///
    /// As [`put_documents`](Self::put_documents); [`Error::NotAnObject`](crate::Error::NotAnObject) if an object is to
    /// be merged into a document that is none.
    pub fn update_documents(&self, ids: &[impl AsId], documents: &[Document<&str>]) -> Result<()> {
        self.change_documents(ids, documents, true, None)
    }

    // ---- durability ----

    /// Returns when everything accepted before is durable. Writers and readers go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`](crate::Error::NoSpace): nothing is lost yet; free some space and flush again.
    /// [`Error::SyncFailed`](crate::Error::SyncFailed) and [`Error::WriteFailed`](crate::Error::WriteFailed): whether
    /// what was written since the last flush survives is unknown; reads show the last durable state, writing stops,
    /// reopen the store. [`Error::StoreMoved`](crate::Error::StoreMoved),
    /// [`Error::LockRemoved`](crate::Error::LockRemoved): writing stops, and what was accepted is in the store where it
    /// is now, as far as its growing segment has room. [`Error::Io`](crate::Error::Io) if nobody can tell whether it was
    /// moved: flush again.
    pub fn flush(&self) -> Result<()> {
        self.engine()?.flush()
    }

    /// A future that ends when everything accepted before this call is durable. It needs no particular runtime: the
    /// store's own threads do the work. Dropping it cancels nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    /// # runtime.block_on(async {
    /// store.put("a", &[0.0, 1.0])?;
    /// store.flush_async().await?; // durable
    /// # Ok::<(), vecstone::Error>(())
    /// # })?;
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    pub fn flush_async(&self) -> Flush {
        let target = |engine: &Arc<Engine>| engine.accepted().map(|target| (engine.clone(), target));
        Flush { engine: self.engine().and_then(target) }
    }
}

/// See [`VectorStore::flush_async`].
#[derive(Debug)]
#[must_use = "what was accepted is flushed by itself; only awaiting tells when it is durable"]
pub struct Flush {
    engine: Result<(Arc<Engine>, DurabilityTarget)>,
}

impl Future for Flush {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &self.engine {
            Ok((engine, target)) => engine.poll(*target, context.waker()).map_or(Poll::Pending, Poll::Ready),
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}
