//! Several changes as one write.

use crate::buffer::batch::Op;
use crate::types::document::Document;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, IdRef};
use crate::types::options::Durability;

/// Changes that [`VectorStore::write`](crate::VectorStore::write) stores all or not at all, in their order: of an id that
/// comes twice the last change counts.
///
/// A batch borrows ids, vectors and documents. Nothing is copied or checked before it is written; a batch that is one large
/// [`put_many`](Self::put_many) goes to the file from where its rows lie.
///
/// ```
/// # let dir = tempfile::tempdir().expect("a place");
/// # let path = dir.path().join("store");
/// use vecstone::{Durability, Metric, VectorStore, WriteBatch};
///
/// let store = VectorStore::create(&path, 2, Metric::L2)?;
/// store.put("old", &[1.0, 1.0])?;
///
/// let mut batch = WriteBatch::new();
/// batch
///     .delete("old")
///     .put("plain", &[1.0, 2.0])
///     .put_with_document("page", &[3.0, 4.0], r#"{"title": "North"}"#)
///     .durability(Durability::Sync);
/// store.write(&batch)?; // all of it, durable, or nothing
///
/// assert_eq!((batch.len(), store.len()?), (3, 2));
/// # Ok::<(), vecstone::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a batch does nothing until it is written"]
pub struct WriteBatch<'a> {
    ops: Vec<Op<'a>>,
    /// With the number of ops that come before them.
    rows: Vec<(usize, Rows<'a>)>,
    pub(super) durability: Option<Durability>,
}

/// Puts whose vectors lie one after the other.
#[derive(Debug, Clone)]
pub(super) struct Rows<'a> {
    pub(super) ids: Vec<IdRef<'a>>,
    pub(super) vectors: &'a [f32],
    pub(super) documents: &'a [Document<&'a str>],
}

/// A batch as it is written.
pub(super) enum Changes<'b, 'a> {
    Rows(&'b Rows<'a>),
    Ops(&'b [Op<'a>]),
    Mixed(Vec<Op<'a>>),
}

impl<'a> WriteBatch<'a> {
    /// No change, with the store's durability.
    pub fn new() -> WriteBatch<'a> {
        WriteBatch::default()
    }

    /// Stores a vector of `dim` finite components under an id, or replaces it. A stored document stays.
    pub fn put(&mut self, id: impl Into<IdRef<'a>>, vector: &'a [f32]) -> &mut Self {
        self.put_with_document(id, vector, Document::Keep)
    }

    /// Stores a vector and a document under an id, or replaces both: JSON text, or a [`Document`] that keeps or removes
    /// what is stored.
    pub fn put_with_document(
        &mut self,
        id: impl Into<IdRef<'a>>,
        vector: &'a [f32],
        document: impl Into<Document<&'a str>>,
    ) -> &mut Self {
        self.ops.push(Op::Put { id: id.into(), vector, document: document.into() });
        self
    }

    /// Stores `ids.len()` vectors that lie one after the other, `dim` components each.
    pub fn put_many(&mut self, ids: &'a [impl AsId], vectors: &'a [f32]) -> &mut Self {
        self.put_many_with_documents(ids, vectors, &[])
    }

    /// As [`put_many`](Self::put_many), with what becomes of the document of each row; none of them changes if `documents`
    /// is empty.
    pub fn put_many_with_documents(
        &mut self,
        ids: &'a [impl AsId],
        vectors: &'a [f32],
        documents: &'a [Document<&'a str>],
    ) -> &mut Self {
        self.rows.push((self.ops.len(), Rows::new(ids, vectors, documents)));
        self
    }

    /// Deletes an id, if it is there.
    pub fn delete(&mut self, id: impl Into<IdRef<'a>>) -> &mut Self {
        self.ops.push(Op::Delete { id: id.into() });
        self
    }

    /// When [`VectorStore::write`](crate::VectorStore::write) returns, instead of what
    /// [`OpenOptions::durability`](crate::OpenOptions::durability) says.
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
        self
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.ops.len() + self.rows.iter().map(|(_, rows)| rows.ids.len()).sum::<usize>()
    }

    /// True if there is no change.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changes in their order, for a store of `dim` components: as they lie, where they are of one sort.
    pub(super) fn changes(&self, dim: usize) -> Result<Changes<'_, 'a>> {
        match self.rows.as_slice() {
            [] => return Ok(Changes::Ops(&self.ops)),
            [(_, rows)] if self.ops.is_empty() => return Ok(Changes::Rows(rows)),
            _ => {}
        }
        let (mut mixed, mut taken) = (Vec::with_capacity(self.len()), 0);
        for (at, rows) in &self.rows {
            rows.check(dim)?;
            mixed.extend_from_slice(&self.ops[taken..*at]);
            mixed.extend(rows.puts(dim));
            taken = *at;
        }
        mixed.extend_from_slice(&self.ops[taken..]);
        Ok(Changes::Mixed(mixed))
    }
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        ids: &'a [impl AsId],
        vectors: &'a [f32],
        documents: &'a [Document<&'a str>],
    ) -> Rows<'a> {
        Rows { ids: ids.iter().map(AsId::as_id).collect(), vectors, documents }
    }

    /// Refuses what is not one vector of `dim` components, and one document or none at all, for each id.
    pub(super) fn check(&self, dim: usize) -> Result<()> {
        let (ids, components) = (self.ids.len(), self.vectors.len());
        let fits = ids.checked_mul(dim) == Some(components);
        if fits && (self.documents.is_empty() || self.documents.len() == ids) {
            return Ok(());
        }
        Err(Error::CountMismatch { ids, components, dim })
    }

    fn puts(&self, dim: usize) -> impl Iterator<Item = Op<'a>> {
        self.ids.iter().zip(self.vectors.chunks_exact(dim)).enumerate().map(|(row, (&id, vector))| {
            let document = self.documents.get(row).copied().unwrap_or_default();
            Op::Put { id, vector, document }
        })
    }
}
