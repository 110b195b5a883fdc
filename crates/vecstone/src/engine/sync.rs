//! Making durable what is written, for all who wait for it at once.

use super::group_commit::Reached;
use super::{DurabilityTarget, Engine, Health, Lifecycle, State, SyncPermit, Writer};
use crate::error::{Error, Result};
use crate::sync::{Instant, caught};
use crate::view::View;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

impl Engine {
    /// What has to be durable for everything accepted until now to be, unless writing stopped.
    pub(crate) fn accepted(&self) -> Result<DurabilityTarget> {
        let state = self.state();
        state.check_health()?;
        Ok(DurabilityTarget { ops: state.buffer.next(), seq: self.published.load().seq })
    }

    /// Returns when everything accepted until now is durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.wait_for(self.accepted()?)
    }

    /// Returns when `target` is durable.
    pub(crate) fn wait_for(&self, target: DurabilityTarget) -> Result<()> {
        let reached = self.commits.wait_for(target, |permit| self.guarded(|| self.group_commit(permit)));
        // What could not be written stays in the buffer, and this caller's write with it.
        match reached.map_err(|error| self.or_moved(error.kept(true)))? {
            Reached::Before => self.check_place(),
            // The leader has asked.
            Reached::BySync => Ok(()),
        }
    }

    /// Writes what is accepted and syncs what is written. The next group may be written while the disk syncs.
    fn group_commit(&self, permit: &SyncPermit<'_>) -> Result<()> {
        let written = self.with_writer_lock(|writer| {
            self.write_all(permit, writer)?;
            let pending = writer.pair.begin_commit().map_err(|error| self.failed(writer, error))?;
            let (view, ops) = (self.published.load_full(), writer.ops);
            let Some(pending) = pending else {
                self.became_durable(permit, writer, view, ops, Duration::ZERO)?;
                return Ok(None);
            };
            Ok(Some((pending, view, ops)))
        })?;
        let Some((pending, view, ops)) = written else { return Ok(()) };
        let start = Instant::now();
        let synced = pending.sync();
        self.hooks.here("sync");
        self.with_writer_lock(|writer| {
            writer.pair.finish_commit(pending, synced).map_err(|error| self.failed(writer, error))?;
            self.became_durable(permit, writer, view, ops, start.elapsed())
        })
    }

    /// Announces what is durable, if the store is still where its path says.
    ///
    /// # Errors
    ///
    /// As [`stop_if_moved`](Self::stop_if_moved): nothing is announced then.
    pub(crate) fn became_durable(
        &self,
        permit: &SyncPermit<'_>,
        writer: &mut Writer,
        view: Arc<View>,
        ops: u64,
        took: Duration,
    ) -> Result<()> {
        self.stop_if_moved(permit, writer)?;
        let mut state = self.state();
        self.hooks.here("durable");
        // Under the state's lock, as whether an error of the background still counts depends on both.
        let wakers = self.commits.advance(DurabilityTarget { ops, seq: view.seq }, took);
        writer.durable_view = view;
        if self.is_settled(&state) {
            state.dirty_since = None;
            state.recover();
        } else if state.dirty_since.is_some() {
            state.dirty_since = Some(Instant::now());
        }
        drop(state);
        wake(wakers);
        Ok(())
    }

    /// Before anything is acknowledged: is the store still where its path says? If it is not, what was accepted is made
    /// durable where it is, and writing stops.
    ///
    /// # Errors
    ///
    /// [`Error::StoreMoved`], [`Error::LockRemoved`]; [`Error::Io`] if nobody can tell now: it is asked again.
    pub(crate) fn stop_if_moved(&self, _: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        // Without LOCK the store is closed, and everything was asked.
        let Some(lock) = self.lock.upgrade() else { return Ok(()) };
        let Err(error) = lock.check() else { return Ok(()) };
        if !error.stops_writing() || writer.pair.has_failed() {
            return Err(error);
        }
        if lock.has_a_name() {
            let ops = self.state().buffer.next();
            // A new segment would need a MANIFEST.
            let rescued = self.write_until(writer, ops).and_then(|_| writer.pair.commit());
            if rescued.is_ok() {
                writer.durable_view = self.published.load_full();
            }
        }
        let error = writer.pair.failed(error);
        Err(self.failed(writer, error))
    }

    /// The same for a caller that has nothing to wait for.
    pub(crate) fn check_place(&self) -> Result<()> {
        match self.lock.upgrade().map_or(Ok(()), |lock| lock.check()) {
            Err(error) if error.stops_writing() => {
                self.with_sync_permit(|permit, writer| self.stop_if_moved(permit, writer))
            }
            checked => checked,
        }
    }

    /// That the store was moved, if it was.
    pub(crate) fn moved(&self) -> Option<Error> {
        self.lock.upgrade()?.check().err().filter(Error::stops_writing)
    }

    /// Why a call failed: if the store was moved, that.
    pub(crate) fn or_moved(&self, error: Error) -> Error {
        if error.stops_writing() {
            return error;
        }
        match self.check_place() {
            Err(moved) if moved.stops_writing() => moved,
            _ => error,
        }
    }

    /// See [`Stats::unsteady_inodes`](crate::Stats::unsteady_inodes).
    pub(crate) fn is_unsteady(&self) -> bool {
        self.lock.upgrade().is_some_and(|lock| lock.is_unsteady())
    }

    /// Whether everything accepted is durable.
    pub(crate) fn is_settled(&self, state: &State) -> bool {
        state.buffer.is_empty() && self.published.load().seq == self.commits.durable().seq
    }

    /// After an error: if the files are in an unknown state now, writing stops and readers see what is durable.
    pub(crate) fn failed(&self, writer: &mut Writer, error: Error) -> Error {
        if !writer.pair.has_failed() {
            return error;
        }
        let mut state = self.state();
        if !state.has_failed() {
            let first = Arc::new(error.clone());
            self.commits.fail(&first);
            state.health = Health::Failed(first);
            state.buffer.reset();
            self.buffered.store(0, Ordering::Release);
            self.published.store(writer.durable_view.clone());
            // What it was made from is not shown any more.
            state.overlay = None;
        }
        drop(state);
        self.room.notify_all();
        self.commits.notify();
        self.wake_all();
        error
    }

    /// Whether `target` is durable, or never will be; else `waker` is woken then, and the background starts at once.
    pub(crate) fn poll(&self, target: DurabilityTarget, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state();
        if self.commits.is_durable(target) {
            drop(state);
            return Some(self.check_place());
        }
        match &state.health {
            Health::Failed(first) => return Some(Err(Error::Poisoned { first: first.clone() })),
            Health::BackgroundError(error) => return Some(Err(error.clone().kept(true))),
            Health::Good => {}
        }
        self.start_threads(&mut state);
        if state.workers.are_missing() {
            // No thread would do it.
            drop(state);
            return Some(self.wait_for(target));
        }
        self.commits.wake_at(target, waker);
        if state.lifecycle == Lifecycle::Closing {
            // Closing flushes, and wakes all who wait.
            return None;
        }
        state.urgent = true;
        self.work.notify_all();
        None
    }

    /// Wakes all who wait for durability in a future: after an error they see it.
    pub(crate) fn wake_all(&self) {
        wake(self.commits.take_wakers());
    }
}

/// Wakers are code of the caller's: a panic of theirs is not the store's.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        _ = caught(|| waker.wake());
    }
}
