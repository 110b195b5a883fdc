//! What only reads a store.

use super::{Role, VectorStore};
use crate::buffer::{self, Chunk};
use crate::engine::Buffered;
use crate::maintain::stats::{self, Stats};
use crate::maintain::verify::{self, VerifyReport};
use crate::query::batch_get::{self, check_rows};
use crate::query::filter::Filter;
use crate::query::search::{Hits, SearchOptions};
use crate::query::snapshot::{Iter, Snapshot};
use crate::segment::version::{At, Version, VersionCell, check_len};
use crate::sys::parallel;
use crate::types::config::Metric;
use crate::types::document::Document;
use crate::types::error::Result;
use crate::types::id::{AsId, Id, IdKind, IdRef};
use crate::types::recovery::RecoveryReport;
use arc_swap::Guard;
use std::path::Path;
use std::sync::Arc;

/// What a look at an id found.
enum FoundIn<T> {
    /// What the buffer says; `None` if the id is not there, in the files neither.
    Buffer(Option<T>),
    /// A row of the files.
    Files(Guard<Arc<Version>>, At),
    /// This handle has no buffer: its snapshot knows.
    Ask(Snapshot),
}

impl VectorStore {
    /// The store as it is now, for as long as you keep it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Corrupt`](crate::Error::Corrupt) if the ids of buffered writes cannot be looked up.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let snapshot = match &self.role {
            Role::Writer(engine) if engine.is_forked() => self.forked_snapshot(&engine.published),
            Role::Writer(engine) => engine.snapshot(),
            Role::Reader(reader) if reader.is_forked() => self.forked_snapshot(&reader.published),
            Role::Reader(reader) => Ok(reader.snapshot()),
        };
        Ok(snapshot?.with_threads(self.threads))
    }

    /// What was published before the fork, with tables of this process: those of the parent may be locked for ever.
    fn forked_snapshot(&self, published: &VersionCell) -> Result<Snapshot> {
        if let Some(snapshot) = self.forked.get() {
            return Ok(snapshot.clone());
        }
        let version = published.get();
        let version = version.detached()?;
        let snapshot = Snapshot::new(version.kind, Arc::new(version));
        Ok(self.forked.get_or_init(|| snapshot).clone())
    }

    /// Moves a read-only handle on to what is durable now; true if it shows anything else than before. Reads only what was
    /// appended since, as long as it is the same store. Where another one stands at the path by now (made anew, moved
    /// there, restored from a backup), it opens that one: dimension, metric and kind of the ids are that one's from then on,
    /// all at one moment, and its state may be an older one. Snapshots stay as they are. A handle that writes is always up
    /// to date.
    ///
    /// # Errors
    ///
    /// As [`open_read_only`](Self::open_read_only); the handle goes on showing what it showed before.
    pub fn refresh(&self) -> Result<bool> {
        match &self.role {
            Role::Reader(reader) => reader.refresh(),
            Role::Writer(_) => Ok(false),
        }
    }

    /// The store's attributes, a JSON object that [`set_attributes`](Self::set_attributes) was given; `None` without. A
    /// read-only handle moves on with [`refresh`](Self::refresh).
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn attributes(&self) -> Result<Option<String>> {
        Ok(self.snapshot()?.attributes().map(str::to_owned))
    }

    /// The vector of an id, its checksum checked; `None` if the id is not there. O(segments), one system call.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if the stored bytes are not what was written; [`Error::Io`](crate::Error::Io).
    pub fn get(&self, id: impl AsId) -> Result<Option<Vec<f32>>> {
        let id = id.as_id();
        match self.look_up(id, |chunk, op| chunk.vector(op).map(<[f32]>::to_vec))? {
            FoundIn::Buffer(found) => Ok(found),
            FoundIn::Files(version, at) => version.read(at).map(Some),
            FoundIn::Ask(snapshot) => snapshot.get(id),
        }
    }

    /// As [`get`](Self::get), into memory of the caller: `out` has `dim` components. False, and `out` as it was, if the id
    /// is not there; after an error `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch) if `out` is not as long as a vector; else as [`get`](Self::get).
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

    /// Looks an id up without a snapshot, which would take the whole buffer: in the buffer, else in the files.
    fn look_up<T>(
        &self,
        id: IdRef<'_>,
        in_buffer: impl FnOnce(&Chunk, &buffer::Op) -> Option<T>,
    ) -> Result<FoundIn<T>> {
        let engine = match &self.role {
            Role::Writer(engine) if !engine.is_forked() => engine,
            _ => return Ok(FoundIn::Ask(self.snapshot()?)),
        };
        let (bytes, hash) = (id.as_bytes(), engine.schema.hasher().hash(id.as_bytes()));
        match engine.in_buffer(hash, id, in_buffer) {
            Buffered::Put(found) => return Ok(FoundIn::Buffer(Some(found))),
            Buffered::Deleted => return Ok(FoundIn::Buffer(None)),
            Buffered::Nothing => {}
        }
        // Loaded after the look at the buffer: what left it before is in here.
        let version = engine.published.load();
        if version.kind != Some(id.kind()) {
            return Ok(FoundIn::Buffer(None));
        }
        Ok(version.find(hash, bytes)?.map_or(FoundIn::Buffer(None), |at| FoundIn::Files(version, at)))
    }

    /// The vectors of several ids, in their order; `None` for those that are not there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many(&self, ids: &[impl AsId]) -> Result<Vec<Option<Vec<f32>>>> {
        match &self.role {
            // All of one moment, whoever refreshes meanwhile.
            Role::Reader(_) => self.snapshot()?.get_many(ids),
            Role::Writer(_) => ids.iter().map(|id| self.get(id)).collect(),
        }
    }

    /// The vectors of many ids, in memory of the caller: `out` holds a row of `dim` components for each id, in their order.
    /// `missing` is told, in order, the place of each id that is not there; its row stays as it was. Rows are copied from
    /// the mapping, not by read calls, and the copies are checked; on several cores where there are many. After an error
    /// `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`](crate::Error::CountMismatch) if `out` is not as long as its rows; else as [`get`](Self::get).
    pub fn get_many_into(
        &self,
        ids: &[impl AsId],
        out: &mut [f32],
        missing: impl FnMut(usize),
    ) -> Result<()> {
        let Role::Writer(engine) = &self.role else {
            return self.snapshot()?.get_many_into(ids, out, missing);
        };
        if engine.is_forked() {
            return self.snapshot()?.get_many_into(ids, out, missing);
        }
        let dim = self.dim();
        let ids = &check_rows(ids, dim, out)?;
        let limit = parallel::limit(self.threads);
        batch_get::read(ids, dim, out, limit, |ids, out| engine.get_few(ids, out), missing)
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

    /// Whether an id is there. O(segments).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) and [`Error::Corrupt`](crate::Error::Corrupt) if that cannot be found out.
    pub fn contains(&self, id: impl AsId) -> Result<bool> {
        let id = id.as_id();
        match self.look_up(id, |_, op| op.is_put().then_some(()))? {
            FoundIn::Buffer(found) => Ok(found.is_some()),
            FoundIn::Files(..) => Ok(true),
            FoundIn::Ask(snapshot) => snapshot.contains(id),
        }
    }

    /// Number of ids.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn len(&self) -> Result<usize> {
        Ok(self.snapshot()?.len())
    }

    /// True if there is no id.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.snapshot()?.is_empty())
    }

    /// Ids and vectors in the order of writing, as they are now: later writes do not show.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot); each item tells of its own.
    pub fn iter(&self) -> Result<Iter> {
        Ok(self.snapshot()?.iter())
    }

    /// The `k` ids nearest to `query` in the store's metric, nearest first; the older of two at the same distance. Exact.
    /// O(rows * dim) on all cores.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch), [`Error::NonFinite`](crate::Error::NonFinite); [`Error::Corrupt`](crate::Error::Corrupt) if a result is not what was written.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Hits> {
        self.snapshot()?.search(query, k)
    }

    /// As [`search`](Self::search), with a filter, a radius, vectors or documents.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::search_with`].
    pub fn search_with(&self, query: &[f32], k: usize, options: &SearchOptions) -> Result<Hits> {
        self.snapshot()?.search_with(query, k, options)
    }

    /// The same as [`search_with`](Self::search_with) with each of several queries, in their order, and faster: `queries`
    /// holds *n* rows of `dim` components, one after the other. All see the store at one moment. See
    /// [`Snapshot::search_many`].
    ///
    /// # Errors
    ///
    /// As [`Snapshot::search_many`].
    pub fn search_many(&self, queries: &[f32], k: usize, options: &SearchOptions) -> Result<Vec<Hits>> {
        self.snapshot()?.search_many(queries, k, options)
    }

    /// The ids that a filter selects, in the order of writing. O(documents) on all cores, or O(ids).
    ///
    /// # Errors
    ///
    /// As [`Snapshot::ids_where`].
    pub fn ids_where(&self, filter: &Filter) -> Result<Vec<Id>> {
        self.snapshot()?.ids_where(filter)
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        let dim = match &self.role {
            Role::Writer(engine) => engine.schema.dim,
            Role::Reader(reader) => reader.published.load().schema.dim,
        };
        dim as usize
    }

    /// How distances are measured.
    pub fn metric(&self) -> Metric {
        match &self.role {
            Role::Reader(reader) => reader.published.load().schema.metric,
            Role::Writer(engine) => engine.schema.metric,
        }
    }

    /// Kind of the ids; `None` before the first write.
    pub fn kind(&self) -> Option<IdKind> {
        match &self.role {
            Role::Writer(engine) if engine.is_forked() => engine.published.load().kind,
            Role::Writer(engine) => engine.buffer.lock().kind,
            Role::Reader(reader) => reader.published.load().kind,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What opening found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Rows, bytes on the disk and bytes in memory. O(pages of the mapped files).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if a file cannot be looked at.
    pub fn stats(&self) -> Result<Stats> {
        let engine = self.engine().ok().map(Arc::as_ref);
        let snapshot = self.snapshot()?;
        stats::stats(&snapshot.files().dir, &snapshot, engine)
    }

    /// Checks every byte that counts: MANIFEST, the logs with their chains, every row, every document, every list of dead
    /// rows, and the indexes beside them. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) for what says nothing of the bytes (no permission, say). Damage is in the report,
    /// not an error; so are bytes that the disk cannot read.
    pub fn verify(&self) -> Result<VerifyReport> {
        let snapshot = self.snapshot()?;
        verify::verify_view(&snapshot.files().dir, &snapshot)
    }
}
