//! Making durable what is written, for all who wait for it at once.

use super::{Engine, Goal, State, Writer};
use crate::error::{Error, Result};
use crate::sync::{Instant, MutexGuard};
use crate::view::View;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

impl Engine {
    /// What has to be durable for everything accepted until now to be.
    pub(crate) fn goal(&self) -> Goal {
        let state = self.state();
        Goal { ops: state.buffer.next(), seq: self.published.load().seq }
    }

    /// Returns when everything accepted until now is durable.
    pub(crate) fn flush(&self) -> Result<()> {
        if let Some(first) = &self.state().failure {
            return Err(Error::Poisoned { first: first.clone() });
        }
        self.wait_for(self.goal())
    }

    /// Returns when `goal` is durable: leads a sync, or waits for the one that is under way.
    pub(crate) fn wait_for(&self, goal: Goal) -> Result<()> {
        let mut state = self.state();
        state.arrived += 1;
        if state.expecting && state.arrived >= state.company {
            self.company.notify_one();
        }
        loop {
            if goal.is_reached(state.durable) {
                return Ok(());
            }
            if let Some(first) = &state.failure {
                return Err(Error::Poisoned { first: first.clone() });
            }
            if state.syncing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            state = self.wait_for_company(state);
            let served = std::mem::take(&mut state.arrived);
            drop(state);
            let round = self.round();
            state = self.state();
            state.syncing = false;
            // All of them may come back before the next sync.
            state.company = served + state.arrived;
            self.changed.notify_all();
            round?;
        }
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

    /// Waits for the sync place and runs `work` in it.
    pub(crate) fn in_sync_place<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = self.state();
        while state.syncing {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.syncing = true;
        drop(state);
        let done = work();
        self.state().syncing = false;
        self.changed.notify_all();
        done
    }

    /// Writes what is accepted and syncs what is written; in the sync place.
    fn round(&self) -> Result<()> {
        let mut writer = self.writer();
        self.write_all(&mut writer)?;
        let pending = match writer.pair.pending() {
            Ok(pending) => pending,
            Err(error) => return Err(self.failed(&mut writer, error)),
        };
        let (view, ops) = (self.published.load_full(), writer.ops);
        let start = Instant::now();
        if let Some(pending) = pending {
            drop(writer);
            let synced = pending.sync();
            writer = self.writer();
            let noted = writer.pair.note(&synced);
            if let Err(error) = writer.pair.finish(pending, synced, noted) {
                return Err(self.failed(&mut writer, error));
            }
        }
        self.became_durable(&mut writer, view, ops, start.elapsed());
        Ok(())
    }

    pub(crate) fn became_durable(&self, writer: &mut Writer, view: Arc<View>, ops: u64, took: Duration) {
        let mut state = self.state();
        state.durable = Goal { ops: ops.max(state.durable.ops), seq: view.seq.max(state.durable.seq) };
        writer.durable_view = view;
        state.last_sync = took;
        if self.is_settled(&state) {
            (state.dirty_since, state.setback) = (None, None);
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
        // Those who wait without a future are woken when the sync place is free.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Whether everything accepted is durable.
    pub(crate) fn is_settled(&self, state: &State) -> bool {
        state.buffer.is_empty() && self.published.load().seq == state.durable.seq
    }

    /// After an error: if the files are in an unknown state now, writing stops and readers see what is durable.
    pub(crate) fn failed(&self, writer: &mut Writer, error: Error) -> Error {
        if !writer.pair.is_poisoned() {
            return error;
        }
        let mut state = self.state();
        if state.failure.is_none() {
            state.failure = Some(Arc::new(error.clone()));
            state.buffer.clear();
            self.buffered.store(0, Ordering::Release);
            self.published.store(writer.durable_view.clone());
            // What it was made from is not shown any more.
            state.overlay = None;
        }
        let woken: Vec<Waker> = state.wakers.drain(..).map(|(_, waker)| waker).collect();
        drop(state);
        self.room.notify_all();
        self.changed.notify_all();
        woken.into_iter().for_each(Waker::wake);
        error
    }

    /// Whether `goal` is durable, or never will be; else `waker` is woken then, and the background starts at once.
    pub(crate) fn poll(&self, goal: Goal, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.state();
        if goal.is_reached(state.durable) {
            return Some(Ok(()));
        }
        if let Some(first) = &state.failure {
            return Some(Err(Error::Poisoned { first: first.clone() }));
        }
        if let Some(error) = &state.setback {
            return Some(Err(error.clone()));
        }
        self.start_threads(&mut state);
        if state.alone {
            // Nobody else would do it.
            drop(state);
            return Some(self.wait_for(goal));
        }
        // A future that is polled again and again waits once.
        if !state.wakers.iter().any(|(known, other)| *known == goal && other.will_wake(waker)) {
            state.wakers.push((goal, waker.clone()));
        }
        if state.closing {
            // Closing flushes, and wakes whoever waits.
            return None;
        }
        state.urgent = true;
        self.work.notify_all();
        None
    }

    /// Wakes all who wait for durability in a future: after a setback they see it.
    pub(crate) fn wake_all(&self) {
        let woken: Vec<Waker> = self.state().wakers.drain(..).map(|(_, waker)| waker).collect();
        woken.into_iter().for_each(Waker::wake);
    }
}
