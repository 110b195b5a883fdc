//! The write path of a store: accept, group, write, sync, publish.
//!
//! A write goes to the buffer and returns. Whoever holds the writer's place turns whole batches of the buffer into one
//! commit; whoever holds the sync place makes what was written durable, while the next group is written. Locks are
//! taken in this order: sync place, writer's place, state; nobody waits for the disk with the state locked.

use crate::batch::{Batch, Op};
use crate::buffer::{self, Buffer, Prepared};
use crate::settings::Durability;
use crate::config::Schema;
use crate::disk::{Disk, fork};
use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::open::Opened;
use crate::id::{IdKind, IdRef};
use crate::mask::Mask;
use crate::pair::Pair;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::view::View;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The writing half of an open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) schema: Schema,
    pub(crate) settings: Settings,
    /// What readers look at.
    pub(crate) published: ArcSwap<View>,
    /// Ops in the buffer: readers look into it only if there are any.
    buffered: AtomicU64,
    state: Mutex<State>,
    /// Something became durable, written or failed.
    pub(crate) changed: Condvar,
    /// There is something to do in the background.
    pub(crate) work: Condvar,
    /// A batch was written.
    pub(crate) tidy: Condvar,
    /// Held by whoever compacts; with the error of the last compaction in the background.
    pub(crate) compacting: Mutex<Option<Error>>,
    next_segment: AtomicU64,
    me: Weak<Engine>,
    writer: Mutex<Writer>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// Tells a running compaction to give up.
    pub(crate) stop: AtomicBool,
    /// The process that made this handle, counted in forks.
    generation: u64,
}

/// What is accepted, written, durable.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) buffer: Buffer,
    /// Kind of the ids, fixed by the first batch that was accepted.
    pub(crate) kind: Option<IdKind>,
    /// What was synced.
    durable: Goal,
    /// Somebody holds the sync place.
    syncing: bool,
    /// When the first change was accepted that is not durable yet.
    pub(crate) dirty_since: Option<Instant>,
    /// Somebody wants the background to sync now.
    pub(crate) urgent: bool,
    /// Writing stopped.
    failure: Option<Arc<Error>>,
    /// The last try to write in the background failed; the next one may not.
    pub(crate) setback: Option<Error>,
    /// Callers that wait for a sync, how many the last sync served, and how long it took.
    waiting: usize,
    company: usize,
    last_sync: Duration,
    wakers: Vec<(Goal, Waker)>,
    pub(crate) closing: bool,
    overlay: Option<Overlay>,
    /// What was published when the first change in the buffer was accepted, for a planted bug.
    #[cfg(test)]
    seen: Option<Arc<View>>,
    pub(crate) started: bool,
}

/// A point that durability can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Ops of the buffer, counted over its whole life.
    ops: u64,
    /// The last batch.
    seq: u64,
}

impl Goal {
    fn is_reached(self, durable: Goal) -> bool {
        self.ops <= durable.ops && self.seq <= durable.seq
    }
}

/// What only the writer's place needs.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) pair: Pair,
    pub(crate) manifest: Manifest,
    /// What the `.del` file of each sealed segment says.
    pub(crate) in_del: HashMap<u64, Mask>,
    /// Deletes in the active segment.
    pub(crate) deletes: u64,
    /// The end of the last group in ops of the buffer.
    ops: u64,
    /// What readers see if writing stops.
    durable_view: Arc<View>,
}

/// The published view without the rows that the buffer replaces or deletes, up to some op.
#[derive(Debug, Clone)]
struct Overlay {
    base: Arc<View>,
    next: u64,
    view: Arc<View>,
}

impl Writer {
    /// The end of the last group in ops of the buffer.
    pub(crate) fn ops(&self) -> u64 {
        self.ops
    }
}

/// How much of the buffer one commit takes.
const GROUP_BYTES: u64 = 8 << 20;

/// From this size on a batch is copied before the state is locked.
const PREPARED_BYTES: u64 = 256 << 10;

/// Whether a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    /// The active segment has to be sealed before.
    SealFirst,
}

impl Engine {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        settings: Settings,
        opened: Opened,
        pair: Pair,
    ) -> Arc<Engine> {
        let Opened { manifest, view, in_del, active, .. } = opened;
        let (view, schema, deletes) = (Arc::new(view), manifest.schema(), active.deletes.len() as u64);
        let next_segment = AtomicU64::new(manifest.next_segment);
        let state = State {
            buffer: Buffer::new(schema.dim as usize),
            kind: view.kind,
            durable: Goal { ops: 0, seq: view.seq },
            syncing: false,
            dirty_since: None,
            urgent: false,
            failure: None,
            setback: None,
            waiting: 0,
            company: 0,
            last_sync: Duration::ZERO,
            wakers: Vec::new(),
            closing: false,
            overlay: None,
            #[cfg(test)]
            seen: None,
            started: false,
        };
        Arc::new_cyclic(|me| Engine {
            me: me.clone(),
            disk,
            dir,
            schema,
            settings,
            published: ArcSwap::new(view.clone()),
            buffered: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Condvar::new(),
            tidy: Condvar::new(),
            compacting: Mutex::default(),
            next_segment,
            writer: Mutex::new(Writer { pair, manifest, in_del, deletes, ops: 0, durable_view: view }),
            threads: Mutex::default(),
            stop: AtomicBool::new(false),
            generation: fork::generation(),
        })
    }

    /// Whether this process is a child of the one that opened the store.
    pub(crate) fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- accepting ----

    /// Refuses to write where nothing can be written any more, or could not be a moment ago.
    pub(crate) fn check_writable(&self, state: &State) -> Result<()> {
        if let Some(first) = &state.failure {
            return Err(Error::Poisoned { first: first.clone() });
        }
        if state.closing {
            return Err(Error::Closed);
        }
        state.setback.clone().map_or(Ok(()), Err)
    }

    /// Refuses a kind that is not the store's; the first batch decides.
    fn settle_kind(state: &mut State, kind: IdKind) -> Result<()> {
        match *state.kind.get_or_insert(kind) {
            expected if expected == kind => Ok(()),
            expected => Err(Error::IdKind { expected, found: kind }),
        }
    }

    /// Takes a checked batch: into the buffer, or past it to the files if it is large.
    pub(crate) fn write(&self, batch: Batch<'_>, kind: IdKind, durability: Durability) -> Result<()> {
        let bytes = batch.bytes();
        if bytes > self.settings.buffer_bytes / 4 {
            return self.stream(batch, kind, durability);
        }
        let changes = batch.changes(self.schema.hasher());
        if bytes < PREPARED_BYTES {
            return self.accept(kind, bytes, durability, |buffer| buffer.push(changes));
        }
        // Copied before the state is locked.
        let memory = self.state().buffer.lend(batch.len());
        let prepared = Prepared::new(self.schema.dim as usize, changes, memory);
        self.accept(kind, bytes, durability, |buffer| buffer.push_prepared(prepared))
    }

    /// Deletes those of the ids that are there now, in one batch; returns how many.
    pub(crate) fn delete(&self, mut ops: Vec<Op<'_>>, durability: Durability) -> Result<usize> {
        ops.sort_unstable_by(|a, b| a.id().as_bytes().cmp(b.id().as_bytes()));
        ops.dedup_by(|a, b| a.id().as_bytes() == b.id().as_bytes());
        let hasher = self.schema.hasher();
        loop {
            // Looked up without the lock; what happens meanwhile makes it look again.
            let view = self.published.load_full();
            let mut there = Vec::new();
            for op in &ops {
                let id = op.id().as_bytes();
                there.push(view.kind == Some(op.id().kind()) && view.find(hasher.hash(id), id)?.is_some());
            }
            let state = self.room(Batch::Ops(&ops).bytes())?;
            if !Arc::ptr_eq(&view, &self.published.load()) {
                continue;
            }
            let is_there = |(op, there): (&Op<'_>, bool)| {
                let id = op.id().as_bytes();
                state.buffer.find(hasher.hash(id), id).map_or(there, |found| found.op.is_put())
            };
            let Some(kind) = state.kind else { return Ok(0) };
            let found: Vec<Op<'_>> = ops
                .iter()
                .zip(there)
                .filter(|(op, there)| op.id().kind() == kind && is_there((op, *there)))
                .map(|(op, _)| *op)
                .collect();
            if found.is_empty() {
                return Ok(0);
            }
            let changes = Batch::Ops(&found).changes(hasher);
            self.accept_in(state, kind, durability, |buffer| buffer.push(changes))?;
            return Ok(found.len());
        }
    }

    /// Takes a checked batch of `bytes` bytes into the buffer, waiting for room; returns when it is visible, or durable.
    pub(crate) fn accept(
        &self,
        kind: IdKind,
        bytes: u64,
        durability: Durability,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<()> {
        let state = self.room(bytes)?;
        self.accept_in(state, kind, durability, push)
    }

    /// The state, once the buffer has room for so many bytes.
    pub(crate) fn room(&self, bytes: u64) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        loop {
            self.check_writable(&state)?;
            if state.buffer.is_empty() || state.buffer.bytes() + bytes <= self.settings.buffer_bytes {
                return Ok(state);
            }
            if self.settings.background {
                self.start_threads(&mut state);
                self.work.notify_all();
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                drop(state);
                self.drain()?;
                state = self.state();
            }
        }
    }

    /// As [`accept`](Self::accept), with the state locked and room made.
    pub(crate) fn accept_in(
        &self,
        mut state: MutexGuard<'_, State>,
        kind: IdKind,
        durability: Durability,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<()> {
        Self::settle_kind(&mut state, kind)?;
        push(&mut state.buffer);
        #[cfg(test)]
        state.seen.get_or_insert_with(|| self.published.load_full());
        let goal = Goal { ops: state.buffer.next(), seq: 0 };
        self.buffered.store(goal.ops - state.buffer.first(), Ordering::Release);
        let half_full = state.buffer.bytes() > self.settings.buffer_bytes / 2;
        if self.settings.background && durability == Durability::Buffered {
            if state.dirty_since.is_none() {
                state.dirty_since = Some(Instant::now());
                self.start_threads(&mut state);
                self.work.notify_all();
            } else if half_full {
                self.work.notify_all();
            }
        }
        drop(state);
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Sync => self.wait_for(goal),
        }
    }

    /// Writes a batch that is too large for the buffer from where it lies, after all that was accepted before.
    pub(crate) fn stream(&self, batch: Batch<'_>, kind: IdKind, durability: Durability) -> Result<()> {
        {
            let mut state = self.state();
            self.check_writable(&state)?;
            Self::settle_kind(&mut state, kind)?;
        }
        let seq = self.in_turn(|writer| {
            let ops = self.state().buffer.next();
            if self.write_until(writer, ops)? == Outcome::SealFirst {
                return Ok(None);
            }
            let outcome = self.write_batch(writer, batch, kind, None)?;
            Ok((outcome == Outcome::Written).then(|| writer.pair.written().seq))
        })?;
        if durability == Durability::Sync {
            return self.wait_for(Goal { ops: 0, seq });
        }
        let mut state = self.state();
        if self.settings.background {
            state.dirty_since.get_or_insert_with(Instant::now);
            self.start_threads(&mut state);
            self.work.notify_all();
        }
        Ok(())
    }

    // ---- writing ----

    /// Runs `write` in the writer's place; where it finds that the segment has to be sealed first (`None`), seals it,
    /// which needs the sync place too, and runs it again.
    fn in_turn<T>(&self, mut write: impl FnMut(&mut Writer) -> Result<Option<T>>) -> Result<T> {
        loop {
            let mut writer = self.writer();
            if let Some(done) = write(&mut writer)? {
                return Ok(done);
            }
            let full = writer.pair.header().identity.segment;
            drop(writer);
            self.in_sync_place(|| {
                let mut writer = self.writer();
                // Somebody else may have sealed it meanwhile.
                if writer.pair.header().identity.segment == full { self.seal(&mut writer) } else { Ok(()) }
            })?;
        }
    }

    /// Writes what is in the buffer now.
    pub(crate) fn drain(&self) -> Result<()> {
        let ops = self.state().buffer.next();
        self.in_turn(|writer| Ok((self.write_until(writer, ops)? == Outcome::Written).then_some(())))
    }

    /// Writes groups until those up to `ops` are written.
    fn write_until(&self, writer: &mut Writer, ops: u64) -> Result<Outcome> {
        while writer.ops < ops {
            let state = self.state();
            let Some(kind) = state.kind else { break };
            let Some(group) = state.buffer.group(GROUP_BYTES) else { break };
            drop(state);
            if self.write_batch(writer, Batch::Group(&group), kind, Some(group.next))? == Outcome::SealFirst {
                return Ok(Outcome::SealFirst);
            }
        }
        Ok(Outcome::Written)
    }

    /// One commit: finds out which rows die, writes, publishes. `ops`: where the buffer goes on after it.
    fn write_batch(
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
        let kills = self.resolve(&mut view, batch)?;
        let mut written = writer.pair.write(batch, kind, &kills);
        let maps = match &written {
            Ok(appended) => self.maps_for(&view, writer, &appended.tip),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &maps {
            written = Err(error.clone());
        }
        if let Err(error) = writer.pair.publish(&written) {
            return Err(self.failed(writer, error));
        }
        let (appended, (dat_map, idx_map)) = (written?, maps?);
        let part = view.active_mut();
        let segment = part.segment.clone();
        segment.grow(&appended.rows, &appended.deletes, &idx_map, &mut part.mask);
        part.move_to(&appended.tip);
        part.dat_map = Some(dat_map);
        (view.kind, view.seq) = (Some(kind), appended.tip.seq);
        segment.set_jsonl(writer.pair.files());
        writer.deletes += appended.deletes.len() as u64;
        self.publish(writer, view, ops);
        Ok(Outcome::Written)
    }

    /// Makes a view the one that readers see, and takes from the buffer what is in it.
    pub(crate) fn publish(&self, writer: &mut Writer, view: View, ops: Option<u64>) {
        let mut state = self.state();
        self.published.store(Arc::new(view));
        if let Some(ops) = ops {
            writer.ops = ops;
            state.buffer.remove(ops);
            self.buffered.store(state.buffer.next() - state.buffer.first(), Ordering::Release);
        }
        state.setback = None;
        drop(state);
        self.changed.notify_all();
        self.tidy.notify_all();
    }

    /// The rows of sealed segments that a batch makes dead, for its COMMIT; these and those of the active segment's
    /// base are killed in `view` too. Decided here, in the order of writing, never when the batch was accepted.
    fn resolve(&self, view: &mut View, batch: Batch<'_>) -> Result<Vec<(u32, u32)>> {
        let changes: Vec<_> = batch.changes(self.schema.hasher()).collect();
        #[cfg(test)]
        if crate::planted::is(crate::planted::Bug::KillAtPut) {
            return self.resolve_as_accepted(view, &changes);
        }
        let active = view.active().segment.clone();
        // An id that the active segment has in its table has no live row anywhere else.
        let left: Vec<_> = {
            let heap = active.heap();
            changes.iter().filter(|change| !heap.has(change.hash, change.id)).collect()
        };
        let mut kills = Vec::new();
        let last = view.segments.len() - 1;
        for (place, part) in view.segments.iter_mut().enumerate().rev() {
            let segment = part.segment.clone();
            // All first looks before the first search: they do not wait for each other's memory.
            let likely: Vec<_> = left.iter().filter(|change| segment.may_have(change.hash)).collect();
            for change in likely {
                let found = if place == last {
                    segment.find_in_base(change.hash, change.id)?
                } else {
                    segment.find(change.hash, change.id, part.rows)?
                };
                let Some(row) = found else { continue };
                if part.mask.kill(row) && place != last {
                    kills.push((segment_number(&segment)?, row));
                }
            }
        }
        Ok(kills)
    }

    /// The planted bug: what a put replaces is what it would have replaced when it was accepted.
    #[cfg(test)]
    fn resolve_as_accepted(&self, view: &mut View, changes: &[buffer::Change<'_>]) -> Result<Vec<(u32, u32)>> {
        let seen = self.state().seen.take().unwrap_or_else(|| self.published.load_full());
        let mut kills = Vec::new();
        for change in changes {
            let Some(at) = seen.find(change.hash, change.id)? else { continue };
            let segment = &seen.segments[at.segment].segment;
            let place = view.place_of(segment.number());
            if at.segment + 1 < seen.segments.len()
                && place.is_none_or(|place| view.segments[place].mask.kill(at.row))
            {
                kills.push((segment_number(segment)?, at.row));
            }
        }
        Ok(kills)
    }

    /// Mappings that reach the end of a batch that was just written.
    fn maps_for(
        &self,
        view: &View,
        writer: &Writer,
        tip: &crate::recover::Tip,
    ) -> Result<(Arc<crate::disk::Mapping>, Arc<crate::disk::Mapping>)> {
        let files = writer.pair.files();
        let dat_len = writer.pair.header().row_start(tip.rows);
        let part = view.active();
        let dat = match &part.dat_map {
            Some(map) if map.len() >= dat_len => map.clone(),
            _ => Arc::new(files.dat.map_written(dat_len)?),
        };
        let old = part.segment.heap().map().clone();
        let idx = if old.len() >= tip.idx_end { old } else { Arc::new(files.idx.map_written(tip.idx_end)?) };
        Ok((dat, idx))
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
        let rows: u64 = batch.rows().map(|rows| rows.len() as u64 * 4).sum();
        self.is_over(writer)
            || records + batch.len() as u64 > limits.records
            || writer.pair.header().row_start(tip.rows) + rows > limits.dat
    }

    // ---- syncing ----

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
        state.waiting += 1;
        let outcome = loop {
            if goal.is_reached(state.durable) {
                break Ok(());
            }
            if let Some(first) = &state.failure {
                break Err(Error::Poisoned { first: first.clone() });
            }
            if state.syncing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            state = self.wait_for_company(state);
            drop(state);
            let round = self.round();
            state = self.state();
            state.syncing = false;
            self.changed.notify_all();
            if let Err(error) = round {
                break Err(error);
            }
        };
        state.waiting -= 1;
        outcome
    }

    /// A leader that had company in the last sync gives it a moment to come back: at most a quarter of that sync.
    fn wait_for_company<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let until = Instant::now() + state.last_sync / 4;
        while state.waiting < state.company {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
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

    /// Writes everything accepted until now; in the sync place, so that segments can be sealed.
    pub(crate) fn write_all(&self, writer: &mut Writer) -> Result<()> {
        let ops = self.state().buffer.next();
        while self.write_until(writer, ops)? == Outcome::SealFirst {
            self.seal(writer)?;
        }
        Ok(())
    }

    pub(crate) fn became_durable(&self, writer: &mut Writer, view: Arc<View>, ops: u64, took: Duration) {
        let mut state = self.state();
        state.durable = Goal { ops: ops.max(state.durable.ops), seq: view.seq.max(state.durable.seq) };
        writer.durable_view = view;
        (state.company, state.last_sync) = (state.waiting, took);
        if state.buffer.is_empty() && self.published.load().seq == state.durable.seq {
            state.dirty_since = None;
        } else if state.dirty_since.is_some() {
            state.dirty_since = Some(Instant::now());
        }
        let durable = state.durable;
        let woken: Vec<Waker> =
            state.wakers.extract_if(.., |(goal, _)| goal.is_reached(durable)).map(|(_, waker)| waker).collect();
        drop(state);
        self.changed.notify_all();
        woken.into_iter().for_each(Waker::wake);
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
        }
        let woken: Vec<Waker> = state.wakers.drain(..).map(|(_, waker)| waker).collect();
        drop(state);
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
        if let Err(error) = self.check_writable(&state) {
            return Some(Err(error));
        }
        state.wakers.push((goal, waker.clone()));
        state.urgent = true;
        self.start_threads(&mut state);
        self.work.notify_all();
        None
    }

    /// Wakes all who wait for durability in a future: after a setback they see it.
    pub(crate) fn wake_all(&self) {
        let woken: Vec<Waker> = self.state().wakers.drain(..).map(|(_, waker)| waker).collect();
        woken.into_iter().for_each(Waker::wake);
    }

    // ---- reading ----

    /// What the buffer says of an id: nothing, that it is deleted, or its newest vector and document.
    pub(crate) fn in_buffer<T>(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&buffer::Chunk, &buffer::Op) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.buffered.load(Ordering::Acquire) == 0 {
            return None;
        }
        let state = self.state();
        if state.kind != Some(id.kind()) {
            return None;
        }
        let found = state.buffer.find(hash, id.as_bytes())?;
        Some(read(found.chunk, found.op))
    }

    /// The files and the buffer as they are now, as one unchanging picture: the rows that the buffer replaces or deletes
    /// are dead in the view.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let state = self.state();
        let base = self.published.load_full();
        if state.buffer.is_empty() {
            return Ok(Snapshot::new(self.schema, base.kind, base, buffer::View::default()));
        }
        let kind = state.kind;
        let buffered = state.buffer.view();
        let known = state.overlay.clone().filter(|overlay| Arc::ptr_eq(&overlay.base, &base));
        drop(state);
        let (mut view, from) = match known {
            Some(overlay) => (overlay.view, overlay.next),
            None => (base.clone(), 0),
        };
        for (number, chunk, op) in buffered.latest() {
            if number < from {
                continue;
            }
            if let Some(at) = base.find(op.hash, chunk.id(op))? {
                Arc::make_mut(&mut view).segments[at.segment].mask.kill(at.row);
            }
        }
        let next = buffered.next();
        self.state().overlay = Some(Overlay { base, next, view: view.clone() });
        Ok(Snapshot::new(self.schema, kind, view, buffered))
    }

    // ---- for the other parts of the engine ----

    /// This engine, for a thread to keep.
    pub(crate) fn me(&self) -> Option<Arc<Engine>> {
        self.me.upgrade()
    }

    /// A segment number that was never used.
    pub(crate) fn take_segment_number(&self) -> u64 {
        self.next_segment.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn next_segment_number(&self) -> u64 {
        self.next_segment.load(Ordering::Relaxed)
    }

    pub(crate) fn has_failed(&self, state: &State) -> bool {
        state.failure.is_some()
    }

    /// The place of whoever compacts.
    pub(crate) fn compacting(&self) -> MutexGuard<'_, Option<Error>> {
        self.compacting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a segment as kills name it.
pub(crate) fn segment_number(segment: &crate::segment::Segment) -> Result<u32> {
    let number = segment.number();
    u32::try_from(number).map_err(|_| Error::Full { rows: number, max: u32::MAX.into() })
}
