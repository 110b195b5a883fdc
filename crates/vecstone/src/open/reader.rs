//! A handle that only reads, in any process, beside a writer or alone.

use crate::format::header::Header;
use crate::format::manifest::Manifest;
use crate::open::unfinished;
use crate::open::{OpenMode, Opened, apply_cross_deletes, open_segments};
use crate::open::{directory, lock};
use crate::pair::files::{Files, StoreFile, sync_dir};
use crate::pair::recover::{self, LogPosition};
use crate::query::snapshot::Snapshot;
use crate::segment::Segment;
use crate::segment::version::{Version, VersionCell};
use crate::sys::disk::{Disk, fork};
use crate::sys::planted::{self, Bug};
use crate::sys::sync::{Instant, Mutex, thread, unpoisoned};
use crate::types::error::{Error, Result};
use crate::types::recovery::RecoveryReport;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A reader that meets a writer in the middle of its work looks again for so long.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// The reading half of an open store.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What is shown, with the schema that it is under.
    pub(crate) published: VersionCell,
    disk: Arc<dyn Disk>,
    /// Of the store; what it names may change.
    path: PathBuf,
    /// How far that was read. Held while it is read on.
    place: Mutex<Place>,
    generation: u64,
}

#[derive(Debug)]
struct Place {
    manifest: Manifest,
    /// The same as it stands in the file.
    bytes: Vec<u8>,
    log: Log,
}

/// The log of the active segment, and how far it was read.
#[derive(Debug)]
struct Log {
    header: Header,
    files: Files,
    position: LogPosition,
}

impl Reader {
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<(Reader, RecoveryReport)> {
        let (place, version, report) = read_patiently(disk, path, None, true)?;
        let reader = Reader {
            disk: disk.clone(),
            path: version.dir.path().to_owned(),
            published: VersionCell::new(Arc::new(version)),
            place: Mutex::new(place),
            generation: fork::generation(),
        };
        Ok((reader, report))
    }

    /// Whether this process is a child of the one that opened the store.
    pub(crate) fn is_forked(&self) -> bool {
        fork::generation() != self.generation
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let version = self.published.get();
        Snapshot::new(version.kind, version)
    }

    /// What is shown, and the MANIFEST that it is under.
    pub(crate) fn with_manifest(&self) -> Result<(Manifest, Snapshot)> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        let place = unpoisoned(self.place.lock());
        Ok((place.manifest.clone(), self.snapshot()))
    }

    /// As [`with_manifest`](Self::with_manifest), with nothing in it that only `.ids` says: where the log says
    /// something else, what is shown from here on is read from the log.
    pub(crate) fn confirmed(&self) -> Result<(Manifest, Snapshot)> {
        let shown = self.with_manifest()?;
        let active = self.published.load().segments.last().map(|part| part.segment.clone());
        let right = |segment: Arc<Segment>| segment.ids_are_right(&mut recover::to_the_end);
        if planted::is(Bug::TrustIds) || active.map_or(Ok(true), right)? {
            return Ok(shown);
        }
        let mut place = unpoisoned(self.place.lock());
        let (new, version, _) = read_patiently(&self.disk, &self.path, None, false)?;
        *place = new;
        self.published.publish(Arc::new(version));
        Ok((place.manifest.clone(), self.snapshot()))
    }

    /// Moves on to what is durable now in the store that the path names now.
    pub(crate) fn refresh(&self) -> Result<bool> {
        if self.is_forked() {
            return Err(Error::Forked);
        }
        let mut place = unpoisoned(self.place.lock());
        let before = self.published.get();
        let now = directory::open(&self.disk, &self.path)?;
        let same_dir = directory::is_same(&now, &before.dir) || planted::is(Bug::ForgetDirectory);
        let (manifest, bytes) = directory::read_manifest_bytes(&now)?;
        if same_dir
            && bytes == place.bytes
            && let Ok(Some(moved)) = self.read_on(&before, &mut place.log, manifest.number)
        {
            self.use_new_ids();
            return Ok(moved);
        }
        let (new, version, _) = read_patiently(&self.disk, &self.path, Some(&before), true)?;
        let moved = !(new.shows_the_same_as(&place) && directory::is_same(&version.dir, &before.dir));
        *place = new;
        self.published.publish(Arc::new(version));
        self.use_new_ids();
        Ok(moved)
    }

    /// Lets go of the tables in memory of sealed segments whose `.ids` is there by now. The caller holds the place.
    fn use_new_ids(&self) {
        let shown = self.published.get();
        let mut version = Version::clone(&shown);
        let (sealed, mut changed) = (version.segments.len().saturating_sub(1), false);
        for part in &mut version.segments[..sealed] {
            if part.segment.has_table_for_ids()
                && let Some(renewed) = part.segment.renewed(&part.end, false)
            {
                (part.segment, part.dat_map, changed) = (Arc::new(renewed), None, true);
            }
        }
        if changed {
            self.published.publish(Arc::new(version));
        }
    }

    /// Reads what was appended to the log since, under the same MANIFEST; `None` if it is not that log any more.
    fn read_on(&self, before: &Version, log: &mut Log, number: u64) -> Result<Option<bool>> {
        let dir = &before.dir;
        if !planted::is(Bug::TrustTheLog) && !recover::has_point(&log.files, &log.header, &log.position)? {
            return Ok(None);
        }
        let writer = lock::writer_lives(dir)?;
        let path = log.files.dat.path.with_extension("jsonl");
        if log.position.docs_end == 0 {
            // One opened before a COMMIT named it may have been removed by a recovery, and made again, since.
            log.files.jsonl = StoreFile::open(dir, path)?;
        }
        let mut found = recover::recover(&log.files, Some(&log.position), number)?;
        if writer || (lock::writer_lives(dir)? && !planted::is(Bug::OneLookForAWriter)) {
            found.keep_proven();
        }
        if found.manifest > number && !planted::is(Bug::TakeNewerLog) {
            return Ok(None);
        }
        // Nothing may fail from the replay on: what it adds to the segment's table would be added once more.
        let dat_len = log.header.row_start(found.position.rows);
        let mut version = before.clone();
        apply_cross_deletes(&mut version, &found, &log.files)?;
        let part = version.active_mut();
        if part.dat_map.as_ref().is_none_or(|map| map.len() < dat_len) {
            part.dat_map = Some(Arc::new(log.files.dat.map(dat_len)?));
        }
        // Last: whatever was put in the place of the files, what was read above is not of both.
        if !planted::is(Bug::TrustTheLog) && log.files.are_replaced(dir)? {
            return Ok(None);
        }
        if found.position.seq == log.position.seq {
            if before.side.are_outdated(dir) {
                self.published.publish(Arc::new(Version { side: Arc::default(), ..before.clone() }));
            }
            return Ok(Some(false));
        }
        if found.position.docs_end > 0 {
            part.segment.set_jsonl(&log.files);
        }
        part.segment.clone().replay(&mut found, &mut part.deletions)?;
        part.move_to(&found.position);
        (version.kind, version.seq, version.side) = (found.position.kind, found.position.seq, Arc::default());
        log.position = found.position;
        self.published.publish(Arc::new(version));
        Ok(Some(true))
    }
}

impl Place {
    fn shows_the_same_as(&self, before: &Place) -> bool {
        let end = |place: &Place| (place.log.position.seq, place.log.position.chain);
        self.bytes == before.bytes && end(self) == end(before)
    }
}

/// Reads the store that a path names until directory, MANIFEST and files fit each other: a writer may be replacing them,
/// or someone else the store as a whole.
fn read_patiently(
    disk: &Arc<dyn Disk>,
    path: &Path,
    mut known: Option<&Version>,
    by_ids: bool,
) -> Result<(Place, Version, RecoveryReport)> {
    let (deadline, mut pause) = (Instant::now() + PATIENCE, Duration::ZERO);
    loop {
        let dir = directory::open(disk, path)?;
        unfinished::check(&dir)?;
        let writer_before = lock::writer_lives(&dir)?;
        let (manifest, bytes) = directory::read_manifest_bytes(&dir)?;
        // What is open of another directory would keep that one's files.
        if let Some(before) = known
            && !directory::is_same(&before.dir, &dir)
            && !planted::is(Bug::ForgetDirectory)
        {
            known = None;
        }
        let mode = OpenMode { writable: false, proven_only: writer_before, by_ids, known };
        let opened = open_segments(&dir, manifest, mode);
        // A writer that came meanwhile may have changed what was read.
        let writer = lock::writer_lives(&dir)?;
        let mut replaced = false;
        let error = match opened {
            Ok(_) if writer && !writer_before && !planted::is(Bug::OneLookForAWriter) => None,
            Ok(opened) if opened.version.is_replaced()? => {
                (known, replaced) = (None, true);
                let what = "its files were replaced by others while they were opened";
                Some(Error::corrupt(&directory::manifest_path(&dir), 0, what))
            }
            Ok(opened) => {
                // Its writer may just have renamed this MANIFEST, by which the store was cleared or got other
                // attributes: a power cut would take it back. Batches under its number are written only when it is
                // durable.
                let is_new = opened.active.manifest != opened.manifest.number;
                if writer && is_new && !planted::is(Bug::ShowRename) {
                    sync_dir(&dir)?;
                }
                let Opened { manifest, version, files, active, .. } = opened;
                let log = Log { header: active.header, files, position: active.position };
                return Ok((Place { manifest, bytes, log }, version, active.report));
            }
            Err(error) => Some(error),
        };
        let race = replaced || writer || writer_before;
        let race = race || directory::is_replaced(disk, path, &dir, &bytes);
        match error {
            Some(error) if !race || !error.may_be_a_race() || Instant::now() >= deadline => {
                return Err(error);
            }
            _ => thread::sleep(std::mem::replace(&mut pause, PAUSE)),
        }
    }
}
