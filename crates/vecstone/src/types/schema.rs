//! What a store is, as a whole.

use crate::types::config::Metric;
use crate::types::element::Element;
use crate::types::id::IdHasher;

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
        self.element.stride(self.dim)
    }
}
