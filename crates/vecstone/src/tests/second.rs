//! What stands twice: with the first source gone, the second counts. Then what mutants of recovery showed to be missing.
//!
//! That a batch is durable is said by the mark behind it, the next COMMIT, the mark at the end of a log, and `.ids`. No
//! other test takes away all but one of them.

use super::hostile::{file, vector};
use super::model::{DIM, DIR, identity, options, root};
use super::repair::{changed, flipped, names, repaired};
use crate::format::record::{COMMIT_START, Commit, commit_at};
use crate::segment::ids::Ids;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Id, Metric, OpenOptions, VectorStore};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, String>;

const IDX: &str = "00000001.idx";
const DAT: &str = "00000001.dat";
/// Where the first batch of a log begins.
const FIRST: usize = 304;

/// A store whose calls can fail.
struct Case {
    disk: SimDisk,
    faulty: FaultDisk,
    store: VectorStore,
}

fn faulty(disk: &SimDisk) -> FaultDisk {
    FaultDisk::new(Arc::new(disk.clone()), None)
}

fn made(options: &OpenOptions) -> Case {
    let disk = SimDisk::new(&root());
    let faulty = faulty(&disk);
    let door = Arc::new(faulty.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options);
    Case { disk, faulty, store: store.expect("made") }
}

fn open(disk: &SimDisk) -> crate::Result<VectorStore> {
    VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options())
}

fn read(disk: &SimDisk) -> crate::Result<VectorStore> {
    VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR))
}

fn put(store: &VectorStore, ids: &[&str]) {
    let rows: Vec<f32> = ids.iter().flat_map(|id| vector(id)).collect();
    store.put_many(ids, &rows).expect("stored");
}

/// Fails each call of `work` in turn, on a disk of its own each time, until it succeeds all the same and the log is no
/// longer than before: then it was the mark of durability that failed.
fn without_its_mark<T>(
    begin: impl Fn() -> (SimDisk, FaultDisk, T),
    work: impl Fn(&FaultDisk, &mut T) -> crate::Result<()>,
) -> (SimDisk, FaultDisk, T) {
    let logs = |disk: &SimDisk| {
        let image = disk.image();
        names(&image, ".idx").iter().map(|name| image.files[&file(name)].len()).sum::<usize>()
    };
    for call in 0.. {
        let (disk, faulty, mut case) = begin();
        let before = logs(&disk);
        faulty.plan(Plan { call, fault: Fault::Os(28), for_ever: false });
        let outcome = work(&faulty, &mut case);
        assert!(faulty.was_hit(), "{outcome:?}, and no call left to fail");
        faulty.heal();
        if outcome.is_ok() && logs(&disk) == before {
            return (disk, faulty, case);
        }
    }
    unreachable!("calls end");
}

/// Stored and flushed, but for the mark that says so.
fn flushed_without_its_mark(options: &OpenOptions, prepare: impl Fn(&VectorStore)) -> Case {
    let begin = || {
        let Case { disk, faulty, store } = made(options);
        prepare(&store);
        (disk, faulty, store)
    };
    let (disk, faulty, store) = without_its_mark(begin, |_, store| store.flush());
    Case { disk, faulty, store }
}

/// A batch that the next COMMIT calls durable is none that a crash may have cut short: a row of it that rots is damage.
pub(super) fn the_next_commit_counts() -> Outcome {
    let case = flushed_without_its_mark(&options(), |store| put(store, &["a"]));
    put(&case.store, &["b"]);
    let image = flipped(&case.disk.image(), DAT, 256);
    let store = open(&SimDisk::new(&image)).map_err(|e| e.to_string())?;
    let (a, b) = (store.get("a"), store.get("b"));
    if !a.as_ref().is_err_and(crate::Error::is_corrupt) || !matches!(b, Ok(Some(_))) {
        return Err(format!("a rotted row was taken for a crash's work: {a:?}, {b:?}"));
    }
    Ok(())
}

/// The mark that could not be written comes before anything is built upon what it says: before a log is sealed, and before
/// a list has rows dead that it replaced.
pub(super) fn the_mark_at_the_end_counts() -> Outcome {
    let replaced = |store: &VectorStore| {
        put(store, &["a", "b", "c"]);
        store.flush().expect("flushed");
        put(store, &["a"]);
    };
    // The compaction leaves the active segment as it is: a reader beside the writer sees it up to its marks.
    let case = flushed_without_its_mark(&options().segment_records(3), replaced);
    case.store.compact().map_err(|e| e.to_string())?;
    let reader = read(&case.disk).map_err(|e| e.to_string())?;
    let ids: BTreeSet<String> =
        reader.snapshot().expect("readable").iter().map(|row| row.expect("readable").0.to_string()).collect();
    if ids.len() != 3 || reader.get("a").expect("readable") != Some(vector("a")) {
        return Err(format!("a reader beside the writer sees {ids:?}"));
    }
    // MANIFEST is not replaced: the log is the active one again, and says what is durable in it.
    let case = flushed_without_its_mark(&options().segment_records(4), replaced);
    case.faulty.fail_calls_named("rename", 28);
    if case.store.put("d", &vector("d")).is_ok() {
        return Err("a segment was sealed without a MANIFEST".to_owned());
    }
    let image = flipped(&case.disk.image(), DAT, 256 + 3 * 16);
    let store = open(&SimDisk::new(&image)).map_err(|e| e.to_string())?;
    match store.get("a") {
        Err(error) if error.is_corrupt() => Ok(()),
        other => Err(format!("a durable row that rotted was taken for a crash's work: {other:?}")),
    }
}

/// Each COMMIT of a log.
fn commits(image: &Image) -> Vec<Commit> {
    let heads = image.files[&file(IDX)].windows(COMMIT_START);
    let commit = |head: &[u8]| commit_at(head.first_chunk()?, &identity()).map(|(commit, _)| commit);
    heads.filter_map(commit).collect()
}

/// What is written behind an opening has a later epoch than all that was there before, also than what recovery drops, and
/// also where no mark has it: no COMMIT is ever that of a batch that was dropped.
pub(super) fn epochs_rise() -> Outcome {
    let first = made(&options());
    put(&first.store, &["a"]);
    first.store.flush().expect("flushed");
    let image = first.disk.image();
    let begin = || {
        let disk = SimDisk::new(&image);
        let faulty = faulty(&disk);
        (disk, faulty, None)
    };
    let (disk, _, store) = without_its_mark(begin, |faulty, store| {
        let door = Arc::new(faulty.clone());
        *store = Some(VectorStore::open_on(door, Path::new(DIR), &options())?);
        Ok(())
    });
    let store = store.expect("opened");
    put(&store, &["b"]);
    let image = disk.image();
    let dropped = commits(&image);
    // No mark proves the second batch durable: with a row that does not hold it never was.
    let disk = SimDisk::new(&flipped(&image, DAT, 256 + 16));
    let store = open(&disk).map_err(|e| e.to_string())?;
    assert_eq!(store.get("b").expect("readable"), None, "it is dropped");
    put(&store, &["b"]);
    let kept = commits(&disk.image());
    let (old, new) = (dropped.last().expect("two"), kept.last().expect("two"));
    assert_eq!((dropped.len(), kept.len(), old.seq, new.seq), (2, 2, 2, 2));
    if dropped[0].epoch >= old.epoch || old.epoch >= new.epoch || old.chain == new.chain {
        return Err(format!("epochs {}, {}, {}", dropped[0].epoch, old.epoch, new.epoch));
    }
    Ok(())
}

/// Rows, then deletes only: a log cut before those has nothing that tells of them but `.ids`.
fn with_deletes_at_the_end() -> (Image, u64) {
    let case = made(&options());
    put(&case.store, &["a", "b", "c", "d"]);
    case.store.flush().expect("flushed");
    for id in ["b", "d"] {
        case.store.delete(id).and_then(|_| case.store.flush()).expect("deleted");
    }
    case.store.close().expect("closed");
    let image = case.disk.image();
    (image.clone(), point(&image))
}

/// The end of what `.ids` says of the log.
fn point(image: &Image) -> u64 {
    let (disk, path) = (SimDisk::new(image), file("00000001.ids"));
    let file = crate::sys::disk::open_file(disk, &path, crate::sys::disk::Open::Read).expect("there");
    let ids = Ids::open(crate::pair::files::StoreFile { path, file }, &identity())
        .expect("readable")
        .expect("whole");
    ids.point().idx_end
}

/// A log that ends before a batch that `.ids` proves durable is refused, whatever marks are left in it.
pub(super) fn ids_prove_what_was_durable() -> Outcome {
    let (image, point) = with_deletes_at_the_end();
    for cut in FIRST..image.files[&file(IDX)].len() {
        let image = changed(&image, IDX, |bytes| bytes.truncate(cut));
        for opened in [read(&SimDisk::new(&image)), open(&SimDisk::new(&image))] {
            match opened {
                Err(error) if error.is_corrupt() && (cut as u64) < point => {}
                Ok(store) if cut as u64 >= point && store.len().expect("known") == 2 => {}
                other => return Err(format!("cut to {cut}, `.ids` ends at {point}: {other:?}")),
            }
        }
    }
    // All marks are gone, and a row rots: it is damage, not a batch that a crash cut short.
    let image = changed(&image, IDX, |bytes| bytes.truncate(usize::try_from(point).expect("small")));
    let store = open(&SimDisk::new(&flipped(&image, DAT, 256))).map_err(|e| e.to_string())?;
    match (store.get("a"), store.get("c")) {
        (Err(error), Ok(Some(_))) if error.is_corrupt() => Ok(()),
        other => Err(format!("a durable row that rotted: {other:?}")),
    }
}

/// Repair learns from `.ids` that the log went on: then it does not call whole what it finds.
pub(super) fn repair_asks_ids_for_the_end() -> Outcome {
    let (image, point) = with_deletes_at_the_end();
    for cut in FIRST..image.files[&file(IDX)].len() {
        let image = changed(&image, IDX, |bytes| bytes.truncate(cut));
        let (report, content) = repaired(&image).map_err(|e| e.to_string())?;
        let ids: BTreeSet<Id> = content.keys().cloned().collect();
        let back: Vec<&Id> = ids.iter().filter(|id| [Id::from("b"), Id::from("d")].contains(id)).collect();
        let told = back.iter().all(|id| report.possibly_deleted.contains(id));
        let lost = (cut as u64) < point;
        if !told || (lost && report.is_whole()) || (!lost && ids != [Id::from("a"), Id::from("c")].into()) {
            return Err(format!("cut to {cut}, `.ids` ends at {point}: {ids:?}, {report:?}"));
        }
    }
    Ok(())
}

#[test]
fn without_its_mark_a_batch_is_proven_by_the_next_commit() {
    the_next_commit_counts().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_mark_that_failed_is_written_before_anything_is_built_upon_it() {
    the_mark_at_the_end_counts().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn the_epoch_rises_above_that_of_what_is_dropped() {
    epochs_rise().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn without_marks_ids_prove_what_was_durable() {
    ids_prove_what_was_durable().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn repair_knows_by_ids_that_the_log_went_on() {
    repair_asks_ids_for_the_end().unwrap_or_else(|why| panic!("{why}"));
}

/// An `.ids` of an earlier point hides nothing that the log says behind it.
#[test]
fn what_the_log_says_behind_ids_counts_for_repair() {
    let (image, point) = with_deletes_at_the_end();
    let disk = SimDisk::new(&image);
    let store = open(&disk).expect("opened");
    put(&store, &["b"]);
    store.delete("a").and_then(|_| store.close()).expect("closed");
    let image = disk.image();
    assert_eq!(self::point(&image), point, "two records are not worth a new `.ids`");
    let (report, content) = repaired(&image).expect("repaired");
    let ids: Vec<String> = content.keys().map(ToString::to_string).collect();
    assert_eq!((ids, report.is_whole()), (vec!["b".to_owned(), "c".to_owned()], true), "{report:?}");
}

/// Nothing of what a crash left behind the end stays: the next batch could give it a meaning.
#[test]
fn what_is_behind_the_end_is_cut_at_the_next_opening() {
    let (image, _) = with_deletes_at_the_end();
    let noise = [0xA5; 300];
    for name in [DAT, IDX] {
        let disk = SimDisk::new(&changed(&image, name, |bytes| bytes.extend(noise)));
        let store = open(&disk).expect("opened");
        assert_eq!((store.len().expect("known"), store.recovery().clean), (2, false), "{name}");
        let left = &disk.image().files[&file(name)];
        assert!(!left.windows(64).any(|bytes| bytes == &noise[..64]), "{name} has it still");
    }
}

#[test]
fn a_clean_close_is_said_and_is_enough_for_strict() {
    let (image, _) = with_deletes_at_the_end();
    for image in [&image, &super::repair::without_ids(&image)] {
        assert!(read(&SimDisk::new(image)).expect("opened").recovery().clean);
        let disk = SimDisk::new(image);
        let strict = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options().strict(true));
        let store = strict.expect("opened");
        assert_eq!(store.len().expect("known"), 2);
        store.close().expect("closed");
        let written = |image: &Image| {
            let all = image.files.iter().filter(|(path, _)| !path.ends_with("LOCK"));
            all.map(|(path, bytes)| (path.clone(), bytes.clone())).collect::<Vec<_>>()
        };
        assert_eq!(written(&disk.image()), written(image), "nothing is written for nothing");
    }
}

/// More log than is read at once.
#[test]
fn a_batch_longer_than_a_read_is_walked() {
    let case = made(&options());
    let ids: Vec<String> = (0..40).map(|n| format!("{n:060000}")).collect();
    let rows = vec![1.0; ids.len() * DIM as usize];
    case.store.put_many(&ids, &rows).and_then(|()| case.store.close()).expect("stored");
    let image = super::repair::without_ids(&case.disk.image());
    assert!(image.files[&file(IDX)].len() > 2 << 20);
    let store = open(&SimDisk::new(&image)).expect("opened");
    assert_eq!(store.len().expect("known"), 40);
    assert!(store.contains(&ids[39]).expect("readable"));
}
