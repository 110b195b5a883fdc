//! What one commit writes, and what must not be written.

use crate::buffer::{Change, Group};
use crate::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, check_finite};
use crate::error::{Error, Result};
use crate::id::{AsId, IdHasher, IdKind, IdRef};

/// One change of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op<'a> {
    /// Stores `vector` as the row of `id`; an earlier row of that id is dead from then on.
    Put {
        /// 1 to [`MAX_ID_BYTES`](crate::MAX_ID_BYTES) bytes.
        id: IdRef<'a>,
        /// `dim` finite components.
        vector: &'a [f32],
        /// A JSON value.
        document: Option<&'a str>,
    },
    /// Deletes `id`.
    Delete {
        /// 1 to [`MAX_ID_BYTES`](crate::MAX_ID_BYTES) bytes.
        id: IdRef<'a>,
    },
}

impl<'a> Op<'a> {
    /// A put without a document.
    pub fn put<I: AsId + ?Sized>(id: &'a I, vector: &'a [f32]) -> Op<'a> {
        Op::Put { id: id.as_id(), vector, document: None }
    }

    /// A delete.
    pub fn delete<I: AsId + ?Sized>(id: &'a I) -> Op<'a> {
        Op::Delete { id: id.as_id() }
    }

    /// The id that changes.
    pub fn id(&self) -> &IdRef<'a> {
        let (Op::Put { id, .. } | Op::Delete { id }) = self;
        id
    }

    /// The same, as the buffer and the log know it.
    pub(crate) fn change(&self, hasher: IdHasher) -> Change<'_> {
        let id = self.id().as_bytes();
        let put = match *self {
            Op::Put { vector, document, .. } => Some((vector, document.map(str::as_bytes))),
            Op::Delete { .. } => None,
        };
        Change { id, hash: hasher.hash(id), put }
    }
}

/// The changes of one commit, all or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Batch<'a> {
    /// Puts whose rows lie one after the other: they are written from where they are.
    Rows { ids: &'a [IdRef<'a>], vectors: &'a [f32], documents: &'a [Option<&'a str>], dim: usize },
    /// Any changes.
    Ops(&'a [Op<'a>]),
    /// Changes that were accepted before.
    Group(&'a Group),
}

impl<'a> Batch<'a> {
    /// Number of changes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Batch::Rows { ids, .. } => ids.len(),
            Batch::Ops(ops) => ops.len(),
            Batch::Group(group) => group.parts.iter().map(|(_, ops)| ops.len()).sum(),
        }
    }

    /// Bytes that the batch takes in the buffer, about.
    pub(crate) fn bytes(&self) -> u64 {
        let one = |id: &IdRef<'_>, document: Option<&str>| {
            (id.as_bytes().len() + document.map_or(0, str::len) + 32) as u64
        };
        match self {
            Batch::Rows { ids, vectors, documents, .. } => {
                let document = |row: usize| documents.get(row).copied().flatten();
                let rest: u64 = ids.iter().enumerate().map(|(row, id)| one(id, document(row))).sum();
                rest + size_of_val(*vectors) as u64
            }
            Batch::Ops(ops) => ops
                .iter()
                .map(|op| match op {
                    Op::Put { id, vector, document } => one(id, *document) + size_of_val(*vector) as u64,
                    Op::Delete { id } => one(id, None),
                })
                .sum(),
            Batch::Group(group) => group.bytes,
        }
    }

    /// The changes in order.
    pub(crate) fn changes(&self, hasher: IdHasher) -> Box<dyn Iterator<Item = Change<'a>> + 'a> {
        match *self {
            Batch::Rows { ids, vectors, documents, dim } => {
                let rows = ids.iter().zip(vectors.chunks_exact(dim)).enumerate();
                Box::new(rows.map(move |(row, (id, vector))| {
                    let (id, document) = (id.as_bytes(), documents.get(row).copied().flatten());
                    Change { id, hash: hasher.hash(id), put: Some((vector, document.map(str::as_bytes))) }
                }))
            }
            Batch::Ops(ops) => Box::new(ops.iter().map(move |op| op.change(hasher))),
            Batch::Group(group) => Box::new(group.parts.iter().flat_map(|(chunk, ops)| {
                chunk.ops()[ops.clone()].iter().map(|op| Change {
                    id: chunk.id(op),
                    hash: op.hash,
                    put: chunk.vector(op).map(|vector| (vector, chunk.document(op))),
                })
            })),
        }
    }

    /// The rows in order, in pieces that each lie in one place.
    pub(crate) fn rows(&self) -> Box<dyn Iterator<Item = &'a [f32]> + 'a> {
        match *self {
            Batch::Rows { vectors, .. } => Box::new(std::iter::once(vectors)),
            Batch::Ops(ops) => Box::new(ops.iter().filter_map(|op| match op {
                Op::Put { vector, .. } => Some(*vector),
                Op::Delete { .. } => None,
            })),
            Batch::Group(group) => {
                Box::new(group.parts.iter().map(|(chunk, ops)| chunk.vectors_of(ops.clone())))
            }
        }
    }

    /// Kind of the ids of a batch that a caller hands in; `None` if there are none.
    pub(crate) fn kind(&self) -> Option<IdKind> {
        match self {
            Batch::Rows { ids, .. } => ids.first().map(IdRef::kind),
            Batch::Ops(ops) => ops.first().map(|op| op.id().kind()),
            Batch::Group(_) => None,
        }
    }

    /// Refuses what must not be stored, before the first byte is written: everything but documents.
    pub(crate) fn check(&self, dim: usize, kind: Option<IdKind>) -> Result<()> {
        let (mut rows, mut id_bytes, mut documents) = (0u64, 0u64, 0u64);
        let Some(expected) = kind.or(self.kind()) else { return Ok(()) };
        let mut check = |row: usize, id: &IdRef<'_>, vector: Option<&[f32]>, document: Option<&str>| {
            id.check(row)?;
            if id.kind() != expected {
                return Err(Error::IdKind { expected, found: id.kind() });
            }
            id_bytes += id.as_bytes().len() as u64;
            let Some(vector) = vector else { return Ok(()) };
            rows += 1;
            documents += document.map_or(0, |document| document.len() as u64 + 1);
            if vector.len() != dim {
                return Err(Error::DimensionMismatch { expected: dim, found: vector.len() });
            }
            check_finite(row, vector)
        };
        match self {
            Batch::Rows { ids, vectors, documents, .. } => {
                for (row, (id, vector)) in ids.iter().zip(vectors.chunks_exact(dim)).enumerate() {
                    check(row, id, Some(vector), documents.get(row).copied().flatten())?;
                }
            }
            Batch::Ops(ops) => {
                for (row, op) in ops.iter().enumerate() {
                    match op {
                        Op::Put { id, vector, document } => check(row, id, Some(vector), *document)?,
                        Op::Delete { id } => check(row, id, None, None)?,
                    }
                }
            }
            // Checked when it was accepted.
            Batch::Group(_) => {}
        }
        for (what, found, max) in [
            ("bytes of documents", documents, MAX_BATCH_BYTES),
            ("bytes of vectors", rows * dim as u64 * 4, MAX_BATCH_BYTES),
            ("bytes of ids", id_bytes, MAX_BATCH_BYTES),
            ("records", self.len() as u64, MAX_BATCH_RECORDS as u64),
        ] {
            if found > max {
                return Err(Error::BatchTooLarge { what, found, max });
            }
        }
        Ok(())
    }
}
