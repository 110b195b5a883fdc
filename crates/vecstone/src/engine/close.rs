//! What ends a writer's work, and what makes the next opening fast.

use crate::engine::{Drain, Engine, Writer};
use crate::query::coded::effort;
use crate::segment::Segment;
use crate::segment::side::{self, Closing, Optimize, Rows, Scope, SideKind};
use crate::segment::version::Version;
use crate::sys::sync::Instant;
use crate::types::error::{Error, Result};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Flushes, writes CLOSE, and the side files that are wanted of the active segment. A second call does nothing.
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
        engine.build_side_files(false);
    }
    let flushed = engine.flush().inspect_err(|error| engine.set_back(error.clone()));
    // Nobody is left who would try again.
    flushed.map_err(|error| error.kept(false))?;
    engine.with_sync_permit(|permit, writer| {
        engine.write_all(permit, writer)?;
        engine.stop_if_moved(permit, writer)?;
        let was_clean = writer.pair.is_clean();
        let version = engine.published.get();
        let rows = rows_at_the_end(engine, writer, &version, was_clean);
        let wanted: Vec<_> = side::all().filter(|kind| kind.is_wanted(&rows)).collect();
        // What an old side file alone says is not handed on to a new one.
        let may = !wanted.is_empty() && engine.confirm(permit, writer).is_ok();
        writer.pair.end_cleanly().map_err(|error| engine.failed(writer, error))?;
        if may && !std::mem::replace(&mut writer.closed, true) {
            let version = engine.published.get();
            let rows = rows_at_the_end(engine, writer, &version, was_clean);
            for kind in wanted {
                // The next opening does without it if this fails.
                _ = side::build(kind, &engine.dir, &rows, &mut |_| ControlFlow::Continue(()));
            }
        }
        Ok(())
    })
}

/// The rows of the active segment of a store that is being closed.
fn rows_at_the_end<'a>(
    engine: &Engine,
    writer: &'a Writer,
    version: &'a Version,
    was_clean: bool,
) -> Rows<'a> {
    let (deletes, manifest, ids_after) = (writer.deletes, writer.manifest.number, engine.settings.ids_after);
    let closing = Closing { was_clean, deletes, ids_after, in_del: &writer.in_del, manifest };
    let place = version.segments.len() - 1;
    Rows { version, place, closing: Some(closing), optimize: Optimize::NOT_NOW }
}

/// How many bytes the background could copy in the time that it takes to code one.
const COST: u64 = 4;

/// Side files that were built: their rows, of each kind by itself, and the bytes that were read and written for them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Built {
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Engine {
    /// Builds the side files that are missing or damaged, and lets go of what memory holds in their place. Stops when the
    /// store closes, if asked to.
    pub(crate) fn build_side_files(&self, until_stopped: bool) {
        let stops = || until_stopped && self.maintenance.is_stopped();
        let mut go_on = |_| if stops() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        // What cannot be built is done without.
        _ = self.build_while(Optimize::NOT_NOW, &mut go_on);
    }

    /// The same, not faster than the background may; gives way to whoever compacts.
    pub(crate) fn build_in_background(&self) {
        let start = Instant::now();
        let from_hot = self.published.load().optimize_from();
        let optimize = Optimize { from_hot, measure: effort::measure, ..Optimize::NOT_NOW };
        let pace = |built: Built| self.maintenance.pace(start, built.bytes * COST);
        let (built, _) = self.build_while(optimize, &mut |built| pace(built));
        if built.bytes > 0 {
            _ = pace(built);
        }
    }

    /// Whether a side file of a sealed segment has turned out to be damaged since this was last asked.
    pub(crate) fn take_damage_notice(&self) -> bool {
        let version = self.published.load();
        version.segments[..version.segments.len() - 1].iter().any(|part| part.segment.take_damage_notice())
    }

    /// Builds the side files that are wanted of the durable rows. Asks before each file, and within, whether to go on, with
    /// what was built so far; returns all of that, and the first error: what else is wanted is built all the same.
    pub(crate) fn build_while(
        &self,
        optimize: Optimize<'_>,
        go_on: &mut dyn FnMut(Built) -> ControlFlow<()>,
    ) -> (Built, Result<()>) {
        let mut damaged = self.maintenance.indexing();
        let durable = self.with_writer_lock(|writer| Ok(Version::clone(&writer.durable_version)));
        let (mut built, mut outcome) = (Built::default(), Ok(()));
        let mut version = match durable {
            Ok(version) => version,
            Err(error) => return (built, Err(error)),
        };
        let segments = version.segments.len();
        for (kind, place) in side::all().flat_map(|kind| (0..segments).map(move |place| (kind, place))) {
            let rows = Rows { version: &version, place, closing: None, optimize };
            let segment = &version.segments[place].segment;
            if damaged.contains(&segment.number()) || !self.is_wanted(kind, &rows) {
                continue;
            }
            if go_on(built).is_break() {
                break;
            }
            let all = rows.of(kind);
            let with = |more: u64| {
                let rows = built.rows + (more / version.schema.stride()).min(all);
                Built { bytes: built.bytes + more, rows }
            };
            let path = match side::build(kind, &self.dir, &rows, &mut |more| go_on(with(more))) {
                Ok((path, more)) => {
                    built = Built { rows: built.rows + all, ..with(more) };
                    path
                }
                Err(Error::Cancelled) => break,
                Err(error) => {
                    // What was read for nothing is paced, too.
                    built.bytes += rows.part().end.idx_len;
                    if error.is_corrupt() {
                        damaged.insert(segment.number());
                    }
                    outcome = outcome.and(Err(error));
                    continue;
                }
            };
            let renewed = match kind.scope() {
                Scope::Segment => match segment.renewed(&rows.part().end, true) {
                    None => continue,
                    renewed => renewed,
                },
                Scope::Ranges | Scope::Store => {
                    version.side = Arc::default();
                    None
                }
            };
            self.hooks.here("index");
            if let Err(error) = self.use_side_file(&path, renewed) {
                // Writing stopped; what is on the disk is right all the same.
                outcome = outcome.and(Err(error));
                break;
            }
        }
        (built, outcome)
    }

    /// Whether a side file is wanted of durable rows. A sync under way may show durable what was so before a file was built:
    /// what is shown is asked, too.
    fn is_wanted(&self, kind: &dyn SideKind, rows: &Rows<'_>) -> bool {
        let shown = self.published.get();
        let number = rows.part().segment.number();
        let in_shown = shown.place_of(number).map(|place| Rows { version: &shown, place, ..*rows });
        kind.is_wanted(rows) && in_shown.is_some_and(|rows| kind.is_wanted(&rows))
    }

    /// Has readers use a file that was just built: that of a sealed segment, with another handle of it, or one of no
    /// single segment.
    fn use_side_file(&self, path: &Path, renewed: Option<Segment>) -> Result<()> {
        self.with_writer_lock(|writer| {
            let mut version = self.published.draft();
            let Some(renewed) = renewed.map(Arc::new) else {
                version.side = Arc::default();
                Arc::make_mut(&mut writer.durable_version).side = version.side.clone();
                self.publish(writer, version, Drain::Nothing);
                self.remove_obsolete_side_files(writer);
                return Ok(());
            };
            let Some(place) = version.place_of(renewed.number()) else {
                // Cleared, or compacted, meanwhile.
                self.remove(&[path.to_owned()]);
                return Ok(());
            };
            let part = &mut version.segments[place];
            (part.segment, part.dat_map) = (renewed.clone(), None);
            self.publish(writer, version, Drain::Nothing);
            // The same rows: only the table in memory goes.
            if writer.falls_back_to_sealed(&renewed) {
                writer.renew(&renewed);
            }
            Ok(())
        })
    }

    /// Removes side files that count no more. Those of a directory that cannot be listed go at the next opening.
    pub(crate) fn remove_obsolete_side_files(&self, writer: &Writer) {
        let names = self.dir.list().unwrap_or_default();
        self.remove(&side::obsolete(&self.dir, &names, &writer.manifest));
    }
}
