//! One moment of a store, and what is asked of it.

pub(crate) mod arrays;
pub(crate) mod batch_get;
pub(crate) mod bound;
pub(crate) mod coded;
pub(crate) mod distance;
pub(crate) mod explain;
pub(crate) mod filter;
pub(crate) mod scan;
pub(crate) mod search;
pub(crate) mod select;
pub(crate) mod snapshot;
