//! The walk along a log: batch after batch, as long as each holds.

use super::{Deleted, Kill, Recovered, RecoveryReport, Tip, lines_hold, rows_hold};
use crate::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_ROWS};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::format::header::Header;
use crate::format::record::{
    self, Commit, CommitArrays, Control, FLAG_DOCUMENTS, MAX_BATCH_LOG, Next, Record,
};
use crate::format::{Chain, MAX_SEQ, chain_of};
use crate::id::{IdHasher, IdKind, half};
use crate::planted::{self, Bug};
use crate::rows::{Row, RowTable};
use crate::window::{READ_AHEAD, Window};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// The highest sequence that a control record from `at` on proves durable, 0 if none. Linear in the rest.
pub(super) fn strongest_proof(log: &mut Window<'_>, mut at: u64, header: &Header) -> Result<u64> {
    let mut strongest = 0;
    let len = log.len;
    while at < len {
        let bytes = log.at_least(at, READ_AHEAD)?;
        if !is_zero(bytes) {
            strongest = strongest.max(record::strongest_proof(bytes, &header.identity).unwrap_or(0));
        }
        if at + bytes.len() as u64 >= len {
            break;
        }
        at += (bytes.len() - record::CONTROL_OVERLAP) as u64;
    }
    Ok(strongest)
}

/// Holes of a file are passed at the speed of memory.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}

/// What stands at a point of the log.
enum Step {
    /// A whole batch and the point behind it.
    Batch(Tip, Commit),
    /// A DURABLE, CLOSE or BASE record of this many bytes; a CLOSE names its MANIFEST.
    Mark {
        len: usize,
        proof: u64,
        epoch: u32,
        close: Option<u64>,
    },
    Need(usize),
    /// Nothing that holds; perhaps only because a file is too short.
    Stop(Option<Short>),
    /// It holds, but this release does not know what it means.
    Unknown(&'static str, u64, u64),
}

const STOP: Step = Step::Stop(None);

/// A file that ends before a batch does.
#[derive(Debug, Clone, Copy)]
enum Short {
    Dat,
    Jsonl,
}

/// The state of a walk along the log.
pub(super) struct Walk {
    header: Header,
    hasher: IdHasher,
    /// Lengths of `.dat` and `.jsonl`.
    lens: [u64; 2],
    pub(super) tip: Tip,
    /// Points behind the batches that are not yet proven durable; the first is proven.
    unproven: VecDeque<Tip>,
    rows: RowTable,
    deletes: Vec<Deleted>,
    kills: Vec<Kill>,
    /// Kills are kept of batches under this MANIFEST.
    kills_of: u64,
    /// The highest sequence proven durable.
    pub(super) proof: u64,
    manifest: u64,
    closed_under: Option<u64>,
    short: Option<Short>,
}

impl Walk {
    pub(super) fn new(header: Header, tip: Tip, lens: [u64; 2], kills_of: u64) -> Walk {
        Walk {
            header,
            hasher: IdHasher::new(&header.identity.uuid),
            lens,
            unproven: [tip.clone()].into(),
            proof: tip.seq,
            rows: RowTable::from_row(tip.rows),
            tip,
            deletes: Vec::new(),
            kills: Vec::new(),
            kills_of,
            manifest: 0,
            closed_under: None,
            short: None,
        }
    }

    /// Walks to the end, or to where the log stops to hold: that offset is returned. `go_on` hears how far it came.
    pub(super) fn run(
        &mut self,
        log: &mut Window<'_>,
        go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<u64>> {
        let mut need = record::FRAME_BYTES;
        let len = log.len;
        while self.tip.idx_end < len {
            if go_on(self.tip.idx_end).is_break() {
                return Err(Error::Cancelled);
            }
            let bytes = log.at_least(self.tip.idx_end, need)?;
            let all = self.tip.idx_end + bytes.len() as u64 >= len;
            match self.step(bytes) {
                Step::Batch(tip, commit) => self.accept(tip, &commit),
                Step::Mark { len, proof, epoch, close } => {
                    self.tip.since_commit.extend_from_slice(&bytes[..len]);
                    self.tip.idx_end += len as u64;
                    self.tip.epoch = self.tip.epoch.max(epoch);
                    self.proof = self.proof.max(proof);
                    self.closed_under = close;
                    self.manifest = self.manifest.max(close.unwrap_or(0));
                }
                Step::Need(more) if !all => {
                    need = more;
                    continue;
                }
                Step::Need(_) => return Ok(Some(self.tip.idx_end)),
                Step::Stop(short) => {
                    self.short = short;
                    return Ok(Some(self.tip.idx_end));
                }
                Step::Unknown(what, found, supported) => {
                    let path = log.file.path.clone();
                    return Err(Error::Unsupported { path, what, found, supported });
                }
            }
            need = record::FRAME_BYTES;
        }
        Ok(None)
    }

    fn accept(&mut self, tip: Tip, commit: &Commit) {
        self.proof = self.proof.max(commit.durable_seq);
        self.manifest = self.manifest.max(commit.manifest);
        self.closed_under = None;
        self.tip = tip;
        self.settle(self.proof);
        self.unproven.push_back(self.tip.clone());
    }

    /// Keeps of the unproven points the last one that `proof` covers, and those behind it.
    pub(super) fn settle(&mut self, proof: u64) {
        while self.unproven.get(1).is_some_and(|tip| tip.seq <= proof) {
            self.unproven.pop_front();
        }
    }

    /// Checks the rows of each batch after the proven ones; the first bad row ends what counts.
    pub(super) fn check_unproven_rows(&mut self, files: &Files) -> Result<()> {
        if planted::is(Bug::IgnoreRowChecksums) {
            return Ok(());
        }
        for at in 1..self.unproven.len() {
            let range = self.unproven[at - 1].rows..self.unproven[at].rows;
            let crc = |row: u64| self.rows.get(row).map(|row| row.crc);
            let line = |row: u64| self.rows.line(row);
            let holds = rows_hold(&files.dat, &self.header, crc, range.clone())?
                && lines_hold(files, &self.header, line, range)?;
            if !holds {
                // A later epoch than any seen: what is dropped may have had the last one.
                let epoch = self.tip.epoch;
                self.unproven.truncate(at);
                self.tip = Tip { epoch, ..self.unproven[at - 1].clone() };
                if planted::is(Bug::ForgetEpoch) {
                    self.tip = self.unproven[at - 1].clone();
                }
                self.closed_under = None;
                break;
            }
        }
        Ok(())
    }

    pub(super) fn blame(&self, files: &Files, at: u64) -> Error {
        match (self.short, &files.jsonl) {
            (Some(Short::Dat), _) => {
                Error::corrupt(&files.dat.path, self.lens[0], "rows that were durable are missing at the end")
            }
            (Some(Short::Jsonl), jsonl) => {
                let path =
                    jsonl.as_ref().map_or_else(|| files.idx.path.with_extension("jsonl"), |n| n.path.clone());
                Error::corrupt(&path, self.lens[1], "documents that were durable are missing at the end")
            }
            (None, _) => {
                Error::corrupt(&files.idx.path, at, "a batch that was durable does not hold any more")
            }
        }
    }

    pub(super) fn finish(self, idx_len: u64) -> Recovered {
        let ends = [self.header.row_start(self.tip.rows), self.tip.docs_end];
        let whole = self.tip.idx_end == idx_len && ends == self.lens;
        let report = RecoveryReport {
            clean: self.closed_under.is_some() && whole,
            seq: self.tip.seq,
            rows: self.tip.rows,
            unproven_batches: (self.unproven.len() - 1) as u64,
            dropped_idx_bytes: idx_len - self.tip.idx_end,
            dropped_dat_bytes: self.lens[0].saturating_sub(ends[0]),
            dropped_jsonl_bytes: self.lens[1].saturating_sub(ends[1]),
        };
        let mut found = Recovered {
            header: self.header,
            proven: self.unproven[0].clone(),
            tip: self.tip,
            rows: self.rows,
            deletes: self.deletes,
            kills: self.kills,
            manifest: self.manifest,
            closed_under: self.closed_under.filter(|_| report.clean),
            report,
        };
        found.forget_after_tip();
        found
    }

    /// Reads one batch or mark at the tip. Keeps what the batch says of rows; takes it back if it does not hold.
    fn step(&mut self, bytes: &[u8]) -> Step {
        let (deletes, kills) = (self.deletes.len(), self.kills.len());
        let found = self.read_step(bytes);
        if !matches!(found, Step::Batch(..)) {
            self.rows.truncate(self.tip.rows);
            self.deletes.truncate(deletes);
            self.kills.truncate(kills);
        }
        found
    }

    fn read_step(&mut self, bytes: &[u8]) -> Step {
        let (mut at, mut records, mut rows) = (0, 0, self.tip.rows);
        let mut kinds = Kinds::of(self.tip.kind);
        loop {
            let (record, len) = match record::next(&bytes[at..]) {
                Next::Need(need) => return Step::Need(at.saturating_add(need)),
                Next::Bad => return STOP,
                Next::Record(record, len) => (record, len),
            };
            let Ok(idx_at) = u32::try_from(self.tip.idx_end + at as u64) else { return STOP };
            if at as u64 > MAX_BATCH_LOG {
                return STOP;
            }
            match record {
                Record::Control { payload } => {
                    return match Control::decode(payload, &self.header.identity) {
                        Some(Control::Commit(commit, arrays)) => {
                            let puts = rows - self.tip.rows;
                            let batch = Batch { bytes: &bytes[..at + len], commit_at: at, records, puts };
                            self.check(&batch, commit, arrays, kinds)
                        }
                        Some(Control::Unknown(tag)) => {
                            Step::Unknown("control record", tag.into(), record::NEWEST.into())
                        }
                        Some(mark) if records == 0 => self.mark_step(mark, len),
                        _ => STOP,
                    };
                }
                _ if records == MAX_BATCH_RECORDS => return STOP,
                Record::Delete { id } => {
                    kinds.narrow(id);
                    self.deletes.push(Deleted { rows, idx_at, hash: self.hasher.hash(id) });
                }
                Record::Put { id, offset } if offset == self.header.row_start(rows) => {
                    kinds.narrow(id);
                    let hash = half(self.hasher.hash(id));
                    self.rows.push(Row { idx_at, crc: 0, hash });
                    rows += 1;
                }
                Record::Put { .. } => return STOP,
            }
            records += 1;
            at += len;
        }
    }

    fn mark_step(&self, mark: Control<'_>, len: usize) -> Step {
        let proof = mark.proves_durable();
        if proof > self.tip.seq {
            return STOP;
        }
        match mark {
            Control::Durable { epoch, .. } => Step::Mark { len, proof, epoch, close: None },
            Control::Close { epoch, seq, manifest, rows_end }
                if seq == self.tip.seq && rows_end == self.header.row_start(self.tip.rows) =>
            {
                Step::Mark { len, proof, epoch, close: Some(manifest) }
            }
            // Only right behind FILE.
            Control::Base(_) if self.tip.idx_end == record::FILE_BYTES as u64 => {
                Step::Mark { len, proof, epoch: 0, close: None }
            }
            _ => STOP,
        }
    }

    /// Compares all that COMMIT says with what is there.
    fn check(&mut self, batch: &Batch<'_>, commit: Commit, arrays: CommitArrays<'_>, kinds: Kinds) -> Step {
        let (tip, header) = (&self.tip, &self.header);
        let rows_after = tip.rows + batch.puts;
        let rows_end = header.row_start(rows_after);
        let fits = commit.records as usize == batch.records
            && u64::from(commit.rows) == batch.puts
            && commit.batch_len == batch.commit_at as u64
            && Some(commit.seq) == tip.seq.checked_add(1)
            && commit.seq <= MAX_SEQ
            && (commit.durable_seq <= tip.seq || planted::is(Bug::ClaimTooMuch))
            && commit.rows_end == rows_end
            && batch.puts * header.stride() <= MAX_BATCH_BYTES
            && commit.kills as usize <= MAX_BATCH_RECORDS
            && rows_after <= MAX_ROWS;
        if !fits {
            return STOP;
        }
        let flags = u64::from(commit.flags & !FLAG_DOCUMENTS) | u64::from(commit.reserved);
        if flags != 0 {
            return Step::Unknown("COMMIT flag", flags, FLAG_DOCUMENTS.into());
        }
        let Some(kind) = IdKind::from_byte(commit.kind) else {
            return Step::Unknown("id kind", commit.kind.into(), IdKind::Uuid as u64);
        };
        if !kinds.has(kind) || (batch.chain(tip, header) != commit.chain && !planted::is(Bug::IgnoreChain)) {
            return STOP;
        }
        let documents = commit.flags & FLAG_DOCUMENTS != 0;
        if arrays.has_endless_line() {
            return STOP;
        }
        let lines_start = tip.lines_start();
        let lines: u64 = arrays.documents().map(|(len, _)| u64::from(len)).sum();
        let docs_end = if documents { lines_start + lines } else { 0 };
        if commit.docs_end != docs_end || (!documents && tip.docs_end > 0) {
            return STOP;
        }
        if rows_end > self.lens[0] || docs_end > self.lens[1] {
            return Step::Stop(Some(if rows_end > self.lens[0] { Short::Dat } else { Short::Jsonl }));
        }
        let tip = Tip {
            seq: commit.seq,
            chain: commit.chain,
            since_commit: Vec::new(),
            commit_at: tip.idx_end + batch.commit_at as u64,
            idx_end: tip.idx_end + batch.bytes.len() as u64,
            rows: rows_after,
            docs_end,
            epoch: tip.epoch.max(commit.epoch),
            kind: Some(kind),
        };
        self.keep(&commit, arrays, lines_start);
        Step::Batch(tip, commit)
    }

    /// Keeps what the arrays of a COMMIT say.
    fn keep(&mut self, commit: &Commit, arrays: CommitArrays<'_>, lines_start: u64) {
        for (row, crc) in (self.tip.rows..).zip(arrays.row_crcs()) {
            self.rows.set_crc(row, crc);
        }
        for (row, (len, crc)) in (self.tip.rows..).zip(arrays.documents()) {
            self.rows.push_line(row, lines_start, len, crc);
        }
        if commit.manifest == self.kills_of {
            let kills = arrays.kills().map(|(segment, row)| Kill { seq: commit.seq, segment, row });
            self.kills.extend(kills);
        }
    }
}

/// The kinds that all ids of a batch can be of.
#[derive(Debug, Clone, Copy)]
struct Kinds(u8);

impl Kinds {
    /// All kinds, or the one that is known.
    fn of(kind: Option<IdKind>) -> Kinds {
        Kinds(kind.map_or(0b1110, |kind| 1 << kind as u8))
    }

    fn has(self, kind: IdKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Takes out the kinds that this id cannot be of.
    fn narrow(&mut self, id: &[u8]) {
        if self.has(IdKind::String) && std::str::from_utf8(id).is_err() {
            self.0 &= !(1 << IdKind::String as u8);
        }
        for kind in [IdKind::U64, IdKind::Uuid] {
            if kind.width() != Some(id.len()) {
                self.0 &= !(1 << kind as u8);
            }
        }
    }
}

/// A batch as it lies in the log: its records and the COMMIT record behind them.
struct Batch<'a> {
    bytes: &'a [u8],
    commit_at: usize,
    records: usize,
    puts: u64,
}

impl Batch<'_> {
    fn chain(&self, tip: &Tip, header: &Header) -> Chain {
        let mut hasher = header.identity.chain_from(&tip.chain);
        hasher.update(&tip.since_commit);
        Commit::hash_batch(&mut hasher, self.bytes, self.commit_at);
        chain_of(&hasher)
    }
}
