//! Reading every byte and saying where it is not what was written.

use crate::directory;
use crate::disk::{Disk, Open};
use crate::error::{Error, Result};
use crate::files::{Files, Named};
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::manifest::Sealed;
use crate::id::Id;
use crate::ids::Ids;
use crate::index::IdxMap;
use crate::mask::Mask;
use crate::open::read_del;
use crate::reader::Reader;
use crate::recover;
use crate::snapshot::Snapshot;
use std::fmt;
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
    /// Each damaged place; empty if all is well.
    pub damage: Vec<Damage>,
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
        self.damage.push(Damage { path: path.to_owned(), offset, id: None, what: what.into(), consequence });
    }

    /// Adds what an error says of damage; other errors pass through.
    fn add_error(&mut self, error: Error) -> Result<()> {
        match error {
            Error::Corrupt { path, offset, what } => self.add(&path, offset, what, UNREADABLE),
            Error::NotAStore { path, why } => self.add(&path, 0, why, UNREADABLE),
            error => return Err(error),
        }
        Ok(())
    }
}

const UNREADABLE: &str = "the store does not open; repair keeps what checks out";
const LOST: &str = "reading it is an error; repair drops it";
const DEAD: &str = "the row is dead: nothing is lost";
const REBUILT: &str = "nothing is lost: it is rebuilt from .idx";

/// Checks a pair up to an end of its log: headers, records and their chain, rows, documents. O(bytes).
pub(crate) fn verify_pair(
    files: &Files,
    header: &Header,
    end: &Sealed,
    mask: &Mask,
    report: &mut VerifyReport,
) -> Result<()> {
    report.bytes += end.dat_len + end.idx_len + end.jsonl_len;
    let (found, broken) = match recover::read_as_far_as_it_holds(files, end) {
        Ok(found) => found,
        Err(error) => return report.add_error(error),
    };
    if let Some(error) = broken {
        report.add_error(error)?;
    }
    if found.header != *header {
        report.add(&files.dat.path, 0, "the header is not the one the store was opened with", UNREADABLE);
    }
    let (dat_len, jsonl_len) = (files.dat.len()?, files.jsonl_len()?);
    let tails = [(dat_len, end.dat_len), (files.idx.len()?, end.idx_len), (jsonl_len, end.jsonl_len)];
    report.tail_bytes += tails.iter().map(|(len, end)| len.saturating_sub(*end)).sum::<u64>();
    let rows_there = dat_len.saturating_sub(HEADER_BYTES) / header.stride();
    let rows = found.tip.rows.min(rows_there);
    if rows_there < end.rows {
        let what = format!("the file ends here; {} bytes are missing", end.dat_len - dat_len);
        report.add(&files.dat.path, dat_len, what, LOST);
    }
    let idx = IdxMap { map: Arc::new(files.idx.map(found.tip.idx_end)?), end: found.tip.idx_end };
    let mut hurt = |path: &Path, offset: u64, row: u64, what: &str| {
        let at = found.rows.get(row).map_or(0, |row| row.idx_at);
        let id = found.tip.kind.and_then(|kind| Id::from_bytes(kind, idx.id_at(at)));
        let live = u32::try_from(row).is_ok_and(|row| mask.is_live(row));
        let (what, consequence) =
            (format!("{what} {row} does not match its checksum"), if live { LOST } else { DEAD });
        report.damage.push(Damage { path: path.to_owned(), offset, id, what, consequence });
    };
    let crc = |row: u64| found.rows.get(row).map(|row| row.crc);
    for row in recover::bad_rows(&files.dat, header, crc, 0..rows, usize::MAX)? {
        hurt(&files.dat.path, header.row_start(row), row, "row");
    }
    if let Some(jsonl) = &files.jsonl {
        let line = |row: u64| found.rows.line(row);
        for row in recover::bad_lines(files, header, line, 0..found.tip.rows, usize::MAX)? {
            hurt(&jsonl.path, found.rows.line(row).at, row, "the document of row");
        }
    }
    Ok(())
}

/// Checks everything that a snapshot reads, and MANIFEST.
pub(crate) fn verify_view(disk: &Arc<dyn Disk>, dir: &Path, snapshot: &Snapshot) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    for part in &snapshot.files().segments {
        let segment = &part.segment;
        verify_pair(&segment.files(), segment.header(), &part.end, &part.mask, &mut report)?;
        let path = segment.files().dat.path.with_extension("ids");
        let file = match disk.open(&path, Open::Read) {
            Ok(file) => Named { path, file },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(&path, "open", e)),
        };
        match Ids::open(file.clone(), &segment.header().identity)? {
            Some(ids) => verify_ids(&ids, &mut report),
            None => report.add(&file.path, 0, "the index of ids is not one of this segment", REBUILT),
        }
    }
    match directory::read_manifest(disk.as_ref(), dir) {
        Ok(manifest) => {
            report.bytes += manifest.encode().len() as u64;
            for (entry, sealed) in manifest.segments.iter().filter_map(|e| Some((e, e.sealed.as_ref()?))) {
                report.bytes += sealed.del.1;
                if let Err(error) = read_del(disk, dir, entry.number, sealed) {
                    report.add_error(error)?;
                }
            }
        }
        Err(error) => report.add_error(error)?,
    }
    Ok(report)
}

fn verify_ids(ids: &Ids, report: &mut VerifyReport) {
    report.bytes += ids.len();
    if let Some(at) = ids.first_damage() {
        report.add(&ids.file().path, at, "a page does not match its checksum", REBUILT);
    }
}

/// Checks a store as it lies on the disk, segment by segment, even where it does not open.
pub(crate) fn verify_directory(disk: &Arc<dyn Disk>, dir: &Path) -> Result<VerifyReport> {
    let error = match Reader::open(disk, dir) {
        Ok((reader, _)) => return verify_view(disk, dir, &reader.snapshot()?),
        Err(error @ Error::Corrupt { .. }) => error,
        Err(error) => return Err(error),
    };
    let mut report = VerifyReport::default();
    report.add_error(error)?;
    let Ok(manifest) = directory::read_manifest(disk.as_ref(), dir) else { return Ok(report) };
    for entry in &manifest.segments {
        let path = directory::pair_path(dir, entry.number);
        let Ok(files) = Files::open(disk.as_ref(), &path, false) else { continue };
        let Ok((header, _)) =
            recover::read_headers(&files.dat, &files.idx, files.dat.len()?, files.idx.len()?)
        else {
            continue;
        };
        if let Some(sealed) = &entry.sealed {
            let mask = read_del(disk, dir, entry.number, sealed).unwrap_or_default();
            verify_pair(&files, &header, sealed, &mask, &mut report)?;
            continue;
        }
        // The active one has no end but that of its log, or where that breaks.
        let (dat_len, idx_len, jsonl_len) = (files.dat.len()?, files.idx.len()?, files.jsonl_len()?);
        let whole = Sealed { dat_len, idx_len, jsonl_len, ..Sealed::default() };
        if let Ok((found, _)) = recover::read_as_far_as_it_holds(&files, &whole) {
            verify_pair(&files, &header, &found.tip.sealed(&header), &Mask::default(), &mut report)?;
        }
    }
    let mut seen = Vec::new();
    report.damage.retain(|damage| {
        let place = (damage.path.clone(), damage.offset, damage.what.clone());
        let new = !seen.contains(&place);
        seen.push(place);
        new
    });
    Ok(report)
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
