//! The index of ids as a side file: when it is written, and of what.

use super::{Closing, Covered, FilesOf, GoOn, Rows, Scope, SideFile, SideKind};
use crate::format::Identity;
use crate::pair::files::{IdxMap, StoreFile};
use crate::pair::recover;
use crate::pair::rows::RowEntry;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::{self, Content, Ids};
use crate::segment::in_log;
use crate::segment::index::HeapIndex;
use crate::segment::point::Point;
use crate::segment::version::Version;
use crate::types::error::Result;
use crate::types::id::IdHasher;
use std::collections::HashMap;
use std::sync::Arc;

/// `N.ids`, of segment *N*.
#[derive(Debug)]
pub(crate) struct IdsFile;

impl SideKind for IdsFile {
    fn suffix(&self) -> &'static str {
        "ids"
    }

    fn is_foreign(&self) -> &'static str {
        "the index of ids is not one of this segment"
    }

    fn differs(&self) -> &'static str {
        in_log::DIFFERS
    }

    fn scope(&self) -> Scope {
        Scope::Segment
    }

    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>> {
        Ok(Ids::open(file, identity)?.map(|ids| Box::new(ids) as Box<dyn SideFile>))
    }

    /// A sealed segment has one. The active one gets one at closing if much came since the last, or that is damaged.
    fn is_wanted(&self, rows: &Rows<'_>) -> bool {
        let part = rows.part();
        let base = part.segment.base().rows;
        match rows.closing {
            Some(Closing { was_clean, deletes, ids_after, .. }) => {
                (!was_clean && part.rows - base + deletes > ids_after) || part.segment.has_damaged_index()
            }
            None => !rows.is_active() && part.rows > 0 && !(base == part.rows && part.segment.has_ids()),
        }
    }

    /// Reads the log. Dead rows, and cross-segment deletes in other segments, are told of the active segment only:
    /// those of a sealed one are in its `.del`.
    fn build(&self, rows: &Rows<'_>, file: &StoreFile, _: GoOn<'_>) -> Result<()> {
        let (part, none) = (rows.part(), DeletionVector::default());
        let (files, header, end) = (part.segment.files(), part.segment.header(), &part.end);
        let mut found = recover::read_sealed(&files, end)?;
        let map = Arc::new(files.idx.map_exactly(end.idx_len)?);
        let mut index = HeapIndex::from_row(0, IdxMap { map, end: end.idx_len });
        index.take(std::mem::take(&mut found.rows), |_| {});
        let (dead, cross_deletes, manifest) = match rows.closing {
            Some(Closing { in_del, manifest, .. }) => {
                (&part.deletions, cross_deletes_of(in_del, rows.version), manifest)
            }
            None => (&none, Vec::new(), 0),
        };
        let live = index.newest(IdHasher::new(&header.identity.uuid));
        let row = |row: u32| -> RowEntry { index.rows().entry(row.into()).unwrap_or_default() };
        let point = Point::of(header, &found.position, manifest);
        ids::write(
            file,
            &Content { point, row: &row, live, dead: &dead.to_roaring(), cross_deletes: &cross_deletes },
        )
    }
}

/// Rows of sealed segments that died under the present MANIFEST: those that no `.del` file has yet.
fn cross_deletes_of(in_del: &HashMap<u64, DeletionVector>, version: &Version) -> Vec<(u32, u32)> {
    let mut cross_deletes = Vec::new();
    for part in &version.segments[..version.segments.len() - 1] {
        let (number, none) = (part.segment.number(), DeletionVector::default());
        let in_del = in_del.get(&number).unwrap_or(&none);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        cross_deletes.extend(part.deletions.newly_dead(in_del).map(|row| (number, row)));
    }
    cross_deletes
}

impl SideFile for Ids {
    fn kind(&self) -> &'static dyn SideKind {
        &IdsFile
    }

    fn file(&self) -> &StoreFile {
        self.file()
    }

    fn len(&self) -> u64 {
        self.len()
    }

    fn covers(&self) -> Vec<Covered> {
        vec![Covered { first: 0, end: self.point().rows, point: *self.point() }]
    }

    fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) -> Result<()> {
        self.damaged_pages(see)
    }

    fn is_right(&self, files_of: FilesOf<'_>, _: &[Box<dyn SideFile>]) -> Result<bool> {
        let Some((files, header)) = files_of(&self.point().identity) else { return Ok(true) };
        in_log::says_the_same(self, &files, &header, &mut recover::to_the_end)
    }
}
