//! What only reads a store.

use super::{Role, VectorStore};
use crate::buffer::{self, Chunk};
use crate::engine::Buffered;
use crate::maintain::stats::{self, Stats};
use crate::maintain::verify::{self, VerifyReport};
use crate::query::search::Hits;
use crate::query::snapshot::Snapshot;
use crate::segment::version::{At, Version, VersionCell};
use crate::types::config::Metric;
use crate::types::error::Result;
use crate::types::id::{AsId, IdKind, IdRef};
use crate::types::recovery::RecoveryReport;
use arc_swap::Guard;
use std::path::Path;
use std::sync::Arc;

/// What a look at an id found.
pub(super) enum FoundIn<T> {
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
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put("a", &[0.0, 1.0])?;
    /// let before = store.snapshot()?;
    /// store.delete("a")?;
    /// assert!(before.contains("a")? && !store.contains("a")?);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Corrupt`](crate::Error::Corrupt) if the ids of buffered writes cannot
    /// be looked up.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let snapshot = match &self.role {
            Role::Writer(engine) if engine.is_forked() => self.forked_snapshot(&engine.published),
            Role::Writer(engine) => engine.snapshot(),
            Role::Reader(reader) if reader.is_forked() => self.forked_snapshot(&reader.published),
            Role::Reader(reader) => Ok(reader.snapshot()),
        };
        Ok(snapshot?.with_defaults(self.threads, self.recall_target))
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

    /// Moves a read-only handle on to what is durable now; true if it shows anything else than before. Reads only what
    /// was appended since, as long as it is the same store. Where another one stands at the path by now (made anew,
    /// moved there, restored from a backup), it opens that one: dimension, metric and kind of the ids are that one's
    /// from then on, all at one moment, and its state may be an older one. Snapshots stay as they are. A handle that
    /// writes is always up to date.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use vecstone::VectorStore;
    ///
    /// let reader = VectorStore::open_read_only(store.path())?; // in another process, mostly
    /// store.put("a", &[0.0, 1.0])?;
    /// store.flush()?;
    /// assert!(!reader.contains("a")?);
    /// assert!(reader.refresh()? && reader.contains("a")?);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
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

    /// The name that [`set_embed_name`](Self::set_embed_name) was given; `None` without. A read-only handle moves on with
    /// [`refresh`](Self::refresh).
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn embed_name(&self) -> Result<Option<String>> {
        Ok(self.snapshot()?.files().sections.embed_name())
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
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put("a", &[0.0, 1.0])?;
    /// assert_eq!(store.get("a")?, Some(vec![0.0, 1.0]));
    /// assert_eq!(store.get("b")?, None);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if the stored bytes are not what was written;
    /// [`Error::Io`](crate::Error::Io).
    pub fn get(&self, id: impl AsId) -> Result<Option<Vec<f32>>> {
        let id = id.as_id();
        match self.look_up(id, |chunk, op| chunk.vector(op).map(<[f32]>::to_vec))? {
            FoundIn::Buffer(found) => Ok(found),
            FoundIn::Files(version, at) => version.read(at).map(Some),
            FoundIn::Ask(snapshot) => snapshot.get(id),
        }
    }

    /// Looks an id up without a snapshot, which would take the whole buffer: in the buffer, else in the files.
    pub(super) fn look_up<T>(
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

    /// The `k` ids nearest to `query` in the store's metric, nearest first; the older of two at the same distance.
    /// Exact. O(rows * dim) on all cores.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// let hits = store.search(&[0.0, 0.9], 1)?;
    /// assert_eq!(hits[0].id, "a");
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`](crate::Error::DimensionMismatch), [`Error::NonFinite`](crate::Error::NonFinite);
    /// [`Error::Corrupt`](crate::Error::Corrupt) if a result is not what was written.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Hits> {
        self.snapshot()?.search(query, k)
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

    /// From how many rows without codes the background makes them; see
    /// [`OpenOptions::auto_optimize_rows`](crate::OpenOptions::auto_optimize_rows).
    pub fn auto_optimize_rows(&self) -> u64 {
        match &self.role {
            Role::Reader(reader) => reader.published.load().auto_optimize_rows(),
            Role::Writer(engine) => engine.published.load().auto_optimize_rows(),
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

    /// Checks every byte that counts: MANIFEST, the logs with their chains, every row, every document, every list of
    /// dead rows, and the indexes beside them. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) for what says nothing of the bytes (no permission, say). Damage is in the report,
    /// not an error; so are bytes that the disk cannot read.
    pub fn verify(&self) -> Result<VerifyReport> {
        let snapshot = self.snapshot()?;
        verify::verify_version(&snapshot.files().dir, &snapshot)
    }
}
