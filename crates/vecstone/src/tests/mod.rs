//! White-box tests: the promise of the crate, tried on a simulated disk.
//!
//! The promise: after any crash, a reopen shows exactly the batches up to some point, none of those that a flush
//! returned for is missing, and what was seen once never goes.

mod agree;
mod ask;
mod beside;
mod buffer;
mod coded;
mod compact;
mod contradicted;
mod corrupt;
mod crash;
mod cut;
mod fault;
mod few;
mod forged;
mod golden;
mod growth;
mod held;
mod hostile;
mod interrupt;
mod kept;
mod later;
mod lost;
mod lying;
mod machine;
pub(crate) mod model;
mod moved;
mod optimize;
mod pair;
mod panic;
mod planted;
mod refresh;
mod repair;
mod second;
#[cfg(feature = "shuttle")]
mod shuttle;
mod side;
mod unfinished;
mod unread;
mod verify;
