//! Files whose checksums are right and whose numbers make no sense: refused by name, or harmless.

use super::model::{DIM, DIR, identity, options, root};
use crate::disk::sim::{Image, SimDisk};
use crate::disk::{Disk, Open, open_file};
use crate::format::MAX_SEQ;
use crate::format::manifest::{MAX_NUMBER, Manifest};
use crate::planted::{Bug, with};
use crate::{Durability, Error, Metric, OpenOptions, VectorStore};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn file(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

pub(super) fn vector(id: &str) -> Vec<f32> {
    let sum = id.bytes().map(f32::from).sum::<f32>();
    vec![sum, 1.0, sum * 0.5, -1.0]
}

/// A store of sealed segments of up to four records and an active one, closed cleanly; rows of all of them are dead.
pub(super) fn store(options: &OpenOptions) -> Image {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options.clone().segment_records(4);
    let store =
        VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options).expect("made");
    for batch in [&["a", "b", "c"][..], &["d", "e", "b"], &["f", "g"], &["a", "h"]] {
        let vectors: Vec<f32> = batch.iter().flat_map(|id| vector(id)).collect();
        store.put_many(batch, &vectors).and_then(|()| store.flush()).expect("stored");
    }
    store.delete_many(&["f"]).expect("deleted");
    store.close().expect("closed");
    disk.image()
}

pub(super) const LIVE: [&str; 7] = ["a", "b", "c", "d", "e", "g", "h"];

pub(super) fn manifest_of(image: &Image) -> Manifest {
    Manifest::decode(&image.files[&file("MANIFEST")]).expect("intact")
}

fn with_manifest(image: &Image, change: impl FnOnce(&mut Manifest)) -> Image {
    let (mut image, mut manifest) = (image.clone(), manifest_of(image));
    change(&mut manifest);
    image.files.insert(file("MANIFEST"), manifest.to_bytes());
    image
}

pub(super) fn open(disk: &SimDisk, options: &OpenOptions) -> crate::Result<VectorStore> {
    VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

/// What a store has lost of what was acknowledged.
fn lost(disk: &SimDisk, ids: &[&str]) -> Vec<String> {
    let Ok(reader) = VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR)) else {
        return ids.iter().map(|id| (*id).to_owned()).collect();
    };
    let is_lost = |id: &&&str| !matches!(reader.get(**id), Ok(Some(found)) if found == vector(id));
    ids.iter().filter(is_lost).map(|id| (*id).to_owned()).collect()
}

/// Opens, writes until a segment is sealed, compacts, closes; nothing that was there or was acknowledged is lost.
fn a_store_goes_on_losing_nothing(image: &Image) -> bool {
    let disk = SimDisk::new(image);
    let Ok(store) = open(&disk, &options().segment_records(4)) else {
        return disk.image() == *image || lost(&disk, &LIVE).is_empty();
    };
    let mut ids = LIVE.to_vec();
    for id in ["p", "q", "r", "s", "t"] {
        match store.put(id, &vector(id)).and_then(|()| store.flush()) {
            Ok(()) => ids.push(id),
            Err(_) => break,
        }
    }
    _ = store.compact();
    _ = store.close();
    lost(&disk, &ids).is_empty()
}

/// The next segment has the number of a live one: the first seal would make that one's files again, and remove them when
/// it cannot.
fn a_live_number_is_given_again() -> bool {
    let image = store(&options());
    let numbers: Vec<u64> = manifest_of(&image).segments.iter().map(|segment| segment.number).collect();
    numbers.iter().all(|&number| {
        a_store_goes_on_losing_nothing(&with_manifest(&image, |manifest| manifest.next_segment = number))
    })
}

pub(super) fn contradictions_catch(bug: Bug) -> bool {
    with(bug, || catch_unwind(numbers_that_contradict_each_other_are_refused_by_file_and_offset).is_err())
}

/// A file with the name of the next segment is not ours: it stays, whatever fails.
fn files_of_others_stay_now() -> bool {
    let disk = SimDisk::new(&store(&options()));
    let store = open(&disk, &options().segment_records(4)).expect("opens");
    let next = manifest_of(&disk.image()).next_segment;
    let name = file(&format!("{next:08}.idx"));
    let stranger = open_file(disk.clone(), &name, Open::CreateNew).expect("made");
    stranger.write_at(b"not ours", 0).expect("written");
    let ids: Vec<String> = (0..5).map(|n| format!("new{n}")).collect();
    let failed = ids.iter().any(|id| store.put(id, &vector(id)).and_then(|()| store.flush()).is_err());
    _ = store.clear();
    let kept = disk.image().files.get(&name).is_some_and(|bytes| bytes == b"not ours");
    let left = disk.image().files.contains_key(&name.with_extension("dat"));
    kept && !(failed && left)
}

pub(super) fn files_of_others_catch(bug: Bug) -> bool {
    with(bug, || !files_of_others_stay_now())
}

#[test]
fn a_live_number_as_the_next_one_loses_nothing() {
    assert!(a_live_number_is_given_again());
}

#[test]
fn cleaning_up_removes_only_what_was_made() {
    assert!(files_of_others_stay_now());
}

#[test]
fn numbers_that_contradict_each_other_are_refused_by_file_and_offset() {
    let image = store(&options());
    let cases: [(&dyn Fn(&mut Manifest), u64); 8] = [
        (&|m| m.next_segment = 1, 64),
        (&|m| m.next_segment = u64::MAX, 48),
        (&|m| m.number = u64::MAX, 16),
        (&|m| m.segments[1].number = m.segments[0].number, 64 + 120),
        (&|m| m.segments[0].number = 0, 64),
        (&|m| m.segments[0].sealed.as_mut().expect("sealed").last_seq = u64::MAX, 64 + 64),
        (&|m| m.segments[0].sealed.as_mut().expect("sealed").del.0 = 99, 64 + 88),
        (&|m| m.kind = 0, 42),
    ];
    for (change, at) in cases {
        let disk = SimDisk::new(&with_manifest(&image, change));
        let (before, reader) =
            (disk.image(), VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR)));
        for error in [reader.expect_err("refused"), open(&disk, &options()).expect_err("refused")] {
            let named = matches!(&error, Error::Corrupt { path, offset, .. }
                if *path == file("MANIFEST") && *offset == at);
            assert!(named, "{at}: {error}");
        }
        let after = disk.image();
        let changed = before.files.iter().filter(|(path, bytes)| after.files.get(*path) != Some(bytes));
        assert_eq!(changed.filter(|(path, _)| !path.ends_with("LOCK")).count(), 0, "{at}");
    }
}

#[test]
fn segments_out_of_order_are_refused() {
    let image = store(&options());
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let disk = SimDisk::new(&with_manifest(&image, |manifest| {
            manifest.segments.swap(a, b);
        }));
        let error = open(&disk, &options()).expect_err("refused");
        assert!(matches!(&error, Error::Corrupt { path, .. } if *path == file("MANIFEST")), "{error}");
    }
}

/// A store at the end of its numbers says so before it makes anything, keeps what it has, and opens again.
#[test]
fn numbers_at_their_limits_are_never_passed() {
    let image = store(&options());
    let last_segment = |m: &mut Manifest| m.next_segment = MAX_NUMBER - 1;
    let cases: [(&dyn Fn(&mut Manifest), &str); 3] = [
        (&|m| m.next_segment = MAX_NUMBER, "segment numbers"),
        (&last_segment, "segment numbers"),
        (&|m| m.number = MAX_SEQ, "MANIFEST numbers"),
    ];
    for (change, what) in cases {
        let disk = SimDisk::new(&with_manifest(&image, change));
        let mut ids = LIVE.to_vec();
        for round in 0..3 {
            let store = open(&disk, &options().segment_records(4)).expect("opens");
            let names: Vec<String> = (0..9).map(|n| format!("{round}-{n}")).collect();
            let mut refused = 0;
            for id in &names {
                match store.put_many_with(&[&**id], &vector(id), &[], Some(Durability::Sync)) {
                    Ok(()) => ids.push(String::leak(id.clone())),
                    Err(Error::NumbersUsedUp { what: found, .. }) if found == what => {
                        refused += 1;
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(refused == 1, "{what}: nothing is refused");
            assert!(matches!(store.clear(), Err(Error::NumbersUsedUp { .. })), "{what}");
            let backup = store.backup(Path::new("/backup"));
            assert!(backup.is_err(), "{what}: {backup:?}");
            drop(store);
            let numbers =
                disk.image().files.keys().filter(|path| path.extension().is_some_and(|s| s == "dat")).count();
            assert_eq!(numbers, manifest_of(&disk.image()).segments.len(), "{what}: something was made");
        }
        assert_eq!(lost(&disk, &ids), Vec::<String>::new(), "{what}");
    }
}
