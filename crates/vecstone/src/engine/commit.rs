//! Groups of accepted changes become commits: which rows die is found out, everything is written, readers see it.

use super::{EVERYTHING, Engine, SyncPermit, Writer};
use crate::batch::Batch;
use crate::config::MAX_BATCH_RECORDS;
use crate::error::Result;
use crate::id::{IdHasher, IdKind};
use crate::pair::Effects;
use crate::planted::{self, Bug};
use crate::view::View;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much of the buffer one commit takes.
const GROUP_BYTES: u64 = 8 << 20;

/// Whether a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// The active segment has to be sealed before.
    SealFirst,
    /// With the documents that it keeps it is too long for one commit: so many changes are not.
    Shorten(u64),
}

impl Engine {
    /// Runs `write` under the writer's lock. Where it finds that the segment has to be sealed first (`None`), seals it,
    /// which needs the sync permit too, and runs it again before another thread writes to the next one: a batch that
    /// fills a segment alone would never find one empty.
    pub(super) fn with_writer<T>(
        &self,
        mut write: impl FnMut(&mut Writer) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            let mut full = 0;
            let done = self.with_writer_lock(|writer| {
                full = writer.pair.header().identity.segment;
                write(writer)
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
            let done = self.with_sync_permit(|permit, writer| {
                // Somebody else may have sealed it meanwhile.
                if writer.pair.header().identity.segment == full {
                    self.seal(permit, writer)?;
                }
                write(writer)
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
    }

    /// Writes what is in the buffer now.
    pub(crate) fn drain(&self) -> Result<()> {
        let ops = self.state().buffer.next();
        self.with_writer(|writer| Ok((self.write_until(writer, ops)? == Outcome::Written).then_some(())))
    }

    /// Writes everything accepted until now, into as many segments as it takes.
    pub(crate) fn write_all(&self, permit: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        let ops = self.state().buffer.next();
        while self.write_until(writer, ops)? == Outcome::SealFirst {
            self.seal(permit, writer)?;
        }
        Ok(())
    }

    /// Writes a batch from where it lies, after all that was accepted before; returns its sequence.
    pub(super) fn write_past_buffer(&self, batch: Batch<'_>, kind: IdKind) -> Result<u64> {
        let ops = self.state().buffer.next();
        self.with_writer(|writer| {
            // The store may have been cleared since the batch was accepted, and its kind be another now.
            Self::settle_kind(&mut self.state(), kind)?;
            if self.write_until(writer, ops)? == Outcome::SealFirst {
                return Ok(None);
            }
            let outcome = self.write_batch(writer, batch, kind, None)?;
            Ok((outcome == Outcome::Written).then(|| writer.pair.written().seq))
        })
    }

    /// Writes groups until those up to `ops` are written.
    pub(super) fn write_until(&self, writer: &mut Writer, ops: u64) -> Result<Outcome> {
        let mut most = self.settings.limits.records.min(MAX_BATCH_RECORDS as u64);
        while writer.ops < ops {
            let state = self.state();
            let Some(kind) = state.kind else { break };
            let Some(group) = state.buffer.group(GROUP_BYTES, most) else { break };
            drop(state);
            match self.write_batch(writer, Batch::Group(&group), kind, Some(group.next))? {
                Outcome::Written => {}
                Outcome::SealFirst => return Ok(Outcome::SealFirst),
                Outcome::Shorten(changes) => most = changes,
            }
        }
        Ok(Outcome::Written)
    }

    /// One commit: finds out which rows die, writes, publishes. `ops`: where the buffer goes on after it.
    pub(super) fn write_batch(
        &self,
        writer: &mut Writer,
        batch: Batch<'_>,
        kind: IdKind,
        ops: Option<u64>,
    ) -> Result<Outcome> {
        writer.pair.check_writable()?;
        if self.is_over_with(writer, batch) {
            return Ok(Outcome::SealFirst);
        }
        let mut view = View::clone(&self.published.load());
        let effects = self.resolve(&mut view, batch)?;
        if let Batch::Group(group) = batch
            && group.several
            && let Some(changes) = changes_within(&effects, batch, GROUP_BYTES)
        {
            return Ok(Outcome::Shorten(changes));
        }
        if self.documents_are_over_with(writer, &effects) {
            return Ok(Outcome::SealFirst);
        }
        let appended = writer.pair.append_batch(batch, kind, &effects);
        let appended = appended.map_err(|error| self.failed(writer, error))?;
        self.hooks.here("write");
        let part = view.active_mut();
        let segment = part.segment.clone();
        segment.grow(&appended.rows, &appended.deletes, &appended.idx_map, &mut part.mask);
        part.move_to(&appended.tip);
        part.dat_map = Some(appended.dat_map);
        (view.kind, view.seq) = (Some(kind), appended.tip.seq);
        segment.set_jsonl(writer.pair.files());
        writer.deletes += appended.deletes.len() as u64;
        self.lost().add(appended.lost);
        self.publish(writer, view, ops);
        Ok(Outcome::Written)
    }

    /// Makes a view the one that readers see, and takes from the buffer what is in it, or everything.
    pub(crate) fn publish(&self, writer: &mut Writer, view: View, ops: Option<u64>) {
        let before = self.published.load();
        let dead = |view: &View| view.segments.iter().map(|part| part.mask.dead()).sum::<u64>();
        let changed = (before.segments.len(), dead(&before)) != (view.segments.len(), dead(&view));
        let mut state = self.state();
        self.published.store(Arc::new(view));
        self.hooks.here("publish");
        if let Some(ops) = ops {
            if ops == EVERYTHING {
                // There is no id any more.
                state.kind = None;
            }
            let ops = ops.min(state.buffer.next());
            writer.ops = ops;
            state.buffer.remove(ops);
            state.setback = None;
            self.buffered.store(state.buffer.next() - state.buffer.first(), Ordering::Release);
        }
        // What it was made from is not shown any more.
        if !planted::is(Bug::KeepOverlay) {
            state.overlay = None;
        }
        let (crowd, tidy) = (state.crowd > 0, changed && !state.untidy);
        state.untidy |= changed;
        drop(state);
        if crowd {
            self.room.notify_all();
        }
        if tidy {
            self.tidy.notify_all();
        }
    }

    /// Whether the active segment is at a limit.
    fn is_over(&self, writer: &Writer) -> bool {
        let (tip, limits) = (writer.pair.written(), &self.settings.limits);
        tip.rows + writer.deletes >= limits.records
            || writer.pair.header().row_start(tip.rows) >= limits.dat
            || tip.idx_end >= limits.idx
            || tip.docs_end >= limits.jsonl
    }

    /// Whether a batch does not fit in the active segment. A segment's first batch always does.
    fn is_over_with(&self, writer: &Writer, batch: Batch<'_>) -> bool {
        let (tip, limits) = (writer.pair.written(), &self.settings.limits);
        let records = tip.rows + writer.deletes;
        if records == 0 {
            return false;
        }
        self.is_over(writer)
            || records + batch.len() as u64 > limits.records
            || writer.pair.header().row_start(tip.rows) + batch.row_bytes() > limits.dat
    }

    /// Whether the documents that a batch keeps do not fit in the active segment. A segment's first batch always does.
    fn documents_are_over_with(&self, writer: &Writer, effects: &Effects<'_>) -> bool {
        let kept: u64 = effects.kept.iter().map(|(_, kept)| kept.len()).sum();
        let tip = writer.pair.written();
        kept > 0 && tip.rows + writer.deletes > 0 && tip.lines_start() + kept > self.settings.limits.jsonl
    }
}

/// How many of the first changes of a batch have at most `most` bytes with the documents that they keep, at least one;
/// `None` if all.
fn changes_within(effects: &Effects<'_>, batch: Batch<'_>, most: u64) -> Option<u64> {
    let kept: u64 = effects.kept.iter().map(|(_, kept)| kept.len()).sum();
    if kept == 0 || batch.bytes() + kept <= most {
        return None;
    }
    let mut kept = effects.kept.iter().peekable();
    let mut bytes = 0;
    for (n, change) in batch.changes(IdHasher::new(&[0; 16])).enumerate() {
        let given = change
            .put
            .map_or(0, |(vector, document)| size_of_val(vector) + document.json().map_or(0, str::len));
        bytes += (change.id.len() + given) as u64;
        bytes += kept.next_if(|(of, _)| *of == n).map_or(0, |(_, kept)| kept.len());
        if bytes > most {
            return Some((n as u64).max(1));
        }
    }
    None
}
