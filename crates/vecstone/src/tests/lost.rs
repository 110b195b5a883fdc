//! Repair tells the truth: what is not as it was is counted, and what may be old is listed.

use super::model::{DIM, DIR, Random, identity, options, root};
use super::repair::{
    Content, Made, changed, check, deleted_from_a_compacted_segment, deleted_in_del_only, file, lists, names,
    plain, repaired, replaced_by_the_last_batch, rich, without, without_ids,
};
use crate::format::header::Header;
use crate::format::record;
use crate::maintain::verify::verify_directory;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::planted::{Bug, with};
use crate::types::document::Document;
use crate::{Id, Metric, OpenOptions, RepairReport, VectorStore, VerifyReport, WriteBatch};
use std::path::Path;
use std::sync::Arc;

/// Whatever differs from what was there is told of.
fn check_truth(made: &Made, image: &Image, what: &str) -> (RepairReport, Content) {
    let (report, content) = check(made, image);
    if report.is_whole() {
        assert_eq!(content, made.now, "{what}: {report:?}");
    }
    let vector = |content: &Content, id: &Id| content.get(id).map(|value| value.0.clone());
    for id in content.keys().filter(|id| vector(&content, id) != vector(&made.now, id)) {
        assert!(report.possibly_deleted.contains(id), "{what}: {id} is old and not listed: {report:?}");
    }
    let gone = made.now.iter().filter(|(id, value)| content.get(id) != Some(value)).count() as u64;
    assert!(report.dropped_total >= gone, "{what}: {gone} are gone: {report:?}");
    assert_eq!(report.dropped_total, report.dropped.len() as u64, "{what}");
    assert_eq!(report.possibly_deleted_total, report.possibly_deleted.len() as u64, "{what}");
    (report, content)
}

fn all(image: &Image) -> Vec<String> {
    let mut all = names(image, "");
    all.retain(|name| name != "LOCK");
    all
}

/// The files of the active segment.
fn active(image: &Image, suffix: &str) -> String {
    names(image, suffix).pop().unwrap_or_else(|| panic!("no {suffix}"))
}

#[test]
fn a_lost_log_of_the_active_segment_is_counted_and_older_rows_are_listed() {
    for made in [plain(), rich()] {
        let (idx, dat) = (active(&made.image, ".idx"), active(&made.image, ".dat"));
        let rows = (made.image.files[&file(&dat)].len() as u64 - 256) / 16;
        let zeros = |bytes: &mut Vec<u8>| bytes.fill(0);
        let noise = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x5A);
        let lost: [(&str, Image); 5] = [
            ("missing", without(&made, &[&idx])),
            ("empty", changed(&made.image, &idx, Vec::clear)),
            ("without a batch", changed(&made.image, &idx, |bytes| bytes.truncate(304))),
            ("zeros", changed(&made.image, &idx, zeros)),
            ("noise", changed(&made.image, &idx, noise)),
        ];
        for (what, image) in lost {
            let (report, content) = check_truth(&made, &image, what);
            assert!(report.dropped_total >= rows, "{what}: {report:?}");
            assert_eq!(report.possibly_deleted_total, content.len() as u64, "{what}: {report:?}");
        }
        let (report, content) = check_truth(&made, &without(&made, &[&idx, &dat]), "both missing");
        assert!(report.dropped_total > 0 && !report.is_whole());
        assert_eq!(report.possibly_deleted_total, content.len() as u64);
    }
}

#[test]
fn a_log_cut_anywhere_is_not_called_whole() {
    for made in [plain(), rich()] {
        for name in names(&made.image, ".idx") {
            let is_active = name == active(&made.image, ".idx");
            for cut in 0..made.image.files[&file(&name)].len() {
                let image = changed(&made.image, &name, |bytes| bytes.truncate(cut));
                let (report, content) = check_truth(&made, &image, &format!("{name} cut to {cut}"));
                let whole = content == made.now;
                assert!(whole || (!report.is_whole() && report.dropped_total > 0), "{name} cut to {cut}");
                let listed = report.possibly_deleted_total == content.len() as u64;
                assert!(whole || !is_active || listed, "{name} cut to {cut}: {report:?}");
            }
        }
    }
}

#[test]
fn every_missing_file_and_every_two_are_told_of() {
    for made in [plain(), rich()] {
        let all = all(&made.image);
        for (n, one) in all.iter().enumerate() {
            for other in &all[n..] {
                let mut image = made.image.clone();
                [one, other].iter().for_each(|name| _ = image.files.remove(&file(name)));
                if image.files.keys().any(|path| is_pair(path)) {
                    check_truth(&made, &image, &format!("without {one} and {other}"));
                }
            }
        }
    }
}

/// What is left of a damaged batch is its COMMIT, which names the row of the sealed segment that died.
#[test]
fn the_commit_of_a_damaged_batch_still_says_what_it_replaced() {
    let made = replaced_by_the_last_batch();
    let idx = active(&made.image, ".idx");
    let log = &made.image.files[&file(&idx)];
    let put = [1, 0, 0, 0, b'a'];
    let at = log.windows(put.len()).rposition(|bytes| bytes == put).expect("the put of `a`");
    for byte in at..at + put.len() + 8 {
        let image = without_ids(&changed(&made.image, &idx, |bytes| bytes[byte] ^= 1));
        let (report, content) = check_truth(&made, &image, &format!("byte {byte}"));
        assert!(!content.contains_key(&Id::from("a")), "byte {byte}: an old row came back: {report:?}");
        assert_eq!(content.len(), made.now.len() - 1, "byte {byte}: {report:?}");
    }
}

/// Without MANIFEST the order of writing is that of the numbers, but for what BASE says of a compacted segment. So a delete
/// whose batch is damaged is met after the row that it may have deleted.
#[test]
fn base_says_where_a_compacted_segment_stands() {
    let made = deleted_from_a_compacted_segment();
    let idx = "00000004.idx";
    let header = Header::decode(&made.image.files[&file("00000004.dat")]).expect("a header");
    let log = &made.image.files[&file(idx)];
    let is_commit = |at: &usize| {
        let head = log[*at..].first_chunk();
        head.is_some_and(|head| record::commit_at(head, &header.identity).is_some())
    };
    let commit = (0..log.len()).rev().find(is_commit).expect("the COMMIT of the delete");
    // The row that it names is in no segment then.
    let mut image =
        without_ids(&changed(&made.image, idx, |bytes| bytes[commit + record::COMMIT_START + 3] ^= 1));
    image.files.remove(&file("MANIFEST")).expect("there");
    let (report, content) = check_truth(&made, &image, "a damaged delete");
    assert!(!content.contains_key(&Id::from("f")) && lists(&report, "f"), "{report:?}");
    assert_eq!(content.len(), made.now.len(), "{report:?}");
}

fn is_pair(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "dat" || suffix == "idx")
}

#[test]
fn without_manifest_nothing_is_called_whole() {
    for made in [plain(), rich(), deleted_in_del_only()] {
        let (report, content) = check_truth(&made, &without(&made, &["MANIFEST"]), "no MANIFEST");
        assert_eq!((report.is_whole(), report.possibly_deleted_total), (false, content.len() as u64));
    }
}

/// More than one place only where that is not both files of a pair: then nothing that is left may tell.
#[test]
fn of_random_damage_the_truth_is_told() {
    let mut random = Random(23);
    for made in [plain(), rich()] {
        let all = all(&made.image);
        for case in 0..1000 {
            let (mut image, name) = (made.image.clone(), &all[random.below(all.len())]);
            for _ in 0..=random.below(2) {
                image = changed(&image, name, |bytes| damage(bytes, &mut random));
            }
            check_truth(&made, &image, &format!("case {case}: {name}"));
        }
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len().max(1));
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_within(at.min(bytes.len())..),
        2 => bytes.iter_mut().skip(at).take(1 + random.below(400)).for_each(|byte| *byte = 0),
        3 => bytes.iter_mut().skip(at).for_each(|byte| *byte = 0x77),
        _ => bytes.iter_mut().skip(at).take(1 + random.below(9)).for_each(|byte| *byte ^= 0xA5),
    }
}

fn verify(image: &Image) -> VerifyReport {
    let door: Arc<dyn Disk> = Arc::new(SimDisk::new(image));
    verify_directory(&door, Path::new(DIR)).expect("damage is no error")
}

/// What another program wrote with right checksums.
#[test]
fn rows_and_documents_that_cannot_be_put_are_damage_and_cost_nothing_else() {
    let disk = SimDisk::new(&root());
    with(Bug::UncheckedInput, || {
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let made = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options());
        let store = made.expect("made");
        let mut rows = [1.0; 4 * DIM as usize];
        (rows[5], rows[9]) = (f32::NAN, f32::INFINITY);
        let documents = [Document::Json("{\"a\": "), Document::Keep, Document::Keep, Document::Json("[1]")];
        store
            .write(WriteBatch::new().put_many_with_documents(
                &["text", "nan", "infinite", "good"],
                &rows,
                &documents,
            ))
            .expect("stored");
        store.close().expect("closed");
    });
    let image = disk.image();
    let report = verify(&image);
    let named = |name: &str, id: &str, what: &str| {
        let is = |damage: &&crate::Damage| damage.path == file(name) && damage.id == Some(Id::from(id));
        let found = report.damage.iter().find(is).unwrap_or_else(|| panic!("{id} is not named: {report:?}"));
        assert!(found.what.contains(what), "{found}");
        found.offset
    };
    assert_eq!(named("00000001.jsonl", "text", "is not JSON"), 0);
    assert_eq!(named("00000001.dat", "nan", "not a finite number"), 256 + 16);
    assert_eq!(named("00000001.dat", "infinite", "not a finite number"), 256 + 32);
    assert_eq!(report.damage.len(), 3);
    let (report, content) = repaired(&image).expect("repaired");
    let kept: Vec<String> = content.keys().map(ToString::to_string).collect();
    assert_eq!((kept, report.dropped_total), (vec!["good".to_owned(), "text".to_owned()], 3), "{report:?}");
    assert_eq!(content[&Id::from("text")].1, None);
    assert_eq!(content[&Id::from("good")].1.as_deref(), Some("[1]"));
}

#[test]
fn a_manifest_of_another_store_is_named_and_hides_nothing() {
    let other = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(other.clone());
    let mut stranger = identity();
    stranger.uuid = [9; 16];
    let dir = Path::new(DIR);
    drop(VectorStore::create_on(door, dir, DIM, Metric::Ip, stranger, &options()).expect("made"));
    let manifest = other.image().files[&file("MANIFEST")].clone();
    for made in [plain(), rich()] {
        let image = changed(&made.image, "MANIFEST", |bytes| bytes.clone_from(&manifest));
        let report = verify(&image);
        let named =
            |damage: &crate::Damage| damage.path == file("MANIFEST") && damage.what.contains("another store");
        assert!(report.damage.iter().any(named), "{report:?}");
        let disk = SimDisk::new(&image);
        let opened = VectorStore::open_on(Arc::new(disk.clone()), dir, &OpenOptions::new());
        assert!(opened.is_err_and(|error| error.is_corrupt()));
        assert!(image.files.keys().all(|path| disk.image().files.contains_key(path)), "something is gone");
        let (report, content) = check_truth(&made, &image, "a stranger's MANIFEST");
        assert_eq!(content, made.now, "{report:?}");
        assert!(report.notes.iter().any(|note| note.contains("another store")), "{report:?}");
        assert!(report.notes.iter().any(|note| note.contains("nothing says what it was")), "{report:?}");
    }
}

#[test]
fn a_store_without_manifest_says_so_and_names_repair() {
    let image = without(&rich(), &["MANIFEST"]);
    let open = |writable: bool| {
        let door: Arc<dyn Disk> = Arc::new(SimDisk::new(&image));
        let dir = Path::new(DIR);
        if writable {
            VectorStore::open_on(door, dir, &options())
        } else {
            VectorStore::open_read_only_on(door, dir)
        }
    };
    for writable in [false, true] {
        let error = open(writable).expect_err("no MANIFEST").to_string();
        assert!(error.contains("MANIFEST is missing") && error.contains("repair"), "{error}");
    }
}
