//! What `.ids` alone says of the active segment: used from opening on, and compared with the log before it becomes part of
//! anything that cannot be rebuilt.

use crate::engine::{Drain, Engine, SyncPermit, Writer};
use crate::open::apply_cross_deletes;
use crate::pair::files::Files;
use crate::pair::recover;
use crate::segment::Segment;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::in_log;
use crate::segment::version::Version;
use crate::sys::disk::Dir;
use crate::sys::planted::{self, Bug};
use crate::sys::sync::{Instant, unpoisoned};
use crate::types::error::{Error, Result};
use crate::types::id::IdHasher;
use std::sync::Arc;

impl Engine {
    /// Compares what `.ids` said at opening with the log, if nobody has. Where they differ the file goes, and the version is
    /// what the logs say.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the log itself is damaged.
    pub(crate) fn confirm(&self, permit: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        let Some(claim) = writer.claim.clone() else { return Ok(()) };
        if !planted::is(Bug::TrustIds) && !claim.ids_are_right(&mut recover::to_the_end)? {
            self.sync_log_end(permit, writer)?;
            self.rebuild(writer)?;
            self.remove(&claim.side_files().map(|file| file.file().path.clone()).collect::<Vec<_>>());
            self.note_difference(&claim);
        }
        writer.claim = None;
        Ok(())
    }

    /// The same ahead of time, so that nobody waits for it later: the log is read without a lock, and no faster than the
    /// background may.
    pub(crate) fn confirm_in_background(&self) {
        let Ok(Some(claim)) = self.with_writer_lock(|writer| Ok(writer.claim.clone())) else { return };
        let start = Instant::now();
        match claim.ids_are_right(&mut |read| self.maintenance.pace(start, read)) {
            Ok(true) => {
                _ = self.with_writer_lock(|writer| {
                    writer.claim = None;
                    Ok(())
                });
            }
            // What fails here is told by the next seal or compaction.
            Ok(false) => _ = self.with_sync_permit(|permit, writer| self.confirm(permit, writer)),
            Err(_) => {}
        }
    }

    /// Before the rows of a segment are copied: what `.ids` alone says of them would become part of the copy.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the log is damaged.
    pub(crate) fn confirm_sealed(&self, segment: &Segment) -> Result<()> {
        if !planted::is(Bug::TrustIds) && !segment.ids_are_right(&mut recover::to_the_end)? {
            segment.drop_ids()?;
            self.note_difference(segment);
        }
        Ok(())
    }

    fn note_difference(&self, segment: &Segment) {
        let error = in_log::difference(&segment.files());
        *unpoisoned(self.maintenance.ids_error.lock()) = Some(error);
    }

    /// Makes the version anew from the `.del` lists and the log of the active segment.
    fn rebuild(&self, writer: &mut Writer) -> Result<()> {
        let files = writer.pair.files().clone();
        let mut found = recover::recover(&files, None, writer.manifest.number)?;
        let mut version = self.published.draft();
        if found.position.seq != writer.pair.written().seq {
            let what = "the log has other batches than were written";
            return Err(Error::corrupt(&files.idx.path, found.position.idx_end, what));
        }
        let (segment, deletions) = without_ids(&self.dir, &files, &mut found)?;
        for part in &mut version.segments {
            part.deletions = writer.in_del.get(&part.segment.number()).cloned().unwrap_or_default();
        }
        let part = version.active_mut();
        (part.segment, part.deletions) = (Arc::new(segment), deletions);
        apply_cross_deletes(&mut version, &found, &files)?;
        delete_older(&mut version, &found)?;
        writer.deletes = found.deletes.len() as u64;
        self.publish(writer, version, Drain::Nothing);
        self.fall_back_to_published(writer);
        Ok(())
    }
}

/// The active segment and its dead rows, from its log alone.
fn without_ids(
    dir: &Dir,
    files: &Files,
    found: &mut recover::Recovered,
) -> Result<(Segment, DeletionVector)> {
    let jsonl = files.jsonl.clone().filter(|_| found.position.docs_end > 0);
    let segment = Segment::active(dir, Files { jsonl, ..files.clone() }, found.header, None)?;
    let mut deletions = DeletionVector::default();
    segment.replay(found, &mut deletions)?;
    Ok((segment, deletions))
}

/// An id that the active log names has no live row in a sealed segment. A batch that was written while `.ids` hid such a row
/// did not list it.
fn delete_older(version: &mut Version, found: &recover::Recovered) -> Result<()> {
    let active = version.active().segment.clone();
    let heap = active.heap();
    let hasher = IdHasher::new(&active.header().identity.uuid);
    let newest = heap.newest(hasher);
    let put = newest.iter().filter_map(|&(hash, row)| Some((hash, heap.rows().get(row.into())?.idx_at)));
    let deleted = found.deletes.iter().map(|delete| (delete.hash, delete.idx_at));
    let last = version.segments.len() - 1;
    for (hash, idx_at) in put.chain(deleted) {
        for part in &mut version.segments[..last] {
            if let Some(row) = part.segment.find(hash, heap.id_at(idx_at), part.rows)? {
                part.deletions.delete_row(row);
            }
        }
    }
    Ok(())
}
