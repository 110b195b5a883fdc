//! Lines to be copied from where they lie.

use super::Segment;
use crate::error::Result;
use crate::pair::StoredLine;
use crate::rows::NULL_LINE;

impl Segment {
    /// The line of a row, where it lies; `None` if it has no document.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) if it is not to be found any more. Whether it is what was written is for its reader to check.
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
