//! What can be read of a damaged segment: its log, past what does not hold.
//!
//! The reader of [`log`](crate::pair::log) says which batches hold. The COMMIT before a batch says where its chain begins,
//! so damage hurts only the batches it lies in. Of those a row is taken if `.ids` has the hash of its id.

pub(crate) mod segment;

use crate::format::Chain;
use crate::format::record::{self, Control, Record};
use crate::pair::log::{Expected, LogEvent, LogPosition, LogReader, Policy, Step};
use crate::pair::rows::RowEntry;
use crate::pair::window::Window;
use crate::types::error::Result;
use crate::types::id::{IdHasher, half};
use segment::SalvagedSegment;
use std::ops::Range;

type Emit<'a> = &'a mut dyn FnMut(LogEvent<'_>) -> Result<()>;

/// How often reading begins again within one damaged place: bounds the work that prepared bytes can cause.
const RESTARTS: usize = 64;

/// Reads the whole log of a part. Returns the end of the last batch that it knows of; `None` if there is no log.
pub(crate) fn scan(part: &SalvagedSegment, emit: Emit<'_>) -> Result<Option<LogPosition>> {
    let Some(idx) = &part.idx else { return Ok(None) };
    let starts: Vec<LogPosition> = part.starts.iter().map(LogPosition::start).collect();
    let mut log = LogReader::new(idx, part.idx_len, part.header, starts[0].clone(), Policy::Resynchronise);
    log.next.guesses = (starts.len() > 1).then_some(starts);
    let mut salvage = Salvage { part, log, emit };
    while salvage.log.has_more() && (salvage.step()? || salvage.pass_damage()?) {}
    let position = salvage.log.position().clone();
    if position.seq < part.last_seq {
        let rows = position.rows..part.rows_in_dat().max(position.rows);
        salvage.emit_damaged(position.idx_end..position.idx_end, rows)?;
    } else if part.rows_in_dat() > position.rows {
        (salvage.emit)(LogEvent::Unlogged(position.rows..part.rows_in_dat()))?;
    }
    if part.cut > 0 {
        salvage.emit_torn(part.idx_len..part.idx_len + part.cut)?;
    }
    salvage.log.window.unreadable().try_for_each(|bytes| (salvage.emit)(LogEvent::Unreadable(bytes)))?;
    Ok(Some(position))
}

struct Salvage<'a, 'e> {
    part: &'a SalvagedSegment,
    log: LogReader<'a>,
    emit: &'e mut dyn FnMut(LogEvent<'_>) -> Result<()>,
}

impl Salvage<'_, '_> {
    /// Reads the mark or the batch at the end of what was read; false if it does not hold.
    fn step(&mut self) -> Result<bool> {
        match self.log.read_next(&mut ())? {
            Step::Batch(batch) => self.log.tell(&batch, self.emit)?,
            Step::Mark { idx_at, .. } => {
                if let Some(Control::Base(base)) = self.log.control_at(idx_at)? {
                    (self.emit)(LogEvent::Base(base.inputs().collect()))?;
                }
            }
            Step::Stop(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Moves from a batch that does not hold to the next that may; false if none follows.
    fn pass_damage(&mut self) -> Result<bool> {
        let LogPosition { idx_end: from, rows, .. } = *self.log.position();
        let Some((commit_at, commit)) = self.log.find_commit()? else {
            self.pass_tail()?;
            return Ok(false);
        };
        let first = commit.first_row(&self.part.header).unwrap_or(rows);
        if let Some(start) = commit_at.checked_sub(commit.batch_len).filter(|&start| start > from) {
            // What is damaged is before this batch.
            let guesses = self.emit_damaged(from..start, rows..first)?;
            let Expected { position, guesses: known, .. } = &mut self.log.next;
            (position.idx_end, position.rows, *known) = (start, first, Some(guesses));
            return Ok(true);
        }
        self.emit_damaged(from..commit_at, rows..first + u64::from(commit.rows))?;
        (self.emit)(LogEvent::Commit(commit))?;
        if let Some(Control::Commit(_, arrays)) = self.log.control_at(commit_at)? {
            arrays
                .cross_deletes()
                .try_for_each(|(segment, row)| (self.emit)(LogEvent::CrossSegmentDelete { segment, row }))?;
        }
        self.log.next.go_behind(&commit, commit_at);
        self.log.next.position.idx_end = self.log.position().idx_end.min(self.part.idx_len);
        Ok(true)
    }

    /// The end of a log without a further COMMIT: damaged if a later batch was durable, else a write cut short.
    fn pass_tail(&mut self) -> Result<()> {
        let LogPosition { idx_end: from, rows, seq, .. } = *self.log.position();
        let proof = self.log.strongest_proof(from)?.max(self.part.last_seq);
        if proof <= seq {
            return self.emit_torn(from..self.part.idx_len);
        }
        let end = self.part.rows_in_dat().max(rows);
        self.emit_damaged(from..self.part.idx_len, rows..end)?;
        let position = &mut self.log.next.position;
        (position.seq, position.rows, position.idx_end) = (proof, end, self.part.idx_len);
        Ok(())
    }

    /// Rows are written before the records that name them, and all is synced together: a put whose row `.dat` does not have
    /// was never durable.
    fn emit_torn(&mut self, bytes: Range<u64>) -> Result<()> {
        let (mut at, mut written) = (bytes.start, true);
        if let Some(idx) = &self.part.idx {
            let mut tail = Window::past_errors(idx, bytes.end);
            while let Some((record, len)) = tail.record(at, bytes.end)? {
                match record {
                    Record::Put { offset, .. } if offset >= self.part.dat_len => written = false,
                    Record::Control { .. } => break,
                    _ => {}
                }
                at += len as u64;
            }
        }
        (self.emit)(LogEvent::Torn { at: bytes.start, bytes: bytes.end - bytes.start, written })
    }

    /// Tells what can be known of damaged bytes that told of these rows. Returns the points that the next batch may go on
    /// from, if a COMMIT stands there whose frame is whole: the chain of the next batch says whether it is intact.
    fn emit_damaged(&mut self, bytes: Range<u64>, rows: Range<u64>) -> Result<Vec<LogPosition>> {
        (self.emit)(LogEvent::Damage { bytes: bytes.clone(), rows: rows.clone() })?;
        let (part, mut at, mut next) = (self.part, bytes.start, rows.start);
        let (mut restarts, mut guesses) = (0, Vec::new());
        while at < bytes.end {
            let fits = |record: &Record<'_>| match record {
                Record::Put { offset, .. } => *offset == part.header.row_start(next) && rows.contains(&next),
                _ => true,
            };
            let found = self.log.window.record(at, bytes.end)?;
            let Some((record, len)) = found.filter(|(record, _)| fits(record)) else {
                guesses.clear();
                restarts += 1;
                let found =
                    if restarts > RESTARTS { None } else { self.restart(at..bytes.end, next, &rows)? };
                let Some((behind, row)) = found else { break };
                self.emit_hidden(at..behind, next..row)?;
                (at, next) = (behind, row);
                continue;
            };
            match record {
                Record::Put { id, .. } => {
                    (self.emit)(confirmed(part, next, id, at).unwrap_or(LogEvent::Unsure { id, at }))?;
                    next += 1;
                }
                Record::Delete { id } => (self.emit)(LogEvent::Delete { id, at, sure: false })?,
                Record::Control { payload } => match record::chain_said(payload) {
                    Some(chain) => guesses = self.guesses(chain, at, len, restarts == 0)?,
                    // DURABLE or CLOSE: all others are longer.
                    None => {
                        let mark = &self.log.window.at_least(at, len)?[..len];
                        guesses
                            .iter_mut()
                            .for_each(|guess: &mut LogPosition| guess.since_commit.extend(mark));
                    }
                },
            }
            at += len as u64;
        }
        self.emit_hidden(at..bytes.end, next..rows.end)?;
        Ok(guesses)
    }

    /// The points behind a damaged COMMIT: by the chain that it says, and, if nothing before it is damaged, by the
    /// chain that it has to have.
    fn guesses(
        &mut self,
        said: Chain,
        commit_at: u64,
        len: usize,
        computed: bool,
    ) -> Result<Vec<LogPosition>> {
        let mut chains = vec![said];
        let start = self.log.position().idx_end;
        if let Some(place) = commit_at.checked_sub(start).filter(|_| computed)
            && let Ok(place) = usize::try_from(place)
            && let Some(batch) = self.log.window.at_least(start, place + len)?.get(..place + len)
        {
            chains.extend(self.log.next.chains(batch, place));
        }
        let position = |chain| LogPosition { chain, since_commit: Vec::new(), ..self.log.position().clone() };
        Ok(chains.into_iter().map(position).collect())
    }

    /// Where reading goes on behind a record that does not hold: the offsets of the next rows are known, and each ends a
    /// record. Also the row that follows.
    fn restart(&mut self, bytes: Range<u64>, next: u64, rows: &Range<u64>) -> Result<Option<(u64, u64)>> {
        for row in (next..=next + 1).filter(|row| rows.contains(row)) {
            let end = record::end_of_put(self.part.header.row_start(row));
            if let Some(at) = self.log.window.find(end, bytes.clone())? {
                return Ok(Some((at + end.len() as u64, row + 1)));
            }
        }
        Ok(None)
    }

    /// Tells of rows whose records cannot be reached one after the other: `.ids` says where they are.
    fn emit_hidden(&mut self, bytes: Range<u64>, rows: Range<u64>) -> Result<()> {
        for row in rows.start..rows.end.min(self.part.rows_in_dat()) {
            let Ok(lost) = u32::try_from(row) else { break };
            let known = self.part.ids().and_then(|ids| ids.row(lost).ok());
            let at = known.map(|entry| u64::from(entry.idx_at)).filter(|at| bytes.contains(at));
            let put = match at {
                Some(at) => match self.log.window.record(at, bytes.end)? {
                    Some((Record::Put { id, .. }, _)) => confirmed(self.part, row, id, at),
                    _ => None,
                },
                None => None,
            };
            (self.emit)(put.unwrap_or(LogEvent::Lost { row: lost }))?;
        }
        Ok(())
    }
}

/// The put of a row in a damaged batch, if `.ids` says that this id stands there.
fn confirmed<'a>(part: &SalvagedSegment, row: u64, id: &'a [u8], at: u64) -> Option<LogEvent<'a>> {
    let row = u32::try_from(row).ok()?;
    let RowEntry { idx_at, crc, hash, doc } = part.ids()?.row(row).ok()?;
    let same = half(IdHasher::new(&part.header.identity.uuid).hash(id)) == hash;
    (u64::from(idx_at) == at && same).then_some(LogEvent::Put { id, at, row, crc, doc })
}
