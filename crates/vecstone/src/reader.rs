//! A handle that only reads, in any process, beside a writer or alone.

use crate::config::Schema;
use crate::directory;
use crate::disk::{Dir, Disk, fork};
use crate::error::{Error, Result};
use crate::files::{Files, Named};
use crate::format::manifest::Manifest;
use crate::open::{How, apply_kills, open_segments};
use crate::planted::{self, Bug};
use crate::recover::{self, RecoveryReport, Tip};
use crate::snapshot::Snapshot;
use crate::sync::{ArcSwap, Instant, Mutex, thread};
use crate::view::View;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A reader that meets a writer in the middle of its work looks again for so long.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// The reading half of an open store.
#[derive(Debug)]
pub(crate) struct Reader {
    /// As it was when the store was opened: a dimension of 0 may have been fixed since.
    pub(crate) schema: Schema,
    pub(crate) published: ArcSwap<View>,
    disk: Arc<dyn Disk>,
    /// Of the store; what it names may change.
    path: PathBuf,
    /// How far the log was read. Held while it is read on.
    place: Mutex<Place>,
    generation: u64,
}

#[derive(Debug)]
struct Place {
    dir: Dir,
    manifest: Manifest,
    /// `None` while the store has no dimension.
    log: Option<Log>,
}

/// The log of the active segment, and how far it was read.
#[derive(Debug)]
struct Log {
    files: Files,
    tip: Tip,
}

impl Reader {
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<(Reader, RecoveryReport)> {
        let (place, view, report) = read_patiently(disk, path, None)?;
        let reader = Reader {
            schema: place.manifest.schema(),
            published: ArcSwap::from_pointee(view),
            disk: disk.clone(),
            path: place.dir.path().to_owned(),
            place: Mutex::new(place),
            generation: fork::generation(),
        };
        Ok((reader, report))
    }

    /// Whether this process is a child of the one that opened the store.
    pub(crate) fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }

    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let view = self.published.load_full();
        Ok(Snapshot::new(self.schema, view.kind, view))
    }

    /// What is shown, and the directory and the MANIFEST that it is of.
    pub(crate) fn with_manifest(&self) -> Result<(Dir, Manifest, Snapshot)> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((place.dir.clone(), place.manifest.clone(), self.snapshot()?))
    }

    /// The directory that is shown.
    pub(crate) fn dir(&self) -> Dir {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).dir.clone()
    }

    /// Moves on to what is durable now.
    pub(crate) fn refresh(&self) -> Result<bool> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let now = directory::open(&self.disk, &self.path)?;
        let identity = |dir: &Dir| dir.identity().map_err(|e| Error::io(dir.path(), "look at", e));
        let same = identity(&now)? == identity(&place.dir)?;
        let manifest = directory::read_manifest(&now)?;
        if same && manifest.number == place.manifest.number {
            let Place { dir, log, .. } = &mut *place;
            let Some(log) = log else { return Ok(false) };
            if let Ok(moved) = self.read_on(dir, log, manifest.number) {
                return Ok(moved);
            }
        }
        let before = self.published.load_full();
        let (new, view, _) = read_patiently(&self.disk, &self.path, Some(&*before).filter(|_| same))?;
        let moved = !same || view.seq != before.seq || new.manifest.number != place.manifest.number;
        *place = new;
        self.published.store(Arc::new(view));
        Ok(moved)
    }

    /// Reads what was appended to the log since, under the same MANIFEST.
    fn read_on(&self, dir: &Dir, log: &mut Log, number: u64) -> Result<bool> {
        let writer = directory::writer_lives(dir)?;
        let path = log.files.dat.path.with_extension("jsonl");
        if log.tip.docs_end == 0 {
            // One opened before a COMMIT named it may have been removed by a recovery, and made again, since.
            let file = dir.open_file(&path, crate::disk::Open::Read).ok();
            log.files.jsonl = file.map(|file| Named { path, file });
        }
        let mut found = recover::recover(&log.files, Some(&log.tip), number)?;
        if writer || directory::writer_lives(dir)? {
            found.keep_proven();
        }
        if found.manifest > number {
            let what = "the log knows a newer MANIFEST";
            return Err(Error::corrupt(&log.files.idx.path, found.tip.idx_end, what));
        }
        if found.tip.seq == log.tip.seq {
            return Ok(false);
        }
        let mut view = View::clone(&self.published.load());
        apply_kills(&mut view, &found, &log.files)?;
        let part = view.active_mut();
        let segment = part.segment.clone();
        if found.tip.docs_end > 0 {
            segment.set_jsonl(&log.files);
        }
        segment.replay(&mut found, &mut part.mask)?;
        let dat_len = found.header.row_start(found.tip.rows);
        if part.dat_map.as_ref().is_none_or(|map| map.len() < dat_len) {
            part.dat_map = Some(Arc::new(log.files.dat.map(dat_len)?));
        }
        part.move_to(&found.tip);
        (view.kind, view.seq) = (found.tip.kind, found.tip.seq);
        log.tip = found.tip;
        self.published.store(Arc::new(view));
        Ok(true)
    }
}

/// Reads a store until MANIFEST and files fit each other: a writer may be replacing them.
fn read_patiently(
    disk: &Arc<dyn Disk>,
    path: &Path,
    known: Option<&View>,
) -> Result<(Place, View, RecoveryReport)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dir = directory::open(disk, path)?;
        let writer_before = directory::writer_lives(&dir)?;
        let manifest = directory::read_manifest(&dir)?;
        if manifest.dim == 0 {
            let report = RecoveryReport { clean: true, ..RecoveryReport::default() };
            return Ok((Place { dir, manifest, log: None }, View::default(), report));
        }
        let number = manifest.number;
        let how = How { writable: false, proven_only: writer_before, known };
        let opened = open_segments(&dir, manifest, how);
        // A writer that came meanwhile may have changed what was read.
        let writer = directory::writer_lives(&dir)?;
        let error = match opened {
            Ok(_) if writer && !writer_before => None,
            Ok(opened) => {
                // A store without rows may just have been cleared, by a MANIFEST that a power cut would take back.
                if writer && opened.view.rows() == 0 && !planted::is(Bug::ShowRename) {
                    dir.sync().map_err(|e| Error::io(dir.path(), "sync", e))?;
                }
                let log = Some(Log { files: opened.files, tip: opened.active.tip });
                let place = Place { dir, manifest: opened.manifest, log };
                return Ok((place, opened.view, opened.active.report));
            }
            Err(error) => Some(error),
        };
        let replaced = directory::read_manifest(&dir).is_ok_and(|now| now.number != number);
        let race = replaced || writer || writer_before;
        match error {
            Some(error) if !race || !error.may_be_a_race() || Instant::now() >= deadline => {
                return Err(error);
            }
            _ => thread::sleep(PAUSE),
        }
    }
}
