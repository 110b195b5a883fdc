//! What a store does for its users.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use vecstone::{Error, MAX_ID_BYTES, Metric, OpenOptions, VectorStorage, VectorStore, reference_distance};

const DIM: usize = 12;

/// A vector that no other number has.
fn vector(n: usize) -> Vec<f32> {
    (0..DIM).map(|i| ((n * 31 + i * 7) % 1009) as f32 - 500.0 + n as f32 / 65536.0).collect()
}

fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    (dir, path)
}

fn made(path: &Path) -> VectorStore {
    VectorStore::create(path, DIM as u32, Metric::L2).expect("a new store")
}

/// Names and bytes of all files but LOCK.
fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(path)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("LOCK"))
        .map(|path| (path.clone(), fs::read(&path).expect("readable")))
        .collect();
    found.sort();
    found
}

#[test]
fn put_get_replace_delete_and_reopen() {
    let (_dir, path) = temp();
    let store = made(&path);
    assert!(store.is_empty());
    store.put("a", &vector(1)).expect("stored");
    store.put_many(&["b", "c", "a"], &[vector(2), vector(3), vector(4)].concat()).expect("stored");
    assert_eq!(store.len(), 3);
    assert_eq!(store.get("a").expect("readable"), Some(vector(4)));
    assert!(store.delete("b").expect("deleted"));
    assert!(!store.delete("b").expect("not there any more"));
    assert_eq!(store.delete_many(&["c", "c", "nobody"]).expect("deleted"), 1);
    assert_eq!(store.get("b").expect("readable"), None);
    store.put("b", &vector(5)).expect("stored again");
    store.close().expect("closed");

    let store = VectorStore::open(&path).expect("opens");
    assert!(store.recovery().clean);
    let all: Vec<_> = store.iter().map(|item| item.expect("readable")).collect();
    assert_eq!(all, [("a".to_owned(), vector(4)), ("b".to_owned(), vector(5))]);
    assert!(store.contains("a") && !store.contains("c"));
    let stats = store.stats().expect("known");
    assert_eq!((stats.rows, stats.live, stats.dead), (5, 2, 3));
    assert_eq!(stats.bytes.dat, 256 + 5 * DIM as u64 * 4);
    assert!(store.verify().expect("readable").is_ok());
}

#[test]
fn within_a_batch_the_last_of_an_id_counts() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put_many(&["x", "y", "x"], &[vector(1), vector(2), vector(3)].concat()).expect("stored");
    assert_eq!((store.len(), store.get("x").expect("readable")), (2, Some(vector(3))));
}

#[test]
fn ids_are_any_text() {
    let (_dir, path) = temp();
    let store = made(&path);
    let long = "é".repeat(MAX_ID_BYTES / 2);
    let ids = [" ", "\n", "a\0b", "日本", "../../etc/passwd", long.as_str(), "-", "\u{FEFF}"];
    for (n, id) in ids.into_iter().enumerate() {
        store.put(id, &vector(n)).expect("stored");
    }
    store.close().expect("closed");
    let store = VectorStore::open_read_only(&path).expect("opens");
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(store.get(id).expect("readable"), Some(vector(n)), "{id:?}");
    }
    assert_eq!(store.len(), ids.len());
}

#[test]
fn bad_input_is_named_and_nothing_of_the_batch_is_stored() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put("old", &vector(0)).and_then(|()| store.flush()).expect("stored");
    let before = files(&path);
    let mut bad = [vector(1), vector(2)].concat();
    bad[DIM + 5] = f32::NAN;
    let error = store.put_many(&["a", "b"], &bad).expect_err("NaN");
    assert!(matches!(error, Error::NonFinite { row: 1, component: 5 }), "{error}");
    let error = store.put("a", &[1.0]).expect_err("too short");
    assert!(matches!(error, Error::DimensionMismatch { expected: DIM, found: 1 }), "{error}");
    let error = store.put_many(&["a", "b"], &vector(1)).expect_err("one vector for two ids");
    assert!(matches!(error, Error::CountMismatch { ids: 2, components: DIM, dim: DIM }), "{error}");
    let error = store.put_many(&["a", ""], &[vector(1), vector(2)].concat()).expect_err("empty id");
    assert!(matches!(error, Error::InvalidId { row: 1, len: 0 }), "{error}");
    let error = store.put(&"x".repeat(MAX_ID_BYTES + 1), &vector(1)).expect_err("long id");
    assert!(matches!(error, Error::InvalidId { row: 0, .. }), "{error}");
    let error = store.search(&[0.0; 3], 1).expect_err("dimension");
    assert!(matches!(error, Error::DimensionMismatch { expected: DIM, found: 3 }), "{error}");
    let error = store.search(&[f32::INFINITY; DIM], 1).expect_err("infinity");
    assert!(matches!(error, Error::NonFinite { row: 0, component: 0 }), "{error}");
    assert_eq!(files(&path), before);
    assert_eq!(store.len(), 1);
    for dim in [0, 65_537] {
        let error = VectorStore::create(path.with_extension("no"), dim, Metric::L2).expect_err("dim");
        assert!(matches!(error, Error::InvalidDim { .. }), "{error}");
    }
    assert!(!path.with_extension("no").exists());
}

#[test]
fn search_is_the_reference_order() {
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        let (_dir, path) = temp();
        let store = VectorStore::create(&path, DIM as u32, metric).expect("a new store");
        let rows = 3000;
        let ids: Vec<String> = (0..rows).map(|n| format!("id{n}")).collect();
        // Every third vector repeats, so that ties have to be broken by age.
        let vectors: Vec<Vec<f32>> = (0..rows).map(|n| vector(n / 3)).collect();
        store.put_many(&ids, &vectors.concat()).expect("stored");
        for n in (0..rows).step_by(7) {
            store.delete(&ids[n]).expect("deleted");
        }
        store.put(&ids[10], &vector(0)).expect("replaced");
        let query = vector(77);
        let mut want: Vec<(f64, usize, &str)> = (0..rows)
            .filter(|n| n % 7 != 0 && *n != 10)
            .map(|n| (reference_distance(metric, &query, &vectors[n]), n, ids[n].as_str()))
            .collect();
        want.push((reference_distance(metric, &query, &vector(0)), rows, ids[10].as_str()));
        want.sort_by(|a, b| a.0.partial_cmp(&b.0).expect("finite").then(a.1.cmp(&b.1)));
        for k in [0, 1, 10, want.len(), usize::MAX] {
            let found = store.search(&query, k).expect("searched");
            assert_eq!(found.len(), k.min(want.len()));
            for (neighbor, (distance, _, id)) in found.iter().zip(&want) {
                assert_eq!(neighbor.id, *id, "{metric:?}");
                let least = if metric == Metric::Ip { f64::MIN } else { 0.0 };
                assert_eq!(neighbor.distance, distance.max(least) as f32);
            }
        }
    }
}

#[test]
fn opening_and_closing_without_a_write_changes_nothing() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put("a", &vector(1)).expect("stored");
    store.close().expect("closed");
    let before = files(&path);
    VectorStore::open(&path).expect("opens").close().expect("closed");
    drop(VectorStore::open(&path).expect("opens"));
    drop(VectorStore::open_read_only(&path).expect("opens"));
    VectorStore::open_with(&path, &OpenOptions::new().strict(true)).expect("clean").close().expect("closed");
    assert_eq!(files(&path), before);
}

#[test]
fn a_store_without_lock_loses_nothing() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put("a", &vector(1)).expect("stored");
    store.close().expect("closed");
    fs::remove_file(path.join("LOCK")).expect("there");
    assert_eq!(VectorStore::open_read_only(&path).expect("opens").len(), 1);
    assert!(!path.join("LOCK").exists(), "a reader wrote something");
    assert_eq!(VectorStore::open(&path).expect("opens").len(), 1);
}

#[test]
fn one_writer_and_readers_beside_it() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put("durable", &vector(1)).and_then(|()| store.flush()).expect("stored");
    store.put("not yet", &vector(2)).expect("written");
    let error = VectorStore::open(&path).expect_err("locked");
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("locked by process {}", std::process::id())));
    let error = VectorStore::create(&path, 3, Metric::L2).expect_err("there");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");

    let reader = VectorStore::open_read_only(&path).expect("beside a writer");
    assert_eq!(reader.get("durable").expect("readable"), Some(vector(1)));
    assert!(!reader.contains("not yet"), "a power cut could still take it");
    assert!(matches!(reader.put("x", &vector(3)), Err(Error::ReadOnly)));
    assert!(matches!(reader.delete("durable"), Err(Error::ReadOnly)));
    assert!(matches!(reader.flush(), Err(Error::ReadOnly)));
    assert!(reader.verify().expect("readable").is_ok());
    store.flush().expect("flushed");
    assert_eq!(reader.len(), 1, "a reader's view does not change");
    assert_eq!(VectorStore::open_read_only(&path).expect("opens").len(), 2);
    store.close().expect("closed");
    assert_eq!(VectorStore::open(&path).expect("the lock is free").len(), 2);
}

#[test]
fn strict_refuses_what_was_not_closed() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put("a", &vector(1)).and_then(|()| store.flush()).expect("stored");
    // A copy taken now is what a crash would leave.
    let copy = path.with_extension("copy");
    fs::create_dir(&copy).expect("made");
    for (from, bytes) in files(&path) {
        fs::write(copy.join(from.file_name().expect("a name")), bytes).expect("copied");
    }
    let before = files(&copy);
    let error = VectorStore::open_with(&copy, &OpenOptions::new().strict(true)).expect_err("not closed");
    assert!(matches!(&error, Error::NotClean { report, .. } if !report.clean && report.rows == 1), "{error}");
    assert_eq!(files(&copy), before, "strict changed something");
    assert_eq!(VectorStore::open(&copy).expect("opens without strict").len(), 1);
}

#[test]
fn what_is_no_store_says_so_and_stays_as_it_is() {
    let (dir, path) = temp();
    let open = |path: &Path| VectorStore::open(path).expect_err("no store");
    assert!(matches!(open(&path), Error::NotFound { .. }));
    fs::create_dir(&path).expect("made");
    assert!(matches!(open(&path), Error::NotFound { .. }), "an empty directory");
    fs::write(path.join("notes.txt"), "mine").expect("written");
    assert!(matches!(open(&path), Error::NotAStore { .. }));
    assert!(VectorStore::create(&path, 3, Metric::L2).is_err(), "a directory with other files");
    assert_eq!(fs::read_dir(&path).expect("there").count(), 1, "something was left in a foreign directory");
    let file = dir.path().join("file");
    fs::write(&file, "mine").expect("written");
    let error = open(&file);
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    let error = VectorStore::create(&file, 3, Metric::L2).expect_err("a file");
    assert!(matches!(error, Error::AlreadyExists { .. } | Error::NotAStore { .. }), "{error}");
    assert!(VectorStore::create(dir.path().join("no/such"), 3, Metric::L2).is_err());
    assert_eq!(fs::read(&file).expect("there"), b"mine");
}

#[test]
fn many_threads_write_read_and_flush_at_once() {
    let (_dir, path) = temp();
    let store = made(&path);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..150 {
                        let id = format!("{writer}-{}", n % 50);
                        store.put(&id, &vector(writer * 1000 + n)).expect("stored");
                        assert_eq!(store.get(&id).expect("readable"), Some(vector(writer * 1000 + n)));
                        if n % 40 == 0 {
                            store.flush().expect("flushed");
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for neighbor in store.search(&vector(3), 5).expect("searched") {
                    assert!(neighbor.distance >= 0.0);
                }
                for item in store.iter() {
                    item.expect("readable");
                }
            }
        });
        for writer in writers {
            writer.join().expect("no panic");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.len(), 200);
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    for writer in 0..4 {
        for n in 100..150 {
            let id = format!("{writer}-{}", n % 50);
            assert_eq!(store.get(&id).expect("readable"), Some(vector(writer * 1000 + n)));
        }
    }
    assert!(store.verify().expect("readable").is_ok());
}

#[test]
fn a_pair_alone() {
    use vecstone::{LogEntry, Op};
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("pair");
    let (a, b) = (vector(1), vector(2));
    let mut pair = VectorStorage::create(&path, DIM as u32).expect("made");
    let batch = [Op::Put { id: "a", vector: &a }, Op::Put { id: "b", vector: &b }, Op::Delete { id: "a" }];
    assert_eq!(pair.append(&batch).expect("appended"), 0);
    assert_eq!(pair.append(&[]).expect("nothing to do"), 2);
    assert_eq!(pair.append(&[Op::Put { id: "a", vector: &b }]).expect("appended"), 2);
    pair.commit().expect("durable");
    assert!(matches!(VectorStorage::create(&path, 3), Err(Error::AlreadyExists { .. })));
    pair.close().expect("closed");

    let mut pair = VectorStorage::open(&path).expect("opens");
    assert_eq!((pair.rows(), pair.dim()), (3, DIM));
    assert_eq!(pair.row(1).expect("mapped"), &b[..]);
    assert_eq!(pair.read_row(0).expect("checked"), a);
    assert_eq!(pair.id(2).expect("known"), "a");
    assert!(matches!(pair.row(3), Err(Error::NoSuchRow { row: 3, rows: 3 })));
    let log: Vec<_> = pair.log().map(|entry| entry.expect("readable")).collect();
    let put = |id, row| LogEntry::Put { id, row };
    assert_eq!(log, [put("a", 0), put("b", 1), LogEntry::Delete { id: "a" }, put("a", 2)]);
    let long = vec![0.0; DIM + 1];
    let error = pair.append(&[Op::Put { id: "c", vector: &long }]).expect_err("dimension");
    assert!(matches!(error, Error::DimensionMismatch { expected: DIM, .. }), "{error}");
    assert!(pair.verify().expect("readable").is_ok());
    let mut reader = VectorStorage::open_read_only(&path).expect("opens");
    assert!(matches!(reader.append(&batch), Err(Error::ReadOnly)));
}
