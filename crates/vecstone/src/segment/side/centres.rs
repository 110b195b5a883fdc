//! The centres that codes are relative to, as a side file of the store.

use super::codes::Coverage;
use super::{Covered, FilesOf, GoOn, Rows, Scope, SideFile, SideKind, of_type};
use crate::format::Identity;
use crate::pair::files::{StoreFile, random};
use crate::segment::codes;
use crate::segment::codes::build::{self, Work};
use crate::segment::codes::centres::{self, CentresFile};
use crate::segment::codes::frame::Frame;
use crate::segment::version::Version;
use crate::types::element::Element;
use crate::types::error::Result;
use crate::types::schema::Schema;

/// `N.centres.side`.
#[derive(Debug)]
pub(crate) struct CentresKind;

/// Live rows below which a scan is as fast.
const LEAST_ROWS: u64 = 256;
/// Rows for each centre, up to so many centres; from there on four times the rows have twice the centres. See
/// `docs/performance.md`.
const ROWS_PER_CENTRE: u64 = 64;
const LINEAR_CENTRES: u64 = 2048;
/// When the store has so many times the rows, centres are found anew.
const GROWTH: u64 = 2;

/// Whether rows of a store are worth codes: vectors of a few components are as short.
pub(super) fn is_coded(schema: &Schema) -> bool {
    let code = Frame::padded(schema.dim as usize) as u64 / 2 + 16;
    schema.element == Element::F32 && (code * 2 <= schema.stride() || codes::are_for_all())
}

fn count(rows: u64) -> u64 {
    let linear = (rows / ROWS_PER_CENTRE).max(1);
    if linear <= LINEAR_CENTRES { linear } else { (linear * LINEAR_CENTRES).isqrt() }
}

/// The newest file of centres that can be used.
pub(super) fn newest(version: &Version) -> Option<&CentresFile> {
    let usable = |file: &&CentresFile| !file.pages.is_damaged() && file.is_of(&version.schema);
    of_type::<CentresFile>(version.side_files()).filter(usable).last()
}

/// Whether the newest centres are of so few rows that others are to be found.
fn are_outgrown(version: &Version) -> bool {
    newest(version).is_none_or(|centres| version.live() >= centres.rows().max(1).saturating_mul(GROWTH))
}

impl SideKind for CentresKind {
    fn suffix(&self) -> &'static str {
        "centres.side"
    }

    fn is_foreign(&self) -> &'static str {
        "the centres are not those of this store"
    }

    fn differs(&self) -> &'static str {
        "the centres contradict themselves"
    }

    fn scope(&self) -> Scope {
        Scope::Store
    }

    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>> {
        let opened = CentresFile::open(file, identity.uuid)?;
        Ok(opened.map(|file| Box::new(file) as Box<dyn SideFile>))
    }

    /// There are none, or the store has outgrown them, and enough rows are without a code.
    fn is_wanted(&self, rows: &Rows<'_>) -> bool {
        let (version, Some(from)) = (rows.version, rows.optimize.from_hot) else { return false };
        let may = rows.is_active() && rows.closing.is_none() && is_coded(&version.schema);
        may && (version.live() >= LEAST_ROWS || codes::are_for_all())
            && are_outgrown(version)
            && Coverage::of(version).hot_rows() >= from.max(1)
    }

    fn build(&self, rows: &Rows<'_>, file: &StoreFile, go_on: GoOn<'_>) -> Result<()> {
        let (version, id) = (rows.version, random()?);
        let mut work = Work { threads: rows.optimize.threads, done: 0, go_on };
        let wanted = usize::try_from(count(version.live())).unwrap_or(usize::MAX);
        let (frame, found) = build::train(version, id, (wanted, rows.optimize.sample), &mut work)?;
        centres::write(file, &version.schema, (id, &frame), &found, version.live())
    }
}

impl SideFile for CentresFile {
    fn kind(&self) -> &'static dyn SideKind {
        &CentresKind
    }

    fn file(&self) -> &StoreFile {
        &self.pages.file
    }

    fn len(&self) -> u64 {
        self.pages.len()
    }

    fn covers(&self) -> Vec<Covered> {
        Vec::new()
    }

    fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) -> Result<()> {
        self.pages.damaged_pages(see);
        Ok(())
    }

    /// Any centres are right: codes say themselves how far rows are from them.
    fn is_right(&self, _: FilesOf<'_>, _: &[Box<dyn SideFile>]) -> Result<bool> {
        Ok(self.load().is_some() || self.pages.is_damaged())
    }
}
