//! Reads the pair of files of the original Storage V2, trusting nothing in them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vecstone::{MAX_DIM, MAX_ID_BYTES};

use crate::failure::{Failure, Result};

const HEADER_BYTES: u64 = 256;

/// Why a row or an entry was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    IdEmpty,
    IdNotUtf8,
    IdTooLong,
    OffsetOutOfRange,
    OffsetMisaligned,
    NonFinite,
    DuplicateId,
    IdxCutShort,
    NoId,
}

impl Reason {
    pub(crate) const ALL: [Reason; 9] = [
        Reason::IdEmpty,
        Reason::IdNotUtf8,
        Reason::IdTooLong,
        Reason::OffsetOutOfRange,
        Reason::OffsetMisaligned,
        Reason::NonFinite,
        Reason::DuplicateId,
        Reason::IdxCutShort,
        Reason::NoId,
    ];

    /// As in `--json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::IdEmpty => "id_empty",
            Reason::IdNotUtf8 => "id_not_utf8",
            Reason::IdTooLong => "id_too_long",
            Reason::OffsetOutOfRange => "offset_out_of_range",
            Reason::OffsetMisaligned => "offset_misaligned",
            Reason::NonFinite => "non_finite",
            Reason::DuplicateId => "duplicate_id",
            Reason::IdxCutShort => "idx_cut_short",
            Reason::NoId => "no_id",
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Reason::IdEmpty => "the id is empty",
            Reason::IdNotUtf8 => "the id is not UTF-8",
            Reason::IdTooLong => "the id is too long",
            Reason::OffsetOutOfRange => "the offset is out of range",
            Reason::OffsetMisaligned => "the offset is not the start of a row",
            Reason::NonFinite => "the vector is not finite",
            Reason::DuplicateId => "a later row has the same id",
            Reason::IdxCutShort => "the .idx is cut short",
            Reason::NoId => "no entry names the row",
        }
    }
}

/// One row or entry that was not taken, with what is known of it.
#[derive(Debug, Serialize)]
pub(crate) struct NotTaken {
    pub(crate) reason: Reason,
    /// Number of the `.idx` entry, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
}

impl NotTaken {
    pub(crate) fn new(reason: Reason) -> NotTaken {
        NotTaken { reason, entry: None, row: None, offset: None, id: None }
    }
}

/// `OLD.dat`: rows by number.
pub(crate) struct Dat {
    path: PathBuf,
    reader: BufReader<File>,
    at: u64,
    row: Vec<u8>,
    pub(crate) dim: u32,
    /// Rows that the header counts.
    pub(crate) header_rows: u64,
    /// Whole rows that the file has.
    pub(crate) file_rows: u64,
}

impl Dat {
    pub(crate) fn open(path: &Path) -> Result<Dat> {
        let (file, len) = open(path)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut head = [0; 20];
        if len < HEADER_BYTES {
            return Err(Failure::file(
                path,
                format!("{len} bytes are too few for a Storage V2 header of 256"),
            ));
        }
        reader.read_exact(&mut head).map_err(|e| Failure::io(path, "read", &e))?;
        let [magic, version, dim, low, high] = *head.as_chunks::<4>().0 else {
            unreachable!("20 bytes are 5 words")
        };
        if magic != *b"OMEN" {
            return Err(Failure::file(
                path,
                "not a Storage V2 file: it does not begin with OMEN; check the path",
            ));
        }
        let (version, dim) = (u32::from_le_bytes(version), u32::from_le_bytes(dim));
        if version != 1 {
            return Err(Failure::file(path, format!("Storage V2 version {version} is not known; 1 is")));
        }
        if dim == 0 || dim > MAX_DIM {
            return Err(Failure::file(path, format!("dimension {dim} is not between 1 and {MAX_DIM}")));
        }
        let header_rows = u64::from(u32::from_le_bytes(low)) | u64::from(u32::from_le_bytes(high)) << 32;
        let row = vec![0; dim as usize * 4];
        let file_rows = (len - HEADER_BYTES) / row.len() as u64;
        Ok(Dat { path: path.to_owned(), reader, at: 20, row, dim, header_rows, file_rows })
    }

    pub(crate) fn components(&self) -> usize {
        self.dim as usize
    }

    /// Rows that the header counts and the file has: what lies beyond was never counted as written.
    pub(crate) fn counted(&self) -> u64 {
        self.header_rows.min(self.file_rows)
    }

    /// The row that starts at this byte. Rows beyond the header's count are taken if an entry names them.
    pub(crate) fn row_at(&self, offset: u64) -> Result<u64, Reason> {
        let row_bytes = self.row.len() as u64;
        let Some(from_start) = offset.checked_sub(HEADER_BYTES) else { return Err(Reason::OffsetOutOfRange) };
        let row = from_start / row_bytes;
        if row >= self.file_rows {
            return Err(Reason::OffsetOutOfRange);
        }
        if from_start % row_bytes != 0 { Err(Reason::OffsetMisaligned) } else { Ok(row) }
    }

    /// Appends a row to `to` if it is finite; false and nothing appended if not.
    pub(crate) fn append_row(&mut self, row: u64, to: &mut Vec<f32>) -> Result<bool> {
        let offset = HEADER_BYTES + row * self.row.len() as u64;
        // Rows are mostly in order, and then the buffer stays.
        let moved = match i64::try_from(offset.abs_diff(self.at)) {
            Ok(by) => self.reader.seek_relative(if offset < self.at { -by } else { by }),
            Err(_) => self.reader.seek(SeekFrom::Start(offset)).map(|_| ()),
        };
        moved
            .and_then(|()| self.reader.read_exact(&mut self.row))
            .map_err(|e| Failure::io(&self.path, "read", &e))?;
        self.at = offset + self.row.len() as u64;
        let start = to.len();
        to.extend(self.row.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        let finite = to[start..].iter().all(|x| x.is_finite());
        if !finite {
            to.truncate(start);
        }
        Ok(finite)
    }
}

/// An entry of `OLD.idx`. Without an offset the file ended inside it.
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) id: Result<String, Reason>,
    pub(crate) offset: Option<u64>,
}

/// `OLD.idx`: entries in file order.
pub(crate) struct Idx {
    path: PathBuf,
    reader: BufReader<File>,
    left: u64,
    number: u64,
}

impl Idx {
    pub(crate) fn open(path: &Path) -> Result<Idx> {
        let (file, left) = open(path)?;
        Ok(Idx { path: path.to_owned(), reader: BufReader::with_capacity(256 << 10, file), left, number: 0 })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        if self.left == 0 {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        let cut_short = Entry { number, id: Err(Reason::IdxCutShort), offset: None };
        if self.left < 4 {
            self.left = 0;
            return Ok(Some(cut_short));
        }
        let len = u64::from(u32::from_le_bytes(self.bytes()?));
        if self.left < len + 8 {
            self.left = 0;
            return Ok(Some(cut_short));
        }
        let id = self.id(len)?;
        let offset = Some(u64::from_le_bytes(self.bytes()?));
        Ok(Some(Entry { number, id, offset }))
    }

    fn id(&mut self, len: u64) -> Result<Result<String, Reason>> {
        let failed = |path: &Path, e: &std::io::Error| Failure::io(path, "read", e);
        self.left -= len;
        if len == 0 {
            return Ok(Err(Reason::IdEmpty));
        }
        if len > MAX_ID_BYTES as u64 {
            // A length is at most 2^32, so this cannot be out of range.
            let by = i64::try_from(len).unwrap_or(i64::MAX);
            self.reader.seek_relative(by).map_err(|e| failed(&self.path, &e))?;
            return Ok(Err(Reason::IdTooLong));
        }
        let mut id = Vec::new();
        (&mut self.reader).take(len).read_to_end(&mut id).map_err(|e| failed(&self.path, &e))?;
        Ok(String::from_utf8(id).map_err(|_| Reason::IdNotUtf8))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|e| Failure::io(&self.path, "read", &e))?;
        self.left -= N as u64;
        Ok(bytes)
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).map_err(|e| Failure::io(path, "open", &e))?;
    let meta = file.metadata().map_err(|e| Failure::io(path, "read", &e))?;
    if !meta.is_file() {
        return Err(Failure::file(path, "not a regular file; give OLD, where OLD.dat and OLD.idx are files"));
    }
    Ok((file, meta.len()))
}
