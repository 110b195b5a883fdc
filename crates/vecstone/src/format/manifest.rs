//! MANIFEST: which segments make a store.

use super::header::Bad;
use super::{Chain, Fields, VERSION, crc32c};
use crate::config::{ELEMENT_NEWEST, Element, MAX_DIM, MAX_ROWS, Metric, Schema};

const MAGIC: [u8; 8] = *b"VECMANIF";
const HEAD_LEN: usize = 64;
const ENTRY_LEN: usize = 120;
const CRC_LEN: usize = 4;
/// 4,096 segments of 4 GiB are more than a disk.
pub(crate) const MAX_SEGMENTS: u64 = 4096;
/// No MANIFEST is longer.
pub(crate) const MAX_BYTES: u64 = HEAD_LEN as u64 + MAX_SEGMENTS * ENTRY_LEN as u64 + CRC_LEN as u64;
/// Kills name segments with 32 bits.
const MAX_NUMBER: u64 = u32::MAX as u64;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Counts replacements, from 1.
    pub(crate) number: u64,
    pub(crate) uuid: [u8; 16],
    /// 0 as long as the store has none, and no segment.
    pub(crate) dim: u32,
    pub(crate) element: Element,
    pub(crate) metric: Metric,
    /// Kind of the ids when it was written; 0 none yet.
    pub(crate) kind: u8,
    pub(crate) next_segment: u64,
    /// In order of writing; the last one is active.
    pub(crate) segments: Vec<SegmentEntry>,
}

/// One segment in MANIFEST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) sealed: Option<Sealed>,
}

/// What MANIFEST says of a segment that no longer changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) rows: u64,
    pub(crate) dat_len: u64,
    pub(crate) idx_len: u64,
    pub(crate) jsonl_len: u64,
    pub(crate) last_seq: u64,
    pub(crate) chain: Chain,
    /// The number in the name of its `.del`, 0 if it has none, with length and CRC32C.
    pub(crate) del: (u64, u64, u32),
}

impl Manifest {
    pub(crate) fn schema(&self) -> Schema {
        Schema { uuid: self.uuid, dim: self.dim, element: self.element, metric: self.metric }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_LEN + self.segments.len() * ENTRY_LEN + CRC_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.dim.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&[self.element as u8, self.metric as u8, self.kind, 0]);
        let segments = u32::try_from(self.segments.len()).expect("at most 4,096 segments");
        out.extend_from_slice(&segments.to_le_bytes());
        out.extend_from_slice(&self.next_segment.to_le_bytes());
        out.resize(HEAD_LEN, 0);
        for segment in &self.segments {
            segment.encode(&mut out);
        }
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, Bad> {
        if !bytes.starts_with(&MAGIC) {
            return Err(Bad::NotOurs("MANIFEST does not begin with VECMANIF"));
        }
        let damaged = Bad::Damaged("MANIFEST does not match its checksum");
        let (covered, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or(damaged)?;
        if u32::from_le_bytes(*crc) != crc32c(covered) {
            return Err(damaged);
        }
        let mut fields = Fields(&covered[MAGIC.len()..]);
        let version = fields.u32().ok_or(damaged)?;
        if version != VERSION {
            return Err(Bad::Unsupported("format version", version.into(), VERSION.into()));
        }
        Self::decode_fields(fields).unwrap_or(Err(Bad::Damaged("MANIFEST is cut short")))
    }

    fn decode_fields(mut fields: Fields<'_>) -> Option<Result<Manifest, Bad>> {
        let dim = fields.u32()?;
        let number = fields.u64()?;
        let uuid = fields.array()?;
        let [element, metric, kind, flag] = fields.array()?;
        let count = fields.u32()?;
        let next_segment = fields.u64()?;
        let unused: [u8; 8] = fields.array()?;
        let element = match Element::from_byte(element) {
            Some(element) => element,
            None => return Some(Err(Bad::Unsupported("element type", element.into(), ELEMENT_NEWEST))),
        };
        let metric = match Metric::from_byte(metric) {
            Some(metric) => metric,
            None => return Some(Err(Bad::Unsupported("metric", metric.into(), 3))),
        };
        if flag != 0 || unused != [0; 8] {
            return Some(Err(Bad::Unsupported("MANIFEST flag", flag.into(), 0)));
        }
        if number >= 1 << 63 || next_segment > MAX_NUMBER {
            return Some(Err(Bad::Damaged("a number in MANIFEST is out of range")));
        }
        let one_without_the_other = (dim == 0) != (count == 0);
        if dim > MAX_DIM
            || one_without_the_other
            || fields.0.len() != (count as usize).checked_mul(ENTRY_LEN)?
        {
            return Some(Err(Bad::Damaged("MANIFEST contradicts itself")));
        }
        let mut segments = Vec::with_capacity(count as usize);
        for _ in 0..count {
            match SegmentEntry::decode(&mut fields)? {
                Ok(segment) => segments.push(segment),
                Err(bad) => return Some(Err(bad)),
            }
        }
        Some(Ok(Manifest { number, uuid, dim, element, metric, kind, next_segment, segments }))
    }
}

impl SegmentEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        let none = Sealed::default();
        let sealed = self.sealed.as_ref().unwrap_or(&none);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&u64::from(self.sealed.is_some()).to_le_bytes());
        for number in [sealed.rows, sealed.dat_len, sealed.idx_len, sealed.jsonl_len, sealed.last_seq] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&sealed.chain);
        out.extend_from_slice(&sealed.del.0.to_le_bytes());
        out.extend_from_slice(&sealed.del.1.to_le_bytes());
        out.extend_from_slice(&u64::from(sealed.del.2).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Result<SegmentEntry, Bad>> {
        let number = fields.u64()?;
        let salt = fields.array()?;
        let state = fields.u64()?;
        let sealed = Sealed {
            rows: fields.u64()?,
            dat_len: fields.u64()?,
            idx_len: fields.u64()?,
            jsonl_len: fields.u64()?,
            last_seq: fields.u64()?,
            chain: fields.array()?,
            del: (fields.u64()?, fields.u64()?, u32::try_from(fields.u64()?).ok()?),
        };
        let flag = fields.u64()?;
        if number > MAX_NUMBER || sealed.rows > MAX_ROWS {
            return Some(Err(Bad::Damaged("a segment in MANIFEST is out of range")));
        }
        if state > 1 || flag != 0 {
            return Some(Err(Bad::Unsupported("segment flag", state.max(flag), 1)));
        }
        Some(Ok(SegmentEntry { number, salt, sealed: (state == 1).then_some(sealed) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let sealed = Sealed {
            rows: 10,
            dat_len: 4096,
            idx_len: 999,
            jsonl_len: 0,
            last_seq: 4,
            chain: [9; 16],
            del: (3, 77, 0xDEAD_BEEF),
        };
        Manifest {
            number: 3,
            uuid: [5; 16],
            dim: 384,
            element: Element::F32,
            metric: Metric::Ip,
            kind: 1,
            next_segment: 3,
            segments: vec![
                SegmentEntry { number: 1, salt: [1; 16], sealed: Some(sealed) },
                SegmentEntry { number: 2, salt: [2; 16], sealed: None },
            ],
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
        assert_eq!(manifest().encode().len(), HEAD_LEN + 2 * ENTRY_LEN + CRC_LEN);
    }

    #[test]
    fn a_dimension_and_a_segment_come_together() {
        let none = Manifest { number: 1, dim: 0, kind: 0, segments: Vec::new(), ..manifest() };
        assert_eq!(Manifest::decode(&none.encode()), Ok(none.clone()));
        let contradiction = Err(Bad::Damaged("MANIFEST contradicts itself"));
        assert_eq!(Manifest::decode(&Manifest { dim: 3, ..none }.encode()), contradiction);
        assert_eq!(Manifest::decode(&Manifest { dim: 0, ..manifest() }.encode()), contradiction);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let good = manifest().encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(Manifest::decode(&bad).is_err(), "byte {at}");
            assert!(Manifest::decode(&good[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_allocates_nothing() {
        let mut bytes = manifest().encode();
        bytes[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
        let end = bytes.len() - CRC_LEN;
        let crc = crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(Bad::Damaged("MANIFEST contradicts itself")));
    }
}
