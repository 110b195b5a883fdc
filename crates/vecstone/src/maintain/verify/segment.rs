//! Every byte of one segment, also behind what is damaged.

use super::{Damage, REBUILT, UNREADABLE, VerifyReport};
use crate::format::Identity;
use crate::format::header::{DecodeError, HEADER_LEN, Header};
use crate::format::manifest::SegmentExtent;
use crate::format::record::{FILE_BYTES, FileRecord};
use crate::maintain::salvage::{self, segment::SalvagedSegment};
use crate::pair::files::StoreFile;
use crate::pair::log::{LogEvent, LogPosition};
use crate::pair::recover::{self, into_error};
use crate::pair::rows::{Doc, NULL_LINE};
use crate::pair::window::Window;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::side::{FilesOf, SideFile};
use crate::sys::interrupt;
use crate::types::config::MAX_LINE_BYTES;
use crate::types::counted::counted;
use crate::types::error::{Error, Result};
use crate::types::id::{Id, IdHasher, IdKind};
use std::ops::Range;
use std::path::Path;

const LOST: &str = "reading it is an error; repair drops it";
const DEAD: &str = "the row is dead: nothing is lost";
const NO_LINE: &str = "nothing is lost: the row has no document, and its line is not read";
const SEGMENT_LOST: &str = "the store does not open; repair cannot keep the rows of this segment";
const DOCUMENTS_LOST: &str = "the store does not open; repair keeps the vectors without their documents";
const BATCH: &str =
    "the store may not open; repair keeps each row here that .ids confirms, and may lose a delete";
const UNSURE: &str = "repair drops the row, and writes no older version of its id";
const NAMELESS: &str = "repair drops the row: its id is lost";
const MAY_RETURN: &str = "repair drops this id, which was deleted or put again here";
const IN_LOG: &str = "what is written there is lost; repair keeps what checks out";

/// The live rows of all segments: an id has one at most. 16 bytes a row.
#[derive(Debug, Default)]
pub(super) struct LiveRows {
    /// Hash of the id, place of the segment, row.
    rows: Vec<(u64, u32, u32)>,
    /// The segment that is being read.
    pub(super) place: u32,
}

impl LiveRows {
    /// The rows whose ids have the same hash as another's, those of one hash together, in the order of writing.
    pub(super) fn of_one_hash(&mut self) -> impl Iterator<Item = &[(u64, u32, u32)]> {
        self.rows.sort_unstable();
        self.rows.chunk_by(|a, b| a.0 == b.0).filter(|chunk| chunk.len() > 1)
    }
}

/// Checks a segment whose end is known, which must be exactly that.
pub(super) fn check_whole(
    part: &SalvagedSegment,
    end: &SegmentExtent,
    deletions: &DeletionVector,
    kind: Option<IdKind>,
    live: Option<&mut LiveRows>,
    report: &mut VerifyReport,
) -> Result<()> {
    let found = check(part, end, deletions, kind, live, report)?;
    let Some(position) = found.position.filter(|_| found.is_whole) else { return Ok(()) };
    let what = if position.idx_end < part.idx_len {
        recover::NOT_WHOLE
    } else if !position.is_end_of(end) || position.docs_end > end.jsonl_len {
        recover::ENDS_ELSEWHERE
    } else {
        let files = part.files();
        let files_of = |_: &Identity| Some((files.clone()?, part.header));
        return part.side.iter().try_for_each(|file| compare(&**file, &files_of, &[], report));
    };
    report.add(&part.path("idx"), position.idx_end, what, UNREADABLE);
    Ok(())
}

/// Whether a side file says what the files of its segments say, which hold.
pub(super) fn compare(
    file: &dyn SideFile,
    files_of: FilesOf<'_>,
    others: &[Box<dyn SideFile>],
    report: &mut VerifyReport,
) -> Result<()> {
    match file.is_right(files_of, others) {
        Ok(true) => {}
        // Its point is none of the log: that holds.
        Ok(false) | Err(Error::Corrupt { .. }) => {
            report.add(&file.file().path, 0, file.kind().differs(), REBUILT);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

pub(super) struct Found {
    /// The end of the log, if there is one.
    position: Option<LogPosition>,
    /// Both headers and all batches hold.
    is_whole: bool,
}

/// Checks a segment as far as its log tells of it.
pub(super) fn check(
    part: &SalvagedSegment,
    end: &SegmentExtent,
    deletions: &DeletionVector,
    kind: Option<IdKind>,
    live: Option<&mut LiveRows>,
    report: &mut VerifyReport,
) -> Result<Found> {
    let first = report.damage.len();
    check_ends(part, end, report)?;
    let headers_hold = check_headers(part, report)?;
    let dat = part.dat.as_ref().map(|dat| (dat, Window::past_errors(dat, part.dat_len)));
    let jsonl = part.jsonl.as_ref().filter(|_| end.jsonl_len > 0);
    let jsonl = jsonl.map(|jsonl| (jsonl, Window::past_errors(jsonl, part.jsonl_len)));
    let hasher = IdHasher::new(&part.header.identity.uuid);
    let mut checker =
        Checker { part, deletions, kind, dat, jsonl, log_is_damaged: false, hasher, live, report };
    let position = salvage::scan(part, &mut |event| checker.see(&event))?;
    let is_whole = headers_hold && !checker.log_is_damaged;
    // Rows and their documents were looked at in turn; by file it is easier to read.
    let found = report.damage.get_mut(first..).unwrap_or_default();
    found.sort_by(|a, b| (&a.path, a.offset).cmp(&(&b.path, b.offset)));
    Ok(Found { position, is_whole })
}

/// Counts bytes; names each file that is missing or too short.
fn check_ends(part: &SalvagedSegment, end: &SegmentExtent, report: &mut VerifyReport) -> Result<()> {
    let len = |named: &Option<StoreFile>| named.as_ref().map(StoreFile::len).transpose();
    let files = [
        ("dat", len(&part.dat)?, end.dat_len, LOST, SEGMENT_LOST),
        ("idx", len(&part.idx)?, end.idx_len, UNREADABLE, SEGMENT_LOST),
        ("jsonl", len(&part.jsonl)?, end.jsonl_len, LOST, DOCUMENTS_LOST),
    ];
    for (suffix, len, end, short, missing) in files {
        report.bytes += end.min(len.unwrap_or(0));
        report.tail_bytes += len.unwrap_or(0).saturating_sub(end);
        let path = || part.path(suffix);
        match len {
            None if suffix != "jsonl" || end > 0 => {
                report.add(&path(), 0, "the file that MANIFEST names is missing", missing);
            }
            Some(len) if len < end => {
                let what = format!("the file ends here, {} too early", counted(end - len, "byte"));
                report.add(&path(), len, what, short);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether header and FILE are there and those of this segment.
fn check_headers(part: &SalvagedSegment, report: &mut VerifyReport) -> Result<bool> {
    let mut hold = true;
    if let Some(dat) = &part.dat {
        let found = start::<HEADER_LEN, _>(dat, part.dat_len, Header::decode);
        hold &= check_header(dat, found, &part.header, report)?;
    }
    if let Some(idx) = &part.idx {
        let found = start::<FILE_BYTES, _>(idx, part.idx_len, FileRecord::decode);
        hold &= check_header(idx, found.map(|file| file.header), &part.header, report)?;
    }
    Ok(hold)
}

fn check_header(
    named: &StoreFile,
    found: Result<Header>,
    header: &Header,
    report: &mut VerifyReport,
) -> Result<bool> {
    match found {
        Ok(found) if found == *header => return Ok(true),
        Ok(_) => report.add(&named.path, 0, "the header is not that of this segment", UNREADABLE),
        Err(error) => report.add_error(error)?,
    }
    Ok(false)
}

/// What the first bytes of a file say.
fn start<const N: usize, T>(
    named: &StoreFile,
    len: u64,
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
) -> Result<T> {
    let mut bytes = [0; N];
    let present = usize::try_from(len).unwrap_or(N).min(N);
    named.read(&mut bytes[..present], 0)?;
    decode(&bytes[..present]).map_err(|bad| into_error(&named.path, bad))
}

/// Compares rows and lines with what the log says of them.
struct Checker<'a> {
    part: &'a SalvagedSegment,
    deletions: &'a DeletionVector,
    kind: Option<IdKind>,
    dat: Option<(&'a StoreFile, Window<'a>)>,
    jsonl: Option<(&'a StoreFile, Window<'a>)>,
    log_is_damaged: bool,
    hasher: IdHasher,
    live: Option<&'a mut LiveRows>,
    report: &'a mut VerifyReport,
}

impl Checker<'_> {
    fn see(&mut self, seen: &LogEvent<'_>) -> Result<()> {
        match *seen {
            LogEvent::Put { id, row, crc, doc, .. } => {
                interrupt::check_at(row as usize)?;
                if let Some(live) = self.live.as_mut().filter(|_| self.deletions.is_live(row)) {
                    live.rows.push((self.hasher.hash(id), live.place, row));
                }
                self.check_row(id, row, crc)?;
                return self.check_line(id, row, doc);
            }
            LogEvent::Commit(commit) => self.kind = self.kind.or(IdKind::from_byte(commit.kind)),
            LogEvent::Damage { ref bytes, ref rows } => self.add_batch(bytes, rows),
            LogEvent::Unsure { id, at } => {
                self.in_log(
                    at,
                    Some(id),
                    "the batch of this row is damaged, and nothing confirms its id",
                    UNSURE,
                );
            }
            LogEvent::Delete { id, at, sure: false } => {
                self.in_log(at, Some(id), "a damaged batch seems to delete this id", MAY_RETURN);
            }
            LogEvent::Lost { row } => {
                let (path, at) = (self.part.path("dat"), self.part.header.row_start(row.into()));
                let consequence = if self.deletions.is_live(row) { NAMELESS } else { DEAD };
                self.report.add(&path, at, format!("the id of row {row} is lost"), consequence);
            }
            LogEvent::Torn { bytes, .. } => self.report.tail_bytes += bytes,
            LogEvent::Unreadable(ref bytes) => {
                let what = format!("cannot be read: {}", counted(bytes.end - bytes.start, "byte"));
                self.in_log(bytes.start, None, what, IN_LOG);
            }
            LogEvent::Delete { .. }
            | LogEvent::CrossSegmentDelete { .. }
            | LogEvent::Base(_)
            | LogEvent::Unlogged(_) => {}
        }
        Ok(())
    }

    fn add_batch(&mut self, bytes: &Range<u64>, rows: &Range<u64>) {
        let mut what = match bytes.end - bytes.start {
            0 => "batches that were durable are missing at the end".to_owned(),
            len => format!("a batch that was durable does not hold any more, {}", counted(len, "byte")),
        };
        if !rows.is_empty() {
            what += &format!(", rows {} to {}", rows.start, rows.end - 1);
        }
        self.in_log(bytes.start, None, what, BATCH);
    }

    fn in_log(&mut self, offset: u64, id: Option<&[u8]>, what: impl Into<String>, consequence: &'static str) {
        self.log_is_damaged = true;
        let id = id.and_then(|id| self.id(id));
        self.report.list(Damage { path: self.part.path("idx"), offset, id, what: what.into(), consequence });
    }

    fn id(&self, id: &[u8]) -> Option<Id> {
        Id::from_bytes(self.kind?, id)
    }

    fn check_row(&mut self, id: &[u8], row: u32, crc: u32) -> Result<()> {
        let Some((named, window)) = &mut self.dat else { return Ok(()) };
        let header = &self.part.header;
        let start = header.row_start(row.into());
        let check = |bytes: &[u8]| match header.identity.row_crc(row.into(), bytes) == crc {
            true if is_finite(bytes) => None,
            true => Some("holds what is not a finite number"),
            false => Some(NO_MATCH),
        };
        let wrong = wrong(window, start..start + header.stride(), check)?;
        let named = *named;
        if let Some(wrong) = wrong {
            let consequence = if self.deletions.is_live(row) { LOST } else { DEAD };
            self.hurt(&named.path, start, id, format!("row {row} {wrong}"), consequence);
        }
        Ok(())
    }

    /// Also the line of a row from before the first document, which has no checksum but is known.
    fn check_line(&mut self, id: &[u8], row: u32, doc: Doc) -> Result<()> {
        let Some((named, window)) = &mut self.jsonl else { return Ok(()) };
        let identity = &self.part.header.identity;
        let null = NULL_LINE.len() as u64;
        let (start, len) =
            if doc.len == 0 { (u64::from(row) * null, null) } else { (doc.at, doc.len.into()) };
        if u64::from(doc.len) > MAX_LINE_BYTES {
            let (path, what) =
                (named.path.clone(), format!("the document of row {row} is longer than any can be"));
            self.hurt(&path, start, id, what, LOST);
            return Ok(());
        }
        let check = |bytes: &[u8]| match doc.len {
            0 => (bytes != NULL_LINE).then_some(NO_MATCH),
            _ if identity.line_crc(row.into(), bytes) != doc.crc => Some(NO_MATCH),
            // The parser does not look into strings that nobody wants.
            _ if std::str::from_utf8(bytes).is_err() => Some("is not UTF-8"),
            _ if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() => Some("is not JSON"),
            _ => None,
        };
        let wrong = wrong(window, start..start.saturating_add(len), check)?;
        let named = *named;
        match wrong {
            None => {}
            Some(NO_MATCH) if doc.len == 0 => {
                self.hurt(&named.path, start, id, format!("the line of row {row} is not null"), NO_LINE);
            }
            Some(wrong) => {
                let live = if self.deletions.is_live(row) { LOST } else { DEAD };
                let consequence = if doc.len == 0 { NO_LINE } else { live };
                self.hurt(&named.path, start, id, format!("the document of row {row} {wrong}"), consequence);
            }
        }
        Ok(())
    }

    fn hurt(&mut self, path: &Path, offset: u64, id: &[u8], what: String, consequence: &'static str) {
        let id = self.id(id);
        self.report.list(Damage { path: path.to_owned(), offset, id, what, consequence });
    }
}

const NO_MATCH: &str = "does not match its checksum";

/// Whether no component of a row is NaN or infinite: what a put refuses.
fn is_finite(row: &[u8]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    let (components, _) = row.as_chunks::<4>();
    components.iter().all(|bytes| u32::from_le_bytes(*bytes) & EXPONENT != EXPONENT)
}

/// What is wrong with these bytes of a file, if anything is.
fn wrong(
    window: &mut Window<'_>,
    range: Range<u64>,
    check: impl Fn(&[u8]) -> Option<&'static str>,
) -> Result<Option<&'static str>> {
    if range.end > window.len {
        return Ok(Some("is missing: the file ends before it"));
    }
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let found = window.at_least(range.start, len)?.get(..len).map_or(Some(NO_MATCH), check);
    Ok(if window.is_unreadable(&range) { Some("cannot be read") } else { found })
}
