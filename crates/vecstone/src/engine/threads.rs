//! What runs in the background: one thread writes the buffer when it fills, one syncs within the flush interval, one
//! indexes and compacts. They start with the first write and end with the store.

use crate::engine::{Accepting, Engine, Health, Lifecycle, Workers};
use crate::sys::disk::fork;
use crate::sys::sync::{Instant, thread, unpoisoned};
use crate::types::error::Error;
use std::time::Duration;

/// What a thread does until the store closes.
type Job = fn(&Engine);

/// After an error in the background: when it is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// After so long without a write, memory that the buffer keeps for the next burst goes back to the system.
const IDLE: Duration = Duration::from_secs(2);

impl Engine {
    /// Starts the threads, once. Without them (the system refuses) calls do the work themselves when they must.
    pub(crate) fn start_threads(&self, state: &mut Accepting) {
        if state.workers != Workers::NotStarted {
            return;
        }
        state.workers = Workers::Running;
        let Some(engine) = self.me() else { return };
        let mut threads = self.maintenance.threads();
        let jobs: [(&str, Job); 3] =
            [("vecstone-write", write), ("vecstone-flush", flush), ("vecstone-tidy", tidy)];
        for (name, job) in jobs {
            let engine = engine.clone();
            match thread::Builder::new()
                .name(name.into())
                .spawn(fork::between_forks(move || run(&engine, job)))
            {
                Ok(thread) => threads.push(thread),
                Err(_) => state.workers = Workers::Lacking,
            }
        }
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop_threads(&self) {
        self.buffer.lock().lifecycle = Lifecycle::Closing;
        self.buffer.work.notify_all();
        self.maintenance.stop();
        let threads = std::mem::take(&mut *self.maintenance.threads());
        for thread in threads {
            // A panic there was printed there.
            _ = thread.join();
        }
    }

    /// Remembers that the background, or closing, could not write: the next call reports it.
    pub(crate) fn set_back(&self, error: Error) {
        let mut state = self.buffer.lock();
        // Unless somebody else made everything durable meanwhile: nobody would try again.
        if !error.stops_writing() && !self.is_settled(&state) {
            if !state.has_failed() {
                state.health = Health::BackgroundError(error);
            }
            state.dirty_since.get_or_insert_with(Instant::now);
        }
        drop(state);
        self.wake_all();
        self.buffer.notify_space();
        self.commits.notify();
    }
}

/// Does a job until the store closes. Where it panics, all who wait for it are told.
fn run(engine: &Engine, job: Job) {
    _ = engine.guarded(|| {
        job(engine);
        Ok(())
    });
}

/// Writes the buffer when it is half full.
fn write(engine: &Engine) {
    let half = engine.settings.buffer_bytes / 2;
    let mut state = engine.buffer.lock();
    while state.lifecycle == Lifecycle::Open {
        if state.buffer.bytes() <= half || state.buffer.is_empty() {
            state = unpoisoned(engine.buffer.work.wait(state));
            continue;
        }
        drop(state);
        engine.hooks.here("write thread");
        if let Err(error) = engine.drain() {
            engine.set_back(error);
            thread::sleep(RETRY);
        }
        state = engine.buffer.lock();
        if state.has_failed() {
            return;
        }
    }
}

/// Makes durable what was accepted, within the flush interval.
fn flush(engine: &Engine) {
    let mut state = engine.buffer.lock();
    while state.lifecycle == Lifecycle::Open {
        let due = state.dirty_since.map(|since| since + engine.settings.flush_interval);
        let now = Instant::now();
        let wait = match due {
            _ if state.urgent => Duration::ZERO,
            Some(due) => due.saturating_duration_since(now),
            None => IDLE,
        };
        if !wait.is_zero() {
            let (woken, waited) = unpoisoned(engine.buffer.work.wait_timeout(state, wait));
            state = woken;
            if waited.timed_out() && state.dirty_since.is_none() && state.buffer.is_empty() {
                state.buffer.release();
            }
            continue;
        }
        state.urgent = false;
        engine.hooks.here("flush thread");
        drop(state);
        if let Err(error) = engine.flush() {
            engine.set_back(error);
            thread::sleep(RETRY);
        }
        state = engine.buffer.lock();
        if state.has_failed() {
            return;
        }
    }
}

/// Builds side files that are missing, and compacts those with too many dead rows.
fn tidy(engine: &Engine) {
    while engine.maintenance.wait_until_due(|| engine.take_damage_notice()) {
        engine.hooks.here("tidy thread");
        // What fails here is tried again later; `stats` and `compact` say why.
        engine.confirm_in_background();
        engine.build_in_background();
        engine.compact_in_background();
        engine.maintenance.pause();
    }
}
