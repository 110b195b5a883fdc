//! The one reader of a log. Opening, reading on, repair and `verify` go by the batches that it says hold.
//!
//! [`rules`] decide whether a batch holds at the point that was reached. A [`Policy`] says what the caller does where none
//! does: an opening stops there, `salvage` finds the next COMMIT and goes on.

use crate::format::Chain;
use crate::format::header::Header;
use crate::format::manifest::SegmentExtent;
use crate::format::record::{self, Commit, CommitArrays, Control, FileRecord, Next, Record};
use crate::pair::files::StoreFile;
use crate::pair::rows::{Doc, NULL_LINE};
use crate::pair::window::Window;
use crate::types::error::{Error, Result};
use crate::types::id::IdKind;
use rules::Verdict;
pub(crate) use rules::{Batch, Expected, Short, Step};
use std::ops::Range;

mod rules;

/// A point in the log between two batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// Sequence of the last batch, 0 before the first.
    pub(crate) seq: u64,
    pub(crate) chain: Chain,
    /// Bytes since the last COMMIT (FILE, DURABLE and CLOSE records): the next chain covers them.
    pub(crate) since_commit: Vec<u8>,
    /// Where the last COMMIT starts, 0 before the first.
    pub(crate) commit_at: u64,
    /// Where the next record goes in `.idx`.
    pub(crate) idx_end: u64,
    /// Rows up to here.
    pub(crate) rows: u64,
    /// Length of `.jsonl`, 0 if no row has a document.
    pub(crate) docs_end: u64,
    pub(crate) epoch: u32,
    /// Kind of the ids, `None` before the first.
    pub(crate) kind: Option<IdKind>,
}

impl LogPosition {
    /// The point behind FILE.
    pub(crate) fn start(file: &FileRecord) -> LogPosition {
        let since_commit = file.encode();
        LogPosition {
            seq: file.seq,
            chain: file.chain,
            commit_at: 0,
            idx_end: since_commit.len() as u64,
            since_commit,
            rows: 0,
            docs_end: 0,
            epoch: 0,
            kind: None,
        }
    }

    /// What MANIFEST says of a segment that ends here.
    pub(crate) fn sealed(&self, header: &Header) -> SegmentExtent {
        SegmentExtent {
            rows: self.rows,
            dat_len: header.row_start(self.rows),
            idx_len: self.idx_end,
            jsonl_len: self.docs_end,
            last_seq: self.seq,
            chain: self.chain,
            del: (0, 0, 0),
        }
    }

    /// Whether a segment that MANIFEST describes so ends here.
    pub(crate) fn is_end_of(&self, sealed: &SegmentExtent) -> bool {
        (self.seq, self.chain, self.rows) == (sealed.last_seq, sealed.chain, sealed.rows)
    }

    /// Where the first line of the next row goes, if it is the first row with a document.
    pub(crate) fn lines_start(&self) -> u64 {
        if self.docs_end == 0 { self.rows * NULL_LINE.len() as u64 } else { self.docs_end }
    }
}

/// What a caller does where the log does not hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Policy {
    /// It stops. What the disk cannot read is an error. A batch holds only if `.dat` and `.jsonl`, of these lengths, are
    /// long enough for it.
    Stop { lens: [u64; 2] },
    /// It goes on at the next COMMIT. What the disk cannot read is zeros. A row or line behind the end of its file is missed
    /// when it is read.
    Resynchronise,
}

/// What a log says, in the order of writing.
pub(crate) enum LogEvent<'a> {
    /// A row whose record is at this byte of `.idx`, with its checksum and its line.
    Put {
        id: &'a [u8],
        #[cfg_attr(not(test), expect(dead_code, reason = "the tests compare it with what an opening keeps"))]
        at: u64,
        row: u32,
        crc: u32,
        doc: Doc,
    },
    /// A delete, at this byte of `.idx`; not `sure` in a damaged batch.
    Delete { id: &'a [u8], at: u64, sure: bool },
    /// A row of another segment is dead.
    CrossSegmentDelete { segment: u32, row: u32 },
    /// The head of an intact COMMIT; what its batch says follows.
    Commit(Commit),
    /// What the segment was made from.
    Base(Vec<u64>),
    /// Bytes of `.idx` that do not hold, and the rows that they told of.
    Damage { bytes: Range<u64>, rows: Range<u64> },
    /// A damaged batch has a row of this id, or of one that looks like it now.
    Unsure { id: &'a [u8], at: u64 },
    /// A damaged batch has a row whose id is lost.
    Lost { row: u32 },
    /// Bytes from there to the end that are no whole batch, and nothing says that one was there. `written`: nothing says
    /// that it was never durable, either.
    Torn { at: u64, bytes: u64, written: bool },
    /// Rows of `.dat` behind the last batch: of a write that was cut short, or of a log that was.
    Unlogged(Range<u64>),
    /// Bytes that the disk cannot read; told last.
    Unreadable(Range<u64>),
}

/// What a caller takes from the records of a batch while it is read, before it is known to hold.
pub(crate) trait Records {
    /// A batch begins, perhaps once more: what was taken of it counts no more.
    fn begin(&mut self);

    /// A put, whose row is the next one, at this byte of `.idx`.
    fn put(&mut self, idx_at: u64, id: &[u8]);

    /// A delete at this byte of `.idx`.
    fn delete(&mut self, idx_at: u64, id: &[u8]);
}

/// Takes nothing.
impl Records for () {
    fn begin(&mut self) {}

    fn put(&mut self, _: u64, _: &[u8]) {}

    fn delete(&mut self, _: u64, _: &[u8]) {}
}

/// Reads a log from a point on.
pub(crate) struct LogReader<'a> {
    pub(crate) window: Window<'a>,
    pub(crate) next: Expected,
}

impl<'a> LogReader<'a> {
    /// Reads up to `len`, from `position` on. What is behind [`record::MAX_LOG_BYTES`] is no record.
    pub(crate) fn new(
        idx: &'a StoreFile,
        len: u64,
        header: Header,
        position: LogPosition,
        policy: Policy,
    ) -> LogReader<'a> {
        let len = len.min(record::MAX_LOG_BYTES);
        let (window, lens) = match policy {
            Policy::Stop { lens } => (Window::new(idx, len), lens),
            Policy::Resynchronise => (Window::past_errors(idx, len), [u64::MAX; 2]),
        };
        LogReader { window, next: Expected { header, lens, position, guesses: None } }
    }

    /// The point that was reached.
    pub(crate) fn position(&self) -> &LogPosition {
        &self.next.position
    }

    /// Whether there is more to read.
    pub(crate) fn has_more(&self) -> bool {
        self.next.position.idx_end < self.window.len
    }

    /// Reads the batch or mark at the position, and moves behind it if it holds. `records` sees the records of a batch.
    pub(crate) fn read_next(&mut self, records: &mut impl Records) -> Result<Step> {
        let (start, mut need) = (self.next.position.idx_end, record::FRAME_BYTES);
        loop {
            let left = self.window.len - start;
            let bytes = self.window.at_least(start, need)?;
            match self.next.judge(bytes, records) {
                Verdict::Need(more) if (bytes.len() as u64) < left => need = more,
                Verdict::Need(_) => return Ok(Step::Stop(None)),
                Verdict::Unknown(what, found, supported) => {
                    let path = self.window.file.path.clone();
                    return Err(Error::Unsupported { path, what, found, supported });
                }
                Verdict::Is(step) => {
                    self.next.pass(&step, bytes);
                    return Ok(step);
                }
            }
        }
    }

    /// The control record at this place, if it is intact.
    pub(crate) fn control_at(&mut self, idx_at: u64) -> Result<Option<Control<'_>>> {
        let record = self.window.record(idx_at, self.window.len)?;
        Ok(record.and_then(|(record, _)| match record {
            Record::Control { payload } => Control::decode(payload, &self.next.header.identity),
            _ => None,
        }))
    }

    /// What the COMMIT of the batch that was read last says of its rows.
    pub(crate) fn arrays(&self, batch: &Batch) -> CommitArrays<'_> {
        batch.commit.arrays(self.window.held(batch.commit_at))
    }

    /// Tells what the batch says that was read last.
    pub(crate) fn tell(
        &self,
        batch: &Batch,
        emit: &mut (impl FnMut(LogEvent<'_>) -> Result<()> + ?Sized),
    ) -> Result<()> {
        emit(LogEvent::Commit(batch.commit))?;
        let (records, arrays) = (self.window.held(batch.idx_at), self.arrays(batch));
        let (mut crcs, mut lines) = (arrays.row_crcs(), arrays.documents());
        let (mut start, mut row, mut line_at) = (0, batch.first_row, batch.lines_start);
        while let Next::Record(record, len) = record::next(&records[start..]) {
            let at = batch.idx_at + start as u64;
            match record {
                Record::Put { id, .. } => {
                    let (len, line_crc) = lines.next().unwrap_or_default();
                    let doc = Doc { at: line_at, len, crc: line_crc };
                    emit(LogEvent::Put { id, at, row, crc: crcs.next().unwrap_or_default(), doc })?;
                    (row, line_at) = (row.saturating_add(1), line_at + u64::from(len));
                }
                Record::Delete { id } => emit(LogEvent::Delete { id, at, sure: true })?,
                Record::Control { .. } => break,
            }
            start += len;
        }
        arrays
            .cross_deletes()
            .try_for_each(|(segment, row)| emit(LogEvent::CrossSegmentDelete { segment, row }))
    }

    /// The highest sequence that a control record from `at` on proves durable, wherever it stands; 0 if none. Linear in the
    /// rest.
    pub(crate) fn strongest_proof(&mut self, at: u64) -> Result<u64> {
        let (mut strongest, identity) = (0, self.next.header.identity);
        self.window.search(at..self.window.len, record::CONTROL_OVERLAP, |_, bytes| {
            if !is_zero(bytes) {
                strongest = strongest.max(record::strongest_proof(bytes, &identity).unwrap_or(0));
            }
            None::<()>
        })?;
        Ok(strongest)
    }

    /// The next COMMIT with an intact head that belongs behind the position.
    pub(crate) fn find_commit(&mut self) -> Result<Option<(u64, Commit)>> {
        let Expected { header, position, .. } = &self.next;
        let end = self.window.len;
        self.window.search(position.idx_end..end, record::COMMIT_START - 1, |at, bytes| {
            let mut commits = bytes.windows(record::COMMIT_START).enumerate().filter_map(|(place, head)| {
                let (commit, _) = record::commit_at(head.first_chunk()?, &header.identity)?;
                Some((at + place as u64, commit))
            });
            let is_behind = |commit: &Commit| {
                commit.seq > position.seq
                    && commit.first_row(header).is_some_and(|first| first >= position.rows)
            };
            commits.find(|(_, commit)| is_behind(commit))
        })
    }
}

/// Holes of a file are passed at the speed of memory.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}
