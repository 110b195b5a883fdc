//! A store at one moment: everything that only reads.

use crate::buffer;
use crate::config::{Metric, Schema};
use crate::distance::reported;
use crate::error::{Error, Result};
use crate::id::{AsId, Id, IdKind, IdRef};
use crate::many::{self, FEW, Missing, check_rows};
use crate::search::{self, Candidate, Neighbor, SearchOptions};
use crate::view::{At, View, check_len};
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
            Some(Place::Buffer(chunk, op)) => match chunk.vector(op) {
                Some(vector) => out.copy_from_slice(vector),
                None => return Ok(false),
            },
            Some(Place::File(at)) => self.view.read_into(at, out)?,
        }
        Ok(true)
    }

    /// The vectors of several ids, in their order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many(&self, ids: &[impl AsId]) -> Result<Vec<Option<Vec<f32>>>> {
        ids.iter().map(|id| self.get(id)).collect()
    }

    /// The vectors of many ids, in memory of the caller: `out` holds a row of `dim` components for each id, in their order.
    /// `missing` is told, in order, the place of each id that is not there; its row stays as it was. Rows are copied from
    /// the mapping, not by read calls, and the copies are checked; on several cores where there are many. After an error
    /// `out` holds nothing to rely on.
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
        let dim = self.dim();
        let ids = &check_rows(ids, dim, out)?;
        many::read(ids, dim, out, |ids, out| self.get_few(ids, out), missing)
    }

    fn get_few(&self, ids: &[IdRef<'_>], out: &mut [f32]) -> Result<Missing> {
        let dim = self.dim();
        let (mut places, mut missing) = ([None; FEW], 0);
        for (n, (id, out)) in ids.iter().zip(out.chunks_exact_mut(dim)).enumerate() {
            match self.find(id)? {
                None => missing |= 1 << n,
                Some(Place::Buffer(chunk, op)) => match chunk.vector(op) {
                    Some(vector) => out.copy_from_slice(vector),
                    None => missing |= 1 << n,
                },
                Some(Place::File(at)) => places[n] = Some(at),
            }
        }
        self.view.copy(&places[..ids.len()], dim, out)?;
        Ok(missing)
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

impl Iterator for Iter {
    type Item = Result<(Id, Vec<f32>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = &self.snapshot.view;
        while let Some(part) = view.segments.get(self.segment) {
            let Some(row) = part.mask.live_in(self.row..part.rows).next() else {
                (self.segment, self.row) = (self.segment + 1, 0);
                continue;
            };
            self.row = row + 1;
            let at = At { segment: self.segment, row: u32::try_from(row).expect("below MAX_ROWS") };
            return Some(view.read(at).and_then(|vector| Ok((view.id(at)?, vector))));
        }
        let (chunk, op) = self.snapshot.buffered.op(self.buffered.next()?);
        let vector = chunk.vector(op)?.to_vec();
        Some(Ok((self.snapshot.buffered_id(chunk, op), vector)))
    }
}
