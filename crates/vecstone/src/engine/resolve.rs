//! What a batch does to the rows that are there: decided in the order of writing, never when it was accepted.

use super::Engine;
use crate::buffer::Change;
use crate::buffer::batch::Batch;
use crate::pair::{Effects, Kept};
use crate::segment::Segment;
use crate::segment::version::{At, Version};
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_BATCH_RECORDS;
use crate::types::document::Document;
use crate::types::error::{Error, Result};
use hashbrown::HashTable;

/// How many ids are looked up side by side.
const AHEAD: usize = 32;

impl Engine {
    /// Finds the rows that a batch replaces or deletes, and the documents that its puts keep. The rows of sealed segments,
    /// and of the active segment's base, are deleted in `version`.
    pub(super) fn resolve<'a>(&self, version: &'a mut Version, batch: Batch<'a>) -> Result<Effects<'a>> {
        let changes: Vec<_> = batch.changes(self.schema.hasher()).collect();
        #[cfg(test)]
        if planted::is(Bug::KillAtPut) {
            let cross_deletes = self.resolve_as_accepted(version, &changes)?;
            return Ok(Effects { cross_deletes, kept: Vec::new() });
        }
        let keeps = keeps_documents(version, &changes);
        let mut replaced = vec![None; if keeps { changes.len() } else { 0 }];
        let cross_deletes = delete_replaced(version, &changes, &mut replaced)?;
        #[cfg(test)]
        if keeps && planted::is(Bug::KeepAtPut) {
            self.replaced_as_accepted(version, &changes, &mut replaced)?;
        }
        let kept = if keeps { find_kept(version, &changes, &replaced)? } else { Vec::new() };
        Ok(Effects { cross_deletes, kept })
    }

    /// The planted bug: what a put replaces is what it would have replaced when it was accepted.
    #[cfg(test)]
    fn resolve_as_accepted(&self, version: &mut Version, changes: &[Change<'_>]) -> Result<Vec<(u32, u32)>> {
        let seen = self.buffer.lock().seen.take().unwrap_or_else(|| self.published.get());
        let mut cross_deletes = Vec::new();
        for change in changes {
            let Some(at) = seen.find(change.hash, change.id)? else { continue };
            let segment = &seen.segments[at.segment].segment;
            let place = version.place_of(segment.number());
            if at.segment + 1 < seen.segments.len()
                && place.is_none_or(|place| version.segments[place].deletions.delete_row(at.row))
            {
                cross_deletes.push((segment_number(segment)?, at.row));
            }
        }
        Ok(cross_deletes)
    }

    /// The planted bug: what a put keeps is what it would have kept when it was accepted.
    #[cfg(test)]
    fn replaced_as_accepted(
        &self,
        version: &Version,
        changes: &[Change<'_>],
        replaced: &mut [Option<At>],
    ) -> Result<()> {
        let seen = self.buffer.lock().seen.clone().unwrap_or_else(|| self.published.get());
        for (change, replaced) in changes.iter().zip(replaced) {
            let found = seen.find(change.hash, change.id)?;
            let place = |at: At| version.place_of(seen.segments[at.segment].segment.number());
            *replaced = found.and_then(|at| Some(At { segment: place(at)?, row: at.row }));
        }
        Ok(())
    }
}

/// Whether a put of a batch may keep a document: there are some, and a put says nothing of its own.
fn keeps_documents(version: &Version, changes: &[Change<'_>]) -> bool {
    let is_there = |what: fn(Document<&str>) -> bool| {
        changes.iter().any(|change| change.put.is_some_and(|(_, document)| what(document)))
    };
    let has_documents = version.segments.iter().any(|part| part.end.jsonl_len > 0);
    (has_documents || is_there(|document| matches!(document, Document::Json(_))))
        && is_there(|document| document == Document::Keep)
}

/// Deletes in `version` the rows of sealed segments and of the active segment's base that a batch replaces or
/// deletes; returns the former. `replaced`, unless it is empty, is told the row of each change, those of the active
/// segment's table included.
fn delete_replaced(
    version: &mut Version,
    changes: &[Change<'_>],
    replaced: &mut [Option<At>],
) -> Result<Vec<(u32, u32)>> {
    let last = version.segments.len() - 1;
    // An id that the active segment has in its table has no live row anywhere else.
    let mut left: Vec<(usize, &Change<'_>)> = Vec::new();
    {
        let active = version.active();
        let heap = active.segment.heap();
        for (n, change) in changes.iter().enumerate() {
            interrupt::check_at(n)?;
            match heap.find(change.hash, change.id, u64::MAX) {
                None => left.push((n, change)),
                Some(row) if !replaced.is_empty() && active.deletions.is_live(row) => {
                    replaced[n] = Some(At { segment: last, row });
                }
                Some(_) => {}
            }
        }
    }
    let mut cross_deletes = Vec::new();
    for (place, part) in version.segments.iter_mut().enumerate().rev() {
        let segment = part.segment.clone();
        let filter = segment.filter(place == last);
        let may_have = |hash| filter.is_none_or(|ids| ids.may_have(hash).unwrap_or(true));
        // All first looks before the first search: they do not wait for each other's memory.
        let mut likely: Vec<(usize, &Change<'_>)> = Vec::new();
        for few in left.chunks(AHEAD) {
            if let Some(ids) = filter {
                ids.prefetch(few.iter().map(|(_, change)| change.hash));
            }
            likely.extend(few.iter().filter(|(_, change)| may_have(change.hash)));
        }
        for (n, change) in likely {
            interrupt::check_at(n)?;
            let found = if place == last {
                segment.find_in_base(change.hash, change.id)
            } else {
                segment.find(change.hash, change.id, part.rows)
            };
            let row = match found {
                Ok(Some(row)) => row,
                Ok(None) => continue,
                // A row whose id is not to be read any more has no id that could be replaced.
                Err(error) if error.is_corrupt() => continue,
                Err(error) => return Err(error),
            };
            // A forged store may have several live rows of one id: all go, as many as a COMMIT can name.
            if place != last && cross_deletes.len() == MAX_BATCH_RECORDS {
                continue;
            }
            if !part.deletions.delete_row(row) {
                continue;
            }
            if place != last {
                cross_deletes.push((segment_number(&segment)?, row));
            }
            if let Some(replaced) = replaced.get_mut(n) {
                *replaced = Some(At { segment: place, row });
            }
        }
    }
    Ok(cross_deletes)
}

/// The documents that the puts of a batch keep, in their order.
fn find_kept<'a>(
    version: &'a Version,
    changes: &[Change<'a>],
    replaced: &[Option<At>],
) -> Result<Vec<(usize, Kept<'a>)>> {
    // By id, the last change so far, and the document that each left.
    let mut last: HashTable<usize> = HashTable::with_capacity(changes.len());
    let mut left: Vec<Option<Kept<'a>>> = Vec::with_capacity(changes.len());
    let mut kept = Vec::new();
    for (n, change) in changes.iter().enumerate() {
        interrupt::check_at(n)?;
        let same = |&other: &usize| changes[other].hash == change.hash && changes[other].id == change.id;
        let before = last.find_entry(change.hash, same).map(|entry| entry.remove().0).ok();
        let document = match (change.put, before) {
            (None, Some(before)) if planted::is(Bug::KeepBehindDelete) => left[before].clone(),
            (None | Some((_, Document::None)), _) => None,
            (Some((_, Document::Json(text))), _) => Some(Kept::Given(text)),
            (Some((_, Document::Keep)), Some(before)) => left[before].clone(),
            (Some((_, Document::Keep)), None) => stored(version, replaced[n])?,
        };
        if let (Some((_, Document::Keep)), Some(document)) = (change.put, &document) {
            kept.push((n, document.clone()));
        }
        left.push(document);
        last.insert_unique(change.hash, n, |&n| changes[n].hash);
    }
    Ok(kept)
}

/// The document of a row that a put replaces. What is damaged is for the writer to count.
fn stored(version: &Version, at: Option<At>) -> Result<Option<Kept<'_>>> {
    let Some(at) = at else { return Ok(None) };
    match version.segments[at.segment].segment.stored_line(at.row.into()) {
        Ok(line) => Ok(line.map(Kept::Stored)),
        Err(error) if error.is_corrupt() => Ok(Some(Kept::Lost(error))),
        Err(error) => Err(error),
    }
}

/// The number of a segment as a cross-segment delete names it.
fn segment_number(segment: &Segment) -> Result<u32> {
    let number = segment.number();
    u32::try_from(number).map_err(|_| Error::TooManyRows { rows: number, max: u32::MAX.into() })
}
