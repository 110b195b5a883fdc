//! Documents that change without vectors, and those that were lost.

use super::commit::Attempt;
use super::{DurabilityTarget, Engine, Writer};
use crate::buffer::batch::Batch;
use crate::segment::version::{At, Version};
use crate::sys::interrupt;
use crate::sys::sync::{MutexGuard, unpoisoned};
use crate::types::config::MAX_BATCH_BYTES;
use crate::types::document::{Document, is_object, merge};
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, IdRef};
use crate::types::options::Durability;
use std::collections::HashMap;
use std::sync::Arc;

/// Documents that change, each of an id that is there, with their rows.
#[derive(Default)]
struct Changed<'a> {
    rows: Vec<At>,
    ids: Vec<IdRef<'a>>,
    documents: Vec<Document<String>>,
}

/// Documents that puts were to keep, and that were found damaged when they were copied.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    count: u64,
    last: Option<Error>,
}

impl Lost {
    /// Those of a batch that was written: each is told once, however often the batch was tried.
    pub(super) fn add(&mut self, lost: Vec<Error>) {
        self.count += lost.len() as u64;
        self.last = lost.into_iter().last().or(self.last.take());
    }

    pub(crate) fn told(&self) -> (u64, Option<String>) {
        (self.count, self.last.as_ref().map(ToString::to_string))
    }
}

impl Engine {
    /// What the buffer says of the document of an id; `Keep`: that it has the one in the files.
    pub(crate) fn document_in_buffer(&self, hash: u64, id: IdRef<'_>) -> Option<Document<String>> {
        self.find_in_buffer(hash, id, |buffer, found| match buffer.document(found.number) {
            Document::Keep => Document::Keep,
            Document::None => Document::None,
            Document::Json(text) => Document::Json(text.to_owned()),
        })
    }

    pub(crate) fn lost(&self) -> MutexGuard<'_, Lost> {
        unpoisoned(self.lost.lock())
    }

    /// Changes documents of ids that are there, in one batch at one place in the order of writing: replaces them, or merges
    /// what is given into them. `Keep` changes nothing.
    pub(crate) fn change_documents(
        &self,
        ids: &[IdRef<'_>],
        documents: &[Document<String>],
        merges: bool,
        durability: Durability,
    ) -> Result<()> {
        let accepted = {
            let mut state = self.buffer.lock();
            state.check_writable()?;
            self.start_threads(&mut state);
            state.buffer.next()
        };
        let seq = self.with_writer(|writer| {
            let Attempt::Done(version) = self.written_to(writer, accepted)? else {
                return Ok(Attempt::SegmentFull);
            };
            let changed = self.changed(&version, ids, documents, merges)?;
            self.write_changed(writer, &version, &changed)
        })?;
        self.finish_write(DurabilityTarget { ops: 0, seq }, durability)
    }

    /// What a call makes of the documents in the files; of an id that comes twice the last counts, or both are merged.
    fn changed<'a>(
        &self,
        version: &Version,
        ids: &[IdRef<'a>],
        documents: &[Document<String>],
        merges: bool,
    ) -> Result<Changed<'a>> {
        let (mut changed, mut unknown) = (Changed::default(), Vec::new());
        let mut places: HashMap<(usize, u32), usize> = HashMap::new();
        for (row, (id, document)) in ids.iter().zip(documents).enumerate() {
            interrupt::check_at(row)?;
            if let Some(expected) = version.kind.filter(|&kind| kind != id.kind()) {
                return Err(Error::IdKindMismatch { expected, found: id.kind() });
            }
            let bytes = id.as_bytes();
            let Some(at) = version.find(self.schema.hasher().hash(bytes), bytes)? else {
                unknown.push(id.to_id());
                continue;
            };
            if *document == Document::Keep || !unknown.is_empty() {
                continue;
            }
            let known = places.get(&(at.segment, at.row)).copied();
            let new = match document {
                Document::Json(patch) if merges => {
                    let stored = match known {
                        Some(place) => changed.documents[place].as_deref().json().map(str::to_owned),
                        None => version.segments[at.segment].segment.document(at.row.into())?,
                    };
                    Document::Json(merged(row, *id, stored.as_deref(), patch)?)
                }
                document => document.clone(),
            };
            if let Some(place) = known {
                changed.documents[place] = new;
                continue;
            }
            places.insert((at.segment, at.row), changed.rows.len());
            changed.rows.push(at);
            changed.ids.push(*id);
            changed.documents.push(new);
        }
        if unknown.is_empty() {
            return Ok(changed);
        }
        unknown.sort_by(|a, b| a.as_id().as_bytes().cmp(b.as_id().as_bytes()));
        unknown.dedup();
        Err(Error::UnknownIds { ids: unknown.into() })
    }

    /// Writes the rows again with their new documents; returns the sequence of that batch, or of the last one if nothing
    /// changes.
    fn write_changed(
        &self,
        writer: &mut Writer,
        version: &Arc<Version>,
        changed: &Changed<'_>,
    ) -> Result<Attempt<u64>> {
        let (Some(kind), false) = (version.kind, changed.rows.is_empty()) else {
            return Ok(Attempt::Done(version.seq));
        };
        let (dim, found) = (self.schema.dim as usize, changed.rows.len() as u64 * self.schema.stride());
        if found > MAX_BATCH_BYTES {
            return Err(Error::BatchTooLarge { what: "bytes of vectors", found, max: MAX_BATCH_BYTES });
        }
        let mut vectors = vec![0.0; changed.rows.len() * dim];
        for (at, vector) in changed.rows.iter().zip(vectors.chunks_exact_mut(dim)) {
            version.read_into(*at, vector)?;
        }
        let documents: Vec<_> = changed.documents.iter().map(Document::as_deref).collect();
        let batch = Batch::Rows { ids: &changed.ids, vectors: &vectors, documents: &documents, dim };
        batch.check(dim, Some(kind))?;
        self.write_one(writer, batch, kind)
    }
}

/// What a patch makes of the document of an id.
fn merged(row: usize, id: IdRef<'_>, stored: Option<&str>, patch: &str) -> Result<String> {
    if is_object(patch) && stored.is_some_and(|stored| !is_object(stored)) {
        return Err(Error::NotAnObject { id: id.to_id() });
    }
    merge(stored, patch).map_err(|error| Error::InvalidDocument { row, why: error.to_string().into() })
}
