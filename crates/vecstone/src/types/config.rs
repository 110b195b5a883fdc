//! What a store is made with, and the limits that every part keeps to.

use crate::types::error::{Error, Result};
use crate::types::id::IdHasher;

/// The largest dimension of a vector.
pub const MAX_DIM: u32 = 65_536;
/// The most bytes that a store's attributes may have as JSON text (960 KiB): 64 KiB of their place are left to others.
pub const MAX_ATTRIBUTES_BYTES: u64 = (1 << 20) - (64 << 10);
/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 65_536;
/// The most bytes that one call may give a batch of rows, of ids and of documents each (1 GiB). Documents that puts
/// keep do not count.
pub const MAX_BATCH_BYTES: u64 = 1 << 30;
/// The most bytes that one document may have, its line break included (1 GiB).
pub(crate) const MAX_LINE_BYTES: u64 = 1 << 30;
/// The most puts and deletes that one batch may hold (4,194,304).
pub const MAX_BATCH_RECORDS: usize = 1 << 22;
/// The most rows of one segment: row numbers are 32 bits wide.
pub const MAX_ROWS: u64 = u32::MAX as u64;

/// How far two vectors are from each other; smaller is nearer. Kept in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Metric {
    /// The sum of the squared differences.
    L2 = 1,
    /// One minus the inner product.
    Ip = 2,
    /// One minus the cosine of the angle; 1 if either vector is all zeros.
    #[default]
    Cosine = 3,
}

impl Metric {
    pub(crate) fn from_byte(byte: u8) -> Option<Metric> {
        [Metric::L2, Metric::Ip, Metric::Cosine].into_iter().find(|m| *m as u8 == byte)
    }

    /// The name used on the command line and in `info`: `l2`, `ip` or `cosine`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::L2 => "l2",
            Metric::Ip => "ip",
            Metric::Cosine => "cosine",
        }
    }
}

/// How one component of a row is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Element {
    /// 32-bit IEEE 754, little-endian.
    #[default]
    F32 = 1,
    // 2 f16, 3 bf16, 4 i8, 5 bits: reserved in the format, refused by this release.
}

impl Element {
    pub(crate) fn from_byte(byte: u8) -> Option<Element> {
        (byte == Element::F32 as u8).then_some(Element::F32)
    }

    /// Bytes of one component.
    pub fn bytes(self) -> u64 {
        4
    }

    /// The name used in `info`: `f32`.
    pub fn name(self) -> &'static str {
        "f32"
    }
}

/// What never changes in a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema {
    pub(crate) uuid: [u8; 16],
    pub(crate) dim: u32,
    pub(crate) element: Element,
    pub(crate) metric: Metric,
}

impl Schema {
    pub(crate) fn hasher(&self) -> IdHasher {
        IdHasher::new(&self.uuid)
    }

    /// Bytes of one row.
    pub(crate) fn stride(&self) -> u64 {
        u64::from(self.dim) * self.element.bytes()
    }
}

/// The largest element number this release reads.
pub(crate) const ELEMENT_NEWEST: u64 = Element::F32 as u64;

pub(crate) fn check_dim(dim: u32) -> Result<()> {
    if dim == 0 || dim > MAX_DIM {
        return Err(Error::InvalidDim { dim: u64::from(dim) });
    }
    Ok(())
}

/// Refuses NaN and infinity, naming the first by row and component.
pub(crate) fn check_finite(row: usize, vector: &[f32]) -> Result<()> {
    #[cfg(test)]
    if crate::sys::planted::is(crate::sys::planted::Bug::UncheckedInput) {
        return Ok(());
    }
    // The sum of x * 0 is 0 exactly if every x is finite; many lanes let the compiler keep several vector
    // registers busy.
    let mut lanes = [0f32; 32];
    let mut chunks = vector.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * 0.0;
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|x| x * 0.0).sum();
    if lanes.iter().sum::<f32>() + rest == 0.0 {
        return Ok(());
    }
    let component = vector.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(Error::NonFinite { row, component })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finite_check_names_row_and_component() {
        assert!(check_finite(0, &[f32::MAX, -f32::MAX, f32::MIN_POSITIVE, 0.0, -0.0]).is_ok());
        for dim in [1, 7, 31, 32, 33, 65] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..dim {
                    let mut vector = vec![1.5f32; dim];
                    vector[at] = bad;
                    let found = check_finite(3, &vector);
                    assert!(
                        matches!(found, Err(Error::NonFinite { row: 3, component }) if component == at),
                        "dim {dim}, {bad} at {at}: {found:?}"
                    );
                }
            }
        }
    }
}
