//! Calls of a microsecond that would rather not be made than wait: for a caller who holds a lock of his own, such as that of
//! an interpreter.

use super::{Role, VectorStore};
use crate::buffer::batch::{Batch, Op};
use crate::segment::Lookup;
use crate::segment::version::check_len;
use crate::types::error::Result;
use crate::types::id::AsId;

impl VectorStore {
    /// As [`write`](Self::write) of one put or delete with [`Durability::Buffered`](crate::Durability::Buffered), if
    /// that need not wait for a lock, for room in the buffer or for the disk; else `None`, and nothing is written. The
    /// first write of a store is not for this call: it makes files, or starts threads.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn try_write(&self, op: &Op<'_>) -> Result<Option<()>> {
        let engine = self.engine()?;
        let (ops, line);
        let op = match *op {
            Op::Put { id, vector, document } => {
                line = document.one_line(0)?;
                Op::Put { id, vector, document: line.as_deref() }
            }
            op => op,
        };
        ops = [op];
        let batch = Batch::Ops(&ops);
        batch.check(engine.schema.dim as usize, None)?;
        engine.try_write(&op, batch.bytes())
    }

    /// As [`get_into`](Self::get_into), if that need not wait for a lock or for the disk; else `None`, and `out` holds
    /// nothing to rely on. Opens and rebuilds nothing: `None` where the ids of a segment were not looked at yet. Pages of
    /// mapped files that are not in memory are the one thing that it waits for: each is read once.
    ///
    /// # Errors
    ///
    /// As [`get_into`](Self::get_into).
    pub fn try_get_into(&self, id: impl AsId, out: &mut [f32]) -> Result<Option<bool>> {
        let id = id.as_id();
        let bytes = id.as_bytes();
        let version = match &self.role {
            Role::Writer(engine) if !engine.is_forked() => {
                check_len(engine.schema.dim as usize, out)?;
                let hash = engine.schema.hasher().hash(bytes);
                match engine.try_buffer(hash, id, |vector| out.copy_from_slice(vector)) {
                    Lookup::WouldBlock => return Ok(None),
                    Lookup::Found(is_put) => return Ok(Some(is_put)),
                    Lookup::Absent => engine.published.load(),
                }
            }
            Role::Reader(reader) if !reader.is_forked() => reader.published.load(),
            _ => return Ok(None),
        };
        check_len(version.schema.dim as usize, out)?;
        let hash = version.schema.hasher().hash(bytes);
        if version.kind != Some(id.kind()) {
            return Ok(Some(false));
        }
        match version.try_find(hash, bytes)? {
            Lookup::WouldBlock => Ok(None),
            Lookup::Absent => Ok(Some(false)),
            Lookup::Found(at) => {
                let read = version.segments[at.segment].segment.read_cached_row(at.row.into(), out)?;
                Ok(read.then_some(true))
            }
        }
    }
}
