//! One segment, to read from: which row an id has, and what a row holds.

use crate::format::header::Header;
use crate::format::manifest::SegmentExtent;
use crate::format::record;
use crate::pair::files::{Files, IdxMap, StoreFile};
use crate::pair::recover::{self, Deleted, Recovered};
use crate::pair::rows::{RowEntry, RowTable};
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::{Damaged, Ids};
use crate::segment::index::{HeapIndex, ROWS_AT_ONCE};
use crate::segment::point::Point;
use crate::segment::side::SideFile;
use crate::sys::disk::{Dir, Mapping, Open};
use crate::sys::planted::{self, Bug};
use crate::sys::sync::{AtomicBool, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, unpoisoned};
use crate::types::error::{Error, Result};
use crate::types::id::{Id, IdHasher, IdKind, half};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

pub(crate) mod codes;
pub(crate) mod deletion_vector;
mod documents;
mod growing;
pub(crate) mod ids;
pub(crate) mod in_log;
pub(crate) mod index;
mod lookup;
pub(crate) mod point;
pub(crate) mod side;
pub(crate) mod version;

pub(crate) use lookup::{Lookup, PREFETCH_WIDTH};

/// The rows of a pair. Those below `base.rows` never change and are found through `.ids`, or a table built from `.idx`
/// if that is absent or damaged; those behind are in a table in memory that grows with the segment.
#[derive(Debug)]
pub(crate) struct Segment {
    header: Header,
    files: Files,
    /// The documents of a segment that got its first one while it was open.
    jsonl: OnceLock<StoreFile>,
    base: SegmentExtent,
    ids: OnceLock<Option<Ids>>,
    /// Built when `.ids` is of no use.
    rebuilt: OnceLock<HeapIndex>,
    rebuilding: Mutex<()>,
    /// See [`ids_are_right`](Self::ids_are_right).
    confirmed: AtomicBool,
    /// See [`mark_index_damaged`](Self::mark_index_damaged).
    index_damaged: AtomicBool,
    /// See [`take_damage_notice`](Self::take_damage_notice).
    damage_reported: AtomicBool,
    heap: RwLock<HeapIndex>,
    dat_map: OnceLock<Arc<Mapping>>,
    idx: OnceLock<IdxMap>,
    /// For [`puts_len`](Self::puts_len): of how many rows it is known.
    puts_len: Mutex<(u64, u64)>,
    dir: Dir,
}

impl Segment {
    /// A segment that does not change any more. Maps nothing and opens `.ids` on first use.
    pub(crate) fn sealed(dir: &Dir, files: Files, header: Header, sealed: SegmentExtent) -> Result<Segment> {
        Self::new(dir, files, header, sealed, OnceLock::new())
    }

    /// A segment that grows behind the rows of `.ids`, if it has one.
    pub(crate) fn active(dir: &Dir, files: Files, header: Header, ids: Option<Ids>) -> Result<Segment> {
        let base =
            ids.as_ref().map_or_else(SegmentExtent::default, |ids| ids.point().position().sealed(&header));
        let known = OnceLock::new();
        if ids.is_some() {
            _ = known.set(ids);
        }
        Self::new(dir, files, header, base, known)
    }

    fn new(
        dir: &Dir,
        files: Files,
        header: Header,
        base: SegmentExtent,
        ids: OnceLock<Option<Ids>>,
    ) -> Result<Segment> {
        let idx = IdxMap { map: Arc::new(files.idx.map_exactly(0)?), end: 0 };
        let heap = RwLock::new(HeapIndex::from_row(base.rows, idx));
        Ok(Segment {
            header,
            files,
            jsonl: OnceLock::new(),
            base,
            ids,
            rebuilt: OnceLock::new(),
            rebuilding: Mutex::new(()),
            confirmed: AtomicBool::new(false),
            index_damaged: AtomicBool::new(false),
            damage_reported: AtomicBool::new(false),
            heap,
            dat_map: OnceLock::new(),
            idx: OnceLock::new(),
            puts_len: Mutex::default(),
            dir: dir.clone(),
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.header.identity.segment
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The files; documents that came later included.
    pub(crate) fn files(&self) -> Files {
        let mut files = self.files.clone();
        files.jsonl = files.jsonl.or_else(|| self.jsonl.get().cloned());
        files
    }

    pub(crate) fn heap(&self) -> RwLockReadGuard<'_, HeapIndex> {
        unpoisoned(self.heap.read())
    }

    fn change(&self) -> RwLockWriteGuard<'_, HeapIndex> {
        unpoisoned(self.heap.write())
    }

    // ---- growing ----

    /// Adds rows and deletes behind the rows that are here, and deletes in `deletions` what they replace and delete
    /// among those of the table. Not visible to any snapshot before its number of rows says so.
    pub(crate) fn grow(
        &self,
        rows: &RowTable,
        deletes: &[Deleted],
        idx: &IdxMap,
        deletions: &mut DeletionVector,
    ) {
        self.change().set_idx(idx.clone());
        for piece in rows.pieces(ROWS_AT_ONCE) {
            self.change().add(piece, |old| _ = deletions.delete_row(old));
        }
        self.change().add_lines(rows);
        self.delete_rows(deletes, deletions);
    }

    fn delete_rows(&self, deletes: &[Deleted], deletions: &mut DeletionVector) {
        let heap = self.heap();
        for row in deletes.iter().filter_map(|delete| heap.deleted(delete)) {
            deletions.delete_row(row);
        }
    }

    /// Applies what recovery found behind the base.
    pub(crate) fn replay(&self, found: &mut Recovered, deletions: &mut DeletionVector) -> Result<()> {
        let map = Arc::new(self.files.idx.map(found.position.idx_end)?);
        let idx = IdxMap { map, end: found.position.idx_end };
        if self.base.rows > 0 {
            let hasher = self.hasher();
            let puts = found.rows.iter().map(|row| row.idx_at);
            for idx_at in puts.chain(found.deletes.iter().map(|delete| delete.idx_at)) {
                let id = idx.id_at(idx_at);
                if let Some(row) = self.find_in_base(hasher.hash(id), id)? {
                    deletions.delete_row(row);
                }
            }
        }
        let mut heap = self.change();
        heap.set_idx(idx);
        heap.take(std::mem::take(&mut found.rows), |old| _ = deletions.delete_row(old));
        drop(heap);
        self.delete_rows(&found.deletes, deletions);
        Ok(())
    }

    /// Takes over the documents' file, if the writer has made it.
    pub(crate) fn set_jsonl(&self, files: &Files) {
        if self.files.jsonl.is_none()
            && let Some(jsonl) = &files.jsonl
        {
            self.jsonl.get_or_init(|| jsonl.clone());
        }
    }

    // ---- finding ----

    /// Whether an id of this hash may be here: a cheap first look.
    pub(crate) fn may_have(&self, hash: u64) -> bool {
        self.filter(false).is_none_or(|ids| ids.may_have(hash).unwrap_or(true))
    }

    /// What can tell that an id is not here, or, if `base_only`, not among the rows of the base; `None` if nothing can.
    pub(crate) fn filter(&self, base_only: bool) -> Option<&Ids> {
        // `.ids` says nothing of the rows behind its own.
        let is_whole = || self.heap().rows().end() == self.base.rows;
        self.trusted_ids().filter(|_| base_only || is_whole())
    }

    /// Asks memory for what [`find`](Self::find) will read of a few ids, for all of them at the same time: one after the
    /// other, each would wait for four answers.
    pub(crate) fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        self.heap().prefetch::<PREFETCH_WIDTH>(hashes.clone());
        let (Some(ids), Ok(idx)) = (self.trusted_ids(), self.idx()) else { return };
        let places: [Option<u32>; PREFETCH_WIDTH] = ids.prefetch_rows(hashes);
        let sum = places.iter().flatten().fold(0u8, |sum, &at| sum.wrapping_add(idx.peek(at)));
        std::hint::black_box(sum);
    }

    /// The newest row of an id below `below`; whether it is live is for a deletion vector to say.
    pub(crate) fn find(&self, hash: u64, id: &[u8], below: u64) -> Result<Option<u32>> {
        if below > self.base.rows
            && let Some(row) = self.heap().find(hash, id, below)
        {
            return Ok(Some(row));
        }
        self.find_in_base(hash, id)
    }

    /// The row of an id among those of the base.
    pub(crate) fn find_in_base(&self, hash: u64, id: &[u8]) -> Result<Option<u32>> {
        if self.base.rows == 0 {
            return Ok(None);
        }
        if let Some(ids) = self.trusted_ids() {
            match self.find_by(ids, self.idx()?, hash, id)? {
                Lookup::Found(row) => return Ok(Some(row)),
                Lookup::Absent => return Ok(None),
                Lookup::WouldBlock => {}
            }
        }
        Ok(self.rebuild()?.find(hash, id, self.base.rows))
    }

    /// The row of an id as `.ids` says. Where that is damaged, the table has to be rebuilt: the look-up would block.
    fn find_by(&self, ids: &Ids, idx: &IdxMap, hash: u64, id: &[u8]) -> Result<Lookup<u32>> {
        let mut rotten = None;
        let found = ids.find(hash, |row| {
            let entry = ids.row(row)?;
            let stored = idx.id_at(entry.idx_at);
            if entry.hash == half(hash) && stored != id && half(self.hasher().hash(stored)) != entry.hash {
                rotten = Some(entry.idx_at);
            }
            Ok(entry.hash == half(hash) && stored == id)
        });
        match (found, rotten) {
            (Ok(None), Some(at)) => Err(self.rotten_id(at)),
            (Ok(found), _) => Ok(found.into()),
            (Err(Damaged), _) => Ok(Lookup::WouldBlock),
        }
    }

    /// As [`find`](Self::find), but waits for no lock, and opens and rebuilds nothing. `filtered`: the filter of `.ids` is
    /// asked first.
    pub(crate) fn try_find(&self, hash: u64, id: &[u8], below: u64, filtered: bool) -> Result<Lookup<u32>> {
        if below > self.base.rows {
            let Ok(heap) = self.heap.try_read() else { return Ok(Lookup::WouldBlock) };
            let below = if planted::is(Bug::TryBehindVersion) { u64::MAX } else { below };
            if let Some(row) = heap.find(hash, id, below) {
                return Ok(Lookup::Found(row));
            }
        }
        if self.base.rows == 0 {
            return Ok(Lookup::Absent);
        }
        if let Some(index) = self.rebuilt.get() {
            return Ok(index.find(hash, id, self.base.rows).into());
        }
        let Some(ids) = self.ready_ids() else { return Ok(Lookup::WouldBlock) };
        if filtered && ids.may_have(hash) == Ok(false) {
            return Ok(Lookup::Absent);
        }
        let Some(idx) = self.idx.get() else { return Ok(Lookup::WouldBlock) };
        self.find_by(ids, idx, hash, id)
    }

    /// `.ids`, opened at the first call; `None` if it is absent, damaged or of another point.
    pub(crate) fn ids(&self) -> Option<&Ids> {
        if self.base.rows == 0 {
            return None;
        }
        let open =
            || open_ids(&self.dir, &self.files, &self.header).filter(|ids| self.is_at_base(ids.point()));
        self.ids.get_or_init(open).as_ref()
    }

    /// `.ids`, if it is open and of use.
    fn ready_ids(&self) -> Option<&Ids> {
        self.ids.get()?.as_ref()
    }

    fn is_at_base(&self, point: &Point) -> bool {
        (point.rows, point.seq, point.chain) == (self.base.rows, self.base.last_seq, self.base.chain)
    }

    /// Whether a table in memory stands in for `.ids`, which was not there when it was looked for.
    pub(crate) fn has_table_for_ids(&self) -> bool {
        self.rebuilt.get().is_some() && self.ids.get().is_some_and(Option::is_none)
    }

    /// Whether there is an `.ids` of which nothing bad is known.
    pub(crate) fn has_ids(&self) -> bool {
        !self.has_damaged_index() && self.ids().is_some()
    }

    /// Whether `.ids` turned out to be damaged, or was missed.
    pub(crate) fn has_damaged_index(&self) -> bool {
        let is_damaged = || self.ids.get().and_then(Option::as_ref).is_some_and(Ids::is_damaged);
        self.index_damaged.load(Ordering::Relaxed) || self.rebuilt.get().is_some() || is_damaged()
    }

    /// The same, once.
    pub(crate) fn take_damage_notice(&self) -> bool {
        self.has_damaged_index() && !self.damage_reported.swap(true, Ordering::Relaxed)
    }

    /// `.ids` is damaged: opening found out.
    pub(crate) fn mark_index_damaged(&self) {
        self.index_damaged.store(true, Ordering::Relaxed);
    }

    /// Whether `.ids` says what the log says; true without one. Asked once: what was right stays so.
    ///
    /// # Errors
    ///
    /// As [`in_log::says_the_same`].
    pub(crate) fn ids_are_right(&self, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<bool> {
        let Some(ids) = self.trusted_ids().filter(|_| !self.confirmed.load(Ordering::Relaxed)) else {
            return Ok(true);
        };
        let right = in_log::says_the_same(ids, &self.files, &self.header, go_on)?;
        self.confirmed.store(right, Ordering::Relaxed);
        Ok(right)
    }

    /// The same segment, sealed at that end, opened anew to use the `.ids` that is there by now; `None` if that cannot be
    /// used. `just_made`: of its log, by this handle.
    pub(crate) fn renewed(&self, end: &SegmentExtent, just_made: bool) -> Option<Segment> {
        let renewed = Segment::sealed(&self.dir, self.files(), self.header, end.clone()).ok()?;
        renewed.ids()?;
        renewed.confirmed.store(just_made, Ordering::Relaxed);
        Some(renewed)
    }

    /// The side files of its own that can be used.
    pub(crate) fn side_files(&self) -> impl Iterator<Item = &dyn SideFile> {
        self.ids().into_iter().map(|ids| ids as &dyn SideFile)
    }

    /// Uses the log in the place of `.ids` from here on. O(length of `.idx`).
    pub(crate) fn drop_ids(&self) -> Result<()> {
        self.rebuild().map(drop)
    }

    /// `.ids`, unless a damaged page of it was met.
    fn trusted_ids(&self) -> Option<&Ids> {
        if self.rebuilt.get().is_some() { None } else { self.ids() }
    }

    /// The table of the base's rows, read from `.idx`. O(length of `.idx`) at the first call.
    fn rebuild(&self) -> Result<&HeapIndex> {
        if let Some(index) = self.rebuilt.get() {
            return Ok(index);
        }
        let _turn = unpoisoned(self.rebuilding.lock());
        if let Some(index) = self.rebuilt.get() {
            return Ok(index);
        }
        let found = recover::read_sealed(&self.files, &self.base)?;
        let mut index = HeapIndex::from_row(0, self.idx()?.clone());
        index.take(found.rows, |_| {});
        Ok(self.rebuilt.get_or_init(|| index))
    }

    // ---- reading ----

    /// Where a row's id stands, its checksum, and its line.
    pub(crate) fn entry(&self, row: u64) -> Result<RowEntry> {
        let missing = || Error::NoSuchRow { row, rows: self.base.rows };
        if row >= self.base.rows {
            return self.heap().rows().entry(row).ok_or_else(missing);
        }
        let known = |ids: &Ids| u32::try_from(row).map_err(|_| Damaged).and_then(|row| ids.row(row));
        if let Some(Ok(entry)) = self.trusted_ids().map(known) {
            return Ok(entry);
        }
        self.rebuild()?.rows().entry(row).ok_or_else(missing)
    }

    /// As [`entry`](Self::entry), if that need not wait for a lock, nor open or rebuild anything; else `None`.
    fn try_entry(&self, row: u64) -> Option<RowEntry> {
        if row >= self.base.rows {
            return self.heap.try_read().ok()?.rows().entry(row);
        }
        match self.rebuilt.get() {
            Some(index) => index.rows().entry(row),
            None => self.ready_ids()?.row(u32::try_from(row).ok()?).ok(),
        }
    }

    /// A row by read call, checked; `out` has `dim` components.
    pub(crate) fn read_row(&self, row: u64, out: &mut [f32]) -> Result<()> {
        let entry = self.entry(row)?;
        match self.files.read_row(&self.header, row, entry.crc, out) {
            Err(error @ Error::Corrupt { .. }) => {
                let crc = self.crc_in_log(row, &entry).ok_or(error)?;
                self.files.read_row(&self.header, row, crc, out)
            }
            read => read,
        }
    }

    /// A row by read call, checked, if neither the disk nor a lock need be waited for; false if one must, or if the
    /// checksum has to be looked for elsewhere.
    pub(crate) fn read_cached_row(&self, row: u64, out: &mut [f32]) -> Result<bool> {
        let Some(entry) = self.try_entry(row) else { return Ok(false) };
        let (dat, header) = (&self.files.dat, &self.header);
        header.element.read(out, |bytes| {
            let read = dat.file.read_cached(bytes, header.row_start(row));
            let read = read.map_err(|e| Error::io(&dat.path, "read", e))?;
            Ok(read == Some(bytes.len()) && self.files.check_row(header, row, bytes, entry.crc).is_ok())
        })
    }

    /// Checks the bytes of a row that were read through a mapping.
    pub(crate) fn check(&self, row: u64, bytes: &[u8]) -> Result<()> {
        let entry = self.entry(row)?;
        match self.files.check_row(&self.header, row, bytes, entry.crc) {
            Err(error) => {
                let crc = self.crc_in_log(row, &entry).ok_or(error)?;
                self.files.check_row(&self.header, row, bytes, crc)
            }
            Ok(()) => Ok(()),
        }
    }

    /// What the log says of a row whose checksum in `.ids` does not fit; `None` if it says the same, or cannot be asked.
    /// Looks at the rest of the row's batch: most likely the row is damaged, and that is no reason to read all of the log.
    fn crc_in_log(&self, row: u64, known: &RowEntry) -> Option<u32> {
        let ids = self.trusted_ids().filter(|_| row < self.base.rows)?;
        let idx = self.idx().ok()?;
        let at = u64::from(known.idx_at).min(idx.end);
        let crc = record::crc_behind_put(idx.map.get(at..idx.end)?, row, &self.header)?;
        if crc == known.crc {
            return None;
        }
        ids.note_damage();
        Some(crc)
    }

    /// The id of a row.
    pub(crate) fn id(&self, row: u64, kind: IdKind) -> Result<Id> {
        let RowEntry { idx_at, hash, .. } = self.entry(row)?;
        let read = |bytes: &[u8]| {
            let intact = half(self.hasher().hash(bytes)) == hash;
            Id::from_bytes(kind, bytes).filter(|_| intact)
        };
        let found = if row >= self.base.rows {
            read(self.heap().id_at(idx_at))
        } else {
            read(self.idx()?.id_at(idx_at))
        };
        found.ok_or_else(|| self.rotten_id(idx_at))
    }

    /// Lengths of a row's id and of its line; 0 if it has none.
    pub(crate) fn lengths(&self, row: u64) -> Result<(usize, u32)> {
        let RowEntry { idx_at, doc, .. } = self.entry(row)?;
        let id = if row >= self.base.rows {
            self.heap().id_at(idx_at).len()
        } else {
            self.idx()?.id_at(idx_at).len()
        };
        Ok((id, doc.len))
    }

    /// Bytes of log that the first `rows` rows need: their puts, and what a COMMIT says of each. Reads each length once.
    pub(crate) fn puts_len(&self, rows: u64) -> Result<u64> {
        let in_commit = record::bytes_of_row(self.files().jsonl.is_some());
        let mut known = unpoisoned(self.puts_len.lock());
        for row in known.0..rows {
            let id = self.lengths(row)?.0;
            *known = (row + 1, known.1 + (record::FRAME_BYTES + id) as u64);
        }
        // A snapshot of fewer rows: about.
        let puts = if known.0 > rows { known.1 * rows / known.0 } else { known.1 };
        Ok(puts + rows * in_commit)
    }

    fn rotten_id(&self, idx_at: u32) -> Error {
        Error::corrupt(&self.files.idx.path, idx_at.into(), "the id of a row is not what was written")
    }

    fn hasher(&self) -> IdHasher {
        IdHasher::new(&self.header.identity.uuid)
    }

    /// The rows of the base, mapped.
    pub(crate) fn dat_map(&self) -> Result<&Arc<Mapping>> {
        if let Some(map) = self.dat_map.get() {
            return Ok(map);
        }
        let map = Arc::new(self.files.dat.map_exactly(self.header.row_start(self.base.rows))?);
        Ok(self.dat_map.get_or_init(|| map))
    }

    /// The records of the base, mapped.
    fn idx(&self) -> Result<&IdxMap> {
        if let Some(idx) = self.idx.get() {
            return Ok(idx);
        }
        let (map, end) = (Arc::new(self.files.idx.map_exactly(self.base.idx_len)?), self.base.idx_len);
        Ok(self.idx.get_or_init(|| IdxMap { map, end }))
    }

    /// What the base is, for a segment that is sealed.
    pub(crate) fn base(&self) -> &SegmentExtent {
        &self.base
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let ids = self.ready_ids().map_or(0, Ids::heap);
        ids + self.heap().heap() + self.rebuilt.get().map_or(0, HeapIndex::heap)
    }

    /// Mapped bytes that count, and those of them that are in memory now, beside the rows of the growing part.
    pub(crate) fn mapped(&self) -> (u64, u64) {
        let heap = self.heap();
        // The log of a growing part covers that of the base.
        let idx = match (heap.idx(), self.idx.get()) {
            (growing, _) if growing.end > 0 => Some((&growing.map, growing.end)),
            (_, known) => known.map(|idx| (&idx.map, self.base.idx_len)),
        };
        let dat = self.dat_map.get().map(|map| (map, self.base.dat_len));
        let mut sum = (0, 0);
        for (map, len) in [dat, idx].into_iter().flatten() {
            sum = (sum.0 + len, sum.1 + map.resident(len));
        }
        if let Some(ids) = self.ready_ids() {
            sum = (sum.0 + ids.len(), sum.1 + ids.resident());
        }
        sum
    }
}

/// Opens `.ids` beside a pair; `None` if there is none that can be used.
fn open_ids(dir: &Dir, files: &Files, header: &Header) -> Option<Ids> {
    let path = files.dat.path.with_extension("ids");
    let file = dir.open_file(&path, Open::Read).ok()?;
    Ids::open(StoreFile { path, file }, &header.identity).ok().flatten()
}
