#![doc = include_str!("format.md")]

pub(crate) mod deletions;
pub(crate) mod header;
pub(crate) mod manifest;
pub(crate) mod record;

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// The format version this release writes, in `.dat` headers and MANIFEST.
pub(crate) const VERSION: u32 = 1;

/// The largest sequence of a batch, and the largest number of a MANIFEST.
pub(crate) const MAX_SEQ: u64 = (1 << 63) - 1;

/// A position in the log's hash chain.
pub(crate) type Chain = [u8; 16];

/// CRC32C of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a 64-bit return type")]
    let crc = crc_fast::checksum(Crc32Iscsi, bytes) as u32;
    crc
}

/// CRC32C of `seed` (little-endian) followed by `bytes`.
fn crc32c_seeded(seed: u64, bytes: &[u8]) -> u32 {
    let mut crc = Crc::seeded(seed);
    crc.update(bytes);
    crc.finish()
}

/// A CRC32C that is taken piece by piece.
pub(crate) struct Crc(crc_fast::Digest);

impl Crc {
    fn seeded(seed: u64) -> Crc {
        let mut digest = crc_fast::Digest::new(Crc32Iscsi);
        digest.update(&seed.to_le_bytes());
        Crc(digest)
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a 64-bit return type")]
        let crc = self.0.finalize() as u32;
        crc
    }
}

/// What makes one pair of files different from every other: all its checksums depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The store's.
    pub(crate) uuid: [u8; 16],
    /// Segment number, from 1.
    pub(crate) segment: u64,
    /// Random, new for each pair: nobody can prepare bytes that pass for a record.
    pub(crate) salt: [u8; 16],
}

impl Identity {
    /// The checksum of a `.dat` row: depends on its place, so that swapped rows are found. Row numbers have 32 bits
    /// and a CRC tells any two 32-bit prefixes apart, so equal rows never have equal checksums.
    pub(crate) fn row_crc(&self, row: u64, bytes: &[u8]) -> u32 {
        crc32c_seeded(self.seed() ^ row, bytes)
    }

    /// The checksum of a line of `.jsonl`, its newline included; depends on the row as that of a row does.
    pub(crate) fn line_crc(&self, row: u64, line: &[u8]) -> u32 {
        crc32c_seeded(self.seed().rotate_left(32) ^ row, line)
    }

    /// The same, of a line that is handed over piece by piece.
    pub(crate) fn line_crc_of_pieces(&self, row: u64) -> Crc {
        Crc::seeded(self.seed().rotate_left(32) ^ row)
    }

    /// The checksum of a control record's head.
    pub(crate) fn control_crc(&self, bytes: &[u8]) -> u32 {
        crc32c_seeded(!self.seed(), bytes)
    }

    /// Starts the hash that carries the chain from one COMMIT to the next.
    pub(crate) fn chain_from(&self, previous: &Chain) -> blake3::Hasher {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.uuid);
        key[16..].copy_from_slice(&self.salt);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(previous);
        hasher
    }

    fn seed(&self) -> u64 {
        let (low, high) = self.salt.split_at(8);
        let low = u64::from_le_bytes(low.try_into().unwrap_or_default());
        let high = u64::from_le_bytes(high.try_into().unwrap_or_default());
        low ^ high.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.segment
    }
}

/// The first half of a BLAKE3 hash.
pub(crate) fn chain_of(hasher: &blake3::Hasher) -> Chain {
    let mut chain = [0; 16];
    chain.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    chain
}

/// Reads fields one after the other; `None` past the end, so that no length from a file is trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Identity = Identity { uuid: [1; 16], segment: 1, salt: [2; 16] };

    #[test]
    fn crc32c_is_the_castagnoli_one() {
        // The check value of the CRC catalogue, CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c_seeded(u64::from_le_bytes(*b"12345678"), b"9"), 0xE306_9283);
    }

    #[test]
    fn row_checksums_depend_on_place_and_pair() {
        let row = [7u8; 16];
        let other = Identity { segment: 2, ..A };
        let salted = Identity { salt: [3; 16], ..A };
        let crcs: std::collections::HashSet<u32> = (0..1000).map(|n| A.row_crc(n, &row)).collect();
        assert_eq!(crcs.len(), 1000, "places collide");
        assert_ne!(A.row_crc(0, &row), other.row_crc(0, &row));
        assert_ne!(A.row_crc(0, &row), salted.row_crc(0, &row));
        assert_ne!(A.row_crc(0, &row), A.control_crc(&row[..15]));
    }

    #[test]
    fn fields_stop_at_the_end() {
        let mut fields = Fields(&[1, 2, 0, 3]);
        assert_eq!((fields.u8(), fields.u16(), fields.u32()), (Some(1), Some(2), None));
        assert_eq!(fields.bytes(1), Some(&[3u8][..]));
        assert_eq!(fields.u8(), None);
    }
}
