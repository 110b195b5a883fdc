//! Verify: each damage is named, with its file, its id and what it means, also behind other damage.

use super::model::{DIM, DIR, identity, options, root};
use crate::maintain::verify::verify_directory;
use crate::sys::disk::Disk;
use crate::sys::disk::fault::FaultDisk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Damage, Document, Id, Metric, VectorStore, VerifyReport, WriteBatch};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn rows(n: usize) -> Vec<f32> {
    (0..u16::try_from(n * DIM as usize).expect("few")).map(f32::from).collect()
}

fn create(disk: &SimDisk, records: u64) -> VectorStore {
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options().segment_records(records);
    VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options).expect("made")
}

/// Four segments of up to four records. The first has two rows from before its first document, and a list of dead rows;
/// the second three batches.
fn image() -> Image {
    let disk = SimDisk::new(&root());
    let store = create(&disk, 4);
    let put = |ids: &[&str]| {
        store.put_many(ids, &rows(ids.len())).expect("stored");
        store.flush().expect("flushed");
    };
    put(&["a", "b"]);
    let documents = [Document::Json("{\"n\":1}"), Document::Json("[2]")];
    store
        .write(WriteBatch::new().put_many_with_documents(&["c", "d"], &rows(2), &documents))
        .expect("stored");
    put(&["e", "f"]);
    put(&["g"]);
    put(&["h"]);
    store.delete_many(&["b"]).expect("deleted");
    put(&["c", "i", "j"]);
    put(&["k", "l", "m"]);
    store.engine().expect("a writer").build_side_files(false);
    store.close().expect("closed");
    disk.image()
}

fn file(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn verify_on(disk: impl Disk + 'static) -> VerifyReport {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    verify_directory(&disk, Path::new(DIR)).expect("damage is no error")
}

fn verify(image: &Image) -> VerifyReport {
    verify_on(SimDisk::new(image))
}

fn flip(image: &mut Image, name: &str, at: usize) {
    image.files.get_mut(&file(name)).unwrap_or_else(|| panic!("there is no {name}"))[at] ^= 0x10;
}

/// Where the record of a one-byte id stands in a log.
fn record(image: &Image, name: &str, id: u8) -> usize {
    let record = [1, 0, 0, 0, id];
    image.files[&file(name)].windows(5).position(|bytes| bytes == record).expect("there")
}

/// The damage of an id in a file, and that its consequence says so.
fn find<'a>(report: &'a VerifyReport, name: &str, id: Option<&str>, consequence: &str) -> &'a Damage {
    let wanted = |damage: &&Damage| {
        damage.path == file(name) && damage.id == id.map(Id::from) && damage.consequence.contains(consequence)
    };
    let found = report.damage.iter().find(wanted);
    found.unwrap_or_else(|| panic!("{name} {id:?} {consequence} is not named: {:#?}", report.damage))
}

#[test]
fn a_healthy_store_has_no_damage() {
    let image = image();
    let report = verify(&image);
    assert_eq!((&report.damage[..], report.unlisted, report.tail_bytes), (&[][..], 0, 0));
    for suffix in ["del", "ids", "jsonl"] {
        let is = |path: &&PathBuf| path.extension().is_some_and(|found| found == suffix);
        assert!(image.files.keys().any(|path| is(&path)), "no .{suffix}");
    }
}

/// `.dat`, `.idx` and MANIFEST of one segment: `tests::corrupt`.
#[test]
fn every_changed_byte_of_every_file_is_found() {
    let whole = image();
    let mut cases = 0;
    for (path, bytes) in &whole.files {
        if path.ends_with("LOCK") {
            continue;
        }
        let is_ids = path.extension().is_some_and(|suffix| suffix == "ids");
        for at in (0..bytes.len()).step_by(if is_ids { 41 } else { 1 }) {
            for change in [0x01, 0x80, 0xFF] {
                let mut image = whole.clone();
                image.files.get_mut(path).expect("there")[at] ^= change;
                let report = verify(&image);
                let named = report.damage.iter().any(|damage| damage.path == *path);
                // The mark that closes the active log proves nothing that its batches do not.
                let mark = path.ends_with("00000004.idx") && report.tail_bytes > 0;
                assert!(named || mark, "{} byte {at}: {report:#?}", path.display());
                cases += 1;
            }
        }
    }
    println!("{cases} changed bytes");
    assert!(cases > 10_000);
}

#[test]
fn each_of_several_damages_is_named() {
    let mut image = image();
    // The dead row of "b", and that of "a".
    flip(&mut image, "00000001.dat", 256 + 16);
    flip(&mut image, "00000001.dat", 256);
    // The lines: two of five bytes from before the first document, then {"n":1} and [2].
    flip(&mut image, "00000001.jsonl", 5);
    flip(&mut image, "00000001.jsonl", 19);
    // Pages of the index.
    flip(&mut image, "00000001.ids", 4096 + 7);
    flip(&mut image, "00000001.ids", 2 * 4096 + 7);
    // Two of three batches, and the row of that between them.
    image.files.remove(&file("00000002.ids"));
    let (f, h) = (record(&image, "00000002.idx", b'f'), record(&image, "00000002.idx", b'h'));
    flip(&mut image, "00000002.idx", f + 5);
    flip(&mut image, "00000002.idx", h + 6);
    flip(&mut image, "00000002.dat", 256 + 2 * 16);
    // The active segment.
    flip(&mut image, "00000004.dat", 256 + 2 * 16);
    let report = verify(&image);
    assert_eq!(find(&report, "00000001.dat", Some("b"), "dead").offset, 256 + 16);
    assert_eq!(find(&report, "00000001.dat", Some("a"), "repair drops it").offset, 256);
    assert_eq!(find(&report, "00000001.jsonl", Some("b"), "nothing is lost").offset, 5);
    assert_eq!(find(&report, "00000001.jsonl", Some("d"), "repair drops it").offset, 18);
    let pages = report.damage.iter().filter(|damage| damage.path == file("00000001.ids"));
    assert_eq!(pages.map(|damage| damage.offset).collect::<Vec<_>>(), [4096, 8192]);
    let batches = report.damage.iter().filter(|damage| damage.what.contains("a batch that was durable"));
    let offsets: Vec<u64> = batches.map(|damage| damage.offset).collect();
    assert_eq!(offsets.len(), 2, "{:#?}", report.damage);
    assert!(offsets[0] == 304 && offsets[1] > f as u64 && offsets[1] <= h as u64, "{offsets:?}");
    find(&report, "00000002.idx", Some("e"), "repair drops the row");
    assert_eq!(find(&report, "00000002.dat", Some("g"), "repair drops it").offset, 256 + 32);
    assert_eq!(find(&report, "00000004.dat", Some("m"), "repair drops it").offset, 256 + 32);
}

#[test]
fn without_manifest_each_segment_is_looked_at() {
    let whole = image();
    let lost = |image: &mut Image| _ = image.files.remove(&file("MANIFEST"));
    let changes: [&dyn Fn(&mut Image); 3] =
        [&lost, &|image| flip(image, "MANIFEST", 0), &|image| flip(image, "MANIFEST", 30)];
    for change in changes {
        let mut image = whole.clone();
        change(&mut image);
        let report = verify(&image);
        let others: Vec<_> = report.damage.iter().filter(|d| d.path != file("MANIFEST")).collect();
        assert_eq!((report.damage.len(), others), (1, vec![]), "{report:#?}");
        flip(&mut image, "00000001.dat", 256);
        flip(&mut image, "00000003.dat", 256);
        let report = verify(&image);
        find(&report, "MANIFEST", None, "does not open");
        find(&report, "00000001.dat", Some("a"), "repair drops it");
        find(&report, "00000003.dat", Some("c"), "repair drops it");
    }
}

#[test]
fn each_missing_file_is_named_and_the_others_are_looked_at() {
    let whole = image();
    for path in whole.files.keys() {
        let name = path.file_name().expect("a file").to_str().expect("text");
        if name == "LOCK" || name == "MANIFEST" || name.ends_with(".ids") {
            continue;
        }
        let mut image = whole.clone();
        image.files.remove(path);
        let other = if name.starts_with("00000001") { ("00000004.dat", "k") } else { ("00000001.dat", "a") };
        flip(&mut image, other.0, 256);
        let report = verify(&image);
        assert_eq!(report.damage.len(), 2, "{name}: {report:#?}");
        find(&report, name, None, "does not open");
        find(&report, other.0, Some(other.1), "repair drops it");
    }
    let mut image = whole;
    ["00000001.dat", "00000002.idx"].iter().for_each(|name| _ = image.files.remove(&file(name)));
    let report = verify(&image);
    find(&report, "00000001.dat", None, "does not open");
    find(&report, "00000002.idx", None, "does not open");
}

#[test]
fn each_header_is_named() {
    let mut image = image();
    let headers = ["00000001.dat", "00000002.dat", "00000003.idx", "00000004.dat", "00000004.idx"];
    headers.iter().for_each(|name| flip(&mut image, name, 100));
    flip(&mut image, "00000001.dat", 256);
    flip(&mut image, "00000003.dat", 256);
    let report = verify(&image);
    headers.iter().for_each(|name| _ = find(&report, name, None, "does not open"));
    find(&report, "00000001.dat", Some("a"), "repair drops it");
    find(&report, "00000003.dat", Some("c"), "repair drops it");
}

/// The disk cannot read a sector: what is there is named, and all else is checked.
#[test]
fn what_the_disk_cannot_read_is_damage() {
    let disk = SimDisk::new(&root());
    let store = create(&disk, 10_000);
    let ids: Vec<String> = (0..600).map(|n| format!("id{n:03}")).collect();
    let documents: Vec<String> = (0..600).map(|n| format!("\"document {n:03}\"")).collect();
    let documents: Vec<_> = documents.iter().map(|text| Document::Json(&text[..])).collect();
    store.write(WriteBatch::new().put_many_with_documents(&ids, &rows(600), &documents)).expect("stored");
    store.close().expect("closed");
    let mut image = disk.image();
    // Row 590, behind all bad sectors.
    flip(&mut image, "00000001.dat", 256 + 590 * 16);
    let bad = |name: &str| {
        let report =
            verify_on(FaultDisk::with_bad_bytes(Arc::new(SimDisk::new(&image)), &file(name), 4096..8192));
        find(&report, "00000001.dat", Some("id590"), "repair drops it");
        let here = |damage: &&Damage| damage.path == file(name) && damage.id != Some(Id::from("id590"));
        let here: Vec<Damage> = report.damage.iter().filter(here).cloned().collect();
        assert!(here.iter().any(|damage| damage.what.contains("cannot be read")), "{name}: {here:#?}");
        here
    };
    let rows = bad("00000001.dat");
    assert_eq!((rows.len(), rows[0].id.clone(), rows[0].offset), (256, Some(Id::from("id240")), 4096));
    assert!(bad("00000001.jsonl").iter().all(|line| line.id.is_some() && line.offset > 4000));
    assert_eq!(bad("00000001.ids").len(), 1);
    assert!(bad("00000001.idx").iter().any(|damage| damage.offset == 4096));
    let door = FaultDisk::with_bad_bytes(Arc::new(SimDisk::new(&image)), &file("MANIFEST"), 0..10);
    let report = verify_on(door);
    find(&report, "MANIFEST", None, "does not open");
    find(&report, "00000001.dat", Some("id590"), "repair drops it");
}
