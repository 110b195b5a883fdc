//! The `.ids` file: what goes in comes out, and nothing else does.

use super::*;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Open, open_file};
use crate::types::id::IdHasher;
use std::path::{Path, PathBuf};

const A: Identity = Identity { uuid: [1; 16], segment: 3, salt: [2; 16] };

fn hash(n: u32) -> u64 {
    IdHasher::new(&A.uuid).hash(&n.to_le_bytes())
}

/// What a file is made of, to compare with what it gives back.
struct Truth {
    rows: u32,
    documents: bool,
    dead: Vec<u8>,
    cross_deletes: Vec<(u32, u32)>,
}

impl Truth {
    fn new(rows: u32, documents: bool) -> Truth {
        let dead = (0..rows / 8).map(|n| n.to_le_bytes()[0]).collect();
        Truth { rows, documents, dead, cross_deletes: (0..rows / 3).map(|n| (n % 7 + 1, n)).collect() }
    }

    fn point(&self) -> Point {
        Point {
            identity: A,
            seq: 9,
            chain: [7; 16],
            epoch: 4,
            kind: 1,
            commit_at: 1000,
            idx_end: 1104,
            rows: self.rows.into(),
            docs_end: 77,
            manifest: 12,
        }
    }

    /// Every fifth row is dead: its id is not in the index.
    fn lives(row: u32) -> bool {
        row % 5 != 4
    }

    fn row(&self, row: u32) -> RowEntry {
        let len = if self.documents { row % 4 } else { 0 };
        let doc = Doc { at: u64::from(row) << 20, len, crc: row ^ 0x55 };
        let doc = if len > 0 { doc } else { Doc::default() };
        RowEntry { idx_at: row.wrapping_mul(97), crc: !row, hash: row.wrapping_mul(31), doc }
    }

    fn bytes(&self) -> Vec<u8> {
        let live = (0..self.rows).filter(|&row| Self::lives(row)).map(|row| (hash(row), row)).collect();
        write_live(self, live).expect("written")
    }

    /// Whether everything `ids` says is true; [`Damaged`] as soon as it says that.
    fn agrees(&self, ids: &Ids) -> Result<bool, Damaged> {
        let mut same = *ids.point() == self.point();
        for row in 0..self.rows {
            let found = ids.find(hash(row), |found| Ok(found == row))?;
            same &= found == Self::lives(row).then_some(row);
            same &= ids.row(row)? == self.row(row);
        }
        Ok(same && ids.dead()? == self.dead && ids.cross_deletes()? == self.cross_deletes)
    }
}

fn write_live(truth: &Truth, live: Vec<(u64, u32)>) -> Result<Vec<u8>> {
    let path = PathBuf::from("/3.ids");
    let disk = SimDisk::default();
    let file = open_file(disk.clone(), &path, Open::CreateNew).expect("a new file");
    let (row, dead, cross_deletes) = (|n| truth.row(n), &truth.dead[..], &truth.cross_deletes[..]);
    let content = Content { point: truth.point(), row: &row, live, dead, cross_deletes };
    write(&StoreFile { path: path.clone(), file }, &content)?;
    Ok(disk.image().files.remove(&path).expect("the file"))
}

fn open(bytes: &[u8]) -> Option<Ids> {
    let path = Path::new("/3.ids");
    let image = Image { files: [(path.to_owned(), bytes.to_vec())].into(), ..Image::default() };
    let file = open_file(SimDisk::new(&image), path, Open::Read).expect("the file");
    Ids::open(StoreFile { path: path.to_owned(), file }, &A).expect("no I/O error")
}

/// Where the first damaged page starts.
fn first_damage(ids: &Ids) -> Option<u64> {
    let mut first = None;
    ids.damaged_pages(|at, _| first = first.or(Some(at))).expect("readable");
    first
}

#[test]
fn round_trips() {
    for (rows, documents) in [(0, false), (1, true), (2, false), (1000, true), (1000, false), (100_000, true)]
    {
        let truth = Truth::new(rows, documents);
        let bytes = truth.bytes();
        let ids = open(&bytes).expect("intact");
        assert_eq!(truth.agrees(&ids), Ok(true), "{rows}");
        assert_eq!((ids.len(), first_damage(&ids)), (bytes.len() as u64, None));
        assert_eq!(ids.row(rows), Err(Damaged), "no such row");
        assert!(ids.resident() <= ids.len() && ids.heap() <= 8 + ids.len() / 32_000);
    }
}

#[test]
fn misses_are_none_and_mostly_known_by_the_filter() {
    let ids = open(&Truth::new(100_000, false).bytes()).expect("intact");
    let mut maybe = 0;
    for n in 1_000_000..1_100_000 {
        maybe += u32::from(ids.may_have(hash(n)).expect("intact"));
        assert_eq!(ids.find(hash(n), |_| Ok(false)), Ok(None));
    }
    assert!(maybe < 3000, "{maybe} of 100,000 false positives");
    assert_eq!(ids.find(hash(0), |_| Err(Damaged)), Err(Damaged), "the caller's damage is passed on");
}

/// With few ids the last page of each section weighs more.
#[test]
fn at_most_twenty_bytes_for_a_row() {
    for (rows, most) in [(10_000, 21), (50_000, 20), (200_000, 20)] {
        let truth = Truth { rows, documents: false, dead: Vec::new(), cross_deletes: Vec::new() };
        let live = (0..rows).map(|row| (hash(row), row)).collect();
        let len = write_live(&truth, live).expect("written").len();
        assert!(len <= most * rows as usize, "{len} bytes for {rows} rows");
    }
}

#[test]
fn ids_of_one_hash_fit_one_page_or_are_refused() {
    let truth = Truth { rows: 5000, documents: false, dead: Vec::new(), cross_deletes: Vec::new() };
    let with = |same: u32| write_live(&truth, (0..same).map(|row| (1 << 40, row)).collect());
    let ids = open(&with(818).expect("written")).expect("intact");
    assert_eq!(ids.find(1 << 40, |row| Ok(row == 817)), Ok(Some(817)));
    assert_eq!(ids.find(1 << 40, |_| Ok(false)), Ok(None), "a full page ends the search");
    assert!(matches!(with(819), Err(crate::Error::Io { .. })));
}

#[test]
fn no_flipped_byte_goes_unseen() {
    let truth = Truth::new(700, true);
    let good = truth.bytes();
    assert_eq!(truth.agrees(&open(&good).expect("intact")), Ok(true));
    for at in (0..PAGE).chain((PAGE..good.len()).step_by(61)).chain(good.len() - 4..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let Some(ids) = open(&bad) else {
            assert!(at < PAGE, "only the header is read by opening");
            continue;
        };
        assert_eq!(first_damage(&ids), Some((at / PAGE * PAGE) as u64), "byte {at}");
        assert_ne!(truth.agrees(&ids), Ok(false), "byte {at}");
    }
}

#[test]
fn every_cut_is_found() {
    let good = Truth::new(1000, true).bytes();
    let pages = (0..good.len()).step_by(PAGE);
    for len in pages.flat_map(|at| [at, at + 1, at + 2048, at + PAGE - 1]) {
        assert!(open(&good[..len]).is_none(), "cut to {len}");
    }
    for more in [1, PAGE, 5 * PAGE] {
        assert!(open(&[&good[..], &vec![0; more]].concat()).is_none(), "{more} bytes more");
    }
}

#[test]
fn swapped_pages_and_pages_of_another_file_are_found() {
    let good = Truth::new(3000, false).bytes();
    let mut other = Truth::new(3000, false);
    other.cross_deletes.push((1, 1));
    let other = other.bytes();
    for page in 2..good.len() / PAGE {
        let (this, next) = (page * PAGE - PAGE..page * PAGE, page * PAGE..page * PAGE + PAGE);
        let mut bad = good.clone();
        bad.copy_within(next.clone(), this.start);
        bad[next].copy_from_slice(&good[this.clone()]);
        assert_eq!(first_damage(&open(&bad).expect("a header")), Some(this.start as u64));
        bad.copy_from_slice(&good);
        bad[this.clone()].copy_from_slice(&other[this.clone()]);
        assert_eq!(first_damage(&open(&bad).expect("a header")), Some(this.start as u64));
    }
}

#[test]
fn a_made_up_header_is_refused() {
    let good = Truth::new(1000, true).bytes();
    let patched = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&A, &mut bad);
        open(&bad)
    };
    assert!(patched(8, &[1]).is_some(), "unchanged");
    assert!(patched(8, &[2]).is_none(), "version");
    assert!(patched(12, &[3]).is_none(), "flag");
    assert!(patched(12, &[0]).is_none(), "no documents, but their pages");
    assert!(patched(16, &[9]).is_none(), "another store");
    assert!(patched(85, &[1]).is_none() && patched(4091, &[1]).is_none(), "not zero");
    assert!(patched(88, &u64::MAX.to_le_bytes()).is_none(), "a COMMIT that ends before it starts");
    for at in [104, 128, 136, 144, 152, 160] {
        for count in [u64::MAX, u64::MAX / 64, 1 << 63, 1 << 40, 1 << 32, u32::MAX.into(), 0] {
            assert!(patched(at, &count.to_le_bytes()).is_none(), "field {at} = {count}");
        }
    }
}

/// What is looked at ahead is what a look-up needs then, but for ids with another one of the same tag before them.
#[test]
fn a_look_ahead_is_at_the_right_places() {
    let truth = Truth::new(50_000, false);
    let ids = open(&truth.bytes()).expect("a file");
    let (mut right, mut all) = (0, 0);
    for row in (0..50_000).filter(|&row| Truth::lives(row)) {
        let found: [Option<u32>; 3] = ids.prefetch_rows([hash(row), hash(row + 50_000)].into_iter());
        right += u32::from(found[0] == Some(truth.row(row).idx_at));
        all += 1;
        assert_eq!(found[2], None, "no hash, no place");
    }
    assert!(right > all / 100 * 90, "{right} of {all}");
}

/// Checksums are right, everything else is noise: no call may panic, or run on.
#[test]
fn noise_with_right_checksums_is_harmless() {
    let good = Truth::new(1000, true).bytes();
    for seed in 0..20 {
        let mut bad = good.clone();
        for (n, word) in (0..).zip(bad[PAGE..].chunks_exact_mut(8)) {
            word.copy_from_slice(&hash(seed << 24 | n).to_le_bytes());
        }
        if seed % 2 == 0 {
            bad[PAGE..6 * PAGE].fill(0xFF);
        }
        reseal(&A, &mut bad);
        let ids = open(&bad).expect("a header");
        for row in 0..2000 {
            // Looks at no checksum, and whatever it finds is only a place to look at.
            let [_, _] = ids.prefetch_rows([hash(row), hash(row + 1)].into_iter());
            let below = |found| Ok(if found < 1000 { false } else { panic!("row {found}") });
            assert!(matches!(ids.find(hash(row), below), Ok(None) | Err(Damaged)));
            assert_eq!(ids.row(row).is_ok(), row < 1000);
        }
        assert_eq!(ids.dead().expect("right checksums").len(), 125);
        assert_eq!(ids.cross_deletes().expect("right checksums").len(), 333);
    }
}
