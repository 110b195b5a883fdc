//! Side files: what can be built again from the other files of a store, and saves time as long as it is there.
//!
//! Each kind of them is a line in [`LIST`]. Opening, sealing, closing, compaction, backup, verify and clean-up go by that
//! list, so a new kind is a file in this folder and a line there; one of scope [`Scope::Segment`], which look-ups use
//! as they do `.ids`, has a field of [`Segment`] beside. What holds for all of them:
//!
//! - Nothing in a side file is trusted. Damage in one, or its absence, costs time and never data.
//! - A file is written under the name of one in the making, synced, and renamed: a crash leaves it whole, or not at all.
//! - A file says itself for which state of which log it holds ([`Covered`]). Its user compares that with the log.

use crate::format::Identity;
use crate::format::header::Header;
use crate::pair::files::{Files, StoreFile};
use crate::segment::Segment;
use crate::segment::codes::effort::Effort;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::point::Point;
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::disk::Dir;
use crate::types::error::Result;
use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

mod centres;
mod codes;
mod effort;
mod files;
mod ids;
mod stats;

pub(crate) use crate::segment::point::Covered;
pub(crate) use codes::{CodedFile, Coverage};
pub(crate) use effort::{measured, measured_by};
pub(crate) use files::{Found, Pending, build, carry, copy, is_suffix, numbered, obsolete, of_store, path};
pub use stats::{EffortStats, LookedAt, SideStats};
pub(crate) use stats::{effort as effort_stats, stats};

/// All kinds of side files. What a later one needs is before it.
const LIST: &[&dyn SideKind] =
    &[&ids::IdsFile, &centres::CentresKind, &codes::CodesKind, &effort::EffortKind];

#[cfg(test)]
thread_local! {
    static OF_A_TEST: std::cell::Cell<&'static [&'static dyn SideKind]> = const { std::cell::Cell::new(&[]) };
}

/// All kinds of side files; in a test, with those that it brings.
pub(crate) fn all() -> impl Iterator<Item = &'static dyn SideKind> {
    #[cfg(test)]
    let more = OF_A_TEST.get();
    #[cfg(not(test))]
    let more: &[&dyn SideKind] = &[];
    LIST.iter().chain(more).copied()
}

/// The kinds of which each segment has a file of its own.
pub(crate) fn of_segments() -> impl Iterator<Item = &'static dyn SideKind> {
    all().filter(|kind| kind.scope() == Scope::Segment)
}

/// Runs a test with more kinds, in this thread.
#[cfg(test)]
pub(crate) fn with<T>(kinds: &'static [&'static dyn SideKind], test: impl FnOnce() -> T) -> T {
    struct Restore(&'static [&'static dyn SideKind]);
    impl Drop for Restore {
        fn drop(&mut self) {
            OF_A_TEST.set(self.0);
        }
    }
    let _restore = Restore(OF_A_TEST.replace(kinds));
    test()
}

/// What a file describes. It decides where the file's number comes from, and when the file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One segment. Has its number, and goes with it.
    Segment,
    /// Ranges of rows. Has a number of its own, and goes when MANIFEST names none of their segments, or when a file that
    /// it needs is gone.
    Ranges,
    /// The store. Has a number of its own. The newest one stays, an older one as long as a file needs it.
    Store,
}

/// Hears how many bytes were read and written so far, sleeps if that was too fast, and may break off.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Writes what is known already to an empty file.
pub(crate) type Write<'a> = Box<dyn FnOnce(&StoreFile, GoOn<'_>) -> Result<()> + 'a>;

/// The files and the header of a segment by its identity; `None` if it is not there.
pub(crate) type FilesOf<'a> = &'a dyn Fn(&Identity) -> Option<(Files, Header)>;

/// One kind of side files.
pub(crate) trait SideKind: Debug + Send + Sync {
    /// The name of a file is a number, a dot and this: `KIND.side`. Only `ids` ends otherwise.
    fn suffix(&self) -> &'static str;

    /// What is wrong with a file of another segment or store, or with damage in its head.
    fn is_foreign(&self) -> &'static str;

    /// What is wrong with a file that says something else than the log.
    fn differs(&self) -> &'static str;

    fn scope(&self) -> Scope;

    /// Opens a file. `None` if it is damaged, of another version, or not of this segment. If the scope is not a segment,
    /// only the uuid of `identity` counts. Reads no more than the head.
    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>>;

    /// Whether a file is to be built of these rows.
    fn is_wanted(&self, rows: &Rows<'_>) -> bool;

    /// Builds a file of rows, in memory that does not grow with their vectors.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::Error::Corrupt) if the segment is damaged, [`Cancelled`](crate::Error::Cancelled) if `go_on`
    /// broke off.
    fn build(&self, rows: &Rows<'_>, file: &StoreFile, go_on: GoOn<'_>) -> Result<()>;

    /// Whether the background is to look at what is wanted. Asked after each sync, with locks held: reads nothing.
    fn is_due(&self, _durable: &Version) -> bool {
        false
    }

    /// Writes what is known of rows for the place to which a compaction moved them; `None` if they are built anew.
    fn carry<'a>(&'a self, _moved: &'a Moved<'a>) -> Option<Write<'a>> {
        None
    }
}

/// A side file that is open. Whatever is in it, no call panics.
pub(crate) trait SideFile: Any + Debug + Send + Sync {
    fn kind(&self) -> &'static dyn SideKind;

    fn file(&self) -> &StoreFile;

    /// Length in bytes.
    fn len(&self) -> u64;

    /// The rows that it describes; none if it describes the store.
    fn covers(&self) -> Vec<Covered>;

    /// Names of other side files without which it is of no use.
    fn needs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads every byte, by read calls. Tells where what is damaged starts, and whether it cannot be read at all.
    fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) -> Result<()>;

    /// Whether it says what the files of its segments say. A damaged page is no difference. `others`: files of the store
    /// that it may need.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::Error::Corrupt) if the log of a segment does not hold up to the point of the file.
    fn is_right(&self, files_of: FilesOf<'_>, others: &[Box<dyn SideFile>]) -> Result<bool>;
}

/// Side files that are open.
pub(crate) type OpenFiles = Vec<Box<dyn SideFile>>;

/// What a file may be built of: the rows of one segment of a version that is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) version: &'a Version,
    /// Place of the segment in it.
    pub(crate) place: usize,
    /// The store is being closed, and this is the active segment.
    pub(crate) closing: Option<Closing<'a>>,
    /// What the search index is built for.
    pub(crate) optimize: Optimize<'a>,
}

/// When the search index is built, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Optimize<'a> {
    /// Rows without a code from which on they get one; `None`: not now.
    pub(crate) from_hot: Option<u64>,
    /// All is to be in one file.
    pub(crate) merge: bool,
    pub(crate) threads: usize,
    /// Bytes of the sample of which centres are found.
    pub(crate) sample: u64,
    /// How effort is measured: by searches.
    pub(crate) measure: EffortMeter,
    /// With these queries, one after the other, in any case; `None`: with rows of the store, where that is due.
    pub(crate) queries: Option<&'a [f32]>,
}

/// Measures how many rows an approximate search has to look at; `None` where there are no codes.
pub(crate) type EffortMeter = fn(&Version, &Optimize<'_>, GoOn<'_>) -> Result<Option<Effort>>;

impl Optimize<'_> {
    /// Only what opening needs is built.
    pub(crate) const NOT_NOW: Optimize<'static> = Optimize {
        from_hot: None,
        merge: false,
        threads: 1,
        sample: 64 << 20,
        measure: |_, _, _| Ok(None),
        queries: None,
    };

    /// All rows get a code, for a caller who waits.
    pub(crate) fn now(threads: usize, measure: EffortMeter) -> Optimize<'static> {
        Optimize { from_hot: Some(1), merge: true, threads, sample: 256 << 20, measure, queries: None }
    }
}

/// What is known when a store is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing<'a> {
    /// Nothing was written since the log was closed last.
    pub(crate) was_clean: bool,
    /// Deletes in the active segment.
    pub(crate) deletes: u64,
    /// The option of that name.
    pub(crate) ids_after: u64,
    /// What the `.del` file of each sealed segment says.
    pub(crate) in_del: &'a HashMap<u64, DeletionVector>,
    /// The number of MANIFEST.
    pub(crate) manifest: u64,
}

impl<'a> Rows<'a> {
    pub(crate) fn part(&self) -> &'a SegmentVersion {
        &self.version.segments[self.place]
    }

    /// How many rows a file of that kind is built of.
    pub(crate) fn of(&self, kind: &dyn SideKind) -> u64 {
        if kind.scope() == Scope::Segment { self.part().rows } else { self.version.rows() }
    }

    /// Whether the segment may still grow.
    pub(crate) fn is_active(&self) -> bool {
        self.place + 1 == self.version.segments.len()
    }
}

/// Where a compaction moved the live rows of some segments.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) version: &'a Version,
    pub(crate) inputs: &'a [SegmentVersion],
    /// Of each input, by old row: output and new row; `u32::MAX` for a row that was dead.
    pub(crate) to: &'a [Vec<(u32, u32)>],
    pub(crate) outputs: Vec<Output<'a>>,
}

/// A segment that a compaction made. All its rows are synced.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    #[cfg_attr(not(test), expect(dead_code, reason = "codes need only its end"))]
    pub(crate) segment: &'a Segment,
    /// Its end.
    pub(crate) point: Point,
}

/// The files with numbers of their own that count in a version: opened at first use, and kept open with it.
#[derive(Debug, Default)]
pub(crate) struct SideFiles {
    files: OnceLock<OpenFiles>,
    /// The names that were there then.
    names: OnceLock<BTreeSet<OsString>>,
    /// How many rows have a code, as far as was found out.
    pub(crate) coded: AtomicU64,
}

impl SideFiles {
    pub(crate) fn of(&self, version: &Version) -> &[Box<dyn SideFile>] {
        self.files.get_or_init(|| {
            let is_named = |identity: &Identity| {
                version.segments.iter().any(|part| part.segment.header().identity == *identity)
            };
            let names = version.dir.list().unwrap_or_default();
            _ = self.names.set(side_names(&names));
            let found = files::kept(of_store(&version.dir, &names, version.schema.uuid), &is_named);
            found.into_iter().filter_map(|found| found.opened.ok()?).collect()
        })
    }
}

impl SideFiles {
    /// Whether other files are there by now than were opened.
    pub(crate) fn are_outdated(&self, dir: &Dir) -> bool {
        let Some(names) = self.names.get() else { return false };
        dir.list().is_ok_and(|now| side_names(&now) != *names)
    }
}

/// Those of the names that are of side files.
fn side_names(names: &[OsString]) -> BTreeSet<OsString> {
    let is_side = |name: &&OsString| Path::new(name).extension().is_some_and(|end| end == "side");
    names.iter().filter(is_side).cloned().collect()
}

/// Those of a type.
pub(crate) fn of_type<T: SideFile>(files: &[Box<dyn SideFile>]) -> impl Iterator<Item = &T> {
    files.iter().filter_map(|file| {
        let file: &dyn Any = &**file;
        file.downcast_ref()
    })
}
