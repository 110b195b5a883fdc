//! What the background and callers share about compaction and indexing: whose turn it is, what is due, what failed.
//!
//! This part changes no file. `compact.rs`, `close.rs` and `confirm.rs` do the work, `threads.rs` runs it.

use crate::segment::version::{SegmentVersion, Version};
use crate::sys::sync::thread::{self, JoinHandle};
use crate::sys::sync::{AtomicBool, AtomicU64, Condvar, Instant, Mutex, MutexGuard, unpoisoned};
use crate::types::error::Error;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long the background sleeps at most before it looks whether it is to give way.
const PACE: Duration = Duration::from_millis(20);
/// How long the background leaves the others alone between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long it waits at most for something to be due.
const IDLE: Duration = Duration::from_secs(2);

/// The shared state of compaction and indexing. Its locks are taken before all others, but for `due`, inside which none
/// is taken.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// Bytes in a second that the background may copy.
    speed: u64,
    /// Held by the thread that compacts.
    turn: Mutex<()>,
    /// Callers that compact, or wait for their turn: the background gives way to them.
    hurried: AtomicU64,
    failures: Mutex<CompactionFailures>,
    /// What `.ids` was dropped for.
    pub(crate) ids_error: Mutex<Option<Error>>,
    /// Bytes on the heap of the compaction that is under way, about.
    pub(crate) copying: AtomicU64,
    /// Held by the thread that indexes; sealed segments whose log is damaged.
    indexing: Mutex<HashSet<u64>>,
    /// Segments were sealed, or rows died, since the background last looked.
    due: Mutex<bool>,
    /// Something is due, or the store closes.
    wake: Condvar,
    /// Tells a running compaction to give up.
    stopped: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What compactions in the background could not do.
#[derive(Debug, Default)]
pub(crate) struct CompactionFailures {
    /// Why.
    error: Option<Error>,
    /// Number and dead rows of the segments that this is about: they are not tried again before they change.
    failed: Vec<(u64, u64)>,
}

impl CompactionFailures {
    /// The error, as long as a segment is there that it is about.
    pub(crate) fn error(&mut self, version: &Version) -> Option<&Error> {
        self.forget(|number| version.place_of(number).is_none());
        self.error.as_ref()
    }

    /// The segments that are not to be tried again as they are.
    pub(crate) fn failed(&mut self, version: &Version) -> Vec<(u64, u64)> {
        self.error(version);
        self.failed.clone()
    }

    pub(crate) fn forget(&mut self, what: impl Fn(u64) -> bool) {
        self.failed.retain(|&(number, _)| !what(number));
        if self.failed.is_empty() {
            self.error = None;
        }
    }

    pub(crate) fn add(&mut self, version: &Version, numbers: &[u64], error: Error) {
        self.forget(|number| numbers.contains(&number));
        let parts = version.segments.iter().filter(|part| numbers.contains(&part.segment.number()));
        self.failed.extend(parts.map(state_of));
        self.error = Some(error);
    }
}

/// What changes when a row of a segment dies.
pub(crate) fn state_of(part: &SegmentVersion) -> (u64, u64) {
    (part.segment.number(), part.deletions.dead())
}

/// As long as it lives, the background gives way to a caller at its next step.
pub(crate) struct Hurry<'a>(&'a Maintenance);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurried.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Maintenance {
    pub(crate) fn new(speed: u64) -> Maintenance {
        Maintenance {
            speed,
            turn: Mutex::default(),
            hurried: AtomicU64::new(0),
            failures: Mutex::default(),
            ids_error: Mutex::default(),
            copying: AtomicU64::new(0),
            indexing: Mutex::default(),
            due: Mutex::new(true),
            wake: Condvar::new(),
            stopped: AtomicBool::new(false),
            threads: Mutex::default(),
        }
    }

    /// Waits for the turn to compact.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        unpoisoned(self.turn.lock())
    }

    /// Makes the background give way.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        self.hurried.fetch_add(1, Ordering::Relaxed);
        Hurry(self)
    }

    pub(crate) fn failures(&self) -> MutexGuard<'_, CompactionFailures> {
        unpoisoned(self.failures.lock())
    }

    /// Waits for the turn to index; the segments that cannot be, for their log is damaged.
    pub(crate) fn indexing(&self) -> MutexGuard<'_, HashSet<u64>> {
        unpoisoned(self.indexing.lock())
    }

    /// Sleeps where `bytes` since `start` are more than the background may copy; breaks off when the store closes, or
    /// when a caller waits to compact: what was not done then is looked for again.
    pub(crate) fn pace(&self, start: Instant, bytes: u64) -> ControlFlow<()> {
        let due = Duration::from_millis(bytes.saturating_mul(1000) / self.speed);
        loop {
            if self.is_stopped() {
                return ControlFlow::Break(());
            }
            if self.hurried.load(Ordering::Relaxed) > 0 {
                self.set_due();
                return ControlFlow::Break(());
            }
            let left = due.saturating_sub(start.elapsed());
            if left.is_zero() {
                return ControlFlow::Continue(());
            }
            thread::sleep(left.min(PACE));
        }
    }

    // ---- what is due ----

    fn due(&self) -> MutexGuard<'_, bool> {
        unpoisoned(self.due.lock())
    }

    /// There is something to look for.
    pub(crate) fn set_due(&self) {
        if !std::mem::replace(&mut *self.due(), true) {
            self.wake.notify_all();
        }
    }

    /// Waits until something is due, or `is_found` at one of its looks; false once the store closes.
    pub(crate) fn wait_until_due(&self, is_found: impl Fn() -> bool) -> bool {
        let mut due = self.due();
        while !self.is_stopped() {
            if std::mem::take(&mut *due) {
                return true;
            }
            due = unpoisoned(self.wake.wait_timeout(due, IDLE)).0;
            *due |= is_found();
        }
        false
    }

    /// Leaves the others alone for a moment: many small writes are one reason to look again, not many.
    pub(crate) fn pause(&self) {
        let due = self.due();
        if !self.is_stopped() {
            drop(self.wake.wait_timeout(due, PAUSE));
        }
    }

    // ---- threads ----

    pub(crate) fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        unpoisoned(self.threads.lock())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Tells what runs in the background to end.
    pub(crate) fn stop(&self) {
        let due = self.due();
        self.stopped.store(true, Ordering::Relaxed);
        drop(due);
        self.wake.notify_all();
    }
}
