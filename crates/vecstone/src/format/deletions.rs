//! The bounds of a list of dead rows, `.del`: a roaring bitmap in its portable form.

/// Rows of a container.
const CONTAINER: u64 = 1 << 16;

/// Bytes of an empty list.
pub(crate) const MIN_BYTES: u64 = 8;

/// The most bytes of a list of so many rows: a cookie and a count; for each container its key, its size, its offset, a
/// bit that says whether it has runs, and 8 KiB.
pub(crate) fn max_bytes(rows: u64) -> u64 {
    let containers = rows.div_ceil(CONTAINER);
    MIN_BYTES + containers.div_ceil(8) + containers * (8 + CONTAINER / 8)
}

/// Bytes a container has at least: its key and size, and one row.
pub(crate) const MIN_CONTAINER: u64 = 4 + 2;

/// How many containers the header of a serialized roaring bitmap claims.
/// <https://github.com/RoaringBitmap/RoaringFormatSpec>
pub(crate) fn claimed_containers(bytes: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    match word(0)? {
        12346 => Some(u64::from(word(4)?)),
        cookie if cookie & 0xffff == 12347 => Some(u64::from(cookie >> 16) + 1),
        _ => None,
    }
}
