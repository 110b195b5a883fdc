//! Values without files: errors, ids, limits, options, documents.

pub(crate) mod config;
pub(crate) mod counted;
pub(crate) mod document;
pub(crate) mod element;
pub(crate) mod error;
pub(crate) mod id;
pub(crate) mod memory;
pub(crate) mod name;
pub(crate) mod options;
pub(crate) mod recovery;
pub(crate) mod schema;
