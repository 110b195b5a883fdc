//! What a MANIFEST with a right checksum must say of itself: the same function refuses when it is read and before it is
//! written.

use super::{ENTRY_LEN, HEAD_LEN, MAX_NUMBER, MAX_SEGMENTS, Manifest, SegmentEntry, SegmentExtent};
use crate::format::MAX_SEQ;
use crate::format::deletions;
use crate::format::header::{DecodeError, HEADER_BYTES};
use crate::format::record::{COMMIT_BYTES, FILE_BYTES, LEAST_LOG_OF_ROW, MAX_LOG_BYTES};
use crate::types::config::{MAX_DIM, MAX_LINE_BYTES, MAX_ROWS};
use crate::types::id::IdKind;
use std::collections::HashSet;

/// Where the fields of the head stand.
pub(super) mod head {
    pub(in super::super) const DIM: u64 = 12;
    pub(in super::super) const NUMBER: u64 = 16;
    pub(in super::super) const KIND: u64 = 42;
    pub(in super::super) const COUNT: u64 = 44;
    pub(in super::super) const NEXT: u64 = 48;
}

/// Where the fields of an entry stand within it.
pub(super) mod entry {
    pub(in super::super) const NUMBER: u64 = 0;
    pub(in super::super) const STATE: u64 = 24;
    pub(in super::super) const ROWS: u64 = 32;
    pub(in super::super) const DAT_LEN: u64 = 40;
    pub(in super::super) const IDX_LEN: u64 = 48;
    pub(in super::super) const JSONL_LEN: u64 = 56;
    pub(in super::super) const LAST_SEQ: u64 = 64;
    pub(in super::super) const DEL: u64 = 88;
    pub(in super::super) const DEL_LEN: u64 = 96;
    pub(in super::super) const DEL_CRC: u64 = 104;
}

/// The least bytes of a line: one of JSON, and its end.
const LEAST_LINE: u64 = 2;

/// Where the entry at a place begins.
pub(super) fn entry_at(place: usize) -> u64 {
    (HEAD_LEN + place * ENTRY_LEN) as u64
}

/// Where the last sequence of the segment at a place stands.
pub(crate) fn last_seq_at(place: usize) -> u64 {
    entry_at(place) + entry::LAST_SEQ
}

impl Manifest {
    /// Refuses numbers that contradict each other, or leave no room for the next ones.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        let bad = |at: u64, what| Err(DecodeError::Damaged(at, what));
        if self.kind != 0 && IdKind::from_byte(self.kind).is_none() {
            return Err(DecodeError::Unsupported("id kind", self.kind.into(), IdKind::Uuid as u64));
        }
        if self.number == 0 || self.number > MAX_SEQ {
            return bad(head::NUMBER, "the number of MANIFEST is out of range");
        }
        if self.dim == 0 || self.dim > MAX_DIM {
            return bad(head::DIM, "the dimension is out of range");
        }
        if self.segments.is_empty() {
            return bad(head::COUNT, "MANIFEST names no segment");
        }
        if self.segments.len() as u64 > MAX_SEGMENTS {
            return bad(head::COUNT, "MANIFEST names more segments than a store has");
        }
        if self.next_segment == 0 || self.next_segment > MAX_NUMBER {
            return bad(head::NEXT, "the number of the next segment is out of range");
        }
        let has_rows = |entry: &SegmentEntry| entry.sealed.as_ref().is_some_and(|sealed| sealed.rows > 0);
        if self.kind == 0 && self.segments.iter().any(has_rows) {
            return bad(head::KIND, "the kind of the ids contradicts the rows");
        }
        let (mut numbers, last) = (HashSet::new(), self.segments.len().wrapping_sub(1));
        for (place, segment) in self.segments.iter().enumerate() {
            let bad = |field: u64, what| Err(DecodeError::Damaged(entry_at(place) + field, what));
            if segment.number == 0 || segment.number >= self.next_segment {
                return bad(entry::NUMBER, "the number of a segment is 0, or not below that of the next one");
            }
            if !numbers.insert(segment.number) {
                return bad(entry::NUMBER, "MANIFEST names a segment twice");
            }
            match &segment.sealed {
                None if place != last => return bad(entry::STATE, "MANIFEST names two active segments"),
                Some(_) if place == last => return bad(entry::STATE, "MANIFEST names no active segment"),
                Some(sealed) => {
                    self.check_sealed(sealed).or_else(|(field, what)| bad(field, what))?;
                }
                None => {}
            }
        }
        self.sections.check(entry_at(self.segments.len()))
    }

    /// What does not hold of a sealed segment: field and why.
    fn check_sealed(&self, sealed: &SegmentExtent) -> Result<(), (u64, &'static str)> {
        let SegmentExtent {
            rows, dat_len, idx_len, jsonl_len, last_seq, del: (del, del_len, del_crc), ..
        } = *sealed;
        if rows > MAX_ROWS {
            return Err((entry::ROWS, "a segment in MANIFEST has more rows than one can have"));
        }
        // Below 2^32 rows of at most 2^18 bytes.
        if dat_len != HEADER_BYTES + rows * self.schema().stride() {
            return Err((entry::DAT_LEN, "rows and length of a segment contradict each other"));
        }
        let commit = if rows > 0 { COMMIT_BYTES } else { 0 };
        let least = FILE_BYTES as u64 + rows * LEAST_LOG_OF_ROW + commit;
        if !(least..=MAX_LOG_BYTES).contains(&idx_len) {
            return Err((entry::IDX_LEN, "rows and length of a log contradict each other"));
        }
        let lines = rows * LEAST_LINE..=rows * MAX_LINE_BYTES;
        if jsonl_len > 0 && !lines.contains(&jsonl_len) {
            return Err((entry::JSONL_LEN, "rows and length of the documents contradict each other"));
        }
        if last_seq > MAX_SEQ {
            return Err((entry::LAST_SEQ, "the last sequence of a segment is out of range"));
        }
        if del == 0 && (del_len, del_crc) != (0, 0) {
            return Err((entry::DEL_LEN, "a list of dead rows without a name has a length"));
        }
        if del > self.number {
            return Err((entry::DEL, "a list of dead rows is newer than MANIFEST"));
        }
        if del > 0 && !(deletions::MIN_BYTES..=deletions::max_bytes(rows)).contains(&del_len) {
            return Err((entry::DEL_LEN, "rows and length of a list of dead rows contradict each other"));
        }
        Ok(())
    }
}
