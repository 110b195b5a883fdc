//! The records of `.idx`.

#[cfg(any(test, fuzzing))]
use super::chain_of;
use super::header::{DecodeError, Header};
use super::{Chain, Fields, Identity, MAX_SEQ, crc32c};
use crate::types::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_ID_BYTES};
pub(crate) use commit::{Arrays, Commit, CommitArrays, bytes_of_row, chain_said};

mod commit;

/// The offset that marks a deleted id.
const DELETED: u64 = u64::MAX;
/// The offset that marks a control record.
const CONTROL: u64 = u64::MAX - 1;
/// Offsets below this are places in `.dat`.
const FIRST_RESERVED: u64 = 1 << 63;

/// Where the type of a control record stands in it.
const TYPE_AT: usize = 4;
/// So many bytes of a control record tell its type.
pub(crate) const TYPE_END: usize = TYPE_AT + 1;
/// Bytes of a record beside its id or payload.
pub(crate) const FRAME_BYTES: usize = 12;
/// Bytes of a COMMIT beside what it says of each row and each cross-segment delete.
pub(crate) const COMMIT_BYTES: u64 = (FRAME_BYTES + COMMIT_HEAD_LEN) as u64;
/// Bytes of a FILE record, with which every `.idx` begins.
pub(crate) const FILE_BYTES: usize = FRAME_BYTES + FILE_LEN;

const FILE: u8 = 1;
const COMMIT: u8 = 2;
const DURABLE: u8 = 3;
const CLOSE: u8 = 4;
const BASE: u8 = 5;
/// The largest type that this release knows.
pub(crate) const NEWEST: u8 = BASE;

/// The COMMIT flag of a segment with documents: a length and a checksum for each row follow the row checksums.
pub(crate) const FLAG_DOCUMENTS: u16 = 1;

const FILE_LEN: usize = 292;
/// Where the sequence stands in a FILE record.
const FILE_SEQ_AT: usize = TYPE_AT + 264;
/// Where the chain before the first batch stands in a log.
#[cfg(any(test, fuzzing))]
pub(crate) const FIRST_CHAIN: std::ops::Range<usize> = FILE_SEQ_AT + 8..FILE_SEQ_AT + 24;
const COMMIT_HEAD_LEN: usize = 92;
const COMMIT_CHAIN_AT: usize = 72;
const COMMIT_CRC_AT: usize = 88;
/// The longest control record: a COMMIT of a full batch, each row with a document and a cross-segment delete.
const MAX_CONTROL_LEN: usize = COMMIT_HEAD_LEN + 20 * MAX_BATCH_RECORDS;
/// No record starts behind this.
pub(crate) const LAST_START: u64 = u32::MAX as u64;
/// No log of a pair is longer. What a file has behind that is no record.
pub(crate) const MAX_LOG_BYTES: u64 = LAST_START + (FRAME_BYTES + MAX_CONTROL_LEN) as u64;
/// No batch has more bytes of records before its COMMIT: its ids, and what is around each.
pub(crate) const MAX_BATCH_LOG: u64 = MAX_BATCH_BYTES + (FRAME_BYTES * MAX_BATCH_RECORDS) as u64;
/// No put is shorter: its id has one byte.
pub(crate) const LEAST_PUT: u64 = FRAME_BYTES as u64 + 1;
/// The least that the log of a row takes: its put, with an id of one byte, and its checksum in a COMMIT.
pub(crate) const LEAST_LOG_OF_ROW: u64 = LEAST_PUT + 4;
const DURABLE_LEN: usize = 20;
const CLOSE_LEN: usize = 36;

/// One record, its id or payload not yet looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// This id's row starts at this byte of `.dat`.
    Put { id: &'a [u8], offset: u64 },
    /// This id is deleted.
    Delete { id: &'a [u8] },
    /// A control record's payload.
    Control { payload: &'a [u8] },
}

/// What stands at the start of `bytes`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A record and its length.
    Record(Record<'a>, usize),
    /// Nothing wrong so far, but so many bytes are needed to say more.
    Need(usize),
    /// No record: a length of 0 or beyond what is allowed, or a reserved offset.
    DecodeError,
}

/// Reads the record at the start of `bytes`. O(1).
pub(crate) fn next(bytes: &[u8]) -> Next<'_> {
    let mut fields = Fields(bytes);
    let Some(len) = fields.u32() else { return Next::Need(FRAME_BYTES) };
    let len = len as usize;
    // The bound comes before the bytes are asked for, so that garbage never makes the reader fetch gigabytes.
    if len == 0 || len > MAX_CONTROL_LEN {
        return Next::DecodeError;
    }
    let (Some(id), Some(offset)) = (fields.bytes(len), fields.u64()) else {
        return Next::Need(len.saturating_add(FRAME_BYTES));
    };
    let record = match offset {
        CONTROL => Record::Control { payload: id },
        _ if len > MAX_ID_BYTES => return Next::DecodeError,
        DELETED => Record::Delete { id },
        FIRST_RESERVED.. => return Next::DecodeError,
        offset => Record::Put { id, offset },
    };
    Next::Record(record, len + FRAME_BYTES)
}

fn push(out: &mut Vec<u8>, id: &[u8], offset: u64) {
    let len = u32::try_from(id.len()).expect("ids and control records are shorter than 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(id);
    out.extend_from_slice(&offset.to_le_bytes());
}

/// Appends the record of a put.
pub(crate) fn push_put(out: &mut Vec<u8>, id: &[u8], offset: u64) {
    push(out, id, offset);
}

/// Appends the record of a delete.
pub(crate) fn push_delete(out: &mut Vec<u8>, id: &[u8]) {
    push(out, id, DELETED);
}

/// The first record: repeats the `.dat` header, and says where the sequence and chain go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileRecord {
    pub(crate) header: Header,
    /// Sequence of the segment before, 0 for the first.
    pub(crate) seq: u64,
    /// Chain of the segment before, zeros for the first.
    pub(crate) chain: Chain,
}

impl FileRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = vec![FILE, 0, 0, 0, 0, 0, 0, 0];
        payload.extend_from_slice(&self.header.encode());
        payload.extend_from_slice(&self.seq.to_le_bytes());
        payload.extend_from_slice(&self.chain);
        payload.extend_from_slice(&crc32c(&payload).to_le_bytes());
        let mut out = Vec::with_capacity(FILE_BYTES);
        push(&mut out, &payload, CONTROL);
        out
    }

    /// Decodes the record at the start of an `.idx` file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<FileRecord, DecodeError> {
        let not_ours = DecodeError::NotOurs("the file does not begin with a FILE record");
        let Next::Record(Record::Control { payload }, _) = next(bytes) else { return Err(not_ours) };
        let damaged = DecodeError::Damaged(0, "the FILE record does not match its checksum");
        if payload.len() != FILE_LEN {
            return Err(not_ours);
        }
        let (covered, mut crc) = (&payload[..FILE_LEN - 4], Fields(&payload[FILE_LEN - 4..]));
        if crc.u32() != Some(crc32c(covered)) {
            return Err(damaged);
        }
        let mut fields = Fields(covered);
        if fields.bytes(8) != Some(&[FILE, 0, 0, 0, 0, 0, 0, 0]) {
            return Err(not_ours);
        }
        let header = Header::decode(fields.bytes(256).ok_or(damaged)?)?;
        let seq = fields.u64().ok_or(damaged)?;
        let chain = fields.array().ok_or(damaged)?;
        if seq > MAX_SEQ {
            return Err(DecodeError::Damaged(
                FILE_SEQ_AT as u64,
                "the sequence in the FILE record is out of range",
            ));
        }
        Ok(FileRecord { header, seq, chain })
    }

    /// What a damaged FILE record says of the segment before, true or not.
    pub(crate) fn unchecked(bytes: &[u8; FILE_BYTES], header: Header) -> FileRecord {
        let mut fields = Fields(&bytes[FILE_SEQ_AT..]);
        FileRecord {
            header,
            seq: fields.u64().unwrap_or_default(),
            chain: fields.array().unwrap_or_default(),
        }
    }
}

/// A control record, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    /// The batch before it counts, if what it says of it holds.
    Commit(Commit, CommitArrays<'a>),
    /// Everything up to this sequence is durable.
    Durable { epoch: u32, seq: u64 },
    /// The writer closed the store with this sequence, manifest and length of `.dat`.
    Close { epoch: u32, seq: u64, manifest: u64, rows_end: u64 },
    /// The segment was made by compaction.
    Base(Base<'a>),
    /// Whole, by the rule that every type keeps (the checksum stands last), but of a later release.
    Unknown(u8),
}

impl<'a> Control<'a> {
    /// Decodes a control record's payload; `None` if its checksum or its length does not hold.
    pub(crate) fn decode(payload: &'a [u8], identity: &Identity) -> Option<Control<'a>> {
        match *payload.first()? {
            COMMIT => {
                let commit = Commit::decode_head(payload, identity)?;
                let arrays = payload.get(COMMIT_HEAD_LEN..)?;
                // Later releases may have more arrays, and flags that say so.
                let plain = commit.flags & !FLAG_DOCUMENTS == 0 && commit.reserved == 0;
                let whole = arrays.len() as u64 == commit.arrays_len();
                if !whole {
                    let none = CommitArrays { row_crcs: &[], documents: &[], cross_deletes: &[] };
                    return (!plain).then_some(Control::Commit(commit, none));
                }
                Some(Control::Commit(commit, CommitArrays::split(&commit, arrays)?))
            }
            DURABLE if payload.len() == DURABLE_LEN => decode_mark(payload, identity),
            CLOSE if payload.len() == CLOSE_LEN => decode_mark(payload, identity),
            tag => {
                let (covered, crc) = payload.split_last_chunk::<4>()?;
                let intact = u32::from_le_bytes(*crc) == identity.control_crc(covered);
                intact.then(|| Base::decode(covered).map_or(Control::Unknown(tag), Control::Base))
            }
        }
    }

    /// The sequence that this record proves durable.
    pub(crate) fn proves_durable(&self) -> u64 {
        match *self {
            Control::Commit(commit, _) => commit.durable_seq,
            Control::Durable { seq, .. } | Control::Close { seq, .. } => seq,
            Control::Base(_) | Control::Unknown(_) => 0,
        }
    }
}

/// The bytes that end the record of a put.
pub(crate) fn end_of_put(offset: u64) -> [u8; 8] {
    offset.to_le_bytes()
}

/// The checksum of a row, from the COMMIT behind its put, with which `log` begins; `None` if anything else is there.
pub(crate) fn crc_behind_put(log: &[u8], row: u64, header: &Header) -> Option<u32> {
    let start = header.row_start(row);
    if !matches!(next(log), Next::Record(Record::Put { offset, .. }, _) if offset == start) {
        return None;
    }
    let mut at = 0;
    for _ in 0..=MAX_BATCH_RECORDS {
        let Next::Record(record, len) = next(log.get(at..)?) else { return None };
        at += len;
        let Record::Control { payload } = record else { continue };
        let Some(Control::Commit(commit, arrays)) = Control::decode(payload, &header.identity) else {
            return None;
        };
        let from_here = commit.rows_end.checked_sub(start)? / header.stride();
        let before = u64::from(commit.rows).checked_sub(from_here)?;
        return arrays.row_crcs().nth(usize::try_from(before).ok()?);
    }
    None
}

/// What a compacted segment was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base<'a> {
    /// The last batch whose effects it has.
    pub(crate) seq: u64,
    inputs: &'a [u8],
}

impl<'a> Base<'a> {
    /// `covered`: the payload without its checksum.
    fn decode(covered: &'a [u8]) -> Option<Base<'a>> {
        let mut fields = Fields(covered);
        if fields.bytes(4)? != [BASE, 0, 0, 0] {
            return None;
        }
        let inputs = fields.u32()? as usize;
        let seq = fields.u64()?;
        let inputs = (fields.0.len() == inputs.checked_mul(8)?).then_some(fields.0)?;
        Some(Base { seq, inputs })
    }

    /// Numbers of the segments it was made from.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = u64> + use<'a> {
        let mut fields = Fields(self.inputs);
        std::iter::from_fn(move || fields.u64())
    }
}

/// Appends a BASE record.
pub(crate) fn push_base(out: &mut Vec<u8>, seq: u64, inputs: &[u64], identity: &Identity) {
    let count = u32::try_from(inputs.len()).expect("a store has at most 4,096 segments");
    let mut payload = vec![BASE, 0, 0, 0];
    payload.extend_from_slice(&count.to_le_bytes());
    payload.extend_from_slice(&seq.to_le_bytes());
    payload.extend(inputs.iter().flat_map(|number| number.to_le_bytes()));
    payload.extend_from_slice(&identity.control_crc(&payload).to_le_bytes());
    push(out, &payload, CONTROL);
}

fn decode_mark(bytes: &[u8], identity: &Identity) -> Option<Control<'static>> {
    let len = match *bytes.first()? {
        DURABLE => DURABLE_LEN,
        CLOSE => CLOSE_LEN,
        _ => return None,
    };
    let bytes = bytes.get(..len)?;
    let mut crc = Fields(&bytes[len - 4..]);
    if crc.u32()? != identity.control_crc(&bytes[..len - 4]) {
        return None;
    }
    if bytes[1..4] != [0; 3] {
        return Some(Control::Unknown(bytes[0]));
    }
    let mut fields = Fields(&bytes[4..len - 4]);
    let (epoch, seq) = (fields.u32()?, fields.u64()?);
    if bytes[0] == DURABLE {
        return Some(Control::Durable { epoch, seq });
    }
    Some(Control::Close { epoch, seq, manifest: fields.u64()?, rows_end: fields.u64()? })
}

fn push_mark(out: &mut Vec<u8>, tag: u8, epoch: u32, numbers: &[u64], identity: &Identity) {
    let mut payload = vec![tag, 0, 0, 0];
    payload.extend_from_slice(&epoch.to_le_bytes());
    payload.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    payload.extend_from_slice(&identity.control_crc(&payload).to_le_bytes());
    push(out, &payload, CONTROL);
}

/// Appends a DURABLE record.
pub(crate) fn push_durable(out: &mut Vec<u8>, epoch: u32, seq: u64, identity: &Identity) {
    push_mark(out, DURABLE, epoch, &[seq], identity);
}

/// Appends a CLOSE record.
pub(crate) fn push_close(
    out: &mut Vec<u8>,
    epoch: u32,
    seq: u64,
    manifest: u64,
    rows_end: u64,
    identity: &Identity,
) {
    push_mark(out, CLOSE, epoch, &[seq, manifest, rows_end], identity);
}

/// Whether the record that starts with these bytes says that the segment was made by compaction.
pub(crate) fn starts_base(bytes: &[u8; TYPE_END]) -> bool {
    bytes[TYPE_AT] == BASE
}

/// Bytes at the start of a COMMIT record, up to the end of its head.
pub(crate) const COMMIT_START: usize = 4 + COMMIT_HEAD_LEN;

/// The head of the COMMIT whose record starts with these bytes, and the length of the record.
pub(crate) fn commit_at(bytes: &[u8; COMMIT_START], identity: &Identity) -> Option<(Commit, u64)> {
    let len = Fields(bytes).u32()?;
    let commit = Commit::decode_head(&bytes[4..], identity)?;
    Some((commit, u64::from(len) + FRAME_BYTES as u64))
}

/// The longest head of a control record: how much two windows of [`strongest_proof`] must overlap.
pub(crate) const CONTROL_OVERLAP: usize = COMMIT_HEAD_LEN;

/// The highest sequence that any self-valid control record within `bytes` proves durable, whatever stands around it,
/// or `None`. Linear: each place is looked at once, and a checksum is computed only where a type byte fits.
pub(crate) fn strongest_proof(bytes: &[u8], identity: &Identity) -> Option<u64> {
    let mut strongest = None;
    for at in 0..bytes.len() {
        let proof = match bytes[at] {
            COMMIT => Commit::decode_head(&bytes[at..], identity).map(|commit| commit.durable_seq),
            DURABLE | CLOSE => decode_mark(&bytes[at..], identity).map(|mark| mark.proves_durable()),
            _ => None,
        };
        strongest = strongest.max(proof);
    }
    strongest
}

/// Makes a control record's checksum, and a COMMIT's chain, fit what is there: the fuzzer's forger. `log` ends with the
/// record, whose payload is `payload`; the last COMMIT ended at `since`. Returns whether it is a COMMIT.
#[cfg(any(test, fuzzing))]
pub(crate) fn fit_control(
    log: &mut [u8],
    since: usize,
    payload: std::ops::Range<usize>,
    chain: &mut Chain,
    identity: &Identity,
) -> bool {
    let set_crc = |bytes: &mut [u8], crc: fn(&Identity, &[u8]) -> u32| {
        if let Some((covered, place)) = bytes.split_last_chunk_mut::<4>() {
            *place = crc(identity, covered).to_le_bytes();
        }
    };
    let start = payload.start;
    match log[start] {
        COMMIT if payload.len() >= COMMIT_HEAD_LEN => {
            let mut hasher = identity.chain_from(chain);
            hasher.update(&log[since..start + COMMIT_CHAIN_AT]);
            hasher.update(&log[start + COMMIT_HEAD_LEN..]);
            *chain = chain_of(&hasher);
            log[start + COMMIT_CHAIN_AT..start + COMMIT_CRC_AT].copy_from_slice(chain);
            set_crc(&mut log[start..start + COMMIT_HEAD_LEN], |identity, bytes| identity.control_crc(bytes));
            return true;
        }
        FILE => {
            if let Some(header) = log.get_mut(start + 8..start + 264) {
                set_crc(header, |_, bytes| crc32c(bytes));
            }
            set_crc(&mut log[payload], |_, bytes| crc32c(bytes));
        }
        DURABLE | CLOSE | BASE => set_crc(&mut log[payload], |identity, bytes| identity.control_crc(bytes)),
        _ => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::element::Element;

    const ID: Identity = Identity { uuid: [1; 16], segment: 1, salt: [2; 16] };

    fn file_record() -> FileRecord {
        FileRecord { header: Header { dim: 4, element: Element::F32, identity: ID }, seq: 5, chain: [6; 16] }
    }

    fn sealed() -> (Vec<u8>, Commit) {
        let mut out = Vec::new();
        push_put(&mut out, b"a", 256);
        push_delete(&mut out, b"bc");
        let mut commit = Commit {
            kind: 1,
            flags: FLAG_DOCUMENTS,
            epoch: 3,
            seq: 9,
            manifest: 1,
            records: 2,
            rows: 1,
            cross_deletes: 1,
            reserved: 0,
            batch_len: 0,
            rows_end: 272,
            docs_end: 9,
            durable_seq: 8,
            chain: [0; 16],
        };
        let arrays = Arrays { row_crcs: &[0xABCD], documents: &[(9, 7)], cross_deletes: &[(4, 5)] };
        commit.seal(&mut out, 0, ID.chain_from(&[0; 16]), arrays, &ID);
        (out, commit)
    }

    #[test]
    fn records_round_trip() {
        let (bytes, commit) = sealed();
        let Next::Record(put, len) = next(&bytes) else { panic!("no put") };
        assert_eq!((put, len), (Record::Put { id: b"a", offset: 256 }, 13));
        let Next::Record(delete, len2) = next(&bytes[len..]) else { panic!("no delete") };
        assert_eq!(delete, Record::Delete { id: b"bc" });
        let Next::Record(Record::Control { payload }, _) = next(&bytes[len + len2..]) else {
            panic!("no COMMIT")
        };
        let Some(Control::Commit(found, arrays)) = Control::decode(payload, &ID) else {
            panic!("not intact")
        };
        assert_eq!(found, commit);
        assert_eq!(arrays.row_crcs().collect::<Vec<_>>(), [0xABCD]);
        assert_eq!(arrays.documents().collect::<Vec<_>>(), [(9, 7)]);
        assert_eq!(arrays.cross_deletes().collect::<Vec<_>>(), [(4, 5)]);
        assert_eq!(strongest_proof(&bytes, &ID), Some(8));
    }

    #[test]
    fn marks_round_trip() {
        let mut out = Vec::new();
        push_durable(&mut out, 1, 7, &ID);
        let durable_len = out.len();
        push_close(&mut out, 2, 8, 3, 256, &ID);
        let Next::Record(Record::Control { payload }, len) = next(&out) else { panic!("no DURABLE") };
        assert_eq!(len, durable_len);
        assert_eq!(Control::decode(payload, &ID), Some(Control::Durable { epoch: 1, seq: 7 }));
        let Next::Record(Record::Control { payload }, _) = next(&out[len..]) else { panic!("no CLOSE") };
        let close = Control::Close { epoch: 2, seq: 8, manifest: 3, rows_end: 256 };
        assert_eq!(Control::decode(payload, &ID), Some(close));
        assert_eq!(strongest_proof(&out, &ID), Some(8));
        assert_eq!(strongest_proof(&out[..out.len() - 9], &ID), Some(7));
    }

    #[test]
    fn base_round_trip() {
        let mut out = Vec::new();
        push_base(&mut out, 77, &[3, 5], &ID);
        let Next::Record(Record::Control { payload }, len) = next(&out) else { panic!("no BASE") };
        assert_eq!(len, out.len());
        let Some(Control::Base(base)) = Control::decode(payload, &ID) else { panic!("not intact") };
        assert_eq!((base.seq, base.inputs().collect::<Vec<_>>()), (77, vec![3, 5]));
        assert_eq!(strongest_proof(&out, &ID), None);
    }

    #[test]
    fn zeros_and_reserved_offsets_end_the_log() {
        assert_eq!(next(&[0; 64]), Next::DecodeError);
        let mut out = Vec::new();
        push(&mut out, b"x", 1 << 63);
        assert_eq!(next(&out), Next::DecodeError);
        let mut long = Vec::new();
        push(&mut long, &vec![b'x'; MAX_ID_BYTES + 1], 256);
        assert_eq!(next(&long), Next::DecodeError);
        assert_eq!(next(&long[..100]), Next::Need(MAX_ID_BYTES + 1 + FRAME_BYTES));
        assert_eq!(next(&[]), Next::Need(FRAME_BYTES));
    }

    #[test]
    fn file_record_round_trip_and_damage() {
        let good = file_record().encode();
        assert_eq!(good.len(), FILE_BYTES);
        assert_eq!(FileRecord::decode(&good), Ok(file_record()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(FileRecord::decode(&bad).is_err(), "byte {at}");
            assert!(FileRecord::decode(&good[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_flipped_commit_head_is_not_a_commit() {
        let (bytes, _) = sealed();
        let head = bytes.len() - 8 - 20 - COMMIT_HEAD_LEN;
        for at in head..head + COMMIT_HEAD_LEN {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(strongest_proof(&bad, &ID), None, "byte {at}");
        }
    }
}
