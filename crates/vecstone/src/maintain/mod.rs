//! Every byte of a store checked, saved, copied, counted.

pub(crate) mod backup;
pub(crate) mod repair;
pub(crate) mod salvage;
pub(crate) mod stats;
pub(crate) mod verify;
