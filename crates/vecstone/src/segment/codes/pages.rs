//! A file of a head and pages, each with a checksum that is looked at when the page is first touched: what files of
//! centres, of codes and of effort have in common. `format.md` specifies it.

use crate::format::{Fields, crc32c};
use crate::pair::files::StoreFile;
use crate::sys::disk::Mapping;
use crate::types::element::Element;
use crate::types::error::Result;
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What a file with pages begins with.
pub(crate) type Magic = [u8; 8];
/// Random bytes that a file is known by.
pub(crate) type FileId = [u8; 16];

const PAGE_BYTES: usize = 16 << 10;
const PAGE: u64 = PAGE_BYTES as u64;
/// Where arrays begin.
pub(crate) const ALIGNMENT: u64 = 64;
/// Before the fields.
const FIXED_BYTES: usize = 16;
const FIXED: u64 = FIXED_BYTES as u64;
/// More than any file of this release has; bounds what an opening allocates.
const MAX_HEAD: u64 = 64 << 20;

fn page_crc(id: &FileId, page: u64, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(Crc32Iscsi);
    digest.update(id);
    digest.update(&page.to_le_bytes());
    digest.update(bytes);
    #[expect(clippy::cast_possible_truncation, reason = "a 32-bit checksum in a 64-bit return type")]
    let crc = digest.finalize() as u32;
    crc
}

/// Where the pages of a file start that has so many bytes of fields and of pages.
fn start_of(fields: u64, data: u64) -> u64 {
    (FIXED + fields + data.div_ceil(PAGE) * 4 + 4).next_multiple_of(ALIGNMENT)
}

/// Writes a file, its pages in order, its head at last.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    file: &'a StoreFile,
    magic: Magic,
    version: u32,
    fields: Vec<u8>,
    id: FileId,
    start: u64,
    data: u64,
    /// Bytes of the pages that are in the file.
    written: u64,
    buf: Vec<u8>,
    crcs: Vec<u32>,
}

impl<'a> Writer<'a> {
    /// A file whose pages will have `data` bytes.
    pub(crate) fn new(
        file: &'a StoreFile,
        (magic, version): (Magic, u32),
        fields: Vec<u8>,
        id: FileId,
        data: u64,
    ) -> Writer<'a> {
        let start = start_of(fields.len() as u64, data);
        Writer {
            file,
            magic,
            version,
            fields,
            id,
            start,
            data,
            written: 0,
            buf: Vec::new(),
            crcs: Vec::new(),
        }
    }

    /// Adds bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.buf.extend_from_slice(bytes);
        if self.buf.len() as u64 >= 64 * PAGE { self.flush(false) } else { Ok(()) }
    }

    /// Adds an array of f32.
    pub(crate) fn add_floats(&mut self, values: &[f32]) -> Result<()> {
        self.add(&Element::F32.encode(values))
    }

    /// Adds zeros up to where an array may begin.
    pub(crate) fn align(&mut self) -> Result<()> {
        let at = self.written + self.buf.len() as u64;
        let zeros = usize::try_from(at.next_multiple_of(ALIGNMENT) - at).unwrap_or(0);
        self.add(&vec![0; zeros])
    }

    fn flush(&mut self, all: bool) -> Result<()> {
        let page = PAGE_BYTES;
        let len = if all { self.buf.len() } else { self.buf.len() / page * page };
        for bytes in self.buf[..len].chunks(page) {
            self.crcs.push(page_crc(&self.id, self.crcs.len() as u64, bytes));
        }
        self.file.write(&self.buf[..len], self.start + self.written)?;
        self.written += len as u64;
        self.buf.drain(..len);
        Ok(())
    }

    /// Writes what is left, and the head. Does not sync. Bytes of the pages must be as many as was said.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush(true)?;
        assert_eq!(self.written, self.data, "as many bytes as the file is to have");
        let mut head = Vec::from(self.magic);
        head.extend(self.version.to_le_bytes());
        head.extend(u32::try_from(self.fields.len()).expect("a head is short").to_le_bytes());
        head.extend(&self.fields);
        head.extend(self.crcs.iter().flat_map(|crc| crc.to_le_bytes()));
        head.extend(crc32c(&head).to_le_bytes());
        head.resize(usize::try_from(self.start).expect("a head is short"), 0);
        self.file.write(&head, 0)
    }
}

/// An open file. Whatever is in it, no call panics.
#[derive(Debug)]
pub(crate) struct Paged {
    pub(crate) file: StoreFile,
    map: Mapping,
    len: u64,
    start: u64,
    pub(crate) id: FileId,
    crcs: Vec<u32>,
    /// One bit for each page whose checksum was right. Two threads may both look: they find the same.
    checked: Box<[AtomicU64]>,
    damaged: AtomicBool,
}

impl Paged {
    /// Opens a file; `id_of` gives the random bytes in its fields, or `None` if they are not those of a file that is
    /// wanted. `None` if the head is damaged, or of another kind or version. Reads the head.
    pub(crate) fn open(
        file: StoreFile,
        (magic, version): (Magic, u32),
        id_of: impl FnOnce(&[u8]) -> Option<FileId>,
    ) -> Result<Option<Paged>> {
        let len = file.len()?;
        if len < FIXED {
            return Ok(None);
        }
        let mut fixed = [0; FIXED_BYTES];
        file.read(&mut fixed, 0)?;
        let mut fields = Fields(&fixed);
        let is_known = fields.array() == Some(magic) && fields.u32() == Some(version);
        let fields = u64::from(fields.u32().unwrap_or(0));
        // How many checksums the head has follows from the length of the file.
        let Some(start) = start_in(fields, len).filter(|&start| is_known && start <= MAX_HEAD) else {
            return Ok(None);
        };
        let mut head = vec![0; usize::try_from(start).unwrap_or(0)];
        file.read(&mut head, 0)?;
        let Some((fields, crcs)) = split(&head, fields, (len - start).div_ceil(PAGE)) else {
            return Ok(None);
        };
        let Some(id) = id_of(fields) else { return Ok(None) };
        let map = file.map_exactly(len)?;
        let checked = (0..crcs.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Some(Paged { file, map, len, start, id, crcs, checked, damaged: AtomicBool::new(false) }))
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of all pages.
    pub(crate) fn data_len(&self) -> u64 {
        self.len - self.start
    }

    /// Bytes of the pages, checked; `None` if they are damaged, or there are not so many.
    pub(crate) fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.data_len() {
            self.note_damage();
            return None;
        }
        if !range.is_empty() {
            for page in range.start / PAGE..=(range.end - 1) / PAGE {
                self.check(page)?;
            }
        }
        self.map.get(self.start + range.start..self.start + range.end)
    }

    /// The same as numbers. They begin at a multiple of [`ALIGNMENT`].
    pub(crate) fn floats(&self, range: Range<u64>) -> Option<&[f32]> {
        Element::F32.borrow(self.get(range)?)
    }

    fn check(&self, page: u64) -> Option<()> {
        let index = usize::try_from(page).ok()?;
        let (word, bit) = (&self.checked[index / 64], 1 << (index % 64));
        if word.load(Relaxed) & bit != 0 {
            return Some(());
        }
        let bytes = self.map.get(self.start + page * PAGE..self.len.min(self.start + (page + 1) * PAGE))?;
        if page_crc(&self.id, page, bytes) != self.crcs[index] {
            self.note_damage();
            return None;
        }
        word.fetch_or(bit, Relaxed);
        Some(())
    }

    /// The file is of no more use to this process.
    pub(crate) fn note_damage(&self) {
        self.damaged.store(true, Relaxed);
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Relaxed)
    }

    /// Reads every page, by read calls. Tells where one starts that is damaged, and whether it cannot be read at all.
    pub(crate) fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) {
        let mut buf = vec![0; PAGE_BYTES];
        for (page, &crc) in (0..).zip(&self.crcs) {
            let at = self.start + page * PAGE;
            let bytes = &mut buf[..usize::try_from((self.len - at).min(PAGE)).unwrap_or(0)];
            match self.file.read(bytes, at) {
                Ok(()) if page_crc(&self.id, page, bytes) == crc => {}
                Ok(()) => see(at, false),
                Err(_) => see(at, true),
            }
        }
    }
}

/// Where the pages start in a file of this length.
fn start_in(fields: u64, len: u64) -> Option<u64> {
    let most = len.saturating_sub(start_of(fields, 0)).div_ceil(PAGE);
    // The checksums themselves are so many pages.
    let least = most.saturating_sub(most / (PAGE / 4) + 2);
    (least..=most).find_map(|pages| {
        let start = start_of(fields, pages * PAGE);
        let data = len.checked_sub(start)?;
        (data.div_ceil(PAGE) == pages).then_some(start)
    })
}

/// The fields and the checksums of a head; `None` if it is damaged.
fn split(head: &[u8], fields: u64, pages: u64) -> Option<(&[u8], Vec<u32>)> {
    let mut parts = Fields(head);
    parts.bytes(FIXED_BYTES)?;
    let fields = parts.bytes(usize::try_from(fields).ok()?)?;
    let crcs = parts.bytes(usize::try_from(pages.checked_mul(4)?).ok()?)?;
    let checked = head.len() - parts.0.len();
    let is_right = parts.u32()? == crc32c(&head[..checked]) && parts.0.iter().all(|&byte| byte == 0);
    is_right.then(|| {
        let crcs = crcs.as_chunks::<4>().0.iter().map(|&crc| u32::from_le_bytes(crc)).collect();
        (fields, crcs)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::model::Random;

    /// Files of every size: with 200 MB the checksums alone are several pages.
    #[test]
    fn the_length_of_a_file_says_where_its_pages_start() {
        let mut random = Random(64);
        let sizes =
            (0..200_000).step_by(7).chain((0..20_000).map(|n| random.below(1 << (10 + n % 32)) as u64));
        for (data, fields) in sizes.flat_map(|data| [(data, 68), (data, 188 + data % 500)]) {
            let start = start_of(fields, data);
            assert_eq!(start_in(fields, start + data), Some(start), "{data} {fields}");
        }
    }
}
