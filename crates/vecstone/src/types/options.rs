//! How a store is opened, and how it behaves while it is open.

use crate::types::config::MAX_BATCH_RECORDS;
use crate::types::error::{Error, Result};
use crate::types::name::named;
use std::time::Duration;

/// How long a writer tries by default: readers hold the locks for microseconds to see whether a writer lives.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(250);

/// When a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// When it is accepted: visible to this handle, flushed in the background within the flush interval.
    #[default]
    Buffered,
    /// When it is durable. Concurrent callers share one sync.
    Sync,
}

named!(Durability, "durability");

impl Durability {
    pub(crate) const ALL: [Durability; 2] = [Durability::Buffered, Durability::Sync];

    /// The name used in Python: `buffered` or `sync`.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Buffered => "buffered",
            Durability::Sync => "sync",
        }
    }
}

/// The number that a store goes by. `stored`: what it says itself.
pub(crate) fn auto_optimize_rows(stored: Option<u64>) -> u64 {
    stored.unwrap_or(OpenOptions::AUTO_OPTIMIZE_ROWS)
}

/// How a store is made or opened, and how it behaves while it is open: options, and one of [`create`](Self::create),
/// [`open`](Self::open) and [`open_read_only`](Self::open_read_only) at their end.
#[derive(Debug, Clone)]
#[must_use = "options do nothing until a store is made or opened with them"]
pub struct OpenOptions {
    pub(crate) strict: bool,
    pub(crate) lock_wait: Duration,
    /// Threads of a search; 0: what the environment or the machine says.
    pub(crate) threads: usize,
    /// The recall of a search that says nothing of it; 1 is exact.
    pub(crate) recall_target: f32,
    /// What the store is made with, or has to have.
    pub(crate) auto_optimize_rows: Option<u64>,
    pub(crate) settings: Settings,
}

/// What the engine needs to know of the options.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) durability: Durability,
    pub(crate) flush_interval: Duration,
    pub(crate) buffer_bytes: u64,
    /// Whether threads flush, index and compact in the background; tests that want each call in its place say no.
    pub(crate) background: bool,
    /// Share of dead rows from which a segment is compacted in the background; above 1: never.
    pub(crate) compact_at: f64,
    /// Bytes a second that the background copies at most: rows, log and documents that it compacts, and `.ids`.
    pub(crate) compact_speed: u64,
    pub(crate) limits: Limits,
    /// Records in the log since the last `.ids` from which closing writes a new one.
    pub(crate) ids_after: u64,
    /// Ids that a filter deletes in one batch.
    pub(crate) delete_batch_records: usize,
}

/// Where a segment is sealed and the next one begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Puts and deletes.
    pub(crate) records: u64,
    pub(crate) dat: u64,
    pub(crate) idx: u64,
    pub(crate) jsonl: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            durability: Durability::Buffered,
            flush_interval: Duration::from_millis(100),
            buffer_bytes: 64 << 20,
            background: true,
            compact_at: 0.2,
            compact_speed: 256 << 20,
            limits: Limits { records: 1_000_000, dat: 4 << 30, idx: 256 << 20, jsonl: 4 << 30 },
            ids_after: 1000,
            delete_batch_records: MAX_BATCH_RECORDS,
        }
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            strict: false,
            lock_wait: LOCK_WAIT,
            threads: 0,
            recall_target: 1.0,
            auto_optimize_rows: None,
            settings: Settings::default(),
        }
    }
}

impl OpenOptions {
    /// What [`auto_optimize_rows`](Self::auto_optimize_rows) is in a store that was made without it.
    pub const AUTO_OPTIMIZE_ROWS: u64 = 20_000;

    /// The defaults: recover what a crash left, wait 250 ms for the lock, buffer 64 MiB and flush every 100 ms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses, with [`Error::UncleanShutdown`], a store that its last writer did not
    /// close: there, and only there, nobody can tell a last batch that never became durable from one that was damaged
    /// later. Changes nothing then.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// How long to wait for another writer to let go of the store.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// When a write returns, where the call does not say otherwise.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// The longest time that an accepted write waits until the background makes it durable.
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.settings.flush_interval = interval;
        self
    }

    /// Bytes that are accepted and not yet written, at most; a full buffer makes writers wait.
    pub fn buffer_bytes(mut self, bytes: u64) -> Self {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// The share of dead rows, 0 to 1, above which a segment is compacted in the background (0.2); above 1 none is.
    pub fn compact_at(mut self, share: f64) -> Self {
        self.settings.compact_at = share;
        self
    }

    /// Bytes a second that compaction in the background copies at most (256 MiB): live rows with their ids and documents,
    /// and the indexes of ids that it writes, with the log that they are made from. About 8 MiB, or one index, are copied
    /// at once; then it sleeps for as long as that asks for. [`compact`](crate::VectorStore::compact) and
    /// [`close`](crate::VectorStore::close) do not wait for it: it gives way.
    pub fn compact_speed(mut self, bytes_per_second: u64) -> Self {
        self.settings.compact_speed = bytes_per_second.max(1);
        self
    }

    /// A segment is sealed, and the next one begun, at so many puts and deletes (1,000,000).
    pub fn segment_records(mut self, records: u64) -> Self {
        self.settings.limits.records = records.max(1);
        self
    }

    /// How many threads a search may use, its caller's own included; so may a call that reads many rows or checks a large
    /// batch. All that run in a process at the same time share that number: one that finds it used up goes on alone and
    /// waits for nobody. 0, as without this call: what the environment variable `VECSTONE_THREADS` says, if it is a number
    /// above 0 when the process first searches, else one for each core.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The share of the `k` nearest rows that a search of this handle is to find on average, where it says nothing of it
    /// itself; above 0 and at most 1. As without this call: 1, every search is exact. See
    /// [`SearchOptions::recall_target`](crate::SearchOptions::recall_target).
    pub fn recall_target(mut self, target: f32) -> Self {
        self.recall_target = target;
        self
    }

    /// From how many rows without codes the background makes codes for them (20,000), which make search faster; 0 never
    /// does, and leaves it to [`optimize`](crate::VectorStore::optimize). Kept in the store, so that all writers do the
    /// same: given when the store is made. An opening with another number is
    /// [`Error::OptionMismatch`]; one without takes what is there.
    pub fn auto_optimize_rows(mut self, rows: u64) -> Self {
        self.auto_optimize_rows = Some(rows);
        self
    }

    /// Refuses a store of which these options say something else. `stored`: its `auto_optimize_rows`, if it has one.
    pub(crate) fn check_store(&self, stored: Option<u64>) -> Result<()> {
        let expected = auto_optimize_rows(stored);
        match self.auto_optimize_rows {
            Some(found) if found != expected => {
                Err(Error::OptionMismatch { option: "auto_optimize_rows", expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Without threads of its own: nothing is flushed, indexed or compacted unless a call does it.
    #[doc(hidden)]
    pub fn without_background(mut self) -> Self {
        self.settings.background = false;
        self
    }

    #[cfg(test)]
    pub(crate) fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    #[cfg(test)]
    pub(crate) fn ids_after(mut self, records: u64) -> Self {
        self.settings.ids_after = records;
        self
    }
}
