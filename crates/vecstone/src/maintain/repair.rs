//! Repair: a new store from everything in a damaged one that checks out.
//!
//! The logs are read three times: to learn which rows are dead, to find the newest row of each id, and to copy those
//! rows in the order of writing. What cannot be trusted is not written, and does not uncover an older version of an
//! id as long as anything that is left names that id or says that the older row is dead.

pub(crate) mod source;

use crate::buffer::batch::Batch;
use crate::engine::{Engine, OpenedEngine, close};
use crate::format::manifest::Sections;
use crate::maintain::salvage::{self, segment::SalvagedSegment};
use crate::open::directory;
use crate::open::lock::{Lock, writer_lives};
use crate::open::unfinished::{self, Call};
use crate::pair::files::{new_identity, random, zeros};
use crate::pair::log::LogEvent;
use crate::pair::rows::{Doc, NULL_LINE};
use crate::sys::disk::{Dir, Disk};
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_LINE_BYTES;
use crate::types::counted::counted;
use crate::types::document::{Document, one_line};
use crate::types::element::check_finite;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, Id, IdKind};
use crate::types::options::{Durability, LOCK_WAIT, OpenOptions};
use source::Source;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of ids, vectors and documents that are copied as one batch.
const BATCH_BYTES: usize = 8 << 20;
/// Ids that are copied as one batch, at most.
const BATCH_IDS: usize = 100_000;
/// So many things are listed one by one: a log may be lost with millions.
pub(crate) const MOST_LISTED: usize = 100_000;

/// What a repair wrote and what it could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Ids in the new store.
    pub rows: u64,
    /// What is not in it because its bytes are damaged or lost, in the order of writing: the first 100,000.
    pub dropped: Vec<Dropped>,
    /// How much is not in it, listed or not.
    pub dropped_total: u64,
    /// Ids that are in it and that may have been deleted, or may have had a newer vector, since what would say so is
    /// lost: the first 100,000.
    pub possibly_deleted: Vec<Id>,
    /// How many ids may have been deleted or be older, listed or not.
    pub possibly_deleted_total: u64,
    /// What was found damaged or missing as a whole.
    pub notes: Vec<String>,
}

impl RepairReport {
    /// Whether the new store holds all that the old one held, and nothing else.
    pub fn is_whole(&self) -> bool {
        self.dropped_total == 0 && self.possibly_deleted_total == 0
    }

    fn drop(&mut self, id: Option<Id>, path: PathBuf, offset: u64, what: impl Into<String>) {
        self.dropped_total += 1;
        if self.dropped.len() < MOST_LISTED {
            self.dropped.push(Dropped { id, path, offset, what: what.into() });
        }
    }

    fn doubt(&mut self, id: &Id) {
        self.possibly_deleted_total += 1;
        if self.possibly_deleted.len() < MOST_LISTED {
            self.possibly_deleted.push(id.clone());
        }
    }
}

/// A vector or document that a repair left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// Its id, where that is known.
    pub id: Option<Id>,
    /// The damaged file.
    pub path: PathBuf,
    /// Byte offset of what was left out.
    pub offset: u64,
    /// What does not hold.
    pub what: String,
}

/// Writes to `to` everything of the store at `from` that checks out. `from` is only read (and locked, where that is
/// allowed).
pub(crate) fn repair(disk: &Arc<dyn Disk>, from: &Path, to: &Path) -> Result<RepairReport> {
    let from = directory::open(disk, from)?;
    directory::check_outside(disk, &from, to)?;
    source::is_a_store(&from)?;
    let _lock = lock(&from)?;
    let source = source::find(&from)?;
    let newest = Newest::of(&source)?;
    let identity = new_identity(random()?, 1)?;
    let options = OpenOptions::new().without_background().buffer_bytes(0);
    let (dir, lock) = unfinished::begin(disk, to, Call::Repair, identity.uuid)?;
    let opened = OpenedEngine::create(dir.clone(), lock, source.dim, source.metric, identity, &options)?;
    let engine = &opened.engine;
    let report = RepairReport { notes: source.notes.clone(), ..RepairReport::default() };
    let mut copier = Copier { engine, source: &source, newest, report, batch: Rows::default() };
    copier.run()?;
    let report = copier.report;
    if planted::is(Bug::FinishTooEarly) {
        unfinished::finish(&dir)?;
    }
    engine.flush()?;
    if source.sections != Sections::default() {
        engine.change_sections(|sections| {
            *sections = source.sections.clone();
            Ok(())
        })?;
    }
    engine.build_side_files(false);
    close::close(engine)?;
    // Under the lock, which goes at the end.
    unfinished::finish(&dir)?;
    Ok(report)
}

/// LOCK of the damaged store; `None` where it cannot be written, and no writer lives.
fn lock(dir: &Dir) -> Result<Option<Lock>> {
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match Lock::take(dir, LOCK_WAIT) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) => {
            let refused = matches!(&error, Error::Io { source, .. }
                if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem));
            // Nobody can hold what is no file.
            let no_file = error.is_corrupt();
            if !refused && !no_file && !matches!(error, Error::Linked { .. }) {
                return Err(error);
            }
            if writer_lives(dir)? {
                return Err(Error::Locked { path: dir.path().to_owned(), pid: None });
            }
            Ok(None)
        }
    }
}

/// A row of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    part: usize,
    row: u32,
}

/// What is known of an id.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its newest row; `None` if a damaged batch had something to say of the id later.
    at: Option<At>,
    /// The row before.
    older: Option<At>,
}

/// The newest row of each id.
struct Newest(HashMap<Box<[u8]>, Entry>);

impl Newest {
    fn of(source: &Source) -> Result<Newest> {
        let mut newest = Newest(HashMap::new());
        let mut damaged = 0;
        for (number, part) in source.parts.iter().enumerate() {
            salvage::scan(part, &mut |seen| {
                damaged += u64::from(matches!(seen, LogEvent::Damage { .. }));
                newest.add(number, part, seen);
                Ok(())
            })?;
        }
        source.check_same(damaged)?;
        Ok(newest)
    }

    fn add(&mut self, number: usize, part: &SalvagedSegment, seen: LogEvent<'_>) {
        match seen {
            // Where this segment's place in the order of writing is a guess, a dead row says nothing of others.
            LogEvent::Put { row, .. } if !part.ordered && !part.dead.is_live(row) => {}
            LogEvent::Put { id, row, .. } => self.set(id, Some(At { part: number, row })),
            LogEvent::Unsure { id, .. } => self.set(id, None),
            LogEvent::Delete { id, sure: true, .. } => _ = self.0.remove(id),
            LogEvent::Delete { id, .. } if self.0.contains_key(id) => self.set(id, None),
            _ => {}
        }
    }

    fn set(&mut self, id: &[u8], at: Option<At>) {
        match self.0.get_mut(id) {
            Some(entry) => *entry = Entry { at, older: entry.at.or(entry.older) },
            None => _ = self.0.insert(id.into(), Entry { at, older: None }),
        }
    }

    /// Takes out an id whose newest row is this one.
    fn take(&mut self, id: &[u8], at: Option<At>) -> Option<Entry> {
        let entry = *self.0.get(id).filter(|entry| entry.at == at)?;
        self.0.remove(id);
        Some(entry)
    }
}

/// Rows on their way to the new store.
#[derive(Default)]
struct Rows {
    ids: Vec<Id>,
    vectors: Vec<f32>,
    documents: Vec<Option<String>>,
    bytes: usize,
}

/// The second half of a repair.
struct Copier<'a> {
    engine: &'a Engine,
    source: &'a Source,
    newest: Newest,
    report: RepairReport,
    batch: Rows,
}

impl Copier<'_> {
    fn run(&mut self) -> Result<()> {
        let (source, mut damaged) = (self.source, 0);
        for (number, part) in source.parts.iter().enumerate() {
            salvage::scan(part, &mut |seen| {
                damaged += u64::from(matches!(seen, LogEvent::Damage { .. }));
                self.see(number, part, &seen)
            })?;
            if part.idx.is_none() {
                self.lose_log(part);
            }
        }
        source.check_same(damaged)?;
        self.write()
    }

    /// Lists what a log that is missing told of.
    fn lose_log(&mut self, part: &SalvagedSegment) {
        let before = self.report.dropped_total;
        let rows = part.sealed_rows.unwrap_or_default().max(part.rows_in_dat());
        self.lose_rows(part, 0..rows, "the id of this row is lost: its log is missing");
        if self.report.dropped_total == before && part.sealed_rows.is_none() {
            self.report.drop(None, part.path("idx"), 0, "the log is missing: nobody knows what it told of");
        }
    }

    /// Lists rows without an id, those that are not known to be dead.
    fn lose_rows(&mut self, part: &SalvagedSegment, rows: Range<u64>, what: &str) {
        let dead = part.dead.dead_rows().filter(|row| rows.contains(&u64::from(*row))).count() as u64;
        let report = &mut self.report;
        let room = MOST_LISTED.saturating_sub(report.dropped.len());
        let path = part.path("dat");
        let listed = part.dead.live_in(rows.clone()).take(room).map(|row| {
            let offset = part.header.row_start(row);
            Dropped { id: None, path: path.clone(), offset, what: what.to_owned() }
        });
        report.dropped.extend(listed);
        report.dropped_total += rows.end - rows.start - dead;
    }

    fn see(&mut self, number: usize, part: &SalvagedSegment, seen: &LogEvent<'_>) -> Result<()> {
        match *seen {
            LogEvent::Put { id, row, crc, doc, .. } => {
                let at = At { part: number, row };
                match self.newest.take(id, Some(at)) {
                    Some(entry) => self.copy_row(part, at, id, crc, doc, entry.older),
                    None => Ok(()),
                }
            }
            LogEvent::Unsure { id, at } => {
                let what = "the batch that wrote this id is damaged, and nothing confirms the id";
                self.drop_unsure(part, id, at, what);
                Ok(())
            }
            LogEvent::Lost { row } if part.dead.is_live(row) => {
                let offset = part.header.row_start(row.into());
                self.report.drop(None, part.path("dat"), offset, "the id of this row is lost");
                Ok(())
            }
            LogEvent::Unlogged(ref rows) if part.sealed_rows.is_none() => {
                let what = "no batch tells of this row: a crash cut its write short, or its log is lost";
                self.lose_rows(part, rows.clone(), what);
                Ok(())
            }
            LogEvent::Torn { at, bytes, written: true } if part.sealed_rows.is_none() => {
                let what = format!(
                    "no whole batch at the end, {}: a crash cut a write short, or a log was cut",
                    counted(bytes, "byte")
                );
                self.report.drop(None, part.path("idx"), at, what);
                Ok(())
            }
            LogEvent::Delete { id, at, sure: false } => {
                self.drop_unsure(part, id, at, "a batch that is damaged seems to delete this id");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn drop_unsure(&mut self, part: &SalvagedSegment, id: &[u8], at: u64, what: &str) {
        if let Some(entry) = self.newest.take(id, None) {
            let path = part.path("idx");
            self.leave_out(id, path, at, what.to_owned(), entry.older);
        }
    }

    /// Lists what is left out, with the version before, which is not written either.
    fn leave_out(&mut self, id: &[u8], path: PathBuf, offset: u64, mut what: String, older: Option<At>) {
        if let Some(At { part, row }) = older {
            let file = self.source.parts[part].path("dat");
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            what += &format!("; an older version is row {row} of {name}");
        }
        let id = self.source.kind.and_then(|kind| Id::from_bytes(kind, id));
        self.report.drop(id, path, offset, what);
    }

    /// Copies the newest row of an id, if it is intact and alive.
    fn copy_row(
        &mut self,
        part: &SalvagedSegment,
        at: At,
        id: &[u8],
        crc: u32,
        doc: Doc,
        older: Option<At>,
    ) -> Result<()> {
        let offset = part.header.row_start(at.row.into());
        if !part.dead.is_live(at.row) {
            // Where all is there, its id was deleted.
            if self.source.lost {
                let what =
                    "the row is dead: its id was deleted, or put again by a batch that is lost".to_owned();
                self.leave_out(id, part.path("dat"), offset, what, None);
            }
            return Ok(());
        }
        let vector = match read_vector(part, at.row, crc) {
            Ok(vector) => vector,
            Err(what) => {
                self.leave_out(id, part.path("dat"), offset, what, older);
                return Ok(());
            }
        };
        let known = self.source.kind.and_then(|kind: IdKind| Id::from_bytes(kind, id));
        let Some(known) = known else {
            self.leave_out(id, part.path("dat"), offset, "its id is not one".to_owned(), older);
            return Ok(());
        };
        let document = match read_document(part, at.row, doc) {
            Ok(document) => document,
            Err(what) => {
                self.leave_out(id, part.path("jsonl"), doc.at, what, None);
                None
            }
        };
        if part.doubtful {
            self.report.doubt(&known);
        }
        self.push(known, &vector, document)
    }

    fn push(&mut self, id: Id, vector: &[f32], document: Option<String>) -> Result<()> {
        let bytes =
            size_of_val(vector) + document.as_ref().map_or(0, String::len) + id.as_id().as_bytes().len();
        if self.batch.bytes + bytes > BATCH_BYTES || self.batch.ids.len() == BATCH_IDS {
            self.write()?;
        }
        self.batch.bytes += bytes;
        self.batch.ids.push(id);
        self.batch.vectors.extend_from_slice(vector);
        self.batch.documents.push(document);
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let Rows { ids, vectors, documents, .. } = std::mem::take(&mut self.batch);
        let documents: Vec<_> = documents.iter().map(|text| Document::whole(text.as_deref())).collect();
        let (ids, dim): (Vec<_>, _) = (ids.iter().map(AsId::as_id).collect(), self.source.dim as usize);
        let batch = Batch::Rows { ids: &ids, vectors: &vectors, documents: &documents, dim };
        batch.check(dim, None)?;
        if let Some(kind) = batch.kind() {
            self.engine.write(batch, kind, Durability::Buffered)?;
        }
        self.report.rows += ids.len() as u64;
        Ok(())
    }
}

/// The vector of a row, or what is wrong with it.
fn read_vector(part: &SalvagedSegment, row: u32, crc: u32) -> Result<Vec<f32>, String> {
    let dat = part.dat.as_ref().ok_or("the file is missing")?;
    let (start, row) = (part.header.row_start(row.into()), u64::from(row));
    if start + part.header.stride() > part.dat_len {
        return Err("the file ends before this row".to_owned());
    }
    let mut vector = vec![0f32; part.header.dim as usize];
    part.header.element.read(&mut vector, |bytes| {
        dat.read(bytes, start).map_err(|error| error.to_string())?;
        let intact = part.header.identity.row_crc(row, bytes) == crc;
        intact.then_some(()).ok_or_else(|| "the row does not match its checksum".to_owned())
    })?;
    check_finite(0, &vector).map_err(|_| "the row holds what is not a finite number")?;
    Ok(vector)
}

/// The document of a row, or what is wrong with it.
fn read_document(part: &SalvagedSegment, row: u32, doc: Doc) -> Result<Option<String>, String> {
    if doc.len == 0 {
        return Ok(None);
    }
    let jsonl = part.jsonl.as_ref().ok_or("the file of this document is missing")?;
    let end = doc.at.checked_add(doc.len.into());
    if end.is_none_or(|end| end > part.jsonl_len) {
        return Err("the file ends before this document".to_owned());
    }
    if u64::from(doc.len) > MAX_LINE_BYTES {
        return Err("the document is longer than any can be; its vector is kept".to_owned());
    }
    let mut line = zeros(doc.len.into()).map_err(|error| error.to_string())?;
    jsonl.read(&mut line, doc.at).map_err(|error| error.to_string())?;
    if part.header.identity.line_crc(row.into(), &line) != doc.crc {
        return Err("the document does not match its checksum; its vector is kept".to_owned());
    }
    if line == NULL_LINE {
        return Ok(None);
    }
    line.pop();
    let text = String::from_utf8(line).map_err(|_| "the document is not UTF-8; its vector is kept")?;
    one_line(0, &text).map(Some).map_err(|_| "the document is not JSON; its vector is kept".to_owned())
}
