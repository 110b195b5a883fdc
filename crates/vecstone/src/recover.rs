//! Recovery: from the bytes of a pair to what counts. Decides, changes nothing itself.
//!
//! The steps are those of `format.md`, "Reading a pair": walk the batches, look for proof behind the first that does
//! not hold, and check the rows of every batch that nothing proves durable.

use crate::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_ROWS};
use crate::disk::{DiskFile, read_exact_at};
use crate::error::{Error, Result};
use crate::format::header::{Bad, HEADER_LEN, Header};
use crate::format::record::{self, Commit, Control, FileRecord, Next, Record, RowCrcs};
use crate::format::{Chain, chain_of};
use crate::planted::{self, Bug};
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What opening found at the end of the last writer's work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The last writer closed the store and nothing follows.
    pub clean: bool,
    /// Sequence of the last batch kept; the state is exactly the batches up to it.
    pub seq: u64,
    /// Rows kept, dead ones included.
    pub rows: u64,
    /// Batches kept whose durability nothing on the disk proves; every row of them was checked.
    pub unproven_batches: u64,
    /// Bytes at the end of `.idx` that are not a whole batch.
    pub dropped_idx_bytes: u64,
    /// Bytes of `.dat` that belong to no batch kept.
    pub dropped_dat_bytes: u64,
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clean {
            return write!(f, "closed cleanly after batch {}: {} rows", self.seq, self.rows);
        }
        write!(
            f,
            "kept batches up to {}: {} rows, {} unproven batches checked row by row",
            self.seq, self.rows, self.unproven_batches
        )?;
        if self.dropped_idx_bytes > 0 || self.dropped_dat_bytes > 0 {
            write!(
                f,
                "; dropped what is not a whole batch: {} bytes of .idx, {} bytes of .dat",
                self.dropped_idx_bytes, self.dropped_dat_bytes
            )?;
        }
        Ok(())
    }
}

/// A file of the pair, with its name for messages.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Named {
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(self.file.as_ref(), buf, offset).map_err(|e| Error::io(&self.path, "read", e))
    }

    pub(crate) fn len(&self) -> Result<u64> {
        self.file.len().map_err(|e| Error::io(&self.path, "read the length", e))
    }
}

/// Turns a header's or manifest's complaint into an error that names the file.
pub(crate) fn complain(path: &Path, bad: Bad) -> Error {
    match bad {
        Bad::NotOurs(why) => Error::NotAStore { path: path.to_owned(), why },
        Bad::Unsupported(what, found, supported) => {
            Error::Unsupported { path: path.to_owned(), what, found, supported }
        }
        Bad::Damaged(what) => Error::corrupt(path, 0, what),
    }
}

/// A point in the log between two batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tip {
    /// Sequence of the last batch, 0 before the first.
    pub(crate) seq: u64,
    pub(crate) chain: Chain,
    /// Bytes since the last COMMIT (FILE, DURABLE and CLOSE records): the next chain covers them.
    pub(crate) since_commit: Vec<u8>,
    /// Where the next record goes in `.idx`.
    pub(crate) idx_end: u64,
    /// Rows up to here.
    pub(crate) rows: u64,
    pub(crate) epoch: u32,
}

/// Where the id of each row stands in `.idx`, and the row's checksum.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowTable {
    pub(crate) id_at: Vec<u64>,
    pub(crate) crc: Vec<u32>,
}

impl RowTable {
    pub(crate) fn truncate(&mut self, rows: u64) {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        self.id_at.truncate(rows);
        self.crc.truncate(rows);
    }
}

/// What a pair holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) header: Header,
    /// Everything that counts.
    pub(crate) tip: Tip,
    /// The part of it that is proven durable.
    pub(crate) proven: Tip,
    pub(crate) rows: RowTable,
    /// The largest MANIFEST number that a COMMIT or CLOSE names.
    pub(crate) manifest: u64,
    /// The MANIFEST number of the CLOSE in which the log ends.
    pub(crate) closed_under: Option<u64>,
    pub(crate) report: RecoveryReport,
}

/// Reads a pair and finds what counts. O(length of `.idx` + unproven rows).
pub(crate) fn recover(dat: &Named, idx: &Named) -> Result<Recovered> {
    // .idx first: .dat is written before it, so it is at least as long as what .idx says.
    let idx_len = idx.len()?;
    let dat_len = dat.len()?;
    let (header, file) = read_headers(dat, idx, dat_len, idx_len)?;
    let mut walk = Walk::new(header, file, dat_len);
    let mut log = Window::new(idx, idx_len);
    let stopped_at = walk.run(&mut log)?;
    let mut proof = walk.proof;
    if let Some(at) = stopped_at
        && !planted::is(Bug::CutWithoutProof)
    {
        proof = proof.max(log.strongest_proof(at, &header)?);
        if proof > walk.tip.seq {
            let what = "a batch that was durable does not hold any more";
            return Err(walk.blame(dat, idx, at, what));
        }
    }
    walk.settle(proof);
    walk.check_unproven_rows(dat)?;
    Ok(walk.finish(idx_len, dat_len))
}

fn read_headers(dat: &Named, idx: &Named, dat_len: u64, idx_len: u64) -> Result<(Header, FileRecord)> {
    let mut bytes = [0; HEADER_LEN];
    let present = usize::try_from(dat_len).unwrap_or(usize::MAX).min(bytes.len());
    dat.read(&mut bytes[..present], 0)?;
    let header = Header::decode(&bytes[..present]).map_err(|bad| complain(&dat.path, bad))?;
    let mut bytes = [0; record::FILE_BYTES];
    let present = usize::try_from(idx_len).unwrap_or(usize::MAX).min(bytes.len());
    idx.read(&mut bytes[..present], 0)?;
    let file = FileRecord::decode(&bytes[..present]).map_err(|bad| complain(&idx.path, bad))?;
    if file.header != header {
        let what = "the FILE record and the header of .dat differ: the two files are not one pair";
        return Err(Error::corrupt(&idx.path, 0, what));
    }
    Ok((header, file))
}

/// `.idx` through a buffer that holds at least the batch being read.
struct Window<'a> {
    idx: &'a Named,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

/// How much of `.idx` is read at least.
const READ_AHEAD: usize = 1 << 20;

impl<'a> Window<'a> {
    fn new(idx: &'a Named, len: u64) -> Window<'a> {
        Window { idx, len, start: 0, bytes: Vec::new() }
    }

    /// The bytes from `at` on: at least `need`, or all there are.
    fn at_least(&mut self, at: u64, need: usize) -> Result<&[u8]> {
        let available = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let need = need.min(available);
        let have = (self.start + self.bytes.len() as u64).saturating_sub(at);
        if at < self.start || have < need as u64 {
            // Reading ahead in proportion keeps long batches linear.
            let want = need.saturating_mul(2).max(READ_AHEAD).min(available);
            self.bytes.clear();
            self.bytes.try_reserve_exact(want).map_err(|_| Error::OutOfMemory { bytes: want as u64 })?;
            self.bytes.resize(want, 0);
            self.start = at;
            self.idx.read(&mut self.bytes, at)?;
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(&self.bytes[skip..])
    }

    /// The highest sequence that a control record from `at` on proves durable, 0 if none. Linear in the rest.
    fn strongest_proof(&mut self, mut at: u64, header: &Header) -> Result<u64> {
        let mut strongest = 0;
        let len = self.len;
        while at < len {
            let bytes = self.at_least(at, READ_AHEAD)?;
            strongest = strongest.max(record::strongest_proof(bytes, &header.identity).unwrap_or(0));
            if at + bytes.len() as u64 >= len {
                break;
            }
            at += (bytes.len() - record::CONTROL_OVERLAP) as u64;
        }
        Ok(strongest)
    }
}

/// What stands at a point of the log.
enum Step {
    /// A whole batch and the point behind it.
    Batch(Tip, Commit),
    /// A DURABLE or CLOSE record of this many bytes; a CLOSE names its MANIFEST.
    Mark {
        len: usize,
        proof: u64,
        epoch: u32,
        close: Option<(u64, u64)>,
    },
    Need(usize),
    /// Nothing that holds; `dat_short` if all that is wrong is the length of `.dat`.
    Stop {
        dat_short: bool,
    },
    /// It holds, but this release does not know what it means.
    Unknown(&'static str, u64, u64),
}

/// The state of a walk along the log.
struct Walk {
    header: Header,
    dat_len: u64,
    tip: Tip,
    /// Points behind the batches that are not yet proven durable; the first is proven.
    unproven: VecDeque<Tip>,
    rows: RowTable,
    /// The highest sequence proven durable.
    proof: u64,
    manifest: u64,
    closed_under: Option<u64>,
    dat_short: bool,
}

impl Walk {
    fn new(header: Header, file: FileRecord, dat_len: u64) -> Walk {
        let since_commit = file.encode();
        let tip = Tip {
            seq: file.seq,
            chain: file.chain,
            idx_end: since_commit.len() as u64,
            since_commit,
            rows: 0,
            epoch: 0,
        };
        Walk {
            header,
            dat_len,
            unproven: [tip.clone()].into(),
            proof: tip.seq,
            tip,
            rows: RowTable::default(),
            manifest: 0,
            closed_under: None,
            dat_short: false,
        }
    }

    /// Walks to the end, or to where the log stops to hold: that offset is returned.
    fn run(&mut self, log: &mut Window<'_>) -> Result<Option<u64>> {
        let mut need = record::FRAME_BYTES;
        let len = log.len;
        while self.tip.idx_end < len {
            let bytes = log.at_least(self.tip.idx_end, need)?;
            let all = self.tip.idx_end + bytes.len() as u64 >= len;
            match step(bytes, &self.tip, &self.header, self.dat_len, &mut self.rows) {
                Step::Batch(tip, commit) => self.accept(tip, &commit),
                Step::Mark { len, proof, epoch, close } => {
                    self.tip.since_commit.extend_from_slice(&bytes[..len]);
                    self.tip.idx_end += len as u64;
                    self.tip.epoch = self.tip.epoch.max(epoch);
                    self.proof = self.proof.max(proof);
                    self.closed_under = close.map(|(manifest, _)| manifest);
                    self.manifest = self.manifest.max(close.map_or(0, |(manifest, _)| manifest));
                }
                Step::Need(more) if !all => {
                    need = more;
                    continue;
                }
                Step::Need(_) => return Ok(Some(self.tip.idx_end)),
                Step::Stop { dat_short } => {
                    self.dat_short = dat_short;
                    return Ok(Some(self.tip.idx_end));
                }
                Step::Unknown(what, found, supported) => {
                    let path = log.idx.path.clone();
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
    fn settle(&mut self, proof: u64) {
        while self.unproven.get(1).is_some_and(|tip| tip.seq <= proof) {
            self.unproven.pop_front();
        }
    }

    /// Checks the rows of each batch after the proven ones; the first bad row ends what counts.
    fn check_unproven_rows(&mut self, dat: &Named) -> Result<()> {
        if planted::is(Bug::IgnoreRowChecksums) {
            return Ok(());
        }
        for at in 1..self.unproven.len() {
            let (from, to) = (self.unproven[at - 1].rows, self.unproven[at].rows);
            if !bad_rows(dat, &self.header, &self.rows.crc, from..to, 1)?.is_empty() {
                // A later epoch than any seen: what is dropped may have had the last one.
                let epoch = self.tip.epoch;
                self.unproven.truncate(at);
                self.tip = Tip { epoch, ..self.unproven[at - 1].clone() };
                self.closed_under = None;
                break;
            }
        }
        Ok(())
    }

    fn blame(&self, dat: &Named, idx: &Named, at: u64, what: &'static str) -> Error {
        if self.dat_short {
            return Error::corrupt(&dat.path, self.dat_len, "rows that were durable are missing at the end");
        }
        Error::corrupt(&idx.path, at, what)
    }

    fn finish(mut self, idx_len: u64, dat_len: u64) -> Recovered {
        self.rows.truncate(self.tip.rows);
        let rows_end = self.header.row_start(self.tip.rows);
        let report = RecoveryReport {
            clean: self.closed_under.is_some() && self.tip.idx_end == idx_len && rows_end == dat_len,
            seq: self.tip.seq,
            rows: self.tip.rows,
            unproven_batches: (self.unproven.len() - 1) as u64,
            dropped_idx_bytes: idx_len - self.tip.idx_end,
            dropped_dat_bytes: dat_len.saturating_sub(rows_end),
        };
        Recovered {
            header: self.header,
            proven: self.unproven[0].clone(),
            tip: self.tip,
            rows: self.rows,
            manifest: self.manifest,
            closed_under: self.closed_under.filter(|_| report.clean),
            report,
        }
    }
}

/// Reads one batch or mark at `tip`. Pushes the batch's rows onto `rows`; takes them back if it does not hold.
fn step(bytes: &[u8], tip: &Tip, header: &Header, dat_len: u64, rows: &mut RowTable) -> Step {
    let before = rows.id_at.len();
    let found = read_step(bytes, tip, header, dat_len, rows);
    if !matches!(found, Step::Batch(..)) {
        rows.truncate(before as u64);
    }
    found
}

fn read_step(bytes: &[u8], tip: &Tip, header: &Header, dat_len: u64, rows: &mut RowTable) -> Step {
    let stop = Step::Stop { dat_short: false };
    let (mut at, mut records, mut puts) = (0, 0, 0);
    loop {
        let (record, len) = match record::next(&bytes[at..]) {
            Next::Need(need) => return Step::Need(at.saturating_add(need)),
            Next::Bad => return stop,
            Next::Record(record, len) => (record, len),
        };
        match record {
            Record::Control { payload } => {
                return match Control::decode(payload, &header.identity) {
                    Some(Control::Commit(commit, crcs)) => {
                        let batch = Batch { bytes: &bytes[..at + len], commit_at: at, records, puts };
                        batch.check(commit, crcs, tip, header, dat_len, rows)
                    }
                    Some(Control::Unknown(tag)) => {
                        Step::Unknown("control record", tag.into(), record::NEWEST.into())
                    }
                    Some(mark) if records == 0 => mark_step(mark, len, tip, header),
                    _ => stop,
                };
            }
            _ if records == MAX_BATCH_RECORDS => return stop,
            Record::Delete { id } if std::str::from_utf8(id).is_ok() => {}
            Record::Put { id, offset }
                if offset == header.row_start(tip.rows + puts) && std::str::from_utf8(id).is_ok() =>
            {
                rows.id_at.push(tip.idx_end + at as u64);
                puts += 1;
            }
            _ => return stop,
        }
        records += 1;
        at += len;
    }
}

fn mark_step(mark: Control<'_>, len: usize, tip: &Tip, header: &Header) -> Step {
    let proof = mark.proves_durable();
    if proof > tip.seq {
        return Step::Stop { dat_short: false };
    }
    match mark {
        Control::Durable { epoch, .. } => Step::Mark { len, proof, epoch, close: None },
        Control::Close { epoch, seq, manifest, rows_end }
            if seq == tip.seq && rows_end == header.row_start(tip.rows) =>
        {
            Step::Mark { len, proof, epoch, close: Some((manifest, rows_end)) }
        }
        _ => Step::Stop { dat_short: false },
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
    /// Compares all that COMMIT says with what is there.
    fn check(
        &self,
        commit: Commit,
        crcs: RowCrcs<'_>,
        tip: &Tip,
        header: &Header,
        dat_len: u64,
        rows: &mut RowTable,
    ) -> Step {
        let rows_after = tip.rows + self.puts;
        let rows_end = header.row_start(rows_after);
        let fits = commit.records as usize == self.records
            && u64::from(commit.rows) == self.puts
            && commit.batch_len == self.commit_at as u64
            && Some(commit.seq) == tip.seq.checked_add(1)
            && (commit.durable_seq <= tip.seq || planted::is(Bug::ClaimTooMuch))
            && commit.rows_end == rows_end
            && self.puts * header.stride() <= MAX_BATCH_BYTES
            && rows_after <= MAX_ROWS;
        if !fits {
            return Step::Stop { dat_short: false };
        }
        let flags =
            u64::from(commit.flags) | u64::from(commit.kills) | u64::from(commit.reserved) | commit.docs_end;
        if flags != 0 {
            return Step::Unknown("COMMIT flag", flags, 0);
        }
        if commit.kind != record::KIND_STRING {
            return Step::Unknown("id kind", commit.kind.into(), record::KIND_STRING.into());
        }
        if self.chain(tip, header) != commit.chain && !planted::is(Bug::IgnoreChain) {
            return Step::Stop { dat_short: false };
        }
        if rows_end > dat_len {
            return Step::Stop { dat_short: true };
        }
        rows.crc.extend(crcs.iter());
        let tip = Tip {
            seq: commit.seq,
            chain: commit.chain,
            since_commit: Vec::new(),
            idx_end: tip.idx_end + self.bytes.len() as u64,
            rows: rows_after,
            epoch: tip.epoch.max(commit.epoch),
        };
        Step::Batch(tip, commit)
    }

    fn chain(&self, tip: &Tip, header: &Header) -> Chain {
        let mut hasher = header.identity.chain_from(&tip.chain);
        hasher.update(&tip.since_commit);
        Commit::hash_batch(&mut hasher, self.bytes, self.commit_at);
        chain_of(&hasher)
    }
}

/// The rows of `range` in `.dat` whose bytes do not match their checksums, at most `max` of them. Reads 1 MiB at a time.
pub(crate) fn bad_rows(
    dat: &Named,
    header: &Header,
    crcs: &[u32],
    range: std::ops::Range<u64>,
    max: usize,
) -> Result<Vec<u64>> {
    let stride = usize::try_from(header.stride()).unwrap_or(usize::MAX);
    let per_read = (READ_AHEAD / stride).max(1) as u64;
    let (mut buf, mut bad) = (Vec::new(), Vec::new());
    let mut row = range.start;
    while row < range.end && bad.len() < max {
        let rows = usize::try_from(per_read.min(range.end - row)).unwrap_or(usize::MAX);
        buf.resize(rows * stride, 0);
        dat.read(&mut buf, header.row_start(row))?;
        for bytes in buf.chunks_exact(stride) {
            let crc = usize::try_from(row).ok().and_then(|row| crcs.get(row));
            if crc != Some(&header.identity.row_crc(row, bytes)) && bad.len() < max {
                bad.push(row);
            }
            row += 1;
        }
    }
    Ok(bad)
}

/// Walks the log again up to `end` and returns the offset at which it does not hold, if any.
pub(crate) fn first_bad_record(idx: &Named, header: Header, end: &Tip, dat_len: u64) -> Result<Option<u64>> {
    let mut bytes = vec![0; record::FILE_BYTES];
    if end.idx_end < bytes.len() as u64 || idx.len()? < end.idx_end {
        return Ok(Some(idx.len()?));
    }
    idx.read(&mut bytes, 0)?;
    let file = match FileRecord::decode(&bytes) {
        Ok(file) if file.header == header => file,
        _ => return Ok(Some(0)),
    };
    let mut walk = Walk::new(header, file, dat_len);
    let stopped = walk.run(&mut Window::new(idx, end.idx_end))?;
    let same = (walk.tip.seq, walk.tip.chain, walk.tip.rows) == (end.seq, end.chain, end.rows);
    Ok(stopped.or_else(|| (!same).then_some(walk.tip.idx_end)))
}
