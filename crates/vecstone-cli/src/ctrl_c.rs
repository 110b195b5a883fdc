//! Ctrl-C while batches are written: the command ends between two of them, and says what is stored. A second Ctrl-C ends
//! the process at once, as the first does everywhere else.
//!
//! All of this only in a process that runs one command and nothing else: the handler of the signal stays.

use crate::failure::{Failure, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Whether the process is this command's.
static OWNED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C is heard while batches are written.
pub(crate) fn own() {
    OWNED.store(true, Ordering::Relaxed);
}

/// False while Ctrl-C is listened to, and was not pressed.
static ENDS: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Listens to Ctrl-C as long as it lives.
pub(crate) struct Listening(());

impl Listening {
    pub(crate) fn begin() -> Result<Listening> {
        if !OWNED.load(Ordering::Relaxed) {
            return Ok(Listening(()));
        }
        let ends = match ENDS.get() {
            Some(ends) => ends,
            None => {
                let ends = Arc::new(AtomicBool::new(true));
                listen(&ends).map_err(|e| Failure::error(format!("cannot handle Ctrl-C: {e}")))?;
                ENDS.get_or_init(|| ends)
            }
        };
        ends.store(false, Ordering::Relaxed);
        Ok(Listening(()))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(ends) = ENDS.get() {
            ends.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether Ctrl-C was pressed since that began.
pub(crate) fn is_pressed() -> bool {
    ENDS.get().is_some_and(|ends| ends.load(Ordering::Relaxed))
}

/// In this order: what the flag says decides before it is set.
#[cfg(unix)]
fn listen(ends: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::{consts::SIGINT, flag};
    flag::register_conditional_default(SIGINT, ends.clone())?;
    flag::register(SIGINT, ends.clone()).map(|_| ())
}

#[cfg(not(unix))]
fn listen(_: &Arc<AtomicBool>) -> std::io::Result<()> {
    Ok(())
}
