//! Who syncs, and who waits: callers whose writes are to be durable form a group, and one of them syncs for all.
//!
//! This part knows nothing of files. The caller that leads runs the function that makes the group durable.

use crate::sys::sync::{Condvar, Instant, Mutex, MutexGuard, caught, unpoisoned};
use crate::types::error::{Error, Result};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A point that durability can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DurabilityTarget {
    /// Ops of the buffer, counted over its whole life.
    pub(crate) ops: u64,
    /// The last batch.
    pub(crate) seq: u64,
}

impl DurabilityTarget {
    fn is_reached(self, durable: DurabilityTarget) -> bool {
        self.ops <= durable.ops && self.seq <= durable.seq
    }
}

/// The callers of one store that wait for durability.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    queue: Mutex<Queue>,
    /// Something became durable, or failed; or the permit is free.
    changed: Condvar,
    /// The followers for whom a leader waits are here.
    gathered: Condvar,
}

#[derive(Debug)]
struct Queue {
    /// What was synced.
    durable: DurabilityTarget,
    /// Why nothing becomes durable any more.
    failure: Option<Arc<Error>>,
    leader: Leader,
    /// Callers that came since the last sync began, how many may come, and how long that sync took.
    queued_followers: usize,
    expected_followers: usize,
    last_sync: Duration,
    wakers: Vec<(DurabilityTarget, Waker)>,
}

/// The thread that holds the [`SyncPermit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leader {
    None,
    /// Waits a moment for followers.
    Gathers,
    Works,
}

/// Permission to sync, to seal and to replace MANIFEST. Functions that do so take it as a parameter; dropping it lets
/// the next thread in.
#[derive(Debug)]
pub(crate) struct SyncPermit<'a>(&'a GroupCommit);

/// How a target became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Before the call.
    Before,
    /// By a sync that the call waited for, or led.
    BySync,
}

impl GroupCommit {
    pub(crate) fn new(durable: DurabilityTarget) -> GroupCommit {
        GroupCommit {
            queue: Mutex::new(Queue {
                durable,
                failure: None,
                leader: Leader::None,
                queued_followers: 0,
                expected_followers: 0,
                last_sync: Duration::ZERO,
                wakers: Vec::new(),
            }),
            changed: Condvar::new(),
            gathered: Condvar::new(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        unpoisoned(self.queue.lock())
    }

    /// Returns when `target` is durable: leads a commit, or waits for the one that is under way.
    ///
    /// # Errors
    ///
    /// What `commit` returned to a leader; [`Error::Poisoned`] once writing stopped.
    pub(crate) fn wait_for(
        &self,
        target: DurabilityTarget,
        commit: impl Fn(&SyncPermit<'_>) -> Result<()>,
    ) -> Result<Reached> {
        let mut queue = self.queue();
        queue.queued_followers += 1;
        if queue.leader == Leader::Gathers && queue.queued_followers >= queue.expected_followers {
            self.gathered.notify_one();
        }
        let mut reached = Reached::Before;
        while !target.is_reached(queue.durable) {
            reached = Reached::BySync;
            if let Some(first) = &queue.failure {
                return Err(Error::Poisoned { first: first.clone() });
            }
            if queue.leader == Leader::None {
                self.lead(queue, &commit)?;
                queue = self.queue();
            } else {
                queue = unpoisoned(self.changed.wait(queue));
            }
        }
        Ok(reached)
    }

    /// Commits for all who are waiting.
    fn lead(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        commit: impl Fn(&SyncPermit<'_>) -> Result<()>,
    ) -> Result<()> {
        queue.leader = Leader::Works;
        let permit = SyncPermit(self);
        let mut queue = self.gather(queue);
        let served = std::mem::take(&mut queue.queued_followers);
        drop(queue);
        let outcome = commit(&permit);
        let mut queue = self.queue();
        // All of them may come back before the next sync.
        queue.expected_followers = served + queue.queued_followers;
        drop(queue);
        outcome
    }

    /// A leader that had followers in the last sync gives them a moment to come back: at most a quarter of that sync.
    fn gather<'a>(&self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let until = Instant::now() + queue.last_sync / 4;
        while queue.queued_followers < queue.expected_followers {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue.leader = Leader::Gathers;
            queue = unpoisoned(self.gathered.wait_timeout(queue, left)).0;
            queue.leader = Leader::Works;
        }
        queue
    }

    /// Waits for the permit.
    pub(crate) fn permit(&self) -> SyncPermit<'_> {
        let mut queue = self.queue();
        while queue.leader != Leader::None {
            queue = unpoisoned(self.changed.wait(queue));
        }
        queue.leader = Leader::Works;
        SyncPermit(self)
    }

    /// Moves on what is durable, after a sync that took so long; returns the wakers to wake. The other waiters go on when
    /// the permit is free.
    pub(crate) fn advance(&self, to: DurabilityTarget, took: Duration) -> Vec<Waker> {
        let mut queue = self.queue();
        let (ops, seq) = (to.ops.max(queue.durable.ops), to.seq.max(queue.durable.seq));
        let durable = DurabilityTarget { ops, seq };
        (queue.durable, queue.last_sync) = (durable, took);
        let reached = queue.wakers.extract_if(.., |(target, _)| target.is_reached(durable));
        reached.map(|(_, waker)| waker).collect()
    }

    /// What is durable.
    pub(crate) fn durable(&self) -> DurabilityTarget {
        self.queue().durable
    }

    pub(crate) fn is_durable(&self, target: DurabilityTarget) -> bool {
        target.is_reached(self.durable())
    }

    /// Nothing becomes durable any more: all who wait are to return that error.
    pub(crate) fn fail(&self, first: &Arc<Error>) {
        self.queue().failure = Some(first.clone());
    }

    /// Has all who wait without a waker look again.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Remembers a waker until `target` is durable, once, however often it is polled.
    pub(crate) fn wake_at(&self, target: DurabilityTarget, waker: &Waker) {
        let mut queue = self.queue();
        if !queue.wakers.iter().any(|(known, other)| *known == target && other.will_wake(waker)) {
            queue.wakers.push((target, waker.clone()));
        }
    }

    /// All wakers, to wake them after an error.
    pub(crate) fn take_wakers(&self) -> Vec<Waker> {
        self.queue().wakers.drain(..).map(|(_, waker)| waker).collect()
    }
}

impl Drop for SyncPermit<'_> {
    fn drop(&mut self) {
        self.0.queue().leader = Leader::None;
        self.0.changed.notify_all();
    }
}

/// Wakers are code of the caller's: a panic of theirs is not the store's.
pub(super) fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        _ = caught(|| waker.wake());
    }
}
