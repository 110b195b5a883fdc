//! Memory for much at once, asked for before it is needed: a lack of it is an error then, where later it would end the
//! process.

use crate::types::error::{Error, Result};

/// What smaller allocations beside need.
const BESIDE: u64 = 32 << 20;
/// From here on it is worth a look. With what is beside, so much comes from the system, and goes back to it at once.
const LEAST: u64 = 8 << 20;

/// Refuses what needs more memory than can be had now.
///
/// # Errors
///
/// [`Error::OutOfMemory`].
#[doc(hidden)]
pub fn check_memory(bytes: u64) -> Result<()> {
    if bytes < LEAST {
        return Ok(());
    }
    let lacking = || Error::OutOfMemory { bytes };
    let all = usize::try_from(bytes.saturating_add(BESIDE)).map_err(|_| lacking())?;
    let mut room = Vec::<u8>::new();
    room.try_reserve_exact(all).map_err(|_| lacking())?;
    // It is not used: without this the compiler may leave it out.
    std::hint::black_box(&room);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_named() {
        assert!(check_memory(0).is_ok() && check_memory(LEAST).is_ok());
        for bytes in [1 << 60, u64::MAX] {
            let error = check_memory(bytes).expect_err("no machine has so much");
            assert!(matches!(error, Error::OutOfMemory { bytes: named } if named == bytes), "{error}");
        }
    }
}
