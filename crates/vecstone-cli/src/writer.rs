//! Tells what is durable. The store flushes in the background; nothing is acknowledged before that is done.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use vecstone::{Error, Flush, VectorStore};

use crate::ctrl_c;
use crate::failure::{Failure, Result};
use crate::progress::Progress;

/// Batches that may be on their way to the disk; with more, the next one waits for all of them.
const ON_THEIR_WAY: usize = 4;

/// Why the writing of batches ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The store refused a batch or a flush.
    Store(Error),
    /// Ctrl-C was pressed.
    Interrupted,
    /// Anything else, such as the input.
    Other(Failure),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        if matches!(error, Error::Interrupted) { Stopped::Interrupted } else { Stopped::Store(error) }
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
            Stopped::Interrupted => Failure {
                code: 130,
                ..Failure::error(format!(
                    "interrupted; {} {} stored; {go_on}",
                    progress.so_far(),
                    progress.verb("is", "are")
                ))
            },
            Stopped::Store(error) => {
                let stays = format!(
                    "{} {}, {go_on}",
                    progress.so_far(),
                    progress.verb("is acknowledged and stays", "are acknowledged and stay")
                );
                match error {
                    Error::NoSpace { path, source, .. } => {
                        Failure::file(&path, format!("no space left ({source}); {stays}, after freeing some"))
                    }
                    Error::Io { .. }
                    | Error::WriteFailed { .. }
                    | Error::SyncFailed { .. }
                    | Error::Panicked { .. }
                    | Error::Poisoned { .. } => Failure::error(format!("{error}; {stays}")),
                    error => error.into(),
                }
            }
        }
    }
}

/// Watches what was put until it is durable.
pub(crate) struct Acknowledger<'a> {
    store: &'a VectorStore,
    progress: &'a Progress,
    /// For each batch that is not known to be durable: the rows put up to its end.
    pending: VecDeque<(u64, Flush)>,
}

impl Acknowledger<'_> {
    /// The first `rows` rows are put: acknowledges those that are durable by now.
    pub(crate) fn put(&mut self, rows: u64) -> Result<(), Stopped> {
        self.pending.push_back((rows, self.store.flush_async()));
        check()?;
        if self.pending.len() > ON_THEIR_WAY { self.finish() } else { self.look() }
    }

    /// Acknowledges what is durable. Looking also sends the store's background to work.
    fn look(&mut self) -> Result<(), Stopped> {
        let mut durable = None;
        let mut outcome = Ok(());
        while let Some((rows, flush)) = self.pending.front_mut() {
            match Pin::new(flush).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(())) => durable = Some(*rows),
                Poll::Ready(Err(error)) => {
                    outcome = Err(error.into());
                    break;
                }
                Poll::Pending => break,
            }
            self.pending.pop_front();
        }
        if let Some(rows) = durable {
            self.progress.acknowledged(rows);
        }
        outcome
    }

    /// Waits until everything put is durable, and acknowledges it.
    fn finish(&mut self) -> Result<(), Stopped> {
        let flushed = self.store.flush();
        // Also after an error: some of it may be durable.
        let seen = self.look();
        flushed.map_err(Stopped::from).and(seen)
    }
}

/// Whether the writing may go on.
pub(crate) fn check() -> Result<(), Stopped> {
    if ctrl_c::is_pressed() || vecstone::is_interrupted() { Err(Stopped::Interrupted) } else { Ok(()) }
}

/// Runs `body`, which puts batches and tells the acknowledger of each. Returns when all of them are acknowledged.
pub(crate) fn acknowledge<T>(
    store: &VectorStore,
    progress: &Progress,
    body: impl FnOnce(&mut Acknowledger<'_>) -> Result<T, Stopped>,
) -> Result<T, Stopped> {
    let _listening = ctrl_c::Listening::begin()?;
    let mut acknowledger = Acknowledger { store, progress, pending: VecDeque::new() };
    let outcome = body(&mut acknowledger);
    // Also after an error, which may well be about the input: what was put before it stays.
    let finished = acknowledger.finish();
    outcome.and_then(|done| finished.map(|()| done))
}
