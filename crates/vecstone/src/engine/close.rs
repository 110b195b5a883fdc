//! What ends a writer's work, and what makes the next opening fast.

use crate::engine::{Drain, Engine, Writer};
use crate::format::manifest::SegmentExtent;
use crate::pair::files::{Files, IdxMap, StoreFile};
use crate::pair::recover;
use crate::pair::rows::RowEntry;
use crate::segment::Segment;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::{self, Content, Point};
use crate::segment::index::HeapIndex;
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::disk::{Dir, Open};
use crate::sys::sync::Instant;
use crate::types::error::{Error, Result};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Flushes, writes CLOSE, and `.ids` for the active segment if enough came since the last. A second call does nothing.
pub(crate) fn close(engine: &Engine) -> Result<()> {
    engine.stop_threads();
    match engine.check_place() {
        // Nothing is written any more, not even what can be rebuilt.
        Err(error) if error.stops_writing() => return Err(error),
        // Flushed all the same, and asked again.
        _ => {}
    }
    engine.guarded(|| close_files(engine))
}

fn close_files(engine: &Engine) -> Result<()> {
    engine.hooks.here("close");
    let untouched = engine.with_writer_lock(|writer| Ok(writer.pair.is_clean()))?;
    if !untouched || engine.published.load().segments.iter().any(|part| part.segment.has_damaged_index()) {
        engine.index_sealed(false);
    }
    let flushed = engine.flush().inspect_err(|error| engine.set_back(error.clone()));
    // Nobody is left who would try again.
    flushed.map_err(|error| error.kept(false))?;
    engine.with_sync_permit(|permit, writer| {
        engine.write_all(permit, writer)?;
        engine.stop_if_moved(permit, writer)?;
        let was_clean = writer.pair.is_clean();
        // What the old `.ids` alone says is not handed on to a new one.
        let wanted = wants_ids(engine, writer, was_clean) && engine.confirm(permit, writer).is_ok();
        writer.pair.end_cleanly().map_err(|error| engine.failed(writer, error))?;
        if wanted && !std::mem::replace(&mut writer.closed, true) {
            let version = engine.published.load();
            // The next opening reads the log if this fails.
            _ = write_ids(
                &engine.dir,
                version.active(),
                &cross_deletes_of(writer, &version),
                writer.manifest.number,
            );
        }
        Ok(())
    })
}

/// Whether the active segment is to get an `.ids`: much came since the last, or that is damaged.
fn wants_ids(engine: &Engine, writer: &Writer, was_clean: bool) -> bool {
    let version = engine.published.load();
    let part = version.active();
    let since = part.rows - part.segment.base().rows + writer.deletes;
    (!was_clean && since > engine.settings.ids_after) || part.segment.has_damaged_index()
}

/// Rows of sealed segments that died under the present MANIFEST: those that no `.del` file has yet.
fn cross_deletes_of(writer: &Writer, version: &Version) -> Vec<(u32, u32)> {
    let mut cross_deletes = Vec::new();
    for part in &version.segments[..version.segments.len() - 1] {
        let (number, none) = (part.segment.number(), DeletionVector::default());
        let in_del = writer.in_del.get(&number).unwrap_or(&none);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        cross_deletes.extend(part.deletions.newly_dead(in_del).map(|row| (number, row)));
    }
    cross_deletes
}

impl Engine {
    /// Writes `.ids` for sealed segments that have none, or a damaged one, and lets go of their tables in memory. Stops
    /// when the store closes, if asked to.
    pub(crate) fn index_sealed(&self, until_stopped: bool) {
        let stops = || until_stopped && self.maintenance.is_stopped();
        self.index_while(&mut |_| if stops() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    }

    /// The same, not faster than the background may; gives way to whoever compacts.
    pub(crate) fn index_in_background(&self) {
        let start = Instant::now();
        let bytes = self.index_while(&mut |bytes| self.maintenance.pace(start, bytes));
        if bytes > 0 {
            _ = self.maintenance.pace(start, bytes);
        }
    }

    /// Whether `.ids` of a sealed segment has turned out to be damaged since this was last asked.
    pub(crate) fn take_damage_notice(&self) -> bool {
        let version = self.published.load();
        version.segments[..version.segments.len() - 1].iter().any(|part| part.segment.take_damage_notice())
    }

    /// Asks before each segment whether to go on, with the bytes read and written so far, which it returns.
    fn index_while(&self, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> u64 {
        let mut damaged = self.maintenance.indexing();
        let (version, mut bytes) = (self.published.get(), 0);
        for part in &version.segments[..version.segments.len() - 1] {
            let has = part.segment.base().rows == part.rows && part.segment.has_ids();
            if has || part.rows == 0 || damaged.contains(&part.segment.number()) {
                continue;
            }
            if go_on(bytes).is_break() {
                break;
            }
            bytes += part.end.idx_len;
            let none = DeletionVector::default();
            let without_dead = SegmentVersion { deletions: none, ..part.clone() };
            if let Err(error) = write_ids(&self.dir, &without_dead, &[], 0) {
                if error.is_corrupt() {
                    damaged.insert(part.segment.number());
                }
                continue;
            }
            let segment = &part.segment;
            let renewed = Segment::sealed(&self.dir, segment.files(), *segment.header(), part.end.clone());
            let Ok(renewed) = renewed else { continue };
            let Some(ids) = renewed.ids() else { continue };
            bytes += ids.len();
            renewed.note_ids_are_right();
            self.hooks.here("index");
            if self.renew(renewed).is_err() {
                // Writing stopped; what is on the disk is right all the same.
                break;
            }
        }
        bytes
    }

    /// Puts another handle of a sealed segment in the place of the one that is there.
    fn renew(&self, renewed: Segment) -> Result<()> {
        self.with_writer_lock(|writer| {
            let mut version = self.published.draft();
            let Some(place) = version.place_of(renewed.number()) else {
                // Cleared, or compacted, meanwhile.
                self.remove(&[renewed.files().dat.path.with_extension("ids")]);
                return Ok(());
            };
            let (part, renewed) = (&mut version.segments[place], Arc::new(renewed));
            (part.segment, part.dat_map) = (renewed.clone(), None);
            self.publish(writer, version, Drain::Nothing);
            // The same rows: only the table in memory goes.
            if writer.falls_back_to_sealed(&renewed) {
                writer.renew(&renewed);
            }
            Ok(())
        })
    }
}

/// Writes `.ids` for the rows of a segment from what its log says, under a new name that then replaces the old one: who
/// has that open keeps it. Synced before, so that damage to it is never a crash's work.
fn write_ids(dir: &Dir, part: &SegmentVersion, cross_deletes: &[(u32, u32)], manifest: u64) -> Result<()> {
    let (files, end): (Files, &SegmentExtent) = (part.segment.files(), &part.end);
    let mut found = recover::read_sealed(&files, end)?;
    let mut index =
        HeapIndex::from_row(0, IdxMap { map: Arc::new(files.idx.map(end.idx_len)?), end: end.idx_len });
    index.take(std::mem::take(&mut found.rows), |_| {});
    let header = part.segment.header();
    let position = &found.position;
    let point = Point {
        identity: header.identity,
        seq: position.seq,
        chain: position.chain,
        epoch: position.epoch,
        kind: position.kind.map_or(0, |kind| kind as u8),
        commit_at: position.commit_at,
        idx_end: position.idx_end - position.since_commit.len() as u64,
        rows: position.rows,
        docs_end: position.docs_end,
        manifest,
    };
    let hasher = crate::types::id::IdHasher::new(&header.identity.uuid);
    let live = index.newest(hasher);
    let row = |row: u32| -> RowEntry { index.rows().entry(row.into()).unwrap_or_default() };
    let content = Content { point, row: &row, live, dead: &part.deletions.to_roaring(), cross_deletes };
    let path = files.dat.path.with_extension("ids.new");
    let target = files.dat.path.with_extension("ids");
    // In the making, and left so by a process that died: it never has a meaning.
    _ = dir.unlink(&path);
    let file = dir.open_file(&path, Open::CreateNew).map_err(|e| Error::io(&path, "create", e))?;
    let named = StoreFile { path: path.clone(), file };
    let written = ids::write(&named, &content)
        .and_then(|()| named.file.sync_data().map_err(|e| Error::io(&path, "sync", e)))
        .and_then(|()| dir.rename(&path, &target).map_err(|e| Error::io(&target, "replace", e)));
    if written.is_err() {
        _ = dir.unlink(&path);
    }
    written
}
