//! Rows that are copied from a source as they are written, and rows read where they lie.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::cast_precision_loss, reason = "a test")]

use std::sync::atomic::{AtomicUsize, Ordering};
use vecstone::{AsId, Document, Durability, Error, IdRef, Metric, OpenOptions, RowSource, VectorStore};

const DIM: usize = 64;
const DIM_OF_STORE: u32 = 64;

/// Row n holds n everywhere; the `fault`th copy of any row is NaN.
#[derive(Debug)]
struct Numbers {
    copied: AtomicUsize,
    fault: usize,
}

impl Numbers {
    fn good() -> Numbers {
        Numbers::that_fail_at(usize::MAX)
    }

    fn that_fail_at(fault: usize) -> Numbers {
        Numbers { copied: AtomicUsize::new(0), fault }
    }
}

impl RowSource for Numbers {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        assert!(out.len() <= 1 << 18, "about a mebibyte at a time");
        for (row, out) in (first..).zip(out.chunks_exact_mut(DIM)) {
            let fault = self.copied.fetch_add(1, Ordering::Relaxed) == self.fault;
            out.fill(if fault { f32::NAN } else { row as f32 });
        }
    }
}

fn ids(rows: usize) -> Vec<String> {
    (0..rows).map(|n| format!("id-{n}")).collect()
}

fn refs(ids: &[String]) -> Vec<IdRef<'_>> {
    ids.iter().map(AsId::as_id).collect()
}

#[test]
fn rows_of_a_source_are_stored_small_and_large() {
    let dir = tempfile::tempdir().unwrap();
    for (rows, documents) in [(0, false), (1, true), (100, false), (20_000, false), (20_000, true)] {
        let options = OpenOptions::new().buffer_bytes(1 << 20);
        let path = dir.path().join(format!("{rows}-{documents}"));
        let store = options.create(&path, 64, Metric::L2).unwrap();
        let (ids, text) = (ids(rows), r#"{"a": 1}"#);
        let documents: Vec<_> = (0..if documents { rows } else { 0 })
            .map(|n| Document::whole((n % 2 == 0).then_some(text)))
            .collect();
        store.put_rows(&refs(&ids), &Numbers::good(), DIM, &documents, Some(Durability::Sync)).unwrap();
        drop(store);
        let store = VectorStore::open(&path).unwrap();
        assert_eq!(store.len().unwrap(), rows);
        for (row, id) in ids.iter().enumerate() {
            assert_eq!(store.get(id).unwrap(), Some(vec![row as f32; DIM]));
            let document = documents.get(row).and_then(|document| document.json()).map(str::to_owned);
            assert_eq!(store.get_document(id).unwrap(), document);
        }
        assert!(store.verify().unwrap().damage.is_empty());
    }
}

#[test]
fn a_source_that_changes_under_us_stores_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions::new().buffer_bytes(1 << 20);
    let store = options.create(dir.path().join("s"), 64, Metric::L2).unwrap();
    let ids = ids(20_000);
    // Found before anything is written, and only when it is copied to be written.
    for fault in [0, 19_999, 20_000, 35_000, 39_999] {
        let stored = store.put_rows(&refs(&ids), &Numbers::that_fail_at(fault), DIM, &[], None);
        let row = fault % 20_000;
        assert!(
            matches!(stored, Err(Error::NonFinite { row: found, .. }) if found == row),
            "{fault}: {stored:?}"
        );
        assert_eq!(store.len().unwrap(), 0);
    }
    store.put_rows(&refs(&ids), &Numbers::good(), DIM, &[], None).unwrap();
    store.flush().unwrap();
    assert_eq!(store.get("id-19999").unwrap(), Some(vec![19_999.0; DIM]));
    assert!(store.verify().unwrap().damage.is_empty());
}

/// Row n holds n everywhere, but for those that are infinite.
#[derive(Debug)]
struct Infinite<'a>(&'a [usize]);

impl RowSource for Infinite<'_> {
    fn copy_rows(&self, first: usize, out: &mut [f32]) {
        for (row, out) in (first..).zip(out.chunks_exact_mut(DIM)) {
            out.fill(if self.0.contains(&row) { f32::INFINITY } else { row as f32 });
        }
    }
}

/// Many rows are checked by several threads; what is said does not depend on which of them is first.
#[test]
fn of_several_bad_rows_the_first_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ids(100_000);
    for threads in [1, 2, 5] {
        let options = OpenOptions::new().buffer_bytes(1 << 20).threads(threads);
        let path = dir.path().join(format!("{threads}"));
        let store = options.create(path, DIM_OF_STORE, Metric::L2).unwrap();
        for bad in [&[99_999][..], &[99_998, 50_000], &[4096, 4095, 4097, 0], &[8191, 70_000, 12_288]] {
            for _ in 0..5 {
                let stored = store.put_rows(&refs(&ids), &Infinite(bad), DIM, &[], None);
                let first = bad.iter().min().unwrap();
                assert!(
                    matches!(stored, Err(Error::NonFinite { row, component: 0, .. }) if row == *first),
                    "{bad:?}: {stored:?}"
                );
                assert_eq!(store.len().unwrap(), 0);
            }
        }
        store.put_rows(&refs(&ids), &Infinite(&[]), DIM, &[], None).unwrap();
        assert_eq!(store.get("id-99999").unwrap(), Some(vec![99_999.0; DIM]));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = VectorStore::create(dir.path().join("s"), 64, Metric::L2).unwrap();
    let ids = ids(3);
    let put = |ids: &[IdRef<'_>], dim, documents: &[Document<&str>]| {
        store.put_rows(ids, &Numbers::good(), dim, documents, None)
    };
    assert!(matches!(
        put(&refs(&ids), 32, &[]),
        Err(Error::DimensionMismatch { expected: 64, found: 32, .. })
    ));
    assert!(matches!(put(&refs(&ids), 64, &[Document::Keep]), Err(Error::CountMismatch { .. })));
    assert!(matches!(
        put(&refs(&ids), 64, &[Document::Keep, Document::Json("{"), Document::Keep]),
        Err(Error::InvalidDocument { row: 1, .. })
    ));
    let mixed = [7u64.as_id(), "a".as_id()];
    assert!(matches!(put(&mixed, 64, &[]), Err(Error::IdKindMismatch { .. })));
    assert!(matches!(put(&["".as_id()], 64, &[]), Err(Error::InvalidId { row: 0, len: 0, .. })));
    assert_eq!(store.len().unwrap(), 0);
}

#[test]
fn rows_where_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions::new().segment_records(1000);
    let store = options.create(dir.path().join("s"), 64, Metric::L2).unwrap();
    let ids = ids(2500);
    for first in (0..2500).step_by(500) {
        let vectors: Vec<f32> = (first..first + 500).flat_map(|n| [n as f32; DIM]).collect();
        store.put_many(&ids[first..first + 500], &vectors).unwrap();
    }
    store.delete("id-1200").unwrap();
    store.flush().unwrap();
    let segments = store.snapshot().unwrap().segments().unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    drop(std::fs::remove_dir_all(dir.path().join("s")));
    assert_eq!(segments.iter().map(vecstone::SegmentRows::rows).collect::<Vec<_>>(), [1000, 1000, 500]);
    let mut n = 0;
    for segment in &segments {
        let (live, found) = (segment.live(), segment.ids().unwrap());
        for (row, vector) in segment.vectors().chunks_exact(segment.dim()).enumerate() {
            assert_eq!(vector, [n as f32; DIM]);
            assert_eq!((found[row] == ids[n].as_str(), live[row]), (true, n != 1200));
            n += 1;
        }
    }
    assert_eq!(n, 2500);
    let arrays: Vec<_> = segments.iter().map(vecstone::SegmentRows::mapped).collect();
    drop(segments);
    assert_eq!(arrays.iter().map(|rows| (rows.rows(), rows.dim())).collect::<Vec<_>>()[2], (500, DIM));
    assert_eq!(arrays[1].vectors()[3 * DIM..][..DIM], [1003.0; DIM]);
}

#[test]
fn calls_that_do_not_wait() {
    use vecstone::Op;
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions::new().buffer_bytes(4096).without_background();
    let store = options.create(dir.path().join("s"), 64, Metric::L2).unwrap();
    let (vector, mut out) = ([1.5; DIM], [0.0; DIM]);
    let put = |id: &str| {
        store.try_write(&Op::Put { id: id.as_id(), vector: &vector, document: Document::Json("[1,\n2]") })
    };
    assert_eq!(store.try_get_into("a", &mut out).unwrap(), Some(false));
    assert_eq!(put("a").unwrap(), Some(()));
    assert_eq!(store.try_get_into("a", &mut out).unwrap(), Some(true));
    assert_eq!((out, store.get_document("a").unwrap().as_deref()), (vector, Some("[1, 2]")));
    // A full buffer is not waited for.
    let taken = (0..100).take_while(|n| put(&n.to_string()).unwrap().is_some()).count();
    assert!((1..20).contains(&taken), "{taken}");
    assert!(!store.contains(taken.to_string()).unwrap());
    store.flush().unwrap();
    out.fill(0.0);
    assert_eq!(store.try_get_into("a", &mut out).unwrap(), Some(true));
    assert_eq!(out, vector);
    assert_eq!(store.try_write(&Op::delete("a")).unwrap(), Some(()));
    assert_eq!(store.try_get_into("a", &mut out).unwrap(), Some(false));
    assert!(matches!(store.try_get_into("a", &mut out[1..]), Err(Error::DimensionMismatch { .. })));
    let short = Op::Put { id: "b".as_id(), vector: &vector[1..], document: Document::Keep };
    assert!(matches!(store.try_write(&short), Err(Error::DimensionMismatch { .. })));
    assert!(matches!(store.try_write(&Op::delete(&7u64)), Err(Error::IdKindMismatch { .. })));
    store.close().unwrap();
    let reader = VectorStore::open_read_only(dir.path().join("s")).unwrap();
    assert_eq!(reader.try_get_into("0", &mut out).unwrap(), Some(true));
    assert!(matches!(reader.try_write(&Op::delete("0")), Err(Error::ReadOnly)));
}

#[test]
fn the_first_write_starts_threads_and_so_may_wait() {
    use vecstone::Op;
    let dir = tempfile::tempdir().unwrap();
    let store = VectorStore::create(dir.path().join("s"), 64, Metric::L2).unwrap();
    let put = |id: &'static str| store.try_write(&Op::put(id, &[1.0; DIM]));
    assert_eq!(put("a").unwrap(), None);
    assert!(!store.contains("a").unwrap());
    store.put("a", &[1.0; DIM]).unwrap();
    assert_eq!(put("b").unwrap(), Some(()));
}

/// Ids are indexed in a file that may have to be opened, or made up for by reading a log: not while somebody else waits.
#[test]
fn calls_that_do_not_wait_open_and_rebuild_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let options = OpenOptions::new().segment_records(100).without_background();
    let store = options.create(&path, 64, Metric::L2).unwrap();
    for n in 0..450u64 {
        store.put(n, &[n as f32; DIM]).unwrap();
        store.flush().unwrap();
    }
    store.close().unwrap();
    let has_ids = |path: &std::path::Path| path.extension().is_some_and(|ext| ext == "ids");
    let mut found: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| has_ids(path));
    found.sort();
    assert!(found.len() >= 4, "{found:?}");
    std::fs::remove_file(&found[0]).unwrap(); // one is not there
    let mut bytes = std::fs::read(&found[1]).unwrap();
    bytes[4096..].fill(0xa5); // all pages of another are damaged
    std::fs::write(&found[1], bytes).unwrap();
    let mut out = [0.0; DIM];
    for first in [0, 100, 200, 300u64] {
        let reader = VectorStore::open_read_only(&path).unwrap();
        assert_eq!(reader.try_get_into(first, &mut out).unwrap(), None);
        for n in [first, first + 1] {
            assert!(reader.get_into(n, &mut out).unwrap());
            out.fill(0.0);
            assert_eq!(reader.try_get_into(n, &mut out).unwrap(), Some(true));
            assert_eq!(out, [n as f32; DIM]);
        }
    }
}
