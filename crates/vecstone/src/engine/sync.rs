//! Making durable what is written, for all who wait for it at once.

use super::group_commit::wake;
use super::{Accepting, DurabilityTarget, Engine, SyncPermit, Writer};
use crate::segment::side;
use crate::segment::version::Version;
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::sys::sync::Instant;
use crate::types::error::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Announces what is durable, if the store is still where its path says.
    ///
    /// # Errors
    ///
    /// As [`stop_if_moved`](Self::stop_if_moved): nothing is announced then.
    pub(crate) fn became_durable(
        &self,
        permit: &SyncPermit<'_>,
        writer: &mut Writer,
        version: Arc<Version>,
        ops: u64,
        took: Duration,
    ) -> Result<()> {
        self.stop_if_moved(permit, writer)?;
        if side::all().any(|kind| kind.is_due(&version)) {
            self.maintenance.set_due();
        }
        let mut state = self.buffer.lock();
        self.hooks.here("durable");
        // Under the state's lock, as whether an error of the background still counts depends on both.
        let wakers = self.commits.advance(DurabilityTarget { ops, seq: version.seq }, took);
        writer.durable_version = version;
        if self.is_settled(&state) {
            state.dirty_since = None;
            state.recover();
        } else if state.dirty_since.is_some() {
            state.dirty_since = Some(Instant::now());
        }
        drop(state);
        wake(wakers);
        Ok(())
    }

    /// Before anything is acknowledged: is the store still where its path says? If it is not, what was accepted is made
    /// durable where it is, and writing stops.
    ///
    /// # Errors
    ///
    /// [`Error::StoreMoved`], [`Error::LockRemoved`]; [`Error::Io`] if nobody can tell now: it is asked again.
    pub(crate) fn stop_if_moved(&self, _: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        // Without LOCK the store is closed, and everything was asked.
        let Some(lock) = self.lock.upgrade() else { return Ok(()) };
        let Err(error) = lock.check() else { return Ok(()) };
        if !error.stops_writing() || writer.pair.has_failed() {
            return Err(error);
        }
        if lock.has_a_name() {
            let ops = self.buffer.lock().buffer.next();
            // A new segment would need a MANIFEST.
            let rescue = || self.write_until(writer, ops).and_then(|_| writer.pair.commit());
            let rescued = interrupt::not_now(rescue);
            if rescued.is_ok() {
                writer.durable_version = self.published.get();
            }
        }
        let error = writer.pair.failed(error);
        Err(self.failed(writer, error))
    }

    /// The same for a caller that has nothing to wait for.
    pub(crate) fn check_place(&self) -> Result<()> {
        match self.lock.upgrade().map_or(Ok(()), |lock| lock.check()) {
            Err(error) if error.stops_writing() => {
                self.with_sync_permit(|permit, writer| self.stop_if_moved(permit, writer))
            }
            checked => checked,
        }
    }

    /// That the store was moved, if it was.
    pub(crate) fn moved(&self) -> Option<Error> {
        self.lock.upgrade()?.check().err().filter(Error::stops_writing)
    }

    /// Why a call failed: if the store was moved, that.
    pub(crate) fn or_moved(&self, error: Error) -> Error {
        if error.stops_writing() {
            return error;
        }
        match self.check_place() {
            Err(moved) if moved.stops_writing() => moved,
            _ => error,
        }
    }

    /// See [`Stats::unsteady_inodes`](crate::Stats::unsteady_inodes).
    pub(crate) fn is_unsteady(&self) -> bool {
        self.lock.upgrade().is_some_and(|lock| lock.is_unsteady())
    }

    /// Whether everything accepted is durable.
    pub(crate) fn is_settled(&self, state: &Accepting) -> bool {
        state.buffer.is_empty() && self.published.load().seq == self.commits.durable().seq
    }

    /// M1: everything written is synced, so that `.del` files hold the cross-segment deletes of durable batches only.
    pub(crate) fn sync_log_end(&self, permit: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        if planted::is(Bug::UnsyncedCrossDeletes) {
            return Ok(());
        }
        let (version, ops) = (self.published.get(), writer.ops());
        writer.pair.end_here().map_err(|error| self.failed(writer, error))?;
        self.became_durable(permit, writer, version, ops, Duration::ZERO)
    }
}
