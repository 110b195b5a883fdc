//! From a filter to the rows that it selects, before anything is measured.

use crate::query::filter::Filter;
use crate::segment::deletion_vector::Mask;
use crate::segment::version::{SegmentView, View};
use crate::sys::parallel;
use crate::types::error::Result;
use crate::types::id::{AsId, Id, IdHasher};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows whose documents one thread looks at in a turn: many share a read, and whole words of a mask are its own.
const TURN: usize = 4096;
const WORD: u64 = 64;

/// The view in which only those rows live that live in `view` and that the filter selects.
///
/// `known`: what this returned for an earlier view of the same store. Its rows are not looked at again.
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt) if a document is not what was written; [`Error::Io`](crate::Error::Io).
pub(crate) fn select(
    filter: &Filter,
    view: &View,
    hasher: IdHasher,
    known: Option<&View>,
    limit: usize,
) -> Result<View> {
    let mut selected = match filter.named() {
        Some(ids) => with_ids(ids, view, hasher)?,
        None => view.clone(),
    };
    if filter.reads_documents() {
        let masks = by_documents(filter, &selected, known, limit)?;
        selected.segments.iter_mut().zip(masks).for_each(|(part, mask)| part.mask = mask);
    }
    Ok(selected)
}

/// The live rows with these ids. O(ids + rows / 64).
fn with_ids(ids: &[Id], view: &View, hasher: IdHasher) -> Result<View> {
    let mut live: Vec<Vec<u64>> = view.segments.iter().map(words).collect();
    for id in ids.iter().filter(|id| view.kind == Some(id.kind())) {
        let id = id.as_id();
        if let Some(at) = view.find(hasher.hash(id.as_bytes()), id.as_bytes())? {
            set(&mut live[at.segment], at.row.into());
        }
    }
    let mut selected = view.clone();
    for (part, live) in selected.segments.iter_mut().zip(live) {
        part.mask = Mask::of_live(&live, part.rows);
    }
    Ok(selected)
}

/// The masks of the live rows whose documents the filter takes.
fn by_documents(filter: &Filter, view: &View, known: Option<&View>, limit: usize) -> Result<Vec<Mask>> {
    let known = |part: &SegmentView| {
        let known = known?;
        known.place_of(part.segment.number()).map(|place| &known.segments[place])
    };
    let parts: Vec<_> = view.segments.iter().map(|part| (part, known(part))).collect();
    let turns: Vec<(usize, Range<u64>)> = parts
        .iter()
        .enumerate()
        .flat_map(|(place, (part, _))| {
            let turn = move |first| (place, first..part.rows.min(first + TURN as u64));
            (0..part.rows).step_by(TURN).map(turn)
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((place, rows)) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (part, known) = parts[*place];
            done.push((*place, rows.start, look(filter, part, known, rows.clone())?));
        }
        Ok(done)
    };
    let mut live: Vec<Vec<u64>> = view.segments.iter().map(words).collect();
    for done in parallel::together(view.live().div_ceil(TURN as u64), limit, work) {
        for (place, first, words) in done? {
            let first = usize::try_from(first / WORD).expect("as many words as there are in memory");
            live[place][first..first + words.len()].copy_from_slice(&words);
        }
    }
    Ok(live.iter().zip(&view.segments).map(|(live, part)| Mask::of_live(live, part.rows)).collect())
}

/// Which of some rows the filter takes, a bit for each.
fn look(
    filter: &Filter,
    part: &SegmentView,
    known: Option<&SegmentView>,
    rows: Range<u64>,
) -> Result<Vec<u64>> {
    let mut live = vec![0; word_of(rows.end - rows.start + WORD - 1)];
    let looked_at = known.map_or(0, |known| known.rows).clamp(rows.start, rows.end);
    if let Some(known) = known {
        let old = part.mask.live_in(rows.start..looked_at);
        let taken = |row: &u64| u32::try_from(*row).is_ok_and(|row| known.mask.is_live(row));
        old.filter(taken).for_each(|row| set(&mut live, row - rows.start));
    }
    let new: Vec<u64> = part.mask.live_in(looked_at..rows.end).collect();
    part.segment.documents(&new, |row, document| {
        if filter.takes_document(document)? {
            set(&mut live, row - rows.start);
        }
        Ok(())
    })?;
    Ok(live)
}

/// A bit for each row of a segment, none of them set.
fn words(part: &SegmentView) -> Vec<u64> {
    vec![0; word_of(part.rows + WORD - 1)]
}

fn set(words: &mut [u64], row: u64) {
    words[word_of(row)] |= 1 << (row % WORD);
}

fn word_of(row: u64) -> usize {
    usize::try_from(row / WORD).expect("as many words as there are in memory")
}
