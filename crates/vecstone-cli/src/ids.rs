//! Ids of an import: lines of a file, or names made of a prefix and the row number. Never held all at once.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use vecstone::MAX_ID_BYTES;

use crate::failure::{Failure, Result};

/// Where the ids of an import come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// One id a line.
    File(PathBuf),
    /// `{prefix}-{row:09}`.
    Numbered(String),
}

impl Source {
    /// From `--ids`, `--id-prefix` or the stem of the imported file.
    pub(crate) fn choose(ids: Option<&Path>, prefix: Option<&str>, file: &Path) -> Result<Source> {
        if let Some(ids) = ids {
            return Ok(Source::File(ids.to_owned()));
        }
        let stem = prefix.or_else(|| file.file_stem()?.to_str());
        let Some(stem) = stem else {
            return Err(Failure::file(file, "the file's name is not UTF-8; name the rows with --id-prefix"));
        };
        if numbered(stem, u64::MAX).len() > MAX_ID_BYTES {
            return Err(Failure::error(format!(
                "the id prefix is longer than {MAX_ID_BYTES} bytes; shorten it"
            )));
        }
        Ok(Source::Numbered(stem.to_owned()))
    }

    pub(crate) fn open(&self) -> Result<Ids> {
        match self {
            Source::File(path) => Ok(Ids::Lines(Lines::open(path)?)),
            Source::Numbered(prefix) => Ok(Ids::Numbered { prefix: prefix.clone(), next: 0 }),
        }
    }

    /// Reads every id once, before anything is stored: as many as `rows`, none empty, all UTF-8, none too long.
    pub(crate) fn check(&self, rows: u64) -> Result<()> {
        let Source::File(path) = self else { return Ok(()) };
        let mut lines = Lines::open(path)?;
        while lines.next()?.is_some() {}
        if lines.number == rows {
            return Ok(());
        }
        let found = lines.number;
        Err(Failure::file(path, format!("{found} ids for {rows} rows; give one id a line for each row")))
    }
}

/// The name of a row without an id of its own.
pub(crate) fn numbered(prefix: &str, row: u64) -> String {
    format!("{prefix}-{row:09}")
}

/// The ids of an import in row order.
pub(crate) enum Ids {
    Lines(Lines),
    Numbered { prefix: String, next: u64 },
}

impl Ids {
    /// The next `most` ids, fewer if their bytes reach `most_bytes`; empty at the end.
    pub(crate) fn batch(&mut self, most: usize, most_bytes: usize) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(most.min(1 << 16));
        let mut bytes = 0;
        while ids.len() < most && bytes < most_bytes {
            let Some(id) = self.next()? else { break };
            bytes += id.len();
            ids.push(id);
        }
        Ok(ids)
    }

    fn next(&mut self) -> Result<Option<String>> {
        match self {
            Ids::Lines(lines) => Ok(lines.next()?.map(str::to_owned)),
            Ids::Numbered { prefix, next } => {
                *next += 1;
                Ok(Some(numbered(prefix, *next - 1)))
            }
        }
    }
}

/// The ids of a file, one a line. Only the line end ("\n" or "\r\n") is cut; the last line needs none.
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// Lines read so far: the number, from 1, of the last one.
    number: u64,
    /// Byte offsets of the start and the end of the last line.
    span: (u64, u64),
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Lines> {
        let file = File::open(path).map_err(|e| Failure::io(path, "open", &e))?;
        let meta = file.metadata().map_err(|e| Failure::io(path, "read", &e))?;
        if !meta.is_file() {
            return Err(Failure::file(path, "not a regular file; give a text file with one id a line"));
        }
        let reader = BufReader::with_capacity(256 << 10, file);
        Ok(Lines { path: path.to_owned(), reader, line: Vec::new(), number: 0, span: (0, 0) })
    }

    /// Byte offset at which the last line began.
    pub(crate) fn offset(&self) -> u64 {
        self.span.0
    }

    pub(crate) fn next(&mut self) -> Result<Option<&str>> {
        self.line.clear();
        // The longest id and its line end; a longer line is refused, never held.
        let most = MAX_ID_BYTES as u64 + 2;
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| Failure::io(&self.path, "read", &e))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.span = (self.span.1, self.span.1 + read as u64);
        let id = without_line_end(&self.line);
        let what = if id.is_empty() {
            "the line is empty; put an id there"
        } else if id.len() > MAX_ID_BYTES {
            "the id has more than 65536 bytes; shorten it"
        } else {
            match std::str::from_utf8(id) {
                Ok(id) => return Ok(Some(id)),
                Err(_) => "the id is not UTF-8; save the file as UTF-8",
            }
        };
        Err(Failure::file(&self.path, format!("line {}: {what}", self.number)))
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [id @ .., b'\r', b'\n'] | [id @ .., b'\n'] => id,
        id => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_end_is_cut() {
        for (line, id) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\r\r\n", "a\r"),
            (" a \n", " a "),
            ("a\t", "a\t"),
            ("a\r", "a\r"),
            ("\r\n", ""),
            ("\n", ""),
        ] {
            assert_eq!(without_line_end(line.as_bytes()), id.as_bytes(), "{line:?}");
        }
    }

    #[test]
    fn row_numbers_have_at_least_nine_digits() {
        assert_eq!(numbered("movies", 7), "movies-000000007");
        assert_eq!(numbered("", 1_234_567_890), "-1234567890");
    }
}
