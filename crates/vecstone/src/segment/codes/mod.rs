//! Codes: what a search reads instead of vectors. Rows are grouped by their nearest centre, and of each row the difference
//! from it is kept in 4 bits a component, with bounds on what that leaves out.

pub(crate) mod build;
pub(crate) mod centres;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod file;
pub(crate) mod frame;
pub(crate) mod pages;
