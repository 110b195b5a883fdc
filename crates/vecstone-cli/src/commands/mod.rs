//! One file per command.

pub(crate) mod backup;
pub(crate) mod compact;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod migrate;
pub(crate) mod optimize;
pub(crate) mod repair;
pub(crate) mod search;
pub(crate) mod tune;
pub(crate) mod verify;
