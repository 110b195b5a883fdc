//! What changes a store.

use super::VectorStore;
use crate::buffer::batch::{self, Batch, Fenced, Op, RowSource, copy_in_pieces};
use crate::engine::{DurabilityTarget, Engine};
use crate::query::filter::Filter;
use crate::sys::parallel;
use crate::types::config::check_dim;
use crate::types::document::{Document, one_line_each};
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, IdRef};
use crate::types::options::Durability;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

impl VectorStore {
    // ---- writing ----

    /// Stores a vector of `dim` finite components under an id, or replaces it. A document that is stored stays.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn put(&self, id: impl AsId, vector: &[f32]) -> Result<()> {
        self.put_with(id, vector, None)
    }

    /// As [`put`](Self::put), with a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn put_with(&self, id: impl AsId, vector: &[f32], durability: Option<Durability>) -> Result<()> {
        self.write(&[Op::Put { id: id.as_id(), vector, document: Document::Keep }], durability)
    }

    /// Stores a vector and a JSON document under an id, or replaces both.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDocument`] if `document` is not one JSON value; else as [`put_many`](Self::put_many).
    pub fn put_with_document(&self, id: impl AsId, vector: &[f32], document: &str) -> Result<()> {
        self.write(&[Op::Put { id: id.as_id(), vector, document: Document::Json(document) }], None)
    }

    /// Stores a batch, all or nothing: `vectors` holds `ids.len()` rows of `dim` components, one after the other. Of an
    /// id that comes twice the last row counts.
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`], [`Error::NonFinite`], [`Error::InvalidId`], [`Error::IdKindMismatch`],
    /// [`Error::BatchTooLarge`]: nothing of the batch is stored. [`Error::NoSpace`] and [`Error::Io`]: `kept` says whether
    /// the batch is accepted, kept in the buffer and tried again. A call that only finds an earlier failure of the
    /// background is not accepted; one with [`Durability::Sync`] that fails itself mostly is.
    /// [`Error::WriteFailed`], [`Error::SyncFailed`], [`Error::Panicked`] and [`Error::Poisoned`]: writing stops, reopen
    /// the store.
    pub fn put_many(&self, ids: &[impl AsId], vectors: &[f32]) -> Result<()> {
        self.put_many_with(ids, vectors, &[], None)
    }

    /// As [`put_many`](Self::put_many), with what becomes of the document of each row (none of them changes if `documents`
    /// is empty), and a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`put_with_document`](Self::put_with_document).
    pub fn put_many_with(
        &self,
        ids: &[impl AsId],
        vectors: &[f32],
        documents: &[Document<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        let dim = self.dim();
        let fits = ids.len().checked_mul(dim) == Some(vectors.len());
        if !fits || (!documents.is_empty() && documents.len() != ids.len()) {
            return Err(Error::CountMismatch { ids: ids.len(), components: vectors.len(), dim });
        }
        let ids: Vec<IdRef<'_>> = ids.iter().map(AsId::as_id).collect();
        let lines = one_line_each(documents)?;
        let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
        self.write_batch(Batch::Rows { ids: &ids, vectors, documents: &lines, dim }, durability)
    }

    /// Stores the rows of a source, of `dim` components, under their ids, with what becomes of the document of each; none
    /// of them changes if `documents` is empty.
    /// Everything is checked before the first byte is written. Up to 1 GiB and 4,194,304 rows make one batch, all or
    /// nothing; more becomes consecutive batches.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`put_with_document`](Self::put_with_document); [`Error::NonFinite`] also if the source
    /// changed after it was checked: the batch that this is in is not stored then, nor any after it.
    pub fn put_rows(
        &self,
        ids: &[IdRef<'_>],
        source: &dyn RowSource,
        dim: usize,
        documents: &[Document<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        let source = Fenced::new(source);
        let outcome = self.put_fenced_rows(ids, &source, dim, documents, durability);
        source.end(outcome)
    }

    /// Refuses what [`put_rows`](Self::put_rows) refuses in every store: for a caller that makes a store only for rows that
    /// it can take.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; else as [`put_rows`](Self::put_rows).
    #[doc(hidden)]
    pub fn check_rows(
        ids: &[IdRef<'_>],
        source: &dyn RowSource,
        dim: usize,
        documents: &[Document<&str>],
    ) -> Result<()> {
        check_dim(u32::try_from(dim).unwrap_or(u32::MAX))?;
        let Some(kind) = ids.first().map(IdRef::kind) else { return Ok(()) };
        let lines = one_line_each(documents)?;
        let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
        let source = Fenced::new(source);
        Batch::Copied { ids, source: &source, documents: &lines, dim }.check_content(dim, kind)?;
        batch::parts(ids, &lines, dim)?;
        let checked = batch::check_source(&source, ids.len(), dim, parallel::limit(0));
        source.end(checked)
    }

    fn put_fenced_rows(
        &self,
        ids: &[IdRef<'_>],
        source: &Fenced<'_>,
        dim: usize,
        documents: &[Document<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        if !documents.is_empty() && documents.len() != ids.len() {
            return Err(Error::CountMismatch { ids: ids.len(), components: documents.len() * dim, dim });
        }
        let lines = one_line_each(documents)?;
        let lines: Vec<_> = lines.iter().map(Document::as_deref).collect();
        let Some(kind) = ids.first().map(IdRef::kind) else { return self.write(&[], durability) };
        let all = Batch::Copied { ids, source, documents: &lines, dim };
        let engine = self.engine()?;
        all.check_content(engine.schema.dim as usize, kind)?;
        if all.bytes() <= engine.settings.buffer_bytes / 4 {
            let mut vectors = Vec::with_capacity(ids.len() * dim);
            copy_in_pieces(source, ids.len(), dim, |rows| {
                vectors.extend_from_slice(rows);
                Ok(())
            })?;
            return self
                .write_batch(Batch::Rows { ids, vectors: &vectors, documents: &lines, dim }, durability);
        }
        batch::check_source(source, ids.len(), dim, parallel::limit(self.threads))?;
        let durability = durability.unwrap_or(engine.settings.durability);
        for rows in batch::parts(ids, &lines, dim)? {
            let source = &batch::Behind { source, first: rows.start };
            let documents = lines.get(rows.clone()).unwrap_or_default();
            engine.write(Batch::Copied { ids: &ids[rows], source, documents, dim }, kind, durability)?;
        }
        Ok(())
    }

    // ---- documents ----

    /// Changes the document of an id, and not its vector. [`Document::None`] removes it.
    ///
    /// # Errors
    ///
    /// As [`put_documents`](Self::put_documents).
    pub fn put_document(&self, id: impl AsId, document: Document<&str>) -> Result<()> {
        self.put_documents(&[id], &[document], None)
    }

    /// Changes the documents of several ids, and not their vectors: one batch, all or nothing, at one place in the order of
    /// writing. Of an id that comes twice the last document counts. `None`: the store's own durability.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownIds`] names all ids that are not there; [`Error::InvalidDocument`]; [`Error::Corrupt`] if a row is
    /// not what was written; [`Error::BatchTooLarge`]: nothing of the batch is stored. Else as
    /// [`put_many`](Self::put_many).
    pub fn put_documents(
        &self,
        ids: &[impl AsId],
        documents: &[Document<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        self.change_documents(ids, documents, false, durability)
    }

    /// As [`put_documents`](Self::put_documents), but each JSON value is merged into the stored document as RFC 7396 says:
    /// members that it has take the place of those stored, `null` removes one, objects are merged in turn, anything else
    /// is replaced as a whole. An id without a document has an empty object.
    ///
    /// # Errors
    ///
    /// As [`put_documents`](Self::put_documents); [`Error::NotAnObject`] if an object is to be merged into a document that
    /// is none.
    pub fn update_documents(
        &self,
        ids: &[impl AsId],
        documents: &[Document<&str>],
        durability: Option<Durability>,
    ) -> Result<()> {
        self.change_documents(ids, documents, true, durability)
    }

    fn change_documents(
        &self,
        ids: &[impl AsId],
        documents: &[Document<&str>],
        merges: bool,
        durability: Option<Durability>,
    ) -> Result<()> {
        let engine = self.engine()?;
        if ids.len() != documents.len() {
            return Err(Error::CountMismatch { ids: ids.len(), components: documents.len(), dim: 1 });
        }
        let ids: Vec<IdRef<'_>> = ids.iter().map(AsId::as_id).collect();
        ids.iter().enumerate().try_for_each(|(row, id)| id.check(row))?;
        let lines = one_line_each(documents)?;
        let durability = durability.unwrap_or(engine.settings.durability);
        engine.change_documents(&ids, &lines, merges, durability)
    }

    /// Writes puts and deletes as one batch, all or nothing. `None`: the store's own durability.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn write(&self, ops: &[Op<'_>], durability: Option<Durability>) -> Result<()> {
        let gives = |op: &Op<'_>| matches!(op, Op::Put { document: Document::Json(_), .. });
        if !ops.iter().any(gives) {
            return self.write_batch(Batch::Ops(ops), durability);
        }
        let lines = batch::lines_of(ops)?;
        self.write_batch(Batch::Ops(&batch::with_lines(ops, &lines)), durability)
    }

    fn write_batch(&self, batch: Batch<'_>, durability: Option<Durability>) -> Result<()> {
        let engine = self.engine()?;
        batch.check(engine.schema.dim as usize, None)?;
        let durability = durability.unwrap_or(engine.settings.durability);
        let Some(kind) = batch.kind() else {
            engine.buffer.lock().check_writable()?;
            return engine.finish_write(engine.accepted()?, durability);
        };
        engine.write(batch, kind, durability)
    }

    /// Deletes an id; `false` if it was not there, and nothing is written then. With [`Durability::Sync`] it returns when
    /// that is durable: what deleted the id before may still be on its way to the disk.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete(&self, id: impl AsId) -> Result<bool> {
        Ok(self.delete_many(&[id])? == 1)
    }

    /// Deletes several ids in one batch; returns how many were there.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete_many(&self, ids: &[impl AsId]) -> Result<usize> {
        self.delete_many_with(ids, None)
    }

    /// As [`delete_many`](Self::delete_many), with a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many).
    pub fn delete_many_with(&self, ids: &[impl AsId], durability: Option<Durability>) -> Result<usize> {
        let engine = self.engine()?;
        let ops: Vec<Op<'_>> = ids.iter().map(Op::delete).collect();
        Batch::Ops(&ops).check(0, None)?;
        engine.delete(ops, durability.unwrap_or(engine.settings.durability))
    }

    /// Deletes every id that a filter selects; returns how many there were. One batch, which counts wholly or not at all,
    /// with all that match at its place in the order of writing: what other threads write meanwhile comes before it, and
    /// is looked at, or after it, and stays. More than [`MAX_BATCH_RECORDS`](crate::MAX_BATCH_RECORDS) ids, or ids of more
    /// than [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES), are several batches. `None`: the store's own durability.
    ///
    /// Other writers wait only while what was written since the first look is looked at.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`ids_where`](Self::ids_where). Batches before the one that failed stay.
    pub fn delete_where(&self, filter: &Filter, durability: Option<Durability>) -> Result<usize> {
        let engine = self.engine()?;
        engine.delete_where(filter, durability.unwrap_or(engine.settings.durability), self.threads)
    }

    /// Returns when everything accepted before is durable. Writers and readers go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`]: nothing is lost yet; free some space and flush again. [`Error::SyncFailed`] and
    /// [`Error::WriteFailed`]: whether what was written since the last flush survives is unknown; reads show the last
    /// durable state, writing stops, reopen the store. [`Error::StoreMoved`], [`Error::LockRemoved`]: writing stops, and
    /// what was accepted is in the store where it is now, as far as its growing segment has room. [`Error::Io`] if nobody
    /// can tell whether it was moved: flush again.
    pub fn flush(&self) -> Result<()> {
        self.engine()?.flush()
    }

    /// A future that ends when everything accepted before this call is durable. It needs no particular runtime: the
    /// store's own threads do the work. Dropping it cancels nothing.
    pub fn flush_async(&self) -> Flush {
        let target = |engine: &Arc<Engine>| engine.accepted().map(|target| (engine.clone(), target));
        Flush { engine: self.engine().and_then(target) }
    }
}

/// See [`VectorStore::flush_async`].
#[derive(Debug)]
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
