//! Making durable what is written, for all who wait for it at once.

use super::{Engine, Goal, Health, Lifecycle, State, SyncPermit, Writer};
use crate::error::{Error, Result};
use crate::sync::{Instant, MutexGuard, caught};
use crate::view::View;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

impl Engine {
    /// What has to be durable for everything accepted until now to be, unless writing stopped.
    pub(crate) fn goal(&self) -> Result<Goal> {
        let state = self.state();
        state.check_health()?;
        Ok(Goal { ops: state.buffer.next(), seq: self.published.load().seq })
    }

    /// Returns when everything accepted until now is durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.wait_for(self.goal()?)
    }

    /// Returns when `goal` is durable: leads a sync, or waits for the one that is under way.
    pub(crate) fn wait_for(&self, goal: Goal) -> Result<()> {
        let mut state = self.state();
        state.arrived += 1;
        if state.expecting && state.arrived >= state.company {
            self.company.notify_one();
        }
        let mut waited = false;
        loop {
            if goal.is_reached(state.durable) {
                drop(state);
                // Whoever led the sync that was waited for has asked.
                return if waited { Ok(()) } else { self.check_place() };
            }
            waited = true;
            state.check_health()?;
            if state.syncing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // What it could not write stays in the buffer, and this caller's write with it.
            self.lead(state).map_err(|error| self.or_moved(error.kept(true)))?;
            state = self.state();
        }
    }

    /// Takes the sync permit, which is free, and commits for all who are waiting.
    fn lead(&self, mut state: MutexGuard<'_, State>) -> Result<()> {
        let permit = SyncPermit::take(self, &mut state);
        let mut state = self.wait_for_company(state);
        let served = std::mem::take(&mut state.arrived);
        drop(state);
        let outcome = self.guarded(|| self.group_commit(&permit));
        let mut state = self.state();
        // All of them may come back before the next sync.
        state.company = served + state.arrived;
        drop(state);
        outcome
    }

    /// A leader that had company in the last sync gives it a moment to come back: at most a quarter of that sync.
    fn wait_for_company<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let until = Instant::now() + state.last_sync / 4;
        while state.arrived < state.company {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.expecting = true;
            state = self.company.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.expecting = false;
        }
        state
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
        state.durable = Goal { ops: ops.max(state.durable.ops), seq: view.seq.max(state.durable.seq) };
        writer.durable_view = view;
        state.last_sync = took;
        if self.is_settled(&state) {
            state.dirty_since = None;
            state.recover();
        } else if state.dirty_since.is_some() {
            state.dirty_since = Some(Instant::now());
        }
        let durable = state.durable;
        let woken: Vec<Waker> = state
            .wakers
            .extract_if(.., |(goal, _)| goal.is_reached(durable))
            .map(|(_, waker)| waker)
            .collect();
        drop(state);
        // Those who wait without a future are woken when the sync permit is free.
        wake(woken);
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
        match self.check_place() {
            Err(moved) if moved.stops_writing() && !error.stops_writing() => moved,
            _ => error,
        }
    }

    /// See [`Stats::unsteady_inodes`](crate::Stats::unsteady_inodes).
    pub(crate) fn is_unsteady(&self) -> bool {
        self.lock.upgrade().is_some_and(|lock| lock.is_unsteady())
    }

    /// Whether everything accepted is durable.
    pub(crate) fn is_settled(&self, state: &State) -> bool {
        state.buffer.is_empty() && self.published.load().seq == state.durable.seq
    }

    /// After an error: if the files are in an unknown state now, writing stops and readers see what is durable.
    pub(crate) fn failed(&self, writer: &mut Writer, error: Error) -> Error {
        if !writer.pair.has_failed() {
            return error;
        }
        let mut state = self.state();
        if !state.has_failed() {
            state.health = Health::Failed(Arc::new(error.clone()));
            state.buffer.reset();
            self.buffered.store(0, Ordering::Release);
            self.published.store(writer.durable_view.clone());
            // What it was made from is not shown any more.
            state.overlay = None;
        }
        let woken: Vec<Waker> = state.wakers.drain(..).map(|(_, waker)| waker).collect();
        drop(state);
        self.room.notify_all();
        self.changed.notify_all();
        wake(woken);
        error
    }

    /// Whether `goal` is durable, or never will be; else `waker` is woken then, and the background starts at once.
    pub(crate) fn poll(&self, goal: Goal, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state();
        if goal.is_reached(state.durable) {
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
            return Some(self.wait_for(goal));
        }
        // A future that is polled again and again waits once.
        if !state.wakers.iter().any(|(known, other)| *known == goal && other.will_wake(waker)) {
            state.wakers.push((goal, waker.clone()));
        }
        if state.lifecycle == Lifecycle::Closing {
            // Closing flushes, and wakes all who wait.
            return None;
        }
        state.urgent = true;
        self.work.notify_all();
        None
    }

    /// Wakes all who wait for durability in a future: after a setback they see it.
    pub(crate) fn wake_all(&self) {
        let woken: Vec<Waker> = self.state().wakers.drain(..).map(|(_, waker)| waker).collect();
        wake(woken);
    }
}

/// Wakers are code of the caller's: a panic of theirs is not the store's.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        _ = caught(|| waker.wake());
    }
}
