//! Calls that are broken off at each point where they ask: nothing of them counts, and the store goes on.

use super::model::{DIM, DIR, identity, options, root};
use crate::sys::disk::sim::SimDisk;
use crate::sys::disk::{Disk, Open};
use crate::sys::interrupt;
use crate::sys::parallel;
use crate::{
    AsId, Document, Error, ErrorKind, Filter, Metric, OpenOptions, Result, RowSource, SearchOptions,
    VectorStore, interruptible,
};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

thread_local! {
    /// How often it is still asked in vain.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

fn is_unwanted() -> bool {
    LEFT.set(LEFT.get().wrapping_sub(1));
    LEFT.get() == u32::MAX
}

/// Breaks a call off at its first question, the next time at its second, until it comes to its end; says how often.
fn at_each_point<T>(mut call: impl FnMut() -> Result<T>, mut is_unchanged: impl FnMut()) -> (u32, T) {
    for asked in 0.. {
        LEFT.set(asked);
        match interruptible(is_unwanted, &mut call) {
            Err(Error::Interrupted) => is_unchanged(),
            done => return (asked, done.expect("nothing else goes wrong")),
        }
    }
    unreachable!("each call ends")
}

fn create(options: &OpenOptions) -> (Arc<dyn Disk>, VectorStore) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&root()));
    let store = VectorStore::create_on(disk.clone(), Path::new(DIR), DIM, Metric::L2, identity(), options);
    (disk, store.expect("made"))
}

fn rows(count: usize) -> (Vec<u64>, Vec<f32>) {
    let ids = (0..count as u64).collect();
    (ids, (0..count * DIM as usize).map(|n| (n % 97) as f32).collect())
}

#[derive(Debug)]
struct Source<'a>(&'a [f32]);

impl RowSource for Source<'_> {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0[first * DIM as usize..][..out.len()]);
    }
}

/// Sealed segments with dead rows and documents, an active one, and rows in the buffer.
fn filled() -> (Arc<dyn Disk>, VectorStore) {
    let (disk, store) = create(&options().segment_records(300));
    let (ids, vectors) = rows(700);
    for (ids, vectors) in ids.chunks(100).zip(vectors.chunks(100 * DIM as usize)) {
        store.put_many(ids, vectors).and_then(|()| store.flush()).expect("stored");
    }
    store.put_documents(&ids[..20], &[Document::Json(r#"{"a":1}"#); 20]).expect("stored");
    store.delete_many(&ids[100..150]).and_then(|_| store.flush()).expect("deleted");
    store.put(750u64, &vectors[..DIM as usize]).expect("accepted");
    (disk, store)
}

#[test]
fn what_reads_is_broken_off_and_gives_the_same_later() {
    let (_disk, store) = filled();
    let snapshot = store.snapshot().expect("taken");
    let (ids, vectors) = rows(90);
    let filter = Filter::parse(r#"{"a": 1}"#).expect("a filter");
    let named = Filter::ids((0..200u64).map(crate::Id::from));
    let options = [
        SearchOptions::new(),
        SearchOptions::new().filter(filter.clone()).with_documents(),
        SearchOptions::new().filter(named),
    ];
    for options in &options {
        let search = || snapshot.search_many(&vectors, 3, options);
        let (asked, found) = at_each_point(search, || {});
        assert!(asked > 3, "{asked}");
        assert_eq!(found, search().expect("found"));
    }
    let mut matrix = vec![0.0; vectors.len()];
    let (asked, ()) = at_each_point(|| snapshot.get_many_into(&ids, &mut matrix, |_| {}), || {});
    assert_eq!((asked, &matrix), (3, &vectors), "three pieces of 32");
    let (asked, found) = at_each_point(|| snapshot.ids_where(&filter), || {});
    assert!(asked > 1 && found.len() == 20);
    let (asked, report) = at_each_point(|| store.verify(), || {});
    assert!(asked > 100 && report.is_ok(), "{asked}");
}

#[test]
fn what_changes_the_store_changes_nothing() {
    let (_disk, store) = filled();
    let len = || store.len().expect("counted");
    let (before, many) = (len(), 760);
    let (ids, vectors) = rows(many);
    let documents = vec![Document::Json("7"); many];
    let refs: Vec<_> = ids.iter().map(AsId::as_id).collect();
    let put = || store.put_rows(&refs, &Source(&vectors), DIM as usize, &documents, None);
    let (asked, ()) = at_each_point(put, || assert_eq!(len(), before));
    assert!(asked > 100 && len() == many, "{asked}");
    let of_first = || store.get_document(0u64).expect("read").expect("one");
    let new = vec![Document::Json("8"); many];
    let (asked, ()) = at_each_point(|| store.put_documents(&ids, &new), || assert_eq!(of_first(), "7"));
    assert!(asked > 100 && of_first() == "8", "{asked}");
    let (asked, deleted) = at_each_point(|| store.delete_many(&ids[..10]), || assert_eq!(len(), many));
    assert!(asked > 5 && deleted == 10, "{asked}");
    let (asked, _) = at_each_point(|| store.compact(), || assert_eq!(len(), many - 10));
    assert!(asked > 1, "{asked}");
    let (asked, _) = at_each_point(|| store.optimize(), || assert_eq!(len(), many - 10));
    assert!(asked > 0, "{asked}");
    let queries = vec![0.5; 64 * DIM as usize];
    let (asked, _) = at_each_point(|| store.tune(&queries), || assert_eq!(len(), many - 10));
    assert!(asked > 0, "{asked}");
    assert!(store.verify().expect("read").is_ok());
    assert_eq!(len(), many - 10);
}

/// The write is accepted by then, and a caller that makes it again might undo what others wrote since.
#[test]
fn a_write_that_waits_for_the_disk_is_not_broken_off() {
    let (_disk, store) = create(&options().buffer_bytes(1 << 20).durability(crate::Durability::Sync));
    LEFT.set(0);
    interruptible(is_unwanted, || store.put(1u64, &vec![0.5; DIM as usize])).expect("durable");
    assert_eq!(LEFT.get(), 0, "it was not asked");
}

#[test]
fn an_opening_and_a_backup_leave_nothing_behind() {
    let (disk, store) = filled();
    let copy = Path::new("/copy");
    let open = |path: &Path| VectorStore::open_on(disk.clone(), path, &options());
    let is_no_store =
        || assert!(matches!(open(copy), Err(Error::NotFound { .. } | Error::Unfinished { .. })));
    let (asked, _) = at_each_point(|| store.backup(copy), is_no_store);
    assert!(asked > 1, "{asked}");
    assert_eq!(open(copy).expect("a store").len().expect("counted"), store.len().expect("counted"));
    // LOCK is held: the wait for it ends.
    let waits = options().lock_wait(std::time::Duration::from_secs(3600));
    LEFT.set(2);
    let waited = interruptible(is_unwanted, || VectorStore::open_on(disk.clone(), Path::new(DIR), &waits));
    assert!(matches!(waited, Err(Error::Interrupted)), "{waited:?}");
    drop(store);
    let (asked, opened) = at_each_point(|| open(Path::new(DIR)), || {});
    assert!(asked > 0 && opened.verify().expect("read").is_ok(), "{asked}");
}

/// Nothing is removed before all of it was read.
#[test]
fn an_old_manifest_is_seen_by_an_opening_that_is_broken_off() {
    let (disk, store) = create(&options().segment_records(300));
    let dir = disk.open_dir(Path::new(DIR)).expect("a directory");
    let manifest = || dir.open("MANIFEST".as_ref(), Open::ReadWrite).expect("there");
    let mut old = vec![0; 1 << 16];
    let len = manifest().read_at(&mut old, 0).expect("read");
    let (ids, vectors) = rows(700);
    for (ids, vectors) in ids.chunks(100).zip(vectors.chunks(100 * DIM as usize)) {
        store.put_many(ids, vectors).and_then(|()| store.flush()).expect("stored");
    }
    store.close().expect("closed");
    let file = manifest();
    file.set_len(len as u64).expect("cut");
    assert_eq!(file.write_at(&old[..len], 0).expect("put back"), len);
    let open = || VectorStore::open_on(disk.clone(), Path::new(DIR), &options());
    for asked in 0.. {
        LEFT.set(asked);
        match interruptible(is_unwanted, open) {
            Err(Error::Interrupted) => {}
            Err(Error::Corrupt { what, .. }) => {
                assert!(what.contains("MANIFEST is an old copy"), "{what}");
                assert!(asked > 1, "{asked}");
                return;
            }
            Ok(_) => panic!("{asked}: opened, and what it does not know is gone"),
            Err(error) => panic!("{asked}: {error}"),
        }
    }
}

#[test]
fn threads_of_a_call_follow_it_and_nothing_else_does() {
    let asks = || interrupt::check().is_err();
    assert!(!asks());
    LEFT.set(0);
    interruptible(is_unwanted, || {
        assert!(asks() && asks(), "and stays so");
        assert!(!interrupt::not_now(asks));
        let both = std::sync::Barrier::new(2);
        let all = parallel::run(2, 1 << 20, || {
            both.wait();
            asks()
        });
        assert_eq!(all, [true, true]);
        assert!(!std::thread::spawn(asks).join().expect("ended"));
    });
    assert!(!asks(), "the call is over");
    assert_eq!(Error::Interrupted.kind(), ErrorKind::Cancelled);
}
