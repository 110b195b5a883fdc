//! The 256 bytes at the start of `.dat`.

use super::{Fields, Identity, VERSION, crc32c};
use crate::types::config::MAX_DIM;
use crate::types::element::{ELEMENT_NEWEST, Element};

/// Bytes before the first row.
pub(crate) const HEADER_BYTES: u64 = HEADER_LEN as u64;
/// The same, to index with.
pub(crate) const HEADER_LEN: usize = 256;
const CRC_AT: usize = HEADER_LEN - 4;
const MAGIC: [u8; 8] = *b"VECSTONE";

/// What a `.dat` file says of itself. Written once, never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) dim: u32,
    pub(crate) element: Element,
    pub(crate) identity: Identity,
}

/// Why bytes are not a header, a FILE record or a MANIFEST that this release reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Not of this format at all.
    NotOurs(&'static str),
    /// A newer format: what, the number found, the largest known.
    Unsupported(&'static str, u64, u64),
    /// Rows of a segment are stored in a form that this release does not know.
    StoredForm { segment: u64, what: &'static str, found: u32 },
    /// Of this format, but not as written: where, and what.
    Damaged(u64, &'static str),
}

impl Header {
    /// Bytes of one row.
    pub(crate) fn stride(&self) -> u64 {
        self.element.stride(self.dim)
    }

    /// Where a row starts in `.dat`; equally, how long the file is with that many rows.
    pub(crate) fn row_start(&self, row: u64) -> u64 {
        HEADER_BYTES + row * self.stride()
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.dim.to_le_bytes());
        out[16] = self.element as u8;
        out[24..40].copy_from_slice(&self.identity.uuid);
        out[40..48].copy_from_slice(&self.identity.segment.to_le_bytes());
        out[48..64].copy_from_slice(&self.identity.salt);
        let crc = crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, DecodeError> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(DecodeError::NotOurs("the file does not begin with VECSTONE"));
        }
        let cut = DecodeError::Damaged(0, "the header is cut short");
        let mut fields = Fields(bytes.get(..HEADER_LEN).ok_or(cut)?);
        let covered = &fields.0[..CRC_AT];
        let mut crc = Fields(&fields.0[CRC_AT..]);
        let intact = crc.u32() == Some(crc32c(covered));
        fields.bytes(MAGIC.len());
        let version = fields.u32().ok_or(cut)?;
        // Every version keeps magic, version and checksum in their places, so that damage is not taken for news.
        if !intact || version == 0 {
            return Err(DecodeError::Damaged(0, "the header does not match its checksum"));
        }
        if version > VERSION {
            return Err(DecodeError::Unsupported("format version", version.into(), VERSION.into()));
        }
        let dim = fields.u32().ok_or(cut)?;
        let element = fields.u8().ok_or(cut)?;
        let reserved = fields.bytes(7).ok_or(cut)?;
        let identity = Identity {
            uuid: fields.array().ok_or(cut)?,
            segment: fields.u64().ok_or(cut)?,
            salt: fields.array().ok_or(cut)?,
        };
        let unused = fields.bytes(CRC_AT - 64).ok_or(cut)?;
        let element = Element::from_byte(element).ok_or(DecodeError::Unsupported(
            "element type",
            element.into(),
            ELEMENT_NEWEST,
        ))?;
        if let Some(&flag) = reserved.iter().chain(unused).find(|&&byte| byte != 0) {
            return Err(DecodeError::Unsupported("header flag", flag.into(), 0));
        }
        if dim == 0 || dim > MAX_DIM {
            return Err(DecodeError::Damaged(0, "the dimension is out of range"));
        }
        Ok(Header { dim, element, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let identity = Identity { uuid: *b"0123456789abcdef", segment: 7, salt: *b"fedcba9876543210" };
        Header { dim: 768, element: Element::F32, identity }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Header::decode(&header().encode()), Ok(header()));
        assert_eq!(header().row_start(100), 307_456, "the bytes of Storage V2's 100 x 768");
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let good = header().encode();
        for at in 0..good.len() {
            for flip in (0..8).map(|bit| 1 << bit).chain([0xFF]) {
                let mut bad = good;
                bad[at] ^= flip;
                assert!(Header::decode(&bad).is_err(), "byte {at} ^ {flip:#x}");
            }
            assert!(Header::decode(&good[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn newer_things_are_refused_by_name() {
        let patched = |at: usize, byte: u8| {
            let mut bytes = header().encode();
            bytes[at] = byte;
            let crc = crc32c(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            Header::decode(&bytes)
        };
        assert_eq!(patched(8, 2), Err(DecodeError::Unsupported("format version", 2, 1)));
        assert_eq!(patched(16, 2), Err(DecodeError::Unsupported("element type", 2, 1)));
        assert_eq!(patched(100, 9), Err(DecodeError::Unsupported("header flag", 9, 0)));
        assert_eq!(patched(20, 1), Err(DecodeError::Unsupported("header flag", 1, 0)));
    }
}
