//! A store that is moved, replaced or removed while a writer has it open: nothing is acknowledged, nothing is done to
//! what stands at its path, and what was accepted is where the store is.

use super::model::{DIM, DIR, identity, options, root};
use crate::disk::fault::FaultDisk;
use crate::disk::sim::{Image, SimDisk};
use crate::disk::{Dir, Disk, Open, open_file};
use crate::error::{Error, Result};
use crate::planted::{Bug, with};
use crate::{Durability, Metric, VectorStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ASIDE: &str = "/aside";
const OTHER: &str = "/other";

const ROW: [f32; DIM as usize] = [1.0; DIM as usize];

fn create(disk: impl Disk + 'static, path: &str) -> VectorStore {
    let door: Arc<dyn Disk> = Arc::new(disk);
    let options = options().segment_records(8).buffer_bytes(1 << 20);
    VectorStore::create_on(door, Path::new(path), DIM, Metric::L2, identity(), &options).expect("made")
}

fn open(disk: &SimDisk, path: &str) -> Result<VectorStore> {
    VectorStore::open_on(Arc::new(disk.clone()), Path::new(path), &options())
}

/// The ids of a store.
fn ids(disk: &SimDisk, path: &str) -> Vec<String> {
    let store = VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(path)).expect("a store");
    let mut ids: Vec<String> =
        store.iter().expect("read").map(|row| row.expect("read").0.to_string()).collect();
    ids.sort();
    ids
}

/// A disk with a store at [`DIR`], open for writing and with rows in two segments, and a closed one at [`OTHER`].
fn start() -> (SimDisk, VectorStore) {
    let disk = SimDisk::new(&root());
    let other = create(disk.clone(), OTHER);
    other.put("theirs", &ROW).expect("stored");
    other.close().expect("closed");
    let store = create(disk.clone(), DIR);
    for n in 0..12 {
        store.put(format!("old{n}").as_str(), &ROW).expect("stored");
        store.flush().expect("flushed");
    }
    (disk, store)
}

/// What happens to a store, and whether it is somewhere afterwards.
type Accident = (&'static str, fn(&SimDisk), Option<&'static str>);

const ACCIDENTS: [Accident; 5] = [
    ("moved aside", |disk| disk.move_dir(Path::new(DIR), Path::new(ASIDE)), Some(ASIDE)),
    (
        "replaced by another store",
        |disk| {
            disk.move_dir(Path::new(DIR), Path::new(ASIDE));
            disk.move_dir(Path::new(OTHER), Path::new(DIR));
        },
        Some(ASIDE),
    ),
    ("removed", |disk| disk.remove_dir_all(Path::new(DIR)), None),
    (
        "removed and another put there",
        |disk| {
            disk.remove_dir_all(Path::new(DIR));
            disk.move_dir(Path::new(OTHER), Path::new(DIR));
        },
        None,
    ),
    (
        "removed in part",
        |disk| {
            disk.remove_file(&Path::new(DIR).join("LOCK"));
            disk.remove_file(&Path::new(DIR).join("MANIFEST"));
        },
        None,
    ),
];

/// A call that acknowledges something.
type Call = (&'static str, fn(&VectorStore) -> Result<()>);

const CALLS: [Call; 9] = [
    ("a synced put", |store| store.put_with("new", &ROW, Some(Durability::Sync))),
    ("flush", |store| {
        store.put("new", &ROW)?;
        store.flush()
    }),
    ("flush of nothing", |store| store.flush()),
    ("a synced delete", |store| store.delete_many_with(&["old1"], Some(Durability::Sync)).map(drop)),
    ("flush after a delete", |store| {
        store.delete("old1")?;
        store.flush()
    }),
    ("seal", |store| {
        (0..9).try_for_each(|n| store.put_with(format!("new{n}").as_str(), &ROW, Some(Durability::Sync)))
    }),
    ("clear", |store| store.clear()),
    ("compact", |store| {
        store.delete("old2")?;
        store.compact().map(drop)
    }),
    ("backup", |store| store.backup("/copy").map(drop)),
];

fn is_moved(error: &Error) -> bool {
    matches!(error, Error::StoreMoved { .. } | Error::LockRemoved { .. })
}

/// The files below a directory.
fn below(image: &Image, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    image
        .files
        .iter()
        .filter(|(path, _)| path.starts_with(dir))
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect()
}

fn try_one((accident, happens, place): Accident, (call, run): Call) -> Result<(), String> {
    let (disk, store) = start();
    happens(&disk);
    let there = below(&disk.image(), DIR);
    let outcome = run(&store);
    let what = format!("{call} of a store that was {accident}");
    match &outcome {
        Err(error) if is_moved(error) => {}
        other => return Err(format!("{what}: {other:?}")),
    }
    if store.put("later", &ROW).is_ok() {
        return Err(format!("{what}: writing goes on"));
    }
    if store.close().is_ok() {
        return Err(format!("{what}: it closes"));
    }
    let after = below(&disk.image(), DIR);
    let theirs = there.keys().any(|path| path.ends_with("MANIFEST"));
    if theirs && after != there {
        return Err(format!("{what}: what stands at the path has changed"));
    }
    let Some(place) = place else { return Ok(()) };
    // Also after a power cut that keeps nothing unsynced.
    let crash = disk.crash();
    let cut = SimDisk::new(&crash.image(&vec![0; crash.options().len()]));
    let found = ids(&cut, place);
    let old = (0..12).filter(|n| found.contains(&format!("old{n}"))).count();
    let least = if call.contains("clear") {
        0
    } else if call.contains("delete") || call == "compact" {
        11
    } else {
        12
    };
    if old < least || (call == "flush" && !found.contains(&"new".to_owned())) {
        return Err(format!("{what}: {found:?} are there"));
    }
    Ok(())
}

fn try_all() -> Result<(), String> {
    for accident in ACCIDENTS {
        for call in CALLS {
            try_one(accident, call)?;
        }
    }
    Ok(())
}

#[test]
fn a_moved_store_acknowledges_nothing_and_touches_nothing() {
    try_all().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_writer_that_does_not_ask_where_it_is_is_caught() {
    with(Bug::IgnoreMove, || try_all().expect_err("not caught"));
}

#[test]
fn closing_and_deleting_nothing_ask_too() {
    for (accident, happens, _) in ACCIDENTS {
        let (disk, store) = start();
        happens(&disk);
        let there = disk.image();
        let error = store.close().expect_err(accident);
        assert!(is_moved(&error), "{accident}: {error}");
        assert!(disk.image() == there, "{accident}: no CLOSE, nothing cut");
    }
}

#[test]
fn a_store_that_was_moved_back_goes_on() {
    let (disk, store) = start();
    disk.move_dir(Path::new(DIR), Path::new(ASIDE));
    store.put("new", &ROW).expect("accepted");
    disk.move_dir(Path::new(ASIDE), Path::new(DIR));
    store.flush().expect("flushed");
    store.close().expect("closed");
    assert!(ids(&disk, DIR).contains(&"new".to_owned()));
}

/// LOCK is the only thing that is gone, or another one.
#[test]
fn a_removed_lock_stops_the_writer_and_lets_no_other_in() {
    for remade in [false, true] {
        let (disk, store) = start();
        let lock = Path::new(DIR).join("LOCK");
        disk.remove_file(&lock);
        if remade {
            open_file(disk.clone(), &lock, Open::CreateNew).expect("made");
        }
        let second = open(&disk, DIR).expect_err("the directory is locked");
        assert!(matches!(second, Error::Locked { .. }), "{second}");
        let error = store.put_with("new", &ROW, Some(Durability::Sync)).expect_err("another may have come");
        assert!(matches!(error, Error::LockRemoved { .. }), "{error}");
        drop(store);
        open(&disk, DIR).expect("nobody holds it").close().expect("closed");
    }
}

/// An error that says nothing about where the store is: not acknowledged, asked again, nothing stops.
#[test]
fn what_cannot_be_looked_at_is_asked_again() {
    // EACCES (as of a process that gave up its privileges), EIO, ELOOP, ENAMETOOLONG, ENOMEM, EMFILE, ESTALE.
    for code in [13, 5, 40, 36, 12, 24, 116] {
        for call in ["look", "stat"] {
            let faulty = FaultDisk::new(Arc::new(SimDisk::new(&root())), None);
            let store = create(faulty.clone(), DIR);
            store.put("a", &ROW).expect("accepted");
            faulty.fail_calls_named(call, code);
            for _ in 0..2 {
                let error = store.flush().expect_err("nobody knows where it is");
                assert!(matches!(&error, Error::Io { .. }), "{call}, {code}: {error}");
            }
            faulty.heal();
            store.flush().expect("flushed");
            store.close().expect("closed");
        }
    }
}

/// A file system that gives an open directory another inode: its LOCK has our token.
#[test]
fn inodes_that_change_are_no_move() {
    let faulty = FaultDisk::new(Arc::new(SimDisk::new(&root())), None);
    let store = create(faulty.clone(), DIR);
    faulty.change_inodes();
    store.put_with("a", &ROW, Some(Durability::Sync)).expect("durable");
    assert!(store.stats().expect("counted").unsteady_inodes);
    store.close().expect("closed");
}

/// A copy of the whole store, LOCK and its token included, is another store.
#[test]
fn a_copy_in_its_place_is_a_move() {
    let (disk, store) = start();
    disk.move_dir(Path::new(DIR), Path::new(ASIDE));
    let image = disk.image();
    let root: Arc<dyn Disk> = Arc::new(disk.clone());
    Dir::open(&root, Path::new("/")).and_then(|dir| dir.create_dir(Path::new(DIR))).expect("made");
    for (path, bytes) in below(&image, ASIDE) {
        let copy = Path::new(DIR).join(path.file_name().expect("a name"));
        let file = open_file(disk.clone(), &copy, Open::CreateNew).expect("made");
        crate::disk::write_all_at(&*file, &bytes, 0).expect("written");
    }
    let error = store.put_with("new", &ROW, Some(Durability::Sync)).expect_err("it is another one");
    assert!(matches!(error, Error::StoreMoved { .. }), "{error}");
}

/// What a link shares is not written to.
#[test]
fn a_copy_made_of_hard_links_is_refused() {
    for (name, refused) in
        [("LOCK", true), ("00000002.idx", true), ("00000002.dat", true), ("00000001.dat", false)]
    {
        let (disk, store) = start();
        store.close().expect("closed");
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let dir = |path| Dir::open(&door, Path::new(path)).expect("it is there");
        let (from, to) = (dir(DIR), dir("/"));
        from.link(&from.join(name), &to, Path::new("/link")).expect("linked");
        let before = disk.image();
        match open(&disk, DIR) {
            Err(error) => {
                assert!(refused && matches!(error, Error::Linked { .. }), "{name}: {error}");
                assert_eq!(disk.image(), before);
            }
            Ok(_) => assert!(!refused, "{name} was accepted"),
        }
    }
}
