//! One segment that may be damaged: its files as they are, and how much of them counts.

use crate::format::header::{DecodeError, HEADER_BYTES, HEADER_LEN, Header};
use crate::format::manifest::SegmentExtent;
use crate::format::record::{self, FILE_BYTES, FileRecord};
use crate::open::directory;
use crate::pair::files::{Files, StoreFile, with_suffix};
use crate::pair::recover::{self, into_error};
use crate::pair::rows::Doc;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::Ids;
use crate::segment::side::{self, OpenFiles};
use crate::sys::disk::{Dir, Open, is_no_file};
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_ROWS;
use crate::types::error::{Error, Result};
use crate::types::id::{IdHasher, half};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One segment, or what is left of it.
pub(crate) struct SalvagedSegment {
    pub(crate) header: Header,
    pub(crate) dat: Option<StoreFile>,
    pub(crate) dat_len: u64,
    pub(crate) idx: Option<StoreFile>,
    /// As much of `.idx` as counts.
    pub(crate) idx_len: u64,
    pub(crate) jsonl: Option<StoreFile>,
    pub(crate) jsonl_len: u64,
    /// Those that can be used.
    pub(crate) side: OpenFiles,
    /// What its FILE record says; if that is damaged, what it may have said.
    pub(crate) starts: Vec<FileRecord>,
    /// A batch that MANIFEST or `.ids` says was there; 0 if they say nothing.
    pub(crate) last_seq: u64,
    pub(crate) dead: DeletionVector,
    /// Its rows may have been deleted, or be older versions: what says so is lost.
    pub(crate) doubtful: bool,
    /// Rows that MANIFEST says it has, if it does not change any more.
    pub(crate) sealed_rows: Option<u64>,
    /// Bytes behind `idx_len` that recovery would drop.
    pub(crate) cut: u64,
    /// Its log is not all there, or does not end as it did when it was closed.
    pub(crate) lost_log: bool,
    /// Its place in the order of writing is known.
    pub(crate) ordered: bool,
    stem: PathBuf,
}

/// The files of a segment by its number, as far as they are there.
pub(crate) struct SegmentProbe {
    pub(crate) stem: PathBuf,
    pub(crate) dat: Option<StoreFile>,
    pub(crate) idx: Option<StoreFile>,
    pub(crate) in_dat: Option<Header>,
    pub(crate) in_idx: Option<FileRecord>,
}

impl SalvagedSegment {
    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        // A bare pair may have a dot in its name.
        with_suffix(&self.stem, &format!(".{suffix}"))
    }

    pub(crate) fn rows_in_dat(&self) -> u64 {
        (self.dat_len.saturating_sub(HEADER_BYTES) / self.header.stride()).min(MAX_ROWS)
    }

    /// More rows than this one file or the other has no room for.
    pub(crate) fn most_rows(&self) -> u64 {
        self.rows_in_dat().max(self.idx_len / record::LEAST_PUT).min(MAX_ROWS)
    }

    pub(crate) fn of(dir: &Dir, probe: SegmentProbe, header: Header) -> Result<SalvagedSegment> {
        let mut side = Vec::new();
        for kind in side::of_segments() {
            let file = open(dir, probe.stem.with_extension(kind.suffix()))?;
            side.extend(file.and_then(|file| kind.open(file, &header.identity).ok().flatten()));
        }
        SalvagedSegment::with(dir, probe, header, side)
    }

    /// `.ids`, if it can be used.
    pub(crate) fn ids(&self) -> Option<&Ids> {
        side::of_type(&self.side).next()
    }

    /// Whether `.ids` says something else of a row that an intact batch tells of.
    pub(crate) fn contradicts(&self, hasher: IdHasher, id: &[u8], row: u32, crc: u32, doc: Doc) -> bool {
        // A damaged page, and a row behind those of the file, contradict nothing.
        let said = self.ids().and_then(|ids| ids.row(row).ok());
        said.is_some_and(|said| {
            let line = |doc: Doc| (doc.len, doc.crc);
            said.hash != half(hasher.hash(id)) || said.crc != crc || line(said.doc) != line(doc)
        })
    }

    /// As `of`, with side files that are open.
    pub(crate) fn with(
        dir: &Dir,
        probe: SegmentProbe,
        header: Header,
        side: OpenFiles,
    ) -> Result<SalvagedSegment> {
        let jsonl = open(dir, probe.stem.with_extension("jsonl"))?;
        SalvagedSegment::with_files(probe, jsonl, header, side)
    }

    /// Of files that are open: each with their log up to an end of it.
    pub(crate) fn up_to(
        end: &SegmentExtent,
        files: &Files,
        header: Header,
        side: OpenFiles,
    ) -> Result<SalvagedSegment> {
        let probe = SegmentProbe {
            stem: files.dat.path.with_extension(""),
            dat: Some(files.dat.clone()),
            idx: Some(files.idx.clone()),
            in_dat: None,
            in_idx: file_record(Some(&files.idx))?,
        };
        let mut part = SalvagedSegment::with_files(probe, files.jsonl.clone(), header, side)?;
        part.end_at(end);
        Ok(part)
    }

    /// Leaves out what is behind the end that MANIFEST or a version knows.
    pub(crate) fn end_at(&mut self, end: &SegmentExtent) {
        self.idx_len = self.idx_len.min(end.idx_len);
        self.last_seq = end.last_seq;
    }

    /// What a damaged FILE record may have said, too: that it goes on where another segment ends.
    pub(crate) fn may_follow(&mut self, before: Option<&SegmentExtent>) {
        if let Some(before) = before.filter(|_| self.starts.len() > 1) {
            let header = self.header;
            self.starts.push(FileRecord { header, seq: before.last_seq, chain: before.chain });
        }
    }

    /// All files, if those are there that every segment has.
    pub(crate) fn files(&self) -> Option<Files> {
        Some(Files { dat: self.dat.clone()?, idx: self.idx.clone()?, jsonl: self.jsonl.clone() })
    }

    fn with_files(
        probe: SegmentProbe,
        jsonl: Option<StoreFile>,
        header: Header,
        side: OpenFiles,
    ) -> Result<SalvagedSegment> {
        let SegmentProbe { stem, dat, idx, in_idx, .. } = probe;
        let len = |file: &Option<StoreFile>| file.as_ref().map_or(Ok(0), StoreFile::len);
        // .idx first: beside a writer the others are at least as long as it says.
        let idx_len = len(&idx)?.min(record::MAX_LOG_BYTES);
        let (dat_len, jsonl_len) = (len(&dat)?, len(&jsonl)?);
        let intact = in_idx.filter(|file| file.header == header);
        let starts = intact.map_or_else(|| guessed_starts(idx.as_ref(), header), |file| vec![file]);
        let ids = side::of_type::<Ids>(&side).next();
        let point = ids.filter(|_| !planted::is(Bug::RepairWithoutPoint)).map(Ids::point);
        let last_seq = point.map_or(0, |point| point.seq);
        Ok(SalvagedSegment {
            header,
            dat,
            dat_len,
            idx,
            idx_len,
            jsonl,
            jsonl_len,
            side,
            starts,
            last_seq,
            dead: DeletionVector::default(),
            doubtful: false,
            sealed_rows: None,
            cut: 0,
            lost_log: false,
            ordered: true,
            stem,
        })
    }

    /// Leaves out what a crash cut short, where recovery finds that nothing durable is damaged.
    pub(crate) fn cut_to_what_counts(&mut self) -> Result<()> {
        let Some(files) = self.files() else { return Ok(()) };
        match recover::recover(&files, None, 0) {
            Ok(found) if found.header == self.header && found.position.seq >= self.last_seq => {
                self.idx_len = self.idx_len.min(found.position.idx_end);
                Ok(())
            }
            Err(error @ (Error::Unsupported { .. } | Error::Interrupted)) => Err(error),
            // Damaged: all of it is looked at.
            _ => Ok(()),
        }
    }
}

/// What a damaged FILE record may have said: what it says now, or that the segment continues no other. The first COMMIT
/// tells which.
fn guessed_starts(idx: Option<&StoreFile>, header: Header) -> Vec<FileRecord> {
    let mut starts = vec![FileRecord { header, seq: 0, chain: [0; 16] }];
    let mut bytes = [0; FILE_BYTES];
    if idx.is_some_and(|idx| idx.read(&mut bytes, 0).is_ok()) {
        starts.push(FileRecord::unchecked(&bytes, header));
    }
    starts
}

/// Opens a file to read; `None` if it is not there, or something else is.
pub(crate) fn open(dir: &Dir, path: PathBuf) -> Result<Option<StoreFile>> {
    match dir.open_file(&path, Open::Read) {
        Ok(file) => Ok(Some(StoreFile { path, file })),
        Err(e) if e.kind() == ErrorKind::NotFound || is_no_file(&e) => Ok(None),
        Err(e) => Err(Error::io(&path, "open", e)),
    }
}

/// Opens the files of a segment and reads what they say they are.
pub(crate) fn probe(dir: &Dir, number: u64) -> Result<SegmentProbe> {
    let stem = directory::pair_path(dir, number);
    let (dat, idx) = (open(dir, stem.with_extension("dat"))?, open(dir, stem.with_extension("idx"))?);
    let mut bytes = [0; HEADER_LEN];
    let there = dat.as_ref().is_some_and(|file| file.read(&mut bytes, 0).is_ok());
    let in_dat = if there { known(&stem.with_extension("dat"), Header::decode(&bytes))? } else { None };
    let in_idx = file_record(idx.as_ref())?;
    Ok(SegmentProbe { stem, dat, idx, in_dat, in_idx })
}

/// The FILE record of a log, if it is intact.
fn file_record(idx: Option<&StoreFile>) -> Result<Option<FileRecord>> {
    let mut bytes = [0; FILE_BYTES];
    match idx {
        Some(idx) if idx.read(&mut bytes, 0).is_ok() => known(&idx.path, FileRecord::decode(&bytes)),
        _ => Ok(None),
    }
}

/// What was decoded, if it is intact; what needs a newer release is an error.
fn known<T>(path: &Path, decoded: Result<T, DecodeError>) -> Result<Option<T>> {
    match decoded {
        Ok(decoded) => Ok(Some(decoded)),
        Err(bad @ DecodeError::Unsupported(..)) => Err(into_error(path, bad)),
        Err(_) => Ok(None),
    }
}
