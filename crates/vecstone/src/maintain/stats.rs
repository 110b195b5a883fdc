//! What a store holds, on the disk and in memory.

use crate::engine::Engine;
use crate::open::directory;
use crate::query::snapshot::Snapshot;
use crate::segment::side::{self, EffortStats, SideStats};
use crate::segment::version::SegmentVersion;
use crate::sys::disk::{Dir, Open, is_no_file};
use crate::sys::sync::unpoisoned;
use crate::types::config::Metric;
use crate::types::element::Element;
use crate::types::error::{Error, Result};
use crate::types::id::IdKind;
use std::sync::atomic::Ordering;

/// A store's size, on the disk and in memory.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Rows in the files, dead ones included.
    pub rows: u64,
    /// Rows of the files that are the newest of their id, buffered writes considered.
    pub live: u64,
    /// Rows replaced or deleted.
    pub dead: u64,
    /// Ids whose newest vector is in the buffer only.
    pub buffered: u64,
    /// Kind of the ids; `None` before the first write.
    pub kind: Option<IdKind>,
    /// Components of a vector.
    pub dim: u32,
    /// How distances are measured.
    pub metric: Metric,
    /// How a component is stored.
    pub element: Element,
    /// Number of segments.
    pub segments: u64,
    /// Each of them, oldest first; the last one is active.
    pub per_segment: Vec<SegmentStats>,
    /// Files that can be built again, by kind; each kind is listed, also where there are none.
    pub side: Vec<SideStats>,
    /// How many rows an approximate search looks at; `None` before that was measured.
    pub effort: Option<EffortStats>,
    /// From how many rows without codes the background makes them; 0 never. See
    /// [`OpenOptions::auto_optimize_rows`](crate::OpenOptions::auto_optimize_rows).
    pub auto_optimize_rows: u64,
    /// As [`VectorStore::embed_name`](crate::VectorStore::embed_name).
    pub embed_name: Option<String>,
    /// Bytes on the disk.
    pub bytes: FileBytes,
    /// `bytes.total` divided by the bytes of the live vectors; 0 if there are none.
    pub overhead: f64,
    /// The same without documents and `.side` files.
    pub overhead_without_side: f64,
    /// Bytes in memory.
    pub memory: Memory,
    /// Why a compaction in the background did not come to its end, with file and place of what is damaged. It is not
    /// tried again before a row of that segment is replaced or deleted; the error goes when that or
    /// [`compact`](crate::VectorStore::compact) has rewritten the segment, or the store was cleared.
    pub compaction_error: Option<String>,
    /// Whether the file system was seen to give the open store another inode: whether the store was moved is then told by
    /// the content of LOCK.
    pub unsteady_inodes: bool,
    /// Which `.ids` of the active segment said something else than the log, and was dropped by this handle.
    pub ids_error: Option<String>,
    /// Documents that puts were to keep, and that were found damaged: their ids have none now. Counted since this handle
    /// was opened. What is left of them stays in the old rows until these are compacted;
    /// [`repair`](crate::VectorStore::repair) reads them.
    pub lost_documents: u64,
    /// File and place of the last of them.
    pub document_error: Option<String>,
}

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Its number: the files are `%08d.dat` and so on.
    pub number: u64,
    /// Rows that count, dead ones included: so many may be mapped.
    pub rows: u64,
    /// Rows that are live.
    pub live: u64,
}

/// Bytes on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileBytes {
    /// Length of all `.dat` files.
    pub dat: u64,
    /// Length of all `.idx` files.
    pub idx: u64,
    /// Length of all `.ids` files: indexes of ids, which can be rebuilt.
    pub ids: u64,
    /// Length of all `.del` files: lists of dead rows.
    pub del: u64,
    /// Length of all `.jsonl` files: documents.
    pub jsonl: u64,
    /// Length of all `.side` files, which can be rebuilt: this release writes none.
    pub side: u64,
    /// Length of everything else: MANIFEST and LOCK.
    pub other: u64,
    /// Length of all files.
    pub total: u64,
    /// Bytes that all files occupy.
    pub allocated: u64,
}

/// Bytes in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Allocated by this handle: the sum of the next four.
    pub heap: u64,
    /// Buffered writes, and memory kept for the next ones.
    pub buffer: u64,
    /// Tables of ids and rows.
    pub index: u64,
    /// Bitmaps of dead rows.
    pub deletions: u64,
    /// The rest.
    pub other: u64,
    /// Committed bytes of the mapped files.
    pub mapped: u64,
    /// Mapped bytes that are in the page cache now.
    pub resident: u64,
}

/// Heap bytes of a handle itself: paths, files, MANIFEST, threads' channels. Measured; see `tests/heap.rs`.
const READER_HEAP: u64 = 3 << 10;
/// The same for a handle that writes: between one that has written little and one that has written much, whose disk
/// keeps a thread.
const WRITER_HEAP: u64 = 5888;
/// Heap bytes of the threads in the background, and of what they are told through.
const THREADS_HEAP: u64 = 2 << 10;
/// Heap bytes of a segment: paths, files, locks.
const SEGMENT_HEAP: u64 = 768;

/// Counts rows and bytes. O(files + pages of the mapped files).
pub(crate) fn stats(dir: &Dir, snapshot: &Snapshot, engine: Option<&Engine>) -> Result<Stats> {
    let (version, schema) = (snapshot.files(), snapshot.schema());
    let (rows, live) = (version.rows(), version.live());
    let bytes = file_bytes(dir)?;
    let raw = snapshot.len() as u64 * schema.stride();
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = |bytes: u64| if raw == 0 { 0.0 } else { bytes as f64 / raw as f64 };
    let other = if engine.is_some() { WRITER_HEAP } else { READER_HEAP };
    let one = |part: &SegmentVersion| SegmentStats {
        number: part.segment.number(),
        rows: part.rows,
        live: part.live(),
    };
    let per_segment = version.segments.iter().map(one).collect();
    let mut memory = Memory { other, ..Memory::default() };
    for part in &version.segments {
        memory.index += part.segment.heap_bytes();
        memory.deletions += part.deletions.heap();
        memory.other += SEGMENT_HEAP;
        let (mut mapped, mut resident) = part.segment.mapped();
        if let Some(map) = &part.dat_map {
            mapped += part.end.dat_len;
            resident += map.resident(part.end.dat_len);
        }
        memory.mapped += mapped;
        memory.resident += resident;
    }
    let (mut compaction_error, mut ids_error, mut lost) = (None, None, (0, None));
    if let Some(engine) = engine {
        memory.buffer = engine.buffer.lock().buffer.heap();
        memory.other += engine.maintenance.copying.load(Ordering::Relaxed);
        if !engine.maintenance.threads().is_empty() {
            memory.other += THREADS_HEAP;
        }
        let differed = unpoisoned(engine.maintenance.ids_error.lock());
        ids_error = differed.as_ref().map(ToString::to_string);
        drop(differed);
        let mut failures = engine.maintenance.failures();
        compaction_error = failures.error(&engine.published.load()).map(ToString::to_string);
        lost = engine.lost().told();
    }
    memory.heap = memory.buffer + memory.index + memory.deletions + memory.other;
    Ok(Stats {
        rows,
        live,
        dead: rows - live,
        buffered: snapshot.len() as u64 - live,
        kind: snapshot.kind(),
        dim: schema.dim,
        metric: schema.metric,
        element: schema.element,
        segments: version.segments.len() as u64,
        per_segment,
        side: side::stats(version),
        effort: side::effort_stats(version),
        auto_optimize_rows: version.auto_optimize_rows(),
        embed_name: version.sections.embed_name(),
        overhead: ratio(bytes.total),
        overhead_without_side: ratio(bytes.total - bytes.jsonl - bytes.side),
        bytes,
        memory,
        compaction_error,
        unsteady_inodes: engine.is_some_and(Engine::is_unsteady),
        ids_error,
        lost_documents: lost.0,
        document_error: lost.1,
    })
}

/// Lengths of a store's files, by kind.
fn file_bytes(dir: &Dir) -> Result<FileBytes> {
    let mut bytes = FileBytes::default();
    for name in dir.list().map_err(|e| Error::io(dir.path(), "list", e))? {
        let path = dir.join(&name);
        let Some(suffix) = directory::kind_of_file(&name) else { continue };
        let file = match dir.open_file(&path, Open::Read) {
            Ok(file) => file,
            // Replaced since the listing, or not ours.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound || is_no_file(&e) => continue,
            Err(e) => return Err(Error::io(&path, "open", e)),
        };
        let failed = |e| Error::io(&path, "read the length", e);
        let len = file.len().map_err(failed)?;
        bytes.allocated += file.allocated().map_err(failed)?;
        bytes.total += len;
        *match suffix {
            "dat" => &mut bytes.dat,
            "idx" => &mut bytes.idx,
            "ids" => &mut bytes.ids,
            "del" => &mut bytes.del,
            "jsonl" => &mut bytes.jsonl,
            "side" => &mut bytes.side,
            _ => &mut bytes.other,
        } += len;
    }
    Ok(bytes)
}
