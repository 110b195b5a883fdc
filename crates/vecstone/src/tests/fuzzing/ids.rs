//! The door for `.ids`.

use crate::format::Identity;
use crate::pair::files::StoreFile;
use crate::pair::rows::{Doc, RowEntry};
use crate::segment::ids::{Content, Damaged, Ids, reseal};
use crate::segment::point::Point;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Open, open_file};
use std::collections::HashMap;
use std::path::Path;

const PAGE: usize = 4096;
const PAYLOAD: usize = PAGE - 4;
const IDENTITY: Identity = Identity { uuid: *b"a fuzzed store's", segment: 3, salt: *b"and its own salt" };
const PATH: &str = "/3.ids";

/// Any bytes as `.ids`. The first one says how the rest is meant: 0, as they are; 1, pages, each behind its length (u16),
/// filled up with zeros and with right checksums; 2, what a writer is to put into a file, whose ids a map must find, and
/// then pages over its own. Whatever opens says what the specification says, read field by field.
pub fn ids(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => {
            let mut bytes = pages(rest);
            reseal(&IDENTITY, &mut bytes);
            bytes
        }
        _ => {
            let (mut bytes, rest) = written(rest);
            for (page, changed) in bytes.chunks_exact_mut(PAGE).zip(pages(rest).chunks_exact(PAGE)) {
                page.iter_mut().zip(changed).for_each(|(byte, change)| *byte ^= change);
            }
            reseal(&IDENTITY, &mut bytes);
            bytes
        }
    };
    // Ids whose hashes have something in common, and others.
    let hashes = bytes.chunks(97).take(40).enumerate().map(|(n, part)| {
        part.iter()
            .fold(n as u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) << (n % 9))
    });
    let hashes: Vec<u64> = hashes.chain((0..40).map(Content16::hash)).collect();
    compare(&bytes, &hashes);
}

/// Pages, each of them behind its length.
fn pages(mut rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (page, after) =
            after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()).min(PAYLOAD));
        let start = bytes.len();
        bytes.extend_from_slice(page);
        bytes.resize(start + PAGE, 0);
        rest = after;
    }
    bytes
}

/// 16 bytes of input that say what a writer gets.
struct Content16([u8; 16]);

impl Content16 {
    fn hash(n: u64) -> u64 {
        (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn rows(&self) -> u32 {
        u32::from(self.0[0]) * 3
    }

    /// Whether the id of this row has it as its newest.
    fn has(&self, row: u32) -> bool {
        self.0[1] == 0 || !row.is_multiple_of(self.0[1].into())
    }

    fn entry(&self, row: u32) -> RowEntry {
        let len = if self.0[2] & 1 == 1 { row % 4 } else { 0 };
        let doc = Doc { at: u64::from(row) << (self.0[3] % 32), len, crc: row ^ 0x55 };
        let doc = if len > 0 { doc } else { Doc::default() };
        RowEntry { idx_at: row.wrapping_mul(97), crc: !row, hash: row.wrapping_mul(31), doc }
    }

    fn point(&self) -> Point {
        Point {
            identity: IDENTITY,
            seq: self.0[4].into(),
            chain: self.0,
            epoch: self.0[5].into(),
            kind: self.0[6],
            commit_at: self.0[7].into(),
            idx_end: u64::from(self.0[7]) + u64::from(self.0[8]),
            rows: self.rows().into(),
            docs_end: self.0[9].into(),
            manifest: self.0[10].into(),
        }
    }
}

/// The file that a writer makes of the first 16 bytes of input; what it was given must be found in it.
fn written(input: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some((first, rest)) = input.split_first_chunk::<16>() else { return (Vec::new(), input) };
    let content = Content16(*first);
    let rows = content.rows();
    let live: HashMap<u64, u32> =
        (0..rows).filter(|&row| content.has(row)).map(|row| (Content16::hash(row.into()), row)).collect();
    let cross_deletes: Vec<(u32, u32)> = (0..u32::from(first[11])).map(|n| (n % 7 + 1, n)).collect();
    let dead: Vec<u8> = first.iter().copied().take((rows as usize).min(8)).collect();
    let disk = SimDisk::default();
    let file = open_file(disk.clone(), Path::new(PATH), Open::CreateNew).expect("a new file");
    let row = |row| content.entry(row);
    let live_list = live.iter().map(|(hash, row)| (*hash, *row)).collect();
    let all = Content {
        point: content.point(),
        row: &row,
        live: live_list,
        dead: &dead,
        cross_deletes: &cross_deletes,
    };
    crate::segment::ids::write(&StoreFile { path: PATH.into(), file }, &all).expect("written");
    let bytes = disk.image().files.remove(Path::new(PATH)).expect("the file");
    let ids = open(&bytes).expect("a writer's own file opens");
    assert_eq!(*ids.point(), content.point());
    assert_eq!(
        (ids.dead(), ids.cross_deletes(), ids.count()),
        (Ok(dead), Ok(cross_deletes), live.len() as u64)
    );
    for n in 0..rows + 9 {
        let hash = Content16::hash(n.into());
        assert_eq!(ids.find(hash, |row| Ok(row == n)), Ok(live.get(&hash).copied()), "row {n}");
        assert!(!live.contains_key(&hash) || ids.may_have(hash) == Ok(true), "row {n}");
        assert_eq!(ids.row(n), if n < rows { Ok(content.entry(n)) } else { Err(Damaged) }, "row {n}");
    }
    (bytes, rest)
}

fn open(bytes: &[u8]) -> Option<Ids> {
    let path = Path::new(PATH);
    let image = Image { files: [(path.to_owned(), bytes.to_vec())].into(), ..Image::default() };
    let file = open_file(SimDisk::new(&image), path, Open::Read).expect("the file");
    Ids::open(StoreFile { path: path.to_owned(), file }, &IDENTITY).expect("the simulated disk reads")
}

/// Holds everything that a file says against its bytes.
fn compare(bytes: &[u8], hashes: &[u64]) {
    let Some(ids) = open(bytes) else { return };
    let naive = Naive::new(bytes);
    assert_eq!(Some(*ids.point()), naive.point(), "the point");
    for &hash in hashes {
        // The look ahead of a search: any answer will do.
        let [_, _] = ids.prefetch_rows([hash, !hash].into_iter());
        assert_eq!(ids.may_have(hash), naive.may_have(hash), "the filter, of {hash:#x}");
        let mut offered = Vec::new();
        let found = ids.find(hash, |row| {
            offered.push(row);
            Ok(false)
        });
        let expected = naive.offered(hash);
        assert_eq!((found, &offered), (expected.1, &expected.0), "the rows of {hash:#x}");
        for row in offered {
            assert_eq!(ids.row(row), naive.row(row), "row {row}");
        }
    }
    let last = u32::try_from(naive.rows).unwrap_or(u32::MAX);
    for row in (0..last.min(2_000)).chain(last.saturating_sub(3)..=last) {
        assert_eq!(ids.row(row), naive.row(row), "row {row}");
    }
    assert_eq!(ids.dead(), naive.list(naive.dead_at, naive.dead).ok_or(Damaged), "the dead rows");
    assert_eq!(ids.cross_deletes(), naive.cross_deletes().ok_or(Damaged), "the cross-segment deletes");
    let mut damaged = Vec::new();
    ids.damaged_pages(|at, _| damaged.push(at)).expect("the simulated disk reads");
    let expected =
        (0..bytes.len() / PAGE).filter(|&page| !naive.is_right(page)).map(|page| (page * PAGE) as u64);
    assert!(expected.eq(damaged.iter().copied()), "{damaged:?}");
    assert_eq!(ids.len(), bytes.len() as u64);
}

/// The specification, one field after the other.
struct Naive<'a> {
    bytes: &'a [u8],
    live: usize,
    blocks: u64,
    table: u64,
    rows: u64,
    documents: bool,
    dead: usize,
    cross_deletes: usize,
    /// First page of each section.
    table_at: usize,
    rows_at: usize,
    docs_at: usize,
    dead_at: usize,
    cross_deletes_at: usize,
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn size(bytes: &[u8]) -> usize {
    usize::try_from(number(bytes)).expect("counts fit the file")
}

fn high(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64).try_into().expect("64 bits")
}

impl Naive<'_> {
    fn new(bytes: &[u8]) -> Naive<'_> {
        let field = |at: usize| &bytes[at..at + 8];
        let rows = size(field(104));
        let (blocks, table) = (size(field(136)), size(field(144)));
        let documents = bytes[12] & 1 == 1;
        let table_at = 1 + blocks.div_ceil(63);
        let rows_at = table_at + table;
        let docs_at = rows_at + rows.div_ceil(341);
        let dead_at = docs_at + if documents { rows.div_ceil(255) } else { 0 };
        let dead = size(field(152));
        let cross_deletes_at = dead_at + dead.div_ceil(PAYLOAD);
        let cross_deletes = size(field(160));
        assert_eq!(
            (cross_deletes_at + cross_deletes.div_ceil(511)) * PAGE,
            bytes.len(),
            "the counts make another length"
        );
        Naive {
            bytes,
            live: size(field(128)),
            blocks: blocks as u64,
            table: table as u64,
            rows: rows as u64,
            documents,
            dead,
            cross_deletes,
            table_at,
            rows_at,
            docs_at,
            dead_at,
            cross_deletes_at,
        }
    }

    fn point(&self) -> Option<Point> {
        let (field, short) =
            (|at: usize| number(&self.bytes[at..at + 8]), |at: usize| &self.bytes[at..at + 16]);
        Some(Point {
            identity: Identity {
                uuid: short(16).try_into().ok()?,
                segment: field(32),
                salt: short(40).try_into().ok()?,
            },
            seq: field(56),
            chain: short(64).try_into().ok()?,
            epoch: number(&self.bytes[80..84]).try_into().ok()?,
            kind: self.bytes[84],
            commit_at: field(88),
            idx_end: field(96),
            rows: self.rows,
            docs_end: field(112),
            manifest: field(120),
        })
    }

    fn is_right(&self, page: usize) -> bool {
        let (payload, crc) = self.bytes[page * PAGE..][..PAGE].split_at(PAYLOAD);
        let of_first = if page == 0 { [0; 4].to_vec() } else { self.bytes[PAYLOAD..PAGE].to_vec() };
        let covered = [
            &IDENTITY.salt[..],
            &IDENTITY.segment.to_le_bytes(),
            &of_first,
            &(page as u64).to_le_bytes(),
            payload,
        ];
        number(crc) == u64::from(crate::format::crc32c(&covered.concat()))
    }

    /// Entry `n` of a section, from a page that is right.
    fn entry(&self, section: usize, n: usize, len: usize) -> Option<&[u8]> {
        let per_page = PAYLOAD / len;
        let page = section + n / per_page;
        self.is_right(page).then(|| &self.bytes[page * PAGE + n % per_page * len..][..len])
    }

    fn may_have(&self, hash: u64) -> Result<bool, Damaged> {
        if self.live == 0 {
            return Ok(false);
        }
        let block = usize::try_from(high(hash, self.blocks)).expect("below the blocks");
        let block = self.entry(1, block, 64).ok_or(Damaged)?;
        let mixed = (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bit = |n: u64| usize::try_from((mixed >> (55 - 9 * n)) % 512).expect("nine bits");
        Ok((0..6).map(bit).all(|bit| block[bit / 8] >> (bit % 8) & 1 == 1))
    }

    /// The rows that a search looks at, and how it ends if none is the right one.
    fn offered(&self, hash: u64) -> (Vec<u32>, Result<Option<u32>, Damaged>) {
        let mut rows = Vec::new();
        if self.live == 0 {
            return (rows, Ok(None));
        }
        let t = hash.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let page = usize::try_from(high(t, self.table)).expect("below the pages");
        let slot = usize::try_from(high(t.wrapping_mul(self.table), 818)).expect("below 818");
        let tag = if t.is_multiple_of(256) { 1 } else { t.to_le_bytes()[0] };
        let Some(page) = self.entry(self.table_at, page, PAYLOAD) else { return (rows, Err(Damaged)) };
        for slot in (slot..slot + 818).map(|slot| slot % 818) {
            if page[slot] == 0 {
                break;
            }
            if page[slot] == tag {
                let row = number(&page[820 + 4 * slot..][..4]);
                if row >= self.rows {
                    return (rows, Err(Damaged));
                }
                rows.push(u32::try_from(row).expect("four bytes"));
            }
        }
        (rows, Ok(None))
    }

    fn row(&self, row: u32) -> Result<RowEntry, Damaged> {
        let n = usize::try_from(row).expect("64 bits");
        if u64::from(row) >= self.rows {
            return Err(Damaged);
        }
        let four = |bytes: &[u8]| u32::try_from(number(&bytes[..4])).expect("four bytes");
        let entry = self.entry(self.rows_at, n, 12).ok_or(Damaged)?;
        let mut doc = Doc::default();
        if self.documents {
            let line = self.entry(self.docs_at, n, 16).ok_or(Damaged)?;
            doc = Doc { at: number(&line[..8]), len: four(&line[8..]), crc: four(&line[12..]) };
        }
        Ok(RowEntry { idx_at: four(entry), crc: four(&entry[4..]), hash: four(&entry[8..]), doc })
    }

    fn list(&self, section: usize, len: usize) -> Option<Vec<u8>> {
        (0..len).map(|n| self.entry(section, n, 1).map(|byte| byte[0])).collect()
    }

    fn cross_deletes(&self) -> Option<Vec<(u32, u32)>> {
        let four = |bytes: &[u8]| u32::try_from(number(bytes)).ok();
        let kill = |n| {
            self.entry(self.cross_deletes_at, n, 8)
                .and_then(|kill| Some((four(&kill[..4])?, four(&kill[4..])?)))
        };
        (0..self.cross_deletes).map(kill).collect()
    }
}
