//! Real directories that are moved, linked and removed under a writer.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "a test may look at the files")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use vecstone::{Durability, Error, Metric, OpenOptions, VectorStore, WriteBatch};

const ROW: [f32; 2] = [1.0, 2.0];

fn create(path: &Path) -> VectorStore {
    VectorStore::create(path, 2, Metric::L2).expect("made")
}

fn put(store: &VectorStore, id: &str) -> vecstone::Result<()> {
    store.write(WriteBatch::new().put(id, &ROW).durability(Durability::Sync))
}

fn ids(path: &Path) -> usize {
    VectorStore::open_read_only(path).expect("opened").len().expect("counted")
}

#[test]
fn a_store_removed_and_made_anew_is_another_one() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("s");
    let old = create(&path);
    put(&old, "a").expect("stored");
    fs::remove_dir_all(&path).expect("removed");
    let error = put(&old, "b").expect_err("it is gone");
    assert!(matches!(error, Error::StoreMoved { .. }), "{error}");
    let new = create(&path);
    put(&new, "theirs").expect("stored");
    old.clear().expect_err("writing stopped");
    old.close().expect_err("writing stopped");
    put(&new, "more").expect("stored");
    new.close().expect("closed");
    assert_eq!(ids(&path), 2);
}

#[test]
fn the_flip_of_a_link_is_a_move() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| place.path().join(name);
    create(&at("one")).close().expect("closed");
    create(&at("two")).close().expect("closed");
    symlink(at("one"), at("s")).expect("linked");
    let store = VectorStore::open(at("s")).expect("opened");
    put(&store, "a").expect("stored");
    fs::remove_file(at("s")).expect("removed");
    symlink(at("two"), at("s")).expect("linked");
    let error = put(&store, "b").expect_err("the path leads elsewhere");
    assert!(matches!(error, Error::StoreMoved { .. }), "{error}");
    drop(store);
    assert_eq!((ids(&at("one")), ids(&at("two"))), (2, 0), "what was accepted is where the store is");
}

#[test]
fn a_store_moved_there_and_back_goes_on() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| place.path().join(name);
    let store = create(&at("s"));
    fs::rename(at("s"), at("t")).expect("moved");
    store.put("a", &ROW).expect("accepted");
    fs::rename(at("t"), at("s")).expect("moved back");
    store.flush().expect("flushed");
    store.close().expect("closed");
    assert_eq!(ids(&at("s")), 1);
}

#[test]
fn without_lock_there_is_still_one_writer() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("s");
    let store = create(&path);
    fs::remove_file(path.join("LOCK")).expect("removed");
    let error = VectorStore::open(&path).expect_err("it is being written to");
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(!path.join("LOCK").exists(), "who cannot write makes nothing");
    fs::write(path.join("LOCK"), "").expect("made");
    VectorStore::open(&path).expect_err("it is being written to");
    let error = put(&store, "a").expect_err("another may have come");
    assert!(matches!(error, Error::LockRemoved { .. }), "{error}");
    drop(store);
    VectorStore::open(&path).expect("nobody writes").close().expect("closed");
}

/// A copy of a store whose files are symbolic links to it.
fn linked(place: &Path, from: &Path) -> PathBuf {
    let path = place.join("linked");
    fs::create_dir(&path).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let name = entry.expect("listed").file_name();
        symlink(from.join(&name), path.join(&name)).expect("linked");
    }
    path
}

#[test]
fn a_store_of_links_is_read_and_not_written() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let from = place.path().join("s");
    let options = OpenOptions::new().segment_records(2);
    let store = options.create(&from, 2, Metric::L2).expect("made");
    for id in ["a", "b", "c"] {
        store.put_with_document(id, &ROW, "{}").expect("stored");
    }
    store.close().expect("closed");
    let path = linked(place.path(), &from);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&path).expect("listed").map(|e| e.expect("listed").file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let error = VectorStore::open(&path).expect_err("it would write behind the links");
    assert!(matches!(error, Error::Linked { .. }), "{error}");
    assert_eq!(names(), before);
    assert!(VectorStore::verify_path(&path).expect("read").is_ok());
    let reader = VectorStore::open_read_only(&path).expect("opened");
    assert_eq!(reader.get_document("b").expect("read").as_deref(), Some("{}"));
    reader.backup(place.path().join("backup")).expect("copied");
    VectorStore::repair(&path, place.path().join("repaired")).expect("repaired");
    drop(reader);
    fs::remove_dir_all(&from).expect("removed");
    for name in ["backup", "repaired"] {
        let copy = place.path().join(name);
        assert_eq!(ids(&copy), 3);
        assert!(VectorStore::verify_path(&copy).expect("read").is_ok());
        VectorStore::open(&copy).expect("a store of its own").close().expect("closed");
    }
}

#[test]
fn a_copy_made_of_hard_links_is_not_written() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let (from, to) = (place.path().join("s"), place.path().join("t"));
    let store = create(&from);
    put(&store, "a").expect("stored");
    store.close().expect("closed");
    fs::create_dir(&to).expect("made");
    for entry in fs::read_dir(&from).expect("listed") {
        let name = entry.expect("listed").file_name();
        fs::hard_link(from.join(&name), to.join(&name)).expect("linked");
    }
    let error = VectorStore::open(&to).expect_err("both would be written to");
    assert!(matches!(error, Error::Linked { .. }), "{error}");
    assert_eq!(ids(&to), 1);
    fs::remove_dir_all(&to).expect("removed");
    VectorStore::open(&from).expect("its files have one name again").close().expect("closed");
}

/// Each needs descriptors and two locks that a fork knows of.
#[test]
fn a_thousand_stores_are_open_at_once() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).expect("up to the hard limit");
    let options = OpenOptions::new().without_background();
    let stores: Vec<VectorStore> = (0..1024)
        .map(|n| {
            let path = place.path().join(n.to_string());
            let store = options.create(&path, 2, Metric::L2).expect("made");
            store.put("a", &ROW).expect("stored");
            store
        })
        .collect();
    stores.iter().for_each(|store| store.flush().expect("flushed"));
}
