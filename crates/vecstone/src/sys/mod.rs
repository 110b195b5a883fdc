//! The system below the store: the one door to files, locks and threads, vector instructions, faults planted by tests.

pub(crate) mod disk;
pub(crate) mod interrupt;
pub(crate) mod kernel;
pub(crate) mod parallel;
pub(crate) mod planted;
pub(crate) mod sync;
