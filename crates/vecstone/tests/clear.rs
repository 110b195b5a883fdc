//! Emptying a store: at once, whatever else goes on.
#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

mod helpers;

use helpers::{deadline, number, row, temp, version_in};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use vecstone::{
    CompactOptions, Document, Durability, Error, Id, IdKind, Metric, OpenOptions, VectorStore, WriteBatch,
};

const DIM: usize = 8;

fn made(path: &Path, options: &OpenOptions) -> VectorStore {
    options.create(path, DIM as u32, Metric::L2).expect("a new store")
}

fn fill(store: &VectorStore, ids: std::ops::Range<u64>) {
    for id in ids {
        store.put_with_document(id, &row(DIM, id, 1), "{\"kept\":true}").expect("stored");
    }
}

fn names(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        helpers::files(path).into_iter().map(|(path, ..)| path.file_name().expect("a name").into()).collect();
    names.sort();
    names
}

#[test]
fn everything_before_is_gone_and_everything_after_stays() {
    let (_dir, path) = temp();
    let store = made(&path, &OpenOptions::new().segment_records(10).without_background());
    fill(&store, 0..35);
    store.delete_many(&[1u64, 20]).expect("deleted");
    store.flush().expect("flushed");
    fill(&store, 30..40); // buffered
    let (before, reader) =
        (store.snapshot().expect("readable"), VectorStore::open_read_only(&path).expect("opens"));
    assert!(store.stats().expect("known").segments > 2);
    store.clear().expect("cleared");
    assert_eq!((store.len().expect("readable"), store.kind(), store.dim()), (0, None, DIM));
    assert_eq!(store.get(5u64).expect("readable"), None);
    assert!(store.search(&row(DIM, 5, 1), 3).expect("nothing to find").is_empty());
    let stats = store.stats().expect("known");
    assert_eq!((stats.rows, stats.buffered, stats.segments), (0, 0, 1));
    assert_eq!(names(&path).len(), 4, "LOCK, MANIFEST and an empty pair: {:?}", names(&path));

    // Another kind of ids, as in a new store.
    store.put("a", &row(DIM, 1, 2)).expect("stored");
    assert!(matches!(store.put(1u64, &row(DIM, 1, 2)), Err(Error::IdKindMismatch { .. })));
    store
        .write(
            WriteBatch::new()
                .put_many_with_documents(&["b"], &row(DIM, 2, 2), &[Document::Json("1")])
                .durability(Durability::Sync),
        )
        .expect("stored");
    // What was taken before is what it was.
    assert_eq!((before.len(), before.kind()), (38, Some(IdKind::U64)));
    for item in before.iter() {
        let (id, vector) = item.expect("readable");
        version_in(&vector, number(&id));
        assert_eq!(before.get_document(&id).expect("readable").as_deref(), Some("{\"kept\":true}"));
    }
    assert_eq!((reader.len().expect("readable"), reader.kind()), (33, Some(IdKind::U64)));
    assert!(reader.refresh().expect("refreshed"));
    assert_eq!((reader.len().expect("readable"), reader.kind()), (2, Some(IdKind::String)));
    store.close().expect("closed");
    let store = OpenOptions::new().strict(true).open(&path).expect("opens");
    assert_eq!((store.len().expect("readable"), store.kind()), (2, Some(IdKind::String)));
    assert!(store.verify().expect("readable").is_ok());
    assert_eq!(store.get_document("b").expect("readable").as_deref(), Some("1"));
    store.clear().expect("cleared");
    store.clear().expect("cleared again");
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    assert_eq!((store.len().expect("readable"), store.kind(), store.dim()), (0, None, DIM));
}

#[test]
fn a_compaction_under_way_brings_nothing_back() {
    let (_dir, path) = temp();
    let store = made(&path, &OpenOptions::new().segment_records(10).without_background());
    fill(&store, 0..50);
    store.delete_many(&(0..50).step_by(2).collect::<Vec<u64>>()).expect("deleted");
    let mut calls = 0;
    let report = store.compact_with(&CompactOptions::new(), |_| {
        calls += 1;
        if calls == 2 {
            store.clear().expect("cleared");
            store.put("new", &row(DIM, 1, 1)).expect("stored");
        }
        ControlFlow::Continue(())
    });
    assert!(calls >= 2 && report.is_ok(), "{report:?}");
    assert_eq!(store.len().expect("readable"), 1);
    store.compact().expect("compacted");
    let store = {
        store.close().expect("closed");
        VectorStore::open(&path).expect("opens")
    };
    assert_eq!((store.len().expect("readable"), store.kind()), (1, Some(IdKind::String)));
    let stray = |name: &&PathBuf| name.extension().is_some_and(|suffix| suffix == "dat");
    assert_eq!(names(&path).iter().filter(stray).count() as u64, store.stats().expect("known").segments);
}

/// One thread puts numbers, one clears, one compacts: nothing from before a clear is there after it, and nothing that
/// was put while nobody cleared is missing.
#[test]
fn many_threads_see_it_at_one_moment() {
    let _guard = deadline("many_threads_see_it_at_one_moment");
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(50).buffer_bytes(8 << 10).compact_at(0.1);
    let store = made(&path, &options);
    // Odd while somebody clears.
    let (clears, put, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let before = clears.load(Ordering::SeqCst);
                let durability = if id % 50 == 0 { Durability::Sync } else { Durability::Buffered };
                let vector = row(DIM, id, 1);
                store.write(WriteBatch::new().put(id, &vector).durability(durability)).expect("stored");
                let there = store.contains(id).expect("readable");
                let quiet = before.is_multiple_of(2) && clears.load(Ordering::SeqCst) == before;
                assert!(there || !quiet, "{id} is missing");
                put.store(id, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.compact().expect("compacted");
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let snapshot = store.snapshot().expect("readable");
                let ids: Vec<u64> = snapshot.iter().map(|item| number(&item.expect("readable").0)).collect();
                assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole: {ids:?}");
                if let Some(&id) = ids.first() {
                    assert!(snapshot.contains(id).expect("readable"));
                }
            }
        });
        let mut last = 0;
        for _ in 0..60 {
            // Until there is something to clear.
            while put.load(Ordering::SeqCst) < last + 30 {
                thread::yield_now();
            }
            last = put.load(Ordering::SeqCst);
            clears.fetch_add(1, Ordering::SeqCst);
            store.clear().expect("cleared");
            clears.fetch_add(1, Ordering::SeqCst);
            let oldest = store
                .snapshot()
                .expect("readable")
                .iter()
                .next()
                .map(|item| number(&item.expect("readable").0));
            assert!(oldest.is_none_or(|id| id > last), "{oldest:?} after {last} was cleared");
        }
        done.store(true, Ordering::SeqCst);
    });
    let ids: Vec<Id> =
        store.snapshot().expect("readable").iter().map(|item| item.expect("readable").0).collect();
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    let again: Vec<Id> =
        store.snapshot().expect("readable").iter().map(|item| item.expect("readable").0).collect();
    assert_eq!(ids, again);
    assert!(store.verify().expect("readable").is_ok());
}

/// Batches that go past the buffer, and others, of two kinds of ids, while the store is cleared: one kind at a time.
#[test]
fn the_kind_of_the_ids_is_free_for_one_at_a_time() {
    let _guard = deadline("the_kind_of_the_ids_is_free_for_one_at_a_time");
    let (_dir, path) = temp();
    let store = made(&path, &OpenOptions::new().buffer_bytes(4 << 10).segment_records(500));
    let done = AtomicBool::new(false);
    let accepted = [AtomicU64::new(0), AtomicU64::new(0)];
    thread::scope(|scope| {
        for (kind, accepted) in accepted.iter().enumerate() {
            for size in [1, 200] {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    for first in (0..).step_by(size) {
                        if done.load(Ordering::SeqCst) {
                            break;
                        }
                        let numbers: Vec<u64> = (first..first + size as u64).collect();
                        let rows: Vec<f32> = numbers.iter().flat_map(|&id| row(DIM, id, 1)).collect();
                        let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
                        let outcome = if kind == 0 {
                            store.put_many(&numbers, &rows)
                        } else {
                            store.put_many(&texts, &rows)
                        };
                        match outcome {
                            Ok(()) => _ = accepted.fetch_add(1, Ordering::SeqCst),
                            Err(Error::IdKindMismatch { .. }) => thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        }
        for _ in 0..100 {
            store.clear().expect("cleared");
            thread::sleep(std::time::Duration::from_millis(2));
            let kinds: Vec<IdKind> = store
                .snapshot()
                .expect("readable")
                .iter()
                .map(|item| item.expect("readable").0.kind())
                .collect();
            assert!(kinds.windows(2).all(|pair| pair[0] == pair[1]), "two kinds");
        }
        done.store(true, Ordering::SeqCst);
    });
    println!("{accepted:?} batches were accepted");
    let rows = store.len().expect("readable");
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    assert_eq!(store.len().expect("readable"), rows);
    assert!(store.verify().expect("readable").is_ok());
}
