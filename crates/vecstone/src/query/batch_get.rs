//! Many rows at once: looked up and copied in pieces, by several threads when they are many.

use crate::segment::PREFETCH_WIDTH;
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, IdRef};
use crate::types::memory::check_memory;

/// Components for each thread, below which starting one costs more than it saves.
const COMPONENTS_PER_THREAD: usize = 1 << 17;

/// Which of at most [`PREFETCH_WIDTH`] ids are not there: one bit each.
pub(crate) type Missing = u32;

/// Fills `out`, a row of `dim` components for each id; `few` does it for at most [`PREFETCH_WIDTH`] of them, on up to
/// `threads` threads (0: as many as there are). Tells, in order, which ids are not there.
///
/// # Errors
///
/// [`Error::CountMismatch`] if `out` is not as long as its rows; what `few` says.
pub(crate) fn read(
    ids: &[impl AsId],
    dim: usize,
    out: &mut [f32],
    threads: usize,
    few: impl Fn(&[IdRef<'_>], &mut [f32]) -> Result<Missing> + Sync,
    mut missing: impl FnMut(usize),
) -> Result<()> {
    if ids.len().checked_mul(dim) != Some(out.len()) {
        return Err(Error::CountMismatch { ids: ids.len(), components: out.len(), dim });
    }
    check_memory((ids.len() as u64).saturating_mul(size_of::<IdRef<'_>>() as u64))?;
    let ids: Vec<IdRef<'_>> = ids.iter().map(AsId::as_id).collect();
    let wanted = (out.len() / COMPONENTS_PER_THREAD) as u64;
    let pieces = ids.chunks(PREFETCH_WIDTH).zip(out.chunks_mut(PREFETCH_WIDTH * dim)).enumerate();
    let look_up = |absent: &mut Vec<(usize, Missing)>, (piece, (ids, out))| -> Result<()> {
        interrupt::check_at(piece)?;
        match few(ids, out)? {
            0 => {}
            bits => absent.push((piece, bits)),
        }
        Ok(())
    };
    let mut absent =
        parallel::for_each_piece(pieces, wanted, parallel::limit(threads), Vec::new, look_up)?.concat();
    absent.sort_unstable();
    for (piece, mut bits) in absent {
        while bits != 0 {
            missing(piece * PREFETCH_WIDTH + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
    Ok(())
}
