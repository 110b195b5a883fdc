//! The write path of one pair of files: append, commit, close.
//!
//! `format.md` says what is written. Each step is made of a part that touches the disk and needs only `&self`, and a part
//! that publishes the outcome and never waits, so that readers go on during the first.

use crate::batch::{Batch, PIECE_BYTES, copy_in_pieces, rows_in_piece};
use crate::config::MAX_ROWS;
use crate::disk::{Dir, Open};
use crate::document::Document;
use crate::error::{Error, Result};
use crate::files::{Files, Named, sync_at_once, with_suffix, write_again};
use crate::format::MAX_SEQ;
use crate::format::header::Header;
use crate::format::record::{self, Arrays, Commit, FLAG_DOCUMENTS, FileRecord};
use crate::id::{IdHasher, IdKind, half};
use crate::planted::{self, Bug};
use crate::recover::{Deleted, Recovered, Tip};
use crate::rows::{Row, RowTable};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod lines;

pub(crate) use lines::{Effects, Kept, StoredLine};

/// The writer's end of a pair: where the next batch goes, and what is known to be durable.
#[derive(Debug)]
pub(crate) struct Pair {
    dir: Dir,
    files: Files,
    header: Header,
    hasher: IdHasher,
    /// The MANIFEST number that COMMITs are written under.
    manifest: u64,
    /// The end of what was appended.
    written: Tip,
    /// The end of what all files were synced for.
    durable: Tip,
    /// The last sequence that the log itself says is durable.
    noted: u64,
    /// The log ends in CLOSE and the files end where it says.
    clean: bool,
    /// A batch made the documents' file, and may have failed then.
    tried_documents: AtomicBool,
    poisoned: Option<Arc<Error>>,
}

/// What a written batch changes, not yet published.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) tip: Tip,
    pub(crate) rows: RowTable,
    pub(crate) deletes: Vec<Deleted>,
    /// The documents' file, if this batch made it.
    jsonl: Option<Named>,
    /// Where documents that were to be kept are damaged: they have none now.
    pub(crate) lost: Vec<Error>,
}

/// What a sync is to prove durable, and the files to sync for it.
#[derive(Debug)]
pub(crate) struct Pending {
    tip: Tip,
    files: Files,
    dir: Dir,
}

/// How much of a long batch is written before the disk is asked to begin with it: large enough that the file system
/// gives it room in one piece, small enough that the sync at the end has little left to do.
const WRITEBACK_BYTES: u64 = 16 << 20;

impl Pair {
    /// Makes both files and syncs them; the directory is the caller's to sync. If it fails, those that it has made are
    /// removed, and no others.
    pub(crate) fn create(dir: &Dir, path: &Path, file: FileRecord, manifest: u64) -> Result<Pair> {
        let mut made = Vec::new();
        let mut create = |path: PathBuf| match dir.open_file(&path, Open::CreateNew) {
            Ok(file) => {
                made.push(path.clone());
                Ok(Named { path, file })
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists { path }),
            Err(e) => Err(Error::io(&path, "create", e)),
        };
        let written = create(with_suffix(path, ".dat")).and_then(|dat| {
            let idx = create(with_suffix(path, ".idx"))?;
            dat.write(&file.header.encode(), 0)?;
            idx.write(&file.encode(), 0)?;
            if !planted::is(Bug::SkipPairSync) {
                sync_at_once(dir, &[&dat, &idx])?;
            }
            Ok(Files { dat, idx, jsonl: None })
        });
        if written.is_err() && planted::is(Bug::RemoveOthersFiles) {
            made = vec![with_suffix(path, ".dat"), with_suffix(path, ".idx")];
        }
        let files = written.inspect_err(|_| made.iter().for_each(|path| _ = dir.unlink(path)))?;
        let tip = Tip::start(&file);
        Ok(Self::at(dir, files, file.header, tip.clone(), tip, manifest))
    }

    /// The files of a pair that this handle has made.
    pub(crate) fn made(&self) -> Vec<PathBuf> {
        let mut made = vec![self.files.dat.path.clone(), self.files.idx.path.clone()];
        if self.tried_documents.load(Ordering::Relaxed) {
            made.push(self.files.dat.path.with_extension("jsonl"));
        }
        made
    }

    fn at(dir: &Dir, files: Files, header: Header, written: Tip, durable: Tip, manifest: u64) -> Pair {
        Pair {
            dir: dir.clone(),
            files,
            header,
            hasher: IdHasher::new(&header.identity.uuid),
            manifest,
            noted: durable.seq,
            written,
            durable,
            clean: false,
            tried_documents: AtomicBool::new(false),
            poisoned: None,
        }
    }

    /// The writer's end of what recovery found; nothing is written yet.
    pub(crate) fn of(dir: &Dir, files: Files, found: &Recovered, manifest: u64) -> Pair {
        let pair = Self::at(dir, files, found.header, found.tip.clone(), found.proven.clone(), manifest);
        Pair { clean: found.report.clean, ..pair }
    }

    /// Writes the unproven end of the files again and syncs it; then says in the log that it is durable, and cuts
    /// what is behind.
    ///
    /// Reading it proved only that the page cache has it: a page whose write-back once failed is clean there and lost
    /// on the disk. Written again it is dirty, and the sync tells the truth. The new DURABLE record takes the place
    /// of whatever proof is cut off.
    pub(crate) fn make_recovered_durable(&mut self) -> Result<()> {
        if self.clean {
            return Ok(());
        }
        if self.written.docs_end == 0
            && let Some(jsonl) = self.files.jsonl.take()
        {
            // No COMMIT names it: the batch that made it never counted.
            self.dir.unlink(&jsonl.path).map_err(|e| Error::io(&jsonl.path, "remove", e))?;
        }
        let trusting = planted::is(Bug::TrustPageCache);
        if !trusting {
            // The marks behind the last COMMIT too: their sync may have failed.
            for (named, end, durable) in self.ends() {
                write_again(named, durable..end)?;
            }
        }
        if self.durable.seq < self.written.seq && !trusting {
            self.sync_all()?;
        }
        self.durable = self.written.clone();
        self.written.epoch = self.written.epoch.saturating_add(1);
        self.noted = 0;
        if let Ok(Some(mark)) = self.note(&Ok(self.durable.seq))
            && !planted::is(Bug::ForgetProof)
        {
            self.noted(self.durable.seq, &mark);
        }
        self.cut_to_written()?;
        if trusting { Ok(()) } else { self.sync_all() }
    }

    /// Each file with the end of what was written and of what is durable.
    fn ends(&self) -> impl Iterator<Item = (&Named, u64, u64)> {
        let (written, durable) = (&self.written, &self.durable);
        let rows = |tip: &Tip| self.header.row_start(tip.rows);
        let pair = [
            (&self.files.dat, rows(written), rows(durable)),
            (&self.files.idx, written.idx_end, durable.idx_end),
        ];
        let jsonl = self.files.jsonl.as_ref().map(|jsonl| (jsonl, written.docs_end, durable.docs_end));
        pair.into_iter().chain(jsonl)
    }

    /// Cuts what is behind the end of what counts.
    fn cut_to_written(&self) -> Result<()> {
        for (named, end, _) in self.ends() {
            if named.len()? > end {
                named.file.set_len(end).map_err(|e| Error::io(&named.path, "cut the end of", e))?;
            }
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<()> {
        sync_at_once(&self.dir, &self.files.all())
    }

    // ---- writing: one screen ----

    /// The disk's part of an append: rows to `.dat` and documents to `.jsonl`, then records and COMMIT to `.idx`, at the
    /// ends of what is published. If it fails nothing moved, and the next batch goes to the same place. `effects`: what
    /// the batch does to rows that are there, and takes from them.
    pub(crate) fn write(&self, batch: Batch<'_>, kind: IdKind, effects: &Effects<'_>) -> Result<Appended> {
        self.check_writable()?;
        self.write_marks_again()?;
        let at = &self.written;
        let (mut rows, mut deletes) = (RowTable::from_row(at.rows), Vec::new());
        let (mut log, mut with_documents) = (Vec::new(), at.docs_end > 0 || !effects.kept.is_empty());
        for change in batch.changes(self.hasher) {
            let idx_at = at.idx_end + log.len() as u64;
            let idx_at = u32::try_from(idx_at).map_err(|_| self.full(rows.end()))?;
            let Some((_, document)) = change.put else {
                record::push_delete(&mut log, change.id);
                deletes.push(Deleted { rows: rows.end(), idx_at, hash: change.hash });
                continue;
            };
            let hash = half(change.hash);
            record::push_put(&mut log, change.id, self.header.row_start(rows.end()));
            rows.push(Row { idx_at, crc: 0, hash });
            with_documents |= matches!(document, Document::Json(_));
        }
        // A COMMIT is a record, too.
        if rows.end() > MAX_ROWS || at.idx_end + log.len() as u64 > u32::MAX.into() {
            return Err(self.full(rows.end()));
        }
        if at.seq >= MAX_SEQ {
            return Err(Error::NumbersUsedUp { what: "sequences of batches", max: MAX_SEQ });
        }
        let mut crcs = Vec::with_capacity(batch.len());
        self.write_rows(batch, &mut crcs)?;
        for (row, crc) in (at.rows..).zip(&crcs) {
            rows.set_crc(row, *crc);
        }
        let documents = if with_documents {
            self.write_lines(batch, &effects.kept, &mut rows)?
        } else {
            lines::Written::default()
        };
        let arrays = Arrays { row_crcs: &crcs, documents: &documents.lines, kills: &effects.kills };
        let tip = self.seal(&mut log, batch.len(), kind, with_documents, arrays);
        for (piece, bytes) in log.chunks(PIECE_BYTES).enumerate() {
            self.files.idx.write(bytes, at.idx_end + (piece * PIECE_BYTES) as u64)?;
        }
        Ok(Appended { tip, rows, deletes, jsonl: documents.made, lost: documents.lost })
    }

    /// The CLOSE that was found may be in the page cache only, if its sync failed: what is built upon it is written
    /// together with it.
    fn write_marks_again(&self) -> Result<()> {
        if !self.clean || planted::is(Bug::TrustClose) {
            return Ok(());
        }
        let marks = &self.written.since_commit;
        self.files.idx.write(marks, self.written.idx_end - marks.len() as u64)
    }

    fn full(&self, rows: u64) -> Error {
        Error::Full { rows, max: MAX_ROWS }
    }

    /// Ends the batch in `log` with its COMMIT; returns the point behind it.
    fn seal(
        &self,
        log: &mut Vec<u8>,
        records: usize,
        kind: IdKind,
        with_documents: bool,
        arrays: Arrays<'_>,
    ) -> Tip {
        let at = &self.written;
        let rows = at.rows + arrays.row_crcs.len() as u64;
        let lines: u64 = arrays.documents.iter().map(|(len, _)| u64::from(*len)).sum();
        let docs_end = if with_documents { at.lines_start() + lines } else { 0 };
        let count = |n: usize| u32::try_from(n).expect("a batch has at most MAX_BATCH_RECORDS records");
        let records_len = log.len() as u64;
        let mut commit = Commit {
            kind: kind as u8,
            flags: if with_documents { FLAG_DOCUMENTS } else { 0 },
            epoch: at.epoch,
            seq: at.seq + 1,
            manifest: self.manifest,
            records: count(records),
            rows: count(arrays.row_crcs.len()),
            kills: count(arrays.kills.len()),
            reserved: 0,
            batch_len: 0,
            rows_end: self.header.row_start(rows),
            docs_end,
            durable_seq: match () {
                () if planted::is(Bug::ClaimTooMuch) => at.seq + 1,
                () if planted::is(Bug::SilentCommit) => 0,
                () => self.durable.seq,
            },
            chain: [0; 16],
        };
        let mut hasher = self.header.identity.chain_from(&at.chain);
        hasher.update(&at.since_commit);
        commit.seal(log, 0, hasher, arrays, &self.header.identity);
        Tip {
            seq: commit.seq,
            chain: commit.chain,
            since_commit: Vec::new(),
            commit_at: at.idx_end + records_len,
            idx_end: at.idx_end + log.len() as u64,
            rows,
            docs_end,
            epoch: at.epoch,
            kind: Some(kind),
        }
    }

    /// Writes the rows piece by piece; rows that lie scattered are gathered first.
    fn write_rows(&self, batch: Batch<'_>, crcs: &mut Vec<u32>) -> Result<()> {
        let dim = self.header.dim as usize;
        if let Batch::Copied { ids, source, .. } = batch {
            return copy_in_pieces(source, ids.len(), dim, |rows| self.write_piece(rows, crcs));
        }
        let piece = rows_in_piece(dim) * dim;
        let mut gathered: Vec<f32> = Vec::new();
        for rows in batch.rows() {
            if rows.len() >= piece / 4 {
                self.write_piece(&gathered, crcs)?;
                gathered.clear();
                rows.chunks(piece).try_for_each(|rows| self.write_piece(rows, crcs))?;
                continue;
            }
            gathered.extend_from_slice(rows);
            if gathered.len() + piece / 4 > piece {
                self.write_piece(&gathered, crcs)?;
                gathered.clear();
            }
        }
        self.write_piece(&gathered, crcs)
    }

    /// Checksums and writes whole rows behind those of `crcs`. Each piece is on its way to the disk while the next is
    /// prepared.
    fn write_piece(&self, rows: &[f32], crcs: &mut Vec<u32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let first = self.written.rows + crcs.len() as u64;
        for (row, vector) in (first..).zip(rows.chunks_exact(self.header.dim as usize)) {
            crcs.push(self.header.identity.row_crc(row, bytemuck::cast_slice(vector)));
        }
        let bytes: &[u8] = bytemuck::cast_slice(rows);
        let offset = self.header.row_start(first);
        self.files.dat.write(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        if offset / WRITEBACK_BYTES != end / WRITEBACK_BYTES {
            let from = (offset / WRITEBACK_BYTES) * WRITEBACK_BYTES;
            self.dir.disk().start_writeback(&self.files.dat.file, from, WRITEBACK_BYTES);
        }
        Ok(())
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        match &self.poisoned {
            Some(first) => Err(Error::Poisoned { first: first.clone() }),
            None => Ok(()),
        }
    }

    /// The memory's part of an append.
    pub(crate) fn publish(&mut self, appended: &Result<Appended>) -> Result<()> {
        let appended = match appended {
            Ok(appended) => appended,
            Err(error) => return Err(self.failed(error.clone())),
        };
        // A failed sync may have come in between: what it took back must not be built upon.
        self.check_writable()?;
        self.written = appended.tip.clone();
        if appended.jsonl.is_some() {
            self.files.jsonl.clone_from(&appended.jsonl);
        }
        self.clean = false;
        Ok(())
    }

    /// What there is to sync, if anything.
    pub(crate) fn pending(&self) -> Result<Option<Pending>> {
        self.check_writable()?;
        if self.durable.seq == self.written.seq {
            return Ok(None);
        }
        Ok(Some(Pending { tip: self.written.clone(), files: self.files.clone(), dir: self.dir.clone() }))
    }

    /// Writes, unsynced, that a sequence is durable: a reader in another process waits for this record, and recovery
    /// takes it for proof. Returns the record, if there is anything to say. Where it cannot be written nothing is lost:
    /// the next COMMIT says the same.
    pub(crate) fn note(&self, synced: &Result<u64>) -> Result<Option<Vec<u8>>> {
        let Ok(seq) = *synced else { return Ok(None) };
        if self.check_writable().is_err() || seq <= self.noted {
            return Ok(None);
        }
        let mut mark = Vec::new();
        record::push_durable(&mut mark, self.written.epoch, seq, &self.header.identity);
        self.files.idx.write(&mark, self.written.idx_end).map_err(Error::abandoned)?;
        Ok(Some(mark))
    }

    /// The memory's part of [`commit`](Self::commit).
    pub(crate) fn finish(
        &mut self,
        pending: Pending,
        synced: Result<u64>,
        noted: Option<Vec<u8>>,
    ) -> Result<()> {
        let seq = synced.map_err(|error| self.failed(error))?;
        self.check_writable()?;
        if pending.tip.seq > self.durable.seq {
            self.durable = pending.tip;
        }
        if let Some(mark) = noted {
            self.noted(seq, &mark);
        }
        Ok(())
    }

    /// Makes everything appended so far durable: the disk begins with all files, then waits for each.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let Some(pending) = self.pending()? else { return Ok(()) };
        let synced = pending.sync();
        let noted = self.note(&synced).unwrap_or_default();
        self.finish(pending, synced, noted)
    }

    fn noted(&mut self, seq: u64, mark: &[u8]) {
        self.noted = seq;
        self.passed(mark);
    }

    /// Moves the end of the log behind a mark that was written there.
    fn passed(&mut self, mark: &[u8]) {
        self.written.idx_end += mark.len() as u64;
        self.written.since_commit.extend_from_slice(mark);
    }

    /// Stops writing after an error that leaves the files in an unknown state: from now on reads show what was
    /// durable, and each write returns this error again.
    pub(crate) fn failed(&mut self, error: Error) -> Error {
        let harmless = planted::is(Bug::IgnoreFailedSync) || !error.stops_writing();
        if !harmless && self.poisoned.is_none() {
            self.poisoned = Some(Arc::new(error.clone()));
            self.written = self.durable.clone();
        }
        if planted::is(Bug::AppendAfterFailure) {
            self.written.idx_end = self.files.idx.len().unwrap_or(self.written.idx_end);
        }
        error
    }

    /// Commits, writes CLOSE and cuts the files to what counts. Does nothing if nothing was written since the last
    /// CLOSE.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.commit()?;
        if self.clean {
            // A batch that failed may have left something behind.
            return self.cut_to_written();
        }
        let rows_end = self.header.row_start(self.written.rows);
        let mut mark = Vec::new();
        let (epoch, seq) = (self.written.epoch, self.written.seq);
        record::push_close(&mut mark, epoch, seq, self.manifest, rows_end, &self.header.identity);
        let wrote = self.files.idx.write(&mark, self.written.idx_end);
        wrote.map_err(|error| self.failed(error))?;
        self.passed(&mark);
        // Made by a batch of this handle that failed.
        if self.files.jsonl.is_none() && self.tried_documents.load(Ordering::Relaxed) {
            _ = self.dir.unlink(&self.files.dat.path.with_extension("jsonl"));
        }
        self.cut_to_written()?;
        let synced = self.sync_all();
        synced.map_err(|error| self.failed(error))?;
        self.clean = true;
        Ok(())
    }

    /// Writes behind FILE what a compacted segment was made from.
    pub(crate) fn write_base(&mut self, seq: u64, inputs: &[u64]) -> Result<()> {
        let mut base = Vec::new();
        record::push_base(&mut base, seq, inputs, &self.header.identity);
        self.files.idx.write(&base, self.written.idx_end)?;
        self.passed(&base);
        Ok(())
    }

    /// Makes all of it durable and cuts the files to it: what a segment needs to be sealed.
    pub(crate) fn end_here(&mut self) -> Result<()> {
        self.commit()?;
        if self.noted < self.durable.seq && !planted::is(Bug::UnmarkedEnd) {
            // A list of dead rows must not show what a reader takes for unproven.
            if let Some(mark) = self.note(&Ok(self.durable.seq))? {
                self.noted(self.durable.seq, &mark);
            }
        }
        let ended =
            self.write_marks_again().and_then(|()| self.cut_to_written()).and_then(|()| self.sync_all());
        ended.map_err(|error| self.failed(error))
    }

    /// The same pair under a newer MANIFEST.
    pub(crate) fn set_manifest(&mut self, manifest: u64) {
        self.manifest = manifest;
        self.clean = false;
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// The end of what was appended.
    pub(crate) fn written(&self) -> &Tip {
        &self.written
    }

    /// Whether the files end where a CLOSE record says.
    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }
}

impl Pending {
    /// Syncs all files at once; returns the sequence that is durable then.
    pub(crate) fn sync(&self) -> Result<u64> {
        let skipped = [Bug::SkipDatSync, Bug::SkipIdxSync, Bug::SkipJsonlSync].map(planted::is);
        let files: Vec<_> = self
            .files
            .all()
            .into_iter()
            .zip(skipped)
            .filter(|(_, skip)| !skip)
            .map(|(named, _)| named)
            .collect();
        let synced = sync_at_once(&self.dir, &files);
        if planted::is(Bug::IgnoreFailedSync) {
            return Ok(self.tip.seq);
        }
        synced.map(|()| self.tip.seq)
    }
}
