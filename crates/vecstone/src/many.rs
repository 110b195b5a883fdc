//! Many rows at once: looked up and copied in pieces, by several threads when they are many.

use crate::error::{Error, Result};
use crate::id::{AsId, IdRef};
use std::thread;

/// How many ids are looked up before the first of their rows is copied: memory gets them side by side.
pub(crate) const FEW: usize = 32;

/// Components below which a second thread costs more than it saves.
const COMPONENTS_PER_THREAD: usize = 1 << 17;

/// Which of at most [`FEW`] ids are not there: one bit each.
pub(crate) type Missing = u32;

/// Fills `out`, a row of `dim` components for each id; `few` does it for at most [`FEW`] of them. Tells, in order, which
/// ids are not there.
pub(crate) fn read(
    ids: &[IdRef<'_>],
    dim: usize,
    out: &mut [f32],
    few: impl Fn(&[IdRef<'_>], &mut [f32]) -> Result<Missing> + Sync,
    mut missing: impl FnMut(usize),
) -> Result<()> {
    if dim == 0 {
        (0..ids.len()).for_each(missing);
        return Ok(());
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (out.len() / COMPONENTS_PER_THREAD).clamp(1, cores);
    // Whole pieces for each thread.
    let part = ids.len().div_ceil(threads).next_multiple_of(FEW).max(FEW);
    let read_part = |ids: &[IdRef<'_>], out: &mut [f32]| -> Result<Vec<Missing>> {
        ids.chunks(FEW).zip(out.chunks_mut(FEW * dim)).map(|(ids, out)| few(ids, out)).collect()
    };
    let read_part = &read_part;
    let found = thread::scope(|scope| {
        let mut parts = ids.chunks(part).zip(out.chunks_mut(part * dim));
        let Some((ids, out)) = parts.next() else { return Ok(Vec::new()) };
        let others: Vec<_> = parts.map(|(ids, out)| scope.spawn(move || read_part(ids, out))).collect();
        let mut found = read_part(ids, out);
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if let Ok(found) = &mut found {
                found.extend(other?);
            }
        }
        found
    })?;
    for (piece, mut bits) in found.into_iter().enumerate() {
        while bits != 0 {
            missing(piece * FEW + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
    Ok(())
}

/// The ids, if `out` holds a row for each.
pub(crate) fn check_rows<'a>(ids: &'a [impl AsId], dim: usize, out: &[f32]) -> Result<Vec<IdRef<'a>>> {
    if ids.len().checked_mul(dim) != Some(out.len()) {
        return Err(Error::CountMismatch { ids: ids.len(), components: out.len(), dim });
    }
    Ok(ids.iter().map(AsId::as_id).collect())
}
