//! A store at one moment: everything that only reads.

use crate::buffer;
use crate::config::{Metric, Schema};
use crate::distance::reported;
use crate::error::{Error, Result};
use crate::id::{AsId, Id, IdKind};
use crate::search::{self, Candidate, Neighbor, SearchOptions};
use crate::view::{At, View};
use std::sync::Arc;

/// An unchanging view of a store. Later writes, compaction, and closing the store do not touch it; the files it reads
/// are kept as long as it lives. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Snapshot {
    schema: Schema,
    kind: Option<IdKind>,
    /// Rows that the buffer replaces or deletes are dead in it.
    view: Arc<View>,
    buffered: buffer::View,
}

/// Where a row of a snapshot is.
enum Place<'a> {
    Buffer(&'a buffer::Chunk, &'a buffer::Op),
    File(At),
}

impl Snapshot {
    /// `kind`: that of the store's ids, which the buffer may know before the files do.
    pub(crate) fn new(
        schema: Schema,
        kind: Option<IdKind>,
        view: Arc<View>,
        buffered: buffer::View,
    ) -> Snapshot {
        Snapshot { schema, kind, view, buffered }
    }

    pub(crate) fn files(&self) -> &Arc<View> {
        &self.view
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

    /// Number of ids.
    pub fn len(&self) -> usize {
        usize::try_from(self.view.live() + self.buffered.puts()).unwrap_or(usize::MAX)
    }

    /// True if there is no id.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, id: impl AsId) -> Result<Option<Place<'_>>> {
        let id = id.as_id();
        if self.kind() != Some(id.kind()) {
            return Ok(None);
        }
        let (bytes, hash) = (id.as_bytes(), self.schema.hasher().hash(id.as_bytes()));
        if !self.buffered.is_empty()
            && let Some(found) = self.buffered.find(hash, bytes)
        {
            return Ok(found.op.is_put().then_some(Place::Buffer(found.chunk, found.op)));
        }
        Ok(self.view.find(hash, bytes)?.map(Place::File))
    }

    /// The vector of an id, its checksum checked; `None` if the id is not there. O(segments), one system call.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the stored bytes are not what was written; [`Error::Io`].
    pub fn get(&self, id: impl AsId) -> Result<Option<Vec<f32>>> {
        match self.find(id)? {
            None => Ok(None),
            Some(Place::Buffer(chunk, op)) => Ok(chunk.vector(op).map(<[f32]>::to_vec)),
            Some(Place::File(at)) => self.view.read(at).map(Some),
        }
    }

    /// The vectors of several ids, in their order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many(&self, ids: &[impl AsId]) -> Result<Vec<Option<Vec<f32>>>> {
        ids.iter().map(|id| self.get(id)).collect()
    }

    /// The vector of an id where it lies: `dim` components, neither copied nor checked; `None` if the id is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the files cannot be mapped.
    pub fn view(&self, id: impl AsId) -> Result<Option<&[f32]>> {
        match self.find(id)? {
            None => Ok(None),
            Some(Place::Buffer(chunk, op)) => Ok(chunk.vector(op)),
            Some(Place::File(at)) => {
                let part = &self.view.segments[at.segment];
                part.row_in(part.dat_map()?, at.row.into()).map(Some)
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
            Some(Place::Buffer(chunk, op)) => Ok(document_of(chunk, op)),
            Some(Place::File(at)) => self.view.segments[at.segment].segment.document(at.row.into()),
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
    pub fn iter(&self) -> Iter {
        let latest = self.buffered.latest().filter(|(_, _, op)| op.is_put()).map(|(number, _, _)| number);
        Iter { buffered: latest.collect::<Vec<_>>().into_iter(), snapshot: self.clone(), segment: 0, row: 0 }
    }

    /// As [`iter`](Self::iter), with the JSON document of each id that has one.
    pub fn iter_with_documents(
        &self,
    ) -> impl Iterator<Item = Result<(Id, Vec<f32>, Option<String>)>> + Send + use<> {
        let mut rows = self.iter();
        std::iter::from_fn(move || {
            let at = rows.advance()?;
            let document = match at {
                Next::File(at) => rows.snapshot.view.segments[at.segment].segment.document(at.row.into()),
                Next::Buffer(number) => {
                    let (chunk, op) = rows.snapshot.buffered.op(number);
                    Ok(document_of(chunk, op))
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
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Neighbor>> {
        self.search_with(query, k, &SearchOptions::default())
    }

    /// As [`search`](Self::search), with vectors or documents.
    ///
    /// # Errors
    ///
    /// As [`search`](Self::search).
    pub fn search_with(&self, query: &[f32], k: usize, options: &SearchOptions) -> Result<Vec<Neighbor>> {
        if query.len() != self.dim() {
            return Err(Error::DimensionMismatch { expected: self.dim(), found: query.len() });
        }
        crate::config::check_finite(0, query)?;
        let k = k.min(self.len());
        if k == 0 {
            return Ok(Vec::new());
        }
        let found = search::nearest(&self.view, &self.buffered, self.schema.metric, query, k)?;
        found.into_iter().map(|candidate| self.neighbor(candidate, options)).collect()
    }

    fn neighbor(&self, candidate: Candidate, options: &SearchOptions) -> Result<Neighbor> {
        let distance = reported(self.schema.metric, candidate.distance);
        let Some(at) = candidate.at() else {
            let (chunk, op) = self.buffered.op(candidate.row);
            let id = self.buffered_id(chunk, op);
            let vector = chunk.vector(op).filter(|_| options.vectors).map(<[f32]>::to_vec);
            let document = if options.documents { document_of(chunk, op) } else { None };
            return Ok(Neighbor { id, distance, vector, document });
        };
        let (part, row) = (&self.view.segments[at.segment], u64::from(at.row));
        let vector = part.row_in(part.dat_map()?, row)?;
        part.segment.check(row, bytemuck::cast_slice(vector))?;
        let document = if options.documents { part.segment.document(row)? } else { None };
        let vector = options.vectors.then(|| vector.to_vec());
        Ok(Neighbor { id: self.view.id(at)?, distance, vector, document })
    }

    fn buffered_id(&self, chunk: &buffer::Chunk, op: &buffer::Op) -> Id {
        let kind = self.kind().expect("a buffer with ops has a kind");
        Id::from_bytes(kind, chunk.id(op)).expect("ids are checked before they are accepted")
    }
}

/// The document of a buffered put.
pub(crate) fn document_of(chunk: &buffer::Chunk, op: &buffer::Op) -> Option<String> {
    let bytes = chunk.document(op).filter(|bytes| *bytes != b"null")?;
    Some(String::from_utf8(bytes.to_vec()).expect("documents are checked before they are accepted"))
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
        while let Some(part) = self.snapshot.view.segments.get(self.segment) {
            let Some(row) = part.mask.live_in(self.row..part.rows).next() else {
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
        let view = &self.snapshot.view;
        match at {
            Next::File(at) => Some(view.read(at).and_then(|vector| Ok((view.id(at)?, vector)))),
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
