//! A store that is moved, replaced or removed while a writer has it open: nothing is acknowledged, nothing is done to
//! what stands at its path, and what was accepted is where the store is.

use super::model::{DIM, DIR, identity, options, root};
use crate::sys::disk::fault::FaultDisk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Dir, Disk, Open, open_file};
use crate::sys::planted::{Bug, with};
use crate::types::error::{Error, Result};
use crate::{Durability, Metric, VectorStore, WriteBatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

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
        store.snapshot().expect("read").iter().map(|row| row.expect("read").0.to_string()).collect();
    ids.sort();
    ids
}

/// A disk with a store at [`DIR`], open for writing and with rows in two segments, and a closed one at [`OTHER`].
fn start() -> (SimDisk, VectorStore) {
    let disk = SimDisk::new(&root());
    let store = start_through(&disk, disk.clone());
    (disk, store)
}

/// The same, with the store open through a door of its own.
fn start_through(disk: &SimDisk, door: impl Disk + 'static) -> VectorStore {
    let other = create(disk.clone(), OTHER);
    other.put("theirs", &ROW).expect("stored");
    other.close().expect("closed");
    let store = create(door, DIR);
    for n in 0..12 {
        store.put(format!("old{n}").as_str(), &ROW).expect("stored");
        store.flush().expect("flushed");
    }
    store
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

/// A call that acknowledges something, and whether these ids are what it leaves.
type Call = (&'static str, fn(&VectorStore) -> Result<()>, fn(&[String]) -> bool);

fn has(ids: &[String], id: &str) -> bool {
    ids.iter().any(|found| found == id)
}

const CALLS: [Call; 10] = [
    (
        "a synced put",
        |store| store.write(WriteBatch::new().put("new", &ROW).durability(Durability::Sync)),
        |ids| has(ids, "new"),
    ),
    (
        "flush",
        |store| {
            store.put("new", &ROW)?;
            store.flush()
        },
        |ids| has(ids, "new"),
    ),
    ("flush of nothing", |store| store.flush(), |ids| ids.len() == 12),
    (
        "a synced delete",
        |store| store.delete_many_with(&["old1"], Some(Durability::Sync)).map(drop),
        |ids| ids.len() == 11 && !has(ids, "old1"),
    ),
    (
        "flush after a delete",
        |store| {
            store.delete("old1")?;
            store.flush()
        },
        |ids| ids.len() == 11 && !has(ids, "old1"),
    ),
    (
        "seal",
        |store| {
            (0..9).try_for_each(|n| {
                store.write(WriteBatch::new().put(&format!("new{n}"), &ROW).durability(Durability::Sync))
            })
        },
        |ids| ids.len() == 21,
    ),
    ("clear", |store| store.clear(), |ids| ids.is_empty()),
    (
        "compact",
        |store| {
            store.delete("old2")?;
            store.compact().map(drop)
        },
        |ids| ids.len() == 11 && !has(ids, "old2"),
    ),
    (
        "optimize",
        |store| {
            store.put("new", &ROW)?;
            store.optimize().map(drop)
        },
        |ids| has(ids, "new"),
    ),
    ("backup", |store| store.backup("/copy").map(drop), |ids| ids.len() == 12),
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

/// The ids that a power cut leaves at the least.
fn durable_ids(disk: &SimDisk, place: &str) -> Vec<String> {
    ids(&SimDisk::new(&disk.crash().image(&[])), place)
}

/// After a store was moved: it writes nothing any more, and what stands at its path is as it was.
fn check_stopped(
    disk: &SimDisk,
    store: VectorStore,
    there: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), String> {
    if store.put("later", &ROW).is_ok() {
        return Err("writing goes on".to_owned());
    }
    if store.close().is_ok() {
        return Err("it closes".to_owned());
    }
    let theirs = there.keys().any(|path| path.ends_with("MANIFEST"));
    if theirs && below(&disk.image(), DIR) != *there {
        return Err("what stands at the path has changed".to_owned());
    }
    Ok(())
}

/// The old rows that have to be there whether a call came to its end or not.
fn kept_by(call: &str) -> usize {
    if call.contains("clear") {
        0
    } else if call.contains("delete") || call == "compact" {
        11
    } else {
        12
    }
}

fn count_old(found: &[String]) -> usize {
    (0..12).filter(|n| has(found, &format!("old{n}"))).count()
}

fn try_one((accident, happens, place): Accident, (call, run, _): Call) -> Result<(), String> {
    let (disk, store) = start();
    happens(&disk);
    let there = below(&disk.image(), DIR);
    let outcome = run(&store);
    let what = format!("{call} of a store that was {accident}");
    match &outcome {
        Err(error) if is_moved(error) => {}
        other => return Err(format!("{what}: {other:?}")),
    }
    check_stopped(&disk, store, &there).map_err(|why| format!("{what}: {why}"))?;
    let Some(place) = place else { return Ok(()) };
    // Also after a power cut that keeps nothing unsynced.
    let found = durable_ids(&disk, place);
    if count_old(&found) < kept_by(call) || (call == "flush" && !has(&found, "new")) {
        return Err(format!("{what}: {found:?} are there"));
    }
    Ok(())
}

/// The accident before each call of the disk in turn: how many there are. What was acknowledged before somebody could
/// see it is where the store is now.
fn try_within((accident, happens, place): Accident, (call, run, leaves): Call) -> Result<usize, String> {
    for at in 0.. {
        crate::pair::files::seed_random(1);
        let disk = SimDisk::new(&root());
        let faulty = FaultDisk::new(Arc::new(disk.clone()), None);
        let store = start_through(&disk, faulty.clone());
        let there: Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>> = Arc::default();
        let (seen, sim) = (there.clone(), disk.clone());
        faulty.before(at, move || {
            happens(&sim);
            *seen.lock().expect("no panic") = below(&sim.image(), DIR);
        });
        let outcome = run(&store);
        if !faulty.was_done() {
            return Ok(at);
        }
        let what = format!("{call} of a store that was {accident} before call {at}");
        if let Err(error) = &outcome
            && !is_moved(error)
        {
            return Err(format!("{what}: {error:?}"));
        }
        match store.flush() {
            Err(error) if is_moved(&error) || matches!(error, Error::Poisoned { .. }) => {}
            other => return Err(format!("{what}: then {other:?}")),
        }
        let there = there.lock().expect("no panic").clone();
        check_stopped(&disk, store, &there).map_err(|why| format!("{what}: {why}"))?;
        let Some(place) = place else { continue };
        let found = durable_ids(&disk, place);
        if count_old(&found) < kept_by(call) || outcome.is_ok() && !leaves(&found) {
            return Err(format!("{what}: {outcome:?}, {found:?} are there"));
        }
    }
    unreachable!("a call ends")
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
fn a_store_that_is_moved_within_a_call_loses_nothing_and_touches_nothing() {
    let mut calls = 0;
    for accident in ACCIDENTS {
        for call in CALLS {
            calls += try_within(accident, call).unwrap_or_else(|why| panic!("{why}"));
        }
    }
    println!("{calls} calls of the disk with a move before them");
    assert!(calls > 1000, "{calls}");
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
        let error = store
            .write(WriteBatch::new().put("new", &ROW).durability(Durability::Sync))
            .expect_err("another may have come");
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
    store.write(WriteBatch::new().put("a", &ROW).durability(Durability::Sync)).expect("durable");
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
        crate::sys::disk::write_all_at(&*file, &bytes, 0).expect("written");
    }
    let error = store
        .write(WriteBatch::new().put("new", &ROW).durability(Durability::Sync))
        .expect_err("it is another one");
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
