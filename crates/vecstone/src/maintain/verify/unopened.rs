//! A store that does not open: all that is there of it.

use super::{VerifyReport, check_side_files, segment};
use crate::format::Identity;
use crate::format::deletions;
use crate::format::header::Header;
use crate::format::manifest::{Manifest, SegmentExtent};
use crate::maintain::repair::source::{self, Candidate};
use crate::maintain::salvage;
use crate::maintain::salvage::segment::{SalvagedSegment, SegmentProbe, probe};
use crate::open::directory;
use crate::open::read_del;
use crate::pair::files::StoreFile;
use crate::pair::log::LogEvent;
use crate::segment::deletion_vector::DeletionVector;
use crate::sys::disk::{Dir, Open};
use crate::types::error::{Error, Result};
use crate::types::id::IdKind;
use std::path::Path;

const UNKNOWN: &str = "the store does not open; repair leaves this segment out";
const NO_MANIFEST: &str = "the store does not open; repair finds the segments by the names of their files";
const DOUBTFUL: &str = "repair cannot tell which rows were deleted, and lists those that may have been";

/// Checks each segment that MANIFEST names, or, without it, that there are files of. `opening`: why the store does not
/// open.
pub(super) fn verify(dir: &Dir, opening: Error) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    match directory::read_manifest(dir) {
        Ok(manifest) if source::is_foreign(&manifest, &source::candidates(dir)?) => {
            report.add(&directory::manifest_path(dir), 0, directory::FOREIGN, NO_MANIFEST);
            let found = source::candidates(dir)?;
            found.into_iter().try_for_each(|candidate| by_name(dir, candidate, &mut report))?;
            return Ok(report);
        }
        Ok(manifest) => {
            report.bytes += manifest.len();
            by_manifest(dir, &manifest, &mut report)?;
        }
        Err(error) => {
            let found = source::candidates(dir)?;
            match error {
                // Any directory.
                Error::NotAStore { .. } if found.iter().all(|candidate| candidate.header.is_none()) => {
                    return Err(error);
                }
                Error::NotAStore { why, .. } => {
                    report.add(&directory::manifest_path(dir), 0, why, NO_MANIFEST);
                }
                error => report.add_error_as(error, NO_MANIFEST)?,
            }
            found.into_iter().try_for_each(|candidate| by_name(dir, candidate, &mut report))?;
        }
    }
    add_opening(opening, dir, &mut report)?;
    Ok(report)
}

/// Adds why the store does not open, unless that is listed already.
fn add_opening(opening: Error, dir: &Dir, report: &mut VerifyReport) -> Result<()> {
    let known = |path: &Path| report.damage.iter().any(|damage| damage.path == path);
    let listed = match &opening {
        Error::Corrupt { path, offset, .. } => {
            report.damage.iter().any(|damage| damage.path == *path && damage.offset == *offset)
        }
        Error::Io { path, .. } => known(path),
        // No MANIFEST.
        Error::NotAStore { path, .. } => path == dir.path() && !report.is_ok(),
        _ => false,
    };
    if listed { Ok(()) } else { report.add_error(opening) }
}

fn by_manifest(dir: &Dir, manifest: &Manifest, report: &mut VerifyReport) -> Result<()> {
    let (kind, mut before) = (IdKind::from_byte(manifest.kind), None);
    for entry in &manifest.segments {
        let identity = Identity { uuid: manifest.uuid, segment: entry.number, salt: entry.salt };
        let header = Header { dim: manifest.dim, element: manifest.element, identity };
        let follows = before.replace(entry.sealed.as_ref()).flatten();
        let probe = match probe(dir, entry.number) {
            Ok(probe) => probe,
            Err(error) => {
                report.add_error(error)?;
                continue;
            }
        };
        let mut part = open(dir, probe, header, report)?;
        part.may_follow(follows);
        let Some(sealed) = &entry.sealed else {
            check_to_the_end(&mut part, &DeletionVector::default(), kind, report)?;
            continue;
        };
        report.bytes += sealed.del.1;
        let deletions = match read_del(dir, entry.number, sealed) {
            Ok(deletions) => deletions,
            Err(error) => report.add_error(error).map(|()| DeletionVector::default())?,
        };
        part.end_at(sealed);
        segment::check_whole(&part, sealed, &deletions, kind, None, report)?;
    }
    Ok(())
}

fn by_name(dir: &Dir, candidate: Candidate, report: &mut VerifyReport) -> Result<()> {
    let Candidate { probe, header, dels } = candidate;
    let Some(header) = header else {
        let what = "neither the header nor the FILE record of .idx says what this segment is";
        report.add(&probe.stem.with_extension("dat"), 0, what, UNKNOWN);
        return Ok(());
    };
    let mut part = open(dir, probe, header, report)?;
    let mut deletions = DeletionVector::default();
    for manifest in dels {
        let path = directory::del_path(dir, header.identity.segment, manifest);
        let file = dir.open_file(&path, Open::Read).map_err(|e| Error::io(&path, "open", e));
        let bytes = file.and_then(|file| {
            StoreFile { path: path.clone(), file }.read_all(deletions::max_bytes(part.most_rows()))
        });
        match bytes.map(|bytes| (bytes.len() as u64, DeletionVector::from_roaring(&bytes, part.most_rows())))
        {
            Ok((len, Some(found))) => {
                report.bytes += len;
                deletions = found;
                break;
            }
            Ok((_, None)) => report.add(&path, 0, "the list of dead rows is damaged", DOUBTFUL),
            Err(error) => report.add_error_as(error, DOUBTFUL)?,
        }
    }
    check_to_the_end(&mut part, &deletions, None, report)
}

fn open(
    dir: &Dir,
    probe: SegmentProbe,
    header: Header,
    report: &mut VerifyReport,
) -> Result<SalvagedSegment> {
    let side = check_side_files(dir, &header.identity, report)?;
    let mut part = SalvagedSegment::with(dir, probe, header, side)?;
    part.last_seq = part.ids().map_or(0, |ids| ids.point().seq);
    Ok(part)
}

/// Checks a segment that has no end but that of its log: where a crash cut it, or where it is damaged.
fn check_to_the_end(
    part: &mut SalvagedSegment,
    deletions: &DeletionVector,
    mut kind: Option<IdKind>,
    report: &mut VerifyReport,
) -> Result<()> {
    part.cut_to_what_counts()?;
    let mut end = SegmentExtent {
        idx_len: part.idx_len,
        dat_len: part.header.row_start(0),
        ..SegmentExtent::default()
    };
    salvage::scan(part, &mut |seen| {
        if let LogEvent::Commit(commit) = seen {
            (end.dat_len, end.jsonl_len) = (commit.rows_end, commit.docs_end);
            kind = kind.or(IdKind::from_byte(commit.kind));
        }
        Ok(())
    })?;
    segment::check(part, &end, deletions, kind, None, report).map(|_| ())
}
