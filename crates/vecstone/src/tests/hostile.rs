//! Files whose checksums are right and whose numbers make no sense: refused by name, or harmless.

use super::model::{DIM, DIR, identity, options, root};
use crate::format::header::Header;
use crate::format::manifest::{MAX_NUMBER, Manifest};
use crate::format::record::FileRecord;
use crate::format::{Identity, MAX_SEQ};
use crate::pair::VectorStorage;
use crate::pair::files::StoreFile;
use crate::pair::rows::Doc;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::{Content, Ids};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Dir, Disk, Open, open_file};
use crate::sys::planted::{Bug, with};
use crate::types::element::Element;
use crate::types::id::IdHasher;
use crate::{Durability, Error, Metric, OpenOptions, VectorStore, WriteBatch};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What makes a MANIFEST wrong.
type Spoil<'a> = &'a dyn Fn(&mut Manifest);
/// Rows that are said to be dead, and cross-segment deletes.
type Lie = (&'static [u32], &'static [(u32, u32)]);

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

/// Files with the names of the next segment are not ours: they stay, and the store goes on beside them.
fn a_name_of_others_is_gone_past() -> bool {
    let disk = SimDisk::new(&store(&options()));
    let store = open(&disk, &options().segment_records(4)).expect("opens");
    let name = file(&format!("{:08}.idx", manifest_of(&disk.image()).next_segment));
    let stranger = open_file(disk.clone(), &name, Open::CreateNew).expect("made");
    stranger.write_at(b"not ours", 0).expect("written");
    for id in ["n", "o", "p", "q", "r"] {
        store.put(id, &vector(id)).and_then(|()| store.flush()).expect("stored");
    }
    store.clear().expect("cleared");
    disk.image().files.get(&name).is_some_and(|bytes| bytes == b"not ours")
}

/// A pair that cannot be made, since somebody has taken one of its names meanwhile, removes what it made and no more.
fn files_of_others_stay_now() -> bool {
    ["dat", "idx"].iter().all(|taken| {
        let image = store(&options());
        let disk = SimDisk::new(&image);
        let path = file("00000099");
        let name = path.with_extension(taken);
        let stranger = open_file(disk.clone(), &name, Open::CreateNew).expect("made");
        stranger.write_at(b"not ours", 0).expect("written");
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let dir = Dir::open(&door, Path::new(DIR)).expect("opens");
        let header = Header { dim: DIM, element: Element::F32, identity: identity() };
        let made = VectorStorage::create_in(&dir, &path, FileRecord { header, seq: 0, chain: [0; 16] }, 1);
        let refused = matches!(made, Err(Error::AlreadyExists { path }) if path == name);
        let mut after = disk.image().files;
        let kept = after.remove(&name).is_some_and(|bytes| bytes == b"not ours");
        refused && kept && after == image.files
    })
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
    assert!(a_name_of_others_is_gone_past());
}

#[test]
fn numbers_that_contradict_each_other_are_refused_by_file_and_offset() {
    let image = store(&options());
    let cases: [(Spoil<'_>, u64); 8] = [
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
    let cases: [(Spoil<'_>, &str); 3] = [
        (&|m| m.next_segment = MAX_NUMBER, "segment numbers"),
        (&last_segment, "segment numbers"),
        (&|m| m.number = MAX_SEQ, "MANIFEST numbers"),
    ];
    for (change, what) in cases {
        let disk = SimDisk::new(&with_manifest(&image, change));
        let mut ids: Vec<String> = LIVE.iter().map(ToString::to_string).collect();
        for round in 0..3 {
            let store = open(&disk, &options().segment_records(4)).expect("opens");
            let names: Vec<String> = (0..9).map(|n| format!("{round}-{n}")).collect();
            let mut refused = 0;
            for id in &names {
                match store
                    .write(WriteBatch::new().put_many(&[&**id], &vector(id)).durability(Durability::Sync))
                {
                    Ok(()) => ids.push(id.clone()),
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
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert_eq!(lost(&disk, &ids), Vec::<String>::new(), "{what}");
    }
}

/// A list of dead rows is as long as MANIFEST says, which is no longer than its rows need: more of it is not read.
#[test]
fn a_list_of_another_length_is_refused_by_its_length() {
    let image = store(&options());
    let is_list = |path: &&PathBuf| path.extension().is_some_and(|suffix| suffix == "del");
    let list = image.files.keys().find(is_list).expect("rows of sealed segments are dead").clone();
    for len in [0, 1, image.files[&list].len() - 1, image.files[&list].len() + 1, 1 << 20] {
        let mut image = image.clone();
        image.files.get_mut(&list).expect("there").resize(len, 0);
        let error = open(&SimDisk::new(&image), &options()).expect_err("refused");
        assert!(matches!(&error, Error::Corrupt { path, .. } if *path == list), "{len}: {error}");
    }
}

/// Nobody asks for memory by the length of a line that no document can have.
#[test]
fn a_line_longer_than_any_is_refused_before_it_is_read() {
    let disk = SimDisk::new(&store(&options()));
    let path = file("00000001.idx");
    let named = StoreFile { path: path.clone(), file: open_file(disk, &path, Open::Read).expect("there") };
    for len in [(1 << 30) + 1, u32::MAX] {
        let line = Doc { at: 0, len, crc: 0 };
        let error = named.check_end(line, u64::MAX).expect_err("refused");
        assert!(matches!(error, Error::Corrupt { offset: 0, .. }), "{error}");
    }
    assert!(named.check_end(Doc { at: 0, len: 1 << 30, crc: 0 }, u64::MAX).is_ok());
}

const SEALED: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const ACTIVE: [&str; 5] = ["a", "i", "j", "k", "i"];

/// A sealed segment, and an active one with an `.ids` that says these rows are dead, and those of other segments.
fn with_ids(dead: &[u32], cross_deletes: &[(u32, u32)]) -> Image {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options().segment_records(8);
    let store = VectorStore::create_on(door.clone(), Path::new(DIR), DIM, Metric::L2, identity(), &options);
    let store = store.expect("made");
    let rows = |ids: &[&str]| ids.iter().flat_map(|id| vector(id)).collect::<Vec<f32>>();
    store.put_many(&SEALED, &rows(&SEALED)).and_then(|()| store.flush()).expect("stored");
    ACTIVE.iter().for_each(|id| store.put(id, &vector(id)).expect("stored"));
    store.close().expect("closed");
    let entry = manifest_of(&disk.image()).segments.last().expect("active").clone();
    let dir = Dir::open(&door, Path::new(DIR)).expect("there");
    let pair = file(&format!("{:08}", entry.number));
    let identity = Identity { segment: entry.number, salt: entry.salt, ..identity() };
    let path = pair.with_extension("ids");
    let named = StoreFile { path: path.clone(), file: dir.open_file(&path, Open::Read).expect("written") };
    let honest = Ids::open(named, &identity).expect("readable").expect("whole");
    let said = (honest.dead().expect("whole"), honest.cross_deletes().expect("whole"));
    assert_eq!(said, (mask_of(&[1]).to_roaring(), vec![(1, 0)]), "what the log says");
    let hasher = IdHasher::new(&identity.uuid);
    let live = [("a", 0), ("i", 4), ("j", 2), ("k", 3)].map(|(id, row)| (hasher.hash(id.as_bytes()), row));
    let row = |row: u32| honest.row(row).expect("whole");
    let (point, dead) = (*honest.point(), mask_of(dead).to_roaring());
    let content = Content { point, row: &row, live: live.to_vec(), dead: &dead, cross_deletes };
    dir.unlink(&path).expect("removed");
    let named = StoreFile { path: path.clone(), file: dir.open_file(&path, Open::CreateNew).expect("made") };
    crate::segment::ids::write(&named, &content).expect("written");
    disk.image()
}

fn mask_of(rows: &[u32]) -> DeletionVector {
    let mut deletions = DeletionVector::default();
    rows.iter().for_each(|&row| _ = deletions.delete_row(row));
    deletions
}

const ALL: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];

/// Dead rows and cross-segment deletes that the log does not know: hidden until the first seal or compaction, lost never.
fn what_only_ids_says_kills_nothing_now() -> Result<(), String> {
    let lies: [Lie; 6] = [
        (&[1, 2], &[(1, 0)]),
        (&[1], &[(1, 0), (1, 1), (1, 5)]),
        (&[], &[(1, 0)]),
        (&[1], &[]),
        (&[1], &[(1, 0), (1, 8)]),
        (&[1], &[(1, 0), (7, 0)]),
    ];
    for (dead, cross_deletes) in lies {
        for hidden in [None, Some("b"), Some("j")] {
            let disk = SimDisk::new(&with_ids(dead, cross_deletes));
            let store = open(&disk, &options().segment_records(8))
                .map_err(|e| format!("{dead:?} {cross_deletes:?}: {e}"))?;
            if let Some(id) = hidden {
                store.put(id, &vector(id)).expect("stored");
            }
            for id in ["x1", "x2", "x3", "x4"] {
                store.put(id, &vector(id)).expect("stored");
            }
            store.compact().expect("compacted");
            store.close().expect("closed");
            let reader =
                VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR)).expect("opens");
            let mut ids: Vec<String> = reader
                .snapshot()
                .expect("read")
                .iter()
                .map(|row| format!("{:?}", row.expect("read").0))
                .collect();
            ids.sort();
            let twice = ids.windows(2).any(|pair| pair[0] == pair[1]);
            let lost = lost(&disk, &ALL);
            if twice || !lost.is_empty() || ids.len() != ALL.len() + 4 {
                return Err(format!(
                    "dead {dead:?}, cross_deletes {cross_deletes:?}, put {hidden:?}: lost {lost:?}, there {ids:?}"
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn lying_ids_catch(bug: Bug) -> bool {
    with(bug, || what_only_ids_says_kills_nothing_now().is_err())
}

#[test]
fn what_only_ids_says_kills_nothing() {
    what_only_ids_says_kills_nothing_now().expect("the log decides");
}

#[test]
fn stats_say_that_ids_differed() {
    let open = |dead: &[u32]| open(&SimDisk::new(&with_ids(dead, &[(1, 0)])), &options()).expect("opens");
    for (dead, differs) in [(&[1][..], false), (&[1, 2], true)] {
        let store = open(dead);
        assert_eq!(store.stats().expect("known").ids_error, None);
        assert_eq!(store.get("j").expect("read").is_none(), differs, "hidden until then");
        store.put("y", &vector("y")).and_then(|()| store.compact()).expect("compacted");
        let error = store.stats().expect("known").ids_error;
        assert_eq!(error.is_some_and(|text| text.contains(".ids")), differs);
        assert_eq!(store.get("j").expect("read"), Some(vector("j")));
    }
}
