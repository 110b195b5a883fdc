//! The active segment, opened.

use super::{Segment, open_ids};
use crate::format::header::Header;
use crate::format::manifest::Manifest;
use crate::pair::files::Files;
use crate::pair::recover::{self, LogPosition, Recovered};
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::Ids;
use crate::sys::disk::Dir;
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};

impl Segment {
    /// Opens the active segment: from the point of its `.ids` on if that fits the log, else from the start. Gives back its
    /// dead rows and what recovery found.
    pub(crate) fn growing(
        dir: &Dir,
        files: &Files,
        header: Header,
        manifest: &Manifest,
        by_ids: bool,
    ) -> Result<(Segment, DeletionVector, Recovered)> {
        let ids = open_ids(dir, files, &header);
        // Written only when everything up to there was durable.
        let proven = ids.as_ref().map_or(0, |ids| ids.point().seq);
        let mut damaged = false;
        let usable = ids.filter(|_| by_ids).and_then(|ids| {
            let start = start_at(&ids, files, &header, manifest);
            damaged = ids.is_damaged();
            Some((ids, start?))
        });
        // Documents that no COMMIT names are none.
        let shown = |found: &Recovered| {
            let jsonl = files.jsonl.clone().filter(|_| found.position.docs_end > 0);
            Files { jsonl, ..files.clone() }
        };
        let Some((ids, (position, deletions, cross_deletes))) = usable else {
            let found = recover::recover(files, None, manifest.number)?;
            if found.position.seq < proven && !planted::is(Bug::ForgetPoint) {
                let what = "the log ends before a batch that was durable when .ids was written";
                return Err(Error::corrupt(&files.idx.path, found.position.idx_end, what));
            }
            let segment = Segment::active(dir, shown(&found), header, None)?;
            if damaged {
                segment.mark_index_damaged();
            }
            return Ok((segment, DeletionVector::default(), found));
        };
        let mut found = recover::recover(files, Some(&position), manifest.number)?;
        let named =
            |&(segment, row): &(u32, u32)| recover::CrossSegmentDelete { seq: position.seq, segment, row };
        found.cross_deletes.splice(0..0, cross_deletes.iter().map(named));
        Ok((Segment::active(dir, shown(&found), header, Some(ids))?, deletions, found))
    }
}

/// Where `.ids` lets recovery begin, with the dead rows and cross-segment deletes up to there; `None` if it does not fit.
#[expect(clippy::type_complexity, reason = "used once, above")]
fn start_at(
    ids: &Ids,
    files: &Files,
    header: &Header,
    manifest: &Manifest,
) -> Option<(LogPosition, DeletionVector, Vec<(u32, u32)>)> {
    let point = *ids.point();
    // That of a sealed segment (0) says nothing of dead rows and cross-segment deletes: MANIFEST has been replaced
    // since it was read.
    if point.manifest == 0 || point.manifest > manifest.number || point.rows == 0 {
        return None;
    }
    let position = point.position();
    position.kind?;
    if !recover::ends_a_batch(files, header, &position).ok()? {
        return None;
    }
    let deletions = DeletionVector::from_roaring(&ids.dead().ok()?, point.rows);
    let cross_deletes =
        if point.manifest == manifest.number { ids.cross_deletes().ok()? } else { Vec::new() };
    let is_there = |&(number, row): &(u32, u32)| {
        let entry = manifest.segments.iter().find(|segment| segment.number == u64::from(number));
        let sealed = entry.and_then(|segment| segment.sealed.as_ref());
        sealed.is_some_and(|sealed| u64::from(row) < sealed.rows)
    };
    let deletions = deletions.filter(|deletions| {
        point.rows - deletions.dead() <= ids.count() && cross_deletes.iter().all(is_there)
    });
    if deletions.is_none() {
        // Its checksums are right and it makes no sense: the log is read, and it is written anew.
        ids.note_damage();
    }
    Some((position, deletions?, cross_deletes))
}
