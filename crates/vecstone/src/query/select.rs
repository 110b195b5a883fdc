//! From a filter to the rows that it selects, before anything is measured.

use crate::query::filter::Filter;
use crate::segment::PREFETCH_WIDTH;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::types::error::Result;
use crate::types::id::{AsId, Id, IdHasher};
use std::ops::Range;

/// Rows whose documents one thread looks at in a morsel: many share a read, and whole words of a deletion vector are
/// its own.
const MORSEL_ROWS: usize = 4096;
const WORD: u64 = 64;

/// The version in which only those rows live that live in `version` and that the filter selects.
///
/// `known`: what this returned for an earlier version of the same store. Its rows are not looked at again.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt) if a document is not what was written; [`Error::Io`](crate::Error::Io).
pub(crate) fn select(
    filter: &Filter,
    version: &Version,
    hasher: IdHasher,
    known: Option<&Version>,
    limit: usize,
) -> Result<Version> {
    let mut selected = match filter.named() {
        Some(ids) => with_ids(ids, version, hasher)?,
        None => version.clone(),
    };
    if filter.reads_documents() {
        let deletions = by_documents(filter, &selected, known, limit)?;
        selected.segments.iter_mut().zip(deletions).for_each(|(part, deletions)| part.deletions = deletions);
    }
    Ok(selected)
}

/// The live rows with these ids. O(ids + rows / 64).
fn with_ids(ids: &[Id], version: &Version, hasher: IdHasher) -> Result<Version> {
    let mut live: Vec<Vec<u64>> = version.segments.iter().map(words).collect();
    for (step, ids) in ids.chunks(PREFETCH_WIDTH).enumerate() {
        interrupt::check_at(step)?;
        let ids = ids.iter().map(AsId::as_id).filter(|id| version.kind == Some(id.kind()));
        let mut hashed = [None; PREFETCH_WIDTH];
        hashed.iter_mut().zip(ids).for_each(|(to, id)| *to = Some((hasher.hash(id.as_bytes()), id)));
        let hashed = hashed.iter().flatten();
        version.prefetch(hashed.clone().map(|(hash, _)| *hash));
        for (hash, id) in hashed {
            if let Some(at) = version.find(*hash, id.as_bytes())? {
                set(&mut live[at.segment], at.row.into());
            }
        }
    }
    let mut selected = version.clone();
    for (part, live) in selected.segments.iter_mut().zip(live) {
        part.deletions = DeletionVector::of_live(&live, part.rows);
    }
    Ok(selected)
}

/// The deletion vectors of the live rows whose documents the filter takes.
fn by_documents(
    filter: &Filter,
    version: &Version,
    known: Option<&Version>,
    limit: usize,
) -> Result<Vec<DeletionVector>> {
    let known = |part: &SegmentVersion| {
        let known = known?;
        known.place_of(part.segment.number()).map(|place| &known.segments[place])
    };
    let parts: Vec<_> = version.segments.iter().map(|part| (part, known(part))).collect();
    let morsels = parts.iter().enumerate().flat_map(|(place, (part, _))| {
        let morsel = move |first| (place, first..part.rows.min(first + MORSEL_ROWS as u64));
        (0..part.rows).step_by(MORSEL_ROWS).map(morsel)
    });
    let look = |done: &mut Vec<_>, (place, rows): (usize, Range<u64>)| -> Result<()> {
        let (part, known) = parts[place];
        done.push((place, rows.start, look(filter, part, known, rows)?));
        Ok(())
    };
    let mut live: Vec<Vec<u64>> = version.segments.iter().map(words).collect();
    let wanted = version.live().div_ceil(MORSEL_ROWS as u64);
    for (place, first, words) in parallel::for_each_piece(morsels, wanted, limit, Vec::new, look)?.concat() {
        let first = usize::try_from(first / WORD).expect("as many words as there are in memory");
        live[place][first..first + words.len()].copy_from_slice(&words);
    }
    Ok(live
        .iter()
        .zip(&version.segments)
        .map(|(live, part)| DeletionVector::of_live(live, part.rows))
        .collect())
}

/// Which of some rows the filter takes, a bit for each.
fn look(
    filter: &Filter,
    part: &SegmentVersion,
    known: Option<&SegmentVersion>,
    rows: Range<u64>,
) -> Result<Vec<u64>> {
    interrupt::check()?;
    let mut live = vec![0; word_of(rows.end - rows.start + WORD - 1)];
    let looked_at = known.map_or(0, |known| known.rows).clamp(rows.start, rows.end);
    if let Some(known) = known {
        let old = part.deletions.live_in(rows.start..looked_at);
        let taken = |row: &u64| u32::try_from(*row).is_ok_and(|row| known.deletions.is_live(row));
        old.filter(taken).for_each(|row| set(&mut live, row - rows.start));
    }
    let new: Vec<u64> = part.deletions.live_in(looked_at..rows.end).collect();
    part.segment.documents(&new, |row, document| {
        if filter.takes_document(document)? {
            set(&mut live, row - rows.start);
        }
        Ok(())
    })?;
    Ok(live)
}

/// A bit for each row of a segment, none of them set.
fn words(part: &SegmentVersion) -> Vec<u64> {
    vec![0; word_of(part.rows + WORD - 1)]
}

fn set(words: &mut [u64], row: u64) {
    words[word_of(row)] |= 1 << (row % WORD);
}

fn word_of(row: u64) -> usize {
    usize::try_from(row / WORD).expect("as many words as there are in memory")
}
