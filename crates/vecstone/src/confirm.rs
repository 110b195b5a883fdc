//! What `.ids` alone says of the active segment: used from opening on, and compared with the log before it becomes part of
//! anything that cannot be rebuilt.

use crate::disk::Dir;
use crate::engine::{Engine, Writer};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::id::IdHasher;
use crate::ids::{Damaged, Ids};
use crate::index::{HeapIndex, IdxMap};
use crate::mask::Mask;
use crate::open::apply_kills;
use crate::planted::{self, Bug};
use crate::recover;
use crate::segment::Segment;
use crate::view::View;
use std::sync::{Arc, PoisonError};

/// What an opening took from `.ids`.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) segment: Arc<Segment>,
    /// Rows of the segment that are dead at the point of the file.
    pub(crate) dead: Mask,
    /// Rows of sealed segments that died up to there.
    pub(crate) kills: Vec<(u32, u32)>,
    /// The MANIFEST that these kills belong to.
    pub(crate) manifest: u64,
}

impl Claim {
    /// Whether the log says the same. Nothing below the point changes, so no lock is needed. O(length of `.idx`).
    fn holds(&self) -> Result<bool> {
        let Some(ids) = self.segment.ids() else { return Ok(false) };
        let (files, end) = (self.segment.files(), self.segment.base());
        let mut found = recover::read_part(&files, end, self.manifest)?;
        let map = Arc::new(files.idx.map(end.idx_len)?);
        let mut index = HeapIndex::from_row(0, IdxMap { map, end: end.idx_len });
        let mut dead = Mask::default();
        index.take(std::mem::take(&mut found.rows), |old| _ = dead.kill(old));
        let deleted = |delete| index.deleted(delete);
        found.deletes.iter().filter_map(deleted).for_each(|row| _ = dead.kill(row));
        let sorted = |mut kills: Vec<(u32, u32)>| {
            kills.sort_unstable();
            kills.dedup();
            kills
        };
        let in_log = found.kills.iter().map(|kill| (kill.segment, kill.row)).collect();
        // A damaged page is no difference: it is known by its checksum, and not used.
        Ok(dead.dead_rows().eq(self.dead.dead_rows())
            && sorted(in_log) == sorted(self.kills.clone())
            && tells_of(ids, &index, end.rows, self.hasher()).unwrap_or(true))
    }

    fn hasher(&self) -> IdHasher {
        IdHasher::new(&self.segment.header().identity.uuid)
    }
}

/// Whether `.ids` says of each row and of each id what the log says.
fn tells_of(ids: &Ids, index: &HeapIndex, rows: u64, hasher: IdHasher) -> Result<bool, Damaged> {
    for row in (0..rows).filter_map(|row| u32::try_from(row).ok()) {
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

impl Engine {
    /// Compares what `.ids` said at opening with the log, if nobody has. Where they differ the file goes, and the version is
    /// what the logs say. In the sync place and the writer's place.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the log itself is damaged.
    pub(crate) fn confirm(&self, writer: &mut Writer) -> Result<()> {
        let Some(claim) = writer.claim.clone() else { return Ok(()) };
        if !planted::is(Bug::TrustIds) && !claim.holds()? {
            self.settle_all(writer)?;
            self.rebuild(writer)?;
            self.remove(&[claim.segment.files().dat.path.with_extension("ids")]);
            let what = "the index of ids said something else than the log; it was dropped, and what the logs say counts";
            let error = Error::corrupt(&claim.segment.files().dat.path.with_extension("ids"), 0, what);
            *self.ids_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        writer.claim = None;
        Ok(())
    }

    /// The same ahead of time, so that nobody waits for it later: the log is read without a lock.
    pub(crate) fn confirm_in_background(&self) {
        let Ok(Some(claim)) = self.in_writers_place(|writer| Ok(writer.claim.clone())) else { return };
        match claim.holds() {
            Ok(true) => {
                _ = self.in_writers_place(|writer| {
                    writer.claim = None;
                    Ok(())
                });
            }
            // What fails here is told by the next seal or compaction.
            Ok(false) => _ = self.in_both_places(|writer| self.confirm(writer)),
            Err(_) => {}
        }
    }

    /// Makes the version anew from the `.del` lists and the log of the active segment.
    fn rebuild(&self, writer: &mut Writer) -> Result<()> {
        let files = writer.pair.files().clone();
        let mut found = recover::recover(&files, None, writer.manifest.number)?;
        let mut view = View::clone(&self.published.load());
        if found.tip.seq != writer.pair.written().seq {
            let what = "the log has other batches than were written";
            return Err(Error::corrupt(&files.idx.path, found.tip.idx_end, what));
        }
        let (segment, mask) = without_ids(&self.dir, &files, &mut found)?;
        for part in &mut view.segments {
            part.mask = writer.in_del.get(&part.segment.number()).cloned().unwrap_or_default();
        }
        let part = view.active_mut();
        (part.segment, part.mask) = (Arc::new(segment), mask);
        apply_kills(&mut view, &found, &files)?;
        kill_older(&mut view, &found)?;
        writer.deletes = found.deletes.len() as u64;
        self.publish(writer, view, None);
        self.fall_back_to_published(writer);
        Ok(())
    }
}

/// The active segment and its dead rows, from its log alone.
fn without_ids(dir: &Dir, files: &Files, found: &mut recover::Recovered) -> Result<(Segment, Mask)> {
    let jsonl = files.jsonl.clone().filter(|_| found.tip.docs_end > 0);
    let segment = Segment::active(dir, Files { jsonl, ..files.clone() }, found.header, None)?;
    let mut mask = Mask::default();
    segment.replay(found, &mut mask)?;
    Ok((segment, mask))
}

/// An id that the active log names has no live row in a sealed segment. A batch that was written while `.ids` hid such a row
/// did not list it.
fn kill_older(view: &mut View, found: &recover::Recovered) -> Result<()> {
    let active = view.active().segment.clone();
    let heap = active.heap();
    let hasher = IdHasher::new(&active.header().identity.uuid);
    let newest = heap.newest(hasher);
    let put = newest.iter().filter_map(|&(hash, row)| Some((hash, heap.rows().get(row.into())?.idx_at)));
    let deleted = found.deletes.iter().map(|delete| (delete.hash, delete.idx_at));
    let last = view.segments.len() - 1;
    for (hash, idx_at) in put.chain(deleted) {
        for part in &mut view.segments[..last] {
            if let Some(row) = part.segment.find(hash, heap.id_at(idx_at), part.rows)? {
                part.mask.kill(row);
            }
        }
    }
    Ok(())
}
