//! MANIFEST: which segments make a store.

use super::header::DecodeError;
use super::{Chain, Fields, Identity, VERSION, crc32c};
use crate::sys::planted::{self, Bug};
use crate::types::config::Metric;
use crate::types::element::{ELEMENT_NEWEST, Element};
use crate::types::schema::Schema;

mod rules;
mod sections;

pub(crate) use rules::last_seq_at;
use rules::{entry, entry_at, head};
pub(crate) use sections::Sections;

const MAGIC: [u8; 8] = *b"VECMANIF";
/// Where the fields behind magic and version begin.
const FIELDS_AT: usize = 12;
/// Where the length of the sections stands.
const SECTIONS_AT: usize = 56;
const HEAD_LEN: usize = 64;
const ENTRY_LEN: usize = 120;
const CRC_LEN: usize = 4;
/// Where the metric stands.
pub(crate) const METRIC_AT: u64 = 41;
/// 4,096 segments of 4 GiB are more than a disk.
pub(crate) const MAX_SEGMENTS: u64 = 4096;
/// No MANIFEST of any release is longer.
pub(crate) const MAX_BYTES: u64 = 1 << 24;
/// Cross-segment deletes name segments with 32 bits. The number of the next segment is at most this, so no segment has it.
pub(crate) const MAX_NUMBER: u64 = u32::MAX as u64;

const CUT: DecodeError = DecodeError::Damaged(0, "MANIFEST is cut short");

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
    pub(crate) sections: Sections,
}

/// One segment in MANIFEST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) sealed: Option<SegmentExtent>,
}

/// What MANIFEST says of a segment that no longer changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentExtent {
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

    /// Length of the file.
    pub(crate) fn len(&self) -> u64 {
        (HEAD_LEN + self.segments.len() * ENTRY_LEN + CRC_LEN) as u64 + self.sections.len()
    }

    /// The bytes of the file; refuses what [`decode`](Self::decode) would refuse.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        if !planted::is(Bug::UncheckedManifest) {
            self.check()?;
        }
        Ok(self.to_bytes())
    }

    /// Refuses to write to a store, or to make a copy of it, where only a later release may.
    pub(crate) fn check_writable(&self) -> Result<(), DecodeError> {
        self.sections.check_writable()
    }

    /// The bytes of the file, whatever it says.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.dim.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&[self.element as u8, self.metric as u8, self.kind, 0]);
        let segments = u32::try_from(self.segments.len()).expect("at most 4,096 segments");
        out.extend_from_slice(&segments.to_le_bytes());
        out.extend_from_slice(&self.next_segment.to_le_bytes());
        let sections = u32::try_from(self.sections.len()).expect("at most 1 MiB");
        out.extend_from_slice(&sections.to_le_bytes());
        out.resize(HEAD_LEN, 0);
        for segment in &self.segments {
            segment.encode(&mut out);
        }
        self.sections.encode(&mut out);
        out.extend_from_slice(&crc32c(&out).to_le_bytes());
        out
    }

    /// Reads in this order: magic, checksum, version, flags of the sections, everything else. What is not known is thus
    /// found before anything that a later release may have changed together with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(DecodeError::NotOurs("MANIFEST does not begin with VECMANIF"));
        }
        let damaged = DecodeError::Damaged(0, "MANIFEST does not match its checksum");
        let (covered, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or(damaged)?;
        if u32::from_le_bytes(*crc) != crc32c(covered) {
            return Err(damaged);
        }
        let mut fields = Fields(&covered[MAGIC.len()..]);
        let version = fields.u32().ok_or(damaged)?;
        if version != VERSION {
            return Err(DecodeError::Unsupported("format version", version.into(), VERSION.into()));
        }
        let (before, sections) = covered.split_at(sections_at(covered)?);
        sections::check_flags(sections)?;
        let mut manifest = Self::decode_fields(Fields(&before[FIELDS_AT..])).unwrap_or(Err(CUT))?;
        manifest.sections = Sections::decode(sections, before.len() as u64)?;
        if !planted::is(Bug::UncheckedManifest) {
            manifest.check()?;
        }
        Ok(manifest)
    }

    fn decode_fields(mut fields: Fields<'_>) -> Option<Result<Manifest, DecodeError>> {
        let dim = fields.u32()?;
        let number = fields.u64()?;
        let uuid = fields.array()?;
        let [element, metric, kind, flag] = fields.array()?;
        let count = fields.u32()?;
        let next_segment = fields.u64()?;
        let (_, unused): (_, [u8; 4]) = (fields.u32()?, fields.array()?);
        let element = match Element::from_byte(element) {
            Some(element) => element,
            None => {
                return Some(Err(DecodeError::Unsupported("element type", element.into(), ELEMENT_NEWEST)));
            }
        };
        let metric = match Metric::from_byte(metric) {
            Some(metric) => metric,
            None => return Some(Err(DecodeError::Unsupported("metric", metric.into(), 3))),
        };
        if let Some(flag) = std::iter::once(flag).chain(unused).find(|byte| *byte != 0) {
            return Some(Err(DecodeError::Unsupported("MANIFEST flag", flag.into(), 0)));
        }
        if fields.0.len() as u64 != u64::from(count) * ENTRY_LEN as u64 {
            let what = "the number of segments and the length of MANIFEST contradict each other";
            return Some(Err(DecodeError::Damaged(head::COUNT, what)));
        }
        // As many as there are bytes for.
        let mut segments = Vec::with_capacity(count as usize);
        for place in 0..count as usize {
            match SegmentEntry::decode(&mut fields, entry_at(place))? {
                Ok(segment) => segments.push(segment),
                Err(bad) => return Some(Err(bad)),
            }
        }
        let sections = Sections::default();
        Some(Ok(Manifest { number, uuid, dim, element, metric, kind, next_segment, segments, sections }))
    }
}

/// Where the sections begin: the head says how long they are, and they end where the checksum begins.
fn sections_at(covered: &[u8]) -> Result<usize, DecodeError> {
    let head = covered.get(..HEAD_LEN).ok_or(CUT)?;
    let len = Fields(&head[SECTIONS_AT..]).u32().ok_or(CUT)?;
    let start = covered.len().checked_sub(len as usize).filter(|start| *start >= HEAD_LEN);
    start.ok_or(DecodeError::Damaged(SECTIONS_AT as u64, "the sections are longer than MANIFEST"))
}

impl SegmentEntry {
    pub(crate) fn new(identity: Identity, sealed: Option<SegmentExtent>) -> SegmentEntry {
        SegmentEntry { number: identity.segment, salt: identity.salt, sealed }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let none = SegmentExtent::default();
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
        // Stored form and stride: this release stores rows as the element type says, and no others.
        out.extend_from_slice(&[0; 8]);
    }

    /// `at`: where it starts.
    fn decode(fields: &mut Fields<'_>, at: u64) -> Option<Result<SegmentEntry, DecodeError>> {
        let number = fields.u64()?;
        let salt = fields.array()?;
        let state = fields.u64()?;
        let sealed = SegmentExtent {
            rows: fields.u64()?,
            dat_len: fields.u64()?,
            idx_len: fields.u64()?,
            jsonl_len: fields.u64()?,
            last_seq: fields.u64()?,
            chain: fields.array()?,
            del: (fields.u64()?, fields.u64()?, 0),
        };
        if state > 1 {
            return Some(Err(DecodeError::Unsupported("segment state", state, 1)));
        }
        let (crc, form, stride) = (fields.u64()?, fields.u32()?, fields.u32()?);
        for (what, found) in [("stored form", form), ("stride of stored rows", stride)] {
            if found != 0 {
                return Some(Err(DecodeError::StoredForm { segment: number, what, found }));
            }
        }
        let Ok(crc) = u32::try_from(crc) else {
            return Some(Err(DecodeError::Damaged(at + entry::DEL_CRC, "a checksum is out of range")));
        };
        let sealed = SegmentExtent { del: (sealed.del.0, sealed.del.1, crc), ..sealed };
        if state == 0 && sealed != SegmentExtent::default() {
            return Some(Err(DecodeError::Damaged(
                at + entry::ROWS,
                "MANIFEST says where the active segment ends",
            )));
        }
        Some(Ok(SegmentEntry { number, salt, sealed: (state == 1).then_some(sealed) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MAX_SEQ;

    fn manifest() -> Manifest {
        let sealed = SegmentExtent {
            rows: 10,
            dat_len: 256 + 10 * 384 * 4,
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
            sections: Sections::default(),
        }
    }

    fn encoded(manifest: &Manifest) -> Vec<u8> {
        manifest.encode().expect("it keeps the rules")
    }

    /// Neither written nor read, and the field is named.
    fn refused(manifest: &Manifest, at: u64) {
        for found in [manifest.encode().map(drop), Manifest::decode(&manifest.to_bytes()).map(drop)] {
            assert!(
                matches!(found, Err(DecodeError::Damaged(place, _)) if place == at),
                "{at}: {found:?}, {manifest:?}"
            );
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Manifest::decode(&encoded(&manifest())), Ok(manifest()));
        assert_eq!(encoded(&manifest()).len(), HEAD_LEN + 2 * ENTRY_LEN + CRC_LEN);
    }

    #[test]
    fn a_store_has_a_dimension_and_a_segment() {
        refused(&Manifest { number: 1, dim: 0, kind: 0, segments: Vec::new(), ..manifest() }, head::DIM);
        refused(&Manifest { segments: Vec::new(), ..manifest() }, head::COUNT);
        refused(&Manifest { dim: 0, ..manifest() }, head::DIM);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let good = encoded(&manifest());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(Manifest::decode(&bad).is_err(), "byte {at}");
            assert!(Manifest::decode(&good[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_allocates_nothing() {
        let mut bytes = encoded(&manifest());
        bytes[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
        let end = bytes.len() - CRC_LEN;
        let crc = crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Manifest::decode(&bytes), Err(DecodeError::Damaged(head::COUNT, _))));
    }

    #[test]
    fn numbers_of_the_store_contradict_nothing() {
        let with = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            manifest
        };
        refused(&with(&|m| m.number = 0), head::NUMBER);
        refused(&with(&|m| m.number = 1 << 63), head::NUMBER);
        refused(&with(&|m| m.dim = 65_537), head::DIM);
        refused(&with(&|m| m.kind = 0), head::KIND);
        refused(&with(&|m| m.next_segment = 0), head::NEXT);
        refused(&with(&|m| m.next_segment = 1 << 32), head::NEXT);
        // The next segment at a live number, and below one.
        refused(&with(&|m| m.next_segment = 2), entry_at(1));
        refused(&with(&|m| m.next_segment = 1), entry_at(0));
        refused(&with(&|m| m.segments[0].number = 0), entry_at(0));
        refused(&with(&|m| m.segments[1].number = 1), entry_at(1));
        refused(&with(&|m| m.segments[0].sealed = None), entry_at(0) + entry::STATE);
        refused(&with(&|m| m.segments[1].sealed = m.segments[0].sealed.clone()), entry_at(1) + entry::STATE);
        let many = |m: &mut Manifest| {
            let sealed = SegmentExtent { dat_len: 256, idx_len: 304, ..SegmentExtent::default() };
            let entry = |number| SegmentEntry { number, salt: [0; 16], sealed: Some(sealed.clone()) };
            m.next_segment = 10_000;
            m.segments.splice(0..1, (3..3 + MAX_SEGMENTS).map(entry));
        };
        refused(&with(&many), head::COUNT);
        let unknown = with(&|m| m.kind = 4).to_bytes();
        assert_eq!(Manifest::decode(&unknown), Err(DecodeError::Unsupported("id kind", 4, 3)));
        let largest = with(&|m| (m.next_segment, m.segments[0].number) = (MAX_NUMBER, MAX_NUMBER - 1));
        assert_eq!(Manifest::decode(&encoded(&largest)), Ok(largest));
        let last = with(&|m| m.number = MAX_SEQ);
        assert_eq!(Manifest::decode(&encoded(&last)), Ok(last));
    }

    #[test]
    fn numbers_of_a_segment_contradict_nothing() {
        let check = |change: &dyn Fn(&mut SegmentExtent), at: u64| {
            let mut manifest = manifest();
            change(manifest.segments[0].sealed.as_mut().expect("sealed"));
            refused(&manifest, entry_at(0) + at);
        };
        check(&|s| s.rows = 1 << 32, entry::ROWS);
        check(&|s| s.rows = 11, entry::DAT_LEN);
        check(&|s| s.dat_len += 4, entry::DAT_LEN);
        check(&|s| s.idx_len = 304 + 10 * 17 + 103, entry::IDX_LEN);
        check(&|s| s.idx_len = (1 << 32) + (80 << 20) + 1000, entry::IDX_LEN);
        check(&|s| s.idx_len = u64::MAX, entry::IDX_LEN);
        check(&|s| s.jsonl_len = 19, entry::JSONL_LEN);
        check(&|s| s.jsonl_len = u64::MAX, entry::JSONL_LEN);
        check(&|s| s.last_seq = 1 << 63, entry::LAST_SEQ);
        check(&|s| s.last_seq = u64::MAX, entry::LAST_SEQ);
        check(&|s| s.del.0 = 4, entry::DEL);
        check(&|s| s.del.0 = 0, entry::DEL_LEN);
        check(&|s| s.del = (0, 0, 1), entry::DEL_LEN);
        check(&|s| s.del.1 = 7, entry::DEL_LEN);
        check(&|s| s.del.1 = 1 << 30, entry::DEL_LEN);
        check(&|s| s.del.1 = u64::MAX, entry::DEL_LEN);
        let mut active = manifest().to_bytes();
        let at = usize::try_from(entry_at(1) + entry::ROWS).expect("small");
        active[at] = 1;
        let end = active.len() - CRC_LEN;
        let crc = crc32c(&active[..end]);
        active[end..].copy_from_slice(&crc.to_le_bytes());
        assert!(
            matches!(Manifest::decode(&active), Err(DecodeError::Damaged(place, _)) if place == at as u64)
        );
    }
}
