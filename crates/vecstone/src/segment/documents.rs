//! The documents of a segment, read.

use super::Segment;
use crate::pair::StoredLine;
use crate::pair::files::{StoreFile, grow};
use crate::pair::rows::{Doc, NULL_LINE};
use crate::sys::disk::PIECE_BYTES;
use crate::types::error::{Error, Result};
use std::ops::Range;
use std::path::Path;

impl Segment {
    /// The file of the documents, if some row has one.
    fn jsonl(&self) -> Option<&StoreFile> {
        self.files.jsonl.as_ref().or_else(|| self.jsonl.get())
    }

    /// The document of a row; `None` if it has none.
    pub(crate) fn document(&self, row: u64) -> Result<Option<String>> {
        self.files.read_document(self.jsonl(), &self.header, row, self.entry(row)?.doc)
    }

    /// Shows the documents of some rows, in the order of `rows`, which must ascend. Reads neighbours with one call; as
    /// many rows as are handed in are held in memory with 16 bytes each.
    ///
    /// # Errors
    ///
    /// As [`document`](Self::document); also if `each` says that one is not JSON.
    pub(crate) fn documents(
        &self,
        rows: &[u64],
        mut each: impl FnMut(u64, Option<&str>) -> serde_json::Result<()>,
    ) -> Result<()> {
        let lines = self.lines(rows)?;
        let mut each = |row, line: Doc, path: &Path, document: Option<&str>| {
            each(row, document).map_err(|_| Error::corrupt(path, line.at, "the document is not JSON"))
        };
        let Some(jsonl) = self.jsonl() else {
            return rows.iter().zip(lines).try_for_each(|(&row, line)| match line.len {
                0 => each(row, line, &self.files.dat.path, None),
                _ => Err(self.files.no_documents(line)),
            });
        };
        let (len, mut bytes, mut from) = (jsonl.len()?, Vec::new(), 0);
        while from < rows.len() {
            let (count, range) = piece(&lines[from..]);
            let piece = from..from + count;
            for &line in &lines[piece.clone()] {
                jsonl.check_end(line, len)?;
            }
            bytes.clear();
            grow(&mut bytes, range.end - range.start)?;
            jsonl.read(&mut bytes, range.start)?;
            for (&row, &line) in rows[piece.clone()].iter().zip(&lines[piece]) {
                let start = usize::try_from(line.at.saturating_sub(range.start)).unwrap_or(usize::MAX);
                let document = match line.len {
                    0 => None,
                    len => jsonl.document_in(&self.header, row, line, &bytes[start..start + len as usize])?,
                };
                each(row, line, &jsonl.path, document)?;
            }
            from += count;
        }
        Ok(())
    }

    /// The lines of some rows, which must ascend.
    fn lines(&self, rows: &[u64]) -> Result<Vec<Doc>> {
        let (base, behind) = rows.split_at(rows.partition_point(|&row| row < self.base.rows));
        let mut lines = Vec::with_capacity(rows.len());
        for &row in base {
            lines.push(self.entry(row)?.doc);
        }
        let heap = self.heap();
        lines.extend(behind.iter().map(|&row| heap.rows().line(row)));
        Ok(lines)
    }

    /// The line of a row, where it lies; `None` if it has no document.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it is not to be found any more. Its reader checks whether it is what was written.
    pub(crate) fn stored_line(&self, row: u64) -> Result<Option<StoredLine<'_>>> {
        let (line, header) = (self.entry(row)?.doc, &self.header);
        let is_null = || header.identity.line_crc(row, NULL_LINE) == line.crc;
        if line.len == 0 || (line.len as usize == NULL_LINE.len() && is_null()) {
            return Ok(None);
        }
        let jsonl = self.jsonl().ok_or_else(|| self.files.no_documents(line))?;
        Ok(Some(StoredLine { jsonl, header, row, line }))
    }
}

/// Bytes of documents that are read for nothing rather than with another call.
const GAP_BYTES: u64 = 32 << 10;

/// How many of the first lines to read with one call, at least one, and where they lie.
fn piece(lines: &[Doc]) -> (usize, Range<u64>) {
    let mut range = 0..0;
    for (count, line) in lines.iter().enumerate().filter(|(_, line)| line.len > 0) {
        let end = line.at.saturating_add(u64::from(line.len));
        if range.is_empty() {
            range = line.at..end;
            continue;
        }
        let follows = line.at >= range.end && line.at - range.end <= GAP_BYTES;
        if !follows || end - range.start > PIECE_BYTES as u64 {
            return (count, range);
        }
        range.end = end;
    }
    (lines.len(), range)
}
