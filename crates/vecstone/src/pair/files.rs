//! The files of a segment, by their names: opened, read with checks, written, synced.

use crate::format::Identity;
use crate::format::header::Header;
use crate::pair::rows::{Doc, NULL_LINE};
use crate::sys::disk::{Dir, DiskFile, Mapping, Open, PIECE_BYTES, read_exact_at, write_all_at};
use crate::sys::planted::{self, Bug};
use crate::types::config::{MAX_ID_BYTES, MAX_LINE_BYTES};
use crate::types::error::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file with its name for messages.
#[derive(Debug, Clone)]
pub(crate) struct StoreFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl StoreFile {
    /// A file to read; `None` if it is not there.
    pub(crate) fn open(dir: &Dir, path: PathBuf) -> Result<Option<StoreFile>> {
        match dir.open_file(&path, Open::Read) {
            Ok(file) => Ok(Some(StoreFile { path, file })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(&path, "open", e)),
        }
    }

    /// A file that is made now, under a name that is not taken.
    pub(crate) fn create(dir: &Dir, path: PathBuf) -> Result<StoreFile> {
        let file = dir.open_file(&path, Open::CreateNew).map_err(|e| Error::io(&path, "create", e))?;
        Ok(StoreFile { path, file })
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(self.file.as_ref(), buf, offset).map_err(|e| Error::io(&self.path, "read", e))
    }

    /// Reads a whole file of at most `max` bytes.
    pub(crate) fn read_all(&self, max: u64) -> Result<Vec<u8>> {
        let len = self.len()?;
        if len > max {
            return Err(Error::corrupt(&self.path, max, "the file is longer than any can be"));
        }
        let mut bytes = zeros(len)?;
        self.read(&mut bytes, 0)?;
        Ok(bytes)
    }

    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_all_at(self.file.as_ref(), bytes, offset).map_err(|e| Error::write(&self.path, offset, e))
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io(&self.path, "sync", e))
    }

    /// Writes a small file as a whole and syncs it; its name is durable once the directory is synced.
    pub(crate) fn write_synced(&self, bytes: &[u8]) -> Result<()> {
        self.write(bytes, 0)?;
        self.sync()
    }

    pub(crate) fn len(&self) -> Result<u64> {
        self.file.len().map_err(|e| Error::io(&self.path, "read the length", e))
    }

    /// Refuses a line of documents that is longer than any can be, or ends beyond the file's end.
    pub(crate) fn check_end(&self, line: Doc, len: u64) -> Result<()> {
        if u64::from(line.len) > MAX_LINE_BYTES {
            return Err(Error::corrupt(&self.path, line.at, "the document is longer than any can be"));
        }
        if line.at.saturating_add(u64::from(line.len)) > len {
            return Err(Error::corrupt(&self.path, line.at, "documents are missing at the end"));
        }
        Ok(())
    }

    /// The document in the bytes of a line, checked; `None` if it is none.
    pub(crate) fn document_in<'a>(
        &self,
        header: &Header,
        row: u64,
        line: Doc,
        bytes: &'a [u8],
    ) -> Result<Option<&'a str>> {
        let damaged = |what| Error::corrupt(&self.path, line.at, what);
        if header.identity.line_crc(row, bytes) != line.crc {
            return Err(damaged("the document does not match its checksum"));
        }
        if bytes == NULL_LINE {
            return Ok(None);
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        std::str::from_utf8(text).map(Some).map_err(|_| damaged("the document is not UTF-8"))
    }

    /// A mapping that reaches the end of a batch just written. The batch is on its way to the disk by now, so a failure
    /// leaves an unknown state.
    pub(crate) fn map_written(&self, len: u64) -> Result<Mapping> {
        let failed = |e| Error::WriteFailed { path: self.path.clone(), offset: len, source: Arc::new(e) };
        self.file.map(len).map_err(failed)
    }

    /// Of a file that does not grow.
    pub(crate) fn map_exactly(&self, len: u64) -> Result<Mapping> {
        self.file.map_exactly(len).map_err(|e| Error::io(&self.path, "map", e))
    }

    pub(crate) fn map(&self, len: u64) -> Result<Mapping> {
        self.file.map(len).map_err(|e| Error::io(&self.path, "map", e))
    }
}

/// The files of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) dat: StoreFile,
    pub(crate) idx: StoreFile,
    /// The documents, if some row has one.
    pub(crate) jsonl: Option<StoreFile>,
}

impl Files {
    /// Opens the files of a pair.
    pub(crate) fn open(dir: &Dir, path: &Path, writable: bool) -> Result<Files> {
        let how = if writable { Open::ReadWrite } else { Open::Read };
        let open = |path: PathBuf| match dir.open_file(&path, how) {
            Ok(file) => Ok(StoreFile { path, file }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NotFound { path }),
            Err(e) => Err(Error::io(&path, "open", e)),
        };
        let jsonl = match open(with_suffix(path, ".jsonl")) {
            Err(Error::NotFound { .. }) => None,
            opened => Some(opened?),
        };
        Ok(Files { dat: open(with_suffix(path, ".dat"))?, idx: open(with_suffix(path, ".idx"))?, jsonl })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<&StoreFile> {
        [&self.dat, &self.idx].into_iter().chain(&self.jsonl).collect()
    }

    /// Whether a name of one of them stands for another file by now. One that is gone does not: the writer removes what
    /// MANIFEST names no more, and never gives a name of `.dat` or `.idx` to another file.
    pub(crate) fn are_replaced(&self, dir: &Dir) -> Result<bool> {
        for StoreFile { path, file } in self.all() {
            let look = |e| Error::io(path, "look at", e);
            match dir.open_file(path, Open::Read).and_then(|now| now.inode()) {
                Ok(now) if now != file.inode().map_err(look)? => return Ok(true),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(look(e)),
            }
        }
        Ok(false)
    }

    /// Length of the documents, 0 if there are none.
    pub(crate) fn jsonl_len(&self) -> Result<u64> {
        self.jsonl.as_ref().map_or(Ok(0), StoreFile::len)
    }

    /// A row by read call, checked; `out` has `dim` components. One system call.
    pub(crate) fn read_row(&self, header: &Header, row: u64, crc: u32, out: &mut [f32]) -> Result<()> {
        header.element.read(out, |bytes| {
            self.dat.read(bytes, header.row_start(row))?;
            self.check_row(header, row, bytes, crc)
        })
    }

    /// Refuses a row whose bytes are not what was written.
    pub(crate) fn check_row(&self, header: &Header, row: u64, bytes: &[u8], crc: u32) -> Result<()> {
        if header.identity.row_crc(row, bytes) == crc || planted::is(Bug::UncheckedRead) {
            return Ok(());
        }
        let what = "the row does not match its checksum";
        Err(Error::corrupt(&self.dat.path, header.row_start(row), what))
    }

    /// The document of a row by read call, checked; `None` if it has none.
    pub(crate) fn read_document(
        &self,
        jsonl: Option<&StoreFile>,
        header: &Header,
        row: u64,
        line: Doc,
    ) -> Result<Option<String>> {
        if line.len == 0 {
            return Ok(None);
        }
        let Some(jsonl) = jsonl else { return Err(self.no_documents(line)) };
        jsonl.check_end(line, jsonl.len()?)?;
        let mut bytes = zeros(line.len.into())?;
        jsonl.read(&mut bytes, line.at)?;
        let text = jsonl.document_in(header, row, line, &bytes)?.map(str::len);
        // In the same memory: a document may be long.
        Ok(text.and_then(|len| {
            bytes.truncate(len);
            String::from_utf8(bytes).ok()
        }))
    }

    /// What a line means whose file is not there.
    pub(crate) fn no_documents(&self, line: Doc) -> Error {
        let path = self.dat.path.with_extension("jsonl");
        Error::corrupt(&path, line.at, "the file that MANIFEST names is missing")
    }
}

/// A mapped `.idx` and the end of what counts in it: what lies behind is never touched, for the file may end there.
#[derive(Debug, Clone)]
pub(crate) struct IdxMap {
    pub(crate) map: Arc<Mapping>,
    pub(crate) end: u64,
}

impl IdxMap {
    /// A byte of what stands at `at`, to have it in the caches; 0 beyond the end.
    pub(crate) fn peek(&self, at: u32) -> u8 {
        let at = u64::from(at);
        let there = if at < self.end { self.map.get(at..at + 1) } else { None };
        there.and_then(<[u8]>::first).copied().unwrap_or(0)
    }

    /// The bytes of the id whose record starts at `at`, not looked into; empty beyond the end, and where it
    /// is longer than any can be.
    pub(crate) fn id_at(&self, at: u32) -> &[u8] {
        let at = u64::from(at);
        let get =
            |range: std::ops::Range<u64>| if range.end <= self.end { self.map.get(range) } else { None };
        let len = get(at..at + 4).and_then(|len| len.try_into().ok()).map_or(0, u32::from_le_bytes);
        if len as usize > MAX_ID_BYTES {
            return &[];
        }
        get(at + 4..at + 4 + u64::from(len)).unwrap_or_default()
    }
}

/// So many values of a length that comes from a file; an error where memory does not suffice.
pub(crate) fn zeros<T: Clone + Default>(len: u64) -> Result<Vec<T>> {
    let mut zeros = Vec::new();
    grow(&mut zeros, len)?;
    Ok(zeros)
}

/// Makes a vector as long as that, with zeros behind what it has; an error where memory does not suffice.
pub(crate) fn grow<T: Clone + Default>(values: &mut Vec<T>, len: u64) -> Result<()> {
    let lacking = || Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>() as u64) };
    let len = usize::try_from(len).map_err(|_| lacking())?;
    values.try_reserve_exact(len.saturating_sub(values.len())).map_err(|_| lacking())?;
    values.resize(len, T::default());
    Ok(())
}

/// Makes names durable.
pub(crate) fn sync_dir(dir: &Dir) -> Result<()> {
    dir.sync().map_err(|e| Error::io(dir.path(), "sync", e))
}

pub(crate) fn sync_at_once(dir: &Dir, files: &[&StoreFile]) -> Result<()> {
    let open: Vec<_> = files.iter().map(|named| named.file.clone()).collect();
    for (result, named) in dir.disk().sync_data(&open).into_iter().zip(files) {
        result.map_err(|e| Error::SyncFailed { path: named.path.clone(), source: Arc::new(e) })?;
    }
    Ok(())
}

/// Reads a range and writes the same bytes back.
pub(crate) fn write_again(named: &StoreFile, range: std::ops::Range<u64>) -> Result<()> {
    let mut at = range.start;
    let mut buf = Vec::new();
    while at < range.end {
        let len = (range.end - at).min(PIECE_BYTES as u64);
        buf.resize(usize::try_from(len).unwrap_or(PIECE_BYTES), 0);
        named.read(&mut buf, at)?;
        named.write(&buf, at)?;
        at += len;
    }
    Ok(())
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
thread_local! {
    static SEED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Makes the random bytes of this thread the same at each run; 0 ends that.
#[cfg(test)]
pub(crate) fn seed_random(seed: u64) {
    SEED.set(seed);
}

/// What a segment that is made now is known by.
pub(crate) fn new_identity(uuid: [u8; 16], segment: u64) -> Result<Identity> {
    Ok(Identity { uuid, segment, salt: random()? })
}

/// Random bytes from the operating system.
pub(crate) fn random() -> Result<[u8; 16]> {
    #[cfg(test)]
    if SEED.get() > 0 {
        SEED.set(SEED.get() + 1);
        return Ok(std::array::from_fn(|n| {
            SEED.get().wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[n % 8]
        }));
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        let source = e.raw_os_error().map_or_else(|| io::Error::other(e), io::Error::from_raw_os_error);
        Error::io(Path::new("the system's random source"), "read", source)
    })?;
    Ok(bytes)
}
