//! The walk of an opening: tables of what the batches say, as long as each holds.

use super::{CrossSegmentDelete, Deleted, LogPosition, Recovered, lines_hold, rows_hold};
use crate::format::header::Header;
use crate::pair::files::Files;
use crate::pair::log::{Batch, LogReader, Policy, Records, Short, Step};
use crate::pair::rows::{Row, RowTable};
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use crate::types::id::{IdHasher, half};
use crate::types::recovery::RecoveryReport;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// The tables that a walk fills while it reads a batch, with their lengths before it.
struct Tables<'a> {
    rows: &'a mut RowTable,
    deletes: &'a mut Vec<Deleted>,
    before: (u64, usize),
    hasher: IdHasher,
}

impl Records for Tables<'_> {
    fn begin(&mut self) {
        self.rows.truncate(self.before.0);
        self.deletes.truncate(self.before.1);
    }

    fn put(&mut self, idx_at: u64, id: &[u8]) {
        self.rows.push(Row { idx_at: narrow(idx_at), crc: 0, hash: half(self.hasher.hash(id)) });
    }

    fn delete(&mut self, idx_at: u64, id: &[u8]) {
        let rows = self.rows.end();
        self.deletes.push(Deleted { rows, idx_at: narrow(idx_at), hash: self.hasher.hash(id) });
    }
}

/// No record that holds starts behind four bytes.
fn narrow(idx_at: u64) -> u32 {
    u32::try_from(idx_at).unwrap_or(u32::MAX)
}

/// The state of a walk along the log.
pub(super) struct Walk<'a> {
    files: &'a Files,
    /// Lengths of `.idx`, `.dat` and `.jsonl`.
    lens: [u64; 3],
    pub(super) log: LogReader<'a>,
    found: Recovered,
    hasher: IdHasher,
    /// Cross-segment deletes are kept of batches under this MANIFEST.
    cross_deletes_of: u64,
    /// Points behind the batches that are not yet proven durable; the first is proven.
    unproven: VecDeque<LogPosition>,
    /// The highest sequence proven durable.
    pub(super) proof: u64,
    short: Option<Short>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        files: &'a Files,
        header: Header,
        position: LogPosition,
        lens: [u64; 3],
        cross_deletes_of: u64,
    ) -> Walk<'a> {
        let [idx_len, dat_len, jsonl_len] = lens;
        let policy = Policy::Stop { lens: [dat_len, jsonl_len] };
        let found = Recovered {
            header,
            position: position.clone(),
            proven: position.clone(),
            rows: RowTable::from_row(position.rows),
            deletes: Vec::new(),
            cross_deletes: Vec::new(),
            manifest: 0,
            closed_under: None,
            report: RecoveryReport::default(),
        };
        Walk {
            files,
            lens,
            unproven: [position.clone()].into(),
            proof: position.seq,
            log: LogReader::new(&files.idx, idx_len, header, position, policy),
            found,
            hasher: IdHasher::new(&header.identity.uuid),
            cross_deletes_of,
            short: None,
        }
    }

    /// Walks to the end, or to where the log stops to hold: that offset is returned. `go_on` hears how far it came.
    pub(super) fn run(&mut self, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Option<u64>> {
        let mut stopped = false;
        while self.log.has_more() && !stopped {
            interrupt::check()?;
            if go_on(self.log.position().idx_end).is_break() {
                return Err(Error::Cancelled);
            }
            let Recovered { rows, deletes, .. } = &mut self.found;
            let before = (rows.end(), deletes.len());
            match self.log.read_next(&mut Tables { rows, deletes, before, hasher: self.hasher })? {
                Step::Batch(batch) => self.accept(&batch),
                Step::Mark { proof, close, .. } => self.note(proof, close.unwrap_or(0), close),
                Step::Stop(short) => (self.short, stopped) = (short, true),
            }
        }
        self.found.position = self.log.position().clone();
        Ok(stopped.then_some(self.log.position().idx_end))
    }

    /// Keeps what the COMMIT of a batch says of its rows, and of rows in other segments.
    fn accept(&mut self, batch: &Batch) {
        let (arrays, Recovered { rows, cross_deletes, .. }) = (self.log.arrays(batch), &mut self.found);
        let numbers = || u64::from(batch.first_row)..;
        for (row, crc) in numbers().zip(arrays.row_crcs()) {
            rows.set_crc(row, crc);
        }
        for (row, (len, crc)) in numbers().zip(arrays.documents()) {
            rows.push_line(row, batch.lines_start, len, crc);
        }
        if batch.commit.manifest == self.cross_deletes_of {
            let seq = batch.commit.seq;
            cross_deletes.extend(arrays.cross_deletes().map(|(segment, row)| CrossSegmentDelete {
                seq,
                segment,
                row,
            }));
        }
        self.note(batch.commit.durable_seq, batch.commit.manifest, None);
        self.advance_proven(self.proof);
        self.unproven.push_back(self.log.position().clone());
    }

    /// Notes what a control record proves, the MANIFEST it names, and whether the log may end in this CLOSE.
    fn note(&mut self, proof: u64, manifest: u64, close: Option<u64>) {
        self.proof = self.proof.max(proof);
        self.found.manifest = self.found.manifest.max(manifest);
        self.found.closed_under = close;
    }

    /// Keeps of the unproven points the last one that `proof` covers, and those behind it.
    pub(super) fn advance_proven(&mut self, proof: u64) {
        while self.unproven.get(1).is_some_and(|position| position.seq <= proof) {
            self.unproven.pop_front();
        }
    }

    /// Checks the rows of each batch after the proven ones; the first bad row ends what counts.
    pub(super) fn check_unproven_rows(&mut self) -> Result<()> {
        if planted::is(Bug::IgnoreRowChecksums) {
            return Ok(());
        }
        let Recovered { header, position, rows, closed_under, .. } = &mut self.found;
        for at in 1..self.unproven.len() {
            let range = self.unproven[at - 1].rows..self.unproven[at].rows;
            let crc = |row: u64| rows.get(row).map(|row| row.crc);
            let line = |row: u64| rows.line(row);
            let holds = rows_hold(&self.files.dat, header, crc, range.clone())?
                && lines_hold(self.files, header, line, range)?;
            if !holds {
                // A later epoch than any seen: what is dropped may have had the last one.
                let epoch = position.epoch;
                self.unproven.truncate(at);
                *position = LogPosition { epoch, ..self.unproven[at - 1].clone() };
                if planted::is(Bug::ForgetEpoch) {
                    *position = self.unproven[at - 1].clone();
                }
                *closed_under = None;
                break;
            }
        }
        Ok(())
    }

    /// Why what comes at `at` does not hold, where it was durable.
    pub(super) fn corruption_at(&self, at: u64) -> Error {
        let Files { idx, dat, jsonl } = self.files;
        let [_, dat_len, jsonl_len] = self.lens;
        match self.short {
            Some(Short::Dat) => {
                Error::corrupt(&dat.path, dat_len, "rows that were durable are missing at the end")
            }
            Some(Short::Jsonl) => {
                let path =
                    jsonl.as_ref().map_or_else(|| idx.path.with_extension("jsonl"), |n| n.path.clone());
                Error::corrupt(&path, jsonl_len, "documents that were durable are missing at the end")
            }
            None => Error::corrupt(&idx.path, at, NOT_WHOLE),
        }
    }

    pub(super) fn finish(self) -> Recovered {
        let mut found = self.found;
        let ends =
            [found.position.idx_end, found.header.row_start(found.position.rows), found.position.docs_end];
        let [dropped_idx_bytes, dropped_dat_bytes, dropped_jsonl_bytes] =
            std::array::from_fn(|file| self.lens[file].saturating_sub(ends[file]));
        found.report = RecoveryReport {
            clean: found.closed_under.is_some() && ends == self.lens,
            seq: found.position.seq,
            rows: found.position.rows,
            unproven_batches: (self.unproven.len() - 1) as u64,
            dropped_idx_bytes,
            dropped_dat_bytes,
            dropped_jsonl_bytes,
        };
        found.proven = self.unproven[0].clone();
        found.closed_under = found.closed_under.filter(|_| found.report.clean);
        found.forget_after_tip();
        found
    }
}

/// What is wrong with the log where opening stops.
pub(crate) const NOT_WHOLE: &str = "a batch that was durable does not hold any more";
