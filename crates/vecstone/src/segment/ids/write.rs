//! Building the file.

use super::{
    BLOCK, BLOOM_BITS_PER_ID, Content, DOC_BYTES, FLAG_DOCUMENTS, Home, KILL_BYTES, MAGIC, PAGE, PAYLOAD,
    Point, ROW_BYTES, SLOT_ROWS_AT, SLOTS, Seal, Sizes, VERSION, bloom_bits, scale,
};
use crate::pair::files::{StoreFile, zeros};
use crate::pair::rows::{Doc, RowEntry};
use crate::types::config::MAX_ROWS;
use crate::types::error::{Error, Result};
use std::io;

/// Pages are written this many at a time (1 MiB).
const PAGES_PER_WRITE: usize = 256;

/// Puts fields at `*at` and moves on.
fn put(out: &mut [u8], at: &mut usize, bytes: &[u8]) {
    out[*at..*at + bytes.len()].copy_from_slice(bytes);
    *at += bytes.len();
}

fn encode_header(point: &Point, sizes: &Sizes) -> [u8; PAYLOAD] {
    let mut out = [0; PAYLOAD];
    let mut at = 0;
    let flags = if sizes.documents { FLAG_DOCUMENTS } else { 0 };
    put(&mut out, &mut at, &MAGIC);
    put(&mut out, &mut at, &VERSION.to_le_bytes());
    put(&mut out, &mut at, &flags.to_le_bytes());
    put(&mut out, &mut at, &point.identity.uuid);
    put(&mut out, &mut at, &point.identity.segment.to_le_bytes());
    put(&mut out, &mut at, &point.identity.salt);
    put(&mut out, &mut at, &point.seq.to_le_bytes());
    put(&mut out, &mut at, &point.chain);
    put(&mut out, &mut at, &point.epoch.to_le_bytes());
    put(&mut out, &mut at, &[point.kind, 0, 0, 0]);
    for field in [point.commit_at, point.idx_end, point.rows, point.docs_end, point.manifest] {
        put(&mut out, &mut at, &field.to_le_bytes());
    }
    for field in [sizes.live, sizes.blocks, sizes.table, sizes.dead, sizes.cross_deletes] {
        put(&mut out, &mut at, &field.to_le_bytes());
    }
    out
}

/// Writes pages one after the other.
struct Pages<'a> {
    file: &'a StoreFile,
    seal: Seal,
    buf: Vec<u8>,
    /// Pages before those in `buf`.
    written: u64,
}

impl Pages<'_> {
    /// Adds a page of zeros that `fill` may change; returns its checksum.
    fn add(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<u32> {
        if self.buf.len() >= PAGES_PER_WRITE * PAGE {
            self.flush()?;
        }
        let start = self.buf.len();
        self.buf.resize(start + PAGE, 0);
        let (payload, crc) = self.buf[start..].split_at_mut(PAYLOAD);
        fill(payload);
        let sum = self.seal.crc(self.written + (start / PAGE) as u64, payload);
        crc.copy_from_slice(&sum.to_le_bytes());
        Ok(sum)
    }

    /// Adds as many pages as `count` entries of `N` bytes need.
    fn add_entries<const N: usize>(&mut self, count: u32, entry: impl Fn(u32) -> [u8; N]) -> Result<()> {
        let mut entries = 0..count;
        while !entries.is_empty() {
            self.add(|page| {
                for (place, n) in page.chunks_exact_mut(N).zip(&mut entries) {
                    place.copy_from_slice(&entry(n));
                }
            })?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write(&self.buf, self.written * PAGE as u64)?;
        self.written += (self.buf.len() / PAGE) as u64;
        self.buf.clear();
        Ok(())
    }
}

/// The live ids sorted by their page of the hash table.
struct Buckets {
    /// Places in `live`, page by page.
    order: Vec<u32>,
    /// Where each page ends in `order`.
    ends: Vec<u32>,
}

impl Buckets {
    /// Takes as many pages as every page needs to fit; `None` if the hashes are not spread at all.
    fn of(live: &[(u64, u32)]) -> Result<Option<Buckets>> {
        let first = (live.len() * 20).div_ceil(SLOTS * 17);
        let mut pages = first;
        let mut ends = loop {
            let mut counts: Vec<u32> = zeros(pages as u64)?;
            for &(hash, _) in live {
                counts[Self::page(hash, pages)] += 1;
            }
            if counts.iter().all(|&count| count as usize <= SLOTS) {
                break counts;
            }
            pages += pages / 16 + 1;
            if pages > first * 4 + 16 {
                return Ok(None);
            }
        };
        // Counts become starts; handing out places turns starts into ends.
        let mut start = 0;
        for place in &mut ends {
            start += std::mem::replace(place, start);
        }
        let mut order: Vec<u32> = zeros(live.len() as u64)?;
        for (n, &(hash, _)) in (0..).zip(live) {
            let place = &mut ends[Self::page(hash, pages)];
            order[*place as usize] = n;
            *place += 1;
        }
        Ok(Some(Buckets { order, ends }))
    }

    fn page(hash: u64, pages: usize) -> usize {
        usize::try_from(Home::of(hash, pages as u64).page).unwrap_or(0)
    }

    fn fill(&self, live: &[(u64, u32)], page: usize, out: &mut [u8]) {
        let start = if page == 0 { 0 } else { self.ends[page - 1] as usize };
        let (tags, rows) = out.split_at_mut(SLOT_ROWS_AT);
        for &n in &self.order[start..self.ends[page] as usize] {
            let (hash, row) = live[n as usize];
            let home = Home::of(hash, self.ends.len() as u64);
            let mut slot = home.slot;
            // At most SLOTS ids are in a page, so there is an empty slot.
            while tags[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            tags[slot] = home.tag;
            rows[slot * 4..][..4].copy_from_slice(&row.to_le_bytes());
        }
    }
}

/// The Bloom filter's blocks, one after the other.
fn bloom(live: &[(u64, u32)]) -> Result<Vec<u8>> {
    let blocks = (live.len() as u64 * BLOOM_BITS_PER_ID).div_ceil(BLOCK as u64 * 8);
    let mut bits = zeros(blocks.saturating_mul(BLOCK as u64))?;
    let (out, _) = bits.as_chunks_mut::<BLOCK>();
    for &(hash, _) in live {
        let block = &mut out[usize::try_from(scale(hash, blocks)).unwrap_or(0)];
        bloom_bits(hash).for_each(|bit| block[bit / 8] |= 1 << (bit % 8));
    }
    Ok(bits)
}

fn doc_bytes(doc: Doc) -> [u8; DOC_BYTES] {
    let mut out = [0; DOC_BYTES];
    if doc.len > 0 {
        out[..8].copy_from_slice(&doc.at.to_le_bytes());
        out[8..12].copy_from_slice(&doc.len.to_le_bytes());
        out[12..].copy_from_slice(&doc.crc.to_le_bytes());
    }
    out
}

fn pair_bytes(first: u32, second: u32) -> [u8; 8] {
    (u64::from(first) | u64::from(second) << 32).to_le_bytes()
}

/// Writes the file, which is new and empty, from its start. Does not sync.
///
/// Fails, beside errors of the disk, if the hashes are not spread at all (hundreds of ids with one hash).
pub(crate) fn write(file: &StoreFile, content: &Content<'_>) -> Result<()> {
    let Content { point, row, live, dead, cross_deletes } = content;
    let rows =
        u32::try_from(point.rows).map_err(|_| Error::TooManyRows { rows: point.rows, max: MAX_ROWS })?;
    let unspread =
        || Error::io(&file.path, "index the ids", io::Error::other("too many of them have one hash"));
    let buckets = Buckets::of(live)?.ok_or_else(unspread)?;
    let bits = bloom(live)?;
    let sizes = Sizes {
        live: live.len() as u64,
        blocks: (bits.len() / BLOCK) as u64,
        table: buckets.ends.len() as u64,
        rows: point.rows,
        documents: (0..rows).any(|n| row(n).doc.len > 0),
        dead: dead.len() as u64,
        cross_deletes: cross_deletes.len() as u64,
    };
    let seal = Seal::of(&point.identity);
    let mut pages = Pages { file, seal, buf: Vec::with_capacity(PAGES_PER_WRITE * PAGE), written: 0 };
    let sum = pages.add(|page| page.copy_from_slice(&encode_header(point, &sizes)))?;
    pages.seal = seal.after(sum);
    for part in bits.chunks(PAYLOAD / BLOCK * BLOCK) {
        pages.add(|page| page[..part.len()].copy_from_slice(part))?;
    }
    drop(bits);
    for n in 0..buckets.ends.len() {
        pages.add(|page| buckets.fill(live, n, page))?;
    }
    drop(buckets);
    pages.add_entries(rows, |n| {
        let RowEntry { idx_at, crc, hash, .. } = row(n);
        let mut out = [0; ROW_BYTES];
        for (place, number) in out.chunks_exact_mut(4).zip([idx_at, crc, hash]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out
    })?;
    if sizes.documents {
        pages.add_entries(rows, |n| doc_bytes(row(n).doc))?;
    }
    for part in dead.chunks(PAYLOAD) {
        pages.add(|page| page[..part.len()].copy_from_slice(part))?;
    }
    for part in cross_deletes.chunks(PAYLOAD / KILL_BYTES) {
        pages.add(|page| {
            for (place, &(segment, row)) in page.chunks_exact_mut(KILL_BYTES).zip(part) {
                place.copy_from_slice(&pair_bytes(segment, row));
            }
        })?;
    }
    pages.flush()
}
