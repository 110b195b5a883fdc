//! The places in which files change, each for one thread at a time, and what a panic there does.
//!
//! A panic is a bug, and what it left half done must not be built upon: writing stops as after a failed sync, before
//! anybody else gets to the place, and all who wait are told. The places are given back whatever happens.

use super::{Engine, Writer};
use crate::error::{Error, Result};
use crate::sync::caught;
use std::any::Any;
use std::sync::PoisonError;

impl Engine {
    /// Waits for the writer's place and runs `work` in it. Where that panics, writing stops before anybody else gets there.
    pub(crate) fn in_writers_place<T>(&self, work: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        caught(|| work(&mut writer)).unwrap_or_else(|panic| Err(self.panicked(&mut writer, &*panic)))
    }

    /// Runs `work`, which holds nothing of the engine when it returns. Where it panics, writing stops.
    pub(crate) fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        caught(work)
            .unwrap_or_else(|panic| self.in_writers_place(|writer| Err(self.panicked(writer, &*panic))))
    }

    /// Waits for the sync place and runs `work` in it.
    pub(crate) fn in_sync_place<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = self.state();
        while state.syncing {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.syncing = true;
        drop(state);
        let _place = SyncPlace(self);
        self.guarded(work)
    }

    /// Waits for both places and runs `work` in them: where segments are sealed and MANIFEST is replaced.
    pub(crate) fn in_both_places<T>(&self, work: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        self.in_sync_place(|| self.in_writers_place(work))
    }

    /// Stops writing after a panic in the writer's place, or of somebody who held no place.
    pub(super) fn panicked(&self, writer: &mut Writer, panic: &(dyn Any + Send)) -> Error {
        let error = writer.pair.failed(Error::panicked(panic));
        self.failed(writer, error)
    }
}

/// Lets go of the sync place when it is dropped, however that comes about.
pub(super) struct SyncPlace<'a>(pub(super) &'a Engine);

impl Drop for SyncPlace<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.syncing, state.expecting) = (false, false);
        drop(state);
        self.0.changed.notify_all();
    }
}
