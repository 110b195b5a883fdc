//! What a store is made with, and the limits that every part keeps to.

use crate::types::error::{Error, Result};
use crate::types::name::named;

/// The largest dimension of a vector.
pub const MAX_DIM: u32 = 65_536;
/// The most bytes that a store's attributes may have as JSON text (960 KiB): 64 KiB of their place are left to others.
pub const MAX_ATTRIBUTES_BYTES: u64 = (1 << 20) - (64 << 10);
/// The longest name of what makes a store's vectors, in bytes.
pub const MAX_EMBED_NAME_BYTES: u64 = 1024;
/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 65_536;
/// The largest number that is an id, 2^64 - 2: one more stands for none in tables of results.
pub const MAX_ID_NUMBER: u64 = u64::MAX - 1;
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

named!(Metric, "metric");

impl Metric {
    pub(crate) const ALL: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];

    pub(crate) fn from_byte(byte: u8) -> Option<Metric> {
        Metric::ALL.into_iter().find(|m| *m as u8 == byte)
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

pub(crate) fn check_dim(dim: u32) -> Result<()> {
    if dim == 0 || dim > MAX_DIM {
        return Err(Error::InvalidDim { dim: u64::from(dim) });
    }
    Ok(())
}

pub(crate) fn check_recall(target: f32) -> Result<()> {
    // Not of NaN.
    if target > 0.0 && target <= 1.0 { Ok(()) } else { Err(Error::InvalidRecallTarget { target }) }
}
