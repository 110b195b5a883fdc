//! The two locks under which files change, each held by one thread at a time, and what a panic under them does.
//!
//! A panic is a bug, and what it left half done must not be built upon: writing stops as after a failed sync, before
//! another thread gets the lock, and all who wait are told. A lock is given back whatever happens.

use super::group_commit::wake;
use super::{Engine, SyncPermit, Writer};
use crate::sys::sync::{caught, unpoisoned};
use crate::types::error::{Error, Result};
use std::any::Any;
use std::sync::Arc;

impl Engine {
    /// Waits for the writer's lock and runs `work` under it. Where that panics, writing stops before another thread gets
    /// the lock.
    pub(crate) fn with_writer_lock<T>(&self, work: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        let mut writer = unpoisoned(self.writer.lock());
        caught(|| work(&mut writer)).unwrap_or_else(|panic| Err(self.panicked(&mut writer, &*panic)))
    }

    /// Waits for the sync permit, then for the writer's lock, and runs `work` with both.
    pub(crate) fn with_sync_permit<T>(
        &self,
        work: impl FnOnce(&SyncPermit<'_>, &mut Writer) -> Result<T>,
    ) -> Result<T> {
        let permit = self.commits.permit();
        self.guarded(|| self.with_writer_lock(|writer| work(&permit, writer)))
    }

    /// Runs `work`, which holds nothing of the engine when it returns. Where it panics, writing stops.
    pub(crate) fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        caught(work)
            .unwrap_or_else(|panic| self.with_writer_lock(|writer| Err(self.panicked(writer, &*panic))))
    }

    /// Stops writing after a panic.
    fn panicked(&self, writer: &mut Writer, panic: &(dyn Any + Send)) -> Error {
        let error = writer.pair.failed(Error::panicked(panic));
        self.failed(writer, error)
    }

    /// After an error: if the files are in an unknown state now, writing stops and readers see what is durable.
    pub(crate) fn failed(&self, writer: &mut Writer, error: Error) -> Error {
        if !writer.pair.has_failed() {
            return error;
        }
        let mut state = self.buffer.lock();
        if !state.has_failed() {
            let first = Arc::new(error.clone());
            self.commits.fail(&first);
            self.buffer.fail(&mut state, first);
            self.published.publish(writer.durable_version.clone());
        }
        drop(state);
        self.buffer.notify_space();
        self.commits.notify();
        self.wake_all();
        error
    }

    /// Wakes all who wait for durability in a future: after an error they see it.
    pub(crate) fn wake_all(&self) {
        wake(self.commits.take_wakers());
    }
}
