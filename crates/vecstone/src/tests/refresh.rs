//! A reader whose path comes to name another store: made anew, restored from a backup, an older copy.

use super::beside::{everything, put_back};
use super::model::{Content, DIR, look, options, root};
use crate::format::Identity;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Dir, Disk, Open, open_file, write_all_at};
use crate::types::error::{Error, Result};
use crate::{Metric, VectorStore};
use std::path::Path;
use std::sync::Arc;

/// What a disk holds after `act` on a new store.
fn made(uuid: u8, dim: u32, metric: Metric, act: impl Fn(&VectorStore) -> Result<()>) -> Image {
    crate::pair::files::seed_random(uuid.into());
    let disk = SimDisk::new(&root());
    let identity = Identity { uuid: [uuid; 16], segment: 1, salt: [uuid; 16] };
    let store = VectorStore::create_on(
        Arc::new(disk.clone()),
        Path::new(DIR),
        dim,
        metric,
        identity,
        &options().segment_records(3),
    );
    let store = store.expect("a store");
    act(&store).and_then(|()| store.close()).expect("written");
    disk.image()
}

/// What a disk holds after `act` on the store that it held before. The same acts give the same bytes.
fn on(image: &Image, act: impl Fn(&VectorStore) -> Result<()>) -> Image {
    crate::pair::files::seed_random(77);
    let disk = SimDisk::new(image);
    let options = options().segment_records(3);
    let store = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options).expect("a store");
    act(&store).and_then(|()| store.close()).expect("written");
    disk.image()
}

/// Puts ids with documents, each in a batch of its own; all numbers depend on `x`.
fn put(store: &VectorStore, ids: &[&str], x: f32) -> Result<()> {
    for (id, n) in ids.iter().zip(0u8..) {
        let vector = [x, f32::from(n), x * 0.5, 1.0];
        store.put_with_document(*id, &vector[..store.dim()], &format!("{{\"v\":{x}}}"))?;
    }
    store.flush()
}

/// A store, and another one that takes its place.
type Case = (&'static str, Image, Image);

fn cases() -> Vec<Case> {
    const SOME: [&str; 5] = ["a", "b", "c", "d", "e"];
    let first = made(7, 4, Metric::L2, |store| put(store, &SOME, 1.0));
    let numbers = made(9, 2, Metric::Ip, |store| {
        for id in 1..=5u64 {
            store.put_with_document(id, &[0.5, 2.0], "{\"v\":3}")?;
        }
        store.flush()
    });
    let empty = made(5, 2, Metric::Ip, |_| Ok(()));
    let again = |x| made(8, 4, Metric::L2, move |store| put(store, &SOME, x));
    let more = |x| on(&first, move |store| put(store, &["f", "g", "b"], x));
    let one = |x: f32| on(&first, move |store| put(store, &["q"], x));
    let emptied = on(&first, VectorStore::clear);
    vec![
        ("made anew, with another dimension, metric and kind of ids", first.clone(), numbers.clone()),
        ("made anew under the same numbers", first.clone(), again(2.0)),
        ("made anew and empty, with another dimension", first.clone(), empty.clone()),
        ("a store with rows where there was an empty one", empty, numbers),
        ("restored, with a lower number", more(1.0), first.clone()),
        ("restored and written on, with the same number", more(1.0), more(2.0)),
        ("restored and written on, with a higher number", more(1.0), {
            on(&more(2.0), |store| put(store, &["h", "i", "j", "k"], 3.0))
        }),
        ("an older log under the same MANIFEST", one(1.0), first.clone()),
        ("another log of the same length under the same MANIFEST", one(1.0), one(2.0)),
        ("a longer log under the same MANIFEST", first.clone(), one(2.0)),
        ("emptied", first.clone(), emptied.clone()),
        ("restored after it was emptied", emptied, first),
    ]
}

/// How it comes to stand there.
type Way = fn(&SimDisk, &Image);

const WAYS: [(&str, Way); 3] = [
    ("moved there", |disk, image| {
        disk.move_dir(Path::new(DIR), Path::new("/aside"));
        make_dir(disk, image);
    }),
    ("made after the other was removed", |disk, image| {
        disk.remove_dir_all(Path::new(DIR));
        make_dir(disk, image);
    }),
    ("put there file by file", put_back),
];

fn make_dir(disk: &SimDisk, image: &Image) {
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    Dir::open(&door, Path::new("/")).and_then(|root| root.create_dir(Path::new(DIR))).expect("made");
    for (path, bytes) in &image.files {
        let file = open_file(disk.clone(), path, Open::CreateNew).expect("a new file");
        write_all_at(&*file, bytes, 0).expect("written");
    }
}

fn open(disk: &SimDisk) -> Result<VectorStore> {
    VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR))
}

fn replace((_, before, after): &Case, place: fn(&SimDisk, &Image)) -> Result<()> {
    let disk = SimDisk::new(before);
    let reader = open(&disk)?;
    let (snapshot, shown) = (reader.snapshot()?, everything(&reader)?);
    let schema = (snapshot.dim(), snapshot.metric(), snapshot.kind());
    place(&disk, after);
    assert!(reader.refresh()?, "nothing new");
    let (fresh, now) = look(&disk, false)?.expect("a store");
    assert_eq!(everything(&reader)?, now);
    assert_eq!((reader.dim(), reader.metric(), reader.kind()), (fresh.dim(), fresh.metric(), fresh.kind()));
    assert!(reader.verify()?.is_ok());
    reader.backup("/copy")?;
    let copy = VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new("/copy"))?;
    assert_eq!(everything(&copy)?, now);
    assert_eq!(Content::of(&snapshot)?, shown);
    assert_eq!((snapshot.dim(), snapshot.metric(), snapshot.kind()), schema);
    assert!(!reader.refresh()?, "the same once more");
    // It reads on in the new one as it did in the old.
    let writer = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options())?;
    match writer.dim() {
        2 => writer.put(99u64, &[4.0, 5.0])?,
        _ => put(&writer, &["z", "a"], 6.0)?,
    }
    writer.flush()?;
    assert!(reader.refresh()?);
    assert_eq!(everything(&reader)?, everything(&writer)?);
    Ok(())
}

/// Puts each store in the place of each other, in each way.
pub(super) fn replace_in_each_way() -> std::result::Result<(), String> {
    for case in cases() {
        for (way, place) in WAYS {
            replace(&case, place).map_err(|error| format!("{}, {way}: {error}", case.0))?;
        }
    }
    Ok(())
}

#[test]
fn a_refresh_shows_the_store_that_the_path_names_now_whole() {
    replace_in_each_way().unwrap_or_else(|why| panic!("{why}"));
}

/// What is no store, and what the reader says of it.
type Wreck = (&'static str, fn(&SimDisk), fn(&Error) -> bool);

#[test]
fn where_there_is_no_store_a_reader_says_so_and_shows_what_it_showed() {
    let image = made(7, 4, Metric::L2, |store| put(store, &["a", "b", "c", "d"], 1.0));
    let wrecks: [Wreck; 6] = [
        ("gone", |disk| disk.remove_dir_all(Path::new(DIR)), |e| matches!(e, Error::NotFound { .. })),
        (
            "empty",
            |disk| {
                disk.remove_dir_all(Path::new(DIR));
                make_dir(disk, &Image::default());
            },
            |e| matches!(e, Error::NotFound { .. }),
        ),
        (
            "half made",
            |disk| {
                disk.remove_dir_all(Path::new(DIR));
                let files = [(Path::new(DIR).join("LOCK"), Vec::new())].into();
                make_dir(disk, &Image { files, ..Image::default() });
            },
            |e| matches!(e, Error::IncompleteCreate { .. }),
        ),
        ("without MANIFEST", |disk| disk.remove_file(&Path::new(DIR).join("MANIFEST")), Error::is_corrupt),
        (
            "with a MANIFEST that is none",
            |disk| {
                let path = Path::new(DIR).join("MANIFEST");
                disk.remove_file(&path);
                let file = open_file(disk.clone(), &path, Open::CreateNew).expect("a new file");
                write_all_at(&*file, b"hello", 0).expect("written");
            },
            Error::is_corrupt,
        ),
        (
            "another store without a file",
            |disk| {
                put_back(disk, &made(8, 4, Metric::L2, |store| put(store, &["a", "b", "c", "d"], 2.0)));
                disk.remove_file(&Path::new(DIR).join("00000001.idx"));
            },
            Error::is_corrupt,
        ),
    ];
    for (name, wreck, right) in wrecks {
        let disk = SimDisk::new(&image);
        let reader = open(&disk).expect("a store");
        let before = everything(&reader).expect("readable");
        wreck(&disk);
        for _ in 0..2 {
            let error = reader.refresh().expect_err(name);
            assert!(right(&error), "{name}: {error}");
            let snapshot = reader.snapshot().expect("there");
            assert_eq!(Content::of(&snapshot).expect("readable"), before, "{name}");
        }
        if look(&disk, false).is_ok_and(|found| found.is_none()) && disk.image().dirs.contains(Path::new(DIR))
        {
            disk.remove_dir_all(Path::new(DIR));
        }
        match disk.image().dirs.contains(Path::new(DIR)) {
            true => put_back(&disk, &image),
            false => make_dir(&disk, &image),
        }
        reader.refresh().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(everything(&reader).expect("readable"), before, "{name}");
    }
}

/// What a refresh did before it failed does no harm to the next one.
#[test]
fn a_refresh_that_failed_is_repeated() {
    let image = made(7, 4, Metric::L2, |store| put(store, &["a", "b", "c", "d"], 1.0));
    let acts: [fn(&VectorStore) -> Result<()>; 3] = [
        |store| put(store, &["b", "e"], 2.0),
        |store| store.delete_many(&["a", "d"]).and_then(|_| store.flush()),
        |store| put(store, &["e", "f", "g", "h"], 2.0).and_then(|()| store.compact().map(drop)),
    ];
    for (n, act) in acts.into_iter().enumerate() {
        for call in 0.. {
            let disk = SimDisk::new(&image);
            let door = FaultDisk::new(Arc::new(disk.clone()), None);
            let reader =
                VectorStore::open_read_only_on(Arc::new(door.clone()), Path::new(DIR)).expect("a store");
            let before = everything(&reader).expect("readable");
            let options = options().segment_records(5);
            let writer =
                VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options).expect("opened");
            act(&writer).expect("written");
            door.plan(Plan { call, fault: Fault::Os(5), for_ever: false });
            let first = reader.refresh();
            let hit = door.was_hit();
            door.heal();
            let now = everything(&writer).expect("readable");
            let shown = everything(&reader).unwrap_or_else(|e| panic!("{n}, {call}: {e}"));
            assert_eq!(shown, if first.is_ok() { now.clone() } else { before }, "{n}, {call}: {first:?}");
            reader.refresh().unwrap_or_else(|e| panic!("{n}, {call}: {e}"));
            assert_eq!(everything(&reader).expect("readable"), now, "{n}, {call}");
            if !hit {
                assert!(call > 10, "{n}: {call}");
                break;
            }
        }
    }
}
