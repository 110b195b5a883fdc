//! Groups of accepted changes become commits: which rows die is found out, everything is written, readers see it.

use super::{Drain, Engine, Writer};
use crate::buffer::batch::Batch;
use crate::pair::Effects;
use crate::segment::version::Version;
use crate::sys::planted::{self, Bug};
use crate::types::config::MAX_BATCH_RECORDS;
use crate::types::error::Result;
use crate::types::id::{IdHasher, IdKind};
use std::sync::Arc;

/// How much of the buffer one commit takes.
const GROUP_BYTES: u64 = 8 << 20;

/// What came of a try to write to the active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt<T> {
    Done(T),
    /// Nothing was written: the segment has to be sealed first.
    SegmentFull,
}

impl<T> Attempt<T> {
    pub(super) fn map<U>(self, to: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Attempt::Done(done) => Attempt::Done(to(done)),
            Attempt::SegmentFull => Attempt::SegmentFull,
        }
    }
}

/// What came of a try to write a batch.
enum Outcome {
    /// With this sequence.
    Written(u64),
    SegmentFull,
    /// With the documents that it keeps it is too long for one commit: so many changes are not.
    TooLong {
        changes: u64,
    },
}

impl Engine {
    /// Writes groups until those up to `ops` are written.
    pub(super) fn write_until(&self, writer: &mut Writer, ops: u64) -> Result<Attempt<()>> {
        let mut most = self.settings.limits.records.min(MAX_BATCH_RECORDS as u64);
        while writer.ops < ops {
            let state = self.buffer.lock();
            let Some(kind) = state.kind else { break };
            let Some(group) = state.buffer.group(GROUP_BYTES, most) else { break };
            drop(state);
            match self.write_batch(writer, Batch::Group(&group), kind, Drain::UpTo(group.next))? {
                Outcome::Written(_) => {}
                Outcome::SegmentFull => return Ok(Attempt::SegmentFull),
                Outcome::TooLong { changes } => most = changes,
            }
        }
        Ok(Attempt::Done(()))
    }

    /// Writes a batch that never was in the buffer, as one commit; returns its sequence.
    pub(super) fn write_one(
        &self,
        writer: &mut Writer,
        batch: Batch<'_>,
        kind: IdKind,
    ) -> Result<Attempt<u64>> {
        match self.write_batch(writer, batch, kind, Drain::Nothing)? {
            Outcome::Written(seq) => Ok(Attempt::Done(seq)),
            Outcome::SegmentFull | Outcome::TooLong { .. } => Ok(Attempt::SegmentFull),
        }
    }

    /// One commit: finds out which rows die, writes, publishes, and drains the buffer.
    fn write_batch(
        &self,
        writer: &mut Writer,
        batch: Batch<'_>,
        kind: IdKind,
        drain: Drain,
    ) -> Result<Outcome> {
        writer.pair.check_writable()?;
        if self.would_overflow(writer, batch) {
            return Ok(Outcome::SegmentFull);
        }
        let mut version = self.published.draft();
        let effects = self.resolve(&mut version, batch)?;
        if let Batch::Group(group) = batch
            && group.several
            && let Some(changes) = changes_within(&effects, batch, GROUP_BYTES)
        {
            return Ok(Outcome::TooLong { changes });
        }
        if self.documents_would_overflow(writer, &effects) {
            return Ok(Outcome::SegmentFull);
        }
        let appended = writer.pair.append_batch(batch, kind, &effects);
        let appended = appended.map_err(|error| self.failed(writer, error))?;
        self.hooks.here("write");
        let part = version.active_mut();
        let segment = part.segment.clone();
        segment.grow(&appended.rows, &appended.deletes, &appended.idx_map, &mut part.deletions);
        part.move_to(&appended.position);
        part.dat_map = Some(appended.dat_map);
        (version.kind, version.seq) = (Some(kind), appended.position.seq);
        segment.set_jsonl(writer.pair.files());
        writer.deletes += appended.deletes.len() as u64;
        self.lost().add(appended.lost);
        self.publish(writer, version, drain);
        Ok(Outcome::Written(appended.position.seq))
    }

    /// Makes a version the one that readers see, and drains the buffer.
    pub(crate) fn publish(&self, writer: &mut Writer, version: Version, drain: Drain) {
        let before = self.published.load();
        let dead = |version: &Version| version.segments.iter().map(|part| part.deletions.dead()).sum::<u64>();
        let changed = (before.segments.len(), dead(&before)) != (version.segments.len(), dead(&version));
        let mut state = self.buffer.lock();
        self.published.publish(Arc::new(version));
        self.hooks.here("publish");
        if let Some(ops) = self.buffer.drain(&mut state, drain) {
            writer.ops = ops;
        }
        // What it was made from is not shown any more.
        if !planted::is(Bug::KeepOverlay) {
            state.overlay = None;
        }
        let has_waiters = state.waiting_for_space > 0;
        drop(state);
        if has_waiters {
            self.buffer.notify_space();
        }
        if changed {
            self.maintenance.set_due();
        }
    }

    /// Whether the active segment is at a limit.
    fn is_over(&self, writer: &Writer) -> bool {
        let (position, limits) = (writer.pair.written(), &self.settings.limits);
        position.rows + writer.deletes >= limits.records
            || writer.pair.header().row_start(position.rows) >= limits.dat
            || position.idx_end >= limits.idx
            || position.docs_end >= limits.jsonl
    }

    /// Whether a batch does not fit in the active segment. A segment's first batch always does.
    fn would_overflow(&self, writer: &Writer, batch: Batch<'_>) -> bool {
        let (position, limits) = (writer.pair.written(), &self.settings.limits);
        let records = position.rows + writer.deletes;
        if records == 0 {
            return false;
        }
        self.is_over(writer)
            || records + batch.len() as u64 > limits.records
            || writer.pair.header().row_start(position.rows) + batch.row_bytes() > limits.dat
    }

    /// Whether the documents that a batch keeps do not fit in the active segment. A segment's first batch always does.
    fn documents_would_overflow(&self, writer: &Writer, effects: &Effects<'_>) -> bool {
        let kept: u64 = effects.kept.iter().map(|(_, kept)| kept.len()).sum();
        let position = writer.pair.written();
        kept > 0
            && position.rows + writer.deletes > 0
            && position.lines_start() + kept > self.settings.limits.jsonl
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
