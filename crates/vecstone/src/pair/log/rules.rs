//! Which batches hold.

use super::{LogPosition, Records};
use crate::format::header::Header;
use crate::format::record::{self, Commit, CommitArrays, Control, FLAG_DOCUMENTS, Next, Record};
use crate::format::{Chain, MAX_SEQ, chain_of};
use crate::sys::planted::{self, Bug};
use crate::types::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_ROWS};
use crate::types::id::IdKind;

/// What stands at a point of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Batch(Batch),
    /// A DURABLE, CLOSE or BASE record at this place of `.idx`; a CLOSE names its MANIFEST.
    Mark {
        idx_at: u64,
        len: usize,
        epoch: u32,
        proof: u64,
        close: Option<u64>,
    },
    /// Nothing that holds; perhaps only because a file is too short.
    Stop(Option<Short>),
}

/// What the bytes at a point of the log are.
pub(super) enum Verdict {
    Is(Step),
    /// So many are needed to say more.
    Need(usize),
    /// They hold, but this release does not know what they mean: what, the number found, the largest known.
    Unknown(&'static str, u64, u64),
}

const STOP: Verdict = Verdict::Is(Step::Stop(None));

/// A file that ends before a batch does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Short {
    Dat,
    Jsonl,
}

/// A batch that holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) commit: Commit,
    pub(crate) first_row: u32,
    /// Where the line of its first row starts.
    pub(crate) lines_start: u64,
    /// Where it starts in `.idx`, and where its COMMIT does.
    pub(crate) idx_at: u64,
    pub(crate) commit_at: u64,
}

/// What the next batch has to go on from.
pub(crate) struct Expected {
    pub(crate) header: Header,
    /// Lengths of `.dat` and `.jsonl`, for which a batch must not be too long.
    pub(crate) lens: [u64; 2],
    pub(crate) position: LogPosition,
    /// Behind damage: the points that the position may be, which differ in their chains; only place and rows are
    /// sure, sequence and length of `.jsonl` are at least those of the position. `None`: the position is exact.
    pub(crate) guesses: Option<Vec<LogPosition>>,
}

impl Expected {
    /// What the chain of a batch is, by each point that it may go on from.
    pub(crate) fn chains(&self, batch: &[u8], commit_at: usize) -> impl Iterator<Item = Chain> {
        let starts = self.guesses.as_deref().unwrap_or(std::slice::from_ref(&self.position));
        starts.iter().map(move |start| {
            let mut hasher = self.header.identity.chain_from(&start.chain);
            hasher.update(&start.since_commit);
            Commit::hash_batch(&mut hasher, batch, commit_at);
            chain_of(&hasher)
        })
    }

    /// Moves behind what holds at the start of `bytes`.
    pub(super) fn pass(&mut self, step: &Step, bytes: &[u8]) {
        match *step {
            Step::Batch(batch) => self.go_behind(&batch.commit, batch.commit_at),
            Step::Mark { len, epoch, .. } => {
                for start in self.guesses.iter_mut().flatten().chain([&mut self.position]) {
                    start.since_commit.extend_from_slice(&bytes[..len]);
                }
                self.position.idx_end += len as u64;
                self.position.epoch = self.position.epoch.max(epoch);
            }
            Step::Stop(_) => {}
        }
    }

    /// Moves behind a COMMIT, whose head says all of the point behind it.
    pub(crate) fn go_behind(&mut self, commit: &Commit, commit_at: u64) {
        let before = &self.position;
        self.position = LogPosition {
            seq: commit.seq,
            chain: commit.chain,
            since_commit: Vec::new(),
            commit_at,
            idx_end: commit_at + commit.record_len(),
            rows: commit.first_row(&self.header).map_or(before.rows, |first| first + u64::from(commit.rows)),
            docs_end: commit.docs_end,
            epoch: before.epoch.max(commit.epoch),
            kind: IdKind::from_byte(commit.kind).or(before.kind),
        };
        self.guesses = None;
    }

    /// Reads one batch or mark at the start of `bytes`.
    pub(super) fn judge(&self, bytes: &[u8], records: &mut impl Records) -> Verdict {
        let (mut at, mut count, mut rows) = (0, 0, self.position.rows);
        let mut kinds = self.position.kind.map_or(ALL_KINDS, bit);
        records.begin();
        loop {
            let (record, len) = match record::next(&bytes[at..]) {
                Next::Need(need) => return Verdict::Need(at.saturating_add(need)),
                Next::DecodeError => return STOP,
                Next::Record(record, len) => (record, len),
            };
            let idx_at = self.position.idx_end + at as u64;
            if idx_at > record::LAST_START || at as u64 > record::MAX_BATCH_LOG {
                return STOP;
            }
            let id = match record {
                Record::Control { payload } => {
                    return match Control::decode(payload, &self.header.identity) {
                        Some(Control::Commit(commit, arrays)) if commit.records as usize == count => {
                            self.judge_batch(&bytes[..at + len], at, rows, kinds, commit, arrays)
                        }
                        Some(Control::Unknown(tag)) => {
                            Verdict::Unknown("control record", tag.into(), record::NEWEST.into())
                        }
                        Some(mark) if count == 0 => self.judge_mark(mark, len),
                        _ => STOP,
                    };
                }
                _ if count == MAX_BATCH_RECORDS => return STOP,
                Record::Put { offset, .. } if offset != self.header.row_start(rows) => return STOP,
                Record::Put { id, .. } => {
                    records.put(idx_at, id);
                    rows += 1;
                    id
                }
                Record::Delete { id } => {
                    records.delete(idx_at, id);
                    id
                }
            };
            kinds = narrow(kinds, id);
            (count, at) = (count + 1, at + len);
        }
    }

    fn judge_mark(&self, mark: Control<'_>, len: usize) -> Verdict {
        let (position, exact, proof) = (&self.position, self.guesses.is_none(), mark.proves_durable());
        if exact && proof > position.seq {
            return STOP;
        }
        let (epoch, close) = match mark {
            Control::Durable { epoch, .. } => (epoch, None),
            Control::Close { epoch, seq, manifest, rows_end }
                if (!exact || seq == position.seq) && rows_end == self.header.row_start(position.rows) =>
            {
                (epoch, Some(manifest))
            }
            // Only right behind FILE.
            Control::Base(_) if position.idx_end == record::FILE_BYTES as u64 => (0, None),
            _ => return STOP,
        };
        Verdict::Is(Step::Mark { idx_at: position.idx_end, len, epoch, proof, close })
    }

    /// Compares all that a COMMIT says, which ends `bytes`, with what is there: records up to `rows`, ids of `kinds`.
    fn judge_batch(
        &self,
        bytes: &[u8],
        commit_at: usize,
        rows: u64,
        kinds: u8,
        commit: Commit,
        arrays: CommitArrays<'_>,
    ) -> Verdict {
        let (position, header, puts) = (&self.position, &self.header, rows - self.position.rows);
        let rows_end = header.row_start(rows);
        let fits = u64::from(commit.rows) == puts
            && commit.batch_len == commit_at as u64
            && commit.seq > position.seq
            && (self.guesses.is_some() || commit.seq - position.seq == 1)
            && commit.seq <= MAX_SEQ
            && (commit.durable_seq < commit.seq || planted::is(Bug::ClaimTooMuch))
            && commit.rows_end == rows_end
            && puts * header.stride() <= MAX_BATCH_BYTES
            && commit.cross_deletes as usize <= MAX_BATCH_RECORDS
            && rows <= MAX_ROWS;
        if !fits {
            return STOP;
        }
        let flags = u64::from(commit.flags & !FLAG_DOCUMENTS) | u64::from(commit.reserved);
        if flags != 0 {
            return Verdict::Unknown("COMMIT flag", flags, FLAG_DOCUMENTS.into());
        }
        let Some(kind) = IdKind::from_byte(commit.kind) else {
            return Verdict::Unknown("id kind", commit.kind.into(), IdKind::Uuid as u64);
        };
        let goes_on = || self.chains(bytes, commit_at).any(|chain| chain == commit.chain);
        if kinds & bit(kind) == 0
            || !(goes_on() || planted::is(Bug::IgnoreChain))
            || arrays.has_endless_line()
        {
            return STOP;
        }
        let Some(lines_start) = self.lines_start(&commit, arrays) else { return STOP };
        let [dat_len, jsonl_len] = self.lens;
        if rows_end > dat_len || commit.docs_end > jsonl_len {
            let short = if rows_end > dat_len { Short::Dat } else { Short::Jsonl };
            return Verdict::Is(Step::Stop(Some(short)));
        }
        let commit_at = position.idx_end + commit_at as u64;
        let Ok(first_row) = u32::try_from(position.rows) else { return STOP };
        let idx_at = position.idx_end;
        Verdict::Is(Step::Batch(Batch { commit, first_row, lines_start, idx_at, commit_at }))
    }

    /// Where the first line of a batch starts; `None` if the length of `.jsonl` is not what the lines make it.
    fn lines_start(&self, commit: &Commit, arrays: CommitArrays<'_>) -> Option<u64> {
        let position = &self.position;
        if commit.flags & FLAG_DOCUMENTS == 0 {
            return (commit.docs_end == 0 && position.docs_end == 0).then_some(0);
        }
        let lines: u64 = arrays.documents().map(|(len, _)| u64::from(len)).sum();
        let start = commit.docs_end.checked_sub(lines)?;
        let guessed = self.guesses.is_some() && start >= position.docs_end;
        (guessed || start == position.lines_start()).then_some(start)
    }
}

/// All kinds of ids, a bit each.
const ALL_KINDS: u8 = 0b1110;

fn bit(kind: IdKind) -> u8 {
    1 << kind as u8
}

/// Those of some kinds that an id can be of.
fn narrow(kinds: u8, id: &[u8]) -> u8 {
    let is_of = |kind: IdKind| match kind.width() {
        Some(width) => width == id.len(),
        None => std::str::from_utf8(id).is_ok(),
    };
    let of = |kind| if kinds & bit(kind) != 0 && is_of(kind) { bit(kind) } else { 0 };
    of(IdKind::String) | of(IdKind::U64) | of(IdKind::Uuid)
}
