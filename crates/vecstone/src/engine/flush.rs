//! Everything accepted until now: written, and durable for all who wait. Above sealing, for which a full segment asks.

use super::commit::Attempt;
use super::group_commit::Reached;
use super::{DurabilityTarget, Engine, Health, Lifecycle, SyncPermit, Writer};
use crate::buffer::batch::Batch;
use crate::format::manifest::Manifest;
use crate::query::snapshot::Snapshot;
use crate::sys::sync::Instant;
use crate::types::error::{Error, Result};
use crate::types::id::IdKind;
use std::task::Waker;
use std::time::Duration;

impl Engine {
    /// What has to be durable for everything accepted until now to be, unless writing stopped.
    pub(crate) fn accepted(&self) -> Result<DurabilityTarget> {
        let state = self.buffer.lock();
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
            let (version, ops) = (self.published.get(), writer.ops);
            let Some(pending) = pending else {
                self.became_durable(permit, writer, version, ops, Duration::ZERO)?;
                return Ok(None);
            };
            Ok(Some((pending, version, ops)))
        })?;
        let Some((pending, version, ops)) = written else { return Ok(()) };
        let start = Instant::now();
        let synced = pending.sync();
        self.hooks.here("sync");
        self.with_writer_lock(|writer| {
            writer.pair.finish_commit(pending, synced).map_err(|error| self.failed(writer, error))?;
            self.became_durable(permit, writer, version, ops, start.elapsed())
        })
    }

    /// Whether `target` is durable, or never will be; else `waker` is woken then, and the background starts at once.
    pub(crate) fn poll(&self, target: DurabilityTarget, waker: &Waker) -> Option<Result<()>> {
        let mut state = self.buffer.lock();
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
        self.buffer.work.notify_all();
        None
    }

    /// Runs `write` under the writer's lock. Where the segment is full, seals it, which needs the sync permit too, and
    /// runs `write` again before another thread writes to the next one: a batch that fills a segment alone would never
    /// find one empty.
    pub(super) fn with_writer<T>(
        &self,
        mut write: impl FnMut(&mut Writer) -> Result<Attempt<T>>,
    ) -> Result<T> {
        loop {
            let mut full = 0;
            let attempt = self.with_writer_lock(|writer| {
                full = writer.pair.header().identity.segment;
                write(writer)
            })?;
            if let Attempt::Done(done) = attempt {
                return Ok(done);
            }
            let attempt = self.with_sync_permit(|permit, writer| {
                // Another thread may have sealed it meanwhile.
                if writer.pair.header().identity.segment == full {
                    self.seal(permit, writer)?;
                }
                write(writer)
            })?;
            if let Attempt::Done(done) = attempt {
                return Ok(done);
            }
        }
    }

    /// Writes what is in the buffer now.
    pub(crate) fn drain(&self) -> Result<()> {
        let ops = self.buffer.lock().buffer.next();
        self.with_writer(|writer| self.write_until(writer, ops))
    }

    /// Writes everything accepted until now, into as many segments as it takes.
    pub(crate) fn write_all(&self, permit: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        let ops = self.buffer.lock().buffer.next();
        while self.write_until(writer, ops)? == Attempt::SegmentFull {
            self.seal(permit, writer)?;
        }
        Ok(())
    }

    /// Writes a batch from where it lies, after all that was accepted before; returns its sequence.
    pub(super) fn write_unbuffered(&self, batch: Batch<'_>, kind: IdKind) -> Result<u64> {
        let ops = self.buffer.lock().buffer.next();
        self.with_writer(|writer| {
            // The store may have been cleared since the batch was accepted, and its kind be another now.
            self.buffer.lock().check_id_kind(kind)?;
            match self.write_until(writer, ops)? {
                Attempt::Done(()) => self.write_one(writer, batch, kind),
                Attempt::SegmentFull => Ok(Attempt::SegmentFull),
            }
        })
    }

    /// Everything accepted until now, in the files and durable, with the MANIFEST that it is under.
    pub(crate) fn durable_snapshot(&self) -> Result<(Manifest, Snapshot)> {
        self.with_sync_permit(|permit, writer| {
            self.write_all(permit, writer)?;
            self.sync_log_end(permit, writer)?;
            self.confirm(permit, writer)?;
            let version = self.published.get();
            let snapshot = Snapshot::new(version.kind, version);
            Ok((writer.manifest.clone(), snapshot))
        })
    }
}
