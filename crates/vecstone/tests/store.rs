//! What a store does for its users.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use vecstone::{
    AsId, CompactOptions, Document, Durability, Error, Id, IdKind, LogEntry, MAX_ID_BYTES, Metric, Op,
    OpenOptions, SearchOptions, Uuid, VectorStorage, VectorStore, WriteBatch, reference_distance,
};

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

/// A store that does nothing unless a call does it.
fn made_quiet(path: &Path) -> VectorStore {
    let options = OpenOptions::new().without_background();
    options.create(path, DIM as u32, Metric::L2).expect("a new store")
}

/// Number of ids.
fn len(store: &VectorStore) -> usize {
    store.len().expect("readable")
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
    assert!(store.is_empty().expect("readable") && store.kind().is_none());
    store.put("a", &vector(1)).expect("stored");
    store.put_many(&["b", "c", "a"], &[vector(2), vector(3), vector(4)].concat()).expect("stored");
    assert_eq!((len(&store), store.kind()), (3, Some(IdKind::String)));
    assert_eq!(store.get("a").expect("readable"), Some(vector(4)));
    assert!(store.delete("b").expect("deleted"));
    assert!(!store.delete("b").expect("not there any more"));
    assert_eq!(store.delete_many(&["c", "c", "nobody"]).expect("deleted"), 1);
    assert_eq!(store.get("b").expect("readable"), None);
    store.put("b", &vector(5)).expect("stored again");
    store.close().expect("closed");

    let store = VectorStore::open(&path).expect("opens");
    assert!(store.recovery().clean);
    let all: Vec<_> =
        store.snapshot().expect("readable").iter().map(|item| item.expect("readable")).collect();
    assert_eq!(all, [(Id::from("a"), vector(4)), (Id::from("b"), vector(5))]);
    assert!(store.contains("a").expect("readable") && !store.contains("c").expect("readable"));
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
    assert_eq!((len(&store), store.get("x").expect("readable")), (2, Some(vector(3))));
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
    assert_eq!(len(&store), ids.len());
}

#[test]
fn bad_input_is_named_and_nothing_of_the_batch_is_stored() {
    let (_dir, path) = temp();
    let store = made_quiet(&path);
    store.put("old", &vector(0)).and_then(|()| store.flush()).expect("stored");
    let before = files(&path);
    let mut bad = [vector(1), vector(2)].concat();
    bad[DIM + 5] = f32::NAN;
    let error = store.put_many(&["a", "b"], &bad).expect_err("NaN");
    assert!(matches!(error, Error::NonFinite { row: 1, component: 5, .. }), "{error}");
    let error = store.put("a", &[1.0]).expect_err("too short");
    assert!(matches!(error, Error::DimensionMismatch { expected: DIM, found: 1, .. }), "{error}");
    let error = store.put_many(&["a", "b"], &vector(1)).expect_err("one vector for two ids");
    assert!(matches!(error, Error::CountMismatch { ids: 2, components: DIM, dim: DIM, .. }), "{error}");
    let error = store.put_many(&["a", ""], &[vector(1), vector(2)].concat()).expect_err("empty id");
    assert!(matches!(error, Error::InvalidId { row: 1, len: 0, .. }), "{error}");
    let error = store.put("x".repeat(MAX_ID_BYTES + 1), &vector(1)).expect_err("long id");
    assert!(matches!(error, Error::InvalidId { row: 0, .. }), "{error}");
    let error = store.put_many(&[1, u64::MAX], &[vector(1), vector(2)].concat()).expect_err("no id");
    assert!(matches!(error, Error::IdOutOfRange { row: 1, .. }), "{error}");
    assert!(error.to_string().contains("18446744073709551615 is not between 0 and 2^64 - 2"), "{error}");
    let error = store.search(&[0.0; 3], 1).expect_err("dimension");
    assert!(matches!(error, Error::DimensionMismatch { expected: DIM, found: 3, .. }), "{error}");
    let error = store.search(&[f32::INFINITY; DIM], 1).expect_err("infinity");
    assert!(matches!(error, Error::NonFinite { row: 0, component: 0, .. }), "{error}");
    store.flush().expect("nothing to flush");
    assert_eq!(files(&path), before);
    assert_eq!(len(&store), 1);
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
        // Rows in several segments, and changes that are only in the buffer.
        let options = OpenOptions::new().without_background().segment_records(700);
        let store = options.create(&path, DIM as u32, metric).expect("a new store");
        let rows = 3000;
        let ids: Vec<String> = (0..rows).map(|n| format!("id{n}")).collect();
        // Every third vector repeats, so that ties have to be broken by age.
        let vectors: Vec<Vec<f32>> = (0..rows).map(|n| vector(n / 3)).collect();
        for (ids, vectors) in ids.chunks(300).zip(vectors.chunks(300)) {
            store.put_many(ids, &vectors.concat()).expect("stored");
            if len(&store) <= 2400 {
                store.flush().expect("flushed");
            }
        }
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
        let stats = store.stats().expect("known");
        assert!(stats.segments > 3 && stats.buffered == 515, "{stats:?}");
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
    OpenOptions::new().strict(true).open(&path).expect("clean").close().expect("closed");
    assert_eq!(files(&path), before);
}

#[test]
fn a_store_without_lock_loses_nothing() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.put("a", &vector(1)).expect("stored");
    store.close().expect("closed");
    fs::remove_file(path.join("LOCK")).expect("there");
    assert_eq!(len(&VectorStore::open_read_only(&path).expect("opens")), 1);
    assert!(!path.join("LOCK").exists(), "a reader wrote something");
    assert_eq!(len(&VectorStore::open(&path).expect("opens")), 1);
}

#[test]
fn one_writer_and_readers_beside_it() {
    let (_dir, path) = temp();
    let store = made_quiet(&path);
    store.put("durable", &vector(1)).and_then(|()| store.flush()).expect("stored");
    store.put("not yet", &vector(2)).expect("accepted");
    let error = VectorStore::open(&path).expect_err("locked");
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("locked by process {}", std::process::id())));
    let error = VectorStore::create(&path, 3, Metric::L2).expect_err("there");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");

    let reader = VectorStore::open_read_only(&path).expect("beside a writer");
    assert_eq!(reader.get("durable").expect("readable"), Some(vector(1)));
    assert!(!reader.contains("not yet").expect("readable"), "a power cut could still take it");
    assert!(matches!(reader.put("x", &vector(3)), Err(Error::ReadOnly)));
    assert!(matches!(reader.delete("durable"), Err(Error::ReadOnly)));
    assert!(matches!(reader.flush(), Err(Error::ReadOnly)));
    assert!(reader.verify().expect("readable").is_ok());
    assert!(!reader.refresh().expect("readable"), "nothing new is durable");
    store.flush().expect("flushed");
    assert_eq!(len(&reader), 1, "a reader's view changes on request only");
    assert_eq!(len(&VectorStore::open_read_only(&path).expect("opens")), 2);
    assert!(reader.refresh().expect("readable"));
    assert_eq!((len(&reader), reader.get("not yet").expect("readable")), (2, Some(vector(2))));
    store.close().expect("closed");
    assert!(!reader.refresh().expect("readable"), "closing changes no row");
    assert_eq!(len(&VectorStore::open(&path).expect("the lock is free")), 2);
}

#[test]
fn strict_refuses_what_was_not_closed() {
    let (_dir, path) = temp();
    let store = made_quiet(&path);
    store.put("a", &vector(1)).and_then(|()| store.flush()).expect("stored");
    // A copy taken now is what a crash would leave.
    let copy = path.with_extension("copy");
    fs::create_dir(&copy).expect("made");
    for (from, bytes) in files(&path) {
        fs::write(copy.join(from.file_name().expect("a name")), bytes).expect("copied");
    }
    let before = files(&copy);
    let error = OpenOptions::new().strict(true).open(&copy).expect_err("not closed");
    assert!(
        matches!(&error, Error::UncleanShutdown { report, .. } if !report.clean && report.rows == 1),
        "{error}"
    );
    assert_eq!(files(&copy), before, "strict changed something");
    assert_eq!(len(&VectorStore::open(&copy).expect("opens without strict")), 1);
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
                for item in store.snapshot().expect("readable").iter() {
                    item.expect("readable");
                }
            }
        });
        for writer in writers {
            writer.join().expect("no panic");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(len(&store), 200);
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
fn ids_of_every_kind_but_one_kind_a_store() {
    let uuid = |n: u64| Uuid::from_u128(n.into());
    check_kind(IdKind::U64, |n| n, "text");
    check_kind(IdKind::Uuid, uuid, 7);
    check_kind(IdKind::String, |n| n.to_string(), 7);
}

/// `other`: an id of another kind.
fn check_kind<I: AsId + Into<Id> + Clone>(kind: IdKind, id: impl Fn(u64) -> I, other: impl AsId + Copy) {
    let (_dir, path) = temp();
    let store = made(&path);
    let ids = [id(0), id(7), id(vecstone::MAX_ID_NUMBER)];
    store.put_many(&ids, &[vector(0), vector(1), vector(2)].concat()).expect("stored");
    assert_eq!(store.kind(), Some(kind));
    let refused = |error: Error| {
        assert!(
            matches!(error, Error::IdKindMismatch { expected: e, found, .. } if e == kind && found != kind),
            "{error}"
        );
    };
    for buffered in [true, false] {
        refused(store.put(other, &vector(3)).expect_err("another kind"));
        // What cannot be there is not there.
        assert_eq!(store.get(other).expect("readable"), None);
        assert!(!store.contains(other).expect("readable") && !store.delete(other).expect("not there"));
        assert_eq!(store.get(&ids[1]).expect("readable"), Some(vector(1)));
        if buffered {
            store.flush().expect("flushed");
        }
    }
    assert!(store.delete(&ids[0]).expect("deleted"));
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    assert_eq!(store.stats().expect("known").kind, Some(kind));
    refused(store.put(other, &vector(3)).expect_err("another kind"));
    let all: Vec<Id> =
        store.snapshot().expect("readable").iter().map(|item| item.expect("readable").0).collect();
    assert_eq!(all, [ids[1].clone().into(), ids[2].clone().into()]);
    assert_eq!(store.search(&vector(2), 1).expect("searched")[0].id, ids[2].clone().into());
}

#[test]
fn documents_go_with_their_rows() {
    let (_dir, path) = temp();
    let store = made(&path);
    let document = |store: &VectorStore, id: &str| store.get_document(id).expect("readable");
    store.put("a", &vector(0)).expect("stored");
    store.put_with_document("b", &vector(1), " {\"n\":\n1} ").expect("stored");
    let documents = [Document::Json("[2]"), Document::None, Document::Json("null")];
    let vectors = [vector(2), vector(3), vector(4)].concat();
    store
        .write(WriteBatch::new().put_many_with_documents(&["c", "d", "e"], &vectors, &documents))
        .expect("stored");
    let check = |store: &VectorStore| {
        assert_eq!(document(store, "b").as_deref(), Some("{\"n\": 1}"));
        assert_eq!(document(store, "c").as_deref(), Some("[2]"));
        assert!(["a", "d", "e", "nobody"].iter().all(|id| document(store, id).is_none()));
        let options = SearchOptions::new().with_documents().with_vectors();
        let found = store
            .snapshot()
            .and_then(|snapshot| snapshot.search_with(&vector(2), 1, &options))
            .expect("searched")
            .into_vec()
            .remove(0);
        assert_eq!((found.id, found.document.as_deref()), (Id::from("c"), Some("[2]")));
        assert_eq!(found.vector, Some(vector(2)));
        let found = store.search(&vector(2), 1).expect("searched").into_vec().remove(0);
        assert_eq!((found.vector, found.document), (None, None));
    };
    check(&store);
    for text in ["", "{", "1 2", "nul"] {
        let error = store.put_with_document("b", &vector(5), text).expect_err("no JSON");
        assert!(matches!(error, Error::InvalidDocument { .. }), "{error}");
    }
    let error = store
        .write(WriteBatch::new().put_many_with_documents(&["b"], &vector(5), &[Document::Keep; 2]))
        .expect_err("one too many");
    assert!(matches!(error, Error::CountMismatch { .. }), "{error}");
    store.flush().expect("flushed");
    check(&store);
    check(&VectorStore::open_read_only(&path).expect("opens"));
    let before = store.snapshot().expect("readable");
    store.put("b", &vector(6)).expect("replaced");
    store.put_with_document("a", &vector(0), "0").expect("replaced");
    assert!(store.delete("c").expect("deleted"));
    assert_eq!(before.get_document("b").expect("readable").as_deref(), Some("{\"n\": 1}"));
    store.compact().expect("compacted");
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    assert_eq!(
        (document(&store, "a").as_deref(), document(&store, "b"), document(&store, "c")),
        (Some("0"), Some("{\"n\": 1}".to_owned()), None),
        "a vector does not delete a document"
    );
    assert_eq!(
        before.get_document("c").expect("readable").as_deref(),
        Some("[2]"),
        "a snapshot outlives its store"
    );
    assert!(store.verify().expect("readable").is_ok());
}

#[test]
fn a_snapshot_stays_as_it_is() {
    let (_dir, path) = temp();
    let store = made_quiet(&path);
    store.put_many(&["a", "b"], &[vector(0), vector(1)].concat()).expect("stored");
    store.flush().expect("flushed");
    store.put("c", &vector(2)).expect("buffered");
    assert!(store.delete("a").expect("deleted"));
    let snapshot = store.snapshot().expect("readable");
    let content = || snapshot.iter().map(|item| item.expect("readable")).collect::<Vec<_>>();
    let (found, nearest) = (content(), snapshot.search(&vector(0), 9).expect("searched"));
    assert_eq!(found, [(Id::from("b"), vector(1)), (Id::from("c"), vector(2))]);
    store.put("b", &vector(3)).expect("replaced");
    store.flush().expect("flushed");
    store.compact().expect("compacted");
    store.put("d", &vector(4)).expect("stored");
    assert_eq!(len(&store), 3);
    store.close().expect("closed");
    assert_eq!(content(), found);
    assert_eq!(snapshot.search(&vector(0), 9).expect("searched"), nearest);
    assert_eq!((snapshot.len(), snapshot.is_empty(), snapshot.dim()), (2, false, DIM));
    assert_eq!(snapshot.get_many(&["a", "b"]).expect("readable"), [None, Some(vector(1))]);
    assert_eq!(snapshot.get_ref("c").expect("readable"), Some(&vector(2)[..]));
    assert!(!snapshot.contains("d").expect("readable"));
}

#[test]
fn durable_when_it_was_asked_for() {
    let (_dir, path) = temp();
    let store = made_quiet(&path);
    let durable =
        |id: &str| VectorStore::open_read_only(&path).expect("opens").contains(id).expect("readable");
    store.put("buffered", &vector(0)).expect("accepted");
    assert!(!durable("buffered"));
    store.write(WriteBatch::new().put("sync", &vector(1)).durability(Durability::Sync)).expect("durable");
    assert!(durable("sync") && durable("buffered"), "in the order of writing");
    store.put("later", &vector(2)).expect("accepted");
    assert_eq!(store.delete_many_with(&["sync", "later"], Some(Durability::Sync)).expect("durable"), 2);
    assert!(!durable("sync") && !durable("later"));
    let x = vector(3);
    store.write(WriteBatch::new().put("x", &x).delete("buffered")).expect("accepted");
    assert!(!durable("x") && durable("buffered"));
    store.flush().expect("flushed");
    assert!(durable("x") && !durable("buffered"));
    store.close().expect("closed");
    let options = OpenOptions::new().without_background().durability(Durability::Sync);
    let store = options.open(&path).expect("opens");
    store.put("always", &vector(4)).expect("durable");
    assert!(durable("always"));
}

#[test]
fn a_flush_can_be_awaited() {
    let (_dir, path) = temp();
    // The future alone makes it durable: the interval is longer than any test.
    let options = OpenOptions::new().flush_interval(std::time::Duration::from_secs(1 << 20));
    let store = options.create(&path, DIM as u32, Metric::L2).expect("a new store");
    store.put("a", &vector(0)).expect("accepted");
    wait_for(store.flush_async()).expect("flushed");
    let reader = VectorStore::open_read_only(&path).expect("opens");
    assert!(reader.contains("a").expect("readable"));
    assert!(matches!(wait_for(reader.flush_async()), Err(Error::ReadOnly)));
    wait_for(store.flush_async()).expect("nothing to do");
}

/// Runs a future to its end on this thread.
fn wait_for<F: Future + Unpin>(mut future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match std::pin::Pin::new(&mut future).poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn compaction_drops_dead_rows_and_nothing_else() {
    let (_dir, path) = temp();
    let options = OpenOptions::new().without_background().segment_records(100);
    let store = options.create(&path, DIM as u32, Metric::L2).expect("a new store");
    for n in 0..1000u64 {
        store.put(n % 300, &vector(n as usize)).expect("stored");
        if n % 3 == 0 {
            store.flush().expect("flushed");
        }
    }
    store.delete_many(&(0..50u64).collect::<Vec<_>>()).expect("deleted");
    let content = |store: &VectorStore| {
        store.snapshot().expect("readable").iter().map(|item| item.expect("readable")).collect::<Vec<_>>()
    };
    let (before, stats) = (content(&store), store.stats().expect("known"));
    assert_eq!(before.len(), 250);
    assert!(stats.segments >= 9, "{stats:?}");
    // Broken off, nothing changes.
    let error = store
        .compact_with(&CompactOptions::new(), |_| std::ops::ControlFlow::Break(()))
        .expect_err("broken off");
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(content(&store), before);
    let mut seen = Vec::new();
    let report = store
        .compact_with(&CompactOptions::new(), |progress| {
            assert!(progress.rows <= progress.total);
            seen.push((progress.rows, progress.total));
            std::ops::ControlFlow::Continue(())
        })
        .expect("compacted");
    assert!(seen.is_sorted() && seen.last().is_some_and(|(rows, total)| rows == total), "{seen:?}");
    assert!(report.rows_dropped == 750 && report.segments >= 8, "{report:?}");
    let stats = store.stats().expect("known");
    assert_eq!((stats.live, stats.dead, stats.buffered), (250, 0, 0));
    assert!(stats.segments <= 6, "{stats:?}");
    assert_eq!(content(&store), before);
    assert_eq!(store.compact().expect("nothing to do").segments, 0);
    assert!(store.verify().expect("readable").is_ok());
    store.close().expect("closed");
    assert_eq!(content(&VectorStore::open(&path).expect("opens")), before);
}

/// Beside a writer files vanish and MANIFEST is replaced; that is no damage.
#[test]
fn verify_beside_compaction_finds_no_damage() {
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(40);
    let store = options.create(&path, DIM as u32, Metric::L2).expect("made");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    let (mut verified, mut compacted) = (0, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut compacted = 0;
            while std::time::Instant::now() < end {
                for n in 0..60u64 {
                    store.put(n % 50, &vector(n as usize)).expect("stored");
                }
                store.delete(7u64).expect("deleted");
                store.flush().expect("flushed");
                store.compact().expect("compacted");
                compacted += 1;
            }
            compacted
        });
        let by_path = scope.spawn(|| {
            let mut verified = 0;
            while std::time::Instant::now() < end {
                let report = VectorStore::verify_path(&path).expect("readable");
                assert!(report.is_ok(), "by path: {:#?}", report.damage);
                verified += 1;
            }
            verified
        });
        while std::time::Instant::now() < end {
            let report = store.verify().expect("readable");
            assert!(report.is_ok(), "the writer's: {:#?}", report.damage);
        }
        (compacted, verified) = (writer.join().expect("no panic"), by_path.join().expect("no panic"));
    });
    println!("{verified} verified beside {compacted} compactions");
    assert!(verified > 1 && compacted > 1);
}

#[test]
fn a_backup_is_a_store_of_its_own() {
    let (_dir, path) = temp();
    let options = OpenOptions::new().without_background().segment_records(100);
    let store = options.create(&path, DIM as u32, Metric::L2).expect("a new store");
    for n in 0..250u64 {
        store.put_with_document(n, &vector(n as usize), &n.to_string()).expect("stored");
    }
    store.delete(7u64).expect("deleted");
    let content = |store: &VectorStore| {
        store.snapshot().expect("readable").iter().map(|item| item.expect("readable")).collect::<Vec<_>>()
    };
    let before = content(&store);
    let (by_writer, by_reader) = (path.with_extension("writer"), path.with_extension("reader"));
    let report = store.backup(&by_writer).expect("copied");
    let there: Vec<u64> = files(&by_writer).iter().map(|(_, bytes)| bytes.len() as u64).collect();
    assert_eq!((report.files, report.bytes), (there.len() as u64, there.iter().sum()));
    let read = VectorStore::open_read_only(&path).expect("opens").backup(&by_reader).expect("copied");
    // The sealed segments are shared, the active one is not.
    let shared = |copy: &Path| -> u64 {
        let inode = |path: &Path| fs::metadata(path).ok().map(|of| (of.dev(), of.ino()));
        let is_shared = |of: &Path| inode(of) == inode(&path.join(of.file_name().expect("a file")));
        let shared = files(copy).into_iter().filter(|(of, _)| is_shared(of));
        shared.map(|(_, bytes)| bytes.len() as u64).sum()
    };
    assert_eq!((report.linked, read.linked), (shared(&by_writer), shared(&by_reader)));
    assert!(report == read && report.linked > report.bytes / 2, "{report:?}, {read:?}");
    let error = store.backup(&by_reader).expect_err("there already");
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    store.delete_many(&(0..200u64).collect::<Vec<_>>()).expect("deleted");
    store.compact().expect("compacted");
    store.close().expect("closed");
    fs::remove_dir_all(&path).expect("removed");
    for copy in [by_writer, by_reader] {
        let copy = VectorStore::open(&copy).expect("opens");
        assert_eq!(content(&copy), before);
        assert_eq!(copy.get_document(200u64).expect("readable").as_deref(), Some("200"));
        copy.put(7u64, &vector(7)).expect("stored");
        assert_eq!(len(&copy), 250);
        assert!(copy.verify().expect("readable").is_ok());
    }
}

#[test]
fn a_pair_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("pair");
    let (a, b) = (vector(1), vector(2));
    let mut pair = VectorStorage::create(&path, DIM as u32).expect("made");
    let batch = [Op::put("a", &a), Op::put("b", &b), Op::delete("a")];
    assert_eq!(pair.append(&batch).expect("appended"), 0);
    assert_eq!(pair.append(&[]).expect("nothing to do"), 2);
    assert_eq!(pair.append(&[Op::put("a", &b)]).expect("appended"), 2);
    pair.commit().expect("durable");
    assert!(matches!(VectorStorage::create(&path, 3), Err(Error::AlreadyExists { .. })));
    pair.close().expect("closed");

    let mut pair = VectorStorage::open(&path).expect("opens");
    assert_eq!((pair.rows(), pair.dim()), (3, DIM));
    assert_eq!(pair.row(1).expect("mapped"), &b[..]);
    assert_eq!(pair.read_row(0).expect("checked"), a);
    assert_eq!(pair.id(2).expect("known"), "a");
    assert!(matches!(pair.row(3), Err(Error::NoSuchRow { row: 3, rows: 3, .. })));
    let log: Vec<_> = pair.log().map(|entry| entry.expect("readable")).collect();
    let put = |id: &str, row| LogEntry::Put { id: id.into(), row };
    assert_eq!(log, [put("a", 0), put("b", 1), LogEntry::Delete { id: "a".into() }, put("a", 2)]);
    let long = vec![0.0; DIM + 1];
    let error = pair.append(&[Op::put("c", &long)]).expect_err("dimension");
    assert!(matches!(error, Error::DimensionMismatch { expected: DIM, .. }), "{error}");
    assert!(pair.verify().expect("readable").is_ok());
    let mut reader = VectorStorage::open_read_only(&path).expect("opens");
    assert!(matches!(reader.append(&batch), Err(Error::ReadOnly)));
}

#[test]
fn vectors_into_memory_of_the_caller() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let options = OpenOptions::new().segment_records(300);
    let store = options.create(&path, 3, Metric::L2).expect("made");
    let row = |n: u64| [n as f32, 1.0, 2.0];
    for n in 0..1000 {
        store.put(n, &row(n)).expect("stored");
        if n == 900 {
            store.flush().expect("flushed");
        }
    }
    store.delete(5u64).expect("deleted");
    store.flush().expect("flushed");
    store.delete(950u64).expect("deleted");
    store.put(960u64, &row(7)).expect("stored");
    let wanted: Vec<u64> = (0..2000).rev().chain([3, 3]).collect();
    let nothing = || (vec![9.0; wanted.len() * 3], Vec::new());
    let check = |out: &[f32], missing: &[usize]| {
        let mut expected = Vec::new();
        for (place, (&id, found)) in wanted.iter().zip(out.chunks(3)).enumerate() {
            if id >= 1000 || id == 5 || id == 950 {
                expected.push(place);
                assert_eq!(found, [9.0; 3], "what is missing stays as it was");
            } else {
                assert_eq!(found, if id == 960 { row(7) } else { row(id) }, "{id}");
            }
        }
        assert_eq!(missing, expected);
    };
    let (mut out, mut missing) = nothing();
    store.get_many_into(&wanted, &mut out, |n| missing.push(n)).expect("readable");
    check(&out, &missing);
    let snapshot = store.snapshot().expect("known");
    let (mut out, mut missing) = nothing();
    snapshot.get_many_into(&wanted, &mut out, |n| missing.push(n)).expect("readable");
    check(&out, &missing);
    let one = |get: &dyn Fn(u64, &mut [f32]) -> vecstone::Result<bool>| {
        let mut out = [9.0; 3];
        assert!(!get(950, &mut out).expect("readable") && !get(5000, &mut out).expect("readable"));
        assert_eq!(out, [9.0; 3]);
        for (id, expected) in [(960, row(7)), (0, row(0)), (999, row(999))] {
            assert!(get(id, &mut out).expect("readable"));
            assert_eq!(out, expected);
        }
        let short = get(0, &mut [0.0; 2]);
        assert!(matches!(short, Err(Error::DimensionMismatch { expected: 3, found: 2, .. })), "{short:?}");
    };
    one(&|id, out| store.get_into(id, out));
    one(&|id, out| snapshot.get_into(id, out));
    let short = store.get_many_into(&[1u64, 2], &mut [0.0; 5], |_| ());
    assert!(matches!(short, Err(Error::CountMismatch { ids: 2, components: 5, dim: 3, .. })), "{short:?}");
    store.get_many_into(&[] as &[u64], &mut [], |_| ()).expect("nothing to do");
    let mut missing = Vec::new();
    store.get_many_into(&["text"], &mut [0.0; 3], |n| missing.push(n)).expect("readable");
    assert_eq!(missing, [0], "an id of another kind is not there");
    store.flush().expect("flushed");
    let reader = VectorStore::open_read_only(&path).expect("opens");
    let (mut out, mut missing) = nothing();
    reader.get_many_into(&wanted, &mut out, |n| missing.push(n)).expect("readable");
    check(&out, &missing);
    one(&|id, out| reader.get_into(id, out));
}

/// As wide as embeddings, so that several threads share the work; a rotten row is found by each way to read it.
#[test]
fn many_rows_are_checked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let store = VectorStore::create(&path, 768, Metric::L2).expect("made");
    let ids: Vec<String> = (0..2000).map(|n| format!("id-{n}")).collect();
    let rows: Vec<f32> = (0..2000 * 768).map(|n| n as f32).collect();
    store.put_many(&ids, &rows).expect("stored");
    store.flush().expect("flushed");
    let mut out = vec![0.0; rows.len()];
    store.get_many_into(&ids, &mut out, |n| panic!("{n} is there")).expect("readable");
    assert_eq!(out, rows);
    store.close().expect("closed");
    let file = path.join("00000001.dat");
    let mut bytes = fs::read(&file).expect("readable");
    bytes[256 + 1700 * 3072 + 99] ^= 4;
    fs::write(&file, bytes).expect("written");
    let store = VectorStore::open(&path).expect("opens");
    for damaged in [
        store.get_many_into(&ids, &mut out, |_| ()),
        store.get_into("id-1700", &mut out[..768]).map(|_| ()),
        store.get("id-1700").map(|_| ()),
    ] {
        let Err(Error::Corrupt { offset, .. }) = damaged else { panic!("{damaged:?}") };
        assert_eq!(offset, 256 + 1700 * 3072);
    }
    assert!(store.get_into("id-1699", &mut out[..768]).expect("readable"));
}
