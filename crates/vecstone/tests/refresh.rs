//! A reader and the files of its store on the real disk: another store takes the place of its own, and it lets go of what
//! it no longer shows.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss, reason = "a test may look at the files")]

mod helpers;

use helpers::temp;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vecstone::{AsId, Error, IdKind, Metric, OpenOptions, Snapshot, VectorStore};

fn options() -> OpenOptions {
    OpenOptions::new().segment_records(100)
}

/// A store of `rows` rows with documents, all of whose numbers depend on `x`.
fn make(path: &Path, dim: u32, metric: Metric, rows: u64, x: f32) {
    let store = options().create(path, dim, metric).expect("made");
    put(&store, 0..rows, x);
    store.close().expect("closed");
}

fn put(store: &VectorStore, ids: std::ops::Range<u64>, x: f32) {
    for id in ids {
        let vector = vec![x + id as f32; store.dim()];
        store.put_with_document(id, &vector, &format!("{{\"x\":{x}}}")).expect("put");
    }
    store.flush().expect("flushed");
}

fn open(path: &Path) -> VectorStore {
    options().open(path).expect("opened")
}

type Rows = BTreeMap<String, (Vec<f32>, Option<String>)>;

/// All that a snapshot shows; each way to ask has to agree.
fn content(snapshot: &Snapshot) -> Rows {
    let mut rows = Rows::new();
    for item in snapshot.iter_with_documents() {
        let (id, vector, document) = item.expect("readable");
        assert_eq!(snapshot.get(&id).expect("readable").as_ref(), Some(&vector));
        rows.insert(id.to_string(), (vector, document));
    }
    assert_eq!(snapshot.len(), rows.len());
    if snapshot.dim() > 0 {
        let found = snapshot.search(&vec![1.0; snapshot.dim()], rows.len() + 1).expect("found");
        assert_eq!(found.len(), rows.len());
    }
    rows
}

/// What the handle shows is what anyone sees who opens the path now.
fn shows_what_is_there(reader: &VectorStore, path: &Path) {
    let fresh = VectorStore::open_read_only(path).expect("opened");
    let (shown, now) = (reader.snapshot().expect("there"), fresh.snapshot().expect("there"));
    assert_eq!(content(&shown), content(&now));
    let schema = |store: &VectorStore| (store.dim(), store.metric(), store.kind());
    assert_eq!(schema(reader), schema(&fresh));
    let (stats, there) = (reader.stats().expect("there"), fresh.stats().expect("there"));
    assert_eq!((stats.rows, stats.live, stats.bytes), (there.rows, there.live, there.bytes));
    assert!(reader.verify().expect("readable").is_ok());
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp is there").success());
}

#[test]
fn a_directory_made_anew_is_another_store_whatever_its_number() {
    let (_dir, path) = temp();
    make(&path, 8, Metric::L2, 250, 1.0);
    let reader = VectorStore::open_read_only(&path).expect("opened");
    for round in 0..20u32 {
        fs::remove_dir_all(&path).expect("removed");
        // File systems like to give the number of a directory that was just removed to the next one.
        let (dim, metric) = if round % 2 == 0 { (4, Metric::Ip) } else { (8, Metric::L2) };
        make(&path, dim, metric, 250, round as f32);
        assert!(reader.refresh().expect("refreshed"));
        shows_what_is_there(&reader, &path);
    }
}

#[test]
fn a_backup_put_back_shows_with_a_lower_an_equal_and_a_higher_number() {
    for in_place in [false, true] {
        let (dir, path) = temp();
        let aside = |name: &str| dir.path().join(name);
        make(&path, 8, Metric::L2, 250, 1.0);
        let store = open(&path);
        store.backup(aside("backup")).expect("copied");
        put(&store, 100..600, 2.0);
        store.close().expect("closed");
        copy(&path, &aside("copy"));
        let written_on = open(&aside("copy"));
        put(&written_on, 0..450, 3.0);
        written_on.close().expect("closed");
        let reader = VectorStore::open_read_only(&path).expect("opened");
        for (n, name) in ["backup", "copy", "backup", "copy"].into_iter().enumerate() {
            let before = reader.snapshot().expect("there");
            let shown = content(&before);
            if in_place {
                for entry in fs::read_dir(&path).expect("there") {
                    fs::remove_file(entry.expect("an entry").path()).expect("removed");
                }
                copy(&aside(name).join("."), &path);
            } else {
                fs::rename(&path, aside(&format!("old-{n}"))).expect("moved");
                let error = reader.refresh().expect_err("nothing is there");
                assert!(matches!(error, Error::NotFound { .. }), "{error}");
                copy(&aside(name), &path);
            }
            assert!(reader.refresh().expect("refreshed"), "{name}, {n}");
            shows_what_is_there(&reader, &path);
            assert_eq!(content(&before), shown, "{name}, {n}");
        }
    }
}

/// Files of a directory that this process holds open or mapped though they have another name by now, or none.
fn held(dir: &Path) -> Vec<PathBuf> {
    let there = |path: &Path| path.exists();
    let links = fs::read_dir("/proc/self/fd").expect("there");
    let mut found: Vec<PathBuf> =
        links.filter_map(|link| fs::read_link(link.expect("an entry").path()).ok()).collect();
    let maps = fs::read_to_string("/proc/self/maps").expect("there");
    found.extend(maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..]))));
    found.retain(|path| path.starts_with(dir) && !there(path));
    found
}

/// The background may have a part of its work to end with what it began with; then nothing may be held.
fn nothing_is_held(dir: &Path, when: &str) {
    let started = Instant::now();
    while !held(dir).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "{when}: {:?}", held(dir));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_reader_lets_go_of_what_it_no_longer_shows() {
    let (dir, path) = temp();
    let dir = dir.path().canonicalize().expect("there");
    let path = dir.join(path.file_name().expect("a name"));
    make(&path, 8, Metric::L2, 350, 1.0);
    let reader = VectorStore::open_read_only(&path).expect("opened");
    let snapshot = reader.snapshot().expect("there");
    let shown = content(&snapshot);
    let store = open(&path);
    for id in 0..150u64 {
        store.delete(id).expect("deleted");
    }
    store.compact().expect("compacted");
    assert!(reader.refresh().expect("refreshed"));
    assert_eq!(content(&snapshot), shown);
    assert!(!held(&dir).is_empty(), "a snapshot holds its files");
    drop(snapshot);
    nothing_is_held(&dir, "after a compaction");
    store.clear().expect("cleared");
    put(&store, 0..10, 5.0);
    assert!(reader.refresh().expect("refreshed"));
    nothing_is_held(&dir, "after clearing");
    store.close().expect("closed");
    fs::remove_dir_all(&path).expect("removed");
    make(&path, 4, Metric::Ip, 150, 1.0);
    assert!(reader.refresh().expect("refreshed"));
    nothing_is_held(&dir, "of the directory that was there before, itself included");
}

#[test]
fn a_writer_lets_go_of_what_it_no_longer_shows() {
    let (dir, path) = temp();
    let dir = dir.path().canonicalize().expect("there");
    let path = dir.join(path.file_name().expect("a name"));
    make(&path, 8, Metric::L2, 350, 1.0);
    let store = open(&path);
    for round in 0..5u64 {
        // Written into the buffer, and looked at there: what is kept of that look is of the files as they were.
        for id in round * 20..round * 20 + 20 {
            store.delete(id).expect("deleted");
        }
        put(&store, 400 + round * 10..410 + round * 10, 2.0);
        store.put(500 + round, &[round as f32; 8]).expect("put");
        let before = store.snapshot().expect("there");
        assert!(before.contains(500 + round).expect("readable"));
        assert!(!before.search(&[1.0; 8], 3).expect("found").is_empty());
        drop(before);
        assert!(store.verify().expect("readable").is_ok());
        store.backup(dir.join(format!("copy-{round}"))).expect("copied");
        assert_eq!(
            store.snapshot().and_then(|snapshot| snapshot.get_many(&[500 + round])).expect("readable").len(),
            1
        );
        match round {
            3 => store.clear().expect("cleared"),
            _ => _ = store.compact().expect("compacted"),
        }
        nothing_is_held(&dir, &format!("round {round}"));
        let lists = |path: &Path| -> Vec<String> {
            let names = fs::read_dir(path).expect("there").map(|entry| entry.expect("an entry").file_name());
            names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".del")).collect()
        };
        let sealed = store.stats().expect("there").segments - 1;
        assert!(lists(&path).len() as u64 <= sealed, "{:?} of {sealed} segments", lists(&path));
    }
}

#[test]
fn ids_of_another_kind_are_those_of_the_store_that_is_shown() {
    let (_dir, path) = temp();
    make(&path, 8, Metric::L2, 10, 1.0);
    let reader = VectorStore::open_read_only(&path).expect("opened");
    assert!(reader.get(3u64).expect("readable").is_some());
    fs::remove_dir_all(&path).expect("removed");
    let store = VectorStore::create(&path, 2, Metric::Ip).expect("made");
    store.put("three", &[1.0, 2.0]).and_then(|()| store.flush()).expect("put");
    assert!(reader.refresh().expect("refreshed"));
    assert_eq!((reader.dim(), reader.metric(), reader.kind()), (2, Metric::Ip, Some(IdKind::String)));
    assert_eq!(reader.get(3u64).expect("readable"), None);
    let mut out = [0.0; 2];
    // Looked up by the hash of that store.
    assert!(reader.get_into("three", &mut out).expect("readable"));
    assert_eq!(reader.try_get_into("three".as_id(), &mut out).expect("readable"), Some(true));
    assert_eq!(out, [1.0, 2.0]);
    let wrong = reader.try_get_into("three", &mut [0.0; 8]).expect_err("another dimension");
    assert!(matches!(wrong, Error::DimensionMismatch { expected: 2, found: 8, .. }), "{wrong}");
}
