//! Changes that lie side by side in memory.

use super::{OP_BYTES, index, range, rows, to_u32};
use crate::types::document::Document;
use std::ops::Range;
use std::sync::Arc;

const DELETE: u32 = u32::MAX;
/// In the place of a document's length.
const NO_DOCUMENT: u32 = 0;
const KEEP: u32 = u32::MAX;

/// A change to append; it is valid already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) hash: u64,
    pub(crate) id: &'a [u8],
    /// Row and document; `None`: a delete.
    pub(crate) put: Option<(&'a [f32], Document<&'a str>)>,
}

/// One change in a chunk. The chunk tells its id, row and document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    pub(crate) hash: u64,
    id_at: u32,
    id_len: u32,
    /// Row within the chunk, or `DELETE`.
    row: u32,
    doc_at: u32,
    /// Or `NO_DOCUMENT`, or `KEEP`.
    doc_len: u32,
    /// So many ops before it stands the newest earlier one of its id that says what document it has; 0: none here does.
    /// Of use only to a put that keeps it.
    pub(super) before: u32,
}

impl Op {
    /// Whether it is a put that says nothing of its document.
    pub(super) fn keeps_document(&self) -> bool {
        self.doc_len == KEEP
    }

    pub(crate) fn is_put(&self) -> bool {
        self.row != DELETE
    }

    /// Its row's number within the chunk.
    pub(crate) fn row(&self) -> Option<usize> {
        self.is_put().then_some(self.row as usize)
    }
}

/// Consecutive changes: at most about 1 MiB of rows. Unchanging while anyone but the buffer holds it.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(super) ops: Vec<Op>,
    ids: Vec<u8>,
    vectors: Vec<f32>,
    documents: String,
    /// Number of the first op, counted over the buffer's whole life.
    pub(super) first: u64,
    dim: usize,
    /// Bytes that each of the arrays may take.
    pub(super) limit: usize,
}

impl Chunk {
    pub(super) fn new(dim: usize, limit: usize) -> Chunk {
        Chunk { dim, limit, ..Chunk::default() }
    }

    /// Its changes, in order.
    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(crate) fn id(&self, op: &Op) -> &[u8] {
        &self.ids[range(op.id_at, op.id_len)]
    }

    /// The row of a put.
    pub(crate) fn vector(&self, op: &Op) -> Option<&[f32]> {
        let row = op.row()?;
        Some(&self.vectors[row * self.dim..(row + 1) * self.dim])
    }

    /// What a change says of the document: a delete that there is none.
    pub(crate) fn document(&self, op: &Op) -> Document<&str> {
        match op.doc_len {
            KEEP => Document::Keep,
            NO_DOCUMENT => Document::None,
            len => Document::Json(&self.documents[range(op.doc_at, len)]),
        }
    }

    /// The rows of some of its ops, one after the other.
    pub(crate) fn vectors_of(&self, ops: Range<usize>) -> &[f32] {
        let mut rows = self.ops[ops].iter().filter_map(Op::row);
        let Some(first) = rows.next() else { return &[] };
        let last = rows.next_back().unwrap_or(first);
        &self.vectors[first * self.dim..(last + 1) * self.dim]
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.ops.len() as u64
    }

    /// Whether a change fits, if its arrays may take `limit` bytes. An empty chunk has room for any.
    pub(super) fn has_room(&self, change: &Change<'_>, limit: usize) -> bool {
        let (vector, document) = change.put.unwrap_or_default();
        let document = document.json().map_or(0, str::len);
        self.ops.is_empty()
            || (self.ops.len() + 1) * OP_BYTES <= limit
                && self.vectors.len() + vector.len() <= rows(self.dim, limit) * self.dim
                && self.ids.len() + change.id.len() <= limit
                && (document == 0 || self.documents.len() + document <= limit)
    }

    /// Appends a change and returns its bytes, or `None` if it has no room for it.
    pub(super) fn append(&mut self, change: &Change<'_>) -> Option<u64> {
        if !self.has_room(change, self.limit) {
            return None;
        }
        let (vector, document) = change.put.unwrap_or((&[], Document::None));
        let (document, doc_len) = match document {
            Document::Keep => ("", KEEP),
            Document::None => ("", NO_DOCUMENT),
            Document::Json(text) => (text, to_u32(text.len())),
        };
        if self.ops.is_empty() {
            self.ops.reserve(rows(self.dim, self.limit));
        }
        let mut row = DELETE;
        if change.put.is_some() {
            debug_assert_eq!(vector.len(), self.dim);
            if self.vectors.is_empty() {
                // At once: growing would copy rows again.
                self.vectors.reserve_exact(rows(self.dim, self.limit) * self.dim);
            }
            row = to_u32(self.vectors.len() / self.dim);
            self.vectors.extend_from_slice(vector);
        }
        self.ops.push(Op {
            hash: change.hash,
            id_at: to_u32(self.ids.len()),
            id_len: to_u32(change.id.len()),
            row,
            doc_at: to_u32(self.documents.len()),
            doc_len,
            before: 0,
        });
        self.ids.extend_from_slice(change.id);
        self.documents.push_str(document);
        Some((size_of_val(vector) + change.id.len() + document.len()) as u64)
    }

    /// A copy that may be appended to, up to `limit`.
    pub(super) fn copy(&self, limit: usize) -> Chunk {
        let mut vectors = Vec::with_capacity(rows(self.dim, limit) * self.dim);
        vectors.extend_from_slice(&self.vectors);
        let (ops, ids, documents) = (self.ops.clone(), self.ids.clone(), self.documents.clone());
        Chunk { ops, ids, vectors, documents, limit, ..*self }
    }

    pub(super) fn clear(&mut self) {
        self.ops.clear();
        self.ids.clear();
        self.vectors.clear();
        self.documents.clear();
    }

    /// Bytes of the fullest of its arrays.
    pub(super) fn used(&self) -> usize {
        let (ops, floats) = (self.ops.len() * OP_BYTES, size_of_val(&self.vectors[..]));
        ops.max(floats).max(self.ids.len()).max(self.documents.len())
    }

    pub(super) fn heap(&self) -> u64 {
        let floats = self.vectors.capacity() * size_of::<f32>();
        (self.ops.capacity() * OP_BYTES + self.ids.capacity() + floats + self.documents.capacity()) as u64
    }
}

/// A chunk in its place.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) chunk: Arc<Chunk>,
    /// One bit an op: a later op has the same id. Beside the chunk, because a shared chunk must not change; a copy of it
    /// for each chunk, because it is copied when it changes after a snapshot was taken.
    pub(super) superseded: Option<Arc<Vec<u64>>>,
}

impl Slot {
    fn is_superseded(&self, at: usize) -> bool {
        let word = self.superseded.as_ref().and_then(|bits| bits.get(at / 64));
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub(super) fn supersede(&mut self, at: usize) {
        let bits = Arc::make_mut(self.superseded.get_or_insert_default());
        if bits.len() <= at / 64 {
            bits.resize(at / 64 + 1, 0);
        }
        bits[at / 64] |= 1 << (at % 64);
    }

    /// The places of its ops with a number in `numbers`.
    pub(super) fn places(&self, numbers: &Range<u64>) -> Range<usize> {
        let (first, end) = (self.chunk.first, self.chunk.end());
        let place = |number: u64| index(number.clamp(first, end) - first);
        place(numbers.start)..place(numbers.end)
    }

    /// The newest changes of their ids, among `numbers`.
    pub(super) fn latest(&self, numbers: Range<u64>) -> impl Iterator<Item = (u64, &Chunk, &Op)> {
        let chunk = &*self.chunk;
        let places = self.places(&numbers).filter(|&at| !self.is_superseded(at));
        places.map(move |at| (chunk.first + at as u64, chunk, &chunk.ops[at]))
    }
}
