//! As many segments as MANIFEST can name: what has to be written then finds room all the same, where neighbours can be
//! merged.

use super::plan::plan;
use super::{CompactReport, numbers_of};
use crate::engine::Engine;
use crate::segment::version::{SegmentVersion, Version};
use crate::types::error::{Error, Result};
use crate::types::options::Limits;
use std::ops::ControlFlow;

impl Engine {
    /// Whether there are more than half as many segments as there may be, and the background compacts at all.
    pub(super) fn is_crowded(&self, version: &Version) -> bool {
        self.settings.compact_at <= 1.0 && self.has_many(version)
    }

    fn has_many(&self, version: &Version) -> bool {
        version.segments.len() as u64 > self.settings.max_segments / 2
    }

    /// What a segment that a compaction makes may take. Where there are many, it may take what is usual, whatever the
    /// options say: they made so many.
    pub(super) fn limits_of(&self, version: &Version) -> Limits {
        let limits = self.settings.limits;
        if self.has_many(version) { limits.or_usual() } else { limits }
    }

    /// Flushes before the store is closed, and merges segments where there are too many to write what is buffered.
    pub(crate) fn flush_to_close(&self) -> Result<()> {
        match self.flush() {
            Err(Error::TooManySegments { .. }) => {
                let _turn = self.maintenance.turn();
                self.with_room(|| self.flush())
            }
            flushed => flushed,
        }
    }

    /// Does what may seal segments. As long as there are too many for it, merges some; the caller has the turn to compact.
    pub(super) fn with_room(&self, mut work: impl FnMut() -> Result<()>) -> Result<()> {
        loop {
            match work() {
                Err(error @ Error::TooManySegments { .. }) => {
                    let before = self.published.load().segments.len();
                    self.merge_some()?;
                    if self.published.load().segments.len() >= before {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    /// Merges the longest run of neighbours that become one segment; those that are damaged stay as they are.
    fn merge_some(&self) -> Result<()> {
        let version = self.published.get();
        let limits = self.limits_of(&version);
        let mut damaged = Vec::new();
        loop {
            let may = |part: &SegmentVersion| !damaged.contains(&part.segment.number());
            let small = |part: &SegmentVersion| may(part) && part.live() <= limits.records / 2;
            let mut runs = plan(&version, &limits, small, may);
            runs.retain(|run| run.len() > 1 || version.segments[run.start].live() == 0);
            let longest = runs.into_iter().max_by_key(ExactSizeIterator::len);
            let Some(numbers) = numbers_of(&version, longest.as_slice()).pop() else { return Ok(()) };
            let mut go_on = |_| ControlFlow::Continue(());
            let Err(error) = self.compact_run(&numbers, &mut go_on, &mut CompactReport::default()) else {
                return Ok(());
            };
            let hurt = self.damaged_in(&numbers, &error);
            if hurt.is_empty() {
                return Err(error);
            }
            damaged.extend(hurt);
        }
    }
}
