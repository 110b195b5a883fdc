//! What only the Python package and the command line of this repository call. No part of the interface: any release may
//! change it, or take it away. Hidden from the documentation, since a Rust program is better served by the rest.

use super::read::FoundIn;
use super::{Role, VectorStore};
use crate::buffer::batch::{self, Batch, Fenced, Op, RowSource, copy_in_pieces};
use crate::engine::OpenedEngine;
use crate::open::unfinished::{self, Call};
use crate::pair::files::{new_identity, random};
use crate::query::batch_get;
use crate::query::filter::Filter;
use crate::segment::Lookup;
use crate::segment::version::check_len;
use crate::sys::disk::{Disk, OsDisk};
use crate::sys::parallel;
use crate::types::config::{Metric, check_dim};
use crate::types::document::{Document, one_line_each};
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, IdRef};
use crate::types::options::{Durability, OpenOptions};
use std::path::Path;
use std::sync::Arc;

#[doc(hidden)]
impl VectorStore {
    /// Makes a store at `path` that is filled from another source in one go: it counts once [`finish`](Self::finish) has
    /// returned `Ok`. Until then opening it is [`Error::Unfinished`]; the same call starts over.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_unfinished(path: impl AsRef<Path>, dim: u32, metric: Metric) -> Result<VectorStore> {
        check_dim(dim)?;
        let identity = new_identity(random()?, 1)?;
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::default());
        let (dir, lock) = unfinished::begin(&disk, path.as_ref(), Call::Migration, identity.uuid)?;
        let options = OpenOptions::default();
        let opened = OpenedEngine::create(dir, lock, dim, metric, identity, &options)?;
        Ok(Self::writer(opened, &options))
    }

    /// Closes a store that was made by [`create_unfinished`](Self::create_unfinished): from here on it is one.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close); [`Error::Io`] if the mark cannot be removed.
    pub fn finish(self) -> Result<()> {
        self.close_in_place()?;
        // Under the lock, which goes with `self`.
        self._lock.as_ref().map_or(Ok(()), |lock| unfinished::finish(lock.dir()))
    }

    /// Stores the rows of a source, of `dim` components, under their ids, with what becomes of the document of each;
    /// none of them changes if `documents` is empty. Everything is checked before the first byte is written. Up to 1 GiB
    /// and 4,194,304 rows make one batch, all or nothing; more becomes consecutive batches.
    ///
    /// # Errors
    ///
    /// As [`put_many`](Self::put_many) and [`put_with_document`](Self::put_with_document); [`Error::NonFinite`] also if
    /// the source changed after it was checked: the batch that this is in is not stored then, nor any after it.
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

    /// Refuses what [`put_rows`](Self::put_rows) refuses in every store: for a caller that makes a store only for rows
    /// that it can take.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDim`]; else as [`put_rows`](Self::put_rows).
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
        let all = Batch::Copied { ids, source: &source, documents: &lines, dim };
        all.check_numbers()?;
        all.check_content(dim, kind)?;
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
        let Some(kind) = ids.first().map(IdRef::kind) else {
            return self.write_batch(Batch::Ops(&[]), durability);
        };
        let all = Batch::Copied { ids, source, documents: &lines, dim };
        let engine = self.engine()?;
        all.check_numbers()?;
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

    /// As [`delete_where`](Self::delete_where), with a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As [`delete_where`](Self::delete_where).
    pub fn delete_where_with(&self, filter: &Filter, durability: Option<Durability>) -> Result<usize> {
        let engine = self.engine()?;
        engine.delete_where(filter, durability.unwrap_or(engine.settings.durability), self.threads)
    }

    /// As [`put_documents`](Self::put_documents), or as [`update_documents`](Self::update_documents) if it `merges`,
    /// with a durability of its own (`None`: the store's).
    ///
    /// # Errors
    ///
    /// As those.
    pub fn change_documents(
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

    /// As [`write`](Self::write) of one put or delete with [`Durability::Buffered`](crate::Durability::Buffered), if
    /// that need not wait for a lock, for room in the buffer or for the disk; else `None`, and nothing is written. The
    /// first write of a store is not for this call: it makes files, or starts threads.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn try_write(&self, op: &Op<'_>) -> Result<Option<()>> {
        let engine = self.engine()?;
        let (ops, line);
        let op = match *op {
            Op::Put { id, vector, document } => {
                line = document.one_line(0)?;
                Op::Put { id, vector, document: line.as_deref() }
            }
            op => op,
        };
        ops = [op];
        let batch = Batch::Ops(&ops);
        batch.check(engine.schema.dim as usize, None)?;
        batch.check_numbers()?;
        engine.try_write(&op, batch.bytes())
    }

    /// As [`get`](Self::get), into memory of the caller: `out` has `dim` components. False, and `out` as it was, if the
    /// id is not there; after an error `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) if `out` is not as long as a vector; else as
    /// [`get`](Self::get).
    pub fn get_into(&self, id: impl AsId, out: &mut [f32]) -> Result<bool> {
        if let Role::Reader(_) = &self.role {
            return self.snapshot()?.get_into(id, out);
        }
        check_len(self.dim(), out)?;
        let id = id.as_id();
        match self.look_up(id, |chunk, op| chunk.vector(op).map(|vector| out.copy_from_slice(vector)))? {
            FoundIn::Buffer(found) => Ok(found.is_some()),
            FoundIn::Files(version, at) => version.read_into(at, out).map(|()| true),
            FoundIn::Ask(snapshot) => snapshot.get_into(id, out),
        }
    }

    /// The vectors of many ids, in memory of the caller: `out` holds a row of `dim` components for each id, in their
    /// order. `missing` is told, in order, the place of each id that is not there; its row stays as it was. Rows are
    /// copied from the mapping, not by read calls, and the copies are checked; on several cores where there are many.
    /// After an error `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`](crate::Error::CountMismatch) if `out` is not as long as its rows; else as
    /// [`get`](Self::get).
    pub fn get_many_into(
        &self,
        ids: &[impl AsId],
        out: &mut [f32],
        missing: impl FnMut(usize),
    ) -> Result<()> {
        match &self.role {
            Role::Writer(engine) if !engine.is_forked() => {
                let few = |ids: &[IdRef<'_>], out: &mut [f32]| engine.get_few(ids, out);
                batch_get::read(ids, self.dim(), out, self.threads, few, missing)
            }
            _ => self.snapshot()?.get_many_into(ids, out, missing),
        }
    }

    /// The JSON document of an id, checked; `None` if the id or its document is not there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_document(&self, id: impl AsId) -> Result<Option<String>> {
        let id = id.as_id();
        let engine = match &self.role {
            Role::Writer(engine) if !engine.is_forked() => engine,
            _ => return self.snapshot()?.get_document(id),
        };
        let (bytes, hash) = (id.as_bytes(), engine.schema.hasher().hash(id.as_bytes()));
        match engine.document_in_buffer(hash, id) {
            None | Some(Document::Keep) => {}
            Some(document) => return Ok(document.json()),
        }
        // Loaded after the look at the buffer: what left it before is in here.
        let version = engine.published.load();
        if version.kind != Some(id.kind()) {
            return Ok(None);
        }
        let Some(at) = version.find(hash, bytes)? else { return Ok(None) };
        version.segments[at.segment].segment.document(at.row.into())
    }

    /// As [`get_into`](Self::get_into), if that need not wait for a lock or for the disk; else `None`, and `out` holds
    /// nothing to rely on. Opens and rebuilds nothing: `None` where the ids of a segment were not looked at yet. Pages
    /// of mapped files that are not in memory are the one thing that it waits for: each is read once.
    ///
    /// # Errors
    ///
    /// As [`get_into`](Self::get_into).
    pub fn try_get_into(&self, id: impl AsId, out: &mut [f32]) -> Result<Option<bool>> {
        let id = id.as_id();
        let bytes = id.as_bytes();
        let version = match &self.role {
            Role::Writer(engine) if !engine.is_forked() => {
                check_len(engine.schema.dim as usize, out)?;
                let hash = engine.schema.hasher().hash(bytes);
                match engine.try_buffer(hash, id, |vector| out.copy_from_slice(vector)) {
                    Lookup::WouldBlock => return Ok(None),
                    Lookup::Found(is_put) => return Ok(Some(is_put)),
                    Lookup::Absent => engine.published.load(),
                }
            }
            Role::Reader(reader) if !reader.is_forked() => reader.published.load(),
            _ => return Ok(None),
        };
        check_len(version.schema.dim as usize, out)?;
        let hash = version.schema.hasher().hash(bytes);
        if version.kind != Some(id.kind()) {
            return Ok(Some(false));
        }
        match version.try_find(hash, bytes)? {
            Lookup::WouldBlock => Ok(None),
            Lookup::Absent => Ok(Some(false)),
            Lookup::Found(at) => {
                let read = version.segments[at.segment].segment.read_cached_row(at.row.into(), out)?;
                Ok(read.then_some(true))
            }
        }
    }
}
