//! The lines of a batch: documents that it gives, and those that its puts keep, copied from where they lie.

use super::VectorStorage;
use crate::buffer::batch::Batch;
use crate::format::header::Header;
use crate::pair::files::{StoreFile, sync_at_once};
use crate::pair::rows::{Doc, NULL_LINE, RowTable};
use crate::sys::disk::{Open, PIECE_BYTES};
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_LINE_BYTES;
use crate::types::document::Document;
use crate::types::error::{Error, Result, is_full};
use std::sync::Arc;

/// A document that a put keeps.
#[derive(Debug, Clone)]
pub(crate) enum Kept<'a> {
    /// An earlier put of the same batch gives it.
    Given(&'a str),
    /// It lies in a file.
    Stored(StoredLine<'a>),
    /// It lay in a file, and is not to be found any more.
    Lost(Error),
}

impl Kept<'_> {
    /// Bytes of its line, about.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Kept::Given(text) => text.len() as u64 + 1,
            Kept::Stored(stored) => stored.line.len.into(),
            Kept::Lost(_) => NULL_LINE.len() as u64,
        }
    }
}

/// The line of a row, where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredLine<'a> {
    pub(crate) jsonl: &'a StoreFile,
    pub(crate) header: &'a Header,
    pub(crate) row: u64,
    pub(crate) line: Doc,
}

/// What became of the lines of a batch.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Length and checksum of each.
    pub(super) lines: Vec<(u32, u32)>,
    /// The file, if it is new.
    pub(super) made: Option<StoreFile>,
    /// See [`Appended`](super::append::Appended).
    pub(super) lost: Vec<Error>,
}

impl VectorStorage {
    /// Writes one line for each put behind the lines that are there.
    pub(super) fn write_lines(
        &mut self,
        batch: Batch<'_>,
        kept: &[(usize, Kept<'_>)],
        rows: &mut RowTable,
    ) -> Result<Written> {
        let made = if self.written.docs_end == 0 { Some(self.create_jsonl()?) } else { None };
        let at = &self.written;
        let jsonl =
            made.as_ref().or(self.files.jsonl.as_ref()).expect("a pair with documents has their file");
        let (bytes, start) = (Vec::new(), at.lines_start());
        let mut out = Out { jsonl, header: &self.header, bytes, start, row: at.rows, lines: Vec::new() };
        let (mut kept, mut lost) = (kept.iter().peekable(), Vec::new());
        for (n, change) in batch.changes(self.hasher).enumerate() {
            let Some((_, document)) = change.put else { continue };
            let kept = kept.next_if(|(of, _)| *of == n).map(|(_, kept)| kept);
            match (document, kept) {
                (Document::Json(text), _) | (Document::Keep, Some(&Kept::Given(text))) => out.put(text)?,
                (Document::Keep, Some(Kept::Stored(stored))) => match out.copy(stored) {
                    Err(error) if error.is_corrupt() => {
                        lost.push(error);
                        out.put_none()?;
                    }
                    copied => copied?,
                },
                (_, kept) => {
                    if let Some(Kept::Lost(error)) = kept {
                        lost.push(error.clone());
                    }
                    out.put_none()?;
                }
            }
        }
        out.flush()?;
        let lines = out.lines;
        for (row, (len, crc)) in (at.rows..).zip(&lines) {
            rows.push_line(row, at.lines_start(), *len, *crc);
        }
        Ok(Written { lines, made, lost })
    }

    /// Makes the documents' file durably, with an empty line for each row that is there, before a COMMIT names it.
    fn create_jsonl(&mut self) -> Result<StoreFile> {
        let path = self.files.dat.path.with_extension("jsonl");
        let file = self.dir.open_file(&path, Open::Create).map_err(|e| Error::io(&path, "create", e))?;
        self.made_jsonl = true;
        let jsonl = StoreFile { path, file };
        if jsonl.len()? > 0 {
            // Left by a batch that failed.
            jsonl.file.set_len(0).map_err(|e| Error::io(&jsonl.path, "cut", e))?;
        }
        let lines_per_piece = (PIECE_BYTES / NULL_LINE.len()) as u64;
        let mut row = 0;
        while row < self.written.rows {
            let lines = lines_per_piece.min(self.written.rows - row);
            let piece = NULL_LINE.repeat(usize::try_from(lines).expect("at most a piece"));
            jsonl.write(&piece, row * NULL_LINE.len() as u64)?;
            row += lines;
        }
        match self.sync_jsonl(&jsonl) {
            // No COMMIT names it: without room it is made anew from nothing.
            Err(Error::SyncFailed { path, source }) if is_full(&source) => {
                _ = self.dir.unlink(&jsonl.path);
                Err(Error::SyncFailed { path, source }.abandoned())
            }
            synced => synced.map(|()| jsonl),
        }
    }

    fn sync_jsonl(&self, jsonl: &StoreFile) -> Result<()> {
        sync_at_once(&self.dir, &[jsonl])?;
        if planted::is(Bug::SkipJsonlDirSync) {
            return Ok(());
        }
        let failed = |e| Error::SyncFailed { path: self.dir.path().to_owned(), source: Arc::new(e) };
        self.dir.sync().map_err(failed)
    }
}

/// Lines on their way to a file: about a piece is held in memory, however long a line is.
struct Out<'a> {
    jsonl: &'a StoreFile,
    header: &'a Header,
    /// What is not written yet, and where it goes.
    bytes: Vec<u8>,
    start: u64,
    /// The row of the next line.
    row: u64,
    lines: Vec<(u32, u32)>,
}

impl Out<'_> {
    fn put(&mut self, document: &str) -> Result<()> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(document.as_bytes());
        self.bytes.push(b'\n');
        let crc = self.header.identity.line_crc(self.row, &self.bytes[from..]);
        self.end_line(document.len() as u64 + 1, crc)
    }

    fn put_none(&mut self) -> Result<()> {
        self.bytes.extend_from_slice(NULL_LINE);
        self.end_line(NULL_LINE.len() as u64, self.header.identity.line_crc(self.row, NULL_LINE))
    }

    fn end_line(&mut self, len: u64, crc: u32) -> Result<()> {
        self.lines.push((u32::try_from(len).expect("a document is below 1 GiB"), crc));
        self.row += 1;
        if self.bytes.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.jsonl.write(&self.bytes, self.start)?;
        self.start += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    /// Copies a line of another row. After [`Error::Corrupt`] it was not there.
    fn copy(&mut self, stored: &StoredLine<'_>) -> Result<()> {
        let line_at = (self.start + self.bytes.len() as u64, self.bytes.len(), self.start);
        let crc = self.copy_checked(stored);
        if crc.as_ref().is_err_and(Error::is_corrupt) {
            // The next line goes to the place of this one, also where a part of it is written.
            let (start, len, flushed) = line_at;
            if self.start == flushed {
                self.bytes.truncate(len);
            } else {
                self.bytes.clear();
                self.start = start;
            }
        }
        self.end_line(stored.line.len.into(), crc?)
    }

    /// Returns the checksum of the line in its new place.
    fn copy_checked(&mut self, stored: &StoredLine<'_>) -> Result<u32> {
        let StoredLine { jsonl, header, row, line } = *stored;
        let damaged = |what| Error::corrupt(&jsonl.path, line.at, what);
        if u64::from(line.len) > MAX_LINE_BYTES {
            return Err(damaged("the document is longer than any can be"));
        }
        let mut before = header.identity.line_crc_of_pieces(row);
        let mut after = self.header.identity.line_crc_of_pieces(self.row);
        let (mut at, end) = (line.at, line.at.saturating_add(line.len.into()));
        while at < end {
            let (from, len) = (self.bytes.len(), (end - at).min(PIECE_BYTES as u64));
            self.bytes.resize(from + usize::try_from(len).unwrap_or(PIECE_BYTES), 0);
            let piece = &mut self.bytes[from..];
            if let Err(error) = jsonl.read(piece, at) {
                // A file that is too short is damage; anything else may go well the next time.
                jsonl.check_end(line, jsonl.len()?)?;
                return Err(error);
            }
            before.update(piece);
            after.update(piece);
            at += len;
            if at < end {
                self.flush()?;
            }
        }
        if before.finish() != line.crc && !planted::is(Bug::UncheckedKeep) {
            return Err(damaged("the document does not match its checksum"));
        }
        Ok(after.finish())
    }
}
