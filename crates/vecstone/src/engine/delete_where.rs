//! Deleting: ids that are looked up first; under the writer's lock, as one batch at one place in the order of writing, what
//! a filter selects, and ids whose look-up others always overtake.
//!
//! Reading documents takes long, and nothing may change between the last look and the batch. So most of the looking is
//! done while others write; then, under the writer's lock, only at what they wrote meanwhile. What is accepted into the
//! buffer after that comes behind the batch.

use super::commit::Attempt;
use super::{DurabilityTarget, Engine, Writer};
use crate::buffer::batch::{Batch, Op};
use crate::query::filter::Filter;
use crate::query::select::select;
use crate::segment::version::Version;
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_BATCH_BYTES;
use crate::types::error::Result;
use crate::types::id::{AsId, Id, IdRef};
use crate::types::options::Durability;
use std::sync::Arc;

/// Looks without the writer's lock, at most: each one looks at what was written during the one before.
const MAX_OPTIMISTIC_PASSES: usize = 4;

/// A batch of deletes; none, if nothing matched.
struct DeletedBatch {
    ids: usize,
    /// Its sequence, or that of the last batch that was looked at.
    seq: u64,
    /// There was no room for others that match.
    full: bool,
}

impl Engine {
    /// Deletes those of the ids that are there now, in one batch; returns how many.
    pub(crate) fn delete(&self, mut ops: Vec<Op<'_>>, durability: Durability) -> Result<usize> {
        ops.sort_unstable_by(|a, b| a.id().as_bytes().cmp(b.id().as_bytes()));
        ops.dedup_by(|a, b| a.id().as_bytes() == b.id().as_bytes());
        for _ in 0..MAX_OPTIMISTIC_PASSES {
            // Looked up without the lock; what happens meanwhile makes it look again.
            let version = self.published.get();
            let mut there = Vec::new();
            for (n, op) in ops.iter().enumerate() {
                interrupt::check_at(n)?;
                there.push(self.is_in(&version, *op.id())?);
            }
            let state = self.room(Batch::Ops(&ops).bytes())?;
            if !Arc::ptr_eq(&version, &self.published.load()) {
                continue;
            }
            let is_there = |(op, there): (&Op<'_>, bool)| {
                let hash = self.schema.hasher().hash(op.id().as_bytes());
                state.buffer.find(hash, op.id().as_bytes()).map_or(there, |found| found.op.is_put())
            };
            let found: Vec<Op<'_>> = ops
                .iter()
                .zip(there)
                .filter(|(op, there)| state.kind == Some(op.id().kind()) && is_there((op, *there)))
                .map(|(op, _)| *op)
                .collect();
            let (Some(kind), false) = (state.kind, found.is_empty()) else {
                // What made it nothing may still be on its way to the disk.
                let target = DurabilityTarget { ops: state.buffer.next(), seq: version.seq };
                drop(state);
                if planted::is(Bug::NothingIsDurable) {
                    return Ok(0);
                }
                return self.finish_write(target, durability).map(|()| 0);
            };
            let changes = Batch::Ops(&found).changes(self.schema.hasher());
            self.submit_locked(state, kind, durability, |buffer| buffer.push(changes))?;
            return Ok(found.len());
        }
        self.delete_in_turn(&ops, durability)
    }

    /// Deletes the ids that a filter selects; returns how many. `threads`: how many may look, 0: not said.
    pub(crate) fn delete_where(
        &self,
        filter: &Filter,
        durability: Durability,
        threads: usize,
    ) -> Result<usize> {
        {
            let mut state = self.buffer.lock();
            state.check_writable()?;
            self.start_threads(&mut state);
        }
        let limit = parallel::limit(threads);
        let (mut seen, mut known): (Option<Arc<Version>>, Option<Version>) = (None, None);
        for _ in 0..MAX_OPTIMISTIC_PASSES {
            self.drain()?;
            let version = self.published.get();
            if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &version)) {
                break;
            }
            known = Some(select(filter, &version, self.schema.hasher(), known.as_ref(), limit)?);
            seen = Some(version);
        }
        let mut deleted = 0;
        loop {
            let ops = self.buffer.lock().buffer.next();
            let erased = self.with_writer(|writer| self.erase(writer, ops, filter, &mut known, limit))?;
            deleted += erased.ids;
            if !erased.full || planted::is(Bug::OneBatchOnly) {
                self.finish_write(DurabilityTarget { ops: 0, seq: erased.seq }, durability)?;
                return Ok(deleted);
            }
        }
    }

    /// Writes what was accepted up to `ops`, then one batch that deletes what matches, if anything does. `known`: what
    /// was found before.
    fn erase(
        &self,
        writer: &mut Writer,
        ops: u64,
        filter: &Filter,
        known: &mut Option<Version>,
        limit: usize,
    ) -> Result<Attempt<DeletedBatch>> {
        let Attempt::Done(version) = self.written_to(writer, ops)? else { return Ok(Attempt::SegmentFull) };
        let selected = known.insert(select(filter, &version, self.schema.hasher(), known.as_ref(), limit)?);
        let (ids, full) = some_ids(selected, self.settings.delete_batch_records)?;
        let ops: Vec<Op<'_>> = ids.iter().map(Op::delete).collect();
        let written = self.write_deletes(writer, &version, &ops)?;
        Ok(written.map(|seq| DeletedBatch { ids: ids.len(), seq, full }))
    }

    /// Deletes those of different ids that are there; returns how many.
    pub(crate) fn delete_in_turn(&self, ops: &[Op<'_>], durability: Durability) -> Result<usize> {
        let accepted = self.buffer.lock().buffer.next();
        let (deleted, seq) = self.with_writer(|writer| {
            let Attempt::Done(version) = self.written_to(writer, accepted)? else {
                return Ok(Attempt::SegmentFull);
            };
            let mut there = Vec::new();
            for (n, op) in ops.iter().enumerate() {
                interrupt::check_at(n)?;
                if self.is_in(&version, *op.id())? {
                    there.push(*op);
                }
            }
            Ok(self.write_deletes(writer, &version, &there)?.map(|seq| (there.len(), seq)))
        })?;
        self.finish_write(DurabilityTarget { ops: 0, seq }, durability)?;
        Ok(deleted)
    }

    fn is_in(&self, version: &Version, id: IdRef<'_>) -> Result<bool> {
        let bytes = id.as_bytes();
        Ok(version.kind == Some(id.kind())
            && version.find(self.schema.hasher().hash(bytes), bytes)?.is_some())
    }

    /// Writes what was accepted up to `ops`; returns the version of the files, which does not change while the writer's
    /// lock is held.
    pub(super) fn written_to(&self, writer: &mut Writer, ops: u64) -> Result<Attempt<Arc<Version>>> {
        // Where writing stopped, what is durable may not have what was accepted: nothing is found by looking there.
        writer.pair.check_writable()?;
        if planted::is(Bug::TurnWithoutBuffer) {
            return Ok(Attempt::Done(self.published.get()));
        }
        Ok(self.write_until(writer, ops)?.map(|()| self.published.get()))
    }

    /// Writes a batch of deletes, if there are any; tells the last sequence that what was looked at needs, for the rows
    /// that are gone too.
    fn write_deletes(&self, writer: &mut Writer, version: &Version, ops: &[Op<'_>]) -> Result<Attempt<u64>> {
        let (Some(kind), false) = (version.kind, ops.is_empty()) else {
            return Ok(Attempt::Done(version.seq));
        };
        self.write_one(writer, Batch::Ops(ops), kind)
    }
}

/// The ids of the live rows, as many as fit in a batch of `most`; true if there are more.
fn some_ids(version: &Version, most: usize) -> Result<(Vec<Id>, bool)> {
    let (mut ids, mut bytes) = (Vec::new(), 0);
    for (n, at) in version.live_rows().enumerate() {
        interrupt::check_at(n)?;
        let id = version.id(at)?;
        bytes += id.as_id().as_bytes().len() as u64;
        if ids.len() == most || bytes > MAX_BATCH_BYTES {
            return Ok((ids, true));
        }
        ids.push(id);
    }
    Ok((ids, false))
}
