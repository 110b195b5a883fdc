//! What is accepted and not yet written: the buffer, whether it may take more, and who waits for its room.
//!
//! This part knows nothing of files, and no thread waits for the disk with its lock held.

use crate::buffer::{self, Buffer};
use crate::segment::version::Version;
use crate::sys::interrupt;
use crate::sys::sync::{AtomicU64, Condvar, Instant, Mutex, MutexGuard, unpoisoned};
use crate::types::error::{Error, Result};
use crate::types::id::{IdKind, IdRef};
use crate::types::options::Settings;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The writes of one store that wait for their way into the files.
#[derive(Debug)]
pub(crate) struct WriteBuffer {
    state: Mutex<Accepting>,
    /// Ops in the buffer: readers lock it only if there are any.
    ops: AtomicU64,
    /// Signalled when space is freed or writing has failed.
    space: Condvar,
    /// Signalled when there is something to do in the background, or the store closes.
    pub(crate) work: Condvar,
    /// Bytes that it takes.
    limit: u64,
}

/// What is accepted and not yet written.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) buffer: Buffer,
    /// Kind of the ids, fixed by the first batch that was accepted.
    pub(crate) kind: Option<IdKind>,
    /// When the first change was accepted that is not durable yet.
    pub(crate) dirty_since: Option<Instant>,
    /// A future wants the background to sync now.
    pub(crate) urgent: bool,
    pub(crate) health: Health,
    /// Threads that wait for room: a wake-up without any costs a system call too.
    pub(super) waiting_for_space: usize,
    pub(crate) lifecycle: Lifecycle,
    pub(super) overlay: Option<Overlay>,
    /// What was published when the first change in the buffer was accepted, for a planted bug.
    #[cfg(test)]
    pub(super) seen: Option<Arc<Version>>,
    pub(crate) workers: Workers,
}

/// Whether what is accepted reaches the files.
#[derive(Debug)]
pub(crate) enum Health {
    Good,
    /// The last try in the background failed; the next one may not.
    BackgroundError(Error),
    /// Writing stopped for good.
    Failed(Arc<Error>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    Open,
    Closing,
}

/// The threads in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    /// The settings want none: calls do their work.
    None,
    /// The first write starts them.
    NotStarted,
    Running,
    /// The system refused a thread: calls do its work.
    Lacking,
}

impl Workers {
    /// Whether a call must not wait for the background.
    pub(crate) fn are_missing(self) -> bool {
        matches!(self, Workers::None | Workers::Lacking)
    }
}

impl Accepting {
    /// Refuses to write where nothing can be written any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_health()?;
        match self.lifecycle {
            Lifecycle::Closing => Err(Error::Closed),
            Lifecycle::Open => Ok(()),
        }
    }

    /// Refuses to write where nothing can be written any more, or could not be a moment ago.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        match &self.health {
            Health::BackgroundError(error) => Err(error.clone().kept(false)),
            Health::Good | Health::Failed(_) => Ok(()),
        }
    }

    /// Refuses a kind that is not the store's; the first batch decides.
    pub(super) fn check_id_kind(&mut self, kind: IdKind) -> Result<()> {
        match *self.kind.get_or_insert(kind) {
            expected if expected == kind => Ok(()),
            expected => Err(Error::IdKindMismatch { expected, found: kind }),
        }
    }

    /// Why writing stopped, if it did.
    pub(crate) fn check_health(&self) -> Result<()> {
        match &self.health {
            Health::Failed(first) => Err(Error::Poisoned { first: first.clone() }),
            Health::Good | Health::BackgroundError(_) => Ok(()),
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.health, Health::Failed(_))
    }

    /// What the background could not write is written.
    pub(super) fn recover(&mut self) {
        if let Health::BackgroundError(_) = self.health {
            self.health = Health::Good;
        }
    }
}

/// The published version without the rows that the buffer replaces or deletes, up to some op.
#[derive(Debug, Clone)]
pub(super) struct Overlay {
    pub(super) base: Arc<Version>,
    pub(super) next: u64,
    pub(super) version: Arc<Version>,
}

/// What leaves the buffer when a version is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    Nothing,
    /// The ops before this one: they are in the version.
    UpTo(u64),
    /// The store was cleared: everything goes, and the kind of the ids with it.
    Everything,
}

impl WriteBuffer {
    pub(super) fn new(dim: usize, kind: Option<IdKind>, settings: &Settings) -> WriteBuffer {
        WriteBuffer {
            state: Mutex::new(Accepting {
                buffer: Buffer::new(dim),
                kind,
                dirty_since: None,
                urgent: false,
                health: Health::Good,
                waiting_for_space: 0,
                lifecycle: Lifecycle::Open,
                overlay: None,
                #[cfg(test)]
                seen: None,
                workers: if settings.background { Workers::NotStarted } else { Workers::None },
            }),
            ops: AtomicU64::new(0),
            space: Condvar::new(),
            work: Condvar::new(),
            limit: settings.buffer_bytes,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Accepting> {
        unpoisoned(self.state.lock())
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Accepting>> {
        self.state.try_lock().ok()
    }

    // ---- accepting ----

    /// Whether a batch of so many bytes is better written from where it lies.
    pub(super) fn is_too_small_for(&self, bytes: u64) -> bool {
        bytes > self.limit / 4
    }

    pub(super) fn has_room(&self, state: &Accepting, bytes: u64) -> bool {
        state.buffer.bytes() + bytes <= self.limit
    }

    /// Waits until the background frees space, or writing fails.
    pub(super) fn wait_for_space<'a>(
        &self,
        mut state: MutexGuard<'a, Accepting>,
    ) -> MutexGuard<'a, Accepting> {
        self.work.notify_all();
        state.waiting_for_space += 1;
        state = match interrupt::longest_wait() {
            Some(time) => unpoisoned(self.space.wait_timeout(state, time)).0,
            None => unpoisoned(self.space.wait(state)),
        };
        state.waiting_for_space -= 1;
        state
    }

    /// Lets those who wait for space look again.
    pub(crate) fn notify_space(&self) {
        self.space.notify_all();
    }

    /// Takes a batch that there is room for; returns the end of the buffer in ops. O(bytes).
    pub(super) fn push(
        &self,
        state: &mut Accepting,
        kind: IdKind,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<u64> {
        state.check_id_kind(kind)?;
        push(&mut state.buffer);
        self.count(state);
        Ok(state.buffer.next())
    }

    /// Has the background make durable what was accepted within the flush interval, and write before the buffer is full.
    pub(super) fn wake_background(&self, state: &mut Accepting) {
        if state.workers == Workers::None {
            return;
        }
        if state.dirty_since.is_none() {
            state.dirty_since = Some(Instant::now());
            self.work.notify_all();
        } else if state.buffer.bytes() > self.limit / 2 {
            self.work.notify_all();
        }
    }

    /// Makes known to readers how many ops are here.
    fn count(&self, state: &Accepting) {
        self.ops.store(state.buffer.next() - state.buffer.first(), Ordering::Release);
    }

    // ---- leaving ----

    /// Removes what is in a version that is just published; returns where the buffer goes on, if anything left.
    pub(super) fn drain(&self, state: &mut Accepting, drain: Drain) -> Option<u64> {
        let ops = match drain {
            Drain::Nothing => return None,
            Drain::UpTo(ops) => ops,
            Drain::Everything => {
                state.kind = None;
                state.buffer.next()
            }
        };
        state.buffer.remove(ops);
        state.recover();
        self.count(state);
        Some(ops)
    }

    /// Forgets everything: writing stopped.
    pub(super) fn fail(&self, state: &mut Accepting, first: Arc<Error>) {
        state.health = Health::Failed(first);
        state.buffer.reset();
        // What it was made from is not shown any more.
        state.overlay = None;
        self.count(state);
    }

    // ---- reading ----

    pub(super) fn is_empty(&self) -> bool {
        self.ops.load(Ordering::Acquire) == 0
    }

    /// What `read` takes from the newest change of an id; `None` if that has none here.
    pub(super) fn find<T>(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&Buffer, buffer::Found<'_>) -> T,
    ) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let state = self.lock();
        if state.kind != Some(id.kind()) {
            return None;
        }
        let found = state.buffer.find(hash, id.as_bytes())?;
        Some(read(&state.buffer, found))
    }
}
