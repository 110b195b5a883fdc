//! Compaction: segments are rewritten without their dead rows, while everyone goes on reading and writing.
//!
//! The steps are K1 to K3 of the format. Only neighbours are merged, so that the order of writing stays.

use crate::buffer::batch::Batch;
use crate::engine::maintenance::state_of;
use crate::engine::replace::{Replacement, check_room};
use crate::engine::{Drain, Engine, SyncPermit, Writer};
use crate::format::manifest::{MAX_SEGMENTS, SegmentEntry, SegmentExtent};
use crate::format::record::{COMMIT_BYTES, LEAST_LOG_OF_ROW};
use crate::open::directory;
use crate::pair::files::{new_identity, zeros};
use crate::pair::{Effects, VectorStorage};
use crate::segment::Segment;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::point::Point;
use crate::segment::side;
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::sys::sync::Instant;
use crate::types::document::Document;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, Id, IdRef};
use std::iter::Peekable;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

mod options;
mod plan;

pub use options::{CompactOptions, CompactProgress, CompactReport};
use plan::{Space, plan};

/// Bytes of rows and documents that one batch of an output holds, but for the last row.
const BATCH_BYTES: u64 = 8 << 20;
/// The same in rows, for small ones.
const ROWS_PER_BATCH: u64 = 100_000;
/// Bytes of log that a batch needs beside its rows: COMMIT, and DURABLE if it is the last one.
const LOG_OF_BATCH: u64 = COMMIT_BYTES + 32;
/// Dead bytes below which a segment is not worth a compaction in the background.
const LEAST_DEAD_BYTES: u64 = 256 << 10;

/// Bytes of log below which it is not worth one by `compact`: the segment that takes its place has some, too.
const LEAST_LOG_BYTES: u64 = 8 << 10;

/// The live rows of a run, in new segments.
struct Copies {
    outputs: Vec<Output>,
    /// Of each input, by old row: output and new row; `u32::MAX` for a row that was dead.
    moved: Vec<Vec<(u32, u32)>>,
    /// What side files knew of them.
    carried: Vec<side::Pending>,
}

/// A new segment in the making.
struct Output {
    pair: VectorStorage,
    segment: Segment,
    rows: u64,
}

impl Output {
    fn target(&self) -> side::Output<'_> {
        let point = Point::of(self.pair.header(), self.pair.written(), 0);
        side::Output { segment: &self.segment, point }
    }

    /// What one more batch may take.
    fn room(&self, limits: Space) -> Space {
        let position = self.pair.written();
        let (dat, jsonl) = (self.pair.header().row_start(self.rows), position.lines_start());
        limits.minus(Space { rows: self.rows, dat, idx: position.idx_end + LOG_OF_BATCH, jsonl })
    }
}

/// Rows and bytes that were copied.
#[derive(Debug, Clone, Copy, Default)]
struct Copied {
    rows: u64,
    bytes: u64,
}

/// The copying of a run.
struct Copying<'a> {
    version: &'a Version,
    /// Numbers of its segments.
    inputs: Vec<u64>,
    /// What an output may take.
    limits: Space,
    outputs: Vec<Output>,
    done: Copied,
}

/// Rows to be copied as one batch.
#[derive(Debug, Default)]
struct Picked {
    rows: Vec<u64>,
    space: Space,
}

impl Picked {
    /// The next live rows of a segment: as many as one batch holds and there is room for, and if `first`, at least one.
    fn of(
        part: &SegmentVersion,
        live: &mut Peekable<impl Iterator<Item = u64>>,
        room: Space,
        first: bool,
    ) -> Result<Picked> {
        let (mut picked, stride) = (Picked::default(), part.segment.header().stride());
        while let Some(&row) = live.peek() {
            let (id, line) = part.segment.lengths(row)?;
            let space = picked.space.plus(Space::of_row(stride, id, line));
            let fits = space.fits_in(room) || (first && picked.rows.is_empty());
            if !fits || picked.space.bytes() >= BATCH_BYTES || space.rows > ROWS_PER_BATCH {
                break;
            }
            picked.rows.push(row);
            picked.space = space;
            live.next();
        }
        Ok(picked)
    }
}

impl Engine {
    /// Rewrites the segments that have enough dead rows, or no others, and merges small neighbours.
    pub(crate) fn compact(
        &self,
        options: &CompactOptions,
        progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactReport> {
        options.check()?;
        self.guarded(|| self.compact_all(options, progress))
    }

    fn compact_all(
        &self,
        options: &CompactOptions,
        progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactReport> {
        let _hurry = self.maintenance.hurry();
        let _turn = self.maintenance.turn();
        self.flush()?;
        let stride = self.schema.stride();
        let wanted = |part: &SegmentVersion| {
            let least = LEAST_LOG_BYTES.max(part.live() * stride / 512);
            options.takes(part) || log_waste(part, least) > least
        };
        self.seal_if(wanted)?;
        // Small segments too, where they can be merged with a neighbour.
        let small = self.settings.limits.records / 2;
        let version = self.published.get();
        let wanted = |part: &SegmentVersion| is_sealed_for_nothing(&version, part) || wanted(part);
        let mut runs =
            plan(&version, &self.settings.limits, |part| wanted(part) || part.rows <= small, |_| true);
        runs.retain(|run| run.len() > 1 || wanted(&version.segments[run.start]));
        let mut report = CompactReport::default();
        let total =
            runs.iter().flat_map(|run| &version.segments[run.clone()]).map(SegmentVersion::live).sum();
        let mut done = 0;
        for numbers in numbers_of(&version, &runs) {
            let before = done;
            let mut tell = |copied: Copied| {
                done = before + copied.rows;
                progress(CompactProgress { rows: done, total })
            };
            self.compact_run(&numbers, &mut tell, &mut report)?;
        }
        self.build_side_files(true);
        let left = self.published.load();
        let left = left.segments.iter().map(|part| part.deletions.dead()).filter(|&dead| dead > 0);
        (report.segments_left, report.rows_left) =
            left.fold((0, 0), |(segments, rows), dead| (segments + 1, rows + dead));
        Ok(report)
    }

    /// Rewrites the segments in which too many rows are dead, or too much of the log is of no use any more.
    pub(crate) fn compact_in_background(&self) {
        let version = self.published.get();
        let failed = self.maintenance.failures().failed(&version);
        // The log alone is not worth a MANIFEST before it counts in the whole store.
        let least_log = LEAST_DEAD_BYTES.max(version.live() * self.schema.stride() / 64);
        let may = |part: &SegmentVersion| !failed.contains(&state_of(part));
        let due = |part: &SegmentVersion| may(part) && self.is_due(part, least_log);
        let empty = |version: &Version, part: &SegmentVersion| {
            self.settings.compact_at <= 1.0 && may(part) && is_sealed_for_nothing(version, part)
        };
        let due_now: Vec<u64> = version
            .segments
            .iter()
            .filter(|part| due(part) || empty(&version, part))
            .map(|part| part.segment.number())
            .collect();
        if due_now.is_empty() {
            return;
        }
        // Only now: what is due is known without reading from here on.
        let _turn = self.maintenance.turn();
        if let Err(error) = self.seal_if(due) {
            return self.maintenance.failures().add(&version, &due_now, error);
        }
        let version = self.published.get();
        let due = |part: &SegmentVersion| due(part) || empty(&version, part);
        let runs = plan(&version, &self.settings.limits, due, may);
        self.run_in_background(&version, &numbers_of(&version, &runs));
    }

    /// Whether a segment is to be compacted without anybody asking for it.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn is_due(&self, part: &SegmentVersion, least_log: u64) -> bool {
        let (dead, stride) = (part.deletions.dead(), self.schema.stride());
        let many = |waste: u64, of: u64| waste as f64 > self.settings.compact_at * of as f64;
        let document = part.end.jsonl_len.checked_div(part.rows).unwrap_or(0);
        if dead * (stride + document) >= LEAST_DEAD_BYTES && many(dead, part.rows) {
            return true;
        }
        let waste = log_waste(part, least_log);
        waste >= least_log && many(dead * stride + waste, part.rows * stride + part.end.idx_len)
    }

    /// Compacts some runs, not faster than the background may. Damage keeps nothing from being compacted but the segment
    /// that it is in; any other error ends this.
    fn run_in_background(&self, version: &Version, runs: &[Vec<u64>]) {
        let (start, mut report, mut copied) = (Instant::now(), CompactReport::default(), 0);
        for (place, numbers) in runs.iter().enumerate() {
            let before = copied;
            let mut pace = |step: Copied| {
                copied = before + step.bytes;
                self.maintenance.pace(start, copied)
            };
            match self.compact_run(numbers, &mut pace, &mut report) {
                Ok(()) => self.maintenance.failures().forget(|number| numbers.contains(&number)),
                Err(Error::Cancelled) => return,
                Err(error) => {
                    let damaged = self.damaged_in(numbers, &error);
                    let stops = damaged.is_empty();
                    let hurt = if stops { runs[place..].concat() } else { damaged };
                    self.maintenance.failures().add(version, &hurt, error);
                    if stops {
                        return;
                    }
                    // The others of the run are compacted without it.
                    if numbers.len() > 1 {
                        self.maintenance.set_due();
                    }
                }
            }
        }
    }

    /// Which of some segments an error says are damaged.
    fn damaged_in(&self, numbers: &[u64], error: &Error) -> Vec<u64> {
        let Error::Corrupt { path, .. } = error else { return Vec::new() };
        let pair = path.with_extension("");
        numbers.iter().copied().filter(|&number| directory::pair_path(&self.dir, number) == pair).collect()
    }

    /// Seals the active segment if its rows are to be compacted.
    fn seal_if(&self, wanted: impl Fn(&SegmentVersion) -> bool) -> Result<()> {
        self.with_sync_permit(|permit, writer| {
            self.write_all(permit, writer)?;
            if writer.claim.is_some() {
                // A compaction leaves out what is dead: that has to be what the logs say.
                self.sync_log_end(permit, writer)?;
                self.confirm(permit, writer)?;
            }
            let version = self.published.load();
            if wanted(version.active()) { self.seal(permit, writer) } else { Ok(()) }
        })
    }

    /// K1 to K3 for neighbouring segments.
    fn compact_run(
        &self,
        numbers: &[u64],
        tell: &mut dyn FnMut(Copied) -> ControlFlow<()>,
        report: &mut CompactReport,
    ) -> Result<()> {
        let before = self.published.get();
        let Some(&number) = numbers.first() else { return Ok(()) };
        let Some(first) = before.place_of(number) else { return Ok(()) };
        let run = first..first + numbers.len();
        // Whoever clears the store takes all segments, and does not wait for a compaction.
        let gone = || self.published.load().place_of(number).is_none();
        self.with_writer_lock(|writer| check_room(&writer.manifest, 1))?;
        before.segments[run.clone()].iter().try_for_each(|part| self.confirm_sealed(&part.segment))?;
        let mut made = Vec::new();
        let mut tell = |copied: Copied| if gone() { ControlFlow::Break(()) } else { tell(copied) };
        let copied = self.copy_live(&before, run.clone(), &mut made, &mut tell).map_err(Error::abandoned);
        self.maintenance.copying.store(0, Ordering::Relaxed);
        let outcome = copied.and_then(|copies| {
            self.with_sync_permit(|permit, writer| {
                if gone() {
                    return Err(Error::Cancelled);
                }
                self.write_all(permit, writer)?;
                self.sync_log_end(permit, writer)?;
                self.hooks.here("swap");
                self.swap(permit, writer, &before, run.clone(), copies, made.clone())
            })
        });
        let Ok(after) = outcome else {
            // Nothing names them, unless it is unknown which MANIFEST counts: then writing stopped, and opening decides.
            let goes_on = self.with_writer_lock(|writer| writer.pair.check_writable());
            if goes_on.is_ok() {
                self.remove(&made);
            }
            return match outcome {
                Err(Error::Cancelled) if gone() => Ok(()),
                outcome => outcome.map(drop),
            };
        };
        let mut bytes = 0;
        for part in &before.segments[run] {
            report.segments += 1;
            report.rows_dropped += part.deletions.dead();
            bytes += bytes_of(&part.end);
        }
        report.bytes_freed += bytes.saturating_sub(after);
        Ok(())
    }

    /// K2: copies the live rows of a run to new pairs, each row checked; syncs them.
    fn copy_live(
        &self,
        version: &Version,
        run: Range<usize>,
        made: &mut Vec<PathBuf>,
        tell: &mut dyn FnMut(Copied) -> ControlFlow<()>,
    ) -> Result<Copies> {
        let parts = &version.segments[run];
        let inputs = parts.iter().map(|part| part.segment.number()).collect();
        // A segment that has more rows than one may have now is not cut up for that.
        let rows = parts.iter().map(|part| part.rows).fold(self.settings.limits.records, u64::max);
        let limits = Space { rows, ..Space::of_segment(&self.settings.limits) };
        let mut copy = Copying { version, inputs, limits, outputs: Vec::new(), done: Copied::default() };
        let copied = parts.iter().map(|part| self.copy_segment(&mut copy, part, tell));
        let copied: Result<Vec<_>> = copied.collect();
        let ended = copied.and_then(|moved| {
            copy.outputs.iter_mut().try_for_each(|output| output.pair.end_here())?;
            Ok(moved)
        });
        let (outputs, done) = (copy.outputs, copy.done);
        made.extend(outputs.iter().flat_map(|output| output.pair.made()));
        let moved = ended?;
        let targets = outputs.iter().map(Output::target).collect();
        let rows = side::Moved { version, inputs: parts, to: &moved, outputs: targets };
        let more = |bytes| Copied { bytes: done.bytes + bytes, ..done };
        let carried = side::carry(&self.dir, &rows, &mut |bytes| tell(more(bytes)));
        made.extend(carried.iter().map(|file| file.path().to_owned()));
        Ok(Copies { outputs, moved, carried })
    }

    /// Copies the live rows of a segment behind those that were copied before; returns where each went.
    fn copy_segment(
        &self,
        copy: &mut Copying<'_>,
        part: &SegmentVersion,
        tell: &mut dyn FnMut(Copied) -> ControlFlow<()>,
    ) -> Result<Vec<(u32, u32)>> {
        let mut to: Vec<(u32, u32)> = zeros(part.rows)?;
        to.fill((u32::MAX, u32::MAX));
        let mut live = part.deletions.live_in(0..part.rows).peekable();
        while live.peek().is_some() {
            let room = copy.outputs.last().map_or(Space::default(), |output| output.room(copy.limits));
            let mut batch = Picked::of(part, &mut live, room, false)?;
            if batch.rows.is_empty() {
                let output = self.new_output(copy)?;
                batch = Picked::of(part, &mut live, output.room(copy.limits), true)?;
                copy.outputs.push(output);
            }
            let tables: u64 = copy.outputs.iter().map(|output| output.segment.heap_bytes()).sum();
            let moves = (size_of_val(&*to) + batch.rows.capacity() * 8) as u64;
            self.maintenance.copying.store(batch.space.bytes() + tables + moves, Ordering::Relaxed);
            let number = u32::try_from(copy.outputs.len() - 1).expect("fewer outputs than rows");
            self.hooks.here("copy");
            let output = copy.outputs.last_mut().expect("made above, if not before");
            let first = copy_rows(output, copy.version, part, &batch.rows)?;
            for (new, &old) in (first..).zip(&batch.rows) {
                let new = u32::try_from(new).expect("below MAX_ROWS");
                to[usize::try_from(old).expect("below MAX_ROWS")] = (number, new);
            }
            copy.done.rows += batch.space.rows;
            copy.done.bytes += batch.space.bytes();
            interrupt::check()?;
            if tell(copy.done).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(to)
    }

    /// An empty segment for live rows.
    fn new_output(&self, copy: &Copying<'_>) -> Result<Output> {
        let segments = copy.version.segments.len() - copy.inputs.len() + copy.outputs.len() + 1;
        if segments as u64 > MAX_SEGMENTS {
            return Err(Error::TooManySegments { max: MAX_SEGMENTS });
        }
        let number = self.take_segment_number()?;
        let identity = new_identity(self.schema.uuid, number)?;
        let mut pair = directory::create_segment(&self.dir, &self.schema, identity, (0, [0; 16]), 0)?;
        let segment = pair
            .write_base(copy.version.seq, &copy.inputs)
            .and_then(|()| Segment::active(&self.dir, pair.files().clone(), *pair.header(), None));
        let segment = segment.inspect_err(|_| self.remove(&pair.made()))?;
        Ok(Output { pair, segment, rows: 0 })
    }

    /// K3: in the pause, the outputs take the place of their inputs. What died since the copy began dies there too.
    /// Returns the bytes of the outputs.
    fn swap(
        &self,
        permit: &SyncPermit<'_>,
        writer: &mut Writer,
        before: &Version,
        run: Range<usize>,
        Copies { outputs, moved, carried }: Copies,
        mut made: Vec<PathBuf>,
    ) -> Result<u64> {
        let mut version = self.published.draft();
        let mut manifest = writer.manifest.clone();
        let number = before.segments[run.start].segment.number();
        let start = version.place_of(number).expect("the caller has seen it in the same pause");
        let mut dead: Vec<DeletionVector> = outputs.iter().map(|_| DeletionVector::default()).collect();
        let now = &version.segments[start..start + run.len()];
        for ((now, before), to) in now.iter().zip(&before.segments[run.clone()]).zip(moved) {
            for row in now.deletions.newly_dead(&before.deletions) {
                let (output, row) = to[row as usize];
                if output == 0 || !planted::is(Bug::KillsOfFirstOutput) {
                    dead[output as usize].delete_row(row);
                }
            }
        }
        let (mut parts, mut entries, mut obsolete) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for (output, deletions) in outputs.into_iter().zip(dead) {
            let Output { pair, segment, rows } = output;
            let end = pair.written().sealed(pair.header());
            bytes += bytes_of(&end);
            entries.push(SegmentEntry::new(pair.header().identity, Some(end.clone())));
            let dat_map = pair.dat_map().cloned();
            parts.push(SegmentVersion { segment: Arc::new(segment), rows, deletions, dat_map, end });
        }
        let places = start..start + run.len();
        for entry in manifest.segments.splice(places.clone(), entries) {
            obsolete.extend(directory::files_of(&self.dir, entry.number));
            if let Some(sealed) = entry.sealed.filter(|sealed| sealed.del.0 != 0) {
                obsolete.push(directory::del_path(&self.dir, entry.number, sealed.del.0));
            }
        }
        if manifest.segments.len() as u64 > MAX_SEGMENTS {
            return Err(Error::TooManySegments { max: MAX_SEGMENTS });
        }
        version.segments.splice(places, parts);
        manifest.next_segment = manifest.next_segment.max(self.next_segment_number());
        // Only now: to a MANIFEST that does not name the outputs these files are obsolete.
        made.extend(carried.into_iter().filter_map(|file| file.rename(&self.dir).ok()));
        self.replace(
            permit,
            writer,
            Replacement { manifest, version, made, obsolete, pair: None, drain: Drain::Nothing },
        )?;
        Ok(bytes)
    }
}

/// Whether a segment is sealed and has no live row: nothing is copied to be rid of its files.
fn is_sealed_for_nothing(version: &Version, part: &SegmentVersion) -> bool {
    part.live() == 0 && part.segment.number() != version.active().segment.number()
}

/// Bytes of a segment's log that no live row needs: deletes, commits of few rows, puts of dead ones. Where it is surely
/// below `least` nothing is read to find out.
fn log_waste(part: &SegmentVersion, least: u64) -> u64 {
    let (live, len) = (part.live(), part.end.idx_len);
    if len.saturating_sub(live * LEAST_LOG_OF_ROW) < least {
        return 0;
    }
    // What cannot be read is not for a compaction to find.
    let Ok(puts) = part.segment.puts_len(part.rows) else { return 0 };
    len.saturating_sub((puts * live).checked_div(part.rows).unwrap_or(0))
}

/// Runs by segment numbers: places change with each MANIFEST.
fn numbers_of(version: &Version, runs: &[Range<usize>]) -> Vec<Vec<u64>> {
    let number = |part: &SegmentVersion| part.segment.number();
    runs.iter().map(|run| version.segments[run.clone()].iter().map(number).collect()).collect()
}

/// Bytes of a segment's rows, log and documents.
fn bytes_of(end: &SegmentExtent) -> u64 {
    end.dat_len + end.idx_len + end.jsonl_len
}

/// Copies some rows of a segment to the end of an output, as one batch; returns the first new row.
fn copy_rows(output: &mut Output, version: &Version, part: &SegmentVersion, rows: &[u64]) -> Result<u64> {
    let kind = version.kind.expect("a version with rows has a kind");
    let dim = output.pair.header().dim as usize;
    let (mut ids, mut documents): (Vec<Id>, Vec<Option<String>>) = (Vec::new(), Vec::new());
    let mut vectors = vec![0f32; rows.len() * dim];
    for (&row, vector) in rows.iter().zip(vectors.chunks_exact_mut(dim)) {
        part.segment.read_row(row, vector)?;
        ids.push(part.segment.id(row, kind)?);
        documents.push(part.segment.document(row)?);
    }
    let ids: Vec<IdRef<'_>> = ids.iter().map(Id::as_id).collect();
    let documents: Vec<_> = documents.iter().map(|text| Document::whole(text.as_deref())).collect();
    let first = output.rows;
    let batch = Batch::Rows { ids: &ids, vectors: &vectors, documents: &documents, dim };
    let appended = output.pair.append_batch(batch, kind, &Effects::default())?;
    output.segment.grow(&appended.rows, &appended.deletes, &appended.idx_map, &mut DeletionVector::default());
    output.segment.set_jsonl(output.pair.files());
    output.rows = appended.position.rows;
    Ok(first)
}
