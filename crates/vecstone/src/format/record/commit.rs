//! COMMIT.

use super::{
    COMMIT, COMMIT_BYTES, COMMIT_CHAIN_AT, COMMIT_CRC_AT, COMMIT_HEAD_LEN, COMMIT_START, CONTROL,
    FLAG_DOCUMENTS, push,
};
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::{Chain, Fields, Identity, chain_of};
use crate::types::config::{MAX_LINE_BYTES, MAX_ROWS};

/// The fixed head of a COMMIT: everything but the arrays behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
    /// The MANIFEST number it was written under.
    pub(crate) manifest: u64,
    /// Puts and deletes of the batch.
    pub(crate) records: u32,
    /// Puts of the batch; so many row checksums follow.
    pub(crate) rows: u32,
    pub(crate) cross_deletes: u32,
    pub(crate) reserved: u32,
    /// Bytes of the batch's records, before the COMMIT.
    pub(crate) batch_len: u64,
    /// How long `.dat` is with this batch.
    pub(crate) rows_end: u64,
    pub(crate) docs_end: u64,
    /// The last sequence known to be durable when this was written.
    pub(crate) durable_seq: u64,
    pub(crate) chain: Chain,
}

impl Commit {
    fn encode_head(&self, identity: &Identity) -> [u8; COMMIT_HEAD_LEN] {
        let mut out = [0; COMMIT_HEAD_LEN];
        out[0] = COMMIT;
        out[1] = self.kind;
        out[2..4].copy_from_slice(&self.flags.to_le_bytes());
        out[4..8].copy_from_slice(&self.epoch.to_le_bytes());
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.manifest.to_le_bytes());
        out[24..28].copy_from_slice(&self.records.to_le_bytes());
        out[28..32].copy_from_slice(&self.rows.to_le_bytes());
        out[32..36].copy_from_slice(&self.cross_deletes.to_le_bytes());
        out[36..40].copy_from_slice(&self.reserved.to_le_bytes());
        out[40..48].copy_from_slice(&self.batch_len.to_le_bytes());
        out[48..56].copy_from_slice(&self.rows_end.to_le_bytes());
        out[56..64].copy_from_slice(&self.docs_end.to_le_bytes());
        out[64..72].copy_from_slice(&self.durable_seq.to_le_bytes());
        out[COMMIT_CHAIN_AT..COMMIT_CRC_AT].copy_from_slice(&self.chain);
        let crc = identity.control_crc(&out[..COMMIT_CRC_AT]);
        out[COMMIT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode_head(bytes: &[u8], identity: &Identity) -> Option<Commit> {
        let mut fields = Fields(bytes.get(..COMMIT_HEAD_LEN)?);
        if fields.u8()? != COMMIT {
            return None;
        }
        let kind = fields.u8()?;
        let commit = Commit {
            kind,
            flags: fields.u16()?,
            epoch: fields.u32()?,
            seq: fields.u64()?,
            manifest: fields.u64()?,
            records: fields.u32()?,
            rows: fields.u32()?,
            cross_deletes: fields.u32()?,
            reserved: fields.u32()?,
            batch_len: fields.u64()?,
            rows_end: fields.u64()?,
            docs_end: fields.u64()?,
            durable_seq: fields.u64()?,
            chain: fields.array()?,
        };
        let intact = fields.u32()? == identity.control_crc(&bytes[..COMMIT_CRC_AT]);
        intact.then_some(commit)
    }

    /// Feeds a batch to the chain's hash: its records and its COMMIT record, which starts at `commit_at`, all but the
    /// chain and the head's checksum.
    pub(crate) fn hash_batch(hasher: &mut blake3::Hasher, batch: &[u8], commit_at: usize) {
        let head_at = commit_at + 4;
        hasher.update(&batch[..head_at + COMMIT_CHAIN_AT]);
        hasher.update(&batch[head_at + COMMIT_HEAD_LEN..]);
    }

    /// Seals a batch: `out` holds its records from `start`, everything before `start` since the last COMMIT has gone
    /// through `hasher`. Appends the COMMIT record and sets the chain in it and in `self`.
    pub(crate) fn seal(
        &mut self,
        out: &mut Vec<u8>,
        start: usize,
        mut hasher: blake3::Hasher,
        arrays: Arrays<'_>,
        identity: &Identity,
    ) {
        self.batch_len = (out.len() - start) as u64;
        let pairs = arrays.documents.len() + arrays.cross_deletes.len();
        let mut payload = Vec::with_capacity(COMMIT_HEAD_LEN + 4 * arrays.row_crcs.len() + 8 * pairs);
        self.chain = Chain::default();
        payload.extend_from_slice(&self.encode_head(identity));
        payload.extend(arrays.row_crcs.iter().flat_map(|crc| crc.to_le_bytes()));
        for (a, b) in arrays.documents.iter().chain(arrays.cross_deletes) {
            payload.extend_from_slice(&a.to_le_bytes());
            payload.extend_from_slice(&b.to_le_bytes());
        }
        let commit_at = out.len();
        push(out, &payload, CONTROL);
        let head_at = commit_at + 4;
        Commit::hash_batch(&mut hasher, &out[start..], commit_at - start);
        self.chain = chain_of(&hasher);
        out[head_at..head_at + COMMIT_HEAD_LEN].copy_from_slice(&self.encode_head(identity));
    }

    /// The row of the batch's first put; `None` if the head contradicts itself.
    pub(crate) fn first_row(&self, header: &Header) -> Option<u64> {
        let bytes = self.rows_end.checked_sub(HEADER_BYTES)?;
        let end = bytes / header.stride();
        let whole = bytes % header.stride() == 0 && end <= MAX_ROWS;
        end.checked_sub(self.rows.into()).filter(|_| whole)
    }

    /// The length of the whole record, as the head says.
    pub(crate) fn record_len(&self) -> u64 {
        COMMIT_BYTES + self.arrays_len()
    }

    /// What stands behind the head in the record of this COMMIT, which was decoded before.
    pub(crate) fn arrays<'a>(&self, record: &'a [u8]) -> CommitArrays<'a> {
        let len = usize::try_from(self.arrays_len()).unwrap_or(usize::MAX);
        let arrays = record.get(COMMIT_START..).and_then(|arrays| arrays.get(..len));
        arrays.and_then(|arrays| CommitArrays::split(self, arrays)).unwrap_or(CommitArrays {
            row_crcs: &[],
            documents: &[],
            cross_deletes: &[],
        })
    }

    /// Bytes of the arrays behind the head.
    pub(super) fn arrays_len(&self) -> u64 {
        let documents = self.flags & FLAG_DOCUMENTS != 0;
        bytes_of_row(documents) * u64::from(self.rows) + 8 * u64::from(self.cross_deletes)
    }
}

/// Bytes that a COMMIT has for each row.
pub(crate) fn bytes_of_row(documents: bool) -> u64 {
    if documents { 12 } else { 4 }
}

/// What stands behind the head of a COMMIT.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrays<'a> {
    /// One for each put.
    pub(crate) row_crcs: &'a [u32],
    /// Length and checksum of each put's line; empty without [`FLAG_DOCUMENTS`].
    pub(crate) documents: &'a [(u32, u32)],
    /// Rows of sealed segments that this batch makes dead: segment and row.
    pub(crate) cross_deletes: &'a [(u32, u32)],
}

/// The arrays of a COMMIT, as they lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitArrays<'a> {
    pub(super) row_crcs: &'a [u8],
    pub(super) documents: &'a [u8],
    pub(super) cross_deletes: &'a [u8],
}

impl<'a> CommitArrays<'a> {
    pub(super) fn split(commit: &Commit, bytes: &'a [u8]) -> Option<CommitArrays<'a>> {
        let (row_crcs, rest) = bytes.split_at_checked(4 * commit.rows as usize)?;
        let documents = if commit.flags & FLAG_DOCUMENTS == 0 { 0 } else { 8 * commit.rows as usize };
        let (documents, cross_deletes) = rest.split_at_checked(documents)?;
        Some(CommitArrays { row_crcs, documents, cross_deletes })
    }

    pub(crate) fn row_crcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.row_crcs.chunks_exact(4).map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]))
    }

    /// Length and checksum of each row's line; empty in a segment without documents.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        pairs(self.documents)
    }

    /// Whether a line is longer than any can be.
    pub(crate) fn has_endless_line(&self) -> bool {
        self.documents().any(|(len, _)| u64::from(len) > MAX_LINE_BYTES)
    }

    pub(crate) fn cross_deletes(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        pairs(self.cross_deletes)
    }
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> + use<'_> {
    bytes.chunks_exact(8).map(|pair| {
        let number = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
        (number(0), number(4))
    })
}

/// The chain that the payload of a COMMIT says, true or not; `None` for DURABLE and CLOSE, which are shorter.
pub(crate) fn chain_said(payload: &[u8]) -> Option<Chain> {
    payload.get(COMMIT_CHAIN_AT..COMMIT_CRC_AT)?.try_into().ok()
}
