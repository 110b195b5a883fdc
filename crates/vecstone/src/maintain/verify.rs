//! Reading every byte and saying where it is not what was written.
//!
//! What is damaged, or cannot be read, is listed, and reading goes on behind it: along a log as `repair` does, which
//! knows where the next batch begins that holds.

mod segment;
mod unopened;

use crate::format::Identity;
use crate::format::manifest::SegmentEntry;
use crate::maintain::repair::MOST_LISTED;
use crate::maintain::repair::source::{candidates, is_foreign};
use crate::maintain::salvage::segment::SalvagedSegment;
use crate::open::directory;
use crate::open::read_del;
use crate::open::reader::Reader;
use crate::pair::VectorStorage;
use crate::pair::files::StoreFile;
use crate::query::snapshot::Snapshot;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::side::{self, Found, OpenFiles, SideFile, SideKind};
use crate::segment::version::Version;
use crate::sys::disk::{Dir, Disk, Open};
use crate::types::error::{Error, Result};
use crate::types::id::Id;
use segment::LiveRows;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The damaged file.
    pub path: PathBuf,
    /// Byte offset, as near as it is known.
    pub offset: u64,
    /// The id whose vector or document is hurt, where it is one.
    pub id: Option<Id>,
    /// What does not hold.
    pub what: String,
    /// What that means for the store.
    pub consequence: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: {}", self.path.display(), self.offset, self.what)?;
        if let Some(id) = &self.id {
            write!(f, " (id {id})")?;
        }
        write!(f, "; {}", self.consequence)
    }
}

/// What a check of every byte found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Bytes checked.
    pub bytes: u64,
    /// Each damaged place, the first 100,000 of them; empty if all is well.
    pub damage: Vec<Damage>,
    /// Damaged places that are not listed because there are more than that.
    pub unlisted: u64,
    /// Bytes behind the last batch that counts: a write that a crash cut short, or one under way. No failure.
    pub tail_bytes: u64,
}

impl VerifyReport {
    /// True if nothing is damaged.
    pub fn is_ok(&self) -> bool {
        self.damage.is_empty()
    }

    /// Adds a damaged place that hurts no single id.
    pub(crate) fn add(
        &mut self,
        path: &Path,
        offset: u64,
        what: impl Into<String>,
        consequence: &'static str,
    ) {
        self.list(Damage { path: path.to_owned(), offset, id: None, what: what.into(), consequence });
    }

    fn list(&mut self, damage: Damage) {
        if self.damage.len() < MOST_LISTED {
            self.damage.push(damage);
        } else {
            self.unlisted += 1;
        }
    }

    /// Adds what an error says of damage; other errors pass through.
    fn add_error(&mut self, error: Error) -> Result<()> {
        self.add_error_as(error, UNREADABLE)
    }

    fn add_error_as(&mut self, error: Error, consequence: &'static str) -> Result<()> {
        match error {
            Error::Corrupt { path, offset, what } => self.add(&path, offset, what, consequence),
            Error::NotAStore { path, why } => self.add(&path, 0, why, consequence),
            error if !is_of_content(&error) => return Err(error),
            Error::Io { path, operation, source, .. } => {
                self.add(&path, 0, format!("cannot {operation}: {source}"), consequence);
            }
            error => return Err(error),
        }
        Ok(())
    }

    fn append(&mut self, other: VerifyReport) {
        self.bytes += other.bytes;
        self.tail_bytes += other.tail_bytes;
        self.unlisted += other.unlisted;
        other.damage.into_iter().for_each(|damage| self.list(damage));
    }
}

/// What the system says of a place that the disk cannot read, on every Unix.
const EIO: i32 = 5;

/// Whether an error is about what is on the disk. Others (no permission, too many open files) say nothing of it.
pub(super) fn is_of_content(error: &Error) -> bool {
    match error {
        Error::Io { operation, source, .. } => *operation == "read" || source.raw_os_error() == Some(EIO),
        error => error.is_corrupt(),
    }
}

const UNREADABLE: &str = "the store does not open; repair keeps what checks out";
const TWICE: &str = "a search may show both; repair keeps the newer";
const REBUILT: &str = "nothing is lost: it is rebuilt from .idx";

/// How often a finding is looked for again because MANIFEST was replaced meanwhile.
const ATTEMPTS: usize = 100;
/// The same where the store does not open, which took its time.
const FEW_ATTEMPTS: usize = 10;

impl VectorStorage {
    /// Checks every byte that counts in all files: headers, records and their chain, rows, documents. O(bytes).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] for what says nothing of the bytes. Damage is in the report, not an error; so are bytes that the disk
    /// cannot read.
    pub fn verify(&self) -> Result<VerifyReport> {
        let (end, mut report) = (self.written().sealed(self.header()), VerifyReport::default());
        let part = SalvagedSegment::up_to(&end, self.files(), *self.header(), Vec::new())?;
        segment::check_whole(&part, &end, &DeletionVector::default(), self.kind(), None, &mut report)?;
        Ok(report)
    }
}

/// Checks everything that a snapshot reads, and MANIFEST.
pub(crate) fn verify_version(dir: &Dir, snapshot: &Snapshot) -> Result<VerifyReport> {
    let (mut report, mut before, mut live) = (VerifyReport::default(), None, LiveRows::default());
    for (place, part) in (0..).zip(&snapshot.files().segments) {
        live.place = place;
        let (segment, files) = (&part.segment, part.segment.files());
        let side = check_side_files(dir, &segment.header().identity, &mut report)?;
        let mut found = SalvagedSegment::up_to(&part.end, &files, *segment.header(), side)?;
        found.may_follow(before.replace(&part.end));
        segment::check_whole(
            &found,
            &part.end,
            &part.deletions,
            snapshot.kind(),
            Some(&mut live),
            &mut report,
        )?;
    }
    check_live(snapshot, &mut live, &mut report);
    check_side_files_of_store(dir, snapshot.files(), &mut report)?;
    check_lists(dir, &mut report)?;
    Ok(report)
}

/// Names each live row whose id has a newer live one.
fn check_live(snapshot: &Snapshot, live: &mut LiveRows, report: &mut VerifyReport) {
    let Some(kind) = snapshot.kind() else { return };
    let part = |place: u32| &snapshot.files().segments[place as usize];
    // An id that cannot be read is named as damage of the log.
    let id_of = |&(_, place, row): &(u64, u32, u32)| part(place).segment.id(row.into(), kind).ok();
    for rows in live.of_one_hash() {
        for (at, older) in rows.iter().enumerate() {
            let Some(id) = id_of(older) else { continue };
            let Some(newer) = rows[at + 1..].iter().find(|newer| id_of(newer).as_ref() == Some(&id)) else {
                continue;
            };
            let (of, number) = (&part(older.1).segment, part(newer.1).segment.number());
            let (path, offset) = (of.files().dat.path, of.header().row_start(older.2.into()));
            let what = format!(
                "row {} and row {} of segment {number} are both live, and have the same id",
                older.2, newer.2
            );
            report.list(Damage { path, offset, id: Some(id), what, consequence: TWICE });
        }
    }
}

/// Checks MANIFEST and the lists of dead rows that it names. Once open they do not change; but beside a writer
/// MANIFEST may be replaced, and the list removed, before one is open.
fn check_lists(dir: &Dir, report: &mut VerifyReport) -> Result<()> {
    for attempt in 1.. {
        let (manifest, bytes) = match directory::read_manifest_bytes(dir) {
            Ok(read) => read,
            Err(error) => return report.add_error(error),
        };
        let mut found = VerifyReport { bytes: bytes.len() as u64, ..VerifyReport::default() };
        for (entry, sealed) in manifest.segments.iter().filter_map(|e| Some((e, e.sealed.as_ref()?))) {
            found.bytes += sealed.del.1;
            if let Err(error) = read_del(dir, entry.number, sealed) {
                found.add_error(error)?;
            }
        }
        if found.is_ok() || attempt == ATTEMPTS || !is_replaced(dir, &bytes) {
            report.append(found);
            break;
        }
    }
    Ok(())
}

/// Whether this directory has another MANIFEST by now than that of these bytes.
fn is_replaced(dir: &Dir, bytes: &[u8]) -> bool {
    directory::read_manifest_bytes(dir).is_ok_and(|now| now.1 != bytes)
}

/// Whether MANIFEST names another segment of that number: the snapshot is of a store that was replaced, file by file.
fn is_of_another(dir: &Dir, identity: &Identity) -> bool {
    directory::read_manifest(dir).is_ok_and(|now| {
        let named = |entry: &SegmentEntry| entry.number == identity.segment && entry.salt == identity.salt;
        now.uuid != identity.uuid || !now.segments.iter().any(named)
    })
}

/// Checks the side files of a segment. Gives back those that can be used: all of each is readable.
fn check_side_files(dir: &Dir, identity: &Identity, report: &mut VerifyReport) -> Result<OpenFiles> {
    let mut usable = Vec::new();
    for kind in side::of_segments() {
        let path = side::path(dir, identity.segment, kind);
        let opened = match dir.open_file(&path, Open::Read) {
            Ok(file) => kind.open(StoreFile { path: path.clone(), file }, identity),
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => Err(Error::io(&path, "open", e)),
        };
        if !matches!(opened, Ok(None)) || !is_of_another(dir, identity) {
            usable.extend(check_side_file(kind, &path, opened, report)?);
        }
    }
    Ok(usable)
}

/// Checks every byte of a side file. Gives it back if all of it is readable.
fn check_side_file(
    kind: &dyn SideKind,
    path: &Path,
    opened: Result<Option<Box<dyn SideFile>>>,
    report: &mut VerifyReport,
) -> Result<Option<Box<dyn SideFile>>> {
    let file = match opened {
        Ok(Some(file)) => file,
        Ok(None) => {
            report.add(path, 0, kind.is_foreign(), REBUILT);
            return Ok(None);
        }
        Err(error) => return report.add_error_as(error, REBUILT).map(|()| None),
    };
    report.bytes += file.len();
    let mut readable = true;
    file.damaged_pages(&mut |at, unreadable| {
        readable &= !unreadable;
        let what = if unreadable { "a page cannot be read" } else { "a page does not match its checksum" };
        report.add(path, at, what, REBUILT);
    })?;
    Ok(Some(file).filter(|_| readable))
}

/// Checks the side files that are of no single segment.
fn check_side_files_of_store(dir: &Dir, version: &Version, report: &mut VerifyReport) -> Result<()> {
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    let files_of = |identity: &Identity| {
        let mut segments = version.segments.iter().map(|part| &part.segment);
        let segment = segments.find(|segment| segment.header().identity == *identity)?;
        Some((segment.files(), *segment.header()))
    };
    let logs_hold = report.is_ok();
    let mut readable = Vec::new();
    for Found { kind, path, opened, .. } in side::of_store(dir, &names, version.schema.uuid) {
        readable.extend(check_side_file(kind, &path, opened, report)?);
    }
    if logs_hold {
        readable.iter().try_for_each(|file| segment::compare(&**file, &files_of, &readable, report))?;
    }
    Ok(())
}

/// Checks a store as it lies on the disk, segment by segment, even where it does not open.
pub(crate) fn verify_directory(disk: &Arc<dyn Disk>, path: &Path) -> Result<VerifyReport> {
    let mut attempt = 1;
    loop {
        // Looked at first: the error below is of this store, or of what has taken its place since.
        let dir = directory::open(disk, path)?;
        let before = directory::read_manifest_bytes(&dir).ok();
        let error = match Reader::open(disk, path) {
            // One without a segment opens beside those of another store, too.
            Ok((reader, _)) => {
                let (manifest, snapshot) = reader.with_manifest()?;
                let dir = &snapshot.files().dir;
                if !is_foreign(&manifest, &candidates(dir)?) {
                    return verify_version(dir, &snapshot);
                }
                Error::corrupt(&directory::manifest_path(dir), 0, directory::FOREIGN)
            }
            // No MANIFEST, but perhaps segments.
            Err(error @ Error::NotAStore { .. }) => error,
            Err(error) if is_of_content(&error) => error,
            Err(error) => return Err(error),
        };
        let report = unopened::verify(&dir, error)?;
        // Beside a writer files vanish when MANIFEST is replaced; or someone puts another store there.
        let replaced = before.is_some_and(|(_, bytes)| directory::is_replaced(disk, path, &dir, &bytes));
        if !replaced || attempt == FEW_ATTEMPTS {
            return Ok(report);
        }
        attempt += 1;
    }
}

/// What `verify` of a path reports where damage keeps it from being opened.
pub(crate) fn as_damage(error: Error) -> Result<VerifyReport> {
    if !error.is_corrupt() {
        return Err(error);
    }
    let mut report = VerifyReport::default();
    report.add_error(error)?;
    Ok(report)
}
