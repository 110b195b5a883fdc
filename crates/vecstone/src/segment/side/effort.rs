//! How many rows an approximate search looks at, as a side file of the store.

use super::centres;
use super::codes::Coverage;
use super::{Covered, FilesOf, GoOn, Rows, Scope, SideFile, SideKind, of_type};
use crate::format::Identity;
use crate::pair::files::{StoreFile, random};
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::effort::{self, Effort, EffortFile};
use crate::segment::codes::pages::FileId;
use crate::segment::version::Version;
use crate::sys::kernel;
use crate::types::error::{Error, Result};

/// `N.effort.side`.
#[derive(Debug)]
pub(crate) struct EffortKind;

/// It is measured again when the live rows are so many fourths of what they were.
const FEWER: u64 = 3;
const MORE: u64 = 5;

/// What was measured for the newest centres, or with queries of the user's for whichever.
pub(crate) fn measured(version: &Version) -> Option<&Effort> {
    newest(version).map(|file| &file.effort)
}

/// The id of the file that says so.
pub(crate) fn measured_by(version: &Version) -> Option<FileId> {
    newest(version).map(|file| file.pages.id)
}

/// The file of that.
pub(super) fn newest(version: &Version) -> Option<&EffortFile> {
    let centres = centres::newest(version)?.id();
    let counts = |file: &&EffortFile| file.effort.queries > 0 || file.centres == centres;
    of_type::<EffortFile>(version.side_files()).filter(counts).last()
}

/// Whether there are codes, all of the newest centres.
fn is_coded(version: &Version) -> bool {
    let files = Coverage::of(version).files;
    let newest = centres::newest(version).map(CentresFile::id);
    !files.is_empty() && files.iter().all(|file| Some(file.centres.id()) == newest)
}

impl SideKind for EffortKind {
    fn suffix(&self) -> &'static str {
        "effort.side"
    }

    fn is_foreign(&self) -> &'static str {
        "the effort is not that of this store"
    }

    fn differs(&self) -> &'static str {
        "the effort contradicts itself"
    }

    fn scope(&self) -> Scope {
        Scope::Store
    }

    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>> {
        let opened = EffortFile::open(file, identity.uuid)?;
        Ok(opened.map(|file| Box::new(file) as Box<dyn SideFile>))
    }

    /// There are codes, searches go by them, and nothing was measured of them, or of far fewer or more rows. What was
    /// measured with queries of the user's stays until there are others of these.
    fn is_wanted(&self, rows: &Rows<'_>) -> bool {
        let (version, is_used) = (rows.version, kernel::kernels().has_fast_codes());
        let may = is_used && rows.is_active() && rows.closing.is_none();
        if !may || rows.optimize.from_hot.is_none() || !is_coded(version) {
            return false;
        }
        let is_outdated = |effort: &Effort| {
            let fourths = version.live().saturating_mul(4);
            fourths < effort.rows.saturating_mul(FEWER) || fourths > effort.rows.saturating_mul(MORE)
        };
        let is_left = |effort: &Effort| effort.queries == 0 && is_outdated(effort);
        rows.optimize.queries.is_some() || measured(version).is_none_or(is_left)
    }

    fn build(&self, rows: &Rows<'_>, file: &StoreFile, go_on: GoOn<'_>) -> Result<()> {
        let (version, optimize) = (rows.version, &rows.optimize);
        let found = (optimize.measure)(version, optimize, go_on)?;
        // What is damaged was marked so: there is nothing to measure.
        let (Some(effort), Some(centres)) = (found, centres::newest(version)) else {
            return Err(Error::Cancelled);
        };
        effort::write(file, version.schema.uuid, (random()?, centres.id()), &effort)
    }
}

impl SideFile for EffortFile {
    fn kind(&self) -> &'static dyn SideKind {
        &EffortKind
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

    /// Any effort is right: with another one a search finds more or less.
    fn is_right(&self, _: FilesOf<'_>, _: &[Box<dyn SideFile>]) -> Result<bool> {
        Ok(true)
    }
}
