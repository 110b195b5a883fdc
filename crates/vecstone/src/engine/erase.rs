//! Deleting what a filter selects, as one batch at one place in the order of writing.
//!
//! Reading documents takes long, and nothing may change between the last look and the batch. So most of the looking is
//! done while others write; then, in the writer's place, only at what they wrote meanwhile. What is accepted into the
//! buffer after that comes behind the batch.

use super::commit::Outcome;
use super::{Engine, Writer};
use crate::batch::{Batch, Op};
use crate::config::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};
use crate::crew;
use crate::error::Result;
use crate::filter::Filter;
use crate::id::{AsId, Id};
use crate::select::select;
use crate::settings::Durability;
use crate::view::View;
use std::sync::Arc;

/// Looks without the writer's place, at most: each one looks at what was written during the one before.
const LOOKS: usize = 4;

/// A batch of deletes.
struct Erased {
    ids: usize,
    /// Its sequence.
    seq: u64,
    /// There was no room for others that match.
    full: bool,
}

impl Engine {
    /// Deletes the ids that a filter selects; returns how many. `threads`: how many may look, 0: not said.
    pub(crate) fn delete_where(
        &self,
        filter: &Filter,
        durability: Durability,
        threads: usize,
    ) -> Result<usize> {
        {
            let mut state = self.state();
            self.check_writable(&state)?;
            self.start_threads(&mut state);
        }
        let limit = crew::limit(threads);
        let (mut seen, mut known): (Option<Arc<View>>, Option<View>) = (None, None);
        for _ in 0..LOOKS {
            self.drain()?;
            let view = self.published.load_full();
            if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &view)) {
                break;
            }
            known = Some(select(filter, &view, self.schema.hasher(), known.as_ref(), limit)?);
            seen = Some(view);
        }
        let (mut deleted, mut last) = (0, None);
        while let Some(erased) = self.in_turn(|writer| self.erase(writer, filter, &mut known, limit))? {
            deleted += erased.ids;
            last = Some(erased.seq);
            if !erased.full {
                break;
            }
        }
        last.map_or(Ok(()), |seq| self.settle(seq, durability))?;
        Ok(deleted)
    }

    /// Writes one batch that deletes what matches now, if anything does. `known`: what was found before.
    fn erase(
        &self,
        writer: &mut Writer,
        filter: &Filter,
        known: &mut Option<View>,
        limit: usize,
    ) -> Result<Option<Option<Erased>>> {
        let ops = self.state().buffer.next();
        if self.write_until(writer, ops)? == Outcome::SealFirst {
            return Ok(None);
        }
        // Nobody changes it as long as the writer's place is held.
        let view = self.published.load_full();
        let selected = known.insert(select(filter, &view, self.schema.hasher(), known.as_ref(), limit)?);
        let (ids, full) = some_ids(selected)?;
        let (Some(kind), false) = (view.kind, ids.is_empty()) else { return Ok(Some(None)) };
        let ops: Vec<Op<'_>> = ids.iter().map(Op::delete).collect();
        let outcome = self.write_batch(writer, Batch::Ops(&ops), kind, None)?;
        let erased = Erased { ids: ids.len(), seq: writer.pair.written().seq, full };
        Ok((outcome == Outcome::Written).then_some(Some(erased)))
    }
}

/// The ids of the live rows, as many as fit in a batch; true if there are more.
fn some_ids(view: &View) -> Result<(Vec<Id>, bool)> {
    let (mut ids, mut bytes) = (Vec::new(), 0);
    for at in view.live_rows() {
        let id = view.id(at)?;
        bytes += id.as_id().as_bytes().len() as u64;
        if ids.len() == MAX_BATCH_RECORDS || bytes > MAX_BATCH_BYTES {
            return Ok((ids, true));
        }
        ids.push(id);
    }
    Ok((ids, false))
}
