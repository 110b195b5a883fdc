//! Repair: what is damaged is left out and listed, all else is kept, and nothing old comes back unasked.

use super::model::{DIM, DIR, Random, identity, options, root};
use crate::maintain::repair::{RepairReport, repair};
use crate::sys::disk::Disk;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::types::error::{Error, Result};
use crate::{AsId, Document, Id, Metric, OpenOptions, VectorStore, WriteBatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TO: &str = "/r";

/// The bits of a vector, and its document.
pub(super) type Value = (Vec<u32>, Option<String>);
pub(super) type Content = BTreeMap<Id, Value>;

/// A store of small segments in the making.
struct Make {
    disk: SimDisk,
    store: VectorStore,
    now: Content,
    /// Everything that an id ever held.
    ever: BTreeMap<Id, Vec<Value>>,
    version: u8,
    dim: u32,
}

/// A closed store.
pub(super) struct Made {
    pub(super) image: Image,
    pub(super) now: Content,
    ever: BTreeMap<Id, Vec<Value>>,
}

fn small() -> OpenOptions {
    options().segment_records(4)
}

impl Make {
    fn new() -> Make {
        Make::with(DIM, &small())
    }

    fn with(dim: u32, options: &OpenOptions) -> Make {
        let disk = SimDisk::new(&root());
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let store =
            VectorStore::create_on(door, Path::new(DIR), dim, Metric::L2, identity(), options).expect("made");
        Make { disk, store, now: Content::new(), ever: BTreeMap::new(), version: 0, dim }
    }

    fn put_with<I: AsId>(&mut self, ids: &[I], documents: bool) -> &mut Make {
        let (mut rows, mut texts) = (Vec::new(), Vec::new());
        for id in ids {
            self.version += 1;
            let mut row = vec![f32::from(self.version), 0.5, -1.0, 7.0];
            row.resize(self.dim as usize, 0.25);
            rows.extend(&row);
            let text =
                (documents && !self.version.is_multiple_of(3)).then(|| format!("{{\"v\":{}}}", self.version));
            let value = (row.iter().map(|x| x.to_bits()).collect(), text.clone());
            self.now.insert(id.as_id().to_id(), value.clone());
            self.ever.entry(id.as_id().to_id()).or_default().push(value);
            texts.push(text);
        }
        let texts: Vec<_> = texts.iter().map(|text| Document::whole(text.as_deref())).collect();
        self.store.write(WriteBatch::new().put_many_with_documents(ids, &rows, &texts)).expect("stored");
        self.store.flush().expect("flushed");
        self
    }

    fn put(&mut self, ids: &[&str]) -> &mut Make {
        self.put_with(ids, false)
    }

    fn delete(&mut self, ids: &[&str]) -> &mut Make {
        self.store.delete_many(ids).expect("deleted");
        self.store.flush().expect("flushed");
        ids.iter().for_each(|id| _ = self.now.remove(&Id::from(*id)));
        self
    }

    /// `.ids` of the sealed segments.
    fn index(&mut self) -> &mut Make {
        self.store.engine().expect("a writer").build_side_files(false);
        self
    }

    fn compact(&mut self) -> &mut Make {
        self.store.compact().expect("compacted");
        self
    }

    fn close(self) -> Made {
        self.store.close().expect("closed");
        Made { image: self.disk.image(), now: self.now, ever: self.ever }
    }
}

pub(super) fn file(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

pub(super) fn without(made: &Made, names: &[&str]) -> Image {
    let mut image = made.image.clone();
    names.iter().for_each(|name| assert!(image.files.remove(&file(name)).is_some(), "there is no {name}"));
    image
}

pub(super) fn without_ids(image: &Image) -> Image {
    let mut image = image.clone();
    image.files.retain(|path, _| path.extension().is_none_or(|suffix| suffix != "ids"));
    image
}

pub(super) fn changed(image: &Image, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = image.clone();
    change(image.files.get_mut(&file(name)).unwrap_or_else(|| panic!("there is no {name}")));
    image
}

pub(super) fn flipped(image: &Image, name: &str, at: usize) -> Image {
    changed(image, name, |bytes| bytes[at] ^= 0x10)
}

/// Repairs; what was there is as it was, and what was made is whole.
pub(super) fn repaired(image: &Image) -> Result<(RepairReport, Content)> {
    let disk = SimDisk::new(image);
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let outcome = repair(&door, Path::new(DIR), Path::new(TO));
    let mut after = disk.image();
    after.files.retain(|path, _| path.starts_with(DIR) && !path.ends_with("LOCK"));
    let mut before = image.files.clone();
    before.retain(|path, _| !path.ends_with("LOCK"));
    assert_eq!(after.files, before, "repair wrote to what it repairs");
    let report = outcome?;
    let store = VectorStore::open_read_only_on(door, Path::new(TO)).expect("what repair writes opens");
    let checked = store.verify().expect("readable");
    assert!(checked.is_ok(), "{checked:?}");
    let mut content = Content::new();
    for item in store.snapshot()?.iter() {
        let (id, vector) = item?;
        let document = store.get_document(&id)?;
        content.insert(id, (vector.iter().map(|x| x.to_bits()).collect(), document));
    }
    assert_eq!(report.rows, content.len() as u64);
    Ok((report, content))
}

/// As [`repaired`], and nothing is there that never was.
pub(super) fn check(made: &Made, image: &Image) -> (RepairReport, Content) {
    let (report, content) = repaired(image).expect("repaired");
    for (id, (vector, document)) in &content {
        let held = made.ever.get(id).unwrap_or_else(|| panic!("{id} was never stored"));
        let is = |value: &Value| value.0 == *vector && (document.is_none() || value.1 == *document);
        assert!(held.iter().any(is), "{id} never held {vector:?} {document:?}");
    }
    (report, content)
}

pub(super) fn lists(report: &RepairReport, id: &str) -> bool {
    report.dropped.iter().any(|dropped| dropped.id == Some(Id::from(id)))
}

/// Everything is kept and nothing is dropped.
fn check_whole(made: &Made, image: &Image, what: &str) -> RepairReport {
    let (report, content) = check(made, image);
    assert_eq!(content, made.now, "{what}: {report:?}");
    assert_eq!(report.dropped, [], "{what}");
    report
}

/// Everything is as it was but for these ids, which are missing and listed.
fn check_all_but(made: &Made, image: &Image, ids: &[&str], what: &str) -> RepairReport {
    let (report, content) = check(made, image);
    let mut expected = made.now.clone();
    for id in ids {
        expected.remove(&Id::from(*id));
        assert!(lists(&report, id), "{what}: {id} is not listed: {report:?}");
    }
    assert_eq!(content, expected, "{what}: {report:?}");
    report
}

/// Three segments (1 and 2 sealed), upserts and deletes across them, no compaction.
pub(super) fn plain() -> Made {
    let mut make = Make::new();
    make.put(&["a", "b", "c", "d"]);
    make.put(&["e", "f"]).put(&["a", "g"]);
    make.put(&["h"]).delete(&["b", "e"]).put(&["i"]);
    make.close()
}

/// Documents, and a segment made from others.
pub(super) fn rich() -> Made {
    let mut make = Make::new();
    make.put_with(&["a", "b", "c", "d"], true);
    make.put_with(&["e", "f"], true).put_with(&["a", "g"], true);
    make.put(&["h"]).delete(&["b", "e"]).put(&["i"]).compact();
    make.put_with(&["j", "k"], true).delete(&["c"]).put(&["l"]).put(&["m"]).index();
    make.close()
}

pub(super) fn names(image: &Image, suffix: &str) -> Vec<String> {
    let ours = image.files.keys().filter(|path| path.starts_with(DIR));
    let names = ours.filter_map(|path| path.file_name()?.to_str()).filter(|name| name.ends_with(suffix));
    names.map(str::to_owned).collect()
}

#[test]
fn a_healthy_store_comes_out_whole() {
    for made in [plain(), rich()] {
        let report = check_whole(&made, &made.image, "healthy");
        assert_eq!((&report.notes[..], &report.possibly_deleted[..]), (&[][..], &[][..]));
        let report = check_whole(&made, &without_ids(&made.image), "without .ids");
        assert_eq!(report.notes.len(), 0, "{report:?}");
    }
}

#[test]
fn ids_keep_their_kind_and_an_empty_store_is_one() {
    let mut make = Make::new();
    make.put_with(&[7u64, 8, 9, 10, 7], false);
    let made = make.close();
    check_whole(&made, &made.image, "numbers");
    let made = Make::new().close();
    let report = check_whole(&made, &made.image, "empty");
    assert_eq!((report.rows, report.notes.len()), (0, 0));
}

#[test]
fn a_rotted_row_is_dropped_and_the_version_before_stays_where_it_is() {
    let made = plain();
    // Row 2 of the second segment is the second version of "a".
    let image = flipped(&made.image, "00000002.dat", 256 + 2 * 16 + 3);
    let report = check_all_but(&made, &image, &["a"], "rot");
    let dropped = &report.dropped[0];
    assert_eq!((dropped.path.clone(), dropped.offset), (file("00000002.dat"), 256 + 32));
    assert!(dropped.what.contains("older version is row 0 of 00000001.dat"), "{}", dropped.what);
    // A dead row may rot.
    check_whole(&made, &flipped(&made.image, "00000001.dat", 256), "a dead row");
}

#[test]
fn a_rotted_document_is_dropped_and_its_vector_stays() {
    let made = rich();
    for name in names(&made.image, ".jsonl") {
        let len = made.image.files[&file(&name)].len();
        for at in 0..len {
            let (report, content) = check(&made, &flipped(&made.image, &name, at));
            assert!(report.dropped.len() <= 1, "{name} byte {at}: {report:?}");
            let same = |(id, value): (&Id, &Value)| content.get(id).is_some_and(|found| found.0 == value.0);
            assert!(made.now.iter().all(same), "{name} byte {at}: a vector is gone");
        }
        let (report, content) = check(&made, &without(&made, &[&name]));
        assert_eq!(content.len(), made.now.len(), "{report:?}");
    }
}

#[test]
fn damage_in_a_log_hurts_one_batch_and_with_ids_no_row() {
    let mut make = Make::new();
    make.put(&["a", "b", "c", "d"]);
    make.put(&["e"]).put(&["f", "a"]).put(&["g"]);
    make.put(&["h"]).put(&["i"]).index();
    let made = make.close();
    let name = "00000002.idx";
    for at in 304..made.image.files[&file(name)].len() {
        let image = flipped(&made.image, name, at);
        // At most one record is hurt; without `.ids` the others of its batch cannot be trusted either.
        for (image, most) in [(&image, 1), (&without_ids(&image), 2)] {
            let (report, content) = check(&made, image);
            let gone = made.now.iter().filter(|(id, value)| content.get(id) != Some(value)).count();
            assert!(gone <= most && gone <= report.dropped.len(), "byte {at}: {gone} are gone: {report:?}");
            // Two where the chain itself is hurt, which the next batch goes on from.
            assert!((1..=2).contains(&report.notes.len()), "byte {at}: {report:?}");
            let a = (content.get(&Id::from("a")), made.now.get(&Id::from("a")));
            assert!(a.0 == a.1 || a.0.is_none(), "byte {at}: an old version came back: {report:?}");
        }
    }
}

#[test]
fn a_lost_list_of_dead_rows_makes_its_rows_doubtful() {
    let mut make = Make::new();
    make.put(&["a", "b", "c", "d"]).put(&["e", "f", "g", "h"]);
    make.delete(&["a", "b"]).put(&["c"]).put(&["x"]).put(&["i", "j"]);
    // The log that says what was deleted goes.
    make.delete(&["x"]).put(&["y", "z", "v"]);
    let made = make.close();
    let dels = names(&made.image, ".del");
    assert!(dels.iter().any(|name| name.starts_with("00000001.")), "{dels:?}");
    for name in &dels {
        for image in
            [without(&made, &[name]), flipped(&made.image, name, 9), changed(&made.image, name, Vec::clear)]
        {
            let report = check_whole(&made, &image, name);
            assert_eq!(report.notes.len(), 1);
            let held = report.possibly_deleted.iter().all(|id| made.now.contains_key(id));
            assert!(held && !report.possibly_deleted.is_empty(), "{name}: {report:?}");
        }
    }
}

/// A delete in a log that compaction replaced since: only `.del` knows of it.
pub(super) fn deleted_in_del_only() -> Made {
    // Rows so long that one dead one is worth a compaction, if it is more than three in ten.
    let mut make = Make::with(65_536, &small().compact_at(0.3));
    make.put(&["a", "b", "c", "d"]).put(&["e", "f"]).delete(&["a"]).put(&["e"]);
    make.put(&["g", "h", "i", "j"]).put(&["k"]);
    make.store.engine().expect("a writer").compact_in_background();
    let made = make.close();
    assert_eq!(names(&made.image, ".idx"), ["00000001.idx", "00000003.idx", "00000004.idx", "00000005.idx"]);
    made
}

/// `a` stands in a sealed segment, and the last batch puts it again.
pub(super) fn replaced_by_the_last_batch() -> Made {
    let mut make = Make::new();
    make.put(&["a", "b", "c", "d"]).put(&["e"]).put(&["a"]);
    make.close()
}

/// The same segments as of [`deleted_in_del_only`]; the last batch deletes `f` of the compacted one, whose number is above
/// that of the active one.
pub(super) fn deleted_from_a_compacted_segment() -> Made {
    let mut make = Make::with(65_536, &small().compact_at(0.3));
    make.put(&["a", "b", "c", "d"]).put(&["e", "f"]).delete(&["a"]).put(&["e"]);
    make.put(&["g", "h", "i", "j"]).put(&["k"]);
    make.store.engine().expect("a writer").compact_in_background();
    make.delete(&["f"]);
    make.close()
}

#[test]
fn what_only_a_lost_list_knew_to_be_deleted_comes_back_and_is_named() {
    let made = deleted_in_del_only();
    check_whole(&made, &made.image, "healthy");
    let del = names(&made.image, ".del");
    let (report, content) = check(&made, &without(&made, &[&del[0]]));
    assert!(content.contains_key(&Id::from("a")), "{report:?}");
    assert!(report.possibly_deleted.contains(&Id::from("a")), "{report:?}");
    assert_eq!(content.len(), made.now.len() + 1);
}

#[test]
fn damaged_ids_cost_nothing() {
    let made = rich();
    for name in names(&made.image, ".ids") {
        for at in (0..made.image.files[&file(&name)].len()).step_by(37) {
            check_whole(&made, &flipped(&made.image, &name, at), &name);
        }
    }
}

#[test]
fn each_file_says_what_the_other_should_be() {
    for made in [plain(), rich()] {
        for name in names(&made.image, ".dat") {
            (0..256)
                .step_by(5)
                .for_each(|at| _ = check_whole(&made, &flipped(&made.image, &name, at), &name));
        }
        for name in names(&made.image, ".idx") {
            for at in (0..304).step_by(3) {
                let report =
                    check_whole(&made, &flipped(&made.image, &name, at), &format!("{name} byte {at}"));
                // Where the segment before is gone, nothing else says where the chain began.
                let alone = (268..292).contains(&at);
                assert!(report.notes.len() == 1 || alone, "{name} byte {at}: {report:?}");
            }
        }
    }
}

#[test]
fn a_missing_file_takes_its_segment_only() {
    let made = plain();
    let report = check_all_but(&made, &without(&made, &["00000001.dat"]), &["c", "d"], "no .dat");
    assert!(report.notes[0].contains("00000001.dat"), "{report:?}");
    let (report, content) = check(&made, &without(&made, &["00000001.idx"]));
    assert!(report.notes[0].contains("00000001.idx"), "{report:?}");
    let mut expected = made.now.clone();
    ["c", "d"].iter().for_each(|id| _ = expected.remove(&Id::from(*id)));
    assert_eq!(content, expected);
    let (_, content) = check(&made, &without(&made, &["00000002.dat", "00000002.idx"]));
    assert!(!content.contains_key(&Id::from("f")) && content.contains_key(&Id::from("d")));
}

#[test]
fn without_manifest_segments_are_found_by_their_names() {
    let made = deleted_in_del_only();
    check_unmanifested(&made, &without(&made, &["MANIFEST"]));
    for made in [plain(), rich()] {
        let report = check_unmanifested(&made, &without(&made, &["MANIFEST"]));
        assert!(report.notes.iter().any(|note| note.contains("the metric is cosine now")), "{report:?}");
        for at in 0..made.image.files[&file("MANIFEST")].len() {
            let report = check_unmanifested(&made, &flipped(&made.image, "MANIFEST", at));
            assert!(
                at == 41 || report.notes.iter().any(|note| note.contains("the metric is l2 now")),
                "{report:?}"
            );
        }
    }
}

/// Deleted ids may be listed as lost, others not.
fn check_unmanifested(made: &Made, image: &Image) -> RepairReport {
    let (report, content) = check(made, image);
    assert_eq!(content, made.now, "{report:?}");
    let deleted = |id: &Option<Id>| id.as_ref().is_some_and(|id| !made.now.contains_key(id));
    assert!(report.dropped.iter().all(|dropped| deleted(&dropped.id)), "{report:?}");
    report
}

#[test]
fn an_old_manifest_does_not_hide_what_came_after_it() {
    let mut make = Make::new();
    make.put(&["a", "b", "c", "d"]).put(&["e", "f"]);
    let old = make.disk.image().files[&file("MANIFEST")].clone();
    make.put(&["g", "h", "a"]).delete(&["b"]).put(&["i", "j"]);
    let made = make.close();
    let image = changed(&made.image, "MANIFEST", |bytes| *bytes = old);
    let report = check_unmanifested(&made, &image);
    assert!(report.notes[0].contains("old copy"), "{report:?}");
}

/// Its files are still there, and MANIFEST is lost: ids of two kinds are not mixed.
#[test]
fn what_was_cleared_stays_apart_from_ids_of_another_kind() {
    let mut make = Make::new();
    make.put(&["eightlet", "b"]);
    let before = make.disk.image();
    make.store.clear().expect("cleared");
    (make.now, make.ever) = Default::default();
    make.put_with(&[7u64, 8], false);
    let made = make.close();
    let mut image = without(&made, &["MANIFEST"]);
    let is_pair = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "dat" || suffix == "idx");
    image.files.extend(before.files.into_iter().filter(|(path, _)| is_pair(path)));
    let (report, content) = repaired(&image).expect("repaired");
    assert_eq!(content, made.now, "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("cleared")), "{report:?}");
}

#[test]
fn inputs_of_a_compaction_beside_its_output_bring_nothing_back() {
    let mut make = Make::new();
    make.put(&["a", "b", "c", "d"])
        .put(&["e", "f"])
        .put(&["a", "b"])
        .put(&["g", "h"])
        .delete(&["c"])
        .put(&["i"]);
    let before = make.disk.image();
    make.compact();
    make.delete(&["d"]).put(&["e", "x", "y"]).put(&["z", "w"]).delete(&["f"]);
    let made = make.close();
    let mut image = made.image.clone();
    image.files.remove(&file("MANIFEST"));
    for (path, bytes) in before.files {
        if path.starts_with(DIR) && !path.ends_with("MANIFEST") {
            image.files.entry(path).or_insert(bytes);
        }
    }
    assert!(names(&image, ".dat").len() > names(&made.image, ".dat").len());
    check_unmanifested(&made, &image);
}

#[test]
fn every_cut_of_every_file_leaves_the_rest() {
    let made = rich();
    for suffix in [".dat", ".idx", ".jsonl", ".del", ".ids", "MANIFEST"] {
        for name in names(&made.image, suffix) {
            let len = made.image.files[&file(&name)].len();
            for cut in (0..len).step_by(if len > 2000 { 511 } else { 7 }) {
                let image = changed(&made.image, &name, |bytes| bytes.truncate(cut));
                check(&made, &image);
            }
        }
    }
}

#[test]
fn a_cut_dat_loses_the_rows_that_were_there() {
    let made = plain();
    let image = changed(&made.image, "00000001.dat", |bytes| bytes.truncate(256 + 3 * 16));
    let report = check_all_but(&made, &image, &["d"], "cut");
    assert_eq!(report.dropped[0].what, "the file ends before this row");
}

#[test]
fn a_write_that_a_crash_cut_short_is_no_damage() {
    let mut make = Make::new();
    make.put(&["a", "b"]).put(&["c"]);
    let mut image = make.disk.image();
    let now = make.now.clone();
    make.put(&["a"]);
    let later = make.disk.image().files[&file("00000001.idx")].clone();
    let made = make.close();
    let idx = image.files.get_mut(&file("00000001.idx")).expect("there");
    let len = idx.len();
    idx.extend_from_slice(&later[len..len + 40]);
    let (report, content) = check(&made, &image);
    assert_eq!(content, now);
    assert_eq!((report.dropped.len(), report.notes.len()), (0, 1), "{report:?}");
}

#[test]
fn it_goes_to_a_new_place_and_from_a_store_that_nobody_writes() {
    let made = plain();
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&made.image));
    let (from, to) = (Path::new(DIR), Path::new(TO));
    assert!(matches!(repair(&disk, from, from), Err(Error::InItself { .. })));
    assert!(matches!(repair(&disk, Path::new("/none"), to), Err(Error::NotFound { .. })));
    let writer = VectorStore::open_on(disk.clone(), from, &small()).expect("opens");
    assert!(matches!(repair(&disk, from, to), Err(Error::Locked { .. })));
    drop(writer);
    repair(&disk, from, to).expect("repaired");
    assert!(matches!(repair(&disk, from, to), Err(Error::AlreadyExists { .. })));
}

/// Each read fails once, of all that a repair does; what comes out is right, or there is an error.
#[test]
fn a_disk_that_cannot_read_costs_what_it_cannot_read() {
    let made = plain();
    let (mut call, mut whole, mut refused) = (0, 0, 0);
    loop {
        let inner: Arc<dyn Disk> = Arc::new(SimDisk::new(&made.image));
        let plan = Plan { call, fault: Fault::Os(5), for_ever: false };
        let faulty = FaultDisk::new(inner.clone(), Some(plan));
        let door: Arc<dyn Disk> = Arc::new(faulty.clone());
        let outcome = repair(&door, Path::new(DIR), Path::new(TO));
        match outcome {
            Ok(report) => {
                let store = VectorStore::open_read_only_on(inner, Path::new(TO)).expect("opens");
                let mut left = made.now.len();
                for item in store.snapshot().expect("opens").iter() {
                    let (id, vector) = item.expect("intact");
                    let bits: Vec<u32> = vector.iter().map(|x| x.to_bits()).collect();
                    assert_eq!(Some(&bits), made.now.get(&id).map(|value| &value.0), "call {call}: {id}");
                    left -= 1;
                }
                assert!(left <= report.dropped.len(), "call {call}: {report:?}");
                whole += usize::from(left == 0);
            }
            Err(_) => refused += 1,
        }
        if faulty.seen().len() <= call {
            break;
        }
        call += 1;
    }
    println!("{call} calls failed: {refused} repairs refused, {whole} whole");
    assert!(call > 100 && whole > 20);
}

#[test]
fn random_damage_is_survived() {
    let mut random = Random(11);
    let (mut refused, mut kept) = (0, 0);
    for made in [plain(), rich()] {
        let all: Vec<PathBuf> = made.image.files.keys().cloned().collect();
        for case in 0..2000 {
            let mut image = if case % 2 == 0 { made.image.clone() } else { without_ids(&made.image) };
            for _ in 0..=random.below(3) {
                let Some(bytes) = image.files.get_mut(&all[random.below(all.len())]) else { continue };
                let at = random.below(bytes.len().max(1));
                match random.below(6) {
                    0 => bytes.truncate(at),
                    1 => bytes.extend_from_within(at..),
                    2 => bytes.insert(at.min(bytes.len()), 0x5A),
                    3 => bytes.iter_mut().skip(at).take(1 + random.below(64)).for_each(|b| *b = 0),
                    _ => bytes.iter_mut().skip(at).take(1 + random.below(9)).for_each(|b| *b ^= 0xA5),
                }
            }
            match repaired(&image) {
                Ok(_) => kept += check(&made, &image).1.len(),
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} refused, {kept} ids kept");
    assert!(refused < 600 && kept > 20_000, "{refused} refused, {kept} kept");
}

#[test]
fn on_a_real_disk() {
    let dir = tempfile::tempdir().expect("made");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = VectorStore::create(&from, 2, Metric::Ip).expect("made");
    store.put_with_document("a", &[1.0, 2.0], "{\"n\": 1}").expect("stored");
    store.close().expect("closed");
    let report = VectorStore::repair(&from, &to).expect("repaired");
    assert_eq!((report.rows, report.dropped, report.notes), (1, vec![], vec![]));
    let store = VectorStore::open(&to).expect("opens");
    assert_eq!((store.dim(), store.metric()), (2, Metric::Ip));
    assert_eq!(store.get("a").expect("intact"), Some(vec![1.0, 2.0]));
    assert_eq!(store.get_document("a").expect("intact").as_deref(), Some("{\"n\": 1}"));
}
