//! Puts batches into a store; each is flushed on a second thread while the next one is put.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use vecstone::{Error, VectorStore};

use crate::failure::{Failure, Result};
use crate::progress::Progress;

/// Why the writing of batches ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The store refused a batch or a flush.
    Store(Error),
    /// Anything else, such as the input.
    Other(Failure),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Store(error)
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        Stopped::Other(failure)
    }
}

impl Stopped {
    /// The message for the user: if the disk is to blame, what is safe and how to go on.
    pub(crate) fn explain(self, progress: &Progress, go_on: &str) -> Failure {
        match self {
            Stopped::Other(failure) => failure,
            Stopped::Store(error) => {
                let (rows, total) = progress.so_far();
                let stays = format!("{rows} of {total} rows are acknowledged and stay, {go_on}");
                match error {
                    Error::NoSpace { path, source } => {
                        Failure::file(&path, format!("no space left ({source}); {stays}, after freeing some"))
                    }
                    Error::Io { .. }
                    | Error::WriteFailed { .. }
                    | Error::SyncFailed { .. }
                    | Error::Poisoned { .. } => Failure::error(format!("{error}; {stays}")),
                    error => error.into(),
                }
            }
        }
    }
}

/// Takes the number of rows that were put so far, to be acknowledged once they are durable.
pub(crate) struct Flusher {
    rows: SyncSender<u64>,
}

impl Flusher {
    /// Waits while two batches are already on their way, so that no more than that is unflushed.
    pub(crate) fn flush(&self, rows: u64) -> Result<(), Stopped> {
        // The flushing thread ends early only with an error of its own, which is the one reported.
        self.rows.send(rows).map_err(|_| Stopped::Other(Failure::silent()))
    }
}

/// Runs `body`, which puts batches and hands each to the flusher. Returns when all of them are acknowledged.
pub(crate) fn acknowledge<T>(
    store: &VectorStore,
    progress: &Progress,
    body: impl FnOnce(&Flusher) -> Result<T, Stopped>,
) -> Result<T, Stopped> {
    thread::scope(|scope| {
        let (rows, put) = sync_channel(1);
        let flushing = scope.spawn(move || flush_each(store, progress, &put));
        let outcome = body(&Flusher { rows });
        match flushing.join() {
            Ok(flushed) => flushed.map_err(Stopped::Store).and(outcome),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn flush_each(store: &VectorStore, progress: &Progress, put: &Receiver<u64>) -> Result<(), Error> {
    for rows in put {
        store.flush()?;
        progress.acknowledged(rows);
    }
    Ok(())
}
