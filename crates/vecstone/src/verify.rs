//! Reading every byte and saying where it is not what was written.

use crate::error::{Error, Result};
use crate::format::header::{HEADER_LEN, Header};
use crate::recover::{Named, Tip, bad_rows, first_bad_record};
use std::fmt;
use std::path::PathBuf;

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The damaged file.
    pub path: PathBuf,
    /// Byte offset, as near as it is known.
    pub offset: u64,
    /// What does not hold.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: byte {}: {}", self.path.display(), self.offset, self.what)
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

    pub(crate) fn add(&mut self, path: &std::path::Path, offset: u64, what: impl Into<String>) {
        self.damage.push(Damage { path: path.to_owned(), offset, what: what.into() });
    }
}

/// A pair and what should be in it.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) dat: Named,
    pub(crate) idx: Named,
    pub(crate) header: Header,
    /// Where what counts ends.
    pub(crate) end: Tip,
    pub(crate) crcs: Vec<u32>,
}

impl Check {
    /// Reads both files up to the end of what counts.
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        let Check { dat, idx, header, end, crcs } = self;
        let mut report = VerifyReport::default();
        let rows_end = header.row_start(end.rows);
        let (dat_len, idx_len) = (dat.len()?, idx.len()?);
        report.tail_bytes = dat_len.saturating_sub(rows_end) + idx_len.saturating_sub(end.idx_end);
        report.bytes = rows_end + end.idx_end;
        if let Some(at) = first_bad_record(idx, *header, end, rows_end)? {
            report.add(&idx.path, at, "the record here does not hold; batches from here on cannot be proven");
        }
        if dat_len < rows_end {
            let missing = rows_end - dat_len;
            report.add(&dat.path, dat_len, format!("the file ends here; {missing} bytes are missing"));
            return Ok(report);
        }
        let mut found = [0; HEADER_LEN];
        dat.read(&mut found, 0)?;
        if found != header.encode() {
            report.add(&dat.path, 0, "the header is not the one the log names");
        }
        for row in bad_rows(dat, header, crcs, 0..end.rows, usize::MAX)? {
            report.add(&dat.path, header.row_start(row), format!("row {row} does not match its checksum"));
        }
        Ok(report)
    }
}

/// What `verify` of a path reports where damage keeps it from being opened.
pub(crate) fn as_damage(error: Error) -> Result<VerifyReport> {
    match error {
        Error::Corrupt { path, offset, what } => {
            let mut report = VerifyReport::default();
            report.add(&path, offset, what);
            Ok(report)
        }
        error => Err(error),
    }
}
