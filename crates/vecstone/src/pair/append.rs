//! The write path of a pair, on one screen: rows to `.dat`, documents to `.jsonl`, then records and COMMIT to `.idx`.

use super::VectorStorage;
use super::lines::{self, Kept};
use crate::buffer::batch::{Batch, Op, copy_in_pieces, lines_of, rows_in_piece, with_lines};
use crate::format::MAX_SEQ;
use crate::format::record::{self, Arrays, Commit, FLAG_DOCUMENTS};
use crate::pair::files::{IdxMap, StoreFile};
use crate::pair::recover::{Deleted, LogPosition};
use crate::pair::rows::{Row, RowTable};
use crate::sys::disk::{Mapping, PIECE_BYTES};
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_ROWS;
use crate::types::document::Document;
use crate::types::error::{Error, Result};
use crate::types::id::{IdKind, half};
use std::sync::Arc;

/// What a batch does to rows that are there, and takes from them; found out in the order of writing.
#[derive(Debug, Default)]
pub(crate) struct Effects<'a> {
    /// Rows of sealed segments that it makes dead, for its COMMIT.
    pub(crate) cross_deletes: Vec<(u32, u32)>,
    /// The documents that its puts keep, in the order of its changes.
    pub(crate) kept: Vec<(usize, Kept<'a>)>,
}

/// What a batch added, for the tables that find rows.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) position: LogPosition,
    pub(crate) rows: RowTable,
    pub(crate) deletes: Vec<Deleted>,
    /// Both files, mapped up to the end of the batch.
    pub(crate) dat_map: Arc<Mapping>,
    pub(crate) idx_map: IdxMap,
    /// Where documents that were to be kept are damaged: they have none now.
    pub(crate) lost: Vec<Error>,
    /// The documents' file, if this batch made it.
    jsonl: Option<StoreFile>,
}

/// How much of a long batch is written before the disk is asked to begin with it: large enough that the file system
/// gives it room in one piece, small enough that the sync at the end has little left to do.
const WRITEBACK_BYTES: u64 = 16 << 20;

impl VectorStorage {
    /// Appends one batch: all of it counts, or nothing. Visible at once; durable after [`commit`](Self::commit). Returns
    /// the row number of the first put. O(bytes of the batch). An empty batch does nothing.
    ///
    /// Each vector has [`dim`](Self::dim) finite components. A put with [`Document::Keep`] has no document here: a pair
    /// does not look for the row that it replaces.
    ///
    /// # Errors
    ///
    /// Bad input ([`Error::NonFinite`], [`Error::DimensionMismatch`], [`Error::InvalidId`], [`Error::IdKindMismatch`],
    /// [`Error::BatchTooLarge`], [`Error::InvalidDocument`], [`Error::TooManyRows`]) and [`Error::NoSpace`] leave the
    /// pair as it was and usable. After [`Error::WriteFailed`] writing stops, and reads show what is durable:
    /// [`Error::Poisoned`] from then on. [`Error::ReadOnly`].
    pub fn append(&mut self, ops: &[Op<'_>]) -> Result<u64> {
        self.check_writable()?;
        let (first, batch) = (self.rows(), Batch::Ops(ops));
        let (false, Some(kind)) = (ops.is_empty(), self.kind().or(batch.kind())) else { return Ok(first) };
        batch.check(self.dim(), Some(kind))?;
        let lines = lines_of(ops)?;
        let ops = with_lines(ops, &lines);
        self.append_batch(Batch::Ops(&ops), kind, &Effects::default())?;
        Ok(first)
    }

    /// Appends a batch that was checked, with its effects on rows that are there. If it fails nothing moved, and the next
    /// batch goes to the same place, unless the error stops writing.
    pub(crate) fn append_batch(
        &mut self,
        batch: Batch<'_>,
        kind: IdKind,
        effects: &Effects<'_>,
    ) -> Result<Appended> {
        self.check_writable()?;
        let written = self.write_batch(batch, kind, effects);
        let mut appended = written.map_err(|error| self.failed(error))?;
        self.written = appended.position.clone();
        self.files.jsonl = appended.jsonl.take().or(self.files.jsonl.take());
        self.clean = false;
        if let Some(table) = &mut self.table {
            table.append(&appended.rows);
        }
        Ok(appended)
    }

    /// The disk's part of that: moves no end.
    fn write_batch(&mut self, batch: Batch<'_>, kind: IdKind, effects: &Effects<'_>) -> Result<Appended> {
        self.write_marks_again()?;
        let at = &self.written;
        let (mut rows, mut deletes) = (RowTable::from_row(at.rows), Vec::new());
        let (mut log, mut with_documents) = (Vec::new(), at.docs_end > 0 || !effects.kept.is_empty());
        for change in batch.changes(self.hasher) {
            let idx_at = at.idx_end + log.len() as u64;
            let idx_at = u32::try_from(idx_at).map_err(|_| full(rows.end()))?;
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
            return Err(full(rows.end()));
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
        let arrays =
            Arrays { row_crcs: &crcs, documents: &documents.lines, cross_deletes: &effects.cross_deletes };
        let position = self.push_commit(&mut log, batch.len(), kind, with_documents, arrays);
        for (piece, bytes) in log.chunks(PIECE_BYTES).enumerate() {
            self.files.idx.write(bytes, self.written.idx_end + (piece * PIECE_BYTES) as u64)?;
        }
        let dat_map = map_to(&self.files.dat, &mut self.dat_map, self.header.row_start(position.rows))?;
        let idx_map = IdxMap {
            map: map_to(&self.files.idx, &mut self.idx_map, position.idx_end)?,
            end: position.idx_end,
        };
        Ok(Appended {
            position,
            rows,
            deletes,
            dat_map,
            idx_map,
            lost: documents.lost,
            jsonl: documents.made,
        })
    }

    /// Ends the batch in `log` with its COMMIT; returns the point behind it.
    fn push_commit(
        &self,
        log: &mut Vec<u8>,
        records: usize,
        kind: IdKind,
        with_documents: bool,
        arrays: Arrays<'_>,
    ) -> LogPosition {
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
            cross_deletes: count(arrays.cross_deletes.len()),
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
        LogPosition {
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
        interrupt::check()?;
        let first = self.written.rows + crcs.len() as u64;
        let bytes = self.header.element.encode(rows);
        let rows = rows.len() / self.header.dim as usize;
        for (row, bytes) in (first..).zip(bytes.chunks_exact(bytes.len() / rows)) {
            crcs.push(self.header.identity.row_crc(row, bytes));
        }
        let offset = self.header.row_start(first);
        self.files.dat.write(&bytes, offset)?;
        let end = offset + bytes.len() as u64;
        if offset / WRITEBACK_BYTES != end / WRITEBACK_BYTES {
            let from = (offset / WRITEBACK_BYTES) * WRITEBACK_BYTES;
            self.dir.disk().start_writeback(&self.files.dat.file, from, WRITEBACK_BYTES);
        }
        Ok(())
    }
}

fn full(rows: u64) -> Error {
    Error::TooManyRows { rows, max: MAX_ROWS }
}

/// A mapping that reaches the end of a batch that was just written: the one that is there, or a new one.
fn map_to(named: &StoreFile, known: &mut Option<Arc<Mapping>>, len: u64) -> Result<Arc<Mapping>> {
    match known {
        Some(map) if map.len() >= len => Ok(map.clone()),
        _ => Ok(known.insert(Arc::new(named.map_written(len)?)).clone()),
    }
}
