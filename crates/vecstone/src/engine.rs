//! The write path of a store: accept, group, write, sync, publish.
//!
//! A write goes to the buffer and returns. Whoever holds the writer's place turns whole batches of the buffer into one
//! commit; whoever holds the sync place makes what was written durable, while the next group is written. Locks are
//! taken in this order: sync place, writer's place, state; nobody waits for the disk with the state locked.

use crate::batch::{Batch, Op};
use crate::buffer::{self, Buffer, Prepared};
use crate::config::Schema;
use crate::directory;
use crate::disk::{Dir, fork};
use crate::error::{Error, Result};
use crate::format::manifest::{MAX_NUMBER, Manifest};
use crate::id::{IdKind, IdRef};
use crate::lock::Lock;
use crate::many::{FEW, Missing};
use crate::mask::Mask;
use crate::open::Opened;
use crate::pair::VectorStorage;
use crate::planted::{self, Bug, Hooks};
use crate::segment::Segment;
use crate::settings::Durability;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::sync::{ArcSwap, AtomicU64, Condvar, Instant, Mutex, MutexGuard};
use crate::view::View;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};

mod commit;
mod documents;
mod erase;
mod group_commit;
mod guards;
pub(crate) mod maintenance;
mod resolve;
mod sync;

pub(crate) use commit::Drain;
use documents::Lost;
use group_commit::GroupCommit;
pub(crate) use group_commit::{DurabilityTarget, SyncPermit};
use maintenance::Maintenance;

/// The writing half of an open store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) dir: Dir,
    /// Held by the store; gone when that is closed.
    lock: Weak<Lock>,
    pub(crate) schema: Schema,
    pub(crate) settings: Settings,
    /// What readers look at.
    pub(crate) published: ArcSwap<View>,
    /// Ops in the buffer: readers look into it only if there are any.
    buffered: AtomicU64,
    state: Mutex<State>,
    pub(crate) commits: GroupCommit,
    /// The buffer has room, or will have none.
    pub(crate) room: Condvar,
    /// There is something to do in the background.
    pub(crate) work: Condvar,
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

/// What is accepted and not yet written.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) buffer: Buffer,
    /// Kind of the ids, fixed by the first batch that was accepted.
    pub(crate) kind: Option<IdKind>,
    /// When the first change was accepted that is not durable yet.
    pub(crate) dirty_since: Option<Instant>,
    /// A future wants the background to sync now.
    pub(crate) urgent: bool,
    pub(crate) health: Health,
    /// Threads that wait for room: a wake-up without any costs a system call too.
    waiting_for_space: usize,
    pub(crate) lifecycle: Lifecycle,
    overlay: Option<Overlay>,
    /// What was published when the first change in the buffer was accepted, for a planted bug.
    #[cfg(test)]
    seen: Option<Arc<View>>,
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

impl State {
    /// Refuses to write where nothing can be written any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        match (&self.health, self.lifecycle) {
            (Health::Failed(first), _) => Err(Error::Poisoned { first: first.clone() }),
            (_, Lifecycle::Closing) => Err(Error::Closed),
            (_, Lifecycle::Open) => Ok(()),
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
    fn recover(&mut self) {
        if let Health::BackgroundError(_) = self.health {
            self.health = Health::Good;
        }
    }
}

/// What only the writer's place needs.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) pair: VectorStorage,
    pub(crate) manifest: Manifest,
    /// What the `.del` file of each sealed segment says.
    pub(crate) in_del: HashMap<u64, Mask>,
    /// Deletes in the active segment.
    pub(crate) deletes: u64,
    /// The end of the last group in ops of the buffer.
    ops: u64,
    /// What readers see if writing stops.
    pub(crate) durable_view: Arc<View>,
    /// What opening took from `.ids` and nobody has compared with the log yet.
    pub(crate) claim: Option<Arc<Segment>>,
    /// Closing has written what the next opening needs.
    pub(crate) closed: bool,
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

    /// Whether the view that readers would fall back to has that segment as it is now, and not as it once grew.
    pub(crate) fn falls_back_to_sealed(&self, segment: &Segment) -> bool {
        let part = self.durable_view.segments.iter().find(|part| part.segment.number() == segment.number());
        part.is_some_and(|part| part.rows == segment.base().rows)
    }

    /// Puts another handle of a segment in the place of the one that readers would fall back to.
    pub(crate) fn renew(&mut self, segment: &Arc<Segment>) {
        if let Some(place) = self.durable_view.place_of(segment.number()) {
            let part = &mut Arc::make_mut(&mut self.durable_view).segments[place];
            (part.segment, part.dat_map) = (segment.clone(), None);
        }
    }
}

/// From this size on a batch is copied before the state is locked.
const PREPARED_BYTES: u64 = 256 << 10;

impl Engine {
    pub(crate) fn new(
        dir: Dir,
        lock: &Arc<Lock>,
        settings: Settings,
        opened: Opened,
        mut pair: VectorStorage,
    ) -> Arc<Engine> {
        let Opened { manifest, view, in_del, active, claim, .. } = opened;
        pair.share_maps(view.active().dat_map.clone(), view.active().segment.heap().map().clone());
        let (view, schema, deletes) = (Arc::new(view), manifest.schema(), active.deletes.len() as u64);
        let next_segment = AtomicU64::new(manifest.next_segment);
        let state = State {
            buffer: Buffer::new(schema.dim as usize),
            kind: view.kind,
            dirty_since: None,
            urgent: false,
            health: Health::Good,
            waiting_for_space: 0,
            lifecycle: Lifecycle::Open,
            overlay: None,
            #[cfg(test)]
            seen: None,
            workers: if settings.background { Workers::NotStarted } else { Workers::None },
        };
        Arc::new_cyclic(|me| Engine {
            me: me.clone(),
            dir,
            lock: Arc::downgrade(lock),
            schema,
            maintenance: Maintenance::new(settings.compact_speed),
            settings,
            published: ArcSwap::new(view.clone()),
            buffered: AtomicU64::new(0),
            state: Mutex::new(state),
            commits: GroupCommit::new(DurabilityTarget { ops: 0, seq: view.seq }),
            room: Condvar::new(),
            work: Condvar::new(),
            lost: Mutex::default(),
            next_segment,
            writer: Mutex::new(Writer {
                pair,
                manifest,
                in_del,
                deletes,
                ops: 0,
                durable_view: view,
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

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- accepting ----

    /// Refuses a kind that is not the store's; the first batch decides.
    fn check_id_kind(state: &mut State, kind: IdKind) -> Result<()> {
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
        let hasher = self.schema.hasher();
        if let Batch::Ops([op]) = batch {
            let change = op.change(hasher);
            return self.accept(kind, bytes, durability, |buffer| buffer.push(std::iter::once(change)));
        }
        let changes = batch.changes(hasher);
        if bytes < PREPARED_BYTES {
            return self.accept(kind, bytes, durability, |buffer| buffer.push(changes));
        }
        // Copied before the state is locked, but not before there is room: nobody keeps copies while waiting.
        drop(self.room(bytes)?);
        let memory = self.state().buffer.lend(batch.len());
        let prepared = Prepared::new(self.schema.dim as usize, changes, memory);
        self.accept(kind, bytes, durability, |buffer| buffer.push_prepared(prepared))
    }

    /// Takes a checked change of so many bytes into the buffer, unless that has to wait or to start threads.
    pub(crate) fn try_write(&self, op: &Op<'_>, bytes: u64) -> Result<Option<()>> {
        let change = op.change(self.schema.hasher());
        let Ok(state) = self.state.try_lock() else { return Ok(None) };
        state.check_writable()?;
        let limit = self.settings.buffer_bytes;
        let fits = bytes <= limit / 4 && state.buffer.bytes() + bytes <= limit;
        if !fits || state.workers == Workers::NotStarted {
            return Ok(None);
        }
        self.accept_in(state, op.id().kind(), Durability::Buffered, |buffer| {
            buffer.push(std::iter::once(change))
        })
        .map(Some)
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
            state.check_writable()?;
            if state.buffer.is_empty() || state.buffer.bytes() + bytes <= self.settings.buffer_bytes {
                return Ok(state);
            }
            self.start_threads(&mut state);
            if !state.workers.are_missing() {
                self.work.notify_all();
                state.waiting_for_space += 1;
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting_for_space -= 1;
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
        state: MutexGuard<'_, State>,
        kind: IdKind,
        durability: Durability,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<()> {
        let target = self.guarded(|| self.take_in(state, kind, durability, push))?;
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Sync => self.wait_for(target),
        }
    }

    /// The state's part of that; returns what has to be durable for the batch to be.
    fn take_in(
        &self,
        mut state: MutexGuard<'_, State>,
        kind: IdKind,
        durability: Durability,
        push: impl FnOnce(&mut Buffer),
    ) -> Result<DurabilityTarget> {
        Self::check_id_kind(&mut state, kind)?;
        push(&mut state.buffer);
        self.hooks.here("accept");
        #[cfg(test)]
        if planted::is(Bug::KillAtPut) || planted::is(Bug::KeepAtPut) {
            state.seen.get_or_insert_with(|| self.published.load_full());
        }
        let target = DurabilityTarget { ops: state.buffer.next(), seq: 0 };
        self.buffered.store(target.ops - state.buffer.first(), Ordering::Release);
        let half_full = state.buffer.bytes() > self.settings.buffer_bytes / 2;
        self.start_threads(&mut state);
        if self.settings.background && durability == Durability::Buffered {
            if state.dirty_since.is_none() {
                state.dirty_since = Some(Instant::now());
                self.work.notify_all();
            } else if half_full {
                self.work.notify_all();
            }
        }
        Ok(target)
    }

    /// Writes a batch that is too large for the buffer from where it lies, after all that was accepted before.
    pub(crate) fn stream(&self, batch: Batch<'_>, kind: IdKind, durability: Durability) -> Result<()> {
        {
            let mut state = self.state();
            state.check_writable()?;
            Self::check_id_kind(&mut state, kind)?;
            self.start_threads(&mut state);
        }
        let seq = self.write_unbuffered(batch, kind)?;
        self.finish_write(DurabilityTarget { ops: 0, seq }, durability)
    }

    /// Ends a write: returns when what was accepted up to `target` is durable, or at once.
    pub(crate) fn finish_write(&self, target: DurabilityTarget, durability: Durability) -> Result<()> {
        if durability == Durability::Sync {
            return self.wait_for(target);
        }
        let mut state = self.state();
        if self.settings.background && !self.commits.is_durable(target) {
            state.dirty_since.get_or_insert_with(Instant::now);
            self.work.notify_all();
        }
        Ok(())
    }

    // ---- reading ----

    /// What the buffer says of an id: nothing, that it is deleted, or what `read` takes from its newest put.
    pub(crate) fn in_buffer<T>(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&buffer::Chunk, &buffer::Op) -> Option<T>,
    ) -> Option<Option<T>> {
        self.find_in_buffer(hash, id, |_, found| read(found.chunk, found.op))
    }

    /// What `read` takes from the newest change of an id in the buffer; `None` if that has none.
    fn find_in_buffer<T>(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&Buffer, buffer::Found<'_>) -> T,
    ) -> Option<T> {
        self.hooks.here("asked");
        if self.buffered.load(Ordering::Acquire) == 0 {
            return None;
        }
        let state = self.state();
        if state.kind != Some(id.kind()) {
            return None;
        }
        let found = state.buffer.find(hash, id.as_bytes())?;
        Some(read(&state.buffer, found))
    }

    /// What the buffer says of an id, its vector handed to `read`: `Some(None)` is nothing, `Some(Some(false))` that it is
    /// deleted; `None` if there is someone else in it.
    pub(crate) fn try_buffer(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&[f32]),
    ) -> Option<Option<bool>> {
        self.hooks.here("asked");
        if self.buffered.load(Ordering::Acquire) == 0 {
            return Some(None);
        }
        let state = self.state.try_lock().ok()?;
        let found = if state.kind == Some(id.kind()) { state.buffer.find(hash, id.as_bytes()) } else { None };
        Some(found.map(|found| found.chunk.vector(found.op).map(read).is_some()))
    }

    /// The rows of a few ids, each as it is at some moment of this call.
    pub(crate) fn get_few(&self, ids: &[IdRef<'_>], out: &mut [f32]) -> Result<Missing> {
        let (dim, hasher) = (self.schema.dim as usize, self.schema.hasher());
        let (mut hashes, mut left, mut missing) = ([0; FEW], [false; FEW], 0);
        let too_early = planted::is(Bug::ViewBeforeBuffer).then(|| self.published.load());
        for (n, (id, out)) in ids.iter().zip(out.chunks_exact_mut(dim)).enumerate() {
            hashes[n] = hasher.hash(id.as_bytes());
            let copy = |chunk: &buffer::Chunk, op: &buffer::Op| {
                chunk.vector(op).map(|vector| out.copy_from_slice(vector))
            };
            match self.in_buffer(hashes[n], *id, copy) {
                Some(Some(())) => {}
                Some(None) => missing |= 1 << n,
                None => left[n] = true,
            }
        }
        // Loaded after the look at the buffer: what left it before is in here.
        let view = too_early.unwrap_or_else(|| self.published.load());
        let left = ids.iter().enumerate().filter(|(n, _)| left[*n]);
        view.warm(left.clone().map(|(n, _)| hashes[n]));
        let mut places = [None; FEW];
        for (n, id) in left {
            if view.kind == Some(id.kind()) {
                places[n] = view.find(hashes[n], id.as_bytes())?;
            }
            missing |= u32::from(places[n].is_none()) << n;
        }
        view.copy(&places[..ids.len()], dim, out)?;
        Ok(missing)
    }

    /// The files and the buffer as they are now, as one unchanging picture: the rows that the buffer replaces or deletes
    /// are dead in the view.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.hooks.here("asked");
        let state = self.state();
        let base = self.published.load_full();
        if state.buffer.is_empty() {
            return Ok(Snapshot::new(base.kind, base));
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
        let mut state = self.state();
        // What is no longer shown must not keep its files.
        if Arc::ptr_eq(&base, &self.published.load()) || planted::is(Bug::LateOverlay) {
            state.overlay = Some(Overlay { base: base.clone(), next, view: view.clone() });
        }
        drop(state);
        Ok(Snapshot::with_buffer(kind, base, view, buffered))
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
        writer.durable_view = self.published.load_full();
    }
}
