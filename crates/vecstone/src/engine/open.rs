//! A store made, or opened for writing.

use super::Engine;
use crate::format::Identity;
use crate::format::header::Header;
use crate::format::manifest::{Manifest, Sections, SegmentEntry};
use crate::format::record::FileRecord;
use crate::open::lock::{Lock, refuse_links};
use crate::open::{OpenMode, Opened, directory, open_segments, unfinished};
use crate::pair::VectorStorage;
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
        let header = Header { dim, element: Element::F32, identity };
        let manifest = Manifest {
            number: 1,
            uuid: identity.uuid,
            dim,
            element: Element::F32,
            metric,
            kind: 0,
            next_segment: identity.segment + 1,
            segments: vec![SegmentEntry { number: identity.segment, salt: identity.salt, sealed: None }],
            sections: Sections::default(),
        };
        let path = directory::pair_path(&dir, identity.segment);
        let file = FileRecord { header, seq: 0, chain: [0; 16] };
        let pair = VectorStorage::create_in(&dir, &path, file, manifest.number).map_err(Error::abandoned)?;
        dir.sync().map_err(|e| Error::io(dir.path(), "sync", e))?;
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
