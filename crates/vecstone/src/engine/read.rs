//! What readers of a writer's handle see: the buffer, and the version that was published after the look at it.

use super::Engine;
use super::write_buffer::Overlay;
use crate::buffer::{self, Buffer};
use crate::query::batch_get::Missing;
use crate::query::snapshot::Snapshot;
use crate::segment::Lookup;
use crate::segment::PREFETCH_WIDTH;
use crate::sys::planted::{self, Bug};
use crate::types::error::Result;
use crate::types::id::IdRef;
use std::sync::Arc;

/// What the buffer says of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffered<T> {
    Put(T),
    Deleted,
    /// Nothing: it is as in the files.
    Nothing,
}

impl Engine {
    /// What the buffer says of an id, with what `read` takes from its newest put.
    pub(crate) fn in_buffer<T>(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&buffer::Chunk, &buffer::Op) -> Option<T>,
    ) -> Buffered<T> {
        match self.find_in_buffer(hash, id, |_, found| read(found.chunk, found.op)) {
            Some(Some(read)) => Buffered::Put(read),
            Some(None) => Buffered::Deleted,
            None => Buffered::Nothing,
        }
    }

    /// What `read` takes from the newest change of an id in the buffer; `None` if that has none.
    pub(super) fn find_in_buffer<T>(
        &self,
        hash: u64,
        id: IdRef<'_>,
        read: impl FnOnce(&Buffer, buffer::Found<'_>) -> T,
    ) -> Option<T> {
        self.hooks.here("asked");
        self.buffer.find(hash, id, read)
    }

    /// Whether the buffer says that an id is there, its vector handed to `read`, or that it is deleted (false). Waits for
    /// no lock.
    pub(crate) fn try_buffer(&self, hash: u64, id: IdRef<'_>, read: impl FnOnce(&[f32])) -> Lookup<bool> {
        self.hooks.here("asked");
        if self.buffer.is_empty() {
            return Lookup::Absent;
        }
        let Some(state) = self.buffer.try_lock() else { return Lookup::WouldBlock };
        let found = if state.kind == Some(id.kind()) { state.buffer.find(hash, id.as_bytes()) } else { None };
        found.map(|found| found.chunk.vector(found.op).map(read).is_some()).into()
    }

    /// The rows of a few ids, each as it is at some moment of this call.
    pub(crate) fn get_few(&self, ids: &[IdRef<'_>], out: &mut [f32]) -> Result<Missing> {
        let (dim, hasher) = (self.schema.dim as usize, self.schema.hasher());
        let (mut hashes, mut left, mut missing) = ([0; PREFETCH_WIDTH], [false; PREFETCH_WIDTH], 0);
        let too_early = planted::is(Bug::ViewBeforeBuffer).then(|| self.published.load());
        for (n, (id, out)) in ids.iter().zip(out.chunks_exact_mut(dim)).enumerate() {
            hashes[n] = hasher.hash(id.as_bytes());
            let copy = |chunk: &buffer::Chunk, op: &buffer::Op| {
                chunk.vector(op).map(|vector| out.copy_from_slice(vector))
            };
            match self.in_buffer(hashes[n], *id, copy) {
                Buffered::Put(()) => {}
                Buffered::Deleted => missing |= 1 << n,
                Buffered::Nothing => left[n] = true,
            }
        }
        // Loaded after the look at the buffer: what left it before is in here.
        let version = too_early.unwrap_or_else(|| self.published.load());
        let left = ids.iter().enumerate().filter(|(n, _)| left[*n]);
        version.prefetch(left.clone().map(|(n, _)| hashes[n]));
        let mut places = [None; PREFETCH_WIDTH];
        for (n, id) in left {
            if version.kind == Some(id.kind()) {
                places[n] = version.find(hashes[n], id.as_bytes())?;
            }
            missing |= u32::from(places[n].is_none()) << n;
        }
        version.copy(&places[..ids.len()], dim, out)?;
        Ok(missing)
    }

    /// The files and the buffer as they are now, as one unchanging picture: the rows that the buffer replaces or deletes
    /// are dead in the version.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        self.hooks.here("asked");
        let state = self.buffer.lock();
        let base = self.published.get();
        if state.buffer.is_empty() {
            return Ok(Snapshot::new(base.kind, base));
        }
        let kind = state.kind;
        let buffered = state.buffer.snapshot();
        let known = state.overlay.clone().filter(|overlay| Arc::ptr_eq(&overlay.base, &base));
        drop(state);
        let (mut version, from) = match known {
            Some(overlay) => (overlay.version, overlay.next),
            None => (base.clone(), 0),
        };
        for (number, chunk, op) in buffered.latest() {
            if number < from {
                continue;
            }
            if let Some(at) = base.find(op.hash, chunk.id(op))? {
                Arc::make_mut(&mut version).segments[at.segment].deletions.delete_row(at.row);
            }
        }
        let next = buffered.next();
        let mut state = self.buffer.lock();
        // What is no longer shown must not keep its files.
        if Arc::ptr_eq(&base, &self.published.load()) || planted::is(Bug::LateOverlay) {
            state.overlay = Some(Overlay { base: base.clone(), next, version: version.clone() });
        }
        drop(state);
        Ok(Snapshot::with_buffer(kind, base, version, buffered))
    }
}
