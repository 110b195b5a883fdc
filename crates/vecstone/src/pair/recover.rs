//! Recovery: from the bytes of a pair to what counts. Decides, changes nothing itself.
//!
//! The steps are those of `format.md`, "Reading a pair": walk the batches, look for proof behind the first that does
//! not hold, and check the rows of every batch that nothing proves durable.

use crate::format::header::{DecodeError, HEADER_LEN, Header};
use crate::format::manifest::SegmentExtent;
use crate::format::record::{self, FileRecord};
use crate::pair::files::{Files, StoreFile};
pub(crate) use crate::pair::log::LogPosition;
use crate::pair::rows::{Doc, RowTable};
use crate::pair::window::Window;
use crate::sys::disk::PIECE_BYTES;
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use crate::types::recovery::RecoveryReport;
use std::ops::{ControlFlow, Range};
use std::path::Path;
pub(crate) use walk::NOT_WHOLE;
use walk::Walk;

mod walk;

/// Turns a header's or manifest's complaint into an error that names the file.
pub(crate) fn into_error(path: &Path, bad: DecodeError) -> Error {
    match bad {
        DecodeError::NotOurs(why) => Error::NotAStore { path: path.to_owned(), why },
        DecodeError::Unsupported(what, found, supported) => {
            Error::Unsupported { path: path.to_owned(), what, found, supported }
        }
        DecodeError::StoredForm { segment, what, found } => {
            let path = path.with_file_name(format!("{segment:08}.dat"));
            Error::Unsupported { path, what, found: found.into(), supported: 0 }
        }
        DecodeError::Damaged(at, what) => Error::corrupt(path, at, what),
    }
}

/// A delete, after so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deleted {
    pub(crate) rows: u64,
    pub(crate) idx_at: u32,
    pub(crate) hash: u64,
}

/// A row of a sealed segment that a batch made dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrossSegmentDelete {
    /// The batch.
    pub(crate) seq: u64,
    pub(crate) segment: u32,
    pub(crate) row: u32,
}

/// What the log of a pair says, from some point on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) header: Header,
    /// Everything that counts.
    pub(crate) position: LogPosition,
    /// The part of it that is proven durable.
    pub(crate) proven: LogPosition,
    pub(crate) rows: RowTable,
    pub(crate) deletes: Vec<Deleted>,
    /// Cross-segment deletes of the batches under the MANIFEST asked for.
    pub(crate) cross_deletes: Vec<CrossSegmentDelete>,
    /// The largest MANIFEST number that a COMMIT or CLOSE names.
    pub(crate) manifest: u64,
    /// The MANIFEST number of the CLOSE in which the log ends.
    pub(crate) closed_under: Option<u64>,
    pub(crate) report: RecoveryReport,
}

impl Recovered {
    /// Forgets what is not proven durable: what a reader beside a live writer may see.
    pub(crate) fn keep_proven(&mut self) {
        self.position = self.proven.clone();
        self.forget_after_tip();
        self.report.seq = self.position.seq;
        self.report.rows = self.position.rows;
        self.report.unproven_batches = 0;
    }

    fn forget_after_tip(&mut self) {
        let position = &self.position;
        self.rows.truncate(position.rows);
        self.deletes.retain(|delete| u64::from(delete.idx_at) < position.idx_end);
        self.cross_deletes.retain(|kill| kill.seq <= position.seq);
    }
}

/// Reads a pair, from a proven point of its log on or from the start, and finds what counts. Keeps the cross-segment
/// deletes of batches under that MANIFEST. O(length of `.idx` + unproven rows).
pub(crate) fn recover(files: &Files, from: Option<&LogPosition>, manifest: u64) -> Result<Recovered> {
    // .idx first: the others are written before it, so they are at least as long as what .idx says.
    let idx_len = files.idx.len()?;
    let (dat_len, jsonl_len) = (files.dat.len()?, files.jsonl_len()?);
    let (header, file) = read_headers(&files.dat, &files.idx, dat_len, idx_len)?;
    let start = from.cloned().unwrap_or_else(|| LogPosition::start(&file));
    let mut walk = Walk::new(files, header, start, [idx_len, dat_len, jsonl_len], manifest);
    let stopped_at = walk.run(&mut to_the_end)?;
    let mut proof = walk.proof;
    if let Some(at) = stopped_at
        && !planted::is(Bug::CutWithoutProof)
    {
        proof = proof.max(walk.log.strongest_proof(at)?);
        if proof > walk.log.position().seq {
            return Err(walk.corruption_at(at));
        }
    }
    walk.advance_proven(proof);
    walk.check_unproven_rows()?;
    Ok(walk.finish())
}

/// For a walk that nobody breaks off.
pub(crate) fn to_the_end(_read: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Reads the log of a sealed segment, which must be what MANIFEST says. O(length of `.idx`).
pub(crate) fn read_sealed(files: &Files, sealed: &SegmentExtent) -> Result<Recovered> {
    read_part(files, sealed, 0, &mut to_the_end)
}

/// Reads the log of a pair up to a point, where it must be what was said, with the cross-segment deletes under that
/// MANIFEST. `go_on` hears how much was read.
pub(crate) fn read_part(
    files: &Files,
    point: &SegmentExtent,
    manifest: u64,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Recovered> {
    let (found, broken) = read_up_to(files, point, manifest, go_on)?;
    if let Some(broken) = broken {
        return Err(broken);
    }
    if !found.position.is_end_of(point) {
        return Err(Error::corrupt(&files.idx.path, found.position.idx_end, ENDS_ELSEWHERE));
    }
    Ok(found)
}

/// What comes before a point of the log, and what is wrong with the rest of it. All of it is taken for durable.
pub(crate) fn read_up_to(
    files: &Files,
    point: &SegmentExtent,
    manifest: u64,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(Recovered, Option<Error>)> {
    let SegmentExtent { dat_len, idx_len, jsonl_len, .. } = *point;
    let (header, file) = read_headers(&files.dat, &files.idx, dat_len, idx_len)?;
    let lens = [idx_len.min(files.idx.len()?), dat_len, jsonl_len];
    let mut walk = Walk::new(files, header, LogPosition::start(&file), lens, manifest);
    walk.proof = u64::MAX;
    let broken = walk.run(go_on)?.map(|at| walk.corruption_at(at));
    Ok((walk.finish(), broken))
}

/// What is wrong with a log that ends with another batch than MANIFEST says.
pub(crate) const ENDS_ELSEWHERE: &str = "the log ends with another batch than MANIFEST says";

/// Whether a batch whose COMMIT says the same as `position` ends there in the log.
pub(crate) fn ends_a_batch(files: &Files, header: &Header, position: &LogPosition) -> Result<bool> {
    let mut bytes = [0; record::COMMIT_START];
    let end = position.commit_at.saturating_add(bytes.len() as u64);
    if end > position.idx_end
        || position.idx_end > files.idx.len()?
        || header.row_start(position.rows) > files.dat.len()?
        || (position.docs_end > files.jsonl_len()? && !planted::is(Bug::IgnoreDocsEnd))
    {
        return Ok(false);
    }
    files.idx.read(&mut bytes, position.commit_at)?;
    Ok(record::commit_at(&bytes, &header.identity).is_some_and(|(commit, len)| {
        position.commit_at + len == position.idx_end
            && (commit.seq, commit.chain, commit.docs_end)
                == (position.seq, position.chain, position.docs_end)
            && commit.rows_end == header.row_start(position.rows)
    }))
}

/// Whether the log still has this point: a COMMIT with its chain, which covers all before, and the marks behind it. Else
/// the bytes under the name of the log are another's.
pub(crate) fn has_point(files: &Files, header: &Header, position: &LogPosition) -> Result<bool> {
    let marks_at = position.idx_end - position.since_commit.len() as u64;
    let commit = LogPosition { idx_end: marks_at, ..position.clone() };
    if position.idx_end > files.idx.len()?
        || (position.commit_at > 0 && !ends_a_batch(files, header, &commit)?)
    {
        return Ok(false);
    }
    let mut marks = vec![0; position.since_commit.len()];
    files.idx.read(&mut marks, marks_at)?;
    Ok(marks == position.since_commit)
}

/// Reads the headers of both files and compares them.
pub(crate) fn read_headers(
    dat: &StoreFile,
    idx: &StoreFile,
    dat_len: u64,
    idx_len: u64,
) -> Result<(Header, FileRecord)> {
    let mut bytes = [0; HEADER_LEN];
    let present = usize::try_from(dat_len).unwrap_or(usize::MAX).min(bytes.len());
    dat.read(&mut bytes[..present], 0)?;
    let header = Header::decode(&bytes[..present]).map_err(|bad| into_error(&dat.path, bad))?;
    let mut bytes = [0; record::FILE_BYTES];
    let present = usize::try_from(idx_len).unwrap_or(usize::MAX).min(bytes.len());
    idx.read(&mut bytes[..present], 0)?;
    let file = FileRecord::decode(&bytes[..present]).map_err(|bad| into_error(&idx.path, bad))?;
    if file.header != header {
        let what = "the FILE record and the header of .dat differ: the two files are not one pair";
        return Err(Error::corrupt(&idx.path, 0, what));
    }
    Ok((header, file))
}

/// The sequence that a log goes on from, and whether a compaction made it: then that is 0, and it counts for itself.
/// Callers have compared its FILE record with the header.
pub(crate) fn first_seq(idx: &StoreFile) -> Result<(u64, bool)> {
    let mut bytes = [0; record::FILE_BYTES + record::TYPE_END];
    let present = usize::try_from(idx.len()?).unwrap_or(usize::MAX).min(bytes.len());
    idx.read(&mut bytes[..present], 0)?;
    let file = FileRecord::decode(&bytes).map_err(|bad| into_error(&idx.path, bad))?;
    let next = bytes.last_chunk().is_some_and(record::starts_base);
    Ok((file.seq, file.seq == 0 && next))
}

/// Whether the rows of `range` in `.dat` match their checksums. Reads 1 MiB at a time.
fn rows_hold(
    dat: &StoreFile,
    header: &Header,
    crc: impl Fn(u64) -> Option<u32>,
    range: Range<u64>,
) -> Result<bool> {
    let stride = usize::try_from(header.stride()).unwrap_or(usize::MAX);
    let per_read = (PIECE_BYTES / stride).max(1) as u64;
    let (mut buf, mut row) = (Vec::new(), range.start);
    while row < range.end {
        let rows = usize::try_from(per_read.min(range.end - row)).unwrap_or(usize::MAX);
        buf.resize(rows * stride, 0);
        dat.read(&mut buf, header.row_start(row))?;
        for bytes in buf.chunks_exact(stride) {
            if crc(row) != Some(header.identity.row_crc(row, bytes)) {
                return Ok(false);
            }
            row += 1;
        }
    }
    Ok(true)
}

/// Whether the lines of the rows of `range` in `.jsonl` match their checksums.
fn lines_hold(files: &Files, header: &Header, line: impl Fn(u64) -> Doc, range: Range<u64>) -> Result<bool> {
    let Some(jsonl) = &files.jsonl else { return Ok(true) };
    let mut log = Window::new(jsonl, jsonl.len()?);
    for row in range {
        let Doc { at, len, crc } = line(row);
        if len == 0 {
            continue;
        }
        let bytes = log.at_least(at, len as usize)?.get(..len as usize).unwrap_or_default();
        if header.identity.line_crc(row, bytes) != crc {
            return Ok(false);
        }
    }
    Ok(true)
}
