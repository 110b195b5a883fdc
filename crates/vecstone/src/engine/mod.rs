//! The write path of a store: accept, group, write, sync, publish.
//!
//! A write goes to the buffer and returns. A thread with the writer's lock turns whole batches of the buffer into one
//! commit; a thread with the sync permit makes durable what was written, while the next group is written.
//!
//! Each part owns its state and its locks, and calls none of the others: `write_buffer` what is accepted, `group_commit`
//! what is durable and who waits, `writer` the files that change, `maintenance` what the background is to do. The other
//! modules are the paths through the parts, each calling only those before it: `guards` locks, and stops writing after an
//! error; `commit` writes a group; `sync` announces what is durable; `confirm` and `replace` seal and clear; `flush` writes
//! everything, into as many segments as it takes; then puts, `erase` and `documents`; `close` and `compact`. Locks are
//! taken in the order that `docs/DESIGN.md` names.

use crate::buffer::batch::{Batch, Op};
use crate::buffer::{Buffer, Prepared};
use crate::format::manifest::MAX_NUMBER;
use crate::open::Opened;
use crate::open::directory;
use crate::open::lock::Lock;
use crate::pair::VectorStorage;
use crate::segment::version::VersionCell;
use crate::sys::disk::{Dir, fork};
use crate::sys::interrupt;
use crate::sys::planted::Hooks;
#[cfg(test)]
use crate::sys::planted::{self, Bug};
use crate::sys::sync::{AtomicU64, Instant, Mutex, MutexGuard};
use crate::types::error::{Error, Result};
use crate::types::id::IdKind;
use crate::types::options::{Durability, Settings};
use crate::types::schema::Schema;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

pub(crate) mod close;
mod commit;
pub(crate) mod compact;
pub(crate) mod confirm;
mod delete_where;
mod documents;
mod flush;
mod group_commit;
mod guards;
pub(crate) mod maintenance;
mod open;
pub(crate) mod optimize;
mod read;
pub(crate) mod replace;
mod resolve;
mod sync;
pub(crate) mod threads;
mod write_buffer;
mod writer;

use documents::Lost;
use group_commit::GroupCommit;
pub(crate) use group_commit::{DurabilityTarget, SyncPermit};
use maintenance::Maintenance;
pub(crate) use open::OpenedEngine;
pub(crate) use read::Buffered;
use write_buffer::WriteBuffer;
pub(crate) use write_buffer::{Accepting, Drain, Health, Lifecycle, Workers};
pub(crate) use writer::Writer;

/// The writing half of an open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) dir: Dir,
    /// Held by the store; gone when that is closed.
    lock: Weak<Lock>,
    pub(crate) schema: Schema,
    pub(crate) settings: Settings,
    /// What readers look at.
    pub(crate) published: VersionCell,
    pub(crate) buffer: WriteBuffer,
    pub(crate) commits: GroupCommit,
    pub(crate) maintenance: Maintenance,
    /// Documents that were to be kept and are damaged.
    lost: Mutex<Lost>,
    next_segment: AtomicU64,
    me: Weak<Engine>,
    writer: Mutex<Writer>,
    /// The process that made this handle, counted in forks.
    generation: u64,
    pub(crate) hooks: Hooks,
}

/// From this size on a batch is copied before the buffer is locked.
const PREPARED_BYTES: u64 = 256 << 10;

impl Engine {
    fn new(
        dir: Dir,
        lock: &Arc<Lock>,
        settings: Settings,
        opened: Opened,
        mut pair: VectorStorage,
    ) -> Arc<Engine> {
        let Opened { manifest, version, in_del, active, claim, .. } = opened;
        pair.share_maps(version.active().dat_map.clone(), version.active().segment.heap().map().clone());
        let (version, schema, deletes) = (Arc::new(version), manifest.schema(), active.deletes.len() as u64);
        let next_segment = AtomicU64::new(manifest.next_segment);
        let buffer = WriteBuffer::new(schema.dim as usize, version.kind, &settings);
        Arc::new_cyclic(|me| Engine {
            me: me.clone(),
            dir,
            lock: Arc::downgrade(lock),
            schema,
            maintenance: Maintenance::new(settings.compact_speed),
            settings,
            published: VersionCell::new(version.clone()),
            buffer,
            commits: GroupCommit::new(DurabilityTarget { ops: 0, seq: version.seq }),
            lost: Mutex::default(),
            next_segment,
            writer: Mutex::new(Writer {
                pair,
                manifest,
                in_del,
                deletes,
                ops: 0,
                durable_version: version,
                claim,
                closed: false,
            }),
            generation: fork::generation(),
            hooks: Hooks::default(),
        })
    }

    /// Whether this process is a child of the one that opened the store.
    pub(crate) fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }

    // ---- accepting ----

    /// Takes a checked batch: into the buffer, or past it to the files if it is large.
    pub(crate) fn write(&self, batch: Batch<'_>, kind: IdKind, durability: Durability) -> Result<()> {
        let (bytes, hasher) = (batch.bytes(), self.schema.hasher());
        if self.buffer.is_too_small_for(bytes) {
            return self.write_large(batch, kind, durability);
        }
        if let Batch::Ops([op]) = batch {
            let change = op.change(hasher);
            return self.submit(kind, bytes, durability, |buffer| buffer.push(std::iter::once(change)));
        }
        let changes = batch.changes(hasher);
        if bytes < PREPARED_BYTES {
            return self.submit(kind, bytes, durability, |buffer| buffer.push(changes));
        }
        // Copied before the buffer is locked, but not before there is room: a caller that waits keeps no copy.
        drop(self.room(bytes)?);
        let memory = self.buffer.lock().buffer.take_pool(batch.len());
        let prepared = Prepared::new(self.schema.dim as usize, changes, memory);
        self.submit(kind, bytes, durability, |buffer| buffer.push_prepared(prepared))
    }

    /// Takes a checked change of so many bytes into the buffer, unless that has to wait or to start threads.
    pub(crate) fn try_write(&self, op: &Op<'_>, bytes: u64) -> Result<Option<()>> {
        let change = op.change(self.schema.hasher());
        let Some(state) = self.buffer.try_lock() else { return Ok(None) };
        state.check_writable()?;
        let fits = !self.buffer.is_too_small_for(bytes) && self.buffer.has_room(&state, bytes);
        if !fits || state.workers == Workers::NotStarted {
            return Ok(None);
        }
        let push = |buffer: &mut Buffer| buffer.push(std::iter::once(change));
        self.submit_locked(state, op.id().kind(), Durability::Buffered, push).map(Some)
    }

    /// Takes a checked batch of `bytes` bytes into the buffer, waiting for room; returns when it is visible, or durable.
    fn submit(
        &self,
        kind: IdKind,
        bytes: u64,
        durability: Durability,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<()> {
        let state = self.room(bytes)?;
        self.submit_locked(state, kind, durability, push)
    }

    /// The same, with the buffer locked and room made.
    pub(crate) fn submit_locked(
        &self,
        state: MutexGuard<'_, Accepting>,
        kind: IdKind,
        durability: Durability,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<()> {
        let ops = self.guarded(|| {
            let mut state = state;
            let ops = self.buffer.push(&mut state, kind, push)?;
            self.hooks.here("accept");
            #[cfg(test)]
            if planted::is(Bug::KillAtPut) || planted::is(Bug::KeepAtPut) {
                state.seen.get_or_insert_with(|| self.published.get());
            }
            self.start_threads(&mut state);
            if durability == Durability::Buffered {
                self.buffer.wake_background(&mut state);
            }
            Ok(ops)
        })?;
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Sync => interrupt::not_now(|| self.wait_for(DurabilityTarget { ops, seq: 0 })),
        }
    }

    /// The buffer, locked, once it has room for so many bytes.
    pub(crate) fn room(&self, bytes: u64) -> Result<MutexGuard<'_, Accepting>> {
        let mut state = self.buffer.lock();
        loop {
            state.check_writable()?;
            if state.buffer.is_empty() || self.buffer.has_room(&state, bytes) {
                return Ok(state);
            }
            interrupt::check()?;
            self.start_threads(&mut state);
            if state.workers.are_missing() {
                drop(state);
                self.drain()?;
                state = self.buffer.lock();
            } else {
                state = self.buffer.wait_for_space(state);
            }
        }
    }

    /// Writes a batch that is too large for the buffer from where it lies, after all that was accepted before.
    fn write_large(&self, batch: Batch<'_>, kind: IdKind, durability: Durability) -> Result<()> {
        {
            let mut state = self.buffer.lock();
            state.check_writable()?;
            state.check_id_kind(kind)?;
            self.start_threads(&mut state);
        }
        let seq = self.write_unbuffered(batch, kind)?;
        self.finish_write(DurabilityTarget { ops: 0, seq }, durability)
    }

    /// Ends a write: returns when what was accepted up to `target` is durable, or at once.
    pub(crate) fn finish_write(&self, target: DurabilityTarget, durability: Durability) -> Result<()> {
        if durability == Durability::Sync {
            return interrupt::not_now(|| self.wait_for(target));
        }
        let mut state = self.buffer.lock();
        if self.settings.background && !self.commits.is_durable(target) {
            state.dirty_since.get_or_insert_with(Instant::now);
            self.buffer.work.notify_all();
        }
        Ok(())
    }

    // ---- for the other parts of the engine ----

    /// This engine, for a thread to keep.
    pub(crate) fn me(&self) -> Option<Arc<Engine>> {
        self.me.upgrade()
    }

    /// A segment number that was never used, and behind which there is another one for MANIFEST to name;
    /// nothing is in its way.
    ///
    /// # Errors
    ///
    /// [`Error::NumbersUsedUp`].
    pub(crate) fn take_segment_number(&self) -> Result<u64> {
        let next = |number| (number < MAX_NUMBER).then_some(number + 1);
        directory::free_number(&self.dir, || {
            self.next_segment
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
                .map_err(|_| Error::NumbersUsedUp { what: "segment numbers", max: MAX_NUMBER - 1 })
        })
    }

    pub(crate) fn next_segment_number(&self) -> u64 {
        self.next_segment.load(Ordering::Relaxed)
    }

    /// What is published was durable when it was published, and nobody has written since.
    pub(crate) fn fall_back_to_published(&self, writer: &mut Writer) {
        writer.durable_version = self.published.get();
    }

    /// Removes files that count no more. What stays behind is removed at the next opening.
    pub(crate) fn remove(&self, paths: &[PathBuf]) {
        for path in paths {
            _ = self.dir.unlink(path);
        }
    }
}
