//! The log of a segment, read past what is damaged.
//!
//! A batch is taken as it stands if the chain of its COMMIT fits: the COMMIT before it says where that chain begins, so
//! damage hurts only the batches it lies in. Of those a row is taken if `.ids` has the hash of its id.

use super::part::Part;
use crate::config::{MAX_BATCH_RECORDS, MAX_ROWS};
use crate::error::Result;
use crate::format::chain_of;
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::record::{self, Commit, CommitArrays, Control, FLAG_DOCUMENTS, Next, Record};
use crate::id::half;
use crate::id::{IdHasher, IdKind};
use crate::ids::{Doc, RowEntry};
use crate::window::{READ_AHEAD, Window};
use std::ops::Range;

/// What a log says, in the order of writing.
pub(crate) enum Seen<'a> {
    /// A row, with its checksum and its line.
    Row { id: &'a [u8], row: u32, crc: u32, doc: Doc },
    /// A delete, at this byte of `.idx`; not `sure` in a damaged batch.
    Deleted { id: &'a [u8], at: u64, sure: bool },
    /// A damaged batch has a row of this id, or of one that looks like it now.
    Unsure { id: &'a [u8], at: u64 },
    /// A damaged batch has a row whose id is lost.
    Lost { row: u32 },
    /// A row of another segment is dead.
    Kill { segment: u32, row: u32 },
    /// The head of an intact COMMIT.
    Commit(Commit),
    /// What the segment was made from.
    Base(Vec<u64>),
    /// Bytes of `.idx` that do not hold, and the rows that they told of.
    Damaged { bytes: Range<u64>, rows: Range<u64> },
    /// Bytes from there to the end that are no whole batch, and nothing says that one was there. `written`: nothing says
    /// that it was never durable, either.
    Torn { at: u64, bytes: u64, written: bool },
    /// Rows of `.dat` behind the last batch: of a write that was cut short, or of a log that was.
    Unlogged(Range<u64>),
    /// Bytes that the disk cannot read; told last.
    Unreadable(Range<u64>),
}

type See<'a> = &'a mut dyn FnMut(Seen<'_>) -> Result<()>;

/// Reads the whole log of a part.
pub(crate) fn scan(part: &Part, see: See<'_>) -> Result<()> {
    let Some(idx) = &part.idx else { return Ok(()) };
    let start = |file: &record::FileRecord| {
        let mut hasher = part.header.identity.chain_from(&file.chain);
        hasher.update(&file.encode());
        hasher
    };
    let mut log = Log {
        part,
        window: Window::past_errors(idx, part.idx_len),
        at: record::FILE_BYTES as u64,
        rows: 0,
        seq: if let [only] = &part.starts[..] { only.seq } else { 0 },
        chains: part.starts.iter().map(start).collect(),
    };
    while log.at < part.idx_len {
        if !log.step(see)? {
            log.pass_damage(see)?;
        }
    }
    if log.seq < part.last_seq {
        let rows = log.rows..part.rows_in_dat().max(log.rows);
        log.tell_damaged(log.at..log.at, rows, see)?;
    } else if part.rows_in_dat() > log.rows {
        see(Seen::Unlogged(log.rows..part.rows_in_dat()))?;
    }
    if part.cut > 0 {
        log.tell_torn(part.idx_len..part.idx_len + part.cut, see)?;
    }
    log.window.unreadable().try_for_each(|bytes| see(Seen::Unreadable(bytes)))
}

/// Where the chain stands in the payload of a COMMIT.
const CHAIN: Range<usize> = 72..88;
/// How often reading begins again within one damaged place: bounds the work that prepared bytes can cause.
const RESTARTS: usize = 64;

/// What stands at a point of the log.
enum Step {
    /// A batch whose records and COMMIT are well formed.
    Batch {
        commit: Commit,
        commit_at: usize,
        len: usize,
    },
    /// A DURABLE, CLOSE or BASE record.
    Mark {
        len: usize,
        inputs: Option<Vec<u64>>,
    },
    Need(usize),
    Damaged,
}

struct Log<'a> {
    part: &'a Part,
    window: Window<'a>,
    /// The end of what was read.
    at: u64,
    /// Rows up to there.
    rows: u64,
    /// The last batch up to there.
    seq: u64,
    /// Chains that the next batch may go on from; none if the COMMIT before it is gone.
    chains: Vec<blake3::Hasher>,
}

impl Log<'_> {
    /// Reads the mark or the batch at the end of what was read; false if it does not hold.
    fn step(&mut self, see: See<'_>) -> Result<bool> {
        let header = &self.part.header;
        let mut need = record::FRAME_BYTES;
        let (step, bytes) = loop {
            let all = self.window.len - self.at;
            let bytes = self.window.at_least(self.at, need)?;
            match step_at(bytes, header).map_err(|bad| self.part.unsupported(bad))? {
                Step::Need(_) if bytes.len() as u64 >= all => return Ok(false),
                Step::Need(more) => need = more,
                step => break (step, bytes),
            }
        };
        match step {
            Step::Mark { len, inputs } => {
                self.chains.iter_mut().for_each(|chain| _ = chain.update(&bytes[..len]));
                self.at += len as u64;
                inputs.map_or(Ok(()), |inputs| see(Seen::Base(inputs)))?;
                Ok(true)
            }
            Step::Batch { commit, commit_at, len } => {
                let bytes = &bytes[..len];
                let fits = |chain: &blake3::Hasher| {
                    let mut chain = chain.clone();
                    Commit::hash_batch(&mut chain, bytes, commit_at);
                    chain_of(&chain) == commit.chain
                };
                let holds = commit.seq > self.seq
                    && first_row(&commit, header) == Some(self.rows)
                    && is_well_formed(&bytes[..commit_at], &commit, header)
                    && self.chains.iter().any(fits);
                if holds {
                    tell(bytes, commit_at, self.at, header, see)?;
                    self.go_on_behind(&commit, self.at + len as u64);
                }
                Ok(holds)
            }
            Step::Need(_) | Step::Damaged => Ok(false),
        }
    }

    /// Moves on behind a COMMIT whose head is intact.
    fn go_on_behind(&mut self, commit: &Commit, at: u64) {
        let header = &self.part.header;
        self.at = at.min(self.part.idx_len);
        self.rows = first_row(commit, header).map_or(self.rows, |first| first + u64::from(commit.rows));
        self.seq = commit.seq;
        self.chains = vec![header.identity.chain_from(&commit.chain)];
    }

    /// Moves from a batch that does not hold to the next that may, or to the end.
    fn pass_damage(&mut self, see: See<'_>) -> Result<()> {
        let from = self.at;
        let Some((commit_at, commit)) = self.next_commit()? else { return self.pass_tail(see) };
        let first = first_row(&commit, &self.part.header).unwrap_or(self.rows);
        let start = commit_at.checked_sub(commit.batch_len).filter(|&start| start > from);
        if let Some(start) = start {
            // What is damaged is before this batch.
            self.chains = self.tell_damaged(from..start, self.rows..first, see)?;
            (self.at, self.rows) = (start, first);
            return Ok(());
        }
        self.tell_damaged(from..commit_at, self.rows..first + u64::from(commit.rows), see)?;
        see(Seen::Commit(commit))?;
        if let Some((Record::Control { payload }, _)) = self.window.record(commit_at, self.part.idx_len)?
            && let Some(Control::Commit(_, arrays)) = Control::decode(payload, &self.part.header.identity)
        {
            arrays.kills().try_for_each(|(segment, row)| see(Seen::Kill { segment, row }))?;
        }
        self.go_on_behind(&commit, commit_at + commit_len(&commit));
        Ok(())
    }

    /// The next COMMIT with an intact head that belongs behind what was read.
    fn next_commit(&mut self) -> Result<Option<(u64, Commit)>> {
        let (mut at, header) = (self.at, &self.part.header);
        while at + record::COMMIT_START as u64 <= self.part.idx_len {
            let bytes = self.window.at_least(at, READ_AHEAD)?;
            for (place, head) in bytes.windows(record::COMMIT_START).enumerate() {
                let head = head.first_chunk().expect("windows of this size");
                if let Some((commit, _)) = record::commit_at(head, &header.identity)
                    && commit.seq > self.seq
                    && first_row(&commit, header).is_some_and(|first| first >= self.rows)
                {
                    return Ok(Some((at + place as u64, commit)));
                }
            }
            at += (bytes.len() - (record::COMMIT_START - 1)) as u64;
        }
        Ok(None)
    }

    /// The end of a log without a further COMMIT: damaged if a later batch was durable, else a write cut short.
    fn pass_tail(&mut self, see: See<'_>) -> Result<()> {
        let (from, end) = (self.at, self.part.idx_len);
        let (mut at, mut proof) = (from, self.part.last_seq);
        while at < end {
            let bytes = self.window.at_least(at, READ_AHEAD)?;
            proof = proof.max(record::strongest_proof(bytes, &self.part.header.identity).unwrap_or(0));
            if at + bytes.len() as u64 >= end {
                break;
            }
            at += (bytes.len() - record::CONTROL_OVERLAP) as u64;
        }
        self.at = end;
        if proof <= self.seq {
            return self.tell_torn(from..end, see);
        }
        let rows = self.rows..self.part.rows_in_dat().max(self.rows);
        self.tell_damaged(from..end, rows.clone(), see)?;
        (self.seq, self.rows) = (proof, rows.end);
        Ok(())
    }

    /// Rows are written before the records that name them, and all is synced together: a put whose row `.dat` does not have
    /// was never durable.
    fn tell_torn(&self, bytes: Range<u64>, see: See<'_>) -> Result<()> {
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
        see(Seen::Torn { at: bytes.start, bytes: bytes.end - bytes.start, written })
    }

    /// Tells what can be known of damaged bytes that told of these rows. Returns the chain that the next batch goes on
    /// from, if a COMMIT stands there whose frame is whole: the chain of the next batch says whether it is intact.
    fn tell_damaged(
        &mut self,
        bytes: Range<u64>,
        rows: Range<u64>,
        see: See<'_>,
    ) -> Result<Vec<blake3::Hasher>> {
        see(Seen::Damaged { bytes: bytes.clone(), rows: rows.clone() })?;
        let (part, mut at, mut next) = (self.part, bytes.start, rows.start);
        let (mut restarts, mut chains) = (0, Vec::new());
        while at < bytes.end {
            let fits = |record: &Record<'_>| match record {
                Record::Put { offset, .. } => *offset == part.header.row_start(next) && rows.contains(&next),
                _ => true,
            };
            let Some((record, len)) = self.window.record(at, bytes.end)?.filter(|(record, _)| fits(record))
            else {
                chains.clear();
                restarts += 1;
                let found =
                    if restarts > RESTARTS { None } else { self.restart(at..bytes.end, next, &rows)? };
                let Some((behind, row)) = found else { break };
                self.tell_hidden(at..behind, next..row, see)?;
                (at, next) = (behind, row);
                continue;
            };
            match record {
                Record::Put { id, .. } => {
                    match confirmed(part, next, id, at) {
                        Some((row, entry)) => see(Seen::Row { id, row, crc: entry.crc, doc: entry.doc })?,
                        None => see(Seen::Unsure { id, at })?,
                    }
                    next += 1;
                }
                Record::Delete { id } => see(Seen::Deleted { id, at, sure: false })?,
                Record::Control { payload } => {
                    match payload.get(CHAIN).and_then(|chain| chain.try_into().ok()) {
                        Some(chain) => {
                            chains = vec![part.header.identity.chain_from(&chain)];
                            if restarts == 0 {
                                chains.extend(self.computed_chains(bytes.start, at, len)?);
                            }
                        }
                        // DURABLE or CLOSE: all others are longer.
                        None => {
                            let mark = &self.window.at_least(at, len)?[..len];
                            chains.iter_mut().for_each(|chain| _ = chain.update(mark));
                        }
                    }
                }
            }
            at += len as u64;
        }
        self.tell_hidden(at..bytes.end, next..rows.end, see)?;
        Ok(chains)
    }

    /// What the chain of a COMMIT has to be if all that it covers is intact: only its own bytes may be damaged.
    fn computed_chains(&mut self, start: u64, commit_at: u64, len: usize) -> Result<Vec<blake3::Hasher>> {
        let Ok(commit_at) = usize::try_from(commit_at - start) else { return Ok(Vec::new()) };
        let batch = self.window.at_least(start, commit_at + len)?.get(..commit_at + len).unwrap_or_default();
        if batch.is_empty() || start != self.at {
            return Ok(Vec::new());
        }
        let computed = |chain: &blake3::Hasher| {
            let mut chain = chain.clone();
            Commit::hash_batch(&mut chain, batch, commit_at);
            self.part.header.identity.chain_from(&chain_of(&chain))
        };
        Ok(self.chains.iter().map(computed).collect())
    }

    /// Where reading goes on behind a record that does not hold: the offsets of the next rows are known, and each ends a
    /// record. Also the row that follows.
    fn restart(&mut self, bytes: Range<u64>, next: u64, rows: &Range<u64>) -> Result<Option<(u64, u64)>> {
        for row in (next..=next + 1).filter(|row| rows.contains(row)) {
            let offset = self.part.header.row_start(row).to_le_bytes();
            if let Some(at) = self.window.find(offset, bytes.clone())? {
                return Ok(Some((at + offset.len() as u64, row + 1)));
            }
        }
        Ok(None)
    }

    /// Tells of rows whose records cannot be reached one after the other: `.ids` says where they are.
    fn tell_hidden(&mut self, bytes: Range<u64>, rows: Range<u64>, see: See<'_>) -> Result<()> {
        for row in rows.start..rows.end.min(self.part.rows_in_dat()) {
            let Ok(row) = u32::try_from(row) else { break };
            let known = self.part.ids.as_ref().and_then(|ids| ids.row(row).ok());
            let at = known.map(|entry| u64::from(entry.idx_at)).filter(|at| bytes.contains(at));
            let record = match at {
                Some(at) => self.window.record(at, bytes.end)?,
                None => None,
            };
            match (record, at) {
                (Some((Record::Put { id, .. }, _)), Some(at)) => {
                    match confirmed(self.part, row.into(), id, at) {
                        Some((row, entry)) => see(Seen::Row { id, row, crc: entry.crc, doc: entry.doc })?,
                        None => see(Seen::Lost { row })?,
                    }
                }
                _ => see(Seen::Lost { row })?,
            }
        }
        Ok(())
    }
}

/// What `.ids` says of a row, if it says that this id stands there.
fn confirmed(part: &Part, row: u64, id: &[u8], at: u64) -> Option<(u32, RowEntry)> {
    let row = u32::try_from(row).ok()?;
    let entry = part.ids.as_ref()?.row(row).ok()?;
    let hash = IdHasher::new(&part.header.identity.uuid).hash(id);
    (u64::from(entry.idx_at) == at && entry.hash == half(hash)).then_some((row, entry))
}

/// The first row of a batch; `None` if the head contradicts itself.
fn first_row(commit: &Commit, header: &Header) -> Option<u64> {
    let bytes = commit.rows_end.checked_sub(HEADER_BYTES)?;
    let end = bytes / header.stride();
    let whole = bytes % header.stride() == 0 && end <= MAX_ROWS;
    end.checked_sub(commit.rows.into()).filter(|_| whole)
}

/// The length of a COMMIT record, as its head says.
fn commit_len(commit: &Commit) -> u64 {
    let per_row = if commit.flags & FLAG_DOCUMENTS == 0 { 4 } else { 12 };
    let arrays = per_row * u64::from(commit.rows) + 8 * u64::from(commit.kills);
    record::COMMIT_START as u64 + arrays + 8
}

/// What a control record needs a newer release for: what, the number found, the largest known.
pub(crate) type Unknown = (&'static str, u64, u64);

/// What stands at the start of `bytes`.
fn step_at(bytes: &[u8], header: &Header) -> Result<Step, Unknown> {
    let (mut at, mut records) = (0, 0);
    loop {
        let (payload, len) = match record::next(&bytes[at..]) {
            Next::Need(more) => return Ok(Step::Need(at.saturating_add(more))),
            Next::Bad => return Ok(Step::Damaged),
            Next::Record(Record::Control { payload }, len) => (payload, len),
            Next::Record(..) if records == MAX_BATCH_RECORDS || at as u64 > record::MAX_BATCH_LOG => {
                return Ok(Step::Damaged);
            }
            Next::Record(_, len) => {
                records += 1;
                at += len;
                continue;
            }
        };
        return match Control::decode(payload, &header.identity) {
            Some(Control::Commit(_, arrays)) if arrays.has_endless_line() => Ok(Step::Damaged),
            Some(Control::Commit(commit, _)) => {
                let flags = u64::from(commit.flags & !FLAG_DOCUMENTS) | u64::from(commit.reserved);
                if flags != 0 {
                    return Err(("COMMIT flag", flags, FLAG_DOCUMENTS.into()));
                }
                if IdKind::from_byte(commit.kind).is_none() {
                    return Err(("id kind", commit.kind.into(), IdKind::Uuid as u64));
                }
                Ok(Step::Batch { commit, commit_at: at, len: at + len })
            }
            Some(Control::Unknown(tag)) => Err(("control record", tag.into(), record::NEWEST.into())),
            Some(Control::Base(base)) if records == 0 => {
                Ok(Step::Mark { len, inputs: Some(base.inputs().collect()) })
            }
            Some(_) if records == 0 => Ok(Step::Mark { len, inputs: None }),
            _ => Ok(Step::Damaged),
        };
    }
}

/// Whether these records are what the head of their COMMIT says.
fn is_well_formed(bytes: &[u8], commit: &Commit, header: &Header) -> bool {
    let Some(first) = first_row(commit, header) else { return false };
    let (mut at, mut records, mut rows) = (0, 0u64, first);
    while at < bytes.len() {
        let Next::Record(record, len) = record::next(&bytes[at..]) else { return false };
        match record {
            Record::Put { offset, .. } if offset == header.row_start(rows) => rows += 1,
            Record::Delete { .. } => {}
            _ => return false,
        }
        records += 1;
        at += len;
    }
    commit.batch_len == bytes.len() as u64
        && u64::from(commit.records) == records
        && u64::from(commit.rows) == rows - first
}

/// Tells all that an intact batch says, which begins at `start` of `.idx`.
fn tell(bytes: &[u8], commit_at: usize, start: u64, header: &Header, see: See<'_>) -> Result<()> {
    let Next::Record(Record::Control { payload }, _) = record::next(&bytes[commit_at..]) else {
        return Ok(());
    };
    let Some(Control::Commit(commit, arrays)) = Control::decode(payload, &header.identity) else {
        return Ok(());
    };
    see(Seen::Commit(commit))?;
    let mut row = first_row(&commit, header).unwrap_or_default();
    let mut details = details(&commit, arrays);
    let mut at = 0;
    while at < commit_at {
        let Next::Record(record, len) = record::next(&bytes[at..]) else { break };
        match record {
            Record::Put { id, .. } => {
                if let (Some((crc, doc)), Ok(row)) = (details.next(), u32::try_from(row)) {
                    see(Seen::Row { id, row, crc, doc })?;
                }
                row += 1;
            }
            Record::Delete { id } => see(Seen::Deleted { id, at: start + at as u64, sure: true })?,
            Record::Control { .. } => break,
        }
        at += len;
    }
    arrays.kills().try_for_each(|(segment, row)| see(Seen::Kill { segment, row }))
}

/// Checksum and line of each row of a batch.
fn details<'a>(commit: &Commit, arrays: CommitArrays<'a>) -> impl Iterator<Item = (u32, Doc)> + use<'a> {
    let lines: u64 = arrays.documents().map(|(len, _)| u64::from(len)).sum();
    let mut at = commit.docs_end.saturating_sub(lines);
    let documents = arrays.documents().map(move |(len, crc)| {
        let doc = Doc { at, len, crc };
        at = at.saturating_add(len.into());
        doc
    });
    arrays.row_crcs().zip(documents.chain(std::iter::repeat(Doc::default())))
}
