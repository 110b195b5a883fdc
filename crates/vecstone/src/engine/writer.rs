//! What changes files: the pair that is appended to, MANIFEST, and which dead rows are in lists.

use crate::format::manifest::Manifest;
use crate::pair::VectorStorage;
use crate::segment::Segment;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::version::Version;
use std::collections::HashMap;
use std::sync::Arc;

/// Reached only under the writer's lock.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) pair: VectorStorage,
    pub(crate) manifest: Manifest,
    /// What the `.del` file of each sealed segment says.
    pub(crate) in_del: HashMap<u64, DeletionVector>,
    /// Deletes in the active segment.
    pub(crate) deletes: u64,
    /// The end of the last group in ops of the buffer.
    pub(super) ops: u64,
    /// What readers see if writing stops.
    pub(crate) durable_version: Arc<Version>,
    /// What opening took from `.ids`, and is not compared with the log yet.
    pub(crate) claim: Option<Arc<Segment>>,
    /// Closing has written what the next opening needs.
    pub(crate) closed: bool,
}

impl Writer {
    /// The end of the last group in ops of the buffer.
    pub(crate) fn ops(&self) -> u64 {
        self.ops
    }

    /// Whether the version that readers would fall back to has that segment as it is now, and not as it once grew.
    pub(crate) fn falls_back_to_sealed(&self, segment: &Segment) -> bool {
        let part =
            self.durable_version.segments.iter().find(|part| part.segment.number() == segment.number());
        part.is_some_and(|part| part.rows == segment.base().rows)
    }

    /// Puts another handle of a segment in the place of the one that readers would fall back to.
    pub(crate) fn renew(&mut self, segment: &Arc<Segment>) {
        if let Some(place) = self.durable_version.place_of(segment.number()) {
            let part = &mut Arc::make_mut(&mut self.durable_version).segments[place];
            (part.segment, part.dat_map) = (segment.clone(), None);
        }
    }
}
