//! What a log says up to the point of an `.ids`, and whether that says the same.

use crate::format::header::Header;
use crate::pair::files::{Files, IdxMap};
use crate::pair::recover;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::{Damaged, Ids};
use crate::segment::index::HeapIndex;
use crate::types::error::{Error, Result};
use crate::types::id::IdHasher;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What differs where an `.ids` with right checksums is not that of its log.
pub(crate) const DIFFERS: &str =
    "the index of ids says something else than the log; it is not used, and what the logs say counts";

/// Whether the log says the same as an `.ids` up to its point: each row, each id, and, of an active segment, each dead
/// row and cross-segment delete. A damaged page is no difference: it is known by its checksum, and not used. Nothing
/// below the point changes, so no lock is needed. O(length of `.idx`), with a table of all rows in memory. `go_on`
/// hears how much of the log was read.
///
/// # Errors
///
/// [`Error::Corrupt`] if the log itself does not hold up to there; [`Error::Cancelled`] if `go_on` breaks off;
/// [`Error::Io`] if `.idx` cannot be read or mapped.
pub(crate) fn says_the_same(
    ids: &Ids,
    files: &Files,
    header: &Header,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<bool> {
    let point = ids.point();
    let mut found = recover::read_part(files, &point.position().sealed(header), point.manifest, go_on)?;
    let end = ids.point().idx_end;
    let map = Arc::new(files.idx.map_exactly(end)?);
    let mut index = HeapIndex::from_row(0, IdxMap { map, end });
    let mut dead = DeletionVector::default();
    index.take(std::mem::take(&mut found.rows), |old| _ = dead.delete_row(old));
    let deleted = |delete| index.deleted(delete);
    found.deletes.iter().filter_map(deleted).for_each(|row| _ = dead.delete_row(row));
    let cross_deletes = found.cross_deletes.iter().map(|kill| (kill.segment, kill.row)).collect();
    let hasher = IdHasher::new(&header.identity.uuid);
    let same = tells_of_deaths(ids, &dead, cross_deletes)
        .and_then(|same| Ok(same && tells_of_rows(ids, &index, hasher)?));
    Ok(same.unwrap_or(true))
}

/// Whether dead rows and cross-segment deletes are those of the log. The file of a sealed segment says nothing of them.
fn tells_of_deaths(
    ids: &Ids,
    dead: &DeletionVector,
    cross_deletes: Vec<(u32, u32)>,
) -> Result<bool, Damaged> {
    if ids.point().manifest == 0 {
        return Ok(true);
    }
    let sorted = |mut cross_deletes: Vec<(u32, u32)>| {
        cross_deletes.sort_unstable();
        cross_deletes.dedup();
        cross_deletes
    };
    let said = DeletionVector::from_roaring(&ids.dead()?, ids.point().rows);
    let same = said.is_some_and(|said| said.dead_rows().eq(dead.dead_rows()));
    Ok(same && sorted(ids.cross_deletes()?) == sorted(cross_deletes))
}

/// Whether `.ids` says of each row and of each id what the log says.
fn tells_of_rows(ids: &Ids, index: &HeapIndex, hasher: IdHasher) -> Result<bool, Damaged> {
    for row in (0..ids.point().rows).filter_map(|row| u32::try_from(row).ok()) {
        if Some(ids.row(row)?) != index.rows().entry(row.into()) {
            return Ok(false);
        }
    }
    let id_of = |row: u32| index.rows().get(row.into()).map(|row| index.id_at(row.idx_at));
    for (hash, row) in index.newest(hasher) {
        let found = ids.find(hash, |other| Ok(id_of(other) == id_of(row)))?;
        if found != Some(row) || !ids.may_have(hash)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same as an error that names the file, to be told and not returned.
pub(crate) fn difference(files: &Files) -> Error {
    Error::corrupt(&files.dat.path.with_extension("ids"), 0, DIFFERS)
}
