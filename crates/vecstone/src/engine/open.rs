//! A store made, or opened for writing.

use super::Engine;
use crate::format::Identity;
use crate::format::manifest::{Manifest, Sections, SegmentEntry};
use crate::open::lock::{Lock, refuse_links};
use crate::open::{OpenMode, Opened, directory, open_segments, unfinished};
use crate::pair::VectorStorage;
use crate::pair::files::sync_dir;
use crate::sys::disk::{Dir, Disk};
use crate::sys::planted::{self, Bug};
use crate::types::config::{Metric, check_dim};
use crate::types::element::Element;
use crate::types::error::{Error, Result};
use crate::types::options::OpenOptions;
use crate::types::recovery::RecoveryReport;
use std::path::Path;
use std::sync::Arc;

/// An engine, the lock that it writes under, and what recovery found.
#[derive(Debug)]
pub(crate) struct OpenedEngine {
    pub(crate) engine: Arc<Engine>,
    pub(crate) lock: Arc<Lock>,
    pub(crate) recovery: RecoveryReport,
}

impl OpenedEngine {
    /// Makes a store in a directory that is empty and locked.
    pub(crate) fn create(
        dir: Dir,
        lock: Lock,
        dim: u32,
        metric: Metric,
        identity: Identity,
        options: &OpenOptions,
    ) -> Result<OpenedEngine> {
        check_dim(dim)?;
        let manifest = Manifest {
            number: 1,
            uuid: identity.uuid,
            dim,
            element: Element::F32,
            metric,
            kind: 0,
            next_segment: identity.segment + 1,
            segments: vec![SegmentEntry::new(identity, None)],
            sections: Sections::with_options(options.auto_optimize_rows),
        };
        let (schema, before) = (manifest.schema(), (0, [0; 16]));
        let pair = directory::create_segment(&dir, &schema, identity, before, manifest.number);
        let pair = pair.map_err(Error::abandoned)?;
        sync_dir(&dir)?;
        directory::replace_manifest(&dir, &manifest)?;
        let opened = open_segments(&dir, manifest, OpenMode::WRITER)?;
        Ok(Self::start(dir, opened, pair, lock, options))
    }

    /// Opens the store at `path`: takes its lock, recovers it, and makes durable what recovery kept.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path, options: &OpenOptions) -> Result<OpenedEngine> {
        // Before LOCK is made: a path that is no store stays as it is.
        let dir = directory::open(disk, path)?;
        unfinished::check(&dir)?;
        let manifest = directory::read_manifest_to_write(&dir)?;
        let active = manifest.segments.last().map(|entry| entry.number);
        refuse_links(&dir, active)?;
        let lock = Lock::take(&dir, options.lock_wait)?;
        let manifest = directory::read_manifest_to_write(&dir)?;
        options.check_store(manifest.sections.auto_optimize_rows())?;
        let opened = open_segments(&dir, manifest, OpenMode::WRITER)?;
        if options.strict && !opened.active.report.clean {
            let (path, report) = (opened.files.idx.path, opened.active.report);
            return Err(Error::UncleanShutdown { path, report });
        }
        let unlisted = directory::unlisted(&dir, &opened.manifest)?;
        let is_known_durable =
            opened.active.closed_under == Some(opened.manifest.number) && unlisted.is_empty();
        if !is_known_durable && !planted::is(Bug::TrustUnsyncedManifest) {
            directory::sync_manifest(&dir)?;
        }
        directory::remove(&dir, unlisted)?;
        let number = opened.manifest.number;
        let mut pair = VectorStorage::recovered(&dir, opened.files.clone(), &opened.active, number);
        pair.make_recovered_durable()?;
        Ok(Self::start(dir, opened, pair, lock, options))
    }

    fn start(
        dir: Dir,
        opened: Opened,
        pair: VectorStorage,
        lock: Lock,
        options: &OpenOptions,
    ) -> OpenedEngine {
        let (recovery, lock) = (opened.active.report.clone(), Arc::new(lock));
        let engine = Engine::new(dir, &lock, options.settings.clone(), opened, pair);
        OpenedEngine { engine, lock, recovery }
    }
}
