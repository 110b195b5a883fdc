//! What one commit writes, and what must not be written.

use crate::buffer::{Change, Group};
use crate::sys::disk::PIECE_BYTES;
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::sys::sync::{caught, unpoisoned};
use crate::types::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use crate::types::document::Document;
use crate::types::element::check_finite;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, IdHasher, IdKind, IdRef};
use std::any::Any;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Mutex;

/// One change of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op<'a> {
    /// Stores `vector` as the row of `id`; an earlier row of that id is dead from then on.
    Put {
        /// 1 to [`MAX_ID_BYTES`](crate::MAX_ID_BYTES) bytes.
        id: IdRef<'a>,
        /// `dim` finite components.
        vector: &'a [f32],
        /// What becomes of the document.
        document: Document<&'a str>,
    },
    /// Deletes `id`.
    Delete {
        /// 1 to [`MAX_ID_BYTES`](crate::MAX_ID_BYTES) bytes.
        id: IdRef<'a>,
    },
}

impl<'a> Op<'a> {
    /// A put that says nothing of a document.
    pub fn put<I: AsId + ?Sized>(id: &'a I, vector: &'a [f32]) -> Op<'a> {
        Op::Put { id: id.as_id(), vector, document: Document::Keep }
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
            Op::Put { vector, document, .. } => Some((vector, document)),
            Op::Delete { .. } => None,
        };
        Change { id, hash: hasher.hash(id), put }
    }
}

/// The documents of some changes, checked, each on one line.
pub(crate) fn lines_of(ops: &[Op<'_>]) -> Result<Vec<Document<String>>> {
    let line = |(row, op): (usize, &Op<'_>)| match op {
        Op::Put { document, .. } => document.one_line(row),
        Op::Delete { .. } => Ok(Document::None),
    };
    ops.iter().enumerate().map(line).collect()
}

/// The same changes with these documents.
pub(crate) fn with_lines<'a>(ops: &[Op<'a>], lines: &'a [Document<String>]) -> Vec<Op<'a>> {
    let mut ops = ops.to_vec();
    for (op, line) in ops.iter_mut().zip(lines) {
        if let Op::Put { document, .. } = op {
            *document = line.as_deref();
        }
    }
    ops
}

/// Rows that lie where somebody else may change them meanwhile, or as another type: a large batch is never taken from
/// there directly, but copied into memory of its own about a mebibyte at a time, and what is checked and written is the
/// copy.
pub trait RowSource: Sync + std::fmt::Debug {
    /// Copies rows from number `first` on, one after the other, into `out`, which is as long as some whole rows.
    fn copy_rows(&self, first: usize, out: &mut [f32]);
}

/// The source of a caller, whose panic must not end a commit half-way: rows that it does not give are refused as NaN, and
/// the panic goes on where the caller is.
#[derive(Debug)]
pub(crate) struct Fenced<'a> {
    source: &'a dyn RowSource,
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a> Fenced<'a> {
    pub(crate) fn new(source: &'a dyn RowSource) -> Fenced<'a> {
        Fenced { source, panicked: Mutex::default() }
    }

    /// What came of using it, or the panic of the caller's.
    pub(crate) fn end<T>(self, outcome: T) -> T {
        match unpoisoned(self.panicked.into_inner()) {
            Some(panic) => resume_unwind(panic),
            None => outcome,
        }
    }
}

impl RowSource for Fenced<'_> {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        if let Err(panic) = caught(|| self.source.copy_rows(first, out)) {
            out.fill(f32::NAN);
            *unpoisoned(self.panicked.lock()) = Some(panic);
        }
    }
}

/// Pieces for each thread that checks, below which starting one costs more than it saves.
const PIECES_PER_THREAD: u64 = 4;

/// Rows of `dim` components in a piece.
pub(crate) fn rows_in_piece(dim: usize) -> usize {
    (PIECE_BYTES / (dim * size_of::<f32>())).max(1)
}

/// Copies `rows` rows from a source in pieces, each of which is checked before it is handed on.
pub(crate) fn copy_in_pieces(
    source: &dyn RowSource,
    rows: usize,
    dim: usize,
    mut take: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let most = rows_in_piece(dim);
    let mut memory = vec![0.0; most.min(rows) * dim];
    for first in (0..rows).step_by(most) {
        let piece = &mut memory[..most.min(rows - first) * dim];
        copy_piece(source, first, dim, piece)?;
        take(piece)?;
    }
    Ok(())
}

/// Copies the rows from number `first` on and checks the copy.
fn copy_piece(source: &dyn RowSource, first: usize, dim: usize, piece: &mut [f32]) -> Result<()> {
    interrupt::check()?;
    source.copy_rows(first, piece);
    (first..).zip(piece.chunks_exact(dim)).try_for_each(|(row, vector)| check_finite(row, vector))
}

/// Checks all rows of a source, on up to `limit` threads; of several that must not be stored it names the first.
pub(crate) fn check_source(source: &dyn RowSource, rows: usize, dim: usize, limit: usize) -> Result<()> {
    let most = rows_in_piece(dim);
    let copy = |memory: &mut Vec<f32>, first| {
        copy_piece(source, first, dim, &mut memory[..most.min(rows - first) * dim])
    };
    let (pieces, wanted) = ((0..rows).step_by(most), rows.div_ceil(most) as u64 / PIECES_PER_THREAD);
    parallel::for_each_piece(pieces, wanted, limit, || vec![0.0; most.min(rows) * dim], copy).map(drop)
}

/// The rows of a source from one on.
#[derive(Debug)]
pub(crate) struct Behind<'a> {
    pub(crate) source: &'a dyn RowSource,
    pub(crate) first: usize,
}

impl RowSource for Behind<'_> {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        self.source.copy_rows(self.first + first, out);
    }
}

/// Cuts rows into as few batches as may hold them.
pub(crate) fn parts(ids: &[IdRef<'_>], lines: &[Document<&str>], dim: usize) -> Result<Vec<Range<usize>>> {
    let most = usize::try_from(MAX_BATCH_BYTES).unwrap_or(usize::MAX);
    let (mut parts, mut first, mut id_bytes, mut line_bytes) = (Vec::new(), 0, 0, 0);
    for (row, id) in ids.iter().enumerate() {
        let line = line_len(lines.get(row).copied().unwrap_or_default());
        let line = usize::try_from(line).unwrap_or(usize::MAX);
        if line > most {
            let (found, max) = (line as u64, MAX_BATCH_BYTES);
            return Err(Error::BatchTooLarge { what: "bytes of documents", found, max });
        }
        // A row without a document has a line of five bytes.
        let (id, line) = (id.as_bytes().len(), if lines.is_empty() { 0 } else { line.max(5) });
        let rows = row + 1 - first;
        if rows > MAX_BATCH_RECORDS
            || rows * dim * size_of::<f32>() > most
            || id_bytes + id > most
            || line_bytes + line > most
        {
            parts.push(first..row);
            (first, id_bytes, line_bytes) = (row, 0, 0);
        }
        id_bytes += id;
        line_bytes += line;
    }
    parts.push(first..ids.len());
    Ok(parts)
}

/// Bytes of the line that a document becomes, if it is given.
fn line_len(document: Document<&str>) -> u64 {
    document.json().map_or(0, |text| text.len() as u64 + 1)
}

/// The changes of one commit, all or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Batch<'a> {
    /// Puts whose rows lie one after the other: they are written from where they are.
    Rows { ids: &'a [IdRef<'a>], vectors: &'a [f32], documents: &'a [Document<&'a str>], dim: usize },
    /// The same, but the rows are copied from their source piece by piece, as they are written.
    Copied { ids: &'a [IdRef<'a>], source: &'a dyn RowSource, documents: &'a [Document<&'a str>], dim: usize },
    /// Any changes.
    Ops(&'a [Op<'a>]),
    /// Changes that were accepted before.
    Group(&'a Group),
}

impl<'a> Batch<'a> {
    /// Number of changes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Batch::Rows { ids, .. } | Batch::Copied { ids, .. } => ids.len(),
            Batch::Ops(ops) => ops.len(),
            Batch::Group(group) => group.parts.iter().map(|(_, ops)| ops.len()).sum(),
        }
    }

    /// Bytes that the batch takes in the buffer, about.
    pub(crate) fn bytes(&self) -> u64 {
        let one = |id: &IdRef<'_>, document: Document<&str>| {
            (id.as_bytes().len() + document.json().map_or(0, str::len) + 32) as u64
        };
        let rows = |ids: &[IdRef<'_>], documents: &[Document<&str>]| {
            let document = |row: usize| documents.get(row).copied().unwrap_or_default();
            ids.iter().enumerate().map(|(row, id)| one(id, document(row))).sum::<u64>() + self.row_bytes()
        };
        match self {
            Batch::Rows { ids, documents, .. } | Batch::Copied { ids, documents, .. } => rows(ids, documents),
            Batch::Ops(ops) => ops
                .iter()
                .map(|op| match op {
                    Op::Put { id, vector, document } => one(id, *document) + size_of_val(*vector) as u64,
                    Op::Delete { id } => one(id, Document::None),
                })
                .sum(),
            Batch::Group(group) => group.bytes,
        }
    }

    /// Bytes of the rows.
    pub(crate) fn row_bytes(&self) -> u64 {
        match self {
            Batch::Copied { ids, dim, .. } => (ids.len() * dim * size_of::<f32>()) as u64,
            _ => self.rows().map(|rows| size_of_val(rows) as u64).sum(),
        }
    }

    /// The changes in order; without the rows where those are copied as they are written.
    pub(crate) fn changes(&self, hasher: IdHasher) -> Box<dyn Iterator<Item = Change<'a>> + 'a> {
        match *self {
            Batch::Rows { ids, vectors, documents, dim } => {
                let rows = ids.iter().zip(vectors.chunks_exact(dim)).enumerate();
                Box::new(rows.map(move |(row, (id, vector))| {
                    let (id, document) = (id.as_bytes(), documents.get(row).copied().unwrap_or_default());
                    Change { id, hash: hasher.hash(id), put: Some((vector, document)) }
                }))
            }
            Batch::Copied { ids, documents, .. } => Box::new(ids.iter().enumerate().map(move |(row, id)| {
                let (id, document) = (id.as_bytes(), documents.get(row).copied().unwrap_or_default());
                Change { id, hash: hasher.hash(id), put: Some((&[], document)) }
            })),
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

    /// The rows in order, in pieces that each lie in one place; none where they are copied as they are written.
    pub(crate) fn rows(&self) -> Box<dyn Iterator<Item = &'a [f32]> + 'a> {
        match *self {
            Batch::Rows { vectors, .. } => Box::new(std::iter::once(vectors)),
            Batch::Copied { .. } => Box::new(std::iter::empty()),
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
            Batch::Rows { ids, .. } | Batch::Copied { ids, .. } => ids.first().map(IdRef::kind),
            Batch::Ops(ops) => ops.first().map(|op| op.id().kind()),
            Batch::Group(_) => None,
        }
    }

    /// Refuses a number that is no id among what a caller puts. Repair keeps what it finds.
    pub(crate) fn check_numbers(&self) -> Result<()> {
        match self {
            Batch::Rows { ids, .. } | Batch::Copied { ids, .. } => {
                ids.iter().enumerate().try_for_each(|(row, id)| id.check_number(row))
            }
            Batch::Ops(ops) => ops.iter().enumerate().try_for_each(|(row, op)| match op {
                Op::Put { id, .. } => id.check_number(row),
                Op::Delete { .. } => Ok(()),
            }),
            Batch::Group(_) => Ok(()),
        }
    }

    /// Refuses what must not be stored, before the first byte is written: everything but documents.
    pub(crate) fn check(&self, dim: usize, kind: Option<IdKind>) -> Result<()> {
        let Some(kind) = kind.or(self.kind()) else { return Ok(()) };
        let (id_bytes, documents) = self.check_content(dim, kind)?;
        for (what, found, max) in [
            ("bytes of documents", documents, MAX_BATCH_BYTES),
            ("bytes of vectors", self.row_bytes(), MAX_BATCH_BYTES),
            ("bytes of ids", id_bytes, MAX_BATCH_BYTES),
            ("records", self.len() as u64, MAX_BATCH_RECORDS as u64),
        ] {
            if found > max {
                return Err(Error::BatchTooLarge { what, found, max });
            }
        }
        Ok(())
    }

    /// Refuses ids and vectors that must not be stored; returns the bytes of ids and documents.
    pub(crate) fn check_content(&self, dim: usize, expected: IdKind) -> Result<(u64, u64)> {
        let (mut id_bytes, mut documents) = (0u64, 0u64);
        let mut check = |row: usize, id: &IdRef<'_>| {
            id_bytes += id.as_bytes().len() as u64;
            id.check(row)?;
            if id.kind() == expected {
                Ok(())
            } else {
                Err(Error::IdKindMismatch { expected, found: id.kind() })
            }
        };
        let mut check_put = |row: usize, vector: &[f32], document: Document<&str>| {
            documents += line_len(document);
            if vector.len() == dim {
                check_finite(row, vector)
            } else {
                Err(Error::DimensionMismatch { expected: dim, found: vector.len() })
            }
        };
        match self {
            Batch::Rows { dim: found, .. } | Batch::Copied { dim: found, .. } if *found != dim => {
                return Err(Error::DimensionMismatch { expected: dim, found: *found });
            }
            Batch::Rows { ids, vectors, documents, .. } => {
                for (row, (id, vector)) in ids.iter().zip(vectors.chunks_exact(dim)).enumerate() {
                    check(row, id)?;
                    check_put(row, vector, documents.get(row).copied().unwrap_or_default())?;
                }
            }
            // Its rows are checked when they are copied.
            Batch::Copied { ids, documents: lines, .. } => {
                ids.iter().enumerate().try_for_each(|(row, id)| check(row, id))?;
                documents += lines.iter().copied().map(line_len).sum::<u64>();
            }
            Batch::Ops(ops) => {
                for (row, op) in ops.iter().enumerate() {
                    check(row, op.id())?;
                    if let Op::Put { vector, document, .. } = op {
                        check_put(row, vector, *document)?;
                    }
                }
            }
            // Checked when it was accepted.
            Batch::Group(_) => {}
        }
        Ok((id_bytes, documents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_into_batches_that_may_be() {
        let number = 7u64;
        let ids = vec![number.as_id(); MAX_BATCH_RECORDS + 1];
        let whole = |end: usize| (0..end, end..MAX_BATCH_RECORDS + 1);
        let two = |parts: Result<Vec<Range<usize>>>| match parts.expect("fits").as_slice() {
            [first, second] => (first.clone(), second.clone()),
            parts => panic!("{} parts", parts.len()),
        };
        assert_eq!(two(parts(&ids, &[], 1)), whole(MAX_BATCH_RECORDS));
        let rows = (1 << 30) / (100 * 4);
        assert_eq!(two(parts(&ids[..rows + 1], &[], 100)), (0..rows, rows..rows + 1));
        let line = "x".repeat((1 << 30) / 3);
        let lines = vec![Document::Json(line.as_str()); 3];
        assert_eq!(two(parts(&ids[..3], &lines, 1)), (0..2, 2..3));
        assert_eq!(parts(&ids[..1], &[Document::Keep], 1).expect("fits"), vec![0..1]);
        let long = "x".repeat(1 << 30);
        assert!(matches!(parts(&ids[..1], &[Document::Json(&long)], 1), Err(Error::BatchTooLarge { .. })));
    }
}
