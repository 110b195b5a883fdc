//! A store at one moment: everything that only reads.

use crate::buffer;
use crate::query::batch_get::{self, Missing};
use crate::query::distance::to_public;
use crate::query::explain::Explain;
use crate::query::filter::Filter;
use crate::query::scan::{Found, SearchRequest, nearest};
use crate::query::search::{Candidate, Hits, Neighbor, Rows, SearchOptions};
use crate::query::select::select;
use crate::segment::PREFETCH_WIDTH;
use crate::segment::version::{At, Version, check_len};
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::sys::sync::Instant;
use crate::types::config::Metric;
use crate::types::document::Document;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, Id, IdKind, IdRef};
use crate::types::memory::check_memory;
use crate::types::schema::Schema;
use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of vectors for which memory is asked at a time.
const AT_ONCE: usize = 64 << 20;

/// An unchanging state of a store: all that reads. Later writes, compaction, and closing the store do not touch it;
/// the files it reads are kept as long as it lives. Taking one costs what was buffered since the last one; cloning it
/// is cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    schema: Schema,
    kind: Option<IdKind>,
    /// Rows that the buffer replaces or deletes are dead in it.
    version: Arc<Version>,
    /// The same without regard to the buffer: puts in there may keep documents of rows that they replace.
    base: Arc<Version>,
    buffered: buffer::BufferSnapshot,
    /// As [`OpenOptions::threads`](crate::OpenOptions::threads) says.
    threads: usize,
    /// As [`OpenOptions::recall_target`](crate::OpenOptions::recall_target) says; 1 is exact.
    recall_target: f32,
}

/// Where a row of a snapshot is.
enum Place<'a> {
    Buffer(u64, &'a buffer::Chunk, &'a buffer::Op),
    File(At),
}

impl Snapshot {
    /// `kind`: that of the store's ids, which the buffer may know before the files do.
    pub(crate) fn new(kind: Option<IdKind>, version: Arc<Version>) -> Snapshot {
        Self::with_buffer(kind, version.clone(), version, buffer::BufferSnapshot::default())
    }

    /// `base`: the files; `version`: without the rows that the buffer replaces or deletes.
    pub(crate) fn with_buffer(
        kind: Option<IdKind>,
        base: Arc<Version>,
        version: Arc<Version>,
        buffered: buffer::BufferSnapshot,
    ) -> Snapshot {
        Snapshot { schema: version.schema, kind, version, base, buffered, threads: 0, recall_target: 1.0 }
    }

    /// With so many threads for each search, 0: as many as the process may have; with the recall that one has to reach
    /// which says nothing of it.
    pub(crate) fn with_defaults(self, threads: usize, recall_target: f32) -> Snapshot {
        Snapshot { threads, recall_target, ..self }
    }

    /// With another recall for searches that say nothing of it: for handles that share an engine. Above 0 and at most 1.
    #[doc(hidden)]
    pub fn with_recall_target(self, recall_target: f32) -> Snapshot {
        Snapshot { recall_target, ..self }
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn files(&self) -> &Arc<Version> {
        &self.version
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.schema.dim as usize
    }

    /// How distances are measured.
    pub fn metric(&self) -> Metric {
        self.schema.metric
    }

    /// Kind of the ids; `None` before the first write.
    pub fn kind(&self) -> Option<IdKind> {
        self.kind
    }

    /// The store's attributes, a JSON object; `None` without.
    pub fn attributes(&self) -> Option<&str> {
        self.base.sections.attributes()
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        usize::try_from(self.version.live() + self.buffered.puts()).unwrap_or(usize::MAX)
    }

    /// True if there is no id.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, id: impl AsId) -> Result<Option<Place<'_>>> {
        let id = id.as_id();
        self.find_hashed(id, self.schema.hasher().hash(id.as_bytes()))
    }

    fn find_hashed(&self, id: IdRef<'_>, hash: u64) -> Result<Option<Place<'_>>> {
        if self.kind() != Some(id.kind()) {
            return Ok(None);
        }
        let bytes = id.as_bytes();
        if !self.buffered.is_empty()
            && let Some(found) = self.buffered.find(hash, bytes)
        {
            return Ok(found.op.is_put().then_some(Place::Buffer(found.number, found.chunk, found.op)));
        }
        Ok(self.version.find(hash, bytes)?.map(Place::File))
    }

    /// The vector of an id, its checksum checked; `None` if the id is not there. O(segments), one system call.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the stored bytes are not what was written; [`Error::Io`].
    pub fn get(&self, id: impl AsId) -> Result<Option<Vec<f32>>> {
        match self.find(id)? {
            None => Ok(None),
            Some(Place::Buffer(_, chunk, op)) => Ok(chunk.vector(op).map(<[f32]>::to_vec)),
            Some(Place::File(at)) => self.version.read(at).map(Some),
        }
    }

    /// As [`get`](Self::get), into memory of the caller: `out` has `dim` components. False, and `out` as it was, if the id
    /// is not there; after an error `out` holds nothing to rely on.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`] if `out` is not as long as a vector; else as [`get`](Self::get).
    pub fn get_into(&self, id: impl AsId, out: &mut [f32]) -> Result<bool> {
        check_len(self.dim(), out)?;
        match self.find(id)? {
            None => return Ok(false),
            Some(Place::Buffer(_, chunk, op)) => match chunk.vector(op) {
                Some(vector) => out.copy_from_slice(vector),
                None => return Ok(false),
            },
            Some(Place::File(at)) => self.version.read_into(at, out)?,
        }
        Ok(true)
    }

    /// The vectors of several ids, in their order.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// assert_eq!(store.snapshot()?.get_many(&["b", "c"])?, [Some(vec![1.0, 0.0]), None]);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many(&self, ids: &[impl AsId]) -> Result<Vec<Option<Vec<f32>>>> {
        check_memory((ids.len() as u64).saturating_mul(size_of::<Option<Vec<f32>>>() as u64))?;
        let (mut all, row) = (Vec::with_capacity(ids.len()), self.dim() * size_of::<f32>());
        // Vectors that are not there need none.
        for ids in ids.chunks(AT_ONCE.div_ceil(row)) {
            check_memory((ids.len() as u64).saturating_mul(row as u64))?;
            for id in ids {
                all.push(self.get(id)?);
            }
        }
        Ok(all)
    }

    /// The vectors of many ids, in memory of the caller: `out` holds a row of `dim` components for each id, in their order.
    /// `missing` is told, in order, the place of each id that is not there; its row stays as it was. Rows are copied from
    /// the mapping, not by read calls, and the copies are checked; on several cores where there are many. After an error
    /// `out` holds nothing to rely on.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// let (ids, mut matrix) = (["b", "c", "a"], vec![0.0; 3 * 2]);
    /// let mut missing = Vec::new();
    /// store.snapshot()?.get_many_into(&ids, &mut matrix, |n| missing.push(ids[n]))?;
    /// assert_eq!(matrix, [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    /// assert_eq!(missing, ["c"]);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::CountMismatch`] if `out` is not as long as its rows; else as [`get`](Self::get).
    pub fn get_many_into(
        &self,
        ids: &[impl AsId],
        out: &mut [f32],
        missing: impl FnMut(usize),
    ) -> Result<()> {
        batch_get::read(ids, self.dim(), out, self.threads, |ids, out| self.get_few(ids, out), missing)
    }

    fn get_few(&self, ids: &[IdRef<'_>], out: &mut [f32]) -> Result<Missing> {
        let dim = self.dim();
        let (mut places, mut missing, mut hashes) = ([None; PREFETCH_WIDTH], 0, [0; PREFETCH_WIDTH]);
        let hasher = self.schema.hasher();
        hashes.iter_mut().zip(ids).for_each(|(hash, id)| *hash = hasher.hash(id.as_bytes()));
        self.version.prefetch(hashes[..ids.len()].iter().copied());
        for (n, (id, out)) in ids.iter().zip(out.chunks_exact_mut(dim)).enumerate() {
            match self.find_hashed(*id, hashes[n])? {
                None => missing |= 1 << n,
                Some(Place::Buffer(_, chunk, op)) => match chunk.vector(op) {
                    Some(vector) => out.copy_from_slice(vector),
                    None => missing |= 1 << n,
                },
                Some(Place::File(at)) => places[n] = Some(at),
            }
        }
        self.version.copy(&places[..ids.len()], dim, out)?;
        Ok(missing)
    }

    /// The vector of an id where it lies: `dim` components, neither copied nor checked; `None` if the id is not there.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// let snapshot = store.snapshot()?;
    /// assert_eq!(snapshot.get_ref("a")?, Some(&[0.0f32, 1.0][..]));
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the files cannot be mapped.
    pub fn get_ref(&self, id: impl AsId) -> Result<Option<&[f32]>> {
        match self.find(id)? {
            None => Ok(None),
            Some(Place::Buffer(_, chunk, op)) => Ok(chunk.vector(op)),
            Some(Place::File(at)) => {
                let part = &self.version.segments[at.segment];
                let bytes = part.row_in(part.dat_map()?, at.row.into())?;
                Ok(self.schema.element.borrow(bytes))
            }
        }
    }

    /// The JSON document of an id, checked; `None` if the id or its document is not there.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_document(&self, id: impl AsId) -> Result<Option<String>> {
        match self.find(id)? {
            None => Ok(None),
            Some(Place::Buffer(number, ..)) => Ok(self.buffered_document(number)?.map(Cow::into_owned)),
            Some(Place::File(at)) => self.version.segments[at.segment].segment.document(at.row.into()),
        }
    }

    /// Whether an id is there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Corrupt`] if that cannot be found out.
    pub fn contains(&self, id: impl AsId) -> Result<bool> {
        Ok(self.find(id)?.is_some())
    }

    /// Ids and vectors in the order of writing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// for row in store.snapshot()?.iter() {
    ///     let (id, vector) = row?;
    ///     println!("{id}: {vector:?}");
    /// }
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    pub fn iter(&self) -> Iter {
        let buffered = self.puts().map(|(number, _, _)| number).collect::<Vec<_>>().into_iter();
        Iter { buffered, snapshot: self.clone(), segment: 0, row: 0 }
    }

    /// The puts of the buffer that count, with their numbers.
    fn puts(&self) -> impl Iterator<Item = (u64, &buffer::Chunk, &buffer::Op)> {
        self.buffered.latest().filter(|(_, _, op)| op.is_put())
    }

    /// The ids in the order of writing, without their vectors.
    pub fn ids(&self) -> impl Iterator<Item = Result<Id>> + Send + use<> {
        let mut rows = self.iter();
        std::iter::from_fn(move || {
            Some(match rows.advance()? {
                Next::File(at) => rows.snapshot.version.id(at),
                Next::Buffer(number) => {
                    let (chunk, op) = rows.snapshot.buffered.op(number);
                    Ok(rows.snapshot.buffered_id(chunk, op))
                }
            })
        })
    }

    /// As [`iter`](Self::iter), with the JSON document of each id that has one.
    pub fn iter_with_documents(
        &self,
    ) -> impl Iterator<Item = Result<(Id, Vec<f32>, Option<String>)>> + Send + use<> {
        let mut rows = self.iter();
        std::iter::from_fn(move || {
            let at = rows.advance()?;
            let document = match at {
                Next::File(at) => rows.snapshot.version.segments[at.segment].segment.document(at.row.into()),
                Next::Buffer(number) => {
                    rows.snapshot.buffered_document(number).map(|document| document.map(Cow::into_owned))
                }
            };
            Some(rows.read(at)?.and_then(|(id, vector)| Ok((id, vector, document?))))
        })
    }

    /// The `k` ids nearest to `query` in the store's metric, nearest first; the older of two at the same distance.
    /// Exact. O(rows * dim) on all cores.
    ///
    /// # Errors
    ///
    /// [`Error::DimensionMismatch`], [`Error::NonFinite`]; [`Error::Corrupt`] if a result is not what was written.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Hits> {
        self.search_with(query, k, &SearchOptions::default())
    }

    /// As [`search`](Self::search), with a filter, a radius, vectors or documents.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// use vecstone::SearchOptions;
    ///
    /// let options = SearchOptions::new().radius(0.5).with_vectors();
    /// let hits = store.snapshot()?.search_with(&[0.0, 0.9], 10, &options)?;
    /// assert_eq!((hits.len(), hits[0].vector.as_deref()), (1, Some(&[0.0, 1.0][..])));
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`search`](Self::search); [`Error::InvalidRadius`], [`Error::InvalidRecallTarget`],
    /// [`Error::ExactWithRecallTarget`]; [`Error::Corrupt`] if a document that the filter looks at is not what was written.
    pub fn search_with(&self, query: &[f32], k: usize, options: &SearchOptions) -> Result<Hits> {
        if query.len() != self.dim() {
            return Err(Error::DimensionMismatch { expected: self.dim(), found: query.len() });
        }
        Ok(self.search_many(query, k, options)?.pop().expect("one query, one answer"))
    }

    /// The same as [`search_with`](Self::search_with) with each of several queries, in their order: `queries` holds *n*
    /// rows of `dim` components, one after the other. The filter is evaluated once and the rows are walked through once,
    /// so that it is faster than *n* searches. O(n * rows * dim) on all cores.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// store.put_many(&["a", "b"], &[0.0, 1.0, 1.0, 0.0])?;
    /// use vecstone::SearchOptions;
    ///
    /// let queries = [0.1, 1.0, 1.0, 0.1, 0.0, 0.0]; // three of them
    /// let hits = store.snapshot()?.search_many(&queries, 1, &SearchOptions::new())?;
    /// assert_eq!((hits.len(), hits[1][0].id.as_str()), (3, Some("b")));
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`search_with`](Self::search_with); the row of [`Error::NonFinite`] is that of the query.
    pub fn search_many(&self, queries: &[f32], k: usize, options: &SearchOptions) -> Result<Vec<Hits>> {
        let dim = self.dim();
        let last = queries.len() % dim;
        if last != 0 {
            return Err(Error::DimensionMismatch { expected: dim, found: last });
        }
        for (row, query) in queries.chunks_exact(dim).enumerate() {
            crate::types::element::check_finite(row, query)?;
        }
        let recall = options.recall_or(self.recall_target)?;
        if k == 0 || queries.is_empty() {
            return Ok(vec![Hits::default(); queries.len() / dim]);
        }
        let start = Instant::now();
        let rows = self.select(options.filter.as_ref())?;
        let select = start.elapsed();
        let k = k.min(usize::try_from(rows.len()).unwrap_or(usize::MAX));
        let request =
            SearchRequest { metric: self.metric(), dim, queries, k, radius: options.radius, recall };
        let found = nearest(&rows, &request, parallel::limit(self.threads))?;
        let count = found.len() as u64;
        let rows: usize = found.iter().map(|found| found.rows.len()).sum();
        check_memory((rows as u64).saturating_mul(bytes_of_neighbor(dim, options)))?;
        let start = Instant::now();
        let hits = |Found { rows: nearest, explain }: Found| {
            interrupt::check()?;
            let hits = nearest.into_iter().map(|candidate| self.neighbor(candidate, options));
            let explain = Explain { queries: count, select, ..explain };
            Ok(Hits::new(hits.collect::<Result<_>>()?, explain))
        };
        let mut all = found.into_iter().map(hits).collect::<Result<Vec<Hits>>>()?;
        let fetch = start.elapsed();
        all.iter_mut().for_each(|hits| hits.set_fetch(fetch));
        Ok(all)
    }

    /// The ids that a filter selects, in the order of writing. O(documents) on all cores, or O(ids).
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a place");
    /// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
    /// use vecstone::{Filter, Id};
    ///
    /// store.put_with_document("a", &[0.0, 1.0], r#"{"year": 1998}"#)?;
    /// let old = Filter::parse(r#"{"year": {"$lt": 2000}}"#)?;
    /// assert_eq!(store.snapshot()?.ids_where(&old)?, [Id::from("a")]);
    /// # Ok::<(), vecstone::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a document or an id is not what was written; [`Error::Io`].
    pub fn ids_where(&self, filter: &Filter) -> Result<Vec<Id>> {
        let rows = self.select(Some(filter))?;
        let id =
            |(step, at)| interrupt::check_at(step).map_err(Error::from).and_then(|()| self.version.id(at));
        let mut ids = rows.version.live_rows().enumerate().map(id).collect::<Result<Vec<Id>>>()?;
        ids.extend(rows.puts.iter().map(|&number| {
            let (chunk, op) = self.buffered.op(number);
            self.buffered_id(chunk, op)
        }));
        Ok(ids)
    }

    /// The rows that a filter selects, or all.
    fn select(&self, filter: Option<&Filter>) -> Result<Rows<'_>> {
        let (numbers, live) = (|(number, _, _)| number, self.version.live());
        let Some(filter) = filter else {
            let puts = self.puts().map(numbers).collect();
            return Ok(Rows { version: self.version.clone(), live, buffered: &self.buffered, puts });
        };
        let limit = parallel::limit(self.threads);
        let version = Arc::new(select(filter, &self.version, self.schema.hasher(), None, limit)?);
        let named = filter.named().map(|ids| self.buffered_puts(ids));
        let mut puts = Vec::new();
        for number in named.unwrap_or_else(|| self.puts().map(numbers).collect()) {
            let not_json = |error: serde_json::Error| Error::InvalidDocument {
                row: puts.len(),
                why: error.to_string().into(),
            };
            let document = if filter.reads_documents() { self.buffered_document(number)? } else { None };
            if filter.takes_document(document.as_deref()).map_err(not_json)? {
                puts.push(number);
            }
        }
        Ok(Rows { version, live, buffered: &self.buffered, puts })
    }

    /// The puts of the buffer with these ids, in the order of writing.
    fn buffered_puts(&self, ids: &[Id]) -> Vec<u64> {
        if self.buffered.is_empty() {
            return Vec::new();
        }
        let hasher = self.schema.hasher();
        let find = |id: IdRef<'_>| self.buffered.find(hasher.hash(id.as_bytes()), id.as_bytes());
        let of_kind = ids.iter().map(AsId::as_id).filter(|id| self.kind == Some(id.kind()));
        let found = of_kind.filter_map(find).filter(|found| found.op.is_put());
        let mut puts: Vec<u64> = found.map(|found| found.number).collect();
        puts.sort_unstable();
        puts.dedup();
        puts
    }

    fn neighbor(&self, candidate: Candidate, options: &SearchOptions) -> Result<Neighbor> {
        let distance = to_public(self.schema.metric, candidate.distance);
        let Some(at) = candidate.at() else {
            let (chunk, op) = self.buffered.op(candidate.row);
            let id = self.buffered_id(chunk, op);
            let vector = chunk.vector(op).filter(|_| options.vectors).map(<[f32]>::to_vec);
            let document = if options.documents { self.buffered_document(candidate.row)? } else { None };
            let document = document.map(Cow::into_owned);
            return Ok(Neighbor { id, distance, vector, document });
        };
        let (part, row) = (&self.version.segments[at.segment], u64::from(at.row));
        let bytes = part.row_in(part.dat_map()?, row)?;
        part.segment.check(row, bytes)?;
        let document = if options.documents { part.segment.document(row)? } else { None };
        let vector = options.vectors.then(|| self.schema.element.decode(bytes).into_owned());
        Ok(Neighbor { id: self.version.id(at)?, distance, vector, document })
    }

    /// The document of a buffered put: what the buffer says, else that of the row that it replaces.
    fn buffered_document(&self, number: u64) -> Result<Option<Cow<'_, str>>> {
        match self.buffered.document(number) {
            Document::Json(text) => return Ok(Some(Cow::Borrowed(text))),
            Document::None => return Ok(None),
            Document::Keep => {}
        }
        let (chunk, op) = self.buffered.op(number);
        let Some(at) = self.base.find(op.hash, chunk.id(op))? else { return Ok(None) };
        let document = self.base.segments[at.segment].segment.document(at.row.into())?;
        Ok(document.map(Cow::Owned))
    }

    fn buffered_id(&self, chunk: &buffer::Chunk, op: &buffer::Op) -> Id {
        let kind = self.kind().expect("a buffer with ops has a kind");
        Id::from_bytes(kind, chunk.id(op)).expect("ids are checked before they are accepted")
    }
}

/// What a result takes, but for a long id and a document.
fn bytes_of_neighbor(dim: usize, options: &SearchOptions) -> u64 {
    const ID: usize = 32;
    let vector = if options.vectors { dim * size_of::<f32>() } else { 0 };
    (size_of::<Neighbor>() + ID + vector) as u64
}

/// Ids and vectors of a snapshot, in the order of writing.
#[derive(Debug)]
pub struct Iter {
    snapshot: Snapshot,
    segment: usize,
    row: u64,
    buffered: std::vec::IntoIter<u64>,
}

/// Where the next row of an iterator is.
#[derive(Clone, Copy)]
enum Next {
    File(At),
    Buffer(u64),
}

impl Iter {
    fn advance(&mut self) -> Option<Next> {
        while let Some(part) = self.snapshot.version.segments.get(self.segment) {
            let Some(row) = part.deletions.live_in(self.row..part.rows).next() else {
                (self.segment, self.row) = (self.segment + 1, 0);
                continue;
            };
            self.row = row + 1;
            let row = u32::try_from(row).expect("below MAX_ROWS");
            return Some(Next::File(At { segment: self.segment, row }));
        }
        self.buffered.next().map(Next::Buffer)
    }

    fn read(&self, at: Next) -> Option<Result<(Id, Vec<f32>)>> {
        let version = &self.snapshot.version;
        match at {
            Next::File(at) => Some(version.read(at).and_then(|vector| Ok((version.id(at)?, vector)))),
            Next::Buffer(number) => {
                let (chunk, op) = self.snapshot.buffered.op(number);
                let vector = chunk.vector(op)?.to_vec();
                Some(Ok((self.snapshot.buffered_id(chunk, op), vector)))
            }
        }
    }
}

impl Iterator for Iter {
    type Item = Result<(Id, Vec<f32>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.advance()?;
        self.read(at)
    }
}
