//! The `.ids` side file of a segment: an immutable, mapped index from ids to rows.
//!
//! It repeats what `.idx` says, so that an opening need not read all of the log, and can be built again at any time.
//! So it is never trusted: a page counts only if its checksum does, and every number in it is compared with what is
//! there before it is used. Checksums are looked at when a page is first touched: opening reads one page.

#[cfg(test)]
mod tests;
mod write;

pub(crate) use write::write;

use crate::format::deletions;
use crate::format::record::{FRAME_BYTES, MAX_LOG_BYTES};
use crate::format::{Fields, Identity};
use crate::pair::files::StoreFile;
use crate::pair::rows::{Doc, RowEntry};
use crate::pair::window::Window;
use crate::segment::point::Point;
use crate::sys::disk::Mapping;
use crate::types::config::MAX_ROWS;
use crate::types::error::Result;
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const MAGIC: [u8; 8] = *b"VECSTIDS";
const VERSION: u32 = 1;
const PAGE: usize = 4096;
/// Bytes of a page before its checksum.
const PAYLOAD: usize = PAGE - 4;
/// 1 TiB, more than [`MAX_ROWS`] need; bounds what an opening allocates.
const MAX_PAGES: u64 = 1 << 28;
const FLAG_DOCUMENTS: u32 = 1;

const BLOOM_BITS_PER_ID: u64 = 10;
const BLOCK: usize = 64;
const BLOOM_PROBES: u32 = 6;
const BLOOM_MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Slots of a page of the hash table: tags, two bytes of nothing, rows.
const SLOTS: usize = 818;
const SLOT_ROWS_AT: usize = 820;
const TABLE_MIX: u64 = 0xD6E8_FEB8_6659_FD93;

const ROW_BYTES: usize = 12;
const DOC_BYTES: usize = 16;
const KILL_BYTES: usize = 8;

/// Everything that goes into a file.
pub(crate) struct Content<'a> {
    pub(crate) point: Point,
    /// The entry of row *n*; called twice for each row.
    pub(crate) row: &'a dyn Fn(u32) -> RowEntry,
    /// The live ids: hash and row.
    pub(crate) live: Vec<(u64, u32)>,
    /// The dead rows; opaque here.
    pub(crate) dead: &'a [u8],
    /// Segment and row of each cross-segment delete in batches written under `point.manifest`.
    pub(crate) cross_deletes: &'a [(u32, u32)],
}

/// A page does not match its checksum, or the file contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// The high half of the product: spreads uniform numbers `a` evenly over `0..n`.
fn scale(a: u64, n: u64) -> u64 {
    ((u128::from(a) * u128::from(n)) >> 64) as u64
}

/// The page of entry `n` of the section that starts at page `start`, and where in it the entry's `N` bytes begin.
fn locate<const N: usize>(start: u64, n: u64) -> (u64, usize) {
    let per_page = (PAYLOAD / N) as u64;
    (start + n / per_page, usize::try_from(n % per_page).unwrap_or(0) * N)
}

/// The bits of an id within its Bloom block.
fn bloom_bits(hash: u64) -> impl Iterator<Item = usize> {
    // The block comes from the high bits of the hash; the product's depend on the low ones too.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(BLOOM_MIX);
    (0..BLOOM_PROBES).map(move |n| {
        #[expect(clippy::cast_possible_truncation, reason = "nine bits")]
        let bit = (mixed >> (55 - 9 * n)) as usize % (BLOCK * 8);
        bit
    })
}

/// Where an id is looked for in the hash table.
#[derive(Debug, Clone, Copy)]
struct Home {
    page: u64,
    slot: usize,
    tag: u8,
}

impl Home {
    fn of(hash: u64, pages: u64) -> Home {
        let mixed = hash.wrapping_mul(TABLE_MIX);
        // What the page leaves of the hash, again as a fraction of 2^64.
        let rest = mixed.wrapping_mul(pages);
        let slot = usize::try_from(scale(rest, SLOTS as u64)).unwrap_or(0);
        Home { page: scale(mixed, pages), slot, tag: mixed.to_le_bytes()[0].max(1) }
    }
}

/// The counts from which every page range follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    live: u64,
    blocks: u64,
    /// Pages of the hash table.
    table: u64,
    rows: u64,
    documents: bool,
    /// Bytes.
    dead: u64,
    cross_deletes: u64,
}

/// First page of each section, and the number of pages.
#[derive(Debug, Clone, Copy)]
struct Layout {
    bloom: u64,
    table: u64,
    rows: u64,
    docs: u64,
    dead: u64,
    cross_deletes: u64,
    end: u64,
}

impl Sizes {
    /// `None` if no file can be like that.
    fn layout(&self) -> Option<Layout> {
        let indexed = self.blocks > 0 && self.table > 0;
        let consistent = if self.live > 0 { indexed } else { self.blocks == 0 && self.table == 0 };
        if !consistent || self.live > self.rows || self.rows > MAX_ROWS {
            return None;
        }
        // What the writer makes of so many ids, and no more than the log can tell of: a length that was made up is not
        // mapped, nor read.
        let most_blocks = (self.live * BLOOM_BITS_PER_ID).div_ceil(BLOCK as u64 * 8);
        let least_table = (self.live * 20).div_ceil(SLOTS as u64 * 17);
        let fits = self.blocks <= most_blocks
            && self.table <= least_table * 4 + 16
            && self.dead <= deletions::max_bytes(self.rows)
            && self.cross_deletes <= MAX_LOG_BYTES / FRAME_BYTES as u64;
        if !fits {
            return None;
        }
        let mut end = 1u64;
        let mut section = |count: u64, per_page: usize| {
            let start = end;
            end = end.checked_add(count.div_ceil(per_page as u64))?;
            Some(start)
        };
        let bloom = section(self.blocks, PAYLOAD / BLOCK)?;
        let table = section(self.table, 1)?;
        let rows = section(self.rows, PAYLOAD / ROW_BYTES)?;
        let docs = section(if self.documents { self.rows } else { 0 }, PAYLOAD / DOC_BYTES)?;
        let dead = section(self.dead, PAYLOAD)?;
        let cross_deletes = section(self.cross_deletes, PAYLOAD / KILL_BYTES)?;
        Some(Layout { bloom, table, rows, docs, dead, cross_deletes, end })
    }
}

/// What the checksums of one file depend on, beside the bytes: nothing from another pair, nor from another `.ids` of
/// the same pair, passes.
#[derive(Debug, Clone, Copy)]
struct Seal([u8; 28]);

impl Seal {
    fn of(identity: &Identity) -> Seal {
        let mut seal = [0; 28];
        seal[..16].copy_from_slice(&identity.salt);
        seal[16..24].copy_from_slice(&identity.segment.to_le_bytes());
        Seal(seal)
    }

    /// For the pages after a header with this checksum.
    fn after(mut self, header: u32) -> Seal {
        self.0[24..].copy_from_slice(&header.to_le_bytes());
        self
    }

    fn crc(&self, page: u64, payload: &[u8]) -> u32 {
        let mut digest = crc_fast::Digest::new(Crc32Iscsi);
        digest.update(&self.0);
        digest.update(&page.to_le_bytes());
        digest.update(payload);
        #[expect(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a 64-bit return type")]
        let crc = digest.finalize() as u32;
        crc
    }
}

/// Recomputes all checksums of a file, so that what lies behind them is reached.
#[cfg(any(test, fuzzing))]
pub(crate) fn reseal(identity: &Identity, bytes: &mut [u8]) {
    let mut seal = Seal::of(identity);
    for (n, page) in (0..).zip(bytes.chunks_exact_mut(PAGE)) {
        let sum = seal.crc(n, &page[..PAYLOAD]);
        page[PAYLOAD..].copy_from_slice(&sum.to_le_bytes());
        if n == 0 {
            seal = seal.after(sum);
        }
    }
}

/// `None` for another version, and for bits that this one leaves zero.
fn decode_header(payload: &[u8]) -> Option<(Point, Sizes)> {
    let mut fields = Fields(payload);
    if fields.array()? != MAGIC || fields.u32()? != VERSION {
        return None;
    }
    let flags = fields.u32()?;
    let identity = Identity { uuid: fields.array()?, segment: fields.u64()?, salt: fields.array()? };
    let (seq, chain, epoch) = (fields.u64()?, fields.array()?, fields.u32()?);
    let [kind, zeros @ ..] = fields.array::<4>()?;
    let (commit_at, idx_end) = (fields.u64()?, fields.u64()?);
    let (rows, docs_end, manifest) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (live, blocks, table) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (dead, cross_deletes) = (fields.u64()?, fields.u64()?);
    let unused = flags & !FLAG_DOCUMENTS == 0 && zeros.iter().chain(fields.0).all(|&byte| byte == 0);
    if !unused || commit_at > idx_end {
        return None;
    }
    let documents = flags & FLAG_DOCUMENTS != 0;
    let point = Point { identity, seq, chain, epoch, kind, commit_at, idx_end, rows, docs_end, manifest };
    Some((point, Sizes { live, blocks, table, rows, documents, dead, cross_deletes }))
}

fn pair_of(bytes: [u8; 8]) -> (u32, u32) {
    let [a, b, c, d, rest @ ..] = bytes;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest))
}

/// An open file. Whatever is in it, no call panics or runs for longer than the file is long.
pub(crate) struct Ids {
    file: StoreFile,
    map: Mapping,
    point: Point,
    sizes: Sizes,
    layout: Layout,
    seal: Seal,
    /// One bit for each page whose checksum was right. Two threads may both look: they find the same.
    checked: Box<[AtomicU64]>,
    /// Something in it was not what was written.
    damaged: AtomicBool,
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ids { file, point, sizes, .. } = self;
        f.debug_struct("Ids").field("file", file).field("point", point).field("sizes", sizes).finish()
    }
}

impl Ids {
    /// Opens a file that belongs to `identity`; `None` if it is damaged, foreign, cut or of another version. Reads
    /// one page; only reading and mapping can fail.
    pub(crate) fn open(file: StoreFile, identity: &Identity) -> Result<Option<Ids>> {
        let len = file.len()?;
        let pages = len / PAGE as u64;
        if !len.is_multiple_of(PAGE as u64) || pages == 0 || pages > MAX_PAGES {
            return Ok(None);
        }
        let mut header = [0; PAGE];
        file.read(&mut header, 0)?;
        let (payload, sum) = header.split_at(PAYLOAD);
        let seal = Seal::of(identity);
        let sum = Fields(sum).u32().filter(|&sum| sum == seal.crc(0, payload));
        let decoded = decode_header(payload).filter(|(point, _)| point.identity == *identity);
        let (Some(sum), Some((point, sizes))) = (sum, decoded) else { return Ok(None) };
        let Some(layout) = sizes.layout().filter(|layout| layout.end == pages) else { return Ok(None) };
        let map = file.map_exactly(len)?;
        let checked = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Some(Ids {
            file,
            map,
            point,
            sizes,
            layout,
            seal: seal.after(sum),
            checked,
            damaged: AtomicBool::new(false),
        }))
    }

    /// What it matches.
    pub(crate) fn point(&self) -> &Point {
        &self.point
    }

    /// Whether an id of this hash may be there (Bloom filter).
    pub(crate) fn may_have(&self, hash: u64) -> Result<bool, Damaged> {
        if self.sizes.live == 0 {
            return Ok(false);
        }
        let block: [u8; BLOCK] = self.entry(self.layout.bloom, scale(hash, self.sizes.blocks))?;
        Ok(bloom_bits(hash).all(|bit| block[bit / 8] >> (bit % 8) & 1 == 1))
    }

    /// Looks at the filter's blocks of some hashes and at nothing in them: memory gets all of them at once, where
    /// [`may_have`](Self::may_have) would wait for one after the other.
    pub(crate) fn prefetch(&self, hashes: impl Iterator<Item = u64>) {
        let byte = |hash| {
            let (page, place) = locate::<BLOCK>(self.layout.bloom, scale(hash, self.sizes.blocks));
            self.bytes(page)?.get(place).copied()
        };
        let sum = hashes.fold(0u8, |sum, hash| sum.wrapping_add(byte(hash).unwrap_or(0)));
        std::hint::black_box(sum);
    }

    /// Looks at where [`find`](Self::find) begins for some hashes, as [`prefetch`](Self::prefetch) does; then at what
    /// it finds there, and tells where in `.idx` that says the ids are, without a look at any checksum.
    pub(crate) fn prefetch_rows<const N: usize>(
        &self,
        hashes: impl Iterator<Item = u64> + Clone,
    ) -> [Option<u32>; N] {
        let table = |hash| {
            let home = Home::of(hash, self.sizes.table);
            Some((home, self.bytes(self.layout.table + home.page)?))
        };
        let pages = hashes.clone().filter_map(table);
        let sum = pages.fold(0u8, |sum, (home, page)| sum.wrapping_add(page[home.slot]));
        std::hint::black_box(sum);
        let row = |hash| {
            let (home, page) = table(hash)?;
            let slot = (home.slot..SLOTS).take(16).find(|&slot| page[slot] == home.tag)?;
            Fields(&page[SLOT_ROWS_AT + slot * 4..]).u32()
        };
        let mut found = [None; N];
        found.iter_mut().zip(hashes).for_each(|(found, hash)| *found = row(hash));
        found.map(|row| {
            let (page, place) = locate::<ROW_BYTES>(self.layout.rows, row?.into());
            Fields(self.bytes(page)?.get(place..)?).u32()
        })
    }

    /// The row, live when this was built, of the id with this hash for which `is` says yes.
    pub(crate) fn find(
        &self,
        hash: u64,
        mut is: impl FnMut(u32) -> Result<bool, Damaged>,
    ) -> Result<Option<u32>, Damaged> {
        // Without ids there is no table: what stands in its place is something else.
        if self.sizes.live == 0 {
            return Ok(None);
        }
        let home = Home::of(hash, self.sizes.table);
        let page = self.page(self.layout.table + home.page)?;
        for slot in (home.slot..SLOTS).chain(0..home.slot) {
            if page[slot] == 0 {
                break;
            }
            if page[slot] != home.tag {
                continue;
            }
            let row = Fields(&page[SLOT_ROWS_AT + slot * 4..]).u32().ok_or(Damaged)?;
            if u64::from(row) >= self.sizes.rows {
                return Err(Damaged);
            }
            if is(row)? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// What is known of this row; [`Damaged`] if there is no such row.
    pub(crate) fn row(&self, row: u32) -> Result<RowEntry, Damaged> {
        let row = u64::from(row);
        if row >= self.sizes.rows {
            return Err(Damaged);
        }
        let bytes: [u8; ROW_BYTES] = self.entry(self.layout.rows, row)?;
        let mut fields = Fields(&bytes);
        let mut next = || fields.u32().ok_or(Damaged);
        let (idx_at, crc, hash) = (next()?, next()?, next()?);
        if !self.sizes.documents {
            return Ok(RowEntry { idx_at, crc, hash, doc: Doc::default() });
        }
        let bytes: [u8; DOC_BYTES] = self.entry(self.layout.docs, row)?;
        let mut fields = Fields(&bytes);
        let at = fields.u64().ok_or(Damaged)?;
        let (len, sum) = (fields.u32().ok_or(Damaged)?, fields.u32().ok_or(Damaged)?);
        Ok(RowEntry { idx_at, crc, hash, doc: Doc { at, len, crc: sum } })
    }

    /// The dead rows, as they were given.
    pub(crate) fn dead(&self) -> Result<Vec<u8>, Damaged> {
        let (mut dead, mut left) = (Vec::new(), self.sizes.dead);
        // Grows with each page that is right: a length that was made up allocates nothing.
        for page in self.layout.dead..self.layout.cross_deletes {
            let part = usize::try_from(left).unwrap_or(PAYLOAD).min(PAYLOAD);
            dead.extend_from_slice(&self.page(page)?[..part]);
            left -= part as u64;
        }
        Ok(dead)
    }

    /// Segment and row of each cross-segment delete, as they were given.
    pub(crate) fn cross_deletes(&self) -> Result<Vec<(u32, u32)>, Damaged> {
        let mut cross_deletes = Vec::new();
        for n in 0..self.sizes.cross_deletes {
            cross_deletes.push(pair_of(self.entry(self.layout.cross_deletes, n)?));
        }
        Ok(cross_deletes)
    }

    /// How many ids have a row here.
    pub(crate) fn count(&self) -> u64 {
        self.sizes.live
    }

    /// Whether it is to be written anew: damage was met.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Relaxed)
    }

    /// It says something else than the log.
    pub(crate) fn note_damage(&self) {
        self.damaged.store(true, Relaxed);
    }

    /// The open file.
    pub(crate) fn file(&self) -> &StoreFile {
        &self.file
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.layout.end * PAGE as u64
    }

    /// Bytes allocated for this handle.
    pub(crate) fn heap(&self) -> u64 {
        (self.checked.len() * size_of::<AtomicU64>()) as u64
    }

    /// How many of its bytes are in memory now. O(length).
    pub(crate) fn resident(&self) -> u64 {
        self.map.resident(self.len())
    }

    /// Reads all pages, by read calls: a mapping of what the disk cannot read ends the process. Tells where each page
    /// starts that cannot be read (true), or does not match its checksum.
    pub(crate) fn damaged_pages(&self, mut see: impl FnMut(u64, bool)) -> Result<()> {
        let mut window = Window::past_errors(&self.file, self.len());
        for page in 0..self.layout.end {
            let at = page * PAGE as u64;
            let right =
                window.at_least(at, PAGE)?.get(..PAGE).is_some_and(|bytes| self.is_right(page, bytes));
            let unreadable = window.is_unreadable(&(at..at + PAGE as u64));
            if unreadable || !right {
                see(at, unreadable);
            }
        }
        Ok(())
    }

    /// Entry `n` of the section that starts at page `start`. Callers compare `n` with the section's count.
    fn entry<const N: usize>(&self, start: u64, n: u64) -> Result<[u8; N], Damaged> {
        let (page, place) = locate::<N>(start, n);
        self.page(page)?[place..].first_chunk().copied().ok_or(Damaged)
    }

    /// A page, compared with its checksum on first touch.
    fn page(&self, page: u64) -> Result<&[u8; PAYLOAD], Damaged> {
        let word = usize::try_from(page / 64).ok().and_then(|n| self.checked.get(n)).ok_or(Damaged)?;
        let bit = 1 << (page % 64);
        if word.load(Relaxed) & bit == 0 {
            self.read(page).inspect_err(|_| self.note_damage())?;
            word.fetch_or(bit, Relaxed);
        }
        self.bytes(page).and_then(|bytes| bytes.first_chunk()).ok_or(Damaged)
    }

    /// A page, compared with its checksum now.
    fn read(&self, page: u64) -> Result<(), Damaged> {
        self.bytes(page).filter(|bytes| self.is_right(page, bytes)).map(|_| ()).ok_or(Damaged)
    }

    /// Whether the bytes of a page match its checksum.
    fn is_right(&self, page: u64, bytes: &[u8]) -> bool {
        let Some((payload, sum)) = bytes.split_at_checked(PAYLOAD) else { return false };
        let Some(sum) = Fields(sum).u32() else { return false };
        // The header's own checksum cannot depend on itself; it must still be the one that was opened.
        if page == 0 {
            let header = Seal::of(&self.point.identity);
            sum == header.crc(0, payload) && header.after(sum).0 == self.seal.0
        } else {
            sum == self.seal.crc(page, payload)
        }
    }

    fn bytes(&self, page: u64) -> Option<&[u8]> {
        // Below `end`: a mapping may be longer than its file.
        let start = Some(page).filter(|&page| page < self.layout.end)? * PAGE as u64;
        self.map.get(start..start + PAGE as u64)
    }
}
