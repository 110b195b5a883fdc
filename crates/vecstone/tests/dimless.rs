//! Stores that are made without a dimension: empty in every way until the first vector, or `set_dim`, fixes it.
#![allow(clippy::disallowed_methods, reason = "seen from outside: a test may look at the files")]

mod helpers;

use helpers::{Other, deadline, files, say, temp};
use std::path::Path;
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use vecstone::{Document, Durability, Error, MAX_DIM, Metric, Op, OpenOptions, SearchOptions, VectorStore};

type Write = fn(&VectorStore, &[f32]) -> Result<(), Error>;

fn made(path: &Path) -> VectorStore {
    VectorStore::create_without_dim(path, Metric::L2).expect("a new store")
}

fn reopened(store: VectorStore) -> VectorStore {
    let path = store.path().to_owned();
    store.close().expect("closed");
    VectorStore::open(path).expect("opens")
}

/// Everything that can be asked of a store without a dimension.
fn check_empty(store: &VectorStore) {
    assert_eq!((store.dim(), store.kind(), store.metric()), (0, None, Metric::L2));
    assert!(store.is_empty().expect("readable") && store.recovery().clean);
    assert_eq!(store.len().expect("readable"), 0);
    assert_eq!(store.iter().expect("readable").count(), 0);
    assert_eq!(store.get("a").expect("readable"), None);
    assert_eq!(store.get_many(&[1u64, 2]).expect("readable"), [None, None]);
    assert_eq!(store.get_document("a").expect("readable"), None);
    assert!(!store.contains(7u64).expect("readable"));
    let all = SearchOptions::new().with_vectors().with_documents();
    for query in [&[][..], &[1.0], &[1.0, 2.0], &[f32::NAN; 3]] {
        let mut absent = Vec::new();
        store.get_many_into(&["a", "b"], &mut [], |n| absent.push(n)).expect("nothing to find");
        assert_eq!(absent, [0, 1]);
        assert!(store.search_many(query, 5, &SearchOptions::new()).expect("nothing to find").is_empty());
        assert!(store.search(query, 5).expect("nothing to find").is_empty());
        assert!(store.search_with(query, 0, &all).expect("nothing to find").is_empty());
    }
    let stats = store.stats().expect("known");
    assert_eq!((stats.dim, stats.rows, stats.segments, stats.kind), (0, 0, 0, None));
    assert_eq!((stats.bytes.dat, stats.bytes.idx, stats.per_segment.len()), (0, 0, 0));
    assert!(store.verify().expect("readable").is_ok());
    assert!(!store.refresh().expect("nothing new"));
    let snapshot = store.snapshot().expect("readable");
    assert_eq!((snapshot.dim(), snapshot.len(), snapshot.iter().count()), (0, 0, 0));
    assert_eq!(snapshot.view("a").expect("readable"), None);
}

/// What changes nothing in it.
fn check_nothing_to_do(store: &VectorStore) {
    store.flush().expect("nothing to flush");
    let flushed = pin!(store.flush_async()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(Ok(()))), "{flushed:?}");
    assert!(!store.delete("a").expect("nothing there"));
    assert_eq!(store.delete_many(&[1u64, 2]).expect("nothing there"), 0);
    store.write(&[Op::delete("a"), Op::delete("b")], Some(Durability::Sync)).expect("nothing there");
    store.write(&[], None).expect("nothing to write");
    store.put_many(&[] as &[&str], &[]).expect("nothing to put");
    assert_eq!(store.compact().expect("nothing to compact").segments, 0);
    store.clear().expect("nothing to clear");
    check_empty(store);
}

#[test]
fn it_is_empty_in_every_way() {
    let (dir, path) = temp();
    let store = made(&path);
    check_empty(&store);
    check_nothing_to_do(&store);
    check_empty(&VectorStore::open_read_only(&path).expect("opens"));
    assert!(matches!(VectorStore::create(&path, 3, Metric::L2), Err(Error::AlreadyExists { .. })));
    assert!(matches!(
        VectorStore::open_with(&path, &OpenOptions::new().lock_wait(std::time::Duration::ZERO)),
        Err(Error::Locked { .. })
    ));
    let names = |path: &Path| -> Vec<String> {
        let name =
            |path: std::path::PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        files(path).into_iter().map(|(path, ..)| name(path)).collect()
    };
    assert_eq!(names(&path), ["LOCK", "MANIFEST"]);
    store.close().expect("closed");
    let before = std::fs::read(path.join("MANIFEST")).expect("readable");
    // Strict, too: there is no batch that could have been lost.
    let store = VectorStore::open_with(&path, &OpenOptions::new().strict(true)).expect("opens");
    check_empty(&store);
    assert_eq!(std::fs::read(path.join("MANIFEST")).expect("readable"), before);

    let (copy, saved) = (dir.path().join("copy"), dir.path().join("saved"));
    store.backup(&copy).expect("copied");
    drop(store);
    assert!(VectorStore::verify_path(&copy).expect("readable").is_ok());
    VectorStore::open_read_only(&copy).expect("opens").backup(dir.path().join("again")).expect("copied");
    assert_eq!(VectorStore::repair(&copy, &saved).expect("repaired").rows, 0);
    for path in [&copy, &saved, &dir.path().join("again")] {
        let store = VectorStore::open(path).expect("opens");
        check_nothing_to_do(&store);
        store.put("a", &[1.0, 2.0]).expect("stored");
        let store = reopened(store);
        assert_eq!((store.dim(), store.get("a").expect("readable")), (2, Some(vec![1.0, 2.0])));
    }
}

#[test]
fn every_kind_of_write_fixes_it() {
    let vector = [1.0f32, 2.0, 3.0];
    let writes: [Write; 6] = [
        |store, vector| store.put("a", vector),
        |store, vector| store.put_with("a", vector, Some(Durability::Sync)),
        |store, vector| store.put_with_document("a", vector, "{}"),
        |store, vector| store.put_many(&["a", "b"], &[vector, vector].concat()),
        |store, vector| store.write(&[Op::delete("b"), Op::put("a", vector)], None),
        |store, vector| store.set_dim(3).and_then(|()| store.put("a", vector)),
    ];
    for write in writes {
        let (_dir, path) = temp();
        let store = made(&path);
        let before = store.snapshot().expect("readable");
        write(&store, &vector).expect("stored");
        let rows = store.len().expect("readable");
        assert_eq!((store.dim(), store.get("a").expect("readable")), (3, Some(vector.to_vec())));
        assert_eq!(store.search(&vector, 9).expect("found").len(), rows);
        assert!(matches!(store.search(&[1.0], 1), Err(Error::DimensionMismatch { expected: 3, found: 1 })));
        // What was taken before stays what it was.
        assert_eq!((before.dim(), before.len()), (0, 0));
        assert!(before.search(&[1.0], 1).expect("nothing to find").is_empty());
        store.set_dim(3).expect("it is");
        assert!(matches!(store.set_dim(4), Err(Error::DimensionMismatch { expected: 3, found: 4 })));
        assert!(matches!(store.put("c", &[1.0]), Err(Error::DimensionMismatch { expected: 3, found: 1 })));
        let store = reopened(store);
        assert_eq!((store.dim(), store.len().expect("readable")), (3, rows));
        assert!(store.verify().expect("readable").is_ok());
        store.compact().expect("compacted");
    }
}

#[test]
fn set_dim_alone_is_kept() {
    let (_dir, path) = temp();
    let store = made(&path);
    for dim in [0, MAX_DIM + 1] {
        assert!(matches!(store.set_dim(dim), Err(Error::InvalidDim { .. })));
    }
    let reader = VectorStore::open_read_only(&path).expect("opens");
    assert!(matches!(reader.set_dim(5), Err(Error::ReadOnly)));
    assert!(matches!(reader.put("a", &[1.0]), Err(Error::ReadOnly)));
    assert!(matches!(reader.clear(), Err(Error::ReadOnly)));
    store.set_dim(5).expect("fixed");
    // The files as they are while nobody has closed it.
    let bytes: Vec<_> = files(&path).into_iter().filter(|(path, ..)| !path.ends_with("LOCK")).collect();
    drop(store);
    let (_other, copy) = temp();
    std::fs::create_dir(&copy).expect("made");
    for (path, _, bytes) in bytes {
        std::fs::write(copy.join(path.file_name().expect("a name")), bytes).expect("written");
    }
    let store = VectorStore::open(&copy).expect("opens");
    assert_eq!((store.dim(), store.len().expect("readable"), store.kind()), (5, 0, None));
}

#[test]
fn a_first_batch_that_is_refused_fixes_nothing() {
    let (_dir, path) = temp();
    let store = made(&path);
    let long = "x".repeat(vecstone::MAX_ID_BYTES + 1);
    let wide = vec![0.0; MAX_DIM as usize + 1];
    let refused: Vec<Result<(), Error>> = vec![
        store.put("a", &[1.0, f32::NAN]),
        store.put("", &[1.0]),
        store.put(long.as_str(), &[1.0]),
        store.put("a", &[]),
        store.put("a", &wide),
        store.put_with_document("a", &[1.0], "{"),
        store.put_many(&["a", "b"], &[1.0, 2.0, 3.0]),
        store.put_many(&["a"], &[]),
        store.put_many(&[] as &[&str], &[1.0]),
        store.put_many(&["a", "b"], &[1.0, f32::INFINITY]),
        store.put_many(&["a", ""], &[1.0, 2.0]),
        store.put_many_with(&["a", "b"], &[1.0, 2.0], &[Document::Json("1")], None),
        store.put_many_with(&["a", "b"], &[1.0, 2.0], &[Document::Json("1"), Document::Json("[")], None),
        store.write(&[Op::put("a", &[1.0]), Op::put("b", &[1.0, 2.0])], None),
        store.write(&[Op::put("a", &[1.0]), Op::put(&7u64, &[1.0])], None),
        store.write(&[Op::put("a", &[1.0]), Op::delete("")], None),
        store.write(&[Op::put("a", &[])], None),
        store.write(&[Op::delete("a"), Op::delete(&7u64)], None),
        store.delete("").map(drop),
    ];
    for (n, outcome) in refused.iter().enumerate() {
        assert!(outcome.is_err(), "{n}");
        assert!(!outcome.as_ref().is_err_and(Error::is_corrupt));
    }
    let text = refused[6].as_ref().expect_err("refused").to_string();
    assert!(text.contains("3 components") && text.contains("2 ids"), "{text}");
    check_empty(&store);
    // The kind of the ids is free, too.
    store.put(7u64, &[1.0]).expect("stored");
    assert_eq!((store.dim(), store.len().expect("readable")), (1, 1));
}

/// Threads that fix different dimensions at once: one wins, the others are told which.
#[test]
fn one_of_many_threads_fixes_it() {
    const THREADS: u32 = 8;
    let _guard = deadline("one_of_many_threads_fixes_it");
    for round in 0..30 {
        let (_dir, path) = temp();
        let (store, start) = (made(&path), Barrier::new(THREADS as usize));
        let outcomes: Vec<(u32, Result<(), Error>)> = thread::scope(|scope| {
            let race = |n: u32| {
                let (store, start) = (&store, &start);
                move || {
                    // Some want the same one.
                    let dim = 1 + n % 5;
                    let vector = vec![dim as f32; dim as usize];
                    start.wait();
                    let outcome = match (n + round) % 4 {
                        0 => store.set_dim(dim),
                        1 => store.put(u64::from(n), &vector),
                        2 => store.put_many(&[u64::from(n)], &vector),
                        _ => store.put_with(u64::from(n), &vector, Some(Durability::Sync)),
                    };
                    let seen = store.dim();
                    assert!(seen > 0);
                    assert_eq!(
                        store.search(&vec![1.0; seen], 1).map(|found| found.len() < 2).ok(),
                        Some(true)
                    );
                    (dim, outcome)
                }
            };
            let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(race(n))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let dim = store.dim();
        assert!(outcomes.iter().any(|(_, outcome)| outcome.is_ok()));
        for (wanted, outcome) in outcomes {
            match outcome {
                Ok(()) => assert_eq!(wanted as usize, dim),
                Err(Error::DimensionMismatch { expected, found }) => {
                    assert_eq!((expected, found), (dim, wanted as usize));
                    assert_ne!(expected, found);
                }
                // Counted when the dimension was known already.
                Err(Error::CountMismatch { ids: 1, components, dim: fixed }) => {
                    assert_eq!((components, fixed), (wanted as usize, dim));
                    assert_ne!(components, fixed);
                }
                Err(error) => panic!("{error}"),
            }
        }
        let (rows, store) = (store.len().expect("readable"), reopened(store));
        assert_eq!((store.dim(), store.len().expect("readable")), (dim, rows));
        for item in store.iter().expect("readable") {
            assert_eq!(item.expect("readable").1, vec![dim as f32; dim]);
        }
        assert!(store.verify().expect("readable").is_ok());
        let dats = files(store.path())
            .iter()
            .filter(|(path, ..)| path.extension().is_some_and(|e| e == "dat"))
            .count();
        assert_eq!(dats, 1, "the others made no pair");
    }
}

/// What another process does: nothing in this one.
#[test]
fn other() {
    let Some((_, path, _)) = helpers::role() else { return };
    let _guard = deadline("another process");
    let reader = VectorStore::open_read_only(&path).expect("opens");
    let held = reader.snapshot().expect("readable");
    check_empty(&reader);
    for step in ["empty", "fixed", "written", "cleared", "written again"] {
        say(step);
        std::io::stdin().read_line(&mut String::new()).expect("told to go on");
        assert_eq!(reader.refresh().expect("refreshed"), step != "written again", "after {step}");
        say(&format!("{} {}", reader.dim(), reader.len().expect("readable")));
        assert_eq!((held.dim(), held.len()), (0, 0));
    }
}

#[test]
fn a_reader_in_another_process_learns_of_it() {
    let _guard = deadline("a_reader_in_another_process_learns_of_it");
    let (_dir, path) = temp();
    let store = made(&path);
    let beside = VectorStore::open_read_only(&path).expect("opens");
    let mut process = Other::start("other", "reader", &path, 0);
    let check = |process: &mut Other, step: &str, sees: &str| {
        process.expect(step);
        assert!(process.tell("go on"));
        process.expect(sees);
        beside.refresh().expect("refreshed");
        assert_eq!(format!("{} {}", beside.dim(), beside.len().expect("readable")), sees);
    };
    process.expect("empty");
    store.set_dim(3).expect("fixed");
    assert_eq!((beside.dim(), beside.search(&[1.0], 1).expect("nothing to find").len()), (0, 0));
    assert!(process.tell("go on"));
    process.expect("3 0");
    store.put_with("a", &[1.0, 2.0, 3.0], Some(Durability::Sync)).expect("stored");
    check(&mut process, "fixed", "3 1");
    store.clear().expect("cleared");
    check(&mut process, "written", "3 0");
    store.put_with(9u64, &[1.0, 2.0, 3.0], Some(Durability::Sync)).expect("stored");
    check(&mut process, "cleared", "3 1");
    check(&mut process, "written again", "3 1");
    process.end();
    assert_eq!(beside.get(9u64).expect("readable"), Some(vec![1.0, 2.0, 3.0]));
}
