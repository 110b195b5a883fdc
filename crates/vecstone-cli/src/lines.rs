//! Lines of a text file that somebody else wrote, one value a line. Never held all at once.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::npy::open_regular;
use vecstone::counted;

/// What some editors put before the first line; no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What the lines of a file are.
#[derive(Debug)]
pub(crate) struct Form {
    /// As in "one id a line".
    pub(crate) what: &'static str,
    /// As in "put an id there".
    pub(crate) one: &'static str,
    /// The most bytes of a line, without its end.
    pub(crate) most: usize,
}

/// A file of lines. Only the line end ("\n" or "\r\n") is cut; the last line needs none.
pub(crate) struct Lines {
    path: PathBuf,
    form: &'static Form,
    reader: BufReader<File>,
    line: Vec<u8>,
    /// Lines so far: the number, from 1, of the last one.
    number: u64,
}

impl Lines {
    pub(crate) fn open(path: &Path, form: &'static Form) -> Result<Lines> {
        let file = open_regular(path, &format!("give a text file with one {} a line", form.what))?;
        let reader = BufReader::with_capacity(256 << 10, file);
        Ok(Lines { path: path.to_owned(), form, reader, line: Vec::new(), number: 0 })
    }

    /// Moves to the next line; false at the end of the file.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        self.line.clear();
        // The longest value, its line end, and what may stand before it; a longer line is refused, never held.
        let most = (self.form.most + 2 + BYTE_ORDER_MARK.len()) as u64;
        let read = (&mut self.reader).take(most).read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| Failure::io(&self.path, "read", &e))?;
        self.number += u64::from(read > 0);
        if self.number == 1 && self.line.starts_with(BYTE_ORDER_MARK) {
            self.line.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(read > 0)
    }

    /// The line moved to: not empty, not too long, UTF-8.
    pub(crate) fn text(&self) -> Result<&str> {
        let Form { what, one, most } = self.form;
        let line = without_line_end(&self.line);
        if line.is_empty() {
            return Err(self.failure(&format!("the line is empty; put {one} there")));
        }
        if line.len() > *most {
            return Err(self.failure(&format!("the {what} has more than {most} bytes; shorten it")));
        }
        std::str::from_utf8(line)
            .map_err(|_| self.failure(&format!("the {what} is not UTF-8; save the file as UTF-8")))
    }

    /// What is wrong with it.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        Failure::file(&self.path, format!("line {}: {what}", self.number))
    }

    /// Refuses another number of lines than rows; to be called at the end.
    pub(crate) fn check_count(&self, rows: u64) -> Result<()> {
        if self.number == rows {
            return Ok(());
        }
        let (found, Form { what, .. }) = (self.number, self.form);
        let (found, rows) = (counted(found, what), counted(rows, "row"));
        let what = format!("{found} for {rows}; give one {what} a line for each row");
        Err(Failure::file(&self.path, what))
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [text @ .., b'\r', b'\n'] | [text @ .., b'\n'] => text,
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_end_is_cut() {
        for (line, text) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\r\r\n", "a\r"),
            (" a \n", " a "),
            ("a\t", "a\t"),
            ("a\r", "a\r"),
            ("\r\n", ""),
            ("\n", ""),
        ] {
            assert_eq!(without_line_end(line.as_bytes()), text.as_bytes(), "{line:?}");
        }
    }
}
