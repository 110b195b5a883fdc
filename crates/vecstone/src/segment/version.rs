//! What is in the files at one moment: segments, how many rows of each count, and which of them are dead.

use crate::format::manifest::{Sections, SegmentExtent};
use crate::pair::recover::LogPosition;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::side::{SideFile, SideFiles};
use crate::segment::{Lookup, Segment};
use crate::sys::disk::{Dir, Mapping};
use crate::sys::sync::ArcSwap;
use crate::types::error::{Error, Result};
use crate::types::id::{Id, IdKind};
use crate::types::options;
use crate::types::schema::Schema;
use std::borrow::Cow;
use std::sync::Arc;

/// One segment at one moment.
#[derive(Debug, Clone)]
pub(crate) struct SegmentVersion {
    pub(crate) segment: Arc<Segment>,
    /// Rows that count.
    pub(crate) rows: u64,
    pub(crate) deletions: DeletionVector,
    /// Rows of a growing segment, mapped; a sealed one maps itself on first use.
    pub(crate) dat_map: Option<Arc<Mapping>>,
    /// Where its files end: what MANIFEST says of a sealed one, and would say of the active one.
    pub(crate) end: SegmentExtent,
}

impl SegmentVersion {
    /// Moves a growing segment to another end of its log.
    pub(crate) fn move_to(&mut self, position: &LogPosition) {
        self.rows = position.rows;
        self.end = position.sealed(self.segment.header());
    }

    /// Number of live rows.
    pub(crate) fn live(&self) -> u64 {
        self.rows - self.deletions.dead()
    }

    /// The mapping that holds the rows.
    pub(crate) fn dat_map(&self) -> Result<&Arc<Mapping>> {
        self.dat_map.as_ref().map_or_else(|| self.segment.dat_map(), Ok)
    }

    /// The bytes of a row in a mapping of this segment, not checked.
    pub(crate) fn row_in<'a>(&self, map: &'a Mapping, row: u64) -> Result<&'a [u8]> {
        let header = self.segment.header();
        let start = header.row_start(row);
        map.get(start..start + header.stride()).ok_or(Error::NoSuchRow { row, rows: self.rows })
    }

    /// The components of a row in its mapping, not checked.
    pub(crate) fn vector(&self, row: u64) -> Result<Cow<'_, [f32]>> {
        Ok(self.segment.header().element.decode(self.row_in(self.dat_map()?, row)?))
    }
}

/// All segments at one moment, oldest first. The last one is active.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Of the store that it is of: a reader may show another one later.
    pub(crate) schema: Schema,
    /// Where its files are, held open: the system gives its number to no other directory meanwhile.
    pub(crate) dir: Dir,
    pub(crate) segments: Vec<SegmentVersion>,
    /// Kind of the ids, `None` before the first.
    pub(crate) kind: Option<IdKind>,
    /// The last batch in it.
    pub(crate) seq: u64,
    /// Those of MANIFEST.
    pub(crate) sections: Sections,
    /// See [`side_files`](Self::side_files).
    pub(crate) side: Arc<SideFiles>,
}

/// The version that readers see. It is replaced as a whole and never changed; a reader that has one keeps it.
#[derive(Debug)]
pub(crate) struct VersionCell(ArcSwap<Version>);

impl VersionCell {
    pub(crate) fn new(version: Arc<Version>) -> VersionCell {
        VersionCell(ArcSwap::new(version))
    }

    /// The version, for a look: no reference is counted.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Version>> {
        self.0.load()
    }

    /// The version, to keep.
    pub(crate) fn get(&self) -> Arc<Version> {
        self.0.load_full()
    }

    /// A copy of the version, to make the next one of.
    pub(crate) fn draft(&self) -> Version {
        Version::clone(&self.0.load())
    }

    /// Shows this version from here on.
    pub(crate) fn publish(&self, version: Arc<Version>) {
        self.0.store(version);
    }
}

/// A row of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// Place of the segment in the version.
    pub(crate) segment: usize,
    pub(crate) row: u32,
}

impl Version {
    /// A version of no rows and no segments.
    pub(crate) fn empty(schema: Schema, dir: Dir) -> Version {
        let (sections, side) = (Sections::default(), Arc::default());
        Version { schema, dir, segments: Vec::new(), kind: None, seq: 0, sections, side }
    }

    /// The side files that are of no single segment, opened at the first call. Each says itself which rows it holds for.
    pub(crate) fn side_files(&self) -> &[Box<dyn SideFile>] {
        self.side.of(self)
    }

    /// The option of the store of that name.
    pub(crate) fn auto_optimize_rows(&self) -> u64 {
        options::auto_optimize_rows(self.sections.auto_optimize_rows())
    }

    /// The live row of an id, newest segment first.
    pub(crate) fn find(&self, hash: u64, id: &[u8]) -> Result<Option<At>> {
        // The filters pay only where there are other segments to look into.
        let many = self.segments.len() > 2;
        for (place, part) in self.segments.iter().enumerate().rev() {
            if part.rows == 0 || (many && !part.segment.may_have(hash)) {
                continue;
            }
            if let Some(row) = part.segment.find(hash, id, part.rows)?
                && part.deletions.is_live(row)
            {
                return Ok(Some(At { segment: place, row }));
            }
        }
        Ok(None)
    }

    /// As [`find`](Self::find), but waits for nothing.
    pub(crate) fn try_find(&self, hash: u64, id: &[u8]) -> Result<Lookup<At>> {
        let many = self.segments.len() > 2;
        for (place, part) in self.segments.iter().enumerate().rev().filter(|(_, part)| part.rows > 0) {
            match part.segment.try_find(hash, id, part.rows, many)? {
                Lookup::WouldBlock => return Ok(Lookup::WouldBlock),
                Lookup::Found(row) if part.deletions.is_live(row) => {
                    return Ok(Lookup::Found(At { segment: place, row }));
                }
                Lookup::Found(_) | Lookup::Absent => {}
            }
        }
        Ok(Lookup::Absent)
    }

    /// Asks memory for what [`find`](Self::find) will read of a few ids.
    pub(crate) fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        // With more segments a look at each costs more than it saves.
        let parts = self.segments.iter().filter(|part| part.rows > 0);
        if parts.clone().count() <= 2 {
            parts.for_each(|part| part.segment.prefetch(hashes.clone()));
        }
    }

    /// How many rows without a code are worth a file of codes in the background; `None`: never any.
    pub(crate) fn optimize_from(&self) -> Option<u64> {
        Some(self.auto_optimize_rows()).filter(|&rows| rows > 0)
    }

    /// Whether a name of its files stands for another file by now: what is shown may then be of both.
    pub(crate) fn is_replaced(&self) -> Result<bool> {
        for part in &self.segments {
            if part.segment.files().are_replaced(&self.dir)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Number of live rows.
    pub(crate) fn live(&self) -> u64 {
        self.segments.iter().map(SegmentVersion::live).sum()
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> u64 {
        self.segments.iter().map(|part| part.rows).sum()
    }

    /// The live rows, in the order of writing.
    pub(crate) fn live_rows(&self) -> impl Iterator<Item = At> {
        self.segments.iter().enumerate().flat_map(|(segment, part)| {
            let row = |row| u32::try_from(row).expect("below MAX_ROWS");
            part.deletions.live_in(0..part.rows).map(move |number| At { segment, row: row(number) })
        })
    }

    /// The segment that is appended to.
    pub(crate) fn active(&self) -> &SegmentVersion {
        self.segments.last().expect("a version of a store with a dimension has the active segment")
    }

    /// The same, to be changed.
    pub(crate) fn active_mut(&mut self) -> &mut SegmentVersion {
        self.segments.last_mut().expect("a version of a store with a dimension has the active segment")
    }

    /// The place of the segment of that number.
    pub(crate) fn place_of(&self, number: u64) -> Option<usize> {
        self.segments.iter().position(|part| part.segment.number() == number)
    }

    /// A row, checked.
    pub(crate) fn read(&self, at: At) -> Result<Vec<f32>> {
        let segment = &self.segments[at.segment].segment;
        let mut vector = vec![0f32; segment.header().dim as usize];
        segment.read_row(at.row.into(), &mut vector)?;
        Ok(vector)
    }

    /// The components of a row in its mapping, not checked.
    pub(crate) fn vector(&self, at: At) -> Result<Cow<'_, [f32]>> {
        self.segments[at.segment].vector(at.row.into())
    }

    /// The same, to memory for exactly one row.
    pub(crate) fn read_into(&self, at: At, out: &mut [f32]) -> Result<()> {
        self.segments[at.segment].segment.read_row(at.row.into(), out)
    }

    /// Copies rows from the mapping, one to each `dim` components of `out`, and checks the copies.
    pub(crate) fn copy(&self, rows: &[Option<At>], dim: usize, out: &mut [f32]) -> Result<()> {
        for (at, out) in rows.iter().zip(out.chunks_exact_mut(dim)) {
            let Some(at) = at else { continue };
            let (part, row) = (&self.segments[at.segment], u64::from(at.row));
            let bytes = part.row_in(part.dat_map()?, row)?;
            // The copy is checked, not what lies in the mapping.
            self.schema.element.read(out, |copy| {
                copy.copy_from_slice(bytes);
                part.segment.check(row, copy)
            })?;
        }
        Ok(())
    }

    /// The same rows with segments of their own: no lock, no table and no mapping is shared with this version.
    pub(crate) fn detached(&self) -> Result<Version> {
        let detach = |part: &SegmentVersion| {
            let (files, header) = (part.segment.files(), *part.segment.header());
            let segment = Arc::new(Segment::sealed(part.segment.dir(), files, header, part.end.clone())?);
            Ok(SegmentVersion { segment, dat_map: None, ..part.clone() })
        };
        let segments = self.segments.iter().map(detach).collect::<Result<_>>()?;
        Ok(Version { segments, side: Arc::default(), ..self.clone() })
    }

    /// The id of a row.
    pub(crate) fn id(&self, at: At) -> Result<Id> {
        let kind = self.kind.expect("a version with rows has a kind");
        self.segments[at.segment].segment.id(at.row.into(), kind)
    }
}

/// Refuses memory that is not as long as a vector.
pub(crate) fn check_len(dim: usize, out: &[f32]) -> Result<()> {
    if out.len() == dim { Ok(()) } else { Err(Error::DimensionMismatch { expected: dim, found: out.len() }) }
}
